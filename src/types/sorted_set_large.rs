//! Large sorted sets: elements under an id, cut by counted fences (drawn in `encoding/sorted_set.rs`).
//!
//! *Reading.* What the n-th element is, and how many stand before a place, is a search in the fences, which are kept in memory
//! (`store/fence_cache.rs`), and then a walk over at most one segment. Where they are not known as of the read point (an earlier command of
//! the same EXEC changed them, a writer is just committing), the records themselves are walked. Every walk over elements is
//! bounded by the edges, so it begins at an element that is there.
//!
//! *Changing* is `sorted_set_recount.rs`. An end of a set is read through what is known of it in memory (`store/end_places.rs`).
//!
//! Invariants, for a set with elements: no segment is empty; all fences lie behind the first edge and not behind the last
//! element; the head and the fences sum up to the count.

use crate::base::stop::Stop;
use crate::encoding::data::{PREFIX_BYTES, ZSET_FENCE, ZSET_MEMBER, ZSET_SCORE, put_element_prefix};
use crate::encoding::meta::{Head, Space, damaged};
use crate::encoding::sorted_set::{SCORE_BYTES, Summary, edge, put_member_key, read_fence, split_place};
use crate::store::end_places::{ASKED_MAX, PLACE_BYTES_MAX, READ_INLINE, ReadOn};
use crate::store::fence_cache::{FenceList, Found, LATEST};
use crate::store::txn::{Mode, Txn};
use crate::types::runs;
use haypile_lsm::Iter;
use std::ops::ControlFlow;

/// A place this close to an end is walked to from there, without a look at the fences.
const NEAR: u64 = 64;

/// An element, fence or count of a sorted set that contradicts the others.
pub fn damage(what: &str) -> Stop {
    damaged("keyspace data", what).into()
}

/// An iterator over records of one kind, without what stands in front of their places.
#[derive(Debug)]
pub struct Steps {
    iter: Iter,
    /// Space, id, kind and perhaps level, and behind it what is sought.
    key: Vec<u8>,
    prefix: usize,
}

impl Steps {
    /// The places (or members) of `kind` in `from..to`, standing nowhere.
    fn open(txn: &mut Txn, prefix: Vec<u8>, from: &[u8], to: &[u8]) -> Result<Steps, Stop> {
        let (lower, upper) = ([&prefix[..], from].concat(), [&prefix[..], to].concat());
        let keyspace = txn.store().keyspaces().data;
        let iter = txn.iter(keyspace, Some(lower), Some(upper))?;
        Ok(Steps { iter, prefix: prefix.len(), key: prefix })
    }

    /// The place it stands on.
    pub fn place(&self) -> Option<&[u8]> {
        if self.iter.valid() { self.iter.key().get(self.prefix..) } else { None }
    }

    /// Score and member of the place it stands on. `None` at the end.
    pub fn element(&self) -> Result<Option<(f64, &[u8])>, Stop> {
        match self.place() {
            None => Ok(None),
            Some(place) => Ok(Some(split_place(place).ok_or_else(|| damage("place of a sorted set"))?)),
        }
    }

    /// The value here; requires a place.
    pub fn value(&self) -> &[u8] {
        self.iter.value()
    }

    /// Place and count of the fence it stands on.
    pub fn fence(&self) -> Result<Option<(&[u8], u64)>, Stop> {
        let Some(place) = self.place() else { return Ok(None) };
        let count = read_fence(self.iter.value()).filter(|count| *count > 0);
        Ok(Some((place, count.ok_or_else(|| damage("fence of a sorted set"))?)))
    }

    fn charge(&self, txn: &mut Txn) -> Result<(), Stop> {
        let bytes = if self.iter.valid() { self.iter.key().len() } else { 0 };
        txn.charge(1, bytes as u64)
    }

    /// Goes to the first one.
    pub fn to_first(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        self.iter.seek_to_first()?;
        self.charge(txn)
    }

    /// Goes to the last one.
    pub fn to_last(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        self.iter.seek_to_last()?;
        self.charge(txn)
    }

