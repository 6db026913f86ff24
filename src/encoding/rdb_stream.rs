//! Streams in Redis's dumps, versions 1 to 3.
//!
//! ```text
//! nodes | (node id, 16 bytes as a string | listpack as a string) ..
//! length | last id | from 2 on: first id | greatest deleted id | entries added                  ids: two lengths
//! groups | (name | last id | from 2 on: entries read
//!           pending | (id, 16 bytes | delivered ms u64 LE | deliveries) ..
//!           consumers | (name | seen ms u64 LE | 3: active ms u64 LE | pending | (id, 16 bytes) ..) ..) ..
//!
//! listpack of a node:  entries | deleted ones | fields | field .. | 0           the master, whose fields others may share
//!                      flags | ms and seq less those of the node | fields, unless shared | (field) value .. | elements
//! flags                1: deleted    2: has the master's fields
//! ```

use crate::encoding::listpack::{Element, Elements, ListpackWriter};
use crate::encoding::rdb::{Input, RdbError, Reader, Result, Writer};
use crate::encoding::stream::StreamId;
use std::collections::{BTreeMap, BTreeSet};

/// A node of a dump takes no more entries or bytes, as in Redis.
const NODE_ENTRIES_MAX: u64 = 100;
const NODE_BYTES_MAX: usize = 4096;
const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Each entry is taken to need so many bytes beside its fields.
const ENTRY_BYTES: u64 = 48;
/// And so many for each of them.
const ITEM_BYTES: usize = 24;

/// An entry: its id, and its fields and values one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdbEntry {
    /// Its id.
    pub id: StreamId,
    /// Fields and values.
    pub items: Vec<Vec<u8>>,
}

