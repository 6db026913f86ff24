//! An open table file: point reads and checks.
//!
//! Opening reads the footer, the properties, the range tombstones and the top index; they stay in memory with the `Table`.
//! Everything else goes through the block cache. A point read takes four steps, each leading to exactly one block:
//!
//! ```text
//! top index -> partition -> filter: has it the key at all? -> index block -> data block
//! ```
//!
//! When all of these are cached it takes no lock, counts no reference and allocates nothing; what it returns borrows from
//! the cache under the caller's epoch guard. A memory-only read that misses the cache may still read what the page cache
//! holds, and else answers `NeedsIo`; a filter that is not at hand counts as "maybe".
//!
//! Immutable; any number of threads. Range tombstones are not applied here: the caller merges them over all tables.

use crate::base::coding::Cursor;
use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{
    SEQUENCE_MAX, SequenceNumber, ValueKind, compare_versions, pack_trailer, unpack_trailer,
};
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::metrics::Metrics;
use crate::base::options::ReadOptions;
use crate::base::range_delete::{Fragment, RangeTombstones};
use crate::block::block::{Block, BlockKey, BlockKind};
use crate::block::frame;
use crate::cache::block_cache::{BlockCache, CachedBlock};
use crate::env::env::File;
use crate::table::format::{
    DeleteRun, FOOTER_BYTES, Footer, Handle, Partition, TableSummary, decode_tombstones,
};
use crossbeam_epoch::Guard;
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A memory-only read does not copy more than this from the page cache.
const INLINE_READ_BYTES_MAX: u32 = 256 << 10;
/// Filter probes are counted per thread and handed on in lots, so that no read writes a line that all threads share.
const PROBES_LOT: u32 = 64;

thread_local! {
    /// Probes, and those of them that said "absent".
    static PROBES: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// An open table file.
pub struct Table {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    /// What the frames' checksums are seeded with: the number under which the file was built.
    seed_number: u64,
    cache: Arc<BlockCache>,
    metrics: Arc<Metrics>,
    /// None if there are only range tombstones.
    top: Option<Block>,
    /// The values of `top`.
    partitions: Box<[Partition]>,
    tombstones: RangeTombstones,
    summary: TableSummary,
}

/// A block at hand, borrowed from the cache or owned.
#[derive(Debug)]
pub enum BlockRef<'g> {
    /// In the cache; alive while the guard is.
    Cached(CachedBlock<'g>),
    /// Just read.
    Owned(Arc<Block>),
}

impl BlockRef<'_> {
    /// A reference that outlives the guard.
    pub fn pin(&self) -> Arc<Block> {
        match self {
            BlockRef::Cached(block) => block.pin(),
            BlockRef::Owned(block) => block.clone(),
        }
    }
}

impl Deref for BlockRef<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        match self {
            BlockRef::Cached(block) => block,
            BlockRef::Owned(block) => block,
        }
    }
}

/// The version that a point read found.
#[derive(Debug)]
pub struct TableHit<'g> {
    /// When it was written.
    pub sequence: SequenceNumber,
    /// `Put` or `Delete`.
    pub kind: ValueKind,
    block: BlockRef<'g>,
    value: Range<usize>,
}

impl TableHit<'_> {
    /// The value; empty for a delete.
    pub fn value(&self) -> &[u8] {
        &self.block.bytes()[self.value.clone()]
    }

    /// The value as a range of [`Block::bytes`], to keep without copying.
    pub fn pin(&self) -> (Arc<Block>, Range<usize>) {
        (self.block.pin(), self.value.clone())
    }
}

