//! The bytes of a table file that are not entries: handles, properties, range tombstones and the footer.
//!
//! ```text
//! table     = partition* | [top index] | [range tombstones] | properties | footer
//! partition = data block* | index block | [filter block]       every block in a frame, see block/frame.rs
//!
//! index entry     = (last version that may lie in the data block) -> data handle
//! top index entry = (last version that may lie in the partition)  -> index handle, filter handle
//! handle          = offset varint | frame length varint           length 0: there is none
//!
//! tombstones = (start slice | end slice | number of sequences varint | sequence varint *) *     slice = varint length, bytes
//! properties = (tag varint | slice) *                              an unknown tag is passed over
//! footer     = top index offset u64, length u32 | tombstones offset u64, length u32 | properties offset u64, length u32
//!            | file number u64 | features to ignore u32 | format version u32 | features to understand u32
//!            | checksum u64 (xxh3-64 of the footer before it) | magic u64                        (72 bytes)
//! ```
//!
//! The footer is the same length in all versions to come, so its checksum is believed before its version: a damaged file is
//! `Corruption`, a newer one `UpgradeRequired`. File number 0 means that the file was built before its number was known;
//! it opens under any number.

use crate::base::coding::{Cursor, get_u32, get_u64, put_slice, put_u32, put_u64, put_varint};
use crate::base::error::{Error, Result};
use crate::base::key::SEQUENCE_MAX;
use crate::base::key::SequenceNumber;
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::range_delete::{Fragment, RangeTombstones};
use crate::block::frame::{FRAME_BYTES_MAX, checksum};
use std::path::Path;

/// Length of the footer.
pub const FOOTER_BYTES: usize = 72;
/// The format that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Features to understand that this crate knows: none so far.
const FEATURES_KNOWN: u32 = 0;
/// "HAYTABLE", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"HAYTABLE");

/// Where a frame lies in a table file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handle {
    /// Where it starts.
    pub offset: u64,
    /// Its length; 0 if there is no such frame.
    pub len: u32,
}

impl Handle {
    /// Whether there is no such frame.
    pub fn is_none(self) -> bool {
        self.len == 0
    }

    /// Where it ends.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }

    /// Appends it to `out`.
    pub fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, u64::from(self.len));
    }

    /// Takes one from `cursor`.
    pub fn decode(cursor: &mut Cursor<'_>) -> Option<Handle> {
        Some(Handle { offset: cursor.varint()?, len: cursor.varint_u32()? })
    }

    /// Whether a reader should go there: inside the part of the file before the footer, and of a sane length.
    pub fn is_inside(self, file_bytes: u64) -> bool {
        self.len as usize <= FRAME_BYTES_MAX && self.end() <= file_bytes.saturating_sub(FOOTER_BYTES as u64)
    }
}

/// One partition of a table: its index block and its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The index block over its data blocks.
    pub index: Handle,
    /// The filter over its keys, if the table has filters.
    pub filter: Handle,
}

impl Partition {
    /// Appends it to `out`.
    pub fn encode(self, out: &mut Vec<u8>) {
        self.index.encode(out);
        self.filter.encode(out);
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Option<Partition> {
        let mut cursor = Cursor::new(bytes);
        let partition =
            Partition { index: Handle::decode(&mut cursor)?, filter: Handle::decode(&mut cursor)? };
        cursor.is_empty().then_some(partition)
    }
}

/// What a table holds, as its builder counted it; stored in the file's properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSummary {
    /// Length of the file.
    pub file_bytes: u64,
    /// Point versions.
    pub entries: u64,
    /// Keys that they are of. 0 also in files that do not say.
    pub keys: u64,
    /// Those versions that are deletes.
    pub deletes: u64,
    /// The longest run of keys one behind the other whose newest version is a delete. 0 also in files that do not say.
    pub delete_run: u64,
    /// Range tombstones (each sequence number of each fragment counts).
    pub range_deletes: u64,
    /// Smallest key, or start of the first range tombstone.
    pub smallest: Vec<u8>,
    /// Largest key, or end of the last range tombstone.
    pub largest: Vec<u8>,
    /// Whether `largest` itself is in the table; false if it is the exclusive end of a range tombstone.
    pub largest_inclusive: bool,
    /// Smallest sequence number of any version or tombstone.
    pub smallest_sequence: SequenceNumber,
    /// Largest sequence number of any version or tombstone.
    pub largest_sequence: SequenceNumber,
    /// Bytes of all keys of point versions.
    pub raw_key_bytes: u64,
    /// Bytes of all their values.
    pub raw_value_bytes: u64,
    /// Data blocks.
    pub data_blocks: u64,
}

