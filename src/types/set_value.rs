//! Members of a set: in the record itself or, if they are many, under an id.
//!
//! ```text
//! few      meta: head | packed members, sorted
//! many     meta: head with id | count ..          data: hash, member -> nothing
//! ```
//!
//! [`contains`] asks for one member where it lies, [`View`] reads several that agree, [`Editor`] changes some under the key's
//! lock, [`Maker`] writes a whole set, of any size, in place of what was there.
//!
//! An editor's changes to a set under an id are staged at once, and staged changes are not read back: it remembers what it did to
//! which member. A set that has become small again moves back into its record.

use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{self, MEMBER};
use crate::encoding::large::Large;
use crate::encoding::meta::{Head, Kind, Record};
use crate::encoding::set::{self, Members, insert_member, member_bytes, member_of, put_member};
use crate::store::limits::USER_KEY_BYTES_MAX;
use crate::store::txn::{At, Before, Builder, Txn};
use haypile_lsm::Iter;
use std::collections::{BTreeSet, HashMap};

/// A member is part of an engine key, as a user's key is.
const MEMBER_TOO_LONG: ReplyError = ReplyError::fixed("ERR member is too long (the limit is 1 MiB)");
/// Bytes that a member under an id is taken to cost besides its own.
const RECORD_BYTES: u64 = 40;

fn check_kind(head: &Head) -> Result<(), ReplyError> {
    if head.kind == Kind::Set { Ok(()) } else { Err(ReplyError::WRONG_TYPE) }
}

/// Whether a set has a member.
pub fn contains(txn: &mut Txn, at: At<'_>, member: &[u8]) -> Result<bool, Stop> {
    let look = |record: Option<Record<'_>>| {
        let Some(Record { head, body }) = record else { return Ok(Ok(false)) };
        check_kind(&head)?;
        if head.id != 0 {
            return Ok(Err(head.id));
        }
        Ok::<_, Stop>(Ok(set::find(body, member)?.is_ok()))
    };
    if let Ok(found) = txn.view(at, look)?? {
        return Ok(found);
    }
    // The id may be gone when its data is read, so that both have to be of one moment.
    txn.pin();
    match txn.view(at, look)?? {
        Ok(found) => Ok(found),
        Err(id) => {
            let mut key = txn.take_buffer();
            set::put_key(&mut key, at.space, id, member);
            let found = txn.view_data(&key, |value| value.is_some())?;
            txn.recycle_buffer(key);
            Ok(found)
        }
    }
}

/// How many members a set has.
pub fn length(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    txn.view(at, |record| {
        let Some(Record { head, body }) = record else { return Ok(0) };
        check_kind(&head)?;
        size_of(&head, body).map(|size| size.count)
    })?
}

/// The size of a set, packed or not.
pub fn size_of(head: &Head, body: &[u8]) -> Result<Large, Stop> {
    if head.id != 0 {
        return Ok(Large::decode(body)?);
    }
    let (mut members, mut size) = (Members::new(body), Large { mixed: head.raw, ..Large::default() });
    while let Some((member, _)) = members.next_member()? {
        note_member(&mut size, member);
    }
    Ok(size)
}

/// Counts a member.
fn note_member(size: &mut Large, member: &[u8]) {
    size.count += 1;
    size.note_bytes(member.len());
    size.mixed |= parse_i64(member).is_none();
}

/// A set as of one moment, or one that was read under its lock.
#[derive(Debug)]
pub struct View<'k> {
    at: At<'k>,
    head: Head,
    /// The record's body: packed members, or the size.
    body: Vec<u8>,
}

impl<'k> View<'k> {
    /// `None` if there is no such key. Reads from here on are of one moment if the set lies under an id.
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

    /// The packed members. `None` if they lie under an id.
    pub fn packed(&self) -> Option<&[u8]> {
        (self.head.id == 0).then_some(&self.body[..])
    }

    /// Takes the record's body out.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Under which id the members lie.
    pub fn id(&self) -> u64 {
        self.head.id
    }

