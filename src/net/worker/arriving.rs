//! How a connection comes to its worker.

use crate::net::connection::Connection;
use crate::net::listeners::Arrived;
use crate::net::stream::Stream;
use crate::net::timer::Alarm;
use crate::net::worker::state::Worker;
use crate::session::clients::{Arrival, FLAG_UNIX, WorkerHandle};
use crate::session::session::Session;
use mio::{Interest, Token};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;
/// How long a client may take to agree with us on how to encrypt.
const HANDSHAKE_MS_MAX: u64 = 10_000;

impl Worker {
    /// Begins to serve a connection; or, with a refusal, to tell it why not.
    pub(super) fn adopt(&mut self, arrived: Arrived, refusal: Option<&'static [u8]>) {
        let Arrived { mut stream, address, local_address, .. } = arrived;
        let token = self.free.pop().unwrap_or(self.connections.len());
        let registered =
            self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE);
        if self.stopping.is_some() || registered.is_err() {
            if token < self.connections.len() {
                self.free.push(token);
            }
            self.forget_one();
            return;
        }
        let info = self.server.clients.add(Arrival {
            address,
            local_address,
            descriptor: stream.as_raw_fd(),
            now_ms: self.now_ms,
            worker: self.index,
            place: token,
            handle: Arc::clone(&self.shared) as Arc<dyn WorkerHandle>,
        });
        self.server.stats.clients_peak.fetch_max(self.server.clients.len() as u64, RELAXED);
        self.counters().connections_received.fetch_add(1, RELAXED);
        info.set_flag(FLAG_UNIX, matches!(stream, Stream::Unix(_)));
        self.by_client.insert(info.id, token);
        if stream.is_handshaking() {
            let at_ms = self.now_ms + HANDSHAKE_MS_MAX;
            self.timers.add(Alarm { at_ms, token, client: info.id });
        }
        let session = Box::new(Session::new(info, self.index, &self.server.users, &self.server.watches));
        let mut connection = Box::new(Connection::new(stream, token, session));
        connection.refusal = refusal;
        if token == self.connections.len() {
            self.connections.push(Some(connection));
        } else if let Some(place) = self.connections.get_mut(token) {
            *place = Some(connection);
        }
    }
}
