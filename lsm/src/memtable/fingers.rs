//! Where the last insertions into a skiplist went, so that the next one need not search from the top if it goes beside one of them.
//!
//! The ends of lists, streams, queues and times of expiry all grow in one or two places; an insertion there then costs a step
//! or two on the levels of its tower. A finger is, for each level, the node before such a place. Nodes are never unlinked, so any of
//! them stays a node of its level for ever, and a finger that threads have written in a mixture is merely of less help
//! (finger search: Pugh, "A Skip List Cookbook", 1990; RocksDB's insertion hints are its kin).
//!
//! Insertions all over the list get nothing from it: fingers that did not help a few times in a row are only tried again now and then.

use crate::base::sync::{AtomicU32, Ordering};
use crate::memtable::arena::OwnCacheLine;

/// A queue grows at one end and shrinks at the other.
pub const FINGERS: usize = if cfg!(loom) { 1 } else { 2 };
/// So many failures in a row are forgiven.
const PATIENCE: u32 = 8;
/// Without patience left, one insertion in so many tries.
const TRIES_EACH: u64 = 16;

/// See the head of the file.
pub struct Fingers<const LEVELS: usize> {
    fingers: [OwnCacheLine<[AtomicU32; LEVELS]>; FINGERS],
    mood: OwnCacheLine<Mood>,
}

struct Mood {
    patience: AtomicU32,
    /// The finger that helped last; the other one is given up first.
    helped: AtomicU32,
}

impl<const LEVELS: usize> Fingers<LEVELS> {
    /// Fingers on the head of a list.
    pub fn new(head: u32) -> Fingers<LEVELS> {
        let finger = |_| OwnCacheLine(std::array::from_fn(|_| AtomicU32::new(head)));
        let mood = Mood { patience: AtomicU32::new(PATIENCE), helped: AtomicU32::new(0) };
        Fingers { fingers: std::array::from_fn(finger), mood: OwnCacheLine(mood) }
    }

    /// Whether to try at all; `turn` is another number for each insertion.
    #[inline]
    pub fn worth_trying(&self, turn: u64) -> bool {
        // Relaxed, as all of the mood: a hint.
        turn.is_multiple_of(TRIES_EACH) || self.mood.0.patience.load(Ordering::Relaxed) > 0
    }

    /// Where `finger` stands on `level`.
    #[inline]
    pub fn get(&self, finger: usize, level: usize) -> u32 {
        // Acquire: pairs with the Release in `put`, for the node's key.
        self.fingers[finger].0[level].load(Ordering::Acquire)
    }

    /// Puts `finger` before the place where a node was inserted on `level`.
    #[inline]
    pub fn put(&self, finger: usize, level: usize, before: u32) {
        let place = &self.fingers[finger].0[level];
        // Most insertions beside a finger leave it as it is; a line that is not written need not go to other cores.
        if place.load(Ordering::Relaxed) != before {
            // Release: pairs with the Acquire in `get`. Who puts has itself seen the node's key.
            place.store(before, Ordering::Release);
        }
    }

    /// This finger found the place.
    #[inline]
    pub fn helped(&self, finger: usize) {
        let set = |word: &AtomicU32, value| {
            if word.load(Ordering::Relaxed) != value {
                word.store(value, Ordering::Relaxed);
            }
        };
        set(&self.mood.0.patience, PATIENCE);
        set(&self.mood.0.helped, finger as u32);
    }

    /// None did. Which one to put elsewhere.
    #[inline]
    pub fn none_helped(&self) -> usize {
        let patience = self.mood.0.patience.load(Ordering::Relaxed);
        if patience > 0 {
            self.mood.0.patience.store(patience - 1, Ordering::Relaxed);
        }
        let given_up = (self.mood.0.helped.load(Ordering::Relaxed) as usize + 1) % FINGERS;
        self.mood.0.helped.store(given_up as u32, Ordering::Relaxed);
        given_up
    }
}
