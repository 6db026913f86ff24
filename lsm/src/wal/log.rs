//! The running log: commits append to it, whoever gets to it writes it, one sync serves all who wait.
//!
//! ```text
//!   append (commit lock)        write (io lock)            sync (one at a time)
//!   encode into the buffer ───> swap buffers, one pwrite ───> fdatasync every segment written to, oldest first
//!   appended                    written                    synced           three watermarks on the LSN line
//! ```
//!
//! **Locks**, in the order in which a thread may take them: commit > spare > io > buffer. The buffer lock is held for one
//! memcpy or one swap. A thread that waits for its turn to sync holds none of them.
//!
//! **No lost tail.** [`Log::try_write`] gives up at once when another thread has the io lock. That is safe because whoever
//! lets go of the io lock looks at the buffer once more afterwards. The two sides are ordered by a SeqCst fence each:
//! either the loser finds the lock free, or the owner's second look finds the loser's record.
//!
//! **Segments.** The next one is prepared when the current one is half full, by the log thread; if that is late, by the
//! commit that needs it. Rotation writes no byte itself: the header of the new segment goes through the buffer. A
//! segment keeps room for one durable mark and an end mark (a header of zeros, written behind the last record each time,
//! overwritten by the next), so that closing cleanly always fits.
//!
//! **Watermark in records.** `durable` counts records only: an LSN that was skipped (a write without WAL) must not make
//! recovery look for a record that never was.
//!
//! **Failure.** When bytes of a record were handed to the system and that failed, or any sync failed, nobody knows what is
//! on the disk: the log is *poisoned*, for good, and each call says so. A full disk while preparing a segment is only
//! `NoSpace`: nothing was assigned yet, and the next commit tries again.
//!
//! It does not know memtables: who needs which segment is told by [`Log::release_before`]. It starts no thread: the
//! database runs [`Log::run_writer`] and [`Log::run_keeper`] (not niced: they take locks that commits take), or calls
//! [`Log::step`].

use crate::base::batch::WriteBatch;
use crate::base::error::{Error, Result};
use crate::base::key::{Lsn, SequenceNumber};
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::metrics::Metrics;
use crate::base::options::{EventListener, LatencyListener, LogListener, LogProgress};
use crate::env::env::Env;
use crate::wal::record::{
    RECORD_HEADER_BYTES, RecordKind, begin_record, finish_record, put_durable_mark, record_len,
};
use crate::wal::segment::{
    Hold, Prepared, SEGMENT_HEADER_BYTES, Segment, SegmentEnd, SegmentHeader, SegmentInfo, SegmentStore,
};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// When so much is appended and not written, the next commit writes first.
const UNWRITTEN_BYTES_MAX: u64 = 8 << 20;
/// A buffer that one large record blew up beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 16 << 20;
/// Room at the end of each segment: a durable mark and an end mark.
const TAIL_BYTES: u64 = 2 * RECORD_HEADER_BYTES as u64;
/// A write that takes longer says that the disk is busy.
const SLOW_WRITE_US: u64 = 1000;
/// After a write that a sync held up, the log thread writes during so many syncs, then others try again.
const SYNCS_AVOIDED: u64 = 16;
/// So many rounds a thread writes for others before the log thread takes over.
const ROUNDS_FOR_OTHERS: usize = 4;
/// After a sync and this long without another, the durable LSN is logged.
const IDLE: Duration = Duration::from_secs(1);
/// The log thread looks around at least this often.
const PATROL: Duration = Duration::from_millis(250);

/// What a log needs to know.
#[derive(Clone)]
pub struct LogOptions {
    /// Folder of the segments; it must exist.
    pub dir: PathBuf,
    /// Size of a segment; one that has to hold a larger record is larger.
    pub segment_bytes: u64,
    /// Size of all segments from which [`Log::is_over_budget`] asks for a flush.
    pub total_bytes: u64,
    /// A background sync starts within this long of the oldest unsynced write; 0 for never.
    pub sync_interval_ms: u64,
    /// Identity of this log; stands in each segment.
    pub history: u64,
    /// Told when a watermark advances. With several threads at it, values may arrive out of order: keep the greatest.
    pub listener: Option<LogListener>,
    /// Told in words what happens.
    pub events: Option<EventListener>,
    /// Told how long writes and syncs took.
    pub latency: Option<LatencyListener>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("dir", &self.dir)
            .field("segment_bytes", &self.segment_bytes)
            .field("sync_interval_ms", &self.sync_interval_ms)
            .finish_non_exhaustive()
    }
}

/// The write-ahead log of one database. Shared by all its threads.
pub struct Log {
    env: Arc<dyn Env>,
    options: LogOptions,
    store: Arc<SegmentStore>,
    commit: Mutex<Commit>,
    spare: Mutex<Spare>,
    io: Mutex<Io>,
    buffer: Mutex<Buffer>,
    /// All atomics that say how far things are. Stores are Release and happen under the lock of their stage; loads are
    /// Acquire, so what lies below a watermark is there for whoever saw it.
    appended: AtomicU64,
    written: AtomicU64,
    synced: AtomicU64,
    /// LSN of the last record that is on the disk; what records carry as `durable`.
    durable: AtomicU64,
    appended_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// `appended_bytes` when the current segment began.
    segment_base_bytes: AtomicU64,
    current: AtomicU64,
    /// Moments in nanoseconds of the monotonic clock, 0 for none; hints, so all relaxed.
    oldest_unsynced: AtomicU64,
    oldest_syncing: AtomicU64,
    last_sync: AtomicU64,
    last_write_us: AtomicU64,
    sync_turn: Mutex<bool>,
    sync_done: Condvar,
    sync_in_flight: AtomicBool,
    /// During how many more syncs writes are taken to be slow. A hint, relaxed.
    syncs_avoided: AtomicU64,
    /// Somebody wants everything synced who does not wait for it.
    sync_asked: AtomicBool,
    /// The last segment that was to be prepared found no space.
    wants_space: AtomicBool,
    closed: AtomicBool,
    poisoned: AtomicBool,
    poison: Mutex<Option<String>>,
    write_bell: Bell,
    keep_bell: Bell,
    thread_running: AtomicBool,
}

