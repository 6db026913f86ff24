//! Failing disks. One scenario (open, writes, flushes, a compaction, a checkpoint, close, open again) is run over and over while its
//! first, second, ... operation on the disk fails, until it no longer notices; once alone and once with everything after it.
//!
//! Whatever fails: no panic, no hang; what was acknowledged is there when the database is opened again, whole and in order; after a
//! failure that leaves the log or the manifest in doubt nothing more is acknowledged; a full disk leaves nothing behind and heals.

mod common;

use common::{
    Model, apply, assert_same, batch_of, content, db_path, open, random_writes, scan, small_blocks,
};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::env::filename::FileName;
use haypile_lsm::{
    CompactionHooks, CrashPolicy, Db, Durability, Env, Error, Fault, FaultEnv, FaultKind, FilterDecision,
    IterOptions, KeyspaceId, MemEnv, Operations, Options, ReadOptions, Result, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Numbers of the keyspaces that `open` makes.
const KEYSPACES: [KeyspaceId; 2] = [1, 2];

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn options() -> Options {
    Options { wal_segment_bytes: 4 << 10, wal_total_bytes: 16 << 10, ..Options::tiny() }
}

fn durable(durability: Durability) -> WriteOptions {
    WriteOptions { durability, ..WriteOptions::default() }
}

fn try_scan(db: &Db, keyspace: KeyspaceId) -> Result<Entries> {
    let mut iter = db.iter(keyspace, IterOptions::default())?;
    let mut found = Vec::new();
    iter.seek_to_first()?;
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next()?;
    }
    Ok(found)
}

/// What a run did, and which states may be found after it.
struct Run {
    disk: Arc<MemEnv>,
    env: Arc<FaultEnv>,
    rng: Rng,
    context: String,
    /// The state after each acknowledged commit; the first is empty.
    states: Vec<Model>,
    /// So many commits are on the disk for sure.
    synced: usize,
    /// The state with the one commit whose outcome is unknown.
    unknown: Option<Model>,
}

impl Run {
    fn new(context: String) -> Run {
        let disk = MemEnv::new();
        let env = FaultEnv::new(disk.clone());
        Run { disk, env, rng: Rng::new(77), context, states: vec![Model::new()], synced: 0, unknown: None }
    }

    fn last(&self) -> &Model {
        &self.states[self.states.len() - 1]
    }

