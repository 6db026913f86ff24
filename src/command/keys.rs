//! Commands on keys of any type and on databases: words in, effects by `types/keys.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::command::strings::encoding_name;
use crate::encoding::meta::Kind;
use crate::session::server_state::ServerState;
use crate::store::events::EventClass;
use crate::store::txn::{At, Mode, Txn};
use crate::types::elements::CompactSizes;
use crate::types::hashes;
use crate::types::keys::{self, ExpireConditions, Scan};
use crate::types::lists;
use crate::types::sets;
use crate::types::sorted_set;

/// `DEL key [key ..], also UNLINK: either way only the record goes now, and what lies under its id later.`
pub fn del(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut deleted = 0;
    for key in ctx.args.from(1) {
        let at = ctx.txn.at(key)?;
        if keys::delete(ctx.txn, at)? {
            ctx.txn.event(EventClass::GENERIC, "del", at);
            deleted += 1;
        }
    }
    ctx.reply.integer(deleted);
    Ok(())
}

/// `EXISTS key [key ..]`
pub fn exists(ctx: &mut Context<'_>) -> Result<(), Stop> {
    count_keys(ctx, keys::exists)
}

/// `TOUCH key [key ..]`
pub fn touch(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.txn.set_no_touch(false);
    count_keys(ctx, keys::touch)
}

fn count_keys(
    ctx: &mut Context<'_>,
    is_there: fn(&mut Txn, At<'_>) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    if ctx.args.len() > 2 {
        ctx.txn.pin();
    }
    let mut found = 0;
    for key in ctx.args.from(1) {
        let at = ctx.txn.at(key)?;
        found += i64::from(is_there(ctx.txn, at)?);
    }
    ctx.reply.integer(found);
    Ok(())
}

