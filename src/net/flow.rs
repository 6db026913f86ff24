//! The way of a huge reply from the pool's thread that makes it to the worker that sends it: piece by piece, no more on the way than fits.
//!
//! ```text
//! pool's thread   piece -> [in the mailbox] -> [the connection's output] -> socket
//!                    ^      queued              unsent                          |
//!                    '------ waits while queued + unsent are too much <---------'   the worker tells after each send
//! ```
//!
//! A thread that waits lets its pool run another. If there are no places for more, a client that has taken nothing for ten seconds is
//! given up, so that those who read nothing do not keep everybody else from long commands; else it may take its time, as with Redis, and
//! `client-output-buffer-limit` and CLIENT KILL end it.

use crate::session::outside::Outside;
use crate::session::server_state::ServerState;
use haypile_lsm::Lsn;
use haypile_resp::Sink;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A reply leaves in pieces of so many bytes.
pub const PIECE_BYTES: usize = 256 << 10;
/// Elements of unknown number are kept up to so many bytes; of more they are counted first.
pub const HELD_BYTES_MAX: usize = 1 << 20;
/// So much of it may be on the way.
const ON_THE_WAY_BYTES_MAX: usize = 512 << 10;
/// How long a client may take nothing while others have no thread.
const STALLED_MS_MAX: u64 = 10_000;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct State {
    /// Bytes in the mailbox.
    queued: usize,
    /// Bytes in the connection's output.
    unsent: usize,
    closed: bool,
}

/// What both sides know.
#[derive(Debug)]
pub struct Flow {
    state: Mutex<State>,
    changed: Condvar,
    outside: Arc<Outside>,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker has put a piece into the output.
    pub fn arrived(&self, bytes: usize, unsent: usize) {
        let mut state = self.lock();
        state.queued = state.queued.saturating_sub(bytes);
        state.unsent = unsent;
    }

    /// The worker has sent what it could.
    pub fn sent(&self, unsent: usize) {
        self.lock().unsent = unsent;
        self.changed.notify_one();
    }

    /// Nobody takes anything any more.
    pub fn close(&self) {
        self.outside.gone.store(true, Relaxed);
        self.lock().closed = true;
        self.changed.notify_one();
    }
}

/// What the pool's end tells the worker.
pub enum News {
    /// A piece of a reply.
    Piece(Box<Piece>),
    /// The client is given up.
    Kill,
}

/// Takes news to the worker.
pub type Post = Box<dyn Fn(News) + Send>;

/// The pool's end.
pub struct FlowSink {
    flow: Arc<Flow>,
    server: Arc<ServerState>,
    token: usize,
    client: u64,
    post: Post,
    /// What the reply needs; known once its reads are of one moment.
    need: Option<Lsn>,
}

impl FlowSink {
    /// For the reply to a command of this client.
    pub fn new(
        server: &Arc<ServerState>,
        token: usize,
        client: u64,
        outside: &Arc<Outside>,
        post: Post,
    ) -> FlowSink {
        let flow = Flow { state: Mutex::default(), changed: Condvar::new(), outside: Arc::clone(outside) };
        FlowSink { flow: Arc::new(flow), server: Arc::clone(server), token, client, post, need: None }
    }

    /// Waits until there is room. False if the client has gone, or is given up.
    fn wait(&self) -> bool {
        let flow = &*self.flow;
        let on_the_way = |state: &State| state.queued + state.unsent;
        let mut state = flow.lock();
        if state.closed || on_the_way(&state) <= ON_THE_WAY_BYTES_MAX {
            return !state.closed;
        }
        drop(state);
        let clock = &self.server.clock;
        let began_ns = clock.monotonic_ns();
        let has_place = flow.outside.threads.begin_wait();
        state = flow.lock();
        let (mut least, mut since_ms) = (on_the_way(&state), clock.monotonic_ms());
        while !state.closed && on_the_way(&state) > ON_THE_WAY_BYTES_MAX {
            state = flow.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            let now_ms = clock.monotonic_ms();
            if on_the_way(&state) < least {
                (least, since_ms) = (on_the_way(&state), now_ms);
            } else if !has_place && now_ms.saturating_sub(since_ms) > STALLED_MS_MAX {
                drop(state);
                (self.post)(News::Kill);
                flow.close();
                state = flow.lock();
            }
        }
        let closed = state.closed;
        drop(state);
        flow.outside.threads.end_wait();
        let waited_ns = clock.monotonic_ns().saturating_sub(began_ns);
        flow.outside.waited_ns.fetch_add(waited_ns, Relaxed);
        !closed
    }
}

impl Sink for FlowSink {
    fn take(&mut self, piece: Vec<u8>) {
        let need = *self.need.get_or_insert_with(|| self.server.store().db().visible_lsn());
        {
            let mut state = self.flow.lock();
            if state.closed {
                return;
            }
            state.queued += piece.len();
        }
        let piece = Piece {
            token: self.token,
            client: self.client,
            bytes: piece,
            need,
            flow: Arc::clone(&self.flow),
        };
        (self.post)(News::Piece(Box::new(piece)));
        // If it has gone, the command ends by itself, and what it still writes is dropped.
        self.wait();
    }
}

/// A piece of a reply.
#[derive(Debug)]
pub struct Piece {
    /// The connection's place.
    pub token: usize,
    /// Whose it is.
    pub client: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What has to be safe before they leave.
    pub need: Lsn,
    /// To tell of what was sent.
    pub flow: Arc<Flow>,
}
