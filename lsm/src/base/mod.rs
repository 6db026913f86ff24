//! The bottom floor: errors, byte coding, keys, batches, options, limits. Nothing here does I/O.

pub mod limits;
pub mod error;
pub mod coding;
pub mod hash;
pub mod rng;
pub mod sync;
pub mod key;
pub mod batch;
pub mod iter;
pub mod range_delete;
pub mod metrics;
pub mod hooks;
pub mod options;
