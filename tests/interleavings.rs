//! Every order of steps of what threads share, by loom: the table of key locks, the hand-over to a blocked client, the mailbox.
//!
//! The files under test are those of the server, over loom's mutexes and atomics ([`base::sync`]). Each model is run for every order of its threads'
//! steps (up to a number of changes where none is needed); a thread that sleeps for ever is a deadlock, which loom reports. It is part of
//! `cargo test`; names of models as arguments run only those.
#![expect(clippy::disallowed_methods, reason = "a test outside the server reads clocks as any program")]

/// What `src/base/sync.rs` is to the server.
mod base {
    pub mod sync {
        pub use loom::hint::spin_loop;
        pub use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};
        pub use loom::sync::{Mutex, MutexGuard};

        pub const IS_MODEL: bool = true;
    }
}

#[path = "../src/session/claim.rs"]
#[expect(dead_code, unused_imports, reason = "the models take their part; its unit tests are not here")]
mod claim;
#[path = "../src/store/key_locks.rs"]
#[expect(dead_code, unused_imports, reason = "the models take their part; its unit tests are not here")]
mod key_locks;
#[path = "../src/session/mailbox.rs"]
#[expect(dead_code, unused_imports, reason = "the models take their part; its unit tests are not here")]
mod mailbox;

use std::collections::VecDeque;
use std::time::Instant;

use claim::{Claim, Ending};
use key_locks::{KeyGuard, KeyLocks, LockKey, Waker};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use mailbox::Mailbox;

fn main() {
    let models: &[(&str, fn())] = &[
        (
            "a_key_is_held_by_one_and_no_waiter_is_slept_over",
            a_key_is_held_by_one_and_no_waiter_is_slept_over,
        ),
        ("several_keys_at_once_never_deadlock", several_keys_at_once_never_deadlock),
        ("keys_held_on_for_another_thread_exclude", keys_held_on_for_another_thread_exclude),
        ("a_kept_key_excludes_and_who_waits_is_called", a_kept_key_excludes_and_who_waits_is_called),
        ("a_waiter_that_has_gone_keeps_nobody_waiting", a_waiter_that_has_gone_keeps_nobody_waiting),
        (
            "an_element_goes_to_one_waiter_and_none_is_slept_over",
            an_element_goes_to_one_waiter_and_none_is_slept_over,
        ),
        ("no_letter_is_slept_over", no_letter_is_slept_over),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for (name, model) in models {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            let began = Instant::now();
            model();
            println!("model {name} ... ok ({} ms)", began.elapsed().as_millis());
        }
    }
}

fn check(changes: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(changes);
    builder.check(model);
}

// The table of key locks.

/// Keys, and what their locks protect: loom reports two threads in one cell.
struct Table {
    locks: KeyLocks,
    cells: [UnsafeCell<u32>; 2],
}

impl Table {
    fn new() -> Arc<Table> {
        Arc::new(Table { locks: KeyLocks::new(), cells: [UnsafeCell::new(0), UnsafeCell::new(0)] })
    }

    /// As a connection does: tries, leaves a waker, sleeps until it is called, tries again.
    fn lock(&self, cells: &[usize]) -> KeyGuard<'_> {
        let bell = Arc::new(Bell::new());
        let mut keys: Vec<LockKey> = cells.iter().map(|cell| LockKey::new(0, &[*cell as u8])).collect();
        loop {
            let wake = || -> Waker {
                let ring = Arc::clone(&bell);
                Box::new(move || ring.ring())
            };
            match self.locks.lock_or_queue(&mut keys, wake) {
                Some(guard) => return guard,
                None => bell.wait(),
            }
        }
    }

    fn change(&self, cells: &[usize]) {
        for &cell in cells {
            // SAFETY: the key of the cell is locked; that nobody else is here is what loom checks.
            self.cells[cell].with_mut(|value| unsafe { *value += 1 });
        }
    }

    fn work(&self, cells: &[usize]) {
        let guard = self.lock(cells);
        self.change(cells);
        drop(guard);
    }

    fn expect(&self, counts: [u32; 2]) {
        assert_eq!(self.locks.held(), 0);
        let guard = self.lock(&[0, 1]);
        for (cell, count) in self.cells.iter().zip(counts) {
            // SAFETY: as above.
            cell.with(|value| assert_eq!(unsafe { *value }, count));
        }
        drop(guard);
    }
}

fn a_key_is_held_by_one_and_no_waiter_is_slept_over() {
    check(3, || {
        let table = Table::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let table = Arc::clone(&table);
                loom::thread::spawn(move || table.work(&[0]))
            })
            .collect();
        table.work(&[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
        table.expect([3, 0]);
    });
}

fn several_keys_at_once_never_deadlock() {
    check(3, || {
        let table = Table::new();
        let others: Vec<_> = [&[1usize, 0][..], &[1]]
            .into_iter()
            .map(|cells| {
                let table = Arc::clone(&table);
                loom::thread::spawn(move || table.work(cells))
            })
            .collect();
        table.work(&[0, 1]);
        others.into_iter().for_each(|other| other.join().unwrap());
        table.expect([2, 3]);
    });
}

/// What a worker does with service that needs the disk: the keys stay locked, and a pool's thread goes on with them.
fn keys_held_on_for_another_thread_exclude() {
    check(3, || {
        let table = Table::new();
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || table.work(&[1, 0]))
        };
        let detached = table.lock(&[0, 1]).detach();
        table.change(&[0]);
        let pool = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                let guard = table.locks.adopt(detached);
                table.change(&[1]);
                drop(guard);
            })
        };
        other.join().unwrap();
        pool.join().unwrap();
        table.expect([2, 2]);
    });
}

