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
use crate::base::iter::{InternalIterator, RunKey, Take};
use crate::base::key::{SequenceNumber, ValueKind, VersionKey, pack_trailer, unpack_trailer};
use crate::base::range_delete::{Fragment, RangeTombstones, newest_at, newest_of_pieces};
use crate::base::rng::Rng;
use crate::base::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::memtable::arena::OwnCacheLine;
use crate::memtable::hash_index::{HashIndex, Lookup};
use crate::memtable::maps::Maps;
use crate::memtable::skiplist::{
    Cursor, HEIGHT_MAX, NewestCursor, NodeRef, SkipList, TOGETHER_MAX, ValueAt, VersionRef,
};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::ops::ControlFlow;
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
    deletes: AtomicU64,
    lowest_segment: AtomicU64,
    first_sequence: AtomicU64,
    last_sequence: AtomicU64,
}

/// Searches of a list with fewer bytes seldom wait for memory.
const SEARCHED_BYTES_MIN: usize = if cfg!(test) { 1 << 10 } else { 2 << 20 };

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
        Memtable::with_index_for(arena_bytes, arena_bytes, id, None)
    }

    /// The same in memory out of `maps`, to which it goes back.
    pub fn within(maps: &Arc<Maps>, arena_bytes: usize, id: u64) -> Result<Memtable> {
        Memtable::with_index_for(arena_bytes, arena_bytes, id, Some(maps))
    }

    /// As `new`, with an index as an arena of `indexed_bytes` would have it.
    fn with_index_for(
        arena_bytes: usize,
        indexed_bytes: usize,
        id: u64,
        maps: Option<&Arc<Maps>>,
    ) -> Result<Memtable> {
        let list = Arc::new(SkipList::within(arena_bytes, maps)?);
        let index = HashIndex::within(&list, indexed_bytes, maps)?;
        let counts = Counts {
            writers: AtomicUsize::new(0),
            entries: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
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

    /// Has the system back it with memory now instead of page by page as it fills. Cost: zeroing all of it.
    pub fn prefault(&self) {
        self.list.arena().prefault();
        self.index.prefault();
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
            let height = tower_height(hash, sequence);
            let node = self.list.insert_hinted(Some(hash), key, trailer, value, height, claimed);
            self.index.insert(hash, node);
        }
        if kind == ValueKind::Delete {
            self.counts.0.deletes.fetch_add(1, Ordering::Relaxed);
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

    /// Has what reads of these keys (up to [`TOGETHER_MAX`], with their hashes) and, `to_insert`, writes to them will look at fetched into the
    /// processor's cache. The waits for memory overlap, which those of the reads and writes themselves cannot.
    pub fn look_ahead(&self, keys: &[(u64, &[u8])], to_insert: bool) {
        let keys = &keys[..keys.len().min(TOGETHER_MAX)];
        keys.iter().for_each(|(hash, _)| self.index.touch(*hash));
        let mut nodes = [None; TOGETHER_MAX];
        for (place, (hash, _)) in nodes.iter_mut().zip(keys) {
            *place = self.index.likely(&self.list, *hash);
            place.iter().for_each(|node| self.list.prefetch_node(*node));
        }
        // Of a small list most is there anyway, and where insertions find their place without a search they need no help.
        if to_insert && self.bytes_used() >= SEARCHED_BYTES_MIN && !self.list.grows_in_places() {
            let missing = || nodes.iter().zip(keys).filter(|(node, _)| node.is_none()).map(|(_, key)| *key);
            if self.list.makes_use_of_searches(missing().count()) {
                self.list.search_together(missing());
            }
        }
        nodes.iter().flatten().for_each(|node| self.list.prefetch_newest(*node));
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

    /// The greatest sequence number at or below `read` of the range tombstones over keys in `[lower, upper)`, or, where these are in many
    /// pieces, `read`; 0 if there is none.
    pub fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        if !self.has_range_deletes() {
            return 0;
        }
        self.range_deletes.read().unwrap_or_else(PoisonError::into_inner).newest_within(lower, upper, read)
    }

    /// Into how many pieces its range tombstones cut the keys, those between them included.
    pub fn range_delete_pieces(&self) -> usize {
        self.range_deletes.read().unwrap_or_else(PoisonError::into_inner).boundaries.len()
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

    /// An iterator for a reader at `read`: of each key only the newest version at or below it. Every write at or below `read` must
    /// have been inserted already. Keeps the memtable alive.
    pub fn iter_at(self: &Arc<Self>, read: SequenceNumber) -> NewestIter {
        NewestIter {
            cursor: NewestCursor::new(self.list.clone(), seek_trailer(read)),
            _memtable: self.clone(),
        }
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

    /// How many of them are deletes of single keys.
    pub fn delete_count(&self) -> u64 {
        self.counts.0.deletes.load(Ordering::Relaxed)
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

/// A random height: each level holds half of the one below. Drawn from the key and the moment, so that a run can be
/// repeated exactly, threads share nothing, and the keys with tall towers cannot be told in advance.
fn tower_height(hash: u64, sequence: SequenceNumber) -> usize {
    let random = Rng::new(hash ^ sequence.rotate_left(32)).next_u64();
    (1 + random.leading_zeros() as usize).min(HEIGHT_MAX)
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

    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        let inside = (Bound::Excluded(lower), upper.map_or(Bound::Unbounded, Bound::Excluded));
        let begun = self.over(lower);
        if upper.is_some_and(|upper| upper <= lower) {
            return newest_at(begun, read);
        }
        let rest = self.boundaries.range::<[u8], _>(inside).map(|(_, sequences)| &**sequences);
        newest_of_pieces(std::iter::once(begun).chain(rest), read)
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

/// What a reader at one read point has to see of a memtable; see [`Memtable::iter_at`].
pub struct NewestIter {
    cursor: NewestCursor,
    /// The memory of a memtable counts as long as somebody reads in it.
    _memtable: Arc<Memtable>,
}

impl InternalIterator for NewestIter {
    fn run(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        Ok(self
            .cursor
            .run(steps, |key, version| take(RunKey::Whole(key), version.trailer(), version.value())))
    }

    fn steps_below(&self, bound: Option<&[u8]>) -> usize {
        self.cursor.steps_below(bound)
    }

    fn has_distinct_keys(&self) -> bool {
        true
    }

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::hash::key_hash;
    use crate::base::key::SEQUENCE_MAX;
    use crate::base::range_delete::RangeTombstone;
    use crate::base::rng::Rng;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::sync::Barrier;

    fn put(memtable: &Memtable, key: &[u8], sequence: SequenceNumber, value: &[u8]) -> bool {
        let fits = memtable.reserve(Memtable::entry_bytes_max(key.len(), value.len()));
        if fits {
            memtable.insert(key_hash(key), key, sequence, ValueKind::Put, value);
        }
        fits
    }

    fn delete_range(memtable: &Memtable, start: &[u8], end: &[u8], sequence: SequenceNumber) {
        assert!(memtable.reserve(Memtable::entry_bytes_max(start.len(), end.len())));
        memtable.insert_range_delete(start, end, sequence);
    }

    /// Versions in order: newest first within a key, as the memtable has them.
    type Model = BTreeMap<Place, Vec<u8>>;
    /// User key and trailer.
    type Place = (Vec<u8>, Reverse<u64>);

    /// Few and often related keys: prefixes of each other, zeros, long shared beginnings.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(0u8..3, 0..4),
            vec(0u8..2, 6..11),
            (0u8..30).prop_map(|last| [b"a long beginning shared by ", &[last][..]].concat()),
        ]
    }

    /// From the second case on a memtable lies over what another one left.
    fn used_maps() -> Arc<Maps> {
        static MAPS: std::sync::OnceLock<Arc<Maps>> = std::sync::OnceLock::new();
        MAPS.get_or_init(|| Maps::new(2)).clone()
    }

    fn place_of(iter: &impl InternalIterator) -> Option<Place> {
        iter.valid().then(|| (iter.key().to_vec(), Reverse(iter.trailer())))
    }

    fn here(iter: &MemtableIter) -> Option<(Place, Vec<u8>)> {
        iter.valid().then(|| ((iter.key().to_vec(), Reverse(iter.trailer())), iter.value().to_vec()))
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            writes in vec((any_key(), any::<bool>(), vec(any::<u8>(), 0..40)), 0..120),
            order in any::<u64>(),
            probes in vec((any_key(), 0u64..130), 0..20),
            moves in vec((0u8..6, any_key(), 0u64..130), 0..60),
        ) {
            let memtable = Arc::new(Memtable::within(&used_maps(), 64 << 10, 7).unwrap());
            let mut model = Model::new();
            // Sequence numbers arrive in any order, as concurrent writers bring them.
            let mut sequences = (1..=writes.len() as u64).collect::<Vec<_>>();
            let mut rng = Rng::new(order);
            for at in (1..sequences.len()).rev() {
                sequences.swap(at, rng.below(at as u64 + 1) as usize);
            }
            for ((key, is_put, value), &sequence) in writes.iter().zip(&sequences) {
                let (kind, value) = if *is_put { (ValueKind::Put, &value[..]) } else { (ValueKind::Delete, &[][..]) };
                prop_assert!(memtable.reserve(Memtable::entry_bytes_max(key.len(), value.len())));
                memtable.insert(key_hash(key), key, sequence, kind, value);
                model.insert((key.clone(), Reverse(pack_trailer(sequence, kind))), value.to_vec());
            }
            prop_assert_eq!(memtable.entry_count(), writes.len() as u64);
            prop_assert_eq!(memtable.check().1, model.len());

            let written = writes.iter().map(|(key, ..)| (key.clone(), SEQUENCE_MAX));
            for (key, read) in probes.into_iter().chain(written) {
                let expected = model
                    .range((key.clone(), Reverse(seek_trailer(read)))..)
                    .next()
                    .filter(|((found, _), _)| *found == key);
                let hit = memtable.get(key_hash(&key), &key, read);
                prop_assert_eq!(
                    hit.map(|hit| (pack_trailer(hit.sequence, hit.kind), hit.value)),
                    expected.map(|((_, trailer), value)| (trailer.0, value.as_slice()))
                );
                if let Some(hit) = hit {
                    prop_assert_eq!(memtable.value_at(hit.value_at), hit.value);
                }
            }

            let mut iter = memtable.iter();
            prop_assert!(!iter.valid());
            iter.seek_to_first().unwrap();
            for (place, value) in &model {
                prop_assert_eq!(here(&iter), Some((place.clone(), value.clone())));
                iter.next().unwrap();
            }
            prop_assert!(!iter.valid());
            iter.seek_to_last().unwrap();
            for (place, value) in model.iter().rev() {
                prop_assert_eq!(here(&iter), Some((place.clone(), value.clone())));
                iter.prev().unwrap();
            }
            prop_assert!(!iter.valid());

            // A reader at a read point: of each key the newest version it may see.
            for read in 0..=writes.len() as u64 {
                let mut seen: Vec<Place> = Vec::new();
                for (key, trailer) in model.keys().filter(|(_, trailer)| trailer.0 <= seek_trailer(read)) {
                    if seen.last().is_none_or(|last| last.0 != *key) {
                        seen.push((key.clone(), *trailer));
                    }
                }
                let mut iter = memtable.iter_at(read);
                iter.seek_to_first().unwrap();
                for place in &seen {
                    prop_assert_eq!(place_of(&iter), Some(place.clone()));
                    prop_assert_eq!(iter.value(), &model[place][..]);
                    iter.next().unwrap();
                }
                prop_assert!(!iter.valid());
                iter.seek_to_last().unwrap();
                for place in seen.iter().rev() {
                    prop_assert_eq!(place_of(&iter), Some(place.clone()));
                    iter.prev().unwrap();
                }
                prop_assert!(!iter.valid());
                for (_, key, sequence) in &moves {
                    let target = VersionKey::seek(key, *sequence);
                    let place = (key.clone(), Reverse(pack_trailer(*sequence, target.kind)));
                    iter.seek(target).unwrap();
                    prop_assert_eq!(place_of(&iter), seen.iter().find(|seen| **seen >= place).cloned());
                    iter.seek_before(target).unwrap();
                    prop_assert_eq!(place_of(&iter), seen.iter().rfind(|seen| **seen < place).cloned());
                }
            }

            // Now any mixture of moves; `at` is where the iterator has to be.
            let mut at: Option<Place> = None;
            for (step, key, sequence) in moves {
                let target = VersionKey::seek(&key, sequence);
                let place = (key.clone(), Reverse(pack_trailer(sequence, target.kind)));
                match (step, at.clone()) {
                    (0, _) => {
                        iter.seek(target).unwrap();
                        at = model.range(place..).next().map(|(k, _)| k.clone());
                    }
                    (1, _) => {
                        iter.seek_before(target).unwrap();
                        at = model.range(..place).next_back().map(|(k, _)| k.clone());
                    }
                    (2 | 3, Some(from)) => {
                        iter.next().unwrap();
                        at = model.range((Bound::Excluded(from), Bound::Unbounded)).next().map(|(k, _)| k.clone());
                    }
                    (_, Some(from)) => {
                        iter.prev().unwrap();
                        at = model.range(..from).next_back().map(|(k, _)| k.clone());
                    }
                    _ => continue,
                }
                prop_assert_eq!(here(&iter).map(|(place, _)| place), at.clone());
            }
        }

        #[test]
        fn range_tombstones_agree_with_a_linear_search(
            ranges in vec((0u8..20, 0u8..20), 0..14),
            probes in vec((0u8..22, 0u64..16), 1..40),
        ) {
            let memtable = Memtable::new(64 << 10, 7).unwrap();
            let mut tombstones = Vec::new();
            for (&(start, end), sequence) in ranges.iter().zip(1..) {
                delete_range(&memtable, &[start], &[end], sequence);
                tombstones.push(RangeTombstone { start: vec![start], end: vec![end], sequence });
            }
            for (key, read) in probes {
                let covers = |t: &&RangeTombstone| t.start[0] <= key && key < t.end[0] && t.sequence <= read;
                let expected = tombstones.iter().filter(covers).map(|t| t.sequence).max().unwrap_or(0);
                prop_assert_eq!(memtable.newest_covering(&[key], read), expected);
                prop_assert_eq!(memtable.range_tombstones().newest_covering(&[key], read), expected);
                for upper in key + 1..22 {
                    let within = memtable.newest_within(&[key], Some(&[upper]), read);
                    let most = (key..upper).map(|key| memtable.newest_covering(&[key], read)).max();
                    prop_assert!(within == read || within == most.unwrap_or(0));
                    prop_assert!(Some(within) >= most);
                }
            }
            prop_assert_eq!(memtable.range_tombstones(), RangeTombstones::build(tombstones));
            prop_assert_eq!(memtable.has_range_deletes(), !ranges.is_empty());
        }

        #[test]
        fn what_was_reserved_always_fits(
            capacity in 64usize..4000,
            entries in vec((vec(any::<u8>(), 0..24), 0usize..40, any::<bool>()), 1..200),
        ) {
            let memtable = Memtable::new(capacity, 7).unwrap();
            let mut sequence = 0;
            let empty = memtable.bytes_used();
            // Writers reserve for whole batches and insert later, as here in groups of three.
            for batch in entries.chunks(3) {
                let bytes = batch.iter().map(|(key, len, _)| Memtable::entry_bytes_max(key.len(), *len)).sum();
                let before = memtable.bytes_used();
                if !memtable.reserve(bytes) {
                    // Nothing more than what it said was missing.
                    prop_assert!(before + bytes > memtable.capacity_bytes());
                    continue;
                }
                for (key, len, range) in batch {
                    sequence += 1;
                    if *range {
                        memtable.insert_range_delete(key, &vec![0xff; *len], sequence);
                    } else {
                        memtable.insert(key_hash(key), key, sequence, ValueKind::Put, &vec![1; *len]);
                    }
                }
                let used = memtable.bytes_used() - before;
                prop_assert!(used <= bytes && used > 0);
                prop_assert!(memtable.bytes_used() <= memtable.capacity_bytes());
            }
            // All claims were settled: whatever is free can be claimed.
            let free = memtable.capacity_bytes() - memtable.bytes_used();
            prop_assert!(memtable.reserve(free) && !memtable.reserve(1));
            prop_assert!(memtable.capacity_bytes() - empty >= capacity);
        }
    }

    #[test]
    fn a_long_chain_can_be_walked_both_ways() {
        let memtable = Arc::new(Memtable::new(8 << 20, 7).unwrap());
        for sequence in 1..=20_000 {
            assert!(put(&memtable, b"hot", sequence, &sequence.to_le_bytes()));
        }
        assert!(put(&memtable, b"cold", 30_000, b""));
        let mut iter = memtable.iter();
        iter.seek_to_last().unwrap();
        for sequence in 1..=20_000u64 {
            assert_eq!((iter.trailer() >> 8, iter.value()), (sequence, &sequence.to_le_bytes()[..]));
            iter.prev().unwrap();
        }
        assert_eq!(iter.key(), b"cold");
        assert_eq!(memtable.get(key_hash(b"hot"), b"hot", 10_000).unwrap().sequence, 10_000);
        assert_eq!(memtable.check(), (2, 20_001));
    }

    #[test]
    fn small_entries_saturate_the_index_and_are_still_found() {
        let memtable = Memtable::new(256 << 10, 7).unwrap();
        let mut keys = 0u32;
        while put(&memtable, &keys.to_le_bytes()[..3], 1 + u64::from(keys), b"") {
            keys += 1;
        }
        assert!(!memtable.index.is_complete());
        for key in 0..keys {
            let key = &key.to_le_bytes()[..3];
            assert!(memtable.get(key_hash(key), key, SEQUENCE_MAX).is_some());
        }
        for key in keys..keys + 1000 {
            let key = &key.to_le_bytes()[..3];
            assert!(memtable.get(key_hash(key), key, SEQUENCE_MAX).is_none());
        }
        assert_eq!(memtable.check(), (keys as usize, keys as usize));
    }

    #[test]
    fn notes_and_counts() {
        let memtable = Memtable::new(10_000, 42).unwrap();
        assert!(memtable.is_empty() && memtable.is_quiet() && memtable.id() == 42);
        assert_eq!(
            (memtable.lowest_segment(), memtable.first_sequence(), memtable.last_sequence()),
            (None, 0, 0)
        );
        memtable.note_segment(None, 10, 12);
        memtable.note_segment(Some(4), 13, 15);
        memtable.note_segment(Some(5), 16, 16);
        assert_eq!(memtable.lowest_segment(), Some(4));
        assert_eq!((memtable.first_sequence(), memtable.last_sequence()), (10, 16));
        memtable.begin_write();
        memtable.begin_write();
        memtable.end_write();
        assert!(!memtable.is_quiet());
        memtable.end_write();
        assert!(memtable.is_quiet());
        delete_range(&memtable, b"b", b"a", 3);
        assert!(!memtable.is_empty() && memtable.range_tombstones().is_empty());
        assert!(Memtable::new(usize::MAX, 1).is_err());
    }

    #[test]
    fn an_iterator_keeps_the_memory() {
        let memtable = Arc::new(Memtable::new(10_000, 1).unwrap());
        assert!(put(&memtable, b"k", 1, b"v"));
        let mut iter = memtable.iter();
        drop(memtable);
        iter.seek_to_first().unwrap();
        assert_eq!((iter.key(), iter.value()), (&b"k"[..], &b"v"[..]));
    }

    const THREADS: u64 = 8;
    const WRITES: u64 = if cfg!(miri) { 20 } else { 4000 };
    const KEYS: u64 = WRITES / 2;

    /// What thread `thread` writes as its `n`th: its own sequence number, on a key that all threads use.
    fn stress_write(thread: u64, n: u64) -> (Vec<u8>, SequenceNumber, Vec<u8>) {
        let key = (n * 7 + thread * 3) % KEYS;
        let sequence = 1 + n * THREADS + thread;
        (format!("key{key:05}").into_bytes(), sequence, sequence.to_le_bytes().repeat(1 + (n % 3) as usize))
    }

    fn stress(indexed_bytes: usize, index_must_saturate: bool) {
        let memtable = Arc::new(Memtable::with_index_for(16 << 20, indexed_bytes, 7, None).unwrap());
        let start = Barrier::new(THREADS as usize + 2);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (memtable, start, done) = (&memtable, &start, &done);
                scope.spawn(move || {
                    start.wait();
                    for n in 0..WRITES {
                        let (key, sequence, value) = stress_write(thread, n);
                        if n % 20 == 0 {
                            let next = (n..n + 16).map(|n| stress_write(thread, n).0).collect::<Vec<_>>();
                            let next = next.iter().map(|key| (key_hash(key), &key[..])).collect::<Vec<_>>();
                            memtable.look_ahead(&next, true);
                        }
                        memtable.begin_write();
                        assert!(put(memtable, &key, sequence, &value));
                        // A thread sees its own write at once, through the index.
                        let hit = memtable.get(key_hash(&key), &key, sequence).unwrap();
                        assert_eq!((hit.sequence, hit.value), (sequence, &value[..]));
                        memtable.end_write();
                        if n % 64 == 0 {
                            delete_range(memtable, &key, b"key99999", sequence);
                        }
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            for forwards in [true, false] {
                let (memtable, start, done) = (&memtable, &start, &done);
                scope.spawn(move || {
                    start.wait();
                    let mut seen_before = 0;
                    while done.load(Ordering::Acquire) < THREADS as usize {
                        let seen = walk(memtable, forwards);
                        assert!(seen >= seen_before, "versions have gone");
                        seen_before = seen;
                        memtable.newest_covering(b"key00100", SEQUENCE_MAX);
                    }
                });
            }
        });
        assert!(memtable.is_quiet());
        let mut expected = BTreeMap::new();
        for (thread, n) in (0..THREADS).flat_map(|thread| (0..WRITES).map(move |n| (thread, n))) {
            let (key, sequence, value) = stress_write(thread, n);
            expected.insert((key, Reverse(sequence)), value);
        }
        let mut iter = memtable.iter();
        iter.seek_to_first().unwrap();
        for ((key, Reverse(sequence)), value) in &expected {
            assert_eq!((iter.key(), iter.trailer() >> 8, iter.value()), (&key[..], *sequence, &value[..]));
            let hit = memtable.get(key_hash(key), key, *sequence).unwrap();
            assert_eq!((hit.sequence, hit.value), (*sequence, &value[..]));
            iter.next().unwrap();
        }
        assert!(!iter.valid());
        assert_eq!(memtable.check().1, expected.len());
        assert_eq!(walk(&memtable, false), expected.len());
        assert_eq!(memtable.index.is_complete(), !index_must_saturate);
    }

    /// Goes over everything, checks order and that values are whole; gives the number of versions.
    fn walk(memtable: &Arc<Memtable>, forwards: bool) -> usize {
        let mut iter = memtable.iter();
        let mut count = 0;
        let mut last: Option<Place> = None;
        if forwards { iter.seek_to_first() } else { iter.seek_to_last() }.unwrap();
        while let Some((place, value)) = here(&iter) {
            assert!(value.chunks(8).all(|chunk| chunk == (place.1.0 >> 8).to_le_bytes()), "a torn value");
            if let Some(last) = last.replace(place.clone()) {
                assert!(if forwards { last < place } else { place < last }, "out of order");
            }
            count += 1;
            if forwards { iter.next() } else { iter.prev() }.unwrap();
        }
        count
    }

    #[test]
    fn eight_writers_and_two_readers() {
        stress(16 << 20, false);
    }

    #[test]
    fn eight_writers_and_an_index_that_overflows() {
        stress(0, true);
    }
}
