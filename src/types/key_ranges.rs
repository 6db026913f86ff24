//! Walks over stretches of keys in their order: what PKSCANRANGE, PKRSCANRANGE and PKPATTERNMATCHDEL do. An ordered engine gives them for free.

use crate::base::glob;
use crate::base::stop::Stop;
use crate::encoding::meta::{self, Kind, Record};
use crate::store::txn::{At, Txn};
use crate::types::string_value;
use haypile_lsm::prefix_end;
use std::ops::ControlFlow;

/// What PKSCANRANGE is asked for.
#[derive(Clone, Copy, Debug)]
pub struct KeyStretch<'a> {
    /// One end, inclusive; empty for that of the database.
    pub from: &'a [u8],
    /// The other end, inclusive; empty for that of the database.
    pub to: &'a [u8],
    /// Backward: `from` is the upper end.
    pub reverse: bool,
    /// Keys of this type only.
    pub kind: Option<Kind>,
    /// Which keys to name.
    pub pattern: Option<&'a [u8]>,
    /// How many keys (of that type) to look at.
    pub limit: u64,
}

/// Whether a pattern names a key. A lone star names the empty key too.
fn names(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

/// Walks the live keys within two bounds of keyspace `meta`, either way, until `f` breaks.
fn walk(
    txn: &mut Txn,
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    reverse: bool,
    mut f: impl FnMut(&[u8], &Record<'_>) -> ControlFlow<()>,
) -> Result<(), Stop> {
    if upper.as_ref().is_some_and(|upper| lower >= *upper) {
        return Ok(());
    }
    let keyspace = txn.store().keyspaces().meta;
    let mut iter = txn.iter(keyspace, Some(lower), upper)?;
    match reverse {
        false => iter.seek_to_first()?,
        true => iter.seek_to_last()?,
    }
    while iter.valid() {
        txn.charge(1, iter.value().len() as u64)?;
        let (Some((space, key)), Some(record)) = (meta::split_key(iter.key()), Record::decode(iter.value()))
        else {
            return Err(meta::damaged("keyspace meta", "record").into());
        };
        if record.head.is_expired(txn.now_ms()) {
            txn.note_expired(space, key);
        } else if f(key, &record).is_break() {
            return Ok(());
        }
        match reverse {
            false => iter.next()?,
            true => iter.prev()?,
        }
    }
    Ok(())
}

/// PKSCANRANGE and PKRSCANRANGE: hands keys to `f`; the key to go on with, empty at the end.
pub fn scan_range(txn: &mut Txn, stretch: KeyStretch<'_>, mut f: impl FnMut(&[u8])) -> Result<Vec<u8>, Stop> {
    let (_, space) = txn.own_database();
    let (low, high) = match stretch.reverse {
        false => (stretch.from, stretch.to),
        true => (stretch.to, stretch.from),
    };
    let mut lower = Vec::new();
    meta::put_key(&mut lower, space, low);
    let upper = if high.is_empty() {
        prefix_end(&space.to_be_bytes())
    } else {
        let mut upper = Vec::new();
        meta::put_key(&mut upper, space, high);
        // The first key there can be behind the last one.
        upper.push(0);
        Some(upper)
    };
    let (mut left, mut next) = (stretch.limit, Vec::new());
    walk(txn, lower, upper, stretch.reverse, |key, record| {
        if stretch.kind.is_some_and(|kind| kind != record.head.kind) {
            return ControlFlow::Continue(());
        }
        if left == 0 {
            next.extend_from_slice(key);
            return ControlFlow::Break(());
        }
        left -= 1;
        if stretch.pattern.is_none_or(|pattern| names(pattern, key)) {
            f(key);
        }
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// A string's value; `None` if there is none, or no string.
pub fn string_of(txn: &mut Txn, at: At<'_>) -> Result<Option<Vec<u8>>, Stop> {
    match string_value::Source::open(txn, at) {
        Ok(Some(source)) => Ok(Some(source.read_all(txn)?)),
        Ok(None) => Ok(None),
        Err(stop) => Err(stop),
    }
}

/// The next keys in order that a pattern names.
#[derive(Debug, Default)]
pub struct Matches {
    /// The keys.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// How many keys a batch of [`next_matches`] looks at.
const LOOKED_AT_MAX: usize = 4096;

/// Up to `wanted` keys that a pattern names, from `from` on.
pub fn next_matches(txn: &mut Txn, pattern: &[u8], from: &[u8], wanted: usize) -> Result<Matches, Stop> {
    let (_, space) = txn.own_database();
    let prefix = glob::literal_prefix(pattern);
    let mut lower = Vec::new();
    meta::put_key(&mut lower, space, &prefix);
    let upper = prefix_end(&lower);
    if from > &prefix[..] {
        meta::put_key(&mut lower, space, from);
    }
    let (mut matches, mut looked_at) = (Matches::default(), 0);
    walk(txn, lower, upper, false, |key, _| {
        if matches.keys.len() == wanted || looked_at == LOOKED_AT_MAX {
            matches.next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        looked_at += 1;
        if names(pattern, key) {
            matches.keys.push(key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    Ok(matches)
}
