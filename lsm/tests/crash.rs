//! Crash states: a random workload on the in-memory disk is cut before every write, sync and rename; each disk that a crash
//! could have left is opened, and what it holds must be a prefix of the commit order with everything that was acknowledged in
//! its class. A killed process keeps what was handed to the system; a power cut keeps what was synced.
//!
//! `HAYPILE_SEEDS=n` runs n seeds (10,000 for a night), from `HAYPILE_FROM` on, `HAYPILE_SEED=s` one; the seed is in every failure.

mod common;

use common::{
    Model, Write, apply, assert_same, batch_of, content, open, random_key, random_value, random_writes, scan,
};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::{CrashPolicy, Durability, KeyspaceId, MemEnv, Options, WriteOptions};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Seeds beyond the usual ones that once found something: 410 lost the front of the first needed segment, but not its records.
const ONCE_FAILED: [u64; 1] = [410];

/// The key that each batch sets to its number.
const COUNTER: &[u8] = b"~commit";

struct Cut {
    disk: Arc<MemEnv>,
    policy: CrashPolicy,
    /// The recovered state must hold at least this many commits.
    at_least: u64,
    /// And no more than were begun.
    at_most: u64,
    operation: u64,
}

#[derive(Default)]
struct Acknowledged {
    begun: AtomicU64,
    os: AtomicU64,
    synced: AtomicU64,
}

fn policies(rng: &mut Rng) -> CrashPolicy {
    match rng.below(5) {
        0 => CrashPolicy::ProcessKill,
        1 => CrashPolicy::DropUnsynced,
        2 => CrashPolicy::Reorder,
        _ => CrashPolicy::KeepRandom { percent: 10 + rng.below(80) as u8 },
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let env = MemEnv::new();
    let options = Options::tiny();
    let (db, keyspaces) = open(env.clone(), options.clone()).unwrap();
    let acknowledged = Arc::new(Acknowledged::default());
    let cuts = Arc::new(Mutex::new(Vec::new()));
    hook(&env, seed, &acknowledged, &cuts);

    // states[n] is the model after n commits.
    let mut states = vec![Model::new()];
    for number in 1..=60u64 {
        let mut writes = random_writes(&mut rng);
        writes.push(Write::Put(0, COUNTER.to_vec(), number.to_string().into_bytes()));
        let mut model = states[states.len() - 1].clone();
        apply(&mut model, &writes, &keyspaces);
        states.push(model);
        acknowledged.begun.store(number, Ordering::SeqCst);
        let durability = match rng.below(4) {
            0 => Durability::Memory,
            1 | 2 => Durability::Os,
            _ => Durability::Synced,
        };
        db.write(&batch_of(&writes, &keyspaces), &WriteOptions { durability, ..WriteOptions::default() })
            .unwrap();
        if durability >= Durability::Os {
            acknowledged.os.store(number, Ordering::SeqCst);
        }
        if durability == Durability::Synced {
            acknowledged.synced.store(number, Ordering::SeqCst);
        }
        match rng.below(8) {
            0 => {
                db.step().unwrap();
            }
            1 => db.flush(keyspaces[rng.below(2) as usize]).unwrap(),
            2 if rng.one_in(3) => db.wait_idle().unwrap(),
            3 if rng.one_in(6) => db.compact_range(keyspaces[0], None, None).unwrap(),
            _ => {}
        }
        // A long value now and then, so that segments and memtables turn over.
        if rng.one_in(10) {
            let _ = (random_key(&mut rng), random_value(&mut rng));
        }
    }
    env.set_operation_hook(None);
    drop(db);
    for cut in cuts.lock().unwrap().drain(..) {
        examine(seed, &cut, &states, &keyspaces, &options);
    }
}

/// Clones the disk before operations, as crashes would leave it.
fn hook(env: &Arc<MemEnv>, seed: u64, acknowledged: &Arc<Acknowledged>, cuts: &Arc<Mutex<Vec<Cut>>>) {
    let (disk, acknowledged, cuts) = (Arc::downgrade(env), acknowledged.clone(), cuts.clone());
    let rng = Mutex::new(Rng::new(seed ^ 0xc4a5));
    env.set_operation_hook(Some(Arc::new(move |operation, _| {
        let Some(disk) = disk.upgrade() else { return };
        let mut rng = rng.lock().unwrap();
        let policy = policies(&mut rng);
        let at_least = match policy {
            CrashPolicy::ProcessKill => acknowledged.os.load(Ordering::SeqCst),
            _ => acknowledged.synced.load(Ordering::SeqCst),
        };
        let at_most = acknowledged.begun.load(Ordering::SeqCst);
        let disk = disk.crash_clone(policy, rng.next_u64());
        cuts.lock().unwrap().push(Cut { disk, policy, at_least, at_most, operation });
    })));
}

fn examine(seed: u64, cut: &Cut, states: &[Model], keyspaces: &[KeyspaceId; 2], options: &Options) {
    let context = format!("seed {seed}, cut before operation {} with {:?}", cut.operation, cut.policy);
    let (db, found) =
        open(cut.disk.clone(), options.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(found, *keyspaces, "{context}");
    let number = db
        .get(keyspaces[0], COUNTER, &haypile_lsm::ReadOptions::default())
        .unwrap()
        .map_or(0, |value| String::from_utf8(value).unwrap().parse::<u64>().unwrap());
    assert!(
        (cut.at_least..=cut.at_most).contains(&number),
        "{context}: recovered {number} commits of {} acknowledged, {} begun",
        cut.at_least,
        cut.at_most
    );
    let model = &states[number as usize];
    for &keyspace in keyspaces {
        assert_same(
            &scan(&db, keyspace, None),
            &content(model, keyspace),
            &format!("{context}: after {number}"),
        );
    }
    // It goes on from there, and a second crash right after the recovery changes nothing.
    if seed.is_multiple_of(4) {
        let again = cut.disk.crash_clone(CrashPolicy::DropUnsynced, seed);
        drop(db);
        let (db, _) =
            open(again, options.clone()).unwrap_or_else(|error| panic!("{context}, again: {error}"));
        for &keyspace in keyspaces {
            assert_same(
                &scan(&db, keyspace, None),
                &content(model, keyspace),
                &format!("{context}: second crash"),
            );
        }
    }
}

#[test]
fn every_crash_leaves_a_prefix() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("HAYPILE_SEED"), number("HAYPILE_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => {
            let from = number("HAYPILE_FROM").unwrap_or(1);
            (from..from + count).collect()
        }
        (None, None) => (1..=200).chain(ONCE_FAILED).collect(),
    };
    for seed in seeds {
        run(seed);
    }
}
