//! Plays months of writes over the compaction picker, without a disk, and measures what it costs.
//!
//! A table is a sorted list of small entries in memory; a job is computed when it starts and installed when it ends, several
//! run at once and end in an order drawn from a seed. After every install the levels must be sorted and disjoint, and
//! reads, newest run first, must give what a plain map gives: the picker never lets a version pass below an older one.
//! `cargo test --test simulator -- --nocapture` prints the amplification of each workload.

use haypile_lsm::base::limits::LEVELS;
use haypile_lsm::base::rng::Rng;
use haypile_lsm::compaction::picker::{ManualCompaction, PickerInput, manual_is_done, pick};
use haypile_lsm::compaction::plan::{InProgress, JobId, Plan, Reason};
use haypile_lsm::compaction::targets::{BOTTOM, CoveredBytes, PickerOptions, Shape, debt_bytes};
use haypile_lsm::version::file_meta::{FileMeta, KeyRange, newest_first};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const ENTRY_BYTES: u64 = 100;
const MEMTABLE_ENTRIES: usize = 1_000;
const HOUR_MS: u64 = 3_600_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u32,
    sequence: u64,
    live: bool,
}

struct Job {
    id: JobId,
    plan: Plan,
    outputs: Vec<(Arc<FileMeta>, Vec<Entry>)>,
}

struct World {
    options: PickerOptions,
    threads: usize,
    rng: Rng,
    levels: [Vec<Arc<FileMeta>>; LEVELS],
    contents: HashMap<u64, Vec<Entry>>,
    memtable: BTreeMap<u32, Entry>,
    model: BTreeMap<u32, u64>,
    busy: InProgress,
    jobs: Vec<Job>,
    manual: Option<ManualCompaction>,
    oldest_snapshot: u64,
    sequence: u64,
    next_number: u64,
    now_ms: u64,
    user_bytes: u64,
    written_bytes: u64,
    reasons: BTreeMap<Reason, (u64, u64)>,
    moves: u64,
    depth_max: usize,
    jobs_at_once_max: usize,
}

impl World {
    fn new(seed: u64, threads: usize) -> World {
        World {
            options: PickerOptions {
                l0_trigger: 4,
                base_level_bytes: 4 * MEMTABLE_ENTRIES as u64 * ENTRY_BYTES,
                level_multiplier: 10,
                table_bytes: MEMTABLE_ENTRIES as u64 * ENTRY_BYTES,
                age_ms: 0,
            },
            threads,
            rng: Rng::new(seed),
            levels: Default::default(),
            contents: HashMap::new(),
            memtable: BTreeMap::new(),
            model: BTreeMap::new(),
            busy: InProgress::new(),
            jobs: Vec::new(),
            manual: None,
            oldest_snapshot: u64::MAX,
            sequence: 0,
            next_number: 1,
            now_ms: 365 * 24 * HOUR_MS,
            user_bytes: 0,
            written_bytes: 0,
            reasons: BTreeMap::new(),
            moves: 0,
            depth_max: 0,
            jobs_at_once_max: 0,
        }
    }

    fn write(&mut self, key: u32, live: bool) {
        self.sequence += 1;
        self.user_bytes += ENTRY_BYTES;
        self.memtable.insert(key, Entry { key, sequence: self.sequence, live });
        if live {
            self.model.insert(key, self.sequence);
        } else {
            self.model.remove(&key);
        }
        if self.memtable.len() >= MEMTABLE_ENTRIES {
            self.flush();
            // Compaction may do this many bytes while the next memtable fills.
            self.work(25 * MEMTABLE_ENTRIES as u64 * ENTRY_BYTES);
        }
    }

    fn flush(&mut self) {
        self.now_ms += HOUR_MS;
        let entries = std::mem::take(&mut self.memtable).into_values().collect::<Vec<_>>();
        if entries.is_empty() {
            return;
        }
        let (meta, entries) = self.table(entries);
        self.written_bytes += meta.bytes;
        self.contents.insert(meta.number, entries);
        self.levels[0].push(meta);
        self.levels[0].sort_by(|a, b| newest_first(a, b));
    }

