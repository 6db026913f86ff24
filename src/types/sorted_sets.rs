//! What the sorted set commands do.
//!
//! A small set is edited in its bytes. Of a large one the old scores of the members are read, what comes and what goes is
//! collected, and the fences are recounted once at the end. Elements that are taken out in a row (by rank, score or member, or
//! popped) are walked over; if few stay, the set is stored anew instead, and the old one goes as a whole.

use crate::base::glob;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{read_score, score_bytes};
use crate::encoding::meta::{Head, Kind, Record, damaged, split_collection_body};
use crate::encoding::packed::Items;
use crate::encoding::sorted_set::{member_of_key, place, put_member_key, put_place_key, split_place};
use crate::store::events::EventClass;
use crate::store::txn::{At, Slot, Txn};
use crate::types::elements::{Page, Wanted, positions};
use crate::types::pages::{PageWalk, Stretch};
use crate::types::sorted_set::{
    Element, MemberEnd, Resolved, SortedSet, Span, check_member, packed_elements, put_packed, resolve_large,
    steps_between, store, walk_mixed,
};
use crate::types::sorted_set_large::{Large, Steps, read_score_value};
use crate::types::sorted_set_recount::{Recount, Removed};
use haypile_lsm::base::rng::Rng;
use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};

/// So many elements in a row are looked at before it is asked whether storing anew is cheaper.
const PROBED: usize = 512;
/// The places of so many elements in a row are removed by one range delete.
const RANGE_DELETED: u64 = 4096;

// Adding.

/// What ZADD is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// Members that are there stay as they are (NX).
    pub only_new: bool,
    /// Members that are not there do not come (XX).
    pub only_present: bool,
    /// A score only grows (GT).
    pub only_greater: bool,
    /// A score only shrinks (LT).
    pub only_less: bool,
    /// The score given is added to the one that is there (INCR).
    pub increment: bool,
}

/// What ZADD did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Added {
    /// Members that came.
    pub added: u64,
    /// Members whose score changed.
    pub updated: u64,
    /// The score of the last member, unless the options kept it from being set.
    pub score: Option<f64>,
}

/// What becomes of one member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    /// The options forbid it.
    Refused,
    /// It has this score already.
    Same(f64),
    /// It gets this score.
    Set(f64),
}

impl AddOptions {
    fn decide(&self, old: Option<f64>, given: f64) -> Result<Decision, ReplyError> {
        let Some(old) = old else {
            return Ok(if self.only_present { Decision::Refused } else { Decision::Set(given) });
        };
        if self.only_new {
            return Ok(Decision::Refused);
        }
        let score = if self.increment { old + given } else { given };
        if score.is_nan() {
            return Err(ReplyError::fixed("ERR resulting score is not a number (NaN)"));
        }
        let refused = self.only_less && score >= old || self.only_greater && score <= old;
        Ok(match refused {
            true => Decision::Refused,
            false if score == old => Decision::Same(score),
            false => Decision::Set(score),
        })
    }
}

impl Added {
    /// Books a decision on a member that had this score.
    fn book(&mut self, decision: Decision, old: Option<f64>) -> Option<f64> {
        match decision {
            Decision::Refused => self.score = None,
            Decision::Same(score) => self.score = Some(score),
            Decision::Set(score) => {
                self.score = Some(score);
                match old {
                    None => self.added += 1,
                    Some(_) => self.updated += 1,
                }
                return Some(score);
            }
        }
        None
    }
}

/// The head of a slot that holds a sorted set or nothing.
fn head_of(slot: &Slot) -> Result<Option<Head>, ReplyError> {
    match slot.head() {
        Some(head) if head.kind != Kind::SortedSet => Err(ReplyError::WRONG_TYPE),
        head => Ok(head.copied()),
    }
}

/// ZADD and ZINCRBY.
pub fn add(txn: &mut Txn, at: At<'_>, options: AddOptions, elements: &[(f64, &[u8])]) -> Result<Added, Stop> {
    let slot = txn.load(at)?;
    match head_of(&slot)? {
        None if options.only_present => Ok(Added::default()),
        Some(head) if head.id != 0 => add_to_large(txn, at, &slot, head, options, elements),
        head => {
            let head = head.unwrap_or(Head::plain(Kind::SortedSet));
            add_to_packed(txn, at, slot, head, options, elements)
        }
    }
}

