//! A sorted set as it is stored, read: packed in its record, or large (`sorted_set_large.rs`); and stored anew.
//!
//! [`SortedSet`] answers the same on both sides: scores, ranks, and walks over a [`Span`] of its elements in either direction.
//! Which elements a span by members means is settled as Redis does for sets whose scores are not all equal: from the first one in
//! the range on, up to the first one that is not.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{PREFIX_BYTES, read_score, score_bytes};
use crate::encoding::meta::{Head, Kind, Record, Space, damaged};
use crate::encoding::packed::{Items, put_item};
use crate::encoding::sorted_set::{
    SCORE_BYTES, Summary, edge, place, put_fence_key, put_member_key, put_place_key,
};
use crate::store::limits::MEMBER_BYTES_MAX;
use crate::store::txn::{At, Before, Slot, Txn};
use crate::types::elements::CompactSizes;
use crate::types::sorted_set_large::{Large, Steps};
use crate::types::sorted_set_recount::Fences;
use haypile_lsm::base::coding::{put_varint, varint_len};
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

/// An element that is not borrowed. Sorted by score, then member.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// Its score.
    pub score: f64,
    /// Its member.
    pub member: Vec<u8>,
}

impl Element {
    /// The order of sorted sets.
    pub fn order(&self, other: &Element) -> Ordering {
        order((self.score, &self.member), (other.score, &other.member))
    }
}

fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    // There is no NaN, and -0 equals 0.
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then_with(|| a.1.cmp(b.1))
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreEnd {
    /// The score.
    pub score: f64,
    /// The score itself is outside.
    pub exclusive: bool,
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberEnd<'a> {
    /// Before all.
    Lowest,
    /// Behind all.
    Highest,
    /// This one is inside.
    Inclusive(&'a [u8]),
    /// This one is outside.
    Exclusive(&'a [u8]),
}

/// Some elements that stand in a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Span<'a> {
    /// By number, counted from the low end.
    Ranks(Range<u64>),
    /// By score.
    Scores(ScoreEnd, ScoreEnd),
    /// By member, from the first to the second.
    Members(MemberEnd<'a>, MemberEnd<'a>),
}

impl<'a> MemberEnd<'a> {
    /// Where it stands among members; lowest and highest beyond all.
    fn rank(&self) -> (u8, &'a [u8]) {
        match *self {
            MemberEnd::Lowest => (0, &[]),
            MemberEnd::Inclusive(member) | MemberEnd::Exclusive(member) => (1, member),
            MemberEnd::Highest => (2, &[]),
        }
    }

    fn is_inclusive(&self) -> bool {
        matches!(self, MemberEnd::Inclusive(_))
    }

    /// As the low end: whether it lets a member in.
    fn lets_in_from(&self, member: &[u8]) -> bool {
        match *self {
            MemberEnd::Lowest => true,
            MemberEnd::Highest => false,
            MemberEnd::Inclusive(low) => member >= low,
            MemberEnd::Exclusive(low) => member > low,
        }
    }

    /// As the high end: whether it lets a member in.
    fn lets_in_to(&self, member: &[u8]) -> bool {
        match *self {
            MemberEnd::Lowest => false,
            MemberEnd::Highest => true,
            MemberEnd::Inclusive(high) => member <= high,
            MemberEnd::Exclusive(high) => member < high,
        }
    }
}

/// The places of a range of scores: from the first up to but without the second.
fn places_of_scores(low: &ScoreEnd, high: &ScoreEnd) -> ([u8; SCORE_BYTES], [u8; SCORE_BYTES]) {
    let behind = |bytes: [u8; SCORE_BYTES]| u64::from_be_bytes(bytes).saturating_add(1).to_be_bytes();
    let (from, to) = (score_bytes(low.score), score_bytes(high.score));
    (if low.exclusive { behind(from) } else { from }, if high.exclusive { to } else { behind(to) })
}

/// The places of a range of members that all have one score. `None` if there can be none.
fn places_of_members(score: &[u8], low: &MemberEnd<'_>, high: &MemberEnd<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let with = |member: &[u8], behind: bool| {
        let mut place = [score, member].concat();
        if behind {
            place.push(0);
        }
        place
    };
    let from = match *low {
        MemberEnd::Lowest => with(&[], false),
        MemberEnd::Inclusive(member) => with(member, false),
        MemberEnd::Exclusive(member) => with(member, true),
        MemberEnd::Highest => return None,
    };
    let to = match *high {
        MemberEnd::Highest => {
            let next = u64::from_be_bytes(score.try_into().ok()?).saturating_add(1);
            next.to_be_bytes().to_vec()
        }
        MemberEnd::Inclusive(member) => with(member, true),
        MemberEnd::Exclusive(member) => with(member, false),
        MemberEnd::Lowest => return None,
    };
    (from < to).then_some((from, to))
}

