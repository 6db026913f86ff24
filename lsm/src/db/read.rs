//! Point reads: memtables newest to oldest, L0 newest to oldest, then one file a level.
//!
//! A read works on one view and one sequence number. The number is `visible` (or the synced watermark, or a snapshot's),
//! loaded *after* the view: every table of that view came from jobs whose inputs were at or below it, so nothing that a
//! reader at this number needs has been dropped. The view is then looked at again: had a memtable been switched in between,
//! the number could cover writes that went to a memtable this view does not know.
//!
//! The first layer that knows the key decides, because layers are ordered by age. A range tombstone decides over everything
//! older than itself, and a negative filter never hides one: they are asked for apart from the filters.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{SequenceNumber, ValueKind};
use crate::base::options::ReadOptions;
use crate::block::block::Block;
use crate::db::state::Shared;
use crate::db::view::{KeyspaceView, View};
use crate::memtable::memtable::Memtable;
use crate::memtable::skiplist::{TOGETHER_MAX, ValueAt};
use crate::table::table::Table;
use crate::version::version::TableFile;
use crossbeam_epoch::Guard;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A value kept alive by what it lies in: no copy, and nothing but a block or a memtable is held.
#[derive(Clone, Debug)]
pub struct PinnedValue(Pin);

#[derive(Clone, Debug)]
enum Pin {
    Block(Arc<Block>, Range<usize>),
    Memtable(Arc<Memtable>, ValueAt),
}

impl Deref for PinnedValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Pin::Block(block, range) => &block.bytes()[range.clone()],
            Pin::Memtable(memtable, at) => memtable.value_at(*at),
        }
    }
}

impl AsRef<[u8]> for PinnedValue {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// What a layer said, borrowed from it.
pub enum Found<'g> {
    /// In a memtable.
    Memtable(&'g Arc<Memtable>, &'g [u8], ValueAt),
    /// In a table.
    Table(crate::table::table::TableHit<'g>),
}

impl Found<'_> {
    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        match self {
            Found::Memtable(_, value, _) => value,
            Found::Table(hit) => hit.value(),
        }
    }

    /// The value, kept alive on its own.
    pub fn pin(&self) -> PinnedValue {
        match self {
            Found::Memtable(memtable, _, at) => PinnedValue(Pin::Memtable((*memtable).clone(), *at)),
            Found::Table(hit) => {
                let (block, range) = hit.pin();
                PinnedValue(Pin::Block(block, range))
            }
        }
    }
}

/// The sequence number that `options` ask for. Must be called after the view was loaded.
pub fn read_point(shared: &Shared, options: &ReadOptions) -> SequenceNumber {
    match (options.sequence, options.synced_or) {
        (Some(sequence), _) => sequence,
        (None, Some(own)) if !shared.log.is_poisoned() => shared.log.synced().max(own),
        (None, _) => latest(shared),
    }
}

/// The newest moment that may be read. Once the log is poisoned that is what is on the disk for sure: nobody knows what of the rest a
/// restart will find. Nothing above the synced watermark ever gets into a table, so everything that a read there needs is kept.
pub fn latest(shared: &Shared) -> SequenceNumber {
    let visible = shared.publisher.visible();
    if shared.log.is_poisoned() { visible.min(shared.log.synced()) } else { visible }
}

/// A view and a sequence number that go together.
pub fn consistent<'g>(
    shared: &Shared,
    options: &ReadOptions,
    guard: &'g Guard,
) -> (&'g Arc<View>, SequenceNumber) {
    loop {
        let view = shared.view.load(guard);
        let sequence = read_point(shared, options);
        if Arc::ptr_eq(view, shared.view.load(guard)) {
            return (view, sequence);
        }
    }
}

/// Looks a key up and hands the answer to `with`.
pub fn read<R>(
    shared: &Shared,
    keyspace: KeyspaceId,
    key: &[u8],
    options: &ReadOptions,
    with: impl FnOnce(Option<Found<'_>>) -> R,
) -> Result<R> {
    shared.metrics.gets.add(1);
    let guard = crossbeam_epoch::pin();
    let (view, sequence) = consistent(shared, options, &guard);
    let keyspace =
        view.keyspace(keyspace).ok_or_else(|| Error::invalid(format!("no keyspace {keyspace}")))?;
    let found = find(shared, keyspace, key, sequence, options, &guard)?;
    Ok(with(found))
}

/// Looks a key up in one keyspace's view at `sequence`.
pub fn find<'g>(
    shared: &Shared,
    keyspace: &'g KeyspaceView,
    key: &[u8],
    sequence: SequenceNumber,
    options: &ReadOptions,
    guard: &'g Guard,
) -> Result<Option<Found<'g>>> {
    let hash = key_hash(key);
    for memtable in std::iter::once(&keyspace.memtable).chain(&keyspace.immutables) {
        let covered = memtable.newest_covering(key, sequence);
        if let Some(hit) = memtable.get(hash, key, sequence) {
            shared.metrics.gets_from_memtable.add(1);
            let live = hit.kind == ValueKind::Put && hit.sequence >= covered;
            return Ok(live.then_some(Found::Memtable(memtable, hit.value, hit.value_at)));
        }
        if covered > 0 {
            return Ok(None);
        }
    }
    for file in keyspace.version.files_for_key(key) {
        if let Layer::Decided(found) = ask_table(shared, file, hash, key, sequence, options, guard)? {
            return Ok(found);
        }
    }
    Ok(None)
}

