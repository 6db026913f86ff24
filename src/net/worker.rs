//! A worker: one thread, one poll, its share of the connections.
//!
//! ```text
//! turn = letters (new connections, finished pool jobs, kills) -> socket events -> timers -> ready connections: read, parse, run
//!        -> one write of the log -> send what the log's watermark allows -> sleep, unless something is ready
//! ```
//!
//! A worker never waits: reads are memory-only, locks are tried, the log is written by whoever wins its lock. What would wait is
//! parked (the connection runs nothing more until a letter or a timer says so) or sent to a pool; the worker goes on with others. Each
//! ready connection gets a bounded share of a turn, then goes to the tail of the queue.
//!
//! Replies of a turn are appended to each connection's output while its commands run and sent at the end of the turn, behind one log
//! write for all of them. An output whose fence is not met stays; the worker keeps a list of those and looks at it when the log's
//! watermark has moved, for which the log's listener wakes it.

use crate::base::args::{Args, OwnedArgs};
use crate::base::clock::Clock;
use crate::command::dispatch::{Elsewhere, Executor, Later, Outcome, Request, Waker};
use crate::command::running::note_slow;
use crate::command::service::Service;
use crate::net::blocking::{self, Held, Parking, Settled};
use crate::net::buffer::{READ_BYTES_MAX, SHARED_BYTES, cut_front};
use crate::net::connection::{Blocked, Connection, Parked, Pending};
use crate::net::flow::{FlowSink, HELD_BYTES_MAX, News, PIECE_BYTES, Piece};
use crate::net::output::BUFFER_KEPT_BYTES;
use crate::net::pool::Pool;
use crate::net::push;
use crate::net::timer::{Alarm, Timers};
use crate::session::allowance::{Charge, LARGE_REQUEST_BYTES};
use crate::session::claim::Ending;
use crate::session::clients::{
    Arrival, FLAG_BLOCKED, FLAG_CLOSING, FLAG_MONITOR, FLAG_POSTPONED, FLAG_PUBSUB, FLAG_TRACKING,
    WorkerHandle,
};
use crate::session::delivery::{Delivery, Subscriber, append_broken_redirect};
use crate::session::in_flight::{Countdown, Ticket, Work as Flight};
use crate::session::latency::COMMAND;
use crate::session::mailbox::Mailbox;
use crate::session::outside::Outside;
use crate::session::server_state::{Fsync, ServerState};
use crate::session::session::{Block, Session};
use crate::session::stats::Counters;
use haypile_lsm::{LogProgress, Lsn};
use haypile_resp::{Limits, Progress, Protocol, ReplyWriter, RequestParser};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;

/// Commands that one connection may run in one turn.
const COMMANDS_PER_TURN: usize = 256;
/// Commands that all connections together may run before the log is written and replies are sent.
const COMMANDS_PER_LOG_WRITE: usize = 4096;
/// New connections taken in one turn.
const EVENTS_PER_TURN: usize = 1024;
/// Spare buffers and arguments kept by a worker.
const SPARE_BUFFERS_MAX: usize = 64;
/// How long the worker sleeps at most: idle clients and soft limits are looked at that often.
const TICK_MS: u64 = 1000;
/// The same while a connection waits for memory, since whoever gives some back wakes nobody.
const MEMORY_TICK_MS: u64 = 20;
/// The token of the waker.
const WAKER: Token = Token(usize::MAX);

/// Clients that get what they did not ask for just now.
const FLAGS_PUSHED: u32 = FLAG_PUBSUB | FLAG_TRACKING | FLAG_MONITOR;
/// Unsent pushes above which the worker does not wait for the end of its turn to send.
const PUSHED_BYTES_MAX: usize = 256 << 10;

/// What others post to a worker.
pub enum Letter {
    /// A connection that the acceptor took.
    Connection(TcpStream, SocketAddr),
    /// A pool has run a command of a connection.
    Ran(Box<Job>),
    /// A part of a reply that a pool is still making.
    Piece(Box<Piece>),
    /// What a parked connection waited for (a key, the gate) may be free.
    Retry(usize, u64),
    /// Close this client.
    Kill(u64),
    /// End this client's blocking command; with an error or as a timeout.
    Unblock(u64, bool),
    /// What this client waited for was served.
    Served(u64),
    /// What this client's command waited for is over.
    Answered(u64),
    /// To be let go of between two turns.
    EndTurn(Arc<Countdown>),
    /// What some of its connections are to get.
    Deliver(Arc<Delivery>),
    /// Service that could not go on where it was begun.
    Serve(Box<Service>),
    /// Pause or settings changed.
    Refresh,
    /// The server ends: read no more, answer what runs, close. With true, do not wait for clients to take their answers.
    Stop(bool),
}

/// A command on its way to a pool and back.
pub struct Job {
    to: Elsewhere,
    worker: Arc<WorkerShared>,
    token: usize,
    session: Box<Session>,
    pending: Pending,
    /// Memory for its words; given back with them.
    #[expect(dead_code, reason = "given back when the job is dropped")]
    charge: Option<Box<Charge>>,
    /// Its reply, once it has run.
    reply: Vec<u8>,
    need: Lsn,
    /// Until it has run.
    ticket: Option<Ticket>,
}

/// What others see of a worker.
pub struct WorkerShared {
    /// Letters to it.
    pub mailbox: Mailbox<Letter>,
    /// Connections it has, those on their way to it included.
    pub connections: AtomicUsize,
    /// Whether it has output that waits for the log. Set before it looks at the watermark a last time and sleeps.
    waits_for_log: AtomicBool,
}

impl WorkerHandle for WorkerShared {
    fn kill(&self, client: u64) {
        self.mailbox.post(Letter::Kill(client));
    }

    fn unblock(&self, client: u64, with_error: bool) {
        self.mailbox.post(Letter::Unblock(client, with_error));
    }

    fn refresh(&self) {
        self.mailbox.post(Letter::Refresh);
    }

    fn served(&self, client: u64) {
        self.mailbox.post(Letter::Served(client));
    }

    fn deliver(&self, delivery: Arc<Delivery>) {
        self.mailbox.post(Letter::Deliver(delivery));
    }

    fn end_turn(&self, countdown: Arc<Countdown>) {
        self.mailbox.post(Letter::EndTurn(countdown));
    }

    fn answered(&self, client: u64) {
        self.mailbox.post(Letter::Answered(client));
    }
}

/// What a pool does.
pub enum Work {
    /// Run a command.
    Run(Box<Job>),
    /// Bring a key into memory: a command for it will come.
    Warm(usize, Vec<u8>),
    /// Serve those who wait for keys. What cannot go on here goes to this worker.
    Serve(Arc<WorkerShared>, Box<Service>),
}

/// Both pools.
#[derive(Debug)]
pub struct Pools {
    /// For commands that wait for the disk.
    pub io: Arc<Pool<Work>>,
    /// For commands that take long.
    pub slow: Arc<Pool<Work>>,
}

/// Keys warmed for the commands behind one that missed.
const WARMED_KEYS_MAX: usize = 64;
/// Work in the io pool above which nothing is warmed.
const WARMING_QUEUE_MAX: usize = 256;

