//! A connection's socket: TCP, a unix socket, or TCP with TLS over it. To its worker they are one thing that is read and written.
//!
//! A short read or write of a plain socket says that the system has no more. With TLS only `WouldBlock` says so, since what is read and what
//! arrives are cut differently: [`Stream::is_drained`] tells the two apart.

use crate::net::tls_stream::TlsStream;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

/// See the module.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Whether a read of `count` bytes into a buffer of `room` says that no more is there.
    pub fn is_drained(&self, count: usize, room: usize) -> bool {
        !matches!(self, Stream::Tls(_)) && count < room
    }

    /// Whether it is still finding out who the peer is: nothing can be read or written yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.is_handshaking())
    }

    /// Goes on finding out: `WouldBlock` until it is over.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.shake_hands(),
            _ => Ok(()),
        }
    }

    /// Whether it has taken bytes that the system has not.
    pub fn has_unsent(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.has_unsent())
    }

    /// Sends what it has taken, as far as the system takes it.
    pub fn send_unsent(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.send_unsent(),
            _ => Ok(()),
        }
    }

    /// Says that nothing more will come, where there are words for it.
    pub fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_unsent()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
            Stream::Tls(stream) => stream.as_raw_fd(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Unix(stream) => stream.register(registry, token, interests),
            Stream::Tls(stream) => stream.socket().register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.reregister(registry, token, interests),
            Stream::Unix(stream) => stream.reregister(registry, token, interests),
            Stream::Tls(stream) => stream.socket().reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
            Stream::Tls(stream) => stream.socket().deregister(registry),
        }
    }
}
