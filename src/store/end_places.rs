//! The outermost places of large sorted sets, in memory: who takes the lowest or highest element of a set will soon take the next.
//!
//! Where elements come and go at an end (a queue by time, a list of the best), what has gone lies between those that are there, and a walk
//! from one to the next has to cross it. Here the next one is a look:
//!
//! ```text
//! in the records     A  x  x  x  B  x  x  C  ...  K  ...         x: gone
//! here               A           B        C  ...  K              every element from the end up to the last one that is named
//! ```
//!
//! When it is not enough, one reads on behind the last one, not from the end: what has gone before it is never crossed again.
//!
//! *Why it is true.* Everything here was read by someone who held the key's lock and is looked at under it, as of the last commit. A
//! commit takes what is known of the sets that it changes away, and puts it back, changed likewise, when it is made; if it fails, it is
//! forgotten. A command of an EXEC that reads what is staged neither looks nor leaves anything.
//!
//! Bounded: so many sets, so many places of each end, none of them long. So what is known of a set may be let go of at any moment, also
//! between two looks by whoever holds its key's lock.

use crate::store::fence_cache::FenceChange;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many places are worth reading when an end is first asked for.
pub const READ_FIRST: usize = 16;
/// So many when those that were known are used up.
pub const READ_NEXT: usize = 128;
/// On a worker, where they have to be in memory, no more than so many.
pub const READ_INLINE: usize = 32;
/// More are not asked for.
pub const ASKED_MAX: usize = 512;
/// More are not kept of one end.
const PLACES_MAX: usize = 1024;
/// Nor more bytes.
const END_BYTES_MAX: usize = 64 << 10;
/// A longer place is not kept, nor what lies further in, in bytes.
pub const PLACE_BYTES_MAX: usize = 256;
const SHARDS: usize = 16;
/// Ends in one shard; a full one starts over.
const ENDS_MAX: usize = 16;

/// An end of the set under an id: the highest if it says so.
pub type SetEnd = (u64, bool);

type Shard = HashMap<SetEnd, Places>;

/// From outside in.
#[derive(Debug, Default)]
struct Places {
    list: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Places {
    fn innermost(&self) -> Option<&[u8]> {
        self.list.back().map(|place| &**place)
    }

    /// Where `place` lies or would lie; `None` if that is further in than what is known.
    fn find(&self, is_highest: bool, place: &[u8]) -> Option<Result<usize, usize>> {
        let found = match is_highest {
            false => self.list.binary_search_by(|own| (**own).cmp(place)),
            true => self.list.binary_search_by(|own| place.cmp(own)),
        };
        (found != Err(self.list.len())).then_some(found)
    }

    fn change(&mut self, is_highest: bool, place: &[u8], change: i8) {
        match (self.find(is_highest, place), change) {
            (Some(Ok(at)), -1) => {
                self.list.remove(at);
                self.bytes -= place.len();
            }
            (Some(Err(at)), 1) if place.len() > PLACE_BYTES_MAX => self.keep(at),
            (Some(Err(at)), 1) => {
                self.list.insert(at, place.into());
                self.bytes += place.len();
                if self.is_full() {
                    self.keep(self.list.len() / 2);
                }
            }
            _ => {}
        }
    }

    /// Lets go of all but the outermost.
    fn keep(&mut self, count: usize) {
        self.bytes -= self.list.drain(count..).map(|place| place.len()).sum::<usize>();
    }

    fn is_full(&self) -> bool {
        self.list.len() > PLACES_MAX || self.bytes > END_BYTES_MAX
    }

    /// Adds those that lie behind the innermost, while there is room.
    fn extend<'p>(&mut self, places: impl Iterator<Item = &'p [u8]>) {
        for place in places.take_while(|place| place.len() <= PLACE_BYTES_MAX) {
            self.list.push_back(place.into());
            self.bytes += place.len();
            if self.is_full() {
                self.keep(self.list.len() - 1);
                break;
            }
        }
    }
}

/// Where to read on when an end is not known far enough.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadOn {
    /// Behind this place, which is there; without one from the end itself.
    pub behind: Option<Box<[u8]>>,
    /// So many places are worth reading.
    pub worth: usize,
}

impl Default for ReadOn {
    fn default() -> ReadOn {
        ReadOn { behind: None, worth: READ_FIRST }
    }
}

