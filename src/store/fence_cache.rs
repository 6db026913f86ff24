//! The fences of large sorted sets in memory: where each segment begins, and how many elements it has.
//!
//! On disk a fence is a record that every change of its segment writes anew. To find the segment of a place, or of a rank, one would
//! have to walk over them; here both are a search. What is here is only ever what the records say: it is read from them when a set is
//! first asked for, follows each commit, and may be dropped at any time.
//!
//! *Writers* hold the lock of the set's key, so of each set there is one at a time, and what it finds here is the latest state.
//!
//! ```text
//! take_off(what changes) -> commit -> land(lsn)          a flight that does not land forgets the sets
//! ```
//!
//! *Readers* hold no lock and read at some sequence number S, which may lie before or behind a writer's commit. While a flight
//! is on its way nothing is told about its sets, since a commit at or below S may not have arrived here. Commits above S are taken back:
//! the places of the last elements (`RECENT` of them) that came and went are kept with their LSN, and those above S are counted the other way.
//! A fence need not be that of an element, so any cut serves at any moment, and only the count before it depends on S.
//!
//! *Loading* by a reader: it must not install what a writer has moved on from meanwhile. `begin_load` refuses while a flight is on
//! its way, and when one of the shard has landed above S; one that takes off afterwards cancels the load.
//!
//! *Staged changes.* Within an EXEC a reader adds what the commands before it staged, which `staged` sums up, element by element.
//!
//! Bounded by bytes: beyond them sets that were used least recently go. A set that alone is too large is not loaded again.

use haypile_lsm::Lsn;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Independent parts, each with its lock.
const SHARDS: usize = 16;
/// So many elements that came or went are remembered for each set.
const RECENT: usize = 256;
/// So many changes of one command are kept by name: more than are remembered here, since what is known of the ends of a set follows them, too
/// (`store/end_places.rs`).
const NAMED_MAX: usize = 1024;
/// How often a reader looks again while a commit is on its way, which takes a microsecond or two.
const FLIGHT_SPINS: u32 = 100;
/// A piece of a list is cut in two when it has more segments.
const PIECE_MAX: usize = 64;

/// One element that came (1) or went (-1).
pub type ElementChange = (Box<[u8]>, i8);

/// What a command changes about the fences of one set.
#[derive(Debug, Default)]
pub struct FenceChange {
    /// Under which id the set lies.
    pub id: u64,
    /// Segments by where they begin (the head: nowhere), and their count now; `None` for those that are no more.
    pub segments: Vec<(Vec<u8>, Option<u64>)>,
    /// Elements that came and went.
    pub elements: Vec<ElementChange>,
    /// There were too many to name them.
    pub many: bool,
}

impl FenceChange {
    /// Notes an element.
    pub fn note(&mut self, place: &[u8], change: i8) {
        if self.elements.len() < NAMED_MAX {
            self.elements.push((place.into(), change));
        } else {
            self.many = true;
        }
    }
}

/// So many elements of one set that a transaction changes are kept; a reader behind more walks over the records.
const SUMS_MAX: usize = 4_096;

/// Elements of one set that came and went within a transaction, in order, each with the sum of the changes up to it.
#[derive(Debug, Default)]
pub struct ChangeSums {
    sums: Vec<(Box<[u8]>, i64)>,
    many: bool,
}

impl ChangeSums {
    /// Adds what a command changes. Cost of an element: linear in those behind it, but a step is an addition; with too many none is kept.
    pub fn add(&mut self, change: &FenceChange) {
        self.many |= change.many || self.sums.len() + change.elements.len() > SUMS_MAX;
        if self.many {
            self.sums = Vec::new();
            return;
        }
        for (place, by) in &change.elements {
            let at = self.sums.partition_point(|(own, _)| own < place);
            if self.sums.get(at).is_none_or(|(own, _)| own != place) {
                let before = at.checked_sub(1).map_or(0, |before| self.sums[before].1);
                self.sums.insert(at, (place.clone(), before));
            }
            self.sums[at..].iter_mut().for_each(|(_, sum)| *sum += i64::from(*by));
        }
    }

