//! The server as a whole: what is started, in which order, and how it ends.
//!
//! ```text
//! start: descriptors -> listening sockets (not yet accepting) -> database -> workers, pools, housekeeper -> acceptor
//! end:   acceptor -> workers (drain) -> pools -> housekeeper -> database closed (flushed, synced)
//! ```
//!
//! Sockets come before the database, so that a port in use is said at once and not after a long recovery.

use crate::base::clock::Clock;
use crate::base::config::{Config, ConfigError};
use crate::command::acl::file::users_at_start;
use crate::command::compact;
use crate::command::connection::REDIS_VERSION;
use crate::command::dispatch::Executor;
use crate::command::memory_cmd::resident_bytes;
use crate::command::save;
use crate::command::server::saved_before_end;
use crate::command::service::Service;
use crate::command::spec::Table;
use crate::command::table::renamed;
use crate::daemon;
use crate::net::acceptor::Acceptor;
use crate::net::listeners::{Listeners, Refusal, addresses};
use crate::net::metrics_server::{MetricsHandle, MetricsServer};
use crate::net::pool::{Pool, PoolKind};
use crate::net::shutdown::Latch;
use crate::net::tls;
use crate::net::worker::log_watch::LogWatch;
use crate::net::worker::mail::{Letter, Pools, Work as PoolWork, WorkerShared, new_shared};
use crate::net::worker::pool_work::do_work;
use crate::net::worker::state::Worker;
use crate::session::clients::WorkerHandle;
use crate::session::in_flight::Work;
use crate::session::latency::{EXPIRE_CYCLE, LatencyMonitor};
use crate::session::server_state::{Identity, Logger, Opener, Parts, ServerState, ShutdownRequest};
use crate::store::hooks::MetaHooks;
use crate::store::store::{PackedLimits, Store, StoreOptions};
use crate::store::txn::Txn;
use crate::types::rdb_file::{self, Imported};
use haypile_lsm::env::env::OpenMode;
use haypile_lsm::{Db, Env, Error, LogProgress, Options, OsEnv};
use mio::Poll;
use rustix::fs::{Stat, fstat, stat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Descriptors that are not clients: files of the database, sockets, spare.
const OWN_DESCRIPTORS: u64 = 512;
/// One part in so many of the memory budget remembers which keys hold plain records: 4 bytes a key.
const PLAIN_KEYS_SHARE: u64 = 64;
/// One part in so many of the memory budget holds the fences of large sorted sets.
const FENCE_CACHE_SHARE: u64 = 64;
/// One part in so many of the memory budget remembers which elements of large hashes and sets are stored.
const KNOWN_ELEMENTS_SHARE: u64 = 64;
/// How often the housekeeper looks around.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How often a server that is asked to end looks whether its workers have ended.
const END_POLL: Duration = Duration::from_millis(10);

/// Runs a server with this configuration until it is asked to end. Errors are one line, ready to be shown.
pub fn run(mut config: Config) -> Result<(), String> {
    let clock = Clock::new();
    let table = renamed(&config.renames).map_err(refused)?;
    let dir = enter_dir(&config)?;
    let log = Log::open(&config, clock)?;
    install_panic_hook(Arc::clone(&log));
    let open_tables = limit_descriptors(&mut config, &log);
    check_lines(&config)?;
    let poll = Poll::new().map_err(|error| format!("cannot poll: {error}"))?;
    let listeners = Arc::new(Listeners::new(&config, &poll, &|level, line| log.write(level, line))?);
    let metrics = MetricsServer::new(&config).inspect_err(|why| log.write('#', why))?;
    let identity = identity(&config, &clock, &dir);
    let users = users_at_start(&config, &dir).map_err(|error| match error {
        ConfigError::File(why) => why,
        line => refused(line),
    })?;

    let watch = Arc::new(LogWatch::new(clock));
    let latency = Arc::new(LatencyMonitor::new(clock));
    let opener = opener(
        &config,
        &identity,
        clock,
        open_tables,
        Arc::clone(&watch),
        Arc::clone(&log),
        Arc::clone(&latency),
    );
    let store = opener().map_err(|error| open_failure(&dir, &error))?;
    greet(&config, &identity, &log);
    let latch: Arc<Latch> = Arc::default();
    let trigger = Arc::clone(&latch);
    let logger: Logger = {
        let log = Arc::clone(&log);
        Box::new(move |level, line| log.write(level, line))
    };
    let pidfile = config.text("pidfile").to_string();
    let sizes = (config.number("io-pool-threads") as usize, config.number("slow-pool-threads") as usize);
    let server = Arc::new(ServerState::new(Parts {
        store,
        opener,
        config,
        users,
        clock,
        identity,
        reconfigure: {
            let (listeners, log) = (Arc::clone(&listeners), Arc::clone(&log));
            Box::new(move |old, new, names| follow(&listeners, &log, open_tables, (old, new), names))
        },
        commands: table.len(),
        shutdown_trigger: Box::new(move || trigger.set()),
        logger,
        latency,
    }));
    // Relaxed: a number for people.
    let resident_bytes = resident_bytes();
    server.stats.memory_startup_bytes.store(resident_bytes, Ordering::Relaxed);
    // The housekeeper looks again; `maxmemory` holds from the first command on.
    server.stats.memory_seen(resident_bytes);
    let running = start(&server, table, (listeners, poll), watch, sizes)
        .map_err(|error| format!("cannot start: {error}"))?;
    let metrics = metrics.map(|(metrics, handle)| serve_metrics(&server, table, metrics, handle)).transpose();
    let metrics = metrics.map_err(|error| format!("cannot start: {error}"))?;
    listen_to_signals(&server, &log).map_err(|error| format!("cannot listen to signals: {error}"))?;
    write_pidfile(&pidfile, &log);
    tell_ready(&server.config(), &log);
    daemon::notify_supervisor(&server.config()).unwrap_or_else(|why| log.write('#', &why));

    while !latch.wait(Duration::from_secs(3600)) {}
    let request = server.shutdown_requested().unwrap_or_default();
    let timeout = Duration::from_secs(server.config().number("shutdown-timeout").max(0) as u64);
    log.write('*', "Ending: no new commands, answering what runs");
    let compactor = running.end(&server, request, timeout);
    if let Some((thread, handle)) = metrics {
        handle.stop();
        join(&server, thread);
    }
    // A compaction that is under way ends when the database is closed.
    let closed = server.store().close();
    join(&server, compactor);
    remove_pidfile(&pidfile);
    closed.map_err(|error| format!("closing the database: {error}"))?;
    if let Some(reason) = server.failure() {
        return Err(reason.to_string());
    }
    log.write('*', "Database closed, everything is on the disk. Bye");
    Ok(())
}

/// Reads a dump file of Redis into the data folder, which no server may be using. Lines for people go to the log.
pub fn import(mut config: Config, file: &str) -> Result<(), String> {
    let clock = Clock::new();
    let input = OsEnv::new().open(&absolute(file), OpenMode::Read);
    let input = input.map_err(|error| format!("cannot read {file}: {error}"))?;
    let dir = enter_dir(&config)?;
    let log = Log::open(&config, clock)?;
    let open_tables = limit_descriptors(&mut config, &log);
    let identity = identity(&config, &clock, &dir);
    let (watch, latency) = (Arc::new(LogWatch::new(clock)), Arc::new(LatencyMonitor::new(clock)));
    let opener = opener(&config, &identity, clock, open_tables, watch, Arc::clone(&log), latency);
    let store = opener().map_err(|error| open_failure(&dir, &error))?;
    log.write('*', &format!("Importing {file} into {}", dir.display()));
    let mut progress = |imported: &Imported, position: u64| {
        log.write('*', &format!("{} keys, {} MB read", imported.keys, position >> 20));
    };
    let mut txn = Txn::new(Arc::clone(&store));
    let outcome = rdb_file::import(&mut txn, input, clock.unix_ms(), &mut progress);
    drop(txn);
    let closed = store.close();
    let imported = outcome.map_err(|error| format!("{file}: {error}"))?;
    closed.map_err(|error| format!("closing the database: {error}"))?;
    let Imported { keys, expired, empty, of_modules, functions } = imported;
    log.write('*', &format!("{keys} keys imported, {expired} had expired, {empty} were empty"));
    if of_modules + functions > 0 {
        log.write(
            '#',
            &format!("Left out: {of_modules} values of modules, {functions} libraries of functions"),
        );
    }
    Ok(())
}

/// Checks a data folder that no server is using; hands each finding to `report`, a line each. How many there were.
pub fn check(dir: &str, report: &mut dyn FnMut(&str)) -> Result<u64, String> {
    const MEMORY_BYTES: usize = 256 << 20;
    let dir = absolute(dir);
    let env: Arc<dyn Env> = OsEnv::new();
    // Opening would make one.
    if !env.exists(&dir.join("CURRENT")).is_ok_and(|there| there) {
        return Err(format!("there is no database in {}", dir.display()));
    }
    let mut options = Options::default().with_memory_budget(MEMORY_BYTES);
    MetaHooks::install(&mut options, Clock::new());
    let db = Db::open(env, &dir, options).map_err(|error| open_failure(&dir, &error))?;
    let checked = crate::types::check::check(&db, report);
    let closed = db.close();
    let checked = checked.map_err(|error| format!("{}: {error}", dir.display()))?;
    let checked = checked.ok_or_else(|| format!("there are no keys and values in {}", dir.display()))?;
    closed.map_err(|error| format!("closing the database: {error}"))?;
    Ok(checked.findings)
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// Makes the data folder. One that was given becomes the working folder, as in Redis: other paths of the configuration are relative to it.
fn enter_dir(config: &Config) -> Result<PathBuf, String> {
    let dir = absolute(config.text("dir"));
    fs::create_dir_all(&dir)
        .map_err(|error| format!("cannot make the data folder {}: {error}", dir.display()))?;
    if config.is_given("dir") {
        std::env::set_current_dir(&dir)
            .map_err(|error| format!("cannot enter the data folder {}: {error}", dir.display()))?;
    }
    Ok(dir)
}

fn open_failure(dir: &Path, error: &Error) -> String {
    match error {
        Error::Locked(_) => format!("the data folder {} is in use by another process", dir.display()),
        Error::UpgradeRequired { .. } => format!("cannot open the data folder: {error}"),
        other => format!("cannot open the database in {}: {other}", dir.display()),
    }
}

// ---- what the server is ----

fn identity(config: &Config, clock: &Clock, dir: &Path) -> Identity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match config.number("workers") {
        // The rest is left to the log, flush and compaction threads: docs/decisions/0005.
        0 => (cores * 3 / 4).max(1),
        workers => workers as usize,
    };
    let seed = [clock.unix_us(), u64::from(std::process::id()), clock.monotonic_ns()];
    let digits = |salt: u64| -> String {
        let bytes: Vec<u8> = seed.iter().flat_map(|part| part.to_le_bytes()).collect();
        let high = xxhash_rust::xxh3::xxh3_128_with_seed(&bytes, salt);
        let low = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, salt + 1);
        format!("{high:032x}{:08x}", low as u32)
    };
    let budget = match config.number("memory-budget") {
        0 => memory_of_machine() / 4,
        bytes => bytes as u64,
    };
    Identity {
        run_id: digits(1),
        replication_id: digits(3),
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string()),
        config_file: config.file.clone().unwrap_or_default(),
        dir: dir.to_path_buf(),
        workers,
        databases: config.number("databases") as usize,
        memory_budget_bytes: budget,
    }
}

