//! The reply writer: values in, bytes of either protocol out.
//!
//! A command writes the same calls for both protocols; what RESP2 cannot say is said as Redis says it there:
//!
//! ```text
//! kind            RESP3                      RESP2
//! null            _\r\n                      $-1\r\n, or *-1\r\n where an array was due
//! map of n        %n\r\n                     *2n\r\n
//! set, push of n  ~n\r\n, >n\r\n             *n\r\n
//! double          ,1.5\r\n                   $3\r\n1.5\r\n
//! boolean         #t\r\n                     :1\r\n
//! verbatim        =8\r\ntxt:text\r\n         $4\r\ntext\r\n
//! big number      (123\r\n                   $3\r\n123\r\n
//! attribute of n  |n\r\n                     nothing
//! ```
//!
//! The writer only appends, and its buffer is bounded by whoever fills it. It does not check that as many
//! elements follow as a header announced. Text from outside cannot break a reply: line ends in one-line
//! replies become spaces.

use crate::digits::{self, DIGITS_MAX};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

/// The protocol a connection speaks. Connections begin with RESP2 and switch with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The protocol of Redis before 6.
    #[default]
    Resp2,
    /// With maps, sets, doubles, pushes and the rest.
    Resp3,
}

/// Where an aggregate of yet unknown length begins. Made by [`ReplyWriter::begin_array`].
#[derive(Debug)]
#[must_use = "the aggregate has no header until it is ended"]
pub struct Mark {
    position: usize,
}

/// Takes what a writer has written before the reply is complete.
pub trait Sink: Send {
    /// Takes a piece. May wait until there is room for it.
    fn take(&mut self, piece: Vec<u8>);
}

/// A reply that leaves in pieces. See [`ReplyWriter::stream_to`].
struct Stream {
    sink: Box<dyn Sink>,
    piece_bytes: usize,
    held_bytes_max: usize,
    /// Aggregates begun whose headers are not written yet.
    open: usize,
    handed_over: bool,
    /// What is written is only counted: the headers have to be known first.
    counting: bool,
    /// Headers of outermost aggregates, in order: learned in the first pass, written in the second.
    headers: VecDeque<Vec<u8>>,
    second: bool,
    /// In the second pass: within an aggregate whose header is written.
    within_known: bool,
    contradicted: bool,
    /// Dropped before the first piece is handed over.
    guard: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("handed_over", &self.handed_over).finish_non_exhaustive()
    }
}

/// A mark whose header was written where it was made.
const KNOWN: usize = usize::MAX;

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct ReplyWriter {
    buffer: Vec<u8>,
    protocol: Protocol,
    /// With so many bytes in the buffer something is to be done about them. Never, unless there is a stream.
    full_at: usize,
    stream: Option<Box<Stream>>,
}

impl Default for ReplyWriter {
    fn default() -> Self {
        Self::new(Protocol::default())
    }
}

impl ReplyWriter {
    /// A writer with an empty buffer.
    pub fn new(protocol: Protocol) -> Self {
        Self::with_buffer(Vec::new(), protocol)
    }

    /// A writer that appends to `buffer`.
    pub fn with_buffer(buffer: Vec<u8>, protocol: Protocol) -> Self {
        Self { buffer, protocol, full_at: usize::MAX, stream: None }
    }

    /// From here on, whenever `piece_bytes` are written, they go to `sink`; what is left at the end stays in the buffer.
    ///
    /// An aggregate of yet unknown length cannot leave before its header. If it gets longer than `held_bytes_max`, the writer forgets
    /// it and only counts; then [`needs_second_pass`](Self::needs_second_pass) is true at the end, and the same calls are to be made again.
    pub fn stream_to(&mut self, sink: Box<dyn Sink>, piece_bytes: usize, held_bytes_max: usize) {
        self.full_at = piece_bytes;
        self.stream = Some(Box::new(Stream {
            sink,
            piece_bytes,
            held_bytes_max,
            open: 0,
            handed_over: false,
            counting: false,
            headers: VecDeque::new(),
            second: false,
            within_known: false,
            contradicted: false,
            guard: None,
        }));
    }

