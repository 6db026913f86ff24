//! Atomics that loom can replace. The skiplist and the commit pipeline import them from here, nothing else does.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Stands behind a SeqCst access whose place in the one order of all such accesses matters. Loom takes them for AcqRel and knows that
/// order only of fences, so there it is one; otherwise it is nothing.
pub fn in_total_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// One turn of a short spin.
pub fn spin_hint() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
