//! Building a large value aside, in bounded batches, before any key holds it.
//!
//! ```text
//! batch 1    gc | id          and the first elements          after a crash from here on: the reaper finds the gc record,
//! batch 2..  more elements                                    no owner, and deletes the id's range
//! link       meta, owner, delete gc | id                      one small batch, the command's own: now it is there
//! ```
//!
//! While it is being built the id stands in a list that the reaper respects; a [`BuildGuard`] takes it off, and hands the
//! id to the reaper if it was never linked. A value that fits one batch needs none of this and goes into the command's own
//! batch.

use crate::encoding::meta::Space;
use crate::encoding::system::gc_key;
use crate::store::limits::ONE_BATCH_BYTES_MAX;
use crate::store::store::Store;
use haypile_lsm::{Durability, Result, WriteBatch, WriteOptions};
use std::sync::Arc;

/// Keeps the reaper from an id. Dropped before it is linked, it sends the reaper there.
#[derive(Debug)]
pub struct BuildGuard {
    store: Arc<Store>,
    space: Space,
    id: u64,
    linked: bool,
}

impl BuildGuard {
    /// The batch that links the id is committed.
    pub fn linked(mut self) {
        self.linked = true;
    }
}

impl Drop for BuildGuard {
    fn drop(&mut self) {
        self.store.under_construction.remove((self.space, self.id));
        if !self.linked {
            self.store.gc_hints.push((self.space, self.id));
        }
    }
}

/// A value being built.
#[derive(Debug)]
pub struct Aside {
    guard: BuildGuard,
    batch: WriteBatch,
}

impl Aside {
    /// Begins under `id`, which nobody has used.
    pub fn begin(store: &Arc<Store>, space: Space, id: u64) -> Result<Aside> {
        let guard = BuildGuard { store: Arc::clone(store), space, id, linked: false };
        store.under_construction.insert((space, id));
        let mut batch = WriteBatch::new();
        batch.put(store.keyspaces().system, &gc_key(space, id), b"")?;
        Ok(Aside { guard, batch })
    }

    /// Adds a record of keyspace `data`. May write, and sleep if the engine wants writers to.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put(self.guard.store.keyspaces().data, key, value)?;
        if self.batch.encoded_len() as u64 >= ONE_BATCH_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what is left. The value is there for whoever links it.
    pub fn finish(mut self) -> Result<BuildGuard> {
        self.write()?;
        Ok(self.guard)
    }

    fn write(&mut self) -> Result<()> {
        let options = WriteOptions { durability: Durability::Memory, ..WriteOptions::default() };
        self.guard.store.db().write(&self.batch, &options)?;
        self.batch.clear();
        Ok(())
    }
}
