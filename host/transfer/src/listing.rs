//! What a package consists of, before it is read: its files, and where their bytes are.

use super::archive::{ArchiveError, Part};
use super::hashes::{FileRange, Hashed, Hashes};
use super::{pieces, tarred, tree, zipped};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, Cuts, FileEntry, Manifest};
use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// One file of a source.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) path: RelPath,
    /// As announced; reading yields so many bytes or an error.
    pub(super) size: u64,
    pub(super) executable: bool,
    pub(super) content: Content,
}

impl Member {
    pub(super) fn entry(&self, blake3: BlobHash) -> FileEntry {
        let (path, size, executable) = (self.path.clone(), self.size, self.executable);
        FileEntry { path, size, blake3, executable }
    }
}

/// Where a member's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Content {
    File(PathBuf),
    Zip(zipped::ZipContent),
    Bytes(Arc<[u8]>),
}

/// A list of files and where their bytes are: checked, but neither read nor hashed.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) members: Vec<Member>,
    zip: Option<(PathBuf, Arc<File>)>,
    pub(super) left_out: Vec<ArchiveError>,
    /// What an archive that cannot be read at any place was unpacked to.
    _unpacked: Option<TempDir>,
}

impl Listing {
    /// Lists a package that a user or SLEAP made: an archive or a folder. Of folders, what cannot be
    /// sent is left out, and of both what is not below the folder with the job's script.
    ///
    /// # Errors
    /// Whatever is not acceptable in an archive, and whatever makes the whole unusable.
    pub fn package(path: &Path) -> Result<Self, ArchiveError> {
        let there = fs::metadata(path).map_err(|cause| ArchiveError::read(path, cause))?;
        let mut listing = if there.is_dir() {
            let tree = tree::walk(path)?;
            Self { members: tree.members, left_out: tree.left_out, ..Self::default() }
        } else if !there.is_file() {
            return Err(ArchiveError::NotAFile { path: path.to_owned() });
        } else if tarred::is_tar(path).map_err(|cause| ArchiveError::read(path, cause))? {
            let folder = tarred::unpack(path)?;
            let tree = tree::walk(folder.path())?;
            Self { members: tree.members, _unpacked: Some(folder), ..Self::default() }
        } else {
            let (file, members) = zipped::list(path)?;
            Self { members, zip: Some((path.to_owned(), file)), ..Self::default() }
        };
        if listing.members.is_empty() {
            return Err(ArchiveError::Empty { path: path.to_owned() });
        }
        listing.strip_top_folder();
        listing.checked()
    }

    /// The files of a folder; what is not acceptable is left out.
    pub(super) fn tree(folder: &Path) -> Result<Self, ArchiveError> {
        let tree = tree::walk(folder)?;
        for error in &tree.left_out {
            tracing::warn!(folder = %folder.display(), %error, "left out");
        }
        Self { members: tree.members, left_out: tree.left_out, ..Self::default() }.checked()
    }

    /// Lists files of different origin.
    ///
    /// # Errors
    /// Files that cannot be read, or do not fit together.
    pub fn parts(parts: Vec<Part>) -> Result<Self, ArchiveError> {
        let members: Result<_, _> = parts.into_iter().map(Part::member).collect();
        Self { members: members?, ..Self::default() }.checked()
    }

    fn checked(self) -> Result<Self, ArchiveError> {
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), ArchiveError> {
        let unknown: Vec<_> =
            self.members.iter().map(|member| member.entry(BlobHash([0; 32]))).collect();
        Manifest::check_files(&unknown, u64::MAX)?;
        Ok(())
    }

    /// Old tools put a package's files in a folder, and people put notes beside it: what is below
    /// the one folder with a script is the package.
    fn strip_top_folder(&mut self) {
        let scripts = [JobType::Training.script_name(), JobType::Inference.script_name()];
        let is_script = |path: &str| scripts.contains(&path);
        let paths = || self.members.iter().map(|member| member.path.as_str());
        if paths().any(is_script) {
            return;
        }
        let tops = paths().filter_map(|path| path.split_once('/'));
        let mut tops: Vec<&str> =
            tops.filter(|(_, rest)| is_script(rest)).map(|(top, _)| top).collect();
        tops.dedup();
        let [top] = tops[..] else { return };
        let top = format!("{top}/");
        self.members.retain_mut(|member| {
            let inner = member.path.as_str().strip_prefix(&top).map(str::to_owned);
            // The end of a checked path is a checked path.
            match inner.and_then(|path| RelPath::new(path).ok()) {
                Some(path) => {
                    member.path = path;
                    true
                }
                None => false,
            }
        });
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.members.iter().map(|member| &member.path)
    }

    /// Adds files.
    ///
    /// # Errors
    /// Files that cannot be read, or do not fit to those that are there.
    pub fn add(&mut self, parts: Vec<Part>) -> Result<(), ArchiveError> {
        for part in parts {
            self.members.push(part.member()?);
        }
        self.check()
    }

    /// Leaves out the files that are not wanted.
    pub fn keep(&mut self, wanted: impl Fn(&RelPath) -> bool) {
        self.members.retain(|member| wanted(&member.path));
    }