    /// How many more came than went before `place`.
    pub fn before(&self, place: &[u8]) -> i64 {
        let at = self.sums.partition_point(|(own, _)| **own < *place);
        at.checked_sub(1).map_or(0, |before| self.sums[before].1)
    }

    /// Whether every element is in here.
    pub fn is_complete(&self) -> bool {
        !self.many
    }
}

/// Where a search ended: so many elements lie before the segment that begins at `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Elements before it.
    pub before: u64,
    /// Its beginning; empty for the head.
    pub start: Vec<u8>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    start: Box<[u8]>,
    count: u64,
}

/// Consecutive segments.
#[derive(Clone, Debug, Default)]
struct Piece {
    sum: u64,
    segments: Vec<Segment>,
}

/// The segments of one set, in order; the first is the head, which begins nowhere.
#[derive(Clone, Debug)]
pub struct FenceList {
    /// None is empty; the first segment of the first one is the head.
    pieces: Vec<Piece>,
    bytes: usize,
}

/// Bytes of a segment beside its start.
const SEGMENT_BYTES: usize = size_of::<Segment>() + 16;

impl FenceList {
    /// A set without fences.
    pub fn new(head: u64) -> FenceList {
        let head = Segment { start: Box::default(), count: head };
        FenceList { pieces: vec![Piece { sum: head.count, segments: vec![head] }], bytes: SEGMENT_BYTES }
    }

