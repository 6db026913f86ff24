//! Open: from what is on the disk to a running database.
//!
//! 1. lock the folder; read the manifest (or make one)
//! 2. replay the log into fresh memtables: of each keyspace what lies above its flushed LSN; then, and only if all of that was well,
//!    remove the files that nothing names: before damage is ruled out they may be the only copy of something
//! 3. write (what was replayed is on the disk by then, so it can never be lost again) an edit that says where the old log ended and
//!    which segment comes next; anything behind that end is void for ever
//! 4. start the log in that segment
//!
//! A crash at any moment of this leaves a state from which it starts over with the same result.

use crate::base::batch::{BatchReader, KeyspaceId};
use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{SEQUENCE_MAX, SequenceNumber, ValueKind};
use crate::base::metrics::Metrics;
use crate::base::options::Options;
use crate::cache::block_cache::BlockCache;
use crate::db::compact::update_load;
use crate::db::delay::DrainRate;
use crate::db::publish::Publisher;
use crate::db::snapshots::SnapshotList;
use crate::db::space;
use crate::db::state::{Jobs, Shared};
use crate::db::view::{KeyspaceView, View, ViewCell};
use crate::env::env::Env;
use crate::env::filename::{FileName, is_temporary};
use crate::memtable::maps::Maps;
use crate::memtable::memtable::Memtable;
use crate::version::edit::{LogEnd, VersionEdit};
use crate::version::manifest::Manifest;
use crate::version::state::ManifestState;
use crate::version::version::{Reaper, TableOpener, Version};
use crate::wal::log::{Log, LogOptions};
use crate::wal::recovery::{LogRecord, Recovered, RecoveryBounds, recover};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Maps of memory kept for the next memtable: that of its records and that of its index.
const MAPS_KEPT: usize = 2;

/// Opens or makes the database in `path`, without its threads.
pub fn open(env: Arc<dyn Env>, path: &Path, options: Options) -> Result<Arc<Shared>> {
    options.validate()?;
    env.create_dir_all(path)?;
    let lock = env.lock(&FileName::Lock.path(path))?;
    let mut manifest = open_manifest(&env, path, &options)?;

    let metrics = Arc::new(Metrics::default());
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes, metrics.clone()));
    let open_max = options.open_tables_max;
    let opener = Arc::new(TableOpener::new(env.clone(), path, open_max, cache.clone(), metrics.clone()));
    let reaper = Reaper::new();
    let mut replay = Replay::new(manifest.state(), &options, &reaper)?;
    let recovered = replay.run(&env, path, manifest.state(), &options)?;
    let last_lsn = recovered.last_lsn.max(manifest.state().last_sequence);
    if last_lsn > SEQUENCE_MAX / 2 {
        // A million writes a second take a thousand years to get there. From there on nothing has to look for the end.
        let what = format!("sequence number {last_lsn} cannot be");
        return Err(Error::corruption(manifest.path(), 0, what));
    }
    let next_file_number = remove_orphans(&env, path, manifest.state(), &options)?;

    let first_segment = recovered.next_segment.max(manifest.state().first_needed_segment);
    let mut edit = VersionEdit { last_sequence: Some(last_lsn), ..VersionEdit::default() };
    // Of records only: a write that skipped the log took numbers, but no record can be expected for them.
    edit.log_ends.push(LogEnd { segment: first_segment, lsn: recovered.last_lsn });
    manifest.append(&edit)?;

    let log_options = LogOptions {
        dir: path.to_path_buf(),
        segment_bytes: options.wal_segment_bytes,
        total_bytes: options.wal_total_bytes,
        sync_interval_ms: options.sync_interval_ms,
        history: manifest.state().history,
        listener: options.log_listener.clone(),
        events: options.event_listener.clone(),
        latency: options.latency_listener.clone(),
        metrics: metrics.clone(),
    };
    let log = Log::create(env.clone(), log_options, first_segment, last_lsn)?;
    for end in &recovered.ends {
        log.adopt(end)?;
    }
    let next_memtable = replay.next_memtable;
    let maps = replay.maps.clone();
    let shared = Arc::new(Shared {
        history: manifest.state().history,
        next_file_number: AtomicU64::new(next_file_number),
        env,
        path: path.to_path_buf(),
        options,
        metrics,
        cache,
        opener,
        reaper,
        log,
        publisher: Publisher::new(last_lsn),
        snapshots: Arc::new(SnapshotList::default()),
        view: ViewCell::new(replay.into_view()),
        drain_rate: DrainRate::default(),
        manifest: Mutex::new(manifest),
        jobs: Mutex::new(Jobs::default()),
        deserts: Mutex::default(),
        generation: Mutex::new(0),
        spare_memtable: Mutex::new(None),
        maps,
        changed: Condvar::new(),
        lock: Mutex::new(Some(lock)),
        next_memtable: AtomicU64::new(next_memtable),
        cache_lent_bytes: AtomicUsize::new(0),
        running_flushes: AtomicUsize::new(0),
        running_compactions: AtomicUsize::new(0),
        level0_runs: AtomicU64::new(0),
        debt_bytes: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        threaded: AtomicBool::new(true),
        low_space: AtomicBool::new(false),
        flush_lacks_space: AtomicBool::new(false),
        space_looked_ms: AtomicU64::new(0),
    });
    update_load(&shared);
    space::watch(&shared, true);
    Ok(shared)
}

