//! Fields of a hash: in the record itself or, if they are many, under an id.
//!
//! ```text
//! few      meta: head | packed fields
//! many     meta: head with id | count ..          data: field -> expiry, value;  expiry, field -> nothing
//! ```
//!
//! [`get`] reads one field where it lies, [`View`] reads several that agree, [`Editor`] changes some under the key's lock. None of them
//! shows a field that has expired. An editor of a packed hash drops those on its way; under an id they stay stored, and
//! counted, until the sweeper comes (`store/field_expiry.rs`).
//!
//! An editor's changes to a hash under an id are staged at once, and staged changes are not read back: it remembers what it did to
//! which field. A hash that has become small again by removals moves back into its record.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{self, FIELD};
use crate::encoding::hash::{self, Fields, field_bytes, is_expired, put_field, replace_field, split_value};
use crate::encoding::large::Large;
use crate::encoding::meta::{Head, Kind, Record, damaged};
use crate::store::events::EventClass;
use crate::store::field_expiry::{count_expired, earliest_packed, prune_packed};
use crate::store::limits::USER_KEY_BYTES_MAX;
use crate::store::txn::{At, Before, Txn};
use haypile_lsm::Iter;
use std::collections::{BTreeMap, HashMap};

/// A field's name is part of an engine key, as a user's key is.
const NAME_TOO_LONG: ReplyError = ReplyError::fixed("ERR field is too long (the limit is 1 MiB)");

/// Value and expiry of a field, if it is there.
pub type Found<'a> = Option<(&'a [u8], u64)>;
/// Name, value and expiry of a field.
pub type NameValueExpiry<'a> = (&'a [u8], &'a [u8], u64);

fn check_kind(head: &Head) -> Result<(), ReplyError> {
    if head.kind == Kind::Hash { Ok(()) } else { Err(ReplyError::WRONG_TYPE) }
}

/// Hands the value and expiry of one field to `f` where they lie; `None` if there is no such field.
pub fn get<R>(txn: &mut Txn, at: At<'_>, name: &[u8], f: impl FnOnce(Found<'_>) -> R) -> Result<R, Stop> {
    let now_ms = txn.now_ms();
    let mut f = Some(f);
    let mut answer = |found: Found<'_>| {
        let found = found.filter(|(_, expire_ms)| !is_expired(*expire_ms, now_ms));
        f.take().map(|f| f(found))
    };
    let look = |record: Option<Record<'_>>, answer: &mut dyn FnMut(Found<'_>) -> Option<R>| {
        let Some(Record { head, body }) = record else { return Ok(Ok(answer(None))) };
        check_kind(&head)?;
        if head.id != 0 {
            return Ok(Err(head.id));
        }
        let found = hash::find(body, name)?;
        Ok::<_, Stop>(Ok(answer(found.map(|field| (field.value, field.expire_ms)))))
    };
    let answered = match txn.view(at, |record| look(record, &mut answer))?? {
        Ok(answered) => answered,
        Err(_) => {
            // The id may be gone when its data is read, so that both have to be of one moment.
            txn.pin();
            match txn.view(at, |record| look(record, &mut answer))?? {
                Ok(answered) => answered,
                Err(id) => {
                    let mut key = txn.take_buffer();
                    hash::put_key(&mut key, at.space, id, name);
                    let answered = txn.view_data(&key, |value| match value {
                        None => Ok(answer(None)),
                        Some(value) => split_value(value).map(|(ms, value)| answer(Some((value, ms)))),
                    })??;
                    txn.recycle_buffer(key);
                    answered
                }
            }
        }
    };
    answered.ok_or_else(|| damaged("keyspace meta", "hash").into())
}

/// How many fields a hash has stored. As in Redis that counts those that have expired until they are removed: who asks for
/// the length does not wait for a walk.
pub fn length(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    txn.view(at, |record| {
        let Some(Record { head, body }) = record else { return Ok(0) };
        check_kind(&head)?;
        match head.id {
            0 => Ok(Fields::new(body).count()? as u64),
            _ => Ok(Large::decode(body)?.count),
        }
    })?
}

fn count_live(body: &[u8], now_ms: u64) -> Result<u64, Stop> {
    let (mut fields, mut count) = (Fields::new(body), 0);
    while let Some(field) = fields.next_field()? {
        count += u64::from(!field.is_expired(now_ms));
    }
    Ok(count)
}

