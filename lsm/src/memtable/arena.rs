//! The arena: one anonymous memory map out of which a memtable cuts its records. Nothing is given back before the end.
//!
//! ```text
//! offset 0 ..4    never handed out: 0 means "no record"
//! 4 ..used        records, each starting at a multiple of 4, handed out by `allocate`
//! used ..capacity zeros that the kernel has not even backed with memory yet, or what a former memtable left there
//! ```
//!
//! Room is *claimed* first (`reserve`, under the commit lock, before a write gets its sequence number) and *used* later
//! (`allocate`, on the writing thread, which must not fail any more). A claim is an upper bound; `allocate` settles it, so
//! what a write did not need is free for the next claim. Both numbers live in one atomic word, `used << 32 | claimed`.
//!
//! Threads: everything may be called from everywhere. The arena hands out disjoint ranges inside its bounds and knows
//! nothing of what is in them; that a record is fully written before others can reach it, and never changes after that
//! except through its atomics, is the promise of the caller, and the reason why the accessors are `unsafe`.
//!
//! Under `cfg(loom)` the map is replaced by a small array with one loom cell and one loom atomic per four bytes, so that
//! the structures above run unchanged and loom sees each access that is not ordered.
//!
//! It deliberately does not grow, free, or run destructors.
#![expect(unsafe_code, reason = "records of different shapes are laid over the bytes of one map")]

use crate::base::error::{Error, Result};
use crate::base::limits::ARENA_BYTES_MAX;
use crate::base::sync::{AtomicU32, AtomicU64, Ordering};
use crate::memtable::maps::Maps;
use std::sync::Arc;

/// The offset that no record has.
pub const NO_OFFSET: u32 = 0;
/// Each record starts at a multiple of this many bytes.
pub const ALIGNMENT: usize = 4;

/// How far behind the record just cut memory is fetched for the next ones. Saves about a tenth of an insert.
const PREFETCH_AHEAD_BYTES: usize = 256;

/// Keeps a word that every writer changes away from the fields that every reader reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct OwnCacheLine<T>(pub T);

/// A fixed number of bytes, handed out once each.
pub struct Arena {
    memory: memory::Memory,
    capacity_bytes: usize,
    /// `used << 32 | claimed`. All accesses are relaxed: the word is bookkeeping, records are published by the links
    /// that point to them.
    counts: OwnCacheLine<AtomicU64>,
}

impl Arena {
    /// Maps `capacity_bytes`. Memory is taken from `maps`, or from the system as it is touched.
    pub fn new(capacity_bytes: usize, maps: Option<&Arc<Maps>>) -> Result<Arena> {
        let capacity_bytes = capacity_bytes.saturating_add(ALIGNMENT);
        if capacity_bytes > ARENA_BYTES_MAX {
            return Err(Error::invalid(format!(
                "an arena of {capacity_bytes} bytes: at most {ARENA_BYTES_MAX}"
            )));
        }
        let memory = memory::Memory::new(capacity_bytes, maps)?;
        let counts = OwnCacheLine(AtomicU64::new((ALIGNMENT as u64) << 32));
        Ok(Arena { memory, capacity_bytes, counts })
    }

    /// How many bytes there are.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// How many bytes were handed out.
    pub fn used_bytes(&self) -> usize {
        (self.counts.0.load(Ordering::Relaxed) >> 32) as usize
    }

    /// Has the system back all of it with memory now, so that writers do not wait for that page by page. A hint.
    pub fn prefault(&self) {
        self.memory.prefault();
    }

    /// Claims room for later calls of [`allocate`](Self::allocate); false, and no claim, if there is not that much left.
    pub fn reserve(&self, bytes: usize) -> bool {
        self.update(|used, claimed| {
            let total = used.checked_add(claimed)?.checked_add(bytes)?;
            (total <= self.capacity_bytes).then_some((used, claimed + bytes))
        })
        .is_some()
    }

    /// Hands out `bytes` (rounded up to the alignment) and settles `claimed` bytes of what was reserved. Panics if the
    /// claim was smaller or never made: the caller has a bug, and no record may lie outside the arena.
    pub fn allocate(&self, bytes: usize, claimed: usize) -> u32 {
        let bytes = align(bytes);
        // used + reserved <= capacity always, so what is taken out of a claim lies inside.
        let offset = self.update(|used, reserved| {
            let left = reserved.checked_sub(claimed).filter(|_| bytes <= claimed)?;
            Some((used + bytes, left))
        });
        match offset {
            Some(offset) => {
                // The next records will be written there, and a swap waits until all writes before it are done.
                for ahead in (0..PREFETCH_AHEAD_BYTES).step_by(64) {
                    self.prefetch((offset + bytes + ahead) as u32);
                }
                offset as u32
            }
            None => panic!("{bytes} bytes of an arena were used that nobody had reserved"),
        }
    }