/// Under the commit lock: where the next record goes.
struct Commit {
    segment: Arc<Segment>,
    offset: u64,
    last_lsn: Lsn,
    /// 0 until this log has a record.
    last_record_lsn: Lsn,
    /// What the log began behind.
    start_lsn: Lsn,
    /// The greatest durable LSN that any record so far carries.
    marked_lsn: Lsn,
    prepared_len: usize,
}

/// Bytes on their way to the files.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    last_lsn: Lsn,
    last_record_lsn: Lsn,
}

/// Bytes from `start` on, up to the next part, go to `offset` of `segment`.
struct Part {
    segment: Arc<Segment>,
    offset: u64,
    start: usize,
}

struct Io {
    /// The other buffer; empty.
    buffer: Buffer,
    /// Segments written to since they were last synced, oldest first.
    dirty: Vec<Arc<Segment>>,
    written_record_lsn: Lsn,
}

struct Spare {
    prepared: Option<Prepared>,
    next_id: u64,
    /// So that a full disk is told of once.
    complained: bool,
}

impl Buffer {
    /// Makes what is appended next go to `offset` of `segment`.
    fn aim(&mut self, segment: &Arc<Segment>, offset: u64) {
        if self.parts.last().is_none_or(|part| part.segment.id != segment.id) {
            self.parts.push(Part { segment: segment.clone(), offset, start: self.bytes.len() });
        }
    }

    fn reset(&mut self) {
        self.parts.clear();
        self.bytes.clear();
        if self.bytes.capacity() > BUFFER_BYTES_KEPT {
            self.bytes = Vec::new();
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("segment", &self.current_segment())
            .field("appended", &self.appended())
            .field("written", &self.written())
            .field("synced", &self.synced())
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Makes segment `first_segment`, with its header, file and name synced, and starts behind `last_lsn`.
    pub fn create(env: Arc<dyn Env>, options: LogOptions, first_segment: u64, last_lsn: Lsn) -> Result<Log> {
        let store = SegmentStore::new(
            env.clone(),
            options.dir.clone(),
            options.segment_bytes,
            options.events.clone(),
        );
        let bytes = options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + TAIL_BYTES);
        let prepared = store.prepare(first_segment, bytes).map_err(|failure| failure.error)?;
        let header = SegmentHeader {
            segment: first_segment,
            history: options.history,
            previous_lsn: 0,
            start_lsn: last_lsn,
            created_ms: env.unix_ms(),
        };
        prepared.file.write_at(&header.encode(), 0)?;
        prepared.file.sync()?;
        let segment = Arc::new(Segment::open(prepared, &header));
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        segment.set_written_end(header_bytes);
        store.push(segment.clone());
        store.set_synced_before(first_segment);
        let buffer = || Buffer { last_lsn, ..Buffer::default() };
        Ok(Log {
            env,
            options,
            store,
            commit: Mutex::new(Commit {
                segment,
                offset: header_bytes,
                last_lsn,
                last_record_lsn: 0,
                start_lsn: last_lsn,
                marked_lsn: 0,
                prepared_len: 0,
            }),
            spare: Mutex::new(Spare { prepared: None, next_id: first_segment + 1, complained: false }),
            io: Mutex::new(Io { buffer: buffer(), dirty: Vec::new(), written_record_lsn: 0 }),
            buffer: Mutex::new(buffer()),
            appended: AtomicU64::new(last_lsn),
            written: AtomicU64::new(last_lsn),
            synced: AtomicU64::new(last_lsn),
            durable: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(header_bytes),
            written_bytes: AtomicU64::new(header_bytes),
            segment_base_bytes: AtomicU64::new(0),
            current: AtomicU64::new(first_segment),
            oldest_unsynced: AtomicU64::new(0),
            oldest_syncing: AtomicU64::new(0),
            last_sync: AtomicU64::new(0),
            last_write_us: AtomicU64::new(0),
            sync_turn: Mutex::new(false),
            sync_done: Condvar::new(),
            sync_asked: AtomicBool::new(false),
            wants_space: AtomicBool::new(false),
            sync_in_flight: AtomicBool::new(false),
            syncs_avoided: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            poison: Mutex::new(None),
            write_bell: Bell::default(),
            keep_bell: Bell::default(),
            thread_running: AtomicBool::new(false),
        })
    }

    /// Takes the commit lock.
    pub fn lock(&self) -> AppendGuard<'_> {
        AppendGuard { commit: self.guard(&self.commit), log: self }
    }

    /// The last LSN given out.
    pub fn appended(&self) -> Lsn {
        self.appended.load(Ordering::Acquire)
    }

    /// Up to here everything was handed to the operating system.
    pub fn written(&self) -> Lsn {
        self.written.load(Ordering::Acquire)
    }

    /// Up to here everything is on the disk.
    pub fn synced(&self) -> Lsn {
        self.synced.load(Ordering::Acquire)
    }

    /// Bytes appended and not yet handed to the operating system.
    pub fn unwritten_bytes(&self) -> u64 {
        let appended = self.appended_bytes.load(Ordering::Acquire);
        appended.saturating_sub(self.written_bytes.load(Ordering::Acquire))
    }

    /// How long ago the oldest write that is not on the disk was handed to the operating system.
    pub fn unsynced_for(&self) -> Option<Duration> {
        let moments = [&self.oldest_syncing, &self.oldest_unsynced].map(|at| at.load(Ordering::Relaxed));
        let oldest = moments.into_iter().filter(|&at| at != 0).min()?;
        Some(Duration::from_nanos(self.now().saturating_sub(oldest)))
    }

    /// On return `written() >= lsn`. Writes if nobody else does; waits for whoever is at it.
    pub fn write_to(&self, lsn: Lsn) -> Result<()> {
        if self.written() >= lsn {
            return Ok(());
        }
        if lsn > self.appended() {
            return Err(Error::invalid(format!("LSN {lsn} was not given out yet")));
        }
        self.drain(self.guard(&self.io))
    }

    /// Writes what is appended. If another thread is writing, returns at once: that one will write this too, or see to it.
    pub fn try_write(&self) -> Result<()> {
        if !self.has_unwritten() {
            return self.check_poison();
        }
        // Pairs with the fence in `drain`; see "No lost tail".
        fence(Ordering::SeqCst);
        match self.try_guard(&self.io) {
            Some(io) => self.drain(io),
            None => self.check_poison(),
        }
    }

