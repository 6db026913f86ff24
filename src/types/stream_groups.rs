//! What the stream commands do to consumer groups. Layouts: `encoding/stream.rs`.
//!
//! [`GroupEditor`] holds one group while a command changes it: its record and the consumers in use are kept here and
//! staged once, at the end; what is pending is staged at once and remembered, because reads do not see what is staged and
//! a command may name an id twice.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::damaged;
use crate::encoding::rdb_stream::{RdbConsumer, RdbGroup, RdbPending};
use crate::encoding::stream::{
    CONSUMER_NAME_AT, Consumer, Fields, GROUP_NAME_AT, Group, GroupKeys, Pending, StreamId, id_of_key,
};
use crate::store::txn::{At, Txn};
use crate::types::stream::{Editor, Order, Stream, view};
use haypile_lsm::base::coding::{Cursor, put_varint};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// More than so many records of a consumer go by a range delete.
const SINGLE_DELETES_MAX: u64 = 16;

/// XGROUP CREATE of a group that is there.
pub const GROUP_EXISTS: ReplyError = ReplyError::fixed("BUSYGROUP Consumer Group name already exists");

fn damaged_group() -> Stop {
    damaged("keyspace data", "consumer group of a stream").into()
}

/// Reads a group's record.
pub fn group(txn: &mut Txn, stream: &Stream, name: &[u8]) -> Result<Option<Group>, Stop> {
    if stream.meta.groups == 0 {
        return Ok(None);
    }
    let mut key = Vec::new();
    stream.group_keys().group(&mut key, name);
    let group = txn.view_data(&key, |value| value.map(Group::decode))?;
    group.map(|group| group.ok_or_else(damaged_group)).transpose()
}

/// Hands every group of a stream to `f`, by name.
pub fn for_each_group(
    txn: &mut Txn,
    stream: &Stream,
    mut f: impl FnMut(&mut Txn, &[u8], Group) -> Result<(), Stop>,
) -> Result<(), Stop> {
    if stream.meta.groups == 0 {
        return Ok(());
    }
    let (lower, upper) = stream.group_keys().group_bounds();
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    while iter.valid() {
        txn.charge(1, iter.value().len() as u64)?;
        let name = iter.key().get(GROUP_NAME_AT..).ok_or_else(damaged_group)?;
        let group = Group::decode(iter.value()).ok_or_else(damaged_group)?;
        f(txn, name, group)?;
        iter.next()?;
    }
    Ok(())
}

/// The number of a consumer.
pub fn consumer_number(
    txn: &mut Txn,
    keys: GroupKeys,
    group: &Group,
    name: &[u8],
) -> Result<Option<u32>, Stop> {
    if group.consumers == 0 {
        return Ok(None);
    }
    let mut key = Vec::new();
    keys.consumer_name(&mut key, group.number, name);
    let number = txn.view_data(&key, |value| value.map(|value| Cursor::new(value).varint_u32()))?;
    number.map(|number| number.ok_or_else(damaged_group)).transpose()
}

/// A consumer's record.
pub fn consumer(txn: &mut Txn, keys: GroupKeys, group: &Group, number: u32) -> Result<Consumer, Stop> {
    let mut key = Vec::new();
    keys.consumer(&mut key, group.number, number);
    txn.view_data(&key, |value| value.and_then(Consumer::decode))?.ok_or_else(damaged_group)
}

/// Hands every consumer of a group, with its number, to `f`, by name.
pub fn for_each_consumer(
    txn: &mut Txn,
    keys: GroupKeys,
    group: &Group,
    mut f: impl FnMut(&mut Txn, u32, Consumer) -> Result<(), Stop>,
) -> Result<(), Stop> {
    if group.consumers == 0 {
        return Ok(());
    }
    let (lower, upper) = keys.consumer_name_bounds(group.number);
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    while iter.valid() {
        txn.charge(1, 0)?;
        debug_assert!(iter.key().len() >= CONSUMER_NAME_AT);
        let number = Cursor::new(iter.value()).varint_u32().ok_or_else(damaged_group)?;
        let found = consumer(txn, keys, group, number)?;
        f(txn, number, found)?;
        iter.next()?;
    }
    Ok(())
}

