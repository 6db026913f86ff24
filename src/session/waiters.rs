//! Clients that wait for keys (BLPOP, BZPOPMIN, XREAD BLOCK ..): for each key those who wait for it, in the order they came.
//!
//! ```text
//! (db, key) --hash--> shard = Mutex { (db, key) -> waiter 3, waiter 17, waiter 21, .. }      a waiter stands in line at each of its keys
//! ```
//!
//! *Order of things.* A command that finds nothing enters itself here while it holds the locks of all its keys, so between its
//! look and its entry nobody can have pushed. A writing command, once committed and with its keys still locked, serves those
//! who wait for them ([`next`](WaitTable::next), then the waiter's [`Claim`]). Whoever locks a key sees every entry made
//! under that lock before; therefore one relaxed load of the number of entries is enough to pass an empty table by.
//!
//! *What a waiter carries* is its command, to be run again when a key is ready: words, database, protocol. It is served exactly as if
//! it came just then, by the thread of whoever made the key ready, restricted to that key and to those in
//! [`also`](Wanted::also), which are locked with it (where BLMOVE puts the element).
//!
//! Shard mutexes are held for a few instructions, never two at once. Entries leave when their claim is decided, by whoever decided it
//! or finds it decided.

use crate::base::args::OwnedArgs;
use crate::encoding::meta::Kind;
use crate::session::claim::{Claim, Served};
use crate::session::clients::ClientInfo;
use haypile_resp::Protocol;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

const RELAXED: Ordering = Ordering::Relaxed;

/// What a command that found nothing wants to wait for.
#[derive(Debug)]
pub struct Wanted {
    /// Any of these keys becoming ready.
    pub keys: Vec<Vec<u8>>,
    /// Keys that the command may touch when it is served, besides the one that is ready.
    pub also: Vec<Vec<u8>>,
    /// The type that makes a key ready.
    pub kind: Kind,
    /// Whether it wants to know as well if a key goes, or becomes another type (XREADGROUP).
    pub on_any_change: bool,
    /// The words to run again, if not those that were sent (XREAD with `$`).
    pub words: Option<OwnedArgs>,
    /// When to give up (monotonic ms); `u64::MAX` for never.
    pub until_ms: u64,
}

/// A client that waits.
#[derive(Debug)]
pub struct Waiter {
    /// Who ends the wait.
    pub claim: Arc<Claim<Served>>,
    /// The client.
    pub client: Arc<ClientInfo>,
    /// Its database.
    pub db: usize,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether what it reads is remembered, as it may be cached: CLIENT CACHING was for this command.
    pub remembers: bool,
    /// Its shard of the statistics.
    pub shard: usize,
    /// What it waits for.
    pub wanted: Wanted,
    /// The words of its command.
    pub words: OwnedArgs,
    /// Grows with each entry: its place in line.
    number: AtomicU64,
    /// Stands in the table.
    entered: AtomicBool,
}

impl Waiter {
    /// A waiter that stands nowhere yet.
    pub fn new(
        client: Arc<ClientInfo>,
        db: usize,
        protocol: Protocol,
        remembers: bool,
        shard: usize,
        mut wanted: Wanted,
        words: OwnedArgs,
    ) -> Waiter {
        let words = wanted.words.take().unwrap_or(words);
        // Once in line at each key, however often it was named.
        let mut seen = HashSet::with_capacity(wanted.keys.len());
        wanted.keys.retain(|key| seen.insert(xxh3_128(key)));
        Waiter {
            claim: Arc::default(),
            client,
            db,
            protocol,
            remembers,
            shard,
            wanted,
            words,
            number: AtomicU64::new(0),
            entered: AtomicBool::new(false),
        }
    }

    /// Its place in line.
    pub fn number(&self) -> u64 {
        self.number.load(RELAXED)
    }

    fn wants(&self, kind: Option<Kind>) -> bool {
        self.wanted.on_any_change || kind == Some(self.wanted.kind)
    }
}

/// Those who wait for one key.
#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Arc<Waiter>>,
    /// How many of them have keys of their own to be locked.
    with_also: usize,
    /// How many want to know of any change.
    on_any_change: usize,
}

