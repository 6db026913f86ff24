//! One command's reads and staged effects.
//!
//! A worker owns one `Txn` and uses it for command after command: `begin`, reads and staging by the handler, then `commit`
//! or `abandon`. Everything a command does to the database is staged here, in one batch, together with what the commit
//! moves outside of it (counters, hints for the reaper, spaces of databases); nothing happens before the engine's commit
//! returns, and all of it right after.
//!
//! ```text
//! Inline   reads memory only (NeedsIo) and within a budget (Budget); both mean: abandoned, run again elsewhere
//! Pool     reads the disk, as much as it likes
//! ```
//!
//! *Which version is read.* A command that holds key locks reads the latest. A plain read may be told to read what a crash
//! cannot take back. A command with several plain reads pins a read point first, so that they agree.
//!
//! *What lies below.* A write needs to know what it replaces: for the counts, for the entry in `ttl`, for the id that may
//! lose its holder. A command that reads its key knows ([`load`](Txn::load)). A blind one looks in memory
//! ([`look`](Txn::look)), first among the [keys known to be plain](crate::store::plain_keys), and never goes to the disk: a filter that says no is believed, and one that says maybe as well.
//! A wrong belief costs one count until the next recount; an id lost from sight is noticed when compaction drops the
//! record; a stale entry in `ttl` goes when its time comes. Staging takes that knowledge, a [`Before`], with each write.
//!
//! *Own writes.* A second write to the same key in one command (`MSET a 1 a 2`, `DEL a a`) knows of the first. Plain views
//! and iterators see the database as it was before the command.
//!
//! *Several commands as one* (EXEC). Each stages as if it were alone. When it has succeeded its batch joins that of those before it
//! ([`Earlier`]), which lies over everything that the next ones read; when it has failed its batch is dropped. So a command of an
//! EXEC sees what earlier ones did and, as ever, nothing of its own. All read at one pinned moment; all is one batch in the log.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{self, Due, Head, Kind, Record, Space};
use crate::encoding::{data, system, ttl};
use crate::store::aside::Aside;
use crate::store::databases::{Counts, Database};
use crate::store::events::{ChangedKey, Committed, Effect, EventClass, OwnShare, Readied};
use crate::store::fence_cache::{ChangeSums, FenceChange};
use crate::store::limits::{INLINE_BYTES, INLINE_RECORDS, ONE_BATCH_BYTES_MAX, USER_KEY_BYTES_MAX};
use crate::store::staged::{Earlier, Staged};
use crate::store::store::Store;
use haypile_lsm::base::key::ValueKind;
use haypile_lsm::{
    Durability, Error, Iter, IterOptions, KeyspaceId, Lsn, Overlay, ReadOptions, Reader, WriteBatch,
    WriteOptions,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xxhash_rust::xxh3::xxh3_64;

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a worker: memory only, within a budget.
    Inline,
    /// On a pool: may read the disk.
    Pool,
}

/// Which version plain reads see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPoint {
    /// The latest.
    Latest,
    /// What is on the disk, and what this connection wrote or was told of itself: up to this LSN.
    SyncedOr(Lsn),
}

/// What a command draws once, however often it is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draws {
    /// The time, in ms since 1970.
    pub now_ms: u64,
    /// Random bits.
    pub seed: u64,
}

/// What a command did, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnStats {
    /// Plain reads that found a key.
    pub hits: u64,
    /// Plain reads that did not.
    pub misses: u64,
    /// Changes to keys.
    pub dirty: u64,
}

/// A key and where it is.
#[derive(Clone, Copy, Debug)]
pub struct At<'k> {
    /// Number of the database.
    pub db: usize,
    /// The space it stands for.
    pub space: Space,
    /// The user's key.
    pub key: &'k [u8],
}

/// What a write knows of the record it replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// There is a record, or is believed to be: it is counted.
    counted: bool,
    /// It had expired.
    expired: bool,
    /// It is only believed in.
    believed: bool,
    /// Its entry in `ttl`.
    due: Due,
    /// Its id; 0 for none.
    id: u64,
}

impl Before {
    fn of(head: &Head, now_ms: u64) -> Before {
        let expired = head.is_expired(now_ms);
        Before { counted: true, expired, believed: false, due: head.due(), id: head.id }
    }

    /// Whether there is a record, expired or not, or one is believed in.
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// Whether there is a record that has expired.
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    /// Whether there is a value, or one is believed in.
    pub fn is_live(&self) -> bool {
        self.counted && !self.expired
    }

    /// The record's entry in `ttl`.
    pub fn due(&self) -> Due {
        self.due
    }

    /// The same, but its id goes on to live elsewhere (RENAME) or in the record that comes (a change in place).
    pub fn keeping_id(self) -> Before {
        Before { id: 0, ..self }
    }
}

/// What a commit changed, for those who watch or cache keys.
#[derive(Debug, Default)]
pub struct Changes {
    /// Keys.
    pub keys: Vec<ChangedKey>,
    /// Whole databases.
    pub databases: Vec<Effect>,
}

/// A key that was read to be changed.
#[derive(Debug, Default)]
pub struct Slot {
    /// What a write to it has to know.
    pub before: Before,
    head: Option<Head>,
    body: Vec<u8>,
}

impl Slot {
    /// Head of the value; `None` if there is none.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether there is a value.
    pub fn is_live(&self) -> bool {
        self.head.is_some()
    }

    /// Body of the value; empty if there is none.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the body out.
    pub fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// When it expires, in ms since 1970; 0 for never, or if there is no value.
    pub fn expire_ms(&self) -> u64 {
        self.head.map_or(0, |head| head.expire_ms)
    }
}

/// Writes the elements of a value that gets an id.
#[derive(Debug)]
pub struct Builder {
    id: u64,
    space: Space,
    aside: Option<Aside>,
}

impl Builder {
    /// The id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Adds a record of keyspace `data`.
    pub fn put(&mut self, txn: &mut Txn, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        match &mut self.aside {
            Some(aside) => Ok(aside.put(key, value)?),
            None => txn.put_data(key, value),
        }
    }

