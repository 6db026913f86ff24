//! The net under reclaiming: a slow walk over all ids, once a week, for those that lost their holder and no hint says so.
//!
//! ```text
//! data   | id 7: owner, segments ..... | id 9: owner, fields .. | id 12: ...
//!          ^ look ------------- seek -> ^ look ----- seek ->      ^
//! ```
//!
//! Everything of an id is one dense range, so the walk seeks from id to id and reads no element. An id that the reaper would find
//! dead (see `reaper.rs`) and that has no gc record gets one; the reaper looks again before it removes anything. Hints are not lost by
//! design, so this finds what a bug or a damaged table left behind.
//!
//! A turn looks at few ids, and there is at most one turn in a tenth of a second: the walk takes hours where there are many, and
//! nobody notices it. How far it is and when the next one is due is kept on the disk, so restarts neither begin it anew nor put it off.

use crate::encoding::data;
use crate::encoding::system;
use crate::store::pending::SpaceId;
use crate::store::store::{BACKGROUND_SLOT, OwnerWalk, Store, background_write};
use haypile_lsm::{IterOptions, ReadOptions, Result, WriteBatch};

/// From one walk to the next.
pub const OWNER_SWEEP_INTERVAL_MS: u64 = 7 * 24 * 3_600_000;
/// Between two turns of a walk.
const TURN_PAUSE_MS: u64 = 100;
/// How many ids a turn looks at.
const TURN_IDS: usize = 64;
/// Where a walk is, is written down this often.
const TURNS_A_NOTE: u32 = 64;

/// What a walk found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerSweep {
    /// So many ids there are.
    pub ids: u64,
    /// So many of them had lost their holder, without a hint.
    pub lost: u64,
}

/// Some ids, looked at.
struct Slice {
    ids: usize,
    lost: usize,
    /// Where the next slice begins; `None` at the end.
    next: Option<SpaceId>,
}

impl Store {
    /// Goes on with the walk if one is due or under way.
    pub fn owner_sweep_turn(&self) -> Result<()> {
        let now_ms = self.clock().unix_ms();
        let mut walk = self.owner_walk();
        if walk.is_none() {
            *walk = Some(self.read_owner_walk(now_ms)?);
        }
        let Some(walk) = walk.as_mut() else { return Ok(()) };
        // A clock that was set back must put nothing off.
        walk.due_ms = walk.due_ms.min(now_ms.saturating_add(OWNER_SWEEP_INTERVAL_MS));
        walk.pause_until_ms = walk.pause_until_ms.min(now_ms.saturating_add(TURN_PAUSE_MS));
        let from = match walk.from {
            Some(_) if now_ms < walk.pause_until_ms => return Ok(()),
            Some(from) => from,
            None if now_ms < walk.due_ms => return Ok(()),
            None => (0, 0),
        };
        let Some(slice) = self.sweep_owners(from, TURN_IDS)? else { return Ok(()) };
        walk.from = slice.next;
        walk.pause_until_ms = now_ms + TURN_PAUSE_MS;
        walk.turns += 1;
        if slice.next.is_none() {
            walk.due_ms = now_ms + OWNER_SWEEP_INTERVAL_MS;
        } else if !walk.turns.is_multiple_of(TURNS_A_NOTE) {
            return Ok(());
        }
        self.note_owner_walk(walk)
    }

    /// A whole walk, at once, on this thread. For tests and checks; what it finds is removed by the reaper.
    pub fn sweep_all_owners(&self) -> Result<OwnerSweep> {
        let mut found = OwnerSweep::default();
        let mut next = Some((0, 0));
        while let Some(from) = next {
            let Some(slice) = self.sweep_owners(from, TURN_IDS)? else {
                // A command has the gate closed; none does for long.
                std::thread::yield_now();
                continue;
            };
            found.ids += slice.ids as u64;
            found.lost += slice.lost as u64;
            next = slice.next;
        }
        Ok(found)
    }

