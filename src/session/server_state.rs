//! The server as its commands see it: store, configuration, statistics, clients.
//!
//! One value, shared by all threads. What a command reads each time is an atomic in [`Settings`] (`Relaxed`: a setting is in force on
//! every core as soon as the store is visible there, and nothing else is ordered by it); the rest of the configuration is read
//! rarely, under a lock held for a clone.
//!
//! The store can be closed and opened again while the server runs (DEBUG RELOAD, with the gate closed): whoever keeps an `Arc` of it
//! compares [`ServerState::generation`] after entering the gate and takes the new one if it differs.

use crate::base::clock::Clock;
use crate::base::config::{Config, OutputLimit};
use crate::session::acl_log::AclLog;
use crate::session::allowance::Allowance;
use crate::session::clients::{ClientInfo, ClientRegistry, FLAG_MONITOR, FLAG_PUBSUB};
use crate::session::in_flight::InFlight;
use crate::session::latency::LatencyMonitor;
use crate::session::peers::Peers;
use crate::session::publisher::Publisher;
use crate::session::slowlog::SlowLog;
use crate::session::stats::Stats;
use crate::session::users::Users;
use crate::session::waiters::WaitTable;
use crate::session::watches::WatchTable;
use crate::store::events::EventClass;
use crate::store::store::Store;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};

const RELAXED: Ordering = Ordering::Relaxed;

/// How long nobody looks for clients to close after there was none.
const EVICTION_PAUSE_MS: u64 = 20;

/// `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Answers wait until the log is on the disk.
    Always,
    /// Answers wait until the log is handed to the system, which is told to sync every second.
    EverySecond,
    /// As `EverySecond`; the system syncs when it likes.
    No,
}

/// An output limit that may change.
#[derive(Debug, Default)]
struct OutputSetting {
    hard_bytes: AtomicU64,
    soft_bytes: AtomicU64,
    soft_seconds: AtomicU64,
}

impl OutputSetting {
    fn set(&self, limit: OutputLimit) {
        self.hard_bytes.store(limit.hard_bytes, RELAXED);
        self.soft_bytes.store(limit.soft_bytes, RELAXED);
        self.soft_seconds.store(limit.soft_seconds, RELAXED);
    }

    fn get(&self) -> OutputLimit {
        OutputLimit {
            hard_bytes: self.hard_bytes.load(RELAXED),
            soft_bytes: self.soft_bytes.load(RELAXED),
            soft_seconds: self.soft_seconds.load(RELAXED),
        }
    }
}

/// Settings that are looked at for every command or every turn.
#[derive(Debug)]
pub struct Settings {
    fsync: AtomicU8,
    /// SLOWLOG threshold in microseconds; negative for off.
    pub slowlog_slower_than_us: AtomicI64,
    /// Entries kept in SLOWLOG.
    pub slowlog_max_len: AtomicU64,
    /// Whether commands' times go into histograms.
    pub latency_tracking: AtomicBool,
    /// Seconds of silence after which a client is closed; 0 for never.
    pub timeout_s: AtomicU64,
    /// The most connections.
    pub clients_max: AtomicU64,
    /// The longest argument.
    pub bulk_bytes_max: AtomicU64,
    /// The longest unfinished request.
    pub query_bytes_max: AtomicU64,
    /// Output limits of a normal client.
    output_limit: OutputSetting,
    /// Output limits of a client that is subscribed to something, or sees every command.
    output_limit_pubsub: OutputSetting,
    /// Memory above which commands that grow it are refused; 0 for none.
    pub memory_max_bytes: AtomicU64,
    /// Memory above which the largest clients are closed; 0 for none.
    pub client_memory_max_bytes: AtomicU64,
    /// Whether clients from elsewhere are refused while there is no password.
    pub protected_mode: AtomicBool,
    /// TCP keepalive in seconds.
    pub keepalive_s: AtomicU64,
    /// How many entries approximate trimming takes for a node.
    pub stream_node_entries_max: AtomicU64,
    /// How long a sparse HyperLogLog may get.
    pub hll_sparse_bytes_max: AtomicU64,
}

