//! MULTI, EXEC, DISCARD, WATCH, UNWATCH, and what queues commands in between.
//!
//! The dispatcher looks up and admits a command as ever, then hands it to [`queue`] instead of running it. EXEC is a command whose
//! keys are those of all that is queued, and those watched: the dispatcher locks them, begins the transaction, calls [`exec`], commits, serves those who
//! wait for keys, and unlocks, as it does for any other. So everything about isolation, the one batch in the log and wake-ups after the
//! commit holds by itself; here is only the loop.
//!
//! *Run again.* On a worker an EXEC may find that it needs a pool, and starts over there. So what runs on a worker must leave nothing
//! behind but what is staged: commands on data, and a few that change nothing but the session's database, which is put back. An
//! EXEC with any other command goes to the slow pool from the start ([`Command::restarts`]), where nothing is run twice.

use crate::base::args::Args;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::check::{Asked, Denied, check, late_refusal, note_denied};
use crate::command::changes::remember_in_exec;
use crate::command::config_cmd::is_enabled;
use crate::command::debug;
use crate::command::facts::model::Flag;
use crate::command::running::{account, call_handler, container_alone, error_of};
use crate::command::spec::{Class, Command, Context};
use crate::session::acl_log::Reason;
use crate::session::multi::{Multi, Needs, Room};
use crate::session::server_state::ServerState;
use crate::session::session::{ReplyMode, Session};
use crate::session::watches::WatchedKey;
use crate::store::txn::Mode;
use haypile_resp::ReplyWriter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const PREVIOUS_ERRORS: ReplyError =
    ReplyError::fixed("EXECABORT Transaction discarded because of previous errors.");
const NO_MEMORY: ReplyError = ReplyError::fixed("OOM command not allowed when used memory > 'maxmemory'.");

/// MULTI
pub fn multi(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.session.multi.is_some() {
        return Err(ReplyError::fixed("ERR MULTI calls can not be nested").into());
    }
    ctx.session.begin_multi(ctx.server.identity.databases);
    ctx.reply.ok();
    Ok(())
}

/// DISCARD
pub fn discard(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.session.multi.is_none() {
        return Err(ReplyError::fixed("ERR DISCARD without MULTI").into());
    }
    ctx.session.end_multi();
    ctx.reply.ok();
    Ok(())
}

/// WATCH key [key ..]
pub fn watch(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.session.multi.is_some() {
        return Err(ReplyError::fixed("ERR WATCH inside MULTI is not allowed").into());
    }
    // Who knows already that a key has changed learns nothing more.
    if !ctx.session.watched.is_marked() {
        let (db, _) = ctx.txn.own_database();
        ctx.txn.tell_no_misses();
        let mut found = Vec::with_capacity(ctx.args.len());
        for key in ctx.args.from(1) {
            let at = ctx.txn.at(key)?;
            let expire_ms = ctx.txn.peek(at, |record| record.map(|record| record.head.expire_ms))?;
            found.push(WatchedKey { db, key: key.into(), expire_ms });
        }
        found.into_iter().for_each(|key| ctx.session.watched.add(key));
    }
    ctx.reply.ok();
    Ok(())
}

/// UNWATCH
pub fn unwatch(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.session.watched.clear();
    ctx.reply.ok();
    Ok(())
}

/// What a command needs, wherever it runs.
#[inline]
pub fn needs_of(command: &Command) -> Needs {
    let flags = command.facts.flags;
    Needs {
        reads: flags.has(Flag::ReadOnly),
        writes: command.writes(),
        grows: flags.has(Flag::DenyOom),
        replicates: command.replicates,
        slow: false,
        exclusive: false,
    }
}

/// The same, and where it runs with these words.
fn needs_with(command: &Command, args: &Args<'_>) -> Needs {
    let class = command.class(args);
    Needs {
        slow: !command.restarts || matches!(class, Class::Slow),
        exclusive: matches!(class, Class::Exclusive),
        ..needs_of(command)
    }
}

