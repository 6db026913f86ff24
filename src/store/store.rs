//! The store: an engine with four keyspaces, the numbered databases in it, and what commands share.
//!
//! ```text
//! meta     one record for each user key         data    what lies under ids
//! ttl      which key expires when               system  spaces, id and space counters, gc records, counts
//! ```
//!
//! A command works through a `Txn`; this file holds what outlives it: the mapping from database to space, locks, the gate,
//! counters. Background work is done in turns, each bounded, by whatever thread calls [`Store::background_turn`]
//! (`sweeper.rs`), so that tests can run it step by step.
//!
//! Lock order: gate, then key locks, then the small mutexes in here, of which never two at once.

use crate::base::clock::Clock;
use crate::encoding::meta::Space;
use crate::encoding::system;
use crate::store::access_times::AccessTimes;
use crate::store::cursors::Cursors;
use crate::store::databases::{Counts, Database};
use crate::store::end_places::EndPlaces;
use crate::store::events::{CommitListener, Committed, EventClass};
use crate::store::fence_cache::FenceCache;
use crate::store::gate::Gate;
use crate::store::hooks::META_KEYSPACE;
use crate::store::ids::Ids;
use crate::store::key_locks::KeyLocks;
use crate::store::known_elements::KnownElements;
use crate::store::limits::{FENCE_ELEMENTS_MAX, PACKED_BYTES_MAX, PACKED_ELEMENTS_MAX};
use crate::store::pending::{ExpiredSeen, FieldSweeps, GcHints, SpaceId, Sweep, UnderConstruction};
use crate::store::plain_keys::PlainKeys;
use crate::store::read_ahead::ReadAhead;
use crate::store::recount::Recount;
use haypile_lsm::{
    Db, Durability, Error, KeyspaceId, KeyspaceOptions, ReadOptions, Result, WriteBatch, WriteOptions,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// In what commits tell of: which keys changed.
const RECORD_KEYS: u32 = 1 << 31;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How many numbered databases.
    pub databases: usize,
    /// How many threads pass the gate without disturbing each other.
    pub gate_slots: usize,
    /// Tells the time.
    pub clock: Clock,
    /// Up to where a collection stays in its record.
    pub packed: PackedLimits,
    /// Most elements of a large sorted set between two fences; 2 at least.
    pub fence_elements_max: u64,
    /// Memory for remembering which keys hold plain records.
    pub plain_keys_bytes: usize,
    /// Memory for the fences of large sorted sets.
    pub fence_cache_bytes: usize,
    /// Memory for remembering which elements of large hashes and sets are stored.
    pub known_elements_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            databases: 16,
            gate_slots: 64,
            clock: Clock::new(),
            packed: PackedLimits::default(),
            fence_elements_max: FENCE_ELEMENTS_MAX,
            plain_keys_bytes: 1 << 20,
            fence_cache_bytes: 1 << 20,
            known_elements_bytes: 1 << 20,
        }
    }
}

/// Up to where a collection stays in its record. With zeros every collection lies under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLimits {
    /// So many elements (fields of a hash, members, ..).
    pub elements_max: usize,
    /// So many bytes of packed body.
    pub bytes_max: usize,
}

impl Default for PackedLimits {
    fn default() -> Self {
        PackedLimits { elements_max: PACKED_ELEMENTS_MAX, bytes_max: PACKED_BYTES_MAX }
    }
}

impl PackedLimits {
    /// Whether a collection of this size stays packed.
    pub fn allow(&self, elements: usize, bytes: usize) -> bool {
        elements <= self.elements_max && bytes <= self.bytes_max
    }
}

/// The search for entries of flushed databases in `ttl`.
#[derive(Debug, Default)]
pub(super) struct DeadWalk {
    /// Whose entries it removes; none if it is not under way.
    pub(super) spaces: HashSet<Space>,
    /// Where the next slice begins.
    pub(super) from: Vec<u8>,
}

/// Where the walk over the owners of ids is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnerWalk {
    /// When the next one begins.
    pub(super) due_ms: u64,
    /// Where the next slice begins, if one is under way.
    pub(super) from: Option<SpaceId>,
    /// When the next turn may be.
    pub(super) pause_until_ms: u64,
    /// How many there were.
    pub(super) turns: u32,
}

