//! Reads the log after a crash: every record in order up to the first that is not there, and a verdict about the rest.
//!
//! **Tear or rot.** Bytes that were never synced may be missing or damaged in any order: the log ends there, and what comes
//! later is void, even if it can be read. Damage to bytes that *were* synced is rot, and opening is refused. The two
//! look alike; what tells them apart are the durable LSNs in the records behind the damage. So when the log ends early,
//! the rest of it is searched, record by record and then at every aligned offset, for a record that says "durable up to
//! W". W above the last good LSN: rot.
//!
//! ```text
//!   segment 4                          segment 5                       found: last good LSN 21
//!   [20, d 17] [21, d 17] [#damage#]   [header, previous 25] [26, d 24]  ─> rot, records up to 24 were on the disk
//!                                                            [26, d 21]  ─> tear, the log ends with 21
//! ```
//!
//! **Chains and eras.** A segment's header names the last LSN before it, so a tail that is missing without a trace of damage
//! is seen too. Each open of the database starts a new log in a new segment and notes, as a *void* pair in its manifest,
//! up to which LSN the segments before it count. The segments between two such notes are an *era*; each era is judged by
//! itself, and must reach the LSN that was noted.
//!
//! What was replayed is synced before [`recover`] returns: the process may have died without a power cut, and what was shown
//! once must not vanish. Old segments are never appended to or changed.
//!
//! Not seen: rot behind the last watermark. A clean close, and an idle second, log one.

use crate::base::error::{Error, Result};
use crate::base::key::{Lsn, SequenceNumber};
use crate::env::env::{Env, OpenMode};
use crate::env::filename::FileName;
use crate::wal::record::{CrcSeed, RECORD_ALIGN, RECORD_HEADER_BYTES, Record, RecordHeader, RecordKind};
use crate::wal::segment::{
    HeaderState, SEGMENT_HEADER_BYTES, SegmentEnd, SegmentHeader, Window, list_segments,
};
use std::path::{Path, PathBuf};

/// Progress is told at least this often, in bytes.
const PROGRESS_BYTES: u64 = 1 << 20;
/// A search for records behind damage hashes at most this many times the bytes it searches: hostile headers could make it
/// quadratic.
const SEARCH_EFFORT: u64 = 4;
/// The search skips zeros in steps of this many bytes.
const SEARCH_STEP_BYTES: usize = 4096;

const GAP: &str = "a gap, with records behind it";

/// Which part of the log counts.
#[derive(Clone, Debug, Default)]
pub struct RecoveryBounds {
    /// Segments below are not needed and not read.
    pub first_segment: u64,
    /// Records up to this LSN, if not further, lie in segments below: that they were on the disk says nothing about the ones read.
    pub start: Lsn,
    /// `(b, e)`: of the segments below `b` only records up to LSN `e` count; `e` is the [`Recovered::last_lsn`] of the open that
    /// made the note, so they must reach it.
    pub void: Vec<(u64, Lsn)>,
    /// Refuse segments of another log.
    pub history: Option<u64>,
}

/// A record, as replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// The segment it is in.
    pub segment: u64,
    /// Its offset there.
    pub offset: u64,
    /// Sequence number of its first entry.
    pub first_sequence: SequenceNumber,
    /// Sequence number of its last entry: its LSN.
    pub last_lsn: Lsn,
    /// The encoded batch.
    pub payload: &'a [u8],
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// LSN of the last good record, or, if records before the first segment read had a greater one, that; 0 if none.
    pub last_lsn: Lsn,
    /// An id above that of every segment seen or noted.
    pub next_segment: u64,
    /// Ids of all segments that were there, from the first needed one on, void ones included.
    pub segments: Vec<u64>,
    /// How far each of them counts; for [`Log::adopt`](crate::wal::log::Log::adopt).
    pub ends: Vec<SegmentEnd>,
    /// Records replayed.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where the log was cut off by a crash, and what was found there.
    pub torn: Option<(PathBuf, u64, String)>,
}

/// Replays the log in `dir`. `visit` gets each record in order; `progress` the bytes done and in all. Errors: `Corruption` for
/// rot, for segments of another log and for what no crash can cause; `UpgradeRequired`; I/O errors; those of `visit`.
pub fn recover(
    env: &dyn Env,
    dir: &Path,
    bounds: &RecoveryBounds,
    visit: &mut dyn FnMut(LogRecord<'_>) -> Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered> {
    let mut ids = list_segments(env, dir)?;
    ids.retain(|&id| id >= bounds.first_segment);
    let mut files = Vec::new();
    let mut total = 0;
    for &id in &ids {
        let path = FileName::Segment(id).path(dir);
        let file = env.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        total += len;
        files.push((id, path, file, len));
    }
    let mut replay = Replay::new(dir, bounds);
    let mut done = 0;
    let mut replayed = Vec::new();
    for (id, path, file, len) in files {
        replay.enter_era_of(id)?;
        let mut source = FileSource { window: Window::new(file.clone()), len };
        let records_before = replay.found.records;
        let mut told = 0;
        let mut tell = |offset: u64| {
            if offset >= told + PROGRESS_BYTES {
                told = offset;
                progress(done + offset.min(len), total);
            }
        };
        replay.segment(id, &path, &mut source, visit, &mut tell)?;
        if replay.found.records > records_before {
            replayed.push(file);
        }
        done += len;
        progress(done, total);
    }
    replay.finish_eras()?;
    for file in replayed {
        file.sync()?;
    }
    if !ids.is_empty() {
        env.sync_dir(dir)?;
    }
    let noted = bounds.void.iter().map(|&(below, _)| below.saturating_sub(1)).max();
    let highest = ids.last().copied().max(noted).max(bounds.first_segment.checked_sub(1));
    let mut found = replay.found;
    found.next_segment = highest.map_or(1, |id| id.saturating_add(1)).max(1);
    found.segments = ids;
    Ok(found)
}

/// What [`read_segment_bytes`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReading {
    /// The front of the file.
    pub header: HeaderState,
    /// How many records it has.
    pub records: u64,
    /// LSN of the last one; before the first, that of the header.
    pub last_lsn: Lsn,
    /// Where the last one ends; 0 without a header.
    pub end: u64,
    /// Why the records end there; `None` if the log simply ends.
    pub stop: Option<String>,
    /// The greatest durable LSN that any record says, those behind the end included.
    pub durable_lsn: Lsn,
}

