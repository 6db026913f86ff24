//! Hashes and sets against maps: random commands with the border between packed and large at 0, at 1, low and where it is,
//! with expiry of keys and fields, copies, renames and restarts. Checked: every answer, every value, that counts say what is
//! stored, that the index of fields by expiry has what it should, that the sweeper leaves nothing that has expired, and that no id is left
//! without a holder.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::encoding::data::{self, FIELD, FIELD_TTL, MEMBER};
use haypile::encoding::large::Large;
use haypile::encoding::meta::{Kind, Record, split_key};
use haypile::encoding::{hash, set, system, ttl};
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{PackedLimits, Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::elements::{Page, Wanted};
use haypile::types::hash_value::{self, FieldExpiry};
use haypile::types::hashes::{self, FieldCondition, SetCondition, Stretch};
use haypile::types::keys::{self, ExpireConditions};
use haypile::types::set_algebra::Operation;
use haypile::types::{set_value, sets};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{CrashPolicy, Db, IterOptions, KeyspaceId, MemEnv, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const START_MS: u64 = 1_700_000_000_000;

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

fn open(env: &Arc<MemEnv>, clock: Clock, packed: PackedLimits) -> Arc<Store> {
    let mut options =
        Options { memtable_bytes: 32 << 10, memtable_total_bytes: 256 << 10, ..Options::tiny() };
    MetaHooks::install(&mut options, clock);
    let db = Db::open(env.clone(), Path::new("/db"), options).unwrap();
    let options = StoreOptions { databases: 2, gate_slots: 2, clock, packed, ..StoreOptions::default() };
    Store::open(Arc::new(db), options).unwrap()
}

/// Value and expiry of each field.
type Fields = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Hash(Fields),
    Set(BTreeSet<Vec<u8>>),
}

struct World {
    env: Arc<MemEnv>,
    clock: Clock,
    packed: PackedLimits,
    store: Arc<Store>,
    txn: Txn,
    model: BTreeMap<Vec<u8>, (Value, u64)>,
    now_ms: u64,
    seed: u64,
}

/// Runs a command the way a server does: on a worker if that works, else on a pool.
macro_rules! run {
    ($world:expr, |$txn:ident| $command:expr) => {{
        let mut answer = None;
        for mode in [Mode::Inline, Mode::Pool] {
            $world.seed = $world.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let draws = Draws { now_ms: $world.now_ms, seed: $world.seed };
            $world.txn.begin(0, mode, draws, ReadPoint::Latest);
            let command = |$txn: &mut Txn| $command;
            let outcome = command(&mut $world.txn);
            match outcome {
                Err(Stop::NeedsIo | Stop::Budget) if mode == Mode::Inline => $world.txn.abandon(),
                Err(stop) => {
                    $world.txn.abandon();
                    answer = Some(Err(stop));
                    break;
                }
                Ok(value) => {
                    $world.txn.commit().unwrap();
                    answer = Some(Ok(value));
                    break;
                }
            }
        }
        answer.unwrap()
    }};
}

/// Whether both failed for the type, or both did not.
fn same_outcome<T: std::fmt::Debug + PartialEq>(ours: Result<T, Stop>, expected: Option<T>) {
    match (ours, expected) {
        (Ok(ours), Some(expected)) => assert_eq!(ours, expected),
        (Err(Stop::Reply(error)), None) => assert_eq!(error.code(), "WRONGTYPE"),
        (ours, expected) => panic!("{ours:?} instead of {expected:?}"),
    }
}

impl World {
    fn new(packed: PackedLimits, seed: u64) -> World {
        let (env, clock) = (MemEnv::new(), Clock::manual(START_MS));
        let store = open(&env, clock, packed);
        let txn = Txn::new(store.clone());
        World { env, clock, packed, store, txn, model: BTreeMap::new(), now_ms: START_MS, seed }
    }

    fn reopen(&mut self) {
        self.store.db().flush_wal(self.store.db().visible_lsn()).unwrap();
        let env = self.env.crash_clone(CrashPolicy::ProcessKill, self.seed);
        self.env = env;
        self.store = open(&self.env, self.clock, self.packed);
        self.txn = Txn::new(self.store.clone());
    }

    fn settle(&mut self) {
        self.store.db().wait_idle().unwrap();
        while self.store.background_turn().unwrap() {}
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.clock.set_unix_ms(self.now_ms);
    }

    /// What has expired goes from the model; a hash stays until it is swept, unless `swept`.
    fn drop_expired(&mut self, swept: bool) {
        let now_ms = self.now_ms;
        self.model.retain(|_, (value, expire_ms)| {
            if let Value::Hash(fields) = value {
                fields.retain(|_, (_, expire_ms)| *expire_ms == 0 || *expire_ms > now_ms);
            }
            let empty = match value {
                Value::Hash(fields) => fields.is_empty(),
                Value::Set(members) => members.is_empty(),
            };
            (*expire_ms == 0 || *expire_ms > now_ms) && !(empty && swept)
        });
    }

    /// The hash under a key, an empty one if there is none; `None` if something else is there.
    fn hash(&self, key: &[u8]) -> Option<Fields> {
        match self.model.get(key) {
            None => Some(Fields::new()),
            Some((Value::Hash(fields), _)) => Some(fields.clone()),
            Some(_) => None,
        }
    }

    fn set(&self, key: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
        match self.model.get(key) {
            None => Some(BTreeSet::new()),
            Some((Value::Set(members), _)) => Some(members.clone()),
            Some(_) => None,
        }
    }

    fn put_hash(&mut self, key: &[u8], fields: Fields) {
        let expire_ms = self.model.get(key).map_or(0, |(_, expire_ms)| *expire_ms);
        if fields.is_empty() {
            self.model.remove(key);
        } else {
            self.model.insert(key.to_vec(), (Value::Hash(fields), expire_ms));
        }
    }

    fn put_set(&mut self, key: &[u8], members: BTreeSet<Vec<u8>>) {
        let expire_ms = self.model.get(key).map_or(0, |(_, expire_ms)| *expire_ms);
        if members.is_empty() {
            self.model.remove(key);
        } else {
            self.model.insert(key.to_vec(), (Value::Set(members), expire_ms));
        }
    }

    fn read_hash(&mut self, key: &[u8]) -> Result<Fields, Stop> {
        let fields = run!(self, |txn| {
            let (at, mut fields) = (txn.at(key)?, Vec::new());
            hashes::all(txn, at, |part| {
                if let hashes::Part::Field(name, value) = part {
                    fields.push((name.to_vec(), value.to_vec()));
                }
            })?;
            let (mut expiries, names) = (Vec::new(), fields.iter().map(|(name, _)| &name[..]));
            hashes::expiries(txn, at, names, |expiry| expiries.push(expiry.unwrap()))?;
            Ok(fields
                .into_iter()
                .zip(expiries)
                .map(|((name, value), ms)| (name, (value, ms)))
                .collect::<Vec<_>>())
        })?;
        let count = fields.len();
        let fields: Fields = fields.into_iter().collect();
        assert_eq!(fields.len(), count, "a field twice");
        Ok(fields)
    }

    fn read_set(&mut self, key: &[u8]) -> Result<BTreeSet<Vec<u8>>, Stop> {
        run!(self, |txn| {
            let (at, mut members, mut count) = (txn.at(key)?, BTreeSet::new(), 0);
            sets::all(txn, at, |part| match part {
                sets::Part::Count(of) => count = of,
                sets::Part::Member(member) => assert!(members.insert(member.to_vec())),
            })?;
            assert_eq!(members.len() as u64, count);
            Ok(members)
        })
    }

    fn turn(&mut self, rng: &mut Rng) {
        self.drop_expired(false);
        match rng.below(100) {
            0..40 => self.hash_turn(rng),
            40..56 => self.field_expiry_turn(rng),
            56..86 => self.set_turn(rng),
            86..92 => self.key_turn(rng),
            92..97 => {
                let ms = rng.below(800);
                self.pass(ms);
            }
            97 => self.reopen(),
            _ => {
                self.store.db().wait_idle().unwrap();
                self.store.background_turn().unwrap();
                // What the sweeper may have removed the model has to forget: everything due is swept before comparing.
                self.settle();
                self.drop_expired(true);
            }
        }
    }

    fn hash_turn(&mut self, rng: &mut Rng) {
        let key = random_key(rng);
        let model = self.hash(&key);
        match rng.below(14) {
            0..5 => {
                let pairs: Vec<_> = (0..few(rng)).map(|_| (random_name(rng), random_value(rng))).collect();
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    hashes::set(txn, at, pairs.iter().map(|(name, value)| (&name[..], &value[..])))
                });
                let expected = model.map(|mut fields| {
                    let mut added = 0;
                    for (name, value) in &pairs {
                        added += u64::from(fields.insert(name.clone(), (value.clone(), 0)).is_none());
                    }
                    self.put_hash(&key, fields);
                    added
                });
                same_outcome(ours, expected);
            }
            5..8 => {
                let names: Vec<_> = (0..few(rng)).map(|_| random_name(rng)).collect();
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    hashes::delete(txn, at, names.iter().map(|name| &name[..]))
                });
                let expected = model.map(|mut fields| {
                    let removed = names.iter().filter(|name| fields.remove(*name).is_some()).count() as u64;
                    if removed > 0 {
                        self.put_hash(&key, fields);
                    }
                    removed
                });
                same_outcome(ours, expected);
            }
            8 => {
                let (name, by) = (random_name(rng), rng.below(100) as i64 - 50);
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    hashes::increment(txn, at, &name, by)
                });
                let Some(mut fields) = model else { return same_outcome(ours, None) };
                let (old, expire_ms) = fields.get(&name).cloned().unwrap_or((b"0".to_vec(), 0));
                match std::str::from_utf8(&old).ok().and_then(|text| text.parse::<i64>().ok()) {
                    Some(old) => {
                        assert_eq!(ours.unwrap(), old + by);
                        fields.insert(name, ((old + by).to_string().into_bytes(), expire_ms));
                        self.put_hash(&key, fields);
                    }
                    None => assert!(matches!(ours, Err(Stop::Reply(_)))),
                }
            }
            9 => {
                let (name, value) = (random_name(rng), random_value(rng));
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    hashes::set_if_absent(txn, at, &name, &value)
                });
                let expected = model.map(|mut fields| {
                    let absent = !fields.contains_key(&name);
                    if absent {
                        fields.insert(name, (value, 0));
                        self.put_hash(&key, fields);
                    }
                    absent
                });
                same_outcome(ours, expected);
            }
            10 => {
                let name = random_name(rng);
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    let value =
                        hash_value::get(txn, at, &name, |found| found.map(|(value, _)| value.to_vec()))?;
                    Ok((value, hash_value::length(txn, at)?))
                });
                let live = model.as_ref().map(|fields| fields.len() as u64);
                // Expired ones count until they are removed.
                let ours = ours.map(|(value, length)| (value, live.is_none_or(|live| live <= length)));
                let expected = model.map(|fields| (fields.get(&name).map(|(value, _)| value.clone()), true));
                same_outcome(ours, expected);
            }
            11 => {
                let pattern = [&b"*"[..], b"f*", b"f1*", b"*5", b"g*", b"f12"][rng.below(6) as usize];
                let (count, mut cursor, mut found) = (1 + rng.below(20), 0, BTreeMap::new());
                let Some(model) = model else { return };
                loop {
                    let page = Page { cursor, count, pattern: Some(pattern) };
                    let (next, fields) = run!(self, |txn| {
                        let (at, mut fields) = (txn.at(&key)?, Vec::new());
                        let next = hashes::scan(txn, at, page, |name, value| {
                            fields.push((name.to_vec(), value.to_vec()));
                        })?;
                        Ok((next, fields))
                    })
                    .unwrap();
                    found.extend(fields);
                    cursor = next;
                    if cursor == 0 {
                        break;
                    }
                }
                let page = Page { cursor: 0, count, pattern: Some(pattern) };
                let expected = model.iter().filter(|(name, _)| page.names(name));
                let expected = expected.map(|(name, (value, _))| (name.clone(), value.clone()));
                assert!(found == expected.collect::<BTreeMap<_, _>>());
            }
            12 => {
                let Some(model) = model else { return };
                let wanted = Wanted { count: rng.below(40), distinct: rng.one_in(2) };
                let (count, fields) = run!(self, |txn| {
                    let (at, mut count, mut fields) = (txn.at(&key)?, 0, Vec::new());
                    hashes::random(txn, at, wanted, |part| match part {
                        hashes::Part::Count(of) => count = of,
                        hashes::Part::Field(name, value) => fields.push((name.to_vec(), value.to_vec())),
                    })?;
                    Ok((count, fields))
                })
                .unwrap();
                assert_eq!((count, fields.len() as u64), (wanted.of(model.len() as u64), count));
                let different: BTreeSet<_> = fields.iter().map(|(name, _)| name).collect();
                assert!(!wanted.distinct || different.len() == fields.len());
                assert!(fields.iter().all(|(name, value)| model[name].0 == *value));
            }
            _ => {
                let Some(model) = model else { return };
                let (a, b) = (random_name(rng), random_name(rng));
                let (limit, reverse) = (1 + rng.below(30), rng.one_in(2));
                let (from, to) = match rng.below(4) {
                    0 => (Vec::new(), b),
                    1 => (a, Vec::new()),
                    2 => (a.clone().min(b.clone()), a.max(b)),
                    _ => (Vec::new(), Vec::new()),
                };
                let (first, last) = if reverse { (&to, &from) } else { (&from, &to) };
                let stretch = Stretch { from: first, to: last, reverse, pattern: None, limit };
                let (next, names) = run!(self, |txn| {
                    let (at, mut names) = (txn.at(&key)?, Vec::new());
                    let next = hashes::scan_range(txn, at, stretch, |name, _| names.push(name.to_vec()))?;
                    Ok((next, names))
                })
                .unwrap();
                let within = |name: &Vec<u8>| *name >= from && (to.is_empty() || *name <= to);
                let mut expected: Vec<_> = model.keys().filter(|name| within(name)).cloned().collect();
                if reverse {
                    expected.reverse();
                }
                let later = expected.split_off(expected.len().min(limit as usize));
                assert_eq!((names, next), (expected, later.first().cloned().unwrap_or_default()));
            }
        }
    }

    fn field_expiry_turn(&mut self, rng: &mut Rng) {
        let key = random_key(rng);
        let model = self.hash(&key);
        let names: Vec<_> = (0..few(rng)).map(|_| random_name(rng)).collect();
        let borrowed = || names.iter().map(|name| &name[..]);
        let expire_ms = self.now_ms + rng.below(3000) - 100;
        let passed = expire_ms <= self.now_ms;
        match rng.below(8) {
            0..4 => {
                let condition = [
                    FieldCondition::Always,
                    FieldCondition::Always,
                    FieldCondition::IfNone,
                    FieldCondition::IfSome,
                    FieldCondition::IfLater,
                    FieldCondition::IfEarlier,
                ][rng.below(6) as usize];
                let ours = run!(self, |txn| {
                    let (at, mut codes) = (txn.at(&key)?, Vec::new());
                    hashes::expire(txn, at, expire_ms, condition, borrowed(), |code| codes.push(code))?;
                    Ok(codes)
                });
                let expected = model.map(|mut fields| {
                    let mut codes = Vec::new();
                    for name in &names {
                        let Some((_, old_ms)) = fields.get_mut(name) else {
                            codes.push(-2);
                            continue;
                        };
                        let holds = match condition {
                            FieldCondition::Always => true,
                            FieldCondition::IfNone => *old_ms == 0,
                            FieldCondition::IfSome => *old_ms != 0,
                            FieldCondition::IfLater => *old_ms != 0 && expire_ms > *old_ms,
                            FieldCondition::IfEarlier => *old_ms == 0 || expire_ms < *old_ms,
                        };
                        if !holds {
                            codes.push(0);
                        } else if passed {
                            fields.remove(name);
                            codes.push(2);
                        } else {
                            *old_ms = expire_ms;
                            codes.push(1);
                        }
                    }
                    if codes.iter().any(|code| *code > 0) {
                        self.put_hash(&key, fields);
                    }
                    codes
                });
                same_outcome(ours, expected);
            }
            4 => {
                let ours = run!(self, |txn| {
                    let (at, mut codes) = (txn.at(&key)?, Vec::new());
                    hashes::persist(txn, at, borrowed(), |code| codes.push(code))?;
                    Ok(codes)
                });
                let expected = model.map(|mut fields| {
                    let mut codes = Vec::new();
                    for name in &names {
                        codes.push(match fields.get_mut(name) {
                            None => -2,
                            Some((_, 0)) => -1,
                            Some((_, expire_ms)) => {
                                *expire_ms = 0;
                                1
                            }
                        });
                    }
                    if codes.contains(&1) {
                        self.put_hash(&key, fields);
                    }
                    codes
                });
                same_outcome(ours, expected);
            }
            5 => {
                let ours = run!(self, |txn| {
                    let (at, mut values) = (txn.at(&key)?, Vec::new());
                    hashes::take(txn, at, borrowed(), |value| values.push(value.map(<[u8]>::to_vec)))?;
                    Ok(values)
                });
                let expected = model.map(|mut fields| {
                    let values: Vec<_> =
                        names.iter().map(|name| fields.remove(name).map(|(value, _)| value)).collect();
                    if values.iter().any(Option::is_some) {
                        self.put_hash(&key, fields);
                    }
                    values
                });
                same_outcome(ours, expected);
            }
            6 => {
                let new_ms = [None, Some(0), Some(expire_ms)][rng.below(3) as usize];
                let ours = run!(self, |txn| {
                    let (at, mut values) = (txn.at(&key)?, Vec::new());
                    hashes::get_and_expire(txn, at, new_ms, borrowed(), |value| {
                        values.push(value.map(<[u8]>::to_vec));
                    })?;
                    Ok(values)
                });
                let expected = model.map(|mut fields| {
                    let mut values = Vec::new();
                    for name in &names {
                        values.push(fields.get(name).map(|(value, _)| value.clone()));
                        match (new_ms, fields.get_mut(name)) {
                            (Some(ms), Some(_)) if ms != 0 && passed => drop(fields.remove(name)),
                            (Some(ms), Some((_, expire_ms))) => *expire_ms = ms,
                            _ => {}
                        }
                    }
                    if values.iter().any(Option::is_some) {
                        self.put_hash(&key, fields);
                    }
                    values
                });
                same_outcome(ours, expected);
            }
            _ => {
                let condition =
                    [SetCondition::Always, SetCondition::IfNone, SetCondition::IfAll][rng.below(3) as usize];
                let expiry =
                    [FieldExpiry::None, FieldExpiry::Keep, FieldExpiry::At(expire_ms)][rng.below(3) as usize];
                let value = random_value(rng);
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    let pairs = names.iter().map(|name| (&name[..], &value[..]));
                    hashes::set_and_expire(txn, at, condition, expiry, pairs).map(|done| done.is_some())
                });
                let expected = model.map(|mut fields| {
                    let holds = match condition {
                        SetCondition::Always => true,
                        SetCondition::IfNone => names.iter().all(|name| !fields.contains_key(name)),
                        SetCondition::IfAll => names.iter().all(|name| fields.contains_key(name)),
                    };
                    let mut changed = false;
                    for name in names.iter().filter(|_| holds) {
                        let old_ms = fields.get(name).map_or(0, |(_, expire_ms)| *expire_ms);
                        let new_ms = match expiry {
                            FieldExpiry::None => 0,
                            FieldExpiry::Keep => old_ms,
                            FieldExpiry::At(_) if passed => {
                                changed |= fields.remove(name).is_some();
                                continue;
                            }
                            FieldExpiry::At(expire_ms) => expire_ms,
                        };
                        fields.insert(name.clone(), (value.clone(), new_ms));
                        changed = true;
                    }
                    if changed {
                        self.put_hash(&key, fields);
                    }
                    holds
                });
                same_outcome(ours, expected);
            }
        }
    }

    fn set_turn(&mut self, rng: &mut Rng) {
        let key = random_key(rng);
        let model = self.set(&key);
        match rng.below(12) {
            0..4 => {
                let members: Vec<_> = (0..few(rng)).map(|_| random_name(rng)).collect();
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    sets::add(txn, at, members.iter().map(|member| &member[..]))
                });
                let expected = model.map(|mut set| {
                    let added = members.iter().filter(|member| set.insert((*member).clone())).count();
                    self.put_set(&key, set);
                    added as u64
                });
                same_outcome(ours, expected);
            }
            4..7 => {
                let members: Vec<_> = (0..few(rng)).map(|_| random_name(rng)).collect();
                let ours = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    sets::remove(txn, at, members.iter().map(|member| &member[..]))
                });
                let expected = model.map(|mut set| {
                    let removed = members.iter().filter(|member| set.remove(*member)).count();
                    self.put_set(&key, set);
                    removed as u64
                });
                same_outcome(ours, expected);
            }
            7 => {
                let Some(mut set) = model else { return };
                let count = [0, 1, 1, 3, 30, 500][rng.below(6) as usize];
                let popped = run!(self, |txn| {
                    let (at, mut popped, mut count_said) = (txn.at(&key)?, Vec::new(), 0);
                    sets::pop(txn, at, count, |part| match part {
                        sets::Part::Count(of) => count_said = of,
                        sets::Part::Member(member) => popped.push(member.to_vec()),
                    })?;
                    assert_eq!(count_said, popped.len() as u64);
                    Ok(popped)
                })
                .unwrap();
                assert_eq!(popped.len(), set.len().min(count as usize));
                assert!(popped.iter().all(|member| set.remove(member)));
                self.put_set(&key, set);
            }
            8 => {
                let Some(set) = model else { return };
                let wanted = Wanted { count: rng.below(40), distinct: rng.one_in(2) };
                let chosen = run!(self, |txn| {
                    let (at, mut chosen) = (txn.at(&key)?, Vec::new());
                    sets::random(txn, at, wanted, |part| {
                        if let sets::Part::Member(member) = part {
                            chosen.push(member.to_vec());
                        }
                    })?;
                    Ok(chosen)
                })
                .unwrap();
                assert_eq!(chosen.len() as u64, wanted.of(set.len() as u64));
                assert!(chosen.iter().all(|member| set.contains(member)));
                let different: BTreeSet<_> = chosen.iter().collect();
                assert!(!wanted.distinct || different.len() == chosen.len());
            }
            9 => {
                let (other, member) = (random_key(rng), random_name(rng));
                let target = self.set(&other);
                let ours = run!(self, |txn| {
                    let (from, to) = (txn.at(&key)?, txn.at(&other)?);
                    sets::move_member(txn, from, to, &member)
                });
                if !self.model.contains_key(&key) {
                    return same_outcome(ours, Some(false));
                }
                let (Some(mut from), Some(_)) = (model, target) else { return same_outcome(ours, None) };
                let moved = from.contains(&member);
                if key != other && moved {
                    from.remove(&member);
                    self.put_set(&key, from);
                    let mut to = self.set(&other).unwrap();
                    to.insert(member);
                    self.put_set(&other, to);
                }
                same_outcome(ours, Some(moved));
            }
            10 => {
                let Some(set) = model else { return };
                let (count, mut cursor, mut found) = (1 + rng.below(20), 0, BTreeSet::new());
                loop {
                    let page = Page { cursor, count, pattern: None };
                    let (next, members) = run!(self, |txn| {
                        let (at, mut members) = (txn.at(&key)?, Vec::new());
                        let next = sets::scan(txn, at, page, |member| members.push(member.to_vec()))?;
                        Ok((next, members))
                    })
                    .unwrap();
                    found.extend(members);
                    cursor = next;
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!(found, set);
                let member = random_name(rng);
                let there = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    Ok((set_value::contains(txn, at, &member)?, set_value::length(txn, at)?))
                });
                assert_eq!(there.unwrap(), (set.contains(&member), set.len() as u64));
            }
            _ => self.algebra_turn(rng, &key),
        }
    }

    fn algebra_turn(&mut self, rng: &mut Rng, to: &[u8]) {
        let sources: Vec<_> = (0..1 + rng.below(4)).map(|_| random_key(rng)).collect();
        let operation =
            [Operation::Intersection, Operation::Union, Operation::Difference][rng.below(3) as usize];
        let operands: Option<Vec<_>> = sources.iter().map(|key| self.set(key)).collect();
        let expected = operands.map(|operands| {
            let mut operands = operands.into_iter();
            let first = operands.next().unwrap();
            operands.fold(first, |all, one| match operation {
                Operation::Intersection => all.intersection(&one).cloned().collect(),
                Operation::Union => all.union(&one).cloned().collect(),
                Operation::Difference => all.difference(&one).cloned().collect(),
            })
        });
        let borrowed = || sources.iter().map(|key| &key[..]);
        let read = run!(self, |txn| {
            let mut members = Vec::new();
            sets::combine(txn, operation, borrowed(), |member| members.push(member.to_vec()))?;
            let count = members.len();
            let members: BTreeSet<_> = members.into_iter().collect();
            assert_eq!(members.len(), count);
            Ok(members)
        });
        same_outcome(read, expected.clone());
        if operation == Operation::Intersection {
            let limit = rng.below(5);
            let counted = run!(self, |txn| sets::count_intersection(txn, borrowed(), limit));
            let most = if limit == 0 { u64::MAX } else { limit };
            same_outcome(counted, expected.as_ref().map(|members| most.min(members.len() as u64)));
        }
        let stored = run!(self, |txn| {
            let at = txn.at(to)?;
            sets::store(txn, at, operation, borrowed())
        });
        same_outcome(stored, expected.as_ref().map(|members| members.len() as u64));
        if let Some(members) = expected {
            self.model.remove(to);
            self.put_set(to, members);
        }
    }

    fn key_turn(&mut self, rng: &mut Rng) {
        let (key, other) = (random_key(rng), random_key(rng));
        match rng.below(5) {
            0 => {
                let there = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    keys::delete(txn, at)
                });
                // A hash of expired fields is there until it is swept.
                assert_eq!(there.unwrap(), self.model.remove(&key).is_some());
            }
            1 | 2 => {
                let expire_ms = self.now_ms as i64 + rng.below(2500) as i64;
                let done = run!(self, |txn| {
                    let at = txn.at(&key)?;
                    keys::expire(txn, at, expire_ms, ExpireConditions::default())
                });
                assert_eq!(done.unwrap(), self.model.contains_key(&key));
                if let Some((_, own_ms)) = self.model.get_mut(&key) {
                    *own_ms = expire_ms as u64;
                }
                self.drop_expired(false);
            }
            3 => {
                if self.model.contains_key(&key) && key != other {
                    run!(self, |txn| {
                        let (from, to) = (txn.at(&key)?, txn.at(&other)?);
                        keys::rename(txn, from, to, false)
                    })
                    .unwrap();
                    let value = self.model.remove(&key).unwrap();
                    self.model.insert(other, value);
                }
            }
            _ => {
                if self.model.contains_key(&key) && key != other {
                    run!(self, |txn| {
                        let (from, to) = (txn.at(&key)?, txn.at(&other)?);
                        keys::copy(txn, from, to, true)
                    })
                    .unwrap();
                    let value = self.model[&key].clone();
                    self.model.insert(other, value);
                }
            }
        }
    }

    /// Compares everything, once what has expired is swept.
    fn check(&mut self) {
        self.settle();
        self.drop_expired(true);
        for (key, (value, _)) in self.model.clone() {
            match value {
                Value::Hash(fields) => assert_eq!(self.read_hash(&key).unwrap(), fields, "{key:?}"),
                Value::Set(members) => assert_eq!(self.read_set(&key).unwrap(), members, "{key:?}"),
            }
        }
        assert_eq!(self.store.dbsize(0), self.model.len() as u64);
        let expiring = self.model.values().filter(|(_, expire_ms)| *expire_ms != 0).count();
        assert_eq!(self.store.expires(0), expiring as u64);
        self.check_records();
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

    /// What is stored is what records say, and nothing else.
    fn check_records(&self) {
        let keyspaces = self.store.keyspaces();
        let (mut held, mut due) = (BTreeMap::new(), BTreeSet::new());
        for (key, value) in self.records(keyspaces.meta) {
            let ((space, user_key), record) = (split_key(&key).unwrap(), Record::decode(&value).unwrap());
            assert!(!record.head.is_expired(self.now_ms) && !record.head.has_due_fields(self.now_ms));
            if record.head.due().at_ms != 0 {
                due.insert((record.head.due().at_ms, space, user_key.to_vec()));
            }
            let expected = match &self.model[user_key].0 {
                Value::Hash(fields) => {
                    assert_eq!(record.head.kind, Kind::Hash);
                    let earliest = fields.values().map(|(_, ms)| *ms).filter(|ms| *ms != 0).min();
                    // The bound may be early, never late.
                    assert!(earliest.is_none_or(|ms| (1..=ms).contains(&record.head.field_expire_ms)));
                    fields.len()
                }
                Value::Set(members) => members.len(),
            };
            if record.head.id != 0 {
                assert_eq!(Large::decode(record.body).unwrap().count, expected as u64);
                held.insert((space, record.head.id), (user_key.to_vec(), record.head.kind));
            }
        }
        let entries: BTreeSet<_> = self
            .records(keyspaces.ttl)
            .iter()
            .map(|(key, _)| ttl::split_key(key).map(|(ms, space, key)| (ms, space, key.to_vec())).unwrap())
            .collect();
        assert_eq!(entries, due, "entries of ttl");
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        let (mut index, mut expiring) = (BTreeSet::new(), BTreeSet::new());
        for (key, value) in self.records(keyspaces.data) {
            let (space, id, kind, _) = data::split_element(&key).unwrap();
            let (owner, _) = held.get(&(space, id)).expect("an id without a holder");
            if data::is_owner(&key) {
                assert_eq!(*owner, value);
                continue;
            }
            match kind {
                FIELD => {
                    let (expire_ms, _) = hash::split_value(&value).unwrap();
                    if expire_ms != 0 {
                        expiring.insert((id, expire_ms, hash::name_of(&key).to_vec()));
                    }
                }
                FIELD_TTL => {
                    let (expire_ms, name) = hash::split_ttl_key(&key).unwrap();
                    index.insert((id, expire_ms, name.to_vec()));
                    continue;
                }
                MEMBER => {
                    let mut again = Vec::new();
                    set::put_key(&mut again, space, id, set::member_of(&key).unwrap());
                    assert_eq!(again, key);
                }
                kind => panic!("a record of kind {kind}"),
            }
            *counts.entry((space, id)).or_default() += 1;
        }
        assert_eq!(index, expiring, "index of fields by expiry");
        for (key, (owner, _)) in &held {
            let expected = match &self.model[owner].0 {
                Value::Hash(fields) => fields.len(),
                Value::Set(members) => members.len(),
            };
            assert_eq!(counts.get(key).copied().unwrap_or(0), expected as u64);
        }
        let hints = self.records(keyspaces.system);
        assert!(hints.iter().all(|(key, _)| system::split_gc_key(key).is_none()), "gc records are left");
    }
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    format!("key:{}", rng.below(8)).into_bytes()
}

