//! When keys were last used, about: what OBJECT IDLETIME answers from.
//!
//! ```text
//! hash of (space, key) --low bits--> slot: the second, since 1970, in which a key of that slot was last used
//! ```
//!
//! The table is small, of fixed size and in memory only: a read never writes to the disk for it. Keys that share a slot
//! share a time, so what it says of a key is never too long ago, but may be too recent; the more keys are in use, the
//! oftener. A slot that was not used since the start says that: a key's idle time then counts from there.
//!
//! Threads: any; a slot is a number of its own, written at most once a second, so busy keys cost a load.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A quarter of a MiB of seconds.
const SLOTS: usize = 1 << 16;

/// The table.
#[derive(Debug)]
pub struct AccessTimes {
    started_s: u32,
    slots: Box<[AtomicU32]>,
}

fn seconds(unix_ms: u64) -> u32 {
    (unix_ms / 1000) as u32
}

impl AccessTimes {
    /// A table in which nothing was used yet.
    pub fn new(unix_ms: u64) -> AccessTimes {
        AccessTimes {
            started_s: seconds(unix_ms),
            slots: std::iter::repeat_with(AtomicU32::default).take(SLOTS).collect(),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<AtomicU32>()
    }

    fn slot(&self, hash: u64) -> Option<&AtomicU32> {
        self.slots.get(hash as usize % SLOTS)
    }

    /// The key with this hash is used now.
    #[inline]
    pub fn touch(&self, hash: u64, unix_ms: u64) {
        let now_s = seconds(unix_ms);
        // Relaxed: a time of its own, with which nothing else is published.
        if let Some(slot) = self.slot(hash).filter(|slot| slot.load(Relaxed) != now_s) {
            slot.store(now_s, Relaxed);
        }
    }

    /// The key with this hash counts as last used so many seconds ago, be it before the start (RESTORE IDLETIME).
    pub fn set_idle(&self, hash: u64, unix_ms: u64, idle_s: u64) {
        let used_s = u64::from(seconds(unix_ms)).saturating_sub(idle_s).max(1) as u32;
        if let Some(slot) = self.slot(hash) {
            slot.store(used_s, Relaxed);
        }
    }

    /// For how many seconds the key with this hash was not used.
    pub fn idle_s(&self, hash: u64, unix_ms: u64) -> u64 {
        let used_s = match self.slot(hash).map_or(0, |slot| slot.load(Relaxed)) {
            0 => self.started_s,
            used_s => used_s,
        };
        seconds(unix_ms).saturating_sub(used_s).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_start_or_the_last_use() {
        let times = AccessTimes::new(10_000);
        assert_eq!(times.idle_s(7, 25_999), 15);
        times.touch(7, 20_500);
        assert_eq!(times.idle_s(7, 25_999), 5);
        assert_eq!(times.idle_s(7 + SLOTS as u64, 25_999), 5);
        assert_eq!(times.idle_s(8, 25_999), 15);
        times.set_idle(9, 25_000, 20);
        assert_eq!(times.idle_s(9, 25_999), 20);
        times.set_idle(9, 25_000, u64::MAX);
        assert_eq!(times.idle_s(9, 25_999), 24);
        // A wall clock that was set back.
        assert_eq!(times.idle_s(7, 1_000), 0);
    }
}
