//! Memory maps that were used by a memtable and can be used by the next one.
//!
//! A fresh map is backed with memory page by page as it is touched, each by a fault and by zeroing; a database that is written to
//! all the time would pay that for each byte. So the maps of a memtable that nobody reads any more are kept, a few of them, and
//! handed to the next memtable of the same size. What is in them is whatever was written last: whoever takes one relies on no zeros.
//!
//! Threads: all functions, from everywhere; the lock is held for a few instructions.
#![cfg_attr(
    not(loom),
    expect(unsafe_code, reason = "a map is moved out of what is dropped, and cleared in place")
)]

#[cfg(not(loom))]
pub use real::*;

#[cfg(loom)]
pub use model::*;

#[cfg(not(loom))]
mod real {
    use crate::base::error::{Error, Result};
    use memmap2::MmapRaw;
    use std::mem::ManuallyDrop;
    use std::sync::{Arc, Mutex, PoisonError};

    /// Maps that are kept; see the head of the file.
    #[derive(Debug)]
    pub struct Maps {
        kept: Mutex<Vec<MmapRaw>>,
        most: usize,
    }

    impl Maps {
        /// An empty collection that will keep so many maps.
        pub fn new(most: usize) -> Arc<Maps> {
            Arc::new(Maps { kept: Mutex::default(), most })
        }

        fn take(&self, bytes: usize) -> Option<MmapRaw> {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let at = kept.iter().position(|map| map.len() == bytes)?;
            Some(kept.swap_remove(at))
        }

        fn give(&self, map: MmapRaw) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < self.most {
                kept.push(map);
            }
        }
    }

    /// A map that goes back to where it came from.
    pub struct Map {
        map: ManuallyDrop<MmapRaw>,
        home: Option<Arc<Maps>>,
        was_used: bool,
    }

    impl Map {
        /// A map of `bytes` out of `home`, or a fresh one of zeros, which becomes memory as it is touched.
        pub fn new(bytes: usize, home: Option<&Arc<Maps>>) -> Result<Map> {
            let used = home.and_then(|home| home.take(bytes));
            let was_used = used.is_some();
            let map = match used {
                Some(map) => map,
                None => fresh(bytes)?,
            };
            Ok(Map { map: ManuallyDrop::new(map), home: home.cloned(), was_used })
        }

        /// Where it begins.
        #[inline]
        pub fn base(&self) -> *mut u8 {
            self.map.as_mut_ptr()
        }

        /// Whether it may hold other bytes than zeros.
        pub fn was_used(&self) -> bool {
            self.was_used
        }

        /// Has the system back it with memory now. Where the system cannot, pages come as they are touched.
        pub fn prefault(&self) {
            #[cfg(target_os = "linux")]
            if !self.was_used {
                let _ = self.map.advise(memmap2::Advice::PopulateWrite);
            }
        }

        /// Writes zeros over what a former use left.
        pub fn clear(&mut self) {
            if self.was_used {
                // SAFETY: the whole map, which is this one's alone, as nobody else can be in a `&mut`: what was lent by `base`
                // is the borrower's responsibility.
                unsafe { std::ptr::write_bytes(self.map.as_mut_ptr(), 0, self.map.len()) };
                self.was_used = false;
            }
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: it is not used again, for `self` is going.
            let map = unsafe { ManuallyDrop::take(&mut self.map) };
            if let Some(home) = &self.home {
                home.give(map);
            }
        }
    }

    fn fresh(bytes: usize) -> Result<MmapRaw> {
        /// From here on, pages of 2 MiB save more page faults and TLB misses than their zeroing costs.
        const HUGE_PAGES_FROM_BYTES: usize = 4 << 20;

        let map = memmap2::MmapOptions::new().len(bytes).map_anon();
        let map = MmapRaw::from(map.map_err(|error| Error::io("map memory for", "(memtable)", error))?);
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_PAGES_FROM_BYTES {
            // A hint: without it everything works with small pages.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(map)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_map_comes_back_once_and_is_cleared_on_demand() {
            let home = Maps::new(1);
            let map = Map::new(8192, Some(&home)).unwrap();
            assert!(!map.was_used());
            // SAFETY: the first byte of a map that is this thread's own.
            unsafe { map.base().write(7) };
            let other = Map::new(8192, Some(&home)).unwrap();
            assert!(!other.was_used());
            drop((map, other));
            assert!(!Map::new(4096, Some(&home)).unwrap().was_used(), "of another size");
            // The one that is kept is the first that was given; the other size found no room.
            let mut map = Map::new(8192, Some(&home)).unwrap();
            assert!(map.was_used());
            map.clear();
            // SAFETY: as above.
            assert_eq!(unsafe { map.base().read() }, 0);
            assert!(!Map::new(8192, Some(&home)).unwrap().was_used());
        }
    }
}

#[cfg(loom)]
mod model {
    use std::sync::Arc;

    /// Nothing is kept in a model.
    #[derive(Debug)]
    pub struct Maps;

    impl Maps {
        /// See there.
        pub fn new(_most: usize) -> Arc<Maps> {
            Arc::new(Maps)
        }
    }
}