    /// What a folder had that cannot be sent, each with the reason.
    pub fn left_out(&self) -> &[ArchiveError] {
        &self.left_out
    }

    /// How long the file at `path` is, if there is one.
    pub fn size(&self, path: &RelPath) -> Option<u64> {
        Some(self.member(path).ok()?.size)
    }

    /// Where the content of the file at `path` lies on disk as it is, if it does.
    pub fn file_path(&self, path: &RelPath) -> Option<&Path> {
        match &self.member(path).ok()?.content {
            Content::File(file) => Some(file),
            _ => None,
        }
    }

    /// Opens the file at `path`.
    ///
    /// # Errors
    /// Where there is none, or it cannot be opened.
    pub fn read(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, ArchiveError> {
        self.open(self.member(path)?)
    }

    pub(super) fn member(&self, path: &RelPath) -> Result<&Member, ArchiveError> {
        let found = self.members.iter().find(|member| member.path == *path);
        found.ok_or_else(|| self.missing(path))
    }

    /// Reads every member once, but for those of which `hashes` knows.
    pub(super) fn manifest(
        &self,
        hashes: &Hashes,
        read: &AtomicU64,
    ) -> Result<Manifest, ArchiveError> {
        let (mut files, mut cuts) = (Vec::with_capacity(self.members.len()), Cuts::new());
        let (mut hashed, mut used) = (Vec::new(), Vec::new());
        for member in &self.members {
            let place = self.place(member);
            let known = place.as_ref().and_then(|place| hashes.find(place, member.size));
            let (blake3, pieces) = match (known, place) {
                (Some(known), Some(place)) => {
                    read.fetch_add(member.size, Ordering::Relaxed);
                    used.push(place);
                    known
                }
                (_, place) => {
                    let place = place.filter(|place| hashes.is_settled(place));
                    let found = self.cut(member, read)?;
                    let same = place.filter(|place| self.place(member).as_ref() == Some(place));
                    hashed.extend(same.map(|place| (place, found.clone())));
                    found
                }
            };
            if !pieces.is_empty() {
                cuts.insert(blake3, pieces);
            }
            files.push(member.entry(blake3));
        }
        hashes.note(&hashed, &used);
        Ok(Manifest::new(files, cuts, u64::MAX)?)
    }

    /// Where the bytes of `member` are, if that is on disk.
    fn place(&self, member: &Member) -> Option<FileRange> {
        match (&member.content, &self.zip) {
            (Content::File(path), _) => {
                let there = fs::metadata(path).ok().filter(|there| there.len() == member.size)?;
                Some(FileRange::new(path, 0, &there))
            }
            (Content::Zip(content), Some((path, file))) => {
                Some(FileRange::new(path, content.start(), &file.metadata().ok()?))
            }
            _ => None,
        }
    }

    fn cut(&self, member: &Member, read: &AtomicU64) -> Result<Hashed, ArchiveError> {
        let reader = Counted { inner: self.open(member)?, read };
        pieces::cut(reader, member.size).map_err(|error| self.unreadable(member, error))
    }

    /// The files on disk in which the members are.
    pub(super) fn on_disk(&self) -> impl Iterator<Item = &Path> {
        let files = self.members.iter().filter_map(|member| match &member.content {
            Content::File(path) => Some(path.as_path()),
            _ => None,
        });
        files.chain(self.zip.iter().map(|(path, _)| path.as_path()))
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// What the members add up to.
    pub fn announced_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }

    /// Opens a member. Reading it to its end yields what was announced, or an error.
    pub(super) fn open(&self, member: &Member) -> Result<Box<dyn Read + Send>, ArchiveError> {
        Ok(match (&member.content, &self.zip) {
            (Content::Zip(content), Some((_, file))) => zipped::open(file, content),
            (Content::Bytes(bytes), _) => Box::new(Cursor::new(bytes.clone())),
            (Content::File(path), _) => {
                let file = File::open(path).map_err(|cause| ArchiveError::read(path, cause))?;
                Box::new(Exactly { inner: file, left: member.size })
            }
            (Content::Zip(_), None) => return Err(self.missing(&member.path)),
        })
    }

    /// What an error while reading `member` means.
    pub(super) fn unreadable(&self, member: &Member, error: io::Error) -> ArchiveError {
        let path = member.path.to_string();
        match (&member.content, error.kind()) {
            (Content::File(_), ErrorKind::InvalidData) => ArchiveError::Changed { path },
            (
                Content::Zip(_),
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof,
            ) => ArchiveError::Damaged { path, why: error.to_string() },
            _ => ArchiveError::Read { path: member.path.as_str().into(), source: error },
        }
    }

    fn missing(&self, path: &RelPath) -> ArchiveError {
        ArchiveError::Missing { path: path.to_string() }
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    read: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Yields so many bytes or fails: a file that grew or shrank is not the file that was listed.
struct Exactly {
    inner: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let left = self.left.checked_sub(length as u64).ok_or(ErrorKind::InvalidData)?;
        if length == 0 && left > 0 && !buffer.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        self.left = left;
        Ok(length)
    }
}
