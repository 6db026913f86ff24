//! Clients that cache keys, and what each may hold (CLIENT TRACKING).
//!
//! ```text
//! trackers   client -> how it is told: itself or another, all keys with a prefix or those it read, its own changes or not
//! table      key --hash--> shard = Mutex { key -> clients that have read it }       bounded; a key leaves when its readers are told
//! prefixes   prefix -> clients that are told of every change below it (BCAST)
//! ```
//!
//! *Order.* A client is entered as a key's reader before it reads, and a commit is told of after it is visible. So a reader either sees
//! the commit, or is in the table when the commit looks there. The message goes through the mailbox of the reader's worker and comes
//! behind the reply that it takes back. Who is redirected has to allow for the message to overtake the reply, as with Redis.
//!
//! *Bound.* Above `tracking-table-max-keys` keys are drawn by lot and their readers told as if they had changed. A key's readers who have
//! gone since are taken out whenever their number has doubled; with the last tracker all go.
//!
//! Keys are told of by name, whatever their database, as in Redis. Mutexes are held for a few instructions, never two at once.

use crate::session::clients::{ClientInfo, FLAG_BCAST, FLAG_BROKEN_REDIRECT, FLAG_TRACKING, Holding};
use crate::session::delivery::Name;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_64;

const RELAXED: Ordering = Ordering::Relaxed;

/// How a client wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackingOptions {
    /// Of every change below its prefixes, whatever it has read.
    pub broadcast: bool,
    /// Only of keys that it reads behind CLIENT CACHING YES.
    pub opt_in: bool,
    /// Of all but those that it reads behind CLIENT CACHING NO.
    pub opt_out: bool,
    /// Not of changes of its own.
    pub no_loop: bool,
    /// The client that is told in its stead; 0 for itself.
    pub redirect: u64,
}

/// A client that is told of changes.
#[derive(Debug)]
pub struct Tracker {
    /// The client.
    pub client: Arc<ClientInfo>,
    /// How it is told.
    pub options: TrackingOptions,
}

/// Readers of keys in one part of the table.
#[derive(Debug, Default)]
struct Shard {
    /// Where each key is in `entries`.
    places: HashMap<Name, usize>,
    /// Keys and their readers, sorted. A list, so that one can be drawn by lot.
    entries: Vec<(Name, Vec<u64>)>,
}

impl Shard {
    fn take_at(&mut self, place: usize) -> (Name, Vec<u64>) {
        let (key, readers) = self.entries.swap_remove(place);
        self.places.remove(&key);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(Arc::clone(moved), place);
        }
        (key, readers)
    }
}

const SHARDS: usize = 32;
/// Readers of a key from which on those who have gone are looked for.
const READERS_SWEPT: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct TrackingTable {
    trackers: RwLock<HashMap<u64, Arc<Tracker>>>,
    shards: Box<[Mutex<Shard>]>,
    prefixes: RwLock<BTreeMap<Name, BTreeSet<u64>>>,
    keys: AtomicUsize,
    items: AtomicUsize,
    /// The most keys; 0 for no bound.
    keys_max: AtomicUsize,
    lots: AtomicU64,
}

