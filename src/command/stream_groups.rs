//! Commands on consumer groups of streams, and XINFO: words in, effects by `types/stream_groups.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::command::stream_words::{parse_end, parse_id, parse_ids, parse_start, parse_strict_id, reply_id};
use crate::command::streams::{reply_edge, reply_entry, reply_range, view_present};
use crate::encoding::stream::{Group, StreamId};
use crate::store::events::EventClass;
use crate::store::txn::Txn;
use crate::types::stream::{Order, Stream};
use crate::types::stream_groups::{
    self, AutoClaimed, Claim, Claimed, ConsumerNames, Session, StartAt, for_each_consumer, for_each_group,
    for_each_pending,
};
use haypile_resp::ReplyWriter;
use std::sync::atomic::Ordering;

const ALL: (StreamId, StreamId) = (StreamId::MIN, StreamId::MAX);

fn no_group(key: &[u8], group: &[u8]) -> ReplyError {
    let (key, group) = (ReplyError::echo(key), ReplyError::echo(group));
    ReplyError::new(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

fn no_group_of_key(key: &[u8], group: &[u8]) -> ReplyError {
    let (key, group) = (ReplyError::echo(key), ReplyError::echo(group));
    ReplyError::new(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// The complaint about a subcommand's words.
fn subcommand_syntax(ctx: &Context<'_>) -> ReplyError {
    let (name, subcommand) = (ReplyError::echo(ctx.args.name()), ReplyError::echo(ctx.args.get(1)));
    let name = name.to_ascii_uppercase();
    ReplyError::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {name} HELP."
    ))
}

// XGROUP.

/// Refuses a key that is not there, for all of XGROUP.
fn require_key(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(2))?;
    match ctx.txn.glance(at, |record| record.map(|record| record.head.kind))? {
        None => Err(ReplyError::fixed(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
             MKSTREAM option to create an empty stream automatically.",
        )
        .into()),
        Some(crate::encoding::meta::Kind::Stream) => Ok(()),
        Some(_) => Err(ReplyError::WRONG_TYPE.into()),
    }
}

/// MKSTREAM and ENTRIESREAD.
fn parse_group_options(ctx: &Context<'_>, of_create: bool) -> Result<(bool, Option<u64>), ReplyError> {
    let (mut may_create, mut entries_read) = (false, None);
    let mut words = ctx.args.options(5);
    while let Some(word) = words.next_word() {
        if of_create && is_keyword(word, "MKSTREAM") {
            may_create = true;
        } else if is_keyword(word, "ENTRIESREAD") && words.left() > 0 {
            let read = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
            entries_read = match read {
                -1 => None,
                0.. => Some(read as u64),
                _ => {
                    return Err(ReplyError::fixed("ERR value for ENTRIESREAD must be positive or -1"));
                }
            };
        } else {
            return Err(subcommand_syntax(ctx));
        }
    }
    Ok((may_create, entries_read))
}

/// `XGROUP CREATE key group id | $ [MKSTREAM] [ENTRIESREAD entries-read]`
pub fn xgroup_create(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (may_create, entries_read) = parse_group_options(ctx, true)?;
    if !may_create {
        require_key(ctx)?;
    }
    if ctx.args.len() > 8 {
        return Err(subcommand_syntax(ctx).into());
    }
    let at = ctx.txn.at(ctx.args.get(2))?;
    let start = match ctx.args.get(4) {
        b"$" => StartAt::Last,
        id => StartAt::Id(match ctx.txn.glance(at, |record| record.map(|record| record.head.kind))? {
            // A wrong type comes first.
            None | Some(crate::encoding::meta::Kind::Stream) => parse_strict_id(id, 0)?,
            Some(_) => return Err(ReplyError::WRONG_TYPE.into()),
        }),
    };
    stream_groups::create(ctx.txn, at, ctx.args.get(3), start, entries_read, may_create)?;
    ctx.txn.event(EventClass::STREAM, "xgroup-create", at);
    ctx.reply.ok();
    Ok(())
}

/// `XGROUP SETID key group id | $ [ENTRIESREAD entries-read]`
pub fn xgroup_setid(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (_, entries_read) = parse_group_options(ctx, false)?;
    require_key(ctx)?;
    let (key, group) = (ctx.args.get(2), ctx.args.get(3));
    let at = ctx.txn.at(key)?;
    let mut session =
        Session::open_to_change(ctx.txn, at, group)?.ok_or_else(|| no_group_of_key(key, group))?;
    if ctx.args.len() != 5 && ctx.args.len() != 7 {
        return Err(subcommand_syntax(ctx).into());
    }
    let start = match ctx.args.get(4) {
        b"$" => StartAt::Last,
        id => StartAt::Id(parse_id(id, 0)?),
    };
    stream_groups::set_id(&mut session, start, entries_read);
    session.finish(ctx.txn)?;
    ctx.txn.event(EventClass::STREAM, "xgroup-setid", at);
    ctx.reply.ok();
    Ok(())
}

/// XGROUP DESTROY key group
pub fn xgroup_destroy(ctx: &mut Context<'_>) -> Result<(), Stop> {
    require_key(ctx)?;
    let at = ctx.txn.at(ctx.args.get(2))?;
    let done = stream_groups::destroy(ctx.txn, at, ctx.args.get(3))?;
    if done {
        ctx.txn.event(EventClass::STREAM, "xgroup-destroy", at);
    }
    ctx.reply.integer(done.into());
    Ok(())
}

/// Opens the group that an XGROUP subcommand names.
fn open_group(ctx: &mut Context<'_>) -> Result<Session, Stop> {
    require_key(ctx)?;
    let (key, group) = (ctx.args.get(2), ctx.args.get(3));
    let at = ctx.txn.at(key)?;
    Ok(Session::open_to_change(ctx.txn, at, group)?.ok_or_else(|| no_group_of_key(key, group))?)
}

/// XGROUP CREATECONSUMER key group consumer
pub fn xgroup_createconsumer(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut session = open_group(ctx)?;
    let (_, made) = session.group.find_or_create(ctx.txn, ctx.args.get(4))?;
    session.finish(ctx.txn)?;
    if made {
        let at = ctx.txn.at(ctx.args.get(2))?;
        ctx.txn.event(EventClass::STREAM, "xgroup-createconsumer", at);
    }
    ctx.reply.integer(made.into());
    Ok(())
}

/// XGROUP DELCONSUMER key group consumer
pub fn xgroup_delconsumer(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut session = open_group(ctx)?;
    let pending = match session.group.find(ctx.txn, ctx.args.get(4))? {
        Some(number) => {
            let at = ctx.txn.at(ctx.args.get(2))?;
            ctx.txn.event(EventClass::STREAM, "xgroup-delconsumer", at);
            session.group.delete_consumer(ctx.txn, number)?
        }
        None => 0,
    };
    session.finish(ctx.txn)?;
    ctx.reply.integer(pending as i64);
    Ok(())
}

// XACK, XPENDING, XCLAIM, XAUTOCLAIM.

/// `XACK key group id [id ..]`
pub fn xack(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(mut session) = Session::open(ctx.txn, at, ctx.args.get(2))? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let ids = parse_ids(&ctx.args, 3)?;
    let acknowledged = stream_groups::acknowledge(ctx.txn, &mut session, &ids)?;
    session.finish(ctx.txn)?;
    ctx.reply.integer(acknowledged as i64);
    Ok(())
}

/// Which pending entries XPENDING shows one by one.
struct PendingQuery<'a> {
    min_idle_ms: i64,
    range: (StreamId, StreamId),
    count: i64,
    consumer: Option<&'a [u8]>,
}

