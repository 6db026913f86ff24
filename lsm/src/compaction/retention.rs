//! What may go: the rules by which flush, compaction and memtable pruning drop versions.
//!
//! Snapshots cut the line of sequence numbers into *stripes*; nobody can tell two versions of a key in one stripe apart, so
//! of each stripe only the newest state matters.
//!
//! ```text
//! snapshots          10            20
//! stripes    [0 ... 10]  [11 .. 20]  [21 ...]
//! key k       #4  #9       #12         #25(delete) #31
//! kept            #9       #12                     #31
//! ```
//!
//! The rules, for the versions of a key from the newest to the oldest:
//!
//! 1. A version goes if the write that follows it directly (a put, a delete or a range delete over its key) is in the same
//!    stripe. Looking at the direct successor is enough, since any other newer write in the stripe is newer than that one.
//! 2. A delete that stays by rule 1 still goes if nothing remains that it could hide: no older version lies below the output
//!    (`bottom`) and none of the older ones here is kept. So it is withheld until the next kept value of its key shows that it
//!    is needed, or the end of the key that it is not.
//! 3. A value that no snapshot sees (it is in the last stripe) is shown to the `filter` hook. A dropped one becomes a delete
//!    under rule 2.
//! 4. A value that every snapshot sees, below which nothing older lies, gets sequence number 0, unless an older range
//!    tombstone of the inputs lies over it (that one may stay, and would then hide it).
//! 5. Of the range tombstones over a place, the newest of each stripe stays; that of the first stripe goes if nothing older
//!    lies below its whole fragment ([`retained_tombstones`]).
//!
//! `on_drop` hears of every put that leaves, once, with its *direct successor*, whether or not that one stays: so the chain of
//! what a hook is told has no gap. Copies of one version (same key, same sequence number) are folded without a word.
//!
//! Pure: no I/O, no clock, no threads. One thread drives one [`Retention`] over one sorted input.

use crate::base::error::{Error, Result};
use crate::base::hooks::{CompactionHooks, FilterDecision, Newer, Notes};
use crate::base::iter::InternalIterator;
use crate::base::key::{SequenceNumber, ValueKind, pack_trailer};
use crate::base::limits::{HEAD_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::range_delete::{Fragment, RangeTombstones};
use crate::merge::merging_iter::{out_of_order, split_point_trailer};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// What the rules depend on.
pub struct RetentionInput<'a> {
    /// Every read point that must go on seeing what it sees, ascending: snapshots, iterators, and whatever readers without a
    /// snapshot may still pick (the visible or the synced sequence number, if versions above it can be among the inputs).
    pub snapshots: Vec<SequenceNumber>,
    /// Whether no older version of the key, and no older range tombstone over it, can lie below the output.
    pub bottom: &'a dyn Fn(&[u8]) -> bool,
    /// The range tombstones of all inputs.
    pub tombstones: RangeTombstones,
    /// The keyspace's hooks.
    pub hooks: Option<Arc<dyn CompactionHooks>>,
    /// Never change a sequence number to 0 (rule 4): L0 files are ordered by theirs.
    pub keep_sequences: bool,
}

/// A version that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The user key.
    pub key: &'a [u8],
    /// Sequence and kind; the sequence may have become 0.
    pub trailer: u64,
    /// The value; empty for a delete.
    pub value: &'a [u8],
    /// Whether no version of this key came out before: only here may an output file be cut.
    pub first_of_key: bool,
}

/// Where the value of a kept version is.
#[derive(Clone, Copy, Debug)]
enum ValueFrom {
    Nowhere,
    Source,
    Replacement,
}

#[derive(Clone, Copy, Debug)]
struct Decision {
    trailer: u64,
    value: ValueFrom,
}

/// The next newer point version of the present key, kept or not. Its head, for hooks, is in `Retention::newer_head`.
#[derive(Clone, Copy, Debug)]
struct NewerPoint {
    sequence: SequenceNumber,
    kind: ValueKind,
}

