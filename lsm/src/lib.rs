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
pub use crate::db::background::Pause;
pub use crate::db::db::{DEFAULT_KEYSPACE, Db};
pub use crate::db::iter::Iter;
pub use crate::db::read::{PinnedValue, Reader};
pub use crate::db::snapshots::Snapshot;
pub use crate::db::status::MemoryUse;
pub use crate::env::env::Env;
pub use crate::env::fault_env::{Fault, FaultEnv, FaultKind, Operations};
pub use crate::env::mem_env::{CrashPolicy, MemEnv};
pub use crate::env::os_env::OsEnv;
pub use crate::merge::indexed_batch::{IndexedBatch, Overlay};
pub use crate::wal::reader::WalReader;