fn packed_damage() -> Stop {
    damaged("keyspace meta", "packed sorted set").into()
}

/// What a look through a packed body for a member finds.
struct Look {
    /// Elements in the body.
    count: usize,
    /// Where the member's element lies, and its score.
    found: Option<(Range<usize>, f64)>,
}

fn look(body: &[u8], member: &[u8]) -> Result<Look, Stop> {
    let mut look = Look { count: 0, found: None };
    let mut items = Items::new(body);
    let mut start = 0;
    while let Some(own) = items.next() {
        let score = items.next().and_then(|score| score.try_into().ok()).ok_or_else(packed_damage)?;
        let end = body.len() - items.bytes_left();
        if own == member {
            look.found = Some((start..end, read_score(score)));
        }
        look.count += 1;
        start = end;
    }
    if items.is_damaged() { Err(packed_damage()) } else { Ok(look) }
}

/// Puts an element in its place in a packed body.
fn insert(body: &mut Vec<u8>, score: f64, member: &[u8], scratch: &mut Vec<u8>) {
    let bytes = score_bytes(score);
    let mut items = Items::new(body);
    let mut at = 0;
    while let (Some(own), Some(own_score)) = (items.next(), items.next()) {
        if (own_score, own) > (&bytes[..], member) {
            break;
        }
        at = body.len() - items.bytes_left();
    }
    scratch.clear();
    put_packed(scratch, score, member);
    let old_len = body.len();
    body.resize(old_len + scratch.len(), 0);
    body.copy_within(at..old_len, at + scratch.len());
    body[at..at + scratch.len()].copy_from_slice(scratch);
}

fn add_to_packed(
    txn: &mut Txn,
    at: At<'_>,
    mut slot: Slot,
    head: Head,
    options: AddOptions,
    elements: &[(f64, &[u8])],
) -> Result<Added, Stop> {
    let limits = txn.store().packed();
    let mut added = Added::default();
    let mut body = slot.take_body();
    let mut scratch = Vec::new();
    for (index, (given, member)) in elements.iter().enumerate() {
        check_member(member)?;
        let Look { mut count, found } = look(&body, member)?;
        let old = found.as_ref().map(|(_, score)| *score);
        let Some(score) = added.book(options.decide(old, *given)?, old) else { continue };
        if let Some((range, _)) = found {
            body.drain(range);
            count -= 1;
        }
        insert(&mut body, score, member, &mut scratch);
        if !limits.allow(count + 1, body.len()) {
            let rest = elements.get(index + 1..).unwrap_or_default();
            return outgrow(txn, at, &slot, head, &body, options, rest, added);
        }
    }
    if added.added + added.updated > 0 {
        txn.put(at, &slot.before, head, &[&body])?;
    }
    txn.recycle_buffer(body);
    Ok(added)
}

/// Goes on adding to what does not stay packed.
#[expect(clippy::too_many_arguments, reason = "the second half of one function")]
fn outgrow(
    txn: &mut Txn,
    at: At<'_>,
    slot: &Slot,
    head: Head,
    body: &[u8],
    options: AddOptions,
    elements: &[(f64, &[u8])],
    mut added: Added,
) -> Result<Added, Stop> {
    txn.charge(elements.len() as u32, 0)?;
    let packed = packed_elements(body)?;
    let mut scores: HashMap<&[u8], f64> =
        packed.into_iter().map(|(score, member)| (&body[member], score)).collect();
    for (given, member) in elements {
        check_member(member)?;
        let old = scores.get(member).copied();
        if let Some(score) = added.book(options.decide(old, *given)?, old) {
            scores.insert(member, score);
        }
    }
    let mut elements: Vec<Element> =
        scores.into_iter().map(|(member, score)| Element { score, member: member.to_vec() }).collect();
    elements.sort_unstable_by(Element::order);
    store(txn, at, &slot.before, &elements, head.expire_ms)?;
    Ok(added)
}

