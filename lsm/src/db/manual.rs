//! What a user asks for by hand and waits for: flush, compact a range, be idle.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::db::background::{janitor, step};
use crate::db::compact;
use crate::db::flush::{flush_one, freeze};
use crate::db::state::{Shared, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Which background work somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Flushes,
    Everything,
}

/// Waits until `done`, working meanwhile if nobody else does. Ends with an error if the database closes, is poisoned or work that is
/// waited for fails (it is tried again all the same): a flush does not care that elsewhere a compaction cannot read its input.
fn wait_until(shared: &Arc<Shared>, awaited: Awaited, done: impl Fn(&Shared) -> bool) -> Result<()> {
    forget_failures(shared, awaited);
    loop {
        let generation = shared.generation();
        if done(shared) {
            return Ok(());
        }
        shared.check_writable()?;
        if let Some(error) = forget_failures(shared, awaited) {
            return Err(error);
        }
        if shared.threaded.load(Ordering::Relaxed) {
            shared.wait_changed(generation, Duration::from_millis(100));
            continue;
        }
        let worked = match awaited {
            Awaited::Flushes => flush_one(shared)?,
            Awaited::Everything => step(shared)?,
        };
        if !worked && !done(shared) {
            return Err(Error::invalid("waiting for background work that is paused"));
        }
    }
}

/// Takes the failures that a waiter cares for; the first of them, if any.
fn forget_failures(shared: &Shared, awaited: Awaited) -> Option<Error> {
    let mut jobs = lock(&shared.jobs);
    let flush = jobs.flush_failed.take();
    flush.or_else(|| jobs.compaction_failed.take_if(|_| awaited == Awaited::Everything))
}

/// Freezes a keyspace's memtable and waits until everything up to now is in tables.
pub fn flush_keyspace(shared: &Arc<Shared>, id: KeyspaceId) -> Result<()> {
    let target = freeze(shared, id)?;
    shared.signal();
    wait_until(shared, Awaited::Flushes, |shared| {
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
    wait_until(shared, Awaited::Everything, |shared| {
        let view = shared.view.load_owned();
        let flushed = view.keyspaces().all(|keyspace| keyspace.immutables.is_empty());
        flushed && lock(&shared.jobs).is_idle() && !compact::is_due(shared)
    })?;
    janitor(shared);
    Ok(())
}
