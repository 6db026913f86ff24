//! HyperLogLog commands: words in, effects by `types/hyperloglog.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::types::hll::{self, REGISTERS};
use crate::types::hyperloglog;
use std::sync::atomic::Ordering;

/// How long a sparse one may get. A plain setting: nothing else depends on when a thread sees it.
fn sparse_bytes_max(ctx: &Context<'_>) -> usize {
    let bytes = ctx.server.settings.hll_sparse_bytes_max.load(Ordering::Relaxed);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// `PFADD key [element ..]`
pub fn pfadd(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let sparse_bytes_max = sparse_bytes_max(ctx);
    let changed = hyperloglog::add(ctx.txn, at, ctx.args.from(2), sparse_bytes_max)?;
    if changed {
        ctx.txn.event(EventClass::STRING, "pfadd", at);
    }
    ctx.reply.integer(changed.into());
    Ok(())
}

/// `PFCOUNT key [key ..]`
pub fn pfcount(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let count = if ctx.args.len() == 2 {
        let at = ctx.txn.at(ctx.args.get(1))?;
        hyperloglog::count(ctx.txn, at)?
    } else {
        hyperloglog::count_union(ctx.txn, ctx.args.from(1))?
    };
    ctx.reply.integer(count as i64);
    Ok(())
}

/// `PFMERGE destkey [sourcekey ..]`
pub fn pfmerge(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let to = ctx.txn.at(ctx.args.get(1))?;
    let sparse_bytes_max = sparse_bytes_max(ctx);
    hyperloglog::merge(ctx.txn, to, ctx.args.from(2), sparse_bytes_max)?;
    ctx.txn.event(EventClass::STRING, "pfadd", to);
    ctx.reply.ok();
    Ok(())
}

/// PFSELFTEST
pub fn pfselftest(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let seed = ctx.txn.draws().seed;
    hll::self_test(seed).map_err(|wrong| ReplyError::new(format!("ERR {wrong}")))?;
    ctx.reply.ok();
    Ok(())
}

enum Answer {
    Registers(Box<hll::Registers>),
    Text(String),
    Encoding(&'static str),
    Converted(bool),
}

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key
pub fn pfdebug(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (word, count) = (ctx.args.get(1), ctx.args.len());
    let at = ctx.txn.at(ctx.args.get(2))?;
    let is = |keyword| is_keyword(word, keyword);
    let answer = hyperloglog::inspect(ctx.txn, at, |hll| {
        let known = ["GETREG", "DECODE", "ENCODING", "TODENSE"].into_iter().any(is);
        if !known {
            let word = ReplyError::echo(word);
            return Err(ReplyError::new(format!("ERR Unknown PFDEBUG subcommand '{word}'")).into());
        }
        if count != 3 {
            let word = ReplyError::echo(word);
            let text = format!("ERR Wrong number of arguments for the '{word}' subcommand");
            return Err(ReplyError::new(text).into());
        }
        if is("DECODE") {
            let text = hll.opcodes_text();
            let text = text.ok_or(ReplyError::fixed("ERR HLL encoding is not sparse"))?;
            return Ok((Answer::Text(text), false));
        }
        if is("ENCODING") {
            let dense = hll::is_dense(hll.as_bytes());
            return Ok((Answer::Encoding(if dense { "dense" } else { "sparse" }), false));
        }
        let converted = hll.make_dense()?;
        if is("TODENSE") {
            return Ok((Answer::Converted(converted), converted));
        }
        let mut registers = Box::new([0; REGISTERS]);
        hll::merge(hll.as_bytes(), &mut registers)?;
        Ok((Answer::Registers(registers), converted))
    })?;
    match answer.ok_or(ReplyError::fixed("ERR The specified key does not exist"))? {
        Answer::Registers(registers) => {
            ctx.reply.array(REGISTERS);
            registers.iter().for_each(|register| ctx.reply.integer((*register).into()));
        }
        Answer::Text(text) => ctx.reply.bulk(text.as_bytes()),
        Answer::Encoding(name) => ctx.reply.simple(name),
        Answer::Converted(converted) => ctx.reply.integer(converted.into()),
    }
    Ok(())
}
