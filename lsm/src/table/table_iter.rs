//! Walks the versions of one table, both ways.
//!
//! The position is three numbers (partition, index entry, entry), and the two blocks in question, held by `Arc`: no guard is kept
//! between calls, so an iterator may rest for as long as it likes. Blocks store no deltas, so a step costs the same in both
//! directions and copies at most the part of the key behind the block's common prefix.
//!
//! Three ways to read: through the cache block by block; with readahead, where blocks that miss the cache one after another
//! are read in chunks that double; and past the cache in large chunks, which is compaction's way: it must neither sweep out
//! what readers need nor wait for the disk once a block.

use crate::base::error::Result;
use crate::base::iter::{InternalIterator, RunKey, Take, put_behind};
use crate::base::key::{VersionKey, pack_trailer};
use crate::base::metrics::Metrics;
use crate::base::options::ReadOptions;
use crate::block::block::{Block, BlockKey, BlockKind};
use crate::table::format::{FOOTER_BYTES, Handle};
use crate::table::table::Table;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What compaction reads at once.
const BYPASS_CHUNK_BYTES: u64 = 512 << 10;
/// The first chunk of readahead, and the largest.
const READAHEAD_BYTES: (u64, u64) = (16 << 10, 256 << 10);
/// Readahead begins after this many blocks in a row that were not cached.
const READAHEAD_AFTER: u32 = 2;
/// Blocks this far apart still count as in a row: the index and filter of a partition lie between.
const READAHEAD_GAP_BYTES: u64 = 64 << 10;

/// Manners of a [`TableIter`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TableIterOptions {
    /// How to read; its `sequence` is not looked at: all versions are walked.
    pub read: ReadOptions,
    /// Read ahead when blocks have to be read one after another.
    pub readahead: bool,
    /// Compaction's way: neither look into the cache for data nor fill it, read in large chunks, count as compaction.
    pub bypass_cache: bool,
}

impl TableIterOptions {
    /// For a job that reads a table once, front to back.
    pub fn compaction() -> TableIterOptions {
        TableIterOptions { bypass_cache: true, readahead: true, ..TableIterOptions::default() }
    }
}

/// An owned iterator over a table.
pub struct TableIter {
    table: Arc<Table>,
    options: TableIterOptions,
    partition: usize,
    /// Index block of `partition`.
    index: Option<Arc<Block>>,
    entry: usize,
    /// Data block of `entry` of `index`.
    data: Option<Arc<Block>>,
    at: usize,
    valid: bool,
    /// The key here, unless `data` has no common prefix: then it lies whole in the block.
    key: Vec<u8>,
    bare: bool,
    chunk: Chunk,
    misses_in_a_row: u32,
    last_miss_end: u64,
}

/// A piece of the file.
#[derive(Default)]
struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

impl Table {
    /// An iterator over all its versions.
    pub fn iter(self: &Arc<Self>, options: TableIterOptions) -> TableIter {
        TableIter {
            table: self.clone(),
            options,
            partition: 0,
            index: None,
            entry: 0,
            data: None,
            at: 0,
            valid: false,
            key: Vec::new(),
            bare: true,
            chunk: Chunk::default(),
            misses_in_a_row: 0,
            last_miss_end: 0,
        }
    }
}

