//! Appends to a connection's output what its client did not ask for just now.
//!
//! A push is whole, and lies between replies: while a connection's commands run, its worker reads no mail. While a pool runs one of
//! its commands, pushes wait until its reply is there: the command may be the SUBSCRIBE that they are for, or the read
//! whose answer they take back. So they do while somebody serves a command that waited for keys: its change is told of before its
//! reply is put down, and comes behind it.

use crate::net::connection::{Connection, Parked};
use crate::net::output::Deferred;
use crate::session::session::Block;
use haypile_lsm::Lsn;
use haypile_resp::Protocol;

/// Appends a push that may leave once the log has reached `need`. `watermark` is where the log is; `write` is told the client's protocol and
/// flags.
pub fn append(
    connection: &mut Connection,
    need: Lsn,
    watermark: Lsn,
    write: impl Fn(&mut Vec<u8>, Protocol, u32),
) {
    let flags = connection.info.flags();
    if connection.session.is_none() || is_being_served(connection) {
        let [resp2, resp3] = &mut connection.deferred.bytes;
        write(resp2, Protocol::Resp2, flags);
        write(resp3, Protocol::Resp3, flags);
        connection.deferred.need = connection.deferred.need.max(need);
        connection.tell_output();
        return;
    }
    let mut buffer = connection.output.take();
    let position = buffer.len();
    write(&mut buffer, protocol_of(connection), flags);
    let written = buffer.len() > position;
    connection.output.put_back(buffer);
    if written && need > watermark {
        connection.output.fence(position, need);
        connection.output.end_turn();
    }
    connection.tell_output();
}

fn protocol_of(connection: &Connection) -> Protocol {
    if connection.info.resp() == 3 { Protocol::Resp3 } else { Protocol::Resp2 }
}

fn is_being_served(connection: &Connection) -> bool {
    match &connection.parked {
        Some(Parked::Block(blocked)) => {
            matches!(&blocked.block, Block::Keys(waiter) if waiter.claim.is_served())
        }
        _ => false,
    }
}

/// Appends what waited for a reply, if that is there now.
pub fn append_deferred(connection: &mut Connection, watermark: Lsn) {
    if !connection.deferred.is_empty() && !is_being_served(connection) {
        let Deferred { bytes: [resp2, resp3], need } = std::mem::take(&mut connection.deferred);
        let bytes = if protocol_of(connection) == Protocol::Resp3 { resp3 } else { resp2 };
        append(connection, need, watermark, |buffer, _, _| buffer.extend_from_slice(&bytes));
    }
}
