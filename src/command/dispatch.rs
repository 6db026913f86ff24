//! Runs one command: finds it, admits it or not, locks its keys, calls its function, commits, and says what its reply needs.
//!
//! ```text
//! look up -> arity, authentication -> admission (memory, log, pause, delay) -> gate -> key locks (writes) -> function -> commit
//! ```
//!
//! On a worker nothing here waits: what would wait comes back as [`Outcome::Later`] or [`Outcome::Elsewhere`], and nothing has
//! happened then: no reply, no effect. The command is later run again from the start, with the draws (time, seed) of its first run.
//!
//! The lock of a key is kept for the next command of a pipeline if that names the same key and no other (`docs/decisions/0010`): until a
//! command does not, there is none, or it has been kept for `KEPT_NS_MAX`.
//!
//! A panic of a command's function is caught here: its effects were only staged, so dropping them leaves nothing half-done. From the
//! commit on the engine guards itself. Locks and the gate's place are given back by guards in every case.

use crate::base::args::Args;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::check::{Asked, check, note_denied, refusal};
use crate::command::changes::{record, remember, remember_own, tell};
use crate::command::facts::model::Flag;
use crate::command::key_finder::{find_command_keys, for_each_name};
use crate::command::look_ahead::LookAhead;
use crate::command::look_up::{find, is_web_page, look_up};
use crate::command::running::{account, call_handler, container_alone, error_of, refused_write};
use crate::command::service::{self, Line, Progress, Servant, Service};
use crate::command::spec::{Class, Command, Context, Table};
use crate::command::transactions::{self, Queueing, needs_of};
use crate::session::in_flight::Work;
use crate::session::latency::WRITE_DELAY;
use crate::session::multi::Needs;
use crate::session::server_state::{Fsync, ServerState};
use crate::session::session::{ReplyMode, Session};
use crate::store::key_locks::{KeyGuard, LockKey};
use crate::store::pass::Pass;
use crate::store::store::Store;
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile_lsm::{Db, Lsn};
use haypile_resp::ReplyWriter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;

/// How soon a command asks again for memory to be queued.
const MEMORY_TICK_MS: u64 = 20;
/// Delays are served from this sum on.
const DELAY_PARKED_NS: u64 = 1_000_000;

/// How long a command waits before it is asked again whether workers have caught up with their mail.
const CONGESTION_PAUSE_MS: u64 = 1;

/// A key that has been locked for longer is not kept: it is given back as soon as the command is done, and the next one locks it again unless
/// somebody who spins for it was faster. A pipeline of some dozens of short commands.
const KEPT_NS_MAX: u64 = 100_000;

/// Called, on any thread, when what a command waits for may be free.
pub type Waker = Box<dyn FnOnce() + Send>;

/// One command to run.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its words.
    pub args: Args<'a>,
    /// What was drawn for it when it was first run.
    pub draws: Option<Draws>,
    /// Whether it has served the delay that the engine asked for.
    pub delayed: bool,
    /// Whether more of the same client's input is there to be run at once: then its key may be kept for that.
    pub more: bool,
}

/// Where a command has to be run instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// On the pool that may wait for the disk.
    Io,
    /// On the pool for long commands.
    Slow,
}

/// When to run a command again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// When the waker is called.
    Woken,
    /// At this time (monotonic ms).
    Until {
        /// When.
        at_ms: u64,
        /// Whether the wait was the delay that the engine asked for.
        delayed: bool,
    },
}

/// What came of a command.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// It ran (or was refused), and its reply is there. The reply may leave once the log has reached `need`; 0 for at once.
    Done {
        /// See there.
        need: Lsn,
    },
    /// It did not run.
    Later(Later),
    /// It has to run on a pool.
    Elsewhere(Elsewhere, Draws),
}

/// Which thread asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Worker,
    Pool,
}

