//! A disk in memory that knows what a crash would leave of it.
//!
//! Each file has its present bytes, the bytes that are on the platter, and the changes in between; folders likewise:
//!
//! ```text
//! write, allocate, set_len ──> current + unsynced ──sync──> synced
//! create, rename, link, remove ──> current + pending ──sync_dir──> synced
//! ```
//!
//! [`MemEnv::crash_clone`] copies the disk as a crash would leave it at this moment: a [`CrashPolicy`] and a seed say which
//! of the unsynced changes made it. A hook runs before every change, so a test can clone the disk at each of them.
//!
//! The model is harsher than any real file system, on purpose: syncing a file does not keep its name, unsynced pieces of
//! 512 to 4096 bytes and single names survive independently, the last write may end at any byte. Two things are kinder:
//! a rename is atomic, and `create_dir_all` is durable at once (as in the real environment, which syncs the parents).
//!
//! Two manners: *stepped* ([`MemEnv::new`]) has a clock that only the test moves and starts no threads; *threaded*
//! ([`MemEnv::threaded`]) has real ones. One mutex guards the disk; hooks are called without it.

use crate::base::error::{Error, Result};
use crate::base::rng::Rng;
use crate::env::env::{Env, File, FileLock, Job, OpenMode};
use crate::env::os_env::OsEnv;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const PAGE_BYTES: u64 = 4096;
/// Beyond this a write is refused, as a real file system would.
const FILE_BYTES_MAX: u64 = 1 << 44;
/// Unlike a real disk, one without a set capacity says that this much is free.
const FREE_BYTES_UNBOUNDED: u64 = 1 << 40;
/// A stepped clock starts here, so that "an hour ago" exists.
const STEPPED_START: Duration = Duration::from_secs(100_000);
/// What `unix_ms` says when the stepped clock stands at zero.
const STEPPED_UNIX_MS: u64 = 1_700_000_000_000;
const ROOT: NodeId = 0;

type NodeId = u64;

/// What survives in [`MemEnv::crash_clone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// The process died, the system lives: every write is kept, and what was unsynced still is.
    ProcessKill,
    /// Power cut; nothing unsynced made it.
    DropUnsynced,
    /// Power cut; each unsynced piece and each change of a name made it with this chance. A file's last write may be torn at
    /// any byte.
    KeepRandom {
        /// Chance in percent.
        percent: u8,
    },
    /// Power cut; each file and each folder kept its own changes up to some point, so that between them the order is lost.
    Reorder,
}

/// A change to the disk, about to happen; passed to the operation hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A new, empty file.
    Create {
        /// Its name.
        path: &'a Path,
    },
    /// Bytes into a file.
    Write {
        /// The file.
        path: &'a Path,
        /// Where.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// A new length, by `set_len` or `allocate`.
    SetLen {
        /// The file.
        path: &'a Path,
        /// The length asked for.
        len: u64,
    },
    /// A sync of a file.
    Sync {
        /// The file.
        path: &'a Path,
    },
    /// A rename.
    Rename {
        /// Old name.
        from: &'a Path,
        /// New name.
        to: &'a Path,
    },
    /// A second name.
    HardLink {
        /// Old name.
        from: &'a Path,
        /// New name.
        to: &'a Path,
    },
    /// A name goes away (of a file, or of a folder with all in it).
    Remove {
        /// The name.
        path: &'a Path,
    },
    /// A sync of a folder.
    SyncDir {
        /// The folder.
        path: &'a Path,
    },
}

