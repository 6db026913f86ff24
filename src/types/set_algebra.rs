//! Intersection, union and difference of sets.
//!
//! Members of every set under an id lie in the order of one hash, so that sets of a size are merged like sorted lists, each
//! read once from front to end. Packed sets are brought into that order, or, if all are packed, all are left in the order of
//! their members. Where one set is much smaller than another, its members are looked up in the other instead, which a filter
//! makes cheap.

use crate::base::stop::Stop;
use crate::encoding::data::MEMBER;
use crate::encoding::data::put_element_prefix;
use crate::encoding::set::{HASH_BYTES, Members, hashed_of, put_hashed};
use crate::store::txn::{At, Txn};
use crate::types::set_value::View;
use haypile_lsm::Iter;
use std::ops::{ControlFlow, Range};

/// A set is looked things up in if it is so many times as large as the one that they come from.
const LOOK_UP_RATIO: u64 = 8;
/// So many steps forward are tried before a seek.
const STEPS_BEFORE_SEEK: usize = 6;

/// What is done with sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Members of all.
    Intersection,
    /// Members of any.
    Union,
    /// Members of the first that no other has.
    Difference,
}

/// Sets to be combined.
pub struct Operands {
    sets: Vec<Operand>,
    /// Members have their hash in front.
    hashed: bool,
    /// The first one was missing, or any one.
    first_is_missing: bool,
    any_is_missing: bool,
}

struct Operand {
    count: u64,
    /// Bytes of all members at most.
    bytes: u64,
    form: Form,
}

enum Form {
    Packed {
        buffer: Vec<u8>,
        places: Vec<Range<usize>>,
        at: usize,
    },
    Large {
        /// What keys begin with.
        prefix: Vec<u8>,
        /// Opened when it is walked.
        iter: Option<Box<Iter>>,
        key: Vec<u8>,
    },
}