/// The elements of a packed body, in order: score, and where in the body the member lies.
pub fn packed_elements(body: &[u8]) -> Result<Vec<(f64, Range<usize>)>, Stop> {
    let damage = || damaged("keyspace meta", "packed sorted set");
    let mut elements = Vec::with_capacity(16);
    let mut items = Items::new(body);
    while let Some(member) = items.next() {
        let end = body.len() - items.bytes_left();
        let score = items.next().and_then(|score| score.try_into().ok()).ok_or_else(damage)?;
        let score = read_score(score);
        if score.is_nan() {
            return Err(damage().into());
        }
        elements.push((score, end - member.len()..end));
    }
    if items.is_damaged() || elements.is_empty() { Err(damage().into()) } else { Ok(elements) }
}

/// Appends an element to a packed body.
pub fn put_packed(out: &mut Vec<u8>, score: f64, member: &[u8]) {
    put_item(out, member);
    put_item(out, &score_bytes(score));
}

/// Bytes that an element takes in a packed body.
pub fn packed_len(member: &[u8]) -> usize {
    varint_len(member.len() as u64) + member.len() + 1 + SCORE_BYTES
}

/// A sorted set in its record.
#[derive(Clone, Debug)]
pub struct Packed {
    body: Vec<u8>,
    elements: Vec<(f64, Range<usize>)>,
}

