//! A package: a list of files, each with its hash, and the means to read them.

use super::hashes::{Hashed, Hashes, Place};
use super::{pieces, tree, zipped};
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, Cuts, FileEntry, MAX_FILES, Manifest, ManifestError};
use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most files that a package may have.
pub(super) const MAX_MEMBERS: usize = MAX_FILES;
/// How much is read at once.
pub(super) const READ_BYTES: usize = 128 * 1024;

/// Why a package cannot be used. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system said no.
    #[error("cannot read {path:?}: {cause}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Not a zip at all, or a damaged one.
    #[error("{path:?} is not a zip file that can be read: {why}; export the package again")]
    NotAZip {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
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
    #[error("the package is refused: {0}")]
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
    pub(super) fn read(path: &Path, cause: io::Error) -> Self {
        Self::Read { path: path.to_owned(), cause }
    }
}

/// What systems leave in archives and folders, and nobody means to send.
pub(super) fn is_litter(name: &str) -> bool {
    name.split('/').any(|part| part == "__MACOSX" || part == ".DS_Store")
}

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
    fn entry(&self, blake3: BlobHash) -> FileEntry {
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

/// A list of files and where their bytes are, checked but not hashed.
#[derive(Debug)]
pub(super) struct Source {
    members: Vec<Member>,
    zip: Option<(PathBuf, Arc<File>)>,
    left_out: Vec<ArchiveError>,
}

impl Source {
    /// A zip, or a folder in which everything must be acceptable. The folder around a job's script
    /// is stripped.
    pub(super) fn package(path: &Path) -> Result<Self, ArchiveError> {
        let there = fs::metadata(path).map_err(|cause| ArchiveError::read(path, cause))?;
        let mut source = if there.is_dir() {
            let tree = tree::walk(path)?;
            if let Some(refused) = tree.left_out.into_iter().next() {
                return Err(refused);
            }
            Self { members: tree.members, zip: None, left_out: Vec::new() }
        } else {
            let (file, members) = zipped::list(path)?;
            Self { members, zip: Some((path.to_owned(), file)), left_out: Vec::new() }
        };
        if source.members.is_empty() {
            return Err(ArchiveError::Empty { path: path.to_owned() });
        }
        source.strip_top_folder();
        source.checked()
    }

    /// The files of a folder; what is not acceptable is left out.
    pub(super) fn tree(folder: &Path) -> Result<Self, ArchiveError> {
        let tree = tree::walk(folder)?;
        for error in &tree.left_out {
            tracing::warn!(folder = %folder.display(), %error, "left out");
        }
        Self { members: tree.members, zip: None, left_out: tree.left_out }.checked()
    }

    fn parts(parts: Vec<Part>) -> Result<Self, ArchiveError> {
        let members: Result<_, _> = parts.into_iter().map(Part::member).collect();
        Self { members: members?, zip: None, left_out: Vec::new() }.checked()
    }

    fn checked(self) -> Result<Self, ArchiveError> {
        let unknown: Vec<_> =
            self.members.iter().map(|member| member.entry(BlobHash([0; 32]))).collect();
        Manifest::check_files(&unknown, u64::MAX)?;
        Ok(self)
    }

    /// Old tools put a package's files in a folder; newer ones do not.
    fn strip_top_folder(&mut self) {
        let Some((top, _)) = self.members[0].path.as_str().split_once('/') else { return };
        let top = format!("{top}/");
        let inner = |member: &Member| member.path.as_str().strip_prefix(&top).map(str::to_owned);
        let Some(paths) = self.members.iter().map(inner).collect::<Option<Vec<_>>>() else {
            return;
        };
        let scripts = [JobType::Training.script_name(), JobType::Inference.script_name()];
        if !paths.iter().any(|path| scripts.contains(&path.as_str())) {
            return;
        }
        for (member, path) in self.members.iter_mut().zip(paths) {
            // The end of a checked path is a checked path.
            if let Ok(path) = RelPath::new(path) {
                member.path = path;
            }
        }
    }

    /// Reads every member once, but for those of which `hashes` knows.
    fn manifest(&self, hashes: &Hashes) -> Result<Manifest, ArchiveError> {
        let (mut files, mut cuts) = (Vec::with_capacity(self.members.len()), Cuts::new());
        let (mut hashed, mut used) = (Vec::new(), Vec::new());
        for member in &self.members {
            let place = self.place(member);
            let known = place.as_ref().and_then(|place| hashes.find(place, member.size));
            let (blake3, pieces) = match (known, place) {
                (Some(known), Some(place)) => {
                    used.push(place);
                    known
                }
                (_, place) => {
                    let place = place.filter(|place| hashes.is_settled(place));
                    let found = self.cut(member)?;
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
    fn place(&self, member: &Member) -> Option<Place> {
        match (&member.content, &self.zip) {
            (Content::File(path), _) => {
                let there = fs::metadata(path).ok().filter(|there| there.len() == member.size)?;
                Some(Place::new(path, 0, &there))
            }
            (Content::Zip(content), Some((path, file))) => {
                Some(Place::new(path, content.start(), &file.metadata().ok()?))
            }
            _ => None,
        }
    }

    fn cut(&self, member: &Member) -> Result<Hashed, ArchiveError> {
        let reader = self.open(member)?;
        pieces::cut(reader, member.size).map_err(|error| self.unreadable(member, error))
    }

    /// The files on disk in which the members are.
    fn on_disk(&self) -> impl Iterator<Item = &Path> {
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
    pub(super) fn announced_bytes(&self) -> u64 {
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
            _ => ArchiveError::Read { path: member.path.as_str().into(), cause: error },
        }
    }

    fn missing(&self, path: &RelPath) -> ArchiveError {
        ArchiveError::Missing { path: path.to_string() }
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

    fn member(self) -> Result<Member, ArchiveError> {
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
    source: Source,
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
        Self::of(Source::package(path)?, hashes)
    }

    /// Opens a folder as it is; it may be empty. What cannot be sent (links that lead out of it,
    /// names that are not portable) is left out, see [`Package::left_out`]: results must not be
    /// lost because of one odd file.
    pub fn open_tree(folder: &Path, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Source::tree(folder)?, hashes)
    }

    /// Puts a package together from files of different origin.
    pub fn from_parts(parts: Vec<Part>, hashes: &Hashes) -> Result<Self, ArchiveError> {
        Self::of(Source::parts(parts)?, hashes)
    }

    fn of(source: Source, hashes: &Hashes) -> Result<Self, ArchiveError> {
        let manifest = source.manifest(hashes)?;
        let hashes = hashes.clone();
        Ok(Self { inner: Arc::new(Inner { source, manifest, hashes }) })
    }

    /// Its files could not be sent as they were announced: the next time they are hashed anew.
    pub fn distrust(&self) {
        self.inner.hashes.forget(self.inner.source.on_disk());
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
        &self.inner.source.left_out
    }

    /// Where the content of the file at `path` lies on disk as it is, if it does.
    pub fn file_path(&self, path: &RelPath) -> Option<&Path> {
        match &self.member(path).ok()?.content {
            Content::File(file) => Some(file),
            _ => None,
        }
    }

    /// Whether it has a file at `path`.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.member(path).is_ok()
    }

    /// Opens the file at `path`. Reading it to its end yields what the manifest says, or an error.
    pub fn read(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, ArchiveError> {
        self.inner.source.open(self.member(path)?)
    }

    /// Reads the file at `path` whole, if it has at most `limit_bytes`.
    pub fn read_small(&self, path: &RelPath, limit_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let member = self.member(path)?;
        if member.size > limit_bytes {
            let (path, size) = (path.to_string(), member.size);
            return Err(ArchiveError::TooLong { path, size, limit_bytes });
        }
        let mut bytes = Vec::new();
        match self.inner.source.open(member)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.inner.source.unreadable(member, error)),
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.inner.source
    }

    fn member(&self, path: &RelPath) -> Result<&Member, ArchiveError> {
        let source = &self.inner.source;
        let found = source.members.iter().find(|member| member.path == *path);
        found.ok_or_else(|| source.missing(path))
    }
}
