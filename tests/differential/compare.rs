//! Whether two replies to one command say the same, and the list of differences that are meant.

use haypile_resp::Value;

use super::generator::Check;
use crate::support::client::render;

/// Whether a reply of the control and one of ours agree.
pub fn agree(control: &Value, ours: &Value, check: Check) -> bool {
    if is_error(control) || is_error(ours) {
        return control == ours;
    }
    match check {
        Check::Exact => control == ours,
        Check::Unordered => sorted(control) == sorted(ours),
        Check::Pairs => sorted(&paired(control)) == sorted(&paired(ours)),
        Check::Size => size(control) == size(ours),
        Check::Near(most) => near(control, ours, most),
        Check::Shape => std::mem::discriminant(control) == std::mem::discriminant(ours),
        Check::Hello => hello(control) == hello(ours),
        Check::Numbers => numbers(control) == numbers(ours),
        Check::ScannedPairs => scanned_pairs(control) == scanned_pairs(ours),
        Check::Pending => without_times(control) == without_times(ours),
        Check::StreamInfo => stream_info(control) == stream_info(ours),
        Check::Fields => field_names(control) == field_names(ours),
    }
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::Error(_) | Value::BulkError(_))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(elements) => {
            let mut elements = elements.clone();
            elements.sort_by_key(render);
            Value::Array(elements)
        }
        Value::Set(elements) => {
            let mut elements = elements.clone();
            elements.sort_by_key(render);
            Value::Set(elements)
        }
        other => other.clone(),
    }
}

/// Elements two by two.
fn paired(value: &Value) -> Value {
    match value {
        Value::Array(elements) => {
            Value::Array(elements.chunks(2).map(|pair| Value::Array(pair.to_vec())).collect())
        }
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| Value::Array(vec![name.clone(), value.clone()]));
            Value::Set(pairs.collect())
        }
        other => other.clone(),
    }
}

/// The kind of a reply and how many elements it has; those of nested ones as well.
fn size(value: &Value) -> (std::mem::Discriminant<Value>, Vec<usize>) {
    let sizes = match value {
        Value::Array(elements) | Value::Set(elements) => {
            let inner = elements.iter().map(|element| match element {
                Value::Array(inner) => inner.len(),
                _ => 0,
            });
            std::iter::once(elements.len()).chain(inner).collect()
        }
        _ => Vec::new(),
    };
    (std::mem::discriminant(value), sizes)
}

fn near(control: &Value, ours: &Value, most: i64) -> bool {
    match (control, ours) {
        (Value::Integer(one), Value::Integer(other)) if *one >= 0 && *other >= 0 => {
            (one - other).abs() <= most
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).all(|(one, other)| near(one, other, most))
        }
        _ => control == ours,
    }
}

/// The same with every text that is a fraction or a large number spelled one way, and -0 as 0: Redis forgets its sign in small
/// sets and keeps it in large ones.
pub fn numbers(value: &Value) -> Value {
    match value {
        Value::Bulk(text) if text == b"-0" => Value::Bulk(b"0".to_vec()),
        Value::Bulk(text) if text.len() > 15 || text.iter().any(|byte| b".e".contains(byte)) => {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
            number.map_or(value.clone(), |number| Value::Bulk(number.to_string().into_bytes()))
        }
        Value::Array(elements) => Value::Array(elements.iter().map(numbers).collect()),
        other => other.clone(),
    }
}

fn scanned_pairs(value: &Value) -> Value {
    let Value::Array(parts) = numbers(value) else { return value.clone() };
    let [cursor, Value::Array(flat)] = parts.as_slice() else { return value.clone() };
    let mut pairs: Vec<Value> = flat.chunks(2).map(|pair| Value::Array(pair.to_vec())).collect();
    pairs.sort_by_key(render);
    Value::Array(vec![cursor.clone(), Value::Array(pairs)])
}

/// HELLO's fields but those that are each server's own.
fn hello(value: &Value) -> Value {
    let own = |name: &Value| matches!(name, Value::Bulk(name) if name == b"version" || name == b"id" || name == b"modules");
    match value {
        Value::Map(pairs) => Value::Map(pairs.iter().filter(|(name, _)| !own(name)).cloned().collect()),
        Value::Array(flat) => Value::Array(
            flat.chunks(2).filter(|pair| !pair.first().is_some_and(own)).flatten().cloned().collect(),
        ),
        other => other.clone(),
    }
}

