//! What the stream commands do to entries; consumer groups are in `types/stream_groups.rs`. Layouts: `encoding/stream.rs`.
//!
//! A stream always lies under an id: its record is small and is written with every entry, and what is read from a stream is
//! a range, seldom all of it. The record knows the first live entry, so that a capped stream is read and trimmed from there
//! and nobody walks over the tombstones in front of it.
//!
//! *Approximate trimming* removes whole nodes, which Redis has and we have not: a node is taken to be so many entries
//! (`stream-node-max-entries`) in the order in which they were added. That is what Redis does, too, while nothing was deleted
//! and entries are small; what a client may rely on (no more is removed than exact trimming would) holds always.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{self, ENTRY};
use crate::encoding::meta::{Head, Kind, Record, Space, damaged, split_collection_body};
use crate::encoding::stream::{Fields, GroupKeys, StreamId, StreamMeta, entry_key, id_of_key, put_fields};
use crate::store::events::EventClass;
use crate::store::txn::{At, Before, Builder, Txn};
use crate::types::runs;
use haypile_lsm::Iter;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Up to so many entries go one by one, more by a range delete.
const SINGLE_DELETES_MAX: u64 = 16;
/// What a new stream is taken to need beside its first entry, in bytes.
const NEW_STREAM_BYTES: u64 = 64;

/// XADD of an id that does not come behind the last one.
pub const ID_TOO_SMALL: ReplyError =
    ReplyError::fixed("ERR The ID specified in XADD is equal or smaller than the target stream top item");
/// XADD behind the last id there is.
pub const IDS_EXHAUSTED: ReplyError =
    ReplyError::fixed("ERR The stream has exhausted the last possible ID, unable to add more items");

/// A stream as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where.
    pub space: Space,
    /// Under which id.
    pub id: u64,
    /// What its record says.
    pub meta: StreamMeta,
}

fn damaged_entry() -> Stop {
    damaged("keyspace data", "entry of a stream").into()
}

/// Looks at a record as a stream.
pub fn of_record(space: Space, head: &Head, body: &[u8]) -> Result<Stream, Stop> {
    if head.kind != Kind::Stream {
        return Err(ReplyError::WRONG_TYPE.into());
    }
    let meta = StreamMeta::decode(body).filter(|_| head.id != 0);
    let meta = meta.ok_or_else(|| damaged("keyspace meta", "record of a stream"))?;
    Ok(Stream { space, id: head.id, meta })
}

/// A plain read. `None` if there is no such key. Pins the read point, since what follows reads under the id.
pub fn view(txn: &mut Txn, at: At<'_>) -> Result<Option<Stream>, Stop> {
    txn.pin();
    txn.view(at, |record| record.map(|Record { head, body }| of_record(at.space, &head, body)).transpose())?
}

/// XLEN.
pub fn length(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    txn.view(at, |record| match record {
        None => Ok(0),
        Some(Record { head, .. }) if head.kind != Kind::Stream => Err(ReplyError::WRONG_TYPE.into()),
        Some(Record { body, .. }) => match split_collection_body(body) {
            Some((length, _)) => Ok(length),
            None => Err(damaged("keyspace meta", "record of a stream").into()),
        },
    })?
}

/// In which order entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

impl Stream {
    /// Keys of what belongs to its groups.
    pub fn group_keys(&self) -> GroupKeys {
        GroupKeys { space: self.space, id: self.id }
    }

    /// An iterator over the entries from one id up to another, which is included; it stands nowhere.
    fn iter(&self, txn: &mut Txn, from: StreamId, to: StreamId) -> Result<Iter, Stop> {
        let lower = entry_key(self.space, self.id, from).to_vec();
        let mut upper = entry_key(self.space, self.id, to).to_vec();
        // The first key there can be behind it.
        upper.push(0);
        let keyspace = txn.store().keyspaces().data;
        txn.iter(keyspace, Some(lower), Some(upper))
    }

