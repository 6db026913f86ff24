//! The state of one connection that its commands may see and change.
//!
//! A session belongs to exactly one thread at a time: to the worker that owns the connection, or, while a command of it
//! runs on a pool, to that pool's thread; it travels with the command. What others may look at (CLIENT LIST, CLIENT KILL)
//! lies in the shared [`ClientInfo`]. A session knows no socket and no buffer.

use crate::session::channels::Subscriptions;
use crate::session::clients::{ClientInfo, FLAG_MULTI};
use crate::session::in_flight::Answer;
use crate::session::monitors::Monitoring;
use crate::session::multi::Multi;
use crate::session::outside::Outside;
use crate::session::permissions::User;
use crate::session::tracking::Tracking;
use crate::session::users::Users;
use crate::session::waiters::{Waiter, Wanted};
use crate::session::watches::{WatchTable, Watched};
use crate::store::pass::Pass;
use haypile_lsm::Lsn;
use haypile_resp::Protocol;
use std::sync::Arc;

/// Whether replies are sent (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Every command is answered.
    On,
    /// No command is answered.
    Off,
    /// The command that asked is not answered, nor the one after it.
    SkipNext,
    /// This command is not answered; then back to `On`.
    Skip,
}

/// What a command asks the connection to wait for before anything else of it runs.
#[derive(Clone, Debug)]
pub enum Block {
    /// DEBUG SLEEP: answer OK at this time.
    Sleep,
    /// WAIT: answer the number of replicas at this time.
    Replicas,
    /// WAITAOF: answer once `lsn` is on the disk (if `local`) and, with replicas asked for, at the deadline.
    Synced {
        /// What has to be on the disk.
        lsn: Lsn,
        /// Whether replicas are waited for as well; there are none, so only the deadline ends it.
        replicas: bool,
    },
    /// BLPOP and its kin: answer when served.
    Keys(Arc<Waiter>),
    /// CLIENT PAUSE, KILL, UNBLOCK, and changes of users that end clients: answer when what they concern has ended.
    Others(Arc<Answer>),
}

/// One connection as its commands see it.
#[derive(Debug)]
pub struct Session {
    /// Number of the client; never used again.
    pub id: u64,
    /// Which shard of the statistics this session counts in.
    pub shard: usize,
    /// What others may see of it.
    pub info: Arc<ClientInfo>,
    /// Selected database.
    pub db: usize,
    /// Protocol that replies are written in.
    pub protocol: Protocol,
    /// Whether it became its user by a password, or when that needed none. If not, it is the default one, and may run commands only while
    /// that needs no password.
    pub authenticated: bool,
    /// Whose rights it has, as they were when it last looked.
    pub user: Arc<User>,
    /// Whether these are all there are.
    pub may_do_all: bool,
    /// When it last looked: [`Users::generation`].
    pub users_generation: u64,
    /// LSN of this connection's last own commit: under `always` its reads see at least that.
    pub last_own_lsn: Lsn,
    /// What its replies have told of, those included that have not left: no later read may fall behind.
    pub seen_lsn: Lsn,
    /// Delay that the engine asked for and that was too short to be worth parking for, in nanoseconds.
    pub delay_debt_ns: u64,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT TRACKING, if it is on.
    pub tracking: Option<Box<Tracking>>,
    /// MONITOR, if it is on.
    pub monitoring: Option<Box<Monitoring>>,
    /// What it is subscribed to, if anything.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// The reply just written is a push: it is sent whatever `reply_mode` says.
    pub reply_is_push: bool,
    /// Close once all replies are sent (QUIT, protocol errors).
    pub close_after_reply: bool,
    /// Close without sending what is not sent yet.
    pub drop_replies: bool,
    /// Set by a command that wants the connection parked, with the time (monotonic ms) at which to give up; `u64::MAX` for never.
    pub block: Option<(Block, u64)>,
    /// The command that blocks is not answered (CLIENT REPLY).
    pub block_muted: bool,
    /// Set by a command that found nothing and wants to wait for keys; the dispatcher enters it while they are locked.
    pub wanted: Option<Box<Wanted>>,
    /// Whether commands may wait. Those within a transaction or a script may not: they answer as if their time had come.
    pub may_block: bool,
    /// A command that waited is run again because this key is ready: it may take from no other.
    pub ready_key: Option<Vec<u8>>,
    /// On a pool, while a command runs that may leave the gate for a while: its place in there.
    pub pass: Option<Pass>,
    /// On a pool: what it has to do with the world outside.
    pub outside: Option<Arc<Outside>>,
    /// Commands queued since MULTI.
    pub multi: Option<Box<Multi>>,
    /// Keys watched for the next EXEC.
    pub watched: Watched,
}

impl Session {
    /// A fresh session, of the default user.
    pub fn new(info: Arc<ClientInfo>, shard: usize, users: &Users, watches: &Arc<WatchTable>) -> Session {
        let (user, generation) = users.default_user();
        info.set_user(&user);
        Session::of_user(info, shard, user, generation, watches)
    }

