//! Elements of lists: in the record itself, or, if they are many or large, by position under an id.
//!
//! ```text
//! small    meta: head | element | element | ..          items as in `encoding/packed`
//! large    meta: head with id | layout                  data: position -> element, see `encoding/list`
//! ```
//!
//! [`Large`] finds elements by index: by arithmetic where the list is even, by a walk where it is rough. Iterators are bounded
//! by the exact first and last position, so what was popped is never walked over again. Positions change only here: pushes
//! and pops move the ends, `Large::make_room` renumbers a neighbourhood when an insertion finds no gap, and a [`Writer`]
//! lays a whole list out anew under a new id.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{PREFIX_BYTES, list_element_key};
use crate::encoding::list::{Layout, Place, STRIDE};
use crate::encoding::meta::{Head, Kind, Space, damaged};
use crate::encoding::packed::put_item;
use crate::store::read_ahead::{AHEAD_INLINE, AHEAD_POOL, AtEnd, ELEMENT_BYTES_MAX, Element};
use crate::store::txn::{At, Before, Builder, Mode, Txn};
use crate::types::runs;
use haypile_lsm::Iter;
use haypile_lsm::base::coding::varint_len;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// One end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl End {
    /// The other one.
    pub fn opposite(self) -> End {
        match self {
            End::Left => End::Right,
            End::Right => End::Left,
        }
    }
}

/// Where a list's elements are, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// Here.
    Packed(&'a [u8]),
    /// Under an id.
    Large(Large),
}

/// Looks at a record as a list.
#[inline]
pub fn stored<'a>(space: Space, head: &Head, body: &'a [u8]) -> Result<Stored<'a>, Stop> {
    if head.kind != Kind::List {
        return Err(ReplyError::WRONG_TYPE.into());
    }
    if head.id == 0 {
        return Ok(Stored::Packed(body));
    }
    let layout = Layout::read(body).ok_or_else(|| damaged("keyspace meta", "layout of a list"))?;
    Ok(Stored::Large(Large { space, id: head.id, layout }))
}

/// A plain read of a list: `f` gets it if it is packed or absent; otherwise the caller gets where it is, and should [`Txn::pin`]
/// and read again before it follows that, unless it holds the key's lock.
#[inline]
pub fn view<R>(
    txn: &mut Txn,
    at: At<'_>,
    f: impl FnOnce(Option<&[u8]>) -> R,
) -> Result<Result<R, Large>, Stop> {
    txn.view(at, |record| match record {
        None => Ok(Ok(f(None))),
        Some(record) => Ok(match stored(at.space, &record.head, record.body)? {
            Stored::Packed(body) => Ok(f(Some(body))),
            Stored::Large(large) => Err(large),
        }),
    })?
}

/// As [`view`], but pins the read point if the list is large, so that it may be followed.
pub fn open<R>(
    txn: &mut Txn,
    at: At<'_>,
    mut f: impl FnMut(Option<&[u8]>) -> R,
) -> Result<Result<R, Large>, Stop> {
    if let Ok(packed) = view(txn, at, &mut f)? {
        return Ok(Ok(packed));
    }
    txn.pin();
    view(txn, at, f)
}

/// Up to so many elements at an even end are read one by one rather than with an iterator.
const SINGLE_READS_MAX: u64 = 8;
/// Up to so many elements are removed one by one rather than as a range.
pub const SINGLE_DELETES_MAX: u64 = 64;
/// Size that an element is taken to have when a list is written anew, in bytes.
const ELEMENT_BYTES_GUESS: u64 = 64;
/// A neighbourhood that is renumbered has at least so many elements, unless it is spread widely.
const MOVED_MIN: usize = 16;

/// Where in the key of an element its position begins.
const POSITION_AT: usize = PREFIX_BYTES + 1;
const POSITION_BYTES: usize = 8;

fn missing() -> Stop {
    damaged("keyspace data", "a list's element is missing").into()
}

/// A large list.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// Its space.
    pub space: Space,
    /// Its id.
    pub id: u64,
    /// Where its elements lie.
    pub layout: Layout,
}

impl Large {
    fn key(&self, position: u64) -> [u8; POSITION_AT + POSITION_BYTES] {
        list_element_key(self.space, self.id, position)
    }

    /// How many elements.
    pub fn len(&self) -> u64 {
        self.layout.count
    }

    /// Never: an empty list is none.
    pub fn is_empty(&self) -> bool {
        self.layout.count == 0
    }

