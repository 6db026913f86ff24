//! Rot: every byte of every file of a small database is flipped, one at a time, and the database opened, read and verified.
//!
//! One that was closed cleanly answers with an error that names the damaged file and an offset in it, or with the right value.
//! One whose process was killed may, beside that, have lost the end of its log behind the last watermark: then it holds a
//! prefix of the commits. Never a panic, never a hang, never a wrong value.
//!
//! The bits flipped are the lowest and the highest in turns, and what was reserved on the disk and never written (zeros up to the end of a
//! file) is sampled; `HAYPILE_DEEP=1` flips both bits of every byte there is.

mod common;

use common::{Model, apply, assert_same, batch_of, content, open, random_writes};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::env::filename::FileName;
use haypile_lsm::wal::recovery::read_segment_bytes;
use haypile_lsm::{
    CrashPolicy, Db, Durability, Env, Error, IterOptions, KeyspaceId, Lsn, MemEnv, Options, ReadOptions,
    Result, WriteBatch, WriteOptions,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const MASKS: [u8; 2] = [0x01, 0x80];
/// Set in every batch to its number.
const COUNTER: &[u8] = b"~commit";
/// In a run of zeros at the end of a file, one byte in so many is flipped.
const ZEROS_STEP: usize = 509;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A database on a disk that nobody has open, and what it went through.
struct Specimen {
    disk: Arc<MemEnv>,
    keyspaces: [KeyspaceId; 2],
    /// The state after so many commits.
    states: Vec<Model>,
    lsns: Vec<Lsn>,
}

/// A few tables on two levels, records in the log that are in no table, edits in the manifest. Small: its size times two is how
/// many databases the test opens.
fn specimen(seed: u64, clean: bool) -> Specimen {
    let disk = MemEnv::new();
    let (db, keyspaces) = open(disk.clone(), options()).unwrap();
    let mut rng = Rng::new(seed);
    let (mut states, mut lsns) = (vec![Model::new()], vec![0]);
    let mut commits = |count: u64, synced: bool| {
        for _ in 0..count {
            let mut writes = random_writes(&mut rng);
            writes.retain(|write| !matches!(write, common::Write::Put(_, _, value) if value.len() > 100));
            writes.push(common::Write::Put(0, COUNTER.to_vec(), states.len().to_string().into_bytes()));
            let mut state = states[states.len() - 1].clone();
            apply(&mut state, &writes, &keyspaces);
            let durability = if synced && rng.one_in(3) { Durability::Synced } else { Durability::Os };
            let options = WriteOptions { durability, ..WriteOptions::default() };
            lsns.push(db.write(&batch_of(&writes, &keyspaces), &options).unwrap());
            states.push(state);
        }
    };
    commits(12, true);
    let snapshot = db.snapshot();
    commits(8, true);
    db.compact_range(keyspaces[0], None, None).unwrap();
    commits(5, true);
    db.flush(keyspaces[0]).unwrap();
    db.flush(keyspaces[1]).unwrap();
    drop(snapshot);
    commits(4, true);
    commits(6, false);
    let disk = if clean {
        db.close().unwrap();
        disk
    } else {
        disk.crash_clone(CrashPolicy::ProcessKill, seed)
    };
    Specimen { disk, keyspaces, states, lsns }
}

fn options() -> Options {
    Options { wal_segment_bytes: 4 << 10, wal_total_bytes: 16 << 10, ..Options::tiny() }
}

impl Specimen {
    fn last(&self) -> usize {
        self.states.len() - 1
    }

    /// Every key that ever was in a keyspace, and some that never were.
    fn keys(&self) -> BTreeSet<Vec<u8>> {
        let known = self.states.iter().flat_map(|state| state.keys().map(|(_, key)| key.clone()));
        known.chain([b"".to_vec(), b"k".to_vec(), b"k0995".to_vec(), b"z".to_vec()]).collect()
    }

    /// How many commits some record of the log says to be on the disk.
    fn durable_commits(&self) -> usize {
        let mut durable = 0;
        for path in self.disk.list_all() {
            if let Some(FileName::Segment(id)) = FileName::parse(&path) {
                let bytes = self.disk.read_file(&path).unwrap();
                durable =
                    durable.max(read_segment_bytes(&path, id, &bytes, &mut |_| Ok(())).unwrap().durable_lsn);
            }
        }
        self.lsns.iter().rposition(|&lsn| lsn <= durable).unwrap_or(0)
    }

    /// Calls `examine` for every flip.
    fn for_each_flip(&self, mut examine: impl FnMut(&Path, u64, Arc<MemEnv>, &str)) {
        let deep = std::env::var_os("HAYPILE_DEEP").is_some();
        for path in self.disk.list_all() {
            let bytes = self.disk.read_file(&path).unwrap();
            let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 32).min(bytes.len());
            let rest = (written..bytes.len()).step_by(if deep { 1 } else { ZEROS_STEP });
            for offset in (0..written).chain(rest) {
                for mask in MASKS.into_iter().filter(|&mask| deep || mask == MASKS[offset % 2]) {
                    let disk = self.disk.crash_clone(CrashPolicy::ProcessKill, 1);
                    disk.flip_bit(&path, offset as u64, mask).unwrap();
                    let context = format!("{} with byte {offset} ^ {mask:#04x}", path.display());
                    examine(&path, offset as u64, disk, &context);
                }
            }
        }
    }
}

