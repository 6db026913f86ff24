//! Exact locks of keys: a key is in the table while it is held, and not a moment longer.
//!
//! ```text
//! hash of (db, key) --top bits--> shard = Mutex { held: hash -> wakers of those who want it }
//! ```
//!
//! Two different keys wait for each other only if all 64 bits of their hashes agree, and then nothing worse happens. A
//! command locks all its keys at once, in sorted order, or none: whoever meets a held key gives back what it has, so no
//! cycle of waiters can form. Nobody waits inside: a caller spins for some microseconds, then leaves a waker on the
//! contended key and goes. Release calls every waker of the key, first come first called; each tries again from the
//! start, and those who lose queue again. All of them rather than one, because a woken client may be gone, and because
//! what they run is a few microseconds long on few threads: handing a lock from one to the next costs more than the race.
//!
//! A worker keeps the key of one command for the next of the same pipeline if that names the same key and no other
//! ([`KeyGuard::keep`], `docs/decisions/0010`): many clients of one key on many workers else hand it over, and wait for it,
//! once a command. Between the two nothing waits for anything, so a kept key is only a key that is held a little longer.
//!
//! Shard mutexes are held for a few instructions, never across a callback, and never two at once.

use crate::base::sync::{IS_MODEL, Mutex, MutexGuard, spin_loop};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::PoisonError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Called once when what was waited for is free.
pub type Waker = Box<dyn FnOnce() + Send>;

const SHARDS: usize = if IS_MODEL { 2 } else { 64 };
/// Attempts before giving up; with the pauses between them one to four microseconds, as processors go.
const ATTEMPTS: usize = if IS_MODEL { 1 } else { 24 };

/// A key's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(u64);

impl LockKey {
    /// The lock of `key` in database number `db`.
    #[inline]
    pub fn new(db: usize, key: &[u8]) -> LockKey {
        LockKey(xxh3_64_with_seed(key, db as u64))
    }

    fn shard(self) -> usize {
        (self.0 >> 40) as usize % SHARDS
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Held = HashMap<u64, Vec<Waker>, BuildHasherDefault<Identity>>;

/// Two cache lines, so that neighbouring shards do not disturb each other.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Held>);

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing between lock and unlock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table.
pub struct KeyLocks {
    shards: Box<[Shard]>,
}

impl Default for KeyLocks {
    fn default() -> Self {
        KeyLocks { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl std::fmt::Debug for KeyLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyLocks").field("held", &self.held()).finish()
    }
}

impl KeyLocks {
    /// An empty table.
    pub fn new() -> KeyLocks {
        KeyLocks::default()
    }

    /// How many keys are held now.
    pub fn held(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// How many wait for a held key now.
    pub fn queued(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().map(Vec::len).sum::<usize>()).sum()
    }

    /// Locks one key, or gives up after some microseconds.
    #[inline]
    pub fn try_lock_one(&self, key: LockKey) -> Option<KeyGuard<'_>> {
        for attempt in 0..ATTEMPTS {
            if self.take(key) {
                return Some(KeyGuard { locks: self, keys: Keys::One(key) });
            }
            pause(attempt);
        }
        None
    }

    /// Locks all of `keys` (sorted and cleared of doubles on the way), or gives up after some microseconds.
    pub fn try_lock(&self, keys: &mut Vec<LockKey>) -> Option<KeyGuard<'_>> {
        if let [key] = keys[..] {
            return self.try_lock_one(key);
        }
        keys.sort_unstable();
        keys.dedup();
        for attempt in 0..ATTEMPTS {
            if self.take_all(keys).is_ok() {
                return Some(self.guard(keys));
            }
            pause(attempt);
        }
        None
    }

    /// Locks all of `keys`, or queues the waker that `wake` makes on the first contended one; it is called once when that
    /// key is released, and the caller then tries again from the start.
    pub fn lock_or_queue(
        &self,
        keys: &mut Vec<LockKey>,
        wake: impl FnOnce() -> Waker,
    ) -> Option<KeyGuard<'_>> {
        if let Some(guard) = self.try_lock(keys) {
            return Some(guard);
        }
        loop {
            let Err(contended) = self.take_all(keys) else {
                return Some(self.guard(keys));
            };
            if let Some(waiters) = self.shards[contended.shard()].lock().get_mut(&contended.0) {
                waiters.push(wake());
                return None;
            }
        }
    }

