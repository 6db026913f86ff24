//! The memtable: the newest writes of one keyspace, sorted, until they are flushed to a table.
//!
//! ```text
//! key -> hash index -> node -> version #9 -> version #4        point entries: skiplist.rs, hash_index.rs
//! range tombstones -> boundaries under a lock                  few, and free for those who have none
//! ```
//!
//! Life: under the commit lock a writer `reserve`s room, calls `begin_write` and `note_segment`; then, beside other
//! writers, it `insert`s its entries, which cannot fail, and calls `end_write`; then its sequence numbers become
//! visible. Once the memtable is full another takes its place (under the commit lock), and as soon as it `is_quiet`
//! it never changes again and can be flushed.
//!
//! A read names the sequence number it reads at. It sees each write at or below it whose `insert` happened before;
//! visibility, which brings that order about, is the commit pipeline's business.
//!
//! Point entries and range tombstones are kept and asked for apart: whoever reads puts the two together.
//!
//! It deliberately never waits for I/O, knows no snapshots, and drops no version before the flush.

use crate::base::error::Result;
use crate::base::iter::InternalIterator;
use crate::base::key::{SequenceNumber, ValueKind, VersionKey, pack_trailer, unpack_trailer};
use crate::base::range_delete::{Fragment, RangeTombstones, newest_at};
use crate::base::rng::Rng;
use crate::base::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::memtable::arena::OwnCacheLine;
use crate::memtable::hash_index::{HashIndex, Lookup};
use crate::memtable::skiplist::{Cursor, HEIGHT_MAX, NodeRef, SkipList, ValueAt, VersionRef};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// No write of this memtable is in the log.
const NO_SEGMENT: u64 = u64::MAX;

/// See the head of the file.
pub struct Memtable {
    id: u64,
    list: Arc<SkipList>,
    index: HashIndex,
    has_range_deletes: AtomicBool,
    range_deletes: RwLock<RangeDeletes>,
    counts: OwnCacheLine<Counts>,
}

/// What every write changes.
struct Counts {
    /// Writers between `begin_write` and `end_write`.
    writers: AtomicUsize,
    entries: AtomicU64,
    lowest_segment: AtomicU64,
    first_sequence: AtomicU64,
    last_sequence: AtomicU64,
}

/// What [`Memtable::get`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemtableHit<'a> {
    /// When it was written.
    pub sequence: SequenceNumber,
    /// `Put` or `Delete`.
    pub kind: ValueKind,
    /// The value; empty for a delete.
    pub value: &'a [u8],
    /// Finds the value again through [`Memtable::value_at`], for those who hold the memtable and must not borrow it.
    pub value_at: ValueAt,
}

impl Memtable {
    /// An empty memtable with room for `arena_bytes` of entries as [`entry_bytes_max`](Self::entry_bytes_max) counts
    /// them. `id` is the caller's. Errors: `InvalidArgument` for more than
    /// [`ARENA_BYTES_MAX`](crate::base::limits::ARENA_BYTES_MAX), `Io` if the system has no memory to map.
    pub fn new(arena_bytes: usize, id: u64) -> Result<Memtable> {
        let list = Arc::new(SkipList::new(arena_bytes)?);
        let index = HashIndex::new(&list, arena_bytes)?;
        let counts = Counts {
            writers: AtomicUsize::new(0),
            entries: AtomicU64::new(0),
            lowest_segment: AtomicU64::new(NO_SEGMENT),
            first_sequence: AtomicU64::new(0),
            last_sequence: AtomicU64::new(0),
        };
        Ok(Memtable {
            id,
            list,
            index,
            has_range_deletes: AtomicBool::new(false),
            range_deletes: RwLock::default(),
            counts: OwnCacheLine(counts),
        })
    }

    /// Upper bound, in bytes, of what an entry takes, whatever tower it gets. For a range tombstone, give the lengths of
    /// its two ends.
    pub const fn entry_bytes_max(key_len: usize, value_len: usize) -> usize {
        SkipList::entry_bytes_max(key_len, value_len)
    }

    /// Claims room for entries whose `entry_bytes_max` add up to `bytes`, so that inserting them cannot fail. False: no
    /// room, nothing was claimed. What the entries then do not need is free again.
    pub fn reserve(&self, bytes: usize) -> bool {
        self.list.arena().reserve(bytes)
    }

    /// A write is on its way; called under the commit lock.
    pub fn begin_write(&self) {
        // Relaxed: who asks `is_quiet` has taken the commit lock since, to put another memtable in this one's place.
        self.counts.0.writers.fetch_add(1, Ordering::Relaxed);
    }

    /// The write has inserted all it had.
    pub fn end_write(&self) {
        // Release: pairs with the Acquire in `is_quiet`.
        let before = self.counts.0.writers.fetch_sub(1, Ordering::Release);
        debug_assert_ne!(before, 0, "end_write without begin_write");
    }

    /// Whether no write is on its way. True for ever once true of a memtable that takes no new writes.
    pub fn is_quiet(&self) -> bool {
        // Acquire: pairs with the Release in `end_write`; all entries are seen.
        self.counts.0.writers.load(Ordering::Acquire) == 0
    }

