//! What a reader may see: of each key the newest version at or below its read point, if that is a value.
//!
//! The merge below yields every version of every key, newest first. This iterator walks it in groups of equal keys:
//!
//! ```text
//! read point 6    a#9 a#5 a#2 | b#8 | c#4(delete) c#1 | d#3 ..          [d..e) range-deleted at #5
//! seen                a#5            (hidden)           (hidden)
//! ```
//!
//! *Forward* the source stands on the version that is shown, so its value is not copied; the key is copied once a key into a
//! buffer that is used again, because the older versions to be skipped are known by it. *In reverse* a group is met oldest
//! version first, so the newest visible one is known only when the source has left the group: key and value lie in buffers.
//!
//! Where one source is known to be in front of the others for many keys, [`VisibleIter::for_each_tail`] and [`VisibleIter::for_each_tail_back`] have
//! it hand them out in one call.
//!
//! Keys come in order even if a damaged table's do not: a walk that would go back ends with `Corruption`, so every walk ends. (Within a block of
//! a table that says it has each key once that is taken for granted; a block ends.)
//!
//! Many versions of one key are not walked one by one: after [`RESEEK_AFTER`] the source is sought past them. Many keys without
//! anything to show (a stretch of deletes) are, so that who cannot wait sets a limit: [`VisibleIter::with_skip_limit`] makes an
//! error of it, [`VisibleIter::stop_after`] a place to go on from.
//!
//! Invariants:
//! - `Forward`: the source stands on the version shown, and `key` equals its key once `remember_key` was called.
//! - `Reverse`: the source stands before every version of `key` (or nowhere), `key` and `value` hold what is shown.
//! - Changing direction seeks: a memtable may have got new keys between here and there.
//!
//! It is owned and `Send`, one thread at a time; what keeps memtables and tables alive are the sources and covers themselves.
//! Whoever makes one guarantees that every write at or below the read point is already in its sources and covers.

use crate::base::error::{Error, Result};
use crate::base::iter::{InternalIterator, RunKey, Take};
use crate::base::key::{
    SEQUENCE_MAX, SequenceNumber, ValueKind, VersionKey, common_prefix, compare_alike, compare_versions,
    pack_trailer, word_behind,
};
use crate::base::range_delete::RangeTombstones;
use crate::merge::merging_iter::{MergingIter, out_of_order, split_point_trailer};
use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Sequence numbers from here on are of writes that are not committed yet (an [`IndexedBatch`] laid over a read point).
/// They are newer than everything and seen at every read point. The commit order never gets here.
///
/// [`IndexedBatch`]: crate::merge::indexed_batch::IndexedBatch
pub const UNCOMMITTED: SequenceNumber = 1 << 55;

/// So many versions of one key are stepped over before the source is asked to seek past the rest.
pub const RESEEK_AFTER: u32 = 8;

/// Of steps in vain, one in so many has its place noted.
const NOTED_EACH: u64 = 16;

/// So many single steps are taken before a run is tried again that ended with its first version.
const SINGLE_STEPS: u32 = 16;

/// A value buffer that grew beyond this is given back when it is next used for a smaller value.
const VALUE_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Something that may hold range tombstones: a memtable, a table, a batch.
pub trait RangeCover: Send + Sync {
    /// No tombstone over keys in `[lower, upper)` that a reader at `read` sees has a greater sequence number; 0: there is none. Asked once,
    /// when an iterator is made: what comes later is above its read point.
    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber;
    /// Sequence number of the newest tombstone over `key` at or below `read`; 0 if there is none.
    fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber;
}

impl RangeCover for RangeTombstones {
    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        RangeTombstones::newest_within(self, lower, upper, read)
    }

    fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        RangeTombstones::newest_covering(self, key, read)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Nowhere,
    Forward,
    Reverse,
}

/// Walks the keys that a read point sees, within bounds, both ways.
///
/// A new one stands nowhere. `key`, `value`, `next` and `prev` require `valid()`. After an error it stands nowhere and a seek
/// starts it again.
pub struct VisibleIter {
    source: MergingIter,
    covers: Vec<Arc<dyn RangeCover>>,
    /// What is as new as that is covered by none of them.
    covered_below: SequenceNumber,
    read: SequenceNumber,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    /// Versions stepped over since it was made.
    skipped: u64,
    /// Those of them that a compaction of tables would have saved: hidden, and by something that lies in a table as well.
    in_vain: u64,
    /// Between which keys, about.
    in_vain_between: Option<(Vec<u8>, Vec<u8>)>,
    /// What is shown of the present key, or hides it, lies in a table.
    newest_is_in_table: bool,
    skip_max: u64,
    stop_at: u64,
    /// It stands nowhere because it was to stop, behind `key`.
    stopped: bool,
    state: State,
    key: Vec<u8>,
    /// [`word_behind`] the prefix of `key`, walking forward and if `key_is_stale` is false.
    word: u64,
    /// The same of `upper`.
    upper_word: u64,
    /// Forward: `key` is another one.
    key_is_stale: bool,
    value: Vec<u8>,
}