/// Counts [`TableSummary::delete_run`] from versions in order.
#[derive(Debug, Default)]
pub struct DeleteRun {
    now: u64,
    longest: u64,
}

impl DeleteRun {
    /// The next version: whether it is the newest of its key, and whether it is a delete.
    #[inline]
    pub fn add(&mut self, newest: bool, delete: bool) {
        if newest {
            self.now = if delete { self.now + 1 } else { 0 };
            self.longest = self.longest.max(self.now);
        }
    }

    /// The longest run so far.
    pub fn longest(&self) -> u64 {
        self.longest
    }
}

mod tag {
    pub(super) const ENTRIES: u64 = 1;
    pub(super) const DELETES: u64 = 2;
    pub(super) const RANGE_DELETES: u64 = 3;
    pub(super) const SMALLEST: u64 = 4;
    pub(super) const LARGEST: u64 = 5;
    pub(super) const LARGEST_INCLUSIVE: u64 = 6;
    pub(super) const SMALLEST_SEQUENCE: u64 = 7;
    pub(super) const LARGEST_SEQUENCE: u64 = 8;
    pub(super) const RAW_KEY_BYTES: u64 = 9;
    pub(super) const RAW_VALUE_BYTES: u64 = 10;
    pub(super) const DATA_BLOCKS: u64 = 11;
    pub(super) const DELETE_RUN: u64 = 12;
    pub(super) const KEYS: u64 = 13;
}

impl TableSummary {
    /// Appends the properties block's payload to `out`. The length of the file is not in it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let numbers = [
            (tag::ENTRIES, self.entries),
            (tag::DELETES, self.deletes),
            (tag::RANGE_DELETES, self.range_deletes),
            (tag::LARGEST_INCLUSIVE, u64::from(self.largest_inclusive)),
            (tag::SMALLEST_SEQUENCE, self.smallest_sequence),
            (tag::LARGEST_SEQUENCE, self.largest_sequence),
            (tag::RAW_KEY_BYTES, self.raw_key_bytes),
            (tag::RAW_VALUE_BYTES, self.raw_value_bytes),
            (tag::DATA_BLOCKS, self.data_blocks),
            (tag::DELETE_RUN, self.delete_run),
            (tag::KEYS, self.keys),
        ];
        let mut number = Vec::new();
        for (tag, value) in numbers {
            number.clear();
            put_varint(&mut number, value);
            put_varint(out, tag);
            put_slice(out, &number);
        }
        for (tag, key) in [(tag::SMALLEST, &self.smallest), (tag::LARGEST, &self.largest)] {
            put_varint(out, tag);
            put_slice(out, key);
        }
    }

    /// Reads a properties block; `None` if it is damaged.
    pub fn decode(payload: &[u8], file_bytes: u64) -> Option<TableSummary> {
        let mut summary = TableSummary { file_bytes, ..TableSummary::default() };
        let mut cursor = Cursor::new(payload);
        while !cursor.is_empty() {
            let tag = cursor.varint()?;
            let bytes = cursor.slice()?;
            let number = || Cursor::new(bytes).varint();
            match tag {
                tag::ENTRIES => summary.entries = number()?,
                tag::DELETES => summary.deletes = number()?,
                tag::RANGE_DELETES => summary.range_deletes = number()?,
                tag::SMALLEST => summary.smallest = bytes.to_vec(),
                tag::LARGEST => summary.largest = bytes.to_vec(),
                tag::LARGEST_INCLUSIVE => summary.largest_inclusive = number()? != 0,
                tag::SMALLEST_SEQUENCE => summary.smallest_sequence = number()?,
                tag::LARGEST_SEQUENCE => summary.largest_sequence = number()?,
                tag::RAW_KEY_BYTES => summary.raw_key_bytes = number()?,
                tag::RAW_VALUE_BYTES => summary.raw_value_bytes = number()?,
                tag::DATA_BLOCKS => summary.data_blocks = number()?,
                tag::DELETE_RUN => summary.delete_run = number()?,
                tag::KEYS => summary.keys = number()?,
                _ => {}
            }
        }
        let sane = summary.smallest <= summary.largest
            && summary.smallest.len().max(summary.largest.len()) <= KEY_BYTES_MAX
            && summary.smallest_sequence <= summary.largest_sequence
            && summary.largest_sequence <= SEQUENCE_MAX
            && summary.deletes <= summary.entries
            && summary.delete_run <= summary.deletes
            && summary.keys <= summary.entries;
        sane.then_some(summary)
    }
}

