//! Serving those who wait for keys (BLPOP and its kin): after a command has committed, before anyone else sees what it wrote.
//!
//! ```text
//! lock keys, and what those who wait for them need -> command -> commit -> serve -> unlock
//!
//! serve:  for each key, in line:  run the waiter's command again, for this key only
//!           found nothing       -> the next key
//!           found something     -> claim it: lost  -> drop what was staged, the next in line
//!                                             won   -> commit, hand the reply over, and what it pushed to (BLMOVE) is ready too
//! ```
//!
//! *Locks.* A waiter that moves an element writes to a second key. Nobody waits for a lock while holding one, so a command that writes
//! a key also locks, from the start, whatever those who wait for it would write, and so on ([`add_also`]). The lines of locked
//! keys do not grow, so what was collected under the locks is complete; if it is more than is locked, the command starts over.
//!
//! *Elsewhere.* On a worker a waiter's command may find that it needs the disk, or be long. Then the rest of the service goes to a pool
//! with the keys still locked ([`Service`]); the command that began it has answered already. While clients are paused it rests, without
//! its keys, and comes before whatever else the pause has held up. A key that the sweeper deletes has no command that could serve: its service begins on a pool, and locks the key itself
//! ([`Service::of_gone`]). CLIENT UNBLOCK waits for service that is under way: to whoever has the pusher's answer, those in line are served.

use crate::base::args::Args;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::check::{Asked, check, note_denied, refusal};
use crate::command::changes::{record, remember_again, tell};
use crate::command::key_finder::{for_each_command, for_each_name, names_of};
use crate::command::running::{call_handler, error_of, note_slow};
use crate::command::spec::{Command, Context, Table};
use crate::encoding::meta::Kind;
use crate::session::claim::Served;
use crate::session::in_flight::{InFlight, Ticket, Work};
use crate::session::server_state::{Pause, Rest, ServerState};
use crate::session::session::{Block, Session};
use crate::session::waiters::{WaitTable, Waiter};
use crate::store::events::Readied;
use crate::store::key_locks::{KeyGuard, LockKey};
use crate::store::store::Store;
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile_resp::ReplyWriter;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A key and the number of its database.
pub type Name = (usize, Vec<u8>);

/// Service that goes on elsewhere. Dropped, it gives its keys back.
pub struct Service {
    store: Arc<Store>,
    /// The keys that are locked, or to be.
    keys: Vec<LockKey>,
    locked: bool,
    line: Line,
    /// While it is under way with its keys locked.
    ticket: Option<Ticket>,
    /// While it rests, and until it has locked its keys again or stands in the line of one.
    rest: Option<Rest>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("line", &self.line).finish_non_exhaustive()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.locked {
            drop(self.store.locks().adopt(std::mem::take(&mut self.keys)));
        }
    }
}

impl Service {
    /// The store whose keys are locked.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The keys to be locked, as things stand: who came to wait since it gave them up may write others.
    pub fn keys(&self, waiters: &WaitTable) -> Vec<LockKey> {
        let mut keys = self.keys.clone();
        let mut open = Vec::new();
        for (db, key) in &self.line.ready {
            waiters.also(*db, key, |db, key| open.push((db, key.to_vec())));
        }
        close_over(waiters, &mut keys, open);
        keys
    }

    /// Takes locks and line out, if it has its keys locked in this store.
    pub fn take_locked(&mut self, store: &Arc<Store>) -> Option<(Vec<LockKey>, Line)> {
        let locked = self.locked && Arc::ptr_eq(&self.store, store);
        locked.then(|| (std::mem::take(&mut self.keys), std::mem::take(&mut self.line)))
    }

    /// Gives its keys back, if it has them. Whoever waits for those of a store of before tries again in the new one.
    pub fn into_line(mut self) -> Line {
        std::mem::take(&mut self.line)
    }

    /// What is left of a service, with its keys locked.
    pub fn new(in_flight: &Arc<InFlight>, store: &Arc<Store>, guard: KeyGuard<'_>, line: Line) -> Service {
        let ticket = Some(in_flight.begin(Work::Service));
        Service { store: Arc::clone(store), keys: guard.detach(), locked: true, line, ticket, rest: None }
    }

