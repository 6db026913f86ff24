//! An embedded LSM tree.
#![deny(unsafe_code)]

pub mod base;
pub mod env;
pub mod wal;
pub mod memtable;
pub mod block;
pub mod cache;
pub mod table;
pub mod merge;
pub mod version;
pub mod compaction;
pub mod db;

pub use crate::base::batch::{KeyspaceId, WriteBatch};
