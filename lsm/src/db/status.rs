//! How the engine is, for people: names and values.
//!
//! Whoever asks may be a server's only thread, so nothing here waits: no lock is taken that is held across I/O, a merge or the choice of a
//! compaction (`manifest`, `append`, `io`, the view's, `jobs`, a shard of the cache). What those guard is read from the current view, from
//! atomics, or from the list of snapshots, whose lock is held for one look into a small tree.

use crate::base::limits::LEVELS;
use crate::compaction::targets::{CoveredBytes, Shape, targets};
use crate::db::delay::worst;
use crate::db::state::Shared;
use crate::db::view::KeyspaceView;
use std::sync::atomic::Ordering;

/// Where the memory of a database is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What memtables hold, and their indexes.
    pub memtables: usize,
    /// Blocks of tables, filters and indexes among them.
    pub block_cache: usize,
}

/// Where its memory is. Never waits.
pub fn memory(shared: &Shared) -> MemoryUse {
    let view = shared.view.load_owned();
    let memtables = view.keyspaces().flat_map(|k| std::iter::once(&k.memtable).chain(&k.immutables));
    MemoryUse {
        memtables: memtables.map(|memtable| memtable.bytes_used() + memtable.index_bytes()).sum(),
        block_cache: shared.cache.used_bytes(),
    }
}

/// Names and values that describe the engine's state. Never waits.
pub fn properties(shared: &Shared) -> Vec<(String, String)> {
    let view = shared.view.load_owned();
    let load = shared.load();
    let (pressure, cause) = worst(&load);
    let metrics = shared.metrics.snapshot();
    let mut all = Vec::new();
    let mut say = |name: &str, value: String| all.push((name.to_string(), value));
    say("visible_lsn", shared.publisher.visible().to_string());
    say("written_lsn", shared.log.written().to_string());
    say("synced_lsn", shared.log.synced().to_string());
    say("wal_bytes", shared.log.total_bytes().to_string());
    say("wal_unsynced_ms", shared.log.unsynced_for().map_or(0, |for_long| for_long.as_millis()).to_string());
    let memtables = || view.keyspaces().flat_map(|k| std::iter::once(&k.memtable).chain(&k.immutables));
    say("memtables", memtables().count().to_string());
    say("immutable_memtables", view.keyspaces().map(|k| k.immutables.len()).sum::<usize>().to_string());
    say("memtable_entries", memtables().map(|memtable| memtable.entry_count()).sum::<u64>().to_string());
    say("memtable_bytes", load.memtable_bytes.to_string());
    say("memtable_bytes_max", load.memtable_bytes_max.to_string());
    say("block_cache_bytes", shared.cache.used_bytes().to_string());
    say("block_cache_bytes_max", shared.cache.capacity_bytes().to_string());
    let asked = metrics.cache_hits + metrics.cache_misses;
    say("cache_hit_ratio", format!("{:.4}", metrics.cache_hits as f64 / asked.max(1) as f64));
    say("compaction_debt_bytes", load.debt_bytes.to_string());
    say("level0_runs", load.level0_runs.to_string());
    say("write_pressure", format!("{pressure:.3}"));
    say(
        "write_pressure_cause",
        if pressure > 0.0 { format!("{cause:?}").to_lowercase() } else { "none".into() },
    );
    say("drain_bytes_per_second", shared.drain_rate.bytes_per_second().to_string());
    // Relaxed: counters of what runs.
    say("running_flushes", shared.running_flushes.load(Ordering::Relaxed).to_string());
    say("running_compactions", shared.running_compactions.load(Ordering::Relaxed).to_string());
    say("open_tables", shared.opener.open_count().to_string());
    say("open_tables_max", shared.options.open_tables_max.to_string());
    let (snapshots, oldest) = shared.snapshots.oldest();
    let age = oldest.map_or(0, |(_, taken)| shared.env.monotonic().saturating_sub(taken).as_millis());
    say("snapshots", snapshots.to_string());
    say("oldest_snapshot_lsn", oldest.map_or(0, |(sequence, _)| sequence).to_string());
    say("oldest_snapshot_age_ms", age.to_string());
    let (mut table_bytes, mut last_bytes) = (0, 0);
    for keyspace in view.keyspaces() {
        let bytes = keyspace.version.levels().each_ref().map(|level| level.bytes());
        table_bytes += bytes.iter().sum::<u64>();
        last_bytes += bytes.iter().rev().find(|bytes| **bytes > 0).copied().unwrap_or(0);
        for (level, line) in levels(shared, keyspace) {
            say(&format!("keyspace_{}_level{level}", keyspace.name), line);
        }
        say(
            &format!("keyspace_{}_immutable_memtables", keyspace.name),
            keyspace.immutables.len().to_string(),
        );
    }
    say("table_bytes", table_bytes.to_string());
    let ratio =
        |whole: u64, part: u64| format!("{:.2}", if part == 0 { 1.0 } else { whole as f64 / part as f64 });
    // What went to the disk for each byte that came in; the log is what came in.
    let written = metrics.wal_bytes_written + metrics.flush_bytes_written + metrics.compaction_bytes_written;
    say("write_amplification", ratio(written, metrics.wal_bytes_written));
    // Whatever lies above the last filled level may be there twice.
    say("space_amplification", ratio(table_bytes, last_bytes));
    all
}

