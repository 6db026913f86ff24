//! A batch that can be read before it is committed: transactions and scripts see their own writes.
//!
//! Beside the [`WriteBatch`] lie, for each keyspace, the newest entry of each key and the ranges deleted, cut so that each
//! piece knows its newest range delete. Entry `i` of the batch counts as sequence number [`UNCOMMITTED`]` + i`, newer than
//! everything in the tree, so a [`VisibleIter`] over the sources of a read point plus [`IndexedBatch::overlay`] and
//! [`IndexedBatch::cover`] shows what the database would look like after the commit.
//!
//! Savepoints: `entries[i].previous` is the entry that `i` replaced in the index, so going back undoes entry by entry.
//!
//! Keys are kept twice (index and batch), values once. Overlays and covers share the state; the batch copies it once if it is
//! written to while one of them is alive, so they show the batch as it was when they were made.
//!
//! [`VisibleIter`]: crate::merge::visible_iter::VisibleIter

use crate::base::batch::{BatchEntry, EntryParts, KeyspaceId, Savepoint, WriteBatch};
use crate::base::error::Result;
use crate::base::iter::InternalIterator;
use crate::base::key::{SEQUENCE_MAX, SequenceNumber, ValueKind, VersionKey, pack_trailer};
use crate::merge::visible_iter::{RangeCover, UNCOMMITTED};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Number of an entry in the batch.
type EntryNumber = u32;

/// What a batch says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay<'a> {
    /// The batch sets it to this value.
    Value(&'a [u8]),
    /// The batch removes it, alone or in a range.
    Deleted,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// For [`WriteBatch::entry_at`].
    position: u32,
    /// The entry for the same key before this one.
    previous: Option<EntryNumber>,
}

/// One keyspace.
#[derive(Clone, Debug, Default)]
struct Layer {
    /// The newest put or delete of each key, whether or not a range delete came after it.
    points: BTreeMap<Vec<u8>, EntryNumber>,
    /// start -> (end, newest range delete over the piece); the pieces are disjoint.
    ranges: BTreeMap<Vec<u8>, (Vec<u8>, EntryNumber)>,
    /// Every range delete, in order.
    range_deletes: Vec<EntryNumber>,
}

#[derive(Clone, Debug, Default)]
struct State {
    batch: WriteBatch,
    entries: Vec<Entry>,
    layers: BTreeMap<KeyspaceId, Layer>,
}

/// A [`WriteBatch`] with an index over it. Used by one thread at a time.
#[derive(Debug, Default)]
pub struct IndexedBatch {
    state: Arc<State>,
}

impl IndexedBatch {
    /// An empty batch.
    pub fn new() -> IndexedBatch {
        IndexedBatch::default()
    }

