//! What a command has to tell the world once it is committed: keyspace events, and messages published within a transaction.
//!
//! Handlers note events as they stage what causes them; they lie beside the batch and share its fate. The commit hands them, with the
//! keys that changed, to the store's [`CommitListener`], on the committing thread and with the keys still locked: so the events of one
//! key come in the order of its commits. Off, an event costs one look at a number that the transaction drew when it began.

use crate::encoding::meta::{Kind, Space};
use haypile_lsm::Lsn;
use std::ops::Range;
use std::sync::Arc;

/// Classes of keyspace events, one bit each, and the two channels that they may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClass(pub u32);

impl EventClass {
    /// `K`: to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: EventClass = EventClass(1);
    /// `E`: to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: EventClass = EventClass(1 << 1);
    /// `g`: commands on keys of any type.
    pub const GENERIC: EventClass = EventClass(1 << 2);
    /// `$`
    pub const STRING: EventClass = EventClass(1 << 3);
    /// `l`
    pub const LIST: EventClass = EventClass(1 << 4);
    /// `s`
    pub const SET: EventClass = EventClass(1 << 5);
    /// `h`
    pub const HASH: EventClass = EventClass(1 << 6);
    /// `z`
    pub const SORTED_SET: EventClass = EventClass(1 << 7);
    /// `x`: a key expired.
    pub const EXPIRED: EventClass = EventClass(1 << 8);
    /// `e`: a key was evicted; never here.
    pub const EVICTED: EventClass = EventClass(1 << 9);
    /// `t`
    pub const STREAM: EventClass = EventClass(1 << 10);
    /// `m`: a key was read that is not there.
    pub const KEY_MISS: EventClass = EventClass(1 << 11);
    /// `d`: events of modules; there are none.
    pub const MODULE: EventClass = EventClass(1 << 12);
    /// `n`: a key came to be.
    pub const NEW: EventClass = EventClass(1 << 13);

    /// Classes by the letters of `notify-keyspace-events`; nothing without a channel to go to.
    pub fn from_letters(letters: &str) -> EventClass {
        let mut classes = 0;
        for letter in letters.chars() {
            classes |= match letter {
                'K' => EventClass::KEYSPACE.0,
                'E' => EventClass::KEYEVENT.0,
                'g' => EventClass::GENERIC.0,
                '$' => EventClass::STRING.0,
                'l' => EventClass::LIST.0,
                's' => EventClass::SET.0,
                'h' => EventClass::HASH.0,
                'z' => EventClass::SORTED_SET.0,
                'x' => EventClass::EXPIRED.0,
                'e' => EventClass::EVICTED.0,
                't' => EventClass::STREAM.0,
                'm' => EventClass::KEY_MISS.0,
                'd' => EventClass::MODULE.0,
                'n' => EventClass::NEW.0,
                // All but key misses and new keys.
                'A' => (EventClass::KEY_MISS.0 - EventClass::GENERIC.0) | EventClass::MODULE.0,
                _ => 0,
            };
        }
        let has_channel = classes & (EventClass::KEYSPACE.0 | EventClass::KEYEVENT.0) != 0;
        EventClass(if has_channel { classes } else { 0 })
    }

    /// Whether any of these is among them.
    #[inline]
    pub fn has(self, any: EventClass) -> bool {
        self.0 & any.0 != 0
    }
}

/// What of a message comes back to the client that publishes it in a transaction. Settled when it publishes: what it subscribes to, or
/// leaves, behind that in the same transaction is about later messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnShare {
    /// It is subscribed to the channel.
    pub channel: bool,
    /// Its patterns that match.
    pub patterns: Vec<Arc<[u8]>>,
}

impl OwnShare {
    /// Whether it gets nothing.
    pub fn is_empty(&self) -> bool {
        !self.channel && self.patterns.is_empty()
    }
}

/// One event, or message, noted.
#[derive(Clone, Debug)]
enum Entry {
    Key { name: &'static str, db: usize, key: Range<usize> },
    Message { shard: bool, channel: Range<usize>, payload: Range<usize>, need: Lsn, own: OwnShare },
}

/// What was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Something happened to a key.
    Key {
        /// What.
        name: &'static str,
        /// Number of its database.
        db: usize,
        /// The key.
        key: &'a [u8],
    },
    /// A message was published.
    Message {
        /// By SPUBLISH.
        shard: bool,
        /// Its channel.
        channel: &'a [u8],
        /// What it says.
        payload: &'a [u8],
        /// What has to be safe before it leaves.
        need: Lsn,
        /// What its publisher gets of it.
        own: &'a OwnShare,
    },
}

