//! Keyspace `ttl`: which key to look at when, so that expiry needs no scan.
//!
//! ```text
//! key = expiry u64 BE (ms since 1970) | space u32 BE | user key        value: empty, or 1 if only fields of it expire
//! ```
//!
//! A key has one entry: at the time when it expires or, if it is a hash, the first of its fields, whichever is earlier.
//! Entries with an empty value are counted as keys that expire.
//!
//! An entry is a hint: the record in `meta` says what is true. An entry whose record says otherwise is stale and goes
//! when its time comes.

use crate::encoding::meta::Space;

/// Bytes in front of the user key.
pub const PREFIX_BYTES: usize = 12;

/// Value of an entry.
pub fn value(of_key: bool) -> &'static [u8] {
    if of_key { b"" } else { b"\x01" }
}

/// Whether an entry is of a key that expires itself.
pub fn is_of_key(value: &[u8]) -> bool {
    value.is_empty()
}

/// Writes the key of an entry into `out`, replacing what is there.
pub fn put_key(out: &mut Vec<u8>, expire_ms: u64, space: Space, user_key: &[u8]) {
    out.clear();
    out.extend_from_slice(&expire_ms.to_be_bytes());
    out.extend_from_slice(&space.to_be_bytes());
    out.extend_from_slice(user_key);
}

/// Splits a key of this keyspace into time, space and user key.
pub fn split_key(key: &[u8]) -> Option<(u64, Space, &[u8])> {
    let (expire_ms, rest) = key.split_first_chunk::<8>()?;
    let (space, user_key) = rest.split_first_chunk::<4>()?;
    Some((u64::from_be_bytes(*expire_ms), u32::from_be_bytes(*space), user_key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_by_time(a: (u64, u32, Vec<u8>), b: (u64, u32, Vec<u8>)) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            put_key(&mut left, a.0, a.1, &a.2);
            put_key(&mut right, b.0, b.1, &b.2);
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(split_key(&left), Some((a.0, a.1, &a.2[..])));
        }
    }
}
