//! The hash index beside the skiplist: from the hash of a key to its node, in one probe that usually ends at once.
//!
//! ```text
//! slot u64 = tag (upper half of the hash) << 32 | offset of the node      0: empty
//! ```
//!
//! Open addressing with linear probing from the lower bits of the hash; no removal, no growth. A probe looks at no more
//! than [`PROBES_MAX`] slots. A key that finds no free slot among them is not indexed, and from then on the index is no
//! longer *complete*: a key that is not in it may be in the list all the same. That happens when entries are smaller
//! than the index was sized for, or when somebody picks keys whose hashes collide; both then cost a search of the list
//! and nothing worse.
//!
//! **Order of things.** A node is linked in the list first and indexed second, and *every* thread that adds a version to
//! a node sees to it that the node is indexed before its write becomes visible, not only the thread that made the node:
//! else the write of the one would be invisible until the other gets on. So a reader that finds neither its key nor a
//! mark of incompleteness knows that no write visible to it has that key.
//!
//! Threads: all functions, from everywhere. Two threads that index one node take the same way over the same slots, so
//! the swap that one of them loses was over the slot that now holds what it wanted to put there.
#![expect(unsafe_code, reason = "slots are laid over an anonymous map, and hold offsets of nodes")]

use crate::base::error::Result;
use crate::base::sync::{AtomicBool, Ordering};
use crate::memtable::maps::Maps;
use crate::memtable::skiplist::{NodeRef, SkipList};
use std::sync::Arc;

/// How many slots a probe looks at: a few cache lines.
pub const PROBES_MAX: usize = if cfg!(loom) { 2 } else { 64 };
/// The index has a slot for each so many bytes of arena: a small key, a small value and what the list adds.
const ARENA_BYTES_PER_SLOT: usize = 64;

/// See the head of the file.
pub struct HashIndex {
    slots: slots::Slots,
    /// Goes from true to false once.
    complete: AtomicBool,
    /// Which list the offsets belong to.
    list_name: u64,
}

/// What the index knows about a key.
pub enum Lookup<'a> {
    /// This is its node.
    Found(NodeRef<'a>),
    /// It has none.
    Absent,
    /// The index is incomplete: search the list.
    Unknown,
}

impl HashIndex {
    /// An index for `list`, sized for an arena of `arena_bytes`.
    pub fn new(list: &SkipList, arena_bytes: usize) -> Result<HashIndex> {
        HashIndex::within(list, arena_bytes, None)
    }

    /// The same in memory out of `maps`.
    pub fn within(list: &SkipList, arena_bytes: usize, maps: Option<&Arc<Maps>>) -> Result<HashIndex> {
        let count = (arena_bytes / ARENA_BYTES_PER_SLOT).max(PROBES_MAX).next_power_of_two();
        let slots = slots::Slots::new(count, maps)?;
        Ok(HashIndex { slots, complete: AtomicBool::new(true), list_name: list.name() })
    }

    /// Size of the slots in bytes.
    pub fn bytes(&self) -> usize {
        self.slots.count() * size_of::<u64>()
    }

    /// As `Arena::prefault`.
    pub fn prefault(&self) {
        self.slots.prefault();
    }

    /// Whether every node is indexed.
    pub fn is_complete(&self) -> bool {
        // Acquire: pairs with the Release in `insert`.
        self.complete.load(Ordering::Acquire)
    }

    /// Looks `key` up; `list` must be the one that the index was made for.
    #[inline]
    pub fn get<'a>(&self, list: &'a SkipList, hash: u64, key: &[u8]) -> Lookup<'a> {
        assert_eq!(self.list_name, list.name(), "the index of another list");
        for probe in 0..PROBES_MAX {
            // Acquire: pairs with the Release in `insert`; the node behind the offset is seen whole.
            let slot = self.slots.at(hash, probe).load(Ordering::Acquire);
            if slot == 0 {
                break;
            }
            if slot >> 32 == hash >> 32 {
                // SAFETY: `insert` put in an offset of a node of the list of this name, by a Release swap.
                let node = unsafe { list.node_at(slot as u32) };
                if node.key() == key {
                    return Lookup::Found(node);
                }
            }
        }
        if self.is_complete() { Lookup::Absent } else { Lookup::Unknown }
    }

    /// Reads the first slot of `hash`, so that it is in the processor's cache.
    #[inline]
    pub fn touch(&self, hash: u64) {
        // Relaxed: nothing is read through it.
        std::hint::black_box(self.slots.at(hash, 0).load(Ordering::Relaxed));
    }

    /// A node that is likely to be that of the key with this hash; its key is not looked at, and only the first few slots are.
    #[inline]
    pub fn likely<'a>(&self, list: &'a SkipList, hash: u64) -> Option<NodeRef<'a>> {
        const PROBES: usize = if PROBES_MAX < 4 { PROBES_MAX } else { 4 };
        assert_eq!(self.list_name, list.name(), "the index of another list");
        for probe in 0..PROBES {
            // Acquire: pairs with the Release in `insert`; the node behind the offset is seen whole.
            let slot = self.slots.at(hash, probe).load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            if slot >> 32 == hash >> 32 {
                // SAFETY: as in `get`.
                return Some(unsafe { list.node_at(slot as u32) });
            }
        }
        None
    }

    /// Makes sure that `node`, whose key has this hash, is in the index, or that the index knows that it is incomplete.
    pub fn insert(&self, hash: u64, node: NodeRef<'_>) {
        assert_eq!(self.list_name, node.list().name(), "a node of another list");
        if !self.is_complete() {
            return;
        }
        let entry = hash >> 32 << 32 | u64::from(node.offset());
        for probe in 0..PROBES_MAX {
            let slot = self.slots.at(hash, probe);
            // Relaxed: the value is only compared. Release: pairs with the Acquire in `get`.
            let taken = match slot.load(Ordering::Relaxed) {
                0 => slot.compare_exchange(0, entry, Ordering::Release, Ordering::Relaxed),
                other => Err(other),
            };
            if taken.is_ok() || taken == Err(entry) {
                return;
            }
        }
        // Release: pairs with the Acquire in `is_complete`. Before the write that brought the node becomes visible.
        self.complete.store(false, Ordering::Release);
    }
}

