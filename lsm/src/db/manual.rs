//! What a user asks for by hand and waits for: flush, compact a range, be idle.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::db::background::{janitor, step};
use crate::db::compact;
use crate::db::flush::freeze;
use crate::db::state::{Shared, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Waits until `done`, working meanwhile if nobody else does. Ends with an error if the database closes, is poisoned or a background
/// job fails for good.
fn wait_until(shared: &Arc<Shared>, done: impl Fn(&Shared) -> bool) -> Result<()> {
    lock(&shared.jobs).failed = None;
    loop {
        let generation = shared.generation();
        if done(shared) {
            return Ok(());
        }
        shared.check_writable()?;
        if let Some(error) = lock(&shared.jobs).failed.take() {
            return Err(error);
        }
        if shared.threaded.load(Ordering::Relaxed) {
            shared.wait_changed(generation, Duration::from_millis(100));
        } else if !step(shared)? && !done(shared) {
            return Err(Error::invalid("waiting for background work that is paused"));
        }
    }
}

/// Freezes a keyspace's memtable and waits until everything up to now is in tables.
pub fn flush_keyspace(shared: &Arc<Shared>, id: KeyspaceId) -> Result<()> {
    let target = freeze(shared, id)?;
    shared.signal();
    wait_until(shared, |shared| {
        let view = shared.view.load_owned();
        view.keyspace(id).is_none_or(|keyspace| {
            keyspace.immutables.iter().all(|memtable| memtable.first_sequence() > target)
        })
    })
}

/// Flushes, then compacts all that overlaps `[start, end)` level by level to the bottom.
pub fn compact_range(
    shared: &Arc<Shared>,
    id: KeyspaceId,
    start: Option<&[u8]>,
    end: Option<&[u8]>,
) -> Result<()> {
    flush_keyspace(shared, id)?;
    // Files of the last level made before now are rewritten too, so that filters see everything and deletes leave.
    let now_ms = shared.env.unix_ms();
    loop {
        let generation = shared.generation();
        match compact::compact_range_once(shared, id, start, end, now_ms)? {
            compact::RangeStep::Done => break,
            compact::RangeStep::Worked => {}
            compact::RangeStep::Busy if shared.threaded.load(Ordering::Relaxed) => {
                shared.wait_changed(generation, Duration::from_millis(100));
            }
            compact::RangeStep::Busy => {
                step(shared)?;
            }
        }
        shared.check_writable()?;
    }
    janitor(shared);
    Ok(())
}

/// Waits until no memtable waits for its flush and no compaction is due.
pub fn wait_idle(shared: &Arc<Shared>) -> Result<()> {
    wait_until(shared, |shared| {
        let view = shared.view.load_owned();
        let flushed = view.keyspaces().all(|keyspace| keyspace.immutables.is_empty());
        flushed && lock(&shared.jobs).is_idle() && !compact::is_due(shared)
    })?;
    janitor(shared);
    Ok(())
}