/// Memory of the machine, or of the control group if that has less.
fn memory_of_machine() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        })
        .map_or(1 << 30, |kilobytes| kilobytes << 10);
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| read(path).trim().parse::<u64>().ok());
    group.map_or(machine, |group| group.min(machine))
}

/// Raises the limit of descriptors, if it is lower; what it is then.
fn raise_descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.unwrap_or(u64::MAX) < wanted {
        let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
        let asked =
            Rlimit { current: Some(wanted), maximum: limit.maximum.map(|maximum| maximum.max(wanted)) };
        let soft = Rlimit { current: Some(raised), maximum: limit.maximum };
        // Only root may raise the hard limit. What came of it is asked for below.
        let _ = setrlimit(Resource::Nofile, asked).or_else(|_| setrlimit(Resource::Nofile, soft));
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of descriptors to what `maxclients` needs; lowers `maxclients` if that cannot be. Returns how many table files
/// may be open.
fn limit_descriptors(config: &mut Config, log: &Log) -> usize {
    let wanted = config.number("maxclients") as u64 + OWN_DESCRIPTORS;
    let have = raise_descriptors(wanted);
    if have < wanted {
        let clients = have.saturating_sub(OWN_DESCRIPTORS).max(1);
        log.write('#', &format!("maxclients lowered to {clients}: the system allows only {have} open files"));
        if let Ok(lowered) = config.set_all(&[("maxclients".into(), clients.to_string())], true) {
            *config = lowered;
        }
    }
    ((have.saturating_sub(config.number("maxclients") as u64) / 2).clamp(64, 4096)) as usize
}

/// The words with which Redis refuses a configuration.
pub fn refused(why: impl std::fmt::Display) -> String {
    format!("\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n{why}")
}

/// Refuses values that only those who use them can tell to be wrong, with the line that says them.
fn check_lines(config: &Config) -> Result<(), String> {
    for name in ["bind", "metrics-bind"] {
        addresses(config.text(name))
            .map_err(|refusal| refused(config.blame(name, format!("{name}: {refusal}"))))?;
    }
    tls::check_lines(config).map_err(|(name, why)| refused(config.blame(name, why)))
}

/// Does what CONFIG SET asks for beyond numbers: sockets, certificates, descriptors, the log.
fn follow(
    listeners: &Listeners,
    log: &Log,
    open_tables: usize,
    (old, new): (&Config, &Config),
    names: &[&str],
) -> Result<(), String> {
    let failed = |name: &str, why: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
    };
    let changed =
        |names: &[&'static str]| names.iter().copied().find(|name| old.text(name) != new.text(name));
    if new.number("maxclients") > old.number("maxclients") {
        // How many tables may be open was settled at the start.
        let own = OWN_DESCRIPTORS + open_tables as u64;
        let possible = raise_descriptors(new.number("maxclients") as u64 + own);
        if possible < new.number("maxclients") as u64 + own {
            let clients = possible.saturating_sub(own).max(1);
            let why = "The operating system is not able to handle the specified number of clients, try with";
            return Err(failed("maxclients", &format!("{why} {clients}")));
        }
    }
    // A file may have been replaced under its name.
    let is_set = |name: &&'static str| names.iter().any(|set| set.eq_ignore_ascii_case(name));
    let mut tls_before = None;
    if let Some(name) = changed(TLS_DIRECTIVES).or_else(|| TLS_FILES.iter().copied().find(is_set)) {
        let tls = tls::configure(new).map_err(|why| {
            log.write('#', &why);
            failed(name, "Unable to update TLS configuration. Check server logs.")
        })?;
        // Before there are sockets that need it.
        tls_before = Some(listeners.set_tls(tls));
    }
    let of_sockets = changed(&["bind", "port", "tls-port"]);
    let moved = of_sockets.map_or(Ok(()), |name| {
        let change = listeners.change(new, &|level, line| log.write(level, line));
        change.map_err(|refusal| (name, refusal))
    });
    moved.map_err(|(name, refusal)| {
        log.write('#', &refusal.to_string());
        if let Some(before) = tls_before {
            listeners.set_tls(before);
        }
        let why = match refusal {
            Refusal::Address(_) => "Failed to bind to specified addresses.",
            _ if name == "bind" => "Failed to bind to specified addresses.",
            _ => "Unable to listen on this port. Check server logs.",
        };
        let name = match refusal {
            Refusal::TlsPort(_) if name != "bind" => "tls-port",
            _ => name,
        };
        failed(name, why)
    })?;
    log.set_level(new);
    Ok(())
}

/// Files that connections by TLS are made by.
const TLS_FILES: &[&str] = &["tls-cert-file", "tls-key-file", "tls-ca-cert-file", "tls-ca-cert-dir"];

/// What connections by TLS are made by.
const TLS_DIRECTIVES: &[&str] = &[
    "tls-port",
    "tls-auth-clients",
    "tls-ca-cert-dir",
    "tls-ca-cert-file",
    "tls-cert-file",
    "tls-key-file",
    "tls-ciphers",
    "tls-ciphersuites",
    "tls-prefer-server-ciphers",
    "tls-protocols",
    "tls-session-cache-size",
    "tls-session-caching",
];

/// A line for each way in, as Redis writes them: who starts a server waits for one.
fn tell_ready(config: &Config, log: &Log) {
    if config.number("port") != 0 {
        log.write('*', "Ready to accept connections tcp");
    }
    if config.number("tls-port") != 0 {
        log.write('*', "Ready to accept connections tls");
    }
    if !config.text("unixsocket").is_empty() {
        log.write('*', "Ready to accept connections unix");
    }
}

fn greet(config: &Config, identity: &Identity, log: &Log) {
    let version = env!("CARGO_PKG_VERSION");
    log.write(
        '*',
        &format!(
            "Haypile {version} (speaks Redis {}), PID: {}, {} workers, memory budget {} MB",
            REDIS_VERSION,
            std::process::id(),
            identity.workers,
            identity.memory_budget_bytes >> 20
        ),
    );
    log.write(
        '*',
        &format!(
            "Data in {}, appendfsync {}, bound to {}",
            identity.dir.display(),
            config.text("appendfsync"),
            config.text("bind")
        ),
    );
    let inert = config.inert_given();
    if !inert.is_empty() {
        log.write('*', &format!("Accepted without effect: {}", inert.join(", ")));
    }
}

/// How the store is opened, at start and by DEBUG RELOAD.
fn opener(
    config: &Config,
    identity: &Identity,
    clock: Clock,
    open_tables: usize,
    watch: Arc<LogWatch>,
    log: Arc<Log>,
    latency: Arc<LatencyMonitor>,
) -> Opener {
    let (dir, databases, workers) = (identity.dir.clone(), identity.databases, identity.workers);
    let threads = workers + config.number("io-pool-threads") as usize + slow_threads(config);
    let plain_keys_bytes = (identity.memory_budget_bytes / PLAIN_KEYS_SHARE) as usize;
    let fence_cache_bytes = (identity.memory_budget_bytes / FENCE_CACHE_SHARE) as usize;
    let known_elements_bytes = (identity.memory_budget_bytes / KNOWN_ELEMENTS_SHARE) as usize;
    let tables = plain_keys_bytes + fence_cache_bytes + known_elements_bytes;
    let budget = identity.memory_budget_bytes as usize - tables;
    let packed = PackedLimits {
        elements_max: config.number("packed-max-elements") as usize,
        bytes_max: config.number("packed-max-bytes") as usize,
    };
    Box::new(move || {
        let mut options = Options::default().with_memory_budget(budget);
        options.open_tables_max = open_tables;
        MetaHooks::install(&mut options, clock);
        let listener = Arc::clone(&watch);
        options.log_listener = Some(Arc::new(move |progress| listener.advance(progress)));
        let events = Arc::clone(&log);
        options.event_listener = Some(Arc::new(move |line| events.write('*', line)));
        let latency = Arc::clone(&latency);
        options.latency_listener = Some(Arc::new(move |event, took| latency.note(event, took)));
        let env: Arc<dyn Env> = OsEnv::new();
        options.reserve_bytes = reserve_bytes(env.as_ref(), &dir, &options);
        let db = Arc::new(Db::open(env, &dir, options)?);
        watch.advance(LogProgress { written: db.written_lsn(), synced: db.synced_lsn(), poisoned: false });
        Store::open(
            db,
            StoreOptions {
                databases,
                gate_slots: threads,
                clock,
                packed,
                plain_keys_bytes,
                fence_cache_bytes,
                known_elements_bytes,
                ..StoreOptions::default()
            },
        )
    })
}

/// Free space that ordinary writes leave alone, so that a full disk can still take deletes and the compactions that free space: two
/// log segments, one memtable and one job's outputs, but at most a tenth of what is free now.
fn reserve_bytes(env: &dyn Env, dir: &Path, options: &Options) -> u64 {
    let wanted = 2 * options.wal_segment_bytes + options.memtable_bytes as u64 + 2 * options.table_bytes;
    // The folder is made by the open that follows; until then its parent tells.
    let free = dir.ancestors().find_map(|folder| env.free_bytes(folder).ok()).unwrap_or(wanted);
    wanted.min(free / 10)
}

fn slow_threads(config: &Config) -> usize {
    match config.number("slow-pool-threads") {
        0 => std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2),
        threads => threads as usize,
    }
}

