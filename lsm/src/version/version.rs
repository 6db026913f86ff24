//! The tables of one keyspace, by level, at one moment. Immutable: an edit makes a new [`Version`] that shares every level it
//! does not touch. Readers keep the version they began with, and thereby its files.
//!
//! A [`TableFile`] is a file as versions hold it: opened when first needed, closed when the last version that has it is
//! dropped (its descriptor comes and goes in between, see [`FileHandles`]). If an edit took it out of the tree it is then *obsolete*, and its number goes to the [`Reaper`], from where
//! a background job fetches it and unlinks the file. Dropping the last reference happens on whatever thread it happens on, so
//! it neither takes a lock nor touches the disk beyond closing the file.
//!
//! Invariants, checked by [`Version::check`]: L0 is sorted newest first, and of two of its files that overlap all of one is
//! newer than all of the other. Below, files are sorted and disjoint in user keys. A version of a key in a level is newer than
//! all versions of that key in the levels below.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::limits::LEVELS;
use crate::base::metrics::Metrics;
use crate::base::range_delete::RangeTombstones;
use crate::cache::block_cache::BlockCache;
use crate::env::env::Env;
use crate::env::filename::FileName;
use crate::table::file_handles::FileHandles;
use crate::table::table::Table;
use crate::version::edit::VersionEdit;
use crate::version::file_meta::{FileMeta, KeyRange, newest_first, overlapping};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Opens table files of one database.
#[derive(Debug)]
pub struct TableOpener {
    env: Arc<dyn Env>,
    dir: PathBuf,
    handles: Arc<FileHandles>,
    cache: Arc<BlockCache>,
    metrics: Arc<Metrics>,
}

impl TableOpener {
    /// For the tables in `dir`, of which at most `open_max` keep a descriptor.
    pub fn new(
        env: Arc<dyn Env>,
        dir: &Path,
        open_max: usize,
        cache: Arc<BlockCache>,
        metrics: Arc<Metrics>,
    ) -> TableOpener {
        let handles = Arc::new(FileHandles::new(env.clone(), open_max));
        TableOpener { env, dir: dir.to_path_buf(), handles, cache, metrics }
    }

    /// About how many tables have a descriptor. Waits for nobody.
    pub fn open_count(&self) -> usize {
        self.handles.known()
    }

    /// See [`FileHandles::hold`].
    #[cfg(test)]
    pub fn hold_handles(&self) -> impl Drop + '_ {
        self.handles.hold()
    }

    /// Where a table lies.
    pub fn path(&self, number: u64) -> PathBuf {
        FileName::Table(number).path(&self.dir)
    }

    /// Opens a table. A missing file is `Corruption`: the manifest says that it is there.
    pub fn open(&self, meta: &FileMeta) -> Result<Arc<Table>> {
        let path = self.path(meta.number);
        let file = Arc::new(self.handles.file(path.clone()));
        let (cache, metrics) = (Arc::clone(&self.cache), Arc::clone(&self.metrics));
        Table::open(file, path, meta.number, meta.bytes, cache, metrics).map(Arc::new)
    }

    /// Removes a table's blocks from the cache and its file from the disk; fine if it is gone.
    pub fn unlink(&self, number: u64) -> Result<()> {
        self.cache.erase_file(number);
        match self.env.remove(&self.path(number)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Collects the numbers of obsolete files that nobody uses any more. As long as the list of files that ever were: it is
/// bounded by what the tree held.
#[derive(Debug)]
pub struct Reaper {
    sender: Sender<u64>,
    receiver: Mutex<Receiver<u64>>,
}

impl Reaper {
    /// An empty one.
    pub fn new() -> Reaper {
        let (sender, receiver) = channel();
        Reaper { sender, receiver: Mutex::new(receiver) }
    }

    /// Takes what has come. Only background jobs wait for each other here.
    pub fn drain(&self) -> Vec<u64> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Reaper::new()
    }
}

/// A table file in use by versions.
pub struct TableFile {
    meta: Arc<FileMeta>,
    table: OnceLock<Arc<Table>>,
    obsolete: AtomicBool,
    reaped: Sender<u64>,
}

impl TableFile {
    /// Not opened yet.
    pub fn new(meta: Arc<FileMeta>, reaper: &Reaper) -> TableFile {
        TableFile {
            meta,
            table: OnceLock::new(),
            obsolete: AtomicBool::new(false),
            reaped: reaper.sender.clone(),
        }
    }

    /// What is known without opening it.
    pub fn meta(&self) -> &Arc<FileMeta> {
        &self.meta
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.meta.number
    }

    /// The table, opened if that was not done before; `NeedsIo` if it would have to be and `memory_only`.
    pub fn table(&self, opener: &TableOpener, memory_only: bool) -> Result<&Arc<Table>> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        if memory_only {
            return Err(Error::NeedsIo);
        }
        // Two threads may both open it; one of the two tables is kept.
        let opened = opener.open(&self.meta)?;
        Ok(self.table.get_or_init(|| opened))
    }

    /// The table if it is open.
    pub fn opened(&self) -> Option<&Arc<Table>> {
        self.table.get()
    }

    /// Says that it left the tree, once the edit that says so is on the disk.
    pub fn mark_obsolete(&self) {
        // Relaxed: read only by `drop`, after the last reference is given up; the count of the Arc orders that.
        self.obsolete.store(true, Ordering::Relaxed);
    }

    /// About how many of its bytes belong to `range`. Reads nothing; unless it is open it guesses.
    fn approximate_bytes(&self, range: &KeyRange<'_>) -> u64 {
        let own = self.meta.range();
        if range.contains(&own) {
            return self.meta.bytes;
        }
        let inside = own.start <= range.start && !range.is_before(own.start);
        match self.opened() {
            Some(table) => {
                let end = match range.end {
                    Bound::Included(key) | Bound::Excluded(key) => table.approximate_offset(key),
                    Bound::Unbounded => self.meta.bytes,
                };
                let end = if range.is_before(&self.meta.largest) { end } else { self.meta.bytes };
                end.saturating_sub(if inside { table.approximate_offset(range.start) } else { 0 })
            }
            // A range within the file may be tiny; one that reaches over its edge takes half of it on average.
            None if inside && range.is_before(&self.meta.largest) => 0,
            None => self.meta.bytes / 2,
        }
    }
}

