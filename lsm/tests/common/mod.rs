//! What the engine's tests share: a model of a database and random work on both.

#![expect(dead_code, reason = "each test uses a part of it")]

use haypile_lsm::base::rng::Rng;
use haypile_lsm::{Db, Env, IterOptions, KeyspaceId, KeyspaceOptions, Options, ReadOptions, WriteBatch};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The state of all keyspaces: what a reader should see.
pub type Model = BTreeMap<(KeyspaceId, Vec<u8>), Vec<u8>>;

/// One write of a batch.
#[derive(Clone, Debug)]
pub enum Write {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
}

/// Where tests keep their database.
pub fn db_path() -> PathBuf {
    PathBuf::from("/db")
}

/// Blocks so small that a few keys make many.
pub fn small_blocks() -> KeyspaceOptions {
    KeyspaceOptions { block_bytes: 64, ..KeyspaceOptions::default() }
}

/// Opens with two keyspaces.
pub fn open(env: Arc<dyn Env>, options: Options) -> haypile_lsm::Result<(Db, [KeyspaceId; 2])> {
    let db = Db::open(env, Path::new("/db"), options)?;
    let a = db.keyspace_or_create("a", small_blocks())?;
    let b = db.keyspace_or_create("b", small_blocks())?;
    Ok((db, [a, b]))
}

/// A key from a small space, so that overwrites and collisions are common.
pub fn random_key(rng: &mut Rng) -> Vec<u8> {
    format!("k{:03}", rng.below(200)).into_bytes()
}

/// A value that mostly is short and now and then long.
pub fn random_value(rng: &mut Rng) -> Vec<u8> {
    let len = if rng.one_in(40) { rng.below(1500) } else { rng.below(40) };
    let byte = b'a' + rng.below(26) as u8;
    let mut value = vec![byte; len as usize];
    if let Some(first) = value.first_mut() {
        *first = b'0' + rng.below(10) as u8;
    }
    value
}

/// A batch's worth of random writes.
pub fn random_writes(rng: &mut Rng) -> Vec<Write> {
    let count = if rng.one_in(5) { 1 + rng.below(12) } else { 1 };
    (0..count)
        .map(|_| {
            let keyspace = rng.below(2) as usize;
            match rng.below(20) {
                0 => {
                    let (x, y) = (random_key(rng), random_key(rng));
                    if x < y { Write::DeleteRange(keyspace, x, y) } else { Write::Delete(keyspace, x) }
                }
                1..=4 => Write::Delete(keyspace, random_key(rng)),
                _ => Write::Put(keyspace, random_key(rng), random_value(rng)),
            }
        })
        .collect()
}

/// The batch that does `writes`.
pub fn batch_of(writes: &[Write], keyspaces: &[KeyspaceId; 2]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for write in writes {
        match write {
            Write::Put(ks, key, value) => batch.put(keyspaces[*ks], key, value).unwrap(),
            Write::Delete(ks, key) => batch.delete(keyspaces[*ks], key).unwrap(),
            Write::DeleteRange(ks, start, end) => batch.delete_range(keyspaces[*ks], start, end).unwrap(),
        }
    }
    batch
}

/// The same on the model.
pub fn apply(model: &mut Model, writes: &[Write], keyspaces: &[KeyspaceId; 2]) {
    for write in writes {
        match write {
            Write::Put(ks, key, value) => {
                model.insert((keyspaces[*ks], key.clone()), value.clone());
            }
            Write::Delete(ks, key) => {
                model.remove(&(keyspaces[*ks], key.clone()));
            }
            Write::DeleteRange(ks, start, end) => {
                let range = (keyspaces[*ks], start.clone())..(keyspaces[*ks], end.clone());
                let gone = model.range(range).map(|(key, _)| key.clone()).collect::<Vec<_>>();
                for key in gone {
                    model.remove(&key);
                }
            }
        }
    }
}

/// Runs are read without fewer first bytes of keys than this; how many, depends on how many keys there are.
const SKIPPED_MAX: usize = 9;

/// Entries without the first bytes of their keys.
fn tails(entries: &[(Vec<u8>, Vec<u8>)], skipped: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let tail = |key: &Vec<u8>| key.get(skipped..).unwrap_or_default().to_vec();
    entries.iter().map(|(key, value)| (tail(key), value.clone())).collect()
}