/// What a worker does with a pipeline: the key stays locked from one command to the next.
fn a_kept_key_excludes_and_who_waits_is_called() {
    check(3, || {
        let table = Table::new();
        let others: Vec<_> = [&[0usize][..], &[0, 1]]
            .into_iter()
            .map(|cells| {
                let table = Arc::clone(&table);
                loom::thread::spawn(move || table.work(cells))
            })
            .collect();
        let kept = table.lock(&[0]).keep().expect("one key");
        table.change(&[0]);
        let kept = table.locks.adopt_one(kept).keep().expect("one key");
        table.change(&[0]);
        drop(table.locks.adopt_one(kept));
        others.into_iter().for_each(|other| other.join().unwrap());
        table.expect([4, 1]);
    });
}

/// Its waker is called and does nothing; those behind it get their turn all the same.
fn a_waiter_that_has_gone_keeps_nobody_waiting() {
    check(3, || {
        let table = Table::new();
        let gone = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || {
                let mut keys = vec![LockKey::new(0, &[0])];
                drop(table.locks.lock_or_queue(&mut keys, || Box::new(|| {})));
            })
        };
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || table.work(&[0]))
        };
        table.work(&[0, 1]);
        gone.join().unwrap();
        other.join().unwrap();
        table.expect([2, 1]);
    });
}

// The hand-over to a blocked client.

/// What the poll is to a worker.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Bell {
        Bell { rung: Mutex::new(false), changed: Condvar::new() }
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A key: its elements, and who waits for one. Its mutex is the key's lock.
type Key = Arc<Mutex<(Vec<u32>, VecDeque<Arc<Claim<u32>>>)>>;

/// What a push does: the element, then whoever waits, in order.
fn push(key: &Key, element: u32, mailbox: &Mailbox<()>) {
    let mut key = key.lock().unwrap();
    key.0.push(element);
    while let Some(&first) = key.0.first() {
        let Some(waiter) = key.1.pop_front() else { return };
        if waiter.serve() {
            key.0.remove(0);
            waiter.deliver(first);
            mailbox.post(());
        }
    }
}

/// Two pushes, two waiters of one owner, and one that ends the first wait from outside: every element goes to exactly one
/// waiter or stays, a wait that was ended gets none, and the owner hears of everything it waits for.
fn an_element_goes_to_one_waiter_and_none_is_slept_over() {
    check(2, || {
        let bell = Arc::new(Bell::new());
        let ring = Arc::clone(&bell);
        let mailbox: Arc<Mailbox<()>> = Arc::new(Mailbox::new(move || ring.ring()));
        let waiters: Vec<Arc<Claim<u32>>> = (0..2).map(|_| Arc::default()).collect();
        let key: Key = Arc::new(Mutex::new((Vec::new(), waiters.iter().cloned().collect())));
        let pushes: Vec<_> = [7, 8]
            .into_iter()
            .map(|element| {
                let (key, mailbox) = (Arc::clone(&key), Arc::clone(&mailbox));
                loom::thread::spawn(move || push(&key, element, &mailbox))
            })
            .collect();
        let (first, post) = (Arc::clone(&waiters[0]), Arc::clone(&mailbox));
        let unblock = loom::thread::spawn(move || {
            let ended = first.end(Ending::Unblocked);
            if ended {
                post.post(());
            }
            ended
        });
        // The owner: two pushes, so in the end both waits are over, one way or the other.
        let mut served = Vec::new();
        let mut open: Vec<usize> = vec![0, 1];
        let mut letters = Vec::new();
        while !open.is_empty() {
            mailbox.take(&mut letters);
            open.retain(|&waiter| match (waiters[waiter].take(), waiters[waiter].ending()) {
                (Some(element), ending) => {
                    assert_eq!(ending, None);
                    served.push(element);
                    false
                }
                (None, ending) => ending.is_none(),
            });
            if !open.is_empty() && mailbox.prepare_to_sleep() {
                bell.wait();
                mailbox.awake();
            }
        }
        for push in pushes {
            push.join().unwrap();
        }
        let ended = unblock.join().unwrap();
        let left = key.lock().unwrap().0.clone();
        assert_eq!(served.len(), if ended { 1 } else { 2 });
        assert_eq!(left.len(), if ended { 1 } else { 0 });
        let mut all: Vec<u32> = served.into_iter().chain(left).collect();
        all.sort_unstable();
        assert_eq!(all, [7, 8]);
    });
}

// The mailbox.

/// Two posters; the owner goes to sleep whenever it may. A lost wake-up would be a deadlock.
fn no_letter_is_slept_over() {
    check(3, || {
        let bell = Arc::new(Bell::new());
        let ring = Arc::clone(&bell);
        let mailbox: Arc<Mailbox<u32>> = Arc::new(Mailbox::new(move || ring.ring()));
        let posters: Vec<_> = (0..2)
            .map(|letter| {
                let mailbox = Arc::clone(&mailbox);
                loom::thread::spawn(move || mailbox.post(letter))
            })
            .collect();
        let mut letters = Vec::new();
        while letters.len() < 2 {
            mailbox.take(&mut letters);
            if letters.len() < 2 && mailbox.prepare_to_sleep() {
                bell.wait();
                mailbox.awake();
            }
        }
        letters.sort_unstable();
        assert_eq!(letters, [0, 1]);
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}
