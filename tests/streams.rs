//! Streams against a map: random commands on entries and groups, with deletions and trimming, on an engine so small that
//! everything is compacted again and again, with unclean restarts, copies and dumps. Everything is read back again and
//! again, and what a stream and its groups say of their sizes is counted.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::encoding::stream::{Fields, StreamId};
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::stream::{self, Editor, NewId, Order, Trim, TrimTo};
use haypile::types::stream_groups::{
    self, Claim, Claimed, Delivery, Session, StartAt, for_each_consumer, for_each_pending,
};
use haypile::types::{dump, keys};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{CrashPolicy, Db, IterOptions, MemEnv, Options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;
const KEYS: [&[u8]; 2] = [b"a", b"b"];
const GROUPS: [&[u8]; 2] = [b"g", b"group two"];
const CONSUMERS: [&[u8]; 3] = [b"x", b"yy", b""];

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

fn open(env: &Arc<MemEnv>) -> Arc<Store> {
    let clock = Clock::manual(NOW_MS);
    let mut options =
        Options { memtable_bytes: 32 << 10, memtable_total_bytes: 256 << 10, ..Options::tiny() };
    MetaHooks::install(&mut options, clock);
    let db = Db::open(env.clone(), Path::new("/db"), options).unwrap();
    Store::open(Arc::new(db), StoreOptions { databases: 1, gate_slots: 2, clock, ..StoreOptions::default() })
        .unwrap()
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ModelGroup {
    last_id: StreamId,
    consumers: Vec<Vec<u8>>,
    /// Consumer and deliveries.
    pending: BTreeMap<StreamId, (Vec<u8>, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<StreamId, Vec<Vec<u8>>>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: BTreeMap<Vec<u8>, ModelGroup>,
}

struct World {
    env: Arc<MemEnv>,
    store: Arc<Store>,
    txn: Txn,
    model: Vec<Option<Model>>,
}

fn items_of(mut fields: Fields<'_>) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    while let Some(item) = fields.next_item() {
        items.push(item.to_vec());
    }
    items
}

impl World {
    fn new() -> World {
        let env = MemEnv::new();
        let store = open(&env);
        World { env, txn: Txn::new(store.clone()), store, model: vec![None; KEYS.len()] }
    }

    /// Runs a command the way a server does: on a worker if that works, else on a pool.
    fn run<R>(&mut self, mut command: impl FnMut(&mut Txn) -> Result<R, Stop>) -> Result<R, Stop> {
        let draws = Draws { now_ms: NOW_MS, seed: 1 };
        for mode in [Mode::Inline, Mode::Pool] {
            self.txn.begin(0, mode, draws, ReadPoint::Latest);
            match command(&mut self.txn) {
                Err(Stop::NeedsIo | Stop::Budget) if mode == Mode::Inline => self.txn.abandon(),
                Err(stop) => {
                    self.txn.abandon();
                    return Err(stop);
                }
                Ok(answer) => {
                    self.txn.commit().unwrap();
                    return Ok(answer);
                }
            }
        }
        unreachable!()
    }

    fn kill(&mut self, seed: u64) {
        self.store.db().flush_wal(self.store.db().visible_lsn()).unwrap();
        self.env = self.env.crash_clone(CrashPolicy::ProcessKill, seed);
        self.store = open(&self.env);
        self.txn = Txn::new(self.store.clone());
    }

    fn check(&mut self) {
        for index in 0..KEYS.len() {
            self.check_stream(index);
        }
    }

    fn check_stream(&mut self, index: usize) {
        let model = self.model[index].clone();
        let all = (StreamId::MIN, StreamId::MAX);
        let found = self
            .run(|txn| {
                let at = txn.at(KEYS[index])?;
                let Some(stream) = stream::view(txn, at)? else { return Ok(None) };
                let mut read = Model {
                    last_id: stream.meta.last_id,
                    max_deleted_id: stream.meta.max_deleted_id,
                    entries_added: stream.meta.entries_added,
                    ..Model::default()
                };
                stream.for_each(txn, all, Order::Forward, 0, |_, id, fields| {
                    read.entries.insert(id, items_of(fields));
                    Ok(())
                })?;
                assert_eq!(stream.meta.length, read.entries.len() as u64);
                let first = read.entries.keys().next().copied().unwrap_or_default();
                assert_eq!(stream.meta.first_id, first);
                assert_eq!(stream.last_entry(txn)?, read.entries.keys().next_back().copied());
                let mut backward = Vec::new();
                stream.for_each(txn, all, Order::Backward, 0, |_, id, _| {
                    backward.push(id);
                    Ok(())
                })?;
                assert!(backward.iter().rev().eq(read.entries.keys()));
                let keys = stream.group_keys();
                stream_groups::for_each_group(txn, &stream, |txn, name, group| {
                    let mut copy = ModelGroup { last_id: group.last_id, ..ModelGroup::default() };
                    let mut numbers = BTreeMap::new();
                    for_each_consumer(txn, keys, &group, |txn, number, consumer| {
                        let mut owned = 0;
                        for_each_pending(txn, keys, &group, Some(number), all, |_, _, pending| {
                            assert_eq!(pending.consumer, number);
                            owned += 1;
                            Ok(true)
                        })?;
                        assert_eq!(owned, consumer.pending);
                        copy.consumers.push(consumer.name.clone());
                        numbers.insert(number, consumer.name);
                        Ok(())
                    })?;
                    for_each_pending(txn, keys, &group, None, all, |_, id, pending| {
                        assert!(id <= group.max_pending_id);
                        copy.pending.insert(id, (numbers[&pending.consumer].clone(), pending.deliveries));
                        Ok(true)
                    })?;
                    assert_eq!(group.pending, copy.pending.len() as u64);
                    assert_eq!(group.consumers, copy.consumers.len() as u64);
                    read.groups.insert(name.to_vec(), copy);
                    Ok(())
                })?;
                assert_eq!(stream.meta.groups, read.groups.len() as u64);
                Ok(Some(read))
            })
            .unwrap();
        assert_eq!(found, model);
    }

    fn turn(&mut self, rng: &mut Rng) {
        let index = rng.below(KEYS.len() as u64) as usize;
        let (key, group) = (KEYS[index], GROUPS[rng.below(2) as usize]);
        let consumer = CONSUMERS[rng.below(3) as usize];
        let mut model = self.model[index].clone();
        let some_id = |rng: &mut Rng, model: &Option<Model>| {
            let entries = model.as_ref().map(|model| &model.entries).filter(|entries| !entries.is_empty());
            match entries {
                Some(entries) if !rng.one_in(4) => {
                    *entries.keys().nth(rng.below(entries.len() as u64) as usize).unwrap()
                }
                _ => StreamId { ms: rng.below(300), seq: rng.below(3) },
            }
        };
        match rng.below(30) {
            0..11 => {
                let last = model.as_ref().map_or(StreamId::MIN, |model| model.last_id);
                let id = StreamId { ms: last.ms + 1 + rng.below(3), seq: rng.below(3) };
                let items: Vec<Vec<u8>> =
                    (0..2 * (1 + rng.below(3))).map(|_| vec![b'v'; rng.below(30) as usize]).collect();
                let trim = rng.one_in(3).then(|| Trim {
                    to: TrimTo::Length(rng.below(40)),
                    approximate: false,
                    limit: 0,
                    node_entries: 100,
                });
                let added = self.run(|txn| {
                    let at = txn.at(key)?;
                    let items = items.iter().map(Vec::as_slice);
                    stream::add(txn, at, NewId::Given(id), items, trim.as_ref(), Some(100))
                });
                assert_eq!(added.unwrap(), Some(id));
                let model = model.get_or_insert_default();
                model.entries.insert(id, items);
                model.entries_added += 1;
                model.last_id = id;
                if let Some(Trim { to: TrimTo::Length(keep), .. }) = trim {
                    while model.entries.len() as u64 > keep {
                        model.entries.pop_first();
                    }
                }
            }
            11 => {
                let to = if rng.one_in(2) {
                    TrimTo::Length(rng.below(60))
                } else {
                    TrimTo::Id(some_id(rng, &model))
                };
                let trim = Trim { to, approximate: false, limit: 0, node_entries: 100 };
                let removed = self.run(|txn| stream::trim(txn, txn.at(key)?, &trim)).unwrap();
                let mut expected = 0;
                if let Some(model) = &mut model {
                    let before = model.entries.len();
                    match to {
                        TrimTo::Id(id) => model.entries.retain(|entry, _| *entry >= id),
                        TrimTo::Length(keep) => {
                            while model.entries.len() as u64 > keep {
                                model.entries.pop_first();
                            }
                        }
                    }
                    expected = before - model.entries.len();
                }
                assert_eq!(removed, expected as u64);
            }
            12 => {
                // Whole nodes only: never more than what exact trimming would remove, and never more than the limit.
                let (keep, limit) = (rng.below(60), rng.below(3) * 10);
                let to = TrimTo::Length(keep);
                let trim = Trim { to, approximate: true, limit, node_entries: 1 + rng.below(20) };
                let removed = self.run(|txn| stream::trim(txn, txn.at(key)?, &trim)).unwrap();
                let length = model.as_ref().map_or(0, |model| model.entries.len() as u64);
                assert!(removed <= length.saturating_sub(keep) && (limit == 0 || removed <= limit));
                if let Some(model) = &mut model {
                    (0..removed).for_each(|_| drop(model.entries.pop_first()));
                }
            }
            13..16 => {
                let ids: Vec<StreamId> = (0..1 + rng.below(4)).map(|_| some_id(rng, &model)).collect();
                let deleted = self.run(|txn| {
                    let at = txn.at(key)?;
                    let Some(mut editor) = Editor::open(txn, at)? else { return Ok(0) };
                    let deleted = editor.delete(txn, &ids)?;
                    editor.finish(txn, at)?;
                    Ok(deleted)
                });
                let mut expected = 0;
                if let Some(model) = &mut model {
                    for id in ids {
                        if model.entries.remove(&id).is_some() {
                            expected += 1;
                            model.max_deleted_id = model.max_deleted_id.max(id);
                        }
                    }
                }
                assert_eq!(deleted.unwrap(), expected);
            }
            16 | 17 => {
                let start = some_id(rng, &model);
                let done = self.run(|txn| {
                    let at = txn.at(key)?;
                    stream_groups::create(txn, at, group, StartAt::Id(start), None, true)
                });
                let groups = &mut model.get_or_insert_default().groups;
                let there = groups.contains_key(group);
                assert_eq!(done.is_err(), there);
                if !there {
                    groups.insert(group.to_vec(), ModelGroup { last_id: start, ..ModelGroup::default() });
                }
            }
            18 if rng.one_in(3) => {
                let done = self.run(|txn| stream_groups::destroy(txn, txn.at(key)?, group)).unwrap();
                let expected = model.as_mut().is_some_and(|model| model.groups.remove(group).is_some());
                assert_eq!(done, expected);
            }
            19..23 => {
                let count = rng.below(30);
                let mut got = Vec::new();
                let done = self.run(|txn| {
                    got.clear();
                    let at = txn.at(key)?;
                    let Some(mut session) = Session::open(txn, at, group)? else { return Ok(false) };
                    let (number, _) = session.group.find_or_create(txn, consumer)?;
                    let delivery = Delivery::Pending;
                    stream_groups::deliver_new(txn, &mut session, number, delivery, count, |id, _| {
                        got.push(id);
                        Ok(())
                    })?;
                    session.finish(txn)?;
                    Ok(true)
                });
                let mut expected = Vec::new();
                let found = model.as_mut().and_then(|model| {
                    let group = model.groups.get_mut(group)?;
                    let behind = (std::ops::Bound::Excluded(group.last_id), std::ops::Bound::Unbounded);
                    let most = if count == 0 { usize::MAX } else { count as usize };
                    expected.extend(model.entries.range(behind).take(most).map(|(id, _)| *id));
                    if !group.consumers.iter().any(|name| name == consumer) {
                        group.consumers.push(consumer.to_vec());
                        group.consumers.sort();
                    }
                    for id in &expected {
                        group.pending.insert(*id, (consumer.to_vec(), 1));
                        group.last_id = *id;
                    }
                    Some(())
                });
                assert_eq!((done.unwrap(), got), (found.is_some(), expected));
            }
            23..25 => {
                let ids: Vec<StreamId> = (0..1 + rng.below(6)).map(|_| some_id(rng, &model)).collect();
                let done = self.run(|txn| {
                    let at = txn.at(key)?;
                    let Some(mut session) = Session::open(txn, at, group)? else { return Ok(0) };
                    let done = stream_groups::acknowledge(txn, &mut session, &ids)?;
                    session.finish(txn)?;
                    Ok(done)
                });
                let group = model.as_mut().and_then(|model| model.groups.get_mut(group));
                let expected = group.map_or(0, |group| {
                    ids.iter().filter(|id| group.pending.remove(id).is_some()).count() as u64
                });
                assert_eq!(done.unwrap(), expected);
            }
            25 | 26 => {
                let ids: Vec<StreamId> = (0..1 + rng.below(6)).map(|_| some_id(rng, &model)).collect();
                let how = Claim {
                    min_idle_ms: 0,
                    delivered_ms: NOW_MS,
                    deliveries: None,
                    force: rng.one_in(2),
                    just_id: false,
                };
                let mut claimed = Vec::new();
                self.run(|txn| {
                    claimed.clear();
                    let at = txn.at(key)?;
                    let Some(mut session) = Session::open(txn, at, group)? else { return Ok(()) };
                    let (number, _) = session.group.find_or_create(txn, consumer)?;
                    for &id in &ids {
                        if stream_groups::claim(txn, &mut session, number, id, &how)? == Claimed::Yes {
                            claimed.push(id);
                        }
                    }
                    session.finish(txn)
                })
                .unwrap();
                let mut expected = Vec::new();
                if let Some(model) = &mut model
                    && let Some(group) = model.groups.get_mut(group)
                {
                    if !group.consumers.iter().any(|name| name == consumer) {
                        group.consumers.push(consumer.to_vec());
                        group.consumers.sort();
                    }
                    for id in ids {
                        if !model.entries.contains_key(&id) {
                            group.pending.remove(&id);
                        } else if let Some((_, deliveries)) = group.pending.get(&id).cloned() {
                            group.pending.insert(id, (consumer.to_vec(), deliveries + 1));
                            expected.push(id);
                        } else if how.force {
                            group.pending.insert(id, (consumer.to_vec(), 2));
                            expected.push(id);
                        }
                    }
                }
                assert_eq!(claimed, expected);
            }
            27 => {
                let done = self.run(|txn| {
                    let at = txn.at(key)?;
                    let Some(mut session) = Session::open(txn, at, group)? else { return Ok(0) };
                    let done = match session.group.find(txn, consumer)? {
                        Some(number) => session.group.delete_consumer(txn, number)?,
                        None => 0,
                    };
                    session.finish(txn)?;
                    Ok(done)
                });
                let group = model.as_mut().and_then(|model| model.groups.get_mut(group));
                let expected = group.map_or(0, |group| {
                    group.consumers.retain(|name| name != consumer);
                    let before = group.pending.len();
                    group.pending.retain(|_, (owner, _)| owner != consumer);
                    before - group.pending.len()
                });
                assert_eq!(done.unwrap(), expected as u64);
            }
            28 => {
                // Through a dump, or a copy.
                let dumped = rng.one_in(2);
                let other = KEYS[1 - index];
                self.run(|txn| {
                    let (from, to) = (txn.at(key)?, txn.at(other)?);
                    if !dumped {
                        return keys::copy(txn, from, to, true).map(drop);
                    }
                    let Some(dump) = dump::dump(txn, from)? else { return Ok(()) };
                    let value = dump::parse(&dump).map_err(Stop::Reply)?;
                    let slot = txn.load(to)?;
                    dump::store(txn, to, &slot.before, &value, 0)
                })
                .unwrap();
                if model.is_some() {
                    self.model[1 - index] = model.clone();
                }
            }
            _ => {
                if rng.one_in(6) {
                    self.run(|txn| keys::delete(txn, txn.at(key)?)).unwrap();
                    model = None;
                } else if rng.one_in(3) {
                    self.kill(rng.next_u64());
                } else {
                    self.store.db().flush(self.store.keyspaces().data).unwrap();
                    while self.store.background_turn().unwrap() {}
                }
            }
        }
        self.model[index] = model;
    }
}

#[test]
fn streams_agree_with_a_model() {
    for seed in seeds(6) {
        eprintln!("HAYPILE_SEED={seed}");
        let mut rng = Rng::new(seed);
        let mut world = World::new();
        for turn in 0..400 {
            world.turn(&mut rng);
            if turn % 5 == 0 {
                world.check();
            }
        }
        world.check();
        // Nothing is left of a stream that is gone.
        for key in KEYS {
            world.run(|txn| keys::delete(txn, txn.at(key)?)).unwrap();
        }
        world.store.db().wait_idle().unwrap();
        while world.store.background_turn().unwrap() {}
        let data = world.store.keyspaces().data;
        let mut iter = world.store.db().iter(data, IterOptions::default()).unwrap();
        iter.seek_to_first().unwrap();
        assert!(!iter.valid());
    }
}

#[test]
fn a_capped_stream_reads_and_trims_without_walking_tombstones() {
    let mut world = World::new();
    let trim = Trim { to: TrimTo::Length(10), approximate: false, limit: 0, node_entries: 100 };
    for ms in 1..3000 {
        let draws = Draws { now_ms: NOW_MS, seed: 1 };
        // Each within the budget of a worker: what was trimmed before costs nothing.
        world.txn.begin(0, Mode::Pool, draws, ReadPoint::Latest);
        let at = world.txn.at(b"a").unwrap();
        let items: [&[u8]; 2] = [b"field", b"value"];
        let id = NewId::Given(StreamId { ms, seq: 0 });
        stream::add(&mut world.txn, at, id, items.into_iter(), Some(&trim), Some(20)).unwrap();
        world.txn.commit().unwrap();
    }
    let all = (StreamId::MIN, StreamId::MAX);
    let found = world
        .run(|txn| {
            let at = txn.at(b"a")?;
            let stream = stream::view(txn, at)?.unwrap();
            stream.for_each(txn, all, Order::Forward, 0, |_, _, _| Ok(()))
        })
        .unwrap();
    assert_eq!(found, 10);
}
