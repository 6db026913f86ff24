//! Keyspace `data`: what lies under an id, and whose the id is.
//!
//! ```text
//! key      = space u32 BE | id u64 BE | kind u8 | ...
//!
//! owner    = space | id | 0                    -> user key that held the id when it was linked or renamed
//! segment  = space | id | 1 | index u32 BE     -> up to 16 KiB of a string, from byte index * 16 KiB
//! field    = space | id | 2 | field            -> expiry u64 BE (0 for never) | value            hash
//! field ttl= space | id | 3 | ms u64 BE | field -> empty                                         hash
//! member   = space | id | 4 | hash u32 BE | member -> empty                                      set, in the order of a hash
//! zmember  = space | id | 5 | member           -> score                                          sorted set
//! zscore   = space | id | 6 | score | member   -> empty                                          sorted set
//! zfence   = space | id | 7 | level u8 | score | member -> varint: elements to the next fence    sorted set, see `sorted_set`
//! element  = space | id | 8 | position u64 BE  -> element                                        list
//! entry    = space | id | 9 | ms u64 BE | seq u64 BE -> fields, see stream.rs                    stream
//! group    = space | id | 10 | ..              -> consumer groups, see stream.rs                 stream
//! ```
//!
//! A score is eight bytes that sort as the numbers do: the bits of the double, all flipped if it is negative, else the
//! sign bit only; -0 is stored as 0.
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
/// Kind of a hash's fields.
pub const FIELD: u8 = 2;
/// Kind of the index of a hash's fields by expiry.
pub const FIELD_TTL: u8 = 3;
/// Kind of a set's members.
pub const MEMBER: u8 = 4;
/// Kind of a sorted set's members.
pub const ZSET_MEMBER: u8 = 5;
/// Kind of a sorted set's scores.
pub const ZSET_SCORE: u8 = 6;
/// Kind of a sorted set's counted fences.
pub const ZSET_FENCE: u8 = 7;
/// Kind of a list's elements.
pub const ELEMENT: u8 = 8;
/// Kind of a stream's entries.
pub const ENTRY: u8 = 9;
/// Kind of a stream's consumer groups and all that belongs to them.
pub const GROUP: u8 = 10;

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

/// Writes what all elements of one kind under an id begin with into `out`, replacing what is there; the caller goes on
/// with the element.
pub fn put_element_prefix(out: &mut Vec<u8>, space: Space, id: u64, kind: u8) {
    out.clear();
    out.extend_from_slice(&prefix(space, id));
    out.push(kind);
}

/// Key of a list's element.
pub fn list_element_key(space: Space, id: u64, position: u64) -> [u8; PREFIX_BYTES + 9] {
    let mut key = [ELEMENT; PREFIX_BYTES + 9];
    key[..PREFIX_BYTES].copy_from_slice(&prefix(space, id));
    key[PREFIX_BYTES + 1..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Bounds of all elements of one kind under an id.
pub fn element_bounds(space: Space, id: u64, kind: u8) -> (Vec<u8>, Vec<u8>) {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    put_element_prefix(&mut start, space, id, kind);
    put_element_prefix(&mut end, space, id, kind + 1);
    (start, end)
}

/// Splits a key of this keyspace into space, id, kind and element.
pub fn split_element(key: &[u8]) -> Option<(Space, u64, u8, &[u8])> {
    let (space, rest) = key.split_first_chunk::<4>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (&kind, element) = rest.split_first()?;
    Some((u32::from_be_bytes(*space), u64::from_be_bytes(*id), kind, element))
}

/// A score as it is stored. Not for NaN, which no command lets through.
pub fn score_bytes(score: f64) -> [u8; 8] {
    let bits = if score == 0.0 { 0 } else { score.to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    ordered.to_be_bytes()
}

/// Reads [`score_bytes`].
pub fn read_score(bytes: [u8; 8]) -> f64 {
    let ordered = u64::from_be_bytes(bytes);
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

/// What every key of an id begins with.
pub fn prefix(space: Space, id: u64) -> [u8; PREFIX_BYTES] {
    let mut key = [0; PREFIX_BYTES];
    key[..4].copy_from_slice(&space.to_be_bytes());
    key[4..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The space and the id that a key begins with.
pub fn split_prefix(key: &[u8]) -> Option<(Space, u64)> {
    let (space, rest) = key.split_first_chunk::<4>()?;
    let (id, _) = rest.split_first_chunk::<8>()?;
    Some((u32::from_be_bytes(*space), u64::from_be_bytes(*id)))
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
            prop_assert_eq!(split_prefix(&a), Some((space, id)));
            prop_assert!(is_owner(&owner) && !is_owner(&a));
        }

        #[test]
        fn elements_lie_under_their_id(space: u32, id in 0u64..u64::MAX, kind in 1u8..=10, element: Vec<u8>) {
            let mut key = Vec::new();
            put_element_prefix(&mut key, space, id, kind);
            key.extend_from_slice(&element);
            let (low, high) = element_bounds(space, id, kind);
            prop_assert!(low <= key && key < high);
            prop_assert!(prefix(space, id)[..] <= low[..] && high[..] < prefix(space, id + 1)[..]);
            prop_assert_eq!(split_element(&key), Some((space, id, kind, &element[..])));
        }

        #[test]
        fn scores_sort_as_numbers(a: f64, b: f64) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(score_bytes(a).cmp(&score_bytes(b)), a.partial_cmp(&b).unwrap());
            prop_assert_eq!(read_score(score_bytes(a)), a);
        }
    }
}
