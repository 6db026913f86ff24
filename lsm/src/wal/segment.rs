//! Segments: the files that the WAL is cut into, and their life.
//!
//! A segment file starts with a header of 64 bytes and goes on with records (see `record.rs`):
//!
//! ```text
//!  0       8         12         16       24       32             40         48          56   60    64
//!  ┌───────┬─────────┬──────────┬────────┬────────┬──────────────┬──────────┬───────────┬────┬─────┬─────────┐
//!  │ magic │ version │ features │ id     │history │ previous_lsn │ start_lsn│created, ms│ 0  │ crc │ records │
//!  │ u64   │ u32     │ u32      │ u64    │ u64    │ u64          │ u64      │ u64       │u32 │ u32 │ ...     │
//!  └───────┴─────────┴──────────┴────────┴────────┴──────────────┴──────────┴───────────┴────┴─────┴─────────┘
//!  previous_lsn  LSN of the last record that this log appended before this segment; 0 if there is none. Recovery
//!                sees by it that the tail of the segment before is missing.
//!  start_lsn     last LSN given out before this segment, by a record or without; every record in it is above.
//!  features      bits that a reader must understand; an unknown one means "upgrade", as does a greater version.
//! ```
//!
//! Life: *prepared* (space reserved, name and length on the disk, no header of its own yet; either new or a released
//! file under a new name), *current*, *sealed* when the log moves on, *released* when no memtable needs it, then kept for
//! reuse (at most two) or removed. What a recycled file still holds is harmless: its old header names another id, its old
//! records fail their crc. A released segment stays while a [`Hold`] covers it: readers and checkpoints take one.
//!
//! [`SegmentStore`] may be used from any thread; its mutex is never held during I/O.

use crate::base::coding::{get_u32, get_u64};
use crate::base::error::{Error, Result};
use crate::base::key::Lsn;
use crate::base::options::EventListener;
use crate::env::env::{Env, File, OpenMode};
use crate::env::filename::FileName;
use crate::wal::record::CrcSeed;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Length of a segment's header in bytes; the first record starts there.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// The format version that this code writes.
pub const SEGMENT_FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"HAYPWAL\x01";
const FEATURES_KNOWN: u32 = 0;
/// How many released segments are kept for reuse.
const POOL_SEGMENTS_MAX: usize = 2;
/// How many bytes a [`Window`] reads at once.
const WINDOW_CHUNK_BYTES: usize = 256 << 10;
/// A segment that is still appended to has no end yet.
const OPEN_END: u64 = u64::MAX;

/// What the front of a segment file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Id of the segment, as in its name.
    pub segment: u64,
    /// Which log this belongs to.
    pub history: u64,
    /// LSN of the last record that this log appended to earlier segments; 0 if none.
    pub previous_lsn: Lsn,
    /// The last LSN given out before; all records are above it.
    pub start_lsn: Lsn,
    /// When it was begun, in milliseconds since 1970. For people only.
    pub created_ms: u64,
}

/// What was found where a header should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// The file was prepared, but nothing was written to it under this id.
    NotBegun,
    /// Damaged or torn; why.
    Bad(&'static str),
    /// A header.
    Good(SegmentHeader),
}

impl SegmentHeader {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&SEGMENT_FORMAT_VERSION.to_le_bytes());
        let numbers = [self.segment, self.history, self.previous_lsn, self.start_lsn, self.created_ms];
        for (number, at) in numbers.iter().zip((16..).step_by(8)) {
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the front of segment file `path`, which is named after `segment`. Error: `UpgradeRequired`.
    pub fn decode(path: &Path, segment: u64, bytes: &[u8]) -> Result<HeaderState> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_BYTES) else { return Ok(HeaderState::NotBegun) };
        if bytes.iter().all(|&b| b == 0) {
            return Ok(HeaderState::NotBegun);
        }
        if bytes[..8] != MAGIC {
            return Ok(HeaderState::Bad("the segment header does not start with the magic number"));
        }
        if get_u32(bytes, 60) != Some(crc32c::crc32c(&bytes[..60])) {
            return Ok(HeaderState::Bad("the checksum of the segment header is wrong"));
        }
        let word = |at| get_u64(bytes, at).unwrap_or(0);
        if word(16) != segment {
            return Ok(HeaderState::NotBegun);
        }
        let (version, features) = (get_u32(bytes, 8).unwrap_or(0), get_u32(bytes, 12).unwrap_or(0));
        if version > SEGMENT_FORMAT_VERSION || features & !FEATURES_KNOWN != 0 {
            let what = format!("WAL format version {version}, features {features:#x}");
            return Err(Error::UpgradeRequired { file: path.to_path_buf(), what });
        }
        Ok(HeaderState::Good(SegmentHeader {
            segment,
            history: word(24),
            previous_lsn: word(32),
            start_lsn: word(40),
            created_ms: word(48),
        }))
    }

    /// Where the crc of every record in this segment starts.
    pub fn seed(&self) -> CrcSeed {
        CrcSeed::new(self.history, self.segment)
    }
}

