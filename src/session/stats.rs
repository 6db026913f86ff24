//! Statistics: counters in shards, one shard a worker, summed only when somebody asks.
//!
//! All atomics here are `Relaxed`: they count, nothing is ordered by them. A shard lies on cache lines of its own, so that counting
//! on one worker does not slow another. The last shard is shared by the pools and everything else that is not a worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

const RELAXED: Ordering = Ordering::Relaxed;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one shard.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The counters of all shards added up.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.load(RELAXED);)*
            }

            fn reset(&self) {
                $(self.$name.store(0, RELAXED);)*
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_received,
    /// Connections refused because there were too many.
    connections_rejected,
    /// Commands run.
    commands_processed,
    /// Bytes read from clients.
    net_input_bytes,
    /// Bytes sent to clients.
    net_output_bytes,
    /// Reads from sockets.
    reads_processed,
    /// Writes to sockets.
    writes_processed,
    /// Error replies.
    error_replies,
    /// Reads of keys that were there.
    keyspace_hits,
    /// Reads of keys that were not.
    keyspace_misses,
    /// Keys changed since the last checkpoint.
    dirty,
    /// Connections closed because too much output waited for them.
    output_limit_disconnections,
    /// Connections closed because their request grew too large.
    query_limit_disconnections,
    /// Connections closed because all clients together took too much memory.
    clients_evicted,
    /// Commands that panicked.
    panics,
    /// Commands sent to the io pool.
    commands_offloaded_io,
    /// Commands sent to the slow pool.
    commands_offloaded_slow,
    /// Commands that waited for another's key lock.
    commands_lock_waits,
    /// Commands delayed because the engine asked for it.
    commands_delayed,
    /// Turns of worker loops.
    worker_turns,
}

/// Times of one command, in buckets whose width grows with the value: 16 buckets an octave, so within 6 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; Histogram::BUCKETS],
}

impl Histogram {
    const SUB_BITS: u32 = 4;
    /// Nanoseconds up to 2^40 (18 minutes); longer ones count in the last.
    const BUCKETS: usize = 37 << Self::SUB_BITS;

    fn new() -> Histogram {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    fn index(ns: u64) -> usize {
        let sub = 1u64 << Self::SUB_BITS;
        if ns < sub {
            return ns as usize;
        }
        let shift = 63 - ns.leading_zeros() - Self::SUB_BITS;
        let index = ((u64::from(shift) + 1) << Self::SUB_BITS) + ((ns >> shift) - sub);
        (index as usize).min(Self::BUCKETS - 1)
    }

    /// Largest value that falls into bucket `index`.
    fn upper(index: usize) -> u64 {
        let sub = 1usize << Self::SUB_BITS;
        if index < sub {
            return index as u64;
        }
        let shift = (index >> Self::SUB_BITS) - 1;
        let mantissa = sub + (index & (sub - 1));
        ((mantissa as u64 + 1) << shift) - 1
    }
}

/// Statistics of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it ran, all together.
    pub ns: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and answered an error.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct CommandCounters {
    calls: AtomicU64,
    ns: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    times: OnceLock<Box<Histogram>>,
}

/// One shard. Aligned so that no two share a cache line (or the pair of lines that some processors fetch together).
#[derive(Debug)]
#[repr(align(128))]
pub struct Shard {
    /// The counters.
    pub counters: Counters,
    commands: Vec<CommandCounters>,
}

impl Shard {
    /// Counts a command that ran for `ns` nanoseconds.
    pub fn command_ran(&self, index: usize, ns: u64, failed: bool, histogram: bool) {
        self.counters.commands_processed.fetch_add(1, RELAXED);
        let Some(command) = self.commands.get(index) else { return };
        command.calls.fetch_add(1, RELAXED);
        command.ns.fetch_add(ns, RELAXED);
        if failed {
            command.failed.fetch_add(1, RELAXED);
        }
        if histogram {
            let times = command.times.get_or_init(|| Box::new(Histogram::new()));
            times.buckets[Histogram::index(ns)].fetch_add(1, RELAXED);
        }
    }

    /// Counts a command as failed that was counted when it began to wait.
    pub fn command_failed(&self, index: usize) {
        if let Some(command) = self.commands.get(index) {
            command.failed.fetch_add(1, RELAXED);
        }
    }

