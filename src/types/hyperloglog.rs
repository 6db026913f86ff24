//! What the HyperLogLog commands do: a HyperLogLog is a string, see `types/hll.rs` for its bytes.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind, Record};
use crate::store::txn::{At, Slot, Txn};
use crate::types::hll::{self, Damaged, Hll, REGISTERS, Registers};
use crate::types::string_value::{Stored, stored};

/// Opcodes that do not add up.
pub const INVALID: ReplyError = ReplyError::fixed("INVALIDOBJ Corrupted HLL object detected");
/// A string that is none.
pub const NOT_ONE: ReplyError = ReplyError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Damaged> for Stop {
    fn from(_: Damaged) -> Stop {
        INVALID.into()
    }
}

/// The bytes of a HyperLogLog.
fn check<'b>(at: At<'_>, head: &Head, body: &'b [u8]) -> Result<&'b [u8], Stop> {
    match stored(at.space, head, body)? {
        Stored::Inline(bytes) if hll::is_one(bytes) => Ok(bytes),
        // The longest that is one is far shorter than what goes to segments.
        Stored::Inline(_) | Stored::Segments(_) => Err(NOT_ONE.into()),
    }
}

/// Reads a key to change it. `None` if there is none.
fn load(txn: &mut Txn, at: At<'_>) -> Result<(Slot, Option<Hll>), Stop> {
    let mut slot = txn.load(at)?;
    let Some(head) = slot.head().copied() else { return Ok((slot, None)) };
    check(at, &head, slot.body())?;
    let hll = Hll::from_bytes(slot.take_body());
    Ok((slot, hll))
}

/// Stages a changed one; its expiry stays.
fn put(txn: &mut Txn, at: At<'_>, slot: &Slot, hll: Hll) -> Result<(), Stop> {
    let head = Head { raw: true, expire_ms: slot.expire_ms(), ..Head::plain(Kind::String) };
    txn.put(at, &slot.before, head, &[hll.as_bytes()])?;
    txn.recycle_buffer(hll.into_bytes());
    Ok(())
}

/// PFADD: whether anything changed, the key itself included.
pub fn add<'a>(
    txn: &mut Txn,
    at: At<'_>,
    elements: impl ExactSizeIterator<Item = &'a [u8]>,
    sparse_bytes_max: usize,
) -> Result<bool, Stop> {
    txn.charge(u32::try_from(elements.len()).unwrap_or(u32::MAX), 0)?;
    let (mut slot, hll) = load(txn, at)?;
    let mut changed = hll.is_none();
    let mut hll = hll.unwrap_or_else(|| Hll::new(slot.take_body()));
    for element in elements {
        changed |= hll.add(element, sparse_bytes_max)?;
    }
    if changed {
        hll.forget_count();
        put(txn, at, &slot, hll)?;
    }
    Ok(changed)
}

/// PFCOUNT of one key, which keeps the count in its header. With the key's lock.
pub fn count(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    let known = txn.view(at, |record| match record {
        None => Ok(Some(0)),
        Some(Record { head, body }) => Ok::<_, Stop>(hll::cached_count(check(at, &head, body)?)),
    })??;
    if let Some(count) = known {
        return Ok(count);
    }
    let (slot, hll) = load(txn, at)?;
    let Some(mut hll) = hll else { return Ok(0) };
    let count = hll::count(hll.as_bytes())?;
    // Counting is reading, and goes on when nothing can be written.
    if txn.store().db().wal_has_room() {
        hll.cache_count(count);
        put(txn, at, &slot, hll)?;
    }
    Ok(count)
}

/// Raises `registers` to those of a key; whether it is there, and dense.
fn merge_key(txn: &mut Txn, at: At<'_>, registers: &mut Registers) -> Result<Option<bool>, Stop> {
    txn.view(at, |record| match record {
        None => Ok(None),
        Some(Record { head, body }) => {
            let bytes = check(at, &head, body)?;
            hll::merge(bytes, registers)?;
            Ok(Some(hll::is_dense(bytes)))
        }
    })?
}

/// PFCOUNT of several keys.
pub fn count_union<'a>(txn: &mut Txn, keys: impl Iterator<Item = &'a [u8]>) -> Result<u64, Stop> {
    let mut registers = Box::new([0; REGISTERS]);
    txn.pin();
    for key in keys {
        let at = txn.at(key)?;
        merge_key(txn, at, &mut registers)?;
    }
    Ok(hll::count_registers(&registers))
}

/// PFMERGE: `to` becomes the union of itself and the others.
pub fn merge<'a>(
    txn: &mut Txn,
    to: At<'_>,
    from: impl Iterator<Item = &'a [u8]>,
    sparse_bytes_max: usize,
) -> Result<(), Stop> {
    let mut registers = Box::new([0; REGISTERS]);
    let mut dense = merge_key(txn, to, &mut registers)?.unwrap_or(false);
    for key in from {
        let at = txn.at(key)?;
        dense |= merge_key(txn, at, &mut registers)?.unwrap_or(false);
    }
    let (mut slot, hll) = load(txn, to)?;
    let mut hll = hll.unwrap_or_else(|| Hll::new(slot.take_body()));
    if dense {
        hll.make_dense()?;
    }
    for (index, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        hll.raise(index, *value, sparse_bytes_max)?;
    }
    hll.forget_count();
    put(txn, to, &slot, hll)
}

/// PFDEBUG: hands one that is there to `look`; what that changed is stored if it says so.
pub fn inspect<R>(
    txn: &mut Txn,
    at: At<'_>,
    look: impl FnOnce(&mut Hll) -> Result<(R, bool), Stop>,
) -> Result<Option<R>, Stop> {
    let (slot, hll) = load(txn, at)?;
    let Some(mut hll) = hll else { return Ok(None) };
    let (answer, changed) = look(&mut hll)?;
    if changed {
        put(txn, at, &slot, hll)?;
    }
    Ok(Some(answer))
}
