//! Large sorted sets: elements under an id, cut by counted fences (drawn in `encoding/sorted_set.rs`).
//!
//! *Reading.* What the n-th element is, and how many stand before a place, is summed up from the fences of level 1, then from
//! those of level 0 behind the last one, then by walking what is left, at most one segment: some hundreds of steps for ten
//! million elements. Every walk is bounded by the edges, so it begins at an element that is there.
//!
//! *Changing.* A command hands all places that come and go to a [`Recount`], in order, and then lets it finish: counts move,
//! a segment that got too full is cut, one that got too empty joins the one before it, fences of level 1 follow those of
//! level 0, and the edges move to the first and last element. All of it is staged beside the elements, so one batch holds
//! elements and counts, and no reader sees one without the other.
//!
//! Invariants, for a set with elements: no segment is empty; all fences lie behind the first edge and not behind the last
//! element; the heads and fences of each level sum up to the count.
//!
//! Growing at an end cuts off nothing that has to be walked: a full segment at the end is left full and a fence put
//! between it and what comes.

use crate::base::stop::Stop;
use crate::encoding::data::{PREFIX_BYTES, ZSET_FENCE, ZSET_MEMBER, ZSET_SCORE, put_element_prefix};
use crate::encoding::meta::{Head, Space, damaged};
use crate::encoding::sorted_set::{
    LEVELS, SCORE_BYTES, Summary, edge, is_tall, put_fence_key, put_member_key, read_fence, split_place,
};
use crate::store::store::FenceLimits;
use crate::store::txn::Txn;
use haypile_lsm::Iter;
use haypile_lsm::base::coding::put_varint;
use std::collections::BTreeMap;
use std::ops::Bound;

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