/// Some elements: mostly few, at times enough to cross every border.
fn few(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => 200,
        1..4 => 20,
        _ => 1 + rng.below(4),
    }
}

fn random_name(rng: &mut Rng) -> Vec<u8> {
    match rng.below(40) {
        0 => Vec::new(),
        1 => vec![b'n'; 80],
        _ if rng.one_in(2) => format!("f{}", rng.below(300)).into_bytes(),
        _ => format!("f{}", rng.below(12)).into_bytes(),
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(12) {
        0 => vec![b'v'; 300],
        1 => vec![b'w'; rng.below(3000) as usize],
        2 => Vec::new(),
        3..8 => rng.below(1000).to_string().into_bytes(),
        _ => b"some text".to_vec(),
    }
}

fn agree(packed: PackedLimits) {
    for seed in seeds(6) {
        let mut rng = Rng::new(seed);
        let mut world = World::new(packed, seed);
        for turn in 0..400 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                world.turn(&mut rng);
                if turn % 100 == 99 {
                    world.check();
                }
            }));
            assert!(outcome.is_ok(), "seed {seed}, turn {turn}, {packed:?}");
        }
    }
}

#[test]
fn everything_large() {
    agree(PackedLimits { elements_max: 0, bytes_max: 0 });
}

#[test]
fn one_element_packed() {
    agree(PackedLimits { elements_max: 1, bytes_max: 1024 });
}