impl Operands {
    /// Reads the sets of `keys`; missing ones are empty. All of one moment.
    pub fn open<'k>(txn: &mut Txn, keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Result<Operands, Stop> {
        if keys.len() > 1 {
            txn.pin();
        }
        let mut views: Vec<View<'k>> = Vec::with_capacity(keys.len());
        let (mut first_is_missing, mut any_is_missing) = (false, false);
        for (index, key) in keys.enumerate() {
            let at: At<'k> = txn.at(key)?;
            match View::open(txn, at)? {
                Some(view) => views.push(view),
                None => {
                    any_is_missing = true;
                    first_is_missing |= index == 0;
                }
            }
        }
        let hashed = views.iter().any(|view| view.packed().is_none());
        let sets =
            views.into_iter().map(|view| Operand::new(view, hashed)).collect::<Result<Vec<_>, Stop>>()?;
        Ok(Operands { sets, hashed, first_is_missing, any_is_missing })
    }

    /// Bytes that the result takes up at most, `each` counted for every member besides its own.
    pub fn bytes_max(&self, operation: Operation, each: u64) -> u64 {
        let mut bytes = self.sets.iter().map(|set| set.bytes.saturating_add(set.count.saturating_mul(each)));
        match operation {
            Operation::Intersection => bytes.min().unwrap_or(0),
            Operation::Union => bytes.fold(0, u64::saturating_add),
            Operation::Difference => bytes.next().unwrap_or(0),
        }
    }

    /// Hands every member of the result to `f`, until it breaks.
    pub fn each(
        mut self,
        txn: &mut Txn,
        operation: Operation,
        mut f: impl FnMut(&mut Txn, &[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        let skip = if self.hashed { HASH_BYTES } else { 0 };
        let mut f = |txn: &mut Txn, element: &[u8]| f(txn, element.get(skip..).unwrap_or_default());
        match operation {
            Operation::Intersection if self.any_is_missing => Ok(()),
            Operation::Intersection => {
                self.sets.sort_by_key(|set| set.count);
                intersection(txn, &mut self.sets, &mut f)
            }
            Operation::Union => union(txn, &mut self.sets, &mut f),
            Operation::Difference if self.first_is_missing => Ok(()),
            Operation::Difference => difference(txn, &mut self.sets, &mut f),
        }
    }
}

type Found<'f> = &'f mut dyn FnMut(&mut Txn, &[u8]) -> Result<ControlFlow<()>, Stop>;

impl Operand {
    fn new(view: View<'_>, hashed: bool) -> Result<Operand, Stop> {
        let size = view.size()?;
        let (at, id) = (view.at(), view.id());
        if id != 0 {
            let mut prefix = Vec::new();
            put_element_prefix(&mut prefix, at.space, id, MEMBER);
            let bytes = size.count.saturating_mul(size.longest_bytes);
            let form = Form::Large { prefix, iter: None, key: Vec::new() };
            return Ok(Operand { count: size.count, bytes, form });
        }
        let body = view.into_body();
        let bytes = body.len() as u64;
        let (mut places, mut buffer) = (Vec::with_capacity(size.count as usize), Vec::new());
        let mut members = Members::new(&body);
        while let Some((member, place)) = members.next_member()? {
            if hashed {
                let start = buffer.len();
                put_hashed(&mut buffer, member);
                places.push(start..buffer.len());
            } else {
                places.push(place.end - member.len()..place.end);
            }
        }
        if hashed {
            places.sort_unstable_by(|a, b| buffer[a.clone()].cmp(&buffer[b.clone()]));
        } else {
            buffer = body;
        }
        Ok(Operand { count: size.count, bytes, form: Form::Packed { buffer, places, at: 0 } })
    }

    /// Opens the walk.
    fn start(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        if let Form::Large { prefix, iter, .. } = &mut self.form
            && iter.is_none()
        {
            let upper = haypile_lsm::prefix_end(prefix);
            let keyspace = txn.store().keyspaces().data;
            let mut opened = txn.iter(keyspace, Some(prefix.clone()), upper)?;
            opened.seek_to_first()?;
            *iter = Some(Box::new(opened));
        }
        Ok(())
    }

    /// The element it stands on.
    fn current(&self) -> Result<Option<&[u8]>, Stop> {
        match &self.form {
            Form::Packed { buffer, places, at } => Ok(places.get(*at).map(|place| &buffer[place.clone()])),
            Form::Large { iter, .. } => match iter.as_ref().filter(|iter| iter.valid()) {
                Some(iter) => Ok(Some(hashed_of(iter.key())?)),
                None => Ok(None),
            },
        }
    }

    fn advance(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        match &mut self.form {
            Form::Packed { at, .. } => *at += 1,
            Form::Large { iter, .. } => {
                if let Some(iter) = iter.as_mut().filter(|iter| iter.valid()) {
                    txn.charge(1, iter.key().len() as u64)?;
                    iter.next()?;
                }
            }
        }
        Ok(())
    }

    /// Goes to the first element at or behind `target`.
    fn forward_to(&mut self, txn: &mut Txn, target: &[u8]) -> Result<(), Stop> {
        let mut steps = 0;
        while self.current()?.is_some_and(|current| current < target) {
            if steps == STEPS_BEFORE_SEEK
                && let Form::Large { prefix, iter: Some(iter), key } = &mut self.form
            {
                txn.charge(1, 0)?;
                key.clear();
                key.extend_from_slice(prefix);
                key.extend_from_slice(target);
                iter.seek(key)?;
                return Ok(());
            }
            steps += 1;
            self.advance(txn)?;
        }
        Ok(())
    }

    /// Whether it has an element, wherever it stands.
    fn contains(&mut self, txn: &mut Txn, element: &[u8]) -> Result<bool, Stop> {
        match &mut self.form {
            Form::Packed { buffer, places, .. } => {
                Ok(places.binary_search_by(|place| buffer[place.clone()].cmp(element)).is_ok())
            }
            Form::Large { prefix, key, .. } => {
                key.clear();
                key.extend_from_slice(prefix);
                key.extend_from_slice(element);
                txn.view_data(key, |value| value.is_some())
            }
        }
    }

    /// Whether to look things up in it that come from a set of `count`, rather than to walk along.
    fn is_looked_up(&self, count: u64) -> bool {
        matches!(self.form, Form::Large { .. }) && self.count / LOOK_UP_RATIO > count
    }
}

/// The first set is the smallest.
fn intersection(txn: &mut Txn, sets: &mut [Operand], f: Found<'_>) -> Result<(), Stop> {
    let Some((first, others)) = sets.split_first_mut() else { return Ok(()) };
    first.start(txn)?;
    let count = first.count;
    for other in others.iter_mut().filter(|other| !other.is_looked_up(count)) {
        other.start(txn)?;
    }
    let (mut candidate, mut ahead) = (Vec::new(), Vec::new());
    'candidates: while let Some(current) = first.current()? {
        candidate.clear();
        candidate.extend_from_slice(current);
        for other in others.iter_mut() {
            if other.is_looked_up(count) {
                if !other.contains(txn, &candidate)? {
                    first.advance(txn)?;
                    continue 'candidates;
                }
                continue;
            }
            other.forward_to(txn, &candidate)?;
            match other.current()? {
                None => return Ok(()),
                Some(there) if there == candidate => {}
                Some(there) => {
                    ahead.clear();
                    ahead.extend_from_slice(there);
                    first.forward_to(txn, &ahead)?;
                    continue 'candidates;
                }
            }
        }
        if f(txn, &candidate)?.is_break() {
            return Ok(());
        }
        first.advance(txn)?;
    }
    Ok(())
}