impl Settings {
    fn new(config: &Config) -> Settings {
        let settings = Settings {
            fsync: AtomicU8::new(0),
            slowlog_slower_than_us: AtomicI64::new(0),
            slowlog_max_len: AtomicU64::new(0),
            latency_tracking: AtomicBool::new(true),
            timeout_s: AtomicU64::new(0),
            clients_max: AtomicU64::new(0),
            bulk_bytes_max: AtomicU64::new(0),
            query_bytes_max: AtomicU64::new(0),
            output_limit: OutputSetting::default(),
            output_limit_pubsub: OutputSetting::default(),
            memory_max_bytes: AtomicU64::new(0),
            client_memory_max_bytes: AtomicU64::new(0),
            protected_mode: AtomicBool::new(true),
            keepalive_s: AtomicU64::new(0),
            stream_node_entries_max: AtomicU64::new(0),
            hll_sparse_bytes_max: AtomicU64::new(0),
        };
        settings.apply(config);
        settings
    }

    fn apply(&self, config: &Config) {
        let unsigned = |name: &str| config.number(name).max(0) as u64;
        let fsync = match config.text("appendfsync") {
            "always" => 2,
            "no" => 0,
            _ => 1,
        };
        self.fsync.store(fsync, RELAXED);
        self.slowlog_slower_than_us.store(config.number("slowlog-log-slower-than"), RELAXED);
        self.slowlog_max_len.store(unsigned("slowlog-max-len"), RELAXED);
        self.stream_node_entries_max.store(unsigned("stream-node-max-entries"), RELAXED);
        self.hll_sparse_bytes_max.store(unsigned("hll-sparse-max-bytes"), RELAXED);
        self.latency_tracking.store(config.flag("latency-tracking"), RELAXED);
        self.timeout_s.store(unsigned("timeout"), RELAXED);
        self.clients_max.store(unsigned("maxclients"), RELAXED);
        self.bulk_bytes_max.store(unsigned("proto-max-bulk-len"), RELAXED);
        self.query_bytes_max.store(unsigned("client-query-buffer-limit"), RELAXED);
        self.output_limit.set(config.output_limit("normal"));
        self.output_limit_pubsub.set(config.output_limit("pubsub"));
        self.memory_max_bytes.store(unsigned("maxmemory"), RELAXED);
        let clients_max = match config.text("maxmemory-clients").strip_suffix('%') {
            // As in Redis, a part of no limit is no limit.
            Some(percent) => unsigned("maxmemory") / 100 * percent.parse::<u64>().unwrap_or(0),
            None => unsigned("maxmemory-clients"),
        };
        self.client_memory_max_bytes.store(clients_max, RELAXED);
        self.protected_mode.store(config.flag("protected-mode"), RELAXED);
        self.keepalive_s.store(unsigned("tcp-keepalive"), RELAXED);
    }

    /// `appendfsync`.
    pub fn fsync(&self) -> Fsync {
        match self.fsync.load(RELAXED) {
            2 => Fsync::Always,
            1 => Fsync::EverySecond,
            _ => Fsync::No,
        }
    }

    /// Whether some class of clients has an output limit that takes time.
    pub fn has_soft_limit(&self) -> bool {
        self.output_limit.get().soft_bytes > 0 || self.output_limit_pubsub.get().soft_bytes > 0
    }

    /// Output limit of a client with these flags.
    pub fn output_limit(&self, flags: u32) -> OutputLimit {
        if flags & (FLAG_PUBSUB | FLAG_MONITOR) != 0 {
            self.output_limit_pubsub.get()
        } else {
            self.output_limit.get()
        }
    }
}

/// Lets through once a minute what anybody could otherwise repeat without end.
#[derive(Debug, Default)]
pub struct OnceAMinute {
    /// Monotonic ms.
    next_ms: AtomicU64,
}

impl OnceAMinute {
    /// Whether it is time; of several who ask at once, one is told so.
    pub fn may_pass(&self, now_ms: u64) -> bool {
        let later = |next_ms| (now_ms >= next_ms).then_some(now_ms + 60_000);
        self.next_ms.fetch_update(RELAXED, RELAXED, later).is_ok()
    }
}

