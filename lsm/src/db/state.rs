//! What the parts of an open database share, and which lock guards what.
//!
//! Lock order, outermost first; a thread holding one may take only those after it:
//!
//! ```text
//! manifest  >  append (inside Log)  >  view (inside ViewCell)  >  jobs  >  snapshots  >  generation, spare_memtable
//! ```
//!
//! `manifest` is held across an edit's append, sync and install, so edits and views change in the same order. Nobody on the
//! path of a read takes any of them; a commit takes `append` (short) and, when its memtable is full, `view`.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::hooks::Note;
use crate::base::key::Lsn;
use crate::base::metrics::Metrics;
use crate::base::options::Options;
use crate::cache::block_cache::BlockCache;
use crate::compaction::plan::InProgress;
use crate::compaction::targets::PickerOptions;
use crate::db::delay::{DrainRate, Load, pressure};
use crate::db::publish::Publisher;
use crate::db::snapshots::SnapshotList;
use crate::db::view::ViewCell;
use crate::env::env::{Env, FileLock};
use crate::env::filename::FileName;
use crate::memtable::maps::Maps;
use crate::memtable::memtable::Memtable;
use crate::version::edit::VersionEdit;
use crate::version::manifest::Manifest;
use crate::version::version::{Reaper, TableOpener};
use crate::wal::log::Log;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What background work is going on. Under the `jobs` lock.
#[derive(Debug, Default)]
pub struct Jobs {
    /// Keyspaces that a flush is running for.
    pub flushing: HashSet<KeyspaceId>,
    /// Compactions that are running.
    pub compacting: HashMap<KeyspaceId, InProgress>,
    /// Keyspaces in which a compaction met damage or a full disk, and when the next try may begin. Until one succeeds, how far they are
    /// behind counts for nobody's delay: waiting would not help, and a full disk is for the log to tell.
    pub stuck: HashMap<KeyspaceId, Duration>,
    /// How many holders asked for quiet.
    pub paused: usize,
    /// The last failure of a flush, until a waiter has seen it.
    pub flush_failed: Option<Error>,
    /// The same of a compaction.
    pub compaction_failed: Option<Error>,
}

impl Jobs {
    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        self.flushing.is_empty() && self.compacting.values().all(InProgress::is_empty)
    }
}

/// A memtable with deletes that may be flushed before it is full.
#[derive(Debug)]
pub struct Desert {
    /// Which one.
    pub memtable_id: u64,
    /// When it was first seen to have them (monotonic).
    pub since: Duration,
    /// When what its range tombstones lie over was last measured.
    pub measured: Duration,
}

/// The shared heart of a database.
#[derive(Debug)]
pub struct Shared {
    // Constant after open.
    /// Where it lives.
    pub env: Arc<dyn Env>,
    /// Its folder.
    pub path: PathBuf,
    /// As given at open.
    pub options: Options,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Decompressed blocks.
    pub cache: Arc<BlockCache>,
    /// Opens tables of this folder.
    pub opener: Arc<TableOpener>,
    /// Collects the numbers of tables that may be unlinked.
    pub reaper: Reaper,
    /// Names this database's history; the same LSN of another history is another write.
    pub history: u64,

    // Locking of their own.
    /// The write-ahead log; its append lock orders commits.
    pub log: Log,
    /// Which prefix of commits may be read.
    pub publisher: Publisher,
    /// Who reads at older sequence numbers.
    pub snapshots: Arc<SnapshotList>,
    /// Memtables and versions.
    pub view: ViewCell,
    /// How fast background work drains.
    pub drain_rate: DrainRate,

    // Guarded.
    /// The edit log.
    pub manifest: Mutex<Manifest>,
    /// Background work.
    pub jobs: Mutex<Jobs>,
    /// Memtables that may be flushed for their deletes, by keyspace. Of whoever flushes, alone.
    pub deserts: Mutex<HashMap<KeyspaceId, Desert>>,
    /// Grows whenever `jobs` or the view has changed in a way that somebody may wait for. A lock of its own, held for a few
    /// instructions: a commit that switches memtables takes it, and must not wait for a compaction thread that is choosing its next job.
    pub generation: Mutex<u64>,
    /// Told when it grows.
    pub changed: Condvar,
    /// A memtable for whoever needs the next one, backed with memory already; made by the flush thread.
    pub spare_memtable: Mutex<Option<Arc<Memtable>>>,
    /// Memory of memtables that were flushed, for the next ones.
    pub maps: Arc<Maps>,
    /// Held while the database is open.
    pub lock: Mutex<Option<Box<dyn FileLock>>>,