impl Table {
    /// Opens the table `number` in `file`, which must be `file_bytes` long. Errors: `Corruption`, `UpgradeRequired`, I/O.
    pub fn open(
        file: Arc<dyn File>,
        path: PathBuf,
        number: u64,
        file_bytes: u64,
        cache: Arc<BlockCache>,
        metrics: Arc<Metrics>,
    ) -> Result<Table> {
        let len = file.len()?;
        if len != file_bytes || len < FOOTER_BYTES as u64 {
            let what = format!("the file has {len} bytes; a table of {file_bytes} was expected");
            return Err(Error::corruption(&path, len, what));
        }
        let footer_at = file_bytes - FOOTER_BYTES as u64;
        let mut bytes = [0; FOOTER_BYTES];
        if file.read_at(&mut bytes, footer_at)? != FOOTER_BYTES {
            return Err(Error::corruption(&path, footer_at, "the file ends inside its footer"));
        }
        let footer = Footer::decode(&bytes, &path, file_bytes)?;
        if footer.file_number != number && footer.file_number != 0 {
            let what = format!("the file was built as table {}, not {number}", footer.file_number);
            return Err(Error::corruption(&path, footer_at, what));
        }
        let mut table = Table {
            file,
            path,
            number,
            seed_number: footer.file_number,
            cache,
            metrics,
            top: None,
            partitions: Box::default(),
            tombstones: RangeTombstones::default(),
            summary: TableSummary::default(),
        };
        let properties = table.read_payload(footer.properties)?;
        table.summary = TableSummary::decode(&properties, file_bytes)
            .ok_or_else(|| table.damaged(footer.properties, "damaged table properties"))?;
        if !footer.tombstones.is_none() {
            let payload = table.read_payload(footer.tombstones)?;
            table.tombstones = decode_tombstones(&payload)
                .ok_or_else(|| table.damaged(footer.tombstones, "damaged range tombstones"))?;
        }
        if !footer.top.is_none() {
            let top = table.read_block(footer.top, BlockKind::Index)?;
            table.partitions = (0..top.count())
                .map(|i| {
                    let partition = Partition::decode(top.value(i));
                    let good = |p: &Partition| {
                        p.index.is_inside(file_bytes) && p.filter.is_inside(file_bytes) && !p.index.is_none()
                    };
                    partition.filter(good).ok_or_else(|| table.damaged(footer.top, "damaged top index"))
                })
                .collect::<Result<_>>()?;
            table.top = Some(top);
        }
        Ok(table)
    }

