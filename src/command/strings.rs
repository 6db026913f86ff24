//! String commands: words in, effects by `types/strings.rs`, replies out.

use crate::base::args::{Args, is_keyword};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::store::limits::STRING_BYTES_MAX;
use crate::store::txn::{At, Slot, Txn};
use crate::types::keys;
use crate::types::lcs;
use crate::types::string_value::{Segments, Stored, length, stored, view};
use crate::types::strings::{self, Condition, Expiry};
use haypile_resp::ReplyWriter;
use std::ops::ControlFlow;

// Replies with a string.

fn reply_bytes(reply: &mut ReplyWriter, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => reply.bulk(bytes),
        None => reply.null(),
    }
}

/// Answers a part of a string in segments.
fn reply_segments(
    txn: &mut Txn,
    reply: &mut ReplyWriter,
    segments: Segments,
    range: std::ops::Range<u64>,
) -> Result<(), Stop> {
    // All of it or nothing: no use in copying half of it and then finding that it is too much for here.
    let length = range.end - range.start;
    txn.charge(0, length)?;
    reply.raw(format!("${length}\r\n").as_bytes());
    segments.pieces(txn, range, |piece| {
        reply.raw(piece);
        ControlFlow::Continue(())
    })?;
    reply.raw(b"\r\n");
    Ok(())
}

/// Answers the string of a key, or null.
#[inline]
fn reply_value(txn: &mut Txn, reply: &mut ReplyWriter, at: At<'_>) -> Result<(), Stop> {
    if view(txn, at, |bytes| reply_bytes(reply, bytes))?.is_ok() {
        return Ok(());
    }
    txn.pin();
    match view(txn, at, |bytes| reply_bytes(reply, bytes))? {
        Ok(()) => Ok(()),
        Err(segments) => reply_segments(txn, reply, segments, 0..segments.length),
    }
}

/// Answers the string of a key that was read under its lock, or null.
fn reply_slot(txn: &mut Txn, reply: &mut ReplyWriter, at: At<'_>, slot: &Slot) -> Result<(), Stop> {
    txn.note_read(at, slot.is_live());
    let Some(head) = slot.head() else {
        reply.null();
        return Ok(());
    };
    match stored(at.space, head, slot.body())? {
        Stored::Inline(bytes) => reply.bulk(bytes),
        Stored::Segments(segments) => reply_segments(txn, reply, segments, 0..segments.length)?,
    }
    Ok(())
}

// Expiry and other options.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// An expiry as it was written.
#[derive(Clone, Copy, Debug)]
struct ExpiryOption<'a> {
    text: &'a [u8],
    unit: Unit,
    /// A time since 1970 rather than from now.
    absolute: bool,
}

impl<'a> ExpiryOption<'a> {
    fn after(text: &'a [u8], unit: Unit) -> ExpiryOption<'a> {
        ExpiryOption { text, unit, absolute: false }
    }

    /// Milliseconds since 1970; above zero.
    fn resolve(&self, now_ms: u64, command: &str) -> Result<u64, ReplyError> {
        let value = parse_i64(self.text).ok_or(ReplyError::NOT_AN_INTEGER)?;
        let scaled = match self.unit {
            Unit::Seconds => value.checked_mul(1000),
            Unit::Milliseconds => Some(value),
        };
        let from = if self.absolute { 0 } else { now_ms as i64 };
        scaled
            .filter(|scaled| *scaled > 0)
            .and_then(|scaled| scaled.checked_add(from))
            .map(|expire_ms| expire_ms as u64)
            .ok_or_else(|| ReplyError::invalid_expire(command))
    }
}

/// Options of SET and GETEX.
#[derive(Clone, Copy, Debug, Default)]
struct ValueOptions<'a> {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<ExpiryOption<'a>>,
    /// The keyword of `expiry`, to tell a repetition from a contradiction.
    expiry_keyword: Option<&'static str>,
}

const EXPIRY_KEYWORDS: [(&str, Unit, bool); 4] = [
    ("EX", Unit::Seconds, false),
    ("PX", Unit::Milliseconds, false),
    ("EXAT", Unit::Seconds, true),
    ("PXAT", Unit::Milliseconds, true),
];

