//! The sorted set commands that wait for an element.

use crate::base::stop::Stop;
use crate::command::blocking::{timeout_seconds, wait, wanted};
use crate::command::sorted_sets::MultiPop;
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::types::sorted_sets::{self, End};

/// BZPOPMIN key [key ..] timeout
pub fn bzpopmin(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Lowest)
}

/// BZPOPMAX key [key ..] timeout
pub fn bzpopmax(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Highest)
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
        if let Some(element) = sorted_sets::pop(ctx.txn, at, end, 1)?.and_then(|mut popped| popped.pop()) {
            ctx.reply.array(3);
            ctx.reply.bulk(key);
            ctx.reply.bulk(&element.member);
            ctx.reply.double(element.score);
            return Ok(());
        }
    }
    wait(ctx, wanted(keys, Kind::SortedSet, until_ms));
    Ok(())
}

/// `BZMPOP timeout numkeys key [key ..] MIN | MAX [COUNT count]`
pub fn bzmpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let pop = MultiPop::parse(&ctx.args, 2)?;
    let until_ms = timeout_seconds(ctx, ctx.args.get(1))?;
    if pop.run(ctx)? {
        return Ok(());
    }
    let keys = ctx.args.from(pop.first_key).take(pop.keys);
    wait(ctx, wanted(keys, Kind::SortedSet, until_ms));
    Ok(())
}
