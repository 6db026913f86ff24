//! A long command's place in the gate, which it can give up for a while.
//!
//! A command stands in the gate while it runs, so one that closes the gate (FLUSHALL) waits for it, and everybody else for that one.
//! A command that waits for a client to take its answer, or for another server, leaves meanwhile; one that works in batches looks
//! between them whether somebody waits. Whoever comes in again finds another state of things: a database may stand for another space,
//! and the store may have been opened anew.
//!
//! Nobody may wait for the gate with keys locked that somebody inside may wait for: commands never wait inside, and those on a pool
//! that wait for a key ([`Pass::lock`]) do so outside. A worker may come to the gate with a key that it has kept, as it never waits there.

use crate::store::gate::GateGuard;
use crate::store::key_locks::{KeyGuard, LockKey};
use crate::store::store::Store;
use std::sync::{Arc, mpsc};

/// See the module.
pub struct Pass {
    store: Arc<Store>,
    slot: usize,
    inside: bool,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("slot", &self.slot).field("inside", &self.inside).finish_non_exhaustive()
    }
}

impl Pass {
    /// Takes over a place in the gate of `store`, entered by `slot`.
    pub fn new(store: &Arc<Store>, slot: usize, guard: GateGuard<'_>) -> Pass {
        guard.detach();
        Pass { store: Arc::clone(store), slot, inside: true }
    }

    /// Goes out.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.inside) {
            drop(self.store.gate().adopt(self.slot));
        }
    }

    /// Goes in again; waits while the gate is closed. On a pool only.
    pub fn enter(&mut self) {
        while !self.inside {
            let (sender, receiver) = mpsc::channel();
            match self.store.gate().enter_or_queue(self.slot, wake(&sender)) {
                Some(guard) => {
                    guard.detach();
                    self.inside = true;
                }
                // An error says that the waker is gone: then it may be open as well.
                None => {
                    let _ = receiver.recv();
                }
            }
        }
    }

    /// Lets those pass who want to be alone, if there are any. On a pool only.
    pub fn give_way(&mut self) {
        if self.store.gate().is_closed() {
            self.leave();
            self.enter();
        }
    }

    /// Locks keys; waits for them outside. On a pool only, with no key locked.
    pub fn lock<'s>(&mut self, store: &'s Store, keys: &mut Vec<LockKey>) -> KeyGuard<'s> {
        loop {
            let (sender, receiver) = mpsc::channel();
            if let Some(guard) = store.locks().lock_or_queue(keys, wake(&sender)) {
                return guard;
            }
            drop(sender);
            self.leave();
            let _ = receiver.recv();
            self.enter();
        }
    }
}

/// Makes a waker of whoever holds the other end.
fn wake(sender: &mpsc::Sender<()>) -> impl FnOnce() -> Box<dyn FnOnce() + Send> + use<> {
    let sender = sender.clone();
    move || {
        Box::new(move || {
            // Nobody waits any more if it fails.
            let _ = sender.send(());
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.leave();
    }
}