    /// Adds a `Put` or `Delete`. `hash` is the [`key_hash`](crate::base::hash::key_hash) of `key`. Room must have been
    /// reserved, `entry_bytes_max` of just this entry. No two entries have the same key and sequence number.
    pub fn insert(&self, hash: u64, key: &[u8], sequence: SequenceNumber, kind: ValueKind, value: &[u8]) {
        debug_assert!(kind != ValueKind::RangeDelete && (kind == ValueKind::Put || value.is_empty()));
        let trailer = pack_trailer(sequence, kind);
        let claimed = Memtable::entry_bytes_max(key.len(), value.len());
        if let Lookup::Found(node) = self.index.get(&self.list, hash, key) {
            self.list.insert_version(node, trailer, value, claimed);
        } else {
            let node = self.list.insert(key, trailer, value, tower_height(hash, sequence), claimed);
            self.index.insert(hash, node);
        }
        self.count_entry();
    }

    /// Adds a range tombstone over `[start, end)`. Room must have been reserved, `entry_bytes_max(start.len(),
    /// end.len())`; the tombstone lives elsewhere, but is charged for.
    pub fn insert_range_delete(&self, start: &[u8], end: &[u8], sequence: SequenceNumber) {
        let claimed = Memtable::entry_bytes_max(start.len(), end.len());
        self.list.arena().allocate(claimed, claimed);
        self.range_deletes.write().unwrap_or_else(PoisonError::into_inner).insert(start, end, sequence);
        // Release: pairs with the Acquire in `has_range_deletes`.
        self.has_range_deletes.store(true, Ordering::Release);
        self.count_entry();
    }

    fn count_entry(&self) {
        // Relaxed: a statistic; exact for who has seen `is_quiet`.
        self.counts.0.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// The newest point version of `key` at or below `read`. Range tombstones are not looked at:
    /// see [`newest_covering`](Self::newest_covering).
    pub fn get(&self, hash: u64, key: &[u8], read: SequenceNumber) -> Option<MemtableHit<'_>> {
        let version = self.find(hash, key)?.newest_at(seek_trailer(read))?;
        let (sequence, kind) = unpack(version);
        Some(MemtableHit { sequence, kind, value: version.value(), value_at: version.value_at() })
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<NodeRef<'_>> {
        match self.index.get(&self.list, hash, key) {
            Lookup::Found(node) => Some(node),
            Lookup::Absent => None,
            Lookup::Unknown => self.list.find(key),
        }
    }

    /// The value that a [`MemtableHit`] of this memtable named. Panics if it was another memtable's.
    pub fn value_at(&self, at: ValueAt) -> &[u8] {
        self.list.value_at(at)
    }

    /// Whether there is any range tombstone.
    pub fn has_range_deletes(&self) -> bool {
        // Acquire: pairs with the Release in `insert_range_delete`.
        self.has_range_deletes.load(Ordering::Acquire)
    }

    /// Sequence number of the newest range tombstone over `key` at or below `read`; 0 if there is none.
    pub fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        if !self.has_range_deletes() {
            return 0;
        }
        self.range_deletes.read().unwrap_or_else(PoisonError::into_inner).newest_covering(key, read)
    }

    /// All range tombstones.
    pub fn range_tombstones(&self) -> RangeTombstones {
        if !self.has_range_deletes() {
            return RangeTombstones::default();
        }
        self.range_deletes.read().unwrap_or_else(PoisonError::into_inner).to_tombstones()
    }

    /// An iterator over the point versions, which keeps the memtable alive.
    pub fn iter(self: &Arc<Self>) -> MemtableIter {
        MemtableIter { cursor: Cursor::new(self.list.clone()), _memtable: self.clone() }
    }

    /// Remembers that entries `first..=last` are in segment `wal_segment` of the log (`None`: written without the log).
    /// Called under the commit lock, so by one thread at a time.
    pub fn note_segment(&self, wal_segment: Option<u64>, first: SequenceNumber, last: SequenceNumber) {
        // Relaxed: one writer at a time; the readers have taken the commit lock since, or only want a rough idea.
        let lower = |word: &AtomicU64, value, none| {
            let now = word.load(Ordering::Relaxed);
            if now == none || value < now {
                word.store(value, Ordering::Relaxed);
            }
        };
        let counts = &self.counts.0;
        if let Some(segment) = wal_segment {
            lower(&counts.lowest_segment, segment, NO_SEGMENT);
        }
        lower(&counts.first_sequence, first, 0);
        if last > counts.last_sequence.load(Ordering::Relaxed) {
            counts.last_sequence.store(last, Ordering::Relaxed);
        }
    }

    /// The oldest segment of the log that is needed to make this memtable again.
    pub fn lowest_segment(&self) -> Option<u64> {
        let segment = self.counts.0.lowest_segment.load(Ordering::Relaxed);
        (segment != NO_SEGMENT).then_some(segment)
    }

    /// Lowest sequence number noted; 0 if none was.
    pub fn first_sequence(&self) -> SequenceNumber {
        self.counts.0.first_sequence.load(Ordering::Relaxed)
    }

    /// Highest sequence number noted; 0 if none was.
    pub fn last_sequence(&self) -> SequenceNumber {
        self.counts.0.last_sequence.load(Ordering::Relaxed)
    }

    /// How many entries were inserted, range tombstones included.
    pub fn entry_count(&self) -> u64 {
        self.counts.0.entries.load(Ordering::Relaxed)
    }

    /// Whether nothing was inserted.
    pub fn is_empty(&self) -> bool {
        self.entry_count() == 0
    }

    /// Bytes of the arena in use.
    pub fn bytes_used(&self) -> usize {
        self.list.arena().used_bytes()
    }

    /// Bytes of the arena.
    pub fn capacity_bytes(&self) -> usize {
        self.list.arena().capacity_bytes()
    }

    /// Bytes of the hash index, which come on top of the arena.
    pub fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// The number given at its making.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Checks the order of all links; gives the number of keys and point versions. For tests.
    pub fn check(&self) -> (usize, usize) {
        self.list.check()
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("id", &self.id)
            .field("entries", &self.entry_count())
            .field("bytes_used", &self.bytes_used())
            .field("capacity_bytes", &self.capacity_bytes())
            .finish_non_exhaustive()
    }
}