/// Removes a database's folder. Error: `Locked` if it is open.
pub fn destroy(env: &Arc<dyn Env>, path: &Path) -> Result<()> {
    if !env.exists(path)? {
        return Ok(());
    }
    let lock = env.lock(&FileName::Lock.path(path))?;
    env.remove_dir_all(path)?;
    drop(lock);
    Ok(())
}

fn open_manifest(env: &Arc<dyn Env>, path: &Path, options: &Options) -> Result<Manifest> {
    if Manifest::exists(env.as_ref(), path)? {
        if options.error_if_exists {
            return Err(Error::invalid(format!("{} already holds a database", path.display())));
        }
        return Ok(Manifest::recover(env.clone(), path)?.0);
    }
    if !options.create_if_missing {
        return Err(Error::invalid(format!("{} holds no database", path.display())));
    }
    Ok(Manifest::create(env.clone(), path, env.random_u64().max(1))?.0)
}

/// Removes files that a crash left behind: tables no edit names, log segments nobody needs. (The manifest does so for its own.) If a
/// table that an edit names is missing, the manifest may have lost its last edit: then tables stay, whoever names them. Returns
/// the first number that is free for a new table.
fn remove_orphans(env: &Arc<dyn Env>, path: &Path, state: &ManifestState, options: &Options) -> Result<u64> {
    let names = env.list(path)?;
    let there = names.iter().filter_map(|name| FileName::parse(name)).collect::<HashSet<_>>();
    let live = state.keyspaces.values().flat_map(|keyspace| keyspace.files.keys()).copied();
    let live = live.map(FileName::Table).collect::<HashSet<_>>();
    let missing = live.difference(&there).min();
    if let Some(missing) = missing {
        say(options, &format!("{missing} is missing in {}; no table is removed", path.display()));
    }
    let mut next = state.next_file_number;
    for name in names {
        let orphan = match FileName::parse(&name) {
            Some(FileName::Segment(segment)) => segment < state.first_needed_segment,
            Some(table @ FileName::Table(_)) => missing.is_none() && !live.contains(&table),
            _ => is_temporary(&name),
        };
        if orphan {
            env.remove(&path.join(&name))?;
        } else if let Some(FileName::Table(number)) = FileName::parse(&name) {
            next = next.max(number.saturating_add(1));
        }
    }
    Ok(next)
}

fn say(options: &Options, line: &str) {
    if let Some(listener) = &options.event_listener {
        listener(line);
    }
}

/// Memtables being filled from the log.
struct Replay {
    keyspaces: Vec<KeyspaceView>,
    /// Keyspaces from this number on were never made.
    next_keyspace: KeyspaceId,
    memtable_bytes: usize,
    next_memtable: u64,
    maps: Arc<Maps>,
}

