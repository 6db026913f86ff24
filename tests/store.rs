//! The stored types against maps: random commands on several databases, expiry, renames and copies of strings in segments,
//! flushed and swapped databases, clean and unclean restarts, on an engine so small that everything is compacted again and
//! again. Checked: every value, the counts, and that no id is left without a holder and no holder without its id.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::encoding::meta::{Record, split_key};
use haypile::encoding::{data, system, ttl};
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::keys::{self, ExpireConditions, Scan};
use haypile::types::string_value::Source;
use haypile::types::{bitmaps, strings};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{CrashPolicy, Db, IterOptions, KeyspaceId, MemEnv, Options, ReadOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const DATABASES: usize = 3;
const START_MS: u64 = 1_700_000_000_000;

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

fn open(env: &Arc<MemEnv>, clock: Clock) -> Arc<Store> {
    let mut options =
        Options { memtable_bytes: 32 << 10, memtable_total_bytes: 256 << 10, ..Options::tiny() };
    MetaHooks::install(&mut options, clock);
    let db = Db::open(env.clone(), Path::new("/db"), options).unwrap();
    Store::open(
        Arc::new(db),
        // A small table, so that keys are forgotten, too.
        StoreOptions {
            databases: DATABASES,
            gate_slots: 2,
            clock,
            plain_keys_bytes: 128,
            ..StoreOptions::default()
        },
    )
    .unwrap()
}

/// Value and expiry of each key.
type Keys = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

struct World {
    env: Arc<MemEnv>,
    clock: Clock,
    store: Arc<Store>,
    txn: Txn,
    model: Vec<Keys>,
    now_ms: u64,
}

impl World {
    fn new() -> World {
        let (env, clock) = (MemEnv::new(), Clock::manual(START_MS));
        let store = open(&env, clock);
        let txn = Txn::new(store.clone());
        World { env, clock, store, txn, model: vec![Keys::new(); DATABASES], now_ms: START_MS }
    }

    fn reopen(&mut self, env: Arc<MemEnv>) {
        self.env = env;
        self.store = open(&self.env, self.clock);
        self.txn = Txn::new(self.store.clone());
    }

    /// Runs a command the way a server does: on a worker if that works, else on a pool.
    fn run<R>(&mut self, db: usize, mut command: impl FnMut(&mut Txn) -> Result<R, Stop>) -> Result<R, Stop> {
        let draws = Draws { now_ms: self.now_ms, seed: 1 };
        for mode in [Mode::Inline, Mode::Pool] {
            self.txn.begin(db, mode, draws, ReadPoint::Latest);
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

    fn get(&mut self, db: usize, key: &[u8]) -> Option<Vec<u8>> {
        self.run(db, |txn| {
            let at = txn.at(key)?;
            match Source::open(txn, at)? {
                Some(source) => source.read_all(txn).map(Some),
                None => Ok(None),
            }
        })
        .unwrap()
    }

    /// Everything that goes on by itself, to its end.
    fn settle(&mut self) {
        self.store.db().wait_idle().unwrap();
        while self.store.background_turn().unwrap() {}
    }

    /// Ends the process without a word and starts it again.
    fn kill(&mut self, seed: u64) {
        self.store.db().flush_wal(self.store.db().visible_lsn()).unwrap();
        let env = self.env.crash_clone(CrashPolicy::ProcessKill, seed);
        self.reopen(env);
        assert!(self.store.is_counting());
    }

    fn drop_expired(&mut self) {
        let now_ms = self.now_ms;
        for keys in &mut self.model {
            keys.retain(|_, (_, expire_ms)| *expire_ms == 0 || *expire_ms > now_ms);
        }
    }

    fn entry(&mut self, db: usize, key: &[u8]) -> Option<(Vec<u8>, u64)> {
        self.drop_expired();
        self.model[db].get(key).cloned()
    }

    fn turn(&mut self, rng: &mut Rng) {
        let db = rng.below(DATABASES as u64) as usize;
        let key = random_key(rng);
        let other = random_key(rng);
        let old = self.entry(db, &key);
        match rng.below(36) {
            0..=7 => {
                let value = random_value(rng);
                let expire_ms = if rng.one_in(3) { self.now_ms + rng.below(4000) } else { 0 };
                self.run(db, |txn| strings::set_blindly(txn, txn.at(&key)?, &value, expire_ms)).unwrap();
                self.model[db].insert(key, (value, expire_ms));
                self.drop_expired();
            }
            8..=9 => {
                let pairs = [(key.clone(), random_value(rng)), (other, random_value(rng)), (key, vec![1])];
                let borrowed = || pairs.iter().map(|(key, value)| (&key[..], &value[..]));
                if rng.one_in(2) {
                    self.run(db, |txn| strings::set_many(txn, borrowed())).unwrap();
                } else {
                    let absent = borrowed().all(|(key, _)| !self.model[db].contains_key(key));
                    let done = self.run(db, |txn| strings::set_many_if_absent(txn, borrowed())).unwrap();
                    assert_eq!(done, absent);
                    if !done {
                        return;
                    }
                }
                for (key, value) in pairs {
                    self.model[db].insert(key, (value, 0));
                }
            }
            10..=12 => {
                let value = random_value(rng);
                let length = self.run(db, |txn| strings::append(txn, txn.at(&key)?, &value)).unwrap();
                let (mut bytes, expire_ms) = old.unwrap_or_default();
                bytes.extend(value);
                assert_eq!(length, bytes.len() as u64);
                self.model[db].insert(key, (bytes, expire_ms));
            }
            13..=15 => {
                let (value, offset) = (random_value(rng), rng.below(90_000));
                self.run(db, |txn| strings::set_range(txn, txn.at(&key)?, offset, &value)).unwrap();
                if value.is_empty() {
                    return;
                }
                let (mut bytes, expire_ms) = old.unwrap_or_default();
                let end = offset as usize + value.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset as usize..end].copy_from_slice(&value);
                self.model[db].insert(key, (bytes, expire_ms));
            }
            16..=18 => {
                let keys = [key.clone(), other, key];
                let deleted = self
                    .run(db, |txn| {
                        keys.iter()
                            .try_fold(0, |sum, key| Ok(sum + usize::from(keys::delete(txn, txn.at(key)?)?)))
                    })
                    .unwrap();
                let before = self.model[db].len();
                keys.iter().for_each(|key| drop(self.model[db].remove(key)));
                assert_eq!(deleted, before - self.model[db].len());
            }
            19..=20 => {
                let expire_ms = self.now_ms as i64 + rng.below(5000) as i64 - 500;
                let conditions = ExpireConditions { if_later: rng.one_in(3), ..ExpireConditions::default() };
                let done =
                    self.run(db, |txn| keys::expire(txn, txn.at(&key)?, expire_ms, conditions)).unwrap();
                if done {
                    self.model[db].get_mut(&key).unwrap().1 = expire_ms as u64;
                    self.drop_expired();
                } else {
                    assert!(old.is_none() || conditions.if_later);
                }
            }
            21 => {
                let done = self.run(db, |txn| keys::persist(txn, txn.at(&key)?)).unwrap();
                assert_eq!(done, old.is_some_and(|(_, expire_ms)| expire_ms != 0));
                if done {
                    self.model[db].get_mut(&key).unwrap().1 = 0;
                }
            }
            22..=23 => {
                let done = self.run(db, |txn| keys::rename(txn, txn.at(&key)?, txn.at(&other)?, false));
                assert_eq!(done.is_ok(), old.is_some());
                if let Some(old) = self.model[db].remove(&key) {
                    self.model[db].insert(other, old);
                }
            }
            24..=25 => {
                let (to_db, replace) = (rng.below(DATABASES as u64) as usize, rng.one_in(2));
                let target = self.entry(to_db, &other);
                let done =
                    self.run(db, |txn| keys::copy(txn, txn.at(&key)?, txn.at_in(to_db, &other)?, replace));
                let same = db == to_db && key == other;
                let expected = old.is_some() && (target.is_none() || replace);
                assert_eq!(done.ok(), (!same).then_some(expected));
                if expected && !same {
                    self.model[to_db].insert(other, old.unwrap());
                }
            }
            26 => {
                let to_db = (db + 1) % DATABASES;
                let free = self.entry(to_db, &key).is_none();
                let done =
                    self.run(db, |txn| keys::move_to(txn, txn.at(&key)?, txn.at_in(to_db, &key)?)).unwrap();
                assert_eq!(done, old.is_some() && free);
                if done {
                    let old = self.model[db].remove(&key).unwrap();
                    self.model[to_db].insert(key, old);
                }
            }
            27 => {
                let offset = rng.below(800_000);
                let on = rng.one_in(2);
                let bit = self.run(db, |txn| bitmaps::set_bit(txn, txn.at(&key)?, offset, on)).unwrap();
                let (mut bytes, expire_ms) = old.unwrap_or_default();
                let (index, mask) = (offset as usize / 8, 0x80 >> (offset % 8));
                assert_eq!(bit, bytes.get(index).is_some_and(|byte| byte & mask != 0));
                bytes.resize(bytes.len().max(index + 1), 0);
                bytes[index] = if on { bytes[index] | mask } else { bytes[index] & !mask };
                self.model[db].insert(key, (bytes, expire_ms));
            }
            28 if rng.one_in(4) => {
                self.run(db, |txn| txn.flush(std::iter::once(db))).unwrap();
                self.model[db].clear();
            }
            28 => {
                let b = rng.below(DATABASES as u64) as usize;
                self.run(db, |txn| txn.swap(db, b)).unwrap();
                self.model.swap(db, b);
            }
            29..=30 => {
                self.now_ms += rng.below(3000);
                self.clock.set_unix_ms(self.now_ms);
                self.drop_expired();
            }
            31 => drop(self.store.background_turn().unwrap()),
            32 => drop(self.store.db().step().unwrap()),
            33 if rng.one_in(4) => {
                self.now_ms += 1_000_000;
                self.clock.set_unix_ms(self.now_ms);
                self.drop_expired();
                let meta = self.store.keyspaces().meta;
                self.store.db().flush(meta).unwrap();
                self.store.db().compact_range(meta, None, None).unwrap();
            }
            33 => self.settle(),
            34 if rng.one_in(3) => {
                let counting = self.store.is_counting();
                self.store.close().unwrap();
                self.reopen(self.env.clone());
                assert_eq!(self.store.is_counting(), counting);
            }
            34 if rng.one_in(2) => {
                self.kill(rng.next_u64());
                if rng.one_in(2) {
                    self.store.finish_counting().unwrap();
                }
            }
            _ => {
                let value = self.get(db, &key);
                assert_eq!(value, old.map(|(value, _)| value));
            }
        }
    }

    /// Compares everything.
    fn check(&mut self, exact_counts: bool) {
        self.drop_expired();
        self.settle();
        assert!(!self.store.is_counting());
        for db in 0..DATABASES {
            for (key, (value, _)) in self.model[db].clone() {
                assert!(self.get(db, &key).as_ref() == Some(&value), "value of {key:?} in {db}");
            }
            let found = self.scan_all(db);
            let expected = self.model[db].keys().cloned().collect::<Vec<_>>();
            assert_eq!(found, expected, "keys of {db}");
            if exact_counts {
                // A blind write that did not see the expiry it removed leaves an entry, which counts until its time.
                let space = self.store.space_of(db);
                let entries = self.records(self.store.keyspaces().ttl);
                let expires =
                    entries.iter().filter(|(key, _)| ttl::split_key(key).unwrap().1 == space).count();
                assert_eq!(self.store.dbsize(db), expected.len() as u64, "size of {db}");
                assert_eq!(self.store.expires(db), expires as u64, "expires of {db}");
            }
            let random = self.run(db, keys::random).unwrap();
            assert_eq!(random.is_some(), !expected.is_empty());
            assert!(random.is_none_or(|key| self.model[db].contains_key(&key)));
        }
        self.check_ids();
        self.check_ttl();
    }

    fn scan_all(&mut self, db: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let scan = Scan { cursor, count: 3, pattern: None, kind: None };
            let (next, keys) = self
                .run(db, |txn| {
                    let mut keys = Vec::new();
                    let next = keys::scan(txn, scan, |key| keys.push(key.to_vec()))?;
                    Ok((next, keys))
                })
                .unwrap();
            found.extend(keys);
            cursor = next;
            if cursor == 0 {
                return found;
            }
        }
    }

    fn records(&self, keyspace: KeyspaceId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut iter = self.store.db().iter(keyspace, IterOptions::default()).unwrap();
        iter.seek_to_first().unwrap();
        let mut records = Vec::new();
        while iter.valid() {
            records.push((iter.key().to_vec(), iter.value().to_vec()));
            iter.next().unwrap();
        }
        records
    }

    /// Every id in `data` is held, by the key that its owner names; every id that is held has its owner.
    fn check_ids(&self) {
        let keyspaces = self.store.keyspaces();
        let held = self
            .records(keyspaces.meta)
            .iter()
            .filter_map(|(key, value)| {
                let ((space, key), id) = (split_key(key).unwrap(), Record::decode(value).unwrap().head.id);
                (id != 0).then(|| (space, id, key.to_vec()))
            })
            .collect::<BTreeSet<_>>();
        let mut owned = BTreeSet::new();
        let mut present = BTreeSet::new();
        for (key, value) in self.records(keyspaces.data) {
            let (space, id) = system::split_gc_note(&key[..data::PREFIX_BYTES]).unwrap();
            present.insert((space, id));
            if data::is_owner(&key) {
                owned.insert((space, id, value));
            }
        }
        assert_eq!(owned, held, "owners and holders");
        let held_ids = held.iter().map(|(space, id, _)| (*space, *id)).collect::<BTreeSet<_>>();
        assert_eq!(present, held_ids, "ids with data");
        let hints = self.records(keyspaces.system);
        assert!(hints.iter().all(|(key, _)| system::split_gc_key(key).is_none()), "gc records are left");
    }

    /// Every expiry of the models has its entry.
    fn check_ttl(&self) {
        let entries = self.records(self.store.keyspaces().ttl);
        let entries = entries.iter().map(|(key, _)| ttl::split_key(key).unwrap()).collect::<BTreeSet<_>>();
        for (db, keys) in self.model.iter().enumerate() {
            for (key, (_, expire_ms)) in keys.iter().filter(|(_, (_, expire_ms))| *expire_ms != 0) {
                assert!(
                    entries.contains(&(*expire_ms, self.store.space_of(db), &key[..])),
                    "entry of {key:?}"
                );
            }
        }
    }
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    format!("key:{}", rng.below(12)).into_bytes()
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.below(10) {
        0 => 0,
        1..=5 => rng.below(40),
        6..=7 => rng.below(2000),
        8 => 65_530 + rng.below(12),
        _ => rng.below(150_000),
    };
    let byte = rng.below(255) as u8 + 1;
    (0..length).map(|at| byte.wrapping_add((at / 1000) as u8)).collect()
}

#[test]
fn commands_agree_with_maps() {
    for seed in seeds(12) {
        let mut rng = Rng::new(seed);
        let mut world = World::new();
        for turn in 0..150 {
            let before = rng.clone();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.turn(&mut rng)));
            assert!(outcome.is_ok(), "seed {seed}, turn {turn}, {before:?}");
            if turn % 50 == 49 {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    // What lies below a tombstone or a new version is noticed when it is compacted away; twice, for a
                    // recount's snapshot keeps what it sees, and a file is rewritten in place only if it is older.
                    for _ in 0..2 {
                        world.env.advance(std::time::Duration::from_secs(1));
                        let meta = world.store.keyspaces().meta;
                        world.store.db().flush(meta).unwrap();
                        world.store.db().compact_range(meta, None, None).unwrap();
                        world.settle();
                    }
                    let exact = world.store.beliefs() == 0;
                    world.check(exact);
                    if !exact {
                        world.kill(1);
                        world.check(true);
                    }
                }));
                assert!(outcome.is_ok(), "seed {seed}, check after turn {turn}");
            }
        }
    }
}

