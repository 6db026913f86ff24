//! What is known of a table file without opening it, and the arithmetic of key ranges that everything above rests on.
//!
//! The notation used by logs, tools and tests is that of [`FileMeta`]'s `Display`:
//!
//! ```text
//! 000009:[apple#10..pear#12] 100      keys apple to pear inclusive, sequence numbers 10 to 12, 100 bytes
//! 000009:[apple#10..pear#12) 100      the upper bound is the exclusive end of a range tombstone
//! ```
//!
//! Ranges speak of user keys only. The files of a sorted level never share a user key: whoever writes tables cuts them
//! between keys, never between two versions of one key.

use crate::base::key::SequenceNumber;
use crate::table::format::TableSummary;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Facts about one table file; they never change once it is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Names the file; unique in a database for ever.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Point entries in it.
    pub entries: u64,
    /// Point deletes among them.
    pub deletes: u64,
    /// The longest run of deleted keys one behind the other.
    pub delete_run: u64,
    /// Range tombstones in it.
    pub range_deletes: u64,
    /// Smallest user key, range tombstones included.
    pub smallest: Vec<u8>,
    /// Upper bound of the user keys, range tombstones included.
    pub largest: Vec<u8>,
    /// Whether `largest` itself is in the file; false when it is a range tombstone's exclusive end.
    pub largest_inclusive: bool,
    /// Smallest sequence number of any version or range tombstone.
    pub smallest_sequence: SequenceNumber,
    /// Largest sequence number of any version or range tombstone.
    pub largest_sequence: SequenceNumber,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: u64,
}

impl FileMeta {
    /// Of a table that was just built.
    pub fn new(number: u64, table: &TableSummary, created_ms: u64) -> FileMeta {
        FileMeta {
            number,
            bytes: table.file_bytes,
            entries: table.entries,
            deletes: table.deletes,
            delete_run: table.delete_run,
            range_deletes: table.range_deletes,
            smallest: table.smallest.clone(),
            largest: table.largest.clone(),
            largest_inclusive: table.largest_inclusive,
            smallest_sequence: table.smallest_sequence,
            largest_sequence: table.largest_sequence,
            created_ms,
        }
    }

    /// The keys it may hold.
    pub fn range(&self) -> KeyRange<'_> {
        let largest = self.largest.as_slice();
        let end = if self.largest_inclusive { Bound::Included(largest) } else { Bound::Excluded(largest) };
        KeyRange { start: &self.smallest, end }
    }

    /// Whether `key` lies within its bounds.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.smallest.as_slice() <= key && !end_is_before(self.range().end, key)
    }

    /// What is impossible about it, if anything; said of bytes from disk and of bugs alike.
    pub fn fault(&self) -> Option<&'static str> {
        if self.range().is_empty() {
            return Some("empty key range");
        }
        if self.smallest_sequence > self.largest_sequence {
            return Some("inverted sequence range");
        }
        if self.deletes > self.entries {
            return Some("more deletes than entries");
        }
        if self.delete_run > self.deletes {
            return Some("more deletes in a row than in all");
        }
        None
    }
}

impl fmt::Display for FileMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:06}:[{}#{}..{}#{}{} {}",
            self.number,
            self.smallest.escape_ascii(),
            self.smallest_sequence,
            self.largest.escape_ascii(),
            self.largest_sequence,
            if self.largest_inclusive { ']' } else { ')' },
            self.bytes
        )
    }
}

/// A range of user keys: from `start`, inclusive, to `end`. The empty key is the smallest, so "from the front" needs no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// Inclusive.
    pub start: &'a [u8],
    /// Inclusive, exclusive or none.
    pub end: Bound<&'a [u8]>,
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { start: b"", end: Bound::Unbounded };

    /// One key.
    pub fn point(key: &'a [u8]) -> KeyRange<'a> {
        KeyRange { start: key, end: Bound::Included(key) }
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        end_is_before(self.end, self.start)
    }

    /// Whether it ends before `key`.
    pub fn is_before(&self, key: &[u8]) -> bool {
        end_is_before(self.end, key)
    }

    /// Whether the two share a key.
    pub fn overlaps(&self, other: &KeyRange<'_>) -> bool {
        !end_is_before(self.end, other.start) && !end_is_before(other.end, self.start)
    }

    /// Whether every key of `other` is in it.
    pub fn contains(&self, other: &KeyRange<'_>) -> bool {
        self.start <= other.start && compare_ends(other.end, self.end).is_le()
    }

    /// The smallest range around both.
    pub fn hull(self, other: KeyRange<'a>) -> KeyRange<'a> {
        let end = if compare_ends(self.end, other.end).is_ge() { self.end } else { other.end };
        KeyRange { start: self.start.min(other.start), end }
    }

    /// An owned copy.
    pub fn to_owned(&self) -> OwnedKeyRange {
        let end = match self.end {
            Bound::Included(end) => Bound::Included(end.to_vec()),
            Bound::Excluded(end) => Bound::Excluded(end.to_vec()),
            Bound::Unbounded => Bound::Unbounded,
        };
        OwnedKeyRange { start: self.start.to_vec(), end }
    }
}

/// A [`KeyRange`] that owns its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedKeyRange {
    /// Inclusive.
    pub start: Vec<u8>,
    /// Inclusive, exclusive or none.
    pub end: Bound<Vec<u8>>,
}

