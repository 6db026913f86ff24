//! The clients that are connected: what CLIENT LIST shows of them, and how CLIENT KILL reaches them.
//!
//! A [`ClientInfo`] is shared between the worker that owns the connection (which writes) and whoever asks (who reads); all its
//! numbers are `Relaxed` atomics, a listing is a snapshot of each field and not of the whole.

use crate::session::claim::{Claim, Ending, Served};
use crate::session::delivery::Delivery;
use crate::session::in_flight::{Answer, Countdown, Then};
use crate::session::permissions::User;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const RELAXED: Ordering = Ordering::Relaxed;

/// CLIENT NO-EVICT is on.
pub const FLAG_NO_EVICT: u32 = 1;
/// CLIENT NO-TOUCH is on.
pub const FLAG_NO_TOUCH: u32 = 2;
/// Waits in a blocking command.
pub const FLAG_BLOCKED: u32 = 4;
/// Will be closed once its replies are out.
pub const FLAG_CLOSING: u32 = 8;
/// A key that it watches has changed. Set by whoever changes one, cleared by the client.
pub const FLAG_DIRTY: u32 = 32;
/// Queues commands for EXEC.
pub const FLAG_MULTI: u32 = 16;
/// Subscribed to something.
pub const FLAG_PUBSUB: u32 = 64;

/// Is told of changes to keys it may hold (CLIENT TRACKING).
pub const FLAG_TRACKING: u32 = 1 << 8;
/// ..of all keys below its prefixes.
pub const FLAG_BCAST: u32 = 1 << 9;
/// ..but whoever is told in its stead has gone.
pub const FLAG_BROKEN_REDIRECT: u32 = 1 << 10;
/// Sees every command (MONITOR).
pub const FLAG_MONITOR: u32 = 1 << 11;

/// Came in by the unix socket.
pub const FLAG_UNIX: u32 = 1 << 13;

/// What a client takes beside its buffers: connection, session, its place in the tables.
pub const CLIENT_BYTES: usize = 2048;

/// In place of what is in the sum of a client that is in none any more: who counts it meanwhile adds nothing.
const NEVER_AGAIN: usize = usize::MAX;

/// What of a client takes memory, beside buffers and queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// What it is subscribed to.
    Subscriptions,
    /// Keys that it watches.
    Watches,
    /// Prefixes that it is told of.
    Prefixes,
    /// What it calls itself.
    Names,
}

/// No command was run yet.
pub const NO_COMMAND: u32 = u32::MAX;

/// How others reach the worker that owns a connection.
pub trait WorkerHandle: Send + Sync {
    /// Close the connection of this client.
    fn kill(&self, client: u64);
    /// The server's pause or configuration changed: look at it again.
    fn refresh(&self);
    /// This client's wait was decided; its claim says how, and has its reply if it was served.
    fn settled(&self, client: u64);
    /// Hand this to those of its connections that it is for.
    fn deliver(&self, delivery: Arc<Delivery>);
    /// Let go of this between two turns.
    fn end_turn(&self, countdown: Arc<Countdown>);
    /// What this client's command waited for is over; its answer is there.
    fn answered(&self, client: u64);
}

impl fmt::Debug for dyn WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerHandle")
    }
}

/// Calls `then` once each of these workers has read its mail: what it runs from then on has seen everything that was set before this call.
pub fn after_turns<'w>(workers: impl Iterator<Item = &'w Arc<dyn WorkerHandle>>, then: Then) {
    let countdown = Countdown::new(then);
    for worker in workers {
        worker.end_turn(Arc::clone(&countdown));
    }
}

/// What a client calls itself.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: String,
}

/// Whether a client waits.
#[derive(Debug, Default)]
struct Wait {
    /// Decides how the wait ends.
    claim: Option<Arc<Claim<Served>>>,
    /// It was killed or has gone: it waits for nothing any more.
    closed: bool,
}