    /// Counts a command that was refused before it ran.
    pub fn command_rejected(&self, index: usize) {
        if let Some(command) = self.commands.get(index) {
            command.rejected.fetch_add(1, RELAXED);
        }
    }
}

/// Something that grows, looked at ten times a second, as INFO's `instantaneous_*` fields want it.
#[derive(Debug, Default)]
struct Rate {
    last: u64,
    samples: [f64; 16],
    next: usize,
}

impl Rate {
    fn sample(&mut self, now: u64, elapsed_ms: u64) {
        let grown = now.saturating_sub(self.last) as f64;
        self.last = now;
        self.samples[self.next] = grown * 1000.0 / elapsed_ms.max(1) as f64;
        self.next = (self.next + 1) % self.samples.len();
    }

    fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    fn reset(&mut self) {
        *self = Rate { last: 0, ..Rate::default() };
    }
}

/// Rates per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Commands a second.
    pub commands: f64,
    /// Bytes read a second.
    pub input_bytes: f64,
    /// Bytes sent a second.
    pub output_bytes: f64,
}

#[derive(Debug, Default)]
struct Sampler {
    last_ms: u64,
    commands: Rate,
    input: Rate,
    output: Rate,
}

/// How many different error codes are counted; past it new ones count as one (an attacker chooses codes through scripts).
const ERROR_CODES_MAX: usize = 128;

/// All statistics of a server.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<Shard>,
    errors: Mutex<BTreeMap<String, u64>>,
    errors_overflow: AtomicBool,
    sampler: Mutex<Sampler>,
    /// Resident memory when last looked at, in bytes.
    pub memory_now_bytes: AtomicU64,
    /// Greatest resident memory seen, in bytes.
    pub memory_peak_bytes: AtomicU64,
    /// Resident memory when the server began to listen, in bytes.
    pub memory_startup_bytes: AtomicU64,
    /// Greatest number of clients seen.
    pub clients_peak: AtomicU64,
}

impl Stats {
    /// Statistics for `workers` workers and `commands` commands.
    pub fn new(workers: usize, commands: usize) -> Stats {
        let shard = || Shard {
            counters: Counters::default(),
            commands: (0..commands).map(|_| CommandCounters::default()).collect(),
        };
        Stats {
            shards: (0..=workers).map(|_| shard()).collect(),
            errors: Mutex::default(),
            errors_overflow: AtomicBool::new(false),
            sampler: Mutex::default(),
            memory_now_bytes: AtomicU64::new(0),
            memory_peak_bytes: AtomicU64::new(0),
            memory_startup_bytes: AtomicU64::new(0),
            clients_peak: AtomicU64::new(0),
        }
    }

    /// A worker's shard; any number past the workers' is the shared one.
    pub fn shard(&self, index: usize) -> &Shard {
        &self.shards[index.min(self.shards.len() - 1)]
    }

    /// The shard of what is no worker.
    pub fn shared(&self) -> &Shard {
        &self.shards[self.shards.len() - 1]
    }

