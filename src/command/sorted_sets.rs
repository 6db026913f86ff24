//! Sorted set commands: words in, effects by `types/sorted_sets.rs`, replies out.
//!
//! Members with scores are pairs in RESP3 and flat in RESP2, but for ZMPOP, whose pairs are pairs in both.

use crate::base::args::{Args, is_keyword};
use crate::base::double::{parse_bound, parse_f64};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::scans::{ScanOptions, reply_page};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::events::EventClass;
use crate::store::txn::At;
use crate::types::elements::Wanted;
use crate::types::sorted_set::{Element, MemberEnd, ScoreEnd, SortedSet, Span, store};
use crate::types::sorted_set_algebra::{self, Aggregate, Input};
use crate::types::sorted_sets::{self, AddOptions, End};
use haypile_resp::{Protocol, ReplyWriter, append_double};
use std::ops::ControlFlow;

// Replies with elements.

/// Writes the header of an array of elements.
fn begin_elements(reply: &mut ReplyWriter, count: usize, with_scores: bool) {
    let flat = with_scores && reply.protocol() == Protocol::Resp2;
    reply.array(if flat { count * 2 } else { count });
}

/// Writes one element of such an array.
fn reply_element(reply: &mut ReplyWriter, member: &[u8], score: f64, with_scores: bool) {
    if with_scores && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    reply.bulk(member);
    if with_scores {
        reply.double(score);
    }
}

fn reply_elements(reply: &mut ReplyWriter, elements: &[Element], with_scores: bool) {
    begin_elements(reply, elements.len(), with_scores);
    for element in elements {
        reply_element(reply, &element.member, element.score, with_scores);
    }
}

