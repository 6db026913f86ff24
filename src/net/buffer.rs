//! Input of a connection between turns: the unfinished tail, and the parser that is in the midst of it.
//!
//! A worker reads into one buffer that all its connections share. What a turn leaves of it (half a command, or commands
//! beyond the turn's share) is kept here until the next. A small tail is copied to the front of the shared buffer and read behind; a large
//! one (a long value that arrives in pieces) stays where it is and grows by what arrives, so each byte is copied a bounded
//! number of times. A connection with nothing unfinished keeps no memory here.

use haypile_resp::RequestParser;

/// A tail up to this size goes through the shared buffer.
pub const TAIL_SMALL_BYTES: usize = 32 << 10;
/// Most bytes read from one connection in one turn.
pub const READ_BYTES_MAX: usize = 64 << 10;
/// Size of the shared buffer.
pub const SHARED_BYTES: usize = TAIL_SMALL_BYTES + READ_BYTES_MAX;

const _: () = assert!(TAIL_SMALL_BYTES <= READ_BYTES_MAX);

/// See the module.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
    parser: Option<Box<RequestParser>>,
    /// Whether the tail may hold whole commands: it must be parsed before more is read.
    unparsed: bool,
}

impl Tail {
    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there may be whole commands in it.
    pub fn is_unparsed(&self) -> bool {
        self.unparsed && !self.bytes.is_empty()
    }

    /// Whether the tail is small enough to go through the shared buffer.
    pub fn is_small(&self) -> bool {
        self.bytes.len() <= TAIL_SMALL_BYTES
    }

    /// The parser that goes with the tail, if it is in the midst of a command.
    pub fn take_parser(&mut self) -> Option<Box<RequestParser>> {
        self.parser.take()
    }

    /// Moves a small tail to the front of `shared`; returns its length.
    pub fn move_to(&mut self, shared: &mut [u8]) -> usize {
        let count = self.bytes.len();
        if let Some(front) = shared.get_mut(..count) {
            front.copy_from_slice(&self.bytes);
        }
        self.bytes = Vec::new();
        count
    }

    /// Takes a large tail out, with `read` behind it.
    pub fn take_with(&mut self, read: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(read);
        bytes
    }

    /// Keeps `rest`, and `parser` if it is in the midst of the command that `rest` begins with.
    pub fn keep(&mut self, rest: Vec<u8>, parser: Option<Box<RequestParser>>, unparsed: bool) {
        self.bytes = rest;
        self.parser = parser;
        self.unparsed = unparsed;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Tail::default();
    }
}

/// Cuts `taken` bytes off the front of a large tail. What is left of it moves, so this is done once a turn.
pub fn cut_front(mut bytes: Vec<u8>, taken: usize) -> Vec<u8> {
    if taken == 0 {
        return bytes;
    }
    if bytes.len() - taken <= bytes.len() / 2 {
        return bytes.get(taken..).unwrap_or_default().to_vec();
    }
    bytes.drain(..taken);
    bytes
}
