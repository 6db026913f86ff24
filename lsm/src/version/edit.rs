//! One change of the tree, and its bytes.
//!
//! An edit is applied whole or not at all: a flush, a compaction, a new keyspace each make one. On disk it is a row of
//! tagged fields in any order; a field may occur many times:
//!
//! ```text
//! edit  = field*
//! field = tag varint | length varint | payload
//! file  = number | bytes | entries | deletes | range_deletes | created_ms | smallest_sequence | largest_sequence (varints)
//!         | largest_inclusive u8 | smallest slice | largest slice              slice = length varint | bytes
//!
//! tag  payload                                  tag  payload
//!   2  history u64                               14  keyspace dropped: id
//!   4  next file number                          16  file removed: keyspace | level u8 | number
//!   6  last sequence                             18  file added: keyspace | level u8 | file
//!   8  first needed segment                      20  flushed: keyspace | sequence
//!   9  log start                                 22  note added: id | keyspace | bytes
//!  10  log end: first segment after it | LSN     24  notes acknowledged: ids
//!  12  keyspace created: id | name slice |       26  next keyspace
//!      block_bytes | compression u8 | bloom      28  next note
//! ```
//!
//! An unknown even tag must be understood (`UpgradeRequired`), an unknown odd one may be skipped. A known field holds
//! exactly what is drawn here: more in it needs another tag. The codec checks shape and bounds; whether an edit fits the
//! state it is applied to is for the manifest to say.

use crate::base::batch::KeyspaceId;
use crate::base::coding::{Cursor, put_slice, put_u64, put_varint};
use crate::base::hooks::Note;
use crate::base::key::{Lsn, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, LEVELS, NOTE_BYTES_MAX};
use crate::base::options::{Compression, KeyspaceOptions};
use crate::version::file_meta::FileMeta;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The log before segment `segment` ended at `lsn`: whatever else those segments hold is void for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The first segment after the end.
    pub segment: u64,
    /// The last LSN that counts in the segments before it.
    pub lsn: Lsn,
}

/// A keyspace that an edit makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceCreated {
    /// Never used before.
    pub id: KeyspaceId,
    /// Unique among the living.
    pub name: String,
    /// What it was created with.
    pub options: KeyspaceOptions,
}

/// A file that an edit puts into a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAdded {
    /// Whose tree.
    pub keyspace: KeyspaceId,
    /// Which level.
    pub level: usize,
    /// The file.
    pub meta: Arc<FileMeta>,
}

/// A file that an edit takes out of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRemoved {
    /// Whose tree.
    pub keyspace: KeyspaceId,
    /// Which level.
    pub level: usize,
    /// The file.
    pub number: u64,
}

/// One change of the tree. Applied in the order: keyspaces created, files removed, files added, keyspaces dropped, the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Identity of this line of history; given once.
    pub history: Option<u64>,
    /// File numbers below it are taken.
    pub next_file_number: Option<u64>,
    /// Keyspace numbers below it are taken.
    pub next_keyspace: Option<KeyspaceId>,
    /// Note numbers below it are taken.
    pub next_note: Option<u64>,
    /// Sequence numbers up to it are taken.
    pub last_sequence: Option<SequenceNumber>,
    /// WAL segments below it hold nothing that is not in tables.
    pub first_needed_segment: Option<u64>,
    /// Records up to this LSN lie before the first needed segment. Without it a reader that finds the front of that segment lost in a
    /// crash cannot tell whether something of the log is missing.
    pub log_start: Option<Lsn>,
    /// Where the log ended, found by a recovery.
    pub log_ends: Vec<LogEnd>,
    /// New keyspaces.
    pub keyspaces_created: Vec<KeyspaceCreated>,
    /// Keyspaces that go, with all their files.
    pub keyspaces_dropped: Vec<KeyspaceId>,
    /// Files that leave a level; a file that moves is removed and added.
    pub files_removed: Vec<FileRemoved>,
    /// Files that enter a level.
    pub files_added: Vec<FileAdded>,
    /// Of these keyspaces every write up to the sequence number is in tables: replay must pass over it, or what compaction
    /// has dropped since would come back and be dropped (and told of) twice.
    pub flushed: Vec<(KeyspaceId, SequenceNumber)>,
    /// Notes that the job left.
    pub notes_added: Vec<Note>,
    /// Notes that were dealt with.
    pub notes_acknowledged: Vec<u64>,
}

