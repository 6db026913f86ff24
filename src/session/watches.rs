//! Keys that clients watch (WATCH): who is to be told that a key has changed.
//!
//! ```text
//! (db, key) --hash--> shard = Mutex { key -> (db, client 3, client 17, ..) }       the client's own list: which keys, as it found them
//! ```
//!
//! *Order of things.* WATCH looks at its keys and enters here while it holds their locks. A command that changed keys marks those
//! who watch them after its commit and before it unlocks. EXEC locks what it watches before it looks at its mark, so it sees every change
//! that was committed before, and nothing changes between its look and its commit. FLUSH* and SWAPDB do the same with the gate
//! closed. Whoever locks a key sees every entry made under that lock before, so one relaxed load of the number of entries is
//! enough to pass an empty table by.
//!
//! *What is a change.* One is told of commits that write a key, not of time passing: a key that expires is found by EXEC itself, by
//! the expiry that WATCH noted (a new one would have been a write). The removal of a key that has expired is no change: to who watched it
//! alive EXEC says so anyway, to who watched it expired nothing is different.
//!
//! Shard mutexes are held for a few instructions, never two at once. Entries leave with [`Watched::clear`], also when the session is
//! dropped, wherever that is.

use crate::session::clients::{ClientInfo, FLAG_DIRTY, Holding};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const RELAXED: Ordering = Ordering::Relaxed;

/// One who watches a key.
#[derive(Debug)]
struct Watch {
    client: Arc<ClientInfo>,
    /// There was a value.
    live: bool,
}

/// By key, and for each by database.
type Keys = HashMap<Box<[u8]>, Vec<(usize, Vec<Watch>)>>;

const SHARDS: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct WatchTable {
    shards: Box<[Mutex<Keys>]>,
    /// Keys that are watched, counted for each client.
    entries: AtomicUsize,
    clients: AtomicUsize,
}

impl Default for WatchTable {
    fn default() -> WatchTable {
        WatchTable {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            entries: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
        }
    }
}

fn lock(shard: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WatchTable {
    fn shard(&self, db: usize, key: &[u8]) -> MutexGuard<'_, Keys> {
        lock(&self.shards[xxh3_64_with_seed(key, db as u64) as usize % self.shards.len()])
    }

    /// Whether nobody watches. Exact for the keys that the caller has locked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: entries are made under the locks of their keys, and the caller has taken them since.
        self.entries.load(RELAXED) == 0
    }

    /// How many keys are watched, counted for each client.
    pub fn entries(&self) -> usize {
        self.entries.load(RELAXED)
    }

    /// How many keys are in the table.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// How many clients watch.
    pub fn clients(&self) -> usize {
        self.clients.load(RELAXED)
    }

    fn enter(&self, db: usize, key: &[u8], watch: Watch) {
        let mut shard = self.shard(db, key);
        let places = shard.entry(key.into()).or_default();
        match places.iter_mut().find(|(of, _)| *of == db) {
            Some((_, watches)) => watches.push(watch),
            None => places.push((db, vec![watch])),
        }
        self.entries.fetch_add(1, RELAXED);
    }

    fn leave(&self, db: usize, key: &[u8], client: u64) {
        let mut shard = self.shard(db, key);
        let Some(places) = shard.get_mut(key) else { return };
        if let Some((_, watches)) = places.iter_mut().find(|(of, _)| *of == db) {
            watches.retain(|watch| watch.client.id != client);
        }
        places.retain(|(_, watches)| !watches.is_empty());
        if places.is_empty() {
            shard.remove(key);
        }
        self.entries.fetch_sub(1, RELAXED);
    }

    /// A key changed: marks those who watch it. With the key locked.
    pub fn touch(&self, db: usize, key: &[u8]) {
        let shard = self.shard(db, key);
        let places = shard.get(key).into_iter().flatten();
        places.filter(|(of, _)| *of == db).flat_map(|(_, watches)| watches).for_each(Watch::mark);
    }

    /// A database lost its keys: marks those who watch one that was there. With the gate closed.
    pub fn touch_live(&self, db: usize) {
        self.for_each(db, |_, watch| {
            if watch.live {
                watch.mark();
            }
        });
    }

    /// The keys of a database that somebody watches who found no value. With the gate closed.
    pub fn absent_keys(&self, db: usize) -> Vec<Box<[u8]>> {
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        self.for_each(db, |key, watch| {
            if !watch.live && keys.last().is_none_or(|last| **last != *key) {
                keys.push(key.into());
            }
        });
        keys
    }

    fn for_each(&self, db: usize, mut f: impl FnMut(&[u8], &Watch)) {
        for shard in &self.shards {
            for (key, places) in lock(shard).iter() {
                let watches = places.iter().filter(|(of, _)| *of == db).flat_map(|(_, watches)| watches);
                watches.for_each(|watch| f(key, watch));
            }
        }
    }
}

impl Watch {
    fn mark(&self) {
        // Relaxed: EXEC looks at it under the lock that the caller holds now.
        self.client.set_flag(FLAG_DIRTY, true);
    }
}

/// A watched key as WATCH found it.
#[derive(Debug)]
pub struct WatchedKey {
    /// Number of the database.
    pub db: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// When its value expires (ms since 1970); 0 for never. `None` if there was none.
    pub expire_ms: Option<u64>,
}

