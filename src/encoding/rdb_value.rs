//! Values of every type in Redis's dumps, as Redis 4 to 8 write them.
//!
//! A value is read whole, into few allocations ([`Items`]): one value has to fit the memory, as it does in Redis. What is
//! written is the plainest form that there is, which every version reads; only a hash whose fields expire and a stream
//! need a newer one.

use crate::encoding::listpack::{Element, Elements};
use crate::encoding::rdb::{Input, RdbError, Reader, Result, parse_double};
use crate::encoding::rdb_stream::RdbStream;
use crate::encoding::ziplist::{for_each_integer, for_each_of_ziplist, for_each_of_zipmap};
use std::collections::HashSet;

/// Types that are written.
pub mod written {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list, element by element.
    pub const LIST: u8 = 1;
    /// A set, member by member.
    pub const SET: u8 = 2;
    /// A hash, field by field.
    pub const HASH: u8 = 4;
    /// A sorted set, members with binary scores.
    pub const SORTED_SET: u8 = 5;
    /// A stream, version 2: what Redis 7.0 reads.
    pub const STREAM: u8 = 19;
    /// A hash, fields with their expiries.
    pub const HASH_WITH_EXPIRIES: u8 = 24;
    /// The version of dumps with only the plain types.
    pub const PLAIN_VERSION: u16 = 9;
    /// The version of dumps of streams.
    pub const STREAM_VERSION: u16 = 10;
    /// The version of dumps of hashes with expiries.
    pub const EXPIRIES_VERSION: u16 = 12;
}

/// What an item costs beside its bytes, to bound what is made of little.
const ITEM_BYTES: u64 = 8;