/// Hands what is pending from one id up to another, which is included, to `f`, of one consumer or of all, until it says
/// no.
pub fn for_each_pending(
    txn: &mut Txn,
    keys: GroupKeys,
    group: &Group,
    of: Option<u32>,
    (from, to): (StreamId, StreamId),
    mut f: impl FnMut(&mut Txn, StreamId, Pending) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    if group.pending == 0 || from > to {
        return Ok(());
    }
    let (lower, upper) = match of {
        Some(consumer) => keys.owned_bounds(group.number, consumer, from, to),
        None => keys.pending_bounds(group.number, from, to),
    };
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    while iter.valid() {
        txn.charge(1, 0)?;
        let id = id_of_key(iter.key()).ok_or_else(damaged_group)?;
        let pending = match of {
            Some(_) => pending(txn, keys, group, id)?,
            None => Pending::decode(iter.value()),
        };
        if !f(txn, id, pending.ok_or_else(damaged_group)?)? {
            break;
        }
        iter.next()?;
    }
    Ok(())
}

fn pending(txn: &mut Txn, keys: GroupKeys, group: &Group, id: StreamId) -> Result<Option<Pending>, Stop> {
    let mut key = Vec::new();
    keys.pending(&mut key, group.number, id);
    let pending = txn.view_data(&key, |value| value.map(Pending::decode))?;
    pending.map(|pending| pending.ok_or_else(damaged_group)).transpose()
}

/// The first and the last id that is pending.
pub fn pending_ends(
    txn: &mut Txn,
    keys: GroupKeys,
    group: &Group,
) -> Result<Option<(StreamId, StreamId)>, Stop> {
    if group.pending == 0 {
        return Ok(None);
    }
    let (lower, upper) = keys.pending_bounds(group.number, StreamId::MIN, StreamId::MAX);
    let keyspace = txn.store().keyspaces().data;
    let mut iter = txn.iter(keyspace, Some(lower), Some(upper))?;
    iter.seek_to_first()?;
    let first = iter.valid().then(|| id_of_key(iter.key())).flatten().ok_or_else(damaged_group)?;
    iter.seek_to_last()?;
    let last = iter.valid().then(|| id_of_key(iter.key())).flatten().ok_or_else(damaged_group)?;
    Ok(Some((first, last)))
}

/// How many entries a group has not read yet, if that can be told.
pub fn lag(stream: &Stream, group: &Group) -> Option<i64> {
    let meta = &stream.meta;
    let behind = |read: u64| (meta.entries_added as i64).wrapping_sub(read as i64);
    // As in Redis 8.2: of a stream without entries nothing is left to read.
    if meta.entries_added == 0 || meta.length == 0 {
        return Some(0);
    }
    if group.last_id < meta.first_id && meta.max_deleted_id < meta.first_id {
        return Some(meta.length as i64);
    }
    match group.entries_read {
        Some(read) if !stream.has_holes_from(group.last_id) => Some(behind(read)),
        _ => stream.entries_added_up_to(group.last_id).map(behind),
    }
}

/// A group being changed.
#[derive(Debug)]
pub struct GroupEditor {
    keys: GroupKeys,
    name: Vec<u8>,
    /// As it is so far.
    pub group: Group,
    changed: bool,
    /// Consumers in use, by number, and whether they changed.
    consumers: HashMap<u32, (Consumer, bool)>,
    /// What this command staged of what is pending.
    staged: BTreeMap<StreamId, Option<Pending>>,
}

impl GroupEditor {
    /// Opens a group under the lock of its stream's key. `None` if there is no such group.
    pub fn open(txn: &mut Txn, stream: &Stream, name: &[u8]) -> Result<Option<GroupEditor>, Stop> {
        let group = group(txn, stream, name)?;
        Ok(group.map(|group| GroupEditor {
            keys: stream.group_keys(),
            name: name.to_vec(),
            group,
            changed: false,
            consumers: HashMap::new(),
            staged: BTreeMap::new(),
        }))
    }

    /// XCLAIM LASTID: what lies up to this id counts as delivered.
    pub fn raise_last_id(&mut self, id: StreamId) {
        if id > self.group.last_id {
            self.group.last_id = id;
            self.changed = true;
        }
    }

