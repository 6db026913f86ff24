//! Streams: the body of their record in keyspace `meta`, and what lies under their id in keyspace `data`.
//!
//! ```text
//! body     = length | last id | first id | greatest deleted id | entries ever added | groups | groups ever made
//!            varints; an id is two: ms, seq; the first id is that of the first live entry, so that nobody who reads from
//!            the front walks over what was trimmed
//!
//! entry    = space | id | 9 | ms u64 BE | seq u64 BE       -> items varint | item | item ..     item: field or value,
//!                                                             varint length | bytes
//! group    = space | id | 10 | 0 u32 | name                -> number | last id | entries read + 1 (0: not known) | pending |
//!                                                             consumers | consumers ever made | greatest id ever pending; varints
//! consumer = space | id | 10 | group u32 BE | 1 | number u32 BE -> pending | seen ms | active ms + 1 (0: never) | name
//! name     = space | id | 10 | group | 2 | name            -> number of the consumer, varint
//! pending  = space | id | 10 | group | 3 | ms | seq        -> consumer | delivered ms | deliveries; varints
//! owned    = space | id | 10 | group | 4 | consumer u32 BE | ms | seq -> empty
//! ```
//!
//! Groups and consumers are numbered, so that what is pending has short keys and a destroyed group goes as one range.
//! Numbers begin at 1 and are not given out again. Nothing is pending above a group's greatest id ever pending, so the
//! delivery of new entries reads no `pending` record.

use crate::encoding::data::{ENTRY, GROUP, PREFIX_BYTES, prefix, put_element_prefix};
use crate::encoding::meta::Space;
use haypile_lsm::base::coding::{Cursor, put_slice, put_varint};

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// A time in ms, or whatever the user takes for it.
    pub ms: u64,
    /// Tells entries of one ms apart.
    pub seq: u64,
}

impl StreamId {
    /// The least.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The greatest.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id right behind it. `None` for the greatest.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The id right before it. `None` for the least.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Sixteen bytes that sort as ids do.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let whole = u128::from_be_bytes(bytes);
        StreamId { ms: (whole >> 64) as u64, seq: whole as u64 }
    }

    /// Whether it is 0-0.
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    fn put(self, out: &mut Vec<u8>) {
        put_varint(out, self.ms);
        put_varint(out, self.seq);
    }

    fn take(cursor: &mut Cursor<'_>) -> Option<StreamId> {
        Some(StreamId { ms: cursor.varint()?, seq: cursor.varint()? })
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// What a stream's record says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMeta {
    /// Live entries.
    pub length: u64,
    /// The id last given out.
    pub last_id: StreamId,
    /// Id of the first live entry; 0-0 if there is none.
    pub first_id: StreamId,
    /// The greatest id that was deleted (not trimmed).
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
    /// Consumer groups.
    pub groups: u64,
    /// How many group numbers were given out.
    pub groups_numbered: u32,
}

impl StreamMeta {
    /// The body of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        put_varint(&mut out, self.length);
        self.last_id.put(&mut out);
        self.first_id.put(&mut out);
        self.max_deleted_id.put(&mut out);
        put_varint(&mut out, self.entries_added);
        put_varint(&mut out, self.groups);
        put_varint(&mut out, self.groups_numbered.into());
        out
    }

    /// Reads [`encode`](Self::encode).
    pub fn decode(body: &[u8]) -> Option<StreamMeta> {
        let mut cursor = Cursor::new(body);
        let meta = StreamMeta {
            length: cursor.varint()?,
            last_id: StreamId::take(&mut cursor)?,
            first_id: StreamId::take(&mut cursor)?,
            max_deleted_id: StreamId::take(&mut cursor)?,
            entries_added: cursor.varint()?,
            groups: cursor.varint()?,
            groups_numbered: cursor.varint_u32()?,
        };
        cursor.is_empty().then_some(meta)
    }
}

/// A consumer group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its number in the stream.
    pub number: u32,
    /// The last id delivered as new.
    pub last_id: StreamId,
    /// How many entries were delivered, if that is known.
    pub entries_read: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// Consumers.
    pub consumers: u64,
    /// How many consumer numbers were given out.
    pub consumers_numbered: u32,
    /// Nothing above was ever pending.
    pub max_pending_id: StreamId,
}