/// `XPENDING key group [[IDLE min-idle-time] start end count [consumer]]`
pub fn xpending(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let words = args.len();
    if words != 3 && !(6..=9).contains(&words) {
        return Err(ReplyError::SYNTAX.into());
    }
    let query = if words == 3 {
        None
    } else {
        let (mut at, mut min_idle_ms) = (3, 0);
        if is_keyword(args.get(3), "IDLE") {
            min_idle_ms = args.integer(4)?;
            if words < 8 {
                return Err(ReplyError::SYNTAX.into());
            }
            at = 5;
        }
        let count = args.integer(at + 2)?.max(0);
        let range = (parse_start(args.get(at))?, parse_end(args.get(at + 1))?);
        let consumer = (at + 3 < words).then(|| args.get(at + 3));
        Some(PendingQuery { min_idle_ms, range, count, consumer })
    };
    let (key, name) = (args.get(1), args.get(2));
    let at = ctx.txn.at(key)?;
    let found = stream_groups::view_group(ctx.txn, at, name)?;
    let (stream, group) = found.ok_or_else(|| no_group(key, name))?;
    match query {
        Some(query) => reply_pending(ctx, &stream, &group, &query),
        None => reply_pending_summary(ctx, &stream, &group),
    }
}

fn reply_pending_summary(ctx: &mut Context<'_>, stream: &Stream, group: &Group) -> Result<(), Stop> {
    let (txn, reply, keys) = (&mut *ctx.txn, &mut *ctx.reply, stream.group_keys());
    reply.array(4);
    reply.integer(group.pending as i64);
    let Some((first, last)) = stream_groups::pending_ends(txn, keys, group)? else {
        reply.null();
        reply.null();
        reply.null_array();
        return Ok(());
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let mark = reply.begin_array();
    let mut count = 0;
    for_each_consumer(txn, keys, group, |_, _, consumer| {
        if consumer.pending > 0 {
            count += 1;
            reply.array(2);
            reply.bulk(&consumer.name);
            reply.bulk_integer(consumer.pending as i64);
        }
        Ok(())
    })?;
    reply.end_array(mark, count);
    Ok(())
}

fn reply_pending(
    ctx: &mut Context<'_>,
    stream: &Stream,
    group: &Group,
    query: &PendingQuery<'_>,
) -> Result<(), Stop> {
    let (txn, reply, keys) = (&mut *ctx.txn, &mut *ctx.reply, stream.group_keys());
    let of = match query.consumer {
        None => None,
        Some(name) => match stream_groups::consumer_number(txn, keys, group, name)? {
            Some(number) => Some(number),
            None => {
                reply.array(0);
                return Ok(());
            }
        },
    };
    let now_ms = txn.now_ms();
    let mut names = ConsumerNames::default();
    let mark = reply.begin_array();
    let mut count = 0;
    if query.count > 0 {
        for_each_pending(txn, keys, group, of, query.range, |txn, id, pending| {
            let idle_ms = now_ms.saturating_sub(pending.delivered_ms) as i64;
            if query.min_idle_ms != 0 && idle_ms < query.min_idle_ms {
                return Ok(true);
            }
            count += 1;
            reply.array(4);
            reply_id(reply, id);
            reply.bulk(names.get(txn, keys, group, pending.consumer)?);
            reply.integer(idle_ms);
            reply.integer(pending.deliveries as i64);
            Ok(count < query.count)
        })?;
    }
    reply.end_array(mark, count as usize);
    Ok(())
}

fn parse_min_idle(text: &[u8], command: &str) -> Result<u64, ReplyError> {
    match parse_i64(text) {
        Some(idle_ms) => Ok(idle_ms.max(0) as u64),
        None => Err(ReplyError::new(format!("ERR Invalid min-idle-time argument for {command}"))),
    }
}

/// `XCLAIM key group consumer min-idle-time id [id ..] [IDLE ms] [TIME unix-time-ms] [RETRYCOUNT count] [FORCE] [JUSTID]
/// [LASTID id]`
pub fn xclaim(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let (key, name) = (args.get(1), args.get(2));
    let at = ctx.txn.at(key)?;
    let mut session = Session::open(ctx.txn, at, name)?.ok_or_else(|| no_group(key, name))?;
    let min_idle_ms = parse_min_idle(args.get(4), "XCLAIM")?;
    let ids: Vec<StreamId> = args.from(5).map_while(|word| parse_strict_id(word, 0).ok()).collect();
    let now_ms = ctx.txn.now_ms() as i64;
    let (mut delivered_ms, mut deliveries, mut last_id) = (None, None, StreamId::MIN);
    let (mut force, mut just_id) = (false, false);
    let mut words = args.options(5 + ids.len());
    while let Some(word) = words.next_word() {
        let is = |keyword| is_keyword(word, keyword);
        if is("FORCE") {
            force = true;
        } else if is("JUSTID") {
            just_id = true;
        } else if words.left() == 0 {
            return Err(unrecognized(word).into());
        } else if is("IDLE") {
            delivered_ms = Some(now_ms.wrapping_sub(claim_number(words.value()?, "IDLE")?));
        } else if is("TIME") {
            delivered_ms = Some(claim_number(words.value()?, "TIME")?);
        } else if is("RETRYCOUNT") {
            deliveries = u64::try_from(claim_number(words.value()?, "RETRYCOUNT")?).ok();
        } else if is("LASTID") {
            last_id = parse_strict_id(words.value()?, 0)?;
        } else {
            return Err(unrecognized(word).into());
        }
    }
    // A time that cannot be is taken for now.
    let delivered_ms = delivered_ms.filter(|ms| (0..=now_ms).contains(ms)).unwrap_or(now_ms) as u64;
    session.group.raise_last_id(last_id);
    let how = Claim { min_idle_ms, delivered_ms, deliveries, force, just_id };
    let (consumer, made) = session.group.find_or_create(ctx.txn, args.get(3))?;
    if made {
        ctx.txn.event(EventClass::STREAM, "xgroup-createconsumer", at);
    }
    session.group.consumer(ctx.txn, consumer)?.seen_ms = now_ms as u64;
    let mark = ctx.reply.begin_array();
    let mut count = 0;
    for id in ids {
        if stream_groups::claim(ctx.txn, &mut session, consumer, id, &how)? == Claimed::Yes {
            reply_claimed(ctx.txn, ctx.reply, &session.stream, id, just_id)?;
            count += 1;
        }
    }
    ctx.reply.end_array(mark, count);
    session.finish(ctx.txn)
}

fn claim_number(text: &[u8], option: &str) -> Result<i64, ReplyError> {
    let number = parse_i64(text);
    number.ok_or_else(|| ReplyError::new(format!("ERR Invalid {option} option argument for XCLAIM")))
}

fn unrecognized(word: &[u8]) -> ReplyError {
    ReplyError::new(format!("ERR Unrecognized XCLAIM option '{}'", ReplyError::echo(word)))
}

fn reply_claimed(
    txn: &mut Txn,
    reply: &mut ReplyWriter,
    stream: &Stream,
    id: StreamId,
    just_id: bool,
) -> Result<(), Stop> {
    if just_id {
        reply_id(reply, id);
        return Ok(());
    }
    stream.entry(txn, id, |fields| reply_entry(reply, id, fields))?;
    Ok(())
}

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`
pub fn xautoclaim(ctx: &mut Context<'_>) -> Result<(), Stop> {
    /// Redis's bound, which comes from the size of an id in memory.
    const COUNT_MAX: i64 = i64::MAX / 16;
    let args = ctx.args;
    let min_idle_ms = parse_min_idle(args.get(4), "XAUTOCLAIM")?;
    let start = parse_start(args.get(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut words = args.options(6);
    while let Some(word) = words.next_word() {
        if is_keyword(word, "COUNT") && words.left() > 0 {
            let value = parse_i64(words.value()?).filter(|count| (1..=COUNT_MAX).contains(count));
            count = value.ok_or(ReplyError::fixed("ERR COUNT must be > 0"))?;
        } else if is_keyword(word, "JUSTID") {
            just_id = true;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let (key, name) = (args.get(1), args.get(2));
    let at = ctx.txn.at(key)?;
    let mut session = Session::open(ctx.txn, at, name)?.ok_or_else(|| no_group(key, name))?;
    let now_ms = ctx.txn.now_ms();
    let (consumer, made) = session.group.find_or_create(ctx.txn, args.get(3))?;
    if made {
        ctx.txn.event(EventClass::STREAM, "xgroup-createconsumer", at);
    }
    session.group.consumer(ctx.txn, consumer)?.seen_ms = now_ms;
    let how = Claim { min_idle_ms, delivered_ms: now_ms, deliveries: None, force: false, just_id };
    let AutoClaimed { claimed, gone, next } =
        stream_groups::auto_claim(ctx.txn, &mut session, consumer, start, count as u64, &how)?;
    ctx.reply.array(3);
    reply_id(ctx.reply, next);
    ctx.reply.array(claimed.len());
    for id in claimed {
        reply_claimed(ctx.txn, ctx.reply, &session.stream, id, just_id)?;
    }
    ctx.reply.array(gone.len());
    gone.into_iter().for_each(|id| reply_id(ctx.reply, id));
    session.finish(ctx.txn)
}

// XINFO.

fn reply_optional(reply: &mut ReplyWriter, value: Option<i64>) {
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}

/// XINFO GROUPS key
pub fn xinfo_groups(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(2))?;
    let stream = view_present(ctx.txn, at)?;
    let reply = &mut *ctx.reply;
    let mark = reply.begin_array();
    let mut count = 0;
    for_each_group(ctx.txn, &stream, |_, name, group| {
        count += 1;
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumers as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending as i64);
        reply.bulk(b"last-delivered-id");
        reply_id(reply, group.last_id);
        reply.bulk(b"entries-read");
        reply_optional(reply, group.entries_read.map(|read| read as i64));
        reply.bulk(b"lag");
        reply_optional(reply, stream_groups::lag(&stream, &group));
        Ok(())
    })?;
    reply.end_array(mark, count);
    Ok(())
}

/// XINFO CONSUMERS key group
pub fn xinfo_consumers(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (key, name) = (ctx.args.get(2), ctx.args.get(3));
    let at = ctx.txn.at(key)?;
    let stream = view_present(ctx.txn, at)?;
    let group = stream_groups::group(ctx.txn, &stream, name)?.ok_or_else(|| no_group_of_key(key, name))?;
    let (reply, now_ms) = (&mut *ctx.reply, ctx.txn.now_ms());
    let mark = reply.begin_array();
    let mut count = 0;
    for_each_consumer(ctx.txn, stream.group_keys(), &group, |_, _, consumer| {
        count += 1;
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(&consumer.name);
        reply.bulk(b"pending");
        reply.integer(consumer.pending as i64);
        reply.bulk(b"idle");
        reply.integer(now_ms.saturating_sub(consumer.seen_ms) as i64);
        reply.bulk(b"inactive");
        reply.integer(consumer.active_ms.map_or(-1, |active_ms| now_ms.saturating_sub(active_ms) as i64));
        Ok(())
    })?;
    reply.end_array(mark, count);
    Ok(())
}

/// `XINFO STREAM key [FULL [COUNT count]]`
pub fn xinfo_stream(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(2))?;
    let stream = view_present(ctx.txn, at)?;
    let words = ctx.args.len() - 3;
    let mut full = None;
    if words > 0 {
        let is = |at, keyword| is_keyword(ctx.args.get(at), keyword);
        if !matches!(words, 1 | 3) || !is(3, "FULL") || words == 3 && !is(4, "COUNT") {
            return Err(subcommand_syntax(ctx).into());
        }
        let count = if words == 3 { ctx.args.integer(5)? } else { 10 };
        full = Some(if count < 0 { 10 } else { count as u64 });
    }
    let node = ctx.server.settings.stream_node_entries_max.load(Ordering::Relaxed).max(1);
    let (txn, reply, meta) = (&mut *ctx.txn, &mut *ctx.reply, &stream.meta);
    reply.map(if full.is_some() { 9 } else { 10 });
    reply.bulk(b"length");
    reply.integer(meta.length as i64);
    // What the tree of nodes would be at least, were there one.
    let nodes = meta.length.div_ceil(node);
    reply.bulk(b"radix-tree-keys");
    reply.integer(nodes as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.integer(nodes as i64 + 1);
    reply.bulk(b"last-generated-id");
    reply_id(reply, meta.last_id);
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, meta.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.integer(meta.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, meta.first_id);
    match full {
        None => {
            reply.bulk(b"groups");
            reply.integer(meta.groups as i64);
            reply.bulk(b"first-entry");
            reply_edge(txn, reply, &stream, Order::Forward)?;
            reply.bulk(b"last-entry");
            reply_edge(txn, reply, &stream, Order::Backward)?;
        }
        Some(count) => {
            reply.bulk(b"entries");
            reply_range(txn, reply, &stream, ALL, Order::Forward, count)?;
            reply.bulk(b"groups");
            let mark = reply.begin_array();
            let mut groups = 0;
            for_each_group(txn, &stream, |txn, name, group| {
                groups += 1;
                reply_whole_group(txn, reply, &stream, name, &group, count)
            })?;
            reply.end_array(mark, groups);
        }
    }
    Ok(())
}

/// A group in XINFO STREAM FULL, with `count` pending entries at most (0: all).
fn reply_whole_group(
    txn: &mut Txn,
    reply: &mut ReplyWriter,
    stream: &Stream,
    name: &[u8],
    group: &Group,
    count: u64,
) -> Result<(), Stop> {
    let keys = stream.group_keys();
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    reply_optional(reply, group.entries_read.map(|read| read as i64));
    reply.bulk(b"lag");
    reply_optional(reply, stream_groups::lag(stream, group));
    reply.bulk(b"pel-count");
    reply.integer(group.pending as i64);
    reply.bulk(b"pending");
    let mut names = ConsumerNames::default();
    let mark = reply.begin_array();
    let mut shown = 0;
    for_each_pending(txn, keys, group, None, ALL, |txn, id, pending| {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(names.get(txn, keys, group, pending.consumer)?);
        reply.integer(pending.delivered_ms as i64);
        reply.integer(pending.deliveries as i64);
        shown += 1;
        Ok(shown != count)
    })?;
    reply.end_array(mark, shown as usize);
    reply.bulk(b"consumers");
    let mark = reply.begin_array();
    let mut consumers = 0;
    for_each_consumer(txn, keys, group, |txn, number, consumer| {
        consumers += 1;
        reply.map(5);
        reply.bulk(b"name");
        reply.bulk(&consumer.name);
        reply.bulk(b"seen-time");
        reply.integer(consumer.seen_ms as i64);
        reply.bulk(b"active-time");
        reply.integer(consumer.active_ms.map_or(-1, |active_ms| active_ms as i64));
        reply.bulk(b"pel-count");
        reply.integer(consumer.pending as i64);
        reply.bulk(b"pending");
        let mark = reply.begin_array();
        let mut shown = 0;
        for_each_pending(txn, keys, group, Some(number), ALL, |_, id, pending| {
            reply.array(3);
            reply_id(reply, id);
            reply.integer(pending.delivered_ms as i64);
            reply.integer(pending.deliveries as i64);
            shown += 1;
            Ok(shown != count)
        })?;
        reply.end_array(mark, shown as usize);
        Ok(())
    })?;
    reply.end_array(mark, consumers);
    Ok(())
}
