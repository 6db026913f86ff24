//! Handing out what clients did not ask for just now: messages, invalidations, lines of MONITOR.

use crate::net::push;
use crate::net::worker::state::Worker;
use crate::session::clients::FLAG_PUBSUB;
use crate::session::delivery::{Delivery, Subscriber, append_broken_redirect};
use haypile_lsm::Lsn;
use haypile_resp::Protocol;
use std::sync::Arc;

/// Unsent pushes above which the worker does not wait for the end of its turn to send.
const PUSHED_BYTES_MAX: usize = 256 << 10;

impl Worker {
    /// Hands a delivery to those connections that it is for.
    pub(super) fn deliver(&mut self, delivery: &Delivery) {
        let server = Arc::clone(&self.server);
        server.publisher.taken(delivery);
        match delivery {
            Delivery::Message(message) => {
                let mut found = Vec::new();
                server.publisher.channels().subscribers(self.index, message, &mut found);
                for (subscriber, pattern) in found {
                    self.push(subscriber, message.need, |buffer, protocol, _| match pattern {
                        None => message.append(buffer, protocol),
                        Some(pattern) => message.append_for_pattern(buffer, protocol, pattern),
                    });
                }
            }
            Delivery::Invalidation(invalidation) => {
                for (subscriber, in_stead) in &invalidation.to {
                    self.push(*subscriber, invalidation.need, |buffer, protocol, flags| {
                        invalidation.append(buffer, protocol, *in_stead, flags & FLAG_PUBSUB != 0);
                    });
                }
            }
            Delivery::BrokenRedirect { to, redirect } => {
                self.push(*to, 0, |buffer, protocol, _| append_broken_redirect(buffer, protocol, *redirect));
            }
            Delivery::Line(line) => {
                for subscriber in server.publisher.monitors().of_worker(self.index) {
                    self.push(subscriber, 0, |buffer, _, _| buffer.extend_from_slice(line));
                }
            }
        }
    }

    /// Appends a push to the output of one connection, if it is still there.
    pub(super) fn push(&mut self, to: Subscriber, need: Lsn, write: impl Fn(&mut Vec<u8>, Protocol, u32)) {
        let Some(Some(connection)) = self.connections.get_mut(to.place) else { return };
        if connection.info.id != to.client || connection.closing || connection.unheard {
            return;
        }
        if !connection.output.has_buffer()
            && let Some(buffer) = self.spare_buffers.pop()
        {
            connection.output.put_back(buffer);
        }
        push::append(connection, need, self.watermark, write);
        self.server.look_at_memory_of(&connection.info);
        if need > self.watermark {
            self.turn_need = self.turn_need.max(need);
        }
        if connection.output.unsent() + connection.deferred.len() > PUSHED_BYTES_MAX {
            self.send(to.place);
        } else {
            self.mark_dirty(to.place);
        }
    }
}
