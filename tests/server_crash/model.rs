//! What one connection has asked for, and what may be found of it after a crash.
//!
//! A connection owns its database, so its commands have one order. What a restart finds must be the state after some
//! prefix of them: not shorter than what was acknowledged (or seen by anybody), not longer than what was sent. The model
//! keeps the state after the acknowledged prefix and the commands behind it, and tries each cut.

use std::collections::BTreeMap;

use crate::support::random::Random;

/// A key's value and its moment of expiry in milliseconds, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub expires_ms: Option<u64>,
}

pub type State = BTreeMap<Vec<u8>, Entry>;

/// One command that changes the state.
#[derive(Clone, Debug)]
pub enum Change {
    Set {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    SetUntil {
        key: Vec<u8>,
        value: Vec<u8>,
        expires_ms: u64,
    },
    Append {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    SetRange {
        key: Vec<u8>,
        offset: usize,
        value: Vec<u8>,
    },
    Increment {
        key: Vec<u8>,
    },
    Delete {
        keys: Vec<Vec<u8>>,
    },
    MultiSet {
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
    },
    ExpireAt {
        key: Vec<u8>,
        expires_ms: u64,
    },
    Persist {
        key: Vec<u8>,
    },
    Rename {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Copy {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    FlushDatabase,
    /// All of it or nothing.
    Transaction {
        changes: Vec<Change>,
    },
}

impl Change {
    /// The commands that make it, in order; its answer is the last one's.
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        let Change::Transaction { changes } = self else { return vec![self.command()] };
        let word = |name: &str| vec![name.as_bytes().to_vec()];
        let mut commands = vec![word("MULTI")];
        commands.extend(changes.iter().map(Change::command));
        commands.push(word("EXEC"));
        commands
    }

    fn command(&self) -> Vec<Vec<u8>> {
        let words = |name: &str| vec![name.as_bytes().to_vec()];
        let number = |number: u64| number.to_string().into_bytes();
        let mut command;
        match self {
            Change::Set { key, value } => {
                command = words("SET");
                command.extend([key.clone(), value.clone()]);
            }
            Change::SetUntil { key, value, expires_ms } => {
                command = words("SET");
                command.extend([key.clone(), value.clone(), b"PXAT".to_vec(), number(*expires_ms)]);
            }
            Change::Append { key, value } => {
                command = words("APPEND");
                command.extend([key.clone(), value.clone()]);
            }
            Change::SetRange { key, offset, value } => {
                command = words("SETRANGE");
                command.extend([key.clone(), number(*offset as u64), value.clone()]);
            }
            Change::Increment { key } => {
                command = words("INCR");
                command.push(key.clone());
            }
            Change::Delete { keys } => {
                command = words("DEL");
                command.extend_from_slice(keys);
            }
            Change::MultiSet { pairs } => {
                command = words("MSET");
                for (key, value) in pairs {
                    command.extend([key.clone(), value.clone()]);
                }
            }
            Change::ExpireAt { key, expires_ms } => {
                command = words("PEXPIREAT");
                command.extend([key.clone(), number(*expires_ms)]);
            }
            Change::Persist { key } => {
                command = words("PERSIST");
                command.push(key.clone());
            }
            Change::Rename { from, to } => {
                command = words("RENAME");
                command.extend([from.clone(), to.clone()]);
            }
            Change::Copy { from, to } => {
                command = words("COPY");
                command.extend([from.clone(), to.clone(), b"REPLACE".to_vec()]);
            }
            Change::FlushDatabase => command = words("FLUSHDB"),
            Change::Transaction { .. } => unreachable!("transactions do not nest"),
        }
        command
    }

    pub fn apply(&self, state: &mut State) {
        match self {
            Change::Set { key, value } => {
                state.insert(key.clone(), Entry { value: value.clone(), expires_ms: None });
            }
            Change::SetUntil { key, value, expires_ms } => {
                state.insert(key.clone(), Entry { value: value.clone(), expires_ms: Some(*expires_ms) });
            }
            Change::Append { key, value } => value_of(state, key).extend_from_slice(value),
            Change::SetRange { key, offset, value } => {
                let held = value_of(state, key);
                let end = offset + value.len();
                if held.len() < end {
                    held.resize(end, 0);
                }
                held[*offset..end].copy_from_slice(value);
            }
            Change::Increment { key } => {
                let held = value_of(state, key);
                let number: u64 = String::from_utf8_lossy(held).parse().unwrap_or(0);
                *held = (number + 1).to_string().into_bytes();
            }
            Change::Delete { keys } => {
                for key in keys {
                    state.remove(key);
                }
            }
            Change::MultiSet { pairs } => {
                for (key, value) in pairs {
                    state.insert(key.clone(), Entry { value: value.clone(), expires_ms: None });
                }
            }
            Change::ExpireAt { key, expires_ms } => {
                if let Some(entry) = state.get_mut(key) {
                    entry.expires_ms = Some(*expires_ms);
                }
            }
            Change::Persist { key } => {
                if let Some(entry) = state.get_mut(key) {
                    entry.expires_ms = None;
                }
            }
            Change::Rename { from, to } => {
                if let Some(entry) = state.remove(from) {
                    state.insert(to.clone(), entry);
                }
            }
            Change::Copy { from, to } => {
                if from != to
                    && let Some(entry) = state.get(from).cloned()
                {
                    state.insert(to.clone(), entry);
                }
            }
            Change::FlushDatabase => state.clear(),
            Change::Transaction { changes } => changes.iter().for_each(|change| change.apply(state)),
        }
    }
}

fn value_of<'a>(state: &'a mut State, key: &[u8]) -> &'a mut Vec<u8> {
    let empty = Entry { value: Vec::new(), expires_ms: None };
    &mut state.entry(key.to_vec()).or_insert(empty).value
}

/// A moment of expiry is either over before anybody looks, or far away: the model does not race the clock.
const FAR_MS: u64 = 4_000_000_000_000;

/// One connection's commands and what they may have come to.
#[derive(Debug)]
pub struct Model {
    random: Random,
    next: u64,
    /// After every acknowledged command.
    acknowledged: State,
    /// Sent and not acknowledged, oldest first.
    pending: Vec<Change>,
}

impl Model {
    pub fn new(seed: u64) -> Model {
        Model { random: Random::new(seed), next: 0, acknowledged: State::new(), pending: Vec::new() }
    }

