//! The pieces of Redis's dump format (RDB): lengths, strings, doubles; and the frame of one dumped value.
//!
//! ```text
//! length    00llllll | 01llllll l8 | 0x80 l32 BE | 0x81 l64 BE          6, 14, 32, 64 bits
//! string    length | bytes
//!           0xc0 i8 | 0xc1 i16 LE | 0xc2 i32 LE                         stands for the number's text
//!           0xc3 | length packed | length | LZF
//! dump      type u8 | value | version u16 LE | CRC-64 u64 LE of all in front of it
//! ```
//!
//! Bytes come from an [`Input`]: a slice, or a file that is read piece by piece. No announced length sizes an allocation, and
//! what a reader gives out in all is bounded, since compression and packing make much of little.

use crate::base::crc64::crc64;
use crate::base::lzf;
use crate::base::number::{IntegerText, parse_i64};

/// The newest version that is read: that of Redis 8.
pub const VERSION_MAX: u16 = 12;
/// What is read in one step.
const STEP_BYTES: usize = 64 << 10;
/// Strings from this length on are compressed.
const COMPRESSED_BYTES_MIN: usize = 21;
/// Longer ones are not, as it takes its time.
const COMPRESSED_BYTES_MAX: usize = 16 << 20;

/// Why something could not be read.
#[derive(Debug)]
pub enum RdbError {
    /// The bytes are not what they should be.
    Damaged(&'static str),
    /// A collection without elements, which Redis does not keep.
    Empty,
    /// The file could not be read.
    Io(haypile_lsm::Error),
}

impl From<haypile_lsm::Error> for RdbError {
    fn from(error: haypile_lsm::Error) -> RdbError {
        RdbError::Io(error)
    }
}

impl std::fmt::Display for RdbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RdbError::Damaged(what) => write!(f, "damaged: {what}"),
            RdbError::Empty => f.write_str("a collection without elements"),
            RdbError::Io(error) => error.fmt(f),
        }
    }
}

/// What comes of reading.
pub type Result<T> = std::result::Result<T, RdbError>;

/// Where bytes come from.
pub trait Input {
    /// Reads exactly this many.
    fn read(&mut self, out: &mut [u8]) -> Result<()>;
}

impl Input for &[u8] {
    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let (taken, rest) = self.split_at_checked(out.len()).ok_or(RdbError::Damaged("it ends too early"))?;
        out.copy_from_slice(taken);
        *self = rest;
        Ok(())
    }
}

/// A length, or the way a string is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Plain(u64),
    Encoded(u8),
}

/// Reads pieces.
#[derive(Debug)]
pub struct Reader<I> {
    input: I,
    /// How many bytes it may still give out.
    left: u64,
    packed: Vec<u8>,
}

impl<I: Input> Reader<I> {
    /// Reads from `input`, and gives out `most` bytes before [`Reader::allow`] is called again.
    pub fn new(input: I, most: u64) -> Reader<I> {
        Reader { input, left: most, packed: Vec::new() }
    }

    /// Where the bytes come from.
    pub fn input(&mut self) -> &mut I {
        &mut self.input
    }

    /// Gives out so many bytes from here on.
    pub fn allow(&mut self, most: u64) {
        self.left = most;
    }

    /// Books what is given out.
    pub fn spend(&mut self, bytes: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(RdbError::Damaged("it is too large"))?;
        Ok(())
    }