/// Reads one segment given as bytes; needs no file system. For the dump tool, repair and fuzzing. Never panics, whatever
/// the bytes. Errors: `UpgradeRequired`, those of `visit`.
pub fn read_segment_bytes(
    path: &Path,
    segment: u64,
    bytes: &[u8],
    visit: &mut dyn FnMut(LogRecord<'_>) -> Result<()>,
) -> Result<SegmentReading> {
    let header = SegmentHeader::decode(path, segment, bytes)?;
    let mut reading = SegmentReading { header, records: 0, last_lsn: 0, end: 0, stop: None, durable_lsn: 0 };
    match header {
        HeaderState::NotBegun => {}
        HeaderState::Bad(why) => reading.stop = Some(why.to_string()),
        HeaderState::Good(good) => {
            let mut source = BytesSource(bytes);
            let walk =
                walk_records(&mut source, segment, good.seed(), good.start_lsn, None, visit, &mut |_| {})?;
            let behind = search_behind(&mut source, walk.end, good.seed())?;
            reading = SegmentReading {
                header,
                records: walk.records,
                last_lsn: walk.last_lsn,
                end: walk.end,
                stop: walk.stop.or(behind.any.then_some(GAP)).map(str::to_string),
                durable_lsn: walk.durable_lsn.max(behind.durable_lsn),
            };
        }
    }
    Ok(reading)
}

/// Where bytes come from.
trait Source {
    fn len(&self) -> u64;
    /// The bytes of a range, or `None` if they are not all there.
    fn get(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>>;
}

struct FileSource {
    window: Window,
    len: u64,
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn get(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        self.window.get(offset, len, self.len)
    }
}

struct BytesSource<'a>(&'a [u8]);

impl Source for BytesSource<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn get(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let start = usize::try_from(offset).ok();
        Ok(start.and_then(|start| self.0.get(start..start.checked_add(len)?)))
    }
}

/// How a walk over the records of a segment went.
struct Walk {
    end: u64,
    last_lsn: Lsn,
    records: u64,
    bytes: u64,
    durable_lsn: Lsn,
    /// Why there is no further record; `None` if the log simply ends here.
    stop: Option<&'static str>,
    /// A record above the limit was met.
    past_limit: bool,
}

/// Visits records from the first on until one is missing, damaged, or above `limit`.
fn walk_records(
    source: &mut dyn Source,
    segment: u64,
    seed: CrcSeed,
    after: Lsn,
    limit: Option<Lsn>,
    visit: &mut dyn FnMut(LogRecord<'_>) -> Result<()>,
    tell: &mut dyn FnMut(u64),
) -> Result<Walk> {
    let mut walk = Walk {
        end: SEGMENT_HEADER_BYTES as u64,
        last_lsn: after,
        records: 0,
        bytes: 0,
        durable_lsn: 0,
        stop: None,
        past_limit: false,
    };
    loop {
        let offset = walk.end;
        let record = match record_at(source, offset, seed)? {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(why) => {
                walk.stop = Some(why);
                break;
            }
        };
        let len = crate::wal::record::record_len(record.payload.len()) as u64;
        if record.kind == RecordKind::Batch {
            if record.first_sequence <= walk.last_lsn {
                walk.stop = Some("a record's sequence numbers go back");
                break;
            }
            if limit.is_some_and(|limit| record.last_lsn > limit) {
                walk.past_limit = true;
                break;
            }
            let Record { first_sequence, last_lsn, payload, .. } = record;
            walk.durable_lsn = walk.durable_lsn.max(record.durable_lsn);
            visit(LogRecord { segment, offset, first_sequence, last_lsn, payload })?;
            walk.last_lsn = last_lsn;
            walk.records += 1;
            walk.bytes += len;
        } else {
            walk.durable_lsn = walk.durable_lsn.max(record.durable_lsn);
        }
        walk.end = offset + len;
        tell(walk.end);
    }
    Ok(walk)
}

/// The record at `offset`: `Ok(None)` if the log ends here, `Err` if something else is there.
fn record_at(
    source: &mut dyn Source,
    offset: u64,
    seed: CrcSeed,
) -> Result<std::result::Result<Option<Record<'_>>, &'static str>> {
    let Some(front) = source.get(offset, RECORD_HEADER_BYTES)? else { return Ok(Ok(None)) };
    let header = match RecordHeader::parse(front) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(Ok(None)),
        Err(why) => return Ok(Err(why)),
    };
    let Some(bytes) = source.get(offset, header.record_len())? else {
        return Ok(Err("a record reaches past the end of the file"));
    };
    Ok(header.verify(seed, bytes).map(Some))
}

/// What the records behind the end of a log say.
#[derive(Default)]
struct Behind {
    any: bool,
    durable_lsn: Lsn,
}

/// Looks for records at every aligned offset from `from` on.
fn search_behind(source: &mut dyn Source, from: u64, seed: CrcSeed) -> Result<Behind> {
    let mut behind = Behind::default();
    let mut effort = source.len().saturating_mul(SEARCH_EFFORT).max(1 << 20);
    let mut at = from.max(SEGMENT_HEADER_BYTES as u64).next_multiple_of(RECORD_ALIGN as u64);
    while let Some(front) = source.get(at, RECORD_HEADER_BYTES)? {
        let parsed = RecordHeader::parse(front);
        if let Ok(None) = parsed {
            let zeros = source.get(at, SEARCH_STEP_BYTES)?.is_some_and(|step| step.iter().all(|&b| b == 0));
            // The next header may start with the last of these zeros.
            at += if zeros { (SEARCH_STEP_BYTES - RECORD_HEADER_BYTES) as u64 } else { RECORD_ALIGN as u64 };
            continue;
        }
        let mut step = RECORD_ALIGN as u64;
        if let Ok(Some(header)) = parsed
            && let Some(bytes) = source.get(at, header.record_len())?
        {
            let len = bytes.len() as u64;
            let Some(left) = effort.checked_sub(len) else { break };
            effort = left;
            if let Ok(record) = header.verify(seed, bytes) {
                behind.any = true;
                behind.durable_lsn = behind.durable_lsn.max(record.durable_lsn);
                step = len;
            }
        }
        at += step;
    }
    Ok(behind)
}

/// The end of a segment that nothing has confirmed yet.
struct OpenEnd {
    path: PathBuf,
    offset: u64,
    stop: Option<&'static str>,
}

/// Where the log of an era ends, or seems to.
struct Stop {
    path: PathBuf,
    offset: u64,
    why: String,
}

