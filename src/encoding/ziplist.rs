//! The packed sequences of older dumps of Redis: ziplists, zipmaps and sets of integers. Only read.
//!
//! ```text
//! ziplist   bytes u32 LE | offset of last u32 | elements u16 | element | .. | 0xff
//!           element = length of the one before, 1 byte, or 0xfe and u32 LE | encoding | data
//!           00llllll  01llllll l8  10...... l32 BE  bytes      0xfe i8  0xc0 i16  0xf0 i24  0xd0 i32  0xe0 i64
//!                                                               0xf1..0xfd  0..12
//! zipmap    elements u8 (254: many) | length | field | length | free u8 | value | free bytes | .. | 0xff
//!           length = 1 byte, or 0xfe and u32 LE
//! integers  bytes of one u32 LE (2, 4, 8) | count u32 LE | ascending integers, LE
//! ```

use crate::encoding::listpack::Element;

const END: u8 = 0xff;

/// Calls `f` with each element of a ziplist. `None` if the bytes are not one.
pub fn for_each_of_ziplist(bytes: &[u8], mut f: impl FnMut(Element<'_>)) -> Option<()> {
    let (total, rest) = bytes.split_first_chunk::<4>()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    if u32::from_le_bytes(*total) as usize != bytes.len() {
        return None;
    }
    let announced = u16::from_le_bytes(*count);
    let (mut seen, mut before) = (0u64, 0);
    loop {
        let (&first, behind) = rest.split_first()?;
        if first == END {
            let counted = announced == u16::MAX || u64::from(announced) == seen;
            return (behind.is_empty() && counted).then_some(());
        }
        let (length_before, behind) = match first {
            0xfe => {
                let (length, behind) = behind.split_first_chunk::<4>()?;
                (u32::from_le_bytes(*length) as usize, behind)
            }
            _ => (usize::from(first), behind),
        };
        if length_before != before {
            return None;
        }
        let (element, behind) = ziplist_element(behind)?;
        before = rest.len() - behind.len();
        f(element);
        seen += 1;
        rest = behind;
    }
}

fn ziplist_element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&encoding, rest) = bytes.split_first()?;
    let (length, rest) = match encoding >> 6 {
        0 => (usize::from(encoding & 0x3f), rest),
        1 => {
            let (&low, rest) = rest.split_first()?;
            (usize::from(encoding & 0x3f) << 8 | usize::from(low), rest)
        }
        2 => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_be_bytes(*length) as usize, rest)
        }
        _ => return ziplist_integer(encoding, rest),
    };
    let (data, behind) = rest.split_at_checked(length)?;
    Some((Element::Bytes(data), behind))
}

fn ziplist_integer(encoding: u8, rest: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let size = match encoding {
        0xc0 => 2,
        0xd0 => 4,
        0xe0 => 8,
        0xf0 => 3,
        0xfe => 1,
        0xf1..=0xfd => return Some((Element::Integer(i64::from(encoding & 0x0f) - 1), rest)),
        _ => return None,
    };
    let (data, behind) = rest.split_at_checked(size)?;
    let mut wide = [0; 8];
    wide[8 - size..].copy_from_slice(data);
    Some((Element::Integer(i64::from_le_bytes(wide) >> (64 - size * 8)), behind))
}

/// Calls `f` with each field and value of a zipmap. `None` if the bytes are not one.
pub fn for_each_of_zipmap(bytes: &[u8], mut f: impl FnMut(&[u8], &[u8])) -> Option<()> {
    fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let (&first, rest) = bytes.split_first()?;
        match first {
            0xff => None,
            0xfe => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                Some((u32::from_le_bytes(*length) as usize, rest))
            }
            _ => Some((usize::from(first), rest)),
        }
    }
    let (&announced, mut rest) = bytes.split_first()?;
    let mut seen = 0u64;
    while rest != [END] {
        let (field_length, behind) = length(rest)?;
        let (field, behind) = behind.split_at_checked(field_length)?;
        let (value_length, behind) = length(behind)?;
        let (&free, behind) = behind.split_first()?;
        let (value, behind) = behind.split_at_checked(value_length)?;
        rest = behind.get(usize::from(free)..)?;
        f(field, value);
        seen += 1;
    }
    (announced == 0xfe || u64::from(announced) == seen).then_some(())
}

/// Calls `f` with each integer of a set of them. `None` if the bytes are not one.
pub fn for_each_integer(bytes: &[u8], mut f: impl FnMut(i64)) -> Option<()> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let size = u32::from_le_bytes(*size) as usize;
    let count = u32::from_le_bytes(*count) as usize;
    if !matches!(size, 2 | 4 | 8) || count.checked_mul(size) != Some(rest.len()) {
        return None;
    }
    let mut before = None;
    for data in rest.chunks_exact(size) {
        let mut wide = [0; 8];
        wide[8 - size..].copy_from_slice(data);
        let value = i64::from_le_bytes(wide) >> (64 - size * 8);
        if before.is_some_and(|before| before >= value) {
            return None;
        }
        before = Some(value);
        f(value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ziplist() {
        let elements: &[&[u8]] = &[
            &[0, 5, b'h', b'e', b'l', b'l', b'o'],
            &[7, 0xf3],
            &[2, 0xfe, 0xff],
            &[3, 0xc0, 0x00, 0x80],
            &[4, 0xf0, 1, 0, 0x80],
            &[5, 0x40, 2, b'h', b'i'],
            &[5, 0x80, 0, 0, 0, 1, b'x'],
        ];
        let body = elements.concat();
        let mut bytes = (body.len() as u32 + 11).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(elements.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.push(END);
        let mut texts = Vec::new();
        for_each_of_ziplist(&bytes, |element| texts.push(String::from_utf8(element.text()).unwrap()))
            .unwrap();
        assert_eq!(texts, ["hello", "2", "-1", "-32768", "-8388607", "hi", "x"]);
        let length = bytes.len();
        assert_eq!(for_each_of_ziplist(&bytes[..length - 1], |_| ()), None);
    }

    #[test]
    fn a_zipmap_and_integers() {
        let mut pairs = Vec::new();
        let bytes = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        for_each_of_zipmap(bytes, |field, value| pairs.push([field, value].concat())).unwrap();
        assert_eq!(pairs, [b"foobar".to_vec(), b"helloworld".to_vec()]);
        let mut numbers = Vec::new();
        for_each_integer(b"\x02\0\0\0\x03\0\0\0\xff\xff\x01\0\xff\x7f", |value| numbers.push(value)).unwrap();
        assert_eq!(numbers, [-1, 1, 32767]);
        assert_eq!(for_each_integer(b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0", |_| ()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = for_each_of_zipmap(&bytes, |_, _| ());
            let _ = for_each_integer(&bytes, |_| ());
            let _ = for_each_of_ziplist(&bytes, |_| ());
            if bytes.len() >= 11 {
                let total = bytes.len() as u32;
                bytes[..4].copy_from_slice(&total.to_le_bytes());
                let _ = for_each_of_ziplist(&bytes, |_| ());
            }
        }
    }
}
