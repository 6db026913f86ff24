//! Changing large sorted sets: what becomes of fences, counts and edges.
//!
//! A command hands all places that come and go to a [`Recount`], in order, and then lets it finish: counts move,
//! a segment that got too full is cut, one that got too empty joins the one before it, and the edges move to the first and
//! last element. All of it is staged beside the elements, so one batch holds elements and counts, and no reader sees one
//! without the other. The invariants are those of `sorted_set_large.rs`.
//!
//! Growing at an end cuts off nothing that has to be walked: a full segment at the end is left full and a fence put
//! between it and what comes.

use crate::base::stop::Stop;
use crate::encoding::sorted_set::{SCORE_BYTES, Summary, edge, put_fence_key};
use crate::store::fence_cache::FenceChange;
use crate::store::txn::Txn;
use crate::types::sorted_set_large::{Large, Steps, damage};
use haypile_lsm::base::coding::put_varint;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a command takes out of a large sorted set, in places.
#[derive(Clone, Copy, Debug)]
pub enum Removed<'a> {
    /// These, sorted.
    Places(&'a [Vec<u8>]),
    /// All from the first of these to the second.
    Between(&'a [u8], &'a [u8]),
}

impl Removed<'_> {
    fn contains(&self, place: &[u8]) -> bool {
        match self {
            Removed::Places(places) => places.binary_search_by(|own| own.as_slice().cmp(place)).is_ok(),
            Removed::Between(first, last) => (*first..=*last).contains(&place),
        }
    }

    fn first(&self) -> Option<&[u8]> {
        match self {
            Removed::Places(places) => places.first().map(Vec::as_slice),
            Removed::Between(first, _) => Some(first),
        }
    }

    fn last(&self) -> Option<&[u8]> {
        match self {
            Removed::Places(places) => places.last().map(Vec::as_slice),
            Removed::Between(_, last) => Some(last),
        }
    }
}

/// A segment that changes: what is stored of it, and what will be. `None` where there is no fence.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    old: Option<u64>,
    new: Option<u64>,
}

/// Where a fence is looked for, seen from a place.
#[derive(Clone, Copy)]
enum Side {
    AtOrBefore,
    Before,
    Behind,
}

/// Where the stored fences are looked up.
#[derive(Debug)]
enum Stored {
    /// There are none.
    None,
    /// In memory.
    Memory,
    /// In their records.
    Records(Box<Steps>),
}

/// The changes of one command to fences, head and edges.
#[derive(Debug)]
pub struct Recount {
    large: Large,
    count: u64,
    /// Segments that change, by the fence they begin at; the head by nothing.
    segments: BTreeMap<Vec<u8>, Segment>,
    stored: Stored,
    /// Where the last change was noted: segment, and where the next one begins (known if it is `Some`).
    noted: Option<(Vec<u8>, Option<Bound<Vec<u8>>>)>,
    change: FenceChange,
    elements_max: u64,
}

const HEAD: &[u8] = &[];

impl Recount {
    /// Begins with a set as it is stored.
    pub fn new(txn: &mut Txn, large: Large) -> Result<Recount, Stop> {
        let head = large.summary.head;
        let stored = match large.summary.has_fences() {
            false => Stored::None,
            true if large.is_at_hand(txn)? => Stored::Memory,
            true => Stored::Records(Box::new(large.fences(txn)?)),
        };
        Ok(Recount {
            count: large.summary.count,
            segments: BTreeMap::from([(HEAD.to_vec(), Segment { old: Some(head), new: Some(head) })]),
            stored,
            noted: None,
            change: FenceChange { id: large.id, ..FenceChange::default() },
            elements_max: txn.store().fence_elements_max().max(2),
            large,
        })
    }

    /// Elements, with what was noted so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Notes that an element comes (1) or goes (-1). Many of them in order of their places are cheaper.
    pub fn note(&mut self, txn: &mut Txn, place: &[u8], change: i8) -> Result<(), Stop> {
        let start = self.segment_at(txn, place)?;
        let segment = self.segments.get_mut(&start);
        let new = segment.and_then(|segment| segment.new.as_mut()).ok_or_else(|| damage("fences"))?;
        let change_wide = i64::from(change);
        *new = new.checked_add_signed(change_wide).ok_or_else(|| damage("counts of fences"))?;
        self.count =
            self.count.checked_add_signed(change_wide).ok_or_else(|| damage("count of a sorted set"))?;
        self.change.note(place, change);
        Ok(())
    }