/// Ids of all segment files in `dir`, ascending.
pub fn list_segments(env: &dyn Env, dir: &Path) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for name in env.list(dir)? {
        if let Some(FileName::Segment(id)) = FileName::parse(&name) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Reads a file front to back in chunks. Holds no more than one record and a chunk, and grows only by bytes that were
/// really read.
#[derive(Debug)]
pub struct Window {
    file: Arc<dyn File>,
    bytes: Vec<u8>,
    at: u64,
}

impl Window {
    /// At the front of `file`.
    pub fn new(file: Arc<dyn File>) -> Window {
        Window { file, bytes: Vec::new(), at: 0 }
    }

    /// The bytes `offset..offset + len`. `None` if they are not all before `limit` or the file is shorter.
    pub fn get(&mut self, offset: u64, len: usize, limit: u64) -> Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(len as u64).filter(|&end| end <= limit) else { return Ok(None) };
        let held = self.at + self.bytes.len() as u64;
        if offset < self.at || offset > held {
            self.bytes.clear();
            self.at = offset;
        } else if end > held {
            self.bytes.drain(..(offset - self.at) as usize);
            self.at = offset;
        }
        while self.at + (self.bytes.len() as u64) < end {
            let from = self.at + self.bytes.len() as u64;
            let step = (limit - from).min(WINDOW_CHUNK_BYTES as u64) as usize;
            let kept = self.bytes.len();
            self.bytes.resize(kept + step, 0);
            let read = self.file.read_at(&mut self.bytes[kept..], from);
            self.bytes.truncate(kept + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(None);
            }
        }
        let start = (offset - self.at) as usize;
        Ok(Some(&self.bytes[start..start + len]))
    }
}

/// A segment of the running log.
#[derive(Debug)]
pub struct Segment {
    /// Its id.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Start of its records' crc.
    pub seed: CrcSeed,
    /// Bytes reserved for it on the disk.
    pub capacity: u64,
    /// All its records are above this LSN.
    pub start_lsn: Lsn,
    written_end: AtomicU64,
    end: AtomicU64,
    last_lsn: AtomicU64,
}

impl Segment {
    /// A segment that is appended to from now on.
    pub fn open(prepared: Prepared, header: &SegmentHeader) -> Segment {
        Segment {
            id: header.segment,
            path: prepared.path,
            file: prepared.file,
            seed: header.seed(),
            capacity: prepared.capacity,
            start_lsn: header.start_lsn,
            written_end: AtomicU64::new(0),
            end: AtomicU64::new(OPEN_END),
            last_lsn: AtomicU64::new(0),
        }
    }

    /// A segment of an earlier life of the log, good up to `end`.
    fn adopted(
        file: Arc<dyn File>,
        path: PathBuf,
        id: u64,
        header: HeaderState,
        end: &SegmentEnd,
    ) -> Result<Segment> {
        let (seed, start_lsn) = match header {
            HeaderState::Good(header) => (header.seed(), header.start_lsn),
            HeaderState::NotBegun | HeaderState::Bad(_) => (CrcSeed::new(0, id), end.last_lsn),
        };
        Ok(Segment {
            id,
            path,
            capacity: file.len()?,
            file,
            seed,
            start_lsn,
            written_end: AtomicU64::new(end.offset),
            end: AtomicU64::new(end.offset),
            last_lsn: AtomicU64::new(end.last_lsn),
        })
    }

    /// Up to here the file holds whole records.
    pub fn written_end(&self) -> u64 {
        // Acquire pairs with the Release in `set_written_end`: the bytes below are in the file.
        self.written_end.load(Ordering::Acquire)
    }