    // Atomics, all relaxed unless said otherwise: hints and counters.
    /// Numbers for tables and manifests; never given out twice.
    pub next_file_number: AtomicU64,
    /// Numbers memtables.
    pub next_memtable: AtomicU64,
    /// Bytes that the block cache goes without at the moment.
    pub cache_lent_bytes: AtomicUsize,
    /// Flushes that run.
    pub running_flushes: AtomicUsize,
    /// Compactions that run.
    pub running_compactions: AtomicUsize,
    /// L0 runs and debt as of the last install.
    pub level0_runs: AtomicU64,
    /// See [`Load::debt_bytes`].
    pub debt_bytes: AtomicU64,
    /// Set once by close; background threads leave. SeqCst, rare.
    pub stop: AtomicBool,
    /// Set once by close: no more writes.
    pub closed: AtomicBool,
    /// Whether the Env runs threads; if not, waiting means working.
    pub threaded: AtomicBool,
    /// Free space fell below the reserve: only what frees space may write.
    pub low_space: AtomicBool,
    /// The last flush found no space: waiting for it would not help a writer.
    pub flush_lacks_space: AtomicBool,
    /// When free space was last looked at, in milliseconds of the monotonic clock.
    pub space_looked_ms: AtomicU64,
}

/// Locks a mutex whose holders cannot leave it half-changed (or poison the database when they do).
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Says a line to whoever listens.
    pub fn event(&self, line: &str) {
        if let Some(listener) = &self.options.event_listener {
            listener(line);
        }
    }

    /// Fails if the database was closed or can take no more writes.
    pub fn check_writable(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        if let Some(why) = self.log.poisoned() {
            return Err(Error::Poisoned(why));
        }
        Ok(())
    }

    /// Refuses all writes from now on.
    pub fn poison(&self, why: &str) {
        self.event(&format!("the database refuses writes from now on: {why}"));
        self.log.poison(why);
        self.publisher.mark_broken();
        self.signal();
    }

    /// Wakes whoever waits for background work to have changed something.
    pub fn signal(&self) {
        *lock(&self.generation) += 1;
        self.changed.notify_all();
    }

    /// The number that [`signal`](Self::signal) grows; read before looking for work.
    pub fn generation(&self) -> u64 {
        *lock(&self.generation)
    }

    /// Waits until something has changed since `generation`, at most `timeout`.
    pub fn wait_changed(&self, generation: u64, timeout: Duration) {
        let now = lock(&self.generation);
        drop(self.changed.wait_timeout_while(now, timeout, |now| *now == generation));
    }

    /// Waits for `timeout`, or less if the database is being closed.
    pub fn wait_stopped(&self, timeout: Duration) {
        let now = lock(&self.generation);
        drop(self.changed.wait_timeout_while(now, timeout, |_| !self.stop.load(Ordering::SeqCst)));
    }

    /// Puts a job's notes into its edit, numbered. Requires: `manifest` stays locked until the edit is appended.
    pub fn number_notes(
        manifest: &Manifest,
        edit: &mut VersionEdit,
        keyspace: KeyspaceId,
        notes: Vec<Vec<u8>>,
    ) {
        let first = manifest.state().next_note;
        edit.next_note = Some(first + notes.len() as u64);
        edit.notes_added = (first..).zip(notes).map(|(id, bytes)| Note { id, keyspace, bytes }).collect();
    }

    /// Appends an edit, durably; one that moves the log's start also says where that is. A failure other than a full disk poisons: the
    /// manifest's end is then unknown. Of a poisoned database nothing changes any more.
    pub fn append_edit(&self, manifest: &mut Manifest, edit: &VersionEdit) -> Result<()> {
        if let Some(why) = self.log.poisoned() {
            return Err(Error::Poisoned(why));
        }
        let log_start = edit.first_needed_segment.and_then(|segment| self.log_start(segment));
        let edit = &VersionEdit { log_start, ..edit.clone() };
        manifest.append(edit).inspect_err(|error| {
            if !error.is_no_space() {
                self.poison(&format!("the manifest could not be written: {error}"));
            }
        })
    }

    /// The LSN up to which all records lie before this live segment of the log.
    pub fn log_start(&self, segment: u64) -> Option<Lsn> {
        self.log.segments().iter().find(|info| info.id == segment).map(|info| info.start_lsn)
    }

    /// A new number for a table or manifest file.
    pub fn new_file_number(&self) -> u64 {
        self.next_file_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes in use by all memtables.
    pub fn memtable_bytes(&self) -> u64 {
        let guard = crossbeam_epoch::pin();
        let keyspaces = self.view.load(&guard).keyspaces();
        let memtables = keyspaces.flat_map(|k| std::iter::once(&k.memtable).chain(&k.immutables));
        memtables.map(|memtable| memtable.bytes_used() as u64).sum()
    }

    /// How far background work is behind.
    pub fn load(&self) -> Load {
        Load {
            memtable_bytes: self.memtable_bytes(),
            memtable_bytes_max: self.options.memtable_total_bytes as u64,
            level0_runs: self.level0_runs.load(Ordering::Relaxed),
            level0_trigger: self.options.l0_compaction_trigger as u64,
            debt_bytes: self.debt_bytes.load(Ordering::Relaxed),
            debt_bytes_soft: self.options.debt_bytes_soft,
        }
    }

    /// The same as one number from 0 to 1.
    pub fn pressure(&self) -> f64 {
        pressure(&self.load())
    }

    /// Sizes that the compaction picker aims at.
    pub fn picker_options(&self) -> PickerOptions {
        PickerOptions::new(&self.options)
    }

    /// The path of a file of the folder.
    pub fn table_path(&self, number: u64) -> PathBuf {
        FileName::Table(number).path(&self.path)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.path
    }
}