impl VisibleIter {
    /// The keys in `[lower, upper)` of `source` as of `read`. `covers` must hold every range tombstone that belongs to the
    /// sources; those without any between the bounds are let go.
    pub fn new(
        source: MergingIter,
        mut covers: Vec<Arc<dyn RangeCover>>,
        read: SequenceNumber,
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
    ) -> VisibleIter {
        let mut covered_below = 0;
        covers.retain(|cover| {
            let newest = cover.newest_within(lower.as_deref().unwrap_or_default(), upper.as_deref(), read);
            covered_below = newest.max(covered_below);
            newest > 0
        });
        let prefix = lower.as_deref().zip(upper.as_deref()).map_or(&[][..], |(a, b)| common_prefix(a, b));
        VisibleIter {
            word: 0,
            upper_word: upper.as_deref().map_or(u64::MAX, |upper| word_behind(prefix, upper)),
            source: source.with_prefix(prefix),
            covers,
            covered_below,
            read,
            lower,
            upper,
            skipped: 0,
            in_vain: 0,
            in_vain_between: None,
            newest_is_in_table: false,
            skip_max: u64::MAX,
            stop_at: u64::MAX,
            stopped: false,
            state: State::Nowhere,
            key: Vec::new(),
            key_is_stale: false,
            value: Vec::new(),
        }
    }

    /// Bounds the work of all moves together: one that would step over the next of `versions` versions answers
    /// [`Error::NeedsIo`], as a memory-only read does, so that it can be run again where waiting hurts nobody. (In reverse the
    /// version that is shown has been stepped over too.)
    pub fn with_skip_limit(mut self, versions: u64) -> VisibleIter {
        self.skip_max = versions;
        self
    }

    /// Has it stop on its way forward once it has stepped over `versions` more versions (and the rest of that key's): it then
    /// stands nowhere, and [`stopped_behind`](Self::stopped_behind) says where to go on. Every move gets by one key at least.
    pub fn stop_after(&mut self, versions: u64) {
        self.stop_at = self.skipped.saturating_add(versions);
    }

    /// If it stopped before it came to a key or to the end: the key behind which it is to go on.
    pub fn stopped_behind(&self) -> Option<&[u8]> {
        self.stopped.then_some(&self.key)
    }

    /// How many versions it stepped over that a compaction of tables could have taken away, and between which keys (both included), about.
    pub fn steps_in_vain(&self) -> Option<(u64, &[u8], &[u8])> {
        self.in_vain_between.as_ref().map(|(first, last)| (self.in_vain, &first[..], &last[..]))
    }

    /// Versions of `key` were stepped over, hidden.
    fn count_in_vain(&mut self, steps: u64) {
        let before = self.in_vain;
        self.in_vain += steps;
        // The range need not be exact.
        if before / NOTED_EACH == self.in_vain / NOTED_EACH && before > 0 {
            return;
        }
        let key = self.key.as_slice();
        match &mut self.in_vain_between {
            None => self.in_vain_between = Some((key.to_vec(), key.to_vec())),
            Some((first, _)) if key < first.as_slice() => *first = key.to_vec(),
            Some((_, last)) if key > last.as_slice() => *last = key.to_vec(),
            Some(_) => {}
        }
    }

    /// Whether it stands on a key.
    pub fn valid(&self) -> bool {
        self.state != State::Nowhere
    }

    /// The key here.
    pub fn key(&self) -> &[u8] {
        debug_assert!(self.valid());
        if self.key_is_stale { self.source.key() } else { &self.key }
    }

    /// The value here.
    pub fn value(&self) -> &[u8] {
        debug_assert!(self.valid());
        if self.state == State::Forward { self.source.value() } else { &self.value }
    }

    /// Goes to the first key within the bounds.
    pub fn seek_to_first(&mut self) -> Result<()> {
        self.leave_for_seek();
        match &self.lower {
            Some(lower) => self.source.seek(VersionKey::seek(lower, SEQUENCE_MAX))?,
            None => self.source.seek_to_first()?,
        }
        self.find_forward(false)
    }

    /// Goes to the last key within the bounds.
    pub fn seek_to_last(&mut self) -> Result<()> {
        self.leave_for_seek();
        match &self.upper {
            Some(upper) => self.source.seek_before(VersionKey::seek(upper, SEQUENCE_MAX))?,
            None => self.source.seek_to_last()?,
        }
        self.find_reverse(false)
    }

