//! Threads for commands that may not run on a worker: those that wait for the disk (*io*: many threads, for depth) and those that
//! take long (*slow*: few threads, niced).
//!
//! A job is one command with all it needs: its session, its words, what was drawn for it. Each connection has at most one, so the
//! queues are bounded by the number of clients. Threads start when a job finds none idle, up to the pool's size, and stay.
//! What runs a job is given by the owner of the pools; here are only queues and threads.

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
    stopping: bool,
    threads: Vec<JoinHandle<()>>,
}

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
        if inner.idle >= inner.queue.len() || inner.threads.len() >= self.threads_max {
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
                    if let Some(job) = inner.queue.pop_front() {
                        break job;
                    }
                    if inner.stopping {
                        return;
                    }
                    inner.idle += 1;
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                    inner.idle -= 1;
                }
            };
            run(job);
        }
    }

    /// Jobs that wait.
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
}
