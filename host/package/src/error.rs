//! Errors of reading packages.

use sleap_rtc_protocol::transfer::{MAX_FILES, ManifestError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a package cannot be used. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system reports an error.
    #[error("cannot read {path:?}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a zip, or a damaged one.
    #[error("{path:?} is not a zip file that can be read: {why}; export the package again")]
    NotAZip {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The path is neither a file nor a folder.
    #[error("{path:?} is neither a file nor a folder")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file of the package is refused.
    #[error("{entry:?} in the package is refused: {why}")]
    Entry {
        /// Its path in the package.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// The content of a file is damaged.
    #[error("the file {path:?} in the package is damaged: {why}; export the package again")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file has changed since the package was opened.
    #[error("{path:?} changed while it was read; try again when nothing writes to it")]
    Changed {
        /// The file.
        path: String,
    },
    /// The package has too many files.
    #[error("the package has more than the {MAX_FILES} files that are accepted")]
    TooMany,
    /// The zip is suspected to be a zip bomb.
    #[error(
        "a zip of {zip_bytes} bytes that unpacks to {total_bytes} is refused \
         (more than 100 times its size)"
    )]
    Bomb {
        /// The zip's size.
        zip_bytes: u64,
        /// The sum of its members' sizes, in bytes.
        total_bytes: u64,
    },
    /// The files contradict each other, for example by their paths.
    #[error("the package is rejected")]
    Manifest(#[from] ManifestError),
    /// The package has no files.
    #[error("{path:?} has no files")]
    Empty {
        /// The package.
        path: PathBuf,
    },
    /// The package does not have the requested file.
    #[error("the package has no file {path:?}")]
    Missing {
        /// The requested file.
        path: String,
    },
    /// A file that must be read as a whole is too long.
    #[error("the file {path:?} has {size} bytes; at most {limit_bytes} are accepted")]
    TooLong {
        /// The file.
        path: String,
        /// Its length, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
}

impl ArchiveError {
    /// The system could not read the file at `path`.
    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// The file at `path` is not an archive that this program reads.
    pub fn no_archive(path: &Path) -> Self {
        let why = "it is neither a zip nor a tar; if it is compressed, unpack it first".to_owned();
        Self::NotAZip { path: path.to_owned(), why }
    }

    /// The same error, with `name` in place of the path of the archive at `path`.
    pub fn with_archive_name(mut self, path: &Path, name: &str) -> Self {
        if let Self::Read { path: named, .. }
        | Self::NotAZip { path: named, .. }
        | Self::Empty { path: named } = &mut self
            && named == path
        {
            *named = name.into();
        }
        self
    }
}