    fn table(&mut self, entries: Vec<Entry>) -> (Arc<FileMeta>, Vec<Entry>) {
        let number = self.next_number;
        self.next_number += 1;
        let key = |entry: &Entry| entry.key.to_be_bytes().to_vec();
        let meta = FileMeta {
            number,
            bytes: entries.len() as u64 * ENTRY_BYTES,
            entries: entries.len() as u64,
            deletes: entries.iter().filter(|entry| !entry.live).count() as u64,
            delete_run: 0,
            range_deletes: 0,
            smallest: key(&entries[0]),
            largest: key(&entries[entries.len() - 1]),
            largest_inclusive: true,
            smallest_sequence: entries.iter().map(|e| e.sequence).min().unwrap(),
            largest_sequence: entries.iter().map(|e| e.sequence).max().unwrap(),
            created_ms: self.now_ms,
        };
        assert_eq!(meta.fault(), None);
        (Arc::new(meta), entries)
    }

    fn input<'a>(&'a self, covered_bytes: &'a CoveredBytes) -> PickerInput<'a> {
        PickerInput {
            levels: std::array::from_fn(|level| self.levels[level].as_slice()),
            busy: &self.busy,
            options: &self.options,
            manual: self.manual.as_ref(),
            wasted: None,
            covered_bytes,
            oldest_snapshot: self.oldest_snapshot,
            now_ms: self.now_ms,
        }
    }

    fn shape(&self) -> Shape {
        Shape::measure(
            &std::array::from_fn(|level| self.levels[level].as_slice()),
            &CoveredBytes::new(),
            |_, _| true,
        )
    }

    /// Starts and ends jobs until `budget_bytes` were processed or nothing is left to do.
    fn work(&mut self, budget_bytes: u64) {
        self.depth_max = self.depth_max.max(self.shape().l0_depth);
        let mut done_bytes = 0;
        while done_bytes < budget_bytes {
            while self.jobs.len() < self.threads {
                let Some(plan) = pick(&self.input(&CoveredBytes::new())) else { break };
                self.start(plan);
            }
            self.jobs_at_once_max = self.jobs_at_once_max.max(self.jobs.len());
            if self.jobs.is_empty() {
                return;
            }
            let at = self.rng.below(self.jobs.len() as u64) as usize;
            let job = self.jobs.swap_remove(at);
            done_bytes += if job.plan.trivial_move { 0 } else { job.plan.input_bytes() };
            self.finish(job);
        }
    }

    fn settle(&mut self) {
        self.flush();
        self.work(u64::MAX);
        assert!(self.jobs.is_empty() && self.busy.is_empty());
        self.now_ms += HOUR_MS;
        self.work(u64::MAX);
    }

    fn start(&mut self, plan: Plan) {
        let reason = self.reasons.entry(plan.reason).or_default();
        reason.0 += 1;
        reason.1 += plan.input_bytes();
        let id = self.busy.start(&plan);
        let outputs = if plan.trivial_move { Vec::new() } else { self.merge(&plan) };
        self.jobs.push(Job { id, plan, outputs });
    }