/// Appends one fragment of range tombstones to `out`.
pub fn encode_fragment(fragment: &Fragment, out: &mut Vec<u8>) {
    put_slice(out, &fragment.start);
    put_slice(out, &fragment.end);
    put_varint(out, fragment.sequences.len() as u64);
    for &sequence in &fragment.sequences {
        put_varint(out, sequence);
    }
}

/// Reads a block of range tombstones; `None` if it is damaged.
pub fn decode_tombstones(payload: &[u8]) -> Option<RangeTombstones> {
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut cursor = Cursor::new(payload);
    while !cursor.is_empty() {
        let (start, end) = (cursor.slice()?, cursor.slice()?);
        // Order is checked at once: repeated bytes, which compress well, cannot become a long list.
        let ordered = start < end && fragments.last().is_none_or(|last| last.end.as_slice() <= start);
        if !ordered || end.len() > KEY_BYTES_MAX {
            return None;
        }
        let mut sequences: Vec<SequenceNumber> = Vec::new();
        for _ in 0..cursor.varint()? {
            let sequence = cursor.varint()?;
            if sequence > SEQUENCE_MAX || sequences.last().is_some_and(|&last| last <= sequence) {
                return None;
            }
            sequences.push(sequence);
        }
        fragments.push(Fragment { start: start.to_vec(), end: end.to_vec(), sequences });
    }
    RangeTombstones::from_fragments(fragments)
}

/// The end of a table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The top index; none if there are no point versions.
    pub top: Handle,
    /// The range tombstones; none if there are none.
    pub tombstones: Handle,
    /// The properties.
    pub properties: Handle,
    /// The number under which the file was built; its checksums are seeded with it. 0 if it was not known.
    pub file_number: u64,
}