impl fmt::Debug for TableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.meta)
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if *self.obsolete.get_mut() {
            drop(self.table.take());
            // Without a reaper the database is closed; the next opening finds the file named by nobody.
            let _ = self.reaped.send(self.meta.number);
        }
    }
}

/// The files of one level.
#[derive(Debug, Default)]
pub struct Level {
    files: Box<[Arc<TableFile>]>,
    metas: Box<[Arc<FileMeta>]>,
    /// What all keys of the level start with.
    common: Box<[u8]>,
    /// The eight bytes behind that of the smallest and of the largest key of each file: a search looks at little else.
    fences: Box<[(u64, u64)]>,
    bytes: u64,
    range_deletes: bool,
}

impl Level {
    /// A level of these files, in any order.
    pub fn new(level: usize, mut files: Vec<Arc<TableFile>>) -> Level {
        if level == 0 {
            files.sort_by(|a, b| newest_first(&a.meta, &b.meta));
        } else {
            files.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
        }
        let metas = files.iter().map(|file| Arc::clone(&file.meta)).collect::<Box<[_]>>();
        let common = common_prefix(&metas);
        let fence = |meta: &Arc<FileMeta>| {
            (key_prefix(&meta.smallest[common.len()..]), key_prefix(&meta.largest[common.len()..]))
        };
        Level {
            fences: metas.iter().map(fence).collect(),
            common: common.into(),
            metas,
            bytes: files.iter().fold(0, |sum, file| sum.saturating_add(file.meta.bytes)),
            range_deletes: files.iter().any(|file| file.meta.range_deletes > 0),
            files: files.into(),
        }
    }

    fn check(&self, level: usize) -> Result<()> {
        let clash =
            |a: &FileMeta, b: &FileMeta| Err(Error::invalid(format!("L{level}: {a} clashes with {b}")));
        if level > 0 {
            let meet = |pair: &&[Arc<FileMeta>]| !pair[0].range().is_before(&pair[1].smallest);
            return self.metas.windows(2).find(meet).map_or(Ok(()), |pair| clash(&pair[0], &pair[1]));
        }
        for (at, newer) in self.metas.iter().enumerate() {
            for older in &self.metas[at + 1..] {
                let mixed = newer.smallest_sequence <= older.largest_sequence;
                if mixed && newer.range().overlaps(&older.range()) {
                    return clash(newer, older);
                }
            }
        }
        Ok(())
    }

    /// The files: L0 newest first, else sorted.
    pub fn files(&self) -> &[Arc<TableFile>] {
        &self.files
    }

    /// What is known of them, in the same order.
    pub fn metas(&self) -> &[Arc<FileMeta>] {
        &self.metas
    }

    /// All their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether any has range tombstones.
    pub fn has_range_deletes(&self) -> bool {
        self.range_deletes
    }

    /// The file of a sorted level that may hold `key`.
    pub fn file_for_key(&self, key: &[u8]) -> Option<&Arc<TableFile>> {
        // What lies between two keys that start alike starts like them.
        let prefix = key_prefix(key.strip_prefix(&*self.common)?);
        let alike = self.fences.partition_point(|&(_, largest)| largest < prefix);
        let above = alike + self.fences[alike..].partition_point(|&(_, largest)| largest == prefix);
        // Only files whose fence equals the key's have to be looked at themselves.
        let at = alike + self.metas[alike..above].partition_point(|meta| meta.range().is_before(key));
        let &(smallest, _) = self.fences.get(at)?;
        (smallest <= prefix && self.metas[at].covers(key)).then(|| &self.files[at])
    }

