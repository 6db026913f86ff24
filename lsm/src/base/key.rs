//! Sequence numbers and the order of versions.
//!
//! Every write gets a sequence number. An LSN is the sequence number of the last entry of a batch, so one number line
//! serves visibility, the log watermarks and snapshots. On disk a version is `(user key, trailer)` where
//!
//! ```text
//! trailer u64 = sequence (56 bits) << 8 | kind (8 bits)
//! ```
//!
//! Versions sort by user key ascending (bytewise), then by trailer descending: the newest version comes first.

use std::cmp::Ordering;

/// Position in the commit order. 0 is "before everything".
pub type SequenceNumber = u64;
/// Log sequence number: the sequence number of the last entry of a batch.
pub type Lsn = u64;

/// Greatest sequence number; "read the latest".
pub const SEQUENCE_MAX: SequenceNumber = (1 << 56) - 1;

/// What a version says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// The key is gone.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// All keys in `[key, value)` are gone. Never stored among the point entries of a table or memtable.
    RangeDelete = 2,
}

impl ValueKind {
    /// From its byte on disk.
    pub fn from_byte(byte: u8) -> Option<ValueKind> {
        match byte {
            0 => Some(ValueKind::Delete),
            1 => Some(ValueKind::Put),
            2 => Some(ValueKind::RangeDelete),
            _ => None,
        }
    }
}

/// Packs sequence and kind.
pub fn pack_trailer(sequence: SequenceNumber, kind: ValueKind) -> u64 {
    debug_assert!(sequence <= SEQUENCE_MAX);
    sequence << 8 | kind as u64
}

/// Splits a trailer; `None` for an unknown kind.
pub fn unpack_trailer(trailer: u64) -> Option<(SequenceNumber, ValueKind)> {
    Some((trailer >> 8, ValueKind::from_byte(trailer as u8)?))
}

/// A version's place in the order, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionKey<'a> {
    /// The user's key.
    pub user_key: &'a [u8],
    /// When it was written.
    pub sequence: SequenceNumber,
    /// What it says.
    pub kind: ValueKind,
}

impl<'a> VersionKey<'a> {
    /// Where a search for the newest version at or below `sequence` starts.
    pub fn seek(user_key: &'a [u8], sequence: SequenceNumber) -> VersionKey<'a> {
        VersionKey { user_key, sequence, kind: ValueKind::RangeDelete }
    }
}

impl Ord for VersionKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_versions(
            self.user_key,
            pack_trailer(self.sequence, self.kind),
            other.user_key,
            pack_trailer(other.sequence, other.kind),
        )
    }
}

impl PartialOrd for VersionKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of versions: user key ascending, trailer descending.
pub fn compare_versions(a_key: &[u8], a_trailer: u64, b_key: &[u8], b_trailer: u64) -> Ordering {
    a_key.cmp(b_key).then_with(|| b_trailer.cmp(&a_trailer))
}

/// The smallest key above every key that starts with `prefix`; `None` if there is none (empty or all 0xff).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// A short key `s` with `a <= s < b`, for index blocks. Returns `a` itself when nothing shorter fits.
pub fn separator(a: &[u8], b: &[u8]) -> Vec<u8> {
    debug_assert!(a < b);
    let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    if shared < a.len() && shared < b.len() && a[shared] < 0xff && a[shared] + 1 < b[shared] {
        let mut short = a[..=shared].to_vec();
        short[shared] += 1;
        return short;
    }
    a.to_vec()
}

/// The order of two keys that may well begin alike: eight bytes at a time, without a call.
#[inline]
pub fn compare_alike(a: &[u8], b: &[u8]) -> Ordering {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (x, y) in a_words.iter().zip(b_words) {
        if x != y {
            return u64::from_be_bytes(*x).cmp(&u64::from_be_bytes(*y));
        }
    }
    match a_words.len().cmp(&b_words.len()) {
        Ordering::Equal => a_rest.cmp(b_rest),
        Ordering::Less => a_rest.cmp(b.get(a_words.len() * 8..).unwrap_or_default()),
        Ordering::Greater => a.get(b_words.len() * 8..).unwrap_or_default().cmp(b_rest),
    }
}

/// The eight bytes of `key` behind `prefix` as a big-endian number: of two keys the one with the smaller number is the smaller, and only
/// of equal numbers the keys have to be compared. Keys that begin otherwise lie before or behind them all.
#[inline]
pub fn word_behind(prefix: &[u8], key: &[u8]) -> u64 {
    let rest = if prefix.is_empty() { Some(key) } else { key.strip_prefix(prefix) };
    match rest {
        Some(rest) => match rest.first_chunk() {
            Some(word) => u64::from_be_bytes(*word),
            None => rest.iter().rev().fold(0, |number, &byte| number >> 8 | u64::from(byte) << 56),
        },
        None if key < prefix => 0,
        None => u64::MAX,
    }
}

/// What both begin with.
pub fn common_prefix<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    a.get(..shared).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_tell_the_order(
            prefix in proptest::collection::vec(0u8..2, 0..4),
            a in proptest::collection::vec(0u8..2, 0..14),
            b in proptest::collection::vec(0u8..2, 0..14),
            behind: bool,
        ) {
            let whole = |key: &[u8]| if behind { [&prefix[..], key].concat() } else { key.to_vec() };
            let (a, b) = (whole(&a), whole(&b));
            let words = word_behind(&prefix, &a).cmp(&word_behind(&prefix, &b));
            prop_assert!(words == a.cmp(&b) || words.is_eq());
            prop_assert_eq!(compare_alike(&a, &b), a.cmp(&b));
        }

        #[test]
        fn separator_separates(a: Vec<u8>, b: Vec<u8>) {
            prop_assume!(a < b);
            let s = separator(&a, &b);
            prop_assert!(a <= s && s < b && s.len() <= a.len());
        }

        #[test]
        fn prefix_end_bounds_the_prefix(prefix: Vec<u8>, tail: Vec<u8>) {
            if let Some(end) = prefix_end(&prefix) {
                let mut key = prefix.clone();
                key.extend(tail);
                prop_assert!(key < end);
                prop_assert!(prefix < end);
            }
        }
    }

    #[test]
    fn newest_version_first() {
        let old = VersionKey { user_key: b"a", sequence: 1, kind: ValueKind::Put };
        let new = VersionKey { user_key: b"a", sequence: 2, kind: ValueKind::Delete };
        assert!(new < old && VersionKey::seek(b"a", 1) < old && VersionKey::seek(b"a", 1) > new);
    }

    proptest! {
        #[test]
        fn neighbours_compare_as_slices(
            start in proptest::collection::vec(0u8..2, 0..20),
            a in proptest::collection::vec(any::<u8>(), 0..20),
            b in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (a, b) = ([start.clone(), a].concat(), [start, b].concat());
            prop_assert_eq!(compare_alike(&a, &b), a.cmp(&b));
        }
    }
}