    /// Passes over an error that a failing disk may cause; damage and callers' mistakes are none.
    fn tolerate<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Io { .. } | Error::NoSpace { .. } | Error::Poisoned(_)) => None,
            Err(error) => panic!("{}: {error}", self.context),
        }
    }

    fn commits(&mut self, db: &Db, count: u32) {
        for i in 0..count {
            self.commit(db, if i % 3 == 2 { Durability::Synced } else { Durability::Os });
        }
    }

    fn commit(&mut self, db: &Db, durability: Durability) {
        let writes = random_writes(&mut self.rng);
        let mut next = self.last().clone();
        apply(&mut next, &writes, &KEYSPACES);
        let poisoned_before = db.poisoned().is_some();
        match db.write(&batch_of(&writes, &KEYSPACES), &durable(durability)) {
            Ok(_) => {
                assert!(!poisoned_before, "{}: acknowledged after a failure", self.context);
                self.states.push(next);
                if durability == Durability::Synced {
                    self.synced = self.states.len() - 1;
                }
            }
            Err(error) => {
                if db.poisoned().is_some() && !poisoned_before {
                    self.unknown = Some(next);
                }
                self.tolerate::<()>(Err(error));
            }
        }
    }

    /// Whether a database holds the state after one of `first..` commits, or the one in doubt.
    fn holds(&self, db: &Db, first: usize) -> Option<bool> {
        let found = KEYSPACES.map(|keyspace| self.tolerate(try_scan(db, keyspace)));
        let [Some(a), Some(b)] = found else { return None };
        let same = |model: &Model| a == content(model, KEYSPACES[0]) && b == content(model, KEYSPACES[1]);
        Some(self.states[first..].iter().chain(&self.unknown).any(same))
    }

    /// What the running database shows: all that was acknowledged; if it is poisoned, a prefix with all that is on the disk.
    fn look(&self, db: &Db) {
        let first = if db.poisoned().is_some() { self.synced } else { self.states.len() - 1 };
        assert_ne!(self.holds(db, first), Some(false), "{}: the running database", self.context);
    }

    /// The database on a copy of the disk, where nothing fails any more.
    fn reopened(&self, policy: CrashPolicy, path: &Path) -> Db {
        let open = Db::open(self.disk.crash_clone(policy, 5), path, options());
        let db =
            open.unwrap_or_else(|error| panic!("{}, {policy:?}, {}: {error}", self.context, path.display()));
        for name in ["a", "b"] {
            db.keyspace_or_create(name, small_blocks()).unwrap();
        }
        db.verify().unwrap();
        db
    }

    /// After a life: what a process and a power cut would find. Settles what was in doubt.
    fn settle(&mut self) {
        let db = self.reopened(CrashPolicy::DropUnsynced, &db_path());
        assert_eq!(self.holds(&db, self.synced), Some(true), "{}: after a power cut", self.context);
        let db = self.reopened(CrashPolicy::ProcessKill, &db_path());
        assert_eq!(self.holds(&db, self.states.len() - 1), Some(true), "{}: opened again", self.context);
        if let Some(unknown) = self.unknown.take()
            && scan(&db, KEYSPACES[0], None) == content(&unknown, KEYSPACES[0])
            && scan(&db, KEYSPACES[1], None) == content(&unknown, KEYSPACES[1])
        {
            self.states.push(unknown);
        }
    }

    /// One life of the database, from open to close.
    fn life(&mut self, checkpoint: &Path) {
        let Some((db, keyspaces)) = self.tolerate(open(self.env.clone(), options())) else { return };
        assert_eq!(keyspaces, KEYSPACES, "{}", self.context);
        // What was replayed is on the disk.
        self.synced = self.states.len() - 1;
        self.commits(&db, 5);
        self.tolerate(db.flush(KEYSPACES[0]));
        self.commits(&db, 4);
        self.look(&db);
        self.tolerate(db.flush(KEYSPACES[1]));
        self.tolerate(db.compact_range(KEYSPACES[0], None, None));
        self.commits(&db, 2);
        if self.tolerate(db.checkpoint(checkpoint)).is_some() {
            let copy = self.reopened(CrashPolicy::DropUnsynced, checkpoint);
            assert_eq!(
                self.holds(&copy, self.states.len() - 1),
                Some(true),
                "{}: the checkpoint",
                self.context
            );
        }
        self.commits(&db, 4);
        self.tolerate(db.wait_idle());
        self.look(&db);
        if self.tolerate(db.close()).is_some() {
            self.synced = self.states.len() - 1;
        }
    }
}

fn sweep(operation: Operations, kind: FaultKind, sticky: bool) {
    for nth in 0.. {
        let mut run = Run::new(format!("{kind:?} at {nth}, sticky {sticky}"));
        run.env.inject(Fault { operation, path_contains: String::new(), nth, sticky, kind });
        run.life(Path::new("/first"));
        run.settle();
        run.life(Path::new("/second"));
        run.settle();
        let hits = run.env.hits();
        run.env.clear();
        run.life(Path::new("/third"));
        run.settle();
        assert!(run.synced + 15 > run.states.len());
        if hits == 0 {
            assert!(nth > 50, "the sweep ended early");
            return;
        }
    }
}

#[test]
fn any_operation_fails_once() {
    sweep(Operations::ALL, FaultKind::Eio, false);
}

#[test]
fn any_operation_fails_for_good() {
    sweep(Operations::ALL, FaultKind::Eio, true);
}

#[test]
fn a_write_is_torn() {
    sweep(Operations::WRITE, FaultKind::ShortWrite, false);
    sweep(Operations::WRITE, FaultKind::ShortWrite, true);
}

#[test]
fn the_disk_says_that_it_is_full() {
    let operations = Operations::CREATE | Operations::ALLOCATE | Operations::WRITE | Operations::SYNC;
    sweep(operations, FaultKind::NoSpace, false);
    sweep(operations, FaultKind::NoSpace, true);
}