/// What is pending under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdbPending {
    /// Whose it is: an index of the group's consumers.
    pub consumer: usize,
    /// When it was delivered last, in ms since 1970.
    pub delivered_ms: u64,
    /// How often.
    pub deliveries: u64,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdbConsumer {
    /// Its name.
    pub name: Vec<u8>,
    /// When it last tried to get something.
    pub seen_ms: u64,
    /// When it last got something.
    pub active_ms: Option<u64>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdbGroup {
    /// Its name.
    pub name: Vec<u8>,
    /// The last id delivered.
    pub last_id: StreamId,
    /// How many were read; `None` before version 2, `Some(None)` if not known.
    pub entries_read: Option<Option<u64>>,
    /// Its consumers.
    pub consumers: Vec<RdbConsumer>,
    /// What is pending.
    pub pending: BTreeMap<StreamId, RdbPending>,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdbStream {
    /// Its live entries, in order.
    pub entries: Vec<RdbEntry>,
    /// The last id given out.
    pub last_id: StreamId,
    /// The greatest id that was deleted.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
    /// Its groups.
    pub groups: Vec<RdbGroup>,
}

const DAMAGED: RdbError = RdbError::Damaged("stream");

fn read_id<I: Input>(reader: &mut Reader<I>) -> Result<StreamId> {
    Ok(StreamId { ms: reader.length()?, seq: reader.length()? })
}

impl RdbStream {
    /// Reads a stream of this version.
    pub fn read<I: Input>(reader: &mut Reader<I>, version: u8) -> Result<RdbStream> {
        let mut stream = RdbStream::default();
        let nodes = reader.length()?;
        let mut listpack = Vec::new();
        for _ in 0..nodes {
            let node = <[u8; 16]>::try_from(reader.owned_string()?).map_err(|_| DAMAGED)?;
            listpack.clear();
            reader.string(&mut listpack)?;
            let mut spend = |bytes: usize| reader.spend(bytes as u64).ok();
            read_node(&listpack, StreamId::from_bytes(node), &mut stream.entries, &mut spend)
                .ok_or(DAMAGED)?;
        }
        let length = reader.length()?;
        let rising = stream.entries.is_sorted_by(|one, next| one.id < next.id);
        if length != stream.entries.len() as u64 || !rising {
            return Err(DAMAGED);
        }
        stream.last_id = read_id(reader)?;
        if stream.entries.last().is_some_and(|last| last.id > stream.last_id) {
            return Err(DAMAGED);
        }
        stream.entries_added = length;
        if version >= 2 {
            // The first id is that of the first entry.
            read_id(reader)?;
            stream.max_deleted_id = read_id(reader)?;
            stream.entries_added = reader.length()?;
        }
        let groups = reader.length()?;
        let mut names = BTreeSet::new();
        for _ in 0..groups {
            let group = read_group(reader, version)?;
            if !names.insert(group.name.clone()) {
                return Err(DAMAGED);
            }
            stream.groups.push(group);
        }
        Ok(stream)
    }
}

/// Reads the live entries of a node. `spend` is told of the bytes they take: the master's fields may be large and shared by
/// many.
fn read_node(
    listpack: &[u8],
    node: StreamId,
    entries: &mut Vec<RdbEntry>,
    spend: &mut dyn FnMut(usize) -> Option<()>,
) -> Option<()> {
    let mut elements = Elements::new(listpack)?;
    let number = |elements: &mut Elements<'_>| elements.next()?.integer();
    let count = number(&mut elements)?.checked_add(number(&mut elements)?)?;
    let fields = usize::try_from(number(&mut elements)?).ok()?;
    let mut master: Vec<Element<'_>> = Vec::new();
    for _ in 0..fields {
        master.push(elements.next()?);
    }
    if number(&mut elements)? != 0 {
        return None;
    }
    for _ in 0..count {
        let flags = number(&mut elements)?;
        let id = StreamId {
            ms: node.ms.wrapping_add(number(&mut elements)? as u64),
            seq: node.seq.wrapping_add(number(&mut elements)? as u64),
        };
        spend(ENTRY_BYTES as usize)?;
        let mut items = Vec::new();
        let mut put = |element: Element<'_>| {
            let text = element.text();
            spend(text.len() + ITEM_BYTES)?;
            items.push(text);
            Some(())
        };
        if flags & SAME_FIELDS != 0 {
            for field in &master {
                put(*field)?;
                put(elements.next()?)?;
            }
        } else {
            let fields = usize::try_from(number(&mut elements)?).ok()?;
            for _ in 0..fields.checked_mul(2)? {
                put(elements.next()?)?;
            }
        }
        // How many elements the entry had, for walks in reverse.
        number(&mut elements)?;
        if flags & DELETED == 0 {
            entries.push(RdbEntry { id, items });
        }
    }
    elements.next().is_none().then_some(())?;
    elements.finish()
}

fn read_group<I: Input>(reader: &mut Reader<I>, version: u8) -> Result<RdbGroup> {
    let name = reader.owned_string()?;
    let last_id = read_id(reader)?;
    let entries_read = match version {
        1 => None,
        // It is -1 if not known.
        _ => Some(i64::try_from(reader.length()?).ok().map(|read| read as u64)),
    };
    let mut group = RdbGroup { name, last_id, entries_read, consumers: Vec::new(), pending: BTreeMap::new() };
    let pending = reader.length()?;
    for _ in 0..pending {
        reader.spend(ENTRY_BYTES)?;
        let id = StreamId::from_bytes(reader.array()?);
        let (delivered_ms, deliveries) = (reader.u64()?, reader.length()?);
        let pending = RdbPending { consumer: usize::MAX, delivered_ms, deliveries };
        if group.pending.insert(id, pending).is_some() {
            return Err(DAMAGED);
        }
    }
    let consumers = reader.length()?;
    for index in 0..usize::try_from(consumers).unwrap_or(usize::MAX) {
        reader.spend(ENTRY_BYTES)?;
        let name = reader.owned_string()?;
        let seen_ms = reader.u64()?;
        let active_ms = match version {
            3 => Some(reader.u64()?).filter(|ms| *ms != u64::MAX),
            _ => Some(seen_ms),
        };
        let owned = reader.length()?;
        for _ in 0..owned {
            let id = StreamId::from_bytes(reader.array()?);
            match group.pending.get_mut(&id) {
                Some(pending) if pending.consumer == usize::MAX => pending.consumer = index,
                _ => return Err(DAMAGED),
            }
        }
        group.consumers.push(RdbConsumer { name, seen_ms, active_ms });
    }
    let mut names: Vec<&[u8]> = group.consumers.iter().map(|consumer| consumer.name.as_slice()).collect();
    names.sort_unstable();
    let unique = names.is_sorted_by(|one, next| one < next);
    let owned = group.pending.values().all(|pending| pending.consumer != usize::MAX);
    if unique && owned { Ok(group) } else { Err(DAMAGED) }
}

/// Writes the entries of a stream, in order, as nodes.
#[derive(Debug, Default)]
pub struct StreamNodes {
    nodes: Writer,
    count: u64,
    node: Option<Node>,
    fields: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Node {
    id: StreamId,
    entries: u64,
    /// Bytes of the entries, without the master.
    listpack: ListpackWriter,
    /// Each as it goes into the listpack, which begins with their number.
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    Number(i64),
    Bytes(Vec<u8>),
}

impl StreamNodes {
    /// Appends an entry: its fields and values one after the other.
    pub fn put(&mut self, id: StreamId, items: &[&[u8]]) {
        let bytes: usize = items.iter().map(|item| item.len()).sum();
        let full =
            |node: &Node| node.entries >= NODE_ENTRIES_MAX || node.listpack.len() + bytes >= NODE_BYTES_MAX;
        if self.node.as_ref().is_some_and(full) {
            self.end_node();
        }
        let fields = || items.iter().step_by(2);
        let node = self.node.get_or_insert_with(|| {
            self.fields = fields().map(|field| field.to_vec()).collect();
            Node { id, entries: 0, listpack: ListpackWriter::default(), items: Vec::new() }
        });
        let same = fields().eq(self.fields.iter());
        let values = items.iter().skip(1).step_by(2);
        let (ms, seq) = (id.ms.wrapping_sub(node.id.ms), id.seq.wrapping_sub(node.id.seq));
        let mut put = |item: Item| {
            match &item {
                Item::Number(value) => node.listpack.put_integer(*value),
                Item::Bytes(bytes) => node.listpack.put_bytes(bytes),
            }
            node.items.push(item);
        };
        put(Item::Number(if same { SAME_FIELDS } else { 0 }));
        put(Item::Number(ms as i64));
        put(Item::Number(seq as i64));
        let count = (items.len() / 2) as i64;
        if same {
            values.for_each(|value| put(Item::Bytes(value.to_vec())));
            put(Item::Number(count + 3));
        } else {
            put(Item::Number(count));
            items.iter().for_each(|item| put(Item::Bytes(item.to_vec())));
            put(Item::Number(2 * count + 4));
        }
        node.entries += 1;
    }

    fn end_node(&mut self) {
        let Some(node) = self.node.take() else { return };
        let mut listpack = ListpackWriter::default();
        listpack.put_integer(node.entries as i64);
        listpack.put_integer(0);
        listpack.put_integer(self.fields.len() as i64);
        self.fields.iter().for_each(|field| listpack.put_bytes(field));
        listpack.put_integer(0);
        for item in &node.items {
            match item {
                Item::Number(value) => listpack.put_integer(*value),
                Item::Bytes(bytes) => listpack.put_bytes(bytes),
            }
        }
        // The id is bytes, whatever they look like.
        self.nodes.length(16);
        self.nodes.raw(&node.id.to_bytes());
        self.nodes.string(&listpack.finish());
        self.count += 1;
    }

    /// Writes number and content of the nodes.
    pub fn finish(mut self, writer: &mut Writer) {
        self.end_node();
        writer.length(self.count);
        writer.raw(&self.nodes.into_bytes());
    }
}

/// Writes an id as two lengths.
pub fn write_id(writer: &mut Writer, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"field".to_vec()),
            Just(b"12".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
            any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn nodes_round_trip(
            steps in proptest::collection::vec((0u64..5, any::<u64>(), proptest::collection::vec((item(), item()), 1..4)), 0..250),
        ) {
            let mut entries: Vec<RdbEntry> = Vec::new();
            let mut ms = 0;
            for (step, seq, pairs) in steps {
                ms += step + 1;
                let items = pairs.into_iter().flat_map(|(field, value)| [field, value]).collect();
                entries.push(RdbEntry { id: StreamId { ms, seq }, items });
            }
            let mut nodes = StreamNodes::default();
            for entry in &entries {
                let items: Vec<&[u8]> = entry.items.iter().map(Vec::as_slice).collect();
                nodes.put(entry.id, &items);
            }
            let mut writer = Writer::default();
            nodes.finish(&mut writer);
            writer.length(entries.len() as u64);
            let last_id = entries.last().map_or(StreamId::MIN, |entry| entry.id);
            write_id(&mut writer, last_id);
            writer.length(0);
            let bytes = writer.into_bytes();
            let read = RdbStream::read(&mut Reader::new(&bytes[..], 1 << 30), 1).unwrap();
            prop_assert_eq!(&read.entries, &entries);
            prop_assert_eq!((read.last_id, read.entries_added), (last_id, entries.len() as u64));
        }
    }
}
