//! The acceptor: one thread that takes connections and deals each to the worker that has the fewest.
//!
//! (With SO_REUSEPORT the system would deal them by hash, which leaves ten clients lopsided over four workers.) It takes a bounded number a
//! turn. Out of descriptors it gives up a reserved one, to take one connection and close it at once, and then rests a moment;
//! without that the listening socket would stay readable and the thread would spin.

use crate::net::worker::mail::{Letter, WorkerShared};
use crate::session::server_state::ServerState;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;
/// Connections taken from one listener before others have their turn.
const ACCEPTS_PER_TURN: usize = 256;
/// How long it rests when there are no descriptors.
const REST: Duration = Duration::from_millis(100);
const WAKER: Token = Token(usize::MAX);

/// What a client is told that comes from elsewhere while there is no password.
const PROTECTED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set \
for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from \
external computers, either set 'protected-mode no' (CONFIG SET protected-mode no from the loopback interface, or in the \
configuration file), or set a password with 'requirepass'.\r\n";
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Opens a listening socket for every address of `bind` (redis.conf's: `*` for all, a `-` in front for "if there is such").
/// Errors are ready to be shown.
pub fn listen(bind: &str, port: u16, backlog: i32) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for word in bind.split_ascii_whitespace() {
        let (name, optional) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
        let address = match name {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            name => match name.parse() {
                Ok(address) => address,
                Err(_) => return Err(format!("bind: '{name}' is not an IP address")),
            },
        };
        match listen_on(SocketAddr::new(address, port), backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error)
                if optional
                    && matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {}
            Err(error) if optional && error.raw_os_error() == Some(97) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(format!("port {port} on {address} is in use by another program"));
            }
            Err(error) => return Err(format!("cannot listen on {address} port {port}: {error}")),
        }
    }
    if listeners.is_empty() { Err("no address to listen on".into()) } else { Ok(listeners) }
}

fn listen_on(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog.max(1))?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

/// See the module.
pub struct Acceptor {
    server: Arc<ServerState>,
    workers: Vec<Arc<WorkerShared>>,
    listeners: Vec<TcpListener>,
    poll: Poll,
    stop: Arc<AtomicBool>,
    reserve: Option<OwnedFd>,
}

/// Ends an [`Acceptor`].
pub struct AcceptorHandle {
    stop: Arc<AtomicBool>,
    waker: mio::Waker,
}

impl AcceptorHandle {
    /// Takes no more connections; the sockets close when the acceptor's thread ends.
    pub fn stop(&self) {
        // Release: pairs with the Acquire in `run`.
        self.stop.store(true, Ordering::Release);
        // Fails only without memory; the acceptor looks at the flag each second anyway.
        let _ = self.waker.wake();
    }
}

fn reserve() -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl Acceptor {
    /// An acceptor of these sockets.
    pub fn new(
        server: Arc<ServerState>,
        workers: Vec<Arc<WorkerShared>>,
        mut listeners: Vec<TcpListener>,
    ) -> io::Result<(Acceptor, AcceptorHandle)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(index), Interest::READABLE)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let handle =
            AcceptorHandle { stop: Arc::clone(&stop), waker: mio::Waker::new(poll.registry(), WAKER)? };
        Ok((Acceptor { server, workers, listeners, poll, stop, reserve: reserve() }, handle))
    }

    /// Accepts until it is stopped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut rest = false;
        // All sockets may have connections waiting: edges are not repeated.
        let mut waiting: Vec<bool> = vec![true; self.listeners.len()];
        // Acquire: pairs with the Release in `AcceptorHandle::stop`.
        while !self.stop.load(Ordering::Acquire) {
            let timeout = match (rest, waiting.contains(&true)) {
                (true, _) => REST,
                (false, true) => Duration::ZERO,
                (false, false) => Duration::from_secs(1),
            };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != ErrorKind::Interrupted
            {
                self.server.log('#', &format!("acceptor: poll: {error}"));
            }
            for event in &events {
                if let Some(waits) = waiting.get_mut(event.token().0) {
                    *waits = true;
                }
            }
            rest = false;
            for index in 0..self.listeners.len() {
                if waiting.get(index) == Some(&true) {
                    let (more, out_of_descriptors) = self.accept(index);
                    rest |= out_of_descriptors;
                    if let Some(waits) = waiting.get_mut(index) {
                        *waits = more;
                    }
                }
            }
        }
    }

    /// Takes connections of one socket. Returns whether more may wait, and whether there were no descriptors.
    fn accept(&mut self, index: usize) -> (bool, bool) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(index) else { return (false, false) };
            match listener.accept() {
                Ok((stream, address)) => self.deal(stream, address),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return (false, false),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ if is_out_of_descriptors(&error) => {
                        self.turn_one_away(index);
                        return (true, true);
                    }
                    _ => {
                        self.server.log('-', &format!("acceptor: accept: {error}"));
                        return (true, true);
                    }
                },
            }
        }
        (true, false)
    }

    fn turn_one_away(&mut self, index: usize) {
        self.server.stats.shared().counters.connections_rejected.fetch_add(1, RELAXED);
        self.reserve = None;
        if let Some(listener) = self.listeners.get(index) {
            // Taken only to be closed.
            drop(listener.accept());
        }
        self.reserve = reserve();
    }

    fn deal(&mut self, mut stream: TcpStream, address: SocketAddr) {
        let settings = &self.server.settings;
        let refuse = |stream: &mut TcpStream, text: &[u8]| {
            self.server.stats.shared().counters.connections_rejected.fetch_add(1, RELAXED);
            // Best effort: the client may be gone.
            let _ = stream.write(text);
        };
        if settings.protected_mode.load(RELAXED) && self.server.users.is_open() && !is_loopback(address.ip())
        {
            refuse(&mut stream, PROTECTED);
            return;
        }
        if !self.server.clients.enter(settings.clients_max.load(RELAXED) as usize) {
            refuse(&mut stream, TOO_MANY);
            return;
        }
        // Each of these costs latency or a late notice if it fails, nothing else.
        let _ = stream.set_nodelay(true);
        let keepalive_s = settings.keepalive_s.load(RELAXED);
        if keepalive_s > 0 {
            let _ = sockopt::set_socket_keepalive(&stream, true);
            let _ = sockopt::set_tcp_keepidle(&stream, Duration::from_secs(keepalive_s));
            let _ = sockopt::set_tcp_keepintvl(&stream, Duration::from_secs((keepalive_s / 3).max(1)));
            let _ = sockopt::set_tcp_keepcnt(&stream, 3);
        }
        let fewest = self.workers.iter().min_by_key(|worker| worker.connections.load(RELAXED));
        let Some(worker) = fewest else {
            self.server.clients.leave();
            return;
        };
        worker.connections.fetch_add(1, RELAXED);
        worker.mailbox.post(Letter::Connection(stream, address));
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::MFILE.raw_os_error())
        || code == Some(rustix::io::Errno::NFILE.raw_os_error())
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}
