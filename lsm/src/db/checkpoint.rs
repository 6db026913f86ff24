//! Checkpoint: a second database in a new folder, as of one LSN, while this one goes on.
//!
//! Writers are held up only while the LSN and the view are taken under the append lock. Tables are immutable, so they get a second
//! name; log segments are overwritten in place when they are recycled, so they are copied. The copy's manifest says where its
//! log ends: what the copied segments hold beyond that LSN is void there.

use crate::base::error::{Error, Result};
use crate::base::key::Lsn;
use crate::db::flush::first_needed_segment_of;
use crate::db::state::{Shared, lock};
use crate::db::view::View;
use crate::env::env::{Env, OpenMode};
use crate::env::filename::FileName;
use crate::version::edit::{FileAdded, KeyspaceCreated, LogEnd, VersionEdit};
use crate::version::manifest::Manifest;
use crate::version::state::ManifestState;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many bytes of a segment are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Makes the checkpoint in `target`, which must not exist or be empty. Returns the LSN that it holds everything up to. Writes that
/// skipped the log are in it only once they are flushed.
pub fn checkpoint(shared: &Arc<Shared>, target: &Path) -> Result<Lsn> {
    shared.check_writable()?;
    if shared.env.exists(target)? && !shared.env.list(target)?.is_empty() {
        return Err(Error::invalid(format!("{} is not empty", target.display())));
    }
    shared.env.create_dir_all(target)?;

    // Under `manifest` no job installs, so view and notes fit each other. Under `append` no commit is assigned.
    let manifest = lock(&shared.manifest);
    let append = shared.log.lock();
    let lsn = append.last_lsn();
    // Where the copied log ends: at the last record, for a write that skipped the log has none.
    let end = LogEnd { segment: shared.log.current_segment() + 1, lsn: append.recoverable_lsn() };
    let segment = shared.log.current_segment();
    let view = shared.view.load_owned();
    let first = first_needed_segment_of(&view, segment);
    let hold = shared.log.hold(first);
    drop(append);
    let mut edit = describe(shared, &view, first, lsn);
    edit.log_start = shared.log_start(first);
    // Segments that an earlier open adopted end where it said.
    edit.log_ends = manifest.state().log_ends.iter().filter(|old| old.segment > first).copied().collect();
    edit.log_ends.push(end);
    edit.notes_added = manifest.state().notes.values().cloned().collect();
    edit.next_note = Some(manifest.state().next_note);
    edit.next_keyspace = Some(manifest.state().next_keyspace);
    drop(manifest);

    // The copy must hold all of every commit up to the LSN, in the log or in tables.
    shared.log.write_to(lsn)?;
    for keyspace in view.keyspaces() {
        for file in keyspace.version.files() {
            let number = file.meta().number;
            shared.env.hard_link(&shared.table_path(number), &FileName::Table(number).path(target))?;
        }
    }
    for info in shared.log.segments() {
        if info.id >= first && info.id <= segment {
            copy_file(&shared.env, &info.path, &FileName::Segment(info.id).path(target))?;
        }
    }
    drop(hold);
    // Last of all: until CURRENT names the manifest, the folder holds no database.
    let mut state = ManifestState::new(shared.history);
    state.check(&edit).map_err(|what| Error::invalid(format!("version edit: {what}")))?;
    state.apply(&edit);
    Manifest::create_with(shared.env.clone(), target, state)?;
    Ok(lsn)
}

fn describe(shared: &Shared, view: &View, first_needed_segment: u64, lsn: Lsn) -> VersionEdit {
    let mut edit = VersionEdit {
        next_file_number: Some(shared.next_file_number.load(Ordering::Relaxed)),
        last_sequence: Some(lsn),
        first_needed_segment: Some(first_needed_segment),
        ..VersionEdit::default()
    };
    for keyspace in view.keyspaces() {
        edit.keyspaces_created.push(KeyspaceCreated {
            id: keyspace.id,
            name: keyspace.name.to_string(),
            options: keyspace.options,
        });
        edit.flushed.push((keyspace.id, keyspace.flushed_lsn));
        for (level, files) in keyspace.version.levels().iter().enumerate() {
            for file in files.files().iter() {
                edit.files_added.push(FileAdded { keyspace: keyspace.id, level, meta: file.meta().clone() });
            }
        }
    }
    edit
}

fn copy_file(env: &Arc<dyn Env>, from: &Path, to: &Path) -> Result<()> {
    let source = env.open(from, OpenMode::Read)?;
    let copy = env.open(to, OpenMode::CreateNew)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut buffer, offset)?;
        copy.write_at(&buffer[..read], offset)?;
        offset += read as u64;
        if read < buffer.len() {
            return copy.sync();
        }
    }
}
