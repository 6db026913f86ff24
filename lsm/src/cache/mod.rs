//! The block cache.

pub mod block_cache;
