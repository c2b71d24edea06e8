//! What ends local mode.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why local mode cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The manifest is not valid; it was said why.
    #[error("manifest {} is refused:\n{faults}", file.display())]
    InvalidManifest {
        /// The file.
        file: PathBuf,
        /// Everything that is wrong.
        faults: crate::controller::validate::Faults,
    },
    /// Another supervisor runs on the same data.
    #[error(
        "data directory {} is in use by process {pid}; stop that one first, or give another directory with --data",
        directory.display()
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// Process id of the holder.
        pid: String,
    },
    /// The directory was made for another resource.
    #[error(
        "data directory {} belongs to {found:?}, the manifest names {wanted:?}; give another directory with --data",
        directory.display()
    )]
    OtherCluster {
        /// The data directory.
        directory: PathBuf,
        /// `metadata.name` that it was made for.
        found: String,
        /// `metadata.name` of the manifest.
        wanted: String,
    },
    /// The directory holds something else.
    #[error(
        "data directory {} is not empty and holds no local.json; give a new or empty directory with --data",
        directory.display()
    )]
    ForeignDirectory {
        /// The data directory.
        directory: PathBuf,
    },
    /// The record cannot be read.
    #[error("{} cannot be read: {reason}; repair it, or give another directory with --data", path.display())]
    BrokenRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A place where this user may not write, or that is no directory.
    #[error("cannot {action} {}: {reason}; give a directory that this user may write to with --data", path.display())]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        reason: std::io::Error,
    },
    /// Ports that were asked for are taken.
    #[error("{0}")]
    Ports(#[from] super::ports::PortFault),
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something that every process needs is not there.
    #[error("cannot {action}: {reason}")]
    Setup {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        reason: String,
    },
}

impl LocalError {
    pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists => Self::Unusable { action, path, reason: source },
            _ => Self::Io { action, path, source },
        }
    }

    pub(super) fn setup(action: &'static str, reason: impl ToString) -> Self {
        Self::Setup { action, reason: reason.to_string() }
    }

    /// The exit code that tells wrong usage from failure.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::InvalidManifest { .. } | Self::OtherCluster { .. } | Self::ForeignDirectory { .. } => {
                crate::args::EXIT_USAGE
            }
            _ => crate::args::EXIT_FAILED,
        })
    }
}
