//! Commands about the server as a whole that fit nowhere else: TIME, ROLE, WAIT, WAITAOF, SLOWLOG, MODULE, ACL, FUNCTION,
//! LOLWUT, SHUTDOWN, CLUSTER, REPLICAOF, FAILOVER.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::save;
use crate::command::spec::Context;
use crate::session::server_state::{ServerState, ShutdownRequest};
use crate::session::session::Block;
use haypile_resp::parse_i64;

/// TIME.
pub fn time(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let now_us = ctx.server.clock.unix_us();
    ctx.reply.array(2);
    ctx.reply.bulk_integer((now_us / 1_000_000) as i64);
    ctx.reply.bulk_integer((now_us % 1_000_000) as i64);
    Ok(())
}

/// ROLE.
pub fn role(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let offset = ctx.server.store().db().visible_lsn();
    ctx.reply.array(3);
    ctx.reply.bulk(b"master");
    ctx.reply.integer(offset as i64);
    ctx.reply.array(0);
    Ok(())
}

/// REPLICAOF NO ONE, which changes nothing; anything else is refused.
pub fn replicaof(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if is_keyword(ctx.args.get(1), "NO") && is_keyword(ctx.args.get(2), "ONE") {
        ctx.reply.ok();
        return Ok(());
    }
    if !parse_i64(ctx.args.get(2)).is_some_and(|port| (0..=65535).contains(&port)) {
        return Err(ReplyError::fixed("ERR Invalid master port").into());
    }
    Err(ReplyError::fixed("ERR replication is not supported").into())
}

/// FAILOVER: there are no replicas to hand anything over to.
pub fn failover(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let (mut timeout, mut host, mut force, mut abort) = (false, false, false, false);
    let mut at = 1;
    while at < args.len() {
        let (word, more) = (args.get(at), args.len() - at - 1);
        if is_keyword(word, "TIMEOUT") && more >= 1 && !timeout {
            if args.integer(at + 1)? <= 0 {
                return Err(ReplyError::fixed("ERR FAILOVER timeout must be greater than 0").into());
            }
            timeout = true;
            at += 1;
        } else if is_keyword(word, "ABORT") && args.len() == 2 {
            abort = true;
        } else if is_keyword(word, "TO") && more >= 2 && !host {
            args.integer(at + 2)?;
            host = true;
            at += 2;
        } else if is_keyword(word, "FORCE") && !force {
            force = true;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
        at += 1;
    }
    match abort {
        true => Err(ReplyError::fixed("ERR No failover in progress.").into()),
        false => Err(ReplyError::fixed("ERR FAILOVER requires connected replicas.").into()),
    }
}

/// When a blocking command with this timeout (ms, 0 for never) gives up.
fn deadline(ctx: &Context<'_>, index: usize) -> Result<u64, ReplyError> {
    let timeout = parse_i64(ctx.args.get(index))
        .ok_or(ReplyError::fixed("ERR timeout is not an integer or out of range"))?;
    match u64::try_from(timeout) {
        Ok(0) => Ok(u64::MAX),
        Ok(timeout_ms) => Ok(ctx.server.clock.monotonic_ms().saturating_add(timeout_ms)),
        Err(_) => Err(ReplyError::fixed("ERR timeout is negative")),
    }
}

/// WAIT: there are no replicas, so any number above zero is waited for in vain.
pub fn wait(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let replicas = ctx.args.integer(1)?;
    let until_ms = deadline(ctx, 2)?;
    if replicas <= 0 || !ctx.session.may_block {
        ctx.reply.integer(0);
    } else {
        ctx.session.block = Some((Block::Replicas, until_ms));
    }
    Ok(())
}

/// WAITAOF.
pub fn waitaof(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let local = ctx.args.integer(1)?;
    if !(0..=1).contains(&local) {
        return Err(ReplyError::fixed("ERR value is out of range, value must between 0 and 1").into());
    }
    let replicas = ctx.args.integer(2).ok().filter(|replicas| *replicas >= 0);
    let replicas = replicas.ok_or(ReplyError::fixed("ERR value is out of range, must be positive"))?;
    let until_ms = deadline(ctx, 3)?;
    let lsn = ctx.session.last_own_lsn;
    let synced = lsn <= ctx.server.store().db().synced_lsn();
    if (synced || local == 0) && replicas == 0 || !ctx.session.may_block {
        ctx.reply.array(2);
        ctx.reply.integer(i64::from(synced));
        ctx.reply.integer(0);
    } else {
        ctx.session.block = Some((Block::Synced { lsn, replicas: replicas > 0 }, until_ms));
    }
    Ok(())
}

/// A subcommand with words that it does not take.
fn wrong_words(ctx: &Context<'_>) -> ReplyError {
    ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1))
}

// ---- SLOWLOG ----

/// SLOWLOG GET.
pub fn slowlog_get(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let count = match ctx.args.len() {
        2 => 10,
        3 => match parse_i64(ctx.args.get(2)) {
            Some(-1) => usize::MAX,
            Some(count @ 0..) => count as usize,
            _ => return Err(ReplyError::fixed("ERR count should be greater than or equal to -1").into()),
        },
        _ => return Err(wrong_words(ctx).into()),
    };
    let entries = ctx.server.slowlog.latest(count);
    let reply = &mut *ctx.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.unix_s as i64);
        reply.integer(entry.duration_us as i64);
        reply.array(entry.arguments.len());
        for argument in &entry.arguments {
            reply.bulk(argument);
        }
        reply.bulk(entry.address.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
    Ok(())
}

