//! Keys and values on the engine: locks, transactions, expiry, reclaiming, counting. Knows no command and no client.

pub mod limits;
pub mod access_times;
pub mod plain_keys;
pub mod known_elements;
pub mod fence_cache;
pub mod read_ahead;
pub mod end_places;
pub mod key_locks;
pub mod gate;
pub mod hooks;
pub mod cursors;
pub mod databases;
pub mod events;
pub mod ids;
pub mod pending;
pub mod recount;
pub mod store;
pub mod pass;
pub mod aside;
pub mod staged;
pub mod txn;
pub mod field_expiry;
pub mod reaper;
pub mod owner_sweep;
pub mod sweeper;