    /// Looks at up to `limit` ids from `from` on. `None` if the gate is closed.
    fn sweep_owners(&self, from: SpaceId, limit: usize) -> Result<Option<Slice>> {
        // The gate keeps the spaces of databases where they are.
        let Some(_inside) = self.gate().enter(BACKGROUND_SLOT) else { return Ok(None) };
        let (mut ids, next) = self.ids_from(from, limit)?;
        let looked_at = ids.len();
        // Asked before the read point of `verify` is taken: what is linked by now is seen to be.
        ids.retain(|id| !self.under_construction.contains(*id));
        let verdicts = self.verify(&ids)?;
        let mut batch = WriteBatch::new();
        let mut lost = Vec::new();
        for (&id, _) in ids.iter().zip(&verdicts).filter(|(_, dead)| **dead) {
            let key = system::gc_key(id.0, id.1);
            if !self.db().contains(self.keyspaces().system, &key, &ReadOptions::default())? {
                batch.put(self.keyspaces().system, &key, b"")?;
                lost.push(id);
            }
        }
        if !lost.is_empty() {
            self.db().write(&batch, &background_write())?;
        }
        lost.iter().for_each(|id| self.gc_hints.push(*id));
        Ok(Some(Slice { ids: looked_at, lost: lost.len(), next }))
    }

    /// Up to `limit` ids that have records in `data`, from `from` on, and where to go on.
    fn ids_from(&self, from: SpaceId, limit: usize) -> Result<(Vec<SpaceId>, Option<SpaceId>)> {
        let read = ReadOptions { no_fill_cache: true, ..ReadOptions::default() };
        let lower = Some(data::prefix(from.0, from.1).to_vec());
        let mut iter =
            self.db().iter(self.keyspaces().data, IterOptions { lower, read, ..IterOptions::default() })?;
        iter.seek_to_first()?;
        let mut ids = Vec::new();
        while iter.valid() {
            let Some(id) = data::split_prefix(iter.key()) else {
                // Nothing writes such a key; it has no id to look at.
                iter.next()?;
                continue;
            };
            if ids.len() == limit {
                return Ok((ids, Some(id)));
            }
            ids.push(id);
            let Some(behind) = id_behind(id) else { break };
            iter.seek(&data::prefix(behind.0, behind.1))?;
        }
        Ok((ids, None))
    }

    fn read_owner_walk(&self, now_ms: u64) -> Result<OwnerWalk> {
        let fresh =
            OwnerWalk { due_ms: now_ms + OWNER_SWEEP_INTERVAL_MS, from: None, pause_until_ms: 0, turns: 0 };
        let value =
            self.db().get(self.keyspaces().system, system::OWNER_SWEEP_KEY, &ReadOptions::default())?;
        match value.as_deref().and_then(system::read_owner_sweep) {
            Some((due_ms, from)) => Ok(OwnerWalk { due_ms, from, ..fresh }),
            None => self.note_owner_walk(&fresh).map(|()| fresh),
        }
    }

    fn note_owner_walk(&self, walk: &OwnerWalk) -> Result<()> {
        let mut batch = WriteBatch::new();
        let value = system::owner_sweep_value(walk.due_ms, walk.from);
        batch.put(self.keyspaces().system, system::OWNER_SWEEP_KEY, &value)?;
        self.db().write(&batch, &background_write()).map(drop)
    }
}

