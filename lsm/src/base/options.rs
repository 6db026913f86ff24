//! Options of a database, of a keyspace, of one read and of one write. Checked once, at open.

use crate::base::error::{Error, Result};
use crate::base::hooks::CompactionHooks;
use crate::base::key::{Lsn, SequenceNumber};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the process's memory; written by the log thread soon. A crash of the process may lose it.
    Memory,
    /// Handed to the operating system. A crash of the process keeps it; a power cut may lose it.
    Os,
    /// On the disk. A power cut keeps it.
    Synced,
}

/// How blocks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// LZ4, unless that saves less than an eighth.
    Lz4,
}

/// How far the log has come; passed to [`Options::log_listener`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress {
    /// Everything up to here was handed to the operating system.
    pub written: Lsn,
    /// Everything up to here is on the disk.
    pub synced: Lsn,
    /// The log failed and will advance no more.
    pub poisoned: bool,
}

/// Called when a watermark of the log has advanced or the log has failed. Runs on whatever thread did the I/O; must be quick
/// and must not call the database.
pub type LogListener = Arc<dyn Fn(LogProgress) + Send + Sync>;

/// Receives plain lines about what the engine does ("recovered 3 segments", "compaction failed: ...").
pub type EventListener = Arc<dyn Fn(&str) + Send + Sync>;

/// Told how long something took that others may have waited for, by name: `wal-write`, `wal-sync`. Called often and under locks: it
/// must be quick.
pub type LatencyListener = Arc<dyn Fn(&'static str, Duration) + Send + Sync>;

/// Options of a database.
#[derive(Clone)]
pub struct Options {
    /// Make the database if the folder holds none. Default true.
    pub create_if_missing: bool,
    /// Refuse a folder that already holds a database. Default false.
    pub error_if_exists: bool,
    /// Size of one memtable, in bytes. Default 32 MiB.
    pub memtable_bytes: usize,
    /// All memtables of all keyspaces together, in bytes; beyond it writers are delayed, then wait. Default 128 MiB.
    pub memtable_total_bytes: usize,
    /// Block cache, in bytes: data, index and filter blocks. Default 256 MiB.
    pub block_cache_bytes: usize,
    /// Size of one WAL segment, in bytes. Default 64 MiB.
    pub wal_segment_bytes: u64,
    /// All WAL segments together, in bytes: past it the keyspace that holds the oldest record is flushed. Default 256 MiB.
    pub wal_total_bytes: u64,
    /// In the background, sync within this many milliseconds of the oldest unsynced write; 0 for never. Default 1000.
    pub sync_interval_ms: u64,
    /// Target size of a table file, in bytes. Default 32 MiB.
    pub table_bytes: u64,
    /// Number of L0 runs at which compaction into the base level starts. Default 4.
    pub l0_compaction_trigger: usize,
    /// Size of the base level, in bytes. Default 128 MiB.
    pub base_level_bytes: u64,
    /// Each level's size over the one above. Default 10.
    pub level_multiplier: u64,
    /// Threads for compaction; a flush has a thread of its own. Default half the cores, at least 1.
    pub compaction_threads: usize,
    /// Debt (bytes that compaction has to move until every level has its target size) at which writers slow down to the rate
    /// at which compaction drains. Default 1 GiB.
    pub debt_bytes_soft: u64,
    /// Bytes on the disk that only deletes and reclaim may use. 0 for none. Default 0.
    pub reserve_bytes: u64,
    /// The most table files kept open; reads in flight may open one more each. A table needs its file only for what is not in memory.
    /// At least 1. Default 4096.
    pub open_tables_max: usize,
    /// Hooks by keyspace name; they cannot be stored, so each open gives them.
    pub hooks: HashMap<String, Arc<dyn CompactionHooks>>,
    /// Told when the log's watermarks advance.
    pub log_listener: Option<LogListener>,
    /// Told in words what the engine does.
    pub event_listener: Option<EventListener>,
    /// Told how long writes and syncs of the log took.
    pub latency_listener: Option<LatencyListener>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            create_if_missing: true,
            error_if_exists: false,
            memtable_bytes: 32 << 20,
            memtable_total_bytes: 128 << 20,
            block_cache_bytes: 256 << 20,
            wal_segment_bytes: 64 << 20,
            wal_total_bytes: 256 << 20,
            sync_interval_ms: 1000,
            table_bytes: 32 << 20,
            l0_compaction_trigger: 4,
            base_level_bytes: 128 << 20,
            level_multiplier: 10,
            compaction_threads: std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
            debt_bytes_soft: 1 << 30,
            reserve_bytes: 0,
            open_tables_max: 4096,
            hooks: HashMap::new(),
            log_listener: None,
            event_listener: None,
            latency_listener: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("memtable_bytes", &self.memtable_bytes)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("wal_segment_bytes", &self.wal_segment_bytes)
            .field("table_bytes", &self.table_bytes)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Splits one memory number over cache, memtables and WAL, the way a server wants it.
    pub fn with_memory_budget(mut self, budget_bytes: usize) -> Options {
        self.memtable_total_bytes = (budget_bytes / 4).max(64 << 10);
        self.memtable_bytes = (self.memtable_total_bytes / 4).clamp(16 << 10, 64 << 20);
        self.block_cache_bytes = budget_bytes / 2;
        self.wal_total_bytes = (self.memtable_total_bytes as u64).max(4 * self.memtable_bytes as u64);
        self.wal_segment_bytes = (self.wal_total_bytes / 4).clamp(64 << 10, 64 << 20);
        self
    }

    /// Sizes so small that a few hundred writes run every path; for tests.
    pub fn tiny() -> Options {
        Options {
            memtable_bytes: 4 << 10,
            memtable_total_bytes: 64 << 10,
            block_cache_bytes: 16 << 10,
            wal_segment_bytes: 8 << 10,
            wal_total_bytes: 64 << 10,
            sync_interval_ms: 0,
            table_bytes: 2 << 10,
            l0_compaction_trigger: 2,
            base_level_bytes: 8 << 10,
            level_multiplier: 3,
            compaction_threads: 2,
            debt_bytes_soft: 1 << 20,
            ..Options::default()
        }
    }

    /// Checks what cannot work. Errors: `InvalidArgument`.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::invalid(what));
        if self.memtable_bytes < 1 << 10 || self.memtable_bytes > crate::base::limits::ARENA_BYTES_MAX / 2 {
            return bad("memtable_bytes must be from 1 KiB to 2 GiB");
        }
        if self.memtable_total_bytes < 2 * self.memtable_bytes {
            return bad("memtable_total_bytes must hold two memtables");
        }
        if self.wal_segment_bytes < 4 << 10 || self.wal_total_bytes < 2 * self.wal_segment_bytes {
            return bad("wal_segment_bytes must be at least 4 KiB and wal_total_bytes hold two segments");
        }
        if self.table_bytes < 256 || self.level_multiplier < 2 || self.l0_compaction_trigger == 0 {
            return bad("table_bytes, level_multiplier or l0_compaction_trigger too small");
        }
        if self.compaction_threads == 0 || self.compaction_threads > 64 {
            return bad("compaction_threads must be from 1 to 64");
        }
        if self.open_tables_max == 0 {
            return bad("open_tables_max must be at least 1");
        }
        Ok(())
    }
}

