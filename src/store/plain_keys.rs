//! Keys known to hold a plain record: one without expiry and without an id. What a blind write (SET) asks before it looks for the
//! record it replaces: the answer costs one line of memory instead of a search through memtables and tables.
//!
//! ```text
//! hash of (space, key) --low bits--> bucket: eight tags, each the hash's high half           0 is no tag
//! ```
//!
//! The table is of fixed size and forgets; what it does not know is looked for. What it says is true because every write to a record
//! goes through a [`Txn`](crate::store::txn::Txn), which tells it right after the commit and before the key's lock is given
//! back; and because nothing but such a write removes a plain record. Two keys of one bucket and one tag (one pair in billions)
//! are told apart by nobody: then a count may be off by one until the next recount, and an entry in `ttl` may outlive
//! its record, as after a belief (see `txn`).
//!
//! Threads: any. A key's own tag changes under its lock; a neighbour may push it out at any time, which only forgets it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const WAYS: usize = 8;

/// One half of a cache line.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Bucket([AtomicU32; WAYS]);

/// The table.
#[derive(Debug)]
pub struct PlainKeys {
    /// A power of two of them.
    buckets: Box<[Bucket]>,
}

impl PlainKeys {
    /// An empty table of at most `bytes` (but one bucket).
    pub fn new(bytes: usize) -> PlainKeys {
        let buckets = (bytes / size_of::<Bucket>() + 1).next_power_of_two() / 2;
        PlainKeys { buckets: std::iter::repeat_with(Bucket::default).take(buckets.max(1)).collect() }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    fn bucket(&self, hash: u64) -> &[AtomicU32; WAYS] {
        &self.buckets[hash as usize & (self.buckets.len() - 1)].0
    }

    fn tag(hash: u64) -> u32 {
        ((hash >> 32) as u32).max(1)
    }

    /// Reads the bucket of a hash, so that it is in the processor's cache when it is asked.
    #[inline]
    pub fn touch(&self, hash: u64) {
        let [first, ..] = self.bucket(hash);
        std::hint::black_box(first.load(Relaxed));
    }

    /// Whether the key with this hash is known to hold a plain record. Under the key's lock.
    #[inline]
    pub fn contains(&self, hash: u64) -> bool {
        // Relaxed, as everywhere here: who wrote the key's tag held the key's lock, which orders it before this.
        self.bucket(hash).iter().any(|tag| tag.load(Relaxed) == PlainKeys::tag(hash))
    }

    /// The key with this hash holds a plain record. Under the key's lock.
    #[inline]
    pub fn insert(&self, hash: u64) {
        let (bucket, tag) = (self.bucket(hash), PlainKeys::tag(hash));
        let mut place = None;
        for slot in bucket {
            match slot.load(Relaxed) {
                known if known == tag => return,
                0 => place = Some(slot),
                _ => {}
            }
        }
        // A full bucket forgets any of its keys.
        place.unwrap_or(&bucket[tag as usize % WAYS]).store(tag, Relaxed);
    }

    /// The key with this hash may hold no plain record. Under the key's lock.
    #[inline]
    pub fn remove(&self, hash: u64) {
        for slot in self.bucket(hash) {
            // Only its own tag: a neighbour's may have taken the place meanwhile.
            if slot.load(Relaxed) == PlainKeys::tag(hash) {
                let _ = slot.compare_exchange(PlainKeys::tag(hash), 0, Relaxed, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn sizes_are_kept() {
        for (bytes, buckets) in [(0, 1), (1, 1), (31, 1), (32, 1), (64, 2), (100, 2), (127, 2), (128, 4)] {
            assert_eq!(PlainKeys::new(bytes).buckets.len(), buckets, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn it_knows_no_more_than_it_was_told(changes in prop::collection::vec((0u64..40, any::<bool>()), 1..400)) {
            // Tags that differ, in two buckets.
            let hash = |key: u64| ((key + 1) << 32) | (key % 2);
            let (table, mut model) = (PlainKeys::new(64), HashSet::new());
            for (key, plain) in changes {
                if plain {
                    table.insert(hash(key));
                    model.insert(key);
                    prop_assert!(table.contains(hash(key)));
                } else {
                    table.remove(hash(key));
                    model.remove(&key);
                }
                let known: Vec<u64> = (0..40).filter(|key| table.contains(hash(*key))).collect();
                prop_assert!(known.iter().all(|key| model.contains(key)), "{known:?} {model:?}");
                prop_assert!(known.len() <= 2 * WAYS);
            }
        }
    }
}