/// CLIENT PAUSE: which commands wait, and until when.
#[derive(Debug, Default)]
pub struct Pause {
    /// Monotonic ms; 0 for no pause.
    until_ms: AtomicU64,
    all: AtomicBool,
    /// How much rests until the end, and comes before those who are held up.
    resting: Arc<AtomicUsize>,
}

/// Something that rests while clients are paused. Dropped, it has its turn: then those who are held up may come.
#[derive(Debug)]
pub struct Rest(Arc<AtomicUsize>);

impl Drop for Rest {
    fn drop(&mut self) {
        // Relaxed: see `Pause::rest`.
        self.0.fetch_sub(1, RELAXED);
    }
}

/// How soon those who are held up by what rested look again. It has only its keys to lock.
const REST_GLANCE_MS: u64 = 1;

impl Pause {
    /// Something rests until the end.
    pub fn rest(&self) -> Rest {
        // Relaxed: begun under locks, given up under the same. Whoever gets one of them in between was not held up before, or sees it.
        self.resting.fetch_add(1, RELAXED);
        Rest(Arc::clone(&self.resting))
    }

    /// Until when (monotonic ms) a command is held up, if it is: by the pause, or by what rested and has not had its turn yet.
    pub fn holds(&self, now_ms: u64, writes: bool) -> Option<u64> {
        let rested = || writes && self.resting.load(RELAXED) > 0;
        self.until(now_ms, writes).or_else(|| rested().then_some(now_ms + REST_GLANCE_MS))
    }

    /// Until when (monotonic ms) a command that writes, or any, has to wait. `None` if it may run.
    pub fn until(&self, now_ms: u64, writes: bool) -> Option<u64> {
        let until = self.until_ms.load(RELAXED);
        (until > now_ms && (writes || self.all.load(RELAXED))).then_some(until)
    }

    /// Whether a pause was ever set and not ended, or something rests still: lets the hot path skip the clock.
    pub fn is_set(&self) -> bool {
        self.until_ms.load(RELAXED) != 0 || self.resting.load(RELAXED) != 0
    }

    /// Pauses; a longer pause that is on stays, and "all" is not weakened.
    pub fn set(&self, until_ms: u64, all: bool, now_ms: u64) {
        let on = self.until_ms.load(RELAXED) > now_ms;
        self.all.store(all || (on && self.all.load(RELAXED)), RELAXED);
        if on {
            self.until_ms.fetch_max(until_ms, RELAXED);
        } else {
            self.until_ms.store(until_ms, RELAXED);
        }
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until_ms.store(0, RELAXED);
    }

    /// "none", "write" or "all", for INFO.
    pub fn shown(&self, now_ms: u64) -> (&'static str, u64) {
        let until = self.until_ms.load(RELAXED);
        if until <= now_ms {
            return ("none", 0);
        }
        (if self.all.load(RELAXED) { "all" } else { "write" }, until - now_ms)
    }
}

/// SAVE and BGSAVE: what INFO tells of checkpoints.
#[derive(Clone, Debug)]
pub struct SaveState {
    /// When the last good one was made (unix seconds).
    pub last_unix_s: u64,
    /// Whether the last one succeeded.
    pub last_ok: bool,
    /// How long the last one took, in seconds; `None` if there was none.
    pub last_duration_s: Option<u64>,
    /// When the running one began (monotonic ms).
    pub running_since_ms: Option<u64>,
    /// Good ones since the start.
    pub saves: u64,
}

/// What COMPACT is to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactScope {
    /// Everything.
    All,
    /// One numbered database.
    Database(usize),
}

impl fmt::Display for CompactScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactScope::All => f.write_str("all"),
            CompactScope::Database(db) => write!(f, "db{db}"),
        }
    }
}

/// COMPACT: what was asked for, and what INFO tells of it.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// What waits for its turn.
    pub waiting: VecDeque<CompactScope>,
    /// What runs, and since when (monotonic ms).
    pub running: Option<(CompactScope, u64)>,
    /// Keyspaces that the running one is done with.
    pub done: usize,
    /// ..of so many.
    pub total: usize,
    /// How many ended since the start.
    pub finished: u64,
    /// Whether the last one succeeded.
    pub last_ok: bool,
    /// How long the last one took; `None` if there was none.
    pub last_ms: Option<u64>,
}

/// More wait for none.
const COMPACTIONS_WAITING_MAX: usize = 16;

