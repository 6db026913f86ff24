//! Keyspace `meta`: one record for each key that a user sees.
//!
//! ```text
//! key    = space u32 BE | user key
//!
//! value  = tag u8 | expiry u64 BE, if EXPIRES | field expiry u64 BE, if FIELDS | id u64 BE, if EXTERNAL | body
//! tag    = flags (high four bits) | kind (low four bits)
//!
//!          7        6      5          4         3..0
//!        +--------+------+----------+---------+------------------------------------------+
//!        | RAW or | HUSK | EXTERNAL | EXPIRES | 1 string  2 list  3 set  4 zset  5 hash  |
//!        | FIELDS |      |          |         | 6 stream                                 |
//!        +--------+------+----------+---------+------------------------------------------+
//!
//! "hello"                           21 | h e l l o               0x01 and the bytes: one byte of overhead
//! "hello", expires                  0x11 | ........ | h e l l o
//! a string of 1 MiB                 0x21 | id | varint 1048576   its bytes lie in keyspace data under the id
//! ```
//!
//! RAW marks a string that was edited in place (OBJECT ENCODING says `raw` whatever its length), and a packed set that has
//! held a member that is no integer. FIELDS is the same bit of a
//! hash: some of its fields expire, the first of them not before the time given. HUSK marks a record whose expiry has
//! passed and whose body a compaction threw away: it reads as absent and waits for the sweeper, so that every record
//! leaves the count of keys exactly once. The head (tag, expiries, id) is at most 25 bytes, so compaction hooks, which see
//! the front of a value only, always see all of it.

use haypile_lsm::Error;
use haypile_lsm::base::coding::{Cursor, put_varint};
use std::path::Path;

/// A space: what a database number stands for at the moment.
pub type Space = u32;

const RAW: u8 = 0x80;
const FIELDS: u8 = 0x80;
const HUSK: u8 = 0x40;
const EXTERNAL: u8 = 0x20;
const EXPIRES: u8 = 0x10;

/// Longest head in bytes.
pub const HEAD_BYTES_MAX: usize = 25;
/// Bytes in front of the user key.
pub const SPACE_BYTES: usize = 4;

/// Type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes.
    String = 1,
    /// A list.
    List = 2,
    /// A set.
    Set = 3,
    /// A sorted set.
    SortedSet = 4,
    /// A hash.
    Hash = 5,
    /// A stream.
    Stream = 6,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::String, Kind::List, Kind::Set, Kind::SortedSet, Kind::Hash, Kind::Stream];

    fn from_bits(bits: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == bits)
    }

    /// The name that TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// A key's entry in keyspace `ttl`: when the sweeper is to look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// In ms since 1970; 0 for never.
    pub at_ms: u64,
    /// Whether the key itself expires, and not only fields of it.
    pub of_key: bool,
}

/// What stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Type of the value.
    pub kind: Kind,
    /// A string that was edited in place, or a packed set that has held more than integers.
    pub raw: bool,
    /// Expired long ago; the body is gone.
    pub husk: bool,
    /// When it expires, in ms since 1970; 0 for never.
    pub expire_ms: u64,
    /// No field of this hash expires before, in ms since 1970; 0 if none does, and for every other kind.
    pub field_expire_ms: u64,
    /// Under which id its elements lie in keyspace `data`; 0 if they are in the body.
    pub id: u64,
}

impl Head {
    /// A value without expiry that has its elements in the body.
    pub const fn plain(kind: Kind) -> Head {
        Head { kind, raw: false, husk: false, expire_ms: 0, field_expire_ms: 0, id: 0 }
    }

    /// When the sweeper is to look at the key.
    #[inline]
    pub fn due(&self) -> Due {
        let of_key = self.expire_ms != 0;
        let at_ms = match (self.expire_ms, self.field_expire_ms) {
            (key_ms, 0) => key_ms,
            (0, field_ms) => field_ms,
            (key_ms, field_ms) => key_ms.min(field_ms),
        };
        Due { at_ms, of_key }
    }

    /// Whether fields may have expired at `now_ms` that are still stored.
    #[inline]
    pub fn has_due_fields(&self, now_ms: u64) -> bool {
        self.field_expire_ms != 0 && self.field_expire_ms <= now_ms
    }

    /// Whether the record reads as absent at `now_ms`.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.husk || (self.expire_ms != 0 && self.expire_ms <= now_ms)
    }

    /// The head's bytes.
    #[inline]
    pub fn encode(&self) -> HeadBytes {
        let mut out = HeadBytes { bytes: [0; HEAD_BYTES_MAX], len: 1 };
        let mut tag = self.kind as u8;
        if self.raw {
            tag |= RAW;
        }
        if self.husk {
            tag |= HUSK;
        }
        if self.expire_ms != 0 {
            tag |= EXPIRES;
            out.push(self.expire_ms);
        }
        if self.field_expire_ms != 0 && self.kind == Kind::Hash {
            tag |= FIELDS;
            out.push(self.field_expire_ms);
        }
        if self.id != 0 {
            tag |= EXTERNAL;
            out.push(self.id);
        }
        out.bytes[0] = tag;
        out
    }
}

