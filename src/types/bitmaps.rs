//! What the bitmap commands do.

use crate::base::stop::Stop;
use crate::encoding::data::{SEGMENT_BYTES, segment_key};
use crate::encoding::meta::{Head, Kind, external_body};
use crate::store::limits::INLINE_STRING_BYTES_MAX;
use crate::store::txn::{At, Txn};
use crate::types::bitfield::{FieldType, Overflow, WINDOW_BYTES};
use crate::types::bits::{self, Operation};
use crate::types::string_value::{Editor, Source, store, view};
use std::ops::{ControlFlow, Range};

/// SETBIT: the bit that was there.
pub fn set_bit(txn: &mut Txn, at: At<'_>, offset: u64, on: bool) -> Result<bool, Stop> {
    let slot = txn.load(at)?;
    let mut editor = Editor::new(slot, at.space)?;
    let (index, mask) = (offset / 8, bits::mask(offset));
    let mut byte = [0];
    editor.read(txn, index, &mut byte)?;
    let old = byte[0] & mask != 0;
    if old == on && index < editor.len() {
        return Ok(old);
    }
    byte[0] = if on { byte[0] | mask } else { byte[0] & !mask };
    editor.write(txn, index, &byte)?;
    editor.finish(txn, at, true)?;
    Ok(old)
}

/// GETBIT.
pub fn get_bit(txn: &mut Txn, at: At<'_>, offset: u64) -> Result<bool, Stop> {
    let index = offset / 8;
    let mut byte = 0;
    let inline = view(txn, at, |bytes| {
        byte = bytes.and_then(|bytes| bytes.get(index as usize).copied()).unwrap_or(0);
    })?;
    if inline.is_err()
        && let Some(source) = Source::open(txn, at)?
    {
        let mut found = [0];
        source.read(txn, index, &mut found)?;
        byte = found[0];
    }
    Ok(byte & bits::mask(offset) != 0)
}

/// A stretch of bits, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// First bit.
    pub first: u64,
    /// Last bit.
    pub last: u64,
}

/// The bits that a command means. `in_bits`: the ends count bits, not bytes. `resolve` is the command's way with negative
/// ends. `None` if there are none.
pub fn resolve_bits(
    (start, end): (i64, i64),
    in_bits: bool,
    length: u64,
    resolve: fn(i64, i64, u64) -> Range<u64>,
) -> Option<BitRange> {
    let total = if in_bits { length * 8 } else { length };
    let range = resolve(start, end, total);
    if range.is_empty() {
        return None;
    }
    Some(match in_bits {
        true => BitRange { first: range.start, last: range.end - 1 },
        false => BitRange { first: range.start * 8, last: range.end * 8 - 1 },
    })
}