/// A segment in which something was found: how many elements stand before it, and the fence it begins at (empty for the head).
type Found = (u64, Vec<u8>);

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

    fn fences(&self, txn: &mut Txn, level: usize) -> Result<Steps, Stop> {
        let mut prefix = Vec::with_capacity(PREFIX_BYTES + 2);
        put_element_prefix(&mut prefix, self.space, self.id, ZSET_FENCE);
        prefix.push(level as u8);
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
        let (mut before, start) = self.segment_of_place(txn, place)?;
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
            let (before, start) = self.segment_of_rank(txn, rank)?;
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

    /// The segment of level 0 that `place` lies in.
    fn segment_of_place(&self, txn: &mut Txn, place: &[u8]) -> Result<Found, Stop> {
        let mut found: Found = (0, Vec::new());
        for level in (0..LEVELS).rev() {
            if !self.summary.has_fences(level) {
                continue;
            }
            let mut fences = self.fences(txn, level)?;
            let mut sum = found.0;
            if found.1.is_empty() {
                sum += self.summary.heads[level];
                fences.to_first(txn)?;
            } else {
                fences.seek(txn, &found.1)?;
            }
            while let Some((start, count)) = fences.fence()? {
                if start > place {
                    break;
                }
                found = (sum, start.to_vec());
                sum += count;
                fences.step(txn, false)?;
            }
        }
        Ok(found)
    }

    /// The segment of level 0 that holds the element with so many before it.
    fn segment_of_rank(&self, txn: &mut Txn, rank: u64) -> Result<Found, Stop> {
        let count = self.summary.count;
        let mut found: Found = (0, Vec::new());
        let mut found_above = false;
        for level in (0..LEVELS).rev() {
            if !self.summary.has_fences(level) || (!found_above && rank < self.summary.heads[level]) {
                continue;
            }
            let mut fences = self.fences(txn, level)?;
            let topmost = level + 1 == LEVELS || !self.summary.has_fences(level + 1);
            if !found_above && topmost && rank > count / 2 {
                // Nearer to the end.
                let mut sum = count;
                fences.to_last(txn)?;
                loop {
                    let Some((start, count)) = fences.fence()? else {
                        return Err(damage("counts of fences"));
                    };
                    sum = sum.checked_sub(count).ok_or_else(|| damage("counts of fences"))?;
                    if sum <= rank {
                        found = (sum, start.to_vec());
                        break;
                    }
                    fences.step(txn, true)?;
                }
            } else {
                let mut sum = found.0;
                if found_above {
                    fences.seek(txn, &found.1)?;
                } else {
                    sum += self.summary.heads[level];
                    fences.to_first(txn)?;
                }
                loop {
                    let Some((start, count)) = fences.fence()? else {
                        return Err(damage("counts of fences"));
                    };
                    if rank - sum < count {
                        found = (sum, start.to_vec());
                        break;
                    }
                    sum += count;
                    fences.step(txn, false)?;
                }
            }
            found_above = true;
        }
        Ok(found)
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
        let mut levels: [Vec<Vec<u8>>; LEVELS] = Default::default();
        for (level, fences) in levels.iter_mut().enumerate() {
            let mut prefix = Vec::new();
            put_element_prefix(&mut prefix, self.space, self.id, ZSET_FENCE);
            prefix.push(level as u8);
            let mut steps = Steps::open(txn, prefix, &[], &[u8::MAX; SCORE_BYTES])?;
            steps.to_first(txn)?;
            let mut segments = vec![(Vec::new(), summary.heads[level])];
            while let Some((place, count)) = steps.fence()? {
                segments.push((place.to_vec(), count));
                fences.push(place.to_vec());
                steps.step(txn, false)?;
            }
            for (at, (start, count)) in segments.iter().enumerate() {
                let end = segments.get(at + 1).map(|(end, _)| end);
                let real =
                    places.iter().filter(|place| *place >= start && end.is_none_or(|end| *place < end));
                let real = real.count() as u64;
                if real != *count || (level == 0 && *count > txn.store().fences().elements_max) {
                    return wrong(format!("segment {at} of level {level} counts {count}, has {real}"));
                }
            }
        }
        let one_in = txn.store().fences().tall_one_in;
        if levels[0].iter().filter(|place| is_tall(place, one_in)).ne(&levels[1]) {
            return wrong("fences of level 1 are not the tall ones of level 0".to_owned());
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

/// Segments that change, by the fence they begin at; the head by nothing.
#[derive(Debug, Default)]
struct Level {
    segments: BTreeMap<Vec<u8>, Segment>,
    /// Over the stored fences; `None` while nobody asked, or if there are none.
    stored: Option<Steps>,
    /// Where the last change was noted: segment, and where the next one begins (known if it is `Some`).
    noted: Option<(Vec<u8>, Option<Bound<Vec<u8>>>)>,
}

/// The changes of one command to fences, heads and edges.
#[derive(Debug)]
pub struct Recount {
    large: Large,
    count: u64,
    levels: [Level; LEVELS],
    limits: FenceLimits,
}

const HEAD: &[u8] = &[];

impl Recount {
    /// Begins with a set as it is stored.
    pub fn new(txn: &Txn, large: Large) -> Recount {
        let mut levels: [Level; LEVELS] = Default::default();
        for (level, head) in levels.iter_mut().zip(large.summary.heads) {
            level.segments.insert(HEAD.to_vec(), Segment { old: Some(head), new: Some(head) });
        }
        Recount { count: large.summary.count, large, levels, limits: txn.store().fences() }
    }

    /// Elements, with what was noted so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Notes that an element comes (1) or goes (-1). Many of them in order of their places are cheaper.
    pub fn note(&mut self, txn: &mut Txn, place: &[u8], change: i64) -> Result<(), Stop> {
        for level in 0..LEVELS {
            let start = self.segment_at(txn, level, place)?;
            let segment = self.levels[level].segments.get_mut(&start);
            let new = segment.and_then(|segment| segment.new.as_mut()).ok_or_else(|| damage("fences"))?;
            *new = new.checked_add_signed(change).ok_or_else(|| damage("counts of fences"))?;
        }
        self.count = self.count.checked_add_signed(change).ok_or_else(|| damage("count of a sorted set"))?;
        Ok(())
    }

    /// The stored segment that `place` lies in, now among those that change.
    fn segment_at(&mut self, txn: &mut Txn, number: usize, place: &[u8]) -> Result<Vec<u8>, Stop> {
        if !self.large.summary.has_fences(number) {
            return Ok(HEAD.to_vec());
        }
        self.open(txn, number)?;
        let level = &mut self.levels[number];
        let Some(stored) = &mut level.stored else { return Ok(HEAD.to_vec()) };
        if let Some((start, end)) = &mut level.noted
            && place >= start.as_slice()
        {
            if end.is_none() {
                stored.seek_behind(txn, start)?;
                *end = Some(stored.place().map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec())));
            }
            if !matches!(end, Some(Bound::Excluded(end)) if place >= end.as_slice()) {
                return Ok(start.clone());
            }
        }
        stored.seek_back_to(txn, place)?;
        let start = match stored.fence()? {
            None => HEAD.to_vec(),
            Some((start, count)) => {
                let segment = Segment { old: Some(count), new: Some(count) };
                level.segments.entry(start.to_vec()).or_insert(segment);
                start.to_vec()
            }
        };
        level.noted = Some((start.clone(), None));
        Ok(start)
    }

    fn open(&mut self, txn: &mut Txn, level: usize) -> Result<(), Stop> {
        if self.levels[level].stored.is_none() && self.large.summary.has_fences(level) {
            self.levels[level].stored = Some(self.large.fences(txn, level)?);
        }
        Ok(())
    }

    /// Stages the changed fences and answers what the set's record is to hold. `added` are the places that come, sorted.
    /// Not for a set that lost all its elements.
    pub fn finish(mut self, txn: &mut Txn, added: &[Vec<u8>], removed: Removed<'_>) -> Result<Summary, Stop> {
        self.cut_and_join(txn, added, removed)?;
        self.follow(txn)?;
        let (first, last) = self.edges(txn, added, removed)?;
        let mut heads = [0; LEVELS];
        let mut key = Vec::new();
        let mut value = Vec::new();
        for (number, level) in self.levels.iter().enumerate() {
            for (start, segment) in &level.segments {
                if start.is_empty() {
                    heads[number] = segment.new.unwrap_or(0);
                    continue;
                }
                put_fence_key(&mut key, self.large.space, self.large.id, number, start);
                match (segment.old, segment.new) {
                    (old, Some(new)) if old != Some(new) => {
                        value.clear();
                        put_varint(&mut value, new);
                        txn.put_data(&key, &value)?;
                    }
                    (Some(_), None) => txn.delete_data(&key)?,
                    _ => {}
                }
            }
        }
        let longest = added.iter().map(|place| (place.len() - SCORE_BYTES) as u64).max().unwrap_or(0);
        let longest = longest.max(self.large.summary.longest);
        let summary = Summary { count: self.count, longest, heads, first, last };
        // What a damaged database counts wrongly is found here rather than written on.
        let possible = 1 <= heads[0] && heads[0] <= heads[1] && heads[1] <= summary.count;
        if possible { Ok(summary) } else { Err(damage("counts of fences")) }
    }

    /// Level 0: cuts segments that got too full, lets go of empty ones, joins small ones.
    fn cut_and_join(&mut self, txn: &mut Txn, added: &[Vec<u8>], removed: Removed<'_>) -> Result<(), Stop> {
        let most = self.limits.elements_max.max(2);
        let (small, joined) = (most / 4, most - most / 4);
        let changed: Vec<(Vec<u8>, u64)> = self.levels[0]
            .segments
            .iter()
            .filter_map(|(start, segment)| Some((start.clone(), segment.new?)))
            .collect();
        for (start, count) in changed {
            if count > most {
                self.cut(txn, &start, count, added, removed)?;
            } else if count == 0 && !start.is_empty() {
                self.set(0, &start, None);
            } else if count < small && !start.is_empty() {
                let (before, before_count) = self.live_before(txn, 0, &start)?;
                if before_count + count <= joined {
                    self.set(0, &before, Some(before_count + count));
                    self.set(0, &start, None);
                }
            }
        }
        // The head is never empty: it takes in what is behind it.
        while let Some(count) = self.new_count(0, HEAD).filter(|count| *count < small.max(1)) {
            let Some((next, next_count)) = self.live_behind(txn, 0, HEAD)? else { break };
            if count != 0 && count + next_count > joined {
                break;
            }
            self.set(0, HEAD, Some(count + next_count));
            self.set(0, &next, None);
        }
        Ok(())
    }

    /// Level 1 loses and gets the fences that level 0 lost and got.
    fn follow(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        let one_in = self.limits.tall_one_in;
        let moved: Vec<(Vec<u8>, bool)> = self.levels[0]
            .segments
            .iter()
            .filter(|(start, segment)| {
                !start.is_empty() && segment.old.is_some() != segment.new.is_some() && is_tall(start, one_in)
            })
            .map(|(start, segment)| (start.clone(), segment.new.is_some()))
            .collect();
        for (start, _) in moved.iter().filter(|(_, comes)| !comes) {
            self.load(txn, 1, start)?;
            let count = self.new_count(1, start).ok_or_else(|| damage("fences of level 1"))?;
            let (before, before_count) = self.live_before(txn, 1, start)?;
            self.set(1, &before, Some(before_count + count));
            self.set(1, start, None);
        }
        for (start, _) in moved.iter().filter(|(_, comes)| *comes) {
            let (before, count) = self.live_before(txn, 1, start)?;
            let kept = self.sum_between(txn, &before, start)?;
            let cut = count.checked_sub(kept).ok_or_else(|| damage("counts of fences"))?;
            self.set(1, &before, Some(kept));
            self.set(1, start, Some(cut));
        }
        Ok(())
    }

    fn new_count(&self, level: usize, start: &[u8]) -> Option<u64> {
        self.levels[level].segments.get(start)?.new
    }

    /// Of a segment that is not among those that change, this is its first change: it is new or was loaded before.
    fn set(&mut self, level: usize, start: &[u8], count: Option<u64>) {
        self.levels[level].segments.entry(start.to_vec()).or_default().new = count;
    }

    /// Makes sure that a stored segment is among those that change.
    fn load(&mut self, txn: &mut Txn, level: usize, start: &[u8]) -> Result<(), Stop> {
        self.open(txn, level)?;
        let level = &mut self.levels[level];
        if !level.segments.contains_key(start)
            && let Some(stored) = &mut level.stored
        {
            stored.seek(txn, start)?;
            if let Some((place, count)) = stored.fence()?
                && place == start
            {
                level.segments.insert(start.to_vec(), Segment { old: Some(count), new: Some(count) });
            }
        }
        Ok(())
    }

    /// The last segment that begins before `start`, loaded, and its count. There is one: the head.
    fn live_before(&mut self, txn: &mut Txn, number: usize, start: &[u8]) -> Result<(Vec<u8>, u64), Stop> {
        self.open(txn, number)?;
        let level = &mut self.levels[number];
        let before = (Bound::Unbounded, Bound::Excluded(start));
        let mut found = level
            .segments
            .range::<[u8], _>(before)
            .rev()
            .find_map(|(start, segment)| Some((start.clone(), segment.new?)))
            .ok_or_else(|| damage("fences"))?;
        if let Some(stored) = &mut level.stored {
            stored.seek_before(txn, start)?;
            while let Some((place, count)) = stored.fence()? {
                if place <= found.0.as_slice() {
                    break;
                }
                if !level.segments.contains_key(place) {
                    found = (place.to_vec(), count);
                    let segment = Segment { old: Some(count), new: Some(count) };
                    level.segments.insert(found.0.clone(), segment);
                    break;
                }
                stored.step(txn, true)?;
            }
        }
        Ok(found)
    }

    /// The first segment that begins behind `start`, loaded, and its count.
    fn live_behind(
        &mut self,
        txn: &mut Txn,
        number: usize,
        start: &[u8],
    ) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        self.open(txn, number)?;
        let level = &mut self.levels[number];
        let behind = (Bound::Excluded(start), Bound::Unbounded);
        let mut found = level
            .segments
            .range::<[u8], _>(behind)
            .find_map(|(start, segment)| Some((start.clone(), segment.new?)));
        if let Some(stored) = &mut level.stored {
            stored.seek_behind(txn, start)?;
            while let Some((place, count)) = stored.fence()? {
                if found.as_ref().is_some_and(|(found, _)| found.as_slice() <= place) {
                    break;
                }
                if !level.segments.contains_key(place) {
                    let segment = Segment { old: Some(count), new: Some(count) };
                    level.segments.insert(place.to_vec(), segment);
                    found = Some((place.to_vec(), count));
                    break;
                }
                stored.step(txn, false)?;
            }
        }
        Ok(found)
    }

    /// How many elements level 0 will count from the segment at `from` up to the one at `to`.
    fn sum_between(&mut self, txn: &mut Txn, from: &[u8], to: &[u8]) -> Result<u64, Stop> {
        self.open(txn, 0)?;
        let level = &mut self.levels[0];
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut sum: u64 =
            level.segments.range::<[u8], _>(range).filter_map(|(_, segment)| segment.new).sum();
        if let Some(stored) = &mut level.stored {
            stored.seek(txn, from)?;
            while let Some((place, count)) = stored.fence()? {
                if place >= to {
                    break;
                }
                if !level.segments.contains_key(place) {
                    sum += count;
                }
                stored.step(txn, false)?;
            }
        }
        Ok(sum)
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
        let most = self.limits.elements_max.max(2);
        let end = self.live_behind(txn, 0, start)?.map(|(end, _)| end);
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
            self.set(0, start, Some(kept));
            pieces.for_each(|piece| self.set(0, &piece[0], Some(piece.len() as u64)));
            return Ok(());
        }
        if kept >= most / 2 && start.is_empty() && *own_last < self.large.summary.first {
            // All that comes stands before all that was there.
            let old_first = self.large.summary.first.clone();
            self.set(0, &old_first, Some(kept));
            for (at, piece) in pieces.enumerate() {
                let start = if at == 0 { HEAD } else { piece[0].as_slice() };
                self.set(0, start, Some(piece.len() as u64));
            }
            return Ok(());
        }
        // A fence wherever a piece of half the size is full, over what stays and what comes merged.
        let parts = (count / (most / 2).max(1)).max(2);
        let boundary = |part: u64| count * part / parts;
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
        self.set(0, start, Some(boundary(1)));
        for (part, fence) in (1..).zip(&fences) {
            self.set(0, fence, Some(boundary(part + 1) - boundary(part)));
        }
        Ok(())
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
            let mut steps = self.large.places(txn, None, None)?;
            steps.to_first(txn)?;
            if let Removed::Between(_, last) = removed
                && steps.place().is_some_and(|place| removed.contains(place))
            {
                steps.seek_behind(txn, last)?;
            }
            while steps.place().is_some_and(|place| removed.contains(place)) {
                steps.step(txn, false)?;
            }
            first = steps.place().map(|place| edge(place).to_vec());
        }
        let mut last = Some(summary.last.clone());
        if removed.last().is_some_and(|place| edge(place) == summary.last) {
            let mut steps = self.large.places(txn, None, None)?;
            steps.to_last(txn)?;
            if let Removed::Between(first, _) = removed
                && steps.place().is_some_and(|place| removed.contains(place))
            {
                steps.seek_before(txn, first)?;
            }
            while steps.place().is_some_and(|place| removed.contains(place)) {
                steps.step(txn, true)?;
            }
            last = steps.place().map(|place| edge(place).to_vec());
        }
        let coming_first = added.first().map(|place| edge(place).to_vec());
        let coming_last = added.last().map(|place| edge(place).to_vec());
        let first = first.into_iter().chain(coming_first).min();
        let last = last.into_iter().chain(coming_last).max();
        first.zip(last).ok_or_else(|| damage("count of a sorted set"))
    }
}