    /// Takes keys over that [`KeyGuard::detach`] left held. Each only once.
    pub fn adopt(&self, keys: Vec<LockKey>) -> KeyGuard<'_> {
        KeyGuard { locks: self, keys: Keys::Many(keys.into()) }
    }

    /// Takes a key over that [`KeyGuard::keep`] left held. Only once.
    pub fn adopt_one(&self, key: LockKey) -> KeyGuard<'_> {
        KeyGuard { locks: self, keys: Keys::One(key) }
    }

    fn guard(&self, keys: &[LockKey]) -> KeyGuard<'_> {
        let keys = match keys {
            [key] => Keys::One(*key),
            keys => Keys::Many(keys.into()),
        };
        KeyGuard { locks: self, keys }
    }

    #[inline]
    fn take(&self, key: LockKey) -> bool {
        use std::collections::hash_map::Entry;
        match self.shards[key.shard()].lock().entry(key.0) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Vec::new());
                true
            }
        }
    }

    /// Takes all, or none and says which one was held.
    fn take_all(&self, keys: &[LockKey]) -> Result<(), LockKey> {
        for (taken, &key) in keys.iter().enumerate() {
            if !self.take(key) {
                for &mine in &keys[..taken] {
                    self.release(mine);
                }
                return Err(key);
            }
        }
        Ok(())
    }

    #[inline]
    fn release(&self, key: LockKey) {
        let waiters = self.shards[key.shard()].lock().remove(&key.0);
        debug_assert!(waiters.is_some(), "released a key that was not held");
        for wake in waiters.into_iter().flatten() {
            wake();
        }
    }
}

#[inline]
fn pause(attempt: usize) {
    for _ in 0..attempt {
        spin_loop();
    }
}

#[derive(Debug)]
enum Keys {
    One(LockKey),
    Many(Box<[LockKey]>),
}

/// Held keys. Dropping it releases them and calls those who wait.
#[derive(Debug)]
#[must_use = "the keys are released at once"]
pub struct KeyGuard<'a> {
    locks: &'a KeyLocks,
    keys: Keys,
}