    /// The number of a consumer that is there.
    pub fn find(&mut self, txn: &mut Txn, name: &[u8]) -> Result<Option<u32>, Stop> {
        let known = self.consumers.iter().find(|(_, (consumer, _))| consumer.name == name);
        match known {
            Some((number, _)) => Ok(Some(*number)),
            None => consumer_number(txn, self.keys, &self.group, name),
        }
    }

    /// The number of a consumer, which is made if it is not there, and whether it was made.
    pub fn find_or_create(&mut self, txn: &mut Txn, name: &[u8]) -> Result<(u32, bool), Stop> {
        if let Some(number) = self.find(txn, name)? {
            return Ok((number, false));
        }
        let number = self.group.consumers_numbered.checked_add(1);
        let number = number.ok_or(ReplyError::fixed("ERR too many consumers were made in this group"))?;
        self.group.consumers_numbered = number;
        self.group.consumers += 1;
        self.changed = true;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.keys.consumer_name(&mut key, self.group.number, name);
        put_varint(&mut value, number.into());
        txn.put_data(&key, &value)?;
        let consumer = Consumer { name: name.to_vec(), seen_ms: txn.now_ms(), ..Consumer::default() };
        self.consumers.insert(number, (consumer, true));
        Ok((number, true))
    }

    /// A consumer, to be changed.
    pub fn consumer(&mut self, txn: &mut Txn, number: u32) -> Result<&mut Consumer, Stop> {
        if !self.consumers.contains_key(&number) {
            let found = consumer(txn, self.keys, &self.group, number)?;
            self.consumers.insert(number, (found, true));
        }
        let (consumer, changed) = self.consumers.entry(number).or_default();
        *changed = true;
        Ok(consumer)
    }

    /// What is pending under an id.
    pub fn pending(&self, txn: &mut Txn, id: StreamId) -> Result<Option<Pending>, Stop> {
        if let Some(staged) = self.staged.get(&id) {
            return Ok(*staged);
        }
        if id > self.group.max_pending_id {
            return Ok(None);
        }
        pending(txn, self.keys, &self.group, id)
    }

    /// Makes an id pending, or changes what is pending under it.
    pub fn set_pending(
        &mut self,
        txn: &mut Txn,
        id: StreamId,
        old: Option<Pending>,
        new: Pending,
    ) -> Result<(), Stop> {
        let mut key = Vec::new();
        self.keys.pending(&mut key, self.group.number, id);
        txn.put_data(&key, &new.encode())?;
        if old.map(|old| old.consumer) != Some(new.consumer) {
            self.disown(txn, id, old)?;
            self.keys.owned(&mut key, self.group.number, new.consumer, id);
            txn.put_data(&key, b"")?;
            self.consumer(txn, new.consumer)?.pending += 1;
        }
        if old.is_none() {
            self.group.pending += 1;
            self.group.max_pending_id = self.group.max_pending_id.max(id);
            self.changed = true;
        }
        self.staged.insert(id, Some(new));
        Ok(())
    }

    /// Takes an id off what is pending.
    pub fn remove_pending(&mut self, txn: &mut Txn, id: StreamId, old: Pending) -> Result<(), Stop> {
        let mut key = Vec::new();
        self.keys.pending(&mut key, self.group.number, id);
        txn.delete_data(&key)?;
        self.disown(txn, id, Some(old))?;
        self.group.pending = self.group.pending.saturating_sub(1);
        self.changed = true;
        self.staged.insert(id, None);
        Ok(())
    }

    fn disown(&mut self, txn: &mut Txn, id: StreamId, old: Option<Pending>) -> Result<(), Stop> {
        let Some(old) = old else { return Ok(()) };
        let mut key = Vec::new();
        self.keys.owned(&mut key, self.group.number, old.consumer, id);
        txn.delete_data(&key)?;
        let consumer = self.consumer(txn, old.consumer)?;
        consumer.pending = consumer.pending.saturating_sub(1);
        Ok(())
    }

    /// Books that an entry was delivered as new.
    fn advance(&mut self, stream: &Stream, id: StreamId) {
        if id <= self.group.last_id {
            return;
        }
        let last = self.group.last_id;
        self.group.entries_read = match self.group.entries_read {
            Some(read) if last >= stream.meta.first_id && !stream.has_holes_from(last) => {
                Some(read.saturating_add(1))
            }
            _ => stream.entries_added_up_to(id),
        };
        self.group.last_id = id;
        self.changed = true;
    }

