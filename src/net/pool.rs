//! Threads for commands that may not run on a worker: those that wait for the disk (*io*: many threads, for depth) and those that
//! take long (*slow*: few threads, niced).
//!
//! A job is one command with all it needs: its session, its words, what was drawn for it. Each connection has at most one, so the
//! queues are bounded by the number of clients. Threads start when a job finds none idle, up to the pool's size, and stay.
//! What runs a job is given by the owner of the pools; here are only queues and threads.

use crate::session::outside::Threads;
use rustix::process::{getpriority_process, setpriority_process};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// For commands that wait for the disk.
    Io,
    /// For commands that take long.
    Slow,
}

/// How much lower than the workers' the priority of the slow pool's threads is.
const SLOW_NICENESS: i32 = 5;

struct Inner<J> {
    queue: VecDeque<J>,
    idle: usize,
    /// Threads that run a job and do not wait for others.
    running: usize,
    /// Threads that run a job and wait for others: clients, other servers.
    waiting: usize,
    stopping: bool,
    threads: Vec<JoinHandle<()>>,
}

/// So many threads more than its size a pool has in place of those that wait for others.
const WAITING_MAX: usize = 64;

/// One pool of threads that run jobs of type `J`.
pub struct Pool<J> {
    kind: PoolKind,
    threads_max: usize,
    inner: Mutex<Inner<J>>,
    changed: Condvar,
    /// Makes what one thread uses to run its jobs, one after another.
    runner: RunnerFactory<J>,
}

/// Makes a runner for a thread; it is given the thread's number.
pub type RunnerFactory<J> = Box<dyn Fn(usize) -> Box<dyn FnMut(J)> + Send + Sync>;

impl<J> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<J: Send + 'static> Pool<J> {
    /// A pool without threads yet.
    pub fn new(kind: PoolKind, threads_max: usize, runner: RunnerFactory<J>) -> Pool<J> {
        Pool {
            kind,
            threads_max: threads_max.max(1),
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                idle: 0,
                running: 0,
                waiting: 0,
                stopping: false,
                threads: Vec::new(),
            }),
            changed: Condvar::new(),
            runner,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job. A job pushed after [`stop`](Self::stop) is dropped.
    pub fn push(self: &Arc<Self>, job: J) {
        let mut inner = self.lock();
        if inner.stopping {
            return;
        }
        inner.queue.push_back(job);
        self.look_for_thread(inner);
    }

    /// Sees to it that somebody takes the next job, if anybody may.
    fn look_for_thread(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<J>>) {
        if inner.queue.is_empty() || inner.running >= self.threads_max {
            return;
        }
        if inner.idle >= inner.queue.len()
            || inner.threads.len() >= self.threads_max + inner.waiting.min(WAITING_MAX)
        {
            drop(inner);
            self.changed.notify_one();
            return;
        }
        let pool = Arc::clone(self);
        let number = inner.threads.len();
        let name = match self.kind {
            PoolKind::Io => format!("io-{number}"),
            PoolKind::Slow => format!("slow-{number}"),
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || pool.run(number));
        // Without a new thread the job waits for an old one; without any it waits until one can be started.
        if let Ok(thread) = thread {
            inner.threads.push(thread);
        }
    }

    fn run(&self, number: usize) {
        if self.kind == PoolKind::Slow {
            lower_priority();
        }
        let mut run = (self.runner)(number);
        loop {
            let job = {
                let mut inner = self.lock();
                loop {
                    if inner.running < self.threads_max
                        && let Some(job) = inner.queue.pop_front()
                    {
                        inner.running += 1;
                        break job;
                    }
                    if inner.stopping && inner.queue.is_empty() {
                        return;
                    }
                    inner.idle += 1;
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                    inner.idle -= 1;
                }
            };
            run(job);
            let mut inner = self.lock();
            inner.running -= 1;
            if inner.stopping {
                drop(inner);
                self.changed.notify_all();
            }
        }
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Threads started.
    pub fn threads(&self) -> usize {
        self.lock().threads.len()
    }

    /// Runs what is queued, then ends all threads.
    pub fn stop(&self) {
        let threads = {
            let mut inner = self.lock();
            inner.stopping = true;
            std::mem::take(&mut inner.threads)
        };
        self.changed.notify_all();
        for thread in threads {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl<J: Send + 'static> Threads for Arc<Pool<J>> {
    fn begin_wait(&self) -> bool {
        let mut inner = self.lock();
        inner.running -= 1;
        inner.waiting += 1;
        let has_place = inner.waiting <= WAITING_MAX;
        self.look_for_thread(inner);
        has_place
    }

    fn end_wait(&self) {
        let mut inner = self.lock();
        // Until the next job ends there may be one too many.
        inner.running += 1;
        inner.waiting -= 1;
    }
}

/// On Linux a priority is a thread's own. Failure costs fairness only.
fn lower_priority() {
    let this = rustix::thread::gettid();
    if let Ok(now) = getpriority_process(Some(this)) {
        let _ = setpriority_process(Some(this), now + SLOW_NICENESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn runs_everything_on_few_threads_and_stops() {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let pool: Arc<Pool<u32>> = Arc::new(Pool::new(
            PoolKind::Slow,
            3,
            Box::new(move |_| {
                let sender = sender.lock().unwrap().clone();
                Box::new(move |job| sender.send(job).unwrap())
            }),
        ));
        for job in 0..1000 {
            pool.push(job);
        }
        let mut done: Vec<u32> =
            (0..1000).map(|_| receiver.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..1000).collect::<Vec<_>>());
        assert!(pool.threads() <= 3);
        pool.push(7);
        pool.stop();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), 7, "what was queued is run");
        pool.push(8);
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn another_runs_while_one_waits() {
        let (sender, receiver) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (sender, released) = (Mutex::new(sender), Arc::new(Mutex::new(released)));
        let knot: Arc<Mutex<Option<Arc<Pool<u32>>>>> = Arc::default();
        let own = Arc::clone(&knot);
        let pool: Arc<Pool<u32>> = Arc::new(Pool::new(
            PoolKind::Slow,
            1,
            Box::new(move |_| {
                let sender = sender.lock().unwrap().clone();
                let (released, own) = (Arc::clone(&released), Arc::clone(&own));
                Box::new(move |job| {
                    if job == 0 {
                        let pool = own.lock().unwrap().clone().unwrap();
                        assert!(pool.begin_wait());
                        released.lock().unwrap().recv().unwrap();
                        pool.end_wait();
                    }
                    sender.send(job).unwrap();
                })
            }),
        ));
        *knot.lock().unwrap() = Some(Arc::clone(&pool));
        for job in 0..100 {
            pool.push(job);
        }
        for job in 1..100 {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), job);
        }
        release.send(()).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), 0);
        pool.push(7);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), 7);
        pool.stop();
        assert!(pool.threads() <= 2);
        knot.lock().unwrap().take();
    }
}