/// Called before each change with its number, from 0. It may use the environment.
pub type OperationHook = Arc<dyn Fn(u64, Operation<'_>) + Send + Sync>;

/// The in-memory environment.
pub struct MemEnv {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<Disk>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    hook: Mutex<Option<OperationHook>>,
    operations: AtomicU64,
    cold: AtomicBool,
    clock: Clock,
    rng: Mutex<Rng>,
}

enum Clock {
    Stepped { nanos: AtomicU64 },
    Real(Arc<OsEnv>),
}

impl MemEnv {
    /// An empty disk; stepped: `spawn` starts nothing, time passes only by [`advance`](Self::advance) and `sleep`.
    pub fn new() -> Arc<MemEnv> {
        MemEnv::build(Disk::default(), stepped_clock(STEPPED_START), 1)
    }

    /// An empty disk with real threads and a real clock.
    pub fn threaded() -> Arc<MemEnv> {
        MemEnv::build(Disk::default(), Clock::Real(OsEnv::new()), 1)
    }

    fn build(disk: Disk, clock: Clock, seed: u64) -> Arc<MemEnv> {
        Arc::new(MemEnv {
            shared: Arc::new(Shared {
                disk: Mutex::new(disk),
                locked: Arc::default(),
                hook: Mutex::new(None),
                operations: AtomicU64::new(0),
                cold: AtomicBool::new(false),
                clock,
                rng: Mutex::new(Rng::new(seed)),
            }),
        })
    }

    /// The disk as a crash at this moment would leave it, in an environment of its own: no locks, no hook, the same clock
    /// reading, the same capacity. The same seed gives the same disk.
    pub fn crash_clone(&self, policy: CrashPolicy, seed: u64) -> Arc<MemEnv> {
        let disk = lock(&self.shared.disk).clone().crash(policy, &mut Rng::new(seed));
        let clock = match &self.shared.clock {
            Clock::Stepped { .. } => stepped_clock(self.monotonic()),
            Clock::Real(os) => Clock::Real(os.clone()),
        };
        MemEnv::build(disk, clock, seed.wrapping_add(1))
    }

    /// Sets or removes the hook that is called before each change.
    pub fn set_operation_hook(&self, hook: Option<OperationHook>) {
        *lock(&self.shared.hook) = hook;
    }

    /// How many changes there were.
    pub fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::SeqCst)
    }

    /// Sets the size of the disk; what does not fit is `NoSpace`. `None`: no limit.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        lock(&self.shared.disk).capacity_bytes = capacity;
    }

    /// Bytes that the files use now, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.shared.disk).used_bytes()
    }

    /// Whether `read_at_nowait` pretends that nothing is in the page cache. At first it finds everything there.
    pub fn set_cold(&self, cold: bool) {
        self.shared.cold.store(cold, Ordering::SeqCst);
    }

    /// Moves a stepped clock on. Does nothing to a real one.
    pub fn advance(&self, by: Duration) {
        if let Clock::Stepped { nanos } = &self.shared.clock {
            nanos.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// All bytes of a file.
    pub fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let disk = lock(&self.shared.disk);
        let pages = &disk.file(disk.find(path, "read")?).ok_or_else(|| is_a_folder("read", path))?.current;
        let mut bytes = vec![0; pages.len as usize];
        pages.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Makes or replaces a file and its folders, all of it on the disk at once.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
        }
        let mut disk = lock(&self.shared.disk);
        let (dir, name) = disk.parent(path, "write")?;
        let mut file = FileNode::default();
        file.current.write(bytes, 0);
        file.synced = file.current.clone();
        let id = disk.add(Node::File(file));
        for names in disk.dir_mut(dir).into_iter().flat_map(|d| [&mut d.current, &mut d.synced]) {
            names.insert(name.clone(), id);
        }
        Ok(())
    }

    /// Flips the bits of `mask` in the byte at `offset`, in memory and on the platter: rot.
    pub fn flip_bit(&self, path: &Path, offset: u64, mask: u8) -> Result<()> {
        let mut disk = lock(&self.shared.disk);
        let id = disk.find(path, "flip")?;
        let file = disk.file_mut(id).ok_or_else(|| is_a_folder("flip", path))?;
        for pages in [&mut file.current, &mut file.synced] {
            let mut byte = [0];
            if pages.read(&mut byte, offset) == 1 {
                pages.write(&[byte[0] ^ mask], offset);
            }
        }
        Ok(())
    }

    /// The paths of all files, sorted.
    pub fn list_all(&self) -> Vec<PathBuf> {
        let disk = lock(&self.shared.disk);
        let mut found = Vec::new();
        let mut folders = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = folders.pop() {
            for (name, &child) in disk.dir(id).into_iter().flat_map(|d| &d.current) {
                match disk.nodes.get(&child) {
                    Some(Node::Dir(_)) => folders.push((path.join(name), child)),
                    _ => found.push(path.join(name)),
                }
            }
        }
        found.sort();
        found
    }

    /// Ordering police: whether all bytes of the file are on the platter. False if there is no such file.
    pub fn is_synced(&self, path: &Path) -> bool {
        let disk = lock(&self.shared.disk);
        let file = disk.find(path, "look up").ok().and_then(|id| disk.file(id));
        file.is_some_and(|file| file.unsynced.is_empty())
    }

    /// Ordering police: whether a crash now would leave exactly this name for exactly this file, or its absence if it is absent.
    pub fn is_name_synced(&self, path: &Path) -> bool {
        let disk = lock(&self.shared.disk);
        let Ok((dir, name)) = disk.parent(path, "look up") else { return false };
        disk.dir(dir).is_some_and(|d| d.current.get(&name) == d.synced.get(&name))
    }
}

impl fmt::Debug for MemEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemEnv").field("files", &self.list_all()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Announces a change. The disk must not be locked.
    fn announce(&self, operation: Operation<'_>) {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let hook = lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook(number, operation);
        }
    }
}