// Adding and removing.

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ..]`
pub fn zadd(ctx: &mut Context<'_>) -> Result<(), Stop> {
    add(ctx, AddOptions::default())
}

/// ZINCRBY key increment member. As in Redis, it is ZADD with INCR and understands ZADD's words.
pub fn zincrby(ctx: &mut Context<'_>) -> Result<(), Stop> {
    add(ctx, AddOptions { increment: true, ..AddOptions::default() })
}

fn add(ctx: &mut Context<'_>, mut options: AddOptions) -> Result<(), Stop> {
    let mut changed = false;
    let mut first = 2;
    while first < ctx.args.len() {
        let word = ctx.args.get(first);
        let flag = match word {
            _ if is_keyword(word, "NX") => &mut options.only_new,
            _ if is_keyword(word, "XX") => &mut options.only_present,
            _ if is_keyword(word, "GT") => &mut options.only_greater,
            _ if is_keyword(word, "LT") => &mut options.only_less,
            _ if is_keyword(word, "CH") => &mut changed,
            _ if is_keyword(word, "INCR") => &mut options.increment,
            _ => break,
        };
        *flag = true;
        first += 1;
    }
    let words = ctx.args.len() - first;
    if words == 0 || !words.is_multiple_of(2) {
        return Err(ReplyError::SYNTAX.into());
    }
    let AddOptions { only_new, only_present, only_greater, only_less, increment } = options;
    let incompatible = match () {
        () if only_new && only_present => "ERR XX and NX options at the same time are not compatible",
        () if only_new && (only_greater || only_less) || only_greater && only_less => {
            "ERR GT, LT, and/or NX options at the same time are not compatible"
        }
        () if increment && words > 2 => "ERR INCR option supports a single increment-element pair",
        () => "",
    };
    if !incompatible.is_empty() {
        return Err(ReplyError::fixed(incompatible).into());
    }
    let at = ctx.txn.at(ctx.args.get(1))?;
    let pair = |index: usize| {
        let score = parse_f64(ctx.args.get(index)).ok_or(ReplyError::NOT_A_FLOAT)?;
        Ok::<_, ReplyError>((score, ctx.args.get(index + 1)))
    };
    let added = if words == 2 {
        // The usual case needs no list.
        sorted_sets::add(ctx.txn, at, options, &[pair(first)?])?
    } else {
        let elements = (first..ctx.args.len()).step_by(2).map(pair).collect::<Result<Vec<_>, _>>()?;
        sorted_sets::add(ctx.txn, at, options, &elements)?
    };
    if added.added + added.updated > 0 {
        ctx.txn.event(EventClass::SORTED_SET, if increment { "zincr" } else { "zadd" }, at);
    }
    match (increment, added.score) {
        (true, Some(score)) => ctx.reply.double(score),
        (true, None) => ctx.reply.null(),
        (false, _) => {
            let count = if changed { added.added + added.updated } else { added.added };
            ctx.reply.integer(count as i64);
        }
    }
    Ok(())
}

/// `ZREM key member [member ..]`
pub fn zrem(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let removed = sorted_sets::remove(ctx.txn, at, ctx.args.from(2))?;
    if removed > 0 {
        ctx.txn.event_and_del(EventClass::SORTED_SET, "zrem", at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

/// ZREMRANGEBYRANK key start stop
pub fn zremrangebyrank(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (start, stop) = (ctx.args.integer(2)?, ctx.args.integer(3)?);
    remove_span(ctx, "zremrangebyrank", |count| ranks(start, stop, count, false))
}

/// ZREMRANGEBYSCORE key min max
pub fn zremrangebyscore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let span = scores(ctx.args.get(2), ctx.args.get(3))?;
    remove_span(ctx, "zremrangebyscore", |_| span)
}

/// ZREMRANGEBYLEX key min max
pub fn zremrangebylex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let span = members(ctx.args.get(2), ctx.args.get(3))?;
    remove_span(ctx, "zremrangebylex", |_| span)
}

fn remove_span<'a>(
    ctx: &mut Context<'_>,
    event: &'static str,
    span: impl FnOnce(u64) -> Span<'a>,
) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let removed = sorted_sets::remove_span(ctx.txn, at, span)?;
    if removed > 0 {
        ctx.txn.event_and_del(EventClass::SORTED_SET, event, at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

// Popping.

/// `ZPOPMIN key [count]`
pub fn zpopmin(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Lowest)
}

/// `ZPOPMAX key [count]`
pub fn zpopmax(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Highest)
}

fn pop(ctx: &mut Context<'_>, end: End) -> Result<(), Stop> {
    let count = match ctx.args.len() {
        2 => None,
        3 => {
            let count = parse_i64(ctx.args.get(2)).and_then(|count| u64::try_from(count).ok());
            let error = ReplyError::fixed("ERR value is out of range, must be positive");
            Some(count.ok_or(error)?)
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    let at = ctx.txn.at(ctx.args.get(1))?;
    let popped = sorted_sets::pop(ctx.txn, at, end, count.unwrap_or(1))?.unwrap_or_default();
    match (popped.first(), count) {
        // Without a count the one element is flat in RESP3 too.
        (Some(element), None) => {
            ctx.reply.array(2);
            ctx.reply.bulk(&element.member);
            ctx.reply.double(element.score);
        }
        _ => reply_elements(ctx.reply, &popped, true),
    }
    Ok(())
}

/// What ZMPOP and BZMPOP are asked for: keys (as words), end, count.
#[derive(Clone, Copy, Debug)]
pub struct MultiPop {
    /// Number of the word that is the first key.
    pub first_key: usize,
    /// How many keys.
    pub keys: usize,
    /// Which end.
    pub end: End,
    /// How many elements.
    pub count: u64,
}

impl MultiPop {
    /// Reads `numkeys key [key ..] MIN | MAX [COUNT count]` from word `at` on.
    pub fn parse(args: &Args<'_>, at: usize) -> Result<MultiPop, ReplyError> {
        let positive = |text: &[u8]| parse_i64(text).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let keys = positive(args.get(at)).ok_or(ReplyError::fixed("ERR numkeys should be greater than 0"))?;
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        let first_key = at + 1;
        let end_at = first_key.checked_add(keys).filter(|at| *at < args.len()).ok_or(ReplyError::SYNTAX)?;
        let end = match args.get(end_at) {
            word if is_keyword(word, "MIN") => End::Lowest,
            word if is_keyword(word, "MAX") => End::Highest,
            _ => return Err(ReplyError::SYNTAX),
        };
        let mut count = None;
        let mut words = args.options(end_at + 1);
        while let Some(word) = words.next_word() {
            if count.is_some() || !is_keyword(word, "COUNT") {
                return Err(ReplyError::SYNTAX);
            }
            let value = positive(words.value()?);
            count = Some(value.ok_or(ReplyError::fixed("ERR count should be greater than 0"))?);
        }
        Ok(MultiPop { first_key, keys, end, count: count.unwrap_or(1) })
    }

    /// Pops, and answers if there was something; whether there was.
    pub fn run(&self, ctx: &mut Context<'_>) -> Result<bool, Stop> {
        let args = ctx.args;
        // One that waited and is run again takes from the key that is ready.
        let keys = args.from(self.first_key).take(self.keys).filter(|key| ctx.session.may_take(key));
        let Some((key, elements)) = sorted_sets::pop_first(ctx.txn, keys, self.end, self.count)? else {
            return Ok(false);
        };
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        ctx.reply.array(elements.len());
        for element in elements {
            ctx.reply.array(2);
            ctx.reply.bulk(&element.member);
            ctx.reply.double(element.score);
        }
        Ok(true)
    }
}

/// `ZMPOP numkeys key [key ..] MIN | MAX [COUNT count]`
pub fn zmpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let pop = MultiPop::parse(&ctx.args, 1)?;
    if !pop.run(ctx)? {
        ctx.reply.null_array();
    }
    Ok(())
}

// Single members.

/// ZCARD key
pub fn zcard(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let count = sorted_sets::count(ctx.txn, at)?;
    ctx.reply.integer(count as i64);
    Ok(())
}

fn reply_score(reply: &mut ReplyWriter, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

/// ZSCORE key member
pub fn zscore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let score = sorted_sets::score(ctx.txn, at, ctx.args.get(2))?;
    reply_score(ctx.reply, score);
    Ok(())
}

/// `ZMSCORE key member [member ..]`
pub fn zmscore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let set = SortedSet::open(ctx.txn, at)?;
    ctx.reply.array(ctx.args.len() - 2);
    for member in ctx.args.from(2) {
        let score = match &set {
            Some(set) => set.score(ctx.txn, member)?,
            None => None,
        };
        reply_score(ctx.reply, score);
    }
    Ok(())
}

/// `ZRANK key member [WITHSCORE]`
pub fn zrank(ctx: &mut Context<'_>) -> Result<(), Stop> {
    rank(ctx, false)
}

/// `ZREVRANK key member [WITHSCORE]`
pub fn zrevrank(ctx: &mut Context<'_>) -> Result<(), Stop> {
    rank(ctx, true)
}

fn rank(ctx: &mut Context<'_>, reverse: bool) -> Result<(), Stop> {
    let with_score = match ctx.args.len() {
        3 => false,
        4 if is_keyword(ctx.args.get(3), "WITHSCORE") => true,
        4 => return Err(ReplyError::SYNTAX.into()),
        _ => return Err(ReplyError::wrong_arity(if reverse { "zrevrank" } else { "zrank" }).into()),
    };
    let at = ctx.txn.at(ctx.args.get(1))?;
    let found = match SortedSet::open(ctx.txn, at)? {
        None => None,
        Some(set) => set.rank(ctx.txn, ctx.args.get(2))?.map(|(rank, score)| match reverse {
            false => (rank, score),
            true => (set.count().saturating_sub(rank + 1), score),
        }),
    };
    match (found, with_score) {
        (Some((rank, score)), true) => {
            ctx.reply.array(2);
            ctx.reply.integer(rank as i64);
            ctx.reply.double(score);
        }
        (Some((rank, _)), false) => ctx.reply.integer(rank as i64),
        (None, true) => ctx.reply.null_array(),
        (None, false) => ctx.reply.null(),
    }
    Ok(())
}

// Ranges.

/// The span from rank `start` to `stop`, both inside, negative ones counted from the far end; of the reverse order if so.
fn ranks(start: i64, stop: i64, count: u64, reverse: bool) -> Span<'static> {
    let resolve = |index: i64| match index {
        0.. => Some(index as u64),
        _ => count.checked_sub(index.unsigned_abs()),
    };
    let start = resolve(start).unwrap_or(0);
    let end = resolve(stop).map_or(0, |stop| stop.saturating_add(1).min(count));
    if start >= end {
        return Span::Ranks(0..0);
    }
    Span::Ranks(if reverse { count - end..count - start } else { start..end })
}

/// A span of scores, each end perhaps with `(` in front.
fn scores(min: &[u8], max: &[u8]) -> Result<Span<'static>, ReplyError> {
    let end = |text: &[u8]| {
        let (exclusive, number) = match text {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        let score = parse_bound(number).ok_or(ReplyError::fixed("ERR min or max is not a float"))?;
        Ok::<_, ReplyError>(ScoreEnd { score, exclusive })
    };
    Ok(Span::Scores(end(min)?, end(max)?))
}

/// A span of members: `-`, `+`, or a member with `[` or `(` in front.
fn members<'a>(min: &'a [u8], max: &'a [u8]) -> Result<Span<'a>, ReplyError> {
    let end = |text: &'a [u8]| match text {
        // A zero byte ends these, as it does a C string.
        [b'-'] | [b'-', 0, ..] => Ok(MemberEnd::Lowest),
        [b'+'] | [b'+', 0, ..] => Ok(MemberEnd::Highest),
        [b'[', member @ ..] => Ok(MemberEnd::Inclusive(member)),
        [b'(', member @ ..] => Ok(MemberEnd::Exclusive(member)),
        _ => Err(ReplyError::fixed("ERR min or max not valid string range item")),
    };
    Ok(Span::Members(end(min)?, end(max)?))
}

/// ZCOUNT key min max
pub fn zcount(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let span = scores(ctx.args.get(2), ctx.args.get(3))?;
    count_in(ctx, &span)
}

/// ZLEXCOUNT key min max
pub fn zlexcount(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let span = members(ctx.args.get(2), ctx.args.get(3))?;
    count_in(ctx, &span)
}

fn count_in(ctx: &mut Context<'_>, span: &Span<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let count = match SortedSet::open(ctx.txn, at)? {
        None => 0,
        Some(set) => set.count_in(ctx.txn, span)?,
    };
    ctx.reply.integer(count as i64);
    Ok(())
}

/// By what a range is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// The ends of a range.
#[derive(Clone, Debug)]
enum Ends<'a> {
    Ranks(i64, i64),
    Span(Span<'a>),
}

/// A range as it was asked for.
#[derive(Clone, Debug)]
struct RangeQuery<'a> {
    ends: Ends<'a>,
    reverse: bool,
    with_scores: bool,
    /// Elements skipped; below zero, all are.
    offset: i64,
    /// Most elements; below zero, there is no such limit.
    limit: i64,
}

impl<'a> RangeQuery<'a> {
    /// Reads ends and options from word `first` on. What the command's name does not settle (`by`, `reverse`), words may.
    fn parse(
        args: &Args<'a>,
        first: usize,
        by: Option<By>,
        reverse: Option<bool>,
        stores: bool,
    ) -> Result<RangeQuery<'a>, ReplyError> {
        let (mut by, mut reverse, mut with_scores) = (by, reverse, false);
        let (mut offset, mut limit) = (0, -1);
        let mut words = args.options(first + 2);
        while let Some(word) = words.next_word() {
            if !stores && is_keyword(word, "WITHSCORES") {
                with_scores = true;
            } else if is_keyword(word, "LIMIT") && words.left() >= 2 {
                offset = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
                limit = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
            } else if reverse.is_none() && is_keyword(word, "REV") {
                reverse = Some(true);
            } else if by.is_none() && is_keyword(word, "BYLEX") {
                by = Some(By::Member);
            } else if by.is_none() && is_keyword(word, "BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(ReplyError::SYNTAX);
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(ReplyError::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Member {
            return Err(ReplyError::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // In reverse the greater end comes first.
        let (min, max) = if reverse && by != By::Rank { (first + 1, first) } else { (first, first + 1) };
        let ends = match by {
            By::Rank => {
                (offset, limit) = (0, -1);
                Ends::Ranks(args.integer(min)?, args.integer(max)?)
            }
            By::Score => Ends::Span(scores(args.get(min), args.get(max))?),
            By::Member => Ends::Span(members(args.get(min), args.get(max))?),
        };
        Ok(RangeQuery { ends, reverse, with_scores, offset, limit })
    }

    fn span(&self, count: u64) -> Span<'a> {
        match &self.ends {
            Ends::Ranks(start, stop) => ranks(*start, *stop, count, self.reverse),
            Ends::Span(span) => span.clone(),
        }
    }

    /// Elements skipped, and the most that are taken.
    fn limits(&self) -> (u64, u64) {
        match u64::try_from(self.offset) {
            Ok(offset) => (offset, u64::try_from(self.limit).unwrap_or(u64::MAX)),
            Err(_) => (0, 0),
        }
    }
}

fn reply_range(ctx: &mut Context<'_>, query: &RangeQuery<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(set) = SortedSet::open(ctx.txn, at)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let span = query.span(set.count());
    let (skip, limit) = query.limits();
    if limit == 0 {
        ctx.reply.array(0);
        return Ok(());
    }
    let (reply, with_scores) = (&mut *ctx.reply, query.with_scores);
    let mark = reply.begin_array();
    let mut count = 0;
    let mut counted = || {
        count += 1;
        if count as u64 == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if with_scores {
        set.walk(ctx.txn, &span, query.reverse, skip, |member, score| {
            reply_element(reply, member, score, true);
            counted()
        })?;
    } else {
        set.walk_members(ctx.txn, &span, query.reverse, skip, |member| {
            reply.bulk(member);
            counted()
        })?;
    }
    let flat = with_scores && reply.protocol() == Protocol::Resp2;
    reply.end_array(mark, if flat { count * 2 } else { count });
    Ok(())
}

/// `ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`
pub fn zrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, None, None, false)?;
    reply_range(ctx, &query)
}

/// `ZREVRANGE key start stop [WITHSCORES]`
pub fn zrevrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, Some(By::Rank), Some(true), false)?;
    reply_range(ctx, &query)
}

/// `ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`
pub fn zrangebyscore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, Some(By::Score), Some(false), false)?;
    reply_range(ctx, &query)
}

/// `ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`
pub fn zrevrangebyscore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, Some(By::Score), Some(true), false)?;
    reply_range(ctx, &query)
}

/// `ZRANGEBYLEX key min max [LIMIT offset count]`
pub fn zrangebylex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, Some(By::Member), Some(false), false)?;
    reply_range(ctx, &query)
}

/// `ZREVRANGEBYLEX key max min [LIMIT offset count]`
pub fn zrevrangebylex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 2, Some(By::Member), Some(true), false)?;
    reply_range(ctx, &query)
}

/// `ZRANGESTORE destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub fn zrangestore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let query = RangeQuery::parse(&ctx.args, 3, None, None, true)?;
    let (to, from) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    let elements = match SortedSet::open(ctx.txn, from)? {
        None => Vec::new(),
        Some(set) => {
            let (skip, limit) = query.limits();
            let mut elements = set.collect(ctx.txn, &query.span(set.count()), query.reverse, skip, limit)?;
            if query.reverse {
                elements.reverse();
            }
            elements
        }
    };
    store_result(ctx, "zrangestore", to, &elements)
}

/// Stores a command's result and answers how many elements it has.
pub fn store_result(
    ctx: &mut Context<'_>,
    event: &'static str,
    to: At<'_>,
    elements: &[Element],
) -> Result<(), Stop> {
    let slot = ctx.txn.load(to)?;
    store(ctx.txn, to, &slot.before, elements, 0)?;
    ctx.txn.recycle(slot);
    ctx.txn.event_of_result(EventClass::SORTED_SET, event, to, !elements.is_empty());
    ctx.reply.integer(elements.len() as i64);
    Ok(())
}

// Algebra.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Elements,
    Store,
    Cardinality,
}

/// `ZUNION numkeys key [key ..] [WEIGHTS weight ..] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`
pub fn zunion(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Union, Answer::Elements)
}

