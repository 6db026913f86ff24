//! A block in memory: what one frame of a table file held, checked once and then read in place.
//!
//! Three kinds share the type, so that one cache holds them all: *data* and *index* blocks of entries (layout in
//! [`builder`](crate::block::builder)) and *filter* blocks. Decoding checks every offset and trailer, in time linear in the number of
//! entries; after that no accessor can leave the block, whatever the bytes say, and none allocates.
//!
//! A search compares the first four bytes of each suffix as one big-endian number. Decoding puts these numbers into a dense
//! array: counting the smaller ones reads a few neighbouring cache lines at once, where halving over the heap would wait for one
//! after another. Only entries whose four bytes equal the target's are compared in full.
//!
//! Immutable, shared by all threads through `Arc`. Not done here: whether the entries are in order (a block that lies about
//! that gives wrong answers, never a panic; [`Table::verify`](crate::table::table::Table::verify) finds it).

use crate::base::coding::{get_u16, get_u32, get_u64};
use crate::base::key::ValueKind;
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::block::builder::BLOCK_HEADER_BYTES;
use crate::block::filter::Filter;
use std::cmp::Ordering;
use std::ops::Range;

/// Where a block comes from; its name in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// Number of the table file.
    pub file_number: u64,
    /// Where its frame starts, in bytes.
    pub offset: u64,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Versions of keys.
    Data,
    /// Handles of blocks, by the last version that may lie in them.
    Index,
    /// A bloom filter.
    Filter,
}

/// A checked block.
#[derive(Debug)]
pub struct Block {
    key: BlockKey,
    bytes: Vec<u8>,
    /// The first four bytes of each suffix, see [`prefix_of`].
    prefixes: Box<[u32]>,
    shape: Shape,
    kind: BlockKind,
    filter: Option<Box<Filter>>,
}

/// An entry of a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What follows the common prefix in its key.
    pub suffix: &'a [u8],
    /// Sequence and kind, packed.
    pub trailer: u64,
    /// Its value.
    pub value: &'a [u8],
}

/// Where the columns of a block of entries lie in its bytes. Small, so that a block's head is two cache lines.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    count: u32,
    key_offsets_at: u32,
    value_offsets_at: u32,
    trailers_at: u32,
    prefix_at: u32,
    suffixes_at: u32,
    values_at: u32,
    key_offset_width: u8,
    value_offset_width: u8,
    trailer_width: u8,
    trailer_base: u64,
}

/// Up to this many numbers are counted rather than halved.
const COUNTED_MAX: usize = 64;

impl Block {
    /// Checks `payload` as a block of `kind` that came from `key`. The error says what is wrong with it.
    pub fn decode(key: BlockKey, kind: BlockKind, payload: Vec<u8>) -> Result<Block, String> {
        let mut block = Block {
            key,
            kind,
            bytes: payload,
            shape: Shape::default(),
            prefixes: Box::default(),
            filter: None,
        };
        if kind == BlockKind::Filter {
            block.filter = Some(Box::new(Filter::decode(&block.bytes)?));
            block.bytes = Vec::new();
            return Ok(block);
        }
        block.shape = Shape::read(&block.bytes)?;
        block.check_entries()?;
        block.prefixes = (0..block.count()).map(|i| prefix_of(block.suffix(i))).collect();
        Ok(block)
    }

    /// Where it comes from.
    pub fn key(&self) -> BlockKey {
        self.key
    }

