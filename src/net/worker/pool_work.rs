//! What a pool's thread does with the work that it is given.
//!
//! A job that has to wait for a key lies in a slot of its own meanwhile, from which the waker takes it and queues it again; the thread goes on
//! with other work.

use crate::command::dispatch::{Elsewhere, Executor, Outcome, Request, Waker};
use crate::command::service::Service;
use crate::net::blocking::Parking;
use crate::net::flow::{FlowSink, HELD_BYTES_MAX, News, PIECE_BYTES};
use crate::net::worker::mail::{Job, Letter, Pools, Work, WorkerShared};
use crate::session::outside::Outside;
use haypile_resp::ReplyWriter;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Does what a pool's thread was given.
pub fn do_work(executor: &mut Executor, pools: &Arc<Pools>, work: Work) {
    match work {
        Work::Run(job) => {
            let _lost = Lost { worker: Arc::clone(&job.worker), client: job.session.id };
            run_job(executor, pools, job);
        }
        Work::Warm(db, key) => executor.warm(db, &key),
        Work::Serve(worker, service) => run_service(executor, pools, worker, service),
    }
}

/// Whose command is run. If that panics its session is lost, and its worker would wait for it: the client is closed.
struct Lost {
    worker: Arc<WorkerShared>,
    client: u64,
}

impl Drop for Lost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.mailbox.post(Letter::Kill(self.client));
        }
    }
}

fn run_service(
    executor: &mut Executor,
    pools: &Arc<Pools>,
    worker: Arc<WorkerShared>,
    service: Box<Service>,
) {
    let (own_pools, own_worker) = (Arc::clone(pools), Arc::clone(&worker));
    let again = move |service| own_pools.io.push(Work::Serve(Arc::clone(&own_worker), service));
    let (parking, waker) = Parking::new(again);
    if let Some(service) = executor.serve(service, &waker).and_then(|service| parking.park(service)) {
        pools.io.push(Work::Serve(Arc::clone(&worker), service));
    }
    if let Some(service) = executor.take_unserved() {
        worker.mailbox.post(Letter::Serve(service));
    }
}

fn run_job(executor: &mut Executor, pools: &Arc<Pools>, mut job: Box<Job>) {
    if job.session.info.is_killed() {
        // Its worker has closed the connection, or is about to.
        job.ticket = None;
        let worker = Arc::clone(&job.worker);
        worker.mailbox.post(Letter::Ran(job));
        return;
    }
    let mut reply = ReplyWriter::with_buffer(std::mem::take(&mut job.reply), job.session.protocol);
    let outside = Arc::new(Outside {
        threads: match job.to {
            Elsewhere::Io => Arc::new(Arc::clone(&pools.io)),
            Elsewhere::Slow => Arc::new(Arc::clone(&pools.slow)),
        },
        gone: Arc::default(),
        waited_ns: AtomicU64::new(0),
    });
    if executor.streams(&job.session, &job.pending.args.as_args()) {
        let (worker, client) = (Arc::clone(&job.worker), job.session.id);
        let post = move |news| match news {
            News::Piece(piece) => worker.mailbox.post(Letter::Piece(piece)),
            News::Kill => worker.mailbox.post(Letter::Kill(client)),
        };
        let sink = FlowSink::new(executor.server(), job.token, client, &outside, Box::new(post));
        reply.stream_to(Box::new(sink), PIECE_BYTES, HELD_BYTES_MAX);
    }
    job.session.outside = Some(outside);
    // The job waits for a key in this slot; the waker takes it out and queues it again. Either may come first.
    let slot: Arc<std::sync::Mutex<WakeSlot>> = Arc::default();
    let waker = || -> Waker {
        let slot = Arc::clone(&slot);
        let pools = Arc::clone(pools);
        Box::new(move || {
            let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match slot.job.take() {
                Some(job) => pools.push(job),
                None => slot.woken = true,
            }
        })
    };
    let request = Request {
        args: job.pending.args.as_args(),
        draws: job.pending.draws,
        delayed: job.pending.delayed,
        more: false,
    };
    let outcome = executor.run_on_pool(&mut job.session, &mut reply, request, &waker);
    reply.end_stream();
    job.session.outside = None;
    if let Some(service) = executor.take_unserved() {
        job.worker.mailbox.post(Letter::Serve(service));
    }
    match outcome {
        Outcome::Done { need } => {
            job.need = need;
            job.reply = reply.take_buffer();
            // What it had to commit is committed.
            job.ticket = None;
            let worker = Arc::clone(&job.worker);
            worker.mailbox.post(Letter::Ran(job));
        }
        Outcome::Later(_) => {
            let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if slot.woken {
                drop(slot);
                pools.push(job);
            } else {
                slot.job = Some(job);
            }
        }
        Outcome::Elsewhere(to, draws) => {
            job.pending.draws = Some(draws);
            job.to = to;
            pools.push(job);
        }
    }
}

#[derive(Default)]
struct WakeSlot {
    job: Option<Box<Job>>,
    woken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::worker::mail::new_shared;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    #[test]
    fn whose_command_is_lost_in_a_panic_is_closed() {
        let worker = new_shared(&mio::Poll::new().unwrap()).unwrap();
        let mut letters = Vec::new();
        drop(Lost { worker: Arc::clone(&worker), client: 6 });
        worker.mailbox.take(&mut letters);
        assert!(letters.is_empty());
        let lost = Lost { worker: Arc::clone(&worker), client: 7 };
        let ran = catch_unwind(AssertUnwindSafe(move || {
            let _lost = lost;
            resume_unwind(Box::new("a panic"));
        }));
        assert!(ran.is_err());
        worker.mailbox.take(&mut letters);
        assert!(matches!(letters[..], [Letter::Kill(7)]));
    }
}