impl Pools {
    fn push(&self, job: Box<Job>) {
        match job.to {
            Elsewhere::Io => self.io.push(Work::Run(job)),
            Elsewhere::Slow => self.slow.push(Work::Run(job)),
        }
    }
}

/// How far the log has come, as its listener says; wakes workers that wait for it.
///
/// Under `everysec` what was *written* may leave, as long as syncs keep up: a mark is set at some written LSN and moves on when a
/// sync has passed it; once a mark is two seconds old, the disk stalls, and only what is *synced* may leave.
pub struct LogWatch {
    clock: Clock,
    written: AtomicU64,
    synced: AtomicU64,
    poisoned: AtomicBool,
    /// An LSN that no sync has passed yet; 0 if all is synced.
    mark: AtomicU64,
    /// When the mark was set (monotonic ms).
    mark_ms: AtomicU64,
    workers: std::sync::OnceLock<Vec<Arc<WorkerShared>>>,
}

/// How old the oldest unsynced write may be under `everysec` before answers wait for the sync.
const UNSYNCED_MS_MAX: u64 = 2000;

impl LogWatch {
    /// A watch that has seen nothing yet.
    pub fn new(clock: Clock) -> LogWatch {
        LogWatch {
            clock,
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            mark: AtomicU64::new(0),
            mark_ms: AtomicU64::new(0),
            workers: std::sync::OnceLock::new(),
        }
    }

    /// Says which workers to wake. Called once.
    pub fn set_workers(&self, workers: Vec<Arc<WorkerShared>>) {
        // A second call would be a bug of the caller; the first list stays.
        let _ = self.workers.set(workers);
    }

    /// The log's listener.
    pub fn advance(&self, progress: LogProgress) {
        // SeqCst: pairs with the loads in `watermark` after a worker has set `waits_for_log`.
        self.written.fetch_max(progress.written, Ordering::SeqCst);
        self.synced.fetch_max(progress.synced, Ordering::SeqCst);
        if progress.poisoned {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        // Relaxed: two threads that move the mark at once set it to about the same.
        if progress.synced >= self.mark.load(RELAXED) {
            self.mark_ms.store(self.clock.monotonic_ms(), RELAXED);
            self.mark.store(if progress.written > progress.synced { progress.written } else { 0 }, RELAXED);
        }
        for worker in self.workers.get().into_iter().flatten() {
            if worker.waits_for_log.load(Ordering::SeqCst) {
                worker.mailbox.nudge();
            }
        }
    }

    /// What may leave the process under this setting.
    fn watermark(&self, fsync: Fsync, now_ms: u64) -> Lsn {
        match fsync {
            Fsync::EverySecond if !self.is_stalled(now_ms) => self.written(),
            Fsync::No => self.written(),
            Fsync::Always | Fsync::EverySecond => self.synced(),
        }
    }

    fn written(&self) -> Lsn {
        self.written.load(Ordering::SeqCst)
    }

    fn synced(&self) -> Lsn {
        self.synced.load(Ordering::SeqCst)
    }

    fn is_stalled(&self, now_ms: u64) -> bool {
        self.mark.load(RELAXED) != 0 && now_ms > self.mark_ms.load(RELAXED) + UNSYNCED_MS_MAX
    }

    /// Whether the log has failed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }
}

/// See the module.
pub struct Worker {
    index: usize,
    server: Arc<ServerState>,
    shared: Arc<WorkerShared>,
    pools: Arc<Pools>,
    log: Arc<LogWatch>,
    poll: Poll,
    executor: Executor,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    by_client: HashMap<u64, usize>,
    ready: VecDeque<usize>,
    dirty: Vec<usize>,
    fenced: Vec<usize>,
    timers: Timers,
    /// Connections whose blocking command waits for the disk (WAITAOF).
    blocked_on_log: Vec<usize>,
    /// Service that waits for the end of a pause.
    held: Held,
    /// Connections (place, client) that wait for memory for a large request, and the allowance's changes that they know of.
    waiting_for_memory: Vec<(usize, u64)>,
    memory_changes: u64,
    letters: Vec<Letter>,
    read_buffer: Vec<u8>,
    /// The parser of connections that are between commands.
    parser: Option<Box<RequestParser>>,
    spare_buffers: Vec<Vec<u8>>,
    /// Highest LSN committed or read in this turn.
    turn_need: Lsn,
    watermark: Lsn,
    now_ms: u64,
    last_tick_ms: u64,
    stopping: Option<bool>,
}

/// What becomes of a connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Closes,
}

/// A worker and what others see of it.
pub fn new_shared(poll: &Poll) -> io::Result<Arc<WorkerShared>> {
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok(Arc::new(WorkerShared {
        mailbox: Mailbox::new(move || {
            // Fails only when the system is out of memory; the worker then wakes with its next tick.
            let _ = waker.wake();
        }),
        connections: AtomicUsize::new(0),
        waits_for_log: AtomicBool::new(false),
    }))
}

impl Worker {
    /// A worker without connections.
    pub fn new(
        index: usize,
        poll: Poll,
        shared: Arc<WorkerShared>,
        server: Arc<ServerState>,
        executor: Executor,
        pools: Arc<Pools>,
        log: Arc<LogWatch>,
    ) -> Worker {
        Worker {
            index,
            shared,
            pools,
            log,
            poll,
            executor,
            connections: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            fenced: Vec::new(),
            timers: Timers::default(),
            blocked_on_log: Vec::new(),
            held: Held::default(),
            waiting_for_memory: Vec::new(),
            memory_changes: 0,
            letters: Vec::new(),
            read_buffer: vec![0; SHARED_BYTES],
            parser: None,
            spare_buffers: Vec::new(),
            turn_need: 0,
            watermark: 0,
            now_ms: server.clock.monotonic_ms(),
            last_tick_ms: server.clock.monotonic_ms(),
            stopping: None,
            server,
        }
    }

    fn counters(&self) -> &Counters {
        &self.server.stats.shard(self.index).counters
    }

