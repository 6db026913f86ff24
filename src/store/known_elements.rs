//! Elements known to be stored: fields (without expiry) of large hashes and members of large sets. HSET, SADD and their kin have to
//! answer whether an element is new; for one that is known here they need not look for it.
//!
//! ```text
//! xxh3-128 of the element's key, with a seed of this process: low half -> bucket of eight tags; high half: the tag      0 is no tag
//! ```
//!
//! The table is of fixed size and forgets; what it does not know is looked for. Unlike the belief of a blind write this must be
//! true, for a reply and the collection's count depend on it. That a stranger is taken for a known one takes equal tags of 64 bits
//! in the one bucket asked: less than one lookup of an absent element in 10^18, and nobody can aim at it without the seed.
//!
//! What is known was read or committed under the key's lock. Whoever removes an element, or gives a field an expiry, forgets it
//! before the commit and again with it, under the same lock (`Txn::forget_element`).
//!
//! Threads: any. An element's own tag changes under its key's lock; a neighbour may push it out at any time, which only forgets it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const WAYS: usize = 8;

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// Names an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementHash {
    bucket: u64,
    tag: u64,
}

/// The table.
#[derive(Debug)]
pub struct KnownElements {
    /// A power of two of them.
    buckets: Box<[Bucket]>,
    seed: u64,
}

impl KnownElements {
    /// An empty table of at most `bytes` (but one bucket).
    pub fn new(bytes: usize) -> KnownElements {
        let buckets = (bytes / size_of::<Bucket>() + 1).next_power_of_two() / 2;
        KnownElements {
            buckets: std::iter::repeat_with(Bucket::default).take(buckets.max(1)).collect(),
            seed: RandomState::new().hash_one(bytes),
        }
    }

    /// The hash of an element by its key in keyspace `data`.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> ElementHash {
        let hash = xxh3_128_with_seed(key, self.seed);
        ElementHash { bucket: hash as u64, tag: ((hash >> 64) as u64).max(1) }
    }

    fn bucket(&self, hash: ElementHash) -> &[AtomicU64; WAYS] {
        &self.buckets[hash.bucket as usize & (self.buckets.len() - 1)].0
    }

    /// Whether the element is known to be stored. Under its key's lock.
    #[inline]
    pub fn contains(&self, hash: ElementHash) -> bool {
        // Relaxed, as everywhere here: who wrote the tag held the key's lock, which orders it before this.
        self.bucket(hash).iter().any(|tag| tag.load(Relaxed) == hash.tag)
    }

    /// The element is stored. Under its key's lock.
    #[inline]
    pub fn insert(&self, hash: ElementHash) {
        let bucket = self.bucket(hash);
        let mut place = None;
        for slot in bucket {
            match slot.load(Relaxed) {
                known if known == hash.tag => return,
                0 => place = Some(slot),
                _ => {}
            }
        }
        // A full bucket forgets any of its elements.
        place.unwrap_or(&bucket[hash.tag as usize % WAYS]).store(hash.tag, Relaxed);
    }

    /// The element may not be stored. Under its key's lock.
    #[inline]
    pub fn remove(&self, hash: ElementHash) {
        for slot in self.bucket(hash) {
            // Only its own tag: a neighbour's may have taken the place meanwhile.
            if slot.load(Relaxed) == hash.tag {
                let _ = slot.compare_exchange(hash.tag, 0, Relaxed, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_knows_no_more_than_it_was_told(changes in prop::collection::vec((0u64..60, any::<bool>()), 1..400)) {
            let (table, mut model) = (KnownElements::new(128), HashSet::new());
            prop_assert_eq!(table.buckets.len(), 2);
            let hash = |element: u64| table.hash(&element.to_be_bytes());
            for (element, comes) in changes {
                if comes {
                    table.insert(hash(element));
                    model.insert(element);
                    prop_assert!(table.contains(hash(element)));
                } else {
                    table.remove(hash(element));
                    model.remove(&element);
                }
                let known: Vec<u64> = (0..60).filter(|element| table.contains(hash(*element))).collect();
                prop_assert!(known.iter().all(|element| model.contains(element)), "{known:?} {model:?}");
                prop_assert!(known.len() <= 2 * WAYS);
            }
        }
    }

    #[test]
    fn each_table_has_its_own_seed() {
        assert_ne!(KnownElements::new(64).hash(b"element"), KnownElements::new(64).hash(b"element"));
    }
}
