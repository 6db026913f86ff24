//! Iterators over a keyspace: the merge of its memtables, L0 files and levels, as one reader may see them.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::iter::InternalIterator;
use crate::base::key::SequenceNumber;
use crate::base::options::{IterOptions, ReadOptions};
use crate::db::read::Reader;
use crate::db::state::Shared;
use crate::db::view::{KeyspaceView, View};
use crate::memtable::memtable::Memtable;
use crate::merge::indexed_batch::{IndexedBatch, Overlay};
use crate::merge::merging_iter::MergingIter;
use crate::merge::visible_iter::{RangeCover, VisibleIter};
use crate::table::table_iter::TableIterOptions;
use crate::version::file_meta::KeyRange;
use crate::version::level_cover::LevelCover;
use crate::version::level_iter::LevelIter;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// A memory-only iterator steps over so many versions that are not shown, then answers `NeedsIo`: about a millisecond.
const MEMORY_ONLY_SKIPS_MAX: u64 = 4096;

/// Walks the live keys of a keyspace, both ways, at one moment. Owned and `Send`; it pins the memtables and tables that it
/// started with, so do not keep it for hours.
///
/// ```
/// # use haypile_lsm::{Db, Options, MemEnv, IterOptions};
/// # let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default()).unwrap();
/// # let ks = db.default_keyspace();
/// for key in ["user:1", "user:2", "zebra"] {
///     db.put(ks, key.as_bytes(), b"").unwrap();
/// }
/// let mut iter = db.iter(ks, IterOptions::prefix(b"user:")).unwrap();
/// let mut seen = 0;
/// iter.seek_to_first().unwrap();
/// while iter.valid() {
///     seen += 1;
///     iter.next().unwrap();
/// }
/// assert_eq!(seen, 2);
/// ```
pub struct Iter {
    inner: VisibleIter,
    sequence: SequenceNumber,
    keyspace: KeyspaceId,
    /// Keeps tables and memtables alive.
    view: Arc<View>,
}

impl Drop for Iter {
    fn drop(&mut self) {
        if let Some((steps, first, last)) = self.inner.steps_in_vain()
            && let Some(keyspace) = self.view.keyspace(self.keyspace)
        {
            keyspace.wasted_steps.note(first, last, steps);
        }
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Iter {
    /// The sequence number it reads at.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// Has it stop on its way forward once it has stepped over about `versions` versions that are not shown: deleted keys, say.
    /// It then stands nowhere and says where to go on.
    pub fn stop_after(&mut self, versions: u64) {
        self.inner.stop_after(versions);
    }

    /// If it stopped before it came to a key or to the end: the key behind which to go on.
    pub fn stopped_behind(&self) -> Option<&[u8]> {
        self.inner.stopped_behind()
    }

    /// Whether it stands on a key.
    pub fn valid(&self) -> bool {
        self.inner.valid()
    }

    /// The key here; requires `valid()`.
    pub fn key(&self) -> &[u8] {
        self.inner.key()
    }

    /// The value here; requires `valid()`.
    pub fn value(&self) -> &[u8] {
        self.inner.value()
    }

    /// Goes to the first key.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.inner.seek_to_first()
    }

    /// Goes to the last key.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.inner.seek_to_last()
    }

    /// Goes to the first key at or above `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.inner.seek(key)
    }

    /// Goes to the last key below `key`.
    pub fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.inner.seek_before(key)
    }

    /// Goes to the next key; requires `valid()`.
    #[expect(
        clippy::should_implement_trait,
        reason = "the field's name for it; it cannot be an Iterator of borrowed items"
    )]
    pub fn next(&mut self) -> Result<()> {
        self.inner.next()
    }

    /// Hands keys and values to `f`, from the one here on, until it breaks; then it stands on the one at which it broke, else nowhere.
    /// Does what a loop over [`next`](Self::next) does, at a third of its cost where many keys in a row lie in one table or memtable.
    ///
    /// ```
    /// # use haypile_lsm::{Db, Options, MemEnv, IterOptions};
    /// # let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default()).unwrap();
    /// # let ks = db.default_keyspace();
    /// # for key in ["a", "b", "c"] {
    /// #     db.put(ks, key.as_bytes(), b"").unwrap();
    /// # }
    /// use std::ops::ControlFlow;
    /// let mut iter = db.iter(ks, IterOptions::default()).unwrap();
    /// iter.seek(b"b").unwrap();
    /// let mut keys = Vec::new();
    /// iter.for_each(|key, _value| {
    ///     keys.push(key.to_vec());
    ///     ControlFlow::Continue(())
    /// })
    /// .unwrap();
    /// assert_eq!(keys, [b"b", b"c"]);
    /// ```
    pub fn for_each(&mut self, f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<()> {
        self.for_each_tail(0, f)
    }

    /// The same in the other direction, as a loop over [`prev`](Self::prev).
    pub fn for_each_back(&mut self, f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<()> {
        self.for_each_tail_back(0, f)
    }

    /// [`for_each`](Self::for_each) for somebody who knows what the keys begin with: of each it hands over only what follows the first
    /// `skipped` bytes (nothing, if there are not that many). Where the keys of a table's block have no more than that in common, none is
    /// copied.
    ///
    /// ```
    /// # use haypile_lsm::{Db, Options, MemEnv, IterOptions};
    /// # let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default()).unwrap();
    /// # let ks = db.default_keyspace();
    /// # for key in ["hay:1", "hay:22"] {
    /// #     db.put(ks, key.as_bytes(), b"").unwrap();
    /// # }
    /// use std::ops::ControlFlow;
    /// let mut iter = db.iter(ks, IterOptions::default()).unwrap();
    /// iter.seek(b"hay:").unwrap();
    /// let mut numbers = Vec::new();
    /// iter.for_each_tail("hay:".len(), |number, _value| {
    ///     numbers.push(number.to_vec());
    ///     ControlFlow::Continue(())
    /// })
    /// .unwrap();
    /// assert_eq!(numbers, [&b"1"[..], b"22"]);
    /// ```
    pub fn for_each_tail(
        &mut self,
        skipped: usize,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.for_each_tail(skipped, f)
    }

    /// The same in the other direction.
    pub fn for_each_tail_back(
        &mut self,
        skipped: usize,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.for_each_tail_back(skipped, f)
    }

    /// Goes to the key before; requires `valid()`.
    pub fn prev(&mut self) -> Result<()> {
        self.inner.prev()
    }
}

/// Range tombstones of a memtable.
struct MemtableCover(Arc<Memtable>);

impl RangeCover for MemtableCover {
    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        self.0.newest_within(lower, upper, read)
    }

    fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        self.0.newest_covering(key, read)
    }
}