    /// Hands the entries from one id up to another, which is included, to `f`; `count` at most, 0 for all. How many there were.
    pub fn for_each(
        &self,
        txn: &mut Txn,
        (from, to): (StreamId, StreamId),
        order: Order,
        count: u64,
        mut f: impl FnMut(&mut Txn, StreamId, Fields<'_>) -> Result<(), Stop>,
    ) -> Result<u64, Stop> {
        let (from, to) = (from.max(self.meta.first_id), to.min(self.meta.last_id));
        if self.meta.length == 0 || from > to {
            return Ok(0);
        }
        let mut iter = self.iter(txn, from, to)?;
        match order {
            Order::Forward => iter.seek_to_first()?,
            Order::Backward => iter.seek_to_last()?,
        }
        let mut found = 0;
        runs::for_each(&mut iter, order == Order::Backward, 0, |key, value| {
            txn.charge(1, value.len() as u64)?;
            let entry = id_of_key(key).ok_or_else(damaged_entry)?;
            let fields = Fields::new(value).ok_or_else(damaged_entry)?;
            f(txn, entry, fields)?;
            found += 1;
            Ok(if found == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    /// Hands one entry to `f`; whether it is there.
    pub fn entry(
        &self,
        txn: &mut Txn,
        entry: StreamId,
        f: impl FnOnce(Fields<'_>) -> Result<(), Stop>,
    ) -> Result<bool, Stop> {
        if !self.may_hold(entry) {
            return Ok(false);
        }
        txn.view_data(&entry_key(self.space, self.id, entry), |value| match value {
            None => Ok(false),
            Some(value) => {
                f(Fields::new(value).ok_or_else(damaged_entry)?)?;
                Ok(true)
            }
        })?
    }

    /// Whether an entry is there.
    pub fn holds(&self, txn: &mut Txn, entry: StreamId) -> Result<bool, Stop> {
        self.entry(txn, entry, |_| Ok(()))
    }

    fn may_hold(&self, entry: StreamId) -> bool {
        self.meta.length > 0 && (self.meta.first_id..=self.meta.last_id).contains(&entry)
    }

    /// Id of the last live entry.
    pub fn last_entry(&self, txn: &mut Txn) -> Result<Option<StreamId>, Stop> {
        let mut last = None;
        let all = (StreamId::MIN, StreamId::MAX);
        self.for_each(txn, all, Order::Backward, 1, |_, id, _| {
            last = Some(id);
            Ok(())
        })?;
        Ok(last)
    }

    /// Whether something was deleted at this id or behind it, in front of which there are live entries.
    pub fn has_holes_from(&self, from: StreamId) -> bool {
        let StreamMeta { length, first_id, max_deleted_id, .. } = self.meta;
        length > 0 && !max_deleted_id.is_zero() && first_id <= max_deleted_id && from <= max_deleted_id
    }

    /// How many entries were ever added up to this id, if that can be told.
    pub fn entries_added_up_to(&self, id: StreamId) -> Option<u64> {
        let StreamMeta { length, last_id, first_id, max_deleted_id, entries_added, .. } = self.meta;
        if entries_added == 0 {
            return Some(0);
        }
        if id == last_id || length == 0 && id < last_id {
            return Some(entries_added);
        }
        if id > last_id || max_deleted_id >= first_id && !max_deleted_id.is_zero() {
            return None;
        }
        let before_first = entries_added.saturating_sub(length);
        match id.cmp(&first_id) {
            std::cmp::Ordering::Less => Some(before_first),
            std::cmp::Ordering::Equal => Some(before_first + 1),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// The id of an entry to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: from the clock.
    Auto,
    /// `ms-*`: the next of this ms.
    AutoSeq(u64),
    /// This one.
    Given(StreamId),
}

impl NewId {
    fn resolve(self, last: StreamId, now_ms: u64) -> Result<StreamId, ReplyError> {
        if last == StreamId::MAX {
            return Err(IDS_EXHAUSTED);
        }
        let id = match self {
            NewId::Auto if now_ms > last.ms => Some(StreamId { ms: now_ms, seq: 0 }),
            NewId::Auto => last.next(),
            NewId::AutoSeq(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| StreamId { ms, seq }),
            NewId::AutoSeq(ms) => Some(StreamId { ms, seq: 0 }),
            NewId::Given(id) => Some(id),
        };
        id.filter(|id| *id > last).ok_or(ID_TOO_SMALL)
    }
}

/// Down to what a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// So many entries.
    Length(u64),
    /// Entries from this id on.
    Id(StreamId),
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Down to what.
    pub to: TrimTo,
    /// Whole nodes only.
    pub approximate: bool,
    /// Removes no more than this; 0 for no bound.
    pub limit: u64,
    /// Entries of a node.
    pub node_entries: u64,
}

/// What stands at the front of a stream.
struct Front {
    /// How many entries were walked over.
    count: u64,
    /// Their ids, if they are few.
    ids: Vec<StreamId>,
    /// The one behind them.
    next: Option<StreamId>,
}

/// A stream being changed.
#[derive(Debug)]
pub struct Editor {
    /// As it is so far.
    pub stream: Stream,
    before: Before,
    head: Head,
    /// Of a new stream.
    builder: Option<Builder>,
    /// Added by this command: iterators do not see it.
    fresh: Option<StreamId>,
}

impl Editor {
    /// Opens a stream under its key's lock. `None` if there is no such key.
    pub fn open(txn: &mut Txn, at: At<'_>) -> Result<Option<Editor>, Stop> {
        Ok(Editor::open_or(txn, at)?.ok())
    }

    /// The same, or what a new one has to know.
    fn open_or(txn: &mut Txn, at: At<'_>) -> Result<Result<Editor, Before>, Stop> {
        let slot = txn.load(at)?;
        let Some(head) = slot.head().copied() else { return Ok(Err(slot.before)) };
        let stream = of_record(at.space, &head, slot.body())?;
        let before = slot.before;
        txn.recycle(slot);
        Ok(Ok(Editor { stream, before, head, builder: None, fresh: None }))
    }

    /// Makes an empty stream that takes the place of what `before` knows; what will be added has about so many bytes.
    pub fn create(txn: &mut Txn, at: At<'_>, before: Before, bytes: u64) -> Result<Editor, Stop> {
        let builder = txn.builder(at.space, bytes.saturating_add(NEW_STREAM_BYTES))?;
        let stream = Stream { space: at.space, id: builder.id(), meta: StreamMeta::default() };
        let head = Head { id: builder.id(), ..Head::plain(Kind::Stream) };
        Ok(Editor { stream, before, head, builder: Some(builder), fresh: None })
    }

    /// Opens a stream, making it if it is not there.
    pub fn open_or_create(txn: &mut Txn, at: At<'_>) -> Result<Editor, Stop> {
        match Editor::open_or(txn, at)? {
            Ok(editor) => Ok(editor),
            Err(before) => Editor::create(txn, at, before, 0),
        }
    }

    /// When it expires, for a stream that takes another's place.
    pub fn set_expiry(&mut self, expire_ms: u64) {
        self.head.expire_ms = expire_ms;
    }

    /// Whether it was made by this command.
    pub fn is_new(&self) -> bool {
        self.builder.is_some()
    }

    /// Stages a record under the stream's id.
    pub fn put(&mut self, txn: &mut Txn, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        match &mut self.builder {
            Some(builder) => builder.put(txn, key, value),
            None => txn.put_data(key, value),
        }
    }

    /// Adds an entry behind all others.
    pub fn append<'a>(
        &mut self,
        txn: &mut Txn,
        id: StreamId,
        items: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<(), Stop> {
        let mut value = txn.take_buffer();
        put_fields(&mut value, items);
        txn.charge(0, value.len() as u64)?;
        self.put(txn, &entry_key(self.stream.space, self.stream.id, id), &value)?;
        txn.recycle_buffer(value);
        let meta = &mut self.stream.meta;
        if meta.length == 0 {
            meta.first_id = id;
        }
        meta.length += 1;
        meta.entries_added += 1;
        meta.last_id = id;
        self.fresh = Some(id);
        Ok(())
    }

    /// Walks over up to `most` entries at the front that lie below `below`. Entries that this command added count.
    fn front(&self, txn: &mut Txn, most: u64, below: StreamId) -> Result<Front, Stop> {
        let mut front = Front { count: 0, ids: Vec::new(), next: None };
        let mut iter = self.stream.iter(txn, self.stream.meta.first_id, StreamId::MAX)?;
        iter.seek_to_first()?;
        let mut fresh = self.fresh;
        loop {
            let id = if iter.valid() {
                id_of_key(iter.key()).ok_or_else(damaged_entry)?
            } else {
                match fresh.take() {
                    Some(id) => id,
                    None => return Ok(front),
                }
            };
            txn.charge(1, 0)?;
            if front.count == most || id >= below {
                front.next = Some(id);
                return Ok(front);
            }
            front.count += 1;
            if front.count <= SINGLE_DELETES_MAX {
                front.ids.push(id);
            }
            if iter.valid() {
                iter.next()?;
            }
        }
    }

    /// The first of the last `keep` entries.
    fn first_of_last(&self, txn: &mut Txn, keep: u64) -> Result<Option<StreamId>, Stop> {
        let mut left = keep;
        if let Some(fresh) = self.fresh {
            left -= 1;
            if left == 0 {
                return Ok(Some(fresh));
            }
        }
        let mut iter = self.stream.iter(txn, self.stream.meta.first_id, StreamId::MAX)?;
        iter.seek_to_last()?;
        while iter.valid() {
            txn.charge(1, 0)?;
            left -= 1;
            if left == 0 {
                return Ok(id_of_key(iter.key()));
            }
            iter.prev()?;
        }
        Ok(None)
    }

    /// How many entries whole nodes at the front have, of the `removable` first ones.
    fn whole_nodes(&self, removable: u64, trim: &Trim) -> u64 {
        let StreamMeta { length, entries_added, .. } = self.stream.meta;
        let most = if trim.limit == 0 { removable } else { removable.min(trim.limit) };
        if most >= length {
            return length;
        }
        let node = trim.node_entries.max(1);
        let first = node - entries_added.saturating_sub(length) % node;
        if first > most { 0 } else { first + (most - first) / node * node }
    }

    /// Trims the stream; how many entries that removed.
    pub fn trim(&mut self, txn: &mut Txn, trim: &Trim) -> Result<u64, Stop> {
        let StreamMeta { length, last_id, first_id, .. } = self.stream.meta;
        let (removable, front) = match trim.to {
            TrimTo::Length(keep) => (length.saturating_sub(keep), None),
            TrimTo::Id(id) if length == 0 || id <= first_id => (0, None),
            TrimTo::Id(id) if id > last_id => (length, None),
            TrimTo::Id(id) => {
                let most = if trim.limit == 0 { u64::MAX } else { trim.limit };
                let front = self.front(txn, most, id)?;
                (front.count, Some(front))
            }
        };
        let count = if trim.approximate { self.whole_nodes(removable, trim) } else { removable };
        if count == 0 {
            return Ok(0);
        }
        if count >= length {
            self.clear(txn)?;
            return Ok(length);
        }
        let too_short = || damaged("keyspace data", "a stream is shorter than its record says");
        let keep = length - count;
        let front = match front {
            Some(front) if front.count == count => front,
            _ if keep < count && count > SINGLE_DELETES_MAX => {
                Front { count, ids: Vec::new(), next: self.first_of_last(txn, keep)? }
            }
            _ => self.front(txn, count, StreamId::MAX)?,
        };
        let next = front.next.ok_or_else(too_short)?;
        let key = |id| entry_key(self.stream.space, self.stream.id, id);
        match count <= SINGLE_DELETES_MAX {
            true => front.ids.into_iter().try_for_each(|id| txn.delete_data(&key(id)))?,
            false => txn.delete_data_range(&key(first_id), &key(next))?,
        }
        self.stream.meta.length = keep;
        self.stream.meta.first_id = next;
        Ok(count)
    }

    /// Removes all entries.
    fn clear(&mut self, txn: &mut Txn) -> Result<(), Stop> {
        if self.stream.meta.length <= SINGLE_DELETES_MAX {
            for id in self.front(txn, SINGLE_DELETES_MAX, StreamId::MAX)?.ids {
                txn.delete_data(&entry_key(self.stream.space, self.stream.id, id))?;
            }
        } else {
            let (start, end) = data::element_bounds(self.stream.space, self.stream.id, ENTRY);
            txn.delete_data_range(&start, &end)?;
        }
        self.stream.meta.length = 0;
        self.stream.meta.first_id = StreamId::MIN;
        Ok(())
    }

    /// XDEL: deletes entries; how many were there. For a stream to which this command added nothing.
    pub fn delete(&mut self, txn: &mut Txn, ids: &[StreamId]) -> Result<u64, Stop> {
        let ids: BTreeSet<StreamId> = ids.iter().copied().collect();
        let mut deleted = 0;
        for &id in &ids {
            if !self.stream.holds(txn, id)? {
                continue;
            }
            txn.delete_data(&entry_key(self.stream.space, self.stream.id, id))?;
            deleted += 1;
            let meta = &mut self.stream.meta;
            meta.max_deleted_id = meta.max_deleted_id.max(id);
        }
        let first = self.stream.meta.first_id;
        self.stream.meta.length = self.stream.meta.length.saturating_sub(deleted);
        if self.stream.meta.length == 0 {
            self.stream.meta.first_id = StreamId::MIN;
        } else if deleted > 0 && ids.contains(&first) {
            let mut iter = self.stream.iter(txn, first, StreamId::MAX)?;
            iter.seek_to_first()?;
            while iter.valid() {
                txn.charge(1, 0)?;
                let id = id_of_key(iter.key()).ok_or_else(damaged_entry)?;
                if !ids.contains(&id) {
                    self.stream.meta.first_id = id;
                    break;
                }
                iter.next()?;
            }
        }
        Ok(deleted)
    }

    /// Stages the record.
    pub fn finish(self, txn: &mut Txn, at: At<'_>) -> Result<(), Stop> {
        if let Some(builder) = self.builder {
            builder.link(txn, at)?;
        }
        txn.put(at, &self.before, self.head, &[&self.stream.meta.encode()])
    }
}

/// XADD: the id of the new entry. If there is no stream, one is made for so many bytes; or none, and the answer is `None`.
pub fn add<'a>(
    txn: &mut Txn,
    at: At<'_>,
    id: NewId,
    items: impl ExactSizeIterator<Item = &'a [u8]>,
    trim: Option<&Trim>,
    create_for_bytes: Option<u64>,
) -> Result<Option<StreamId>, Stop> {
    let opened = Editor::open_or(txn, at)?;
    if opened.is_err() && create_for_bytes.is_none() {
        return Ok(None);
    }
    let last = opened.as_ref().map_or(StreamId::MIN, |editor| editor.stream.meta.last_id);
    let id = id.resolve(last, txn.now_ms())?;
    let mut editor = match opened {
        Ok(editor) => editor,
        Err(before) => Editor::create(txn, at, before, create_for_bytes.unwrap_or(0))?,
    };
    editor.append(txn, id, items)?;
    let trimmed = match trim {
        Some(trim) => editor.trim(txn, trim)?,
        None => 0,
    };
    editor.finish(txn, at)?;
    txn.readied(at, Some(Kind::Stream));
    txn.event(EventClass::STREAM, "xadd", at);
    if trimmed > 0 {
        txn.event(EventClass::STREAM, "xtrim", at);
    }
    Ok(Some(id))
}

/// XTRIM: how many entries it removed.
pub fn trim(txn: &mut Txn, at: At<'_>, trim: &Trim) -> Result<u64, Stop> {
    let Some(mut editor) = Editor::open(txn, at)? else { return Ok(0) };
    let removed = editor.trim(txn, trim)?;
    if removed > 0 {
        editor.finish(txn, at)?;
    }
    Ok(removed)
}

/// XSETID: what the stream says of its past.
pub fn set_id(
    txn: &mut Txn,
    at: At<'_>,
    last_id: StreamId,
    entries_added: Option<u64>,
    max_deleted_id: StreamId,
) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at)?.ok_or(ReplyError::NO_SUCH_KEY)?;
    if last_id < editor.stream.meta.max_deleted_id {
        let error = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
        return Err(ReplyError::fixed(error).into());
    }
    if editor.stream.meta.length > 0 {
        if editor.stream.last_entry(txn)?.is_some_and(|top| last_id < top) {
            let error = "ERR The ID specified in XSETID is smaller than the target stream top item";
            return Err(ReplyError::fixed(error).into());
        }
        if entries_added.is_some_and(|added| added < editor.stream.meta.length) {
            let error = "ERR The entries_added specified in XSETID is smaller than the target stream length";
            return Err(ReplyError::fixed(error).into());
        }
    }
    let meta = &mut editor.stream.meta;
    meta.last_id = last_id;
    meta.entries_added = entries_added.unwrap_or(meta.entries_added);
    if !max_deleted_id.is_zero() {
        meta.max_deleted_id = max_deleted_id;
    }
    editor.finish(txn, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    #[test]
    fn new_ids() {
        let last = id(5, 7);
        assert_eq!(NewId::Auto.resolve(last, 9), Ok(id(9, 0)));
        assert_eq!(NewId::Auto.resolve(last, 5), Ok(id(5, 8)));
        assert_eq!(NewId::Auto.resolve(id(5, u64::MAX), 1), Ok(id(6, 0)));
        assert_eq!(NewId::AutoSeq(5).resolve(last, 0), Ok(id(5, 8)));
        assert_eq!(NewId::AutoSeq(6).resolve(last, 0), Ok(id(6, 0)));
        assert_eq!(NewId::AutoSeq(4).resolve(last, 0), Err(ID_TOO_SMALL));
        assert_eq!(NewId::AutoSeq(5).resolve(id(5, u64::MAX), 0), Err(ID_TOO_SMALL));
        assert_eq!(NewId::AutoSeq(0).resolve(StreamId::MIN, 0), Ok(id(0, 1)));
        assert_eq!(NewId::Given(last).resolve(last, 0), Err(ID_TOO_SMALL));
        assert_eq!(NewId::Auto.resolve(StreamId::MAX, 0), Err(IDS_EXHAUSTED));
    }

    #[test]
    fn what_was_added_up_to_an_id() {
        let meta = StreamMeta {
            length: 3,
            last_id: id(9, 0),
            first_id: id(5, 0),
            entries_added: 7,
            ..StreamMeta::default()
        };
        let mut stream = Stream { space: 1, id: 1, meta };
        assert_eq!(stream.entries_added_up_to(id(9, 0)), Some(7));
        assert_eq!(stream.entries_added_up_to(id(9, 1)), None);
        assert_eq!(stream.entries_added_up_to(id(5, 0)), Some(5));
        assert_eq!(stream.entries_added_up_to(id(4, 0)), Some(4));
        assert_eq!(stream.entries_added_up_to(id(6, 0)), None);
        stream.meta.max_deleted_id = id(4, 0);
        assert!(!stream.has_holes_from(StreamId::MIN));
        stream.meta.max_deleted_id = id(6, 0);
        assert_eq!(stream.entries_added_up_to(id(5, 0)), None);
        assert!(stream.has_holes_from(id(6, 0)) && !stream.has_holes_from(id(7, 0)));
    }
}