/// After a failure that leaves the log in doubt nothing is acknowledged, even if the disk is well again; a restart heals.
#[test]
fn a_failed_log_poisons() {
    for (operation, kind) in [
        (Operations::WRITE, FaultKind::Eio),
        (Operations::WRITE, FaultKind::ShortWrite),
        (Operations::WRITE, FaultKind::NoSpace),
        (Operations::SYNC, FaultKind::Eio),
    ] {
        let env = FaultEnv::new(MemEnv::new());
        let (db, [a, _]) = open(env.clone(), options()).unwrap();
        db.put(a, b"k", b"old").unwrap();
        db.sync_wal(db.visible_lsn()).unwrap();
        env.inject(Fault::once(operation, kind).on(".wal"));
        let mut batch = haypile_lsm::WriteBatch::new();
        batch.put(a, b"k", b"new").unwrap();
        let error = db.write(&batch, &durable(Durability::Synced)).unwrap_err();
        assert!(matches!(error, Error::Poisoned(_)), "{operation:?}: {error}");
        env.clear();
        assert!(db.poisoned().is_some() && !db.wal_has_room());
        for refused in [
            db.put(a, b"x", b"y").err(),
            db.delete(a, b"k").err(),
            db.write(&batch, &WriteOptions { disable_wal: true, ..WriteOptions::default() }).err(),
            db.flush(a).err(),
            db.compact_range(a, None, None).err(),
            db.keyspace_or_create("c", small_blocks()).err(),
            db.drop_keyspace(a).err(),
            db.checkpoint(Path::new("/copy")).err(),
            db.sync_wal(db.visible_lsn()).err(),
        ] {
            assert!(matches!(refused, Some(Error::Poisoned(_))), "{operation:?}: {refused:?}");
        }
        // Reads stay at what is on the disk: nobody sees what a restart may take back.
        assert_eq!(db.get(a, b"k", &ReadOptions::default()).unwrap().unwrap(), b"old");
        assert_eq!(scan(&db, a, None), [(b"k".to_vec(), b"old".to_vec())]);
        assert_eq!(db.snapshot().sequence(), db.synced_lsn());
        assert!(db.close().is_err());
        drop(db);
        let (db, _) = open(env, options()).unwrap();
        let value = db.get(a, b"k", &ReadOptions::default()).unwrap().unwrap();
        assert!(value == b"old" || value == b"new");
        db.put(a, b"x", b"y").unwrap();
    }
}

#[test]
fn a_failed_manifest_poisons() {
    for (operation, kind) in [
        (Operations::WRITE, FaultKind::Eio),
        (Operations::WRITE, FaultKind::ShortWrite),
        (Operations::SYNC, FaultKind::Eio),
    ] {
        let env = FaultEnv::new(MemEnv::new());
        let (db, [a, _]) = open(env.clone(), options()).unwrap();
        db.put(a, b"k", b"v").unwrap();
        env.inject(Fault::once(operation, kind).on("MANIFEST"));
        assert!(db.flush(a).is_err());
        env.clear();
        assert!(matches!(db.put(a, b"x", b"y"), Err(Error::Poisoned(_))));
        assert_eq!(db.get(a, b"k", &ReadOptions::default()).unwrap().unwrap(), b"v");
        drop(db);
        let (db, _) = open(env, options()).unwrap();
        assert_eq!(scan(&db, a, None), [(b"k".to_vec(), b"v".to_vec())]);
        db.put(a, b"x", b"y").unwrap();
        db.flush(a).unwrap();
    }
}

