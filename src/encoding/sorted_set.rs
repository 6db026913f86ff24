//! Large sorted sets: what the record in `meta` keeps of one, and its places and fences in `data`.
//!
//! ```text
//! place     = score (8 bytes as in `data`) | member            where an element stands: by score, then by member
//! edge      = the first 128 bytes of a place
//!
//! body      = varint elements | varint longest | varint head | slice first edge | last edge
//!
//! member    = space | id | 5 | member  -> score
//! place     = space | id | 6 | place   -> empty
//! fence     = space | id | 7 | place   -> varint: elements from this place on to the next fence
//! ```
//!
//! A *fence* is a cut between elements; it need not be the place of one that is there. The *head* counts the elements before the
//! first fence, so that of a set without fences equals its elements:
//!
//! ```text
//! fences     | head ........ |fence ... |fence ..... |fence ... |fence .. |fence .......
//! places      e e e e e e e e  e e e e e  e e e e e e  e e e e e  e e e e   e e e e e e e
//! ```
//!
//! *Longest* is how many bytes the longest member has that the set ever held: what OBJECT ENCODING is told from.
//!
//! The *edges* are those of the first and of the last element that is there, exactly: whoever reads from an end begins at the
//! edge, and walks over nothing that was removed beyond it.

use crate::encoding::data::{self, PREFIX_BYTES, ZSET_FENCE, ZSET_MEMBER, ZSET_SCORE};
use crate::encoding::meta::Space;
use haypile_lsm::base::coding::{Cursor, put_slice, put_varint};

/// Bytes of a score in front of a place.
pub const SCORE_BYTES: usize = 8;
/// Bytes of a place that an edge keeps.
pub const EDGE_BYTES_MAX: usize = 128;

/// What the record of a large sorted set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Elements in all.
    pub count: u64,
    /// Bytes of the longest member it ever held.
    pub longest: u64,
    /// Elements before the first fence.
    pub head: u64,
    /// Edge of the first element.
    pub first: Vec<u8>,
    /// Edge of the last element.
    pub last: Vec<u8>,
}

impl Summary {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.first.len() + self.last.len());
        put_varint(&mut out, self.count);
        put_varint(&mut out, self.longest);
        put_varint(&mut out, self.head);
        put_slice(&mut out, &self.first);
        out.extend_from_slice(&self.last);
        out
    }

    /// Reads [`encode`](Self::encode). `None` if the bytes are not one, or one that cannot be.
    pub fn decode(body: &[u8]) -> Option<Summary> {
        let mut cursor = Cursor::new(body);
        let (count, longest) = (cursor.varint()?, cursor.varint()?);
        let head = cursor.varint()?;
        let first = cursor.slice()?.to_vec();
        let last = cursor.rest().to_vec();
        let ordered = (1..=count).contains(&head);
        let edges = [&first, &last].iter().all(|edge| (SCORE_BYTES..=EDGE_BYTES_MAX).contains(&edge.len()));
        (ordered && edges && first <= last).then_some(Summary { count, longest, head, first, last })
    }

    /// Whether there are fences.
    pub fn has_fences(&self) -> bool {
        self.head < self.count
    }

    /// Whether all elements have the same score.
    pub fn is_level(&self) -> bool {
        self.first.get(..SCORE_BYTES) == self.last.get(..SCORE_BYTES)
    }

    /// The first place there can be behind all elements, for ranges.
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.last.clone();
        if end.len() < EDGE_BYTES_MAX {
            end.push(0);
            return end;
        }
        // Cut off: whatever begins like it is before the end. A score's first byte is never the greatest there is.
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        if let Some(byte) = end.last_mut() {
            *byte += 1;
        }
        end
    }
}

/// The place of an element.
pub fn place(score: f64, member: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(SCORE_BYTES + member.len());
    place.extend_from_slice(&data::score_bytes(score));
    place.extend_from_slice(member);
    place
}

