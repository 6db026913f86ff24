//! One connection as its worker keeps it: socket, readiness, unfinished input, waiting output, and why it is parked if it is.
//!
//! mio tells of changes only (edge-triggered): `readable` and `writable` remember what it told until a call says otherwise. A
//! connection that is not read for a while (parked, too much unsent) keeps its flag, since no new edge will come for bytes that
//! are already there.

use crate::base::args::OwnedArgs;
use crate::net::buffer::Tail;
use crate::net::flow::Flow;
use crate::net::output::{Deferred, Output};
use crate::net::stream::Stream;
use crate::session::allowance::Charge;
use crate::session::claim::{Claim, Served};
use crate::session::clients::ClientInfo;
use crate::session::in_flight::Ticket;
use crate::session::session::{Block, Session};
use crate::store::txn::Draws;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a connection runs nothing at the moment.
#[derive(Debug)]
pub enum Parked {
    /// A pool runs its command and has its session.
    Pool,
    /// Its command waits for a key that another holds, or for the gate.
    Waker,
    /// Its command waits for a time: the engine asked for a delay, or clients are paused.
    Until(u64),
    /// A blocking command was run.
    Block(Blocked),
}

/// A blocking command that was run.
#[derive(Debug)]
pub struct Blocked {
    /// What it waits for.
    pub block: Block,
    /// When it gives up (monotonic ms).
    pub until_ms: u64,
    /// When it began (monotonic ms).
    pub since_ms: u64,
    /// Its words, if the wait counts as its running time.
    pub args: OwnedArgs,
    /// It is not answered (CLIENT REPLY).
    pub muted: bool,
    /// Decides how it ends; `None` where nothing but its answer does.
    pub claim: Option<Arc<Claim<Served>>>,
    /// While it sleeps, so that CLIENT PAUSE knows of it.
    pub ticket: Option<Ticket>,
}

/// A command that was read but not run.
#[derive(Debug)]
pub struct Pending {
    /// Its words.
    pub args: OwnedArgs,
    /// Time, seed and so on, if they were drawn already.
    pub draws: Option<Draws>,
    /// Whether the delay that the engine asked for was served.
    pub delayed: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// Its place in the worker.
    pub token: usize,
    /// What others may see of it.
    pub info: Arc<ClientInfo>,
    /// What its commands may see; away while a pool runs one.
    pub session: Option<Box<Session>>,
    /// The socket may have bytes.
    pub readable: bool,
    /// The socket may take bytes.
    pub writable: bool,
    /// The peer has closed its sending side (or all): reading goes on until that says so itself.
    pub hung_up: bool,
    /// The peer takes nothing any more: what has arrived is run still, and its answers are thrown away.
    pub unheard: bool,
    /// Reading said that the peer sends nothing any more.
    pub ended: bool,
    /// In the worker's ready queue.
    pub queued: bool,
    /// In the worker's list of connections with new output.
    pub dirty: bool,
    /// In the worker's list of connections whose output waits for the log.
    pub fenced: bool,
    /// Unfinished input.
    pub tail: Tail,
    /// Memory for the large request that it is sending; away with the command while a pool runs it.
    pub charge: Option<Box<Charge>>,
    /// Waiting output.
    pub output: Output,
    /// Pushes that wait for the reply of a command on a pool.
    pub deferred: Deferred,
    /// The huge reply that a pool is making for it, if one is on its way.
    pub flow: Option<Arc<Flow>>,
    /// Why it runs nothing.
    pub parked: Option<Parked>,
    /// The command that runs first when it goes on.
    pub pending: Option<Pending>,
    /// Counted as blocked: waits in a blocking command or for the end of a pause.
    pub blocked: bool,
    /// Runs nothing any more; closed once its output has left.
    pub closing: bool,
    /// Why it is not served, if that has still to be told.
    pub refusal: Option<&'static [u8]>,
    /// Since when its output is over the soft limit (monotonic ms).
    pub soft_limit_since_ms: Option<u64>,
}

impl Connection {
    /// A connection that has just come.
    pub fn new(stream: Stream, token: usize, session: Box<Session>) -> Connection {
        Connection {
            stream,
            token,
            info: Arc::clone(&session.info),
            session: Some(session),
            readable: false,
            writable: true,
            hung_up: false,
            unheard: false,
            ended: false,
            queued: false,
            dirty: false,
            fenced: false,
            tail: Tail::default(),
            charge: None,
            output: Output::default(),
            deferred: Deferred::default(),
            flow: None,
            parked: None,
            pending: None,
            blocked: false,
            closing: false,
            refusal: None,
            soft_limit_since_ms: None,
        }
    }

    /// Whether a turn could do something for it: run what was read, or read.
    pub fn can_go_on(&self) -> bool {
        self.parked.is_none()
            && !self.closing
            && !self.output.is_full()
            && !self.waits_for_memory()
            && (self.pending.is_some() || self.tail.is_unparsed() || (self.readable && !self.ended))
    }

    /// Notes that the peer has gone: what it sent before is still there to be read, and no edge will tell of it.
    pub fn peer_has_gone(&mut self) {
        self.hung_up = true;
        self.unheard = true;
        self.readable = true;
        if let Some(flow) = &self.flow {
            flow.close();
        }
    }

    /// Whether the peer has gone and nothing of what it sent will be run: it waits for something that is to be told to the peer, or that
    /// others need more.
    pub fn is_given_up(&self) -> bool {
        let waits = matches!(self.parked, Some(Parked::Block(_)));
        self.unheard && (waits || self.waits_for_memory() || self.stream.is_handshaking())
    }

    /// Throws away what waits to be sent if nobody is to get it.
    pub fn drop_unheard(&mut self) {
        if self.unheard || self.session.as_ref().is_some_and(|session| session.drop_replies) {
            self.output.discard();
            self.deferred = Deferred::default();
        }
    }

    /// Says to others how much it has still to send, pushes that wait for a reply included.
    pub fn tell_output(&self) {
        // Relaxed: a number for people and for `maxmemory-clients`; nothing is ordered by it.
        self.info.output_bytes.store(self.output.unsent() + self.deferred.len(), Ordering::Relaxed);
    }

    /// Whether its request is large, and there is no memory for it yet. It is not read meanwhile.
    pub fn waits_for_memory(&self) -> bool {
        self.charge.as_ref().is_some_and(|charge| charge.is_waiting())
    }

    /// Whether nothing of it will run any more: closed once its output has left.
    pub fn is_finished(&self) -> bool {
        self.parked.is_none()
            && (self.closing || (self.ended && self.pending.is_none() && !self.tail.is_unparsed()))
    }
}
