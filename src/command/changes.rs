//! Telling those who asked for it which keys a commit has changed: clients that watch keys. (Those that cache keys are told by the
//! publisher, as the sweeper's commits are none of a command; here is only what they have read.)
//!
//! Whoever runs commands calls [`record`] when it has begun one and [`tell`] when it has ended, still inside the locks or the gate. As long
//! as nobody asks, that is one relaxed load a command.

use crate::base::args::Args;
use crate::command::facts::model::Flag;
use crate::command::key_finder::find_command_keys;
use crate::command::spec::Command;
use crate::session::clients::FLAG_TRACKING;
use crate::session::server_state::ServerState;
use crate::session::tracking::Tracking;
use crate::session::waiters::Waiter;
use crate::store::events::Effect;
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};

/// Remembers which keys a command is about to read, for a client that caches them. Before it reads.
#[inline]
pub fn remember(
    server: &ServerState,
    tracking: Option<&Tracking>,
    client: u64,
    command: &Command,
    args: &Args<'_>,
) {
    if let Some(tracking) = tracking
        && tracking.remembers()
        && is_remembered(command)
    {
        find_command_keys(command.facts, args, |index, _| server.publisher.remember(args.get(index), client));
    }
}

/// The same, of a command of an EXEC. What it reads of the EXEC's own changes is entered by [`remember_own`].
pub fn remember_in_exec(
    server: &ServerState,
    tracking: Option<&mut Tracking>,
    txn: &Txn,
    client: u64,
    command: &Command,
    args: &Args<'_>,
) {
    if let Some(tracking) = tracking
        && tracking.remembers()
        && is_remembered(command)
    {
        find_command_keys(command.facts, args, |index, _| {
            let key = args.get(index);
            if !tracking.own_reads.keep(key, txn.changed_earlier()) {
                server.publisher.remember(key, client);
            }
        });
    }
}

/// An EXEC is committed and told of.
#[inline]
pub fn remember_own(server: &ServerState, tracking: Option<&mut Tracking>, client: u64) {
    if let Some(tracking) = tracking {
        tracking.own_reads.take().iter().for_each(|key| server.publisher.remember(key, client));
    }
}

/// Whether what a command reads may be cached.
fn is_remembered(command: &Command) -> bool {
    command.facts.flags.has(Flag::ReadOnly) && !command.facts.flags.has(Flag::PubSub)
}

/// The same, of a command that waited and is run again.
pub fn remember_again(server: &ServerState, waiter: &Waiter, command: &Command, args: &Args<'_>) {
    let client = &waiter.client;
    // Who has gone is told of nothing, and its entry would stay.
    if waiter.remembers && client.flags() & FLAG_TRACKING != 0 && is_remembered(command) {
        find_command_keys(command.facts, args, |index, _| {
            server.publisher.remember(args.get(index), client.id);
        });
    }
}

/// Has the transaction record what it changes, if anybody wants to know.
#[inline]
pub fn record(server: &ServerState, txn: &mut Txn) {
    if !server.watches.is_empty() {
        txn.record_changes(true);
    }
}

/// Tells of what was committed. May use the transaction again, for reads.
#[inline]
pub fn tell(server: &ServerState, txn: &mut Txn, draws: Draws) {
    if let Some(changes) = txn.take_changes() {
        for changed in &changes.keys {
            server.watches.touch(changed.db, &changed.key);
        }
        for effect in &changes.databases {
            match *effect {
                Effect::Flush { db, .. } => server.watches.touch_live(db),
                Effect::Swap(a, b) => {
                    touch_swapped(server, txn, draws, a);
                    touch_swapped(server, txn, draws, b);
                }
            }
        }
    }
}

/// A database has the keys of another: those that were there are changed, and those that came.
fn touch_swapped(server: &ServerState, txn: &mut Txn, draws: Draws, db: usize) {
    server.watches.touch_live(db);
    for key in server.watches.absent_keys(db) {
        txn.begin(db, Mode::Pool, draws, ReadPoint::Latest);
        let present = txn.at(&key).and_then(|at| txn.peek(at, |record| record.is_some()));
        // What cannot be read may have changed.
        if present.unwrap_or(true) {
            server.watches.touch(db, &key);
        }
    }
    txn.abandon();
}