    /// A few bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.input.read(&mut out)?;
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A number of 64 bits, low byte first.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn any_length(&mut self) -> Result<Length> {
        let first = self.u8()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(first.into()),
            (1, _) => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.u8()?)),
            (2, 0x80) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (2, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (3, _) => Length::Encoded(first & 0x3f),
            _ => return Err(RdbError::Damaged("length")),
        })
    }

    /// A length or any other number written as one.
    pub fn length(&mut self) -> Result<u64> {
        match self.any_length()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(RdbError::Damaged("length")),
        }
    }

    /// Appends so many bytes to `out`.
    fn bytes(&mut self, mut count: u64, out: &mut Vec<u8>) -> Result<()> {
        self.spend(count)?;
        while count > 0 {
            let step = count.min(STEP_BYTES as u64) as usize;
            let start = out.len();
            out.resize(start + step, 0);
            self.input.read(&mut out[start..])?;
            count -= step as u64;
        }
        Ok(())
    }

    /// Appends a string to `out`.
    pub fn string(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let encoding = match self.any_length()? {
            Length::Plain(length) => return self.bytes(length, out),
            Length::Encoded(encoding) => encoding,
        };
        let number = match encoding {
            0 => i64::from(i8::from_le_bytes(self.array()?)),
            1 => i64::from(i16::from_le_bytes(self.array()?)),
            2 => i64::from(i32::from_le_bytes(self.array()?)),
            3 => return self.compressed(out),
            _ => return Err(RdbError::Damaged("encoding of a string")),
        };
        let text = IntegerText::new(number);
        self.spend(text.as_bytes().len() as u64)?;
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn compressed(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let (packed_length, length) = (self.length()?, self.length()?);
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        self.bytes(packed_length, &mut packed)?;
        self.spend(length)?;
        let length = usize::try_from(length).map_err(|_| RdbError::Damaged("length"))?;
        let done = lzf::decompress(&packed, length, out);
        if packed.capacity() <= STEP_BYTES {
            self.packed = packed;
        }
        done.ok_or(RdbError::Damaged("compressed string"))
    }

    /// A string of its own.
    pub fn owned_string(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.string(&mut out)?;
        Ok(out)
    }

    /// A double as eight bytes.
    pub fn binary_double(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A double as text, as before version 8.
    pub fn text_double(&mut self) -> Result<f64> {
        let length = match self.u8()? {
            255 => return Ok(f64::NEG_INFINITY),
            254 => return Ok(f64::INFINITY),
            253 => return Ok(f64::NAN),
            length => usize::from(length),
        };
        let mut text = [0; 256];
        self.input.read(&mut text[..length])?;
        parse_double(&text[..length]).ok_or(RdbError::Damaged("double"))
    }
}

/// Reads the text of a double.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes pieces.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A number as it is.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A number of 64 bits, low byte first.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A length, or any other number written as one.
    pub fn length(&mut self, length: u64) {
        match length {
            0..64 => self.u8(length as u8),
            64..16384 => self.raw(&[0x40 | (length >> 8) as u8, length as u8]),
            16384..=0xffff_ffff => {
                self.u8(0x80);
                self.raw(&(length as u32).to_be_bytes());
            }
            _ => {
                self.u8(0x81);
                self.raw(&length.to_be_bytes());
            }
        }
    }

    /// A string; shorter as a number or compressed where that is possible.
    pub fn string(&mut self, bytes: &[u8]) {
        if let Some(value) = parse_i64(bytes) {
            if let Ok(value) = i8::try_from(value) {
                return self.raw(&[0xc0, value as u8]);
            }
            if let Ok(value) = i16::try_from(value) {
                self.u8(0xc1);
                return self.raw(&value.to_le_bytes());
            }
            if let Ok(value) = i32::try_from(value) {
                self.u8(0xc2);
                return self.raw(&value.to_le_bytes());
            }
        }
        if (COMPRESSED_BYTES_MIN..COMPRESSED_BYTES_MAX).contains(&bytes.len()) {
            let mut packed = Vec::new();
            if lzf::compress(bytes, &mut packed) && packed.len() + 4 < bytes.len() {
                self.u8(0xc3);
                self.length(packed.len() as u64);
                self.length(bytes.len() as u64);
                return self.raw(&packed);
            }
        }
        self.length(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A double as eight bytes.
    pub fn binary_double(&mut self, value: f64) {
        self.raw(&value.to_le_bytes());
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// The bytes with the frame of a dumped value behind them.
    pub fn into_dump(mut self, version: u16) -> Vec<u8> {
        self.raw(&version.to_le_bytes());
        let crc = crc64(0, &self.out);
        self.u64(crc);
        self.out
    }
}

/// Takes the frame off a dumped value: type and value are left. `None` if it is of a newer version or its checksum is wrong.
pub fn open_dump(dump: &[u8]) -> Option<&[u8]> {
    let (framed, crc) = dump.split_last_chunk::<8>()?;
    let (value, version) = framed.split_last_chunk::<2>()?;
    let known = u16::from_le_bytes(*version) <= VERSION_MAX;
    (known && crc64(0, framed) == u64::from_le_bytes(*crc)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_round_trip(lengths: Vec<u64>, shift in 0u32..64, strings: Vec<Vec<u8>>, number: i64, byte: u8, count in 0usize..500) {
            let mut writer = Writer::default();
            let mut strings = strings;
            strings.push((number >> shift).to_string().into_bytes());
            strings.push(vec![byte; count]);
            lengths.iter().for_each(|length| writer.length(length >> shift));
            strings.iter().for_each(|string| writer.string(string));
            let bytes = writer.into_dump(9);
            let mut reader = Reader::new(open_dump(&bytes).unwrap(), 1 << 20);
            for length in lengths {
                prop_assert_eq!(reader.length().unwrap(), length >> shift);
            }
            for string in strings {
                prop_assert_eq!(reader.owned_string().unwrap(), string);
            }
            prop_assert!(reader.u8().is_err());
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let _ = open_dump(&bytes);
            let mut reader = Reader::new(&bytes[..], 1 << 16);
            while reader.owned_string().is_ok() {}
            let mut reader = Reader::new(&bytes[..], 1 << 16);
            let _ = reader.text_double();
        }

        #[test]
        fn a_changed_dump_is_refused(at: prop::sample::Index, bit in 0u32..8) {
            let mut writer = Writer::default();
            writer.string(b"some string that is dumped");
            let mut dump = writer.into_dump(9);
            let at = at.index(dump.len());
            dump[at] ^= 1 << bit;
            prop_assert!(open_dump(&dump).is_none());
        }
    }

    #[test]
    fn too_much_is_refused() {
        let mut writer = Writer::default();
        writer.string(&vec![b'a'; 100_000]);
        let bytes = writer.into_bytes();
        assert!(bytes.len() < 2000);
        assert!(Reader::new(&bytes[..], 50_000).owned_string().is_err());
        assert_eq!(Reader::new(&bytes[..], 200_000).owned_string().unwrap().len(), 100_000);
    }
}
