//! Hash commands: words in, effects by `types/hashes.rs`, replies out.

use crate::base::args::{Args, is_keyword};
use crate::base::extended::Extended;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::scans::{ScanOptions, page_limit, reply_page};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::store::txn::At;
use crate::types::elements::Wanted;
use crate::types::hash_value::{self, FieldExpiry};
use crate::types::hashes::{self, FieldCondition, Part, SetCondition, Stretch};
use haypile_resp::{Protocol, ReplyWriter};

fn reply_value(reply: &mut ReplyWriter, value: Option<&[u8]>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

/// The words from `index` on, in pairs.
fn pairs<'a>(
    args: &Args<'a>,
    index: usize,
) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone + use<'a> {
    let args = *args;
    (0..args.len().saturating_sub(index) / 2)
        .map(move |pair| (args.get(index + 2 * pair), args.get(index + 2 * pair + 1)))
}

// Whole fields.

/// `HSET key field value [field value ..]`
pub fn hset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let added = set(ctx, "hset")?;
    ctx.reply.integer(added as i64);
    Ok(())
}

/// `HMSET key field value [field value ..]`
pub fn hmset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set(ctx, "hmset")?;
    ctx.reply.ok();
    Ok(())
}

fn set(ctx: &mut Context<'_>, command: &str) -> Result<u64, Stop> {
    if !ctx.args.len().is_multiple_of(2) {
        return Err(ReplyError::wrong_arity(command).into());
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    let added = hashes::set(ctx.txn, at, pairs(&ctx.args, 2))?;
    ctx.txn.event(EventClass::HASH, "hset", at);
    Ok(added)
}

/// HSETNX key field value
pub fn hsetnx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let done = hashes::set_if_absent(ctx.txn, at, ctx.args.get(2), ctx.args.get(3))?;
    if done {
        ctx.txn.event(EventClass::HASH, "hset", at);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

/// HGET key field
pub fn hget(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    hash_value::get(ctx.txn, at, ctx.args.get(2), |found| reply_value(reply, found.map(|(value, _)| value)))
}

/// `HMGET key field [field ..]`
pub fn hmget(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    ctx.reply.array(ctx.args.len() - 2);
    let reply = &mut *ctx.reply;
    hashes::values(ctx.txn, at, ctx.args.from(2), |value| reply_value(reply, value))
}

/// `HDEL key field [field ..]`
pub fn hdel(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let removed = hashes::delete(ctx.txn, at, ctx.args.from(2))?;
    if removed > 0 {
        ctx.txn.event_and_del(EventClass::HASH, "hdel", at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

/// HLEN key
pub fn hlen(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length = hash_value::length(ctx.txn, at)?;
    ctx.reply.integer(length as i64);
    Ok(())
}

/// HEXISTS key field
pub fn hexists(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let found = hash_value::get(ctx.txn, at, ctx.args.get(2), |found| found.is_some())?;
    ctx.reply.integer(found.into());
    Ok(())
}

/// HSTRLEN key field
pub fn hstrlen(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length =
        hash_value::get(ctx.txn, at, ctx.args.get(2), |found| found.map_or(0, |(value, _)| value.len()))?;
    ctx.reply.integer(length as i64);
    Ok(())
}

/// HINCRBY key field increment
pub fn hincrby(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let by = ctx.args.integer(3)?;
    let at = ctx.txn.at(ctx.args.get(1))?;
    let value = hashes::increment(ctx.txn, at, ctx.args.get(2), by)?;
    ctx.txn.event(EventClass::HASH, "hincrby", at);
    ctx.reply.integer(value);
    Ok(())
}

/// HINCRBYFLOAT key field increment
pub fn hincrbyfloat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let by = Extended::parse(ctx.args.get(3)).ok_or(ReplyError::NOT_A_FLOAT)?;
    if !by.is_finite() {
        return Err(ReplyError::fixed("ERR value is NaN or Infinity").into());
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    let text = hashes::increment_float(ctx.txn, at, ctx.args.get(2), by)?;
    ctx.txn.event(EventClass::HASH, "hincrbyfloat", at);
    ctx.reply.bulk(text.as_bytes());
    Ok(())
}

/// HGETALL key
pub fn hgetall(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    hashes::all(ctx.txn, at, |part| match part {
        Part::Count(count) => reply.map(count as usize),
        Part::Field(name, value) => {
            reply.bulk(name);
            reply.bulk(value);
        }
    })
}

/// HKEYS key
pub fn hkeys(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    hashes::all(ctx.txn, at, |part| match part {
        Part::Count(count) => reply.array(count as usize),
        Part::Field(name, _) => reply.bulk(name),
    })
}

/// HVALS key
pub fn hvals(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    hashes::all(ctx.txn, at, |part| match part {
        Part::Count(count) => reply.array(count as usize),
        Part::Field(_, value) => reply.bulk(value),
    })
}

/// `HRANDFIELD key [count [WITHVALUES]]`
pub fn hrandfield(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    if ctx.args.len() == 2 {
        let one = Wanted { count: 1, distinct: true };
        return hashes::random(ctx.txn, at, one, |part| match part {
            Part::Count(0) => reply.null(),
            Part::Count(_) => {}
            Part::Field(name, _) => reply.bulk(name),
        });
    }
    let count = ctx.args.integer_with_negative(2)?;
    let with_values = match ctx.args.len() {
        3 => false,
        4 if is_keyword(ctx.args.get(3), "WITHVALUES") => true,
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if with_values && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(ReplyError::fixed("ERR value is out of range").into());
    }
    let nested = with_values && reply.protocol() == Protocol::Resp3;
    hashes::random(ctx.txn, at, Wanted::from_count(count)?, |part| match part {
        Part::Count(count) if with_values && !nested => reply.array(count as usize * 2),
        Part::Count(count) => reply.array(count as usize),
        Part::Field(name, value) => {
            if nested {
                reply.array(2);
            }
            reply.bulk(name);
            if with_values {
                reply.bulk(value);
            }
        }
    })
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`
pub fn hscan(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(options) = ScanOptions::of_collection(ctx, at, Kind::Hash)? else { return Ok(()) };
    let (reply, txn) = (&mut *ctx.reply, &mut *ctx.txn);
    reply_page(reply, |reply| {
        let mut found = 0;
        let cursor = hashes::scan(txn, at, options.page, |name, value| {
            reply.bulk(name);
            found += 1;
            if !options.no_values {
                reply.bulk(value);
                found += 1;
            }
        })?;
        Ok((cursor, found))
    })
}

/// `PKHSCANRANGE key start end [MATCH pattern] [LIMIT count]`
pub fn pkhscanrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    scan_range(ctx, false)
}

/// `PKHRSCANRANGE key start end [MATCH pattern] [LIMIT count]`
pub fn pkhrscanrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    scan_range(ctx, true)
}

fn scan_range(ctx: &mut Context<'_>, reverse: bool) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (from, to) = (ctx.args.get(2), ctx.args.get(3));
    let mut stretch = Stretch { from, to, reverse, pattern: None, limit: 10 };
    let mut words = ctx.args.options(4);
    while let Some(word) = words.next_word() {
        let value = words.value()?;
        if is_keyword(word, "MATCH") {
            stretch.pattern = Some(value);
        } else if is_keyword(word, "LIMIT") {
            stretch.limit = page_limit(value)?;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let reply = &mut *ctx.reply;
    reply.array(2);
    // The field to go on with stands in front and is known only at the end.
    let start = reply.len();
    let mark = reply.begin_array();
    let mut found = 0;
    let next = hashes::scan_range(ctx.txn, at, stretch, |name, value| {
        reply.bulk(name);
        reply.bulk(value);
        found += 2;
    })?;
    reply.end_array(mark, found);
    let fields = reply.buffer().get(start..).unwrap_or_default().to_vec();
    reply.truncate(start);
    reply.bulk(&next);
    reply.raw(&fields);
    Ok(())
}

// Expiry of fields.

/// The last moment at which a field may expire, in ms since 1970, as in Redis: 46 bits.
const FIELD_EXPIRE_MS_MAX: i64 = (1 << 46) - 1;
/// Fields are named behind this word and their number.
const NO_FIELDS: ReplyError =
    ReplyError::fixed("ERR Mandatory argument FIELDS is missing or not at the right position");
const NOT_SO_MANY: ReplyError =
    ReplyError::fixed("ERR The `numfields` parameter must match the number of arguments");
const NOT_POSITIVE: ReplyError = ReplyError::fixed("ERR Number of fields must be a positive integer");

/// Refuses a key of another type before anything else is looked at: a look beside the command's own.
fn check_type(ctx: &mut Context<'_>, at: At<'_>) -> Result<(), Stop> {
    match ctx.txn.glance(at, |record| record.map(|record| record.head.kind))? {
        None | Some(Kind::Hash) => Ok(()),
        Some(_) => Err(ReplyError::WRONG_TYPE.into()),
    }
}

/// Reads `FIELDS n field ..`, which must begin at word `index` and reach to the end; the index of the first field.
fn fields_at(args: &Args<'_>, index: usize, not_positive: ReplyError) -> Result<usize, ReplyError> {
    if !is_keyword(args.get(index), "FIELDS") {
        return Err(NO_FIELDS);
    }
    let count = parse_i64(args.get(index + 1)).filter(|count| *count > 0).ok_or(not_positive)?;
    let first = index + 2;
    match usize::try_from(count) {
        Ok(count) if first + count == args.len() => Ok(first),
        _ => Err(NOT_SO_MANY),
    }
}

/// Reads the time of a field's expiry; ms since 1970.
fn field_time(text: &[u8], unit_ms: i64, base_ms: i64, command: &str) -> Result<u64, ReplyError> {
    let value = parse_i64(text).ok_or(ReplyError::NOT_AN_INTEGER)?;
    if value < 0 {
        return Err(ReplyError::fixed("ERR invalid expire time, must be >= 0"));
    }
    let scaled = value.checked_mul(unit_ms).and_then(|scaled| scaled.checked_add(base_ms));
    scaled
        .filter(|expire_ms| *expire_ms <= FIELD_EXPIRE_MS_MAX)
        .map(|expire_ms| expire_ms as u64)
        .ok_or_else(|| ReplyError::invalid_expire(command))
}

/// `HEXPIRE key seconds [NX | XX | GT | LT] FIELDS n field [field ..]`
pub fn hexpire(ctx: &mut Context<'_>) -> Result<(), Stop> {
    expire(ctx, 1000, true, "hexpire")
}

/// `HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS n field [field ..]`
pub fn hpexpire(ctx: &mut Context<'_>) -> Result<(), Stop> {
    expire(ctx, 1, true, "hpexpire")
}

/// `HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS n field [field ..]`
pub fn hexpireat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    expire(ctx, 1000, false, "hexpireat")
}

/// `HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS n field [field ..]`
pub fn hpexpireat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    expire(ctx, 1, false, "hpexpireat")
}

fn expire(ctx: &mut Context<'_>, unit_ms: i64, from_now: bool, command: &str) -> Result<(), Stop> {
    const NOT_ABOVE_ZERO: ReplyError =
        ReplyError::fixed("ERR Parameter `numFields` should be greater than 0");
    let at = ctx.txn.at(ctx.args.get(1))?;
    check_type(ctx, at)?;
    let base_ms = if from_now { ctx.txn.now_ms() as i64 } else { 0 };
    let expire_ms = field_time(ctx.args.get(2), unit_ms, base_ms, command)?;
    let condition = match ctx.args.get(3) {
        word if is_keyword(word, "NX") => FieldCondition::IfNone,
        word if is_keyword(word, "XX") => FieldCondition::IfSome,
        word if is_keyword(word, "GT") => FieldCondition::IfLater,
        word if is_keyword(word, "LT") => FieldCondition::IfEarlier,
        _ => FieldCondition::Always,
    };
    let index = if condition == FieldCondition::Always { 3 } else { 4 };
    let first = fields_at(&ctx.args, index, NOT_ABOVE_ZERO)?;
    let names = ctx.args.from(first);
    ctx.reply.array(names.len());
    let reply = &mut *ctx.reply;
    let (mut set, mut removed) = (false, false);
    hashes::expire(ctx.txn, at, expire_ms, condition, names, |code| {
        set |= code == 1;
        removed |= code == 2;
        reply.integer(code);
    })?;
    if set {
        ctx.txn.event(EventClass::HASH, "hexpire", at);
    }
    if removed {
        ctx.txn.event_and_del(EventClass::HASH, "hdel", at);
    }
    Ok(())
}

/// `HPERSIST key FIELDS n field [field ..]`
pub fn hpersist(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    check_type(ctx, at)?;
    let names = ctx.args.from(fields_at(&ctx.args, 2, NOT_POSITIVE)?);
    ctx.reply.array(names.len());
    let reply = &mut *ctx.reply;
    let mut done = false;
    hashes::persist(ctx.txn, at, names, |code| {
        done |= code == 1;
        reply.integer(code);
    })?;
    if done {
        ctx.txn.event(EventClass::HASH, "hpersist", at);
    }
    Ok(())
}

/// `HTTL key FIELDS n field [field ..]`
pub fn httl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiries(ctx, |expire_ms, now_ms| (expire_ms - now_ms).saturating_add(999) / 1000)
}

/// `HPTTL key FIELDS n field [field ..]`
pub fn hpttl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiries(ctx, |expire_ms, now_ms| expire_ms - now_ms)
}

/// `HEXPIRETIME key FIELDS n field [field ..]`
pub fn hexpiretime(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiries(ctx, |expire_ms, _| expire_ms.saturating_add(999) / 1000)
}

/// `HPEXPIRETIME key FIELDS n field [field ..]`
pub fn hpexpiretime(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiries(ctx, |expire_ms, _| expire_ms)
}

/// Answers for each field -2 if it is not there, -1 if it has no expiry, or what `show` makes of expiry and present time.
fn reply_expiries(ctx: &mut Context<'_>, show: fn(u64, u64) -> u64) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    check_type(ctx, at)?;
    let names = ctx.args.from(fields_at(&ctx.args, 2, NOT_POSITIVE)?);
    ctx.reply.array(names.len());
    let (reply, now_ms) = (&mut *ctx.reply, ctx.txn.now_ms());
    hashes::expiries(ctx.txn, at, names, |expiry| {
        reply.integer(match expiry {
            None => -2,
            Some(0) => -1,
            Some(expire_ms) => show(expire_ms, now_ms) as i64,
        });
    })
}

/// `HGETDEL key FIELDS n field [field ..]`
pub fn hgetdel(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    check_type(ctx, at)?;
    let names = ctx.args.from(fields_at(&ctx.args, 2, NOT_POSITIVE)?);
    ctx.reply.array(names.len());
    let reply = &mut *ctx.reply;
    let mut removed = false;
    hashes::take(ctx.txn, at, names, |value| {
        removed |= value.is_some();
        reply_value(reply, value);
    })?;
    if removed {
        ctx.txn.event_and_del(EventClass::HASH, "hdel", at);
    }
    Ok(())
}

/// Units and origins of the words that give a field's expiry.
const TIME_KEYWORDS: [(&str, i64, bool); 4] =
    [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)];

/// The expiry that `word` announces and `text` gives; `None` if it is no such word.
fn expiry_option(word: &[u8], text: &[u8], now_ms: u64, command: &str) -> Result<Option<u64>, ReplyError> {
    let Some((_, unit_ms, from_now)) = TIME_KEYWORDS.iter().find(|(own, ..)| is_keyword(word, own)) else {
        return Ok(None);
    };
    let base_ms = if *from_now { now_ms as i64 } else { 0 };
    // Zero is long past, and not the sign for none.
    field_time(text, *unit_ms, base_ms, command).map(|expire_ms| Some(expire_ms.max(1)))
}

/// `HGETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] FIELDS n field [field ..]`
pub fn hgetex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    check_type(ctx, at)?;
    let word = ctx.args.get(2);
    let (expire_ms, index) = match expiry_option(word, ctx.args.get(3), ctx.txn.now_ms(), "hgetex")? {
        // The least number of words counts a time without FIELDS in.
        Some(_) if ctx.args.len() < 6 => return Err(ReplyError::wrong_arity("hgetex").into()),
        Some(expire_ms) => (Some(expire_ms), 4),
        None if is_keyword(word, "PERSIST") => (Some(0), 3),
        None => (None, 2),
    };
    let names = ctx.args.from(fields_at(&ctx.args, index, NOT_POSITIVE)?);
    ctx.reply.array(names.len());
    let reply = &mut *ctx.reply;
    hashes::get_and_expire(ctx.txn, at, expire_ms, names, |value| reply_value(reply, value))?;
    if !ctx.txn.is_unchanged() {
        let now_ms = ctx.txn.now_ms();
        match expire_ms {
            Some(0) => ctx.txn.event(EventClass::HASH, "hpersist", at),
            Some(expire_ms) if expire_ms <= now_ms => {
                ctx.txn.event_and_del(EventClass::HASH, "hdel", at);
            }
            _ => ctx.txn.event(EventClass::HASH, "hexpire", at),
        }
    }
    Ok(())
}

/// `HSETEX key [FNX | FXX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] FIELDS n field value [field value ..]`
pub fn hsetex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    const ONE_CONDITION: ReplyError =
        ReplyError::fixed("ERR Only one of FXX or FNX arguments can be specified");
    const ONE_EXPIRY: ReplyError =
        ReplyError::fixed("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (mut condition, mut expiry) = (SetCondition::Always, None);
    let mut index = 2;
    let first = loop {
        let word = ctx.args.get(index);
        if is_keyword(word, "FIELDS") {
            if index + 3 >= ctx.args.len() {
                return Err(ReplyError::wrong_arity("hsetex").into());
            }
            let count = parse_i64(ctx.args.get(index + 1)).and_then(|count| i32::try_from(count).ok());
            let count = count.filter(|count| *count > 0);
            let count = count.ok_or(ReplyError::fixed("ERR invalid number of fields"))? as usize;
            if index + 2 + count * 2 != ctx.args.len() {
                return Err(ReplyError::wrong_arity("hsetex").into());
            }
            break index + 2;
        }
        if is_keyword(word, "FNX") || is_keyword(word, "FXX") {
            if condition != SetCondition::Always {
                return Err(ONE_CONDITION.into());
            }
            condition = if is_keyword(word, "FNX") { SetCondition::IfNone } else { SetCondition::IfAll };
        } else if is_keyword(word, "KEEPTTL") {
            if expiry.is_some() {
                return Err(ONE_EXPIRY.into());
            }
            expiry = Some(FieldExpiry::Keep);
        } else if TIME_KEYWORDS.iter().any(|(own, ..)| is_keyword(word, own)) {
            if expiry.is_some() {
                return Err(ONE_EXPIRY.into());
            }
            index += 1;
            if index == ctx.args.len() {
                return Err(ReplyError::fixed("ERR missing expire time").into());
            }
            expiry =
                expiry_option(word, ctx.args.get(index), ctx.txn.now_ms(), "hsetex")?.map(FieldExpiry::At);
        } else if index >= ctx.args.len() {
            return Err(ReplyError::fixed("ERR missing FIELDS argument").into());
        } else {
            let word = ReplyError::echo(word);
            return Err(ReplyError::new(format!("ERR unknown argument: {word}")).into());
        }
        index += 1;
    };
    let expiry = expiry.unwrap_or(FieldExpiry::None);
    let done = hashes::set_and_expire(ctx.txn, at, condition, expiry, pairs(&ctx.args, first))?;
    if let Some(existed) = done {
        ctx.txn.event(EventClass::HASH, "hset", at);
        match expiry {
            FieldExpiry::At(expire_ms) if expire_ms <= ctx.txn.now_ms() => {
                ctx.txn.event_and_del(EventClass::HASH, "hdel", at);
                // Redis makes the hash first.
                if !existed {
                    ctx.txn.event(EventClass::GENERIC, "del", at);
                }
            }
            FieldExpiry::At(_) => ctx.txn.event(EventClass::HASH, "hexpire", at),
            FieldExpiry::None | FieldExpiry::Keep => {}
        }
    }
    ctx.reply.integer(done.is_some().into());
    Ok(())
}