    /// XGROUP DELCONSUMER: deletes a consumer and what it has pending; how much that was.
    pub fn delete_consumer(&mut self, txn: &mut Txn, number: u32) -> Result<u64, Stop> {
        let name = self.consumer(txn, number)?.name.clone();
        let group = self.group.number;
        let (lower, upper) = self.keys.owned_bounds(group, number, StreamId::MIN, StreamId::MAX);
        let keyspace = txn.store().keyspaces().data;
        let mut iter = txn.iter(keyspace, Some(lower.clone()), Some(upper.clone()))?;
        iter.seek_to_first()?;
        let (mut key, mut owned, mut count) = (Vec::new(), Vec::new(), 0);
        while iter.valid() {
            txn.charge(1, 0)?;
            let id = id_of_key(iter.key()).ok_or_else(damaged_group)?;
            self.keys.pending(&mut key, group, id);
            txn.delete_data(&key)?;
            count += 1;
            if count <= SINGLE_DELETES_MAX {
                owned.push(iter.key().to_vec());
            }
            iter.next()?;
        }
        match count <= SINGLE_DELETES_MAX {
            true => owned.iter().try_for_each(|key| txn.delete_data(key))?,
            false => txn.delete_data_range(&lower, &upper)?,
        }
        self.keys.consumer(&mut key, group, number);
        txn.delete_data(&key)?;
        self.keys.consumer_name(&mut key, group, &name);
        txn.delete_data(&key)?;
        self.consumers.remove(&number);
        self.group.consumers = self.group.consumers.saturating_sub(1);
        self.group.pending = self.group.pending.saturating_sub(count);
        self.changed = true;
        Ok(count)
    }

    /// Stages the group and its consumers as far as they changed.
    pub fn finish(self, txn: &mut Txn) -> Result<(), Stop> {
        let mut key = Vec::new();
        for (number, (consumer, changed)) in &self.consumers {
            if *changed {
                self.keys.consumer(&mut key, self.group.number, *number);
                txn.put_data(&key, &consumer.encode())?;
            }
        }
        if self.changed {
            self.keys.group(&mut key, &self.name);
            txn.put_data(&key, &self.group.encode())?;
        }
        Ok(())
    }
}

/// Where a group begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Behind the last entry there is.
    Last,
    /// Behind this id.
    Id(StreamId),
}

impl StartAt {
    fn resolve(self, stream: &Stream) -> StreamId {
        match self {
            StartAt::Last => stream.meta.last_id,
            StartAt::Id(id) => id,
        }
    }
}

/// Stages a new group of a stream that is being changed; whether there was none of that name.
pub fn put_new_group(
    txn: &mut Txn,
    editor: &mut Editor,
    name: &[u8],
    last_id: StreamId,
    entries_read: Option<u64>,
) -> Result<Option<Group>, Stop> {
    if !editor.is_new() && group(txn, &editor.stream, name)?.is_some() {
        return Ok(None);
    }
    let meta = &mut editor.stream.meta;
    let number = meta.groups_numbered.checked_add(1);
    let number = number.ok_or(ReplyError::fixed("ERR too many groups were made in this stream"))?;
    meta.groups_numbered = number;
    meta.groups += 1;
    let group = Group { number, last_id, entries_read, ..Group::default() };
    let mut key = Vec::new();
    editor.stream.group_keys().group(&mut key, name);
    editor.put(txn, &key, &group.encode())?;
    Ok(Some(group))
}

