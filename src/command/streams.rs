//! Stream commands but those on consumer groups: words in, effects by `types/stream.rs`, replies out.

use crate::base::args::{Args, OwnedArgs, is_keyword};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::blocking::{timeout_milliseconds, wait, wanted};
use crate::command::spec::Context;
use crate::command::stream_words::{
    parse_add_options, parse_end, parse_ids, parse_start, parse_strict_id, reply_id,
};
use crate::encoding::meta::{Kind, damaged};
use crate::encoding::stream::{Fields, StreamId};
use crate::store::events::EventClass;
use crate::store::txn::{At, Txn};
use crate::types::stream::{self, NewId, Order, Stream};
use crate::types::stream_groups::{self, Delivery, Session};
use haypile_resp::{Mark, Protocol, ReplyWriter};
use std::sync::atomic::Ordering;

/// How many entries approximate trimming takes for a node. A plain setting: nothing else depends on when a thread sees it.
fn node_entries(ctx: &Context<'_>) -> u64 {
    ctx.server.settings.stream_node_entries_max.load(Ordering::Relaxed)
}

/// `XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value [field value ..]`
pub fn xadd(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let options = parse_add_options(&ctx.args, true, node_entries(ctx))?;
    let words = ctx.args.len().saturating_sub(options.fields_at);
    if words < 2 || !words.is_multiple_of(2) {
        return Err(ReplyError::wrong_arity("xadd").into());
    }
    if options.id == NewId::Given(StreamId::MIN) {
        return Err(ReplyError::fixed("ERR The ID specified in XADD must be greater than 0-0").into());
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    let items = || ctx.args.from(options.fields_at);
    let bytes = items().map(|item| item.len() as u64 + 2).sum();
    let create = (!options.only_if_there).then_some(bytes);
    let added = stream::add(ctx.txn, at, options.id, items(), options.trim.as_ref(), create)?;
    match added {
        Some(id) => reply_id(ctx.reply, id),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count]`
pub fn xtrim(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let options = parse_add_options(&ctx.args, false, node_entries(ctx))?;
    let trim = options.trim.ok_or(ReplyError::SYNTAX)?;
    let at = ctx.txn.at(ctx.args.get(1))?;
    let removed = stream::trim(ctx.txn, at, &trim)?;
    if removed > 0 {
        ctx.txn.event(EventClass::STREAM, "xtrim", at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

/// XLEN key
pub fn xlen(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let length = stream::length(ctx.txn, at)?;
    ctx.reply.integer(length as i64);
    Ok(())
}

/// `XDEL key id [id ..]`
pub fn xdel(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    // A key that is not there or no stream comes before an id that is none.
    let Some(mut editor) = stream::Editor::open(ctx.txn, at)? else {
        ctx.reply.integer(0);
        return Ok(());
    };
    let ids = parse_ids(&ctx.args, 2)?;
    let deleted = editor.delete(ctx.txn, &ids)?;
    if deleted > 0 {
        editor.finish(ctx.txn, at)?;
        ctx.txn.event(EventClass::STREAM, "xdel", at);
    }
    ctx.reply.integer(deleted as i64);
    Ok(())
}

/// Answers an entry: its id, and its fields.
pub fn reply_entry(reply: &mut ReplyWriter, id: StreamId, mut fields: Fields<'_>) -> Result<(), Stop> {
    reply.array(2);
    reply_id(reply, id);
    reply.array(fields.left() as usize);
    while let Some(item) = fields.next_item() {
        reply.bulk(item);
    }
    match fields.left() {
        0 => Ok(()),
        _ => Err(damaged("keyspace data", "fields of a stream's entry").into()),
    }
}

/// Answers the entries from one id up to another, which is included, in an array; how many there were.
pub fn reply_range(
    txn: &mut Txn,
    reply: &mut ReplyWriter,
    stream: &Stream,
    range: (StreamId, StreamId),
    order: Order,
    count: u64,
) -> Result<u64, Stop> {
    let mark = reply.begin_array();
    let found = stream.for_each(txn, range, order, count, |_, id, fields| reply_entry(reply, id, fields))?;
    reply.end_array(mark, found as usize);
    Ok(found)
}

/// `XRANGE key start end [COUNT count]`
pub fn xrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    range(ctx, Order::Forward)
}

/// `XREVRANGE key end start [COUNT count]`
pub fn xrevrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    range(ctx, Order::Backward)
}

fn range(ctx: &mut Context<'_>, order: Order) -> Result<(), Stop> {
    let (start, end) = match order {
        Order::Forward => (2, 3),
        Order::Backward => (3, 2),
    };
    let range = (parse_start(ctx.args.get(start))?, parse_end(ctx.args.get(end))?);
    let mut count = None;
    let mut words = ctx.args.options(4);
    while let Some(word) = words.next_word() {
        if !is_keyword(word, "COUNT") {
            return Err(ReplyError::SYNTAX.into());
        }
        let value = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
        count = Some(value.max(0) as u64);
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(stream) = stream::view(ctx.txn, at)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    if count == Some(0) {
        ctx.reply.null_array();
        return Ok(());
    }
    reply_range(ctx.txn, ctx.reply, &stream, range, order, count.unwrap_or(0))?;
    Ok(())
}

/// `XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]`
pub fn xsetid(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let id = parse_strict_id(ctx.args.get(2), 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::MIN);
    let mut words = ctx.args.options(3);
    while let Some(word) = words.next_word() {
        let value = words.value()?;
        if is_keyword(word, "ENTRIESADDED") {
            let added = parse_i64(value).ok_or(ReplyError::NOT_AN_INTEGER)?;
            let added = u64::try_from(added);
            entries_added = Some(added.map_err(|_| ReplyError::fixed("ERR entries_added must be positive"))?);
        } else if is_keyword(word, "MAXDELETEDID") {
            max_deleted_id = parse_strict_id(value, 0)?;
            if id < max_deleted_id {
                let error =
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
                return Err(ReplyError::fixed(error).into());
            }
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    stream::set_id(ctx.txn, at, id, entries_added, max_deleted_id)?;
    ctx.txn.event(EventClass::STREAM, "xsetid", at);
    ctx.reply.ok();
    Ok(())
}

// XREAD and XREADGROUP.

/// From where one stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadFrom {
    /// Behind this id; of a group: what the consumer has pending behind this id.
    After(StreamId),
    /// What the group has not had.
    New,
}

/// The words of XREAD or XREADGROUP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read<'a> {
    /// Until when to wait if there is nothing (monotonic ms). `None`: not at all.
    until_ms: Option<u64>,
    /// How many entries of each stream; 0 for all.
    count: u64,
    /// Group and consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    /// What is delivered counts as acknowledged.
    no_ack: bool,
    /// The streams' keys.
    keys: Vec<&'a [u8]>,
    /// The ids as they were given.
    ids: Vec<&'a [u8]>,
}

impl<'a> Read<'a> {
    /// Reads the words, but not the ids yet. Of a command that is run again because a key is ready, only that key is left.
    fn parse(ctx: &Context<'a>, of_group: bool) -> Result<Read<'a>, ReplyError> {
        let args: Args<'a> = ctx.args;
        let mut read =
            Read { until_ms: None, count: 0, group: None, no_ack: false, keys: Vec::new(), ids: Vec::new() };
        let mut at = 1;
        let mut streams_at = 0;
        while at < args.len() && streams_at == 0 {
            let (word, more) = (args.get(at), args.len() - 1 - at);
            let is = |keyword| is_keyword(word, keyword);
            if is("BLOCK") && more > 0 {
                at += 1;
                read.until_ms = Some(timeout_milliseconds(ctx, args.get(at))?);
            } else if is("COUNT") && more > 0 {
                at += 1;
                read.count = args.integer(at)?.max(0) as u64;
            } else if is("STREAMS") && more > 0 {
                streams_at = at + 1;
            } else if is("GROUP") && more >= 2 {
                if !of_group {
                    let error =
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.";
                    return Err(ReplyError::fixed(error));
                }
                read.group = Some((args.get(at + 1), args.get(at + 2)));
                at += 2;
            } else if is("NOACK") {
                if !of_group {
                    let error =
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.";
                    return Err(ReplyError::fixed(error));
                }
                read.no_ack = true;
            } else {
                return Err(ReplyError::SYNTAX);
            }
            at += 1;
        }
        if streams_at == 0 {
            return Err(ReplyError::SYNTAX);
        }
        let words = args.len() - streams_at;
        if !words.is_multiple_of(2) {
            let name = if of_group { "xreadgroup" } else { "xread" };
            return Err(ReplyError::new(format!(
                "ERR Unbalanced '{name}' list of streams: for each stream key {} must be specified.",
                if of_group { "an ID or '>'" } else { "an ID or '$'" }
            )));
        }
        if of_group && read.group.is_none() {
            return Err(ReplyError::fixed("ERR Missing GROUP option for XREADGROUP"));
        }
        let count = words / 2;
        let pairs = (streams_at..streams_at + count).map(|at| (args.get(at), args.get(at + count)));
        (read.keys, read.ids) = pairs.filter(|(key, _)| ctx.session.may_take(key)).unzip();
        Ok(read)
    }

    /// Reads the ids of XREAD against the streams as they are now.
    fn resolve(&self, txn: &mut Txn) -> Result<Vec<ReadFrom>, Stop> {
        let mut from = Vec::with_capacity(self.ids.len());
        for (key, id) in self.keys.iter().zip(&self.ids) {
            let at = txn.at(key)?;
            let stream = stream::view(txn, at)?;
            from.push(ReadFrom::After(match *id {
                b"$" => stream.map_or(StreamId::MIN, |stream| stream.meta.last_id),
                b"+" => match stream {
                    None => StreamId::MIN,
                    Some(stream) => match stream.last_entry(txn)? {
                        Some(last) => last.previous().unwrap_or(StreamId::MIN),
                        None => stream.meta.last_id,
                    },
                },
                b">" => {
                    let error = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
                                 <consumer> option.";
                    return Err(ReplyError::fixed(error).into());
                }
                id => parse_strict_id(id, 0)?,
            }));
        }
        Ok(from)
    }

    /// The words with these ids, for a read that waits: what came last is what came last now.
    fn resolved_words(args: &Args<'_>, from: &[ReadFrom]) -> OwnedArgs {
        let ids: Vec<String> = from
            .iter()
            .map(|from| match from {
                ReadFrom::After(id) => id.to_string(),
                ReadFrom::New => ">".into(),
            })
            .collect();
        let kept = args.len().saturating_sub(ids.len());
        let words: Vec<&[u8]> = args.iter().take(kept).chain(ids.iter().map(String::as_bytes)).collect();
        OwnedArgs::from_words(&words)
    }

    /// Answers what is there of XREAD; whether there was anything.
    fn serve(&self, txn: &mut Txn, reply: &mut ReplyWriter, from: &[ReadFrom]) -> Result<bool, Stop> {
        let mut streams = StreamsReply::begin(reply);
        for (key, from) in self.keys.iter().zip(from) {
            let ReadFrom::After(after) = *from else { continue };
            let at = txn.at(key)?;
            // A key that holds something else by now is not what is waited for.
            let stream = match stream::view(txn, at) {
                Ok(stream) => stream,
                Err(Stop::Reply(_)) => continue,
                Err(stop) => return Err(stop),
            };
            let (Some(stream), Some(start)) = (stream, after.next()) else { continue };
            if start > stream.meta.last_id {
                continue;
            }
            let place = streams.begin_stream(reply, key);
            let range = (start, StreamId::MAX);
            match reply_range(txn, reply, &stream, range, Order::Forward, self.count)? {
                0 => streams.take_back(reply, place),
                _ => streams.count += 1,
            }
        }
        Ok(streams.end(reply))
    }

    /// Answers what is there of XREADGROUP, under the locks of its keys; whether there was anything.
    fn serve_group(&self, txn: &mut Txn, reply: &mut ReplyWriter) -> Result<bool, Stop> {
        let Some((group, consumer)) = self.group else { return Ok(false) };
        let mut sessions: Vec<(&[u8], Session)> = Vec::with_capacity(self.keys.len());
        let mut reads = Vec::with_capacity(self.keys.len());
        for (key, id) in self.keys.iter().zip(&self.ids) {
            let at = txn.at(key)?;
            let index = match sessions.iter().position(|(known, _)| known == key) {
                Some(index) => index,
                None => {
                    let Some(session) = Session::open(txn, at, group)? else {
                        return Err(no_group_to_read(key, group).into());
                    };
                    sessions.push((key, session));
                    sessions.len() - 1
                }
            };
            reads.push((key, index, parse_group_id(id)?));
        }
        let mut streams = StreamsReply::begin(reply);
        let now_ms = txn.now_ms();
        for (key, index, from) in reads {
            let session = &mut sessions[index].1;
            let (number, made) = session.group.find_or_create(txn, consumer)?;
            if made {
                let at = txn.at(key)?;
                txn.event(EventClass::STREAM, "xgroup-createconsumer", at);
            }
            session.group.consumer(txn, number)?.seen_ms = now_ms;
            let place = streams.begin_stream(reply, key);
            let mark = reply.begin_array();
            let found =
                match from {
                    ReadFrom::New => {
                        let delivery = if self.no_ack { Delivery::NoAck } else { Delivery::Pending };
                        let count = self.count;
                        stream_groups::deliver_new(txn, session, number, delivery, count, |id, fields| {
                            reply_entry(reply, id, fields)
                        })?
                    }
                    ReadFrom::After(after) => {
                        let start = after.next().unwrap_or(StreamId::MAX);
                        let count = self.count;
                        stream_groups::deliver_again(txn, session, number, start, count, |id, fields| {
                            match fields {
                                Some(fields) => reply_entry(reply, id, fields),
                                None => {
                                    reply.array(2);
                                    reply_id(reply, id);
                                    reply.null_array();
                                    Ok(())
                                }
                            }
                        })?
                    }
                };
            if found == 0 && from == ReadFrom::New {
                streams.take_back(reply, place);
            } else {
                reply.end_array(mark, found as usize);
                streams.count += 1;
            }
        }
        for (_, session) in sessions {
            session.finish(txn)?;
        }
        Ok(streams.end(reply))
    }
}

/// XREADGROUP of a key or group that is not there.
fn no_group_to_read(key: &[u8], group: &[u8]) -> ReplyError {
    let (key, group) = (ReplyError::echo(key), ReplyError::echo(group));
    ReplyError::new(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
    ))
}

fn parse_group_id(id: &[u8]) -> Result<ReadFrom, ReplyError> {
    match id {
        b">" => Ok(ReadFrom::New),
        b"$" => Err(ReplyError::fixed(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
             by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty \
             result set.",
        )),
        b"+" => Err(ReplyError::fixed(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
             by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty \
             result set.",
        )),
        _ => match parse_strict_id(id, 0)? {
            // Redis cannot tell the greatest id from this.
            StreamId::MAX => Ok(ReadFrom::New),
            id => Ok(ReadFrom::After(id)),
        },
    }
}

/// The outer shape of what XREAD answers: pairs of key and entries, a map where there are maps.
struct StreamsReply {
    start: usize,
    mark: Mark,
    count: usize,
}

impl StreamsReply {
    fn begin(reply: &mut ReplyWriter) -> StreamsReply {
        StreamsReply { start: reply.len(), mark: reply.begin_array(), count: 0 }
    }

    /// Where the stream's part begins.
    fn begin_stream(&self, reply: &mut ReplyWriter, key: &[u8]) -> usize {
        let place = reply.len();
        if reply.protocol() == Protocol::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
        place
    }

    fn take_back(&self, reply: &mut ReplyWriter, place: usize) {
        reply.truncate(place);
    }

    /// Whether there was any stream; if not, nothing is left of the reply.
    fn end(self, reply: &mut ReplyWriter) -> bool {
        if self.count == 0 {
            reply.truncate(self.start);
            return false;
        }
        match reply.protocol() {
            Protocol::Resp2 => reply.end_array(self.mark, self.count),
            Protocol::Resp3 => reply.end_map(self.mark, self.count),
        }
        true
    }
}

/// `XREAD [COUNT count] [BLOCK ms] STREAMS key [key ..] id [id ..]`
pub fn xread(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let read = Read::parse(ctx, false)?;
    let from = read.resolve(ctx.txn)?;
    if read.serve(ctx.txn, ctx.reply, &from)? {
        return Ok(());
    }
    match read.until_ms {
        Some(until_ms) => {
            let mut wanted = wanted(read.keys.iter().copied(), Kind::Stream, until_ms);
            wanted.words = Some(Read::resolved_words(&ctx.args, &from));
            wait(ctx, wanted);
        }
        None => ctx.reply.null_array(),
    }
    Ok(())
}

/// `XREADGROUP GROUP group consumer [COUNT count] [BLOCK ms] [NOACK] STREAMS key [key ..] id [id ..]`
pub fn xreadgroup(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let read = Read::parse(ctx, true)?;
    if read.serve_group(ctx.txn, ctx.reply)? {
        return Ok(());
    }
    match read.until_ms {
        Some(until_ms) => {
            let mut wanted = wanted(read.keys.iter().copied(), Kind::Stream, until_ms);
            // It hears of a group that goes, too.
            wanted.on_any_change = true;
            wait(ctx, wanted);
        }
        None => ctx.reply.null_array(),
    }
    Ok(())
}

/// Answers the first or the last entry, or null.
pub fn reply_edge(txn: &mut Txn, reply: &mut ReplyWriter, stream: &Stream, order: Order) -> Result<(), Stop> {
    let all = (StreamId::MIN, StreamId::MAX);
    let found = stream.for_each(txn, all, order, 1, |_, id, fields| reply_entry(reply, id, fields))?;
    if found == 0 {
        reply.null();
    }
    Ok(())
}

/// A stream that has to be there.
pub fn view_present(txn: &mut Txn, at: At<'_>) -> Result<Stream, Stop> {
    Ok(stream::view(txn, at)?.ok_or(ReplyError::NO_SUCH_KEY)?)
}
