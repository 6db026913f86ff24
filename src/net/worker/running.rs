//! Running commands: here if memory suffices, on a pool if not; and taking back what a pool has run.

use crate::base::args::{Args, OwnedArgs};
use crate::command::dispatch::{Later, Outcome, Request, Waker};
use crate::net::connection::{Blocked, Connection, Parked, Pending};
use crate::net::flow::Piece;
use crate::net::push;
use crate::net::timer::Alarm;
use crate::net::worker::mail::{self, Job, Letter};
use crate::net::worker::state::{Worker, append, set_blocked};
use crate::session::in_flight::Work;
use crate::session::session::Block;
use haypile_resp::{Limits, Progress, ReplyWriter, RequestParser};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;

/// Keys warmed for the commands behind one that missed.
const WARMED_KEYS_MAX: usize = 64;
/// Work in the io pool above which nothing is warmed.
const WARMING_QUEUE_MAX: usize = 256;

impl Worker {
    /// Runs one command; `more`: its client's next one may follow at once. If it has to be run again (parked), returns what to remember,
    /// without its words; a command that goes to a pool takes its words along.
    pub(super) fn run_command(
        &mut self,
        connection: &mut Connection,
        reply: &mut ReplyWriter,
        args: Args<'_>,
        draws: Option<crate::store::txn::Draws>,
        delayed: bool,
        more: bool,
    ) -> Option<Pending> {
        let session = connection.session.as_mut()?;
        let position = reply.len();
        let (token, client) = (connection.token, session.id);
        let shared = &self.shared;
        let waker = move || -> Waker {
            let shared = Arc::clone(shared);
            Box::new(move || shared.mailbox.post(Letter::Retry(token, client)))
        };
        let request = Request { args, draws, delayed, more };
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
                if let Some((block, until_ms)) = session.block.take() {
                    let sleeps = matches!(block, Block::Sleep);
                    let args = if sleeps { args.to_owned() } else { OwnedArgs::default() };
                    let since_ms = self.server.clock.monotonic_ms();
                    let muted = std::mem::take(&mut session.block_muted);
                    let ticket = sleeps.then(|| self.server.in_flight.begin(Work::Sleep));
                    let claim = None;
                    let blocked = Blocked { block, until_ms, since_ms, args, muted, claim, ticket };
                    self.park_block(connection, blocked);
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
                let ticket = Some(self.server.in_flight.begin(Work::Command { client, writes }));
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

    /// A command missed and waits for the disk: starts to read the keys of those behind it, so that a pipeline of misses costs
    /// one wait and not one each.
    pub(super) fn warm_ahead(&mut self, connection: &Connection, mut input: &[u8]) {
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
                    self.pools.io.push(mail::Work::Warm(db, key.to_vec()));
                }
            });
            input = input.get(consumed..).unwrap_or_default();
            if input.is_empty() || warmed >= WARMED_KEYS_MAX {
                return;
            }
        }
    }

    /// A pool has made a part of a reply, and has the session still.
    pub(super) fn take_piece(&mut self, piece: Piece) {
        let connection = self.connections.get_mut(piece.token).and_then(Option::as_mut);
        let connection = connection.filter(|own| own.info.id == piece.client && own.session.is_none());
        let stops = self.stopping == Some(true);
        let Some(connection) = connection.filter(|own| !own.unheard && !stops) else {
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
    pub(super) fn take_back(&mut self, job: Job) {
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
        connection.session = Some(session);
        connection.drop_unheard();
        connection.tell_output();
        connection.info.touch(self.now_ms);
        connection.info.argument_bytes.store(0, RELAXED);
        self.server.look_at_memory_of(&connection.info);
        if block.is_none() {
            push::append_deferred(connection, self.watermark);
        }
        if let Some((block, until_ms)) = block
            && let Some(mut connection) = self.connections.get_mut(job.token).and_then(Option::take)
        {
            let since_ms = self.server.clock.monotonic_ms();
            let args = OwnedArgs::default();
            let blocked = Blocked { block, until_ms, since_ms, args, muted, claim: None, ticket: None };
            self.park_block(&mut connection, blocked);
            push::append_deferred(&mut connection, self.watermark);
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
}