    fn of_user(
        info: Arc<ClientInfo>,
        shard: usize,
        user: Arc<User>,
        users_generation: u64,
        watches: &Arc<WatchTable>,
    ) -> Session {
        Session {
            id: info.id,
            shard,
            watched: Watched::new(Arc::clone(watches), Arc::clone(&info)),
            info,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated: user.is_on && user.needs_no_password,
            may_do_all: user.may_do_all(),
            user,
            users_generation,
            last_own_lsn: 0,
            seen_lsn: 0,
            delay_debt_ns: 0,
            no_touch: false,
            no_evict: false,
            reply_mode: ReplyMode::On,
            tracking: None,
            monitoring: None,
            subscriptions: None,
            reply_is_push: false,
            close_after_reply: false,
            drop_replies: false,
            block: None,
            block_muted: false,
            wanted: None,
            may_block: true,
            ready_key: None,
            pass: None,
            outside: None,
            multi: None,
        }
    }

    /// A session in which the command of a waiter is run again, for a key that is ready. `None` if the waiter's user was removed.
    pub fn of_waiter(
        waiter: &Waiter,
        ready_key: &[u8],
        users: &Users,
        watches: &Arc<WatchTable>,
    ) -> Option<Session> {
        let (user, generation) = users.current(&*waiter.client.user()?);
        let mut session =
            Session::of_user(Arc::clone(&waiter.client), waiter.shard, user?, generation, watches);
        session.db = waiter.db;
        session.protocol = waiter.protocol;
        session.ready_key = Some(ready_key.to_vec());
        Some(session)
    }

    /// It is this user from here on.
    pub fn become_user(&mut self, user: Arc<User>, users_generation: u64) {
        self.info.set_user(&user);
        self.may_do_all = user.may_do_all();
        self.user = user;
        self.users_generation = users_generation;
    }

    /// Takes its user's rights as they are now. False if the user was removed: then it may do nothing, and is to be closed. As its
    /// generation stays what it was, whoever looks again is told the same.
    pub fn follow_user(&mut self, users: &Users) -> bool {
        let (Some(user), generation) = users.current(&self.user) else {
            (self.may_do_all, self.authenticated) = (false, false);
            return false;
        };
        self.may_do_all = user.may_do_all();
        self.user = user;
        self.users_generation = generation;
        true
    }

    fn become_default(&mut self, users: &Users) {
        let (user, generation) = users.default_user();
        self.authenticated = user.is_on && user.needs_no_password;
        self.become_user(user, generation);
    }

    /// Whether a blocking command may take from a key: always, but when it is run again because another one is ready.
    pub fn may_take(&self, key: &[u8]) -> bool {
        self.ready_key.as_ref().is_none_or(|ready| ready == key)
    }

    /// No read may fall behind this: what it wrote, and what its replies have told of.
    pub fn known_lsn(&self) -> Lsn {
        self.last_own_lsn.max(self.seen_lsn)
    }

    /// Whether it gets messages in a protocol that cannot tell them from replies: then it may run little else.
    pub fn only_listens(&self) -> bool {
        self.subscriptions.is_some() && self.protocol == Protocol::Resp2
    }

    /// The command that runs on a pool waits for others from here on: it leaves the gate, and its thread to another.
    pub fn step_out(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.leave();
        }
        if let Some(outside) = &self.outside {
            // Without a place for another thread the pool has one less for a while.
            outside.threads.begin_wait();
        }
    }

    /// It goes on, in the gate.
    pub fn step_in(&mut self) {
        if let Some(outside) = &self.outside {
            outside.threads.end_wait();
        }
        if let Some(pass) = &mut self.pass {
            pass.enter();
        }
    }

    /// MULTI: from here on commands are queued.
    pub fn begin_multi(&mut self, databases: usize) {
        self.multi = Some(Box::new(Multi::new(databases)));
        self.info.set_multi(0, 0);
        self.info.set_flag(FLAG_MULTI, true);
    }

    /// The transaction is over: nothing is queued and nothing watched any more.
    pub fn end_multi(&mut self) {
        self.multi = None;
        self.watched.clear();
        self.info.set_multi(-1, 0);
        self.info.set_flag(FLAG_MULTI, false);
    }

    /// Selects a database.
    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.info.set_db(db);
    }

    /// Switches the protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.info.set_resp(if protocol == Protocol::Resp3 { 3 } else { 2 });
    }

    /// RESET: back to how the connection began, but for its name's owner and address.
    pub fn reset(&mut self, users: &Users) {
        self.end_multi();
        self.select(0);
        self.set_protocol(Protocol::Resp2);
        self.become_default(users);
        self.no_touch = false;
        self.no_evict = false;
        self.reply_mode = ReplyMode::On;
        self.subscriptions = None;
        self.tracking = None;
        self.monitoring = None;
        self.info.change_names(|names| names.name = String::new());
        self.info.set_flag(crate::session::clients::FLAG_NO_EVICT, false);
        self.info.set_flag(crate::session::clients::FLAG_NO_TOUCH, false);
    }
}