/// One client as others may see it.
#[derive(Debug)]
pub struct ClientInfo {
    /// Grows; never used again.
    pub id: u64,
    /// Its address.
    pub address: String,
    /// The address it came in by.
    pub local_address: String,
    /// File descriptor, for CLIENT LIST.
    pub descriptor: i32,
    /// When it came (monotonic ms).
    pub created_ms: u64,
    /// Its worker's number.
    pub worker: usize,
    /// Its place in the worker.
    pub place: usize,
    handle: Arc<dyn WorkerHandle>,
    names: Mutex<Names>,
    user: Mutex<Option<Arc<User>>>,
    wait: Mutex<Wait>,
    db: AtomicUsize,
    resp: AtomicU32,
    flags: AtomicU32,
    last_command: AtomicU32,
    last_interaction_ms: AtomicU64,
    killed: AtomicBool,
    multi: AtomicI64,
    multi_bytes: AtomicUsize,
    watched: AtomicUsize,
    /// Bytes read from it.
    pub net_input_bytes: AtomicU64,
    /// Bytes sent to it.
    pub net_output_bytes: AtomicU64,
    redirect: AtomicI64,
    /// Channels, patterns and shard channels that it is subscribed to.
    pub subscriptions: [AtomicUsize; 3],
    /// Commands it ran.
    pub commands: AtomicU64,
    /// Bytes of unfinished request kept for it.
    pub query_bytes: AtomicUsize,
    /// Bytes of replies not sent yet.
    pub output_bytes: AtomicUsize,
    /// Bytes of the words of a command that waits, or that a pool runs.
    pub argument_bytes: AtomicUsize,
    /// By [`Holding`].
    held_bytes: [AtomicUsize; 4],
    /// What of it is in the sum of all clients; [`NEVER_AGAIN`] once it has gone.
    accounted_bytes: AtomicUsize,
    /// Counts it in its registry as long as anybody holds it.
    alive: Option<Alive>,
}

/// One of those counted.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, RELAXED);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, RELAXED);
    }
}

/// What [`ClientInfo::new`] needs to know.
#[derive(Debug)]
pub struct Arrival {
    /// Its address.
    pub address: String,
    /// The address it came in by.
    pub local_address: String,
    /// File descriptor.
    pub descriptor: i32,
    /// Now (monotonic ms).
    pub now_ms: u64,
    /// Its worker's number.
    pub worker: usize,
    /// Its place in the worker.
    pub place: usize,
    /// Its worker.
    pub handle: Arc<dyn WorkerHandle>,
}

impl ClientInfo {
    /// A client that has just come.
    pub fn new(id: u64, arrival: Arrival) -> ClientInfo {
        ClientInfo {
            id,
            address: arrival.address,
            local_address: arrival.local_address,
            descriptor: arrival.descriptor,
            created_ms: arrival.now_ms,
            worker: arrival.worker,
            place: arrival.place,
            handle: arrival.handle,
            names: Mutex::default(),
            user: Mutex::default(),
            wait: Mutex::default(),
            db: AtomicUsize::new(0),
            resp: AtomicU32::new(2),
            flags: AtomicU32::new(0),
            last_command: AtomicU32::new(NO_COMMAND),
            last_interaction_ms: AtomicU64::new(arrival.now_ms),
            killed: AtomicBool::new(false),
            multi: AtomicI64::new(-1),
            multi_bytes: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
            net_input_bytes: AtomicU64::new(0),
            net_output_bytes: AtomicU64::new(0),
            redirect: AtomicI64::new(-1),
            subscriptions: Default::default(),
            commands: AtomicU64::new(0),
            query_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            argument_bytes: AtomicUsize::new(0),
            held_bytes: Default::default(),
            accounted_bytes: AtomicUsize::new(0),
            alive: None,
        }
    }

    /// Notes how many bytes something of it takes.
    pub fn hold(&self, what: Holding, bytes: usize) {
        self.held_bytes[what as usize].store(bytes, RELAXED);
    }

    /// Bytes that it takes, about.
    pub fn memory_bytes(&self) -> usize {
        let buffers = [&self.query_bytes, &self.output_bytes, &self.argument_bytes, &self.multi_bytes];
        CLIENT_BYTES
            + buffers.into_iter().chain(&self.held_bytes).map(|bytes| bytes.load(RELAXED)).sum::<usize>()
    }

    /// What it calls itself; of each name so many bytes at most.
    pub fn names(&self, bytes_max: usize) -> Names {
        // Names are ASCII.
        let cut = |name: &String| name.get(..bytes_max).unwrap_or(name).to_string();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Names { name: cut(&names.name), lib_name: cut(&names.lib_name), lib_version: cut(&names.lib_version) }
    }

