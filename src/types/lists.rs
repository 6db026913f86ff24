//! What the commands on lists do.
//!
//! Small lists are edited by splicing bytes of their record; large ones by positions, see `list_value.rs`. A list that grows beyond
//! the limits moves under an id; one that LTRIM cuts to a few elements comes back.

use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::list::Place;
use crate::encoding::meta::{Head, Kind, damaged};
use crate::encoding::packed::{Items, put_item};
use crate::store::txn::{At, Slot, Txn};
use crate::types::list_value::{End, Large, SINGLE_DELETES_MAX, Stored, Writer, open, stored, view};
use haypile_lsm::base::coding::varint_len;
use std::ops::{ControlFlow, Range};

// Packed lists.

fn broken() -> Stop {
    damaged("keyspace meta", "packed list").into()
}

/// How many elements a packed list has.
fn count_items(body: &[u8]) -> Result<u64, Stop> {
    let mut items = Items::new(body);
    let count = items.by_ref().count();
    if items.is_damaged() { Err(broken()) } else { Ok(count as u64) }
}

/// Where in the body item `index` lies, its length in front included; the end of the body if there are fewer.
fn item_range(body: &[u8], index: u64) -> Range<usize> {
    let mut items = Items::new(body);
    for _ in 0..index {
        items.next();
    }
    let start = body.len() - items.bytes_left();
    items.next();
    start..body.len() - items.bytes_left()
}

fn item_bytes(element: &[u8]) -> usize {
    varint_len(element.len() as u64) + element.len()
}

/// The length in front of an item, without an allocation.
struct ItemHead {
    bytes: [u8; 10],
    len: usize,
}

