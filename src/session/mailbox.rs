//! A mailbox: many threads post, one thread takes, and that one is woken only when it sleeps.
//!
//! The owner, before it sleeps, sets `sleeping`, then looks once more whether there is mail; a poster pushes first and then
//! clears `sleeping`; whoever clears it (and nobody else) pays for the wake-up. So a busy owner costs posters no system call,
//! and no letter is slept over: either the owner's second look sees the letter, or the poster sees `sleeping` set.
//!
//! Between its two steps each side has a `SeqCst` fence: the owner stores `sleeping` and then loads what it waits for, the poster stores
//! that and then loads `sleeping`, and neither load may move above the store (the store-buffer pair). The queue's own
//! mutex would not do for [`Mailbox::nudge`], which posts nothing.

use crate::base::sync::{AtomicBool, Mutex, Ordering, fence};
use std::fmt;
use std::sync::PoisonError;

/// See the module.
pub struct Mailbox<M> {
    letters: Mutex<Vec<M>>,
    /// Whether there may be letters; lets the owner skip the lock. Set under the lock.
    filled: AtomicBool,
    sleeping: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("sleeping", &self.sleeping).finish_non_exhaustive()
    }
}

impl<M> Mailbox<M> {
    /// A mailbox whose owner is woken by `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Mailbox<M> {
        Mailbox {
            letters: Mutex::new(Vec::new()),
            filled: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            wake: Box::new(wake),
        }
    }

    /// Posts a letter. Never waits for long: the lock is held for a push or a swap.
    pub fn post(&self, letter: M) {
        {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            letters.push(letter);
            // Release: pairs with the Acquire in `take`.
            self.filled.store(true, Ordering::Release);
        }
        self.nudge();
    }

    /// Wakes the owner if it sleeps.
    pub fn nudge(&self) {
        // Pairs with the fence in `prepare_to_sleep`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it. The load first keeps the line shared while the owner is busy.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// Owner: moves all letters into `into`, in the order they came.
    pub fn take(&self, into: &mut Vec<M>) {
        // Acquire: pairs with the Release in `post`.
        if !self.filled.load(Ordering::Acquire) {
            return;
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: stores to it are ordered by the lock.
        self.filled.store(false, Ordering::Relaxed);
        into.append(&mut letters);
    }

    /// Owner: whether there is mail. Exact for what this thread posted.
    pub fn has_mail(&self) -> bool {
        // Acquire: pairs with the Release in `post`.
        self.filled.load(Ordering::Acquire)
    }

    /// Owner: announces that it is going to sleep. False if there is mail already; then it must not sleep. After `true` the owner
    /// looks at whatever else it waits for (the log), sleeps, and calls [`awake`](Self::awake).
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        // AcqRel: comes after the swap of any poster whose wake-up is over.
        self.sleeping.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `nudge`: of the store above and the loads below (here and by the caller), and the poster's store and
        // load, at least one load sees the other's store.
        fence(Ordering::SeqCst);
        if self.filled.load(Ordering::Acquire) {
            self.sleeping.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Owner: awake again.
    pub fn awake(&self) {
        // Relaxed: a poster that still sees `true` wakes for nothing, once.
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn wakes_only_a_sleeper() {
        let (sender, receiver) = mpsc::channel();
        let mailbox: Mailbox<u32> = Mailbox::new(move || {
            let _ = sender.send(());
        });
        mailbox.post(1);
        assert!(receiver.try_recv().is_err(), "an awake owner is not woken");
        assert!(!mailbox.prepare_to_sleep(), "mail is there");
        let mut letters = Vec::new();
        mailbox.take(&mut letters);
        assert_eq!(letters, [1]);
        assert!(mailbox.prepare_to_sleep());
        mailbox.post(2);
        mailbox.post(3);
        assert!(receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err(), "woken once");
        mailbox.take(&mut letters);
        assert_eq!(letters, [1, 2, 3]);
    }

    #[test]
    fn no_letter_is_slept_over() {
        let (sender, receiver) = mpsc::channel();
        let mailbox: Mailbox<u32> = Mailbox::new(move || {
            let _ = sender.send(());
        });
        const EACH: u32 = 20_000;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..EACH).for_each(|n| mailbox.post(n)));
            }
            let mut got = 0;
            let mut letters = Vec::new();
            while got < 3 * EACH {
                mailbox.take(&mut letters);
                got += letters.len() as u32;
                letters.clear();
                if got < 3 * EACH && mailbox.prepare_to_sleep() {
                    receiver
                        .recv_timeout(std::time::Duration::from_secs(10))
                        .expect("a letter was slept over");
                    mailbox.awake();
                }
            }
        });
    }
}
