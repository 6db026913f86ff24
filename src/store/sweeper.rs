//! Expiry on time: walks the head of keyspace `ttl` and deletes what is due.
//!
//! ```text
//! ttl   |deleted entries ..|straggler .. due, due, due |  not yet due
//!       0                  swept - 5 s                now
//! ```
//!
//! Each entry is verified under its key's lock: the record is deleted only if it has expired, a hash that is there for the
//! sake of its fields loses those that have (`field_expiry.rs`), and an entry that its record does not know goes alone. An entry whose key is
//! held by somebody is put aside for the next turns. Keys that readers found expired are deleted as well, whether or not anything is due.
//!
//! Deleted entries stay in the engine as tombstones until compaction, and walking over them costs as much as over entries. So the *front* only goes
//! forward; what is written behind it meanwhile (a command that was under way, a clock that was set back) is found by a second walk, which
//! begins a few seconds behind the front, once a minute at the very beginning, and rests in proportion to what it cost. Both
//! end their turn after so many versions, whether or not they found anything.
//!
//! The entries of a flushed database lie all over `ttl`; a walk through all of it, slice by slice, removes them.

use crate::base::stop::Stop;
use crate::encoding::meta::{self, Due, Space};
use crate::encoding::{system, ttl};
use crate::store::field_expiry::{Removed, remove_expired};
use crate::store::key_locks::LockKey;
use crate::store::pending::{Sweep, WalkBehind};
use crate::store::store::{BACKGROUND_SLOT, Store, background_write};
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile_lsm::{Error, IterOptions, ReadOptions, Result, WriteBatch};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

/// How far behind the sweep a command may still write an entry: longer than any waits for its lock.
const STRAGGLER_MS: u64 = 5_000;
/// How often such entries are looked for, if that costs next to nothing.
const BEHIND_MS: u64 = 1_000;
/// How often from the very beginning.
const WHOLE_MS: u64 = 60_000;
/// So much longer than such a walk took it rests.
const BEHIND_REST: u64 = 20;
/// After so many deleted entries a walk ends its turn.
const VERSIONS_TURN: u64 = 20_000;
/// Entries put aside; with more the front waits.
const HELD_MAX: usize = 1_024;
/// How many fields of one hash are removed in one batch.
const FIELDS_SLICE: usize = 1_000;
/// How many entries of `ttl` are looked at in one slice of the search for those of flushed databases.
const DEAD_SLICE: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Some expired fields of a hash are left.
    More,
    /// The key or the gate was held.
    Busy,
}

