//! The Haypile server.
#![forbid(unsafe_code)]
