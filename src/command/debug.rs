//! DEBUG: for tests and for looking inside. Only where `enable-debug-command` allows it.

use crate::base::args::{Args, is_keyword};
use crate::base::glob;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::config_cmd::is_enabled;
use crate::command::help::write_lines;
use crate::command::keys;
use crate::command::spec::{Class, Context};
use crate::session::channels::SubscriptionKind;
use crate::session::session::Block;
use crate::types::digest;
use haypile_resp::{Protocol, ReplyWriter, parse_i64};

/// DEBUG is off.
pub const NOT_ALLOWED: ReplyError = ReplyError::fixed(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
     connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);

const HELP: &[&str] = &[
    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANGE-REPL-ID",
    "    Does nothing.",
    "DIGEST",
    "    A digest of all data.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    A digest of each value.",
    "ERROR <string>",
    "    Answer with this error.",
    "HELD",
    "    What clients hold at this moment: locks, places, waits, entries in tables.",
    "LOADAOF",
    "    Flush, close and open the database again.",
    "LOG <message>",
    "    Write a line to the server's log.",
    "OBJECT <key>",
    "    How a value is stored.",
    "PANIC",
    "    Panic inside the command: it is answered with an error.",
    "PROTOCOL <type>",
    "    Answer with a value of this type.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Does nothing.",
    "RELOAD [option ...]",
    "    Flush, close and open the database again.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Whether expired keys are removed in the background.",
    "SLEEP <seconds>",
    "    Keep this client waiting.",
    "STRINGMATCH-LEN <len> <pattern>",
    "    Whether a string of so many 'a' matches.",
    "HELP",
    "    Print this help.",
];

/// Where a DEBUG command runs.
pub fn class(args: &Args<'_>) -> Class {
    if is_keyword(args.get(1), "RELOAD") || is_keyword(args.get(1), "LOADAOF") {
        return Class::Exclusive;
    }
    if is_keyword(args.get(1), "DIGEST") {
        return Class::Slow;
    }
    Class::Inline
}

/// DEBUG.
pub fn debug(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if !is_enabled(ctx.server, ctx.session, "enable-debug-command") {
        return Err(NOT_ALLOWED.into());
    }
    let (word, count) = (ctx.args.get(1).to_ascii_lowercase(), ctx.args.len());
    match (word.as_slice(), count) {
        (b"help", 2) => write_lines(ctx, HELP),
        (b"sleep", 3) => return sleep(ctx),
        (b"set-active-expire", 3) => {
            let on = ctx.args.get(2) != b"0";
            ctx.server.store().set_active_expire(on);
            ctx.reply.ok();
        }
        (b"protocol", 3) => return protocol(ctx.reply, ctx.args.get(2)),
        (b"reload" | b"loadaof", _) => return reload(ctx),
        (b"digest", 2) => {
            let digest = digest::of_everything(ctx.txn)?;
            ctx.reply.simple(&digest.to_string());
        }
        (b"digest-value", _) => {
            ctx.reply.array(count - 2);
            for key in ctx.args.from(2) {
                let at = ctx.txn.at(key)?;
                let digest = digest::of_value(ctx.txn, at)?.unwrap_or_default();
                ctx.reply.simple(&digest.to_string());
            }
        }
        (b"object", 3) => return object(ctx),
        (b"held", 2) => held(ctx),
        (b"error", 3) => return Err(ReplyError::new(ReplyError::echo(ctx.args.get(2))).into()),
        (b"log", 3) => {
            ctx.server.log('#', &format!("DEBUG LOG: {}", ReplyError::echo(ctx.args.get(2))));
            ctx.reply.ok();
        }
        (b"panic", _) => panic!("DEBUG PANIC"),
        (b"stringmatch-len", 4) => {
            let length = parse_i64(ctx.args.get(2)).unwrap_or(0).clamp(0, 1 << 20) as usize;
            ctx.reply.integer(i64::from(glob::matches(ctx.args.get(3), &vec![b'a'; length])));
        }
        (
            b"change-repl-id"
            | b"quicklist-packed-threshold"
            | b"listpack-entries"
            | b"set-disable-deny-scripts"
            | b"replicate"
            | b"pause-cron"
            | b"replybuffer"
            | b"dict-resizing"
            | b"config-rewrite-force-all"
            | b"client-enforce-reply-list"
            | b"replybuffer-peak-reset-time",
            _,
        ) => ctx.reply.ok(),
        _ => {
            return Err(ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1)).into());
        }
    }
    Ok(())
}

