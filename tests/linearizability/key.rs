//! One key of a server as a model: what each command answers and leaves.

use std::collections::{BTreeMap, VecDeque};

use haypile_resp::Value;

use super::checker::Model;
use super::support::client::{render, render_command};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Nothing,
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A command without its key.
#[derive(Clone, PartialEq)]
pub enum Command {
    Get,
    Set(Vec<u8>),
    Incr,
    Append(Vec<u8>),
    Del,
    LeftPush(Vec<u8>),
    RightPop,
    /// BLPOP, with a time limit.
    BlockingPop,
    Rotate,
    Range,
    FieldSet(Vec<u8>, Vec<u8>),
    FieldGet(Vec<u8>),
    FieldAdd(Vec<u8>, i64),
    FieldDelete(Vec<u8>),
}

/// What a client does at once.
#[derive(Clone, PartialEq)]
pub enum Operation {
    One(Command),
    /// MULTI, commands, EXEC.
    Transaction(Vec<Command>),
    /// The EXEC of a transaction whose key was watched, and after that read by GET.
    Watched {
        seen: Value,
        commands: Vec<Command>,
    },
    /// A look at all of it, by whatever commands, while nobody did anything.
    Found(State),
}

const WRONG_KIND: &[u8] = b"WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_NUMBER: &[u8] = b"ERR value is not an integer or out of range";

impl Command {
    /// The words to send.
    pub fn words(&self, key: &str) -> Vec<Vec<u8>> {
        let words: &[&[u8]] = match self {
            Command::Get => &[b"GET", b""],
            Command::Set(value) => &[b"SET", b"", value],
            Command::Incr => &[b"INCR", b""],
            Command::Append(value) => &[b"APPEND", b"", value],
            Command::Del => &[b"DEL", b""],
            Command::LeftPush(value) => &[b"LPUSH", b"", value],
            Command::RightPop => &[b"RPOP", b""],
            Command::BlockingPop => &[b"BLPOP", b"", b"0.03"],
            Command::Rotate => &[b"LMOVE", b"", b"", b"LEFT", b"RIGHT"],
            Command::Range => &[b"LRANGE", b"", b"0", b"-1"],
            Command::FieldSet(field, value) => &[b"HSET", b"", field, value],
            Command::FieldGet(field) => &[b"HGET", b"", field],
            Command::FieldAdd(field, by) => {
                return [&b"HINCRBY"[..], key.as_bytes(), field, by.to_string().as_bytes()]
                    .map(<[u8]>::to_vec)
                    .to_vec();
            }
            Command::FieldDelete(field) => &[b"HDEL", b"", field],
        };
        words
            .iter()
            .map(|word| if word.is_empty() { key.as_bytes().to_vec() } else { word.to_vec() })
            .collect()
    }

