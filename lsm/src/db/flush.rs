//! Flush: one immutable memtable becomes one L0 table.
//!
//! Order of things, each durable before the next: the log up to the memtable's last entry (*log before table*: else a power cut could
//! keep this keyspace's half of a batch and lose another's), the table, the folder, the manifest edit. Then the view changes
//! and the log may let go of segments that no memtable needs any more.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::iter::InternalIterator;
use crate::base::key::Lsn;
use crate::base::limits::LEVELS;
use crate::base::metrics::Metrics;
use crate::compaction::job::{JobInput, write_tables};
use crate::db::commit::switch_memtable;
use crate::db::compact::{set_version, update_load, warm};
use crate::db::state::{Desert, Shared, lock};
use crate::db::view::{KeyspaceView, View};
use crate::memtable::memtable::Memtable;
use crate::version::edit::{FileAdded, VersionEdit};
use crate::version::file_meta::KeyRange;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Flushes the oldest immutable memtable of some keyspace. Returns whether there was one to flush.
pub fn flush_one(shared: &Arc<Shared>) -> Result<bool> {
    let Some(id) = claim(shared) else { return Ok(false) };
    // Relaxed, both: a counter for people.
    shared.running_flushes.fetch_add(1, Ordering::Relaxed);
    let result = flush_claimed(shared, id);
    shared.running_flushes.fetch_sub(1, Ordering::Relaxed);
    lock(&shared.jobs).flushing.remove(&id);
    shared.signal();
    result.map(|()| true)
}

/// Picks a keyspace with an immutable memtable that nobody is flushing: the one whose oldest is oldest, for it holds back the log.
fn claim(shared: &Shared) -> Option<KeyspaceId> {
    let view = shared.view.load_owned();
    let mut jobs = lock(&shared.jobs);
    if jobs.paused > 0 || shared.log.is_poisoned() {
        return None;
    }
    let id = view
        .keyspaces()
        .filter(|keyspace| !jobs.flushing.contains(&keyspace.id))
        .filter_map(|keyspace| Some((keyspace.immutables.last()?.first_sequence(), keyspace.id)))
        .min()?
        .1;
    jobs.flushing.insert(id);
    Some(id)
}

fn flush_claimed(shared: &Arc<Shared>, id: KeyspaceId) -> Result<()> {
    let view = shared.view.load_owned();
    let Some(keyspace) = view.keyspace(id) else { return Ok(()) };
    let Some(memtable) = keyspace.immutables.last() else { return Ok(()) };
    let started = shared.env.monotonic();
    wait_applied(shared, memtable)?;
    shared.log.sync_to(memtable.last_sequence())?;

    let mut edit = VersionEdit::default();
    let (bytes, notes) = build_table(shared, keyspace, memtable, &mut edit)?;
    install(shared, id, memtable, edit, (bytes, notes))?;

    let elapsed = shared.env.monotonic().saturating_sub(started);
    Metrics::add(&shared.metrics.background_us, elapsed.as_micros() as u64);
    shared.drain_rate.record(memtable.bytes_used() as u64, elapsed);
    Ok(())
}

/// Waits until every commit that registered with the memtable has inserted and is visible: only then may its contents be read whole,
/// and only then is the snapshot list complete for what lies in it.
fn wait_applied(shared: &Shared, memtable: &Memtable) -> Result<()> {
    while !memtable.is_quiet() {
        if shared.publisher.is_broken() {
            return Err(Error::Poisoned("a commit was lost".into()));
        }
        std::thread::yield_now();
    }
    if shared.publisher.wait_visible(memtable.last_sequence()) {
        Ok(())
    } else {
        Err(Error::Poisoned("a commit was lost".into()))
    }
}