    /// Stages what makes it the value's id of `at`: the owner. The record itself is [`Txn::put`].
    pub fn link(self, txn: &mut Txn, at: At<'_>) -> Result<(), Stop> {
        debug_assert_eq!(at.space, self.space);
        if let Some(aside) = self.aside {
            txn.staged.guards.push(aside.finish()?);
            txn.batch.delete(txn.store.keyspaces().system, &system::gc_key(self.space, self.id))?;
        }
        txn.put_owner(at, self.id)
    }
}

/// What a look at a key is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// A use of its value.
    Use,
    /// A question about it.
    Question,
    /// Neither.
    Glance,
}

/// One command's transaction. See the file's head.
pub struct Txn {
    store: Arc<Store>,
    db: usize,
    space: Space,
    mode: Mode,
    point: ReadPoint,
    draws: Draws,
    reader: Option<Reader>,
    records_left: u32,
    bytes_left: u64,
    has_read: bool,
    /// Known after the commit.
    need: Option<Lsn>,
    stats: TxnStats,
    // Staged.
    batch: WriteBatch,
    staged: Staged,
    /// In an EXEC: what its commands before this one staged.
    earlier: Option<Box<Earlier>>,
    /// Statistics of those.
    stats_earlier: TxnStats,
    /// Classes of events that are noted.
    told: EventClass,
    /// The client whose command it is; 0 for none.
    origin: u64,
    /// Somebody caches keys and wants to know which change; whoever watches some wants to know of them alone.
    tells_keys: bool,
    /// Somebody wants to know which keys change.
    records_keys: bool,
    /// The command changes what lies beside a value (groups of a stream), which is no change of its key.
    is_quiet: bool,
    /// What the last commit changed, if somebody wanted to know.
    committed: Changes,
    /// Somebody wants to know which keys may be ready for those who wait for them.
    notes_ready: bool,
    /// What the last commit made so, likewise.
    ready: Vec<Readied>,
    /// Reads leave the keys' times of last use alone (CLIENT NO-TOUCH).
    no_touch: bool,
    /// Set once nobody will take the answer, if the command is to end then.
    gone: Option<Arc<AtomicBool>>,
    /// What is staged for which key (by hash of its `meta` key), once somebody asked.
    own: HashMap<u64, Before>,
    own_is_complete: bool,
    // Buffers, kept for their allocations.
    meta_key: Vec<u8>,
    ttl_key: Vec<u8>,
    spare: Vec<u8>,
}

impl std::fmt::Debug for Txn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn").field("db", &self.db).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// The answer of a command whose client has gone: nobody reads it.
const CLIENT_GONE: ReplyError = ReplyError::fixed("ERR the client has gone");

/// A buffer that has grown beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