    /// Replaces (used, claimed), unless `change` says no; gives the old `used`.
    fn update(&self, change: impl Fn(usize, usize) -> Option<(usize, usize)>) -> Option<usize> {
        let mut old = self.counts.0.load(Ordering::Relaxed);
        loop {
            let used = (old >> 32) as usize;
            let (new_used, new_claimed) = change(used, old as u32 as usize)?;
            let new = (new_used as u64) << 32 | new_claimed as u64;
            match self.counts.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(used),
                Err(now) => old = now,
            }
        }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// The range lies inside one allocation, and no other thread can reach it yet.
    pub unsafe fn write(&self, offset: u32, bytes: &[u8]) {
        debug_assert!(offset as usize + bytes.len() <= self.capacity_bytes);
        // SAFETY: the caller's promise is the promise asked for.
        unsafe { self.memory.write(offset as usize, bytes) }
    }

    /// The bytes at `offset`.
    ///
    /// # Safety
    /// The range lies inside one allocation, its last [`write`](Self::write) happened before this call, and it holds
    /// none of the words used through [`atomic`](Self::atomic).
    #[inline]
    pub unsafe fn bytes(&self, offset: u32, len: usize) -> &[u8] {
        debug_assert!(offset as usize + len <= self.capacity_bytes);
        // SAFETY: the caller's promise is the promise asked for.
        unsafe { self.memory.bytes(offset as usize, len) }
    }

    /// The little-endian `u32` at `offset`.
    ///
    /// # Safety
    /// As [`bytes`](Self::bytes).
    #[inline]
    pub unsafe fn read_u32(&self, offset: u32) -> u32 {
        // SAFETY: the caller's promise, with a length of 4.
        let bytes = unsafe { self.bytes(offset, 4) };
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The little-endian `u64` at `offset`.
    ///
    /// # Safety
    /// As [`bytes`](Self::bytes).
    #[inline]
    pub unsafe fn read_u64(&self, offset: u32) -> u64 {
        // SAFETY: the caller's promise, with a length of 8.
        let bytes = unsafe { self.bytes(offset, 8) };
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// The atomic word at `offset`. What is in it at first is anything: it is to be stored before it is loaded.
    ///
    /// # Safety
    /// `offset` is a multiple of 4, the word lies inside one allocation, and it is used through this function only.
    #[inline]
    pub unsafe fn atomic(&self, offset: u32) -> &AtomicU32 {
        debug_assert!(offset as usize + 4 <= self.capacity_bytes && offset.is_multiple_of(ALIGNMENT as u32));
        // SAFETY: the caller's promise is the promise asked for.
        unsafe { self.memory.atomic(offset as usize) }
    }

    /// Asks the processor to fetch what lies at `offset`. A hint.
    #[inline]
    pub fn prefetch(&self, offset: u32) {
        self.memory.prefetch(offset as usize);
    }
}

/// Rounds up to the alignment of records.
pub const fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

#[cfg(not(loom))]
mod memory {
    use crate::base::error::Result;
    use crate::base::sync::AtomicU32;
    use crate::memtable::maps::{Map, Maps};
    use std::sync::Arc;

    /// The real thing: an anonymous map.
    pub struct Memory {
        map: Map,
    }

    impl Memory {
        pub fn new(bytes: usize, maps: Option<&Arc<Maps>>) -> Result<Memory> {
            Ok(Memory { map: Map::new(bytes, maps)? })
        }

        pub fn prefault(&self) {
            self.map.prefault();
        }

        /// # Safety
        /// As `Arena::write`.
        pub unsafe fn write(&self, offset: usize, bytes: &[u8]) {
            // SAFETY: the target is inside the map (it is inside an allocation) and nobody else looks at it; `bytes`
            // cannot overlap it, for a slice of unpublished arena memory exists nowhere.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.base().add(offset), bytes.len());
            }
        }

        /// # Safety
        /// As `Arena::bytes`.
        #[inline]
        pub unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
            // SAFETY: inside the map, which is initialised (zeros, or older records) and lives as long as `self`; nobody writes there
            // any more, and no atomic word is in the range.
            unsafe { std::slice::from_raw_parts(self.map.base().add(offset), len) }
        }

        /// # Safety
        /// As `Arena::atomic`.
        #[inline]
        pub unsafe fn atomic(&self, offset: usize) -> &AtomicU32 {
            // SAFETY: inside the map, which starts at a page and so keeps the offset's alignment; every access to
            // these four bytes is atomic; the reference lives no longer than the map.
            unsafe { AtomicU32::from_ptr(self.map.base().add(offset).cast()) }
        }

        #[inline]
        pub fn prefetch(&self, offset: usize) {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                let address = self.map.base().wrapping_add(offset);
                // SAFETY: a prefetch may be given any address; it neither faults nor counts as an access.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = offset;
        }
    }
}

