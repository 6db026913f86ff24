//! The request parser: bytes of a client in, ranges of arguments out.
//!
//! A request is an array of bulk strings, or, when it does not begin with `*`, an inline command:
//!
//! ```text
//! *3\r\n  $3\r\n SET\r\n  $3\r\n key\r\n  $5\r\n value\r\n        SET key "value"\r\n
//! ```
//!
//! The parser owns no input. The caller keeps the bytes from the start of the current command on and shows
//! them all at each call; the parser remembers how far it got and looks only at what is new, so a command
//! costs time linear in its size however it is cut up. How it is cut up never changes the outcome.
//!
//! Announced counts and lengths are checked against [`Limits`] as they are read, and allocate nothing: the
//! list of arguments grows as arguments arrive. A connection that has sent nothing yet holds no memory here.
//!
//! As lenient as Redis: the byte after `\r` in a header, and the two bytes after a bulk, are skipped unseen.

use crate::error::ProtocolError;
use crate::inline;
use crate::limits::{Limits, RETAINED_ARGUMENTS};
use crate::scan::{find_byte, parse_i64, short_length_line};
use std::ops::Range;

/// How far a call to [`RequestParser::parse`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A whole command. Its arguments are there; there are none after an empty line or an array without
    /// elements.
    Complete {
        /// Bytes of the input that the command took.
        consumed: usize,
    },
    /// The command goes on after the input.
    Incomplete {
        /// At least this many more bytes will come; a hint for how much to read, already within the limits.
        wanted_bytes: usize,
    },
}

/// What the bytes at `position` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    InlineLine,
    ArgumentCount,
    ArgumentLength,
    Argument { bytes: usize },
    Done,
}

/// An incremental parser of one connection's requests.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    authenticated: bool,
    stage: Stage,
    /// Where in the input the stage begins.
    position: usize,
    /// No line of this stage ends before here.
    searched: usize,
    arguments_left: usize,
    arguments: Vec<Range<usize>>,
    /// The line of an inline command with quotes, its words decoded in place; empty otherwise.
    decoded_line: Vec<u8>,
}

