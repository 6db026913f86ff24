//! What a transaction has staged beside its batch: what the commit moves outside of the engine, and which keys it changes.
//!
//! [`Staged`] is that of one command. [`Earlier`] is what the commands of an EXEC that have run already staged, batch and all: the
//! commands behind them read through it, and it is committed as one. A command's own share joins it when the command has succeeded
//! and is dropped when it has failed, so nothing ever has to be taken back out of it.
//!
//! Counts are kept by space, not by number of database: within an EXEC databases may be flushed or change places.

use crate::encoding::meta::Space;
use crate::store::aside::BuildGuard;
use crate::store::databases::Counts;
use crate::store::events::{ChangedKey, Effect, Events, Readied};
use crate::store::fence_cache::{ChangeSums, FenceChange};
use crate::store::known_elements::ElementHash;
use crate::store::pending::SpaceId;
use crate::store::store::Store;
use haypile_lsm::base::key::ValueKind;
use haypile_lsm::{Error, IndexedBatch, WriteBatch};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// See the module.
#[derive(Debug, Default)]
pub struct Staged {
    /// By how much the counts of a space move; the database is the one that it belonged to when it was written to.
    changes: Vec<(usize, Space, Counts)>,
    /// Ids that may have lost their holder.
    pub hints: Vec<SpaceId>,
    /// Databases flushed and swapped, in order.
    pub effects: Vec<Effect>,
    /// Some database was to be flushed, whether or not there was anything in it.
    pub flushes: bool,
    /// Values built aside.
    pub guards: Vec<BuildGuard>,
    /// Hashes of the `meta` keys written, and whether the record is a plain one then.
    pub written: Vec<(u64, bool)>,
    /// Elements of large collections written, and whether they are known to be stored then.
    pub elements: Vec<(ElementHash, bool)>,
    /// Keys removed or replaced because they had expired.
    pub expired: u64,
    /// Blind writes that believed in a record.
    pub believed: u64,
    /// Something staged takes more room than it frees.
    pub takes_space: bool,
    /// Keys changed, if somebody wants to know.
    pub keys: Vec<ChangedKey>,
    /// Keys that had expired and go or are replaced, likewise.
    pub expired_keys: Vec<ChangedKey>,
    /// Keys that may be ready for those who wait for them, in the order in which they became so, if somebody wants to know.
    pub ready: Vec<Readied>,
    /// What to tell once it is committed.
    pub events: Events,
    /// What becomes of the fences of large sorted sets.
    pub fences: Vec<FenceChange>,
}

impl Staged {
    /// Moves the counts of a space.
    #[inline]
    pub fn count(&mut self, db: usize, space: Space, change: Counts) {
        match self.changes.iter_mut().find(|(_, of, _)| *of == space) {
            Some((.., counts)) => counts.add(change),
            None => self.changes.push((db, space, change)),
        }
    }

    /// Books a database as touched whose counts do not move.
    #[inline]
    pub fn touch(&mut self, db: usize, space: Space) {
        if self.changes.is_empty() {
            self.changes.push((db, space, Counts::default()));
        }
    }

    /// By how much the counts of a space move; `None` if nothing was staged for it.
    pub fn change_of(&self, space: Space) -> Option<Counts> {
        self.changes.iter().find(|(_, of, _)| *of == space).map(|(.., counts)| *counts)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.hints.clear();
        self.effects.clear();
        self.guards.clear();
        self.written.clear();
        self.elements.clear();
        self.expired = 0;
        self.believed = 0;
        self.takes_space = false;
        self.keys.clear();
        self.expired_keys.clear();
        self.ready.clear();
        self.events.clear();
        self.fences.clear();
    }

    /// The batch is committed: now the rest takes effect. Which keys changed stays to be asked for.
    pub fn take_effect(&mut self, store: &Store) {
        for (hash, plain) in self.written.drain(..) {
            match plain {
                true => store.plain_keys().insert(hash),
                false => store.plain_keys().remove(hash),
            }
        }
        for (hash, stored) in self.elements.drain(..) {
            match stored {
                true => store.known_elements().insert(hash),
                false => store.known_elements().remove(hash),
            }
        }
        let swaps = !self.effects.is_empty();
        for effect in &self.effects {
            match *effect {
                Effect::Flush { db, space } => {
                    if let Some(database) = store.database(db) {
                        database.replace(space, Counts::default());
                        database.set_touched(false);
                    }
                    store.dead_spaces.store(true, Relaxed);
                }
                Effect::Swap(a, b) => {
                    if let (Some(a), Some(b)) = (store.database(a), store.database(b)) {
                        a.swap(b);
                    }
                }
            }
        }
        for (db, space, counts) in self.changes.drain(..) {
            // What was written before a flush has gone with its space.
            let db = if swaps { store.database_of(space) } else { Some(db) };
            if let Some(database) = db.and_then(|db| store.database(db)) {
                database.book(counts);
                database.touch();
            }
        }
        // First: the reaper leaves alone what is under construction, hint or no hint.
        self.guards.drain(..).for_each(BuildGuard::linked);
        for hint in self.hints.drain(..) {
            store.gc_hints.push(hint);
        }
        store.add_expired_keys(self.expired);
        store.add_beliefs(self.believed);
    }

    /// The batch may or may not be committed.
    pub fn forget_plain_keys(&self, store: &Store) {
        self.written.iter().for_each(|(hash, _)| store.plain_keys().remove(*hash));
    }

    /// Adds what a later command staged.
    fn append(&mut self, later: &mut Staged) {
        for (db, space, counts) in later.changes.drain(..) {
            self.count(db, space, counts);
        }
        self.hints.append(&mut later.hints);
        self.effects.append(&mut later.effects);
        self.flushes |= std::mem::take(&mut later.flushes);
        self.guards.append(&mut later.guards);
        self.written.append(&mut later.written);
        self.elements.append(&mut later.elements);
        self.expired += std::mem::take(&mut later.expired);
        self.believed += std::mem::take(&mut later.believed);
        self.takes_space |= std::mem::take(&mut later.takes_space);
        self.keys.append(&mut later.keys);
        self.expired_keys.append(&mut later.expired_keys);
        self.ready.append(&mut later.ready);
        self.events.append(&mut later.events);
        self.fences.append(&mut later.fences);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Earlier {
    /// What they write, to be read through.
    pub batch: IndexedBatch,
    /// The rest.
    pub staged: Staged,
    /// What the fences staged add up to, by id.
    sums: HashMap<u64, ChangeSums>,
}

impl Earlier {
    /// Takes over what a command has staged. On an error (the batch is full) nothing has changed here.
    pub fn append(&mut self, batch: &WriteBatch, staged: &mut Staged) -> Result<(), Error> {
        let savepoint = self.batch.savepoint();
        for entry in batch.entries() {
            let added = entry.map_err(Error::invalid).and_then(|entry| match entry.kind {
                ValueKind::Put => self.batch.put(entry.keyspace, entry.key, entry.value),
                ValueKind::Delete => self.batch.delete(entry.keyspace, entry.key),
                ValueKind::RangeDelete => self.batch.delete_range(entry.keyspace, entry.key, entry.value),
            });
            if let Err(error) = added {
                self.batch.rollback(&savepoint);
                return Err(error);
            }
        }
        for change in &staged.fences {
            self.sums.entry(change.id).or_default().add(change);
        }
        self.staged.append(staged);
        Ok(())
    }

    /// What is staged about the elements of a large sorted set; `None` if nothing is.
    pub fn change_sums(&self, id: u64) -> Option<&ChangeSums> {
        self.sums.get(&id)
    }
}
