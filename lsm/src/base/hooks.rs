//! What a user of the engine may do while versions pass through flush and compaction.
//!
//! Hooks run on background threads, never under a lock of the engine, and see only the *head* of a value (its first
//! [`HEAD_BYTES_MAX`](crate::base::limits::HEAD_BYTES_MAX) bytes). They must not call back into the database. What they want to
//! say to the rest of the program they leave as *notes*, which ride in the version edit that installs the job: a note is
//! there exactly if the drop it tells of is.

use crate::base::limits::NOTE_BYTES_MAX;
use std::fmt;

/// What [`CompactionHooks::filter`] wants done with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterDecision {
    /// Leave it.
    Keep,
    /// Remove it, as if the key had been deleted.
    Drop,
    /// Store this value instead.
    Replace(Vec<u8>),
}

/// What made a version leave the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer<'a> {
    /// The filter dropped it.
    Filter,
    /// A delete of its key.
    Tombstone,
    /// A range delete over it.
    RangeDelete,
    /// A newer value; this is its head.
    Put(&'a [u8]),
}

/// Collects the notes of one job.
#[derive(Debug, Default)]
pub struct Notes {
    notes: Vec<Vec<u8>>,
}

impl Notes {
    /// Leaves a note. It must not be longer than [`NOTE_BYTES_MAX`]; a longer one is a bug of the hook.
    pub fn leave(&mut self, note: &[u8]) {
        assert!(note.len() <= NOTE_BYTES_MAX, "a note of {} bytes is too long", note.len());
        self.notes.push(note.to_vec());
    }

    /// The notes, in the order they were left.
    pub fn into_inner(self) -> Vec<Vec<u8>> {
        self.notes
    }

    /// How many notes.
    pub fn len(&self) -> usize {
        self.notes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }
}

/// Callbacks of one keyspace, called by flush and compaction jobs.
pub trait CompactionHooks: Send + Sync {
    /// Decides over a live value that no snapshot needs. A dropped one leaves a tombstone unless nothing older can lie
    /// below.
    fn filter(&self, key: &[u8], head: &[u8]) -> FilterDecision {
        let _ = (key, head);
        FilterDecision::Keep
    }

    /// Told of every value that leaves the tree, with what replaced it.
    fn on_drop(&self, key: &[u8], older_head: &[u8], newer: Newer<'_>, notes: &mut Notes) {
        let _ = (key, older_head, newer, notes);
    }
}

impl fmt::Debug for dyn CompactionHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompactionHooks")
    }
}

/// A note waiting to be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Identifies it in `Db::acknowledge_notes`; grows.
    pub id: u64,
    /// The keyspace whose job left it.
    pub keyspace: u32,
    /// What the hook wrote.
    pub bytes: Vec<u8>,
}
