//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF: checkpoints.
//!
//! A checkpoint is the whole database at one LSN. It is built aside in the data folder and then swapped in by one rename, so
//! `DIR/checkpoint` is at any time absent, the old one, or the new one, and always whole. One is kept.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::session::latency::CHECKPOINT;
use crate::session::server_state::ServerState;
use haypile_lsm::{Env, Error, OsEnv};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::sync::atomic::Ordering;
use std::time::Duration;

const IN_PROGRESS: ReplyError = ReplyError::fixed("ERR Background save already in progress");

/// Marks a checkpoint as running. False if one is.
fn begin(server: &ServerState) -> bool {
    let mut state = server.save_state();
    if state.running_since_ms.is_some() {
        return false;
    }
    state.running_since_ms = Some(server.clock.monotonic_ms());
    true
}

/// Makes the checkpoint that [`begin`] marked, and notes how that went.
fn finish(server: &ServerState) -> Result<(), Error> {
    let dirty_before = server.stats.totals().dirty;
    let result = build(server);
    if result.is_ok() {
        server.stats.forget_dirty(dirty_before);
    }
    let mut state = server.save_state();
    let now_ms = server.clock.monotonic_ms();
    let since_ms = state.running_since_ms.take().unwrap_or(now_ms);
    state.last_duration_s = Some(now_ms.saturating_sub(since_ms) / 1000);
    state.last_ok = result.is_ok();
    if result.is_ok() {
        state.last_unix_s = server.clock.unix_ms() / 1000;
        state.saves += 1;
    }
    // INFO reads it: the log may have to wait for a disk.
    drop(state);
    server.latency.note(CHECKPOINT, Duration::from_millis(now_ms.saturating_sub(since_ms)));
    match &result {
        Ok(()) => server.log('*', "Checkpoint saved"),
        Err(error) => server.log('#', &format!("Checkpoint failed: {error}")),
    }
    result
}

fn build(server: &ServerState) -> Result<(), Error> {
    let dir = &server.identity.dir;
    let (place, aside) = (dir.join("checkpoint"), dir.join("checkpoint.new"));
    let env = OsEnv::new();
    env.remove_dir_all(&aside)?;
    server.settled_store().db().checkpoint(&aside)?;
    if env.exists(&place)? {
        // Both names change at once: there is no moment without a checkpoint.
        renameat_with(CWD, &aside, CWD, &place, RenameFlags::EXCHANGE)
            .map_err(|error| Error::io("exchange", &place, error.into()))?;
        env.sync_dir(dir)?;
        env.remove_dir_all(&aside)
    } else {
        env.rename(&aside, &place)?;
        env.sync_dir(dir)
    }
}

/// Makes a checkpoint that BGSAVE asked for, if one did. Called by a thread that may take its time.
pub fn run_requested(server: &ServerState) {
    if server.save_requested.swap(false, Ordering::AcqRel) {
        // What went wrong is noted and logged.
        let _ = finish(server);
    }
}

/// Makes a checkpoint and waits for it; for SAVE and SHUTDOWN SAVE.
pub fn save_now(server: &ServerState) -> Result<(), ReplyError> {
    if !begin(server) {
        return Err(IN_PROGRESS);
    }
    finish(server).map_err(|error| ReplyError::new(format!("ERR {error}")))
}

/// SAVE.
pub fn save(ctx: &mut Context<'_>) -> Result<(), Stop> {
    save_now(ctx.server)?;
    ctx.reply.ok();
    Ok(())
}

/// BGSAVE.
pub fn bgsave(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let scheduled = match ctx.args.len() {
        1 => false,
        2 if is_keyword(ctx.args.get(1), "SCHEDULE") => true,
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if !begin(ctx.server) {
        if scheduled {
            ctx.reply.simple("Background saving scheduled");
            return Ok(());
        }
        return Err(IN_PROGRESS.into());
    }
    // AcqRel: pairs with the swap in `run_requested`.
    ctx.server.save_requested.store(true, Ordering::Release);
    ctx.reply.simple("Background saving started");
    Ok(())
}

/// LASTSAVE.
pub fn lastsave(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.server.save_state().last_unix_s;
    ctx.reply.integer(at as i64);
    Ok(())
}

/// BGREWRITEAOF: the engine compacts by itself.
pub fn bgrewriteaof(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.simple("Background append only file rewriting started");
    Ok(())
}
