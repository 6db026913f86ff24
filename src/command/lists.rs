//! List commands: words in, effects by `types/lists.rs`, replies out. The blocking forms are in `blocking_lists.rs`.

use crate::base::args::{Args, is_keyword};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::store::txn::{At, Txn};
use crate::types::list_value::End;
use crate::types::lists::{self, Piece, Search};

// Words.

/// LEFT or RIGHT.
pub fn parse_end(word: &[u8]) -> Result<End, ReplyError> {
    match word {
        _ if is_keyword(word, "LEFT") => Ok(End::Left),
        _ if is_keyword(word, "RIGHT") => Ok(End::Right),
        _ => Err(ReplyError::SYNTAX),
    }
}

/// A number of at least `min`; one complaint for whatever else it is.
fn at_least(word: &[u8], min: i64, complaint: &'static str) -> Result<u64, ReplyError> {
    let number = parse_i64(word).filter(|number| *number >= min);
    number.map(|number| number as u64).ok_or(ReplyError::fixed(complaint))
}

/// A number that has a negative: all but the smallest.
fn with_negative(word: &[u8]) -> Result<i64, ReplyError> {
    let number = parse_i64(word).ok_or(ReplyError::NOT_AN_INTEGER)?;
    if number == i64::MIN {
        let complaint =
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        return Err(ReplyError::fixed(complaint));
    }
    Ok(number)
}

/// The words of LMPOP behind its name, of BLMPOP behind its timeout.
#[derive(Clone, Copy, Debug)]
pub struct PopMany {
    /// Which word is the first key.
    pub first_key: usize,
    /// How many keys.
    pub keys: usize,
    /// From which end.
    pub end: End,
    /// How many elements at most.
    pub count: u64,
}

impl PopMany {
    /// Reads `numkeys key [key ..] LEFT | RIGHT [COUNT count]` from word `from` on.
    pub fn parse(args: &Args<'_>, from: usize) -> Result<PopMany, ReplyError> {
        let keys = at_least(args.get(from), 1, "ERR numkeys should be greater than 0")? as usize;
        let side = from.saturating_add(1).saturating_add(keys);
        if side >= args.len() {
            return Err(ReplyError::SYNTAX);
        }
        let end = parse_end(args.get(side))?;
        let mut count = None;
        let mut words = args.options(side + 1);
        while let Some(word) = words.next_word() {
            if count.is_some() || !is_keyword(word, "COUNT") {
                return Err(ReplyError::SYNTAX);
            }
            count = Some(at_least(words.value()?, 1, "ERR count should be greater than 0")?);
        }
        Ok(PopMany { first_key: from + 1, keys, end, count: count.unwrap_or(1) })
    }
}

// Events.

/// What a push at an end is called.
pub fn push_event(end: End) -> &'static str {
    if end == End::Left { "lpush" } else { "rpush" }
}

/// What a pop from an end is called.
pub fn pop_event(end: End) -> &'static str {
    if end == End::Left { "lpop" } else { "rpop" }
}

/// Notes that an element was moved.
pub fn note_moved(txn: &mut Txn, (from, from_end): (At<'_>, End), (to, to_end): (At<'_>, End)) {
    txn.event(EventClass::LIST, push_event(to_end), to);
    txn.event_and_del(EventClass::LIST, pop_event(from_end), from);
}

// Commands.

/// `LPUSH key element [element ..]`
pub fn lpush(ctx: &mut Context<'_>) -> Result<(), Stop> {
    push(ctx, End::Left, false)
}

/// `RPUSH key element [element ..]`
pub fn rpush(ctx: &mut Context<'_>) -> Result<(), Stop> {
    push(ctx, End::Right, false)
}

/// `LPUSHX key element [element ..]`
pub fn lpushx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    push(ctx, End::Left, true)
}

/// `RPUSHX key element [element ..]`
pub fn rpushx(ctx: &mut Context<'_>) -> Result<(), Stop> {
    push(ctx, End::Right, true)
}