    /// What it holds.
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Bytes of memory that it takes, this struct included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Block>()
            + self.bytes.capacity()
            + size_of_val(&self.prefixes[..])
            + self.filter.as_ref().map_or(0, |filter| size_of::<Filter>() + filter.memory_bytes())
    }

    /// The filter, of a filter block.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// Addresses that a search will read first, for a cache that wants to have them fetched early.
    pub fn hot_addresses(&self) -> [*const u8; 2] {
        [self.prefixes.as_ptr().cast(), self.bytes.as_ptr()]
    }

    /// The payload that value ranges point into; empty for a filter.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries; 0 for a filter.
    pub fn count(&self) -> usize {
        self.shape.count as usize
    }

    /// What all keys start with.
    pub fn common_prefix(&self) -> &[u8] {
        &self.bytes[self.shape.prefix_at as usize..self.shape.suffixes_at as usize]
    }

    /// What follows the common prefix in key `i`. `i` must be below `count()`, here and below.
    pub fn suffix(&self, i: usize) -> &[u8] {
        &self.bytes[self.suffix_range(i)]
    }

    /// Sequence and kind of entry `i`, packed.
    pub fn trailer(&self, i: usize) -> u64 {
        let at = self.shape.trailers_at as usize;
        let delta = match self.shape.trailer_width {
            0 => Some(0),
            1 => self.bytes.get(at + i).map(|&b| u64::from(b)),
            2 => get_u16(&self.bytes, at + 2 * i).map(u64::from),
            4 => get_u32(&self.bytes, at + 4 * i).map(u64::from),
            _ => get_u64(&self.bytes, at + 8 * i),
        };
        self.shape.trailer_base.wrapping_add(delta.unwrap_or(0))
    }

    /// Value of entry `i`.
    pub fn value(&self, i: usize) -> &[u8] {
        &self.bytes[self.value_range(i)]
    }

    /// The entries from `from` on.
    pub fn entries(&self, from: usize) -> impl Iterator<Item = Entry<'_>> {
        let from = from.min(self.count());
        let mut start = self.offsets(from);
        (from..self.count()).map(move |i| {
            let end = self.offsets(i + 1);
            let entry = self.entry(i, start, end);
            start = end;
            entry
        })
    }

    /// The entries before `before`, the last one first.
    pub fn entries_back(&self, before: usize) -> impl Iterator<Item = Entry<'_>> {
        let before = before.min(self.count());
        let mut end = self.offsets(before);
        (0..before).rev().map(move |i| {
            let start = self.offsets(i);
            let entry = self.entry(i, start, end);
            end = start;
            entry
        })
    }

    /// Where suffix and value `i` begin, or those before it end, each counted from where all of them begin.
    fn offsets(&self, i: usize) -> (usize, usize) {
        let shape = &self.shape;
        (
            self.offset(shape.key_offsets_at, shape.key_offset_width, i),
            self.offset(shape.value_offsets_at, shape.value_offset_width, i),
        )
    }

    fn entry(&self, i: usize, start: (usize, usize), end: (usize, usize)) -> Entry<'_> {
        let shape = &self.shape;
        let suffixes = &self.bytes[shape.suffixes_at as usize..shape.values_at as usize];
        let values = &self.bytes[shape.values_at as usize..];
        Entry { suffix: &suffixes[start.0..end.0], trailer: self.trailer(i), value: &values[start.1..end.1] }
    }

    /// Where in [`bytes`](Self::bytes) the value of entry `i` lies.
    pub fn value_range(&self, i: usize) -> Range<usize> {
        let shape = &self.shape;
        self.range(shape.values_at, shape.value_offsets_at, shape.value_offset_width, i)
    }

    /// Appends key `i` to `out`.
    pub fn append_key(&self, i: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.common_prefix());
        out.extend_from_slice(self.suffix(i));
    }

    /// The first entry at or behind version `(key, trailer)`; `count()` if all lie before it.
    pub fn lower_bound(&self, key: &[u8], trailer: u64) -> usize {
        let prefix = self.common_prefix();
        let Some(suffix) = key.strip_prefix(prefix) else {
            return if key < prefix { 0 } else { self.count() };
        };
        self.search(suffix, trailer)
    }

    /// The first entry of `key` at or behind trailer `trailer`, if there is one.
    pub fn find(&self, key: &[u8], trailer: u64) -> Option<usize> {
        let i = self.lower_bound(key, trailer);
        let found = i < self.count() && key.strip_prefix(self.common_prefix())? == self.suffix(i);
        found.then_some(i)
    }

    fn search(&self, suffix: &[u8], trailer: u64) -> usize {
        let target = prefix_of(suffix);
        let prefixes = &self.prefixes[..];
        // The first entry whose number is not below the target's.
        let mut low = 0;
        let mut size = prefixes.len();
        while size > COUNTED_MAX {
            let half = size / 2;
            low = std::hint::select_unpredictable(prefixes[low + half - 1] < target, low + half, low);
            size -= half;
        }
        low +=
            prefixes[low..low + size].iter().map(|&prefix| u32::from(prefix < target)).sum::<u32>() as usize;
        // Among those with an equal number, in full; nearly always none or one.
        let mut high = low;
        let mut step = 1;
        while prefixes.get(high) == Some(&target) && self.compare(high, suffix, trailer) == Ordering::Less {
            low = high + 1;
            high += step;
            step *= 2;
        }
        let mut high = high.min(prefixes.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let order = prefixes[middle].cmp(&target).then_with(|| self.compare(middle, suffix, trailer));
            if order == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn compare(&self, i: usize, suffix: &[u8], trailer: u64) -> Ordering {
        self.suffix(i).cmp(suffix).then_with(|| trailer.cmp(&self.trailer(i)))
    }

    fn suffix_range(&self, i: usize) -> Range<usize> {
        let shape = &self.shape;
        self.range(shape.suffixes_at, shape.key_offsets_at, shape.key_offset_width, i)
    }

    /// Piece `i` of the heap at `heap_at`, by the offset column at `column_at`.
    #[inline]
    fn range(&self, heap_at: u32, column_at: u32, width: u8, i: usize) -> Range<usize> {
        let start = heap_at as usize + self.offset(column_at, width, i);
        start..heap_at as usize + self.offset(column_at, width, i + 1)
    }

    /// Offset `i` of the column at `at`. Checked at load, so the fallback is never taken.
    #[inline]
    fn offset(&self, at: u32, width: u8, i: usize) -> usize {
        if width == 2 {
            get_u16(&self.bytes, at as usize + 2 * i).map_or(0, usize::from)
        } else {
            get_u32(&self.bytes, at as usize + 4 * i).map_or(0, |offset| offset as usize)
        }
    }

    fn check_entries(&self) -> Result<(), String> {
        let shape = &self.shape;
        let suffixes_len = (shape.values_at - shape.suffixes_at) as usize;
        let values_len = self.bytes.len() - shape.values_at as usize;
        self.check_offsets(shape.key_offsets_at, shape.key_offset_width, suffixes_len, "key")?;
        self.check_offsets(shape.value_offsets_at, shape.value_offset_width, values_len, "value")?;
        for i in 0..if shape.trailer_width == 0 { 1 } else { self.count() } {
            let trailer = self.trailer(i);
            let kind = ValueKind::from_byte(trailer as u8);
            if trailer < shape.trailer_base || !matches!(kind, Some(ValueKind::Put | ValueKind::Delete)) {
                return Err(format!("entry {i} has the damaged trailer {trailer:#x}"));
            }
        }
        Ok(())
    }

    fn check_offsets(&self, at: u32, width: u8, heap_len: usize, what: &str) -> Result<(), String> {
        let column = &self.bytes[at as usize..][..(self.count() + 1) * usize::from(width)];
        let good = if width == 2 {
            are_offsets(
                column.as_chunks().0.iter().map(|word| usize::from(u16::from_le_bytes(*word))),
                heap_len,
            )
        } else {
            are_offsets(column.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word) as usize), heap_len)
        };
        if good { Ok(()) } else { Err(format!("damaged {what} offsets")) }
    }
}