    /// The newest version of `key` at or below `read`; `hash` is its [`key_hash`]. Of `options`, `sequence` is not looked at.
    pub fn get<'g>(
        &self,
        hash: u64,
        key: &[u8],
        read: SequenceNumber,
        options: &ReadOptions,
        guard: &'g Guard,
    ) -> Result<Option<TableHit<'g>>> {
        let Some(top) = &self.top else {
            return Ok(None);
        };
        let trailer = pack_trailer(read.min(SEQUENCE_MAX), ValueKind::RangeDelete);
        let Some(partition) = self.partitions.get(top.lower_bound(key, trailer)) else {
            return Ok(None);
        };
        let probed = self.probe_filter(partition, hash, options, guard)?;
        if probed == Some(false) {
            return Ok(None);
        }
        let index = self.fetch(partition.index, BlockKind::Index, options, guard)?;
        let entry = index.lower_bound(key, trailer);
        if entry < index.count() {
            let handle = self.data_handle(&index, entry)?;
            let block = self.fetch(handle, BlockKind::Data, options, guard)?;
            if let Some(i) = block.find(key, trailer) {
                let trailer = block.trailer(i);
                let (sequence, kind) =
                    unpack_trailer(trailer).ok_or_else(|| self.damaged(handle, "damaged trailer"))?;
                let value = block.value_range(i);
                return Ok(Some(TableHit { sequence, kind, block, value }));
            }
        }
        if probed.is_some() {
            Metrics::add(&self.metrics.filter_false_positives, 1);
        }
        Ok(None)
    }

    /// Whether `key` may be among its point versions, from what is in memory alone: false is sure.
    pub fn may_contain(&self, hash: u64, key: &[u8], guard: &Guard) -> bool {
        let Some(top) = &self.top else {
            return false;
        };
        let trailer = pack_trailer(SEQUENCE_MAX, ValueKind::RangeDelete);
        let Some(partition) = self.partitions.get(top.lower_bound(key, trailer)) else {
            return false;
        };
        // A filter that cannot be read now says "maybe".
        !matches!(self.probe_filter(partition, hash, &ReadOptions::memory_only(), guard), Ok(Some(false)))
    }

    /// Brings the filters and indexes into the cache, so that the first reads of a new table need no disk. For jobs, right after they
    /// have made it.
    pub fn warm(&self) -> Result<()> {
        let options = ReadOptions::default();
        for partition in self.partitions.iter() {
            let guard = crossbeam_epoch::pin();
            if !partition.filter.is_none() {
                self.fetch(partition.filter, BlockKind::Filter, &options, &guard)?;
            }
            self.fetch(partition.index, BlockKind::Index, &options, &guard)?;
        }
        Ok(())
    }

    /// Its range tombstones.
    pub fn range_tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// What it holds.
    pub fn properties(&self) -> &TableSummary {
        &self.summary
    }

    /// Its file number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of memory that it takes beside the block cache.
    pub fn memory_bytes(&self) -> usize {
        let tombstone =
            |f: &Fragment| size_of::<Fragment>() + f.start.len() + f.end.len() + 8 * f.sequences.len();
        size_of::<Table>()
            + self.top.as_ref().map_or(0, Block::memory_bytes)
            + self.partitions.len() * size_of::<Partition>()
            + self.tombstones.fragments().iter().map(tombstone).sum::<usize>()
    }

    /// About how many bytes of the file lie before `key`. Reads nothing: exact to a block where the index is cached, else
    /// to a partition.
    pub fn approximate_offset(&self, key: &[u8]) -> u64 {
        let Some(top) = &self.top else {
            return 0;
        };
        let trailer = pack_trailer(SEQUENCE_MAX, ValueKind::RangeDelete);
        let at = top.lower_bound(key, trailer);
        let Some(partition) = self.partitions.get(at) else {
            return self.summary.file_bytes;
        };
        let guard = crossbeam_epoch::pin();
        let options = ReadOptions::memory_only();
        let exact = self.fetch(partition.index, BlockKind::Index, &options, &guard).and_then(|index| {
            let entry = index.lower_bound(key, trailer);
            if entry < index.count() { self.data_handle(&index, entry) } else { Ok(partition.index) }
        });
        match exact {
            Ok(handle) => handle.offset,
            Err(_) if at == 0 => 0,
            Err(_) => self.partitions[at - 1].index.end().max(self.partitions[at - 1].filter.end()),
        }
    }

    /// Reads the whole file and checks everything that can be: checksums, that blocks lie one behind the other, order, that the
    /// indexes lead to every version, that no filter denies a key, and the counts in the properties. Bypasses the cache.
    pub fn verify(&self) -> Result<()> {
        let mut seen = Seen::default();
        let mut end = 0;
        for (at, partition) in self.partitions.iter().enumerate() {
            let behind_index = partition.filter.is_none() || partition.filter.offset >= partition.index.end();
            if partition.index.offset < end || !behind_index {
                return Err(self.damaged(partition.index, "partitions overlap"));
            }
            let filter = match partition.filter.is_none() {
                true => None,
                false => Some(self.read_block(partition.filter, BlockKind::Filter)?),
            };
            let index = self.read_block(partition.index, BlockKind::Index)?;
            for entry in 0..index.count() {
                let handle = self.data_handle(&index, entry)?;
                // Each block at most once: the work is bounded by the file, however hostile it is.
                if handle.offset < end || handle.end() > partition.index.offset {
                    return Err(self.damaged(handle, "data blocks overlap"));
                }
                end = handle.end();
                let data = self.read_block(handle, BlockKind::Data)?;
                seen.block(&data).map_err(|what| self.damaged(handle, what))?;
                let denied = |i| {
                    let mut key = Vec::new();
                    data.append_key(i, &mut key);
                    filter.as_ref().and_then(Block::filter).is_some_and(|f| !f.may_contain(key_hash(&key)))
                };
                if (0..data.count()).any(denied) {
                    return Err(self.damaged(partition.filter, "the filter denies a key of the table"));
                }
                let mut separator = Vec::new();
                index.append_key(entry, &mut separator);
                seen.separator(separator, index.trailer(entry))
                    .map_err(|what| self.damaged(partition.index, what))?;
            }
            end = partition.index.end().max(partition.filter.end());
            let mut separator = Vec::new();
            self.top.iter().for_each(|top| top.append_key(at, &mut separator));
            let trailer = self.top.as_ref().map_or(0, |top| top.trailer(at));
            if (separator, trailer) != seen.behind {
                return Err(self.damaged(partition.index, "the partition's index and the top index disagree"));
            }
        }
        let mut seen = seen.summary(&self.tombstones, self.summary.file_bytes);
        if self.summary.delete_run == 0 {
            // Files of earlier versions do not say.
            seen.delete_run = 0;
        }
        if self.summary.keys == 0 {
            seen.keys = 0;
        }
        if seen != self.summary {
            let what = format!("properties {:?} do not match the contents {seen:?}", self.summary);
            return Err(Error::corruption(&self.path, 0, what));
        }
        Ok(())
    }

    /// Whether the filter lets `hash` pass; `None` if there is none, or none at hand.
    fn probe_filter(
        &self,
        partition: &Partition,
        hash: u64,
        options: &ReadOptions,
        guard: &Guard,
    ) -> Result<Option<bool>> {
        if partition.filter.is_none() {
            return Ok(None);
        }
        let block = match self.fetch(partition.filter, BlockKind::Filter, options, guard) {
            Ok(block) => block,
            Err(Error::NeedsIo) => return Ok(None),
            Err(error) => return Err(error),
        };
        let maybe = block.filter().is_none_or(|filter| filter.may_contain(hash));
        let (probes, negatives) = PROBES.get();
        let (probes, negatives) = (probes + 1, negatives + u32::from(!maybe));
        if probes == PROBES_LOT {
            Metrics::add(&self.metrics.filter_probes, u64::from(probes));
            Metrics::add(&self.metrics.filter_negatives, u64::from(negatives));
            PROBES.set((0, 0));
        } else {
            PROBES.set((probes, negatives));
        }
        Ok(Some(maybe))
    }

    /// How many partitions.
    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition in which the first version at or behind `(key, trailer)` lies.
    pub(crate) fn partition_of(&self, key: &[u8], trailer: u64) -> usize {
        self.top.as_ref().map_or(0, |top| top.lower_bound(key, trailer))
    }

    /// The handle in entry `entry` of an index block.
    pub(crate) fn data_handle(&self, index: &Block, entry: usize) -> Result<Handle> {
        let mut cursor = Cursor::new(index.value(entry));
        Handle::decode(&mut cursor)
            .filter(|handle| !handle.is_none() && handle.is_inside(self.summary.file_bytes))
            .ok_or_else(|| {
                Error::corruption(&self.path, index.key().offset, "damaged handle in an index block")
            })
    }

    /// The block at `handle`, from the cache or the file.
    pub(crate) fn fetch<'g>(
        &self,
        handle: Handle,
        kind: BlockKind,
        options: &ReadOptions,
        guard: &'g Guard,
    ) -> Result<BlockRef<'g>> {
        let key = BlockKey { file_number: self.number, offset: handle.offset };
        if let Some(block) = self.cache.get(key, guard) {
            if block.kind() != kind {
                return Err(self.damaged(handle, "two handles of different kinds lead to one block"));
            }
            return Ok(BlockRef::Cached(block));
        }
        self.load(handle, kind, options).map(BlockRef::Owned)
    }

    #[cold]
    fn load(&self, handle: Handle, kind: BlockKind, options: &ReadOptions) -> Result<Arc<Block>> {
        Metrics::add(&self.metrics.cache_misses, 1);
        let frame = self.read_frame(handle, options.memory_only)?;
        Metrics::add(&self.metrics.table_bytes_read, u64::from(handle.len));
        let payload = frame::decode_owned(frame, self.seed_number, handle.offset)
            .map_err(|what| self.damaged(handle, what))?;
        self.keep(handle, kind, payload, options)
    }

    /// Makes a block of a frame that was read by other means than [`fetch`](Self::fetch).
    pub(crate) fn decode_frame(
        &self,
        frame: &[u8],
        handle: Handle,
        kind: BlockKind,
        options: &ReadOptions,
    ) -> Result<Arc<Block>> {
        let payload = frame::decode(frame, self.seed_number, handle.offset)
            .map_err(|what| self.damaged(handle, what))?;
        self.keep(handle, kind, payload, options)
    }

    fn keep(
        &self,
        handle: Handle,
        kind: BlockKind,
        payload: Vec<u8>,
        options: &ReadOptions,
    ) -> Result<Arc<Block>> {
        let block = Arc::new(self.make_block(handle, kind, payload)?);
        if !options.no_fill_cache {
            self.cache.insert(block.clone());
        }
        Ok(block)
    }

    fn make_block(&self, handle: Handle, kind: BlockKind, payload: Vec<u8>) -> Result<Block> {
        let key = BlockKey { file_number: self.number, offset: handle.offset };
        Block::decode(key, kind, payload).map_err(|what| self.damaged(handle, what))
    }

    /// A block straight from the file.
    pub(crate) fn read_block(&self, handle: Handle, kind: BlockKind) -> Result<Block> {
        let payload = self.read_payload(handle)?;
        self.make_block(handle, kind, payload)
    }

    fn read_payload(&self, handle: Handle) -> Result<Vec<u8>> {
        let frame = self.read_frame(handle, false)?;
        frame::decode_owned(frame, self.seed_number, handle.offset).map_err(|what| self.damaged(handle, what))
    }

    fn read_frame(&self, handle: Handle, memory_only: bool) -> Result<Vec<u8>> {
        if memory_only && handle.len > INLINE_READ_BYTES_MAX {
            return Err(Error::NeedsIo);
        }
        // Handles are checked to lie inside the file, whose length was checked at open.
        let mut frame = vec![0; handle.len as usize];
        let read = match memory_only {
            true => self.file.read_at_nowait(&mut frame, handle.offset)?.ok_or(Error::NeedsIo)?,
            false => self.file.read_at(&mut frame, handle.offset)?,
        };
        if read != frame.len() {
            return Err(self.damaged(handle, "the file ends inside a block"));
        }
        Ok(frame)
    }

    /// Reads up to `buf.len()` bytes, for readahead.
    pub(crate) fn read_chunk(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    pub(crate) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn damaged(&self, handle: Handle, what: impl Into<String>) -> Error {
        Error::corruption(&self.path, handle.offset, what)
    }
}

