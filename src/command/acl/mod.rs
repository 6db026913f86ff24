//! Users: the rules they are made of, whether they may run a command, the commands about them, and their file.

pub mod rules;
pub mod check;
pub mod ending;
pub mod file;
pub mod commands;
pub mod auth;