/// Numbers of the four keyspaces.
#[derive(Clone, Copy, Debug)]
pub struct Keyspaces {
    /// One record for each user key.
    pub meta: KeyspaceId,
    /// What lies under ids.
    pub data: KeyspaceId,
    /// Which key expires when.
    pub ttl: KeyspaceId,
    /// The server's own records.
    pub system: KeyspaceId,
}

/// Which slot of the gate background work uses: the last one.
pub const BACKGROUND_SLOT: usize = usize::MAX;
/// How many records a recount looks at in one slice.
const RECOUNT_SLICE: usize = 10_000;
/// How long a recount that only corrects waits for the gate.
const GATE_PATIENCE: Duration = Duration::from_millis(5);
/// Fewer beliefs than this start no recount of many keys while there are more and more of them.
const BELIEFS_MIN: u64 = 100_000;
/// When no more have come for so long, keys are counted again, however many.
const BELIEFS_QUIET_MS: u64 = 3_000;
/// After a recount there is none of this kind for so many times as long as it took.
const RECOUNT_REST: u64 = 20;

/// An engine with databases in it.
pub struct Store {
    db: Arc<Db>,
    keyspaces: Keyspaces,
    clock: Clock,
    packed: PackedLimits,
    fence_elements_max: u64,
    fence_cache: FenceCache,
    read_ahead: ReadAhead,
    end_places: EndPlaces,
    known_elements: KnownElements,
    locks: KeyLocks,
    gate: Gate,
    databases: Box<[Database]>,
    next_space: Mutex<Space>,
    ids: Ids,
    cursors: Cursors,
    access_times: AccessTimes,
    plain_keys: PlainKeys,
    /// Ids being built aside.
    pub(super) under_construction: UnderConstruction,
    /// Ids for the reaper.
    pub(super) gc_hints: GcHints,
    /// Keys for the sweeper.
    pub(super) expired_seen: ExpiredSeen,
    /// How far the sweeper is in large hashes.
    pub(super) field_sweeps: FieldSweeps,
    /// Where the sweep for what has expired is.
    pub(super) sweep: Mutex<Sweep>,
    /// Spaces that were flushed and whose ttl entries may be left.
    pub(super) dead_spaces: AtomicBool,
    /// Whether the sweeper looks for keys that nobody asked for (DEBUG SET-ACTIVE-EXPIRE).
    active_expire: AtomicBool,
    dead_walk: Mutex<DeadWalk>,
    /// None until it was read.
    owner_walk: Mutex<Option<OwnerWalk>>,
    recount: Mutex<Option<Recount>>,
    recount_pace: Mutex<RecountPace>,
    /// The counts are not known yet: a recount after a crash is under way.
    counting: AtomicBool,
    /// Blind writes since the last count that believed in a record below without seeing it.
    beliefs: AtomicU64,
    /// What commits tell of: classes of events, and [`RECORD_KEYS`].
    told: AtomicU32,
    listener: OnceLock<Arc<dyn CommitListener>>,
    /// Keys that expired.
    expired_keys: AtomicU64,
    /// What the last turn of the sweeper deleted.
    pub(super) swept: Mutex<Vec<(usize, Vec<u8>)>>,
    reclaimed: AtomicU64,
    /// Fields of hashes that the sweeper removed.
    pub(super) expired_fields: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("databases", &self.databases.len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The options of every write but a client's: no waiting for the log, which somebody writes soon.
pub(super) fn background_write() -> WriteOptions {
    WriteOptions {
        durability: Durability::Memory,
        obey_delay: false,
        frees_space: true,
        ..WriteOptions::default()
    }
}

impl Store {
    /// Opens the keyspaces, making what is missing. After a crash a recount is due, see [`is_counting`](Self::is_counting).
    pub fn open(db: Arc<Db>, options: StoreOptions) -> Result<Arc<Store>> {
        // Entries of `ttl` and system records are walked, not looked up: no filters.
        let walked = KeyspaceOptions { bloom_bits_per_key: 0, ..KeyspaceOptions::default() };
        let keyspaces = Keyspaces {
            meta: db.keyspace_or_create(META_KEYSPACE, KeyspaceOptions::default())?,
            data: db.keyspace_or_create("data", KeyspaceOptions::default())?,
            ttl: db.keyspace_or_create("ttl", walked)?,
            system: db.keyspace_or_create("system", walked)?,
        };
        let found = Found::read(&db, keyspaces.system, options.databases)?;
        found.write_back(&db, keyspaces.system)?;
        let store = Arc::new(Store {
            keyspaces,
            clock: options.clock,
            packed: options.packed,
            fence_elements_max: options.fence_elements_max,
            fence_cache: FenceCache::new(options.fence_cache_bytes),
            read_ahead: ReadAhead::default(),
            end_places: EndPlaces::default(),
            known_elements: KnownElements::new(options.known_elements_bytes),
            locks: KeyLocks::new(),
            gate: Gate::new(options.gate_slots),
            databases: found.databases.iter().map(|(space, counts)| Database::new(*space, *counts)).collect(),
            next_space: Mutex::new(found.next_space),
            ids: Ids::new(found.next_id),
            cursors: Cursors::new(options.clock.unix_us().wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            access_times: AccessTimes::new(options.clock.unix_ms()),
            plain_keys: PlainKeys::new(options.plain_keys_bytes),
            under_construction: UnderConstruction::default(),
            gc_hints: GcHints::new(),
            expired_seen: ExpiredSeen::default(),
            field_sweeps: FieldSweeps::default(),
            sweep: Mutex::default(),
            dead_spaces: AtomicBool::new(true),
            active_expire: AtomicBool::new(true),
            dead_walk: Mutex::default(),
            owner_walk: Mutex::default(),
            recount: Mutex::new(None),
            recount_pace: Mutex::default(),
            counting: AtomicBool::new(false),
            beliefs: AtomicU64::new(found.beliefs),
            told: AtomicU32::new(0),
            listener: OnceLock::new(),
            expired_keys: AtomicU64::new(0),
            swept: Mutex::default(),
            reclaimed: AtomicU64::new(0),
            expired_fields: AtomicU64::new(0),
            db,
        });
        if !found.fresh {
            store.databases.iter().for_each(Database::touch);
        }
        if !found.counted {
            store.counting.store(true, Relaxed);
            *lock(&store.recount) = Some(store.new_recount());
        }
        Ok(store)
    }

    /// Says who tells the world of commits. Called once.
    pub fn set_listener(&self, listener: Arc<dyn CommitListener>) {
        // A second call would be a bug of the caller; the first one stays.
        let _ = self.listener.set(listener);
    }

    /// Says which events commands are to note, and whether to record which keys change.
    pub fn tell(&self, classes: EventClass, changed_keys: bool) {
        let keys = if changed_keys { RECORD_KEYS } else { 0 };
        // SeqCst: pairs with the load in `tells_keys_now`.
        self.told.store(classes.0 | keys, SeqCst);
    }

    /// What commits tell of.
    #[inline]
    pub(super) fn told(&self) -> (EventClass, bool) {
        let told = self.told.load(Relaxed);
        (EventClass(told & !RECORD_KEYS), told & RECORD_KEYS != 0)
    }

    /// Whether anybody wants to know which keys changed, as of now.
    pub(super) fn tells_keys_now(&self) -> bool {
        // SeqCst: a tracker stores this and then reads, a commit becomes visible and then loads it; one of them sees the other.
        self.told.load(SeqCst) & RECORD_KEYS != 0
    }

    /// Tells of a commit.
    pub(super) fn committed(&self, commit: &Committed<'_>) {
        if let Some(listener) = self.listener.get() {
            listener.committed(commit);
        }
    }

    /// The engine.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// Up to where a collection stays in its record.
    pub fn packed(&self) -> PackedLimits {
        self.packed
    }

    /// Most elements of a large sorted set between two fences.
    pub fn fence_elements_max(&self) -> u64 {
        self.fence_elements_max
    }

    /// Elements of large collections known to be stored.
    pub fn known_elements(&self) -> &KnownElements {
        &self.known_elements
    }

    /// The outermost elements of large sorted sets.
    pub fn end_places(&self) -> &EndPlaces {
        &self.end_places
    }

    /// Elements read ahead by those who pop.
    pub fn read_ahead(&self) -> &ReadAhead {
        &self.read_ahead
    }

    /// The fences of large sorted sets in memory.
    pub fn fence_cache(&self) -> &FenceCache {
        &self.fence_cache
    }

    /// The keyspaces.
    pub fn keyspaces(&self) -> Keyspaces {
        self.keyspaces
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When keys were last used.
    pub fn access_times(&self) -> &AccessTimes {
        &self.access_times
    }

    /// Keys known to hold a plain record.
    pub fn plain_keys(&self) -> &PlainKeys {
        &self.plain_keys
    }

    /// Locks of keys.
    pub fn locks(&self) -> &KeyLocks {
        &self.locks
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Cursors of SCAN.
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// How many numbered databases.
    pub fn databases(&self) -> usize {
        self.databases.len()
    }

    /// A numbered database. `None` beyond the last.
    pub fn database(&self, db: usize) -> Option<&Database> {
        self.databases.get(db)
    }

    /// The space of a database. Stable only while the gate is held.
    #[inline]
    pub fn space_of(&self, db: usize) -> Space {
        self.databases.get(db).map_or(0, Database::space)
    }

    /// The database that a space belongs to; `None` for a flushed one. Stable only while the gate is held.
    pub fn database_of(&self, space: Space) -> Option<usize> {
        self.databases.iter().position(|database| database.space() == space)
    }

    /// How many keys; expired ones that nobody has met are counted, as in Redis. See [`is_counting`](Self::is_counting).
    pub fn dbsize(&self, db: usize) -> u64 {
        let Some(database) = self.databases.get(db) else { return 0 };
        let seen = self.expired_seen.count_in(database.space()) as i64;
        (database.raw_counts().keys - seen).max(0) as u64
    }

    /// How many keys have an expiry.
    pub fn expires(&self, db: usize) -> u64 {
        let Some(database) = self.databases.get(db) else { return 0 };
        let seen = self.expired_seen.count_in(database.space()) as i64;
        (database.raw_counts().expires - seen).max(0) as u64
    }

    /// Mean time to live of the keys that have an expiry, in ms.
    pub fn average_ttl_ms(&self, db: usize) -> u64 {
        let counts = self.databases.get(db).map(Database::counts).unwrap_or_default();
        counts.average_ttl_ms(self.clock.unix_ms())
    }

    /// Keys that expired since the start.
    pub fn expired_keys(&self) -> u64 {
        self.expired_keys.load(Relaxed)
    }

    /// Fields of hashes that expired since the start and were removed by the sweeper.
    pub fn expired_fields(&self) -> u64 {
        self.expired_fields.load(Relaxed)
    }

    /// Values with an id whose space was given back since the start or the last [`reset_counters`](Self::reset_counters).
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Relaxed)
    }

    /// Values with an id that may still have to be given back.
    pub fn reclaims_pending(&self) -> usize {
        self.gc_hints.pending()
    }

    /// Counts values whose space was given back.
    pub(super) fn add_reclaimed(&self, by: u64) {
        self.reclaimed.fetch_add(by, Relaxed);
    }

    /// CONFIG RESETSTAT.
    pub fn reset_counters(&self) {
        for counter in [&self.expired_keys, &self.expired_fields, &self.reclaimed] {
            counter.store(0, Relaxed);
        }
    }

    /// Counts keys that expired.
    pub(super) fn add_expired_keys(&self, by: u64) {
        if by != 0 {
            self.expired_keys.fetch_add(by, Relaxed);
        }
    }

    /// Counts blind writes that believed in a record.
    pub(super) fn add_beliefs(&self, by: u64) {
        if by != 0 {
            self.beliefs.fetch_add(by, Relaxed);
        }
    }

    /// Blind writes since the last count that believed in a record without seeing it; while 0 the counts are exact.
    pub fn beliefs(&self) -> u64 {
        self.beliefs.load(Relaxed)
    }

    /// Whether keys expire that nobody asks for.
    pub fn active_expire(&self) -> bool {
        self.active_expire.load(Relaxed)
    }

    /// Whether keys expire that nobody asks for. They read as absent in any case.
    pub fn set_active_expire(&self, on: bool) {
        self.active_expire.store(on, Relaxed);
    }

    /// The search for entries of flushed databases.
    pub(super) fn dead_walk(&self) -> MutexGuard<'_, DeadWalk> {
        lock(&self.dead_walk)
    }

    /// The walk over the owners of ids.
    pub(super) fn owner_walk(&self) -> MutexGuard<'_, Option<OwnerWalk>> {
        lock(&self.owner_walk)
    }

    /// An id that was never used.
    pub(super) fn take_id(&self) -> Result<u64> {
        self.ids.take(&self.db, self.keyspaces.system)
    }

    /// A space that was never used, and the one after it, which has to be written with the first use.
    pub(super) fn take_space(&self) -> Result<(Space, Space)> {
        let mut next = lock(&self.next_space);
        let space = *next;
        if space >= Space::MAX - 1 {
            return Err(Error::invalid("every space was used"));
        }
        *next += 1;
        Ok((space, space + 1))
    }

    fn raw_counts(&self) -> HashMap<Space, Counts> {
        self.databases.iter().map(|database| (database.space(), database.raw_counts())).collect()
    }

    /// A recount of what is there now. Nothing may be between its commit and its booking.
    fn new_recount(&self) -> Recount {
        Recount::new(self.db.snapshot(), self.raw_counts(), self.beliefs())
    }

    /// Whether the counts are still unknown, after a crash. Then DBSIZE belongs on a pool, behind
    /// [`finish_counting`](Self::finish_counting).
    pub fn is_counting(&self) -> bool {
        self.counting.load(Relaxed)
    }

    /// Counts until the counts are known. Long; for a command on a pool, which is inside the gate.
    pub fn finish_counting(&self) -> Result<()> {
        while self.is_counting() {
            self.advance_recount(true)?;
        }
        Ok(())
    }

    /// One slice of a recount, if one is due or under way; whether there is more. Waits for the gate; for the background.
    pub fn recount_turn(&self) -> Result<bool> {
        if lock(&self.recount).is_none() {
            if !self.recount_is_due() {
                return Ok(false);
            }
            // Closed, so that no command is between its commit and its booking: these counts are of this snapshot. The
            // recount's lock is not held meanwhile, for a command inside may want it.
            let Some(closed) = self.gate.close_within(GATE_PATIENCE) else { return Ok(false) };
            *lock(&self.recount) = Some(self.new_recount());
            drop(closed);
            lock(&self.recount_pace).begun_ms = self.clock.monotonic_ms();
        }
        self.advance_recount(false)
    }

    /// Counts one slice. Whether there is more.
    fn advance_recount(&self, inside_gate: bool) -> Result<bool> {
        let mut recount = lock(&self.recount);
        let Some(under_way) = recount.as_mut() else { return Ok(false) };
        if !under_way.slice(&self.db, self.keyspaces.meta, self.keyspaces.ttl, RECOUNT_SLICE)? {
            return Ok(true);
        }
        let guard = self.gate.enter(BACKGROUND_SLOT);
        if guard.is_none() && !inside_gate {
            return Ok(true);
        }
        for database in &self.databases {
            if let Some(correction) = under_way.correction(database.space()) {
                database.book(correction);
            }
        }
        // Only now: a recount that is dropped has put nothing right.
        self.beliefs.fetch_sub(under_way.beliefs(), Relaxed);
        *recount = None;
        self.counting.store(false, Relaxed);
        lock(&self.recount_pace).rest(self.clock.monotonic_ms());
        Ok(false)
    }

    /// A filter lies once in about a hundred times, so as many beliefs as keys may have cost a hundredth of the count. Few keys
    /// are counted again after any belief: one slice is all of them; many also when no more beliefs come, at a twentieth of the time
    /// at most.
    fn recount_is_due(&self) -> bool {
        let beliefs = self.beliefs.load(Relaxed);
        beliefs > 0 && {
            let keys: i64 = self.databases.iter().map(|database| database.counts().keys).sum();
            keys < RECOUNT_SLICE as i64
                || beliefs > BELIEFS_MIN.max(keys as u64)
                || lock(&self.recount_pace).is_quiet(beliefs, self.clock.monotonic_ms())
        }
    }

    /// Writes the counts and closes the engine. Nothing may run on the store any more.
    pub fn close(&self) -> Result<()> {
        let mut recount = lock(&self.recount);
        // A recount that only corrects may be dropped; one that is needed is made again at the next open.
        *recount = None;
        if !self.is_counting() {
            let mut batch = WriteBatch::new();
            for database in &self.databases {
                let counts = database.raw_counts();
                let value = system::count_value([counts.keys, counts.expires, counts.expiry_seconds]);
                batch.put(self.keyspaces.system, &system::count_key(database.space()), &value)?;
            }
            batch.put(self.keyspaces.system, system::CLEAN_KEY, &self.beliefs().to_be_bytes())?;
            self.db.write(&batch, &background_write())?;
        }
        self.db.close()
    }
}

/// When to count again though little has been believed. Times are monotonic.
#[derive(Debug, Default)]
struct RecountPace {
    /// The beliefs when they were last seen to be more.
    beliefs: u64,
    since_ms: u64,
    begun_ms: u64,
    rest_until_ms: u64,
}

impl RecountPace {
    fn is_quiet(&mut self, beliefs: u64, now_ms: u64) -> bool {
        if self.beliefs != beliefs {
            (self.beliefs, self.since_ms) = (beliefs, now_ms);
        }
        now_ms.saturating_sub(self.since_ms) >= BELIEFS_QUIET_MS && now_ms >= self.rest_until_ms
    }

