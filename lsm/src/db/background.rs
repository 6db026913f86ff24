//! The threads of a database, and the same work step by step for an Env that runs none.
//!
//! ```text
//! log         writes the log for those who must not wait for the disk          (wal/log.rs)
//! sync        syncs the log when due or asked, prepares and recycles segments  (wal/log.rs)
//! flush       flushes, bounds the log, readies the next memtable, janitor: drops retired views, unlinks obsolete files
//! compact i   compactions; asked to run at low priority
//! ```
//!
//! A failed job is tried again after a growing pause and said aloud; a full disk heals by itself. Nothing here ever sleeps while
//! holding a lock.
//!
//! A panic (in a compaction hook, say) ends its thread and poisons the database: nobody waits for a thread that is no more, reads go on,
//! writes are told why.

use crate::base::error::{Error, Result};
use crate::base::metrics::Metrics;
use crate::db::commit::prepare_spare;
use crate::db::compact;
use crate::db::flush;
use crate::db::space;
use crate::db::state::{Shared, lock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an idle background thread waits before it looks again by itself.
const IDLE_MS: u64 = 100;
/// Longest pause after failures.
const BACKOFF_MS_MAX: u64 = 2_000;

/// The running threads; empty in a stepped environment.
#[derive(Debug, Default)]
pub struct Background {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    /// Starts the threads, or notes that there are none. If one cannot be started, none is left running.
    pub fn start(shared: &Arc<Shared>) -> Result<Background> {
        let background = Background::default();
        let started = background.start_all(shared);
        started.inspect_err(|_| background.stop(shared))?;
        Ok(background)
    }

    fn start_all(&self, shared: &Arc<Shared>) -> Result<()> {
        let writer = shared.clone();
        self.spawn(shared, "haypile-log", false, move || writer.log.run_writer(&writer.stop))?;
        let keeper = shared.clone();
        self.spawn(shared, "haypile-sync", false, move || keeper.log.run_keeper(&keeper.stop))?;
        let flush = shared.clone();
        self.spawn(shared, "haypile-flush", false, move || flush_thread(&flush))?;
        for index in 0..shared.options.compaction_threads {
            let compact = shared.clone();
            self.spawn(shared, &format!("haypile-comp-{index}"), true, move || compact_thread(&compact))?;
        }
        Ok(())
    }

    fn spawn(
        &self,
        shared: &Arc<Shared>,
        name: &str,
        nice: bool,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let (guarded, called) = (shared.clone(), name.to_string());
        let body = move || {
            // Unwind safe: of a poisoned database nothing is written any more, and what readers use is replaced whole.
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                guarded.poison(&format!("the thread {called} panicked"));
            }
        };
        match shared.env.spawn(name, nice, Box::new(body))? {
            Some(thread) => lock(&self.threads).push(thread),
            None => shared.threaded.store(false, Ordering::SeqCst),
        }
        Ok(())
    }

    /// Tells the threads to leave and waits for them. A job that runs is abandoned at its next check.
    pub fn stop(&self, shared: &Shared) {
        shared.stop.store(true, Ordering::SeqCst);
        shared.signal();
        shared.log.wake_threads();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

fn flush_thread(shared: &Arc<Shared>) {
    let mut failures = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let generation = shared.generation();
        space::watch(shared, false);
        let worked = flush::flush_one(shared)
            .and_then(|flushed| Ok(flush::bound_log(shared)? || flush::freeze_deserts(shared)? || flushed));
        janitor(shared);
        let worked = prepare_spare(shared).and(worked);
        settle(shared, Work::Flush, worked, generation, &mut failures);
    }
}

fn compact_thread(shared: &Arc<Shared>) {
    let mut failures = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let generation = shared.generation();
        space::watch(shared, false);
        let worked = compact::compact_one(shared);
        settle(shared, Work::Compaction, worked, generation, &mut failures);
    }
}

/// What a background thread does.
#[derive(Clone, Copy, Debug)]
enum Work {
    Flush,
    Compaction,
}

/// After a turn: go on, wait for something to do, or back off.
fn settle(shared: &Shared, work: Work, worked: Result<bool>, generation: u64, failures: &mut u32) {
    if matches!(work, Work::Flush) {
        // Relaxed: a hint for writers that wait; they look again and again.
        let lacks_space = worked.as_ref().is_err_and(Error::is_no_space);
        shared.flush_lacks_space.store(lacks_space, Ordering::Relaxed);
    }
    match worked {
        Ok(true) => *failures = 0,
        Ok(false) => {
            *failures = 0;
            shared.wait_changed(generation, Duration::from_millis(IDLE_MS));
        }
        Err(_) if shared.stop.load(Ordering::SeqCst) => {}
        Err(error) => {
            // After damage the keyspace is left alone for a while; the thread has others to look after.
            *failures = if error.is_corruption() { 0 } else { *failures + 1 };
            Metrics::add(&shared.metrics.background_errors, 1);
            shared.event(&format!("{work:?} failed, to be tried again: {error}"));
            let mut jobs = lock(&shared.jobs);
            match work {
                Work::Flush => jobs.flush_failed = Some(error),
                Work::Compaction => jobs.compaction_failed = Some(error),
            }
            drop(jobs);
            shared.signal();
            let pause = (50u64 << (*failures).min(6)).min(BACKOFF_MS_MAX);
            shared.wait_stopped(Duration::from_millis(pause));
        }
    }
}

/// Drops what readers have let go of and unlinks files that no version names.
pub fn janitor(shared: &Shared) {
    shared.view.collect();
    for number in shared.reaper.drain() {
        match shared.opener.unlink(number) {
            Ok(()) => Metrics::add(&shared.metrics.files_deleted, 1),
            Err(error) => shared.event(&format!("an obsolete table stays: {error}")),
        }
    }
}

/// One piece of background work on the calling thread. Returns whether there was any.
pub fn step(shared: &Arc<Shared>) -> Result<bool> {
    space::watch(shared, true);
    let mut worked = shared.log.step()?;
    worked |= flush::flush_one(shared)?;
    worked |= flush::bound_log(shared)?;
    worked |= flush::freeze_deserts(shared)?;
    worked |= compact::compact_one(shared)?;
    janitor(shared);
    Ok(worked)
}

/// While it lives, no flush or compaction starts.
#[derive(Debug)]
pub struct Pause(Arc<Shared>);

impl Pause {
    /// Pauses. Jobs that run already go on to their end.
    pub fn new(shared: Arc<Shared>) -> Pause {
        lock(&shared.jobs).paused += 1;
        Pause(shared)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        lock(&self.0.jobs).paused -= 1;
        self.0.signal();
    }
}