    /// Whether the reply may leave in pieces.
    pub fn streams(&self) -> bool {
        self.stream.is_some()
    }

    /// Keeps something until the first piece is handed over, or until [`release`](Self::release).
    pub fn keep_until_streamed(&mut self, guard: Box<dyn Any + Send>) {
        if let Some(stream) = &mut self.stream {
            stream.guard = Some(guard);
        }
    }

    /// Drops what is [kept](Self::keep_until_streamed).
    pub fn release(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.guard = None;
        }
    }

    /// Whether a part of the reply has left, and can be taken back no more.
    pub fn has_handed_over(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.handed_over)
    }

    /// Whether lengths were only counted: the same calls have to be made again, after [`begin_second_pass`](Self::begin_second_pass).
    pub fn needs_second_pass(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.counting)
    }

    /// Begins again, with all lengths known.
    pub fn begin_second_pass(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.buffer.clear();
            self.full_at = stream.piece_bytes;
            stream.counting = false;
            stream.second = true;
        }
    }

    /// Whether the second pass was not as the first: what has left makes no reply.
    pub fn is_contradicted(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.contradicted || stream.second && !stream.headers.is_empty())
    }

    /// Ends a stream: what is written from here on stays in the buffer.
    pub fn end_stream(&mut self) {
        self.stream = None;
        self.full_at = usize::MAX;
    }

    /// The buffer has as much as it may.
    #[cold]
    fn full(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if stream.counting {
            self.buffer.clear();
        } else if stream.open == 0 {
            stream.guard = None;
            stream.handed_over = true;
            // A little more than a piece, so that the last reply in it seldom makes it grow.
            let next = Vec::with_capacity(stream.piece_bytes + stream.piece_bytes / 8);
            stream.sink.take(std::mem::replace(&mut self.buffer, next));
            self.full_at = stream.piece_bytes;
        } else if stream.second || stream.handed_over {
            // A small one within, or one that can be begun again no more.
            self.full_at = usize::MAX;
        } else if self.buffer.len() >= stream.held_bytes_max {
            stream.counting = true;
            self.buffer.clear();
            self.full_at = stream.piece_bytes;
        } else {
            self.full_at = stream.held_bytes_max;
        }
    }

    /// Replies from here on are in `protocol`.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// The protocol of the next reply.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A status such as `+OK`.
    pub fn simple(&mut self, text: &str) {
        self.one_line(b'+', text);
    }

    /// The status `+OK`.
    pub fn ok(&mut self) {
        self.buffer.extend_from_slice(b"+OK\r\n");
    }

    /// An error: the whole text with its code in front, such as `ERR no such key`.
    ///
    /// A character up to U+00FF leaves as one byte, so that an error can repeat any bytes a client sent (`char::from(byte)`).
    pub fn error(&mut self, text: &str) {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_ascii() {
            self.one_line(b'-', text);
            return;
        }
        self.buffer.push(b'-');
        for character in text.chars() {
            match u8::try_from(character) {
                Ok(b'\r' | b'\n') => self.buffer.push(b' '),
                Ok(byte) => self.buffer.push(byte),
                Err(_) => self.buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.end_line();
    }

    /// A 64-bit integer.
    pub fn integer(&mut self, value: i64) {
        self.buffer.push(b':');
        append_integer(&mut self.buffer, value);
        self.end_line();
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        let len = bytes.len();
        // Room once for all of it.
        self.buffer.reserve(len + INTEGER_BYTES_MAX + 5);
        if len < 100 {
            let [tens, ones] = DIGIT_PAIRS[len];
            let line = [b'$', tens, ones, b'\r', b'\n'];
            match tens {
                b'0' => self.buffer.extend_from_slice(&[b'$', ones, b'\r', b'\n']),
                _ => self.buffer.extend_from_slice(&line),
            }
        } else {
            self.header(b'$', len);
        }
        self.buffer.extend_from_slice(bytes);
        self.end_line();
    }

    /// An integer as a string, as GET of a counter answers.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = [0; INTEGER_BYTES_MAX];
        self.bulk(format_integer(&mut digits, value));
    }

    /// No value, where a string or anything else was due.
    pub fn null(&mut self) {
        self.by_protocol(b"$-1\r\n", b"_\r\n");
    }

    /// No value, where an array was due.
    pub fn null_array(&mut self) {
        self.by_protocol(b"*-1\r\n", b"_\r\n");
    }

    /// The header of an array; `len` replies follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// The header of a map; `len` pairs of replies follow.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len * 2),
            Protocol::Resp3 => self.header(b'%', len),
        }
    }

    /// The header of a set; `len` replies follow.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len);
    }

    /// The header of a message the client did not ask for just now; `len` replies follow.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len);
    }

    /// The header of attributes to the next reply; `len` pairs of replies follow. RESP2 has none: writes
    /// nothing and returns false, and the pairs are not to be written either.
    #[must_use = "in RESP2 the pairs must not be written"]
    pub fn attribute(&mut self, len: usize) -> bool {
        if self.protocol == Protocol::Resp3 {
            self.header(b'|', len);
        }
        self.protocol == Protocol::Resp3
    }

    /// A floating-point number, spelled as [`append_double`] does.
    pub fn double(&mut self, value: f64) {
        let mut digits = [0; DOUBLE_BYTES_MAX];
        let text = format_double(&mut digits, value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.buffer.push(b',');
                self.buffer.extend_from_slice(text);
                self.end_line();
            }
        }
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        match value {
            true => self.by_protocol(b":1\r\n", b"#t\r\n"),
            false => self.by_protocol(b":0\r\n", b"#f\r\n"),
        }
    }

    /// A text meant for people, in a three-letter format such as `txt` or `mkd`.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.buffer.extend_from_slice(&format);
                self.buffer.push(b':');
                self.buffer.extend_from_slice(text);
                self.end_line();
            }
        }
    }

    /// An integer of any size, given in decimal.
    pub fn big_number(&mut self, digits: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits.as_bytes()),
            Protocol::Resp3 => self.one_line(b'(', digits),
        }
    }

    /// Bytes that are replies already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Begins an aggregate whose length is known only after its elements are written. Ends with one of the
    /// `end_` calls; inner ones end first.
    pub fn begin_array(&mut self) -> Mark {
        if let Some(stream) = &mut self.stream {
            if stream.second && !stream.within_known {
                stream.within_known = true;
                match stream.headers.pop_front() {
                    Some(header) => self.buffer.extend_from_slice(&header),
                    None => stream.contradicted = true,
                }
                return Mark { position: KNOWN };
            }
            stream.open += 1;
        }
        Mark { position: self.buffer.len() }
    }

    /// Makes what was written since `mark` an array of `len` elements. Moves those bytes once.
    pub fn end_array(&mut self, mark: Mark, len: usize) {
        self.end(mark, |writer| writer.array(len));
    }

    /// Makes what was written since `mark` a map of `len` pairs. Moves those bytes once.
    pub fn end_map(&mut self, mark: Mark, len: usize) {
        self.end(mark, |writer| writer.map(len));
    }

    /// Makes what was written since `mark` a set of `len` elements. Moves those bytes once.
    pub fn end_set(&mut self, mark: Mark, len: usize) {
        self.end(mark, |writer| writer.set(len));
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes back everything written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// Takes back everything.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// What is written.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The buffer itself.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Takes the buffer and leaves an empty one.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Writes the header behind the elements, then turns it to their front.
    fn end(&mut self, mark: Mark, write_header: impl FnOnce(&mut Self)) {
        if mark.position == KNOWN {
            if let Some(stream) = &mut self.stream {
                stream.within_known = false;
            }
            return;
        }
        let end = self.buffer.len();
        write_header(self);
        let header_bytes = self.buffer.len() - end;
        if let Some(stream) = &mut self.stream {
            stream.open = stream.open.saturating_sub(1);
            if stream.open == 0 {
                if !stream.second {
                    stream.headers.push_back(self.buffer.get(end..).unwrap_or_default().to_vec());
                }
                self.full_at = stream.piece_bytes;
            }
            if stream.counting {
                return;
            }
        }
        if let Some(written) = self.buffer.get_mut(mark.position..) {
            written.rotate_right(header_bytes);
        }
    }

    fn aggregate(&mut self, kind: u8, len: usize) {
        let kind = if self.protocol == Protocol::Resp3 { kind } else { b'*' };
        self.header(kind, len);
    }

    fn by_protocol(&mut self, resp2: &[u8], resp3: &[u8]) {
        let bytes = if self.protocol == Protocol::Resp3 { resp3 } else { resp2 };
        self.buffer.extend_from_slice(bytes);
    }

    fn one_line(&mut self, kind: u8, text: &str) {
        self.buffer.push(kind);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(text.as_bytes());
        for byte in &mut self.buffer[start..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.end_line();
    }

    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        // Most strings and arrays are short.
        if len < 10 {
            return self.buffer.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']);
        }
        let mut line = [kind; INTEGER_BYTES_MAX + 3];
        let digits = write_digits_backward(&mut line, INTEGER_BYTES_MAX + 1, len as u64);
        line[INTEGER_BYTES_MAX + 1] = b'\r';
        line[INTEGER_BYTES_MAX + 2] = b'\n';
        // The array is filled with `kind`, so the byte before the digits is it.
        self.buffer.extend_from_slice(&line[digits - 1..]);
    }

    #[inline]
    fn end_line(&mut self) {
        self.buffer.extend_from_slice(b"\r\n");
        if self.buffer.len() >= self.full_at {
            self.full();
        }
    }
}