// ---- threads ----

/// All threads of a running server.
struct Running {
    acceptor: JoinHandle<()>,
    stop_acceptor: crate::net::acceptor::AcceptorHandle,
    workers: Vec<(Arc<WorkerShared>, JoinHandle<()>)>,
    pools: Arc<Pools>,
    /// Housekeeper and the maker of checkpoints.
    background: [JoinHandle<()>; 2],
    /// Does what COMPACT asks for.
    compactor: JoinHandle<()>,
    stop_background: Arc<Latch>,
}

fn start(
    server: &Arc<ServerState>,
    table: &'static Table,
    (listeners, poll): (Arc<Listeners>, Poll),
    watch: Arc<LogWatch>,
    (io_threads, slow_threads): (usize, usize),
) -> std::io::Result<Running> {
    let workers = server.identity.workers;
    let slow_threads = match slow_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2),
        threads => threads,
    };
    let pools = pools(server, table, workers, io_threads, slow_threads);
    let mut polls = Vec::new();
    for _ in 0..workers {
        let poll = Poll::new()?;
        let shared = new_shared(&poll)?;
        polls.push((poll, shared));
    }
    let shared: Vec<_> = polls.iter().map(|(_, shared)| Arc::clone(shared)).collect();
    watch.set_workers(shared.clone());
    server.publisher.set_workers(shared.iter().map(|own| Arc::clone(own) as Arc<dyn WorkerHandle>).collect());
    let mut threads = Vec::new();
    for (index, (poll, shared)) in polls.into_iter().enumerate() {
        let executor = Executor::new(Arc::clone(server), table, index);
        let worker = Worker::new(
            index,
            poll,
            Arc::clone(&shared),
            Arc::clone(server),
            executor,
            Arc::clone(&pools),
            Arc::clone(&watch),
        );
        threads.push((shared, spawn(server, &format!("worker-{index}"), move || worker.run())?));
    }
    let stop_background: Arc<Latch> = Arc::default();
    let background = |name: &str, run: fn(&Arc<ServerState>, &Latch)| {
        let (own, stop) = (Arc::clone(server), Arc::clone(&stop_background));
        spawn(server, name, move || run(&own, &stop))
    };
    let compactor = background("compact", compact_on_request)?;
    let housekeeper = {
        let (own, stop) = (Arc::clone(server), Arc::clone(&stop_background));
        let (pools, worker) = (Arc::clone(&pools), shared.first().map(Arc::clone));
        let serve = move |service| {
            if let Some(worker) = &worker {
                pools.io.push(PoolWork::Serve(Arc::clone(worker), service));
            }
        };
        spawn(server, "housekeeper", move || keep_house(&own, &stop, &serve))?
    };
    let background = [housekeeper, background("checkpoint", make_checkpoints)?];
    let (acceptor, stop_acceptor) = Acceptor::new(Arc::clone(server), shared, listeners, poll);
    let acceptor = spawn(server, "acceptor", move || acceptor.run())?;
    Ok(Running { acceptor, stop_acceptor, workers: threads, pools, background, compactor, stop_background })
}