    /// Sets `key` to `value`. Errors as [`WriteBatch::put`].
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_parts(keyspace, key, &[value])
    }

    /// Sets `key` to a value given in pieces. Errors as [`WriteBatch::put`].
    pub fn put_parts(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[&[u8]]) -> Result<()> {
        self.add_point(keyspace, key, |batch| batch.put_parts(keyspace, key, value))
    }

    /// Removes `key`. Errors as [`WriteBatch::delete`].
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.add_point(keyspace, key, |batch| batch.delete(keyspace, key))
    }

    /// Removes every key in `[start, end)`. Errors as [`WriteBatch::delete_range`].
    pub fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<()> {
        let state = Arc::make_mut(&mut self.state);
        let (number, position) = state.next();
        state.batch.delete_range(keyspace, start, end)?;
        state.entries.push(Entry { position, previous: None });
        let layer = state.layers.entry(keyspace).or_default();
        layer.range_deletes.push(number);
        lay_range(&mut layer.ranges, start, end, number);
        Ok(())
    }

    fn add_point(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        add: impl FnOnce(&mut WriteBatch) -> Result<()>,
    ) -> Result<()> {
        let state = Arc::make_mut(&mut self.state);
        let (number, position) = state.next();
        add(&mut state.batch)?;
        let points = &mut state.layers.entry(keyspace).or_default().points;
        let previous = match points.get_mut(key) {
            Some(newest) => Some(std::mem::replace(newest, number)),
            None => {
                points.insert(key.to_vec(), number);
                None
            }
        };
        state.entries.push(Entry { position, previous });
        Ok(())
    }

    /// What the batch says about `key`; `None` if nothing, then the database has to be asked.
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Overlay<'_>> {
        let layer = self.state.layers.get(&keyspace)?;
        let point = layer.points.get(key).copied();
        let range = layer.newest_range(key);
        let number = point.filter(|_| point > range);
        let Some(number) = number else { return range.map(|_| Overlay::Deleted) };
        let entry = self.state.entry(number);
        Some(if entry.kind == ValueKind::Put { Overlay::Value(entry.value) } else { Overlay::Deleted })
    }

    /// A mark to go back to with [`rollback`](Self::rollback).
    pub fn savepoint(&self) -> Savepoint {
        self.state.batch.savepoint()
    }

    /// Forgets every entry added since `savepoint`, which must be of this batch and not younger than an earlier rollback
    /// past it or a `clear`.
    pub fn rollback(&mut self, savepoint: &Savepoint) {
        if savepoint.count() < self.state.batch.count() {
            Arc::make_mut(&mut self.state).rollback(savepoint);
        }
    }

    /// The puts and deletes of a keyspace as a source of versions, one for each key; range deletes are in
    /// [`cover`](Self::cover). Owned; shows the batch as it is now.
    pub fn overlay(&self, keyspace: KeyspaceId) -> OverlayIter {
        OverlayIter { state: self.state.clone(), keyspace, at: None, ahead: Vec::new(), forwards: true }
    }

    /// The range deletes of a keyspace, as they are now.
    pub fn cover(&self, keyspace: KeyspaceId) -> Arc<dyn RangeCover> {
        Arc::new(OverlayCover { state: self.state.clone(), keyspace })
    }

    /// Sets the batch's annotation. Errors as [`WriteBatch::set_annotation`].
    pub fn set_annotation(&mut self, annotation: &[u8]) -> Result<()> {
        Arc::make_mut(&mut self.state).batch.set_annotation(annotation)
    }

    /// What to commit.
    pub fn batch(&self) -> &WriteBatch {
        &self.state.batch
    }

    /// What to commit, without the index.
    pub fn into_batch(self) -> WriteBatch {
        match Arc::try_unwrap(self.state) {
            Ok(state) => state.batch,
            Err(shared) => shared.batch.clone(),
        }
    }

    /// How many entries.
    pub fn count(&self) -> u32 {
        self.state.batch.count()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.state.batch.is_empty()
    }

    /// Removes everything, the annotation too.
    pub fn clear(&mut self) {
        match Arc::get_mut(&mut self.state) {
            Some(state) => {
                state.batch.clear();
                state.entries.clear();
                state.layers.clear();
            }
            None => self.state = Arc::default(),
        }
    }
}

impl State {
    /// Number and position of the entry that is about to be added.
    fn next(&self) -> (EntryNumber, u32) {
        // A batch is bounded by BATCH_BYTES_MAX, which limits.rs keeps below u32::MAX.
        (self.batch.count(), self.batch.next_position() as u32)
    }

    fn entry(&self, number: EntryNumber) -> BatchEntry<'_> {
        let position = self.entries[number as usize].position as usize;
        self.batch.entry_at(position).expect("the index points at entries of its own batch")
    }

    fn parts(&self, number: EntryNumber) -> EntryParts {
        let position = self.entries[number as usize].position as usize;
        self.batch.parts_at(position).expect("the index points at entries of its own batch")
    }

    fn layer(&self, keyspace: KeyspaceId) -> Option<&Layer> {
        self.layers.get(&keyspace)
    }

    fn rollback(&mut self, savepoint: &Savepoint) {
        let mut ranges_changed = Vec::new();
        while self.entries.len() > savepoint.count() as usize {
            let Some(Entry { position, previous }) = self.entries.pop() else { break };
            let entry = self.batch.entry_at(position as usize);
            let entry = entry.expect("the index points at entries of its own batch");
            let Some(layer) = self.layers.get_mut(&entry.keyspace) else { continue };
            match (entry.kind, previous) {
                (ValueKind::RangeDelete, _) => {
                    layer.range_deletes.pop();
                    ranges_changed.push(entry.keyspace);
                }
                (_, None) => {
                    layer.points.remove(entry.key);
                }
                (_, Some(previous)) => {
                    if let Some(newest) = layer.points.get_mut(entry.key) {
                        *newest = previous;
                    }
                }
            }
        }
        self.batch.rollback(savepoint);
        ranges_changed.sort_unstable();
        ranges_changed.dedup();
        for keyspace in ranges_changed {
            let Some(layer) = self.layers.get(&keyspace) else { continue };
            let mut ranges = BTreeMap::new();
            for &number in &layer.range_deletes {
                let entry = self.entry(number);
                lay_range(&mut ranges, entry.key, entry.value, number);
            }
            if let Some(layer) = self.layers.get_mut(&keyspace) {
                layer.ranges = ranges;
            }
        }
    }
}