/// Appends the decimal spelling of `value`.
pub fn append_integer(buffer: &mut Vec<u8>, value: i64) {
    let mut digits = [0; INTEGER_BYTES_MAX];
    buffer.extend_from_slice(format_integer(&mut digits, value));
}

/// Appends the spelling Redis 7.4 gives a double in replies: an integer up to 2^62 exactly, anything else in
/// few digits that read back as the same number (nearly always the fewest, see `digits`), plain up to seven zeros beyond them and with an
/// exponent otherwise; also `inf`, `-inf`, `nan` and `-0`.
pub fn append_double(buffer: &mut Vec<u8>, value: f64) {
    let mut digits = [0; DOUBLE_BYTES_MAX];
    buffer.extend_from_slice(format_double(&mut digits, value));
}

/// `-9223372036854775808`
const INTEGER_BYTES_MAX: usize = 20;
/// A sign, 17 digits, a point, and an exponent or up to seven zeros.
const DOUBLE_BYTES_MAX: usize = 32;
/// Larger integers may be spelled with an exponent.
const EXACT_INTEGER_MAX: f64 = (1u64 << 62) as f64;

/// `00`, `01` and so on to `99`: halves the divisions of a number.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

fn format_integer(digits: &mut [u8; INTEGER_BYTES_MAX], value: i64) -> &[u8] {
    let mut start = write_digits_backward(digits, INTEGER_BYTES_MAX, value.unsigned_abs());
    if value < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

/// Writes the digits of `value` so that they end before `end`, and returns where they begin.
#[inline]
fn write_digits_backward(digits: &mut [u8], end: usize, mut value: u64) -> usize {
    let mut start = end;
    while value >= 10 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&DIGIT_PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    // The first digit is still due if their number is odd; a leading pair may begin with a zero that is not
    // wanted.
    if value > 0 || start == end {
        start -= 1;
        digits[start] = b'0' + value as u8;
    }
    start
}

fn format_double(text: &mut [u8; DOUBLE_BYTES_MAX], value: f64) -> &[u8] {
    let mut rest = &mut text[..];
    // A slice as writer fails only when full, and the longest spelling fits (see the test).
    let written = write_double(&mut rest, value);
    debug_assert!(written.is_ok());
    let used = DOUBLE_BYTES_MAX - rest.len();
    &text[..used]
}

fn write_double(out: &mut &mut [u8], value: f64) -> std::io::Result<()> {
    if value.is_nan() {
        return out.write_all(b"nan");
    }
    if value.is_sign_negative() {
        out.write_all(b"-")?;
    }
    if value.is_infinite() {
        return out.write_all(b"inf");
    }
    if value.fract() == 0.0 && value.abs() <= EXACT_INTEGER_MAX {
        return write!(out, "{}", value.abs() as u64);
    }
    let mut found = [0; DIGITS_MAX];
    let (digits, scale) = digits::find(&mut found, value.abs());
    write_scaled(out, &found[digits], scale)
}

/// Writes digits * 10^scale.
fn write_scaled(out: &mut &mut [u8], digits: &[u8], scale: i32) -> std::io::Result<()> {
    let count = digits.len() as i32;
    let exponent = scale + count - 1;
    if scale >= 0 && exponent < count + 7 {
        out.write_all(digits)?;
        return write_zeros(out, scale);
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let whole = usize::try_from(count + scale).unwrap_or(0);
        let (whole, fraction) = digits.split_at(whole);
        out.write_all(if whole.is_empty() { b"0" } else { whole })?;
        out.write_all(b".")?;
        write_zeros(out, -(count + scale))?;
        return out.write_all(fraction);
    }
    let (first, rest) = digits.split_at(1);
    out.write_all(first)?;
    if !rest.is_empty() {
        out.write_all(b".")?;
        out.write_all(rest)?;
    }
    write!(out, "e{exponent:+}")
}

fn write_zeros(out: &mut &mut [u8], count: i32) -> std::io::Result<()> {
    (0..count).try_for_each(|_| out.write_all(b"0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter)) -> String {
        let mut writer = ReplyWriter::new(protocol);
        write(&mut writer);
        String::from_utf8(writer.into_buffer()).unwrap()
    }

    #[test]
    fn both_protocols() {
        type Write = fn(&mut ReplyWriter);
        let table: &[(Write, &str, &str)] = &[
            (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (|w| w.simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n"),
            (|w| w.error("ERR a\nb\r\n"), "-ERR a b\r\n", "-ERR a b\r\n"),
            (|w| w.integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|w| w.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
            (|w| w.bulk_integer(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|w| w.null(), "$-1\r\n", "_\r\n"),
            (|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (|w| w.array(3), "*3\r\n", "*3\r\n"),
            (|w| w.map(3), "*6\r\n", "%3\r\n"),
            (|w| w.set(0), "*0\r\n", "~0\r\n"),
            (|w| w.push(3), "*3\r\n", ">3\r\n"),
            (|w| assert_eq!(w.attribute(1), w.protocol() == Protocol::Resp3), "", "|1\r\n"),
            (|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|w| w.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|w| w.boolean(true), ":1\r\n", "#t\r\n"),
            (|w| w.boolean(false), ":0\r\n", "#f\r\n"),
            (|w| w.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|w| w.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
        ];
        for (write, resp2, resp3) in table {
            assert_eq!(written(Protocol::Resp2, write), *resp2);
            assert_eq!(written(Protocol::Resp3, write), *resp3);
        }
    }

    #[test]
    fn lengths_known_late() {
        let write = |writer: &mut ReplyWriter| {
            writer.ok();
            let outer = writer.begin_array();
            let empty = writer.begin_array();
            writer.end_set(empty, 0);
            let inner = writer.begin_array();
            (0..24).for_each(|value| writer.integer(value % 10));
            writer.end_map(inner, 12);
            writer.end_array(outer, 2);
        };
        let ones: String = (0..24).map(|value| format!(":{}\r\n", value % 10)).collect();
        assert_eq!(written(Protocol::Resp2, write), format!("+OK\r\n*2\r\n*0\r\n*24\r\n{ones}"));
        assert_eq!(written(Protocol::Resp3, write), format!("+OK\r\n*2\r\n~0\r\n%12\r\n{ones}"));
    }

    #[test]
    fn taking_back() {
        let mut writer = ReplyWriter::with_buffer(b"+a\r\n".to_vec(), Protocol::Resp2);
        let len = writer.len();
        writer.array(7);
        writer.truncate(len);
        writer.set_protocol(Protocol::Resp3);
        writer.null();
        assert_eq!(writer.buffer(), b"+a\r\n_\r\n");
        assert_eq!(writer.take_buffer(), b"+a\r\n_\r\n");
        assert!(writer.is_empty());
    }

    #[test]
    fn doubles_as_redis_spells_them() {
        let table: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-10.0, "-10"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.3333333333333333"),
            (100.25, "100.25"),
            (1e16, "10000000000000000"),
            (-4611686018427387904.0, "-4611686018427387904"),
            (4611686018427388928.0, "4611686018427389000"),
            (5e18, "5e+18"),
            (9223372036854775808.0, "9223372036854776000"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-6, "1.5e-6"),
            (0.00012345678901234567, "1.2345678901234567e-4"),
            (5e-324, "5e-324"),
            (-f64::MAX, "-1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ];
        for (value, text) in table {
            let mut buffer = Vec::new();
            append_double(&mut buffer, *value);
            assert_eq!(buffer, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn integers(value: i64, shift in 0u32..64) {
            for value in [value, value >> shift] {
                let mut buffer = Vec::new();
                append_integer(&mut buffer, value);
                prop_assert_eq!(buffer, value.to_string().into_bytes());
            }
        }

        #[test]
        fn doubles_read_back(bits: u64, mantissa in -1_000_000i64..1_000_000, scale in -30i32..30) {
            for value in [f64::from_bits(bits), mantissa as f64 * 10f64.powi(scale), mantissa as f64] {
                let mut buffer = Vec::new();
                append_double(&mut buffer, value);
                let text = String::from_utf8(buffer).unwrap();
                prop_assert!(text.len() < DOUBLE_BYTES_MAX);
                let read: f64 = text.parse().unwrap();
                prop_assert!(read == value || value.is_nan(), "{} for {:e}", text, value);
            }
        }
    }

    /// Keeps the pieces.
    struct Pieces(std::sync::mpsc::Sender<Vec<u8>>);

    impl Sink for Pieces {
        fn take(&mut self, piece: Vec<u8>) {
            self.0.send(piece).unwrap();
        }
    }

    /// Bulks (of these lengths), or arrays of them whose lengths are known only behind them.
    #[derive(Clone, Debug)]
    enum Part {
        Bulk(usize),
        Unknown(Vec<Part>),
        Known(Vec<Part>),
    }

    fn part() -> impl Strategy<Value = Part> {
        let bulk = (0usize..90).prop_map(Part::Bulk);
        bulk.prop_recursive(3, 60, 12, |inner| {
            let parts = prop::collection::vec(inner, 0..12);
            prop_oneof![parts.clone().prop_map(Part::Unknown), parts.prop_map(Part::Known)]
        })
    }

    fn write(writer: &mut ReplyWriter, parts: &[Part]) {
        for part in parts {
            match part {
                Part::Bulk(bytes) => writer.bulk(&vec![b'x'; *bytes]),
                Part::Known(parts) => {
                    writer.array(parts.len());
                    write(writer, parts);
                }
                Part::Unknown(parts) => {
                    let mark = writer.begin_array();
                    write(writer, parts);
                    writer.end_array(mark, parts.len());
                }
            }
        }
    }

    proptest! {
        /// Pieces and rest together are what a plain writer writes, whatever their sizes; a second pass is asked for at most once.
        #[test]
        fn a_reply_in_pieces_is_the_same(
            parts in prop::collection::vec(part(), 0..20), piece_bytes in 1usize..400, held_bytes_max in 1usize..600,
        ) {
            let mut plain = ReplyWriter::default();
            write(&mut plain, &parts);
            let (sender, receiver) = std::sync::mpsc::channel();
            let mut writer = ReplyWriter::default();
            writer.stream_to(Box::new(Pieces(sender)), piece_bytes, held_bytes_max);
            write(&mut writer, &parts);
            if writer.needs_second_pass() {
                prop_assert!(!writer.has_handed_over());
                writer.begin_second_pass();
                write(&mut writer, &parts);
            }
            prop_assert!(!writer.needs_second_pass() && !writer.is_contradicted());
            writer.end_stream();
            let mut all: Vec<u8> = receiver.iter().flatten().collect();
            all.extend_from_slice(writer.buffer());
            prop_assert_eq!(all, plain.into_buffer());
        }
    }
}
