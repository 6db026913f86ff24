//! What is posted to a worker and to the pools, and what others see of a worker.
//!
//! Whoever has something for a worker's connection puts a [`Letter`] into its mailbox; the worker reads its mail at the begin of a turn
//! and never within a command. A command that would wait goes to a pool as a [`Job`] and comes back as a letter.

use crate::command::dispatch::Elsewhere;
use crate::command::service::Service;
use crate::net::connection::Pending;
use crate::net::flow::Piece;
use crate::net::listeners::Arrived;
use crate::net::pool::Pool;
use crate::session::allowance::Charge;
use crate::session::clients::WorkerHandle;
use crate::session::delivery::Delivery;
use crate::session::in_flight::{Countdown, Ticket};
use crate::session::mailbox::Mailbox;
use crate::session::session::Session;
use haypile_lsm::Lsn;
use mio::{Poll, Token};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// The token of the waker.
const WAKER: Token = Token(usize::MAX);

/// What others post to a worker.
pub enum Letter {
    /// A connection that the acceptor took.
    /// A reason not to serve it comes along if it could not be told yet.
    Connection(Box<Arrived>, Option<&'static [u8]>),
    /// A pool has run a command of a connection.
    Ran(Box<Job>),
    /// A part of a reply that a pool is still making.
    Piece(Box<Piece>),
    /// What a parked connection waited for (a key, the gate) may be free.
    Retry(usize, u64),
    /// Close this client.
    Kill(u64),
    /// This client's wait was decided by somebody: its claim says how.
    Settled(u64),
    /// What this client's command waited for is over.
    Answered(u64),
    /// To be let go of between two turns.
    EndTurn(Arc<Countdown>),
    /// What some of its connections are to get.
    Deliver(Arc<Delivery>),
    /// Service that could not go on where it was begun.
    Serve(Box<Service>),
    /// Pause or settings changed.
    Refresh,
    /// The server ends: read no more, answer what runs, close. With true, do not wait for clients to take their answers.
    Stop(bool),
}

/// A command on its way to a pool and back.
pub struct Job {
    pub(super) to: Elsewhere,
    pub(super) worker: Arc<WorkerShared>,
    pub(super) token: usize,
    pub(super) session: Box<Session>,
    pub(super) pending: Pending,
    /// Memory for its words; given back with them.
    #[expect(dead_code, reason = "given back when the job is dropped")]
    pub(super) charge: Option<Box<Charge>>,
    /// Its reply, once it has run.
    pub(super) reply: Vec<u8>,
    pub(super) need: Lsn,
    /// Until it has run.
    pub(super) ticket: Option<Ticket>,
}

/// What others see of a worker.
pub struct WorkerShared {
    /// Letters to it.
    pub mailbox: Mailbox<Letter>,
    /// Connections it has, those on their way to it included.
    pub connections: AtomicUsize,
    /// Whether it has output that waits for the log. Set before it looks at the watermark a last time and sleeps.
    pub(super) waits_for_log: AtomicBool,
}

impl WorkerHandle for WorkerShared {
    fn kill(&self, client: u64) {
        self.mailbox.post(Letter::Kill(client));
    }

    fn refresh(&self) {
        self.mailbox.post(Letter::Refresh);
    }

    fn settled(&self, client: u64) {
        self.mailbox.post(Letter::Settled(client));
    }

    fn deliver(&self, delivery: Arc<Delivery>) {
        self.mailbox.post(Letter::Deliver(delivery));
    }

    fn end_turn(&self, countdown: Arc<Countdown>) {
        self.mailbox.post(Letter::EndTurn(countdown));
    }

    fn answered(&self, client: u64) {
        self.mailbox.post(Letter::Answered(client));
    }
}

/// What a pool does.
pub enum Work {
    /// Run a command.
    Run(Box<Job>),
    /// Bring a key into memory: a command for it will come.
    Warm(usize, Vec<u8>),
    /// Serve those who wait for keys. What cannot go on here goes to this worker.
    Serve(Arc<WorkerShared>, Box<Service>),
}

/// Both pools.
#[derive(Debug)]
pub struct Pools {
    /// For commands that wait for the disk.
    pub io: Arc<Pool<Work>>,
    /// For commands that take long.
    pub slow: Arc<Pool<Work>>,
}

impl Pools {
    pub(super) fn push(&self, job: Box<Job>) {
        match job.to {
            Elsewhere::Io => self.io.push(Work::Run(job)),
            Elsewhere::Slow => self.slow.push(Work::Run(job)),
        }
    }
}

/// A worker and what others see of it.
pub fn new_shared(poll: &Poll) -> io::Result<Arc<WorkerShared>> {
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok(Arc::new(WorkerShared {
        mailbox: Mailbox::new(move || {
            // Fails only when the system is out of memory; the worker then wakes with its next tick.
            let _ = waker.wake();
        }),
        connections: AtomicUsize::new(0),
        waits_for_log: AtomicBool::new(false),
    }))
}