    /// Where it is.
    pub fn at(&self) -> At<'k> {
        self.at
    }

    /// Its size.
    pub fn size(&self) -> Result<Large, Stop> {
        size_of(&self.head, &self.body)
    }

    /// Whether it has a member.
    pub fn contains(&self, txn: &mut Txn, member: &[u8]) -> Result<bool, Stop> {
        if let Some(body) = self.packed() {
            return Ok(set::find(body, member)?.is_ok());
        }
        let mut key = txn.take_buffer();
        set::put_key(&mut key, self.at.space, self.head.id, member);
        let found = txn.view_data(&key, |value| value.is_some())?;
        txn.recycle_buffer(key);
        Ok(found)
    }

    /// A walk over the members of a set under an id, in the order of their hashes, standing nowhere.
    pub fn walk(&self, txn: &mut Txn) -> Result<Iter, Stop> {
        let (lower, upper) = data::element_bounds(self.at.space, self.head.id, MEMBER);
        let keyspace = txn.store().keyspaces().data;
        txn.iter(keyspace, Some(lower), Some(upper))
    }

    /// Hands every member to `f`.
    pub fn for_each(&self, txn: &mut Txn, mut f: impl FnMut(&[u8])) -> Result<(), Stop> {
        if let Some(body) = self.packed() {
            let mut members = Members::new(body);
            while let Some((member, _)) = members.next_member()? {
                f(member);
            }
            return Ok(());
        }
        // All of it or nothing: no use in doing half of it and then finding that it is too much for here.
        txn.charge(self.size()?.count.min(u64::from(u32::MAX)) as u32, 0)?;
        let mut iter = self.walk(txn)?;
        iter.seek_to_first()?;
        while iter.valid() {
            let member = member_of(iter.key())?;
            txn.charge(0, member.len() as u64)?;
            f(member);
            iter.next()?;
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Form {
    Packed {
        body: Vec<u8>,
        count: usize,
    },
    /// Too large for the record: every member, for an id of its own.
    Growing(BTreeSet<Vec<u8>>),
    Large {
        size: Large,
        /// Buffer of the record's body.
        body: Vec<u8>,
        /// What this command did to which member: whether it is there now.
        done: HashMap<Vec<u8>, bool>,
    },
}

/// Changes some members of a set and leaves the rest where they are.
#[derive(Debug)]
pub struct Editor<'k> {
    at: At<'k>,
    before: Before,
    /// Head of the set, or of the one that comes to be.
    head: Head,
    existed: bool,
    form: Form,
    changed: bool,
    removed: bool,
    /// A member may be given twice.
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
        let head = found.unwrap_or(Head::plain(Kind::Set));
        let body = slot.take_body();
        let form = if head.id != 0 {
            Form::Large { size: Large::decode(&body)?, body, done: HashMap::new() }
        } else {
            let count = Members::new(&body).count()?;
            Form::Packed { body, count }
        };
        Ok(Editor {
            at,
            before: slot.before,
            head,
            existed: found.is_some(),
            form,
            changed: false,
            removed: false,
            many,
            key: Vec::new(),
        })
    }

    /// Under which id the members lie; 0 if they are in the record.
    pub fn id(&self) -> u64 {
        match &self.form {
            Form::Large { .. } => self.head.id,
            _ => 0,
        }
    }

    /// Whether there was a set.
    pub fn existed(&self) -> bool {
        self.existed
    }

    /// How many members it has now.
    pub fn length(&self) -> u64 {
        match &self.form {
            Form::Packed { count, .. } => *count as u64,
            Form::Growing(members) => members.len() as u64,
            Form::Large { size, .. } => size.count,
        }
    }

    /// The set as it was read. Not to be asked for once it has been changed.
    pub fn view(&self) -> View<'k> {
        let body = match &self.form {
            Form::Packed { body, .. } | Form::Large { body, .. } => body.clone(),
            Form::Growing(_) => Vec::new(),
        };
        View { at: self.at, head: self.head, body }
    }

    /// Whether it has a member now.
    pub fn contains(&mut self, txn: &mut Txn, member: &[u8]) -> Result<bool, Stop> {
        match &self.form {
            Form::Packed { body, .. } => Ok(set::find(body, member)?.is_ok()),
            Form::Growing(members) => Ok(members.contains(member)),
            Form::Large { done, .. } => {
                if let Some(known) = done.get(member) {
                    return Ok(*known);
                }
                set::put_key(&mut self.key, self.at.space, self.head.id, member);
                if txn.knows_element(&self.key) {
                    return Ok(true);
                }
                let found = txn.view_data(&self.key, |value| value.is_some())?;
                if found {
                    txn.found_element(&self.key);
                }
                Ok(found)
            }
        }
    }

    /// Adds a member; whether it is new.
    pub fn add(&mut self, txn: &mut Txn, member: &[u8]) -> Result<bool, Stop> {
        if member.len() > USER_KEY_BYTES_MAX {
            return Err(MEMBER_TOO_LONG.into());
        }
        if let Form::Packed { body, count } = &mut self.form {
            let Err(place) = set::find(body, member)? else { return Ok(false) };
            self.changed = true;
            if txn.store().packed().allow(*count + 1, body.len() + member_bytes(member)) {
                insert_member(body, place, member);
                *count += 1;
                self.head.raw |= parse_i64(member).is_none();
                return Ok(true);
            }
            self.grow(txn)?;
        }
        if let Form::Growing(members) = &mut self.form {
            txn.charge(0, member.len() as u64)?;
            return Ok(members.insert(member.to_vec()));
        }
        if self.contains(txn, member)? {
            return Ok(false);
        }
        self.changed = true;
        set::put_key(&mut self.key, self.at.space, self.head.id, member);
        txn.put_data(&self.key, b"")?;
        txn.learn_element(&self.key);
        if let Form::Large { size, .. } = &mut self.form {
            note_member(size, member);
        }
        self.remember(txn, member, true);
        Ok(true)
    }

    /// Moves packed members out of the record.
    fn grow(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        let Form::Packed { body, .. } = &mut self.form else { return Ok(()) };
        let mut grown = BTreeSet::new();
        let mut members = Members::new(body);
        while let Some((member, _)) = members.next_member()? {
            grown.insert(member.to_vec());
        }
        txn.recycle_buffer(std::mem::take(body));
        self.form = Form::Growing(grown);
        Ok(())
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, txn: &mut Txn, member: &[u8]) -> Result<bool, Stop> {
        match &mut self.form {
            Form::Packed { body, count } => {
                let Ok(place) = set::find(body, member)? else { return Ok(false) };
                body.drain(place);
                *count -= 1;
                self.changed = true;
                return Ok(true);
            }
            Form::Growing(members) => return Ok(members.remove(member)),
            Form::Large { .. } => {}
        }
        if !self.contains(txn, member)? {
            return Ok(false);
        }
        self.remove_known(txn, member)?;
        Ok(true)
    }

    /// Removes a member that is known to be there; false if it is not, as far as that is seen.
    pub fn remove_present(&mut self, txn: &mut Txn, member: &[u8]) -> Result<bool, Stop> {
        match &self.form {
            Form::Large { .. } => self.remove_known(txn, member).map(|()| true),
            _ => self.remove(txn, member),
        }
    }

    fn remove_known(&mut self, txn: &mut Txn, member: &[u8]) -> Result<(), Stop> {
        self.changed = true;
        self.removed = true;
        txn.store().read_ahead().forget_member(self.head.id, member);
        set::put_key(&mut self.key, self.at.space, self.head.id, member);
        txn.delete_data(&self.key)?;
        txn.forget_element(&self.key);
        if let Form::Large { size, .. } = &mut self.form {
            size.count = size.count.saturating_sub(1);
        }
        self.remember(txn, member, false);
        Ok(())
    }

    /// Removes all members.
    pub fn clear(&mut self, txn: &mut Txn) {
        self.changed = true;
        if let Form::Packed { body, .. } | Form::Large { body, .. } = &mut self.form {
            txn.recycle_buffer(std::mem::take(body));
        }
        self.form = Form::Packed { body: Vec::new(), count: 0 };
    }

    fn remember(&mut self, txn: &Txn, member: &[u8], there: bool) {
        if let Form::Large { size, done, .. } = &mut self.form
            && (self.many || is_small(size, txn))
        {
            done.insert(member.to_vec(), there);
        }
    }

    /// Stages what the record has to be. The key's expiry stays; without members it goes.
    pub fn finish(self, txn: &mut Txn) -> Result<(), Stop> {
        let Editor { at, before, head, form, changed, removed, .. } = self;
        match form {
            _ if !changed => {
                if let Form::Packed { body, .. } | Form::Large { body, .. } = form {
                    txn.recycle_buffer(body);
                }
                Ok(())
            }
            Form::Packed { body, count } => {
                match count {
                    0 => txn.delete(at, &before)?,
                    _ => txn.put(at, &before, head, &[&body])?,
                }
                txn.recycle_buffer(body);
                Ok(())
            }
            Form::Growing(members) => {
                let bytes = members.iter().map(|member| member.len() as u64 + RECORD_BYTES).sum();
                let mut maker = Maker::new(bytes);
                members.iter().try_for_each(|member| maker.push(txn, at, member))?;
                maker.finish(txn, at, &before, head).map(drop)
            }
            Form::Large { size, mut body, done } => {
                if size.count == 0 {
                    txn.delete(at, &before)?;
                } else if removed
                    && is_small(&size, txn)
                    && let Some(packed) = gather(txn, at, head.id, &size, &done)?
                {
                    txn.put(at, &before, Head { id: 0, raw: size.mixed, ..head }, &[&packed])?;
                } else {
                    size.encode(&mut body);
                    txn.put(at, &before, head, &[&body])?;
                }
                txn.recycle_buffer(body);
                Ok(())
            }
        }
    }
}

