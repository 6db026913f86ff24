//! Elements read before they are asked for: who pops one element of a large collection will soon pop the next.
//!
//! Reading one costs a search through memtables and tables, reading those beside it in the same walk next to nothing. What a pop read
//! beyond its own need is kept here, and later ones take it out:
//!
//! ```text
//! set    members of one neighbourhood, in any order          SPOP takes any of them
//! list   positions and elements from an end inwards          LPOP, RPOP take the one at the list's end
//! ```
//!
//! *Why it is true.* Everything here was read by someone who held the key's lock, is looked at under it, and is dropped by whoever
//! changes such an element under it: before the commit, which is early rather than late. A command of an EXEC that reads what is
//! staged neither takes nor leaves anything. What is taken and then not popped, since the command failed, is merely forgotten.
//!
//! Bounded: so many collections, so many elements of each, none of them long.

use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many members of a set are worth reading at once.
pub const AHEAD: usize = 16;
/// So many elements of a list, where they have to be in memory.
pub const AHEAD_INLINE: usize = 48;
/// So many where a read may wait: going to a pool and back costs more than reading them, and other clients of the list wait meanwhile.
pub const AHEAD_POOL: usize = 256;
/// Elements of one end together, in bytes.
const END_BYTES_MAX: usize = 8 << 10;
/// Longer elements are not kept, in bytes.
pub const ELEMENT_BYTES_MAX: usize = 256;
const SHARDS: usize = 16;
/// Collections in one shard; a full one starts over.
const IDS_MAX: usize = 16;

/// An element; a short one needs no memory of its own.
pub type Element = SmallVec<[u8; 36]>;

/// An end of a list.
pub type ListEnd = (u64, bool);

#[derive(Debug, Default)]
struct Shard {
    members: HashMap<u64, Vec<Element>>,
    ends: HashMap<ListEnd, VecDeque<(u64, Element)>>,
}

/// What is known of an element at the end of a list.
#[derive(Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// This one.
    Element(Element),
    /// Nothing, but this end was popped from before: reading ahead pays.
    Popped,
    /// Nothing.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ReadAhead {
    shards: [Mutex<Shard>; SHARDS],
    /// Collections in it, so that those who only write need no lock while there are none.
    known: AtomicUsize,
}

impl ReadAhead {
    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        let number = (id % SHARDS as u64) as usize;
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relaxed: who left something of this id held the key's lock, which orders it before this.
    fn is_empty(&self) -> bool {
        self.known.load(Relaxed) == 0
    }

    fn count(&self, before: usize, after: usize) {
        // Relaxed: see `is_empty`. Each shard's share is counted under its lock.
        self.known.fetch_add(after, Relaxed);
        self.known.fetch_sub(before, Relaxed);
    }

    /// Takes out a member of a set; `random` says which.
    pub fn take_member(&self, id: u64, random: u64) -> Option<Element> {
        if self.is_empty() {
            return None;
        }
        let mut shard = self.shard(id);
        let members = shard.members.get_mut(&id)?;
        let at = (random % members.len().max(1) as u64) as usize;
        let member = (at < members.len()).then(|| members.swap_remove(at));
        if members.is_empty() && shard.members.remove(&id).is_some() {
            self.count(1, 0);
        }
        member
    }

    /// Leaves members that are in a set.
    pub fn leave_members(&self, id: u64, members: impl Iterator<Item = Element>) {
        let members: Vec<_> =
            members.filter(|member| member.len() <= ELEMENT_BYTES_MAX).take(AHEAD).collect();
        if members.is_empty() {
            return;
        }
        let mut shard = self.shard(id);
        let before = shard.members.len();
        if before >= IDS_MAX && !shard.members.contains_key(&id) {
            shard.members.clear();
        }
        shard.members.insert(id, members);
        self.count(before, shard.members.len());
    }

    /// A member leaves a set otherwise than by being popped.
    pub fn forget_member(&self, id: u64, member: &[u8]) {
        if !self.is_empty()
            && let Some(members) = self.shard(id).members.get_mut(&id)
        {
            members.retain(|own| **own != *member);
        }
    }