/// Runs commands, one after another, for one thread.
pub struct Executor {
    server: Arc<ServerState>,
    table: &'static Table,
    store: Arc<Store>,
    generation: u64,
    txn: Txn,
    /// This thread's place in the gate.
    slot: usize,
    /// Keys to lock; reused.
    keys: Vec<LockKey>,
    /// The key of the last command, held for the next: on a worker only, and until [`Executor::release_kept`] at the latest.
    kept: Option<LockKey>,
    /// When that was locked.
    kept_since_ns: u64,
    /// Those who wait for what the last command wrote, and whom it could not serve here.
    unserved: Option<Box<Service>>,
    random: u64,
    ahead: LookAhead,
    /// The end of the last command is the beginning of the next: one look at the clock a command.
    now_ns: u64,
    /// Wall time (us) minus monotonic time (us) when [`Executor::look_at_clock`] was last called.
    wall_offset_us: i64,
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.release_kept();
    }
}

impl Executor {
    /// For one thread; `slot` is its own in the gate.
    pub fn new(server: Arc<ServerState>, table: &'static Table, slot: usize) -> Executor {
        let generation = server.generation();
        let store = server.store();
        let seed = server.clock.unix_us() ^ ((slot as u64 + 1) << 48);
        Executor {
            txn: Txn::new(Arc::clone(&store)),
            store,
            generation,
            table,
            slot,
            keys: Vec::new(),
            kept: None,
            kept_since_ns: 0,
            unserved: None,
            random: seed | 1,
            ahead: LookAhead::default(),
            now_ns: 0,
            wall_offset_us: 0,
            server,
        }
    }

    /// Calls `found` with each key that the words of a command name, if there is such a command.
    pub fn keys_of<'a>(&self, args: &Args<'a>, mut found: impl FnMut(&'a [u8])) {
        let Some(command) = self.table.find(args.name()) else { return };
        find_command_keys(command.facts, args, |index, _| found(args.get(index)));
    }

    /// Has what the next commands of a pipeline need fetched into the processor's cache. Returns how many of them were looked at.
    pub fn look_ahead(&mut self, db: usize, input: &[u8]) -> usize {
        self.ahead.look(self.table, &self.store, db, input)
    }

    /// Sets the time at which the next command begins. To be called when there may have been a pause since the last.
    pub fn look_at_clock(&mut self) {
        self.now_ns = self.server.clock.monotonic_ns();
        self.wall_offset_us = self.server.clock.unix_us() as i64 - (self.now_ns / 1000) as i64;
    }

    /// Reads a key so that its blocks are in memory when a command comes for it. On a pool's thread only. Failure is none: the
    /// command will find out by itself.
    pub fn warm(&mut self, db: usize, key: &[u8]) {
        self.look_at_clock();
        let draws = self.draw();
        loop {
            let store = &*self.store;
            let Some(gate) = store.gate().enter(self.slot) else { return };
            if self.server.generation() != self.generation {
                drop(gate);
                self.follow_store();
                continue;
            }
            self.txn.begin(db, Mode::Pool, draws, ReadPoint::Latest);
            if let Ok(at) = self.txn.at(key) {
                let _ = self.txn.peek(at, |_| ());
            }
            self.txn.abandon();
            return;
        }
    }

    /// The server.
    pub fn server(&self) -> &Arc<ServerState> {
        &self.server
    }

    /// The database that commands run on at the moment.
    pub fn db(&self) -> &Arc<Db> {
        self.store.db()
    }

    /// Whether a command may write (if there is none by that name: yes).
    pub fn writes(&self, session: &Session, args: &Args<'_>) -> bool {
        let Ok(command) = look_up(self.table, args) else { return true };
        match session.multi.as_deref() {
            Some(multi) if command.runs_queue => multi.needs().replicates,
            _ => needs_of(command).replicates,
        }
    }

    /// Whether the reply of a command may leave in pieces.
    pub fn streams(&self, session: &Session, args: &Args<'_>) -> bool {
        session.reply_mode == ReplyMode::On
            && look_up(self.table, args).is_ok_and(|command| command.streams(args))
    }

    /// Runs a command on a worker: never waits.
    pub fn run_inline(
        &mut self,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: Request<'_>,
        waker: &dyn Fn() -> Waker,
    ) -> Outcome {
        self.run(session, reply, request, waker, Place::Worker)
    }

    /// Runs a command on a pool's thread: may wait for the disk, but not for keys.
    pub fn run_on_pool(
        &mut self,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: Request<'_>,
        waker: &dyn Fn() -> Waker,
    ) -> Outcome {
        self.look_at_clock();
        self.run(session, reply, request, waker, Place::Pool)
    }