fn build_table(
    shared: &Arc<Shared>,
    keyspace: &KeyspaceView,
    memtable: &Arc<Memtable>,
    edit: &mut VersionEdit,
) -> Result<(u64, Vec<Vec<u8>>)> {
    let version = keyspace.version.clone();
    // This memtable is the oldest of its keyspace, so only tables can hold anything older.
    let bottom = |key: &[u8]| version.is_clear(0..LEVELS, &KeyRange::point(key));
    let bottom_range = |start: &[u8], end: &[u8]| {
        version.is_clear(0..LEVELS, &KeyRange { start, end: Bound::Excluded(end) })
    };
    let mut source: Box<dyn InternalIterator> = Box::new(memtable.iter());
    let new_number = || shared.new_file_number();
    let output = write_tables(
        source.as_mut(),
        JobInput {
            env: &shared.env,
            dir: shared.dir(),
            new_number: &new_number,
            options: keyspace.options,
            table_bytes: u64::MAX,
            grandparents: &[],
            snapshots: shared.snapshots.sequences(),
            bottom: &bottom,
            bottom_range: &bottom_range,
            tombstones: memtable.range_tombstones(),
            into_l0: true,
            hooks: keyspace.hooks.clone(),
            should_stop: &|| shared.stop.load(Ordering::SeqCst),
        },
    )?;
    let bytes = output.files.iter().map(|file| file.bytes).sum();
    Metrics::add(&shared.metrics.entries_dropped, output.dropped);
    for file in output.files {
        edit.files_added.push(FileAdded { keyspace: keyspace.id, level: 0, meta: Arc::new(file) });
    }
    edit.flushed.push((keyspace.id, memtable.last_sequence()));
    Ok((bytes, output.notes))
}

/// Appends the edit and swaps the memtable for its table.
fn install(
    shared: &Shared,
    id: KeyspaceId,
    memtable: &Arc<Memtable>,
    mut edit: VersionEdit,
    (bytes, notes): (u64, Vec<Vec<u8>>),
) -> Result<()> {
    let mut manifest = lock(&shared.manifest);
    Shared::number_notes(&manifest, &mut edit, id, notes);
    let needed = first_needed_segment(shared, memtable);
    edit.next_file_number = Some(shared.next_file_number.load(Ordering::Relaxed));
    edit.last_sequence = Some(memtable.last_sequence());
    edit.first_needed_segment = Some(needed);
    shared.append_edit(&mut manifest, &edit)?;
    // Before the tables are seen: whoever has waited for the flush finds it counted.
    Metrics::add(&shared.metrics.flushes, 1);
    Metrics::add(&shared.metrics.flush_bytes_written, bytes);
    let mut added = Vec::new();
    // As in compact::install: what takes long is done before the view's lock is taken.
    let view = shared.view.load_owned();
    if let Some(old) = view.keyspace(id) {
        let applied = old.version.apply(id, &edit, &shared.reaper)?;
        let version = Arc::new(applied.version);
        set_version(shared, id, |next| {
            next.immutables.retain(|other| !Arc::ptr_eq(other, memtable));
            next.version = version;
            next.flushed_lsn = memtable.last_sequence();
        });
        added = applied.added;
    }
    drop(manifest);
    shared.log.release_before(needed);
    warm(shared, &added);
    update_load(shared);
    Ok(())
}

/// The oldest log segment that a crash would still need, once `flushed` is a table.
fn first_needed_segment(shared: &Shared, flushed: &Arc<Memtable>) -> u64 {
    // The current segment is read before the memtables: a commit that comes in between lands in it or a later one.
    let current = shared.log.current_segment();
    let view = shared.view.load_owned();
    memtables(&view)
        .filter(|memtable| !Arc::ptr_eq(memtable, flushed))
        .filter_map(|memtable| memtable.lowest_segment())
        .fold(current, u64::min)
}

/// The oldest log segment that the memtables of a view need; `current` if none needs an older one.
pub fn first_needed_segment_of(view: &View, current: u64) -> u64 {
    memtables(view).filter_map(|memtable| memtable.lowest_segment()).fold(current, u64::min)
}

fn memtables(view: &View) -> impl Iterator<Item = &Arc<Memtable>> {
    view.keyspaces().flat_map(|keyspace| std::iter::once(&keyspace.memtable).chain(&keyspace.immutables))
}

/// Puts a fresh memtable in front, if the active one holds anything. Returns the last LSN below the new one.
pub fn freeze(shared: &Shared, id: KeyspaceId) -> Result<Lsn> {
    let mut append = shared.log.lock();
    let view = shared.view.load_owned();
    let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    if keyspace.memtable.last_sequence() > 0 {
        switch_memtable(shared, id, 0, &mut append)?;
    }
    Ok(append.last_lsn())
}

