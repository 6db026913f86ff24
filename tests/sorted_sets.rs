//! Sorted sets against a sorted map: random commands on sets that are packed, large, and cross the border, with fences so close that
//! every command cuts and joins some. After each command: fences, heads and edges equal the elements, and reads of every
//! kind equal the model's.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{PackedLimits, Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::elements::{Page, Wanted};
use haypile::types::sorted_set::{Element, MemberEnd, ScoreEnd, SortedSet, Span, store};
use haypile::types::sorted_sets::{self, AddOptions, End};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{Db, MemEnv, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

/// Members and scores of one key.
type Model = BTreeMap<Vec<u8>, f64>;

struct World {
    _env: Arc<MemEnv>,
    store: Arc<Store>,
    txn: Txn,
    model: BTreeMap<&'static [u8], Model>,
    rng: Rng,
    draws: u64,
    /// How many different members and scores there are.
    members: u64,
    scores: u64,
}

const KEYS: [&[u8]; 2] = [b"a", b"b"];

fn sorted(model: &Model) -> Vec<Element> {
    let mut elements: Vec<Element> =
        model.iter().map(|(member, score)| Element { score: *score, member: member.clone() }).collect();
    elements.sort_by(Element::order);
    elements
}

impl World {
    fn new(packed: PackedLimits, fence_elements_max: u64, seed: u64) -> World {
        let (env, clock) = (MemEnv::new(), Clock::manual(1_700_000_000_000));
        let mut options =
            Options { memtable_bytes: 64 << 10, memtable_total_bytes: 512 << 10, ..Options::tiny() };
        MetaHooks::install(&mut options, clock);
        let db = Db::open(env.clone(), Path::new("/db"), options).unwrap();
        let options = StoreOptions {
            databases: 1,
            gate_slots: 2,
            clock,
            packed,
            fence_elements_max,
            ..StoreOptions::default()
        };
        let store = Store::open(Arc::new(db), options).unwrap();
        let txn = Txn::new(store.clone());
        let mut rng = Rng::new(seed);
        let (members, scores) = ([20, 200, 2000][rng.below(3) as usize], [1, 5, 1000][rng.below(3) as usize]);
        let model = KEYS.iter().map(|key| (*key, Model::new())).collect();
        World { _env: env, store, txn, model, rng, draws: seed, members, scores }
    }

    fn run<R>(&mut self, mut command: impl FnMut(&mut Txn) -> Result<R, Stop>) -> R {
        self.draws += 1;
        let draws = Draws { now_ms: 1_700_000_000_000, seed: self.draws };
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

    fn read<R>(
        &mut self,
        key: &[u8],
        mut read: impl FnMut(&mut Txn, &SortedSet) -> Result<R, Stop>,
    ) -> Option<R> {
        self.run(|txn| match SortedSet::open(txn, txn.at(key)?)? {
            None => Ok(None),
            Some(set) => read(txn, &set).map(Some),
        })
    }

    fn member(&mut self) -> Vec<u8> {
        let number = self.rng.below(self.members);
        // Some that are longer than an edge and alike up to there.
        match number % 7 {
            0 => format!("{}{number:05}", "m".repeat(140)).into_bytes(),
            _ => format!("{number:05}").into_bytes(),
        }
    }

    fn score(&mut self) -> f64 {
        match self.rng.below(50) {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => -0.0,
            _ => self.rng.below(self.scores) as f64 - (self.scores / 2) as f64,
        }
    }

    fn span(&mut self, count: u64) -> OwnedSpan {
        match self.rng.below(3) {
            0 => {
                let (a, b) = (self.rng.below(count + 2), self.rng.below(count + 2));
                OwnedSpan::Ranks(a.min(b), a.max(b))
            }
            1 => {
                let (a, b) = (self.score(), self.score());
                let (a, b) = if self.rng.one_in(9) { (b, a) } else { (a.min(b), a.max(b)) };
                OwnedSpan::Scores(a, self.rng.one_in(3), b, self.rng.one_in(3))
            }
            _ => {
                let end = |world: &mut World| match world.rng.below(6) {
                    0 => OwnedEnd::Lowest,
                    1 => OwnedEnd::Highest,
                    2 => OwnedEnd::Exclusive(world.member()),
                    _ => OwnedEnd::Inclusive(world.member()),
                };
                OwnedSpan::Members(end(self), end(self))
            }
        }
    }

    fn turn(&mut self) {
        let key = KEYS[self.rng.below(2) as usize];
        let count = self.model[key].len() as u64;
        match self.rng.below(20) {
            0..=9 => {
                let options = AddOptions {
                    only_new: self.rng.one_in(8),
                    only_present: self.rng.one_in(8),
                    only_greater: self.rng.one_in(8),
                    only_less: self.rng.one_in(8),
                    increment: false,
                };
                let elements: Vec<(f64, Vec<u8>)> = match self.rng.below(6) {
                    0 => {
                        // A run behind or before all, as clocks make them.
                        let all = sorted(&self.model[key]);
                        let up = self.rng.one_in(2);
                        let edge = if up { all.last() } else { all.first() }.map_or(0.0, |edge| edge.score);
                        let step = if up { 1.0 } else { -1.0 };
                        (0..1 + self.rng.below(30))
                            .map(|n| (edge + step * n as f64, self.member()))
                            .filter(|(score, _)| !score.is_nan())
                            .collect()
                    }
                    1 => (0..1 + self.rng.below(100)).map(|_| (self.score(), self.member())).collect(),
                    _ => (0..1 + self.rng.below(3)).map(|_| (self.score(), self.member())).collect(),
                };
                if elements.is_empty() {
                    return;
                }
                let borrowed: Vec<(f64, &[u8])> = elements.iter().map(|(s, m)| (*s, &m[..])).collect();
                let done = self.run(|txn| sorted_sets::add(txn, txn.at(key)?, options, &borrowed));
                let model = self.model.get_mut(key).unwrap();
                let (mut added, mut updated) = (0, 0);
                for (score, member) in elements {
                    match model.get(&member).copied() {
                        None if options.only_present => {}
                        None => {
                            model.insert(member, score);
                            added += 1;
                        }
                        Some(old) => {
                            let refused = options.only_new
                                || options.only_greater && score <= old
                                || options.only_less && score >= old;
                            if !refused && score != old {
                                model.insert(member, score);
                                updated += 1;
                            }
                        }
                    }
                }
                assert_eq!((done.added, done.updated), (added, updated));
            }
            10..=11 => {
                let members: Vec<Vec<u8>> = (0..1 + self.rng.below(8)).map(|_| self.member()).collect();
                let removed =
                    self.run(|txn| sorted_sets::remove(txn, txn.at(key)?, members.iter().map(Vec::as_slice)));
                let model = self.model.get_mut(key).unwrap();
                let expected = members.iter().filter(|member| model.remove(*member).is_some()).count();
                assert_eq!(removed, expected as u64);
            }
            12..=15 => {
                let end = if self.rng.one_in(2) { End::Lowest } else { End::Highest };
                let most = match self.rng.below(8) {
                    0 => count + 1,
                    1 => self.rng.below(count + 1),
                    _ => 1 + self.rng.below(3),
                };
                let popped = self.run(|txn| sorted_sets::pop(txn, txn.at(key)?, end, most));
                let mut all = sorted(&self.model[key]);
                if end == End::Highest {
                    all.reverse();
                }
                all.truncate(most as usize);
                assert_eq!(popped, (count > 0).then_some(all.clone()));
                let model = self.model.get_mut(key).unwrap();
                all.iter().for_each(|element| {
                    model.remove(&element.member);
                });
            }
            16..=17 => {
                let span = self.span(count);
                let small = self.rng.one_in(4);
                let span = match span {
                    // Mostly a few.
                    OwnedSpan::Ranks(a, b) if !small => OwnedSpan::Ranks(a, b.min(a + 3)),
                    span => span,
                };
                let expected = span.of(&sorted(&self.model[key]), false);
                let removed = self.run(|txn| sorted_sets::remove_span(txn, txn.at(key)?, |_| span.borrow()));
                assert_eq!(removed, expected.len() as u64, "{span:?}");
                let model = self.model.get_mut(key).unwrap();
                expected.iter().for_each(|element| {
                    model.remove(&element.member);
                });
            }
            18 => {
                let elements: Model =
                    (0..self.rng.below(300)).map(|_| (self.member(), self.score())).collect();
                let stored = sorted(&elements);
                self.run(|txn| {
                    let at = txn.at(key)?;
                    let slot = txn.load(at)?;
                    store(txn, at, &slot.before, &stored, 0)
                });
                self.model.insert(key, elements);
            }
            _ => {
                if self.rng.one_in(3) {
                    self.store.db().wait_idle().unwrap();
                    while self.store.background_turn().unwrap() {}
                }
            }
        }
        self.check(key);
    }

    fn check(&mut self, key: &'static [u8]) {
        let all = sorted(&self.model[key]);
        let count = all.len() as u64;
        let found = self.read(key, |txn, set| {
            if let SortedSet::Large(large) = set {
                assert_eq!(large.check(txn)?, None, "{:?}", large.summary);
            }
            assert_eq!(set.count(), count);
            set.collect_all(txn)
        });
        assert_eq!(found.unwrap_or_default(), all);
        if all.is_empty() {
            return;
        }
        let member = self.member();
        let rank = self.read(key, |txn, set| set.rank(txn, &member)).unwrap();
        let expected = all.iter().position(|element| element.member == member);
        assert_eq!(rank, expected.map(|rank| (rank as u64, all[rank].score)));
        let span = self.span(count);
        let reverse = self.rng.one_in(2);
        let skip = if self.rng.one_in(2) { 0 } else { self.rng.below(count + 2) };
        let limit = self.rng.below(5);
        let expected: Vec<Element> =
            span.of(&all, reverse).into_iter().skip(skip as usize).take(limit as usize).collect();
        let found =
            self.read(key, |txn, set| set.collect(txn, &span.borrow(), reverse, skip, limit)).unwrap();
        assert_eq!(found, expected, "{span:?} reverse {reverse} skip {skip} limit {limit}");
        let counted = self.read(key, |txn, set| set.count_in(txn, &span.borrow())).unwrap();
        assert_eq!(counted, span.of(&all, false).len() as u64, "{span:?}");
        if self.rng.one_in(10) {
            self.check_drawing(key, &all);
            self.check_scan(key, &all);
        }
    }

    fn check_drawing(&mut self, key: &'static [u8], all: &[Element]) {
        let count = self.rng.below(all.len() as u64 + 2);
        let is_there = |element: &Element| all.binary_search_by(|own| own.order(element)).is_ok();
        let distinct = self
            .read(key, |txn, set| sorted_sets::random(txn, set, Wanted { count, distinct: true }))
            .unwrap();
        assert_eq!(distinct.len(), all.len().min(count as usize));
        let members: BTreeSet<&[u8]> = distinct.iter().map(|element| &element.member[..]).collect();
        assert_eq!(members.len(), distinct.len());
        let repeated = self
            .read(key, |txn, set| sorted_sets::random(txn, set, Wanted { count, distinct: false }))
            .unwrap();
        assert_eq!(repeated.len(), count as usize);
        assert!(distinct.iter().chain(&repeated).all(is_there));
    }

    fn check_scan(&mut self, key: &'static [u8], all: &[Element]) {
        let mut seen = BTreeMap::new();
        let mut cursor = 0;
        loop {
            let page = Page { cursor, count: 1 + self.rng.below(50), pattern: None };
            let next = self.read(key, |txn, set| {
                sorted_sets::scan(txn, set, page, |member, score| {
                    seen.insert(member.to_vec(), score);
                })
            });
            cursor = next.unwrap();
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(sorted(&seen), all);
    }
}

#[derive(Clone, Debug)]
enum OwnedEnd {
    Lowest,
    Highest,
    Inclusive(Vec<u8>),
    Exclusive(Vec<u8>),
}

#[derive(Clone, Debug)]
enum OwnedSpan {
    Ranks(u64, u64),
    Scores(f64, bool, f64, bool),
    Members(OwnedEnd, OwnedEnd),
}

impl OwnedEnd {
    fn borrow(&self) -> MemberEnd<'_> {
        match self {
            OwnedEnd::Lowest => MemberEnd::Lowest,
            OwnedEnd::Highest => MemberEnd::Highest,
            OwnedEnd::Inclusive(member) => MemberEnd::Inclusive(member),
            OwnedEnd::Exclusive(member) => MemberEnd::Exclusive(member),
        }
    }

    fn is_above(&self, member: &[u8]) -> bool {
        match self {
            OwnedEnd::Lowest => false,
            OwnedEnd::Highest => true,
            OwnedEnd::Inclusive(own) => member <= own.as_slice(),
            OwnedEnd::Exclusive(own) => member < own.as_slice(),
        }
    }

    fn is_below(&self, member: &[u8]) -> bool {
        match self {
            OwnedEnd::Lowest => true,
            OwnedEnd::Highest => false,
            OwnedEnd::Inclusive(own) => member >= own.as_slice(),
            OwnedEnd::Exclusive(own) => member > own.as_slice(),
        }
    }
}

impl OwnedSpan {
    fn borrow(&self) -> Span<'_> {
        match self {
            OwnedSpan::Ranks(from, to) => Span::Ranks(*from..*to),
            OwnedSpan::Scores(low, low_exclusive, high, high_exclusive) => Span::Scores(
                ScoreEnd { score: *low, exclusive: *low_exclusive },
                ScoreEnd { score: *high, exclusive: *high_exclusive },
            ),
            OwnedSpan::Members(low, high) => Span::Members(low.borrow(), high.borrow()),
        }
    }

    /// The elements it means, in the direction of the walk.
    fn of(&self, all: &[Element], reverse: bool) -> Vec<Element> {
        let mut walked: Vec<&Element> = all.iter().collect();
        match self {
            OwnedSpan::Ranks(from, to) => {
                let to = (*to as usize).min(all.len());
                walked = walked[(*from as usize).min(to)..to].to_vec();
                if reverse {
                    walked.reverse();
                }
            }
            OwnedSpan::Scores(low, low_exclusive, high, high_exclusive) => {
                walked.retain(|element| {
                    let score = element.score;
                    (if *low_exclusive { score > *low } else { score >= *low })
                        && (if *high_exclusive { score < *high } else { score <= *high })
                });
                if reverse {
                    walked.reverse();
                }
            }
            OwnedSpan::Members(low, high) => {
                // As Redis walks: in from where the range begins, out where it first ends.
                let reaches = all.last().is_some_and(|element| low.is_below(&element.member));
                let begins = all.first().is_some_and(|element| high.is_above(&element.member));
                let void = match (low, high) {
                    (OwnedEnd::Highest, _) | (_, OwnedEnd::Lowest) => true,
                    (OwnedEnd::Lowest, _) | (_, OwnedEnd::Highest) => false,
                    (OwnedEnd::Inclusive(a), OwnedEnd::Inclusive(b)) => a > b,
                    (
                        OwnedEnd::Inclusive(a) | OwnedEnd::Exclusive(a),
                        OwnedEnd::Inclusive(b) | OwnedEnd::Exclusive(b),
                    ) => a >= b,
                };
                if !reaches || !begins || void {
                    return Vec::new();
                }
                if reverse {
                    walked.reverse();
                }
                let (enter, stay): (&OwnedEnd, &OwnedEnd) = if reverse { (high, low) } else { (low, high) };
                let above = |end: &OwnedEnd, member: &[u8], is_low: bool| {
                    if is_low { end.is_below(member) } else { end.is_above(member) }
                };
                walked = walked
                    .into_iter()
                    .skip_while(|element| !above(enter, &element.member, !reverse))
                    .take_while(|element| above(stay, &element.member, reverse))
                    .collect();
            }
        }
        walked.into_iter().cloned().collect()
    }
}

fn run(packed: PackedLimits, fence_elements_max: u64, turns: u32, default_seeds: u64) {
    for seed in seeds(default_seeds) {
        eprintln!("HAYPILE_SEED={seed} {packed:?} {fence_elements_max}");
        let mut world = World::new(packed, fence_elements_max, seed);
        for _ in 0..turns {
            world.turn();
        }
    }
}

const ALL_LARGE: PackedLimits = PackedLimits { elements_max: 0, bytes_max: 0 };

#[test]
fn large_sets_with_the_closest_fences() {
    run(ALL_LARGE, 2, 400, 4);
}

#[test]
fn large_sets_with_close_fences() {
    run(ALL_LARGE, 8, 600, 8);
}

#[test]
fn sets_that_cross_the_border() {
    let fences = 5;
    run(PackedLimits { elements_max: 1, bytes_max: 1024 }, fences, 400, 3);
    run(PackedLimits { elements_max: 16, bytes_max: 300 }, fences, 600, 4);
}

#[test]
fn sets_as_a_server_keeps_them() {
    run(PackedLimits::default(), 512, 500, 3);
}

/// A hot set that gains at one end and loses at the other: reads from the ends stay within a small budget.
#[test]
fn churn_at_the_ends_does_not_make_reads_slow() {
    let mut world = World::new(ALL_LARGE, 512, 1);
    let key = KEYS[0];
    let mut next = 0u64;
    let mut add = |world: &mut World, count: u64| {
        for _ in 0..count {
            let member = format!("{next:08}");
            let elements = [(next as f64, member.as_bytes())];
            world.run(|txn| sorted_sets::add(txn, txn.at(key)?, AddOptions::default(), &elements));
            next += 1;
        }
    };
    add(&mut world, 100);
    for round in 0..3000 {
        add(&mut world, 1);
        match round % 3 {
            0 => {
                let gone = world.run(|txn| {
                    sorted_sets::remove_span(txn, txn.at(key)?, |count| Span::Ranks(0..count - 100))
                });
                assert_eq!(gone, 1);
            }
            1 => assert_eq!(
                world.run(|txn| sorted_sets::pop(txn, txn.at(key)?, End::Lowest, 1)).unwrap().len(),
                1
            ),
            _ => {
                let first =
                    world.read(key, |txn, set| set.collect(txn, &Span::Ranks(0..1), false, 0, 1)).unwrap();
                let members = [first[0].member.as_slice()];
                assert_eq!(world.run(|txn| sorted_sets::remove(txn, txn.at(key)?, members.into_iter())), 1);
            }
        }
    }
    let large = world.read(key, |txn, set| match set {
        SortedSet::Large(large) => {
            assert_eq!(large.check(txn)?, None);
            Ok(large.summary.clone())
        }
        SortedSet::Packed(_) => panic!("packed"),
    });
    // The edge stands on the first element, so whatever went before it is not walked over.
    assert_eq!(large.unwrap().first[8..], *b"00003000");
}

/// Readers hold no lock: what they learn of ranks is of the moment that they read at, whatever a writer does meanwhile.
#[test]
fn ranks_beside_a_writer_are_those_of_the_read_point() {
    let mut world = World::new(ALL_LARGE, 8, 1);
    let key = KEYS[0];
    let store = world.store.clone();
    let draws = Draws { now_ms: 1_700_000_000_000, seed: 1 };
    let done = std::sync::atomic::AtomicBool::new(false);
    let change = |txn: &mut Txn, rng: &mut Rng| {
        let member = format!("{:04}", rng.below(400)).into_bytes();
        if rng.one_in(3) {
            sorted_sets::remove(txn, txn.at(key)?, [&member[..]].into_iter()).map(|_| ())
        } else {
            let elements = [(rng.below(50) as f64, &member[..])];
            sorted_sets::add(txn, txn.at(key)?, AddOptions::default(), &elements).map(|_| ())
        }
    };
    let mut rng = Rng::new(1);
    for _ in 0..500 {
        world.run(|txn| change(txn, &mut rng));
    }
    let mut checked = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut txn = Txn::new(store.clone());
            for _ in 0..20_000 {
                txn.begin(0, Mode::Pool, draws, ReadPoint::Latest);
                change(&mut txn, &mut rng).unwrap();
                txn.commit().unwrap();
            }
            // Relaxed: it only ends the test.
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut txn = Txn::new(store.clone());
        let mut rng = Rng::new(2);
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            txn.begin(0, Mode::Pool, draws, ReadPoint::Latest);
            let at = txn.at(key).unwrap();
            let Some(set) = SortedSet::open(&mut txn, at).unwrap() else { continue };
            let all = set.collect_all(&mut txn).unwrap();
            for _ in 0..8 {
                let rank = rng.below(all.len() as u64);
                let element = &all[rank as usize];
                assert_eq!(set.rank(&mut txn, &element.member).unwrap(), Some((rank, element.score)));
                let here = set.collect(&mut txn, &Span::Ranks(rank..rank + 1), false, 0, 1).unwrap();
                assert_eq!(here, std::slice::from_ref(element));
                checked += 1;
            }
        }
        writer.join().unwrap();
    });
    assert!(checked > 100, "the writer was done before anything was read");
}