    /// Adds a segment behind all others.
    pub fn push(&mut self, start: &[u8], count: u64) {
        if self.pieces.last().is_none_or(|piece| piece.segments.len() >= PIECE_MAX * 3 / 4) {
            self.pieces.push(Piece::default());
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.segments.push(Segment { start: start.into(), count });
            piece.sum += count;
            self.bytes += SEGMENT_BYTES + start.len();
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of the last piece and segment that begin at or before `place`.
    fn locate(&self, place: &[u8]) -> (usize, usize) {
        let begins = |piece: &Piece| piece.segments.first().is_some_and(|first| *first.start <= *place);
        let piece = self.pieces.partition_point(begins).saturating_sub(1);
        let segments = self.pieces.get(piece).map_or(&[][..], |piece| &piece.segments);
        (piece, segments.partition_point(|segment| *segment.start <= *place).saturating_sub(1))
    }

    fn get(&self, (piece, segment): (usize, usize)) -> Option<&Segment> {
        self.pieces.get(piece)?.segments.get(segment)
    }

    fn count_before(&self, (piece, segment): (usize, usize)) -> u64 {
        let pieces: u64 = self.pieces.iter().take(piece).map(|piece| piece.sum).sum();
        let own = self.pieces.get(piece).map_or(&[][..], |piece| &piece.segments);
        pieces + own.iter().take(segment).map(|segment| segment.count).sum::<u64>()
    }

    /// The segment that `place` lies in, and its count.
    fn at_or_before(&self, place: &[u8]) -> Option<(Vec<u8>, u64)> {
        self.get(self.locate(place)).map(|segment| (segment.start.to_vec(), segment.count))
    }

    /// The first segment behind `place`.
    fn behind(&self, place: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (piece, segment) = self.locate(place);
        let next = self.get((piece, segment + 1)).or_else(|| self.get((piece + 1, 0)))?;
        Some((next.start.to_vec(), next.count))
    }

    /// The last segment before `place`; `None` if that is the head's own beginning.
    fn before(&self, place: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (piece, segment) = self.locate(place);
        let here = self.get((piece, segment))?;
        if *here.start < *place {
            return Some((here.start.to_vec(), here.count));
        }
        let before = match segment.checked_sub(1) {
            Some(segment) => self.get((piece, segment)),
            None => self.pieces.get(piece.checked_sub(1)?)?.segments.last(),
        }?;
        Some((before.start.to_vec(), before.count))
    }

    /// Where the element with `rank` others before it lies; the last segment if there are fewer.
    fn locate_rank(&self, rank: u64) -> (usize, usize) {
        let mut left = rank;
        let last = self.pieces.len().saturating_sub(1);
        for (number, piece) in self.pieces.iter().enumerate() {
            if left >= piece.sum && number != last {
                left -= piece.sum;
                continue;
            }
            for (segment, own) in piece.segments.iter().enumerate() {
                if left < own.count || segment + 1 == piece.segments.len() {
                    return (number, segment);
                }
                left -= own.count;
            }
        }
        (0, 0)
    }

    fn previous(&self, (piece, segment): (usize, usize)) -> Option<(usize, usize)> {
        match segment.checked_sub(1) {
            Some(segment) => Some((piece, segment)),
            None => {
                let piece = piece.checked_sub(1)?;
                Some((piece, self.pieces.get(piece)?.segments.len().saturating_sub(1)))
            }
        }
    }

    /// Gives a segment another count, makes it, or takes it away. The head cannot go.
    fn set(&mut self, start: &[u8], count: Option<u64>) {
        let (number, at) = self.locate(start);
        let Some(piece) = self.pieces.get_mut(number) else { return };
        let is_there = piece.segments.get(at).is_some_and(|segment| *segment.start == *start);
        match (is_there, count) {
            (true, Some(count)) => {
                let segment = &mut piece.segments[at];
                piece.sum = piece.sum - segment.count + count;
                segment.count = count;
            }
            (false, Some(count)) => {
                piece.segments.insert(at + 1, Segment { start: start.into(), count });
                piece.sum += count;
                self.bytes += SEGMENT_BYTES + start.len();
                if piece.segments.len() > PIECE_MAX {
                    let segments = piece.segments.split_off(PIECE_MAX / 2);
                    let sum = segments.iter().map(|segment| segment.count).sum();
                    piece.sum -= sum;
                    self.pieces.insert(number + 1, Piece { sum, segments });
                }
            }
            (true, None) if !start.is_empty() => {
                let segment = piece.segments.remove(at);
                piece.sum -= segment.count;
                self.bytes -= SEGMENT_BYTES + segment.start.len();
                if piece.segments.is_empty() {
                    self.pieces.remove(number);
                }
            }
            (_, None) => {}
        }
    }
}

#[derive(Debug, Default)]
struct Set {
    list: Option<FenceList>,
    /// Writers between `begin` and `finish`; one, but for commands of one EXEC.
    flights: u32,
    /// Ticket of the one who loads it; 0 for none.
    loading: u64,
    /// Elements that came and went, by the LSN of their commits; all of those above `floor`.
    recent: VecDeque<(Lsn, ElementChange)>,
    floor: Lsn,
    used: u64,
    /// Too large to be here.
    refused: bool,
}

#[derive(Debug, Default)]
struct Shard {
    sets: HashMap<u64, Set>,
    /// The highest LSN that `finish` was called with.
    finished: Lsn,
    /// Counts uses.
    clock: u64,
}

/// See the module.
#[derive(Debug)]
pub struct FenceCache {
    shards: [Mutex<Shard>; SHARDS],
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A commit on its way; see [`FenceCache::take_off`].
#[derive(Debug)]
pub struct Flight<'c> {
    cache: &'c FenceCache,
    ids: Vec<u64>,
}

impl Flight<'_> {
    /// The commit was made, at `lsn`, and these are the changes it took off with.
    pub fn land(mut self, lsn: Lsn, changes: impl Iterator<Item = FenceChange>) {
        self.ids.clear();
        changes.for_each(|change| self.cache.finish(lsn, change));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.ids.iter().for_each(|id| self.cache.forget(*id));
    }
}

/// Read point of a writer, who holds the key's lock and reads the latest.
pub const LATEST: Lsn = Lsn::MAX;

impl Set {
    /// By how much fewer elements lay before `start` at `read` than do now.
    fn since(&self, read: Lsn, start: &[u8]) -> i64 {
        let above = self.recent.iter().rev().take_while(|(lsn, _)| *lsn > read);
        above.filter(|(_, (place, _))| **place < *start).map(|(_, (_, change))| i64::from(*change)).sum()
    }

