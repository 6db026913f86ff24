//! A log segment from hostile bytes: no panic, no endless work, records in order, and only bytes that are really there.
//!
//! The first byte chooses: in half the runs the header, and in a quarter also the checksums of the records, are made right first, so
//! that what lies behind them is reached. What is read must be the same when it is read again.
#![no_main]

use haypile_lsm::Error;
use haypile_lsm::base::batch::BatchReader;
use haypile_lsm::base::coding::{get_u32, get_u64};
use haypile_lsm::base::key::SEQUENCE_MAX;
use haypile_lsm::wal::record::{
    CrcSeed, RECORD_HEADER_BYTES, RecordHeader, RecordKind, begin_record, finish_record, record_len,
};
use haypile_lsm::wal::recovery::read_segment_bytes;
use haypile_lsm::wal::segment::{HeaderState, SEGMENT_HEADER_BYTES, SegmentHeader};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const SEGMENT: u64 = 5;
const HISTORY: u64 = 9;

fn repair_header(bytes: &mut [u8]) {
    let Some(front) = bytes.get_mut(..SEGMENT_HEADER_BYTES) else { return };
    let number = |at| get_u64(front, at).unwrap_or(0) & SEQUENCE_MAX;
    let header = SegmentHeader {
        segment: SEGMENT,
        history: HISTORY,
        previous_lsn: number(32),
        start_lsn: number(40) >> 16,
        created_ms: number(48),
    };
    front.copy_from_slice(&header.encode());
}

/// Gives every record whose header makes some sense, one behind the other, its right checksum.
fn repair_records(bytes: &mut [u8]) {
    let seed = CrcSeed::new(HISTORY, SEGMENT);
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(front) = bytes.get(at..at + RECORD_HEADER_BYTES) {
        let Ok(Some(header)) = RecordHeader::parse(front) else { return };
        let payload_len = get_u32(front, 4).unwrap_or(0) as usize;
        let (sequence, durable) = (header.first_sequence(), get_u64(front, 16).unwrap_or(0));
        let kind = if front[8] == RecordKind::DurableMark as u8 {
            RecordKind::DurableMark
        } else {
            RecordKind::Batch
        };
        let len = record_len(payload_len);
        let Some(old) = bytes.get_mut(at..at + len) else { return };
        let mut record = Vec::new();
        let start = begin_record(&mut record);
        record.extend_from_slice(&old[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload_len]);
        finish_record(&mut record, start, seed, kind, sequence, durable);
        old.copy_from_slice(&record);
        at += len;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if choice & 1 != 0 {
        repair_header(&mut bytes);
    }
    if choice & 3 == 3 {
        repair_records(&mut bytes);
    }
    let path = Path::new("/000005.wal");
    let mut seen = Vec::new();
    let reading = read_segment_bytes(path, SEGMENT, &bytes, &mut |record| {
        let at = record.offset as usize + RECORD_HEADER_BYTES;
        assert_eq!(bytes.get(at..at + record.payload.len()), Some(record.payload));
        assert!(record.first_sequence <= record.last_lsn && record.last_lsn <= SEQUENCE_MAX);
        assert!(seen.last().is_none_or(|&(_, last)| last < record.first_sequence));
        seen.push((record.offset, record.last_lsn));
        let mut entries = 0;
        for entry in BatchReader::new(record.payload).into_iter().flatten() {
            let Ok(entry) = entry else { break };
            assert!(entry.key.len() + entry.value.len() <= record.payload.len());
            entries += 1;
        }
        assert!(entries <= record.payload.len());
        Ok(())
    });
    match reading {
        Ok(reading) => {
            assert_eq!(reading.records, seen.len() as u64);
            assert!(reading.end <= bytes.len() as u64);
            if matches!(reading.header, HeaderState::Good(_)) {
                assert!(reading.end >= SEGMENT_HEADER_BYTES as u64);
            }
            let again = read_segment_bytes(path, SEGMENT, &bytes, &mut |_| Ok(()));
            assert_eq!(again.ok().as_ref(), Some(&reading));
        }
        Err(Error::UpgradeRequired { file, .. }) => assert_eq!(file, path),
        Err(error) => panic!("{error}"),
    }
});