    fn run(
        &mut self,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: Request<'_>,
        waker: &dyn Fn() -> Waker,
        place: Place,
    ) -> Outcome {
        let start = reply.len();
        let table = self.table;
        let command = match look_up(table, &request.args) {
            Ok(command) => command,
            Err(_) if is_web_page(request.args.name()) => {
                // No password is needed to come here.
                if self.server.web_page_lines.may_pass(self.server.clock.monotonic_ms()) {
                    let client = &session.info.address;
                    self.server.log(
                        '#',
                        &format!("A web page tried to speak to the server through {client}; closed"),
                    );
                }
                session.drop_replies = true;
                session.close_after_reply = true;
                return Outcome::Done { need: 0 };
            }
            Err(error) => {
                // It may be known all the same: then it counts as rejected.
                return self.refuse(find(table, &request.args), session, reply, error);
            }
        };
        let users_changed = session.users_generation != self.server.users.generation();
        if users_changed && !session.follow_user(&self.server.users) {
            // Its user was removed.
            session.drop_replies = true;
            session.close_after_reply = true;
            return Outcome::Done { need: 0 };
        }
        let queues = session.multi.is_some() && !command.is_never_queued;
        let admitted = match place {
            Place::Worker => self.admit(command, session, &request, queues),
            // It was admitted before it came here; its user's rights may have gone while it waited.
            Place::Pool if users_changed && !session.may_do_all => {
                self.check_user(command, session, &request.args).map(|()| None)
            }
            Place::Pool => Ok(None),
        };
        match admitted {
            Ok(None) => {}
            Ok(Some(later)) => return Outcome::Later(later),
            Err(error) => return self.refuse(Some(command), session, reply, error),
        }
        session.info.set_last_command(command.index as u32);
        if queues {
            return self.queue(command, session, reply, &request.args);
        }
        let class = match session.multi.as_deref() {
            Some(multi) if command.runs_queue => class_of(multi.needs()),
            _ => command.class(&request.args),
        };
        if place == Place::Worker && !matches!(class, Class::Inline) {
            self.release_kept();
            return Outcome::Elsewhere(Elsewhere::Slow, request.draws.unwrap_or_else(|| self.draw()));
        }
        let started_ns = self.now_ns;
        let outcome = if command.is_outside {
            self.run_outside(command, session, reply, &request, place)
        } else if place == Place::Pool && matches!(class, Class::Exclusive) {
            self.run_exclusive(command, session, reply, &request, waker)
        } else {
            self.run_shared(command, session, reply, &request, waker, place)
        };
        let Outcome::Done { need } = outcome else {
            reply.truncate(start);
            return outcome;
        };
        session.seen_lsn = session.seen_lsn.max(need);
        self.now_ns = self.server.clock.monotonic_ns();
        if self.kept.is_some() && self.now_ns.saturating_sub(self.kept_since_ns) >= KEPT_NS_MAX {
            self.release_kept();
        }
        let written = reply.buffer().get(start..).unwrap_or_default();
        let waited_ns = session.outside.as_ref().map_or(0, |outside| outside.waited_ns.load(RELAXED));
        let ns = self.now_ns.saturating_sub(started_ns).saturating_sub(waited_ns);
        account(&self.server, session, command, &request.args, written, ns);
        let is_push = std::mem::take(&mut session.reply_is_push);
        if let Some(tracking) = session.tracking.as_deref_mut()
            && tracking.caching
            && session.multi.is_none()
            && !command.facts.name.starts_with("client|")
        {
            // CLIENT CACHING is for one command.
            tracking.caching = false;
        }
        // The commands of an EXEC have seen to it one by one.
        if reply_is_skipped(session) && !command.runs_queue && !is_push {
            reply.truncate(start);
            session.block_muted = session.block.is_some();
        }
        Outcome::Done { need }
    }

    // ---- before ----