impl Default for TrackingTable {
    fn default() -> TrackingTable {
        TrackingTable {
            trackers: RwLock::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            prefixes: RwLock::default(),
            keys: AtomicUsize::new(0),
            items: AtomicUsize::new(0),
            keys_max: AtomicUsize::new(0),
            lots: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TrackingTable {
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[xxh3_64(key) as usize % SHARDS])
    }

    /// How many clients are told of changes.
    pub fn trackers(&self) -> usize {
        self.trackers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many keys are in the table.
    pub fn keys(&self) -> usize {
        self.keys.load(RELAXED)
    }

    /// How many readers the keys in the table have together.
    pub fn items(&self) -> usize {
        self.items.load(RELAXED)
    }

    /// How many prefixes are tracked.
    pub fn prefixes(&self) -> usize {
        self.prefixes.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sets the most keys; 0 for no bound. What is too much then is for [`take_surplus`](Self::take_surplus).
    pub fn set_keys_max(&self, max: usize) {
        self.keys_max.store(max, RELAXED);
    }

    /// A client that is told of changes, if it is.
    pub fn tracker(&self, client: u64) -> Option<Arc<Tracker>> {
        self.trackers.read().unwrap_or_else(PoisonError::into_inner).get(&client).cloned()
    }

    /// All clients that are told of changes.
    pub fn all_trackers(&self) -> Vec<Arc<Tracker>> {
        self.trackers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether it is the first one.
    fn enter(&self, tracker: Tracker) -> bool {
        let mut trackers = self.trackers.write().unwrap_or_else(PoisonError::into_inner);
        trackers.insert(tracker.client.id, Arc::new(tracker));
        trackers.len() == 1
    }

    /// Whether it was the last one.
    fn leave(&self, client: u64) -> bool {
        let mut trackers = self.trackers.write().unwrap_or_else(PoisonError::into_inner);
        let last = trackers.remove(&client).is_some() && trackers.is_empty();
        if last {
            // Before the next one can begin, whose keys must stay.
            self.clear();
        }
        last
    }

    fn add_prefix(&self, prefix: &Name, client: u64) {
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        prefixes.entry(Arc::clone(prefix)).or_default().insert(client);
    }

    fn remove_prefix(&self, prefix: &Name, client: u64) {
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = prefixes.get_mut(prefix) {
            clients.remove(&client);
            if clients.is_empty() {
                prefixes.remove(prefix);
            }
        }
    }

    /// A client is about to read a key.
    pub fn remember(&self, key: &[u8], client: u64) {
        let mut shard = self.shard(key);
        let place = match shard.places.get(key) {
            Some(place) => *place,
            None => {
                let (name, place): (Name, usize) = (key.into(), shard.entries.len());
                shard.places.insert(Arc::clone(&name), place);
                shard.entries.push((name, Vec::new()));
                self.keys.fetch_add(1, RELAXED);
                place
            }
        };
        let Some((_, readers)) = shard.entries.get_mut(place) else { return };
        let Err(at) = readers.binary_search(&client) else { return };
        readers.insert(at, client);
        self.items.fetch_add(1, RELAXED);
        if readers.len() >= READERS_SWEPT && readers.len().is_power_of_two() {
            // Whoever clears the table has the trackers locked and wants this shard: waiting here could last for ever.
            let Ok(trackers) = self.trackers.try_read() else { return };
            let before = readers.len();
            readers.retain(|reader| *reader == client || trackers.contains_key(reader));
            self.items.fetch_sub(before - readers.len(), RELAXED);
        }
    }

    fn took(&self, (key, readers): (Name, Vec<u64>)) -> (Name, Vec<u64>) {
        self.keys.fetch_sub(1, RELAXED);
        self.items.fetch_sub(readers.len(), RELAXED);
        (key, readers)
    }

    /// Takes a key out of the table, with its readers.
    pub fn take(&self, key: &[u8]) -> Vec<u64> {
        if self.keys() == 0 {
            return Vec::new();
        }
        let mut shard = self.shard(key);
        let Some(place) = shard.places.get(key).copied() else { return Vec::new() };
        let taken = shard.take_at(place);
        self.took(taken).1
    }

    /// Takes some key out of the table, with its readers, if there are more than may be.
    pub fn take_surplus(&self) -> Option<(Name, Vec<u64>)> {
        let max = self.keys_max.load(RELAXED);
        if max == 0 || self.keys() <= max {
            return None;
        }
        // xorshift64: any lot will do. Two threads may draw the same.
        let mut lot = self.lots.load(RELAXED);
        lot ^= lot << 13;
        lot ^= lot >> 7;
        lot ^= lot << 17;
        self.lots.store(lot, RELAXED);
        (0..SHARDS).find_map(|step| {
            let mut shard = lock(&self.shards[(lot as usize).wrapping_add(step) % SHARDS]);
            let count = shard.entries.len();
            let taken = (count > 0).then(|| shard.take_at((lot >> 32) as usize % count))?;
            Some(self.took(taken))
        })
    }

    /// Forgets all keys.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.keys.fetch_sub(shard.entries.len(), RELAXED);
            let items: usize = shard.entries.iter().map(|(_, readers)| readers.len()).sum();
            self.items.fetch_sub(items, RELAXED);
            *shard = Shard::default();
        }
    }

    /// Calls `found` with each prefix that a key begins with, the longest first, and the clients that are told of it.
    pub fn for_each_prefix_of(&self, key: &[u8], mut found: impl FnMut(&Name, &BTreeSet<u64>)) {
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        let mut end = Included(key);
        // The last one before the end either is such a prefix, or parts from the key where all that are left have ended.
        while let Some((prefix, clients)) = prefixes.range::<[u8], _>((Unbounded, end)).next_back() {
            let common = prefix.iter().zip(key).take_while(|(own, other)| own == other).count();
            let shared = &key[..common];
            end = Included(shared);
            if common == prefix.len() {
                found(prefix, clients);
                end = Excluded(shared);
            }
        }
    }
}

/// That one client is told of changes. Dropped, it is told no more.
#[derive(Debug)]
pub struct Tracking {
    table: Arc<TrackingTable>,
    client: Arc<ClientInfo>,
    options: TrackingOptions,
    /// None of them begins with another, but for the empty one, which is entered unasked.
    prefixes: BTreeSet<Name>,
    /// Bytes that they take, about.
    prefix_bytes: usize,
    /// CLIENT CACHING was just said.
    pub caching: bool,
    /// What an EXEC has read of its own writes.
    pub own_reads: OwnReads,
}

/// Keys that an EXEC has read behind changes of its own. These changes are told of at the commit, and not to who has read what they
/// left: such a reader is entered behind the commit, while the keys are still locked.
#[derive(Debug, Default)]
pub struct OwnReads {
    changed: HashSet<Name>,
    /// How many changes have been looked at.
    seen: usize,
    read: Vec<Name>,
}

impl OwnReads {
    /// An EXEC begins, maybe for the second time.
    pub fn begin(&mut self) {
        *self = OwnReads::default();
    }

    /// Whether one of these changes, those of the EXEC so far, is of this key, which is read: then it is kept.
    pub fn keep<'a>(&mut self, key: &[u8], changes: impl Iterator<Item = &'a [u8]>) -> bool {
        for changed in changes.skip(self.seen) {
            self.changed.insert(changed.into());
            self.seen += 1;
        }
        let changed = self.changed.get(key);
        self.read.extend(changed.map(Arc::clone));
        changed.is_some()
    }

    /// The keys, once it is committed.
    pub fn take(&mut self) -> Vec<Name> {
        std::mem::take(self).read
    }
}

impl Tracking {
    /// Begins. Whether it is the first client that does.
    pub fn begin(
        table: &Arc<TrackingTable>,
        client: &Arc<ClientInfo>,
        options: TrackingOptions,
    ) -> (Tracking, bool) {
        let mut tracking = Tracking {
            table: Arc::clone(table),
            client: Arc::clone(client),
            options: TrackingOptions::default(),
            prefixes: BTreeSet::new(),
            prefix_bytes: 0,
            caching: false,
            own_reads: OwnReads::default(),
        };
        client.set_flag(FLAG_TRACKING, true);
        let first = tracking.set_options(options);
        (tracking, first)
    }