#[test]
fn few_elements_packed() {
    agree(PackedLimits { elements_max: 16, bytes_max: 200 });
}

#[test]
fn as_it_comes() {
    agree(PackedLimits::default());
}

fn picks(count: u64, name: impl Fn(u64) -> Vec<u8>, draws: u64, of_hash: bool) -> BTreeMap<Vec<u8>, u64> {
    let mut world = World::new(PackedLimits::default(), 9);
    let names: Vec<_> = (0..count).map(name).collect();
    run!(world, |txn| {
        let at = txn.at(b"key")?;
        match of_hash {
            true => hashes::set(txn, at, names.iter().map(|name| (&name[..], &b"v"[..]))),
            false => sets::add(txn, at, names.iter().map(|name| &name[..])),
        }
    })
    .unwrap();
    let mut seen: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for _ in 0..draws {
        let name = run!(world, |txn| {
            let (at, mut found) = (txn.at(b"key")?, Vec::new());
            let wanted = Wanted { count: 1, distinct: true };
            match of_hash {
                true => hashes::random(txn, at, wanted, |part| {
                    if let hashes::Part::Field(name, _) = part {
                        found = name.to_vec();
                    }
                })?,
                false => sets::random(txn, at, wanted, |part| {
                    if let sets::Part::Member(member) = part {
                        found = member.to_vec();
                    }
                })?,
            }
            Ok(found)
        })
        .unwrap();
        *seen.entry(name).or_default() += 1;
    }
    seen
}