    /// Goes to where a walk begins: to the first one, in reverse to the last.
    pub fn to_end(&mut self, txn: &mut Txn, reverse: bool) -> Result<(), Stop> {
        if reverse { self.to_last(txn) } else { self.to_first(txn) }
    }

    /// Goes to the first one at or behind `place`.
    pub fn seek(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.iter.seek(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the first one behind `place`.
    pub fn seek_behind(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.key.push(0);
        self.iter.seek(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the last one before `place`.
    pub fn seek_before(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.iter.seek_before(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the last one at or before `place`.
    pub fn seek_back_to(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.key.push(0);
        self.iter.seek_before(&self.key)?;
        self.charge(txn)
    }

    /// Goes on in one of both directions; requires a place.
    pub fn step(&mut self, txn: &mut Txn, reverse: bool) -> Result<(), Stop> {
        match reverse {
            false => self.iter.next()?,
            true => self.iter.prev()?,
        }
        self.charge(txn)
    }

    /// Hands the elements from the one here on to `f`, forward or in reverse, until it breaks.
    pub fn for_each(
        &mut self,
        txn: &mut Txn,
        reverse: bool,
        mut f: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        self.for_each_place(txn, reverse, |place| {
            let (score, member) = split_place(place).ok_or_else(|| damage("place of a sorted set"))?;
            Ok(f(score, member))
        })
    }

    /// The same, without scores: cheaper, since what lies before the members is not even put together. Requires that it stands on places. One
    /// that is too short to have a score goes for an empty member; `haypile check` tells of it.
    pub fn for_each_member(
        &mut self,
        txn: &mut Txn,
        reverse: bool,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        self.for_each_tail(txn, reverse, SCORE_BYTES, |member| Ok(f(member)))
    }

    /// The same, with places as they are.
    fn for_each_place(
        &mut self,
        txn: &mut Txn,
        reverse: bool,
        f: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        self.for_each_tail(txn, reverse, 0, f)
    }

    /// The same, with what follows the first `skipped` bytes of places.
    fn for_each_tail(
        &mut self,
        txn: &mut Txn,
        reverse: bool,
        skipped: usize,
        mut f: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        let skipped = self.prefix + skipped;
        runs::for_each(&mut self.iter, reverse, skipped, |tail, _| {
            if f(tail)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            txn.charge(1, (skipped + tail.len()) as u64)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Takes so many steps, or to the end.
    pub fn skip(&mut self, txn: &mut Txn, count: u64, reverse: bool) -> Result<(), Stop> {
        for _ in 0..count {
            if self.place().is_none() {
                break;
            }
            self.step(txn, reverse)?;
        }
        Ok(())
    }
}

/// A large sorted set.
#[derive(Clone, Debug)]
pub struct Large {
    /// Where.
    pub space: Space,
    /// Under which id.
    pub id: u64,
    /// What its record says.
    pub summary: Summary,
}

impl Large {
    /// From the record.
    pub fn decode(space: Space, head: &Head, body: &[u8]) -> Result<Large, Stop> {
        let summary =
            Summary::decode(body).ok_or_else(|| damaged("keyspace meta", "summary of a sorted set"))?;
        Ok(Large { space, id: head.id, summary })
    }

    /// The places in `from..to`; without a bound, from or to the edge.
    pub fn places(&self, txn: &mut Txn, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<Steps, Stop> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES + 1);
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_SCORE);
        let end = self.summary.end();
        let from = from.map_or(&self.summary.first[..], |from| from.max(&self.summary.first));
        let to = to.map_or(&end[..], |to| to.min(&end));
        Steps::open(txn, prefix, from, to.max(from))
    }

    /// The members from `from` on, in their own order; the value of each is its score.
    pub fn members(&self, txn: &mut Txn, from: &[u8]) -> Result<Steps, Stop> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES + 1);
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_MEMBER);
        let mut upper = Vec::with_capacity(PREFIX_BYTES + 1);
        put_element_prefix(&mut upper, self.space, self.id, ZSET_MEMBER + 1);
        let mut lower = prefix.clone();
        lower.extend_from_slice(from);
        let keyspace = txn.store().keyspaces().data;
        let iter = txn.iter(keyspace, Some(lower), Some(upper))?;
        Ok(Steps { iter, prefix: prefix.len(), key: prefix })
    }

    /// Its fences, standing nowhere.
    pub fn fences(&self, txn: &mut Txn) -> Result<Steps, Stop> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES + 1);
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_FENCE);
        Steps::open(txn, prefix, &self.summary.first, &self.summary.end())
    }

    /// The score of a member.
    pub fn score(&self, txn: &mut Txn, member: &[u8]) -> Result<Option<f64>, Stop> {
        let mut key = Vec::with_capacity(PREFIX_BYTES + 1 + member.len());
        put_member_key(&mut key, self.space, self.id, member);
        txn.view_data(&key, |value| value.map(read_score_value).transpose())?
    }

    /// How many elements stand before `place`.
    pub fn count_before(&self, txn: &mut Txn, place: &[u8]) -> Result<u64, Stop> {
        let Found { mut before, start } = self.segment_of_place(txn, place)?;
        let mut steps = self.places(txn, Some(&start), Some(place))?;
        steps.to_first(txn)?;
        while steps.place().is_some() {
            before += 1;
            steps.step(txn, false)?;
        }
        Ok(before)
    }

    /// Steps in `from..to` that stand on the element with so many before it; at the end if that one lies outside.
    pub fn at_rank(
        &self,
        txn: &mut Txn,
        rank: u64,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<Steps, Stop> {
        let mut steps = self.places(txn, from, to)?;
        let behind = self.summary.count.saturating_sub(rank + 1);
        if rank < NEAR && from.is_none() {
            steps.to_first(txn)?;
            steps.skip(txn, rank, false)?;
        } else if behind < NEAR && to.is_none() {
            steps.to_last(txn)?;
            steps.skip(txn, behind, true)?;
        } else {
            let Found { before, start } = self.segment_of_rank(txn, rank)?;
            match from.filter(|from| start.as_slice() < *from) {
                None => {
                    steps.seek(txn, &start)?;
                    steps.skip(txn, rank - before, false)?;
                }
                Some(from) => match rank.checked_sub(self.count_before(txn, from)?) {
                    Some(skipped) => {
                        steps.to_first(txn)?;
                        steps.skip(txn, skipped, false)?;
                    }
                    None => return self.places(txn, Some(from), Some(from)),
                },
            }
        }
        Ok(steps)
    }

    /// The `count` outermost places at an end, from outside in, or all there are. For a writer, with the key's lock; `None` within an EXEC,
    /// or if they are too many to be kept in mind.
    pub fn outermost(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        count: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Stop> {
        if !txn.reads_committed() || count > ASKED_MAX {
            return Ok(None);
        }
        let known = txn.store().end_places().outermost((self.id, is_highest), count);
        match known {
            Ok(places) => {
                // As reading them would.
                txn.charge(count as u32, places.iter().map(|place| place.len() as u64).sum())?;
                txn.mark_read();
                Ok(Some(places))
            }
            Err((mut places, read_on)) => {
                let least = count.saturating_sub(places.len());
                places.extend(self.read_end(txn, is_highest, &read_on, least)?);
                places.truncate(count);
                Ok(Some(places))
            }
        }
    }

    /// The outermost place at an end for which `stays` holds. Likewise; `None` also if it is not among the outermost.
    pub fn outermost_staying(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        stays: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, Stop> {
        if !txn.reads_committed() {
            return Ok(None);
        }
        let known = txn.store().end_places().find((self.id, is_highest), &stays);
        match known {
            Ok(place) => {
                txn.charge(1, place.len() as u64)?;
                txn.mark_read();
                Ok(Some(place))
            }
            Err(read_on) => {
                let places = self.read_end(txn, is_highest, &read_on, 1)?;
                Ok(places.into_iter().find(|place| stays(place)))
            }
        }
    }

    /// Reads the places at an end, from where they are not known on inwards: at least so many and, as long as they are short, as many
    /// as are worth it.
    fn read_end(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        read_on: &ReadOn,
        least: usize,
    ) -> Result<Vec<Vec<u8>>, Stop> {
        let mut steps = self.places(txn, None, None)?;
        match (&read_on.behind, is_highest) {
            (None, _) => steps.to_end(txn, is_highest)?,
            (Some(known), false) => steps.seek_behind(txn, known)?,
            (Some(known), true) => steps.seek_before(txn, known)?,
        }
        let worth = if txn.mode() == Mode::Pool { read_on.worth } else { read_on.worth.min(READ_INLINE) };
        let mut places: Vec<Vec<u8>> = Vec::with_capacity(worth.max(least));
        steps.for_each_place(txn, is_highest, |place| {
            places.push(place.to_vec());
            let is_enough = places.len() >= worth || place.len() > PLACE_BYTES_MAX;
            Ok(if is_enough && places.len() >= least {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        txn.store().end_places().leave((self.id, is_highest), read_on, places.iter().map(Vec::as_slice));
        Ok(places)
    }

    /// The segment that `place` lies in.
    fn segment_of_place(&self, txn: &mut Txn, place: &[u8]) -> Result<Found, Stop> {
        if !self.summary.has_fences() {
            return Ok(Found::default());
        }
        if self.may_serve(txn)? {
            let cache = txn.store().fence_cache();
            let changes = txn.staged_elements(self.id);
            let staged = |start: &[u8]| changes.map_or(0, |changes| changes.before(start));
            if let Some(found) = cache.find_place(self.id, txn.read_sequence(), place, staged) {
                return Ok(found);
            }
        }
        let mut found = Found::default();
        let mut sum = self.summary.head;
        let mut fences = self.fences(txn)?;
        fences.to_first(txn)?;
        while let Some((start, count)) = fences.fence()? {
            if start > place {
                break;
            }
            found = Found { before: sum, start: start.to_vec() };
            sum += count;
            fences.step(txn, false)?;
        }
        Ok(found)
    }

    /// The segment that holds the element with so many before it, or one before that.
    fn segment_of_rank(&self, txn: &mut Txn, rank: u64) -> Result<Found, Stop> {
        if rank < self.summary.head {
            return Ok(Found::default());
        }
        if self.may_serve(txn)? {
            let cache = txn.store().fence_cache();
            let changes = txn.staged_elements(self.id);
            let staged = |start: &[u8]| changes.map_or(0, |changes| changes.before(start));
            if let Some(found) = cache.find_rank(self.id, txn.read_sequence(), rank, staged) {
                return Ok(found);
            }
        }
        let mut fences = self.fences(txn)?;
        let from_end = rank > self.summary.count / 2;
        let mut sum = if from_end { self.summary.count } else { self.summary.head };
        fences.to_end(txn, from_end)?;
        while let Some((start, count)) = fences.fence()? {
            let before = if from_end { sum.checked_sub(count) } else { Some(sum) };
            let before = before.ok_or_else(|| damage("counts of fences"))?;
            if before <= rank && rank - before < count {
                return Ok(Found { before, start: start.to_vec() });
            }
            sum = if from_end { before } else { before + count };
            fences.step(txn, from_end)?;
        }
        Err(damage("counts of fences"))
    }

    /// Whether the fences in memory may serve a reader: they are there, and what an EXEC staged can be added to them.
    fn may_serve(&self, txn: &mut Txn) -> Result<bool, Stop> {
        match txn.staged_elements(self.id) {
            Some(changes) => Ok(changes.is_complete()),
            None => self.is_at_hand(txn),
        }
    }

    /// Sees to it, if it can be done, that the fences are in memory; whether they are, and are what the records say.
    pub fn is_at_hand(&self, txn: &mut Txn) -> Result<bool, Stop> {
        if txn.staged_elements(self.id).is_some() {
            return Ok(false);
        }
        let (cache, read) = (txn.store().fence_cache(), txn.read_sequence());
        if cache.has(self.id, read) {
            return Ok(true);
        }
        let visible = if read == LATEST { txn.store().db().visible_lsn() } else { read };
        let Some(ticket) = cache.begin_load(self.id, read) else { return Ok(false) };
        match self.load(txn) {
            Ok(list) => {
                txn.store().fence_cache().finish_load(self.id, ticket, list, visible);
                Ok(true)
            }
            Err(stop) => {
                txn.store().fence_cache().cancel_load(self.id, ticket);
                Err(stop)
            }
        }
    }

    fn load(&self, txn: &mut Txn) -> Result<FenceList, Stop> {
        let mut list = FenceList::new(self.summary.head);
        if self.summary.has_fences() {
            let mut fences = self.fences(txn)?;
            fences.to_first(txn)?;
            while let Some((start, count)) = fences.fence()? {
                list.push(start, count);
                fences.step(txn, false)?;
            }
        }
        Ok(list)
    }

    /// Checks every invariant, reading everything; what is wrong, if anything is. For tests.
    pub fn check(&self, txn: &mut Txn) -> Result<Option<String>, Stop> {
        let mut places = Vec::new();
        let mut prefix = Vec::new();
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_SCORE);
        let mut steps = Steps::open(txn, prefix, &[], &[u8::MAX; SCORE_BYTES])?;
        steps.to_first(txn)?;
        while let Some(place) = steps.place() {
            places.push(place.to_vec());
            steps.step(txn, false)?;
        }
        let wrong = |what: String| Ok(Some(what));
        let summary = &self.summary;
        if summary.count != places.len() as u64 {
            return wrong(format!("count {} of {} elements", summary.count, places.len()));
        }
        let edges = places.first().zip(places.last()).map(|(a, b)| (edge(a).to_vec(), edge(b).to_vec()));
        if edges != Some((summary.first.clone(), summary.last.clone())) {
            return wrong(format!("edges, not {edges:?}"));
        }
        let mut prefix = Vec::new();
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_FENCE);
        let mut steps = Steps::open(txn, prefix, &[], &[u8::MAX; SCORE_BYTES])?;
        steps.to_first(txn)?;
        let mut segments = vec![(Vec::new(), summary.head)];
        while let Some((place, count)) = steps.fence()? {
            segments.push((place.to_vec(), count));
            steps.step(txn, false)?;
        }
        for (at, (start, count)) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map(|(end, _)| end);
            let real = places.iter().filter(|place| *place >= start && end.is_none_or(|end| *place < end));
            let real = real.count() as u64;
            if real != *count || *count > txn.store().fence_elements_max() {
                return wrong(format!("segment {at} counts {count}, has {real}"));
            }
        }
        if let Some(known) = txn.store().fence_cache().segments(self.id, txn.read_sequence())
            && known != segments
        {
            return wrong("the fences in memory are not the stored ones".to_owned());
        }
        let ends = txn.store().end_places();
        let (low, high) = (ends.known((self.id, false)), ends.known((self.id, true)));
        if !places.starts_with(&low) || !places.iter().rev().take(high.len()).eq(&high) {
            return wrong("the outermost places in memory are not the stored ones".to_owned());
        }
        let mut members = self.members(txn, &[])?;
        members.to_first(txn)?;
        let mut real = Vec::new();
        while let Some(member) = members.place() {
            let score = read_score_value(members.value())?;
            real.push(crate::encoding::sorted_set::place(score, member));
            members.step(txn, false)?;
        }
        real.sort();
        Ok((real != places).then(|| "members and places differ".to_owned()))
    }
}

/// Reads the value of a member.
pub fn read_score_value(value: &[u8]) -> Result<f64, Stop> {
    let bytes = value.try_into().map_err(|_| damage("score of a sorted set"))?;
    let score = crate::encoding::data::read_score(bytes);
    if score.is_nan() { Err(damage("score of a sorted set")) } else { Ok(score) }
}
