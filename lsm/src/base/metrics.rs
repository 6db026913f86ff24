//! Counters of one database. All relaxed: they are statistics, nothing is ordered by them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Cells of a [`Striped`] counter.
const STRIPES: usize = 16;

/// A counter that many threads grow at once: each in a cell of its own (up to sixteen threads), on a cache line of its own.
#[derive(Debug, Default)]
pub struct Striped([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Striped {
    /// Adds to the calling thread's cell.
    #[inline]
    pub fn add(&self, by: u64) {
        self.0[stripe()].0.fetch_add(by, Ordering::Relaxed);
    }

    /// The sum of all cells.
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(order)).sum()
    }
}

/// The calling thread's cell: threads are numbered as they come.
#[inline]
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    let mine = MINE.get();
    if mine != usize::MAX {
        return mine;
    }
    let mine = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    MINE.set(mine);
    mine
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)?) => {
        /// Live counters; shared by every floor of one database.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: $kind,)*
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
    batches_committed: Striped,
    /// Entries in them.
    entries_committed: Striped,
    /// Bytes of records appended to the WAL.
    wal_bytes_written: AtomicU64,
    /// System calls that wrote the WAL.
    wal_writes: AtomicU64,
    /// Syncs of the WAL.
    wal_syncs: AtomicU64,
    /// Microseconds spent in them.
    wal_sync_us: AtomicU64,
    /// Point reads.
    gets: Striped,
    /// Point reads answered by a memtable.
    gets_from_memtable: Striped,
    /// Point reads that had to be redone with the disk.
    reads_needing_io: AtomicU64,
    /// Filter probes.
    filter_probes: AtomicU64,
    /// Filter probes that said "absent".
    filter_negatives: AtomicU64,
    /// Filter probes that said "maybe" where the table had no such key.
    filter_false_positives: AtomicU64,
    /// Block lookups that the cache answered.
    cache_hits: AtomicU64,
    /// Block lookups that it did not.
    cache_misses: AtomicU64,
    /// Bytes read from table files for reads.
    table_bytes_read: AtomicU64,
    /// Memtables flushed.
    flushes: AtomicU64,
    /// Bytes of tables that flushes wrote.
    flush_bytes_written: AtomicU64,
    /// Compactions that merged.
    compactions: AtomicU64,
    /// Compactions that only moved a file down.
    trivial_moves: AtomicU64,
    /// Bytes of tables that compactions read.
    compaction_bytes_read: AtomicU64,
    /// Bytes of tables that compactions wrote.
    compaction_bytes_written: AtomicU64,
    /// Entries that flushes and compactions dropped.
    entries_dropped: AtomicU64,
    /// Microseconds of background CPU-bound work (wall time of jobs).
    background_us: AtomicU64,
    /// Microseconds that writers were asked to wait.
    write_delay_us: AtomicU64,
    /// ..of that because memtables were full.
    write_delay_memtables_us: AtomicU64,
    /// ..of that because there were many runs in L0.
    write_delay_level0_us: AtomicU64,
    /// ..of that because compaction was behind.
    write_delay_debt_us: AtomicU64,
    /// Writers that were asked to wait.
    write_delays: AtomicU64,
    /// Background jobs that failed and were retried.
    background_errors: AtomicU64,
    /// Table files deleted.
    files_deleted: AtomicU64,
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
