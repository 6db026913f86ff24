//! Every bound of the protocol.
//!
//! A client announces lengths before it sends bytes, so each announced number is compared with a limit here
//! before anything else looks at it, and none of them ever sizes an allocation: memory grows only with bytes
//! that have arrived. The defaults are those of Redis 7.4 (`proto-max-bulk-len`, the 64 KiB line, the caps
//! before authentication); only the argument count is lower than Redis's `INT_MAX`.
//!
//! What is not bounded here is a whole request (many large arguments): the caller owns the unconsumed bytes
//! and bounds their sum, as `client-query-buffer-limit` does in Redis.

/// What a client may announce in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest inline command and longest length header, terminator included.
    pub inline_bytes_max: usize,
    /// Most arguments in one request.
    pub arguments_max: usize,
    /// Longest single argument (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Most arguments before authentication.
    pub unauthenticated_arguments_max: usize,
    /// Longest single argument before authentication.
    pub unauthenticated_bulk_bytes_max: usize,
}

impl Limits {
    /// The defaults of Redis.
    pub const DEFAULT: Self = Self {
        inline_bytes_max: 64 << 10,
        arguments_max: 1 << 20,
        bulk_bytes_max: 512 << 20,
        unauthenticated_arguments_max: 10,
        unauthenticated_bulk_bytes_max: 16 << 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a server may announce in a reply, for [`crate::ReplyReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Longest line: a length header, a simple string, an error, a number.
    pub line_bytes_max: usize,
    /// Longest bulk string.
    pub bulk_bytes_max: usize,
    /// Most elements in one aggregate; a map counts its keys and its values.
    pub elements_max: usize,
    /// Deepest nesting of aggregates.
    pub depth_max: usize,
}

impl ReplyLimits {
    /// Enough for every reply of a Redis server.
    pub const DEFAULT: Self =
        Self { line_bytes_max: 1 << 20, bulk_bytes_max: 1 << 30, elements_max: 1 << 30, depth_max: 64 };
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Elements of per-connection lists kept for reuse; a larger list is given back after the command that needed
/// it.
pub(crate) const RETAINED_ARGUMENTS: usize = 256;

const _: () = assert!(Limits::DEFAULT.unauthenticated_arguments_max <= Limits::DEFAULT.arguments_max);
const _: () = assert!(Limits::DEFAULT.unauthenticated_bulk_bytes_max <= Limits::DEFAULT.bulk_bytes_max);
const _: () = assert!(RETAINED_ARGUMENTS <= Limits::DEFAULT.arguments_max);
