//! What is under way outside the workers' loops (commands on pools, service for those who waited, expiry, sleepers), and how somebody
//! learns that all of it that concerns him has ended.
//!
//! ```text
//! CLIENT PAUSE:  the pause is set -> a letter to every worker -> each has come to the end of its turn: what it runs now has seen the pause
//!                -> what is under way on pools since before is waited for -> OK
//! CLIENT KILL:   the same, for the workers and the commands of those killed
//! ```
//!
//! Whoever asks waits as a blocking command does: no thread is held, the last one to end posts the answer. What runs on a worker needs
//! no entry here, as a worker's turn is short and waits for nothing ([`Countdown`]); so the path of a plain command knows nothing of
//! this. A command goes to a pool under a mutex anyway; this adds one more.
//!
//! One mutex, held for a few instructions, taken last of all; what is to be called at an end is called without it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is called at the end of a wait.
pub type Then = Box<dyn FnOnce() + Send>;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A command of this client on a pool, or parked on its way.
    Command {
        /// Whose.
        client: u64,
        /// Whether it may write.
        writes: bool,
    },
    /// Service for those who waited for keys.
    Service,
    /// A turn of the search for what has expired.
    Expiry,
    /// A client that sleeps (DEBUG SLEEP).
    Sleep,
}

impl Work {
    /// Whether it may still commit something.
    pub fn writes(self) -> bool {
        matches!(self, Work::Command { writes: true, .. } | Work::Service | Work::Expiry)
    }
}

struct Wait {
    /// What it still waits for.
    open: HashSet<u64>,
    then: Then,
}

#[derive(Default)]
struct Inner {
    next: u64,
    work: HashMap<u64, Work>,
    waits: Vec<Wait>,
}

/// See the module.
#[derive(Default)]
pub struct InFlight(Mutex<Inner>);

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("work", &self.lock().work).finish_non_exhaustive()
    }
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It begins; dropping the ticket ends it.
    pub fn begin(self: &Arc<Self>, work: Work) -> Ticket {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.work.insert(number, work);
        Ticket { of: Arc::clone(self), number }
    }

    fn end(&self, number: u64) {
        let mut inner = self.lock();
        inner.work.remove(&number);
        let mut over = Vec::new();
        for wait in &mut inner.waits {
            wait.open.remove(&number);
        }
        while let Some(at) = inner.waits.iter().position(|wait| wait.open.is_empty()) {
            over.push(inner.waits.remove(at).then);
        }
        drop(inner);
        over.into_iter().for_each(|then| then());
    }

    /// Calls `then` once everything has ended that is under way now and that `concerns` holds for; at once if there is none.
    pub fn after(&self, concerns: impl Fn(Work) -> bool, then: Then) {
        let mut inner = self.lock();
        let open: HashSet<u64> =
            inner.work.iter().filter(|(_, work)| concerns(**work)).map(|(number, _)| *number).collect();
        if open.is_empty() {
            drop(inner);
            then();
        } else {
            inner.waits.push(Wait { open, then });
        }
    }

    /// Whether anything is under way that `concerns` holds for.
    pub fn any(&self, concerns: impl Fn(Work) -> bool) -> bool {
        self.lock().work.values().any(|work| concerns(*work))
    }

    /// How much is under way.
    pub fn len(&self) -> usize {
        self.lock().work.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that is under way.
#[derive(Debug)]
pub struct Ticket {
    of: Arc<InFlight>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.end(self.number);
    }
}

/// Shared by letters to several workers; when the last is read (or nobody is left to read it), what was given is called.
pub struct Countdown(Mutex<Option<Then>>);

impl Countdown {
    /// Calls `then` when the last one of those who share it lets go.
    pub fn new(then: Then) -> Arc<Countdown> {
        Arc::new(Countdown(Mutex::new(Some(then))))
    }
}

impl fmt::Debug for Countdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Countdown")
    }
}

impl Drop for Countdown {
    fn drop(&mut self) {
        if let Some(then) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            then();
        }
    }
}

/// The answer to a command that waits for others; put down by whoever ends the wait, before the client's worker is told.
#[derive(Debug, Default)]
pub struct Answer(Mutex<Option<Vec<u8>>>);

impl Answer {
    /// Puts it down. The client's worker is to be told after.
    pub fn put(&self, reply: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }

    /// Takes it, if it is there.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn whoever_waits_is_told_once_by_the_last() {
        let flights: Arc<InFlight> = Arc::default();
        let told: Arc<AtomicUsize> = Arc::default();
        let tell = |by: usize| -> Then {
            let told = Arc::clone(&told);
            Box::new(move || {
                told.fetch_add(by, SeqCst);
            })
        };
        flights.after(|_| true, tell(1));
        assert_eq!(told.load(SeqCst), 1, "nothing is under way");
        let read = flights.begin(Work::Command { client: 1, writes: false });
        let write = flights.begin(Work::Command { client: 2, writes: true });
        let service = flights.begin(Work::Service);
        flights.after(Work::writes, tell(10));
        flights.after(|work| matches!(work, Work::Command { client: 1, .. }), tell(100));
        flights.after(|work| work == Work::Sleep, tell(1000));
        assert_eq!(told.swap(0, SeqCst), 1001);
        drop(read);
        assert_eq!(told.swap(0, SeqCst), 100);
        drop(write);
        // What comes later is not waited for.
        let late = flights.begin(Work::Service);
        assert_eq!(told.load(SeqCst), 0);
        drop(service);
        assert_eq!(told.swap(0, SeqCst), 10);
        assert!(flights.any(Work::writes) && !flights.is_empty());
        drop(late);
        assert!(flights.is_empty());
    }
}