/// Everything that can be read: both scans and a get of every key that ever was.
fn read_all(db: &Db, keyspace: KeyspaceId, model: &Model, keys: &BTreeSet<Vec<u8>>) -> Vec<Result<Entries>> {
    let scan = |forward: bool| -> Result<Entries> {
        let mut iter = db.iter(keyspace, IterOptions::default())?;
        let mut found = Vec::new();
        if forward {
            iter.seek_to_first()?
        } else {
            iter.seek_to_last()?
        }
        while iter.valid() {
            found.push((iter.key().to_vec(), iter.value().to_vec()));
            if forward { iter.next()? } else { iter.prev()? }
        }
        if !forward {
            found.reverse();
        }
        Ok(found)
    };
    let mut all = vec![scan(true), scan(false)];
    for key in keys {
        let expected = model.get(&(keyspace, key.clone()));
        match db.get(keyspace, key, &ReadOptions::default()) {
            Ok(found) if found.as_ref() == expected => {}
            Ok(found) => panic!("get {}: {found:?} instead of {expected:?}", key.escape_ascii()),
            Err(error) => all.push(Err(error)),
        }
    }
    all
}

/// An error must be one of damage, in the file that was damaged, at a place in it.
fn check_error(error: &Error, path: &Path, len: u64, context: &str) {
    match error {
        Error::Corruption { file, offset, .. } => {
            assert!(file == path && *offset <= len, "{context}: {error}");
        }
        other => panic!("{context}: {other}"),
    }
}

#[test]
fn a_flip_after_a_clean_close() {
    let specimen = specimen(11, true);
    let model = &specimen.states[specimen.last()];
    let keys = specimen.keys();
    let (mut flips, mut refused, mut failed) = (0, 0, 0);
    specimen.for_each_flip(|path, _, disk, context| {
        flips += 1;
        let len = disk.read_file(path).unwrap().len() as u64;
        let db = match open(disk, options()) {
            Ok((db, _)) => db,
            Err(error) => {
                refused += 1;
                return check_error(&error, path, len, context);
            }
        };
        let mut errors = 0;
        for keyspace in specimen.keyspaces {
            for answer in read_all(&db, keyspace, model, &keys) {
                match answer {
                    Ok(found) => assert_same(&found, &content(model, keyspace), context),
                    Err(error) => {
                        errors += 1;
                        check_error(&error, path, len, context);
                    }
                }
            }
        }
        let verified = db.verify();
        if let Err(error) = &verified {
            check_error(error, path, len, context);
        }
        assert!(errors == 0 || verified.is_err(), "{context}: a read failed, but verify finds nothing");
        if matches!(FileName::parse(path), Some(FileName::Table(_))) {
            assert!(verified.is_err(), "{context}: not found");
        }
        failed += usize::from(errors > 0 || verified.is_err());
    });
    assert!(refused > 500 && failed > 500, "{flips} flips, {refused} refused, {failed} found by a read");
}