/// Whether the numbers run from 0 up to `heap_len` and never back.
fn are_offsets(offsets: impl Iterator<Item = usize>, heap_len: usize) -> bool {
    let (mut first, mut last, mut ordered) = (None, 0, true);
    for offset in offsets {
        first = first.or(Some(offset));
        ordered &= offset >= last;
        last = offset;
    }
    ordered && first == Some(0) && last == heap_len
}

impl Shape {
    fn read(bytes: &[u8]) -> Result<Shape, String> {
        let short = || format!("a block of {} bytes is too short", bytes.len());
        let number = |at| get_u32(bytes, at).map(u64::from).ok_or_else(short);
        let (count, prefix_len, suffixes_len, values_len) = (number(0)?, number(4)?, number(8)?, number(12)?);
        let trailer_base = get_u64(bytes, 16).ok_or_else(short)?;
        let widths = bytes.get(24..BLOCK_HEADER_BYTES).ok_or_else(short)?;
        let (key_offset_width, value_offset_width, trailer_width) = (widths[0], widths[1], widths[2]);
        if !matches!(key_offset_width, 2 | 4)
            || !matches!(value_offset_width, 2 | 4)
            || !matches!(trailer_width, 0 | 1 | 2 | 4 | 8)
            || widths[3..] != [0; 5]
            || count == 0
        {
            return Err("damaged block header".into());
        }
        // None of these sums of products of u32 can overflow a u64.
        let key_offsets_at = BLOCK_HEADER_BYTES as u64;
        let value_offsets_at = key_offsets_at + (count + 1) * u64::from(key_offset_width);
        let trailers_at = value_offsets_at + (count + 1) * u64::from(value_offset_width);
        let prefix_at = trailers_at + count * u64::from(trailer_width);
        let suffixes_at = prefix_at + prefix_len;
        let values_at = suffixes_at + suffixes_len;
        let end = values_at + values_len;
        if end != bytes.len() as u64 || bytes.len() > BLOCK_BYTES_MAX {
            return Err(format!("block of {} bytes whose header tells of {end}", bytes.len()));
        }
        // Below `end`, which fits a u32.
        Ok(Shape {
            count: count as u32,
            key_offsets_at: key_offsets_at as u32,
            value_offsets_at: value_offsets_at as u32,
            trailers_at: trailers_at as u32,
            prefix_at: prefix_at as u32,
            suffixes_at: suffixes_at as u32,
            values_at: values_at as u32,
            key_offset_width,
            value_offset_width,
            trailer_width,
            trailer_base,
        })
    }
}