    /// Goes to the first key at or behind `target`, within the bounds.
    pub fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.leave_for_seek();
        if self.upper.as_deref().is_some_and(|upper| target >= upper) {
            return Ok(());
        }
        let from = self.lower.as_deref().map_or(target, |lower| lower.max(target));
        self.source.seek(VersionKey::seek(from, SEQUENCE_MAX))?;
        self.find_forward(false)
    }

    /// Goes to the last key before `target`, within the bounds.
    pub fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        self.leave_for_seek();
        if self.lower.as_deref().is_some_and(|lower| target <= lower) {
            return Ok(());
        }
        let to = self.upper.as_deref().map_or(target, |upper| upper.min(target));
        self.source.seek_before(VersionKey::seek(to, SEQUENCE_MAX))?;
        self.find_reverse(false)
    }

    /// Goes to the next key; requires `valid()`.
    #[expect(clippy::should_implement_trait, reason = "a cursor that lends and can fail, not an Iterator")]
    pub fn next(&mut self) -> Result<()> {
        match self.leave() {
            State::Nowhere => {
                debug_assert!(false, "next on an iterator that stands nowhere");
                return Ok(());
            }
            State::Forward if self.source.next_is_alone() => {
                self.key_is_stale = false;
                self.source.next_towards(self.upper.as_deref())?;
                if !self.is_shown_without_doubt()? {
                    return self.find_forward(false);
                }
                (self.state, self.key_is_stale) = (State::Forward, true);
                return Ok(());
            }
            State::Forward => {
                self.remember_key();
                self.source.next_towards(self.upper.as_deref())?;
            }
            State::Reverse => {
                self.source.seek(oldest_of(&self.key))?;
                self.word = word_behind(self.source.prefix(), &self.key);
            }
        }
        self.find_forward(true)
    }

    /// Hands keys and values to `f`, from the one here on, until it breaks; then it stands on the one at which it broke, else nowhere.
    /// Cheaper than single steps where one source has many keys in a row. Of each key it hands over what follows the first `skipped` bytes.
    pub fn for_each_tail(
        &mut self,
        skipped: usize,
        mut f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let broke = Cell::new(false);
        let shown_here = self.trailer_of_shown();
        let take: &mut Take<'_> = &mut take_shown(self.read, self.covered_below, skipped, &broke, &mut f);
        let mut single_steps = 0u32;
        while self.valid() {
            if take(RunKey::Whole(self.key()), shown_here, self.value()).is_break() {
                return Ok(());
            }
            if single_steps > 0 || self.state != State::Forward || !self.source.next_is_alone() {
                single_steps = single_steps.saturating_sub(1);
                self.next()?;
                continue;
            }
            self.leave_for_seek();
            let taken = self.source.run_alone(take)?;
            if !broke.get() && !self.is_shown_without_doubt()? {
                single_steps = if taken == 1 { SINGLE_STEPS } else { 0 };
                self.find_forward(false)?;
                continue;
            }
            (self.state, self.key_is_stale) = (State::Forward, true);
            if broke.get() {
                return Ok(());
            }
            self.next()?;
        }
        Ok(())
    }

    /// The same back: to the first key.
    pub fn for_each_tail_back(
        &mut self,
        skipped: usize,
        mut f: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let broke = Cell::new(false);
        let shown_here = self.trailer_of_shown();
        let take: &mut Take<'_> = &mut take_shown(self.read, self.covered_below, skipped, &broke, &mut f);
        let mut single_steps = 0u32;
        while self.valid() {
            if take(RunKey::Whole(self.key()), shown_here, self.value()).is_break() {
                return Ok(());
            }
            if single_steps > 0 || self.state != State::Reverse || !self.source.prev_is_alone() {
                single_steps = single_steps.saturating_sub(1);
                self.prev()?;
                continue;
            }
            // The source stands on the next key already, perhaps in another block.
            self.leave_for_seek();
            let key = self.source.key();
            if key >= self.key.as_slice() {
                return Err(out_of_order(key));
            }
            match take(RunKey::Whole(key), self.source.trailer(), self.source.value()) {
                ControlFlow::Break(()) => single_steps = SINGLE_STEPS,
                ControlFlow::Continue(()) => {
                    self.source.run_alone(take)?;
                }
            }
            if broke.get() || !self.is_shown_without_doubt()? {
                self.find_reverse(false)?;
                if broke.get() {
                    return Ok(());
                }
                continue;
            }
            self.key.clear();
            self.key.extend_from_slice(self.source.key());
            self.source.prev_towards(self.lower.as_deref())?;
            self.find_reverse(true)?;
        }
        Ok(())
    }

    /// A trailer that [`take_shown`] takes for one of a version that is shown.
    fn trailer_of_shown(&self) -> u64 {
        pack_trailer(self.read.max(self.covered_below), ValueKind::Put)
    }

    /// Whether the version that the source stands on is one that [`take_shown`] takes.
    fn is_shown_without_doubt(&self) -> Result<bool> {
        let (sequence, kind) = split_point_trailer(self.source.trailer())?;
        Ok(kind == ValueKind::Put && self.sees(sequence) && sequence >= self.covered_below)
    }

    /// Standing forward, before the source moves.
    fn remember_key(&mut self) {
        if self.key_is_stale {
            self.key.clear();
            self.key.extend_from_slice(self.source.key());
            self.word = self.source.word();
            self.newest_is_in_table = self.source.is_in_table();
            self.key_is_stale = false;
        }
    }

    /// Goes to the key before; requires `valid()`.
    pub fn prev(&mut self) -> Result<()> {
        match self.leave() {
            State::Nowhere => {
                debug_assert!(false, "prev on an iterator that stands nowhere");
                return Ok(());
            }
            State::Forward => {
                self.remember_key();
                self.source.seek_before(VersionKey::seek(&self.key, SEQUENCE_MAX))?;
            }
            State::Reverse => {}
        }
        self.find_reverse(true)
    }

    /// Stands nowhere; where it stood.
    fn leave(&mut self) -> State {
        self.stopped = false;
        std::mem::replace(&mut self.state, State::Nowhere)
    }

    /// The same for a seek, which leaves nothing to be compared with.
    fn leave_for_seek(&mut self) {
        self.leave();
        self.key_is_stale = false;
    }

    /// From where the source stands, finds the next key to show. With `skip_group` the versions of `key` are passed over:
    /// that key has been dealt with.
    fn find_forward(&mut self, skip_group: bool) -> Result<()> {
        let mut in_group = skip_group;
        let mut skip_group = skip_group;
        let mut in_row = 0;
        while self.source.valid() {
            let (key, word) = (self.source.key(), self.source.word());
            let order = match in_group {
                true => self.word.cmp(&word).then_with(|| compare_alike(&self.key, key)),
                false => Ordering::Less,
            };
            if order == Ordering::Greater {
                return Err(out_of_order(key));
            }
            if order == Ordering::Less {
                // Of smaller words the key is below.
                if word >= self.upper_word
                    && !self.source.is_within()
                    && self.upper.as_deref().is_some_and(|upper| key >= upper)
                {
                    return Ok(());
                }
                if in_group && self.skipped >= self.stop_at {
                    self.stopped = true;
                    return Ok(());
                }
                self.key.clear();
                self.key.extend_from_slice(key);
                self.word = word;
                (in_group, skip_group, in_row) = (true, false, 0);
            }
            let (sequence, kind) = split_point_trailer(self.source.trailer())?;
            if !skip_group && self.sees(sequence) {
                self.newest_is_in_table = self.source.is_in_table();
                if kind == ValueKind::Put && !self.covered(sequence) {
                    self.state = State::Forward;
                    return Ok(());
                }
                skip_group = true;
            }
            self.count_skipped()?;
            if skip_group && self.newest_is_in_table {
                self.count_in_vain(1);
            }
            in_row += 1;
            if in_row <= RESEEK_AFTER {
                self.source.next_towards(self.upper.as_deref())?;
                continue;
            }
            in_row = 0;
            if skip_group && sequence > 0 {
                reseek(&mut self.source, oldest_of(&self.key))?;
            } else if !skip_group && sequence > self.read + 1 {
                reseek(&mut self.source, VersionKey::seek(&self.key, self.read))?;
            } else {
                self.source.next_towards(self.upper.as_deref())?;
            }
        }
        Ok(())
    }

    /// From where the source stands, finds the key before to show, and leaves the source before its versions. With `before_key` it
    /// must lie before `key`.
    fn find_reverse(&mut self, mut before_key: bool) -> Result<()> {
        while self.source.valid() {
            let key = self.source.key();
            if std::mem::replace(&mut before_key, true) && key >= self.key.as_slice() {
                return Err(out_of_order(key));
            }
            if !self.source.is_within() && self.lower.as_deref().is_some_and(|lower| key < lower) {
                return Ok(());
            }
            self.key.clear();
            self.key.extend_from_slice(key);
            let before = self.skipped;
            let newest = self.take_group()?;
            let shown =
                newest.is_some_and(|(sequence, kind)| kind == ValueKind::Put && !self.covered(sequence));
            let hidden = (self.skipped - before).saturating_sub(u64::from(shown));
            if hidden > 0 && self.newest_is_in_table {
                self.count_in_vain(hidden);
            }
            if shown {
                self.state = State::Reverse;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Walks the source backwards out of the versions of `key`. Answers the newest one that is seen and leaves its value in
    /// `value`.
    fn take_group(&mut self) -> Result<Option<(SequenceNumber, ValueKind)>> {
        let mut newest = None;
        let mut in_row = 0;
        while self.source.valid() && self.source.key() == self.key.as_slice() {
            if in_row == RESEEK_AFTER {
                newest = self.seek_newest_seen()?;
                self.source.seek_before(VersionKey::seek(&self.key, SEQUENCE_MAX))?;
                return Ok(newest);
            }
            let (sequence, kind) = split_point_trailer(self.source.trailer())?;
            if self.sees(sequence) {
                newest = Some((sequence, kind));
                self.newest_is_in_table = self.source.is_in_table();
                set_value(&mut self.value, self.source.value());
            }
            self.count_skipped()?;
            in_row += 1;
            self.source.prev_towards(self.lower.as_deref())?;
        }
        Ok(newest)
    }

    /// The newest version of `key` that is seen, found from the newest end; there are many.
    fn seek_newest_seen(&mut self) -> Result<Option<(SequenceNumber, ValueKind)>> {
        self.source.seek(VersionKey::seek(&self.key, SEQUENCE_MAX))?;
        let mut in_row = 0;
        while self.source.valid() && self.source.key() == self.key.as_slice() {
            let (sequence, kind) = split_point_trailer(self.source.trailer())?;
            if self.sees(sequence) {
                self.newest_is_in_table = self.source.is_in_table();
                set_value(&mut self.value, self.source.value());
                return Ok(Some((sequence, kind)));
            }
            self.count_skipped()?;
            in_row += 1;
            if in_row == RESEEK_AFTER && sequence > self.read + 1 {
                reseek(&mut self.source, VersionKey::seek(&self.key, self.read))?;
            } else {
                self.source.next()?;
            }
        }
        Ok(None)
    }

    fn sees(&self, sequence: SequenceNumber) -> bool {
        sees(self.read, sequence)
    }

    /// Whether a range tombstone that is seen hides the version of `key` at `sequence`.
    fn covered(&self, sequence: SequenceNumber) -> bool {
        sequence < self.covered_below
            && self.covers.iter().any(|cover| cover.newest_covering(&self.key, self.read) > sequence)
    }

    fn count_skipped(&mut self) -> Result<()> {
        self.skipped += 1;
        if self.skipped > self.skip_max { Err(Error::NeedsIo) } else { Ok(()) }
    }
}

/// Whether a reader at `read` sees what was written at `sequence`.
#[inline]
fn sees(read: SequenceNumber, sequence: SequenceNumber) -> bool {
    sequence <= read || sequence >= UNCOMMITTED
}

/// Hands versions to `f` as long as it is plain that a reader at `read` is shown them. One function for steps and runs, so that `f` is
/// compiled into it.
fn take_shown<F: FnMut(&[u8], &[u8]) -> ControlFlow<()>>(
    read: SequenceNumber,
    covered_below: SequenceNumber,
    skipped: usize,
    broke: &Cell<bool>,
    f: &mut F,
) -> impl FnMut(RunKey<'_>, u64, &[u8]) -> ControlFlow<()> {
    move |key, trailer, value| {
        let sequence = trailer >> 8;
        if trailer as u8 != ValueKind::Put as u8 || !sees(read, sequence) || sequence < covered_below {
            return ControlFlow::Break(());
        }
        let flow = f(key.tail(skipped), value);
        broke.set(flow.is_break());
        flow
    }
}

/// Seeks on from a version of a key to a later one, or behind them all. In an unsorted table that might lead back, and round for ever.
fn reseek(source: &mut MergingIter, target: VersionKey<'_>) -> Result<()> {
    let here = source.trailer();
    source.seek(target)?;
    let onward =
        !source.valid() || compare_versions(target.user_key, here, source.key(), source.trailer()).is_lt();
    if onward { Ok(()) } else { Err(out_of_order(target.user_key)) }
}

/// The last place that a version of `key` can have.
fn oldest_of(key: &[u8]) -> VersionKey<'_> {
    VersionKey { user_key: key, sequence: 0, kind: ValueKind::Delete }
}

fn set_value(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.clear();
    if buffer.capacity() > VALUE_BUFFER_BYTES_MAX && value.len() <= VALUE_BUFFER_BYTES_MAX {
        *buffer = Vec::new();
    }
    buffer.extend_from_slice(value);
}

impl fmt::Debug for VisibleIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisibleIter")
            .field("source", &self.source)
            .field("covers", &self.covers.len())
            .field("read", &self.read)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::range_delete::RangeTombstone;
    use crate::base::rng::Rng;
    use crate::merge::vector_iter::{Control, VectorIter, Version, version};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound;
    use std::sync::atomic::Ordering::Relaxed;

    const KEYS: u8 = 12;

    /// Keys of which some are prefixes of others.
    fn key_of(number: u8) -> Vec<u8> {
        if number.is_multiple_of(2) { vec![number / 2] } else { vec![number / 2, 0] }
    }

    /// What is handed over of entries when so many bytes of each key are skipped.
    fn tails(entries: &[(&Vec<u8>, &Vec<u8>)], skipped: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let tail = |key: &Vec<u8>| key.get(skipped..).unwrap_or_default().to_vec();
        entries.iter().map(|(key, value)| (tail(key), value.to_vec())).collect()
    }

    #[derive(Clone, Debug)]
    enum Write {
        Put(u8),
        Delete(u8),
        DeleteRange(u8, u8),
    }

    /// A write and the source it lies in.
    fn writes() -> impl Strategy<Value = Vec<(Write, usize)>> {
        let write = prop_oneof![
            8 => (0..KEYS).prop_map(Write::Put),
            // One hot key with many versions.
            8 => Just(Write::Put(5)),
            3 => (0..KEYS).prop_map(Write::Delete),
            2 => (0..KEYS, 0..KEYS).prop_map(|(a, b)| Write::DeleteRange(a, b)),
        ];
        proptest::collection::vec((write, 0usize..4), 0..80)
    }

    #[derive(Clone, Debug)]
    enum Move {
        First,
        Last,
        Seek(u8),
        SeekBefore(u8),
        Next,
        Prev,
        /// Breaks at the one of the first number, and leaves out as many first bytes of each key as the second says.
        ForEach(usize, usize),
        ForEachBack(usize, usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            1 => Just(Move::First),
            1 => Just(Move::Last),
            2 => (0..KEYS).prop_map(Move::Seek),
            2 => (0..KEYS).prop_map(Move::SeekBefore),
            6 => Just(Move::Next),
            6 => Just(Move::Prev),
            2 => (1usize..8, 0usize..3).prop_map(|(count, skipped)| Move::ForEach(count, skipped)),
            2 => (1usize..8, 0usize..3).prop_map(|(count, skipped)| Move::ForEachBack(count, skipped)),
        ];
        proptest::collection::vec(one, 1..40)
    }

    type Parts = (Vec<Box<dyn InternalIterator>>, Vec<Arc<dyn RangeCover>>);

    fn parts(writes: &[(Write, usize)], control: &Arc<Control>) -> Parts {
        let mut points: Vec<Vec<Version>> = vec![Vec::new(); 4];
        let mut ranges: Vec<Vec<RangeTombstone>> = vec![Vec::new(); 4];
        for (at, (write, source)) in writes.iter().enumerate() {
            let sequence = at as u64 + 1;
            match *write {
                Write::Put(k) => {
                    points[*source].push(version(&key_of(k), sequence, Some(&sequence.to_le_bytes())))
                }
                Write::Delete(k) => points[*source].push(version(&key_of(k), sequence, None)),
                Write::DeleteRange(a, b) => {
                    ranges[*source].push(RangeTombstone { start: key_of(a), end: key_of(b), sequence })
                }
            }
        }
        let sources = points
            .into_iter()
            .map(|p| Box::new(VectorIter::controlled(p, control.clone())) as Box<dyn InternalIterator>);
        let covers = ranges.into_iter().map(|r| Arc::new(RangeTombstones::build(r)) as Arc<dyn RangeCover>);
        (sources.collect(), covers.collect())
    }

    fn model(
        writes: &[(Write, usize)],
        read: u64,
        lower: &Option<Vec<u8>>,
        upper: &Option<Vec<u8>>,
    ) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut seen = BTreeMap::new();
        for (at, (write, _)) in writes.iter().enumerate().take(read as usize) {
            match *write {
                Write::Put(k) => {
                    seen.insert(key_of(k), (at as u64 + 1).to_le_bytes().to_vec());
                }
                Write::Delete(k) => {
                    seen.remove(&key_of(k));
                }
                Write::DeleteRange(a, b) => seen.retain(|k, _| !(key_of(a) <= *k && *k < key_of(b))),
            }
        }
        seen.retain(|k, _| lower.as_ref().is_none_or(|l| k >= l) && upper.as_ref().is_none_or(|u| k < u));
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn agrees_with_a_map(
            writes in writes(),
            moves in moves(),
            read in 0u64..90,
            lower in proptest::option::weighted(0.3, 0..KEYS),
            upper in proptest::option::weighted(0.3, 0..KEYS),
            fail_at in proptest::option::weighted(0.2, 0i64..200),
        ) {
            let (lower, upper) = (lower.map(key_of), upper.map(key_of));
            let seen = model(&writes, read, &lower, &upper);
            let control = Arc::new(Control::default());
            let (sources, covers) = parts(&writes, &control);
            let mut iter = VisibleIter::new(MergingIter::new(sources), covers, read, lower, upper);
            control.moves_left.store(fail_at.unwrap_or(i64::MAX), Relaxed);
            let mut at: Option<Vec<u8>> = None;
            let from = |bound: Bound<Vec<u8>>| seen.range((bound, Bound::Unbounded)).next().map(|e| e.0.clone());
            let upto = |bound: Bound<Vec<u8>>| seen.range((Bound::Unbounded, bound)).next_back().map(|e| e.0.clone());
            for step in moves {
                let (result, to) = match (step, &at) {
                    (Move::First, _) => (iter.seek_to_first(), from(Bound::Unbounded)),
                    (Move::Last, _) => (iter.seek_to_last(), upto(Bound::Unbounded)),
                    (Move::Seek(k), _) => (iter.seek(&key_of(k)), from(Bound::Included(key_of(k)))),
                    (Move::SeekBefore(k), _) => (iter.seek_before(&key_of(k)), upto(Bound::Excluded(key_of(k)))),
                    (Move::Next, Some(here)) => (iter.next(), from(Bound::Excluded(here.clone()))),
                    (Move::Prev, Some(here)) => (iter.prev(), upto(Bound::Excluded(here.clone()))),
                    (Move::ForEach(count, skipped), Some(here)) => {
                        let mut given = Vec::new();
                        let result = iter.for_each_tail(skipped, |tail, value| {
                            given.push((tail.to_vec(), value.to_vec()));
                            if given.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                        });
                        let passed = seen.range(here.clone()..).take(count).collect::<Vec<_>>();
                        let due = tails(&passed, skipped);
                        prop_assert!(due.starts_with(&given) && (result.is_err() || given == due));
                        (result, passed.get(count - 1).map(|(key, _)| (*key).clone()))
                    }
                    (Move::ForEachBack(count, skipped), Some(here)) => {
                        let mut given = Vec::new();
                        let result = iter.for_each_tail_back(skipped, |tail, value| {
                            given.push((tail.to_vec(), value.to_vec()));
                            if given.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                        });
                        let passed = seen.range(..=here.clone()).rev().take(count).collect::<Vec<_>>();
                        let due = tails(&passed, skipped);
                        prop_assert!(due.starts_with(&given) && (result.is_err() || given == due));
                        (result, passed.get(count - 1).map(|(key, _)| (*key).clone()))
                    }
                    (_, None) => continue,
                };
                at = to;
                if let Err(error) = result {
                    prop_assert!(error.is_needs_io());
                    control.moves_left.store(i64::MAX, Relaxed);
                    at = None;
                }
                prop_assert_eq!(iter.valid(), at.is_some());
                if let Some(here) = &at {
                    prop_assert_eq!(iter.key(), here.as_slice());
                    prop_assert_eq!(iter.value(), seen[here].as_slice());
                }
            }
        }
    }

    fn hot_key(versions: u64) -> (VisibleIter, Arc<Control>) {
        let control = Arc::new(Control::default());
        let mut all = (1..=versions).map(|s| version(b"hot", s, Some(b"v"))).collect::<Vec<_>>();
        all.push(version(b"a", 1, Some(b"v")));
        all.push(version(b"z", 1, Some(b"v")));
        let source = MergingIter::new(vec![Box::new(VectorIter::controlled(all, control.clone()))]);
        (VisibleIter::new(source, Vec::new(), versions / 2, None, None), control)
    }

    #[test]
    fn many_versions_of_a_key_are_not_walked() {
        let (mut iter, control) = hot_key(10_000);
        for key in [&b"a"[..], b"hot", b"z"] {
            if iter.valid() {
                iter.next().unwrap()
            } else {
                iter.seek_to_first().unwrap()
            }
            assert_eq!(iter.key(), key);
        }
        for key in [&b"hot"[..], b"a"] {
            iter.prev().unwrap();
            assert_eq!(iter.key(), key);
        }
        assert!(control.moves.load(Relaxed) < 80, "{} moves", control.moves.load(Relaxed));
    }

    fn thousand_deletes() -> VisibleIter {
        let mut deletes: Vec<Version> = (0..1000u16).map(|i| version(&i.to_be_bytes(), 1, None)).collect();
        deletes.push(version(&2000u16.to_be_bytes(), 1, Some(b"v")));
        let source = MergingIter::new(vec![Box::new(VectorIter::new(deletes))]);
        VisibleIter::new(source, Vec::new(), 9, None, None)
    }

    #[test]
    fn a_skip_limit_ends_a_long_walk_with_an_error() {
        let mut iter = thousand_deletes().with_skip_limit(100);
        iter.seek(&950u16.to_be_bytes()).unwrap();
        assert!(iter.valid());
        assert!(iter.seek(&940u16.to_be_bytes()).unwrap_err().is_needs_io() && !iter.valid());
        let mut iter = thousand_deletes().with_skip_limit(100);
        assert!(iter.seek_to_first().unwrap_err().is_needs_io() && !iter.valid());
        let mut iter = thousand_deletes().with_skip_limit(100);
        iter.seek_to_last().unwrap();
        assert!(iter.prev().unwrap_err().is_needs_io() && !iter.valid());
    }

    #[test]
    fn short_walks_tell_between_which_keys_they_went_in_vain() {
        let mut iter = thousand_deletes();
        iter.seek(&980u16.to_be_bytes()).unwrap();
        let (first, last) = (980u16.to_be_bytes(), 995u16.to_be_bytes());
        assert_eq!(iter.steps_in_vain(), Some((20, &first[..], &last[..])));
    }

    #[test]
    fn a_walk_that_stopped_goes_on_behind_where_it_did() {
        let (mut from, mut pieces) = (Vec::new(), 0);
        loop {
            let mut iter = thousand_deletes();
            iter.stop_after(100);
            iter.seek(&from).unwrap();
            let Some(behind) = iter.stopped_behind() else {
                assert_eq!(iter.key(), 2000u16.to_be_bytes());
                break;
            };
            assert!(!iter.valid());
            from = [behind, &[0]].concat();
            pieces += 1;
        }
        assert_eq!(pieces, 10);
        // Even one that may step over nothing gets on.
        let mut iter = thousand_deletes();
        iter.stop_after(0);
        iter.seek_to_first().unwrap();
        assert_eq!(iter.stopped_behind(), Some(&0u16.to_be_bytes()[..]));
        iter.seek(&1500u16.to_be_bytes()).unwrap();
        assert!(iter.valid() && iter.stopped_behind().is_none());
        iter.next().unwrap();
        assert!(!iter.valid() && iter.stopped_behind().is_none());
    }

    #[test]
    fn is_send() {
        fn assert_send<T: Send>() {}
        assert_send::<VisibleIter>();
    }

    /// Hostile tables may hold versions in any order: answers may be wrong then, but every walk ends.
    #[test]
    fn walks_over_unsorted_sources_end() {
        let mut rng = Rng::new(5);
        let mut refused = 0;
        for round in 0..3000 {
            let count = 1 + rng.below(60);
            let mut sources: Vec<Box<dyn InternalIterator>> = Vec::new();
            for _ in 0..1 + rng.below(3) {
                let mut one =
                    || version(&[rng.below(3) as u8], rng.below(40), (round % 3 > 0).then_some(b"v"));
                sources.push(Box::new(VectorIter::unsorted((0..count).map(|_| one()).collect())));
            }
            let mut iter = VisibleIter::new(MergingIter::new(sources), Vec::new(), 20, None, None);
            let forward = round % 2 == 0;
            let mut walked = if forward { iter.seek_to_first() } else { iter.seek_to_last() };
            let mut steps = 0;
            while walked.is_ok() && iter.valid() {
                steps += 1;
                assert!(steps <= 3, "there are three keys");
                walked = if forward { iter.next() } else { iter.prev() };
            }
            assert!(walked.as_ref().is_ok() || walked.as_ref().unwrap_err().is_corruption());
            refused += u32::from(walked.is_err());
        }
        assert!(refused > 1000);
    }

    /// Within a block order is taken for granted; from one to the next it is not.
    #[test]
    fn runs_refuse_blocks_that_are_out_of_order() {
        let letters = |range: std::ops::Range<u8>| range.map(|letter| version(&[letter], 1, Some(b"v")));
        let unsorted = letters(b'p'..b'p' + 8).chain(letters(b'a'..b'a' + 8)).collect();
        let source = MergingIter::new(vec![Box::new(VectorIter::unsorted(unsorted))]);
        let mut iter = VisibleIter::new(source, Vec::new(), 20, None, None);
        for forward in [true, false] {
            let mut given = 0;
            let count = |_: &[u8], _: &[u8]| {
                given += 1;
                ControlFlow::Continue(())
            };
            let walked = match forward {
                true => iter.seek_to_first().and_then(|()| iter.for_each_tail(0, count)),
                false => iter.seek_to_last().and_then(|()| iter.for_each_tail_back(0, count)),
            };
            assert!(walked.unwrap_err().is_corruption());
            assert_eq!(given, 8);
        }
    }

    proptest! {
        // Long runs of one source that has each key once, with a few newer versions, deletes and unseen ones over it.
        #[test]
        fn long_runs_agree_with_a_map(
            below in proptest::collection::btree_set(0u8..200, 30..120),
            above in proptest::collection::btree_map(0u8..200, (any::<bool>(), 5u64..=40), 0..10),
            ranges in proptest::collection::vec((0u8..250, 1u8..40, 0u64..40), 0..3),
            steps_back in proptest::collection::vec(0usize..100, 0..4),
        ) {
            const READ: SequenceNumber = 30;
            // Some of them have lost their sequence number, as in the last level.
            let at = |key: u8| u64::from(key % 3) * 2;
            let mut model: BTreeMap<u8, u64> = below.iter().map(|key| (*key, at(*key))).collect();
            let lower =
                below.iter().map(|key| version(&[*key], at(*key), Some(&at(*key).to_le_bytes()))).collect();
            let mut upper = Vec::new();
            for (key, (is_put, sequence)) in above {
                upper.push(version(&[key], sequence, is_put.then_some(&sequence.to_le_bytes()[..])));
                if sequence <= READ {
                    match is_put {
                        true => drop(model.insert(key, sequence)),
                        false => drop(model.remove(&key)),
                    }
                }
            }
            for (start, len, deleted_at) in &ranges {
                let within = *start..start.saturating_add(*len);
                model.retain(|key, at| !within.contains(key) || *deleted_at > READ || *at >= *deleted_at);
            }
            let tombstones = ranges.into_iter().map(|(start, len, sequence)| {
                RangeTombstone { start: vec![start], end: vec![start.saturating_add(len)], sequence }
            });
            let cover: Arc<dyn RangeCover> = Arc::new(RangeTombstones::build(tombstones.collect()));
            let sources: Vec<Box<dyn InternalIterator>> =
                vec![Box::new(VectorIter::new(upper)), Box::new(VectorIter::new(lower))];
            let mut iter = VisibleIter::new(MergingIter::new(sources), vec![cover], READ, None, Some(vec![190]));
            let shown: Vec<(u8, u64)> = model.into_iter().filter(|(key, _)| *key < 190).collect();
            // In one go from each place on, and with a break there.
            for at in 0..shown.len() {
                let mut given = Vec::new();
                let mut give = |key: &[u8], value: &[u8]| {
                    given.push((key[0], u64::from_le_bytes(value.try_into().unwrap())));
                    if given.len() == at + 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                iter.seek_to_first().unwrap();
                iter.for_each_tail(0, &mut give).unwrap();
                prop_assert_eq!(iter.key()[0], shown[at].0);
                iter.next().unwrap();
                iter.for_each_tail(0, &mut give).unwrap();
                prop_assert!(!iter.valid());
                prop_assert_eq!(&given, &shown);
            }
            for at in 0..shown.len() {
                let mut given = Vec::new();
                let mut give = |key: &[u8], value: &[u8]| {
                    given.push((key[0], u64::from_le_bytes(value.try_into().unwrap())));
                    if given.len() == at + 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let due = shown.iter().rev().copied().collect::<Vec<_>>();
                iter.seek_to_last().unwrap();
                iter.for_each_tail_back(0, &mut give).unwrap();
                prop_assert_eq!(iter.key()[0], due[at].0);
                prop_assert_eq!(iter.value(), due[at].1.to_le_bytes());
                iter.prev().unwrap();
                iter.for_each_tail_back(0, &mut give).unwrap();
                prop_assert!(!iter.valid());
                prop_assert_eq!(&given, &due);
            }
            iter.seek_to_first().unwrap();
            for (at, (key, value)) in shown.iter().enumerate() {
                prop_assert_eq!((iter.key(), iter.value()), (&[*key][..], &value.to_le_bytes()[..]));
                // There and back again.
                if steps_back.contains(&at) && at > 0 {
                    iter.prev().unwrap();
                    prop_assert_eq!(iter.key(), &[shown[at - 1].0][..]);
                    iter.next().unwrap();
                    prop_assert_eq!(iter.key(), &[*key][..]);
                }
                iter.next().unwrap();
            }
            prop_assert!(!iter.valid());
        }
    }
}
