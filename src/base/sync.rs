//! What threads share, by the names under which a model checker can put its own in the place of std's.
//!
//! Files that import from here, and nothing of the kind from std, are run by `tests/interleavings.rs` over loom's: every order of their steps, not
//! those that a machine happens to take.

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
pub use std::sync::{Mutex, MutexGuard};

/// Whether a model checker looks: what is a number there grows into a power of it.
pub const IS_MODEL: bool = false;
