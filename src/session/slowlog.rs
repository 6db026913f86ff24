//! SLOWLOG: the last commands that took long. Bounded in entries and in bytes of each.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Arguments kept of one command; of more, the last says how many were left out.
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of one argument.
const ARGUMENT_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// Grows from 0.
    pub id: u64,
    /// Seconds since 1970.
    pub unix_s: u64,
    /// How long it ran, in microseconds.
    pub duration_us: u64,
    /// Its arguments, cut.
    pub arguments: Vec<Vec<u8>>,
    /// Address of the client.
    pub address: String,
    /// Name of the client.
    pub name: String,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    entries: VecDeque<SlowEntry>,
}

/// The log. Its lock is taken for slow commands and by SLOWLOG only.
#[derive(Debug, Default)]
pub struct SlowLog {
    inner: Mutex<Inner>,
}

impl SlowLog {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry (its id is chosen here) and cuts the log to `length_max`.
    pub fn add<'a>(
        &self,
        entry: SlowEntry,
        arguments: impl ExactSizeIterator<Item = &'a [u8]>,
        length_max: usize,
    ) {
        let mut entry = entry;
        entry.arguments = cut(arguments);
        let mut inner = self.lock();
        entry.id = inner.next_id;
        inner.next_id += 1;
        inner.entries.push_front(entry);
        inner.entries.truncate(length_max);
    }

    /// The newest `count` entries, newest first.
    pub fn latest(&self, count: usize) -> Vec<SlowEntry> {
        self.lock().entries.iter().take(count).cloned().collect()
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.lock().entries.clear();
    }
}

fn cut<'a>(arguments: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let count = arguments.len();
    let kept = if count > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { count };
    let mut all: Vec<Vec<u8>> = arguments
        .take(kept)
        .map(|argument| {
            if argument.len() <= ARGUMENT_BYTES_MAX {
                return argument.to_vec();
            }
            let mut cut = argument[..ARGUMENT_BYTES_MAX].to_vec();
            let left_out = argument.len() - ARGUMENT_BYTES_MAX;
            cut.extend_from_slice(format!("... ({left_out} more bytes)").as_bytes());
            cut
        })
        .collect();
    if count > kept {
        all.push(format!("... ({} more arguments)", count - kept).into_bytes());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> SlowEntry {
        SlowEntry {
            id: 0,
            unix_s: 1,
            duration_us: 2,
            arguments: Vec::new(),
            address: String::new(),
            name: String::new(),
        }
    }

    #[test]
    fn cuts_arguments_and_keeps_the_newest() {
        let log = SlowLog::default();
        let long = [b'x'; 200];
        let many = vec![&long[..]; 40];
        for _ in 0..5 {
            log.add(entry(), many.iter().copied(), 3);
        }
        assert_eq!(log.len(), 3);
        let latest = log.latest(2);
        assert_eq!(latest.iter().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(latest[0].arguments.len(), 32);
        assert_eq!(latest[0].arguments[31], b"... (9 more arguments)");
        assert!(latest[0].arguments[0].ends_with(b"... (72 more bytes)"));
        log.reset();
        assert!(log.is_empty());
        log.add(entry(), many.iter().copied(), 3);
        assert_eq!(log.latest(9)[0].id, 5, "ids go on");
    }
}