    /// Whether it may change anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Command::Get | Command::Range | Command::FieldGet(_))
    }

    /// Does it. BLPOP's answer is without the key's name.
    pub fn answer(&self, state: &mut State) -> Value {
        let wrong = || Value::Error(WRONG_KIND.to_vec());
        match (self, &mut *state) {
            (Command::Del, State::Nothing) => Value::Integer(0),
            (Command::Del, _) => {
                *state = State::Nothing;
                Value::Integer(1)
            }
            (Command::Set(value), _) => {
                *state = State::Text(value.clone());
                Value::Simple(b"OK".to_vec())
            }
            (Command::Get, State::Nothing) => Value::Null,
            (Command::Get, State::Text(text)) => Value::Bulk(text.clone()),
            (Command::Incr, State::Nothing) => {
                *state = State::Text(b"1".to_vec());
                Value::Integer(1)
            }
            (Command::Incr, State::Text(text)) => add(text, 1).map_or_else(error, |sum| {
                *text = sum.to_string().into_bytes();
                Value::Integer(sum)
            }),
            (Command::Append(more), State::Nothing) => {
                *state = State::Text(more.clone());
                Value::Integer(more.len() as i64)
            }
            (Command::Append(more), State::Text(text)) => {
                text.extend_from_slice(more);
                Value::Integer(text.len() as i64)
            }
            (Command::LeftPush(element), State::Nothing) => {
                *state = State::List(VecDeque::from([element.clone()]));
                Value::Integer(1)
            }
            (Command::LeftPush(element), State::List(list)) => {
                list.push_front(element.clone());
                Value::Integer(list.len() as i64)
            }
            (Command::RightPop | Command::Rotate, State::Nothing) => Value::Null,
            (Command::BlockingPop, State::Nothing) => Value::NullArray,
            (Command::RightPop, State::List(list)) => {
                let element = list.pop_back().unwrap_or_default();
                emptied(state);
                Value::Bulk(element)
            }
            (Command::BlockingPop, State::List(list)) => {
                let element = list.pop_front().unwrap_or_default();
                emptied(state);
                Value::Array(vec![Value::Bulk(element)])
            }
            (Command::Rotate, State::List(list)) => {
                list.rotate_left(1);
                Value::Bulk(list.back().cloned().unwrap_or_default())
            }
            (Command::Range, State::Nothing) => Value::Array(Vec::new()),
            (Command::Range, State::List(list)) => {
                Value::Array(list.iter().cloned().map(Value::Bulk).collect())
            }
            (Command::FieldGet(_), State::Nothing) => Value::Null,
            (Command::FieldGet(field), State::Hash(hash)) => {
                hash.get(field).map_or(Value::Null, |value| Value::Bulk(value.clone()))
            }
            (Command::FieldDelete(_), State::Nothing) => Value::Integer(0),
            (Command::FieldDelete(field), State::Hash(hash)) => {
                let there = hash.remove(field).is_some();
                emptied(state);
                Value::Integer(i64::from(there))
            }
            (Command::FieldSet(field, value), State::Nothing) => {
                *state = State::Hash(BTreeMap::from([(field.clone(), value.clone())]));
                Value::Integer(1)
            }
            (Command::FieldSet(field, value), State::Hash(hash)) => {
                let added = hash.insert(field.clone(), value.clone()).is_none();
                Value::Integer(i64::from(added))
            }
            (Command::FieldAdd(field, by), State::Nothing) => {
                *state = State::Hash(BTreeMap::from([(field.clone(), by.to_string().into_bytes())]));
                Value::Integer(*by)
            }
            (Command::FieldAdd(field, by), State::Hash(hash)) => {
                let before = hash.get(field).map_or(&b"0"[..], |value| value);
                match add(before, *by) {
                    Ok(sum) => {
                        hash.insert(field.clone(), sum.to_string().into_bytes());
                        Value::Integer(sum)
                    }
                    Err(_) => error(b"ERR hash value is not an integer"),
                }
            }
            _ => wrong(),
        }
    }
}

fn error(text: &[u8]) -> Value {
    Value::Error(text.to_vec())
}

/// The models' numbers stay far from the ends of 64 bits.
fn add(text: &[u8], by: i64) -> Result<i64, &'static [u8]> {
    let number: i64 = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NO_NUMBER)?;
    Ok(number + by)
}

/// A list or hash with nothing left is gone.
fn emptied(state: &mut State) {
    let empty = match state {
        State::List(list) => list.is_empty(),
        State::Hash(hash) => hash.is_empty(),
        _ => false,
    };
    if empty {
        *state = State::Nothing;
    }
}

impl Operation {
    pub fn writes(&self) -> bool {
        match self {
            Operation::One(command) => command.writes(),
            Operation::Transaction(commands) | Operation::Watched { commands, .. } => {
                commands.iter().any(Command::writes)
            }
            Operation::Found(_) => false,
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&render_command(&self.words("KEY")))
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operation::One(command) => write!(f, "{command:?}"),
            Operation::Transaction(commands) => write!(f, "EXEC {commands:?}"),
            Operation::Watched { seen, commands } => {
                write!(f, "EXEC after WATCH and GET {} {commands:?}", render(seen))
            }
            Operation::Found(state) => write!(f, "a look that found {state:?}"),
        }
    }
}

/// The model of one key.
#[derive(Debug)]
pub struct Key;

impl Model for Key {
    type Operation = Operation;
    type Reply = Value;
    type State = State;

    fn step(state: &State, operation: &Operation, reply: Option<&Value>) -> Option<State> {
        let mut after = state.clone();
        let answer = match operation {
            Operation::Found(found) => return (after == *found).then_some(after),
            Operation::One(command) => command.answer(&mut after),
            Operation::Transaction(commands) => {
                Value::Array(commands.iter().map(|command| command.answer(&mut after)).collect())
            }
            // Whether something had changed the key is looked at apart, see `without_reason`.
            Operation::Watched { .. } if reply == Some(&Value::NullArray) => return Some(after),
            Operation::Watched { seen, commands } => {
                if Command::Get.answer(&mut after) != *seen {
                    return None;
                }
                Value::Array(commands.iter().map(|command| command.answer(&mut after)).collect())
            }
        };
        reply.is_none_or(|reply| *reply == answer).then_some(after)
    }
}
