//! Memory for large requests: taken before they are read, from the one memory budget.
//!
//! A request that will need more than [`LARGE_REQUEST_BYTES`] (a bulk counts with its announced length as soon as its header is
//! there) is charged before more of it is read. The connection holds a [`Charge`]; one that does not fit is not read until it does.
//! What is charged is lent by the block cache: the housekeeper moves the ceiling after making room, so no worker ever evicts.
//!
//! ```text
//! 0 ......... slack (always there) ......... ceiling (moved by the housekeeper) ......... limit (half the budget)
//! |<------------- in use ------------->|                                          one charge at a time above: the overdraft
//! ```
//!
//! *Order.* First come, first served, over all workers. Who holds a charge already and needs more does not queue: those before it
//! may wait for its end.
//!
//! *No deadlock.* What can never fit under the limit (one value larger than it; a command whose next large word does not fit beside
//! what others hold) may overdraw, one connection at a time, and is not held against the others. So any single command passes,
//! whatever the budget, and memory for large requests is bounded by half the budget and one command.
//!
//! *Threads.* One mutex, held for a few instructions, and met by large requests only. Small ones pay a comparison.
//!
//! Not done here: a client that announces much and sends nothing holds its charge until it is closed (`timeout`). What a command
//! allocates while it runs is not charged either.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests up to this size are not charged; charges are multiples of it.
pub const LARGE_REQUEST_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Allowance {
    slack_bytes: usize,
    limit_bytes: usize,
    state: Mutex<State>,
    /// Grows whenever somebody who waits may fit now.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    in_use_bytes: usize,
    ceiling_bytes: usize,
    /// Who overdraws.
    overdrawer: Option<u64>,
    overdrawn_bytes: usize,
    waiting_bytes: usize,
    /// Who waits and holds nothing yet: those that fit under the limit, and those that never will.
    queues: [VecDeque<u64>; 2],
    next_ticket: u64,
}

/// Bytes of large requests, for INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Charged.
    pub charged_bytes: usize,
    /// Wanted by those that wait.
    pub waiting_bytes: usize,
}

impl Allowance {
    /// For a server with this memory budget.
    pub fn new(budget_bytes: usize) -> Allowance {
        let slack_bytes = (budget_bytes / 32).max(LARGE_REQUEST_BYTES);
        Allowance {
            slack_bytes,
            limit_bytes: (budget_bytes / 2).max(slack_bytes),
            state: Mutex::new(State { ceiling_bytes: slack_bytes, ..State::default() }),
            changes: AtomicU64::new(0),
        }
    }

    /// Moves the ceiling to what is in use and waited for, and the slack on top. Before it does, `lend` makes room: it is told how
    /// many bytes the block cache is to go without. For the housekeeper.
    pub fn move_ceiling(&self, lend: impl FnOnce(usize)) {
        let state = self.lock();
        let wanted = state.in_use_bytes + state.waiting_bytes;
        let lent = (wanted + state.overdrawn_bytes).saturating_sub(self.slack_bytes);
        drop(state);
        lend(lent.min(self.limit_bytes));
        let ceiling = (wanted + self.slack_bytes).min(self.limit_bytes);
        let mut state = self.lock();
        if state.ceiling_bytes != ceiling {
            state.ceiling_bytes = ceiling;
            self.tell();
        }
    }

