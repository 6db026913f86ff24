//! Prints nanoseconds per memtable operation: `cargo run --release -p haypile-lsm --example memtable_timing`.
//!
//! A look at one machine at one moment, median of several rounds; not a benchmark to compare commits with.
#![expect(clippy::disallowed_methods, reason = "it reads the clock to time, not to decide anything")]

use haypile_lsm::base::error::Result;
use haypile_lsm::base::hash::key_hash;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::memtable::memtable::Memtable;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const ENTRIES: usize = 200_000;
const VALUE: [u8; 100] = [7; 100];
const ROUNDS: usize = 9;

/// The memtable under test and the keys of one round.
struct Round {
    memtable: Arc<Memtable>,
    sorted: Vec<[u8; 16]>,
    shuffled: Vec<[u8; 16]>,
    sequence: u64,
}

impl Round {
    fn new(seed: u64) -> Result<Round> {
        let mut rng = Rng::new(seed);
        // Decimal keys, so that they share prefixes as keys in the field do.
        let key = |n: u64| -> [u8; 16] { format!("{n:016}").into_bytes().try_into().unwrap_or([0; 16]) };
        let sorted = (0..ENTRIES as u64).map(|n| key(n * 7919)).collect::<Vec<_>>();
        let mut shuffled = sorted.clone();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, rng.below(at as u64 + 1) as usize);
        }
        Ok(Round { memtable: Arc::new(Memtable::new(96 << 20, seed)?), sorted, shuffled, sequence: 0 })
    }

    fn insert(&mut self, keys: &[[u8; 16]]) {
        let bytes = Memtable::entry_bytes_max(16, VALUE.len());
        for key in keys {
            assert!(self.memtable.reserve(bytes));
            self.sequence += 1;
            self.memtable.insert(key_hash(key), key, self.sequence, ValueKind::Put, &VALUE);
        }
    }

    fn get(&self, keys: &[[u8; 16]], tweak: u8) -> usize {
        let mut hits = 0;
        for key in keys {
            let mut key = *key;
            key[15] ^= tweak;
            let hit = self.memtable.get(key_hash(&key), &key, SEQUENCE_MAX);
            hits += hit.map_or(0, |hit| usize::from(hit.value[50] == 7));
        }
        hits
    }
}

fn time(
    samples: &mut Vec<(&'static str, Vec<f64>)>,
    name: &'static str,
    operations: usize,
    work: impl FnOnce(),
) {
    let start = Instant::now();
    work();
    let ns = start.elapsed().as_nanos() as f64 / operations as f64;
    match samples.iter_mut().find(|(known, _)| *known == name) {
        Some((_, all)) => all.push(ns),
        None => samples.push((name, vec![ns])),
    }
}

fn main() -> Result<()> {
    let mut samples = Vec::new();
    for round in 0..ROUNDS as u64 {
        let mut random = Round::new(round)?;
        let keys = random.shuffled.clone();
        time(&mut samples, "insert, random order", ENTRIES, || random.insert(&keys));
        time(&mut samples, "overwrite, same order", ENTRIES, || random.insert(&keys));
        let other = Round::new(round + 1000)?.shuffled;
        time(&mut samples, "overwrite, other order", ENTRIES, || random.insert(&other));
        time(&mut samples, "get, present", ENTRIES, || assert_eq!(black_box(random.get(&other, 0)), ENTRIES));
        time(&mut samples, "get, absent", ENTRIES, || assert_eq!(black_box(random.get(&other, 0x80)), 0));
        time(&mut samples, "get, one hot key", ENTRIES, || {
            for _ in 0..ENTRIES {
                black_box(random.get(&keys[..1], 0));
            }
        });
        let mut iter = random.memtable.iter();
        time(&mut samples, "iterate, per version", 3 * ENTRIES, || {
            let mut count = 0;
            let _ = iter.seek_to_first();
            while iter.valid() {
                count += usize::from(!iter.value().is_empty());
                let _ = iter.next();
            }
            assert_eq!(count, 3 * ENTRIES);
        });
        let mut sequential = Round::new(round)?;
        let keys = sequential.sorted.clone();
        time(&mut samples, "insert, ascending order", ENTRIES, || sequential.insert(&keys));
        time(&mut samples, "drop", 1, || drop(sequential));
    }
    for (name, mut all) in samples {
        all.sort_by(f64::total_cmp);
        println!(
            "{name:28} {:10.0} ns   (from {:.0} to {:.0})",
            all[all.len() / 2],
            all[0],
            all[all.len() - 1]
        );
    }
    Ok(())
}
