//! Bytes of strings: in the record itself, or, if they are many, in segments under an id.
//!
//! ```text
//! up to 64 KiB    meta: head | bytes
//! more            meta: head with id | length          data: segment 0 | segment 1 | .. | segment n, 16 KiB each
//! ```
//!
//! [`Source`] reads either, [`Editor`] changes a few bytes of either, [`store`] replaces the whole. A string that has gone
//! to segments stays there until it is replaced. A segment that is missing or short reads as zeros.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{SEGMENT_BYTES, segment_key};
use crate::encoding::meta::{Head, Kind, Record, Space, damaged, external_body, external_size};
use crate::store::limits::{INLINE_STRING_BYTES_MAX, STRING_BYTES_MAX};
use crate::store::txn::{At, Before, Slot, Txn};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

/// A string in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Where.
    pub space: Space,
    /// Under which id.
    pub id: u64,
    /// Bytes in all.
    pub length: u64,
}

/// Where a string's bytes are, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// Here.
    Inline(&'a [u8]),
    /// In segments.
    Segments(Segments),
}

/// Looks at a record as a string.
#[inline]
pub fn stored<'a>(space: Space, head: &Head, body: &'a [u8]) -> Result<Stored<'a>, Stop> {
    if head.kind != Kind::String {
        return Err(ReplyError::WRONG_TYPE.into());
    }
    if head.id == 0 {
        return Ok(Stored::Inline(body));
    }
    let length = external_size(body)
        .filter(|length| *length <= STRING_BYTES_MAX)
        .ok_or_else(|| damaged("keyspace meta", "length of a string"))?;
    Ok(Stored::Segments(Segments { space, id: head.id, length }))
}

/// A plain read of a string: `f` gets it if it is inline or absent; otherwise the caller gets the segments, and should
/// [`Txn::pin`] and read again before it follows them, unless it holds the key's lock.
#[inline]
pub fn view<R>(
    txn: &mut Txn,
    at: At<'_>,
    f: impl FnOnce(Option<&[u8]>) -> R,
) -> Result<Result<R, Segments>, Stop> {
    txn.view(at, |record| match record {
        None => Ok(Ok(f(None))),
        Some(Record { head, body }) => Ok(match stored(at.space, &head, body)? {
            Stored::Inline(bytes) => Ok(f(Some(bytes))),
            Stored::Segments(segments) => Err(segments),
        }),
    })?
}

/// Length of a string; 0 if there is none.
pub fn length(txn: &mut Txn, at: At<'_>) -> Result<u64, Stop> {
    Ok(view(txn, at, |bytes| bytes.map_or(0, <[u8]>::len) as u64)?.unwrap_or_else(|segments| segments.length))
}

/// A string to be read piece by piece.
#[derive(Debug)]
pub enum Source {
    /// All of it.
    Inline(Vec<u8>),
    /// Where it is.
    Segments(Segments),
}

impl Source {
    /// A plain read. `None` if there is no such key. Pins the read point if the string is in segments.
    pub fn open(txn: &mut Txn, at: At<'_>) -> Result<Option<Source>, Stop> {
        let copy = |bytes: Option<&[u8]>| bytes.map(|bytes| Source::Inline(bytes.to_vec()));
        if let Ok(inline) = view(txn, at, copy)? {
            return Ok(inline);
        }
        txn.pin();
        Ok(view(txn, at, copy)?.unwrap_or_else(|segments| Some(Source::Segments(segments))))
    }