    /// Is told otherwise from now on. Whether it is the first client that is told of changes.
    pub fn set_options(&mut self, options: TrackingOptions) -> bool {
        self.options = options;
        self.client.set_flag(FLAG_BCAST, options.broadcast);
        self.client.set_flag(FLAG_BROKEN_REDIRECT, false);
        self.client.set_redirect(options.redirect as i64);
        self.table.enter(Tracker { client: Arc::clone(&self.client), options })
    }

    /// How it is told.
    pub fn options(&self) -> TrackingOptions {
        self.options
    }

    /// Whether what its commands read now is remembered.
    #[inline]
    pub fn remembers(&self) -> bool {
        let called_off = if self.caching { self.options.opt_out } else { self.options.opt_in };
        !self.options.broadcast && !called_off
    }

    /// Its prefixes.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.prefixes.iter()
    }

    /// The first of its prefixes, in their order, that begins with this one or that this one begins with.
    pub fn overlapping(&self, prefix: &[u8]) -> Option<&Name> {
        if let Some(empty) = self.prefixes.first().filter(|first| first.is_empty()) {
            return Some(empty);
        }
        // Whatever lies between a prefix and what begins with it begins with it as well; of those before this one that is only the last.
        let before = self.prefixes.range::<[u8], _>((Unbounded, Excluded(prefix))).next_back();
        let behind = self.prefixes.range::<[u8], _>((Included(prefix), Unbounded)).next();
        before
            .filter(|before| prefix.starts_with(before))
            .or_else(|| behind.filter(|behind| behind.starts_with(prefix)))
    }