#[test]
fn a_flip_after_a_kill() {
    let specimen = specimen(12, false);
    let at_least = specimen.durable_commits();
    assert!(at_least > 0 && at_least < specimen.last(), "{at_least}");
    let keys = specimen.keys();
    let mut shortened = 0;
    specimen.for_each_flip(|path, _, disk, context| {
        let (db, keyspaces) = match open(disk, options()) {
            Ok(opened) => opened,
            Err(Error::Corruption { .. }) => return,
            Err(error) => panic!("{context}: {error}"),
        };
        assert_eq!(keyspaces, specimen.keyspaces, "{context}");
        let number = match db.get(keyspaces[0], COUNTER, &ReadOptions::default()) {
            Ok(value) => value.map_or(0, |value| String::from_utf8(value).unwrap().parse::<usize>().unwrap()),
            Err(Error::Corruption { .. }) => return,
            Err(error) => panic!("{context}: {error}"),
        };
        if number != specimen.last() {
            shortened += 1;
            let in_the_log = matches!(FileName::parse(path), Some(FileName::Segment(_)));
            assert!(in_the_log, "{context}: {number} commits of {}", specimen.last());
        }
        assert!(number >= at_least, "{context}: {number} commits, but {at_least} were on the disk");
        let model = &specimen.states[number];
        for keyspace in keyspaces {
            for answer in read_all(&db, keyspace, model, &keys) {
                match answer {
                    Ok(found) => assert_same(&found, &content(model, keyspace), context),
                    Err(Error::Corruption { .. }) => {}
                    Err(error) => panic!("{context}: {error}"),
                }
            }
        }
    });
    assert!(shortened > 100, "{shortened}");
}

/// The last edit of a killed database's manifest looks like a tear when it rots. Where the log shows that it was no tear, opening says so:
/// else the keyspace would be gone, with everything that was acknowledged in it.
#[test]
fn a_lost_keyspace_is_missed() {
    let env = MemEnv::new();
    let (db, keyspaces) = open(env.clone(), options()).unwrap();
    let manifest = env
        .list_all()
        .into_iter()
        .find(|path| matches!(FileName::parse(path), Some(FileName::Manifest(_))))
        .unwrap();
    let mut batch = WriteBatch::new();
    batch.put(keyspaces[1], b"k", b"v").unwrap();
    db.write(&batch, &WriteOptions { durability: Durability::Synced, ..WriteOptions::default() }).unwrap();
    let end = env.read_file(&manifest).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    for offset in end - 40..=end {
        let disk = env.crash_clone(CrashPolicy::DropUnsynced, 1);
        disk.flip_bit(&manifest, offset as u64, 4).unwrap();
        match open(disk, options()) {
            Ok((db, keyspaces)) => {
                assert_eq!(
                    db.get(keyspaces[1], b"k", &ReadOptions::default()).unwrap().as_deref(),
                    Some(&b"v"[..]),
                    "byte {offset}"
                );
            }
            Err(error) => assert!(error.is_corruption(), "byte {offset}: {error}"),
        }
    }
}

/// A table that is gone is damage like any other: what does not need it goes on. And while a table is missing, tables that no edit
/// names are left alone, for they may be the only copy.
#[test]
fn a_missing_table() {
    let specimen = specimen(11, true);
    let tables = specimen
        .disk
        .list_all()
        .into_iter()
        .filter(|path| matches!(FileName::parse(path), Some(FileName::Table(_))));
    for table in tables {
        let disk = specimen.disk.crash_clone(CrashPolicy::ProcessKill, 1);
        let kept = FileName::Table(900).path(Path::new("/db"));
        disk.rename(&table, &kept).unwrap();
        let (db, _) = open(disk.clone(), options()).unwrap();
        let errors = specimen.keyspaces.into_iter().flat_map(|keyspace| {
            read_all(&db, keyspace, &specimen.states[specimen.last()], &specimen.keys())
                .into_iter()
                .filter_map(Result::err)
        });
        let errors = errors.chain(db.verify().err()).collect::<Vec<_>>();
        assert!(!errors.is_empty());
        for error in errors {
            assert!(matches!(&error, Error::Corruption { file, .. } if *file == table), "{error}");
        }
        // New tables take numbers that are free.
        db.put(specimen.keyspaces[0], b"new", b"value").unwrap();
        db.flush(specimen.keyspaces[0]).unwrap();
        drop(db);
        assert!(
            disk.exists(&kept).unwrap() && disk.exists(&FileName::Table(901).path(Path::new("/db"))).unwrap()
        );
    }
}
