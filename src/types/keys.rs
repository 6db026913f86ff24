//! What the commands do that work on a key of any type.

use crate::base::glob;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data;
use crate::encoding::meta::{self, Head, Kind, Record, Space, external_size, split_collection_body};
use crate::store::events::EventClass;
use crate::store::txn::{At, Before, Slot, Txn};
use crate::types::pages::{PageWalk, Stretch};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{Iter, prefix_end};

/// Size that a collection's element is taken to have when it is copied, in bytes, to decide how to write the copy.
const ELEMENT_BYTES_GUESS: u64 = 64;

/// Whether a key is there.
pub fn exists(txn: &mut Txn, at: At<'_>) -> Result<bool, Stop> {
    txn.peek(at, |record| record.is_some())
}

/// TOUCH: whether a key is there, which is then in use.
pub fn touch(txn: &mut Txn, at: At<'_>) -> Result<bool, Stop> {
    txn.view(at, |record| record.is_some())
}

/// Type of a key.
pub fn kind(txn: &mut Txn, at: At<'_>) -> Result<Option<Kind>, Stop> {
    txn.peek(at, |record| record.map(|record| record.head.kind))
}

/// Expiry of a key: `None` if there is no key, 0 if it has none.
pub fn expiry(txn: &mut Txn, at: At<'_>) -> Result<Option<u64>, Stop> {
    txn.peek(at, |record| record.map(|record| record.head.expire_ms))
}

/// At most so many elements are looked at to guess the size of a collection.
const SAMPLES_MAX: u64 = 1000;

/// Samples are taken in so many places of a collection.
const PLACES: u64 = 16;

/// About how many bytes a value takes up, without its key. Of a collection under an id that is its count times the mean of
/// `samples` elements, 0 for as many as there is time for.
pub fn value_bytes(txn: &mut Txn, at: At<'_>, samples: u64) -> Result<Option<u64>, Stop> {
    let read = |record: Option<Record<'_>>| {
        let Record { head, body } = record?;
        Some(match (head.id, head.kind) {
            (0, _) => Ok(body.len() as u64),
            (_, Kind::String) => Ok(external_size(body).unwrap_or(0)),
            _ => Err((head, split_collection_body(body).map_or(0, |(count, _)| count))),
        })
    };
    match txn.glance(at, read)? {
        None => return Ok(None),
        Some(Ok(bytes)) => return Ok(Some(bytes)),
        Some(Err(_)) => txn.pin(),
    }
    let (head, count) = match txn.glance(at, read)? {
        None => return Ok(None),
        Some(Ok(bytes)) => return Ok(Some(bytes)),
        Some(Err(found)) => found,
    };
    let most = if samples == 0 { SAMPLES_MAX } else { samples.min(SAMPLES_MAX) };
    let (seen, bytes) = sample(txn, at.space, &head, most, count)?;
    Ok(Some(if seen == 0 { 0 } else { (u128::from(bytes) * u128::from(count) / u128::from(seen)) as u64 }))
}

/// Looks at up to `most` of the `count` elements of a collection under an id, spread over it: how many it saw, and their bytes.
fn sample(txn: &mut Txn, space: Space, head: &Head, most: u64, count: u64) -> Result<(u64, u64), Stop> {
    let (kind, records) = match head.kind {
        Kind::Hash => (data::FIELD, 1),
        Kind::Set => (data::MEMBER, 1),
        // By member and by score: both hold both.
        Kind::SortedSet => (data::ZSET_MEMBER, 2),
        Kind::List => (data::ELEMENT, 1),
        Kind::Stream => (data::ENTRY, 1),
        Kind::String => return Ok((0, 0)),
    };
    let (lower, upper) = data::element_bounds(space, head.id, kind);
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    let places = if most >= count { 1 } else { PLACES.min(most) };
    let between = places_between(&mut iter, places)?;
    iter.seek_to_first()?;
    let (mut seen, mut bytes) = (0, 0);
    for (place, key) in between.iter().enumerate() {
        // Where it is already behind that place it goes on, so that it sees nothing twice.
        if iter.valid() && iter.key() < key.as_slice() {
            iter.seek(key)?;
        }
        let until = most * (place as u64 + 1) / places;
        while iter.valid() && seen < until {
            txn.charge(1, 0)?;
            seen += 1;
            bytes += (iter.key().len() + iter.value().len()) as u64 * records;
            iter.next()?;
        }
    }
    Ok((seen, bytes))
}