impl ItemHead {
    fn of(element: &[u8]) -> ItemHead {
        let mut head = ItemHead { bytes: [0; 10], len: 0 };
        let mut left = element.len() as u64;
        loop {
            let more = if left >= 0x80 { 0x80 } else { 0 };
            head.bytes[head.len] = left as u8 & 0x7f | more;
            head.len += 1;
            left >>= 7;
            if left == 0 {
                return head;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

// Lists to be changed.

/// A list that was read to be changed; without elements if there is none.
#[derive(Debug)]
pub struct Loaded {
    slot: Slot,
    large: Option<Large>,
    len: u64,
}

/// Reads a list to change it.
pub fn load(txn: &mut Txn, at: At<'_>) -> Result<Loaded, Stop> {
    let slot = txn.load(at)?;
    let (large, len) = match slot.head() {
        None => (None, 0),
        Some(head) => match stored(at.space, head, slot.body())? {
            Stored::Packed(body) => (None, count_items(body)?),
            Stored::Large(large) => (Some(large), large.len()),
        },
    };
    Ok(Loaded { slot, large, len })
}

impl Loaded {
    /// How many elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no such list.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives its buffer back.
    pub fn recycle(self, txn: &mut Txn) {
        txn.recycle(self.slot);
    }

    fn head(&self) -> Head {
        Head { expire_ms: self.slot.expire_ms(), ..Head::plain(Kind::List) }
    }

    /// Stages a packed body in pieces.
    fn put_packed(&self, txn: &mut Txn, at: At<'_>, body: &[&[u8]]) -> Result<(), Stop> {
        txn.put(at, &self.slot.before, self.head(), body)
    }

    fn put_large(&self, txn: &mut Txn, at: At<'_>, large: &Large) -> Result<(), Stop> {
        large.put_layout(txn, at, &self.slot.before, self.slot.expire_ms())
    }

    fn finish(&self, txn: &mut Txn, at: At<'_>, writer: Writer) -> Result<(), Stop> {
        writer.finish(txn, at, &self.slot.before, self.slot.expire_ms())
    }

    fn delete(&self, txn: &mut Txn, at: At<'_>) -> Result<(), Stop> {
        txn.delete(at, &self.slot.before)
    }

    /// Stages elements at an end, each outside of the one before. How many there are then.
    pub fn push<'v>(
        &mut self,
        txn: &mut Txn,
        at: At<'_>,
        end: End,
        elements: impl ExactSizeIterator<Item = &'v [u8]> + DoubleEndedIterator + Clone,
    ) -> Result<u64, Stop> {
        let len = self.len + elements.len() as u64;
        match self.large {
            Some(mut large) => {
                if large.push(txn, end, elements.clone())? {
                    self.put_large(txn, at, &large)?;
                } else {
                    let mut writer = Writer::begin(txn, at.space, len, None)?;
                    if end == End::Left {
                        writer.put_all(txn, elements.clone().rev())?;
                    }
                    writer.put_walk(txn, &large, 0, large.len())?;
                    if end == End::Right {
                        writer.put_all(txn, elements)?;
                    }
                    self.finish(txn, at, writer)?;
                }
            }
            None => self.push_packed(txn, at, end, len, elements)?,
        }
        Ok(len)
    }

    fn push_packed<'v>(
        &self,
        txn: &mut Txn,
        at: At<'_>,
        end: End,
        len: u64,
        mut elements: impl ExactSizeIterator<Item = &'v [u8]> + DoubleEndedIterator + Clone,
    ) -> Result<(), Stop> {
        let body = self.slot.body();
        let bytes = body.len() + elements.clone().map(item_bytes).sum::<usize>();
        if !txn.store().packed().allow(len as usize, bytes) {
            let mut writer = Writer::begin(txn, at.space, len, Some(bytes as u64))?;
            if end == End::Left {
                writer.put_all(txn, elements.clone().rev())?;
            }
            writer.put_all(txn, Items::new(body))?;
            if end == End::Right {
                writer.put_all(txn, elements)?;
            }
            return self.finish(txn, at, writer);
        }
        if elements.len() == 1 {
            let element = elements.next().unwrap_or_default();
            let head = ItemHead::of(element);
            return match end {
                End::Left => self.put_packed(txn, at, &[head.as_bytes(), element, body]),
                End::Right => self.put_packed(txn, at, &[body, head.as_bytes(), element]),
            };
        }
        let mut items = Vec::with_capacity(bytes - body.len());
        match end {
            End::Left => {
                elements.rev().for_each(|element| put_item(&mut items, element));
                self.put_packed(txn, at, &[&items, body])
            }
            End::Right => {
                elements.for_each(|element| put_item(&mut items, element));
                self.put_packed(txn, at, &[body, &items])
            }
        }
    }

    /// Stages the removal of up to `count` elements (at least one, of at least one) from an end, handing them to `f` from outside in.
    pub fn pop(
        &mut self,
        txn: &mut Txn,
        at: At<'_>,
        end: End,
        count: u64,
        mut f: impl FnMut(&[u8]),
    ) -> Result<(), Stop> {
        let whole = count >= self.len;
        if let Some(mut large) = self.large {
            if whole {
                let outermost = if end == End::Left { 0 } else { self.len - 1 };
                large.walk(txn, outermost, self.len, end.opposite(), |element| {
                    f(element);
                    ControlFlow::Continue(())
                })?;
                return self.delete(txn, at);
            }
            large.pop(txn, end, count, f)?;
            return self.put_large(txn, at, &large);
        }
        let body = self.slot.body();
        let count = count.min(self.len);
        let rest = match end {
            End::Left => {
                let mut items = Items::new(body);
                items.by_ref().take(count as usize).for_each(&mut f);
                body.get(body.len() - items.bytes_left()..).unwrap_or_default()
            }
            End::Right => {
                let start = item_range(body, self.len - count).start;
                let (rest, popped) = body.split_at(start);
                match count {
                    1 => Items::new(popped).for_each(f),
                    _ => Items::new(popped).collect::<Vec<_>>().into_iter().rev().for_each(f),
                }
                rest
            }
        };
        if whole { self.delete(txn, at) } else { self.put_packed(txn, at, &[rest]) }
    }

    /// The element at an end of a list that has some.
    fn peek(&self, txn: &mut Txn, end: End) -> Result<Vec<u8>, Stop> {
        let index = if end == End::Left { 0 } else { self.len - 1 };
        match self.large {
            Some(large) => {
                let position = large.position(txn, index)?;
                large.element(txn, position, <[u8]>::to_vec)
            }
            None => {
                let range = item_range(self.slot.body(), index);
                Items::new(&self.slot.body()[range]).next().map(<[u8]>::to_vec).ok_or_else(broken)
            }
        }
    }

    /// Stages that the element at an end goes to the other.
    fn rotate(&mut self, txn: &mut Txn, at: At<'_>, from: End) -> Result<Vec<u8>, Stop> {
        let element = self.peek(txn, from)?;
        let Some(mut large) = self.large else {
            let body = self.slot.body();
            let index = if from == End::Left { 0 } else { self.len - 1 };
            let item = item_range(body, index);
            match from {
                End::Left => self.put_packed(txn, at, &[&body[item.end..], &body[item]])?,
                End::Right => self.put_packed(txn, at, &[&body[item.clone()], &body[..item.start]])?,
            }
            return Ok(element);
        };
        if self.len < 2 {
            self.put_large(txn, at, &large)?;
            return Ok(element);
        }
        let mut rotated = large;
        if rotated.push(txn, from.opposite(), [&element[..]].into_iter())? {
            // Removed as the list was before: nothing that is staged is read.
            large.pop(txn, from, 1, |_| {})?;
            let (first, last) = match from {
                End::Left => (large.layout.first, rotated.layout.last),
                End::Right => (rotated.layout.first, large.layout.last),
            };
            rotated.layout = rotated.layout.cut(first, last, self.len);
            self.put_large(txn, at, &rotated)?;
            return Ok(element);
        }
        let mut writer = Writer::begin(txn, at.space, self.len, None)?;
        if from == End::Right {
            writer.put(txn, &element)?;
        }
        writer.put_walk(txn, &large, u64::from(from == End::Left), self.len - 1)?;
        if from == End::Left {
            writer.put(txn, &element)?;
        }
        self.finish(txn, at, writer)?;
        Ok(element)
    }
}

/// LPUSH and RPUSH, or LPUSHX and RPUSHX if `only_if_present`: how many elements there are then.
pub fn push<'v>(
    txn: &mut Txn,
    at: At<'_>,
    end: End,
    elements: impl ExactSizeIterator<Item = &'v [u8]> + DoubleEndedIterator + Clone,
    only_if_present: bool,
) -> Result<u64, Stop> {
    let mut list = load(txn, at)?;
    let len = match only_if_present && list.is_empty() {
        true => 0,
        false => list.push(txn, at, end, elements)?,
    };
    list.recycle(txn);
    Ok(len)
}

/// LMOVE: the element that went from one list to the other. `None` if the first has none.
pub fn move_element(
    txn: &mut Txn,
    (from, from_end): (At<'_>, End),
    (to, to_end): (At<'_>, End),
) -> Result<Option<Vec<u8>>, Stop> {
    let mut source = load(txn, from)?;
    if source.is_empty() {
        return Ok(None);
    }
    if from.db == to.db && from.key == to.key {
        let element = match from_end == to_end {
            true => source.peek(txn, from_end)?,
            false => source.rotate(txn, from, from_end)?,
        };
        return Ok(Some(element));
    }
    let mut target = load(txn, to)?;
    let mut element = Vec::new();
    source.pop(txn, from, from_end, 1, |popped| element.extend_from_slice(popped))?;
    target.push(txn, to, to_end, [&element[..]].into_iter())?;
    source.recycle(txn);
    target.recycle(txn);
    Ok(Some(element))
}

// Reading.

/// LLEN.
pub fn len(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    match view(txn, at, |body| body.map_or(Ok(0), count_items))? {
        Ok(count) => count,
        Err(large) => Ok(large.len()),
    }
}

/// An index as Redis counts: negative ones from the end. `None` if it is outside.
fn resolve(index: i64, len: u64) -> Option<u64> {
    let index = if index < 0 { index.checked_add_unsigned(len)? } else { index };
    u64::try_from(index).ok().filter(|index| *index < len)
}

/// A range as Redis cuts it; empty ranges are `None`.
fn resolve_range(start: i64, stop: i64, len: u64) -> Option<(u64, u64)> {
    let from_end = |index: i64| if index < 0 { index.saturating_add_unsigned(len) } else { index };
    let (start, stop) = (from_end(start).max(0) as u64, from_end(stop));
    let stop = u64::try_from(stop).ok()?.min(len.checked_sub(1)?);
    (start <= stop).then_some((start, stop))
}

/// LINDEX: hands the element to `f`. `None` if there is none.
pub fn element<R>(
    txn: &mut Txn,
    at: At<'_>,
    index: i64,
    mut f: impl FnMut(&[u8]) -> R,
) -> Result<Option<R>, Stop> {
    let packed = open(txn, at, |body| {
        let Some(body) = body else { return Ok(None) };
        let Some(index) = resolve(index, count_items(body)?) else { return Ok(None) };
        Ok(Items::new(body).nth(index as usize).map(&mut f))
    })?;
    let large = match packed {
        Ok(found) => return found,
        Err(large) => large,
    };
    let Some(index) = resolve(index, large.len()) else { return Ok(None) };
    let position = large.position(txn, index)?;
    large.element(txn, position, f).map(Some)
}

/// What a range read finds, piece by piece.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// So many elements follow.
    Count(u64),
    /// One of them.
    Element(&'a [u8]),
}

/// LRANGE: first says how many elements there are, then hands them over.
pub fn range(
    txn: &mut Txn,
    at: At<'_>,
    start: i64,
    stop: i64,
    mut f: impl FnMut(Piece<'_>),
) -> Result<(), Stop> {
    let packed = open(txn, at, |body| {
        let body = body.unwrap_or_default();
        let Some((start, stop)) = resolve_range(start, stop, count_items(body)?) else {
            f(Piece::Count(0));
            return Ok(());
        };
        f(Piece::Count(stop - start + 1));
        let items = Items::new(body).skip(start as usize).take((stop - start + 1) as usize);
        items.for_each(|element| f(Piece::Element(element)));
        Ok(())
    })?;
    let large = match packed {
        Ok(done) => return done,
        Err(large) => large,
    };
    let Some((start, stop)) = resolve_range(start, stop, large.len()) else {
        f(Piece::Count(0));
        return Ok(());
    };
    let count = stop - start + 1;
    f(Piece::Count(count));
    large.walk(txn, start, count, End::Right, |element| {
        f(Piece::Element(element));
        ControlFlow::Continue(())
    })
}

/// What LPOS looks for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The element.
    pub element: &'a [u8],
    /// From which end.
    pub from: End,
    /// How many matches to skip.
    pub skip: u64,
    /// How many matches to report.
    pub matches: u64,
    /// How many elements to look at.
    pub steps: u64,
}

/// LPOS: hands the indexes of matches to `f`. False if there is no such list.
pub fn search(txn: &mut Txn, at: At<'_>, search: Search<'_>, mut f: impl FnMut(u64)) -> Result<bool, Stop> {
    let mut left = (search.skip, search.matches);
    let mut look = |index: u64, element: &[u8]| {
        if element == search.element {
            if left.0 > 0 {
                left.0 -= 1;
            } else {
                f(index);
                left.1 -= 1;
            }
        }
        if left.1 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let packed = open(txn, at, |body| {
        let Some(body) = body else { return Ok(false) };
        let len = count_items(body)?;
        let steps = search.steps.min(len);
        match search.from {
            End::Left => {
                let mut items = (0..steps).zip(Items::new(body));
                let _ = items.try_for_each(|(index, element)| look(index, element));
            }
            End::Right => {
                let items: Vec<&[u8]> = Items::new(body).collect();
                let mut items = (len - steps..len).rev().zip(items.into_iter().rev());
                let _ = items.try_for_each(|(index, element)| look(index, element));
            }
        }
        Ok(true)
    })?;
    let large = match packed {
        Ok(found) => return found,
        Err(large) => large,
    };
    let steps = search.steps.min(large.len());
    let (mut index, to) = match search.from {
        End::Left => (0, End::Right),
        End::Right => (large.len() - 1, End::Left),
    };
    large.walk(txn, index, steps, to, |element| {
        let flow = look(index, element);
        index = match to {
            End::Right => index + 1,
            End::Left => index.wrapping_sub(1),
        };
        flow
    })?;
    Ok(true)
}

// Changing elements inside.

/// LSET of a list that has elements.
pub fn set(txn: &mut Txn, at: At<'_>, list: Loaded, index: i64, element: &[u8]) -> Result<(), Stop> {
    const OUT_OF_RANGE: ReplyError = ReplyError::fixed("ERR index out of range");
    let Some(index) = resolve(index, list.len) else { return Err(OUT_OF_RANGE.into()) };
    if let Some(large) = &list.large {
        let position = large.position(txn, index)?;
        large.put(txn, position, element)?;
        // Nothing of it changes, but a change has to be seen.
        list.put_large(txn, at, large)?;
    } else {
        let item = item_range(list.slot.body(), index);
        list.splice(txn, at, item, element, list.len)?;
    }
    list.recycle(txn);
    Ok(())
}

impl Loaded {
    /// Stages a packed list with the bytes of `range` replaced by an element, or, if it is too much then, moves it under an id.
    fn splice(
        &self,
        txn: &mut Txn,
        at: At<'_>,
        range: Range<usize>,
        element: &[u8],
        len: u64,
    ) -> Result<(), Stop> {
        let (front, back) = (&self.slot.body()[..range.start], &self.slot.body()[range.end..]);
        let bytes = front.len() + item_bytes(element) + back.len();
        if txn.store().packed().allow(len as usize, bytes) {
            let head = ItemHead::of(element);
            return self.put_packed(txn, at, &[front, head.as_bytes(), element, back]);
        }
        let mut writer = Writer::begin(txn, at.space, len, Some(bytes as u64))?;
        let elements = Items::new(front).chain([element]).chain(Items::new(back));
        writer.put_all(txn, elements)?;
        self.finish(txn, at, writer)
    }
}

/// LINSERT on the given side of the first element that equals `pivot`: how many elements there are then, or `None` if none equals it. The
/// list has elements.
pub fn insert(
    txn: &mut Txn,
    at: At<'_>,
    list: Loaded,
    side: End,
    pivot: &[u8],
    element: &[u8],
) -> Result<Option<u64>, Stop> {
    let len = list.len + 1;
    if let Some(mut large) = list.large {
        let Some((before, found, behind)) = neighbours(txn, &large, pivot)? else { return Ok(None) };
        let gap = match side {
            End::Left => before.map(|before| (before, found)),
            End::Right => behind.map(|behind| (found, behind)),
        };
        let done = match gap {
            None => large.push(txn, side, [element].into_iter())?,
            Some((a, b)) => large.insert_between(txn, a, b, element)?,
        };
        if done {
            list.put_large(txn, at, &large)?;
        } else {
            lay_out_anew(txn, at, &list, &large, found, side, element)?;
        }
    } else {
        let body = list.slot.body();
        let Some(index) = Items::new(body).position(|item| item == pivot) else { return Ok(None) };
        let item = item_range(body, index as u64);
        let to = if side == End::Left { item.start } else { item.end };
        list.splice(txn, at, to..to, element, len)?;
    }
    list.recycle(txn);
    Ok(Some(len))
}

/// A position and its neighbours', if it has any.
type Neighbours = (Option<u64>, u64, Option<u64>);

/// Where the first element that equals `pivot` is, and its neighbours.
fn neighbours(txn: &mut Txn, large: &Large, pivot: &[u8]) -> Result<Option<Neighbours>, Stop> {
    let mut walk = large.walk_from(txn, large.layout.first, End::Right)?;
    let mut before = None;
    while let Some((position, element)) = walk.standing() {
        let found = element == pivot;
        walk.advance(txn)?;
        if found {
            return Ok(Some((before, position, walk.standing().map(|(position, _)| position))));
        }
        before = Some(position);
    }
    Ok(None)
}

/// Stages the whole list under a new id, with an element beside the one at `pivot`: positions had run out.
fn lay_out_anew(
    txn: &mut Txn,
    at: At<'_>,
    list: &Loaded,
    large: &Large,
    pivot: u64,
    side: End,
    element: &[u8],
) -> Result<(), Stop> {
    let mut writer = Writer::begin(txn, at.space, list.len + 1, None)?;
    let mut walk = large.walk_from(txn, large.layout.first, End::Right)?;
    while let Some((position, value)) = walk.standing() {
        if position == pivot && side == End::Left {
            writer.put(txn, element)?;
        }
        writer.put(txn, value)?;
        if position == pivot && side == End::Right {
            writer.put(txn, element)?;
        }
        walk.advance(txn)?;
    }
    list.finish(txn, at, writer)
}

/// Neighbours that LREM removes.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
}

/// A list that loses more runs than this is written anew rather than with that many deletes.
const RUNS_MAX: usize = 16 << 10;

/// LREM of up to `count` elements that equal `element`, from one end on: how many were removed.
pub fn remove(txn: &mut Txn, at: At<'_>, from: End, count: u64, element: &[u8]) -> Result<u64, Stop> {
    let list = load(txn, at)?;
    if list.is_empty() {
        return Ok(0);
    }
    let removed = match list.large {
        Some(large) => remove_large(txn, at, &list, large, from, count, element)?,
        None => remove_packed(txn, at, &list, from, count, element)?,
    };
    list.recycle(txn);
    Ok(removed)
}

fn remove_packed(
    txn: &mut Txn,
    at: At<'_>,
    list: &Loaded,
    from: End,
    count: u64,
    element: &[u8],
) -> Result<u64, Stop> {
    let body = list.slot.body();
    let matches = Items::new(body).filter(|item| *item == element).count() as u64;
    let removed = matches.min(count);
    if removed == 0 {
        return Ok(0);
    }
    // From the right, the first matches stay.
    let mut kept = if from == End::Right { matches - removed } else { 0 };
    let mut left = removed;
    let mut rest = Vec::with_capacity(body.len());
    for item in Items::new(body) {
        if item == element && kept == 0 && left > 0 {
            left -= 1;
            continue;
        }
        kept -= u64::from(item == element && kept > 0);
        put_item(&mut rest, item);
    }
    match rest.is_empty() {
        true => list.delete(txn, at)?,
        false => list.put_packed(txn, at, &[&rest])?,
    }
    Ok(removed)
}

fn remove_large(
    txn: &mut Txn,
    at: At<'_>,
    list: &Loaded,
    mut large: Large,
    from: End,
    count: u64,
    element: &[u8],
) -> Result<u64, Stop> {
    let (start, to) = match from {
        End::Left => (large.layout.first, End::Right),
        End::Right => (large.layout.last, End::Left),
    };
    let mut walk = large.walk_from(txn, start, to)?;
    let mut runs: Vec<Run> = Vec::new();
    let mut removed = 0;
    let mut in_run = false;
    let mut innermost = start;
    // The outermost elements that stay, and, around all that goes, the innermost that stay.
    let (mut stays_first, mut stays_last): (Option<u64>, Option<u64>) = (None, None);
    let (mut before, mut behind): (Option<u64>, Option<u64>) = (None, None);
    while let Some((position, value)) = walk.standing() {
        if value == element && removed < count {
            removed += 1;
            if let (true, Some(run)) = (in_run, runs.last_mut()) {
                (run.first, run.last) = (run.first.min(position), run.last.max(position));
            } else if runs.len() <= RUNS_MAX {
                runs.push(Run { first: position, last: position });
            }
            innermost = position;
            if removed == 1 {
                before = stays_last;
            }
            behind = None;
            in_run = true;
        } else {
            in_run = false;
            stays_first = stays_first.or(Some(position));
            stays_last = Some(position);
            if removed > 0 && behind.is_none() {
                behind = Some(position);
            }
            if removed == count {
                break;
            }
        }
        walk.advance(txn)?;
    }
    if removed == 0 {
        return Ok(0);
    }
    let len = list.len - removed;
    if len == 0 {
        list.delete(txn, at)?;
        return Ok(removed);
    }
    if runs.len() > RUNS_MAX {
        let mut writer = Writer::begin(txn, at.space, len, None)?;
        let mut walk = large.walk_from(txn, large.layout.first, End::Right)?;
        while let Some((position, value)) = walk.standing() {
            let seen = match from {
                End::Left => position <= innermost,
                End::Right => position >= innermost,
            };
            if !(seen && value == element) {
                writer.put(txn, value)?;
            }
            walk.advance(txn)?;
        }
        list.finish(txn, at, writer)?;
        return Ok(removed);
    }
    for run in &runs {
        match run.first == run.last {
            true => large.delete(txn, run.first)?,
            false => large.delete_range(txn, run.first, run.last)?,
        }
    }
    // A walk that ended early has seen nothing of the far end, which stays then.
    let (near_end, far_end) = match from {
        End::Left => (large.layout.first, large.layout.last),
        End::Right => (large.layout.last, large.layout.first),
    };
    let near = stays_first.unwrap_or(near_end);
    let far = if walk.standing().is_some() { far_end } else { stays_last.unwrap_or(far_end) };
    let (first, last) = if from == End::Left { (near, far) } else { (far, near) };
    large.layout = large.layout.cut(first, last, len);
    // Rough from the last that stays in front of the first hole, to the first that stays behind the last hole.
    let (low, high) = (before.unwrap_or(near), behind.unwrap_or(far));
    let (low, high) = if from == End::Left { (low, high) } else { (high, low) };
    large.layout = large.layout.roughened(low, high);
    list.put_large(txn, at, &large)?;
    Ok(removed)
}

/// LTRIM to a range.
pub fn trim(txn: &mut Txn, at: At<'_>, start: i64, stop: i64) -> Result<bool, Stop> {
    let list = load(txn, at)?;
    if list.is_empty() {
        return Ok(false);
    }
    let Some((start, stop)) = resolve_range(start, stop, list.len) else {
        list.delete(txn, at)?;
        return Ok(true);
    };
    let len = stop - start + 1;
    if len == list.len {
        list.recycle(txn);
        return Ok(true);
    }
    match list.large {
        Some(large) => trim_large(txn, at, &list, large, start, stop)?,
        None => {
            let body = list.slot.body();
            let range = item_range(body, start).start..item_range(body, stop).end;
            list.put_packed(txn, at, &[&body[range]])?;
        }
    }
    list.recycle(txn);
    Ok(true)
}

fn trim_large(
    txn: &mut Txn,
    at: At<'_>,
    list: &Loaded,
    mut large: Large,
    start: u64,
    stop: u64,
) -> Result<(), Stop> {
    let len = stop - start + 1;
    let cut = list.len - len;
    if cut > len && come_back(txn, at, list, &large, start, len)? {
        return Ok(());
    }
    let (first, last) = (large.position(txn, start)?, large.position(txn, stop)?);
    if start <= SINGLE_DELETES_MAX {
        delete_each(txn, &large, 0, start)?;
    } else {
        large.delete_range(txn, large.layout.first, first - 1)?;
    }
    if cut - start <= SINGLE_DELETES_MAX {
        delete_each(txn, &large, stop + 1, cut - start)?;
    } else {
        large.delete_range(txn, last + 1, large.layout.last)?;
    }
    large.layout = large.layout.cut(first, last, len);
    list.put_large(txn, at, &large)
}

/// Stages the removal of a few elements from `index` on. Where the list is even, without reading them.
fn delete_each(txn: &mut Txn, large: &Large, index: u64, count: u64) -> Result<(), Stop> {
    let mut positions = Vec::with_capacity(count as usize);
    for index in index..index + count {
        let Place::At(position) = large.layout.place(index) else { break };
        positions.push(position);
    }
    if (positions.len() as u64) < count {
        positions.clear();
        large.walk_positions(txn, index, count, End::Right, |position, _| {
            positions.push(position);
            ControlFlow::Continue(())
        })?;
    }
    positions.into_iter().try_for_each(|position| large.delete(txn, position))
}

/// Stages a large list's `len` elements from `start` on as a packed list, if they are well within the limits; whether they are.
fn come_back(
    txn: &mut Txn,
    at: At<'_>,
    list: &Loaded,
    large: &Large,
    start: u64,
    len: u64,
) -> Result<bool, Stop> {
    let limits = txn.store().packed();
    // Half of the limits: a list at the limit is not to go to and fro.
    if len > limits.elements_max as u64 / 2 {
        return Ok(false);
    }
    let mut body = Vec::new();
    let fits = |body: &Vec<u8>| body.len() <= limits.bytes_max / 2;
    large.walk(txn, start, len, End::Right, |element| {
        put_item(&mut body, element);
        if fits(&body) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if !fits(&body) {
        return Ok(false);
    }
    list.put_packed(txn, at, &[&body])?;
    Ok(true)
}

// What is told about lists.

/// Up to what size Redis keeps a list in one piece.
struct OnePiece {
    /// Elements.
    elements_max: u64,
    /// Bytes of a listpack.
    bytes_max: u64,
}

impl OnePiece {
    /// As `list-max-listpack-size` says: how many elements, or from -1 down one of five sizes.
    fn of(listpack_size: i64) -> OnePiece {
        const SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
        /// So many bytes are too many, whatever the count.
        const SAFE_BYTES_MAX: u64 = 8 << 10;
        match u64::try_from(listpack_size) {
            Ok(elements) => OnePiece { elements_max: elements.max(1), bytes_max: SAFE_BYTES_MAX },
            Err(_) => {
                let size = listpack_size.unsigned_abs().clamp(1, SIZES.len() as u64) - 1;
                OnePiece { elements_max: u64::MAX, bytes_max: SIZES[size as usize] }
            }
        }
    }
}

/// Bytes of a listpack, element by element.
#[derive(Default)]
struct ListpackSize {
    elements: u64,
    bytes: u64,
    /// Of the last element, more than its bytes as they are.
    last_overhead_bytes: u64,
}

impl ListpackSize {
    /// Its head and its end.
    const FRAME_BYTES: u64 = 7;

    fn add(&mut self, element: &[u8]) {
        let len = element.len() as u64;
        let encoded = match parse_i64(element) {
            Some(0..=127) => 1,
            Some(-4096..=4095) => 2,
            Some(-32_768..=32_767) => 3,
            Some(-8_388_608..=8_388_607) => 4,
            Some(number) if i32::try_from(number).is_ok() => 5,
            Some(_) => 9,
            None if len < 64 => 1 + len,
            None if len < 4096 => 2 + len,
            None => 5 + len,
        };
        // Behind each stands its length, seven bits to the byte.
        let bytes = encoded + varint_len(encoded) as u64;
        self.elements += 1;
        self.bytes += bytes;
        self.last_overhead_bytes = bytes.saturating_sub(len);
    }

    /// Whether Redis would have cut it. It looks before it adds, when the last element is still as it came.
    fn exceeds(&self, limit: &OnePiece) -> bool {
        let bytes = Self::FRAME_BYTES + self.bytes - self.last_overhead_bytes;
        self.elements > limit.elements_max || bytes > limit.bytes_max
    }
}

/// What Redis would call the encoding, had the list been filled from the left to the right. `listpack_size` is
/// `list-max-listpack-size`.
pub fn encoding_name(txn: &mut Txn, at: At<'_>, listpack_size: i64) -> Result<Option<&'static str>, Stop> {
    let limit = OnePiece::of(listpack_size);
    let name = |size: &ListpackSize| if size.exceeds(&limit) { "quicklist" } else { "listpack" };
    let packed = open(txn, at, |body| {
        let Some(body) = body else { return Ok(None) };
        let (mut size, mut items) = (ListpackSize::default(), Items::new(body));
        items.by_ref().for_each(|element| size.add(element));
        if items.is_damaged() { Err(broken()) } else { Ok(Some(name(&size))) }
    })?;
    let large = match packed {
        Ok(found) => return found,
        Err(large) => large,
    };
    let mut size = ListpackSize::default();
    large.walk(txn, 0, large.len(), End::Right, |element| {
        size.add(element);
        if size.exceeds(&limit) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Some(name(&size)))
}

/// Hands all elements of a list that was read to `f`, in order. Pin the read point before.
pub fn for_each(
    txn: &mut Txn,
    at: At<'_>,
    head: &Head,
    body: &[u8],
    mut f: impl FnMut(&[u8]),
) -> Result<(), Stop> {
    match stored(at.space, head, body)? {
        Stored::Packed(body) => {
            let mut items = Items::new(body);
            items.by_ref().for_each(f);
            if items.is_damaged() { Err(broken()) } else { Ok(()) }
        }
        Stored::Large(large) => large.walk(txn, 0, large.len(), End::Right, |element| {
            f(element);
            ControlFlow::Continue(())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haypile_lsm::base::coding::put_varint;

    #[test]
    fn item_heads_are_varints() {
        for len in [0usize, 1, 127, 128, 300, 16_383, 16_384, 70_000] {
            let mut wanted = Vec::new();
            put_varint(&mut wanted, len as u64);
            assert_eq!(ItemHead::of(&vec![0; len]).as_bytes(), wanted);
        }
    }

    #[test]
    fn lists_are_cut_where_redis_cuts_them() {
        let cut = |listpack_size: i64, elements: &[Vec<u8>]| {
            let mut size = ListpackSize::default();
            elements.iter().for_each(|element| size.add(element));
            size.exceeds(&OnePiece::of(listpack_size))
        };
        let one = |bytes: usize| vec![vec![b'x'; bytes]];
        assert!(!cut(-2, &one(8185)) && cut(-2, &one(8186)));
        assert!(!cut(-1, &one(4089)) && cut(-1, &one(4090)));
        assert!(!cut(-9, &one(65_529)) && cut(-9, &one(65_530)));
        let numbers = |count: u32| (0..count).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>();
        assert!(!cut(-2, &numbers(2000)) && cut(-2, &numbers(3000)));
        assert!(!cut(3, &numbers(3)) && cut(3, &numbers(4)) && cut(3, &one(8186)));
        assert!(!cut(0, &numbers(1)) && cut(0, &numbers(2)));
    }

    #[test]
    fn ranges_are_cut_as_redis_does() {
        assert_eq!(resolve_range(0, -1, 3), Some((0, 2)));
        assert_eq!(resolve_range(-100, 100, 3), Some((0, 2)));
        assert_eq!(resolve_range(2, 1, 3), None);
        assert_eq!(resolve_range(3, 5, 3), None);
        assert_eq!(resolve_range(0, -4, 3), None);
        assert_eq!(resolve_range(0, 0, 0), None);
        assert_eq!(resolve_range(i64::MIN, i64::MAX, 1), Some((0, 0)));
        assert_eq!(resolve(-3, 3), Some(0));
        assert_eq!(resolve(-4, 3), None);
        assert_eq!(resolve(3, 3), None);
    }
}
