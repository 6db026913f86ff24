//! A write batch: what one commit does, in the very bytes that the WAL carries.
//!
//! ```text
//! batch  = count u32 | annotation length varint | annotation | entry * count
//! entry  = kind u8 | keyspace varint | key length varint | key | (Put and RangeDelete: length varint | value)
//! ```
//!
//! Entry `i` of a batch whose first sequence number is `s` has sequence number `s + i`. For `RangeDelete` the value is
//! the exclusive end key. A batch that came from disk is read by [`BatchReader`], which checks every length.

use crate::base::coding::{Cursor, get_u32, put_slice, put_varint};
use crate::base::error::{Error, Result};
use crate::base::key::ValueKind;
use crate::base::limits::{
    ANNOTATION_BYTES_MAX, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use std::ops::Range;

/// Number of a keyspace; stable for its life and never used again.
pub type KeyspaceId = u32;

/// A list of writes that become visible, and survive a crash, together or not at all.
///
/// ```
/// use haypile_lsm::WriteBatch;
/// let mut batch = WriteBatch::new();
/// batch.put(0, b"key", b"value").unwrap();
/// batch.delete(0, b"other").unwrap();
/// assert_eq!(batch.count(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct WriteBatch {
    count: u32,
    annotation: Vec<u8>,
    entries: Vec<u8>,
    arena_bytes: usize,
}

impl Default for WriteBatch {
    fn default() -> Self {
        WriteBatch::new()
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch { count: 0, annotation: Vec::new(), entries: Vec::new(), arena_bytes: 0 }
    }

    /// Sets `key` to `value`. Errors: `InvalidArgument` if either is too long or the batch would be; nothing is added.
    pub fn put(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_parts(keyspace, key, &[value])
    }

    /// [`put`](Self::put) of a value given in pieces, which saves the caller one copy.
    pub fn put_parts(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[&[u8]]) -> Result<()> {
        let value_len = value.iter().map(|part| part.len()).sum::<usize>();
        self.check(key.len(), value_len)?;
        self.begin(ValueKind::Put, keyspace, key);
        put_varint(&mut self.entries, value_len as u64);
        for part in value {
            self.entries.extend_from_slice(part);
        }
        self.arena_bytes += value_len;
        Ok(())
    }

    /// Removes `key`. Errors as [`put`](Self::put).
    pub fn delete(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<()> {
        self.check(key.len(), 0)?;
        self.begin(ValueKind::Delete, keyspace, key);
        Ok(())
    }

    /// Removes every key in `[start, end)`. An empty or inverted range is an `InvalidArgument`.
    pub fn delete_range(&mut self, keyspace: KeyspaceId, start: &[u8], end: &[u8]) -> Result<()> {
        if start >= end {
            return Err(Error::invalid("delete_range: start is not below end"));
        }
        self.check(start.len(), 0)?;
        self.check(end.len(), 0)?;
        self.begin(ValueKind::RangeDelete, keyspace, start);
        put_slice(&mut self.entries, end);
        self.arena_bytes += end.len();
        Ok(())
    }

    /// Sets the opaque annotation that travels in the WAL with this batch (change streams, feeding replicas).
    pub fn set_annotation(&mut self, annotation: &[u8]) -> Result<()> {
        if annotation.len() > ANNOTATION_BYTES_MAX {
            return Err(Error::invalid("annotation too long"));
        }
        self.annotation.clear();
        self.annotation.extend_from_slice(annotation);
        Ok(())
    }

    /// How many entries.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the encoded batch in bytes.
    pub fn encoded_len(&self) -> usize {
        4 + crate::base::coding::varint_len(self.annotation.len() as u64)
            + self.annotation.len()
            + self.entries.len()
    }

    /// Bytes of keys and values, without any overhead.
    pub fn payload_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Removes everything and keeps the allocation.
    pub fn clear(&mut self) {
        self.count = 0;
        self.annotation.clear();
        self.entries.clear();
        self.arena_bytes = 0;
    }

    /// Appends the encoded batch to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        put_slice(out, &self.annotation);
        out.extend_from_slice(&self.entries);
    }

