//! Keyspace `data`: what lies under an id, and whose the id is.
//!
//! ```text
//! key      = space u32 BE | id u64 BE | kind u8 | ...
//!
//! owner    = space | id | 0                    -> user key that held the id when it was linked or renamed
//! segment  = space | id | 1 | index u32 BE     -> up to 16 KiB of a string, from byte index * 16 KiB
//! ```
//!
//! Everything of an id is one dense range, `[space | id, space | id + 1)`. A segment that is missing or short reads as
//! zeros up to the string's length, so a bit set far out costs one segment and not the gap.

use crate::encoding::meta::Space;

/// Bytes of a string in one segment.
pub const SEGMENT_BYTES: usize = 16 << 10;
/// Bytes of space and id.
pub const PREFIX_BYTES: usize = 12;

const OWNER: u8 = 0;
const SEGMENT: u8 = 1;

/// Key of the owner record.
pub fn owner_key(space: Space, id: u64) -> [u8; PREFIX_BYTES + 1] {
    let mut key = [OWNER; PREFIX_BYTES + 1];
    key[..PREFIX_BYTES].copy_from_slice(&prefix(space, id));
    key
}

/// Key of a string's segment.
pub fn segment_key(space: Space, id: u64, index: u32) -> [u8; PREFIX_BYTES + 5] {
    let mut key = [SEGMENT; PREFIX_BYTES + 5];
    key[..PREFIX_BYTES].copy_from_slice(&prefix(space, id));
    key[PREFIX_BYTES + 1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// What every key of an id begins with.
pub fn prefix(space: Space, id: u64) -> [u8; PREFIX_BYTES] {
    let mut key = [0; PREFIX_BYTES];
    key[..4].copy_from_slice(&space.to_be_bytes());
    key[4..].copy_from_slice(&id.to_be_bytes());
    key
}

/// Whether a key, stripped of space and id, is that of an owner.
pub fn is_owner(key: &[u8]) -> bool {
    key.get(PREFIX_BYTES..) == Some(&[OWNER])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_one_dense_range(space: u32, id in 0u64..u64::MAX, index: u32, other_index: u32) {
            let (start, end) = (prefix(space, id), prefix(space, id + 1));
            let owner = owner_key(space, id);
            let (a, b) = (segment_key(space, id, index), segment_key(space, id, other_index));
            prop_assert!(start[..] <= owner[..] && owner[..] < a[..] && a[..] < end[..]);
            prop_assert_eq!(a.cmp(&b), index.cmp(&other_index));
            prop_assert!(is_owner(&owner) && !is_owner(&a));
        }
    }
}
