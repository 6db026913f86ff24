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
pub mod hyperloglogs;
pub mod stream_words;
pub mod streams;
pub mod stream_groups;
pub mod lists;
pub mod keys;
pub mod scans;
pub mod hashes;
pub mod sets;
pub mod debug;
pub mod table;
pub mod dispatch;
