//! Counting everything anew, in slices, behind the back of running commands.
//!
//! ```text
//! snapshot S taken, counts at S remembered     commands go on and move the counts
//! |------------------------------------------|--------------------------------->
//!   scan of S, slice by slice        found      count += found - count at S
//! ```
//!
//! After a crash the counts at S are zero and S is the state found at open, so nothing is known until the end; later
//! recounts only correct. A slice walks with an iterator of its own, so that no memtable is kept for long.

use crate::encoding::meta::{self, Space};
use crate::encoding::ttl;
use crate::store::databases::Counts;
use haypile_lsm::{Db, IterOptions, KeyspaceId, ReadOptions, Result, Snapshot};
use std::collections::HashMap;

/// A recount under way.
pub struct Recount {
    snapshot: Snapshot,
    /// Counts when the snapshot was taken.
    before: HashMap<Space, Counts>,
    found: HashMap<Space, Counts>,
    /// Beliefs in `before`, which end with this recount.
    beliefs: u64,
    stage: Stage,
    /// Where the next slice begins.
    from: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Keys,
    Expiries,
    Done,
}

impl std::fmt::Debug for Recount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recount").field("sequence", &self.snapshot.sequence()).finish_non_exhaustive()
    }
}

impl Recount {
    /// Begins; `before` are the counts that belong to exactly this snapshot, and that many `beliefs` are in them.
    pub fn new(snapshot: Snapshot, before: HashMap<Space, Counts>, beliefs: u64) -> Recount {
        Recount { snapshot, before, found: HashMap::new(), beliefs, stage: Stage::Keys, from: Vec::new() }
    }

    /// The beliefs that its corrections put right.
    pub fn beliefs(&self) -> u64 {
        self.beliefs
    }

    /// Counts up to `limit` records more. True at the end.
    pub fn slice(&mut self, db: &Db, meta: KeyspaceId, ttl: KeyspaceId, limit: usize) -> Result<bool> {
        let keyspace = match self.stage {
            Stage::Keys => meta,
            Stage::Expiries => ttl,
            Stage::Done => return Ok(true),
        };
        let read = ReadOptions {
            sequence: Some(self.snapshot.sequence()),
            no_fill_cache: true,
            ..ReadOptions::default()
        };
        let lower = Some(std::mem::take(&mut self.from));
        let mut iter = db.iter(keyspace, IterOptions { lower, read, ..IterOptions::default() })?;
        iter.seek_to_first()?;
        for _ in 0..limit {
            if !iter.valid() {
                self.stage = if self.stage == Stage::Keys { Stage::Expiries } else { Stage::Done };
                return Ok(self.stage == Stage::Done);
            }
            self.count(iter.key(), iter.value());
            iter.next()?;
        }
        if iter.valid() {
            self.from.extend_from_slice(iter.key());
            return Ok(false);
        }
        self.stage = if self.stage == Stage::Keys { Stage::Expiries } else { Stage::Done };
        Ok(self.stage == Stage::Done)
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        if self.stage == Stage::Keys {
            if let Some((space, _)) = meta::split_key(key) {
                self.found.entry(space).or_default().keys += 1;
            }
        } else if let Some((expire_ms, space, _)) = ttl::split_key(key).filter(|_| ttl::is_of_key(value)) {
            self.found.entry(space).or_default().count_expiry(expire_ms, 1);
        }
    }

    /// What to add to the counts of a space; nothing for one that came later.
    pub fn correction(&self, space: Space) -> Option<Counts> {
        let before = self.before.get(&space)?;
        let mut correction = self.found.get(&space).copied().unwrap_or_default();
        correction.keys -= before.keys;
        correction.expires -= before.expires;
        correction.expiry_seconds -= before.expiry_seconds;
        Some(correction)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::clock::Clock;
    use crate::encoding::meta::{self, Head, Kind};
    use crate::store::databases::Counts;
    use crate::store::store::{Store, StoreOptions};
    use haypile_lsm::{Db, Env, MemEnv, Options, WriteBatch, WriteOptions};
    use std::path::Path;
    use std::sync::Arc;

    fn open(env: &Arc<MemEnv>) -> Arc<Store> {
        let env: Arc<dyn Env> = env.clone();
        let db = Arc::new(Db::open(env, Path::new("/db"), Options::tiny()).unwrap());
        Store::open(db, StoreOptions { clock: Clock::new(), ..StoreOptions::default() }).unwrap()
    }

    #[test]
    fn a_count_that_was_not_put_right_before_the_end_is_put_right_later() {
        const KEYS: i64 = 25_000;
        let env = MemEnv::new();
        let store = open(&env);
        let (space, mut key) = (store.space_of(0), Vec::new());
        for number in 0..KEYS {
            let mut batch = WriteBatch::new();
            meta::put_key(&mut key, space, format!("key {number}").as_bytes());
            batch.put(store.keyspaces().meta, &key, Head::plain(Kind::String).encode().as_bytes()).unwrap();
            store.db().write(&batch, &WriteOptions::default()).unwrap();
        }
        // One was believed to be there already.
        let database = store.database(0).unwrap();
        database.book(Counts { keys: KEYS - 1, ..Counts::default() });
        store.add_beliefs(200_000);
        assert!(store.recount_turn().unwrap(), "of so many keys it takes several slices");
        assert_eq!((store.dbsize(0), store.beliefs()), (KEYS as u64 - 1, 200_000));
        // One more while it is under way: that one counts again.
        store.add_beliefs(1);
        store.close().unwrap();
        drop(store);
        let store = open(&env);
        assert_eq!((store.dbsize(0), store.beliefs()), (KEYS as u64 - 1, 200_001));
        while store.recount_turn().unwrap() {}
        assert_eq!((store.dbsize(0), store.beliefs()), (KEYS as u64, 0));
    }
}
