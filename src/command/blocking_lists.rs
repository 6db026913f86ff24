//! The list commands that wait for an element.

use crate::base::stop::Stop;
use crate::command::blocking::{timeout_seconds, wait, wanted};
use crate::command::lists::{PopMany, note_moved, parse_end, pop_event, pop_many};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::types::list_value::End;
use crate::types::lists;

/// `BLPOP key [key ..] timeout`
pub fn blpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Left)
}

/// `BRPOP key [key ..] timeout`
pub fn brpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Right)
}

fn pop(ctx: &mut Context<'_>, end: End) -> Result<(), Stop> {
    let last = ctx.args.len() - 1;
    let until_ms = timeout_seconds(ctx, ctx.args.get(last))?;
    let keys = ctx.args.from(1).take(last - 1);
    for key in keys.clone() {
        if !ctx.session.may_take(key) {
            continue;
        }
        let at = ctx.txn.at(key)?;
        let mut list = lists::load(ctx.txn, at)?;
        let found = !list.is_empty();
        if found {
            let reply = &mut *ctx.reply;
            reply.array(2);
            reply.bulk(key);
            list.pop(ctx.txn, at, end, 1, |element| reply.bulk(element))?;
            ctx.txn.event_and_del(EventClass::LIST, pop_event(end), at);
        }
        list.recycle(ctx.txn);
        if found {
            return Ok(());
        }
    }
    wait(ctx, wanted(keys, Kind::List, until_ms));
    Ok(())
}

/// BLMOVE source destination LEFT | RIGHT LEFT | RIGHT timeout
pub fn blmove(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, to) = (parse_end(ctx.args.get(3))?, parse_end(ctx.args.get(4))?);
    move_element(ctx, from, to, 5)
}

/// BRPOPLPUSH source destination timeout
pub fn brpoplpush(ctx: &mut Context<'_>) -> Result<(), Stop> {
    move_element(ctx, End::Right, End::Left, 3)
}

fn move_element(ctx: &mut Context<'_>, from_end: End, to_end: End, timeout: usize) -> Result<(), Stop> {
    let until_ms = timeout_seconds(ctx, ctx.args.get(timeout))?;
    let (source, target) = (ctx.args.get(1), ctx.args.get(2));
    let (from, to) = (ctx.txn.at(source)?, ctx.txn.at(target)?);
    if let Some(element) = lists::move_element(ctx.txn, (from, from_end), (to, to_end))? {
        note_moved(ctx.txn, (from, from_end), (to, to_end));
        ctx.reply.bulk(&element);
        return Ok(());
    }
    if !ctx.session.may_block {
        ctx.reply.null();
        return Ok(());
    }
    let mut wanted = wanted([source].into_iter(), Kind::List, until_ms);
    if target != source {
        wanted.also.push(target.to_vec());
    }
    wait(ctx, wanted);
    Ok(())
}

/// `BLMPOP timeout numkeys key [key ..] LEFT | RIGHT [COUNT count]`
pub fn blmpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let words = PopMany::parse(&ctx.args, 2)?;
    let until_ms = timeout_seconds(ctx, ctx.args.get(1))?;
    let keys = ctx.args.from(words.first_key).take(words.keys);
    for key in keys.clone() {
        if ctx.session.may_take(key) && pop_many(ctx, key, words.end, words.count)? {
            return Ok(());
        }
    }
    wait(ctx, wanted(keys, Kind::List, until_ms));
    Ok(())
}