    /// Says that the file holds whole records up to here.
    pub fn set_written_end(&self, end: u64) {
        self.written_end.store(end, Ordering::Release);
    }

    /// Where its last record ends, once it is sealed.
    pub fn sealed_end(&self) -> Option<u64> {
        // Acquire pairs with the Release in `seal`: `last_lsn` and the next segment in the store are there.
        Some(self.end.load(Ordering::Acquire)).filter(|&end| end != OPEN_END)
    }

    /// Ends it. The segment that follows must be in the store already.
    pub fn seal(&self, end: u64, last_lsn: Lsn) {
        self.last_lsn.store(last_lsn, Ordering::Relaxed);
        self.end.store(end, Ordering::Release);
    }

    /// LSN of the last record appended to it or to an earlier segment, once it is sealed.
    pub fn last_lsn(&self) -> Option<Lsn> {
        self.sealed_end().map(|_| self.last_lsn.load(Ordering::Relaxed))
    }
}

/// A segment as shown to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// All its records are above this LSN, and all above it that are not in it are in later segments.
    pub start_lsn: Lsn,
    /// LSN of the last record up to its end; `None` for the one appended to.
    pub last_lsn: Option<Lsn>,
}

/// Where the good part of a segment ends, as recovery found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// Its id.
    pub segment: u64,
    /// End of the last good record in the file; 0 if the segment holds nothing that counts.
    pub offset: u64,
    /// LSN of the last good record up to there.
    pub last_lsn: Lsn,
}

/// A file ready to become a segment.
#[derive(Debug)]
pub struct Prepared {
    /// The id that it is named after.
    pub id: u64,
    /// Its name.
    pub path: PathBuf,
    /// The open file.
    pub file: Arc<dyn File>,
    /// Bytes reserved.
    pub capacity: u64,
}

/// Why a segment could not be prepared.
#[derive(Debug)]
pub struct PrepareFailure {
    /// What went wrong.
    pub error: Error,
    /// Whether a sync failed, after which the state of the disk is unknown.
    pub poisons: bool,
}

/// The segments of a running log.
pub struct SegmentStore {
    env: Arc<dyn Env>,
    dir: PathBuf,
    segment_bytes: u64,
    events: Option<EventListener>,
    sealed_bytes: AtomicU64,
    /// What sealed segments take beyond that.
    unused_bytes: AtomicU64,
    state: Mutex<StoreState>,
}

#[derive(Default)]
struct StoreState {
    /// Ascending by id; the last one is appended to.
    live: Vec<Arc<Segment>>,
    pool: Vec<PathBuf>,
    released_before: u64,
    /// Below it all is written and synced: no byte is still on its way into those files.
    synced_before: u64,
    holds: BTreeMap<u64, usize>,
}

impl fmt::Debug for SegmentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentStore").field("segments", &self.infos()).finish_non_exhaustive()
    }
}

impl SegmentStore {
    /// An empty store over `dir`.
    pub fn new(
        env: Arc<dyn Env>,
        dir: PathBuf,
        segment_bytes: u64,
        events: Option<EventListener>,
    ) -> Arc<SegmentStore> {
        let (sealed_bytes, unused_bytes, state) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Arc::new(SegmentStore { env, dir, segment_bytes, events, sealed_bytes, unused_bytes, state })
    }

    fn state(&self) -> MutexGuard<'_, StoreState> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file of segment `id` with `bytes` reserved, from a released one if there is one. On return its name and
    /// length are on the disk. Nothing is left behind on failure.
    pub fn prepare(&self, id: u64, bytes: u64) -> std::result::Result<Prepared, PrepareFailure> {
        let path = FileName::Segment(id).path(&self.dir);
        let made = self.make_file(&path, bytes);
        let file = made.map_err(|error| PrepareFailure { error, poisons: false })?;
        let synced = file.sync().and_then(|()| self.env.sync_dir(&self.dir));
        match synced {
            Ok(()) => Ok(Prepared { id, path, file, capacity: bytes }),
            Err(error) => {
                self.remove(&path);
                Err(PrepareFailure { poisons: !error.is_no_space(), error })
            }
        }
    }

