//! Who is subscribed to what.
//!
//! ```text
//! all workers   channel --hash--> shard = Mutex { channel -> (worker 0: 3 subscribers), (worker 2: 1) }
//!               patterns = RwLock { pattern -> (worker 1: 2 subscribers) }
//! each worker   Mutex { channel -> connections, pattern -> connections }
//! each client   Subscriptions: its channels and patterns; dropped, they are ended
//! ```
//!
//! A publisher asks the first for how many there are and on which workers; a worker asks the second for its connections. The worker's
//! own map is locked by that worker, by a pool that runs a command of one of its connections, and by a change of users that takes channels away.
//!
//! *Order.* A subscription is entered at the worker first and for all second, before its confirmation is written; its end takes the same
//! steps backwards. So whoever is counted can be reached, and who has read the confirmation gets every message that is
//! published from then on. Mutexes are held for a few instructions, never two at once.

use crate::base::glob::matches;
use crate::session::clients::{ClientInfo, FLAG_PUBSUB, Holding};
use crate::session::delivery::{ChannelKind, Message, Name, Subscriber};
use crate::store::events::OwnShare;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_64;

const RELAXED: Ordering = Ordering::Relaxed;

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

use SubscriptionKind::{Channel, Pattern, Shard};

impl From<ChannelKind> for SubscriptionKind {
    fn from(kind: ChannelKind) -> SubscriptionKind {
        match kind {
            ChannelKind::Channel => Channel,
            ChannelKind::Shard => Shard,
        }
    }
}

/// How many subscribers each worker has; only those that have any.
type Holders = Vec<(usize, usize)>;

/// Who gets a message.
#[derive(Debug, Default)]
pub struct Receivers {
    /// How many: a client counts once for the channel and once for each of its patterns.
    pub count: usize,
    /// Workers that have some.
    pub workers: Vec<usize>,
    /// Patterns that match.
    pub patterns: Vec<Name>,
}

impl Receivers {
    fn add(&mut self, holders: &Holders) {
        for (worker, count) in holders {
            self.count += count;
            if !self.workers.contains(worker) {
                self.workers.push(*worker);
            }
        }
    }
}

/// The subscribers of one worker.
#[derive(Debug, Default)]
struct Local {
    names: [HashMap<Name, Vec<Subscriber>>; 3],
}

const SHARDS: usize = 32;

type Shards = Box<[Mutex<HashMap<Name, Holders>>]>;

/// See the module.
#[derive(Debug)]
pub struct Channels {
    channels: Shards,
    shard_channels: Shards,
    patterns: RwLock<BTreeMap<Name, Holders>>,
    locals: Box<[Mutex<Local>]>,
    /// Names that have subscribers, of each kind.
    names: [AtomicUsize; 3],
    /// Clients that are subscribed to anything.
    clients: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one subscriber more. Whether the worker is the first one with any.
fn count_in(holders: &mut Holders, worker: usize) -> bool {
    match holders.iter_mut().find(|(of, _)| *of == worker) {
        Some((_, count)) => *count += 1,
        None => holders.push((worker, 1)),
    }
    matches!(holders[..], [(_, 1)])
}

/// Counts one less. Whether none is left.
fn count_out(holders: &mut Holders, worker: usize) -> bool {
    if let Some(at) = holders.iter().position(|(of, _)| *of == worker) {
        holders[at].1 -= 1;
        if holders[at].1 == 0 {
            holders.swap_remove(at);
        }
    }
    holders.is_empty()
}

impl Channels {
    /// Nobody is subscribed to anything.
    pub fn new(workers: usize) -> Channels {
        let shards = || (0..SHARDS).map(|_| Mutex::default()).collect();
        Channels {
            channels: shards(),
            shard_channels: shards(),
            patterns: RwLock::default(),
            locals: (0..workers).map(|_| Mutex::default()).collect(),
            names: Default::default(),
            clients: AtomicUsize::new(0),
        }
    }

    fn shard(&self, kind: SubscriptionKind, name: &[u8]) -> MutexGuard<'_, HashMap<Name, Holders>> {
        let shards = if kind == Shard { &self.shard_channels } else { &self.channels };
        lock(&shards[xxh3_64(name) as usize % SHARDS])
    }

    fn add(&self, kind: SubscriptionKind, name: &Name, worker: usize, subscriber: Subscriber) {
        if let Some(local) = self.locals.get(worker) {
            lock(local).names[kind as usize].entry(Arc::clone(name)).or_default().push(subscriber);
        }
        // Counted before the name's lock is given back: whoever subscribes to it after has been counted, too.
        let count = |first: bool| self.names[kind as usize].fetch_add(usize::from(first), RELAXED);
        match kind {
            Pattern => {
                let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
                count(count_in(patterns.entry(Arc::clone(name)).or_default(), worker));
            }
            Channel | Shard => {
                let mut names = self.shard(kind, name);
                count(count_in(names.entry(Arc::clone(name)).or_default(), worker));
            }
        }
    }