/// Starts a thread that the server cannot do without. Commands' panics are caught one by one; one that comes through here left the thread's
/// own state half-done, and ends the server.
fn spawn(
    server: &Arc<ServerState>,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (server, own_name) = (Arc::clone(server), name.to_string());
    std::thread::Builder::new().name(name.to_string()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            server.fail(format!("{own_name} panicked"));
        }
    })
}

fn serve_metrics(
    server: &Arc<ServerState>,
    table: &'static Table,
    metrics: MetricsServer,
    handle: MetricsHandle,
) -> std::io::Result<(JoinHandle<()>, MetricsHandle)> {
    let server = Arc::clone(server);
    // The server can do without it.
    let run = move || metrics.run(&server, table);
    Ok((std::thread::Builder::new().name("metrics".into()).spawn(run)?, handle))
}

/// Both pools. Their threads run jobs with executors of their own, and re-queue jobs into the pools: hence the weak knot.
fn pools(
    server: &Arc<ServerState>,
    table: &'static Table,
    workers: usize,
    io_threads: usize,
    slow_threads: usize,
) -> Arc<Pools> {
    let knot: Arc<OnceLock<Weak<Pools>>> = Arc::default();
    let next_slot = Arc::new(AtomicUsize::new(workers));
    let pool = |kind, threads| {
        let (server, knot, next_slot) = (Arc::clone(server), Arc::clone(&knot), Arc::clone(&next_slot));
        Arc::new(Pool::new(
            kind,
            threads,
            Box::new(move |_| {
                // Relaxed: each thread only needs a number of its own.
                let slot = next_slot.fetch_add(1, Ordering::Relaxed);
                let mut executor = Executor::new(Arc::clone(&server), table, slot);
                let knot = Arc::clone(&knot);
                let server = Arc::clone(&server);
                Box::new(move |work| {
                    if let Some(pools) = knot.get().and_then(Weak::upgrade)
                        && catch_unwind(AssertUnwindSafe(|| do_work(&mut executor, &pools, work))).is_err()
                    {
                        // As for any thread that the server cannot do without.
                        server.fail("a pool's thread panicked".to_string());
                    }
                })
            }),
        ))
    };
    let pools =
        Arc::new(Pools { io: pool(PoolKind::Io, io_threads), slow: pool(PoolKind::Slow, slow_threads) });
    // Set once, here.
    let _ = knot.set(Arc::downgrade(&pools));
    pools
}

