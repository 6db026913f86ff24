//! Wraps an environment and makes chosen operations fail, tear, lie or dawdle.
//!
//! A [`Fault`] names the operations it applies to (a set of kinds and a part of the path), which one of them it hits, and
//! what happens then. Every operation is counted, so a test can fail the first, the second, ... until the work under
//! test no longer notices. A failed write or sync reaches the inner environment not at all (`ShortWrite`: by half).
//!
//! One mutex over the list of faults; it is not held during the operation itself.

use crate::base::error::{Error, Result};
use crate::env::env::{Env, File, FileLock, Job, OpenMode};
use std::io;
use std::ops::BitOr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A set of kinds of operations; join with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations(u32);

impl Operations {
    /// Opening a file that is there.
    pub const OPEN: Operations = Operations(1);
    /// Making a file.
    pub const CREATE: Operations = Operations(1 << 1);
    /// Reading.
    pub const READ: Operations = Operations(1 << 2);
    /// Writing.
    pub const WRITE: Operations = Operations(1 << 3);
    /// Reserving space.
    pub const ALLOCATE: Operations = Operations(1 << 4);
    /// Cutting or extending.
    pub const SET_LEN: Operations = Operations(1 << 5);
    /// Syncing a file.
    pub const SYNC: Operations = Operations(1 << 6);
    /// Removing a file or folder.
    pub const REMOVE: Operations = Operations(1 << 7);
    /// Renaming.
    pub const RENAME: Operations = Operations(1 << 8);
    /// Linking.
    pub const HARD_LINK: Operations = Operations(1 << 9);
    /// Listing a folder.
    pub const LIST: Operations = Operations(1 << 10);
    /// Making a folder.
    pub const CREATE_DIR: Operations = Operations(1 << 11);
    /// Syncing a folder.
    pub const SYNC_DIR: Operations = Operations(1 << 12);
    /// Taking a lock.
    pub const LOCK: Operations = Operations(1 << 13);
    /// Starting a thread; the path is its name.
    pub const SPAWN: Operations = Operations(1 << 14);
    /// Everything that changes the disk.
    pub const MUTATING: Operations = Operations(
        Self::CREATE.0
            | Self::WRITE.0
            | Self::ALLOCATE.0
            | Self::SET_LEN.0
            | Self::SYNC.0
            | Self::REMOVE.0
            | Self::RENAME.0
            | Self::HARD_LINK.0
            | Self::CREATE_DIR.0
            | Self::SYNC_DIR.0,
    );
    /// Everything.
    pub const ALL: Operations = Operations((1 << 15) - 1);

    /// Whether any kind is in both.
    pub fn intersects(self, other: Operations) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Operations {
    type Output = Operations;
    fn bitor(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }
}

/// What happens to an operation that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It fails with an I/O error and has no effect.
    Eio,
    /// It fails for lack of space and has no effect.
    NoSpace,
    /// Half of the bytes are written, then an I/O error. On anything but a write: as `Eio`.
    ShortWrite,
    /// A read that covers this offset of the file sees the lowest bit of that byte flipped. Nothing on other operations.
    FlipRead {
        /// Offset in the file.
        offset: u64,
    },
    /// It works, but only after this long.
    Delay(Duration),
}

/// One planned failure.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kinds of operations it may hit.
    pub operation: Operations,
    /// The path must contain this; empty for any.
    pub path_contains: String,
    /// Which of the matching operations from now on is hit; 0 is the next.
    pub nth: u64,
    /// Whether all matching ones after it are hit too.
    pub sticky: bool,
    /// What happens.
    pub kind: FaultKind,
}

impl Fault {
    /// Hits the next such operation on any path, once.
    pub fn once(operation: Operations, kind: FaultKind) -> Fault {
        Fault { operation, path_contains: String::new(), nth: 0, sticky: false, kind }
    }

    /// Hits all such operations on any path.
    pub fn always(operation: Operations, kind: FaultKind) -> Fault {
        Fault { sticky: true, ..Fault::once(operation, kind) }
    }

