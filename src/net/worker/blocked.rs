//! Connections that run nothing for a while: they wait for keys, for a time, for the log, for whoever holds a lock.
//!
//! A wait ends by letter or timer. Whether a wait for keys has ended, and how, only its claim says (`net/blocking.rs`).

use crate::command::running::note_slow;
use crate::command::service::Service;
use crate::net::blocking;
use crate::net::blocking::Settled;
use crate::net::connection::{Blocked, Connection, Parked};
use crate::net::push;
use crate::net::worker::mail::Work;
use crate::net::worker::state::{Worker, alarm_of, append, set_blocked};
use crate::session::claim::{Claim, Ending};
use crate::session::latency::COMMAND;
use crate::session::session::Block;
use haypile_resp::{Protocol, ReplyWriter};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;

const LOG_FAILED: &str = "MISCONF Errors writing to the AOF file: the log has failed";

impl Worker {
    pub(super) fn park_block(&mut self, connection: &mut Connection, mut blocked: Blocked) {
        // Others have an end of their own, and an answer until then.
        let may_last = matches!(blocked.block, Block::Keys(_) | Block::Replicas | Block::Synced { .. });
        if may_last && (connection.hung_up || self.stopping.is_some()) {
            // Nobody will take what comes of it, and no event will say so again. What was answered before still leaves.
            blocking::abandon(&self.server.waiters, connection, Some(&blocked.block));
            connection.closing = true;
            return;
        }
        if let Block::Synced { .. } = blocked.block {
            self.blocked_on_log.insert(connection.token);
            self.executor.db().request_sync();
        }
        self.timers.add(alarm_of(connection, &blocked));
        // Who waits only for others to end is not blocked in the eyes of others: CLIENT UNBLOCK is none of its business.
        let counts = !matches!(blocked.block, Block::Others(_));
        match &blocked.block {
            Block::Keys(waiter) => {
                connection.info.argument_bytes.store(waiter.words.buffer.len(), RELAXED);
                blocked.claim = Some(Arc::clone(&waiter.claim));
            }
            Block::Others(_) => {}
            Block::Sleep | Block::Replicas | Block::Synced { .. } => {
                let claim: Arc<Claim<_>> = Arc::default();
                connection.info.begin_wait(&claim);
                blocked.claim = Some(claim);
            }
        }
        connection.parked = Some(Parked::Block(blocked));
        set_blocked(&self.server, connection, counts);
    }