/// Everything that a client can leave behind, as numbers. Counted from the tables themselves where that is cheap enough.
fn held(ctx: &mut Context<'_>) {
    let state = ctx.server;
    let store = state.store();
    let (inside, outside) = store.gate().crowd();
    let (channels, tracking) = (state.publisher.channels(), state.publisher.tracking());
    let usage = state.allowance.usage();
    let names = [SubscriptionKind::Channel, SubscriptionKind::Pattern, SubscriptionKind::Shard];
    let counts = [
        ("clients", state.clients.all().len()),
        ("clients_held", state.clients.held()),
        ("connections", state.clients.len()),
        ("clients_blocked", state.clients.blocked()),
        ("gate_inside", inside),
        ("gate_waiting", outside),
        ("key_locks", store.locks().held()),
        ("key_locks_waiting", store.locks().queued()),
        ("waited_keys", state.waiters.keys()),
        ("waited_keys_in_table", state.waiters.all_keys().len()),
        ("watches", state.watches.entries()),
        ("watched_keys_in_table", state.watches.keys()),
        ("watching_clients", state.watches.clients()),
        ("subscribed_names", names.map(|kind| channels.names(kind)).iter().sum()),
        ("subscribed_clients", channels.clients()),
        ("trackers", tracking.trackers()),
        ("tracked_keys", tracking.keys()),
        ("tracked_items", tracking.items()),
        ("tracked_prefixes", tracking.prefixes()),
        ("monitors", state.publisher.monitors().len()),
        ("mail_bytes", state.publisher.backlog_bytes()),
        ("large_request_bytes", usage.charged_bytes),
        ("large_request_bytes_waiting", usage.waiting_bytes),
    ];
    ctx.reply.map(counts.len());
    for (name, count) in counts {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.integer(count as i64);
    }
}

fn object(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let key = ctx.args.get(2);
    let encoding = keys::encoding_of(ctx.server, ctx.txn, key)?.ok_or(ReplyError::NO_SUCH_KEY)?;
    let at = ctx.txn.at(key)?;
    let bytes = ctx.txn.peek(at, |record| record.map_or(0, |record| record.body.len()))?;
    let idle_s = ctx.txn.idle_s(at);
    ctx.reply.simple(&format!(
        "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:0 lru_seconds_idle:{idle_s}"
    ));
    Ok(())
}

fn sleep(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let text = std::str::from_utf8(ctx.args.get(2)).unwrap_or_default();
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.unwrap_or(0.0);
    if !ctx.session.may_block {
        // In a transaction, which is on a pool then, and whose keys stay locked: that is what it is for.
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds.min(3600.0)));
        ctx.reply.ok();
        return Ok(());
    }
    let until_ms = ctx.server.clock.monotonic_ms().saturating_add((seconds * 1000.0) as u64);
    ctx.session.block = Some((Block::Sleep, until_ms));
    Ok(())
}

/// DEBUG RELOAD and LOADAOF: what is on the disk must be all there is.
fn reload(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if !ctx.session.may_block {
        return Err(ReplyError::fixed("ERR DEBUG RELOAD is not possible inside a transaction").into());
    }
    for option in ctx.args.from(2) {
        if !["MERGE", "NOFLUSH", "NOSAVE"].iter().any(|known| is_keyword(option, known)) {
            return Err(ReplyError::fixed(
                "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
            )
            .into());
        }
    }
    ctx.server.reopen()?;
    ctx.server.log('*', "Database closed and opened again by DEBUG");
    ctx.reply.ok();
    Ok(())
}

fn protocol(reply: &mut ReplyWriter, kind: &[u8]) -> Result<(), Stop> {
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(f64::from(3141) / 1000.0),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if reply.attribute(1) {
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if reply.protocol() == Protocol::Resp2 {
                return Err(ReplyError::fixed("ERR RESP2 is not supported by this command").into());
            }
            // Clients that wait for their answer do not take a push for it.
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"verbatim" => reply.verbatim(*b"txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        _ => {
            return Err(ReplyError::fixed(
                "ERR Wrong protocol type name. Please use one of the following: \
                 string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            )
            .into());
        }
    }
    Ok(())
}