/// The state of a recovery; one era at a time.
struct Replay<'a> {
    dir: &'a Path,
    bounds: &'a RecoveryBounds,
    history: Option<u64>,
    found: Recovered,
    /// Where the era ends: `(b, e)` of its void pair, `None` in the last one.
    era: Option<(u64, Lsn)>,
    /// No header was read in this era yet.
    era_is_new: bool,
    /// LSN of the last record of this log, by its records and headers.
    chain: Lsn,
    open_ends: Vec<OpenEnd>,
    stop: Option<Stop>,
    past_limit: bool,
    durable_lsn: Lsn,
}

impl<'a> Replay<'a> {
    fn new(dir: &'a Path, bounds: &'a RecoveryBounds) -> Replay<'a> {
        Replay {
            dir,
            bounds,
            history: bounds.history,
            found: Recovered { last_lsn: bounds.start, ..Recovered::default() },
            era: era_of(bounds, bounds.first_segment),
            era_is_new: true,
            chain: 0,
            open_ends: Vec::new(),
            stop: None,
            past_limit: false,
            durable_lsn: 0,
        }
    }

    fn enter_era_of(&mut self, segment: u64) -> Result<()> {
        while self.era.is_some_and(|(below, _)| segment >= below) {
            self.finish_era()?;
        }
        Ok(())
    }

    fn finish_eras(&mut self) -> Result<()> {
        while self.era.is_some() {
            self.finish_era()?;
        }
        self.finish_era()
    }

    /// Judges an era and moves on to the next.
    fn finish_era(&mut self) -> Result<()> {
        if self.stop.is_none() && !self.past_limit {
            self.stop_at_open_end();
        }
        let reached = self.found.last_lsn;
        let must_reach = self.durable_lsn.max(self.era.map_or(0, |(_, end)| end));
        if must_reach > reached {
            let nowhere = || Stop {
                path: FileName::Segment(self.bounds.first_segment).path(self.dir),
                offset: 0,
                why: "no record is there".to_string(),
            };
            let Stop { path, offset, why } = self.stop.take().unwrap_or_else(nowhere);
            let why = if why.is_empty() { "the log ends here" } else { &why };
            let what = format!("{why}, but it was on the disk up to LSN {must_reach}; good up to {reached}");
            return Err(Error::corruption(&path, offset, what));
        }
        match self.era {
            Some((below, _)) => self.era = era_of(self.bounds, below),
            None => {
                let stop = self.stop.take().filter(|stop| !stop.why.is_empty());
                self.found.torn = stop.map(|stop| (stop.path, stop.offset, stop.why));
            }
        }
        self.era_is_new = true;
        self.chain = 0;
        self.open_ends.clear();
        self.stop = None;
        self.past_limit = false;
        self.durable_lsn = 0;
        Ok(())
    }

    /// The log ends at the first end that looks damaged, else at the first one; an empty reason means that it simply ends.
    fn stop_at_open_end(&mut self) {
        let at = self.open_ends.iter().position(|end| end.stop.is_some()).unwrap_or(0);
        if at < self.open_ends.len() {
            let OpenEnd { path, offset, stop } = self.open_ends.swap_remove(at);
            self.stop = Some(Stop { path, offset, why: stop.unwrap_or_default().to_string() });
        }
    }

    fn segment(
        &mut self,
        id: u64,
        path: &Path,
        source: &mut dyn Source,
        visit: &mut dyn FnMut(LogRecord<'_>) -> Result<()>,
        tell: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.found.ends.push(SegmentEnd { segment: id, offset: 0, last_lsn: self.found.last_lsn });
        if self.past_limit {
            return Ok(());
        }
        let front_len = source.len().min(SEGMENT_HEADER_BYTES as u64) as usize;
        let front = source.get(0, front_len)?.unwrap_or_default();
        let header = match SegmentHeader::decode(path, id, front)? {
            HeaderState::Good(header) => header,
            not_good => {
                let stop = match not_good {
                    HeaderState::Bad(why) => Some(why),
                    _ => None,
                };
                self.open_ends.push(OpenEnd { path: path.to_path_buf(), offset: 0, stop });
                return self.survey(source, id, 0);
            }
        };
        if *self.history.get_or_insert(header.history) != header.history {
            return Err(Error::corruption(path, 24, "the segment belongs to another log"));
        }
        if self.stop.is_none() {
            self.link(path, &header)?;
        }
        if self.stop.is_some() {
            return self.survey(source, id, SEGMENT_HEADER_BYTES as u64);
        }
        let limit = self.era.map(|(_, end)| end);
        let after = self.found.last_lsn.max(self.chain);
        let walk = walk_records(source, id, header.seed(), after, limit, visit, tell)?;
        if walk.records > 0 {
            self.chain = walk.last_lsn;
            self.found.last_lsn = walk.last_lsn;
        }
        self.found.records += walk.records;
        self.found.bytes += walk.bytes;
        self.durable_lsn = self.durable_lsn.max(walk.durable_lsn);
        self.past_limit = walk.past_limit;
        if let Some(end) = self.found.ends.last_mut() {
            *end = SegmentEnd { segment: id, offset: walk.end, last_lsn: self.found.last_lsn };
        }
        let mut stop = walk.stop;
        // Behind a noted end everything is void; elsewhere what lies behind the last good record has a say.
        if limit.is_none() {
            let behind = search_behind(source, walk.end, header.seed())?;
            self.durable_lsn = self.durable_lsn.max(behind.durable_lsn);
            stop = stop.or(behind.any.then_some(GAP));
        }
        self.open_ends.push(OpenEnd { path: path.to_path_buf(), offset: walk.end, stop });
        Ok(())
    }

    /// Checks that `header` goes on where the log so far ends. If it does not, the log stops.
    fn link(&mut self, path: &Path, header: &SegmentHeader) -> Result<()> {
        let SegmentHeader { previous_lsn, start_lsn, .. } = *header;
        if self.era_is_new {
            self.era_is_new = false;
            if previous_lsn != 0 && header.segment != self.bounds.first_segment {
                // The beginning of this era is gone, with records in it.
                self.stop_at_open_end();
                self.stop.get_or_insert_with(|| Stop {
                    path: FileName::Segment(self.bounds.first_segment).path(self.dir),
                    offset: 0,
                    why: String::new(),
                });
                self.explain(previous_lsn);
                return Ok(());
            }
            self.chain = previous_lsn;
            self.found.last_lsn = self.found.last_lsn.max(start_lsn).max(previous_lsn);
            self.open_ends.clear();
            return Ok(());
        }
        if previous_lsn == 0 {
            // A log that was begun without a note about the one before. Fine if that one ends well.
            if self.open_ends.iter().any(|end| end.stop.is_some()) {
                self.stop_at_open_end();
            } else {
                self.chain = 0;
                self.open_ends.clear();
            }
        } else if previous_lsn == self.chain {
            self.open_ends.clear();
        } else if previous_lsn > self.chain {
            self.stop_at_open_end();
            self.explain(previous_lsn);
        } else {
            let what = format!("follows LSN {previous_lsn}, but the log before it goes on to {}", self.chain);
            return Err(Error::corruption(path, 32, what));
        }
        Ok(())
    }

    fn explain(&mut self, previous_lsn: Lsn) {
        if let Some(stop) = &mut self.stop
            && stop.why.is_empty()
        {
            stop.why = format!("records up to LSN {previous_lsn} are missing");
        }
    }

    /// Collects the durable LSNs of a segment that is not replayed.
    fn survey(&mut self, source: &mut dyn Source, id: u64, from: u64) -> Result<()> {
        let Some(history) = self.history else { return Ok(()) };
        if self.era.is_some() {
            return Ok(());
        }
        let behind = search_behind(source, from, CrcSeed::new(history, id))?;
        self.durable_lsn = self.durable_lsn.max(behind.durable_lsn);
        Ok(())
    }
}

