//! The words of stream commands: ids, intervals, options of trimming.

use crate::base::args::{Args, is_keyword};
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::encoding::stream::StreamId;
use crate::types::stream::{NewId, Trim, TrimTo};
use haypile_resp::ReplyWriter;

const INVALID_ID: ReplyError =
    ReplyError::fixed("ERR Invalid stream ID specified as stream command argument");
/// Redis looks at no longer ids.
const ID_BYTES_MAX: usize = 127;
/// The most that approximate trimming removes at once if nothing is said, in nodes.
const TRIM_NODES: u64 = 100;
const TRIM_ENTRIES_MAX: u64 = 1_000_000;
const TRIM_ENTRIES_DEFAULT: u64 = 10_000;

/// An id that may leave its sequence number to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartialId {
    ms: u64,
    seq: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seq {
    Given(u64),
    Missing,
    Star,
}

/// Reads a half of an id the way C's `strtoull` does: blanks in front, a sign, leading zeros are fine.
fn parse_half(text: &[u8]) -> Option<u64> {
    if let Some(value) = parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let text = text.get(blanks..)?;
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

fn parse_partial(text: &[u8]) -> Option<PartialId> {
    if text.len() > ID_BYTES_MAX {
        return None;
    }
    let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
        return Some(PartialId { ms: parse_half(text)?, seq: Seq::Missing });
    };
    let (ms, seq) = (parse_half(&text[..dash])?, &text[dash + 1..]);
    let seq = if seq == b"*" { Seq::Star } else { Seq::Given(parse_half(seq)?) };
    Some(PartialId { ms, seq })
}

/// Reads an id, `-` and `+` not being any. A missing sequence number is `missing_seq`.
pub fn parse_strict_id(text: &[u8], missing_seq: u64) -> Result<StreamId, ReplyError> {
    match parse_partial(text).ok_or(INVALID_ID)? {
        PartialId { ms, seq: Seq::Given(seq) } => Ok(StreamId { ms, seq }),
        PartialId { ms, seq: Seq::Missing } => Ok(StreamId { ms, seq: missing_seq }),
        PartialId { seq: Seq::Star, .. } => Err(INVALID_ID),
    }
}

/// Reads an id; `-` is the least and `+` the greatest.
pub fn parse_id(text: &[u8], missing_seq: u64) -> Result<StreamId, ReplyError> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => parse_strict_id(text, missing_seq),
    }
}

/// Reads the start of an interval: `(` in front leaves the id itself out.
pub fn parse_start(text: &[u8]) -> Result<StreamId, ReplyError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => {
            parse_strict_id(id, 0)?.next().ok_or(ReplyError::fixed("ERR invalid start ID for the interval"))
        }
        _ => parse_id(text, 0),
    }
}

/// Reads the end of an interval.
pub fn parse_end(text: &[u8]) -> Result<StreamId, ReplyError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse_strict_id(id, u64::MAX)?
            .previous()
            .ok_or(ReplyError::fixed("ERR invalid end ID for the interval")),
        _ => parse_id(text, u64::MAX),
    }
}

/// Reads the ids from word `from` on.
pub fn parse_ids(args: &Args<'_>, from: usize) -> Result<Vec<StreamId>, ReplyError> {
    args.from(from).map(|word| parse_strict_id(word, 0)).collect()
}

/// Answers an id.
pub fn reply_id(reply: &mut ReplyWriter, id: StreamId) {
    reply.bulk(id.to_string().as_bytes());
}

/// The options of XADD and XTRIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddOptions {
    /// How to trim, if at all.
    pub trim: Option<Trim>,
    /// NOMKSTREAM was given.
    pub only_if_there: bool,
    /// The id, of XADD.
    pub id: NewId,
    /// The word behind the id.
    pub fields_at: usize,
}

