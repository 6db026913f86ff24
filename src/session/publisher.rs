//! Sends what clients did not ask for just now to the workers that have those clients.
//!
//! Everything goes through the workers' mailboxes, also to the worker that sends: so each worker hands things out in the order they
//! were posted, those of one publisher in the order it published them, and a message that was caused by another comes behind it.
//!
//! *Bound.* Mail that workers have not taken yet is counted in bytes. Above a limit no command is begun until they have caught up
//! (the dispatcher parks the connection for a moment); a worker always reads its mail, so it gets there.

use crate::session::channels::Channels;
use crate::session::clients::{ClientInfo, ClientRegistry, FLAG_BROKEN_REDIRECT, WorkerHandle};
use crate::session::delivery::{ChannelKind, Delivery, Invalidation, Message, Name, OwnReceipt, Subscriber};
use crate::session::monitors::Monitors;
use crate::session::tracking::{Tracker, TrackingTable};
use crate::store::events::{ChangedKey, CommitListener, Committed, Event, EventClass, OwnShare};
use crate::store::store::Store;
use haypile_lsm::Lsn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

const RELAXED: Ordering = Ordering::Relaxed;

/// Mail not taken yet above which no command is begun.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    clients: Arc<ClientRegistry>,
    channels: Arc<Channels>,
    tracking: Arc<TrackingTable>,
    monitors: Arc<Monitors>,
    /// Whose commits are told of.
    store: Mutex<Weak<Store>>,
    workers: OnceLock<Vec<Arc<dyn WorkerHandle>>>,
    backlog_bytes: AtomicUsize,
    /// Classes of keyspace events, and the channels that these go to.
    classes: AtomicU32,
}

