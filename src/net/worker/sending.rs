//! The end of a turn: one write of the log for all that was committed in it, then what the log's watermark allows leaves.

use crate::net::output::BUFFER_KEPT_BYTES;
use crate::net::worker::state::{Worker, limited_bytes};
use crate::session::server_state::Fsync;
use std::io::{ErrorKind, Write};
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;
/// What may wait for a client that has not said a password, beyond what is free for all.
const STRANGER_BYTES_MAX: u64 = 1024;
/// What one connection is sent in one turn. The system bounds it for those without TLS, too, but not where the peer reads as fast as we
/// write.
const SEND_BYTES_PER_TURN: usize = 1 << 20;
/// Spare buffers kept by a worker.
const SPARE_BUFFERS_MAX: usize = 64;

impl Worker {
    /// Writes the log once for all that was committed in this turn, then sends what may leave.
    pub(super) fn finish_turn(&mut self) {
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
        // Those that had more to send than their share.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        self.counters().worker_turns.fetch_add(1, RELAXED);
    }

    /// Sends what may leave of one connection's output.
    pub(super) fn send(&mut self, token: usize) {
        let Some(Some(connection)) = self.connections.get_mut(token) else { return };
        connection.dirty = false;
        connection.drop_unheard();
        let limit = self.server.settings.output_limit(connection.info.flags());
        let mut broken = limit.hard_bytes > 0 && limited_bytes(connection) > limit.hard_bytes;
        if broken {
            self.server.stats.shard(self.index).counters.output_limit_disconnections.fetch_add(1, RELAXED);
        }
        let is_stranger = connection.session.as_ref().is_some_and(|session| !session.authenticated);
        let mut sent = 0u64;
        let mut writes = 0u64;
        let mut has_more = false;
        if connection.writable
            && let Err(error) = connection.stream.send_unsent()
        {
            connection.writable = false;
            if error.kind() != ErrorKind::WouldBlock {
                connection.peer_has_gone();
            }
        }
        while connection.writable && !broken && !connection.unheard {
            let bytes = connection.output.sendable(self.watermark);
            let share = (SEND_BYTES_PER_TURN as u64).saturating_sub(sent) as usize;
            has_more = bytes.len() > share;
            let bytes = bytes.get(..share).unwrap_or(bytes);
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
                Err(_) => connection.peer_has_gone(),
            }
        }
        // Whoever has not said a password gets little that it does not take.
        if is_stranger
            && limited_bytes(connection) > STRANGER_BYTES_MAX
            && self.server.users.asks_for_password()
        {
            broken = true;
            self.server.stats.shard(self.index).counters.output_limit_disconnections.fetch_add(1, RELAXED);
        }
        if limit.soft_bytes > 0 {
            // From now on, and not from when idle clients are looked at.
            let is_over = limited_bytes(connection) > limit.soft_bytes;
            let since_ms = connection.soft_limit_since_ms.unwrap_or(self.now_ms);
            connection.soft_limit_since_ms = is_over.then_some(since_ms);
        }
        connection.drop_unheard();
        if sent > 0 {
            connection.info.touch(self.now_ms);
        }
        connection.info.net_output_bytes.fetch_add(sent, RELAXED);
        connection.tell_output();
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
        let is_sent = connection.output.is_empty() && !connection.stream.has_unsent();
        broken |= connection.is_given_up();
        broken |= connection.is_finished() && (is_sent || connection.unheard);
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
            if has_more && connection.writable && !connection.unheard && !connection.dirty {
                connection.dirty = true;
                self.dirty.push(token);
            }
            // It may have been too full to go on.
            self.make_ready(token);
        }
    }
}
