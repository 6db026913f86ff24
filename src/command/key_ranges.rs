//! Commands on stretches of keys that Redis has no name for: PKSCANRANGE, PKRSCANRANGE, PKPATTERNMATCHDEL.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::changes::{record, tell};
use crate::command::key_finder::shows_values;
use crate::command::scans::page_limit;
use crate::command::service::{Line, Servant};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::store::key_locks::LockKey;
use crate::store::txn::{Draws, Mode, ReadPoint};
use crate::types::key_ranges::{self, KeyStretch};
use crate::types::keys;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// `PKSCANRANGE type start end [MATCH pattern] [LIMIT count]`
pub fn pkscanrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    scan_range(ctx, false)
}

/// `PKRSCANRANGE type start end [MATCH pattern] [LIMIT count]`
pub fn pkrscanrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    scan_range(ctx, true)
}

fn scan_range(ctx: &mut Context<'_>, reverse: bool) -> Result<(), Stop> {
    let word = ctx.args.get(1);
    let with_values = shows_values(&ctx.args);
    let kind = match word {
        _ if with_values => Some(Kind::String),
        _ if is_keyword(word, "all") => None,
        word => {
            let kind = Kind::ALL.into_iter().find(|kind| is_keyword(word, kind.name()));
            Some(kind.ok_or(ReplyError::fixed("ERR unknown type name"))?)
        }
    };
    let (from, to) = (ctx.args.get(2), ctx.args.get(3));
    let mut stretch = KeyStretch { from, to, reverse, kind, pattern: None, limit: 10 };
    let mut words = ctx.args.options(4);
    while let Some(word) = words.next_word() {
        let value = words.value()?;
        if is_keyword(word, "MATCH") {
            stretch.pattern = Some(value);
        } else if is_keyword(word, "LIMIT") {
            stretch.limit = page_limit(value)?;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    // Keys and values are of one moment.
    ctx.txn.pin();
    let mut found = Vec::new();
    let next = key_ranges::scan_range(ctx.txn, stretch, |key| found.push(key.to_vec()))?;
    ctx.reply.array(2);
    ctx.reply.bulk(&next);
    ctx.reply.array(if with_values { found.len() * 2 } else { found.len() });
    for key in found {
        ctx.reply.bulk(&key);
        if with_values {
            let at = ctx.txn.at(&key)?;
            ctx.reply.bulk(&key_ranges::string_of(ctx.txn, at)?.unwrap_or_default());
        }
    }
    Ok(())
}

/// How many keys go in one batch.
const BATCH_KEYS: usize = 64;

/// `PKPATTERNMATCHDEL pattern [max]`, on a pool. Deletes in batches, each of which is atomic; a closer of the gate passes between two.
pub fn pkpatternmatchdel(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let pattern = ctx.args.get(1);
    let mut left = match ctx.args.len() {
        2 => u64::MAX,
        3 => {
            let most = parse_i64(ctx.args.get(2)).ok_or(ReplyError::NOT_AN_INTEGER)?;
            u64::try_from(most).ok().filter(|most| *most > 0).ok_or(ReplyError::SYNTAX)?
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    let store = Arc::clone(ctx.txn.store());
    let (db, _) = ctx.txn.own_database();
    let (mut deleted, mut from) = (0, Vec::new());
    loop {
        let wanted = left.min(BATCH_KEYS as u64) as usize;
        let found = key_ranges::next_matches(ctx.txn, pattern, &from, wanted)?;
        let gone = delete_batch(ctx, db, &found.keys)?;
        deleted += gone;
        left -= gone;
        let Some(next) = found.next.filter(|_| left > 0) else { break };
        from = next;
        if let Some(pass) = &mut ctx.session.pass {
            pass.give_way();
        }
        if ctx.session.info.is_killed() || !Arc::ptr_eq(&ctx.server.store(), &store) {
            break;
        }
        begin(ctx, db);
    }
    // Commits were made on the way: the answer waits for the log.
    ctx.txn.mark_read();
    ctx.reply.integer(deleted as i64);
    Ok(())
}

/// Begins anew, at the present time.
fn begin(ctx: &mut Context<'_>, db: usize) {
    let draws = Draws { now_ms: ctx.server.clock.unix_ms(), ..ctx.txn.draws() };
    ctx.txn.begin(db, Mode::Pool, draws, ReadPoint::Latest);
    ctx.txn.set_no_touch(ctx.session.no_touch);
    ctx.txn.set_origin(ctx.session.id);
}

/// Deletes what is still there of some keys, and tells those who wait for a stream of them. How many it deleted.
fn delete_batch(ctx: &mut Context<'_>, db: usize, found: &[Vec<u8>]) -> Result<u64, Stop> {
    if found.is_empty() {
        return Ok(0);
    }
    let store = Arc::clone(ctx.txn.store());
    let mut locks: Vec<LockKey> = found.iter().map(|key| LockKey::new(db, key)).collect();
    let Some(pass) = &mut ctx.session.pass else { return Err(Stop::Budget) };
    let _locked = pass.lock(&store, &mut locks);
    // What it stands on may have been left meanwhile.
    begin(ctx, db);
    record(ctx.server, ctx.txn);
    let mut deleted = 0;
    for key in found {
        let at = ctx.txn.at(key)?;
        if keys::delete(ctx.txn, at)? {
            ctx.txn.event(EventClass::GENERIC, "del", at);
            deleted += 1;
        }
    }
    if let Some(lsn) = ctx.txn.commit()? {
        ctx.session.last_own_lsn = ctx.session.last_own_lsn.max(lsn);
    }
    let (draws, dirty) = (ctx.txn.draws(), ctx.txn.stats().dirty);
    tell(ctx.server, ctx.txn, draws);
    let counters = &ctx.server.stats.shard(ctx.session.shard).counters;
    counters.dirty.fetch_add(dirty, Ordering::Relaxed);
    let waiters = &ctx.server.waiters;
    let mut line = Line::default();
    found.iter().filter(|key| waiters.has(db, key)).for_each(|key| line.push(db, key));
    let mut servant = Servant {
        server: ctx.server,
        table: ctx.table,
        txn: ctx.txn,
        mode: Mode::Pool,
        draws,
        obeys_pause: false,
    };
    servant.serve(&mut line);
    begin(ctx, db);
    Ok(deleted)
}