    /// Hands the element at a position to `f`.
    pub fn element<R>(&self, txn: &mut Txn, position: u64, f: impl FnOnce(&[u8]) -> R) -> Result<R, Stop> {
        txn.view_data(&self.key(position), |value| value.map(f))?.ok_or_else(missing)
    }

    /// A walk that stands on the element at `position` and goes towards `to`.
    pub fn walk_from(&self, txn: &mut Txn, position: u64, to: End) -> Result<Walk, Stop> {
        let keyspace = txn.store().keyspaces().data;
        let mut upper = self.key(self.layout.last).to_vec();
        upper.push(0);
        let mut iter = txn.iter(keyspace, Some(self.key(self.layout.first).to_vec()), Some(upper))?;
        match to {
            End::Right => iter.seek(&self.key(position))?,
            End::Left => {
                let mut behind = self.key(position).to_vec();
                behind.push(0);
                iter.seek_before(&behind)?;
            }
        }
        txn.charge(1, 0)?;
        Ok(Walk { iter, to })
    }

    /// Position of element `index`, which is below the count.
    pub fn position(&self, txn: &mut Txn, index: u64) -> Result<u64, Stop> {
        let (from_low, from_high) = match self.layout.place(index) {
            Place::At(position) => return Ok(position),
            Place::Rough(from_low, from_high) => (from_low, from_high),
        };
        let (low, high) = self.layout.rough.unwrap_or((self.layout.first, self.layout.last));
        let (mut walk, steps) = match from_low <= from_high {
            true => (self.walk_from(txn, low, End::Right)?, from_low),
            false => (self.walk_from(txn, high, End::Left)?, from_high),
        };
        for _ in 0..steps {
            walk.advance(txn)?;
        }
        walk.standing().map(|(position, _)| position).ok_or_else(missing)
    }

    /// Hands `count` elements from `index` on, towards an end, to `f`, until it breaks.
    pub fn walk(
        &self,
        txn: &mut Txn,
        index: u64,
        count: u64,
        to: End,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        self.walk_tails(txn, index, count, to, POSITION_AT + POSITION_BYTES, |_, element| Ok(f(element)))
    }

    /// The same, with positions: dearer, since keys are put together for it.
    pub fn walk_positions(
        &self,
        txn: &mut Txn,
        index: u64,
        count: u64,
        to: End,
        mut f: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        self.walk_tails(txn, index, count, to, POSITION_AT, |position, element| {
            let position = position.try_into().map_err(|_| missing())?;
            Ok(f(u64::from_be_bytes(position), element))
        })
    }

