//! Walks the versions of a sorted level: its tables one behind the other, each opened when the walk comes to it.
//!
//! Holds the level, so its files outlive the iterator. A bounded one opens no file that lies wholly outside its bounds; within
//! the first and the last file it still gives versions outside of them, which is for whoever reads it to cut off.

use crate::base::error::Result;
use crate::base::iter::{InternalIterator, Take};
use crate::base::key::VersionKey;
use crate::table::table_iter::{TableIter, TableIterOptions};
use crate::version::file_meta::{KeyRange, overlapping};
use crate::version::version::{Level, TableOpener};
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// An owned iterator over a sorted level (not L0).
pub struct LevelIter {
    level: Arc<Level>,
    opener: Arc<TableOpener>,
    options: TableIterOptions,
    /// The files that take part.
    files: Range<usize>,
    /// The file that `current` walks.
    at: usize,
    current: Option<TableIter>,
}

impl LevelIter {
    /// Over all files that overlap `bounds`. Opens nothing yet.
    pub fn new(
        level: Arc<Level>,
        opener: Arc<TableOpener>,
        options: TableIterOptions,
        bounds: &KeyRange<'_>,
    ) -> LevelIter {
        let files = overlapping(level.metas(), bounds);
        LevelIter { level, opener, options, files, at: 0, current: None }
    }

    /// Whether there is nothing to walk.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Makes file `at` the current one. The iterator over it is kept if it is that already.
    fn open(&mut self, at: usize) -> Result<&mut TableIter> {
        let reusable = self.current.take().filter(|_| self.at == at);
        let iter = match reusable {
            Some(iter) => iter,
            None => {
                let table = self.level.files()[at].table(&self.opener, self.options.read.memory_only)?;
                table.iter(self.options)
            }
        };
        self.at = at;
        Ok(self.current.insert(iter))
    }

    /// Goes on to the first version behind the current file if there is none in it.
    fn settle_forward(&mut self) -> Result<()> {
        while !self.valid() && self.at + 1 < self.files.end {
            self.open(self.at + 1)?.seek_to_first()?;
        }
        Ok(())
    }

    /// Goes back to the last version before the current file if there is none in it.
    fn settle_backward(&mut self) -> Result<()> {
        while !self.valid() && self.at > self.files.start {
            self.open(self.at - 1)?.seek_to_last()?;
        }
        Ok(())
    }

    /// After an error the iterator stands nowhere.
    fn attempt(&mut self, walk: impl FnOnce(&mut LevelIter) -> Result<()>) -> Result<()> {
        let result = walk(self);
        if result.is_err() {
            self.current = None;
        }
        result
    }
}

impl InternalIterator for LevelIter {
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(TableIter::valid)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.attempt(|this| {
            if this.is_empty() {
                return Ok(());
            }
            this.open(this.files.start)?.seek_to_first()?;
            this.settle_forward()
        })
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.attempt(|this| {
            if this.is_empty() {
                return Ok(());
            }
            this.open(this.files.end - 1)?.seek_to_last()?;
            this.settle_backward()
        })
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.attempt(|this| {
            let files = &this.level.metas()[this.files.clone()];
            let before = files.partition_point(|meta| meta.range().is_before(target.user_key));
            if before == files.len() {
                this.current = None;
                return Ok(());
            }
            this.open(this.files.start + before)?.seek(target)?;
            this.settle_forward()
        })
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.attempt(|this| {
            // A newer version of the target's own key is before it.
            let files = &this.level.metas()[this.files.clone()];
            let begun = files.partition_point(|meta| meta.smallest.as_slice() <= target.user_key);
            if begun == 0 {
                this.current = None;
                return Ok(());
            }
            this.open(this.files.start + begun - 1)?.seek_before(target)?;
            this.settle_backward()
        })
    }

    fn has_distinct_keys(&self) -> bool {
        self.current.as_ref().is_some_and(InternalIterator::has_distinct_keys)
    }

    fn next(&mut self) -> Result<()> {
        if self.current.as_mut().is_some_and(TableIter::step_within_block) {
            return Ok(());
        }
        self.attempt(|this| {
            this.current.as_mut().map_or(Ok(()), TableIter::next)?;
            this.settle_forward()
        })
    }

    fn prev(&mut self) -> Result<()> {
        self.attempt(|this| {
            this.current.as_mut().map_or(Ok(()), TableIter::prev)?;
            this.settle_backward()
        })
    }

    fn key(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |iter| iter.key())
    }

    fn trailer(&self) -> u64 {
        self.current.as_ref().map_or(0, |iter| iter.trailer())
    }

    fn value(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |iter| iter.value())
    }

    fn run(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        self.current.as_mut().map_or(Ok(ControlFlow::Continue(())), |iter| iter.run(steps, take))
    }

    fn run_back(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        self.current.as_mut().map_or(Ok(ControlFlow::Continue(())), |iter| iter.run_back(steps, take))
    }

    fn steps_above(&self, bound: Option<&[u8]>) -> usize {
        self.current.as_ref().map_or(0, |iter| iter.steps_above(bound))
    }

    fn steps_below(&self, bound: Option<&[u8]>) -> usize {
        self.current.as_ref().map_or(0, |iter| iter.steps_below(bound))
    }
}

impl fmt::Debug for LevelIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelIter").field("files", &self.files).field("at", &self.at).finish_non_exhaustive()
    }
}