/// Splits a place into score and member.
pub fn split_place(place: &[u8]) -> Option<(f64, &[u8])> {
    let (score, member) = place.split_first_chunk::<SCORE_BYTES>()?;
    Some((data::read_score(*score), member))
}

/// The edge of an element at `place`.
pub fn edge(place: &[u8]) -> &[u8] {
    &place[..place.len().min(EDGE_BYTES_MAX)]
}

/// Key of a member's score.
pub fn put_member_key(out: &mut Vec<u8>, space: Space, id: u64, member: &[u8]) {
    data::put_element_prefix(out, space, id, ZSET_MEMBER);
    out.extend_from_slice(member);
}

/// Key of a place.
pub fn put_place_key(out: &mut Vec<u8>, space: Space, id: u64, place: &[u8]) {
    data::put_element_prefix(out, space, id, ZSET_SCORE);
    out.extend_from_slice(place);
}

/// Key of a fence.
pub fn put_fence_key(out: &mut Vec<u8>, space: Space, id: u64, place: &[u8]) {
    data::put_element_prefix(out, space, id, ZSET_FENCE);
    out.extend_from_slice(place);
}

/// The member of a member's key.
pub fn member_of_key(key: &[u8]) -> Option<&[u8]> {
    key.get(PREFIX_BYTES + 1..)
}

/// The place of a place's key.
pub fn place_of_key(key: &[u8]) -> Option<&[u8]> {
    key.get(PREFIX_BYTES + 1..)
}

/// The place of a fence's key.
pub fn place_of_fence_key(key: &[u8]) -> Option<&[u8]> {
    key.get(PREFIX_BYTES + 1..)
}

/// Reads the count of a fence.
pub fn read_fence(value: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(value);
    let count = cursor.varint()?;
    cursor.is_empty().then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn summaries_round_trip(a in 1u64..99, b in 0u64..99, x: f64, y: f64, m: Vec<u8>, n: Vec<u8>) {
            prop_assume!(!x.is_nan() && !y.is_nan());
            let mut places = [place(x, &m), place(y, &n)];
            places.sort();
            let (first, last) = (edge(&places[0]).to_vec(), edge(&places[1]).to_vec());
            let summary = Summary { count: a + b, longest: b, head: a, first, last };
            prop_assert_eq!(Summary::decode(&summary.encode()), Some(summary.clone()));
            prop_assert!(places.iter().all(|place| *place < summary.end()));
            prop_assert!(places[0][..] >= summary.first[..]);
            prop_assert_eq!(summary.is_level(), split_place(&places[0]).unwrap().0 == split_place(&places[1]).unwrap().0);
        }

        #[test]
        fn any_bytes_never_panic(body: Vec<u8>) {
            if let Some(summary) = Summary::decode(&body) {
                prop_assert!(summary.end() > summary.last);
            }
        }

        #[test]
        fn keys_hold_what_they_are_made_of(space: u32, id in 0u64..u64::MAX, score: f64, member: Vec<u8>) {
            prop_assume!(!score.is_nan());
            let place = place(score, &member);
            prop_assert_eq!(split_place(&place), Some((if score == 0.0 { 0.0 } else { score }, &member[..])));
            let mut key = Vec::new();
            put_member_key(&mut key, space, id, &member);
            prop_assert_eq!(member_of_key(&key), Some(&member[..]));
            put_place_key(&mut key, space, id, &place);
            prop_assert_eq!(place_of_key(&key), Some(&place[..]));
            put_fence_key(&mut key, space, id, &place);
            prop_assert_eq!(place_of_fence_key(&key), Some(&place[..]));
        }
    }

    #[test]
    fn a_cut_edge_ends_behind_all_that_begin_like_it() {
        let long = place(1.0, &[0xff; 300]);
        let cut = edge(&long).to_vec();
        let summary = Summary { count: 1, longest: 300, head: 1, first: cut.clone(), last: cut };
        assert!(summary.end() > long);
        assert!(summary.end() < place(1.1, b""));
    }
}
