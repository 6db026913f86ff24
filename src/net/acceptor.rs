//! The acceptor: one thread that takes connections and deals each to the worker that has the fewest.
//!
//! (With SO_REUSEPORT the system would deal them by hash, which leaves ten clients lopsided over four workers.) It takes a bounded number a
//! turn. Out of descriptors it gives up a reserved one, to take one connection and close it at once, and then rests a moment;
//! without that the listening socket would stay readable and the thread would spin.
//!
//! Who is refused is told why here, if it can be told at once; with TLS the worker tells it when the handshake is over.

use crate::net::listeners::{Arrived, Listeners, Taken};
use crate::net::stream::Stream;
use crate::net::worker::mail::{Letter, WorkerShared};
use crate::session::server_state::ServerState;
use mio::net::TcpStream;
use mio::{Events, Poll};
use rustix::net::sockopt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;
/// Connections taken from one listener before others have their turn.
const ACCEPTS_PER_TURN: usize = 256;
/// How long it rests when there are no descriptors.
const REST: Duration = Duration::from_millis(100);

/// What a client is told that comes from elsewhere while there is no password.
pub const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external \
computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET \
protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE \
Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you \
can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then \
restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) \
Set up an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to \
start accepting connections from the outside.\r\n";
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// See the module.
pub struct Acceptor {
    server: Arc<ServerState>,
    workers: Vec<Arc<WorkerShared>>,
    listeners: Arc<Listeners>,
    poll: Poll,
    stop: Arc<AtomicBool>,
    reserve: Option<OwnedFd>,
}

/// Ends an [`Acceptor`].
pub struct AcceptorHandle {
    stop: Arc<AtomicBool>,
    listeners: Arc<Listeners>,
}

impl AcceptorHandle {
    /// Takes no more connections; the sockets close when the acceptor's thread ends.
    pub fn stop(&self) {
        // Release: pairs with the Acquire in `run`.
        self.stop.store(true, Ordering::Release);
        self.listeners.wake();
    }
}

fn reserve() -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl Acceptor {
    /// An acceptor of these sockets, which are registered with `poll`.
    pub fn new(
        server: Arc<ServerState>,
        workers: Vec<Arc<WorkerShared>>,
        listeners: Arc<Listeners>,
        poll: Poll,
    ) -> (Acceptor, AcceptorHandle) {
        let stop = Arc::new(AtomicBool::new(false));
        let handle = AcceptorHandle { stop: Arc::clone(&stop), listeners: Arc::clone(&listeners) };
        (Acceptor { server, workers, listeners, poll, stop, reserve: reserve() }, handle)
    }

    /// Accepts until it is stopped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut rest = false;
        let mut waiting = Vec::new();
        self.listeners.waiting(&mut waiting);
        // Acquire: pairs with the Release in `AcceptorHandle::stop`.
        while !self.stop.load(Ordering::Acquire) {
            let timeout = match (rest, waiting.is_empty()) {
                (true, _) => REST,
                (false, false) => Duration::ZERO,
                (false, true) => Duration::from_secs(1),
            };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != ErrorKind::Interrupted
            {
                self.server.log('#', &format!("acceptor: poll: {error}"));
            }
            for event in &events {
                self.listeners.note_waiting(event.token());
            }
            rest = false;
            self.listeners.waiting(&mut waiting);
            for &token in &waiting {
                rest |= self.accept(token);
            }
            self.listeners.waiting(&mut waiting);
        }
        self.listeners.close_all();
    }

    /// Takes connections of one socket. Returns whether to rest before more are taken.
    fn accept(&mut self, token: usize) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listeners.accept(token) {
                Taken::Arrived(arrived) => self.deal(*arrived),
                Taken::Gone => {}
                Taken::None => return false,
                Taken::Failed(error) if is_out_of_descriptors(&error) => {
                    self.turn_one_away(token);
                    return true;
                }
                Taken::Failed(error) => {
                    self.server.log('-', &format!("acceptor: accept: {error}"));
                    return true;
                }
            }
        }
        false
    }

    fn turn_one_away(&mut self, token: usize) {
        self.server.stats.shared().counters.connections_rejected.fetch_add(1, RELAXED);
        self.reserve = None;
        // Taken only to be closed.
        drop(self.listeners.accept(token));
        self.reserve = reserve();
    }

    fn deal(&mut self, mut arrived: Arrived) {
        let settings = &self.server.settings;
        let refuse = |stream: &mut Stream, text: &[u8]| {
            self.server.stats.shared().counters.connections_rejected.fetch_add(1, RELAXED);
            // Best effort: the client may be gone, or speak TLS and not be ready for a word.
            let _ = stream.write(text);
        };
        let protected =
            settings.protected_mode.load(RELAXED) && self.server.users.is_open() && !arrived.is_local;
        let has_to_wait = arrived.stream.is_handshaking();
        if protected && !has_to_wait {
            refuse(&mut arrived.stream, PROTECTED);
            return;
        }
        if !self.server.clients.enter(settings.clients_max.load(RELAXED) as usize) {
            refuse(&mut arrived.stream, TOO_MANY);
            return;
        }
        if let Stream::Tcp(stream) = &arrived.stream {
            self.set_options(stream);
        } else if let Stream::Tls(stream) = &mut arrived.stream {
            self.set_options(stream.socket());
        }
        let fewest = self.workers.iter().min_by_key(|worker| worker.connections.load(RELAXED));
        let Some(worker) = fewest else {
            self.server.clients.leave();
            return;
        };
        worker.connections.fetch_add(1, RELAXED);
        worker.mailbox.post(Letter::Connection(Box::new(arrived), protected.then_some(PROTECTED)));
    }

    /// Each of these costs latency or a late notice if it fails, nothing else.
    fn set_options(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let keepalive_s = self.server.settings.keepalive_s.load(RELAXED);
        if keepalive_s > 0 {
            let _ = sockopt::set_socket_keepalive(stream, true);
            let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(keepalive_s));
            let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs((keepalive_s / 3).max(1)));
            let _ = sockopt::set_tcp_keepcnt(stream, 3);
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}