impl Txn {
    /// A transaction to be begun.
    pub fn new(store: Arc<Store>) -> Txn {
        Txn {
            store,
            db: 0,
            space: 0,
            mode: Mode::Pool,
            point: ReadPoint::Latest,
            draws: Draws::default(),
            reader: None,
            records_left: 0,
            bytes_left: 0,
            has_read: false,
            need: None,
            stats: TxnStats::default(),
            batch: WriteBatch::new(),
            staged: Staged::default(),
            earlier: None,
            stats_earlier: TxnStats::default(),
            told: EventClass::default(),
            origin: 0,
            tells_keys: false,
            records_keys: false,
            is_quiet: false,
            committed: Changes::default(),
            notes_ready: false,
            ready: Vec::new(),
            no_touch: false,
            gone: None,
            own: HashMap::new(),
            own_is_complete: false,
            meta_key: Vec::new(),
            ttl_key: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Begins a command on database `db`. Inside the gate, and with the keys locked that it will write.
    #[inline]
    pub fn begin(&mut self, db: usize, mode: Mode, draws: Draws, point: ReadPoint) {
        self.abandon();
        self.db = db;
        self.space = self.store.space_of(db);
        self.mode = mode;
        self.point = point;
        self.draws = draws;
        (self.records_left, self.bytes_left) = match mode {
            Mode::Inline => (INLINE_RECORDS, INLINE_BYTES),
            Mode::Pool => (u32::MAX, u64::MAX),
        };
        self.has_read = false;
        self.no_touch = false;
        self.gone = None;
        self.need = None;
        self.stats = TxnStats::default();
        (self.told, self.tells_keys) = self.store.told();
        self.origin = 0;
        self.records_keys = self.tells_keys;
        self.is_quiet = false;
        self.notes_ready = false;
    }

    /// Forgets everything staged.
    #[inline]
    pub fn abandon(&mut self) {
        self.reader = None;
        self.earlier = None;
        self.drop_own();
    }

    /// Forgets what the command has staged.
    #[inline]
    fn drop_own(&mut self) {
        if self.own_is_complete {
            self.own.clear();
            self.own_is_complete = false;
        }
        self.staged.takes_space = false;
        self.staged.flushes = false;
        if self.batch.is_empty()
            && self.staged.guards.is_empty()
            && self.staged.keys.is_empty()
            && self.staged.ready.is_empty()
            && self.staged.events.is_empty()
            && self.staged.fences.is_empty()
            && self.staged.elements.is_empty()
        {
            return;
        }
        if self.batch.encoded_len() > KEPT_BUFFER_BYTES {
            self.batch = WriteBatch::new();
        } else {
            self.batch.clear();
        }
        self.staged.clear();
    }

    /// The command has failed: nothing is staged any more. Keys that it missed are told of.
    pub fn fail(&mut self) {
        if !self.staged.events.is_empty() {
            self.staged.events.retain_misses();
            self.tell_events();
        }
        self.abandon();
    }

    #[cold]
    fn tell_events(&self) {
        self.store.committed(&Committed {
            events: &self.staged.events,
            keys: &[],
            expired_keys: &[],
            tells_keys: false,
            keys_known: true,
            flushes: false,
            origin: self.origin,
            lsn: 0,
        });
    }

    // Several commands as one: EXEC.

    /// What was begun becomes several commands, each begun with [`begin_command`](Self::begin_command) and ended with
    /// [`keep_command`](Self::keep_command) or [`drop_command`](Self::drop_command). They read at one moment, each what those before it
    /// staged, and are committed as one.
    pub fn begin_several(&mut self) {
        self.pin();
        self.earlier = Some(Box::default());
        self.stats_earlier = self.stats;
    }

    /// Keys that earlier ones of several commands have changed, as far as anybody is told of changes.
    pub fn changed_earlier(&self) -> impl Iterator<Item = &[u8]> {
        self.earlier.iter().flat_map(|earlier| &earlier.staged.keys).map(|changed| &*changed.key)
    }

    /// Begins the next of several commands.
    pub fn begin_command(&mut self, db: usize, seed: u64) {
        self.db = db;
        self.space = self.space_of(db);
        self.draws.seed = seed;
        self.told = self.store.told().0;
        self.is_quiet = false;
    }

    /// The command has succeeded. An error (the batch is full) means that it has not.
    pub fn keep_command(&mut self) -> Result<(), Error> {
        let built_aside = !self.staged.guards.is_empty();
        if let Some(earlier) = &mut self.earlier
            && (built_aside
                || !self.batch.is_empty()
                || !self.staged.keys.is_empty()
                || !self.staged.events.is_empty()
                || self.staged.flushes)
        {
            earlier.append(&self.batch, &mut self.staged)?;
        }
        self.drop_own();
        self.stats_earlier = self.stats;
        if built_aside {
            // The elements were committed just now. The keys are locked: nothing else of what was read has moved.
            self.reader = None;
            self.pin();
        }
        Ok(())
    }

    /// The command has failed: as if it had never been, but for keys that it missed.
    pub fn drop_command(&mut self) {
        self.staged.events.retain_misses();
        if let Some(earlier) = &mut self.earlier {
            earlier.staged.events.append(&mut self.staged.events);
        }
        self.drop_own();
        self.stats.dirty = self.stats_earlier.dirty;
    }

    /// Commits what is staged, then lets it take effect outside of the engine. `None` if nothing was staged. On an error
    /// nothing has happened.
    #[inline]
    pub fn commit(&mut self) -> Result<Option<Lsn>, Error> {
        let (batch, staged) = match &mut self.earlier {
            None => (&self.batch, &mut self.staged),
            Some(earlier) => (earlier.batch.batch(), &mut earlier.staged),
        };
        let tell = |staged: &Staged, lsn| {
            // Looked at behind the commit: who asks to be told and then does not see it is told that anything may have changed.
            let keys_known = self.tells_keys || lsn == 0 || !self.store.tells_keys_now();
            if !staged.events.is_empty() || self.tells_keys || !keys_known {
                self.store.committed(&Committed {
                    events: &staged.events,
                    keys: &staged.keys,
                    expired_keys: &staged.expired_keys,
                    tells_keys: self.tells_keys,
                    keys_known,
                    flushes: staged.flushes,
                    origin: self.origin,
                    lsn,
                });
            }
        };
        if batch.is_empty() {
            tell(staged, 0);
            self.committed.keys = std::mem::take(&mut staged.keys);
            self.need = Some(self.need_of_reads());
            self.abandon();
            return Ok(None);
        }
        let options = WriteOptions {
            durability: Durability::Memory,
            disable_wal: false,
            obey_delay: false,
            frees_space: !staged.takes_space,
        };
        let flight = (!staged.fences.is_empty()).then(|| {
            let ends = self.store.end_places().take(&staged.fences);
            (self.store.fence_cache().take_off(&staged.fences), ends)
        });
        let written = self.store.db().write(batch, &options);
        if let (Ok(lsn), Some((flight, ends))) = (&written, flight) {
            flight.land(*lsn, staged.fences.drain(..));
            ends.put_back();
        }
        if written.is_err() {
            // Whether it happened may not be known.
            staged.forget_plain_keys(&self.store);
        }
        if let Ok(lsn) = written {
            self.need = Some(lsn);
            staged.take_effect(&self.store);
            tell(staged, lsn);
            if self.notes_ready {
                self.ready = std::mem::take(&mut staged.ready);
            }
            if self.records_keys {
                self.committed.keys = std::mem::take(&mut staged.keys);
                self.committed.databases = std::mem::take(&mut staged.effects);
            }
        }
        self.abandon();
        written.map(Some)
    }

    /// Whether to record which keys change: if somebody watches or caches keys. Until the next `begin`.
    pub fn record_changes(&mut self, on: bool) {
        self.records_keys = on || self.tells_keys;
    }

    /// Says whose command it is.
    pub fn set_origin(&mut self, client: u64) {
        self.origin = client;
    }

    // Events.

    /// Notes an event of a key: it is told of once the command is committed.
    #[inline]
    pub fn event(&mut self, class: EventClass, name: &'static str, at: At<'_>) {
        if self.told.has(class) {
            self.staged.events.push_key(name, at.db, at.key);
        }
    }

    /// The same, and that the key has gone if this command took the last of it.
    #[inline]
    pub fn event_and_del(&mut self, class: EventClass, name: &'static str, at: At<'_>) {
        if self.told != EventClass::default() {
            self.event(class, name, at);
            if self.has_deleted(at) {
                self.event(EventClass::GENERIC, "del", at);
            }
        }
    }

    /// Notes what a command did that stores a result under a key: nothing to store takes the key away.
    pub fn event_of_result(&mut self, class: EventClass, name: &'static str, at: At<'_>, stored: bool) {
        if stored {
            self.event(class, name, at);
        } else if self.tells_events() && self.has_deleted(at) {
            self.event(EventClass::GENERIC, "del", at);
        }
    }

    /// Whether this command has staged that a key goes.
    pub fn has_deleted(&mut self, at: At<'_>) -> bool {
        self.staged(at).is_some_and(|now| !now.counted)
    }

    /// This command may look for keys that are not there.
    pub fn tell_no_misses(&mut self) {
        self.told.0 &= !EventClass::KEY_MISS.0;
    }

    /// Whether any event is told of: whoever has to look for what to note may do without.
    #[inline]
    pub fn tells_events(&self) -> bool {
        self.told != EventClass::default()
    }

    /// Publishes a message with the commit; `own` is what comes back to the client itself.
    pub fn publish(&mut self, shard: bool, channel: &[u8], payload: &[u8], need: Lsn, own: OwnShare) {
        self.staged.events.push_message(shard, channel, payload, need, own);
    }

    /// The command changes what lies beside values; only a key that comes or goes counts as changed.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.is_quiet = quiet;
    }

    /// Takes what the last commit changed; `None` if it was not recorded.
    pub fn take_changes(&mut self) -> Option<Changes> {
        self.records_keys.then(|| std::mem::take(&mut self.committed))
    }

    /// Notes which keys may be ready for those who wait for them: each that is given a value or loses it, but a stream only when it comes,
    /// and when [`readied`](Self::readied) says so. Until the next `begin`.
    pub fn note_ready(&mut self) {
        self.notes_ready = true;
        self.ready.clear();
    }

    /// A key may be ready, now that it has a value of this type (`None`: none, or not what was read in it).
    #[inline]
    pub fn readied(&mut self, at: At<'_>, kind: Option<Kind>) {
        if self.notes_ready {
            self.staged.ready.push(Readied { db: at.db, key: at.key.into(), kind });
        }
    }

    /// Takes what the last commit made ready, in the order in which it did; a key may stand there more than once.
    pub fn take_ready(&mut self) -> Vec<Readied> {
        std::mem::take(&mut self.ready)
    }

    /// An answer from these reads may leave once this is safe. An upper bound: what was visible when they were done.
    fn need_of_reads(&self) -> Lsn {
        match (self.has_read, self.point) {
            (false, _) => 0,
            (true, ReadPoint::Latest) => self.store.db().readable_lsn(),
            // No more than can be read: of a log that has failed, what is synced.
            (true, ReadPoint::SyncedOr(own)) => own.min(self.store.db().readable_lsn()),
        }
    }

    /// The LSN that must be safe before the reply leaves; 0 for none. Of the commit, or, if nothing was committed (an error
    /// tells what was read, too), of the reads.
    pub fn need(&self) -> Lsn {
        self.need.unwrap_or_else(|| self.need_of_reads())
    }

    /// What the command did. Valid until the next `begin`.
    pub fn stats(&self) -> TxnStats {
        self.stats
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What the command drew.
    pub fn draws(&self) -> Draws {
        self.draws
    }

    /// The time, the same for the whole command, in ms since 1970.
    pub fn now_ms(&self) -> u64 {
        self.draws.now_ms
    }

    /// Where the command runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which state reads are of: up to this sequence number, or the latest one if nothing is pinned.
    pub fn read_sequence(&self) -> u64 {
        self.reader.as_ref().map_or(u64::MAX, Reader::sequence)
    }

    /// Stages what becomes of the fences of a large sorted set.
    pub fn change_fences(&mut self, change: FenceChange) {
        self.staged.fences.push(change);
    }

    /// What earlier commands of the EXEC have changed about the elements of a large sorted set.
    pub fn staged_elements(&self, id: u64) -> Option<&ChangeSums> {
        self.earlier.as_ref()?.change_sums(id)
    }

    /// Whether reads see what is committed and nothing else: no command before this one, in an EXEC, has staged anything.
    pub fn reads_committed(&self) -> bool {
        self.earlier.is_none()
    }

    /// Whether an element of a large collection is known to be stored, by its key in keyspace `data`. Under its key's lock.
    pub fn knows_element(&mut self, key: &[u8]) -> bool {
        let known = self.store.known_elements();
        let knows = known.contains(known.hash(key));
        // What is told of it is as if it had been read.
        self.has_read |= knows;
        knows
    }

    /// An element was found under its key's lock.
    pub fn found_element(&mut self, key: &[u8]) {
        if self.reads_committed() {
            let known = self.store.known_elements();
            known.insert(known.hash(key));
        }
    }

    /// An element is staged to be stored: known once it is.
    pub fn learn_element(&mut self, key: &[u8]) {
        let hash = self.store.known_elements().hash(key);
        self.staged.elements.push((hash, true));
    }

    /// An element is staged to go, or to be one that expires.
    pub fn forget_element(&mut self, key: &[u8]) {
        let hash = self.store.known_elements().hash(key);
        self.store.known_elements().remove(hash);
        self.staged.elements.push((hash, false));
    }

    /// Whether nothing is staged.
    pub fn is_unchanged(&self) -> bool {
        self.batch.is_empty()
    }

    /// A key of the command's own database.
    #[inline]
    pub fn at<'k>(&self, key: &'k [u8]) -> Result<At<'k>, Stop> {
        if key.len() > USER_KEY_BYTES_MAX {
            return Err(ReplyError::KEY_TOO_LONG.into());
        }
        Ok(At { db: self.db, space: self.space, key })
    }

