//! How long a writer should wait, as one continuous function of how far background work is behind.
//!
//! There are no thresholds at which everything stops for a while (RocksDB's slowdown and stop triggers). Three measures are each turned into a
//! pressure that is 0 where there is nothing to worry about and 1 where the bound would be reached:
//!
//! ```text
//! memory   memtable bytes beyond six tenths of their bound   (the hard one: at 1 writers wait)
//! L0       runs beyond three times the compaction trigger
//! debt     bytes to move beyond the soft bound
//! ```
//!
//! With the greatest pressure `p`, a write of `b` bytes waits `b / rate * 2 p^2 / (1 - p)`: nothing at first, about the
//! time in which background work drains as many bytes around the middle, and ever longer towards the bound. `rate` is the
//! measured drain rate. The pure decision is here; who waits, and how, is the caller's business: a server parks the client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the decision is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes in all memtables, active and immutable.
    pub memtable_bytes: u64,
    /// Their bound.
    pub memtable_bytes_max: u64,
    /// Most L0 runs of any keyspace.
    pub level0_runs: u64,
    /// The run count at which compaction starts.
    pub level0_trigger: u64,
    /// Bytes that compaction has to move.
    pub debt_bytes: u64,
    /// The debt at which writers start to be slowed.
    pub debt_bytes_soft: u64,
}

/// Longest single wait; a caller asks again afterwards.
pub const DELAY_MAX: Duration = Duration::from_millis(100);

/// What writers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Memtables wait to be flushed.
    Memtables,
    /// L0 holds many runs.
    Level0,
    /// Compaction is behind.
    Debt,
}

/// The pressure, from 0 (none) to 1 (at a bound).
pub fn pressure(load: &Load) -> f64 {
    worst(load).0
}

/// The greatest pressure, and where it comes from.
pub fn worst(load: &Load) -> (f64, Cause) {
    let ratio =
        |value: u64, from: f64, to: f64| ((value as f64 - from) / (to - from).max(1.0)).clamp(0.0, 1.0);
    let memory_max = load.memtable_bytes_max as f64;
    let memory = ratio(load.memtable_bytes, memory_max * 0.6, memory_max);
    let trigger = load.level0_trigger.max(1) as f64;
    let level0 = ratio(load.level0_runs, trigger * 3.0, trigger * 10.0);
    let soft = load.debt_bytes_soft as f64;
    let debt = ratio(load.debt_bytes, soft, soft * 8.0);
    let mut worst = (memory, Cause::Memtables);
    for other in [(level0, Cause::Level0), (debt, Cause::Debt)] {
        if other.0 > worst.0 {
            worst = other;
        }
    }
    worst
}

/// How long a write of `bytes` should wait at `pressure` while `rate_bytes` a second drain. `None` for not at all.
pub fn delay(pressure: f64, bytes: usize, rate_bytes: u64) -> Option<Duration> {
    if pressure <= 0.0 {
        return None;
    }
    if pressure >= 1.0 {
        return Some(Duration::from_millis(2));
    }
    let factor = 2.0 * pressure * pressure / (1.0 - pressure);
    let seconds = bytes as f64 / rate_bytes.max(1 << 20) as f64 * factor;
    let wait = Duration::from_secs_f64(seconds.min(DELAY_MAX.as_secs_f64()));
    (wait > Duration::from_nanos(500)).then_some(wait)
}

/// Exponentially weighted drain rate. Updated by background jobs, read by writers; relaxed, it is an estimate.
#[derive(Debug)]
pub struct DrainRate(AtomicU64);

impl Default for DrainRate {
    fn default() -> Self {
        DrainRate(AtomicU64::new(64 << 20))
    }
}

impl DrainRate {
    /// A job moved `bytes` in `elapsed`.
    pub fn record(&self, bytes: u64, elapsed: Duration) {
        let micros = elapsed.as_micros().max(1) as u64;
        let rate = bytes.saturating_mul(1_000_000) / micros;
        let old = self.0.load(Ordering::Relaxed);
        self.0.store((old / 4 * 3 + rate / 4).max(1 << 20), Ordering::Relaxed);
    }

    /// Bytes a second.
    pub fn bytes_per_second(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_without_a_cliff() {
        let mut last = Duration::ZERO;
        for step in 0..1000 {
            let load = Load {
                memtable_bytes: step,
                memtable_bytes_max: 1000,
                level0_trigger: 4,
                debt_bytes_soft: 1 << 30,
                ..Load::default()
            };
            let wait = delay(pressure(&load), 116, 50 << 20).unwrap_or_default();
            assert!(wait >= last, "not monotone at {step}");
            assert!(wait - last < Duration::from_millis(3), "a cliff at {step}: {last:?} to {wait:?}");
            last = wait;
        }
        assert!(last > Duration::from_micros(100));
    }

    #[test]
    fn the_cause_is_what_is_furthest_behind() {
        let load = Load {
            memtable_bytes: 700,
            memtable_bytes_max: 1000,
            level0_runs: 30,
            level0_trigger: 4,
            debt_bytes: 2 << 30,
            debt_bytes_soft: 1 << 30,
        };
        assert_eq!(worst(&load).1, Cause::Level0);
        assert_eq!(worst(&Load { level0_runs: 0, ..load }).1, Cause::Memtables);
        assert_eq!(worst(&Load { level0_runs: 0, memtable_bytes: 600, ..load }).1, Cause::Debt);
    }

    #[test]
    fn nothing_behind_costs_nothing() {
        assert_eq!(delay(pressure(&Load { memtable_bytes_max: 100, ..Load::default() }), 1 << 20, 1), None);
    }
}