/// The void pair that bounds the era of `segment`: the next boundary above it, with the lowest end noted for it.
fn era_of(bounds: &RecoveryBounds, segment: u64) -> Option<(u64, Lsn)> {
    let above = || bounds.void.iter().filter(|(below, _)| *below > segment);
    let below = above().map(|(below, _)| *below).min()?;
    let end = above().map(|(_, end)| *end).min()?;
    Some((below, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::{BatchReader, WriteBatch};
    use crate::base::rng::Rng;
    use crate::env::fault_env::{Fault, FaultEnv, FaultKind, Operations};
    use crate::env::mem_env::{CrashPolicy, MemEnv};
    use crate::env::os_env::OsEnv;
    use crate::wal::log::{Log, LogOptions};
    use crate::wal::record::{begin_record, finish_record, record_len};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const SEGMENT: u64 = 4096;
    const HISTORY: u64 = 0xfeed;
    const DIR: &str = "/db";

    fn options(dir: &Path) -> LogOptions {
        LogOptions {
            dir: dir.to_path_buf(),
            segment_bytes: SEGMENT,
            total_bytes: 8 * SEGMENT,
            sync_interval_ms: 0,
            history: HISTORY,
            listener: None,
            events: None,
            latency: None,
            metrics: Arc::default(),
        }
    }

    fn new_log(env: &Arc<MemEnv>, segment: u64, last_lsn: Lsn) -> Log {
        env.create_dir_all(Path::new(DIR)).unwrap();
        Log::create(env.clone(), options(Path::new(DIR)), segment, last_lsn).unwrap()
    }

    fn segment_path(id: u64) -> PathBuf {
        FileName::Segment(id).path(Path::new(DIR))
    }

    /// A batch whose bytes follow from its first sequence number.
    fn batch_at(first: SequenceNumber, len: usize) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.set_annotation(&first.to_le_bytes()).unwrap();
        for i in 0..first % 3 {
            batch.put(1, &(first + i).to_be_bytes(), &vec![(first + i) as u8; len]).unwrap();
        }
        batch
    }

    fn append(log: &Log, len: usize) -> Result<Lsn> {
        let mut guard = log.lock();
        let first = guard.last_lsn() + 1;
        let batch = batch_at(first, len);
        guard.prepare(batch.encoded_len())?;
        let last = first + u64::from(batch.count().max(1)) - 1;
        guard.append(first, last, &batch);
        Ok(last)
    }

    /// Recovers and checks that each record is one that was written. Answers the LSNs as well.
    fn recover_checked(env: &dyn Env, bounds: &RecoveryBounds) -> Result<(Recovered, Vec<Lsn>)> {
        let mut lsns = Vec::new();
        let mut progress = (0, 0);
        let mut visit = |record: LogRecord<'_>| {
            let reader = BatchReader::new(record.payload).expect("a batch");
            let first = u64::from_le_bytes(reader.annotation().try_into().expect("the annotation"));
            assert_eq!(first, record.first_sequence);
            let entries = reader.map(|entry| entry.expect("an entry")).collect::<Vec<_>>();
            let len = entries.first().map_or(0, |entry| entry.value.len());
            let mut expected = Vec::new();
            batch_at(first, len).encode_into(&mut expected);
            assert_eq!(record.payload, expected);
            assert!(lsns.last() < Some(&record.last_lsn));
            lsns.push(record.last_lsn);
            Ok(())
        };
        let recovered = recover(env, Path::new(DIR), bounds, &mut visit, &mut |done, total| {
            assert!(done >= progress.0 && done <= total);
            progress = (done, total);
        })?;
        assert_eq!(progress.0, progress.1);
        assert_eq!(recovered.records, lsns.len() as u64);
        Ok((recovered, lsns))
    }

    fn from_start() -> RecoveryBounds {
        RecoveryBounds { first_segment: 1, start: 0, void: Vec::new(), history: Some(HISTORY) }
    }

    /// What `log` gave out, as a list of LSNs of records.
    fn fill(log: &Log, records: usize, rng: &mut Rng) -> Vec<Lsn> {
        (0..records).map(|_| append(log, rng.below(200) as usize).unwrap()).collect()
    }

    #[test]
    fn everything_written_comes_back_and_nothing_else() {
        let env = MemEnv::new();
        let log = new_log(&env, 1, 0);
        let lsns = fill(&log, 100, &mut Rng::new(1));
        log.lock().skip(log.appended() + 10);
        log.try_write().unwrap();
        let (recovered, found) = recover_checked(env.as_ref(), &from_start()).unwrap();
        assert_eq!(found, lsns);
        assert_eq!(recovered.torn, None);
        assert_eq!(recovered.last_lsn, log.lock().recoverable_lsn());
        assert_eq!(recovered.last_lsn, *lsns.last().unwrap());
        assert_eq!(recovered.next_segment, log.current_segment() + 1);
        assert_eq!(recovered.segments.len(), recovered.ends.len());
        assert!(env.list_all().iter().all(|path| env.is_synced(path)), "what was replayed is synced");
        let other = RecoveryBounds { history: Some(1), ..from_start() };
        assert!(recover_checked(env.as_ref(), &other).unwrap_err().is_corruption());
    }

    #[test]
    fn nothing_to_recover() {
        let env = MemEnv::new();
        env.create_dir_all(Path::new(DIR)).unwrap();
        let (recovered, _) = recover_checked(env.as_ref(), &RecoveryBounds::default()).unwrap();
        assert_eq!(recovered, Recovered { next_segment: 1, ..Recovered::default() });
        let void = RecoveryBounds { void: vec![(3, 9)], ..from_start() };
        assert!(recover_checked(env.as_ref(), &void).unwrap_err().is_corruption(), "the log is gone");
        let void = RecoveryBounds { first_segment: 3, ..void };
        assert_eq!(recover_checked(env.as_ref(), &void).unwrap().0.next_segment, 3);
    }

    /// One disk as a crash left it, and what must be on it.
    struct Crash {
        env: Arc<MemEnv>,
        at_least: Lsn,
        what: String,
    }

    /// Runs `work` on a log and collects the disk before every operation.
    fn crashes_of(env: &Arc<MemEnv>, log: &Arc<Log>, seed: u64, work: impl FnOnce()) -> Vec<Crash> {
        let crashes = Arc::new(Mutex::new(Vec::new()));
        let (disk, log, list) = (env.clone(), log.clone(), crashes.clone());
        env.set_operation_hook(Some(Arc::new(move |number, operation| {
            let policies = [
                (CrashPolicy::ProcessKill, log.written()),
                (CrashPolicy::DropUnsynced, log.synced()),
                (CrashPolicy::KeepRandom { percent: 50 }, log.synced()),
                (CrashPolicy::KeepRandom { percent: 90 }, log.synced()),
                (CrashPolicy::Reorder, log.synced()),
            ];
            for (policy, at_least) in policies {
                let clone = disk.crash_clone(policy, seed ^ number);
                let what = format!("{policy:?} before operation {number}, {operation:?}");
                list.lock().unwrap().push(Crash { env: clone, at_least, what });
            }
        })));
        work();
        env.set_operation_hook(None);
        std::mem::take(&mut *crashes.lock().unwrap())
    }

    fn is_prefix(found: &[Lsn], of: &[Lsn]) -> bool {
        of.starts_with(found)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(u16),
        Skip(u8),
        Write,
        Sync,
        Turn,
        Idle,
        Release,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            12 => (0u16..400).prop_map(Step::Append),
            1 => (1000u16..9000).prop_map(Step::Append),
            1 => (1u8..5).prop_map(Step::Skip),
            4 => Just(Step::Write),
            2 => Just(Step::Sync),
            3 => Just(Step::Turn),
            1 => Just(Step::Idle),
            1 => Just(Step::Release),
        ];
        proptest::collection::vec(step, 1..60)
    }

    /// Does the steps; `lsns` gets the LSN of each record.
    fn run_steps(env: &MemEnv, log: &Log, steps: &[Step], lsns: &mut Vec<Lsn>, release: bool) {
        for step in steps {
            match step {
                Step::Append(len) => lsns.push(append(log, usize::from(*len)).unwrap()),
                Step::Skip(by) => {
                    let mut guard = log.lock();
                    let last = guard.last_lsn() + u64::from(*by);
                    guard.skip(last);
                }
                Step::Write => log.try_write().unwrap(),
                Step::Sync => log.sync_to(log.appended()).unwrap(),
                Step::Turn => drop(log.step().unwrap()),
                Step::Idle => {
                    env.advance(Duration::from_secs(2));
                    log.step().unwrap();
                }
                Step::Release if release => log.release_before(log.current_segment()),
                Step::Release => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The prefix oracle, at every operation: all that was synced is there, and what is there is a prefix. Then again
        /// after a second life on what the crash left, and a second crash, with the first one's end noted.
        #[test]
        fn any_crash_leaves_a_prefix(first in steps(), second in steps(), seed: u64) {
            let env = MemEnv::new();
            let log = Arc::new(new_log(&env, 1, 0));
            let mut lsns = Vec::new();
            let crashes = crashes_of(&env, &log, seed, || run_steps(&env, &log, &first, &mut lsns, false));
            let mut rng = Rng::new(seed);
            let chosen = rng.below(crashes.len() as u64 + 1) as usize;
            for (i, crash) in crashes.iter().enumerate() {
                let (recovered, found) = recover_checked(crash.env.as_ref(), &from_start())
                    .map_err(|e| TestCaseError::fail(format!("{}: {e}", crash.what)))?;
                prop_assert!(is_prefix(&found, &lsns), "{}: {:?} of {:?}", crash.what, found, lsns);
                let missing = lsns.get(found.len()).copied().unwrap_or(Lsn::MAX);
                prop_assert!(missing > crash.at_least, "{}: {} lost", crash.what, missing);
                // What was shown once must not vanish.
                let again = crash.env.crash_clone(CrashPolicy::DropUnsynced, 0);
                let (same, found_again) = recover_checked(again.as_ref(), &from_start()).unwrap();
                prop_assert_eq!(&found, &found_again);
                prop_assert_eq!(same.last_lsn, recovered.last_lsn);
                if i == chosen {
                    second_life(&again, &same, &found, &second, seed)?;
                }
            }
        }

        /// Releasing and recycling: what remains begins at the released segment, and stale bytes never show.
        #[test]
        fn recycled_files_never_show_their_past(steps in steps(), more in steps(), seed: u64) {
            let env = MemEnv::new();
            let log = Arc::new(new_log(&env, 1, 0));
            let mut lsns = Vec::new();
            let steps = steps.iter().chain(&more).cloned().collect::<Vec<_>>();
            run_steps(&env, &log, &steps, &mut lsns, true);
            run_steps(&env, &log, &steps, &mut lsns, true);
            log.sync_to(log.appended()).unwrap();
            let synced = lsns.len();
            run_steps(&env, &log, &more, &mut lsns, false);
            log.try_write().unwrap();
            let bounds = RecoveryBounds { first_segment: log.segments()[0].id, ..from_start() };
            let killed = env.crash_clone(CrashPolicy::ProcessKill, seed);
            let (_, all) = recover_checked(killed.as_ref(), &bounds).unwrap();
            prop_assert!(lsns.ends_with(&all));
            let released = lsns.len() - all.len();
            for policy in [CrashPolicy::DropUnsynced, CrashPolicy::KeepRandom { percent: 60 }, CrashPolicy::Reorder] {
                let crashed = env.crash_clone(policy, seed);
                let (_, found) = recover_checked(crashed.as_ref(), &bounds)
                    .map_err(|e| TestCaseError::fail(format!("{policy:?}: {e}")))?;
                prop_assert!(is_prefix(&found, &all));
                prop_assert!(released + found.len() >= synced);
            }
        }

        /// A flipped bit: refused, or a prefix that holds everything that some record behind said to be durable.
        #[test]
        fn rot_is_never_replayed(seed: u64, records in 5usize..80, at: prop::sample::Index, bit in 0u8..8) {
            let env = MemEnv::new();
            let log = new_log(&env, 1, 0);
            let mut rng = Rng::new(seed);
            let lsns = fill(&log, records, &mut rng);
            log.sync_to(log.appended()).unwrap();
            log.close().unwrap();
            let (whole, _) = recover_checked(env.as_ref(), &from_start()).unwrap();
            let total = whole.ends.iter().map(|end| end.offset).sum::<u64>() as usize;
            let mut offset = at.index(total) as u64;
            let mut rotten = 0;
            for end in &whole.ends {
                rotten = end.segment;
                if offset < end.offset {
                    break;
                }
                offset -= end.offset;
            }
            env.flip_bit(&segment_path(rotten), offset, 1 << bit).unwrap();
            let last = whole.ends.last().unwrap();
            let in_mark = rotten == last.segment && offset >= last.offset - RECORD_HEADER_BYTES as u64;
            match recover_checked(env.as_ref(), &from_start()) {
                // After a clean close only the closing mark itself can be hit without a trace.
                Ok((_, found)) => prop_assert!(in_mark && found == lsns),
                Err(error) => prop_assert!(error.is_corruption()),
            }
        }

        #[test]
        fn hostile_segments_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), seed: u64) {
            let mut rng = Rng::new(seed);
            let path = Path::new("x");
            let mut all = |_: LogRecord<'_>| Ok(());
            read_segment_bytes(path, 1, &bytes, &mut all).unwrap();
            // With a good header, and now and then a good record.
            let header = SegmentHeader { segment: 1, history: seed, previous_lsn: 0, start_lsn: 5, created_ms: 0 };
            let mut file = header.encode().to_vec();
            let mut lsn = 5;
            for chunk in bytes.chunks(40) {
                if rng.one_in(2) {
                    let start = begin_record(&mut file);
                    file.extend_from_slice(chunk);
                    lsn += rng.below(3);
                    let kind = if rng.one_in(4) { RecordKind::DurableMark } else { RecordKind::Batch };
                    finish_record(&mut file, start, header.seed(), kind, lsn, rng.below(10));
                } else {
                    file.extend_from_slice(chunk);
                    file.resize(file.len().next_multiple_of(RECORD_ALIGN), 0);
                }
            }
            let mut last = 5;
            let reading = read_segment_bytes(path, 1, &file, &mut |record: LogRecord<'_>| {
                assert!(record.first_sequence > last && record.last_lsn >= record.first_sequence);
                last = record.last_lsn;
                Ok(())
            }).unwrap();
            prop_assert_eq!(reading.last_lsn, last);
            prop_assert!(reading.end <= file.len() as u64);
            let env = MemEnv::new();
            env.write_file(&segment_path(1), &file).unwrap();
            let bounds = RecoveryBounds { history: None, ..from_start() };
            let result = recover(env.as_ref(), Path::new(DIR), &bounds, &mut all, &mut |_, _| {});
            prop_assert!(result.is_ok() || result.unwrap_err().is_corruption());
        }
    }

    /// A new log behind a recovered one, with the end noted; crashes again at every operation.
    fn second_life(
        env: &Arc<MemEnv>,
        recovered: &Recovered,
        kept: &[Lsn],
        steps: &[Step],
        seed: u64,
    ) -> std::result::Result<(), TestCaseError> {
        let note = (recovered.next_segment, recovered.last_lsn);
        let bounds = RecoveryBounds { void: vec![note], ..from_start() };
        // As if tables had reached further than the log.
        let last_lsn = recovered.last_lsn + seed % 7;
        let log = Arc::new(new_log(env, recovered.next_segment, last_lsn));
        for end in &recovered.ends {
            log.adopt(end).unwrap();
        }
        let mut lsns = kept.to_vec();
        let crashes = crashes_of(env, &log, seed, || run_steps(env, &log, steps, &mut lsns, false));
        // A copy of the segments, as a checkpoint makes it, with its end noted.
        let copy = (log.current_segment() + 1, log.lock().recoverable_lsn());
        log.try_write().unwrap();
        let killed = env.crash_clone(CrashPolicy::ProcessKill, 0);
        let noted = RecoveryBounds { void: vec![note, copy], ..from_start() };
        prop_assert_eq!(&recover_checked(killed.as_ref(), &noted).unwrap().1, &lsns);
        let mut reader = log.reader(1).unwrap();
        let mut tailed = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            tailed.push(record.last_lsn);
        }
        prop_assert_eq!(&tailed, &lsns);
        for crash in crashes {
            let (third, found) = recover_checked(crash.env.as_ref(), &bounds)
                .map_err(|e| TestCaseError::fail(format!("second life, {}: {e}", crash.what)))?;
            prop_assert!(is_prefix(&found, &lsns), "{}", crash.what);
            prop_assert!(found.len() >= kept.len(), "{}", crash.what);
            let missing = lsns.get(found.len()).copied().unwrap_or(Lsn::MAX);
            prop_assert!(missing > crash.at_least, "second life, {}: {} lost", crash.what, missing);
            // And noted once more, it is the same.
            let void = vec![note, (third.next_segment, third.last_lsn)];
            let bounds = RecoveryBounds { void, ..from_start() };
            prop_assert_eq!(recover_checked(crash.env.as_ref(), &bounds).unwrap().1, found);
        }
        Ok(())
    }

    #[test]
    fn damage_is_a_tear_or_rot_as_the_records_behind_it_say() {
        // Three records; the third is behind a sync of the first (tear of the second is fine) or of both (it is not).
        for (synced, is_rot) in [(0, false), (1, false), (2, true)] {
            let env = MemEnv::new();
            let log = new_log(&env, 1, 0);
            let mut offsets = Vec::new();
            for i in 0..3 {
                offsets.push(log.total_bytes());
                let lsn = append(&log, 50).unwrap();
                log.write_to(lsn).unwrap();
                if i < synced {
                    log.sync_to(lsn).unwrap();
                }
            }
            env.flip_bit(&segment_path(1), offsets[1] + 30, 4).unwrap();
            match recover_checked(env.as_ref(), &from_start()) {
                Ok((recovered, found)) => {
                    assert!(!is_rot && found.len() == 1);
                    let (path, offset, why) = recovered.torn.unwrap();
                    assert_eq!((path, offset), (segment_path(1), offsets[1]));
                    assert!(why.contains("checksum"));
                }
                Err(Error::Corruption { file, offset, what }) => {
                    assert!(is_rot, "{what}");
                    assert_eq!((file, offset), (segment_path(1), offsets[1]));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn rot_is_found_through_a_later_segment_and_a_lost_segment_too() {
        let build = |sync: bool| {
            let env = MemEnv::new();
            let log = new_log(&env, 1, 0);
            while log.current_segment() < 4 {
                append(&log, 100).unwrap();
                if sync {
                    log.sync_to(log.appended()).unwrap();
                }
            }
            log.try_write().unwrap();
            env
        };
        let damages: [fn(&MemEnv); 5] = [
            |env| env.flip_bit(&segment_path(2), 0, 1).unwrap(),
            |env| env.flip_bit(&segment_path(2), 2000, 1).unwrap(),
            |env| env.remove(&segment_path(2)).unwrap(),
            |env| env.remove(&segment_path(1)).unwrap(),
            |env| env.write_file(&segment_path(3), &[0; SEGMENT as usize]).unwrap(),
        ];
        for damage in damages {
            let env = build(true);
            damage(&env);
            let error = recover_checked(env.as_ref(), &from_start()).unwrap_err();
            assert!(error.is_corruption(), "{error}");
            let env = build(false);
            damage(&env);
            let (recovered, _) = recover_checked(env.as_ref(), &from_start()).unwrap();
            assert!(recovered.torn.is_some());
        }
    }

    /// A power cut may keep the records of a segment and lose its front; what those say of segments that are not needed any more
    /// is no evidence of rot.
    #[test]
    fn the_front_of_the_first_needed_segment_may_be_lost() {
        let env = MemEnv::new();
        let log = new_log(&env, 1, 0);
        while log.current_segment() < 2 {
            append(&log, 100).unwrap();
            log.sync_to(log.appended()).unwrap();
        }
        append(&log, 100).unwrap();
        log.try_write().unwrap();
        let start = log.segments()[1].start_lsn;
        env.open(&segment_path(2), OpenMode::ReadWrite).unwrap().write_at(&[0; 64], 0).unwrap();
        let unknown = RecoveryBounds { first_segment: 2, ..from_start() };
        // The first record of the segment was synced; what lies before it is in tables.
        let durable = log.synced();
        assert!(durable > start);
        assert!(recover_checked(env.as_ref(), &unknown).unwrap_err().is_corruption());
        let lost = RecoveryBounds { start, ..unknown.clone() };
        assert!(recover_checked(env.as_ref(), &lost).unwrap_err().is_corruption(), "a synced record is gone");
        // Had the segment only records that nobody synced, all would be well.
        let fine = RecoveryBounds { start: durable, ..unknown };
        let (recovered, found) = recover_checked(env.as_ref(), &fine).unwrap();
        assert_eq!((recovered.last_lsn, found), (durable, vec![]));
    }

    #[test]
    fn records_past_a_noted_end_are_void() {
        let env = MemEnv::new();
        let log = new_log(&env, 1, 0);
        let lsns = fill(&log, 60, &mut Rng::new(3));
        log.close().unwrap();
        let end = lsns[20];
        let next = log.current_segment() + 1;
        let log = new_log(&env, next, lsns[59]);
        let more = fill(&log, 5, &mut Rng::new(4));
        log.close().unwrap();
        let void = |end| RecoveryBounds { void: vec![(next, end)], ..from_start() };
        let (recovered, found) = recover_checked(env.as_ref(), &void(end)).unwrap();
        assert_eq!(found[..21], lsns[..21]);
        assert_eq!(found[21..], more);
        assert_eq!(recovered.torn, None);
        let (_, all) = recover_checked(env.as_ref(), &void(lsns[59])).unwrap();
        assert_eq!(all.len(), 65);
        let error = recover_checked(env.as_ref(), &void(lsns[59] + 1)).unwrap_err();
        assert!(error.is_corruption(), "an end that is not reached: {error}");
    }

    #[test]
    fn a_planted_record_of_another_segment_is_not_believed() {
        let env = MemEnv::new();
        let log = new_log(&env, 1, 0);
        let lsn = append(&log, 10).unwrap();
        log.sync_to(lsn).unwrap();
        let end = log.total_bytes();
        let mut planted = Vec::new();
        let start = begin_record(&mut planted);
        batch_at(lsn + 1, 9).encode_into(&mut planted);
        finish_record(&mut planted, start, CrcSeed::new(HISTORY, 2), RecordKind::Batch, lsn + 1, lsn);
        let file = env.open(&segment_path(1), OpenMode::ReadWrite).unwrap();
        file.write_at(&planted, end).unwrap();
        let (recovered, found) = recover_checked(env.as_ref(), &from_start()).unwrap();
        assert_eq!(found, [lsn]);
        assert_eq!(recovered.torn.unwrap().1, end);
    }

    #[test]
    fn io_errors_and_the_visitors_errors_come_through() {
        let inner = MemEnv::new();
        let env = FaultEnv::new(inner.clone());
        let log = new_log(&inner, 1, 0);
        fill(&log, 50, &mut Rng::new(9));
        log.close().unwrap();
        for operation in
            [Operations::LIST, Operations::OPEN, Operations::READ, Operations::SYNC, Operations::SYNC_DIR]
        {
            env.inject(Fault::once(operation, FaultKind::Eio));
            assert!(matches!(recover_checked(env.as_ref(), &from_start()), Err(Error::Io { .. })));
            env.clear();
        }
        let mut refuse = |_: LogRecord<'_>| Err(Error::Closed);
        let result = recover(env.as_ref(), Path::new(DIR), &from_start(), &mut refuse, &mut |_, _| {});
        assert!(matches!(result, Err(Error::Closed)));
    }

    /// Every operation fails once: the log either goes on or is poisoned, and what it said to be synced is there.
    #[test]
    fn any_single_fault_keeps_what_was_synced() {
        for kind in [FaultKind::Eio, FaultKind::NoSpace, FaultKind::ShortWrite] {
            for nth in 0.. {
                let inner = MemEnv::new();
                inner.create_dir_all(Path::new(DIR)).unwrap();
                let env = FaultEnv::new(inner.clone());
                let fault = Fault { nth, ..Fault::once(Operations::MUTATING, kind) };
                env.inject(fault);
                let mut lsns = Vec::new();
                let log = match Log::create(env.clone(), options(Path::new(DIR)), 1, 0) {
                    Ok(log) => log,
                    Err(_) => continue,
                };
                for i in 0..60 {
                    if let Ok(lsn) = append(&log, 150) {
                        lsns.push(lsn);
                    }
                    let _ = if i % 5 == 0 { log.sync_to(log.appended()) } else { log.try_write() };
                    let _ = log.step();
                    log.release_before(0);
                }
                let _ = log.close();
                for policy in [CrashPolicy::DropUnsynced, CrashPolicy::KeepRandom { percent: 50 }] {
                    let crashed = inner.crash_clone(policy, nth);
                    let (_, found) = recover_checked(crashed.as_ref(), &from_start()).unwrap();
                    assert!(is_prefix(&found, &lsns));
                    assert!(lsns.get(found.len()).is_none_or(|&missing| missing > log.synced()));
                }
                if env.hits() == 0 {
                    break;
                }
            }
        }
    }

    #[test]
    fn four_threads_on_a_real_disk() {
        let env = OsEnv::new();
        let dir = std::env::temp_dir().join(format!(
            "haypile-wal-{}-{:016x}",
            std::process::id(),
            env.random_u64()
        ));
        env.create_dir_all(&dir).unwrap();
        let options = LogOptions { segment_bytes: 64 << 10, sync_interval_ms: 5, ..options(&dir) };
        let log = Arc::new(Log::create(env.clone(), options, 1, 0).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (body, body_stop) = (log.clone(), stop.clone());
        let log_thread =
            env.spawn("wal", false, Box::new(move || body.run_keeper(&body_stop))).unwrap().unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let threads = (0..4u64)
            .map(|t| {
                let (log, acknowledged) = (log.clone(), acknowledged.clone());
                let work = move || {
                    let mut rng = Rng::new(t);
                    for i in 0..600 {
                        let lsn = append(&log, rng.below(300) as usize).unwrap();
                        match (i + t) % 16 {
                            0 => log.sync_to(lsn).unwrap(),
                            1..8 => log.write_to(lsn).unwrap(),
                            _ => log.try_write().unwrap(),
                        }
                        if (i + t) % 16 == 0 {
                            assert!(log.synced() >= lsn);
                            acknowledged.fetch_max(lsn, Ordering::SeqCst);
                        }
                        assert!(log.synced() <= log.appended() && log.written() <= log.appended());
                    }
                };
                env.spawn("appender", false, Box::new(work)).unwrap().unwrap()
            })
            .collect::<Vec<_>>();
        let mut reader = log.reader(1).unwrap();
        let mut tailed = Vec::new();
        while tailed.len() < 2400 {
            match reader.next().unwrap() {
                Some(record) => {
                    tailed.push(record.last_lsn);
                    assert!(record.last_lsn <= log.appended());
                }
                None => env.sleep(Duration::from_micros(200)),
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        // No tail is lost: without any further call everything gets written and, in a moment, synced.
        let deadline = env.monotonic() + Duration::from_secs(10);
        while log.synced() < log.appended() && env.monotonic() < deadline {
            env.sleep(Duration::from_millis(1));
        }
        assert_eq!(log.synced(), log.appended());
        stop.store(true, Ordering::Release);
        log.wake_threads();
        log_thread.join().unwrap();
        assert!(log.synced() >= acknowledged.load(Ordering::SeqCst));
        log.close().unwrap();
        let mut lsns = Vec::new();
        let mut visit = |record: LogRecord<'_>| {
            lsns.push(record.last_lsn);
            Ok(())
        };
        let recovered = recover(env.as_ref(), &dir, &from_start(), &mut visit, &mut |_, _| {}).unwrap();
        assert_eq!(lsns, tailed);
        assert_eq!((recovered.torn, recovered.last_lsn), (None, log.appended()));
        env.remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn searching_behind_damage_is_not_quadratic() {
        let header = SegmentHeader { segment: 1, history: 0, previous_lsn: 0, start_lsn: 0, created_ms: 0 };
        let mut file = header.encode().to_vec();
        // Every eighth byte starts a header that announces almost all the rest.
        let words = (1usize << 20) / 8;
        for i in 0..words {
            let announced = ((words - i) * 8 / 2) as u64;
            file.extend_from_slice(&if i % 3 == 0 {
                (announced << 32 | 1).to_le_bytes()
            } else {
                257u64.to_le_bytes()
            });
        }
        let start = OsEnv::new();
        let reading = read_segment_bytes(Path::new("x"), 1, &file, &mut |_| Ok(())).unwrap();
        assert_eq!(reading.records, 0);
        assert!(start.monotonic() < Duration::from_secs(3));
    }

    #[test]
    fn a_map_of_one_segment() {
        let env = MemEnv::new();
        let log = new_log(&env, 1, 0);
        let lsns = fill(&log, 10, &mut Rng::new(2));
        log.close().unwrap();
        let bytes = env.read_file(&segment_path(1)).unwrap();
        let mut map = BTreeMap::new();
        let reading = read_segment_bytes(&segment_path(1), 1, &bytes, &mut |record: LogRecord<'_>| {
            map.insert(record.offset, record_len(record.payload.len()));
            Ok(())
        });
        let reading = reading.unwrap();
        assert_eq!((reading.records, reading.last_lsn), (10, lsns[9]));
        assert_eq!((reading.stop, reading.durable_lsn), (None, lsns[9]));
        assert!(map.iter().zip(map.keys().skip(1)).all(|((at, len), next)| at + *len as u64 == *next));
        assert_eq!(reading.end, map.iter().last().map(|(at, len)| at + *len as u64).unwrap() + 24);
        let other = read_segment_bytes(&segment_path(2), 2, &bytes, &mut |_| Ok(())).unwrap();
        assert_eq!(other.header, HeaderState::NotBegun);
    }
}