impl Compaction {
    fn new() -> Compaction {
        let waiting = VecDeque::new();
        Compaction { waiting, running: None, done: 0, total: 0, finished: 0, last_ok: true, last_ms: None }
    }

    /// Asks for one. What waits already is not asked for twice. False if too many wait.
    pub fn ask(&mut self, scope: CompactScope) -> bool {
        if self.waiting.contains(&scope) {
            return true;
        }
        let room = self.waiting.len() < COMPACTIONS_WAITING_MAX;
        if room {
            self.waiting.push_back(scope);
        }
        room
    }

    /// The next one begins, if one waits.
    pub fn begin(&mut self, now_ms: u64) -> Option<CompactScope> {
        let scope = self.waiting.pop_front()?;
        self.running = Some((scope, now_ms));
        Some(scope)
    }

    /// How far the running one is.
    pub fn progress(&mut self, done: usize, total: usize) {
        (self.done, self.total) = (done, total);
    }

    /// The running one has ended; how long it took.
    pub fn finish(&mut self, ok: bool, now_ms: u64) -> u64 {
        let took_ms = self.running.take().map_or(0, |(_, since_ms)| now_ms.saturating_sub(since_ms));
        self.finished += 1;
        (self.done, self.total, self.last_ok, self.last_ms) = (0, 0, ok, Some(took_ms));
        took_ms
    }
}

/// How SHUTDOWN was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownRequest {
    /// Make a checkpoint first.
    pub save: bool,
    /// Do not wait for clients to read their answers.
    pub now: bool,
    /// Go on when the checkpoint fails.
    pub force: bool,
}

/// What never changes while the server runs.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// 40 hexadecimal digits, another at each start.
    pub run_id: String,
    /// 40 hexadecimal digits: the history of the data, as replicas will ask for it.
    pub replication_id: String,
    /// Path of the running program.
    pub executable: String,
    /// Absolute path of the configuration file, or nothing.
    pub config_file: String,
    /// Absolute path of the data folder.
    pub dir: PathBuf,
    /// Workers.
    pub workers: usize,
    /// Databases that SELECT knows.
    pub databases: usize,
    /// The memory budget in bytes.
    pub memory_budget_bytes: u64,
}

/// Opens the store; used at start and by DEBUG RELOAD.
pub type Opener = Box<dyn Fn() -> Result<Arc<Store>, haypile_lsm::Error> + Send + Sync>;

/// Writes a line to the server's log. The level is one of Redis's: `.` debug, `-` verbose, `*` notice, `#` warning.
pub type Logger = Box<dyn Fn(char, &str) + Send + Sync>;

/// Does what a change of the configuration asks for outside of what reads it: sockets, limits of the system. It is given the configuration
/// in force, the new one, and the names that were set (to the same value, perhaps: a file may say something else by now). It may refuse:
/// the whole reply text.
pub type Reconfigure = Box<dyn Fn(&Config, &Config, &[&str]) -> Result<(), String> + Send + Sync>;

/// Wakes whoever ends the server.
pub type ShutdownTrigger = Box<dyn Fn() + Send + Sync>;