/// What came of queueing a command.
pub enum Queueing {
    /// It is queued, and answered.
    Done,
    /// There is no memory for it yet.
    Later,
    /// The client has queued more than it may: it is closed.
    TooMuch,
}

/// Queues a command that was admitted. An error has been noted: EXEC will run nothing.
pub fn queue(
    server: &ServerState,
    session: &mut Session,
    command: &Command,
    args: &Args<'_>,
    reply: &mut ReplyWriter,
) -> Result<Queueing, ReplyError> {
    if command.facts.flags.has(Flag::NoMulti) {
        return Err(ReplyError::fixed("ERR Command not allowed inside a transaction"));
    }
    if command.facts.name == "debug" && !is_enabled(server, session, "enable-debug-command") {
        return Err(debug::NOT_ALLOWED);
    }
    let Some(multi) = session.multi.as_deref_mut() else { return Ok(Queueing::Done) };
    let bytes: usize = args.iter().map(<[u8]>::len).sum();
    if multi.bytes().saturating_add(bytes) as u64 > server.settings.query_bytes_max.load(Ordering::Relaxed) {
        return Ok(Queueing::TooMuch);
    }
    match multi.room_for(bytes, &server.allowance) {
        Room::There => {}
        Room::Later => return Ok(Queueing::Later),
        Room::None => return Err(NO_MEMORY),
    }
    if !multi.is_aborted() {
        multi.push(command.index, args.to_owned(), needs_with(command, args));
    }
    session.info.set_multi(multi.commands().len() as i64, multi.bytes());
    reply.simple("QUEUED");
    Ok(Queueing::Done)
}

/// An EXEC that was not even begun: what it is answered, and the transaction is over.
pub fn refuse_exec(session: &mut Session, error: &ReplyError) -> ReplyError {
    session.end_multi();
    // As in Redis: a code of its own stays, the general one goes.
    let text = error.text();
    let text = text.strip_prefix("ERR ").unwrap_or(text);
    ReplyError::new(format!("EXECABORT Transaction discarded because of: {text}"))
}

/// EXEC
pub fn exec(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some(multi) = ctx.session.multi.take() else {
        return Err(ReplyError::fixed("ERR EXEC without MULTI").into());
    };
    let mut stopped = None;
    if multi.is_aborted() {
        stopped = Some(PREVIOUS_ERRORS.into());
    } else if ctx.session.watched.is_changed(ctx.txn.now_ms().max(ctx.server.clock.unix_ms())) {
        // It tells of somebody's write.
        ctx.txn.mark_read();
        ctx.reply.null_array();
    } else {
        let db = ctx.session.db;
        ctx.session.may_block = false;
        let result = run_queued(ctx, &multi);
        ctx.session.may_block = true;
        match result {
            Ok(()) => {}
            Err(stop @ (Stop::NeedsIo | Stop::Budget)) if ctx.txn.mode() == Mode::Inline => {
                ctx.session.select(db);
                ctx.session.multi = Some(multi);
                return Err(stop);
            }
            Err(stop) => stopped = Some(stop),
        }
    }
    ctx.session.end_multi();
    stopped.map_or(Ok(()), Err)
}

/// What is accounted for a command once nothing is run again.
struct Ran {
    ns: u64,
    reply: Range<usize>,
}

