//! The sockets that are listened on: those that `port`, `tls-port`, `bind` and `unixsocket` ask for.
//!
//! They can change while the server runs (CONFIG SET). Sockets that stay wanted are left alone; others are closed, and only then new ones
//! opened, since an address may be held by the wildcard address and the other way round. If a new one cannot be opened, the old
//! ones come back. Whoever changes them and the acceptor that takes connections share them under a lock, held for one `accept` or one change.

use crate::base::config::Config;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::tls_stream::TlsStream;
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Poll, Registry, Token, Waker};
use rustix::fs::{FileType, Mode, chmod, lstat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, ipproto, listen, socket_with,
    sockopt,
};
use rustls::ServerConfig;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The token of the waker.
pub const WAKER: Token = Token(usize::MAX);

/// Writes a line to the log, with its level.
pub type LogLine<'a> = &'a dyn Fn(char, &str);

/// What a socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Unix(String),
}

/// A socket that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    place: Place,
    /// It may be missing, if the machine has no such address.
    optional: bool,
}

/// Why sockets could not be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `bind` holds what is no address.
    Address(String),
    /// A TCP port cannot be listened on.
    Port(u16),
    /// A TLS port cannot be listened on.
    TlsPort(u16),
    /// The unix socket cannot be made.
    Unix,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Address(name) => write!(f, "'{name}' is not an IP address"),
            Refusal::Port(port) => write!(f, "Failed listening on port {port} (TCP), aborting."),
            Refusal::TlsPort(port) => write!(f, "Failed listening on port {port} (TLS), aborting."),
            Refusal::Unix => write!(f, "Failed opening Unix socket"),
        }
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Open {
    token: usize,
    wanted: Wanted,
    socket: Socket,
    /// Connections may be waiting: edges are not repeated.
    waiting: bool,
}

#[derive(Default)]
struct Inner {
    open: Vec<Open>,
    next_token: usize,
    tls: Option<Arc<ServerConfig>>,
}

/// A connection that was taken.
pub struct Arrived {
    /// Its socket.
    pub stream: Stream,
    /// Where it comes from, as CLIENT LIST shows it.
    pub address: String,
    /// Where it came in.
    pub local_address: String,
    /// Whether it comes from this machine.
    pub is_local: bool,
}

/// What came of taking a connection.
pub enum Taken {
    /// One.
    Arrived(Box<Arrived>),
    /// One that had gone before it could be looked at.
    Gone,
    /// None waits.
    None,
    /// It failed.
    Failed(io::Error),
}

/// See the module.
pub struct Listeners {
    inner: Mutex<Inner>,
    registry: Registry,
    waker: Waker,
}

impl Listeners {
    /// Opens what `config` wants; `poll` is the acceptor's.
    pub fn new(config: &Config, poll: &Poll, log: LogLine<'_>) -> Result<Listeners, String> {
        let failed = |error: io::Error| format!("cannot listen: {error}");
        let registry = poll.registry().try_clone().map_err(failed)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(failed)?;
        let tls = tls::configure(config).inspect_err(|why| log('#', why))?;
        let listeners = Listeners { inner: Mutex::new(Inner { tls, ..Inner::default() }), registry, waker };
        listeners
            .change(config, log)
            .map_err(|refusal| refusal.to_string())
            .inspect_err(|why| log('#', why))?;
        if listeners.lock().open.is_empty() {
            return Err("Configured to not listen anywhere, exiting.".into());
        }
        Ok(listeners)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New TLS connections get this configuration from now on. The one before it.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) -> Option<Arc<ServerConfig>> {
        std::mem::replace(&mut self.lock().tls, tls)
    }

    /// Wakes the acceptor.
    pub fn wake(&self) {
        // Fails only without memory; the acceptor looks around each second anyway.
        let _ = self.waker.wake();
    }

