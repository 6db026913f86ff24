//! What every floor uses and what uses none: numbers, globs, errors, arguments, the clock, the configuration.

pub mod clock;
pub mod config;
