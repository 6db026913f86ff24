//! Digests of values and of everything: equal data has equal digests, however it is stored. For DEBUG DIGEST, and so for tests
//! that reload, crash or copy a database and ask whether it is still the same.
//!
//! A key's digest covers its database, its name, the type, the content, and whether it expires (not when). The digest of all keys is the
//! exclusive-or of theirs, so the order in which they are read does not matter. The digest of nothing is zero.

use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind, Record, damaged, space_bounds, split_key};
use crate::store::txn::{At, Txn};
use crate::types::string_value::{Stored, stored};
use std::ops::ControlFlow;
use xxhash_rust::xxh3::Xxh3;

/// A digest: 40 hexadecimal digits when shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    high: u128,
    low: u32,
}

impl Digest {
    fn mix(&mut self, other: Digest) {
        self.high ^= other.high;
        self.low ^= other.low;
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}{:08x}", self.high, self.low)
    }
}

/// Collects the bytes of a digest; parts carry their lengths, so that they cannot run into each other.
struct Hasher {
    high: Xxh3,
    low: Xxh3,
}

impl Hasher {
    fn new() -> Hasher {
        Hasher { high: Xxh3::with_seed(1), low: Xxh3::with_seed(2) }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.high.update(bytes);
        self.low.update(bytes);
    }

    fn part(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn finish(self) -> Digest {
        Digest { high: self.high.digest128(), low: self.low.digest() as u32 }
    }
}

/// Adds a value's content.
fn add_value(hasher: &mut Hasher, txn: &mut Txn, at: At<'_>, head: &Head, body: &[u8]) -> Result<(), Stop> {
    hasher.part(head.kind.name().as_bytes());
    if head.kind == Kind::String {
        match stored(at.space, head, body)? {
            Stored::Inline(bytes) => hasher.part(bytes),
            Stored::Segments(segments) => {
                hasher.bytes(&segments.length.to_le_bytes());
                segments.pieces(txn, 0..segments.length, |piece| {
                    hasher.bytes(piece);
                    ControlFlow::Continue(())
                })?;
            }
        }
    } else {
        hasher.part(body);
    }
    hasher.bytes(&[u8::from(head.expire_ms != 0)]);
    Ok(())
}

/// The digest of one key's value, without its name. `None` if there is no such key.
pub fn of_value(txn: &mut Txn, at: At<'_>) -> Result<Option<Digest>, Stop> {
    txn.pin();
    let found = txn.view(at, |record| record.map(|record| (record.head, record.body.to_vec())))?;
    let Some((head, body)) = found else { return Ok(None) };
    let mut hasher = Hasher::new();
    add_value(&mut hasher, txn, at, &head, &body)?;
    Ok(Some(hasher.finish()))
}

/// The digest of all keys of all databases. Reads everything.
pub fn of_everything(txn: &mut Txn) -> Result<Digest, Stop> {
    txn.pin();
    let mut digest = Digest::default();
    for db in 0..txn.store().databases() {
        let space = txn.store().space_of(db);
        let Some((lower, upper)) = space_bounds(space) else { continue };
        let meta = txn.store().keyspaces().meta;
        let mut iter = txn.iter(meta, Some(lower.to_vec()), Some(upper.to_vec()))?;
        iter.seek_to_first()?;
        while iter.valid() {
            let Some((_, key)) = split_key(iter.key()) else {
                return Err(damaged("meta", "a key without a space").into());
            };
            let Some(record) = Record::decode(iter.value()) else {
                return Err(damaged("meta", "a record that does not decode").into());
            };
            if !record.head.is_expired(txn.now_ms()) {
                let mut hasher = Hasher::new();
                hasher.bytes(&(db as u64).to_le_bytes());
                hasher.part(key);
                add_value(&mut hasher, txn, At { db, space, key }, &record.head, record.body)?;
                digest.mix(hasher.finish());
            }
            iter.next()?;
        }
    }
    Ok(digest)
}
