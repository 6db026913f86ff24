//! Ends clients whose user is gone, or who listen to what their user may no longer.
//!
//! The change is in force when this is called. A client that becomes such a user, or subscribes, at the same time finds that out by itself:
//! see `session/users.rs`.
//!
//! However many users a change concerns, clients and subscriptions are walked over once.

use crate::command::client_cmd::Killed;
use crate::session::permissions::{LeftChannels, User};
use crate::session::server_state::ServerState;
use crate::session::session::Session;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A user before a change, and after it; `None` if it was removed.
pub type Change = (Arc<User>, Option<Arc<User>>);

/// Ends all clients of users who were removed, and those of changed ones who are subscribed to something that they may no longer.
pub fn end_clients(server: &ServerState, asking: &mut Session, changes: &[Change]) -> Killed {
    // By the number of the user.
    let (mut removed, mut limited) = (HashSet::new(), HashMap::new());
    for (old, new) in changes {
        match new {
            None => removed.extend([old.id]),
            Some(new) => limited.extend(LeftChannels::after(old, new).map(|left| (new.id, left))),
        }
    }
    let mut killed = Killed::default();
    if removed.is_empty() && limited.is_empty() {
        return killed;
    }
    let mut listeners = HashMap::new();
    for client in server.clients.all() {
        let Some(user) = client.user().map(|user| user.id) else { continue };
        if removed.contains(&user) {
            killed.kill(&client, asking);
        } else if limited.contains_key(&user) {
            listeners.insert(client.id, user);
        }
    }
    if listeners.is_empty() {
        return killed;
    }
    let ended = server.publisher.channels().subscribers_where(&mut |name, is_pattern, subscribers| {
        // By user: each is asked once about a name.
        let mut may_stay: HashMap<u64, bool> = HashMap::new();
        subscribers.retain(|client| {
            let Some(user) = listeners.get(client) else { return false };
            let ask = || limited.get(user).is_none_or(|left: &LeftChannels| left.has(name, is_pattern));
            !*may_stay.entry(*user).or_insert_with(ask)
        });
    });
    for client in ended.into_iter().filter_map(|id| server.clients.get(id)) {
        killed.kill(&client, asking);
    }
    killed
}
