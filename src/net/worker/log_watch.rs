//! How far the log has come, for those who hold answers back until it has.

use crate::base::clock::Clock;
use crate::net::worker::mail::WorkerShared;
use crate::session::server_state::Fsync;
use haypile_lsm::{LogProgress, Lsn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const RELAXED: Ordering = Ordering::Relaxed;

/// How far the log has come, as its listener says; wakes workers that wait for it.
///
/// Under `everysec` what was *written* may leave, as long as syncs keep up: a mark is set at some written LSN and moves on when a
/// sync has passed it; once a mark is two seconds old, the disk stalls, and only what is *synced* may leave.
pub struct LogWatch {
    clock: Clock,
    written: AtomicU64,
    synced: AtomicU64,
    poisoned: AtomicBool,
    /// An LSN that no sync has passed yet; 0 if all is synced.
    mark: AtomicU64,
    /// When the mark was set (monotonic ms).
    mark_ms: AtomicU64,
    workers: std::sync::OnceLock<Vec<Arc<WorkerShared>>>,
}

/// How old the oldest unsynced write may be under `everysec` before answers wait for the sync.
const UNSYNCED_MS_MAX: u64 = 2000;

impl LogWatch {
    /// A watch that has seen nothing yet.
    pub fn new(clock: Clock) -> LogWatch {
        LogWatch {
            clock,
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            mark: AtomicU64::new(0),
            mark_ms: AtomicU64::new(0),
            workers: std::sync::OnceLock::new(),
        }
    }

    /// Says which workers to wake. Called once.
    pub fn set_workers(&self, workers: Vec<Arc<WorkerShared>>) {
        // A second call would be a bug of the caller; the first list stays.
        let _ = self.workers.set(workers);
    }

    /// The log's listener.
    pub fn advance(&self, progress: LogProgress) {
        // SeqCst: pairs with the loads in `watermark` after a worker has set `waits_for_log`.
        self.written.fetch_max(progress.written, Ordering::SeqCst);
        self.synced.fetch_max(progress.synced, Ordering::SeqCst);
        if progress.poisoned {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        // Relaxed: two threads that move the mark at once set it to about the same.
        if progress.synced >= self.mark.load(RELAXED) {
            self.mark_ms.store(self.clock.monotonic_ms(), RELAXED);
            self.mark.store(if progress.written > progress.synced { progress.written } else { 0 }, RELAXED);
        }
        for worker in self.workers.get().into_iter().flatten() {
            if worker.waits_for_log.load(Ordering::SeqCst) {
                worker.mailbox.nudge();
            }
        }
    }

    /// What may leave the process under this setting.
    pub(super) fn watermark(&self, fsync: Fsync, now_ms: u64) -> Lsn {
        match fsync {
            Fsync::EverySecond if !self.is_stalled(now_ms) => self.written(),
            Fsync::No => self.written(),
            Fsync::Always | Fsync::EverySecond => self.synced(),
        }
    }

    pub(super) fn written(&self) -> Lsn {
        self.written.load(Ordering::SeqCst)
    }

    pub(super) fn synced(&self) -> Lsn {
        self.synced.load(Ordering::SeqCst)
    }

    fn is_stalled(&self, now_ms: u64) -> bool {
        self.mark.load(RELAXED) != 0 && now_ms > self.mark_ms.load(RELAXED) + UNSYNCED_MS_MAX
    }

    /// Whether the log has failed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_disk_holds_answers_back() {
        let clock = Clock::new();
        let watch = LogWatch::new(clock);
        let advance = |written, synced| watch.advance(LogProgress { written, synced, poisoned: false });
        let mark = |fsync, later_ms| watch.watermark(fsync, clock.monotonic_ms() + later_ms);
        advance(10, 0);
        advance(20, 0);
        assert_eq!(mark(Fsync::EverySecond, 0), 20);
        assert_eq!(mark(Fsync::Always, 0), 0);
        assert_eq!(mark(Fsync::EverySecond, 2500), 0, "no sync for long");
        assert_eq!(mark(Fsync::No, 2500), 20);
        advance(30, 10);
        assert_eq!(mark(Fsync::EverySecond, 0), 30, "a sync passed the mark");
        advance(30, 30);
        assert_eq!(mark(Fsync::EverySecond, 1 << 40), 30, "nothing is unsynced");
    }
}