impl Running {
    /// Ends everything but the database, and the thread that may be compacting it.
    fn end(self, server: &ServerState, request: ShutdownRequest, timeout: Duration) -> JoinHandle<()> {
        self.stop_acceptor.stop();
        join(server, self.acceptor);
        server.pause.end();
        for (shared, _) in &self.workers {
            shared.mailbox.post(Letter::Refresh);
            shared.mailbox.post(Letter::Stop(request.now));
        }
        let deadline_ms = server.clock.monotonic_ms() + timeout.as_millis() as u64;
        let mut hurried = request.now;
        let nap = Latch::default();
        while self.workers.iter().any(|(_, thread)| !thread.is_finished()) {
            if !hurried && server.clock.monotonic_ms() >= deadline_ms {
                hurried = true;
                server.log('#', "Some clients did not take their answers in time");
                for (shared, _) in &self.workers {
                    shared.mailbox.post(Letter::Stop(true));
                }
            }
            nap.wait(END_POLL);
        }
        for (_, thread) in self.workers {
            join(server, thread);
        }
        self.pools.io.stop();
        self.pools.slow.stop();
        self.stop_background.set();
        for thread in self.background {
            join(server, thread);
        }
        self.compactor
    }
}

fn join(server: &ServerState, thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("thread").to_string();
    if thread.join().is_err() {
        server.log('#', &format!("{name} ended by a panic"));
    }
}

