//! The engine against a BTreeMap: random batches, snapshots, iterators both ways, flushes, compactions, reopens and killed
//! processes in between, on sizes so small that a few hundred writes run every path.
//!
//! `HAYPILE_SEEDS=n` runs n seeds, `HAYPILE_SEED=s` one; the seed is in every failure.

mod common;

use common::{Model, apply, batch_of, check, content, open, random_key, random_writes};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{
    CrashPolicy, Db, Durability, IterOptions, KeyspaceId, MemEnv, Options, ReadOptions, Snapshot,
    WriteOptions,
};
use std::sync::Arc;

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAYPILE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("HAYPILE_SEEDS").unwrap_or(default)).collect(),
    }
}

/// A database, its model, and snapshots with theirs.
struct Pair {
    env: Arc<MemEnv>,
    db: Db,
    keyspaces: [KeyspaceId; 2],
    model: Model,
    snapshots: Vec<(Snapshot, Model)>,
    options: Options,
}

impl Pair {
    fn new(options: Options) -> Pair {
        let env = MemEnv::new();
        let (db, keyspaces) = open(env.clone(), options.clone()).unwrap();
        Pair { env, db, keyspaces, model: Model::new(), snapshots: Vec::new(), options }
    }

    fn reopen(&mut self, env: Arc<MemEnv>) {
        self.snapshots.clear();
        self.env = env;
        let (db, keyspaces) = open(self.env.clone(), self.options.clone()).unwrap();
        self.db = db;
        assert_eq!(self.keyspaces, keyspaces);
    }

    fn turn(&mut self, rng: &mut Rng, context: &str) {
        let choice = rng.below(100);
        if std::env::var_os("HAYPILE_TRACE").is_some() {
            eprintln!("{context}: choice {choice}");
        }
        match choice {
            0..=69 => {
                let writes = random_writes(rng);
                let durability = match rng.below(3) {
                    0 => Durability::Memory,
                    1 => Durability::Os,
                    _ => Durability::Synced,
                };
                let options = WriteOptions { durability, ..WriteOptions::default() };
                self.db.write(&batch_of(&writes, &self.keyspaces), &options).unwrap();
                apply(&mut self.model, &writes, &self.keyspaces);
            }
            70..=77 => {
                self.db.step().unwrap();
            }
            78..=79 => self.db.flush(self.keyspaces[rng.below(2) as usize]).unwrap(),
            80 => self.db.wait_idle().unwrap(),
            81 => {
                let (x, y) = (random_key(rng), random_key(rng));
                let (start, end) = if x < y { (Some(x), Some(y)) } else { (None, None) };
                let keyspace = self.keyspaces[rng.below(2) as usize];
                self.db.compact_range(keyspace, start.as_deref(), end.as_deref()).unwrap();
            }
            82..=85 => self.snapshots.push((self.db.snapshot(), self.model.clone())),
            86..=87 if !self.snapshots.is_empty() => {
                let at = rng.below(self.snapshots.len() as u64) as usize;
                self.snapshots.swap_remove(at);
            }
            88..=89 if !self.snapshots.is_empty() => {
                let at = rng.below(self.snapshots.len() as u64) as usize;
                let (snapshot, model) = &self.snapshots[at];
                check(&self.db, model, &self.keyspaces, Some(snapshot.sequence()), context);
            }
            90..=95 => self.walk(rng, context),
            96 => {
                // What is only in the process's memory is handed over first, as a clean stop would.
                self.db.flush_wal(self.db.visible_lsn()).unwrap();
                let killed = self.env.crash_clone(CrashPolicy::ProcessKill, rng.next_u64());
                self.reopen(killed);
                check(&self.db, &self.model, &self.keyspaces, None, context);
            }
            97 => {
                self.snapshots.clear();
                self.db.close().unwrap();
                self.reopen(self.env.clone());
                check(&self.db, &self.model, &self.keyspaces, None, context);
            }
            98 => self.db.verify().unwrap(),
            _ => check(&self.db, &self.model, &self.keyspaces, None, context),
        }
    }

    /// A bounded iterator that turns around now and then.
    fn walk(&self, rng: &mut Rng, context: &str) {
        let keyspace = self.keyspaces[rng.below(2) as usize];
        let bound = |rng: &mut Rng| rng.one_in(2).then(|| random_key(rng));
        let (lower, upper) = (bound(rng), bound(rng));
        let inside = |key: &[u8]| {
            lower.as_deref().is_none_or(|l| key >= l) && upper.as_deref().is_none_or(|u| key < u)
        };
        let entries =
            content(&self.model, keyspace).into_iter().filter(|(key, _)| inside(key)).collect::<Vec<_>>();
        let options =
            IterOptions { lower: lower.clone(), upper: upper.clone(), read: ReadOptions::default() };
        let mut iter = self.db.iter(keyspace, options).unwrap();
        let target = random_key(rng);
        let mut at = if rng.one_in(2) {
            iter.seek(&target).unwrap();
            entries.iter().position(|(key, _)| *key >= target)
        } else {
            iter.seek_before(&target).unwrap();
            entries.iter().rposition(|(key, _)| *key < target)
        };
        for _ in 0..rng.below(60) {
            let found = iter.valid().then(|| (iter.key().to_vec(), iter.value().to_vec()));
            let expected = at.map(|at| entries[at].clone());
            assert_eq!(found, expected, "walk in {lower:?}..{upper:?} from {target:?}: {context}");
            let Some(here) = at else { break };
            if rng.one_in(3) {
                iter.prev().unwrap();
                at = here.checked_sub(1);
            } else {
                iter.next().unwrap();
                at = Some(here + 1).filter(|&next| next < entries.len());
            }
        }
    }
}

fn run(seed: u64, turns: u32, options: Options) {
    let mut rng = Rng::new(seed);
    let mut pair = Pair::new(options);
    for turn in 0..turns {
        pair.turn(&mut rng, &format!("seed {seed}, turn {turn}"));
    }
    check(&pair.db, &pair.model, &pair.keyspaces, None, &format!("seed {seed}, end"));
    pair.db.verify().unwrap();
}

#[test]
fn behaves_as_a_map() {
    for seed in seeds(60) {
        run(seed, 400, Options::tiny());
    }
}

#[test]
fn behaves_as_a_map_without_a_cache() {
    for seed in seeds(15) {
        run(seed, 300, Options { block_cache_bytes: 0, ..Options::tiny() });
    }
}

#[test]
fn behaves_as_a_map_when_everything_is_a_level() {
    for seed in seeds(15) {
        let options =
            Options { l0_compaction_trigger: 1, table_bytes: 300, base_level_bytes: 600, ..Options::tiny() };
        run(seed, 300, options);
    }
}

#[test]
fn behaves_as_a_map_with_two_open_tables() {
    for seed in seeds(15) {
        let options =
            Options { open_tables_max: 2, block_cache_bytes: 2 << 10, table_bytes: 600, ..Options::tiny() };
        run(seed, 300, options);
    }
}