fn difference(txn: &mut Txn, sets: &mut [Operand], f: Found<'_>) -> Result<(), Stop> {
    let Some((first, others)) = sets.split_first_mut() else { return Ok(()) };
    first.start(txn)?;
    let count = first.count;
    for other in others.iter_mut().filter(|other| !other.is_looked_up(count)) {
        other.start(txn)?;
    }
    let mut candidate = Vec::new();
    'candidates: while let Some(current) = first.current()? {
        candidate.clear();
        candidate.extend_from_slice(current);
        first.advance(txn)?;
        for other in others.iter_mut() {
            let there = if other.is_looked_up(count) {
                other.contains(txn, &candidate)?
            } else {
                other.forward_to(txn, &candidate)?;
                other.current()? == Some(&candidate[..])
            };
            if there {
                continue 'candidates;
            }
        }
        if f(txn, &candidate)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn union(txn: &mut Txn, sets: &mut [Operand], f: Found<'_>) -> Result<(), Stop> {
    for set in sets.iter_mut() {
        set.start(txn)?;
    }
    // A heap of set numbers, the one with the least element on top. Only the top set moves, so that sifting it down is enough.
    let mut heap: Vec<usize> = Vec::with_capacity(sets.len());
    for (index, set) in sets.iter().enumerate() {
        if set.current()?.is_some() {
            heap.push(index);
        }
    }
    for root in (0..heap.len() / 2).rev() {
        sift_down(sets, &mut heap, root)?;
    }
    let (mut last, mut any) = (Vec::new(), false);
    while let Some(&top) = heap.first() {
        let Some(current) = sets[top].current()? else { break };
        if !any || current != last {
            any = true;
            last.clear();
            last.extend_from_slice(current);
            if f(txn, &last)?.is_break() {
                return Ok(());
            }
        }
        sets[top].advance(txn)?;
        if sets[top].current()?.is_none() {
            heap.swap_remove(0);
        }
        sift_down(sets, &mut heap, 0)?;
    }
    Ok(())
}

fn sift_down(sets: &[Operand], heap: &mut [usize], mut root: usize) -> Result<(), Stop> {
    loop {
        let mut least = root;
        for child in [2 * root + 1, 2 * root + 2] {
            if child < heap.len() && sets[heap[child]].current()? < sets[heap[least]].current()? {
                least = child;
            }
        }
        if least == root {
            return Ok(());
        }
        heap.swap(root, least);
        root = least;
    }
}
