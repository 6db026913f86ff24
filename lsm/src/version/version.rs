//! One immutable state of a keyspace's tables, and the files in it.
//!
//! A version shares every level that an edit did not touch with the one before. A file is held by all versions that name it; when an
//! edit removes it, it is marked obsolete, and when the last version (or reader) lets go of it, its number goes to the opener's
//! list, from which a janitor unlinks it. Nothing is ever unlinked on a reader's thread.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::limits::LEVELS;
use crate::base::metrics::Metrics;
use crate::cache::block_cache::BlockCache;
use crate::env::env::{Env, OpenMode};
use crate::env::filename::FileName;
use crate::table::table::Table;
use crate::version::edit::VersionEdit;
use crate::version::file_meta::{FileMeta, KeyRange, newest_first, overlapping};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Opens the tables of one folder and collects the numbers of those that may go.
#[derive(Debug)]
pub struct TableOpener {
    env: Arc<dyn Env>,
    dir: PathBuf,
    cache: Arc<BlockCache>,
    metrics: Arc<Metrics>,
    obsolete: Mutex<Vec<u64>>,
}

impl TableOpener {
    /// For tables in `dir`.
    pub fn new(env: Arc<dyn Env>, dir: &Path, cache: Arc<BlockCache>, metrics: Arc<Metrics>) -> TableOpener {
        TableOpener { env, dir: dir.to_path_buf(), cache, metrics, obsolete: Mutex::new(Vec::new()) }
    }

    /// Numbers of files that no version holds any more. Each is given out once.
    pub fn take_obsolete(&self) -> Vec<u64> {
        std::mem::take(&mut *self.obsolete.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self, meta: &FileMeta) -> Result<Table> {
        let path = FileName::Table(meta.number).path(&self.dir);
        let file = self.env.open(&path, OpenMode::Read)?;
        Table::open(file, path, meta.number, meta.bytes, self.cache.clone(), self.metrics.clone())
    }
}

/// A table file as versions hold it: its facts, and the open table once somebody has asked for it.
#[derive(Debug)]
pub struct TableFile {
    meta: Arc<FileMeta>,
    opener: Arc<TableOpener>,
    table: OnceLock<Arc<Table>>,
    obsolete: AtomicBool,
}

impl TableFile {
    /// A file that an edit names.
    pub fn new(meta: Arc<FileMeta>, opener: Arc<TableOpener>) -> TableFile {
        TableFile { meta, opener, table: OnceLock::new(), obsolete: AtomicBool::new(false) }
    }

    /// Its facts.
    pub fn meta(&self) -> &Arc<FileMeta> {
        &self.meta
    }

    /// The open table. The first call reads its footer and top index; a memory-only one answers `NeedsIo` instead.
    pub fn table(&self, memory_only: bool) -> Result<&Arc<Table>> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        if memory_only {
            return Err(Error::NeedsIo);
        }
        // Two threads may open it at once; one of the two is kept.
        let opened = Arc::new(self.opener.open(&self.meta)?);
        Ok(self.table.get_or_init(|| opened))
    }

    /// Says that no later version names it.
    pub fn mark_obsolete(&self) {
        // Release: pairs with the acquire in `drop`.
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            let mut list = self.opener.obsolete.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(self.meta.number);
        }
    }
}

/// The files of a level: L0 newest first, the others sorted by key and disjoint.
#[derive(Clone, Debug, Default)]
pub struct Level {
    files: Arc<[Arc<TableFile>]>,
    metas: Arc<[Arc<FileMeta>]>,
}

impl Level {
    fn new(mut files: Vec<Arc<TableFile>>, level: usize) -> Level {
        match level {
            0 => files.sort_by(|a, b| newest_first(a.meta(), b.meta())),
            _ => files.sort_by(|a, b| a.meta().smallest.cmp(&b.meta().smallest)),
        }
        let metas = files.iter().map(|file| file.meta().clone()).collect();
        Level { files: files.into(), metas }
    }

    /// The files.
    pub fn files(&self) -> &Arc<[Arc<TableFile>]> {
        &self.files
    }

    /// Their facts, in the same order.
    pub fn metas(&self) -> &[Arc<FileMeta>] {
        &self.metas
    }

    /// Of a sorted level: the one file that may hold `key`.
    pub fn file_for_key(&self, key: &[u8]) -> Option<&Arc<TableFile>> {
        let after = self.metas.partition_point(|meta| meta.smallest.as_slice() <= key);
        let file = self.files.get(after.checked_sub(1)?)?;
        file.meta().covers(key).then_some(file)
    }
}

