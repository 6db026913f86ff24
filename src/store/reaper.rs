//! Reclaiming ids: hint, then verify.
//!
//! ```text
//! a command that knew       gc | id  in its own batch ---------------------.
//! compaction that noticed   note ---> gc | id, synced, then acknowledged ---+--> reaper
//! a build that was given up gc | id  since its first batch ----------------'
//! ```
//!
//! The reaper looks at owner and record *at one read point*. If the record named by the owner does not hold the id there,
//! nobody ever will again: only the command that makes an id and RENAME, which writes the owner in the same batch, link
//! one, and a command that goes on to use an id it read holds its key's lock since. An id without an owner was never
//! linked, or is being built, and those are asked for first. So no lock is needed. A dead id's range, owner included, and
//! its hints go in one batch; neighbours go as one range.

use crate::encoding::data;
use crate::encoding::meta::{self, Record};
use crate::encoding::system;
use crate::store::pending::SpaceId;
use crate::store::store::{BACKGROUND_SLOT, Store, background_write};
use haypile_lsm::{Durability, IterOptions, ReadOptions, Reader, Result, WriteBatch, WriteOptions};

impl Store {
    /// Looks at up to `limit` ids, and takes in notes of compactions. Whether there is more.
    pub fn reclaim_turn(&self, limit: usize) -> Result<bool> {
        let noted = self.take_notes(limit)?;
        if self.gc_hints.is_empty() {
            return Ok(noted);
        }
        // The gate keeps the spaces of databases where they are.
        let Some(_inside) = self.gate().enter(BACKGROUND_SLOT) else { return Ok(true) };
        let (ids, scan) = self.gc_hints.take(limit);
        let reclaimed = self.reclaim(ids, scan, limit);
        self.gc_hints.done();
        if reclaimed.is_err() {
            // Their records are still there.
            self.gc_hints.request_scan();
        }
        reclaimed?;
        Ok(noted || !self.gc_hints.is_empty())
    }

    fn reclaim(&self, mut ids: Vec<SpaceId>, scan: bool, limit: usize) -> Result<()> {
        if scan {
            self.scan_hints(&mut ids, limit)?;
        }
        ids.sort_unstable();
        ids.dedup();
        // Asked before the read point is taken: what is linked by now is seen to be.
        ids.retain(|id| !self.under_construction.contains(*id));
        let verdicts = self.verify(&ids)?;
        self.remove(&ids, &verdicts)?;
        self.add_reclaimed(verdicts.iter().filter(|dead| **dead).count() as u64);
        Ok(())
    }

    /// Makes gc records of what compactions noted. They are on the disk before the notes are acknowledged.
    fn take_notes(&self, limit: usize) -> Result<bool> {
        let notes = self.db().pending_notes(limit);
        if notes.is_empty() {
            return Ok(false);
        }
        let mut batch = WriteBatch::new();
        let mut ids = Vec::new();
        for note in notes.iter().filter(|note| note.keyspace == self.keyspaces().meta) {
            if let Some((space, id)) = system::split_gc_note(&note.bytes) {
                batch.put(self.keyspaces().system, &system::gc_key(space, id), b"")?;
                ids.push((space, id));
            }
        }
        if !batch.is_empty() {
            let options = WriteOptions { durability: Durability::Synced, ..background_write() };
            self.db().write(&batch, &options)?;
        }
        self.db().acknowledge_notes(&notes.iter().map(|note| note.id).collect::<Vec<_>>())?;
        ids.into_iter().for_each(|id| self.gc_hints.push(id));
        Ok(notes.len() == limit)
    }

    /// Reads gc records, `limit` at most; if there may be more, asks for another scan.
    fn scan_hints(&self, ids: &mut Vec<SpaceId>, limit: usize) -> Result<()> {
        let mut iter = self.db().iter(self.keyspaces().system, IterOptions::prefix(system::GC_PREFIX))?;
        iter.seek_to_first()?;
        while iter.valid() {
            if ids.len() >= limit {
                self.gc_hints.request_scan();
                break;
            }
            ids.extend(system::split_gc_key(iter.key()).filter(|id| !self.under_construction.contains(*id)));
            iter.next()?;
        }
        Ok(())
    }

    /// Whether each id is dead.
    pub(super) fn verify(&self, ids: &[SpaceId]) -> Result<Vec<bool>> {
        let reader = self.db().reader(&ReadOptions::default());
        ids.iter().map(|id| self.is_dead(&reader, *id)).collect()
    }

    fn is_dead(&self, reader: &Reader, (space, id): SpaceId) -> Result<bool> {
        let options = ReadOptions { no_fill_cache: true, ..ReadOptions::default() };
        let mut key = Vec::new();
        let owned = reader.read(self.keyspaces().data, &data::owner_key(space, id), &options, |owner| {
            owner.map(|owner| meta::put_key(&mut key, space, owner)).is_some()
        })?;
        if !owned {
            return Ok(true);
        }
        reader.read(self.keyspaces().meta, &key, &options, |value| {
            value.and_then(Record::decode).is_none_or(|record| record.head.id != id)
        })
    }

    /// Removes the dead ones' ranges, and everyone's hints.
    fn remove(&self, ids: &[SpaceId], dead: &[bool]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let mut run: Option<(SpaceId, u64)> = None;
        for (&(space, id), _) in ids.iter().zip(dead).filter(|(_, dead)| **dead) {
            run = match run {
                Some((first, next)) if first.0 == space && next == id => Some((first, id + 1)),
                run => {
                    self.remove_run(&mut batch, run)?;
                    Some(((space, id), id + 1))
                }
            };
        }
        self.remove_run(&mut batch, run)?;
        for &(space, id) in ids {
            batch.delete(self.keyspaces().system, &system::gc_key(space, id))?;
        }
        self.db().write(&batch, &background_write()).map(drop)
    }

    /// Removes the ids from the first up to the number behind the last.
    fn remove_run(&self, batch: &mut WriteBatch, run: Option<(SpaceId, u64)>) -> Result<()> {
        let Some(((space, first), end)) = run else { return Ok(()) };
        batch.delete_range(self.keyspaces().data, &data::prefix(space, first), &data::prefix(space, end))
    }
}
