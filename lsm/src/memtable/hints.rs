//! Where searches that were made beforehand have ended, so that the insertion that comes for the key need not search again.
//!
//! ```text
//! high half of the key's hash --low bits--> slot: tag (the high half itself) | the node before the key on level 0, 1, ..
//! ```
//!
//! As with a finger (`fingers.rs`), each place is a node of its level for ever, so whatever threads write into one slot between each other,
//! a hint is right or of no help: who follows it compares keys.

use crate::base::sync::{AtomicU32, Ordering};
use crate::memtable::arena::OwnCacheLine;

/// Levels that a hint is about; of a hundred towers one is taller.
pub const HINT_LEVELS: usize = if cfg!(loom) { 2 } else { 7 };
/// Enough for what all workers look ahead to.
const SLOTS: usize = if cfg!(loom) { 1 } else { 256 };

#[repr(align(32))]
struct Hint {
    tag: AtomicU32,
    before: [AtomicU32; HINT_LEVELS],
}

/// Searches that may be made before insertions have shown that they use them.
const CREDIT_MAX: u32 = 1024;
/// Without credit, one look in so many gets some all the same.
const TRIES_EACH: u32 = 16;

/// See the head of the file.
pub struct Hints {
    slots: Box<[Hint]>,
    /// Falls with each search made beforehand, grows by two with each insertion that needed none: commands that turn out to write
    /// nothing use it up.
    credit: OwnCacheLine<AtomicU32>,
    /// Looks that were refused.
    refused: AtomicU32,
}

impl Hints {
    /// Whether searches beforehand are made use of, at least by half; `count` of them are to be made.
    #[inline]
    pub fn worth_making(&self, count: u32) -> bool {
        // Relaxed, and not as one step, as all of the credit: it is about right.
        let credit = self.credit.0.load(Ordering::Relaxed);
        if credit >= count {
            self.credit.0.store(credit - count, Ordering::Relaxed);
            return true;
        }
        let refused = self.refused.load(Ordering::Relaxed).wrapping_add(1);
        self.refused.store(refused, Ordering::Relaxed);
        refused.is_multiple_of(TRIES_EACH)
    }

    /// An insertion found its place by a hint.
    #[inline]
    pub fn helped(&self) {
        let credit = self.credit.0.load(Ordering::Relaxed);
        self.credit.0.store((credit + 2).min(CREDIT_MAX), Ordering::Relaxed);
    }

    /// Hints that all point at the head of a list.
    pub fn new(head: u32) -> Hints {
        let hint = |_| Hint { tag: AtomicU32::new(0), before: std::array::from_fn(|_| AtomicU32::new(head)) };
        Hints {
            slots: (0..SLOTS).map(hint).collect(),
            credit: OwnCacheLine(AtomicU32::new(CREDIT_MAX)),
            refused: AtomicU32::new(0),
        }
    }

    #[inline]
    fn slot(&self, hash: u64) -> (&Hint, u32) {
        let tag = (hash >> 32) as u32;
        (&self.slots[tag as usize % SLOTS], tag)
    }

    /// Remembers the nodes before the key with this hash.
    #[inline]
    pub fn put(&self, hash: u64, before: &[u32; HINT_LEVELS]) {
        let (hint, tag) = self.slot(hash);
        for (place, node) in hint.before.iter().zip(before) {
            // Release: pairs with the Acquire in `before`. Who puts has itself seen the node's key.
            place.store(*node, Ordering::Release);
        }
        // Relaxed: if it is seen too soon or too late, comparing keys will tell.
        hint.tag.store(tag, Ordering::Relaxed);
    }

    /// The node before the key with this hash on a level below [`HINT_LEVELS`], if that is remembered.
    #[inline]
    pub fn before(&self, hash: u64) -> Option<impl Fn(usize) -> u32> {
        let (hint, tag) = self.slot(hash);
        // Relaxed: see `put`. Acquire: pairs with the Release there, for the node's key.
        (hint.tag.load(Ordering::Relaxed) == tag)
            .then_some(|level: usize| hint.before[level].load(Ordering::Acquire))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn searches_that_nobody_uses_are_made_seldom() {
        let hints = Hints::new(0);
        let made = |used: usize| {
            (0..10_000)
                .filter(|_| {
                    let worth = hints.worth_making(16);
                    (0..if worth { used } else { 0 }).for_each(|_| hints.helped());
                    worth
                })
                .count()
        };
        assert!((10_000 / 16..800).contains(&made(0)));
        // As soon as some are used again, they are made again.
        assert!(made(12) > 9_000);
        assert!(made(16) == 10_000);
        assert!(made(4) < 2_000);
    }
}
