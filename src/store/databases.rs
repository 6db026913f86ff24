//! The numbered databases: which space each stands for now, and how much is in it.
//!
//! Counts move with every commit, by the difference it makes, so DBSIZE needs no scan. *Keys* are records of `meta`,
//! expired ones that the sweeper has not met included, as in Redis. *Expires* are entries of `ttl`, but for those of hashes
//! of which only fields expire. Each record or entry
//! counts once when it comes and once when it goes; what a blind write believed wrongly (a filter's false positive) is
//! put right by the next recount.
//!
//! A database's fields change together only while the gate is closed (FLUSHDB, SWAPDB); counters move under the gate from
//! any thread. All accesses are Relaxed: the gate orders the first kind, and nothing is ordered by a counter.

use crate::encoding::meta::Space;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};

/// Expiries are summed in seconds from here, so that billions of them fit: 2020-01-01.
const EXPIRY_EPOCH_SECONDS: i64 = 1_577_836_800;
/// And none counts for more than a hundred years from then.
const EXPIRY_SECONDS_MAX: i64 = 100 * 365 * 86_400;

/// How much is in a space, or by how much that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub keys: i64,
    /// Entries of `ttl`.
    pub expires: i64,
    /// Sum of the expiries of those, in seconds of an epoch of its own.
    pub expiry_seconds: i64,
}

impl Counts {
    /// Counts one entry of `ttl` in (`by` = 1) or out (-1).
    pub fn count_expiry(&mut self, expire_ms: u64, by: i64) {
        let seconds = i64::try_from(expire_ms / 1000).unwrap_or(i64::MAX) - EXPIRY_EPOCH_SECONDS;
        self.expires += by;
        self.expiry_seconds += by * seconds.clamp(0, EXPIRY_SECONDS_MAX);
    }

    /// Adds the other's counts.
    pub fn add(&mut self, other: Counts) {
        self.keys += other.keys;
        self.expires += other.expires;
        self.expiry_seconds += other.expiry_seconds;
    }

    /// Whether nothing changes.
    pub fn is_zero(&self) -> bool {
        *self == Counts::default()
    }

    /// Mean time to live of the keys that expire, in milliseconds.
    pub fn average_ttl_ms(&self, now_ms: u64) -> u64 {
        if self.expires <= 0 {
            return 0;
        }
        let mean_ms = (self.expiry_seconds / self.expires + EXPIRY_EPOCH_SECONDS).saturating_mul(1000);
        mean_ms.saturating_sub(now_ms as i64).max(0) as u64
    }
}

/// One database.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct Database {
    space: AtomicU32,
    keys: AtomicI64,
    expires: AtomicI64,
    expiry_seconds: AtomicI64,
    touched: AtomicBool,
}

impl Database {
    /// A database with this space and these counts.
    pub fn new(space: Space, counts: Counts) -> Database {
        let database = Database::default();
        database.replace(space, counts);
        database
    }

    /// Its space.
    #[inline]
    pub fn space(&self) -> Space {
        self.space.load(Relaxed)
    }

    /// How much is in it; never below zero.
    pub fn counts(&self) -> Counts {
        Counts {
            keys: self.keys.load(Relaxed).max(0),
            expires: self.expires.load(Relaxed).max(0),
            expiry_seconds: self.expiry_seconds.load(Relaxed),
        }
    }

    /// How much is in it, errors and all.
    pub fn raw_counts(&self) -> Counts {
        Counts {
            keys: self.keys.load(Relaxed),
            expires: self.expires.load(Relaxed),
            expiry_seconds: self.expiry_seconds.load(Relaxed),
        }
    }

    /// Books a change.
    #[inline]
    pub fn book(&self, by: Counts) {
        if by.keys != 0 {
            self.keys.fetch_add(by.keys, Relaxed);
        }
        if by.expires != 0 || by.expiry_seconds != 0 {
            self.expires.fetch_add(by.expires, Relaxed);
            self.expiry_seconds.fetch_add(by.expiry_seconds, Relaxed);
        }
    }

    /// Remembers that something was written, so that FLUSHALL need not clear what is clear.
    #[inline]
    pub fn touch(&self) {
        if !self.touched.load(Relaxed) {
            self.touched.store(true, Relaxed);
        }
    }

    /// Whether anything was written since the last flush (or may have been before the last open).
    pub fn is_touched(&self) -> bool {
        self.touched.load(Relaxed)
    }

    /// Stands for another space from now on. With the gate closed only.
    pub fn replace(&self, space: Space, counts: Counts) {
        self.space.store(space, Relaxed);
        self.keys.store(counts.keys, Relaxed);
        self.expires.store(counts.expires, Relaxed);
        self.expiry_seconds.store(counts.expiry_seconds, Relaxed);
    }

    /// Says whether anything was written. With the gate closed only.
    pub fn set_touched(&self, touched: bool) {
        self.touched.store(touched, Relaxed);
    }

    /// Exchanges spaces and counts. With the gate closed only.
    pub fn swap(&self, other: &Database) {
        let (mine, my_counts, my_touched) = (self.space(), self.raw_counts(), self.is_touched());
        self.replace(other.space(), other.raw_counts());
        self.set_touched(other.is_touched());
        other.replace(mine, my_counts);
        other.set_touched(my_touched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_and_go() {
        let (a, b) = (Database::new(1, Counts::default()), Database::new(2, Counts::default()));
        let mut change = Counts { keys: 2, ..Counts::default() };
        change.count_expiry(2_000_000_000_000, 1);
        change.count_expiry(2_000_000_010_000, 1);
        a.book(change);
        a.touch();
        assert_eq!(a.counts().average_ttl_ms(2_000_000_000_000), 5000);
        a.swap(&b);
        assert_eq!((a.space(), b.space(), a.counts(), b.counts()), (2, 1, Counts::default(), change));
        assert!(b.is_touched() && !a.is_touched());
        let mut back = Counts { keys: -3, ..Counts::default() };
        back.count_expiry(2_000_000_010_000, -1);
        b.book(back);
        assert_eq!((b.counts().keys, b.raw_counts().keys, b.counts().expires), (0, -1, 1));
        let mut none = Counts::default();
        none.count_expiry(u64::MAX, 1);
        none.count_expiry(u64::MAX, -1);
        assert!(none.is_zero());
    }
}