impl Store {
    fn swept(&self) -> MutexGuard<'_, Vec<(usize, Vec<u8>)>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that the last turn deleted, with their databases: whoever waits for one to change hears of it from who took the turn.
    pub fn take_swept(&self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut *self.swept())
    }

    /// Deletes up to `limit` expired keys. Whether there is more to do at once.
    pub fn sweep_expired(self: &Arc<Self>, limit: usize) -> Result<bool> {
        // One turn's deletions bound it.
        self.swept().clear();
        let now_ms = self.clock().unix_ms();
        let mut txn = Txn::new(Arc::clone(self));
        let (mut left, mut failed) = (limit, Ok(()));
        while let Some((space, key)) = self.expired_seen.any() {
            if left == 0 {
                return failed.map(|()| true);
            }
            left -= 1;
            match self.expire_one(&mut txn, space, &key, None, now_ms) {
                Ok(Outcome::Busy) => break,
                Ok(_) => {}
                // A damaged key is stepped over; who reads it reports it again.
                Err(error) => failed = Err(error),
            }
            self.expired_seen.remove(space, &key);
        }
        if !self.active_expire() {
            return failed.map(|()| false);
        }
        let more = self.sweep_due(&mut txn, left.max(1), now_ms);
        failed.and(more)
    }

    fn sweep_due(&self, txn: &mut Txn, limit: usize, now_ms: u64) -> Result<bool> {
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        // What is due by now lies before this.
        let end = (now_ms + 1).to_be_bytes();
        if sweep.front[..] > end[..] {
            // The clock was set back. What was passed is behind the front then too.
            sweep.front = end.to_vec();
        }
        let mut failed = Ok(());
        let mut more = false;
        for entry in std::mem::take(&mut sweep.held) {
            if !self.sweep_entry(txn, &mut sweep, &entry, now_ms, &mut failed) {
                sweep.held.insert(entry);
                more = true;
            }
        }
        let (due, reached) = self.due_entries(&sweep.front, &end, limit)?;
        more |= reached[..] < end[..];
        sweep.front = reached;
        for entry in due {
            if !self.sweep_entry(txn, &mut sweep, &entry, now_ms, &mut failed) {
                // It is looked at again before those behind it.
                sweep.front = entry;
                more = sweep.held.len() < HELD_MAX;
                break;
            }
        }
        more |= self.sweep_behind(txn, &mut sweep, limit, now_ms, &mut failed)?;
        drop(sweep);
        failed.map(|()| more)
    }

    /// A turn of the walk behind the front, if one is under way or due.
    fn sweep_behind(
        &self,
        txn: &mut Txn,
        sweep: &mut Sweep,
        limit: usize,
        now_ms: u64,
        failed: &mut Result<()>,
    ) -> Result<bool> {
        let begun_ms = self.clock().monotonic_ms();
        // A clock that was set back makes it due.
        let has_passed = |since_ms: u64, ms: u64| now_ms.checked_sub(since_ms).is_none_or(|past| past >= ms);
        if sweep.behind.is_none() && has_passed(sweep.behind_ended_ms, sweep.behind_rest_ms) {
            let whole = has_passed(sweep.whole_begun_ms, WHOLE_MS);
            let front_ms = sweep.front.first_chunk::<8>().map_or(0, |ms| u64::from_be_bytes(*ms));
            let from_ms = if whole { 0 } else { front_ms.min(now_ms).saturating_sub(STRAGGLER_MS) };
            if whole {
                sweep.whole_begun_ms = now_ms;
            }
            let (from, to) = (from_ms.to_be_bytes().to_vec(), sweep.front.clone());
            sweep.behind = Some(WalkBehind { from, to, took_ms: 0 });
        }
        let Some(mut walk) = sweep.behind.take() else { return Ok(false) };
        // The front may have been set back with the clock.
        if walk.to > sweep.front {
            walk.to.clone_from(&sweep.front);
        }
        let (due, reached) = self.due_entries(&walk.from, &walk.to, limit)?;
        walk.from = reached;
        for entry in due {
            if !self.sweep_entry(txn, sweep, &entry, now_ms, failed) {
                walk.from = entry;
                break;
            }
        }
        walk.took_ms += self.clock().monotonic_ms().saturating_sub(begun_ms);
        if walk.from < walk.to {
            sweep.behind = Some(walk);
            return Ok(sweep.held.len() < HELD_MAX);
        }
        sweep.behind_ended_ms = now_ms;
        sweep.behind_rest_ms = BEHIND_MS.max(walk.took_ms.saturating_mul(BEHIND_REST));
        Ok(false)
    }

    /// Looks at one entry. False if it has to be looked at again before the walk goes on.
    fn sweep_entry(
        &self,
        txn: &mut Txn,
        sweep: &mut Sweep,
        entry: &[u8],
        now_ms: u64,
        failed: &mut Result<()>,
    ) -> bool {
        let Some((at_ms, space, key)) = ttl::split_key(entry) else { return true };
        match self.expire_one(txn, space, key, Some(at_ms), now_ms) {
            Ok(Outcome::Done) => true,
            Ok(Outcome::More) => false,
            Ok(Outcome::Busy) if sweep.held.len() < HELD_MAX => {
                sweep.held.insert(entry.to_vec());
                true
            }
            Ok(Outcome::Busy) => false,
            Err(error) => {
                // Those behind it are swept all the same; a walk from the beginning comes back to it.
                *failed = Err(error);
                true
            }
        }
    }

    /// Entries from `from` to before `to`, at most `limit`, and where the next walk is to go on: at `to` if there are no more.
    fn due_entries(&self, from: &[u8], to: &[u8], limit: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        if from >= to {
            return Ok((Vec::new(), to.to_vec()));
        }
        let options = IterOptions {
            lower: Some(from.to_vec()),
            upper: Some(to.to_vec()),
            read: ReadOptions::default(),
        };
        let mut iter = self.db().iter(self.keyspaces().ttl, options)?;
        iter.stop_after(VERSIONS_TURN);
        iter.seek_to_first()?;
        let mut due = Vec::new();
        while iter.valid() && due.len() < limit {
            due.push(iter.key().to_vec());
            iter.next()?;
        }
        let next = if iter.valid() {
            iter.key().to_vec()
        } else if let Some(behind) = iter.stopped_behind() {
            [behind, &[0]].concat()
        } else {
            to.to_vec()
        };
        // Only a damaged table leads back.
        Ok((due, if next[..] > *from { next } else { to.to_vec() }))
    }

    /// Deletes one key if it has expired, or the fields of it that have, and the entry that led here if the record does not
    /// bear it out.
    fn expire_one(
        &self,
        txn: &mut Txn,
        space: Space,
        key: &[u8],
        entry_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<Outcome> {
        let Some(_inside) = self.gate().enter(BACKGROUND_SLOT) else { return Ok(Outcome::Busy) };
        let Some(db) = self.database_of(space) else {
            return self.drop_entry(space, key, entry_ms).map(|()| Outcome::Done);
        };
        // Into the cache first, so that the lock is not held while the disk turns.
        let mut meta_key = Vec::new();
        meta::put_key(&mut meta_key, space, key);
        self.db().contains(self.keyspaces().meta, &meta_key, &ReadOptions::default())?;
        let Some(_lock) = self.locks().try_lock_one(LockKey::new(db, key)) else {
            return Ok(Outcome::Busy);
        };
        txn.begin(db, Mode::Pool, Draws { now_ms, seed: 0 }, ReadPoint::Latest);
        let (mut id, mut expired) = (0, false);
        let staged = txn.at_in(db, key).and_then(|at| {
            let mut slot = txn.load(at)?;
            let mut removed = Removed::default();
            expired = slot.before.is_expired();
            if expired {
                txn.delete(at, &slot.before)?;
            } else if let Some(head) = slot.head().copied().filter(|head| head.has_due_fields(now_ms)) {
                let from = self.field_sweeps.take(space, head.id);
                removed = remove_expired(txn, at, &mut slot, head, FIELDS_SLICE, from)?;
                id = head.id;
            }
            // With more to come, the entry may be the one that was just staged for it.
            if !removed.more
                && let Some(at_ms) = entry_ms.filter(|at_ms| *at_ms != slot.before.due().at_ms)
                && let Some(of_key) = self.entry_is_of_key(space, key, at_ms)?
            {
                txn.delete_stale_expiry(at, Due { at_ms, of_key })?;
            }
            txn.recycle(slot);
            Ok(removed)
        });
        match staged {
            Ok(removed) => {
                txn.commit()?;
                if expired {
                    self.swept().push((db, key.to_vec()));
                }
                self.expired_fields.fetch_add(removed.fields, Relaxed);
                if !removed.resume.is_empty() {
                    self.field_sweeps.put(space, id, removed.resume);
                }
                Ok(if removed.more { Outcome::More } else { Outcome::Done })
            }
            Err(Stop::Engine(error)) => Err(error),
            Err(Stop::NeedsIo) => Err(Error::NeedsIo),
            // A key that no command could have made; its entry goes alone.
            Err(Stop::Budget | Stop::Reply(_)) => {
                self.drop_entry(space, key, entry_ms).map(|()| Outcome::Done)
            }
        }
    }

    /// Whether an entry is there, and if so, whether it is of a key that expires itself. With the key's lock: who held it since the walk
    /// came by may have removed the entry, and booked that.
    fn entry_is_of_key(&self, space: Space, key: &[u8], at_ms: u64) -> Result<Option<bool>> {
        let mut entry_key = Vec::new();
        ttl::put_key(&mut entry_key, at_ms, space, key);
        let value = self.db().get(self.keyspaces().ttl, &entry_key, &ReadOptions::default())?;
        Ok(value.map(|value| ttl::is_of_key(&value)))
    }

    /// Removes an entry that counts nowhere.
    fn drop_entry(&self, space: Space, key: &[u8], entry_ms: Option<u64>) -> Result<()> {
        let Some(at_ms) = entry_ms else { return Ok(()) };
        let mut entry_key = Vec::new();
        ttl::put_key(&mut entry_key, at_ms, space, key);
        let mut batch = WriteBatch::new();
        batch.delete(self.keyspaces().ttl, &entry_key)?;
        self.db().write(&batch, &background_write()).map(drop)
    }

    /// Removes entries of flushed databases, one slice at a time. Whether there is more.
    pub fn dead_space_turn(&self) -> Result<bool> {
        let mut walk = self.dead_walk();
        if walk.spaces.is_empty() {
            if !self.dead_spaces.swap(false, Relaxed) {
                return Ok(false);
            }
            walk.spaces = self.dead_space_records()?;
            walk.from.clear();
            return Ok(!walk.spaces.is_empty());
        }
        let options = IterOptions {
            lower: Some(std::mem::take(&mut walk.from)),
            upper: None,
            read: ReadOptions { no_fill_cache: true, ..ReadOptions::default() },
        };
        let mut iter = self.db().iter(self.keyspaces().ttl, options)?;
        iter.seek_to_first()?;
        let mut batch = WriteBatch::new();
        for _ in 0..DEAD_SLICE {
            if !iter.valid() {
                break;
            }
            if ttl::split_key(iter.key()).is_some_and(|(_, space, _)| walk.spaces.contains(&space)) {
                batch.delete(self.keyspaces().ttl, iter.key())?;
            }
            iter.next()?;
        }
        let more = iter.valid();
        if more {
            walk.from.extend_from_slice(iter.key());
        } else {
            for &space in &walk.spaces {
                batch.delete(self.keyspaces().system, &system::dead_key(space))?;
            }
        }
        if !batch.is_empty() {
            self.db().write(&batch, &background_write())?;
        }
        if !more {
            walk.spaces.clear();
        }
        Ok(more)
    }

    fn dead_space_records(&self) -> Result<HashSet<Space>> {
        let options = IterOptions::prefix(system::DEAD_PREFIX);
        let mut iter = self.db().iter(self.keyspaces().system, options)?;
        iter.seek_to_first()?;
        let mut spaces = HashSet::new();
        while iter.valid() {
            spaces.extend(system::split_dead_key(iter.key()));
            iter.next()?;
        }
        Ok(spaces)
    }

    /// One turn of everything that goes on in the background: expiry, reclaiming, counting, the search for lost ids. Whether there is more to do at
    /// once; if not, call again within a tenth of a second.
    pub fn background_turn(self: &Arc<Self>) -> Result<bool> {
        const TURN: usize = 256;
        // One that fails does not keep the others from their work.
        let turns = [
            self.sweep_expired(TURN),
            self.dead_space_turn(),
            self.reclaim_turn(TURN),
            self.recount_turn(),
            self.owner_sweep_turn().map(|_| false),
        ];
        turns.into_iter().try_fold(false, |more, turn| Ok(more | turn?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::encoding::meta::{Head, Kind};
    use crate::store::databases::Counts;
    use crate::store::store::StoreOptions;
    use haypile_lsm::{Db, Env, MemEnv, Options};
    use std::path::Path;

    const START_MS: u64 = 1_700_000_000_000;

    fn open(clock: Clock) -> Arc<Store> {
        let env: Arc<dyn Env> = MemEnv::new();
        let options =
            Options { memtable_bytes: 8 << 20, memtable_total_bytes: 32 << 20, ..Options::default() };
        let db = Arc::new(Db::open(env, Path::new("/db"), options).unwrap());
        Store::open(db, StoreOptions { clock, ..StoreOptions::default() }).unwrap()
    }

    fn keys(store: &Store) -> usize {
        let mut iter = store.db().iter(store.keyspaces().meta, IterOptions::default()).unwrap();
        iter.seek_to_first().unwrap();
        let mut count = 0;
        while iter.valid() {
            count += 1;
            iter.next().unwrap();
        }
        count
    }

    /// Keys that are due at one moment.
    fn plant(store: &Store, numbers: std::ops::Range<u32>, expire_ms: u64) {
        let (space, keyspaces) = (store.space_of(0), store.keyspaces());
        let mut key = Vec::new();
        for first in numbers.clone().step_by(1_000) {
            let mut batch = WriteBatch::new();
            for number in first..(first + 1_000).min(numbers.end) {
                let user_key = format!("key {number:08}").into_bytes();
                meta::put_key(&mut key, space, &user_key);
                let head = Head { expire_ms, ..Head::plain(Kind::String) };
                batch.put(keyspaces.meta, &key, head.encode().as_bytes()).unwrap();
                ttl::put_key(&mut key, expire_ms, space, &user_key);
                batch.put(keyspaces.ttl, &key, ttl::value(true)).unwrap();
            }
            store.db().write(&batch, &background_write()).unwrap();
        }
    }

    #[test]
    fn no_turn_walks_over_all_that_the_ones_before_it_deleted() {
        const TURN: usize = 256;
        const TURNS: usize = 200;
        let clock = Clock::manual(START_MS);
        let store = open(clock);
        plant(&store, 0..(TURN * TURNS) as u32, START_MS + 1);
        let mut front = Vec::new();
        for turn in 1..=TURNS {
            // Turns that take a second, as on a machine that is too slow for them: a walk behind the front is due each time.
            clock.set_unix_ms(clock.unix_ms() + BEHIND_MS + 100);
            store.sweep_expired(TURN).unwrap();
            let sweep = store.sweep.lock().unwrap();
            assert!(sweep.front > front, "turn {turn}");
            front = sweep.front.clone();
        }
        assert_eq!(keys(&store), 0);
        // Each key left a tombstone, which may lie over an entry.
        let (mut from, mut turns) = (Vec::new(), 0);
        while from < front {
            let (due, reached) = store.due_entries(&from, &front, TURN).unwrap();
            assert!(due.is_empty() && reached > from);
            (from, turns) = (reached, turns + 1);
        }
        let versions = (TURN * TURNS) as u64;
        assert!((versions / VERSIONS_TURN..=2 * versions / VERSIONS_TURN + 1).contains(&turns), "{turns}");
    }

    #[test]
    fn what_comes_behind_the_front_is_found() {
        let clock = Clock::manual(START_MS);
        let store = open(clock);
        plant(&store, 0..1_000, START_MS - 1);
        while store.sweep_expired(100).unwrap() {}
        assert_eq!(keys(&store), 0);
        // A command that was under way.
        plant(&store, 0..300, START_MS - 3_000);
        clock.set_unix_ms(START_MS + BEHIND_MS + 1);
        while store.sweep_expired(100).unwrap() {}
        assert_eq!(keys(&store), 0);
        // And what nothing explains.
        plant(&store, 0..300, START_MS - 100_000);
        clock.set_unix_ms(START_MS + 3 * BEHIND_MS);
        while store.sweep_expired(100).unwrap() {}
        assert_eq!(keys(&store), 300);
        clock.set_unix_ms(START_MS + WHOLE_MS + 3 * BEHIND_MS);
        while store.sweep_expired(100).unwrap() {}
        assert_eq!(keys(&store), 0);
    }

    #[test]
    fn a_held_key_waits_and_holds_up_nobody() {
        let clock = Clock::manual(START_MS);
        let store = open(clock);
        plant(&store, 0..1_000, START_MS - 1);
        let lock = store.locks().try_lock_one(LockKey::new(0, b"key 00000003")).unwrap();
        while store.sweep_expired(100).unwrap() {}
        assert_eq!(keys(&store), 1);
        drop(lock);
        store.sweep_expired(100).unwrap();
        assert_eq!(keys(&store), 0);
    }

    #[test]
    fn what_the_holder_of_a_key_has_removed_is_not_counted_out_twice() {
        let clock = Clock::manual(START_MS);
        let store = open(clock);
        plant(&store, 0..1, START_MS - 1);
        let database = store.database(0).unwrap();
        database.book(Counts { keys: 1, expires: 1, expiry_seconds: 0 });
        let (space, key) = (store.space_of(0), b"key 00000000");
        let lock = store.locks().try_lock_one(LockKey::new(0, key)).unwrap();
        // Put aside, and met by walks behind the front as well.
        for turn in 0..5 {
            clock.set_unix_ms(START_MS + turn * (BEHIND_MS + 1));
            while store.sweep_expired(100).unwrap() {}
        }
        assert_eq!(store.sweep.lock().unwrap().held.len(), 1);
        // Its holder writes another one in its place, without an expiry.
        let mut batch = WriteBatch::new();
        let mut record = Vec::new();
        meta::put_key(&mut record, space, key);
        batch.put(store.keyspaces().meta, &record, Head::plain(Kind::String).encode().as_bytes()).unwrap();
        ttl::put_key(&mut record, START_MS - 1, space, key);
        batch.delete(store.keyspaces().ttl, &record).unwrap();
        store.db().write(&batch, &background_write()).unwrap();
        database.book(Counts { keys: 0, expires: -1, expiry_seconds: 0 });
        drop(lock);
        while store.sweep_expired(100).unwrap() {}
        assert!(store.sweep.lock().unwrap().held.is_empty());
        assert_eq!((keys(&store), database.raw_counts().expires), (1, 0));
    }
}
