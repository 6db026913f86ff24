//! Cursors of SCAN and its kin: a number for the client, the last key seen for the server.
//!
//! Keys come in byte order, so a scan goes on behind a key, and a key does not fit into the 64 bits that clients accept as
//! a cursor. This table keeps it: the engine's key, so that a cursor is good for what it was made for and for nothing else.
//!
//! Each step makes a new cursor, and the one it began at stays valid, so that a client that lost an answer may ask again;
//! the one before that goes. So a scan takes up two entries, however long it is, and one once it has ended. The table is bounded in
//! entries and bytes, and the oldest go first: a scan must come back before some eight thousand others have begun. One
//! that does not, or that comes back after a restart, is told so, rather than left to miss keys; it starts over.

use haypile_lsm::KeyspaceId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const CURSORS_MAX: usize = 16 << 10;
const BYTES_MAX: usize = 16 << 20;

/// The table.
#[derive(Debug)]
pub struct Cursors {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Number of the next entry.
    next: u64,
    places: BTreeMap<u64, Place>,
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    keyspace: KeyspaceId,
    /// The last key seen there.
    key: Box<[u8]>,
    /// The cursor that the step began at; 0 for none.
    from: u64,
}

impl Table {
    fn remove(&mut self, cursor: u64) {
        self.bytes -= self.places.remove(&cursor).map_or(0, |place| place.key.len());
    }

    /// A step has been made from `cursor`: nobody comes back to the one before it.
    fn stepped(&mut self, cursor: u64) {
        if let Some(place) = self.places.get_mut(&cursor) {
            let before = std::mem::take(&mut place.from);
            self.remove(before);
        }
    }
}

impl Cursors {
    /// An empty table whose numbers start somewhere that `seed` says, so that cursors of an earlier run are not taken for
    /// ours. Numbers stay below 2^53, which every client can hold.
    pub fn new(seed: u64) -> Cursors {
        let next = (((seed >> 13) & !0xffff) | 1) & ((1 << 51) - 1);
        Cursors { table: Mutex::new(Table { next, places: BTreeMap::new(), bytes: 0 }) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cursor that goes on behind `key`. The step to there began at the cursor `from`, or at the beginning.
    pub fn put(&self, from: u64, keyspace: KeyspaceId, key: &[u8]) -> u64 {
        let mut table = self.table();
        table.stepped(from);
        let cursor = table.next;
        table.next += 1;
        table.bytes += key.len();
        table.places.insert(cursor, Place { keyspace, key: key.into(), from });
        while table.places.len() > CURSORS_MAX || (table.bytes > BYTES_MAX && table.places.len() > 1) {
            let Some(oldest) = table.places.keys().next().copied() else { break };
            table.remove(oldest);
        }
        cursor
    }

    /// The step that began at `from` came to the end.
    pub fn end(&self, from: u64) {
        self.table().stepped(from);
    }

    /// The key that `cursor` goes on behind. `None` if the cursor is not known (any more), or not one of the keys of
    /// `keyspace` that begin with `prefix`.
    pub fn get(&self, cursor: u64, keyspace: KeyspaceId, prefix: &[u8]) -> Option<Vec<u8>> {
        let table = self.table();
        let place = table.places.get(&cursor)?;
        (place.keyspace == keyspace && place.key.starts_with(prefix)).then(|| place.key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_cursors_are_known() {
        let cursors = Cursors::new(u64::MAX);
        let numbers =
            (0..CURSORS_MAX as u32 + 10).map(|n| cursors.put(0, 1, &n.to_be_bytes())).collect::<Vec<_>>();
        assert!(numbers[0] > 0 && *numbers.last().unwrap() < 1 << 53);
        assert_eq!(cursors.get(numbers[9], 1, b""), None);
        assert_eq!(cursors.get(numbers[10], 1, b""), Some(10u32.to_be_bytes().to_vec()));
        assert_eq!(cursors.get(numbers.last().unwrap() + 1, 1, b""), None);
        let huge = cursors.put(0, 1, &vec![0; BYTES_MAX + 1]);
        assert!(cursors.get(huge, 1, b"").is_some() && cursors.get(huge - 1, 1, b"").is_none());
    }

    #[test]
    fn a_cursor_is_good_for_what_it_was_made_for() {
        let cursors = Cursors::new(7);
        let cursor = cursors.put(0, 1, b"hash:field");
        assert_eq!(cursors.get(cursor, 1, b"hash:").as_deref(), Some(&b"hash:field"[..]));
        assert_eq!(cursors.get(cursor, 2, b"hash:"), None);
        assert_eq!(cursors.get(cursor, 1, b"other:"), None);
    }

    #[test]
    fn a_slow_scan_outlives_the_steps_of_a_long_one() {
        let cursors = Cursors::new(7);
        let slow = cursors.put(0, 1, b"slow");
        let mut fast = 0;
        for _ in 0..3 * CURSORS_MAX {
            let next = cursors.put(fast, 1, b"fast");
            // The answer may have been lost: both are good.
            assert!(fast == 0 || cursors.get(fast, 1, b"").is_some());
            assert!(cursors.get(next, 1, b"").is_some());
            fast = next;
        }
        assert!(cursors.get(slow, 1, b"").is_some());
        cursors.end(fast);
        assert_eq!(cursors.table().places.len(), 2);
        assert_eq!(cursors.table().bytes, b"slow".len() + b"fast".len());
    }
}