    /// Opens and closes until what is open is what `config` wants. If that cannot be, all is as before.
    pub fn change(&self, config: &Config, log: LogLine<'_>) -> Result<(), Refusal> {
        let wanted = wanted(config)?;
        let opening = Opening {
            backlog: config.number("tcp-backlog").clamp(1, i64::from(i32::MAX)) as i32,
            mode: mode(config),
        };
        let mut inner = self.lock();
        let (kept, closed): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut inner.open).into_iter().partition(|open| wanted.contains(&open.wanted));
        let before: Vec<Wanted> = closed.into_iter().map(|open| self.close(open)).collect();
        inner.open = kept;
        let mut opened = Vec::new();
        let missing: Vec<Wanted> =
            wanted.into_iter().filter(|one| inner.open.iter().all(|open| open.wanted != *one)).collect();
        for one in missing {
            match self.open(&mut inner, &one, &opening) {
                Ok(()) => opened.push(one),
                Err(error) => {
                    log('#', &format!("Warning: Could not create server {}: {error}", one.place));
                    if is_tolerable(&error, one.optional) {
                        continue;
                    }
                    let (new, old) = std::mem::take(&mut inner.open)
                        .into_iter()
                        .partition(|open| opened.contains(&open.wanted));
                    let _: Vec<Wanted> = Vec::into_iter(new).map(|open| self.close(open)).collect();
                    inner.open = old;
                    for one in before {
                        if let Err(error) = self.open(&mut inner, &one, &opening) {
                            log('#', &format!("Could not listen again: {}: {error}", one.place));
                        }
                    }
                    return Err(match one.place {
                        Place::Tcp(address) => Refusal::Port(address.port()),
                        Place::Tls(address) => Refusal::TlsPort(address.port()),
                        Place::Unix(_) => Refusal::Unix,
                    });
                }
            }
        }
        drop(inner);
        self.wake();
        Ok(())
    }

    fn open(&self, inner: &mut Inner, wanted: &Wanted, opening: &Opening) -> io::Result<()> {
        let mut socket = opening.open(&wanted.place)?;
        let token = inner.next_token;
        inner.next_token += 1;
        let source: &mut dyn Source = match &mut socket {
            Socket::Tcp(listener) => listener,
            Socket::Unix(listener) => listener,
        };
        self.registry.register(source, Token(token), Interest::READABLE)?;
        inner.open.push(Open { token, wanted: wanted.clone(), socket, waiting: true });
        Ok(())
    }

    /// The socket is closed when this returns.
    fn close(&self, mut open: Open) -> Wanted {
        let source: &mut dyn Source = match &mut open.socket {
            Socket::Tcp(listener) => listener,
            Socket::Unix(listener) => listener,
        };
        // Fails only if it is not registered.
        let _ = self.registry.deregister(source);
        if let Place::Unix(path) = &open.wanted.place {
            let _ = unlink(path);
        }
        open.wanted
    }

    /// Closes all.
    pub fn close_all(&self) {
        let open = std::mem::take(&mut self.lock().open);
        for one in open {
            self.close(one);
        }
    }

    /// Notes that connections wait at the socket of this token.
    pub fn note_waiting(&self, token: Token) {
        if let Some(open) = self.lock().open.iter_mut().find(|open| open.token == token.0) {
            open.waiting = true;
        }
    }

    /// Sockets at which connections may wait.
    pub fn waiting(&self, into: &mut Vec<usize>) {
        into.clear();
        into.extend(self.lock().open.iter().filter(|open| open.waiting).map(|open| open.token));
    }

    /// Takes a connection from one of them.
    pub fn accept(&self, token: usize) -> Taken {
        let mut inner = self.lock();
        let Inner { open, tls, .. } = &mut *inner;
        let Some(open) = open.iter_mut().find(|open| open.token == token) else { return Taken::None };
        let taken = match (&open.socket, &open.wanted.place) {
            (Socket::Unix(listener), Place::Unix(path)) => listener.accept().map(|(stream, _)| {
                // Clients of a unix socket have no address of their own.
                let address = format!("{path}:0");
                let (stream, local_address) = (Stream::Unix(stream), address.clone());
                Some(Arrived { stream, address, local_address, is_local: true })
            }),
            (Socket::Tcp(listener), place) => listener.accept().map(|(stream, address)| {
                let local_address = stream.local_addr().map_or_else(|_| String::new(), |own| own.to_string());
                let stream = match (place, tls) {
                    (Place::Tls(_), Some(tls)) => {
                        Stream::Tls(Box::new(TlsStream::new(stream, Arc::clone(tls)).ok()?))
                    }
                    (Place::Tls(_), None) => return None,
                    _ => Stream::Tcp(stream),
                };
                let is_local = is_loopback(address.ip());
                Some(Arrived { stream, address: address.to_string(), local_address, is_local })
            }),
            (Socket::Unix(_), _) => Ok(None),
        };
        match taken {
            Ok(Some(arrived)) => Taken::Arrived(Box::new(arrived)),
            Ok(None) => Taken::Gone,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    open.waiting = false;
                    Taken::None
                }
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => Taken::Gone,
                _ => Taken::Failed(error),
            },
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "TCP listening socket {address}: bind"),
            Place::Tls(address) => write!(f, "TLS listening socket {address}: bind"),
            Place::Unix(path) => write!(f, "unix socket {path}"),
        }
    }
}