impl Replay {
    fn new(state: &ManifestState, options: &Options, reaper: &Reaper) -> Result<Replay> {
        let mut replay = Replay {
            keyspaces: Vec::new(),
            next_keyspace: state.next_keyspace,
            memtable_bytes: options.memtable_bytes,
            next_memtable: 1,
            maps: Maps::new(MAPS_KEPT),
        };
        for (&id, keyspace) in &state.keyspaces {
            replay.keyspaces.push(KeyspaceView {
                id,
                name: keyspace.name.as_str().into(),
                options: keyspace.options,
                hooks: options.hooks.get(&keyspace.name).cloned(),
                memtable: Arc::new(Memtable::within(
                    &replay.maps,
                    options.memtable_bytes,
                    replay.next_memtable,
                )?),
                immutables: Vec::new(),
                version: Arc::new(Version::new(keyspace.levels(), reaper)?),
                wasted_steps: Arc::default(),
                flushed_lsn: keyspace.flushed,
            });
            replay.next_memtable += 1;
        }
        Ok(replay)
    }

    fn run(
        &mut self,
        env: &Arc<dyn Env>,
        path: &Path,
        state: &ManifestState,
        options: &Options,
    ) -> Result<Recovered> {
        let bounds = RecoveryBounds {
            first_segment: state.first_needed_segment,
            start: state.log_start,
            void: state.log_ends.iter().map(|end| (end.segment, end.lsn)).collect(),
            history: Some(state.history),
        };
        let say = |line: String| say(options, &line);
        let started = env.monotonic();
        let mut said = started;
        let clock = env.clone();
        let mut progress = |done: u64, total: u64| {
            let now = clock.monotonic();
            if now.saturating_sub(said) >= Duration::from_secs(1) {
                said = now;
                say(format!("replaying the log: {} of {} MiB", done >> 20, total >> 20));
            }
        };
        let mut visit = |record: LogRecord<'_>| self.apply(path, &record);
        let recovered = recover(env.as_ref(), path, &bounds, &mut visit, &mut progress)?;
        if recovered.records > 0 {
            let ms = env.monotonic().saturating_sub(started).as_millis();
            say(format!(
                "replayed {} records, {} KiB of log, in {ms} ms",
                recovered.records,
                recovered.bytes >> 10
            ));
        }
        if let Some((file, offset, what)) = &recovered.torn {
            say(format!("the log ends in a torn write: {} at offset {offset}: {what}", file.display()));
        }
        Ok(recovered)
    }

    fn apply(&mut self, path: &Path, record: &LogRecord<'_>) -> Result<()> {
        let damaged = |what: &str| {
            Error::corruption(&FileName::Segment(record.segment).path(path), record.offset, what)
        };
        let reader = BatchReader::new(record.payload).ok_or_else(|| damaged("damaged batch"))?;
        for (sequence, entry) in (record.first_sequence..).zip(reader) {
            let entry = entry.map_err(damaged)?;
            if entry.keyspace >= self.next_keyspace {
                // It was made, durably, before this was written: the manifest has lost the edit.
                return Err(damaged("a write to a keyspace that the manifest does not know"));
            }
            // A keyspace that was dropped since is passed over, and so is what is in tables already.
            let Some(keyspace) = self.keyspaces.iter_mut().find(|keyspace| keyspace.id == entry.keyspace)
            else {
                continue;
            };
            if sequence <= keyspace.flushed_lsn {
                continue;
            }
            let bytes = Memtable::entry_bytes_max(entry.key.len(), entry.value.len());
            if !keyspace.memtable.reserve(bytes) {
                let capacity = self.memtable_bytes.max(bytes);
                let fresh = Arc::new(Memtable::new(capacity, self.next_memtable)?);
                self.next_memtable += 1;
                let full = std::mem::replace(&mut keyspace.memtable, fresh);
                if full.last_sequence() > 0 {
                    keyspace.immutables.insert(0, full);
                }
                if !keyspace.memtable.reserve(bytes) {
                    return Err(damaged("an entry does not fit a memtable of its size"));
                }
            }
            insert(&keyspace.memtable, entry.kind, entry.key, entry.value, sequence);
            keyspace.memtable.note_segment(Some(record.segment), sequence, sequence);
        }
        Ok(())
    }

    fn into_view(self) -> View {
        self.keyspaces.into_iter().fold(View::default(), |view, keyspace| view.with(keyspace))
    }
}

fn insert(memtable: &Memtable, kind: ValueKind, key: &[u8], value: &[u8], sequence: SequenceNumber) {
    match kind {
        ValueKind::RangeDelete => memtable.insert_range_delete(key, value, sequence),
        kind => memtable.insert(key_hash(key), key, sequence, kind, value),
    }
}
