//! What readers have paid for versions that are shown to nobody.
//!
//! An iterator walks over every old version and every tombstone between the keys that it shows. A step over one costs about what it costs
//! a compaction to deal with one entry. So once readers have taken as many steps in vain as a compaction there has entries, it would have
//! paid to have it done before, and it is due: whatever comes, both together cost at most twice of what the better of the two would have (the
//! argument of renting skis or buying them).
//!
//! One range of keys is remembered a keyspace: the one that most of the steps of late were in, found as a majority vote finds its
//! candidate (Boyer and Moore 1981). Steps elsewhere count against it.

use crate::version::file_meta::OwnedKeyRange;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, TryLockError};

/// Walks with fewer steps in vain are not worth a note.
const STEPS_MIN: u64 = 64;
/// With fewer steps together nobody is troubled.
const STEPS_DUE_MIN: u64 = 100_000;

/// A range of keys, and how many steps were taken there in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wasted {
    /// Which keys.
    pub range: OwnedKeyRange,
    /// Steps over what is not shown.
    pub steps: u64,
}

/// Collects the steps in vain of one keyspace.
#[derive(Debug, Default)]
pub struct WastedSteps(Mutex<Option<Wasted>>);

impl WastedSteps {
    /// Notes `steps` of an iterator with these bounds (from `lower` up to but without `upper`). Never waits: whoever comes while another
    /// one notes is forgotten.
    pub fn note(&self, lower: Option<&[u8]>, upper: Option<&[u8]>, steps: u64) {
        if steps < STEPS_MIN {
            return;
        }
        let mut slot = match self.0.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let start = lower.unwrap_or_default();
        if let Some(wasted) = slot.as_mut() {
            let starts_before_end = match &wasted.range.end {
                Bound::Included(end) => start <= end.as_slice(),
                Bound::Excluded(end) => start < end.as_slice(),
                Bound::Unbounded => true,
            };
            if starts_before_end && upper.is_none_or(|upper| wasted.range.start.as_slice() < upper) {
                wasted.steps = wasted.steps.saturating_add(steps);
                wasted.widen(start, upper);
                return;
            }
            if wasted.steps >= steps {
                wasted.steps -= steps;
                return;
            }
        }
        let end = upper.map_or(Bound::Unbounded, |upper| Bound::Excluded(upper.to_vec()));
        *slot = Some(Wasted { range: OwnedKeyRange { start: start.to_vec(), end }, steps });
    }

    /// What has come together, if it is worth a look.
    pub fn due(&self) -> Option<Wasted> {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone().filter(|wasted| wasted.steps >= STEPS_DUE_MIN)
    }

    /// A compaction has been made of it.
    pub fn spend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Wasted {
    fn widen(&mut self, start: &[u8], end: Option<&[u8]>) {
        if start < self.range.start.as_slice() {
            self.range.start = start.to_vec();
        }
        match (&self.range.end, end) {
            (Bound::Unbounded, _) => {}
            (_, None) => self.range.end = Bound::Unbounded,
            (Bound::Included(old) | Bound::Excluded(old), Some(end)) if old.as_slice() < end => {
                self.range.end = Bound::Excluded(end.to_vec());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> OwnedKeyRange {
        OwnedKeyRange { start: start.into(), end: Bound::Excluded(end.into()) }
    }

    #[test]
    fn the_range_with_most_of_the_steps_stays() {
        let wasted = WastedSteps::default();
        wasted.note(Some(b"a"), Some(b"c"), STEPS_MIN - 1);
        assert_eq!(wasted.due(), None);
        for _ in 0..1000 {
            wasted.note(Some(b"a"), Some(b"c"), 1000);
            wasted.note(Some(b"x"), Some(b"y"), 400);
            wasted.note(Some(b"b"), Some(b"d"), 100);
        }
        assert_eq!(wasted.due(), Some(Wasted { range: range("a", "d"), steps: 700_000 }));
        // Others that come more often take its place.
        for _ in 0..1000 {
            wasted.note(Some(b"x"), Some(b"y"), 1000);
        }
        assert_eq!(wasted.due().map(|wasted| wasted.range), Some(range("x", "y")));
        wasted.note(None, None, 100);
        let all = OwnedKeyRange { start: Vec::new(), end: Bound::Unbounded };
        assert_eq!(wasted.due().map(|wasted| wasted.range), Some(all));
        wasted.spend();
        assert_eq!(wasted.due(), None);
    }
}
