//! Prints nanoseconds per operation on a 32 MB table: `cargo run --release -p haypile-lsm --example table_timing`.
//!
//! 16-byte keys, 100-byte values that LZ4 can halve. A look at one machine at one moment, not a benchmark to compare commits
//! with. Reads are timed in batches; the lower quartile tells what they cost, the median what else the machine does.
#![expect(clippy::disallowed_methods, reason = "it reads the clock to time, not to decide anything")]

use haypile_lsm::base::error::Result;
use haypile_lsm::base::hash::key_hash;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind, VersionKey, pack_trailer};
use haypile_lsm::base::options::{KeyspaceOptions, ReadOptions};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::cache::block_cache::BlockCache;
use haypile_lsm::env::env::{Env, OpenMode};
use haypile_lsm::env::mem_env::MemEnv;
use haypile_lsm::table::builder::TableBuilder;
use haypile_lsm::table::table::Table;
use haypile_lsm::table::table_iter::TableIterOptions;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const ENTRIES: u64 = 280_000;
const BATCH: usize = 500;

type Key = [u8; 16];

fn key(n: u64) -> Key {
    format!("user:{n:011}").into_bytes().try_into().unwrap_or([0; 16])
}

/// Times `operation` over all keys, batch by batch.
fn time(name: &str, keys: &[Key], mut operation: impl FnMut(&Key) -> Result<()>) -> Result<()> {
    let mut batches = Vec::new();
    for batch in keys.chunks(BATCH) {
        let start = Instant::now();
        for key in batch {
            operation(key)?;
        }
        batches.push(start.elapsed().as_nanos() as u64 / batch.len() as u64);
    }
    batches.sort_unstable();
    println!(
        "{name:28} {:6} lower quartile, {:6} median",
        batches[batches.len() / 4],
        batches[batches.len() / 2]
    );
    Ok(())
}

fn get(table: &Table, key: &Key) -> Result<bool> {
    let guard = crossbeam_epoch::pin();
    let hit = table.get(key_hash(key), key, SEQUENCE_MAX, &ReadOptions::default(), &guard)?;
    Ok(hit.is_some_and(|hit| black_box(hit.value())[0] < 255))
}

fn main() -> Result<()> {
    let env = MemEnv::new();
    let path = Path::new("/000001.sst");
    let mut rng = Rng::new(1);
    let mut value = [b'x'; 100];
    let start = Instant::now();
    let file = env.open(path, OpenMode::CreateNew)?;
    let mut builder = TableBuilder::new(file, path.into(), 1, KeyspaceOptions::default());
    for n in 0..ENTRIES {
        value[..50].fill_with(|| rng.below(255) as u8);
        builder.add(&key(2 * n), pack_trailer(0, ValueKind::Put), &value)?;
    }
    let summary = builder.finish()?;
    println!("{:28} {:6}", "build", start.elapsed().as_nanos() as u64 / ENTRIES);

    let open = |cache_bytes| {
        let cache = Arc::new(BlockCache::new(cache_bytes, Arc::default()));
        let file = env.open(path, OpenMode::Read)?;
        Table::open(file, path.into(), 1, summary.file_bytes, cache, Arc::default()).map(Arc::new)
    };
    let table = open(256 << 20)?;
    let keys = (0..400_000).map(|_| key(2 * rng.below(ENTRIES))).collect::<Vec<_>>();
    let absent = (0..400_000).map(|_| key(2 * rng.below(ENTRIES) + 1)).collect::<Vec<_>>();
    for name in ["get, filling the cache", "get, all cached"] {
        time(name, &keys, |key| get(&table, key).map(drop))?;
    }
    time("get, 200 hot keys", &keys[..200].repeat(500), |key| get(&table, key).map(drop))?;
    time("get, absent", &absent, |key| get(&table, key).map(drop))?;
    let mut iter = table.iter(TableIterOptions::default());
    time("seek", &keys[..100_000], |key| iter.seek(VersionKey::seek(key, SEQUENCE_MAX)))?;
    let small = open(1 << 20)?;
    time("get, mostly not cached", &keys[..100_000], |key| get(&small, key).map(drop))?;
    for (name, bypass_cache) in [("next, cached", false), ("next, past the cache", true)] {
        let mut iter = table.iter(TableIterOptions { bypass_cache, ..TableIterOptions::default() });
        iter.seek_to_first()?;
        time(name, &keys[..ENTRIES as usize - 1], |_| {
            black_box((iter.key(), iter.value()));
            iter.next()
        })?;
    }
    Ok(())
}
