//! SORT and SORT_RO: words in, order by `types/sort.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::check::may_read_all;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::types::sort::{self, Pattern, Sort};

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern ..] [ASC | DESC] [ALPHA] [STORE destination]`
pub fn sort(ctx: &mut Context<'_>) -> Result<(), Stop> {
    run(ctx, true)
}

/// `SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern ..] [ASC | DESC] [ALPHA]`
pub fn sort_ro(ctx: &mut Context<'_>) -> Result<(), Stop> {
    run(ctx, false)
}

fn run(ctx: &mut Context<'_>, may_store: bool) -> Result<(), Stop> {
    let args = ctx.args;
    let (mut sort, mut gets, mut destination) = (Sort::default(), Vec::new(), None);
    let mut words = args.options(2);
    let reads_all = ctx.session.may_do_all
        || ctx.table.find(args.name()).is_none_or(|command| may_read_all(&ctx.session.user, command, &args));
    let denied = |option: &str| {
        ReplyError::new(format!("ERR {option} option of SORT denied due to insufficient ACL permissions."))
    };
    while let Some(word) = words.next_word() {
        let (is, left) = (|keyword| is_keyword(word, keyword), words.left());
        if is("ASC") {
            sort.descending = false;
        } else if is("DESC") {
            sort.descending = true;
        } else if is("ALPHA") {
            sort.alphabetic = true;
        } else if is("LIMIT") && left >= 2 {
            let (start, count) = (parse_i64(words.value()?), parse_i64(words.value()?));
            sort.limit =
                Some((start.ok_or(ReplyError::NOT_AN_INTEGER)?, count.ok_or(ReplyError::NOT_AN_INTEGER)?));
        } else if may_store && is("STORE") && left >= 1 {
            destination = Some(words.value()?);
        } else if is("BY") && left >= 1 {
            let pattern = words.value()?;
            if !reads_all && pattern.contains(&b'*') {
                return Err(denied("BY").into());
            }
            // One that does not vary holds, whatever comes behind it.
            if sort.by.is_none_or(|by| by.varies()) {
                sort.by = Some(Pattern(pattern));
            }
        } else if is("GET") && left >= 1 {
            if !reads_all {
                return Err(denied("GET").into());
            }
            gets.push(Pattern(words.value()?));
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    sort.stored = destination.is_some();
    if destination.is_none() {
        // No key is locked: what is read has to be of one moment.
        ctx.txn.pin();
    }
    let at = ctx.txn.at(args.get(1))?;
    let sorted = sort::sorted(ctx.txn, at, &sort)?;
    let Some(destination) = destination else {
        ctx.reply.array(sorted.len() * gets.len().max(1));
        for element in &sorted {
            if gets.is_empty() {
                ctx.reply.bulk(element);
            }
            for get in &gets {
                match get.value(ctx.txn, element)? {
                    Some(value) => ctx.reply.bulk(&value),
                    None => ctx.reply.null(),
                }
            }
        }
        return Ok(());
    };
    let to = ctx.txn.at(destination)?;
    let stored = if gets.is_empty() {
        sorted
    } else {
        let mut values = Vec::with_capacity(sorted.len() * gets.len());
        for element in &sorted {
            for get in &gets {
                values.push(get.value(ctx.txn, element)?.unwrap_or_default());
            }
        }
        values
    };
    sort::store(ctx.txn, to, &stored)?;
    ctx.txn.event_of_result(EventClass::LIST, "sortstore", to, !stored.is_empty());
    ctx.reply.integer(stored.len() as i64);
    Ok(())
}