    /// The annotation.
    pub fn annotation(&self) -> &[u8] {
        &self.annotation
    }

    /// The entries, in order.
    pub fn entries(&self) -> BatchReader<'_> {
        BatchReader { cursor: Cursor::new(&self.entries), left: self.count, annotation: &self.annotation }
    }

    /// Where the next entry will lie, for [`entry_at`](Self::entry_at); below [`BATCH_BYTES_MAX`].
    pub fn next_position(&self) -> usize {
        self.entries.len()
    }

    /// The entry that was added when [`next_position`](Self::next_position) was `position`; `None` if none begins there.
    pub fn entry_at(&self, position: usize) -> Option<BatchEntry<'_>> {
        let cursor = Cursor::new(self.entries.get(position..)?);
        BatchReader { cursor, left: 1, annotation: &[] }.read_entry()
    }

    /// Where key and value of the entry at `position` lie, for [`part`](Self::part).
    pub fn parts_at(&self, position: usize) -> Option<EntryParts> {
        let entry = self.entry_at(position)?;
        let base = self.entries.as_ptr() as usize;
        let range = |part: &[u8]| match part.is_empty() {
            // An empty slice may lie anywhere.
            true => 0..0,
            false => part.as_ptr() as usize - base..part.as_ptr() as usize - base + part.len(),
        };
        Some(EntryParts { kind: entry.kind, key: range(entry.key), value: range(entry.value) })
    }

    /// The bytes of a part that [`parts_at`](Self::parts_at) named since the batch was last changed.
    pub fn part(&self, range: &Range<usize>) -> &[u8] {
        &self.entries[range.clone()]
    }

    /// A mark to go back to with [`rollback`](Self::rollback).
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { count: self.count, entries_len: self.entries.len(), arena_bytes: self.arena_bytes }
    }

    /// Forgets every entry added since `savepoint`, which must be of this batch and not older than a `clear`.
    pub fn rollback(&mut self, savepoint: &Savepoint) {
        assert!(savepoint.entries_len <= self.entries.len());
        self.count = savepoint.count;
        self.entries.truncate(savepoint.entries_len);
        self.arena_bytes = savepoint.arena_bytes;
    }

    /// Adds all entries of `other` behind this batch's own.
    pub fn append(&mut self, other: &WriteBatch) -> Result<()> {
        if self.entries.len() + other.entries.len() + self.annotation.len() + 64 > BATCH_BYTES_MAX
            || self.count.saturating_add(other.count) > BATCH_ENTRIES_MAX
        {
            return Err(Error::invalid("batch too large"));
        }
        self.count += other.count;
        self.entries.extend_from_slice(&other.entries);
        self.arena_bytes += other.arena_bytes;
        Ok(())
    }

    fn check(&self, key_len: usize, value_len: usize) -> Result<()> {
        if key_len > KEY_BYTES_MAX {
            return Err(Error::invalid(format!("key of {key_len} bytes is longer than {KEY_BYTES_MAX}")));
        }
        if value_len > VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "value of {value_len} bytes is longer than {VALUE_BYTES_MAX}"
            )));
        }
        let full =
            self.entries.len() + self.annotation.len() + 2 * key_len + value_len + 64 > BATCH_BYTES_MAX;
        if full || self.count >= BATCH_ENTRIES_MAX {
            return Err(Error::invalid("batch too large"));
        }
        Ok(())
    }

    fn begin(&mut self, kind: ValueKind, keyspace: KeyspaceId, key: &[u8]) {
        self.entries.push(kind as u8);
        put_varint(&mut self.entries, u64::from(keyspace));
        put_slice(&mut self.entries, key);
        self.arena_bytes += key.len();
        self.count += 1;
    }
}

/// A mark in a [`WriteBatch`].
#[derive(Clone, Debug)]
pub struct Savepoint {
    count: u32,
    entries_len: usize,
    arena_bytes: usize,
}

impl Savepoint {
    /// How many entries the batch had.
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// One entry of a batch, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchEntry<'a> {
    /// What it does.
    pub kind: ValueKind,
    /// Where.
    pub keyspace: KeyspaceId,
    /// The key, or the start of the range.
    pub key: &'a [u8],
    /// The value, or the exclusive end of the range; empty for a delete.
    pub value: &'a [u8],
}