fn add_to_large(
    txn: &mut Txn,
    at: At<'_>,
    slot: &Slot,
    head: Head,
    options: AddOptions,
    elements: &[(f64, &[u8])],
) -> Result<Added, Stop> {
    let large = Large::decode(at.space, &head, slot.body())?;
    let mut added = Added::default();
    if let [(given, member)] = elements {
        check_member(member)?;
        let old = large.score(txn, member)?;
        if let Some(new) = added.book(options.decide(old, *given)?, old) {
            let mut change = Change::new(txn, large)?;
            change.set(txn, member, old, new)?;
            change.finish(txn, at, slot, head)?;
        }
        return Ok(added);
    }
    // Of each member named, its score before the command and now.
    let mut scores: HashMap<&[u8], (Option<f64>, Option<f64>)> = HashMap::new();
    let mut order = Vec::with_capacity(elements.len());
    for (given, member) in elements {
        check_member(member)?;
        let (_, now) = match scores.get_mut(member) {
            Some(scores) => scores,
            None => {
                let old = large.score(txn, member)?;
                order.push(*member);
                scores.entry(member).or_insert((old, old))
            }
        };
        if let Some(score) = added.book(options.decide(*now, *given)?, *now) {
            *now = Some(score);
        }
    }
    let mut change = Change::new(txn, large)?;
    for member in order {
        if let Some((old, Some(new))) = scores.get(member).copied()
            && old != Some(new)
        {
            change.set(txn, member, old, new)?;
        }
    }
    change.finish(txn, at, slot, head)?;
    Ok(added)
}

/// Single elements that come and go.
struct Change {
    recount: Recount,
    large: Large,
    added: Vec<Vec<u8>>,
    removed: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Change {
    fn new(txn: &mut Txn, large: Large) -> Result<Change, Stop> {
        let recount = Recount::new(txn, large.clone())?;
        Ok(Change { recount, large, added: Vec::new(), removed: Vec::new(), key: Vec::new() })
    }

    /// A member gets a score in place of the one it had, if any.
    fn set(&mut self, txn: &mut Txn, member: &[u8], old: Option<f64>, new: f64) -> Result<(), Stop> {
        let (space, id) = (self.large.space, self.large.id);
        if let Some(old) = old {
            let old = place(old, member);
            put_place_key(&mut self.key, space, id, &old);
            txn.delete_data(&self.key)?;
            self.removed.push(old);
        }
        put_member_key(&mut self.key, space, id, member);
        txn.put_data(&self.key, &score_bytes(new))?;
        let new = place(new, member);
        put_place_key(&mut self.key, space, id, &new);
        txn.put_data(&self.key, b"")?;
        self.added.push(new);
        Ok(())
    }

    /// A member with this score goes.
    fn remove(&mut self, txn: &mut Txn, member: &[u8], score: f64) -> Result<(), Stop> {
        let (space, id) = (self.large.space, self.large.id);
        put_member_key(&mut self.key, space, id, member);
        txn.delete_data(&self.key)?;
        let place = place(score, member);
        put_place_key(&mut self.key, space, id, &place);
        txn.delete_data(&self.key)?;
        self.removed.push(place);
        Ok(())
    }

    /// Stages fences and record. The key goes if nothing is left.
    fn finish(mut self, txn: &mut Txn, at: At<'_>, slot: &Slot, head: Head) -> Result<(), Stop> {
        if self.added.is_empty() && self.removed.is_empty() {
            return Ok(());
        }
        self.added.sort_unstable();
        self.removed.sort_unstable();
        let (mut coming, mut going) = (self.added.iter().peekable(), self.removed.iter().peekable());
        loop {
            let comes = match (coming.peek(), going.peek()) {
                (Some(coming), Some(going)) => coming < going,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let (next, change) = if comes { (coming.next(), 1) } else { (going.next(), -1) };
            if let Some(place) = next {
                self.recount.note(txn, place, change)?;
            }
        }
        if self.recount.count() == 0 {
            return txn.delete(at, &slot.before);
        }
        let summary = self.recount.finish(txn, &self.added, Removed::Places(&self.removed))?;
        if summary == self.large.summary {
            // Scores changed; the record says nothing of them.
            txn.touch(at);
            return Ok(());
        }
        txn.put(at, &slot.before, head, &[&summary.encode()])
    }
}

// Removing.

/// ZREM: how many there were.
pub fn remove<'a>(
    txn: &mut Txn,
    at: At<'_>,
    members: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<u64, Stop> {
    let mut slot = txn.load(at)?;
    let Some(head) = head_of(&slot)? else { return Ok(0) };
    let mut removed = 0;
    if head.id != 0 {
        let large = Large::decode(at.space, &head, slot.body())?;
        let mut change = Change::new(txn, large)?;
        let mut seen = HashSet::new();
        let several = members.len() > 1;
        for member in members {
            if several && !seen.insert(member) {
                continue;
            }
            if let Some(score) = change.large.score(txn, member)? {
                change.remove(txn, member, score)?;
                removed += 1;
            }
        }
        change.finish(txn, at, &slot, head)?;
        return Ok(removed);
    }
    let mut body = slot.take_body();
    for member in members {
        if let Some((range, _)) = look(&body, member)?.found {
            body.drain(range);
            removed += 1;
        }
    }
    if body.is_empty() {
        txn.delete(at, &slot.before)?;
    } else if removed > 0 {
        txn.put(at, &slot.before, head, &[&body])?;
    }
    txn.recycle_buffer(body);
    Ok(removed)
}

/// ZREMRANGEBYRANK, ..BYSCORE and ..BYLEX: how many there were. `span` is made when the number of elements is known.
pub fn remove_span<'a>(txn: &mut Txn, at: At<'_>, span: impl FnOnce(u64) -> Span<'a>) -> Result<u64, Stop> {
    let mut slot = txn.load(at)?;
    let Some(head) = head_of(&slot)? else { return Ok(0) };
    let Some(set) = SortedSet::of_slot(&mut slot, at.space)? else { return Ok(0) };
    let span = span(set.count());
    take(txn, at, &slot, head, set, &span, false, None)
}

/// Which end of a sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The lowest score.
    Lowest,
    /// The highest score.
    Highest,
}