/// Byte strings one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Items {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Item `index`; empty past the end.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(index).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Appends an item.
    pub fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    fn push_element(&mut self, element: Element<'_>) {
        element.put_text(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn read_item<I: Input>(&mut self, reader: &mut Reader<I>) -> Result<()> {
        reader.spend(ITEM_BYTES)?;
        reader.string(&mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Whether no two are equal, of those at `from`, `from + step` and so on.
    fn all_differ(&self, step: usize) -> bool {
        let mut seen = HashSet::new();
        (0..self.len()).step_by(step).all(|index| seen.insert(self.get(index)))
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum RdbValue {
    /// A string.
    String(Vec<u8>),
    /// A list's elements, head first.
    List(Items),
    /// A set's members.
    Set(Items),
    /// A hash's fields and values in turn, and when each field expires, in ms since 1970: 0 for never. Without any expiry
    /// that list is empty.
    Hash(Items, Vec<u64>),
    /// A sorted set's members and their scores.
    SortedSet(Items, Vec<f64>),
    /// A stream.
    Stream(Box<RdbStream>),
}

/// How the elements of a collection lie in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Ziplist,
    Listpack,
    Zipmap,
    Integers,
}

const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// Reads a value of a type.
pub fn read_value<I: Input>(reader: &mut Reader<I>, kind: u8) -> Result<RdbValue> {
    let value = match kind {
        0 => RdbValue::String(reader.owned_string()?),
        1 => RdbValue::List(read_items(reader, 1)?),
        2 => RdbValue::Set(read_items(reader, 1)?),
        3 => read_scored(reader, Reader::text_double)?,
        4 => RdbValue::Hash(read_items(reader, 2)?, Vec::new()),
        5 => read_scored(reader, Reader::binary_double)?,
        9 => RdbValue::Hash(read_packed(reader, Packing::Zipmap)?, Vec::new()),
        10 => RdbValue::List(read_packed(reader, Packing::Ziplist)?),
        11 => RdbValue::Set(read_packed(reader, Packing::Integers)?),
        12 => with_scores(&read_packed(reader, Packing::Ziplist)?)?,
        13 => RdbValue::Hash(read_packed(reader, Packing::Ziplist)?, Vec::new()),
        14 => read_quicklist(reader, false)?,
        15 => RdbValue::Stream(Box::new(RdbStream::read(reader, 1)?)),
        16 => RdbValue::Hash(read_packed(reader, Packing::Listpack)?, Vec::new()),
        17 => with_scores(&read_packed(reader, Packing::Listpack)?)?,
        18 => read_quicklist(reader, true)?,
        19 => RdbValue::Stream(Box::new(RdbStream::read(reader, 2)?)),
        20 => RdbValue::Set(read_packed(reader, Packing::Listpack)?),
        21 => RdbValue::Stream(Box::new(RdbStream::read(reader, 3)?)),
        22 => read_expiring_hash(reader, false)?,
        24 => read_expiring_hash(reader, true)?,
        23 | 25 => {
            if kind == 25 {
                // The earliest of the expiries, which are all there.
                reader.u64()?;
            }
            with_expiries(&read_packed(reader, Packing::Listpack)?)?
        }
        6 | 7 => return Err(RdbError::Damaged("values of modules are not known here")),
        _ => return Err(RdbError::Damaged("type of a value")),
    };
    check(&value)?;
    Ok(value)
}

/// What must hold of any value.
fn check(value: &RdbValue) -> Result<()> {
    let (items, step) = match value {
        RdbValue::String(_) | RdbValue::Stream(_) => return Ok(()),
        RdbValue::List(items) if items.is_empty() => return Err(RdbError::Empty),
        RdbValue::List(_) => return Ok(()),
        RdbValue::Set(items) | RdbValue::SortedSet(items, _) => (items, 1),
        RdbValue::Hash(items, _) => (items, 2),
    };
    if items.is_empty() {
        return Err(RdbError::Empty);
    }
    if !items.len().is_multiple_of(step) || !items.all_differ(step) {
        return Err(RdbError::Damaged("elements of a collection"));
    }
    match value {
        RdbValue::SortedSet(_, scores) if scores.iter().any(|score| score.is_nan()) => {
            Err(RdbError::Damaged("score that is no number"))
        }
        _ => Ok(()),
    }
}

fn read_items<I: Input>(reader: &mut Reader<I>, each: usize) -> Result<Items> {
    let count = reader.length()?;
    let mut items = Items::default();
    for _ in 0..count {
        for _ in 0..each {
            items.read_item(reader)?;
        }
    }
    Ok(items)
}

fn read_scored<I: Input>(
    reader: &mut Reader<I>,
    score: impl Fn(&mut Reader<I>) -> Result<f64>,
) -> Result<RdbValue> {
    let count = reader.length()?;
    let (mut members, mut scores) = (Items::default(), Vec::new());
    for _ in 0..count {
        members.read_item(reader)?;
        scores.push(score(reader)?);
    }
    Ok(RdbValue::SortedSet(members, scores))
}

fn unpack(bytes: &[u8], packing: Packing, items: &mut Items) -> Option<()> {
    match packing {
        Packing::Ziplist => for_each_of_ziplist(bytes, |element| items.push_element(element)),
        Packing::Listpack => {
            let mut elements = Elements::new(bytes)?;
            elements.by_ref().for_each(|element| items.push_element(element));
            elements.finish()
        }
        Packing::Zipmap => for_each_of_zipmap(bytes, |field, value| {
            items.push(field);
            items.push(value);
        }),
        Packing::Integers => for_each_integer(bytes, |value| items.push_element(Element::Integer(value))),
    }
}

fn read_packed<I: Input>(reader: &mut Reader<I>, packing: Packing) -> Result<Items> {
    let packed = reader.owned_string()?;
    let mut items = Items::default();
    unpack(&packed, packing, &mut items).ok_or(RdbError::Damaged("packed elements"))?;
    reader.spend(items.bytes() as u64 + items.len() as u64 * ITEM_BYTES)?;
    Ok(items)
}

fn read_quicklist<I: Input>(reader: &mut Reader<I>, with_plain_nodes: bool) -> Result<RdbValue> {
    let nodes = reader.length()?;
    let mut items = Items::default();
    let mut packed = Vec::new();
    for _ in 0..nodes {
        let packing = match with_plain_nodes {
            false => Packing::Ziplist,
            true => match reader.length()? {
                NODE_PLAIN => {
                    items.read_item(reader)?;
                    continue;
                }
                NODE_PACKED => Packing::Listpack,
                _ => return Err(RdbError::Damaged("node of a list")),
            },
        };
        packed.clear();
        reader.string(&mut packed)?;
        let before = (items.bytes(), items.len());
        unpack(&packed, packing, &mut items).ok_or(RdbError::Damaged("node of a list"))?;
        let (bytes, count) = (items.bytes() - before.0, items.len() - before.1);
        reader.spend(bytes as u64 + count as u64 * ITEM_BYTES)?;
    }
    Ok(RdbValue::List(items))
}

/// Members and the texts of their scores in turn.
fn with_scores(items: &Items) -> Result<RdbValue> {
    let (mut members, mut scores) = (Items::default(), Vec::new());
    if !items.len().is_multiple_of(2) {
        return Err(RdbError::Damaged("elements of a collection"));
    }
    for index in (0..items.len()).step_by(2) {
        members.push(items.get(index));
        scores.push(parse_double(items.get(index + 1)).ok_or(RdbError::Damaged("score"))?);
    }
    Ok(RdbValue::SortedSet(members, scores))
}

/// Fields, values and expiries in turn.
fn with_expiries(items: &Items) -> Result<RdbValue> {
    let (mut pairs, mut expiries) = (Items::default(), Vec::new());
    if !items.len().is_multiple_of(3) {
        return Err(RdbError::Damaged("elements of a collection"));
    }
    for index in (0..items.len()).step_by(3) {
        pairs.push(items.get(index));
        pairs.push(items.get(index + 1));
        let expiry = crate::base::number::parse_u64(items.get(index + 2));
        let expiry = expiry.filter(|expiry| *expiry <= FIELD_EXPIRE_MS_MAX);
        expiries.push(expiry.ok_or(RdbError::Damaged("expiry of a field"))?);
    }
    Ok(RdbValue::Hash(pairs, expiries))
}

/// The last moment at which a field may expire that Redis reads, in ms since 1970. (Its commands set none beyond 46 bits.)
const FIELD_EXPIRE_MS_MAX: u64 = (1 << 48) - 2;

/// Expiry, field and value of each; with `relative` expiries count from the earliest, and from 1.
fn read_expiring_hash<I: Input>(reader: &mut Reader<I>, relative: bool) -> Result<RdbValue> {
    let earliest = if relative { reader.u64()? } else { 0 };
    let count = reader.length()?;
    let (mut pairs, mut expiries) = (Items::default(), Vec::new());
    for _ in 0..count {
        let expiry = match reader.length()? {
            0 => 0,
            expiry if relative => earliest.saturating_add(expiry - 1),
            expiry => expiry,
        };
        if expiry > FIELD_EXPIRE_MS_MAX {
            return Err(RdbError::Damaged("expiry of a field"));
        }
        expiries.push(expiry);
        pairs.read_item(reader)?;
        pairs.read_item(reader)?;
    }
    Ok(RdbValue::Hash(pairs, expiries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::listpack::ListpackWriter;
    use crate::encoding::rdb::Writer;
    use proptest::prelude::*;

    fn items(texts: &[&str]) -> Items {
        let mut items = Items::default();
        texts.iter().for_each(|text| items.push(text.as_bytes()));
        items
    }

    fn read(kind: u8, write: impl FnOnce(&mut Writer)) -> Result<RdbValue> {
        let mut writer = Writer::default();
        write(&mut writer);
        let bytes = writer.into_bytes();
        read_value(&mut Reader::new(&bytes[..], 1 << 20), kind)
    }

    fn listpack(texts: &[&str]) -> Vec<u8> {
        let mut writer = ListpackWriter::default();
        texts.iter().for_each(|text| writer.put_bytes(text.as_bytes()));
        writer.finish()
    }

    #[test]
    fn plain_and_packed_forms() {
        let plain = |texts: &'static [&str]| {
            move |writer: &mut Writer| {
                writer.length(texts.len() as u64);
                texts.iter().for_each(|text| writer.string(text.as_bytes()));
            }
        };
        let packed = |texts: &'static [&str]| move |writer: &mut Writer| writer.string(&listpack(texts));
        assert_eq!(read(1, plain(&["a", "a"])).unwrap(), RdbValue::List(items(&["a", "a"])));
        assert_eq!(read(20, packed(&["a", "1"])).unwrap(), RdbValue::Set(items(&["a", "1"])));
        assert!(read(20, packed(&["a", "a"])).is_err());
        assert!(matches!(read(20, packed(&[])), Err(RdbError::Empty)));
        assert_eq!(read(16, packed(&["a", "1"])).unwrap(), RdbValue::Hash(items(&["a", "1"]), Vec::new()));
        assert!(read(16, packed(&["a", "1", "b"])).is_err());
        assert_eq!(
            read(17, packed(&["a", "1", "b", "2.5"])).unwrap(),
            RdbValue::SortedSet(items(&["a", "b"]), vec![1.0, 2.5])
        );
        assert!(read(17, packed(&["a", "nan"])).is_err());
        let quicklist = |writer: &mut Writer| {
            writer.length(2);
            writer.length(NODE_PLAIN);
            writer.string(b"whole");
            writer.length(NODE_PACKED);
            writer.string(&listpack(&["x", "7"]));
        };
        assert_eq!(read(18, quicklist).unwrap(), RdbValue::List(items(&["whole", "x", "7"])));
        let expiring = |writer: &mut Writer| {
            writer.u64(1000);
            writer.length(2);
            writer.length(0);
            writer.string(b"f");
            writer.string(b"v");
            writer.length(6);
            writer.string(b"g");
            writer.string(b"w");
        };
        let pairs = items(&["f", "v", "g", "w"]);
        assert_eq!(read(24, expiring).unwrap(), RdbValue::Hash(pairs.clone(), vec![0, 1005]));
        let expiring = |writer: &mut Writer| {
            writer.u64(1000);
            writer.string(&listpack(&["f", "v", "0", "g", "w", "1005"]));
        };
        assert_eq!(read(25, expiring).unwrap(), RdbValue::Hash(pairs, vec![0, 1005]));
    }

    #[test]
    fn fields_expire_while_redis_can_tell_when() {
        let relative = |behind: u64| {
            move |writer: &mut Writer| {
                writer.u64(FIELD_EXPIRE_MS_MAX);
                writer.length(1);
                writer.length(behind + 1);
                writer.string(b"f");
                writer.string(b"v");
            }
        };
        let pairs = items(&["f", "v"]);
        assert_eq!(read(24, relative(0)).unwrap(), RdbValue::Hash(pairs.clone(), vec![FIELD_EXPIRE_MS_MAX]));
        let packed = |expiry: u64| {
            move |writer: &mut Writer| {
                writer.u64(1000);
                writer.string(&listpack(&["f", "v", &expiry.to_string()]));
            }
        };
        assert_eq!(
            read(25, packed(FIELD_EXPIRE_MS_MAX)).unwrap(),
            RdbValue::Hash(pairs, vec![FIELD_EXPIRE_MS_MAX])
        );
        let refused =
            [read(24, relative(1)), read(25, packed(FIELD_EXPIRE_MS_MAX + 1)), read(25, packed(u64::MAX))];
        assert!(refused.iter().all(|read| matches!(read, Err(RdbError::Damaged(_)))));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>, kind in 0u8..30) {
            let _ = read_value(&mut Reader::new(&bytes[..], 1 << 16), kind);
            let mut writer = Writer::default();
            writer.string(&bytes);
            let framed = writer.into_bytes();
            let _ = read_value(&mut Reader::new(&framed[..], 1 << 16), kind);
        }
    }
}