impl Env for MemEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew {
            self.shared.announce(Operation::Create { path });
        }
        let mut disk = lock(&self.shared.disk);
        let id = match mode {
            OpenMode::Read | OpenMode::ReadWrite => disk.find(path, "open")?,
            OpenMode::CreateNew => disk.create(path)?,
        };
        let file = disk.file_mut(id).ok_or_else(|| is_a_folder("open", path))?;
        file.handles += 1;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemFile { shared: self.shared.clone(), id, path: path.to_path_buf(), writable }))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.shared.announce(Operation::Remove { path });
        let mut disk = lock(&self.shared.disk);
        let id = disk.find(path, "remove")?;
        if disk.file(id).is_none() {
            return Err(is_a_folder("remove", path));
        }
        let (dir, name) = disk.parent(path, "remove")?;
        disk.change_names(vec![(dir, name, None)]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.announce(Operation::Rename { from, to });
        let mut disk = lock(&self.shared.disk);
        let id = disk.find(from, "rename")?;
        let (from_dir, from_name) = disk.parent(from, "rename")?;
        let (to_dir, to_name) = disk.parent(to, "rename")?;
        if let Some(target) = disk.dir(to_dir).and_then(|d| d.current.get(&to_name)).copied() {
            if target == id {
                return Ok(());
            }
            let replaceable = match disk.dir(target) {
                Some(folder) => disk.dir(id).is_some() && folder.current.is_empty(),
                None => disk.file(id).is_some(),
            };
            if !replaceable {
                return Err(refused(
                    "rename",
                    to,
                    io::ErrorKind::AlreadyExists,
                    "the new name is in the way",
                ));
            }
        }
        disk.change_names(vec![(from_dir, from_name, None), (to_dir, to_name, Some(id))]);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.announce(Operation::HardLink { from, to });
        let mut disk = lock(&self.shared.disk);
        let id = disk.find(from, "link")?;
        if disk.file(id).is_none() {
            return Err(is_a_folder("link", from));
        }
        let (dir, name) = disk.parent(to, "link")?;
        if disk.dir(dir).is_some_and(|d| d.current.contains_key(&name)) {
            return Err(refused("link", to, io::ErrorKind::AlreadyExists, "already there"));
        }
        disk.change_names(vec![(dir, name, Some(id))]);
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let disk = lock(&self.shared.disk);
        let folder = disk.dir(disk.find(dir, "list")?);
        let folder =
            folder.ok_or_else(|| refused("list", dir, io::ErrorKind::NotADirectory, "not a folder"))?;
        Ok(folder.current.keys().map(PathBuf::from).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut disk = lock(&self.shared.disk);
        let mut at = ROOT;
        for name in components(dir, "create folder")? {
            let there = disk.dir(at).and_then(|d| d.current.get(&name)).copied();
            let next = there.unwrap_or_else(|| disk.add(Node::Dir(DirNode::default())));
            let Some(folder) = disk.dir_mut(at) else {
                return Err(refused("create folder", dir, io::ErrorKind::NotADirectory, "not a folder"));
            };
            if there.is_none() {
                folder.current.insert(name.clone(), next);
                folder.synced.insert(name, next);
            }
            at = next;
        }
        match disk.dir(at) {
            Some(_) => Ok(()),
            None => Err(refused("create folder", dir, io::ErrorKind::AlreadyExists, "a file is in the way")),
        }
    }

    fn remove_dir_all(&self, dir: &Path) -> Result<()> {
        self.shared.announce(Operation::Remove { path: dir });
        let mut disk = lock(&self.shared.disk);
        if disk.find(dir, "remove folder").is_ok() {
            let (parent, name) = disk.parent(dir, "remove folder")?;
            disk.change_names(vec![(parent, name, None)]);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.shared.announce(Operation::SyncDir { path: dir });
        let mut disk = lock(&self.shared.disk);
        let id = disk.find(dir, "sync folder")?;
        disk.sync_dir(id);
        disk.forget_unreachable();
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(lock(&self.shared.disk).find(path, "look up").is_ok())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        if !self.exists(path)? {
            self.shared.announce(Operation::Create { path });
            lock(&self.shared.disk).create(path)?;
        }
        if !lock(&self.shared.locked).insert(path.to_path_buf()) {
            return Err(Error::Locked(path.to_path_buf()));
        }
        Ok(Box::new(MemLock { locked: self.shared.locked.clone(), path: path.to_path_buf() }))
    }

    fn free_bytes(&self, _path: &Path) -> Result<u64> {
        let disk = lock(&self.shared.disk);
        Ok(disk
            .capacity_bytes
            .map_or(FREE_BYTES_UNBOUNDED, |capacity| capacity.saturating_sub(disk.used_bytes())))
    }

    fn monotonic(&self) -> Duration {
        match &self.shared.clock {
            Clock::Stepped { nanos } => Duration::from_nanos(nanos.load(Ordering::SeqCst)),
            Clock::Real(os) => os.monotonic(),
        }
    }

    fn unix_ms(&self) -> u64 {
        match &self.shared.clock {
            Clock::Stepped { .. } => STEPPED_UNIX_MS + self.monotonic().as_millis() as u64,
            Clock::Real(os) => os.unix_ms(),
        }
    }

    fn random_u64(&self) -> u64 {
        lock(&self.shared.rng).next_u64()
    }

    fn spawn(&self, name: &str, nice: bool, job: Job) -> Result<Option<JoinHandle<()>>> {
        match &self.shared.clock {
            Clock::Stepped { .. } => Ok(None),
            Clock::Real(os) => os.spawn(name, nice, job),
        }
    }

    fn sleep(&self, duration: Duration) {
        match &self.shared.clock {
            Clock::Stepped { .. } => self.advance(duration),
            Clock::Real(os) => os.sleep(duration),
        }
    }
}

fn stepped_clock(at: Duration) -> Clock {
    Clock::Stepped { nanos: AtomicU64::new(at.as_nanos() as u64) }
}

/// A test that panics under a lock must not hide its message behind others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(operation: &'static str, path: &Path, kind: io::ErrorKind, what: &str) -> Error {
    Error::io(operation, path, io::Error::new(kind, what.to_string()))
}

