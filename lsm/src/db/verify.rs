//! Looking at the whole: checks of every table and of the levels, sizes, properties for people.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::limits::LEVELS;
use crate::db::state::Shared;
use crate::version::file_meta::KeyRange;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;

/// Reads every table whole: checksums, order, filters without false negatives; and checks that the levels are sorted and disjoint.
pub fn verify(shared: &Arc<Shared>) -> Result<()> {
    let view = shared.view.load_owned();
    for keyspace in view.keyspaces() {
        keyspace.version.check().map_err(|what| Error::corruption(&shared.path, 0, what.to_string()))?;
        for file in keyspace.version.files() {
            file.table(&shared.opener, false)?.verify()?;
        }
    }
    Ok(())
}

/// About how many bytes of tables the keys in `[start, end)` take.
pub fn approximate_size(shared: &Shared, id: KeyspaceId, start: &[u8], end: &[u8]) -> Result<u64> {
    let view = shared.view.load_owned();
    let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    let range = KeyRange { start, end: Bound::Excluded(end) };
    Ok(keyspace.version.approximate_bytes(0..LEVELS, &range))
}

/// Names and values that describe the engine's state.
pub fn properties(shared: &Shared) -> Vec<(String, String)> {
    let view = shared.view.load_owned();
    let load = shared.load();
    let mut all = Vec::new();
    let mut say = |name: &str, value: String| all.push((name.to_string(), value));
    say("visible_lsn", shared.publisher.visible().to_string());
    say("written_lsn", shared.log.written().to_string());
    say("synced_lsn", shared.log.synced().to_string());
    say("wal_bytes", shared.log.total_bytes().to_string());
    say("memtable_bytes", load.memtable_bytes.to_string());
    say("memtable_bytes_max", load.memtable_bytes_max.to_string());
    say("block_cache_bytes", shared.cache.used_bytes().to_string());
    say("block_cache_bytes_max", shared.cache.capacity_bytes().to_string());
    say("compaction_debt_bytes", load.debt_bytes.to_string());
    say("level0_runs", load.level0_runs.to_string());
    say("write_pressure", format!("{:.3}", shared.pressure()));
    say("drain_bytes_per_second", shared.drain_rate.bytes_per_second().to_string());
    say("open_tables", shared.opener.open_count().to_string());
    say("open_tables_max", shared.options.open_tables_max.to_string());
    say("snapshots", shared.snapshots.sequences().len().to_string());
    let mut table_bytes = 0;
    for keyspace in view.keyspaces() {
        let mut levels = String::new();
        for (level, files) in keyspace.version.levels().iter().enumerate() {
            let bytes = files.files().iter().map(|file| file.meta().bytes).sum::<u64>();
            table_bytes += bytes;
            if !files.files().is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(levels, "L{level}:files={},bytes={bytes};", files.files().len());
            }
        }
        say(&format!("keyspace_{}_levels", keyspace.name), levels);
        say(
            &format!("keyspace_{}_immutable_memtables", keyspace.name),
            keyspace.immutables.len().to_string(),
        );
    }
    say("table_bytes", table_bytes.to_string());
    all
}
