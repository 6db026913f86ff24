//! Counters of one database. All relaxed: they are statistics, nothing is ordered by them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Live counters; shared by every floor of one database.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// A copy of all counters at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// Reads every counter.
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl MetricsSnapshot {
            /// Name and value of each counter, in declaration order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Batches committed.
    batches_committed,
    /// Entries in them.
    entries_committed,
    /// Bytes of records appended to the WAL.
    wal_bytes_written,
    /// System calls that wrote the WAL.
    wal_writes,
    /// Syncs of the WAL.
    wal_syncs,
    /// Microseconds spent in them.
    wal_sync_us,
    /// Point reads.
    gets,
    /// Point reads answered by a memtable.
    gets_from_memtable,
    /// Point reads that had to be redone with the disk.
    reads_needing_io,
    /// Filter probes.
    filter_probes,
    /// Filter probes that said "absent".
    filter_negatives,
    /// Filter probes that said "maybe" where the table had no such key.
    filter_false_positives,
    /// Block lookups that the cache answered.
    cache_hits,
    /// Block lookups that it did not.
    cache_misses,
    /// Bytes read from table files for reads.
    table_bytes_read,
    /// Memtables flushed.
    flushes,
    /// Bytes of tables that flushes wrote.
    flush_bytes_written,
    /// Compactions that merged.
    compactions,
    /// Compactions that only moved a file down.
    trivial_moves,
    /// Bytes of tables that compactions read.
    compaction_bytes_read,
    /// Bytes of tables that compactions wrote.
    compaction_bytes_written,
    /// Entries that flushes and compactions dropped.
    entries_dropped,
    /// Microseconds of background CPU-bound work (wall time of jobs).
    background_us,
    /// Microseconds that writers were asked to wait.
    write_delay_us,
    /// Writers that were asked to wait.
    write_delays,
    /// Background jobs that failed and were retried.
    background_errors,
    /// Table files deleted.
    files_deleted,
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
