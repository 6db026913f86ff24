//! LATENCY: moments at which something took longer than `latency-monitor-threshold`, by event.
//!
//! ```text
//! command, fast-command   a command (fast: one that Redis promises to be)        wal-write, wal-sync   the engine's log
//! expire-cycle            one turn of the search for expired keys                write-delay           a writer that the engine asked to wait
//! checkpoint              BGSAVE, SAVE
//! ```
//!
//! Of each event the last 160 are kept, one a second at most (the longest of that second). While the threshold is 0 an event costs one
//! relaxed load; below it as much; above it a mutex that is held for a few instructions.

use crate::base::clock::Clock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kept of each event.
const SAMPLES_MAX: usize = 160;

/// An event whose command is not promised to be fast.
pub const COMMAND: &str = "command";
/// One that is.
pub const FAST_COMMAND: &str = "fast-command";
/// A turn of the search for expired keys.
pub const EXPIRE_CYCLE: &str = "expire-cycle";
/// The engine asked a writer to wait.
pub const WRITE_DELAY: &str = "write-delay";
/// A checkpoint was made.
pub const CHECKPOINT: &str = "checkpoint";

/// One moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970.
    pub unix_s: u64,
    /// How long it took.
    pub ms: u64,
}

/// What is known of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The last samples, oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest since the last reset.
    pub max_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub struct LatencyMonitor {
    clock: Clock,
    /// 0: off.
    threshold_ms: AtomicU64,
    events: Mutex<BTreeMap<&'static str, Series>>,
}

impl LatencyMonitor {
    /// One that is off.
    pub fn new(clock: Clock) -> LatencyMonitor {
        LatencyMonitor { clock, threshold_ms: AtomicU64::new(0), events: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `latency-monitor-threshold`.
    pub fn set_threshold_ms(&self, ms: u64) {
        self.threshold_ms.store(ms, Relaxed);
    }

    /// The threshold; 0 for off.
    pub fn threshold_ms(&self) -> u64 {
        self.threshold_ms.load(Relaxed)
    }

    /// Notes an event that took so long, if that is long.
    #[inline]
    pub fn note(&self, event: &'static str, took: Duration) {
        let threshold_ms = self.threshold_ms.load(Relaxed);
        if threshold_ms != 0 && took.as_millis() as u64 >= threshold_ms {
            self.add(event, took.as_millis() as u64);
        }
    }

    #[cold]
    fn add(&self, event: &'static str, ms: u64) {
        let unix_s = self.clock.unix_ms() / 1000;
        let mut events = self.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(ms);
        match series.samples.back_mut() {
            Some(last) if last.unix_s == unix_s => last.ms = last.ms.max(ms),
            _ => series.samples.push_back(Sample { unix_s, ms }),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    /// All events that were noted.
    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.lock().iter().map(|(event, series)| (*event, series.clone())).collect()
    }

    /// One event, named in any case.
    pub fn get(&self, event: &[u8]) -> Option<(&'static str, Series)> {
        let events = self.lock();
        let found = events.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(event));
        found.map(|(name, series)| (*name, series.clone()))
    }

    /// Forgets what `which` holds for; how many events that were.
    pub fn reset(&self, which: impl Fn(&str) -> bool) -> usize {
        let mut events = self.lock();
        let before = events.len();
        events.retain(|event, _| !which(event));
        before - events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_each_second_is_kept() {
        let monitor = LatencyMonitor::new(Clock::new());
        let note = |ms| monitor.note(COMMAND, Duration::from_millis(ms));
        note(500);
        assert!(monitor.all().is_empty(), "off");
        monitor.set_threshold_ms(100);
        for ms in [99, 100, 300, 200] {
            note(ms);
        }
        let (name, series) = monitor.get(b"COMMAND").unwrap();
        assert_eq!((name, series.max_ms), (COMMAND, 300));
        // All within one second, or around the turn of one.
        assert!(series.samples.len() <= 2 && series.samples.iter().any(|sample| sample.ms == 300));
        assert!(monitor.get(b"nonsense").is_none());
        assert_eq!(monitor.reset(|event| event == "nonsense"), 0);
        assert_eq!(monitor.reset(|_| true), 1);
        assert!(monitor.all().is_empty());
        let mut series = Series::default();
        (0..2 * SAMPLES_MAX as u64).for_each(|unix_s| series.samples.push_back(Sample { unix_s, ms: 1 }));
        monitor.lock().insert(COMMAND, series);
        note(100);
        assert!(monitor.get(b"command").unwrap().1.samples.len() >= SAMPLES_MAX);
    }
}
