//! Listpacks, the packed sequences in Redis's dumps.
//!
//! ```text
//! bytes u32 LE | elements u16 LE (65535: more than that) | element | .. | 0xff
//!
//! element = encoding and data | its length in 7-bit groups, high ones first, all but the first with the top bit
//!
//! 0nnnnnnn            0..127                       10llllll            up to 63 bytes
//! 110nnnnn n8         13 bits, signed              1110llll l8         up to 4095 bytes
//! 0xf1 0xf2 0xf3 0xf4 16, 24, 32, 64 bits, LE      0xf0 l32 LE         more bytes
//! ```

use crate::base::number::{IntegerText, parse_i64};

const HEADER_BYTES: usize = 6;
const END: u8 = 0xff;

/// An element: a number, or bytes that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A number, which stands for its text.
    Integer(i64),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl Element<'_> {
    /// Appends the bytes, or the number's text.
    pub fn put_text(&self, out: &mut Vec<u8>) {
        match self {
            Element::Integer(value) => out.extend_from_slice(IntegerText::new(*value).as_bytes()),
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Its bytes, or the number's text.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_text(&mut out);
        out
    }

    /// The number, also one that lies as text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Element::Integer(value) => Some(*value),
            Element::Bytes(bytes) => parse_i64(bytes),
        }
    }
}

/// Walks a listpack. After bytes that are no element it ends, and [`Elements::finish`] says so.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    announced: u16,
    seen: u64,
    damaged: bool,
}

impl<'a> Elements<'a> {
    /// The elements of `bytes`. `None` if its frame is wrong.
    pub fn new(bytes: &'a [u8]) -> Option<Elements<'a>> {
        let (total, rest) = bytes.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<2>()?;
        let framed = u32::from_le_bytes(*total) as usize == bytes.len() && rest.last() == Some(&END);
        let rest = &rest[..rest.len().checked_sub(1)?];
        framed.then_some(Elements { rest, announced: u16::from_le_bytes(*count), seen: 0, damaged: false })
    }

    /// Whether all of it was walked over, and was what it announced.
    pub fn finish(&self) -> Option<()> {
        let counted = self.announced == u16::MAX || u64::from(self.announced) == self.seen;
        (!self.damaged && self.rest.is_empty() && counted).then_some(())
    }

    fn step(&mut self) -> Option<Element<'a>> {
        let (element, bytes) = read_element(self.rest)?;
        let rest = self.rest.get(bytes..)?;
        let mut length = Opening::default();
        length.put_back_length(bytes);
        self.rest = rest.strip_prefix(length.as_bytes())?;
        self.seen += 1;
        Some(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let element = self.step();
        if element.is_none() {
            self.rest = &[];
            self.damaged = true;
        }
        element
    }
}

/// Reads encoding and data of an element, and says how many bytes that was.
fn read_element(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let data = |length: usize, skipped: usize| {
        let data = rest.get(skipped..skipped.checked_add(length)?)?;
        Some((Element::Bytes(data), 1 + skipped + length))
    };
    let integer = |size: usize| {
        let mut wide = [0; 8];
        wide[8 - size..].copy_from_slice(rest.get(..size)?);
        // The sign comes down from the top.
        Some((Element::Integer(i64::from_le_bytes(wide) >> (64 - size * 8)), 1 + size))
    };
    match first {
        0x00..0x80 => Some((Element::Integer(first.into()), 1)),
        0x80..0xc0 => data(usize::from(first & 0x3f), 0),
        0xc0..0xe0 => {
            let wide = i64::from(first & 0x1f) << 8 | i64::from(*rest.first()?);
            Some((Element::Integer(wide << 51 >> 51), 2))
        }
        0xe0..0xf0 => data(usize::from(first & 0x0f) << 8 | usize::from(*rest.first()?), 1),
        0xf0 => data(u32::from_le_bytes(*rest.first_chunk()?) as usize, 4),
        0xf1 => integer(2),
        0xf2 => integer(3),
        0xf3 => integer(4),
        0xf4 => integer(8),
        _ => None,
    }
}

/// What stands in front of data, or behind it: a few bytes.
#[derive(Default)]
struct Opening {
    bytes: [u8; 9],
    len: usize,
}

impl Opening {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The length of an element, as it stands behind it.
    fn put_back_length(&mut self, length: usize) {
        // Redis takes one byte more than needed for the last length of each size but the first.
        let groups = match length {
            0..=127 => 1,
            128..16383 => 2,
            16383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        };
        for group in (0..groups).rev() {
            let low = (length >> (7 * group)) as u8 & 0x7f;
            self.put(&[if group + 1 == groups { low } else { low | 0x80 }]);
        }
    }
}

/// Writes a listpack.
#[derive(Clone, Debug)]
pub struct ListpackWriter {
    bytes: Vec<u8>,
    elements: u64,
}

impl Default for ListpackWriter {
    fn default() -> Self {
        ListpackWriter { bytes: vec![0; HEADER_BYTES], elements: 0 }
    }
}

impl ListpackWriter {
    /// How many bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// Appends a number.
    pub fn put_integer(&mut self, value: i64) {
        let mut opening = Opening::default();
        let wide = value.to_le_bytes();
        if (0..128).contains(&value) {
            opening.put(&[value as u8]);
        } else if (-4096..4096).contains(&value) {
            opening.put(&[0xc0 | (value >> 8) as u8 & 0x1f, value as u8]);
        } else if i16::try_from(value).is_ok() {
            opening.put(&[0xf1, wide[0], wide[1]]);
        } else if (-(1 << 23)..1 << 23).contains(&value) {
            opening.put(&[0xf2, wide[0], wide[1], wide[2]]);
        } else if i32::try_from(value).is_ok() {
            opening.put(&[0xf3, wide[0], wide[1], wide[2], wide[3]]);
        } else {
            opening.put(&[0xf4]);
            opening.put(&wide);
        }
        self.put(&opening, &[]);
    }