/// Why bytes are not an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditError {
    /// Where in the bytes.
    pub offset: usize,
    /// What is wrong.
    pub what: String,
    /// Whether they may well be an edit, of a newer version.
    pub newer: bool,
}

const TAG_HISTORY: u64 = 2;
const TAG_NEXT_FILE_NUMBER: u64 = 4;
const TAG_LAST_SEQUENCE: u64 = 6;
const TAG_FIRST_NEEDED_SEGMENT: u64 = 8;
const TAG_LOG_START: u64 = 9;
const TAG_LOG_END: u64 = 10;
const TAG_KEYSPACE_CREATED: u64 = 12;
const TAG_KEYSPACE_DROPPED: u64 = 14;
const TAG_FILE_REMOVED: u64 = 16;
const TAG_FILE_ADDED: u64 = 18;
const TAG_DELETE_RUN: u64 = 19;
const TAG_FLUSHED: u64 = 20;
const TAG_NOTE_ADDED: u64 = 22;
const TAG_NOTES_ACKNOWLEDGED: u64 = 24;
const TAG_NEXT_KEYSPACE: u64 = 26;
const TAG_NEXT_NOTE: u64 = 28;

impl VersionEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == VersionEdit::default()
    }

    /// Appends its bytes to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut field = FieldWriter { out, payload: Vec::new() };
        if let Some(history) = self.history {
            field.put(TAG_HISTORY, |p| put_u64(p, history));
        }
        field.number(TAG_NEXT_FILE_NUMBER, self.next_file_number);
        field.number(TAG_NEXT_KEYSPACE, self.next_keyspace.map(u64::from));
        field.number(TAG_NEXT_NOTE, self.next_note);
        field.number(TAG_LAST_SEQUENCE, self.last_sequence);
        field.number(TAG_FIRST_NEEDED_SEGMENT, self.first_needed_segment);
        field.number(TAG_LOG_START, self.log_start);
        for end in &self.log_ends {
            field.numbers(TAG_LOG_END, &[end.segment, end.lsn]);
        }
        for keyspace in &self.keyspaces_created {
            field.put(TAG_KEYSPACE_CREATED, |p| encode_keyspace(p, keyspace));
        }
        for file in &self.files_removed {
            field.numbers(TAG_FILE_REMOVED, &[u64::from(file.keyspace), file.level as u64, file.number]);
        }
        for file in &self.files_added {
            field.put(TAG_FILE_ADDED, |p| encode_file(p, file));
            if file.meta.delete_run > 0 {
                field.numbers(TAG_DELETE_RUN, &[file.meta.number, file.meta.delete_run]);
            }
        }
        for &id in &self.keyspaces_dropped {
            field.number(TAG_KEYSPACE_DROPPED, Some(u64::from(id)));
        }
        for &(keyspace, sequence) in &self.flushed {
            field.numbers(TAG_FLUSHED, &[u64::from(keyspace), sequence]);
        }
        for note in &self.notes_added {
            field.put(TAG_NOTE_ADDED, |p| {
                put_varint(p, note.id);
                put_varint(p, u64::from(note.keyspace));
                put_slice(p, &note.bytes);
            });
        }
        if !self.notes_acknowledged.is_empty() {
            field.numbers(TAG_NOTES_ACKNOWLEDGED, &self.notes_acknowledged);
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Reads an edit from hostile bytes. Never panics; allocates no more than a small multiple of what it is given.
    pub fn decode(bytes: &[u8]) -> Result<VersionEdit, EditError> {
        let mut edit = VersionEdit::default();
        let mut delete_runs = HashMap::new();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let offset = cursor.position();
            let damaged = |what: String| EditError { offset, what, newer: false };
            let (Some(tag), Some(payload)) = (cursor.varint(), cursor.slice()) else {
                return Err(damaged("a field of a version edit is cut off".into()));
            };
            let mut field = Cursor::new(payload);
            match decode_field(&mut edit, &mut delete_runs, tag, &mut field) {
                Field::Read if field.is_empty() => {}
                Field::Read | Field::Damaged => {
                    return Err(damaged(format!("field {tag} of a version edit is malformed")));
                }
                Field::Unknown if tag & 1 == 1 => {}
                Field::Unknown => {
                    let what = format!("version edit field {tag}");
                    return Err(EditError { offset, what, newer: true });
                }
            }
        }
        for file in &mut edit.files_added {
            if let Some(&run) = delete_runs.get(&file.meta.number) {
                Arc::make_mut(&mut file.meta).delete_run = run.min(file.meta.deletes);
            }
        }
        Ok(edit)
    }
}