fn run_queued(ctx: &mut Context<'_>, multi: &Multi) -> Result<(), Stop> {
    let clock = ctx.server.clock;
    let seed = ctx.txn.draws().seed;
    let start = ctx.reply.len();
    ctx.reply.array(multi.commands().len());
    mute(ctx, start);
    ctx.txn.begin_several();
    if let Some(tracking) = ctx.session.tracking.as_deref_mut() {
        tracking.own_reads.begin();
    }
    let mut all_denied = Vec::new();
    let mut all_ran = Vec::with_capacity(multi.commands().len());
    let mut begun_ns = clock.monotonic_ns();
    for (number, queued) in multi.commands().iter().enumerate() {
        let Some(command) = ctx.table.get(queued.command) else { continue };
        let args = queued.args.as_args();
        let start = ctx.reply.len();
        let seed = seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match denied_now(ctx, command, &args) {
            None => run_one(ctx, command, args, seed)?,
            Some(denied) => {
                ctx.reply.error(late_refusal(denied).text());
                mute(ctx, start);
                all_denied.push((number, Arc::clone(&ctx.session.user), denied));
            }
        }
        let end = ctx.reply.len();
        let now_ns = clock.monotonic_ns();
        all_ran.push(Ran { ns: now_ns.saturating_sub(begun_ns), reply: start..end });
        begun_ns = now_ns;
    }
    for (number, user, denied) in all_denied {
        let Some(queued) = multi.commands().get(number) else { continue };
        let Some(command) = ctx.table.get(queued.command) else { continue };
        let asked = Asked { user: &user, facts: command.facts, args: queued.args.as_args() };
        note_denied(ctx.server, ctx.table, &ctx.session.info, asked, denied, true);
    }
    for (ran, queued) in all_ran.into_iter().zip(multi.commands()) {
        let Some(command) = ctx.table.get(queued.command) else { continue };
        let written = ctx.reply.buffer().get(ran.reply).unwrap_or_default();
        account(ctx.server, ctx.session, command, &queued.args.as_args(), written, ran.ns);
    }
    Ok(())
}

/// Whether a command of the queue is denied by what its user's rights have become since it was queued. A user who was removed may do
/// nothing; the connection ends.
fn denied_now(ctx: &mut Context<'_>, command: &Command, args: &Args<'_>) -> Option<Denied> {
    let users = &ctx.server.users;
    if ctx.session.users_generation != users.generation() && !ctx.session.follow_user(users) {
        ctx.session.close_after_reply = true;
        ctx.session.drop_replies = true;
        return Some(Denied { reason: Reason::Command, word: 0 });
    }
    match ctx.session.may_do_all {
        true => None,
        false => check(&ctx.session.user, command.acl_number, command.facts, args).err(),
    }
}

/// Runs one command of the queue. Stops only where all has to be run elsewhere.
fn run_one(ctx: &mut Context<'_>, command: &Command, args: Args<'_>, seed: u64) -> Result<(), Stop> {
    let start = ctx.reply.len();
    let client = ctx.session.id;
    remember_in_exec(ctx.server, ctx.session.tracking.as_deref_mut(), ctx.txn, client, command, &args);
    ctx.txn.begin_command(ctx.session.db, seed);
    ctx.txn.set_no_touch(ctx.session.no_touch);
    ctx.txn.set_quiet(command.is_quiet);
    let mut own = Context {
        server: ctx.server,
        table: ctx.table,
        session: ctx.session,
        txn: ctx.txn,
        reply: ctx.reply,
        args,
    };
    let result = call_handler(&mut own, command.handler.unwrap_or(container_alone));
    let result = result.and_then(|()| ctx.txn.keep_command().map_err(Stop::Engine));
    match result {
        Ok(()) => {}
        Err(stop @ (Stop::NeedsIo | Stop::Budget)) if ctx.txn.mode() == Mode::Inline => return Err(stop),
        Err(stop) => {
            ctx.txn.drop_command();
            ctx.reply.truncate(start);
            ctx.reply.error(error_of(ctx.server, stop).text());
        }
    }
    mute(ctx, start);
    Ok(())
}

/// Takes a reply back that CLIENT REPLY wants none of. What it says holds at once for the commands behind it.
fn mute(ctx: &mut Context<'_>, start: usize) {
    let is_push = std::mem::take(&mut ctx.session.reply_is_push);
    if matches!(ctx.session.reply_mode, ReplyMode::Off | ReplyMode::Skip) && !is_push {
        ctx.reply.truncate(start);
    }
}
