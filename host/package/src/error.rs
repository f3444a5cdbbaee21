//! Why a package cannot be read.

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
    /// Not a zip at all, or a damaged one.
    #[error("{path:?} is not a zip file that can be read: {why}; export the package again")]
    NotAZip {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Neither a file nor a folder.
    #[error("{path:?} is neither a file nor a folder")]
    NotAFile {
        /// What was opened.
        path: PathBuf,
    },
    /// One of its entries is not acceptable.
    #[error("the entry {entry:?} is refused: {why}")]
    Entry {
        /// As it is called there.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// The content of a file is damaged.
    #[error("the file {path:?} in the package is damaged: {why}; export the package again")]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not what it was when the package was opened.
    #[error("{path:?} changed while it was read; try again when nothing writes to it")]
    Changed {
        /// Which.
        path: String,
    },
    /// Too many files.
    #[error("the package has more than the {MAX_FILES} files that are accepted")]
    TooMany,
    /// A zip bomb.
    #[error(
        "a zip of {zip_bytes} bytes that unpacks to {total_bytes} is refused \
         (more than 100 times its size)"
    )]
    Bomb {
        /// The zip's size.
        zip_bytes: u64,
        /// What its members add up to.
        total_bytes: u64,
    },
    /// The files do not fit together.
    #[error("the package is rejected")]
    Manifest(#[from] ManifestError),
    /// There is nothing in it.
    #[error("{path:?} has no files")]
    Empty {
        /// What was opened.
        path: PathBuf,
    },
    /// There is no such file in it.
    #[error("the package has no file {path:?}")]
    Missing {
        /// What was asked for.
        path: String,
    },
    /// A file that is read at once is too long.
    #[error("the file {path:?} has {size} bytes; at most {limit_bytes} are accepted")]
    TooLong {
        /// Which.
        path: String,
        /// Its length.
        size: u64,
        /// What is accepted.
        limit_bytes: u64,
    },
}

impl ArchiveError {
    /// The system could not read the file at `path`.
    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// The same error with `name` in place of the path of the archive at `path`.
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