    /// Answers a command that waited for others, if it is over.
    pub(super) fn end_wait_for_others(&mut self, client: u64) {
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

    /// Looks whether a wait is over that has a claim, and answers if it is. A letter may come late, when its client waits for something
    /// else already: only the claim says.
    pub(super) fn settle(&mut self, client: u64) {
        let Some(&token) = self.by_client.get(&client) else { return };
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        let Some(Parked::Block(blocked)) = &connection.parked else { return };
        let Some(claim) = &blocked.claim else { return };
        let (settled, muted) = (blocking::look(claim), blocked.muted);
        if matches!(settled, Settled::Waits) {
            return;
        }
        if let Block::Keys(waiter) = &blocked.block {
            self.server.waiters.leave(waiter);
        }
        self.timers.remove(alarm_of(connection, blocked));
        match settled {
            Settled::Waits => {}
            Settled::Served(served) => {
                connection.parked = None;
                connection.info.end_wait();
                set_blocked(&self.server, connection, false);
                blocking::note_told(connection, &served);
                self.turn_need = self.turn_need.max(served.need);
                if !muted {
                    append(connection, served.reply, served.need, self.watermark);
                }
                push::append_deferred(connection, self.watermark);
                connection.tell_output();
                self.mark_dirty(token);
                self.make_ready(token);
            }
            Settled::Empty => self.end_block(token, None),
            Settled::Error(error) => self.end_block(token, Some(error)),
            Settled::Gone => self.close(token),
        }
    }

    /// Answers a blocking command that was not served: with an error, or as when its time has come.
    fn end_block(&mut self, token: usize, error: Option<&str>) {
        let synced = self.log.synced();
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        let Some(Parked::Block(blocked)) = connection.parked.take() else { return };
        connection.info.end_wait();
        set_blocked(&self.server, connection, false);
        if !blocked.args.ranges.is_empty() {
            let us = self.server.clock.monotonic_ms().saturating_sub(blocked.since_ms) * 1000;
            note_slow(&self.server, &connection.info, &blocked.args.as_args(), us);
            let tracking = self.server.settings.latency_tracking.load(RELAXED);
            let index = connection.info.last_command() as usize;
            self.server.stats.shard(self.index).command_ran(index, us * 1000, false, tracking);
            self.server.latency.note(COMMAND, Duration::from_micros(us));
        }
        if let Block::Keys(waiter) = &blocked.block {
            note_slow(&self.server, &connection.info, &waiter.words.as_args(), 0);
        }
        let protocol = connection.session.as_ref().map_or(Protocol::Resp2, |session| session.protocol);
        // That nothing was there tells of whoever took it away before.
        let need = match &blocked.block {
            Block::Keys(_) => connection.session.as_ref().map_or(0, |session| session.known_lsn()),
            _ => 0,
        };
        let mut reply = ReplyWriter::new(protocol);
        match (error, blocked.block) {
            _ if blocked.muted => {}
            (Some(error), _) => {
                reply.error(error);
                self.server.stats.error_reply(self.index, error.as_bytes());
                let index = connection.info.last_command() as usize;
                self.server.stats.shard(self.index).command_failed(index);
            }
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
        append(connection, reply.take_buffer(), need, self.watermark);
        self.mark_dirty(token);
        self.make_ready(token);
    }

    /// Ends the waits for the disk that are over, all of them if the log has failed: what was not synced then never will be.
    pub(super) fn end_blocks_on_log(&mut self) {
        // The failure first: whoever sees it sees how far the log came.
        let poisoned = self.log.is_poisoned();
        self.synced = self.log.synced();
        let waiting = std::mem::take(&mut self.blocked_on_log);
        for token in waiting {
            let Some(Some(connection)) = self.connections.get(token) else { continue };
            let Some(Parked::Block(blocked)) = &connection.parked else { continue };
            let (&Block::Synced { lsn, replicas }, Some(claim)) = (&blocked.block, &blocked.claim) else {
                continue;
            };
            let client = connection.info.id;
            let error = if lsn <= self.synced && !replicas {
                None
            } else if poisoned {
                Some(LOG_FAILED)
            } else {
                self.blocked_on_log.insert(token);
                continue;
            };
            if claim.serve() {
                self.timers.remove(alarm_of(connection, blocked));
                self.end_block(token, error);
            } else {
                self.settle(client);
            }
        }
    }

    /// Service that could not go on where it was begun: to a pool, or, while clients are paused, later.
    pub(super) fn go_on(&mut self, mut service: Box<Service>) {
        match self.server.pause.until(self.now_ms, true) {
            Some(_) if self.stopping.is_none() => {
                service.rest(&self.server.pause);
                self.held.keep(service);
            }
            _ => {
                self.pools.io.push(Work::Serve(Arc::clone(&self.shared), service));
            }
        }
    }

    /// Goes on with service once clients are paused no more.
    pub(super) fn release_held(&mut self) {
        if !self.held.is_empty() && self.server.pause.until(self.now_ms, true).is_none() {
            for service in self.held.take() {
                self.go_on(service);
            }
        }
    }

    pub(super) fn fire_timers(&mut self) {
        while let Some(alarm) = self.timers.pop_due(self.now_ms) {
            let Some(Some(connection)) = self.connections.get_mut(alarm.token) else { continue };
            if connection.info.id != alarm.client {
                continue;
            }
            if connection.stream.is_handshaking() {
                self.close(alarm.token);
                continue;
            }
            match &connection.parked {
                Some(Parked::Block(Blocked { claim: Some(claim), until_ms, .. }))
                    if *until_ms <= self.now_ms =>
                {
                    // If it is lost, a reply is on its way, or the wait has ended already.
                    let _ = claim.end(Ending::TimedOut);
                    self.settle(alarm.client);
                }
                Some(Parked::Until(at_ms)) if *at_ms <= self.now_ms => {
                    connection.parked = None;
                    self.make_ready(alarm.token);
                }
                _ => {}
            }
        }
    }

    pub(super) fn wake(&mut self, token: usize, client: u64) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && connection.info.id == client
            && matches!(connection.parked, Some(Parked::Waker))
        {
            connection.parked = None;
            self.make_ready(token);
        }
    }

    pub(super) fn refresh(&mut self) {
        for token in 0..self.connections.len() {
            if let Some(Some(connection)) = self.connections.get_mut(token)
                && matches!(connection.parked, Some(Parked::Until(_)))
            {
                connection.parked = None;
                self.make_ready(token);
            }
        }
    }
}