/// Walks the bytes that hold a range of bits, with bits outside of it set to `fill`.
fn masked_pieces(
    txn: &mut Txn,
    source: &Source,
    range: BitRange,
    fill: bool,
    mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Stop> {
    let (first_byte, last_byte) = (range.first / 8, range.last / 8);
    let fix = |byte: u8, first: u32, last: u32| {
        let kept = bits::keep(byte, first, last);
        if fill { kept | !bits::keep(0xff, first, last) } else { kept }
    };
    let edge = |txn: &mut Txn, index: u64, first: u64, last: u64| {
        let mut byte = [0];
        source.read(txn, index, &mut byte)?;
        Ok::<_, Stop>([fix(byte[0], first as u32, last as u32)])
    };
    if first_byte == last_byte {
        let byte = edge(txn, first_byte, range.first % 8, range.last % 8)?;
        let _ = f(&byte);
        return Ok(());
    }
    let byte = edge(txn, first_byte, range.first % 8, 7)?;
    if f(&byte).is_break() {
        return Ok(());
    }
    let mut broken = false;
    source.pieces(txn, first_byte + 1..last_byte, |piece| {
        let flow = f(piece);
        broken = flow.is_break();
        flow
    })?;
    if !broken {
        let byte = edge(txn, last_byte, 0, range.last % 8)?;
        let _ = f(&byte);
    }
    Ok(())
}

/// BITCOUNT of a range.
pub fn count_bits(txn: &mut Txn, source: &Source, range: BitRange) -> Result<u64, Stop> {
    let mut count = 0;
    masked_pieces(txn, source, range, false, |piece| {
        count += bits::count_ones(piece);
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// Where the first such bit in the range is.
pub fn find_bit(txn: &mut Txn, source: &Source, range: BitRange, bit: bool) -> Result<Option<u64>, Stop> {
    let mut at = range.first / 8 * 8;
    let mut found = None;
    masked_pieces(txn, source, range, !bit, |piece| {
        found = bits::find(piece, bit).map(|offset| at + offset);
        at += 8 * piece.len() as u64;
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

/// BITOP: the length of the result.
pub fn combine(txn: &mut Txn, operation: Operation, to: At<'_>, sources: &[Source]) -> Result<u64, Stop> {
    let length = sources.iter().map(Source::len).max().unwrap_or(0);
    let before = txn.look(to)?;
    if length == 0 {
        if before.is_counted() {
            // Only what is really there counts as removed; a belief has to be checked for that.
            let slot = txn.load(to)?;
            txn.delete(to, &slot.before)?;
        }
        return Ok(0);
    }
    txn.charge(0, length)?;
    if length <= INLINE_STRING_BYTES_MAX as u64 {
        let result = combine_piece(txn, operation, sources, 0, length as usize)?;
        store(txn, to, &before, &result, 0, true)?;
        return Ok(length);
    }
    let mut builder = txn.builder(to.space, length)?;
    let mut at = 0;
    while at < length {
        let count = (length - at).min(SEGMENT_BYTES as u64) as usize;
        let piece = combine_piece(txn, operation, sources, at, count)?;
        // Zeros need not be stored.
        if piece.iter().any(|byte| *byte != 0) {
            let key = segment_key(to.space, builder.id(), (at / SEGMENT_BYTES as u64) as u32);
            builder.put(txn, &key, &piece)?;
        }
        at += count as u64;
    }
    let head = Head { raw: true, id: builder.id(), ..Head::plain(Kind::String) };
    builder.link(txn, to)?;
    txn.put(to, &before, head, &[&external_body(length)])?;
    Ok(length)
}

fn combine_piece(
    txn: &mut Txn,
    operation: Operation,
    sources: &[Source],
    at: u64,
    count: usize,
) -> Result<Vec<u8>, Stop> {
    let mut result = vec![0; count];
    let mut piece = vec![0; count];
    for (index, source) in sources.iter().enumerate() {
        source.read(txn, at, &mut piece)?;
        match (index, operation) {
            (0, Operation::And | Operation::Or | Operation::Xor) => result.copy_from_slice(&piece),
            _ => bits::combine(operation, &mut result, &piece),
        }
    }
    Ok(result)
}

/// One step of BITFIELD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldAction {
    /// Read.
    Get,
    /// Store, and answer what was there.
    Set(i64),
    /// Add, and answer the sum.
    Increment(i64),
}

/// One step of BITFIELD, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldStep {
    /// What to do.
    pub action: FieldAction,
    /// With what kind of field.
    pub field: FieldType,
    /// At which bit.
    pub offset: u64,
    /// If the result does not fit.
    pub overflow: Overflow,
}

impl FieldStep {
    fn end_byte(&self) -> u64 {
        let (first, count) = self.field.window(self.offset);
        first + count as u64
    }
}

/// BITFIELD with GET only: the values.
pub fn read_fields(txn: &mut Txn, at: At<'_>, steps: &[FieldStep]) -> Result<Vec<i64>, Stop> {
    let source = Source::open(txn, at)?.unwrap_or_else(|| Source::Inline(Vec::new()));
    let read = |step: &FieldStep| {
        let (first, count) = step.field.window(step.offset);
        let mut window = [0; WINDOW_BYTES];
        source.read(txn, first, &mut window[..count])?;
        Ok(step.field.read(&window, step.offset))
    };
    steps.iter().map(read).collect()
}

/// BITFIELD: what each step answers; `None` where it failed for overflow.
pub fn change_fields(txn: &mut Txn, at: At<'_>, steps: &[FieldStep]) -> Result<Vec<Option<i64>>, Stop> {
    let slot = txn.load(at)?;
    let mut editor = Editor::new(slot, at.space)?;
    let mut changed = !editor.existed();
    // As in Redis the string first grows to hold all that may be written, whether or not it then is.
    let writes = steps.iter().filter(|step| step.action != FieldAction::Get);
    if let Some(end) = writes.map(FieldStep::end_byte).max() {
        changed |= end > editor.len();
        editor.grow(end)?;
    }
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        let (first, count) = step.field.window(step.offset);
        let mut window = [0; WINDOW_BYTES];
        editor.read(txn, first, &mut window[..count])?;
        let old = step.field.read(&window, step.offset);
        let new = match step.action {
            FieldAction::Get => {
                answers.push(Some(old));
                continue;
            }
            FieldAction::Set(value) => step.field.to_set(value, step.overflow),
            FieldAction::Increment(by) => step.field.to_increment(old, by, step.overflow),
        };
        let Some(new) = new else {
            answers.push(None);
            continue;
        };
        if new != old {
            changed = true;
            step.field.write(&mut window, step.offset, new);
            editor.write(txn, first, &window[..count])?;
        }
        answers.push(Some(if matches!(step.action, FieldAction::Set(_)) { old } else { new }));
    }
    if changed {
        editor.finish(txn, at, true)?;
    }
    Ok(answers)
}