    fn list_at(&self, read: Lsn) -> Option<&FenceList> {
        self.list.as_ref().filter(|_| self.flights == 0 && self.floor <= read)
    }
}

impl FenceCache {
    /// An empty one that keeps to so many bytes.
    pub fn new(bytes_max: usize) -> FenceCache {
        FenceCache { shards: Default::default(), bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Bytes in it, about.
    pub fn bytes(&self) -> usize {
        // Relaxed: a number for statistics and for the bound.
        self.bytes.load(Ordering::Relaxed)
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        let number = (id % SHARDS as u64) as usize;
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, id: u64, read: Lsn, f: impl FnOnce(&Set, &FenceList) -> R) -> Option<R> {
        for _ in 0..FLIGHT_SPINS {
            let mut shard = self.shard(id);
            shard.clock += 1;
            let clock = shard.clock;
            let set = shard.sets.get_mut(&id)?;
            set.used = clock;
            if set.flights == 0 {
                return Some(f(set, set.list_at(read)?));
            }
            drop(shard);
            std::hint::spin_loop();
        }
        None
    }

    /// Whether a set is here and would be told of.
    pub fn has(&self, id: u64, read: Lsn) -> bool {
        self.with(id, read, |_, _| ()).is_some()
    }

    /// Beginning and count of each segment, for tests; `None` if that is not known here.
    pub fn segments(&self, id: u64, read: Lsn) -> Option<Vec<(Vec<u8>, u64)>> {
        let latest = self.with(id, read, |set, list| {
            let is_latest = set.recent.back().is_none_or(|(lsn, _)| *lsn <= read);
            let segments = list.pieces.iter().flat_map(|piece| &piece.segments);
            is_latest.then(|| segments.map(|segment| (segment.start.to_vec(), segment.count)).collect())
        });
        latest.flatten()
    }

    /// Where the segment that `place` lies in begins, and how many elements lie before it. `staged`: how many more lie before a
    /// place than are committed. `None` if that is not known here.
    pub fn find_place(
        &self,
        id: u64,
        read: Lsn,
        place: &[u8],
        staged: impl Fn(&[u8]) -> i64,
    ) -> Option<Found> {
        self.with(id, read, |set, list| {
            let at = list.locate(place);
            let start = list.get(at)?.start.to_vec();
            let change = staged(&start) - set.since(read, &start);
            Some(Found { before: list.count_before(at).checked_add_signed(change)?, start })
        })?
    }

    /// The beginning of a segment at or not far before the element of this rank, with no more than `rank` elements before it.
    /// `None` if that is not known here.
    pub fn find_rank(&self, id: u64, read: Lsn, rank: u64, staged: impl Fn(&[u8]) -> i64) -> Option<Found> {
        self.with(id, read, |set, list| {
            let mut at = list.locate_rank(rank);
            loop {
                let start = &list.get(at)?.start;
                let change = staged(start) - set.since(read, start);
                let before = list.count_before(at).checked_add_signed(change)?;
                if before <= rank {
                    return Some(Found { before, start: start.to_vec() });
                }
                at = list.previous(at)?;
            }
        })?
    }

    /// For a writer: the segment that `place` lies in. `Err` if the set is not here.
    pub fn at_or_before(&self, id: u64, place: &[u8]) -> Option<Option<(Vec<u8>, u64)>> {
        self.with(id, LATEST, |_, list| list.at_or_before(place))
    }

    /// For a writer: the last segment that begins before `place`.
    pub fn before(&self, id: u64, place: &[u8]) -> Option<Option<(Vec<u8>, u64)>> {
        self.with(id, LATEST, |_, list| list.before(place))
    }

    /// For a writer: the first segment that begins behind `place`.
    pub fn behind(&self, id: u64, place: &[u8]) -> Option<Option<(Vec<u8>, u64)>> {
        self.with(id, LATEST, |_, list| list.behind(place))
    }

    // Loading.

    /// May a set be loaded as it is at `read`? A ticket for [`finish_load`](Self::finish_load).
    pub fn begin_load(&self, id: u64, read: Lsn) -> Option<u64> {
        let mut shard = self.shard(id);
        if shard.finished > read {
            return None;
        }
        shard.clock += 1;
        let ticket = shard.clock;
        let set = shard.sets.entry(id).or_default();
        if set.flights > 0 || set.refused {
            return None;
        }
        (set.loading, set.used) = (ticket, ticket);
        Some(ticket)
    }

    /// Installs what was read, unless the set has changed meanwhile. `floor`: every commit up to here is in it.
    pub fn finish_load(&self, id: u64, ticket: u64, list: FenceList, floor: Lsn) {
        let mut shard = self.shard(id);
        let Some(set) = shard.sets.get_mut(&id).filter(|set| set.loading == ticket) else { return };
        set.loading = 0;
        set.recent.clear();
        set.floor = floor;
        let bytes = list.bytes();
        if bytes > self.bytes_max {
            set.refused = true;
            let old = set.list.take().map_or(0, |old| old.bytes());
            self.account(old, 0);
            return;
        }
        let old = set.list.replace(list).map_or(0, |old| old.bytes());
        self.account(old, bytes);
        self.make_room(&mut shard, id);
    }

    /// Gives a load up.
    pub fn cancel_load(&self, id: u64, ticket: u64) {
        let mut shard = self.shard(id);
        if let Some(set) = shard.sets.get_mut(&id).filter(|set| set.loading == ticket) {
            set.loading = 0;
            if set.list.is_none() && set.flights == 0 {
                shard.sets.remove(&id);
            }
        }
    }

    // Changing.

    /// A commit with these changes is about to be made.
    pub fn take_off(&self, changes: &[FenceChange]) -> Flight<'_> {
        let ids: Vec<u64> = changes.iter().map(|change| change.id).collect();
        ids.iter().for_each(|id| self.begin(*id));
        Flight { cache: self, ids }
    }

    fn begin(&self, id: u64) {
        let mut shard = self.shard(id);
        let set = shard.sets.entry(id).or_default();
        set.flights += 1;
        set.loading = 0;
    }

    fn finish(&self, lsn: Lsn, change: FenceChange) {
        let id = change.id;
        let mut shard = self.shard(id);
        shard.finished = shard.finished.max(lsn);
        let Some(set) = shard.sets.get_mut(&id) else { return };
        set.flights = set.flights.saturating_sub(1);
        set.loading = 0;
        let Some(list) = &mut set.list else {
            if set.flights == 0 && !set.refused {
                shard.sets.remove(&id);
            }
            return;
        };
        let old = list.bytes();
        for (start, count) in &change.segments {
            list.set(start, *count);
        }
        let new = list.bytes();
        if change.many {
            set.recent.clear();
            set.floor = lsn;
        } else {
            for element in change.elements {
                if set.recent.len() == RECENT
                    && let Some((lsn, _)) = set.recent.pop_front()
                {
                    set.floor = set.floor.max(lsn);
                }
                set.recent.push_back((lsn, element));
            }
        }
        self.account(old, new);
        self.make_room(&mut shard, id);
    }

    fn forget(&self, id: u64) {
        if let Some(set) = self.shard(id).sets.remove(&id) {
            self.account(set.list.map_or(0, |list| list.bytes()), 0);
        }
    }

    fn account(&self, old: usize, new: usize) {
        // Relaxed: see `bytes`. Each list is counted under its shard's lock, so the sum never goes below zero.
        self.bytes.fetch_add(new, Ordering::Relaxed);
        self.bytes.fetch_sub(old, Ordering::Relaxed);
    }

    /// Drops what was used least recently: in this shard, then in others that nobody holds, `id` last.
    fn make_room(&self, shard: &mut Shard, id: u64) {
        self.drop_oldest(shard, Some(id));
        for other in &self.shards {
            if self.bytes() <= self.bytes_max {
                return;
            }
            // The own shard's lock is held, so it is among those that are passed by.
            if let Ok(mut other) = other.try_lock() {
                self.drop_oldest(&mut other, None);
            }
        }
        self.drop_oldest(shard, None);
    }

    fn drop_oldest(&self, shard: &mut Shard, but: Option<u64>) {
        while self.bytes() > self.bytes_max {
            let idle = |set: &Set| set.list.is_some() && set.flights == 0 && set.loading == 0;
            let others = shard.sets.iter().filter(|(id, set)| Some(**id) != but && idle(set));
            let Some(oldest) = others.min_by_key(|(_, set)| set.used).map(|(id, _)| *id) else { return };
            if let Some(set) = shard.sets.remove(&oldest) {
                self.account(set.list.map_or(0, |list| list.bytes()), 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const ID: u64 = 7;

    /// What the records of a set would say: its elements at each LSN, and its fences now.
    struct Model {
        states: Vec<(Lsn, BTreeSet<Vec<u8>>)>,
        fences: BTreeSet<Vec<u8>>,
    }

    impl Model {
        fn now(&self) -> &BTreeSet<Vec<u8>> {
            &self.states[self.states.len() - 1].1
        }

        fn at(&self, read: Lsn) -> &BTreeSet<Vec<u8>> {
            let number = self.states.partition_point(|(lsn, _)| *lsn <= read);
            &self.states[number - 1].1
        }

        fn counts(&self, elements: &BTreeSet<Vec<u8>>) -> BTreeMap<Vec<u8>, u64> {
            let mut counts: BTreeMap<Vec<u8>, u64> =
                self.fences.iter().map(|fence| (fence.clone(), 0)).collect();
            counts.insert(Vec::new(), 0);
            for element in elements {
                let (_, count) = counts.range_mut(..=element.clone()).next_back().unwrap();
                *count += 1;
            }
            counts
        }

        fn list(&self) -> FenceList {
            let mut counts = self.counts(self.now()).into_iter();
            let mut list = FenceList::new(counts.next().unwrap().1);
            counts.for_each(|(start, count)| list.push(&start, count));
            list
        }
    }

    fn place() -> impl Strategy<Value = Vec<u8>> {
        (0u16..600).prop_map(|number| number.to_be_bytes().to_vec())
    }

    proptest! {
        #[test]
        fn agrees_with_counting(
            first in proptest::collection::btree_set(place(), 1..300),
            fences in proptest::collection::btree_set(place(), 0..200),
            steps in proptest::collection::vec((place(), any::<bool>(), any::<bool>()), 0..400),
            probes in proptest::collection::vec((place(), 0u64..420), 1..40),
        ) {
            let mut model = Model { states: vec![(10, first)], fences };
            let cache = FenceCache::new(1 << 20);
            let ticket = cache.begin_load(ID, 10).unwrap();
            cache.finish_load(ID, ticket, model.list(), 10);
            for (lsn, (place, comes, fence)) in (11..).zip(steps) {
                // An element comes or goes, a fence comes or goes.
                let before = model.counts(model.now());
                let mut elements = model.now().clone();
                let mut change = FenceChange { id: ID, ..FenceChange::default() };
                let changed = if comes { elements.insert(place.clone()) } else { elements.remove(&place) };
                if changed {
                    change.note(&place, if comes { 1 } else { -1 });
                }
                if fence && !model.fences.remove(&place) {
                    model.fences.insert(place);
                }
                let after = model.counts(&elements);
                for (start, count) in &after {
                    if before.get(start) != Some(count) {
                        change.segments.push((start.clone(), Some(*count)));
                    }
                }
                let gone = before.keys().filter(|start| !after.contains_key(*start));
                change.segments.extend(gone.map(|start| (start.clone(), None)));
                model.states.push((lsn, elements));
                let changes = [change];
                let flight = cache.take_off(&changes);
                prop_assert!(cache.find_place(ID, LATEST, b"", |_| 0).is_none(), "told while a commit is on its way");
                flight.land(lsn, changes.into_iter());
            }
            let last = model.states[model.states.len() - 1].0;
            let counts: Vec<_> = model.counts(model.now()).into_iter().collect();
            prop_assert_eq!(cache.segments(ID, LATEST), Some(counts.clone()));
            for (place, back) in probes {
                let read = last.saturating_sub(back).max(10);
                let elements = model.at(read);
                match cache.find_place(ID, read, &place, |_| 0) {
                    None => prop_assert!(back as usize > RECENT / 2, "not told of {back} commits ago"),
                    Some(found) => {
                        prop_assert!(found.start <= place);
                        let before = elements.range(..found.start).count() as u64;
                        prop_assert_eq!(found.before, before);
                        let rank = elements.range(..place.clone()).count() as u64;
                        let found = cache.find_rank(ID, read, rank, |_| 0).unwrap();
                        prop_assert!(found.before <= rank);
                        prop_assert_eq!(found.before, elements.range(..found.start).count() as u64);
                    }
                }
                let behind = counts.iter().find(|(start, _)| *start > place).cloned();
                prop_assert_eq!(cache.behind(ID, &place), Some(behind));
                let before = counts.iter().rfind(|(start, _)| *start < place).cloned();
                prop_assert_eq!(cache.before(ID, &place), Some(before));
                let here = counts.iter().rfind(|(start, _)| *start <= place).cloned();
                prop_assert_eq!(cache.at_or_before(ID, &place), Some(here));
            }
        }
    }

    fn change(id: u64) -> [FenceChange; 1] {
        [FenceChange { id, segments: vec![(Vec::new(), Some(3))], ..FenceChange::default() }]
    }

    #[test]
    fn a_load_that_a_commit_overtakes_installs_nothing() {
        let cache = FenceCache::new(1 << 20);
        let ticket = cache.begin_load(ID, 5).unwrap();
        let changes = change(ID);
        cache.take_off(&changes).land(6, changes.into_iter());
        cache.finish_load(ID, ticket, FenceList::new(2), 5);
        assert!(!cache.has(ID, LATEST));
        // At 5 nothing can be loaded any more, since the commit at 6 would be missed.
        assert_eq!(cache.begin_load(ID, 5), None);
        assert!(cache.begin_load(ID, 6).is_some());
    }

    #[test]
    fn nothing_is_loaded_beside_a_commit_on_its_way() {
        let cache = FenceCache::new(1 << 20);
        let changes = change(ID);
        let flight = cache.take_off(&changes);
        assert_eq!(cache.begin_load(ID, 9), None);
        flight.land(9, changes.into_iter());
        let ticket = cache.begin_load(ID, 9).unwrap();
        cache.finish_load(ID, ticket, FenceList::new(3), 9);
        // One that does not land leaves nothing.
        let changes = change(ID);
        drop(cache.take_off(&changes));
        assert!(!cache.has(ID, LATEST) && cache.bytes() == 0);
    }

    #[test]
    fn what_was_used_least_recently_goes() {
        let list = || {
            let mut list = FenceList::new(1);
            (0..100u16).for_each(|number| list.push(&number.to_be_bytes(), 1));
            list
        };
        let cache = FenceCache::new(list().bytes() * 2);
        // Ids of one shard.
        let ids = [1, 1 + SHARDS as u64, 1 + 2 * SHARDS as u64];
        for id in ids {
            let ticket = cache.begin_load(id, LATEST).unwrap();
            cache.finish_load(id, ticket, list(), 1);
            assert!(cache.has(ids[0], LATEST));
        }
        assert!(!cache.has(ids[1], LATEST) && cache.has(ids[2], LATEST));
        assert!(cache.bytes() <= list().bytes() * 2);
        // One of another shard makes room as well.
        let ticket = cache.begin_load(2, LATEST).unwrap();
        cache.finish_load(2, ticket, list(), 1);
        assert!(cache.has(2, LATEST) && cache.bytes() <= list().bytes() * 2);
        let small = FenceCache::new(list().bytes() - 1);
        let ticket = small.begin_load(ID, LATEST).unwrap();
        small.finish_load(ID, ticket, list(), 1);
        assert!(!small.has(ID, LATEST) && small.bytes() == 0);
        assert_eq!(small.begin_load(ID, LATEST), None, "it was too large just now");
    }

    proptest! {
        #[test]
        fn sums_of_changes_agree_with_adding_them_up(
            changes in proptest::collection::vec(proptest::collection::vec((0u8..20, -1i8..=1), 0..4), 0..40),
        ) {
            let mut sums = ChangeSums::default();
            for elements in &changes {
                let elements = elements.iter().map(|(place, by)| ([*place].into(), *by)).collect();
                sums.add(&FenceChange { elements, ..FenceChange::default() });
            }
            for place in 0u8..=20 {
                let before = changes.iter().flatten().filter(|(own, _)| *own < place);
                prop_assert_eq!(sums.before(&[place]), before.map(|(_, by)| i64::from(*by)).sum::<i64>());
            }
        }
    }
}
