//! Range tombstones, cut into fragments that do not overlap.
//!
//! ```text
//! given      [a.........m)#5   [f.........z)#9
//! fragments  [a..f)#5   [f..m)#9,5   [m..z)#9
//! ```
//!
//! Each fragment holds the sequence numbers of all tombstones over it, newest first, so "which tombstone visible at `s` is
//! the newest over key `k`" is one binary search over starts and one over a list that is nearly always of length one.

use crate::base::key::SequenceNumber;
use std::collections::BTreeSet;

/// All keys in `[start, end)` were deleted at `sequence`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangeTombstone {
    /// Inclusive.
    pub start: Vec<u8>,
    /// Exclusive.
    pub end: Vec<u8>,
    /// When.
    pub sequence: SequenceNumber,
}

/// A piece over which the set of tombstones does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Inclusive.
    pub start: Vec<u8>,
    /// Exclusive.
    pub end: Vec<u8>,
    /// Newest first, never empty.
    pub sequences: Vec<SequenceNumber>,
}

/// Immutable, sorted, disjoint fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeTombstones {
    fragments: Vec<Fragment>,
}

impl RangeTombstones {
    /// Cuts tombstones, in any order and overlapping at will, into fragments. Cost: n log n plus the output.
    pub fn build(mut tombstones: Vec<RangeTombstone>) -> RangeTombstones {
        tombstones.retain(|t| t.start < t.end);
        tombstones.sort();
        let mut cuts = tombstones.iter().flat_map(|t| [&t.start, &t.end]).collect::<Vec<_>>();
        cuts.sort();
        cuts.dedup();
        let mut fragments: Vec<Fragment> = Vec::new();
        // Tombstones over the current piece; by end, so that the ones that stop are found first.
        let mut active: BTreeSet<(&[u8], SequenceNumber)> = BTreeSet::new();
        let mut next = 0;
        for pair in cuts.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            while next < tombstones.len() && tombstones[next].start == *start {
                active.insert((&tombstones[next].end, tombstones[next].sequence));
                next += 1;
            }
            while active.first().is_some_and(|(e, _)| *e <= start.as_slice()) {
                active.pop_first();
            }
            if active.is_empty() {
                continue;
            }
            let mut sequences = active.iter().map(|(_, s)| *s).collect::<Vec<_>>();
            sequences.sort_unstable_by(|a, b| b.cmp(a));
            sequences.dedup();
            match fragments.last_mut() {
                Some(last) if last.end == *start && last.sequences == sequences => last.end.clone_from(end),
                _ => fragments.push(Fragment { start: start.clone(), end: end.clone(), sequences }),
            }
        }
        RangeTombstones { fragments }
    }

    /// From fragments that are already sorted and disjoint, as a table file stores them; `None` if they are not.
    pub fn from_fragments(fragments: Vec<Fragment>) -> Option<RangeTombstones> {
        let each = fragments.iter().all(|f| {
            f.start < f.end && !f.sequences.is_empty() && f.sequences.windows(2).all(|w| w[0] > w[1])
        });
        let order = fragments.windows(2).all(|w| w[0].end <= w[1].start);
        (each && order).then_some(RangeTombstones { fragments })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// The fragments, sorted.
    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The fragment over `key`, if any.
    pub fn covering(&self, key: &[u8]) -> Option<&Fragment> {
        let after = self.fragments.partition_point(|f| f.start.as_slice() <= key);
        self.fragments[..after].last().filter(|f| key < f.end.as_slice())
    }

    /// Sequence number of the newest tombstone over `key` that is at or below `read`; 0 if there is none.
    pub fn newest_covering(&self, key: &[u8], read: SequenceNumber) -> SequenceNumber {
        self.covering(key).map_or(0, |f| newest_at(&f.sequences, read))
    }

    /// The greatest sequence number at or below `read` of the tombstones over keys in `[lower, upper)`, or, where these are in many pieces,
    /// `read`; 0 if there is none. Cost: that of a search, and [`PIECES_MAX`] comparisons.
    pub fn newest_within(&self, lower: &[u8], upper: Option<&[u8]>, read: SequenceNumber) -> SequenceNumber {
        let first = self.fragments.partition_point(|f| f.end.as_slice() <= lower);
        let within =
            self.fragments[first..].iter().take_while(|f| upper.is_none_or(|u| f.start.as_slice() < u));
        newest_of_pieces(within.map(|f| &*f.sequences), read)
    }

    /// Every fragment as single tombstones.
    pub fn tombstones(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        self.fragments.iter().flat_map(|f| {
            f.sequences.iter().map(|&sequence| RangeTombstone {
                start: f.start.clone(),
                end: f.end.clone(),
                sequence,
            })
        })
    }
}

/// So many pieces of tombstones are asked which is the newest before it is taken to be the newest possible.
pub const PIECES_MAX: usize = 16;

/// The newest of all these lists (each newest first) at or below `read`; 0 if there is none. Of more than [`PIECES_MAX`] lists just `read`.
pub fn newest_of_pieces<'a>(
    pieces: impl Iterator<Item = &'a [SequenceNumber]>,
    read: SequenceNumber,
) -> SequenceNumber {
    let (mut newest, mut count) = (0, 0);
    for sequences in pieces {
        count += 1;
        if count > PIECES_MAX {
            return read;
        }
        newest = newest_at(sequences, read).max(newest);
    }
    newest
}

/// The first of `sequences` (newest first) that is at or below `read`; 0 if there is none.
pub fn newest_at(sequences: &[SequenceNumber], read: SequenceNumber) -> SequenceNumber {
    let at = sequences.partition_point(|&s| s > read);
    sequences.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            ranges in proptest::collection::vec((0u8..20, 0u8..20, 1u64..30), 0..12),
            key in 0u8..22, read in 0u64..32, lower in 0u8..22, upper in proptest::option::of(0u8..22),
        ) {
            let tombstones = ranges
                .iter()
                .map(|&(a, b, sequence)| RangeTombstone { start: vec![a], end: vec![b], sequence })
                .collect::<Vec<_>>();
            let expected = tombstones
                .iter()
                .filter(|t| t.start.as_slice() <= &[key][..] && &[key][..] < t.end.as_slice() && t.sequence <= read)
                .map(|t| t.sequence)
                .max()
                .unwrap_or(0);
            let built = RangeTombstones::build(tombstones);
            prop_assert_eq!(built.newest_covering(&[key], read), expected);
            let most = (lower..upper.unwrap_or(22)).map(|key| built.newest_covering(&[key], read)).max().unwrap_or(0);
            let within = built.newest_within(&[lower], upper.as_ref().map(std::slice::from_ref), read);
            if built.fragments().len() <= PIECES_MAX && lower < upper.unwrap_or(22) {
                prop_assert_eq!(within, most);
            }
            prop_assert!(most <= within && within <= read);
            prop_assert!(RangeTombstones::from_fragments(built.fragments().to_vec()).is_some());
        }
    }
}
