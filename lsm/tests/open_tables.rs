//! `Options::open_tables_max`: how many table files are open, counted where they are opened.

mod common;

use common::{open, scan};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::env::env::{File, FileLock, Job, OpenMode};
use haypile_lsm::env::filename::FileName;
use haypile_lsm::{Db, Env, KeyspaceId, MemEnv, Options, ReadOptions, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Counts the table files that are open for reading.
#[derive(Debug)]
struct CountingEnv {
    inner: Arc<dyn Env>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Counts {
    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    /// The most since the last call.
    fn take_peak(&self) -> usize {
        self.peak.swap(self.now(), Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct CountedFile {
    inner: Arc<dyn File>,
    counts: Arc<Counts>,
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.counts.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl File for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        self.inner.read_at_nowait(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.inner.write_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> Result<()> {
        self.inner.allocate(len)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }
}

impl Env for CountingEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        if mode != OpenMode::Read || !matches!(FileName::parse(path), Some(FileName::Table(_))) {
            return Ok(inner);
        }
        let now = self.counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.counts.peak.fetch_max(now, Ordering::SeqCst);
        Ok(Arc::new(CountedFile { inner, counts: self.counts.clone() }))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.hard_link(from, to)
    }
    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        self.inner.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.inner.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        self.inner.lock(path)
    }
    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.inner.free_bytes(path)
    }
    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }
    fn unix_ms(&self) -> u64 {
        self.inner.unix_ms()
    }
    fn random_u64(&self) -> u64 {
        self.inner.random_u64()
    }
    fn spawn(&self, name: &str, nice: bool, job: Job) -> Result<Option<JoinHandle<()>>> {
        self.inner.spawn(name, nice, job)
    }
    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

const KEYS: u64 = 3000;

fn key(number: u64) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

/// A database of dozens of tables on several levels.
fn database(inner: Arc<MemEnv>, most: usize, cache_bytes: usize) -> (Arc<Counts>, Db, KeyspaceId) {
    let counts = Arc::new(Counts::default());
    let env = Arc::new(CountingEnv { inner, counts: counts.clone() });
    let options = Options { open_tables_max: most, block_cache_bytes: cache_bytes, ..Options::tiny() };
    let (db, [keyspace, _]) = open(env, options).unwrap();
    let mut rng = Rng::new(7);
    for number in 0..2 * KEYS {
        db.put(keyspace, &key(rng.below(KEYS)), &number.to_be_bytes()).unwrap();
    }
    for number in 0..KEYS {
        db.put(keyspace, &key(number), &number.to_be_bytes()).unwrap();
    }
    db.delete_range(keyspace, &key(10), &key(20)).unwrap();
    db.flush(keyspace).unwrap();
    db.wait_idle().unwrap();
    (counts, db, keyspace)
}

fn property(db: &Db, name: &str) -> usize {
    let all = db.properties();
    all.iter().find(|(known, _)| known == name).map(|(_, value)| value.parse().unwrap()).unwrap()
}

#[test]
fn descriptors_are_bounded() {
    let env = MemEnv::new();
    let (counts, db, keyspace) = database(env.clone(), 2, 0);
    let tables = env.list_all().iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).count();
    assert!(tables > 10, "{tables} tables show little");
    assert!(counts.take_peak() <= 2, "while filling and compacting");
    for number in (0..KEYS).chain((0..KEYS).rev()) {
        let value = db.get(keyspace, &key(number), &ReadOptions::default()).unwrap();
        let expected = (!(10..20).contains(&number)).then(|| number.to_be_bytes().to_vec());
        assert_eq!(value, expected, "key {number}");
    }
    assert_eq!(scan(&db, keyspace, None).len() as u64, KEYS - 10);
    db.verify().unwrap();
    assert_eq!((counts.take_peak(), property(&db, "open_tables")), (2, 2));
    db.close().unwrap();
    drop(db);
    // The last view goes when no thread of the process may be reading in it: other tests run beside this one.
    for _ in 0..500 {
        crossbeam_epoch::pin().flush();
        if counts.now() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} descriptors are left", counts.now());
}

#[test]
fn what_is_cached_needs_no_descriptor() {
    let env = MemEnv::new();
    let (counts, db, keyspace) = database(env, 2, 64 << 20);
    let read_all = |options: &ReadOptions| {
        (0..KEYS).try_for_each(|number| db.get(keyspace, &key(number), options).map(drop))
    };
    read_all(&ReadOptions::default()).unwrap();
    // Every block is cached, though all but two of the files are closed.
    counts.take_peak();
    read_all(&ReadOptions::memory_only()).unwrap();
    assert!(counts.take_peak() <= 2);
}

#[test]
fn what_is_not_cached_needs_io_if_its_file_is_closed() {
    let env = MemEnv::new();
    let (counts, db, keyspace) = database(env, 2, 0);
    db.get(keyspace, &key(KEYS - 1), &ReadOptions::default()).unwrap();
    let opened = counts.now();
    // The page cache has everything here, but asking it takes a descriptor.
    let get = |number| db.get(keyspace, &key(number), &ReadOptions::memory_only());
    assert!(get(KEYS - 1).is_ok());
    let closed = (0..KEYS).filter(|&number| get(number).is_err_and(|error| error.is_needs_io())).count();
    assert!(closed > KEYS as usize / 2, "{closed} of {KEYS}");
    assert_eq!(counts.now(), opened, "a read of memory only opens nothing");
}

#[test]
fn readers_at_once_open_at_most_one_more_each() {
    const READERS: usize = 4;
    let (counts, db, keyspace) = database(MemEnv::threaded(), 2, 0);
    counts.take_peak();
    std::thread::scope(|scope| {
        for reader in 0..READERS as u64 {
            let db = &db;
            scope.spawn(move || {
                let mut rng = Rng::new(reader + 1);
                for _ in 0..3000 {
                    let number = rng.below(KEYS);
                    let value = db.get(keyspace, &key(number), &ReadOptions::default()).unwrap();
                    let expected = (!(10..20).contains(&number)).then(|| number.to_be_bytes().to_vec());
                    assert_eq!(value, expected, "key {number}");
                }
            });
        }
    });
    let peak = counts.take_peak();
    assert!(peak <= 2 + READERS, "{peak} were open");
    assert!(counts.now() <= 2);
}
