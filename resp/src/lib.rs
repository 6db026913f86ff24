//! RESP2 and RESP3: the protocols of Redis, and nothing of its commands.
//!
//! | file | what |
//! |---|---|
//! | `limits` | every bound |
//! | `error` | what can be wrong, in Redis's words |
//! | `scan` | line ends and numbers |
//! | `inline` | commands typed as a line of words |
//! | `request` | [`RequestParser`]: bytes of a client to ranges of arguments, in any pieces |
//! | `peek` | [`peek()`](peek()): a look at a request whose turn has not come |
//! | `digits` | the digits of doubles |
//! | `reply` | [`ReplyWriter`]: replies in either protocol |
//! | `value` | [`ReplyReader`]: replies back to values, for tests and tools |
//!
//! Files import only from files listed above them. Nothing here does I/O, reads a clock or allocates by an
//! announced length; buffers belong to the caller.
//!
//! ```
//! use haypile_resp::{Limits, Progress, Protocol, ReplyReader, ReplyWriter, RequestParser, Value};
//!
//! let mut parser = RequestParser::new(Limits::default());
//! let input = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nPING\r\n";
//! assert_eq!(parser.parse(&input[..9])?, Progress::Incomplete { wanted_bytes: 5 });
//! assert_eq!(parser.parse(input)?, Progress::Complete { consumed: 22 });
//! assert_eq!(parser.argument(input, 1), Some(&b"hi"[..]));
//!
//! let mut writer = ReplyWriter::new(Protocol::Resp2);
//! writer.bulk(b"hi");
//! let mut reader = ReplyReader::default();
//! reader.feed(writer.buffer());
//! assert_eq!(reader.next()?, Some(Value::Bulk(b"hi".to_vec())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod limits;
mod error;
mod scan;
mod inline;
mod request;
mod peek;
mod digits;
mod reply;
mod value;

pub use error::{ProtocolError, ReplyError};
pub use limits::{Limits, ReplyLimits};
pub use peek::{Peeked, peek};
pub use reply::{Mark, Protocol, ReplyWriter, Sink, append_double, append_integer};
pub use request::{Progress, RequestParser};
pub use scan::{parse_i64, parse_u64};
pub use value::{ReplyReader, Value};
