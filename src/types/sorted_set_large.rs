//! Large sorted sets: elements under an id, cut by counted fences (drawn in `encoding/sorted_set.rs`).
//!
//! *Reading.* What the n-th element is, and how many stand before a place, is a search in the fences, which are kept in memory
//! (`store/fence_cache.rs`), and then a walk over at most one segment. Where they are not known as of the read point (an earlier command of
//! the same EXEC changed them, a writer is just committing), the records themselves are walked. Every walk over elements is
//! bounded by the edges, so it begins at an element that is there.
//!
//! *Changing.* A command hands all places that come and go to a [`Recount`], in order, and then lets it finish: counts move,
//! a segment that got too full is cut, one that got too empty joins the one before it, and the edges move to the first and
//! last element. All of it is staged beside the elements, so one batch holds elements and counts, and no reader sees one
//! without the other.
//!
//! Invariants, for a set with elements: no segment is empty; all fences lie behind the first edge and not behind the last
//! element; the head and the fences sum up to the count.
//!
//! Growing at an end cuts off nothing that has to be walked: a full segment at the end is left full and a fence put
//! between it and what comes.

use crate::base::stop::Stop;
use crate::encoding::data::{PREFIX_BYTES, ZSET_FENCE, ZSET_MEMBER, ZSET_SCORE, put_element_prefix};
use crate::encoding::meta::{Head, Space, damaged};
use crate::encoding::sorted_set::{
    SCORE_BYTES, Summary, edge, put_fence_key, put_member_key, read_fence, split_place,
};
use crate::store::end_places::{ASKED_MAX, PLACE_BYTES_MAX, READ_INLINE, ReadOn};
use crate::store::fence_cache::{FenceChange, FenceList, Found, LATEST};
use crate::store::txn::{Mode, Txn};
use crate::types::runs;
use haypile_lsm::Iter;
use haypile_lsm::base::coding::put_varint;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// A place this close to an end is walked to from there, without a look at the fences.
const NEAR: u64 = 64;

fn damage(what: &str) -> Stop {
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
        let (mut lower, mut upper) = (prefix.clone(), prefix.clone());
        lower.extend_from_slice(from);
        upper.extend_from_slice(to);
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
    fn fence(&self) -> Result<Option<(&[u8], u64)>, Stop> {
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

    /// Goes to the first one at or behind `place`.
    pub fn seek(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.iter.seek(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the first one behind `place`.
    fn seek_behind(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.key.push(0);
        self.iter.seek(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the last one before `place`.
    fn seek_before(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(place);
        self.iter.seek_before(&self.key)?;
        self.charge(txn)
    }

    /// Goes to the last one at or before `place`.
    fn seek_back_to(&mut self, txn: &mut Txn, place: &[u8]) -> Result<(), Stop> {
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

    /// The same, with places as they are.
    fn for_each_place(
        &mut self,
        txn: &mut Txn,
        reverse: bool,
        mut f: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        let prefix = self.prefix;
        runs::for_each(&mut self.iter, reverse, |key, _| {
            if f(key.get(prefix..).unwrap_or_default())?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            txn.charge(1, key.len() as u64)?;
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

    fn fences(&self, txn: &mut Txn) -> Result<Steps, Stop> {
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

    /// The outermost place at an end that stays when `removed` go. Likewise; `None` also if it is not among the outermost.
    fn outermost_staying(
        &self,
        txn: &mut Txn,
        is_highest: bool,
        removed: Removed<'_>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        if !txn.reads_committed() {
            return Ok(None);
        }
        let stays = |place: &[u8]| !removed.contains(place);
        let known = txn.store().end_places().find((self.id, is_highest), stays);
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
            (None, false) => steps.to_first(txn)?,
            (None, true) => steps.to_last(txn)?,
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
        match from_end {
            true => fences.to_last(txn)?,
            false => fences.to_first(txn)?,
        }
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
    fn is_at_hand(&self, txn: &mut Txn) -> Result<bool, Stop> {
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
                None => {
                    self.stored_behind(txn, &start)?.map_or(Bound::Unbounded, |(end, _)| Bound::Excluded(end))
                }
            };
            let is_inside = !matches!(&end, Bound::Excluded(end) if place >= end.as_slice());
            if is_inside {
                self.noted = Some((start.clone(), Some(end)));
                return Ok(start);
            }
        }
        let start = match self.stored_at_or_before(txn, place)? {
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

    /// The stored fence at or before `place`, and its count. `None` for the head, as below.
    fn stored_at_or_before(&mut self, txn: &mut Txn, place: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let known = match self.stored {
            Stored::None => Some(None),
            Stored::Memory => txn.store().fence_cache().at_or_before(self.large.id, place),
            Stored::Records(_) => None,
        };
        if let Some(known) = known {
            return Ok(known.filter(|(start, _)| !start.is_empty()));
        }
        let steps = self.records(txn)?;
        steps.seek_back_to(txn, place)?;
        Ok(steps.fence()?.map(|(start, count)| (start.to_vec(), count)))
    }

    /// The last stored fence before `place`.
    fn stored_before(&mut self, txn: &mut Txn, place: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let known = match self.stored {
            Stored::None => Some(None),
            Stored::Memory => txn.store().fence_cache().before(self.large.id, place),
            Stored::Records(_) => None,
        };
        if let Some(known) = known {
            return Ok(known.filter(|(start, _)| !start.is_empty()));
        }
        let steps = self.records(txn)?;
        steps.seek_before(txn, place)?;
        Ok(steps.fence()?.map(|(start, count)| (start.to_vec(), count)))
    }

    /// The first stored fence behind `place`.
    fn stored_behind(&mut self, txn: &mut Txn, place: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let known = match self.stored {
            Stored::None => Some(None),
            Stored::Memory => txn.store().fence_cache().behind(self.large.id, place),
            Stored::Records(_) => None,
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let steps = self.records(txn)?;
        steps.seek_behind(txn, place)?;
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
        while let Some((place, count)) = self.stored_before(txn, &from)?.filter(|(place, _)| *place > own.0) {
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
        while let Some((place, count)) = self.stored_behind(txn, &from)? {
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
        if is_short && let Some(place) = self.large.outermost_staying(txn, is_highest, removed)? {
            return Ok(Some(edge(&place).to_vec()));
        }
        let mut steps = self.large.places(txn, None, None)?;
        match is_highest {
            false => steps.to_first(txn)?,
            true => steps.to_last(txn)?,
        }
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
