//! Making and dropping keyspaces, and the notes of their hooks: changes of the manifest that are no job's.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::limits::{KEYSPACE_NAME_BYTES_MAX, KEYSPACES_MAX};
use crate::base::options::KeyspaceOptions;
use crate::db::state::{Shared, lock};
use crate::db::view::KeyspaceView;
use crate::memtable::memtable::Memtable;
use crate::version::edit::{KeyspaceCreated, VersionEdit};
use crate::version::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The keyspace of that name; made, durably, if there is none.
pub fn get_or_create(shared: &Shared, name: &str, options: KeyspaceOptions) -> Result<KeyspaceId> {
    let mut manifest = lock(&shared.manifest);
    let view = shared.view.load_owned();
    if let Some(keyspace) = view.keyspaces().find(|keyspace| *keyspace.name == *name) {
        return Ok(keyspace.id);
    }
    if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
        return Err(Error::invalid(format!("a keyspace name has from 1 to {KEYSPACE_NAME_BYTES_MAX} bytes")));
    }
    if view.keyspaces().count() >= KEYSPACES_MAX {
        return Err(Error::invalid(format!("no more than {KEYSPACES_MAX} keyspaces")));
    }
    options.validate()?;
    shared.check_writable()?;
    let id = manifest.state().next_keyspace;
    // Only a manifest that somebody made up gets there: a number is used once, and there are four billion.
    let next = id.checked_add(1).ok_or_else(|| Error::invalid("every keyspace number was used"))?;
    let mut edit = VersionEdit { next_keyspace: Some(next), ..VersionEdit::default() };
    edit.keyspaces_created.push(KeyspaceCreated { id, name: name.to_string(), options });
    shared.append_edit(&mut manifest, &edit)?;
    let memtable_number = shared.next_memtable.fetch_add(1, Ordering::Relaxed);
    let keyspace = KeyspaceView {
        id,
        name: name.into(),
        options,
        hooks: shared.options.hooks.get(name).cloned(),
        memtable: Arc::new(Memtable::within(&shared.maps, shared.options.memtable_bytes, memtable_number)?),
        immutables: Vec::new(),
        version: Arc::new(Version::empty()),
        wasted_steps: Arc::default(),
        flushed_lsn: 0,
    };
    let writer = shared.view.writer();
    writer.replace(writer.current().with(keyspace));
    Ok(id)
}

/// Removes a keyspace, durably. Its files go when the last reader lets go of them.
pub fn drop_keyspace(shared: &Shared, id: KeyspaceId) -> Result<()> {
    let mut manifest = lock(&shared.manifest);
    shared.check_writable()?;
    let keyspace = shared.view.load_owned().keyspace(id).cloned();
    let keyspace = keyspace.ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    let mut edit = VersionEdit::default();
    edit.keyspaces_dropped.push(id);
    shared.append_edit(&mut manifest, &edit)?;
    let writer = shared.view.writer();
    writer.replace(writer.current().without(id));
    drop(writer);
    for file in keyspace.version.files() {
        file.mark_obsolete();
    }
    drop(manifest);
    shared.signal();
    Ok(())
}

/// Forgets notes, durably.
pub fn acknowledge_notes(shared: &Shared, ids: &[u64]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut manifest = lock(&shared.manifest);
    shared.check_writable()?;
    let edit = VersionEdit { notes_acknowledged: ids.to_vec(), ..VersionEdit::default() };
    shared.append_edit(&mut manifest, &edit)
}