/// Ten times a second: rates, memory, room for large requests, expiry. `serve` takes service for those who wait for what expires.
fn keep_house(server: &Arc<ServerState>, stop: &Latch, serve: &dyn Fn(Box<Service>)) {
    let mut busy = false;
    let mut last_ms = 0;
    while !stop.wait(if busy { Duration::ZERO } else { HOUSEKEEPING }) {
        let now_ms = server.clock.monotonic_ms();
        if now_ms >= last_ms + HOUSEKEEPING.as_millis() as u64 {
            last_ms = now_ms;
            server.stats.sample(now_ms);
            server.peers.close_idle(now_ms);
            server.stats.memory_seen(resident_bytes());
            server.allowance.move_ceiling(|bytes| server.store().db().lend_cache(bytes));
            server.evict_clients();
        }
        busy = match background_turn(server, serve) {
            Ok(more) => more,
            Err(Error::Closed | Error::NoSpace { .. } | Error::Poisoned(_)) => false,
            Err(error) => {
                server.log('#', &format!("housekeeping: {error}"));
                false
            }
        };
    }
}

/// A turn of the store's own work. While writers are paused nothing expires.
fn background_turn(server: &Arc<ServerState>, serve: &dyn Fn(Box<Service>)) -> Result<bool, Error> {
    // Taken before the look at the pause: whoever pauses either sees this turn and waits for its end, or this turn sees the pause.
    let _ticket = server.in_flight.begin(Work::Expiry);
    if server.pause.until(server.clock.monotonic_ms(), true).is_some() {
        return Ok(false);
    }
    let started_ns = server.clock.monotonic_ns();
    let store = server.store();
    let expired = || store.expired_keys() + store.expired_fields();
    let expired_before = expired();
    let result = store.background_turn();
    for (db, key) in store.take_swept() {
        if server.waiters.has(db, &key) {
            serve(Box::new(Service::of_gone(&store, db, &key)));
        }
    }
    if expired() != expired_before {
        let ns = server.clock.monotonic_ns().saturating_sub(started_ns);
        server.latency.note(EXPIRE_CYCLE, Duration::from_nanos(ns));
    }
    result
}

