//! Every byte the server stores in the engine: keys and values of the four keyspaces. Everything sorts bytewise.

pub mod meta;
pub mod packed;
pub mod data;
pub mod large;
pub mod hash;
pub mod set;
pub mod sorted_set;
pub mod ttl;
pub mod system;