/// Reads the options of XADD, up to the id and it included, or those of XTRIM.
pub fn parse_add_options(args: &Args<'_>, of_add: bool, node_entries: u64) -> Result<AddOptions, ReplyError> {
    let mut options =
        AddOptions { trim: None, only_if_there: false, id: NewId::Auto, fields_at: args.len() + 1 };
    let (mut to, mut approximate, mut limit) = (None, false, None);
    let mut at = 2;
    while at < args.len() {
        let (word, more) = (args.get(at), args.len() - 1 - at);
        let is = |keyword| is_keyword(word, keyword);
        if of_add && word == b"*" {
            options.fields_at = at + 1;
            break;
        }
        if (is("MAXLEN") || is("MINID")) && more > 0 {
            if to.is_some() {
                let error = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
                return Err(ReplyError::fixed(error));
            }
            approximate = more >= 2 && args.get(at + 1) == b"~";
            if approximate || more >= 2 && args.get(at + 1) == b"=" {
                at += 1;
            }
            at += 1;
            to = Some(if is("MAXLEN") {
                let length = u64::try_from(args.integer(at)?);
                TrimTo::Length(
                    length.map_err(|_| ReplyError::fixed("ERR The MAXLEN argument must be >= 0."))?,
                )
            } else {
                TrimTo::Id(parse_strict_id(args.get(at), 0)?)
            });
        } else if is("LIMIT") && more > 0 {
            at += 1;
            let given = u64::try_from(args.integer(at)?);
            limit = Some(given.map_err(|_| ReplyError::fixed("ERR The LIMIT argument must be >= 0."))?);
        } else if of_add && is("NOMKSTREAM") {
            options.only_if_there = true;
        } else if of_add {
            options.id = match parse_partial(word).ok_or(INVALID_ID)? {
                PartialId { ms, seq: Seq::Given(seq) } => NewId::Given(StreamId { ms, seq }),
                PartialId { ms, seq: Seq::Missing } => NewId::Given(StreamId { ms, seq: 0 }),
                PartialId { ms, seq: Seq::Star } => NewId::AutoSeq(ms),
            };
            options.fields_at = at + 1;
            break;
        } else {
            return Err(ReplyError::SYNTAX);
        }
        at += 1;
    }
    if limit.is_some_and(|limit| limit > 0) && to.is_none() {
        let error = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
        return Err(ReplyError::fixed(error));
    }
    if !of_add && to.is_none() {
        let error = "ERR syntax error, XTRIM must be called with a trimming strategy";
        return Err(ReplyError::fixed(error));
    }
    if limit.is_some() && !approximate {
        let error = "ERR syntax error, LIMIT cannot be used without the special ~ option";
        return Err(ReplyError::fixed(error));
    }
    let default_limit = match node_entries.saturating_mul(TRIM_NODES) {
        _ if !approximate => 0,
        0 => TRIM_ENTRIES_DEFAULT,
        entries => entries.min(TRIM_ENTRIES_MAX),
    };
    // Without a bound on entries Redis bounds a node by bytes; a hundred small entries is what those usually hold.
    let node_entries = if node_entries == 0 { TRIM_NODES } else { node_entries };
    let limit = limit.unwrap_or(default_limit);
    options.trim = to.map(|to| Trim { to, approximate, limit, node_entries });
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::args::OwnedArgs;

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    #[test]
    fn ids_and_intervals() {
        assert_eq!(parse_id(b"5-6", 9), Ok(id(5, 6)));
        assert_eq!(parse_id(b"5", 9), Ok(id(5, 9)));
        assert_eq!((parse_id(b"-", 0), parse_id(b"+", 0)), (Ok(StreamId::MIN), Ok(StreamId::MAX)));
        assert_eq!(parse_strict_id(b"007- 5", 0), Ok(id(7, 5)));
        let greatest = b"18446744073709551615-18446744073709551615";
        assert_eq!(parse_id(greatest, 0), Ok(StreamId::MAX));
        let bad: [&[u8]; 9] =
            [b"", b"a", b"5-", b"-5", b"5-a", b"5-*", b"18446744073709551616", b"1.5", b"1-2-3"];
        for bad in bad {
            assert!(parse_id(bad, 0).is_err(), "{bad:?}");
        }
        assert!(parse_strict_id(b"-", 0).is_err() && parse_strict_id(b"+", 0).is_err());
        assert_eq!(parse_start(b"(5"), Ok(id(5, 1)));
        assert_eq!(parse_end(b"(5"), Ok(id(5, u64::MAX - 1)));
        assert_eq!(parse_end(b"(5-0"), Ok(id(4, u64::MAX)));
        assert!(parse_end(b"(0-0").is_err() && parse_start(b"(-").is_err() && parse_start(b"(").is_err());
    }

    fn add(line: &str) -> Result<AddOptions, ReplyError> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        parse_add_options(&OwnedArgs::from_words(&words).as_args(), true, 100)
    }

    #[test]
    fn options_of_xadd() {
        let plain = add("xadd s * f v").unwrap();
        assert_eq!((plain.id, plain.fields_at, plain.trim), (NewId::Auto, 3, None));
        let full = add("xadd s nomkstream maxlen ~ 10 limit 5 7-* f v").unwrap();
        assert_eq!((full.id, full.fields_at, full.only_if_there), (NewId::AutoSeq(7), 9, true));
        let trim = Trim { to: TrimTo::Length(10), approximate: true, limit: 5, node_entries: 100 };
        assert_eq!(full.trim, Some(trim));
        let by_id = add("xadd s minid = 5 1-1 f v").unwrap();
        assert_eq!(by_id.trim.map(|trim| (trim.to, trim.limit)), Some((TrimTo::Id(id(5, 0)), 0)));
        assert_eq!(add("xadd s maxlen ~ 1 * f v").unwrap().trim.map(|trim| trim.limit), Some(10_000));
        for bad in ["xadd s maxlen 1 minid 1 * f v", "xadd s limit 1 * f v", "xadd s maxlen 1 limit 1 * f v"]
        {
            assert!(add(bad).is_err(), "{bad}");
        }
        // The number of words is for the caller to check.
        assert_eq!(add("xadd s nomkstream").unwrap().fields_at, 4);
    }
}
