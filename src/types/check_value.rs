//! Whether a value is what its record says: every element reads, counts are right, and indexes agree. For `check.rs`.
//!
//! Everything is read once, in the order it lies in, and nothing is kept but sums, so that a collection of any size takes the same
//! memory. Two indexes agree if they hold the same elements; each side adds the 128-bit hashes of its own into a sum, and the sums are
//! compared. What a sum cannot say is which element is missing.

use crate::base::number::parse_i64;
use crate::encoding::data::{
    ELEMENT, ENTRY, FIELD, FIELD_TTL, GROUP, MEMBER, PREFIX_BYTES, SEGMENT_BYTES, ZSET_FENCE, ZSET_MEMBER,
    ZSET_SCORE, is_owner, prefix, put_element_prefix, read_score,
};
use crate::encoding::hash::{self, Fields};
use crate::encoding::large::Large;
use crate::encoding::list::{Layout, STRIDE};
use crate::encoding::meta::{Head, Kind, Record, Space, external_size};
use crate::encoding::packed::Items;
use crate::encoding::set::{self, Members};
use crate::encoding::sorted_set::{self, SCORE_BYTES, Summary, read_fence, split_place};
use crate::encoding::stream::{self, Consumer, Group, Pending, StreamId, StreamMeta};
use crate::store::limits::STRING_BYTES_MAX;
use haypile_lsm::base::coding::Cursor;
use haypile_lsm::{Db, Error, Iter, IterOptions, KeyspaceId, ReadOptions, prefix_end};
use std::collections::{BTreeMap, HashSet};
use xxhash_rust::xxh3::xxh3_128;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

impl From<Error> for Wrong {
    fn from(error: Error) -> Wrong {
        Wrong(error.to_string())
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Wrong {
        Wrong(what.to_owned())
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Wrong {
        Wrong(what)
    }
}

/// Nothing, or what is wrong.
pub type Verdict = Result<(), Wrong>;

fn ensure(holds: bool, what: &str) -> Verdict {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn ensure_count(what: &str, said: u64, found: u64) -> Verdict {
    if said == found {
        Ok(())
    } else {
        Err(format!("{what}: the record says {said}, there are {found}").into())
    }
}

/// Reads the way a check does: around the cache.
pub fn reading() -> ReadOptions {
    ReadOptions { no_fill_cache: true, ..ReadOptions::default() }
}

/// An iterator within bounds, on the first record.
pub fn first(db: &Db, keyspace: KeyspaceId, lower: Vec<u8>, upper: Option<Vec<u8>>) -> Result<Iter, Error> {
    let mut iter = db.iter(keyspace, IterOptions { lower: Some(lower), upper, read: reading() })?;
    iter.seek_to_first()?;
    Ok(iter)
}

/// Elements, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    hashes: u128,
    count: u64,
}

impl Sum {
    fn add(&mut self, element: &[u8]) {
        self.hashes = self.hashes.wrapping_add(xxh3_128(element));
        self.count += 1;
    }
}

/// Where a value is.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// The engine.
    pub db: &'a Db,
    /// Keyspace `data`.
    pub data: KeyspaceId,
    /// Its space.
    pub space: Space,
    /// Its key.
    pub key: &'a [u8],
}

impl Value<'_> {
    /// Checks the value of a record.
    pub fn check(&self, record: &Record<'_>) -> Verdict {
        let Record { head, body } = record;
        match (head.kind, head.id) {
            // Its body is gone, and with it what could be compared.
            _ if head.husk => Ok(()),
            (Kind::String, 0) => Ok(()),
            (Kind::String, _) => self.check_string(head, body),
            (Kind::List, 0) => check_packed_list(body),
            (Kind::List, _) => self.check_list(head, body),
            (Kind::Set, 0) => check_packed_set(head, body),
            (Kind::Set, _) => self.check_set(head, body),
            (Kind::SortedSet, 0) => check_packed_sorted_set(body),
            (Kind::SortedSet, _) => self.check_sorted_set(head, body),
            (Kind::Hash, 0) => check_packed_hash(head, body),
            (Kind::Hash, _) => self.check_hash(head, body),
            (Kind::Stream, 0) => Err("a stream without an id".into()),
            (Kind::Stream, _) => self.check_stream(head, body),
        }
    }