impl OwnedKeyRange {
    /// The same range, borrowed.
    pub fn as_range(&self) -> KeyRange<'_> {
        KeyRange { start: &self.start, end: self.end.as_ref().map(Vec::as_slice) }
    }
}

/// The smallest range around all files; `None` if there is none.
pub fn hull<'a>(files: impl IntoIterator<Item = &'a FileMeta>) -> Option<KeyRange<'a>> {
    files.into_iter().map(FileMeta::range).reduce(KeyRange::hull)
}

/// The order of L0, newest first.
pub fn newest_first(a: &FileMeta, b: &FileMeta) -> Ordering {
    (b.largest_sequence, b.number).cmp(&(a.largest_sequence, a.number))
}

/// Where in a sorted level the files that overlap `range` stand.
pub fn overlapping(sorted: &[Arc<FileMeta>], range: &KeyRange<'_>) -> std::ops::Range<usize> {
    let first = sorted.partition_point(|file| file.range().is_before(range.start));
    let count = sorted[first..].partition_point(|file| !end_is_before(range.end, &file.smallest));
    first..first + count
}

/// Whether a range with this end stops before `key`.
fn end_is_before(end: Bound<&[u8]>, key: &[u8]) -> bool {
    match end {
        Bound::Included(end) => end < key,
        Bound::Excluded(end) => end <= key,
        Bound::Unbounded => false,
    }
}

/// Which of two ends reaches further. `x)` lies before `x]`.
fn compare_ends(a: Bound<&[u8]>, b: Bound<&[u8]>) -> Ordering {
    let rank = |end: Bound<&'_ [u8]>| matches!(end, Bound::Included(_));
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            x.cmp(y).then(rank(a).cmp(&rank(b)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys of a range over single-byte keys. Between two of them lies `k\0`, so that open and closed ends differ.
    fn members(range: &KeyRange<'_>) -> Vec<Vec<u8>> {
        (0u8..12)
            .flat_map(|k| [vec![k], vec![k, 0]])
            .filter(|k| range.start <= k.as_slice() && !range.is_before(k))
            .collect()
    }

    fn ranges() -> impl Strategy<Value = OwnedKeyRange> {
        (0u8..10, 0u8..10, 0u8..3).prop_map(|(start, len, kind)| {
            let end = vec![start + len.min(9 - start)];
            let end = match kind {
                0 => Bound::Included(end),
                1 if end[0] > start => Bound::Excluded(end),
                1 => Bound::Included(end),
                _ => Bound::Unbounded,
            };
            OwnedKeyRange { start: vec![start], end }
        })
    }

    proptest! {
        #[test]
        fn range_arithmetic_agrees_with_sets(a in ranges(), b in ranges()) {
            let (a, b) = (a.as_range(), b.as_range());
            let (in_a, in_b) = (members(&a), members(&b));
            prop_assert!(!a.is_empty());
            prop_assert_eq!(a.overlaps(&b), in_a.iter().any(|k| in_b.contains(k)));
            prop_assert_eq!(a.contains(&b), in_b.iter().all(|k| in_a.contains(k)));
            let hull = a.hull(b);
            prop_assert!(hull.contains(&a) && hull.contains(&b));
            let (in_hull, owned) = (members(&hull), a.to_owned());
            prop_assert_eq!(in_hull.last(), in_a.last().max(in_b.last()));
            prop_assert_eq!(owned.as_range(), a);
        }
    }
}
