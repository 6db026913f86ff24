//! Who ends a client's wait: one of those that serve it, or its time, CLIENT UNBLOCK, CLIENT KILL, its end. One compare-and-swap decides.
//!
//! ```text
//!            serve, before the pop commits                          deliver
//! WAITING ------------------------------------> SERVING ---------------------------> reply there for the owner
//!    |
//!    +-- end: TIMED_OUT, UNBLOCKED, REFUSED, GONE                   nobody serves it any more; nothing was popped for it
//! ```
//!
//! Whoever serves has the key's lock and has found something to serve; it swaps *before* it commits. If it loses, it drops what it
//! staged and looks at the next in line, so an element never goes to a client that has been answered otherwise. If it
//! wins, nothing but its reply ends the wait: a timer that comes a moment later loses and leaves the client waiting for that reply.
//!
//! The reply is put down before the owner's mailbox is posted to. The owner takes it when the letter comes, or when it parks the
//! connection after the letter came: the command may have blocked on a pool, whose own letter comes later.

use crate::base::sync::{AtomicU8, Mutex, Ordering};
use haypile_lsm::Lsn;
use std::sync::PoisonError;

const WAITING: u8 = 0;
const SERVING: u8 = 1;
const TIMED_OUT: u8 = 2;
const UNBLOCKED: u8 = 3;
const REFUSED: u8 = 4;
const GONE: u8 = 5;

/// What one who serves hands over.
#[derive(Debug)]
pub struct Served {
    /// The reply.
    pub reply: Vec<u8>,
    /// It may leave once the log is there.
    pub need: Lsn,
    /// What was committed for the client, if anything.
    pub committed: Option<Lsn>,
}

/// Why a wait ended without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time came.
    TimedOut,
    /// CLIENT UNBLOCK: answered as if its time had come.
    Unblocked,
    /// CLIENT UNBLOCK ERROR.
    Refused,
    /// The client was killed or has gone.
    Gone,
}

/// See the module. `R` is what the one who serves hands over.
#[derive(Debug)]
pub struct Claim<R> {
    state: AtomicU8,
    reply: Mutex<Option<R>>,
}

impl<R> Default for Claim<R> {
    fn default() -> Claim<R> {
        Claim { state: AtomicU8::new(WAITING), reply: Mutex::new(None) }
    }
}

impl<R> Claim<R> {
    /// Takes the right to serve. False if the wait has ended; then nothing may be committed for it.
    #[must_use]
    pub fn serve(&self) -> bool {
        self.decide(SERVING)
    }

    /// Ends the wait. False if it is being served or has ended.
    #[must_use]
    pub fn end(&self, ending: Ending) -> bool {
        self.decide(match ending {
            Ending::TimedOut => TIMED_OUT,
            Ending::Unblocked => UNBLOCKED,
            Ending::Refused => REFUSED,
            Ending::Gone => GONE,
        })
    }

    fn decide(&self, state: u8) -> bool {
        // AcqRel: whoever loses sees what the winner did before. The reply itself goes through the mutex.
        self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// How it ended without being served, if it did.
    pub fn ending(&self) -> Option<Ending> {
        // Acquire: pairs with the swap in `decide`.
        match self.state.load(Ordering::Acquire) {
            TIMED_OUT => Some(Ending::TimedOut),
            UNBLOCKED => Some(Ending::Unblocked),
            REFUSED => Some(Ending::Refused),
            GONE => Some(Ending::Gone),
            _ => None,
        }
    }

    /// Whether somebody serves or has served.
    pub fn is_served(&self) -> bool {
        // Acquire: pairs with the swap in `decide`.
        self.state.load(Ordering::Acquire) == SERVING
    }

    /// Puts the reply down, once served. The owner's mailbox is to be posted to after.
    pub fn deliver(&self, reply: R) {
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }

    /// Owner: takes the reply, if it is there.
    pub fn take(&self) -> Option<R> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decides() {
        let claim: Claim<u32> = Claim::default();
        assert!(claim.ending().is_none());
        assert!(!claim.is_served() && claim.serve() && claim.is_served());
        assert!(!claim.serve() && !claim.end(Ending::TimedOut) && claim.ending().is_none());
        assert!(claim.take().is_none());
        claim.deliver(5);
        assert_eq!(claim.take(), Some(5));
        assert_eq!(claim.take(), None);
        let claim: Claim<u32> = Claim::default();
        assert!(claim.end(Ending::Refused));
        assert!(!claim.serve() && !claim.end(Ending::Gone));
        assert_eq!(claim.ending(), Some(Ending::Refused));
    }
}