/// Everything in a keyspace, read forward.
pub fn scan(db: &Db, keyspace: KeyspaceId, sequence: Option<u64>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = ReadOptions { sequence, ..ReadOptions::default() };
    let mut iter = db.iter(keyspace, IterOptions { read, ..IterOptions::default() }).unwrap();
    let mut found = Vec::new();
    iter.seek_to_first().unwrap();
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next().unwrap();
    }
    // In one go from the middle on, and up to there: the same.
    let (middle, skipped) = (found.len() / 2, found.len() % SKIPPED_MAX);
    let mut again = Vec::new();
    iter.seek_to_first().unwrap();
    for _ in 0..2 {
        iter.for_each_tail(skipped, |tail, value| {
            again.push((tail.to_vec(), value.to_vec()));
            if again.len() == middle { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        if iter.valid() {
            assert_eq!(iter.key(), found[middle - 1].0);
            iter.next().unwrap();
        }
    }
    assert_eq!(again.len(), found.len());
    assert_same(&again, &tails(&found, skipped), "handed out in runs");
    found
}

/// Everything in a keyspace, read backwards, turned around.
pub fn scan_reverse(db: &Db, keyspace: KeyspaceId, sequence: Option<u64>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = ReadOptions { sequence, ..ReadOptions::default() };
    let mut iter = db.iter(keyspace, IterOptions { read, ..IterOptions::default() }).unwrap();
    let mut found = Vec::new();
    iter.seek_to_last().unwrap();
    while iter.valid() {
        found.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.prev().unwrap();
    }
    // In one go from the middle back, and down to there: the same.
    let (middle, skipped) = (found.len() / 2, found.len() % SKIPPED_MAX);
    let mut again = Vec::new();
    iter.seek_to_last().unwrap();
    for _ in 0..2 {
        iter.for_each_tail_back(skipped, |tail, value| {
            again.push((tail.to_vec(), value.to_vec()));
            if again.len() == middle { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        if iter.valid() {
            assert_eq!((iter.key(), iter.value()), (&*found[middle - 1].0, &*found[middle - 1].1));
            iter.prev().unwrap();
        }
    }
    assert_eq!(again.len(), found.len());
    assert_same(&again, &tails(&found, skipped), "handed out in runs, backwards");
    found.reverse();
    found
}

/// The model's content of a keyspace.
pub fn content(model: &Model, keyspace: KeyspaceId) -> Vec<(Vec<u8>, Vec<u8>)> {
    model
        .range((keyspace, Vec::new())..(keyspace + 1, Vec::new()))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

/// Panics with the differences unless both are equal.
pub fn assert_same(found: &[(Vec<u8>, Vec<u8>)], expected: &[(Vec<u8>, Vec<u8>)], context: &str) {
    if found == expected {
        return;
    }
    let show = |(key, value): &(Vec<u8>, Vec<u8>)| {
        format!(
            "{}={}*{}",
            key.escape_ascii(),
            value.escape_ascii().take(4).map(char::from).collect::<String>(),
            value.len()
        )
    };
    let extra = found.iter().filter(|entry| !expected.contains(entry)).map(show).collect::<Vec<_>>();
    let missing = expected.iter().filter(|entry| !found.contains(entry)).map(show).collect::<Vec<_>>();
    panic!("{context}: not expected {extra:?}, missing {missing:?}");
}

/// Panics unless the database holds exactly what the model does, by scans and by gets.
pub fn check(db: &Db, model: &Model, keyspaces: &[KeyspaceId; 2], sequence: Option<u64>, context: &str) {
    for &keyspace in keyspaces {
        let expected = content(model, keyspace);
        let said = |what: &str| format!("{what} of {keyspace}, {context}");
        assert_same(&scan(db, keyspace, sequence), &expected, &said("forward scan"));
        assert_same(&scan_reverse(db, keyspace, sequence), &expected, &said("reverse scan"));
        let read = ReadOptions { sequence, ..ReadOptions::default() };
        for number in 0..200 {
            let key = format!("k{number:03}").into_bytes();
            let expected = model.get(&(keyspace, key.clone()));
            let found = db.get(keyspace, &key, &read).unwrap();
            assert!(found.as_ref() == expected, "get {} of {keyspace}, {context}", key.escape_ascii());
        }
    }
}