/// SLOWLOG LEN.
pub fn slowlog_len(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.integer(ctx.server.slowlog.len() as i64);
    Ok(())
}

/// SLOWLOG RESET.
pub fn slowlog_reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.server.slowlog.reset();
    ctx.reply.ok();
    Ok(())
}

// ---- MODULE, ACL, FUNCTION ----

/// Replies that are empty lists: MODULE LIST.
pub fn empty_list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.array(0);
    Ok(())
}

/// MODULE LOAD and its kin.
pub fn module_refused(_: &mut Context<'_>) -> Result<(), Stop> {
    Err(ReplyError::fixed("ERR modules are not supported").into())
}

/// FUNCTION FLUSH of an empty library.
pub fn function_flush(ctx: &mut Context<'_>) -> Result<(), Stop> {
    match ctx.args.len() {
        2 => {}
        3 if is_keyword(ctx.args.get(2), "SYNC") || is_keyword(ctx.args.get(2), "ASYNC") => {}
        4.. => return Err(wrong_words(ctx).into()),
        _ => {
            return Err(ReplyError::fixed("ERR FUNCTION FLUSH only supports SYNC|ASYNC option").into());
        }
    }
    ctx.reply.ok();
    Ok(())
}

/// FUNCTION LIST of an empty library.
pub fn function_list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut words = ctx.args.options(2);
    let (mut with_code, mut library) = (false, false);
    while let Some(word) = words.next_word() {
        if !with_code && is_keyword(word, "WITHCODE") {
            with_code = true;
        } else if !library && is_keyword(word, "LIBRARYNAME") {
            library = true;
            let given = words.next_word();
            given.ok_or(ReplyError::fixed("ERR library name argument was not given"))?;
        } else {
            return Err(ReplyError::new(format!("ERR Unknown argument {}", ReplyError::echo(word))).into());
        }
    }
    ctx.reply.array(0);
    Ok(())
}

/// FUNCTION STATS of an empty library.
pub fn function_stats(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    reply.null();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    for name in ["libraries_count", "functions_count"] {
        reply.bulk(name.as_bytes());
        reply.integer(0);
    }
    Ok(())
}

// ---- the rest ----

/// LOLWUT: a haystack. Of the versions of it that Redis has, only the last line is there.
pub fn lolwut(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut text = String::new();
    if ctx.args.len() > 2 && is_keyword(ctx.args.get(1), "VERSION") {
        // What it would draw with; all of it is checked, as far as that version looks.
        let numbers = match ctx.args.integer(2)? {
            5 => 3,
            6 => 2,
            _ => 0,
        };
        (3..ctx.args.len().min(3 + numbers)).try_for_each(|at| ctx.args.integer(at).map(|_| ()))?;
        let line = format!("Redis ver. {}\n", crate::command::connection::REDIS_VERSION);
        ctx.reply.verbatim(*b"txt", line.as_bytes());
        return Ok(());
    }
    let mut seed = ctx.txn.draws().seed | 1;
    for row in 0..9usize {
        text.push_str(&" ".repeat(24 - 2 * row));
        for _ in 0..4 * row + 2 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push(['/', '\\', '|', '-', '\'', ',', '_'][(seed % 7) as usize]);
        }
        text.push('\n');
    }
    text.push_str("\nSomewhere in this heap a pika keeps its winter.\n");
    text.push_str(&format!(
        "Haypile ver. {} Redis ver. {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::command::connection::REDIS_VERSION
    ));
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// Makes the checkpoint that a request to end the server asks for. False if that failed and the server is to go on.
pub fn saved_before_end(server: &ServerState, request: ShutdownRequest) -> bool {
    if !request.save {
        return true;
    }
    match save::save_now(server) {
        Ok(()) => true,
        Err(error) => {
            server.log('#', &format!("The checkpoint before the end failed: {error}"));
            request.force
        }
    }
}

/// SHUTDOWN.
pub fn shutdown(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut request = ShutdownRequest::default();
    let (mut abort, mut no_save, mut others) = (false, false, false);
    for word in ctx.args.from(1) {
        others |= !is_keyword(word, "ABORT");
        if is_keyword(word, "SAVE") {
            request.save = true;
        } else if is_keyword(word, "NOSAVE") {
            no_save = true;
        } else if is_keyword(word, "NOW") {
            request.now = true;
        } else if is_keyword(word, "FORCE") {
            request.force = true;
        } else if is_keyword(word, "ABORT") {
            abort = true;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    if (abort && others) || (request.save && no_save) {
        return Err(ReplyError::SYNTAX.into());
    }
    if abort {
        return Err(ReplyError::fixed("ERR No shutdown in progress.").into());
    }
    if !saved_before_end(ctx.server, request) {
        return Err(ReplyError::fixed("ERR Errors trying to SHUTDOWN. Check logs.").into());
    }
    ctx.session.close_after_reply = true;
    ctx.server.request_shutdown(request);
    Ok(())
}