    /// What is charged and waited for now.
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        Usage {
            charged_bytes: state.in_use_bytes + state.overdrawn_bytes,
            waiting_bytes: state.waiting_bytes,
        }
    }

    /// A number that changes whenever it may be worth to ask again.
    pub fn changes(&self) -> u64 {
        // Acquire: pairs with the Release in `tell`; whoever sees the number finds what it was told of.
        self.changes.load(Ordering::Acquire)
    }

    fn tell(&self) {
        // Release: pairs with the Acquire in `changes`.
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one connection holds for the request that it is sending. Given back when dropped.
#[derive(Debug)]
pub struct Charge {
    allowance: Arc<Allowance>,
    ticket: u64,
    held_bytes: usize,
    overdrawn_bytes: usize,
    /// Bytes waited for beyond those; 0 if it does not wait.
    lacking_bytes: usize,
}

impl Charge {
    /// A charge of nothing.
    pub fn new(allowance: &Arc<Allowance>) -> Charge {
        let mut state = allowance.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        drop(state);
        Charge {
            allowance: Arc::clone(allowance),
            ticket,
            held_bytes: 0,
            overdrawn_bytes: 0,
            lacking_bytes: 0,
        }
    }

    /// Grows to `bytes`, rounded up; never shrinks. False if it does not fit now: then it waits, and [`Charge::ask_again`] tells.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let wanted = bytes.div_ceil(LARGE_REQUEST_BYTES).saturating_mul(LARGE_REQUEST_BYTES);
        let more = wanted.saturating_sub(self.total_bytes());
        if self.is_waiting() || more == 0 {
            return !self.is_waiting();
        }
        let allowance = Arc::clone(&self.allowance);
        let mut state = allowance.lock();
        if self.take(&mut state, more) {
            return true;
        }
        self.lacking_bytes = more;
        state.waiting_bytes = state.waiting_bytes.saturating_add(more);
        if self.total_bytes() == 0 {
            state.queues[usize::from(more > allowance.limit_bytes)].push_back(self.ticket);
        }
        false
    }

    /// Whether what it waited for is granted.
    pub fn ask_again(&mut self) -> bool {
        if self.is_waiting() {
            let allowance = Arc::clone(&self.allowance);
            let mut state = allowance.lock();
            let more = self.lacking_bytes;
            if !self.take(&mut state, more) {
                return false;
            }
            self.stop_waiting(&mut state);
        }
        true
    }

    /// Whether it waits.
    pub fn is_waiting(&self) -> bool {
        self.lacking_bytes > 0
    }

    /// Whether it holds nothing: then it stands in line with all others, and while it waits so do those that came later.
    pub fn is_empty(&self) -> bool {
        self.total_bytes() == 0
    }

    fn total_bytes(&self) -> usize {
        self.held_bytes + self.overdrawn_bytes
    }

    fn take(&mut self, state: &mut State, more: usize) -> bool {
        let limit = self.allowance.limit_bytes;
        if self.is_empty() {
            let first = state.queues[usize::from(more > limit)].front();
            if first.is_some_and(|ticket| *ticket != self.ticket) {
                return false;
            }
        }
        let wanted = state.in_use_bytes.saturating_add(more);
        let fits = wanted <= state.ceiling_bytes || (state.in_use_bytes == 0 && more <= limit);
        let overdraws = state.overdrawer == Some(self.ticket);
        if fits && !overdraws {
            state.in_use_bytes = wanted;
            self.held_bytes += more;
            return true;
        }
        let never_fits = more > limit || (!self.is_empty() && wanted > limit);
        if overdraws || (never_fits && state.overdrawer.is_none()) {
            state.overdrawer = Some(self.ticket);
            state.overdrawn_bytes = state.overdrawn_bytes.saturating_add(more);
            self.overdrawn_bytes += more;
            return true;
        }
        false
    }

    fn stop_waiting(&mut self, state: &mut State) {
        state.waiting_bytes = state.waiting_bytes.saturating_sub(self.lacking_bytes);
        self.lacking_bytes = 0;
        for queue in &mut state.queues {
            // Nearly always the first.
            if let Some(place) = queue.iter().position(|ticket| *ticket == self.ticket) {
                queue.remove(place);
                self.allowance.tell();
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let allowance = Arc::clone(&self.allowance);
        let mut state = allowance.lock();
        if self.is_waiting() {
            self.stop_waiting(&mut state);
        }
        state.in_use_bytes = state.in_use_bytes.saturating_sub(self.held_bytes);
        if state.overdrawer == Some(self.ticket) {
            state.overdrawer = None;
            state.overdrawn_bytes = 0;
        }
        allowance.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1 << 20;

    fn charged(allowance: &Allowance) -> usize {
        allowance.usage().charged_bytes / MIB
    }

    #[test]
    fn the_slack_is_there_at_once_and_the_ceiling_follows() {
        let allowance = Arc::new(Allowance::new(64 * MIB));
        let mut first = Charge::new(&allowance);
        assert!(first.grow(2 * MIB));
        let mut second = Charge::new(&allowance);
        assert!(!second.grow(10 * MIB - 5), "beyond the slack");
        let mut third = Charge::new(&allowance);
        assert!(!third.grow(MIB), "behind the second");
        let mut lent = 0;
        allowance.move_ceiling(|bytes| lent = bytes);
        assert_eq!(lent, 11 * MIB, "all that is held and wanted, but the slack");
        assert!(!third.ask_again());
        assert!(second.ask_again() && third.ask_again());
        assert_eq!(allowance.usage(), Usage { charged_bytes: 13 * MIB, waiting_bytes: 0 });
        assert!(second.grow(9 * MIB), "held already");
        drop((first, second, third));
        allowance.move_ceiling(|bytes| lent = bytes);
        assert_eq!((charged(&allowance), lent), (0, 0));
    }

    #[test]
    fn a_single_value_always_passes() {
        let allowance = Arc::new(Allowance::new(16 * MIB));
        let mut small = Charge::new(&allowance);
        assert!(small.grow(8 * MIB), "nothing is in use");
        let mut huge = Charge::new(&allowance);
        assert!(huge.grow(512 * MIB), "it overdraws");
        let mut another = Charge::new(&allowance);
        assert!(!another.grow(512 * MIB), "one at a time");
        drop(small);
        let mut small = Charge::new(&allowance);
        assert!(small.grow(8 * MIB), "those that fit do not stand behind those that never will");
        assert!(!another.ask_again());
        drop(huge);
        assert!(another.ask_again());
    }

    #[test]
    fn commands_with_several_large_words_do_not_lock_each_other() {
        let allowance = Arc::new(Allowance::new(64 * MIB));
        let (mut left, mut right) = (Charge::new(&allowance), Charge::new(&allowance));
        assert!(left.grow(20 * MIB));
        assert!(!right.grow(10 * MIB));
        allowance.move_ceiling(|_| ());
        assert!(right.ask_again());
        assert!(left.grow(40 * MIB), "the one that overdraws");
        assert!(!right.grow(30 * MIB));
        assert!(left.grow(60 * MIB), "and goes on to");
        drop(left);
        allowance.move_ceiling(|_| ());
        assert!(right.ask_again());
    }

    #[test]
    fn who_leaves_the_queue_lets_the_next_one_come() {
        let allowance = Arc::new(Allowance::new(64 * MIB));
        let mut holder = Charge::new(&allowance);
        assert!(holder.grow(30 * MIB));
        let (mut first, mut second) = (Charge::new(&allowance), Charge::new(&allowance));
        assert!(!first.grow(30 * MIB));
        assert!(!second.grow(2 * MIB));
        allowance.move_ceiling(|_| ());
        assert!(!second.ask_again());
        let before = allowance.changes();
        drop(first);
        assert_ne!(allowance.changes(), before);
        assert!(second.ask_again());
    }

    proptest! {
        /// Whatever is asked for, granted, dropped: the bound holds, the sums are those of the charges, and all pass in the end.
        #[test]
        fn bounded_and_live(budget in 1..100usize, steps in prop::collection::vec((0..6usize, 0..4u8, 1..60usize), 1..60)) {
            let allowance = Arc::new(Allowance::new(budget * MIB));
            let mut charges: Vec<Option<Charge>> = (0..6).map(|_| None).collect();
            for (place, action, size) in steps {
                match action {
                    0 => charges[place] = None,
                    1 => allowance.move_ceiling(|_| ()),
                    _ => {
                        let charge = charges[place].get_or_insert_with(|| Charge::new(&allowance));
                        let bytes = charge.total_bytes() + size * MIB;
                        if charge.ask_again() {
                            charge.grow(bytes);
                        }
                    }
                }
                let held: usize = charges.iter().flatten().map(|charge| charge.held_bytes).sum();
                let total: usize = charges.iter().flatten().map(Charge::total_bytes).sum();
                let lacking: usize = charges.iter().flatten().map(|charge| charge.lacking_bytes).sum();
                let overdraw = charges.iter().flatten().filter(|charge| charge.overdrawn_bytes > 0).count();
                prop_assert!(held <= allowance.limit_bytes && overdraw <= 1);
                prop_assert_eq!(allowance.usage(), Usage { charged_bytes: total, waiting_bytes: lacking });
            }
            for _ in 0..6 {
                allowance.move_ceiling(|_| ());
                for charge in &mut charges {
                    if charge.as_mut().is_some_and(Charge::ask_again) {
                        *charge = None;
                    }
                }
            }
            prop_assert!(charges.iter().all(Option::is_none));
            prop_assert_eq!(allowance.usage(), Usage { charged_bytes: 0, waiting_bytes: 0 });
        }
    }
}
