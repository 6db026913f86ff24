//! Many sorted sources as one.
//!
//! A binary heap of source numbers: `heap[0]` is the *winner*, the source whose version comes next. In an LSM tree the same
//! source tends to win many times in a row (most keys lie in the lowest level), so the place of the *runner-up* in the heap is
//! remembered: while the winner stays in front of it, a step costs one comparison and leaves the heap alone. Not even that, once it has
//! won a few times (`STREAK`) in a row: then it is asked how many steps it has in front of the runner-up and of the reader's bound. No
//! key is copied except when the direction changes.
//!
//! Invariants:
//! - `heap` holds exactly the sources that stand on a version; it is empty when the merge stands nowhere.
//! - Walking forward, each source but the winner stands on its first version behind the winner's; walking in reverse, on its
//!   last version before it. Turning around moves each of them over that gap.
//! - `runner_up` is 0 (not known) or the place of the best source after the winner, which is 1 or 2.
//! - `free` steps from here in `direction` leave the winner in front, and on this side of the last bound that was given.
//! - `words` holds [`word_behind`] of the key of each source in the heap; of the winner's only while `is_within` is false.
//! - Equal versions in several sources come in the order of the sources, so the order is total and walking back retraces
//!   exactly the steps forward.
//!
//! It hides nothing and knows nothing of snapshots; see `visible_iter.rs` for that. Used by one thread at a time.

use crate::base::error::{Error, Result};
use crate::base::iter::{InternalIterator, Take};
use crate::base::key::{SequenceNumber, ValueKind, VersionKey, compare_alike, unpack_trailer, word_behind};
use std::cmp::Ordering;
use std::fmt;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Reverse,
}

/// So many steps of one winner are compared before it is asked how far it may go without.
const STREAK: u32 = 4;

/// Merges sources. Of equal versions the one of the source given first comes first.
pub struct MergingIter {
    sources: Vec<Box<dyn InternalIterator>>,
    /// What keys are expected to begin with.
    prefix: Vec<u8>,
    words: Vec<u64>,
    /// The first so many sources are in memory only: memtables, a batch.
    in_memory: usize,
    heap: Vec<usize>,
    runner_up: usize,
    direction: Direction,
    turning_key: Vec<u8>,
    /// Steps in this direction of this winner that were compared since it was asked.
    streak: u32,
    free: usize,
    /// The winner has each key once.
    distinct: bool,
    /// The present place was reached by a free step.
    is_within: bool,
}

impl MergingIter {
    /// Over `sources`; stands nowhere.
    pub fn new(sources: Vec<Box<dyn InternalIterator>>) -> MergingIter {
        let heap = Vec::with_capacity(sources.len());
        let words = vec![0; sources.len()];
        MergingIter {
            sources,
            prefix: Vec::new(),
            words,
            in_memory: 0,
            heap,
            runner_up: 0,
            direction: Direction::Forward,
            turning_key: Vec::new(),
            streak: 0,
            free: 0,
            distinct: false,
            is_within: false,
        }
    }

    /// Keys that begin with `prefix` are compared by what follows it. Others may come too.
    pub fn with_prefix(mut self, prefix: &[u8]) -> MergingIter {
        self.prefix = prefix.to_vec();
        self.heap.clear();
        self
    }

    /// The first `count` sources are not in tables.
    pub fn with_sources_in_memory(mut self, count: usize) -> MergingIter {
        self.in_memory = count;
        self
    }

    /// Whether the version here lies in a table.
    #[inline]
    pub fn is_in_table(&self) -> bool {
        self.heap[0] >= self.in_memory
    }

    /// What [`with_prefix`](Self::with_prefix) said.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// [`word_behind`] the prefix of the key here.
    #[inline]
    pub fn word(&self) -> u64 {
        let winner = self.heap[0];
        if self.is_within {
            word_behind(&self.prefix, self.sources[winner].key())
        } else {
            self.words[winner]
        }
    }

    /// Moves every source by `each` and starts the heap anew. Stands nowhere after an error.
    fn place(
        &mut self,
        direction: Direction,
        mut each: impl FnMut(&mut dyn InternalIterator) -> Result<()>,
    ) -> Result<()> {
        self.heap.clear();
        (self.streak, self.free, self.is_within) = (0, 0, false);
        for source in &mut self.sources {
            each(source.as_mut())?;
        }
        self.build_heap(direction);
        Ok(())
    }