impl<'a> ValueOptions<'a> {
    /// Reads options from word `from` on: those of SET if `of_set`, else those of GETEX.
    fn parse(args: &Args<'a>, from: usize, of_set: bool) -> Result<ValueOptions<'a>, ReplyError> {
        let mut options = ValueOptions::default();
        let mut words = args.options(from);
        while let Some(word) = words.next_word() {
            let is = |keyword| is_keyword(word, keyword);
            if of_set && is("NX") && !options.if_present {
                options.if_absent = true;
            } else if of_set && is("XX") && !options.if_absent {
                options.if_present = true;
            } else if of_set && is("GET") {
                options.get = true;
            } else if of_set && is("KEEPTTL") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if !of_set && is("PERSIST") && options.expiry.is_none() {
                options.persist = true;
            } else {
                options.parse_expiry(word, words.value()?)?;
            }
        }
        Ok(options)
    }

    fn parse_expiry(&mut self, keyword: &[u8], text: &'a [u8]) -> Result<(), ReplyError> {
        let found = EXPIRY_KEYWORDS.iter().find(|(own, ..)| is_keyword(keyword, own));
        let &(keyword, unit, absolute) = found.ok_or(ReplyError::SYNTAX)?;
        let contradicts = self.expiry_keyword.is_some_and(|before| before != keyword);
        if contradicts || self.keep_ttl || self.persist {
            return Err(ReplyError::SYNTAX);
        }
        self.expiry_keyword = Some(keyword);
        self.expiry = Some(ExpiryOption { text, unit, absolute });
        Ok(())
    }
}

/// Notes what SET and its kin did; `expire_ms` is the expiry given, 0 for none.
fn note_set(txn: &mut Txn, at: At<'_>, expire_ms: u64) {
    txn.event(EventClass::STRING, "set", at);
    if expire_ms != 0 {
        txn.event(EventClass::GENERIC, "expire", at);
        if expire_ms <= txn.now_ms() {
            txn.event(EventClass::EXPIRED, "expired", at);
        }
    }
}

// Commands.

/// GET key
pub fn get(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    reply_value(ctx.txn, ctx.reply, at)
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub fn set(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (key, value) = (ctx.args.get(1), ctx.args.get(2));
    let at = ctx.txn.at(key)?;
    if ctx.args.len() == 3 {
        strings::set_blindly(ctx.txn, at, value, 0)?;
        note_set(ctx.txn, at, 0);
        ctx.reply.ok();
        return Ok(());
    }
    let options = ValueOptions::parse(&ctx.args, 3, true)?;
    let expiry = match options.expiry {
        Some(expiry) => Expiry::At(expiry.resolve(ctx.txn.now_ms(), "set")?),
        None if options.keep_ttl => Expiry::Keep,
        None => Expiry::None,
    };
    let condition = match (options.if_absent, options.if_present) {
        (true, _) => Condition::IfAbsent,
        (_, true) => Condition::IfPresent,
        _ => Condition::Always,
    };
    if condition == Condition::Always && !options.get {
        let blind = match expiry {
            Expiry::None => Some(0),
            Expiry::At(expire_ms) => Some(expire_ms),
            Expiry::Keep => None,
        };
        if let Some(expire_ms) = blind {
            strings::set_blindly(ctx.txn, at, value, expire_ms)?;
            note_set(ctx.txn, at, expire_ms);
            ctx.reply.ok();
            return Ok(());
        }
    }
    let slot = ctx.txn.load(at)?;
    if options.get {
        reply_slot(ctx.txn, ctx.reply, at, &slot)?;
    }
    let done = strings::set_slot(ctx.txn, at, &slot, value, condition, expiry)?;
    if done {
        note_set(ctx.txn, at, if let Expiry::At(expire_ms) = expiry { expire_ms } else { 0 });
    }
    match (options.get, done) {
        (true, _) => {}
        (false, true) => ctx.reply.ok(),
        (false, false) => ctx.reply.null(),
    }
    ctx.txn.recycle(slot);
    Ok(())
}

/// SETNX key value
pub fn setnx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let slot = ctx.txn.load(at)?;
    let value = ctx.args.get(2);
    let done = strings::set_slot(ctx.txn, at, &slot, value, Condition::IfAbsent, Expiry::None)?;
    if done {
        note_set(ctx.txn, at, 0);
    }
    ctx.txn.recycle(slot);
    ctx.reply.integer(done.into());
    Ok(())
}

/// SETEX key seconds value
pub fn setex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_with_expiry(ctx, Unit::Seconds, "setex")
}

/// PSETEX key milliseconds value
pub fn psetex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_with_expiry(ctx, Unit::Milliseconds, "psetex")
}

fn set_with_expiry(ctx: &mut Context<'_>, unit: Unit, command: &str) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let expire_ms = ExpiryOption::after(ctx.args.get(2), unit).resolve(ctx.txn.now_ms(), command)?;
    strings::set_blindly(ctx.txn, at, ctx.args.get(3), expire_ms)?;
    note_set(ctx.txn, at, expire_ms);
    ctx.reply.ok();
    Ok(())
}

