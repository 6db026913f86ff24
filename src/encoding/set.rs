//! Bytes of a set: packed members, and keys of those under an id.
//!
//! ```text
//! packed     member | member | ..                    items of `packed`, sorted
//! under id   hash u32 BE | member -> empty           see `data`
//! ```
//!
//! The hash is the lower half of xxh3-64 of the member, with seed 0. It scatters members evenly whatever they look like, so
//! that a walk that begins at a random hash begins at a random member; and it is the same for every set, so that two
//! sets can be merged.

use crate::encoding::data::{MEMBER, PREFIX_BYTES, put_element_prefix};
use crate::encoding::meta::{Space, damaged};
use haypile_lsm::Error;
use haypile_lsm::base::coding::{Cursor, put_slice, varint_len};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the hash in front of a member.
pub const HASH_BYTES: usize = 4;

/// Appends `hash | member`: the order of members under an id.
pub fn put_hashed(out: &mut Vec<u8>, member: &[u8]) {
    out.extend_from_slice(&(xxh3_64(member) as u32).to_be_bytes());
    out.extend_from_slice(member);
}

/// Writes the key of a member under an id into `out`, replacing what is there.
pub fn put_key(out: &mut Vec<u8>, space: Space, id: u64, member: &[u8]) {
    put_element_prefix(out, space, id, MEMBER);
    put_hashed(out, member);
}

/// Writes a key with `hash | member` given into `out`, replacing what is there.
pub fn put_hashed_key(out: &mut Vec<u8>, space: Space, id: u64, hashed: &[u8]) {
    put_element_prefix(out, space, id, MEMBER);
    out.extend_from_slice(hashed);
}

/// `hash | member` of a key.
pub fn hashed_of(key: &[u8]) -> Result<&[u8], Error> {
    let hashed = key.get(PREFIX_BYTES + 1..).filter(|hashed| hashed.len() >= HASH_BYTES);
    hashed.ok_or_else(|| damaged("keyspace data", "member of a set"))
}

/// The member of a key.
pub fn member_of(key: &[u8]) -> Result<&[u8], Error> {
    Ok(&hashed_of(key)?[HASH_BYTES..])
}

/// A packed member and where it lies in the body.
pub type Placed<'a> = (&'a [u8], Range<usize>);

/// The members of a packed body, in order.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// The members of `body`.
    pub fn new(body: &'a [u8]) -> Members<'a> {
        Members { body, at: 0 }
    }

    /// The next member and where it lies. `None` at the end.
    #[inline]
    pub fn next_member(&mut self) -> Result<Option<Placed<'a>>, Error> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(rest);
        let member = cursor.slice().ok_or_else(|| damaged("keyspace meta", "packed set"))?;
        let start = self.at;
        self.at += cursor.position();
        Ok(Some((member, start..self.at)))
    }

    /// How many are left.
    pub fn count(mut self) -> Result<usize, Error> {
        let mut count = 0;
        while self.next_member()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Where a member lies in a packed body, or where it belongs.
pub fn find(body: &[u8], member: &[u8]) -> Result<Result<Range<usize>, usize>, Error> {
    let mut members = Members::new(body);
    while let Some((other, place)) = members.next_member()? {
        match other.cmp(member) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(Ok(place)),
            std::cmp::Ordering::Greater => return Ok(Err(place.start)),
        }
    }
    Ok(Err(body.len()))
}

/// Appends a packed member.
pub fn put_member(out: &mut Vec<u8>, member: &[u8]) {
    put_slice(out, member);
}

/// How many bytes [`put_member`] appends.
pub fn member_bytes(member: &[u8]) -> usize {
    varint_len(member.len() as u64) + member.len()
}

/// Puts a member at the place where [`find`] said it belongs.
pub fn insert_member(body: &mut Vec<u8>, at: usize, member: &[u8]) {
    put_member(body, member);
    body[at..].rotate_right(member_bytes(member));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn packed_members_stay_sorted(members: Vec<Vec<u8>>, removed: Vec<proptest::sample::Index>) {
            let (mut body, mut model) = (Vec::new(), BTreeSet::new());
            for member in &members {
                match find(&body, member).unwrap() {
                    Ok(_) => prop_assert!(!model.insert(member.clone())),
                    Err(at) => {
                        insert_member(&mut body, at, member);
                        prop_assert!(model.insert(member.clone()));
                    }
                }
            }
            for index in removed.iter().filter(|_| !members.is_empty()) {
                let member = index.get(&members);
                if let Ok(place) = find(&body, member).unwrap() {
                    body.drain(place);
                }
                model.remove(member);
            }
            let (mut walk, mut read) = (Members::new(&body), Vec::new());
            while let Some((member, _)) = walk.next_member().unwrap() {
                read.push(member.to_vec());
            }
            prop_assert_eq!(read, model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn keys_keep_their_members(member: Vec<u8>) {
            let mut key = Vec::new();
            put_key(&mut key, 3, 4, &member);
            prop_assert_eq!(member_of(&key).unwrap(), &member[..]);
            let mut again = Vec::new();
            put_hashed_key(&mut again, 3, 4, hashed_of(&key).unwrap());
            prop_assert_eq!(key, again);
        }

        #[test]
        fn any_bytes_end(body: Vec<u8>) {
            let _ = (Members::new(&body).count(), find(&body, b"m"), member_of(&body));
        }
    }

    #[test]
    fn the_hash_never_changes() {
        let mut key = Vec::new();
        put_hashed(&mut key, b"member");
        assert_eq!(key[..HASH_BYTES], HASH_OF_MEMBER);
    }

    /// As written by the first version; what is on disk depends on it.
    const HASH_OF_MEMBER: [u8; 4] = [97, 234, 8, 117];
}