    fn build_heap(&mut self, direction: Direction) {
        self.direction = direction;
        self.runner_up = 0;
        self.heap.clear();
        for (number, source) in self.sources.iter().enumerate().filter(|(_, source)| source.valid()) {
            self.words[number] = word_behind(&self.prefix, source.key());
            self.heap.push(number);
        }
        for place in (0..self.heap.len() / 2).rev() {
            self.sift_down(place);
        }
    }

    /// Whether source `a` comes before source `b` in the present direction. Both stand on a version.
    #[inline]
    fn wins(&self, a: usize, b: usize) -> bool {
        let order = self.words[a].cmp(&self.words[b]).then_with(|| self.compare(a, b));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Reverse => order == Ordering::Greater,
        }
    }

    #[inline(never)]
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let (x, y) = (&self.sources[a], &self.sources[b]);
        compare_alike(x.key(), y.key()).then_with(|| y.trailer().cmp(&x.trailer())).then_with(|| a.cmp(&b))
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.wins(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if !self.wins(self.heap[child], self.heap[place]) {
                return;
            }
            self.heap.swap(place, child);
            place = child;
        }
    }

    /// Goes on as [`next`](InternalIterator::next) does, for a reader that ends before `bound`: the same for each step between two seeks.
    #[inline]
    pub fn next_towards(&mut self, bound: Option<&[u8]>) -> Result<()> {
        if self.free > 0 && self.direction == Direction::Forward {
            self.free -= 1;
            self.is_within = true;
            return self.sources[self.heap[0]].next().inspect_err(|_| self.heap.clear());
        }
        self.step_towards(Direction::Forward, bound)
    }

    /// Goes back as [`prev`](InternalIterator::prev) does, for a reader that ends at `bound`: the same for each step between two seeks.
    #[inline]
    pub fn prev_towards(&mut self, bound: Option<&[u8]>) -> Result<()> {
        if self.free > 0 && self.direction == Direction::Reverse {
            self.free -= 1;
            self.is_within = true;
            return self.sources[self.heap[0]].prev().inspect_err(|_| self.heap.clear());
        }
        self.step_towards(Direction::Reverse, bound)
    }

    fn step_towards(&mut self, direction: Direction, bound: Option<&[u8]>) -> Result<()> {
        let winner = self.heap[0];
        self.step(direction)?;
        if self.heap.first() != Some(&winner) {
            self.streak = 0;
            return Ok(());
        }
        self.streak += 1;
        if self.streak >= STREAK && (self.heap.len() == 1 || self.runner_up > 0) {
            let rival = (self.heap.len() > 1).then(|| self.sources[self.heap[self.runner_up]].key());
            let source = &self.sources[winner];
            let nearer =
                |rival: &'_ [u8], bound: &'_ [u8]| (rival <= bound) == (direction == Direction::Forward);
            let end = match (rival, bound) {
                (Some(rival), Some(bound)) => Some(if nearer(rival, bound) { rival } else { bound }),
                (rival, bound) => rival.or(bound),
            };
            self.free = match direction {
                Direction::Forward => source.steps_below(end),
                Direction::Reverse => source.steps_above(end),
            };
            self.distinct = self.free > 0 && source.has_distinct_keys();
            // Who had free steps is asked again at once when they are used up.
            self.streak = if self.free > 0 { STREAK - 1 } else { 0 };
        }
        Ok(())
    }

    /// Whether the next step towards the bound certainly leads to another key, below the bound, that no other source has.
    #[inline]
    pub fn next_is_alone(&self) -> bool {
        self.free > 0 && self.distinct && self.direction == Direction::Forward
    }

    /// The same back; then no other source has the key here either.
    #[inline]
    pub fn prev_is_alone(&self) -> bool {
        self.free > 0 && self.distinct && self.direction == Direction::Reverse
    }

    /// Takes all steps of which [`next_is_alone`](Self::next_is_alone) or [`prev_is_alone`](Self::prev_is_alone) holds, handing the versions
    /// to `take` until that breaks. Stands on the last version that it handed over. How many these were.
    pub fn run_alone(&mut self, take: &mut Take<'_>) -> Result<usize> {
        let mut taken = 0;
        if self.free > 0 && self.distinct {
            self.is_within = true;
            let source = &mut self.sources[self.heap[0]];
            let flow = match self.direction {
                Direction::Forward => source.run(self.free, take),
                Direction::Reverse => source.run_back(self.free, take),
            };
            let flow = flow.inspect_err(|_| self.heap.clear())?;
            taken = flow.break_value().unwrap_or(self.free);
            self.free -= taken.min(self.free);
        }
        Ok(taken)
    }

    /// Whether the key here is known to lie on this side of the bound that the last step was given.
    pub fn is_within(&self) -> bool {
        self.is_within
    }

    fn step(&mut self, direction: Direction) -> Result<()> {
        (self.free, self.is_within) = (0, false);
        if self.direction != direction {
            self.streak = 0;
            self.turn(direction)?;
        }
        let winner = self.heap[0];
        let source = &mut self.sources[winner];
        let moved = match direction {
            Direction::Forward => source.next(),
            Direction::Reverse => source.prev(),
        };
        if let Err(error) = moved {
            self.heap.clear();
            return Err(error);
        }
        if !source.valid() {
            self.heap.swap_remove(0);
            self.runner_up = 0;
            self.sift_down(0);
            return Ok(());
        }
        self.words[winner] = word_behind(&self.prefix, source.key());
        if self.heap.len() == 1 {
            return Ok(());
        }
        if self.runner_up == 0 {
            let second_is_better = self.heap.len() > 2 && self.wins(self.heap[2], self.heap[1]);
            self.runner_up = if second_is_better { 2 } else { 1 };
        }
        if self.wins(self.heap[self.runner_up], winner) {
            self.heap.swap(0, self.runner_up);
            self.sift_down(self.runner_up);
            self.runner_up = 0;
        }
        Ok(())
    }

    /// Changes direction on the spot: the winner stays, each other source crosses from one side of it to the other. That is
    /// one step in a source that does not change; a memtable may have got new versions in between, hence the loop.
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let winner = self.heap[0];
        let trailer = self.sources[winner].trailer();
        self.turning_key.clear();
        self.turning_key.extend_from_slice(self.sources[winner].key());
        self.heap.clear();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if number == winner {
                continue;
            }
            match (source.valid(), direction) {
                (true, Direction::Forward) => source.next()?,
                (true, Direction::Reverse) => source.prev()?,
                (false, Direction::Forward) => source.seek_to_first()?,
                (false, Direction::Reverse) => source.seek_to_last()?,
            }
            while source.valid() {
                let order = source.key().cmp(&self.turning_key).then_with(|| trailer.cmp(&source.trailer()));
                match (direction, order.then_with(|| number.cmp(&winner))) {
                    (Direction::Forward, Ordering::Less) => source.next()?,
                    (Direction::Reverse, Ordering::Greater) => source.prev()?,
                    _ => break,
                }
            }
        }
        self.build_heap(direction);
        if self.heap.first() == Some(&winner) {
            return Ok(());
        }
        // Of a table whose checksums are right and whose order is not.
        self.heap.clear();
        Err(out_of_order(&self.turning_key))
    }

    fn winner(&self) -> &dyn InternalIterator {
        self.sources[self.heap[0]].as_ref()
    }
}

