//! Connections to other servers that MIGRATE keeps for a while, so that moving key after key connects once.
//!
//! A connection is with one command or in here, never both. One that nobody took for ten seconds is closed by the housekeeper; of too many
//! the oldest goes first. With each goes the database that was last selected on it.

use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a connection waits for the next command.
const KEPT_MS: u64 = 10_000;
/// How many wait.
const KEPT_MAX: usize = 64;

/// A connection.
#[derive(Debug)]
pub struct Peer {
    /// The socket.
    pub stream: TcpStream,
    /// The database that was selected last; `None` if that is not known.
    pub db: Option<i64>,
}

#[derive(Debug)]
struct Kept {
    host: Vec<u8>,
    port: u16,
    since_ms: u64,
    peer: Peer,
}

/// The connections that wait, oldest first.
#[derive(Debug, Default)]
pub struct Peers(Mutex<Vec<Kept>>);

impl Peers {
    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection to this host out, if there is one.
    pub fn take(&self, host: &[u8], port: u16) -> Option<Peer> {
        let mut kept = self.lock();
        let at = kept.iter().rposition(|kept| kept.host == host && kept.port == port)?;
        Some(kept.remove(at).peer)
    }

    /// Keeps a connection that works.
    pub fn keep(&self, host: &[u8], port: u16, peer: Peer, now_ms: u64) {
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push(Kept { host: host.to_vec(), port, since_ms: now_ms, peer });
    }

    /// Closes those that waited long enough.
    pub fn close_idle(&self, now_ms: u64) {
        self.lock().retain(|kept| now_ms.saturating_sub(kept.since_ms) < KEPT_MS);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn kept_for_a_while_and_not_too_many() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |db| Peer { stream: TcpStream::connect(address).unwrap(), db };
        let peers = Peers::default();
        for number in 0..KEPT_MAX as i64 + 2 {
            peers.keep(b"host", 1, connect(Some(number)), number as u64);
        }
        peers.keep(b"other", 1, connect(None), 70);
        assert_eq!(peers.len(), KEPT_MAX);
        assert!(peers.take(b"other", 2).is_none());
        assert_eq!(peers.take(b"other", 1).map(|peer| peer.db), Some(None));
        assert_eq!(peers.take(b"host", 1).and_then(|peer| peer.db), Some(KEPT_MAX as i64 + 1));
        peers.close_idle(KEPT_MS + 63);
        assert_eq!(peers.len(), 1);
        peers.close_idle(KEPT_MS + 64);
        assert!(peers.is_empty());
    }
}
