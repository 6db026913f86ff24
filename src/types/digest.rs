//! Digests of values and of everything, the same as Redis gives: equal data has equal digests, however and wherever it is stored. For
//! DEBUG DIGEST, and so for tests that reload, crash or copy a database, or run a Redis beside it.
//!
//! ```text
//! add(d, x) = d xor SHA1(x)            mix(d, x) = SHA1(add(d, x))                all begin with zero
//! value     = mix type number (u32, big-endian), mix content, and add "!!expire!!" if it expires
//! key       = mix name, then value     everything = mix database number (u32) for each that has keys, add each key
//!
//! string    mix bytes
//! set       add each member
//! zset      add, for each element, the digest: mix member, mix score with 17 digits
//! hash      add, for each field, the digest: mix name, mix value, and add "!!hexpire!!" if it expires
//! ```
//!
//! When it expires does not count, nor does the order of keys.

use crate::base::double::text_17g;
use crate::base::sha1::Sha1;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind, Record, damaged, space_bounds, split_key};
use crate::encoding::stream::StreamId;
use crate::store::txn::{At, Txn};
use crate::types::hash_value;
use crate::types::lists;
use crate::types::set_value;
use crate::types::sorted_set::{SortedSet, Span};
use crate::types::stream::{self, Order};
use crate::types::string_value::{Stored, stored};
use std::ops::ControlFlow;

/// A digest: 40 hexadecimal digits when shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    fn add_hash(&mut self, hash: [u8; 20]) {
        for (mine, other) in self.0.iter_mut().zip(hash) {
            *mine ^= other;
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.add_hash(Sha1::of(bytes));
    }

    fn mix_hash(&mut self, hash: [u8; 20]) {
        self.add_hash(hash);
        self.0 = Sha1::of(&self.0);
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.mix_hash(Sha1::of(bytes));
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Redis's numbers of the types.
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::SortedSet => 3,
        Kind::Hash => 4,
        Kind::Stream => 6,
    }
}

fn mix_string(digest: &mut Digest, txn: &mut Txn, at: At<'_>, head: &Head, body: &[u8]) -> Result<(), Stop> {
    match stored(at.space, head, body)? {
        Stored::Inline(bytes) => digest.mix(bytes),
        Stored::Segments(segments) => {
            let mut sha = Sha1::default();
            segments.pieces(txn, 0..segments.length, |piece| {
                sha.update(piece);
                ControlFlow::Continue(())
            })?;
            digest.mix_hash(sha.finish());
        }
    }
    Ok(())
}

/// Mixes a value in.
fn mix_value(digest: &mut Digest, txn: &mut Txn, at: At<'_>, head: &Head, body: &[u8]) -> Result<(), Stop> {
    digest.mix(&type_number(head.kind).to_be_bytes());
    match head.kind {
        Kind::String => mix_string(digest, txn, at, head, body)?,
        Kind::Hash => hash_value::View::of_record(at, *head, body).for_each_with_expiry(
            txn,
            |name, value, expire_ms| {
                let mut field = Digest::default();
                field.mix(name);
                field.mix(value);
                if expire_ms != 0 {
                    field.add(b"!!hexpire!!");
                }
                digest.add(&field.0);
            },
        )?,
        Kind::Set => {
            set_value::View::of_record(at, *head, body).for_each(txn, |member| digest.add(member))?;
        }
        Kind::SortedSet => {
            let set = SortedSet::decode(at.space, head, body.to_vec())?;
            set.walk(txn, &Span::Ranks(0..u64::MAX), false, 0, |member, score| {
                let mut element = Digest::default();
                element.mix(member);
                element.mix(text_17g(score).as_bytes());
                digest.add(&element.0);
                ControlFlow::Continue(())
            })?;
        }
        Kind::List => lists::for_each(txn, at, head, body, |element| digest.mix(element))?,
        Kind::Stream => {
            let all = (StreamId::MIN, StreamId::MAX);
            let stream = stream::of_record(at.space, head, body)?;
            stream.for_each(txn, all, Order::Forward, 0, |_, id, mut fields| {
                digest.mix(format!("{}.{}", id.ms, id.seq).as_bytes());
                while let Some(item) = fields.next_item() {
                    digest.mix(item);
                }
                Ok(())
            })?;
        }
    }
    if head.expire_ms != 0 {
        digest.add(b"!!expire!!");
    }
    Ok(())
}

/// The digest of one key's value, without its name. `None` if there is no such key.
pub fn of_value(txn: &mut Txn, at: At<'_>) -> Result<Option<Digest>, Stop> {
    txn.pin();
    let found = txn.peek(at, |record| record.map(|record| (record.head, record.body.to_vec())))?;
    let Some((head, body)) = found else { return Ok(None) };
    let mut digest = Digest::default();
    mix_value(&mut digest, txn, at, &head, &body)?;
    Ok(Some(digest))
}

/// The digest of all keys of all databases. Reads everything.
pub fn of_everything(txn: &mut Txn) -> Result<Digest, Stop> {
    txn.pin();
    let mut everything = Digest::default();
    for db in 0..txn.store().databases() {
        let space = txn.space_of(db);
        let Some((lower, upper)) = space_bounds(space) else { continue };
        let meta = txn.store().keyspaces().meta;
        let mut iter = txn.iter(meta, Some(lower.to_vec()), Some(upper.to_vec()))?;
        iter.seek_to_first()?;
        let mut has_keys = false;
        while iter.valid() {
            let Some((_, key)) = split_key(iter.key()) else {
                return Err(damaged("meta", "a key without a space").into());
            };
            let Some(record) = Record::decode(iter.value()) else {
                return Err(damaged("meta", "a record that does not decode").into());
            };
            if !record.head.is_expired(txn.now_ms()) {
                if !std::mem::replace(&mut has_keys, true) {
                    everything.mix(&(db as u32).to_be_bytes());
                }
                let mut digest = Digest::default();
                digest.mix(key);
                mix_value(&mut digest, txn, At { db, space, key }, &record.head, record.body)?;
                everything.add(&digest.0);
            }
            iter.next()?;
        }
    }
    Ok(everything)
}
