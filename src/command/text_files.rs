//! Small files that commands read and replace: the configuration, the users.

use haypile_lsm::env::env::OpenMode;
use haypile_lsm::{Env, Error, OsEnv, Result};
use rustix::fs::{FileType, Mode, chmod, stat};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most that is read of one.
const FILE_BYTES_MAX: usize = 16 << 20;

/// All bytes of a file. An error if it is too large, or no file: a part of it, or nothing, would be taken for the whole.
pub fn read(env: &Arc<OsEnv>, path: &Path) -> Result<Vec<u8>> {
    let found = stat(path).map_err(|errno| Error::io("stat", path, errno.into()))?;
    if !FileType::from_raw_mode(found.st_mode).is_file() {
        return Err(Error::invalid(format!("{}: not a regular file", path.display())));
    }
    let file = env.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= FILE_BYTES_MAX) else {
        return Err(Error::invalid(format!(
            "{}: {len} bytes are more than {FILE_BYTES_MAX}",
            path.display()
        )));
    };
    let mut bytes = vec![0; len];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_are_read() {
        let env = OsEnv::new();
        let folder = std::env::temp_dir().join(format!("haypile-text-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("users.acl");
        assert!(read(&env, &path).is_err());
        let file = env.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(b"user default on", 0).unwrap();
        assert_eq!(read(&env, &path).unwrap(), b"user default on");
        file.write_at(b"\n", FILE_BYTES_MAX as u64).unwrap();
        assert!(read(&env, &path).is_err());
        assert!(read(&env, &folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
