//! Lists against vectors: random commands at both sides of the border between packed and large lists, with insertions that use up
//! every gap, on an engine so small that everything is compacted again and again, with unclean restarts. After each command
//! the list is read back in some way; at times the records that lie under its id are counted.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::encoding::data::{ELEMENT, element_bounds};
use haypile::encoding::meta::{Head, Record};
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{PackedLimits, Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::keys;
use haypile::types::list_value::End;
use haypile::types::lists::{self, Piece, Search};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{CrashPolicy, Db, IterOptions, MemEnv, Options};
use std::path::Path;
use std::sync::Arc;

const KEYS: [&[u8]; 3] = [b"a", b"b", b"c"];

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

fn open(env: &Arc<MemEnv>, packed: PackedLimits) -> Arc<Store> {
    let clock = Clock::manual(1_700_000_000_000);
    let mut options =
        Options { memtable_bytes: 32 << 10, memtable_total_bytes: 256 << 10, ..Options::tiny() };
    MetaHooks::install(&mut options, clock);
    let db = Db::open(env.clone(), Path::new("/db"), options).unwrap();
    Store::open(
        Arc::new(db),
        StoreOptions { databases: 1, gate_slots: 2, clock, packed, ..StoreOptions::default() },
    )
    .unwrap()
}

struct World {
    env: Arc<MemEnv>,
    packed: PackedLimits,
    store: Arc<Store>,
    txn: Txn,
    model: Vec<Vec<Vec<u8>>>,
}

impl World {
    fn new(packed: PackedLimits) -> World {
        let env = MemEnv::new();
        let store = open(&env, packed);
        World { env, packed, txn: Txn::new(store.clone()), store, model: vec![Vec::new(); KEYS.len()] }
    }

    /// Runs a command the way a server does: on a worker if that works, else on a pool.
    fn run<R>(&mut self, mut command: impl FnMut(&mut Txn) -> Result<R, Stop>) -> R {
        let draws = Draws { now_ms: 1_700_000_000_000, seed: 1 };
        for mode in [Mode::Inline, Mode::Pool] {
            self.txn.begin(0, mode, draws, ReadPoint::Latest);
            match command(&mut self.txn) {
                Err(Stop::NeedsIo | Stop::Budget) if mode == Mode::Inline => self.txn.abandon(),
                Err(stop) => panic!("{stop:?}"),
                Ok(answer) => {
                    self.txn.commit().unwrap();
                    return answer;
                }
            }
        }
        unreachable!()
    }

    fn kill(&mut self, seed: u64) {
        self.store.db().flush_wal(self.store.db().visible_lsn()).unwrap();
        self.env = self.env.crash_clone(CrashPolicy::ProcessKill, seed);
        self.store = open(&self.env, self.packed);
        self.txn = Txn::new(self.store.clone());
    }

    fn range(&mut self, key: usize, start: i64, stop: i64) -> Vec<Vec<u8>> {
        self.run(|txn| {
            let (mut announced, mut found) = (0, Vec::new());
            lists::range(txn, txn.at(KEYS[key])?, start, stop, |piece| match piece {
                Piece::Count(count) => announced = count,
                Piece::Element(element) => found.push(element.to_vec()),
            })?;
            assert_eq!(announced, found.len() as u64);
            Ok(found)
        })
    }

    /// Everything agrees: the length, the elements, and how many records lie under the id.
    fn check(&mut self, key: usize) {
        let len = self.run(|txn| lists::len(txn, txn.at(KEYS[key])?));
        assert_eq!(len, self.model[key].len() as u64);
        assert_eq!(self.range(key, 0, -1), self.model[key]);
        let head: Option<Head> = self.run(|txn| {
            txn.view(txn.at(KEYS[key])?, |record: Option<Record<'_>>| record.map(|record| record.head))
        });
        assert_eq!(head.is_some(), len > 0, "an empty list is none");
        let Some(head) = head.filter(|head| head.id != 0) else { return };
        let (lower, upper) = element_bounds(self.store.space_of(0), head.id, ELEMENT);
        let options = IterOptions { lower: Some(lower), upper: Some(upper), ..IterOptions::default() };
        let mut iter = self.store.db().iter(self.store.keyspaces().data, options).unwrap();
        iter.seek_to_first().unwrap();
        let mut records = 0;
        while iter.valid() {
            records += 1;
            iter.next().unwrap();
        }
        assert_eq!(records, len, "records under the id");
    }

    fn turn(&mut self, rng: &mut Rng, large: bool) {
        let key = rng.below(KEYS.len() as u64) as usize;
        let end = if rng.one_in(2) { End::Left } else { End::Right };
        let len = self.model[key].len() as u64;
        let index = |rng: &mut Rng| {
            if rng.one_in(8) {
                rng.below(2000) as i64 - 1000
            } else {
                rng.below(2 * len + 3) as i64 - len as i64 - 1
            }
        };
        match rng.below(24) {
            0..=6 => {
                let count = match rng.below(12) {
                    0 if large => 100 + rng.below(300),
                    1..=3 => 1 + rng.below(8),
                    _ => 1,
                };
                let elements: Vec<Vec<u8>> = (0..count).map(|_| random_element(rng)).collect();
                let only_if_present = rng.one_in(6);
                let answer = self.run(|txn| {
                    let elements = elements.iter().map(Vec::as_slice);
                    lists::push(txn, txn.at(KEYS[key])?, end, elements, only_if_present)
                });
                if only_if_present && len == 0 {
                    assert_eq!(answer, 0);
                    return;
                }
                assert_eq!(answer, len + count);
                for element in elements {
                    match end {
                        End::Left => self.model[key].insert(0, element),
                        End::Right => self.model[key].push(element),
                    }
                }
            }
            7..=10 => {
                let count = match rng.below(6) {
                    0 => 1 + rng.below(len + 2),
                    1 => 2 + rng.below(80),
                    _ => 1,
                };
                let popped = self.run(|txn| {
                    let at = txn.at(KEYS[key])?;
                    let mut list = lists::load(txn, at)?;
                    let mut popped = Vec::new();
                    if !list.is_empty() {
                        list.pop(txn, at, end, count, |element| popped.push(element.to_vec()))?;
                    }
                    list.recycle(txn);
                    Ok(popped)
                });
                let model = &mut self.model[key];
                let count = count.min(len) as usize;
                let wanted: Vec<_> = match end {
                    End::Left => model.drain(..count).collect(),
                    End::Right => model.drain(model.len() - count..).rev().collect(),
                };
                assert_eq!(popped, wanted);
            }
            11..=14 => {
                // Again and again at one place, so that gaps run out.
                let Some(pivot) = self.model[key].get(rng.below(len.max(1)) as usize).cloned() else {
                    return;
                };
                let at_pivot = rng.one_in(2);
                let times = if rng.one_in(4) { 40 } else { 1 };
                let mut pivot = pivot;
                for _ in 0..times {
                    let element = random_element(rng);
                    let len = self.model[key].len() as u64;
                    let answer = self.run(|txn| {
                        let at = txn.at(KEYS[key])?;
                        let list = lists::load(txn, at)?;
                        lists::insert(txn, at, list, end, &pivot, &element)
                    });
                    assert_eq!(answer, Some(len + 1));
                    let place = self.model[key].iter().position(|own| *own == pivot).unwrap();
                    self.model[key].insert(place + usize::from(end == End::Right), element.clone());
                    if !at_pivot {
                        pivot = element;
                    }
                }
            }
            15 => {
                let index = index(rng);
                let element = random_element(rng);
                let place = if index < 0 { index + len as i64 } else { index };
                if (0..len as i64).contains(&place) {
                    self.run(|txn| {
                        let at = txn.at(KEYS[key])?;
                        let list = lists::load(txn, at)?;
                        lists::set(txn, at, list, index, &element)
                    });
                    self.model[key][place as usize] = element;
                }
            }
            16..=17 => {
                let element = random_element(rng);
                let count = if rng.one_in(2) { u64::MAX } else { 1 + rng.below(3) };
                let removed = self.run(|txn| lists::remove(txn, txn.at(KEYS[key])?, end, count, &element));
                let model = &mut self.model[key];
                let mut places: Vec<usize> =
                    (0..model.len()).filter(|place| model[*place] == element).collect();
                if end == End::Right {
                    places.reverse();
                }
                places.truncate(count.min(1 << 40) as usize);
                assert_eq!(removed, places.len() as u64);
                places.sort_unstable();
                for place in places.into_iter().rev() {
                    model.remove(place);
                }
            }
            18 => {
                let (start, stop) = match rng.one_in(3) {
                    true => (index(rng), index(rng)),
                    false => (rng.below(3) as i64, -1 - rng.below(3) as i64),
                };
                self.run(|txn| lists::trim(txn, txn.at(KEYS[key])?, start, stop));
                let wanted = cut(&self.model[key], start, stop);
                self.model[key] = wanted;
            }
            19..=20 => {
                let other = rng.below(KEYS.len() as u64) as usize;
                let to_end = if rng.one_in(2) { End::Left } else { End::Right };
                let moved = self.run(|txn| {
                    let (from, to) = (txn.at(KEYS[key])?, txn.at(KEYS[other])?);
                    lists::move_element(txn, (from, end), (to, to_end))
                });
                let model = &mut self.model[key];
                let wanted = match end {
                    _ if model.is_empty() => None,
                    End::Left => Some(model.remove(0)),
                    End::Right => model.pop(),
                };
                assert_eq!(moved, wanted);
                if let Some(element) = wanted {
                    match to_end {
                        End::Left => self.model[other].insert(0, element),
                        End::Right => self.model[other].push(element),
                    }
                }
                self.check(other);
            }
            21 => {
                let index = index(rng);
                let found = self
                    .run(|txn| lists::element(txn, txn.at(KEYS[key])?, index, |element| element.to_vec()));
                let place = if index < 0 { index + len as i64 } else { index };
                let wanted = usize::try_from(place).ok().and_then(|place| self.model[key].get(place));
                assert_eq!(found.as_ref(), wanted);
                let (start, stop) = (index, index + rng.below(20) as i64);
                let wanted = cut(&self.model[key], start, stop);
                assert_eq!(self.range(key, start, stop), wanted);
            }
            22 => {
                let element = random_element(rng);
                let (skip, matches) = (rng.below(3), 1 + rng.below(4));
                let steps = if rng.one_in(2) { u64::MAX } else { rng.below(len + 4) };
                let search = Search { element: &element, from: end, skip, matches, steps };
                let found = self.run(|txn| {
                    let mut found = Vec::new();
                    lists::search(txn, txn.at(KEYS[key])?, search, |index| found.push(index))?;
                    Ok(found)
                });
                let mut places: Vec<u64> = (0..len).collect();
                if end == End::Right {
                    places.reverse();
                }
                let steps = usize::try_from(steps).unwrap_or(usize::MAX);
                let wanted: Vec<u64> = places
                    .into_iter()
                    .take(steps)
                    .filter(|place| self.model[key][*place as usize] == element)
                    .skip(skip as usize)
                    .take(matches as usize)
                    .collect();
                assert_eq!(found, wanted);
            }
            _ => {
                let other = rng.below(KEYS.len() as u64) as usize;
                if other == key || len == 0 {
                    return;
                }
                if rng.one_in(2) {
                    self.run(|txn| keys::rename(txn, txn.at(KEYS[key])?, txn.at(KEYS[other])?, false));
                    self.model[other] = std::mem::take(&mut self.model[key]);
                } else {
                    self.run(|txn| keys::copy(txn, txn.at(KEYS[key])?, txn.at(KEYS[other])?, true));
                    self.model[other] = self.model[key].clone();
                }
                self.check(other);
            }
        }
        if rng.one_in(4) {
            self.check(key);
        }
    }
}

fn cut(list: &[Vec<u8>], start: i64, stop: i64) -> Vec<Vec<u8>> {
    let len = list.len() as i64;
    let from_end = |index: i64| if index < 0 { index + len } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    if start > stop { Vec::new() } else { list[start as usize..=stop as usize].to_vec() }
}

fn random_element(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0 => vec![b'x'; 200],
        1 => Vec::new(),
        2..=10 => rng.below(5).to_string().into_bytes(),
        _ => rng.below(1000).to_string().into_bytes(),
    }
}

fn run(packed: PackedLimits, turns: usize) {
    for seed in seeds(2) {
        eprintln!("HAYPILE_SEED={seed} {packed:?}");
        let mut rng = Rng::new(seed);
        let mut world = World::new(packed);
        for _ in 0..turns {
            world.turn(&mut rng, true);
            if rng.one_in(200) {
                world.store.db().wait_idle().unwrap();
                while world.store.background_turn().unwrap() {}
            }
            if rng.one_in(400) {
                world.kill(seed);
            }
        }
        for key in 0..KEYS.len() {
            world.check(key);
        }
    }
}

#[test]
fn all_large() {
    run(PackedLimits { elements_max: 0, bytes_max: 0 }, 1200);
}

#[test]
fn border_at_one() {
    run(PackedLimits { elements_max: 1, bytes_max: 1024 }, 1200);
}

#[test]
fn border_as_usual() {
    run(PackedLimits::default(), 1200);
}

#[test]
fn border_in_bytes() {
    run(PackedLimits { elements_max: 100, bytes_max: 60 }, 1200);
}

/// Both ends move far in one direction, and nothing of what was popped is in the way: each step reads a fixed number of records.
#[test]
fn a_queue_keeps_its_pace() {
    let mut world = World::new(PackedLimits { elements_max: 0, bytes_max: 0 });
    let push = |world: &mut World, element: &[u8]| {
        world.run(|txn| lists::push(txn, txn.at(b"q")?, End::Left, [element].into_iter(), false))
    };
    for number in 0..100u32 {
        push(&mut world, &number.to_be_bytes());
    }
    for number in 0..20_000u32 {
        push(&mut world, &(number + 100).to_be_bytes());
        let draws = Draws { now_ms: 1_700_000_000_000, seed: 1 };
        for mode in [Mode::Inline, Mode::Pool] {
            world.txn.begin(0, mode, draws, ReadPoint::Latest);
            let txn = &mut world.txn;
            // All but a few of the records that a worker may touch are used up: a walk over tombstones would stop here. (A pop
            // reads up to 48 elements ahead.)
            txn.charge(945, 0).unwrap();
            let at = txn.at(b"q").unwrap();
            let mut popped = Vec::new();
            let done = lists::load(txn, at)
                .and_then(|mut list| list.pop(txn, at, End::Right, 1, |element| popped = element.to_vec()));
            match done {
                Err(Stop::NeedsIo) => continue,
                done => done.unwrap(),
            }
            assert_eq!(popped, number.to_be_bytes());
            txn.commit().unwrap();
            break;
        }
    }
}

/// An insertion at one place moves few elements on average, however often.
#[test]
fn insertions_move_little() {
    let mut world = World::new(PackedLimits { elements_max: 0, bytes_max: 0 });
    let elements: Vec<Vec<u8>> = (0..3000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    world.run(|txn| lists::push(txn, txn.at(b"q")?, End::Right, elements.iter().map(Vec::as_slice), false));
    let before = world.store.db().visible_lsn();
    let inserts = 3000u64;
    for number in 0..inserts {
        let pivot = 5u32.to_be_bytes();
        let element = (1_000_000 + number as u32).to_be_bytes();
        world.run(|txn| {
            let at = txn.at(b"q")?;
            let list = lists::load(txn, at)?;
            lists::insert(txn, at, list, End::Left, &pivot, &element)
        });
    }
    // Each moved element is a delete and a put; the insertion itself is an element and the record.
    let entries = world.store.db().visible_lsn() - before;
    assert!(entries < inserts * 60, "{} records written per insertion", entries / inserts);
    let found = world.run(|txn| lists::element(txn, txn.at(b"q")?, 5 + 2999, |element| element.to_vec()));
    assert_eq!(found, Some(1_002_999u32.to_be_bytes().to_vec()));
}