    /// Whether a command may run now: `Ok(Some(later))` if only then, when it is asked again.
    fn admit(
        &mut self,
        command: &Command,
        session: &mut Session,
        request: &Request<'_>,
        queues: bool,
    ) -> Result<Option<Later>, ReplyError> {
        let facts = command.facts;
        let (needs, queued_bytes) = match session.multi.as_deref() {
            Some(multi) if command.runs_queue => (multi.needs(), multi.bytes()),
            _ => (needs_of(command), 0),
        };
        if !session.authenticated && !facts.flags.has(Flag::NoAuth) && self.server.users.asks_for_password() {
            return Err(ReplyError::fixed("NOAUTH Authentication required."));
        }
        if !(session.may_do_all || queues && facts.flags.has(Flag::NoMulti)) {
            self.check_user(command, session, &request.args)?;
        }
        if session.only_listens() && !may_listener_run(command) {
            return Err(ReplyError::new(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                 context",
                facts.name
            )));
        }
        if session.monitoring.is_some() && (needs.reads || needs.writes || needs.replicates) {
            // As to replicas, whom it is one of for Redis.
            return Err(ReplyError::fixed("ERR Replica can't interact with the keyspace"));
        }
        let server = &*self.server;
        if server.publisher.is_congested() {
            let at_ms = server.clock.monotonic_ms() + CONGESTION_PAUSE_MS;
            return Ok(Some(Later::Until { at_ms, delayed: false }));
        }
        // Who still has to say a password could not end the pause otherwise.
        let comes_in = !session.authenticated && facts.flags.has(Flag::NoAuth);
        if server.pause.is_set() && !comes_in && !is_unpause(command) {
            let now_ms = server.clock.monotonic_ms();
            if let Some(at_ms) = server.pause.holds(now_ms, needs.replicates) {
                return Ok(Some(Later::Until { at_ms, delayed: false }));
            }
        }
        if !needs.writes {
            return Ok(None);
        }
        let memory_max = server.settings.memory_max_bytes.load(RELAXED);
        if memory_max > 0 && needs.grows && server.stats.memory_now_bytes.load(RELAXED) > memory_max {
            return Err(ReplyError::fixed("OOM command not allowed when used memory > 'maxmemory'."));
        }
        let db = self.store.db();
        // Deletes and the like go on: they need little room and give some back.
        if needs.grows && !db.wal_has_room() {
            return Err(refused_write(&db.poisoned().unwrap_or_else(|| "No space left on device".into())));
        }
        if !request.delayed
            && !queues
            && let Some(delay) =
                db.write_delay(queued_bytes + request.args.iter().map(<[u8]>::len).sum::<usize>())
        {
            // Timers tick in milliseconds: shorter delays are added up until they are worth one.
            session.delay_debt_ns += delay.as_nanos() as u64;
            if session.delay_debt_ns >= DELAY_PARKED_NS {
                let delay_ms = session.delay_debt_ns / 1_000_000;
                session.delay_debt_ns = 0;
                server.stats.shard(session.shard).counters.commands_delayed.fetch_add(1, RELAXED);
                let waits = Duration::from_millis(delay_ms);
                db.note_delay(waits);
                server.latency.note(WRITE_DELAY, waits);
                let at_ms = server.clock.monotonic_ms() + delay_ms;
                return Ok(Some(Later::Until { at_ms, delayed: true }));
            }
        }
        Ok(None)
    }

    /// Whether its user may run a command with these words.
    fn check_user(&self, command: &Command, session: &Session, args: &Args<'_>) -> Result<(), ReplyError> {
        let (user, facts) = (&session.user, command.facts);
        check(user, command.acl_number, facts, args).map_err(|denied| {
            session.info.set_last_command(command.index as u32);
            let in_multi = session.multi.is_some();
            let asked = Asked { user, facts, args: *args };
            note_denied(&self.server, self.table, &session.info, asked, denied, in_multi);
            refusal(user, facts, denied)
        })
    }

    /// Queues a command for EXEC.
    #[cold]
    fn queue(
        &mut self,
        command: &Command,
        session: &mut Session,
        reply: &mut ReplyWriter,
        args: &Args<'_>,
    ) -> Outcome {
        self.release_kept();
        let start = reply.len();
        match transactions::queue(&self.server, session, command, args, reply) {
            Ok(Queueing::Done) => {}
            Ok(Queueing::Later) => {
                let at_ms = self.server.clock.monotonic_ms() + MEMORY_TICK_MS;
                return Outcome::Later(Later::Until { at_ms, delayed: false });
            }
            Ok(Queueing::TooMuch) => {
                let counters = &self.server.stats.shard(session.shard).counters;
                counters.query_limit_disconnections.fetch_add(1, RELAXED);
                session.drop_replies = true;
                session.close_after_reply = true;
            }
            Err(error) => return self.refuse(Some(command), session, reply, error),
        }
        if reply_is_skipped(session) {
            reply.truncate(start);
        }
        Outcome::Done { need: 0 }
    }

    fn draw(&mut self) -> Draws {
        // xorshift64*: cheap, and good enough for samples.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let now_us = (self.now_ns / 1000) as i64 + self.wall_offset_us;
        Draws { now_ms: now_us.max(0) as u64 / 1000, seed: self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) }
    }

    /// Takes the store that was opened since.
    fn follow_store(&mut self) {
        self.release_kept();
        self.generation = self.server.generation();
        self.store = self.server.store();
        self.txn = Txn::new(Arc::clone(&self.store));
    }

    // ---- running ----

    /// Runs a command that concerns no data: whatever goes on in the database, it need not wait for it.
    fn run_outside(
        &mut self,
        command: &Command,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: &Request<'_>,
        place: Place,
    ) -> Outcome {
        self.release_kept();
        let draws = request.draws.unwrap_or_else(|| self.draw());
        let mode = if place == Place::Worker { Mode::Inline } else { Mode::Pool };
        self.txn.begin(session.db, mode, draws, ReadPoint::Latest);
        call(&self.server, self.table, &mut self.txn, command, session, reply, request, place, draws)
    }

    fn run_shared(
        &mut self,
        command: &Command,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: &Request<'_>,
        waker: &dyn Fn() -> Waker,
        place: Place,
    ) -> Outcome {
        let draws = request.draws.unwrap_or_else(|| self.draw());
        loop {
            let store = &*self.store;
            let Some(gate) = store.gate().enter_or_queue(self.slot, waker) else {
                return Outcome::Later(Later::Woken);
            };
            if self.server.generation() != self.generation {
                drop(gate);
                self.follow_store();
                continue;
            }
            let locks_keys = match session.multi.as_deref() {
                Some(multi) if command.runs_queue => !multi.is_aborted(),
                _ => command.locks_keys(&request.args),
            };
            let waiters = &self.server.waiters;
            let locks: Option<KeyGuard<'_>> = if locks_keys {
                collect_keys(&mut self.keys, self.table, command, session, &request.args);
                if !waiters.is_simple() {
                    service::add_also(waiters, &mut self.keys, self.table, command, session, &request.args);
                }
                let kept = take_kept(&mut self.kept, store, &self.keys);
                if kept.is_none() {
                    self.kept_since_ns = self.now_ns;
                }
                match kept.or_else(|| store.locks().try_lock(&mut self.keys)) {
                    Some(guard) => Some(guard),
                    None => {
                        let counters = &self.server.stats.shard(session.shard).counters;
                        counters.commands_lock_waits.fetch_add(1, RELAXED);
                        match store.locks().lock_or_queue(&mut self.keys, waker) {
                            Some(guard) => Some(guard),
                            None => return Outcome::Later(Later::Woken),
                        }
                    }
                }
            } else {
                drop(take_kept(&mut self.kept, store, &[]));
                None
            };
            if locks.is_some() && !waiters.is_simple() {
                // Under the locks the lines are settled. Somebody may have come in between who needs more.
                let locked = self.keys.len();
                service::add_also(waiters, &mut self.keys, self.table, command, session, &request.args);
                // Locking has sorted them.
                let (locked, needed) = self.keys.split_at(locked);
                if !needed.iter().all(|key| locked.binary_search(key).is_ok()) {
                    continue;
                }
            }
            let mode = if place == Place::Worker { Mode::Inline } else { Mode::Pool };
            let read_point = match self.server.settings.fsync() {
                // Who caches what it reads has to see what it is not told of.
                Fsync::Always if !locks_keys && session.tracking.is_none() => {
                    ReadPoint::SyncedOr(session.known_lsn())
                }
                _ => ReadPoint::Latest,
            };
            // Now, as EXEC forgets what was queued. Under the locks nobody joins a line.
            let mut line = match &locks {
                Some(_) if !waiters.is_empty() => {
                    Some(service::line_of(waiters, self.table, command, session, &request.args))
                }
                _ => None,
            };
            remember(&self.server, session.tracking.as_deref(), session.id, command, &request.args);
            self.txn.begin(session.db, mode, draws, read_point);
            self.txn.set_no_touch(session.no_touch);
            self.txn.set_origin(session.id);
            if locks_keys {
                record(&self.server, &mut self.txn);
                self.txn.set_quiet(command.is_quiet);
            }
            if line.as_ref().is_some_and(Line::has_several) {
                self.txn.note_ready();
            }
            let mut gate = Some(gate);
            if place == Place::Pool && command.leaves_gate() {
                session.pass = gate.take().map(|gate| Pass::new(&self.store, self.slot, gate));
            }
            if reply.streams() {
                // It leaves with the first piece: nobody waits at the gate for a client that takes its time.
                if let Some(gate) = gate.take() {
                    reply.keep_until_streamed(Box::new(Pass::new(&self.store, self.slot, gate)));
                }
                self.txn.pin();
                if let Some(outside) = &session.outside {
                    self.txn.end_when(Arc::clone(&outside.gone));
                }
            }
            let outcome =
                call(&self.server, self.table, &mut self.txn, command, session, reply, request, place, draws);
            let _pass = session.pass.take();
            reply.release();
            let done = matches!(outcome, Outcome::Done { .. });
            if session.wanted.is_some() {
                match done && locks.is_some() {
                    true => service::enter(&self.server, session, &request.args),
                    false => session.wanted = None,
                }
                return outcome;
            }
            let Some(guard) = locks.filter(|_| done) else { return outcome };
            if let Some(line) = &mut line {
                if line.has_several() {
                    line.put_in_order(waiters, &self.txn.take_ready());
                }
                // In a transaction time stood still.
                let draws = Draws { now_ms: self.server.clock.unix_ms(), ..draws };
                let mut servant = Servant {
                    server: &self.server,
                    table: self.table,
                    txn: &mut self.txn,
                    mode,
                    draws,
                    obeys_pause: true,
                };
                if servant.serve(line) != Progress::Done {
                    let line = std::mem::take(line);
                    self.unserved =
                        Some(Box::new(Service::new(&self.server.in_flight, &self.store, guard, line)));
                    return outcome;
                }
            }
            if request.more && place == Place::Worker {
                self.kept = guard.keep();
            }
            return outcome;
        }
    }

    /// Releases what the last command left locked for the next, as there is none or not yet. To be called before a worker turns to
    /// anything else but the next command of the same client.
    pub fn release_kept(&mut self) {
        drop(take_kept(&mut self.kept, &self.store, &[]));
    }

    /// Takes the service that the last command could not end here.
    pub fn take_unserved(&mut self) -> Option<Box<Service>> {
        self.unserved.take()
    }

    /// Goes on with a service, on a pool. What comes back waits for the gate or, if the store was opened anew, for its keys; the waker
    /// is called when they may be free.
    pub fn serve(&mut self, mut service: Box<Service>, waker: &dyn Fn() -> Waker) -> Option<Box<Service>> {
        self.look_at_clock();
        let draws = self.draw();
        loop {
            let store = Arc::clone(&self.store);
            let Some(gate) = store.gate().enter_or_queue(self.slot, waker) else { return Some(service) };
            if self.server.generation() != self.generation {
                drop(gate);
                self.follow_store();
                continue;
            }
            let (held, mut line, _ticket) = match service.take_locked(&store) {
                Some((held, line)) => (held, line, None),
                None => {
                    let waiters = &self.server.waiters;
                    let mut keys = service.keys(waiters);
                    let Some(guard) = store.locks().lock_or_queue(&mut keys, waker) else {
                        service.is_in_line();
                        return Some(service);
                    };
                    // As for a command: under the locks the lines are settled.
                    if !service.keys(waiters).iter().all(|key| keys.binary_search(key).is_ok()) {
                        continue;
                    }
                    let ticket = self.server.in_flight.begin(Work::Service);
                    (guard.detach(), service.into_line(), Some(ticket))
                }
            };
            let guard = store.locks().adopt(held);
            let mut servant = Servant {
                server: &self.server,
                table: self.table,
                txn: &mut self.txn,
                mode: Mode::Pool,
                draws,
                obeys_pause: true,
            };
            if servant.serve(&mut line) != Progress::Done {
                self.unserved = Some(Box::new(Service::new(&self.server.in_flight, &store, guard, line)));
            }
            return None;
        }
    }

    fn run_exclusive(
        &mut self,
        command: &Command,
        session: &mut Session,
        reply: &mut ReplyWriter,
        request: &Request<'_>,
        waker: &dyn Fn() -> Waker,
    ) -> Outcome {
        let draws = request.draws.unwrap_or_else(|| self.draw());
        loop {
            let store = Arc::clone(&self.store);
            let closed = store.gate().close();
            if self.server.generation() != self.generation {
                drop(closed);
                self.follow_store();
                continue;
            }
            // Nobody is inside, but service that was begun and waits for a pool still has its keys, and comes first.
            let mut keys = Vec::new();
            if command.runs_queue {
                collect_keys(&mut keys, self.table, command, session, &request.args);
            }
            let Some(_locks) = store.locks().lock_or_queue(&mut keys, waker) else {
                return Outcome::Later(Later::Woken);
            };
            self.txn.begin(session.db, Mode::Pool, draws, ReadPoint::Latest);
            self.txn.set_origin(session.id);
            record(&self.server, &mut self.txn);
            if command.runs_queue && !self.server.waiters.is_empty() {
                self.txn.note_ready();
            }
            let outcome = call(
                &self.server,
                self.table,
                &mut self.txn,
                command,
                session,
                reply,
                request,
                Place::Pool,
                draws,
            );
            if !self.server.waiters.is_empty() {
                // DEBUG RELOAD may have opened another store: then nothing has changed for anyone.
                // In a transaction time stood still.
                let draws = Draws { now_ms: self.server.clock.unix_ms(), ..draws };
                let mut line = service::line_of_all(&self.server.waiters);
                line.put_in_order(&self.server.waiters, &self.txn.take_ready());
                let mut servant = Servant {
                    server: &self.server,
                    table: self.table,
                    txn: &mut self.txn,
                    mode: Mode::Pool,
                    draws,
                    obeys_pause: false,
                };
                if self.server.generation() == self.generation {
                    servant.serve(&mut line);
                }
            }
            return outcome;
        }
    }

    // ---- after ----

    /// Answers a command that was not run.
    fn refuse(
        &mut self,
        command: Option<&Command>,
        session: &mut Session,
        reply: &mut ReplyWriter,
        error: ReplyError,
    ) -> Outcome {
        self.release_kept();
        let mut error = error;
        if let Some(multi) = session.multi.as_deref_mut() {
            multi.abort();
        }
        if command.is_some_and(|command| command.runs_queue) {
            error = transactions::refuse_exec(session, &error);
        }
        let stats = &self.server.stats;
        stats.error_reply(session.shard, error.text().as_bytes());
        if let Some(command) = command {
            stats.shard(session.shard).command_rejected(command.index);
        }
        if !reply_is_skipped(session) {
            reply.error(error.text());
        }
        Outcome::Done { need: 0 }
    }
}