/// So many keys at even distances from the first one to the last one, as if they were spread evenly.
fn places_between(iter: &mut Iter, places: u64) -> Result<Vec<Vec<u8>>, Stop> {
    iter.seek_to_last()?;
    let last = if iter.valid() { iter.key().to_vec() } else { Vec::new() };
    iter.seek_to_first()?;
    let first = if iter.valid() { iter.key().to_vec() } else { Vec::new() };
    let shared = first.iter().zip(&last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let tail = key.get(shared..).unwrap_or_default();
        std::array::from_fn(|at| tail.get(at).copied().unwrap_or(0))
    };
    let (low, high) = (u64::from_be_bytes(number(&first)), u64::from_be_bytes(number(&last)));
    let step = high.saturating_sub(low) / places;
    let place = |at: u64| [&first[..shared], &(low + at * step).to_be_bytes()[..]].concat();
    Ok((0..places).map(place).collect())
}

/// DEL: whether there was something.
pub fn delete(txn: &mut Txn, at: At<'_>) -> Result<bool, Stop> {
    let slot = txn.load(at)?;
    txn.delete(at, &slot.before)?;
    let live = slot.is_live();
    txn.recycle(slot);
    Ok(live)
}

/// When EXPIRE is to do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireConditions {
    /// Only if there is none yet.
    pub if_none: bool,
    /// Only if there is one.
    pub if_some: bool,
    /// Only if it is later than the present one; none counts as never.
    pub if_later: bool,
    /// Only if it is earlier than the present one; none counts as never.
    pub if_earlier: bool,
}

impl ExpireConditions {
    fn allow(&self, old_ms: u64, new_ms: i64) -> bool {
        let old = if old_ms == 0 { i64::MAX } else { old_ms as i64 };
        !(self.if_none && old_ms != 0
            || self.if_some && old_ms == 0
            || self.if_later && (new_ms <= old || old_ms == 0)
            || self.if_earlier && old_ms != 0 && new_ms >= old)
    }
}

/// EXPIRE at a time in ms since 1970, which may have passed; whether it did something.
pub fn expire(txn: &mut Txn, at: At<'_>, expire_ms: i64, conditions: ExpireConditions) -> Result<bool, Stop> {
    let slot = txn.load(at)?;
    let Some(head) = slot.head().copied() else { return Ok(false) };
    if !conditions.allow(head.expire_ms, expire_ms) {
        return Ok(false);
    }
    set_expiry(txn, at, &slot, head, expire_ms.max(0) as u64)?;
    txn.recycle(slot);
    Ok(true)
}

/// Stages a new expiry (which may have passed) for a key that is there.
pub fn set_expiry(txn: &mut Txn, at: At<'_>, slot: &Slot, head: Head, expire_ms: u64) -> Result<(), Stop> {
    if expire_ms <= txn.now_ms() {
        return txn.delete(at, &slot.before);
    }
    txn.put_slot(at, slot, Head { expire_ms, ..head })
}

/// Notes that a key got an expiry, or went because that had passed.
pub fn note_expiry(txn: &mut Txn, at: At<'_>) {
    if txn.tells_events() {
        let name = if txn.has_deleted(at) { "del" } else { "expire" };
        txn.event(EventClass::GENERIC, name, at);
    }
}

/// Notes that a key that was there is another one now.
fn note_replaced(txn: &mut Txn, at: At<'_>, before: &Before) {
    if before.is_live() {
        txn.event(EventClass::NEW, "new", at);
    }
}

/// PERSIST: whether there was an expiry to remove.
pub fn persist(txn: &mut Txn, at: At<'_>) -> Result<bool, Stop> {
    let slot = txn.load(at)?;
    let Some(head) = slot.head().copied().filter(|head| head.expire_ms != 0) else { return Ok(false) };
    txn.put_slot(at, &slot, Head { expire_ms: 0, ..head })?;
    txn.recycle(slot);
    Ok(true)
}