impl Layer {
    fn newest_range(&self, key: &[u8]) -> Option<EntryNumber> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, (end, number)) = self.ranges.range::<[u8], _>(upto).next_back()?;
        (key < end.as_slice()).then_some(*number)
    }

    /// Whether a range delete lies over keys in `[lower, upper)`, or next to them.
    fn has_range_within(&self, lower: &[u8], upper: Option<&[u8]>) -> bool {
        let upto = (Bound::Unbounded, upper.map_or(Bound::Unbounded, Bound::Excluded));
        // The pieces are disjoint: of those that begin before the end, the last one also ends last.
        self.ranges.range::<[u8], _>(upto).next_back().is_some_and(|(_, (end, _))| end.as_slice() > lower)
    }
}

/// Lays `[start, end)` over the pieces: it is newer than all of them.
fn lay_range(
    ranges: &mut BTreeMap<Vec<u8>, (Vec<u8>, EntryNumber)>,
    start: &[u8],
    end: &[u8],
    number: EntryNumber,
) {
    let before = (Bound::Unbounded, Bound::Excluded(start));
    if let Some((_, (old_end, old))) = ranges.range_mut::<[u8], _>(before).next_back()
        && old_end.as_slice() > start
    {
        let old = *old;
        let old_end = std::mem::replace(old_end, start.to_vec());
        if old_end.as_slice() > end {
            ranges.insert(end.to_vec(), (old_end, old));
        }
    }
    let within = (Bound::Included(start), Bound::Excluded(end));
    let starts = ranges.range::<[u8], _>(within).map(|(start, _)| start.clone()).collect::<Vec<_>>();
    for old_start in starts {
        if let Some((old_end, old)) = ranges.remove(&old_start)
            && old_end.as_slice() > end
        {
            ranges.insert(end.to_vec(), (old_end, old));
        }
    }
    ranges.insert(start.to_vec(), (end.to_vec(), number));
}

/// How many entries a step looks up at once.
const AHEAD: usize = if cfg!(test) { 3 } else { 32 };

/// The points of one keyspace of an [`IndexedBatch`], as a source for a merge. A seek is a search in the index, and so is one in
/// thirty steps in one direction.
#[derive(Debug)]
pub struct OverlayIter {
    state: Arc<State>,
    keyspace: KeyspaceId,
    at: Option<(EntryNumber, EntryParts)>,
    /// The entries that follow, the next one last.
    ahead: Vec<EntryNumber>,
    /// In which direction.
    forwards: bool,
}

impl OverlayIter {
    fn stand(&mut self, number: Option<EntryNumber>) {
        self.at = number.map(|number| (number, self.state.parts(number)));
    }

    /// Goes to the first entry within the bounds that `fits`, from the front or from the back.
    fn find(
        &mut self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        from_the_back: bool,
        fits: impl Fn(VersionKey<'_>) -> bool,
    ) {
        self.ahead.clear();
        let Some(layer) = self.state.layer(self.keyspace) else { return };
        let mut range = layer.points.range::<[u8], _>((from, to));
        let found = loop {
            let Some((key, &number)) = (if from_the_back { range.next_back() } else { range.next() }) else {
                break None;
            };
            let kind = self.state.entry(number).kind;
            if fits(VersionKey { user_key: key, sequence: UNCOMMITTED + u64::from(number), kind }) {
                break Some(number);
            }
        };
        self.stand(found);
    }

    fn step(&mut self, forwards: bool) {
        if self.forwards != forwards {
            self.ahead.clear();
            self.forwards = forwards;
        }
        if self.ahead.is_empty()
            && let Some(layer) = self.state.layer(self.keyspace)
        {
            let key = Bound::Excluded(self.key());
            let (from, to) = if forwards { (key, Bound::Unbounded) } else { (Bound::Unbounded, key) };
            let range = layer.points.range::<[u8], _>((from, to));
            let mut ahead = match forwards {
                true => range.take(AHEAD).map(|(_, &number)| number).collect::<Vec<_>>(),
                false => range.rev().take(AHEAD).map(|(_, &number)| number).collect(),
            };
            ahead.reverse();
            self.ahead = ahead;
        }
        let next = self.ahead.pop();
        self.stand(next);
    }

    fn here(&self) -> &(EntryNumber, EntryParts) {
        self.at.as_ref().expect("the caller asked whether the iterator is valid")
    }
}

impl InternalIterator for OverlayIter {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.find(Bound::Unbounded, Bound::Unbounded, false, |_| true);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.find(Bound::Unbounded, Bound::Unbounded, true, |_| true);
        Ok(())
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.find(Bound::Included(target.user_key), Bound::Unbounded, false, |version| version >= target);
        Ok(())
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.find(Bound::Unbounded, Bound::Included(target.user_key), true, |version| version < target);
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.step(true);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.step(false);
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.state.batch.part(&self.here().1.key)
    }

