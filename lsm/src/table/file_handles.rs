//! Bounds how many table files are open: at most so many descriptors are kept, the others are opened again when they are read.
//!
//! A [`BoundedFile`] is a table's file to whoever reads it: it has a path and, for a while, a descriptor. What a table keeps in memory and
//! what the block cache holds needs none, so a read that finds everything there never comes here. A read that may not wait
//! (`read_at_nowait`) and meets a closed file says that it does not know; any other opens it.
//!
//! ```text
//! FileHandles   kept: [ slot | slot | slot ]  <- a clock: what was read since the hand came past stays for another round
//! BoundedFile   slot: RwLock<Option<descriptor>>, held shared while reading, so nobody closes under a reader
//! ```
//!
//! Slots change only under the lock of the list, and only by `try_write`: no reader ever waits for another, and a file that is being
//! read is passed over. If all are, a descriptor serves one read and is closed again: beyond those kept there is at most one for each
//! read in flight. System calls are made outside the lock.
//!
//! Not bounded here: log, manifest and the outputs of running jobs, which are few.

use crate::base::error::{Error, Result};
use crate::env::env::{Env, File, OpenMode};
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak};

/// The open table files of one database.
#[derive(Debug)]
pub struct FileHandles {
    env: Arc<dyn Env>,
    most: usize,
    /// Each slot that has a descriptor, once. Those whose file was dropped stay until somebody needs the room.
    kept: Mutex<VecDeque<Weak<Slot>>>,
    /// How many are in `kept`, as of the last change.
    known: AtomicUsize,
    /// How many of `kept` were dropped. Relaxed: says only when a look pays; the list is behind its lock.
    dropped: AtomicUsize,
}

/// A table file that is open now and then.
pub struct BoundedFile {
    handles: Arc<FileHandles>,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    path: PathBuf,
    file: RwLock<Option<Arc<dyn File>>>,
    /// Read since the clock's hand came past. Relaxed: a hint.
    used: AtomicBool,
}

impl FileHandles {
    /// Keeps at most `most` files open.
    pub fn new(env: Arc<dyn Env>, most: usize) -> FileHandles {
        FileHandles {
            env,
            most,
            kept: Mutex::default(),
            known: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        }
    }

    /// The table file at `path`, to be opened when it is first read.
    pub fn file(self: &Arc<Self>, path: PathBuf) -> BoundedFile {
        let slot = Slot { path, file: RwLock::new(None), used: AtomicBool::new(false) };
        BoundedFile { handles: Arc::clone(self), slot: Arc::new(slot) }
    }

    /// How many are open and kept.
    pub fn count(&self) -> usize {
        self.lock().iter().filter(|slot| slot.strong_count() > 0).count()
    }

    /// About as many, without waiting for anybody: those whose file was dropped count until somebody needs the room.
    pub fn known(&self) -> usize {
        // Relaxed: a number for people.
        self.known.load(Ordering::Relaxed)
    }

    /// Keeps everybody out; for tests of those who must not wait.
    #[cfg(test)]
    pub fn hold(&self) -> impl Drop + '_ {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<Slot>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes files until there is room for one more; false if all are being read.
    fn make_room(&self) -> bool {
        let mut closed = Vec::new();
        self.make_room_in(&mut self.lock(), &mut closed)
    }

    /// Takes descriptors out into `closed`, to be dropped when the lock is not held any more.
    fn make_room_in(&self, kept: &mut VecDeque<Weak<Slot>>, closed: &mut Vec<Arc<dyn File>>) -> bool {
        if kept.len() >= self.most && self.dropped.swap(0, Ordering::Relaxed) > 0 {
            kept.retain(|slot| slot.strong_count() > 0);
        }
        // Twice around: the first time a file may be let off for having been used.
        let mut looks = 2 * kept.len();
        while kept.len() >= self.most {
            let Some(weak) = kept.pop_front() else { return false };
            let Some(slot) = weak.upgrade() else { continue };
            if looks == 0 {
                kept.push_front(weak);
                return false;
            }
            looks -= 1;
            if slot.used.swap(false, Ordering::Relaxed) {
                kept.push_back(weak);
                continue;
            }
            match slot.file.try_write() {
                Ok(mut file) => closed.extend(file.take()),
                Err(TryLockError::Poisoned(file)) => closed.extend(file.into_inner().take()),
                Err(TryLockError::WouldBlock) => kept.push_back(weak),
            }
        }
        true
    }

    /// Keeps a descriptor for its file's next reads, if there is room and nobody else has brought one.
    fn keep(&self, slot: &Arc<Slot>, file: Arc<dyn File>) {
        let mut closed = Vec::new();
        let mut kept = self.lock();
        if self.make_room_in(&mut kept, &mut closed) {
            let mut place = match slot.file.try_write() {
                Ok(place) => place,
                Err(TryLockError::Poisoned(place)) => place.into_inner(),
                // Somebody reads through it or is just finding that there is none: the next read brings one.
                Err(TryLockError::WouldBlock) => return drop(kept),
            };
            if place.is_none() {
                *place = Some(file);
                kept.push_back(Arc::downgrade(slot));
            }
        }
        self.known.store(kept.len(), Ordering::Relaxed);
        drop(kept);
    }
}

