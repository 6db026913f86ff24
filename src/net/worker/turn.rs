//! A worker: one thread, one poll, its share of the connections.
//!
//! ```text
//! turn = socket events -> letters (new connections, finished pool jobs, kills) -> timers -> ready connections: read, parse, run
//!        -> letters -> one write of the log -> send what the log's watermark allows -> sleep, unless something is ready
//! ```
//!
//! A worker never waits: reads are memory-only, locks are tried, the log is written by whoever wins its lock. What would wait is
//! parked (the connection runs nothing more until a letter or a timer says so) or sent to a pool; the worker goes on with others. Each
//! ready connection gets a bounded share of a turn, then goes to the tail of the queue.
//!
//! Replies of a turn are appended to each connection's output while its commands run and sent at the end of the turn, behind one log
//! write for all of them. An output whose fence is not met stays; the worker keeps a list of those and looks at it when the log's
//! watermark has moved, for which the log's listener wakes it.

use crate::net::connection::Parked;
use crate::net::worker::mail::Letter;
use crate::net::worker::state::{Fate, Worker};
use mio::{Events, Token};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Commands that all connections together may run before the log is written and replies are sent.
const COMMANDS_PER_LOG_WRITE: usize = 4096;
/// New connections taken in one turn.
const EVENTS_PER_TURN: usize = 1024;
/// How long the worker sleeps at most: idle clients and soft limits are looked at that often.
const TICK_MS: u64 = 1000;
/// The same while a connection waits for memory, since whoever gives some back wakes nobody.
const MEMORY_TICK_MS: u64 = 20;

impl Worker {
    /// Runs until the server ends and all its connections are closed.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            if let Err(error) = self.sleep(&mut events) {
                self.server.log('#', &format!("worker {}: poll: {error}", self.index));
            }
            self.now_ms = self.server.clock.monotonic_ms();
            // Before letters, which may bring a new connection to the place of one that an event is for.
            self.note_events(&events);
            self.read_letters();
            self.release_held();
            self.fire_timers();
            self.look_for_memory();
            self.serve_ready();
            // What was published to this worker's own subscribers leaves behind the publishers' replies, in one go with it: the
            // publishers' next commands are there when it has left.
            self.read_letters();
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

    /// Polls: without waiting if something is ready, or more is to be sent than was a turn's share, else until an event, a letter or a timer.
    pub(super) fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let mut timeout = Some(Duration::ZERO);
        let mut announced = false;
        if self.ready.is_empty() && self.dirty.is_empty() {
            let mut wake_ms = self.timers.next_ms().unwrap_or(u64::MAX).min(self.last_tick_ms + TICK_MS);
            if !self.waiting_for_memory.is_empty() {
                wake_ms = wake_ms.min(self.now_ms + MEMORY_TICK_MS);
            }
            if !self.held.is_empty() {
                let until = self.server.pause.until(self.now_ms, true);
                wake_ms = wake_ms.min(until.unwrap_or(self.now_ms));
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

    pub(super) fn log_has_moved(&self) -> bool {
        self.log.is_poisoned()
            || self.log.watermark(self.server.settings.fsync(), self.now_ms) > self.watermark
            || !self.blocked_on_log.is_empty() && self.log.synced() > self.synced
    }

    pub(super) fn read_letters(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        self.shared.mailbox.take(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Connection(arrived, refusal) => self.adopt(*arrived, refusal),
                Letter::Ran(job) => self.take_back(*job),
                Letter::Piece(piece) => self.take_piece(*piece),
                Letter::Retry(token, client) => self.wake(token, client),
                Letter::Kill(client) => self.kill(client),
                Letter::Settled(client) => self.settle(client),
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

    pub(super) fn note_events(&mut self, events: &Events) {
        for event in events {
            let Token(token) = event.token();
            let Some(Some(connection)) = self.connections.get_mut(token) else { continue };
            if event.is_read_closed() || event.is_error() {
                connection.hung_up = true;
            }
            if event.is_error() || event.is_write_closed() {
                connection.peer_has_gone();
            }
            // A client that is gone, or ends its requests, waits for nothing; what it sent before is run.
            if matches!(connection.parked, Some(Parked::Block(_))) && connection.hung_up
                || connection.is_given_up()
            {
                self.close(token);
                continue;
            }
            if event.is_readable() || connection.hung_up {
                connection.readable = true;
            }
            if event.is_writable() || connection.unheard {
                connection.writable = true;
                if !connection.output.is_empty() || connection.stream.has_unsent() || connection.unheard {
                    self.mark_dirty(token);
                }
            }
            self.make_ready(token);
        }
    }

    pub(super) fn serve_ready(&mut self) {
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
}