    /// Service for those who want to know that a key has gone. It is not locked yet.
    pub fn of_gone(store: &Arc<Store>, db: usize, key: &[u8]) -> Service {
        let mut line = Line { only_gone: true, ..Line::default() };
        line.push(db, key);
        // Not under way before it has its keys: a pause does not wait for that, as who holds them may wait for its end.
        Service {
            store: Arc::clone(store),
            keys: vec![LockKey::new(db, key)],
            locked: false,
            line,
            ticket: None,
            rest: None,
        }
    }

    /// It is in the line of a key that somebody has who was admitted before the pause: nobody else need wait for it any more.
    pub fn is_in_line(&mut self) {
        self.rest = None;
    }

    /// It waits for the end of a pause, and gives its keys up meanwhile: others look at them, and commands that were admitted before may want
    /// them, for whose end whoever pauses waits. No command that the pause holds up comes in before it has them again.
    pub fn rest(&mut self, pause: &Pause) {
        self.rest.get_or_insert_with(|| pause.rest());
        if std::mem::take(&mut self.locked) {
            drop(self.store.locks().adopt(self.keys.clone()));
        }
        self.ticket = None;
    }
}

/// Keys that may be ready, in the order they became so.
#[derive(Debug, Default)]
pub struct Line {
    ready: VecDeque<Name>,
    /// The same, to be asked.
    standing: HashSet<Name>,
    /// The last one in line at the first key who was looked at.
    after: u64,
    /// The keys have gone: if there is a value again, whoever wrote it has served.
    only_gone: bool,
}

/// How far a service came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To its end.
    Done,
    /// It needs a pool.
    Elsewhere,
    /// Clients are paused.
    Paused,
}

/// What those run with whom a service runs for.
pub struct Servant<'a> {
    /// The server.
    pub server: &'a ServerState,
    /// All commands.
    pub table: &'a Table,
    /// The transaction of the thread; nothing is staged in it.
    pub txn: &'a mut Txn,
    /// Where it runs.
    pub mode: Mode,
    /// Time and chance.
    pub draws: Draws,
    /// Whether it stops while clients are paused.
    pub obeys_pause: bool,
}

/// What became of one in line.
enum Turn {
    Served,
    FoundNothing,
    ClaimLost,
    Elsewhere,
}