    fn trailer(&self) -> u64 {
        let (number, parts) = self.here();
        pack_trailer(UNCOMMITTED + u64::from(*number), parts.kind)
    }

    fn value(&self) -> &[u8] {
        self.state.batch.part(&self.here().1.value)
    }
}

/// The range deletes of one keyspace of an [`IndexedBatch`].
#[derive(Debug)]
struct OverlayCover {
    state: Arc<State>,
    keyspace: KeyspaceId,
}

impl RangeCover for OverlayCover {
    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, _read: SequenceNumber) -> SequenceNumber {
        let any = self.state.layer(self.keyspace).is_some_and(|layer| layer.has_range_within(lower, upper));
        if any { SEQUENCE_MAX } else { 0 }
    }

    /// Seen at every read point.
    fn newest_covering(&self, key: &[u8], _read: SequenceNumber) -> SequenceNumber {
        let newest = self.state.layer(self.keyspace).and_then(|layer| layer.newest_range(key));
        newest.map_or(0, |number| UNCOMMITTED + u64::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::merging_iter::MergingIter;
    use crate::merge::vector_iter::{VectorIter, version};
    use crate::merge::visible_iter::VisibleIter;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u32, u8, Vec<u8>),
        Delete(u32, u8),
        DeleteRange(u32, u8, u8),
        Savepoint,
        Rollback(usize),
        /// Holds on to an overlay, so that the next write copies the state.
        Hold(u32),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let value = proptest::collection::vec(any::<u8>(), 0..4);
        let step = prop_oneof![
            10 => (0u32..2, 0u8..16, value).prop_map(|(s, k, v)| Step::Put(s, k, v)),
            4 => (0u32..2, 0u8..16).prop_map(|(s, k)| Step::Delete(s, k)),
            4 => (0u32..2, 0u8..16, 0u8..16).prop_map(|(s, a, b)| Step::DeleteRange(s, a, b)),
            3 => Just(Step::Savepoint),
            2 => (0usize..4).prop_map(Step::Rollback),
            1 => (0u32..2).prop_map(Step::Hold),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..50)
    }

    /// What the batch says; `None`: deleted.
    type Said = BTreeMap<(u32, u8), Option<Vec<u8>>>;

    type Pairs = Vec<(u8, Vec<u8>)>;

    fn shown(iter: &mut VisibleIter) -> (Pairs, Pairs) {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        iter.seek_to_first().unwrap();
        while iter.valid() {
            there.push((iter.key()[0], iter.value().to_vec()));
            iter.next().unwrap();
        }
        iter.seek_to_last().unwrap();
        while iter.valid() {
            back.push((iter.key()[0], iter.value().to_vec()));
            iter.prev().unwrap();
        }
        back.reverse();
        (there, back)
    }

    /// The batch over a database in which every third key has an old value, a seen one and one from after the read point.
    fn over_database(batch: &IndexedBatch, keyspace: u32, keys: std::ops::Range<u8>) -> VisibleIter {
        let base = (0u8..16).step_by(3).flat_map(|k| {
            [
                version(&[k], 3, Some(b"old")),
                version(&[k], 5, Some(b"base")),
                version(&[k], 9, Some(b"later")),
            ]
        });
        let source = MergingIter::new(vec![
            Box::new(batch.overlay(keyspace)),
            Box::new(VectorIter::new(base.collect())),
        ]);
        let (lower, upper) = (Some(vec![keys.start]), Some(vec![keys.end]));
        VisibleIter::new(source, vec![batch.cover(keyspace)], 7, lower, upper)
    }

    fn expected(said: &Said, keyspace: u32, keys: std::ops::Range<u8>) -> Pairs {
        keys.filter_map(|k| match said.get(&(keyspace, k)) {
            Some(said) => said.clone().map(|value| (k, value)),
            None => k.is_multiple_of(3).then(|| (k, b"base".to_vec())),
        })
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn agrees_with_a_map(steps in steps()) {
            let mut batch = IndexedBatch::new();
            let mut said = Said::new();
            let mut count = 0;
            let mut savepoints: Vec<(Savepoint, Said, u32)> = Vec::new();
            let mut held: Vec<(VisibleIter, Pairs)> = Vec::new();
            for step in steps {
                match step {
                    Step::Put(s, k, value) => {
                        batch.put_parts(s, &[k], &[&value[..value.len() / 2], &value[value.len() / 2..]]).unwrap();
                        said.insert((s, k), Some(value));
                        count += 1;
                    }
                    Step::Delete(s, k) => {
                        batch.delete(s, &[k]).unwrap();
                        said.insert((s, k), None);
                        count += 1;
                    }
                    Step::DeleteRange(s, a, b) => {
                        let done = batch.delete_range(s, &[a], &[b]);
                        prop_assert_eq!(done.is_ok(), a < b);
                        said.extend((a..b).map(|k| ((s, k), None)));
                        count += u32::from(a < b);
                    }
                    Step::Savepoint => savepoints.push((batch.savepoint(), said.clone(), count)),
                    Step::Rollback(at) if at < savepoints.len() => {
                        savepoints.truncate(at + 1);
                        batch.rollback(&savepoints[at].0);
                        said = savepoints[at].1.clone();
                        count = savepoints[at].2;
                    }
                    Step::Rollback(_) => {}
                    Step::Hold(s) => {
                        held.push((over_database(&batch, s, 0..16), expected(&said, s, 0..16)));
                    }
                    Step::Clear => {
                        batch.clear();
                        said.clear();
                        savepoints.clear();
                        count = 0;
                    }
                }
                prop_assert_eq!(batch.count(), count);
                for (s, k) in (0..2).flat_map(|s| (0..17).map(move |k| (s, k))) {
                    let expected = said.get(&(s, k)).map(|said| match said {
                        Some(value) => Overlay::Value(value),
                        None => Overlay::Deleted,
                    });
                    prop_assert_eq!(batch.get(s, &[k]), expected);
                }
            }
            for (s, keys) in (0..2).flat_map(|s| [(s, 0..16), (s, 3..9), (s, 5..6), (s, 8..16)]) {
                held.push((over_database(&batch, s, keys.clone()), expected(&said, s, keys)));
            }
            for (mut iter, expected) in held {
                let (there, back) = shown(&mut iter);
                prop_assert_eq!(&there, &expected);
                prop_assert_eq!(&back, &expected);
            }
            // The batch itself, replayed, says the same.
            let mut replayed = Said::new();
            for entry in batch.into_batch().entries() {
                let entry = entry.unwrap();
                match entry.kind {
                    ValueKind::Put => { replayed.insert((entry.keyspace, entry.key[0]), Some(entry.value.to_vec())); }
                    ValueKind::Delete => { replayed.insert((entry.keyspace, entry.key[0]), None); }
                    ValueKind::RangeDelete => {
                        replayed.extend((entry.key[0]..entry.value[0]).map(|k| ((entry.keyspace, k), None)));
                    }
                }
            }
            prop_assert_eq!(replayed, said);
        }

        #[test]
        fn overlay_alone_is_a_sorted_source(
            keys in proptest::collection::vec((any::<bool>(), 0u8..8), 0..20),
            target in 0u8..8,
            sequence in prop_oneof![0u64..9, UNCOMMITTED..UNCOMMITTED + 20],
        ) {
            let mut batch = IndexedBatch::new();
            let mut newest = BTreeMap::new();
            for (at, (put, key)) in keys.into_iter().enumerate() {
                if put { batch.put(0, &[key], &[key]).unwrap() } else { batch.delete(0, &[key]).unwrap() }
                newest.insert(key, version(&[key], UNCOMMITTED + at as u64, put.then_some(&[key])));
            }
            let mut plain = VectorIter::new(newest.into_values().collect());
            let mut overlay = batch.overlay(0);
            let target = [target];
            let target = VersionKey::seek(&target, sequence);
            plain.seek(target).unwrap();
            overlay.seek(target).unwrap();
            prop_assert_eq!(overlay.valid(), plain.valid());
            if plain.valid() {
                prop_assert_eq!((overlay.key(), overlay.trailer(), overlay.value()), (plain.key(), plain.trailer(), plain.value()));
            }
            plain.seek_before(target).unwrap();
            overlay.seek_before(target).unwrap();
            prop_assert_eq!(overlay.valid(), plain.valid());
            if plain.valid() {
                prop_assert_eq!((overlay.key(), overlay.trailer(), overlay.value()), (plain.key(), plain.trailer(), plain.value()));
            }
        }
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let mut batch = IndexedBatch::new();
        batch.put(0, b"k", b"v").unwrap();
        assert!(batch.put(0, &vec![0; (1 << 20) + 1], b"").is_err());
        assert!(batch.delete_range(0, b"k", b"k").is_err());
        assert_eq!((batch.count(), batch.get(0, b"k")), (1, Some(Overlay::Value(b"v"))));
    }
}