/// Runs the rules over one sorted input.
pub struct Retention<'a> {
    snapshots: Vec<SequenceNumber>,
    bottom: &'a dyn Fn(&[u8]) -> bool,
    tombstones: RangeTombstones,
    hooks: Option<Arc<dyn CompactionHooks>>,
    keep_sequences: bool,
    notes: Notes,
    versions_in: u64,
    versions_out: u64,

    /// Whether the source stands on a version that has been dealt with.
    step_first: bool,
    /// The present key; meaningful once `versions_in > 0`.
    key: Vec<u8>,
    key_is_out: bool,
    /// The answer of `bottom` for the present key, once asked.
    key_is_at_bottom: Option<bool>,
    /// First fragment that does not end at or before the present key.
    fragment: usize,
    newer: Option<NewerPoint>,
    newer_head: Vec<u8>,
    /// Trailers of deletes of the present key that are needed only if an older version is kept, newest first.
    withheld: Vec<u64>,
    /// How many of them have been let out for `due`.
    let_out: usize,
    /// The kept version that the source stands on, behind the withheld deletes.
    due: Option<Decision>,
    replacement: Vec<u8>,
}

impl<'a> Retention<'a> {
    /// Ready to run.
    pub fn new(input: RetentionInput<'a>) -> Retention<'a> {
        debug_assert!(input.snapshots.is_sorted());
        Retention {
            snapshots: input.snapshots,
            bottom: input.bottom,
            tombstones: input.tombstones,
            hooks: input.hooks,
            keep_sequences: input.keep_sequences,
            notes: Notes::default(),
            versions_in: 0,
            versions_out: 0,
            step_first: false,
            key: Vec::new(),
            key_is_out: false,
            key_is_at_bottom: None,
            fragment: 0,
            newer: None,
            newer_head: Vec::new(),
            withheld: Vec::new(),
            let_out: 0,
            due: None,
            replacement: Vec::new(),
        }
    }

    /// The next version that stays; `None` at the end. The caller positions `source` before the first call and passes the
    /// same one each time. After an error the run is over. Errors: those of the source; `Corruption` if it goes back;
    /// `InvalidArgument` if a filter makes a value too long.
    pub fn next<'s>(&'s mut self, source: &'s mut dyn InternalIterator) -> Result<Option<Kept<'s>>> {
        let Some(decision) = self.decide(source)? else { return Ok(None) };
        let first_of_key = !std::mem::replace(&mut self.key_is_out, true);
        self.versions_out += 1;
        let value = match decision.value {
            ValueFrom::Nowhere => &[],
            ValueFrom::Source => source.value(),
            ValueFrom::Replacement => self.replacement.as_slice(),
        };
        Ok(Some(Kept { key: &self.key, trailer: decision.trailer, value, first_of_key }))
    }

    /// How many versions of the source have gone so far.
    pub fn dropped(&self) -> u64 {
        self.versions_in - self.versions_out
    }

    /// What the hooks left to say.
    pub fn into_notes(self) -> Notes {
        self.notes
    }

    fn decide(&mut self, source: &mut dyn InternalIterator) -> Result<Option<Decision>> {
        if let Some(due) = self.due {
            return Ok(Some(self.let_out(due)));
        }
        loop {
            if self.step_first {
                self.step_first = false;
                source.next()?;
            }
            if !source.valid() {
                return Ok(None);
            }
            self.step_first = true;
            let (sequence, kind) = split_point_trailer(source.trailer())?;
            let first = self.versions_in == 0;
            match if first { Ordering::Less } else { self.key.as_slice().cmp(source.key()) } {
                Ordering::Less => self.begin_key(source.key()),
                Ordering::Equal => {}
                // Of a table whose checksums are right and whose order is not.
                Ordering::Greater => return Err(out_of_order(source.key())),
            }
            self.versions_in += 1;
            if self.newer.is_some_and(|newer| newer.sequence == sequence) {
                continue;
            }
            let kept = self.judge(sequence, kind, source.value())?;
            self.newer = Some(NewerPoint { sequence, kind });
            if self.hooks.is_some() {
                self.newer_head.clear();
                self.newer_head.extend_from_slice(head(source.value()));
            }
            match kept {
                None => {}
                Some(decision) if is_delete(decision.trailer) && self.at_bottom() => {
                    self.withheld.push(decision.trailer);
                }
                Some(decision) if self.withheld.is_empty() => return Ok(Some(decision)),
                Some(decision) => {
                    self.step_first = false;
                    self.due = Some(decision);
                    return Ok(Some(self.let_out(decision)));
                }
            }
        }
    }

    /// The withheld deletes one by one, then what made them needed.
    fn let_out(&mut self, due: Decision) -> Decision {
        if let Some(&trailer) = self.withheld.get(self.let_out) {
            self.let_out += 1;
            return Decision { trailer, value: ValueFrom::Nowhere };
        }
        self.withheld.clear();
        self.let_out = 0;
        self.due = None;
        self.step_first = true;
        due
    }

    fn begin_key(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.key_is_out = false;
        self.key_is_at_bottom = None;
        self.newer = None;
        // Nothing that is kept needed them.
        self.withheld.clear();
        let fragments = self.tombstones.fragments();
        while fragments.get(self.fragment).is_some_and(|fragment| fragment.end.as_slice() <= key) {
            self.fragment += 1;
        }
    }

    /// Rules 1, 3 and 4. `None`: the version goes.
    fn judge(&mut self, sequence: SequenceNumber, kind: ValueKind, value: &[u8]) -> Result<Option<Decision>> {
        let stripe = stripe_of(&self.snapshots, sequence);
        let covering: &[SequenceNumber] = match self.tombstones.fragments().get(self.fragment) {
            Some(fragment) if fragment.start.as_slice() <= self.key.as_slice() => &fragment.sequences,
            _ => &[],
        };
        let newer_ranges = covering.partition_point(|&range| range > sequence);
        let next_range = newer_ranges.checked_sub(1).map(|at| covering[at]);
        let older_range = covering.last().is_some_and(|&range| range < sequence);
        let next_point = self.newer;

        // The direct successor: the older of the next point version and the next range delete.
        let range_follows = next_range.is_some_and(|range| next_point.is_none_or(|p| range < p.sequence));
        let successor = if range_follows { next_range } else { next_point.map(|point| point.sequence) };
        if successor.is_some_and(|successor| stripe_of(&self.snapshots, successor) == stripe) {
            if kind == ValueKind::Put
                && let Some(hooks) = &self.hooks
            {
                let newer = match next_point {
                    _ if range_follows => Newer::RangeDelete,
                    Some(NewerPoint { kind: ValueKind::Put, .. }) => Newer::Put(&self.newer_head),
                    _ => Newer::Tombstone,
                };
                hooks.on_drop(&self.key, head(value), newer, &mut self.notes);
            }
            return Ok(None);
        }
        if kind == ValueKind::Delete {
            let trailer = pack_trailer(sequence, ValueKind::Delete);
            return Ok(Some(Decision { trailer, value: ValueFrom::Nowhere }));
        }

        let mut value_from = ValueFrom::Source;
        if stripe == self.snapshots.len()
            && let Some(hooks) = &self.hooks
        {
            match hooks.filter(&self.key, head(value)) {
                FilterDecision::Keep => {}
                FilterDecision::Replace(replacement) => {
                    if replacement.len() > VALUE_BYTES_MAX {
                        return Err(Error::invalid("a compaction filter made a value that is too long"));
                    }
                    self.replacement = replacement;
                    value_from = ValueFrom::Replacement;
                }
                FilterDecision::Drop => {
                    hooks.on_drop(&self.key, head(value), Newer::Filter, &mut self.notes);
                    let trailer = pack_trailer(sequence, ValueKind::Delete);
                    return Ok(Some(Decision { trailer, value: ValueFrom::Nowhere }));
                }
            }
        }
        let everyone_sees_it = stripe == 0;
        let zero = everyone_sees_it && !older_range && !self.keep_sequences && self.at_bottom();
        let sequence = if zero { 0 } else { sequence };
        Ok(Some(Decision { trailer: pack_trailer(sequence, ValueKind::Put), value: value_from }))
    }

    fn at_bottom(&mut self) -> bool {
        *self.key_is_at_bottom.get_or_insert_with(|| (self.bottom)(&self.key))
    }
}

impl fmt::Debug for Retention<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retention")
            .field("snapshots", &self.snapshots)
            .field("versions_in", &self.versions_in)
            .field("versions_out", &self.versions_out)
            .finish_non_exhaustive()
    }
}

