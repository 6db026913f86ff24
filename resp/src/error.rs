//! What can be wrong with the bytes of a peer.
//!
//! A [`ProtocolError`] ends the connection: after one, nobody knows where the next command begins. Its text
//! is what Redis answers in the same case, without the `-ERR ` in front, because clients and their tests
//! match on it. [`ReplyError`] is the reader's side and meant for people.

use std::fmt;

/// A request that breaks the protocol. Answer with the text, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line that does not begin with `*` has no end within the limit.
    TooBigInlineRequest,
    /// The quotes of an inline command do not close, or text follows a closing quote.
    UnbalancedQuotes,
    /// The argument count has no end within the limit.
    TooBigCountString,
    /// The argument count is not a number, or too large.
    InvalidMultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    UnauthenticatedMultibulkLength,
    /// A length header has no end within the limit.
    TooBigBulkCountString,
    /// An argument begins with this byte rather than `$`.
    ExpectedDollar(u8),
    /// An argument's length is not a number, negative, or too large.
    InvalidBulkLength,
    /// A longer argument than a client may send before it has authenticated.
    UnauthenticatedBulkLength,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::TooBigInlineRequest => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::TooBigCountString => "too big mbulk count string",
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigBulkCountString => "too big bulk count string",
            Self::ExpectedDollar(byte) => {
                return write!(formatter, "Protocol error: expected '$', got '{}'", printable(*byte));
            }
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
        };
        write!(formatter, "Protocol error: {what}")
    }
}

impl std::error::Error for ProtocolError {}

/// Redis echoes the byte as it is, but for line ends, which would break the reply. A byte that is no ASCII
/// cannot stand in a Rust string by itself and shows as `?`.
fn printable(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        0x80.. => '?',
        ascii => char::from(ascii),
    }
}

/// A reply that breaks the protocol or a limit of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// No reply begins with this byte.
    UnknownKind(u8),
    /// A line has no end within the limit.
    LineTooLong,
    /// A line ends in `\r` without `\n`, or a bulk is not followed by `\r\n`.
    MissingLineEnd,
    /// A length is not a number, negative, or over its limit.
    InvalidLength,
    /// A number, boolean or null does not read as one.
    InvalidScalar,
    /// A verbatim string has no three-letter format in front.
    InvalidVerbatim,
    /// Aggregates nested deeper than the limit.
    TooDeep,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(byte) => write!(formatter, "no reply begins with byte 0x{byte:02x}"),
            Self::LineTooLong => formatter.write_str("reply line too long"),
            Self::MissingLineEnd => formatter.write_str("reply line does not end in CRLF"),
            Self::InvalidLength => formatter.write_str("invalid length in reply"),
            Self::InvalidScalar => formatter.write_str("invalid number, boolean or null in reply"),
            Self::InvalidVerbatim => formatter.write_str("verbatim string without a format"),
            Self::TooDeep => formatter.write_str("reply nested too deep"),
        }
    }
}

impl std::error::Error for ReplyError {}
