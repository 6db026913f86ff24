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
use crate::store::events::{CommitListener, Committed, Event, EventClass};
use haypile_lsm::Lsn;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
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
    /// Classes of keyspace events, and the channels that these go to.
    classes: AtomicU32,
}

impl Publisher {
    /// For so many workers, which are still to be [named](Self::set_workers).
    pub fn new(workers: usize) -> Publisher {
        Publisher {
            channels: Arc::new(Channels::new(workers)),
            workers: OnceLock::new(),
            backlog_bytes: AtomicUsize::new(0),
            classes: AtomicU32::new(0),
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

    /// Says which keyspace events go out, and where to.
    pub fn set_classes(&self, classes: EventClass) {
        self.classes.store(classes.0, RELAXED);
    }

    /// Publishes a keyspace event.
    fn publish_event(&self, name: &str, db: usize, key: &[u8], need: Lsn) {
        let classes = EventClass(self.classes.load(RELAXED));
        if !self.channels.has_any(ChannelKind::Channel) {
            return;
        }
        if classes.has(EventClass::KEYSPACE) {
            let mut channel = format!("__keyspace@{db}__:").into_bytes();
            channel.extend_from_slice(key);
            self.publish(ChannelKind::Channel, &channel, name.as_bytes(), need);
        }
        if classes.has(EventClass::KEYEVENT) {
            let channel = format!("__keyevent@{db}__:{name}");
            self.publish(ChannelKind::Channel, channel.as_bytes(), key, need);
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

impl CommitListener for Publisher {
    fn committed(&self, commit: &Committed<'_>) {
        for event in commit.events.iter() {
            match event {
                Event::Key { name, db, key } => self.publish_event(name, db, key, commit.lsn),
                Event::Message { shard, channel, payload, need } => {
                    let kind = if shard { ChannelKind::Shard } else { ChannelKind::Channel };
                    self.publish(kind, channel, payload, need.max(commit.lsn));
                }
            }
        }
    }
}
