//! Writes a table file, front to back, from versions in order.
//!
//! Data blocks are cut at the keyspace's block size; a value above [`LONE_VALUE_BYTES`] gets one of its own. A partition
//! (its index block and filter, written right behind its data) ends when the index has grown to two blocks or the filter
//! to 32 KiB, so what waits in memory is one partition and a write buffer, whatever the size of the table.
//!
//! Index keys are shortened where the user key changes between two blocks. Where the versions of one key run across the
//! boundary they keep the trailer, so a search always leads to exactly one block.
//!
//! One thread at a time. After an error the file is garbage: drop the builder and remove it.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{SEQUENCE_MAX, ValueKind, separator, unpack_trailer};
use crate::base::limits::{BLOCK_BYTES_MAX, KEY_BYTES_MAX, LONE_VALUE_BYTES, VALUE_BYTES_MAX};
use crate::base::options::{Compression, KeyspaceOptions};
use crate::base::range_delete::Fragment;
use crate::block::builder::BlockBuilder;
use crate::block::filter::FilterBuilder;
use crate::block::frame::FrameEncoder;
use crate::env::env::File;
use crate::table::format::{
    DeleteRun, FOOTER_BYTES, Footer, Handle, Partition, TableSummary, encode_fragment,
};
use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

/// The file is written in pieces of about this size.
const WRITE_BYTES: usize = 512 << 10;
/// After this many bytes the system is asked to start writing back.
const WRITEBACK_BYTES: u64 = 1 << 20;
/// A partition ends when its filter has grown to this.
const PARTITION_FILTER_BYTES: usize = 32 << 10;
/// A partition ends when its index has grown to this many times the block size.
const PARTITION_INDEX_BLOCKS: usize = 2;

/// Builds one table file.
#[derive(Debug)]
pub struct TableBuilder {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    options: KeyspaceOptions,
    encoder: FrameEncoder,
    data: BlockBuilder,
    index: BlockBuilder,
    top: BlockBuilder,
    filter: FilterBuilder,
    fragments: Vec<u8>,
    last_fragment_end: Vec<u8>,
    last_key: Vec<u8>,
    last_trailer: u64,
    /// Whether `last_key` is in `filter` already.
    last_key_in_filter: bool,
    /// Whether the data block holds a lone value and takes nothing more.
    lone: bool,
    /// Payload of the block being framed, kept for its allocation.
    payload: Vec<u8>,
    buffer: Vec<u8>,
    /// What of finished data blocks is not in `buffer` yet: index, filter, top index.
    waiting_bytes: usize,
    written: u64,
    writeback_to: u64,
    summary: TableSummary,
    delete_run: DeleteRun,
}

impl TableBuilder {
    /// Starts a table in the empty `file`. `number` is the table's, or 0 if it is not known yet; `path` is for errors.
    pub fn new(file: Arc<dyn File>, path: PathBuf, number: u64, options: KeyspaceOptions) -> TableBuilder {
        TableBuilder {
            file,
            path,
            number,
            options,
            encoder: FrameEncoder::default(),
            data: BlockBuilder::new(),
            index: BlockBuilder::new(),
            top: BlockBuilder::new(),
            filter: FilterBuilder::new(options.bloom_bits_per_key),
            fragments: Vec::new(),
            last_fragment_end: Vec::new(),
            last_key: Vec::new(),
            last_trailer: 0,
            last_key_in_filter: false,
            lone: false,
            payload: Vec::new(),
            buffer: Vec::new(),
            waiting_bytes: 0,
            written: 0,
            writeback_to: 0,
            summary: TableSummary { smallest_sequence: SEQUENCE_MAX, ..TableSummary::default() },
            delete_run: DeleteRun::default(),
        }
    }