/// What fails before a byte of a record was written leaves nothing behind.
#[test]
fn a_failed_table_is_written_again() {
    for (operation, path) in [
        (Operations::CREATE, ".sst"),
        (Operations::WRITE, ".sst"),
        (Operations::SYNC, ".sst"),
        (Operations::SYNC_DIR, "/db"),
        (Operations::ALLOCATE, "MANIFEST"),
    ] {
        let disk = MemEnv::new();
        let env = FaultEnv::new(disk.clone());
        let (db, [a, _]) = open(env.clone(), options()).unwrap();
        // A manifest reserves room in large steps: fill the first one.
        for i in 0..if path == "MANIFEST" { 900 } else { 1 } {
            db.put(a, b"k", format!("{i}").as_bytes()).unwrap();
            db.flush(a).unwrap();
        }
        db.put(a, b"k", b"v").unwrap();
        env.inject(Fault::always(operation, FaultKind::NoSpace).on(path));
        let failed = (0..1000).find_map(|_| {
            db.put(a, b"k", b"v").unwrap();
            db.flush(a).err()
        });
        assert!(failed.is_some_and(|error| error.is_no_space()), "{operation:?} {path}");
        assert_eq!(db.poisoned(), None);
        env.clear();
        db.flush(a).unwrap();
        assert_eq!(scan(&db, a, None), [(b"k".to_vec(), b"v".to_vec())]);
        db.wait_idle().unwrap();
        db.close().unwrap();
        let tables =
            disk.list_all().iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).count();
        assert!(tables <= 2, "{tables} tables");
    }
}

fn fill_up(disk: &Arc<MemEnv>) {
    disk.set_capacity_bytes(Some(40 << 12));
    let (db, [a, b]) = open(disk.clone(), options()).unwrap();
    let mut model = Model::new();
    let mut rng = Rng::new(3);
    let mut refused = 0;
    for turn in 0..3000 {
        let key = format!("k{:04}", rng.below(2000)).into_bytes();
        let value = vec![b'0' + (turn % 10) as u8; 50 + rng.below(100) as usize];
        match db.put(a, &key, &value) {
            Ok(_) => {
                model.insert((a, key), value);
            }
            Err(error) => {
                assert!(error.is_no_space(), "{error}");
                refused += 1;
            }
        }
        // In a stepped environment a full disk is what the work answers.
        match db.step() {
            Err(error) if !error.is_no_space() => panic!("{error}"),
            _ => {}
        }
        if refused > 20 {
            break;
        }
    }
    assert!(refused > 20 && model.len() > 100, "{refused} refused, {} keys", model.len());
    assert_eq!(db.poisoned(), None);
    assert_same(&scan(&db, a, None), &content(&model, a), "the disk is full");
    // Who waits is told, and does not wait for space.
    disk.set_capacity_bytes(Some(1));
    assert!(db.flush(a).unwrap_err().is_no_space());
    disk.set_capacity_bytes(None);
    db.put(b, b"there is", b"space again").unwrap();
    model.insert((b, b"there is".to_vec()), b"space again".to_vec());
    // A try that began while the disk was full may still fail.
    while db.flush(a).is_err_and(|error| error.is_no_space()) {}
    while db.wait_idle().is_err_and(|error| error.is_no_space()) {}
    db.close().unwrap();
    drop(db);
    let (db, _) = open(disk.clone(), options()).unwrap();
    assert_same(&scan(&db, a, None), &content(&model, a), "opened again");
    assert_same(&scan(&db, b, None), &content(&model, b), "opened again");
    db.verify().unwrap();
}

#[test]
fn a_full_disk_heals() {
    fill_up(&MemEnv::new());
}

#[test]
fn a_full_disk_heals_under_threads() {
    fill_up(&MemEnv::threaded());
}

/// A hook that panics on a background thread.
#[derive(Debug)]
struct Panics;

impl CompactionHooks for Panics {
    fn filter(&self, _key: &[u8], _head: &[u8]) -> FilterDecision {
        panic!("a hook of the test's own");
    }
}

/// A thread that is no more keeps nobody waiting: writes are refused with the reason, reads go on, close returns.
#[test]
fn a_panic_of_a_background_thread_poisons() {
    let disk = MemEnv::threaded();
    let hooks = [("a".to_string(), Arc::new(Panics) as Arc<dyn CompactionHooks>)].into();
    let (db, [a, _]) = open(disk, Options { hooks, ..options() }).unwrap();
    let refused = (0..100_000).find_map(|i| db.put(a, b"k", format!("{i}").as_bytes()).err()).unwrap();
    assert!(refused.to_string().contains("panicked"), "{refused}");
    assert!(db.poisoned().is_some_and(|why| why.contains("haypile-")));
    assert!(db.flush(a).is_err());
    assert!(db.get(a, b"k", &ReadOptions::default()).unwrap().is_some());
    db.close().unwrap_err();
}

