//! COMPACT: brings everything, or one database, down to the last level of the tree, in the background. What was deleted or replaced gives
//! its space back then, and a read has one level to look into.
//!
//! The command answers at once; a thread of its own does the work, one request after another, and INFO engine tells how far it is. The
//! engine compacts by itself all the time: this is for after mass deletions, and before a copy is made.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::encoding::meta;
use crate::session::server_state::{CompactScope, ServerState};
use haypile_lsm::Error;

/// COMPACT [ALL | DB number].
pub fn compact(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let scope = match args.len() {
        1 => CompactScope::All,
        2 if is_keyword(args.get(1), "ALL") => CompactScope::All,
        3 if is_keyword(args.get(1), "DB") => {
            let db = args.integer(2)?;
            let known = usize::try_from(db).ok().filter(|db| *db < ctx.server.identity.databases);
            CompactScope::Database(known.ok_or(ReplyError::DB_OUT_OF_RANGE)?)
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if !ctx.server.compaction().ask(scope) {
        return Err(ReplyError::fixed("ERR too many compactions wait already").into());
    }
    ctx.reply.ok();
    Ok(())
}

/// Does what COMPACT asked for, if it did. For a thread that may take its time.
pub fn run_requested(server: &ServerState) {
    loop {
        let now_ms = server.clock.monotonic_ms();
        let Some(scope) = server.compaction().begin(now_ms) else { return };
        server.log('*', &format!("Compaction of {scope} started"));
        let result = run(server, scope);
        let now_ms = server.clock.monotonic_ms();
        let took_ms = server.compaction().finish(result.is_ok(), now_ms);
        match result {
            Ok(()) => server.log('*', &format!("Compaction of {scope} took {took_ms} ms")),
            Err(error) => server.log('#', &format!("Compaction of {scope} failed: {error}")),
        }
    }
}

/// One keyspace after another.
fn run(server: &ServerState, scope: CompactScope) -> Result<(), Error> {
    let store = server.settled_store();
    let keyspaces = store.keyspaces();
    match scope {
        CompactScope::All => {
            let all = [keyspaces.meta, keyspaces.data, keyspaces.ttl, keyspaces.system];
            for (done, keyspace) in all.into_iter().enumerate() {
                server.compaction().progress(done, all.len());
                store.db().compact_range(keyspace, None, None)?;
            }
        }
        CompactScope::Database(db) => {
            // Which space a database has may change meanwhile (FLUSHDB, SWAPDB): then what it was is compacted.
            let Some((start, end)) = meta::space_bounds(store.space_of(db)) else { return Ok(()) };
            let all = [keyspaces.meta, keyspaces.data];
            for (done, keyspace) in all.into_iter().enumerate() {
                server.compaction().progress(done, all.len());
                store.db().compact_range(keyspace, Some(&start), Some(&end))?;
            }
        }
    }
    Ok(())
}