enum Layer<'g> {
    Decided(Option<Found<'g>>),
    Unknown,
}

fn ask_table<'g>(
    shared: &Shared,
    file: &'g TableFile,
    hash: u64,
    key: &[u8],
    sequence: SequenceNumber,
    options: &ReadOptions,
    guard: &'g Guard,
) -> Result<Layer<'g>> {
    let table: &'g Arc<Table> = file.table(&shared.opener, options.memory_only)?;
    let covered = table.range_tombstones().newest_covering(key, sequence);
    if let Some(hit) = table.get(hash, key, sequence, options, guard)? {
        let live = hit.kind == ValueKind::Put && hit.sequence >= covered;
        return Ok(Layer::Decided(live.then_some(Found::Table(hit))));
    }
    Ok(if covered > 0 { Layer::Decided(None) } else { Layer::Unknown })
}

/// Whether a key may be there, from what is in memory: memtables, and the filters of tables. False is sure. Cost: no I/O.
pub fn may_contain(shared: &Shared, keyspace: KeyspaceId, key: &[u8]) -> bool {
    let guard = crossbeam_epoch::pin();
    let (view, sequence) = consistent(shared, &ReadOptions::default(), &guard);
    let Some(keyspace) = view.keyspace(keyspace) else { return false };
    let hash = key_hash(key);
    for memtable in std::iter::once(&keyspace.memtable).chain(&keyspace.immutables) {
        if let Some(hit) = memtable.get(hash, key, sequence) {
            return hit.kind == ValueKind::Put && hit.sequence >= memtable.newest_covering(key, sequence);
        }
        if memtable.newest_covering(key, sequence) > 0 {
            return false;
        }
    }
    for file in keyspace.version.files_for_key(key) {
        match file.table(&shared.opener, true) {
            Ok(table) if !table.may_contain(hash, key, &guard) => {}
            _ => return true,
        }
    }
    false
}

/// One read point for several reads. Owned and `Send`; holds memtables and tables, so keep it for one command.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    view: Arc<View>,
    sequence: SequenceNumber,
}

impl Reader {
    /// A read point as `options` ask for.
    pub fn new(shared: Arc<Shared>, options: &ReadOptions) -> Reader {
        let guard = crossbeam_epoch::pin();
        let (view, sequence) = consistent(&shared, options, &guard);
        let view = view.clone();
        drop(guard);
        Reader { shared, view, sequence }
    }

    /// Where it stands.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// The view it reads.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The database it reads.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Looks a key up and hands the answer to `with`. `options.sequence` and `synced_or` are not looked at.
    pub fn read<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &ReadOptions,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let guard = crossbeam_epoch::pin();
        let keyspace =
            self.view.keyspace(keyspace).ok_or_else(|| Error::invalid(format!("no keyspace {keyspace}")))?;
        self.shared.metrics.gets.add(1);
        let found = find(&self.shared, keyspace, key, self.sequence, options, &guard)?;
        Ok(with(found.as_ref().map(Found::value)))
    }

    /// Looks a key up and keeps the value alive.
    pub fn get_pinned(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<PinnedValue>> {
        let guard = crossbeam_epoch::pin();
        let keyspace =
            self.view.keyspace(keyspace).ok_or_else(|| Error::invalid(format!("no keyspace {keyspace}")))?;
        self.shared.metrics.gets.add(1);
        let found = find(&self.shared, keyspace, key, self.sequence, options, &guard)?;
        Ok(found.map(|found| found.pin()))
    }
}

/// Counts a memory-only read that could not be answered.
pub fn count_needs_io<R>(shared: &Shared, result: Result<R>) -> Result<R> {
    if matches!(result, Err(Error::NeedsIo)) {
        shared.metrics.reads_needing_io.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// See [`Db::look_ahead`](crate::db::db::Db::look_ahead).
pub fn look_ahead<'k>(
    shared: &Shared,
    keyspace: KeyspaceId,
    keys: impl Iterator<Item = &'k [u8]>,
    to_write: bool,
) {
    let guard = crossbeam_epoch::pin();
    let Some(keyspace) = shared.view.load(&guard).keyspace(keyspace) else { return };
    let (mut hashed, mut count) = ([(0, &b""[..]); TOGETHER_MAX], 0);
    for (place, key) in hashed.iter_mut().zip(keys) {
        (*place, count) = ((key_hash(key), key), count + 1);
    }
    let hashed = hashed.get(..count).unwrap_or_default();
    keyspace.memtable.look_ahead(hashed, to_write);
    keyspace.immutables.iter().for_each(|memtable| memtable.look_ahead(hashed, false));
}