    /// The stored segment that `place` lies in, now among those that change.
    fn segment_at(&mut self, txn: &mut Txn, place: &[u8]) -> Result<Vec<u8>, Stop> {
        if matches!(self.stored, Stored::None) {
            return Ok(HEAD.to_vec());
        }
        if let Some((start, end)) = self.noted.take()
            && place >= start.as_slice()
        {
            let end = match end {
                Some(end) => end,
                None => self
                    .stored_near(txn, &start, Side::Behind)?
                    .map_or(Bound::Unbounded, |(end, _)| Bound::Excluded(end)),
            };
            let is_inside = !matches!(&end, Bound::Excluded(end) if place >= end.as_slice());
            if is_inside {
                self.noted = Some((start.clone(), Some(end)));
                return Ok(start);
            }
        }
        let start = match self.stored_near(txn, place, Side::AtOrBefore)? {
            None => HEAD.to_vec(),
            Some((start, count)) => {
                let segment = Segment { old: Some(count), new: Some(count) };
                self.segments.entry(start.clone()).or_insert(segment);
                start
            }
        };
        self.noted = Some((start.clone(), None));
        Ok(start)
    }

    /// From here on in the records: what was in memory has been dropped.
    #[cold]
    fn records(&mut self, txn: &mut Txn) -> Result<&mut Steps, Stop> {
        if !matches!(self.stored, Stored::Records(_)) {
            self.stored = Stored::Records(Box::new(self.large.fences(txn)?));
        }
        match &mut self.stored {
            Stored::Records(steps) => Ok(steps),
            _ => Err(damage("fences")),
        }
    }

