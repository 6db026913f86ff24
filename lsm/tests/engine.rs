//! Every public call of the engine, by example: what it promises and what it refuses. The model tests say that it is right in general;
//! these say what it is.

mod common;

use common::{db_path, open, scan, scan_reverse, small_blocks};
use haypile_lsm::base::batch::BatchReader;
use haypile_lsm::env::filename::FileName;
use haypile_lsm::{
    CompactionHooks, CrashPolicy, Db, Durability, Env, Error, FilterDecision, IndexedBatch, IterOptions,
    KeyspaceId, KeyspaceOptions, MemEnv, Newer, Notes, Options, OsEnv, Overlay, ReadOptions, Result,
    WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn tiny() -> (Arc<MemEnv>, Db, [KeyspaceId; 2]) {
    let env = MemEnv::new();
    let (db, keyspaces) = open(env.clone(), Options::tiny()).unwrap();
    (env, db, keyspaces)
}

fn get(db: &Db, keyspace: KeyspaceId, key: &[u8]) -> Option<Vec<u8>> {
    db.get(keyspace, key, &ReadOptions::default()).unwrap()
}

fn get_at(db: &Db, keyspace: KeyspaceId, key: &[u8], sequence: u64) -> Option<Vec<u8>> {
    db.get(keyspace, key, &ReadOptions { sequence: Some(sequence), ..ReadOptions::default() }).unwrap()
}

fn keys(db: &Db, keyspace: KeyspaceId) -> Vec<String> {
    scan(db, keyspace, None).into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn batch(fill: impl FnOnce(&mut WriteBatch) -> Result<()>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    fill(&mut batch).unwrap();
    batch
}

fn count_files(env: &MemEnv, is: fn(&FileName) -> bool) -> usize {
    env.list_all().iter().filter_map(|path| FileName::parse(path)).filter(is).count()
}

fn is_invalid<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::InvalidArgument(_)))
}

/// Whether a walk from `key` on comes to another key before it has stepped over so many versions.
fn is_near(db: &Db, keyspace: KeyspaceId, key: &[u8], versions: u64) -> bool {
    let options = IterOptions { lower: Some(key.to_vec()), ..IterOptions::default() };
    let mut iter = db.iter(keyspace, options).unwrap();
    iter.stop_after(versions);
    iter.seek_to_first().unwrap();
    iter.stopped_behind().is_none()
}

#[test]
fn a_long_run_of_deletes_is_gone_within_a_minute() {
    const KEYS: u32 = 200_000;
    let env = MemEnv::new();
    let options = Options { memtable_bytes: 32 << 20, memtable_total_bytes: 96 << 20, ..Options::default() };
    let (db, keyspaces) = open(env.clone(), options).unwrap();
    let key = |number: u32| format!("k{number:07}").into_bytes();
    let write = |numbers: std::ops::Range<u32>, delete: bool| {
        for first in numbers.clone().step_by(1_000) {
            let batch = batch(|batch| {
                (first..first + 1_000).try_for_each(|number| match delete {
                    true => batch.delete(keyspaces[0], &key(number)),
                    false => batch.put(keyspaces[0], &key(number), b"value"),
                })
            });
            db.write(&batch, &WriteOptions::default()).unwrap();
        }
    };
    let settle = |seconds: u32| {
        for _ in 0..seconds {
            env.advance(Duration::from_secs(1));
            while db.step().unwrap() {}
        }
    };
    // Among much that stays, whether what is deleted has been flushed already or not.
    for flushed in [false, true] {
        write(0..KEYS, false);
        if flushed {
            db.flush(keyspaces[0]).unwrap();
            settle(20);
        }
        write(150_000..170_000, true);
        assert!(!is_near(&db, keyspaces[0], &key(150_000), 2_000));
        settle(60);
        assert!(is_near(&db, keyspaces[0], &key(150_000), 2_000), "flushed: {flushed}");
        assert_eq!(get(&db, keyspaces[0], &key(149_999)), Some(b"value".to_vec()));
        assert_eq!(get(&db, keyspaces[0], &key(150_000)), None);
    }
}

