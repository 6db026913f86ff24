//! The traits behind which the operating system lies. Nothing else in the engine touches `std::fs`, the clock or threads.
//!
//! Implementations: [`OsEnv`](crate::env::os_env::OsEnv) is the real one; [`MemEnv`](crate::env::mem_env::MemEnv) keeps
//! files in memory, knows what was synced, and can clone the disk as a crash would leave it;
//! [`FaultEnv`](crate::env::fault_env::FaultEnv) wraps either and fails chosen operations.

use crate::base::error::Result;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How [`Env::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; reads only.
    Read,
    /// It must exist; reads and writes.
    ReadWrite,
    /// It must not exist; made empty, reads and writes.
    CreateNew,
}

/// An open file. All offsets and lengths are in bytes; methods may be called from many threads at once.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at `offset`. A count below `buf.len()` means the end of the file was reached.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;
    /// As [`read_at`](Self::read_at) if the bytes are in the page cache, else `Ok(None)` without waiting.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>>;
    /// Writes all of `buf` at `offset`, growing the file as needed. After an error nothing is known of these bytes.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;
    /// Makes the file at least `len` long with its space really reserved, so that later writes below `len` cannot meet a
    /// full disk. `NoSpace` if there is no room; the file is then unchanged or shorter than `len`.
    fn allocate(&self, len: u64) -> Result<()>;
    /// Cuts or extends the file to `len`.
    fn set_len(&self, len: u64) -> Result<()>;
    /// Current length.
    fn len(&self) -> Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Waits until data (and the length) are on the disk. After an error the file must be thought lost.
    fn sync(&self) -> Result<()>;
    /// Starts writing the range back without waiting. A hint; the default does nothing.
    fn start_writeback(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// Held while the database is open; dropping it gives the lock back.
pub trait FileLock: Send + Sync + Debug {}

/// A job for [`Env::spawn`].
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Files, folders, clock, randomness and threads.
pub trait Env: Send + Sync + Debug {
    /// Opens or makes a file.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>>;
    /// Removes a file. It stays readable for those who have it open.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Renames a file or folder, replacing a file of that name. Atomic; on the disk after [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Makes a second name for a file.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Names in a folder, sorted, without "." and "..".
    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>>;
    /// Makes a folder and those above it; fine if it is there.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;
    /// Removes a folder and all in it; fine if it is not there.
    fn remove_dir_all(&self, dir: &Path) -> Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Takes the lock file at `path`, making it if needed. Error: `Locked`.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>>;
    /// Free bytes on the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> Result<u64>;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
    /// Random bits, for identities.
    fn random_u64(&self) -> u64;
    /// Starts a background thread; `nice` asks for low priority. `Ok(None)` means that this Env runs no threads: the database
    /// then does background work step by step, when [`Db::step`](crate::Db::step) is called or a writer has to wait for it.
    fn spawn(&self, name: &str, nice: bool, job: Job) -> Result<Option<JoinHandle<()>>>;
    /// Waits. Only background threads and writers that asked to be delayed may call it.
    fn sleep(&self, duration: Duration);
}