/// The fences of a set whose places are given in order: heads, and per level each fence and its count.
#[derive(Debug, Default)]
pub struct Fences {
    /// Elements before the first fence of each level.
    pub heads: [u64; LEVELS],
    /// Fences and counts of each level.
    pub levels: [Vec<(Vec<u8>, u64)>; LEVELS],
}

impl Fences {
    /// Fences for so many elements, each place asked for by its number.
    pub fn over(limits: FenceLimits, count: usize, place: impl Fn(usize) -> Vec<u8>) -> Fences {
        let mut fences = Fences::default();
        let most = limits.elements_max.max(2);
        if count as u64 <= most {
            fences.heads = [count as u64; LEVELS];
            return fences;
        }
        // Three quarters full, so that neither growing nor shrinking a little changes them.
        let piece = (most - most / 4) as usize;
        for start in (0..count).step_by(piece) {
            let size = piece.min(count - start) as u64;
            if start == 0 {
                fences.heads[0] = size;
                fences.heads[1] = size;
                continue;
            }
            let fence = place(start);
            if is_tall(&fence, limits.tall_one_in) {
                fences.levels[1].push((fence.clone(), size));
            } else {
                match fences.levels[1].last_mut() {
                    Some((_, count)) => *count += size,
                    None => fences.heads[1] += size,
                }
            }
            fences.levels[0].push((fence, size));
        }
        fences
    }
}