/// See the module.
pub struct ServerState {
    store: RwLock<Arc<Store>>,
    generation: AtomicU64,
    opener: Opener,
    /// Held while the store is opened again.
    reopening: Mutex<()>,
    /// Held while the configuration changes.
    changing_config: Mutex<()>,
    reconfigure: Reconfigure,
    config: RwLock<Arc<Config>>,
    /// The clock.
    pub clock: Clock,
    /// Hot settings.
    pub settings: Settings,
    /// Statistics.
    pub stats: Stats,
    /// Connected clients.
    pub clients: Arc<ClientRegistry>,
    /// Users.
    pub users: Users,
    /// What users were denied.
    pub acl_log: AclLog,
    /// Lines about web pages in the log.
    pub web_page_lines: OnceAMinute,
    /// What is under way outside the workers' loops.
    pub in_flight: Arc<InFlight>,
    /// LATENCY.
    pub latency: Arc<LatencyMonitor>,
    /// Memory for large requests.
    pub allowance: Arc<Allowance>,
    /// SLOWLOG.
    pub slowlog: SlowLog,
    /// Connections to other servers that MIGRATE keeps.
    pub peers: Peers,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Clients that wait for keys.
    pub waiters: WaitTable,
    /// Keys that clients watch.
    pub watches: Arc<WatchTable>,
    /// Messages, and who is subscribed to what.
    pub publisher: Arc<Publisher>,
    /// What does not change.
    pub identity: Identity,
    /// When the server started (monotonic ms).
    pub started_ms: u64,
    /// When it is worth to look again for clients to close (monotonic ms).
    no_eviction_before_ms: AtomicU64,
    compaction: Mutex<Compaction>,
    save: Mutex<SaveState>,
    /// BGSAVE was asked for; the thread that makes checkpoints clears it.
    pub save_requested: AtomicBool,
    shutdown: Mutex<Option<ShutdownRequest>>,
    shutdown_trigger: ShutdownTrigger,
    failure: OnceLock<String>,
    logger: Logger,
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What a [`ServerState`] is made of.
pub struct Parts {
    /// The open store.
    pub store: Arc<Store>,
    /// How to open it again.
    pub opener: Opener,
    /// What follows the configuration.
    pub reconfigure: Reconfigure,
    /// The configuration.
    pub config: Config,
    /// The users that it names.
    pub users: Users,
    /// The clock.
    pub clock: Clock,
    /// What does not change.
    pub identity: Identity,
    /// Number of commands in the table.
    pub commands: usize,
    /// Wakes whoever ends the server.
    pub shutdown_trigger: ShutdownTrigger,
    /// Writes a line to the server's log.
    pub logger: Logger,
    /// LATENCY; the engine tells it too.
    pub latency: Arc<LatencyMonitor>,
}

impl ServerState {
    /// A server that has just started.
    pub fn new(parts: Parts) -> ServerState {
        let started_ms = parts.clock.monotonic_ms();
        let save = SaveState {
            last_unix_s: parts.clock.unix_ms() / 1000,
            last_ok: true,
            last_duration_s: None,
            running_since_ms: None,
            saves: 0,
        };
        let clients = Arc::new(ClientRegistry::default());
        let publisher = Arc::new(Publisher::new(parts.identity.workers, Arc::clone(&clients)));
        publisher.follow(&parts.store);
        let server = ServerState {
            store: RwLock::new(parts.store),
            generation: AtomicU64::new(1),
            opener: parts.opener,
            reopening: Mutex::default(),
            changing_config: Mutex::default(),
            reconfigure: parts.reconfigure,
            settings: Settings::new(&parts.config),
            config: RwLock::new(Arc::new(parts.config)),
            stats: Stats::new(parts.identity.workers, parts.commands),
            clients,
            users: parts.users,
            acl_log: AclLog::default(),
            web_page_lines: OnceAMinute::default(),
            in_flight: Arc::default(),
            latency: parts.latency,
            allowance: Arc::new(Allowance::new(parts.identity.memory_budget_bytes as usize)),
            slowlog: SlowLog::default(),
            peers: Peers::default(),
            pause: Pause::default(),
            waiters: WaitTable::default(),
            watches: Arc::default(),
            publisher,
            identity: parts.identity,
            started_ms,
            clock: parts.clock,
            no_eviction_before_ms: AtomicU64::new(0),
            compaction: Mutex::new(Compaction::new()),
            save: Mutex::new(save),
            save_requested: AtomicBool::new(false),
            shutdown: Mutex::new(None),
            shutdown_trigger: parts.shutdown_trigger,
            failure: OnceLock::new(),
            logger: parts.logger,
        };
        server.set_told();
        server
    }

    /// Says to the publisher what it is to tell of.
    fn set_told(&self) {
        let config = self.config();
        self.latency.set_threshold_ms(config.number("latency-monitor-threshold").max(0) as u64);
        self.publisher.set_classes(EventClass::from_letters(config.text("notify-keyspace-events")));
        self.publisher.set_tracked_keys_max(config.number("tracking-table-max-keys").max(0) as usize);
    }

    /// The store. Keep it no longer than the gate is held, or compare [`generation`](Self::generation).
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The store, for work that takes long and is not within the gate: waits while it is opened again.
    pub fn settled_store(&self) -> Arc<Store> {
        let _settled = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        self.store()
    }