impl Group {
    /// The value of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        put_varint(&mut out, self.number.into());
        self.last_id.put(&mut out);
        put_varint(&mut out, self.entries_read.map_or(0, |count| count.saturating_add(1)));
        put_varint(&mut out, self.pending);
        put_varint(&mut out, self.consumers);
        put_varint(&mut out, self.consumers_numbered.into());
        self.max_pending_id.put(&mut out);
        out
    }

    /// Reads [`encode`](Self::encode).
    pub fn decode(value: &[u8]) -> Option<Group> {
        let mut cursor = Cursor::new(value);
        let group = Group {
            number: cursor.varint_u32().filter(|number| *number > 0)?,
            last_id: StreamId::take(&mut cursor)?,
            entries_read: cursor.varint()?.checked_sub(1),
            pending: cursor.varint()?,
            consumers: cursor.varint()?,
            consumers_numbered: cursor.varint_u32()?,
            max_pending_id: StreamId::take(&mut cursor)?,
        };
        cursor.is_empty().then_some(group)
    }
}

/// A consumer of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: Vec<u8>,
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// When it last tried to read or claim, in ms since 1970.
    pub seen_ms: u64,
    /// When it last got something.
    pub active_ms: Option<u64>,
}

impl Consumer {
    /// The value of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.name.len());
        put_varint(&mut out, self.pending);
        put_varint(&mut out, self.seen_ms);
        put_varint(&mut out, self.active_ms.map_or(0, |ms| ms.saturating_add(1)));
        out.extend_from_slice(&self.name);
        out
    }

    /// Reads [`encode`](Self::encode).
    pub fn decode(value: &[u8]) -> Option<Consumer> {
        let mut cursor = Cursor::new(value);
        Some(Consumer {
            pending: cursor.varint()?,
            seen_ms: cursor.varint()?,
            active_ms: cursor.varint()?.checked_sub(1),
            name: cursor.rest().to_vec(),
        })
    }
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// To which consumer.
    pub consumer: u32,
    /// When last, in ms since 1970.
    pub delivered_ms: u64,
    /// How often.
    pub deliveries: u64,
}

impl Pending {
    /// The value of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        put_varint(&mut out, self.consumer.into());
        put_varint(&mut out, self.delivered_ms);
        put_varint(&mut out, self.deliveries);
        out
    }

    /// Reads [`encode`](Self::encode).
    pub fn decode(value: &[u8]) -> Option<Pending> {
        let mut cursor = Cursor::new(value);
        let pending = Pending {
            consumer: cursor.varint_u32()?,
            delivered_ms: cursor.varint()?,
            deliveries: cursor.varint()?,
        };
        cursor.is_empty().then_some(pending)
    }
}

/// The fields and values of an entry.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    left: u64,
    cursor: Cursor<'a>,
}

impl<'a> Fields<'a> {
    /// Reads an entry's value. `None` if it does not even say how many there are.
    pub fn new(value: &'a [u8]) -> Option<Fields<'a>> {
        let mut cursor = Cursor::new(value);
        // Each takes a byte at least: what is announced is bounded by what is there.
        let left = cursor.varint().filter(|items| *items <= value.len() as u64)?;
        Some(Fields { left, cursor })
    }

    /// How many are left, fields and values.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next field or value. `None` at the end, and where the bytes are damaged; then [`left`](Self::left) is above 0.
    pub fn next_item(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let item = self.cursor.slice()?;
        self.left -= 1;
        Some(item)
    }
}

/// Writes an entry's value into `out`, replacing what is there.
pub fn put_fields<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.clear();
    put_varint(out, items.len() as u64);
    items.for_each(|item| put_slice(out, item));
}

/// Key of an entry.
pub fn entry_key(space: Space, id: u64, entry: StreamId) -> [u8; PREFIX_BYTES + 17] {
    let mut key = [ENTRY; PREFIX_BYTES + 17];
    key[..PREFIX_BYTES].copy_from_slice(&prefix(space, id));
    key[PREFIX_BYTES + 1..].copy_from_slice(&entry.to_bytes());
    key
}