/// Whether a set under an id belongs back into its record: well below the limits, so that it does not go to and fro.
fn is_small(size: &Large, txn: &Txn) -> bool {
    let limits = txn.store().packed();
    let bytes = size.count.saturating_mul(size.longest_bytes + 2);
    size.count <= limits.elements_max as u64 / 4 && bytes <= limits.bytes_max as u64 / 2
}

/// The packed body of a set that lies under an id, with what the command did to it. `None` if that is not what the size says.
fn gather(
    txn: &mut Txn,
    at: At<'_>,
    id: u64,
    size: &Large,
    done: &HashMap<Vec<u8>, bool>,
) -> Result<Option<Vec<u8>>, Stop> {
    let mut members: BTreeSet<Vec<u8>> =
        done.iter().filter(|(_, there)| **there).map(|(member, _)| member.clone()).collect();
    let (lower, upper) = data::element_bounds(at.space, id, MEMBER);
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    while iter.valid() {
        txn.charge(1, 0)?;
        let member = member_of(iter.key())?;
        if done.get(member) != Some(&false) {
            members.insert(member.to_vec());
        }
        iter.next()?;
    }
    if members.len() as u64 != size.count {
        return Ok(None);
    }
    let mut body = Vec::new();
    members.iter().for_each(|member| put_member(&mut body, member));
    Ok(Some(body))
}

