//! The iterator that every sorted source of versions offers: memtables, blocks, tables, levels, merges.

use crate::base::error::Result;
use crate::base::key::VersionKey;
use std::ops::ControlFlow;

/// Takes a version (user key, trailer, value) and says whether to go on.
pub type Take<'a> = dyn FnMut(RunKey<'_>, u64, &[u8]) -> ControlFlow<()> + 'a;

/// A user key as a run of versions hands it over. A source that keeps what its keys have in common apart from the rest puts the two together
/// only for somebody who reads that far to the front.
#[derive(Debug)]
pub enum RunKey<'a> {
    /// A key that lies in one piece.
    Whole(&'a [u8]),
    /// One in two pieces.
    Parts {
        /// Begins with what the keys have in common; has the rest of some key behind that.
        buffer: &'a mut Vec<u8>,
        /// How many bytes the keys have in common.
        common: usize,
        /// The rest of this one.
        suffix: &'a [u8],
    },
}

impl<'a> RunKey<'a> {
    /// What follows the first `skipped` bytes; nothing if the key has not that many.
    #[inline]
    pub fn tail(self, skipped: usize) -> &'a [u8] {
        let (bytes, skipped) = match self {
            RunKey::Whole(key) => (key, skipped),
            RunKey::Parts { buffer, common, suffix } => match skipped.checked_sub(common) {
                Some(skipped) => (suffix, skipped),
                None => (put_behind(buffer, common, suffix), skipped),
            },
        };
        bytes.get(skipped..).unwrap_or_default()
    }
}

/// Puts `suffix` in the place of whatever stands in `buffer` behind the first `common` bytes.
#[inline]
pub fn put_behind<'a>(buffer: &'a mut Vec<u8>, common: usize, suffix: &[u8]) -> &'a [u8] {
    buffer.truncate(common);
    buffer.extend_from_slice(suffix);
    buffer
}

/// Walks versions in the order of [`compare_versions`](crate::base::key::compare_versions), both ways.
///
/// A new iterator stands nowhere (`valid()` is false). `key`, `trailer` and `value` may be called only while `valid()`;
/// what they return lives until the next call that moves. After an `Err` the iterator stands nowhere; a seek starts it
/// again. A memory-only iterator answers `Err(NeedsIo)` where it would have to read.
pub trait InternalIterator: Send {
    /// Whether it stands on a version.
    fn valid(&self) -> bool;
    /// Goes to the first version.
    fn seek_to_first(&mut self) -> Result<()>;
    /// Goes to the last version.
    fn seek_to_last(&mut self) -> Result<()>;
    /// Goes to the first version at or behind `target`.
    fn seek(&mut self, target: VersionKey<'_>) -> Result<()>;
    /// Goes to the last version before `target`.
    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()>;
    /// Goes to the next version; requires `valid()`.
    fn next(&mut self) -> Result<()>;
    /// Goes to the version before; requires `valid()`.
    fn prev(&mut self) -> Result<()>;
    /// The user key here.
    fn key(&self) -> &[u8];
    /// Sequence and kind here, as [`pack_trailer`](crate::base::key::pack_trailer) packs them.
    fn trailer(&self) -> u64;
    /// The value here; empty for a delete.
    fn value(&self) -> &[u8];
    /// How many steps forward from here certainly stand on keys below `bound` (any, without one) and cannot fail. 0 where that is not
    /// known at little cost.
    fn steps_below(&self, _bound: Option<&[u8]>) -> usize {
        0
    }
    /// How many steps back from here certainly stand on keys above `bound` (any, without one) and cannot fail. 0 where that is not known at
    /// little cost.
    fn steps_above(&self, _bound: Option<&[u8]>) -> usize {
        0
    }
    /// Takes `steps` steps forward, no more than [`steps_below`](Self::steps_below) told of, and hands each version that it comes to to
    /// `take`, until that breaks: then it says how many it took. It stands on the last version that it handed over.
    fn run(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        for step in 1..=steps {
            self.next()?;
            if take(RunKey::Whole(self.key()), self.trailer(), self.value()).is_break() {
                return Ok(ControlFlow::Break(step));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
    /// The same back, as far as [`steps_above`](Self::steps_above) told.
    fn run_back(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        for step in 1..=steps {
            self.prev()?;
            if take(RunKey::Whole(self.key()), self.trailer(), self.value()).is_break() {
                return Ok(ControlFlow::Break(step));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
    /// Whether each key comes once at most, with its newest version.
    fn has_distinct_keys(&self) -> bool {
        false
    }
}
