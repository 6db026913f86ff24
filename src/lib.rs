//! The Haypile server.
#![forbid(unsafe_code)]

pub mod command;