impl Servant<'_> {
    /// Serves everyone in line that can be.
    pub fn serve(&mut self, line: &mut Line) -> Progress {
        while let Some((db, key)) = line.pop() {
            if self.is_paused() {
                line.put_back((db, key));
                return Progress::Paused;
            }
            if !self.serve_key(db, &key, line) {
                line.put_back((db, key));
                return Progress::Elsewhere;
            }
            line.after = 0;
        }
        Progress::Done
    }

    fn is_paused(&self) -> bool {
        let pause = &self.server.pause;
        self.obeys_pause && pause.is_set() && pause.until(self.server.clock.monotonic_ms(), true).is_some()
    }

    /// Whether it came to its end.
    fn serve_key(&mut self, db: usize, key: &[u8], line: &mut Line) -> bool {
        let waiters = &self.server.waiters;
        loop {
            self.txn.begin(db, self.mode, self.draws, ReadPoint::Latest);
            let Ok(at) = self.txn.at(key) else { return true };
            let kind: Option<Kind> = match self.txn.view(at, |record| record.map(|record| record.head.kind)) {
                Ok(kind) => kind,
                Err(Stop::NeedsIo | Stop::Budget) => return false,
                // Whoever waits for a damaged record may as well wait on.
                Err(_) => return true,
            };
            if line.only_gone && kind.is_some() {
                return true;
            }
            let Some(waiter) = waiters.next(db, key, line.after, kind) else { return true };
            match self.serve_one(&waiter, key) {
                Turn::Elsewhere => return false,
                Turn::FoundNothing => {
                    // Of these, each would find the same; readers of a stream wait for different entries.
                    if matches!(waiter.wanted.kind, Kind::List | Kind::SortedSet) {
                        return true;
                    }
                    line.after = waiter.number();
                }
                Turn::ClaimLost => {
                    line.after = waiter.number();
                    waiters.leave(&waiter);
                }
                Turn::Served => {
                    line.after = waiter.number();
                    waiters.leave(&waiter);
                    for key in &waiter.wanted.also {
                        if waiters.has(waiter.db, key) {
                            line.push(waiter.db, key);
                        }
                    }
                }
            }
        }
    }

    fn serve_one(&mut self, waiter: &Arc<Waiter>, key: &[u8]) -> Turn {
        let args = waiter.words.as_args();
        let Some(command) = self.table.find(args.name()) else { return Turn::FoundNothing };
        let Some(handler) = command.handler else { return Turn::FoundNothing };
        let counters = &self.server.stats.shard(waiter.shard).counters;
        let (users, watches) = (&self.server.users, &self.server.watches);
        let Some(mut session) = Session::of_waiter(waiter, key, users, watches) else {
            waiter.client.kill();
            return Turn::ClaimLost;
        };
        let denied = match session.may_do_all {
            true => None,
            false => check(&session.user, command.acl_number, command.facts, &args).err(),
        };
        let mut reply = ReplyWriter::new(waiter.protocol);
        let started_ns = self.server.clock.monotonic_ns();
        self.txn.begin(waiter.db, self.mode, self.draws, ReadPoint::Latest);
        self.txn.set_origin(waiter.client.id);
        remember_again(self.server, waiter, command, &args);
        record(self.server, self.txn);
        self.txn.set_quiet(command.is_quiet);
        let mut context = Context {
            server: self.server,
            table: self.table,
            session: &mut session,
            txn: self.txn,
            reply: &mut reply,
            args,
        };
        let result = match denied {
            None => call_handler(&mut context, handler),
            Some(denied) => Err(refusal(&context.session.user, command.facts, denied).into()),
        };
        let error = match result {
            Ok(()) if session.wanted.is_some() => {
                self.txn.abandon();
                return Turn::FoundNothing;
            }
            Ok(()) => None,
            Err(Stop::NeedsIo | Stop::Budget) if self.mode == Mode::Inline => {
                self.txn.abandon();
                return Turn::Elsewhere;
            }
            Err(stop) => Some(error_of(self.server, stop)),
        };
        if !waiter.claim.serve() {
            self.txn.abandon();
            return Turn::ClaimLost;
        }
        // From here on it is this client's: whatever comes, it gets an answer.
        if let Some(denied) = denied {
            let asked = Asked { user: &session.user, facts: command.facts, args };
            note_denied(self.server, self.table, &waiter.client, asked, denied, false);
        }
        let (mut committed, mut error) = (None, error);
        if error.is_none() {
            match self.txn.commit() {
                Ok(lsn) => committed = lsn,
                Err(failure) => error = Some(ReplyError::new(format!("MISCONF {failure}"))),
            }
            let dirty = self.txn.stats().dirty;
            counters.dirty.fetch_add(if committed.is_some() { dirty } else { 0 }, Ordering::Relaxed);
        }
        let need = self.txn.need();
        tell(self.server, self.txn, self.draws);
        self.txn.abandon();
        if let Some(error) = error {
            reply.clear();
            reply.error(error.text());
            self.server.stats.error_reply(waiter.shard, error.text().as_bytes());
            self.server.stats.shard(waiter.shard).command_failed(command.index);
        }
        let ns = self.server.clock.monotonic_ns().saturating_sub(started_ns);
        note_slow(self.server, &waiter.client, &args, ns / 1000);
        waiter.claim.deliver(Served { reply: reply.take_buffer(), need, committed });
        // The claim stays with the client until its worker has answered: CLIENT UNBLOCK finds it taken.
        waiter.client.served();
        Turn::Served
    }
}

/// Adds the locks of all that those may write who wait for the keys of a command, and those who wait for that, and so on.
pub fn add_also(
    waiters: &WaitTable,
    keys: &mut Vec<LockKey>,
    table: &Table,
    command: &Command,
    session: &Session,
    args: &Args<'_>,
) {
    let mut open = Vec::new();
    for_each_name(table, command, session, args, |db, key| {
        waiters.also(db, key, |db, key| open.push((db, key.to_vec())));
    });
    close_over(waiters, keys, open);
}