    /// A key of another database.
    pub fn at_in<'k>(&self, db: usize, key: &'k [u8]) -> Result<At<'k>, Stop> {
        if db >= self.store.databases() {
            return Err(ReplyError::DB_OUT_OF_RANGE.into());
        }
        Ok(At { db, space: self.space_of(db), ..self.at(key)? })
    }

    /// The space that a database stands for, as this transaction sees it.
    pub fn space_of(&self, db: usize) -> Space {
        match self.database_now(db) {
            DatabaseNow::Stored(db) => self.store.space_of(db),
            DatabaseNow::Fresh(space) => space,
        }
    }

    /// What a database is after the flushes and swaps staged.
    fn database_now(&self, db: usize) -> DatabaseNow {
        let earlier = self.earlier.as_ref().map(|earlier| &earlier.staged.effects[..]).unwrap_or_default();
        let mut db = db;
        for effect in earlier.iter().chain(&self.staged.effects).rev() {
            match *effect {
                Effect::Flush { db: flushed, space } if flushed == db => return DatabaseNow::Fresh(space),
                Effect::Swap(a, b) if a == db => db = b,
                Effect::Swap(a, b) if b == db => db = a,
                Effect::Flush { .. } | Effect::Swap(..) => {}
            }
        }
        DatabaseNow::Stored(db)
    }

    /// How much the transaction has changed the counts of a space; `None` if it has not written to it.
    fn change_of(&self, space: Space) -> Option<Counts> {
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.staged.change_of(space));
        match (earlier, self.staged.change_of(space)) {
            (Some(mut earlier), Some(own)) => {
                earlier.add(own);
                Some(earlier)
            }
            (earlier, own) => earlier.or(own),
        }
    }

    /// How many keys a database has, as this transaction sees it; see [`Store::dbsize`].
    pub fn dbsize(&self, db: usize) -> u64 {
        let (stored, space) = match self.database_now(db) {
            DatabaseNow::Stored(db) => (self.store.dbsize(db), self.store.space_of(db)),
            DatabaseNow::Fresh(space) => (0, space),
        };
        stored.saturating_add_signed(self.change_of(space).unwrap_or_default().keys)
    }

    /// Number and space of the command's own database.
    pub fn own_database(&self) -> (usize, Space) {
        (self.db, self.space)
    }

    /// Books work; [`Stop::Budget`] if it is too much for where the command runs.
    #[inline]
    pub fn charge(&mut self, records: u32, bytes: u64) -> Result<(), Stop> {
        if self.mode == Mode::Pool {
            return match &self.gone {
                // Relaxed: whoever sees it late does a little more in vain.
                Some(gone) if gone.load(std::sync::atomic::Ordering::Relaxed) => Err(CLIENT_GONE.into()),
                _ => Ok(()),
            };
        }
        let (Some(records), Some(bytes)) =
            (self.records_left.checked_sub(records), self.bytes_left.checked_sub(bytes))
        else {
            return Err(Stop::Budget);
        };
        (self.records_left, self.bytes_left) = (records, bytes);
        Ok(())
    }

    // Reading.

    fn read_options(&self) -> ReadOptions {
        ReadOptions {
            sequence: None,
            synced_or: match self.point {
                ReadPoint::Latest => None,
                ReadPoint::SyncedOr(own) => Some(own),
            },
            memory_only: self.mode == Mode::Inline,
            no_fill_cache: false,
        }
    }

    fn read<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        f: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, Error> {
        if let Some(earlier) = &self.earlier {
            match earlier.batch.get(keyspace, key) {
                Some(Overlay::Value(value)) => return Ok(f(Some(value))),
                Some(Overlay::Deleted) => return Ok(f(None)),
                None => {}
            }
        }
        match &self.reader {
            Some(reader) => reader.read(keyspace, key, &self.read_options(), f),
            None => self.store.db().read(keyspace, key, &self.read_options(), f),
        }
    }

    /// All reads from here on are of one moment.
    pub fn pin(&mut self) {
        if self.reader.is_none() {
            self.reader = Some(self.store.db().reader(&self.read_options()));
        }
    }

    /// Ends the command, on a pool, once `gone` is set.
    pub fn end_when(&mut self, gone: Arc<AtomicBool>) {
        self.gone = Some(gone);
    }

    /// Whether this command's reads leave the keys' times of last use alone.
    pub fn set_no_touch(&mut self, no_touch: bool) {
        self.no_touch = no_touch;
    }

    /// The key is used now.
    #[inline]
    fn mark_used(&self, hash: u64) {
        if !self.no_touch {
            self.store.access_times().touch(hash, self.draws.now_ms);
        }
    }

    /// For how many seconds, about, nobody used a key.
    pub fn idle_s(&mut self, at: At<'_>) -> u64 {
        meta::put_key(&mut self.meta_key, at.space, at.key);
        self.store.access_times().idle_s(xxh3_64(&self.meta_key), self.draws.now_ms)
    }

    /// A key counts as last used so many seconds ago.
    pub fn set_idle(&mut self, at: At<'_>, idle_s: u64) {
        meta::put_key(&mut self.meta_key, at.space, at.key);
        self.store.access_times().set_idle(xxh3_64(&self.meta_key), self.draws.now_ms, idle_s);
    }

    /// A plain read: hands the value to `f` where it lies. An expired one is none.
    #[inline]
    pub fn view<R>(&mut self, at: At<'_>, f: impl FnOnce(Option<Record<'_>>) -> R) -> Result<R, Stop> {
        self.look_up(at, Look::Use, f)
    }

    /// The same, of a command that asks about the key rather than for it: that is no use of the key.
    #[inline]
    pub fn peek<R>(&mut self, at: At<'_>, f: impl FnOnce(Option<Record<'_>>) -> R) -> Result<R, Stop> {
        self.look_up(at, Look::Question, f)
    }

    /// The same, where nobody asked: neither a use of the key nor one of the reads that hits and misses count.
    pub fn glance<R>(&mut self, at: At<'_>, f: impl FnOnce(Option<Record<'_>>) -> R) -> Result<R, Stop> {
        self.look_up(at, Look::Glance, f)
    }

    #[inline]
    fn look_up<R>(
        &mut self,
        at: At<'_>,
        look: Look,
        f: impl FnOnce(Option<Record<'_>>) -> R,
    ) -> Result<R, Stop> {
        self.charge(1, 0)?;
        self.has_read = true;
        let mut key = std::mem::take(&mut self.meta_key);
        meta::put_key(&mut key, at.space, at.key);
        let now_ms = self.draws.now_ms;
        let (mut live, mut expired, mut bytes) = (false, false, 0);
        let outcome = self.read(self.store.keyspaces().meta, &key, |value| {
            let Some(value) = value else { return Ok::<R, Error>(f(None)) };
            let record = Record::decode(value).ok_or_else(|| meta::damaged("keyspace meta", "record"))?;
            if record.head.is_expired(now_ms) {
                expired = true;
                return Ok(f(None));
            }
            live = true;
            bytes = record.body.len() as u64;
            Ok(f(Some(record)))
        });
        if look == Look::Use && live {
            self.mark_used(xxh3_64(&key));
        }
        self.meta_key = key;
        let result = outcome.map_err(Stop::from)??;
        if expired {
            self.store.expired_seen.insert(at.space, at.key);
        }
        if look != Look::Glance {
            self.note_read(at, live);
        }
        self.charge(0, bytes)?;
        Ok(result)
    }

    /// A key was read, and was there or not: counted, and told of. For those who read with [`load`](Self::load).
    #[inline]
    pub fn note_read(&mut self, at: At<'_>, found: bool) {
        match found {
            true => self.stats.hits += 1,
            false => {
                self.stats.misses += 1;
                self.event(EventClass::KEY_MISS, "keymiss", at);
            }
        }
    }

    /// Reads a key to change it.
    pub fn load(&mut self, at: At<'_>) -> Result<Slot, Stop> {
        self.charge(1, 0)?;
        self.has_read = true;
        let mut key = std::mem::take(&mut self.meta_key);
        meta::put_key(&mut key, at.space, at.key);
        self.mark_used(xxh3_64(&key));
        let mut slot = Slot { body: std::mem::take(&mut self.spare), ..Slot::default() };
        let outcome = match self.staged_record(&key) {
            Some(None) => Ok(()),
            Some(Some(value)) => fill_slot(&mut slot, &value, self.draws.now_ms),
            None => self
                .read(self.store.keyspaces().meta, &key, |value| match value {
                    Some(value) => fill_slot(&mut slot, value, self.draws.now_ms),
                    None => Ok(()),
                })
                .and_then(|filled| filled),
        };
        self.meta_key = key;
        outcome?;
        self.charge(0, slot.body.len() as u64)?;
        Ok(slot)
    }

    /// Gives a slot's buffer back.
    pub fn recycle(&mut self, slot: Slot) {
        self.recycle_buffer(slot.body);
    }

    /// An empty buffer, to be given back.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Gives a buffer back that came from here or from a slot.
    pub fn recycle_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() && buffer.capacity() <= KEPT_BUFFER_BYTES {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Looks at what a blind write will replace, in memory only.
    #[inline]
    pub fn look(&mut self, at: At<'_>) -> Result<Before, Stop> {
        self.charge(1, 0)?;
        let mut key = std::mem::take(&mut self.meta_key);
        meta::put_key(&mut key, at.space, at.key);
        let hash = xxh3_64(&key);
        self.mark_used(hash);
        let before = match self.staged_before(&key).or_else(|| self.look_earlier(&key)) {
            Some(before) => Ok(before),
            None if self.told.has(EventClass(EventClass::NEW.0 | EventClass::EXPIRED.0)) => {
                // Whether it comes to be, or had expired, has to be known and not believed.
                self.look_closely(&key)
            }
            None if self.store.plain_keys().contains(hash) => {
                Ok(Before { counted: true, ..Before::default() })
            }
            None => self.look_below(&key),
        };
        self.meta_key = key;
        Ok(before?)
    }

    /// What this command has staged for a key, if anything.
    pub fn staged(&mut self, at: At<'_>) -> Option<Before> {
        let mut key = std::mem::take(&mut self.meta_key);
        meta::put_key(&mut key, at.space, at.key);
        let staged = self.staged_before(&key);
        self.meta_key = key;
        staged
    }

    /// What earlier commands of the EXEC have staged for a key, if anything.
    fn look_earlier(&self, key: &[u8]) -> Option<Before> {
        let earlier = self.earlier.as_ref()?;
        Some(match earlier.batch.get(self.store.keyspaces().meta, key)? {
            Overlay::Value(value) => self.before_of(value),
            Overlay::Deleted => Before::default(),
        })
    }

    /// The same as reading it would find: on a worker, what is not in memory needs a pool.
    fn look_closely(&self, key: &[u8]) -> Result<Before, Error> {
        self.read(self.store.keyspaces().meta, key, |value| {
            value.map_or(Before::default(), |value| self.before_of(value))
        })
    }

    fn look_below(&self, key: &[u8]) -> Result<Before, Error> {
        let options = ReadOptions { memory_only: true, ..ReadOptions::default() };
        let seen = self.store.db().read(self.store.keyspaces().meta, key, &options, |value| {
            value.map_or(Before::default(), |value| self.before_of(value))
        });
        match seen {
            // A filter in memory said maybe, or is not in memory.
            Err(Error::NeedsIo) => Ok(Before { counted: true, believed: true, ..Before::default() }),
            other => other,
        }
    }

    fn before_of(&self, value: &[u8]) -> Before {
        // A damaged record is one that a write may replace.
        Record::decode(value).map_or(Before { counted: true, ..Before::default() }, |record| {
            Before::of(&record.head, self.draws.now_ms)
        })
    }

    /// What is staged for a key, if anything.
    fn staged_before(&mut self, meta_key: &[u8]) -> Option<Before> {
        if self.batch.is_empty() {
            return None;
        }
        if !self.own_is_complete {
            self.own_is_complete = true;
            let meta = self.store.keyspaces().meta;
            for entry in self.batch.entries().flatten().filter(|entry| entry.keyspace == meta) {
                let before = match Record::decode(entry.value) {
                    Some(record) if entry.kind == ValueKind::Put => Before::of(&record.head, 0),
                    _ => Before::default(),
                };
                self.own.insert(xxh3_64(entry.key), before);
            }
        }
        self.own.get(&xxh3_64(meta_key)).copied()
    }

    /// The record staged for a key: `Some(None)` if it is staged to go.
    fn staged_record(&mut self, meta_key: &[u8]) -> Option<Option<Vec<u8>>> {
        let before = self.staged_before(meta_key)?;
        if !before.counted {
            return Some(None);
        }
        let meta = self.store.keyspaces().meta;
        let mut entries = self.batch.entries().flatten();
        let mut found = None;
        while let Some(entry) = entries.find(|entry| entry.keyspace == meta && entry.key == meta_key) {
            found = Some((entry.kind == ValueKind::Put).then(|| entry.value.to_vec()));
        }
        found
    }

    /// Reads a record of keyspace `data` where it lies.
    pub fn view_data<R>(&mut self, key: &[u8], f: impl FnOnce(Option<&[u8]>) -> R) -> Result<R, Stop> {
        self.charge(1, 0)?;
        self.has_read = true;
        let mut bytes = 0;
        let result = self.read(self.store.keyspaces().data, key, |value| {
            bytes = value.map_or(0, <[u8]>::len) as u64;
            f(value)
        })?;
        self.charge(0, bytes)?;
        Ok(result)
    }

    /// An iterator over a keyspace, standing nowhere. Does not see what is staged.
    pub fn iter(
        &mut self,
        keyspace: KeyspaceId,
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
    ) -> Result<Iter, Stop> {
        self.has_read = true;
        let options = IterOptions { lower, upper, read: self.read_options() };
        Ok(match (&self.reader, &self.earlier) {
            (Some(reader), Some(earlier)) => reader.iter_with(&earlier.batch, keyspace, options)?,
            (Some(reader), None) => reader.iter(keyspace, options)?,
            (None, _) => self.store.db().iter(keyspace, options)?,
        })
    }

    /// The reply tells of the database's state though nothing was read (DBSIZE, an EXEC that is called off).
    pub fn mark_read(&mut self) {
        self.has_read = true;
    }

    /// Tells the sweeper of an expired key that an iterator came across.
    pub fn note_expired(&self, space: Space, key: &[u8]) {
        self.store.expired_seen.insert(space, key);
    }

    // Staging.

    /// Stages a record: `head`, then the pieces of the body (four at most). If `head` has an id that the key did not hold,
    /// its owner is to be staged as well.
    #[inline]
    pub fn put(&mut self, at: At<'_>, before: &Before, head: Head, body: &[&[u8]]) -> Result<(), Stop> {
        let head_bytes = head.encode();
        let mut parts: [&[u8]; 5] = [&[]; 5];
        parts[0] = head_bytes.as_bytes();
        let count = body.len().min(4);
        debug_assert_eq!(count, body.len());
        parts[1..=count].copy_from_slice(&body[..count]);
        self.staged.takes_space = true;
        meta::put_key(&mut self.meta_key, at.space, at.key);
        self.batch.put_parts(self.store.keyspaces().meta, &self.meta_key, &parts[..=count])?;
        let mut change = Counts { keys: i64::from(!before.counted), ..Counts::default() };
        let due = head.due();
        if due != before.due {
            self.move_due(at, before.due, due, &mut change)?;
        }
        let hash = xxh3_64(&self.meta_key);
        if self.no_touch && !before.counted {
            // A key's life begins with a use, whoever makes it.
            self.store.access_times().touch(hash, self.draws.now_ms);
        }
        if self.records_keys && !(self.is_quiet && before.is_live()) {
            self.record_key(at);
        }
        if head.kind != Kind::Stream || !before.is_live() {
            self.readied(at, Some(head.kind));
        }
        self.finish_staging(at, before, head.id, change)?;
        if !before.is_live() {
            self.event(EventClass::NEW, "new", at);
        }
        self.staged.written.push((hash, due.at_ms == 0 && head.id == 0));
        if self.own_is_complete {
            let staged = Before::of(&head, 0);
            self.own.insert(hash, staged);
        }
        Ok(())
    }

    /// Stages a slot's own value again under another head (a new expiry, say).
    pub fn put_slot(&mut self, at: At<'_>, slot: &Slot, head: Head) -> Result<(), Stop> {
        self.put(at, &slot.before, head, &[&slot.body])
    }

    /// Stages the removal of a record. Nothing if there is none.
    pub fn delete(&mut self, at: At<'_>, before: &Before) -> Result<(), Stop> {
        if !before.counted {
            return Ok(());
        }
        meta::put_key(&mut self.meta_key, at.space, at.key);
        self.batch.delete(self.store.keyspaces().meta, &self.meta_key)?;
        let mut change = Counts { keys: -1, ..Counts::default() };
        self.move_due(at, before.due, Due::default(), &mut change)?;
        // What had expired was gone already.
        if before.is_live() {
            self.readied(at, None);
            if self.records_keys {
                self.record_key(at);
            }
        }
        self.finish_staging(at, before, 0, change)?;
        let hash = xxh3_64(&self.meta_key);
        self.staged.written.push((hash, false));
        if self.own_is_complete {
            self.own.insert(hash, Before::default());
        }
        Ok(())
    }

    /// Keeps `ttl` in step with a record whose expiry changes.
    fn move_due(&mut self, at: At<'_>, old: Due, new: Due, change: &mut Counts) -> Result<(), Stop> {
        let keyspace = self.store.keyspaces().ttl;
        if old.at_ms != 0 {
            ttl::put_key(&mut self.ttl_key, old.at_ms, at.space, at.key);
            self.batch.delete(keyspace, &self.ttl_key)?;
            if old.of_key {
                change.count_expiry(old.at_ms, -1);
            }
        }
        if new.at_ms != 0 {
            ttl::put_key(&mut self.ttl_key, new.at_ms, at.space, at.key);
            self.batch.put(keyspace, &self.ttl_key, ttl::value(new.of_key))?;
            if new.of_key {
                change.count_expiry(new.at_ms, 1);
            }
        }
        Ok(())
    }

    /// Stages the removal of an entry in `ttl` that belongs to no record.
    pub fn delete_stale_expiry(&mut self, at: At<'_>, due: Due) -> Result<(), Stop> {
        let mut change = Counts::default();
        self.move_due(at, due, Due::default(), &mut change)?;
        if !change.is_zero() {
            self.staged.count(at.db, at.space, change);
        }
        Ok(())
    }

    /// Says that a key changed whose record stays as it is: a field of a large hash got another value.
    pub fn touch(&mut self, at: At<'_>) {
        self.stats.dirty += 1;
        self.staged.touch(at.db, at.space);
        if self.records_keys && !self.is_quiet {
            self.record_key(at);
        }
    }

    /// Says that a key changed though nothing is staged for it: it came and went.
    pub fn note_change(&mut self, at: At<'_>) {
        if self.records_keys {
            self.record_key(at);
        }
    }

    #[cold]
    fn record_key(&mut self, at: At<'_>) {
        // A command that writes one key again and again counts once.
        if self.staged.keys.last().is_none_or(|last| last.db != at.db || *last.key != *at.key) {
            self.staged.keys.push(ChangedKey { db: at.db, key: at.key.into() });
        }
    }

    #[inline]
    fn finish_staging(&mut self, at: At<'_>, before: &Before, id: u64, change: Counts) -> Result<(), Stop> {
        if before.id != 0 && before.id != id {
            self.batch.put(self.store.keyspaces().system, &system::gc_key(at.space, before.id), b"")?;
            self.staged.hints.push((at.space, before.id));
        }
        if before.expired {
            self.event(EventClass::EXPIRED, "expired", at);
            if self.tells_keys {
                self.staged.expired_keys.push(ChangedKey { db: at.db, key: at.key.into() });
            }
            self.staged.expired += 1;
            self.store.expired_seen.remove(at.space, at.key);
        }
        self.staged.believed += u64::from(before.believed);
        self.stats.dirty += 1;
        if change.is_zero() {
            // Booked all the same, so that the database counts as touched.
            self.staged.touch(at.db, at.space);
        } else {
            self.staged.count(at.db, at.space, change);
        }
        Ok(())
    }

    /// Stages a record of keyspace `data`.
    pub fn put_data(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        self.staged.takes_space = true;
        Ok(self.batch.put(self.store.keyspaces().data, key, value)?)
    }

    /// The same, the value in pieces.
    pub fn put_data_parts(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), Stop> {
        self.staged.takes_space = true;
        Ok(self.batch.put_parts(self.store.keyspaces().data, key, parts)?)
    }

    /// Stages the removal of a record of keyspace `data`.
    pub fn delete_data(&mut self, key: &[u8]) -> Result<(), Stop> {
        Ok(self.batch.delete(self.store.keyspaces().data, key)?)
    }

    /// Stages the removal of all records of keyspace `data` from `start` up to but without `end`. For many elements at once:
    /// a range delete costs readers more than a few plain ones.
    pub fn delete_data_range(&mut self, start: &[u8], end: &[u8]) -> Result<(), Stop> {
        Ok(self.batch.delete_range(self.store.keyspaces().data, start, end)?)
    }

    /// Stages who holds an id.
    pub fn put_owner(&mut self, at: At<'_>, id: u64) -> Result<(), Stop> {
        let key = data::owner_key(at.space, id);
        Ok(self.batch.put(self.store.keyspaces().data, &key, at.key)?)
    }

    /// Begins a value with an id, of about this many bytes. A large one is built aside, which only a pool may do.
    pub fn builder(&mut self, space: Space, bytes: u64) -> Result<Builder, Stop> {
        self.charge(0, bytes)?;
        let id = self.store.take_id()?;
        let aside = match bytes > ONE_BATCH_BYTES_MAX {
            true if self.mode == Mode::Inline => return Err(Stop::Budget),
            true => Some(Aside::begin(&self.store, space, id)?),
            false => None,
        };
        Ok(Builder { id, space, aside })
    }

    /// Stages that `databases` become empty. With the gate closed.
    pub fn flush(&mut self, databases: impl Iterator<Item = usize>) -> Result<(), Stop> {
        let keyspaces = self.store.keyspaces();
        self.staged.flushes = true;
        for db in databases {
            let (stored, old) = match self.database_now(db) {
                DatabaseNow::Stored(db) => (self.store.database(db), self.store.space_of(db)),
                DatabaseNow::Fresh(space) => (None, space),
            };
            let change = self.change_of(old);
            if change.is_none() && !stored.is_some_and(Database::is_touched) {
                continue;
            }
            let stored_expires = stored.map_or(0, |database| database.raw_counts().expires);
            let expires = stored_expires != 0 || change.is_some_and(|change| change.expires != 0);
            self.stats.dirty += self.dbsize(db);
            let (space, next) = self.store.take_space()?;
            self.batch.put(keyspaces.system, system::NEXT_SPACE_KEY, &next.to_be_bytes())?;
            self.batch.put(keyspaces.system, &system::space_key(db), &system::space_value(space))?;
            if expires || self.store.is_counting() {
                self.batch.put(keyspaces.system, &system::dead_key(old), b"")?;
            }
            let (start, end) = (old.to_be_bytes(), (old + 1).to_be_bytes());
            self.batch.delete_range(keyspaces.meta, &start, &end)?;
            self.batch.delete_range(keyspaces.data, &start, &end)?;
            let (start, end) = system::gc_bounds(old);
            self.batch.delete_range(keyspaces.system, &start, &end)?;
            self.staged.effects.push(Effect::Flush { db, space });
        }
        Ok(())
    }

    /// Stages that two databases change places. With the gate closed.
    pub fn swap(&mut self, a: usize, b: usize) -> Result<(), Stop> {
        if a == b {
            return Ok(());
        }
        let system = self.store.keyspaces().system;
        for (db, other) in [(a, b), (b, a)] {
            let value = system::space_value(self.space_of(other));
            self.batch.put(system, &system::space_key(db), &value)?;
        }
        self.staged.effects.push(Effect::Swap(a, b));
        self.stats.dirty += 1;
        Ok(())
    }
}

/// See [`Txn::database_now`].
enum DatabaseNow {
    /// One of the store's.
    Stored(usize),
    /// Flushed: a space that holds only what the transaction put there.
    Fresh(Space),
}

fn fill_slot(slot: &mut Slot, value: &[u8], now_ms: u64) -> Result<(), Error> {
    let record = Record::decode(value).ok_or_else(|| meta::damaged("keyspace meta", "record"))?;
    slot.before = Before::of(&record.head, now_ms);
    if !record.head.is_expired(now_ms) {
        slot.head = Some(record.head);
        slot.body.extend_from_slice(record.body);
    }
    Ok(())
}