/// TYPE key
pub fn type_(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let kind = keys::kind(ctx.txn, at)?;
    ctx.reply.simple(kind.map_or("none", Kind::name));
    Ok(())
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub fn expire(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_expiry(ctx, 1000, true, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub fn pexpire(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_expiry(ctx, 1, true, "pexpire")
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`
pub fn expireat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_expiry(ctx, 1000, false, "expireat")
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`
pub fn pexpireat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    set_expiry(ctx, 1, false, "pexpireat")
}

fn set_expiry(ctx: &mut Context<'_>, unit_ms: i64, from_now: bool, command: &str) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let conditions = parse_conditions(ctx)?;
    let value = ctx.args.integer(2)?;
    let base_ms = if from_now { ctx.txn.now_ms() as i64 } else { 0 };
    let expire_ms = value.checked_mul(unit_ms).and_then(|value| value.checked_add(base_ms));
    let expire_ms = expire_ms.ok_or_else(|| ReplyError::invalid_expire(command))?;
    let done = keys::expire(ctx.txn, at, expire_ms, conditions)?;
    if done {
        keys::note_expiry(ctx.txn, at);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

fn parse_conditions(ctx: &Context<'_>) -> Result<ExpireConditions, ReplyError> {
    let mut conditions = ExpireConditions::default();
    for word in ctx.args.from(3) {
        let flag = match word {
            _ if is_keyword(word, "NX") => &mut conditions.if_none,
            _ if is_keyword(word, "XX") => &mut conditions.if_some,
            _ if is_keyword(word, "GT") => &mut conditions.if_later,
            _ if is_keyword(word, "LT") => &mut conditions.if_earlier,
            _ => return Err(ReplyError::new(format!("ERR Unsupported option {}", ReplyError::echo(word)))),
        };
        *flag = true;
    }
    let ExpireConditions { if_none, if_some, if_later, if_earlier } = conditions;
    if if_none && (if_some || if_later || if_earlier) {
        let error = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(ReplyError::fixed(error));
    }
    if if_later && if_earlier {
        return Err(ReplyError::fixed("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(conditions)
}

/// TTL key
pub fn ttl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiry(ctx, |expire_ms, now_ms| (expire_ms.saturating_sub(now_ms)).saturating_add(500) / 1000)
}

/// PTTL key
pub fn pttl(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiry(ctx, u64::saturating_sub)
}

/// EXPIRETIME key
pub fn expiretime(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiry(ctx, |expire_ms, _| expire_ms.saturating_add(500) / 1000)
}

/// PEXPIRETIME key
pub fn pexpiretime(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_expiry(ctx, |expire_ms, _| expire_ms)
}

/// Answers -2 for no key, -1 for no expiry, or what `show` makes of expiry and present time.
fn reply_expiry(ctx: &mut Context<'_>, show: fn(u64, u64) -> u64) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let answer = match keys::expiry(ctx.txn, at)? {
        None => -2,
        Some(0) => -1,
        Some(expire_ms) => show(expire_ms, ctx.txn.now_ms()) as i64,
    };
    ctx.reply.integer(answer);
    Ok(())
}

/// PERSIST key
pub fn persist(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let done = keys::persist(ctx.txn, at)?;
    if done {
        ctx.txn.event(EventClass::GENERIC, "persist", at);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

/// RENAME key newkey
pub fn rename(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, to) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    keys::rename(ctx.txn, from, to, false)?;
    ctx.reply.ok();
    Ok(())
}

/// RENAMENX key newkey
pub fn renamenx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, to) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    let done = keys::rename(ctx.txn, from, to, true)?;
    ctx.reply.integer(done.into());
    Ok(())
}

/// A key of the database that a word numbers.
fn at_in<'k>(ctx: &Context<'_>, number: &[u8], key: &'k [u8]) -> Result<At<'k>, Stop> {
    let number = parse_i64(number);
    let number = number.ok_or(ReplyError::NOT_AN_INTEGER)?;
    if i32::try_from(number).is_err() {
        return Err(ReplyError::NOT_32_BITS.into());
    }
    let db = usize::try_from(number).map_err(|_| ReplyError::DB_OUT_OF_RANGE)?;
    ctx.txn.at_in(db, key)
}

/// `COPY source destination [DB n] [REPLACE]`
pub fn copy(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, mut to) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    let mut replace = false;
    let mut words = ctx.args.options(3);
    while let Some(word) = words.next_word() {
        if is_keyword(word, "REPLACE") {
            replace = true;
        } else if is_keyword(word, "DB") {
            to = at_in(ctx, words.value()?, to.key)?;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let done = keys::copy(ctx.txn, from, to, replace)?;
    if done {
        ctx.txn.event(EventClass::GENERIC, "copy_to", to);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

/// MOVE key db
pub fn move_(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let from = ctx.txn.at(ctx.args.get(1))?;
    let to = at_in(ctx, ctx.args.get(2), ctx.args.get(1))?;
    let done = keys::move_to(ctx.txn, from, to)?;
    if done {
        ctx.txn.event(EventClass::GENERIC, "move_from", from);
        ctx.txn.event(EventClass::GENERIC, "move_to", to);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

/// SWAPDB index1 index2. With the gate closed.
pub fn swapdb(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let number = |index, error| {
        let number = parse_i64(ctx.args.get(index)).and_then(|number| i32::try_from(number).ok());
        number.ok_or(ReplyError::fixed(error))
    };
    let a = number(1, "ERR invalid first DB index")?;
    let b = number(2, "ERR invalid second DB index")?;
    let databases = ctx.txn.store().databases();
    let in_range = |number| usize::try_from(number).ok().filter(|number| *number < databases);
    let (Some(a), Some(b)) = (in_range(a), in_range(b)) else {
        return Err(ReplyError::DB_OUT_OF_RANGE.into());
    };
    ctx.txn.swap(a, b)?;
    ctx.reply.ok();
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]. With the gate closed.`
pub fn flushdb(ctx: &mut Context<'_>) -> Result<(), Stop> {
    check_flush_mode(ctx)?;
    let (db, _) = ctx.txn.own_database();
    ctx.txn.flush(std::iter::once(db))?;
    ctx.reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]. With the gate closed.`
pub fn flushall(ctx: &mut Context<'_>) -> Result<(), Stop> {
    check_flush_mode(ctx)?;
    let databases = ctx.txn.store().databases();
    ctx.txn.flush(0..databases)?;
    ctx.reply.ok();
    Ok(())
}

/// Both modes do the same: the keys are gone at once, their space later.
fn check_flush_mode(ctx: &Context<'_>) -> Result<(), ReplyError> {
    let word = ctx.args.get(1);
    match ctx.args.len() {
        1 => Ok(()),
        2 if is_keyword(word, "ASYNC") || is_keyword(word, "SYNC") => Ok(()),
        _ => Err(ReplyError::SYNTAX),
    }
}

/// DBSIZE
pub fn dbsize(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.txn.store().is_counting() {
        if ctx.txn.mode() == Mode::Inline {
            return Err(Stop::Budget);
        }
        ctx.txn.store().finish_counting()?;
    }
    let (db, _) = ctx.txn.own_database();
    let size = ctx.txn.dbsize(db);
    ctx.txn.mark_read();
    ctx.reply.integer(size as i64);
    Ok(())
}

/// KEYS pattern
pub fn keys(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let reply = &mut *ctx.reply;
    let mark = reply.begin_array();
    let mut found = 0;
    keys::for_each_match(ctx.txn, ctx.args.get(1), |key| {
        reply.bulk(key);
        found += 1;
    })?;
    reply.end_array(mark, found);
    Ok(())
}

/// NOVALUES given to another scan than HSCAN.
pub const NOVALUES_OF_OTHERS: ReplyError = ReplyError::fixed("ERR NOVALUES option can only be used in HSCAN");

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub fn scan(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let cursor = parse_cursor(ctx.args.get(1))?;
    let mut scan = Scan { cursor, count: 10, pattern: None, kind: None };
    let mut words = ctx.args.options(2);
    while let Some(word) = words.next_word() {
        if is_keyword(word, "NOVALUES") {
            return Err(NOVALUES_OF_OTHERS.into());
        }
        let value = words.value()?;
        if is_keyword(word, "COUNT") {
            let count = parse_i64(value).ok_or(ReplyError::NOT_AN_INTEGER)?;
            scan.count = u64::try_from(count).ok().filter(|count| *count > 0).ok_or(ReplyError::SYNTAX)?;
        } else if is_keyword(word, "MATCH") {
            scan.pattern = Some(value);
        } else if is_keyword(word, "TYPE") {
            scan.kind = Some(value);
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let reply = &mut *ctx.reply;
    reply.array(2);
    // The cursor stands in front and is known only at the end.
    let start = reply.len();
    let mark = reply.begin_array();
    let mut found = 0;
    let cursor = keys::scan(ctx.txn, scan, |key| {
        reply.bulk(key);
        found += 1;
    })?;
    reply.end_array(mark, found);
    let keys = reply.buffer().get(start..).unwrap_or_default().to_vec();
    reply.truncate(start);
    reply.bulk(cursor.to_string().as_bytes());
    reply.raw(&keys);
    Ok(())
}

/// A cursor as Redis takes it: what C reads as an unsigned number, blanks and a sign in front, and a sign turns it round; but no
/// negative number in its usual spelling.
pub fn parse_cursor(text: &[u8]) -> Result<u64, ReplyError> {
    const INVALID: ReplyError = ReplyError::fixed("ERR invalid cursor");
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if let Some(number) = parse_i64(text) {
        return u64::try_from(number).map_err(|_| INVALID);
    }
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let start = text.iter().position(|byte| !is_blank(byte)).ok_or(INVALID)?;
    let (negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or(INVALID)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// RANDOMKEY
pub fn randomkey(ctx: &mut Context<'_>) -> Result<(), Stop> {
    match keys::random(ctx.txn)? {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// OBJECT ENCODING key
pub fn object_encoding(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.txn.tell_no_misses();
    match encoding_of(ctx.server, ctx.txn, ctx.args.get(2))? {
        Some(encoding) => ctx.reply.bulk(encoding.as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// What Redis would call the encoding of a key's value. `None` if there is no such key.
pub fn encoding_of(server: &ServerState, txn: &mut Txn, key: &[u8]) -> Result<Option<&'static str>, Stop> {
    let at = txn.at(key)?;
    let mut is_list = false;
    let name = txn.glance(at, |record| {
        let Some(record) = record else { return Ok::<_, Stop>(None) };
        is_list = record.head.kind == Kind::List;
        Ok(Some(match record.head.kind {
            Kind::String if record.head.id != 0 => "raw",
            Kind::String => encoding_name(record.body, record.head.raw),
            Kind::List => "listpack",
            Kind::Set => sets::encoding_name(&record, &compact_sizes(server, "set"))?,
            Kind::Hash => hashes::encoding_name(&record, &compact_sizes(server, "hash"))?,
            Kind::SortedSet => sorted_set::encoding_name(&record, &compact_sizes(server, "zset"))?,
            Kind::Stream => "stream",
        }))
    })??;
    // Looking at a list's elements is a read that counts itself.
    if is_list {
        return lists::encoding_name(txn, at, server.config().number("list-max-listpack-size"));
    }
    txn.note_read(at, name.is_some());
    Ok(name)
}

/// Up to what sizes a collection of this type is compact, as the configuration says.
fn compact_sizes(server: &ServerState, kind: &str) -> CompactSizes {
    let config = server.config();
    let number = |name: &str| config.number(&format!("{kind}-max-{name}")).max(0) as u64;
    CompactSizes {
        entries: number("listpack-entries"),
        value_bytes: number("listpack-value"),
        intset_entries: number("intset-entries"),
    }
}

/// OBJECT FREQ key
pub fn object_freq(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_if_present(ctx, |_| {
        Err(ReplyError::fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        )
        .into())
    })
}

/// OBJECT IDLETIME key
pub fn object_idletime(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_if_present(ctx, |ctx| {
        let at = ctx.txn.at(ctx.args.get(2))?;
        ctx.reply.integer(ctx.txn.idle_s(at) as i64);
        Ok(())
    })
}

/// OBJECT REFCOUNT key
pub fn object_refcount(ctx: &mut Context<'_>) -> Result<(), Stop> {
    reply_if_present(ctx, |ctx| {
        ctx.reply.integer(1);
        Ok(())
    })
}

fn reply_if_present(
    ctx: &mut Context<'_>,
    answer: impl FnOnce(&mut Context<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    ctx.txn.tell_no_misses();
    let at = ctx.txn.at(ctx.args.get(2))?;
    if keys::exists(ctx.txn, at)? {
        return answer(ctx);
    }
    ctx.reply.null();
    Ok(())
}