impl TableIter {
    /// The table that it walks.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    fn index_count(&self) -> usize {
        self.index.as_ref().map_or(0, |block| block.count())
    }

    fn data_count(&self) -> usize {
        self.data.as_ref().map_or(0, |block| block.count())
    }

    fn open_partition(&mut self, partition: usize) -> Result<()> {
        if self.index.is_some() && self.partition == partition {
            return Ok(());
        }
        self.index = None;
        self.data = None;
        let handle = self.table.partitions()[partition].index;
        let mut read = self.options.read;
        // Reading one index block a partition costs little; compaction takes it from the cache but does not fill it.
        read.no_fill_cache |= self.options.bypass_cache;
        let guard = crossbeam_epoch::pin();
        self.index = Some(self.table.fetch(handle, BlockKind::Index, &read, &guard)?.pin());
        self.partition = partition;
        Ok(())
    }

    fn open_block(&mut self, entry: usize) -> Result<()> {
        if self.data.is_some() && self.entry == entry {
            return Ok(());
        }
        self.data = None;
        let Some(index) = &self.index else {
            return Ok(());
        };
        let handle = self.table.data_handle(index, entry)?;
        let block = self.fetch_data(handle)?;
        self.bare = block.common_prefix().is_empty();
        self.key.clear();
        self.key.extend_from_slice(block.common_prefix());
        self.data = Some(block);
        self.entry = entry;
        Ok(())
    }

    fn fetch_data(&mut self, handle: Handle) -> Result<Arc<Block>> {
        let (table, read) = (&self.table, &self.options.read);
        if self.options.bypass_cache {
            let frame = self.chunk.frame(
                table,
                handle,
                BYPASS_CHUNK_BYTES,
                &table.metrics().compaction_bytes_read,
            )?;
            let read = ReadOptions { no_fill_cache: true, ..*read };
            return table.decode_frame(frame, handle, BlockKind::Data, &read);
        }
        if !self.options.readahead || read.memory_only {
            let guard = crossbeam_epoch::pin();
            return Ok(table.fetch(handle, BlockKind::Data, read, &guard)?.pin());
        }
        if table.cache().contains(BlockKey { file_number: table.number(), offset: handle.offset }) {
            self.misses_in_a_row = 0;
            let guard = crossbeam_epoch::pin();
            return Ok(table.fetch(handle, BlockKind::Data, read, &guard)?.pin());
        }
        let in_a_row = handle.offset.wrapping_sub(self.last_miss_end) <= READAHEAD_GAP_BYTES;
        self.misses_in_a_row = if in_a_row { self.misses_in_a_row.saturating_add(1) } else { 0 };
        self.last_miss_end = handle.end();
        if self.misses_in_a_row < READAHEAD_AFTER {
            let guard = crossbeam_epoch::pin();
            return Ok(table.fetch(handle, BlockKind::Data, read, &guard)?.pin());
        }
        let (first, most) = READAHEAD_BYTES;
        let bytes =
            if self.chunk.bytes.is_empty() { first } else { (self.chunk.bytes.len() as u64 * 2).min(most) };
        Metrics::add(&table.metrics().cache_misses, 1);
        let frame = self.chunk.frame(table, handle, bytes, &table.metrics().table_bytes_read)?;
        table.decode_frame(frame, handle, BlockKind::Data, read)
    }

    /// Stands on entry `at` of the open block.
    fn stand(&mut self, at: usize) {
        self.at = at;
        self.valid = true;
        if let Some(data) = self.data.as_ref().filter(|_| !self.bare) {
            put_behind(&mut self.key, data.common_prefix().len(), data.suffix(at));
        }
    }

    /// A step forward that stays in the open block; false, and nothing has changed, if it would leave it.
    #[inline]
    pub fn step_within_block(&mut self) -> bool {
        let stays = self.valid && self.at + 1 < self.data_count();
        if stays {
            self.stand(self.at + 1);
        }
        stays
    }

    /// Stands on entry `at`, or on the first version behind the open block if there is no such entry.
    fn stand_or_go_on(&mut self, at: usize) -> Result<()> {
        if at < self.data_count() {
            self.stand(at);
            return Ok(());
        }
        if self.entry + 1 < self.index_count() {
            self.open_block(self.entry + 1)?;
        } else if self.partition + 1 < self.table.partitions().len() {
            self.open_partition(self.partition + 1)?;
            self.open_block(0)?;
        } else {
            return Ok(());
        }
        // No block is empty.
        self.stand(0);
        Ok(())
    }

    /// Stands on entry `before - 1`, or on the last version before the open block if `before` is 0.
    fn stand_before(&mut self, before: usize) -> Result<()> {
        if before > 0 {
            self.stand(before - 1);
            return Ok(());
        }
        if self.entry > 0 {
            self.open_block(self.entry - 1)?;
        } else if self.partition > 0 {
            self.open_partition(self.partition - 1)?;
            self.open_block(self.index_count() - 1)?;
        } else {
            return Ok(());
        }
        self.stand(self.data_count() - 1);
        Ok(())
    }

    /// Opens the one block in which `target` may lie; returns the first entry at or behind it. `None` if all lie before it.
    fn open_at(&mut self, target: VersionKey<'_>) -> Result<Option<usize>> {
        let trailer = pack_trailer(target.sequence, target.kind);
        let partition = self.table.partition_of(target.user_key, trailer);
        if partition >= self.table.partitions().len() {
            return Ok(None);
        }
        self.open_partition(partition)?;
        let entry = self.index.as_ref().map_or(0, |index| index.lower_bound(target.user_key, trailer));
        // Only in a damaged table may the top index promise what the partition does not have.
        self.open_block(entry.min(self.index_count() - 1))?;
        Ok(self.data.as_ref().map(|data| data.lower_bound(target.user_key, trailer)))
    }
}

impl InternalIterator for TableIter {
    fn valid(&self) -> bool {
        self.valid
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.valid = false;
        if !self.table.partitions().is_empty() {
            self.open_partition(0)?;
            self.open_block(0)?;
            self.stand(0);
        }
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.valid = false;
        if let Some(last) = self.table.partitions().len().checked_sub(1) {
            self.open_partition(last)?;
            self.open_block(self.index_count() - 1)?;
            self.stand(self.data_count() - 1);
        }
        Ok(())
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.valid = false;
        match self.open_at(target)? {
            Some(at) => self.stand_or_go_on(at),
            None => Ok(()),
        }
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.valid = false;
        match self.open_at(target)? {
            Some(at) => self.stand_before(at),
            None => self.seek_to_last(),
        }
    }