/// Options of a keyspace, fixed when it is created and kept in the manifest (hooks apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyspaceOptions {
    /// Target size of a block before compression, in bytes. Default 4 KiB.
    pub block_bytes: u32,
    /// How blocks are stored. Default LZ4.
    pub compression: Compression,
    /// Bits a key in the bloom filters; 0 for no filter. Default 10.
    pub bloom_bits_per_key: u32,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions { block_bytes: 4 << 10, compression: Compression::Lz4, bloom_bits_per_key: 10 }
    }
}

impl KeyspaceOptions {
    /// Checks what cannot work. Errors: `InvalidArgument`.
    pub fn validate(&self) -> Result<()> {
        if !(64..=1 << 20).contains(&self.block_bytes) || self.bloom_bits_per_key > 32 {
            return Err(Error::invalid(
                "block_bytes must be from 64 to 1 MiB, bloom_bits_per_key at most 32",
            ));
        }
        Ok(())
    }
}

/// Options of one write.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// When the write counts as done. Default [`Durability::Os`].
    pub durability: Durability,
    /// Skip the WAL: a crash loses the write until its memtable is flushed. For bulk loads. Default false.
    pub disable_wal: bool,
    /// Sleep the delay that [`Db::write_delay`](crate::Db::write_delay) asks for. A server asks for it itself. Default true.
    pub obey_delay: bool,
    /// May use the reserve: deletes and what frees space. Default false.
    pub frees_space: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { durability: Durability::Os, disable_wal: false, obey_delay: true, frees_space: false }
    }
}

/// Options of one read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions {
    /// Read as of this sequence number; `None` for the latest. The number must be of a live snapshot, or at least the
    /// greatest `visible_lsn` minus nothing dropped: use `Snapshot::sequence`.
    pub sequence: Option<SequenceNumber>,
    /// Read at the greater of the synced watermark and this LSN (a client of a server that promises "synced" sees only what
    /// a crash cannot take back, and its own writes). Ignored if `sequence` is given.
    pub synced_or: Option<Lsn>,
    /// Answer [`Error::NeedsIo`] instead of touching the disk. An iterator does so too when it has stepped over some thousand
    /// versions that it does not show (deleted keys, say): who must not wait for the disk must not wait for that either.
    pub memory_only: bool,
    /// Leave blocks that had to be read out of the cache.
    pub no_fill_cache: bool,
}

impl ReadOptions {
    /// Read what is in memory, or answer `NeedsIo`.
    pub fn memory_only() -> ReadOptions {
        ReadOptions { memory_only: true, ..ReadOptions::default() }
    }
}

/// Bounds and manners of an iterator.
#[derive(Clone, Debug, Default)]
pub struct IterOptions {
    /// Inclusive lower bound.
    pub lower: Option<Vec<u8>>,
    /// Exclusive upper bound.
    pub upper: Option<Vec<u8>>,
    /// How to read.
    pub read: ReadOptions,
}

impl IterOptions {
    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> IterOptions {
        IterOptions {
            lower: Some(prefix.to_vec()),
            upper: crate::base::key::prefix_end(prefix),
            read: ReadOptions::default(),
        }
    }
}