/// Takes up to so many elements from an end. `None` if there is no such key.
pub fn pop(txn: &mut Txn, at: At<'_>, end: End, count: u64) -> Result<Option<Vec<Element>>, Stop> {
    let mut slot = txn.load(at)?;
    let Some(head) = head_of(&slot)? else { return Ok(None) };
    if count == 0 {
        return Ok(Some(Vec::new()));
    }
    let Some(set) = SortedSet::of_slot(&mut slot, at.space)? else { return Ok(None) };
    let total = set.count();
    let count = count.min(total);
    let (ranks, reverse) = match end {
        End::Lowest => (0..count, false),
        End::Highest => (total - count..total, true),
    };
    let mut popped = Vec::new();
    take(txn, at, &slot, head, set, &Span::Ranks(ranks), reverse, Some(&mut popped))?;
    let event = if end == End::Lowest { "zpopmin" } else { "zpopmax" };
    txn.event_and_del(EventClass::SORTED_SET, event, at);
    Ok(Some(popped))
}

/// Takes from the first of several keys that is there: which one, and the elements.
pub fn pop_first<'a>(
    txn: &mut Txn,
    keys: impl Iterator<Item = &'a [u8]>,
    end: End,
    count: u64,
) -> Result<Option<(&'a [u8], Vec<Element>)>, Stop> {
    for key in keys {
        let at = txn.at(key)?;
        if let Some(elements) = pop(txn, at, end, count)? {
            return Ok(Some((key, elements)));
        }
    }
    Ok(None)
}

/// Takes the elements of a span out, into `out` if they are wanted; how many they were.
#[expect(clippy::too_many_arguments, reason = "a key as it was read, and what to take from it")]
fn take(
    txn: &mut Txn,
    at: At<'_>,
    slot: &Slot,
    head: Head,
    set: SortedSet,
    span: &Span<'_>,
    reverse: bool,
    out: Option<&mut Vec<Element>>,
) -> Result<u64, Stop> {
    let packed = match set {
        SortedSet::Large(large) => return take_large(txn, at, slot, head, large, span, reverse, out),
        SortedSet::Packed(packed) => packed,
    };
    let range = packed.resolve(span, false);
    if range.is_empty() {
        return Ok(0);
    }
    if let Some(out) = out {
        out.extend(range.clone().filter_map(|at| packed.get(at)).map(owned));
        if reverse {
            out.reverse();
        }
    }
    if range.len() == packed.len() {
        txn.delete(at, &slot.before)?;
    } else {
        let mut body = Vec::new();
        for (_, (score, member)) in packed.iter().enumerate().filter(|(at, _)| !range.contains(at)) {
            put_packed(&mut body, score, member);
        }
        txn.put(at, &slot.before, head, &[&body])?;
    }
    txn.recycle_buffer(packed.into_body());
    Ok(range.len() as u64)
}

