//! How a worker's connections end: closed, killed, idle for too long, too slow to take their answers, or with the server.

use crate::net::blocking;
use crate::net::connection::{Blocked, Parked};
use crate::net::worker::state::{Worker, alarm_of, limited_bytes, set_blocked};
use crate::session::clients::{FLAG_MONITOR, FLAG_PUBSUB};
use crate::session::session::Block;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;

impl Worker {
    pub(super) fn forget_one(&self) {
        self.shared.connections.fetch_sub(1, RELAXED);
        self.server.clients.leave();
    }

    /// Closes and forgets a connection. If a pool has its session, the job finds nobody when it comes back.
    pub(super) fn close(&mut self, token: usize) {
        let Some(mut connection) = self.connections.get_mut(token).and_then(Option::take) else { return };
        connection.stream.say_goodbye();
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

    pub(super) fn kill(&mut self, client: u64) {
        if let Some(&token) = self.by_client.get(&client) {
            self.close(token);
        }
    }

    /// Once a second: idle clients, soft limits.
    pub(super) fn tick(&mut self) {
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

    pub(super) fn begin_to_stop(&mut self, now: bool) {
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
    pub(super) fn drained(&mut self) -> bool {
        let now = self.stopping == Some(true);
        for token in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(token) else { continue };
            let served =
                matches!(connection.parked, Some(Parked::Block(Blocked { block: Block::Keys(_), .. })));
            let busy = connection.session.is_none() || connection.pending.is_some() || served;
            let unsent = !connection.output.is_empty() || connection.stream.has_unsent();
            if !busy && (now || !unsent) {
                self.close(token);
            }
        }
        self.by_client.is_empty()
    }
}