    /// Grows each time the store was opened again.
    pub fn generation(&self) -> u64 {
        // Acquire: pairs with the Release in `reopen`; whoever sees the number sees the store.
        self.generation.load(Ordering::Acquire)
    }

    /// Closes the store (flushed and synced) and opens it again. The caller has closed the old store's gate and keeps it closed
    /// until this returns. Whoever only asks how things are (INFO) goes on with the old one meanwhile.
    pub fn reopen(&self) -> Result<(), haypile_lsm::Error> {
        let _one_at_a_time = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        self.store().close()?;
        let store = (self.opener)()?;
        self.publisher.follow(&store);
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        // Release: pairs with `generation`.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What whoever changes the configuration holds. `None` if another does, and the caller may not wait: that one may be reading files.
    pub fn lock_config(&self, may_wait: bool) -> Option<MutexGuard<'_, ()>> {
        match self.changing_config.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if may_wait => {
                Some(self.changing_config.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Changes the configuration by `change`, which sees the one in force and sets directives of these names; in force everywhere when this
    /// returns.
    pub fn change_config(
        &self,
        _one_at_a_time: MutexGuard<'_, ()>,
        names: &[&str],
        change: impl FnOnce(&Config) -> Result<Config, String>,
    ) -> Result<(), String> {
        let config = self.config();
        let changed = change(&config)?;
        (self.reconfigure)(&config, &changed, names)?;
        self.settings.apply(&changed);
        let before = self.config();
        let password = changed.text("requirepass");
        if password != before.text("requirepass") {
            self.users.set_default_password(password.as_bytes());
        }
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        self.set_told();
        self.no_eviction_before_ms.store(0, RELAXED);
        self.evict_clients();
        Ok(())
    }

    /// Looks at what a client takes that may have grown, if `maxmemory-clients` is on, and closes the largest clients if all take too much.
    #[inline]
    pub fn look_at_memory_of(&self, client: &ClientInfo) {
        let bytes_max = self.settings.client_memory_max_bytes.load(RELAXED);
        if bytes_max != 0 && self.clients.account(client) as u64 > bytes_max {
            self.evict_clients();
        }
    }

    /// Closes the largest clients if all together take more than `maxmemory-clients`.
    pub fn evict_clients(&self) {
        let bytes_max = self.settings.client_memory_max_bytes.load(RELAXED);
        if bytes_max == 0 {
            return;
        }
        // Where nobody may be closed, everybody would look again for every command.
        let now_ms = self.clock.monotonic_ms();
        if now_ms < self.no_eviction_before_ms.load(RELAXED) {
            return;
        }
        let evicted = self.clients.evict(bytes_max as usize);
        self.stats.shared().counters.clients_evicted.fetch_add(evicted as u64, RELAXED);
        if evicted == 0 {
            self.no_eviction_before_ms.store(now_ms + EVICTION_PAUSE_MS, RELAXED);
        }
    }

    /// State of COMPACT, locked. Only for as long as it is looked at.
    pub fn compaction(&self) -> MutexGuard<'_, Compaction> {
        self.compaction.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// State of SAVE and BGSAVE, locked.
    pub fn save_state(&self) -> MutexGuard<'_, SaveState> {
        self.save.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the end of the server. False if it was asked for before.
    pub fn request_shutdown(&self, request: ShutdownRequest) -> bool {
        let mut shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
        if shutdown.is_some() {
            return false;
        }
        *shutdown = Some(request);
        drop(shutdown);
        (self.shutdown_trigger)();
        true
    }

    /// Ends the server because it cannot go on; the reason is what the process ends with.
    pub fn fail(&self, reason: String) {
        self.log('#', &format!("Ending: {reason}"));
        // Only the first reason counts.
        let _ = self.failure.set(reason);
        self.request_shutdown(ShutdownRequest { now: true, ..ShutdownRequest::default() });
    }

    /// Why it could not go on, if that is why it ended.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// What was asked for, if the server is to end.
    pub fn shutdown_requested(&self) -> Option<ShutdownRequest> {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line to the server's log.
    pub fn log(&self, level: char, line: &str) {
        (self.logger)(level, line);
    }
}
