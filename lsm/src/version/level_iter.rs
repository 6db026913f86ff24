//! One iterator over a sorted level: its files one after another, each opened when it is reached.

use crate::base::error::Result;
use crate::base::iter::InternalIterator;
use crate::base::key::VersionKey;
use crate::table::table_iter::{TableIter, TableIterOptions};
use crate::version::version::TableFile;
use std::sync::Arc;

/// Walks the files of a sorted level, both ways. Holds one table open at a time.
#[derive(Debug)]
pub struct LevelIter {
    files: Arc<[Arc<TableFile>]>,
    options: TableIterOptions,
    /// Index of the file that `table` walks.
    at: usize,
    table: Option<TableIter>,
}

impl LevelIter {
    /// Over `files`, which must be sorted by key and disjoint.
    pub fn new(files: Arc<[Arc<TableFile>]>, options: TableIterOptions) -> LevelIter {
        LevelIter { files, options, at: 0, table: None }
    }

    /// Moves to file `at`, standing nowhere in it. Past either end: stands nowhere at all.
    fn open(&mut self, at: usize) -> Result<Option<&mut TableIter>> {
        if self.table.is_none() || self.at != at {
            self.table = None;
            let Some(file) = self.files.get(at) else { return Ok(None) };
            self.at = at;
            self.table = Some(file.table(self.options.read.memory_only)?.iter(self.options));
        }
        Ok(self.table.as_mut())
    }

    fn is_settled(&self) -> bool {
        self.table.as_ref().is_none_or(TableIter::valid)
    }

    /// If the present file is exhausted, goes on with the files behind it.
    fn skip_forward(&mut self) -> Result<()> {
        while !self.is_settled() {
            match self.open(self.at + 1)? {
                Some(table) => table.seek_to_first()?,
                None => break,
            }
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<()> {
        while !self.is_settled() {
            let Some(before) = self.at.checked_sub(1) else {
                self.table = None;
                break;
            };
            if let Some(table) = self.open(before)? {
                table.seek_to_last()?;
            }
        }
        Ok(())
    }

    /// Runs a move; after an error the iterator stands nowhere.
    fn settle(&mut self, moved: Result<()>) -> Result<()> {
        if moved.is_err() {
            self.table = None;
        }
        moved
    }
}

impl InternalIterator for LevelIter {
    fn valid(&self) -> bool {
        self.table.as_ref().is_some_and(TableIter::valid)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        let moved = match self.open(0) {
            Ok(Some(table)) => table.seek_to_first(),
            other => other.map(|_| ()),
        };
        let moved = moved.and_then(|()| self.skip_forward());
        self.settle(moved)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let Some(last) = self.files.len().checked_sub(1) else { return Ok(()) };
        let moved = match self.open(last) {
            Ok(Some(table)) => table.seek_to_last(),
            other => other.map(|_| ()),
        };
        let moved = moved.and_then(|()| self.skip_backward());
        self.settle(moved)
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        let at = self.files.partition_point(|file| file.meta().range().is_before(target.user_key));
        let moved = match self.open(at) {
            Ok(Some(table)) => table.seek(target),
            other => other.map(|_| ()),
        };
        let moved = moved.and_then(|()| self.skip_forward());
        self.settle(moved)
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        let after = self.files.partition_point(|file| file.meta().smallest.as_slice() <= target.user_key);
        let Some(at) = after.checked_sub(1) else {
            self.table = None;
            return Ok(());
        };
        let moved = match self.open(at) {
            Ok(Some(table)) => table.seek_before(target),
            other => other.map(|_| ()),
        };
        let moved = moved.and_then(|()| self.skip_backward());
        self.settle(moved)
    }

    fn next(&mut self) -> Result<()> {
        let moved = self.table.as_mut().map_or(Ok(()), TableIter::next);
        let moved = moved.and_then(|()| self.skip_forward());
        self.settle(moved)
    }

    fn prev(&mut self) -> Result<()> {
        let moved = self.table.as_mut().map_or(Ok(()), TableIter::prev);
        let moved = moved.and_then(|()| self.skip_backward());
        self.settle(moved)
    }

    fn key(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], |table| table.key())
    }

    fn trailer(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.trailer())
    }

    fn value(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], |table| table.value())
    }
}
