//! The real operating system behind [`Env`]: the only file of the engine that opens files, reads clocks, starts threads.
//!
//! Nothing is kept here but the moment that `monotonic` counts from, so an [`OsEnv`] is shared freely. Every error names
//! the operation and the path. What the kernel or the file system cannot do is replaced by something slower that keeps
//! the promise of the trait: without `fallocate`, zeros are written; without `RWF_NOWAIT`, a read that must not wait
//! always says "not in memory".
//!
//! It does not use `O_DIRECT`, io_uring or mapped files, and never retries a failed sync.

#![expect(clippy::disallowed_methods, reason = "this file is the seam to the operating system")]

use crate::base::error::{Error, Result};
use crate::env::env::{Env, File, FileLock, Job, OpenMode};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far [`Env::spawn`] lowers the priority of a `nice` thread.
const BACKGROUND_NICE: i32 = 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The real environment.
#[derive(Debug)]
pub struct OsEnv {
    start: Instant,
}

impl OsEnv {
    /// One is enough for a process, but any number will do.
    pub fn new() -> Arc<OsEnv> {
        Arc::new(OsEnv { start: Instant::now() })
    }
}

impl Env for OsEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        let operation = match mode {
            OpenMode::Read => "open",
            OpenMode::ReadWrite => {
                options.write(true);
                "open"
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
                "create"
            }
        };
        let file = options.open(path).map_err(|e| Error::io(operation, path, e))?;
        Ok(Arc::new(OsFile { file, path: path.to_path_buf(), nowait_unsupported: AtomicBool::new(false) }))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| Error::io("remove", path, e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| Error::io("rename", from, e))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        fs::hard_link(from, to).map_err(|e| Error::io("link", from, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let read = || -> io::Result<Vec<PathBuf>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.push(PathBuf::from(entry?.file_name()));
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|e| Error::io("list", dir, e))
    }

    /// The new names are on the disk on return: a folder is made once, and forgetting to sync its parent is easy.
    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let missing = dir
            .ancestors()
            .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
            .map(Path::to_path_buf)
            .collect::<Vec<_>>();
        fs::create_dir_all(dir).map_err(|e| Error::io("create folder", dir, e))?;
        for made in missing.iter().rev() {
            let parent = made.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|e| Error::io("remove folder", dir, e)),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(|e| Error::io("sync folder", dir, e))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|e| Error::io("look up", path, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::io("open", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(path.to_path_buf())),
            Err(fs::TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
        }
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(path).map_err(|e| Error::io("stat file system", path, e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn random_u64(&self) -> u64 {
        // The standard library seeds this keyed hash from the operating system; the clock makes the calls of one thread differ.
        RandomState::new().hash_one((self.monotonic(), SystemTime::now()))
    }

    fn spawn(&self, name: &str, nice: bool, job: Job) -> Result<Option<JoinHandle<()>>> {
        let body = move || {
            if nice {
                lower_priority();
            }
            job();
        };
        let handle = std::thread::Builder::new().name(name.to_string()).spawn(body);
        handle.map(Some).map_err(|e| Error::io("start thread", name, e))
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// On Linux a priority belongs to a thread. Elsewhere it would be that of the whole process, so nothing is done. A refusal
/// (a sandbox) costs only speed.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
}

/// The lock is the system's (`flock`), on the open file, so it goes away with the process whatever ends it.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl FileLock for OsLock {}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
    nowait_unsupported: AtomicBool,
}

impl OsFile {
    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> Error {
        Error::io(operation, &self.path, source.into())
    }

    fn fill_with_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let step = (to - at).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..step as usize], at)?;
            at += step;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn pread_nowait(file: &fs::File, buf: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, rustix::io::ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
fn pread_nowait(_file: &fs::File, _buf: &mut [u8], _offset: u64) -> rustix::io::Result<usize> {
    Err(rustix::io::Errno::OPNOTSUPP)
}

#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, len: u64) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len))
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &fs::File, _len: u64) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::OPNOTSUPP)
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("read", e)),
            }
        }
        Ok(done)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        use rustix::io::Errno;
        // Relaxed: a hint that spares a doomed call; nothing is ordered by it.
        if self.nowait_unsupported.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut done = 0;
        while done < buf.len() {
            // A short count may mean the end of the file or of what is in memory; only asking on tells which.
            match pread_nowait(&self.file, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    self.nowait_unsupported.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                Err(e) => return Err(self.error("read", e)),
            }
        }
        Ok(Some(done))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(|e| self.error("write", e))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        use rustix::io::Errno;
        let old_len = self.len()?;
        if len == 0 {
            return Ok(());
        }
        match reserve(&self.file, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.fill_with_zeros(old_len, len).map_err(|e| self.error("allocate", e))
            }
            Err(e) => Err(self.error("allocate", e)),
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| self.error("set length", e))
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.error("stat", e))?.len())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| self.error("sync", e))
    }

    /// `sync_file_range` is what this asks for; `POSIX_FADV_DONTNEED` does the same to pages that are still dirty (their
    /// writeback begins and they stay) and is safe to call.
    fn start_writeback(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        {
            let len = std::num::NonZeroU64::new(len);
            let _ = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(env: &OsEnv) -> Scratch {
            let name = format!("haypile-os-env-{}-{:016x}", std::process::id(), env.random_u64());
            let dir = std::env::temp_dir().join(name);
            env.create_dir_all(&dir.join("deep")).unwrap();
            Scratch(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files() {
        let env = OsEnv::new();
        let scratch = Scratch::new(&env);
        let path = scratch.0.join("a");
        assert!(env.open(&path, OpenMode::Read).unwrap_err().is_not_found());
        let file = env.open(&path, OpenMode::CreateNew).unwrap();
        assert!(env.open(&path, OpenMode::CreateNew).is_err());
        assert!(file.is_empty().unwrap());
        file.allocate(100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);
        file.allocate(10).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);
        file.write_at(b"hello", 99_998).unwrap();
        file.start_writeback(0, 100_003);
        file.sync().unwrap();
        let mut buf = [1u8; 8];
        assert_eq!(file.read_at(&mut buf, 99_996).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0hello");
        match file.read_at_nowait(&mut buf, 99_997).unwrap() {
            Some(n) => assert_eq!((n, &buf[..6]), (6, &b"\0hello"[..])),
            None => assert_eq!(file.read_at(&mut buf, 99_997).unwrap(), 6),
        }
        assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
        file.set_len(3).unwrap();
        env.hard_link(&path, &scratch.0.join("b")).unwrap();
        env.rename(&path, &scratch.0.join("c")).unwrap();
        env.sync_dir(&scratch.0).unwrap();
        assert_eq!(env.list(&scratch.0).unwrap(), ["b", "c", "deep"].map(PathBuf::from));
        env.remove(&scratch.0.join("c")).unwrap();
        assert!(!env.exists(&path).unwrap() && env.exists(&scratch.0.join("b")).unwrap());
        assert_eq!(file.len().unwrap(), 3);
        assert!(env.free_bytes(&scratch.0).unwrap() > 0);
        env.remove_dir_all(&scratch.0.join("deep")).unwrap();
        env.remove_dir_all(&scratch.0.join("deep")).unwrap();
    }

    #[test]
    fn a_lock_is_taken_once_even_in_one_process() {
        let env = OsEnv::new();
        let scratch = Scratch::new(&env);
        let path = scratch.0.join("LOCK");
        let lock = env.lock(&path).unwrap();
        assert!(matches!(env.lock(&path), Err(Error::Locked(_))));
        drop(lock);
        env.lock(&path).unwrap();
    }

    #[test]
    fn threads_clock_and_randomness() {
        let env = OsEnv::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let job = Box::new(move || sender.send(std::thread::current().name().map(str::to_owned)).unwrap());
        let handle = env.spawn("worker", true, job).unwrap().unwrap();
        handle.join().unwrap();
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("worker"));
        let before = env.monotonic();
        env.sleep(Duration::from_millis(1));
        assert!(env.monotonic() >= before + Duration::from_millis(1));
        assert!(env.unix_ms() > 1_500_000_000_000);
        assert_ne!(env.random_u64(), env.random_u64());
    }

    #[test]
    fn zero_fill_is_what_allocate_falls_back_to() {
        let env = OsEnv::new();
        let scratch = Scratch::new(&env);
        let path = scratch.0.join("z");
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let file = OsFile { file, path, nowait_unsupported: AtomicBool::new(true) };
        file.write_at(b"abc", 0).unwrap();
        file.fill_with_zeros(3, 200_000).unwrap();
        assert_eq!(file.len().unwrap(), 200_000);
        let mut buf = [0; 4];
        assert_eq!(file.read_at_nowait(&mut buf, 0).unwrap(), None);
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(&buf, b"abc\0");
    }
}
