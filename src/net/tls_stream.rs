//! TLS over a socket that does not wait.
//!
//! ```text
//! read:   socket -> records (at most one buffer of rustls) -> plain bytes -> the worker's buffer
//! write:  output behind its fences -> at most 64 KiB of records not yet taken by the system -> socket
//! ```
//!
//! The handshake is a part of reading: its answers are sent from there, and nothing of it waits. Records are read only when the
//! plain bytes of those before are handed over, and bytes are taken only while few records wait: so both buffers stay small.
//! What was taken is out of the fences' reach; so only bytes that may leave are ever taken.

use mio::net::TcpStream;
use rustls::{Error, ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// Records that may wait for the system to take them.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// Why the next read fails.
    failed: Option<io::Error>,
}

impl TlsStream {
    /// The server's side of a connection that has just been accepted.
    pub fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream, Error> {
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(TlsStream { socket, session, failed: None })
    }

    /// The socket, for the poll.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether records wait for the system to take them.
    pub fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Sends records until none waits or the system takes no more (`WouldBlock`).
    pub fn send_unsent(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will come. Best effort: the peer may be gone, or read no more.
    pub fn say_goodbye(&mut self) {
        if !self.session.is_handshaking() {
            self.session.send_close_notify();
            let _ = self.send_unsent();
        }
    }

    /// Goes on with the handshake as far as what has arrived goes: `WouldBlock` if it is not over then.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            match self.take_records() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                taken => {
                    taken?;
                }
            }
        }
        Ok(())
    }

    fn take_records(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut self.socket)?;
        let taken = self.session.process_new_packets();
        // Whoever speaks no TLS would not understand an alert.
        if self.session.is_handshaking() && matches!(taken, Err(Error::InvalidMessage(_))) {
            return Err(io::Error::new(ErrorKind::InvalidData, "it does not speak TLS"));
        }
        // Answers of the handshake, or the word why there is none.
        match self.send_unsent() {
            Err(error) if error.kind() != ErrorKind::WouldBlock && taken.is_ok() => return Err(error),
            _ => {}
        }
        taken.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(count)
    }
}

impl Read for TlsStream {
    /// As of a socket that does not wait: 0 at the end, with or without a goodbye. Fills the buffer if so much
    /// is there.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let failed = match self.session.reader().read(rest) {
                // The end says so again.
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.take_records().err(),
                Err(error) => Some(error),
            };
            match failed {
                Some(error) if filled == 0 => return Err(error),
                Some(error) => {
                    // What came before it goes first.
                    if error.kind() != ErrorKind::WouldBlock {
                        self.failed = Some(error);
                    }
                    break;
                }
                None => {}
            }
        }
        Ok(filled)
    }
}

impl Write for TlsStream {
    /// Takes bytes until the system takes no more. Less than all is taken only then.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            match self.send_unsent() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
                Err(error) => return Err(error),
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(taken);
            }
            if self.session.is_handshaking() {
                return Err(ErrorKind::WouldBlock.into());
            }
            taken += self.session.writer().write(rest)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_unsent()
    }
}

impl AsRawFd for TlsStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
