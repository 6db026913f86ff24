//! What the string commands do.

use crate::base::extended::Extended;
use crate::base::number::{IntegerText, parse_i64};
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind};
use crate::store::events::EventClass;
use crate::store::txn::{At, Before, Slot, Txn};
use crate::types::string_value::{Editor, Source, Stored, check_length, store, stored};
use std::ops::Range;

/// When a value is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// If the key is not there.
    IfAbsent,
    /// If the key is there.
    IfPresent,
}

/// What becomes of the key's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It has none.
    #[default]
    None,
    /// It stays.
    Keep,
    /// It is this, in ms since 1970.
    At(u64),
}

/// Sets a string without reading what is there: never touches the disk.
#[inline]
pub fn set_blindly(txn: &mut Txn, at: At<'_>, value: &[u8], expire_ms: u64) -> Result<(), Stop> {
    let before = txn.look(at)?;
    set_over(txn, at, &before, value, expire_ms)
}

/// Sets a string over what is known to be there. An expiry that has passed makes the key go.
#[inline]
pub fn set_over(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    value: &[u8],
    expire_ms: u64,
) -> Result<(), Stop> {
    if expire_ms != 0 && expire_ms <= txn.now_ms() {
        // The key has changed for those who watch it, even if there was none.
        txn.note_change(at);
        if !before.is_live() {
            txn.event(EventClass::NEW, "new", at);
        }
        return txn.delete(at, before);
    }
    store(txn, at, before, value, expire_ms, false)
}

/// Sets a string that was read; whether the condition held.
pub fn set_slot(
    txn: &mut Txn,
    at: At<'_>,
    slot: &Slot,
    value: &[u8],
    condition: Condition,
    expiry: Expiry,
) -> Result<bool, Stop> {
    let holds = match condition {
        Condition::Always => true,
        Condition::IfAbsent => !slot.is_live(),
        Condition::IfPresent => slot.is_live(),
    };
    if holds {
        let expire_ms = match expiry {
            Expiry::None => 0,
            Expiry::Keep => slot.expire_ms(),
            Expiry::At(expire_ms) => expire_ms,
        };
        set_over(txn, at, &slot.before, value, expire_ms)?;
    }
    Ok(holds)
}

/// MSET: sets every pair.
pub fn set_many<'a>(txn: &mut Txn, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Stop> {
    for (key, value) in pairs {
        let at = txn.at(key)?;
        set_blindly(txn, at, value, 0)?;
        txn.event(EventClass::STRING, "set", at);
    }
    Ok(())
}

/// MSETNX: sets every pair if none of the keys is there; whether it did.
pub fn set_many_if_absent<'a>(
    txn: &mut Txn,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Result<bool, Stop> {
    let mut befores = Vec::new();
    for (key, _) in pairs.clone() {
        let at = txn.at(key)?;
        let slot = txn.load(at)?;
        if slot.is_live() {
            return Ok(false);
        }
        befores.push(slot.before);
        txn.recycle(slot);
    }
    for ((key, value), before) in pairs.zip(befores) {
        let at = txn.at(key)?;
        // A key named twice replaces what its first mention staged.
        let before = txn.staged(at).unwrap_or(before);
        store(txn, at, &before, value, 0, false)?;
        txn.event(EventClass::STRING, "set", at);
    }
    Ok(true)
}

/// The value of a slot as an inline string; `None` if it is in segments.
fn inline<'s>(slot: &'s Slot, at: At<'_>) -> Result<Option<&'s [u8]>, Stop> {
    let Some(head) = slot.head() else { return Ok(Some(&[])) };
    Ok(match stored(at.space, head, slot.body())? {
        Stored::Inline(bytes) => Some(bytes),
        Stored::Segments(_) => None,
    })
}

/// Puts a new inline value into a slot's place; its expiry stays.
fn replace(txn: &mut Txn, at: At<'_>, slot: &Slot, value: &[u8]) -> Result<(), Stop> {
    let head = Head { expire_ms: slot.expire_ms(), ..Head::plain(Kind::String) };
    txn.put(at, &slot.before, head, &[value])
}

/// INCRBY: the new value.
pub fn increment(txn: &mut Txn, at: At<'_>, by: i64) -> Result<i64, Stop> {
    let slot = txn.load(at)?;
    let old = match inline(&slot, at)? {
        Some(_) if !slot.is_live() => 0,
        Some(text) => parse_i64(text).ok_or(ReplyError::NOT_AN_INTEGER)?,
        None => return Err(ReplyError::NOT_AN_INTEGER.into()),
    };
    let new = old.checked_add(by).ok_or(ReplyError::INCREMENT_OVERFLOW)?;
    replace(txn, at, &slot, IntegerText::new(new).as_bytes())?;
    txn.recycle(slot);
    Ok(new)
}

