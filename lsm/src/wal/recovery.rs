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
            found: Recovered::default(),
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
