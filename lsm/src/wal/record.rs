//! One record of the WAL: a write batch, or the remark that the log is durable up to some LSN.
//!
//! ```text
//!  0        4             8                                16             24               24 + n
//!  ┌────────┬─────────────┬────────────────────────────────┬──────────────┬────────────────┬─────────┐
//!  │crc u32 │ n u32       │ first sequence << 8 | kind u64 │ durable u64  │ payload, n B   │ 0 .. 0  │
//!  └────────┴─────────────┴────────────────────────────────┴──────────────┴────────────────┴─────────┘
//!           │<──────────────────── the crc covers all of this ───────────────────────────────────────>│
//!
//!  kind 1  Batch         payload = an encoded WriteBatch; its entries take the sequence numbers from the first on
//!  kind 2  DurableMark   no payload; the sequence field repeats `durable`
//! ```
//!
//! Integers are little-endian; zeros pad a record to a multiple of 8 bytes, so every record starts at one. The crc32c
//! starts from a seed made of the log's history id and the segment id: bytes of an earlier life of a recycled file never
//! pass, nor does a record that a client hid in a value. `durable` is the LSN of the last record known to be on the disk
//! when this one was appended; it is how recovery tells a torn tail (fine) from rot in front of it (not fine). A header
//! of zeros says that the log ends here.
//!
//! This file knows bytes only. Nothing here trusts a length before it was checked against what is there.

use crate::base::coding::{get_u32, get_u64};
use crate::base::key::{Lsn, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};

/// Length of a record's header in bytes; also of a whole [`RecordKind::DurableMark`].
pub const RECORD_HEADER_BYTES: usize = 24;
/// Records start at multiples of this many bytes.
pub const RECORD_ALIGN: usize = 8;
/// The shortest encoded batch: a count and the length of an empty annotation.
const BATCH_BYTES_MIN: usize = 5;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A write batch.
    Batch = 1,
    /// A remark: the log is on the disk up to an LSN.
    DurableMark = 2,
}

/// Start value of the crc of every record in one segment of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrcSeed(u32);

impl CrcSeed {
    /// For a segment of the log with this history id.
    pub fn new(history: u64, segment: u64) -> CrcSeed {
        CrcSeed(crc32c::crc32c_append(crc32c::crc32c(&history.to_le_bytes()), &segment.to_le_bytes()))
    }

    fn of(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// How long a record with such a payload is, padding included.
pub fn record_len(payload_len: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_len).next_multiple_of(RECORD_ALIGN)
}

/// Starts a record at the end of `out`, which must be aligned. The payload is appended next, then [`finish_record`].
pub fn begin_record(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    debug_assert!(start.is_multiple_of(RECORD_ALIGN));
    out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    start
}

/// Pads the record that starts at `start`, fills in its header and answers its length.
pub fn finish_record(
    out: &mut Vec<u8>,
    start: usize,
    seed: CrcSeed,
    kind: RecordKind,
    sequence: SequenceNumber,
    durable_lsn: Lsn,
) -> usize {
    let payload_len = out.len() - start - RECORD_HEADER_BYTES;
    let padding = record_len(payload_len) - RECORD_HEADER_BYTES - payload_len;
    out.extend_from_slice(&[0; RECORD_ALIGN][..padding]);
    let record = &mut out[start..];
    record[4..8].copy_from_slice(&(payload_len as u32).to_le_bytes());
    record[8..16].copy_from_slice(&(sequence << 8 | kind as u64).to_le_bytes());
    record[16..24].copy_from_slice(&durable_lsn.to_le_bytes());
    let crc = seed.of(&record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    record.len()
}

/// Appends a durable mark.
pub fn put_durable_mark(out: &mut Vec<u8>, seed: CrcSeed, durable_lsn: Lsn) -> usize {
    let start = begin_record(out);
    finish_record(out, start, seed, RecordKind::DurableMark, durable_lsn, durable_lsn)
}

/// A header that makes sense by itself. Only [`verify`](Self::verify) says whether it is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    crc: u32,
    payload_len: u32,
    kind: RecordKind,
    sequence: SequenceNumber,
    durable_lsn: Lsn,
}

/// A record whose crc is right, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Sequence number of its first entry; of a durable mark, the durable LSN.
    pub first_sequence: SequenceNumber,
    /// Sequence number of its last entry, which is its LSN; of a durable mark, the durable LSN.
    pub last_lsn: Lsn,
    /// The LSN of the last record known to be on the disk when this one was appended.
    pub durable_lsn: Lsn,
    /// The encoded batch; empty for a durable mark.
    pub payload: &'a [u8],
}