/// Permissions of the unix socket, if they are set.
fn mode(config: &Config) -> Option<Mode> {
    u32::from_str_radix(config.text("unixsocketperm"), 8)
        .ok()
        .filter(|mode| *mode != 0)
        .map(Mode::from_raw_mode)
}

/// Addresses as `bind` holds them, each once: a `-` in front of one says "if there is such" (then true comes with it), `*` and `::*` are all.
pub fn addresses(words: &str) -> Result<Vec<(IpAddr, bool)>, Refusal> {
    let mut all = Vec::new();
    for word in words.split_ascii_whitespace() {
        let (name, optional) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
        let address = match name {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "::*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            name => name.parse().map_err(|_| Refusal::Address(name.to_string()))?,
        };
        if all.iter().all(|(known, _)| *known != address) {
            all.push((address, optional));
        }
    }
    Ok(all)
}

/// What the configuration asks for.
fn wanted(config: &Config) -> Result<Vec<Wanted>, Refusal> {
    let mut wanted = Vec::new();
    let path = config.text("unixsocket");
    let port = |name: &str| u16::try_from(config.number(name)).unwrap_or(0);
    for (address, optional) in addresses(config.text("bind"))? {
        for (port, place) in
            [(port("port"), Place::Tcp as fn(SocketAddr) -> Place), (port("tls-port"), Place::Tls)]
        {
            if port != 0 {
                wanted.push(Wanted { place: place(SocketAddr::new(address, port)), optional });
            }
        }
    }
    if !path.is_empty() {
        wanted.push(Wanted { place: Place::Unix(path.to_string()), optional: false });
    }
    Ok(wanted)
}

/// How sockets are opened.
struct Opening {
    backlog: i32,
    mode: Option<Mode>,
}

impl Opening {
    fn open(&self, place: &Place) -> io::Result<Socket> {
        match place {
            Place::Tcp(address) | Place::Tls(address) => Ok(Socket::Tcp(listen_tcp(*address, self.backlog)?)),
            Place::Unix(path) => Ok(Socket::Unix(self.open_unix(path)?)),
        }
    }

    fn open_unix(&self, path: &str) -> io::Result<UnixListener> {
        let address = SocketAddrUnix::new(path)?;
        let new_socket =
            |flags| socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None);
        if lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket) {
            // Left behind by a server that was killed, unless somebody listens. Unlike Redis we do not take it away from them.
            match connect(new_socket(SocketFlags::NONBLOCK)?, &address) {
                // With many waiting already, it says to try again.
                Ok(()) | Err(Errno::AGAIN) => return Err(Errno::ADDRINUSE.into()),
                Err(_) => unlink(path)?,
            }
        }
        let socket = new_socket(SocketFlags::empty())?;
        bind(&socket, &address)?;
        if let Some(mode) = self.mode {
            chmod(path, mode)?;
        }
        listen(&socket, self.backlog)?;
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(UnixListener::from_std(listener))
    }
}

/// A listening socket that does not wait.
pub fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

/// Whether we do without a socket: the machine knows no such kind of address, or an optional one is none of its own.
pub fn is_tolerable(error: &io::Error, optional: bool) -> bool {
    let is = |errno: &Errno| error.raw_os_error() == Some(errno.raw_os_error());
    let absent = [
        Errno::NOPROTOOPT,
        Errno::PROTONOSUPPORT,
        Errno::SOCKTNOSUPPORT,
        Errno::PFNOSUPPORT,
        Errno::AFNOSUPPORT,
    ];
    absent.iter().any(is) || optional && is(&Errno::ADDRNOTAVAIL)
}

/// Whether it is an address by which a machine reaches itself.
pub fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, Refusal> {
        let config = Config::read(text.as_bytes(), &|_| Err(String::new())).unwrap();
        Ok(wanted(&config)?
            .iter()
            .map(|one| format!("{}{}", if one.optional { "-" } else { "" }, one.place))
            .collect())
    }

    #[test]
    fn places() {
        assert_eq!(
            shown("bind 1.2.3.4 -::1 1.2.3.4\nport 7\ntls-port 8\nunixsocket /x").unwrap(),
            [
                "TCP listening socket 1.2.3.4:7: bind",
                "TLS listening socket 1.2.3.4:8: bind",
                "-TCP listening socket [::1]:7: bind",
                "-TLS listening socket [::1]:8: bind",
                "unix socket /x"
            ]
        );
        assert_eq!(shown("bind ''").unwrap().len(), 0);
        assert_eq!(shown("port 0").unwrap().len(), 0);
        assert_eq!(shown("bind * -::*\nport 1").unwrap().len(), 2);
        assert_eq!(shown("bind 999.1.1.1"), Err(Refusal::Address("999.1.1.1".into())));
    }
}