    /// Adds a version, which must lie behind all before it in version order. Errors: `InvalidArgument` if it does not or is
    /// too long or not a `Put` or `Delete`, else what the file says.
    pub fn add(&mut self, key: &[u8], trailer: u64, value: &[u8]) -> Result<()> {
        let Some((sequence, kind @ (ValueKind::Put | ValueKind::Delete))) = unpack_trailer(trailer) else {
            return Err(Error::invalid("only puts and deletes can be added to a table"));
        };
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::invalid("key or value too long for a table"));
        }
        let first = self.summary.entries == 0;
        // One look at the keys answers both: is it in order, and is it another key?
        let key_order = if first { Ordering::Less } else { self.last_key.as_slice().cmp(key) };
        if key_order.is_gt() || (key_order.is_eq() && self.last_trailer <= trailer) {
            return Err(Error::invalid(format!("versions added out of order to {}", self.path.display())));
        }
        let lone = value.len() > LONE_VALUE_BYTES;
        let full = self.data.encoded_len() + key.len() + value.len() + 4 > self.options.block_bytes as usize;
        if !self.data.is_empty() && (lone || self.lone || full) {
            self.cut_block(Some(key))?;
        }
        self.lone = lone;
        self.data.add(key, trailer, value);
        if self.options.bloom_bits_per_key > 0 && (key_order.is_lt() || !self.last_key_in_filter) {
            self.filter.add(key_hash(key));
            self.last_key_in_filter = true;
        }
        self.delete_run.add(key_order.is_lt(), kind == ValueKind::Delete);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_trailer = trailer;

        let summary = &mut self.summary;
        if first {
            summary.smallest = key.to_vec();
        }
        summary.entries += 1;
        summary.keys += u64::from(key_order.is_lt());
        summary.deletes += u64::from(kind == ValueKind::Delete);
        summary.smallest_sequence = summary.smallest_sequence.min(sequence);
        summary.largest_sequence = summary.largest_sequence.max(sequence);
        summary.raw_key_bytes += key.len() as u64;
        summary.raw_value_bytes += value.len() as u64;
        Ok(())
    }

    /// Adds fragments of range tombstones; sorted and disjoint, over all calls. May come at any time before `finish`.
    pub fn add_range_tombstones(&mut self, fragments: &[Fragment]) -> Result<()> {
        for fragment in fragments {
            let ordered = self.fragments.is_empty() || self.last_fragment_end <= fragment.start;
            if !ordered || fragment.start >= fragment.end || fragment.sequences.is_empty() {
                return Err(Error::invalid("range tombstones added out of order to a table"));
            }
            encode_fragment(fragment, &mut self.fragments);
            if self.fragments.len() > BLOCK_BYTES_MAX {
                return Err(Error::invalid("too many range tombstones for one table"));
            }
            self.last_fragment_end.clone_from(&fragment.end);
            let summary = &mut self.summary;
            if summary.range_deletes == 0 {
                summary.largest.clone_from(&fragment.start);
            }
            summary.range_deletes += fragment.sequences.len() as u64;
            for &sequence in &fragment.sequences {
                summary.smallest_sequence = summary.smallest_sequence.min(sequence);
                summary.largest_sequence = summary.largest_sequence.max(sequence);
            }
        }
        Ok(())
    }

    /// About how long the file would be if it ended with the last finished data block. Asked for each key, so it adds up nothing.
    pub fn estimated_bytes(&self) -> u64 {
        self.offset() + self.waiting_bytes as u64
    }

    /// How many versions were added.
    pub fn entries(&self) -> u64 {
        self.summary.entries
    }

    /// Whether nothing was added, neither versions nor range tombstones.
    pub fn is_empty(&self) -> bool {
        self.summary.entries == 0 && self.summary.range_deletes == 0
    }

    /// Writes what is left, and the end of the file, and syncs it. Error: `InvalidArgument` if nothing was added.
    pub fn finish(mut self) -> Result<TableSummary> {
        if self.is_empty() {
            return Err(Error::invalid("a table must hold something"));
        }
        // While tombstones are added, `largest` holds the start of the first one.
        let first_start = std::mem::take(&mut self.summary.largest);
        self.cut_block(None)?;
        let mut footer = Footer {
            top: Handle::default(),
            tombstones: Handle::default(),
            properties: Handle::default(),
            file_number: self.number,
        };
        if !self.top.is_empty() {
            self.top.finish(&mut self.payload);
            footer.top = self.put_frame(self.options.compression)?;
        }
        let summary = &mut self.summary;
        let (points, ranges) = (summary.entries > 0, summary.range_deletes > 0);
        if ranges && (!points || first_start < summary.smallest) {
            summary.smallest = first_start;
        }
        summary.largest_inclusive = points && (!ranges || self.last_key >= self.last_fragment_end);
        let largest = if summary.largest_inclusive { &self.last_key } else { &self.last_fragment_end };
        summary.largest.clone_from(largest);
        if ranges {
            self.payload.append(&mut self.fragments);
            footer.tombstones = self.put_frame(self.options.compression)?;
        }
        self.summary.delete_run = self.delete_run.longest();
        self.summary.encode(&mut self.payload);
        footer.properties = self.put_frame(Compression::None)?;
        footer.encode(&mut self.buffer);
        self.write_out()?;
        self.file.sync()?;
        self.summary.file_bytes = self.written;
        Ok(self.summary)
    }

    /// Ends the data block; `next` is the key that follows.
    fn cut_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        self.data.finish(&mut self.payload);
        let handle = self.put_frame(self.options.compression)?;
        self.summary.data_blocks += 1;
        // The last version that may lie in this block. Trailer 0 is behind all versions of its key.
        let (key, trailer) = match next {
            Some(next) if next == self.last_key => (self.last_key.clone(), self.last_trailer),
            Some(next) => (separator(&self.last_key, next), 0),
            None => (self.last_key.clone(), 0),
        };
        let mut value = Vec::new();
        handle.encode(&mut value);
        self.index.add(&key, trailer, &value);
        let index_full =
            self.index.encoded_len() >= PARTITION_INDEX_BLOCKS * self.options.block_bytes as usize;
        if index_full || self.filter.encoded_len() >= PARTITION_FILTER_BYTES || next.is_none() {
            self.cut_partition(&key, trailer)?;
        }
        let waiting = self.index.encoded_len() + self.filter.encoded_len() + self.top.encoded_len();
        self.waiting_bytes = waiting + self.fragments.len() + FOOTER_BYTES;
        Ok(())
    }

    /// Ends the partition; `(key, trailer)` is the last version that may lie in it.
    fn cut_partition(&mut self, key: &[u8], trailer: u64) -> Result<()> {
        self.index.finish(&mut self.payload);
        let index = self.put_frame(self.options.compression)?;
        let mut filter = Handle::default();
        if !self.filter.is_empty() {
            self.filter.finish(&mut self.payload);
            filter = self.put_frame(Compression::None)?;
            self.last_key_in_filter = false;
        }
        let mut value = Vec::new();
        Partition { index, filter }.encode(&mut value);
        self.top.add(key, trailer, &value);
        Ok(())
    }

    fn put_frame(&mut self, compression: Compression) -> Result<Handle> {
        let offset = self.offset();
        let len = self.encoder.append(&self.payload, compression, self.number, offset, &mut self.buffer);
        self.payload.clear();
        self.payload.shrink_to(WRITE_BYTES);
        if self.buffer.len() >= WRITE_BYTES {
            self.write_out()?;
        }
        Ok(Handle { offset, len: len as u32 })
    }

    fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn write_out(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BYTES);
        if self.written - self.writeback_to >= WRITEBACK_BYTES {
            self.file.start_writeback(self.writeback_to, self.written - self.writeback_to);
            self.writeback_to = self.written;
        }
        Ok(())
    }
}
