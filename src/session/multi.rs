//! Commands that a client has queued between MULTI and EXEC.
//!
//! What EXEC will need is summed up as they are queued: whether it writes, and where it may run. Their memory counts against
//! `client-query-buffer-limit`, as in Redis, and, where it is much, against the allowance for large requests, which bounds the queues of
//! all clients together.

use crate::base::args::OwnedArgs;
use crate::base::number::parse_i64;
use crate::session::allowance::{Allowance, Charge, LARGE_REQUEST_BYTES};
use std::sync::Arc;

/// One command that waits for EXEC.
#[derive(Debug)]
pub struct Queued {
    /// Its number in the table.
    pub command: usize,
    /// Its words.
    pub args: OwnedArgs,
}

/// What a command, or all of an EXEC together, needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// It reads data.
    pub reads: bool,
    /// It changes data.
    pub writes: bool,
    /// It may take memory and room in the log.
    pub grows: bool,
    /// A pause of writes holds it up.
    pub replicates: bool,
    /// It belongs on the slow pool.
    pub slow: bool,
    /// Nothing else may run meanwhile.
    pub exclusive: bool,
}

impl Needs {
    fn add(&mut self, other: Needs) {
        self.reads |= other.reads;
        self.writes |= other.writes;
        self.grows |= other.grows;
        self.replicates |= other.replicates;
        self.slow |= other.slow;
        self.exclusive |= other.exclusive;
    }
}

/// What a queued command takes beside its words.
const OVERHEAD_BYTES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Multi {
    commands: Vec<Queued>,
    /// How many databases there are: a SELECT of another one changes nothing.
    databases: usize,
    bytes: usize,
    needs: Needs,
    aborted: bool,
    charge: Option<Charge>,
    /// How often the next command was told to come again because there was no memory for it.
    waits: u32,
}

/// How often a command may be told so.
const WAITS_MAX: u32 = 50;

/// Whether there is memory for one more command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    There,
    /// Not yet: ask again in a moment.
    Later,
    /// No, and it has asked for long.
    None,
}

impl Multi {
    /// Nothing queued yet, on a server with so many databases.
    pub fn new(databases: usize) -> Multi {
        Multi { databases, ..Multi::default() }
    }

    /// The database that a SELECT of this word leads to, if there is one.
    pub fn selected(&self, word: &[u8]) -> Option<usize> {
        parse_i64(word).and_then(|db| usize::try_from(db).ok()).filter(|db| *db < self.databases)
    }

    /// The commands, in order.
    pub fn commands(&self) -> &[Queued] {
        &self.commands
    }

    /// Bytes of all their words, and what they take besides.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they need together. An aborted EXEC runs nothing and needs nothing.
    pub fn needs(&self) -> Needs {
        if self.aborted { Needs::default() } else { self.needs }
    }

    /// Whether a command was refused, so that EXEC will run none.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// A command was refused. What was queued will not run, and goes.
    pub fn abort(&mut self) {
        self.aborted = true;
        self.commands.clear();
        self.charge = None;
    }

    /// Asks for memory for a command with so many bytes of words.
    pub fn room_for(&mut self, bytes: usize, allowance: &Arc<Allowance>) -> Room {
        let wanted = self.bytes.saturating_add(bytes);
        if wanted <= LARGE_REQUEST_BYTES || self.aborted {
            return Room::There;
        }
        let charge = self.charge.get_or_insert_with(|| Charge::new(allowance));
        if charge.ask_again() && charge.grow(wanted) {
            self.waits = 0;
            return Room::There;
        }
        self.waits += 1;
        if self.waits > WAITS_MAX {
            // Whoever waits holds others up.
            self.charge = None;
            return Room::None;
        }
        Room::Later
    }

    /// Queues a command. Once one was refused the rest is counted only.
    pub fn push(&mut self, command: usize, args: OwnedArgs, needs: Needs) {
        self.needs.add(needs);
        if !self.aborted {
            self.bytes += args.buffer.len() + OVERHEAD_BYTES;
            self.commands.push(Queued { command, args });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_select_that_will_succeed_leads_elsewhere() {
        let multi = Multi::new(16);
        assert_eq!(multi.selected(b"15"), Some(15));
        for word in ["16", "-1", "+1", " 1", "01", "", "x", "99999999999999999999"] {
            assert_eq!(multi.selected(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn needs_add_up_until_it_is_aborted() {
        let mut multi = Multi::default();
        let words = || OwnedArgs::from_words(&[b"set", b"a", b"1"]);
        multi.push(1, words(), Needs { writes: true, ..Needs::default() });
        multi.push(2, words(), Needs { slow: true, ..Needs::default() });
        assert!(multi.needs().writes && multi.needs().slow && !multi.needs().exclusive);
        assert_eq!(multi.commands().len(), 2);
        multi.abort();
        assert!(multi.is_aborted() && multi.commands().is_empty() && multi.needs() == Needs::default());
    }

    #[test]
    fn a_large_queue_is_charged_and_gives_it_back() {
        let allowance = Arc::new(Allowance::new(64 << 20));
        let mut multi = Multi::default();
        assert_eq!(multi.room_for(LARGE_REQUEST_BYTES, &allowance), Room::There);
        assert_eq!(allowance.usage().charged_bytes, 0);
        assert_eq!(multi.room_for(LARGE_REQUEST_BYTES + 1, &allowance), Room::There);
        assert_eq!(allowance.usage().charged_bytes, 2 * LARGE_REQUEST_BYTES);
        // More than is lent just now: it waits, then is refused.
        let answers = (0..=WAITS_MAX).map(|_| multi.room_for(30 << 20, &allowance)).collect::<Vec<_>>();
        assert!(answers[..WAITS_MAX as usize].iter().all(|answer| *answer == Room::Later));
        assert_eq!(answers[WAITS_MAX as usize], Room::None);
        assert_eq!(allowance.usage().charged_bytes + allowance.usage().waiting_bytes, 0);
    }
}
