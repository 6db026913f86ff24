//! The memtable: an arena, a lock-free skiplist of keys with version chains, a hash index, range tombstones.

pub mod maps;
pub mod arena;
pub mod fingers;
pub mod hints;
pub mod skiplist;
pub mod hash_index;
pub mod memtable;