    /// On return `synced() >= lsn`. One sync serves all who wait.
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        if lsn > self.appended() {
            return Err(Error::invalid(format!("LSN {lsn} was not given out yet")));
        }
        while let Some(turn) = self.take_turn(lsn)? {
            self.sync_now(&turn)?;
        }
        Ok(())
    }

    /// Whether the last write was slow, or a sync is in flight on a disk where a sync holds writes up: let the log thread write
    /// instead of a thread with better things to do.
    pub fn io_is_slow(&self) -> bool {
        // Relaxed: hints.
        self.last_write_us.load(Ordering::Relaxed) > SLOW_WRITE_US
            || self.sync_in_flight.load(Ordering::Relaxed) && self.syncs_avoided.load(Ordering::Relaxed) > 0
    }

    /// Asks the writer thread to write soon. Without one, the next step does.
    pub fn wake_writer(&self) {
        self.write_bell.ring();
    }

    /// Wakes both threads of the log, so that they see that they should stop.
    pub fn wake_threads(&self) {
        self.write_bell.ring();
        self.keep_bell.ring();
    }

    /// Asks the keeper thread for a sync of everything appended so far and returns at once; the listener tells when it is done.
    /// Without a thread, the next step does it.
    pub fn request_sync(&self) {
        // Release: pairs with the Acquire of the swap in `keep`.
        self.sync_asked.store(true, Ordering::Release);
        self.keep_bell.ring();
    }

    /// Whether a commit would find room: not poisoned, and no segment is waiting for space.
    pub fn has_room(&self) -> bool {
        // Relaxed: a hint; `AppendGuard::prepare` decides.
        !self.poisoned.load(Ordering::Acquire) && !self.wants_space.load(Ordering::Relaxed)
    }

    /// The body of the writer thread: writes when asked to, because the one who asks must not wait for the disk. It never syncs:
    /// a sync may take seconds, and what is written meanwhile must still get out. Returns soon after `stop` is set and
    /// [`wake_threads`](Self::wake_threads) called.
    pub fn run_writer(&self, stop: &AtomicBool) {
        // Release pairs with the Acquire in `drain`; until it is seen, threads just go on writing for others.
        self.thread_running.store(true, Ordering::Release);
        let reset = ThreadRuns(self);
        // Acquire pairs with the store of whoever stops the thread.
        while !stop.load(Ordering::Acquire) {
            // A failure is sticky; there is nothing more to do about it here.
            let _ = self.write_pending();
            self.write_bell.wait(PATROL);
        }
        drop(reset);
        let _ = self.try_write();
    }

    /// The body of the keeper thread: syncs when it is due or asked for, prepares and recycles segments, logs durable marks.
    /// Returns as [`run_writer`](Self::run_writer) does.
    pub fn run_keeper(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            // A failure is sticky or told to the event listener.
            let _ = self.keep();
            self.keep_bell.wait(self.pause());
        }
    }

    /// One turn of what both threads do. Answers whether there was anything to do.
    pub fn step(&self) -> Result<bool> {
        Ok(self.write_pending()? | self.keep()?)
    }

    fn write_pending(&self) -> Result<bool> {
        self.check_poison()?;
        let pending = self.has_unwritten();
        if pending {
            self.drain(self.guard(&self.io))?;
        }
        Ok(pending)
    }

    fn keep(&self) -> Result<bool> {
        let mut busy = self.store.collect();
        self.check_poison()?;
        let spare = self.prepare_spare();
        // Acquire: pairs with the Release in `request_sync`; what its caller appended is seen.
        if self.sync_asked.swap(false, Ordering::AcqRel) || self.is_sync_due() {
            self.sync_to(self.appended())?;
            busy = true;
        }
        if self.is_mark_due() {
            busy |= self.log_durable_mark()?;
        }
        Ok(spare? | busy)
    }

    /// All live segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.store.infos()
    }

    /// Bytes of records in all live segments.
    pub fn total_bytes(&self) -> u64 {
        // Relaxed: the two may be of different moments around a rotation, which costs nothing.
        let base = self.segment_base_bytes.load(Ordering::Relaxed);
        self.store.sealed_bytes() + self.appended_bytes.load(Ordering::Relaxed).saturating_sub(base)
    }

    /// Whether the segments' files together are larger than they should be.
    pub fn is_over_budget(&self) -> bool {
        self.total_bytes() + self.store.unused_bytes() > self.options.total_bytes
    }

    /// Id of the segment that is appended to.
    pub fn current_segment(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Says that no memtable needs segments below `segment`. Those that nobody holds are recycled or removed, here and now
    /// or, if held, in a later [`step`](Self::step).
    pub fn release_before(&self, segment: u64) {
        self.store.release_before(segment);
        self.store.collect();
    }

    /// Keeps the segments from `segment` on.
    pub fn hold(&self, segment: u64) -> Hold {
        self.store.hold(segment)
    }

    /// Takes over a segment that recovery read, so that it counts, can be tailed, and goes when it is released.
    pub fn adopt(&self, end: &SegmentEnd) -> Result<()> {
        self.store.adopt(end)
    }

    /// The segments, for readers.
    pub(in crate::wal) fn store(&self) -> &Arc<SegmentStore> {
        &self.store
    }

    /// Makes every later call fail. The first reason stays.
    pub fn poison(&self, why: &str) {
        {
            let mut poison = plain_guard(&self.poison);
            if poison.is_some() {
                return;
            }
            *poison = Some(why.to_string());
        }
        // Release pairs with the Acquire in `check_poison`.
        self.poisoned.store(true, Ordering::Release);
        // Taking the lock makes sure that nobody is between looking at the flag and falling asleep.
        drop(plain_guard(&self.sync_turn));
        self.sync_done.notify_all();
        self.tell(&format!("the WAL failed: {why}"));
        self.notify();
    }

    /// Whether the log is poisoned. Cheap.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Why the log is poisoned, if it is.
    pub fn poisoned(&self) -> Option<String> {
        plain_guard(&self.poison).clone()
    }

    /// Takes no more records, writes and syncs all there are, logs the durable LSN, and syncs that. Idle segments go.
    pub fn close(&self) -> Result<()> {
        {
            let _commit = self.guard(&self.commit);
            // Relaxed: read under the commit lock.
            self.closed.store(true, Ordering::Relaxed);
        }
        self.sync_to(self.appended())?;
        self.log_durable_mark()?;
        if let Some(prepared) = self.guard(&self.spare).prepared.take() {
            self.store.discard(&prepared);
        }
        self.store.drain_pool();
        Ok(())
    }

    // Appending.

    fn check_poison(&self) -> Result<()> {
        // Acquire pairs with the Release in `poison`: the reason is there.
        match self.poisoned.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(Error::Poisoned(self.poisoned().unwrap_or_default())),
        }
    }

    fn has_unwritten(&self) -> bool {
        self.appended() > self.written()
            || self.appended_bytes.load(Ordering::Acquire) != self.written_bytes.load(Ordering::Acquire)
    }

    /// Moves to the next segment, which holds a record of at least `need` bytes. Nothing has changed on failure.
    fn rotate(&self, commit: &mut Commit, need: u64) -> Result<()> {
        let wanted = SEGMENT_HEADER_BYTES as u64 + need + TAIL_BYTES;
        let wanted = self.options.segment_bytes.max(wanted.next_multiple_of(4096));
        let mut spare = self.guard(&self.spare);
        let prepared = match spare.prepared.take() {
            Some(mut prepared) => {
                if prepared.capacity < wanted {
                    if let Err(error) = prepared.file.allocate(wanted) {
                        spare.prepared = Some(prepared);
                        return Err(error);
                    }
                    prepared.capacity = wanted;
                }
                prepared
            }
            None => self.prepare_segment(spare.next_id, wanted)?,
        };
        spare.next_id = prepared.id + 1;
        drop(spare);
        let header = SegmentHeader {
            segment: prepared.id,
            history: self.options.history,
            previous_lsn: commit.last_record_lsn,
            start_lsn: commit.last_lsn,
            created_ms: self.env.unix_ms(),
        };
        let next = Arc::new(Segment::open(prepared, &header));
        self.store.push(next.clone());
        self.store.seal(&commit.segment, commit.offset, commit.last_record_lsn);
        {
            let mut buffer = self.guard(&self.buffer);
            buffer.aim(&next, 0);
            buffer.bytes.extend_from_slice(&header.encode());
            let base = self.appended_bytes.fetch_add(SEGMENT_HEADER_BYTES as u64, Ordering::Release);
            self.segment_base_bytes.store(base, Ordering::Relaxed);
        }
        self.current.store(next.id, Ordering::Release);
        commit.segment = next;
        commit.offset = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn prepare_segment(&self, id: u64, bytes: u64) -> Result<Prepared> {
        let prepared = self.store.prepare(id, bytes).map_err(|failure| {
            if failure.poisons {
                self.poison(&failure.error.to_string());
            }
            failure.error
        });
        let no_space = prepared.as_ref().is_err_and(Error::is_no_space);
        // Relaxed: a hint.
        self.wants_space.store(no_space, Ordering::Relaxed);
        prepared
    }

    /// Prepares the next segment if the current one is half full, or if one could not be prepared before. Answers whether it
    /// did.
    fn prepare_spare(&self) -> Result<bool> {
        let base = self.segment_base_bytes.load(Ordering::Relaxed);
        let used = self.appended_bytes.load(Ordering::Relaxed).saturating_sub(base);
        let due = used >= self.options.segment_bytes / 2 || self.wants_space.load(Ordering::Relaxed);
        if !due || self.closed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut spare = self.guard(&self.spare);
        if spare.prepared.is_some() {
            return Ok(false);
        }
        match self.prepare_segment(spare.next_id, self.options.segment_bytes) {
            Ok(prepared) => {
                spare.prepared = Some(prepared);
                spare.complained = false;
                Ok(true)
            }
            Err(error) => {
                if !std::mem::replace(&mut spare.complained, true) {
                    self.tell(&format!("cannot prepare the next WAL segment: {error}"));
                }
                Err(error)
            }
        }
    }

    /// Appends a durable mark if it says more than the records do. Answers whether it did.
    fn append_durable_mark(&self) -> bool {
        let mut commit = self.guard(&self.commit);
        let durable = self.durable.load(Ordering::Acquire);
        let fits = commit.offset + TAIL_BYTES <= commit.segment.capacity;
        if durable <= commit.marked_lsn || !fits {
            return false;
        }
        let mut buffer = self.guard(&self.buffer);
        buffer.aim(&commit.segment, commit.offset);
        let len = put_durable_mark(&mut buffer.bytes, commit.segment.seed, durable) as u64;
        self.appended_bytes.fetch_add(len, Ordering::Release);
        drop(buffer);
        commit.offset += len;
        commit.marked_lsn = durable;
        true
    }

    /// Logs how far the log is durable, durably. Answers whether there was need.
    fn log_durable_mark(&self) -> Result<bool> {
        let appended = self.append_durable_mark();
        if appended && let Some(turn) = self.take_turn(Lsn::MAX)? {
            self.sync_now(&turn)?;
        }
        Ok(appended)
    }

    // Writing.

    /// Writes rounds until nothing is left. Every owner of the io lock gives it back through here, since others rely on its
    /// look at the buffer afterwards.
    fn drain<'a>(&'a self, mut io: MutexGuard<'a, Io>) -> Result<()> {
        for round in 1.. {
            let wrote = self.write_round(&mut io);
            drop(io);
            if wrote? {
                self.notify();
            }
            // Pairs with the fence in `try_write`; see "No lost tail".
            fence(Ordering::SeqCst);
            if !self.has_unwritten() {
                break;
            }
            if round >= ROUNDS_FOR_OTHERS && self.thread_running.load(Ordering::Acquire) {
                self.wake_writer();
                break;
            }
            match self.try_guard(&self.io) {
                Some(guard) => io = guard,
                None => break,
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer now. Answers whether `written` advanced.
    fn write_round(&self, io: &mut Io) -> Result<bool> {
        self.check_poison()?;
        let before = self.written.load(Ordering::Relaxed);
        {
            let mut buffer = self.guard(&self.buffer);
            if buffer.bytes.is_empty() && buffer.last_lsn == before {
                return Ok(false);
            }
            std::mem::swap(&mut *buffer, &mut io.buffer);
            buffer.last_lsn = io.buffer.last_lsn;
            buffer.last_record_lsn = io.buffer.last_record_lsn;
        }
        let len = io.buffer.bytes.len();
        if len > 0 {
            self.write_parts(io)?;
        }
        io.written_record_lsn = io.buffer.last_record_lsn;
        let written = io.buffer.last_lsn;
        io.buffer.reset();
        self.written_bytes.fetch_add(len as u64, Ordering::Release);
        self.written.store(written, Ordering::Release);
        Ok(written > before)
    }

    fn write_parts(&self, io: &mut Io) -> Result<()> {
        let start = self.now();
        let Buffer { bytes, parts, .. } = &mut io.buffer;
        let len = bytes.len();
        bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        for (i, part) in parts.iter().enumerate() {
            // The last part takes the end mark along.
            let (data_end, end) = match parts.get(i + 1) {
                Some(next) => (next.start, next.start),
                None => (len, bytes.len()),
            };
            if let Err(error) = part.segment.file.write_at(&bytes[part.start..end], part.offset) {
                return Err(self.fail(&error));
            }
            if io.dirty.last().is_none_or(|dirty| dirty.id != part.segment.id) {
                io.dirty.push(part.segment.clone());
            }
            part.segment.set_written_end(part.offset + (data_end - part.start) as u64);
        }
        if self.oldest_unsynced.load(Ordering::Relaxed) == 0 {
            self.oldest_unsynced.store(start, Ordering::Relaxed);
        }
        let write_us = (self.now() - start) / 1000;
        self.last_write_us.store(write_us, Ordering::Relaxed);
        self.tell_latency("wal-write", write_us * 1000);
        if write_us > SLOW_WRITE_US && self.sync_in_flight.load(Ordering::Relaxed) {
            self.syncs_avoided.store(SYNCS_AVOIDED, Ordering::Relaxed);
        }
        Metrics::add(&self.options.metrics.wal_bytes_written, len as u64);
        Metrics::add(&self.options.metrics.wal_writes, parts.len() as u64);
        Ok(())
    }

    // Syncing.

    /// Waits until `lsn` is synced (then `None`) or it is this thread's turn to sync.
    fn take_turn(&self, lsn: Lsn) -> Result<Option<SyncTurn<'_>>> {
        let mut taken = plain_guard(&self.sync_turn);
        loop {
            if self.synced() >= lsn {
                return Ok(None);
            }
            self.check_poison()?;
            if !*taken {
                *taken = true;
                self.sync_in_flight.store(true, Ordering::Relaxed);
                return Ok(Some(SyncTurn { log: self }));
            }
            taken = self.sync_done.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes everything, then syncs everything written, older segments first: `synced` must not pass a segment that is not
    /// on the disk.
    fn sync_now(&self, _turn: &SyncTurn<'_>) -> Result<()> {
        self.drain(self.guard(&self.io))?;
        let mut io = self.guard(&self.io);
        let (target, record) = (self.written(), io.written_record_lsn);
        let dirty = std::mem::take(&mut io.dirty);
        // Relaxed, both: moments for hints. Writes after this one set a new oldest.
        self.oldest_syncing.store(self.oldest_unsynced.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.drain_later(io)?;
        let start = self.now();
        for segment in &dirty {
            if let Err(error) = segment.file.sync() {
                return Err(self.fail(&error));
            }
        }
        let now = self.now();
        self.oldest_syncing.store(0, Ordering::Relaxed);
        self.last_sync.store(now, Ordering::Relaxed);
        // One sync at a time, so nobody else counts down.
        let avoided = self.syncs_avoided.load(Ordering::Relaxed);
        self.syncs_avoided.store(avoided.saturating_sub(1), Ordering::Relaxed);
        Metrics::add(&self.options.metrics.wal_syncs, dirty.len() as u64);
        Metrics::add(&self.options.metrics.wal_sync_us, (now - start) / 1000);
        self.tell_latency("wal-sync", now - start);
        if let Some(last) = dirty.last() {
            self.store.set_synced_before(last.id);
        }
        self.durable.store(record, Ordering::Release);
        self.synced.store(target, Ordering::Release);
        self.notify();
        Ok(())
    }

    /// Gives the io lock back without writing; a tail that came meanwhile is written as usual.
    fn drain_later<'a>(&'a self, io: MutexGuard<'a, Io>) -> Result<()> {
        drop(io);
        // Pairs with the fence in `try_write`; see "No lost tail".
        fence(Ordering::SeqCst);
        if self.has_unwritten()
            && let Some(io) = self.try_guard(&self.io)
        {
            self.drain(io)?;
        }
        Ok(())
    }

    fn is_sync_due(&self) -> bool {
        self.until_sync().is_some_and(|left| left.is_zero())
    }

    /// How long until a background sync has to start.
    fn until_sync(&self) -> Option<Duration> {
        let interval = Duration::from_millis(self.options.sync_interval_ms);
        let oldest = self.oldest_unsynced.load(Ordering::Relaxed);
        if interval.is_zero() || oldest == 0 {
            return None;
        }
        // Timers are late, never early.
        let slack = (interval / 10).min(Duration::from_millis(20));
        Some((interval - slack).saturating_sub(Duration::from_nanos(self.now().saturating_sub(oldest))))
    }

    fn is_mark_due(&self) -> bool {
        let last_sync = self.last_sync.load(Ordering::Relaxed);
        let idle = Duration::from_nanos(self.now().saturating_sub(last_sync)) >= IDLE;
        idle && last_sync != 0
            && !self.closed.load(Ordering::Relaxed)
            && self.durable.load(Ordering::Acquire) > self.guard(&self.commit).marked_lsn
    }

    /// How long the keeper may sleep.
    fn pause(&self) -> Duration {
        let interval = Duration::from_millis(self.options.sync_interval_ms);
        // A write may come right after this look; half an interval later it is still in time.
        let patrol = if interval.is_zero() { PATROL } else { PATROL.min(interval / 2) };
        self.until_sync().map_or(patrol, |left| left.min(patrol)).max(Duration::from_millis(1))
    }

    // Small things.

    fn now(&self) -> u64 {
        (self.env.monotonic().as_nanos() as u64).max(1)
    }

    fn fail(&self, error: &Error) -> Error {
        self.poison(&error.to_string());
        Error::Poisoned(self.poisoned().unwrap_or_default())
    }

    fn tell_latency(&self, what: &'static str, ns: u64) {
        if let Some(listener) = &self.options.latency {
            listener(what, Duration::from_nanos(ns));
        }
    }

    fn tell(&self, what: &str) {
        if let Some(events) = &self.options.events {
            events(what);
        }
    }

    fn notify(&self) {
        if let Some(listener) = &self.options.listener {
            let poisoned = self.poisoned.load(Ordering::Acquire);
            listener(LogProgress { written: self.written(), synced: self.synced(), poisoned });
        }
    }

    /// Locks. A thread that unwound under one of these locks may have left half a record: that poisons the log.
    fn guard<'a, T>(&'a self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(|unwound| {
            self.poison("a thread panicked inside the WAL");
            unwound.into_inner()
        })
    }

    fn try_guard<'a, T>(&'a self, mutex: &'a Mutex<T>) -> Option<MutexGuard<'a, T>> {
        match mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(unwound)) => {
                self.poison("a thread panicked inside the WAL");
                Some(unwound.into_inner())
            }
        }
    }
}

