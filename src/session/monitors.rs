//! Clients that see every command (MONITOR).
//!
//! Nobody watching costs one relaxed load a command. Each command is written out once and posted once to each worker that has such
//! clients. They are held to the output limits of subscribers, whatever those of normal clients are.

use crate::session::clients::{ClientInfo, FLAG_MONITOR};
use crate::session::delivery::Subscriber;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who sees every command.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    /// With the worker of each.
    all: Mutex<Vec<(usize, Subscriber)>>,
}

impl Monitors {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Subscriber)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: who has read that it sees commands sees those sent later.
        self.count.load(Ordering::Relaxed) == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Workers that have some.
    pub fn workers(&self) -> Vec<usize> {
        let mut workers: Vec<usize> = self.lock().iter().map(|(worker, _)| *worker).collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    /// Those of a worker.
    pub fn of_worker(&self, worker: usize) -> Vec<Subscriber> {
        self.lock().iter().filter(|(of, _)| *of == worker).map(|(_, subscriber)| *subscriber).collect()
    }
}

/// That one client sees every command. Dropped, it does no more.
#[derive(Debug)]
pub struct Monitoring {
    monitors: Arc<Monitors>,
    client: Arc<ClientInfo>,
}

impl Monitoring {
    /// Begins.
    pub fn begin(monitors: &Arc<Monitors>, client: &Arc<ClientInfo>) -> Monitoring {
        let subscriber = Subscriber { client: client.id, place: client.place };
        monitors.lock().push((client.worker, subscriber));
        monitors.count.fetch_add(1, Ordering::Relaxed);
        client.set_flag(FLAG_MONITOR, true);
        Monitoring { monitors: Arc::clone(monitors), client: Arc::clone(client) }
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        self.monitors.lock().retain(|(_, subscriber)| subscriber.client != self.client.id);
        self.monitors.count.fetch_sub(1, Ordering::Relaxed);
        self.client.set_flag(FLAG_MONITOR, false);
    }
}

/// A command as those who watch see it, but for the end of the line.
pub fn line<'a>(unix_us: u64, db: usize, from: &str, words: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (seconds, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let mut line = format!("+{seconds}.{us:06} [{db} {from}]").into_bytes();
    for word in words {
        line.extend_from_slice(b" \"");
        for byte in word {
            match byte {
                b'\\' | b'"' => line.extend_from_slice(&[b'\\', *byte]),
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                b'\t' => line.extend_from_slice(b"\\t"),
                7 => line.extend_from_slice(b"\\a"),
                8 => line.extend_from_slice(b"\\b"),
                b' '..=b'~' => line.push(*byte),
                _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        line.push(b'"');
    }
    line.extend_from_slice(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let words: [&[u8]; 3] = [b"set", b"a \"b\"\\", b"\x00\xff\x07\x08\r\n\t'"];
        let line = line(1_339_518_083_000_412, 3, "127.0.0.1:60866", words.into_iter());
        assert_eq!(
            line,
            b"+1339518083.000412 [3 127.0.0.1:60866] \"set\" \"a \\\"b\\\"\\\\\" \"\\x00\\xff\\a\\b\\r\\n\\t'\"\r\n"
        );
    }
}
