//! What readers have paid for versions that are shown to nobody.
//!
//! An iterator walks over every old version and every tombstone between the keys that it shows. A step over one costs about what it costs
//! a compaction to deal with one small entry. So once readers have taken as many steps in vain as a compaction there has entries (and
//! [`BYTES_PER_STEP`] for each of its bytes), it would have paid to have it done before, and it is due (the argument of renting skis or
//! buying them). Counted is only what a compaction of tables can take away: what is hidden by a version in a memtable, or is newer than the
//! reader, is not.
//!
//! One range of keys is remembered a keyspace: the one that most of the steps of late were in, found as a majority vote finds its
//! candidate (Boyer and Moore 1981). Steps elsewhere count against it.

use crate::version::file_meta::KeyRange;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, TryLockError};

/// Walks with fewer steps in vain are not worth a note.
const STEPS_MIN: u64 = 16;
/// Walks with fewer do not count against the range that is remembered: they come from everywhere.
const STEPS_AGAINST_MIN: u64 = 64;
/// With fewer steps together nobody is troubled.
const STEPS_DUE_MIN: u64 = 100_000;

/// A compaction with large values is paid for at this rate: about what a disk and a processor do in the time of a step.
pub const BYTES_PER_STEP: u64 = 64;

/// A range of keys, both ends included, and how many steps were taken there in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wasted {
    /// From which key.
    pub first: Vec<u8>,
    /// To which.
    pub last: Vec<u8>,
    /// Steps over what is not shown.
    pub steps: u64,
}

/// Collects the steps in vain of one keyspace.
#[derive(Debug, Default)]
pub struct WastedSteps(Mutex<Option<Wasted>>);

impl WastedSteps {
    /// Notes `steps` of an iterator between two keys, both included. Never waits: whoever comes while another one notes is forgotten.
    pub fn note(&self, first: &[u8], last: &[u8], steps: u64) {
        if steps < STEPS_MIN {
            return;
        }
        let mut slot = match self.0.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        match slot.as_mut() {
            Some(wasted) if first <= wasted.last.as_slice() && wasted.first.as_slice() <= last => {
                wasted.steps = wasted.steps.saturating_add(steps);
                if first < wasted.first.as_slice() {
                    wasted.first = first.to_vec();
                }
                if last > wasted.last.as_slice() {
                    wasted.last = last.to_vec();
                }
            }
            Some(_) if steps < STEPS_AGAINST_MIN => {}
            Some(wasted) if wasted.steps >= steps => wasted.steps -= steps,
            _ => *slot = Some(Wasted { first: first.to_vec(), last: last.to_vec(), steps }),
        }
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
    /// Between which keys.
    pub fn range(&self) -> KeyRange<'_> {
        KeyRange { start: &self.first, end: Bound::Included(&self.last) }
    }

    /// Whether the steps pay for a compaction of so much.
    pub fn pays_for(&self, entries: u64, bytes: u64) -> bool {
        entries <= self.steps && bytes / BYTES_PER_STEP <= self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_with_most_of_the_steps_stays() {
        let wasted = WastedSteps::default();
        let due = || {
            wasted.due().map(|due| {
                (String::from_utf8(due.first).unwrap() + &String::from_utf8(due.last).unwrap(), due.steps)
            })
        };
        wasted.note(b"a", b"c", STEPS_MIN - 1);
        assert_eq!(due(), None);
        for _ in 0..1000 {
            wasted.note(b"a", b"c", 1000);
            wasted.note(b"x", b"y", 400);
            wasted.note(b"b", b"d", 100);
            wasted.note(b"v", b"w", STEPS_AGAINST_MIN - 1);
        }
        assert_eq!(due(), Some(("ad".into(), 700_000)));
        // Others that come more often take its place.
        for _ in 0..1000 {
            wasted.note(b"x", b"y", 1000);
        }
        assert_eq!(due().map(|due| due.0), Some("xy".into()));
        // Ends count as inside.
        wasted.note(b"w", b"x", 100);
        assert_eq!(due().map(|due| due.0), Some("wy".into()));
        wasted.spend();
        assert_eq!(due(), None);
    }

    #[test]
    fn steps_pay_for_entries_and_bytes() {
        let wasted = Wasted { first: Vec::new(), last: Vec::new(), steps: 1000 };
        assert!(wasted.pays_for(1000, 64_063) && !wasted.pays_for(1001, 0) && !wasted.pays_for(1, 64_064));
    }
}