/// RENAME, or RENAMENX if `only_if_absent`; whether it was done.
pub fn rename(txn: &mut Txn, from: At<'_>, to: At<'_>, only_if_absent: bool) -> Result<bool, Stop> {
    let slot = txn.load(from)?;
    let Some(head) = slot.head().copied() else { return Err(ReplyError::NO_SUCH_KEY.into()) };
    if from.key == to.key {
        return Ok(!only_if_absent);
    }
    let before = match only_if_absent {
        true => {
            let target = txn.load(to)?;
            if target.is_live() {
                return Ok(false);
            }
            target.before
        }
        false => txn.look(to)?,
    };
    txn.delete(from, &slot.before.keeping_id())?;
    txn.put(to, &before, head, &[slot.body()])?;
    if head.id != 0 {
        txn.put_owner(to, head.id)?;
    }
    note_replaced(txn, to, &before);
    txn.event(EventClass::GENERIC, "rename_from", from);
    txn.event(EventClass::GENERIC, "rename_to", to);
    txn.recycle(slot);
    Ok(true)
}

/// COPY: whether it was done.
pub fn copy(txn: &mut Txn, from: At<'_>, to: At<'_>, replace: bool) -> Result<bool, Stop> {
    if from.db == to.db && from.key == to.key {
        return Err(ReplyError::SAME_OBJECT.into());
    }
    let slot = txn.load(from)?;
    txn.note_read(from, slot.is_live());
    if !slot.is_live() {
        return Ok(false);
    }
    let target = txn.load(to)?;
    if target.is_live() && !replace {
        return Ok(false);
    }
    copy_value(txn, from, &slot, to, &target.before)?;
    note_replaced(txn, to, &target.before);
    txn.recycle(slot);
    Ok(true)
}

/// MOVE to another database: whether it was done.
pub fn move_to(txn: &mut Txn, from: At<'_>, to: At<'_>) -> Result<bool, Stop> {
    if from.db == to.db {
        return Err(ReplyError::SAME_OBJECT.into());
    }
    let slot = txn.load(from)?;
    if !slot.is_live() {
        return Ok(false);
    }
    let target = txn.load(to)?;
    if target.is_live() {
        return Ok(false);
    }
    copy_value(txn, from, &slot, to, &target.before)?;
    txn.delete(from, &slot.before)?;
    txn.recycle(slot);
    Ok(true)
}

/// Stages a copy of a value, with all that lies under its id under one of its own.
fn copy_value(txn: &mut Txn, from: At<'_>, slot: &Slot, to: At<'_>, before: &Before) -> Result<(), Stop> {
    let Some(head) = slot.head().copied() else { return Ok(()) };
    if head.id == 0 {
        txn.charge(0, slot.body().len() as u64)?;
        return txn.put(to, before, head, &[slot.body()]);
    }
    let bytes = match head.kind {
        Kind::String => external_size(slot.body()).unwrap_or(u64::MAX),
        _ => split_collection_body(slot.body())
            .map_or(u64::MAX, |(count, _)| count.saturating_mul(ELEMENT_BYTES_GUESS)),
    };
    let mut builder = txn.builder(to.space, bytes)?;
    let prefix = data::prefix(from.space, head.id);
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(prefix.to_vec()), prefix_end(&prefix))?;
    iter.seek_to_first()?;
    let mut key = data::prefix(to.space, builder.id()).to_vec();
    while iter.valid() {
        if !data::is_owner(iter.key()) {
            txn.charge(1, iter.value().len() as u64)?;
            key.truncate(prefix.len());
            key.extend_from_slice(iter.key().get(prefix.len()..).unwrap_or_default());
            builder.put(txn, &key, iter.value())?;
        }
        iter.next()?;
    }
    let id = builder.id();
    builder.link(txn, to)?;
    txn.put(to, before, Head { id, ..head }, &[slot.body()])
}

/// Walks the live keys of a space, in order, within those that begin with some bytes.
struct LiveKeys {
    space: Space,
    iter: Iter,
}

