//! What every floor uses and what uses none: numbers, globs, errors, arguments, the clock.

pub mod args;
pub mod clock;
pub mod extended;
pub mod glob;
pub mod number;
pub mod reply_error;
pub mod stop;
