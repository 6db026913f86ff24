//! What a command on a pool has to do with the world outside while it runs: it may wait for others there.
//!
//! A thread that waits for a client or for another server is no use to its pool, which lets another thread run meanwhile ([`Threads`]).
//! Whether the client is still there is told by whoever serves it, and asked by the command's loops (`Txn::charge`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// The pool whose thread runs a command.
pub trait Threads: Send + Sync {
    /// This thread waits from here on. False if so many do that no other can run in its place.
    fn begin_wait(&self) -> bool;
    /// It goes on.
    fn end_wait(&self);
}

/// See the module.
pub struct Outside {
    /// The pool.
    pub threads: Arc<dyn Threads>,
    /// Nobody will take the answer. Relaxed: whoever sees it late does a little more in vain.
    pub gone: Arc<AtomicBool>,
    /// How long the command waited for its client, in ns. Relaxed: read by the thread that writes it.
    pub waited_ns: AtomicU64,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("gone", &self.gone).finish_non_exhaustive()
    }
}
