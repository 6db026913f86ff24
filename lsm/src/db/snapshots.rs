//! The sequence numbers that somebody still reads at. Jobs ask for the list and keep what those readers need.

use crate::base::key::SequenceNumber;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Live snapshots of one database.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// By number: how many, and when the first of them was taken (monotonic).
    live: Mutex<BTreeMap<SequenceNumber, (usize, Duration)>>,
}

impl SnapshotList {
    /// Registers a snapshot, `now`, at what `visible` answers. That is asked under the lock: a job that took its list before cannot have
    /// inputs above that number.
    pub fn take(self: &Arc<Self>, now: Duration, visible: impl FnOnce() -> SequenceNumber) -> Snapshot {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = visible();
        live.entry(sequence).or_insert((0, now)).0 += 1;
        Snapshot { list: self.clone(), sequence }
    }

    /// All live ones, ascending.
    pub fn sequences(&self) -> Vec<SequenceNumber> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// How many numbers are read at, the lowest of them and when that was first taken (monotonic).
    pub fn oldest(&self) -> (usize, Option<(SequenceNumber, Duration)>) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        (live.len(), live.first_key_value().map(|(sequence, (_, taken))| (*sequence, *taken)))
    }
}

/// A moment to read at, for as long as it is held.
///
/// ```
/// # use haypile_lsm::{Db, Options, MemEnv, ReadOptions};
/// # let db = Db::open(MemEnv::threaded(), std::path::Path::new("/db"), Options::default()).unwrap();
/// # let ks = db.default_keyspace();
/// db.put(ks, b"k", b"old").unwrap();
/// let snapshot = db.snapshot();
/// db.put(ks, b"k", b"new").unwrap();
/// let options = ReadOptions { sequence: Some(snapshot.sequence()), ..ReadOptions::default() };
/// assert_eq!(db.get(ks, b"k", &options).unwrap().unwrap(), b"old");
/// ```
#[derive(Debug)]
pub struct Snapshot {
    list: Arc<SnapshotList>,
    sequence: SequenceNumber,
}

impl Snapshot {
    /// The LSN it stands at.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut live = self.list.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = live.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.sequence);
            }
        }
    }
}