impl RecordHeader {
    /// Reads the front of `bytes`. `Ok(None)`: zeros, the log ends here. `Err` says why this is no header.
    pub fn parse(bytes: &[u8]) -> Result<Option<RecordHeader>, &'static str> {
        let parts = (get_u32(bytes, 0), get_u32(bytes, 4), get_u64(bytes, 8), get_u64(bytes, 16));
        let (Some(crc), Some(payload_len), Some(tag), Some(durable_lsn)) = parts else {
            return Err("the record header is cut off");
        };
        if crc == 0 && payload_len == 0 && tag == 0 && durable_lsn == 0 {
            return Ok(None);
        }
        let len = payload_len as usize;
        let (kind, len_fits) = match tag as u8 {
            1 => (RecordKind::Batch, (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&len)),
            2 => (RecordKind::DurableMark, len == 0),
            _ => return Err("unknown kind of record"),
        };
        if !len_fits {
            return Err("a record's length is impossible");
        }
        let sequence = tag >> 8;
        if durable_lsn > SEQUENCE_MAX || (kind == RecordKind::DurableMark && durable_lsn != sequence) {
            return Err("a record's durable LSN is impossible");
        }
        Ok(Some(RecordHeader { crc, payload_len, kind, sequence, durable_lsn }))
    }

    /// Length of the whole record, padding included.
    pub fn record_len(&self) -> usize {
        record_len(self.payload_len as usize)
    }

    /// Sequence number of the first entry; unverified.
    pub fn first_sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// Checks `bytes`, the whole record, against the crc. `Err` says what is wrong.
    pub fn verify(self, seed: CrcSeed, bytes: &[u8]) -> Result<Record<'_>, &'static str> {
        if bytes.len() != self.record_len() {
            return Err("the record is cut off");
        }
        if seed.of(&bytes[4..]) != self.crc {
            return Err("a record's checksum is wrong");
        }
        let payload = &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.payload_len as usize];
        let last_lsn = match self.kind {
            RecordKind::DurableMark => self.sequence,
            RecordKind::Batch => {
                let count = get_u32(payload, 0).unwrap_or(u32::MAX);
                if count > BATCH_ENTRIES_MAX || self.sequence == 0 {
                    return Err("a record's entry count or sequence number is impossible");
                }
                self.sequence + u64::from(count.max(1)) - 1
            }
        };
        if last_lsn > SEQUENCE_MAX {
            return Err("a record's sequence numbers overflow");
        }
        Ok(Record {
            kind: self.kind,
            first_sequence: self.sequence,
            last_lsn,
            durable_lsn: self.durable_lsn,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::WriteBatch;
    use proptest::prelude::*;

    fn encode(seed: CrcSeed, first: SequenceNumber, durable: Lsn, batch: &WriteBatch) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin_record(&mut out);
        batch.encode_into(&mut out);
        let len = finish_record(&mut out, start, seed, RecordKind::Batch, first, durable);
        assert_eq!(len, out.len());
        assert_eq!(len, record_len(batch.encoded_len()));
        out
    }

    fn decode(seed: CrcSeed, bytes: &[u8]) -> Result<Option<Record<'_>>, &'static str> {
        let Some(header) = RecordHeader::parse(bytes)? else { return Ok(None) };
        let bytes = bytes.get(..header.record_len()).ok_or("cut off")?;
        header.verify(seed, bytes).map(Some)
    }

    fn batch(pairs: &[(Vec<u8>, Vec<u8>)]) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for (key, value) in pairs {
            batch.put(7, key, value).unwrap();
        }
        batch
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    proptest! {
        #[test]
        fn round_trip(pairs: Pairs, first in 1..1u64 << 50, durable in 0..1u64 << 50, history: u64, segment: u64) {
            let seed = CrcSeed::new(history, segment);
            let batch = batch(&pairs);
            let bytes = encode(seed, first, durable, &batch);
            let mut payload = Vec::new();
            batch.encode_into(&mut payload);
            let record = decode(seed, &bytes).unwrap().unwrap();
            prop_assert_eq!(record.kind, RecordKind::Batch);
            prop_assert_eq!((record.first_sequence, record.durable_lsn), (first, durable));
            prop_assert_eq!(record.last_lsn, first + (pairs.len() as u64).max(1) - 1);
            prop_assert_eq!(record.payload, &payload[..]);
            prop_assert!(decode(CrcSeed::new(history, segment ^ 1), &bytes).is_err());
            prop_assert!(decode(CrcSeed::new(history ^ 1, segment), &bytes).is_err());
        }

        /// Every flipped bit and every lost byte is noticed.
        #[test]
        fn damage_is_noticed(pairs in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..3), mask in 1u8..) {
            let seed = CrcSeed::new(1, 2);
            let good = encode(seed, 9, 3, &batch(&pairs));
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= mask;
                prop_assert!(decode(seed, &bad).is_err());
                prop_assert!(!matches!(decode(seed, &good[..at]), Ok(Some(_))));
                let mut torn = good.clone();
                torn[at..].fill(0);
                prop_assert!(torn == good || !matches!(decode(seed, &torn), Ok(Some(_))));
            }
        }

        #[test]
        fn any_bytes_never_panic(mut bytes: Vec<u8>, kind in 0u8..4) {
            let _ = decode(CrcSeed::new(0, 0), &bytes);
            if bytes.len() > 24 {
                let payload_len = bytes.len() as u32 - 24;
                bytes[4..8].copy_from_slice(&payload_len.to_le_bytes());
                bytes[8] = kind;
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                let crc = CrcSeed::new(0, 0).of(&bytes[4..]);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
                let _ = decode(CrcSeed::new(0, 0), &bytes);
            }
        }
    }

    #[test]
    fn marks_zeros_and_hostile_lengths() {
        let seed = CrcSeed::new(5, 6);
        let mut out = Vec::new();
        assert_eq!(put_durable_mark(&mut out, seed, 77), RECORD_HEADER_BYTES);
        let mark = decode(seed, &out).unwrap().unwrap();
        assert_eq!((mark.kind, mark.last_lsn, mark.durable_lsn), (RecordKind::DurableMark, 77, 77));
        assert_eq!(RecordHeader::parse(&[0; 24]), Ok(None));
        assert!(RecordHeader::parse(&[0; 23]).is_err());
        let mut huge = encode(seed, 1, 0, &WriteBatch::new());
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(RecordHeader::parse(&huge).is_err());
    }
}
