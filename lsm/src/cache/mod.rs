//! The block cache.

#[expect(unsafe_code, reason = "blocks are shared with lock-free readers under epoch guards")]
pub mod block_cache;