#[cfg(loom)]
mod memory {
    use crate::base::error::Result;
    use crate::base::sync::AtomicU32;
    use crate::memtable::maps::Maps;
    use loom::cell::UnsafeCell as Watched;
    use std::cell::UnsafeCell;
    use std::sync::Arc;

    /// The model: plain bytes, each group of four watched by loom, and as many atomic words beside them.
    pub struct Memory {
        bytes: Box<[UnsafeCell<u8>]>,
        watched: Box<[Watched<()>]>,
        atomics: Box<[AtomicU32]>,
    }

    // SAFETY: the bytes are written only by a thread that nobody else can race with (the promise of `Arena::write`),
    // and loom fails the test where that is not so.
    unsafe impl Sync for Memory {}
    // SAFETY: nothing in it belongs to a thread.
    unsafe impl Send for Memory {}

    impl Memory {
        pub fn new(bytes: usize, _maps: Option<&Arc<Maps>>) -> Result<Memory> {
            let words = bytes.div_ceil(4);
            Ok(Memory {
                bytes: (0..words * 4).map(|_| UnsafeCell::new(0)).collect(),
                watched: (0..words).map(|_| Watched::new(())).collect(),
                atomics: (0..words).map(|_| AtomicU32::new(0)).collect(),
            })
        }

        /// # Safety
        /// As `Arena::write`.
        pub unsafe fn write(&self, offset: usize, bytes: &[u8]) {
            for word in offset / 4..(offset + bytes.len()).div_ceil(4) {
                self.watched[word].with_mut(|_| ());
            }
            for (cell, byte) in self.bytes[offset..].iter().zip(bytes) {
                // SAFETY: nobody else can reach these bytes; loom has just checked it.
                unsafe { *cell.get() = *byte };
            }
        }

        /// # Safety
        /// As `Arena::bytes`.
        pub unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
            for word in offset / 4..(offset + len).div_ceil(4) {
                self.watched[word].with(|_| ());
            }
            let cells = &self.bytes[offset..offset + len];
            // SAFETY: the same bytes without the cell around each; the last write happened before, as loom has checked.
            unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), len) }
        }

        /// # Safety
        /// As `Arena::atomic`.
        pub unsafe fn atomic(&self, offset: usize) -> &AtomicU32 {
            &self.atomics[offset / 4]
        }

        pub fn prefetch(&self, _offset: usize) {}

        pub fn prefault(&self) {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn claims_bound_what_is_used() {
        let arena = Arena::new(100, None).unwrap();
        assert!(!arena.reserve(101) && !arena.reserve(usize::MAX));
        assert!(arena.reserve(60) && arena.reserve(40) && !arena.reserve(1));
        let first = arena.allocate(10, 60);
        assert_eq!(first as usize % ALIGNMENT, 0);
        assert_ne!(first, NO_OFFSET);
        // Of 60 claimed bytes 12 were used.
        assert!(arena.reserve(48) && !arena.reserve(1));
        assert_eq!(arena.allocate(40, 40), first + 12);
        assert_eq!(arena.used_bytes(), ALIGNMENT + 12 + 40);
    }

    #[test]
    #[should_panic(expected = "nobody had reserved")]
    fn use_without_a_claim_is_a_bug() {
        let arena = Arena::new(100, None).unwrap();
        arena.allocate(8, 8);
    }

    #[test]
    fn too_large_is_an_error() {
        assert!(Arena::new(ARENA_BYTES_MAX, None).is_err());
        assert!(Arena::new(usize::MAX, None).is_err());
    }

    #[test]
    fn bytes_come_back() {
        let arena = Arena::new(100, None).unwrap();
        assert!(arena.reserve(16));
        let at = arena.allocate(16, 16);
        // SAFETY: this thread has the arena to itself; the ranges are inside the allocation, and the last word is used
        // as an atomic only.
        unsafe {
            arena.write(at, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            assert_eq!(arena.bytes(at + 1, 8), [2, 3, 4, 5, 6, 7, 8, 9]);
            assert_eq!(arena.read_u32(at), 0x0403_0201);
            assert_eq!(arena.read_u64(at), 0x0807_0605_0403_0201);
            assert_eq!(arena.atomic(at + 12).swap(7, Ordering::Relaxed), 0);
            assert_eq!(arena.atomic(at + 12).load(Ordering::Relaxed), 7);
        }
        arena.prefetch(at);
    }
}
