//! The engine in one page: `cargo run -p haypile-lsm --example basic [FOLDER]`.
//!
//! Without a folder it makes one under the system's temporary files, and removes it at the end.

use haypile_lsm::{
    Db, Durability, IndexedBatch, IterOptions, KeyspaceOptions, Options, OsEnv, ReadOptions, Result,
    WriteBatch, WriteOptions,
};
use std::path::PathBuf;

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = given
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("haypile-example-{}", std::process::id())));

    let db = Db::open(OsEnv::new(), &folder, Options::default().with_memory_budget(64 << 20))?;
    let meadows = db.keyspace_or_create("meadows", KeyspaceOptions::default())?;
    let haypiles = db.keyspace_or_create("haypiles", KeyspaceOptions::default())?;

    // Single writes. On return they are with the operating system: a crash of the process loses nothing.
    db.put(meadows, b"north", b"clover, fireweed")?;
    db.put(meadows, b"south", b"avens")?;

    // A batch over two keyspaces: all of it or nothing, and on the disk before the call returns.
    let mut move_in = WriteBatch::new();
    move_in.delete(meadows, b"south")?;
    move_in.put(haypiles, b"under the big rock", b"avens")?;
    let lsn =
        db.write(&move_in, &WriteOptions { durability: Durability::Synced, ..WriteOptions::default() })?;
    println!("the avens are in as of LSN {lsn}");

    // A snapshot keeps looking at its moment.
    let autumn = db.snapshot();
    db.delete_range(meadows, b"", b"z")?;
    let then = ReadOptions { sequence: Some(autumn.sequence()), ..ReadOptions::default() };
    for (when, options) in [("in autumn", then), ("in winter", ReadOptions::default())] {
        let found = db.get(meadows, b"north", &options)?;
        println!("{when}: north has {:?}", found.map(|value| String::from_utf8_lossy(&value).into_owned()));
    }

    // A transaction that reads its own writes before they are committed.
    let mut plan = IndexedBatch::new();
    plan.put(haypiles, b"under the small rock", b"fireweed")?;
    let mut iter =
        db.reader(&ReadOptions::default()).iter_with(&plan, haypiles, IterOptions::prefix(b"under"))?;
    iter.seek_to_first()?;
    while iter.valid() {
        println!("{}: {}", String::from_utf8_lossy(iter.key()), String::from_utf8_lossy(iter.value()));
        iter.next()?;
    }
    db.write(plan.batch(), &WriteOptions::default())?;

    // Tables, levels and the log come and go by themselves; this only makes something to look at with lsm-dump.
    db.flush(haypiles)?;
    db.verify()?;
    db.close()?;
    drop(db);
    match given {
        Some(folder) => println!("look around: cargo run -p haypile-lsm --bin lsm-dump {}", folder.display()),
        None => Db::destroy(OsEnv::new(), &folder)?,
    }
    Ok(())
}
