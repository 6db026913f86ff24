//! What commands leave for background work, in memory and bounded.
//!
//! None of it is needed to be right: ids under construction and ids to look at have a gc record on the disk, and expired
//! keys have an entry in `ttl`. These lists only spare the background a search.

use crate::encoding::meta::Space;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An id within its space.
pub type SpaceId = (Space, u64);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ids whose data is being written and that no key holds yet. Their gc record is not for the reaper.
#[derive(Debug, Default)]
pub struct UnderConstruction(Mutex<HashSet<SpaceId>>);

impl UnderConstruction {
    /// From now on the reaper leaves it alone.
    pub fn insert(&self, id: SpaceId) {
        lock(&self.0).insert(id);
    }

    /// It is linked, or given up.
    pub fn remove(&self, id: SpaceId) {
        lock(&self.0).remove(&id);
    }

    /// Whether it is here.
    pub fn contains(&self, id: SpaceId) -> bool {
        lock(&self.0).contains(&id)
    }
}

/// Ids that may have lost their holder, for the reaper.
#[derive(Debug)]
pub struct GcHints(Mutex<Hints>);

#[derive(Debug)]
struct Hints {
    ids: VecDeque<SpaceId>,
    /// How many of them are being looked at.
    in_hand: usize,
    /// There may be gc records that are not in `ids`.
    scan: bool,
}

const HINTS_MAX: usize = 64 << 10;

impl GcHints {
    /// Nothing is known yet: the gc records are to be read.
    pub fn new() -> GcHints {
        GcHints(Mutex::new(Hints { ids: VecDeque::new(), in_hand: 0, scan: true }))
    }

    /// Adds one whose gc record is written.
    pub fn push(&self, id: SpaceId) {
        let mut hints = lock(&self.0);
        if hints.ids.len() < HINTS_MAX {
            hints.ids.push_back(id);
        } else {
            hints.scan = true;
        }
    }

    /// Takes up to `max`, and whether the gc records are to be read as well. [`done`](Self::done) is to follow.
    pub fn take(&self, max: usize) -> (Vec<SpaceId>, bool) {
        let mut hints = lock(&self.0);
        let count = hints.ids.len().min(max);
        let ids = hints.ids.drain(..count).collect();
        hints.in_hand = count;
        (ids, hints.ids.is_empty() && std::mem::take(&mut hints.scan))
    }

    /// What was taken has been looked at.
    pub fn done(&self) {
        lock(&self.0).in_hand = 0;
    }

    /// How many there are that may have to be reclaimed.
    pub fn pending(&self) -> usize {
        let hints = lock(&self.0);
        hints.ids.len() + hints.in_hand
    }

    /// The gc records are to be read (again).
    pub fn request_scan(&self) {
        lock(&self.0).scan = true;
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let hints = lock(&self.0);
        hints.ids.is_empty() && !hints.scan
    }
}

impl Default for GcHints {
    fn default() -> Self {
        GcHints::new()
    }
}

/// Expired keys that a reader came across and that are still counted. The sweeper deletes them soon; until then they are
/// taken off the count, so that a key that was seen to be gone is not counted any more.
#[derive(Debug, Default)]
pub struct ExpiredSeen {
    keys: Mutex<HashMap<Space, HashSet<Box<[u8]>>>>,
    /// How many in all, so that nobody locks for nothing. Changes under the lock; Relaxed reads may be late.
    count: AtomicUsize,
}

const SEEN_MAX: usize = 8 << 10;

impl ExpiredSeen {
    /// Remembers a key, unless there are too many already.
    pub fn insert(&self, space: Space, key: &[u8]) {
        if self.count.load(Relaxed) >= SEEN_MAX {
            return;
        }
        let mut keys = lock(&self.keys);
        if keys.entry(space).or_default().insert(key.into()) {
            self.count.fetch_add(1, Relaxed);
        }
    }

    /// How many keys of a space are here.
    pub fn count_in(&self, space: Space) -> usize {
        if self.is_empty() {
            return 0;
        }
        lock(&self.keys).get(&space).map_or(0, HashSet::len)
    }

    /// Some key, which stays until [`remove`](Self::remove).
    pub fn any(&self) -> Option<(Space, Box<[u8]>)> {
        if self.is_empty() {
            return None;
        }
        let keys = lock(&self.keys);
        keys.iter().find_map(|(space, keys)| Some((*space, keys.iter().next()?.clone())))
    }

    /// It is deleted, or was not expired after all.
    pub fn remove(&self, space: Space, key: &[u8]) {
        if self.is_empty() {
            return;
        }
        let mut keys = lock(&self.keys);
        if let Some(of_space) = keys.get_mut(&space) {
            if of_space.remove(key) {
                self.count.fetch_sub(1, Relaxed);
            }
            if of_space.is_empty() {
                keys.remove(&space);
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }
}

/// How far the sweeper came in the fields of which hash. Where it does not know, it begins at the beginning.
#[derive(Debug, Default)]
pub struct FieldSweeps(Mutex<HashMap<SpaceId, Vec<u8>>>);

const SWEEPS_MAX: usize = 64;

impl FieldSweeps {
    /// Takes the place where to go on; empty for the beginning.
    pub fn take(&self, space: Space, id: u64) -> Vec<u8> {
        lock(&self.0).remove(&(space, id)).unwrap_or_default()
    }

    /// Remembers it, unless there are too many.
    pub fn put(&self, space: Space, id: u64, place: Vec<u8>) {
        let mut places = lock(&self.0);
        if places.len() >= SWEEPS_MAX {
            places.clear();
        }
        places.insert((space, id), place);
    }
}

/// How far the sweep for what has expired is.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Everything due before this place in `ttl` has been looked at.
    pub front: Vec<u8>,
    /// But for these entries, whose keys were held by somebody.
    pub held: BTreeSet<Vec<u8>>,
    /// The walk behind the front, if one is under way.
    pub behind: Option<WalkBehind>,
    /// When the last one ended, by the clock that expiry goes by.
    pub behind_ended_ms: u64,
    /// How long it rests.
    pub behind_rest_ms: u64,
    /// When the last one from the very beginning began.
    pub whole_begun_ms: u64,
}

/// A walk over what the front has passed already.
#[derive(Debug)]
pub struct WalkBehind {
    /// Where it goes on.
    pub from: Vec<u8>,
    /// Where it ends.
    pub to: Vec<u8>,
    /// How long its turns took together.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_bounded() {
        let hints = GcHints::new();
        assert_eq!(hints.take(9), (vec![], true));
        (0..HINTS_MAX as u64 + 1).for_each(|id| hints.push((1, id)));
        assert_eq!(hints.take(2), (vec![(1, 0), (1, 1)], false));
        let (rest, scan) = hints.take(usize::MAX);
        assert!(rest.len() == HINTS_MAX - 2 && scan && hints.is_empty());
    }

    #[test]
    fn seen_keys_count_once() {
        let seen = ExpiredSeen::default();
        assert!(seen.any().is_none());
        seen.insert(1, b"a");
        seen.insert(1, b"a");
        seen.insert(2, b"b");
        assert_eq!((seen.count_in(1), seen.count_in(2), seen.count_in(3)), (1, 1, 0));
        let (space, key) = seen.any().unwrap();
        seen.remove(space, &key);
        seen.remove(space, &key);
        assert_eq!(seen.count_in(1) + seen.count_in(2), 1);
        seen.remove(1, b"a");
        seen.remove(2, b"b");
        assert!(seen.is_empty());
    }
}
