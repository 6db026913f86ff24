//! Every bound of the engine in one place, related to each other at compile time.

/// Longest user key in bytes. A longer one is refused before anything is appended.
pub const KEY_BYTES_MAX: usize = 1 << 20;
/// Longest value in bytes: a Redis string (512 MiB) plus room for a head.
pub const VALUE_BYTES_MAX: usize = (512 << 20) + 4096;
/// Largest encoded batch in bytes (header and annotation included); its length is a `u32` in the WAL.
pub const BATCH_BYTES_MAX: usize = 1 << 30;
/// Most entries in one batch.
pub const BATCH_ENTRIES_MAX: u32 = 1 << 24;
/// Longest annotation of a batch in bytes.
pub const ANNOTATION_BYTES_MAX: usize = 64 << 20;
/// Most keyspaces in one database, dropped ones not counted.
pub const KEYSPACES_MAX: usize = 64;
/// Longest keyspace name in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 64;
/// Levels of the tree, L0 included.
pub const LEVELS: usize = 7;
/// Longest note that a compaction hook may leave, in bytes.
pub const NOTE_BYTES_MAX: usize = 64;
/// Largest decompressed block that a reader accepts: one value of the greatest size and its key, and slack.
pub const BLOCK_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 4096;
/// A value above this many bytes gets a block of its own.
pub const LONE_VALUE_BYTES: usize = 64 << 10;
/// How many bytes of the front of a value a hook sees.
pub const HEAD_BYTES_MAX: usize = 255;
/// Largest record that a manifest reader accepts, in bytes.
pub const MANIFEST_RECORD_BYTES_MAX: usize = 64 << 20;
/// Largest memtable arena in bytes: offsets are `u32`.
pub const ARENA_BYTES_MAX: usize = (4 << 30) - 4096;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(BLOCK_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(BATCH_BYTES_MAX * 3 < ARENA_BYTES_MAX + (1 << 20));