/// The bytes of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadBytes {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl HeadBytes {
    fn push(&mut self, value: u64) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&value.to_be_bytes());
        self.len += 8;
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A record, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its head.
    pub head: Head,
    /// What stands behind it.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record. `None` if the bytes are not one.
    #[inline]
    pub fn decode(value: &'a [u8]) -> Option<Record<'a>> {
        let (&tag, mut rest) = value.split_first()?;
        let kind = if tag & 0x0f == 1 { Kind::String } else { Kind::from_bits(tag & 0x0f)? };
        let raw = tag & RAW != 0 && kind != Kind::Hash;
        let mut head = Head { raw, husk: tag & HUSK != 0, ..Head::plain(kind) };
        if tag & EXPIRES != 0 {
            head.expire_ms = take_u64(&mut rest)?;
        }
        if tag & FIELDS != 0 && kind == Kind::Hash {
            head.field_expire_ms = take_u64(&mut rest)?;
        }
        if tag & EXTERNAL != 0 {
            head.id = take_u64(&mut rest)?;
        }
        Some(Record { head, body: rest })
    }
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_be_bytes(*bytes))
}

/// Writes the key of `user_key` into `out`, replacing what is there.
#[inline]
pub fn put_key(out: &mut Vec<u8>, space: Space, user_key: &[u8]) {
    out.clear();
    append_key(out, space, user_key);
}

/// Appends a key of this keyspace.
pub fn append_key(out: &mut Vec<u8>, space: Space, user_key: &[u8]) {
    out.extend_from_slice(&space.to_be_bytes());
    out.extend_from_slice(user_key);
}

/// Splits a key of this keyspace.
pub fn split_key(key: &[u8]) -> Option<(Space, &[u8])> {
    let (space, user_key) = key.split_first_chunk::<SPACE_BYTES>()?;
    Some((u32::from_be_bytes(*space), user_key))
}

/// First key behind all keys of a space, for ranges; `None` for the last space there can be, which is never given out.
pub fn space_bounds(space: Space) -> Option<([u8; SPACE_BYTES], [u8; SPACE_BYTES])> {
    Some((space.to_be_bytes(), space.checked_add(1)?.to_be_bytes()))
}

/// The body of a value that lies under an id: its size (bytes of a string, elements of a collection).
pub fn external_body(size: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(10);
    put_varint(&mut body, size);
    body
}

/// Reads [`external_body`].
pub fn external_size(body: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(body);
    let size = cursor.varint()?;
    cursor.is_empty().then_some(size)
}

/// The body of a collection under an id: how many elements it has, and what its type keeps behind that.
pub fn split_collection_body(body: &[u8]) -> Option<(u64, &[u8])> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint()?;
    Some((count, cursor.rest()))
}

/// The error for a stored record that is not one.
pub fn damaged(keyspace: &str, what: &str) -> Error {
    Error::corruption(Path::new(keyspace), 0, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(kind in 0usize..6, raw: bool, husk: bool, times: (u64, u64), id: u64, body: Vec<u8>) {
            let (kind, (expire_ms, field_ms)) = (Kind::ALL[kind], times);
            let field_expire_ms = if kind == Kind::Hash { field_ms } else { 0 };
            let head = Head { kind, raw: raw && kind != Kind::Hash, husk, expire_ms, field_expire_ms, id };
            let mut value = head.encode().as_bytes().to_vec();
            value.extend_from_slice(&body);
            let record = Record::decode(&value).unwrap();
            prop_assert_eq!(record.head, head);
            prop_assert_eq!(record.body, &body[..]);
        }

        #[test]
        fn any_bytes_never_panic(value: Vec<u8>) {
            if let Some(record) = Record::decode(&value) {
                let _ = external_size(record.body);
            }
        }

        #[test]
        fn keys_sort_by_space_then_key(a in 0u32..u32::MAX, b in 0u32..u32::MAX, x: Vec<u8>, y: Vec<u8>) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            put_key(&mut left, a, &x);
            put_key(&mut right, b, &y);
            prop_assert_eq!(left.cmp(&right), (a, &x).cmp(&(b, &y)));
            prop_assert_eq!(split_key(&left), Some((a, &x[..])));
            let (low, high) = space_bounds(a).unwrap();
            prop_assert!(low[..] <= left[..] && left[..] < high[..]);
        }

        #[test]
        fn sizes_round_trip(size: u64) {
            prop_assert_eq!(external_size(&external_body(size)), Some(size));
        }
    }

    #[test]
    fn the_earlier_of_two_times_is_due() {
        let due = |expire_ms, field_expire_ms| {
            let due = Head { expire_ms, field_expire_ms, ..Head::plain(Kind::Hash) }.due();
            (due.at_ms, due.of_key)
        };
        assert_eq!([due(0, 0), due(7, 0), due(0, 5)], [(0, false), (7, true), (5, false)]);
        assert_eq!([due(7, 5), due(5, 7)], [(5, true), (5, true)]);
    }

    #[test]
    fn a_plain_string_costs_one_byte() {
        assert_eq!(Head::plain(Kind::String).encode().as_bytes(), [1]);
    }
}