/// Writes fields, each by way of one payload buffer.
struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    payload: Vec<u8>,
}

impl FieldWriter<'_> {
    fn put(&mut self, tag: u64, fill: impl FnOnce(&mut Vec<u8>)) {
        self.payload.clear();
        fill(&mut self.payload);
        put_varint(self.out, tag);
        put_slice(self.out, &self.payload);
    }

    fn numbers(&mut self, tag: u64, numbers: &[u64]) {
        self.put(tag, |payload| numbers.iter().for_each(|&n| put_varint(payload, n)));
    }

    fn number(&mut self, tag: u64, number: Option<u64>) {
        if let Some(number) = number {
            self.numbers(tag, &[number]);
        }
    }
}

fn encode_keyspace(out: &mut Vec<u8>, keyspace: &KeyspaceCreated) {
    put_varint(out, u64::from(keyspace.id));
    put_slice(out, keyspace.name.as_bytes());
    put_varint(out, u64::from(keyspace.options.block_bytes));
    out.push(match keyspace.options.compression {
        Compression::None => 0,
        Compression::Lz4 => 1,
    });
    put_varint(out, u64::from(keyspace.options.bloom_bits_per_key));
}

fn encode_file(out: &mut Vec<u8>, file: &FileAdded) {
    let meta = &file.meta;
    put_varint(out, u64::from(file.keyspace));
    out.push(file.level as u8);
    let numbers = [
        meta.number,
        meta.bytes,
        meta.entries,
        meta.deletes,
        meta.range_deletes,
        meta.created_ms,
        meta.smallest_sequence,
        meta.largest_sequence,
    ];
    numbers.iter().for_each(|&n| put_varint(out, n));
    out.push(u8::from(meta.largest_inclusive));
    put_slice(out, &meta.smallest);
    put_slice(out, &meta.largest);
}

/// What became of one field.
enum Field {
    Read,
    Damaged,
    Unknown,
}

fn decode_field(
    edit: &mut VersionEdit,
    delete_runs: &mut HashMap<u64, u64>,
    tag: u64,
    field: &mut Cursor<'_>,
) -> Field {
    let read = match tag {
        TAG_HISTORY => field.u64().map(|n| edit.history = Some(n)),
        TAG_NEXT_FILE_NUMBER => field.varint().map(|n| edit.next_file_number = Some(n)),
        TAG_NEXT_KEYSPACE => field.varint_u32().map(|n| edit.next_keyspace = Some(n)),
        TAG_NEXT_NOTE => field.varint().map(|n| edit.next_note = Some(n)),
        TAG_LAST_SEQUENCE => sequence(field).map(|n| edit.last_sequence = Some(n)),
        TAG_FIRST_NEEDED_SEGMENT => field.varint().map(|n| edit.first_needed_segment = Some(n)),
        TAG_LOG_START => sequence(field).map(|n| edit.log_start = Some(n)),
        TAG_LOG_END => decode_log_end(field).map(|end| edit.log_ends.push(end)),
        TAG_KEYSPACE_CREATED => decode_keyspace(field).map(|keyspace| edit.keyspaces_created.push(keyspace)),
        TAG_KEYSPACE_DROPPED => field.varint_u32().map(|id| edit.keyspaces_dropped.push(id)),
        TAG_FILE_REMOVED => decode_file_removed(field).map(|file| edit.files_removed.push(file)),
        TAG_FILE_ADDED => decode_file_added(field).map(|file| edit.files_added.push(file)),
        TAG_DELETE_RUN => decode_delete_run(field, delete_runs),
        TAG_FLUSHED => decode_flushed(field).map(|flushed| edit.flushed.push(flushed)),
        TAG_NOTE_ADDED => decode_note(field).map(|note| edit.notes_added.push(note)),
        TAG_NOTES_ACKNOWLEDGED => decode_acknowledged(field, &mut edit.notes_acknowledged),
        _ => return Field::Unknown,
    };
    read.map_or(Field::Damaged, |()| Field::Read)
}

fn sequence(field: &mut Cursor<'_>) -> Option<SequenceNumber> {
    field.varint().filter(|&sequence| sequence <= SEQUENCE_MAX)
}

fn level(field: &mut Cursor<'_>) -> Option<usize> {
    field.u8().map(usize::from).filter(|&level| level < LEVELS)
}

fn key(field: &mut Cursor<'_>) -> Option<Vec<u8>> {
    field.slice().filter(|key| key.len() <= KEY_BYTES_MAX).map(<[u8]>::to_vec)
}