impl ReadOn {
    fn behind(known: &Places) -> ReadOn {
        ReadOn { behind: known.list.back().cloned(), worth: READ_NEXT }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct EndPlaces {
    shards: [Mutex<Shard>; SHARDS],
    /// Ends in it, so that those who only write need no lock while there are none.
    known: AtomicUsize,
}

/// What is known of sets that a commit changes, as it will be when that is made.
#[derive(Debug)]
pub struct Taken<'e> {
    from: &'e EndPlaces,
    ends: Vec<(SetEnd, Places)>,
}

impl Taken<'_> {
    /// The commit is made.
    pub fn put_back(self) {
        for (end, places) in self.ends {
            self.from.put(&mut self.from.shard(end.0), end, places);
        }
    }
}

impl EndPlaces {
    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        let number = (id % SHARDS as u64) as usize;
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relaxed: who left something of a set held its key's lock, which orders it before this.
    fn is_empty(&self) -> bool {
        self.known.load(Relaxed) == 0
    }

    fn put(&self, shard: &mut Shard, end: SetEnd, places: Places) {
        let before = shard.len();
        if before >= ENDS_MAX && !shard.contains_key(&end) {
            shard.clear();
        }
        shard.insert(end, places);
        self.count(before, shard.len());
    }

    fn count(&self, before: usize, after: usize) {
        // Relaxed: see `is_empty`. Each shard's share is counted under its lock.
        self.known.fetch_add(after, Relaxed);
        self.known.fetch_sub(before, Relaxed);
    }

    /// The outermost place for which `is_wanted` holds. `Err` if none is known: where to read on.
    pub fn find(&self, end: SetEnd, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, ReadOn> {
        if self.is_empty() {
            return Err(ReadOn::default());
        }
        let shard = self.shard(end.0);
        let Some(known) = shard.get(&end) else { return Err(ReadOn::default()) };
        let found = known.list.iter().find(|place| is_wanted(place)).map(|place| place.to_vec());
        found.ok_or_else(|| ReadOn::behind(known))
    }

    /// The outermost `count` places, from outside in. `Err` if so many are not known: those that are, and where to read on.
    pub fn outermost(&self, end: SetEnd, count: usize) -> Result<Vec<Vec<u8>>, (Vec<Vec<u8>>, ReadOn)> {
        if self.is_empty() {
            return Err((Vec::new(), ReadOn::default()));
        }
        match self.shard(end.0).get(&end) {
            None => Err((Vec::new(), ReadOn::default())),
            Some(known) => {
                let places = known.list.iter().take(count).map(|place| place.to_vec()).collect::<Vec<_>>();
                if places.len() < count { Err((places, ReadOn::behind(known))) } else { Ok(places) }
            }
        }
    }

    /// All that is known of an end, from outside in, for tests.
    pub fn known(&self, end: SetEnd) -> Vec<Vec<u8>> {
        let shard = self.shard(end.0);
        shard.get(&end).map_or_else(Vec::new, |known| known.list.iter().map(|place| place.to_vec()).collect())
    }

    /// Leaves places as they lie at an end, from outside in, none left out; the first of them lies behind what is known.
    pub fn leave<'p>(&self, end: SetEnd, read_on: &ReadOn, places: impl Iterator<Item = &'p [u8]>) {
        let mut shard = self.shard(end.0);
        let before = shard.len();
        let known = shard.remove(&end);
        self.count(before, shard.len());
        let mut known = known.filter(|_| read_on.behind.is_some()).unwrap_or_default();
        // Or what was known has been let go of meanwhile.
        if known.innermost() == read_on.behind.as_deref() {
            known.extend(places);
            self.put(&mut shard, end, known);
        }
    }

