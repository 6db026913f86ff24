//! Values of every type as Redis's dumps, and back: DUMP, RESTORE, and reading a dump file.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::meta::{Head, Kind, damaged};
use crate::encoding::rdb::{RdbError, Reader, Writer, open_dump};
use crate::encoding::rdb_stream::{StreamNodes, write_id};
use crate::encoding::rdb_value::{RdbValue, read_value, written};
use crate::encoding::stream::StreamId;
use crate::store::txn::{At, Before, Txn};
use crate::types::hash_value;
use crate::types::list_value;
use crate::types::lists;
use crate::types::set_value;
use crate::types::sorted_set::{self, Element, SortedSet};
use crate::types::stream::{self, Order};
use crate::types::stream_groups::{self, for_each_consumer, for_each_group, for_each_pending};
use crate::types::string_value::{self, Stored, stored};
use std::ops::ControlFlow;

/// What a dump may become in memory, in bytes: it may be packed and compressed many times over.
const DECODED_BYTES_MAX: u64 = 2 << 30;

/// A dump that is no value.
pub const BAD_DATA: ReplyError = ReplyError::fixed("ERR Bad data format");
/// A dump of a newer version, or one that was changed on its way.
pub const BAD_FRAME: ReplyError = ReplyError::fixed("ERR DUMP payload version or checksum are wrong");

/// DUMP. `None` if there is no such key.
pub fn dump(txn: &mut Txn, at: At<'_>) -> Result<Option<Vec<u8>>, Stop> {
    txn.pin();
    let found = txn.view(at, |record| record.map(|record| (record.head, record.body.to_vec())))?;
    let Some((head, body)) = found else { return Ok(None) };
    let mut writer = Writer::default();
    let version = write_value(txn, at, &head, &body, &mut writer)?;
    Ok(Some(writer.into_dump(version)))
}

/// Writes type and value of a record that was read, and tells of which version that is. Its data has to be of the same moment.
fn write_value(
    txn: &mut Txn,
    at: At<'_>,
    head: &Head,
    body: &[u8],
    writer: &mut Writer,
) -> Result<u16, Stop> {
    // The number of elements stands in front, but what has expired does not count.
    let (mut items, mut count) = (Writer::default(), 0);
    match head.kind {
        Kind::String => {
            writer.u8(written::STRING);
            match stored(at.space, head, body)? {
                Stored::Inline(bytes) => writer.string(bytes),
                Stored::Segments(segments) => {
                    writer.length(segments.length);
                    segments.pieces(txn, 0..segments.length, |piece| {
                        writer.raw(piece);
                        ControlFlow::Continue(())
                    })?;
                }
            }
            return Ok(written::PLAIN_VERSION);
        }
        Kind::Stream => return write_stream(txn, at, head, body, writer),
        Kind::List => {
            writer.u8(written::LIST);
            lists::for_each(txn, at, head, body, |element| {
                items.string(element);
                count += 1;
            })?;
        }
        Kind::Set => {
            writer.u8(written::SET);
            set_value::View::of_record(at, *head, body).for_each(txn, |member| {
                items.string(member);
                count += 1;
            })?;
        }
        Kind::SortedSet => {
            writer.u8(written::SORTED_SET);
            for element in SortedSet::decode(at.space, head, body.to_vec())?.collect_all(txn)? {
                items.string(&element.member);
                items.binary_double(element.score);
                count += 1;
            }
        }
        Kind::Hash => return write_hash(txn, at, head, body, writer),
    }
    writer.length(count);
    writer.raw(&items.into_bytes());
    Ok(written::PLAIN_VERSION)
}

fn write_hash(txn: &mut Txn, at: At<'_>, head: &Head, body: &[u8], writer: &mut Writer) -> Result<u16, Stop> {
    let view = hash_value::View::of_record(at, *head, body);
    let (mut count, mut earliest) = (0, u64::MAX);
    view.for_each_with_expiry(txn, |_, _, expire_ms| {
        count += 1;
        if expire_ms != 0 {
            earliest = earliest.min(expire_ms);
        }
    })?;
    let expiring = earliest != u64::MAX;
    if expiring {
        writer.u8(written::HASH_WITH_EXPIRIES);
        writer.u64(earliest);
    } else {
        writer.u8(written::HASH);
    }
    writer.length(count);
    view.for_each_with_expiry(txn, |name, value, expire_ms| {
        if expiring {
            writer.length(if expire_ms == 0 { 0 } else { expire_ms - earliest + 1 });
        }
        writer.string(name);
        writer.string(value);
    })?;
    Ok(if expiring { written::EXPIRIES_VERSION } else { written::PLAIN_VERSION })
}

