//! Builds the payload of a block of entries; data and index blocks have the same layout.
//!
//! ```text
//! block  = header | key offsets | value offsets | trailer deltas | common prefix | key suffixes | values
//! header = count u32 | prefix length u32 | suffixes length u32 | values length u32 | trailer base u64
//!        | key offset width u8 | value offset width u8 | trailer delta width u8 | 0 * 5        (32 bytes)
//! ```
//!
//! Offsets are `count + 1` numbers of 2 or 4 bytes into their heap, so entry `i` is `[offset i, offset i + 1)`. The common
//! prefix of all keys is stored once. Trailer `i` is `base + delta i`, with deltas of 0, 1, 2, 4 or 8 bytes: where all
//! trailers are the same (sequence 0 and Put for most of the bottom level) the column takes no room at all. There is no
//! entry-to-entry delta coding: every key and value can be found and compared in place.

use crate::base::coding::{put_u32, put_u64};

/// Bytes of the header of a block of entries.
pub const BLOCK_HEADER_BYTES: usize = 32;

/// Collects entries, then writes them as one block. The caller keeps them in order.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    values: Vec<u8>,
    value_ends: Vec<u32>,
    trailers: Vec<u64>,
    trailer_min: u64,
    trailer_max: u64,
    shared: usize,
}

impl BlockBuilder {
    /// An empty block.
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// Adds an entry behind all others.
    pub fn add(&mut self, key: &[u8], trailer: u64, value: &[u8]) {
        if self.is_empty() {
            self.shared = key.len();
            (self.trailer_min, self.trailer_max) = (trailer, trailer);
        } else {
            self.shared = shared_len(&self.keys[..self.shared], key);
            self.trailer_min = self.trailer_min.min(trailer);
            self.trailer_max = self.trailer_max.max(trailer);
        }
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len() as u32);
        self.values.extend_from_slice(value);
        self.value_ends.push(self.values.len() as u32);
        self.trailers.push(trailer);
    }

    /// How many entries.
    pub fn count(&self) -> usize {
        self.trailers.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.trailers.is_empty()
    }

    /// Length of the payload as things stand.
    pub fn encoded_len(&self) -> usize {
        let suffixes = self.keys.len() - self.shared * self.count();
        let offsets = (self.count() + 1) * (offset_width(suffixes) + offset_width(self.values.len()));
        let trailers = self.count() * delta_width(self.trailer_max - self.trailer_min);
        BLOCK_HEADER_BYTES + offsets + trailers + self.shared + suffixes + self.values.len()
    }

    /// Appends the payload to `out` and starts the next block.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let suffixes = self.keys.len() - self.shared * self.count();
        let key_width = offset_width(suffixes);
        let value_width = offset_width(self.values.len());
        let trailer_width = delta_width(self.trailer_max - self.trailer_min);
        out.reserve(self.encoded_len());
        put_u32(out, self.count() as u32);
        put_u32(out, self.shared as u32);
        put_u32(out, suffixes as u32);
        put_u32(out, self.values.len() as u32);
        put_u64(out, self.trailer_min);
        out.extend_from_slice(&[key_width as u8, value_width as u8, trailer_width as u8, 0, 0, 0, 0, 0]);
        put_low_bytes(out, 0, key_width);
        for (i, &end) in self.key_ends.iter().enumerate() {
            put_low_bytes(out, u64::from(end) - ((i + 1) * self.shared) as u64, key_width);
        }
        put_low_bytes(out, 0, value_width);
        for &end in &self.value_ends {
            put_low_bytes(out, u64::from(end), value_width);
        }
        for &trailer in &self.trailers {
            put_low_bytes(out, trailer - self.trailer_min, trailer_width);
        }
        out.extend_from_slice(&self.keys[..self.shared]);
        let mut start = 0;
        for &end in &self.key_ends {
            out.extend_from_slice(&self.keys[start + self.shared..end as usize]);
            start = end as usize;
        }
        out.extend_from_slice(&self.values);
        self.clear();
    }

    fn clear(&mut self) {
        const KEEP_BYTES: usize = 1 << 20;
        self.keys.clear();
        self.key_ends.clear();
        self.values.clear();
        self.value_ends.clear();
        self.trailers.clear();
        // A lone value of half a gigabyte must not stay allocated for the rest of the table.
        self.keys.shrink_to(KEEP_BYTES);
        self.values.shrink_to(KEEP_BYTES);
        (self.trailer_min, self.trailer_max, self.shared) = (0, 0, 0);
    }
}

fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

fn offset_width(greatest: usize) -> usize {
    if greatest <= usize::from(u16::MAX) { 2 } else { 4 }
}

fn delta_width(greatest: u64) -> usize {
    match greatest {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

fn put_low_bytes(out: &mut Vec<u8>, value: u64, width: usize) {
    out.extend_from_slice(&value.to_le_bytes()[..width]);
}