    /// Runs until the server ends and all its connections are closed.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            if let Err(error) = self.sleep(&mut events) {
                self.server.log('#', &format!("worker {}: poll: {error}", self.index));
            }
            self.now_ms = self.server.clock.monotonic_ms();
            self.read_letters();
            self.release_held();
            self.note_events(&events);
            self.fire_timers();
            self.look_for_memory();
            self.serve_ready();
            self.finish_turn();
            if self.now_ms >= self.last_tick_ms + TICK_MS {
                self.last_tick_ms = self.now_ms;
                self.tick();
            }
            if self.stopping.is_some() && self.drained() {
                return;
            }
        }
    }

    /// Polls: without waiting if something is ready, else until an event, a letter or a timer.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let mut timeout = Some(Duration::ZERO);
        let mut announced = false;
        if self.ready.is_empty() {
            let mut wake_ms = self.timers.next_ms().unwrap_or(u64::MAX).min(self.last_tick_ms + TICK_MS);
            if !self.waiting_for_memory.is_empty() {
                wake_ms = wake_ms.min(self.now_ms + MEMORY_TICK_MS);
            }
            let waits = !self.fenced.is_empty() || !self.blocked_on_log.is_empty();
            // SeqCst: pairs with the load in `LogWatch::advance`; the watermark is looked at only after.
            self.shared.waits_for_log.store(waits, Ordering::SeqCst);
            announced = self.shared.mailbox.prepare_to_sleep();
            if announced && !(waits && self.log_has_moved()) {
                let now_ms = self.server.clock.monotonic_ms();
                timeout = Some(Duration::from_millis(wake_ms.saturating_sub(now_ms)));
            }
        }
        let result = self.poll.poll(events, timeout);
        if announced {
            self.shared.mailbox.awake();
        }
        match result {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn log_has_moved(&self) -> bool {
        self.log.is_poisoned()
            || self.log.watermark(self.server.settings.fsync(), self.now_ms) > self.watermark
    }

    fn read_letters(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        self.shared.mailbox.take(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Connection(stream, address) => self.adopt(stream, address),
                Letter::Ran(job) => self.take_back(*job),
                Letter::Piece(piece) => self.take_piece(*piece),
                Letter::Retry(token, client) => self.wake(token, client),
                Letter::Kill(client) => self.kill(client),
                Letter::Unblock(client, with_error) => self.unblock(client, with_error),
                Letter::Served(client) => self.settle(client),
                Letter::Answered(client) => self.end_wait_for_others(client),
                Letter::EndTurn(countdown) => drop(countdown),
                Letter::Deliver(delivery) => self.deliver(&delivery),
                Letter::Serve(service) => self.go_on(service),
                Letter::Refresh => self.refresh(),
                Letter::Stop(now) => self.begin_to_stop(now),
            }
        }
        self.letters = letters;
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let Token(token) = event.token();
            let Some(Some(connection)) = self.connections.get_mut(token) else { continue };
            if event.is_read_closed() || event.is_error() {
                connection.hung_up = true;
            }
            // A client that is gone waits for nothing; one that only ends its requests still takes answers.
            if event.is_error()
                || event.is_write_closed()
                || matches!(connection.parked, Some(Parked::Block(_))) && connection.hung_up
            {
                self.close(token);
                continue;
            }
            if event.is_readable() || connection.hung_up {
                connection.readable = true;
            }
            if event.is_writable() {
                connection.writable = true;
                if !connection.output.is_empty() {
                    self.mark_dirty(token);
                }
            }
            self.make_ready(token);
        }
    }

    /// Puts a connection into the ready queue if a turn could do something for it.
    fn make_ready(&mut self, token: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && !connection.queued
            && connection.can_go_on()
        {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    fn mark_dirty(&mut self, token: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(token);
        }
    }

    fn fire_timers(&mut self) {
        while let Some(alarm) = self.timers.pop_due(self.now_ms) {
            let Some(Some(connection)) = self.connections.get_mut(alarm.token) else { continue };
            if connection.info.id != alarm.client {
                continue;
            }
            match connection.parked {
                Some(Parked::Block(Blocked { block: Block::Keys(ref waiter), until_ms, .. }))
                    if until_ms <= self.now_ms =>
                {
                    // If it is lost, a reply is on its way.
                    let _ = waiter.claim.end(Ending::TimedOut);
                    self.settle(alarm.client);
                }
                Some(Parked::Until(at_ms)) if at_ms <= self.now_ms => {
                    connection.parked = None;
                    self.make_ready(alarm.token);
                }
                Some(Parked::Block(ref blocked)) if blocked.until_ms <= self.now_ms => {
                    self.end_block(alarm.token, None);
                }
                _ => {}
            }
        }
    }

    // ---- connections come and go ----

    fn adopt(&mut self, mut stream: TcpStream, address: SocketAddr) {
        let token = self.free.pop().unwrap_or(self.connections.len());
        let registered =
            self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE);
        if self.stopping.is_some() || registered.is_err() {
            if token < self.connections.len() {
                self.free.push(token);
            }
            self.forget_one();
            return;
        }
        use std::os::fd::AsRawFd;
        let info = self.server.clients.add(Arrival {
            address: address.to_string(),
            local_address: stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string()),
            descriptor: stream.as_raw_fd(),
            now_ms: self.now_ms,
            worker: self.index,
            place: token,
            handle: Arc::clone(&self.shared) as Arc<dyn WorkerHandle>,
        });
        self.server.stats.clients_peak.fetch_max(self.server.clients.len() as u64, RELAXED);
        self.counters().connections_received.fetch_add(1, RELAXED);
        let authenticated = !self.server.settings.password_needed.load(RELAXED);
        self.by_client.insert(info.id, token);
        let session = Box::new(Session::new(info, self.index, authenticated, &self.server.watches));
        let connection = Box::new(Connection::new(stream, token, session));
        if token == self.connections.len() {
            self.connections.push(Some(connection));
        } else if let Some(place) = self.connections.get_mut(token) {
            *place = Some(connection);
        }
    }

    fn forget_one(&self) {
        self.shared.connections.fetch_sub(1, RELAXED);
        self.server.clients.leave();
    }

    /// Closes and forgets a connection. If a pool has its session, the job finds nobody when it comes back.
    fn close(&mut self, token: usize) {
        let Some(mut connection) = self.connections.get_mut(token).and_then(Option::take) else { return };
        // Fails only if it is not registered.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        let block = match &connection.parked {
            Some(Parked::Block(blocked)) => {
                self.timers.remove(alarm_of(&connection, blocked));
                Some(&blocked.block)
            }
            _ => None,
        };
        if let Some(flow) = connection.flow.take() {
            flow.close();
        }
        blocking::abandon(&self.server.waiters, &connection, block);
        set_blocked(&self.server, &mut connection, false);
        self.by_client.remove(&connection.info.id);
        self.server.clients.remove(connection.info.id);
        self.free.push(token);
        self.forget_one();
    }

    fn kill(&mut self, client: u64) {
        if let Some(&token) = self.by_client.get(&client) {
            self.close(token);
        }
    }

    fn refresh(&mut self) {
        for token in 0..self.connections.len() {
            if let Some(Some(connection)) = self.connections.get_mut(token)
                && matches!(connection.parked, Some(Parked::Until(_)))
            {
                connection.parked = None;
                self.make_ready(token);
            }
        }
    }

    fn wake(&mut self, token: usize, client: u64) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && connection.info.id == client
            && matches!(connection.parked, Some(Parked::Waker))
        {
            connection.parked = None;
            self.make_ready(token);
        }
    }

    /// Once a second: idle clients, soft limits.
    fn tick(&mut self) {
        let settings = &self.server.settings;
        let timeout_ms = settings.timeout_s.load(RELAXED) * 1000;
        if timeout_ms == 0 && !settings.has_soft_limit() {
            return;
        }
        let now_ms = self.now_ms;
        let mut closing = Vec::new();
        for connection in self.connections.iter_mut().flatten() {
            let flags = connection.info.flags();
            let limit = self.server.settings.output_limit(flags);
            let idle_ms = now_ms.saturating_sub(connection.info.last_interaction_ms());
            if timeout_ms > 0
                && idle_ms > timeout_ms
                && connection.parked.is_none()
                && flags & (FLAG_PUBSUB | FLAG_MONITOR) == 0
                && !connection.waits_for_memory()
            {
                closing.push(connection.token);
            }
            if limit.soft_bytes > 0 && limited_bytes(connection) > limit.soft_bytes {
                let since_ms = *connection.soft_limit_since_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(since_ms) > limit.soft_seconds * 1000 {
                    self.server
                        .stats
                        .shard(self.index)
                        .counters
                        .output_limit_disconnections
                        .fetch_add(1, RELAXED);
                    closing.push(connection.token);
                }
            } else {
                connection.soft_limit_since_ms = None;
            }
        }
        for token in closing {
            self.close(token);
        }
    }

    // ---- the end ----

    fn begin_to_stop(&mut self, now: bool) {
        self.stopping = Some(now);
        for connection in self.connections.iter_mut().flatten() {
            connection.readable = false;
            connection.ended = true;
            connection.tail.clear();
            if now && let Some(flow) = &connection.flow {
                flow.close();
            }
            if let Some(Parked::Block(blocked)) = &connection.parked {
                // One that is being served still takes its reply.
                if !blocking::abandon(&self.server.waiters, connection, Some(&blocked.block)) {
                    continue;
                }
                connection.parked = None;
            }
            set_blocked(&self.server, connection, false);
        }
        self.held.take();
    }

    /// Closes what has nothing left to do; whether nothing is left.
    fn drained(&mut self) -> bool {
        let now = self.stopping == Some(true);
        for token in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(token) else { continue };
            let served =
                matches!(connection.parked, Some(Parked::Block(Blocked { block: Block::Keys(_), .. })));
            let busy = connection.session.is_none() || connection.pending.is_some() || served;
            let unsent = !connection.output.is_empty();
            if !busy && (now || !unsent) {
                self.close(token);
            }
        }
        self.by_client.is_empty()
    }

    // ---- running commands ----

    fn serve_ready(&mut self) {
        let mut budget = COMMANDS_PER_LOG_WRITE;
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            let Some(mut connection) = self.connections.get_mut(token).and_then(Option::take) else {
                continue;
            };
            connection.queued = false;
            let (fate, ran) =
                if connection.can_go_on() { self.serve(&mut connection) } else { (Fate::Stays, 0) };
            let goes_on = connection.can_go_on();
            if let Some(place) = self.connections.get_mut(token) {
                *place = Some(connection);
            }
            match fate {
                Fate::Closes => self.close(token),
                Fate::Stays if goes_on => self.make_ready(token),
                Fate::Stays => {}
            }
            budget = budget.saturating_sub(ran);
            if budget == 0 {
                return;
            }
        }
    }

    /// One connection's share of a turn. Returns how many commands it ran.
    fn serve(&mut self, connection: &mut Connection) -> (Fate, usize) {
        if connection.info.is_killed() {
            return (Fate::Closes, 0);
        }
        if !connection.output.has_buffer()
            && let Some(buffer) = self.spare_buffers.pop()
        {
            connection.output.put_back(buffer);
        }
        let protocol = connection.session.as_ref().map_or(Protocol::Resp2, |session| session.protocol);
        let mut reply = ReplyWriter::with_buffer(connection.output.take(), protocol);
        let mut ran = 0;
        self.executor.look_at_clock();
        if let Some(pending) = connection.pending.take() {
            set_blocked(&self.server, connection, false);
            connection.info.argument_bytes.store(0, RELAXED);
            ran += 1;
            let args = pending.args.as_args();
            if let Some(again) =
                self.run_command(connection, &mut reply, args, pending.draws, pending.delayed)
            {
                connection.info.argument_bytes.store(pending.args.buffer.len(), RELAXED);
                connection.pending = Some(Pending { args: pending.args, ..again });
            }
        }
        let fate = if connection.parked.is_none() && !connection.closing {
            self.serve_input(connection, &mut reply, &mut ran)
        } else {
            Fate::Stays
        };
        connection.output.put_back(reply.take_buffer());
        connection.output.end_turn();
        connection.info.output_bytes.store(connection.output.unsent(), RELAXED);
        self.server.look_at_memory_of(&connection.info);
        if connection.closing {
            connection.info.set_flag(FLAG_CLOSING, true);
            connection.charge = None;
        }
        if (!connection.output.is_empty() || connection.is_finished()) && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(connection.token);
        }
        (fate, ran)
    }

    /// Reads and runs what was read.
    fn serve_input(&mut self, connection: &mut Connection, reply: &mut ReplyWriter, ran: &mut usize) -> Fate {
        let mut shared = std::mem::take(&mut self.read_buffer);
        let small = connection.tail.is_small();
        let unparsed = connection.tail.is_unparsed();
        let mut parser = match connection.tail.take_parser() {
            Some(parser) => parser,
            None => match self.parser.take() {
                Some(mut parser) => {
                    parser.reset();
                    parser
                }
                None => Box::new(RequestParser::new(Limits::DEFAULT)),
            },
        };
        parser.set_limits(Limits {
            bulk_bytes_max: self.server.settings.bulk_bytes_max.load(RELAXED) as usize,
            ..Limits::DEFAULT
        });
        let front = if small { connection.tail.move_to(&mut shared) } else { 0 };
        let mut filled = front;
        if !unparsed && connection.readable {
            match self.read(connection, shared.get_mut(front..front + READ_BYTES_MAX).unwrap_or_default()) {
                Ok(count) => {
                    filled += count;
                    self.executor.look_at_clock();
                }
                Err(_) => {
                    self.read_buffer = shared;
                    self.parser = Some(parser);
                    return Fate::Closes;
                }
            }
        }
        connection.info.query_bytes.store(connection.tail.len() + filled, RELAXED);
        self.server.look_at_memory_of(&connection.info);
        if connection.info.is_killed() {
            self.read_buffer = shared;
            self.parser = Some(parser);
            return Fate::Closes;
        }
        let (taken, lacking);
        let fate = if small {
            let input = shared.get(..filled).unwrap_or_default();
            (taken, lacking) = self.run_input(connection, reply, &mut parser, input, ran);
            let rest = input.get(taken..).unwrap_or_default().to_vec();
            self.keep_rest(connection, rest, parser, lacking.is_none())
        } else {
            let input = connection.tail.take_with(shared.get(..filled).unwrap_or_default());
            (taken, lacking) = self.run_input(connection, reply, &mut parser, &input, ran);
            self.keep_rest(connection, cut_front(input, taken), parser, lacking.is_none())
        };
        let request_bytes = lacking.map_or(0, |lacking| connection.tail.len().saturating_add(lacking));
        if request_bytes > LARGE_REQUEST_BYTES || connection.charge.is_some() {
            self.charge(connection, *ran > 0, request_bytes);
        }
        self.read_buffer = shared;
        fate
    }

    /// Charges for a request that is or may become large, before more of it is read; gives back what was charged for one that is
    /// over. A command that is to be run again keeps its charge beside its words.
    #[cold]
    fn charge(&mut self, connection: &mut Connection, command_ran: bool, request_bytes: usize) {
        if connection.pending.is_some() {
            return;
        }
        if command_ran || connection.closing || request_bytes <= LARGE_REQUEST_BYTES {
            connection.charge = None;
        }
        if request_bytes > LARGE_REQUEST_BYTES && !connection.closing {
            let allowance = &self.server.allowance;
            let charge = connection.charge.get_or_insert_with(|| Box::new(Charge::new(allowance)));
            if !charge.grow(request_bytes) {
                self.waiting_for_memory.push((connection.token, connection.info.id));
            }
        }
    }

    /// Goes on with connections for which there is memory now.
    fn look_for_memory(&mut self) {
        if self.waiting_for_memory.is_empty() {
            return;
        }
        // Read before asking: what changes later is asked for again.
        let changes = self.server.allowance.changes();
        if changes == self.memory_changes {
            return;
        }
        self.memory_changes = changes;
        let mut waiting = std::mem::take(&mut self.waiting_for_memory);
        waiting.retain(|&(token, client)| {
            let Some(Some(connection)) = self.connections.get_mut(token) else { return false };
            if connection.info.id != client {
                return false;
            }
            let waits = connection.charge.as_mut().is_some_and(|charge| !charge.ask_again());
            if !waits {
                self.make_ready(token);
            }
            waits
        });
        self.waiting_for_memory = waiting;
    }

    /// Keeps what was not run for the next turn.
    fn keep_rest(
        &mut self,
        connection: &mut Connection,
        rest: Vec<u8>,
        parser: Box<RequestParser>,
        more: bool,
    ) -> Fate {
        connection.info.query_bytes.store(rest.len(), RELAXED);
        if connection.closing || rest.is_empty() {
            self.parser = Some(parser);
            connection.tail.clear();
            return Fate::Stays;
        }
        if rest.len() as u64 > self.server.settings.query_bytes_max.load(RELAXED) {
            self.counters().query_limit_disconnections.fetch_add(1, RELAXED);
            return Fate::Closes;
        }
        connection.tail.keep(rest, Some(parser), more);
        Fate::Stays
    }

    /// One read. A short one says that the socket is empty.
    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => {
                    connection.readable = false;
                    connection.ended = true;
                    return Ok(0);
                }
                Ok(count) => {
                    // After a hang-up no further edge comes: read until the end says so itself.
                    connection.readable = count == buffer.len() || connection.hung_up;
                    let counters = self.counters();
                    counters.net_input_bytes.fetch_add(count as u64, RELAXED);
                    counters.reads_processed.fetch_add(1, RELAXED);
                    connection.info.net_input_bytes.fetch_add(count as u64, RELAXED);
                    connection.info.touch(self.now_ms);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = false;
                    return Ok(0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Parses and runs commands of `input`. Returns how many bytes were taken, and how many at least the command that is left lacks;
    /// `None` if what is left may hold whole commands.
    fn run_input(
        &mut self,
        connection: &mut Connection,
        reply: &mut ReplyWriter,
        parser: &mut RequestParser,
        input: &[u8],
        ran: &mut usize,
    ) -> (usize, Option<usize>) {
        let mut taken = 0;
        let before = *ran;
        loop {
            if *ran >= COMMANDS_PER_TURN || reply.len() >= crate::net::output::UNSENT_BYTES_MAX {
                connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                return (taken, None);
            }
            let Some(session) = connection.session.as_ref() else { break };
            parser.set_authenticated(session.authenticated);
            let rest = input.get(taken..).unwrap_or_default();
            let consumed = match parser.parse(rest) {
                Ok(Progress::Complete { consumed }) => consumed,
                Ok(Progress::Incomplete { wanted_bytes }) => {
                    connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                    return (taken, Some(wanted_bytes));
                }
                Err(error) => {
                    reply.error(&format!("ERR {error}"));
                    connection.closing = true;
                    break;
                }
            };
            taken += consumed;
            if parser.arguments().is_empty() {
                continue;
            }
            *ran += 1;
            let args = Args::new(parser.source(rest), parser.arguments());
            if let Some(again) = self.run_command(connection, reply, args, None, false) {
                let args = args.to_owned();
                connection.info.argument_bytes.store(args.buffer.len(), RELAXED);
                connection.pending = Some(Pending { args, ..again });
            }
            if matches!(connection.parked, Some(Parked::Pool)) {
                self.warm_ahead(connection, input.get(taken..).unwrap_or_default());
            }
            if connection.parked.is_some() || connection.closing {
                break;
            }
            if connection.info.flags() & FLAGS_PUSHED != 0 && self.shared.mailbox.has_mail() {
                // It may be for this very client, whom it reaches behind this reply and before the next.
                connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                return (taken, None);
            }
        }
        connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
        (taken, None)
    }

    /// A command missed and waits for the disk: starts to read the keys of those behind it, so that a pipeline of misses costs
    /// one wait and not one each.
    fn warm_ahead(&mut self, connection: &Connection, mut input: &[u8]) {
        if input.is_empty() || self.pools.io.waiting() > WARMING_QUEUE_MAX {
            return;
        }
        let db = connection.info.db();
        let mut parser = RequestParser::new(Limits::DEFAULT);
        let mut warmed = 0;
        while let Ok(Progress::Complete { consumed }) = parser.parse(input) {
            let args = Args::new(parser.source(input), parser.arguments());
            self.executor.keys_of(&args, |key| {
                warmed += 1;
                if warmed <= WARMED_KEYS_MAX {
                    self.pools.io.push(Work::Warm(db, key.to_vec()));
                }
            });
            input = input.get(consumed..).unwrap_or_default();
            if input.is_empty() || warmed >= WARMED_KEYS_MAX {
                return;
            }
        }
    }

    /// Runs one command. If it has to be run again (parked), returns what to remember, without its words; a command that goes
    /// to a pool takes its words along.
    fn run_command(
        &mut self,
        connection: &mut Connection,
        reply: &mut ReplyWriter,
        args: Args<'_>,
        draws: Option<crate::store::txn::Draws>,
        delayed: bool,
    ) -> Option<Pending> {
        let session = connection.session.as_mut()?;
        let position = reply.len();
        let (token, client) = (connection.token, session.id);
        let shared = &self.shared;
        let waker = move || -> Waker {
            let shared = Arc::clone(shared);
            Box::new(move || shared.mailbox.post(Letter::Retry(token, client)))
        };
        let request = Request { args, draws, delayed };
        let outcome = self.executor.run_inline(session, reply, request, &waker);
        if let Some(service) = self.executor.take_unserved() {
            // By letter: it may have to wait for the end of a pause.
            self.shared.mailbox.post(Letter::Serve(service));
        }
        match outcome {
            Outcome::Done { need } => {
                if need > 0 {
                    self.turn_need = self.turn_need.max(need);
                    if need > self.watermark && reply.len() > position {
                        connection.output.fence(position, need);
                    }
                }
                if session.close_after_reply {
                    connection.closing = true;
                }
                if session.drop_replies {
                    reply.clear();
                }
                if let Some((block, until_ms)) = session.block.take() {
                    let sleeps = matches!(block, Block::Sleep);
                    let args = if sleeps { args.to_owned() } else { OwnedArgs::default() };
                    let since_ms = self.server.clock.monotonic_ms();
                    let muted = std::mem::take(&mut session.block_muted);
                    let ticket = sleeps.then(|| self.server.in_flight.begin(Flight::Sleep));
                    self.park_block(connection, Blocked { block, until_ms, since_ms, args, muted, ticket });
                }
                None
            }
            Outcome::Later(later) => {
                let delayed = match later {
                    Later::Woken => {
                        connection.parked = Some(Parked::Waker);
                        delayed
                    }
                    Later::Until { at_ms, delayed } => {
                        // A pause counts as blocking, a delay does not.
                        set_blocked(&self.server, connection, !delayed);
                        connection.info.set_flag(FLAG_POSTPONED, !delayed);
                        connection.parked = Some(Parked::Until(at_ms));
                        self.timers.add(Alarm { at_ms, token, client });
                        delayed
                    }
                };
                Some(Pending { args: Default::default(), draws, delayed })
            }
            Outcome::Elsewhere(to, draws) => {
                let session = connection.session.take()?;
                let writes = self.executor.writes(&session, &args);
                let ticket = Some(self.server.in_flight.begin(Flight::Command { client, writes }));
                connection.parked = Some(Parked::Pool);
                let pending = Pending { args: args.to_owned(), draws: Some(draws), delayed: true };
                connection.info.argument_bytes.store(pending.args.buffer.len(), RELAXED);
                let worker = Arc::clone(&self.shared);
                self.pools.push(Box::new(Job {
                    to,
                    worker,
                    token,
                    session,
                    pending,
                    charge: connection.charge.take(),
                    reply: Vec::new(),
                    need: 0,
                    ticket,
                }));
                None
            }
        }
    }

    /// A pool has made a part of a reply, and has the session still.
    fn take_piece(&mut self, piece: Piece) {
        let connection = self.connections.get_mut(piece.token).and_then(Option::as_mut);
        let connection = connection.filter(|own| own.info.id == piece.client && own.session.is_none());
        let Some(connection) = connection.filter(|_| self.stopping != Some(true)) else {
            piece.flow.close();
            return;
        };
        let bytes = piece.bytes.len();
        append(connection, piece.bytes, piece.need, self.watermark);
        piece.flow.arrived(bytes, connection.output.unsent());
        self.server.look_at_memory_of(&connection.info);
        connection.flow = Some(piece.flow);
        self.turn_need = self.turn_need.max(piece.need);
        connection.info.touch(self.now_ms);
        self.mark_dirty(piece.token);
    }

    /// A pool has run a command.
    fn take_back(&mut self, job: Job) {
        let connection = self.connections.get_mut(job.token).and_then(Option::as_mut);
        let connection = connection.filter(|own| own.info.id == job.session.id && own.session.is_none());
        let Some(connection) = connection else {
            // Nobody waits any more.
            if let Some((Block::Keys(waiter), _)) = &job.session.block {
                self.server.waiters.leave(waiter);
            }
            return;
        };
        let mut session = job.session;
        connection.parked = None;
        connection.flow = None;
        self.turn_need = self.turn_need.max(job.need);
        append(connection, job.reply, job.need, self.watermark);
        if session.close_after_reply {
            connection.closing = true;
        }
        let block = session.block.take();
        let muted = std::mem::take(&mut session.block_muted);
        connection.info.output_bytes.store(connection.output.unsent(), RELAXED);
        connection.info.touch(self.now_ms);
        connection.info.argument_bytes.store(0, RELAXED);
        self.server.look_at_memory_of(&connection.info);
        connection.session = Some(session);
        push::append_deferred(connection, self.watermark);
        if let Some((block, until_ms)) = block
            && let Some(mut connection) = self.connections.get_mut(job.token).and_then(Option::take)
        {
            let since_ms = self.server.clock.monotonic_ms();
            let args = OwnedArgs::default();
            let blocked = Blocked { block, until_ms, since_ms, args, muted, ticket: None };
            self.park_block(&mut connection, blocked);
            let client = connection.info.id;
            if let Some(place) = self.connections.get_mut(job.token) {
                *place = Some(connection);
            }
            // It may be over already.
            self.settle(client);
            self.end_wait_for_others(client);
        }
        self.mark_dirty(job.token);
        self.make_ready(job.token);
    }

    // ---- blocking commands ----

    fn park_block(&mut self, connection: &mut Connection, blocked: Blocked) {
        if let Block::Synced { .. } = blocked.block {
            self.blocked_on_log.push(connection.token);
            self.executor.db().request_sync();
        }
        if matches!(blocked.block, Block::Keys(_)) && (connection.hung_up || self.stopping.is_some()) {
            // Nobody will take what is served, and no event will say so again. What was answered before still leaves.
            blocking::abandon(&self.server.waiters, connection, Some(&blocked.block));
            connection.closing = true;
            return;
        }
        self.timers.add(alarm_of(connection, &blocked));
        // Who waits only for others to end is not blocked in the eyes of others: CLIENT UNBLOCK is none of its business.
        let counts = !matches!(blocked.block, Block::Others(_));
        connection.parked = Some(Parked::Block(blocked));
        set_blocked(&self.server, connection, counts);
    }

    /// Answers a command that waited for others, if it is over.
    fn end_wait_for_others(&mut self, client: u64) {
        let Some(&token) = self.by_client.get(&client) else { return };
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        let Some(Parked::Block(blocked)) = &connection.parked else { return };
        let Block::Others(answer) = &blocked.block else { return };
        let Some(reply) = answer.take() else { return };
        let muted = blocked.muted;
        self.timers.remove(alarm_of(connection, blocked));
        connection.parked = None;
        if !muted {
            append(connection, reply, 0, self.watermark);
        }
        self.mark_dirty(token);
        self.make_ready(token);
    }

    /// Looks whether a wait for keys is over, and answers if it is.
    fn settle(&mut self, client: u64) {
        let Some(&token) = self.by_client.get(&client) else { return };
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        let Some(Parked::Block(blocked)) = &connection.parked else { return };
        let Block::Keys(waiter) = &blocked.block else { return };
        let (settled, muted) = (blocking::look(waiter), blocked.muted);
        if matches!(settled, Settled::Waits) {
            return;
        }
        self.server.waiters.leave(waiter);
        self.timers.remove(alarm_of(connection, blocked));
        // In this order: CLIENT UNBLOCK takes a blocked client without a claim for one that waits for something else.
        set_blocked(&self.server, connection, false);
        connection.info.end_wait();
        match settled {
            Settled::Waits => {}
            Settled::Served(served) => {
                connection.parked = None;
                blocking::append(connection, &served, muted, self.watermark);
                connection.info.output_bytes.store(connection.output.unsent(), RELAXED);
                self.turn_need = self.turn_need.max(served.need);
                self.mark_dirty(token);
                self.make_ready(token);
            }
            Settled::Empty => self.end_block(token, None),
            Settled::Error(error) => self.end_block(token, Some(error)),
            Settled::Gone => self.close(token),
        }
    }

    /// Service that could not go on where it was begun: to a pool, or, while clients are paused, later.
    fn go_on(&mut self, mut service: Box<Service>) {
        match self.server.pause.until(self.now_ms, true) {
            Some(until_ms) if self.stopping.is_none() => {
                // Whoever paused waits for what is under way, and not for this.
                service.rest();
                // For nobody: only so that the loop turns then.
                self.timers.add(Alarm { at_ms: until_ms, token: usize::MAX, client: 0 });
                self.held.keep(service);
            }
            _ => {
                service.go_on(&self.server.in_flight);
                self.pools.io.push(Work::Serve(Arc::clone(&self.shared), service));
            }
        }
    }

    /// Goes on with service once clients are paused no more.
    fn release_held(&mut self) {
        if !self.held.is_empty() && self.server.pause.until(self.now_ms, true).is_none() {
            for service in self.held.take() {
                self.go_on(service);
            }
        }
    }

    fn unblock(&mut self, client: u64, with_error: bool) {
        if let Some(&token) = self.by_client.get(&client)
            && let Some(Some(connection)) = self.connections.get(token)
            && matches!(connection.parked, Some(Parked::Block(_)))
        {
            if let Some(Parked::Block(Blocked { block: Block::Keys(_), .. })) = &connection.parked {
                self.settle(client);
                return;
            }
            let error = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
            self.end_block(token, with_error.then_some(error));
        }
    }

    /// Answers a blocking command whose time has come.
    fn end_block(&mut self, token: usize, error: Option<&str>) {
        let synced = self.log.synced();
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        let Some(Parked::Block(blocked)) = connection.parked.take() else { return };
        set_blocked(&self.server, connection, false);
        if !blocked.args.ranges.is_empty() {
            let us = self.server.clock.monotonic_ms().saturating_sub(blocked.since_ms) * 1000;
            note_slow(&self.server, &connection.info, &blocked.args.as_args(), us);
            self.server.latency.note(COMMAND, Duration::from_micros(us));
        }
        if let Block::Keys(waiter) = &blocked.block {
            note_slow(&self.server, &connection.info, &waiter.words.as_args(), 0);
        }
        let protocol = connection.session.as_ref().map_or(Protocol::Resp2, |session| session.protocol);
        let mut reply = ReplyWriter::with_buffer(connection.output.take(), protocol);
        match (error, blocked.block) {
            _ if blocked.muted => {}
            (Some(error), _) => reply.error(error),
            (None, Block::Keys(_)) => reply.null_array(),
            // It has no end but its answer.
            (None, Block::Others(_)) => {}
            (None, Block::Sleep) => reply.ok(),
            (None, Block::Replicas) => reply.integer(0),
            (None, Block::Synced { lsn, .. }) => {
                reply.array(2);
                reply.integer(i64::from(lsn <= synced));
                reply.integer(0);
            }
        }
        connection.output.put_back(reply.take_buffer());
        self.mark_dirty(token);
        self.make_ready(token);
    }

    fn end_blocks_on_log(&mut self) {
        let synced = self.log.synced();
        let waiting = std::mem::take(&mut self.blocked_on_log);
        for token in waiting {
            let Some(Some(connection)) = self.connections.get(token) else { continue };
            let Some(Parked::Block(Blocked { block: Block::Synced { lsn, replicas }, .. })) =
                connection.parked
            else {
                continue;
            };
            if lsn <= synced && !replicas {
                self.end_block(token, None);
            } else if !self.blocked_on_log.contains(&token) {
                self.blocked_on_log.push(token);
            }
        }
    }

    // ---- pushes ----

    /// Hands a delivery to those connections that it is for.
    fn deliver(&mut self, delivery: &Delivery) {
        let server = Arc::clone(&self.server);
        server.publisher.taken(delivery);
        match delivery {
            Delivery::Message(message) => {
                let mut found = Vec::new();
                server.publisher.channels().subscribers(self.index, message, &mut found);
                for (subscriber, pattern) in found {
                    self.push(subscriber, message.need, |buffer, protocol, _| match pattern {
                        None => message.append(buffer, protocol),
                        Some(pattern) => message.append_for_pattern(buffer, protocol, pattern),
                    });
                }
            }
            Delivery::Invalidation(invalidation) => {
                for (subscriber, in_stead) in &invalidation.to {
                    self.push(*subscriber, invalidation.need, |buffer, protocol, flags| {
                        invalidation.append(buffer, protocol, *in_stead, flags & FLAG_PUBSUB != 0);
                    });
                }
            }
            Delivery::BrokenRedirect { to, redirect } => {
                self.push(*to, 0, |buffer, protocol, _| append_broken_redirect(buffer, protocol, *redirect));
            }
            Delivery::Line(line) => {
                for subscriber in server.publisher.monitors().of_worker(self.index) {
                    self.push(subscriber, 0, |buffer, _, _| buffer.extend_from_slice(line));
                }
            }
        }
    }

    /// Appends a push to the output of one connection, if it is still there.
    fn push(&mut self, to: Subscriber, need: Lsn, write: impl FnOnce(&mut Vec<u8>, Protocol, u32)) {
        let Some(Some(connection)) = self.connections.get_mut(to.place) else { return };
        if connection.info.id != to.client || connection.closing {
            return;
        }
        if !connection.output.has_buffer()
            && let Some(buffer) = self.spare_buffers.pop()
        {
            connection.output.put_back(buffer);
        }
        push::append(connection, need, self.watermark, write);
        self.server.look_at_memory_of(&connection.info);
        if need > self.watermark {
            self.turn_need = self.turn_need.max(need);
        }
        if connection.output.unsent() + connection.deferred.len() > PUSHED_BYTES_MAX {
            self.send(to.place);
        } else {
            self.mark_dirty(to.place);
        }
    }

    // ---- sending ----

    /// Writes the log once for all that was committed in this turn, then sends what may leave.
    fn finish_turn(&mut self) {
        let fsync = self.server.settings.fsync();
        if self.turn_need > self.log.written() {
            // An error poisons the log, of which the listener tells; here there is nothing to do about it.
            let _ = self.executor.db().try_flush_wal();
        }
        if fsync == Fsync::Always && self.turn_need > self.log.synced() {
            self.executor.db().request_sync();
        }
        self.turn_need = 0;
        let watermark = self.log.watermark(fsync, self.now_ms);
        let moved = watermark > self.watermark || self.log.is_poisoned();
        self.watermark = watermark;
        if moved && !self.fenced.is_empty() {
            for token in std::mem::take(&mut self.fenced) {
                if let Some(Some(connection)) = self.connections.get_mut(token) {
                    connection.fenced = false;
                    self.mark_dirty(token);
                }
            }
        }
        if !self.blocked_on_log.is_empty() {
            self.end_blocks_on_log();
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for token in dirty.drain(..) {
            self.send(token);
        }
        self.dirty = dirty;
        self.counters().worker_turns.fetch_add(1, RELAXED);
    }

    /// Sends what may leave of one connection's output.
    fn send(&mut self, token: usize) {
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        connection.dirty = false;
        let hard_bytes = self.server.settings.output_limit(connection.info.flags()).hard_bytes;
        let mut broken = hard_bytes > 0 && limited_bytes(connection) > hard_bytes;
        if broken {
            self.server.stats.shard(self.index).counters.output_limit_disconnections.fetch_add(1, RELAXED);
        }
        let mut sent = 0u64;
        let mut writes = 0u64;
        while connection.writable && !broken {
            let bytes = connection.output.sendable(self.watermark);
            if bytes.is_empty() {
                break;
            }
            writes += 1;
            let wanted = bytes.len();
            match connection.stream.write(bytes) {
                Ok(count) => {
                    connection.output.sent(count);
                    sent += count as u64;
                    // A short write says that the socket is full; an edge comes when it is not.
                    connection.writable = count == wanted;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => connection.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        connection.info.net_output_bytes.fetch_add(sent, RELAXED);
        connection.info.output_bytes.store(connection.output.unsent(), RELAXED);
        if let Some(flow) = &connection.flow {
            flow.sent(connection.output.unsent());
        }
        let waits = connection.output.waits_for().is_some();
        if waits && !connection.fenced {
            connection.fenced = true;
            self.fenced.push(token);
        }
        // Nothing will lift a fence above what the failed log wrote: the outcome is unknown, and the client learns it so.
        broken |= waits && self.log.is_poisoned();
        broken |= connection.is_finished() && connection.output.is_empty();
        if let Some(buffer) = connection.output.release()
            && buffer.capacity() <= BUFFER_KEPT_BYTES
            && self.spare_buffers.len() < SPARE_BUFFERS_MAX
        {
            self.spare_buffers.push(buffer);
        }
        let counters = &self.server.stats.shard(self.index).counters;
        counters.net_output_bytes.fetch_add(sent, RELAXED);
        counters.writes_processed.fetch_add(writes, RELAXED);
        if broken {
            self.close(token);
        } else {
            // It may have been too full to go on.
            self.make_ready(token);
        }
    }
}

/// Puts a reply, or a part of one, behind what a connection still has to send.
fn append(connection: &mut Connection, bytes: Vec<u8>, need: Lsn, watermark: Lsn) {
    let mut buffer = connection.output.take();
    let position = buffer.len();
    if buffer.is_empty() {
        buffer = bytes;
    } else {
        buffer.extend_from_slice(&bytes);
    }
    let appended = buffer.len() > position;
    connection.output.put_back(buffer);
    if appended && need > watermark {
        connection.output.fence(position, need);
    }
    connection.output.end_turn();
    connection.info.output_bytes.store(connection.output.unsent(), RELAXED);
}

/// The timer of a blocking command.
fn alarm_of(connection: &Connection, blocked: &Blocked) -> Alarm {
    Alarm { at_ms: blocked.until_ms, token: connection.token, client: connection.info.id }
}

/// Counts a connection as blocked, or no more.
fn set_blocked(server: &ServerState, connection: &mut Connection, on: bool) {
    if connection.blocked != on {
        connection.blocked = on;
        connection.info.set_flag(FLAG_BLOCKED, on);
        connection.info.set_flag(FLAG_POSTPONED, false);
        server.clients.count_blocked(on);
    }
}

/// Waiting output that counts against `client-output-buffer-limit`: as in Redis, a first part does not.
fn limited_bytes(connection: &Connection) -> u64 {
    const FREE_BYTES: usize = 16 << 10;
    (connection.output.unsent() + connection.deferred.len()).saturating_sub(FREE_BYTES) as u64
}

/// Does what a pool's thread was given.
pub fn do_work(executor: &mut Executor, pools: &Arc<Pools>, work: Work) {
    match work {
        Work::Run(job) => run_job(executor, pools, job),
        Work::Warm(db, key) => executor.warm(db, &key),
        Work::Serve(worker, service) => run_service(executor, pools, worker, service),
    }
}

fn run_service(
    executor: &mut Executor,
    pools: &Arc<Pools>,
    worker: Arc<WorkerShared>,
    service: Box<Service>,
) {
    let (own_pools, own_worker) = (Arc::clone(pools), Arc::clone(&worker));
    let again = move |service| own_pools.io.push(Work::Serve(Arc::clone(&own_worker), service));
    let (parking, waker) = Parking::new(again);
    if let Some(service) = executor.serve(service, &waker).and_then(|service| parking.park(service)) {
        pools.io.push(Work::Serve(Arc::clone(&worker), service));
    }
    if let Some(service) = executor.take_unserved() {
        worker.mailbox.post(Letter::Serve(service));
    }
}

fn run_job(executor: &mut Executor, pools: &Arc<Pools>, mut job: Box<Job>) {
    if job.session.info.is_killed() {
        // Its worker has closed the connection, or is about to.
        job.ticket = None;
        let worker = Arc::clone(&job.worker);
        worker.mailbox.post(Letter::Ran(job));
        return;
    }
    let mut reply = ReplyWriter::with_buffer(std::mem::take(&mut job.reply), job.session.protocol);
    let outside = Arc::new(Outside {
        threads: match job.to {
            Elsewhere::Io => Arc::new(Arc::clone(&pools.io)),
            Elsewhere::Slow => Arc::new(Arc::clone(&pools.slow)),
        },
        gone: Arc::default(),
        waited_ns: AtomicU64::new(0),
    });
    if executor.streams(&job.session, &job.pending.args.as_args()) {
        let (worker, client) = (Arc::clone(&job.worker), job.session.id);
        let post = move |news| match news {
            News::Piece(piece) => worker.mailbox.post(Letter::Piece(piece)),
            News::Kill => worker.mailbox.post(Letter::Kill(client)),
        };
        let sink = FlowSink::new(executor.server(), job.token, client, &outside, Box::new(post));
        reply.stream_to(Box::new(sink), PIECE_BYTES, HELD_BYTES_MAX);
    }
    job.session.outside = Some(outside);
    // The job waits for a key in this slot; the waker takes it out and queues it again. Either may come first.
    let slot: Arc<std::sync::Mutex<WakeSlot>> = Arc::default();
    let waker = || -> Waker {
        let slot = Arc::clone(&slot);
        let pools = Arc::clone(pools);
        Box::new(move || {
            let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match slot.job.take() {
                Some(job) => pools.push(job),
                None => slot.woken = true,
            }
        })
    };
    let request =
        Request { args: job.pending.args.as_args(), draws: job.pending.draws, delayed: job.pending.delayed };
    let outcome = executor.run_on_pool(&mut job.session, &mut reply, request, &waker);
    reply.end_stream();
    job.session.outside = None;
    if let Some(service) = executor.take_unserved() {
        job.worker.mailbox.post(Letter::Serve(service));
    }
    match outcome {
        Outcome::Done { need } => {
            job.need = need;
            job.reply = reply.take_buffer();
            // What it had to commit is committed.
            job.ticket = None;
            let worker = Arc::clone(&job.worker);
            worker.mailbox.post(Letter::Ran(job));
        }
        Outcome::Later(_) => {
            let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.woken {
                drop(slot);
                pools.push(job);
            } else {
                slot.job = Some(job);
            }
        }
        Outcome::Elsewhere(to, draws) => {
            job.pending.draws = Some(draws);
            job.to = to;
            pools.push(job);
        }
    }
}

#[derive(Default)]
struct WakeSlot {
    job: Option<Box<Job>>,
    woken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_disk_holds_answers_back() {
        let clock = Clock::new();
        let watch = LogWatch::new(clock);
        let advance = |written, synced| watch.advance(LogProgress { written, synced, poisoned: false });
        let mark = |fsync, later_ms| watch.watermark(fsync, clock.monotonic_ms() + later_ms);
        advance(10, 0);
        advance(20, 0);
        assert_eq!(mark(Fsync::EverySecond, 0), 20);
        assert_eq!(mark(Fsync::Always, 0), 0);
        assert_eq!(mark(Fsync::EverySecond, 2500), 0, "no sync for long");
        assert_eq!(mark(Fsync::No, 2500), 20);
        advance(30, 10);
        assert_eq!(mark(Fsync::EverySecond, 0), 30, "a sync passed the mark");
        advance(30, 30);
        assert_eq!(mark(Fsync::EverySecond, 1 << 40), 30, "nothing is unsynced");
    }
}
