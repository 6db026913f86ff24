//! Cursors of SCAN: a number for the client, the last key seen for the server.
//!
//! Keys come in byte order, so a scan goes on behind a key, and a key does not fit into the 64 bits that clients accept as
//! a cursor. This table keeps it. It is bounded in entries and bytes, and the oldest cursors go first: a scan must come
//! back before some ten thousand other steps. One that does not, or that comes back after a restart, is told so, rather
//! than left to miss keys; it starts again from 0. Each step makes a new cursor and the old one stays valid, so a client
//! that lost an answer may ask again.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const CURSORS_MAX: usize = 16 << 10;
const BYTES_MAX: usize = 16 << 20;

/// The table.
#[derive(Debug)]
pub struct Cursors {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Number of the oldest entry.
    first: u64,
    keys: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Cursors {
    /// An empty table whose numbers start somewhere that `seed` says, so that cursors of an earlier run are not taken for
    /// ours. Numbers stay below 2^53, which every client can hold.
    pub fn new(seed: u64) -> Cursors {
        let first = ((seed >> 13) & !0xffff) | 1;
        Cursors {
            table: Mutex::new(Table { first: first & ((1 << 51) - 1), keys: VecDeque::new(), bytes: 0 }),
        }
    }

    /// A cursor that goes on behind `key`.
    pub fn put(&self, key: &[u8]) -> u64 {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.bytes += key.len();
        table.keys.push_back(key.into());
        while table.keys.len() > CURSORS_MAX || (table.bytes > BYTES_MAX && table.keys.len() > 1) {
            table.bytes -= table.keys.pop_front().map_or(0, |key| key.len());
            table.first += 1;
        }
        table.first + table.keys.len() as u64 - 1
    }

    /// The key that `cursor` goes on behind. `None` if it is not known (any more).
    pub fn get(&self, cursor: u64) -> Option<Vec<u8>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(cursor.checked_sub(table.first)?).ok()?;
        table.keys.get(at).map(|key| key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_cursors_are_known() {
        let cursors = Cursors::new(u64::MAX);
        let numbers = (0..CURSORS_MAX as u32 + 10).map(|n| cursors.put(&n.to_be_bytes())).collect::<Vec<_>>();
        assert!(numbers[0] > 0 && *numbers.last().unwrap() < 1 << 53);
        assert_eq!(cursors.get(numbers[9]), None);
        assert_eq!(cursors.get(numbers[10]), Some(10u32.to_be_bytes().to_vec()));
        assert_eq!(cursors.get(numbers.last().unwrap() + 1), None);
        let huge = cursors.put(&vec![0; BYTES_MAX + 1]);
        assert!(cursors.get(huge).is_some() && cursors.get(huge - 1).is_none());
    }
}
