//! Whether a concurrent history could have been that of one thing which does one operation at a time.
//!
//! Wing and Gong's question, answered the way Lowe calls just-in-time linearization: walk over calls and returns in the order of time and
//! keep every *configuration* that explains what was seen so far: the state of the thing, and which of the operations under way have taken
//! effect already. An operation takes effect only when somebody needs it to, at a return:
//!
//! ```text
//! call of o:    o is under way in every configuration
//! return of o:  configurations in which o took effect stay; in the others, any sequence of those under way that ends with o takes effect
//!               none is left: the history is not linearizable
//! ```
//!
//! Configurations are a set, so equal ones are looked at once. An operation whose reply nobody got (its connection was cut, the server was
//! killed) may take effect until a given moment, or never. Keys are things of their own: a history is linearizable if that
//! of each key is (Herlihy and Wing's locality), so callers check one key at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// A thing that does one operation at a time.
pub trait Model: Debug {
    type Operation: Debug;
    type Reply: Debug;
    type State: Clone + Eq + Hash + Debug;

    /// The state after the operation, if it could answer so in that state. Any answer will do where nobody got one.
    fn step(
        state: &Self::State,
        operation: &Self::Operation,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;
}

/// An operation as its client saw it.
#[derive(Debug)]
pub struct Observed<M: Model> {
    pub client: usize,
    pub operation: M::Operation,
    /// Whether it was sent behind the one before it in the history, of the same client, and without waiting for that one's reply: it cannot
    /// take effect sooner.
    pub follows: bool,
    /// `None`: nobody knows; it may have happened or not.
    pub reply: Option<M::Reply>,
    /// Before it was sent.
    pub called: u64,
    /// After its reply was read; without one, when it can no longer happen.
    pub returned: u64,
}

/// Operations under way at one moment are numbered by bits of a word.
const UNDER_WAY_MAX: usize = 64;
/// More than any history of a few clients needs; beyond that the test asks too much.
const CONFIGURATIONS_MAX: usize = 2_000_000;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    state: S,
    /// Of the operations under way, those that took effect: a bit for each slot.
    done: u64,
}

/// Says what cannot be explained, if anything.
pub fn check<M: Model>(start: M::State, history: &[Observed<M>]) -> Result<(), String> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(history.len() * 2);
    for (index, observed) in history.iter().enumerate() {
        assert!(observed.called <= observed.returned, "returned before it was called: {observed:?}");
        // At the same moment calls come first: that allows more, never less.
        moments.push((observed.called, false, index));
        moments.push((observed.returned, true, index));
    }
    // Of a pipeline that nobody answered the last command returns first: while those before it are still under way.
    moments.sort_unstable_by_key(|&(moment, returns, index)| (moment, returns, Reverse(index)));
    let mut under_way: BTreeMap<usize, usize> = BTreeMap::new();
    let mut configurations = HashSet::from([Configuration { state: start, done: 0 }]);
    for (_, returns, index) in moments {
        if !returns {
            let free = (0..UNDER_WAY_MAX).find(|slot| !under_way.contains_key(slot));
            under_way.insert(free.expect("a client has few operations under way"), index);
            continue;
        }
        let slot = *under_way.iter().find(|(_, other)| **other == index).expect("called before").0;
        let before = configurations;
        configurations = with_effect(&before, slot, &under_way, history);
        if history[index].reply.is_none() {
            // Or it never took effect.
            configurations.extend(before.iter().filter(|one| one.done & (1 << slot) == 0).cloned());
        }
        if configurations.is_empty() {
            return Err(explain(&before, index, &under_way, history));
        }
        under_way.remove(&slot);
    }
    Ok(())
}

/// All configurations that those given may have become when the operation in `slot` has taken effect; that one's bit is cleared.
fn with_effect<M: Model>(
    before: &HashSet<Configuration<M::State>>,
    slot: usize,
    under_way: &BTreeMap<usize, usize>,
    history: &[Observed<M>],
) -> HashSet<Configuration<M::State>> {
    let mut reached = HashSet::new();
    let mut seen: HashSet<Configuration<M::State>> = before.clone();
    let mut open: Vec<Configuration<M::State>> = before.iter().cloned().collect();
    while let Some(mut one) = open.pop() {
        if one.done & (1 << slot) != 0 {
            one.done &= !(1 << slot);
            reached.insert(one);
            continue;
        }
        for (&other, &index) in under_way {
            if one.done & (1 << other) != 0 {
                continue;
            }
            let observed = &history[index];
            let too_soon =
                |(slot, before): (&usize, &usize)| *before + 1 == index && one.done & (1 << slot) == 0;
            if observed.follows && under_way.iter().any(too_soon) {
                continue;
            }
            let Some(state) = M::step(&one.state, &observed.operation, observed.reply.as_ref()) else {
                continue;
            };
            let next = Configuration { state, done: one.done | (1 << other) };
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
        assert!(seen.len() < CONFIGURATIONS_MAX, "too much happens at once to check");
    }
    reached
}

fn explain<M: Model>(
    before: &HashSet<Configuration<M::State>>,
    index: usize,
    under_way: &BTreeMap<usize, usize>,
    history: &[Observed<M>],
) -> String {
    let mut text = String::from("not linearizable: nothing explains\n");
    text += &format!("  {:?}\nwhile under way were\n", history[index]);
    for other in under_way.values().filter(|other| **other != index) {
        text += &format!("  {:?}\n", history[*other]);
    }
    text += "and the state could only be\n";
    for one in before.iter().take(5) {
        text += &format!("  {:?}\n", one.state);
    }
    text += "after\n";
    let mut earlier: Vec<&Observed<M>> =
        history.iter().filter(|other| other.returned < history[index].returned).collect();
    earlier.sort_by_key(|other| other.returned);
    for other in earlier.iter().rev().take(20).rev() {
        text += &format!("  {other:?}\n");
    }
    text
}
