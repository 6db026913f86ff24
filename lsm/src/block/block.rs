//! A block in memory: what one frame of a table file held, checked once and then read in place.
//!
//! Three kinds share the type, so that one cache holds them all: *data* and *index* blocks of entries (layout in
//! [`builder`](crate::block::builder)) and *filter* blocks. Decoding checks every offset and trailer, in time linear in the number of
//! entries; after that no accessor can leave the block, whatever the bytes say, and none allocates.
//!
//! A search compares eight bytes of each suffix as one big-endian number. Index blocks keep these numbers in a dense array,
//! made at load: their searches are long, and the array is all that they touch. A data block has few entries and reads
//! them from its heap instead. Only entries whose eight bytes are equal are compared in full.
//!
//! Immutable, shared by all threads through `Arc`. Not done here: whether the entries are in order (a block that lies about
//! that gives wrong answers, never a panic; [`Table::verify`](crate::table::table::Table::verify) finds it).

use crate::base::coding::{get_u16, get_u32, get_u64};
use crate::base::key::ValueKind;
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
    kind: BlockKind,
    bytes: Vec<u8>,
    shape: Shape,
    /// Of an index block: the first eight bytes of each suffix.
    prefixes: Box<[u64]>,
    filter: Option<Filter>,
}

/// Where the columns of a block of entries lie in its bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    count: usize,
    key_offsets_at: usize,
    value_offsets_at: usize,
    trailers_at: usize,
    prefix_at: usize,
    suffixes_at: usize,
    values_at: usize,
    trailer_base: u64,
    key_offset_width: u8,
    value_offset_width: u8,
    trailer_width: u8,
}

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
            block.filter = Some(Filter::decode(&block.bytes)?);
            block.bytes = Vec::new();
            return Ok(block);
        }
        block.shape = Shape::read(&block.bytes)?;
        block.check_entries()?;
        if kind == BlockKind::Index {
            block.prefixes = (0..block.count()).map(|i| block.read_prefix(i)).collect();
        }
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
            + self.prefixes.len() * size_of::<u64>()
            + self.filter.as_ref().map_or(0, Filter::memory_bytes)
    }

    /// The filter, of a filter block.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// The payload that value ranges point into; empty for a filter.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries; 0 for a filter.
    pub fn count(&self) -> usize {
        self.shape.count
    }

    /// What all keys start with.
    pub fn common_prefix(&self) -> &[u8] {
        &self.bytes[self.shape.prefix_at..self.shape.suffixes_at]
    }

    /// What follows the common prefix in key `i`. `i` must be below `count()`, here and below.
    pub fn suffix(&self, i: usize) -> &[u8] {
        &self.bytes[self.suffix_range(i)]
    }

    /// Sequence and kind of entry `i`, packed.
    pub fn trailer(&self, i: usize) -> u64 {
        let shape = &self.shape;
        let delta = match shape.trailer_width {
            0 => Some(0),
            1 => self.bytes.get(shape.trailers_at + i).map(|&b| u64::from(b)),
            2 => get_u16(&self.bytes, shape.trailers_at + 2 * i).map(u64::from),
            4 => get_u32(&self.bytes, shape.trailers_at + 4 * i).map(u64::from),
            _ => get_u64(&self.bytes, shape.trailers_at + 8 * i),
        };
        shape.trailer_base.wrapping_add(delta.unwrap_or(0))
    }

    /// Value of entry `i`.
    pub fn value(&self, i: usize) -> &[u8] {
        &self.bytes[self.value_range(i)]
    }

    /// Where in [`bytes`](Self::bytes) the value of entry `i` lies.
    pub fn value_range(&self, i: usize) -> Range<usize> {
        let (at, width) = (self.shape.value_offsets_at, self.shape.value_offset_width);
        self.shape.values_at + self.offset(at, width, i)..self.shape.values_at + self.offset(at, width, i + 1)
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
        let target = prefix_of(suffix);
        if self.prefixes.is_empty() {
            self.search(suffix, trailer, target, |i| self.read_prefix(i))
        } else {
            self.search(suffix, trailer, target, |i| self.prefixes[i])
        }
    }

    /// The first entry of `key` at or behind trailer `trailer`, if there is one.
    pub fn find(&self, key: &[u8], trailer: u64) -> Option<usize> {
        let i = self.lower_bound(key, trailer);
        let found = i < self.count() && key.strip_prefix(self.common_prefix())? == self.suffix(i);
        found.then_some(i)
    }

    #[inline]
    fn search(&self, suffix: &[u8], trailer: u64, target: u64, prefix: impl Fn(usize) -> u64) -> usize {
        // The first entry whose number is not below the target's, by halving without a branch to mispredict.
        let mut low = 0;
        let mut size = self.count();
        while size > 1 {
            let half = size / 2;
            low = std::hint::select_unpredictable(prefix(low + half - 1) < target, low + half, low);
            size -= half;
        }
        if size == 1 && prefix(low) < target {
            low += 1;
        }
        // Among those with an equal number, in full; nearly always none or one.
        let mut high = low;
        let mut step = 1;
        while high < self.count() && prefix(high) == target {
            if self.compare(high, suffix, trailer) != Ordering::Less {
                break;
            }
            low = high + 1;
            high += step;
            step *= 2;
        }
        let mut high = high.min(self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let below = match prefix(middle).cmp(&target) {
                Ordering::Equal => self.compare(middle, suffix, trailer) == Ordering::Less,
                order => order == Ordering::Less,
            };
            if below {
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
        let (at, width) = (self.shape.key_offsets_at, self.shape.key_offset_width);
        self.shape.suffixes_at + self.offset(at, width, i)
            ..self.shape.suffixes_at + self.offset(at, width, i + 1)
    }

    /// The first eight bytes of suffix `i`, as [`prefix_of`] makes them.
    #[inline]
    fn read_prefix(&self, i: usize) -> u64 {
        let range = self.suffix_range(i);
        match self.bytes.get(range.start..range.start + 8) {
            // Loads whole, then clears what belongs to the neighbour.
            Some(word) => {
                let word = u64::from_be_bytes(word.try_into().unwrap_or_default());
                let len = range.end - range.start;
                if len >= 8 { word } else { word & !(u64::MAX >> (8 * len)) }
            }
            None => prefix_of(&self.bytes[range]),
        }
    }

    /// Offset `i` of the column at `at`. Checked at load, so the fallback is never taken.
    #[inline]
    fn offset(&self, at: usize, width: u8, i: usize) -> usize {
        if width == 2 {
            get_u16(&self.bytes, at + 2 * i).map_or(0, usize::from)
        } else {
            get_u32(&self.bytes, at + 4 * i).map_or(0, |offset| offset as usize)
        }
    }

    fn check_entries(&self) -> Result<(), String> {
        let shape = &self.shape;
        let suffixes_len = shape.values_at - shape.suffixes_at;
        let values_len = self.bytes.len() - shape.values_at;
        self.check_offsets(shape.key_offsets_at, shape.key_offset_width, suffixes_len, "key")?;
        self.check_offsets(shape.value_offsets_at, shape.value_offset_width, values_len, "value")?;
        for i in 0..if shape.trailer_width == 0 { 1 } else { shape.count } {
            let trailer = self.trailer(i);
            let kind = ValueKind::from_byte(trailer as u8);
            if trailer < shape.trailer_base || !matches!(kind, Some(ValueKind::Put | ValueKind::Delete)) {
                return Err(format!("entry {i} has the damaged trailer {trailer:#x}"));
            }
        }
        Ok(())
    }

    fn check_offsets(&self, at: usize, width: u8, heap_len: usize, what: &str) -> Result<(), String> {
        let mut last = 0;
        let mut good = self.offset(at, width, 0) == 0;
        for i in 1..=self.shape.count {
            let offset = self.offset(at, width, i);
            good &= offset >= last;
            last = offset;
        }
        if !good || last != heap_len {
            return Err(format!("damaged {what} offsets"));
        }
        Ok(())
    }
}

impl Shape {
    fn read(bytes: &[u8]) -> Result<Shape, String> {
        let short = || format!("a block of {} bytes is too short", bytes.len());
        let number = |at| get_u32(bytes, at).map(|n| n as usize).ok_or_else(short);
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
        // All of these come from u32 and fit a usize of 64 bits by far.
        let key_offsets_at = BLOCK_HEADER_BYTES;
        let value_offsets_at = key_offsets_at + (count + 1) * usize::from(key_offset_width);
        let trailers_at = value_offsets_at + (count + 1) * usize::from(value_offset_width);
        let prefix_at = trailers_at + count * usize::from(trailer_width);
        let suffixes_at = prefix_at + prefix_len;
        let values_at = suffixes_at + suffixes_len;
        if values_at + values_len != bytes.len() {
            return Err(format!(
                "block of {} bytes whose header tells of {}",
                bytes.len(),
                values_at + values_len
            ));
        }
        Ok(Shape {
            count,
            key_offsets_at,
            value_offsets_at,
            trailers_at,
            prefix_at,
            suffixes_at,
            values_at,
            trailer_base,
            key_offset_width,
            value_offset_width,
            trailer_width,
        })
    }
}

const _: () = assert!(usize::BITS >= 64, "sums of block lengths are computed without overflow checks");

/// The first eight bytes as a big-endian number, zeros behind a shorter key: smaller number, smaller key.
fn prefix_of(suffix: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = suffix.len().min(8);
    word[..len].copy_from_slice(&suffix[..len]);
    u64::from_be_bytes(word)
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