impl Packed {
    /// From the body of a record.
    pub fn decode(body: Vec<u8>) -> Result<Packed, Stop> {
        let elements = packed_elements(&body)?;
        Ok(Packed { body, elements })
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none, which is not stored.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Score and member of an element.
    pub fn get(&self, index: usize) -> Option<(f64, &[u8])> {
        let (score, range) = self.elements.get(index)?;
        Some((*score, self.body.get(range.clone())?))
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (f64, &[u8])> {
        self.elements.iter().map(|(score, range)| (*score, &self.body[range.clone()]))
    }

    /// Number and score of a member.
    pub fn find(&self, member: &[u8]) -> Option<(usize, f64)> {
        self.iter().position(|(_, own)| own == member).map(|at| (at, self.elements[at].0))
    }

    /// Gives the body's buffer back.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// How many elements are before a score.
    fn before(&self, bytes: [u8; SCORE_BYTES]) -> usize {
        self.elements.partition_point(|(score, _)| score_bytes(*score) < bytes)
    }

    /// The numbers of the elements of a span.
    pub fn resolve(&self, span: &Span<'_>, reverse: bool) -> Range<usize> {
        let len = self.len();
        match span {
            Span::Ranks(ranks) => {
                let end = ranks.end.min(len as u64) as usize;
                (ranks.start.min(end as u64) as usize)..end
            }
            Span::Scores(low, high) => {
                let (from, to) = places_of_scores(low, high);
                let end = self.before(to);
                self.before(from).min(end)..end
            }
            Span::Members(low, high) => {
                let member = |at: usize| self.get(at).map_or(&[][..], |(_, member)| member);
                if is_void(low, high) || !low.lets_in_from(member(len - 1)) || !high.lets_in_to(member(0)) {
                    return 0..0;
                }
                if reverse {
                    let end = (0..len).rev().find(|&at| high.lets_in_to(member(at))).map_or(0, |at| at + 1);
                    let count = (0..end).rev().take_while(|&at| low.lets_in_from(member(at))).count();
                    end - count..end
                } else {
                    let start = (0..len).find(|&at| low.lets_in_from(member(at))).unwrap_or(len);
                    let count = (start..len).take_while(|&at| high.lets_in_to(member(at))).count();
                    start..start + count
                }
            }
        }
    }
}

/// Whether a range of members is empty whatever the set.
fn is_void(low: &MemberEnd<'_>, high: &MemberEnd<'_>) -> bool {
    match low.rank().cmp(&high.rank()) {
        Ordering::Greater => true,
        Ordering::Equal => !(low.is_inclusive() && high.is_inclusive()),
        Ordering::Less => false,
    }
}

/// A sorted set, to be read.
#[derive(Clone, Debug)]
pub enum SortedSet {
    /// In its record.
    Packed(Packed),
    /// Under an id.
    Large(Large),
}

/// Elements that LIMIT skips are walked over if they are so few, else counted by fences.
const SKIPPED_BY_WALKING: u64 = 128;

impl SortedSet {
    /// A plain read. `None` if there is no such key. Pins the read point if the set is large.
    pub fn open(txn: &mut Txn, at: At<'_>) -> Result<Option<SortedSet>, Stop> {
        let read = |txn: &mut Txn| {
            txn.view(at, |record| match record {
                None => Ok(None),
                Some(Record { head, body }) => SortedSet::decode(at.space, &head, body.to_vec()).map(Some),
            })?
        };
        match read(txn)? {
            Some(SortedSet::Large(_)) => {
                txn.pin();
                read(txn)
            }
            other => Ok(other),
        }
    }

    /// The set of a key that was read under its lock; takes the slot's body.
    pub fn of_slot(slot: &mut Slot, space: Space) -> Result<Option<SortedSet>, Stop> {
        let Some(head) = slot.head().copied() else { return Ok(None) };
        SortedSet::decode(space, &head, slot.take_body()).map(Some)
    }

    /// From a record.
    pub fn decode(space: Space, head: &Head, body: Vec<u8>) -> Result<SortedSet, Stop> {
        if head.kind != Kind::SortedSet {
            return Err(ReplyError::WRONG_TYPE.into());
        }
        Ok(match head.id {
            0 => SortedSet::Packed(Packed::decode(body)?),
            _ => SortedSet::Large(Large::decode(space, head, &body)?),
        })
    }

    /// How many elements.
    pub fn count(&self) -> u64 {
        match self {
            SortedSet::Packed(packed) => packed.len() as u64,
            SortedSet::Large(large) => large.summary.count,
        }
    }

    /// The score of a member.
    pub fn score(&self, txn: &mut Txn, member: &[u8]) -> Result<Option<f64>, Stop> {
        match self {
            SortedSet::Packed(packed) => Ok(packed.find(member).map(|(_, score)| score)),
            SortedSet::Large(large) => large.score(txn, member),
        }
    }

    /// How many elements are before a member, and its score.
    pub fn rank(&self, txn: &mut Txn, member: &[u8]) -> Result<Option<(u64, f64)>, Stop> {
        match self {
            SortedSet::Packed(packed) => Ok(packed.find(member).map(|(at, score)| (at as u64, score))),
            SortedSet::Large(large) => {
                let Some(score) = large.score(txn, member)? else { return Ok(None) };
                let rank = large.count_before(txn, &place(score, member))?;
                Ok(Some((rank, score)))
            }
        }
    }

    /// How many elements a span has.
    pub fn count_in(&self, txn: &mut Txn, span: &Span<'_>) -> Result<u64, Stop> {
        let large = match self {
            SortedSet::Packed(packed) => return Ok(packed.resolve(span, false).len() as u64),
            SortedSet::Large(large) => large,
        };
        match resolve_large(large, span) {
            Resolved::Ranks(ranks) => Ok(ranks.end.saturating_sub(ranks.start)),
            Resolved::Places(from, to) => {
                let from = large.count_before(txn, &from)?;
                Ok(large.count_before(txn, &to)?.saturating_sub(from))
            }
            Resolved::Mixed(low, high) => {
                let mut count = 0;
                walk_mixed(txn, large, &low, &high, false, 0, |_, _| {
                    count += 1;
                    ControlFlow::Continue(())
                })?;
                Ok(count)
            }
        }
    }

    /// Hands member and score of the elements of a span to `f`, in order or in reverse, but for the first `skip` ones, until it
    /// breaks.
    pub fn walk(
        &self,
        txn: &mut Txn,
        span: &Span<'_>,
        reverse: bool,
        skip: u64,
        mut f: impl FnMut(&[u8], f64) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let large = match self {
            SortedSet::Large(large) => large,
            SortedSet::Packed(packed) => {
                let range = packed.resolve(span, reverse);
                let elements = packed.elements.get(range).unwrap_or_default().iter();
                let mut give = |(score, member): &(f64, Range<usize>)| {
                    f(packed.body.get(member.clone()).unwrap_or_default(), *score)
                };
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let _ = match reverse {
                    false => elements.skip(skip).try_for_each(&mut give),
                    true => elements.rev().skip(skip).try_for_each(&mut give),
                };
                return Ok(());
            }
        };
        match begin_walk(txn, large, span, reverse, skip)? {
            Begun::Nowhere => Ok(()),
            Begun::Among(low, high) => walk_mixed(txn, large, &low, &high, reverse, skip, f),
            Begun::At(mut steps, mut left) => {
                steps.for_each(txn, reverse, |score, member| last_breaks(f(member, score), &mut left))
            }
        }
    }

    /// The same, with members only: cheaper than to leave the scores aside.
    pub fn walk_members(
        &self,
        txn: &mut Txn,
        span: &Span<'_>,
        reverse: bool,
        skip: u64,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        if let SortedSet::Large(large) = self
            && let Begun::At(mut steps, mut left) = begin_walk(txn, large, span, reverse, skip)?
        {
            return steps.for_each_member(txn, reverse, |member| last_breaks(f(member), &mut left));
        }
        self.walk(txn, span, reverse, skip, |member, _| f(member))
    }

    /// The elements of a span, but for the first `skip` ones, at most so many.
    pub fn collect(
        &self,
        txn: &mut Txn,
        span: &Span<'_>,
        reverse: bool,
        skip: u64,
        limit: u64,
    ) -> Result<Vec<Element>, Stop> {
        let mut elements = Vec::new();
        if limit == 0 {
            return Ok(elements);
        }
        self.walk(txn, span, reverse, skip, |member, score| {
            elements.push(Element { score, member: member.to_vec() });
            if elements.len() as u64 >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(elements)
    }

    /// All elements, in order.
    pub fn collect_all(&self, txn: &mut Txn) -> Result<Vec<Element>, Stop> {
        self.collect(txn, &Span::Ranks(0..u64::MAX), false, 0, u64::MAX)
    }
}

/// A span of a large set.
#[derive(Debug)]
pub enum Resolved<'a> {
    /// By number.
    Ranks(Range<u64>),
    /// The places from the first up to but without the second.
    Places(Vec<u8>, Vec<u8>),
    /// By member, of a set whose scores are not all equal: only a walk over all tells.
    Mixed(MemberEnd<'a>, MemberEnd<'a>),
}

/// Resolves a span of a large set.
pub fn resolve_large<'a>(large: &Large, span: &Span<'a>) -> Resolved<'a> {
    let summary = &large.summary;
    match span {
        Span::Ranks(ranks) => {
            let end = ranks.end.min(summary.count);
            Resolved::Ranks(ranks.start.min(end)..end)
        }
        Span::Scores(low, high) => {
            let (from, to) = places_of_scores(low, high);
            Resolved::Places(from.to_vec(), to.to_vec())
        }
        Span::Members(low, high) if summary.is_level() => {
            let score = summary.first.get(..SCORE_BYTES).unwrap_or_default();
            let places = if is_void(low, high) { None } else { places_of_members(score, low, high) };
            places.map_or(Resolved::Ranks(0..0), |(from, to)| Resolved::Places(from, to))
        }
        Span::Members(low, high) => Resolved::Mixed(*low, *high),
    }
}

/// How a walk over a span of a large set begins.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack until the walk begins, one at a time")]
enum Begun<'a> {
    /// Not at all: no element is left.
    Nowhere,
    /// Standing on its first element, with at most so many to come, that one included.
    At(Steps, u64),
    /// Among members of different scores: [`walk_mixed`] has to look at each.
    Among(MemberEnd<'a>, MemberEnd<'a>),
}