    /// Appends bytes; a number's text as a number.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        if let Some(value) = parse_i64(bytes) {
            return self.put_integer(value);
        }
        let mut opening = Opening::default();
        match bytes.len() {
            length @ 0..64 => opening.put(&[0x80 | length as u8]),
            length @ 64..4096 => opening.put(&[0xe0 | (length >> 8) as u8, length as u8]),
            length => {
                opening.put(&[0xf0]);
                opening.put(&(length as u32).to_le_bytes());
            }
        }
        self.put(&opening, bytes);
    }

    fn put(&mut self, opening: &Opening, data: &[u8]) {
        self.bytes.extend_from_slice(opening.as_bytes());
        self.bytes.extend_from_slice(data);
        let mut length = Opening::default();
        length.put_back_length(opening.len + data.len());
        self.bytes.extend_from_slice(length.as_bytes());
        self.elements += 1;
    }

    /// The whole listpack.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let total = self.bytes.len() as u32;
        let count = u16::try_from(self.elements).unwrap_or(u16::MAX);
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(items: Vec<Vec<u8>>, numbers: Vec<i64>, shift in 0u32..64, long in 0usize..20_000) {
            let mut texts = items;
            texts.extend(numbers.iter().map(|number| (number >> shift).to_string().into_bytes()));
            texts.push(vec![b'x'; long]);
            let mut writer = ListpackWriter::default();
            texts.iter().for_each(|text| writer.put_bytes(text));
            let bytes = writer.finish();
            let mut elements = Elements::new(&bytes).unwrap();
            prop_assert_eq!(elements.by_ref().map(|element| element.text()).collect::<Vec<_>>(), texts);
            prop_assert_eq!(elements.finish(), Some(()));
        }

        #[test]
        fn any_bytes_never_panic(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
            if let Some(mut elements) = Elements::new(&bytes) {
                elements.by_ref().for_each(drop);
                let _ = elements.finish();
            }
            let mut writer = ListpackWriter::default();
            bytes.chunks(5).for_each(|piece| writer.put_bytes(piece));
            bytes = writer.finish();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Some(mut elements) = Elements::new(&bytes) {
                elements.by_ref().for_each(drop);
                let _ = elements.finish();
            }
        }
    }

    #[test]
    fn edges_of_numbers() {
        let edges =
            [0, 127, 128, -1, 4095, -4096, 4096, -4097, 32767, -32768, 32768, (1 << 23) - 1, -(1 << 23)];
        let wide = [1 << 23, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 31, i64::MAX, i64::MIN];
        let mut writer = ListpackWriter::default();
        edges.iter().chain(&wide).for_each(|number| writer.put_integer(*number));
        let bytes = writer.finish();
        let read: Vec<_> = Elements::new(&bytes).unwrap().filter_map(|element| element.integer()).collect();
        assert_eq!(read, [&edges[..], &wide[..]].concat());
    }
}