impl InternalIterator for MergingIter {
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.place(Direction::Forward, |source| source.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.place(Direction::Reverse, |source| source.seek_to_last())
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.place(Direction::Forward, |source| source.seek(target))
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.place(Direction::Reverse, |source| source.seek_before(target))
    }

    fn next(&mut self) -> Result<()> {
        self.next_towards(None)
    }

    fn prev(&mut self) -> Result<()> {
        self.prev_towards(None)
    }

    fn key(&self) -> &[u8] {
        self.winner().key()
    }

    fn trailer(&self) -> u64 {
        self.winner().trailer()
    }

    fn value(&self) -> &[u8] {
        self.winner().value()
    }
}

impl fmt::Debug for MergingIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergingIter")
            .field("sources", &self.sources.len())
            .field("heap", &self.heap)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

/// What a merge says of sources that are not sorted.
pub fn out_of_order(key: &[u8]) -> Error {
    let what = format!("versions around the key \"{}\" are out of order", key.escape_ascii());
    Error::corruption(Path::new("(merged sources)"), 0, what)
}

/// Splits the trailer of a point version. Sources check what they read from a disk and can name the file; this is the net
/// under them. Errors: `Corruption` for anything but a put or a delete.
pub fn split_point_trailer(trailer: u64) -> Result<(SequenceNumber, ValueKind)> {
    match unpack_trailer(trailer) {
        Some((sequence, kind @ (ValueKind::Put | ValueKind::Delete))) => Ok((sequence, kind)),
        _ => Err(Error::corruption(
            Path::new("(merged sources)"),
            0,
            format!("unknown kind of version in trailer {trailer:#x}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::vector_iter::{Control, VectorIter, Version, order, version};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    #[derive(Clone, Debug)]
    enum Move {
        First,
        Last,
        Seek(u8, u64),
        SeekBefore(u8, u64),
        Next,
        Prev,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            1 => Just(Move::First),
            1 => Just(Move::Last),
            2 => (0u8..8, 0u64..8).prop_map(|(k, s)| Move::Seek(k, s)),
            2 => (0u8..8, 0u64..8).prop_map(|(k, s)| Move::SeekBefore(k, s)),
            8 => Just(Move::Next),
            8 => Just(Move::Prev),
        ];
        proptest::collection::vec(one, 1..60)
    }

    type Spec = Vec<Vec<(u8, u64)>>;

    fn spec() -> impl Strategy<Value = Spec> {
        proptest::collection::vec(proptest::collection::vec((0u8..8, 0u64..8), 0..12), 0..6)
    }

    /// The sources, and the merge as a plain list.
    fn build(spec: &Spec, control: &Arc<Control>) -> (MergingIter, Vec<Version>) {
        let mut all = Vec::new();
        let mut sources: Vec<Box<dyn InternalIterator>> = Vec::new();
        for (number, keys) in spec.iter().enumerate() {
            let mut keys = keys.clone();
            keys.sort_unstable();
            keys.dedup();
            let versions =
                keys.iter().map(|&(k, s)| version(&[k], s, Some(&[number as u8]))).collect::<Vec<_>>();
            all.extend(versions.clone());
            sources.push(Box::new(VectorIter::controlled(versions, control.clone())));
        }
        all.sort_by(order);
        (MergingIter::new(sources), all)
    }

    fn at_or_behind(all: &[Version], key: u8, sequence: u64) -> usize {
        let target = VersionKey::seek(std::slice::from_ref(&key), sequence);
        let target = (target.user_key.to_vec(), sequence << 8 | target.kind as u64, Vec::new());
        all.partition_point(|v| order(v, &target).is_lt())
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(spec in spec(), moves in moves(), fail_at in proptest::option::of(0i64..80)) {
            let control = Arc::new(Control::default());
            let (mut merge, all) = build(&spec, &control);
            if let Some(moves) = fail_at {
                control.moves_left.store(moves, Relaxed);
            }
            let mut at: Option<usize> = None;
            for step in moves {
                let (result, to) = match step {
                    Move::First => (merge.seek_to_first(), Some(0)),
                    Move::Last => (merge.seek_to_last(), all.len().checked_sub(1)),
                    Move::Seek(k, s) => {
                        (merge.seek(VersionKey::seek(&[k], s)), Some(at_or_behind(&all, k, s)))
                    }
                    Move::SeekBefore(k, s) => {
                        (merge.seek_before(VersionKey::seek(&[k], s)), at_or_behind(&all, k, s).checked_sub(1))
                    }
                    Move::Next => match at {
                        Some(here) => (merge.next(), Some(here + 1)),
                        None => continue,
                    },
                    Move::Prev => match at {
                        Some(here) => (merge.prev(), here.checked_sub(1)),
                        None => continue,
                    },
                };
                at = to.filter(|&at| at < all.len());
                if result.is_err() {
                    // The disk comes back; a seek has to work.
                    control.moves_left.store(i64::MAX, Relaxed);
                    at = None;
                }
                prop_assert_eq!(merge.valid(), at.is_some());
                if let Some(here) = at {
                    let found = (merge.key().to_vec(), merge.trailer(), merge.value().to_vec());
                    prop_assert_eq!(&found, &all[here]);
                }
            }
        }
    }

    #[test]
    fn a_run_of_one_source_costs_one_comparison_a_step() {
        let control = Arc::new(Control::default());
        let mut sources: Vec<Box<dyn InternalIterator>> = Vec::new();
        for number in 0..8u8 {
            let versions =
                (0..1000u16).map(|i| version(&[&[number][..], &i.to_be_bytes()].concat(), 1, Some(b"")));
            sources.push(Box::new(VectorIter::controlled(versions.collect(), control.clone())));
        }
        let mut merge = MergingIter::new(sources);
        merge.seek_to_first().unwrap();
        let mut steps = 0;
        while merge.valid() {
            merge.next().unwrap();
            steps += 1;
        }
        assert_eq!(steps, 8000);
        // One comparison looks at two keys; beyond that only the few changes of the winner.
        assert!(control.key_calls.load(Relaxed) < 2 * 8000 + 300);
    }

    #[test]
    fn unknown_kinds_are_corruption() {
        assert!(split_point_trailer(7 << 8 | 2).unwrap_err().is_corruption());
        assert!(split_point_trailer(7 << 8 | 9).unwrap_err().is_corruption());
        assert_eq!(split_point_trailer(7 << 8 | 1).unwrap(), (7, ValueKind::Put));
    }
}