/// What an iterator stands on.
enum Standing<'a> {
    Live(&'a [u8], Head),
    Expired(&'a [u8]),
    Damaged,
}

impl LiveKeys {
    /// Those that begin with `prefix`, from `from` on.
    fn open(txn: &mut Txn, prefix: &[u8], from: &[u8]) -> Result<LiveKeys, Stop> {
        let (_, space) = txn.own_database();
        let mut lower = Vec::new();
        meta::put_key(&mut lower, space, prefix);
        let upper = prefix_end(&lower);
        meta::put_key(&mut lower, space, from.max(prefix));
        let keyspace = txn.store().keyspaces().meta;
        let mut iter = txn.iter(keyspace, Some(lower), upper)?;
        iter.seek_to_first()?;
        Ok(LiveKeys { space, iter })
    }

    fn standing(&self, now_ms: u64) -> Option<Standing<'_>> {
        self.iter.valid().then(|| standing(self.iter.key(), self.iter.value(), now_ms))
    }
}

/// What a record of keyspace `meta` says.
fn standing<'a>(key: &'a [u8], value: &[u8], now_ms: u64) -> Standing<'a> {
    match (meta::split_key(key), Record::decode(value)) {
        (Some((_, key)), Some(record)) if record.head.is_expired(now_ms) => Standing::Expired(key),
        (Some((_, key)), Some(record)) => Standing::Live(key, record.head),
        _ => Standing::Damaged,
    }
}

/// Whether a pattern of KEYS or SCAN names a key. A lone star names the empty key too.
fn names(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}

/// KEYS: hands every key that matches to `f`.
pub fn for_each_match(txn: &mut Txn, pattern: &[u8], mut f: impl FnMut(&[u8])) -> Result<(), Stop> {
    let mut keys = LiveKeys::open(txn, &glob::literal_prefix(pattern), b"")?;
    while let Some(standing) = keys.standing(txn.now_ms()) {
        txn.charge(1, 0)?;
        match standing {
            Standing::Live(key, _) if names(pattern, key) => f(key),
            Standing::Live(..) => {}
            Standing::Expired(key) => txn.note_expired(keys.space, key),
            Standing::Damaged => return Err(meta::damaged("keyspace meta", "record").into()),
        }
        keys.iter.next()?;
    }
    Ok(())
}

/// What SCAN is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Where to go on; 0 for the beginning.
    pub cursor: u64,
    /// How many keys to look at.
    pub count: u64,
    /// Which keys to name.
    pub pattern: Option<&'a [u8]>,
    /// Of which type.
    pub kind: Option<&'a [u8]>,
}

/// SCAN: hands matching keys to `f`; the cursor to go on with, 0 at the end.
pub fn scan(txn: &mut Txn, scan: Scan<'_>, mut f: impl FnMut(&[u8])) -> Result<u64, Stop> {
    let literal = scan.pattern.map(glob::literal_prefix).unwrap_or_default();
    let (_, space) = txn.own_database();
    let keyspace = txn.store().keyspaces().meta;
    let stretch = Stretch {
        keyspace,
        prefix: &space.to_be_bytes(),
        literal: &literal,
        cursor: scan.cursor,
        count: scan.count,
    };
    let mut walk = PageWalk::open(txn, stretch)?;
    while let Some((key, value)) = walk.record() {
        txn.charge(1, 0)?;
        match standing(key, value, txn.now_ms()) {
            Standing::Live(key, head) => {
                let matches = scan.pattern.is_none_or(|pattern| names(pattern, key))
                    && scan.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(head.kind.name().as_bytes()));
                if matches {
                    f(key);
                }
            }
            Standing::Expired(key) => txn.note_expired(space, key),
            Standing::Damaged => return Err(meta::damaged("keyspace meta", "record").into()),
        }
        walk.step()?;
    }
    Ok(walk.finish(txn))
}

/// Up to so many keys RANDOMKEY counts through; in a larger database it feels its way down.
const COUNTED_KEYS_MAX: u64 = 512;
/// How many bytes down it feels its way.
const DEPTH_MAX: usize = 64;