    /// Only on paths that contain `part`.
    pub fn on(mut self, part: &str) -> Fault {
        self.path_contains = part.to_string();
        self
    }

    /// Lets `count` matching operations pass first.
    pub fn after(mut self, count: u64) -> Fault {
        self.nth = count;
        self
    }
}

/// The fault-injecting environment.
#[derive(Debug)]
pub struct FaultEnv {
    inner: Arc<dyn Env>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    state: Mutex<PlanState>,
}

#[derive(Debug, Default)]
struct PlanState {
    faults: Vec<(Fault, u64)>,
    count: u64,
    hits: u64,
}

impl FaultEnv {
    /// Wraps `inner`; no faults yet.
    pub fn new(inner: Arc<dyn Env>) -> Arc<FaultEnv> {
        Arc::new(FaultEnv { inner, plan: Arc::default() })
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.plan.lock().faults.push((fault, 0));
    }

    /// Removes all faults and sets the counts to 0.
    pub fn clear(&self) {
        *self.plan.lock() = PlanState::default();
    }

    /// How many operations there were since the start or the last [`clear`](Self::clear).
    pub fn count(&self) -> u64 {
        self.plan.lock().count
    }

    /// How many of them were hit by a fault.
    pub fn hits(&self) -> u64 {
        self.plan.lock().hits
    }
}

impl Plan {
    fn lock(&self) -> MutexGuard<'_, PlanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the operation and says what hits it; the fault injected first wins.
    fn hit(&self, operation: Operations, path: &Path) -> Option<FaultKind> {
        let mut state = self.lock();
        state.count += 1;
        let mut hit = None;
        for (fault, seen) in &mut state.faults {
            let text = path.to_string_lossy();
            if !fault.operation.intersects(operation) || !text.contains(&fault.path_contains) {
                continue;
            }
            let due = *seen == fault.nth || (fault.sticky && *seen > fault.nth);
            *seen += 1;
            if due && hit.is_none() {
                hit = Some(fault.kind);
            }
        }
        state.hits += u64::from(hit.is_some());
        hit
    }
}

/// Fails or delays an operation that has nothing to tear or flip.
fn apply(env: &dyn Env, hit: Option<FaultKind>, operation: &'static str, path: &Path) -> Result<()> {
    match hit {
        None | Some(FaultKind::FlipRead { .. }) => Ok(()),
        Some(FaultKind::Delay(duration)) => {
            env.sleep(duration);
            Ok(())
        }
        Some(FaultKind::NoSpace) => Err(Error::NoSpace { operation, path: path.to_path_buf() }),
        Some(FaultKind::Eio | FaultKind::ShortWrite) => {
            Err(Error::io(operation, path, io::Error::other("injected I/O error")))
        }
    }
}

impl FaultEnv {
    fn check(&self, kind: Operations, operation: &'static str, path: &Path) -> Result<()> {
        apply(self.inner.as_ref(), self.plan.hit(kind, path), operation, path)
    }
}

impl Env for FaultEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        match mode {
            OpenMode::CreateNew => self.check(Operations::CREATE, "create", path)?,
            OpenMode::Read | OpenMode::ReadWrite => self.check(Operations::OPEN, "open", path)?,
        }
        let file = self.inner.open(path, mode)?;
        Ok(Arc::new(FaultFile {
            file,
            path: path.to_path_buf(),
            env: self.inner.clone(),
            plan: self.plan.clone(),
        }))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.check(Operations::REMOVE, "remove", path)?;
        self.inner.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.check(Operations::RENAME, "rename", from)?;
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.check(Operations::HARD_LINK, "link", from)?;
        self.inner.hard_link(from, to)
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        self.check(Operations::LIST, "list", dir)?;
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.check(Operations::CREATE_DIR, "create folder", dir)?;
        self.inner.create_dir_all(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        self.check(Operations::REMOVE, "remove folder", dir)?;
        self.inner.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.check(Operations::SYNC_DIR, "sync folder", dir)?;
        self.inner.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        self.check(Operations::LOCK, "lock", path)?;
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
        self.check(Operations::SPAWN, "start thread", Path::new(name))?;
        self.inner.spawn(name, nice, job)
    }

    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

