//! The gate: every command passes through it, and a few (FLUSHALL, FLUSHDB, SWAPDB, DEBUG RELOAD) close it behind the
//! last one and run alone.
//!
//! ```text
//! enter:  slots[mine] += 1;   closed?  no -> inside        close:  closed = true;  wait until every slot is 0
//!                             yes -> slots[mine] -= 1, queue
//! ```
//!
//! A worker counts in a slot of its own, so passing an open gate touches no cache line that another worker writes. The two
//! sides each write their flag and then read the other's; SeqCst on all four makes sure that at least one of them sees the
//! other. Closing waits on a condition variable and belongs on a pool; entering never waits.

use crate::store::key_locks::Waker;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[repr(align(128))]
#[derive(Debug, Default)]
struct Slot(AtomicUsize);

/// The gate.
pub struct Gate {
    slots: Box<[Slot]>,
    closed: AtomicBool,
    /// One closer at a time.
    closing: Mutex<()>,
    /// Those who found it closed.
    waiters: Mutex<Vec<Waker>>,
    /// The closer waits here for those inside to leave.
    leaving: Mutex<()>,
    left: Condvar,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// An open gate with `slots` slots; a slot number beyond wraps around, so any number will do.
    pub fn new(slots: usize) -> Gate {
        Gate {
            slots: (0..slots.max(1)).map(|_| Slot::default()).collect(),
            closed: AtomicBool::new(false),
            closing: Mutex::new(()),
            waiters: Mutex::new(Vec::new()),
            leaving: Mutex::new(()),
            left: Condvar::new(),
        }
    }

    /// Goes in. `None` if it is closed.
    #[inline]
    pub fn enter(&self, slot: usize) -> Option<GateGuard<'_>> {
        let slot = &self.slots[slot % self.slots.len()];
        // SeqCst: pairs with `close`, which writes `closed` and then reads the slots.
        slot.0.fetch_add(1, Ordering::SeqCst);
        let guard = GateGuard { gate: self, slot };
        (!self.closed.load(Ordering::SeqCst)).then_some(guard)
    }

    /// Goes in, or queues the waker that `wake` makes; it is called once when the gate opens.
    pub fn enter_or_queue(&self, slot: usize, wake: impl FnOnce() -> Waker) -> Option<GateGuard<'_>> {
        if let Some(guard) = self.enter(slot) {
            return Some(guard);
        }
        // The opener clears `closed` under this lock before it takes the list, so nobody is left behind.
        let mut waiters = lock(&self.waiters);
        if let Some(guard) = self.enter(slot) {
            return Some(guard);
        }
        waiters.push(wake());
        None
    }

    /// Takes over what [`GateGuard::detach`] left inside. The slot is the one that was entered by; each only once.
    pub fn adopt(&self, slot: usize) -> GateGuard<'_> {
        GateGuard { gate: self, slot: &self.slots[slot % self.slots.len()] }
    }

    /// Whether somebody runs, or waits to run, alone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it and waits until everybody is out. Blocks; never call it from inside or on a worker.
    pub fn close(&self) -> ClosedGate<'_> {
        let closing = lock(&self.closing);
        self.closed.store(true, Ordering::SeqCst);
        let mut leaving = lock(&self.leaving);
        while !self.is_empty() {
            leaving = self.left.wait(leaving).unwrap_or_else(PoisonError::into_inner);
        }
        drop(leaving);
        ClosedGate { gate: self, _closing: closing }
    }

    /// As [`close`](Self::close), but gives up and opens it again if somebody stays inside for so long: for those who can
    /// come back, so that one long command does not hold everybody up.
    pub fn close_within(&self, patience: Duration) -> Option<ClosedGate<'_>> {
        let closing = lock(&self.closing);
        self.closed.store(true, Ordering::SeqCst);
        let closed = ClosedGate { gate: self, _closing: closing };
        let leaving = lock(&self.leaving);
        let waited = self.left.wait_timeout_while(leaving, patience, |()| !self.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        // Nobody can have come in since.
        self.is_empty().then_some(closed)
    }

    /// How many are inside at this moment, and how many wait to come in.
    pub fn crowd(&self) -> (usize, usize) {
        // Relaxed: a number to show.
        let inside = self.slots.iter().map(|slot| slot.0.load(Ordering::Relaxed)).sum();
        (inside, lock(&self.waiters).len())
    }

    /// SeqCst: pairs with `enter`, which counts itself and then reads `closed`.
    fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.0.load(Ordering::SeqCst) == 0)
    }
}

/// Being inside. Dropping it leaves.
#[derive(Debug)]
#[must_use = "dropping it leaves at once"]
pub struct GateGuard<'a> {
    gate: &'a Gate,
    slot: &'a Slot,
}

impl GateGuard<'_> {
    /// Stays inside without a guard, until it is [adopted](Gate::adopt) again.
    pub fn detach(self) {
        std::mem::forget(self);
    }
}

impl Drop for GateGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SeqCst: pairs with `close`. Either it sees the slot at zero, or this sees `closed` and wakes it.
        self.slot.0.fetch_sub(1, Ordering::SeqCst);
        if self.gate.closed.load(Ordering::SeqCst) {
            drop(lock(&self.gate.leaving));
            self.gate.left.notify_all();
        }
    }
}

/// Being alone. Dropping it opens the gate and calls those who wait.
#[must_use = "dropping it opens the gate at once"]
pub struct ClosedGate<'a> {
    gate: &'a Gate,
    _closing: MutexGuard<'a, ()>,
}

impl std::fmt::Debug for ClosedGate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClosedGate")
    }
}

impl Drop for ClosedGate<'_> {
    fn drop(&mut self) {
        let mut waiters = lock(&self.gate.waiters);
        self.gate.closed.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *waiters);
        drop(waiters);
        for wake in waiting {
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn closed_means_out() {
        let gate = Gate::new(2);
        let inside = gate.enter(5).unwrap();
        assert!(gate.close_within(Duration::from_millis(1)).is_none() && !gate.is_closed());
        drop(inside);
        assert!(gate.close_within(Duration::ZERO).is_some());
        let closed = gate.close();
        assert!(gate.enter(0).is_none());
        let called = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&called);
        let wake = move || -> Waker {
            Box::new(move || {
                seen.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(gate.enter_or_queue(1, wake).is_none());
        assert_eq!(called.load(Ordering::Relaxed), 0);
        drop(closed);
        assert_eq!(called.load(Ordering::Relaxed), 1);
        assert!(gate.enter_or_queue(1, || unreachable!()).is_some());
    }

    #[test]
    fn nobody_is_inside_while_it_is_closed() {
        let gate = Gate::new(3);
        let (inside, alone) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for slot in 0..3 {
                let (gate, inside, alone) = (&gate, &inside, &alone);
                scope.spawn(move || {
                    let mut entered = 0;
                    while entered < 3000 {
                        let Some(_guard) = gate.enter(slot) else {
                            std::thread::yield_now();
                            continue;
                        };
                        inside.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(alone.load(Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        entered += 1;
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _closed = gate.close();
                        assert_eq!(alone.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(inside.load(Ordering::SeqCst), 0);
                        alone.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
