//! Why a file cannot be stored.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The path leads out of its root, through a symbolic link.
    #[error("{path:?} is rejected: a symbolic link leads out of {root:?}")]
    Leaves {
        /// The requested path.
        path: String,
        /// The folder that it must stay in.
        root: PathBuf,
    },
    /// The place of a folder or file is occupied.
    #[error("cannot write {path:?}: {what} is in the way")]
    InTheWay {
        /// The occupied place.
        path: PathBuf,
        /// What occupies it.
        what: &'static str,
    },
    /// The disk is too full.
    #[error(
        "the disk of {folder:?} is too full: {needed_bytes} bytes are needed, \
         {available_bytes} are free; make room for {} more",
        .needed_bytes - .available_bytes
    )]
    NoSpace {
        /// The destination.
        folder: PathBuf,
        /// The size of the files.
        needed_bytes: u64,
        /// The free space.
        available_bytes: u64,
    },
    /// The file system has no inodes left.
    #[error(
        "no more files can be created in {folder:?}: its file system has no inodes left (`df -i` shows \
         them), and {needed_bytes} bytes are still needed; remove files there"
    )]
    NoFiles {
        /// The destination.
        folder: PathBuf,
        /// What is still to be written.
        needed_bytes: u64,
    },
    /// The user's quota is used up; the system does not say how large it is.
    #[error(
        "the disk quota in {folder:?}, of bytes or of files, is used up, and {needed_bytes} bytes are \
         still needed: remove files there, or have the quota raised"
    )]
    Quota {
        /// The destination.
        folder: PathBuf,
        /// What is still to be written.
        needed_bytes: u64,
    },
    /// The system reports an error.
    #[error("cannot {action} {path:?}")]
    Io {
        /// The operation, in words.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StorageError {
    /// Whether a disk is full, or a quota used up.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoSpace { .. } | Self::NoFiles { .. } | Self::Quota { .. } => true,
            Self::Io { source, .. } => sleap_rtc_base::disk::is_full(source),
            Self::Leaves { .. } | Self::InTheWay { .. } => false,
        }
    }
}

/// Adds the operation and the path to an error of the system.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { action, path, source }
}
