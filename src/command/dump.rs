//! DUMP and RESTORE: words in, values by `types/dump.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::types::dump;

/// RESTORE over a key that is there.
const BUSY_KEY: ReplyError = ReplyError::fixed("BUSYKEY Target key name already exists.");

/// DUMP key
pub fn dump(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    match dump::dump(ctx.txn, at)? {
        Some(dump) => ctx.reply.bulk(&dump),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
///
/// When a key was last used, and how often, is accepted and not kept.
pub fn restore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let (mut replace, mut absolute) = (false, false);
    let (mut idle_s, mut frequency_given) = (None, false);
    let mut words = args.options(4);
    while let Some(word) = words.next_word() {
        let (is, left) = (|keyword| is_keyword(word, keyword), words.left());
        if is("REPLACE") {
            replace = true;
        } else if is("ABSTTL") {
            absolute = true;
        } else if is("IDLETIME") && left >= 1 && !frequency_given {
            let seconds = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
            let seconds = u64::try_from(seconds)
                .map_err(|_| ReplyError::fixed("ERR Invalid IDLETIME value, must be >= 0"))?;
            idle_s = Some(seconds);
        } else if is("FREQ") && left >= 1 && idle_s.is_none() {
            let frequency = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
            if !(0..=255).contains(&frequency) {
                return Err(ReplyError::fixed("ERR Invalid FREQ value, must be >= 0 and <= 255").into());
            }
            frequency_given = true;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let at = ctx.txn.at(args.get(1))?;
    let slot = ctx.txn.load(at)?;
    if slot.is_live() && !replace {
        return Err(BUSY_KEY.into());
    }
    let ttl_ms = u64::try_from(args.integer(2)?)
        .map_err(|_| ReplyError::fixed("ERR Invalid TTL value, must be >= 0"))?;
    let dumped = args.get(3);
    // Taking a dump apart is work, too.
    ctx.txn.charge(0, dumped.len() as u64)?;
    let value = dump::parse(dumped)?;
    let now_ms = ctx.txn.now_ms();
    let expire_ms = match ttl_ms {
        0 => 0,
        _ if absolute => ttl_ms,
        _ => ttl_ms.saturating_add(now_ms),
    };
    // What is later than any clock will show wraps around in Redis, to long ago.
    let is_past = expire_ms <= now_ms || i64::try_from(expire_ms).is_err();
    if expire_ms != 0 && is_past {
        ctx.txn.delete(at, &slot.before)?;
        ctx.txn.event_of_result(EventClass::GENERIC, "restore", at, false);
    } else {
        dump::store(ctx.txn, at, &slot.before, &value, expire_ms)?;
        if let Some(idle_s) = idle_s {
            ctx.txn.set_idle(at, idle_s);
        }
        if slot.is_live() {
            ctx.txn.event(EventClass::NEW, "new", at);
        }
        ctx.txn.event(EventClass::GENERIC, "restore", at);
    }
    ctx.txn.recycle(slot);
    ctx.reply.ok();
    Ok(())
}
