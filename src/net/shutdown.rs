//! How the server ends: signals, SHUTDOWN, and the order in which things stop.
//!
//! ```text
//! asked -> acceptor closes its sockets -> workers read no more, finish what runs, drain answers, close -> pools end -> the
//! database is closed (flushed, synced) -> exit 0
//! ```
//!
//! A [`Latch`] is set once by whoever asks and waited for by the main thread.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that can be waited for.
#[derive(Debug, Default)]
pub struct Latch {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    /// Sets it, for ever.
    pub fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is set, at most `timeout`; whether it is.
    pub fn wait(&self, timeout: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, _) = self
            .changed
            .wait_timeout_while(set, timeout, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        *set
    }
}
