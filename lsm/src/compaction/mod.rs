//! Choosing what to compact, deciding what may go, and doing it.

pub mod targets;
pub mod wasted_steps;
pub mod plan;
pub mod picker;
pub mod retention;
pub mod job;