/// Stages a group of a dump in a stream that is being made, behind its entries.
pub fn restore(txn: &mut Txn, editor: &mut Editor, dumped: &RdbGroup) -> Result<(), Stop> {
    let last_id = dumped.last_id;
    let entries_read = dumped.entries_read.unwrap_or_else(|| editor.stream.entries_added_up_to(last_id));
    let group = put_new_group(txn, editor, &dumped.name, last_id, entries_read)?.ok_or(GROUP_EXISTS)?;
    let keys = editor.stream.group_keys();
    let (mut key, mut number_bytes) = (Vec::new(), Vec::new());
    let mut pending_of = vec![0u64; dumped.consumers.len()];
    let number_of = |index: usize| u32::try_from(index + 1).unwrap_or(u32::MAX);
    for (id, pending) in &dumped.pending {
        let Some(count) = pending_of.get_mut(pending.consumer) else { return Err(damaged_group()) };
        *count += 1;
        let consumer = number_of(pending.consumer);
        let RdbPending { delivered_ms, deliveries, .. } = *pending;
        keys.pending(&mut key, group.number, *id);
        editor.put(txn, &key, &Pending { consumer, delivered_ms, deliveries }.encode())?;
        keys.owned(&mut key, group.number, consumer, *id);
        editor.put(txn, &key, b"")?;
    }
    for (index, (dumped, pending)) in dumped.consumers.iter().zip(&pending_of).enumerate() {
        let RdbConsumer { name, seen_ms, active_ms } = dumped.clone();
        number_bytes.clear();
        put_varint(&mut number_bytes, number_of(index).into());
        keys.consumer_name(&mut key, group.number, &name);
        editor.put(txn, &key, &number_bytes)?;
        keys.consumer(&mut key, group.number, number_of(index));
        editor.put(txn, &key, &Consumer { name, pending: *pending, seen_ms, active_ms }.encode())?;
    }
    let group = Group {
        pending: dumped.pending.len() as u64,
        consumers: dumped.consumers.len() as u64,
        consumers_numbered: number_of(dumped.consumers.len()) - 1,
        max_pending_id: dumped.pending.last_key_value().map_or(StreamId::MIN, |(id, _)| *id),
        ..group
    };
    keys.group(&mut key, &dumped.name);
    editor.put(txn, &key, &group.encode())
}

/// XGROUP CREATE: with `may_create` the stream is made if it is not there; else that is for the caller to check.
pub fn create(
    txn: &mut Txn,
    at: At<'_>,
    name: &[u8],
    start: StartAt,
    entries_read: Option<u64>,
    may_create: bool,
) -> Result<(), Stop> {
    let mut editor = match may_create {
        true => Editor::open_or_create(txn, at)?,
        false => Editor::open(txn, at)?.ok_or(ReplyError::NO_SUCH_KEY)?,
    };
    let last_id = start.resolve(&editor.stream);
    let entries_read = entries_read.map(|read| read.min(editor.stream.meta.entries_added));
    put_new_group(txn, &mut editor, name, last_id, entries_read)?.ok_or(GROUP_EXISTS)?;
    editor.finish(txn, at)
}

/// XGROUP DESTROY: whether there was such a group.
pub fn destroy(txn: &mut Txn, at: At<'_>, name: &[u8]) -> Result<bool, Stop> {
    let Some(mut editor) = Editor::open(txn, at)? else { return Ok(false) };
    let Some(group) = group(txn, &editor.stream, name)? else { return Ok(false) };
    let keys = editor.stream.group_keys();
    let mut key = Vec::new();
    keys.group(&mut key, name);
    txn.delete_data(&key)?;
    if group.consumers_numbered > 0 {
        let (start, end) = keys.all_of(group.number);
        txn.delete_data_range(&start, &end)?;
    }
    editor.stream.meta.groups = editor.stream.meta.groups.saturating_sub(1);
    editor.finish(txn, at)?;
    txn.readied(at, None);
    Ok(true)
}

/// A stream and one of its groups under the key's lock. The stream's own record does not change.
#[derive(Debug)]
pub struct Session {
    /// The stream.
    pub stream: Stream,
    /// The group.
    pub group: GroupEditor,
}

impl Session {
    /// Opens both, for a command that reads. `None` if there is no such key or group.
    pub fn open(txn: &mut Txn, at: At<'_>, name: &[u8]) -> Result<Option<Session>, Stop> {
        let editor = Editor::open(txn, at)?;
        txn.note_read(at, editor.is_some());
        Session::of(txn, editor, name)
    }

    /// The same for one that only changes the group.
    pub fn open_to_change(txn: &mut Txn, at: At<'_>, name: &[u8]) -> Result<Option<Session>, Stop> {
        let editor = Editor::open(txn, at)?;
        Session::of(txn, editor, name)
    }

    fn of(txn: &mut Txn, editor: Option<Editor>, name: &[u8]) -> Result<Option<Session>, Stop> {
        let Some(editor) = editor else { return Ok(None) };
        let stream = editor.stream;
        let group = GroupEditor::open(txn, &stream, name)?;
        Ok(group.map(|group| Session { stream, group }))
    }

