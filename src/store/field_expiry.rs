//! Fields of hashes that expire.
//!
//! ```text
//! head of the hash      no field expires before this          a lower bound: it is not raised when the first field goes
//! entry in ttl          at that time, or at the key's own expiry if that is earlier
//! field ttl index       one entry a field, of a hash under an id; a packed one is looked through
//! ```
//!
//! An expired field is as good as gone for every command, but it is stored and counted until somebody removes it: a command
//! that rewrites a packed hash anyway, or the sweeper, which comes when the entry in `ttl` is due, removes so many in one
//! batch, and sets bound and entry to what is left. The hash goes with its last field.

use crate::base::stop::Stop;
use crate::encoding::data::{self, FIELD_TTL};
use crate::encoding::hash::{self, Fields, is_expired, split_ttl_key, split_value};
use crate::encoding::large::Large;
use crate::encoding::meta::{Head, Space};
use crate::store::events::EventClass;
use crate::store::txn::{At, Slot, Txn};

/// Removes expired fields of a packed body; how many are left.
pub fn prune_packed(body: &mut Vec<u8>, now_ms: u64) -> Result<usize, Stop> {
    let (mut kept, mut end, mut at) = (0, 0, 0);
    loop {
        let mut fields = Fields::new(&body[at..]);
        let Some(field) = fields.next_field()? else { break };
        let (from, to) = (at + field.place.start, at + field.place.end);
        let expired = field.is_expired(now_ms);
        if !expired {
            body.copy_within(from..to, end);
            end += to - from;
            kept += 1;
        }
        at = to;
    }
    body.truncate(end);
    Ok(kept)
}

/// When the first field of a packed body expires; 0 for never.
pub fn earliest_packed(body: &[u8]) -> Result<u64, Stop> {
    let (mut fields, mut earliest_ms) = (Fields::new(body), 0);
    while let Some(field) = fields.next_field()? {
        if field.expire_ms != 0 && (earliest_ms == 0 || field.expire_ms < earliest_ms) {
            earliest_ms = field.expire_ms;
        }
    }
    Ok(earliest_ms)
}

/// How many expired fields a hash under an id still has stored.
pub fn count_expired(txn: &mut Txn, space: Space, head: &Head) -> Result<u64, Stop> {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    hash::put_ttl_key(&mut lower, space, head.id, head.field_expire_ms, b"");
    hash::put_ttl_key(&mut upper, space, head.id, txn.now_ms().saturating_add(1), b"");
    if lower >= upper {
        return Ok(0);
    }
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    let mut count = 0;
    while iter.valid() {
        txn.charge(1, 0)?;
        count += 1;
        iter.next()?;
    }
    Ok(count)
}

/// What [`remove_expired`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// So many fields are gone.
    pub fields: u64,
    /// There may be more.
    pub more: bool,
    /// Where to go on in the index; empty for its beginning. What lies before is tombstones, which cost time to step over.
    pub resume: Vec<u8>,
}

/// Removes up to `limit` expired fields of a hash that was read under its lock. `from` is where the last call stopped.
pub fn remove_expired(
    txn: &mut Txn,
    at: At<'_>,
    slot: &mut Slot,
    head: Head,
    limit: usize,
    from: Vec<u8>,
) -> Result<Removed, Stop> {
    let mut body = slot.take_body();
    if head.id == 0 {
        let stored = Fields::new(&body).count()?;
        let left = prune_packed(&mut body, txn.now_ms())?;
        match left {
            0 => txn.delete(at, &slot.before)?,
            _ => {
                let head = Head { field_expire_ms: earliest_packed(&body)?, ..head };
                txn.put(at, &slot.before, head, &[&body])?;
            }
        }
        txn.recycle_buffer(body);
        if stored > left {
            txn.event_and_del(EventClass::HASH, "hexpired", at);
        }
        return Ok(Removed { fields: (stored - left) as u64, ..Removed::default() });
    }
    let mut large = Large::decode(&body)?;
    let now_ms = txn.now_ms();
    let (mut lower, upper) = data::element_bounds(at.space, head.id, FIELD_TTL);
    // An entry that was put before that place since then has lowered the bound.
    if from > lower && from < upper && split_ttl_key(&from)?.0 <= head.field_expire_ms {
        lower = from;
    }
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    let (mut removed, mut next_ms, mut key) = (Removed::default(), 0, Vec::new());
    while iter.valid() {
        let (expire_ms, name) = split_ttl_key(iter.key())?;
        if !is_expired(expire_ms, now_ms) {
            next_ms = expire_ms;
            break;
        }
        if removed.fields == limit as u64 {
            removed.more = true;
            removed.resume = iter.key().to_vec();
            next_ms = expire_ms;
            break;
        }
        hash::put_key(&mut key, at.space, head.id, name);
        let found_ms = txn.view_data(&key, |value| value.map(split_value).transpose().map(expiry_of))??;
        // An entry that its field does not bear out goes alone; there should be none.
        if found_ms == Some(expire_ms) {
            txn.delete_data(&key)?;
            large.count = large.count.saturating_sub(1);
        }
        txn.delete_data(iter.key())?;
        removed.fields += 1;
        iter.next()?;
    }
    if large.count == 0 {
        txn.delete(at, &slot.before)?;
        txn.event_and_del(EventClass::HASH, "hexpired", at);
        return Ok(Removed { fields: removed.fields, ..Removed::default() });
    }
    large.encode(&mut body);
    txn.put(at, &slot.before, Head { field_expire_ms: next_ms, ..head }, &[&body])?;
    txn.recycle_buffer(body);
    if removed.fields > 0 {
        txn.event(EventClass::HASH, "hexpired", at);
    }
    Ok(removed)
}

fn expiry_of(field: Option<(u64, &[u8])>) -> Option<u64> {
    field.map(|(expire_ms, _)| expire_ms)
}