/// The levels that hold anything: files, bytes, and how full they are beside what they should hold (from 1 on they shrink).
fn levels(shared: &Shared, keyspace: &KeyspaceView) -> Vec<(usize, String)> {
    let options = shared.picker_options();
    let metas = keyspace.version.metas();
    // What range tombstones cover is known from tables that may have to be opened: left out.
    let shape = Shape::measure(&metas, &CoveredBytes::new(), |_, _| true);
    let targets = targets(&shape.bytes, &options);
    (0..LEVELS)
        .filter(|&level| !metas[level].is_empty())
        .map(|level| {
            let score = match level {
                0 => shape.l0_depth as f64 / options.l0_trigger.max(1) as f64,
                _ if targets.bytes[level] == 0 => f64::from(u8::from(shape.bytes[level] > 0)),
                _ => shape.weights[level] as f64 / targets.bytes[level] as f64,
            };
            let (files, bytes) = (metas[level].len(), shape.bytes[level]);
            (level, format!("files={files},bytes={bytes},score={score:.2}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::WriteBatch;
    use crate::base::options::{Options, WriteOptions};
    use crate::db::db::Db;
    use crate::db::state::lock;
    use crate::env::mem_env::MemEnv;
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    fn value_of<'p>(properties: &'p [(String, String)], name: &str) -> &'p str {
        properties.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// Every lock that somebody may hold for long is held; the answer comes all the same.
    #[test]
    fn nobody_is_waited_for() {
        let db = Db::open(MemEnv::threaded(), Path::new("/db"), Options::default()).unwrap();
        let keyspace = db.default_keyspace();
        let mut batch = WriteBatch::new();
        (0..100u32).for_each(|key| batch.put(keyspace, &key.to_be_bytes(), &[7; 100]).unwrap());
        db.write(&batch, &WriteOptions::default()).unwrap();
        db.flush(keyspace).unwrap();
        let snapshot = db.snapshot();
        let shared = db.shared();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let _manifest = lock(&shared.manifest);
            let _append = shared.log.lock();
            let _view = shared.view.writer();
            let _jobs = lock(&shared.jobs);
            let _generation = lock(&shared.generation);
            let _spare = lock(&shared.spare_memtable);
            let _cache = shared.cache.hold_all();
            let _handles = shared.opener.hold_handles();
            scope.spawn(move || {
                let answer = (properties(shared), shared.metrics.snapshot(), shared.log.is_poisoned());
                sender.send(answer).unwrap();
            });
            let (properties, metrics, _) = receiver.recv_timeout(Duration::from_secs(20)).expect("it waited");
            assert_eq!(metrics.flushes, 1);
            let level: &str = value_of(&properties, "keyspace_default_level0");
            assert!(level.starts_with("files=1,bytes=") && level.ends_with("score=0.25"), "{properties:?}");
            assert_eq!(value_of(&properties, "oldest_snapshot_lsn"), snapshot.sequence().to_string());
            assert_eq!(value_of(&properties, "running_compactions"), "0");
        });
    }
}