fn begin_walk<'a>(
    txn: &mut Txn,
    large: &Large,
    span: &Span<'a>,
    reverse: bool,
    skip: u64,
) -> Result<Begun<'a>, Stop> {
    match resolve_large(large, span) {
        Resolved::Mixed(low, high) => Ok(Begun::Among(low, high)),
        Resolved::Ranks(ranks) => {
            let count = ranks.end.saturating_sub(ranks.start).saturating_sub(skip);
            if count == 0 {
                return Ok(Begun::Nowhere);
            }
            let rank = if reverse { ranks.end - 1 - skip } else { ranks.start + skip };
            Ok(Begun::At(large.at_rank(txn, rank, None, None)?, count))
        }
        Resolved::Places(from, to) => {
            Ok(Begun::At(steps_between(txn, large, &from, &to, reverse, skip)?, u64::MAX))
        }
    }
}

/// What is said of going on, unless that was the last element of those `left`.
#[inline]
fn last_breaks(flow: ControlFlow<()>, left: &mut u64) -> ControlFlow<()> {
    *left -= 1;
    if *left == 0 { ControlFlow::Break(()) } else { flow }
}

/// Steps that stand on the element of a range of places with so many of the range behind it (in the walk's direction before it).
pub fn steps_between(
    txn: &mut Txn,
    large: &Large,
    from: &[u8],
    to: &[u8],
    reverse: bool,
    skip: u64,
) -> Result<Steps, Stop> {
    if skip > SKIPPED_BY_WALKING {
        let before = large.count_before(txn, if reverse { to } else { from })?;
        let rank = if reverse { before.checked_sub(skip + 1) } else { before.checked_add(skip) };
        let Some(rank) = rank.filter(|rank| *rank < large.summary.count) else {
            return large.places(txn, Some(to), Some(to));
        };
        return match reverse {
            false => large.at_rank(txn, rank, None, Some(to)),
            true => large.at_rank(txn, rank, Some(from), None),
        };
    }
    let mut steps = large.places(txn, Some(from), Some(to))?;
    steps.to_end(txn, reverse)?;
    steps.skip(txn, skip, reverse)?;
    Ok(steps)
}