    /// Stages what changed.
    pub fn finish(self, txn: &mut Txn) -> Result<(), Stop> {
        self.group.finish(txn)
    }
}

/// XGROUP SETID: where the group goes on to read.
pub fn set_id(session: &mut Session, start: StartAt, entries_read: Option<u64>) {
    let last_id = start.resolve(&session.stream);
    // Nobody has read more than was ever there.
    let entries_read = entries_read.map(|read| read.min(session.stream.meta.entries_added));
    let editor = &mut session.group;
    editor.group = Group { last_id, entries_read, ..editor.group };
    editor.changed = true;
}

/// XACK: how many were pending.
pub fn acknowledge(txn: &mut Txn, session: &mut Session, ids: &[StreamId]) -> Result<u64, Stop> {
    let mut acknowledged = 0;
    for &id in ids {
        if let Some(old) = session.group.pending(txn, id)? {
            session.group.remove_pending(txn, id, old)?;
            acknowledged += 1;
        }
    }
    Ok(acknowledged)
}

/// What XREADGROUP does with an entry it delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is pending from now on.
    Pending,
    /// It counts as acknowledged.
    NoAck,
}

/// XREADGROUP of new entries: hands `count` at most (0: all) to `f`; how many there were.
pub fn deliver_new(
    txn: &mut Txn,
    session: &mut Session,
    consumer: u32,
    delivery: Delivery,
    count: u64,
    mut f: impl FnMut(StreamId, Fields<'_>) -> Result<(), Stop>,
) -> Result<u64, Stop> {
    let stream = session.stream;
    let Some(from) = session.group.group.last_id.next() else { return Ok(0) };
    let editor = &mut session.group;
    let now_ms = txn.now_ms();
    stream.for_each(txn, (from, StreamId::MAX), Order::Forward, count, |txn, id, fields| {
        editor.advance(&stream, id);
        if delivery == Delivery::Pending {
            let old = editor.pending(txn, id)?;
            editor.set_pending(txn, id, old, Pending { consumer, delivered_ms: now_ms, deliveries: 1 })?;
            editor.consumer(txn, consumer)?.active_ms = Some(now_ms);
        }
        f(id, fields)
    })
}

/// XREADGROUP of what a consumer has pending from an id on: hands `count` at most (0: all) to `f`, with no fields where
/// the entry is gone; how many there were.
pub fn deliver_again(
    txn: &mut Txn,
    session: &mut Session,
    consumer: u32,
    from: StreamId,
    count: u64,
    mut f: impl FnMut(StreamId, Option<Fields<'_>>) -> Result<(), Stop>,
) -> Result<u64, Stop> {
    let stream = session.stream;
    let editor = &mut session.group;
    let (keys, group, now_ms) = (editor.keys, editor.group, txn.now_ms());
    // Of a key that the command names twice, the staged state is what counts; a walk does not see it.
    let staged = editor.staged.range(from..).filter_map(|(id, pending)| Some((*id, (*pending)?)));
    let staged: Vec<(StreamId, Pending)> =
        staged.filter(|(_, pending)| pending.consumer == consumer).collect();
    let mut staged = staged.into_iter().peekable();
    let mut found = 0;
    let mut hand_out = |txn: &mut Txn, id: StreamId, old: Pending| {
        if stream.entry(txn, id, |fields| f(id, Some(fields)))? {
            let deliveries = old.deliveries.saturating_add(1);
            editor.set_pending(txn, id, Some(old), Pending { delivered_ms: now_ms, deliveries, ..old })?;
        } else {
            f(id, None)?;
        }
        found += 1;
        Ok::<bool, Stop>(found != count)
    };
    let mut more = true;
    for_each_pending(txn, keys, &group, Some(consumer), (from, StreamId::MAX), |txn, id, old| {
        while more && let Some((id, old)) = staged.next_if(|(staged, _)| *staged < id) {
            more = hand_out(txn, id, old)?;
        }
        if more {
            let old = staged.next_if(|(staged, _)| *staged == id).map_or(old, |(_, old)| old);
            more = hand_out(txn, id, old)?;
        }
        Ok(more)
    })?;
    for (id, old) in staged {
        if !more {
            break;
        }
        more = hand_out(txn, id, old)?;
    }
    Ok(found)
}

/// What XCLAIM and XAUTOCLAIM do to what they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Only what was delivered so many ms ago or before.
    pub min_idle_ms: u64,
    /// The time of delivery it gets.
    pub delivered_ms: u64,
    /// The number of deliveries it gets, if not one more.
    pub deliveries: Option<u64>,
    /// What is not pending becomes so.
    pub force: bool,
    /// The number of deliveries stays.
    pub just_id: bool,
}

/// What came of claiming an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the consumer's.
    Yes,
    /// It is not pending, or for too short a time.
    No,
    /// The entry is gone, and so is what was pending.
    Gone,
}

