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

pub use crate::base::batch::{BatchEntry, BatchReader, KeyspaceId, Savepoint, WriteBatch};
pub use crate::base::error::{Error, Result};
pub use crate::base::hooks::{CompactionHooks, FilterDecision, Newer, Note, Notes};
pub use crate::base::key::{Lsn, SequenceNumber, prefix_end};
pub use crate::base::metrics::MetricsSnapshot;
pub use crate::base::options::{
    Compression, Durability, IterOptions, KeyspaceOptions, LogProgress, Options, ReadOptions, WriteOptions,
};
pub use crate::env::env::Env;