#[derive(Debug)]
struct FaultFile {
    file: Arc<dyn File>,
    path: PathBuf,
    env: Arc<dyn Env>,
    plan: Arc<Plan>,
}

impl FaultFile {
    fn check(&self, kind: Operations, operation: &'static str) -> Result<Option<FaultKind>> {
        let hit = self.plan.hit(kind, &self.path);
        apply(self.env.as_ref(), hit, operation, &self.path)?;
        Ok(hit)
    }
}

fn flip(hit: Option<FaultKind>, bytes: &mut [u8], offset: u64) {
    if let Some(FaultKind::FlipRead { offset: bad }) = hit {
        let within = bad.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = within.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let hit = self.check(Operations::READ, "read")?;
        let n = self.file.read_at(buf, offset)?;
        flip(hit, &mut buf[..n], offset);
        Ok(n)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        let hit = self.check(Operations::READ, "read")?;
        let read = self.file.read_at_nowait(buf, offset)?;
        if let Some(n) = read {
            flip(hit, &mut buf[..n], offset);
        }
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let hit = self.plan.hit(Operations::WRITE, &self.path);
        if hit == Some(FaultKind::ShortWrite) {
            self.file.write_at(&buf[..buf.len() / 2], offset)?;
        }
        apply(self.env.as_ref(), hit, "write", &self.path)?;
        self.file.write_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.check(Operations::ALLOCATE, "allocate")?;
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check(Operations::SET_LEN, "set length")?;
        self.file.set_len(len)
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> Result<()> {
        self.check(Operations::SYNC, "sync")?;
        self.file.sync()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::mem_env::MemEnv;

    #[test]
    fn the_nth_matching_operation_is_hit() {
        let env = FaultEnv::new(MemEnv::new());
        let file = env.open(Path::new("/a.wal"), OpenMode::CreateNew).unwrap();
        let other = env.open(Path::new("/b.sst"), OpenMode::CreateNew).unwrap();
        env.inject(Fault::once(Operations::WRITE, FaultKind::Eio).on(".wal").after(1));
        file.write_at(b"0", 0).unwrap();
        other.write_at(b"0", 0).unwrap();
        assert!(matches!(file.write_at(b"1", 0), Err(Error::Io { operation: "write", .. })));
        file.write_at(b"2", 0).unwrap();
        assert_eq!((env.count(), env.hits()), (6, 1));
        env.clear();
        env.inject(Fault::always(Operations::SYNC | Operations::SYNC_DIR, FaultKind::NoSpace));
        assert!(file.sync().unwrap_err().is_no_space() && file.sync().unwrap_err().is_no_space());
        assert!(env.sync_dir(Path::new("/")).unwrap_err().is_no_space());
        env.clear();
        file.sync().unwrap();
        assert_eq!(env.count(), 1);
    }

    #[test]
    fn short_writes_flips_and_delays() {
        let inner = MemEnv::new();
        let env = FaultEnv::new(inner.clone());
        let file = env.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
        env.inject(Fault::once(Operations::WRITE, FaultKind::ShortWrite));
        assert!(file.write_at(b"abcd", 0).is_err());
        assert_eq!(inner.read_file(Path::new("/f")).unwrap(), b"ab");
        env.inject(Fault::always(Operations::READ, FaultKind::FlipRead { offset: 1 }));
        let mut buf = [0; 2];
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"ac");
        assert_eq!(file.read_at_nowait(&mut buf[..1], 0).unwrap(), Some(1));
        assert_eq!(buf[0], b'a');
        let before = env.monotonic();
        env.inject(Fault::once(Operations::SYNC, FaultKind::Delay(Duration::from_secs(1))));
        file.sync().unwrap();
        assert_eq!(env.monotonic() - before, Duration::from_secs(1));
    }
}
