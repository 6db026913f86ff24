//! Bitmap commands: words in, effects by `types/bitmaps.rs`, replies out.

use crate::base::args::is_keyword;
use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::store::events::EventClass;
use crate::store::limits::STRING_BYTES_MAX;
use crate::types::bitfield::{FieldType, Overflow};
use crate::types::bitmaps::{self, BitRange, FieldAction, FieldStep};
use crate::types::bits::Operation;
use crate::types::string_value::Source;
use crate::types::strings::{clamp_range, resolve_range};

const BAD_OFFSET: ReplyError = ReplyError::fixed("ERR bit offset is not an integer or out of range");
const BAD_BIT: ReplyError = ReplyError::fixed("ERR bit is not an integer or out of range");

/// A bit's place, below 512 MB.
fn bit_offset(text: &[u8]) -> Result<u64, ReplyError> {
    parse_i64(text).and_then(checked_offset).ok_or(BAD_OFFSET)
}

fn checked_offset(offset: i64) -> Option<u64> {
    u64::try_from(offset).ok().filter(|offset| offset / 8 < STRING_BYTES_MAX)
}

/// SETBIT key offset value
pub fn setbit(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let offset = bit_offset(ctx.args.get(2))?;
    let on = match ctx.args.get(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(BAD_BIT.into()),
    };
    let old = bitmaps::set_bit(ctx.txn, at, offset, on)?;
    if !ctx.txn.is_unchanged() {
        ctx.txn.event(EventClass::STRING, "setbit", at);
    }
    ctx.reply.integer(old.into());
    Ok(())
}

/// GETBIT key offset
pub fn getbit(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let offset = bit_offset(ctx.args.get(2))?;
    let bit = bitmaps::get_bit(ctx.txn, at, offset)?;
    ctx.reply.integer(bit.into());
    Ok(())
}

/// Whether a range is given in bits.
fn range_unit(word: Option<&[u8]>) -> Result<bool, ReplyError> {
    match word {
        None => Ok(false),
        Some(word) if is_keyword(word, "BIT") => Ok(true),
        Some(word) if is_keyword(word, "BYTE") => Ok(false),
        Some(_) => Err(ReplyError::SYNTAX),
    }
}