/// INCRBYFLOAT: the text of the new value.
pub fn increment_float(txn: &mut Txn, at: At<'_>, by: &[u8]) -> Result<String, Stop> {
    let slot = txn.load(at)?;
    let old = match inline(&slot, at)? {
        Some(_) if !slot.is_live() => Extended::parse(b"0"),
        Some(text) => Extended::parse(text),
        None => None,
    };
    let (Some(old), Some(by)) = (old, Extended::parse(by)) else {
        return Err(ReplyError::NOT_A_FLOAT.into());
    };
    let new = old.plus(by).filter(Extended::is_finite).ok_or(ReplyError::NOT_FINITE)?;
    let text = new.to_text();
    replace(txn, at, &slot, text.as_bytes())?;
    txn.recycle(slot);
    Ok(text)
}

/// APPEND: the new length.
pub fn append(txn: &mut Txn, at: At<'_>, bytes: &[u8]) -> Result<u64, Stop> {
    let slot = txn.load(at)?;
    if !slot.is_live() {
        store(txn, at, &slot.before, bytes, 0, false)?;
        return Ok(bytes.len() as u64);
    }
    let mut editor = Editor::new(slot, at.space)?;
    let length = editor.len() + bytes.len() as u64;
    check_length(length)?;
    editor.write(txn, editor.len(), bytes)?;
    editor.finish(txn, at, true)?;
    Ok(length)
}

/// SETRANGE: the new length.
pub fn set_range(txn: &mut Txn, at: At<'_>, offset: u64, bytes: &[u8]) -> Result<u64, Stop> {
    let slot = txn.load(at)?;
    let mut editor = Editor::new(slot, at.space)?;
    if bytes.is_empty() {
        return Ok(editor.len());
    }
    check_length(offset.saturating_add(bytes.len() as u64))?;
    editor.write(txn, offset, bytes)?;
    let length = editor.len();
    editor.finish(txn, at, true)?;
    Ok(length)
}

/// The bytes that GETRANGE means: both ends inclusive, negative ones counted from the end.
pub fn resolve_range(start: i64, end: i64, length: u64) -> Range<u64> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    clamp_range(start, end, length)
}

/// The same, but crossed negative ends that both lie before the string mean its first byte, as in BITPOS.
pub fn clamp_range(start: i64, end: i64, length: u64) -> Range<u64> {
    let resolve = |index: i64| match index {
        0.. => index as u64,
        _ => length.saturating_sub(index.unsigned_abs()),
    };
    let (start, end) = (resolve(start), resolve(end).min(length.saturating_sub(1)));
    if length == 0 || start > end { 0..0 } else { start..end + 1 }
}

/// The whole strings of two keys, for LCS; a missing one is empty.
pub fn load_two(txn: &mut Txn, a: At<'_>, b: At<'_>) -> Result<(Vec<u8>, Vec<u8>), Stop> {
    txn.pin();
    let mut load = |at| match Source::open(txn, at)? {
        Some(source) => source.read_all(txn),
        None => Ok(Vec::new()),
    };
    Ok((load(a)?, load(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_stay_inside(start in -20i64..20, end in -20i64..20, length in 0u64..12) {
            let range = resolve_range(start, end, length);
            prop_assert!(range.end <= length);
            let absolute = |index: i64| if index < 0 { index + length as i64 } else { index };
            let crossed = start < 0 && end < 0 && start > end;
            // A negative end before the start of the string means its first byte.
            let (low, high) = (absolute(start).max(0), absolute(end).max(0));
            let expected = (0..length as i64).filter(|at| (low..=high).contains(at) && !crossed).count();
            prop_assert_eq!(range.count(), expected);
        }
    }

    #[test]
    fn extremes() {
        assert_eq!(resolve_range(i64::MIN, i64::MAX, 5), 0..5);
        assert_eq!(resolve_range(i64::MAX, i64::MIN, 5), 0..0);
        assert_eq!(resolve_range(-3, -1, 5), 2..5);
        assert_eq!(resolve_range(-1, -3, 5), 0..0);
        assert_eq!(resolve_range(0, -100, 5), 0..1);
    }
}