impl Line {
    fn count(&mut self, waiter: &Waiter, by: isize) {
        let change = |count: &mut usize, counts: bool| {
            *count = count.wrapping_add_signed(if counts { by } else { 0 });
        };
        change(&mut self.with_also, !waiter.wanted.also.is_empty());
        change(&mut self.on_any_change, waiter.wanted.on_any_change);
    }
}

/// By key, and for each by database.
type Lines = HashMap<Vec<u8>, Vec<(usize, Line)>>;

fn find<'l>(lines: &'l Lines, db: usize, key: &[u8]) -> Option<&'l Line> {
    lines.get(key)?.iter().find(|(of, _)| *of == db).map(|(_, line)| line)
}

const SHARDS: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct WaitTable {
    shards: Box<[Mutex<Lines>]>,
    /// Waiters, counted at each of their keys.
    entries: AtomicUsize,
    /// Those of them that need other keys locked as well.
    entries_with_also: AtomicUsize,
    /// Keys that are waited for.
    keys: AtomicUsize,
    next_number: AtomicU64,
}

impl Default for WaitTable {
    fn default() -> WaitTable {
        WaitTable {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            entries: AtomicUsize::new(0),
            entries_with_also: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            next_number: AtomicU64::new(1),
        }
    }
}

impl WaitTable {
    fn shard(&self, db: usize, key: &[u8]) -> MutexGuard<'_, Lines> {
        let shard = xxh3_64_with_seed(key, db as u64) as usize % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits. Exact for the keys that the caller has locked.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: entries are made under the locks of their keys, and the caller has taken them since.
        self.entries.load(RELAXED) == 0
    }

    /// Whether nobody waits who needs other keys locked. As exact.
    #[inline]
    pub fn is_simple(&self) -> bool {
        // Relaxed: as in `is_empty`.
        self.entries_with_also.load(RELAXED) == 0
    }

    /// How many keys are waited for.
    pub fn keys(&self) -> usize {
        self.keys.load(RELAXED)
    }

    /// Enters a waiter, with its keys locked.
    pub fn enter(&self, waiter: &Arc<Waiter>) {
        waiter.number.store(self.next_number.fetch_add(1, RELAXED), RELAXED);
        waiter.entered.store(true, RELAXED);
        for key in &waiter.wanted.keys {
            let mut shard = self.shard(waiter.db, key);
            let lines = shard.entry(key.clone()).or_default();
            let place = lines.iter().position(|(db, _)| *db == waiter.db).unwrap_or(lines.len());
            if place == lines.len() {
                lines.push((waiter.db, Line::default()));
            }
            let (_, line) = &mut lines[place];
            self.keys.fetch_add(usize::from(line.waiters.is_empty()), RELAXED);
            line.count(waiter, 1);
            line.waiters.push_back(Arc::clone(waiter));
            self.entries.fetch_add(1, RELAXED);
            self.entries_with_also.fetch_add(usize::from(!waiter.wanted.also.is_empty()), RELAXED);
        }
    }

    /// Takes a waiter out of all lines, if it stands in any. Its claim is decided.
    pub fn leave(&self, waiter: &Waiter) {
        if !waiter.entered.swap(false, Ordering::AcqRel) {
            return;
        }
        for key in &waiter.wanted.keys {
            let mut shard = self.shard(waiter.db, key);
            let Some(lines) = shard.get_mut(key) else { continue };
            let Some(at) = lines.iter().position(|(db, _)| *db == waiter.db) else { continue };
            let (_, line) = &mut lines[at];
            let place = line.waiters.partition_point(|other| other.number() < waiter.number());
            if line.waiters.get(place).is_some_and(|other| std::ptr::eq(&**other, waiter)) {
                line.waiters.remove(place);
                line.count(waiter, -1);
                self.entries.fetch_sub(1, RELAXED);
                self.entries_with_also.fetch_sub(usize::from(!waiter.wanted.also.is_empty()), RELAXED);
            }
            if line.waiters.is_empty() {
                lines.swap_remove(at);
                self.keys.fetch_sub(1, RELAXED);
            }
            if lines.is_empty() {
                shard.remove(key);
            }
        }
    }

    /// Whether somebody waits for a key.
    pub fn has(&self, db: usize, key: &[u8]) -> bool {
        !self.is_empty() && find(&self.shard(db, key), db, key).is_some()
    }

    /// The first waiter for a key behind number `after` that wants a value of this type (`None`: there is no value).
    pub fn next(&self, db: usize, key: &[u8], after: u64, kind: Option<Kind>) -> Option<Arc<Waiter>> {
        let shard = self.shard(db, key);
        let line = find(&shard, db, key)?;
        if kind.is_none() && line.on_any_change == 0 {
            return None;
        }
        let start = line.waiters.partition_point(|waiter| waiter.number() <= after);
        line.waiters.range(start..).find(|waiter| waiter.wants(kind)).cloned()
    }

    /// Calls `found` with each key that those who wait for a key need locked besides it.
    pub fn also(&self, db: usize, key: &[u8], mut found: impl FnMut(usize, &[u8])) {
        let shard = self.shard(db, key);
        let Some(line) = find(&shard, db, key).filter(|line| line.with_also > 0) else { return };
        for waiter in &line.waiters {
            waiter.wanted.also.iter().for_each(|key| found(waiter.db, key));
        }
    }

    /// All keys that are waited for. With the gate closed.
    pub fn all_keys(&self) -> Vec<(usize, Vec<u8>)> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, lines) in shard.iter() {
                keys.extend(lines.iter().map(|(db, _)| (*db, key.clone())));
            }
        }
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::claim::Ending;
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

    fn waiter(id: u64, keys: &[&str], kind: Kind) -> Arc<Waiter> {
        let arrival = Arrival {
            address: String::new(),
            local_address: String::new(),
            descriptor: 0,
            now_ms: 0,
            worker: 0,
            place: 0,
            handle: Arc::new(Nobody),
        };
        let wanted = Wanted {
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            also: if id == 2 { vec![b"to".to_vec()] } else { Vec::new() },
            kind,
            on_any_change: id == 4,
            words: None,
            until_ms: u64::MAX,
        };
        let client = Arc::new(ClientInfo::new(id, arrival));
        Arc::new(Waiter::new(client, 0, Protocol::Resp2, false, 0, wanted, OwnedArgs::default()))
    }

    #[test]
    fn lines_keep_their_order() {
        let table = WaitTable::default();
        assert!(table.is_empty() && !table.has(0, b"a"));
        let list = Some(Kind::List);
        let waiters = [
            waiter(1, &["a", "b", "a"], Kind::List),
            waiter(2, &["a"], Kind::List),
            waiter(3, &["a"], Kind::SortedSet),
            waiter(4, &["a", "c"], Kind::Stream),
        ];
        waiters.iter().for_each(|waiter| table.enter(waiter));
        assert_eq!(table.keys(), 3);
        assert!(table.has(0, b"a") && !table.has(1, b"a"));
        let line = |kind| {
            let (mut found, mut after) = (Vec::new(), 0);
            while let Some(waiter) = table.next(0, b"a", after, kind) {
                after = waiter.number();
                found.push(waiter.client.id);
            }
            found
        };
        assert_eq!(line(list), [1, 2, 4]);
        assert_eq!(line(Some(Kind::SortedSet)), [3, 4]);
        assert_eq!(line(None), [4]);
        let mut also = Vec::new();
        table.also(0, b"a", |db, key| also.push((db, key.to_vec())));
        assert_eq!(also, [(0, b"to".to_vec())]);
        assert!(waiters[0].claim.end(Ending::TimedOut));
        table.leave(&waiters[0]);
        table.leave(&waiters[0]);
        assert_eq!(line(list), [2, 4]);
        assert_eq!(table.all_keys(), [(0, b"a".to_vec()), (0, b"c".to_vec())]);
        waiters.iter().for_each(|waiter| table.leave(waiter));
        assert!(table.is_empty() && table.keys() == 0);
    }
}