/// All levels at one moment.
#[derive(Clone, Debug, Default)]
pub struct Version {
    levels: [Level; LEVELS],
    /// Level and file of each that has range tombstones.
    range_deletes: Vec<(usize, Arc<TableFile>)>,
}

impl Version {
    /// Without any file.
    pub fn empty() -> Version {
        Version::default()
    }

    /// As a manifest describes it.
    pub fn new(levels: [Vec<Arc<FileMeta>>; LEVELS], opener: &Arc<TableOpener>) -> Version {
        let mut version = Version::default();
        for (number, metas) in levels.into_iter().enumerate() {
            let files = metas.into_iter().map(|meta| Arc::new(TableFile::new(meta, opener.clone())));
            version.levels[number] = Level::new(files.collect(), number);
        }
        version.note_range_deletes();
        version
    }

    /// This version changed by an edit's part for `keyspace`. Files that it removes (and does not put elsewhere) are marked
    /// obsolete. Error: `InvalidArgument` if the edit removes what is not there.
    pub fn apply(
        &self,
        keyspace: KeyspaceId,
        edit: &VersionEdit,
        opener: &Arc<TableOpener>,
    ) -> Result<Version> {
        let mut levels: [Option<Vec<Arc<TableFile>>>; LEVELS] = Default::default();
        let mut gone: Vec<Arc<TableFile>> = Vec::new();
        for removed in edit.files_removed.iter().filter(|removed| removed.keyspace == keyspace) {
            let files =
                levels[removed.level].get_or_insert_with(|| self.levels[removed.level].files.to_vec());
            let at = files.iter().position(|file| file.meta().number == removed.number);
            let at = at.ok_or_else(|| {
                Error::invalid(format!("file {} is not in level {}", removed.number, removed.level))
            })?;
            gone.push(files.swap_remove(at));
        }
        for added in edit.files_added.iter().filter(|added| added.keyspace == keyspace) {
            let files = levels[added.level].get_or_insert_with(|| self.levels[added.level].files.to_vec());
            let moved = gone.iter().position(|file| file.meta().number == added.meta.number);
            files.push(match moved {
                Some(at) => gone.swap_remove(at),
                None => Arc::new(TableFile::new(added.meta.clone(), opener.clone())),
            });
        }
        let mut next = self.clone();
        for (number, files) in levels.into_iter().enumerate() {
            if let Some(files) = files {
                next.levels[number] = Level::new(files, number);
            }
        }
        next.note_range_deletes();
        for file in gone {
            file.mark_obsolete();
        }
        Ok(next)
    }

    fn note_range_deletes(&mut self) {
        let all =
            self.levels.iter().enumerate().flat_map(|(n, level)| level.files.iter().map(move |f| (n, f)));
        let some = all.filter(|(_, file)| file.meta().range_deletes > 0);
        self.range_deletes = some.map(|(level, file)| (level, file.clone())).collect();
    }

    /// The levels, L0 first.
    pub fn levels(&self) -> &[Level; LEVELS] {
        &self.levels
    }

    /// One level.
    pub fn level(&self, level: usize) -> &Level {
        &self.levels[level]
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &Arc<TableFile>> {
        self.levels.iter().flat_map(|level| level.files.iter())
    }

    /// Level and file of each that has range tombstones.
    pub fn files_with_range_deletes(&self) -> &[(usize, Arc<TableFile>)] {
        &self.range_deletes
    }

    /// The files of a sorted level that overlap `range`.
    pub fn overlapping(&self, level: usize, range: &KeyRange<'_>) -> &[Arc<TableFile>] {
        let level = &self.levels[level];
        &level.files[overlapping(&level.metas, range)]
    }

    /// Whether some file of `level` or below overlaps `range`.
    pub fn may_hold_from(&self, level: usize, range: &KeyRange<'_>) -> bool {
        (level..LEVELS).any(|number| match number {
            0 => self.levels[0].metas.iter().any(|meta| meta.range().overlaps(range)),
            _ => !self.overlapping(number, range).is_empty(),
        })
    }

    /// Checks that the levels below L0 are sorted and disjoint. Error: what is wrong.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (number, level) in self.levels.iter().enumerate().skip(1) {
            for pair in level.metas.windows(2) {
                if !pair[0].range().is_before(&pair[1].smallest) {
                    return Err(format!(
                        "files {} and {} of L{number} overlap",
                        pair[0].number, pair[1].number
                    ));
                }
            }
        }
        Ok(())
    }
}