/// The id that ends the key of an entry, or of a pending one.
pub fn id_of_key(key: &[u8]) -> Option<StreamId> {
    key.last_chunk::<16>().map(|bytes| StreamId::from_bytes(*bytes))
}

/// Group number 0 stands for the groups' own records.
const NAMES_OF_GROUPS: u32 = 0;
/// Parts of a group.
const CONSUMER: u8 = 1;
const CONSUMER_NAME: u8 = 2;
const PENDING: u8 = 3;
const OWNED: u8 = 4;

/// Bytes in front of a group's name in its key.
pub const GROUP_NAME_AT: usize = PREFIX_BYTES + 1 + 4;
/// Bytes in front of a consumer's name in its key.
pub const CONSUMER_NAME_AT: usize = GROUP_NAME_AT + 1;

/// Keys of everything about groups of one stream. Each function replaces what is in `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupKeys {
    /// Where the stream is.
    pub space: Space,
    /// Its id.
    pub id: u64,
}

impl GroupKeys {
    fn put_group(&self, out: &mut Vec<u8>, group: u32) {
        put_element_prefix(out, self.space, self.id, GROUP);
        out.extend_from_slice(&group.to_be_bytes());
    }

    fn put_part(&self, out: &mut Vec<u8>, group: u32, part: u8) {
        self.put_group(out, group);
        out.push(part);
    }

    /// Record of a group. With an empty name: what all of them begin with.
    pub fn group(&self, out: &mut Vec<u8>, name: &[u8]) {
        self.put_group(out, NAMES_OF_GROUPS);
        out.extend_from_slice(name);
    }

    /// Record of a consumer.
    pub fn consumer(&self, out: &mut Vec<u8>, group: u32, consumer: u32) {
        self.put_part(out, group, CONSUMER);
        out.extend_from_slice(&consumer.to_be_bytes());
    }

    /// A consumer's name. With an empty one: what all of them begin with.
    pub fn consumer_name(&self, out: &mut Vec<u8>, group: u32, name: &[u8]) {
        self.put_part(out, group, CONSUMER_NAME);
        out.extend_from_slice(name);
    }

    /// A pending entry.
    pub fn pending(&self, out: &mut Vec<u8>, group: u32, entry: StreamId) {
        self.put_part(out, group, PENDING);
        out.extend_from_slice(&entry.to_bytes());
    }

    /// A pending entry of a consumer.
    pub fn owned(&self, out: &mut Vec<u8>, group: u32, consumer: u32, entry: StreamId) {
        self.put_part(out, group, OWNED);
        out.extend_from_slice(&consumer.to_be_bytes());
        out.extend_from_slice(&entry.to_bytes());
    }

    /// Bounds of the records of all groups.
    pub fn group_bounds(&self) -> (Vec<u8>, Vec<u8>) {
        self.all_of(NAMES_OF_GROUPS)
    }

    /// Bounds of the names of a group's consumers.
    pub fn consumer_name_bounds(&self, group: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.put_part(&mut start, group, CONSUMER_NAME);
        self.put_part(&mut end, group, CONSUMER_NAME + 1);
        (start, end)
    }