/// What XPENDING and XINFO say of pending entries, without the time: `id, consumer, time, count` or `id, time, count`.
fn without_times(value: &Value) -> Value {
    let Value::Array(elements) = value else { return value.clone() };
    match elements.as_slice() {
        [Value::Bulk(_), Value::Bulk(_), Value::Integer(_), Value::Integer(_)]
        | [Value::Bulk(_), Value::Integer(_), Value::Integer(_)] => {
            let mut kept = elements.clone();
            kept.remove(elements.len() - 2);
            Value::Array(kept)
        }
        _ => Value::Array(elements.iter().map(without_times).collect()),
    }
}

const OWN_STREAM_INFO: &[&str] = &[
    "idle",
    "inactive",
    "seen-time",
    "active-time",
    "radix-tree-keys",
    "radix-tree-nodes",
    "lag",
    "entries-read",
];

/// XINFO without times, what 7.0 has not, and consumers that have nothing pending. RESP2's flat pairs become maps.
fn stream_info(value: &Value) -> Value {
    let name_of = |name: &Value| match name {
        Value::Bulk(name) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    let pairs = match value {
        Value::Map(pairs) => pairs.clone(),
        Value::Array(flat)
            if flat.len() >= 4
                && flat.len().is_multiple_of(2)
                && flat.first().is_some_and(|name| ["name", "length"].contains(&name_of(name).as_str())) =>
        {
            flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
        }
        Value::Array(elements) => {
            let kept = elements.iter().map(|element| stream_info(&without_times(element)));
            return Value::Array(kept.filter(|element| !has_nothing(element)).collect());
        }
        other => return other.clone(),
    };
    let own = |name: &Value, value: &Value| {
        let name = name_of(name);
        OWN_STREAM_INFO.contains(&name.as_str()) || name == "consumers" && matches!(value, Value::Integer(_))
    };
    let pairs = pairs.into_iter().filter(|(name, value)| !own(name, value));
    Value::Map(pairs.map(|(name, value)| (name, stream_info(&value))).collect())
}

/// Whether this is a consumer with nothing pending.
fn has_nothing(value: &Value) -> bool {
    let Value::Map(pairs) = value else { return false };
    let is = |index: usize, wanted: &str, zero: bool| {
        pairs.get(index).is_some_and(|(name, value)| {
            *name == Value::Bulk(wanted.as_bytes().to_vec()) && (!zero || *value == Value::Integer(0))
        })
    };
    is(0, "name", false)
        && (pairs.len() == 2 && is(1, "pending", true) || pairs.len() == 3 && is(1, "pel-count", true))
}

/// The names in a text of `name=value` or `name:value`, with the kind of the reply.
fn field_names(value: &Value) -> (std::mem::Discriminant<Value>, Vec<Vec<u8>>) {
    let text = match value {
        Value::Bulk(text) | Value::Simple(text) | Value::Verbatim { text, .. } => text.as_slice(),
        _ => &[],
    };
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = |word: &[u8]| word.split(|byte| b"=:".contains(byte)).next().unwrap_or_default().to_vec();
    (std::mem::discriminant(value), words.map(name).collect())
}

/// A difference that is meant: from which control, patterns of the command, the control's reply and ours, and the reason.
#[derive(Debug)]
pub struct Exception {
    control: String,
    pub command: String,
    theirs: String,
    ours: String,
    pub reason: String,
    /// The servers hold different things after it.
    pub starts_over: bool,
    pub used: u64,
}

/// Reads the list. A line is `control | command | its reply | our reply | reason`. The control is the beginning of its version,
/// and `*` stands for any text. A sixth part, `starts over`, says that the servers hold different things afterwards.
pub fn read_exceptions(text: &str) -> Vec<Exception> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let (parts, starts_over) = match parts.split_last() {
                Some((&"starts over", parts)) => (parts, true),
                _ => (parts.as_slice(), false),
            };
            let [control, command, theirs, ours, reason] = parts else {
                panic!("five parts between ' | ' are wanted: {line}");
            };
            Exception {
                control: control.to_string(),
                command: command.to_ascii_lowercase(),
                theirs: theirs.to_string(),
                ours: ours.to_string(),
                reason: reason.to_string(),
                starts_over,
                used: 0,
            }
        })
        .collect()
}

impl Exception {
    /// Whether it covers a difference from the control of this version.
    pub fn covers(&self, control: &str, command: &str, theirs: &Value, ours: &Value) -> bool {
        (self.control == "*" || control.starts_with(&self.control))
            && matches(&self.command, &command.to_ascii_lowercase())
            && matches(&self.theirs, &render(theirs))
            && matches(&self.ours, &render(ours))
    }
}

/// Whether the text matches a pattern in which only `*` is special.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}
