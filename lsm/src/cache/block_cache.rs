//! block_cache