/// Makes the checkpoints that BGSAVE asks for.
fn make_checkpoints(server: &Arc<ServerState>, stop: &Latch) {
    while !stop.wait(HOUSEKEEPING) {
        save::run_requested(server);
    }
}

/// Compacts what COMPACT asks for.
fn compact_on_request(server: &Arc<ServerState>, stop: &Latch) {
    while !stop.wait(HOUSEKEEPING) {
        compact::run_requested(server);
    }
}

fn listen_to_signals(server: &Arc<ServerState>, log: &Arc<Log>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (own, log) = (Arc::clone(server), Arc::clone(log));
    spawn(server, "signals", move || {
        let server = own;
        let mut ending: Option<JoinHandle<()>> = None;
        for signal in signals.forever() {
            if signal == SIGHUP {
                log.look_for_file();
                continue;
            }
            let (name, directive) = match signal {
                SIGTERM => ("SIGTERM", "shutdown-on-sigterm"),
                _ => ("SIGINT", "shutdown-on-sigint"),
            };
            let how = server.config();
            let asked = |word: &str| how.text(directive).split(' ').any(|one| one == word);
            let request = ShutdownRequest { save: asked("save"), now: asked("now"), force: asked("force") };
            server.log('*', &format!("Received {name}"));
            let is_ending = ending.as_ref().is_some_and(|thread| !thread.is_finished());
            if is_ending || server.shutdown_requested().is_some() {
                if signal == SIGINT {
                    server.log('#', "Received SIGINT twice, exiting at once");
                    std::process::exit(1);
                }
                continue;
            }
            if !request.save {
                server.request_shutdown(request);
                continue;
            }
            // A checkpoint may take long, and the next signal may say not to wait for it.
            let own = Arc::clone(&server);
            let end = move || {
                if saved_before_end(&own, request) {
                    own.request_shutdown(request);
                } else {
                    own.log('#', "Errors trying to shut down the server, going on");
                }
            };
            match spawn(&server, "end", end) {
                Ok(thread) => ending = Some(thread),
                Err(error) => server.log('#', &format!("cannot begin to end: {error}")),
            }
        }
    })?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the pid file is none of the database's")]
fn remove_pidfile(path: &str) {
    if !path.is_empty() {
        // It may be gone, or never have been written.
        let _ = fs::remove_file(path);
    }
}

#[expect(clippy::disallowed_methods, reason = "the pid file is none of the database's")]
fn write_pidfile(path: &str, log: &Log) {
    if path.is_empty() {
        return;
    }
    if let Err(error) = fs::write(path, format!("{}\n", std::process::id())) {
        log.write('#', &format!("cannot write the pid file {path}: {error}"));
    }
}

// ---- the log ----

/// Where the server's own lines go: a file, or standard output. A file that was moved away (by logrotate) gets a new one in its place.
struct Log {
    file: Option<Mutex<LogFile>>,
    clock: Clock,
    /// The least weight that is written. Relaxed: a setting, nothing is ordered by it.
    least: AtomicU8,
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// When it was last seen at its path (monotonic ms).
    seen_ms: u64,
}

/// How long lines may still go to a log file that was moved away.
const LOG_FILE_GLANCE_MS: u64 = 1000;

impl LogFile {
    fn open(path: &Path) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path)
    }

    /// Opens the file anew if another one, or none, is at its path.
    fn look(&mut self, now_ms: u64) {
        self.seen_ms = now_ms;
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let (Ok(own), there) = (fstat(&self.file), stat(&self.path)) else { return };
        if there.is_ok_and(|there| identity(there) == identity(own)) {
            return;
        }
        // If it cannot be, the old one still takes lines.
        if let Ok(file) = LogFile::open(&self.path) {
            self.file = file;
        }
    }
}