    fn remove(&self, kind: SubscriptionKind, name: &Name, worker: usize, subscriber: Subscriber) {
        let last = match kind {
            Pattern => {
                let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
                let last = patterns.get_mut(name).is_some_and(|holders| count_out(holders, worker));
                if last {
                    patterns.remove(name);
                }
                last
            }
            Channel | Shard => {
                let mut shard = self.shard(kind, name);
                let last = shard.get_mut(name).is_some_and(|holders| count_out(holders, worker));
                if last {
                    shard.remove(name);
                }
                last
            }
        };
        self.names[kind as usize].fetch_sub(usize::from(last), RELAXED);
        let Some(local) = self.locals.get(worker) else { return };
        let mut local = lock(local);
        let names = &mut local.names[kind as usize];
        if let Some(subscribers) = names.get_mut(name) {
            if let Some(at) = subscribers.iter().position(|own| *own == subscriber) {
                subscribers.swap_remove(at);
            }
            if subscribers.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Whether a message could have receivers. Exact for subscriptions whose confirmation somebody has read.
    #[inline]
    pub fn has_any(&self, kind: ChannelKind) -> bool {
        // Relaxed: who heard of a confirmation heard of it over a socket.
        self.names[SubscriptionKind::from(kind) as usize].load(RELAXED) > 0
            || kind == ChannelKind::Channel && self.names[Pattern as usize].load(RELAXED) > 0
    }

    /// Who gets a message that is published now.
    pub fn receivers(&self, kind: ChannelKind, channel: &[u8]) -> Receivers {
        let mut receivers = Receivers::default();
        if !self.has_any(kind) {
            return receivers;
        }
        if let Some(holders) = self.shard(kind.into(), channel).get(channel) {
            receivers.add(holders);
        }
        if kind == ChannelKind::Channel && self.names[Pattern as usize].load(RELAXED) > 0 {
            let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
            for (pattern, holders) in patterns.iter().filter(|(pattern, _)| matches(pattern, channel)) {
                receivers.add(holders);
                receivers.patterns.push(Arc::clone(pattern));
            }
        }
        receivers
    }

    /// Adds those of a worker who get a message: with the pattern, if it is for a pattern's sake.
    pub fn subscribers<'m>(
        &self,
        worker: usize,
        message: &'m Message,
        found: &mut Vec<(Subscriber, Option<&'m Name>)>,
    ) {
        let Some(local) = self.locals.get(worker) else { return };
        let local = lock(local);
        let of = |kind: SubscriptionKind, name: &Name| local.names[kind as usize].get(name);
        let settled = message.publisher.as_ref();
        let is_open =
            |subscriber: &&Subscriber| settled.is_none_or(|publisher| publisher.client != **subscriber);
        for subscriber in of(message.kind.into(), &message.channel).into_iter().flatten().filter(is_open) {
            found.push((*subscriber, None));
        }
        for pattern in &message.patterns {
            for subscriber in of(Pattern, pattern).into_iter().flatten().filter(is_open) {
                found.push((*subscriber, Some(pattern)));
            }
        }
        if let Some(publisher) = settled.filter(|publisher| publisher.worker == worker) {
            found.extend(publisher.share.channel.then_some((publisher.client, None)));
            found.extend(publisher.share.patterns.iter().map(|pattern| (publisher.client, Some(pattern))));
        }
    }

    /// Clients of whom one of their subscriptions is chosen: `choose` is given each channel, or pattern, and keeps those that it wants of
    /// the clients that are subscribed to it.
    pub fn subscribers_where(&self, choose: &mut dyn FnMut(&[u8], bool, &mut Vec<u64>)) -> Vec<u64> {
        let mut found = Vec::new();
        for local in &self.locals {
            for kind in [Channel, Pattern, Shard] {
                // Choosing takes its time, and the worker may have a message to hand out.
                let names: Vec<(Name, Vec<u64>)> = lock(local).names[kind as usize]
                    .iter()
                    .map(|(name, subscribers)| {
                        let clients = subscribers.iter().map(|subscriber| subscriber.client);
                        (Arc::clone(name), clients.collect())
                    })
                    .collect();
                for (name, mut clients) in names {
                    choose(&name, kind == Pattern, &mut clients);
                    found.append(&mut clients);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// How many names of a kind have subscribers.
    pub fn names(&self, kind: SubscriptionKind) -> usize {
        self.names[kind as usize].load(RELAXED)
    }

    /// How many clients are subscribed to anything.
    pub fn clients(&self) -> usize {
        self.clients.load(RELAXED)
    }

    /// How many subscribers a channel has, patterns aside.
    pub fn count(&self, kind: ChannelKind, channel: &[u8]) -> usize {
        let shard = self.shard(kind.into(), channel);
        shard.get(channel).map_or(0, |holders| holders.iter().map(|(_, count)| count).sum())
    }

    /// Channels that have subscribers and match a pattern, if there is one.
    pub fn list(&self, kind: ChannelKind, pattern: Option<&[u8]>) -> Vec<Name> {
        let shards = if kind == ChannelKind::Shard { &self.shard_channels } else { &self.channels };
        let mut found = Vec::new();
        for shard in shards {
            let shard = lock(shard);
            let wanted = |name: &&Name| pattern.is_none_or(|pattern| matches(pattern, name));
            found.extend(shard.keys().filter(wanted).cloned());
        }
        found
    }
}

/// What one client is subscribed to. Dropped, it is subscribed to nothing.
#[derive(Debug)]
pub struct Subscriptions {
    channels: Arc<Channels>,
    client: Arc<ClientInfo>,
    names: [BTreeSet<Name>; 3],
    /// Bytes that it takes, about.
    bytes: usize,
}

/// What a subscription takes beside its name: places here and in the table.
const SUBSCRIPTION_BYTES: usize = 160;

impl Subscriptions {
    /// None yet.
    pub fn new(channels: &Arc<Channels>, client: &Arc<ClientInfo>) -> Subscriptions {
        Subscriptions {
            channels: Arc::clone(channels),
            client: Arc::clone(client),
            names: Default::default(),
            bytes: 0,
        }
    }

    fn subscriber(&self) -> Subscriber {
        Subscriber { client: self.client.id, place: self.client.place }
    }

    fn note(&self, kind: SubscriptionKind) {
        self.client.subscriptions[kind as usize].store(self.names[kind as usize].len(), RELAXED);
        self.client.hold(Holding::Subscriptions, self.bytes);
        let any = !self.is_empty();
        if any != (self.client.flags() & FLAG_PUBSUB != 0) {
            self.client.set_flag(FLAG_PUBSUB, any);
            match any {
                true => self.channels.clients.fetch_add(1, RELAXED),
                false => self.channels.clients.fetch_sub(1, RELAXED),
            };
        }
    }

    /// Subscribes; nothing if it is.
    pub fn add(&mut self, kind: SubscriptionKind, name: &[u8]) {
        let subscriber = self.subscriber();
        let names = &mut self.names[kind as usize];
        if !names.contains(name) {
            let name: Name = name.into();
            names.insert(Arc::clone(&name));
            self.channels.add(kind, &name, self.client.worker, subscriber);
            self.bytes += name.len() + SUBSCRIPTION_BYTES;
            self.note(kind);
        }
    }

    /// Ends a subscription; nothing if there is none.
    pub fn remove(&mut self, kind: SubscriptionKind, name: &[u8]) {
        if let Some(name) = self.names[kind as usize].take(name) {
            self.channels.remove(kind, &name, self.client.worker, self.subscriber());
            self.bytes = self.bytes.saturating_sub(name.len() + SUBSCRIPTION_BYTES);
            self.note(kind);
        }
    }

    /// All of a kind.
    pub fn all(&self, kind: SubscriptionKind) -> Vec<Name> {
        self.names[kind as usize].iter().cloned().collect()
    }

    /// How many of a kind.
    pub fn count(&self, kind: SubscriptionKind) -> usize {
        self.names[kind as usize].len()
    }

    /// What of a message that is published now comes to this client.
    pub fn share(&self, kind: ChannelKind, channel: &[u8]) -> OwnShare {
        let patterns = self.names[Pattern as usize].iter();
        OwnShare {
            channel: self.names[SubscriptionKind::from(kind) as usize].contains(channel),
            patterns: match kind {
                ChannelKind::Channel => {
                    patterns.filter(|pattern| matches(pattern, channel)).cloned().collect()
                }
                ChannelKind::Shard => Vec::new(),
            },
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.bytes = 0;
        for kind in [Channel, Pattern, Shard] {
            while let Some(name) = self.names[kind as usize].pop_first() {
                self.channels.remove(kind, &name, self.client.worker, self.subscriber());
            }
            self.note(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_waits_while_subscribers_are_chosen() {
        let channels = Channels::new(2);
        for (worker, kind, client) in [(0, Channel, 1), (0, Channel, 2), (1, Pattern, 3), (1, Shard, 4)] {
            channels.add(kind, &Name::from(&b"a"[..]), worker, Subscriber { client, place: 0 });
        }
        let mut asked = Vec::new();
        let found = channels.subscribers_where(&mut |name, is_pattern, clients| {
            assert!(channels.locals.iter().all(|local| local.try_lock().is_ok()), "a worker would wait");
            asked.push((name.to_vec(), is_pattern, clients.len()));
            clients.retain(|client| *client != 2);
        });
        assert_eq!(found, [1, 3, 4]);
        assert_eq!(asked, [(b"a".to_vec(), false, 2), (b"a".to_vec(), true, 1), (b"a".to_vec(), false, 1)]);
    }
}
