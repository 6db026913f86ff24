//! What was denied lately, and how often since the start. Bounded in entries and in bytes of each.
//!
//! A denial like one of the last ten within a minute is counted with it. The lock is taken for denials and by ACL LOG only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a denial counts with one like it.
const LIKE_MS_MAX: u64 = 60_000;
/// How many are looked at for one like it.
const LIKE_AMONG: usize = 10;
/// What is kept of an object and of a name, in bytes.
pub const WORD_BYTES_MAX: usize = 4096;

/// Why something was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The command.
    Command,
    /// A key.
    Key,
    /// The password, or the user.
    Auth,
    /// A channel.
    Channel,
}

impl Reason {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Auth => "auth",
            Reason::Channel => "channel",
        }
    }
}

/// A denial, or several like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// Whether within a transaction.
    pub in_multi: bool,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user.
    pub user: Vec<u8>,
    /// The client that was denied last, as CLIENT LIST shows it.
    pub client: String,
    /// How often.
    pub count: u64,
    /// Grows from 0.
    pub id: u64,
    /// When first (unix ms).
    pub created_ms: u64,
    /// When last (unix ms).
    pub updated_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    denials: VecDeque<Denial>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct AclLog {
    inner: Mutex<Inner>,
    counts: [AtomicU64; 4],
}

impl AclLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a denial of now; keeps `length_max` of them.
    pub fn add(
        &self,
        (reason, in_multi): (Reason, bool),
        object: &[u8],
        user: &[u8],
        client: String,
        now_ms: u64,
        length_max: usize,
    ) {
        // Relaxed: it only counts.
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let cut = |word: &[u8]| word[..word.len().min(WORD_BYTES_MAX)].to_vec();
        let (object, user) = (cut(object), cut(user));
        let mut inner = self.lock();
        if length_max == 0 {
            inner.denials.clear();
            return;
        }
        let is_like = |known: &Denial| {
            (known.reason, known.in_multi) == (reason, in_multi)
                && now_ms.abs_diff(known.updated_ms) <= LIKE_MS_MAX
                && known.object == object
                && known.user == user
        };
        let like = inner.denials.iter().take(LIKE_AMONG).position(is_like);
        let denial = match like.and_then(|at| inner.denials.remove(at)) {
            Some(known) => Denial { client, updated_ms: now_ms, count: known.count + 1, ..known },
            None => {
                let id = inner.next_id;
                inner.next_id += 1;
                Denial {
                    reason,
                    in_multi,
                    object,
                    user,
                    client,
                    count: 1,
                    id,
                    created_ms: now_ms,
                    updated_ms: now_ms,
                }
            }
        };
        inner.denials.push_front(denial);
        inner.denials.truncate(length_max);
    }

    /// The newest `count`, newest first.
    pub fn latest(&self, count: usize) -> Vec<Denial> {
        self.lock().denials.iter().take(count).cloned().collect()
    }

    /// Forgets all. Numbers go on.
    pub fn reset(&self) {
        self.lock().denials.clear();
    }

    /// How often something was denied for this reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &AclLog, object: &str, now_ms: u64, length_max: usize) {
        log.add((Reason::Key, false), object.as_bytes(), b"u", format!("at {now_ms}"), now_ms, length_max);
    }

    #[test]
    fn what_is_alike_is_one_entry() {
        let log = AclLog::default();
        for (object, now_ms) in [("a", 1), ("b", 2), ("a", 60_001), ("b", 60_003), ("b", 60_004)] {
            add(&log, object, now_ms, 128);
        }
        let shown: Vec<_> =
            log.latest(9).into_iter().map(|d| (d.id, d.count, d.created_ms, d.client)).collect();
        let entry = |id, count, created_ms, at: &str| (id, count, created_ms, at.to_string());
        assert_eq!(
            shown,
            [entry(2, 2, 60_003, "at 60004"), entry(0, 2, 1, "at 60001"), entry(1, 1, 2, "at 2")]
        );
        assert_eq!((log.count(Reason::Key), log.count(Reason::Auth)), (5, 0));
        log.reset();
        add(&log, "a", 60_005, 128);
        assert_eq!(log.latest(9)[0].id, 3, "numbers go on");
    }

    #[test]
    fn it_is_bounded() {
        let log = AclLog::default();
        (0..20).for_each(|number| add(&log, &format!("{number}{}", "x".repeat(9000)), 1, 5));
        assert_eq!(log.latest(99).len(), 5);
        assert!(
            log.latest(1)[0].object.len() == WORD_BYTES_MAX && log.latest(1)[0].object.starts_with(b"19x")
        );
        add(&log, "y", 1, 0);
        assert!(log.latest(99).is_empty() && log.count(Reason::Key) == 21);
    }
}
