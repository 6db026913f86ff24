//! Looking at the whole: checks of every table and of the levels, sizes.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::limits::LEVELS;
use crate::db::state::Shared;
use crate::version::file_meta::KeyRange;
use std::ops::Bound;
use std::sync::Arc;

/// Reads every table whole: checksums, order, filters without false negatives; and checks that the levels are sorted and disjoint.
pub fn verify(shared: &Arc<Shared>) -> Result<()> {
    let view = shared.view.load_owned();
    for keyspace in view.keyspaces() {
        keyspace.version.check().map_err(|what| Error::corruption(&shared.path, 0, what.to_string()))?;
        for file in keyspace.version.files() {
            file.table(&shared.opener, false)?.verify()?;
        }
    }
    Ok(())
}

/// About how many bytes of tables the keys in `[start, end)` take.
pub fn approximate_size(shared: &Shared, id: KeyspaceId, start: &[u8], end: &[u8]) -> Result<u64> {
    let view = shared.view.load_owned();
    let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
    let range = KeyRange { start, end: Bound::Excluded(end) };
    Ok(keyspace.version.approximate_bytes(0..LEVELS, &range))
}
