//! Where searches that were made beforehand have ended, so that the insertion that comes for the key need not search again.
//!
//! ```text
//! high half of the key's hash --low bits--> slot: tag (the high half itself) | the node before the key on level 0, 1, ..
//! ```
//!
//! As with a finger (`fingers.rs`), each place is a node of its level for ever, so whatever threads write into one slot between each other,
//! a hint is right or of no help: who follows it compares keys.

use crate::base::sync::{AtomicU32, Ordering};

/// Levels that a hint is about; of a hundred towers one is taller.
pub const HINT_LEVELS: usize = if cfg!(loom) { 2 } else { 7 };
/// Enough for what all workers look ahead to.
const SLOTS: usize = if cfg!(loom) { 1 } else { 256 };

#[repr(align(32))]
struct Hint {
    tag: AtomicU32,
    before: [AtomicU32; HINT_LEVELS],
}

/// See the head of the file.
pub struct Hints(Box<[Hint]>);

impl Hints {
    /// Hints that all point at the head of a list.
    pub fn new(head: u32) -> Hints {
        let hint = |_| Hint { tag: AtomicU32::new(0), before: std::array::from_fn(|_| AtomicU32::new(head)) };
        Hints((0..SLOTS).map(hint).collect())
    }

    #[inline]
    fn slot(&self, hash: u64) -> (&Hint, u32) {
        let tag = (hash >> 32) as u32;
        (&self.0[tag as usize % SLOTS], tag)
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
