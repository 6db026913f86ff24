//! Small files that commands read and replace: the configuration, the users.

use haypile_lsm::env::env::OpenMode;
use haypile_lsm::{Env, Error, OsEnv, Result};
use rustix::fs::{Mode, chmod, stat};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most that is read of one.
const FILE_BYTES_MAX: usize = 16 << 20;

/// All bytes of a file.
pub fn read(env: &Arc<OsEnv>, path: &Path) -> Result<Vec<u8>> {
    let file = env.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX)];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Writes aside, syncs, renames: a crash leaves the old file or the new one. Who may read the file stays as it was: it may hold passwords.
pub fn replace(env: &Arc<OsEnv>, path: &Path, bytes: &[u8]) -> Result<()> {
    // Two at once would write the same file aside.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut aside = path.as_os_str().to_owned();
    aside.push(".rewriting");
    let aside = PathBuf::from(aside);
    if env.exists(&aside)? {
        env.remove(&aside)?;
    }
    let file = env.open(&aside, OpenMode::CreateNew)?;
    if let Ok(old) = stat(path) {
        let mode = Mode::from_raw_mode(old.st_mode & 0o7777);
        chmod(&aside, mode).map_err(|errno| Error::io("chmod", &aside, errno.into()))?;
    }
    file.write_at(bytes, 0)?;
    file.sync()?;
    env.rename(&aside, path)?;
    env.sync_dir(path.parent().unwrap_or(Path::new("/")))
}
