//! The reply reader: bytes of a server in, values out. For tests, tools and anything else that plays the
//! client.
//!
//! Like the request parser it may be fed in any pieces, does work only for what is new, and lets no announced
//! length size an allocation. Nested aggregates are kept on a list of its own, not on the call stack, and
//! their depth is bounded. It knows no streamed strings or aggregates (`$?`, `*?`), which no Redis sends.

use crate::error::ReplyError;
use crate::limits::ReplyLimits;
use crate::scan::{find_byte, parse_i64};

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(Vec<u8>),
    /// `-`: the text with its code.
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1` or `_`
    Null,
    /// `*-1`
    NullArray,
    /// `*`
    Array(Vec<Value>),
    /// `%`: pairs in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~`: elements in the order sent.
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `(`: the digits, with their sign.
    BigNumber(Vec<u8>),
    /// `=`
    Verbatim {
        /// Three letters, such as `txt`.
        format: [u8; 3],
        /// The text after the format and its colon.
        text: Vec<u8>,
    },
    /// `!`: the text with its code.
    BulkError(Vec<u8>),
    /// A value with `|` attributes in front.
    Attributed {
        /// The pairs, in the order sent.
        attributes: Vec<(Value, Value)>,
        /// The value they belong to.
        value: Box<Value>,
    },
}

/// Reads replies from bytes that arrive in any pieces.
#[derive(Debug)]
pub struct ReplyReader {
    limits: ReplyLimits,
    buffer: Vec<u8>,
    /// Start of the line or bulk not read yet.
    position: usize,
    /// No line ends before here.
    searched: usize,
    /// The bulk whose header is read and whose bytes are not.
    bulk: Option<(u8, usize)>,
    /// Aggregates that still lack elements, outermost first.
    open: Vec<Open>,
    /// After an error the reader has lost its place.
    failed: Option<ReplyError>,
}

#[derive(Debug)]
struct Open {
    kind: u8,
    left: usize,
    elements: Vec<Value>,
    /// Attributes complete, waiting for the value they belong to. Only for kind `|`.
    attributes: Option<Vec<(Value, Value)>>,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new(ReplyLimits::default())
    }
}