/// Names without leading zeros are the hardest: short ones sit high up in the tree.
#[test]
fn random_fields_of_a_large_hash_are_spread_out() {
    let seen = picks(5000, |number| format!("field{number}").into_bytes(), 4000, true);
    let most = seen.values().max().unwrap();
    assert!(*most <= 20, "{most} times the same of 4000 picks among 5000");
    assert!(seen.len() > 1900, "{} different ones", seen.len());
    let short = seen.iter().filter(|(name, _)| name.len() <= 7).map(|(_, times)| times).sum::<u64>();
    // 100 of 5000 have such short names: 80 picks would be fair.
    assert!(short < 400, "{short} short names");
}

#[test]
fn random_fields_with_hexadecimal_names_are_spread_out() {
    let name = |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes();
    let seen = picks(5000, name, 4000, true);
    let most = seen.values().max().unwrap();
    assert!(*most <= 12, "{most} times the same of 4000 picks among 5000");
    // 2750 of 4000 fair picks would be different.
    assert!(seen.len() > 2400, "{} different ones", seen.len());
}

#[test]
fn random_members_of_a_large_set_are_spread_out() {
    let seen = picks(5000, |number| number.to_string().into_bytes(), 10_000, false);
    let most = seen.values().max().unwrap();
    assert!(*most <= 14, "{most} times the same of 10000 picks among 5000");
    assert!(seen.len() > 4100, "{} different ones", seen.len());
}