fn push(ctx: &mut Context<'_>, end: End, only_if_present: bool) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let len = lists::push(ctx.txn, at, end, ctx.args.from(2), only_if_present)?;
    if len > 0 {
        ctx.txn.event(EventClass::LIST, push_event(end), at);
    }
    ctx.reply.integer(len as i64);
    Ok(())
}

/// `LPOP key [count]`
pub fn lpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Left, "lpop")
}

/// `RPOP key [count]`
pub fn rpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    pop(ctx, End::Right, "rpop")
}

fn pop(ctx: &mut Context<'_>, end: End, name: &str) -> Result<(), Stop> {
    let count = match ctx.args.len() {
        2 => None,
        3 => Some(at_least(ctx.args.get(2), 0, "ERR value is out of range, must be positive")?),
        _ => return Err(ReplyError::wrong_arity(name).into()),
    };
    let at = ctx.txn.at(ctx.args.get(1))?;
    let mut list = lists::load(ctx.txn, at)?;
    let reply = &mut *ctx.reply;
    match count {
        _ if list.is_empty() => match count {
            Some(_) => reply.null_array(),
            None => reply.null(),
        },
        None => list.pop(ctx.txn, at, end, 1, |element| reply.bulk(element))?,
        Some(0) => reply.array(0),
        Some(count) => {
            let count = count.min(list.len());
            reply.array(count as usize);
            list.pop(ctx.txn, at, end, count, |element| reply.bulk(element))?;
        }
    }
    list.recycle(ctx.txn);
    if !ctx.txn.is_unchanged() {
        ctx.txn.event_and_del(EventClass::LIST, pop_event(end), at);
    }
    Ok(())
}

/// LLEN key
pub fn llen(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let len = lists::len(ctx.txn, at)?;
    ctx.reply.integer(len as i64);
    Ok(())
}