/// Claims one id for a consumer.
pub fn claim(
    txn: &mut Txn,
    session: &mut Session,
    consumer: u32,
    id: StreamId,
    claim: &Claim,
) -> Result<Claimed, Stop> {
    let now_ms = txn.now_ms();
    let stream = session.stream;
    let editor = &mut session.group;
    let old = editor.pending(txn, id)?;
    if !stream.holds(txn, id)? {
        let Some(old) = old else { return Ok(Claimed::No) };
        editor.remove_pending(txn, id, old)?;
        return Ok(Claimed::Gone);
    }
    let deliveries = match old {
        Some(old) if now_ms.saturating_sub(old.delivered_ms) < claim.min_idle_ms => return Ok(Claimed::No),
        Some(old) => old.deliveries,
        None if claim.force => 1,
        None => return Ok(Claimed::No),
    };
    let deliveries = match claim.deliveries {
        Some(deliveries) => deliveries,
        None if claim.just_id => deliveries,
        None => deliveries.saturating_add(1),
    };
    let new = Pending { consumer, delivered_ms: claim.delivered_ms, deliveries };
    editor.set_pending(txn, id, old, new)?;
    editor.consumer(txn, consumer)?.active_ms = Some(now_ms);
    Ok(Claimed::Yes)
}

/// What XAUTOCLAIM came across.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoClaimed {
    /// What is the consumer's now.
    pub claimed: Vec<StreamId>,
    /// What was pending of entries that are gone.
    pub gone: Vec<StreamId>,
    /// Where to go on; 0-0 at the end.
    pub next: StreamId,
}

/// How many pending entries XAUTOCLAIM looks at for each that it may claim.
const ATTEMPTS_FACTOR: u64 = 10;

/// XAUTOCLAIM: claims up to `count` of what is pending from an id on.
pub fn auto_claim(
    txn: &mut Txn,
    session: &mut Session,
    consumer: u32,
    from: StreamId,
    count: u64,
    how: &Claim,
) -> Result<AutoClaimed, Stop> {
    let (keys, group) = (session.group.keys, session.group.group);
    let mut found = AutoClaimed::default();
    let (mut attempts, mut left) = (count.saturating_mul(ATTEMPTS_FACTOR), count);
    for_each_pending(txn, keys, &group, None, (from, StreamId::MAX), |txn, id, _| {
        if attempts == 0 || left == 0 {
            found.next = id;
            return Ok(false);
        }
        attempts -= 1;
        match claim(txn, session, consumer, id, how)? {
            Claimed::Yes => found.claimed.push(id),
            Claimed::Gone => found.gone.push(id),
            Claimed::No => return Ok(true),
        }
        left -= 1;
        Ok(true)
    })?;
    Ok(found)
}

/// A plain read of a stream and one of its groups. `None` if there is no such key or group.
pub fn view_group(txn: &mut Txn, at: At<'_>, name: &[u8]) -> Result<Option<(Stream, Group)>, Stop> {
    let Some(stream) = view(txn, at)? else { return Ok(None) };
    Ok(group(txn, &stream, name)?.map(|group| (stream, group)))
}

/// Names of consumers by number, read as they are needed.
#[derive(Debug, Default)]
pub struct ConsumerNames(HashMap<u32, Vec<u8>>);

impl ConsumerNames {
    /// The name of one.
    pub fn get(&mut self, txn: &mut Txn, keys: GroupKeys, group: &Group, number: u32) -> Result<&[u8], Stop> {
        match self.0.entry(number) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(consumer(txn, keys, group, number)?.name)),
        }
    }
}
