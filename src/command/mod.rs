//! The commands: one table row and one function each, and the dispatcher that runs them.

pub mod facts;
pub mod spec;
pub mod key_finder;
pub mod help;
pub mod connection;
pub mod client_cmd;
pub mod config_cmd;
pub mod command_cmd;
pub mod info;
pub mod save;
pub mod server;
pub mod strings;
pub mod bitmaps;
pub mod blocking;
pub mod lists;
pub mod blocking_lists;
pub mod keys;
pub mod debug;
pub mod table;
pub mod service;
pub mod dispatch;