    /// Hands everything under an id to `f`: kind, what stands behind it in the key, value. Sees to the owner itself.
    fn elements(&self, id: u64, mut f: impl FnMut(u8, &[u8], &[u8]) -> Verdict) -> Verdict {
        let prefix = prefix(self.space, id);
        let mut iter = first(self.db, self.data, prefix.to_vec(), prefix_end(&prefix))?;
        ensure(iter.valid() && is_owner(iter.key()), "its id has no owner")?;
        ensure(iter.value() == self.key, "its id belongs to another key")?;
        iter.next()?;
        while iter.valid() {
            let (&kind, element) = iter
                .key()
                .get(PREFIX_BYTES..)
                .and_then(<[u8]>::split_first)
                .ok_or("a record without a kind under its id")?;
            f(kind, element, iter.value())?;
            iter.next()?;
        }
        Ok(())
    }

    fn check_string(&self, head: &Head, body: &[u8]) -> Verdict {
        let size = external_size(body)
            .filter(|size| *size <= STRING_BYTES_MAX)
            .ok_or("the length of a string does not read")?;
        self.elements(head.id, |kind, element, value| {
            let index = <[u8; 4]>::try_from(element).map(u32::from_be_bytes);
            let (1, Ok(index)) = (kind, index) else { return Err(foreign(kind)) };
            ensure(value.len() <= SEGMENT_BYTES, "a segment that is too long")?;
            let end = u64::from(index) * SEGMENT_BYTES as u64 + value.len() as u64;
            ensure(end <= size, "a segment behind the end of a string")
        })
    }

    fn check_list(&self, head: &Head, body: &[u8]) -> Verdict {
        let layout = Layout::read(body).ok_or("the layout of a list does not read")?;
        let (mut count, mut ends) = (0, None);
        self.elements(head.id, |kind, element, _| {
            let position = <[u8; 8]>::try_from(element).map(u64::from_be_bytes);
            let (ELEMENT, Ok(position)) = (kind, position) else { return Err(foreign(kind)) };
            count += 1;
            if let Some((_, before)) = ends {
                let even = !layout.is_even_between(before, position) || position - before == STRIDE;
                ensure(even, "an element of a list that is out of place")?;
            }
            ends = Some((ends.map_or(position, |(first, _)| first), position));
            Ok(())
        })?;
        ensure_count("elements", layout.count, count)?;
        ensure(ends == Some((layout.first, layout.last)), "the ends of a list are not where its record says")
    }

    fn check_set(&self, head: &Head, body: &[u8]) -> Verdict {
        let large = Large::decode(body)?;
        let (mut count, mut again) = (0, Vec::new());
        self.elements(head.id, |kind, element, value| {
            ensure(kind == MEMBER && value.is_empty(), "a record under a set's id that is no member")?;
            let member = element.get(set::HASH_BYTES..).ok_or("a member of a set without its hash")?;
            again.clear();
            set::put_hashed(&mut again, member);
            ensure(again == element, "a member of a set that stands under another's hash")?;
            check_longest(&large, member)?;
            ensure(
                large.mixed || parse_i64(member).is_some(),
                "a set of integers with a member that is none",
            )?;
            count += 1;
            Ok(())
        })?;
        ensure_count("members", large.count, count)?;
        ensure(count > 0, "an empty set")
    }