/// Everything an iterator merges, and what covers it.
pub struct Sources {
    /// Sorted sources, newest first.
    pub iters: Vec<Box<dyn InternalIterator>>,
    /// The first so many of them are in memory only.
    pub in_memory: usize,
    /// Range tombstones over them.
    pub covers: Vec<Arc<dyn RangeCover>>,
}

/// Collects the sources of one keyspace, as far as they overlap `bounds`, for a reader at `sequence`.
pub fn sources(
    shared: &Shared,
    keyspace: &KeyspaceView,
    bounds: &KeyRange<'_>,
    read: &ReadOptions,
    sequence: SequenceNumber,
) -> Result<Sources> {
    let mut sources = Sources { iters: Vec::new(), in_memory: 0, covers: Vec::new() };
    for memtable in std::iter::once(&keyspace.memtable).chain(&keyspace.immutables) {
        sources.iters.push(Box::new(memtable.iter_at(sequence)));
        sources.in_memory += 1;
        if memtable.has_range_deletes() {
            sources.covers.push(Arc::new(MemtableCover(memtable.clone())));
        }
    }
    let options = TableIterOptions { read: *read, readahead: true, ..TableIterOptions::default() };
    for (number, level) in keyspace.version.levels().iter().enumerate() {
        if number == 0 {
            for file in level.files().iter().filter(|file| file.meta().range().overlaps(bounds)) {
                let table = file.table(&shared.opener, read.memory_only)?;
                sources.iters.push(Box::new(table.iter(options)));
            }
        } else {
            let iter = LevelIter::new(level.clone(), shared.opener.clone(), options, bounds);
            if !iter.is_empty() {
                sources.iters.push(Box::new(iter));
            }
        }
        if level.has_range_deletes() {
            let cover = LevelCover::open(level, number == 0, &shared.opener, bounds, read.memory_only)?;
            if !cover.is_empty() {
                sources.covers.push(Arc::new(cover));
            }
        }
    }
    Ok(sources)
}

impl Reader {
    /// An iterator at this read point; of `options.read`, `sequence` and `synced_or` are not looked at.
    pub fn iter(&self, keyspace: KeyspaceId, options: IterOptions) -> Result<Iter> {
        iter(self, keyspace, options)
    }

    /// The same with an uncommitted batch laid over it: what the keyspace would hold had the batch been committed here.
    pub fn iter_with(
        &self,
        batch: &IndexedBatch,
        keyspace: KeyspaceId,
        options: IterOptions,
    ) -> Result<Iter> {
        iter_over(self, Some(batch), keyspace, options)
    }

    /// Looks a key up as if `batch` had been committed here, and hands the answer to `with`.
    pub fn read_with<R>(
        &self,
        batch: &IndexedBatch,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &ReadOptions,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        match batch.get(keyspace, key) {
            Some(Overlay::Value(value)) => Ok(with(Some(value))),
            Some(Overlay::Deleted) => Ok(with(None)),
            None => self.read(keyspace, key, options, with),
        }
    }
}

/// An iterator at a reader's read point.
pub fn iter(reader: &Reader, keyspace: KeyspaceId, options: IterOptions) -> Result<Iter> {
    iter_over(reader, None, keyspace, options)
}

fn iter_over(
    reader: &Reader,
    batch: Option<&IndexedBatch>,
    id: KeyspaceId,
    options: IterOptions,
) -> Result<Iter> {
    let view = reader.view().clone();
    let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    let bounds = KeyRange {
        start: options.lower.as_deref().unwrap_or_default(),
        end: options.upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded),
    };
    if bounds.is_empty() {
        // Nothing lies in it; the floors below want a range that is one.
        return Ok(Iter {
            inner: nothing(options, reader.sequence()),
            sequence: reader.sequence(),
            keyspace: id,
            view,
        });
    }
    let mut sources = sources(reader.shared(), keyspace, &bounds, &options.read, reader.sequence())?;
    if let Some(batch) = batch {
        sources.iters.insert(0, Box::new(batch.overlay(id)));
        sources.in_memory += 1;
        sources.covers.push(batch.cover(id));
    }
    let sequence = reader.sequence();
    let merged = MergingIter::new(sources.iters).with_sources_in_memory(sources.in_memory);
    let mut inner = VisibleIter::new(merged, sources.covers, sequence, options.lower, options.upper);
    if options.read.memory_only {
        inner = inner.with_skip_limit(MEMORY_ONLY_SKIPS_MAX);
    }
    Ok(Iter { inner, sequence, keyspace: id, view })
}

fn nothing(options: IterOptions, sequence: SequenceNumber) -> VisibleIter {
    VisibleIter::new(MergingIter::new(Vec::new()), Vec::new(), sequence, options.lower, options.upper)
}