fn is_a_folder(operation: &'static str, path: &Path) -> Error {
    refused(operation, path, io::ErrorKind::IsADirectory, "is a folder")
}

fn components(path: &Path, operation: &'static str) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_os_string()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(
                    operation,
                    path,
                    io::ErrorKind::InvalidInput,
                    "not supported in a path here",
                ));
            }
        }
    }
    Ok(names)
}

#[derive(Debug)]
struct MemLock {
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    path: PathBuf,
}

impl FileLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        lock(&self.locked).remove(&self.path);
    }
}

/// An open file. It goes on naming the same bytes when the name is gone, or given to another file.
struct MemFile {
    shared: Arc<Shared>,
    id: NodeId,
    path: PathBuf,
    writable: bool,
}

impl MemFile {
    fn with<T>(&self, use_it: impl FnOnce(&mut FileNode) -> T) -> Result<T> {
        let mut disk = lock(&self.shared.disk);
        let file = disk.file_mut(self.id);
        file.map(use_it)
            .ok_or_else(|| refused("use", &self.path, io::ErrorKind::NotFound, "the handle is stale"))
    }

    /// Checks what a system would before a file becomes `len` long, then applies `change`.
    fn change(&self, operation: &'static str, len: u64, change: Change) -> Result<()> {
        if !self.writable {
            return Err(refused(
                operation,
                &self.path,
                io::ErrorKind::PermissionDenied,
                "opened for reading",
            ));
        }
        if len > FILE_BYTES_MAX {
            return Err(refused(operation, &self.path, io::ErrorKind::FileTooLarge, "too large"));
        }
        let mut disk = lock(&self.shared.disk);
        if let Some(capacity) = disk.capacity_bytes {
            let now = disk.file(self.id).map_or(0, |file| file.current.len);
            let grows = whole_pages(len).saturating_sub(whole_pages(now));
            if grows > 0 && disk.used_bytes() + grows > capacity {
                return Err(Error::NoSpace { operation, path: self.path.clone() });
            }
        }
        let file = disk.file_mut(self.id);
        let file = file
            .ok_or_else(|| refused(operation, &self.path, io::ErrorKind::NotFound, "the handle is stale"))?;
        change.apply(&mut file.current);
        file.unsynced.push(change);
        Ok(())
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        let mut disk = lock(&self.shared.disk);
        if let Some(file) = disk.file_mut(self.id) {
            file.handles -= 1;
        }
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.with(|file| file.current.read(buf, offset))
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        if self.shared.cold.load(Ordering::SeqCst) {
            return Ok(None);
        }
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.shared.announce(Operation::Write { path: &self.path, offset, len: buf.len() });
        let end = offset.saturating_add(buf.len() as u64).max(self.len()?);
        self.change("write", end, Change::Write { offset, bytes: buf.into() })
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.shared.announce(Operation::SetLen { path: &self.path, len });
        let len = len.max(self.len()?);
        self.change("allocate", len, Change::SetLen(len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.shared.announce(Operation::SetLen { path: &self.path, len });
        self.change("set length", len, Change::SetLen(len))
    }

    fn len(&self) -> Result<u64> {
        self.with(|file| file.current.len)
    }

    fn sync(&self) -> Result<()> {
        self.shared.announce(Operation::Sync { path: &self.path });
        self.with(FileNode::sync)
    }
}

/// All files and folders, by number; folder 0 is the root.
#[derive(Clone)]
struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    pending: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    nodes_at_last_sweep: usize,
}

#[derive(Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Default)]
struct FileNode {
    current: Pages,
    synced: Pages,
    unsynced: Vec<Change>,
    handles: usize,
}

#[derive(Clone, Default)]
struct DirNode {
    current: BTreeMap<OsString, NodeId>,
    synced: BTreeMap<OsString, NodeId>,
}

/// What one call did to a file.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

/// What one call did to names, as assignments that survive together or not at all.
type NameChange = Vec<(NodeId, OsString, Option<NodeId>)>;

impl Default for Disk {
    fn default() -> Disk {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Disk { nodes, next_node: ROOT + 1, pending: Vec::new(), capacity_bytes: None, nodes_at_last_sweep: 1 }
    }
}

impl Disk {
    fn file(&self, id: NodeId) -> Option<&FileNode> {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn file_mut(&mut self, id: NodeId) -> Option<&mut FileNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn dir(&self, id: NodeId) -> Option<&DirNode> {
        match self.nodes.get(&id) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> Option<&mut DirNode> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn walk(&self, names: &[OsString]) -> Option<NodeId> {
        names.iter().try_fold(ROOT, |at, name| self.dir(at)?.current.get(name).copied())
    }

    fn find(&self, path: &Path, operation: &'static str) -> Result<NodeId> {
        let found = self.walk(&components(path, operation)?);
        found.ok_or_else(|| refused(operation, path, io::ErrorKind::NotFound, "no such file or folder"))
    }

    fn parent(&self, path: &Path, operation: &'static str) -> Result<(NodeId, OsString)> {
        let mut names = components(path, operation)?;
        let found = names.pop().and_then(|name| Some((self.walk(&names)?, name)));
        let found = found.filter(|(dir, _)| self.dir(*dir).is_some());
        found.ok_or_else(|| refused(operation, path, io::ErrorKind::NotFound, "no such folder"))
    }

    fn create(&mut self, path: &Path) -> Result<NodeId> {
        let (dir, name) = self.parent(path, "create")?;
        if self.dir(dir).is_some_and(|d| d.current.contains_key(&name)) {
            return Err(refused("create", path, io::ErrorKind::AlreadyExists, "already there"));
        }
        let id = self.add(Node::File(FileNode::default()));
        self.change_names(vec![(dir, name, Some(id))]);
        Ok(id)
    }

    fn change_names(&mut self, change: NameChange) {
        for (dir, name, target) in &change {
            if let Some(dir) = self.dir_mut(*dir) {
                assign(&mut dir.current, name, *target);
            }
        }
        self.pending.push(change);
    }

    /// Makes the folder's pending changes durable, with those earlier ones of other folders that they are entangled with by a
    /// rename.
    fn sync_dir(&mut self, id: NodeId) {
        let mut folders = BTreeSet::from([id]);
        let mut due = vec![false; self.pending.len()];
        for (change, due) in self.pending.iter().zip(&mut due).rev() {
            if change.iter().any(|(dir, ..)| folders.contains(dir)) {
                *due = true;
                folders.extend(change.iter().map(|(dir, ..)| *dir));
            }
        }
        let mut pending = Vec::new();
        for (change, due) in std::mem::take(&mut self.pending).into_iter().zip(due) {
            match due {
                true => self.apply_to_synced(&change),
                false => pending.push(change),
            }
        }
        self.pending = pending;
    }

    fn apply_to_synced(&mut self, change: &NameChange) {
        for (dir, name, target) in change {
            if let Some(dir) = self.dir_mut(*dir) {
                assign(&mut dir.synced, name, *target);
            }
        }
    }

    fn used_bytes(&self) -> u64 {
        let mut seen = BTreeSet::from([ROOT]);
        let mut left = vec![ROOT];
        let mut used = 0;
        while let Some(id) = left.pop() {
            match self.nodes.get(&id) {
                Some(Node::Dir(dir)) => {
                    left.extend(dir.current.values().filter(|&&child| seen.insert(child)))
                }
                Some(Node::File(file)) => used += whole_pages(file.current.len),
                None => {}
            }
        }
        used
    }

    /// Drops what neither a name (present or on the platter), nor a pending change, nor a handle can reach.
    fn forget_unreachable(&mut self) {
        if self.nodes.len() < 64 + 2 * self.nodes_at_last_sweep {
            return;
        }
        let open = self.nodes.iter().filter(|(_, node)| matches!(node, Node::File(file) if file.handles > 0));
        let mut left = open.map(|(&id, _)| id).collect::<Vec<_>>();
        left.extend(
            self.pending.iter().flatten().flat_map(|(dir, _, target)| [Some(*dir), *target]).flatten(),
        );
        left.push(ROOT);
        let mut seen = BTreeSet::new();
        while let Some(id) = left.pop() {
            if seen.insert(id) {
                left.extend(
                    self.dir(id).into_iter().flat_map(|d| d.current.values().chain(d.synced.values())),
                );
            }
        }
        self.nodes.retain(|id, _| seen.contains(id));
        self.nodes_at_last_sweep = self.nodes.len();
    }

    fn crash(mut self, policy: CrashPolicy, rng: &mut Rng) -> Disk {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.handles = 0;
                file.crash(policy, rng);
            }
        }
        if policy != CrashPolicy::ProcessKill {
            let kept = kept_name_changes(std::mem::take(&mut self.pending), policy, rng);
            for change in &kept {
                self.apply_to_synced(change);
            }
            for node in self.nodes.values_mut() {
                if let Node::Dir(dir) = node {
                    dir.current = dir.synced.clone();
                }
            }
        }
        self
    }
}

fn assign(names: &mut BTreeMap<OsString, NodeId>, name: &OsString, target: Option<NodeId>) {
    match target {
        Some(id) => names.insert(name.clone(), id),
        None => names.remove(name),
    };
}

fn kept_name_changes(pending: Vec<NameChange>, policy: CrashPolicy, rng: &mut Rng) -> Vec<NameChange> {
    match policy {
        CrashPolicy::ProcessKill => pending,
        CrashPolicy::DropUnsynced => Vec::new(),
        CrashPolicy::KeepRandom { percent } => {
            pending.into_iter().filter(|_| rng.below(100) < u64::from(percent)).collect()
        }
        CrashPolicy::Reorder => {
            let mut left = BTreeMap::<NodeId, u64>::new();
            for change in &pending {
                *left.entry(change[0].0).or_default() += 1;
            }
            for count in left.values_mut() {
                *count = rng.below(*count + 1);
            }
            let mut keep = |change: &NameChange| {
                let left = left.entry(change[0].0).or_default();
                *left > 0 && {
                    *left -= 1;
                    true
                }
            };
            pending.into_iter().filter(|change| keep(change)).collect()
        }
    }
}

impl FileNode {
    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    fn crash(&mut self, policy: CrashPolicy, rng: &mut Rng) {
        let last_write = self.unsynced.iter().rposition(|change| matches!(change, Change::Write { .. }));
        let keep = match policy {
            CrashPolicy::ProcessKill => return,
            CrashPolicy::DropUnsynced => 0,
            CrashPolicy::KeepRandom { .. } => self.unsynced.len(),
            CrashPolicy::Reorder => rng.below(self.unsynced.len() as u64 + 1) as usize,
        };
        for (i, change) in std::mem::take(&mut self.unsynced).into_iter().take(keep).enumerate() {
            match (policy, change) {
                (CrashPolicy::KeepRandom { percent }, Change::Write { offset, bytes }) => {
                    let torn = last_write == Some(i) && rng.one_in(2);
                    let end = if torn { rng.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
                    keep_pieces(&mut self.synced, offset, &bytes[..end], percent, rng);
                }
                (CrashPolicy::KeepRandom { percent }, change) => {
                    if rng.below(100) < u64::from(percent) {
                        change.apply(&mut self.synced);
                    }
                }
                (_, change) => change.apply(&mut self.synced),
            }
        }
        self.current = self.synced.clone();
    }
}

/// Writes each piece of `bytes` with the given chance; pieces end where sectors or pages do.
fn keep_pieces(pages: &mut Pages, mut offset: u64, mut bytes: &[u8], percent: u8, rng: &mut Rng) {
    while !bytes.is_empty() {
        let piece = 512u64 << rng.below(4);
        let len = (piece - offset % piece).min(bytes.len() as u64) as usize;
        let (now, rest) = bytes.split_at(len);
        if rng.below(100) < u64::from(percent) {
            pages.write(now, offset);
        }
        offset += len as u64;
        bytes = rest;
    }
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Change::Write { offset, bytes } => pages.write(bytes, *offset),
            Change::SetLen(len) => pages.set_len(*len),
        }
    }
}