    /// Is told of changes below a prefix, too.
    pub fn add_prefix(&mut self, prefix: &[u8]) {
        // What a prefix takes beside itself: places here and in the table.
        const PREFIX_BYTES: usize = 160;
        let prefix: Name = prefix.into();
        if self.prefixes.insert(Arc::clone(&prefix)) {
            self.table.add_prefix(&prefix, self.client.id);
            self.prefix_bytes += prefix.len() + PREFIX_BYTES;
            self.client.hold(Holding::Prefixes, self.prefix_bytes);
        }
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        for prefix in &self.prefixes {
            self.table.remove_prefix(prefix, self.client.id);
        }
        self.table.leave(self.client.id);
        self.client.hold(Holding::Prefixes, 0);
        for flag in [FLAG_TRACKING, FLAG_BCAST, FLAG_BROKEN_REDIRECT] {
            self.client.set_flag(flag, false);
        }
        self.client.set_redirect(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bounded_table_gives_keys_up_by_lot() {
        let table = TrackingTable::default();
        for key in 0..1000u32 {
            table.remember(&key.to_be_bytes(), 1);
        }
        assert!(table.take_surplus().is_none(), "no bound");
        table.set_keys_max(10);
        let mut taken = Vec::new();
        while let Some((key, readers)) = table.take_surplus() {
            assert_eq!(readers, [1]);
            taken.push(key);
        }
        taken.sort();
        taken.dedup();
        assert_eq!((taken.len(), table.keys(), table.items()), (990, 10, 10));
        table.clear();
        assert_eq!((table.keys(), table.items()), (0, 0));
    }

    #[test]
    fn readers_who_have_gone_do_not_pile_up() {
        let table = TrackingTable::default();
        for client in 0..10_000 {
            table.remember(b"hot", client);
        }
        assert!(table.items() <= READERS_SWEPT);
    }

    #[test]
    fn the_last_that_goes_leaves_the_keys_of_the_next() {
        struct Nobody;
        impl crate::session::clients::WorkerHandle for Nobody {
            fn kill(&self, _: u64) {}
            fn refresh(&self) {}
            fn settled(&self, _: u64) {}
            fn deliver(&self, _: Arc<crate::session::delivery::Delivery>) {}
            fn end_turn(&self, _: Arc<crate::session::in_flight::Countdown>) {}
            fn answered(&self, _: u64) {}
        }
        let table = Arc::new(TrackingTable::default());
        let client = |id: u64| {
            let arrival = crate::session::clients::Arrival {
                address: String::new(),
                local_address: String::new(),
                descriptor: 0,
                now_ms: 0,
                worker: 0,
                place: 0,
                handle: Arc::new(Nobody),
            };
            Arc::new(ClientInfo::new(id, arrival))
        };
        std::thread::scope(|scope| {
            for id in 1..=3u64 {
                let (table, client) = (&table, client(id));
                scope.spawn(move || {
                    for _ in 0..5000 {
                        let (tracking, _) = Tracking::begin(table, &client, TrackingOptions::default());
                        let key = id.to_be_bytes();
                        table.remember(&key, id);
                        std::thread::yield_now();
                        assert_eq!(table.take(&key), [id], "forgotten without a word");
                        table.remember(&key, id);
                        drop(tracking);
                    }
                });
            }
        });
        assert_eq!((table.trackers(), table.keys(), table.items()), (0, 0, 0));
    }

    proptest! {
        /// Against a look at each.
        #[test]
        fn prefixes_of_a_key(
            prefixes in prop::collection::btree_set("[ab]{0,5}", 0..20), keys in prop::collection::vec("[ab]{0,7}", 5),
        ) {
            let table = TrackingTable::default();
            prefixes.iter().for_each(|prefix| table.add_prefix(&prefix.as_bytes().into(), 1));
            for key in &keys {
                let mut found = Vec::new();
                table.for_each_prefix_of(key.as_bytes(), |prefix, _| found.push(prefix.to_vec()));
                let expected = prefixes.iter().rev().filter(|prefix| key.starts_with(prefix.as_str()));
                prop_assert_eq!(found, expected.map(|prefix| prefix.as_bytes().to_vec()).collect::<Vec<_>>());
            }
        }

        /// Against a map.
        #[test]
        fn a_table_of_readers(steps in prop::collection::vec((0u8..8, 0u8..20, 0u64..8), 1..300)) {
            let table = TrackingTable::default();
            let mut model: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
            for (step, key, client) in steps {
                if step < 6 {
                    table.remember(&[key], client);
                    model.entry(key).or_default().insert(client);
                } else {
                    let expected: Vec<u64> = model.remove(&key).unwrap_or_default().into_iter().collect();
                    prop_assert_eq!(table.take(&[key]), expected);
                }
                prop_assert_eq!(table.keys(), model.len());
                prop_assert_eq!(table.items(), model.values().map(BTreeSet::len).sum::<usize>());
            }
        }
    }
}