/// GETSET key value
pub fn getset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let slot = ctx.txn.load(at)?;
    reply_slot(ctx.txn, ctx.reply, at, &slot)?;
    strings::set_slot(ctx.txn, at, &slot, ctx.args.get(2), Condition::Always, Expiry::None)?;
    note_set(ctx.txn, at, 0);
    ctx.txn.recycle(slot);
    Ok(())
}

/// GETDEL key
pub fn getdel(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let slot = ctx.txn.load(at)?;
    reply_slot(ctx.txn, ctx.reply, at, &slot)?;
    ctx.txn.delete(at, &slot.before)?;
    if slot.is_live() {
        ctx.txn.event(EventClass::GENERIC, "del", at);
    }
    ctx.txn.recycle(slot);
    Ok(())
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub fn getex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let options = ValueOptions::parse(&ctx.args, 2, false)?;
    let slot = ctx.txn.load(at)?;
    let Some(head) = slot.head().copied() else {
        ctx.txn.note_read(at, false);
        ctx.reply.null();
        return Ok(());
    };
    if head.kind != Kind::String {
        return Err(ReplyError::WRONG_TYPE.into());
    }
    let expire_ms = match options.expiry {
        Some(expiry) => Some(expiry.resolve(ctx.txn.now_ms(), "getex")?),
        None => None,
    };
    reply_slot(ctx.txn, ctx.reply, at, &slot)?;
    if let Some(expire_ms) = expire_ms {
        keys::set_expiry(ctx.txn, at, &slot, head, expire_ms)?;
        keys::note_expiry(ctx.txn, at);
    } else if options.persist && head.expire_ms != 0 {
        ctx.txn.put_slot(at, &slot, crate::encoding::meta::Head { expire_ms: 0, ..head })?;
        ctx.txn.event(EventClass::GENERIC, "persist", at);
    }
    ctx.txn.recycle(slot);
    Ok(())
}

/// `MGET key [key ..]`
pub fn mget(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.array(ctx.args.len() - 1);
    if ctx.args.len() > 2 {
        ctx.txn.pin();
    }
    for key in ctx.args.from(1) {
        let at = ctx.txn.at(key)?;
        let start = ctx.reply.len();
        match reply_value(ctx.txn, ctx.reply, at) {
            Err(Stop::Reply(error)) if error == ReplyError::WRONG_TYPE => {
                ctx.reply.truncate(start);
                ctx.reply.null();
            }
            other => other?,
        }
    }
    Ok(())
}

/// `MSET key value [key value ..]`
pub fn mset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let pairs = pairs(&ctx.args, "mset")?;
    strings::set_many(ctx.txn, pairs)?;
    ctx.reply.ok();
    Ok(())
}

/// `MSETNX key value [key value ..]`
pub fn msetnx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let pairs = pairs(&ctx.args, "msetnx")?;
    let done = strings::set_many_if_absent(ctx.txn, pairs)?;
    ctx.reply.integer(done.into());
    Ok(())
}

fn pairs<'a>(
    args: &Args<'a>,
    command: &str,
) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a>, ReplyError> {
    if args.len() < 3 || args.len().is_multiple_of(2) {
        return Err(ReplyError::wrong_arity(command));
    }
    let args = *args;
    Ok((1..args.len()).step_by(2).map(move |index| (args.get(index), args.get(index + 1))))
}

/// APPEND key value
pub fn append(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length = strings::append(ctx.txn, at, ctx.args.get(2))?;
    ctx.txn.event(EventClass::STRING, "append", at);
    ctx.reply.integer(length as i64);
    Ok(())
}

/// STRLEN key
pub fn strlen(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length = length(ctx.txn, at)?;
    ctx.reply.integer(length as i64);
    Ok(())
}

/// SETRANGE key offset value
pub fn setrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let offset = u64::try_from(ctx.args.integer(2)?).map_err(|_| ReplyError::OFFSET_OUT_OF_RANGE)?;
    let length = strings::set_range(ctx.txn, at, offset, ctx.args.get(3))?;
    if !ctx.args.get(3).is_empty() {
        ctx.txn.event(EventClass::STRING, "setrange", at);
    }
    ctx.reply.integer(length as i64);
    Ok(())
}

