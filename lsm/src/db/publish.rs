//! The last step of a commit: making it visible, in commit order, without a lock.
//!
//! Commits are assigned dense *tickets* under the append lock and then insert into memtables in parallel, so they finish in any
//! order. `visible` may only ever cover a gapless prefix of them: it advances over the applied prefix, moved by whoever
//! finds the next ticket applied (the publish step of Pebble's commit pipeline, with a ring instead of its queue).
//!
//! ```text
//! ring   [ 7: applied ] [ 8: applied ] [ 9: pending ] [ 10: applied ] ...
//!           ^ head = 7                    head stops here; 10 becomes visible when 9 is applied
//! ```
//!
//! Invariants: a slot is marked with the ticket it stands for, so it needs no clearing and a late marker cannot be mistaken for
//! the next lap's; a ticket is handed out only while fewer than the ring's length are outstanding.

use crate::base::key::Lsn;
use crate::base::sync::{AtomicBool, AtomicU64, Ordering, in_total_order, spin_hint};

#[cfg(not(loom))]
const RING: usize = 4096;
#[cfg(loom)]
const RING: usize = 4;

/// Place of a commit in the order of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

struct Slot {
    /// `ticket + 1` of the applied commit that this slot stands for; 0 at the start.
    applied: AtomicU64,
    /// Its last LSN; written before `applied`.
    lsn: AtomicU64,
}

/// See the head of the file.
pub struct Publisher {
    slots: Box<[Slot]>,
    /// Next ticket to hand out. Changed under the append lock only.
    next: AtomicU64,
    /// The oldest ticket that is not published.
    head: AtomicU64,
    visible: AtomicU64,
    /// A commit was lost between assign and publish; `visible` will never pass it.
    broken: AtomicBool,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("visible", &self.visible()).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts with everything up to `visible` published.
    pub fn new(visible: Lsn) -> Publisher {
        let slots = (0..RING).map(|_| Slot { applied: AtomicU64::new(0), lsn: AtomicU64::new(0) }).collect();
        Publisher {
            slots,
            next: AtomicU64::new(0),
            head: AtomicU64::new(0),
            visible: AtomicU64::new(visible),
            broken: AtomicBool::new(false),
        }
    }

    /// Everything up to here is applied and may be read. Acquire: pairs with the release in [`applied`](Self::applied), so who
    /// reads at this LSN sees every insert at or below it.
    pub fn visible(&self) -> Lsn {
        self.visible.load(Ordering::Acquire)
    }

    /// Hands out the next ticket. Requires: the caller holds the append lock. Spins while the ring is full, which takes as many
    /// commits in flight as it has slots.
    pub fn assign(&self) -> Ticket {
        // Relaxed: `next` is only touched under the append lock.
        let ticket = self.next.load(Ordering::Relaxed);
        // Acquire: pairs with the compare-exchange on `head`; the slot's former user is done with it.
        while ticket - self.head.load(Ordering::Acquire) >= RING as u64 {
            if self.is_broken() {
                break;
            }
            spin_hint();
        }
        self.next.store(ticket + 1, Ordering::Relaxed);
        Ticket(ticket)
    }

    /// Marks a commit as applied and publishes whatever prefix that completes.
    pub fn applied(&self, ticket: Ticket, last: Lsn) {
        let slot = &self.slots[ticket.0 as usize % RING];
        // Relaxed: ordered by the release store that follows.
        slot.lsn.store(last, Ordering::Relaxed);
        // SeqCst, not only Release: this store and the load of `head` below, against another committer's same pair, must not both
        // miss each other, or an applied prefix would stay unpublished. Pairs with the SeqCst load of `applied` in the loop.
        slot.applied.store(ticket.0 + 1, Ordering::SeqCst);
        in_total_order();
        loop {
            let head = self.head.load(Ordering::SeqCst);
            let slot = &self.slots[head as usize % RING];
            if slot.applied.load(Ordering::SeqCst) != head + 1 {
                return;
            }
            let lsn = slot.lsn.load(Ordering::Relaxed);
            // Release: pairs with the acquire in `assign`. SeqCst for the argument above.
            if self.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                // Only a claimed head moves `visible`, and every claim has seen its slot and all before it applied. AcqRel: pairs with
                // the acquire in `visible`, and keeps the chain of earlier publishers' inserts.
                self.visible.fetch_max(lsn, Ordering::AcqRel);
                in_total_order();
            }
        }
    }

    /// Waits until `lsn` is visible: a short spin, then yields; earlier committers are inside a memtable insert. Returns false if
    /// a commit before it was lost.
    pub fn wait_visible(&self, lsn: Lsn) -> bool {
        let mut spins = 0u32;
        while self.visible() < lsn {
            if self.is_broken() {
                return false;
            }
            spins += 1;
            if spins < 200 {
                spin_hint();
            } else {
                #[cfg(not(loom))]
                std::thread::yield_now();
                #[cfg(loom)]
                loom::thread::yield_now();
            }
        }
        true
    }

    /// Declares that some ticket will never be applied.
    pub fn mark_broken(&self) {
        // Release: pairs with the acquire in `is_broken`.
        self.broken.store(true, Ordering::Release);
    }

    /// Whether [`mark_broken`](Self::mark_broken) was called.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn publishes_only_a_prefix() {
        let publisher = Publisher::new(10);
        let (a, b, c) = (publisher.assign(), publisher.assign(), publisher.assign());
        publisher.applied(b, 12);
        assert_eq!(publisher.visible(), 10);
        publisher.applied(a, 11);
        assert_eq!(publisher.visible(), 12);
        publisher.applied(c, 15);
        assert!(publisher.wait_visible(15));
    }

    #[test]
    fn many_threads_publish_everything() {
        let publisher = Publisher::new(0);
        let lock = std::sync::Mutex::new(0u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let (ticket, lsn) = {
                            let mut last = lock.lock().unwrap();
                            *last += 1;
                            (publisher.assign(), *last)
                        };
                        publisher.applied(ticket, lsn);
                        assert!(publisher.wait_visible(lsn));
                    }
                });
            }
        });
        assert_eq!(publisher.visible(), 80_000);
    }
}
