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
    /// Begins; `before` are the counts that belong to exactly this snapshot.
    pub fn new(snapshot: Snapshot, before: HashMap<Space, Counts>) -> Recount {
        Recount { snapshot, before, found: HashMap::new(), stage: Stage::Keys, from: Vec::new() }
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