/// RANDOMKEY: some live key. Every one of a small database is as likely; of a large one, keys in sparse parts are likelier.
pub fn random(txn: &mut Txn) -> Result<Option<Vec<u8>>, Stop> {
    let mut rng = Rng::new(txn.draws().seed);
    let (db, space) = txn.own_database();
    let size = txn.dbsize(db);
    if size > COUNTED_KEYS_MAX
        && let Some(key) = feel_down(txn, space, &mut rng)?
        && let Some(key) = live_from(txn, &key, 0)?
    {
        return Ok(Some(key));
    }
    // Beyond the end this comes out at the last live key, so a count that is a little off does no harm.
    live_from(txn, b"", rng.below(size.clamp(1, COUNTED_KEYS_MAX)))
}

/// The live key so many steps behind the first one at or behind `from`; the last one if there are fewer.
fn live_from(txn: &mut Txn, from: &[u8], steps: u64) -> Result<Option<Vec<u8>>, Stop> {
    let mut keys = LiveKeys::open(txn, b"", from)?;
    let mut found = None;
    let mut seen = 0;
    while let Some(standing) = keys.standing(txn.now_ms()) {
        txn.charge(1, 0)?;
        match standing {
            Standing::Live(key, _) => {
                found = Some(key.to_vec());
                seen += 1;
                if seen > steps {
                    break;
                }
            }
            Standing::Expired(key) => txn.note_expired(keys.space, key),
            Standing::Damaged => return Err(meta::damaged("keyspace meta", "record").into()),
        }
        keys.iter.next()?;
    }
    Ok(found)
}

/// A random way down the tree of key prefixes: of the keys that begin alike, finds first and last, draws a byte between
/// theirs where they part, goes on with the keys that have that byte or the next there is.
fn feel_down(txn: &mut Txn, space: Space, rng: &mut Rng) -> Result<Option<Vec<u8>>, Stop> {
    let keyspace = txn.store().keyspaces().meta;
    let Some((start, end)) = meta::space_bounds(space) else { return Ok(None) };
    let mut iter = txn.iter(keyspace, Some(start.to_vec()), Some(end.to_vec()))?;
    let user_key = |key: &[u8]| key.get(meta::SPACE_BYTES..).unwrap_or_default().to_vec();
    let mut prefix = start.to_vec();
    for _ in 0..DEPTH_MAX {
        txn.charge(3, 0)?;
        iter.seek(&prefix)?;
        if !iter.valid() {
            return Ok(None);
        }
        let first = iter.key().to_vec();
        match prefix_end(&prefix) {
            Some(end) => iter.seek_before(&end)?,
            None => iter.seek_to_last()?,
        }
        if !iter.valid() || iter.key() <= first.as_slice() {
            return Ok(Some(user_key(&first)));
        }
        let last = iter.key();
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        // The first key may end where the others go on: a branch of its own, in front.
        let low = first.get(shared).map_or(0, |byte| u64::from(*byte) + 1);
        let high = last.get(shared).map_or(0, |byte| u64::from(*byte) + 1);
        let drawn = low + rng.below(high.saturating_sub(low) + 1);
        if drawn == 0 {
            return Ok(Some(user_key(&first)));
        }
        prefix.clear();
        prefix.extend_from_slice(&first[..shared]);
        prefix.push((drawn - 1) as u8);
        iter.seek(&prefix)?;
        if !iter.valid() {
            return Ok(Some(user_key(&first)));
        }
        prefix.clear();
        prefix.extend_from_slice(iter.key().get(..=shared).unwrap_or(iter.key()));
    }
    Ok(Some(user_key(&prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let none = ExpireConditions::default();
        assert!(none.allow(0, -5) && none.allow(7, 7));
        let if_none = ExpireConditions { if_none: true, ..none };
        assert!(if_none.allow(0, 1) && !if_none.allow(7, 9));
        let if_some = ExpireConditions { if_some: true, ..none };
        assert!(!if_some.allow(0, 1) && if_some.allow(7, 9));
        let if_later = ExpireConditions { if_later: true, ..none };
        assert!(!if_later.allow(0, i64::MAX) && !if_later.allow(7, 7) && if_later.allow(7, 8));
        let if_earlier = ExpireConditions { if_earlier: true, ..none };
        assert!(if_earlier.allow(0, 9) && !if_earlier.allow(7, 7) && if_earlier.allow(7, 6));
    }
}