/// The bytes of a file: sparse, and shared between clones of a disk until written.
#[derive(Clone, Default)]
struct Pages {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES as usize]>>,
    len: u64,
}

impl Pages {
    fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - within).min(len - done);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => buf[done..done + step].copy_from_slice(&page[within..within + step]),
                None => buf[done..done + step].fill(0),
            }
            done += step;
        }
        len
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES) as usize;
            let step = (PAGE_BYTES as usize - within).min(bytes.len() - done);
            let page =
                self.pages.entry(at / PAGE_BYTES).or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(page)[within..within + step].copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(page)[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
    }
}

fn whole_pages(len: u64) -> u64 {
    len.next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/db").join(name)
    }

    fn disk_with_folder() -> Arc<MemEnv> {
        let env = MemEnv::new();
        env.create_dir_all(Path::new("/db")).unwrap();
        env
    }

    const CUT: CrashPolicy = CrashPolicy::DropUnsynced;

    #[test]
    fn a_file_needs_its_bytes_and_its_name_synced() {
        let env = disk_with_folder();
        let file = env.open(&path("a"), OpenMode::CreateNew).unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync().unwrap();
        assert!(env.is_synced(&path("a")) && !env.is_name_synced(&path("a")));
        assert!(env.crash_clone(CUT, 0).list_all().is_empty());
        env.sync_dir(Path::new("/db")).unwrap();
        file.write_at(b"TWO", 2).unwrap();
        assert!(!env.is_synced(&path("a")) && env.is_name_synced(&path("a")));
        let after = env.crash_clone(CUT, 0);
        assert_eq!(after.read_file(&path("a")).unwrap(), b"one");
        assert_eq!(env.crash_clone(CrashPolicy::ProcessKill, 0).read_file(&path("a")).unwrap(), b"onTWO");
    }

    #[test]
    fn what_a_killed_process_wrote_is_still_unsynced() {
        let env = disk_with_folder();
        let file = env.open(&path("a"), OpenMode::CreateNew).unwrap();
        env.sync_dir(Path::new("/db")).unwrap();
        file.write_at(b"x", 0).unwrap();
        let killed = env.crash_clone(CrashPolicy::ProcessKill, 0);
        assert_eq!(killed.read_file(&path("a")).unwrap(), b"x");
        assert_eq!(killed.crash_clone(CUT, 0).read_file(&path("a")).unwrap(), b"");
    }

    #[test]
    fn a_rename_is_atomic_and_needs_the_folder_synced() {
        let env = disk_with_folder();
        env.write_file(&path("CURRENT"), b"old").unwrap();
        let file = env.open(&path("CURRENT.tmp"), OpenMode::CreateNew).unwrap();
        file.write_at(b"new", 0).unwrap();
        file.sync().unwrap();
        env.rename(&path("CURRENT.tmp"), &path("CURRENT")).unwrap();
        assert_eq!(env.read_file(&path("CURRENT")).unwrap(), b"new");
        for seed in 0..50 {
            let after = env.crash_clone(CrashPolicy::KeepRandom { percent: 50 }, seed);
            let bytes = after.read_file(&path("CURRENT")).unwrap();
            assert!(bytes == b"old" || bytes == b"new", "never absent, never mixed");
        }
        env.sync_dir(Path::new("/db")).unwrap();
        assert_eq!(env.crash_clone(CUT, 0).read_file(&path("CURRENT")).unwrap(), b"new");
        assert_eq!(env.crash_clone(CUT, 0).list_all(), vec![path("CURRENT")]);
    }

    #[test]
    fn a_rename_between_folders_takes_along_what_it_rests_on() {
        let env = MemEnv::new();
        for dir in ["/a", "/b"] {
            env.create_dir_all(Path::new(dir)).unwrap();
        }
        let (x, y) = (Path::new("/a/x"), Path::new("/b/y"));
        drop(env.open(y, OpenMode::CreateNew).unwrap());
        env.open(x, OpenMode::CreateNew).unwrap().write_at(b"x", 0).unwrap();
        env.open(x, OpenMode::ReadWrite).unwrap().sync().unwrap();
        env.rename(x, y).unwrap();
        env.sync_dir(Path::new("/a")).unwrap();
        let after = env.crash_clone(CUT, 0);
        assert_eq!(after.list_all(), vec![y.to_path_buf()]);
        env.sync_dir(Path::new("/b")).unwrap();
        assert_eq!(env.crash_clone(CUT, 0).read_file(y).unwrap(), b"x");
    }

    #[test]
    fn removed_files_stay_readable_and_come_back_if_the_folder_was_not_synced() {
        let env = disk_with_folder();
        env.write_file(&path("a"), b"bytes").unwrap();
        let file = env.open(&path("a"), OpenMode::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        env.remove(&path("a")).unwrap();
        let mut buf = [0; 5];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 5);
        assert!(!env.exists(&path("a")).unwrap());
        assert_eq!(env.crash_clone(CUT, 0).read_file(&path("a")).unwrap(), b"bytes");
        env.sync_dir(Path::new("/db")).unwrap();
        assert!(env.crash_clone(CUT, 0).list_all().is_empty());
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 5);
    }

    #[test]
    fn folders_rename_with_their_contents_and_nodes_are_forgotten() {
        let env = MemEnv::new();
        env.write_file(Path::new("/tmp-1/x/f"), b"1").unwrap();
        env.rename(Path::new("/tmp-1"), Path::new("/done")).unwrap();
        env.sync_dir(Path::new("/")).unwrap();
        assert_eq!(env.crash_clone(CUT, 0).list_all(), vec![PathBuf::from("/done/x/f")]);
        env.remove_dir_all(Path::new("/done")).unwrap();
        env.create_dir_all(Path::new("/db")).unwrap();
        for i in 0..1000 {
            let name = path(&i.to_string());
            drop(env.open(&name, OpenMode::CreateNew).unwrap());
            env.remove(&name).unwrap();
            env.sync_dir(Path::new("/db")).unwrap();
        }
        assert!(lock(&env.shared.disk).nodes.len() < 300);
        assert!(env.rename(Path::new("/none"), Path::new("/db")).unwrap_err().is_not_found());
        assert!(env.open(Path::new("/no/f"), OpenMode::CreateNew).unwrap_err().is_not_found());
    }

    #[test]
    fn a_full_disk() {
        let env = disk_with_folder();
        env.set_capacity_bytes(Some(3 * PAGE_BYTES));
        let file = env.open(&path("a"), OpenMode::CreateNew).unwrap();
        file.allocate(2 * PAGE_BYTES).unwrap();
        let other = env.open(&path("b"), OpenMode::CreateNew).unwrap();
        assert!(other.write_at(&[1; 5000], 0).unwrap_err().is_no_space());
        assert_eq!(other.len().unwrap(), 0);
        other.write_at(&[1; 4096], 0).unwrap();
        file.write_at(&[2; 8192], 0).unwrap();
        assert!(file.write_at(&[2], 8192).unwrap_err().is_no_space());
        assert_eq!(env.free_bytes(Path::new("/db")).unwrap(), 0);
        env.remove(&path("b")).unwrap();
        file.write_at(&[2], 8192).unwrap();
    }

    #[test]
    fn hooks_see_each_change_before_it_happens() {
        let env = disk_with_folder();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, disk) = (seen.clone(), Arc::downgrade(&env));
        env.set_operation_hook(Some(Arc::new(move |number, operation| {
            let disk = disk.upgrade().unwrap();
            let bytes =
                disk.crash_clone(CrashPolicy::ProcessKill, 0).read_file(&path("a")).unwrap_or_default();
            log.lock().unwrap().push((number, format!("{operation:?}"), bytes));
        })));
        let file = env.open(&path("a"), OpenMode::CreateNew).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        env.set_operation_hook(None);
        file.write_at(b"y", 0).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.iter().map(|(n, ..)| *n).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(seen[1].1.starts_with("Write") && seen[1].2.is_empty() && seen[2].2 == b"x");
        assert_eq!(env.operations(), 4);
    }

    #[test]
    fn clock_locks_and_threads() {
        let env = disk_with_folder();
        let start = env.monotonic();
        env.sleep(Duration::from_millis(5));
        env.advance(Duration::from_millis(5));
        assert_eq!(env.monotonic() - start, Duration::from_millis(10));
        assert!(env.spawn("x", false, Box::new(|| {})).unwrap().is_none());
        let held = env.lock(&path("LOCK")).unwrap();
        assert!(matches!(env.lock(&path("LOCK")), Err(Error::Locked(_))));
        env.crash_clone(CUT, 0).lock(&path("LOCK")).unwrap();
        drop(held);
        env.lock(&path("LOCK")).unwrap();
        let threaded = MemEnv::threaded();
        threaded.spawn("x", false, Box::new(|| {})).unwrap().unwrap().join().unwrap();
        env.set_cold(true);
        env.write_file(&path("a"), b"rot").unwrap();
        env.flip_bit(&path("a"), 1, 0x20).unwrap();
        assert_eq!(env.crash_clone(CUT, 0).read_file(&path("a")).unwrap(), b"rOt");
        let file = env.open(&path("a"), OpenMode::Read).unwrap();
        assert_eq!(file.read_at_nowait(&mut [0], 0).unwrap(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write { offset: u16, byte: u8, len: u16 },
        SetLen(u16),
        Allocate(u16),
        Sync,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..20_000, 1u8.., 0u16..9_000).prop_map(|(offset, byte, len)| Step::Write { offset, byte, len }),
            1 => (0u16..20_000).prop_map(Step::SetLen),
            1 => (0u16..20_000).prop_map(Step::Allocate),
            1 => Just(Step::Sync),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a plain vector; and whatever survives a crash, each byte was once there, and synced ones that
        /// nothing touched since are.
        #[test]
        fn files_are_vectors(steps in proptest::collection::vec(step(), 1..20), seed: u64) {
            let env = disk_with_folder();
            let file = env.open(&path("f"), OpenMode::CreateNew).unwrap();
            env.sync_dir(Path::new("/db")).unwrap();
            let mut model = Vec::<u8>::new();
            let mut synced = Vec::<u8>::new();
            let mut ever = vec![BTreeSet::from([0u8]); 40_000];
            for step in steps {
                match step {
                    Step::Write { offset, byte, len } => {
                        let (offset, len) = (usize::from(offset), usize::from(len));
                        file.write_at(&vec![byte; len], offset as u64).unwrap();
                        if len > 0 && model.len() < offset + len {
                            model.resize(offset + len, 0);
                        }
                        let from = offset.min(model.len());
                        model[from..from + len].fill(byte);
                        for seen in &mut ever[offset..offset + len] {
                            seen.insert(byte);
                        }
                    }
                    Step::SetLen(len) => {
                        file.set_len(u64::from(len)).unwrap();
                        model.resize(usize::from(len), 0);
                    }
                    Step::Allocate(len) => {
                        file.allocate(u64::from(len)).unwrap();
                        model.resize(model.len().max(usize::from(len)), 0);
                    }
                    Step::Sync => {
                        file.sync().unwrap();
                        synced = model.clone();
                    }
                }
                prop_assert_eq!(&env.read_file(&path("f")).unwrap(), &model);
            }
            prop_assert_eq!(&env.crash_clone(CUT, seed).read_file(&path("f")).unwrap(), &synced);
            for policy in [CrashPolicy::KeepRandom { percent: 50 }, CrashPolicy::Reorder] {
                let bytes = env.crash_clone(policy, seed).read_file(&path("f")).unwrap();
                prop_assert_eq!(&bytes, &env.crash_clone(policy, seed).read_file(&path("f")).unwrap());
                prop_assert!(bytes.iter().zip(&ever).all(|(byte, seen)| seen.contains(byte)));
            }
        }
    }
}