/// Wakes one thread. A ring while nobody waits is kept for the next wait.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        let mut rung = plain_guard(&self.rung);
        if !*rung {
            *rung = true;
            self.changed.notify_one();
        }
    }

    fn wait(&self, timeout: Duration) {
        let rung = plain_guard(&self.rung);
        let waited = self.changed.wait_timeout_while(rung, timeout, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// Locks one of the small locks, under which nothing can unwind.
fn plain_guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to sync; the next thread gets it when this is dropped.
struct SyncTurn<'a> {
    log: &'a Log,
}

impl Drop for SyncTurn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.poison("a thread panicked while syncing the WAL");
        }
        self.log.sync_in_flight.store(false, Ordering::Relaxed);
        *plain_guard(&self.log.sync_turn) = false;
        self.log.sync_done.notify_all();
    }
}

struct ThreadRuns<'a>(&'a Log);

impl Drop for ThreadRuns<'_> {
    fn drop(&mut self) {
        self.0.thread_running.store(false, Ordering::Release);
    }
}

/// The commit lock, held: LSNs are given out and records appended under it.
pub struct AppendGuard<'a> {
    commit: MutexGuard<'a, Commit>,
    log: &'a Log,
}

impl fmt::Debug for AppendGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendGuard").field("last_lsn", &self.last_lsn()).finish_non_exhaustive()
    }
}