    /// The string of a key that was read under its lock.
    pub fn of_slot(slot: &Slot, space: Space) -> Result<Option<Source>, Stop> {
        let Some(head) = slot.head() else { return Ok(None) };
        Ok(Some(match stored(space, head, slot.body())? {
            Stored::Inline(bytes) => Source::Inline(bytes.to_vec()),
            Stored::Segments(segments) => Source::Segments(segments),
        }))
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        match self {
            Source::Inline(bytes) => bytes.len() as u64,
            Source::Segments(segments) => segments.length,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands the bytes of `range` (cut to the string) to `f`, piece by piece, until it breaks.
    pub fn pieces(
        &self,
        txn: &mut Txn,
        range: Range<u64>,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let range = range.start..range.end.min(self.len());
        match self {
            _ if range.is_empty() => Ok(()),
            Source::Inline(bytes) => {
                let _ = f(&bytes[range.start as usize..range.end as usize]);
                Ok(())
            }
            Source::Segments(segments) => segments.pieces(txn, range, f),
        }
    }

    /// Reads `out.len()` bytes from `from` on; zeros beyond the end.
    pub fn read(&self, txn: &mut Txn, from: u64, out: &mut [u8]) -> Result<(), Stop> {
        let mut filled = 0;
        self.pieces(txn, from..from.saturating_add(out.len() as u64), |piece| {
            out[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            ControlFlow::Continue(())
        })?;
        out[filled..].fill(0);
        Ok(())
    }

    /// All bytes.
    pub fn read_all(self, txn: &mut Txn) -> Result<Vec<u8>, Stop> {
        if let Source::Inline(bytes) = self {
            return Ok(bytes);
        }
        let mut all = Vec::new();
        self.pieces(txn, 0..self.len(), |piece| {
            all.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }
}

const ZEROS: [u8; SEGMENT_BYTES] = [0; SEGMENT_BYTES];

impl Segments {
    /// Hands the bytes of `range`, which lies inside, to `f`, piece by piece, until it breaks.
    pub fn pieces(
        &self,
        txn: &mut Txn,
        range: Range<u64>,
        mut f: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let mut at = range.start;
        while at < range.end {
            let index = (at / SEGMENT_BYTES as u64) as u32;
            let from = (at % SEGMENT_BYTES as u64) as usize;
            let count = ((range.end - at).min((SEGMENT_BYTES - from) as u64)) as usize;
            let flow = txn.view_data(&segment_key(self.space, self.id, index), |value| {
                let there = value.and_then(|value| value.get(from..)).unwrap_or_default();
                let there = &there[..there.len().min(count)];
                if !there.is_empty() && f(there).is_break() {
                    return ControlFlow::Break(());
                }
                if there.len() < count { f(&ZEROS[..count - there.len()]) } else { ControlFlow::Continue(()) }
            })?;
            if flow.is_break() {
                return Ok(());
            }
            at += count as u64;
        }
        Ok(())
    }
}

/// Refuses a string longer than Redis allows.
pub fn check_length(length: u64) -> Result<(), ReplyError> {
    if length > STRING_BYTES_MAX { Err(ReplyError::STRING_TOO_LONG) } else { Ok(()) }
}

/// Stages a whole string in place of whatever is there.
#[inline]
pub fn store(
    txn: &mut Txn,
    at: At<'_>,
    before: &Before,
    value: &[u8],
    expire_ms: u64,
    raw: bool,
) -> Result<(), Stop> {
    let head = Head { raw, expire_ms, ..Head::plain(Kind::String) };
    if value.len() <= INLINE_STRING_BYTES_MAX {
        txn.charge(0, value.len() as u64)?;
        return txn.put(at, before, head, &[value]);
    }
    check_length(value.len() as u64)?;
    let mut builder = txn.builder(at.space, value.len() as u64)?;
    for (index, piece) in value.chunks(SEGMENT_BYTES).enumerate() {
        builder.put(txn, &segment_key(at.space, builder.id(), index as u32), piece)?;
    }
    let head = Head { id: builder.id(), ..head };
    builder.link(txn, at)?;
    txn.put(at, before, head, &[&external_body(value.len() as u64)])
}

/// Changes some bytes of a string and leaves the rest where it is.
#[derive(Debug)]
pub struct Editor {
    before: Before,
    /// Head of the string that was there.
    head: Option<Head>,
    length: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Inline(Vec<u8>),
    Segmented {
        /// Where those that are not in `changed` are; `None` if there are none.
        below: Option<Segments>,
        /// Segments that were read to be changed, or made.
        changed: BTreeMap<u32, Vec<u8>>,
    },
}

impl Editor {
    /// Takes a key that was read under its lock.
    pub fn new(slot: Slot, space: Space) -> Result<Editor, Stop> {
        let mut slot = slot;
        let head = slot.head().copied();
        let segments = match &head {
            None => None,
            Some(head) => match stored(space, head, slot.body())? {
                Stored::Inline(_) => None,
                Stored::Segments(segments) => Some(segments),
            },
        };
        let before = slot.before;
        Ok(match segments {
            Some(segments) => Editor {
                before,
                head,
                length: segments.length,
                bytes: Bytes::Segmented { below: Some(segments), changed: BTreeMap::new() },
            },
            None => {
                let body = slot.take_body();
                Editor { before, head, length: body.len() as u64, bytes: Bytes::Inline(body) }
            }
        })
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether there was a string.
    pub fn existed(&self) -> bool {
        self.head.is_some()
    }

    /// Makes it at least this long, with zeros.
    pub fn grow(&mut self, length: u64) -> Result<(), Stop> {
        if length <= self.length {
            return Ok(());
        }
        check_length(length)?;
        self.length = length;
        if let Bytes::Inline(body) = &mut self.bytes {
            if length <= INLINE_STRING_BYTES_MAX as u64 {
                body.resize(length as usize, 0);
                return Ok(());
            }
            let changed = body.chunks(SEGMENT_BYTES).map(<[u8]>::to_vec);
            let changed = changed.enumerate().map(|(index, piece)| (index as u32, piece)).collect();
            self.bytes = Bytes::Segmented { below: None, changed };
        }
        Ok(())
    }

    /// Reads `out.len()` bytes from `from` on; zeros beyond the end.
    pub fn read(&self, txn: &mut Txn, from: u64, out: &mut [u8]) -> Result<(), Stop> {
        let (below, changed) = match &self.bytes {
            Bytes::Inline(body) => {
                let there = body.get((from as usize).min(body.len())..).unwrap_or_default();
                let count = there.len().min(out.len());
                out[..count].copy_from_slice(&there[..count]);
                out[count..].fill(0);
                return Ok(());
            }
            Bytes::Segmented { below, changed } => (below, changed),
        };
        out.fill(0);
        if let Some(below) = below {
            Source::Segments(*below).read(txn, from, out)?;
        }
        let end = from + out.len() as u64;
        for (index, segment) in changed.range((from / SEGMENT_BYTES as u64) as u32..) {
            let start = u64::from(*index) * SEGMENT_BYTES as u64;
            if start >= end {
                break;
            }
            // A changed segment stands for the whole one: what it lacks is zeros, whatever lies below.
            for at in from.max(start)..end.min(start + SEGMENT_BYTES as u64) {
                out[(at - from) as usize] = segment.get((at - start) as usize).copied().unwrap_or(0);
            }
        }
        Ok(())
    }

    /// Puts `bytes` at `from`, growing the string as needed.
    pub fn write(&mut self, txn: &mut Txn, from: u64, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        txn.charge(0, bytes.len() as u64)?;
        let old_length = self.length;
        self.grow(from.saturating_add(bytes.len() as u64))?;
        let (below, changed) = match &mut self.bytes {
            Bytes::Inline(body) => {
                body[from as usize..from as usize + bytes.len()].copy_from_slice(bytes);
                return Ok(());
            }
            Bytes::Segmented { below, changed } => (below, changed),
        };
        let (mut at, mut rest) = (from, bytes);
        while !rest.is_empty() {
            let index = (at / SEGMENT_BYTES as u64) as u32;
            let start = (at % SEGMENT_BYTES as u64) as usize;
            let (piece, behind) = rest.split_at(rest.len().min(SEGMENT_BYTES - start));
            let whole = piece.len() == SEGMENT_BYTES;
            if !whole && !changed.contains_key(&index) {
                let segment = match below {
                    Some(segments) if u64::from(index) * (SEGMENT_BYTES as u64) < old_length => {
                        let key = segment_key(segments.space, segments.id, index);
                        txn.view_data(&key, |value| value.unwrap_or_default().to_vec())?
                    }
                    _ => Vec::new(),
                };
                changed.insert(index, segment);
            }
            let segment = changed.entry(index).or_default();
            if segment.len() < start + piece.len() {
                segment.resize(start + piece.len(), 0);
            }
            segment[start..start + piece.len()].copy_from_slice(piece);
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    /// Stages the changed string; its expiry stays.
    pub fn finish(self, txn: &mut Txn, at: At<'_>, raw: bool) -> Result<(), Stop> {
        let expire_ms = self.head.map_or(0, |head| head.expire_ms);
        let head = Head { raw, expire_ms, ..Head::plain(Kind::String) };
        let (below, changed) = match self.bytes {
            Bytes::Inline(body) => {
                txn.put(at, &self.before, head, &[&body])?;
                txn.recycle_buffer(body);
                return Ok(());
            }
            Bytes::Segmented { below, changed } => (below, changed),
        };
        let id = match below {
            Some(segments) => {
                for (index, segment) in &changed {
                    txn.put_data(&segment_key(at.space, segments.id, *index), segment)?;
                }
                segments.id
            }
            None => {
                let bytes = changed.values().map(|segment| segment.len() as u64).sum();
                let mut builder = txn.builder(at.space, bytes)?;
                let id = builder.id();
                for (index, segment) in &changed {
                    builder.put(txn, &segment_key(at.space, id, *index), segment)?;
                }
                builder.link(txn, at)?;
                id
            }
        };
        txn.put(at, &self.before, Head { id, ..head }, &[&external_body(self.length)])
    }
}