/// What [`Table::verify`] has come past.
#[derive(Default)]
struct Seen {
    counts: TableSummary,
    delete_run: DeleteRun,
    last_key: Vec<u8>,
    /// The next version must lie behind this one: the last version or separator.
    behind: (Vec<u8>, u64),
}

impl Seen {
    fn block(&mut self, data: &Block) -> std::result::Result<(), String> {
        let counts = &mut self.counts;
        for i in 0..data.count() {
            let (mut key, trailer) = (Vec::new(), data.trailer(i));
            data.append_key(i, &mut key);
            if counts.entries == 0 {
                counts.smallest.clone_from(&key);
                counts.smallest_sequence = SEQUENCE_MAX;
            } else if compare_versions(&self.behind.0, self.behind.1, &key, trailer).is_ge() {
                return Err(format!("entry {i} is out of order"));
            }
            let (sequence, kind) = unpack_trailer(trailer).ok_or("damaged trailer")?;
            counts.entries += 1;
            counts.deletes += u64::from(kind == ValueKind::Delete);
            let newest = counts.entries == 1 || self.last_key != key;
            counts.keys += u64::from(newest);
            self.delete_run.add(newest, kind == ValueKind::Delete);
            self.last_key.clone_from(&key);
            counts.raw_key_bytes += key.len() as u64;
            counts.raw_value_bytes += data.value(i).len() as u64;
            counts.smallest_sequence = counts.smallest_sequence.min(sequence);
            counts.largest_sequence = counts.largest_sequence.max(sequence);
            self.behind = (key, trailer);
        }
        counts.largest.clone_from(&self.behind.0);
        counts.data_blocks += 1;
        Ok(())
    }