/// ZINTER, with the words of ZUNION.
pub fn zinter(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Intersection, Answer::Elements)
}

/// `ZDIFF numkeys key [key ..] [WITHSCORES]`
pub fn zdiff(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Difference, Answer::Elements)
}

/// `ZUNIONSTORE destination numkeys key [key ..] [WEIGHTS weight ..] [AGGREGATE SUM | MIN | MAX]`
pub fn zunionstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Union, Answer::Store)
}

/// ZINTERSTORE, with the words of ZUNIONSTORE.
pub fn zinterstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Intersection, Answer::Store)
}

/// `ZDIFFSTORE destination numkeys key [key ..]`
pub fn zdiffstore(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Difference, Answer::Store)
}

/// `ZINTERCARD numkeys key [key ..] [LIMIT limit]`
pub fn zintercard(ctx: &mut Context<'_>) -> Result<(), Stop> {
    combine(ctx, Operation::Intersection, Answer::Cardinality)
}

fn combine(ctx: &mut Context<'_>, operation: Operation, answer: Answer) -> Result<(), Stop> {
    let args = ctx.args;
    let number_at = if answer == Answer::Store { 2 } else { 1 };
    let number = args.integer(number_at)?;
    if number < 1 {
        // The command's own name, whatever it has been renamed to.
        let name = match operation {
            Operation::Union => "zunion",
            Operation::Intersection => "zinter",
            Operation::Difference => "zdiff",
        };
        let form = match answer {
            Answer::Elements => "",
            Answer::Store => "store",
            Answer::Cardinality => "card",
        };
        let error = format!("ERR at least 1 input key is needed for '{name}{form}' command");
        return Err(ReplyError::new(error).into());
    }
    let first = number_at + 1;
    let number = usize::try_from(number).ok().filter(|number| *number <= args.len() - first);
    let number = number.ok_or(ReplyError::SYNTAX)?;
    if answer != Answer::Store && number > 1 {
        ctx.txn.pin();
    }
    // Types are looked at before the words behind.
    let mut inputs = Vec::new();
    for key in args.from(first).take(number) {
        inputs.push(Input::open(ctx.txn, key)?);
    }
    let (mut aggregate, mut with_scores, mut limit) = (Aggregate::Sum, false, 0);
    let mut words = args.options(first + number);
    let combines = operation != Operation::Difference && answer != Answer::Cardinality;
    while let Some(word) = words.next_word() {
        if combines && is_keyword(word, "WEIGHTS") && words.left() >= number {
            for input in &mut inputs {
                let weight = parse_f64(words.value()?);
                input.weight = weight.ok_or(ReplyError::fixed("ERR weight value is not a float"))?;
            }
        } else if combines && is_keyword(word, "AGGREGATE") && words.left() >= 1 {
            aggregate = match words.value()? {
                word if is_keyword(word, "SUM") => Aggregate::Sum,
                word if is_keyword(word, "MIN") => Aggregate::Min,
                word if is_keyword(word, "MAX") => Aggregate::Max,
                _ => return Err(ReplyError::SYNTAX.into()),
            };
        } else if answer == Answer::Elements && is_keyword(word, "WITHSCORES") {
            with_scores = true;
        } else if answer == Answer::Cardinality && is_keyword(word, "LIMIT") && words.left() >= 1 {
            limit = parse_i64(words.value()?)
                .and_then(|limit| u64::try_from(limit).ok())
                .ok_or(ReplyError::fixed("ERR LIMIT can't be negative"))?;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let most = if limit == 0 { u64::MAX } else { limit };
    let elements = match operation {
        Operation::Union => sorted_set_algebra::union(ctx.txn, inputs, aggregate)?,
        Operation::Intersection => sorted_set_algebra::intersection(ctx.txn, inputs, aggregate, most)?,
        Operation::Difference => sorted_set_algebra::difference(ctx.txn, &inputs)?,
    };
    match answer {
        Answer::Elements => reply_elements(ctx.reply, &elements, with_scores),
        Answer::Cardinality => ctx.reply.integer(elements.len() as i64),
        Answer::Store => {
            let to = ctx.txn.at(args.get(1))?;
            let event = match operation {
                Operation::Union => "zunionstore",
                Operation::Intersection => "zinterstore",
                Operation::Difference => "zdiffstore",
            };
            store_result(ctx, event, to, &elements)?;
        }
    }
    Ok(())
}

// Drawing and scanning.

/// `ZRANDMEMBER key [count [WITHSCORES]]`
pub fn zrandmember(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    if ctx.args.len() == 2 {
        let one = Wanted { count: 1, distinct: true };
        let element = match SortedSet::open(ctx.txn, at)? {
            None => None,
            Some(set) => sorted_sets::random(ctx.txn, &set, one)?.pop(),
        };
        match element {
            Some(element) => ctx.reply.bulk(&element.member),
            None => ctx.reply.null(),
        }
        return Ok(());
    }
    let count = ctx.args.integer_with_negative(2)?;
    let with_scores = match ctx.args.len() {
        3 => false,
        4 if is_keyword(ctx.args.get(3), "WITHSCORES") => true,
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if with_scores && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(ReplyError::fixed("ERR value is out of range").into());
    }
    let elements = match SortedSet::open(ctx.txn, at)? {
        None => Vec::new(),
        Some(set) => sorted_sets::random(ctx.txn, &set, Wanted::from_count(count)?)?,
    };
    reply_elements(ctx.reply, &elements, with_scores);
    Ok(())
}

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`
pub fn zscan(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let Some(options) = ScanOptions::of_collection(ctx, at, Kind::SortedSet)? else { return Ok(()) };
    let (reply, txn) = (&mut *ctx.reply, &mut *ctx.txn);
    let set = SortedSet::open(txn, at)?;
    reply_page(reply, |reply| {
        let Some(set) = &set else { return Ok((0, 0)) };
        let mut found = 0;
        let cursor = sorted_sets::scan(txn, set, options.page, |member, score| {
            reply.bulk(member);
            let mut text = Vec::new();
            append_double(&mut text, score);
            reply.bulk(&text);
            found += 2;
        })?;
        Ok((cursor, found))
    })
}