    /// The files that may hold `key`, in the order of the level; for L0.
    pub fn files_for_key<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = &'a Arc<TableFile>> {
        let prefix = key.strip_prefix(&*self.common).map(key_prefix);
        let near =
            move |fence: &(u64, u64)| prefix.is_some_and(|prefix| (fence.0..=fence.1).contains(&prefix));
        let places = self.fences.iter().enumerate().filter(move |(_, fence)| near(fence));
        places.map(|(at, _)| &self.files[at]).filter(move |file| file.meta.covers(key))
    }

    fn find(&self, number: u64) -> Option<&Arc<TableFile>> {
        self.files.iter().find(|file| file.number() == number)
    }
}

/// What all bounds of the files start with.
fn common_prefix(metas: &[Arc<FileMeta>]) -> Vec<u8> {
    let Some(first) = metas.first() else { return Vec::new() };
    let bounds = metas.iter().flat_map(|meta| [&meta.smallest, &meta.largest]);
    let shared = |key: &Vec<u8>| first.smallest.iter().zip(key).take_while(|(a, b)| a == b).count();
    let len = bounds.map(shared).min().unwrap_or(0);
    first.smallest[..len].to_vec()
}

/// The first eight bytes of a key as a number: `a <= b` implies `key_prefix(a) <= key_prefix(b)`.
fn key_prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

/// The levels of one keyspace.
#[derive(Clone, Debug)]
pub struct Version {
    levels: [Arc<Level>; LEVELS],
    range_deletes: bool,
}

/// What [`Version::apply`] gives.
#[derive(Debug)]
pub struct Applied {
    /// The version after the edit.
    pub version: Version,
    /// Files that are in no level any more, to be marked obsolete once the edit is on the disk.
    pub removed: Vec<Arc<TableFile>>,
    /// Files that were in no level before.
    pub added: Vec<Arc<TableFile>>,
}

impl Version {
    /// Without files.
    pub fn empty() -> Version {
        Version::of(std::array::from_fn(|_| Arc::new(Level::default())))
    }

    /// Of the given files, not opened yet. Error: `InvalidArgument` if they do not make a tree.
    pub fn new(levels: [Vec<Arc<FileMeta>>; LEVELS], reaper: &Reaper) -> Result<Version> {
        let mut level = 0;
        let version = Version::of(levels.map(|metas| {
            let files = metas.into_iter().map(|meta| Arc::new(TableFile::new(meta, reaper))).collect();
            level += 1;
            Arc::new(Level::new(level - 1, files))
        }));
        version.check()?;
        Ok(version)
    }

    fn of(levels: [Arc<Level>; LEVELS]) -> Version {
        let range_deletes = levels.iter().any(|level| level.range_deletes);
        Version { levels, range_deletes }
    }

    /// The version after the part of `edit` that is about `keyspace`. A file that moves stays the same, open, [`TableFile`].
    /// Error: `InvalidArgument` if the edit does not fit; nothing is changed in any case.
    pub fn apply(&self, keyspace: KeyspaceId, edit: &VersionEdit, reaper: &Reaper) -> Result<Applied> {
        let mut changed: BTreeMap<usize, Vec<Arc<TableFile>>> = BTreeMap::new();
        let mut removed = BTreeMap::new();
        let files = |level: usize| self.levels[level].files.to_vec();
        for out in edit.files_removed.iter().filter(|file| file.keyspace == keyspace) {
            let missing = || Error::invalid(format!("file {:06} is not in L{}", out.number, out.level));
            let level = self.levels.get(out.level).ok_or_else(missing)?;
            removed.insert(out.number, Arc::clone(level.find(out.number).ok_or_else(missing)?));
            let rest = changed.entry(out.level).or_insert_with(|| files(out.level));
            rest.retain(|file| file.number() != out.number);
        }
        let mut added = Vec::new();
        for new in edit.files_added.iter().filter(|file| file.keyspace == keyspace) {
            if new.level >= LEVELS {
                return Err(Error::invalid(format!("there is no L{}", new.level)));
            }
            let file = removed.remove(&new.meta.number).unwrap_or_else(|| {
                added.push(Arc::new(TableFile::new(Arc::clone(&new.meta), reaper)));
                Arc::clone(&added[added.len() - 1])
            });
            changed.entry(new.level).or_insert_with(|| files(new.level)).push(file);
        }
        let mut levels = self.levels.clone();
        for (level, files) in changed {
            levels[level] = Arc::new(Level::new(level, files));
            levels[level].check(level)?;
        }
        let version = Version::of(levels);
        Ok(Applied { version, removed: removed.into_values().collect(), added })
    }

