//! The commands: one table row and one function each, and the dispatcher that runs them.

pub mod bitmaps;
pub mod keys;
pub mod spec;
pub mod strings;
