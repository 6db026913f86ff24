//! What a worker has: its poll, its share of the connections, and the lists of those that need something.
//!
//! The other files of this folder are the parts of its turn, each on one idea; `turn.rs` is the loop that calls them.

use crate::command::dispatch::Executor;
use crate::net::blocking::Held;
use crate::net::buffer::SHARED_BYTES;
use crate::net::connection::{Blocked, Connection};
use crate::net::timer::{Alarm, Timers};
use crate::net::worker::log_watch::LogWatch;
use crate::net::worker::mail::{Letter, Pools, WorkerShared};
use crate::session::clients::FLAG_BLOCKED;
use crate::session::server_state::ServerState;
use crate::session::stats::Counters;
use haypile_lsm::Lsn;
use haypile_resp::RequestParser;
use mio::Poll;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// See the module.
pub struct Worker {
    pub(super) index: usize,
    pub(super) server: Arc<ServerState>,
    pub(super) shared: Arc<WorkerShared>,
    pub(super) pools: Arc<Pools>,
    pub(super) log: Arc<LogWatch>,
    pub(super) poll: Poll,
    pub(super) executor: Executor,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    pub(super) free: Vec<usize>,
    pub(super) by_client: HashMap<u64, usize>,
    pub(super) ready: VecDeque<usize>,
    pub(super) dirty: Vec<usize>,
    pub(super) fenced: Vec<usize>,
    pub(super) timers: Timers,
    /// Connections whose blocking command waits for the disk (WAITAOF).
    pub(super) blocked_on_log: BTreeSet<usize>,
    /// How far the log was synced when they were last looked at.
    pub(super) synced: Lsn,
    /// Service that waits for the end of a pause.
    pub(super) held: Held,
    /// Connections (place, client) that wait for memory for a large request, and the allowance's changes that they know of.
    pub(super) waiting_for_memory: Vec<(usize, u64)>,
    pub(super) memory_changes: u64,
    pub(super) letters: Vec<Letter>,
    pub(super) read_buffer: Vec<u8>,
    /// The parser of connections that are between commands.
    pub(super) parser: Option<Box<RequestParser>>,
    pub(super) spare_buffers: Vec<Vec<u8>>,
    /// Highest LSN committed or read in this turn.
    pub(super) turn_need: Lsn,
    pub(super) watermark: Lsn,
    pub(super) now_ms: u64,
    pub(super) last_tick_ms: u64,
    pub(super) stopping: Option<bool>,
}

/// What becomes of a connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Closes,
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
            blocked_on_log: BTreeSet::new(),
            synced: 0,
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

    pub(super) fn counters(&self) -> &Counters {
        &self.server.stats.shard(self.index).counters
    }

    /// Puts a connection into the ready queue if a turn could do something for it.
    pub(super) fn make_ready(&mut self, token: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && !connection.queued
            && connection.can_go_on()
        {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    pub(super) fn mark_dirty(&mut self, token: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(token)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(token);
        }
    }
}

/// Puts a reply, or a part of one, behind what a connection still has to send.
pub(super) fn append(connection: &mut Connection, bytes: Vec<u8>, need: Lsn, watermark: Lsn) {
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
    connection.tell_output();
}

/// The timer of a blocking command.
pub(super) fn alarm_of(connection: &Connection, blocked: &Blocked) -> Alarm {
    Alarm { at_ms: blocked.until_ms, token: connection.token, client: connection.info.id }
}

/// Counts a connection as blocked, or no more.
pub(super) fn set_blocked(server: &ServerState, connection: &mut Connection, on: bool) {
    if connection.blocked != on {
        connection.blocked = on;
        connection.info.set_flag(FLAG_BLOCKED, on);
        if !on {
            connection.info.argument_bytes.store(0, Relaxed);
        }
        server.clients.count_blocked(on);
    }
}

/// Waiting output that counts against `client-output-buffer-limit`: as in Redis, what would fit its buffer of each client does not.
pub(super) fn limited_bytes(connection: &Connection) -> u64 {
    const FREE_BYTES: usize = 16 << 10;
    let bytes = connection.output.unsent() + connection.deferred.sendable_len();
    if bytes <= FREE_BYTES { 0 } else { bytes as u64 }
}
