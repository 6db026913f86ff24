//! Numbers that are given out once and never again: ids of large values.
//!
//! The engine keeps the end of the reserved range. A batch that uses an id comes behind the write that reserved it, and a
//! crash leaves a prefix of all writes; so if the use is there, the reservation is. A restart goes on at the end of the
//! range and wastes the rest of it.

use crate::encoding::system::NEXT_ID_KEY;
use haypile_lsm::{Db, Durability, KeyspaceId, Result, WriteBatch, WriteOptions};
use std::sync::{Mutex, PoisonError};

/// How many ids one write reserves.
const RANGE: u64 = 1 << 16;

/// Gives out ids.
#[derive(Debug)]
pub struct Ids {
    range: Mutex<Range>,
}

#[derive(Debug)]
struct Range {
    next: u64,
    end: u64,
}

impl Ids {
    /// Goes on at `end`, the value found at open; 0 is never given out.
    pub fn new(end: u64) -> Ids {
        let end = end.max(1);
        Ids { range: Mutex::new(Range { next: end, end }) }
    }

    /// An id that was never used.
    pub fn take(&self, db: &Db, system: KeyspaceId) -> Result<u64> {
        let mut range = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        if range.next == range.end {
            let end = range.end + RANGE;
            let mut batch = WriteBatch::new();
            batch.put(system, NEXT_ID_KEY, &end.to_be_bytes())?;
            let options =
                WriteOptions { durability: Durability::Memory, obey_delay: false, ..WriteOptions::default() };
            db.write(&batch, &options)?;
            range.end = end;
        }
        let id = range.next;
        range.next += 1;
        Ok(id)
    }
}
