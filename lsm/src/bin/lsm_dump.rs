//! Prints what a file of the engine holds: `lsm-dump FILE|FOLDER [--keys] [--values] [--blocks]`.
//!
//! It knows tables, log segments, manifests and CURRENT, by their names or by their magic numbers, and does a folder file by
//! file. It only reads, takes no lock, and so may be pointed at a running database; what it says of that is of some moment.
//!
//! It is liberal where the engine is strict: damage is told (`DAMAGED at offset ..: why`) and the next piece is tried. A file is
//! read whole and handed to the pure decoders; the engine's own readers would stop at the first bad byte. Exit code: 0 if all
//! was well, 1 if something was damaged or could not be read, 2 for a wrong command line.

use haypile_lsm::base::batch::BatchReader;
use haypile_lsm::base::coding::{Cursor, get_u64};
use haypile_lsm::base::error::Error;
use haypile_lsm::base::key::{ValueKind, unpack_trailer};
use haypile_lsm::block::block::{Block, BlockKey, BlockKind};
use haypile_lsm::block::frame;
use haypile_lsm::env::env::{Env, OpenMode};
use haypile_lsm::env::filename::FileName;
use haypile_lsm::env::os_env::OsEnv;
use haypile_lsm::table::format::{FOOTER_BYTES, Footer, Handle, Partition, TableSummary, decode_tombstones};
use haypile_lsm::version::edit::VersionEdit;
use haypile_lsm::version::manifest::{decode_current, decode_manifest};
use haypile_lsm::wal::record::{RECORD_ALIGN, RECORD_HEADER_BYTES, Record, RecordHeader, RecordKind};
use haypile_lsm::wal::recovery::read_segment_bytes;
use haypile_lsm::wal::segment::{HeaderState, SEGMENT_HEADER_BYTES, SegmentHeader};
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "lsm-dump FILE|FOLDER [--keys] [--values] [--blocks]

  --keys     every entry of tables and log records
  --values   the same with the first bytes of each value
  --blocks   every block of a table";

/// How many bytes of a value are shown.
const VALUE_BYTES_SHOWN: usize = 200;
const READ_BYTES: usize = 4 << 20;
/// Behind damage, records are searched for with at most this many times the file's bytes of hashing.
const SEARCH_EFFORT: usize = 4;

#[derive(Clone, Copy, Default)]
struct Wanted {
    keys: bool,
    values: bool,
    blocks: bool,
}

