//! What HSCAN, SSCAN and ZSCAN share: options, and the shape of the reply.

use crate::base::args::{Args, is_keyword};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::keys::{NOVALUES_OF_OTHERS, parse_cursor};
use crate::command::spec::Context;
use crate::encoding::meta::Kind;
use crate::store::txn::At;
use crate::types::elements::Page;
use haypile_resp::ReplyWriter;

/// Options of a scan through one key.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// What is asked for.
    pub page: Page<'a>,
    /// Names only.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options of `NAME key cursor ..`. `None` if there is no such key: then the reply is written. As in Redis, cursor and type
    /// come first, and the options of a scan through nothing are not looked at.
    pub fn of_collection(
        ctx: &mut Context<'a>,
        at: At<'_>,
        kind: Kind,
    ) -> Result<Option<ScanOptions<'a>>, Stop> {
        let cursor = parse_cursor(ctx.args.get(2))?;
        // The scan itself is the read.
        match ctx.txn.glance(at, |record| record.map(|record| record.head.kind))? {
            None => {
                ctx.txn.note_read(at, false);
                ctx.reply.array(2);
                ctx.reply.bulk(b"0");
                ctx.reply.array(0);
                return Ok(None);
            }
            Some(found) if found != kind => {
                ctx.txn.note_read(at, true);
                return Err(ReplyError::WRONG_TYPE.into());
            }
            Some(_) => {}
        }
        Ok(Some(ScanOptions::parse(&ctx.args, cursor, kind == Kind::Hash)?))
    }

    fn parse(args: &Args<'a>, cursor: u64, of_hash: bool) -> Result<ScanOptions<'a>, ReplyError> {
        let mut options = ScanOptions { page: Page { cursor, count: 10, pattern: None }, no_values: false };
        let mut words = args.options(3);
        while let Some(word) = words.next_word() {
            if is_keyword(word, "NOVALUES") {
                if !of_hash {
                    return Err(NOVALUES_OF_OTHERS);
                }
                options.no_values = true;
                continue;
            }
            let value = words.value()?;
            if is_keyword(word, "COUNT") {
                let count = parse_i64(value).ok_or(ReplyError::NOT_AN_INTEGER)?;
                let count = u64::try_from(count).ok().filter(|count| *count > 0);
                options.page.count = count.ok_or(ReplyError::SYNTAX)?;
            } else if is_keyword(word, "MATCH") {
                options.page.pattern = Some(value);
            } else {
                return Err(ReplyError::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// Writes cursor and elements. `scan` writes the elements, and tells the cursor and how many replies it wrote.
pub fn reply_page(
    reply: &mut ReplyWriter,
    scan: impl FnOnce(&mut ReplyWriter) -> Result<(u64, usize), Stop>,
) -> Result<(), Stop> {
    reply.array(2);
    // The cursor stands in front and is known only at the end.
    let start = reply.len();
    let mark = reply.begin_array();
    let (cursor, found) = scan(reply)?;
    reply.end_array(mark, found);
    let elements = reply.buffer().get(start..).unwrap_or_default().to_vec();
    reply.truncate(start);
    reply.bulk(cursor.to_string().as_bytes());
    reply.raw(&elements);
    Ok(())
}

/// A page holds no more than this, whatever LIMIT says: it is built whole.
const PAGE_MAX: u64 = 4096;

/// LIMIT of the range commands.
pub fn page_limit(word: &[u8]) -> Result<u64, ReplyError> {
    let limit = parse_i64(word).ok_or(ReplyError::NOT_AN_INTEGER)?;
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0).ok_or(ReplyError::SYNTAX)?;
    Ok(limit.min(PAGE_MAX))
}
