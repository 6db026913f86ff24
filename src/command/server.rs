//! Commands about the server as a whole that fit nowhere else: TIME, ROLE, WAIT, WAITAOF, SLOWLOG, LATENCY, MEMORY, MODULE, ACL,
//! FUNCTION, LOLWUT, SHUTDOWN, CLUSTER, REPLICAOF.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::save;
use crate::command::spec::Context;
use crate::session::server_state::ShutdownRequest;
use crate::session::session::Block;
use crate::types::keys;
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
    Err(ReplyError::fixed("ERR replication is not supported").into())
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

// ---- LATENCY ----

/// LATENCY LATEST and HISTORY: nothing is monitored.
pub fn latency_nothing(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.array(0);
    Ok(())
}

/// LATENCY RESET.
pub fn latency_reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.integer(0);
    Ok(())
}

/// LATENCY GRAPH.
pub fn latency_graph(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let event = ReplyError::echo(ctx.args.get(2));
    Err(ReplyError::new(format!("ERR No samples available for event '{event}'")).into())
}

/// LATENCY DOCTOR.
pub fn latency_doctor(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let text = "Nothing is monitored here by event. INFO latencystats and LATENCY HISTOGRAM show how long commands take, \
                INFO engine what the engine does.\n";
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// LATENCY HISTOGRAM.
pub fn latency_histogram(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    let mut wanted = Vec::new();
    if ctx.args.len() == 2 {
        wanted.extend(table.all());
    }
    for name in ctx.args.from(2) {
        let Some(command) = table.find_full(name) else { continue };
        wanted.push(command);
        wanted.extend(command.subcommands.iter().filter_map(|&index| table.get(index)));
    }
    let stats = &ctx.server.stats;
    let found: Vec<_> = wanted
        .into_iter()
        .filter_map(|command| Some((command.facts.name, stats.histogram_us(command.index)?)))
        .collect();
    let reply = &mut *ctx.reply;
    reply.map(found.len());
    for (name, powers) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(powers.last().map_or(0, |(_, calls)| *calls as i64));
        reply.bulk(b"histogram_usec");
        reply.map(powers.len());
        for (us, calls) in powers {
            reply.integer(us as i64);
            reply.integer(calls as i64);
        }
    }
    Ok(())
}

// ---- MEMORY ----

/// MEMORY DOCTOR.
pub fn memory_doctor(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let text = "Data lives on disk; memory is bounded by memory-budget. INFO memory and INFO engine show where it is.\n";
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// MEMORY MALLOC-STATS.
pub fn memory_malloc_stats(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.bulk(b"Stats not supported for the current allocator");
    Ok(())
}

/// MEMORY PURGE.
pub fn memory_purge(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.ok();
    Ok(())
}

/// MEMORY USAGE: what a key takes on the disk, about, before compression.
pub fn memory_usage(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut samples = 5;
    let mut options = ctx.args.options(3);
    while let Some(option) = options.next_word() {
        let value = options.value()?;
        if !is_keyword(option, "SAMPLES") {
            return Err(ReplyError::SYNTAX.into());
        }
        let value = parse_i64(value).ok_or(ReplyError::NOT_AN_INTEGER)?;
        samples = u64::try_from(value).map_err(|_| ReplyError::SYNTAX)?;
    }
    const RECORD_OVERHEAD_BYTES: u64 = 32;
    ctx.txn.tell_no_misses();
    let key = ctx.args.get(2);
    let at = ctx.txn.at(key)?;
    match keys::value_bytes(ctx.txn, at, samples)? {
        Some(bytes) => ctx.reply.integer((RECORD_OVERHEAD_BYTES + key.len() as u64 + bytes) as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// MEMORY STATS.
pub fn memory_stats(ctx: &mut Context<'_>) -> Result<(), Stop> {
    use std::sync::atomic::Ordering::Relaxed;
    let now = crate::command::info::resident_bytes();
    ctx.server.stats.memory_seen(now);
    let store = ctx.server.store();
    let keys: u64 = (0..ctx.server.identity.databases).map(|db| store.dbsize(db)).sum();
    let peak = ctx.server.stats.memory_peak_bytes.load(Relaxed);
    let whole = [
        ("peak.allocated", peak),
        ("total.allocated", now),
        ("startup.allocated", 0),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", 0),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
        ("overhead.db.hashtable.lut", 0),
        ("overhead.db.hashtable.rehashing", 0),
        ("db.dict.rehashing.count", 0),
        ("overhead.total", now),
        ("keys.count", keys),
        ("keys.bytes-per-key", 0),
        ("dataset.bytes", 0),
        ("allocator.allocated", now),
        ("allocator.active", now),
        ("allocator.resident", now),
        ("allocator.muzzy", 0),
        ("allocator-fragmentation.bytes", 0),
        ("allocator-rss.bytes", 0),
        ("rss-overhead.bytes", 0),
        ("fragmentation.bytes", 0),
    ];
    let ratios = [
        ("dataset.percentage", 0.0),
        ("peak.percentage", now as f64 * 100.0 / peak.max(1) as f64),
        ("allocator-fragmentation.ratio", 1.0),
        ("allocator-rss.ratio", 1.0),
        ("rss-overhead.ratio", 1.0),
        ("fragmentation", 1.0),
    ];
    ctx.reply.map(whole.len() + ratios.len());
    for (name, number) in whole {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.integer(number as i64);
    }
    for (name, number) in ratios {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.double(number);
    }
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
        ctx.args.integer(2)?;
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

/// SHUTDOWN.
pub fn shutdown(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut request = ShutdownRequest::default();
    let (mut abort, mut no_save) = (false, false);
    for word in ctx.args.from(1) {
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
    if (abort && ctx.args.len() > 2) || (request.save && no_save) {
        return Err(ReplyError::SYNTAX.into());
    }
    if abort {
        return Err(ReplyError::fixed("ERR No shutdown in progress.").into());
    }
    if request.save
        && let Err(error) = save::save_now(ctx.server)
    {
        ctx.server.log('#', &format!("SHUTDOWN SAVE: {error}"));
        if !request.force {
            return Err(ReplyError::fixed("ERR Errors trying to SHUTDOWN. Check logs.").into());
        }
    }
    ctx.session.close_after_reply = true;
    ctx.server.request_shutdown(request);
    Ok(())
}