    fn merge(&mut self, plan: &Plan) -> Vec<(Arc<FileMeta>, Vec<Entry>)> {
        let mut all: Vec<Entry> = Vec::new();
        plan.files().for_each(|file| all.extend(&self.contents[&file.number]));
        all.sort_by_key(|entry| (entry.key, std::cmp::Reverse(entry.sequence)));
        all.dedup_by_key(|entry| entry.key);
        if plan.output_level > 0 {
            let below = &self.levels[plan.output_level + 1..];
            let mut at = vec![0; below.len()];
            all.retain(|entry| entry.live || !is_base(below, &mut at, entry.key));
        }
        let mut outputs = Vec::new();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let mut cut = rest.len().min(MEMTABLE_ENTRIES);
            // Rather end at the bound of a grandparent, if there is one in the second half.
            let bound =
                |key: u32| plan.grandparents.partition_point(|f| f.largest < key.to_be_bytes().to_vec());
            if cut == MEMTABLE_ENTRIES && bound(rest[cut / 2].key) != bound(rest[cut - 1].key) {
                let half = bound(rest[cut / 2].key);
                cut = cut / 2 + rest[cut / 2..cut].partition_point(|entry| bound(entry.key) == half);
            }
            outputs.push(self.table(rest[..cut].to_vec()));
            rest = &rest[cut..];
        }
        outputs
    }

    fn finish(&mut self, job: Job) {
        let Job { id, plan, outputs } = job;
        for (level, files) in [(plan.level, &plan.inputs[0]), (plan.output_level, &plan.inputs[1])] {
            for file in files {
                let before = self.levels[level].len();
                self.levels[level].retain(|other| other.number != file.number);
                assert_eq!(self.levels[level].len() + 1, before, "an input was not there");
                if !plan.trivial_move {
                    self.contents.remove(&file.number);
                }
            }
        }
        if plan.trivial_move {
            self.moves += 1;
            self.levels[plan.output_level].extend(plan.inputs[0].iter().cloned());
        }
        for (meta, entries) in outputs {
            self.written_bytes += meta.bytes;
            self.contents.insert(meta.number, entries);
            self.levels[plan.output_level].push(meta);
        }
        let output = &mut self.levels[plan.output_level];
        if plan.output_level == 0 {
            output.sort_by(|a, b| newest_first(a, b));
        } else {
            output.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            let disjoint = output.windows(2).all(|pair| pair[0].range().is_before(&pair[1].smallest));
            assert!(disjoint, "L{} overlaps itself after {plan}", plan.output_level);
        }
        self.busy.finish(id);
    }

    /// The sequence number of the value that a read finds.
    fn read(&self, key: u32) -> Option<u64> {
        if let Some(entry) = self.memtable.get(&key) {
            return entry.live.then_some(entry.sequence);
        }
        let bytes = key.to_be_bytes();
        let found = self.levels.iter().flatten().filter(|file| file.covers(&bytes)).find_map(|file| {
            let entries = &self.contents[&file.number];
            entries.binary_search_by_key(&key, |entry| entry.key).ok().map(|at| entries[at])
        })?;
        found.live.then_some(found.sequence)
    }

    fn check(&self, keys: u32, stride: usize) {
        for key in (0..keys).step_by(stride) {
            assert_eq!(self.read(key), self.model.get(&key).copied(), "key {key}");
        }
    }

    fn total_bytes(&self) -> u64 {
        self.shape().bytes.iter().sum()
    }

    fn space_amplification(&self) -> f64 {
        self.total_bytes() as f64 / (self.model.len() as u64 * ENTRY_BYTES).max(1) as f64
    }

    fn write_amplification(&self) -> f64 {
        self.written_bytes as f64 / self.user_bytes.max(1) as f64
    }

    fn report(&self, name: &str) {
        println!(
            "{name}: write amplification {:.2}, space amplification {:.3}, deepest L0 {}, moves {}, jobs at once {}, \
             levels {:?}, jobs {:?}",
            self.write_amplification(),
            self.space_amplification(),
            self.depth_max,
            self.moves,
            self.jobs_at_once_max,
            self.shape().bytes.map(|bytes| bytes / self.options.table_bytes),
            self.reasons
                .iter()
                .map(|(r, (jobs, bytes))| format!("{} {jobs} {bytes}", r.name()))
                .collect::<Vec<_>>(),
        );
    }
}

/// A permutation of `0..keys` that jumps about.
fn scramble(key: u32, keys: u32) -> u32 {
    (u64::from(key) * 48_271 % u64::from(keys)) as u32
}

/// Whether no file of the levels below holds `key`. Keys come ascending; `at` is where the last search ended.
fn is_base(below: &[Vec<Arc<FileMeta>>], at: &mut [usize], key: u32) -> bool {
    let key = key.to_be_bytes();
    below.iter().zip(at).all(|(files, at)| {
        while files.get(*at).is_some_and(|file| file.range().is_before(&key)) {
            *at += 1;
        }
        !files.get(*at).is_some_and(|file| file.covers(&key))
    })
}

#[test]
fn uniform_overwrites() {
    for (keys, threads) in [(20_000u32, 1), (40_000, 2), (150_000, 4)] {
        let mut world = World::new(u64::from(keys), threads);
        (0..keys).for_each(|key| world.write(scramble(key, keys), true));
        world.settle();
        (world.user_bytes, world.written_bytes) = (0, 0);
        for _ in 0..600_000 {
            let key = world.rng.below(u64::from(keys)) as u32;
            world.write(key, true);
        }
        let amplification = world.write_amplification();
        world.check(keys, 7);
        world.settle();
        world.check(keys, 1);
        world.report(&format!("uniform overwrites of {keys} keys, {threads} threads"));
        assert!(amplification < 15.0);
        assert!(world.space_amplification() <= 1.25);
        assert!(world.depth_max <= 12);
        assert_eq!(debt_bytes(&world.shape(), &world.options), 0);
    }
}

#[test]
fn sequential_writes_are_only_moved() {
    let mut world = World::new(1, 2);
    (0..200_000).for_each(|key| world.write(key, true));
    world.settle();
    world.check(200_000, 3);
    world.report("sequential writes");
    assert!(world.write_amplification() < 1.05);
    assert!(world.space_amplification() < 1.01);
}