/// Rule 5: which range tombstones of the inputs the outputs carry. `bottom(start, end)` says whether no older version, and no
/// older range tombstone, within `[start, end)` can lie below the output.
pub fn retained_tombstones(
    tombstones: &RangeTombstones,
    snapshots: &[SequenceNumber],
    bottom: &dyn Fn(&[u8], &[u8]) -> bool,
) -> RangeTombstones {
    let mut kept: Vec<Fragment> = Vec::new();
    for fragment in tombstones.fragments() {
        let mut sequences = fragment.sequences.clone();
        sequences.dedup_by_key(|sequence| stripe_of(snapshots, *sequence));
        let oldest_is_everyones =
            sequences.last().is_some_and(|&sequence| stripe_of(snapshots, sequence) == 0);
        if oldest_is_everyones && bottom(&fragment.start, &fragment.end) {
            sequences.pop();
        }
        match kept.last_mut() {
            _ if sequences.is_empty() => {}
            Some(last) if last.end == fragment.start && last.sequences == sequences => {
                last.end.clone_from(&fragment.end);
            }
            _ => kept.push(Fragment { start: fragment.start.clone(), end: fragment.end.clone(), sequences }),
        }
    }
    RangeTombstones::from_fragments(kept).expect("pieces of sorted, disjoint fragments")
}

