//! Everything that can go wrong with a disk, told apart by what somebody has to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a storage operation failed. Only [`StorageError::DiskFull`] passes by itself when there is space again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No space. The same batch or checkpoint may be tried again later; nothing is lost.
    #[error("no space left on the disk of {path}; free space there, or grow the volume")]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{path} is in use by process {pid}; stop that process, or use another directory")]
    Locked {
        /// The directory or file.
        path: PathBuf,
        /// The other process, or a question mark.
        pid: String,
    },
    /// Written by a newer program.
    #[error("{path} has format {found}, and this program knows formats up to {known}; use the newer program")]
    NewerFormat {
        /// The directory or file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// What is on the disk is not what was written. It is never served and never replicated.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong, and where there is one, the way out.
        what: String,
    },
    /// Not writable.
    #[error("{path} is not writable; give this process write access to it")]
    ReadOnly {
        /// The directory or file.
        path: PathBuf,
    },
    /// It should not exist, and does.
    #[error("{path} already exists")]
    Exists {
        /// The directory or file.
        path: PathBuf,
    },
    /// It should exist, and does not.
    #[error("{path} does not exist")]
    Missing {
        /// The directory or file.
        path: PathBuf,
    },
    /// There is a file where a directory has to be.
    #[error("{path} is a file, and a directory has to be there; give another one with --data, or move the file away")]
    NotADirectory {
        /// The directory that cannot be.
        path: PathBuf,
    },
    /// The caller broke a rule of this module; nothing was done.
    #[error("storage was used wrongly: {0}")]
    Misused(String),
    /// Any other failure. After one while writing, the store takes no more writes.
    #[error("{action} {path} failed: {reason}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What was tried: "opening", "writing" and so on.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl StorageError {
    /// Whether the same call can succeed later, when there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// From a failed file operation.
    pub(super) fn io(path: &Path, action: &'static str, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::InvalidData => Self::Damaged { path, what: error.to_string() },
            io::ErrorKind::UnexpectedEof => Self::Damaged { path, what: "it ends too early".to_owned() },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { path },
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotADirectory { path },
            io::ErrorKind::WouldBlock => Self::Locked { path, pid: "?".to_owned() },
            _ => Self::Io { path, action, reason: error.to_string() },
        }
    }

    /// From a failed redb operation.
    pub(super) fn redb(path: &Path, action: &'static str, error: redb::Error) -> Self {
        let path_owned = path.to_owned();
        match error {
            redb::Error::Io(error) => Self::io(path, action, &error),
            redb::Error::DatabaseAlreadyOpen => Self::Locked { path: path_owned, pid: "?".to_owned() },
            error @ (redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Damaged { path: path_owned, what: error.to_string() },
            error => Self::Io { path: path_owned, action, reason: error.to_string() },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}
