//! The range tombstones of a level, for whoever merges its points with those of others.
//!
//! Tombstones stay in the tables that hold them; this keeps the tables that have any, opened, so that asking cannot fail.

use crate::base::error::Result;
use crate::base::key::{SEQUENCE_MAX, SequenceNumber};
use crate::merge::visible_iter::RangeCover;
use crate::table::table::Table;
use crate::version::file_meta::KeyRange;
use crate::version::version::{Level, TableOpener};
use std::ops::Bound;
use std::sync::Arc;

/// The tables of one level that have range tombstones.
#[derive(Debug)]
pub struct LevelCover {
    /// For each what bounds it, and the table.
    tables: Vec<(Vec<u8>, Arc<Table>)>,
    /// Whether they are disjoint and sorted by the start of their range; those of L0 are not.
    sorted: bool,
}

impl LevelCover {
    /// Opens the tables of `level` that overlap `bounds` and have range tombstones; keeps those of which one lies there. `is_l0`: they may overlap each other.
    /// Error: `NeedsIo` if one would have to be opened and `memory_only`.
    pub fn open(
        level: &Level,
        is_l0: bool,
        opener: &TableOpener,
        bounds: &KeyRange<'_>,
        memory_only: bool,
    ) -> Result<LevelCover> {
        // Who includes the end may get one table more.
        let upper = if let Bound::Excluded(end) = bounds.end { Some(end) } else { None };
        let mut tables = Vec::new();
        if level.has_range_deletes() {
            for file in level.files() {
                if file.meta().range_deletes > 0 && file.meta().range().overlaps(bounds) {
                    let table = Arc::clone(file.table(opener, memory_only)?);
                    if table.range_tombstones().newest_within(bounds.start, upper, SEQUENCE_MAX) > 0 {
                        tables.push((file.meta().smallest.clone(), table));
                    }
                }
            }
        }
        Ok(LevelCover { tables, sorted: !is_l0 })
    }

    /// Whether no tombstone lies there.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter().map(|(_, table)| table)
    }
}

impl RangeCover for LevelCover {
    fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        self.tables()
            .map(|table| table.range_tombstones().newest_within(lower, upper, read))
            .max()
            .unwrap_or(0)
    }

    fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        let newest = |table: &Arc<Table>| table.range_tombstones().newest_covering(key, read);
        if self.sorted {
            let begun = self.tables.partition_point(|(smallest, _)| smallest.as_slice() <= key);
            return self.tables[..begun].last().map_or(0, |(_, table)| newest(table));
        }
        self.tables().map(newest).max().unwrap_or(0)
    }
}