impl KeyGuard<'_> {
    /// The keys, which stay held until they are [adopted](KeyLocks::adopt) again: for work that another thread goes on with.
    pub fn detach(mut self) -> Vec<LockKey> {
        match std::mem::replace(&mut self.keys, Keys::Many(Box::default())) {
            Keys::One(key) => vec![key],
            Keys::Many(keys) => keys.into_vec(),
        }
    }

    /// If it is one key: that, which stays held until it is [adopted](KeyLocks::adopt_one) again. Several are released.
    #[must_use = "the key stays held"]
    pub fn keep(mut self) -> Option<LockKey> {
        let Keys::One(key) = self.keys else { return None };
        self.keys = Keys::Many(Box::default());
        Some(key)
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        match &self.keys {
            Keys::One(key) => self.locks.release(*key),
            Keys::Many(keys) => keys.iter().for_each(|key| self.locks.release(*key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn key(name: &str) -> LockKey {
        LockKey::new(0, name.as_bytes())
    }

    #[test]
    fn a_held_key_excludes_and_is_gone_after() {
        let locks = KeyLocks::new();
        let guard = locks.try_lock(&mut vec![key("a"), key("b"), key("a")]).unwrap();
        assert_eq!(locks.held(), 2);
        assert!(locks.try_lock_one(key("a")).is_none());
        assert!(locks.try_lock(&mut vec![key("c"), key("b")]).is_none());
        assert_eq!(locks.held(), 2);
        assert!(locks.try_lock_one(LockKey::new(1, b"a")).is_some());
        drop(guard);
        assert_eq!(locks.held(), 0);
        assert!(locks.try_lock(&mut vec![]).is_some());
    }

    #[test]
    fn detached_keys_stay_held() {
        let locks = KeyLocks::new();
        for names in [&["a"][..], &["a", "b"]] {
            let mut keys = names.iter().map(|name| key(name)).collect();
            let detached = locks.try_lock(&mut keys).unwrap().detach();
            assert_eq!(locks.held(), names.len());
            assert!(locks.try_lock_one(key("a")).is_none());
            drop(locks.adopt(detached));
            assert_eq!(locks.held(), 0);
        }
    }

    #[test]
    fn one_key_can_be_kept_and_several_are_released() {
        let locks = KeyLocks::new();
        let kept = locks.try_lock(&mut vec![key("a")]).unwrap().keep();
        assert_eq!((kept, locks.held()), (Some(key("a")), 1));
        assert!(locks.try_lock_one(key("a")).is_none());
        drop(locks.adopt_one(key("a")));
        assert_eq!(locks.held(), 0);
        assert_eq!(locks.try_lock(&mut vec![key("a"), key("b")]).unwrap().keep(), None);
        assert_eq!(locks.try_lock(&mut vec![]).unwrap().keep(), None);
        assert_eq!(locks.held(), 0);
    }

    #[test]
    fn whoever_waits_for_a_kept_key_is_called_when_it_is_given_up() {
        let locks = KeyLocks::new();
        let called = Arc::new(AtomicUsize::new(0));
        let mut kept = locks.try_lock_one(key("a")).unwrap().keep();
        let waker = || -> Waker {
            let called = Arc::clone(&called);
            Box::new(move || {
                called.fetch_add(1, Ordering::Relaxed);
            })
        };
        assert!(locks.lock_or_queue(&mut vec![key("a")], waker).is_none());
        for _ in 0..3 {
            kept = locks.adopt_one(kept.unwrap()).keep();
            assert_eq!((locks.queued(), called.load(Ordering::Relaxed)), (1, 0));
        }
        drop(locks.adopt_one(kept.unwrap()));
        assert_eq!((locks.held(), called.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn waiters_are_called_once_on_release() {
        let locks = KeyLocks::new();
        let called = Arc::new(AtomicUsize::new(0));
        let guard = locks.try_lock_one(key("a")).unwrap();
        for _ in 0..3 {
            let called = Arc::clone(&called);
            let waker = || -> Waker {
                Box::new(move || {
                    called.fetch_add(1, Ordering::Relaxed);
                })
            };
            assert!(locks.lock_or_queue(&mut vec![key("b"), key("a")], waker).is_none());
        }
        assert_eq!(called.load(Ordering::Relaxed), 0);
        drop(guard);
        assert_eq!(called.load(Ordering::Relaxed), 3);
        assert!(locks.lock_or_queue(&mut vec![key("b"), key("a")], || unreachable!()).is_some());
        assert_eq!(locks.held(), 0);
    }

    #[test]
    fn threads_never_hold_a_key_together_and_never_starve() {
        let locks = KeyLocks::new();
        let inside = (0..4).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for round in 0..2000usize {
                        let wanted = [thread % 4, round % 4];
                        let mut keys = wanted.map(|k| LockKey::new(0, &[k as u8])).to_vec();
                        let guard = loop {
                            let (sender, receiver) = mpsc::channel();
                            let wake = move || -> Waker {
                                Box::new(move || {
                                    let _ = sender.send(());
                                })
                            };
                            match locks.lock_or_queue(&mut keys, wake) {
                                Some(guard) => break guard,
                                None => receiver.recv().unwrap(),
                            }
                        };
                        let distinct = if wanted[0] == wanted[1] { &wanted[..1] } else { &wanted[..] };
                        for &k in distinct {
                            assert_eq!(inside[k].fetch_add(1, Ordering::SeqCst), 0);
                        }
                        for &k in distinct {
                            inside[k].fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(guard);
                    }
                });
            }
        });
        assert_eq!(locks.held(), 0);
    }
}