/// The greatest trailer of a version that a read at `read` may see.
fn seek_trailer(read: SequenceNumber) -> u64 {
    read << 8 | 0xff
}

fn unpack(version: VersionRef<'_>) -> (SequenceNumber, ValueKind) {
    let Some(unpacked) = unpack_trailer(version.trailer()) else {
        unreachable!("only packed trailers are inserted")
    };
    unpacked
}

/// A random height: each level holds a quarter of the one below. Drawn from the key and the moment, so that a run can be
/// repeated exactly, threads share nothing, and the keys with tall towers cannot be told in advance.
fn tower_height(hash: u64, sequence: SequenceNumber) -> usize {
    let random = Rng::new(hash ^ sequence.rotate_left(32)).next_u64();
    (1 + random.leading_zeros() as usize / 2).min(HEIGHT_MAX)
}

/// Range tombstones as boundaries: each holds the sequence numbers, newest first, of the tombstones that lie over the
/// keys from it to the next boundary. A gap is a boundary with none.
#[derive(Default)]
struct RangeDeletes {
    boundaries: BTreeMap<Box<[u8]>, Vec<SequenceNumber>>,
}

impl RangeDeletes {
    fn insert(&mut self, start: &[u8], end: &[u8], sequence: SequenceNumber) {
        if start >= end {
            return;
        }
        self.cut(start);
        self.cut(end);
        let inside = (Bound::Included(start), Bound::Excluded(end));
        for (_, sequences) in self.boundaries.range_mut::<[u8], _>(inside) {
            let at = sequences.partition_point(|&other| other > sequence);
            if sequences.get(at) != Some(&sequence) {
                sequences.insert(at, sequence);
            }
        }
    }

    /// Makes a boundary at `key`, which changes nothing but the number of pieces.
    fn cut(&mut self, key: &[u8]) {
        if !self.boundaries.contains_key(key) {
            let over = self.over(key).to_vec();
            self.boundaries.insert(key.into(), over);
        }
    }

    /// The sequence numbers of all tombstones over `key`, newest first.
    fn over(&self, key: &[u8]) -> &[SequenceNumber] {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        self.boundaries.range::<[u8], _>(up_to).next_back().map_or(&[], |(_, sequences)| sequences)
    }

    fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        newest_at(self.over(key), read)
    }

    fn to_tombstones(&self) -> RangeTombstones {
        let mut fragments: Vec<Fragment> = Vec::new();
        for ((start, sequences), (end, _)) in self.boundaries.iter().zip(self.boundaries.iter().skip(1)) {
            match fragments.last_mut() {
                _ if sequences.is_empty() => {}
                Some(last) if *last.end == **start && last.sequences == *sequences => last.end = end.to_vec(),
                _ => fragments.push(Fragment {
                    start: start.to_vec(),
                    end: end.to_vec(),
                    sequences: sequences.clone(),
                }),
            }
        }
        let Some(tombstones) = RangeTombstones::from_fragments(fragments) else {
            unreachable!("boundaries are sorted and their lists descend")
        };
        tombstones
    }
}

/// All point versions of a memtable in order; see [`Memtable::iter`]. It sees what was inserted before it moves, and
/// may or may not see what is inserted meanwhile.
pub struct MemtableIter {
    cursor: Cursor,
    /// The memory of a memtable counts as long as somebody reads in it.
    _memtable: Arc<Memtable>,
}

impl InternalIterator for MemtableIter {
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.cursor.seek_to_first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.cursor.seek_to_last();
        Ok(())
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.cursor.seek(target.user_key, pack_trailer(target.sequence, target.kind));
        Ok(())
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.cursor.seek_before(target.user_key, pack_trailer(target.sequence, target.kind));
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.cursor.next();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.cursor.prev();
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    fn trailer(&self) -> u64 {
        self.cursor.version().trailer()
    }

    fn value(&self) -> &[u8] {
        self.cursor.version().value()
    }
}
