//! How a connection comes to its worker.

use crate::net::connection::Connection;
use crate::net::worker::state::Worker;
use crate::session::clients::{Arrival, WorkerHandle};
use crate::session::session::Session;
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;

impl Worker {
    pub(super) fn adopt(&mut self, mut stream: TcpStream, address: SocketAddr) {
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
        use std::os::fd::AsRawFd;
        let info = self.server.clients.add(Arrival {
            address: address.to_string(),
            local_address: stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string()),
            descriptor: stream.as_raw_fd(),
            now_ms: self.now_ms,
            worker: self.index,
            place: token,
            handle: Arc::clone(&self.shared) as Arc<dyn WorkerHandle>,
        });
        self.server.stats.clients_peak.fetch_max(self.server.clients.len() as u64, RELAXED);
        self.counters().connections_received.fetch_add(1, RELAXED);
        self.by_client.insert(info.id, token);
        let session = Box::new(Session::new(info, self.index, &self.server.users, &self.server.watches));
        let connection = Box::new(Connection::new(stream, token, session));
        if token == self.connections.len() {
            self.connections.push(Some(connection));
        } else if let Some(place) = self.connections.get_mut(token) {
            *place = Some(connection);
        }
    }
}