fn decode_log_end(field: &mut Cursor<'_>) -> Option<LogEnd> {
    Some(LogEnd { segment: field.varint()?, lsn: sequence(field)? })
}

fn decode_flushed(field: &mut Cursor<'_>) -> Option<(KeyspaceId, SequenceNumber)> {
    Some((field.varint_u32()?, sequence(field)?))
}

fn decode_keyspace(field: &mut Cursor<'_>) -> Option<KeyspaceCreated> {
    let id = field.varint_u32()?;
    let name = field.slice().filter(|name| name.len() <= KEYSPACE_NAME_BYTES_MAX)?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    let block_bytes = field.varint_u32()?;
    let compression = match field.u8()? {
        0 => Compression::None,
        1 => Compression::Lz4,
        _ => return None,
    };
    let options = KeyspaceOptions { block_bytes, compression, bloom_bits_per_key: field.varint_u32()? };
    options.validate().is_ok().then_some(KeyspaceCreated { id, name, options })
}

fn decode_file_removed(field: &mut Cursor<'_>) -> Option<FileRemoved> {
    Some(FileRemoved { keyspace: field.varint_u32()?, level: level(field)?, number: field.varint()? })
}

fn decode_file_added(field: &mut Cursor<'_>) -> Option<FileAdded> {
    let keyspace = field.varint_u32()?;
    let level = level(field)?;
    let meta = FileMeta {
        number: field.varint()?,
        bytes: field.varint()?,
        entries: field.varint()?,
        deletes: field.varint()?,
        delete_run: 0,
        range_deletes: field.varint()?,
        created_ms: field.varint()?,
        smallest_sequence: sequence(field)?,
        largest_sequence: sequence(field)?,
        largest_inclusive: match field.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        },
        smallest: key(field)?,
        largest: key(field)?,
    };
    meta.fault().is_none().then(|| FileAdded { keyspace, level, meta: Arc::new(meta) })
}

fn decode_delete_run(field: &mut Cursor<'_>, delete_runs: &mut HashMap<u64, u64>) -> Option<()> {
    delete_runs.insert(field.varint()?, field.varint()?);
    Some(())
}

fn decode_note(field: &mut Cursor<'_>) -> Option<Note> {
    let id = field.varint()?;
    let keyspace = field.varint_u32()?;
    let bytes = field.slice().filter(|bytes| bytes.len() <= NOTE_BYTES_MAX)?.to_vec();
    Some(Note { id, keyspace, bytes })
}

fn decode_acknowledged(field: &mut Cursor<'_>, ids: &mut Vec<u64>) -> Option<()> {
    while !field.is_empty() {
        ids.push(field.varint()?);
    }
    Some(())
}

