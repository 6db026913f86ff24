//! What all edits together come to: keyspaces and their files, the counters, where the log starts and ended, open notes.
//!
//! This is the state that a manifest keeps on disk; it knows nothing of bytes and files. An edit is first checked against
//! it ([`ManifestState::check`]) and then applied, so that one that does not fit (a bug when it is made, damage when it is
//! read) changes nothing.

use crate::base::batch::KeyspaceId;
use crate::base::hooks::Note;
use crate::base::key::{Lsn, SequenceNumber};
use crate::base::limits::{KEYSPACES_MAX, LEVELS};
use crate::base::options::KeyspaceOptions;
use crate::version::edit::{FileAdded, KeyspaceCreated, LogEnd, VersionEdit};
use crate::version::file_meta::{FileMeta, newest_first};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A snapshot is cut into edits of about this size.
const SNAPSHOT_EDIT_BYTES: usize = 1 << 20;

/// One keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceState {
    /// Unique among the living.
    pub name: String,
    /// What it was created with.
    pub options: KeyspaceOptions,
    /// Every write up to here is in tables.
    pub flushed: SequenceNumber,
    /// Level and facts of each file, by number.
    pub files: BTreeMap<u64, (usize, Arc<FileMeta>)>,
}

impl KeyspaceState {
    /// The files by level: L0 newest first, the others sorted by key.
    pub fn levels(&self) -> [Vec<Arc<FileMeta>>; LEVELS] {
        let mut levels: [Vec<Arc<FileMeta>>; LEVELS] = Default::default();
        for (level, file) in self.files.values() {
            levels[*level].push(Arc::clone(file));
        }
        levels[0].sort_by(|a, b| newest_first(a, b));
        levels[1..].iter_mut().for_each(|files| files.sort_by(|a, b| a.smallest.cmp(&b.smallest)));
        levels
    }
}

/// The state of a database, memtables and log apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestState {
    /// Identity of this line of history.
    pub history: u64,
    /// File numbers below it are taken.
    pub next_file_number: u64,
    /// Keyspace numbers below it are taken.
    pub next_keyspace: KeyspaceId,
    /// Note numbers below it are taken.
    pub next_note: u64,
    /// Sequence numbers up to it are taken.
    pub last_sequence: SequenceNumber,
    /// WAL segments below it hold nothing that is not in tables.
    pub first_needed_segment: u64,
    /// Records up to this LSN, if not further, lie in segments below it.
    pub log_start: Lsn,
    /// Where the log ended, of segments still needed; ascending.
    pub log_ends: Vec<LogEnd>,
    /// The living.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
    /// Notes not yet acknowledged, by number.
    pub notes: BTreeMap<u64, Note>,
}

impl ManifestState {
    /// Of a new database.
    pub fn new(history: u64) -> ManifestState {
        ManifestState { history, next_file_number: 1, first_needed_segment: 1, ..ManifestState::default() }
    }

    /// Whether `edit` fits; if not, why.
    pub fn check(&self, edit: &VersionEdit) -> Result<(), String> {
        if edit.history.is_some_and(|history| self.history != 0 && history != self.history) {
            return Err("another history".into());
        }
        self.check_keyspaces(edit)?;
        self.check_files(edit)?;
        let mut next_note = self.next_note;
        for note in &edit.notes_added {
            if note.id < next_note || note.id == u64::MAX {
                return Err(format!("note {} was there before", note.id));
            }
            next_note = note.id + 1;
        }
        let mut last_end = self.log_ends.last().map_or(0, |end| end.segment);
        for end in &edit.log_ends {
            if end.segment < last_end {
                return Err(format!("the log ended before segment {last_end} already, not {}", end.segment));
            }
            last_end = end.segment;
        }
        Ok(())
    }