/// LINDEX key index
pub fn lindex(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let index = match ctx.args.integer(2) {
        Ok(index) => index,
        // A list that is not there has nothing at any index, be it a number or not.
        Err(_) if lists::len(ctx.txn, at)? == 0 => {
            ctx.reply.null();
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let reply = &mut *ctx.reply;
    if lists::element(ctx.txn, at, index, |element| reply.bulk(element))?.is_none() {
        reply.null();
    }
    Ok(())
}

/// LRANGE key start stop
pub fn lrange(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (start, stop) = (ctx.args.integer(2)?, ctx.args.integer(3)?);
    let reply = &mut *ctx.reply;
    lists::range(ctx.txn, at, start, stop, |piece| match piece {
        Piece::Count(count) => reply.array(count as usize),
        Piece::Element(element) => reply.bulk(element),
    })
}

/// LSET key index element
pub fn lset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let list = lists::load(ctx.txn, at)?;
    if list.is_empty() {
        return Err(ReplyError::NO_SUCH_KEY.into());
    }
    lists::set(ctx.txn, at, list, ctx.args.integer(2)?, ctx.args.get(3))?;
    ctx.txn.event(EventClass::LIST, "lset", at);
    ctx.reply.ok();
    Ok(())
}

/// LINSERT key BEFORE | AFTER pivot element
pub fn linsert(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let side = match ctx.args.get(2) {
        word if is_keyword(word, "BEFORE") => End::Left,
        word if is_keyword(word, "AFTER") => End::Right,
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    let at = ctx.txn.at(ctx.args.get(1))?;
    let list = lists::load(ctx.txn, at)?;
    let answer = match list.is_empty() {
        true => 0,
        false => lists::insert(ctx.txn, at, list, side, ctx.args.get(3), ctx.args.get(4))?
            .map_or(-1, |len| len as i64),
    };
    if answer > 0 {
        ctx.txn.event(EventClass::LIST, "linsert", at);
    }
    ctx.reply.integer(answer);
    Ok(())
}

/// LREM key count element
pub fn lrem(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (from, count) = match with_negative(ctx.args.get(2))? {
        0 => (End::Left, u64::MAX),
        count => (if count < 0 { End::Right } else { End::Left }, count.unsigned_abs()),
    };
    let removed = lists::remove(ctx.txn, at, from, count, ctx.args.get(3))?;
    if removed > 0 {
        ctx.txn.event_and_del(EventClass::LIST, "lrem", at);
    }
    ctx.reply.integer(removed as i64);
    Ok(())
}

/// LTRIM key start stop
pub fn ltrim(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    if lists::trim(ctx.txn, at, ctx.args.integer(2)?, ctx.args.integer(3)?)? {
        ctx.txn.event_and_del(EventClass::LIST, "ltrim", at);
    }
    ctx.reply.ok();
    Ok(())
}

/// `LPOS key element [RANK rank] [COUNT matches] [MAXLEN steps]`
pub fn lpos(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (mut rank, mut count, mut steps) = (1, None, 0);
    let mut words = ctx.args.options(3);
    while let Some(word) = words.next_word() {
        let value = words.value()?;
        if is_keyword(word, "RANK") {
            rank = with_negative(value)?;
            if rank == 0 {
                return Err(ReplyError::fixed(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                     negative to start from the end of the list",
                )
                .into());
            }
        } else if is_keyword(word, "COUNT") {
            count = Some(at_least(value, 0, "ERR COUNT can't be negative")?);
        } else if is_keyword(word, "MAXLEN") {
            steps = at_least(value, 0, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    let or_all = |number: u64| if number == 0 { u64::MAX } else { number };
    let search = Search {
        element: ctx.args.get(2),
        from: if rank < 0 { End::Right } else { End::Left },
        skip: rank.unsigned_abs() - 1,
        matches: or_all(count.unwrap_or(1)),
        steps: or_all(steps),
    };
    let reply = &mut *ctx.reply;
    if count.is_some() {
        let mark = reply.begin_array();
        let mut found = 0;
        lists::search(ctx.txn, at, search, |index| {
            reply.integer(index as i64);
            found += 1;
        })?;
        reply.end_array(mark, found);
        return Ok(());
    }
    let mut found = None;
    lists::search(ctx.txn, at, search, |index| found = Some(index))?;
    match found {
        Some(index) => reply.integer(index as i64),
        None => reply.null(),
    }
    Ok(())
}

/// LMOVE source destination LEFT | RIGHT LEFT | RIGHT
pub fn lmove(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (from, to) = (parse_end(ctx.args.get(3))?, parse_end(ctx.args.get(4))?);
    move_element(ctx, from, to)
}

/// RPOPLPUSH source destination
pub fn rpoplpush(ctx: &mut Context<'_>) -> Result<(), Stop> {
    move_element(ctx, End::Right, End::Left)
}

fn move_element(ctx: &mut Context<'_>, from_end: End, to_end: End) -> Result<(), Stop> {
    let (from, to) = (ctx.txn.at(ctx.args.get(1))?, ctx.txn.at(ctx.args.get(2))?);
    match lists::move_element(ctx.txn, (from, from_end), (to, to_end))? {
        Some(element) => {
            note_moved(ctx.txn, (from, from_end), (to, to_end));
            ctx.reply.bulk(&element);
        }
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `LMPOP numkeys key [key ..] LEFT | RIGHT [COUNT count]`
pub fn lmpop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let words = PopMany::parse(&ctx.args, 1)?;
    for key in ctx.args.from(words.first_key).take(words.keys) {
        if pop_many(ctx, key, words.end, words.count)? {
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

/// Answers a key's name and elements popped from it; false, and nothing is answered, if it has none.
pub fn pop_many(ctx: &mut Context<'_>, key: &[u8], end: End, count: u64) -> Result<bool, Stop> {
    let at = ctx.txn.at(key)?;
    let mut list = lists::load(ctx.txn, at)?;
    let found = !list.is_empty();
    if found {
        let count = count.min(list.len());
        let reply = &mut *ctx.reply;
        reply.array(2);
        reply.bulk(key);
        reply.array(count as usize);
        list.pop(ctx.txn, at, end, count, |element| reply.bulk(element))?;
        ctx.txn.event_and_del(EventClass::LIST, pop_event(end), at);
    }
    list.recycle(ctx.txn);
    Ok(found)
}