/// Number of the stripe that `sequence` lies in: how many snapshots do not see it.
fn stripe_of(snapshots: &[SequenceNumber], sequence: SequenceNumber) -> usize {
    snapshots.partition_point(|&snapshot| snapshot < sequence)
}

fn head(value: &[u8]) -> &[u8] {
    &value[..value.len().min(HEAD_BYTES_MAX)]
}

fn is_delete(trailer: u64) -> bool {
    trailer as u8 == ValueKind::Delete as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{SEQUENCE_MAX, unpack_trailer};
    use crate::base::range_delete::RangeTombstone;
    use crate::merge::merging_iter::MergingIter;
    use crate::merge::vector_iter::{VectorIter, Version, version};
    use crate::merge::visible_iter::{RangeCover, VisibleIter};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    const KEYS: u8 = 6;

    /// Where a write lies: below the output, among the inputs, or above them. Sequences grow from below to above.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Place {
        Below,
        Input,
        Above,
    }

    #[derive(Clone, Debug)]
    enum Write {
        Put(u8),
        Delete(u8),
        DeleteRange(u8, u8),
    }

    fn write() -> impl Strategy<Value = Write> {
        prop_oneof![
            6 => (0..KEYS).prop_map(Write::Put),
            3 => (0..KEYS).prop_map(Write::Delete),
            2 => (0..KEYS, 0..=KEYS).prop_map(|(a, b)| Write::DeleteRange(a, b)),
        ]
    }

    #[derive(Clone, Debug)]
    struct Case {
        writes: Vec<(Place, Write)>,
        snapshots: Vec<u64>,
        /// Decision of the filter by sequence modulo this; 0 for no hooks.
        filter: u64,
    }

    fn case() -> impl Strategy<Value = Case> {
        let list = |most| proptest::collection::vec(write(), 0..most);
        let below = prop_oneof![Just(Vec::new()), list(4)];
        (below, list(24), list(4), proptest::collection::btree_set(0u64..30, 0..4), 0u64..5).prop_map(
            |(below, input, above, snapshots, filter)| {
                let place = |place, writes: Vec<Write>| writes.into_iter().map(move |w| (place, w));
                let writes = place(Place::Below, below)
                    .chain(place(Place::Input, input))
                    .chain(place(Place::Above, above))
                    .collect();
                Case { writes, snapshots: snapshots.into_iter().collect(), filter }
            },
        )
    }

    /// A value that names its version; long enough to have more than a head.
    fn value_of(sequence: u64) -> Vec<u8> {
        let mut value = sequence.to_le_bytes().to_vec();
        value.resize(8 + 100 * (sequence as usize % 4), 7);
        value
    }

    fn replacement_of(sequence: u64) -> Vec<u8> {
        [b"new", &sequence.to_le_bytes()[..]].concat()
    }

    fn name(head: &[u8]) -> u64 {
        assert!(head.len() <= HEAD_BYTES_MAX);
        u64::from_le_bytes(head[..8].try_into().unwrap())
    }

    fn decide(filter: u64, sequence: u64) -> FilterDecision {
        match sequence % filter.max(1) {
            1 => FilterDecision::Drop,
            2 => FilterDecision::Replace(replacement_of(sequence)),
            _ => FilterDecision::Keep,
        }
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Why {
        Filter,
        Tombstone,
        RangeDelete,
        Put(u64),
    }

    struct TestHooks {
        filter: u64,
        dropped: Mutex<Vec<(Vec<u8>, u64, Why)>>,
        asked: Mutex<Vec<u64>>,
    }

    impl CompactionHooks for TestHooks {
        fn filter(&self, _key: &[u8], head: &[u8]) -> FilterDecision {
            self.asked.lock().unwrap().push(name(head));
            decide(self.filter, name(head))
        }

        fn on_drop(&self, key: &[u8], older_head: &[u8], newer: Newer<'_>, notes: &mut Notes) {
            let why = match newer {
                Newer::Filter => Why::Filter,
                Newer::Tombstone => Why::Tombstone,
                Newer::RangeDelete => Why::RangeDelete,
                Newer::Put(head) => Why::Put(name(head)),
            };
            notes.leave(&older_head[..8]);
            self.dropped.lock().unwrap().push((key.to_vec(), name(older_head), why));
        }
    }

    #[derive(Clone, Debug, Default)]
    struct Layer {
        points: Vec<Version>,
        ranges: Vec<RangeTombstone>,
    }

    impl Case {
        fn layer(&self, place: Place) -> Layer {
            let mut layer = Layer::default();
            for (at, (at_place, write)) in self.writes.iter().enumerate() {
                let sequence = at as u64 + 1;
                match *write {
                    _ if *at_place != place => {}
                    Write::Put(k) => layer.points.push(version(&[k], sequence, Some(&value_of(sequence)))),
                    Write::Delete(k) => layer.points.push(version(&[k], sequence, None)),
                    Write::DeleteRange(a, b) => {
                        layer.ranges.push(RangeTombstone { start: vec![a], end: vec![b], sequence })
                    }
                }
            }
            layer
        }

        fn touched_below(&self, start: u8, end: u8) -> bool {
            self.writes.iter().any(|(place, write)| {
                *place == Place::Below
                    && match *write {
                        Write::Put(k) | Write::Delete(k) => (start..end).contains(&k),
                        Write::DeleteRange(a, b) => a.max(start) < b.min(end),
                    }
            })
        }

        /// The writes over a key among the inputs, oldest first.
        fn history(&self, key: u8) -> Vec<(u64, &Write)> {
            let over = self.writes.iter().enumerate().filter(|(_, (place, write))| {
                *place == Place::Input
                    && match *write {
                        Write::Put(k) | Write::Delete(k) => k == key,
                        Write::DeleteRange(a, b) => (a..b).contains(&key),
                    }
            });
            over.map(|(at, (_, write))| (at as u64 + 1, write)).collect()
        }

        fn stripe(&self, sequence: u64) -> usize {
            self.snapshots.iter().filter(|&&snapshot| snapshot < sequence).count()
        }

        /// The values that the filter has to be asked about.
        fn filtered(&self) -> BTreeSet<u64> {
            let newest = (0..KEYS).filter_map(|key| match self.history(key).last() {
                Some((sequence, Write::Put(_))) => Some(*sequence),
                _ => None,
            });
            newest.filter(|&sequence| self.stripe(sequence) == self.snapshots.len()).collect()
        }
    }

    fn read(layers: &[&Layer], read: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let sources =
            layers.iter().map(|layer| Box::new(VectorIter::new(layer.points.clone())) as _).collect();
        let covers = layers
            .iter()
            .map(|layer| Arc::new(RangeTombstones::build(layer.ranges.clone())) as Arc<dyn RangeCover>)
            .collect();
        let mut iter = VisibleIter::new(MergingIter::new(sources), covers, read, None, None);
        let mut seen = BTreeMap::new();
        iter.seek_to_first().unwrap();
        while iter.valid() {
            seen.insert(iter.key().to_vec(), iter.value().to_vec());
            iter.next().unwrap();
        }
        seen
    }

    fn run(case: &Case, input: &Layer, hooks: Option<Arc<TestHooks>>) -> (Layer, Vec<Vec<u8>>) {
        let bottom = |key: &[u8]| !case.touched_below(key[0], key[0] + 1);
        let tombstones = RangeTombstones::build(input.ranges.clone());
        let range_bottom = |start: &[u8], end: &[u8]| !case.touched_below(start[0], end[0]);
        let ranges = retained_tombstones(&tombstones, &case.snapshots, &range_bottom);
        let mut retention = Retention::new(RetentionInput {
            snapshots: case.snapshots.clone(),
            bottom: &bottom,
            tombstones,
            hooks: hooks.map(|hooks| hooks as Arc<dyn CompactionHooks>),
            keep_sequences: false,
        });
        let mut source = VectorIter::new(input.points.clone());
        source.seek_to_first().unwrap();
        let mut points: Vec<Version> = Vec::new();
        while let Some(kept) = retention.next(&mut source).unwrap() {
            assert_eq!(kept.first_of_key, points.last().is_none_or(|(key, ..)| key != kept.key));
            points.push((kept.key.to_vec(), kept.trailer, kept.value.to_vec()));
        }
        assert_eq!(retention.dropped() as usize, input.points.len() - points.len());
        assert!(retention.next(&mut source).unwrap().is_none());
        (Layer { points, ranges: ranges.tombstones().collect() }, retention.into_notes().into_inner())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn every_reader_sees_what_it_saw(case in case()) {
            let (below, input, above) =
                (case.layer(Place::Below), case.layer(Place::Input), case.layer(Place::Above));
            let hooks = (case.filter > 0).then(|| {
                Arc::new(TestHooks { filter: case.filter, dropped: Mutex::default(), asked: Mutex::default() })
            });
            let (output, notes) = run(&case, &input, hooks.clone());

            // What the filter decided, applied to the input by hand.
            let mut filtered_input = input.clone();
            if case.filter > 0 {
                for sequence in case.filtered() {
                    let version = filtered_input.points.iter_mut().find(|v| v.1 >> 8 == sequence).unwrap();
                    match decide(case.filter, sequence) {
                        FilterDecision::Keep => {}
                        FilterDecision::Drop => (version.1, version.2) = (sequence << 8, Vec::new()),
                        FilterDecision::Replace(value) => version.2 = value,
                    }
                }
            }
            for &point in case.snapshots.iter().chain([&SEQUENCE_MAX]) {
                let before = read(&[&below, &filtered_input, &above], point);
                let after = read(&[&below, &output, &above], point);
                prop_assert_eq!(before, after, "at {}", point);
            }
            if let Some(hooks) = hooks {
                let asked = hooks.asked.lock().unwrap().clone();
                prop_assert_eq!(asked.len(), case.filtered().len());
                prop_assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), case.filtered());

                // on_drop: every put that is gone, once, with its direct successor.
                let mut expected = Vec::new();
                for key in 0..KEYS {
                    let history = case.history(key);
                    for (at, (sequence, write)) in history.iter().enumerate().rev() {
                        if !matches!(write, Write::Put(_)) {
                            continue;
                        }
                        let stays = output
                            .points
                            .iter()
                            .any(|v| v.2 == value_of(*sequence) || v.2 == replacement_of(*sequence));
                        if !stays {
                            let why = match history.get(at + 1) {
                                None => Why::Filter,
                                Some((_, Write::Delete(_))) => Why::Tombstone,
                                Some((_, Write::DeleteRange(..))) => Why::RangeDelete,
                                Some((newer, Write::Put(_))) => Why::Put(*newer),
                            };
                            expected.push((vec![key], *sequence, why));
                        }
                    }
                }
                let dropped = hooks.dropped.lock().unwrap();
                prop_assert_eq!(&*dropped, &expected);
                prop_assert_eq!(notes.len(), dropped.len());
            }
        }

        #[test]
        fn nothing_stays_without_need(case in case()) {
            let case = Case { filter: 0, ..case };
            let input = case.layer(Place::Input);
            let (output, _) = run(&case, &input, None);
            let mut stripes_of_key = BTreeSet::new();
            for (at, (key, trailer, _)) in output.points.iter().enumerate() {
                let (sequence, kind) = unpack_trailer(*trailer).unwrap();
                prop_assert!(stripes_of_key.insert((key.clone(), case.stripe(sequence))), "two in one stripe");
                let bottom = !case.touched_below(key[0], key[0] + 1);
                let oldest = output.points.get(at + 1).is_none_or(|next| next.0 != *key);
                prop_assert!(!(bottom && oldest && kind == ValueKind::Delete), "a delete of nothing");
                let first_range = input.ranges.iter().filter(|r| r.start <= *key && *key < r.end).map(|r| r.sequence).min();
                let may_be_zero = bottom && case.stripe(sequence) == 0 && first_range.is_none_or(|range| range > sequence);
                prop_assert!(sequence == 0 || !may_be_zero || kind == ValueKind::Delete);
            }
            for range in &output.ranges {
                let first_stripe = case.stripe(range.sequence) == 0;
                prop_assert!(!first_stripe || case.touched_below(range.start[0], range.end[0]));
            }
            if case.snapshots.is_empty() && !case.writes.iter().any(|(place, _)| *place == Place::Below) {
                let live = read(&[&input], SEQUENCE_MAX);
                prop_assert_eq!(output.points.len(), live.len());
                prop_assert!(output.ranges.is_empty());
            }
        }

        #[test]
        fn a_second_run_changes_nothing(case in case()) {
            let case = Case { filter: 0, ..case };
            let (once, _) = run(&case, &case.layer(Place::Input), None);
            let (twice, _) = run(&case, &once, None);
            for &point in case.snapshots.iter().chain([&SEQUENCE_MAX]) {
                prop_assert_eq!(read(&[&once], point), read(&[&twice], point));
            }
            prop_assert_eq!(once.points.len(), twice.points.len());
            prop_assert_eq!(once.ranges, twice.ranges);
        }
    }

    #[test]
    fn copies_of_a_version_fold_silently() {
        let hooks = Arc::new(TestHooks { filter: 1, dropped: Mutex::default(), asked: Mutex::default() });
        let case = Case { writes: vec![(Place::Below, Write::Put(0))], snapshots: Vec::new(), filter: 1 };
        let copy = version(&[0], 5, Some(&value_of(5)));
        let older = version(&[0], 4, Some(&value_of(4)));
        let input =
            Layer { points: vec![copy.clone(), copy.clone(), older.clone(), older], ranges: Vec::new() };
        let (output, _) = run(&case, &input, Some(hooks.clone()));
        assert_eq!(output.points, [copy]);
        assert_eq!(*hooks.dropped.lock().unwrap(), [(vec![0], 4, Why::Put(5))]);
    }

    #[test]
    fn a_source_that_goes_back_is_damaged() {
        let versions = [1, 3, 2].map(|k| version(&[k], 1, Some(b"v")));
        let mut source = VectorIter::unsorted(versions.to_vec());
        source.seek_to_first().unwrap();
        let mut retention = Retention::new(RetentionInput {
            snapshots: Vec::new(),
            bottom: &|_| true,
            tombstones: RangeTombstones::default(),
            hooks: None,
            keep_sequences: false,
        });
        assert!(retention.next(&mut source).unwrap().is_some());
        assert!(retention.next(&mut source).unwrap().is_some());
        assert!(retention.next(&mut source).unwrap_err().is_corruption());
    }

    #[test]
    fn errors_of_the_source_pass_through() {
        let control = Arc::new(crate::merge::vector_iter::Control::default());
        let versions = (0..5).map(|k| version(&[k], 1, Some(b"v"))).collect();
        let mut source = VectorIter::controlled(versions, control.clone());
        source.seek_to_first().unwrap();
        control.moves_left.store(1, std::sync::atomic::Ordering::Relaxed);
        let mut retention = Retention::new(RetentionInput {
            snapshots: Vec::new(),
            bottom: &|_| true,
            tombstones: RangeTombstones::default(),
            hooks: None,
            keep_sequences: false,
        });
        assert!(retention.next(&mut source).unwrap().is_some());
        assert!(retention.next(&mut source).unwrap().is_some());
        assert!(retention.next(&mut source).unwrap_err().is_needs_io());
    }
}
