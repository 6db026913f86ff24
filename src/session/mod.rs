//! What the server knows of its clients and of itself, without any socket.

pub mod mailbox;
pub mod claim;
pub mod stats;
pub mod delivery;
pub mod in_flight;
pub mod clients;
pub mod waiters;
pub mod slowlog;
pub mod latency;
pub mod channels;
pub mod tracking;
pub mod monitors;
pub mod publisher;
pub mod peers;
pub mod outside;
pub mod allowance;
pub mod multi;
pub mod watches;
pub mod session;
pub mod server_state;
