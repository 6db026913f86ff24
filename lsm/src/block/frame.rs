//! The frame around every block of a table file: compression and checksum.
//!
//! ```text
//! frame    = body | compression u8 | checksum u64
//! body     = payload                            compression 0: stored as it is
//!          | payload length u32 | LZ4 block     compression 1
//! checksum = xxh3-64 of body and compression byte, seeded with the file's number and the frame's offset
//! ```
//!
//! The seed makes a frame that was read from the wrong place, or left over from another file, fail its checksum. A frame
//! is checked before anything in it is believed; the decompressed length is believed only as far as LZ4 could really
//! have made it from the bytes at hand, so a few hostile bytes cannot ask for a gigabyte.
//!
//! Not done here: reading and writing files, and the meaning of a payload.

use crate::base::coding::{get_u32, get_u64, put_u32, put_u64};
use crate::base::limits::BLOCK_BYTES_MAX;
use crate::base::options::Compression;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a frame behind its body.
pub const FRAME_TRAILER_BYTES: usize = 9;
/// Longest frame that a reader accepts: the largest payload, stored as it is.
pub const FRAME_BYTES_MAX: usize = BLOCK_BYTES_MAX + FRAME_TRAILER_BYTES;

const STORED: u8 = 0;
const LZ4: u8 = 1;
/// LZ4 turns one byte into at most this many.
const LZ4_RATIO_MAX: usize = 255;

/// The checksum of `bytes` as a frame at `offset` of table `file_number` carries it.
pub fn checksum(bytes: &[u8], file_number: u64, offset: u64) -> u64 {
    xxh3_64_with_seed(bytes, file_number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset)
}

/// Makes frames; keeps the compressor's table between them.
pub struct FrameEncoder {
    table: CompressTable,
}

impl fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameEncoder").finish_non_exhaustive()
    }
}

impl Default for FrameEncoder {
    fn default() -> Self {
        FrameEncoder { table: CompressTable::small() }
    }
}

impl FrameEncoder {
    /// Appends the frame of `payload`, which will lie at `offset` of table `file_number`, to `out`; returns its length.
    /// LZ4 is kept only if it saves an eighth.
    pub fn append(
        &mut self,
        payload: &[u8],
        compression: Compression,
        file_number: u64,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        let compressed = match compression {
            Compression::None => false,
            Compression::Lz4 => self.compress(payload, out),
        };
        if !compressed {
            out.truncate(start);
            out.extend_from_slice(payload);
        }
        out.push(if compressed { LZ4 } else { STORED });
        let sum = checksum(&out[start..], file_number, offset);
        put_u64(out, sum);
        out.len() - start
    }

    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        put_u32(out, payload.len() as u32);
        let body = out.len();
        out.resize(body + get_maximum_output_size(payload.len()), 0);
        match compress_into_with_table(payload, &mut out[body..], &mut self.table) {
            Ok(len) if 4 + len <= payload.len() - payload.len() / 8 => {
                out.truncate(body + len);
                true
            }
            _ => false,
        }
    }
}

/// Checks a frame and returns its payload. The error says what is wrong with it.
pub fn decode(frame: &[u8], file_number: u64, offset: u64) -> Result<Vec<u8>, String> {
    let (body, compression) = check(frame, file_number, offset)?;
    match compression {
        STORED => Ok(body.to_vec()),
        _ => decompress(body),
    }
}

/// As [`decode`]; reuses the allocation when the payload was stored as it is.
pub fn decode_owned(mut frame: Vec<u8>, file_number: u64, offset: u64) -> Result<Vec<u8>, String> {
    let (body, compression) = check(&frame, file_number, offset)?;
    if compression == STORED {
        let len = body.len();
        frame.truncate(len);
        return Ok(frame);
    }
    decompress(body)
}

fn check(frame: &[u8], file_number: u64, offset: u64) -> Result<(&[u8], u8), String> {
    let Some(body_len) = frame.len().checked_sub(FRAME_TRAILER_BYTES) else {
        return Err(format!("a frame of {} bytes is too short", frame.len()));
    };
    if body_len > BLOCK_BYTES_MAX {
        return Err(format!("a frame of {} bytes is too long", frame.len()));
    }
    let stored = get_u64(frame, body_len + 1);
    let computed = checksum(&frame[..body_len + 1], file_number, offset);
    if stored != Some(computed) {
        return Err(format!(
            "block checksum mismatch: stored {:016x}, computed {computed:016x}",
            stored.unwrap_or(0)
        ));
    }
    match frame[body_len] {
        compression @ (STORED | LZ4) => Ok((&frame[..body_len], compression)),
        other => Err(format!("unknown block compression {other}")),
    }
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, String> {
    let len = get_u32(body, 0).ok_or("compressed block without its length")? as usize;
    let packed = &body[4..];
    if len > BLOCK_BYTES_MAX || len > packed.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(format!("{} compressed bytes cannot make a block of {len}", packed.len()));
    }
    let mut payload = vec![0; len];
    match decompress_into(packed, &mut payload) {
        Ok(n) if n == len => Ok(payload),
        Ok(n) => Err(format!("block decompressed to {n} bytes instead of {len}")),
        Err(error) => Err(format!("block does not decompress: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(payload: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = vec![7; 3];
        let len = FrameEncoder::default().append(payload, compression, 5, 4096, &mut out);
        assert_eq!(len, out.len() - 3);
        out.split_off(3)
    }

    proptest! {
        #[test]
        fn round_trip(payload in proptest::collection::vec(0u8..4, 0..3000), lz4: bool) {
            let frame = encode(&payload, if lz4 { Compression::Lz4 } else { Compression::None });
            prop_assert!(frame.len() <= payload.len() + FRAME_TRAILER_BYTES);
            prop_assert_eq!(&decode(&frame, 5, 4096).unwrap(), &payload);
            prop_assert_eq!(&decode_owned(frame.clone(), 5, 4096).unwrap(), &payload);
            prop_assert!(decode(&frame, 6, 4096).is_err());
            prop_assert!(decode(&frame, 5, 8192).is_err());
        }

        #[test]
        fn hostile_bodies_with_a_good_checksum_never_panic(mut body: Vec<u8>, compression in 0u8..3) {
            body.push(compression);
            let sum = checksum(&body, 1, 2);
            put_u64(&mut body, sum);
            let _ = decode_owned(body, 1, 2);
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let frame = encode(&[1, 2, 3, 4].repeat(50), Compression::Lz4);
        assert!(frame.len() < 60);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, 5, 4096).is_err());
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut body = Vec::new();
        put_u32(&mut body, BLOCK_BYTES_MAX as u32);
        body.extend_from_slice(&[0; 100]);
        body.push(LZ4);
        let sum = checksum(&body, 1, 2);
        put_u64(&mut body, sum);
        assert!(decode(&body, 1, 2).unwrap_err().contains("cannot make"));
    }
}
