//! Unions, intersections and differences of sorted sets and sets. A set counts as a sorted set in which every score is 1.
//!
//! As in Redis the inputs of a union or intersection are taken by size, the smallest first: the order in which scores are added
//! shows in their last digits. Whatever would be no number (infinity less infinity, infinity times zero) is 0. The result is
//! put together in memory.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind, Record};
use crate::store::txn::{At, Txn};
use crate::types::set_value;
use crate::types::sorted_set::{Element, SortedSet, Span};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// How scores of one member are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Added.
    #[default]
    Sum,
    /// The smaller one.
    Min,
    /// The greater one.
    Max,
}

impl Aggregate {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Sum => or_zero(a + b),
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input: a key and what its scores are multiplied with.
#[derive(Debug)]
pub struct Input<'k> {
    source: Source<'k>,
    count: u64,
    key: &'k [u8],
    /// The factor.
    pub weight: f64,
}

#[derive(Debug)]
enum Source<'k> {
    Nothing,
    Sorted(SortedSet),
    Set(set_value::View<'k>),
}

impl<'k> Input<'k> {
    /// Reads a key. Pins the read point if the value is large.
    pub fn open(txn: &mut Txn, key: &'k [u8]) -> Result<Input<'k>, Stop> {
        let at = txn.at(key)?;
        let read =
            |txn: &mut Txn| txn.view(at, |record| record.map(|Record { head, body }| (head, body.to_vec())));
        let mut found = read(txn)?;
        if found.as_ref().is_some_and(|(head, _)| head.id != 0) {
            txn.pin();
            found = read(txn)?;
        }
        let (source, count) = Input::source(at, found)?;
        Ok(Input { source, count, key, weight: 1.0 })
    }

    fn source(at: At<'k>, found: Option<(Head, Vec<u8>)>) -> Result<(Source<'k>, u64), Stop> {
        let Some((head, body)) = found else { return Ok((Source::Nothing, 0)) };
        match head.kind {
            Kind::SortedSet => {
                let set = SortedSet::decode(at.space, &head, body)?;
                let count = set.count();
                Ok((Source::Sorted(set), count))
            }
            Kind::Set => {
                let set = set_value::View::of_record(at, head, &body);
                let count = set.size()?.count;
                Ok((Source::Set(set), count))
            }
            _ => Err(ReplyError::WRONG_TYPE.into()),
        }
    }

    /// Hands every member and its own score to `f`, until it breaks.
    fn walk(&self, txn: &mut Txn, mut f: impl FnMut(&[u8], f64) -> ControlFlow<()>) -> Result<(), Stop> {
        match &self.source {
            Source::Nothing => Ok(()),
            Source::Sorted(set) => set.walk(txn, &Span::Ranks(0..u64::MAX), false, 0, f),
            Source::Set(set) => {
                let mut flow = ControlFlow::Continue(());
                set.for_each(txn, |member| {
                    if flow.is_continue() {
                        flow = f(member, 1.0);
                    }
                })
            }
        }
    }

    /// The score of a member, multiplied.
    fn weighted(&self, txn: &mut Txn, member: &[u8]) -> Result<Option<f64>, Stop> {
        let score = match &self.source {
            Source::Nothing => None,
            Source::Sorted(set) => set.score(txn, member)?,
            Source::Set(set) => set.contains(txn, member)?.then_some(1.0),
        };
        Ok(score.map(|score| score * self.weight))
    }
}

fn in_order(scores: impl Iterator<Item = (Vec<u8>, f64)>) -> Vec<Element> {
    let mut elements: Vec<Element> = scores.map(|(member, score)| Element { score, member }).collect();
    elements.sort_unstable_by(Element::order);
    elements
}

/// What is in any input.
pub fn union(txn: &mut Txn, mut inputs: Vec<Input<'_>>, aggregate: Aggregate) -> Result<Vec<Element>, Stop> {
    inputs.sort_by_key(|input| input.count);
    let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
    for input in &inputs {
        input.walk(txn, |member, score| {
            let score = or_zero(score * input.weight);
            match scores.get_mut(member) {
                Some(own) => *own = aggregate.apply(*own, score),
                None => {
                    scores.insert(member.to_vec(), score);
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(in_order(scores.into_iter()))
}

/// So many candidates are asked for in the other inputs at a time.
const CANDIDATES: usize = 1024;

/// What is in all inputs, at most `limit`.
pub fn intersection(
    txn: &mut Txn,
    mut inputs: Vec<Input<'_>>,
    aggregate: Aggregate,
    limit: u64,
) -> Result<Vec<Element>, Stop> {
    inputs.sort_by_key(|input| input.count);
    let Some((smallest, others)) = inputs.split_first() else { return Ok(Vec::new()) };
    let mut elements = Vec::new();
    in_parts(txn, smallest, |txn, candidates| {
        for (member, own) in candidates {
            let mut score = Some(or_zero(own * smallest.weight));
            for other in others {
                let value = match other.key == smallest.key {
                    true => Some(own * other.weight),
                    false => other.weighted(txn, &member)?,
                };
                score = score.zip(value).map(|(score, value)| aggregate.apply(score, value));
                if score.is_none() {
                    break;
                }
            }
            if let Some(score) = score {
                elements.push((member, score));
                if elements.len() as u64 >= limit {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(in_order(elements.into_iter()))
}

/// What is in the first input and in none of the others.
pub fn difference(txn: &mut Txn, inputs: &[Input<'_>]) -> Result<Vec<Element>, Stop> {
    let Some((first, others)) = inputs.split_first() else { return Ok(Vec::new()) };
    if others.iter().any(|other| other.key == first.key) {
        return Ok(Vec::new());
    }
    // Asking the others for each member of the first, or walking over the others: whichever touches less.
    let asked = first.count.saturating_mul(others.len() as u64);
    let walked = others.iter().map(|other| other.count).fold(first.count, u64::saturating_add);
    let mut elements = Vec::new();
    if asked <= walked {
        in_parts(txn, first, |txn, candidates| {
            'candidates: for (member, score) in candidates {
                for other in others {
                    if other.weighted(txn, &member)?.is_some() {
                        continue 'candidates;
                    }
                }
                elements.push((member, score));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        return Ok(in_order(elements.into_iter()));
    }
    let mut scores = HashMap::new();
    first.walk(txn, |member, score| {
        scores.insert(member.to_vec(), score);
        ControlFlow::Continue(())
    })?;
    for other in others {
        other.walk(txn, |member, _| {
            scores.remove(member);
            if scores.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    Ok(in_order(scores.into_iter()))
}

/// Hands the members of an input and their own scores to `f` in parts, so that it may read in between, until it breaks.
fn in_parts(
    txn: &mut Txn,
    input: &Input<'_>,
    mut f: impl FnMut(&mut Txn, Vec<(Vec<u8>, f64)>) -> Result<ControlFlow<()>, Stop>,
) -> Result<(), Stop> {
    if let Source::Sorted(set) = &input.source {
        let mut from = 0;
        while from < input.count {
            let to = from + CANDIDATES as u64;
            let mut part = Vec::new();
            set.walk(txn, &Span::Ranks(from..to), false, 0, |member, score| {
                part.push((member.to_vec(), score));
                ControlFlow::Continue(())
            })?;
            if f(txn, part)?.is_break() {
                return Ok(());
            }
            from = to;
        }
        return Ok(());
    }
    let mut all = Vec::new();
    input.walk(txn, |member, score| {
        all.push((member.to_vec(), score));
        ControlFlow::Continue(())
    })?;
    f(txn, all).map(drop)
}