/// The least id above.
fn id_behind((space, id): SpaceId) -> Option<SpaceId> {
    match id.checked_add(1) {
        Some(id) => Some((space, id)),
        None => Some((space.checked_add(1)?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::encoding::meta::{self, Head, Kind};
    use crate::store::aside::Aside;
    use crate::store::store::StoreOptions;
    use haypile_lsm::{Db, Env, MemEnv, Options};
    use std::path::Path;
    use std::sync::Arc;

    const START_MS: u64 = 1_700_000_000_000;

    fn open(env: &Arc<MemEnv>, clock: Clock) -> Arc<Store> {
        let env: Arc<dyn Env> = env.clone();
        let options = Options { memtable_bytes: 1 << 20, memtable_total_bytes: 4 << 20, ..Options::tiny() };
        let db = Arc::new(Db::open(env, Path::new("/db"), options).unwrap());
        Store::open(db, StoreOptions { clock, ..StoreOptions::default() }).unwrap()
    }

    fn new() -> (Arc<MemEnv>, Clock, Arc<Store>) {
        let (env, clock) = (MemEnv::new(), Clock::manual(START_MS));
        let store = open(&env, clock);
        (env, clock, store)
    }

    /// A string of three segments under `id`, whose record is there or lost.
    fn plant(store: &Store, id: u64, held: bool) {
        let space = store.space_of(0);
        let keyspaces = store.keyspaces();
        let user_key = format!("key {id}").into_bytes();
        let mut batch = WriteBatch::new();
        if held {
            let mut key = Vec::new();
            meta::put_key(&mut key, space, &user_key);
            let head = Head { id, ..Head::plain(Kind::String) }.encode();
            batch
                .put(keyspaces.meta, &key, &[head.as_bytes(), &meta::external_body(48 << 10)].concat())
                .unwrap();
        }
        batch.put(keyspaces.data, &data::owner_key(space, id), &user_key).unwrap();
        for index in 0..3 {
            batch.put(keyspaces.data, &data::segment_key(space, id, index), &[7; 100]).unwrap();
        }
        store.db().write(&batch, &background_write()).unwrap();
    }

    fn ids_left(store: &Store) -> Vec<u64> {
        let (ids, next) = store.ids_from((0, 0), usize::MAX).unwrap();
        assert_eq!(next, None);
        ids.into_iter().map(|(_, id)| id).collect()
    }

    fn settle(store: &Arc<Store>) {
        while store.background_turn().unwrap() {}
    }

    #[test]
    fn a_lost_hint_is_found_and_its_space_comes_back() {
        let (_, _, store) = new();
        for id in 1..=300 {
            plant(&store, id, id % 7 != 0);
        }
        settle(&store);
        assert_eq!(ids_left(&store).len(), 300, "nothing says that any is dead");
        assert_eq!(store.sweep_all_owners().unwrap(), OwnerSweep { ids: 300, lost: 42 });
        assert_eq!(store.sweep_all_owners().unwrap().lost, 0, "each has a hint by now");
        settle(&store);
        assert_eq!(ids_left(&store), (1..=300).filter(|id| id % 7 != 0).collect::<Vec<_>>());
        assert_eq!(store.sweep_all_owners().unwrap(), OwnerSweep { ids: 258, lost: 0 });
        let (gc_start, gc_end) = system::gc_bounds(store.space_of(0));
        let hints = IterOptions {
            lower: Some(gc_start.to_vec()),
            upper: Some(gc_end.to_vec()),
            ..IterOptions::default()
        };
        let mut hints = store.db().iter(store.keyspaces().system, hints).unwrap();
        hints.seek_to_first().unwrap();
        assert!(!hints.valid());
    }

    #[test]
    fn what_is_being_built_is_left_alone() {
        let (_, _, store) = new();
        let space = store.space_of(0);
        let mut aside = Aside::begin(&store, space, 5).unwrap();
        for index in 0..200 {
            aside.put(&data::segment_key(space, 5, index), &vec![1; data::SEGMENT_BYTES]).unwrap();
        }
        let guard = aside.finish().unwrap();
        assert_eq!(store.sweep_all_owners().unwrap(), OwnerSweep { ids: 1, lost: 0 });
        settle(&store);
        assert_eq!(ids_left(&store), [5]);
        // Given up, it is the reaper's, by the hint that it had from the beginning.
        drop(guard);
        assert_eq!(store.sweep_all_owners().unwrap().lost, 0);
        settle(&store);
        assert_eq!(ids_left(&store), [0; 0]);
    }

    #[test]
    fn it_comes_weekly_goes_on_where_it_was_and_is_slow() {
        let (env, clock, store) = new();
        for id in 1..=5_000 {
            plant(&store, id, id != 4_500);
        }
        let turns = |store: &Arc<Store>, count: u64| {
            for _ in 0..count {
                // Twice at one moment is no more than once.
                store.owner_sweep_turn().unwrap();
                store.owner_sweep_turn().unwrap();
                clock.set_unix_ms(clock.unix_ms() + TURN_PAUSE_MS);
            }
            store.owner_walk().as_ref().and_then(|walk| walk.from)
        };
        assert_eq!(turns(&store, 3), None);
        clock.set_unix_ms(START_MS + OWNER_SWEEP_INTERVAL_MS);
        let (space, slice) = (store.space_of(0), TURN_IDS as u64);
        assert_eq!(turns(&store, 70), Some((space, 70 * slice + 1)));
        // A restart goes on at the last note.
        store.close().unwrap();
        drop(store);
        let store = open(&env, clock);
        assert_eq!(turns(&store, 1), Some((space, (u64::from(TURNS_A_NOTE) + 1) * slice + 1)));
        assert_eq!(turns(&store, 100), None);
        settle(&store);
        assert_eq!(ids_left(&store).len(), 4_999);
        assert_eq!(turns(&store, 3), None, "not due again");
    }
}