#[test]
fn a_build_that_is_given_up_is_reclaimed() {
    let mut world = World::new();
    let value = vec![7; 3 << 20];
    let abandoned = world.run(0, |txn| {
        strings::set_blindly(txn, txn.at(b"key")?, &value, 0)?;
        Err::<(), _>(Stop::Reply(haypile::base::reply_error::ReplyError::SYNTAX))
    });
    assert!(abandoned.is_err());
    let data = world.store.keyspaces().data;
    assert!(!world.records(data).is_empty());
    world.settle();
    assert!(world.records(data).is_empty());
    // The same, but the process dies meanwhile.
    world.txn.begin(0, Mode::Pool, Draws { now_ms: START_MS, seed: 1 }, ReadPoint::Latest);
    let at = world.txn.at(b"key").unwrap();
    strings::set_blindly(&mut world.txn, at, &value, 0).unwrap();
    // While it is being built the reaper leaves it alone.
    world.settle();
    assert!(!world.records(data).is_empty());
    world.kill(1);
    assert!(!world.records(data).is_empty());
    world.settle();
    assert!(world.records(data).is_empty());
    world.check(true);
    // And at last for good.
    world.run(0, |txn| strings::set_blindly(txn, txn.at(b"key")?, &value, 0)).unwrap();
    assert!(world.get(0, b"key") == Some(value.clone()));
    world.model[0].insert(b"key".to_vec(), (value, 0));
    world.check(true);
}