    fn separator(&mut self, key: Vec<u8>, trailer: u64) -> std::result::Result<(), String> {
        if compare_versions(&self.behind.0, self.behind.1, &key, trailer).is_gt() {
            return Err("an index entry lies before the last version of its block".into());
        }
        self.behind = (key, trailer);
        Ok(())
    }

    fn summary(self, tombstones: &RangeTombstones, file_bytes: u64) -> TableSummary {
        let mut counts = self.counts;
        counts.file_bytes = file_bytes;
        counts.delete_run = self.delete_run.longest();
        counts.largest_inclusive = counts.entries > 0;
        let fragments = tombstones.fragments();
        if let (Some(first), Some(last)) = (fragments.first(), fragments.last()) {
            if counts.entries == 0 {
                counts.smallest_sequence = SEQUENCE_MAX;
            }
            if counts.entries == 0 || first.start < counts.smallest {
                counts.smallest.clone_from(&first.start);
            }
            if counts.entries == 0 || last.end > counts.largest {
                counts.largest.clone_from(&last.end);
                counts.largest_inclusive = false;
            }
        }
        for &sequence in fragments.iter().flat_map(|fragment| &fragment.sequences) {
            counts.range_deletes += 1;
            counts.smallest_sequence = counts.smallest_sequence.min(sequence);
            counts.largest_sequence = counts.largest_sequence.max(sequence);
        }
        counts
    }
}

const _: () =
    assert!(BLOCK_BYTES_MAX < u32::MAX as usize - frame::FRAME_TRAILER_BYTES, "a handle's length is a u32");

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("path", &self.path)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}