    /// Changes what it calls itself.
    pub fn change_names(&self, change: impl FnOnce(&mut Names)) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut names);
        self.hold(Holding::Names, names.name.len() + names.lib_name.len() + names.lib_version.len());
    }

    /// Its user as it was when the client became it. `None`: it is no client that ever ran a command.
    pub fn user(&self) -> Option<Arc<User>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes its user.
    pub fn set_user(&self, user: &Arc<User>) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(user));
    }

    /// Selected database.
    pub fn db(&self) -> usize {
        self.db.load(RELAXED)
    }

    /// Notes the selected database.
    pub fn set_db(&self, db: usize) {
        self.db.store(db, RELAXED);
    }

    /// How many commands are queued for EXEC (-1: none are, it has not said MULTI), and their bytes.
    pub fn multi(&self) -> (i64, usize) {
        (self.multi.load(RELAXED), self.multi_bytes.load(RELAXED))
    }

    /// Notes how many commands are queued for EXEC, and their bytes.
    pub fn set_multi(&self, commands: i64, bytes: usize) {
        self.multi.store(commands, RELAXED);
        self.multi_bytes.store(bytes, RELAXED);
    }

    /// How many keys it watches.
    pub fn watched(&self) -> usize {
        self.watched.load(RELAXED)
    }

    /// Notes how many keys it watches.
    pub fn set_watched(&self, keys: usize) {
        self.watched.store(keys, RELAXED);
    }

    /// Protocol version, 2 or 3.
    pub fn resp(&self) -> u32 {
        self.resp.load(RELAXED)
    }

    /// Notes the protocol version.
    pub fn set_resp(&self, version: u32) {
        self.resp.store(version, RELAXED);
    }

    /// Flags, see `FLAG_*`.
    pub fn flags(&self) -> u32 {
        self.flags.load(RELAXED)
    }

    /// The client that is told of changes in its stead: -1 if it is told of none, 0 if it is itself.
    pub fn redirect(&self) -> i64 {
        self.redirect.load(RELAXED)
    }

    /// Notes who is told in its stead.
    pub fn set_redirect(&self, client: i64) {
        self.redirect.store(client, RELAXED);
    }

    /// Sets or clears a flag. Only the session's owner does, but for `FLAG_DIRTY` and `FLAG_BROKEN_REDIRECT`.
    pub fn set_flag(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, RELAXED);
        } else {
            self.flags.fetch_and(!flag, RELAXED);
        }
    }

    /// Number of the command run last, [`NO_COMMAND`] if none.
    pub fn last_command(&self) -> u32 {
        self.last_command.load(RELAXED)
    }

    /// Notes the command that runs.
    pub fn set_last_command(&self, index: u32) {
        self.last_command.store(index, RELAXED);
    }

    /// When it was last heard of (monotonic ms).
    pub fn last_interaction_ms(&self) -> u64 {
        self.last_interaction_ms.load(RELAXED)
    }

    /// Notes that it was heard of.
    pub fn touch(&self, now_ms: u64) {
        self.last_interaction_ms.store(now_ms, RELAXED);
    }

    /// Whether somebody killed it.
    pub fn is_killed(&self) -> bool {
        self.killed.load(RELAXED)
    }

    /// Closes it soon; nothing it sends from now on is run, and nothing is served to it, but what may be right now: whether that is so.
    pub fn kill(&self) -> bool {
        self.killed.store(true, RELAXED);
        let is_served = self.close_wait();
        self.handle.kill(self.id);
        is_served
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It begins to wait: from here on CLIENT UNBLOCK and CLIENT KILL find the claim. If it was killed or has gone, the wait
    /// has ended already.
    pub fn begin_wait(&self, claim: &Arc<Claim<Served>>) {
        let mut wait = self.wait();
        if wait.closed {
            // Lost only to another ending.
            let _ = claim.end(Ending::Gone);
        }
        wait.claim = Some(Arc::clone(claim));
    }

    /// The wait is over, one way or the other.
    pub fn end_wait(&self) {
        self.wait().claim = None;
    }

    /// It waits no more, now or later. Whether it is being served, or was a moment ago: then the reply comes and is dropped with the
    /// connection.
    pub fn close_wait(&self) -> bool {
        let mut wait = self.wait();
        wait.closed = true;
        wait.claim.as_ref().is_some_and(|claim| !claim.end(Ending::Gone) && claim.is_served())
    }

    /// Tells its worker that its reply lies in its claim.
    pub fn served(&self) {
        self.handle.settled(self.id);
    }

    /// Answers a command of it that waits for this, and tells its worker.
    pub fn answer(&self, to: &Answer, reply: Vec<u8>) {
        to.put(reply);
        self.handle.answered(self.id);
    }

    /// Its worker.
    pub fn worker_handle(&self) -> &Arc<dyn WorkerHandle> {
        &self.handle
    }

    /// Ends its blocking command. False if there is none, or if it is being served or has ended. (Who waits for the end of a pause, or for
    /// others, counts as blocked at most: it has no claim.)
    pub fn unblock(&self, with_error: bool) -> bool {
        let claim = self.wait().claim.clone();
        let ending = if with_error { Ending::Refused } else { Ending::Unblocked };
        let ended = claim.is_some_and(|claim| claim.end(ending));
        if ended {
            self.handle.settled(self.id);
        }
        ended
    }
}

