//! Every byte the server stores in the engine: keys and values of the four keyspaces, which sort bytewise; and the bytes of
//! Redis's dumps.

pub mod meta;
pub mod packed;
pub mod list;
pub mod data;
pub mod stream;
pub mod large;
pub mod hash;
pub mod set;
pub mod sorted_set;
pub mod ttl;
pub mod system;
pub mod listpack;
pub mod ziplist;
pub mod rdb;
pub mod rdb_stream;
pub mod rdb_value;
