//! What all blocking commands share: their timeouts, and how a handler says that it found nothing and wants to wait.
//!
//! A blocking command's handler looks at its keys as the plain form does. If it finds something it answers; if not it calls [`wait`], writes
//! nothing and returns. The same handler is run again when one of the keys is ready (see `service.rs`), and then skips the keys
//! that [`Session::may_take`](crate::session::session::Session::may_take) denies it.

use crate::base::extended::Extended;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::session::waiters::Wanted;

const OUT_OF_RANGE: ReplyError = ReplyError::fixed("ERR timeout is out of range");

/// When a command with a timeout in seconds, fractions allowed, gives up (monotonic ms); 0 is never, `u64::MAX`.
pub fn timeout_seconds(ctx: &Context<'_>, word: &[u8]) -> Result<u64, ReplyError> {
    let seconds = Extended::parse(word);
    let seconds = seconds.ok_or(ReplyError::fixed("ERR timeout is not a float or out of range"))?;
    until(ctx, seconds.thousandfold_ceil().ok_or(OUT_OF_RANGE)?)
}

/// When a command with a timeout in milliseconds gives up (monotonic ms); 0 is never, `u64::MAX`.
pub fn timeout_milliseconds(ctx: &Context<'_>, word: &[u8]) -> Result<u64, ReplyError> {
    let timeout_ms = parse_i64(word);
    until(ctx, timeout_ms.ok_or(ReplyError::fixed("ERR timeout is not an integer or out of range"))?)
}

fn until(ctx: &Context<'_>, timeout_ms: i64) -> Result<u64, ReplyError> {
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| ReplyError::fixed("ERR timeout is negative"))?;
    if timeout_ms == 0 {
        return Ok(u64::MAX);
    }
    if timeout_ms > i64::MAX as u64 - ctx.txn.now_ms() {
        return Err(OUT_OF_RANGE);
    }
    Ok(ctx.server.clock.monotonic_ms().saturating_add(timeout_ms))
}

/// A wait for values of a type under some keys, until a time. Nothing else is touched when it is served.
pub fn wanted<'k>(keys: impl Iterator<Item = &'k [u8]>, kind: Kind, until_ms: u64) -> Wanted {
    Wanted {
        keys: keys.map(<[u8]>::to_vec).collect(),
        also: Vec::new(),
        kind,
        on_any_change: false,
        words: None,
        until_ms,
    }
}

/// Waits, as the last thing that a handler does. Where nothing may wait (in a transaction) it answers at once that nothing came.
pub fn wait(ctx: &mut Context<'_>, wanted: Wanted) {
    if ctx.session.may_block {
        ctx.session.wanted = Some(Box::new(wanted));
    } else {
        ctx.reply.null_array();
    }
}