impl Publisher {
    /// For so many workers, which are still to be [named](Self::set_workers).
    pub fn new(workers: usize, clients: Arc<ClientRegistry>) -> Publisher {
        Publisher {
            clients,
            channels: Arc::new(Channels::new(workers)),
            tracking: Arc::default(),
            monitors: Arc::default(),
            store: Mutex::default(),
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

    /// All workers.
    pub fn workers(&self) -> &[Arc<dyn WorkerHandle>] {
        self.workers.get().map_or(&[], Vec::as_slice)
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

    /// The same, of a message within a transaction: what comes back to the client that published it was settled then.
    fn publish_settled(&self, kind: ChannelKind, message: (&[u8], &[u8]), need: Lsn, by: (u64, &OwnShare)) {
        let ((channel, payload), (client, share)) = (message, by);
        let mut receivers = self.channels.receivers(kind, channel);
        if receivers.count == 0 && share.is_empty() {
            return;
        }
        let mut message = Message::new(kind, channel, payload, receivers.patterns, need);
        message.publisher = self.clients.get(client).map(|client| OwnReceipt {
            client: subscriber_of(&client),
            worker: client.worker,
            share: share.clone(),
        });
        if let Some(own) = &message.publisher
            && !share.is_empty()
            && !receivers.workers.contains(&own.worker)
        {
            receivers.workers.push(own.worker);
        }
        self.post(&receivers.workers, Delivery::Message(message));
    }

    fn post(&self, to: &[usize], delivery: Delivery) {
        let Some(workers) = self.workers.get() else { return };
        let delivery = Arc::new(delivery);
        for worker in to.iter().filter_map(|worker| workers.get(*worker)) {
            self.backlog_bytes.fetch_add(delivery.weight_bytes(), RELAXED);
            worker.deliver(Arc::clone(&delivery));
        }
    }

    /// Who caches which keys.
    pub fn tracking(&self) -> &Arc<TrackingTable> {
        &self.tracking
    }

    /// Who sees every command.
    pub fn monitors(&self) -> &Arc<Monitors> {
        &self.monitors
    }

    /// Tells of the commits of this store from now on.
    pub fn follow(self: &Arc<Self>, store: &Arc<Store>) {
        store.set_listener(Arc::clone(self) as Arc<dyn CommitListener>);
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(store);
        self.trackers_changed();
    }

    /// Says which keyspace events go out, and where to.
    pub fn set_classes(&self, classes: EventClass) {
        self.classes.store(classes.0, RELAXED);
        self.trackers_changed();
    }

    /// The first client began to be told of changed keys, or the last one ended.
    pub fn trackers_changed(&self) {
        // Under the lock, so that who looks last is who says last.
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = store.upgrade() {
            store.tell(EventClass(self.classes.load(RELAXED)), self.tracking.trackers() > 0);
        }
    }

    /// Sets the most keys that are remembered for those who cache them; 0 for no bound.
    pub fn set_tracked_keys_max(&self, max: usize) {
        self.tracking.set_keys_max(max);
        self.give_up_surplus();
    }

    /// A client is about to read a key, and wants to be told when it changes.
    pub fn remember(&self, key: &[u8], client: u64) {
        self.tracking.remember(key, client);
        self.give_up_surplus();
    }

    fn give_up_surplus(&self) {
        while let Some((key, readers)) = self.tracking.take_surplus() {
            self.tell_readers(&key, readers, 0, 0);
        }
    }

    /// Shows a command to those who see all.
    pub fn show(&self, line: Vec<u8>) {
        self.post(&self.monitors.workers(), Delivery::Line(line));
    }

    // Changed keys.

    /// Adds whom a tracker's messages go to.
    fn address(&self, tracker: &Tracker, to: &mut Addresses) {
        let redirect = tracker.options.redirect;
        let (own, own_worker) = (subscriber_of(&tracker.client), tracker.client.worker);
        if redirect == 0 {
            return to.add(own_worker, own, false);
        }
        match self.clients.get(redirect) {
            Some(other) => to.add(other.worker, subscriber_of(&other), true),
            None => {
                tracker.client.set_flag(FLAG_BROKEN_REDIRECT, true);
                self.post(&[own_worker], Delivery::BrokenRedirect { to: own, redirect });
            }
        }
    }

    fn invalidate(&self, to: Addresses, keys: Option<&[&[u8]]>, need: Lsn) {
        for (worker, to) in to.0 {
            self.post(&[worker], Delivery::Invalidation(Invalidation::new(to, keys, need)));
        }
    }

    /// Tells those who have read a key that it has changed by a command of client `origin`.
    fn tell_readers(&self, key: &[u8], readers: Vec<u64>, origin: u64, need: Lsn) {
        let mut to = Addresses::default();
        for tracker in readers.into_iter().filter_map(|reader| self.tracking.tracker(reader)) {
            let is_own = tracker.options.no_loop && tracker.client.id == origin;
            if !tracker.options.broadcast && !is_own {
                self.address(&tracker, &mut to);
            }
        }
        self.invalidate(to, Some(&[key]), need);
    }

    /// Tells all who cache anything to forget it.
    fn tell_all(&self, need: Lsn) {
        self.tracking.clear();
        let mut to = Addresses::default();
        self.tracking.all_trackers().iter().for_each(|tracker| self.address(tracker, &mut to));
        self.invalidate(to, None, need);
    }

    /// Tells those who are told of all keys below a prefix; each prefix is told of once.
    fn tell_prefixes(&self, commit: &Committed<'_>) {
        if self.tracking.prefixes() == 0 {
            return;
        }
        let mut concerned: BTreeMap<Name, Below<'_>> = BTreeMap::new();
        for (keys, expired) in [(commit.keys, false), (commit.expired_keys, true)] {
            for ChangedKey { key, .. } in keys {
                self.tracking.for_each_prefix_of(key, |prefix, clients| {
                    let below = concerned.entry(Arc::clone(prefix)).or_default();
                    if below.keys.is_empty() {
                        below.clients = clients.iter().copied().collect();
                    }
                    below.keys.insert(key);
                    if expired {
                        below.expired_keys.insert(key);
                    }
                });
            }
        }
        for Below { clients, keys, expired_keys } in concerned.into_values() {
            let (mut others, mut own) = (Addresses::default(), Addresses::default());
            for tracker in clients.into_iter().filter_map(|client| self.tracking.tracker(client)) {
                let is_own = tracker.options.no_loop && tracker.client.id == commit.origin;
                self.address(&tracker, if is_own { &mut own } else { &mut others });
            }
            self.invalidate(others, Some(&Vec::from_iter(keys)), commit.lsn);
            // What expired is nobody's doing.
            if !expired_keys.is_empty() {
                self.invalidate(own, Some(&Vec::from_iter(expired_keys)), commit.lsn);
            }
        }
    }

    fn tell_changes(&self, commit: &Committed<'_>) {
        if self.tracking.trackers() == 0 {
            // The last one has gone.
            self.trackers_changed();
            return;
        }
        if commit.flushes || !commit.keys_known {
            self.tell_all(commit.lsn);
        }
        for (keys, origin) in [(commit.keys, commit.origin), (commit.expired_keys, 0)] {
            for changed in keys {
                let readers = self.tracking.take(&changed.key);
                if !readers.is_empty() {
                    self.tell_readers(&changed.key, readers, origin, commit.lsn);
                }
            }
        }
        self.tell_prefixes(commit);
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

    /// Bytes of mail that no worker has taken yet.
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes.load(RELAXED)
    }

    /// Whether so much mail waits that no command should be begun.
    #[inline]
    pub fn is_congested(&self) -> bool {
        // Relaxed: a bound on memory, a little late at worst.
        self.backlog_bytes.load(RELAXED) > BACKLOG_BYTES_MAX
    }
}

/// Who is told of a prefix, and what a commit has changed below it.
#[derive(Default)]
struct Below<'c> {
    clients: Vec<u64>,
    keys: BTreeSet<&'c [u8]>,
    expired_keys: BTreeSet<&'c [u8]>,
}

/// Whom an invalidation goes to, by worker.
#[derive(Default)]
struct Addresses(Vec<(usize, Vec<(Subscriber, bool)>)>);

impl Addresses {
    fn add(&mut self, worker: usize, to: Subscriber, in_stead: bool) {
        match self.0.iter_mut().find(|(of, _)| *of == worker) {
            Some((_, all)) => all.push((to, in_stead)),
            None => self.0.push((worker, vec![(to, in_stead)])),
        }
    }
}

fn subscriber_of(client: &ClientInfo) -> Subscriber {
    Subscriber { client: client.id, place: client.place }
}

impl CommitListener for Publisher {
    fn committed(&self, commit: &Committed<'_>) {
        for event in commit.events.iter() {
            match event {
                Event::Key { name, db, key } => self.publish_event(name, db, key, commit.lsn),
                Event::Message { shard, channel, payload, need, own } => {
                    let kind = if shard { ChannelKind::Shard } else { ChannelKind::Channel };
                    let need = need.max(commit.lsn);
                    self.publish_settled(kind, (channel, payload), need, (commit.origin, own));
                }
            }
        }
        if commit.tells_keys || !commit.keys_known {
            self.tell_changes(commit);
        }
    }
}