/// A walk by member over a large set with different scores.
pub fn walk_mixed(
    txn: &mut Txn,
    large: &Large,
    low: &MemberEnd<'_>,
    high: &MemberEnd<'_>,
    reverse: bool,
    mut skip: u64,
    mut f: impl FnMut(&[u8], f64) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let mut steps = large.places(txn, None, None)?;
    steps.to_last(txn)?;
    let reaches = steps.element()?.is_some_and(|(_, member)| low.lets_in_from(member));
    steps.to_first(txn)?;
    let begins = steps.element()?.is_some_and(|(_, member)| high.lets_in_to(member));
    if !reaches || !begins || is_void(low, high) {
        return Ok(());
    }
    if reverse {
        steps.to_last(txn)?;
    }
    let mut inside = false;
    while let Some((score, member)) = steps.element()? {
        let (enters, stays) = match reverse {
            false => (low.lets_in_from(member), high.lets_in_to(member)),
            true => (high.lets_in_to(member), low.lets_in_from(member)),
        };
        inside |= enters;
        if inside {
            if !stays {
                return Ok(());
            }
            if skip > 0 {
                skip -= 1;
            } else if f(member, score).is_break() {
                return Ok(());
            }
        }
        steps.step(txn, reverse)?;
    }
    Ok(())
}

