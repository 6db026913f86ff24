//! The one error type of the engine. Every variant that the world can cause names the operation and the path.
//!
//! Assertions are for bugs, `Error` is for the world. `Corruption` can be tested for as a class; `NeedsIo` is not a
//! failure: it is how a memory-only read says that it would have to touch the disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Shorthand for results of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Cheap to clone, so that a sticky error can be handed to every later caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    Io {
        /// What was tried: "open", "read", "sync", ...
        operation: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk (or the configured reserve on it) is full. Nothing was written; heals by itself.
    NoSpace {
        /// What was tried.
        operation: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
    },
    /// Bytes on disk are not what was written there.
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The file was written by a newer version of this crate.
    UpgradeRequired {
        /// The file.
        file: PathBuf,
        /// Which feature or version is not known here.
        what: String,
    },
    /// The caller asked for something that cannot be: a key too long, an unknown keyspace, ...
    InvalidArgument(String),
    /// Another process (or another handle in this one) has the database open.
    Locked(PathBuf),
    /// An earlier failure makes it impossible to accept writes; what it was. A restart recovers.
    Poisoned(String),
    /// The database was closed.
    Closed,
    /// A memory-only read would need the disk.
    NeedsIo,
}

impl Error {
    /// Wraps an operating-system error; a full disk becomes [`Error::NoSpace`].
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full {
            return Error::NoSpace { operation, path: path.into() };
        }
        Error::Io { operation, path: path.into(), source: Arc::new(source) }
    }

    /// Damaged bytes at `offset` of `file`.
    pub fn corruption(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corruption { file: file.to_path_buf(), offset, what: what.into() }
    }

    /// A caller's mistake.
    pub fn invalid(what: impl Into<String>) -> Error {
        Error::InvalidArgument(what.into())
    }

    /// Whether this is [`Error::Corruption`].
    pub fn is_corruption(&self) -> bool {
        matches!(self, Error::Corruption { .. })
    }

    /// Whether this is [`Error::NoSpace`].
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }

    /// Whether this is an [`Error::Io`] of kind "not found".
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether this is [`Error::NeedsIo`].
    pub fn is_needs_io(&self) -> bool {
        matches!(self, Error::NeedsIo)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { operation, path, source } => write!(f, "{operation} {}: {source}", path.display()),
            Error::NoSpace { operation, path } => {
                write!(f, "{operation} {}: no space left on the disk", path.display())
            }
            Error::Corruption { file, offset, what } => {
                write!(f, "corruption in {} at offset {offset}: {what}", file.display())
            }
            Error::UpgradeRequired { file, what } => {
                write!(f, "{} was written by a newer version: {what}", file.display())
            }
            Error::InvalidArgument(what) => write!(f, "invalid argument: {what}"),
            Error::Locked(path) => write!(f, "{} is locked by another process", path.display()),
            Error::Poisoned(what) => write!(f, "the database refuses writes after a failure: {what}"),
            Error::Closed => f.write_str("the database is closed"),
            Error::NeedsIo => f.write_str("the answer is not in memory"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
