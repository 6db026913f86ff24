//! What every floor uses and what uses none: numbers, globs, errors, arguments, the clock, the configuration.

pub mod sync;
pub mod clock;
pub mod extended;
pub mod ordered;
pub mod number;
pub mod double;
pub mod glob;
pub mod reply_error;
pub mod args;
pub mod stop;
pub mod sha1;
pub mod sha256;
pub mod crc64;
pub mod lzf;
pub mod exposition;
pub mod directive;
pub mod directives;
pub mod config_words;
pub mod config_values;
pub mod config;
