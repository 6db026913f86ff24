//! The one hash of a user key. Computed once per read and shared by the memtable index, every filter and the cache.

use xxhash_rust::xxh3::xxh3_64;

/// xxh3-64 of the user key. Part of the format: filters on disk hold it.
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}