fn weight(level: char) -> u8 {
    match level {
        '.' => 0,
        '-' => 1,
        '*' => 2,
        _ => 3,
    }
}

impl Log {
    fn open(config: &Config, clock: Clock) -> Result<Arc<Log>, String> {
        let path = config.text("logfile");
        let file = match path {
            "" => None,
            path => {
                let path = absolute(path);
                let file = LogFile::open(&path)
                    .map_err(|error| format!("cannot open the log file {}: {error}", path.display()))?;
                Some(Mutex::new(LogFile { path, file, seen_ms: clock.monotonic_ms() }))
            }
        };
        let log = Log { file, clock, least: AtomicU8::new(0) };
        log.set_level(config);
        Ok(Arc::new(log))
    }

    fn set_level(&self, config: &Config) {
        let least = match config.text("loglevel") {
            "debug" => 0,
            "verbose" => 1,
            "warning" => 3,
            "nothing" => 4,
            _ => 2,
        };
        self.least.store(least, Ordering::Relaxed);
    }

    /// Looks at once whether the file was moved away.
    fn look_for_file(&self) {
        if let Some(file) = &self.file {
            file.lock().unwrap_or_else(PoisonError::into_inner).look(self.clock.monotonic_ms());
        }
    }

    /// Writes a line. A full disk or a closed pipe must not stop the server: failures are ignored.
    fn write(&self, level: char, line: &str) {
        if weight(level) < self.least.load(Ordering::Relaxed) {
            return;
        }
        let line = format!("{} {level} {line}\n", timestamp(self.clock.unix_ms()));
        match &self.file {
            Some(file) => {
                let mut own = file.lock().unwrap_or_else(PoisonError::into_inner);
                let now_ms = self.clock.monotonic_ms();
                if now_ms >= own.seen_ms + LOG_FILE_GLANCE_MS {
                    own.look(now_ms);
                }
                let _ = own.file.write_all(line.as_bytes());
            }
            None => {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
        }
    }
}

/// `2026-11-22 10:06:12.123`, in UTC.
fn timestamp(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// Days since 1970 to a date: eras of 400 years, years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// A panic is logged with its place and backtrace; who catches it decides what it means.
fn install_panic_hook(log: Arc<Log>) {
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed thread").to_string();
        let backtrace = std::backtrace::Backtrace::force_capture();
        log.write('#', &format!("PANIC in {name}: {info}\n{backtrace}"));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00.000");
        assert_eq!(timestamp(951_827_696_789), "2000-02-29 12:34:56.789");
        assert_eq!(timestamp(1_795_342_012_123), "2026-11-22 10:06:52.123");
    }
}
