//! Tails the running log: a change stream, a follower, a backup.
//!
//! A reader yields whole records in LSN order up to what is written (not necessarily synced: compare with
//! [`Log::synced`]), then `None` until there is more. It holds the segment that it is in and all later ones, so the log keeps
//! growing behind a reader that does not move; whoever owns it bounds that and drops it. It reads through its own file
//! handles and takes no lock of the log but the short one over the list of segments.

use crate::base::error::{Error, Result};
use crate::base::key::{Lsn, SequenceNumber};
use crate::wal::log::Log;
use crate::wal::record::{RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use crate::wal::segment::{Hold, SEGMENT_HEADER_BYTES, Segment, SegmentStore, Window};
use std::fmt;
use std::sync::Arc;

/// A record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Sequence number of its first entry.
    pub first_sequence: SequenceNumber,
    /// Sequence number of its last entry: its LSN.
    pub last_lsn: Lsn,
    /// The encoded batch.
    pub payload: Vec<u8>,
}

/// Reads the log from some LSN on.
pub struct WalReader {
    store: Arc<SegmentStore>,
    hold: Hold,
    segment: Arc<Segment>,
    window: Window,
    position: u64,
    from: Lsn,
}

impl Log {
    /// A reader of all records that end at `from` or later. Error: `InvalidArgument` if the log begins after that.
    pub fn reader(&self, from: Lsn) -> Result<WalReader> {
        let store = self.store().clone();
        let (hold, segment) = store.hold_for(from)?;
        let window = Window::new(segment.file.clone());
        Ok(WalReader { store, hold, segment, window, position: SEGMENT_HEADER_BYTES as u64, from })
    }
}

impl fmt::Debug for WalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalReader")
            .field("segment", &self.segment.id)
            .field("position", &self.position)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl WalReader {
    /// The first segment that this reader keeps alive.
    pub fn held_segment(&self) -> u64 {
        self.hold.segment()
    }

    /// The next record, or `None` if there is none yet. Errors: `Corruption`, I/O; the reader stays where it is.
    #[expect(clippy::should_implement_trait, reason = "None is not the end")]
    pub fn next(&mut self) -> Result<Option<OwnedRecord>> {
        loop {
            if self.segment.sealed_end().is_some_and(|end| self.position >= end) {
                let Some(next) = self.store.after(self.segment.id) else { return Ok(None) };
                self.hold.advance(next.id);
                self.window = Window::new(next.file.clone());
                self.segment = next;
                self.position = SEGMENT_HEADER_BYTES as u64;
                continue;
            }
            let limit = self.segment.written_end();
            if self.position >= limit {
                return Ok(None);
            }
            if let Some(record) = self.read_record(limit)? {
                return Ok(Some(record));
            }
        }
    }

    /// Reads the record at the position, which moves behind it. `None` if it is not wanted.
    fn read_record(&mut self, limit: u64) -> Result<Option<OwnedRecord>> {
        let damaged = |what: &str| Error::corruption(&self.segment.path, self.position, what);
        let Some(front) = self.window.get(self.position, RECORD_HEADER_BYTES, limit)? else {
            return Err(damaged("a written record is cut off"));
        };
        let header = RecordHeader::parse(front).map_err(damaged)?;
        let header = header.ok_or_else(|| damaged("zeros where a record was written"))?;
        let Some(bytes) = self.window.get(self.position, header.record_len(), limit)? else {
            return Err(damaged("a written record is cut off"));
        };
        let record = header.verify(self.segment.seed, bytes).map_err(damaged)?;
        let wanted = record.kind == RecordKind::Batch && record.last_lsn >= self.from;
        let record = wanted.then(|| OwnedRecord {
            first_sequence: record.first_sequence,
            last_lsn: record.last_lsn,
            payload: record.payload.to_vec(),
        });
        self.position += header.record_len() as u64;
        Ok(record)
    }
}