    fn next(&mut self) -> Result<()> {
        debug_assert!(self.valid);
        if self.step_within_block() {
            return Ok(());
        }
        self.valid = false;
        self.stand_or_go_on(self.at + 1)
    }

    fn has_distinct_keys(&self) -> bool {
        let summary = self.table.properties();
        summary.keys == summary.entries
    }

    fn prev(&mut self) -> Result<()> {
        debug_assert!(self.valid);
        self.valid = false;
        self.stand_before(self.at)
    }

    fn key(&self) -> &[u8] {
        debug_assert!(self.valid);
        match &self.data {
            Some(data) if self.bare => data.suffix(self.at),
            _ => &self.key,
        }
    }

    fn trailer(&self) -> u64 {
        debug_assert!(self.valid);
        self.data.as_ref().map_or(0, |data| data.trailer(self.at))
    }

    fn value(&self) -> &[u8] {
        debug_assert!(self.valid);
        self.data.as_ref().map_or(&[], |data| data.value(self.at))
    }

    fn run(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        let Some(data) = self.data.as_ref().filter(|_| self.valid) else {
            return Ok(ControlFlow::Continue(()));
        };
        let start = self.at;
        let common = data.common_prefix().len();
        let mut flow = ControlFlow::Continue(());
        for entry in data.entries(start + 1).take(steps) {
            self.at += 1;
            let key = RunKey::Parts { buffer: &mut self.key, common, suffix: entry.suffix };
            if take(key, entry.trailer, entry.value).is_break() {
                flow = ControlFlow::Break(self.at - start);
                break;
            }
        }
        self.stand(self.at);
        Ok(flow)
    }

    fn run_back(&mut self, steps: usize, take: &mut Take<'_>) -> Result<ControlFlow<usize>> {
        let Some(data) = self.data.as_ref().filter(|_| self.valid) else {
            return Ok(ControlFlow::Continue(()));
        };
        let start = self.at;
        let common = data.common_prefix().len();
        let mut flow = ControlFlow::Continue(());
        for entry in data.entries_back(start).take(steps) {
            self.at -= 1;
            let key = RunKey::Parts { buffer: &mut self.key, common, suffix: entry.suffix };
            if take(key, entry.trailer, entry.value).is_break() {
                flow = ControlFlow::Break(start - self.at);
                break;
            }
        }
        self.stand(self.at);
        Ok(flow)
    }

    /// Those that lie in the same block.
    fn steps_above(&self, bound: Option<&[u8]>) -> usize {
        let Some(data) = self.data.as_ref().filter(|_| self.valid) else { return 0 };
        // The oldest version that there can be may lie behind that one.
        let end = bound.map_or(0, |bound| data.lower_bound(bound, 0) + 1);
        self.at.saturating_sub(end)
    }

    /// Those that lie in the same block.
    fn steps_below(&self, bound: Option<&[u8]>) -> usize {
        let Some(data) = self.data.as_ref().filter(|_| self.valid) else { return 0 };
        let end = bound.map_or(data.count(), |bound| data.lower_bound(bound, u64::MAX));
        end.saturating_sub(self.at + 1)
    }
}

impl fmt::Debug for TableIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableIter")
            .field("table", &self.table)
            .field("valid", &self.valid)
            .finish_non_exhaustive()
    }
}

impl Chunk {
    /// The frame at `handle`; reads `chunk_bytes` around it if it is not here: from it on, or up to it when going backward.
    fn frame(
        &mut self,
        table: &Table,
        handle: Handle,
        chunk_bytes: u64,
        counter: &std::sync::atomic::AtomicU64,
    ) -> Result<&[u8]> {
        let here = self.start..self.start + self.bytes.len() as u64;
        if handle.offset < here.start || handle.end() > here.end {
            let backward = handle.offset < here.start;
            let start = if backward {
                handle.end().saturating_sub(chunk_bytes).min(handle.offset)
            } else {
                handle.offset
            };
            let data_end = table.properties().file_bytes - FOOTER_BYTES as u64;
            let end = (start + chunk_bytes).min(data_end).max(handle.end());
            // What is overwritten at once need not be zeroed first.
            self.bytes.truncate((end - start) as usize);
            self.bytes.shrink_to(BYPASS_CHUNK_BYTES as usize);
            self.bytes.resize((end - start) as usize, 0);
            self.start = start;
            let read = table.read_chunk(&mut self.bytes, start).inspect_err(|_| self.bytes.clear())?;
            self.bytes.truncate(read);
            Metrics::add(counter, read as u64);
        }
        let at = (handle.offset - self.start) as usize;
        self.bytes
            .get(at..at + handle.len as usize)
            .ok_or_else(|| table.damaged(handle, "the file ends inside a block"))
    }
}