impl BoundedFile {
    /// Hands the file to `read`, opened if it is not open.
    fn with<R>(&self, read: impl FnOnce(&dyn File) -> Result<R>) -> Result<R> {
        if let Some(file) = &*self.slot.file.read().unwrap_or_else(PoisonError::into_inner) {
            self.slot.touch();
            return read(&**file);
        }
        self.handles.make_room();
        let path = &self.slot.path;
        let file =
            self.handles.env.open(path, OpenMode::Read).map_err(|error| match error.is_not_found() {
                // The manifest says that it is there.
                true => Error::corruption(path, 0, "the table is missing"),
                false => error,
            })?;
        let result = read(&*file);
        self.slot.touch();
        self.handles.keep(&self.slot, file);
        result
    }

    fn read_only<R>(&self, operation: &str) -> Result<R> {
        Err(Error::invalid(format!("{operation} {}: a table is never changed", self.slot.path.display())))
    }
}

impl Slot {
    fn touch(&self) {
        // Looked at first: a line that all readers of the file share is not written more than it must be.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl File for BoundedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.with(|file| file.read_at(buf, offset))
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        // Who holds the slot alone is changing it: that the file is not at hand just now is answer enough.
        let file = match self.slot.file.try_read() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(file)) => file.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let Some(file) = &*file else { return Ok(None) };
        self.slot.touch();
        file.read_at_nowait(buf, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        self.read_only("write")
    }

    fn allocate(&self, _: u64) -> Result<()> {
        self.read_only("allocate")
    }

    fn set_len(&self, _: u64) -> Result<()> {
        self.read_only("set length of")
    }

    fn len(&self) -> Result<u64> {
        self.with(|file| file.len())
    }

    fn sync(&self) -> Result<()> {
        self.read_only("sync")
    }
}

impl fmt::Debug for BoundedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedFile").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Drop for BoundedFile {
    fn drop(&mut self) {
        // Without a lock: readers drop tables too. The list's entry is dead from now on and cleared away when room is needed.
        self.handles.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::mem_env::MemEnv;
    use std::path::Path;

    fn files(most: usize, count: usize) -> (Arc<FileHandles>, Vec<BoundedFile>) {
        let env = MemEnv::new();
        let handles = Arc::new(FileHandles::new(env.clone(), most));
        let file = |number: usize| {
            let path = Path::new("/").join(number.to_string());
            env.open(&path, OpenMode::CreateNew).unwrap().write_at(&[number as u8; 4], 0).unwrap();
            handles.file(path)
        };
        let files = (0..count).map(file).collect();
        (handles, files)
    }

    fn read(file: &BoundedFile) -> u8 {
        let mut byte = [0];
        assert_eq!(file.read_at(&mut byte, 1).unwrap(), 1);
        byte[0]
    }

    fn is_open(file: &BoundedFile) -> bool {
        file.read_at_nowait(&mut [0], 0).unwrap().is_some()
    }

    #[test]
    fn no_more_are_open_than_asked_for() {
        let (handles, files) = files(2, 5);
        for round in 0..3 {
            for (number, file) in files.iter().enumerate() {
                assert_eq!(read(file), number as u8);
                assert!(is_open(file), "file {number}, round {round}");
                assert!(handles.count() <= 2);
            }
        }
        assert_eq!(files.iter().filter(|file| is_open(file)).count(), 2);
    }

    #[test]
    fn what_is_read_stays_open() {
        let (_, files) = files(3, 20);
        read(&files[0]);
        for file in &files[1..] {
            read(file);
            read(&files[0]);
            assert!(is_open(&files[0]));
        }
    }

    #[test]
    fn a_dropped_file_makes_room() {
        let (handles, mut files) = files(2, 3);
        read(&files[0]);
        read(&files[1]);
        drop(files.remove(1));
        assert_eq!(handles.count(), 1);
        read(&files[1]);
        assert!(is_open(&files[0]) && is_open(&files[1]));
    }

    #[test]
    fn a_file_being_read_is_not_closed() {
        let (handles, files) = files(1, 2);
        read(&files[0]);
        let reading = files[0].slot.file.read().unwrap();
        // This read has a descriptor of its own.
        assert_eq!(read(&files[1]), 1);
        assert!(is_open(&files[0]) && !is_open(&files[1]));
        drop(reading);
        read(&files[1]);
        assert!(!is_open(&files[0]) && is_open(&files[1]));
        assert_eq!(handles.count(), 1);
    }

    #[test]
    fn none_need_be_kept() {
        let (handles, files) = files(0, 2);
        assert_eq!((read(&files[0]), read(&files[1]), read(&files[0])), (0, 1, 0));
        assert_eq!(handles.count(), 0);
    }

    #[test]
    fn a_missing_table_is_damage() {
        let handles = Arc::new(FileHandles::new(MemEnv::new(), 1));
        let error = handles.file("/000007.sst".into()).read_at(&mut [0], 0).unwrap_err();
        assert!(error.is_corruption() && error.to_string().contains("/000007.sst"), "{error}");
    }
}
