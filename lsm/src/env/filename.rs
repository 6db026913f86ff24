//! The names of the files in a database folder: one grammar, read and written here only.
//!
//! ```text
//! NNNNNN.sst        table                     number: six digits at least, zero-padded, no other leading zeros
//! NNNNNN.wal        segment of the WAL
//! MANIFEST-NNNNNN   log of version edits
//! CURRENT           names the manifest in use
//! LOCK              held while the database is open
//! BALLAST           preallocated bytes, given back when the disk is full
//! *.tmp             being made; renamed when complete, garbage after a crash
//! ```
//!
//! A name parses only if it is spelled exactly as it would be written, so two names never mean one file. Anything else
//! in the folder is not ours and is left alone.

use std::fmt;
use std::path::{Path, PathBuf};

const TEMPORARY_SUFFIX: &str = ".tmp";

/// A file that belongs to the database, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A table.
    Table(u64),
    /// A segment of the WAL.
    Segment(u64),
    /// A manifest.
    Manifest(u64),
    /// The pointer to the manifest in use.
    Current,
    /// The lock file.
    Lock,
    /// The ballast file.
    Ballast,
}

impl FileName {
    /// Reads the last component of `path`. `None` if it is no name of ours, or a temporary one.
    pub fn parse(path: &Path) -> Option<FileName> {
        let name = path.file_name()?.to_str()?;
        let parsed = match name {
            "CURRENT" => FileName::Current,
            "LOCK" => FileName::Lock,
            "BALLAST" => FileName::Ballast,
            _ => {
                if let Some(number) = name.strip_suffix(".sst") {
                    FileName::Table(parse_number(number)?)
                } else if let Some(number) = name.strip_suffix(".wal") {
                    FileName::Segment(parse_number(number)?)
                } else {
                    FileName::Manifest(parse_number(name.strip_prefix("MANIFEST-")?)?)
                }
            }
        };
        Some(parsed)
    }

    /// The file's place in `dir`.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Table(number) => write!(f, "{number:06}.sst"),
            FileName::Segment(number) => write!(f, "{number:06}.wal"),
            FileName::Manifest(number) => write!(f, "MANIFEST-{number:06}"),
            FileName::Current => f.write_str("CURRENT"),
            FileName::Lock => f.write_str("LOCK"),
            FileName::Ballast => f.write_str("BALLAST"),
        }
    }
}

/// The name under which the file `path` is made before it is renamed to `path`.
pub fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

/// Whether `path` is the name of something that was being made. After a crash such files are garbage.
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(TEMPORARY_SUFFIX))
}

fn parse_number(digits: &str) -> Option<u64> {
    let plain = digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    let padded_beyond_need = digits.len() > 6 && digits.starts_with('0');
    if !plain || padded_beyond_need {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(number: u64, small in 0u64..2_000_000) {
            for n in [number, small] {
                for name in [FileName::Table(n), FileName::Segment(n), FileName::Manifest(n)] {
                    let path = name.path(Path::new("/db"));
                    prop_assert_eq!(FileName::parse(&path), Some(name));
                    prop_assert_eq!(FileName::parse(&temporary_path(&path)), None);
                    prop_assert!(is_temporary(&temporary_path(&path)));
                }
            }
        }

        #[test]
        fn what_parses_is_written_the_same(text in "[0-9]{0,22}(\\.sst|\\.wal|)|MANIFEST-[0-9]{0,8}|\\PC*") {
            if let Some(name) = FileName::parse(Path::new(&text)) {
                let path = Path::new(&text).file_name().unwrap().to_str().unwrap().to_owned();
                prop_assert_eq!(name.to_string(), path);
            }
        }
    }

    #[test]
    fn strangers_are_refused() {
        for name in
            ["", "1.sst", "0000001.sst", "+00001.wal", "000001.SST", "MANIFEST-1", "CURRENT.tmp", "..", "a"]
        {
            assert_eq!(FileName::parse(Path::new(name)), None, "{name}");
        }
        for name in [FileName::Current, FileName::Lock, FileName::Ballast] {
            assert_eq!(FileName::parse(&name.path(Path::new("x"))), Some(name));
        }
    }
}
