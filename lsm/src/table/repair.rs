//! Makes the checksums of a damaged table right again, so that tests and fuzzing reach the parsers behind them.

use crate::base::coding::Cursor;
use crate::block::block::{Block, BlockKey, BlockKind};
use crate::block::frame::{FRAME_TRAILER_BYTES, checksum, decode};
use crate::table::format::{FOOTER_BYTES, Footer, Handle, Partition};
use std::path::Path;

/// Gives `bytes` a footer that is believed, whose handles point somewhere inside, and every frame that can be reached from
/// it a right checksum. What the frames hold stays as hostile as it was.
pub fn repair(bytes: &mut [u8], file_number: u64) {
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else {
        return;
    };
    let old = &bytes[footer_at..];
    let handle = |at: usize| {
        let mut cursor = Cursor::new(&old[at..]);
        let (offset, len) = (cursor.u64().unwrap_or(0), cursor.u32().unwrap_or(0));
        let offset = offset % (footer_at as u64 + 1);
        Handle { offset, len: (u64::from(len) % (footer_at as u64 - offset + 1)) as u32 }
    };
    let footer = Footer { top: handle(0), tombstones: handle(12), properties: handle(24), file_number };
    let mut fresh = Vec::new();
    footer.encode(&mut fresh);
    bytes[footer_at..].copy_from_slice(&fresh);
    if Footer::decode(&fresh, Path::new(""), bytes.len() as u64).is_err() {
        return;
    }
    let file_bytes = bytes.len() as u64;
    for handle in [footer.properties, footer.tombstones] {
        repair_frame(bytes, handle, file_number);
    }
    for value in values(bytes, footer.top, file_number) {
        let Some(partition) = Partition::decode(&value) else {
            continue;
        };
        if !partition.index.is_inside(file_bytes) || !partition.filter.is_inside(file_bytes) {
            continue;
        }
        repair_frame(bytes, partition.filter, file_number);
        for value in values(bytes, partition.index, file_number) {
            if let Some(handle) = Handle::decode(&mut Cursor::new(&value)).filter(|h| h.is_inside(file_bytes))
            {
                repair_frame(bytes, handle, file_number);
            }
        }
    }
}

/// The values of the index block at `handle`, after its checksum was repaired.
fn values(bytes: &mut [u8], handle: Handle, file_number: u64) -> Vec<Vec<u8>> {
    repair_frame(bytes, handle, file_number);
    let frame = &bytes[handle.offset as usize..handle.end() as usize];
    let key = BlockKey { file_number, offset: handle.offset };
    let block = decode(frame, file_number, handle.offset)
        .and_then(|payload| Block::decode(key, BlockKind::Index, payload));
    match block {
        Ok(block) => (0..block.count()).map(|i| block.value(i).to_vec()).collect(),
        Err(_) => Vec::new(),
    }
}

fn repair_frame(bytes: &mut [u8], handle: Handle, file_number: u64) {
    let frame = &mut bytes[handle.offset as usize..handle.end() as usize];
    if let Some(body) = frame.len().checked_sub(FRAME_TRAILER_BYTES) {
        let sum = checksum(&frame[..body + 1], file_number, handle.offset);
        frame[body + 1..].copy_from_slice(&sum.to_le_bytes());
    }
}
