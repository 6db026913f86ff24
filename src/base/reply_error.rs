//! What a client is told when a command cannot do what it asks, in Redis's words.

use std::borrow::Cow;

/// The whole text of an error reply, its code first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError(Cow<'static, str>);

/// The longest piece of a client's own words that an error repeats, in bytes. Redis has no such bound.
const ECHO_BYTES_MAX: usize = 64 << 10;

/// The same for names of commands, as in Redis.
const ECHO_NAME_BYTES_MAX: usize = 128;

impl ReplyError {
    /// A command on a key of another type.
    pub const WRONG_TYPE: ReplyError =
        ReplyError::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// Options that do not parse.
    pub const SYNTAX: ReplyError = ReplyError::fixed("ERR syntax error");
    /// Not a 64-bit integer.
    pub const NOT_AN_INTEGER: ReplyError = ReplyError::fixed("ERR value is not an integer or out of range");
    /// Not a floating-point number.
    pub const NOT_A_FLOAT: ReplyError = ReplyError::fixed("ERR value is not a valid float");
    /// RENAME of nothing.
    pub const NO_SUCH_KEY: ReplyError = ReplyError::fixed("ERR no such key");
    /// A number that must fit 32 bits and does not.
    pub const NOT_32_BITS: ReplyError =
        ReplyError::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
    /// The smallest number, where its negative is wanted as well.
    pub const HAS_NO_NEGATIVE: ReplyError = ReplyError::fixed(
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    );
    /// A database that is not there.
    pub const DB_OUT_OF_RANGE: ReplyError = ReplyError::fixed("ERR DB index is out of range");
    /// MOVE or COPY onto itself.
    pub const SAME_OBJECT: ReplyError = ReplyError::fixed("ERR source and destination objects are the same");
    /// A string would grow past 512 MB.
    pub const STRING_TOO_LONG: ReplyError =
        ReplyError::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    /// An offset below zero.
    pub const OFFSET_OUT_OF_RANGE: ReplyError = ReplyError::fixed("ERR offset is out of range");
    /// INCR and its kin past 64 bits.
    pub const INCREMENT_OVERFLOW: ReplyError = ReplyError::fixed("ERR increment or decrement would overflow");
    /// DECRBY of the one number without a negative.
    pub const DECREMENT_OVERFLOW: ReplyError = ReplyError::fixed("ERR decrement would overflow");
    /// INCRBYFLOAT out of the numbers.
    pub const NOT_FINITE: ReplyError = ReplyError::fixed("ERR increment would produce NaN or Infinity");
    /// A key longer than the engine takes. Redis has no such limit; a listed deviation.
    pub const KEY_TOO_LONG: ReplyError = ReplyError::fixed("ERR key is too long (the limit is 1 MiB)");

    /// An error whose text is known.
    pub const fn fixed(text: &'static str) -> ReplyError {
        ReplyError(Cow::Borrowed(text))
    }

    /// An error whose text was made.
    pub fn new(text: impl Into<Cow<'static, str>>) -> ReplyError {
        ReplyError(text.into())
    }

    /// Too few or too many arguments.
    pub fn wrong_arity(command: &str) -> ReplyError {
        ReplyError::new(format!("ERR wrong number of arguments for '{command}' command"))
    }

    /// An expiry that cannot be.
    pub fn invalid_expire(command: &str) -> ReplyError {
        ReplyError::new(format!("ERR invalid expire time in '{command}' command"))
    }

    /// A subcommand that a container command does not have.
    pub fn unknown_subcommand(container: &str, subcommand: &[u8]) -> ReplyError {
        let subcommand = ReplyError::echo_name(subcommand);
        ReplyError::new(format!("ERR unknown subcommand '{subcommand}'. Try {container} HELP."))
    }

    /// A subcommand with words that it does not take.
    pub fn wrong_words(container: &[u8], subcommand: &[u8]) -> ReplyError {
        let container = ReplyError::echo(&container.to_ascii_uppercase());
        let subcommand = ReplyError::echo_name(subcommand);
        ReplyError::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {container} HELP."
        ))
    }

    /// A client's own word, made fit to be repeated in an error: each byte as the character of that number, which the reply
    /// writer turns back into the byte.
    pub fn echo(word: &[u8]) -> String {
        ReplyError::echo_up_to(word, ECHO_BYTES_MAX)
    }

    /// The same for the name of a command.
    pub fn echo_name(word: &[u8]) -> String {
        ReplyError::echo_up_to(word, ECHO_NAME_BYTES_MAX)
    }

    fn echo_up_to(word: &[u8], bytes_max: usize) -> String {
        // Redis prints a C string: it ends at the first zero.
        word.iter().take_while(|&&byte| byte != 0).take(bytes_max).map(|&byte| char::from(byte)).collect()
    }

    /// The text, its code first.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The code: the first word.
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
