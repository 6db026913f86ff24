//! Bloom filters that touch one cache line a question.
//!
//! ```text
//! filter = line (64 bytes) * n | probes u8
//! line   = 512 bits, as eight little-endian u64
//! ```
//!
//! A key's hash ([`key_hash`](crate::base::hash::key_hash)) chooses one line with its high bits and then, multiplied over
//! and over by an odd constant, `probes` bits in it. Confining a key to a line costs some precision (about 1 % false
//! positives at 10 bits a key against 0.8 %) and saves all cache misses but one. The number of keys is not stored; whole
//! keys only, no prefixes.

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const LINE_BYTES: usize = 64;
const LINE_BITS: usize = 512;
const PROBES_MAX: u8 = 20;

/// One cache line of bits; aligned so that it really is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Collects the hashes of the keys of one filter.
#[derive(Debug)]
pub struct FilterBuilder {
    bits_per_key: u32,
    hashes: Vec<u64>,
}

impl FilterBuilder {
    /// A filter that spends `bits_per_key` bits a key; with 0 it is never asked for.
    pub fn new(bits_per_key: u32) -> FilterBuilder {
        FilterBuilder { bits_per_key, hashes: Vec::new() }
    }

    /// Adds a key by its hash.
    pub fn add(&mut self, hash: u64) {
        self.hashes.push(hash);
    }

    /// Whether no key was added.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// How long the encoded filter would be.
    pub fn encoded_len(&self) -> usize {
        self.lines() * LINE_BYTES + 1
    }

    /// Appends the encoded filter to `out` and starts the next one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut lines = vec![Line([0; 8]); self.lines()];
        // The best number of probes would be bits * ln 2 in a filter of one piece; a line wants slightly fewer.
        let probes = ((self.bits_per_key * 6 + 5) / 10).clamp(1, u32::from(PROBES_MAX)) as u8;
        for &hash in &self.hashes {
            let line = &mut lines[line_of(hash, self.lines())];
            each_bit(hash, probes, |word, bit| line.0[word] |= bit);
        }
        for line in &lines {
            for word in line.0 {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
        out.push(probes);
        self.hashes.clear();
    }

    fn lines(&self) -> usize {
        (self.hashes.len() * self.bits_per_key as usize).div_ceil(LINE_BITS).max(1)
    }
}

/// A filter in memory.
#[derive(Debug)]
pub struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

impl Filter {
    /// Checks and copies an encoded filter. The error says what is wrong with it.
    pub fn decode(encoded: &[u8]) -> Result<Filter, String> {
        let (&probes, bytes) = encoded.split_last().ok_or("empty filter")?;
        if bytes.is_empty() || bytes.len() % LINE_BYTES != 0 || !(1..=PROBES_MAX).contains(&probes) {
            return Err(format!("damaged filter of {} bytes with {probes} probes", encoded.len()));
        }
        let lines = bytes
            .chunks_exact(LINE_BYTES)
            .map(|chunk| {
                let mut line = Line([0; 8]);
                for (word, bytes) in line.0.iter_mut().zip(chunk.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*bytes);
                }
                line
            })
            .collect();
        Ok(Filter { lines, probes })
    }

    /// False only if no key of this hash was added.
    pub fn may_contain(&self, hash: u64) -> bool {
        let line = &self.lines[line_of(hash, self.lines.len())];
        let mut all = true;
        each_bit(hash, self.probes, |word, bit| all &= line.0[word] & bit != 0);
        all
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash) * lines as u128) >> 64) as usize
}

#[inline]
fn each_bit(hash: u64, probes: u8, mut visit: impl FnMut(usize, u64)) {
    let mut mixed = hash;
    for _ in 0..probes {
        mixed = mixed.wrapping_mul(GOLDEN);
        let bit = (mixed >> 55) as usize;
        visit(bit / 64, 1 << (bit % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::key_hash;
    use proptest::prelude::*;

    fn build(bits: u32, keys: std::ops::Range<u64>) -> Filter {
        let mut builder = FilterBuilder::new(bits);
        keys.for_each(|key| builder.add(key_hash(&key.to_le_bytes())));
        let mut encoded = Vec::new();
        let expected = builder.encoded_len();
        builder.finish(&mut encoded);
        assert_eq!(encoded.len(), expected);
        Filter::decode(&encoded).unwrap()
    }

    #[test]
    fn false_positives_are_as_rare_as_promised() {
        for (bits, most_percent) in [(5, 12.0), (8, 3.0), (10, 1.2), (12, 0.7), (16, 0.25)] {
            let filter = build(bits, 0..20_000);
            assert!((0..20_000u64).all(|key| filter.may_contain(key_hash(&key.to_le_bytes()))));
            let probes = 100_000u64;
            let wrong = (1 << 32..(1 << 32) + probes)
                .filter(|key: &u64| filter.may_contain(key_hash(&key.to_le_bytes())))
                .count();
            let percent = 100.0 * wrong as f64 / probes as f64;
            assert!(percent < most_percent, "{bits} bits a key: {percent} % false positives");
        }
    }

    proptest! {
        #[test]
        fn no_false_negatives(keys in proptest::collection::vec(any::<u64>(), 1..300), bits in 1u32..33) {
            let mut builder = FilterBuilder::new(bits);
            keys.iter().for_each(|&key| builder.add(key));
            let mut encoded = Vec::new();
            builder.finish(&mut encoded);
            let filter = Filter::decode(&encoded).unwrap();
            prop_assert!(keys.iter().all(|&key| filter.may_contain(key)));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>, hash: u64) {
            if let Ok(filter) = Filter::decode(&bytes) {
                filter.may_contain(hash);
            }
        }
    }
}