/// One entry of a batch by where its parts lie; read once, asked for often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryParts {
    /// What it does.
    pub kind: ValueKind,
    /// The key, or the start of the range.
    pub key: Range<usize>,
    /// The value, or the exclusive end of the range; empty for a delete.
    pub value: Range<usize>,
}

/// Checked reader of an encoded batch. Yields `Err(what)` once and then ends if the bytes are damaged.
#[derive(Clone, Debug)]
pub struct BatchReader<'a> {
    cursor: Cursor<'a>,
    left: u32,
    annotation: &'a [u8],
}

impl<'a> BatchReader<'a> {
    /// Reads the front of an encoded batch. `None` if even that is damaged.
    pub fn new(encoded: &'a [u8]) -> Option<BatchReader<'a>> {
        let count = get_u32(encoded, 0)?;
        let mut cursor = Cursor::new(&encoded[4..]);
        let annotation = cursor.slice()?;
        if count > BATCH_ENTRIES_MAX {
            return None;
        }
        Some(BatchReader { cursor, left: count, annotation })
    }

    /// How many entries are still to come.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The batch's annotation.
    pub fn annotation(&self) -> &'a [u8] {
        self.annotation
    }

    fn read_entry(&mut self) -> Option<BatchEntry<'a>> {
        let kind = ValueKind::from_byte(self.cursor.u8()?)?;
        let keyspace = self.cursor.varint_u32()?;
        let key = self.cursor.slice()?;
        let value = match kind {
            ValueKind::Delete => &[][..],
            ValueKind::Put | ValueKind::RangeDelete => self.cursor.slice()?,
        };
        let sane = key.len() <= KEY_BYTES_MAX
            && value.len() <= VALUE_BYTES_MAX
            && (kind != ValueKind::RangeDelete || (key < value && value.len() <= KEY_BYTES_MAX));
        sane.then_some(BatchEntry { kind, keyspace, key, value })
    }
}

impl<'a> Iterator for BatchReader<'a> {
    type Item = std::result::Result<BatchEntry<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.cursor.is_empty() {
                return None;
            }
            self.cursor = Cursor::new(&[]);
            return Some(Err("bytes after the last entry of a batch"));
        }
        self.left -= 1;
        match self.read_entry() {
            Some(entry) => Some(Ok(entry)),
            None => {
                self.left = 0;
                self.cursor = Cursor::new(&[]);
                Some(Err("damaged entry in a batch"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trip_and_rollback() {
        let mut batch = WriteBatch::new();
        batch.put_parts(1, b"k", &[b"va", b"lue"]).unwrap();
        let mark = batch.savepoint();
        batch.delete_range(300, b"a", b"b").unwrap();
        batch.delete(2, b"").unwrap();
        batch.set_annotation(b"note").unwrap();
        let mut encoded = Vec::new();
        batch.encode_into(&mut encoded);
        assert_eq!(encoded.len(), batch.encoded_len());
        let reader = BatchReader::new(&encoded).unwrap();
        assert_eq!(reader.annotation(), b"note");
        assert_eq!(batch.entry_at(0).unwrap().value, b"value");
        assert!(batch.entry_at(batch.next_position()).is_none());
        let entries = reader.map(|e| e.unwrap()).collect::<Vec<_>>();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].value, b"value");
        assert_eq!(entries[1].keyspace, 300);
        assert_eq!(entries[2].kind, ValueKind::Delete);
        batch.rollback(&mark);
        assert_eq!(batch.entries().count(), 1);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut batch = WriteBatch::new();
        assert!(batch.put(0, &vec![0; KEY_BYTES_MAX + 1], b"").is_err());
        assert!(batch.delete_range(0, b"b", b"b").is_err());
        assert!(batch.is_empty());
        batch.put(0, &vec![0; KEY_BYTES_MAX], b"").unwrap();
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(bytes: Vec<u8>) {
            if let Some(reader) = BatchReader::new(&bytes) {
                for entry in reader {
                    let _ = entry;
                }
            }
        }
    }
}