/// With L0 at its bound writers wait for compaction. If that cannot go on because the disk is full they must not wait for ever: they write
/// until the log has no room, and hear of it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a writer of the test's own, not background work")]
fn nobody_waits_for_a_compaction_that_has_no_space() {
    let disk = MemEnv::threaded();
    let (db, [a, _]) = open(disk.clone(), Options { l0_compaction_trigger: 1000, ..options() }).unwrap();
    for i in 0..15 {
        db.put(a, b"k", format!("{i}").as_bytes()).unwrap();
        db.flush(a).unwrap();
    }
    db.close().unwrap();
    drop(db);
    let env = FaultEnv::new(disk.clone());
    env.inject(Fault::always(Operations::CREATE, FaultKind::NoSpace).on(".sst"));
    let db = Arc::new(open(env.clone(), Options { l0_compaction_trigger: 1, ..options() }).unwrap().0);
    let (done, written) = std::sync::mpsc::channel();
    let writer = {
        let db = db.clone();
        std::thread::spawn(move || done.send((0..10).try_for_each(|_| db.put(a, b"k", b"v").map(drop))))
    };
    written.recv_timeout(Duration::from_secs(20)).expect("the writer waits").unwrap();
    writer.join().unwrap().unwrap();
    env.clear();
    // A try that began while the disk was full may still fail.
    while db.wait_idle().is_err_and(|error| error.is_no_space()) {}
    assert_eq!(scan(&db, a, None), [(b"k".to_vec(), b"v".to_vec())]);
    // The merged ones are removed once no reader holds them, which a moment after the scan may still be.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while tables(&disk).len() > 2 {
        assert!(std::time::Instant::now() < deadline, "{:?}", tables(&disk));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn tables(disk: &MemEnv) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| matches!(FileName::parse(path), Some(FileName::Table(_)));
    disk.list_all().into_iter().filter(is_table).collect()
}

