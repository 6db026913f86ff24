//! What is common to all who run a command's function (the dispatcher, EXEC, whoever serves one that waited): panics, the words of
//! errors, statistics and the slow log.

use crate::base::args::{Args, is_keyword};
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::facts::model::Flag;
use crate::command::spec::{Command, Context, Handler};
use crate::session::acl_log::WORD_BYTES_MAX;
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
        let words = without_secrets(command, args).into_iter();
        publisher.show(line(server.clock.unix_us(), session.db, &session.info.address, words));
    }
    let event = if flags.has(Flag::Fast) { FAST_COMMAND } else { COMMAND };
    server.latency.note(event, Duration::from_nanos(ns));
    // One that waits for keys is noted when the wait has ended.
    let waits = matches!(session.block, Some((Block::Keys(_), _)));
    if !waits && !sleeps && !flags.has(Flag::SkipSlowlog) {
        note_slow_words(server, &session.info, ns / 1000, || without_secrets(command, args));
    }
}

/// Puts a command that waited, and took `us` microseconds, into the slow log, if that is slow. No command that waits has secrets among
/// its words.
pub fn note_slow(server: &ServerState, client: &ClientInfo, args: &Args<'_>, us: u64) {
    note_slow_words(server, client, us, || args.iter().collect());
}

fn note_slow_words<'a>(
    server: &ServerState,
    client: &ClientInfo,
    us: u64,
    words: impl FnOnce() -> Vec<&'a [u8]>,
) {
    let slower_than_us = server.settings.slowlog_slower_than_us.load(RELAXED);
    if slower_than_us >= 0 && us as i64 >= slower_than_us {
        let entry = SlowEntry {
            id: 0,
            unix_s: server.clock.unix_ms() / 1000,
            duration_us: us,
            arguments: Vec::new(),
            address: client.address.clone(),
            name: client.names(WORD_BYTES_MAX).name,
        };
        let length_max = server.settings.slowlog_max_len.load(RELAXED) as usize;
        server.slowlog.add(entry, words().into_iter(), length_max);
    }
}

/// Directives whose values are secret.
const SECRET_DIRECTIVES: &[&str] =
    &["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"];

/// A command's words with passwords taken out. What it is called counts for nothing: the configuration may have renamed it. Options are
/// read as the command reads them; from where they stop making sense to it, everything might be a password.
fn without_secrets<'a>(command: &Command, args: &Args<'a>) -> Vec<&'a [u8]> {
    let mut words: Vec<&[u8]> = args.iter().collect();
    match command.facts.name {
        "auth" => redact(&mut words, 1, usize::MAX),
        "acl|setuser" | "acl|deluser" | "acl|getuser" => redact(&mut words, 2, usize::MAX),
        "config|set" => {
            // Also what stands at a value's place: a word too few or too many shows nothing.
            let is_secret = |at: &usize| SECRET_DIRECTIVES.iter().any(|name| is_keyword(args.get(*at), name));
            (2..args.len()).filter(is_secret).for_each(|at| redact(&mut words, at + 1, 1));
        }
        "hello" => {
            let mut at = 2;
            while at < args.len() {
                let (word, left) = (args.get(at), args.len() - at - 1);
                at += match word {
                    _ if is_keyword(word, "SETNAME") && left >= 1 => 2,
                    _ if is_keyword(word, "AUTH") && left >= 2 => {
                        redact(&mut words, at + 1, 2);
                        3
                    }
                    _ => {
                        redact(&mut words, at + 1, usize::MAX);
                        break;
                    }
                };
            }
        }
        "migrate" => {
            // Behind host, port, key, database and timeout.
            let mut at = 6;
            while at < args.len() && !is_keyword(args.get(at), "KEYS") {
                let word = args.get(at);
                let secrets = match word {
                    _ if is_keyword(word, "COPY") || is_keyword(word, "REPLACE") => 0,
                    _ if is_keyword(word, "AUTH") => 1,
                    _ if is_keyword(word, "AUTH2") => 2,
                    _ => usize::MAX,
                };
                redact(&mut words, at + 1, secrets);
                at = at.saturating_add(secrets).saturating_add(1);
            }
        }
        _ => {}
    }
    words
}

/// Takes out so many words from `start` on.
fn redact(words: &mut [&[u8]], start: usize, count: usize) {
    words.iter_mut().skip(start).take(count).for_each(|word| *word = b"(redacted)");
}