impl ReplyReader {
    /// A reader with nothing fed yet.
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            position: 0,
            searched: 0,
            bulk: None,
            open: Vec::new(),
            failed: None,
        }
    }

    /// Appends bytes from the server.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.position > 0 && self.position >= self.buffer.len() / 2 {
            self.buffer.drain(..self.position);
            self.searched = self.searched.saturating_sub(self.position);
            self.position = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole reply, if it has arrived. After an error, every call returns that error.
    #[expect(
        clippy::should_implement_trait,
        reason = "a reader may have a next value later when it has none now"
    )]
    pub fn next(&mut self) -> Result<Option<Value>, ReplyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.read().inspect_err(|error| self.failed = Some(*error))
    }

    /// Bytes fed and not yet part of a value returned or begun.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.position
    }

    fn read(&mut self) -> Result<Option<Value>, ReplyError> {
        loop {
            let item = match self.bulk {
                Some((kind, bytes)) => self.read_bulk(kind, bytes)?,
                None => self.read_line()?,
            };
            match item {
                Item::Wait => return Ok(None),
                Item::Header => {}
                Item::Value(value) => {
                    if let Some(whole) = self.place(value) {
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }

    /// Puts a value where it belongs, and closes the aggregates it completes. Returns the outermost one when
    /// it is complete.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut open) = self.open.pop() {
            if let Some(attributes) = open.attributes.take() {
                value = Value::Attributed { attributes, value: Box::new(value) };
                continue;
            }
            open.elements.push(value);
            open.left -= 1;
            if open.left > 0 {
                self.open.push(open);
                return None;
            }
            if open.kind == b'|' {
                open.attributes = Some(pairs(std::mem::take(&mut open.elements)));
                self.open.push(open);
                return None;
            }
            value = close(open.kind, open.elements);
        }
        Some(value)
    }

    fn read_line(&mut self) -> Result<Item, ReplyError> {
        let from = self.searched.max(self.position);
        let Some(index) = find_byte(&self.buffer[from..], b'\r') else {
            self.searched = self.buffer.len();
            let too_long = self.pending_bytes() > self.limits.line_bytes_max;
            return if too_long { Err(ReplyError::LineTooLong) } else { Ok(Item::Wait) };
        };
        let end = from + index;
        self.searched = end;
        if end - self.position > self.limits.line_bytes_max {
            return Err(ReplyError::LineTooLong);
        }
        match self.buffer.get(end + 1) {
            None => return Ok(Item::Wait),
            Some(b'\n') => {}
            Some(_) => return Err(ReplyError::MissingLineEnd),
        }
        let start = self.position;
        self.position = end + 2;
        match &self.buffer[start..end] {
            [] => Err(ReplyError::UnknownKind(b'\r')),
            [kind @ (b'$' | b'=' | b'!'), length @ ..] => {
                let (kind, length) = (*kind, parse_length(length, self.limits.bulk_bytes_max)?);
                self.begin_bulk(kind, length)
            }
            [kind @ (b'*' | b'%' | b'~' | b'>' | b'|'), length @ ..] => {
                let (kind, length) = (*kind, parse_length(length, self.limits.elements_max)?);
                self.begin_aggregate(kind, length)
            }
            [kind, text @ ..] => scalar(*kind, text).map(Item::Value),
        }
    }

    fn begin_bulk(&mut self, kind: u8, length: Option<usize>) -> Result<Item, ReplyError> {
        match length {
            Some(bytes) => {
                self.bulk = Some((kind, bytes));
                Ok(Item::Header)
            }
            None if kind == b'$' => Ok(Item::Value(Value::Null)),
            None => Err(ReplyError::InvalidLength),
        }
    }

    fn begin_aggregate(&mut self, kind: u8, length: Option<usize>) -> Result<Item, ReplyError> {
        let length = match length {
            Some(length) => length,
            None if kind == b'*' => return Ok(Item::Value(Value::NullArray)),
            None => return Err(ReplyError::InvalidLength),
        };
        if length == 0 && kind != b'|' {
            return Ok(Item::Value(close(kind, Vec::new())));
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(ReplyError::TooDeep);
        }
        let left = match kind {
            b'%' | b'|' => length.checked_mul(2).filter(|left| *left <= self.limits.elements_max),
            _ => Some(length),
        };
        let left = left.ok_or(ReplyError::InvalidLength)?;
        let attributes = (left == 0).then(Vec::new);
        self.open.push(Open { kind, left, elements: Vec::new(), attributes });
        Ok(Item::Header)
    }

    fn read_bulk(&mut self, kind: u8, bytes: usize) -> Result<Item, ReplyError> {
        let rest = &self.buffer[self.position..];
        let (Some(content), Some(end)) = (rest.get(..bytes), rest.get(bytes..bytes.saturating_add(2))) else {
            return Ok(Item::Wait);
        };
        if end != b"\r\n" {
            return Err(ReplyError::MissingLineEnd);
        }
        let value = match (kind, content) {
            (b'=', [a, b, c, b':', text @ ..]) => {
                Value::Verbatim { format: [*a, *b, *c], text: text.to_vec() }
            }
            (b'=', _) => return Err(ReplyError::InvalidVerbatim),
            (b'!', text) => Value::BulkError(text.to_vec()),
            (_, bytes) => Value::Bulk(bytes.to_vec()),
        };
        self.position += bytes + 2;
        self.bulk = None;
        Ok(Item::Value(value))
    }
}

/// What one step found.
enum Item {
    /// The rest has not arrived.
    Wait,
    /// A header; its content comes next.
    Header,
    Value(Value),
}

/// A length up to `max`; `None` inside for -1.
fn parse_length(text: &[u8], max: usize) -> Result<Option<usize>, ReplyError> {
    match parse_i64(text).ok_or(ReplyError::InvalidLength)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= max => Ok(Some(length)),
            _ => Err(ReplyError::InvalidLength),
        },
    }
}

fn scalar(kind: u8, text: &[u8]) -> Result<Value, ReplyError> {
    let value = match (kind, text) {
        (b'+', _) => Value::Simple(text.to_vec()),
        (b'-', _) => Value::Error(text.to_vec()),
        (b':', _) => Value::Integer(parse_i64(text).ok_or(ReplyError::InvalidScalar)?),
        (b'_', []) => Value::Null,
        (b'#', b"t") => Value::Boolean(true),
        (b'#', b"f") => Value::Boolean(false),
        (b',', _) => Value::Double(parse_double(text).ok_or(ReplyError::InvalidScalar)?),
        (b'(', _) if is_big_number(text) => Value::BigNumber(text.to_vec()),
        (b'_' | b'#' | b'(', _) => return Err(ReplyError::InvalidScalar),
        (other, _) => return Err(ReplyError::UnknownKind(other)),
    };
    Ok(value)
}

fn parse_double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn close(kind: u8, elements: Vec<Value>) -> Value {
    match kind {
        b'%' => Value::Map(pairs(elements)),
        b'~' => Value::Set(elements),
        b'>' => Value::Push(elements),
        _ => Value::Array(elements),
    }
}