fn owned((score, member): (f64, &[u8])) -> Element {
    Element { score, member: member.to_vec() }
}

/// Elements in a row, to be taken out.
enum Row {
    /// They are known.
    Known(std::vec::IntoIter<Vec<u8>>),
    /// They are read, and how many there are at most.
    Read(Box<Steps>, u64),
}

impl Row {
    fn of(txn: &mut Txn, large: &Large, resolved: &Resolved<'_>, reverse: bool) -> Result<Row, Stop> {
        Ok(match resolved {
            Resolved::Ranks(ranks) => match Row::at_end(txn, large, ranks, reverse)? {
                Some(row) => row,
                None => {
                    let from = if reverse { ranks.end - 1 } else { ranks.start };
                    Row::Read(Box::new(large.at_rank(txn, from, None, None)?), ranks.end - ranks.start)
                }
            },
            Resolved::Places(from, to) => {
                Row::Read(Box::new(steps_between(txn, large, from, to, reverse, 0)?), u64::MAX)
            }
            Resolved::Mixed(..) => return Err(damaged("keyspace data", "row of a sorted set").into()),
        })
    }

    /// A row near an end.
    fn at_end(txn: &mut Txn, large: &Large, ranks: &Range<u64>, reverse: bool) -> Result<Option<Row>, Stop> {
        let count = large.summary.count;
        let behind = count.saturating_sub(ranks.end);
        let is_highest = behind < ranks.start;
        let (outer, inner) = match is_highest {
            false => (ranks.start, ranks.end),
            true => (behind, count.saturating_sub(ranks.start)),
        };
        let Some(mut places) =
            large.outermost(txn, is_highest, usize::try_from(inner).unwrap_or(usize::MAX))?
        else {
            return Ok(None);
        };
        places.drain(..(outer as usize).min(places.len()));
        if is_highest != reverse {
            places.reverse();
        }
        Ok(Some(Row::Known(places.into_iter())))
    }