    /// A commit with these changes is about to be made.
    pub fn take(&self, changes: &[FenceChange]) -> Taken<'_> {
        let mut taken = Taken { from: self, ends: Vec::new() };
        if self.is_empty() {
            return taken;
        }
        for change in changes {
            for is_highest in [false, true] {
                let end = (change.id, is_highest);
                if !taken.ends.iter().any(|(own, _)| *own == end) {
                    let mut shard = self.shard(change.id);
                    let before = shard.len();
                    taken.ends.extend(shard.remove(&end).map(|places| (end, places)));
                    self.count(before, shard.len());
                }
                if change.many {
                    taken.ends.retain(|(own, _)| *own != end);
                }
                let Some((_, places)) = taken.ends.iter_mut().find(|(own, _)| *own == end) else { continue };
                for (place, by) in &change.elements {
                    places.change(is_highest, place, *by);
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const ID: u64 = 7;

    fn outermost(set: &BTreeSet<Vec<u8>>, is_highest: bool, count: usize) -> Vec<Vec<u8>> {
        match is_highest {
            false => set.iter().take(count).cloned().collect(),
            true => set.iter().rev().take(count).cloned().collect(),
        }
    }

    proptest! {
        /// What is known is what is there, whatever commits change and whichever of them fail.
        #[test]
        fn it_says_what_the_set_holds(
            steps in proptest::collection::vec((proptest::collection::vec((0..400u16, any::<bool>()), 0..6), 0..10u8, any::<bool>(), 1..40usize), 1..200),
        ) {
            let ends = EndPlaces::default();
            let mut set: BTreeSet<Vec<u8>> = (0..40u16).map(|n| (n * 10).to_be_bytes().to_vec()).collect();
            for (elements, fate, is_highest, count) in steps {
                let mut next = set.clone();
                let mut change = FenceChange { id: ID, many: fate == 1, ..FenceChange::default() };
                for (place, comes) in elements {
                    // Some are too long to be kept.
                    let mut bytes = place.to_be_bytes().to_vec();
                    bytes.resize(if place % 37 == 0 { PLACE_BYTES_MAX + 1 } else { 2 }, 0);
                    match comes {
                        true if next.insert(bytes.clone()) => change.note(&bytes, 1),
                        false if next.remove(&bytes) => change.note(&bytes, -1),
                        _ => {}
                    }
                }
                let taken = ends.take(&[FenceChange { id: ID + 1, ..FenceChange::default() }, change]);
                // The commit of one in ten fails.
                if fate > 0 {
                    taken.put_back();
                    set = next;
                }
                let wanted = outermost(&set, is_highest, count);
                match ends.outermost((ID, is_highest), count) {
                    Ok(known) => prop_assert_eq!(known, wanted),
                    Err((known, read_on)) => {
                        let all = outermost(&set, is_highest, set.len());
                        let from = match &read_on.behind {
                            None => 0,
                            Some(last) => 1 + all.iter().position(|place| **place == **last).unwrap(),
                        };
                        prop_assert_eq!(&known[..], &all[..from]);
                        let places = all[from..].iter().map(Vec::as_slice).take(read_on.worth);
                        ends.leave((ID, is_highest), &read_on, places);
                    }
                }
                let even = |place: &[u8]| place[1].is_multiple_of(2);
                for is_highest in [false, true] {
                    if let Ok(found) = ends.find((ID, is_highest), even) {
                        let wanted = outermost(&set, is_highest, set.len()).into_iter().find(|place| even(place));
                        prop_assert_eq!(Some(found), wanted);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_is_said_not_to_be() {
        let ends = EndPlaces::default();
        let nothing = || Err((Vec::new(), ReadOn::default()));
        let behind = |place: u8| ReadOn { behind: Some([place].into()), worth: READ_NEXT };
        assert_eq!(ends.outermost((ID, true), 1), nothing());
        ends.leave((ID, true), &ReadOn::default(), [&[9][..], &[8], &[7]].into_iter());
        assert_eq!(ends.outermost((ID, false), 1), nothing());
        assert_eq!(ends.outermost((ID, true), 3), Ok(vec![vec![9], vec![8], vec![7]]));
        assert_eq!(ends.outermost((ID, true), 4), Err((vec![vec![9], vec![8], vec![7]], behind(7))));
        assert_eq!(ends.find((ID, true), |place| place[0] < 9), Ok(vec![8]));
        assert_eq!(ends.find((ID, true), |place| place[0] < 7), Err(behind(7)));
        // Read on, and what nobody knows any more is not read on behind.
        ends.leave((ID, true), &behind(7), [&[6][..]].into_iter());
        assert_eq!(ends.outermost((ID, true), 4).map(|places| places[3].clone()), Ok(vec![6]));
        // A commit that fails.
        drop(ends.take(&[FenceChange { id: ID, ..FenceChange::default() }]));
        assert_eq!(ends.outermost((ID, true), 1), nothing());
        ends.leave((ID, true), &behind(6), [&[5][..]].into_iter());
        assert_eq!(ends.outermost((ID, true), 1), nothing());
    }

    #[test]
    fn it_is_bounded() {
        let ends = EndPlaces::default();
        for id in 0..10_000u64 {
            ends.leave((id, true), &ReadOn::default(), (0..1000u16).rev().map(|_| &[1; 50][..]));
        }
        assert!(ends.known.load(Relaxed) <= SHARDS * ENDS_MAX);
        let mut change = FenceChange { id: 9_999, ..FenceChange::default() };
        (0..255u8).for_each(|n| change.note(&[2, n], 1));
        ends.take(&[change]).put_back();
        assert!(ends.shard(9_999)[&(9_999, true)].list.len() <= PLACES_MAX);
    }
}