impl AppendGuard<'_> {
    /// Makes room for one record with a payload of up to so many bytes; after `Ok`, [`append`](Self::append) cannot fail.
    /// To be called before an LSN is given out. Errors: `Poisoned`, `Closed`, `NoSpace`, or why a segment could not be
    /// prepared; nothing was written then.
    pub fn prepare(&mut self, payload_len: usize) -> Result<()> {
        let log = self.log;
        log.check_poison()?;
        if log.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        if payload_len > BATCH_BYTES_MAX {
            return Err(Error::invalid("batch too large for the WAL"));
        }
        let need = record_len(payload_len) as u64;
        let unwritten = log.unwritten_bytes();
        if unwritten > 0 && unwritten + need > UNWRITTEN_BYTES_MAX {
            log.drain(log.guard(&log.io))?;
        }
        if self.commit.offset + need + TAIL_BYTES > self.commit.segment.capacity {
            log.rotate(&mut self.commit, need)?;
        }
        self.commit.prepared_len = payload_len;
        Ok(())
    }

    /// Appends `batch`, whose entries have the sequence numbers `first..=last` (an empty one takes one number). Answers the
    /// id of the segment it is in.
    pub fn append(&mut self, first: SequenceNumber, last: Lsn, batch: &WriteBatch) -> u64 {
        let (log, commit) = (self.log, &mut *self.commit);
        debug_assert!(first > commit.last_lsn && last == first + u64::from(batch.count().max(1)) - 1);
        debug_assert!(batch.encoded_len() <= commit.prepared_len, "append without prepare");
        let durable = log.durable.load(Ordering::Acquire);
        let len = {
            let mut buffer = log.guard(&log.buffer);
            buffer.aim(&commit.segment, commit.offset);
            let start = begin_record(&mut buffer.bytes);
            batch.encode_into(&mut buffer.bytes);
            let seed = commit.segment.seed;
            let len = finish_record(&mut buffer.bytes, start, seed, RecordKind::Batch, first, durable) as u64;
            buffer.last_lsn = last;
            buffer.last_record_lsn = last;
            // One writer at a time (the commit lock), so no read-modify-write is needed.
            let bytes = log.appended_bytes.load(Ordering::Relaxed) + len;
            log.appended_bytes.store(bytes, Ordering::Release);
            log.appended.store(last, Ordering::Release);
            len
        };
        let half = log.options.segment_bytes / 2;
        let crosses_half = commit.offset < half && commit.offset + len >= half;
        commit.offset += len;
        commit.last_lsn = last;
        commit.last_record_lsn = last;
        commit.marked_lsn = durable;
        commit.prepared_len = 0;
        if crosses_half {
            log.wake_writer();
        }
        commit.segment.id
    }

    /// Gives out the LSNs up to `last` without a record; the watermarks pass over them.
    pub fn skip(&mut self, last: Lsn) {
        debug_assert!(last > self.commit.last_lsn);
        self.commit.last_lsn = last;
        self.log.guard(&self.log.buffer).last_lsn = last;
        self.log.appended.store(last, Ordering::Release);
    }

    /// The last LSN given out.
    pub fn last_lsn(&self) -> Lsn {
        self.commit.last_lsn
    }

    /// What recovery would find as the last LSN if everything were written now: that of the
    /// last record, or the one the log began behind. This, not [`last_lsn`](Self::last_lsn), is the end to note for a copy
    /// of the segments: numbers that were skipped have no record to be found.
    pub fn recoverable_lsn(&self) -> Lsn {
        self.commit.last_record_lsn.max(self.commit.start_lsn)
    }

    /// Id of the segment into which the next append goes, if [`prepare`](Self::prepare) does not rotate.
    pub fn segment(&self) -> u64 {
        self.commit.segment.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fault_env::{Fault, FaultEnv, FaultKind, Operations};
    use crate::env::mem_env::MemEnv;
    use std::path::Path;

    const SEGMENT: u64 = 4096;

    fn options() -> LogOptions {
        LogOptions {
            dir: PathBuf::from("/db"),
            segment_bytes: SEGMENT,
            total_bytes: 4 * SEGMENT,
            sync_interval_ms: 0,
            history: 7,
            listener: None,
            events: None,
            latency: None,
            metrics: Arc::default(),
        }
    }

    fn create(env: Arc<dyn Env>, options: LogOptions) -> Log {
        env.create_dir_all(Path::new("/db")).unwrap();
        Log::create(env, options, 1, 0).unwrap()
    }

    fn batch(value_len: usize) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(0, b"key", &vec![b'v'; value_len]).unwrap();
        batch.put(0, b"two", b"").unwrap();
        batch
    }

    fn append(log: &Log, value_len: usize) -> Result<Lsn> {
        let batch = batch(value_len);
        let mut guard = log.lock();
        guard.prepare(batch.encoded_len())?;
        let first = guard.last_lsn() + 1;
        guard.append(first, first + 1, &batch);
        Ok(first + 1)
    }

    #[test]
    fn watermarks_advance_and_pass_over_skipped_numbers() {
        let env = MemEnv::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log_of_listener = seen.clone();
        let listener: LogListener = Arc::new(move |progress| log_of_listener.lock().unwrap().push(progress));
        let log = create(env.clone(), LogOptions { listener: Some(listener), ..options() });
        assert!(log.write_to(1).is_err() && log.sync_to(1).is_err());
        let lsn = append(&log, 10).unwrap();
        assert_eq!((log.appended(), log.written(), log.synced()), (2, 0, 0));
        assert!(log.unwritten_bytes() > 0);
        log.try_write().unwrap();
        assert_eq!((log.appended(), log.written(), log.synced()), (2, 2, 0));
        env.advance(Duration::from_secs(3));
        assert_eq!(log.unsynced_for(), Some(Duration::from_secs(3)));
        log.sync_to(lsn).unwrap();
        assert_eq!((log.synced(), log.unsynced_for(), log.unwritten_bytes()), (2, None, 0));
        log.lock().skip(50);
        assert_eq!((log.appended(), log.written()), (50, 2));
        log.sync_to(50).unwrap();
        assert_eq!((log.written(), log.synced()), (50, 50));
        assert_eq!(append(&log, 1).unwrap(), 52);
        log.write_to(52).unwrap();
        let seen = seen.lock().unwrap();
        let last = seen.last().unwrap();
        assert_eq!((last.written, last.synced, last.poisoned), (52, 50, false));
        assert_eq!(log.options.metrics.snapshot().wal_syncs, 1, "skipping needs no sync");
    }

    #[test]
    fn rotation_spares_and_recycling() {
        let env = MemEnv::new();
        let log = create(env.clone(), options());
        while log.current_segment() < 6 {
            append(&log, 100).unwrap();
            log.step().unwrap();
        }
        assert!(log.total_bytes() > 4 * SEGMENT && log.is_over_budget());
        let infos = log.segments();
        assert_eq!(infos.iter().map(|s| s.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(infos.windows(2).all(|w| w[0].last_lsn < w[1].last_lsn || w[1].last_lsn.is_none()));
        log.release_before(6);
        assert_eq!(log.segments().len(), 6, "not synced yet");
        log.sync_to(log.appended()).unwrap();
        let hold = log.hold(5);
        log.step().unwrap();
        assert_eq!(log.segments().len(), 2);
        drop(hold);
        log.step().unwrap();
        assert_eq!(log.segments().len(), 1);
        assert!(log.total_bytes() < SEGMENT);
        let before = env.list_all();
        assert_eq!(before.len(), 3);
        while log.current_segment() < 8 {
            append(&log, 100).unwrap();
            log.step().unwrap();
        }
        assert_eq!(env.list_all().len(), 3, "both came from the pool");
        log.close().unwrap();
        assert_eq!(env.list_all().len(), 3);
    }

    #[test]
    fn a_large_record_gets_a_segment_of_its_size() {
        let env = MemEnv::new();
        let log = create(env.clone(), options());
        for len in [10_000, 10, SEGMENT as usize - 200, 1 << 20] {
            append(&log, len).unwrap();
        }
        log.sync_to(log.appended()).unwrap();
        let total = log.segments().iter().map(|s| env.read_file(&s.path).unwrap().len()).sum::<usize>();
        assert!(total < (1 << 20) + 40_000, "{total}");
        assert!(env.list_all().iter().all(|path| env.is_synced(path) && env.is_name_synced(path)));
    }

    #[test]
    fn the_buffer_is_bounded() {
        let env = MemEnv::new();
        let log = create(env, LogOptions { segment_bytes: 64 << 20, ..options() });
        for _ in 0..30 {
            append(&log, 1 << 20).unwrap();
            assert!(log.unwritten_bytes() <= UNWRITTEN_BYTES_MAX);
        }
        assert!(log.written() > 0);
    }

    #[test]
    fn a_failed_sync_poisons_for_good() {
        for kind in [FaultKind::Eio, FaultKind::NoSpace] {
            let env = FaultEnv::new(MemEnv::new());
            let log = create(env.clone(), options());
            let first = append(&log, 1).unwrap();
            log.sync_to(first).unwrap();
            let second = append(&log, 1).unwrap();
            env.inject(Fault::once(Operations::SYNC, kind).on(".wal"));
            assert!(matches!(log.sync_to(second), Err(Error::Poisoned(_))));
            env.clear();
            for result in [log.sync_to(second), log.try_write(), log.step().map(drop), log.close()] {
                assert!(matches!(result, Err(Error::Poisoned(_))));
            }
            assert!(matches!(append(&log, 1), Err(Error::Poisoned(_))));
            assert_eq!((log.synced(), log.sync_to(first).is_ok()), (first, true));
            assert!(log.poisoned().unwrap().contains("sync"));
        }
    }

    #[test]
    fn a_failed_write_poisons() {
        for kind in [FaultKind::Eio, FaultKind::NoSpace, FaultKind::ShortWrite] {
            let env = FaultEnv::new(MemEnv::new());
            let told = Arc::new(AtomicBool::new(false));
            let flag = told.clone();
            let listener: LogListener = Arc::new(move |p| flag.store(p.poisoned, Ordering::SeqCst));
            let log = create(env.clone(), LogOptions { listener: Some(listener), ..options() });
            let lsn = append(&log, 1).unwrap();
            env.inject(Fault::once(Operations::WRITE, kind));
            assert!(matches!(log.write_to(lsn), Err(Error::Poisoned(_))));
            assert!(matches!(log.write_to(lsn), Err(Error::Poisoned(_))));
            assert!(told.load(Ordering::SeqCst));
            assert_eq!(log.written(), 0);
        }
    }

    #[test]
    fn a_full_disk_while_preparing_a_segment_heals() {
        let inner = MemEnv::new();
        let env = FaultEnv::new(inner.clone());
        let log = create(env.clone(), options());
        env.inject(Fault::always(Operations::ALLOCATE, FaultKind::NoSpace));
        let error = loop {
            let _ = log.step();
            if let Err(error) = append(&log, 500) {
                break error;
            }
        };
        assert!(error.is_no_space() && log.poisoned().is_none() && !log.has_room());
        assert!(log.step().unwrap_err().is_no_space());
        assert_eq!(inner.list_all().len(), 1);
        log.sync_to(log.appended()).unwrap();
        env.clear();
        append(&log, 500).unwrap();
        assert_eq!(log.current_segment(), 2);
        assert!(log.has_room());
        log.close().unwrap();
        assert!(matches!(append(&log, 1), Err(Error::Closed)));
    }

    #[test]
    fn the_log_thread_finds_that_space_is_back() {
        let env = FaultEnv::new(MemEnv::new());
        let log = create(env.clone(), options());
        env.inject(Fault::always(Operations::ALLOCATE, FaultKind::NoSpace));
        assert!(append(&log, 5000).unwrap_err().is_no_space());
        assert!(!log.has_room() && log.step().is_err() && !log.has_room());
        env.clear();
        log.step().unwrap();
        assert!(log.has_room());
        log.request_sync();
        let lsn = append(&log, 5000).unwrap();
        log.step().unwrap();
        assert_eq!(log.synced(), lsn);
    }

    #[test]
    fn a_failed_sync_of_a_new_segment_poisons() {
        for operation in [Operations::SYNC, Operations::SYNC_DIR] {
            let env = FaultEnv::new(MemEnv::new());
            let log = create(env.clone(), options());
            env.inject(Fault::once(operation, FaultKind::Eio));
            assert!(append(&log, 5000).is_err());
            assert!(log.poisoned().is_some());
        }
    }

    #[test]
    fn background_sync_and_the_idle_mark() {
        let env = MemEnv::new();
        let log = create(env.clone(), LogOptions { sync_interval_ms: 100, ..options() });
        assert!(!log.step().unwrap());
        append(&log, 1).unwrap();
        assert!(log.step().unwrap());
        assert_eq!((log.written(), log.synced()), (2, 0));
        env.advance(Duration::from_millis(50));
        assert!(!log.step().unwrap());
        assert!(log.pause() <= Duration::from_millis(50));
        env.advance(Duration::from_millis(50));
        assert!(log.step().unwrap());
        assert_eq!(log.synced(), 2);
        let bytes = log.total_bytes();
        env.advance(Duration::from_secs(1));
        assert!(log.step().unwrap() && !log.step().unwrap());
        assert_eq!(log.total_bytes(), bytes + RECORD_HEADER_BYTES as u64);
        env.advance(Duration::from_secs(9));
        assert!(!log.step().unwrap(), "once is enough");
        log.close().unwrap();
        assert_eq!(log.total_bytes(), bytes + RECORD_HEADER_BYTES as u64);
    }

    #[test]
    fn a_slow_write_says_so() {
        let env = FaultEnv::new(MemEnv::new());
        let log = create(env.clone(), options());
        assert!(!log.io_is_slow());
        env.inject(Fault::once(Operations::WRITE, FaultKind::Delay(Duration::from_millis(3))));
        append(&log, 1).unwrap();
        log.try_write().unwrap();
        assert!(log.io_is_slow());
        append(&log, 1).unwrap();
        log.try_write().unwrap();
        assert!(!log.io_is_slow());
    }

    #[test]
    fn a_panic_under_a_lock_poisons() {
        let log = Arc::new(create(MemEnv::new(), options()));
        let other = log.clone();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = other.lock();
            panic!("planned");
        }));
        assert!(unwound.is_err());
        assert!(matches!(append(&log, 1), Err(Error::Poisoned(_))));
    }

    /// Not a test of anything: prints what an append costs. Run it with `--ignored --nocapture`, optimised.
    #[test]
    #[ignore = "prints a timing"]
    fn append_timing() {
        let env = crate::env::os_env::OsEnv::new();
        let dir = std::env::temp_dir().join(format!("haypile-append-{:016x}", env.random_u64()));
        env.create_dir_all(&dir).unwrap();
        let log = Log::create(
            env.clone(),
            LogOptions { dir: dir.clone(), segment_bytes: 1 << 30, ..options() },
            1,
            0,
        );
        let log = log.unwrap();
        let mut batch = WriteBatch::new();
        batch.put(0, b"0123456789abcdef", &[7; 80]).unwrap();
        let (mut append_ns, mut write_ns) = (0, 0);
        let (rounds, each) = (200, 1000);
        for _ in 0..rounds {
            let start = env.monotonic();
            for _ in 0..each {
                let mut guard = log.lock();
                guard.prepare(batch.encoded_len()).unwrap();
                let lsn = guard.last_lsn() + 1;
                guard.append(lsn, lsn, &batch);
            }
            let middle = env.monotonic();
            log.try_write().unwrap();
            append_ns += (middle - start).as_nanos() as u64;
            write_ns += (env.monotonic() - middle).as_nanos() as u64;
        }
        let records = rounds * each;
        println!(
            "record of {} bytes: append {} ns, write {} ns",
            record_len(batch.encoded_len()),
            append_ns / records,
            write_ns / records
        );
        env.remove_dir_all(&dir).unwrap();
    }
}
