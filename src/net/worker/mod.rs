//! A worker: one thread, one poll, its share of the connections. The loop is in `turn.rs`.

pub mod mail;
pub mod log_watch;
pub mod pool_work;
pub mod state;
pub mod closing;
pub mod arriving;
pub mod sending;
pub mod blocked;
pub mod pushing;
pub mod running;
pub mod reading;
pub mod turn;