    /// The stored fence nearest to `place` on a side, and its count. `None` for the head, as below.
    fn stored_near(
        &mut self,
        txn: &mut Txn,
        place: &[u8],
        side: Side,
    ) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let (cache, id) = (txn.store().fence_cache(), self.large.id);
        let known = match (&self.stored, side) {
            (Stored::None, _) => Some(None),
            (Stored::Memory, Side::AtOrBefore) => cache.at_or_before(id, place),
            (Stored::Memory, Side::Before) => cache.before(id, place),
            (Stored::Memory, Side::Behind) => cache.behind(id, place),
            (Stored::Records(_), _) => None,
        };
        if let Some(known) = known {
            return Ok(known.filter(|(start, _)| !start.is_empty()));
        }
        let steps = self.records(txn)?;
        match side {
            Side::AtOrBefore => steps.seek_back_to(txn, place)?,
            Side::Before => steps.seek_before(txn, place)?,
            Side::Behind => steps.seek_behind(txn, place)?,
        }
        Ok(steps.fence()?.map(|(start, count)| (start.to_vec(), count)))
    }

    /// Stages the changed fences and answers what the set's record is to hold. `added` are the places that come, sorted.
    /// Not for a set that lost all its elements.
    pub fn finish(mut self, txn: &mut Txn, added: &[Vec<u8>], removed: Removed<'_>) -> Result<Summary, Stop> {
        self.cut_and_join(txn, added, removed)?;
        let (first, last) = self.edges(txn, added, removed)?;
        let mut head = 0;
        let mut key = Vec::new();
        let mut value = Vec::new();
        for (start, segment) in self.segments {
            if segment.old == segment.new {
                head = if start.is_empty() { segment.new.unwrap_or(0) } else { head };
                continue;
            }
            if start.is_empty() {
                head = segment.new.unwrap_or(0);
            } else {
                put_fence_key(&mut key, self.large.space, self.large.id, &start);
                match segment.new {
                    Some(new) => {
                        value.clear();
                        put_varint(&mut value, new);
                        txn.put_data(&key, &value)?;
                    }
                    None => txn.delete_data(&key)?,
                }
            }
            self.change.segments.push((start, segment.new));
        }
        let longest = added.iter().map(|place| (place.len() - SCORE_BYTES) as u64).max().unwrap_or(0);
        let longest = longest.max(self.large.summary.longest);
        let summary = Summary { count: self.count, longest, head, first, last };
        // What a damaged database counts wrongly is found here rather than written on.
        if head < 1 || head > summary.count {
            return Err(damage("counts of fences"));
        }
        txn.change_fences(self.change);
        Ok(summary)
    }

    /// Cuts segments that got too full, lets go of empty ones, joins small ones.
    fn cut_and_join(&mut self, txn: &mut Txn, added: &[Vec<u8>], removed: Removed<'_>) -> Result<(), Stop> {
        let most = self.elements_max;
        let (small, joined) = (most / 4, most - most / 4);
        let changed: Vec<(Vec<u8>, u64)> = self
            .segments
            .iter()
            .filter_map(|(start, segment)| Some((start.clone(), segment.new?)))
            .filter(|(start, count)| *count > most || !start.is_empty() && *count < small.max(1))
            .collect();
        for (start, count) in changed {
            if count > most {
                self.cut(txn, &start, count, added, removed)?;
            } else if count == 0 && !start.is_empty() {
                self.set(&start, None);
            } else if count < small && !start.is_empty() {
                let (before, before_count) = self.live_before(txn, &start)?;
                if before_count + count <= joined {
                    self.set(&before, Some(before_count + count));
                    self.set(&start, None);
                }
            }
        }
        // The head is never empty: it takes in what is behind it.
        while let Some(count) = self.new_count(HEAD).filter(|count| *count < small.max(1)) {
            let Some((next, next_count)) = self.live_behind(txn, HEAD)? else { break };
            if count != 0 && count + next_count > joined {
                break;
            }
            self.set(HEAD, Some(count + next_count));
            self.set(&next, None);
        }
        Ok(())
    }

    fn new_count(&self, start: &[u8]) -> Option<u64> {
        self.segments.get(start)?.new
    }

    /// Of a segment that is not among those that change, this is its first change: it is new or was loaded before.
    fn set(&mut self, start: &[u8], count: Option<u64>) {
        self.segments.entry(start.to_vec()).or_default().new = count;
    }

    /// The last segment that begins before `start`, loaded, and its count. There is one: the head.
    fn live_before(&mut self, txn: &mut Txn, start: &[u8]) -> Result<(Vec<u8>, u64), Stop> {
        let before = (Bound::Unbounded, Bound::Excluded(start));
        let own = self
            .segments
            .range::<[u8], _>(before)
            .rev()
            .find_map(|(start, segment)| Some((start.clone(), segment.new?)))
            .ok_or_else(|| damage("fences"))?;
        let mut from = start.to_vec();
        while let Some((place, count)) =
            self.stored_near(txn, &from, Side::Before)?.filter(|(place, _)| *place > own.0)
        {
            if !self.segments.contains_key(&place) {
                self.segments.insert(place.clone(), Segment { old: Some(count), new: Some(count) });
                return Ok((place, count));
            }
            from = place;
        }
        Ok(own)
    }

    /// The first segment that begins behind `start`, loaded, and its count.
    fn live_behind(&mut self, txn: &mut Txn, start: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let behind = (Bound::Excluded(start), Bound::Unbounded);
        let own = self
            .segments
            .range::<[u8], _>(behind)
            .find_map(|(start, segment)| Some((start.clone(), segment.new?)));
        let mut from = start.to_vec();
        while let Some((place, count)) = self.stored_near(txn, &from, Side::Behind)? {
            if own.as_ref().is_some_and(|(own, _)| *own <= place) {
                break;
            }
            if !self.segments.contains_key(&place) {
                self.segments.insert(place.clone(), Segment { old: Some(count), new: Some(count) });
                return Ok(Some((place, count)));
            }
            from = place;
        }
        Ok(own)
    }

    /// Cuts the segment at `start`, which will have `count` elements.
    fn cut(
        &mut self,
        txn: &mut Txn,
        start: &[u8],
        count: u64,
        added: &[Vec<u8>],
        removed: Removed<'_>,
    ) -> Result<(), Stop> {
        let most = self.elements_max;
        let end = self.live_behind(txn, start)?.map(|(end, _)| end);
        let from = added.partition_point(|place| place.as_slice() < start);
        let to = end.as_ref().map_or(added.len(), |end| added.partition_point(|place| place < end));
        let own = added.get(from..to).unwrap_or_default();
        let kept = count.saturating_sub(own.len() as u64);
        let (Some(own_first), Some(own_last)) = (own.first(), own.last()) else {
            return Err(damage("counts of fences"));
        };
        let pieces = own.chunks(most as usize);
        if kept >= most / 2 && *own_first >= self.large.summary.end() {
            // All that comes stands behind all that was there.
            self.set(start, Some(kept));
            pieces.for_each(|piece| self.set(&piece[0], Some(piece.len() as u64)));
            return Ok(());
        }
        if kept >= most / 2 && start.is_empty() && *own_last < self.large.summary.first {
            // All that comes stands before all that was there.
            let old_first = self.large.summary.first.clone();
            self.set(&old_first, Some(kept));
            for (at, piece) in pieces.enumerate() {
                let start = if at == 0 { HEAD } else { piece[0].as_slice() };
                self.set(start, Some(piece.len() as u64));
            }
            return Ok(());
        }
        // A fence wherever a piece of half the size is full, over what stays and what comes merged.
        let parts = (count / (most / 2).max(1)).max(2);
        let boundary = |part: u64| count * part / parts;
        let is_at_end = start.is_empty() || end.is_none();
        if parts == 2
            && is_at_end
            && let Some(fence) =
                self.outermost_after(txn, !start.is_empty(), count, boundary(1), own, removed)?
        {
            self.set(start, Some(boundary(1)));
            self.set(&fence, Some(count - boundary(1)));
            return Ok(());
        }
        let mut stored = self.large.places(txn, Some(start), end.as_deref())?;
        stored.to_first(txn)?;
        let mut coming = own.iter().map(Vec::as_slice).peekable();
        let mut part = 1;
        let mut fences = Vec::new();
        for index in 0..count {
            if part == parts {
                break;
            }
            while stored.place().is_some_and(|place| removed.contains(place)) {
                stored.step(txn, false)?;
            }
            let is_fence = index == boundary(part);
            let place = match (stored.place(), coming.peek().copied()) {
                (Some(stored), Some(coming)) => stored.min(coming),
                (Some(place), None) | (None, Some(place)) => place,
                (None, None) => return Err(damage("counts of fences")),
            };
            if is_fence {
                fences.push(place.to_vec());
                part += 1;
            }
            if coming.peek().is_some_and(|coming| *coming == place) {
                coming.next();
            } else {
                stored.step(txn, false)?;
            }
        }
        self.set(start, Some(boundary(1)));
        for (part, fence) in (1..).zip(&fences) {
            self.set(fence, Some(boundary(part + 1) - boundary(part)));
        }
        Ok(())
    }

    /// The edge of what was there and stays, at an end from which something goes.
    fn end_staying(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        removed: Removed<'_>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        // Of a long row all that could be remembered goes.
        let is_short = !self.change.many;
        if is_short
            && let Some(place) =
                self.large.outermost_staying(txn, is_highest, |place| !removed.contains(place))?
        {
            return Ok(Some(edge(&place).to_vec()));
        }
        let mut steps = self.large.places(txn, None, None)?;
        steps.to_end(txn, is_highest)?;
        if let Removed::Between(first, last) = removed
            && steps.place().is_some_and(|place| removed.contains(place))
        {
            match is_highest {
                false => steps.seek_behind(txn, last)?,
                true => steps.seek_before(txn, first)?,
            }
        }
        while steps.place().is_some_and(|place| removed.contains(place)) {
            steps.step(txn, is_highest)?;
        }
        Ok(steps.place().map(|place| edge(place).to_vec()))
    }

    /// Of a segment at an end, which will have `count` elements, the one with `before` others before it, if the outermost elements tell.
    fn outermost_after(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        count: u64,
        before: u64,
        own: &[Vec<u8>],
        removed: Removed<'_>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let Removed::Places(going) = removed else { return Ok(None) };
        let inwards = if is_highest { count - 1 - before } else { before } as usize;
        let Some(mut places) = self.large.outermost(txn, is_highest, inwards + 1 + going.len())? else {
            return Ok(None);
        };
        places.retain(|place| !removed.contains(place));
        places.extend_from_slice(own);
        places.sort_unstable();
        if is_highest {
            places.reverse();
        }
        Ok((places.len() > inwards).then(|| places.swap_remove(inwards)))
    }

    /// The edges when all is done.
    fn edges(
        &self,
        txn: &mut Txn,
        added: &[Vec<u8>],
        removed: Removed<'_>,
    ) -> Result<(Vec<u8>, Vec<u8>), Stop> {
        let summary = &self.large.summary;
        // Of the old elements, the first that stays.
        let mut first = Some(summary.first.clone());
        // A cut edge may be that of several elements, so an equal one does not tell that the first one goes.
        if removed.first().is_some_and(|place| edge(place) == summary.first) {
            first = self.end_staying(txn, false, removed)?;
        }
        let mut last = Some(summary.last.clone());
        if removed.last().is_some_and(|place| edge(place) == summary.last) {
            last = self.end_staying(txn, true, removed)?;
        }
        let coming_first = added.first().map(|place| edge(place).to_vec());
        let coming_last = added.last().map(|place| edge(place).to_vec());
        let first = first.into_iter().chain(coming_first).min();
        let last = last.into_iter().chain(coming_last).max();
        first.zip(last).ok_or_else(|| damage("count of a sorted set"))
    }
}

/// The fences of a set whose places are given in order: the head, and each fence and its count.
#[derive(Debug, Default)]
pub struct Fences {
    /// Elements before the first fence.
    pub head: u64,
    /// Fences and counts.
    pub fences: Vec<(Vec<u8>, u64)>,
}

impl Fences {
    /// Fences for so many elements, each place asked for by its number. `most` may lie between two of them.
    pub fn over(most: u64, count: usize, place: impl Fn(usize) -> Vec<u8>) -> Fences {
        let most = most.max(2);
        if count as u64 <= most {
            return Fences { head: count as u64, fences: Vec::new() };
        }
        // Three quarters full, so that neither growing nor shrinking a little changes them.
        let piece = (most - most / 4) as usize;
        let rest = (piece..count).step_by(piece);
        let fences = rest.map(|start| (place(start), piece.min(count - start) as u64)).collect();
        Fences { head: piece as u64, fences }
    }
}
