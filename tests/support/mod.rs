//! What the tests from outside share: a server process, a client, a place on disk, a seeded random source.
//!
//! Each test binary takes its part; none takes all. Nothing here knows the server's insides: it sees a process, its
//! sockets, its exit code and what `/proc` says of it.

pub mod random;
pub mod folder;
pub mod client;
pub mod program;
pub mod server;