/// All clients. The lock is taken when one comes or goes and by CLIENT LIST and KILL.
#[derive(Debug, Default)]
pub struct ClientRegistry {
    next_id: AtomicU64,
    count: AtomicUsize,
    blocked: AtomicUsize,
    /// What all clients take, while `maxmemory-clients` is on. Of two who count one client the later may come first here: then it is too
    /// little for a moment, maybe less than nothing.
    memory_bytes: AtomicIsize,
    /// Clients that anybody still holds: a connection, a job, a table.
    held: Arc<AtomicUsize>,
    clients: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
}

impl ClientRegistry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ClientInfo>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a client that has just come.
    pub fn add(&self, arrival: Arrival) -> Arc<ClientInfo> {
        let id = self.next_id.fetch_add(1, RELAXED) + 1;
        let mut info = ClientInfo::new(id, arrival);
        info.alive = Some(Alive::new(&self.held));
        let info = Arc::new(info);
        self.lock().insert(id, Arc::clone(&info));
        info
    }

    /// Removes a client that has gone.
    pub fn remove(&self, id: u64) {
        let gone = self.lock().remove(&id);
        if let Some(client) = gone {
            match client.accounted_bytes.swap(NEVER_AGAIN, RELAXED) {
                NEVER_AGAIN => {}
                before => {
                    self.memory_bytes.fetch_sub(before as isize, RELAXED);
                }
            }
        }
    }

    /// Counts what a client takes now; what all take that were counted.
    pub fn account(&self, client: &ClientInfo) -> usize {
        let bytes = if client.is_killed() { 0 } else { client.memory_bytes() };
        // Several threads may do so for one client: each takes out what the one before it put in.
        let still = |before| (before != NEVER_AGAIN).then_some(bytes);
        let change = match client.accounted_bytes.fetch_update(RELAXED, RELAXED, still) {
            Ok(before) => bytes as isize - before as isize,
            Err(_) => 0,
        };
        (self.memory_bytes.fetch_add(change, RELAXED) + change).max(0) as usize
    }

    /// Closes clients, the largest first, until all together take no more than so many bytes. Those with CLIENT NO-EVICT stay. How many
    /// were closed.
    pub fn evict(&self, bytes_max: usize) -> usize {
        let all = self.all();
        let mut total = all.iter().map(|client| self.account(client)).last().unwrap_or(0);
        if total <= bytes_max {
            return 0;
        }
        let may_go = |client: &&Arc<ClientInfo>| client.flags() & FLAG_NO_EVICT == 0;
        let mut sizes: Vec<(usize, &Arc<ClientInfo>)> =
            all.iter().filter(may_go).map(|client| (client.memory_bytes(), client)).collect();
        sizes.sort_unstable_by_key(|(bytes, client)| (std::cmp::Reverse(*bytes), client.id));
        let mut evicted = 0;
        for (_, client) in sizes {
            client.kill();
            evicted += 1;
            total = self.account(client);
            if total <= bytes_max {
                break;
            }
        }
        evicted
    }

    /// Takes one of `max` places for a connection. False if all are taken. [`leave`](Self::leave) gives it back.
    pub fn enter(&self, max: usize) -> bool {
        self.count.fetch_update(RELAXED, RELAXED, |count| (count < max).then_some(count + 1)).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.count.fetch_sub(1, RELAXED);
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.count.load(RELAXED)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Clients of which something is still there: a connection, a job on a pool, an entry in a table.
    pub fn held(&self) -> usize {
        self.held.load(RELAXED)
    }

    /// Clients in blocking commands.
    pub fn blocked(&self) -> usize {
        self.blocked.load(RELAXED)
    }

    /// Counts a client that begins or ends to block.
    pub fn count_blocked(&self, begins: bool) {
        if begins {
            self.blocked.fetch_add(1, RELAXED);
        } else {
            self.blocked.fetch_sub(1, RELAXED);
        }
    }

    /// All clients, by id; those not that were killed.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.lock().values().filter(|client| !client.is_killed()).cloned().collect()
    }

    /// One client.
    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.lock().get(&id).filter(|client| !client.is_killed()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Killed(Mutex<Vec<u64>>);

    impl WorkerHandle for Killed {
        fn kill(&self, client: u64) {
            self.0.lock().unwrap().push(client);
        }
        fn refresh(&self) {}
        fn settled(&self, _: u64) {}
        fn deliver(&self, _: Arc<Delivery>) {}
        fn end_turn(&self, _: Arc<Countdown>) {}
        fn answered(&self, _: u64) {}
    }

    fn arrival(handle: &Arc<Killed>) -> Arrival {
        Arrival {
            address: String::new(),
            local_address: String::new(),
            descriptor: 0,
            now_ms: 0,
            worker: 0,
            place: 0,
            handle: Arc::clone(handle) as Arc<dyn WorkerHandle>,
        }
    }

    #[test]
    fn who_goes_while_all_are_counted_is_counted_no_more() {
        let (registry, killed) = (ClientRegistry::default(), Arc::<Killed>::default());
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                while !ended.load(RELAXED) {
                    assert_eq!(registry.evict(1 << 30), 0);
                }
            });
            for _ in 0..20_000 {
                let clients = [(); 4].map(|()| registry.add(arrival(&killed)));
                std::thread::yield_now();
                clients.iter().for_each(|client| registry.remove(client.id));
            }
            ended.store(true, RELAXED);
            counting.join().unwrap();
        });
        assert_eq!(registry.memory_bytes.load(RELAXED), 0);
    }

    #[test]
    fn a_wait_is_ended_once() {
        let (registry, handle) = (ClientRegistry::default(), Arc::<Killed>::default());
        let client = registry.add(arrival(&handle));
        client.set_flag(FLAG_BLOCKED, true);
        assert!(!client.unblock(false), "it waits for nothing that could be ended");
        let claim: Arc<Claim<Served>> = Arc::default();
        client.begin_wait(&claim);
        assert!(client.unblock(true) && !client.unblock(false));
        assert_eq!(claim.ending(), Some(Ending::Refused));
        client.end_wait();
        assert!(!client.unblock(false) && !client.kill());
        // Whoever has the right to serve may be about to commit.
        let client = registry.add(arrival(&handle));
        client.begin_wait(&claim);
        assert!(!client.kill(), "its wait had ended");
        let (client, claim): (_, Arc<Claim<Served>>) = (registry.add(arrival(&handle)), Arc::default());
        client.begin_wait(&claim);
        assert!(claim.serve() && !client.unblock(false) && client.kill());
    }

    #[test]
    fn the_largest_go_first_and_no_more_than_must() {
        let (registry, killed) = (ClientRegistry::default(), Arc::<Killed>::default());
        let clients: Vec<_> = [10, 500, 300, 400]
            .map(|kilobytes: usize| {
                let client = registry.add(arrival(&killed));
                client.query_bytes.store(kilobytes << 10, RELAXED);
                client
            })
            .into();
        clients[1].set_flag(FLAG_NO_EVICT, true);
        assert_eq!(registry.evict(2 << 20), 0);
        assert_eq!(registry.account(&clients[0]), (1210 << 10) + 4 * CLIENT_BYTES);
        clients[0].hold(Holding::Watches, 1 << 10);
        assert_eq!(registry.account(&clients[0]), (1211 << 10) + 4 * CLIENT_BYTES);
        assert_eq!(registry.evict(900 << 10), 1);
        assert_eq!(*killed.0.lock().unwrap(), [4]);
        assert_eq!(registry.all().len(), 3);
        registry.remove(4);
        assert_eq!(registry.account(&clients[3]), (811 << 10) + 3 * CLIENT_BYTES);
        assert_eq!(registry.evict(1), 2, "all but the one that stays");
        clients.iter().for_each(|client| registry.remove(client.id));
        assert_eq!(registry.memory_bytes.load(RELAXED), 0);
    }
}