/// A result above a mebibyte is built aside, and is there as a whole.
#[test]
fn large_results_are_built_aside() {
    let mut world = World::new(PackedLimits::default(), 3);
    let names: Vec<_> = (0..40_000u64).map(|number| format!("member:{number:08}").into_bytes()).collect();
    for (key, half) in [(&b"a"[..], &names[..25_000]), (b"b", &names[15_000..])] {
        run!(world, |txn| {
            let at = txn.at(key)?;
            sets::add(txn, at, half.iter().map(|name| &name[..]))
        })
        .unwrap();
    }
    for (operation, expected) in
        [(Operation::Union, 40_000), (Operation::Intersection, 10_000), (Operation::Difference, 15_000)]
    {
        let stored = run!(world, |txn| {
            let at = txn.at(b"to")?;
            sets::store(txn, at, operation, [&b"a"[..], b"b"].into_iter())
        });
        assert_eq!(stored.unwrap(), expected);
        assert_eq!(world.read_set(b"to").unwrap().len() as u64, expected);
    }
    run!(world, |txn| {
        let at = txn.at(b"to")?;
        keys::delete(txn, at)
    })
    .unwrap();
    for key in [b"a", b"b"] {
        let members = world.read_set(key).unwrap();
        world.put_set(key, members);
    }
    world.check();
}