/// Collects what a command has to lock.
fn collect_keys(
    keys: &mut Vec<LockKey>,
    table: &Table,
    command: &Command,
    session: &Session,
    args: &Args<'_>,
) {
    keys.clear();
    for_each_name(table, command, session, args, |db, key| keys.push(LockKey::new(db, key)));
}

/// Takes what was kept of the last command, if it is all of `keys`; releases it if not: nobody waits for a key while holding one.
#[inline]
fn take_kept<'s>(kept: &mut Option<LockKey>, store: &'s Store, keys: &[LockKey]) -> Option<KeyGuard<'s>> {
    let key = kept.take()?;
    let guard = store.locks().adopt_one(key);
    (*keys == [key]).then_some(guard)
}

/// Where an EXEC runs.
fn class_of(needs: Needs) -> Class {
    match needs {
        Needs { exclusive: true, .. } => Class::Exclusive,
        Needs { slow: true, .. } => Class::Slow,
        Needs { .. } => Class::Inline,
    }
}

/// Calls the function and commits.
#[expect(clippy::too_many_arguments, reason = "the parts of an executor, borrowed one by one")]
fn call(
    server: &ServerState,
    table: &Table,
    txn: &mut Txn,
    command: &Command,
    session: &mut Session,
    reply: &mut ReplyWriter,
    request: &Request<'_>,
    place: Place,
    draws: Draws,
) -> Outcome {
    let start = reply.len();
    let shard = session.shard;
    let handler = command.handler.unwrap_or(container_alone);
    let mut context = Context { server, table, session, txn, reply, args: request.args };
    let result = call_handler(&mut context, handler).and_then(|()| {
        if !context.reply.needs_second_pass() {
            return Ok(());
        }
        context.reply.begin_second_pass();
        call_handler(&mut context, handler)
    });
    let counters = &server.stats.shard(shard).counters;
    let result = result.and_then(|()| txn.commit().map_err(Stop::Engine));
    let contradicted = reply.is_contradicted();
    let seen = txn.stats();
    // Not if it will be run again elsewhere.
    if matches!(result, Ok(_) | Err(Stop::Reply(_))) {
        for (counter, by) in [(&counters.keyspace_hits, seen.hits), (&counters.keyspace_misses, seen.misses)]
        {
            if by > 0 {
                counter.fetch_add(by, RELAXED);
            }
        }
    }
    let stop = match result {
        Ok(_) if contradicted => Stop::Reply(ReplyError::fixed("ERR a reply was not what its lengths said")),
        Ok(lsn) => {
            if seen.dirty > 0 {
                counters.dirty.fetch_add(seen.dirty, RELAXED);
            }
            if let Some(lsn) = lsn {
                session.last_own_lsn = session.last_own_lsn.max(lsn);
            }
            let need = txn.need();
            tell(server, txn, draws);
            remember_own(server, session.tracking.as_deref_mut(), session.id);
            return Outcome::Done { need };
        }
        Err(stop) => stop,
    };
    let need = txn.need();
    if reply.has_handed_over() {
        txn.abandon();
        // What has left cannot be taken back: the client learns by the end of its connection that this is no answer.
        reply.clear();
        session.close_after_reply = true;
        if session.outside.as_ref().is_none_or(|outside| !outside.gone.load(RELAXED)) {
            server.log('#', &format!("a reply to {} was cut short: {stop:?}", session.info.address));
        }
        return Outcome::Done { need };
    }
    match stop {
        Stop::Reply(_) => txn.fail(),
        _ => txn.abandon(),
    }
    reply.truncate(start);
    let error = match stop {
        Stop::NeedsIo if place == Place::Worker => {
            counters.commands_offloaded_io.fetch_add(1, RELAXED);
            return Outcome::Elsewhere(Elsewhere::Io, draws);
        }
        Stop::Budget if place == Place::Worker => {
            counters.commands_offloaded_slow.fetch_add(1, RELAXED);
            return Outcome::Elsewhere(Elsewhere::Slow, draws);
        }
        stop => error_of(server, stop),
    };
    reply.error(error.text());
    Outcome::Done { need }
}

/// What a client may run that is subscribed to something and speaks RESP2.
fn may_listener_run(command: &Command) -> bool {
    const COMMANDS: [&str; 9] = [
        "ping",
        "subscribe",
        "unsubscribe",
        "psubscribe",
        "punsubscribe",
        "ssubscribe",
        "sunsubscribe",
        "quit",
        "reset",
    ];
    COMMANDS.contains(&command.facts.name)
}

/// CLIENT PAUSE and UNPAUSE run while clients are paused.
fn is_unpause(command: &Command) -> bool {
    matches!(command.facts.name, "client|pause" | "client|unpause")
}

/// After a command: whether its reply is dropped; steps CLIENT REPLY SKIP on.
fn reply_is_skipped(session: &mut Session) -> bool {
    match session.reply_mode {
        ReplyMode::On => false,
        ReplyMode::Off => true,
        ReplyMode::SkipNext => {
            session.reply_mode = ReplyMode::Skip;
            true
        }
        ReplyMode::Skip => {
            session.reply_mode = ReplyMode::On;
            true
        }
    }
}