/// One line a change, in the notation of tools and tests.
impl fmt::Display for VersionEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("next file", self.next_file_number),
            ("next keyspace", self.next_keyspace.map(u64::from)),
            ("next note", self.next_note),
            ("last sequence", self.last_sequence),
            ("first needed segment", self.first_needed_segment),
            ("log start", self.log_start),
        ];
        if let Some(history) = self.history {
            writeln!(f, "history {history:016x}")?;
        }
        for (name, number) in numbers {
            if let Some(number) = number {
                writeln!(f, "{name} {number}")?;
            }
        }
        for end in &self.log_ends {
            writeln!(f, "log before segment {} ended at {}", end.segment, end.lsn)?;
        }
        for keyspace in &self.keyspaces_created {
            writeln!(f, "create keyspace {} {:?} {:?}", keyspace.id, keyspace.name, keyspace.options)?;
        }
        for file in &self.files_removed {
            writeln!(f, "remove {}/L{} {:06}", file.keyspace, file.level, file.number)?;
        }
        for file in &self.files_added {
            writeln!(f, "add {}/L{} {}", file.keyspace, file.level, file.meta)?;
        }
        for id in &self.keyspaces_dropped {
            writeln!(f, "drop keyspace {id}")?;
        }
        for (keyspace, sequence) in &self.flushed {
            writeln!(f, "keyspace {keyspace} flushed to {sequence}")?;
        }
        for note in &self.notes_added {
            writeln!(f, "note {} of keyspace {}: {}", note.id, note.keyspace, note.bytes.escape_ascii())?;
        }
        if !self.notes_acknowledged.is_empty() {
            writeln!(f, "acknowledge notes {:?}", self.notes_acknowledged)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn sequences() -> impl Strategy<Value = u64> {
        0..=SEQUENCE_MAX
    }

    pub(crate) fn metas() -> impl Strategy<Value = FileMeta> {
        let bounds = (vec(any::<u8>(), 0..12), vec(any::<u8>(), 1..12), any::<bool>());
        (any::<[u64; 5]>(), sequences(), sequences(), bounds).prop_map(
            |([number, bytes, entries, deletes, created_ms], a, b, (smallest, tail, largest_inclusive))| {
                let largest = [smallest.clone(), tail].concat();
                FileMeta {
                    number,
                    bytes,
                    entries,
                    deletes: deletes.min(entries),
                    delete_run: deletes.min(entries) / 2,
                    range_deletes: bytes >> 32,
                    smallest,
                    largest,
                    largest_inclusive,
                    smallest_sequence: a.min(b),
                    largest_sequence: a.max(b),
                    created_ms,
                }
            },
        )
    }

    fn keyspaces() -> impl Strategy<Value = KeyspaceCreated> {
        (any::<u32>(), "[a-z]{0,9}", 64u32..1 << 20, any::<bool>(), 0u32..=32).prop_map(
            |(id, name, block_bytes, lz4, bloom_bits_per_key)| {
                let compression = if lz4 { Compression::Lz4 } else { Compression::None };
                let options = KeyspaceOptions { block_bytes, compression, bloom_bits_per_key };
                KeyspaceCreated { id, name, options }
            },
        )
    }

    fn edits() -> impl Strategy<Value = VersionEdit> {
        let numbers = (
            option::of(any::<u64>()),
            option::of(any::<u64>()),
            option::of(any::<u32>()),
            option::of(any::<u64>()),
            option::of(sequences()),
            option::of(any::<u64>()),
            option::of(sequences()),
        );
        let added = (any::<u32>(), 0..LEVELS, metas()).prop_map(|(keyspace, level, meta)| FileAdded {
            keyspace,
            level,
            meta: Arc::new(meta),
        });
        let removed = (any::<u32>(), 0..LEVELS, any::<u64>())
            .prop_map(|(keyspace, level, number)| FileRemoved { keyspace, level, number });
        let notes = (any::<u64>(), any::<u32>(), vec(any::<u8>(), 0..=NOTE_BYTES_MAX))
            .prop_map(|(id, keyspace, bytes)| Note { id, keyspace, bytes });
        let ends = (any::<u64>(), sequences()).prop_map(|(segment, lsn)| LogEnd { segment, lsn });
        let lists = (vec(added, 0..4), vec(removed, 0..4), vec(notes, 0..4), vec(any::<u64>(), 0..4));
        let more = (vec(keyspaces(), 0..3), vec(any::<u32>(), 0..3), vec((any::<u32>(), sequences()), 0..3));
        (numbers, vec(ends, 0..3), lists, more).prop_map(|(numbers, log_ends, lists, more)| VersionEdit {
            history: numbers.0,
            next_file_number: numbers.1,
            next_keyspace: numbers.2,
            next_note: numbers.3,
            last_sequence: numbers.4,
            first_needed_segment: numbers.5,
            log_start: numbers.6,
            log_ends,
            files_added: lists.0,
            files_removed: lists.1,
            notes_added: lists.2,
            notes_acknowledged: lists.3,
            keyspaces_created: more.0,
            keyspaces_dropped: more.1,
            flushed: more.2,
        })
    }

    proptest! {
        #[test]
        fn round_trip(edit in edits()) {
            let bytes = edit.encode();
            prop_assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = VersionEdit::decode(&bytes);
        }

        #[test]
        fn a_damaged_edit_never_panics(edit in edits(), at: prop::sample::Index, byte: u8) {
            let mut bytes = edit.encode();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if let Ok(edit) = VersionEdit::decode(&bytes) {
                    prop_assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
                }
            }
        }

        #[test]
        fn unknown_fields(edit in edits(), tag in 15u64..1000, payload in vec(any::<u8>(), 0..9)) {
            let tag = 2 * tag;
            let mut bytes = edit.encode();
            put_varint(&mut bytes, tag + 1);
            put_slice(&mut bytes, &payload);
            prop_assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
            let offset = bytes.len();
            put_varint(&mut bytes, tag);
            put_slice(&mut bytes, &payload);
            let error = VersionEdit::decode(&bytes).unwrap_err();
            prop_assert!(error.newer && error.offset == offset);
        }
    }
}
