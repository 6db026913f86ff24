//! The database as its users see it. Every method here is a thin door to the file that does the work.

use crate::base::batch::{KeyspaceId, WriteBatch};
use crate::base::error::Result;
use crate::base::hooks::Note;
use crate::base::key::Lsn;
use crate::base::metrics::MetricsSnapshot;
use crate::base::options::{IterOptions, KeyspaceOptions, Options, ReadOptions, WriteOptions};
use crate::db::background::{self, Background};
use crate::db::iter::{Iter, iter};
use crate::db::read::{Found, PinnedValue, Reader, count_needs_io, latest, look_ahead, may_contain, read};
use crate::db::snapshots::Snapshot;
use crate::db::state::{Shared, lock};
use crate::db::status::MemoryUse;
use crate::db::{checkpoint, commit, keyspaces, manual, recovery, status, verify};
use crate::env::env::Env;
use crate::wal::reader::WalReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Name of the keyspace that every database has.
pub const DEFAULT_KEYSPACE: &str = "default";

/// An open database. All methods may be called from many threads at once.
///
/// Dropping it stops the threads and loses nothing acknowledged; [`close`](Db::close) does the same and says whether it
/// went well.
///
/// ```
/// use haypile_lsm::{Db, MemEnv, Options, ReadOptions};
/// let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default())?;
/// let ks = db.default_keyspace();
/// db.put(ks, b"pika", b"stores hay")?;
/// assert_eq!(db.get(ks, b"pika", &ReadOptions::default())?.as_deref(), Some(&b"stores hay"[..]));
/// db.close()?;
/// # Ok::<(), haypile_lsm::Error>(())
/// ```
#[derive(Debug)]
pub struct Db {
    shared: Arc<Shared>,
    background: Background,
    default_keyspace: KeyspaceId,
}

impl Db {
    /// For tests of this floor.
    #[cfg(test)]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens the database in folder `path`, making it if `options` say so. Recovers what a crash left: a torn end of the log is
    /// cut off, anything else that is damaged is an error. Cost: proportional to the log that was not flushed.
    ///
    /// Errors: `Locked`, `Corruption` (with file and offset), `UpgradeRequired`, `InvalidArgument`, `Io`, `NoSpace`.
    pub fn open(env: Arc<dyn Env>, path: &Path, options: Options) -> Result<Db> {
        let shared = recovery::open(env, path, options)?;
        let background = Background::start(&shared)?;
        // From here on dropping `db` stops the threads and gives the folder back.
        let mut db = Db { shared, background, default_keyspace: 0 };
        db.default_keyspace = db.keyspace_or_create(DEFAULT_KEYSPACE, KeyspaceOptions::default())?;
        Ok(db)
    }

    /// Removes the database in folder `path`, with everything in that folder. Error: `Locked` if it is open.
    pub fn destroy(env: Arc<dyn Env>, path: &Path) -> Result<()> {
        recovery::destroy(&env, path)
    }

    /// The keyspace that is always there.
    pub fn default_keyspace(&self) -> KeyspaceId {
        self.default_keyspace
    }

    /// The keyspace of that name, made with `options` if there is none (an existing one keeps its own).
    pub fn keyspace_or_create(&self, name: &str, options: KeyspaceOptions) -> Result<KeyspaceId> {
        keyspaces::get_or_create(&self.shared, name, options)
    }

    /// The keyspace of that name.
    pub fn keyspace(&self, name: &str) -> Option<KeyspaceId> {
        let view = self.shared.view.load_owned();
        view.keyspaces().find(|keyspace| *keyspace.name == *name).map(|keyspace| keyspace.id)
    }

    /// Number and name of every keyspace.
    pub fn keyspaces(&self) -> Vec<(KeyspaceId, String)> {
        let view = self.shared.view.load_owned();
        view.keyspaces().map(|keyspace| (keyspace.id, keyspace.name.to_string())).collect()
    }

    /// Removes a keyspace and all in it. Its number is never used again.
    pub fn drop_keyspace(&self, id: KeyspaceId) -> Result<()> {
        keyspaces::drop_keyspace(&self.shared, id)
    }