    /// How many commands the next pipeline has.
    pub fn pipeline(&mut self) -> usize {
        1 + self.random.below(32) as usize
    }

    /// Draws a change and takes its commands as sent.
    pub fn send(&mut self) -> Vec<Vec<Vec<u8>>> {
        self.next += 1;
        let change = if self.random.chance(150) {
            let count = 1 + self.random.below(12);
            Change::Transaction { changes: (0..count).map(|_| self.draw()).collect() }
        } else {
            self.draw()
        };
        let commands = change.commands();
        self.pending.push(change);
        commands
    }

    /// The oldest `count` pending commands were acknowledged.
    pub fn acknowledge(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            change.apply(&mut self.acknowledged);
        }
    }

    /// Finds the cut that explains what was found, and goes on from there. Otherwise says what is wrong.
    pub fn recover(&mut self, found: &State) -> Result<(), String> {
        let mut state = self.acknowledged.clone();
        let mut nearest = (usize::MAX, String::new());
        let pending = std::mem::take(&mut self.pending);
        for cut in 0..=pending.len() {
            let wrong = differences(&state, found);
            if wrong.is_empty() {
                self.acknowledged = state;
                return Ok(());
            }
            if wrong.len() < nearest.0 {
                let commands: Vec<String> = pending
                    .iter()
                    .flat_map(Change::commands)
                    .map(|command| crate::support::client::render_command(&command))
                    .collect();
                let text = format!(
                    "after {cut} of {} unacknowledged commands, the nearest cut, {} keys are wrong:\n{}\nunacknowledged:\n{}",
                    pending.len(),
                    wrong.len(),
                    wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n"),
                    commands.join("\n")
                );
                nearest = (wrong.len(), text);
            }
            if let Some(change) = pending.get(cut) {
                change.apply(&mut state);
            }
        }
        Err(nearest.1)
    }

    fn draw(&mut self) -> Change {
        let key = self.key();
        match self.random.below(1000) {
            0..420 => Change::Set { key, value: self.value() },
            420..500 => {
                let expires_ms = FAR_MS + self.random.below(1_000_000);
                Change::SetUntil { key, value: self.value(), expires_ms }
            }
            500..600 => Change::Append { key, value: format!("+{}", self.next).into_bytes() },
            600..640 => {
                let offset = self.random.below(100) as usize;
                Change::SetRange { key, offset, value: format!("<{}>", self.next).into_bytes() }
            }
            640..720 => Change::Increment { key: format!("counter:{}", self.random.below(5)).into_bytes() },
            720..800 => Change::Delete { keys: (0..=self.random.below(3)).map(|_| self.key()).collect() },
            800..870 => {
                let group = self.random.below(10);
                let version = format!("version {}", self.next).into_bytes();
                let member = |number: u64| format!("group:{group}:{number}").into_bytes();
                Change::MultiSet { pairs: (0..6).map(|number| (member(number), version.clone())).collect() }
            }
            870..910 => {
                // Sometimes long past: that deletes.
                let past = self.random.chance(200);
                let expires_ms = if past { 1_000_000 } else { FAR_MS + self.random.below(1_000_000) };
                if past { Change::Delete { keys: vec![key] } } else { Change::ExpireAt { key, expires_ms } }
            }
            910..940 => Change::Persist { key },
            940..965 => Change::Rename { from: key, to: self.key() },
            965..985 => Change::Copy { from: key, to: self.key() },
            985..998 => Change::Set { key, value: self.long_value() },
            _ => Change::FlushDatabase,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key:{}", self.random.below(200)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = format!("{}:", self.next).into_bytes();
        let length = if self.random.chance(50) { 4000 } else { 120 };
        let length = self.random.below(length) as usize;
        value.extend(self.random.bytes(length));
        value
    }

    /// Long enough to be kept in pieces.
    fn long_value(&mut self) -> Vec<u8> {
        let length = 60_000 + self.random.below(200_000) as usize;
        self.random.bytes(length)
    }
}

fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, entry) in expected {
        match found.get(key) {
            Some(other) if other == entry => {}
            Some(other) => {
                wrong.push(format!("{}: {} instead of {}", key.escape_ascii(), shown(other), shown(entry)))
            }
            None => wrong.push(format!("{}: lost, was {}", key.escape_ascii(), shown(entry))),
        }
    }
    for (key, entry) in found {
        if !expected.contains_key(key) {
            wrong.push(format!("{}: invented or risen, {}", key.escape_ascii(), shown(entry)));
        }
    }
    wrong
}

fn shown(entry: &Entry) -> String {
    let head = &entry.value[..entry.value.len().min(24)];
    format!("\"{}\" ({} bytes, expires {:?})", head.escape_ascii(), entry.value.len(), entry.expires_ms)
}
