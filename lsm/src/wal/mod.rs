//! The write-ahead log: record format, segments, the log that commits append to, recovery, tailing.

pub mod record;
pub mod segment;
pub mod log;
pub mod recovery;
pub mod reader;
