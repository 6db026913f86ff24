//! What is common to all who run a command's function (the dispatcher, EXEC, whoever serves one that waited): panics, the words of
//! errors, statistics and the slow log.

use crate::base::args::{Args, is_keyword};
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::facts::model::Flag;
use crate::command::spec::{Command, Context, Handler};
use crate::session::clients::ClientInfo;
use crate::session::latency::{COMMAND, FAST_COMMAND};
use crate::session::monitors::line;
use crate::session::server_state::ServerState;
use crate::session::session::{Block, Session};
use crate::session::slowlog::SlowEntry;
use haypile_lsm::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

const RELAXED: Ordering = Ordering::Relaxed;

/// Calls a command's function. A panic of it is an error: its effects were only staged.
#[inline]
pub fn call_handler(context: &mut Context<'_>, handler: Handler) -> Result<(), Stop> {
    let (server, shard) = (context.server, context.session.shard);
    catch_unwind(AssertUnwindSafe(|| handler(context))).unwrap_or_else(|_| {
        server.stats.shard(shard).counters.panics.fetch_add(1, RELAXED);
        Err(Stop::Reply(ReplyError::fixed("ERR internal error: the command panicked; it had no effect")))
    })
}

/// The function of a container that was called without a subcommand it knows.
pub fn container_alone(_: &mut Context<'_>) -> Result<(), Stop> {
    Err(ReplyError::SYNTAX.into())
}

/// What the client is told of a command that stopped for good.
pub fn error_of(server: &ServerState, stop: Stop) -> ReplyError {
    match stop {
        Stop::NeedsIo | Stop::Budget => {
            ReplyError::fixed("ERR internal error: a command on a pool asked for one")
        }
        Stop::Reply(error) => error,
        Stop::Engine(error) => engine_error(server, &error),
    }
}

fn engine_error(server: &ServerState, error: &Error) -> ReplyError {
    match error {
        Error::NoSpace { .. } => refused_write("No space left on device"),
        Error::Poisoned(why) => refused_write(why),
        Error::InvalidArgument(what) => ReplyError::new(format!("ERR {what}")),
        other => {
            server.log('#', &format!("a command failed: {other}"));
            ReplyError::new(format!("ERR {other}"))
        }
    }
}

/// A write that cannot be logged.
pub fn refused_write(why: &str) -> ReplyError {
    ReplyError::new(format!("MISCONF Errors writing to the AOF file: {why}"))
}

/// Counts a command that ran: `written` is its reply.
pub fn account(
    server: &ServerState,
    session: &Session,
    command: &Command,
    args: &Args<'_>,
    written: &[u8],
    ns: u64,
) {
    let failed = written.first() == Some(&b'-');
    let tracking = server.settings.latency_tracking.load(RELAXED);
    let shard = server.stats.shard(session.shard);
    // One that sleeps is counted when it wakes up: its sleep is the time that it took.
    let sleeps = matches!(session.block, Some((Block::Sleep, _)));
    if !sleeps {
        shard.command_ran(command.index, ns, failed, tracking);
    }
    if failed {
        let line = written.split(|&byte| byte == b'\r').next().unwrap_or_default();
        server.stats.error_reply(session.shard, line.get(1..).unwrap_or_default());
    }
    let flags = command.facts.flags;
    let publisher = &server.publisher;
    if !publisher.monitors().is_empty() && !flags.has(Flag::SkipMonitor) && !flags.has(Flag::Admin) {
        let words = without_secrets(args).into_iter();
        publisher.show(line(server.clock.unix_us(), session.db, &session.info.address, words));
    }
    let event = if flags.has(Flag::Fast) { FAST_COMMAND } else { COMMAND };
    server.latency.note(event, Duration::from_nanos(ns));
    // One that waits for keys is noted when the wait has ended.
    let waits = matches!(session.block, Some((Block::Keys(_), _)));
    if !waits && !sleeps && !flags.has(Flag::SkipSlowlog) {
        note_slow(server, &session.info, args, ns / 1000);
    }
}

/// Puts a command that took `us` microseconds into the slow log, if that is slow.
pub fn note_slow(server: &ServerState, client: &ClientInfo, args: &Args<'_>, us: u64) {
    let slower_than_us = server.settings.slowlog_slower_than_us.load(RELAXED);
    if slower_than_us >= 0 && us as i64 >= slower_than_us {
        let entry = SlowEntry {
            id: 0,
            unix_s: server.clock.unix_ms() / 1000,
            duration_us: us,
            arguments: Vec::new(),
            address: client.address.clone(),
            name: client.names().name.clone(),
        };
        server.slowlog.add(
            entry,
            without_secrets(args).into_iter(),
            server.settings.slowlog_max_len.load(RELAXED) as usize,
        );
    }
}

/// Directives whose values are secret.
const SECRET_DIRECTIVES: &[&str] =
    &["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"];

/// A command's words with passwords taken out.
fn without_secrets<'a>(args: &Args<'a>) -> Vec<&'a [u8]> {
    const REDACTED: &[u8] = b"(redacted)";
    let mut words: Vec<&[u8]> = args.iter().collect();
    if is_keyword(args.name(), "AUTH") {
        words.iter_mut().skip(1).for_each(|word| *word = REDACTED);
    } else if is_keyword(args.name(), "HELLO") {
        if let Some(at) = words.iter().position(|word| is_keyword(word, "AUTH")) {
            words.iter_mut().skip(at + 1).take(2).for_each(|word| *word = REDACTED);
        }
    } else if is_keyword(args.name(), "CONFIG") && is_keyword(args.get(1), "SET") {
        for at in (2..words.len().saturating_sub(1)).step_by(2) {
            if SECRET_DIRECTIVES.iter().any(|name| is_keyword(words[at], name)) {
                words[at + 1] = REDACTED;
            }
        }
    } else if is_keyword(args.name(), "MIGRATE") {
        let secrets = |word: &&[u8]| match () {
            () if is_keyword(word, "AUTH") => Some(1),
            () if is_keyword(word, "AUTH2") => Some(2),
            () => None,
        };
        // Behind host, port, key, database and timeout.
        let found = words.iter().enumerate().skip(6).find_map(|(at, word)| Some((at, secrets(word)?)));
        if let Some((at, count)) = found {
            words.iter_mut().skip(at + 1).take(count).for_each(|word| *word = REDACTED);
        }
    } else if is_keyword(args.name(), "ACL") {
        words.iter_mut().skip(3).for_each(|word| *word = REDACTED);
    }
    words
}