    fn rest(&mut self, now_ms: u64) {
        self.rest_until_ms = now_ms + now_ms.saturating_sub(self.begun_ms).saturating_mul(RECOUNT_REST);
        self.beliefs = 0;
    }
}

/// What the system keyspace said at open.
struct Found {
    databases: Vec<(Space, Counts)>,
    /// Databases that had no space record.
    new: Vec<usize>,
    next_space: Space,
    next_id: u64,
    /// Nothing was there: a new folder.
    fresh: bool,
    /// The counts are right.
    counted: bool,
    /// But for this many beliefs.
    beliefs: u64,
}

impl Found {
    fn read(db: &Db, system: KeyspaceId, databases: usize) -> Result<Found> {
        let get = |key: &[u8]| db.get(system, key, &ReadOptions::default());
        let damaged = |what: &str| Error::corruption(Path::new("keyspace system"), 0, what);
        let number = |value: Option<Vec<u8>>, what: &str| match value {
            None => Ok(None),
            Some(value) => system::read_u32(&value).map(Some).ok_or_else(|| damaged(what)),
        };
        let next_space = number(get(system::NEXT_SPACE_KEY)?, "next space")?;
        let next_id = match get(system::NEXT_ID_KEY)? {
            None => 1,
            Some(value) => system::read_u64(&value).ok_or_else(|| damaged("next id"))?,
        };
        let fresh = next_space.is_none();
        let clean = get(system::CLEAN_KEY)?;
        let beliefs = clean.as_deref().and_then(system::read_u64).unwrap_or(0);
        let clean = clean.is_some();
        let mut found = Found {
            databases: Vec::new(),
            new: Vec::new(),
            next_space: next_space.unwrap_or(1),
            next_id,
            fresh,
            counted: fresh || clean,
            beliefs,
        };
        for number in 0..databases {
            let Some(value) = get(&system::space_key(number))? else {
                found.new.push(number);
                found.databases.push((found.next_space, Counts::default()));
                found.next_space += 1;
                continue;
            };
            let (space, slots) = system::read_space(&value).ok_or_else(|| damaged("space record"))?;
            if slots {
                return Err(Error::invalid("this folder was written in cluster mode"));
            }
            let mut counts = Counts::default();
            if clean && let Some(value) = get(&system::count_key(space))? {
                let [keys, expires, expiry_seconds] =
                    system::read_counts(&value).ok_or_else(|| damaged("counts"))?;
                counts = Counts { keys, expires, expiry_seconds };
            }
            found.databases.push((space, counts));
        }
        Ok(found)
    }

    /// Takes the mark of a clean close away before anything else is written, and makes new space records.
    fn write_back(&self, db: &Db, system: KeyspaceId) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete(system, system::CLEAN_KEY)?;
        for &number in &self.new {
            batch.put(system, &system::space_key(number), &system::space_value(self.databases[number].0))?;
        }
        batch.put(system, system::NEXT_SPACE_KEY, &self.next_space.to_be_bytes())?;
        db.write(&batch, &background_write()).map(drop)
    }
}