#[test]
fn skewed_overwrites() {
    let keys = 60_000;
    let mut world = World::new(2, 3);
    for _ in 0..600_000 {
        let hot = world.rng.below(10) > 0;
        let key = world.rng.below(if hot { keys / 20 } else { keys }) as u32;
        world.write(scramble(key, keys as u32), true);
    }
    world.settle();
    world.check(keys as u32, 1);
    world.report("skewed overwrites");
    assert!(world.write_amplification() < 15.0);
    assert!(world.space_amplification() <= 1.25);
}

#[test]
fn a_queue_leaves_no_trash() {
    let mut world = World::new(3, 2);
    for key in 0..200_000u32 {
        world.write(key, true);
        if key >= 10_000 {
            world.write(key - 10_000, false);
        }
    }
    world.settle();
    world.check(200_000, 3);
    world.report("queue");
    assert!(world.write_amplification() < 15.0);
    assert!(world.total_bytes() < 30_000 * ENTRY_BYTES);
}

#[test]
fn deleting_everything_frees_everything() {
    let keys = 60_000u32;
    let mut world = World::new(4, 2);
    for _ in 0..2 {
        (0..keys).for_each(|key| world.write(key, true));
        world.settle();
        (0..keys).for_each(|key| world.write(scramble(key, keys), false));
        world.settle();
        world.check(keys, 1);
        world.report("delete everything");
        assert_eq!(world.total_bytes(), 0);
    }
}

#[test]
fn shrinking_and_growing_again() {
    let keys = 100_000u32;
    let mut world = World::new(5, 3);
    for round in 0..3u64 {
        (0..keys).for_each(|key| world.write(scramble(key, keys), true));
        for _ in 0..300_000 {
            let key = world.rng.below(u64::from(keys)) as u32;
            world.write(key, key % 10 == (round % 10) as u32);
        }
        world.check(keys, 11);
        world.settle();
        world.check(keys, 1);
        world.report("shrink");
        assert!(
            world.space_amplification() < 1.7,
            "much of it is live, the rest are deletes above the last level"
        );
    }
}

#[test]
fn a_manual_compaction_ends_in_the_last_level() {
    let keys = 50_000;
    let mut world = World::new(6, 3);
    for _ in 0..200_000 {
        let key = world.rng.below(keys) as u32;
        let live = world.rng.below(4) > 0;
        world.write(key, live);
    }
    world.flush();
    world.manual = Some(ManualCompaction::of(KeyRange::ALL.to_owned()));
    assert!(!manual_is_done(&world.input(&CoveredBytes::new())));
    world.work(u64::MAX);
    assert!(manual_is_done(&world.input(&CoveredBytes::new())));
    world.check(keys as u32, 1);
    world.report("manual");
    assert_eq!(world.total_bytes(), world.model.len() as u64 * ENTRY_BYTES);
    assert!(world.levels[..BOTTOM].iter().all(Vec::is_empty));
}

#[test]
fn old_files_are_rewritten_once() {
    let mut world = World::new(7, 2);
    (0..20_000).for_each(|key| world.write(key, true));
    world.settle();
    world.options.age_ms = 24 * HOUR_MS;
    world.now_ms += 30 * 24 * HOUR_MS;
    let before = world.written_bytes;
    world.work(u64::MAX);
    assert_eq!(world.written_bytes - before, world.total_bytes());
    assert!(world.levels.iter().flatten().all(|file| file.created_ms == world.now_ms));
    assert!(pick(&world.input(&CoveredBytes::new())).is_none());
}

#[test]
fn stuck_l0_is_merged_within_itself() {
    let mut world = World::new(8, 1);
    for _ in 0..40 {
        (0..MEMTABLE_ENTRIES as u32).for_each(|key| {
            world.sequence += 1;
            world.model.insert(key, world.sequence);
            world.memtable.insert(key, Entry { key, sequence: world.sequence, live: true });
        });
        world.flush();
        // The first job out of L0 never ends; only merges within L0 do.
        while let Some(plan) = pick(&world.input(&CoveredBytes::new())) {
            let stuck = plan.reason != Reason::IntraL0;
            world.start(plan);
            if !stuck {
                let job = world.jobs.pop().unwrap();
                world.finish(job);
            }
        }
        world.check(MEMTABLE_ENTRIES as u32, 13);
    }
    assert!(world.reasons[&Reason::IntraL0].0 > 0);
    assert!(world.shape().l0_depth < 16);
    world.settle();
    world.check(MEMTABLE_ENTRIES as u32, 1);
}
