//! Ends clients whose user is gone, or who listen to what their user may no longer.
//!
//! The change is in force when these are called. A client that becomes such a user, or subscribes, at the same time finds that out by itself:
//! see `session/users.rs`.

use crate::session::clients::ClientInfo;
use crate::session::permissions::{LeftChannels, User};
use crate::session::server_state::ServerState;
use crate::session::session::Session;

fn is_of(client: &ClientInfo, user: &User) -> bool {
    client.user().is_some_and(|own| own.id == user.id)
}

fn end(client: &ClientInfo, asking: &mut Session) {
    if client.id == asking.id {
        asking.close_after_reply = true;
    } else {
        client.kill();
    }
}

/// Ends all clients of a user who was removed.
pub fn end_clients(server: &ServerState, asking: &mut Session, user: &User) {
    for client in server.clients.all().iter().filter(|client| is_of(client, user)) {
        end(client, asking);
    }
}

/// Ends those clients of a changed user who are subscribed to something that they may no longer.
pub fn end_listeners(server: &ServerState, asking: &mut Session, old: &User, new: &User) {
    let Some(left) = LeftChannels::after(old, new) else { return };
    let listeners =
        server.publisher.channels().subscribers_without(&|name, is_pattern| left.has(name, is_pattern));
    for client in listeners.into_iter().filter_map(|id| server.clients.get(id)) {
        if is_of(&client, new) {
            end(&client, asking);
        }
    }
}