fn pairs(elements: Vec<Value>) -> Vec<(Value, Value)> {
    let mut elements = elements.into_iter();
    std::iter::from_fn(|| elements.next().zip(elements.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Protocol, ReplyWriter};
    use proptest::prelude::*;

    fn read_in_pieces(
        reader: &mut ReplyReader,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<Value>, Option<ReplyError>) {
        let mut values = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.feed(piece);
            loop {
                match reader.next() {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(error) => return (values, Some(error)),
                }
            }
        }
        (values, None)
    }

    fn read(bytes: &[u8]) -> (Vec<Value>, Option<ReplyError>) {
        read_in_pieces(&mut ReplyReader::default(), bytes, bytes.len().max(1))
    }

    fn write(writer: &mut ReplyWriter, value: &Value) {
        let write_all =
            |writer: &mut ReplyWriter, list: &[Value]| list.iter().for_each(|value| write(writer, value));
        let write_pairs = |writer: &mut ReplyWriter, list: &[(Value, Value)]| {
            list.iter().for_each(|(key, value)| {
                write(writer, key);
                write(writer, value);
            });
        };
        match value {
            Value::Simple(text) => writer.simple(std::str::from_utf8(text).unwrap()),
            Value::Error(text) => writer.error(std::str::from_utf8(text).unwrap()),
            Value::Integer(value) => writer.integer(*value),
            Value::Bulk(bytes) => writer.bulk(bytes),
            Value::Null => writer.null(),
            Value::NullArray => writer.null_array(),
            Value::Array(list) => {
                writer.array(list.len());
                write_all(writer, list);
            }
            Value::Set(list) => {
                writer.set(list.len());
                write_all(writer, list);
            }
            Value::Push(list) => {
                writer.push(list.len());
                write_all(writer, list);
            }
            Value::Map(list) => {
                writer.map(list.len());
                write_pairs(writer, list);
            }
            Value::Double(value) => writer.double(*value),
            Value::Boolean(value) => writer.boolean(*value),
            Value::BigNumber(digits) => writer.big_number(std::str::from_utf8(digits).unwrap()),
            Value::Verbatim { format, text } => writer.verbatim(*format, text),
            Value::BulkError(text) => {
                writer.raw(format!("!{}\r\n", text.len()).as_bytes());
                writer.raw(text);
                writer.raw(b"\r\n");
            }
            Value::Attributed { attributes, value } => {
                if writer.attribute(attributes.len()) {
                    write_pairs(writer, attributes);
                }
                write(writer, value);
            }
        }
    }

    /// What a RESP2 client sees of a value.
    fn in_resp2(value: &Value) -> Value {
        let all = |list: &[Value]| Value::Array(list.iter().map(in_resp2).collect());
        match value {
            Value::Array(list) | Value::Set(list) | Value::Push(list) => all(list),
            Value::Map(list) => {
                Value::Array(list.iter().flat_map(|(key, value)| [in_resp2(key), in_resp2(value)]).collect())
            }
            Value::Boolean(value) => Value::Integer(i64::from(*value)),
            Value::BigNumber(digits) => Value::Bulk(digits.clone()),
            Value::Verbatim { text, .. } => Value::Bulk(text.clone()),
            Value::Attributed { value, .. } => in_resp2(value),
            Value::Double(value) => {
                let mut text = Vec::new();
                crate::reply::append_double(&mut text, *value);
                Value::Bulk(text)
            }
            same => same.clone(),
        }
    }

    /// What a RESP3 client sees of it: there is one null.
    fn in_resp3(value: &Value) -> Value {
        let all = |list: &[Value]| list.iter().map(in_resp3).collect();
        let both = |list: &[(Value, Value)]| {
            list.iter().map(|(key, value)| (in_resp3(key), in_resp3(value))).collect()
        };
        match value {
            Value::NullArray => Value::Null,
            Value::Array(list) => Value::Array(all(list)),
            Value::Set(list) => Value::Set(all(list)),
            Value::Push(list) => Value::Push(all(list)),
            Value::Map(list) => Value::Map(both(list)),
            Value::Attributed { attributes, value } => {
                Value::Attributed { attributes: both(attributes), value: Box::new(in_resp3(value)) }
            }
            same => same.clone(),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        let leaf = prop_oneof![
            "[ -~]{0,12}".prop_map(|text| Value::Simple(text.into_bytes())),
            "[A-Z]{1,4} [ -~]{0,12}".prop_map(|text| Value::Error(text.into_bytes())),
            any::<i64>().prop_map(Value::Integer),
            bytes().prop_map(Value::Bulk),
            Just(Value::Null),
            Just(Value::NullArray),
            any::<f64>().prop_filter("a number", |value| !value.is_nan()).prop_map(Value::Double),
            any::<bool>().prop_map(Value::Boolean),
            "-?[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
            bytes().prop_map(|text| Value::Verbatim { format: *b"txt", text }),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let list = || proptest::collection::vec(inner.clone(), 0..6);
            let map = || proptest::collection::vec((inner.clone(), inner.clone()), 0..4);
            prop_oneof![
                list().prop_map(Value::Array),
                list().prop_map(Value::Set),
                list().prop_map(Value::Push),
                map().prop_map(Value::Map),
                (map(), inner.clone())
                    .prop_map(|(attributes, value)| Value::Attributed { attributes, value: Box::new(value) }),
            ]
        })
    }

    #[test]
    fn malformed_replies() {
        let deep = b"*1\r\n".repeat(65);
        let long = [b"+".to_vec(), vec![b'a'; 1 << 20]].concat();
        let table: &[(&[u8], ReplyError)] = &[
            (b"?\r\n", ReplyError::UnknownKind(b'?')),
            (b"\r\n", ReplyError::UnknownKind(b'\r')),
            (b"$?\r\n", ReplyError::InvalidLength),
            (b"$-2\r\n", ReplyError::InvalidLength),
            (b"$99999999999\r\n", ReplyError::InvalidLength),
            (b"%-1\r\n", ReplyError::InvalidLength),
            (b"%1073741824\r\n", ReplyError::InvalidLength),
            (b"=-1\r\n", ReplyError::InvalidLength),
            (b"$1\r\nabc", ReplyError::MissingLineEnd),
            (b"+a\rb", ReplyError::MissingLineEnd),
            (b":1x\r\n", ReplyError::InvalidScalar),
            (b"_x\r\n", ReplyError::InvalidScalar),
            (b"#x\r\n", ReplyError::InvalidScalar),
            (b",x\r\n", ReplyError::InvalidScalar),
            (b"(1.5\r\n", ReplyError::InvalidScalar),
            (b"=3\r\nabc\r\n", ReplyError::InvalidVerbatim),
            (&deep, ReplyError::TooDeep),
            (&long, ReplyError::LineTooLong),
        ];
        for (bytes, error) in table {
            assert_eq!(read(bytes).1, Some(*error), "{}", bytes[..bytes.len().min(20)].escape_ascii());
        }
        let mut reader = ReplyReader::default();
        reader.feed(b"?\r\n+OK\r\n");
        assert_eq!(reader.next(), Err(ReplyError::UnknownKind(b'?')));
        assert_eq!(reader.next(), Err(ReplyError::UnknownKind(b'?')));
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        let mut reader = ReplyReader::default();
        reader.feed(b"*1000000000\r\n*1000000000\r\n$1000000000\r\n");
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.open.iter().all(|open| open.elements.capacity() == 0));
        assert!(reader.buffer.capacity() < 100);
    }

    #[test]
    fn an_empty_attribute_still_belongs_to_its_value() {
        let value = Value::Attributed { attributes: Vec::new(), value: Box::new(Value::Integer(1)) };
        assert_eq!(read(b"*2\r\n|0\r\n:1\r\n:2\r\n").0, [Value::Array(vec![value, Value::Integer(2)])]);
    }

    proptest! {
        #[test]
        fn writer_to_reader(values in proptest::collection::vec(value(), 0..4), piece in 1usize..40) {
            let seen_in = [in_resp2 as fn(&Value) -> Value, in_resp3];
            for (protocol, seen) in [Protocol::Resp2, Protocol::Resp3].into_iter().zip(seen_in) {
                let mut writer = ReplyWriter::new(protocol);
                values.iter().for_each(|value| write(&mut writer, value));
                let expected: Vec<_> = values.iter().map(seen).collect();
                let mut reader = ReplyReader::default();
                prop_assert_eq!(read_in_pieces(&mut reader, writer.buffer(), piece), (expected, None));
                prop_assert_eq!(reader.pending_bytes(), 0);
            }
        }

        #[test]
        fn pieces_make_no_difference(text in r"[-+:$*%~>,#(=!|_\r\n0123ta]{0,60}", piece in 1usize..9) {
            let bytes = text.as_bytes();
            prop_assert_eq!(read_in_pieces(&mut ReplyReader::default(), bytes, piece), read(bytes));
        }
    }
}
