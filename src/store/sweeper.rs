//! Expiry on time: walks the head of keyspace `ttl` and deletes what is due.
//!
//! ```text
//! ttl   |deleted entries ..|straggler .. due, due, due |  not yet due
//!       0                  swept - 5 s                now
//! ```
//!
//! Each entry is verified under its key's lock: the record is deleted only if it has expired, a hash that is there for the
//! sake of its fields loses those that have (`field_expiry.rs`), and an entry that its record does not know goes alone. A key that is locked just now is left for the next turn. Deleted entries stay in the engine
//! as tombstones until compaction, and walking over them costs as much as over entries: so a turn goes on where the last one ended, once a
//! second it starts a little before, and once a minute at the very front. Keys that readers found expired are deleted as well, whether or not anything is due.
//!
//! The entries of a flushed database lie all over `ttl`; a walk through all of it, slice by slice, removes them.

use crate::base::stop::Stop;
use crate::encoding::meta::{self, Due, Space};
use crate::encoding::{system, ttl};
use crate::store::field_expiry::{Removed, remove_expired};
use crate::store::key_locks::LockKey;
use crate::store::store::{BACKGROUND_SLOT, Store, background_write};
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile_lsm::{Error, IterOptions, ReadOptions, Result, WriteBatch};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

/// How far behind the sweep a command may still write an entry: longer than any waits for its lock.
const STRAGGLER_MS: u64 = 5_000;
/// How often a turn looks for such entries.
const LOOK_BACK_MS: u64 = 1_000;
/// How often a turn starts at the very front.
const FULL_SWEEP_MS: u64 = 60_000;
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
        let mut place = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let swept_ms = place.swept_ms.min(now_ms);
        let looked_back_ms = place.looked_back_ms;
        let since = |period_ms: u64| now_ms / period_ms != looked_back_ms / period_ms;
        let from = match place.next.take() {
            _ if since(FULL_SWEEP_MS) => 0u64.to_be_bytes().to_vec(),
            _ if since(LOOK_BACK_MS) => swept_ms.saturating_sub(STRAGGLER_MS).to_be_bytes().to_vec(),
            Some(next) => next,
            None => swept_ms.to_be_bytes().to_vec(),
        };
        if since(LOOK_BACK_MS) {
            place.looked_back_ms = now_ms;
        }
        let due = self.due_entries(from, now_ms, limit)?;
        let mut more = due.len() == limit;
        let mut reached_ms = now_ms;
        if more && let Some((expire_ms, ..)) = due.last().and_then(|(key, _)| ttl::split_key(key)) {
            reached_ms = expire_ms;
        }
        let (mut all_done, mut busy, mut failed) = (true, false, Ok(()));
        for (entry, of_key) in &due {
            let Some((at_ms, space, key)) = ttl::split_key(entry) else { continue };
            let due = Due { at_ms, of_key: *of_key };
            let outcome = self.expire_one(txn, space, key, Some(due), now_ms).unwrap_or_else(|error| {
                // Those behind it are swept all the same; a full sweep comes back to it.
                failed = Err(error);
                Outcome::Done
            });
            if outcome != Outcome::Done {
                all_done = false;
                reached_ms = reached_ms.min(at_ms);
            }
            busy |= outcome == Outcome::Busy;
            more |= outcome == Outcome::More;
        }
        place.swept_ms = reached_ms;
        if more && all_done {
            place.next = due.into_iter().last().map(|(mut entry, _)| {
                entry.push(0);
                entry
            });
        }
        drop(place);
        failed.map(|()| more && !busy)
    }

    /// Keys of entries from `from` up to now, in order, and whether each is of a key that expires itself.
    fn due_entries(&self, from: Vec<u8>, now_ms: u64, limit: usize) -> Result<Vec<(Vec<u8>, bool)>> {
        let options = IterOptions {
            lower: Some(from),
            upper: Some((now_ms + 1).to_be_bytes().to_vec()),
            read: ReadOptions::default(),
        };
        let mut iter = self.db().iter(self.keyspaces().ttl, options)?;
        iter.seek_to_first()?;
        let mut due = Vec::new();
        while iter.valid() && due.len() < limit {
            due.push((iter.key().to_vec(), ttl::is_of_key(iter.value())));
            iter.next()?;
        }
        Ok(due)
    }

    /// Deletes one key if it has expired, or the fields of it that have, and the entry that led here if the record does not
    /// bear it out.
    fn expire_one(
        &self,
        txn: &mut Txn,
        space: Space,
        key: &[u8],
        entry: Option<Due>,
        now_ms: u64,
    ) -> Result<Outcome> {
        let Some(_inside) = self.gate().enter(BACKGROUND_SLOT) else { return Ok(Outcome::Busy) };
        let Some(db) = self.database_of(space) else {
            return self.drop_entry(space, key, entry).map(|()| Outcome::Done);
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
                && let Some(entry) = entry.filter(|entry| entry.at_ms != slot.before.due().at_ms)
            {
                txn.delete_stale_expiry(at, entry)?;
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
            Err(Stop::Budget | Stop::Reply(_)) => self.drop_entry(space, key, entry).map(|()| Outcome::Done),
        }
    }

    /// Removes an entry that counts nowhere.
    fn drop_entry(&self, space: Space, key: &[u8], entry: Option<Due>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        let mut entry_key = Vec::new();
        ttl::put_key(&mut entry_key, entry.at_ms, space, key);
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