/// The first four bytes as a big-endian number, zeros behind a shorter key: a smaller number means a smaller key.
fn prefix_of(suffix: &[u8]) -> u32 {
    match suffix.first_chunk() {
        Some(word) => u32::from_be_bytes(*word),
        None => suffix.iter().rev().fold(0, |number, &byte| number >> 8 | u32::from(byte) << 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{compare_versions, pack_trailer};
    use crate::block::builder::BlockBuilder;
    use proptest::prelude::*;

    const KEY: BlockKey = BlockKey { file_number: 1, offset: 2 };

    type Entry = (Vec<u8>, u64, Vec<u8>);

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let key = prop_oneof![
            proptest::collection::vec(0u8..3, 0..5),
            proptest::collection::vec(0u8..2, 8..12)
                .prop_map(|tail| [b"user:000".as_slice(), &tail].concat()),
        ];
        let sequence = prop_oneof![Just(0u64), 0u64..4, 0u64..1 << 40];
        let entry = (key, sequence, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..20));
        proptest::collection::vec(entry, 1..60).prop_map(|entries| {
            let mut entries = entries
                .into_iter()
                .map(|(key, sequence, put, value)| {
                    let kind = if put { ValueKind::Put } else { ValueKind::Delete };
                    (key, pack_trailer(sequence, kind), value)
                })
                .collect::<Vec<_>>();
            entries.sort_by(|a, b| compare_versions(&a.0, a.1, &b.0, b.1));
            entries.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
            entries
        })
    }

    fn build(entries: &[Entry]) -> Vec<u8> {
        let mut builder = BlockBuilder::new();
        entries.iter().for_each(|(key, trailer, value)| builder.add(key, *trailer, value));
        let expected = builder.encoded_len();
        let mut payload = Vec::new();
        builder.finish(&mut payload);
        assert_eq!(payload.len(), expected);
        payload
    }

    proptest! {
        #[test]
        fn reads_what_was_built(entries in entries(), probes in entries(), index: bool) {
            let kind = if index { BlockKind::Index } else { BlockKind::Data };
            let block = Block::decode(KEY, kind, build(&entries)).unwrap();
            prop_assert_eq!(block.count(), entries.len());
            for (i, (key, trailer, value)) in entries.iter().enumerate() {
                let mut read = Vec::new();
                block.append_key(i, &mut read);
                prop_assert_eq!(&read, key);
                prop_assert_eq!(block.trailer(i), *trailer);
                prop_assert_eq!(block.value(i), value.as_slice());
                prop_assert_eq!(block.find(key, *trailer), Some(i));
            }
            for from in [0, entries.len() / 2, entries.len(), entries.len() + 1] {
                let read = block.entries(from).map(|entry| {
                    ([block.common_prefix(), entry.suffix].concat(), entry.trailer, entry.value.to_vec())
                });
                prop_assert_eq!(read.collect::<Vec<_>>(), entries.get(from..).unwrap_or_default());
                let back = block.entries_back(from).map(|entry| {
                    ([block.common_prefix(), entry.suffix].concat(), entry.trailer, entry.value.to_vec())
                });
                let due = entries[..from.min(entries.len())].iter().rev().cloned();
                prop_assert_eq!(back.collect::<Vec<_>>(), due.collect::<Vec<_>>());
            }
            for (key, trailer, _) in &probes {
                let expected = entries.partition_point(|e| compare_versions(&e.0, e.1, key, *trailer).is_lt());
                prop_assert_eq!(block.lower_bound(key, *trailer), expected);
                let found = entries.get(expected).filter(|e| e.0 == *key).map(|_| expected);
                prop_assert_eq!(block.find(key, *trailer), found);
            }
        }

        #[test]
        fn damaged_blocks_never_panic(
            entries in entries(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            cut in 0usize..4,
            index: bool,
        ) {
            let mut payload = build(&entries);
            payload.truncate(payload.len() - cut.min(payload.len()));
            for (at, byte) in damage {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            let kind = if index { BlockKind::Index } else { BlockKind::Data };
            if let Ok(block) = Block::decode(KEY, kind, payload) {
                for (key, trailer, _) in &entries {
                    if let Some(i) = block.find(key, *trailer) {
                        block.value(i);
                    }
                }
                for i in 0..block.count() {
                    let mut key = Vec::new();
                    block.append_key(i, &mut key);
                    block.value(i);
                    block.trailer(i);
                }
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Block::decode(KEY, BlockKind::Data, bytes);
        }
    }

    #[test]
    fn equal_trailers_take_no_room() {
        let same = (0..100u8).map(|i| (vec![i], pack_trailer(0, ValueKind::Put), vec![])).collect::<Vec<_>>();
        assert_eq!(build(&same).len(), BLOCK_HEADER_BYTES + 2 * 101 * 2 + 100);
    }
}