    fn check_keyspaces(&self, edit: &VersionEdit) -> Result<(), String> {
        let mut next = self.next_keyspace;
        let mut names =
            self.keyspaces.values().map(|keyspace| keyspace.name.as_str()).collect::<BTreeSet<_>>();
        for created in &edit.keyspaces_created {
            if created.id < next || created.id == KeyspaceId::MAX {
                return Err(format!("keyspace {} was there before", created.id));
            }
            if !names.insert(&created.name) {
                return Err(format!("a keyspace {:?} is there", created.name));
            }
            next = created.id + 1;
        }
        if names.len() > KEYSPACES_MAX {
            return Err("too many keyspaces".into());
        }
        let dropped = edit.keyspaces_dropped.iter().collect::<BTreeSet<_>>();
        if dropped.len() < edit.keyspaces_dropped.len() {
            return Err("a keyspace is dropped twice".into());
        }
        let named = edit.keyspaces_dropped.iter().chain(edit.flushed.iter().map(|(id, _)| id));
        self.check_living(edit, named)
    }

    fn check_living<'a>(
        &self,
        edit: &VersionEdit,
        ids: impl IntoIterator<Item = &'a KeyspaceId>,
    ) -> Result<(), String> {
        let created = edit.keyspaces_created.iter().map(|created| created.id).collect::<BTreeSet<_>>();
        match ids.into_iter().find(|id| !self.keyspaces.contains_key(id) && !created.contains(id)) {
            Some(id) => Err(format!("there is no keyspace {id}")),
            None => Ok(()),
        }
    }

    fn check_files(&self, edit: &VersionEdit) -> Result<(), String> {
        self.check_living(edit, edit.files_added.iter().map(|file| &file.keyspace))?;
        let mut removed = BTreeSet::new();
        for file in &edit.files_removed {
            let there =
                self.keyspaces.get(&file.keyspace).and_then(|keyspace| keyspace.files.get(&file.number));
            if there.is_none_or(|(level, _)| *level != file.level) || !removed.insert(file.number) {
                return Err(format!("file {:06} is not in L{} to be removed", file.number, file.level));
            }
        }
        let mut added = BTreeSet::new();
        for FileAdded { level, meta, .. } in &edit.files_added {
            if let Some(fault) = meta.fault() {
                return Err(format!("file {:06}: {fault}", meta.number));
            }
            let there = self.keyspaces.values().any(|keyspace| keyspace.files.contains_key(&meta.number));
            let taken = there && !removed.contains(&meta.number);
            if taken || meta.number == u64::MAX || *level >= LEVELS || !added.insert(meta.number) {
                return Err(format!("file {:06} cannot be added to L{level}", meta.number));
            }
        }
        Ok(())
    }

    /// Applies an edit that [`check`](Self::check) has passed.
    pub fn apply(&mut self, edit: &VersionEdit) {
        if let Some(history) = edit.history {
            self.history = history;
        }
        for KeyspaceCreated { id, name, options } in &edit.keyspaces_created {
            let keyspace =
                KeyspaceState { name: name.clone(), options: *options, flushed: 0, files: BTreeMap::new() };
            self.keyspaces.insert(*id, keyspace);
            self.next_keyspace = self.next_keyspace.max(id.saturating_add(1));
        }
        for file in &edit.files_removed {
            if let Some(keyspace) = self.keyspaces.get_mut(&file.keyspace) {
                keyspace.files.remove(&file.number);
            }
        }
        for FileAdded { keyspace, level, meta } in &edit.files_added {
            if let Some(keyspace) = self.keyspaces.get_mut(keyspace) {
                keyspace.files.insert(meta.number, (*level, Arc::clone(meta)));
            }
            self.next_file_number = self.next_file_number.max(meta.number.saturating_add(1));
            self.last_sequence = self.last_sequence.max(meta.largest_sequence);
        }
        for (id, sequence) in &edit.flushed {
            if let Some(keyspace) = self.keyspaces.get_mut(id) {
                keyspace.flushed = keyspace.flushed.max(*sequence);
            }
            self.last_sequence = self.last_sequence.max(*sequence);
        }
        edit.keyspaces_dropped.iter().for_each(|id| {
            self.keyspaces.remove(id);
        });
        self.apply_notes(edit);
        self.apply_log(edit);
        self.next_file_number = self.next_file_number.max(edit.next_file_number.unwrap_or(0));
        self.next_keyspace = self.next_keyspace.max(edit.next_keyspace.unwrap_or(0));
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or(0));
    }

    fn apply_notes(&mut self, edit: &VersionEdit) {
        for note in &edit.notes_added {
            self.next_note = self.next_note.max(note.id.saturating_add(1));
            self.notes.insert(note.id, note.clone());
        }
        self.next_note = self.next_note.max(edit.next_note.unwrap_or(0));
        edit.notes_acknowledged.iter().for_each(|id| {
            self.notes.remove(id);
        });
    }

    fn apply_log(&mut self, edit: &VersionEdit) {
        for end in &edit.log_ends {
            self.last_sequence = self.last_sequence.max(end.lsn);
            match self.log_ends.last_mut().filter(|last| last.segment == end.segment) {
                // A recovery that was itself cut off, done again.
                Some(last) => last.lsn = last.lsn.min(end.lsn),
                None => self.log_ends.push(*end),
            }
        }
        self.first_needed_segment = self.first_needed_segment.max(edit.first_needed_segment.unwrap_or(0));
        self.log_start = self.log_start.max(edit.log_start.unwrap_or(0));
        self.log_ends.retain(|end| end.segment > self.first_needed_segment);
    }

    /// Whether the files make a tree that can be read: sorted levels are disjoint. If not, where.
    pub fn check_levels(&self) -> Result<(), String> {
        for (id, keyspace) in &self.keyspaces {
            for (level, files) in keyspace.levels().iter().enumerate().skip(1) {
                let clash = files.windows(2).find(|pair| !pair[0].range().is_before(&pair[1].smallest));
                if let Some(pair) = clash {
                    return Err(format!("keyspace {id} L{level}: {} overlaps {}", pair[0], pair[1]));
                }
            }
        }
        Ok(())
    }

    /// Edits that, applied in order to the empty state, give this one.
    pub fn snapshot(&self) -> Vec<VersionEdit> {
        let mut parts = Parts { done: Vec::new(), edit: VersionEdit::default(), bytes: 0 };
        for (&id, keyspace) in &self.keyspaces {
            let (name, options) = (keyspace.name.clone(), keyspace.options);
            parts.room(64 + name.len()).keyspaces_created.push(KeyspaceCreated { id, name, options });
            parts.room(16).flushed.push((id, keyspace.flushed));
            for (level, meta) in keyspace.files.values() {
                let file = FileAdded { keyspace: id, level: *level, meta: Arc::clone(meta) };
                parts.room(96 + meta.smallest.len() + meta.largest.len()).files_added.push(file);
            }
        }
        for note in self.notes.values() {
            parts.room(24 + note.bytes.len()).notes_added.push(note.clone());
        }
        for end in &self.log_ends {
            parts.room(24).log_ends.push(*end);
        }
        // Last, for until then they would forbid the numbers that are in use.
        let last = parts.room(64);
        last.history = Some(self.history);
        last.next_file_number = Some(self.next_file_number);
        last.next_keyspace = Some(self.next_keyspace);
        last.next_note = Some(self.next_note);
        last.last_sequence = Some(self.last_sequence);
        last.first_needed_segment = Some(self.first_needed_segment);
        last.log_start = Some(self.log_start);
        parts.done.push(parts.edit);
        parts.done
    }
}

/// A row of edits being filled, each up to about [`SNAPSHOT_EDIT_BYTES`].
struct Parts {
    done: Vec<VersionEdit>,
    edit: VersionEdit,
    bytes: usize,
}

impl Parts {
    /// The edit that takes something of this size.
    fn room(&mut self, bytes: usize) -> &mut VersionEdit {
        if self.bytes > 0 && self.bytes + bytes > SNAPSHOT_EDIT_BYTES {
            self.done.push(std::mem::take(&mut self.edit));
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.edit
    }
}
