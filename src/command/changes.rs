//! Telling those who asked for it which keys a commit has changed: clients that watch keys.
//!
//! Whoever runs commands calls [`record`] when it has begun one and [`tell`] when it has ended, still inside the locks or the gate. As long
//! as nobody asks, that is one relaxed load a command.

use crate::session::server_state::ServerState;
use crate::store::events::Effect;
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};

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