    /// All shards added up.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            shard.counters.add_to(&mut totals);
        }
        totals
    }

    /// One command over all shards.
    pub fn command(&self, index: usize) -> CommandTotals {
        let mut totals = CommandTotals::default();
        for command in self.shards.iter().filter_map(|shard| shard.commands.get(index)) {
            totals.calls += command.calls.load(RELAXED);
            totals.ns += command.ns.load(RELAXED);
            totals.rejected += command.rejected.load(RELAXED);
            totals.failed += command.failed.load(RELAXED);
        }
        totals
    }

    /// The time, in nanoseconds, below which `percent` of the calls of a command stayed, for each of `percents` (ascending).
    /// `None` if it was never timed.
    pub fn percentiles(&self, index: usize, percents: &[f64]) -> Option<Vec<u64>> {
        let buckets = self.buckets(index)?;
        let total = buckets.iter().sum::<u64>();
        let at = |percent: f64| {
            let wanted = ((percent / 100.0 * total as f64).ceil() as u64).clamp(1, total);
            let mut seen = 0;
            for (bucket, count) in buckets.iter().enumerate() {
                seen += count;
                if seen >= wanted {
                    return Histogram::upper(bucket);
                }
            }
            0
        };
        Some(percents.iter().map(|&percent| at(percent)).collect())
    }

    /// For LATENCY HISTOGRAM: calls that took at most `2^i` microseconds, cumulated, from the first power that has any.
    pub fn histogram_us(&self, index: usize) -> Option<Vec<(u64, u64)>> {
        let buckets = self.buckets(index)?;
        let mut powers: BTreeMap<u64, u64> = BTreeMap::new();
        for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let us = Histogram::upper(bucket).div_ceil(1000).max(1);
            *powers.entry(us.next_power_of_two()).or_default() += count;
        }
        let mut seen = 0;
        Some(
            powers
                .into_iter()
                .map(|(us, count)| {
                    seen += count;
                    (us, seen)
                })
                .collect(),
        )
    }

    fn buckets(&self, index: usize) -> Option<Vec<u64>> {
        let mut sum: Option<Vec<u64>> = None;
        for shard in &self.shards {
            if let Some(times) = shard.commands.get(index).and_then(|command| command.times.get()) {
                let sum = sum.get_or_insert_with(|| vec![0; Histogram::BUCKETS]);
                for (into, bucket) in sum.iter_mut().zip(&times.buckets) {
                    *into += bucket.load(RELAXED);
                }
            }
        }
        sum.filter(|buckets| buckets.iter().any(|&count| count > 0))
    }

    /// Counts an error reply by its code (its first word).
    pub fn error_reply(&self, shard: usize, text: &[u8]) {
        self.shard(shard).counters.error_replies.fetch_add(1, RELAXED);
        let code = text.split(|&b| b == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(&code[..code.len().min(64)]);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = errors.get_mut(code.as_ref()) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.into_owned(), 1);
        } else {
            self.errors_overflow.store(true, RELAXED);
            *errors.entry("ERRORSTATS_OVERFLOW".into()).or_default() += 1;
        }
    }

    /// Error replies by code.
    pub fn errors(&self) -> Vec<(String, u64)> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    /// Looks at the counters; to be called about ten times a second.
    pub fn sample(&self, now_ms: u64) {
        let totals = self.totals();
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now_ms.saturating_sub(sampler.last_ms);
        sampler.last_ms = now_ms;
        sampler.commands.sample(totals.commands_processed, elapsed);
        sampler.input.sample(totals.net_input_bytes, elapsed);
        sampler.output.sample(totals.net_output_bytes, elapsed);
    }

    /// The rates of the last second and a half.
    pub fn rates(&self) -> Rates {
        let sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        Rates {
            commands: sampler.commands.mean(),
            input_bytes: sampler.input.mean(),
            output_bytes: sampler.output.mean(),
        }
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        for shard in &self.shards {
            let dirty = shard.counters.dirty.load(RELAXED);
            shard.counters.reset();
            shard.counters.dirty.store(dirty, RELAXED);
            for command in &shard.commands {
                for counter in [&command.calls, &command.ns, &command.rejected, &command.failed] {
                    counter.store(0, RELAXED);
                }
                if let Some(times) = command.times.get() {
                    times.buckets.iter().for_each(|bucket| bucket.store(0, RELAXED));
                }
            }
        }
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        sampler.commands.reset();
        sampler.input.reset();
        sampler.output.reset();
    }

    /// A checkpoint holds so many of the counted changes.
    pub fn forget_dirty(&self, mut count: u64) {
        for shard in &self.shards {
            let dirty = &shard.counters.dirty;
            let part = dirty.load(RELAXED).min(count);
            dirty.fetch_sub(part, RELAXED);
            count -= part;
        }
    }

    /// Notes the resident memory.
    pub fn memory_seen(&self, bytes: u64) {
        self.memory_now_bytes.store(bytes, RELAXED);
        self.memory_peak_bytes.fetch_max(bytes, RELAXED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_a_bucket_that_holds_it() {
        for ns in (0..5000).chain((0..40).map(|shift| 1u64 << shift)).chain((5..39).map(|s| (3u64 << s) + 1))
        {
            let index = Histogram::index(ns);
            assert!(Histogram::upper(index) >= ns, "{ns}");
            assert!(index == 0 || Histogram::upper(index - 1) < ns, "{ns}");
            assert!((Histogram::upper(index) - ns) * 16 <= ns.max(1), "{ns}: within one sixteenth");
        }
        assert_eq!(Histogram::index(u64::MAX), Histogram::BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_reset() {
        let stats = Stats::new(2, 3);
        for us in 1..=100u64 {
            stats.shard(us as usize % 3).command_ran(1, us * 1000, us == 7, true);
        }
        let totals = stats.command(1);
        assert_eq!((totals.calls, totals.failed), (100, 1));
        let found = stats.percentiles(1, &[50.0, 99.0, 100.0]).unwrap();
        for (found, wanted) in found.iter().zip([50_000u64, 99_000, 100_000]) {
            assert!(*found >= wanted && *found <= wanted + wanted / 15, "{found} {wanted}");
        }
        assert_eq!(stats.histogram_us(1).unwrap().last().unwrap().1, 100);
        assert!(stats.percentiles(0, &[50.0]).is_none());
        stats.error_reply(0, b"WRONGTYPE Operation against a key");
        assert_eq!(stats.errors(), [("WRONGTYPE".to_string(), 1)]);
        stats.reset();
        assert_eq!(stats.totals(), Totals::default());
        assert!(stats.percentiles(1, &[50.0]).is_none());
    }
}