/// GETRANGE key start end, also known as SUBSTR
pub fn getrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (start, end) = (ctx.args.integer(2)?, ctx.args.integer(3)?);
    let reply = &mut *ctx.reply;
    let answer = |reply: &mut ReplyWriter, bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or_default();
        let range = strings::resolve_range(start, end, bytes.len() as u64);
        reply.bulk(&bytes[range.start as usize..range.end as usize]);
    };
    if view(ctx.txn, at, |bytes| answer(reply, bytes))?.is_ok() {
        return Ok(());
    }
    ctx.txn.pin();
    match view(ctx.txn, at, |bytes| answer(reply, bytes))? {
        Ok(()) => Ok(()),
        Err(segments) => {
            let range = strings::resolve_range(start, end, segments.length);
            reply_segments(ctx.txn, reply, segments, range)
        }
    }
}

/// INCR key
pub fn incr(ctx: &mut Context<'_>) -> Result<(), Stop> {
    increment(ctx, 1)
}

/// DECR key
pub fn decr(ctx: &mut Context<'_>) -> Result<(), Stop> {
    increment(ctx, -1)
}

/// INCRBY key increment
pub fn incrby(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let by = ctx.args.integer(2)?;
    increment(ctx, by)
}

/// DECRBY key decrement
pub fn decrby(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let by = ctx.args.integer(2)?.checked_neg().ok_or(ReplyError::DECREMENT_OVERFLOW)?;
    increment(ctx, by)
}

fn increment(ctx: &mut Context<'_>, by: i64) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let value = strings::increment(ctx.txn, at, by)?;
    ctx.txn.event(EventClass::STRING, "incrby", at);
    ctx.reply.integer(value);
    Ok(())
}

/// INCRBYFLOAT key increment
pub fn incrbyfloat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let text = strings::increment_float(ctx.txn, at, ctx.args.get(2))?;
    ctx.txn.event(EventClass::STRING, "incrbyfloat", at);
    ctx.reply.bulk(text.as_bytes());
    Ok(())
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]`
pub fn lcs(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (a, b) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    let (a, b) = strings::load_two(ctx.txn, a, b).map_err(|stop| match stop {
        Stop::Reply(error) if error == ReplyError::WRONG_TYPE => {
            ReplyError::fixed("ERR The specified keys must contain string values").into()
        }
        stop => stop,
    })?;
    let (mut want_length, mut want_ranges, mut with_lengths, mut shortest) = (false, false, false, 0);
    let mut words = ctx.args.options(3);
    while let Some(word) = words.next_word() {
        if is_keyword(word, "IDX") {
            want_ranges = true;
        } else if is_keyword(word, "LEN") {
            want_length = true;
        } else if is_keyword(word, "WITHMATCHLEN") {
            with_lengths = true;
        } else if is_keyword(word, "MINMATCHLEN") {
            shortest = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?.max(0) as usize;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    if want_length && want_ranges {
        let error = "ERR If you want both the length and indexes, please just use IDX.";
        return Err(ReplyError::fixed(error).into());
    }
    if lcs::table_bytes(a.len(), b.len()).is_none_or(|bytes| bytes > STRING_BYTES_MAX) {
        let error = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        return Err(ReplyError::fixed(error).into());
    }
    ctx.txn.charge(0, a.len() as u64 * b.len() as u64)?;
    let stretches = lcs::stretches(&a, &b);
    let length = stretches.iter().map(lcs::Stretch::len).sum::<usize>();
    if want_length {
        ctx.reply.integer(length as i64);
    } else if want_ranges {
        let shown = stretches.iter().filter(|stretch| stretch.len() >= shortest);
        ctx.reply.map(2);
        ctx.reply.bulk(b"matches");
        ctx.reply.array(shown.clone().count());
        for stretch in shown {
            ctx.reply.array(2 + usize::from(with_lengths));
            for range in [&stretch.a, &stretch.b] {
                ctx.reply.array(2);
                ctx.reply.integer(*range.start() as i64);
                ctx.reply.integer(*range.end() as i64);
            }
            if with_lengths {
                ctx.reply.integer(stretch.len() as i64);
            }
        }
        ctx.reply.bulk(b"len");
        ctx.reply.integer(length as i64);
    } else {
        let mut common = Vec::with_capacity(length);
        stretches.iter().rev().for_each(|stretch| common.extend_from_slice(&a[stretch.a.clone()]));
        ctx.reply.bulk(&common);
    }
    Ok(())
}

/// What OBJECT ENCODING says of a string.
pub fn encoding_name(bytes: &[u8], raw: bool) -> &'static str {
    const EMBEDDED_BYTES_MAX: usize = 44;
    match bytes {
        _ if raw => "raw",
        _ if parse_i64(bytes).is_some() => "int",
        _ if bytes.len() <= EMBEDDED_BYTES_MAX => "embstr",
        _ => "raw",
    }
}
