//! SORT: the elements of a list, set or sorted set, ordered by themselves or by what other keys say of them.
//!
//! The elements are held in memory, as in Redis. What patterns name is read as of the same moment, without locks.

use crate::base::double::parse_weight;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind};
use crate::store::txn::{At, Txn};
use crate::types::hash_value;
use crate::types::list_value;
use crate::types::lists;
use crate::types::set_value;
use crate::types::sorted_set::{SortedSet, Span};
use crate::types::string_value::Source;
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};

const NOT_A_WEIGHT: ReplyError = ReplyError::fixed("ERR One or more scores can't be converted into double");

/// What stands for a value of each element: `*` in it is the element, `->` has the field of a hash behind it; `#` is the
/// element itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern<'a>(pub &'a [u8]);

impl<'a> Pattern<'a> {
    /// Whether it depends on the element.
    pub fn varies(&self) -> bool {
        self.0.contains(&b'*')
    }

    /// The key that it means for an element, and the field. `None` if it names nothing.
    fn resolve(&self, element: &[u8]) -> Option<(Vec<u8>, Option<&'a [u8]>)> {
        let star = self.0.iter().position(|byte| *byte == b'*')?;
        let (front, behind) = (&self.0[..star], &self.0[star + 1..]);
        let arrow = behind.windows(2).position(|two| two == b"->").filter(|at| at + 2 < behind.len());
        let (behind, field) = match arrow {
            Some(at) => (&behind[..at], Some(&behind[at + 2..])),
            None => (behind, None),
        };
        Some(([front, element, behind].concat(), field))
    }

    /// The value for an element. What is of another type, or too long for a key, is none.
    pub fn value(&self, txn: &mut Txn, element: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        if self.0 == b"#" {
            return Ok(Some(element.to_vec()));
        }
        let Some((key, field)) = self.resolve(element) else { return Ok(None) };
        let value = txn.at(&key).and_then(|at| match field {
            Some(field) => hash_value::get(txn, at, field, |found| found.map(|(value, _)| value.to_vec())),
            None => match Source::open(txn, at)? {
                Some(source) => source.read_all(txn).map(Some),
                None => Ok(None),
            },
        });
        match value {
            Err(Stop::Reply(_)) => Ok(None),
            value => value,
        }
    }
}

/// How to sort.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sort<'a> {
    /// By what, if not by the elements themselves. One that does not vary means not to sort at all.
    pub by: Option<Pattern<'a>>,
    /// How many to leave out, and how many to take; below zero: all.
    pub limit: Option<(i64, i64)>,
    /// Descending.
    pub descending: bool,
    /// As bytes and not as numbers.
    pub alphabetic: bool,
    /// The outcome is stored: it must not depend on the order in which a set is kept.
    pub stored: bool,
}

/// What elements are taken, of so many.
fn resolve_limit(limit: Option<(i64, i64)>, length: usize) -> Range<usize> {
    let Some((start, count)) = limit else { return 0..length };
    let start = usize::try_from(start).unwrap_or(0).min(length);
    let end = match usize::try_from(count) {
        Ok(count) => start.saturating_add(count).min(length),
        Err(_) => length,
    };
    start..end
}

/// All elements of a value, in its own order, or reversed.
fn load(txn: &mut Txn, at: At<'_>, head: &Head, body: &[u8], reverse: bool) -> Result<Vec<Vec<u8>>, Stop> {
    let mut elements: Vec<Vec<u8>> = Vec::new();
    match head.kind {
        Kind::List => lists::for_each(txn, at, head, body, |element| elements.push(element.to_vec()))?,
        Kind::Set => set_value::View::of_record(at, *head, body)
            .for_each(txn, |member| elements.push(member.to_vec()))?,
        Kind::SortedSet => {
            let set = SortedSet::decode(at.space, head, body.to_vec())?;
            set.walk_members(txn, &Span::Ranks(0..u64::MAX), false, 0, |member| {
                elements.push(member.to_vec());
                ControlFlow::Continue(())
            })?;
        }
        Kind::String | Kind::Hash | Kind::Stream => return Err(ReplyError::WRONG_TYPE.into()),
    }
    if reverse && head.kind != Kind::Set {
        elements.reverse();
    }
    Ok(elements)
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    Bytes(Option<Vec<u8>>),
    Itself,
}

