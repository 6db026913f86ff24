//! Commit: assign, fill, apply, publish.
//!
//! ```text
//! append lock {  room in the log and in the memtables  |  sequence numbers, LSN, ticket  |  record into the log's buffer  }
//! no lock     {  insert into the memtables, in parallel with other commits }
//! no lock     {  publish: `visible` passes the applied prefix;  wait until it has passed this commit }
//! no lock     {  durability: hand to the system / sync, as asked }
//! ```
//!
//! Nothing may fail between assign and publish: every check and every reservation comes before. If a thread unwinds there all
//! the same, a drop guard poisons the database, for its ticket would hold back `visible` for ever.

use crate::base::batch::{BatchReader, KeyspaceId, WriteBatch};
use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{Lsn, ValueKind};
use crate::base::metrics::Metrics;
use crate::base::options::{Durability, WriteOptions};
use crate::db::delay::{Cause, delay, worst};
use crate::db::state::{Shared, lock};
use crate::db::view::{KeyspaceView, View, ViewWriter};
use crate::memtable::memtable::Memtable;
use crate::memtable::skiplist::TOGETHER_MAX;
use crate::wal::log::AppendGuard;
use crossbeam_epoch::Guard;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many entries of a batch are worth looking ahead to together.
const AHEAD_MIN: usize = 3;

/// Something for each keyspace of a batch. Nearly always these are one to three, so it is a plain list that is not allocated.
type Each<T> = SmallVec<[(KeyspaceId, T); 4]>;

/// How many bytes of arena a batch needs in each keyspace.
type Needs = Each<usize>;

/// Commits a batch. On return it is visible and as durable as asked. Errors before anything was appended leave nothing
/// behind; an error from the log afterwards means "outcome unknown" and poisons.
pub fn commit(shared: &Shared, batch: &WriteBatch, options: &WriteOptions) -> Result<Lsn> {
    shared.check_writable()?;
    if options.obey_delay {
        wait_for_room(shared, batch.encoded_len())?;
    }
    if shared.low_space.load(Ordering::Relaxed) && !options.frees_space {
        return Err(Error::NoSpace { operation: "write below the reserve of", path: shared.path.clone() });
    }
    if batch.is_empty() {
        return Ok(shared.publisher.visible());
    }
    let lsn = append_and_apply(shared, batch, options)?;
    match options.durability {
        _ if options.disable_wal => {}
        Durability::Memory => {}
        Durability::Os => shared.log.write_to(lsn)?,
        Durability::Synced => shared.log.sync_to(lsn)?,
    }
    Ok(lsn)
}

/// How long a writer of `bytes` should wait before it writes, if at all.
pub fn write_delay(shared: &Shared, bytes: usize) -> Option<Duration> {
    delay(shared.pressure(), bytes, shared.drain_rate.bytes_per_second())
}

/// Counts a writer that was asked to wait for so long, by what held it up.
pub fn note_delay(shared: &Shared, wait: Duration) {
    let (metrics, us) = (&shared.metrics, wait.as_micros() as u64);
    Metrics::add(&metrics.write_delay_us, us);
    let of_cause = match worst(&shared.load()).1 {
        Cause::Memtables => &metrics.write_delay_memtables_us,
        Cause::Level0 => &metrics.write_delay_level0_us,
        Cause::Debt => &metrics.write_delay_debt_us,
    };
    Metrics::add(of_cause, us);
}

fn wait_for_room(shared: &Shared, bytes: usize) -> Result<()> {
    if !shared.threaded.load(Ordering::Relaxed) {
        // Nobody would drain while this thread waits; whoever steps the database decides.
        return Ok(());
    }
    let mut first = true;
    while let Some(wait) = write_delay(shared, bytes) {
        let hard = shared.pressure() >= 1.0;
        if !hard && !first {
            break;
        }
        if hard && shared.flush_lacks_space.load(Ordering::Relaxed) {
            return Err(Error::NoSpace { operation: "flush to make room in", path: shared.path.clone() });
        }
        if first {
            Metrics::add(&shared.metrics.write_delays, 1);
        }
        note_delay(shared, wait);
        first = false;
        shared.env.sleep(wait);
        shared.check_writable()?;
    }
    Ok(())
}