fn main() -> ExitCode {
    let mut wanted = Wanted::default();
    let mut paths = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--keys") => wanted.keys = true,
            Some("--values") => (wanted.keys, wanted.values) = (true, true),
            Some("--blocks") => wanted.blocks = true,
            Some(flag) if flag.starts_with('-') => return usage(),
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let [path] = &paths[..] else { return usage() };
    let out = BufWriter::new(io::stdout().lock());
    let mut dump = Dump { env: OsEnv::new(), wanted, out, damaged: false };
    let done = dump.path(path).and_then(|()| dump.out.flush());
    match done {
        Ok(()) => ExitCode::from(u8::from(dump.damaged)),
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lsm-dump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// Where the output goes, and whether anything bad was met. Errors of its methods are those of the output.
struct Dump<W: Write> {
    env: Arc<OsEnv>,
    wanted: Wanted,
    out: W,
    damaged: bool,
}

impl<W: Write> Dump<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        match self.env.list(path) {
            Ok(names) => self.folder(path, &names),
            Err(_) => self.file(path),
        }
    }

    fn folder(&mut self, dir: &Path, names: &[PathBuf]) -> io::Result<()> {
        writeln!(self.out, "{}: {} files", dir.display(), names.len())?;
        let mut live = None;
        if let Some(manifest) = self.manifest_in_use(dir) {
            let (bytes, mut tables) = (self.read(&manifest)?.unwrap_or_default(), BTreeSet::new());
            if let Ok(decoded) = decode_manifest(&manifest, &bytes, &mut |_, _, _| {}) {
                tables.extend(
                    decoded.state.keyspaces.values().flat_map(|keyspace| keyspace.files.keys().copied()),
                );
                live = Some(tables);
            }
        }
        for name in names {
            let path = dir.join(name);
            match FileName::parse(name) {
                None | Some(FileName::Lock | FileName::Ballast) => {
                    writeln!(self.out, "{}: not looked at", path.display())?
                }
                Some(FileName::Table(number))
                    if live.as_ref().is_some_and(|live| !live.contains(&number)) =>
                {
                    writeln!(self.out, "{}: an orphan, no version names it", path.display())?;
                }
                Some(_) => self.file(&path)?,
            }
        }
        for number in live.iter().flatten() {
            let path = FileName::Table(*number).path(dir);
            if !names.iter().any(|name| FileName::parse(name) == Some(FileName::Table(*number))) {
                self.damage(0, &format!("{} is missing, the manifest names it", path.display()))?;
            }
        }
        Ok(())
    }

    fn manifest_in_use(&self, dir: &Path) -> Option<PathBuf> {
        let current = FileName::Current.path(dir);
        let bytes = self.read_all(&current).ok()?;
        Some(FileName::Manifest(decode_current(&current, &bytes).ok()?).path(dir))
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let Some(bytes) = self.read(path)? else { return Ok(()) };
        writeln!(self.out, "{}: {} bytes", path.display(), bytes.len())?;
        match FileName::parse(path).or_else(|| by_magic(&bytes)) {
            Some(FileName::Table(_)) => self.table(path, &bytes),
            Some(FileName::Segment(id)) => self.segment(path, id, &bytes),
            Some(FileName::Manifest(_)) => self.manifest(path, &bytes),
            Some(FileName::Current) => match decode_current(path, &bytes) {
                Ok(number) => writeln!(self.out, "  names {}", FileName::Manifest(number)),
                Err(error) => self.error(&error),
            },
            Some(FileName::Lock | FileName::Ballast) | None => self.damage(0, "not a file of the engine"),
        }
    }

    /// The file's bytes, or `None` after it was said why not.
    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.read_all(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                self.damaged = true;
                writeln!(self.out, "{}: {error}", path.display())?;
                Ok(None)
            }
        }
    }

    fn read_all(&self, path: &Path) -> haypile_lsm::Result<Vec<u8>> {
        let file = self.env.open(path, OpenMode::Read)?;
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            bytes.resize(start + READ_BYTES, 0);
            let count = file.read_at(&mut bytes[start..], start as u64)?;
            bytes.truncate(start + count);
            if count < READ_BYTES {
                return Ok(bytes);
            }
        }
    }

    fn damage(&mut self, offset: u64, what: &str) -> io::Result<()> {
        self.damaged = true;
        writeln!(self.out, "{offset:>10}  DAMAGED at offset {offset}: {what}")
    }

    fn error(&mut self, error: &Error) -> io::Result<()> {
        match error {
            Error::Corruption { offset, what, .. } => self.damage(*offset, what),
            other => self.damage(0, &other.to_string()),
        }
    }

    /// One entry of anything: where it is from, what it does.
    fn entry(
        &mut self,
        sequence: u64,
        kind: ValueKind,
        keyspace: &str,
        key: &[u8],
        value: &[u8],
    ) -> io::Result<()> {
        write!(self.out, "{:>12}#{sequence} ", "")?;
        match kind {
            ValueKind::Delete => write!(self.out, "delete {keyspace}{}", key.escape_ascii())?,
            ValueKind::Put => {
                write!(self.out, "put {keyspace}{} = {} bytes", key.escape_ascii(), value.len())?;
                if self.wanted.values {
                    let shown = &value[..value.len().min(VALUE_BYTES_SHOWN)];
                    let more = if shown.len() < value.len() { ".." } else { "" };
                    write!(self.out, ": {}{more}", shown.escape_ascii())?;
                }
            }
            ValueKind::RangeDelete => {
                let (start, end) = (key.escape_ascii(), value.escape_ascii());
                write!(self.out, "delete range {keyspace}[{start}, {end})")?;
            }
        }
        writeln!(self.out)
    }

    // The log.

    fn segment(&mut self, path: &Path, id: u64, bytes: &[u8]) -> io::Result<()> {
        let reading = match read_segment_bytes(path, id, bytes, &mut |_| Ok(())) {
            Ok(reading) => reading,
            Err(error) => return self.error(&error),
        };
        let header = match reading.header {
            HeaderState::Good(header) => header,
            HeaderState::NotBegun => return writeln!(self.out, "{:>10}  prepared, not begun", 0),
            HeaderState::Bad(why) => return self.damage(0, why),
        };
        let SegmentHeader { segment, history, previous_lsn, start_lsn, created_ms } = header;
        writeln!(
            self.out,
            "{:>10}  segment {segment} of log {history:016x}, after record {previous_lsn}, after LSN {start_lsn}, begun at {created_ms} ms",
            0
        )?;
        let mut at = SEGMENT_HEADER_BYTES;
        let mut effort = bytes.len().saturating_mul(SEARCH_EFFORT);
        while let Some(front) = bytes.get(at..at + RECORD_HEADER_BYTES) {
            if at as u64 == reading.end
                && let Some(why) = &reading.stop
            {
                self.damage(reading.end, why)?;
            }
            let len = RecordHeader::parse(front).ok().flatten().map_or(0, |header| header.record_len());
            let whole = bytes.get(at..at.saturating_add(len)).filter(|_| len > 0 && len <= effort);
            let record = whole.and_then(|whole| {
                effort -= len;
                RecordHeader::parse(front).ok().flatten()?.verify(header.seed(), whole).ok()
            });
            match record {
                Some(record) => {
                    self.record(at, &record)?;
                    at += len;
                }
                None => at += RECORD_ALIGN,
            }
        }
        let (records, last, durable) = (reading.records, reading.last_lsn, reading.durable_lsn);
        writeln!(
            self.out,
            "{:>10}  the log ends: {records} batches, last LSN {last}, durable up to {durable}",
            reading.end
        )
    }

    fn record(&mut self, at: usize, record: &Record<'_>) -> io::Result<()> {
        if record.kind == RecordKind::DurableMark {
            return writeln!(self.out, "{at:>10}  durable up to {}", record.durable_lsn);
        }
        let (first, last, durable) = (record.first_sequence, record.last_lsn, record.durable_lsn);
        let reader = BatchReader::new(record.payload);
        let annotation = reader.as_ref().map_or(0, |reader| reader.annotation().len());
        writeln!(
            self.out,
            "{at:>10}  batch {first}..={last}, durable up to {durable}, {} bytes, annotation {annotation}",
            record.payload.len()
        )?;
        let Some(reader) = reader else { return self.damage(at as u64, "damaged batch") };
        if !self.wanted.keys {
            return Ok(());
        }
        for (sequence, entry) in (first..).zip(reader) {
            match entry {
                Ok(entry) => {
                    let keyspace = format!("{}:", entry.keyspace);
                    self.entry(sequence, entry.kind, &keyspace, entry.key, entry.value)?;
                }
                Err(what) => return self.damage(at as u64, what),
            }
        }
        Ok(())
    }

    // The manifest.

    fn manifest(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut edits = Vec::new();
        let decoded = decode_manifest(path, bytes, &mut |offset, number, edit| {
            edits.push((offset, number, edit.clone()))
        });
        for (offset, number, edit) in &edits {
            writeln!(self.out, "{offset:>10}  edit {number}")?;
            self.edit(edit)?;
        }
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.error(&error),
        };
        if let Some(what) = &decoded.torn {
            self.damage(decoded.end, &format!("a torn edit: {what}"))?;
        }
        let state = &decoded.state;
        writeln!(
            self.out,
            "{:>10}  the edits end; the snapshot ended at {}",
            decoded.end, decoded.snapshot_end
        )?;
        writeln!(
            self.out,
            "{:>12}history {:016x}, next file {}, next keyspace {}, next note {}, last sequence {}, log from segment {} behind {}",
            "",
            state.history,
            state.next_file_number,
            state.next_keyspace,
            state.next_note,
            state.last_sequence,
            state.first_needed_segment,
            state.log_start
        )?;
        for (id, keyspace) in &state.keyspaces {
            writeln!(
                self.out,
                "{:>12}keyspace {id} \"{}\", flushed up to {}",
                "",
                keyspace.name.escape_debug(),
                keyspace.flushed
            )?;
            for (level, files) in keyspace.levels().iter().enumerate() {
                for file in files {
                    writeln!(self.out, "{:>14}L{level} {file}", "")?;
                }
            }
        }
        for note in state.notes.values() {
            writeln!(
                self.out,
                "{:>12}note {} of keyspace {}: {}",
                "",
                note.id,
                note.keyspace,
                note.bytes.escape_ascii()
            )?;
        }
        Ok(())
    }

    fn edit(&mut self, edit: &VersionEdit) -> io::Result<()> {
        let out = &mut self.out;
        let numbers = [
            ("history", edit.history),
            ("next file", edit.next_file_number),
            ("next keyspace", edit.next_keyspace.map(u64::from)),
            ("next note", edit.next_note),
            ("last sequence", edit.last_sequence),
            ("log from segment", edit.first_needed_segment),
            ("log behind", edit.log_start),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                writeln!(out, "{:>12}{name} {number}", "")?;
            }
        }
        for end in &edit.log_ends {
            writeln!(out, "{:>12}the log before segment {} ends with LSN {}", "", end.segment, end.lsn)?;
        }
        for keyspace in &edit.keyspaces_created {
            let name = keyspace.name.escape_debug();
            writeln!(out, "{:>12}new keyspace {} \"{name}\" {:?}", "", keyspace.id, keyspace.options)?;
        }
        for file in &edit.files_removed {
            writeln!(out, "{:>12}{} - L{} {:06}", "", file.keyspace, file.level, file.number)?;
        }
        for file in &edit.files_added {
            writeln!(out, "{:>12}{} + L{} {}", "", file.keyspace, file.level, file.meta)?;
        }
        for id in &edit.keyspaces_dropped {
            writeln!(out, "{:>12}keyspace {id} dropped", "")?;
        }
        for (keyspace, sequence) in &edit.flushed {
            writeln!(out, "{:>12}{keyspace} flushed up to {sequence}", "")?;
        }
        for note in &edit.notes_added {
            writeln!(out, "{:>12}note {} of {}: {}", "", note.id, note.keyspace, note.bytes.escape_ascii())?;
        }
        if !edit.notes_acknowledged.is_empty() {
            writeln!(out, "{:>12}notes acknowledged: {:?}", "", edit.notes_acknowledged)?;
        }
        Ok(())
    }

    // Tables.

    fn table(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let footer_at = bytes.len().saturating_sub(FOOTER_BYTES);
        let footer = match Footer::decode(&bytes[footer_at..], path, bytes.len() as u64) {
            Ok(footer) => footer,
            Err(error) => return self.error(&error),
        };
        let file = TableBytes { bytes, number: footer.file_number };
        self.partitions(&file, footer.top)?;
        self.tombstones(&file, footer.tombstones)?;
        match file
            .payload(footer.properties)
            .map(|payload| TableSummary::decode(&payload, bytes.len() as u64))
        {
            Ok(Some(summary)) => self.summary(footer.properties, &summary)?,
            Ok(None) => self.damage(footer.properties.offset, "damaged table properties")?,
            Err(what) => self.damage(footer.properties.offset, &what)?,
        }
        writeln!(self.out, "{footer_at:>10}  footer of table {}", footer.file_number)
    }

    fn summary(&mut self, handle: Handle, s: &TableSummary) -> io::Result<()> {
        writeln!(
            self.out,
            "{:>10}  properties: {} entries ({} deletes), {} range tombstones, {} data blocks, {} + {} bytes of keys and values",
            handle.offset,
            s.entries,
            s.deletes,
            s.range_deletes,
            s.data_blocks,
            s.raw_key_bytes,
            s.raw_value_bytes
        )?;
        let (smallest, largest) = (s.smallest.escape_ascii(), s.largest.escape_ascii());
        let close = if s.largest_inclusive { ']' } else { ')' };
        writeln!(
            self.out,
            "{:>12}keys [{smallest}, {largest}{close}, sequences {}..={}",
            "", s.smallest_sequence, s.largest_sequence
        )
    }

    fn tombstones(&mut self, file: &TableBytes<'_>, handle: Handle) -> io::Result<()> {
        if handle.is_none() {
            return Ok(());
        }
        match file.payload(handle).map(|payload| decode_tombstones(&payload)) {
            Ok(Some(tombstones)) => {
                writeln!(
                    self.out,
                    "{:>10}  range tombstones: {} fragments",
                    handle.offset,
                    tombstones.fragments().len()
                )?;
                let shown = if self.wanted.keys { usize::MAX } else { 0 };
                for tombstone in tombstones.tombstones().take(shown) {
                    self.entry(
                        tombstone.sequence,
                        ValueKind::RangeDelete,
                        "",
                        &tombstone.start,
                        &tombstone.end,
                    )?;
                }
                Ok(())
            }
            Ok(None) => self.damage(handle.offset, "damaged range tombstones"),
            Err(what) => self.damage(handle.offset, &what),
        }
    }

    fn partitions(&mut self, file: &TableBytes<'_>, handle: Handle) -> io::Result<()> {
        let Some(top) = self.block(file, "top index", handle, BlockKind::Index)? else { return Ok(()) };
        for i in 0..top.count() {
            match Partition::decode(top.value(i)) {
                Some(partition) => {
                    self.data_blocks(file, partition.index)?;
                    self.block(file, "filter", partition.filter, BlockKind::Filter)?;
                }
                None => self.damage(handle.offset, &format!("damaged entry {i} of the top index"))?,
            }
        }
        Ok(())
    }

    fn data_blocks(&mut self, file: &TableBytes<'_>, handle: Handle) -> io::Result<()> {
        let Some(index) = self.block(file, "index", handle, BlockKind::Index)? else { return Ok(()) };
        for i in 0..index.count() {
            let Some(data) = Handle::decode(&mut Cursor::new(index.value(i))) else {
                self.damage(handle.offset, &format!("damaged entry {i} of an index"))?;
                continue;
            };
            if let Some(block) = self.block(file, "data", data, BlockKind::Data)?.filter(|_| self.wanted.keys)
            {
                self.entries(data, &block)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, handle: Handle, block: &Block) -> io::Result<()> {
        let mut key = Vec::new();
        for i in 0..block.count() {
            key.clear();
            block.append_key(i, &mut key);
            match unpack_trailer(block.trailer(i)) {
                Some((sequence, kind)) => self.entry(sequence, kind, "", &key, block.value(i))?,
                None => self.damage(handle.offset, &format!("damaged trailer of entry {i}"))?,
            }
        }
        Ok(())
    }

    /// Reads a block, says what it is if that was asked for, and says what is wrong with it in any case.
    fn block(
        &mut self,
        file: &TableBytes<'_>,
        name: &str,
        handle: Handle,
        kind: BlockKind,
    ) -> io::Result<Option<Block>> {
        if handle.is_none() {
            return Ok(None);
        }
        let key = BlockKey { file_number: file.number, offset: handle.offset };
        let payload = file.payload(handle);
        let len = payload.as_ref().map_or(0, Vec::len);
        match payload.and_then(|payload| Block::decode(key, kind, payload)) {
            Ok(block) => {
                if self.wanted.blocks {
                    let (offset, stored, entries) = (handle.offset, handle.len, block.count());
                    writeln!(
                        self.out,
                        "{offset:>10}  {name}: {stored} bytes, {len} unpacked, {entries} entries"
                    )?;
                }
                Ok(Some(block))
            }
            Err(what) => self.damage(handle.offset, &format!("{name} block: {what}")).map(|()| None),
        }
    }
}

/// The bytes of a table file.
struct TableBytes<'a> {
    bytes: &'a [u8],
    number: u64,
}

impl TableBytes<'_> {
    fn payload(&self, handle: Handle) -> Result<Vec<u8>, String> {
        let outside = || format!("points outside the file, to {} bytes at {}", handle.len, handle.offset);
        if !handle.is_inside(self.bytes.len() as u64) {
            return Err(outside());
        }
        let frame = self.bytes.get(handle.offset as usize..handle.end() as usize).ok_or_else(outside)?;
        frame::decode(frame, self.number, handle.offset)
    }
}

/// What a file with a strange name is.
fn by_magic(bytes: &[u8]) -> Option<FileName> {
    if bytes.starts_with(b"HAYPWAL") {
        return Some(FileName::Segment(get_u64(bytes, 16)?));
    }
    if bytes.starts_with(b"HAYPMANI") {
        return Some(FileName::Manifest(get_u64(bytes, 16)?));
    }
    bytes.ends_with(b"HAYTABLE").then_some(FileName::Table(0))
}