    /// Commits a batch: all of it or nothing becomes visible, and survives a crash. Returns its LSN once it is visible and as
    /// durable as `options` ask.
    ///
    /// Errors: `InvalidArgument` and `NoSpace` leave nothing behind; `Poisoned` after a failure of the log means that the
    /// outcome is known only after a restart; `Closed`.
    pub fn write(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<Lsn> {
        commit::commit(&self.shared, batch, options)
    }

    /// Sets a key. [`write`](Self::write) with default options.
    pub fn put(&self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<Lsn> {
        let mut batch = WriteBatch::new();
        batch.put(keyspace, key, value)?;
        self.write(&batch, &WriteOptions::default())
    }

    /// Removes a key.
    pub fn delete(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Lsn> {
        let mut batch = WriteBatch::new();
        batch.delete(keyspace, key)?;
        self.write(&batch, &WriteOptions { frees_space: true, ..WriteOptions::default() })
    }

    /// Removes every key in `[start, end)`. Cost: one record, however many keys.
    pub fn delete_range(&self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<Lsn> {
        let mut batch = WriteBatch::new();
        batch.delete_range(keyspace, start, end)?;
        self.write(&batch, &WriteOptions { frees_space: true, ..WriteOptions::default() })
    }

    /// Looks a key up and hands the value, without copying it, to `with`.
    pub fn read<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &ReadOptions,
        with: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        let answer =
            read(&self.shared, keyspace, key, options, |found| with(found.as_ref().map(Found::value)));
        count_needs_io(&self.shared, answer)
    }

    /// A hint that these keys (the first 16 of them) will be read soon, or written if `to_write`: has what that will look at in the memtables
    /// fetched into the processor's cache. A search waits for memory again and again; those of several keys wait together. Cost: about
    /// as much as the reads or writes themselves would without waiting, so it pays for keys all over a large memtable, in batches.
    ///
    /// ```
    /// # use haypile_lsm::{Db, Options, MemEnv};
    /// # let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default()).unwrap();
    /// # let ks = db.default_keyspace();
    /// let keys = [&b"apple"[..], b"pear", b"plum"];
    /// db.look_ahead(ks, keys.iter().copied(), true);
    /// for key in keys {
    ///     db.put(ks, key, b"1").unwrap();
    /// }
    /// ```
    pub fn look_ahead<'k>(&self, keyspace: KeyspaceId, keys: impl Iterator<Item = &'k [u8]>, to_write: bool) {
        look_ahead(&self.shared, keyspace, keys, to_write);
    }

    /// Looks a key up. Errors: `NeedsIo` for a memory-only read that would have to touch the disk, `Corruption`, `Io`.
    pub fn get(&self, keyspace: KeyspaceId, key: &[u8], options: &ReadOptions) -> Result<Option<Vec<u8>>> {
        self.read(keyspace, key, options, |value| value.map(<[u8]>::to_vec))
    }

    /// Looks a key up and keeps the value alive where it lies.
    pub fn get_pinned(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<PinnedValue>> {
        let answer = read(&self.shared, keyspace, key, options, |found| found.map(|found| found.pin()));
        count_needs_io(&self.shared, answer)
    }

    /// Whether a key is there. May have to read its block, as [`get`](Self::get) does.
    pub fn contains(&self, keyspace: KeyspaceId, key: &[u8], options: &ReadOptions) -> Result<bool> {
        self.read(keyspace, key, options, |value| value.is_some())
    }

    /// Whether a key may be there, from memory alone: false is sure.
    pub fn may_contain(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        may_contain(&self.shared, keyspace, key)
    }

    /// Looks several keys up at one moment.
    pub fn multi_get(
        &self,
        keyspace: KeyspaceId,
        keys: &[&[u8]],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let reader = self.reader(options);
        keys.iter()
            .map(|key| reader.read(keyspace, key, options, |value| value.map(<[u8]>::to_vec)))
            .collect()
    }

    /// One read point for several reads.
    pub fn reader(&self, options: &ReadOptions) -> Reader {
        Reader::new(self.shared.clone(), options)
    }

    /// An iterator over a keyspace, at the moment that `options.read` ask for.
    pub fn iter(&self, keyspace: KeyspaceId, options: IterOptions) -> Result<Iter> {
        iter(&self.reader(&options.read), keyspace, options)
    }

    /// A moment that can be read at until it is dropped.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshots.take(self.shared.env.monotonic(), || latest(&self.shared))
    }

    /// Everything up to here may be read.
    pub fn visible_lsn(&self) -> Lsn {
        self.shared.publisher.visible()
    }

    /// What a read of the latest sees at most: as [`visible_lsn`](Self::visible_lsn), but of a poisoned database only what is on the
    /// disk for sure.
    pub fn readable_lsn(&self) -> Lsn {
        latest(&self.shared)
    }

    /// Everything up to here was handed to the operating system.
    pub fn written_lsn(&self) -> Lsn {
        self.shared.log.written()
    }

    /// Everything up to here is on the disk.
    pub fn synced_lsn(&self) -> Lsn {
        self.shared.log.synced()
    }

    /// Hands the log to the operating system unless somebody else is at it (who then takes this caller's records along) or the
    /// disk is slow (the log thread then does it). Never waits for another thread.
    pub fn try_flush_wal(&self) -> Result<()> {
        if self.shared.log.io_is_slow() {
            self.shared.log.wake_writer();
            return Ok(());
        }
        self.shared.log.try_write()
    }

    /// Returns once everything up to `lsn` was handed to the operating system.
    pub fn flush_wal(&self, lsn: Lsn) -> Result<()> {
        self.shared.log.write_to(lsn)
    }

    /// Returns once everything up to `lsn` is on the disk.
    pub fn sync_wal(&self, lsn: Lsn) -> Result<()> {
        self.shared.log.sync_to(lsn)
    }

    /// Asks the log thread for a sync of everything appended so far and returns at once; the log listener tells when.
    pub fn request_sync(&self) {
        self.shared.log.request_sync();
    }

    /// How long a write of `bytes` should wait because background work is behind. `None`: not at all. A caller that parks
    /// its clients asks here and writes with `obey_delay` off.
    pub fn write_delay(&self, bytes: usize) -> Option<Duration> {
        commit::write_delay(&self.shared, bytes)
    }

    /// Counts a wait that [`write_delay`](Self::write_delay) asked for and that was served.
    pub fn note_delay(&self, wait: Duration) {
        commit::note_delay(&self.shared, wait);
    }

    /// Whether the log can take writes right now: not poisoned, and with space.
    pub fn wal_has_room(&self) -> bool {
        self.shared.log.has_room() && !self.shared.low_space.load(Ordering::Relaxed)
    }

    /// Reads the log from the batch behind `from` on, and goes on as it grows.
    pub fn wal_reader(&self, from: Lsn) -> Result<WalReader> {
        self.shared.log.reader(from)
    }

    /// Writes a keyspace's memtable to a table and waits for that. After an error the memtable stays, and the background goes on trying.
    pub fn flush(&self, keyspace: KeyspaceId) -> Result<()> {
        manual::flush_keyspace(&self.shared, keyspace)
    }

    /// Compacts everything in `[start, end)` (`None`: no bound) down to the bottom and waits for that.
    pub fn compact_range(
        &self,
        keyspace: KeyspaceId,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<()> {
        manual::compact_range(&self.shared, keyspace, start, end)
    }

    /// Waits until there is nothing left to flush or compact.
    pub fn wait_idle(&self) -> Result<()> {
        manual::wait_idle(&self.shared)
    }

    /// Does one piece of background work, for an Env without threads. Returns whether there was any.
    pub fn step(&self) -> Result<bool> {
        background::step(&self.shared)
    }

    /// Keeps flushes and compactions from starting until the guard is dropped. Writers may come to a halt meanwhile.
    pub fn pause_background(&self) -> background::Pause {
        background::Pause::new(self.shared.clone())
    }

    /// Makes a copy of the database, as of the returned LSN, in the new folder `path` on the same file system: tables are hard
    /// links, the log is copied. Writers are held up only while the LSN is drawn.
    pub fn checkpoint(&self, path: &Path) -> Result<Lsn> {
        checkpoint::checkpoint(&self.shared, path)
    }

    /// Reads every table whole and checks order, bounds and checksums.
    pub fn verify(&self) -> Result<()> {
        verify::verify(&self.shared)
    }

    /// About how many bytes of tables the keys in `[start, end)` take.
    pub fn approximate_size(&self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<u64> {
        verify::approximate_size(&self.shared, keyspace, start, end)
    }

    /// Counters since open.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    /// Names and values that describe the state of the engine: levels, sizes, debt, watermarks.
    pub fn properties(&self) -> Vec<(String, String)> {
        status::properties(&self.shared)
    }

    /// Where its memory is. Never waits.
    pub fn memory(&self) -> MemoryUse {
        status::memory(&self.shared)
    }

    /// Why the database takes no more writes, if so.
    pub fn poisoned(&self) -> Option<String> {
        self.shared.log.poisoned()
    }

    /// Identifies the history of this database; checkpoints share it.
    pub fn history(&self) -> u64 {
        self.shared.history
    }

    /// Notes of hooks that nobody has acknowledged yet, oldest first, at most `max`.
    pub fn pending_notes(&self, max: usize) -> Vec<Note> {
        lock(&self.shared.manifest).state().notes.values().take(max).cloned().collect()
    }

    /// Forgets notes. Durable on return.
    pub fn acknowledge_notes(&self, ids: &[u64]) -> Result<()> {
        keyspaces::acknowledge_notes(&self.shared, ids)
    }

    /// Takes `bytes` off the block cache's budget, for another use of that memory; blocks over it leave at once, on this thread. An
    /// eighth of the cache stays, for filters and indexes. 0 gives everything back.
    pub fn lend_cache(&self, bytes: usize) {
        let whole = self.shared.options.block_cache_bytes;
        let lent = bytes.min(whole - whole / 8);
        // Relaxed: only tells whether there is anything to do.
        if self.shared.cache_lent_bytes.swap(lent, Ordering::Relaxed) != lent {
            self.shared.cache.set_capacity(whole - lent);
        }
    }

    /// Stops the threads, hands the log to the disk and gives the folder back. Further writes answer `Closed`. Calling it again
    /// does nothing.
    pub fn close(&self) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.background.stop(&self.shared);
        let closed = self.shared.log.close().and_then(|()| lock(&self.shared.manifest).seal());
        lock(&self.shared.lock).take();
        closed
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.shared.event(&format!("close failed: {error}"));
        }
    }
}