    fn make_file(&self, path: &Path, bytes: u64) -> Result<Arc<dyn File>> {
        let file = match self.reuse(path, bytes) {
            Some(file) => file,
            None => {
                if self.env.exists(path)? {
                    self.env.remove(path)?;
                }
                self.env.open(path, OpenMode::CreateNew)?
            }
        };
        match file.allocate(bytes) {
            Ok(()) => Ok(file),
            Err(error) => {
                self.remove(path);
                Err(error)
            }
        }
    }

    fn reuse(&self, path: &Path, bytes: u64) -> Option<Arc<dyn File>> {
        if bytes != self.segment_bytes {
            return None;
        }
        let old = self.state().pool.pop()?;
        let renamed = self.env.rename(&old, path).and_then(|()| self.env.open(path, OpenMode::ReadWrite));
        if renamed.is_err() {
            self.remove(&old);
        }
        renamed.ok()
    }

    /// Removes a file that nothing needs; failing to is no harm, the next open sweeps it up.
    fn remove(&self, path: &Path) {
        if let Err(error) = self.env.remove(path)
            && !error.is_not_found()
            && let Some(events) = &self.events
        {
            events(&format!("a WAL segment that is not needed stays: {error}"));
        }
    }

    /// Adds the segment that is appended to next.
    pub fn push(&self, segment: Arc<Segment>) {
        self.state().live.push(segment);
    }

    /// Seals a segment.
    pub fn seal(&self, segment: &Segment, end: u64, last_lsn: Lsn) {
        // Relaxed: statistics.
        self.sealed_bytes.fetch_add(end, Ordering::Relaxed);
        self.unused_bytes.fetch_add(segment.capacity.saturating_sub(end), Ordering::Relaxed);
        segment.seal(end, last_lsn);
    }

    /// Takes over a segment that recovery read, so that it is counted, read by readers, and released with the others.
    pub fn adopt(&self, end: &SegmentEnd) -> Result<()> {
        let path = FileName::Segment(end.segment).path(&self.dir);
        let file = self.env.open(&path, OpenMode::Read)?;
        let mut front = [0; SEGMENT_HEADER_BYTES];
        let read = file.read_at(&mut front, 0)?;
        let header = SegmentHeader::decode(&path, end.segment, &front[..read])?;
        let segment = Arc::new(Segment::adopted(file, path, end.segment, header, end)?);
        let mut state = self.state();
        if let Err(at) = state.live.binary_search_by_key(&end.segment, |s| s.id) {
            self.sealed_bytes.fetch_add(end.offset, Ordering::Relaxed);
            self.unused_bytes.fetch_add(segment.capacity.saturating_sub(end.offset), Ordering::Relaxed);
            state.live.insert(at, segment);
        }
        Ok(())
    }

