//! Keyspace `system`: what the server keeps about itself.
//!
//! ```text
//! "space" | db u32 BE               -> space u32 BE | slots u8        which space a database number stands for
//! "next-space"                      -> u32 BE                         the next space never used
//! "next-id"                         -> u64 BE                         no id at or above was ever given out
//! "gc" | space u32 BE | id u64 BE   -> empty                          look whether this id is still held
//! "dead" | space u32 BE             -> empty                          a flushed space whose ttl entries are still there
//! "count" | space u32 BE            -> keys i64 | expires i64 | seconds i64, all BE; only after a clean close
//! "owner-sweep"                     -> ms u64 BE | (space u32 BE | id u64 BE)?   when the next search for lost ids is due, and
//!                                                                     where the one under way is
//! "clean"                           -> beliefs u64 BE                 the counts are right, but for this many blind writes that
//!                                                                     only believed in a record; gone while the server runs
//! ```
//!
//! `slots` says whether a 14-bit slot stands in front of user keys (for clustering); 0 is the only value known so far,
//! and a folder with another one is refused.

use crate::encoding::meta::Space;

/// Key of the record that says which space comes next.
pub const NEXT_SPACE_KEY: &[u8] = b"next-space";
/// Key of the record that says which ids are free.
pub const NEXT_ID_KEY: &[u8] = b"next-id";
/// Key of the mark of a clean close.
pub const CLEAN_KEY: &[u8] = b"clean";
/// Key of the record of the search for lost ids.
pub const OWNER_SWEEP_KEY: &[u8] = b"owner-sweep";
/// What gc records begin with.
pub const GC_PREFIX: &[u8] = b"gc";
/// What records of dead spaces begin with.
pub const DEAD_PREFIX: &[u8] = b"dead";
/// What records of counts begin with.
pub const COUNT_PREFIX: &[u8] = b"count";

/// Key of a database's space record.
pub fn space_key(db: usize) -> Vec<u8> {
    [&b"space"[..], &(db as u32).to_be_bytes()].concat()
}

/// Value of a space record.
pub fn space_value(space: Space) -> [u8; 5] {
    let mut value = [0; 5];
    value[..4].copy_from_slice(&space.to_be_bytes());
    value
}

/// Reads a space record: the space, and whether slots stand in front of keys.
pub fn read_space(value: &[u8]) -> Option<(Space, bool)> {
    let (space, slots) = value.split_first_chunk::<4>()?;
    match slots {
        [slots @ (0 | 1)] => Some((u32::from_be_bytes(*space), *slots == 1)),
        _ => None,
    }
}

/// Key of a gc record.
pub fn gc_key(space: Space, id: u64) -> [u8; 14] {
    let mut key = [0; 14];
    key[..2].copy_from_slice(GC_PREFIX);
    key[2..6].copy_from_slice(&space.to_be_bytes());
    key[6..].copy_from_slice(&id.to_be_bytes());
    key
}

/// Splits the key of a gc record.
pub fn split_gc_key(key: &[u8]) -> Option<(Space, u64)> {
    split_gc_note(key.strip_prefix(GC_PREFIX)?)
}

/// What a compaction hook notes of an id that lost its holder: `space u32 BE | id u64 BE`.
pub fn gc_note(space: Space, id: u64) -> [u8; 12] {
    let mut note = [0; 12];
    note[..4].copy_from_slice(&space.to_be_bytes());
    note[4..].copy_from_slice(&id.to_be_bytes());
    note
}

/// Reads [`gc_note`].
pub fn split_gc_note(note: &[u8]) -> Option<(Space, u64)> {
    let (space, id) = note.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*space), read_u64(id)?))
}

/// Value of the record of the search for lost ids: when the next is due, and where the one under way is.
pub fn owner_sweep_value(due_ms: u64, from: Option<(Space, u64)>) -> Vec<u8> {
    let from = from.map(|(space, id)| gc_note(space, id));
    [&due_ms.to_be_bytes()[..], from.as_ref().map_or(&[], |from| &from[..])].concat()
}

/// Reads [`owner_sweep_value`].
pub fn read_owner_sweep(value: &[u8]) -> Option<(u64, Option<(Space, u64)>)> {
    let (due_ms, from) = value.split_first_chunk::<8>()?;
    let from = if from.is_empty() { None } else { Some(split_gc_note(from)?) };
    Some((u64::from_be_bytes(*due_ms), from))
}

/// Bounds of the gc records of one space, for a range delete.
pub fn gc_bounds(space: Space) -> ([u8; 14], [u8; 14]) {
    (gc_key(space, 0), gc_key(space.saturating_add(1), 0))
}

/// Key of a dead space's record.
pub fn dead_key(space: Space) -> Vec<u8> {
    [DEAD_PREFIX, &space.to_be_bytes()].concat()
}

/// Splits the key of a dead space's record.
pub fn split_dead_key(key: &[u8]) -> Option<Space> {
    read_u32(key.strip_prefix(DEAD_PREFIX)?)
}

/// Key of a space's counts.
pub fn count_key(space: Space) -> Vec<u8> {
    [COUNT_PREFIX, &space.to_be_bytes()].concat()
}

/// Value of a space's counts: keys, keys with expiry, and the sum of their expiries in seconds.
pub fn count_value(counts: [i64; 3]) -> Vec<u8> {
    counts.iter().flat_map(|count| count.to_be_bytes()).collect()
}

/// Reads [`count_value`].
pub fn read_counts(value: &[u8]) -> Option<[i64; 3]> {
    let (keys, rest) = value.split_first_chunk::<8>()?;
    let (expires, rest) = rest.split_first_chunk::<8>()?;
    let seconds = rest.try_into().ok()?;
    Some([i64::from_be_bytes(*keys), i64::from_be_bytes(*expires), i64::from_be_bytes(seconds)])
}

/// Reads a big-endian `u32` that is all there is.
pub fn read_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// Reads a big-endian `u64` that is all there is.
pub fn read_u64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(space in 0u32..u32::MAX, id: u64, counts: [i64; 3]) {
            prop_assert_eq!(split_gc_key(&gc_key(space, id)), Some((space, id)));
            prop_assert_eq!(split_gc_note(&gc_note(space, id)), Some((space, id)));
            prop_assert_eq!(split_dead_key(&dead_key(space)), Some(space));
            for from in [None, Some((space, id))] {
                prop_assert_eq!(read_owner_sweep(&owner_sweep_value(id, from)), Some((id, from)));
            }
            prop_assert_eq!(read_space(&space_value(space)), Some((space, false)));
            prop_assert_eq!(read_counts(&count_value(counts)), Some(counts));
            let (low, high) = gc_bounds(space);
            let key = gc_key(space, id);
            prop_assert!(low[..] <= key[..] && key[..] < high[..]);
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (split_gc_key(&bytes), split_gc_note(&bytes), split_dead_key(&bytes));
            let _ = (read_space(&bytes), read_counts(&bytes), read_owner_sweep(&bytes));
        }
    }
}
