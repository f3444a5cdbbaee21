//! A package: a list of files, each with its hash, and the means to read them.

use super::hashes::Hashes;
use super::listing::{Content, Listing, Member};
use super::tree;
use sleap_rtc_protocol::path::{PathError, RelPath};
use sleap_rtc_protocol::transfer::{BlobHash, MAX_FILES, Manifest, ManifestError};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use unicode_normalization::UnicodeNormalization;

/// The most files that a package may have.
pub(super) const MAX_MEMBERS: usize = MAX_FILES;
/// How much is read at once.
pub(super) const READ_BYTES: usize = 128 * 1024;

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
    #[error("the package has more than the {MAX_MEMBERS} files that are accepted")]
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
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// The same error with `name` in place of the path of the archive at `path`.
    pub(super) fn with_archive_name(mut self, path: &Path, name: &str) -> Self {
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

/// `name` as a path whose letters are composed, which is how scripts and configs write them.
pub(super) fn composed(name: &str) -> Result<RelPath, PathError> {
    RelPath::new(name.nfc().collect::<String>())
}

/// Whether a file is metadata that an operating system adds to archives and folders.
pub(super) fn is_os_junk(name: &str) -> bool {
    name.split('/').any(|part| part == "__MACOSX" || part == ".DS_Store")
}

/// A file that becomes part of a package.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its place in the package.
    pub path: RelPath,
    /// Its content.
    pub source: PartSource,
}

/// Where a part's content is.
#[derive(Debug, Clone)]
pub enum PartSource {
    /// On disk. A symbolic link is followed: whoever named it meant what it leads to.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

impl Part {
    /// All files of `folder`, for a place `below` in the package. Fails on anything that cannot be
    /// sent.
    pub fn folder(below: &RelPath, folder: &Path) -> Result<Vec<Self>, ArchiveError> {
        let tree = tree::walk(folder)?;
        if let Some(refused) = tree.left_out.into_iter().next() {
            return Err(refused);
        }
        let part = |member: Member| {
            let entry = format!("{below}/{}", member.path);
            let refused = |error: sleap_rtc_protocol::path::PathError| ArchiveError::Entry {
                entry: entry.clone(),
                why: error.to_string(),
            };
            let path = RelPath::new(entry.clone()).map_err(refused)?;
            let Content::File(file) = member.content else {
                return Err(ArchiveError::Missing { path: entry });
            };
            Ok(Self { path, source: PartSource::File(file) })
        };
        tree.members.into_iter().map(part).collect()
    }

    pub(super) fn member(self) -> Result<Member, ArchiveError> {
        match self.source {
            PartSource::File(file) => {
                let there =
                    fs::metadata(&file).map_err(|cause| ArchiveError::read(&file, cause))?;
                if !there.is_file() {
                    let why = format!("{} is not a file", file.display());
                    return Err(ArchiveError::Entry { entry: self.path.to_string(), why });
                }
                Ok(tree::member(self.path, file, &there))
            }
            PartSource::Bytes(bytes) => Ok(Member {
                path: self.path,
                size: bytes.len() as u64,
                executable: false,
                content: Content::Bytes(bytes.into()),
            }),
        }
    }
}

/// Files that can be sent: listed, checked and hashed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Package {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    listing: Listing,
    manifest: Manifest,
    hashes: Hashes,
}

impl Package {
    /// Opens a package that a user or SLEAP made: a zip, or a folder with the same files, either of
    /// them with or without one folder around them. Whatever is not acceptable in it is an error.
    ///
    /// Reads everything once, to hash it, but for what `hashes` knows: call it on a thread that may
    /// block.
    pub fn open(path: &Path, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Listing::package(path)?, hashes)
    }

    /// Opens a folder as it is; it may be empty. What cannot be sent (links that lead out of it,
    /// names that are not portable) is left out, see [`Package::left_out`]: results must not be
    /// lost because of one odd file.
    pub fn open_tree(folder: &Path, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Listing::tree(folder)?, hashes)
    }

    /// Puts a package together from files of different origin.
    pub fn from_parts(parts: Vec<Part>, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Listing::parts(parts)?, hashes)
    }

    fn of(listing: Listing, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::hash(listing, hashes, &AtomicU64::new(0))
    }

    /// Reads everything that is listed once, to hash it, but for what `hashes` knows. `read` counts
    /// the bytes that are behind it.
    ///
    /// # Errors
    /// Files that cannot be read, or are not what was listed.
    pub fn hash(listing: Listing, hashes: &Hashes, read: &AtomicU64) -> Result<Self, ArchiveError> {
        let manifest = listing.manifest(hashes, read)?;
        let hashes = hashes.clone();
        Ok(Self { inner: Arc::new(Inner { listing, manifest, hashes }) })
    }

    /// Its files could not be sent as they were announced: the next time they are hashed anew.
    pub fn distrust(&self) {
        self.inner.hashes.forget(self.inner.listing.on_disk());
    }

    /// The files.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// What tells it from any other package: equal for equal files under equal names.
    pub fn digest(&self) -> BlobHash {
        let mut hasher = blake3::Hasher::new();
        for file in self.manifest().files() {
            let path = file.path.as_str();
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
            hasher.update(&file.blake3.0).update(&[u8::from(file.executable)]);
        }
        BlobHash(*hasher.finalize().as_bytes())
    }

    /// What a tree had that cannot be sent, each with the reason.
    pub fn left_out(&self) -> &[ArchiveError] {
        &self.inner.listing.left_out
    }

    /// Where the content of the file at `path` lies on disk as it is, if it does.
    pub fn file_path(&self, path: &RelPath) -> Option<&Path> {
        self.inner.listing.file_path(path)
    }

    /// Whether it has a file at `path`.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.inner.listing.size(path).is_some()
    }

    /// Opens the file at `path`. Reading it to its end yields what the manifest says, or an error.
    pub fn read(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, ArchiveError> {
        self.inner.listing.read(path)
    }

    /// Reads the file at `path` whole, if it has at most `limit_bytes`.
    pub fn read_small(&self, path: &RelPath, limit_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let listing = &self.inner.listing;
        let member = listing.member(path)?;
        if member.size > limit_bytes {
            let (path, size) = (path.to_string(), member.size);
            return Err(ArchiveError::TooLong { path, size, limit_bytes });
        }
        let mut bytes = Vec::new();
        match listing.open(member)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(listing.unreadable(member, error)),
        }
    }

    /// What it was hashed from.
    pub fn listing(&self) -> &Listing {
        &self.inner.listing
    }
}