fn write_stream(
    txn: &mut Txn,
    at: At<'_>,
    head: &Head,
    body: &[u8],
    writer: &mut Writer,
) -> Result<u16, Stop> {
    let all = (StreamId::MIN, StreamId::MAX);
    let stream = stream::of_record(at.space, head, body)?;
    let (meta, keys) = (&stream.meta, stream.group_keys());
    writer.u8(written::STREAM);
    let mut nodes = StreamNodes::default();
    stream.for_each(txn, all, Order::Forward, 0, |_, id, mut fields| {
        let mut items = Vec::with_capacity(fields.left() as usize);
        while let Some(item) = fields.next_item() {
            items.push(item);
        }
        nodes.put(id, &items);
        Ok(())
    })?;
    nodes.finish(writer);
    writer.length(meta.length);
    write_id(writer, meta.last_id);
    write_id(writer, meta.first_id);
    write_id(writer, meta.max_deleted_id);
    writer.length(meta.entries_added);
    writer.length(meta.groups);
    for_each_group(txn, &stream, |txn, name, group| {
        writer.string(name);
        write_id(writer, group.last_id);
        writer.length(group.entries_read.unwrap_or(u64::MAX));
        writer.length(group.pending);
        for_each_pending(txn, keys, &group, None, all, |_, id, pending| {
            writer.raw(&id.to_bytes());
            writer.u64(pending.delivered_ms);
            writer.length(pending.deliveries);
            Ok(true)
        })?;
        writer.length(group.consumers);
        for_each_consumer(txn, keys, &group, |txn, number, consumer| {
            writer.string(&consumer.name);
            writer.u64(consumer.seen_ms);
            writer.length(consumer.pending);
            for_each_pending(txn, keys, &group, Some(number), all, |_, id, _| {
                writer.raw(&id.to_bytes());
                Ok(true)
            })
        })
    })?;
    Ok(written::STREAM_VERSION)
}

/// The value of a dump.
pub fn parse(dump: &[u8]) -> Result<RdbValue, ReplyError> {
    let value = open_dump(dump).ok_or(BAD_FRAME)?;
    let mut reader = Reader::new(value, DECODED_BYTES_MAX);
    let kind = reader.u8().map_err(|_| BAD_DATA)?;
    read_value(&mut reader, kind).map_err(|_: RdbError| BAD_DATA)
}

/// Stages a value in place of whatever is there; `expire_ms` is 0 for never.
pub fn store(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    value: &RdbValue,
    expire_ms: u64,
) -> Result<(), Stop> {
    match value {
        RdbValue::String(bytes) => string_value::store(txn, at, before, bytes, expire_ms, false),
        RdbValue::List(elements) => list_value::store(txn, at, before, elements.iter(), expire_ms),
        RdbValue::Set(members) => {
            let mut maker = set_value::Maker::new(members.bytes() as u64 + 32 * members.len() as u64);
            for member in members.iter() {
                maker.push(txn, at, member)?;
            }
            let head = Head { expire_ms, ..Head::plain(Kind::Set) };
            maker.finish(txn, at, before, head)?;
            Ok(())
        }
        RdbValue::SortedSet(members, scores) => {
            let elements = members.iter().zip(scores);
            let mut elements: Vec<Element> =
                elements.map(|(member, score)| Element { score: *score, member: member.to_vec() }).collect();
            elements.sort_by(Element::order);
            sorted_set::store(txn, at, before, &elements, expire_ms)
        }
        RdbValue::Hash(pairs, expiries) => {
            let fields = (0..pairs.len() / 2).map(|index| {
                (pairs.get(2 * index), pairs.get(2 * index + 1), expiries.get(index).copied().unwrap_or(0))
            });
            hash_value::store(txn, at, before, fields, expire_ms)
        }
        RdbValue::Stream(dumped) => {
            let items = dumped.entries.iter().flat_map(|entry| &entry.items);
            let bytes = items.map(|item| item.len() as u64 + 2).sum();
            let mut editor = stream::Editor::create(txn, at, *before, bytes)?;
            for entry in &dumped.entries {
                editor.append(txn, entry.id, entry.items.iter().map(Vec::as_slice))?;
            }
            let meta = &mut editor.stream.meta;
            if meta.length != dumped.entries.len() as u64 {
                return Err(damaged("dump", "length of a stream").into());
            }
            meta.last_id = dumped.last_id;
            meta.max_deleted_id = dumped.max_deleted_id;
            meta.entries_added = dumped.entries_added;
            editor.set_expiry(expire_ms);
            for group in &dumped.groups {
                stream_groups::restore(txn, &mut editor, group)?;
            }
            editor.finish(txn, at)
        }
    }
}