/// Adds the locks of these keys, of all that those may write who wait for them, and so on.
fn close_over(waiters: &WaitTable, keys: &mut Vec<LockKey>, mut open: Vec<Name>) {
    let mut seen: HashSet<Name> = HashSet::new();
    while let Some(name) = open.pop() {
        if seen.contains(&name) {
            continue;
        }
        keys.push(LockKey::new(name.0, &name.1));
        waiters.also(name.0, &name.1, |db, key| open.push((db, key.to_vec())));
        seen.insert(name);
    }
}

/// Enters a command that found nothing and wants to wait. With its keys locked.
pub fn enter(server: &ServerState, session: &mut Session, args: &Args<'_>) {
    let Some(wanted) = session.wanted.take() else { return };
    let until_ms = wanted.until_ms;
    let waiter = Arc::new(Waiter::new(
        Arc::clone(&session.info),
        session.db,
        session.protocol,
        session.tracking.as_ref().is_some_and(|tracking| tracking.remembers()),
        session.shard,
        *wanted,
        args.to_owned(),
    ));
    // A client that has gone meanwhile enters as well: its worker takes it out when it hears of this.
    server.waiters.enter(&waiter);
    waiter.client.begin_wait(&waiter.claim);
    session.block = Some((Block::Keys(waiter), until_ms));
}

/// Commands that write keys and make none ready. Some of them may leave a group more to read; as in Redis its readers wait on, for the next
/// entry that is added.
const READIES_NOBODY: [&str; 11] = [
    "xack",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xgroup|create",
    "xgroup|createconsumer",
    "xgroup|delconsumer",
    "xgroup|setid",
    "xreadgroup",
    "xsetid",
    "xtrim",
];

/// The keys of a command for which somebody waits, with those keys locked. Nobody else will come in before it has run.
pub fn line_of(
    waiters: &WaitTable,
    table: &Table,
    command: &Command,
    session: &Session,
    args: &Args<'_>,
) -> Line {
    let mut line = Line::default();
    for_each_command(table, command, session, args, |facts, db, args| {
        names_of(facts, db, args, |db, key| {
            if waiters.has(db, key) && !READIES_NOBODY.contains(&facts.name) {
                line.push(db, key);
            }
        });
    });
    line
}

/// All keys for which somebody waits: after a command that ran alone.
pub fn line_of_all(waiters: &WaitTable) -> Line {
    let mut line = Line::default();
    waiters.all_keys().iter().for_each(|(db, key)| line.push(*db, key));
    line
}

impl Line {
    /// Adds a key, behind those that became ready before it.
    pub fn push(&mut self, db: usize, key: &[u8]) {
        let name = (db, key.to_vec());
        if self.standing.insert(name.clone()) {
            self.ready.push_back(name);
        }
    }

    /// Whether an order is to be kept.
    pub fn has_several(&self) -> bool {
        self.ready.len() > 1
    }

    /// Puts first the keys that became ready for somebody, in the order in which they did.
    pub fn put_in_order(&mut self, waiters: &WaitTable, ready: &[Readied]) {
        let mut place: HashMap<(usize, &[u8]), usize> = HashMap::new();
        for (index, Readied { db, key, kind }) in ready.iter().enumerate() {
            if waiters.next(*db, key, 0, *kind).is_some() {
                place.entry((*db, key)).or_insert(index);
            }
        }
        let last = ready.len();
        self.ready
            .make_contiguous()
            .sort_by_key(|(db, key)| *place.get(&(*db, key.as_slice())).unwrap_or(&last));
    }

    fn pop(&mut self) -> Option<Name> {
        let name = self.ready.pop_front()?;
        self.standing.remove(&name);
        Some(name)
    }

    /// Puts back what was taken last.
    fn put_back(&mut self, name: Name) {
        // It may have become ready anew meanwhile; then it stands there twice, which costs a look.
        self.standing.insert(name.clone());
        self.ready.push_front(name);
    }
}
