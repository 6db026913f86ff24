//! Bits of bytes, counted from the most significant bit of the first byte, as Redis counts them.

/// How many bits are set.
pub fn count_ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole: u64 = words.iter().map(|word| u64::from(u64::from_be_bytes(*word).count_ones())).sum();
    whole + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// Where the first bit of this value is.
pub fn find(bytes: &[u8], bit: bool) -> Option<u64> {
    let flip = if bit { 0 } else { u64::MAX };
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_be_bytes(*word) ^ flip;
        if word != 0 {
            return Some(64 * index as u64 + u64::from(word.leading_zeros()));
        }
    }
    let from = 64 * words.len() as u64;
    rest.iter().enumerate().find_map(|(index, byte)| {
        let byte = byte ^ flip as u8;
        (byte != 0).then(|| from + 8 * index as u64 + u64::from(byte.leading_zeros()))
    })
}

/// Mask of bit `offset` within its byte.
pub fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// Keeps only bits `first..=last` of a byte.
pub fn keep(byte: u8, first: u32, last: u32) -> u8 {
    byte & (0xff >> first) & (0xff << (7 - last))
}

/// What BITOP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set where all are.
    And,
    /// Set where any is.
    Or,
    /// Set where an odd number is.
    Xor,
    /// Set where the only one is not.
    Not,
}

/// Combines `bytes` into `into`. Beyond its end `bytes` is zeros.
pub fn combine(operation: Operation, into: &mut [u8], bytes: &[u8]) {
    let (shared, beyond) = into.split_at_mut(bytes.len().min(into.len()));
    let pairs = shared.iter_mut().zip(bytes);
    match operation {
        Operation::And => {
            pairs.for_each(|(into, byte)| *into &= byte);
            beyond.fill(0);
        }
        Operation::Or => pairs.for_each(|(into, byte)| *into |= byte),
        Operation::Xor => pairs.for_each(|(into, byte)| *into ^= byte),
        Operation::Not => {
            pairs.for_each(|(into, byte)| *into = !byte);
            beyond.fill(0xff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(bytes: &[u8]) -> Vec<bool> {
        (0..8 * bytes.len() as u64).map(|at| bytes[at as usize / 8] & mask(at) != 0).collect()
    }

    proptest! {
        #[test]
        fn agree_with_single_bits(bytes: Vec<u8>, zeros in 0usize..40, bit: bool) {
            let bytes = [vec![if bit { 0 } else { 0xff }; zeros], bytes].concat();
            let bits = bits(&bytes);
            prop_assert_eq!(count_ones(&bytes), bits.iter().filter(|b| **b).count() as u64);
            prop_assert_eq!(find(&bytes, bit), bits.iter().position(|b| *b == bit).map(|at| at as u64));
        }

        #[test]
        fn keep_agrees(byte: u8, first in 0u32..8, last in 0u32..8) {
            let kept = keep(byte, first, last);
            for at in 0..8 {
                let expected = (first..=last).contains(&at) && byte & mask(at.into()) != 0;
                prop_assert_eq!(kept & mask(at.into()) != 0, expected);
            }
        }

        #[test]
        fn combine_agrees(into: Vec<u8>, bytes: Vec<u8>) {
            for operation in [Operation::And, Operation::Or, Operation::Xor, Operation::Not] {
                let mut out = into.clone();
                combine(operation, &mut out, &bytes);
                for (at, result) in out.iter().enumerate() {
                    let (a, b) = (into[at], bytes.get(at).copied().unwrap_or(0));
                    let expected = match operation {
                        Operation::And => a & b,
                        Operation::Or => a | b,
                        Operation::Xor => a ^ b,
                        Operation::Not => !b,
                    };
                    prop_assert_eq!(*result, expected);
                }
            }
        }
    }
}
