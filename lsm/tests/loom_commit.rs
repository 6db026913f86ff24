//! The publish step of a commit under loom, which tries every order of every access (within a bound on preemptions):
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p haypile-lsm --release --test loom_commit`.
//!
//! A commit is what `db/commit.rs` makes of it: a ticket and an LSN under the append lock, an insert (here a relaxed store, so that only
//! the publisher's own ordering can make it seen), `applied`, and the wait. The ring has four slots.
#![cfg(loom)]

use haypile_lsm::base::sync::{AtomicU64, Ordering};
use haypile_lsm::db::publish::Publisher;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;

struct Model {
    publisher: Publisher,
    append: Mutex<u64>,
    /// Slot `n` is set by the commit with LSN `n + 1`.
    inserted: Vec<AtomicU64>,
}

impl Model {
    fn new(commits: usize) -> Arc<Model> {
        let inserted = (0..commits).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Model { publisher: Publisher::new(0), append: Mutex::new(0), inserted })
    }

    fn commit(&self) -> u64 {
        let lsn = self.commit_unwaited();
        assert!(self.publisher.wait_visible(lsn));
        lsn
    }

    fn commit_unwaited(&self) -> u64 {
        let (ticket, lsn) = {
            let mut last = self.append.lock().unwrap();
            *last += 1;
            (self.publisher.assign(), *last)
        };
        self.inserted[lsn as usize - 1].store(lsn, Ordering::Relaxed);
        self.publisher.applied(ticket, lsn);
        lsn
    }

    /// What a reader relies on: everything at or below `visible` is there.
    fn read(&self) -> u64 {
        let visible = self.publisher.visible();
        for lsn in 1..=visible {
            assert_eq!(self.inserted[lsn as usize - 1].load(Ordering::Relaxed), lsn, "visible is {visible}");
        }
        visible
    }
}

#[test]
fn two_commits_and_a_reader() {
    loom::model(|| {
        let model = Model::new(2);
        let threads = [0, 1].map(|_| {
            let model = model.clone();
            thread::spawn(move || {
                let lsn = model.commit();
                assert!(model.read() >= lsn);
            })
        });
        let first = model.read();
        assert!(model.read() >= first);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(model.read(), 2);
    });
}

/// Nothing that was applied stays unpublished, whoever comes last. (Nobody waits here: three threads in waiting loops are too many
/// orders to try.)
#[test]
fn three_commits() {
    loom::model(|| {
        let model = Model::new(3);
        let threads = [0, 1].map(|_| {
            let model = model.clone();
            thread::spawn(move || model.commit_unwaited())
        });
        model.commit_unwaited();
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() <= 3));
        assert_eq!(model.read(), 3);
    });
}

/// The second lap over the ring: the marks of the first are still in the slots.
#[test]
fn the_ring_goes_round() {
    loom::model(|| {
        let model = Model::new(6);
        (1..=3).for_each(|lsn| assert_eq!(model.commit(), lsn));
        let other = model.clone();
        let thread = thread::spawn(move || (other.commit(), other.commit()));
        model.commit();
        thread.join().unwrap();
        assert_eq!(model.read(), 6);
    });
}

/// With as many commits on their way as there are slots, the next one waits for a slot, and no longer.
#[test]
fn a_full_ring() {
    loom::model(|| {
        let model = Model::new(5);
        let tickets = [1, 2, 3, 4].map(|lsn| (model.publisher.assign(), lsn));
        *model.append.lock().unwrap() = 4;
        let other = model.clone();
        let thread = thread::spawn(move || {
            for (ticket, lsn) in tickets {
                other.inserted[lsn as usize - 1].store(lsn, Ordering::Relaxed);
                other.publisher.applied(ticket, lsn);
            }
        });
        assert_eq!(model.commit(), 5);
        thread.join().unwrap();
        assert_eq!(model.read(), 5);
    });
}

/// A commit that is lost holds nobody up who would wait for it.
#[test]
fn a_lost_commit() {
    loom::model(|| {
        let model = Model::new(2);
        let _lost = model.publisher.assign();
        *model.append.lock().unwrap() = 1;
        let other = model.clone();
        let thread = thread::spawn(move || {
            let ticket = other.publisher.assign();
            other.publisher.applied(ticket, 2);
            assert!(!other.publisher.wait_visible(2));
        });
        model.publisher.mark_broken();
        thread.join().unwrap();
        assert_eq!(model.read(), 0);
    });
}