/// `BITCOUNT key [start end [BYTE | BIT]]`
pub fn bitcount(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let (start, end, in_bits) = match ctx.args.len() {
        2 => (0, -1, false),
        4 | 5 => {
            let (start, end) = (ctx.args.integer(2)?, ctx.args.integer(3)?);
            (start, end, range_unit(ctx.args.from(4).next())?)
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    let mut count = 0;
    if let Some(source) = Source::open(ctx.txn, at)?
        && let Some(range) = bitmaps::resolve_bits((start, end), in_bits, source.len(), resolve_range)
    {
        ctx.txn.charge(0, (range.last - range.first) / 8)?;
        count = bitmaps::count_bits(ctx.txn, &source, range)?;
    }
    ctx.reply.integer(count as i64);
    Ok(())
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`
pub fn bitpos(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let bit = match ctx.args.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(ReplyError::fixed("ERR The bit argument must be 1 or 0.").into()),
    };
    if ctx.args.len() > 6 {
        return Err(ReplyError::SYNTAX.into());
    }
    let start = if ctx.args.len() > 3 { ctx.args.integer(3)? } else { 0 };
    let in_bits = range_unit(ctx.args.from(5).next())?;
    let end = if ctx.args.len() > 4 { Some(ctx.args.integer(4)?) } else { None };
    let Some(source) = Source::open(ctx.txn, at)? else {
        // Nothing is zeros without end.
        ctx.reply.integer(if bit { -1 } else { 0 });
        return Ok(());
    };
    let range = bitmaps::resolve_bits((start, end.unwrap_or(-1)), in_bits, source.len(), clamp_range);
    let found = match range {
        None => None,
        Some(BitRange { first, last }) => {
            let found = bitmaps::find_bit(ctx.txn, &source, BitRange { first, last }, bit)?;
            // Behind a string without a given end there are zeros.
            found.or((!bit && end.is_none()).then_some(last + 1))
        }
    };
    ctx.reply.integer(found.map_or(-1, |at| at as i64));
    Ok(())
}

/// `BITOP AND | OR | XOR | NOT destkey key [key ..]`
pub fn bitop(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let operations =
        [("AND", Operation::And), ("OR", Operation::Or), ("XOR", Operation::Xor), ("NOT", Operation::Not)];
    let word = ctx.args.get(1);
    let found = operations.iter().find(|(name, _)| is_keyword(word, name));
    let &(_, operation) = found.ok_or(ReplyError::SYNTAX)?;
    if operation == Operation::Not && ctx.args.len() != 4 {
        return Err(ReplyError::fixed("ERR BITOP NOT must be called with a single source key.").into());
    }
    let to = ctx.txn.at(ctx.args.get(2))?;
    let mut sources = Vec::with_capacity(ctx.args.len() - 3);
    for key in ctx.args.from(3) {
        let at = ctx.txn.at(key)?;
        sources.push(Source::open(ctx.txn, at)?.unwrap_or_else(|| Source::Inline(Vec::new())));
    }
    let length = bitmaps::combine(ctx.txn, operation, to, &sources)?;
    ctx.txn.event_of_result(EventClass::STRING, "set", to, length > 0);
    ctx.reply.integer(length as i64);
    Ok(())
}

/// `BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset increment ..]`
pub fn bitfield(ctx: &mut Context<'_>) -> Result<(), Stop> {
    fields(ctx, false)
}

/// `BITFIELD_RO key [GET type offset ..]`
pub fn bitfield_ro(ctx: &mut Context<'_>) -> Result<(), Stop> {
    fields(ctx, true)
}

fn fields(ctx: &mut Context<'_>, read_only: bool) -> Result<(), Stop> {
    let at = ctx.txn.at(ctx.args.get(1))?;
    let steps = parse_steps(ctx)?;
    let writes = steps.iter().any(|step| step.action != FieldAction::Get);
    if writes && read_only {
        return Err(ReplyError::fixed("ERR BITFIELD_RO only supports the GET subcommand").into());
    }
    ctx.txn.charge(steps.len() as u32, 0)?;
    ctx.reply.array(steps.len());
    if !writes {
        let values = bitmaps::read_fields(ctx.txn, at, &steps)?;
        values.into_iter().for_each(|value| ctx.reply.integer(value));
        return Ok(());
    }
    let answers = bitmaps::change_fields(ctx.txn, at, &steps)?;
    let mut done = steps.iter().zip(&answers).filter(|(step, _)| step.action != FieldAction::Get);
    if !ctx.txn.is_unchanged() && done.any(|(_, answer)| answer.is_some()) {
        ctx.txn.event(EventClass::STRING, "setbit", at);
    }
    for answer in answers {
        match answer {
            Some(value) => ctx.reply.integer(value),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn parse_steps(ctx: &Context<'_>) -> Result<Vec<FieldStep>, ReplyError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::default();
    let mut words = ctx.args.options(2);
    while let Some(word) = words.next_word() {
        let is = |keyword, values| is_keyword(word, keyword) && words.left() >= values;
        let (get, set, increment) = (is("GET", 2), is("SET", 3), is("INCRBY", 3));
        if is("OVERFLOW", 1) {
            overflow = parse_overflow(words.value()?)?;
            continue;
        }
        if !(get || set || increment) {
            return Err(ReplyError::SYNTAX);
        }
        let field = parse_field(words.value()?)?;
        let offset = parse_field_offset(words.value()?, field)?;
        let action = match get {
            true => FieldAction::Get,
            false => {
                let value = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
                if set { FieldAction::Set(value) } else { FieldAction::Increment(value) }
            }
        };
        steps.push(FieldStep { action, field, offset, overflow });
    }
    Ok(steps)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, ReplyError> {
    let ways = [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let found = ways.iter().find(|(name, _)| is_keyword(word, name));
    found.map(|(_, way)| *way).ok_or(ReplyError::fixed("ERR Invalid OVERFLOW type specified"))
}

fn parse_field(word: &[u8]) -> Result<FieldType, ReplyError> {
    let error = ReplyError::fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (signed, width) = match word {
        [b'i', width @ ..] => (true, width),
        [b'u', width @ ..] => (false, width),
        _ => return Err(error),
    };
    let widest = if signed { 64 } else { 63 };
    match parse_i64(width) {
        Some(bits) if (1..=widest).contains(&bits) => Ok(FieldType { signed, bits: bits as u32 }),
        _ => Err(error),
    }
}

/// A bit's place, or, behind `#`, a field's number.
fn parse_field_offset(word: &[u8], field: FieldType) -> Result<u64, ReplyError> {
    match word {
        [b'#', number @ ..] => {
            let offset = parse_i64(number).and_then(|number| number.checked_mul(i64::from(field.bits)));
            offset.and_then(checked_offset).ok_or(BAD_OFFSET)
        }
        word => bit_offset(word),
    }
}
