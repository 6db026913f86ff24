//! Bytes of a hash: packed fields, and keys and values of those under an id.
//!
//! ```text
//! packed     field | value | expiry | field | value | expiry | ..        items of `packed`, in the order of arrival
//! under id   field key -> expiry u64 BE | value                          see `data`
//!            field ttl key -> empty                                      one for each field that expires
//! ```
//!
//! A packed expiry is the empty item or eight bytes, u64 BE, ms since 1970.

use crate::encoding::data::{FIELD, FIELD_TTL, PREFIX_BYTES, put_element_prefix};
use crate::encoding::meta::{Space, damaged};
use haypile_lsm::Error;
use haypile_lsm::base::coding::{Cursor, put_slice, varint_len};
use std::ops::Range;

/// A packed field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// When it expires, in ms since 1970; 0 for never.
    pub expire_ms: u64,
    /// Where it lies in the body.
    pub place: Range<usize>,
}

/// Whether a field with this expiry is gone.
#[inline]
pub fn is_expired(expire_ms: u64, now_ms: u64) -> bool {
    expire_ms != 0 && expire_ms <= now_ms
}

impl Field<'_> {
    /// Whether it is gone.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        is_expired(self.expire_ms, now_ms)
    }
}

/// The fields of a packed body, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `body`.
    pub fn new(body: &'a [u8]) -> Fields<'a> {
        Fields { body, at: 0 }
    }

    /// The next field. `None` at the end.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, Error> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(rest);
        let mut read = || {
            let (name, value) = (cursor.slice()?, cursor.slice()?);
            let expire_ms = match cursor.slice()? {
                [] => 0,
                bytes => u64::from_be_bytes(bytes.try_into().ok()?),
            };
            Some((name, value, expire_ms))
        };
        let Some((name, value, expire_ms)) = read() else {
            return Err(damaged("keyspace meta", "packed hash"));
        };
        let start = self.at;
        self.at += cursor.position();
        Ok(Some(Field { name, value, expire_ms, place: start..self.at }))
    }

    /// How many are left.
    pub fn count(mut self) -> Result<usize, Error> {
        let mut count = 0;
        while self.next_field()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Finds a packed field.
pub fn find<'a>(body: &'a [u8], name: &[u8]) -> Result<Option<Field<'a>>, Error> {
    let mut fields = Fields::new(body);
    while let Some(field) = fields.next_field()? {
        if field.name == name {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// Appends a packed field.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8], expire_ms: u64) {
    put_slice(out, name);
    put_slice(out, value);
    match expire_ms {
        0 => put_slice(out, b""),
        _ => put_slice(out, &expire_ms.to_be_bytes()),
    }
}

/// How many bytes [`put_field`] appends.
pub fn field_bytes(name: &[u8], value: &[u8], expire_ms: u64) -> usize {
    let item = |bytes: usize| varint_len(bytes as u64) + bytes;
    item(name.len()) + item(value.len()) + if expire_ms == 0 { 1 } else { 9 }
}

/// Puts a field where another one lies.
pub fn replace_field(body: &mut Vec<u8>, place: Range<usize>, name: &[u8], value: &[u8], expire_ms: u64) {
    let (old_end, bytes) = (body.len(), field_bytes(name, value, expire_ms));
    // Written behind the end, turned to its place; then the old one is cut out.
    put_field(body, name, value, expire_ms);
    body[place.start..].rotate_right(bytes);
    debug_assert_eq!(body.len(), old_end + bytes);
    body.drain(place.start + bytes..place.end + bytes);
}

/// Writes the key of a field under an id into `out`, replacing what is there.
pub fn put_key(out: &mut Vec<u8>, space: Space, id: u64, name: &[u8]) {
    put_element_prefix(out, space, id, FIELD);
    out.extend_from_slice(name);
}

/// Writes the key of a field's entry in the index by expiry into `out`, replacing what is there.
pub fn put_ttl_key(out: &mut Vec<u8>, space: Space, id: u64, expire_ms: u64, name: &[u8]) {
    put_element_prefix(out, space, id, FIELD_TTL);
    out.extend_from_slice(&expire_ms.to_be_bytes());
    out.extend_from_slice(name);
}

/// Name of the field that a key is of.
pub fn name_of(key: &[u8]) -> &[u8] {
    key.get(PREFIX_BYTES + 1..).unwrap_or_default()
}

/// Splits the key of an entry in the index by expiry into time and name.
pub fn split_ttl_key(key: &[u8]) -> Result<(u64, &[u8]), Error> {
    let split = name_of(key).split_first_chunk::<8>();
    let (expire_ms, name) = split.ok_or_else(|| damaged("keyspace data", "expiry of a field"))?;
    Ok((u64::from_be_bytes(*expire_ms), name))
}

/// Splits the value under a field's key into expiry and value.
#[inline]
pub fn split_value(value: &[u8]) -> Result<(u64, &[u8]), Error> {
    let split = value.split_first_chunk::<8>();
    let (expire_ms, value) = split.ok_or_else(|| damaged("keyspace data", "field of a hash"))?;
    Ok((u64::from_be_bytes(*expire_ms), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_fields_are_found_and_replaced(
            fields: Vec<(Vec<u8>, Vec<u8>, u64)>,
            at: proptest::sample::Index,
            value: Vec<u8>,
            expire_ms: u64,
        ) {
            let mut body = Vec::new();
            for (name, value, expire_ms) in &fields {
                let before = body.len();
                put_field(&mut body, name, value, *expire_ms);
                prop_assert_eq!(body.len() - before, field_bytes(name, value, *expire_ms));
            }
            prop_assert_eq!(Fields::new(&body).count().unwrap(), fields.len());
            if fields.is_empty() {
                return Ok(());
            }
            let mut expected = fields.clone();
            let at = at.index(fields.len());
            expected[at] = (fields[at].0.clone(), value.clone(), expire_ms);
            let mut walk = Fields::new(&body);
            let place = (0..=at).map(|_| walk.next_field().unwrap().unwrap().place).last().unwrap();
            replace_field(&mut body, place, &fields[at].0, &value, expire_ms);
            let mut walk = Fields::new(&body);
            for (name, value, expire_ms) in &expected {
                let field = walk.next_field().unwrap().unwrap();
                prop_assert_eq!((field.name, field.value, field.expire_ms), (&name[..], &value[..], *expire_ms));
            }
            prop_assert!(walk.next_field().unwrap().is_none());
            let first = expected.iter().find(|(name, ..)| *name == fields[at].0).unwrap();
            prop_assert_eq!(find(&body, &fields[at].0).unwrap().unwrap().value, &first.1[..]);
        }

        #[test]
        fn any_bytes_end(body: Vec<u8>) {
            let _ = Fields::new(&body).count();
            let _ = (split_value(&body), split_ttl_key(&body), name_of(&body));
        }

        #[test]
        fn index_sorts_by_time(a: (u64, Vec<u8>), b: (u64, Vec<u8>)) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            put_ttl_key(&mut left, 1, 2, a.0, &a.1);
            put_ttl_key(&mut right, 1, 2, b.0, &b.1);
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(split_ttl_key(&left).unwrap(), (a.0, &a.1[..]));
        }
    }
}
