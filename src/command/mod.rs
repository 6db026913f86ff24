//! Commands: facts and handlers.

pub mod facts;