/// Events in the order they were noted.
#[derive(Debug, Default)]
pub struct Events {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Events {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Notes that something happened to a key.
    pub fn push_key(&mut self, name: &'static str, db: usize, key: &[u8]) {
        let key = self.keep(key);
        self.entries.push(Entry::Key { name, db, key });
    }

    /// Notes a message to be published.
    pub fn push_message(&mut self, shard: bool, channel: &[u8], payload: &[u8], need: Lsn, own: OwnShare) {
        let (channel, payload) = (self.keep(channel), self.keep(payload));
        self.entries.push(Entry::Message { shard, channel, payload, need, own });
    }

    /// Forgets all but that keys were missed: of a command that failed, that much has happened.
    pub fn retain_misses(&mut self) {
        self.entries.retain(|entry| matches!(entry, Entry::Key { name: "keymiss", .. }));
    }

    /// Adds what was noted later.
    pub fn append(&mut self, later: &mut Events) {
        let by = self.bytes.len();
        let moved = |range: Range<usize>| range.start + by..range.end + by;
        self.bytes.append(&mut later.bytes);
        self.entries.extend(later.entries.drain(..).map(|entry| match entry {
            Entry::Key { name, db, key } => Entry::Key { name, db, key: moved(key) },
            Entry::Message { shard, channel, payload, need, own } => {
                Entry::Message { shard, channel: moved(channel), payload: moved(payload), need, own }
            }
        }));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        let slice = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.entries.iter().map(move |entry| match entry {
            Entry::Key { name, db, key } => Event::Key { name, db: *db, key: slice(key) },
            Entry::Message { shard, channel, payload, need, own } => Event::Message {
                shard: *shard,
                channel: slice(channel),
                payload: slice(payload),
                need: *need,
                own,
            },
        })
    }
}

/// What becomes of whole databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It stands for a fresh space.
    Flush {
        /// Its number.
        db: usize,
        /// The space.
        space: Space,
    },
    /// Two change places.
    Swap(usize, usize),
}

/// A key that a command changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// Number of the database.
    pub db: usize,
    /// The key.
    pub key: Box<[u8]>,
}

/// A key that was given a value, or lost it: whoever waits for that may go on.
#[derive(Clone, Debug)]
pub struct Readied {
    /// Number of the database.
    pub db: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// Of which type the value is; `None` if there is none, or if what is read in it (a group of a stream) is no more.
    pub kind: Option<Kind>,
}

/// A commit, as whoever tells the world of it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// What was noted.
    pub events: &'a Events,
    /// Keys that changed, if that was recorded.
    pub keys: &'a [ChangedKey],
    /// Keys that had expired and were removed or replaced, if that was recorded.
    pub expired_keys: &'a [ChangedKey],
    /// Whether somebody wanted to know which keys change.
    pub tells_keys: bool,
    /// Whether they were recorded: not if that was asked for while the command ran.
    pub keys_known: bool,
    /// Whether a database was flushed, be it an empty one.
    pub flushes: bool,
    /// The client whose command it was; 0 for none.
    pub origin: u64,
    /// The commit; 0 if nothing was written.
    pub lsn: Lsn,
}

/// Who tells the world of commits.
pub trait CommitListener: Send + Sync {
    /// Called right after a commit, with its keys locked. Must not wait, and must not come back to the store.
    fn committed(&self, commit: &Committed<'_>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters() {
        let all = EventClass::from_letters("AKE");
        for letter in "g$lszhxetd".chars() {
            let one = EventClass::from_letters(&format!("K{letter}"));
            assert!(all.0 & one.0 == one.0 && one.0 & !1 != 0, "{letter}");
        }
        assert!(!all.has(EventClass::KEY_MISS) && !all.has(EventClass::NEW));
        assert!(EventClass::from_letters("Kmn").has(EventClass::KEY_MISS));
        assert_eq!(EventClass::from_letters("Amn"), EventClass(0), "no channel");
        assert_eq!(EventClass::from_letters(""), EventClass(0));
    }

    #[test]
    fn events_keep_their_order_when_they_join() {
        let (mut first, mut second) = (Events::default(), Events::default());
        first.push_key("set", 0, b"a");
        second.push_message(true, b"c", b"text", 7, OwnShare::default());
        second.push_key("del", 3, b"bb");
        first.append(&mut second);
        assert!(second.is_empty());
        let all: Vec<Event<'_>> = first.iter().collect();
        let own = OwnShare::default();
        let message = Event::Message { shard: true, channel: b"c", payload: b"text", need: 7, own: &own };
        assert_eq!(
            all,
            [
                Event::Key { name: "set", db: 0, key: b"a" },
                message,
                Event::Key { name: "del", db: 3, key: b"bb" }
            ]
        );
        first.clear();
        assert_eq!((first.len(), first.iter().count()), (0, 0));
    }
}
