//! Sends what clients did not ask for just now to the workers that have those clients.
//!
//! Everything goes through the workers' mailboxes, also to the worker that sends: so each worker hands things out in the order they
//! were posted, those of one publisher in the order it published them, and a message that was caused by another comes behind it.
//!
//! *Bound.* Mail that workers have not taken yet is counted in bytes. Above a limit no command is begun until they have caught up
//! (the dispatcher parks the connection for a moment); a worker always reads its mail, so it gets there.

use crate::session::channels::Channels;
use crate::session::clients::WorkerHandle;
use crate::session::delivery::{ChannelKind, Delivery, Message};
use haypile_lsm::Lsn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

const RELAXED: Ordering = Ordering::Relaxed;

/// Mail not taken yet above which no command is begun.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    channels: Arc<Channels>,
    workers: OnceLock<Vec<Arc<dyn WorkerHandle>>>,
    backlog_bytes: AtomicUsize,
}

impl Publisher {
    /// For so many workers, which are still to be [named](Self::set_workers).
    pub fn new(workers: usize) -> Publisher {
        Publisher {
            channels: Arc::new(Channels::new(workers)),
            workers: OnceLock::new(),
            backlog_bytes: AtomicUsize::new(0),
        }
    }

    /// Says who the workers are. Called once.
    pub fn set_workers(&self, workers: Vec<Arc<dyn WorkerHandle>>) {
        // A second call would be a bug of the caller; the first list stays.
        let _ = self.workers.set(workers);
    }

    /// Who is subscribed to what.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// Publishes a message that may leave once the log has reached `need`. How many get it.
    pub fn publish(&self, kind: ChannelKind, channel: &[u8], payload: &[u8], need: Lsn) -> usize {
        let receivers = self.channels.receivers(kind, channel);
        if receivers.count > 0 {
            let message = Message::new(kind, channel, payload, receivers.patterns, need);
            self.post(&receivers.workers, Delivery::Message(message));
        }
        receivers.count
    }

    fn post(&self, to: &[usize], delivery: Delivery) {
        let Some(workers) = self.workers.get() else { return };
        let delivery = Arc::new(delivery);
        for worker in to.iter().filter_map(|worker| workers.get(*worker)) {
            self.backlog_bytes.fetch_add(delivery.weight_bytes(), RELAXED);
            worker.deliver(Arc::clone(&delivery));
        }
    }

    /// A worker has taken a delivery out of its mailbox.
    pub fn taken(&self, delivery: &Delivery) {
        self.backlog_bytes.fetch_sub(delivery.weight_bytes(), RELAXED);
    }

    /// Whether so much mail waits that no command should be begun.
    #[inline]
    pub fn is_congested(&self) -> bool {
        // Relaxed: a bound on memory, a little late at worst.
        self.backlog_bytes.load(RELAXED) > BACKLOG_BYTES_MAX
    }
}
