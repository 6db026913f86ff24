//! Set commands: words in, effects by `types/sets.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::hashes::random_count;
use crate::command::scans::{ScanOptions, reply_page};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::types::elements::Wanted;
use crate::types::set_algebra::Operation;
use crate::types::set_value;
use crate::types::sets::{self, Part};

/// `SADD key member [member ..]`
pub fn sadd(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let added = sets::add(ctx.txn, at, ctx.args.from(2))?;
    if added > 0 {
        ctx.txn.event(EventClass::SET, "sadd", at);
    }
    ctx.reply.integer(added as i64);
    Ok(())
}

/// `SREM key member [member ..]`
pub fn srem(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let removed = sets::remove(ctx.txn, at, ctx.args.from(2))?;
    if removed > 0 {
        ctx.txn.event_and_del(EventClass::SET, "srem", at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

/// SCARD key
pub fn scard(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length = set_value::length(ctx.txn, at)?;
    ctx.reply.integer(length as i64);
    Ok(())
}

/// SISMEMBER key member
pub fn sismember(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let found = set_value::contains(ctx.txn, at, ctx.args.get(2))?;
    ctx.reply.integer(found.into());
    Ok(())
}

/// `SMISMEMBER key member [member ..]`
pub fn smismember(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    ctx.reply.array(ctx.args.len() - 2);
    let reply = &mut *ctx.reply;
    sets::contain(ctx.txn, at, ctx.args.from(2), |found| reply.integer(found.into()))
}

/// SMOVE source destination member
pub fn smove(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, to) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    let done = sets::move_member(ctx.txn, from, to, ctx.args.get(3))?;
    ctx.reply.integer(done.into());
    Ok(())
}

/// SMEMBERS key
pub fn smembers(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    sets::all(ctx.txn, at, |part| match part {
        Part::Count(count) => reply.set(count as usize),
        Part::Member(member) => reply.bulk(member),
    })
}

/// `SPOP key [count]`
pub fn spop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    const NOT_POSITIVE: ReplyError = ReplyError::fixed("ERR value is out of range, must be positive");
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    match ctx.args.len() {
        2 => sets::pop(ctx.txn, at, 1, |part| match part {
            Part::Count(0) => reply.null(),
            Part::Count(_) => {}
            Part::Member(member) => reply.bulk(member),
        })?,
        3 => {
            let count = parse_i64(ctx.args.get(2)).and_then(|count| u64::try_from(count).ok());
            sets::pop(ctx.txn, at, count.ok_or(NOT_POSITIVE)?, |part| match part {
                Part::Count(count) => reply.set(count as usize),
                Part::Member(member) => reply.bulk(member),
            })?;
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    }
    if !ctx.txn.is_unchanged() {
        ctx.txn.event_and_del(EventClass::SET, "spop", at);
    }
    Ok(())
}

/// `SRANDMEMBER key [count]`
pub fn srandmember(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let reply = &mut *ctx.reply;
    match ctx.args.len() {
        2 => sets::random(ctx.txn, at, Wanted { count: 1, distinct: true }, |part| match part {
            Part::Count(0) => reply.null(),
            Part::Count(_) => {}
            Part::Member(member) => reply.bulk(member),
        }),
        3 => {
            let wanted = Wanted::from_count(random_count(ctx.args.get(2))?)?;
            sets::random(ctx.txn, at, wanted, |part| match part {
                Part::Count(count) => reply.array(count as usize),
                Part::Member(member) => reply.bulk(member),
            })
        }
        _ => Err(ReplyError::SYNTAX.into()),
    }
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`
pub fn sscan(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(options) = ScanOptions::of_collection(ctx, at, Kind::Set)? else { return Ok(()) };
    let (reply, txn) = (&mut *ctx.reply, &mut *ctx.txn);
    reply_page(reply, |reply| {
        let mut found = 0;
        let cursor = sets::scan(txn, at, options.page, |member| {
            reply.bulk(member);
            found += 1;
        })?;
        Ok((cursor, found))
    })
}

/// `SINTER key [key ..]`
pub fn sinter(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Intersection)
}

/// `SUNION key [key ..]`
pub fn sunion(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Union)
}

/// `SDIFF key [key ..]`
pub fn sdiff(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Difference)
}

fn combine(ctx: &mut Context<'_>, operation: Operation) -> Result<(), Stop> {
    let reply = &mut *ctx.reply;
    let mark = reply.begin_array();
    let mut found = 0;
    sets::combine(ctx.txn, operation, ctx.args.from(1), |member| {
        reply.bulk(member);
        found += 1;
    })?;
    reply.end_set(mark, found);
    Ok(())
}

/// `SINTERSTORE destination key [key ..]`
pub fn sinterstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    store(ctx, Operation::Intersection)
}

/// `SUNIONSTORE destination key [key ..]`
pub fn sunionstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    store(ctx, Operation::Union)
}

/// `SDIFFSTORE destination key [key ..]`
pub fn sdiffstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    store(ctx, Operation::Difference)
}

fn store(ctx: &mut Context<'_>, operation: Operation) -> Result<(), Stop> {
    let to = ctx.txn.at(ctx.args.get(1))?;
    let count = sets::store(ctx.txn, to, operation, ctx.args.from(2))?;
    let name = match operation {
        Operation::Intersection => "sinterstore",
        Operation::Union => "sunionstore",
        Operation::Difference => "sdiffstore",
    };
    ctx.txn.event_of_result(EventClass::SET, name, to, count > 0);
    ctx.reply.integer(count as i64);
    Ok(())
}

/// `SINTERCARD numkeys key [key ..] [LIMIT limit]`
pub fn sintercard(ctx: &mut Context<'_>) -> Result<(), Stop> {
    const NO_KEYS: ReplyError = ReplyError::fixed("ERR numkeys should be greater than 0");
    const TOO_MANY_KEYS: ReplyError =
        ReplyError::fixed("ERR Number of keys can't be greater than number of args");
    const NEGATIVE_LIMIT: ReplyError = ReplyError::fixed("ERR LIMIT can't be negative");
    let keys = parse_i64(ctx.args.get(1)).filter(|keys| *keys > 0).ok_or(NO_KEYS)?;
    let keys = usize::try_from(keys).ok().filter(|keys| *keys <= ctx.args.len() - 2).ok_or(TOO_MANY_KEYS)?;
    let mut limit = 0;
    let mut words = ctx.args.options(2 + keys);
    while let Some(word) = words.next_word() {
        if !is_keyword(word, "LIMIT") {
            return Err(ReplyError::SYNTAX.into());
        }
        let value = parse_i64(words.value()?).and_then(|limit| u64::try_from(limit).ok());
        limit = value.ok_or(NEGATIVE_LIMIT)?;
    }
    let args = ctx.args;
    let named = (2..2 + keys).map(|index| args.get(index));
    let count = sets::count_intersection(ctx.txn, named, limit)?;
    ctx.reply.integer(count as i64);
    Ok(())
}
