//! A disk that fills: ordinary writes stop with a clear error, reads and deletes go on, and writes come back by themselves.

mod common;

use common::{Model, check, open};
use haypile_lsm::{Error, MemEnv, Options, ReadOptions};

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
    db.step().unwrap();
    assert!(db.wal_has_room(), "{:?}", db.properties());
    db.put(keyspaces[0], b"k000", b"again").unwrap();
    model.insert((keyspaces[0], b"k000".to_vec()), b"again".to_vec());
    let found = db.get(keyspaces[1], b"x000001", &ReadOptions::default()).unwrap();
    assert!(found.is_none());
    model.retain(|(keyspace, _), _| *keyspace == keyspaces[0]);
    check(&db, &model, &keyspaces, None, "after the disk was full");
}
