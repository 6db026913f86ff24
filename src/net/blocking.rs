//! Connections that wait, as their worker sees them: what became of a wait, and service that waits for its turn on a pool.
//!
//! A worker hears of a wait's end by letter (served, unblocked, killed) or timer. It then looks at the claim, which alone tells how the
//! wait ended: a letter may be late, or early (before the pool that ran the command has sent the session back), or both may
//! come. So the same look is taken at each of these moments, and when the connection is parked.

use crate::command::dispatch::Waker;
use crate::command::service::Service;
use crate::net::connection::Connection;
use crate::session::claim::{Claim, Ending, Served};
use crate::session::session::Block;
use crate::session::waiters::WaitTable;
use std::sync::{Arc, Mutex, PoisonError};

/// What became of a wait.
#[derive(Debug)]
pub enum Settled {
    /// It goes on.
    Waits,
    /// Here is its reply.
    Served(Served),
    /// It ended as if its time had come.
    Empty,
    /// It ended with this error.
    Error(&'static str),
    /// The client has gone.
    Gone,
}

/// Looks at a wait. A reply is there only once.
pub fn look(claim: &Claim<Served>) -> Settled {
    if let Some(served) = claim.take() {
        return Settled::Served(served);
    }
    match claim.ending() {
        None => Settled::Waits,
        Some(Ending::TimedOut | Ending::Unblocked) => Settled::Empty,
        Some(Ending::Refused) => Settled::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        Some(Ending::Gone) => Settled::Gone,
    }
}

/// Ends what a connection waits for, if it waits for keys: it closes. False if it is being served.
pub fn abandon(waiters: &WaitTable, connection: &Connection, block: Option<&Block>) -> bool {
    connection.info.close_wait();
    let Some(Block::Keys(waiter)) = block else { return true };
    let ended = waiter.claim.ending().is_some();
    if ended {
        waiters.leave(waiter);
    }
    ended
}

/// What a served reply tells its client, and what was committed for it.
pub fn note_told(connection: &mut Connection, served: &Served) {
    if let Some(session) = connection.session.as_mut() {
        session.seen_lsn = session.seen_lsn.max(served.need);
        session.last_own_lsn = session.last_own_lsn.max(served.committed.unwrap_or(0));
    }
}

/// Service that is to go on when clients are paused no more. Few: each was begun before the pause.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "services come and go in boxes")]
pub struct Held(Vec<Box<Service>>);

impl Held {
    /// Keeps one.
    pub fn keep(&mut self, service: Box<Service>) {
        self.0.push(service);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<Box<Service>> {
        std::mem::take(&mut self.0)
    }
}

/// Where service on a pool waits for the gate. Its waker takes it out and queues it again; either may come first.
#[derive(Default)]
pub struct Parking(Mutex<(Option<Box<Service>>, bool)>);

impl Parking {
    /// A parking place, and what makes wakers that hand what is parked there to `again`.
    pub fn new<F>(again: F) -> (Arc<Parking>, impl Fn() -> Waker)
    where
        F: Fn(Box<Service>) + Clone + Send + 'static,
    {
        let parking: Arc<Parking> = Arc::default();
        let own = Arc::clone(&parking);
        let waker = move || -> Waker {
            let (parking, again) = (Arc::clone(&own), again.clone());
            Box::new(move || {
                let mut place = parking.0.lock().unwrap_or_else(PoisonError::into_inner);
                let service = place.0.take();
                place.1 = service.is_none();
                drop(place);
                if let Some(service) = service {
                    again(service);
                }
            })
        };
        (parking, waker)
    }

    /// Parks service; gives it back if the waker was called meanwhile.
    pub fn park(&self, service: Box<Service>) -> Option<Box<Service>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut place.1) {
            return Some(service);
        }
        place.0 = Some(service);
        None
    }
}