/// Keys that come while a walk is under way are not seen by it, and do not end it.
#[test]
fn walks_in_runs_pass_over_what_came_since() {
    let (db, keyspaces) = open(MemEnv::new(), Options::default()).unwrap();
    let key = |number: u32| format!("k{number:04}").into_bytes();
    for in_table in [false, true] {
        for number in 0..400 {
            db.put(keyspaces[0], &key(2 * number), b"v").unwrap();
        }
        if in_table {
            db.flush(keyspaces[0]).unwrap();
            for number in (0..400).step_by(40) {
                db.put(keyspaces[0], &key(2 * number), b"w").unwrap();
            }
        }
        for each in [1, 3, 7, 40] {
            let mut iter = db.iter(keyspaces[0], IterOptions::default()).unwrap();
            let (mut seen, mut shown) = (Vec::new(), 0);
            iter.seek_to_first().unwrap();
            while iter.valid() {
                shown += 1;
                iter.next().unwrap();
            }
            iter.seek_to_first().unwrap();
            iter.for_each(|key, _| {
                seen.push(key.to_vec());
                if seen.len().is_multiple_of(each) {
                    // Behind this key, and on the next one.
                    db.put(keyspaces[0], &[key, b"x"].concat(), b"new").unwrap();
                    db.delete(keyspaces[0], &[key, b"y"].concat()).unwrap();
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            assert!(!iter.valid());
            assert_eq!(seen.len(), shown, "each {each}, in a table: {in_table}");
            assert!(seen.is_sorted());
            for key in seen.iter().filter(|key| key.ends_with(b"x")) {
                db.delete(keyspaces[0], key).unwrap();
            }
        }
    }
}

#[test]
fn what_readers_walk_over_in_vain_is_cleared_away() {
    const KEYS: u32 = 20_000;
    let env = MemEnv::new();
    let options = Options { memtable_bytes: 32 << 20, memtable_total_bytes: 96 << 20, ..Options::default() };
    let (db, keyspaces) = open(env.clone(), options).unwrap();
    let key = |number: u32| format!("k{number:07}").into_bytes();
    for round in 0..3u32 {
        for number in 0..KEYS {
            // Of the last round only every fourth key stays.
            match round == 2 && number % 4 > 0 {
                true => db.delete(keyspaces[0], &key(number)).unwrap(),
                false => db.put(keyspaces[0], &key(number), &round.to_be_bytes()).unwrap(),
            };
        }
        db.flush(keyspaces[0]).unwrap();
        while db.step().unwrap() {}
    }
    let walk = || {
        let mut iter = db.iter(keyspaces[0], IterOptions::prefix(b"k")).unwrap();
        let mut count = 0;
        iter.seek_to_first().unwrap();
        while iter.valid() {
            count += 1;
            iter.next().unwrap();
        }
        assert_eq!(count, KEYS / 4);
    };
    let files = || {
        let named = |name: &str| name.starts_with("keyspace_a_level");
        db.properties().into_iter().filter(|(name, _)| named(name)).collect::<Vec<_>>()
    };
    let before = files();
    walk();
    while db.step().unwrap() {}
    assert_eq!(files(), before, "one walk does not pay for a compaction");
    (0..4).for_each(|_| walk());
    while db.step().unwrap() {}
    let after = files();
    assert!(after.len() == 1 && after[0].0.contains("level6"), "{before:?} {after:?}");
    walk();
}

#[test]
fn a_database_that_is_opened_often_keeps_few_segments() {
    let env = MemEnv::new();
    for turn in 0..40u32 {
        let (db, keyspaces) = open(env.clone(), Options::tiny()).unwrap();
        db.put(keyspaces[0], &turn.to_be_bytes(), b"value").unwrap();
        while db.step().unwrap() {}
        db.close().unwrap();
        let segments = count_files(&env, |name| matches!(name, FileName::Segment(_)));
        assert!(segments <= 8, "{segments} segments after {turn} times");
    }
    let (db, keyspaces) = open(env, Options::tiny()).unwrap();
    assert_eq!(keys(&db, keyspaces[0]).len(), 40);
}

/// A folder on the real disk that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("haypile-{name}-{}", std::process::id()));
        OsEnv::new().remove_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = OsEnv::new().remove_dir_all(&self.0);
    }
}

// Reading.

#[test]
fn a_snapshot_stands_still() {
    let (_, db, [a, b]) = tiny();
    let before = db.snapshot();
    db.put(a, b"k", b"1").unwrap();
    let first = db.snapshot();
    db.write(
        &batch(|batch| batch.put(a, b"k", b"2").and_then(|()| batch.put(b, b"k", b"2"))),
        &WriteOptions::default(),
    )
    .unwrap();
    let second = db.snapshot();
    db.delete(a, b"k").unwrap();
    for round in 0..3 {
        assert_eq!(get_at(&db, a, b"k", before.sequence()), None);
        assert_eq!(get_at(&db, a, b"k", first.sequence()).unwrap(), b"1");
        assert_eq!(get_at(&db, b, b"k", first.sequence()), None);
        assert_eq!(get_at(&db, a, b"k", second.sequence()).unwrap(), b"2");
        assert_eq!(get_at(&db, b, b"k", second.sequence()).unwrap(), b"2");
        assert_eq!(scan(&db, a, Some(first.sequence())), [(b"k".to_vec(), b"1".to_vec())]);
        assert_eq!(get(&db, a, b"k"), None);
        match round {
            0 => db.flush(a).unwrap(),
            _ => db.compact_range(a, None, None).unwrap(),
        }
    }
    drop((before, first, second));
    db.put(a, b"other", b"v").unwrap();
    db.compact_range(a, None, None).unwrap();
    db.wait_idle().unwrap();
    assert_eq!(keys(&db, a), ["other"]);
}

#[test]
fn several_ways_to_read_a_key() {
    let (_, db, [a, b]) = tiny();
    db.put(a, b"in a table", &[b'x'; 3000]).unwrap();
    db.put(a, b"short", b"y").unwrap();
    db.put(a, b"gone", b"z").unwrap();
    db.flush(a).unwrap();
    db.put(a, b"in memory", b"").unwrap();
    db.delete(a, b"gone").unwrap();

    let options = ReadOptions::default();
    let found =
        db.multi_get(a, &[b"in memory", b"gone", b"in a table", b"never", b"short"], &options).unwrap();
    assert_eq!(found, [Some(vec![]), None, Some(vec![b'x'; 3000]), None, Some(b"y".to_vec())]);
    assert!(
        db.contains(a, b"in memory", &options).unwrap() && db.contains(a, b"in a table", &options).unwrap()
    );
    assert!(!db.contains(a, b"gone", &options).unwrap() && !db.contains(b, b"short", &options).unwrap());
    assert!(db.may_contain(a, b"in memory") && db.may_contain(a, b"short"));
    assert!(!db.may_contain(a, b"gone") && !db.may_contain(b, b"short") && !db.may_contain(99, b"short"));
    let maybe = (0..100).filter(|i| db.may_contain(a, format!("never {i}").as_bytes())).count();
    assert!(maybe < 20, "{maybe} of 100 absent keys may be there");
    assert_eq!(db.read(a, b"in a table", &options, |value| value.map(<[u8]>::len)).unwrap(), Some(3000));

    // A pinned value outlives what it was read from.
    let pinned =
        [b"in a table".as_slice(), b"in memory"].map(|key| db.get_pinned(a, key, &options).unwrap().unwrap());
    assert!(db.get_pinned(a, b"gone", &options).unwrap().is_none());
    db.put(a, b"in memory", b"changed").unwrap();
    db.delete(a, b"in a table").unwrap();
    db.compact_range(a, None, None).unwrap();
    assert_eq!(get(&db, a, b"in a table"), None);
    db.close().unwrap();
    drop(db);
    assert_eq!(*pinned[0], [b'x'; 3000]);
    assert_eq!(*pinned[1], []);
}

#[test]
fn a_reader_is_one_moment() {
    let (_, db, [a, b]) = tiny();
    db.put(a, b"k", b"old").unwrap();
    let options = ReadOptions::default();
    let reader = db.reader(&options);
    db.write(
        &batch(|batch| batch.put(a, b"k", b"new").and_then(|()| batch.put(b, b"k", b"new"))),
        &WriteOptions::default(),
    )
    .unwrap();
    db.compact_range(a, None, None).unwrap();
    assert_eq!(reader.read(a, b"k", &options, |value| value.map(<[u8]>::to_vec)).unwrap().unwrap(), b"old");
    assert!(!reader.read(b, b"k", &options, |value| value.is_some()).unwrap());
    assert_eq!(&**reader.get_pinned(a, b"k", &options).unwrap().as_ref().unwrap(), b"old");
    let mut iter = reader.iter(a, IterOptions::default()).unwrap();
    iter.seek_to_first().unwrap();
    assert_eq!((iter.key(), iter.value(), iter.sequence()), (&b"k"[..], &b"old"[..], reader.sequence()));
}

#[test]
fn iterators_go_both_ways_within_bounds() {
    let (_, db, [a, _]) = tiny();
    for (i, key) in ["a", "b", "ba", "bb", "c", "d"].iter().enumerate() {
        db.put(a, key.as_bytes(), &[i as u8]).unwrap();
        if i == 2 {
            db.flush(a).unwrap();
        }
    }
    let walk = |options: IterOptions| {
        let (mut forward, mut back) = (Vec::new(), Vec::new());
        let mut iter = db.iter(a, options).unwrap();
        assert!(!iter.valid());
        iter.seek_to_first().unwrap();
        while iter.valid() {
            forward.push(String::from_utf8(iter.key().to_vec()).unwrap());
            iter.next().unwrap();
        }
        iter.seek_to_last().unwrap();
        while iter.valid() {
            back.push(String::from_utf8(iter.key().to_vec()).unwrap());
            iter.prev().unwrap();
        }
        back.reverse();
        assert_eq!(forward, back);
        forward.join(" ")
    };
    let bounds = |lower: Option<&str>, upper: Option<&str>| IterOptions {
        lower: lower.map(|key| key.as_bytes().to_vec()),
        upper: upper.map(|key| key.as_bytes().to_vec()),
        ..IterOptions::default()
    };
    assert_eq!(walk(bounds(None, None)), "a b ba bb c d");
    assert_eq!(walk(bounds(Some("b"), Some("c"))), "b ba bb");
    assert_eq!(walk(bounds(Some("bb"), None)), "bb c d");
    assert_eq!(walk(IterOptions::prefix(b"b")), "b ba bb");
    assert_eq!(walk(IterOptions::prefix(b"")), "a b ba bb c d");
    assert_eq!(walk(bounds(Some("c"), Some("b"))), "");
    let mut iter = db.iter(a, IterOptions::default()).unwrap();
    iter.seek(b"bab").unwrap();
    assert_eq!(iter.key(), b"bb");
    iter.prev().unwrap();
    assert_eq!(iter.key(), b"ba");
    iter.seek_before(b"b").unwrap();
    assert_eq!(iter.key(), b"a");
    iter.prev().unwrap();
    assert!(!iter.valid());
    assert!(is_invalid(db.iter(99, IterOptions::default())));
}

#[test]
fn memory_only_reads_say_that_they_need_the_disk() {
    let (env, db, [a, _]) = tiny();
    for i in 0..50 {
        db.put(a, format!("k{i:02}").as_bytes(), &[b'v'; 40]).unwrap();
    }
    db.flush(a).unwrap();
    db.close().unwrap();
    drop(db);
    let (db, _) = open(env.clone(), Options { block_cache_bytes: 1 << 20, ..Options::tiny() }).unwrap();
    db.put(a, b"fresh", b"v").unwrap();
    env.set_cold(true);
    let memory = ReadOptions::memory_only();
    assert!(db.get(a, b"k07", &memory).unwrap_err().is_needs_io());
    assert!(db.contains(a, b"k07", &memory).unwrap_err().is_needs_io());
    assert!(db.get_pinned(a, b"k07", &memory).unwrap_err().is_needs_io());
    assert!(db.multi_get(a, &[b"fresh", b"k07"], &memory).unwrap_err().is_needs_io());
    assert_eq!(db.get(a, b"fresh", &memory).unwrap().unwrap(), b"v");
    assert!(db.may_contain(a, b"k07"), "what cannot be asked says maybe");
    assert!(db.metrics().reads_needing_io >= 3);
    let in_memory = |from: &[u8]| -> Result<usize> {
        let read = memory;
        let mut iter = db.iter(a, IterOptions { read, ..IterOptions::default() })?;
        iter.seek(from)?;
        let mut steps = 0;
        while iter.valid() {
            steps += 1;
            iter.next()?;
        }
        Ok(steps)
    };
    assert!(in_memory(b"k07").unwrap_err().is_needs_io());
    // A read that may wait brings the blocks into the cache, and now memory is enough.
    assert_eq!(get(&db, a, b"k07").unwrap(), [b'v'; 40]);
    assert_eq!(db.get(a, b"k07", &memory).unwrap().unwrap(), [b'v'; 40]);
    assert_eq!(scan(&db, a, None).len(), 51);
    assert_eq!(in_memory(b"").unwrap(), 51);
    // What the page cache holds is read without waiting.
    let reader = db.reader(&memory);
    env.set_cold(false);
    assert!(reader.read(a, b"k33", &memory, |value| value.is_some()).unwrap());
}

// Writing.

#[test]
fn range_deletes() {
    let (_, db, [a, b]) = tiny();
    for key in ["a", "b", "c", "d"] {
        db.put(a, key.as_bytes(), b"1").unwrap();
        db.put(b, key.as_bytes(), b"1").unwrap();
    }
    let snapshot = db.snapshot();
    db.delete_range(a, b"b", b"d").unwrap();
    db.put(a, b"c", b"2").unwrap();
    for _ in 0..2 {
        assert_eq!(keys(&db, a), ["a", "c", "d"]);
        assert_eq!(scan_reverse(&db, a, None).len(), 3);
        assert_eq!((get(&db, a, b"b"), get(&db, a, b"c").unwrap()), (None, b"2".to_vec()));
        assert_eq!(scan(&db, a, Some(snapshot.sequence())).len(), 4);
        assert_eq!(keys(&db, b).len(), 4);
        db.compact_range(a, None, None).unwrap();
    }
    assert!(is_invalid(db.delete_range(a, b"d", b"b")) && is_invalid(db.delete_range(a, b"b", b"b")));
    drop(snapshot);
    db.delete_range(a, b"", b"zzz").unwrap();
    assert_eq!(keys(&db, a), [""; 0]);
    db.compact_range(a, None, None).unwrap();
    let levels = db.properties().into_iter().filter(|(name, _)| name.starts_with("keyspace_a_level"));
    assert_eq!(levels.collect::<Vec<_>>(), [], "nothing is left of what was deleted");
}

#[test]
fn batches_are_whole_and_checked_before_anything_happens() {
    let (_, db, [a, b]) = tiny();
    let lsn = db.put(a, b"k", b"v").unwrap();
    assert_eq!(db.write(&WriteBatch::new(), &WriteOptions::default()).unwrap(), lsn);
    let three = batch(|batch| {
        batch.put(a, b"x", b"1")?;
        batch.delete(a, b"x")?;
        batch.put(b, b"x", b"2")
    });
    assert_eq!(db.write(&three, &WriteOptions::default()).unwrap(), lsn + 3);
    assert_eq!((get(&db, a, b"x"), get(&db, b, b"x").unwrap()), (None, b"2".to_vec()));
    let stranger = batch(|batch| batch.put(a, b"y", b"1").and_then(|()| batch.put(77, b"y", b"1")));
    assert!(is_invalid(db.write(&stranger, &WriteOptions::default())));
    assert_eq!((get(&db, a, b"y"), db.visible_lsn()), (None, lsn + 3));
    assert!(is_invalid(db.put(a, &vec![b'k'; (1 << 20) + 1], b"")));
    // Larger than a memtable is fine.
    let large = vec![b'l'; 100_000];
    db.put(a, b"large", &large).unwrap();
    assert_eq!(get(&db, a, b"large").unwrap(), large);
    db.flush(a).unwrap();
    assert_eq!(get(&db, a, b"large").unwrap(), large);
}

#[test]
fn durability_classes_and_watermarks() {
    let progress = Arc::new(Mutex::new(Vec::new()));
    let heard = progress.clone();
    let listener =
        move |step: haypile_lsm::LogProgress| heard.lock().unwrap().push((step.written, step.synced));
    let env = MemEnv::new();
    let options = Options { log_listener: Some(Arc::new(listener)), ..Options::tiny() };
    let (db, [a, _]) = open(env.clone(), options).unwrap();
    let put = |key: &[u8], durability| {
        let options = WriteOptions { durability, ..WriteOptions::default() };
        db.write(&batch(|batch| batch.put(a, key, b"v")), &options).unwrap()
    };
    let memory = put(b"memory", Durability::Memory);
    assert!(db.visible_lsn() == memory && db.written_lsn() < memory);
    let os = put(b"os", Durability::Os);
    assert!(db.written_lsn() == os && db.synced_lsn() < memory);
    let synced = put(b"synced", Durability::Synced);
    assert!(db.synced_lsn() == synced);
    let more = put(b"more", Durability::Memory);
    // Read as a server that promises "synced" does: others' unsynced writes are not seen, one's own are.
    let see =
        |own| db.get(a, b"more", &ReadOptions { synced_or: Some(own), ..ReadOptions::default() }).unwrap();
    assert_eq!((see(synced), see(more).as_deref()), (None, Some(&b"v"[..])));
    db.try_flush_wal().unwrap();
    assert_eq!(db.written_lsn(), more);
    db.flush_wal(more).unwrap();
    db.sync_wal(more).unwrap();
    assert_eq!(see(synced).unwrap(), b"v");
    assert!(is_invalid(db.sync_wal(more + 1)) && is_invalid(db.flush_wal(more + 1)));
    let asked = put(b"asked", Durability::Memory);
    db.request_sync();
    db.step().unwrap();
    assert_eq!(db.synced_lsn(), asked);
    assert!(db.wal_has_room() && db.poisoned().is_none());
    assert!(progress.lock().unwrap().contains(&(asked, asked)));
    let last = put(b"lost", Durability::Memory);
    let (db, _) = open(env.crash_clone(CrashPolicy::DropUnsynced, 1), Options::tiny()).unwrap();
    assert_eq!(keys(&db, a), ["asked", "memory", "more", "os", "synced"]);
    assert!(db.put(a, b"next", b"v").unwrap() >= last);
}

#[test]
fn writes_without_the_log() {
    let (env, db, [a, b]) = tiny();
    let skip = WriteOptions { disable_wal: true, ..WriteOptions::default() };
    let with = |key: &[u8], value: &[u8]| {
        batch(|batch| batch.put(a, key, value).and_then(|()| batch.put(b, key, value)))
    };
    db.put(a, b"logged", b"1").unwrap();
    db.write(&with(b"skipped", b"1"), &skip).unwrap();
    let last = db.put(a, b"logged too", b"1").unwrap();
    assert_eq!(keys(&db, a), ["logged", "logged too", "skipped"]);
    db.sync_wal(last).unwrap();
    let (killed, _) = open(env.crash_clone(CrashPolicy::ProcessKill, 1), Options::tiny()).unwrap();
    assert_eq!(keys(&killed, a), ["logged", "logged too"]);
    db.flush(a).unwrap();
    let (killed, _) = open(env.crash_clone(CrashPolicy::DropUnsynced, 1), Options::tiny()).unwrap();
    assert_eq!((keys(&killed, a).len(), keys(&killed, b).len()), (3, 0));
    db.write(&with(b"lost", b"1"), &skip).unwrap();
    db.close().unwrap();
    drop(db);
    let (db, _) = open(env, Options::tiny()).unwrap();
    assert_eq!((keys(&db, a).len(), keys(&db, b).len()), (3, 0));
    db.put(a, b"and on", b"1").unwrap();
    db.verify().unwrap();
}

#[test]
fn an_indexed_batch_over_a_reader() {
    let (_, db, [a, b]) = tiny();
    for key in ["a", "b", "c", "d"] {
        db.put(a, key.as_bytes(), b"db").unwrap();
    }
    db.flush(a).unwrap();
    let options = ReadOptions::default();
    let reader = db.reader(&options);
    let mut own = IndexedBatch::new();
    own.put(a, b"b", b"own").unwrap();
    own.put(a, b"bb", b"own").unwrap();
    own.delete(a, b"d").unwrap();
    own.put(b, b"x", b"own").unwrap();
    let savepoint = own.savepoint();
    own.delete_range(a, b"a", b"c").unwrap();
    own.put(a, b"a", b"again").unwrap();
    db.put(a, b"e", b"later than the reader").unwrap();

    let look = |own: &IndexedBatch| {
        let mut found = Vec::new();
        let mut iter = reader.iter_with(own, a, IterOptions::default()).unwrap();
        iter.seek_to_last().unwrap();
        while iter.valid() {
            let (key, value) = (iter.key().to_vec(), iter.value().to_vec());
            assert_eq!(
                reader.read_with(own, a, &key, &options, |v| v.map(<[u8]>::to_vec)).unwrap().unwrap(),
                value
            );
            found.push(String::from_utf8([&key[..], b"=", &value].concat()).unwrap());
            iter.prev().unwrap();
        }
        found.reverse();
        found.join(" ")
    };
    assert_eq!(look(&own), "a=again c=db");
    assert_eq!(own.get(a, b"b"), Some(Overlay::Deleted));
    assert!(!reader.read_with(&own, a, b"b", &options, |value| value.is_some()).unwrap());
    own.rollback(&savepoint);
    assert_eq!(look(&own), "a=db b=own bb=own c=db");
    assert_eq!((own.get(a, b"b"), own.get(a, b"a")), (Some(Overlay::Value(b"own")), None));
    db.write(&own.into_batch(), &WriteOptions::default()).unwrap();
    assert_eq!(keys(&db, a), ["a", "b", "bb", "c", "e"]);
    assert_eq!(get(&db, b, b"x").unwrap(), b"own");
}

// Keyspaces.

#[test]
fn keyspaces_come_and_go() {
    let (env, db, [a, b]) = tiny();
    assert_eq!(db.keyspaces(), [(0, "default".into()), (a, "a".into()), (b, "b".into())]);
    assert_eq!((db.default_keyspace(), db.keyspace("b"), db.keyspace("c")), (0, Some(b), None));
    let other = KeyspaceOptions { bloom_bits_per_key: 0, ..small_blocks() };
    assert_eq!(db.keyspace_or_create("a", other).unwrap(), a, "it keeps its own options");
    assert!(
        is_invalid(db.keyspace_or_create("", other))
            && is_invalid(db.keyspace_or_create(&"n".repeat(65), other))
    );
    assert!(is_invalid(db.keyspace_or_create("c", KeyspaceOptions { block_bytes: 1, ..other })));
    for i in 0..100 {
        db.put(b, format!("k{i}").as_bytes(), b"v").unwrap();
    }
    db.flush(b).unwrap();
    db.put(b, b"only in the log", b"v").unwrap();
    let mut iter = db.iter(b, IterOptions::default()).unwrap();
    db.drop_keyspace(b).unwrap();
    assert_eq!(db.keyspaces().len(), 2);
    assert!(is_invalid(db.drop_keyspace(b)) && is_invalid(db.put(b, b"k", b"v")));
    assert!(is_invalid(db.get(b, b"k", &ReadOptions::default())) && is_invalid(db.flush(b)));
    // Who was reading goes on.
    iter.seek_to_first().unwrap();
    assert_eq!(iter.key(), b"k0");
    drop(iter);
    // Its files go as soon as no thread (of the other tests, too) can still be reading in them.
    let is_table = |name: &FileName| matches!(name, FileName::Table(_));
    let mut rounds = 0;
    while count_files(&env, is_table) > 0 {
        db.wait_idle().unwrap();
        OsEnv::new().sleep(Duration::from_millis(1));
        rounds += 1;
        assert!(rounds < 10_000, "its files stay");
    }
    let again = db.keyspace_or_create("b", other).unwrap();
    assert!(again > b, "a number is never used again");
    assert_eq!(keys(&db, again), [""; 0]);
    db.put(again, b"new", b"v").unwrap();
    db.close().unwrap();
    drop(db);
    let db = Db::open(env, &db_path(), Options::tiny()).unwrap();
    assert_eq!(db.keyspaces(), [(0, "default".into()), (a, "a".into()), (again, "b".into())]);
    assert_eq!(keys(&db, again), ["new"]);
    while db.keyspaces().len() < 64 {
        db.keyspace_or_create(&format!("{}", db.keyspaces().len()), other).unwrap();
    }
    assert!(is_invalid(db.keyspace_or_create("one too many", other)));
}

// The log as a stream.

#[test]
fn the_log_can_be_tailed() {
    let (_, db, [a, b]) = tiny();
    let noted = |key: &[u8], note: &[u8]| {
        let batch = batch(|batch| {
            batch
                .put(a, key, b"v")
                .and_then(|()| batch.delete(b, key))
                .and_then(|()| batch.set_annotation(note))
        });
        db.write(&batch, &WriteOptions::default()).unwrap()
    };
    let first = noted(b"0", b"note 0");
    let mut from_start = db.wal_reader(0).unwrap();
    let mut from_second = db.wal_reader(first + 1).unwrap();
    for i in 1..200 {
        let lsn = noted(format!("{i}").as_bytes(), format!("note {i}").as_bytes());
        let record = from_second.next().unwrap().unwrap();
        assert_eq!((record.first_sequence, record.last_lsn), (lsn - 1, lsn));
        let mut entries = BatchReader::new(&record.payload).unwrap();
        assert_eq!(entries.annotation(), format!("note {i}").as_bytes());
        let entry = entries.next().unwrap().unwrap();
        assert_eq!((entry.keyspace, entry.key, entry.value), (a, format!("{i}").as_bytes(), &b"v"[..]));
        assert!(from_second.next().unwrap().is_none(), "no more yet");
        if i % 20 == 0 {
            db.flush(a).unwrap();
            db.flush(b).unwrap();
            db.step().unwrap();
        }
    }
    // A reader keeps what it has not read, though all of it is in tables.
    let mut last = 0;
    let mut records = 0;
    while let Some(record) = from_start.next().unwrap() {
        assert!(record.first_sequence > last);
        last = record.last_lsn;
        records += 1;
    }
    assert_eq!((records, last), (200, db.visible_lsn()));
    drop((from_start, from_second));
    while db.step().unwrap() {}
    assert!(is_invalid(db.wal_reader(1)), "nobody held it");
    assert!(db.wal_reader(last + 1).unwrap().next().unwrap().is_none());
}

// Hooks.

/// Drops values that start with "drop", replaces those that start with "old", notes what leaves.
struct Hooks;

impl CompactionHooks for Hooks {
    fn filter(&self, _key: &[u8], head: &[u8]) -> FilterDecision {
        assert!(head.len() <= 255);
        match head {
            [b'd', b'r', b'o', b'p', ..] => FilterDecision::Drop,
            [b'o', b'l', b'd', ..] => FilterDecision::Replace(b"replaced".to_vec()),
            _ => FilterDecision::Keep,
        }
    }

    fn on_drop(&self, key: &[u8], older_head: &[u8], newer: Newer<'_>, notes: &mut Notes) {
        let why = match newer {
            Newer::Filter => "filter".into(),
            Newer::Tombstone => "delete".into(),
            Newer::RangeDelete => "range".into(),
            Newer::Put(head) => String::from_utf8_lossy(&head[..head.len().min(8)]).into_owned(),
        };
        let head = String::from_utf8_lossy(&older_head[..older_head.len().min(8)]);
        notes.leave(format!("{}={head} by {why}", String::from_utf8_lossy(key)).as_bytes());
    }
}

#[test]
fn hooks_filter_and_leave_notes() {
    let env = MemEnv::new();
    let hooks = || [("a".to_string(), Arc::new(Hooks) as Arc<dyn CompactionHooks>)].into();
    let options = || Options { hooks: hooks(), ..Options::tiny() };
    let (db, [a, b]) = open(env.clone(), options()).unwrap();
    for keyspace in [a, b] {
        db.put(keyspace, b"1", b"drop me").unwrap();
        db.put(keyspace, b"2", b"old").unwrap();
        db.put(keyspace, b"3", b"first").unwrap();
        db.put(keyspace, b"3", b"second").unwrap();
        db.put(keyspace, b"4", b"x").unwrap();
        db.delete(keyspace, b"4").unwrap();
        db.put(keyspace, b"5", b"y").unwrap();
        db.delete_range(keyspace, b"5", b"6").unwrap();
        db.put(keyspace, b"7", &[b'z'; 1000]).unwrap();
    }
    assert!(db.pending_notes(100).is_empty(), "nothing was installed yet");
    db.flush(a).unwrap();
    db.flush(b).unwrap();
    db.compact_range(a, None, None).unwrap();
    assert_eq!((get(&db, a, b"1"), get(&db, a, b"2").unwrap()), (None, b"replaced".to_vec()));
    assert_eq!(keys(&db, a), ["2", "3", "7"]);
    assert_eq!(
        (get(&db, b, b"1").unwrap(), get(&db, b, b"2").unwrap()),
        (b"drop me".to_vec(), b"old".to_vec())
    );
    let texts = |db: &Db| {
        let mut notes = db.pending_notes(100);
        assert!(notes.iter().all(|note| note.keyspace == a));
        assert!(notes.is_sorted_by_key(|note| note.id));
        notes.sort_by(|x, y| x.bytes.cmp(&y.bytes));
        notes.into_iter().map(|note| String::from_utf8(note.bytes).unwrap()).collect::<Vec<_>>()
    };
    let all = ["1=drop me by filter", "3=first by second", "4=x by delete", "5=y by range"];
    let told = texts(&db);
    for one in all {
        assert_eq!(told.iter().filter(|text| *text == one).count(), 1, "{one} in {told:?}");
    }
    // They come again after a crash and after a clean stop, until they are acknowledged.
    let (killed, _) = open(env.crash_clone(CrashPolicy::DropUnsynced, 1), options()).unwrap();
    assert_eq!(texts(&killed), told);
    let first = db.pending_notes(1);
    assert_eq!(first.len(), 1);
    db.acknowledge_notes(&[first[0].id]).unwrap();
    db.acknowledge_notes(&[]).unwrap();
    db.close().unwrap();
    drop(db);
    let (db, _) = open(env.clone(), options()).unwrap();
    assert_eq!(db.pending_notes(100).len(), told.len() - 1);
    let ids = db.pending_notes(100).iter().map(|note| note.id).collect::<Vec<_>>();
    db.acknowledge_notes(&ids).unwrap();
    let (killed, _) = open(env.crash_clone(CrashPolicy::DropUnsynced, 1), options()).unwrap();
    assert!(killed.pending_notes(100).is_empty() && db.pending_notes(100).is_empty());
}

/// A dropped or replaced value must not uncover an older one, and a snapshot still sees what it saw.
#[test]
fn a_filter_respects_what_lies_below_and_snapshots() {
    let env = MemEnv::new();
    let hooks = [("a".to_string(), Arc::new(Hooks) as Arc<dyn CompactionHooks>)].into();
    let (db, [a, _]) = open(env, Options { hooks, ..Options::tiny() }).unwrap();
    db.put(a, b"k", b"below").unwrap();
    db.put(a, b"m", b"drop, but somebody looks").unwrap();
    let snapshot = db.snapshot();
    db.compact_range(a, None, None).unwrap();
    db.put(a, b"k", b"drop this").unwrap();
    db.flush(a).unwrap();
    assert_eq!(get(&db, a, b"k"), None);
    assert_eq!(get_at(&db, a, b"k", snapshot.sequence()).unwrap(), b"below");
    assert_eq!(get_at(&db, a, b"m", snapshot.sequence()).unwrap(), b"drop, but somebody looks");
    drop(snapshot);
    db.compact_range(a, None, None).unwrap();
    assert_eq!(keys(&db, a), [""; 0]);
}

// Opening and closing.

#[test]
fn opening_and_refusing_to() {
    let env = MemEnv::new();
    let open = |options: Options| Db::open(env.clone(), &db_path(), options);
    assert!(is_invalid(open(Options { create_if_missing: false, ..Options::tiny() })));
    assert!(is_invalid(open(Options { memtable_bytes: 1, ..Options::tiny() })));
    let db = open(Options::tiny()).unwrap();
    let history = db.history();
    db.put(0, b"k", b"v").unwrap();
    assert!(matches!(open(Options::tiny()), Err(Error::Locked(path)) if path.ends_with("LOCK")));
    assert!(matches!(Db::destroy(env.clone(), &db_path()), Err(Error::Locked(_))));
    db.close().unwrap();
    assert!(is_invalid(open(Options { error_if_exists: true, ..Options::tiny() })));
    let again = open(Options { create_if_missing: false, ..Options::tiny() }).unwrap();
    assert_eq!((again.history(), get(&again, 0, b"k").unwrap()), (history, b"v".to_vec()));
    drop(again);
    Db::destroy(env.clone(), &db_path()).unwrap();
    Db::destroy(env.clone(), &db_path()).unwrap();
    assert!(env.list_all().is_empty());
    let fresh = open(Options { error_if_exists: true, ..Options::tiny() }).unwrap();
    assert!(get(&fresh, 0, b"k").is_none() && fresh.history() != history);
}

#[test]
fn the_lock_holds_on_a_real_disk() {
    let folder = Folder::new("lock");
    let db = Db::open(OsEnv::new(), &folder.0, Options::tiny()).unwrap();
    assert!(matches!(Db::open(OsEnv::new(), &folder.0, Options::tiny()), Err(Error::Locked(_))));
    db.put(0, b"k", b"v").unwrap();
    drop(db);
    let db = Db::open(OsEnv::new(), &folder.0, Options::tiny()).unwrap();
    assert_eq!(get(&db, 0, b"k").unwrap(), b"v");
    drop(db);
    Db::destroy(OsEnv::new(), &folder.0).unwrap();
    assert!(!OsEnv::new().exists(&folder.0).unwrap());
}

#[test]
fn after_close() {
    for env in [MemEnv::new(), MemEnv::threaded()] {
        let (db, [a, _]) = open(env.clone(), Options::tiny()).unwrap();
        let options = WriteOptions { durability: Durability::Memory, ..WriteOptions::default() };
        db.write(&batch(|batch| batch.put(a, b"k", b"v")), &options).unwrap();
        db.close().unwrap();
        db.close().unwrap();
        for refused in [
            db.put(a, b"k", b"w").err(),
            db.delete(a, b"k").err(),
            db.flush(a).err(),
            db.compact_range(a, None, None).err(),
            db.keyspace_or_create("new", small_blocks()).err(),
            db.drop_keyspace(a).err(),
            db.acknowledge_notes(&[1]).err(),
            db.checkpoint(Path::new("/copy")).err(),
        ] {
            assert!(matches!(refused, Some(Error::Closed)), "{refused:?}");
        }
        assert_eq!(get(&db, a, b"k").unwrap(), b"v", "what is in memory can still be read");
        // The folder is free, and even what was only in memory is there.
        let (again, _) = open(env, Options::tiny()).unwrap();
        assert_eq!(get(&again, a, b"k").unwrap(), b"v");
    }
}

// Background work.

#[test]
fn writers_are_delayed_when_background_work_is_behind() {
    let (_, db, [a, _]) = tiny();
    assert_eq!(db.write_delay(1000), None);
    let pause = db.pause_background();
    let mut last = Duration::ZERO;
    for i in 0..700 {
        db.put(a, format!("k{i:04}").as_bytes(), &[b'v'; 60]).unwrap();
        let delay = db.write_delay(1000).unwrap_or_default();
        assert!(delay <= Duration::from_millis(100));
        last = delay;
    }
    assert!(last > Duration::ZERO, "{:?}", db.properties());
    assert!(is_invalid(db.flush(a)), "nobody will do it");
    drop(pause);
    db.wait_idle().unwrap();
    assert_eq!(db.write_delay(1000), None);
    assert_eq!(keys(&db, a).len(), 700);
}

#[test]
fn a_writer_waits_for_memory_under_threads() {
    let env = MemEnv::threaded();
    let (db, [a, _]) = open(env, Options::tiny()).unwrap();
    let pause = db.pause_background();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (db, done) = (&db, &done);
        let writer = scope.spawn(move || {
            for i in 0..1500 {
                db.put(a, format!("k{i:04}").as_bytes(), &[b'v'; 60]).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while db.metrics().write_delays == 0 {
            std::thread::yield_now();
        }
        assert!(!done.load(Ordering::SeqCst));
        drop(pause);
        writer.join().unwrap();
    });
    db.wait_idle().unwrap();
    assert_eq!(keys(&db, a).len(), 1500);
    assert!(db.metrics().flushes > 0 && db.metrics().compactions + db.metrics().trivial_moves > 0);
}

#[test]
fn sizes_and_properties() {
    let (_, db, [a, b]) = tiny();
    for i in 0..400 {
        db.put(a, format!("k{i:03}").as_bytes(), format!("{}", i * 7919).repeat(4).as_bytes()).unwrap();
    }
    db.compact_range(a, None, None).unwrap();
    db.verify().unwrap();
    let size = |start: &[u8], end: &[u8]| db.approximate_size(a, start, end).unwrap();
    let all = size(b"", b"z");
    let half = size(b"k000", b"k200");
    assert!(all > 4000 && half > all / 4 && half < all * 3 / 4, "{half} of {all}");
    assert_eq!((size(b"x", b"z"), db.approximate_size(b, b"", b"z").unwrap()), (0, 0));
    assert!(is_invalid(db.approximate_size(99, b"", b"z")));
    let properties = db.properties().into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(properties["visible_lsn"], "400");
    assert_eq!(properties["table_bytes"].parse::<u64>().unwrap(), all);
    let levels: Vec<_> = properties.iter().filter(|(name, _)| name.starts_with("keyspace_a_level")).collect();
    assert!(levels.len() == 1 && levels[0].1.contains("files="), "{levels:?}");
    let metrics = db.metrics();
    assert_eq!((metrics.batches_committed, metrics.entries_committed), (400, 400));
    assert!(metrics.iter().any(|(name, value)| name == "flushes" && value > 0));
}

// Checkpoints.

#[test]
fn a_checkpoint_is_a_database_of_its_own() {
    let (env, db, [a, b]) = tiny();
    for i in 0..100 {
        db.put(a, format!("k{i:02}").as_bytes(), b"v").unwrap();
    }
    db.flush(a).unwrap();
    db.put(a, b"in the log", b"v").unwrap();
    db.put(b, b"in the log", b"v").unwrap();
    let copy = Path::new("/copy");
    let lsn = db.checkpoint(copy).unwrap();
    assert_eq!(lsn, db.visible_lsn());
    assert!(is_invalid(db.checkpoint(copy)), "it is not empty");
    db.delete_range(a, b"", b"z").unwrap();
    db.compact_range(a, None, None).unwrap();
    let copied = Db::open(env.clone(), copy, Options::tiny()).unwrap();
    assert_eq!((keys(&copied, a).len(), keys(&copied, b).len()), (101, 1));
    assert_eq!((copied.history(), copied.visible_lsn()), (db.history(), lsn));
    copied.put(a, b"its own", b"way").unwrap();
    copied.compact_range(a, None, None).unwrap();
    copied.verify().unwrap();
    db.verify().unwrap();
    assert_eq!((keys(&copied, a).len(), keys(&db, a).len()), (102, 0));
    // And of that again.
    copied.checkpoint(Path::new("/copy of the copy")).unwrap();
    let second = Db::open(env, Path::new("/copy of the copy"), Options::tiny()).unwrap();
    assert_eq!(keys(&second, a).len(), 102);
}

/// Four writers on a real disk; checkpoints taken meanwhile hold exactly the writes up to their LSN.
#[test]
fn a_checkpoint_while_writers_go_on() {
    let folder = Folder::new("checkpoint");
    let env = OsEnv::new();
    let db = Db::open(env.clone(), &folder.0.join("db"), Options::tiny()).unwrap();
    let ks = db.keyspace_or_create("a", small_blocks()).unwrap();
    let stop = AtomicBool::new(false);
    let mut taken = Vec::new();
    let mut writes = std::thread::scope(|scope| {
        let writers = (0..4u64).map(|writer| {
            let (db, stop) = (&db, &stop);
            scope.spawn(move || {
                let mut writes = Vec::new();
                for i in 0..u64::MAX {
                    if stop.load(Ordering::SeqCst) || i == 4000 {
                        break;
                    }
                    let (key, value) = (format!("{writer} {}", i % 50), format!("{i}"));
                    let lsn = db.put(ks, key.as_bytes(), value.as_bytes()).unwrap();
                    writes.push((lsn, key, value));
                }
                writes
            })
        });
        let writers = writers.collect::<Vec<_>>();
        for i in 0..4 {
            env.sleep(Duration::from_millis(20));
            let path = folder.0.join(format!("copy {i}"));
            taken.push((db.checkpoint(&path).unwrap(), path));
        }
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    writes.sort();
    for (lsn, path) in taken {
        let mut expected = BTreeMap::new();
        for (_, key, value) in writes.iter().filter(|(at, ..)| *at <= lsn) {
            expected.insert(key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        let copy = Db::open(env.clone(), &path, Options::tiny()).unwrap();
        common::assert_same(
            &scan(&copy, ks, None),
            &expected.into_iter().collect::<Vec<_>>(),
            &format!("at {lsn}"),
        );
        copy.verify().unwrap();
    }
}

// All at once.

/// Two threads write pairs into two keyspaces, one batch a pair; two read. A reader sees the same number in both, and never an older one
/// than before. Meanwhile a third flushes and compacts. HAYPILE_STRESS_MS makes it longer.
#[test]
fn readers_and_writers_at_once() {
    let folder = Folder::new("stress");
    let env = OsEnv::new();
    let db = Db::open(env.clone(), &folder.0, Options::tiny()).unwrap();
    let a = db.keyspace_or_create("a", small_blocks()).unwrap();
    let b = db.keyspace_or_create("b", small_blocks()).unwrap();
    let wanted = std::env::var("HAYPILE_STRESS_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let stop = AtomicBool::new(false);
    let acknowledged = [const { AtomicU64::new(0) }; 2];
    std::thread::scope(|scope| {
        let (db, stop, acknowledged) = (&db, &stop, &acknowledged);
        for writer in 0..2u64 {
            scope.spawn(move || {
                for number in 1.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let value = number.to_string();
                    let pair = batch(|batch| {
                        batch.put(a, format!("pair {writer}").as_bytes(), value.as_bytes())?;
                        batch.put(b, format!("pair {writer}").as_bytes(), value.as_bytes())?;
                        // Something to flush and to drop.
                        batch.put(a, format!("filler {writer} {}", number % 97).as_bytes(), &[b'f'; 64])?;
                        batch.delete(b, format!("filler {writer} {}", number % 31).as_bytes())
                    });
                    let durability = if number % 50 == 0 { Durability::Synced } else { Durability::Os };
                    db.write(&pair, &WriteOptions { durability, ..WriteOptions::default() }).unwrap();
                    acknowledged[writer as usize].store(number, Ordering::SeqCst);
                }
            });
        }
        for reader in 0..2usize {
            scope.spawn(move || {
                let mut seen = [0u64; 2];
                let options = ReadOptions::default();
                while !stop.load(Ordering::SeqCst) {
                    for writer in 0..2usize {
                        let floor = acknowledged[writer].load(Ordering::SeqCst);
                        let key = format!("pair {writer}");
                        let moment = db.reader(&options);
                        let number = |keyspace| {
                            let text = moment
                                .read(keyspace, key.as_bytes(), &options, |v| v.map(<[u8]>::to_vec))
                                .unwrap();
                            text.map_or(0, |text| String::from_utf8(text).unwrap().parse::<u64>().unwrap())
                        };
                        let (in_a, in_b) = (number(a), number(b));
                        assert_eq!(in_a, in_b, "half a batch");
                        assert!(
                            in_a >= seen[writer] && in_a >= floor,
                            "{in_a} after {} and {floor}",
                            seen[writer]
                        );
                        seen[writer] = in_a;
                        if reader == 1 {
                            let snapshot = db.snapshot();
                            let at = Some(snapshot.sequence());
                            assert_eq!(scan(db, a, at), scan(db, a, at).into_iter().collect::<Vec<_>>());
                            assert_eq!(
                                get_at(db, a, key.as_bytes(), snapshot.sequence()),
                                get_at(db, b, key.as_bytes(), snapshot.sequence())
                            );
                        }
                    }
                }
            });
        }
        let started = env.monotonic();
        while env.monotonic() - started < Duration::from_millis(wanted) {
            db.flush(a).unwrap();
            db.compact_range(b, None, None).unwrap();
            env.sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
    });
    db.wait_idle().unwrap();
    db.verify().unwrap();
    db.close().unwrap();
    drop(db);
    let db = Db::open(env, &folder.0, Options::tiny()).unwrap();
    for (writer, number) in acknowledged.iter().enumerate() {
        let number = number.load(Ordering::SeqCst);
        assert!(number > 10);
        for keyspace in [a, b] {
            assert_eq!(
                get(&db, keyspace, format!("pair {writer}").as_bytes()).unwrap(),
                number.to_string().as_bytes()
            );
        }
    }
}
