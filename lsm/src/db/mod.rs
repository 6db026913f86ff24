//! The database: commit, reads, background work, recovery.

pub mod db;
