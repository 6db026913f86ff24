//! Pages of the SCAN family: a walk over the engine's keys that begin alike, in pieces, with a cursor from each to the next.
//!
//! A page is bounded by the records that are looked at, and so are the deleted ones on the way: a stretch of those may make
//! a page empty, and the cursor goes on behind what was passed over.
//!
//! A cursor that is not known (any more), or was made for something else, starts over: elements may be named twice, but none is
//! missed.

use crate::base::stop::Stop;
use crate::store::txn::Txn;
use haypile_lsm::{Iter, KeyspaceId, prefix_end};

/// For each record that a page may name it passes over so many deleted ones, as Redis does over empty buckets.
const DELETED_PER_RECORD: u64 = 10;
/// It may pass over so many in any case.
const DELETED_MIN: u64 = 500;

/// Which page of what.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Where.
    pub keyspace: KeyspaceId,
    /// What all keys begin with.
    pub prefix: &'a [u8],
    /// What those that may be named go on with.
    pub literal: &'a [u8],
    /// Where to go on; 0 for the beginning.
    pub cursor: u64,
    /// How many records to look at.
    pub count: u64,
}

/// The walk over one page.
#[derive(Debug)]
pub struct PageWalk {
    iter: Iter,
    keyspace: KeyspaceId,
    cursor: u64,
    left: u64,
    /// The key it left last.
    last: Vec<u8>,
}

impl PageWalk {
    /// A walk that stands on the first record of its page.
    pub fn open(txn: &mut Txn, stretch: Stretch<'_>) -> Result<PageWalk, Stop> {
        let Stretch { keyspace, prefix, literal, cursor, count } = stretch;
        let mut lower = [prefix, literal].concat();
        let upper = prefix_end(&lower);
        let last = if cursor == 0 { None } else { txn.store().cursors().get(cursor, keyspace, prefix) };
        if let Some(mut last) = last.filter(|last| *last >= lower) {
            last.push(0);
            lower = last;
        }
        let mut iter = txn.iter(keyspace, Some(lower), upper)?;
        iter.stop_after(count.saturating_mul(DELETED_PER_RECORD).max(DELETED_MIN));
        iter.seek_to_first()?;
        Ok(PageWalk { iter, keyspace, cursor, left: count, last: Vec::new() })
    }

    /// Key and value of the record it stands on; `None` at the end of the page.
    pub fn record(&self) -> Option<(&[u8], &[u8])> {
        (self.left > 0 && self.iter.valid()).then(|| (self.iter.key(), self.iter.value()))
    }

    /// Goes on; requires a record.
    pub fn step(&mut self) -> Result<(), Stop> {
        self.left -= 1;
        self.last.clear();
        self.last.extend_from_slice(self.iter.key());
        Ok(self.iter.next()?)
    }

    /// The cursor of the next page; 0 if there is none. Requires that there is no record any more.
    pub fn finish(self, txn: &Txn) -> u64 {
        let cursors = txn.store().cursors();
        let behind = if self.iter.valid() { Some(&self.last[..]) } else { self.iter.stopped_behind() };
        match behind {
            Some(key) => cursors.put(self.cursor, self.keyspace, key),
            None => {
                cursors.end(self.cursor);
                0
            }
        }
    }
}