impl RequestParser {
    /// A parser at the start of a connection. The client counts as authenticated until
    /// [`Self::set_authenticated`] says otherwise.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            authenticated: true,
            stage: Stage::Start,
            position: 0,
            searched: 0,
            arguments_left: 0,
            arguments: Vec::new(),
            decoded_line: Vec::new(),
        }
    }

    /// Replaces the limits, from the next header on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the stricter limits for unauthenticated clients apply, from the next header on.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
    }

    /// Goes on with the current command, or begins the next one after a complete one. `input` begins at the
    /// first byte of the command at every call, and only ever grows until the command is complete.
    ///
    /// After an error the place of the next command is unknown: answer it and close the connection.
    pub fn parse(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
        if self.stage == Stage::Done {
            self.reset();
        }
        if self.stage == Stage::Start {
            self.stage = match input.first() {
                None => return Ok(Progress::Incomplete { wanted_bytes: 1 }),
                Some(b'*') => Stage::ArgumentCount,
                Some(_) => Stage::InlineLine,
            };
        }
        if self.stage == Stage::InlineLine {
            return self.parse_inline(input);
        }
        if self.stage == Stage::ArgumentCount && !self.parse_argument_count(input)? {
            return Ok(Progress::Incomplete { wanted_bytes: 1 });
        }
        self.parse_arguments(input)
    }

    /// The arguments of the command that has just completed, as ranges of [`Self::source`].
    pub fn arguments(&self) -> &[Range<usize>] {
        &self.arguments
    }

    /// What the ranges of [`Self::arguments`] point into: `input`, the slice given to the call that completed
    /// the command, unless the command is an inline one with quotes, whose words had to be decoded elsewhere.
    pub fn source<'bytes>(&'bytes self, input: &'bytes [u8]) -> &'bytes [u8] {
        if self.decoded_line.is_empty() { input } else { &self.decoded_line }
    }

    /// The argument at `index` of the command that has just completed; `input` as for [`Self::source`].
    pub fn argument<'bytes>(&'bytes self, input: &'bytes [u8], index: usize) -> Option<&'bytes [u8]> {
        self.source(input).get(self.arguments.get(index)?.clone())
    }

    /// Forgets the current command. The next input begins a new one.
    pub fn reset(&mut self) {
        self.stage = Stage::Start;
        self.position = 0;
        self.searched = 0;
        self.arguments_left = 0;
        if self.arguments.capacity() > RETAINED_ARGUMENTS {
            self.arguments = Vec::new();
        }
        self.arguments.clear();
        self.decoded_line = Vec::new();
    }

    fn complete(&mut self, consumed: usize) -> Progress {
        self.stage = Stage::Done;
        Progress::Complete { consumed }
    }

    fn parse_inline(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
        let Some(newline) = self.find_line_end(input, b'\n', ProtocolError::TooBigInlineRequest)? else {
            return Ok(Progress::Incomplete { wanted_bytes: 1 });
        };
        let line = &input[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if inline::has_quotes(line) {
            self.decoded_line = line.to_vec();
            inline::split_quoted(&mut self.decoded_line, &mut self.arguments)?;
        } else {
            inline::split_plain(line, &mut self.arguments);
        }
        Ok(self.complete(newline + 1))
    }

    /// Reads the `*` header. False if it is still incomplete.
    fn parse_argument_count(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let Some((count, next)) = self.length_line(input, ProtocolError::TooBigCountString)? else {
            return Ok(false);
        };
        let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
        // A negative count is an empty command, like zero.
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if count > self.limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if !self.authenticated && count > self.limits.unauthenticated_arguments_max {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.arguments_left = count;
        self.stage = Stage::ArgumentLength;
        self.position = next;
        Ok(true)
    }

    fn parse_arguments(&mut self, input: &[u8]) -> Result<Progress, ProtocolError> {
        while self.arguments_left > 0 {
            let bytes = match self.stage {
                Stage::Argument { bytes } => bytes,
                _ => match self.parse_argument_length(input)? {
                    Some(bytes) => bytes,
                    None => return Ok(Progress::Incomplete { wanted_bytes: 1 }),
                },
            };
            let available = input.len().saturating_sub(self.position);
            let needed = bytes.saturating_add(2);
            if available < needed {
                self.stage = Stage::Argument { bytes };
                return Ok(Progress::Incomplete { wanted_bytes: needed - available });
            }
            self.arguments.push(self.position..self.position + bytes);
            self.position += needed;
            self.arguments_left -= 1;
            self.stage = Stage::ArgumentLength;
        }
        Ok(self.complete(self.position))
    }

    /// Reads a `$` header and moves to the argument's first byte. `None` if the header is still incomplete.
    #[inline]
    fn parse_argument_length(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        if let Some([b'$', digits @ ..]) = input.get(self.position..)
            && let Some((bytes, used)) = short_length_line(digits)
            && bytes <= self.bulk_bytes_max()
        {
            self.position += 1 + used;
            return Ok(Some(bytes));
        }
        self.parse_unusual_argument_length(input)
    }

    /// The careful path: headers that are cut off, wrong or longer than usual.
    #[cold]
    fn parse_unusual_argument_length(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some((length, next)) = self.length_line(input, ProtocolError::TooBigBulkCountString)? else {
            return Ok(None);
        };
        match input.get(self.position) {
            Some(b'$') | None => {}
            Some(other) => return Err(ProtocolError::ExpectedDollar(*other)),
        }
        let length = length.and_then(|length| usize::try_from(length).ok());
        let bytes = length.filter(|bytes| *bytes <= self.limits.bulk_bytes_max);
        let bytes = bytes.ok_or(ProtocolError::InvalidBulkLength)?;
        if bytes > self.bulk_bytes_max() {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.position = next;
        Ok(Some(bytes))
    }

    fn bulk_bytes_max(&self) -> usize {
        let cap = if self.authenticated { usize::MAX } else { self.limits.unauthenticated_bulk_bytes_max };
        self.limits.bulk_bytes_max.min(cap)
    }

    /// The number of the header line at `position` (`None` inside if it spells none), without its first byte,
    /// and where the next line begins. `None` if the line is still incomplete.
    fn length_line(
        &mut self,
        input: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        match self.find_line_end(input, b'\r', too_long)? {
            Some(end) if input.len() >= end + 2 => {
                let number = input.get(self.position + 1..end).and_then(parse_i64);
                Ok(Some((number, end + 2)))
            }
            _ => Ok(None),
        }
    }

    /// Where the line at `position` has its end byte. The limit is measured on the line, not on what happens
    /// to have arrived, so the answer does not depend on how the input is cut up.
    fn find_line_end(
        &mut self,
        input: &[u8],
        end_byte: u8,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let limit_end = self.position.saturating_add(self.limits.inline_bytes_max);
        let window_end = input.len().min(limit_end.saturating_add(1));
        let from = self.searched.max(self.position);
        match input.get(from..window_end).and_then(|window| find_byte(window, end_byte)) {
            Some(index) => {
                self.searched = from + index;
                Ok(Some(from + index))
            }
            None if window_end > limit_end => Err(too_long),
            None => {
                self.searched = from.max(window_end);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>, usize);

    /// Every command of `bytes`, when they arrive in pieces of the given sizes (used in turn).
    fn parse_in_pieces(parser: &mut RequestParser, bytes: &[u8], pieces: &[usize]) -> Commands {
        let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
        let mut sizes = pieces.iter().copied().cycle();
        loop {
            match parser.parse(&bytes[start..end]) {
                Err(error) => return (commands, Some(error), start),
                Ok(Progress::Complete { consumed }) => {
                    let input = &bytes[start..end];
                    let list = (0..parser.arguments().len())
                        .map(|index| parser.argument(input, index).unwrap().to_vec());
                    commands.push(list.collect());
                    start += consumed;
                }
                Ok(Progress::Incomplete { wanted_bytes }) => {
                    assert!(wanted_bytes > 0);
                    if end == bytes.len() {
                        return (commands, None, start);
                    }
                    end = bytes.len().min(end + sizes.next().unwrap_or(usize::MAX).max(1));
                }
            }
        }
    }

    fn parse_all(bytes: &[u8]) -> Commands {
        parse_in_pieces(&mut RequestParser::new(Limits::default()), bytes, &[bytes.len()])
    }

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            out.extend(format!("${}\r\n", argument.len()).bytes());
            out.extend(argument);
            out.extend(b"\r\n");
        }
        out
    }

    fn long(prefix: &str, count: usize, suffix: &str) -> Vec<u8> {
        [prefix.as_bytes(), &vec![b'1'; count], suffix.as_bytes()].concat()
    }

    #[test]
    fn a_pipeline_of_both_kinds() {
        let (commands, error, rest) =
            parse_all(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING 'x y'\n\r\n*0\r\n*-1\r\n*1\r\n$4\r\nPI");
        let expected: &[&[&[u8]]] = &[&[b"GET", b"a"], &[b"PING", b"x y"], &[], &[], &[]];
        assert_eq!(commands, expected);
        assert_eq!((error, rest), (None, 42));
    }

    #[test]
    fn lenient_where_redis_is() {
        assert_eq!(parse_all(b"*1\rx$4\rxPINGxx").0, [[b"PING"]]);
        assert_eq!(parse_all(b"*1\r\n$0\r\n\r\n").0, [[b""]]);
        assert_eq!(parse_all(b"PING\r\r\n").0, [[b"PING"]]);
    }

    #[test]
    fn errors_as_redis_words_them() {
        let limit = Limits::DEFAULT.inline_bytes_max;
        let table: &[(Vec<u8>, &str)] = &[
            (b"*\r\n".to_vec(), "invalid multibulk length"),
            (b"*a\r\n".to_vec(), "invalid multibulk length"),
            (b"*01\r\n".to_vec(), "invalid multibulk length"),
            (b"*+1\r\n".to_vec(), "invalid multibulk length"),
            (b"* 1\r\n".to_vec(), "invalid multibulk length"),
            (b"*-0\r\n".to_vec(), "invalid multibulk length"),
            (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
            (b"*-9223372036854775809\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\x00\r\n".to_vec(), "invalid multibulk length"),
            (b"*1\r\n+4\r\n".to_vec(), "expected '$', got '+'"),
            (b"*1\r\n\r\n".to_vec(), "expected '$', got ' '"),
            (b"*1\r\n\nPING\r\n".to_vec(), "expected '$', got ' '"),
            (b"*1\r\n\xff\r\n".to_vec(), "expected '$', got '?'"),
            (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$04\r\nPING\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$00\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$99999999999999999999\r\n".to_vec(), "invalid bulk length"),
            (long("*", limit, ""), "too big mbulk count string"),
            (long("*1\r\n$", limit, ""), "too big bulk count string"),
            (long("*1\r\nx", limit, ""), "too big bulk count string"),
            (long("", limit + 1, ""), "too big inline request"),
            (long("", limit + 1, "\n"), "too big inline request"),
            (b"PING \"a\r\n".to_vec(), "unbalanced quotes in request"),
            (b"PING 'a\r\n".to_vec(), "unbalanced quotes in request"),
            (b"PING \"a\"b\r\n".to_vec(), "unbalanced quotes in request"),
        ];
        for (bytes, text) in table {
            let (_, error, _) = parse_all(bytes);
            let start = bytes[..bytes.len().min(40)].escape_ascii();
            assert_eq!(
                error.map(|error| error.to_string()),
                Some(format!("Protocol error: {text}")),
                "{start}"
            );
        }
    }

    #[test]
    fn the_longest_lines_that_pass() {
        let limit = Limits::DEFAULT.inline_bytes_max;
        for bytes in [long("", limit, ""), long("*", limit - 1, ""), long("*1\r\n$", limit - 1, "")] {
            assert_eq!(parse_all(&bytes).1, None);
        }
        assert_eq!(parse_all(&long("", limit, "\n")).0[0][0].len(), limit);
    }

    #[test]
    fn stricter_before_authentication() {
        let mut parser = RequestParser::new(Limits::default());
        parser.set_authenticated(false);
        let table: &[(&[u8], Option<&str>)] = &[
            (b"*10\r\n", None),
            (b"*11\r\n", Some("unauthenticated multibulk length")),
            (b"*1\r\n$16384\r\n", None),
            (b"*1\r\n$16385\r\n", Some("unauthenticated bulk length")),
            (b"*1\r\n$536870913\r\n", Some("invalid bulk length")),
            (b"*1048577\r\n", Some("invalid multibulk length")),
        ];
        for (bytes, text) in table {
            parser.reset();
            let error = parser.parse(bytes).err().map(|error| error.to_string());
            assert_eq!(error, text.map(|text| format!("Protocol error: {text}")), "{}", bytes.escape_ascii());
        }
        parser.reset();
        parser.set_authenticated(true);
        assert!(parser.parse(b"*11\r\n$16385\r\n").is_ok());
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        let mut parser = RequestParser::new(Limits { bulk_bytes_max: usize::MAX, ..Limits::default() });
        assert_eq!(parser.parse(b"*1048576\r\n"), Ok(Progress::Incomplete { wanted_bytes: 1 }));
        assert_eq!(parser.arguments.capacity(), 0);
        let wanted_bytes = i64::MAX as usize + 2;
        assert_eq!(
            parser.parse(b"*1048576\r\n$9223372036854775807\r\n"),
            Ok(Progress::Incomplete { wanted_bytes })
        );
        assert_eq!(parser.arguments.capacity() + parser.decoded_line.capacity(), 0);
    }

    #[test]
    fn a_large_command_leaves_no_large_list() {
        let mut parser = RequestParser::new(Limits::default());
        let bytes = encode(&vec![b"x".to_vec(); 5000]);
        assert_eq!(parser.parse(&bytes), Ok(Progress::Complete { consumed: bytes.len() }));
        assert_eq!(parser.arguments().len(), 5000);
        parser.reset();
        assert_eq!(parser.arguments.capacity(), 0);
    }

    #[test]
    fn a_large_bulk_in_small_pieces_names_what_it_wants() {
        let bytes = encode(&[vec![b'x'; 1_000_000]]);
        let mut parser = RequestParser::new(Limits::default());
        for end in (20..bytes.len()).step_by(4096) {
            let wanted_bytes = bytes.len() - end;
            assert_eq!(parser.parse(&bytes[..end]), Ok(Progress::Incomplete { wanted_bytes }));
        }
        assert_eq!(parser.parse(&bytes), Ok(Progress::Complete { consumed: bytes.len() }));
    }

    /// Mostly commands, damaged here and there.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let argument = vec(any::<u8>(), 0..20);
        let command = vec(argument, 0..5).prop_map(|command| encode(&command));
        let line =
            select(vec![&b"PING\r\n"[..], b"\r\n", b"\n", b"SET a \"b\\x41\"\r\n", b"*-1\r\n", b"a 'b"]);
        let noise = vec(select(&b"*$\r\n0123-\"' ab\x00\xff"[..]), 0..12);
        let part = prop_oneof![6 => command, 2 => line.prop_map(<[u8]>::to_vec), 1 => noise];
        vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    fn small_limits() -> Limits {
        Limits { inline_bytes_max: 24, arguments_max: 4, bulk_bytes_max: 16, ..Limits::default() }
    }

    proptest! {
        #[test]
        fn commands_round_trip(commands in vec(vec(vec(any::<u8>(), 0..300), 0..6), 0..6)) {
            let bytes = commands.iter().map(|command| encode(command)).collect::<Vec<_>>().concat();
            prop_assert_eq!(parse_all(&bytes), (commands, None, bytes.len()));
        }

        #[test]
        fn pieces_make_no_difference(
            bytes in stream(),
            pieces in vec(1usize..9, 1..9),
            small: bool,
            authenticated: bool,
        ) {
            let limits = if small { small_limits() } else { Limits::default() };
            let parser = || {
                let mut parser = RequestParser::new(limits);
                parser.set_authenticated(authenticated);
                parser
            };
            let whole = parse_in_pieces(&mut parser(), &bytes, &[usize::MAX]);
            prop_assert_eq!(parse_in_pieces(&mut parser(), &bytes, &pieces), whole.clone());
            prop_assert_eq!(parse_in_pieces(&mut parser(), &bytes, &[1]), whole);
        }

        #[test]
        fn any_bytes_in_pieces(bytes in vec(any::<u8>(), 0..200), pieces in vec(1usize..50, 1..5)) {
            let mut parser = RequestParser::new(small_limits());
            let cut = parse_in_pieces(&mut parser, &bytes, &pieces);
            parser.reset();
            prop_assert_eq!(parse_in_pieces(&mut parser, &bytes, &[usize::MAX]), cut);
        }
    }
}