    fn check_hash(&self, head: &Head, body: &[u8]) -> Verdict {
        let large = Large::decode(body)?;
        let (mut count, mut expiring, mut index) = (0, Sum::default(), Sum::default());
        let mut entry = Vec::new();
        self.elements(head.id, |kind, element, value| match kind {
            FIELD => {
                count += 1;
                let (expire_ms, value) = hash::split_value(value)?;
                check_longest(&large, element)?;
                check_longest(&large, value)?;
                if expire_ms != 0 {
                    check_field_bound(head, expire_ms)?;
                    entry.clear();
                    entry.extend_from_slice(&expire_ms.to_be_bytes());
                    entry.extend_from_slice(element);
                    expiring.add(&entry);
                }
                Ok(())
            }
            FIELD_TTL => {
                index.add(element);
                ensure(value.is_empty(), "an entry with a value in the index of fields by expiry")
            }
            kind => Err(foreign(kind)),
        })?;
        ensure_count("fields", large.count, count)?;
        ensure(count > 0, "an empty hash")?;
        ensure(expiring == index, "the expiries of fields and their index differ")
    }

    fn check_sorted_set(&self, head: &Head, body: &[u8]) -> Verdict {
        let summary = Summary::decode(body).ok_or("the record of a sorted set does not read")?;
        let mut fences = Fences::open(self, head.id, summary.head)?;
        let (mut members, mut places) = (Sum::default(), Sum::default());
        let mut ends: Option<(Vec<u8>, Vec<u8>)> = None;
        self.elements(head.id, |kind, element, value| match kind {
            ZSET_MEMBER => {
                let score = <[u8; SCORE_BYTES]>::try_from(value).map(read_score);
                let score = score.ok().filter(|score| !score.is_nan()).ok_or("a score that is no number")?;
                ensure(element.len() as u64 <= summary.longest, "a member longer than the longest")?;
                members.add(&sorted_set::place(score, element));
                Ok(())
            }
            ZSET_SCORE => {
                let (score, _) = split_place(element).ok_or("a place of a sorted set that does not read")?;
                ensure(!score.is_nan() && value.is_empty(), "a place of a sorted set that does not read")?;
                places.add(element);
                let edge = sorted_set::edge(element).to_vec();
                ends = Some((ends.take().map_or_else(|| edge.clone(), |(first, _)| first), edge));
                fences.pass(element)
            }
            // Read beside the places.
            ZSET_FENCE => Ok(()),
            kind => Err(foreign(kind)),
        })?;
        ensure_count("members", summary.count, members.count)?;
        ensure_count("places", summary.count, places.count)?;
        ensure(members == places, "the members of a sorted set and their places differ")?;
        ensure(ends == Some((summary.first, summary.last)), "the edges of a sorted set are not its ends")?;
        fences.end()
    }

    fn check_stream(&self, head: &Head, body: &[u8]) -> Verdict {
        let meta = StreamMeta::decode(body).ok_or("the record of a stream does not read")?;
        let (mut count, mut ends) = (0, (StreamId::MIN, StreamId::MIN));
        let mut groups = Groups::default();
        self.elements(head.id, |kind, element, value| match kind {
            ENTRY => {
                let id = <[u8; 16]>::try_from(element).map(StreamId::from_bytes);
                let id = id.map_err(|_| "an entry of a stream without an id")?;
                count += 1;
                ends = (if count == 1 { id } else { ends.0 }, id);
                let mut fields =
                    stream::Fields::new(value).ok_or("an entry of a stream that does not read")?;
                let even = fields.left() > 0 && fields.left().is_multiple_of(2);
                while fields.next_item().is_some() {}
                ensure(even && fields.left() == 0, "an entry of a stream that does not read")
            }
            GROUP => groups.take(element, value),
            kind => Err(foreign(kind)),
        })?;
        ensure_count("entries", meta.length, count)?;
        ensure(ends.0 == meta.first_id, "the first entry of a stream is not the one its record names")?;
        ensure(ends.1 <= meta.last_id, "an entry behind a stream's last id")?;
        groups.check(&meta)
    }
}