    /// Whether the invariants hold. Error: `InvalidArgument` that names the files.
    pub fn check(&self) -> Result<()> {
        self.levels.iter().enumerate().try_for_each(|(level, files)| files.check(level))
    }

    /// One level.
    pub fn level(&self, level: usize) -> &Arc<Level> {
        &self.levels[level]
    }

    /// All levels.
    pub fn levels(&self) -> &[Arc<Level>; LEVELS] {
        &self.levels
    }

    /// What is known of the files by level, as the picker takes it.
    pub fn metas(&self) -> [&[Arc<FileMeta>]; LEVELS] {
        std::array::from_fn(|level| self.levels[level].metas())
    }

    /// Every file, from the top down.
    pub fn files(&self) -> impl Iterator<Item = &Arc<TableFile>> {
        self.levels.iter().flat_map(|level| level.files.iter())
    }

    /// How many files.
    pub fn file_count(&self) -> usize {
        self.levels.iter().map(|level| level.files.len()).sum()
    }

    /// All bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.levels.iter().fold(0, |sum, level| sum.saturating_add(level.bytes))
    }

    /// Whether any file has range tombstones.
    pub fn has_range_deletes(&self) -> bool {
        self.range_deletes
    }

    /// The files that may hold `key`, newest first: a point read asks them in turn.
    pub fn files_for_key<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = &'a Arc<TableFile>> {
        let sorted = self.levels[1..].iter().filter_map(move |level| level.file_for_key(key));
        self.levels[0].files_for_key(key).chain(sorted)
    }

    /// The file with this number and its level.
    pub fn find(&self, number: u64) -> Option<(usize, &Arc<TableFile>)> {
        let mut levels = self.levels.iter().enumerate();
        levels.find_map(|(level, files)| files.find(number).map(|file| (level, file)))
    }

    /// The files of a level that overlap `range`, in the order of the level.
    pub fn overlapping(&self, level: usize, range: &KeyRange<'_>) -> Vec<Arc<TableFile>> {
        let files = &self.levels[level].files;
        match level {
            0 => files.iter().filter(|file| file.meta.range().overlaps(range)).cloned().collect(),
            _ => files[overlapping(&self.levels[level].metas, range)].to_vec(),
        }
    }

    /// Whether no file of `levels` overlaps `range`.
    pub fn is_clear(&self, levels: Range<usize>, range: &KeyRange<'_>) -> bool {
        levels.into_iter().all(|level| match level {
            0 => !self.levels[0].metas.iter().any(|meta| meta.range().overlaps(range)),
            _ => overlapping(&self.levels[level].metas, range).is_empty(),
        })
    }

    /// About how many bytes of the tables of `levels` belong to `range`. Reads nothing.
    pub fn approximate_bytes(&self, levels: Range<usize>, range: &KeyRange<'_>) -> u64 {
        let mut bytes = 0u64;
        for level in levels {
            let files = self.overlapping(level, range);
            bytes = files.iter().fold(bytes, |sum, file| sum.saturating_add(file.approximate_bytes(range)));
        }
        bytes
    }

    /// About how many bytes of tables lie under range tombstones. `holder`: level, and place in it, of the table that holds them; only older tables
    /// count then. Without one (a memtable's) all do.
    pub fn covered_bytes(&self, holder: Option<(usize, usize)>, tombstones: &RangeTombstones) -> u64 {
        let (level, l0_place) = match holder {
            None => (0, 0),
            // L0 is newest first.
            Some((0, place)) => (0, place + 1),
            Some((level, _)) => (level + 1, 0),
        };
        let older_l0 = self.levels[0].files.get(l0_place..).filter(|_| level == 0).unwrap_or_default();
        let mut bytes = 0u64;
        let mut fragments = tombstones.fragments().iter().peekable();
        while let Some(first) = fragments.next() {
            // Fragments that touch are one range here.
            let mut end = &first.end;
            while let Some(next) = fragments.next_if(|next| next.start == *end) {
                end = &next.end;
            }
            let range = KeyRange { start: &first.start, end: Bound::Excluded(end) };
            bytes = bytes.saturating_add(self.approximate_bytes(level.max(1)..LEVELS, &range));
            let met = older_l0.iter().filter(|file| file.meta.range().overlaps(&range));
            bytes = met.fold(bytes, |sum, file| sum.saturating_add(file.approximate_bytes(&range)));
        }
        bytes
    }
}

/// The tree in the notation of logs, tools and tests.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, level) in self.levels.iter().enumerate() {
            for (at, meta) in level.metas.iter().enumerate() {
                let head = if at == 0 { format!("L{number}:") } else { "   ".into() };
                writeln!(f, "{head} {meta}")?;
            }
        }
        Ok(())
    }
}