    /// Takes out the element at `position`, the end of a list.
    pub fn take_element(&self, end: ListEnd, position: u64) -> AtEnd {
        if self.is_empty() {
            return AtEnd::Unknown;
        }
        let mut shard = self.shard(end.0);
        let Some(elements) = shard.ends.get_mut(&end) else { return AtEnd::Unknown };
        while let Some((own, element)) = elements.pop_front() {
            if own == position {
                return AtEnd::Element(element);
            }
        }
        AtEnd::Popped
    }

    /// Leaves elements that lie at the end of a list, from outside in; perhaps none, as a mark that one was popped.
    pub fn leave_elements(&self, end: ListEnd, elements: impl Iterator<Item = (u64, Element)>) {
        let mut left_bytes = END_BYTES_MAX;
        let fits = |(_, element): &(u64, Element)| {
            let left = left_bytes.checked_sub(element.len()).filter(|_| element.len() <= ELEMENT_BYTES_MAX);
            left_bytes = left.unwrap_or(0);
            left.is_some()
        };
        let elements: VecDeque<_> = elements.take_while(fits).take(AHEAD_POOL).collect();
        let mut shard = self.shard(end.0);
        let before = shard.ends.len();
        if before >= IDS_MAX && !shard.ends.contains_key(&end) {
            shard.ends.clear();
        }
        shard.ends.insert(end, elements);
        self.count(before, shard.ends.len());
    }

    /// An element of a list is written at `position`. What is kept of an end is in order, so where it lies is seen by both its ends.
    pub fn forget_element(&self, id: u64, position: u64) {
        if self.is_empty() {
            return;
        }
        let mut shard = self.shard(id);
        for right in [false, true] {
            if let Some(elements) = shard.ends.get_mut(&(id, right))
                && let (Some((front, _)), Some((back, _))) = (elements.front(), elements.back())
                && (*front.min(back)..=*front.max(back)).contains(&position)
            {
                elements.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn members_are_taken_once_and_forgotten() {
        let ahead = ReadAhead::default();
        assert_eq!(ahead.take_member(1, 0), None);
        ahead.leave_members(
            1,
            [smallvec![1], smallvec![2], smallvec![3], smallvec![0; ELEMENT_BYTES_MAX + 1]].into_iter(),
        );
        ahead.forget_member(1, &[2]);
        let mut taken = [ahead.take_member(1, 5).unwrap(), ahead.take_member(1, 7).unwrap()];
        taken.sort();
        assert_eq!(taken.map(SmallVec::into_vec), [vec![1], vec![3]]);
        assert_eq!(ahead.take_member(1, 0), None);
        assert!(ahead.is_empty());
    }

    #[test]
    fn elements_are_those_of_the_position_asked_for() {
        let (ahead, end) = (ReadAhead::default(), (7, true));
        assert_eq!(ahead.take_element(end, 50), AtEnd::Unknown);
        ahead.leave_elements(end, std::iter::empty());
        assert_eq!(ahead.take_element(end, 50), AtEnd::Popped);
        let elements = || (1..=4u64).map(|step| (50 - step, smallvec![step as u8]));
        ahead.leave_elements(end, elements());
        assert_eq!(ahead.take_element((7, false), 49), AtEnd::Unknown);
        assert_eq!(ahead.take_element(end, 49), AtEnd::Element(smallvec![1]));
        // One was popped otherwise: what lies outside of the end is nothing any more.
        assert_eq!(ahead.take_element(end, 47), AtEnd::Element(smallvec![3]));
        ahead.forget_element(7, 48);
        assert_eq!(ahead.take_element(end, 46), AtEnd::Element(smallvec![4]));
        ahead.leave_elements(end, elements());
        ahead.forget_element(7, 47);
        assert_eq!(ahead.take_element(end, 49), AtEnd::Popped);
    }

    #[test]
    fn it_is_bounded() {
        let ahead = ReadAhead::default();
        for id in 0..10_000 {
            ahead.leave_members(id, std::iter::repeat_n(smallvec![1], 100));
            ahead.leave_elements((id, true), (0..1000).map(|at| (at, smallvec![1; 50])));
        }
        assert!(ahead.known.load(Relaxed) <= 2 * SHARDS * IDS_MAX);
        let shard = ahead.shard(9_999);
        assert_eq!(
            (shard.members[&9_999].len(), shard.ends[&(9_999, true)].len()),
            (AHEAD, END_BYTES_MAX / 50)
        );
    }
}