#[cfg(not(loom))]
mod slots {
    use crate::base::error::Result;
    use crate::base::sync::AtomicU64;
    use crate::memtable::maps::{Map, Maps};
    use std::sync::Arc;

    /// A power of two of slots, zero at first.
    pub struct Slots {
        map: Map,
        mask: usize,
    }

    impl Slots {
        pub fn new(count: usize, maps: Option<&Arc<Maps>>) -> Result<Slots> {
            assert!(count.is_power_of_two());
            let mut map = Map::new(count * size_of::<AtomicU64>(), maps)?;
            map.clear();
            Ok(Slots { map, mask: count - 1 })
        }

        pub fn count(&self) -> usize {
            self.mask + 1
        }

        pub fn prefault(&self) {
            self.map.prefault();
        }

        /// The `probe`th slot on the way of `hash`.
        #[inline]
        pub fn at(&self, hash: u64, probe: usize) -> &AtomicU64 {
            let index = (hash as usize).wrapping_add(probe) & self.mask;
            // SAFETY: `index` is at most `mask`, so the slot is inside the map, which starts at a page and is used as
            // atomic words only, for as long as `self` lives.
            unsafe { AtomicU64::from_ptr(self.map.base().cast::<u64>().add(index)) }
        }
    }
}

#[cfg(loom)]
mod slots {
    use crate::base::error::Result;
    use crate::base::sync::AtomicU64;
    use crate::memtable::maps::Maps;
    use std::sync::Arc;

    /// As few slots as a test needs.
    pub struct Slots(Box<[AtomicU64]>);

    impl Slots {
        pub fn new(_count: usize, _maps: Option<&Arc<Maps>>) -> Result<Slots> {
            Ok(Slots((0..4).map(|_| AtomicU64::new(0)).collect()))
        }

        pub fn count(&self) -> usize {
            self.0.len()
        }

        pub fn prefault(&self) {}

        pub fn at(&self, hash: u64, probe: usize) -> &AtomicU64 {
            &self.0[(hash as usize).wrapping_add(probe) % self.0.len()]
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn list_with(keys: u64) -> SkipList {
        let bytes = SkipList::entry_bytes_max(8, 0);
        let list = SkipList::new(bytes * keys as usize).unwrap();
        for key in 0..keys {
            assert!(list.arena().reserve(bytes));
            list.insert(&key.to_be_bytes(), 1 << 8, b"", 1, bytes);
        }
        list
    }

    #[test]
    fn colliding_hashes_end_in_the_list_and_not_in_a_long_probe() {
        let list = list_with(PROBES_MAX as u64 + 1);
        let index = HashIndex::new(&list, 1 << 20).unwrap();
        for key in 0..PROBES_MAX as u64 {
            let key = key.to_be_bytes();
            assert!(matches!(index.get(&list, 7, &key), Lookup::Absent));
            let node = list.find(&key).unwrap();
            index.insert(7, node);
            index.insert(7, node);
            assert!(matches!(index.get(&list, 7, &key), Lookup::Found(found) if found.key() == key));
        }
        assert!(index.is_complete());
        let last = (PROBES_MAX as u64).to_be_bytes();
        index.insert(7, list.find(&last).unwrap());
        assert!(!index.is_complete());
        assert!(matches!(index.get(&list, 7, &last), Lookup::Unknown));
        assert!(matches!(index.get(&list, 7, &0u64.to_be_bytes()), Lookup::Found(_)));
    }

    #[test]
    #[should_panic(expected = "another list")]
    fn another_list_is_refused() {
        let (a, b) = (list_with(1), list_with(1));
        HashIndex::new(&a, 0).unwrap().get(&b, 0, b"");
    }
}