fn foreign(kind: u8) -> Wrong {
    Wrong(format!("a record of kind {kind} under an id where none belongs"))
}

fn check_longest(large: &Large, part: &[u8]) -> Verdict {
    ensure(part.len() as u64 <= large.longest_bytes, "an element longer than the longest")
}

/// A hash's own time may be early, never late.
fn check_field_bound(head: &Head, expire_ms: u64) -> Verdict {
    let told = head.field_expire_ms != 0 && head.field_expire_ms <= expire_ms;
    ensure(told, "a field expires before its hash says that any does")
}

fn check_packed_list(body: &[u8]) -> Verdict {
    let mut items = Items::new(body);
    let count = items.by_ref().count();
    ensure(!items.is_damaged(), "a packed list that does not read")?;
    ensure(count > 0, "an empty list")
}

fn check_packed_set(head: &Head, body: &[u8]) -> Verdict {
    let (mut members, mut before) = (Members::new(body), None);
    while let Some((member, _)) = members.next_member()? {
        ensure(before.is_none_or(|before| before < member), "a packed set that is not in order")?;
        ensure(head.raw || parse_i64(member).is_some(), "a set of integers with a member that is none")?;
        before = Some(member);
    }
    ensure(before.is_some(), "an empty set")
}

fn check_packed_hash(head: &Head, body: &[u8]) -> Verdict {
    let (mut fields, mut names) = (Fields::new(body), HashSet::new());
    while let Some(field) = fields.next_field()? {
        ensure(names.insert(field.name), "a packed hash with a field twice")?;
        if field.expire_ms != 0 {
            check_field_bound(head, field.expire_ms)?;
        }
    }
    ensure(!names.is_empty(), "an empty hash")
}

fn check_packed_sorted_set(body: &[u8]) -> Verdict {
    let (mut items, mut names) = (Items::new(body), HashSet::new());
    let mut before: Option<Vec<u8>> = None;
    while let Some(member) = items.next() {
        let score = items.next().and_then(|score| <[u8; SCORE_BYTES]>::try_from(score).ok()).map(read_score);
        let score = score.filter(|score| !score.is_nan()).ok_or("a score that is no number")?;
        let place = sorted_set::place(score, member);
        ensure(before.is_none_or(|before| before < place), "a packed sorted set that is not in order")?;
        ensure(names.insert(member), "a packed sorted set with a member twice")?;
        before = Some(place);
    }
    ensure(!items.is_damaged(), "a packed sorted set that does not read")?;
    ensure(!names.is_empty(), "an empty sorted set")
}

/// The fences of a sorted set, passed by together with the places they stand between.
struct Fences {
    iter: Iter,
    /// Bytes of a key in front of the place.
    prefix: usize,
    /// What the segment under way should count, and what it does.
    said: u64,
    found: u64,
}

impl Fences {
    fn open(value: &Value<'_>, id: u64, head: u64) -> Result<Fences, Wrong> {
        let mut lower = Vec::new();
        put_element_prefix(&mut lower, value.space, id, ZSET_FENCE);
        let (prefix, upper) = (lower.len(), prefix_end(&lower));
        let iter = first(value.db, value.data, lower, upper)?;
        Ok(Fences { iter, prefix, said: head, found: 0 })
    }

    /// Goes on to a place.
    fn pass(&mut self, place: &[u8]) -> Verdict {
        while self.iter.valid() && self.iter.key().get(self.prefix..).is_some_and(|fence| fence <= place) {
            self.end_segment()?;
            self.said = read_fence(self.iter.value()).ok_or("a fence that does not read")?;
            self.iter.next()?;
        }
        self.found += 1;
        Ok(())
    }

    fn end_segment(&mut self) -> Verdict {
        ensure_count("elements between two fences", self.said, self.found)?;
        ensure(self.found > 0, "two fences without an element between them")?;
        self.found = 0;
        Ok(())
    }

