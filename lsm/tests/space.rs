//! A disk that fills: ordinary writes stop with a clear error, reads and deletes go on, and writes come back by themselves. And what range
//! deletes free comes back though nobody writes any more.

mod common;

use common::{Model, check, open};
use haypile_lsm::{Error, MemEnv, Options, ReadOptions};
use std::time::Duration;

#[test]
fn a_full_disk_stops_writes_and_lets_go_by_itself() {
    let env = MemEnv::new();
    let options = Options { reserve_bytes: 64 << 10, ..Options::tiny() };
    let (db, keyspaces) = open(env.clone(), options).unwrap();
    env.set_capacity_bytes(Some(512 << 10));
    let mut model = Model::new();
    let mut refused = None;
    for number in 0..20_000u32 {
        let (key, value) = (format!("k{:03}", number % 200).into_bytes(), number.to_le_bytes().repeat(20));
        // Distinct keys beside them, so that space does not come back by itself.
        let filler = format!("x{number:06}").into_bytes();
        match db.put(keyspaces[1], &filler, &value).and_then(|_| db.put(keyspaces[0], &key, &value)) {
            Ok(_) => model.insert((keyspaces[0], key), value),
            Err(error) => {
                refused = Some(error);
                break;
            }
        };
        while db.step().unwrap_or(false) {}
    }
    let refused = refused.expect("a disk of 512 KiB fills");
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    assert!(!db.wal_has_room() && db.poisoned().is_none());
    // Reads go on, and so do deletes.
    assert!(db.get(keyspaces[0], b"k001", &ReadOptions::default()).unwrap().is_some());
    db.delete_range(keyspaces[1], b"x", b"y").unwrap();
    for _ in 0..200 {
        if !db.step().unwrap_or(true) {
            break;
        }
    }
    db.compact_range(keyspaces[1], None, None).unwrap();
    // Files go when no thread of the process reads any view that names them; the test beside this one has threads, too.
    for _ in 0..10_000 {
        db.step().unwrap();
        if db.wal_has_room() {
            break;
        }
        std::thread::yield_now();
    }
    assert!(db.wal_has_room(), "{:?}", db.properties());
    db.put(keyspaces[0], b"k000", b"again").unwrap();
    model.insert((keyspaces[0], b"k000".to_vec()), b"again".to_vec());
    let found = db.get(keyspaces[1], b"x000001", &ReadOptions::default()).unwrap();
    assert!(found.is_none());
    model.retain(|(keyspace, _), _| *keyspace == keyspaces[0]);
    check(&db, &model, &keyspaces, None, "after the disk was full");
}

#[test]
fn what_one_range_delete_frees_comes_back_while_nothing_is_written() {
    // From the last level, and from L0.
    for files_in_l0 in [0, 1, 3] {
        check_that_space_comes_back(files_in_l0);
    }
}

fn check_that_space_comes_back(files_in_l0: u32) {
    let env = MemEnv::new();
    let (db, keyspaces) = open(env.clone(), Options::default()).unwrap();
    let settle = || while db.step().unwrap() {};
    let property = |name: &str| db.properties().into_iter().find(|(own, _)| own == name).unwrap().1;
    let tables = || property("table_bytes").parse::<u64>().unwrap();
    let flushes = || db.metrics().flushes;
    // Not repeated bytes, which would be compressed to nothing.
    let value = |number: u32| {
        (0..50u32).flat_map(|n| (number ^ n).wrapping_mul(0x9e37_79b1).to_le_bytes()).collect::<Vec<_>>()
    };
    for number in 0..20_000 {
        db.put(keyspaces[0], format!("k{number:06}").as_bytes(), &value(number)).unwrap();
        if files_in_l0 > 0 && (number + 1).is_multiple_of(20_000 / files_in_l0) {
            db.flush(keyspaces[0]).unwrap();
        }
    }
    if files_in_l0 == 0 {
        db.compact_range(keyspaces[0], None, None).unwrap();
    }
    settle();
    let (before, flushes_before) = (tables(), flushes());
    assert!(before > 1 << 20, "{before} bytes");
    // Little is covered: it may wait.
    db.delete_range(keyspaces[0], b"k000000", b"k000002").unwrap();
    for _ in 0..10 {
        env.advance(Duration::from_secs(10));
        settle();
    }
    assert_eq!((flushes(), tables()), (flushes_before, before));
    // Much is.
    db.delete_range(keyspaces[0], b"k001000", b"k019000").unwrap();
    for _ in 0..5 {
        env.advance(Duration::from_secs(5));
        settle();
    }
    assert!(tables() < before / 5, "{} of {before} bytes", tables());
    // In the end the little comes back as well, without a flush for nothing behind it.
    let flushes_before = flushes();
    db.delete_range(keyspaces[0], b"k000000", b"k000004").unwrap();
    for _ in 0..100 {
        env.advance(Duration::from_secs(10));
        settle();
    }
    assert_eq!(flushes(), flushes_before + 1);
    // What lies over nothing is not flushed for its own sake.
    db.delete_range(keyspaces[0], b"x", b"y").unwrap();
    for _ in 0..100 {
        env.advance(Duration::from_secs(10));
        settle();
    }
    assert_eq!(flushes(), flushes_before + 1);
}
