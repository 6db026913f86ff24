//! Every bound of the stored types in one place.

use haypile_lsm::base::limits::KEY_BYTES_MAX;

/// Longest key that a user may have, in bytes. The engine's longest key less what stands in front of it in any keyspace.
pub const USER_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - 64;
/// Longest string in bytes, as in Redis (its `proto-max-bulk-len`).
pub const STRING_BYTES_MAX: u64 = 512 << 20;
/// A longer string lies in segments under an id, in bytes.
pub const INLINE_STRING_BYTES_MAX: usize = 64 << 10;
/// A collection of up to so many elements and bytes stays in its record. Both may be set at start, down to 0.
pub const PACKED_ELEMENTS_MAX: usize = 128;
/// See [`PACKED_ELEMENTS_MAX`].
pub const PACKED_BYTES_MAX: usize = 1024;
/// Most elements of a large sorted set between two of its fences.
pub const FENCE_ELEMENTS_MAX: u64 = 512;
/// Longest member of a sorted set in bytes: it is part of an engine key, as user keys are.
pub const MEMBER_BYTES_MAX: usize = USER_KEY_BYTES_MAX;
/// A result of more bytes is built aside in several batches, then linked.
pub const ONE_BATCH_BYTES_MAX: u64 = 1 << 20;
/// How many records a command may touch on a worker.
pub const INLINE_RECORDS: u32 = 1000;
/// How many bytes of values a command may touch on a worker.
pub const INLINE_BYTES: u64 = 256 << 10;

const _: () = assert!(crate::encoding::ttl::PREFIX_BYTES < 64);
const _: () = assert!(INLINE_STRING_BYTES_MAX < INLINE_BYTES as usize);
const _: () = assert!(INLINE_BYTES < ONE_BATCH_BYTES_MAX);