fn needs_of(batch: &WriteBatch) -> Result<Needs> {
    let mut needs = Needs::new();
    for entry in batch.entries() {
        let entry = entry.map_err(Error::invalid)?;
        let bytes = Memtable::entry_bytes_max(entry.key.len(), entry.value.len());
        match needs.iter_mut().find(|(id, _)| *id == entry.keyspace) {
            Some((_, total)) => *total += bytes,
            None => needs.push((entry.keyspace, bytes)),
        }
    }
    Ok(needs)
}

/// Poisons the database if a commit does not reach publish.
struct Unwinding<'a>(Option<&'a Shared>);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.poison("a commit unwound between assign and publish");
        }
    }
}

fn append_and_apply(shared: &Shared, batch: &WriteBatch, options: &WriteOptions) -> Result<Lsn> {
    let needs = needs_of(batch)?;
    let guard = crossbeam_epoch::pin();
    let mut append = lock_with_room(shared, batch, options)?;
    let memtables = reserve(shared, &needs, &mut append, &guard)?;

    let first = append.last_lsn() + 1;
    let last = first + u64::from(batch.count()) - 1;
    let unwinding = Unwinding(Some(shared));
    let segment = if options.disable_wal {
        append.skip(last);
        None
    } else {
        Some(append.append(first, last, batch))
    };
    for (_, memtable) in &memtables {
        memtable.begin_write();
        memtable.note_segment(segment, first, last);
    }
    let ticket = shared.publisher.assign();
    drop(append);

    apply(batch, first, &memtables);
    for (_, memtable) in &memtables {
        memtable.end_write();
    }
    shared.publisher.applied(ticket, last);
    std::mem::forget(unwinding);

    shared.metrics.batches_committed.add(1);
    shared.metrics.entries_committed.add(u64::from(batch.count()));
    if !shared.publisher.wait_visible(last) {
        return Err(Error::Poisoned(shared.log.poisoned().unwrap_or_else(|| "a commit was lost".into())));
    }
    Ok(last)
}

fn lock_with_room<'a>(
    shared: &'a Shared,
    batch: &WriteBatch,
    options: &WriteOptions,
) -> Result<AppendGuard<'a>> {
    let mut append = shared.log.lock();
    if !options.disable_wal {
        append.prepare(batch.encoded_len())?;
    }
    if shared.closed.load(Ordering::SeqCst) {
        return Err(Error::Closed);
    }
    Ok(append)
}

/// Finds each keyspace's memtable and claims room in it, switching to a new one where it is full. Under the append lock.
fn reserve<'g>(
    shared: &Shared,
    needs: &Needs,
    append: &mut AppendGuard<'_>,
    guard: &'g Guard,
) -> Result<Each<&'g Memtable>> {
    let mut memtables = Each::new();
    for &(id, bytes) in needs {
        let mut memtable = memtable_of(shared, id, guard)?;
        if !memtable.reserve(bytes) {
            switch_memtable(shared, id, bytes, append)?;
            memtable = memtable_of(shared, id, guard)?;
            if !memtable.reserve(bytes) {
                return Err(Error::invalid(format!("a batch of {bytes} bytes does not fit a memtable")));
            }
        }
        memtables.push((id, memtable));
    }
    Ok(memtables)
}

fn memtable_of<'g>(shared: &Shared, id: KeyspaceId, guard: &'g Guard) -> Result<&'g Memtable> {
    let view: &'g Arc<View> = shared.view.load(guard);
    let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    Ok(&keyspace.memtable)
}