/// Many fields that expire at once go in slices, and the hash with the last of them.
#[test]
fn a_large_hash_is_swept_in_slices() {
    let mut world = World::new(PackedLimits::default(), 3);
    let names: Vec<_> = (0..5000u64).map(|number| format!("field:{number:08}").into_bytes()).collect();
    let expire_ms = START_MS + 1000;
    run!(world, |txn| {
        let at = txn.at(b"hash")?;
        hashes::set(txn, at, names.iter().map(|name| (&name[..], &b"value"[..])))?;
        Ok(())
    })
    .unwrap();
    for half in names.chunks(2500) {
        run!(world, |txn| {
            let at = txn.at(b"hash")?;
            let ms = if half[0] == names[0] { expire_ms } else { expire_ms + 1000 };
            hashes::expire(txn, at, ms, FieldCondition::Always, half.iter().map(|name| &name[..]), |_| {})
        })
        .unwrap();
    }
    assert_eq!((world.store.dbsize(0), world.store.expires(0)), (1, 0));
    world.pass(1500);
    let count = run!(world, |txn| {
        let at = txn.at(b"hash")?;
        hash_value::length(txn, at)
    });
    assert_eq!(count.unwrap(), 5000, "expired fields are counted until they are removed");
    let fields: Fields =
        names[2500..].iter().map(|name| (name.clone(), (b"value".to_vec(), expire_ms + 1000))).collect();
    world.put_hash(b"hash", fields);
    world.check();
    world.pass(1000);
    world.settle();
    assert_eq!(world.store.dbsize(0), 0);
    world.model.clear();
    world.check();
}