    /// The same, with what follows the first `skipped` bytes of the elements' keys.
    fn walk_tails(
        &self,
        txn: &mut Txn,
        index: u64,
        count: u64,
        to: End,
        skipped: usize,
        mut f: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        if count == 0 {
            return Ok(());
        }
        let from_to = match to {
            End::Right => (index, index + (count - 1)),
            End::Left => (index - (count - 1), index),
        };
        if count <= SINGLE_READS_MAX
            && let (Place::At(low), Place::At(high)) =
                (self.layout.place(from_to.0), self.layout.place(from_to.1))
            && self.layout.is_even_between(low, high)
        {
            for step in 0..count {
                let position = match to {
                    End::Right => low + step * STRIDE,
                    End::Left => high - step * STRIDE,
                };
                let key = self.key(position);
                if self.element(txn, position, |element| f(&key[skipped..], element))??.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let position = self.position(txn, index)?;
        let mut iter = self.walk_from(txn, position, to)?.iter;
        let mut left = count;
        runs::for_each(&mut iter, to == End::Left, skipped, |tail, element| {
            left -= 1;
            if f(tail, element)?.is_break() || left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            txn.charge(1, element.len() as u64)?;
            Ok(ControlFlow::Continue(()))
        })?;
        // It stands on the one at which it was told to end.
        if iter.valid() { Ok(()) } else { Err(missing()) }
    }

    /// Stages the removal of the elements from position `from` to position `to`, both included.
    pub fn delete_range(&self, txn: &mut Txn, from: u64, to: u64) -> Result<(), Stop> {
        let mut end = self.key(to).to_vec();
        end.push(0);
        txn.delete_data_range(&self.key(from), &end)
    }

    /// Stages the removal of one element.
    pub fn delete(&self, txn: &mut Txn, position: u64) -> Result<(), Stop> {
        txn.delete_data(&self.key(position))
    }

    /// Stages an element.
    pub fn put(&self, txn: &mut Txn, position: u64, element: &[u8]) -> Result<(), Stop> {
        txn.store().read_ahead().forget_element(self.id, position);
        txn.put_data(&self.key(position), element)
    }

    /// Stages the layout.
    pub fn put_layout(&self, txn: &mut Txn, at: At<'_>, before: &Before, expire_ms: u64) -> Result<(), Stop> {
        let mut body = Vec::with_capacity(32);
        self.layout.put(&mut body);
        let head = Head { id: self.id, expire_ms, ..Head::plain(Kind::List) };
        txn.put(at, before, head, &[&body])
    }

    /// Stages elements at an end, each outside of the one before. False, and nothing is staged, if positions have run out.
    pub fn push<'v>(
        &mut self,
        txn: &mut Txn,
        end: End,
        elements: impl ExactSizeIterator<Item = &'v [u8]>,
    ) -> Result<bool, Stop> {
        let count = elements.len() as u64;
        let outermost = count.checked_mul(STRIDE).and_then(|span| match end {
            End::Left => self.layout.first.checked_sub(span),
            End::Right => self.layout.last.checked_add(span),
        });
        let Some(outermost) = outermost else { return Ok(false) };
        for element in elements {
            let position = match end {
                End::Left => &mut self.layout.first,
                End::Right => &mut self.layout.last,
            };
            *position = match end {
                End::Left => position.wrapping_sub(STRIDE),
                End::Right => position.wrapping_add(STRIDE),
            };
            let position = *position;
            self.put(txn, position, element)?;
        }
        debug_assert!(outermost == self.layout.first || outermost == self.layout.last);
        self.layout.count += count;
        Ok(true)
    }

    /// Stages the removal of `count` elements, fewer than all, from an end, handing them to `f` from outside in.
    pub fn pop(&mut self, txn: &mut Txn, end: End, count: u64, mut f: impl FnMut(&[u8])) -> Result<(), Stop> {
        let len = self.layout.count;
        debug_assert!(count < len);
        let (outermost, next) = match end {
            End::Left => (0, count),
            End::Right => (len - 1, len - 1 - count),
        };
        if count == 1
            && txn.reads_committed()
            && let (Place::At(position), Place::At(boundary)) =
                (self.layout.place(outermost), self.layout.place(next))
        {
            let element = self.pop_ahead(txn, end, position, outermost)?;
            f(&element);
            self.delete(txn, position)?;
            self.layout = self.cut(end, boundary, len - 1);
            return Ok(());
        }
        let mut positions = [0; SINGLE_DELETES_MAX as usize];
        let mut popped = 0;
        // One more than is popped: that one is the new end.
        let mut boundary = None;
        let old = *self;
        old.walk_positions(txn, outermost, count, end.opposite(), |position, element| {
            f(element);
            if let Some(place) = positions.get_mut(popped) {
                *place = position;
            }
            popped += 1;
            ControlFlow::Continue(())
        })?;
        if let Place::At(position) = self.layout.place(next) {
            boundary = Some(position);
        }
        let boundary = match boundary {
            Some(position) => position,
            None => {
                // The popped ones are still there for a walk: it begins on the last of them, if that is known.
                match (count <= SINGLE_DELETES_MAX, positions.get(popped.wrapping_sub(1))) {
                    (true, Some(&last)) => {
                        let mut walk = self.walk_from(txn, last, end.opposite())?;
                        walk.advance(txn)?;
                        walk.standing().map(|(position, _)| position).ok_or_else(missing)?
                    }
                    _ => self.position(txn, next)?,
                }
            }
        };
        if count <= SINGLE_DELETES_MAX {
            for &position in positions.iter().take(popped) {
                self.delete(txn, position)?;
            }
        } else {
            match end {
                End::Left => self.delete_range(txn, self.layout.first, boundary - 1)?,
                End::Right => self.delete_range(txn, boundary + 1, self.layout.last)?,
            }
        }
        self.layout = self.cut(end, boundary, len - count);
        Ok(())
    }

    fn cut(&self, end: End, boundary: u64, count: u64) -> Layout {
        match end {
            End::Left => self.layout.cut(boundary, self.layout.last, count),
            End::Right => self.layout.cut(self.layout.first, boundary, count),
        }
    }

    /// The element at an end, to be popped. From the second pop on those behind it are read with it.
    fn pop_ahead(&self, txn: &mut Txn, end: End, position: u64, index: u64) -> Result<Element, Stop> {
        let list_end = (self.id, end == End::Right);
        match txn.store().read_ahead().take_element(list_end, position) {
            AtEnd::Element(element) => {
                // As reading it would.
                txn.charge(1, element.len() as u64)?;
                txn.mark_read();
                Ok(element)
            }
            AtEnd::Unknown => {
                let element = self.element(txn, position, Element::from_slice)?;
                if element.len() <= ELEMENT_BYTES_MAX {
                    txn.store().read_ahead().leave_elements(list_end, std::iter::empty());
                }
                Ok(element)
            }
            AtEnd::Popped => {
                let ahead = if txn.mode() == Mode::Pool { AHEAD_POOL } else { AHEAD_INLINE };
                let mut elements = VecDeque::with_capacity(ahead + 1);
                let count = self.layout.count.min(ahead as u64 + 1);
                self.walk_positions(txn, index, count, end.opposite(), |position, element| {
                    elements.push_back((position, Element::from_slice(element)));
                    match element.len() <= ELEMENT_BYTES_MAX {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
                let (_, element) = elements.pop_front().ok_or_else(missing)?;
                txn.store().read_ahead().leave_elements(list_end, elements.into_iter());
                Ok(element)
            }
        }
    }

    /// Stages an element between two neighbours. False, and nothing is staged, if there is no room at all.
    pub fn insert_between(&mut self, txn: &mut Txn, a: u64, b: u64, element: &[u8]) -> Result<bool, Stop> {
        if b - a < 2 {
            return self.make_room(txn, a, b, element);
        }
        self.put(txn, a + (b - a) / 2, element)?;
        self.layout = self.layout.roughened(a, b);
        self.layout.count += 1;
        Ok(true)
    }

    /// Spreads the neighbourhood of two elements without a gap between them evenly, with a new element between the two.
    ///
    /// The neighbourhood is the smallest aligned window of positions that is sparse enough for its size: the larger a window, the
    /// sparser it has to be (`count <= (2 / 1.4)^bits`), so that wherever insertions go, each moves O(log n) elements on average.
    fn make_room(&mut self, txn: &mut Txn, a: u64, b: u64, element: &[u8]) -> Result<bool, Stop> {
        let mut down = self.walk_from(txn, a, End::Left)?;
        let mut up = self.walk_from(txn, b, End::Right)?;
        let mut below: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut above: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut found = None;
        for bits in 4..63u32 {
            let width = 1u64 << bits;
            let low = a & !(width - 1);
            let high = low | (width - 1);
            while let Some((position, value)) = down.standing().filter(|(position, _)| *position >= low) {
                below.push((position, value.to_vec()));
                down.advance(txn)?;
            }
            while let Some((position, value)) = up.standing().filter(|(position, _)| *position <= high) {
                above.push((position, value.to_vec()));
                up.advance(txn)?;
            }
            let count = below.len() + above.len() + 1;
            let spacing = width / (count as u64 + 1);
            let sparse = spacing >= 2 && count as f64 <= (2.0f64 / 1.4).powi(bits as i32);
            if sparse && (count >= MOVED_MIN || spacing >= STRIDE / 2) {
                found = Some((low, spacing));
                break;
            }
        }
        let Some((low, spacing)) = found else { return Ok(false) };
        for (position, _) in below.iter().chain(&above) {
            self.delete(txn, *position)?;
        }
        let (mut first, mut last) = (None, low);
        let values = below.iter().rev().map(|(_, value)| &value[..]).chain([element]);
        for (index, value) in values.chain(above.iter().map(|(_, value)| &value[..])).enumerate() {
            let position = low + (index as u64 + 1) * spacing;
            self.put(txn, position, value)?;
            first.get_or_insert(position);
            last = position;
        }
        let first = first.unwrap_or(low);
        let layout = self.layout;
        let (before, behind) = (down.standing().map(|(at, _)| at), up.standing().map(|(at, _)| at));
        let (rough_low, rough_high) = layout.rough.unwrap_or((u64::MAX, 0));
        self.layout = Layout {
            count: layout.count + 1,
            first: if before.is_some() { layout.first } else { first },
            last: if behind.is_some() { layout.last } else { last },
            rough: Some((
                before.map_or(first, |position| position.min(rough_low)),
                behind.map_or(last, |position| position.max(rough_high)),
            )),
        };
        Ok(true)
    }
}

/// A walk over a large list's elements. Does not see what is staged.
#[derive(Debug)]
pub struct Walk {
    iter: Iter,
    to: End,
}

impl Walk {
    /// Position and element here; `None` past the end.
    pub fn standing(&self) -> Option<(u64, &[u8])> {
        if !self.iter.valid() {
            return None;
        }
        let position = self.iter.key().last_chunk::<8>()?;
        Some((u64::from_be_bytes(*position), self.iter.value()))
    }

    /// On to the next.
    pub fn advance(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        if !self.iter.valid() {
            return Ok(());
        }
        // Whoever steps on has looked at the element here.
        self.charge(txn)?;
        self.step()
    }

    fn step(&mut self) -> Result<(), Stop> {
        match self.to {
            End::Right => self.iter.next()?,
            End::Left => self.iter.prev()?,
        }
        Ok(())
    }

    fn charge(&self, txn: &mut Txn) -> Result<(), Stop> {
        let bytes = if self.iter.valid() { self.iter.value().len() } else { 0 };
        txn.charge(1, bytes as u64)
    }
}

/// Stages a whole list in place of whatever is there; without elements the key goes.
pub fn store<'v>(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    elements: impl ExactSizeIterator<Item = &'v [u8]> + Clone,
    expire_ms: u64,
) -> Result<(), Stop> {
    if elements.len() == 0 {
        return txn.delete(at, before);
    }
    let bytes =
        elements.clone().map(|element| varint_len(element.len() as u64) + element.len()).sum::<usize>();
    if !txn.store().packed().allow(elements.len(), bytes) {
        let mut writer = Writer::begin(txn, at.space, elements.len() as u64, Some(bytes as u64))?;
        writer.put_all(txn, elements)?;
        return writer.finish(txn, at, before, expire_ms);
    }
    let mut body = Vec::with_capacity(bytes);
    elements.for_each(|element| put_item(&mut body, element));
    txn.put(at, before, Head { expire_ms, ..Head::plain(Kind::List) }, &[&body])
}

/// Writes a large list under a new id, element by element.
#[derive(Debug)]
pub struct Writer {
    builder: Builder,
    large: Large,
    written: u64,
}

impl Writer {
    /// Begins a list of exactly `count` elements, which are `bytes` long together, if that is known.
    pub fn begin(txn: &mut Txn, space: Space, count: u64, bytes: Option<u64>) -> Result<Writer, Stop> {
        let layout = Layout::centred(count).ok_or_else(|| damaged("keyspace meta", "length of a list"))?;
        let bytes = bytes.unwrap_or_else(|| count.saturating_mul(ELEMENT_BYTES_GUESS));
        let builder = txn.builder(space, bytes)?;
        let large = Large { space, id: builder.id(), layout };
        Ok(Writer { builder, large, written: 0 })
    }

    /// Adds the next element.
    pub fn put(&mut self, txn: &mut Txn, element: &[u8]) -> Result<(), Stop> {
        let position = self.large.layout.first + self.written * STRIDE;
        self.written += 1;
        self.builder.put(txn, &self.large.key(position), element)
    }

    /// Adds elements.
    pub fn put_all<'v>(
        &mut self,
        txn: &mut Txn,
        elements: impl Iterator<Item = &'v [u8]>,
    ) -> Result<(), Stop> {
        for element in elements {
            self.put(txn, element)?;
        }
        Ok(())
    }

    /// Adds `count` elements of another large list, from `index` on.
    pub fn put_walk(&mut self, txn: &mut Txn, large: &Large, index: u64, count: u64) -> Result<(), Stop> {
        if count == 0 {
            return Ok(());
        }
        let position = large.position(txn, index)?;
        let mut walk = large.walk_from(txn, position, End::Right)?;
        for left in (0..count).rev() {
            let (_, element) = walk.standing().ok_or_else(missing)?;
            self.put(txn, element)?;
            if left > 0 {
                walk.advance(txn)?;
            }
        }
        Ok(())
    }

    /// Stages the record that holds the list.
    pub fn finish(self, txn: &mut Txn, at: At<'_>, before: &Before, expire_ms: u64) -> Result<(), Stop> {
        debug_assert_eq!(self.written, self.large.layout.count);
        self.builder.link(txn, at)?;
        self.large.put_layout(txn, at, before, expire_ms)
    }
}