/// So many deletes in a memtable make it a desert: whoever iterates walks over them all.
const DESERT_DELETES_MIN: u64 = 16 << 10;
/// A desert is left to grow for so long, so that deletes that go on are flushed together. So is a memtable whose range tombstones are worth a
/// flush, and every so often it is looked whether they are.
const DESERT_PATIENCE: Duration = Duration::from_secs(5);
/// Range tombstones are worth a flush soon if they lie over so many bytes of tables, over more than the flush writes,
const COVERED_BYTES_MIN: u64 = 256 << 10;
/// and over this part of the keyspace: so what compactions rewrite for it stays a small multiple of what comes back.
const COVERED_PART_MIN: u64 = 16;
/// In more pieces than this their worth is not measured.
const MEASURED_PIECES_MAX: usize = 4096;
/// Deletes that nobody trips over still hold space below. If they are so many they are flushed, too, though not soon; and so are range
/// tombstones that lie over any table.
const DELETES_MIN: u64 = 64;
/// How long these wait.
const DELETES_PATIENCE: Duration = Duration::from_secs(120);

/// Freezes memtables full of deletes, whether or not anybody writes any more: only compaction makes deletes go away, and what is in
/// a memtable it does not see. Returns whether it did.
pub fn freeze_deserts(shared: &Shared) -> Result<bool> {
    let view = shared.view.load_owned();
    let now = shared.env.monotonic();
    let mut deserts = lock(&shared.deserts);
    let mut due = Vec::new();
    for keyspace in view.keyspaces() {
        let memtable = &keyspace.memtable;
        if memtable.delete_count() < DELETES_MIN && !memtable.has_range_deletes() {
            deserts.remove(&keyspace.id);
            continue;
        }
        let fresh = || Desert { memtable_id: memtable.id(), since: now, measured: now };
        let desert = deserts.entry(keyspace.id).or_insert_with(fresh);
        if desert.memtable_id != memtable.id() {
            *desert = fresh();
        }
        if is_worth_a_flush(keyspace, desert, now) {
            deserts.remove(&keyspace.id);
            due.push(keyspace.id);
        }
    }
    drop(deserts);
    for id in &due {
        freeze(shared, *id)?;
        shared.signal();
    }
    Ok(!due.is_empty())
}

fn is_worth_a_flush(keyspace: &KeyspaceView, desert: &mut Desert, now: Duration) -> bool {
    let memtable = &keyspace.memtable;
    let age = now.saturating_sub(desert.since);
    let patience = match memtable.delete_count() {
        DESERT_DELETES_MIN.. => DESERT_PATIENCE,
        DELETES_MIN.. => DELETES_PATIENCE,
        _ => Duration::MAX,
    };
    if age >= patience {
        return true;
    }
    if !memtable.has_range_deletes() || now.saturating_sub(desert.measured) < DESERT_PATIENCE {
        return false;
    }
    desert.measured = now;
    let is_old = age >= DELETES_PATIENCE;
    if memtable.range_delete_pieces() > MEASURED_PIECES_MAX {
        return is_old;
    }
    let (version, tombstones) = (&keyspace.version, memtable.range_tombstones());
    if is_old {
        return tombstones.fragments().iter().any(|fragment| {
            let range = KeyRange { start: &fragment.start, end: Bound::Excluded(&fragment.end) };
            !version.is_clear(0..LEVELS, &range)
        });
    }
    let part = version.bytes() / COVERED_PART_MIN;
    let worthwhile = COVERED_BYTES_MIN.max(memtable.bytes_used() as u64).max(part);
    version.covered_bytes(None, &tombstones) >= worthwhile
}

/// Freezes the memtable that holds back the log, if the log is larger than it may be. Returns whether it did.
pub fn bound_log(shared: &Shared) -> Result<bool> {
    if !shared.log.is_over_budget() {
        return Ok(false);
    }
    let current = shared.log.current_segment();
    let view = shared.view.load_owned();
    let oldest = view
        .keyspaces()
        .filter_map(|keyspace| Some((keyspace.memtable.lowest_segment()?, keyspace.id)))
        .min();
    match oldest {
        Some((segment, id)) if segment < current => {
            freeze(shared, id)?;
            shared.signal();
            Ok(true)
        }
        _ => Ok(false),
    }
}