/// Writes a whole set, of which only a bound of the size is known before.
#[derive(Debug)]
pub struct Maker {
    bytes_max: u64,
    size: Large,
    /// Members while they are few.
    few: BTreeSet<Vec<u8>>,
    few_bytes: usize,
    builder: Option<Builder>,
    key: Vec<u8>,
}

impl Maker {
    /// Of about this many bytes at most, everything counted.
    pub fn new(bytes_max: u64) -> Maker {
        Maker {
            bytes_max,
            size: Large::default(),
            few: BTreeSet::new(),
            few_bytes: 0,
            builder: None,
            key: Vec::new(),
        }
    }

    /// Adds a member that was not added before.
    pub fn push(&mut self, txn: &mut Txn, at: At<'_>, member: &[u8]) -> Result<(), Stop> {
        if self.builder.is_none() {
            let bytes = self.few_bytes + member_bytes(member);
            if txn.store().packed().allow(self.few.len() + 1, bytes) {
                self.few.insert(member.to_vec());
                self.few_bytes = bytes;
                return Ok(());
            }
            self.builder = Some(txn.builder(at.space, self.bytes_max)?);
            for member in std::mem::take(&mut self.few) {
                self.put(txn, &member)?;
            }
        }
        self.put(txn, member)
    }

    fn put(&mut self, txn: &mut Txn, member: &[u8]) -> Result<(), Stop> {
        let Some(builder) = &mut self.builder else { return Ok(()) };
        note_member(&mut self.size, member);
        set::put_key(&mut self.key, builder.space(), builder.id(), member);
        builder.put(txn, &self.key, b"")
    }

    /// Stages the set in place of what is there, nothing if it is empty; how many members it has.
    pub fn finish(self, txn: &mut Txn, at: At<'_>, before: &Before, head: Head) -> Result<u64, Stop> {
        let Some(builder) = self.builder else {
            if self.few.is_empty() {
                txn.delete(at, before)?;
                return Ok(0);
            }
            let mut body = Vec::with_capacity(self.few_bytes);
            self.few.iter().for_each(|member| put_member(&mut body, member));
            let raw = self.few.iter().any(|member| parse_i64(member).is_none());
            txn.put(at, before, Head { id: 0, raw, ..head }, &[&body])?;
            return Ok(self.few.len() as u64);
        };
        let id = builder.id();
        builder.link(txn, at)?;
        let mut body = Vec::new();
        let mut size = self.size;
        size.mixed |= head.raw;
        size.encode(&mut body);
        txn.put(at, before, Head { id, raw: false, ..head }, &[&body])?;
        Ok(size.count)
    }
}