/// A hash as of one moment.
#[derive(Debug)]
pub struct View<'k> {
    at: At<'k>,
    head: Head,
    /// The record's body: packed fields, or the size.
    body: Vec<u8>,
}

impl<'k> View<'k> {
    /// `None` if there is no such key. Reads from here on are of one moment if the hash lies under an id.
    pub fn open(txn: &mut Txn, at: At<'k>) -> Result<Option<View<'k>>, Stop> {
        let mut body = txn.take_buffer();
        let mut read = |record: Option<Record<'_>>| {
            body.clear();
            let Some(record) = record else { return Ok(None) };
            check_kind(&record.head)?;
            body.extend_from_slice(record.body);
            Ok::<_, Stop>(Some(record.head))
        };
        let mut head = txn.view(at, &mut read)??;
        if head.is_some_and(|head| head.id != 0) {
            txn.pin();
            head = txn.view(at, &mut read)??;
        }
        Ok(head.map(|head| View { at, head, body }))
    }

    /// A record that was read. The reader has seen to it that what lies under its id is of the same moment.
    pub fn of_record(at: At<'k>, head: Head, body: &[u8]) -> View<'k> {
        View { at, head, body: body.to_vec() }
    }

    /// Gives its buffer back.
    pub fn close(self, txn: &mut Txn) {
        txn.recycle_buffer(self.body);
    }

    /// The packed fields. `None` if they lie under an id.
    pub fn packed(&self) -> Option<&[u8]> {
        (self.head.id == 0).then_some(&self.body[..])
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How many fields are stored, expired ones included.
    pub fn stored(&self) -> Result<u64, Stop> {
        Ok(match self.packed() {
            Some(body) => Fields::new(body).count()? as u64,
            None => Large::decode(&self.body)?.count,
        })
    }

    /// How many fields it has.
    pub fn length(&self, txn: &mut Txn) -> Result<u64, Stop> {
        if !self.head.has_due_fields(txn.now_ms()) {
            return self.stored();
        }
        match self.packed() {
            Some(body) => count_live(body, txn.now_ms()),
            None => Ok(self.stored()?.saturating_sub(count_expired(txn, self.at.space, &self.head)?)),
        }
    }

    /// Hands value and expiry of a field to `f`; `None` if there is no such field.
    pub fn get<R>(&self, txn: &mut Txn, name: &[u8], f: impl FnOnce(Found<'_>) -> R) -> Result<R, Stop> {
        let now_ms = txn.now_ms();
        if let Some(body) = self.packed() {
            let found = hash::find(body, name)?.filter(|field| !field.is_expired(now_ms));
            return Ok(f(found.map(|field| (field.value, field.expire_ms))));
        }
        let mut key = txn.take_buffer();
        hash::put_key(&mut key, self.at.space, self.head.id, name);
        let answer = txn.view_data(&key, |value| {
            let found = value.map(split_value).transpose()?;
            let found = found.filter(|(expire_ms, _)| !is_expired(*expire_ms, now_ms));
            Ok::<R, Stop>(f(found.map(|(expire_ms, value)| (value, expire_ms))))
        })??;
        txn.recycle_buffer(key);
        Ok(answer)
    }

    /// A walk over the stored fields of a hash under an id, in byte order, standing nowhere.
    pub fn walk(&self, txn: &mut Txn) -> Result<Walk, Stop> {
        let (lower, upper) = data::element_bounds(self.at.space, self.head.id, FIELD);
        self.walk_within(txn, lower, upper)
    }

    /// The same between two keys of keyspace `data`.
    pub fn walk_within(&self, txn: &mut Txn, lower: Vec<u8>, upper: Vec<u8>) -> Result<Walk, Stop> {
        let keyspace = txn.store().keyspaces().data;
        Ok(Walk { iter: txn.iter(keyspace, Some(lower), Some(upper))? })
    }

    /// Hands every field to `f`: name and value. In the order of arrival if packed, else in byte order.
    pub fn for_each(&self, txn: &mut Txn, mut f: impl FnMut(&[u8], &[u8])) -> Result<(), Stop> {
        self.for_each_with_expiry(txn, |name, value, _| f(name, value))
    }

    /// The same with the expiry behind.
    pub fn for_each_with_expiry(
        &self,
        txn: &mut Txn,
        mut f: impl FnMut(&[u8], &[u8], u64),
    ) -> Result<(), Stop> {
        let now_ms = txn.now_ms();
        if let Some(body) = self.packed() {
            let mut fields = Fields::new(body);
            while let Some(field) = fields.next_field()? {
                if !field.is_expired(now_ms) {
                    f(field.name, field.value, field.expire_ms);
                }
            }
            return Ok(());
        }
        // All of it or nothing: no use in doing half of it and then finding that it is too much for here.
        txn.charge(self.stored()?.min(u64::from(u32::MAX)) as u32, 0)?;
        let mut walk = self.walk(txn)?;
        walk.iter.seek_to_first()?;
        while let Some((name, value, expire_ms)) = walk.field()? {
            if !is_expired(expire_ms, now_ms) {
                txn.charge(0, (name.len() + value.len()) as u64)?;
                f(name, value, expire_ms);
            }
            walk.iter.next()?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn at(&self) -> At<'k> {
        self.at
    }
}

/// A walk over the fields of a hash under an id.
pub struct Walk {
    /// Over keyspace `data`, within the fields.
    pub iter: Iter,
}

impl Walk {
    /// Name, value and expiry of the field it stands on; it may have expired.
    pub fn field(&self) -> Result<Option<NameValueExpiry<'_>>, Stop> {
        if !self.iter.valid() {
            return Ok(None);
        }
        let (expire_ms, value) = split_value(self.iter.value())?;
        Ok(Some((hash::name_of(self.iter.key()), value, expire_ms)))
    }
}

/// What becomes of a field's expiry when its value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldExpiry {
    /// It has none.
    None,
    /// It stays.
    Keep,
    /// It is this, in ms since 1970, later than now.
    At(u64),
}

#[derive(Debug)]
enum Form {
    Packed {
        body: Vec<u8>,
        count: usize,
    },
    /// Too large for the record: every field, for an id of its own.
    Growing(BTreeMap<Vec<u8>, (Vec<u8>, u64)>),
    Large {
        size: Large,
        /// Buffer of the record's body.
        body: Vec<u8>,
        /// What this command did to which field: the expiry it has now, or that it is gone.
        done: HashMap<Vec<u8>, Option<u64>>,
    },
}

/// Changes some fields of a hash and leaves the rest where it is.
#[derive(Debug)]
pub struct Editor<'k> {
    at: At<'k>,
    before: Before,
    /// Head of the hash, or of the one that comes to be.
    head: Head,
    existed: bool,
    form: Form,
    /// Expired fields were dropped on the way: told of if the command changes anything, and so keeps it.
    pruned: bool,
    changed: bool,
    /// The record under which the fields lie has to be written.
    record_changed: bool,
    removed: bool,
    /// Values were set that a look at what is stored would not show.
    values_set: bool,
    /// A name may be given twice.
    many: bool,
    key: Vec<u8>,
}

impl<'k> Editor<'k> {
    /// Reads a key under its lock. `many`: more than one change may be made to it.
    pub fn open(txn: &mut Txn, at: At<'k>, many: bool) -> Result<Editor<'k>, Stop> {
        let mut slot = txn.load(at)?;
        let found = slot.head().copied();
        if let Some(head) = &found {
            check_kind(head)?;
        }
        let head = found.unwrap_or(Head::plain(Kind::Hash));
        let mut body = slot.take_body();
        let mut pruned = false;
        let form = if head.id != 0 {
            Form::Large { size: Large::decode(&body)?, body, done: HashMap::new() }
        } else {
            let stored_bytes = body.len();
            let count = match head.has_due_fields(txn.now_ms()) {
                true => prune_packed(&mut body, txn.now_ms())?,
                false => Fields::new(&body).count()?,
            };
            pruned = body.len() != stored_bytes;
            Form::Packed { body, count }
        };
        Ok(Editor {
            at,
            before: slot.before,
            head,
            existed: found.is_some(),
            form,
            pruned,
            changed: false,
            record_changed: false,
            removed: false,
            values_set: false,
            many,
            key: Vec::new(),
        })
    }

    /// Whether there was a hash.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// Hands value and expiry of a field to `f`. A value that this editor has set is not to be asked for.
    pub fn get<R>(&mut self, txn: &mut Txn, name: &[u8], f: impl FnOnce(Found<'_>) -> R) -> Result<R, Stop> {
        let now_ms = txn.now_ms();
        match &self.form {
            Form::Packed { body, .. } => {
                let found = hash::find(body, name)?;
                Ok(f(found.map(|field| (field.value, field.expire_ms))))
            }
            Form::Growing(fields) => {
                Ok(f(fields.get(name).map(|(value, expire_ms)| (&value[..], *expire_ms))))
            }
            Form::Large { done, .. } => {
                let known = if self.many { done.get(name).copied() } else { None };
                if known == Some(None) {
                    return Ok(f(None));
                }
                hash::put_key(&mut self.key, self.at.space, self.head.id, name);
                txn.view_data(&self.key, |value| {
                    let Some((stored_ms, value)) = value.map(split_value).transpose()? else {
                        return Ok(f(None));
                    };
                    let expire_ms = known.flatten().unwrap_or(stored_ms);
                    Ok(f((!is_expired(expire_ms, now_ms)).then_some((value, expire_ms))))
                })?
            }
        }
    }

    /// Expiry of a field; `None` if there is no such field.
    pub fn expiry(&mut self, txn: &mut Txn, name: &[u8]) -> Result<Option<u64>, Stop> {
        match self.stored_expiry(txn, name)? {
            Some(expire_ms) if !is_expired(expire_ms, txn.now_ms()) => Ok(Some(expire_ms)),
            _ => Ok(None),
        }
    }

    /// Expiry of a field that is stored, expired or not.
    fn stored_expiry(&mut self, txn: &mut Txn, name: &[u8]) -> Result<Option<u64>, Stop> {
        match &self.form {
            Form::Packed { body, .. } => Ok(hash::find(body, name)?.map(|field| field.expire_ms)),
            Form::Growing(fields) => Ok(fields.get(name).map(|(_, expire_ms)| *expire_ms)),
            Form::Large { done, .. } => {
                if self.many
                    && let Some(known) = done.get(name)
                {
                    return Ok(*known);
                }
                hash::put_key(&mut self.key, self.at.space, self.head.id, name);
                if txn.knows_element(&self.key) {
                    return Ok(Some(0));
                }
                let stored_ms: Result<Option<u64>, Stop> = txn.view_data(&self.key, |value| {
                    Ok(value.map(split_value).transpose()?.map(|(expire_ms, _)| expire_ms))
                })?;
                let stored_ms = stored_ms?;
                if stored_ms == Some(0) {
                    txn.found_element(&self.key);
                }
                Ok(stored_ms)
            }
        }
    }

    /// Sets a field; whether it is new.
    pub fn set(
        &mut self,
        txn: &mut Txn,
        name: &[u8],
        value: &[u8],
        expiry: FieldExpiry,
    ) -> Result<bool, Stop> {
        if name.len() > USER_KEY_BYTES_MAX {
            return Err(NAME_TOO_LONG.into());
        }
        txn.charge(0, value.len() as u64)?;
        self.changed = true;
        let expire_ms = |old: Option<u64>| match expiry {
            FieldExpiry::None => 0,
            FieldExpiry::Keep => old.unwrap_or(0),
            FieldExpiry::At(expire_ms) => expire_ms,
        };
        if let Form::Packed { body, count } = &mut self.form {
            let found = hash::find(body, name)?.map(|field| (field.place, field.expire_ms));
            let expire_ms = expire_ms(found.as_ref().map(|(_, old_ms)| *old_ms));
            note_expiry(&mut self.head, expire_ms);
            let new_count = *count + usize::from(found.is_none());
            let cut = found.as_ref().map_or(0, |(place, _)| place.len());
            let bytes = body.len() - cut + field_bytes(name, value, expire_ms);
            if txn.store().packed().allow(new_count, bytes) {
                *count = new_count;
                return Ok(match found {
                    Some((place, _)) => {
                        replace_field(body, place, name, value, expire_ms);
                        false
                    }
                    None => {
                        put_field(body, name, value, expire_ms);
                        true
                    }
                });
            }
            self.grow(txn)?;
        }
        match &mut self.form {
            Form::Packed { .. } => Err(damaged("keyspace meta", "hash").into()),
            Form::Growing(fields) => {
                let expire_ms = expire_ms(fields.get(name).map(|(_, old_ms)| *old_ms));
                note_expiry(&mut self.head, expire_ms);
                Ok(fields.insert(name.to_vec(), (value.to_vec(), expire_ms)).is_none())
            }
            Form::Large { .. } => {
                let stored_ms = self.stored_expiry(txn, name)?;
                let live_ms = stored_ms.filter(|expire_ms| !is_expired(*expire_ms, txn.now_ms()));
                let expire_ms = expire_ms(live_ms);
                self.move_expiry(txn, name, stored_ms.unwrap_or(0), expire_ms)?;
                self.put_large(txn, name, value, expire_ms)?;
                self.values_set = true;
                if let Form::Large { size, .. } = &mut self.form {
                    let old = *size;
                    size.count += u64::from(stored_ms.is_none());
                    size.note_bytes(name.len().max(value.len()));
                    self.record_changed |= *size != old;
                }
                Ok(live_ms.is_none())
            }
        }
    }

    /// Moves packed fields out of the record.
    fn grow(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        let Form::Packed { body, .. } = &mut self.form else { return Ok(()) };
        let mut grown = BTreeMap::new();
        let mut fields = Fields::new(body);
        while let Some(field) = fields.next_field()? {
            grown.insert(field.name.to_vec(), (field.value.to_vec(), field.expire_ms));
        }
        txn.recycle_buffer(std::mem::take(body));
        self.form = Form::Growing(grown);
        Ok(())
    }

    /// Stages a field of a hash under an id.
    fn put_large(&mut self, txn: &mut Txn, name: &[u8], value: &[u8], expire_ms: u64) -> Result<(), Stop> {
        hash::put_key(&mut self.key, self.at.space, self.head.id, name);
        txn.put_data_parts(&self.key, &[&expire_ms.to_be_bytes(), value])?;
        match expire_ms {
            0 => txn.learn_element(&self.key),
            _ => txn.forget_element(&self.key),
        }
        self.remember(txn, name, Some(expire_ms));
        Ok(())
    }

    fn remember(&mut self, txn: &Txn, name: &[u8], now: Option<u64>) {
        if let Form::Large { size, done, .. } = &mut self.form
            && (self.many || is_small(size, txn))
        {
            done.insert(name.to_vec(), now);
        }
    }

    /// Keeps the index by expiry of a hash under an id in step, and the head's bound.
    fn move_expiry(&mut self, txn: &mut Txn, name: &[u8], old_ms: u64, new_ms: u64) -> Result<(), Stop> {
        if old_ms == new_ms {
            return Ok(());
        }
        if old_ms != 0 {
            hash::put_ttl_key(&mut self.key, self.at.space, self.head.id, old_ms, name);
            txn.delete_data(&self.key)?;
        }
        if new_ms != 0 {
            hash::put_ttl_key(&mut self.key, self.at.space, self.head.id, new_ms, name);
            txn.put_data(&self.key, b"")?;
        }
        self.record_changed |= note_expiry(&mut self.head, new_ms);
        Ok(())
    }

    /// Removes a field; whether it was there.
    pub fn remove(&mut self, txn: &mut Txn, name: &[u8]) -> Result<bool, Stop> {
        let stored_ms = self.stored_expiry(txn, name)?;
        let Some(stored_ms) = stored_ms else { return Ok(false) };
        self.changed = true;
        match &mut self.form {
            Form::Packed { body, count } => {
                if let Some(field) = hash::find(body, name)? {
                    let place = field.place;
                    body.drain(place);
                    *count -= 1;
                }
                return Ok(true);
            }
            Form::Growing(fields) => {
                fields.remove(name);
                return Ok(true);
            }
            Form::Large { size, .. } => {
                size.count = size.count.saturating_sub(1);
                self.record_changed = true;
            }
        }
        self.move_expiry(txn, name, stored_ms, 0)?;
        hash::put_key(&mut self.key, self.at.space, self.head.id, name);
        txn.delete_data(&self.key)?;
        txn.forget_element(&self.key);
        self.removed = true;
        self.remember(txn, name, None);
        Ok(!is_expired(stored_ms, txn.now_ms()))
    }

    /// Gives a field that is there another expiry, 0 for none. One that has passed removes the field.
    pub fn set_expiry(&mut self, txn: &mut Txn, name: &[u8], expire_ms: u64) -> Result<(), Stop> {
        if is_expired(expire_ms, txn.now_ms()) {
            return self.remove(txn, name).map(drop);
        }
        let mut value = txn.take_buffer();
        let found = self.get(txn, name, |found| {
            found.map(|(bytes, old_ms)| {
                value.extend_from_slice(bytes);
                old_ms
            })
        })?;
        let Some(old_ms) = found.filter(|old_ms| *old_ms != expire_ms) else {
            txn.recycle_buffer(value);
            return Ok(());
        };
        self.changed = true;
        if matches!(self.form, Form::Large { .. }) {
            self.move_expiry(txn, name, old_ms, expire_ms)?;
            self.put_large(txn, name, &value, expire_ms)?;
        } else {
            let expiry = if expire_ms == 0 { FieldExpiry::None } else { FieldExpiry::At(expire_ms) };
            self.set(txn, name, &value, expiry)?;
        }
        txn.recycle_buffer(value);
        Ok(())
    }

    /// Stages what the record has to be. The key's own expiry stays; without fields it goes.
    pub fn finish(self, txn: &mut Txn) -> Result<(), Stop> {
        let Editor { at, before, head, form, pruned, changed, record_changed, removed, values_set, .. } =
            self;
        if changed && pruned {
            txn.event(EventClass::HASH, "hexpired", at);
        }
        match form {
            _ if !changed => {
                if let Form::Packed { body, .. } | Form::Large { body, .. } = form {
                    txn.recycle_buffer(body);
                }
                Ok(())
            }
            Form::Packed { body, count } => {
                if count == 0 {
                    txn.delete(at, &before)?;
                } else {
                    let field_expire_ms = if head.field_expire_ms == 0 { 0 } else { earliest_packed(&body)? };
                    txn.put(at, &before, Head { field_expire_ms, ..head }, &[&body])?;
                }
                txn.recycle_buffer(body);
                Ok(())
            }
            Form::Growing(fields) => {
                if fields.is_empty() {
                    return txn.delete(at, &before);
                }
                store_fields(txn, at, &before, head, &fields)
            }
            Form::Large { size, mut body, done } => {
                if size.count == 0 {
                    txn.delete(at, &before)?;
                } else if removed
                    && !values_set
                    && is_small(&size, txn)
                    && let Some(packed) = gather(txn, at, head.id, &size, &done)?
                {
                    match packed.is_empty() {
                        true => txn.delete(at, &before)?,
                        false => {
                            let field_expire_ms = earliest_packed(&packed)?;
                            txn.put(at, &before, Head { id: 0, field_expire_ms, ..head }, &[&packed])?;
                        }
                    }
                } else if record_changed {
                    size.encode(&mut body);
                    txn.put(at, &before, head, &[&body])?;
                } else {
                    txn.touch(at);
                }
                txn.recycle_buffer(body);
                Ok(())
            }
        }
    }
}

/// Whether a hash under an id belongs back into its record: well below the limits, so that it does not go to and fro.
fn is_small(size: &Large, txn: &Txn) -> bool {
    let limits = txn.store().packed();
    let bytes = size.count.saturating_mul(size.longest_bytes.saturating_mul(2).saturating_add(13));
    size.count <= limits.elements_max as u64 / 4 && bytes <= limits.bytes_max as u64 / 2
}

/// The packed body of a hash that lies under an id, with what the command did to it: fields that went, and expiries that changed.
/// `None` if that is not what the size says.
fn gather(
    txn: &mut Txn,
    at: At<'_>,
    id: u64,
    size: &Large,
    done: &HashMap<Vec<u8>, Option<u64>>,
) -> Result<Option<Vec<u8>>, Stop> {
    let now_ms = txn.now_ms();
    let (lower, upper) = data::element_bounds(at.space, id, FIELD);
    let keyspace = txn.store().keyspaces().data;
    let mut walk = Walk { iter: txn.iter(keyspace, Some(lower), Some(upper))? };
    walk.iter.seek_to_first()?;
    let (mut body, mut stored) = (Vec::new(), 0);
    while let Some((name, value, stored_ms)) = walk.field()? {
        txn.charge(1, value.len() as u64)?;
        if let Some(expire_ms) = done.get(name).copied().unwrap_or(Some(stored_ms)) {
            stored += 1;
            if !is_expired(expire_ms, now_ms) {
                put_field(&mut body, name, value, expire_ms);
            }
        }
        walk.iter.next()?;
    }
    Ok((stored == size.count).then_some(body))
}

/// Lowers the bound of a hash whose field gets an expiry; whether it moved.
fn note_expiry(head: &mut Head, expire_ms: u64) -> bool {
    let lower = expire_ms != 0 && (head.field_expire_ms == 0 || expire_ms < head.field_expire_ms);
    if lower {
        head.field_expire_ms = expire_ms;
    }
    lower
}

/// Stages a whole hash in place of whatever is there: name, value and expiry (0 for never) of each field. No
/// name comes twice. What has expired is left out, and without fields the key goes.
pub fn store<'v>(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    fields: impl Iterator<Item = (&'v [u8], &'v [u8], u64)>,
    expire_ms: u64,
) -> Result<(), Stop> {
    let now_ms = txn.now_ms();
    let mut kept: Vec<(&[u8], &[u8], u64)> = Vec::new();
    let mut bytes = 0;
    for (name, value, expire_ms) in fields {
        if name.len() > USER_KEY_BYTES_MAX {
            return Err(NAME_TOO_LONG.into());
        }
        if !is_expired(expire_ms, now_ms) {
            bytes += field_bytes(name, value, expire_ms);
            kept.push((name, value, expire_ms));
        }
    }
    if kept.is_empty() {
        return txn.delete(at, before);
    }
    let head = Head { expire_ms, ..Head::plain(Kind::Hash) };
    if txn.store().packed().allow(kept.len(), bytes) {
        let mut body = Vec::with_capacity(bytes);
        kept.iter().for_each(|(name, value, expire_ms)| put_field(&mut body, name, value, *expire_ms));
        let expiries = kept.iter().map(|(.., expire_ms)| *expire_ms).filter(|expire_ms| *expire_ms != 0);
        let field_expire_ms = expiries.min().unwrap_or(0);
        return txn.put(at, before, Head { field_expire_ms, ..head }, &[&body]);
    }
    let owned =
        |(name, value, expire_ms): &(&[u8], &[u8], u64)| (name.to_vec(), (value.to_vec(), *expire_ms));
    let fields: BTreeMap<Vec<u8>, (Vec<u8>, u64)> = kept.iter().map(owned).collect();
    store_fields(txn, at, before, head, &fields)
}

/// Stages a hash under a new id.
fn store_fields(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    head: Head,
    fields: &BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
) -> Result<(), Stop> {
    const RECORD_BYTES: usize = 48;
    let bytes =
        fields.iter().map(|(name, (value, _))| 2 * name.len() + value.len() + RECORD_BYTES).sum::<usize>();
    let mut builder = txn.builder(at.space, bytes as u64)?;
    let id = builder.id();
    let (mut key, mut record) = (Vec::new(), Vec::new());
    let mut size = Large { count: fields.len() as u64, ..Large::default() };
    for (name, (value, expire_ms)) in fields {
        hash::put_key(&mut key, at.space, id, name);
        record.clear();
        record.extend_from_slice(&expire_ms.to_be_bytes());
        record.extend_from_slice(value);
        builder.put(txn, &key, &record)?;
        size.note_bytes(name.len().max(value.len()));
    }
    let mut index: Vec<_> =
        fields.iter().filter(|(_, (_, ms))| *ms != 0).map(|(name, (_, ms))| (*ms, name)).collect();
    index.sort_unstable();
    for (expire_ms, name) in &index {
        hash::put_ttl_key(&mut key, at.space, id, *expire_ms, name);
        builder.put(txn, &key, b"")?;
    }
    builder.link(txn, at)?;
    let field_expire_ms = index.first().map_or(0, |(expire_ms, _)| *expire_ms);
    size.encode(&mut record);
    txn.put(at, before, Head { id, field_expire_ms, ..head }, &[&record])
}
