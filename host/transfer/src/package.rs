//! A package: a list of files, each with its hash, and the means to read them.

use super::hashes::{FileRange, Hashes};
use super::listing::{self, Part};
use sleap_rtc_package::{ArchiveError, Listing, Member};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, Manifest};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Opens a package from a user or SLEAP: a zip or a folder, whose files may be in one enclosing
    /// folder. Fails on anything that is not acceptable.
    ///
    /// Reads and hashes everything that `hashes` does not know. Call it on a thread that may block.
    pub fn open(path: &Path, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(listing::list_package(path)?, hashes)
    }

    /// Opens a folder as it is; it may be empty. Leaves out what cannot be sent (links out of the
    /// folder, names that are not portable), so that one odd file does not cost the other results.
    /// See [`Package::left_out`].
    pub fn open_tree(folder: &Path, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(listing::list_tree(folder)?, hashes)
    }

    /// Builds a package from files of different origin.
    pub fn from_parts(parts: Vec<Part>, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Listing::new(Part::members(parts)?, Vec::new())?, hashes)
    }

    fn of(listing: Listing, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::hash(listing, hashes, &AtomicU64::new(0))
    }

    /// Reads and hashes all listed files that `hashes` does not know. `read` counts the bytes that
    /// were processed.
    ///
    /// # Errors
    /// A file cannot be read, or has changed since it was listed.
    pub fn hash(listing: Listing, hashes: &Hashes, read: &AtomicU64) -> Result<Self, ArchiveError> {
        let manifest = hash(&listing, hashes, read)?;
        let hashes = hashes.clone();
        Ok(Self { inner: Arc::new(Inner { listing, manifest, hashes }) })
    }

    /// Call it if the files differ from what was announced. They are hashed again the next time.
    pub fn distrust(&self) {
        let members = self.inner.listing.members().iter();
        self.inner.hashes.forget(members.filter_map(|member| member.source().path()));
    }

    /// The files.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Identifies the package: equal for equal files under equal names.
    pub fn digest(&self) -> BlobHash {
        let mut hasher = blake3::Hasher::new();
        for file in self.manifest().files() {
            let path = file.path.as_str();
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
            hasher.update(&file.blake3.0).update(&[u8::from(file.executable)]);
        }
        BlobHash(*hasher.finalize().as_bytes())
    }

    /// The entries of a folder that cannot be sent, each with the reason.
    pub fn left_out(&self) -> &[ArchiveError] {
        self.inner.listing.left_out()
    }

    /// The place on disk of the unpacked content of the file at `path`, if there is one.
    pub fn file_path(&self, path: &RelPath) -> Option<&Path> {
        self.inner.listing.find(path)?.file_path()
    }

    /// Whether it has a file at `path`.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.inner.listing.find(path).is_some()
    }

    /// Opens the file at `path`. Reading it to its end yields the content in the manifest, or an
    /// error.
    pub fn read(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, ArchiveError> {
        self.inner.listing.read(path)
    }

    /// Reads the file at `path` whole, if it has at most `limit_bytes`.
    pub fn read_small(&self, path: &RelPath, limit_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let member = self.inner.listing.member(path)?;
        if member.size > limit_bytes {
            let (path, size) = (path.to_string(), member.size);
            return Err(ArchiveError::TooLong { path, size, limit_bytes });
        }
        let mut bytes = Vec::new();
        match member.open()?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(member.unreadable(error)),
        }
    }

    /// The files, and where their bytes are.
    pub fn listing(&self) -> &Listing {
        &self.inner.listing
    }
}

/// Reads and hashes every member that `hashes` does not know.
fn hash(listing: &Listing, hashes: &Hashes, read: &AtomicU64) -> Result<Manifest, ArchiveError> {
    let (mut hashed, mut used) = (Vec::new(), Vec::new());
    let manifest = listing.manifest(|member| {
        let range = range(member);
        let known = range.as_ref().and_then(|range| hashes.find(range, member.size));
        if let (Some(known), Some(range)) = (known, &range) {
            read.fetch_add(member.size, Ordering::Relaxed);
            used.push(range.clone());
            return Ok(known);
        }
        let settled = range.filter(|range| hashes.is_settled(range));
        let found = member.cut(read)?;
        let same = settled.filter(|before| self::range(member).as_ref() == Some(before));
        hashed.extend(same.map(|range| (range, found.clone())));
        Ok(found)
    });
    hashes.note(&hashed, &used);
    manifest
}

/// Where the bytes of `member` are, if that is on disk.
fn range(member: &Member) -> Option<FileRange> {
    let (path, there) = (member.source().path()?, member.source().metadata()?);
    if member.file_path().is_some() && there.len() != member.size {
        return None;
    }
    Some(FileRange::new(path, member.offset(), &there))
}