impl Footer {
    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for handle in [self.top, self.tombstones, self.properties] {
            put_u64(out, handle.offset);
            put_u32(out, handle.len);
        }
        put_u64(out, self.file_number);
        put_u32(out, 0);
        put_u32(out, FORMAT_VERSION);
        put_u32(out, 0);
        let sum = checksum(&out[start..], 0, 0);
        put_u64(out, sum);
        put_u64(out, MAGIC);
    }

    /// Checks and reads the footer of a file of `file_bytes`. Errors: `Corruption`, `UpgradeRequired`.
    pub fn decode(bytes: &[u8], path: &Path, file_bytes: u64) -> Result<Footer> {
        let at = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let damaged = |what: &str| Error::corruption(path, at, what);
        let fields = bytes.get(..FOOTER_BYTES - 16).ok_or_else(|| damaged("too short for a table"))?;
        if get_u64(bytes, FOOTER_BYTES - 8) != Some(MAGIC) {
            return Err(damaged("no table footer"));
        }
        if get_u64(bytes, FOOTER_BYTES - 16) != Some(checksum(fields, 0, 0)) {
            return Err(damaged("footer checksum mismatch"));
        }
        let short = || damaged("short footer");
        let version = get_u32(fields, 48).ok_or_else(short)?;
        let features = get_u32(fields, 52).ok_or_else(short)?;
        if version > FORMAT_VERSION || features & !FEATURES_KNOWN != 0 {
            let what = format!("table format {version}, features {features:#x}");
            return Err(Error::UpgradeRequired { file: path.to_path_buf(), what });
        }
        let handle = |at| {
            let handle = Handle { offset: get_u64(fields, at)?, len: get_u32(fields, at + 8)? };
            handle.is_inside(file_bytes).then_some(handle)
        };
        let outside = || damaged("footer points outside the file");
        let footer = Footer {
            top: handle(0).ok_or_else(outside)?,
            tombstones: handle(12).ok_or_else(outside)?,
            properties: handle(24).ok_or_else(outside)?,
            file_number: get_u64(fields, 36).ok_or_else(short)?,
        };
        if version == 0 || footer.properties.is_none() {
            return Err(damaged("footer without version or properties"));
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::range_delete::RangeTombstone;
    use proptest::prelude::*;

    fn footer() -> Footer {
        let handle = |offset, len| Handle { offset, len };
        Footer { top: handle(10, 20), tombstones: handle(0, 0), properties: handle(30, 40), file_number: 7 }
    }

    fn decode(bytes: &[u8]) -> Result<Footer> {
        Footer::decode(bytes, Path::new("000007.sst"), 200)
    }

    #[test]
    fn footer_round_trip_and_every_bit_counts() {
        let mut bytes = Vec::new();
        footer().encode(&mut bytes);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(decode(&bytes).unwrap(), footer());
        assert!(Footer::decode(&bytes, Path::new("x"), 100).unwrap_err().is_corruption());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).unwrap_err().is_corruption());
        }
    }

    #[test]
    fn a_newer_footer_asks_for_an_upgrade() {
        for at in [48, 52] {
            let mut bytes = Vec::new();
            footer().encode(&mut bytes);
            bytes[at] = 2;
            let sum = checksum(&bytes[..FOOTER_BYTES - 16], 0, 0);
            bytes[FOOTER_BYTES - 16..FOOTER_BYTES - 8].copy_from_slice(&sum.to_le_bytes());
            assert!(matches!(decode(&bytes), Err(Error::UpgradeRequired { .. })));
        }
    }

    #[test]
    fn properties_pass_over_unknown_tags() {
        let summary = TableSummary {
            file_bytes: 9,
            entries: 5,
            keys: 3,
            deletes: 2,
            delete_run: 1,
            smallest: b"a".to_vec(),
            largest: b"b".to_vec(),
            largest_inclusive: true,
            largest_sequence: SEQUENCE_MAX,
            ..TableSummary::default()
        };
        let mut payload = Vec::new();
        summary.encode(&mut payload);
        put_varint(&mut payload, 1000);
        put_slice(&mut payload, b"whatever");
        assert_eq!(TableSummary::decode(&payload, 9), Some(summary));
    }

    proptest! {
        #[test]
        fn tombstones_round_trip(
            ranges in proptest::collection::vec((0u8..20, 0u8..20, 1u64..1 << 50), 0..12),
        ) {
            let tombstones = ranges.into_iter().map(|(start, end, sequence)| RangeTombstone {
                start: vec![start],
                end: vec![end],
                sequence,
            });
            let built = RangeTombstones::build(tombstones.collect());
            let mut payload = Vec::new();
            built.fragments().iter().for_each(|fragment| encode_fragment(fragment, &mut payload));
            prop_assert_eq!(decode_tombstones(&payload), Some(built));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            decode_tombstones(&bytes);
            TableSummary::decode(&bytes, 0);
            Partition::decode(&bytes);
            let _ = decode(&bytes);
        }
    }
}