#[test]
fn a_blind_set_reads_no_disk_and_is_counted_in_the_end() {
    let mut world = World::new();
    let key = |n: u32| format!("key:{n:06}").into_bytes();
    for n in 0..2000 {
        world.run(0, |txn| strings::set_blindly(txn, txn.at(&key(n))?, b"value", 0)).unwrap();
    }
    world.settle();
    world.env.set_cold(true);
    let reads = world.store.db().metrics().table_bytes_read;
    let draws = Draws { now_ms: START_MS, seed: 1 };
    for n in 1000..3000 {
        world.txn.begin(0, Mode::Inline, draws, ReadPoint::Latest);
        let key = key(n);
        let at = world.txn.at(&key).unwrap();
        strings::set_blindly(&mut world.txn, at, b"other", 0).unwrap();
        world.txn.commit().unwrap();
    }
    assert_eq!(world.store.db().metrics().table_bytes_read, reads);
    let size = world.store.dbsize(0);
    assert!(size <= 3000, "{size}");
    world.env.set_cold(false);
    world.kill(1);
    world.store.finish_counting().unwrap();
    assert_eq!(world.store.dbsize(0), 3000);
    assert!(world.store.db().contains(world.store.keyspaces().meta, b"", &ReadOptions::default()).is_ok());
}

#[test]
fn expired_keys_leave_the_count_when_they_are_met() {
    let mut world = World::new();
    for n in 0..10u8 {
        let expire_ms = START_MS + 100;
        world.run(0, |txn| strings::set_blindly(txn, txn.at(&[n])?, b"value", expire_ms)).unwrap();
    }
    assert_eq!((world.store.dbsize(0), world.store.expires(0), world.store.average_ttl_ms(0)), (10, 10, 0));
    world.now_ms += 200;
    world.clock.set_unix_ms(world.now_ms);
    assert_eq!(world.store.dbsize(0), 10);
    assert_eq!(world.get(0, &[3]), None);
    assert_eq!(world.store.dbsize(0), 9);
    world.store.set_active_expire(false);
    world.settle();
    assert_eq!((world.store.dbsize(0), world.store.expired_keys()), (9, 1));
    world.store.set_active_expire(true);
    world.settle();
    assert_eq!((world.store.dbsize(0), world.store.expires(0), world.store.expired_keys()), (0, 0, 10));
    assert!(world.records(world.store.keyspaces().ttl).is_empty());
}