/// Refuses a member that does not fit an engine key.
pub fn check_member(member: &[u8]) -> Result<(), ReplyError> {
    match member.len() > MEMBER_BYTES_MAX {
        true => Err(ReplyError::fixed("ERR member is too long (the limit is 1 MiB)")),
        false => Ok(()),
    }
}

/// Stages a whole sorted set in place of whatever is there. The elements are sorted and their members distinct; without any,
/// the key goes.
pub fn store(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    elements: &[Element],
    expire_ms: u64,
) -> Result<(), Stop> {
    debug_assert!(elements.windows(2).all(|pair| pair[0].order(&pair[1]).is_lt()));
    let (Some(first), Some(last)) = (elements.first(), elements.last()) else {
        return txn.delete(at, before);
    };
    elements.iter().try_for_each(|element| check_member(&element.member))?;
    let head = Head { expire_ms, ..Head::plain(Kind::SortedSet) };
    let bytes: usize = elements.iter().map(|element| packed_len(&element.member)).sum();
    if txn.store().packed().allow(elements.len(), bytes) {
        let mut body = Vec::with_capacity(bytes);
        elements.iter().for_each(|element| put_packed(&mut body, element.score, &element.member));
        return txn.put(at, before, head, &[&body]);
    }
    let key_bytes = 2 * (PREFIX_BYTES + SCORE_BYTES);
    let mut builder = txn.builder(at.space, (2 * bytes + key_bytes * elements.len()) as u64)?;
    let (space, id) = (at.space, builder.id());
    let mut key = Vec::new();
    for element in elements {
        put_member_key(&mut key, space, id, &element.member);
        builder.put(txn, &key, &score_bytes(element.score))?;
        put_place_key(&mut key, space, id, &place(element.score, &element.member));
        builder.put(txn, &key, b"")?;
    }
    let fences = Fences::over(txn.store().fence_elements_max(), elements.len(), |index| {
        elements.get(index).map(|element| place(element.score, &element.member)).unwrap_or_default()
    });
    let mut count = Vec::new();
    for (start, elements) in &fences.fences {
        put_fence_key(&mut key, space, id, start);
        count.clear();
        put_varint(&mut count, *elements);
        builder.put(txn, &key, &count)?;
    }
    builder.link(txn, at)?;
    let summary = Summary {
        count: elements.len() as u64,
        longest: elements.iter().map(|element| element.member.len() as u64).max().unwrap_or(0),
        head: fences.head,
        first: edge(&place(first.score, &first.member)).to_vec(),
        last: edge(&place(last.score, &last.member)).to_vec(),
    };
    txn.put(at, before, Head { id, ..head }, &[&summary.encode()])
}

/// What Redis would call the encoding of a sorted set.
pub fn encoding_name(record: &Record<'_>, sizes: &CompactSizes) -> Result<&'static str, Stop> {
    let (count, longest) = match record.head.id {
        0 => {
            let elements = packed_elements(record.body)?;
            (elements.len() as u64, elements.iter().map(|(_, member)| member.len() as u64).max().unwrap_or(0))
        }
        _ => {
            let summary = Summary::decode(record.body);
            let summary = summary.ok_or_else(|| damaged("keyspace meta", "summary of a sorted set"))?;
            (summary.count, summary.longest)
        }
    };
    Ok(if count > sizes.entries || longest > sizes.value_bytes { "skiplist" } else { "listpack" })
}