    /// The next place, put in `place`; whether there was one.
    fn next(&mut self, txn: &mut Txn, place: &mut Vec<u8>, reverse: bool) -> Result<bool, Stop> {
        match self {
            Row::Known(places) => {
                let next = places.next();
                let is_there = next.is_some();
                *place = next.unwrap_or_default();
                Ok(is_there)
            }
            Row::Read(steps, left) => {
                let Some(next) = steps.place().filter(|_| *left > 0) else { return Ok(false) };
                place.clear();
                place.extend_from_slice(next);
                *left -= 1;
                if *left > 0 {
                    steps.step(txn, reverse)?;
                }
                Ok(true)
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a key as it was read, and what to take from it")]
fn take_large(
    txn: &mut Txn,
    at: At<'_>,
    slot: &Slot,
    head: Head,
    large: Large,
    span: &Span<'_>,
    reverse: bool,
    mut out: Option<&mut Vec<Element>>,
) -> Result<u64, Stop> {
    let mut resolved = resolve_large(&large, span);
    if let Resolved::Mixed(low, high) = resolved {
        resolved = Resolved::Ranks(mixed_ranks(txn, &large, &low, &high)?);
    }
    if matches!(&resolved, Resolved::Ranks(ranks) if ranks.is_empty()) {
        return Ok(0);
    }
    let mut row = Row::of(txn, &large, &resolved, reverse)?;
    let mut places = Vec::new();
    let mut next = Vec::new();
    let mut more = row.next(txn, &mut next, reverse)?;
    while more && places.len() < PROBED {
        places.push(std::mem::take(&mut next));
        more = row.next(txn, &mut next, reverse)?;
    }
    if places.is_empty() {
        return Ok(0);
    }
    let mut going = places.len() as u64;
    if more {
        let ranks = match &resolved {
            Resolved::Places(from, to) => large.count_before(txn, from)?..large.count_before(txn, to)?,
            Resolved::Ranks(ranks) => ranks.clone(),
            Resolved::Mixed(..) => 0..0,
        };
        going = ranks.end.saturating_sub(ranks.start);
        let staying = large.summary.count.saturating_sub(going);
        if staying.saturating_mul(4) <= going {
            let set = SortedSet::Large(large);
            if let Some(out) = out {
                *out = set.collect(txn, &Span::Ranks(ranks.clone()), reverse, 0, u64::MAX)?;
            }
            let mut kept = set.collect(txn, &Span::Ranks(0..ranks.start), false, 0, u64::MAX)?;
            kept.extend(set.collect(txn, &Span::Ranks(ranks.end..u64::MAX), false, 0, u64::MAX)?);
            store(txn, at, &slot.before, &kept, head.expire_ms)?;
            return Ok(going);
        }
    } else if going == large.summary.count {
        if let Some(out) = out {
            out.extend(places.iter().filter_map(|place| split_place(place)).map(owned));
        }
        txn.delete(at, &slot.before)?;
        return Ok(places.len() as u64);
    }
    // One by one: those that were looked at, then the rest.
    let (space, id) = (large.space, large.id);
    let mut recount = Recount::new(txn, large)?;
    let mut key = Vec::new();
    let mut taken = 0;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut looked_at = places.into_iter();
    let whole_range = going >= RANGE_DELETED;
    let mut current = Vec::new();
    loop {
        match looked_at.next() {
            Some(place) => current = place,
            None if more => {
                std::mem::swap(&mut current, &mut next);
                more = row.next(txn, &mut next, reverse)?;
            }
            None => break,
        }
        let (score, member) =
            split_place(&current).ok_or_else(|| damaged("keyspace data", "place of a sorted set"))?;
        put_member_key(&mut key, space, id, member);
        txn.delete_data(&key)?;
        if !whole_range {
            put_place_key(&mut key, space, id, &current);
            txn.delete_data(&key)?;
        }
        if let Some(out) = &mut out {
            out.push(owned((score, member)));
        }
        recount.note(txn, &current, -1)?;
        if taken == 0 {
            first.clone_from(&current);
        }
        last.clone_from(&current);
        taken += 1;
    }
    if reverse {
        std::mem::swap(&mut first, &mut last);
    }
    if whole_range {
        let mut end = Vec::new();
        put_place_key(&mut key, space, id, &first);
        put_place_key(&mut end, space, id, &last);
        end.push(0);
        txn.delete_data_range(&key, &end)?;
    }
    if recount.count() == 0 {
        txn.delete(at, &slot.before)?;
    } else {
        let summary = recount.finish(txn, &[], Removed::Between(&first, &last))?;
        txn.put(at, &slot.before, head, &[&summary.encode()])?;
    }
    Ok(taken)
}

/// The numbers of the elements of a range of members in a set with different scores.
fn mixed_ranks(
    txn: &mut Txn,
    large: &Large,
    low: &MemberEnd<'_>,
    high: &MemberEnd<'_>,
) -> Result<Range<u64>, Stop> {
    let (mut first, mut count) = (None, 0);
    walk_mixed(txn, large, low, high, false, 0, |member, score| {
        first.get_or_insert_with(|| place(score, member));
        count += 1;
        ControlFlow::Continue(())
    })?;
    let start = match first {
        None => 0,
        Some(first) => large.count_before(txn, &first)?,
    };
    Ok(start..start + count)
}

// Reading.

/// ZCARD: how many elements; 0 if there is no such key.
pub fn count(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    txn.view(at, |record| match record {
        None => Ok(0),
        Some(Record { head, .. }) if head.kind != Kind::SortedSet => Err(ReplyError::WRONG_TYPE.into()),
        Some(Record { head, body }) if head.id == 0 => Ok(look(body, &[])?.count as u64),
        Some(Record { body, .. }) => match split_collection_body(body) {
            Some((count, _)) => Ok(count),
            None => Err(damaged("keyspace meta", "summary of a sorted set").into()),
        },
    })?
}

/// ZSCORE: the score of a member. Of a small set it is read where it lies.
pub fn score(txn: &mut Txn, at: At<'_>, member: &[u8]) -> Result<Option<f64>, Stop> {
    let packed = txn.view(at, |record| match record {
        None => Ok(Some(None)),
        Some(Record { head, .. }) if head.kind != Kind::SortedSet => Err(ReplyError::WRONG_TYPE.into()),
        Some(Record { head, body }) if head.id == 0 => {
            Ok::<_, Stop>(Some(look(body, member)?.found.map(|(_, score)| score)))
        }
        Some(_) => Ok(None),
    })??;
    if let Some(score) = packed {
        return Ok(score);
    }
    match SortedSet::open(txn, at)? {
        None => Ok(None),
        Some(set) => set.score(txn, member),
    }
}

// Drawing.

/// The elements with these numbers, which are sorted.
fn elements_at(txn: &mut Txn, set: &SortedSet, ranks: &[u64]) -> Result<Vec<Element>, Stop> {
    let large = match set {
        SortedSet::Packed(packed) => {
            return Ok(ranks.iter().filter_map(|rank| packed.get(*rank as usize)).map(owned).collect());
        }
        SortedSet::Large(large) => large,
    };
    /// A next one this close is walked to.
    const NEAR: u64 = 64;
    let mut elements = Vec::with_capacity(ranks.len());
    let mut standing: Option<(u64, Steps)> = None;
    for &rank in ranks {
        let steps = match standing.take() {
            Some((from, mut steps)) if rank - from <= NEAR => {
                steps.skip(txn, rank - from, false)?;
                steps
            }
            _ => large.at_rank(txn, rank, None, None)?,
        };
        let element = steps.element()?.map(owned);
        elements.push(element.ok_or_else(|| damaged("keyspace data", "count of a sorted set"))?);
        standing = Some((rank, steps));
    }
    Ok(elements)
}

/// ZRANDMEMBER: random elements of a set that has some.
pub fn random(txn: &mut Txn, set: &SortedSet, wanted: Wanted) -> Result<Vec<Element>, Stop> {
    txn.charge(wanted.of(set.count()).min(u64::from(u32::MAX)) as u32, 0)?;
    let drawn = positions(&mut Rng::new(txn.draws().seed), set.count(), wanted);
    if wanted.distinct {
        return elements_at(txn, set, &drawn);
    }
    let mut ranks = drawn.clone();
    ranks.sort_unstable();
    ranks.dedup();
    let elements = elements_at(txn, set, &ranks)?;
    let at = |rank: &u64| ranks.binary_search(rank).ok().and_then(|at| elements.get(at)).cloned();
    Ok(drawn.iter().filter_map(at).collect())
}

// Scanning.

/// ZSCAN: hands matching members and their scores to `f`; the cursor to go on with, 0 at the end. A small set is walked at once.
pub fn scan(
    txn: &mut Txn,
    set: &SortedSet,
    page: Page<'_>,
    mut f: impl FnMut(&[u8], f64),
) -> Result<u64, Stop> {
    let large = match set {
        SortedSet::Packed(packed) => {
            packed
                .iter()
                .filter(|(_, member)| page.names(member))
                .for_each(|(score, member)| f(member, score));
            return Ok(0);
        }
        SortedSet::Large(large) => large,
    };
    let mut prefix = Vec::new();
    put_member_key(&mut prefix, large.space, large.id, b"");
    let literal = page.pattern.map(glob::literal_prefix).unwrap_or_default();
    let keyspace = txn.store().keyspaces().data;
    let stretch =
        Stretch { keyspace, prefix: &prefix, literal: &literal, cursor: page.cursor, count: page.count };
    let mut walk = PageWalk::open(txn, stretch)?;
    while let Some((key, value)) = walk.record() {
        txn.charge(1, key.len() as u64)?;
        let member = member_of_key(key).unwrap_or_default();
        if page.names(member) {
            f(member, read_score_value(value)?);
        }
        walk.step()?;
    }
    Ok(walk.finish(txn))
}
