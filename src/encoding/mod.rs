//! Every byte the server stores in the engine: keys and values of the four keyspaces. Everything sorts bytewise.

pub mod data;
pub mod meta;
pub mod system;
pub mod ttl;