    /// Bytes of records and headers in all sealed segments.
    pub fn sealed_bytes(&self) -> u64 {
        self.sealed_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of their files beyond that: a segment that was closed with its database is mostly empty.
    pub fn unused_bytes(&self) -> u64 {
        self.unused_bytes.load(Ordering::Relaxed)
    }

    /// All live segments, oldest first.
    pub fn infos(&self) -> Vec<SegmentInfo> {
        let state = self.state();
        let info = |s: &Arc<Segment>| SegmentInfo {
            id: s.id,
            path: s.path.clone(),
            start_lsn: s.start_lsn,
            last_lsn: s.last_lsn(),
        };
        state.live.iter().map(info).collect()
    }

    /// Says that no memtable needs segments below `segment` any more.
    pub fn release_before(&self, segment: u64) {
        let mut state = self.state();
        state.released_before = state.released_before.max(segment);
    }

    /// Says that segments below `segment` are written and synced to their ends.
    pub fn set_synced_before(&self, segment: u64) {
        let mut state = self.state();
        state.synced_before = state.synced_before.max(segment);
    }

    /// Recycles or removes what is released, synced and not held. Answers whether there was any.
    pub fn collect(&self) -> bool {
        let mut removed = Vec::new();
        let mut any = false;
        {
            let mut state = self.state();
            let held = state.holds.keys().next().copied().unwrap_or(u64::MAX);
            let keep_from = held.min(state.released_before).min(state.synced_before);
            while state.live.len() > 1 && state.live[0].id < keep_from {
                let segment = state.live.remove(0);
                any = true;
                if let Some(end) = segment.sealed_end() {
                    self.sealed_bytes.fetch_sub(end, Ordering::Relaxed);
                    self.unused_bytes.fetch_sub(segment.capacity.saturating_sub(end), Ordering::Relaxed);
                }
                if state.pool.len() < POOL_SEGMENTS_MAX && segment.capacity == self.segment_bytes {
                    state.pool.push(segment.path.clone());
                } else {
                    removed.push(segment.path.clone());
                }
            }
        }
        for path in removed {
            self.remove(&path);
        }
        any
    }

    /// Removes the released files that were kept for reuse.
    pub fn drain_pool(&self) {
        let pool = std::mem::take(&mut self.state().pool);
        for path in pool {
            self.remove(&path);
        }
    }

    /// Removes a prepared segment that will not be used.
    pub fn discard(&self, prepared: &Prepared) {
        self.remove(&prepared.path);
    }

    /// Keeps segments from `segment` on until the hold is dropped.
    pub fn hold(self: &Arc<Self>, segment: u64) -> Hold {
        *self.state().holds.entry(segment).or_default() += 1;
        Hold { store: self.clone(), segment }
    }

    /// The segment in which to look for the first record at or above `from`, held. Error: `InvalidArgument` if the log
    /// begins later.
    pub fn hold_for(self: &Arc<Self>, from: Lsn) -> Result<(Hold, Arc<Segment>)> {
        let mut state = self.state();
        let Some(segment) = state.live.iter().rev().find(|s| s.start_lsn < from.max(1)).cloned() else {
            let first = state.live.first().map_or(0, |s| s.start_lsn);
            return Err(Error::invalid(format!(
                "LSN {from} is gone from the WAL, which begins after {first}"
            )));
        };
        *state.holds.entry(segment.id).or_default() += 1;
        Ok((Hold { store: self.clone(), segment: segment.id }, segment))
    }

    /// The live segment after `segment`.
    pub fn after(&self, segment: u64) -> Option<Arc<Segment>> {
        self.state().live.iter().find(|s| s.id > segment).cloned()
    }
}

/// While it lives, its segment and all later ones are neither removed nor recycled.
pub struct Hold {
    store: Arc<SegmentStore>,
    segment: u64,
}

impl Hold {
    /// The first segment that is held.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Lets go of segments below `segment`.
    pub fn advance(&mut self, segment: u64) {
        let next = self.store.hold(segment.max(self.segment));
        *self = next;
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.store.state();
        if let Some(count) = state.holds.get_mut(&self.segment) {
            *count -= 1;
            if *count == 0 {
                state.holds.remove(&self.segment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fault_env::{Fault, FaultEnv, FaultKind, Operations};
    use crate::env::mem_env::{CrashPolicy, MemEnv};
    use proptest::prelude::*;

    const BYTES: u64 = 8192;

    fn header(segment: u64) -> SegmentHeader {
        SegmentHeader { segment, history: 9, previous_lsn: 3, start_lsn: 4, created_ms: 5 }
    }

    fn store(env: Arc<dyn Env>) -> Arc<SegmentStore> {
        env.create_dir_all(Path::new("/db")).unwrap();
        SegmentStore::new(env, PathBuf::from("/db"), BYTES, None)
    }

    fn begin(store: &SegmentStore, id: u64) -> Arc<Segment> {
        let segment = Arc::new(Segment::open(store.prepare(id, BYTES).unwrap(), &header(id)));
        segment.file.write_at(&header(id).encode(), 0).unwrap();
        store.push(segment.clone());
        segment
    }

    proptest! {
        #[test]
        fn header_round_trip_and_damage(numbers: [u64; 5], at in 0..SEGMENT_HEADER_BYTES, mask in 1u8..) {
            let [segment, history, previous_lsn, start_lsn, created_ms] = numbers;
            let header = SegmentHeader { segment, history, previous_lsn, start_lsn, created_ms };
            let mut bytes = header.encode();
            let path = Path::new("x");
            prop_assert_eq!(SegmentHeader::decode(path, segment, &bytes).unwrap(), HeaderState::Good(header));
            let other = SegmentHeader::decode(path, segment ^ 1, &bytes).unwrap();
            prop_assert_eq!(other, HeaderState::NotBegun);
            bytes[at] ^= mask;
            prop_assert!(matches!(SegmentHeader::decode(path, segment, &bytes).unwrap(), HeaderState::Bad(_)));
        }
    }

    #[test]
    fn newer_formats_ask_for_an_upgrade() {
        for at in [8, 12] {
            let mut bytes = header(1).encode();
            bytes[at] = 2;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(
                SegmentHeader::decode(Path::new("x"), 1, &bytes),
                Err(Error::UpgradeRequired { .. })
            ));
        }
        assert_eq!(SegmentHeader::decode(Path::new("x"), 1, &[0; 64]).unwrap(), HeaderState::NotBegun);
        assert_eq!(SegmentHeader::decode(Path::new("x"), 1, &[7; 63]).unwrap(), HeaderState::NotBegun);
    }

    #[test]
    fn prepared_segments_are_on_the_disk_and_recycled() {
        let env = MemEnv::new();
        let store = store(env.clone());
        for id in 1..=5 {
            let segment = begin(&store, id);
            store.seal(&segment, 1000, id * 10);
        }
        assert_eq!(store.sealed_bytes(), 5000);
        assert_eq!(store.unused_bytes(), 5 * (store.segment_bytes - 1000));
        let hold = store.hold(2);
        store.release_before(5);
        assert!(!store.collect(), "bytes may still be on their way");
        store.set_synced_before(5);
        assert!(store.collect());
        assert_eq!(store.infos().iter().map(|s| s.id).collect::<Vec<_>>(), [2, 3, 4, 5]);
        drop(hold);
        assert!(store.collect() && !store.collect());
        assert_eq!(store.infos().len(), 1);
        assert_eq!(store.infos()[0].last_lsn, Some(50));
        assert_eq!(env.list_all().len(), 3, "two in the pool, the rest removed");
        let prepared = store.prepare(6, BYTES).unwrap();
        assert_eq!(env.list_all().len(), 3);
        let crashed = env.crash_clone(CrashPolicy::DropUnsynced, 0);
        let bytes = crashed.read_file(&prepared.path).unwrap();
        assert_eq!(bytes.len() as u64, BYTES);
        assert_eq!(SegmentHeader::decode(&prepared.path, 6, &bytes).unwrap(), HeaderState::NotBegun);
        store.discard(&prepared);
        store.drain_pool();
        assert_eq!(list_segments(env.as_ref(), Path::new("/db")).unwrap(), [5]);
    }

    #[test]
    fn failing_to_prepare_leaves_nothing() {
        let inner = MemEnv::new();
        let env = FaultEnv::new(inner.clone());
        let store = store(env.clone());
        let cases = [
            (Operations::CREATE, FaultKind::Eio, false),
            (Operations::ALLOCATE, FaultKind::NoSpace, false),
            (Operations::SYNC, FaultKind::Eio, true),
            (Operations::SYNC, FaultKind::NoSpace, false),
            (Operations::SYNC_DIR, FaultKind::Eio, true),
        ];
        for (operation, kind, poisons) in cases {
            env.inject(Fault::once(operation, kind));
            let failure = store.prepare(1, BYTES).unwrap_err();
            assert_eq!(failure.poisons, poisons);
            assert_eq!(failure.error.is_no_space(), kind == FaultKind::NoSpace);
            assert!(inner.list_all().is_empty());
        }
        store.prepare(1, BYTES).unwrap();
    }

    #[test]
    fn windows_read_any_range_and_never_past_the_limit() {
        let env = MemEnv::new();
        let bytes = (0..700_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        env.write_file(Path::new("/f"), &bytes).unwrap();
        let mut window = Window::new(env.open(Path::new("/f"), OpenMode::Read).unwrap());
        let len = bytes.len() as u64;
        for (offset, want) in
            [(0, 10), (5, 300_000), (100, 1), (2_000_000, 800_000), (8, 8), (len - 3, 3), (len, 0)]
        {
            let got = window.get(offset, want, len).unwrap().unwrap();
            assert!(got == &bytes[offset as usize..offset as usize + want]);
        }
        assert_eq!(window.get(len - 3, 4, len).unwrap(), None);
        assert_eq!(window.get(len - 3, 4, len + 100).unwrap(), None);
        assert_eq!(window.get(u64::MAX, 4, u64::MAX).unwrap(), None);
    }
}
