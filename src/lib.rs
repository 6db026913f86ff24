//! The Haypile server: Redis's protocol and commands over the engine of `haypile-lsm`.
//!
//! Folders are floors, bottom to top: `base` > `encoding` > `store` > `types` > `session` > `command` > `net` > `daemon` > `server`.
//! A file imports from lower floors, or from files listed above it in its own folder's `mod.rs`; nothing imports upward.
#![forbid(unsafe_code)]

pub mod base;
pub mod encoding;
pub mod store;
pub mod types;
pub mod session;
pub mod command;
pub mod net;
pub mod daemon;
pub mod server;