fn apply(batch: &WriteBatch, first: Lsn, memtables: &[(KeyspaceId, &Memtable)]) {
    let (mut id, mut memtable) = memtables[0];
    // Entries from here on whose keys have been looked ahead to.
    let mut looked_at = 0;
    let mut rest = batch.entries();
    for sequence in first.. {
        let left = rest.clone();
        let Some(entry) = rest.next() else { return };
        let Ok(entry) = entry else { unreachable!("a batch is read by needs_of before it gets here") };
        if entry.keyspace != id {
            let found = memtables.iter().find(|(other, _)| *other == entry.keyspace);
            let Some(&found) = found else { unreachable!("needs_of lists every keyspace of the batch") };
            (id, memtable, looked_at) = (found.0, found.1, 0);
        }
        if looked_at == 0 && left.left() as usize >= AHEAD_MIN {
            looked_at = look_ahead(left, id, memtable);
        }
        looked_at = looked_at.saturating_sub(1);
        match entry.kind {
            ValueKind::RangeDelete => memtable.insert_range_delete(entry.key, entry.value, sequence),
            kind => memtable.insert(key_hash(entry.key), entry.key, sequence, kind, entry.value),
        }
    }
}

/// Looks ahead to the next entries that go to this memtable, if they are enough. Returns how many entries need not be looked at again.
fn look_ahead(entries: BatchReader<'_>, id: KeyspaceId, memtable: &Memtable) -> usize {
    let (mut keys, mut count) = ([(0, &b""[..]); TOGETHER_MAX], 0);
    let own =
        entries.flatten().take_while(|entry| entry.keyspace == id && entry.kind != ValueKind::RangeDelete);
    for (place, entry) in keys.iter_mut().zip(own) {
        (*place, count) = ((key_hash(entry.key), entry.key), count + 1);
    }
    if count >= AHEAD_MIN {
        memtable.look_ahead(&keys[..count], true);
    }
    count
}

/// Puts a fresh memtable in front of a keyspace's full one. Requires: the caller holds the append lock, so that no commit is
/// between finding the old memtable and registering with it.
pub fn switch_memtable(
    shared: &Shared,
    id: KeyspaceId,
    bytes: usize,
    _append: &mut AppendGuard<'_>,
) -> Result<()> {
    let fresh = match lock(&shared.spare_memtable).take() {
        Some(spare) if bytes <= shared.options.memtable_bytes => spare,
        _ => new_memtable(shared, shared.options.memtable_bytes.max(bytes))?,
    };
    let writer = shared.view.writer();
    install_memtable(&writer, id, fresh);
    drop(writer);
    shared.signal();
    Ok(())
}

fn new_memtable(shared: &Shared, capacity_bytes: usize) -> Result<Arc<Memtable>> {
    let id = shared.next_memtable.fetch_add(1, Ordering::Relaxed);
    Ok(Arc::new(Memtable::new(capacity_bytes, id)?))
}

/// Keeps a memtable ready once some keyspace's is half full. The first touch of each page costs a fault, and of a huge one the zeroing
/// of 2 MiB; this way a thread pays that for whom nobody waits.
pub fn prepare_spare(shared: &Shared) -> Result<()> {
    let half = shared.options.memtable_bytes / 2;
    let filling = |view: &View| view.keyspaces().any(|keyspace| keyspace.memtable.bytes_used() > half);
    if lock(&shared.spare_memtable).is_some() || !filling(&shared.view.load_owned()) {
        return Ok(());
    }
    // In memory that was used before, if there is some. Only here, where its index can be cleared while nobody waits, and only for
    // memtables of the usual size.
    let id = shared.next_memtable.fetch_add(1, Ordering::Relaxed);
    let spare = Memtable::within(&shared.maps, shared.options.memtable_bytes, id)?;
    spare.prefault();
    *lock(&shared.spare_memtable) = Some(Arc::new(spare));
    Ok(())
}

fn install_memtable(writer: &ViewWriter<'_>, id: KeyspaceId, fresh: Arc<Memtable>) {
    let view = writer.current();
    if let Some(old) = view.keyspace(id) {
        let mut next: KeyspaceView = (**old).clone();
        let full = std::mem::replace(&mut next.memtable, fresh);
        if full.last_sequence() > 0 {
            next.immutables.insert(0, full);
        }
        writer.replace(view.with(next));
    }
}