/// What one client watches.
#[derive(Debug)]
pub struct Watched {
    table: Arc<WatchTable>,
    client: Arc<ClientInfo>,
    /// Each with what `expire_ms` of [`WatchedKey`] is.
    keys: HashMap<(usize, Box<[u8]>), Option<u64>>,
    /// Bytes that they take, about.
    bytes: usize,
}

/// What a watched key takes beside its name: places here and in the table.
const WATCH_BYTES: usize = 160;

impl Watched {
    /// Nothing yet.
    pub fn new(table: Arc<WatchTable>, client: Arc<ClientInfo>) -> Watched {
        Watched { table, client, keys: HashMap::new(), bytes: 0 }
    }

    /// The keys, each with its database.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> {
        self.keys.keys().map(|(db, key)| (*db, &**key))
    }

    /// Watches one more key, with the key locked. Nothing if it is watched already.
    pub fn add(&mut self, key: WatchedKey) {
        let WatchedKey { db, key, expire_ms } = key;
        let is_first = self.keys.is_empty();
        let Entry::Vacant(place) = self.keys.entry((db, key)) else { return };
        if is_first {
            self.table.clients.fetch_add(1, RELAXED);
        }
        let watch = Watch { client: Arc::clone(&self.client), live: expire_ms.is_some() };
        let (_, key) = place.key();
        self.table.enter(db, key, watch);
        self.bytes += key.len() + WATCH_BYTES;
        place.insert(expire_ms);
        self.client.set_watched(self.keys.len());
        self.client.hold(Holding::Watches, self.bytes);
    }

    /// Whether a key has changed, or has expired by now. Exact with the keys locked.
    pub fn is_changed(&self, now_ms: u64) -> bool {
        let has_expired = |expire_ms: &Option<u64>| expire_ms.is_some_and(|at| at != 0 && at <= now_ms);
        self.is_marked() || self.keys.values().any(has_expired)
    }

    /// Whether a key was changed by somebody.
    pub fn is_marked(&self) -> bool {
        // Relaxed: see `Watch::mark`.
        self.client.flags() & FLAG_DIRTY != 0
    }

    /// Watches nothing any more.
    pub fn clear(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        for (db, key) in std::mem::take(&mut self.keys).into_keys() {
            self.table.leave(db, &key, self.client.id);
        }
        self.table.clients.fetch_sub(1, RELAXED);
        self.bytes = 0;
        self.client.set_watched(0);
        self.client.hold(Holding::Watches, 0);
        // Nobody finds it in the table any more: the mark stays off.
        self.client.set_flag(FLAG_DIRTY, false);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::clients::{Arrival, WorkerHandle};

    struct Nobody;

    impl WorkerHandle for Nobody {
        fn kill(&self, _: u64) {}
        fn refresh(&self) {}
        fn settled(&self, _: u64) {}
        fn deliver(&self, _: Arc<crate::session::delivery::Delivery>) {}
        fn end_turn(&self, _: Arc<crate::session::in_flight::Countdown>) {}
        fn answered(&self, _: u64) {}
    }

    fn watched(table: &Arc<WatchTable>, id: u64) -> Watched {
        let arrival = Arrival {
            address: String::new(),
            local_address: String::new(),
            descriptor: 0,
            now_ms: 0,
            worker: 0,
            place: 0,
            handle: Arc::new(Nobody),
        };
        Watched::new(Arc::clone(table), Arc::new(ClientInfo::new(id, arrival)))
    }

    fn key(db: usize, name: &str, expire_ms: Option<u64>) -> WatchedKey {
        WatchedKey { db, key: name.as_bytes().into(), expire_ms }
    }

    #[test]
    fn only_those_who_watch_a_key_are_marked() {
        let table = Arc::new(WatchTable::default());
        let (mut one, mut two) = (watched(&table, 1), watched(&table, 2));
        one.add(key(0, "a", Some(0)));
        one.add(key(0, "a", Some(0)));
        two.add(key(0, "a", Some(0)));
        two.add(key(1, "b", None));
        assert_eq!((table.entries(), table.clients()), (3, 2));
        table.touch(0, b"b");
        table.touch(1, b"a");
        assert!(!one.is_changed(9) && !two.is_changed(9));
        table.touch(1, b"b");
        assert!(!one.is_changed(9) && two.is_changed(9));
        two.clear();
        assert!(!two.is_changed(9));
        table.touch(0, b"a");
        assert!(one.is_changed(9) && !two.is_changed(9));
        drop(one);
        assert!(table.is_empty() && table.clients() == 0);
        assert!(table.shards.iter().all(|shard| lock(shard).is_empty()));
    }

    #[test]
    fn time_and_whole_databases() {
        let table = Arc::new(WatchTable::default());
        let (mut one, mut two) = (watched(&table, 1), watched(&table, 2));
        one.add(key(0, "a", Some(50)));
        two.add(key(0, "b", None));
        assert!(!one.is_changed(49) && one.is_changed(50) && !two.is_changed(50));
        assert_eq!(table.absent_keys(0), [Box::from(&b"b"[..])]);
        table.touch_live(1);
        assert!(!one.is_marked());
        table.touch_live(0);
        assert!(one.is_marked() && !two.is_marked());
    }
}