    fn end(mut self) -> Verdict {
        ensure(!self.iter.valid(), "a fence behind the last element")?;
        self.end_segment()
    }
}

/// A consumer, and what was found that is pending for it.
#[derive(Default)]
struct SeenConsumer {
    consumer: Consumer,
    named: bool,
    pending: u64,
}

#[derive(Default)]
struct SeenGroup {
    group: Group,
    consumers: BTreeMap<u32, SeenConsumer>,
    pending: Sum,
    owned: Sum,
}

/// The groups of a stream, by number.
#[derive(Default)]
struct Groups(BTreeMap<u32, SeenGroup>);

impl Groups {
    /// Takes a record. Those of the groups themselves come first, each group's consumers before what is pending.
    fn take(&mut self, element: &[u8], value: &[u8]) -> Verdict {
        const UNREAD: &str = "a record of a consumer group that does not read";
        const NOBODYS: &str = "a record of a consumer group or consumer that is not there";
        let (number, rest) = element.split_first_chunk::<4>().ok_or(UNREAD)?;
        let number = u32::from_be_bytes(*number);
        if number == 0 {
            let group = Group::decode(value).ok_or(UNREAD)?;
            let seen = SeenGroup { group, ..SeenGroup::default() };
            return ensure(self.0.insert(group.number, seen).is_none(), "two consumer groups of one number");
        }
        let seen = self.0.get_mut(&number).ok_or(NOBODYS)?;
        let (part, rest) = rest.split_first().ok_or(UNREAD)?;
        match part {
            1 => {
                let number = <[u8; 4]>::try_from(rest).map(u32::from_be_bytes).map_err(|_| UNREAD)?;
                let consumer = Consumer::decode(value).ok_or(UNREAD)?;
                seen.consumers.insert(number, SeenConsumer { consumer, ..SeenConsumer::default() });
                Ok(())
            }
            2 => {
                let number = Cursor::new(value).varint_u32().ok_or(UNREAD)?;
                let consumer = seen.consumers.get_mut(&number).ok_or(NOBODYS)?;
                consumer.named = true;
                ensure(consumer.consumer.name == rest, "a consumer with two names")
            }
            3 => {
                let id = <[u8; 16]>::try_from(rest).map(StreamId::from_bytes).map_err(|_| UNREAD)?;
                let pending = Pending::decode(value).ok_or(UNREAD)?;
                ensure(
                    id <= seen.group.max_pending_id,
                    "something is pending above the greatest id that ever was",
                )?;
                seen.consumers.get_mut(&pending.consumer).ok_or(NOBODYS)?.pending += 1;
                seen.pending.add(&[&pending.consumer.to_be_bytes()[..], rest].concat());
                Ok(())
            }
            4 => {
                ensure(rest.len() == 20 && value.is_empty(), UNREAD)?;
                seen.owned.add(rest);
                Ok(())
            }
            _ => Err(UNREAD.into()),
        }
    }

    fn check(&self, meta: &StreamMeta) -> Verdict {
        ensure_count("consumer groups", meta.groups, self.0.len() as u64)?;
        for (number, seen) in &self.0 {
            let group = &seen.group;
            ensure(*number <= meta.groups_numbered, "a consumer group with a number not given out")?;
            ensure_count("consumers", group.consumers, seen.consumers.len() as u64)?;
            ensure_count("pending entries", group.pending, seen.pending.count)?;
            ensure(seen.pending == seen.owned, "pending entries and those of the consumers differ")?;
            for (number, consumer) in &seen.consumers {
                ensure(*number <= group.consumers_numbered, "a consumer with a number not given out")?;
                ensure(consumer.named, "a consumer without a name")?;
                ensure_count("pending entries of a consumer", consumer.consumer.pending, consumer.pending)?;
            }
        }
        Ok(())
    }
}
