//! Keys and values on the engine: locks, transactions, expiry, reclaiming, counting. Knows no command and no client.

pub mod aside;
pub mod cursors;
pub mod databases;
pub mod gate;
pub mod hooks;
pub mod ids;
pub mod key_locks;
pub mod limits;
pub mod pending;
pub mod reaper;
pub mod recount;
pub mod store;
pub mod sweeper;
pub mod txn;