impl Weight {
    fn of(txn: &mut Txn, sort: &Sort<'_>, by: Option<Pattern<'_>>, element: &[u8]) -> Result<Weight, Stop> {
        let looked_up = match by {
            Some(by) => Some(by.value(txn, element)?),
            None => None,
        };
        Ok(match (sort.alphabetic, looked_up) {
            (true, Some(value)) => Weight::Bytes(value),
            (true, None) => Weight::Itself,
            // Nothing weighs nothing.
            (false, Some(None)) => Weight::Number(0.0),
            (false, Some(Some(value))) => Weight::Number(parse_weight(&value).ok_or(NOT_A_WEIGHT)?),
            (false, None) => Weight::Number(parse_weight(element).ok_or(NOT_A_WEIGHT)?),
        })
    }

    fn order(&self, own: &[u8], other: &Weight, others: &[u8]) -> Ordering {
        match (self, other) {
            (Weight::Number(one), Weight::Number(two)) => {
                one.partial_cmp(two).unwrap_or(Ordering::Equal).then_with(|| own.cmp(others))
            }
            (Weight::Bytes(one), Weight::Bytes(two)) => one.cmp(two),
            _ => own.cmp(others),
        }
    }
}

/// The elements of a key, sorted; none if there is no such key. Reads from here on are of one moment.
pub fn sorted(txn: &mut Txn, at: At<'_>, sort: &Sort<'_>) -> Result<Vec<Vec<u8>>, Stop> {
    txn.pin();
    let found = txn.view(at, |record| record.map(|record| (record.head, record.body.to_vec())))?;
    let Some((head, body)) = found else { return Ok(Vec::new()) };
    let mut as_they_are = sort.by.is_some_and(|by| !by.varies());
    let mut sort = sort.clone();
    if as_they_are && head.kind == Kind::Set && sort.stored {
        as_they_are = false;
        sort.alphabetic = true;
        sort.by = None;
    }
    let mut elements = load(txn, at, &head, &body, as_they_are && sort.descending)?;
    if !as_they_are {
        let mut weighed = Vec::with_capacity(elements.len());
        for element in elements {
            let weight = Weight::of(txn, &sort, sort.by, &element)?;
            weighed.push((weight, element));
        }
        weighed.sort_by(|(one, own), (two, others)| {
            let order = one.order(own, two, others);
            if sort.descending { order.reverse() } else { order }
        });
        elements = weighed.into_iter().map(|(_, element)| element).collect();
    }
    let taken = resolve_limit(sort.limit, elements.len());
    elements.truncate(taken.end);
    elements.drain(..taken.start);
    Ok(elements)
}

/// SORT STORE: puts a list in place of whatever is there; without elements the key goes.
pub fn store(txn: &mut Txn, at: At<'_>, elements: &[Vec<u8>]) -> Result<(), Stop> {
    let slot = txn.load(at)?;
    list_value::store(txn, at, &slot.before, elements.iter().map(Vec::as_slice), 0)?;
    txn.recycle(slot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let resolve = |pattern: &'static str| {
            Pattern(pattern.as_bytes()).resolve(b"E").map(|(key, field)| {
                (
                    String::from_utf8(key).unwrap(),
                    field.map(|field| String::from_utf8(field.to_vec()).unwrap()),
                )
            })
        };
        assert_eq!(resolve("weight_*"), Some(("weight_E".into(), None)));
        assert_eq!(resolve("a*b*"), Some(("aEb*".into(), None)));
        assert_eq!(resolve("h*x->f"), Some(("hEx".into(), Some("f".into()))));
        assert_eq!(resolve("h*->"), Some(("hE->".into(), None)));
        assert_eq!(resolve("a->b*"), Some(("a->bE".into(), None)));
        assert_eq!(resolve("fixed"), None);
    }

    #[test]
    fn limits() {
        assert_eq!(resolve_limit(None, 3), 0..3);
        assert_eq!(resolve_limit(Some((1, 1)), 3), 1..2);
        assert_eq!(resolve_limit(Some((-5, -1)), 3), 0..3);
        assert_eq!(resolve_limit(Some((5, 2)), 3), 3..3);
        assert_eq!(resolve_limit(Some((0, 0)), 3), 0..0);
        assert_eq!(resolve_limit(Some((i64::MAX, i64::MAX)), 3), 3..3);
    }
}