    /// Bounds of what is pending from one id up to another, which is included.
    pub fn pending_bounds(&self, group: u32, from: StreamId, to: StreamId) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.pending(&mut start, group, from);
        self.pending(&mut end, group, to);
        // The first key there can be behind it.
        end.push(0);
        (start, end)
    }

    /// Bounds of what a consumer has pending from one id up to another, which is included.
    pub fn owned_bounds(
        &self,
        group: u32,
        consumer: u32,
        from: StreamId,
        to: StreamId,
    ) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.owned(&mut start, group, consumer, from);
        self.owned(&mut end, group, consumer, to);
        end.push(0);
        (start, end)
    }

    /// Bounds of everything a group has but its own record.
    pub fn all_of(&self, group: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.put_group(&mut start, group);
        match group.checked_add(1) {
            Some(next) => self.put_group(&mut end, next),
            None => put_element_prefix(&mut end, self.space, self.id, GROUP + 1),
        }
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = StreamId> {
        (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| StreamId { ms, seq })
    }

    proptest! {
        #[test]
        fn ids_sort_as_their_bytes(a in id(), b in id()) {
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(StreamId::from_bytes(a.to_bytes()), a);
            prop_assert_eq!(a.next().and_then(StreamId::previous), a.next().map(|_| a));
        }

        #[test]
        fn records_round_trip(
            last_id in id(), first_id in id(), max_deleted_id in id(), numbers: [u64; 4], count: u32, name: Vec<u8>,
            known: bool,
        ) {
            let [length, entries_added, groups, ms] = numbers;
            let meta = StreamMeta {
                length, last_id, first_id, max_deleted_id, entries_added, groups, groups_numbered: count,
            };
            prop_assert_eq!(StreamMeta::decode(&meta.encode()), Some(meta));
            let group = Group {
                number: count.max(1), last_id, entries_read: known.then_some(length >> 1), pending: groups,
                consumers: ms, consumers_numbered: count, max_pending_id: first_id,
            };
            prop_assert_eq!(Group::decode(&group.encode()), Some(group));
            let consumer = Consumer { name, pending: length, seen_ms: ms, active_ms: known.then_some(ms >> 1) };
            prop_assert_eq!(Consumer::decode(&consumer.encode()), Some(consumer));
            let pending = Pending { consumer: count, delivered_ms: ms, deliveries: length };
            prop_assert_eq!(Pending::decode(&pending.encode()), Some(pending));
        }

        #[test]
        fn fields_round_trip(items: Vec<Vec<u8>>) {
            let mut value = Vec::new();
            put_fields(&mut value, items.iter().map(Vec::as_slice));
            let mut fields = Fields::new(&value).unwrap();
            for item in &items {
                prop_assert_eq!(fields.next_item(), Some(item.as_slice()));
            }
            prop_assert_eq!((fields.next_item(), fields.left()), (None, 0));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (StreamMeta::decode(&bytes), Group::decode(&bytes), Consumer::decode(&bytes));
            let _ = (Pending::decode(&bytes), id_of_key(&bytes));
            if let Some(mut fields) = Fields::new(&bytes) {
                while fields.next_item().is_some() {}
            }
        }

        #[test]
        fn parts_of_groups_do_not_mix(
            space: u32, id in 0u64..u64::MAX, group in 1u32..u32::MAX, consumer: u32, a in id(), b in id(), name: Vec<u8>,
        ) {
            let keys = GroupKeys { space, id };
            let (low, high) = keys.all_of(group);
            let mut key = Vec::new();
            keys.pending(&mut key, group, a);
            prop_assert!(low <= key && key < high);
            let (from, to) = keys.pending_bounds(group, a.min(b), a.max(b));
            prop_assert!(from <= key && key < to);
            keys.owned(&mut key, group, consumer, b);
            let (from, to) = keys.owned_bounds(group, consumer, a.min(b), a.max(b));
            prop_assert!(from <= key && key < to && low < key && key < high);
            prop_assert_eq!(id_of_key(&key), Some(b));
            keys.consumer_name(&mut key, group, &name);
            let (from, to) = keys.consumer_name_bounds(group);
            prop_assert!(from <= key && key < to && low < key && key < high);
            prop_assert_eq!(&key[CONSUMER_NAME_AT..], &name[..]);
            keys.group(&mut key, &name);
            let (from, to) = keys.group_bounds();
            prop_assert!(from <= key && key < to && key < low);
            prop_assert_eq!(&key[GROUP_NAME_AT..], &name[..]);
        }
    }

    #[test]
    fn edges_of_ids() {
        assert_eq!(StreamId { ms: 1, seq: u64::MAX }.next(), Some(StreamId { ms: 2, seq: 0 }));
        assert_eq!(StreamId { ms: 2, seq: 0 }.previous(), Some(StreamId { ms: 1, seq: u64::MAX }));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
        assert_eq!(StreamId { ms: 12, seq: 3 }.to_string(), "12-3");
    }
}
