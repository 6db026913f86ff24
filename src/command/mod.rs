//! The commands: one table row and one function each, and the dispatcher that runs them.

pub mod facts;
pub mod spec;
pub mod key_finder;
pub mod connection;
pub mod info;
pub mod table;
pub mod dispatch;
