//! The longest common subsequence of two strings, and the ranges in which they agree.
//!
//! ```text
//! table[i][j] = length of the LCS of a[..i] and b[..j]
//!
//!          j-1     j          same byte:   table[i-1][j-1] + 1
//!   i-1     \      |          otherwise:   the greater of table[i-1][j] and table[i][j-1]
//!   i       ---  here
//! ```
//!
//! Of several longest ones it finds the one that Redis finds: from the far corner back, going up only if that is strictly
//! longer.

use std::ops::RangeInclusive;

/// A stretch in which both strings agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where in the first.
    pub a: RangeInclusive<usize>,
    /// Where in the second.
    pub b: RangeInclusive<usize>,
}

impl Stretch {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.a.end() - self.a.start() + 1
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Bytes of the table for strings of these lengths.
pub fn table_bytes(a_len: usize, b_len: usize) -> Option<u64> {
    (a_len as u64 + 1).checked_mul(b_len as u64 + 1)?.checked_mul(4)
}

/// The stretches of the longest common subsequence, last one first. Their bytes in order are the subsequence.
pub fn stretches(a: &[u8], b: &[u8]) -> Vec<Stretch> {
    let width = b.len() + 1;
    let mut table = vec![0u32; (a.len() + 1) * width];
    for (i, byte) in a.iter().enumerate() {
        let (above, below) = table.split_at_mut((i + 1) * width);
        let (above, row) = (&above[i * width..], &mut below[..width]);
        for (j, other) in b.iter().enumerate() {
            row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
    }
    let mut found: Vec<Stretch> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    // Whether the last step was a match, so that the next one lengthens the same stretch.
    let mut open = false;
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            match found.last_mut() {
                Some(last) if open => *last = Stretch { a: i..=*last.a.end(), b: j..=*last.b.end() },
                _ => found.push(Stretch { a: i..=i, b: j..=j }),
            }
            open = true;
        } else {
            open = false;
            if table[(i - 1) * width + j] > table[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([x, a_rest @ ..], [y, b_rest @ ..]) if x == y => 1 + model(a_rest, b_rest),
            ([_, a_rest @ ..], [_, b_rest @ ..]) => model(a_rest, b).max(model(a, b_rest)),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn longest_and_common(a in "[ab]{0,9}", b in "[abc]{0,9}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let found = stretches(a, b);
            prop_assert_eq!(found.iter().map(Stretch::len).sum::<usize>(), model(a, b));
            for stretch in &found {
                prop_assert_eq!(&a[stretch.a.clone()], &b[stretch.b.clone()]);
            }
            for pair in found.windows(2) {
                prop_assert!(pair[1].a.end() < pair[0].a.start() && pair[1].b.end() < pair[0].b.start());
            }
        }
    }

    #[test]
    fn the_example_of_the_manual() {
        let found = stretches(b"ohmytext", b"mynewtext");
        assert_eq!(found, [Stretch { a: 4..=7, b: 5..=8 }, Stretch { a: 2..=3, b: 0..=1 }]);
    }
}