/// A damaged table fails the reads that need it; other keys, other keyspaces, writes and flushes go on.
#[test]
fn a_damaged_table_fails_only_its_reads() {
    for disk in [MemEnv::new(), MemEnv::threaded()] {
        let (db, [a, b]) = open(disk.clone(), Options { block_cache_bytes: 0, ..options() }).unwrap();
        for i in 0..100 {
            db.put(a, format!("k{i:03}").as_bytes(), &[b'v'; 30]).unwrap();
        }
        db.flush(a).unwrap();
        db.compact_range(a, None, None).unwrap();
        let damaged = tables(&disk);
        damaged.iter().for_each(|path| disk.flip_bit(path, 3, 1).unwrap());
        db.put(b, b"k", b"v").unwrap();
        db.flush(b).unwrap();
        let (mut good, mut bad) = (0, 0);
        for i in 0..100 {
            match db.get(a, format!("k{i:03}").as_bytes(), &ReadOptions::default()) {
                Ok(value) => good += usize::from(value.unwrap() == [b'v'; 30]),
                Err(Error::Corruption { file, offset, .. }) => {
                    assert!(damaged.contains(&file) && offset == 0);
                    bad += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(good > 50 && bad > 0, "{good} and {bad}");
        assert!(try_scan(&db, a).unwrap_err().is_corruption());
        assert!(db.verify().unwrap_err().is_corruption());
        // The compaction fails, for it needs the damaged block; that is its own affair.
        db.put(a, b"k000", b"new").unwrap();
        assert!(db.compact_range(a, None, None).unwrap_err().is_corruption());
        assert_eq!(db.poisoned(), None);
        for i in 0..5 {
            db.put(a, b"k000", format!("newer {i}").as_bytes()).unwrap();
            db.put(b, b"k", format!("newer {i}").as_bytes()).unwrap();
            db.flush(a).unwrap();
            db.flush(b).unwrap();
        }
        assert_eq!(db.get(a, b"k000", &ReadOptions::default()).unwrap().unwrap(), b"newer 4");
        assert_eq!(db.get(b, b"k", &ReadOptions::default()).unwrap().unwrap(), b"newer 4");
        db.compact_range(b, None, None).unwrap();
        db.close().unwrap();
    }
}

/// Whatever fails while threads are being started: opening fails, and nothing of it lives on.
#[test]
fn a_failed_open_leaves_no_threads() {
    let disk = MemEnv::threaded();
    let env = FaultEnv::new(disk.clone());
    let mut failed = 0;
    for operation in [Operations::SPAWN, Operations::MUTATING] {
        for nth in 0.. {
            disk.remove_dir_all(&db_path()).unwrap();
            env.clear();
            env.inject(Fault::once(operation, FaultKind::Eio).after(nth));
            let opened = Db::open(env.clone(), &db_path(), options());
            if env.hits() == 0 {
                break;
            }
            failed += usize::from(opened.is_err());
            drop(opened);
            let db = Db::open(disk.clone(), &db_path(), options());
            db.unwrap_or_else(|error| panic!("{operation:?} {nth}: {error}")).close().unwrap();
        }
    }
    assert!(failed > 10, "{failed}");
}

/// Wherever making a checkpoint is cut off, what is there is no database yet, or all of it.
#[test]
fn a_half_made_checkpoint_is_none() {
    let disk = MemEnv::new();
    let (db, [a, _]) = open(disk.clone(), options()).unwrap();
    db.put(a, b"in a table", b"v").unwrap();
    db.flush(a).unwrap();
    db.put(a, b"in the log", b"v").unwrap();
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let (weak, kept) = (Arc::downgrade(&disk), cuts.clone());
    disk.set_operation_hook(Some(Arc::new(move |number, _| {
        let policy = if number % 2 == 0 { CrashPolicy::ProcessKill } else { CrashPolicy::Reorder };
        kept.lock().unwrap().extend(weak.upgrade().map(|disk| disk.crash_clone(policy, number)));
    })));
    db.checkpoint(Path::new("/copy")).unwrap();
    disk.set_operation_hook(None);
    cuts.lock().unwrap().push(disk.crash_clone(CrashPolicy::DropUnsynced, 1));
    let mut whole = 0;
    for (number, cut) in cuts.lock().unwrap().drain(..).enumerate() {
        match Db::open(cut, Path::new("/copy"), Options { create_if_missing: false, ..options() }) {
            Ok(copy) => {
                assert_eq!(scan(&copy, a, None).len(), 2, "cut {number}");
                whole += 1;
            }
            Err(error) => assert!(matches!(error, Error::InvalidArgument(_)), "cut {number}: {error}"),
        }
    }
    assert!(whole > 0);
}

/// A keyspace whose compaction meets damage neither holds up the compactions of others nor, in the end, everybody's writes.
#[test]
fn damage_in_one_keyspace_does_not_stall_another() {
    let disk = MemEnv::threaded();
    let (db, [a, b]) =
        open(disk.clone(), Options { compaction_threads: 1, block_cache_bytes: 0, ..options() }).unwrap();
    db.put(a, b"k", b"v").unwrap();
    db.flush(a).unwrap();
    tables(&disk).iter().for_each(|path| disk.flip_bit(path, 3, 1).unwrap());
    // Far more flushes than L0 may hold runs before writers have to wait for a compaction.
    for i in 0..60 {
        for keyspace in [a, b] {
            db.put(keyspace, b"k", format!("{i}").as_bytes()).unwrap();
            db.flush(keyspace).unwrap();
        }
    }
    assert!(db.metrics().background_errors > 0);
    let level0 = |name: &str| {
        let name = format!("keyspace_{name}_level0");
        let found = db.properties().into_iter().find(|(property, _)| *property == name);
        found.map_or(String::new(), |(_, level)| level)
    };
    assert!(level0("a").starts_with("files="), "{}", level0("a"));
    let mut rounds = 0;
    while !level0("b").is_empty() && !level0("b").starts_with("files=1,") {
        disk.sleep(std::time::Duration::from_millis(5));
        rounds += 1;
        assert!(rounds < 2000, "b: {}, a: {}", level0("b"), level0("a"));
    }
    assert!(db.write_delay(1000).is_none());
    assert_eq!(db.get(a, b"k", &ReadOptions::default()).unwrap().unwrap(), b"59");
    assert!(matches!(db.wait_idle(), Err(error) if error.is_corruption()));
}
