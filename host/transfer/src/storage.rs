//! Paths that stay below their root, and files that appear whole or not at all.
//!
//! A [`RelPath`] cannot leave a folder by its name; symbolic links on disk still could. Here no
//! link is ever followed out of the root, and none is written through.

use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{FileEntry, Manifest, Piece};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::listing::{Content, Listing, Member};
use super::{TransferError, archive, pieces};

/// The hidden folder, within the destination, for files that are not whole yet.
pub(super) const PARTIAL: &str = ".sleap-rtc-partial";
/// From this size on, in bytes, a file is on disk before it gets its name. Small files are many,
/// and quick to send again.
const SYNC_BYTES: u64 = 8 << 20;

/// Files up to this size, in bytes, are copied even where larger ones are linked: scripts and
/// settings, which must stay what they were when they were checked.
const LINK_BYTES: u64 = 1 << 20;

/// Why something cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The path leads out of its root, through a symbolic link.
    #[error("{path:?} is refused: a symbolic link leads out of {root:?}")]
    Leaves {
        /// As it was asked for.
        path: String,
        /// What it must stay in.
        root: PathBuf,
    },
    /// Something else is where a folder or file should go.
    #[error("{path:?} cannot be written: {what} is in the way")]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The disk is too full.
    #[error(
        "the disk of {folder:?} is too full: {needed_bytes} bytes are needed, \
         {available_bytes} are free; make room for {} more",
        .needed_bytes - .available_bytes
    )]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// What the files need.
        needed_bytes: u64,
        /// What is there.
        available_bytes: u64,
    },
    /// The system said no.
    #[error("cannot {action} {path:?}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Makes a closure that names what failed.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |cause| StorageError::Io { action, path, cause }
}

/// The place of `rel` below `root`, which must exist. Links on the way are followed as long as they
/// stay within `root`; what does not exist yet is appended as it is.
pub fn confined(root: &Path, rel: &RelPath) -> Result<PathBuf, StorageError> {
    let root = root.canonicalize().map_err(failed("find", root))?;
    let mut place = root.clone();
    let mut parts = rel.as_str().split('/');
    for part in parts.by_ref() {
        place.push(part);
        match place.symlink_metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(failed("look at", &place)(error)),
        }
        // A link to nothing fails here: what it will lead to is not known.
        place = place.canonicalize().map_err(failed("find", &place))?;
        if !place.starts_with(&root) {
            return Err(StorageError::Leaves { path: rel.to_string(), root });
        }
    }
    place.extend(parts);
    Ok(place)
}

/// Creates `folder` and what is missing above it.
pub(super) fn create_folder(folder: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(folder).map_err(failed("create the folder", folder))
}

/// Creates the folders of `rel` below `root` one by one, and returns the place of `rel` itself.
/// Links are refused, wherever they lead.
fn create_parents(root: &Path, rel: &RelPath) -> Result<PathBuf, StorageError> {
    let place = rel.below(root);
    let folders = rel.as_str().matches('/').count();
    let mut folder = root.to_owned();
    for part in rel.as_str().split('/').take(folders) {
        folder.push(part);
        match fs::create_dir(&folder) {
            Ok(()) => continue,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create the folder", &folder)(error)),
        }
        let there = folder.symlink_metadata().map_err(failed("look at", &folder))?;
        if !there.is_dir() {
            let what = if there.is_symlink() { "a symbolic link" } else { "a file" };
            return Err(StorageError::InTheWay { path: folder, what });
        }
    }
    Ok(place)
}

/// Fails when the disk below `folder` has less than `needed_bytes` free.
pub(super) fn check_space(folder: &Path, needed_bytes: u64) -> Result<(), StorageError> {
    let available_bytes = available_bytes(folder)?;
    if needed_bytes > available_bytes {
        let folder = folder.to_owned();
        return Err(StorageError::NoSpace { folder, needed_bytes, available_bytes });
    }
    Ok(())
}

/// The error of a disk that has run full when `needed_bytes` were still to come.
pub fn full(folder: &Path, needed_bytes: u64) -> StorageError {
    match available_bytes(folder) {
        Ok(available_bytes) => {
            let available_bytes = available_bytes.min(needed_bytes);
            StorageError::NoSpace { folder: folder.to_owned(), needed_bytes, available_bytes }
        }
        Err(error) => error,
    }
}

fn available_bytes(folder: &Path) -> Result<u64, StorageError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| failed("ask for the free space of", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A destination that is being filled: files are written in a hidden folder and renamed into their
/// place.
#[derive(Debug)]
pub(super) struct Filling {
    root: PathBuf,
    partial: PathBuf,
    is_kept: bool,
}

impl Filling {
    /// Prepares `root`, creating it where it is missing. What an earlier try left half done goes,
    /// and the hidden folder goes when this does.
    pub(super) fn new(root: &Path) -> Result<Self, StorageError> {
        let mut filling = Self::resume(root)?;
        fs::remove_dir_all(&filling.partial).map_err(failed("remove", &filling.partial))?;
        filling.create()?;
        filling.keep(false);
        Ok(filling)
    }

    /// Prepares `root`. What an earlier try left half done is still there, and the hidden folder
    /// stays unless [`Self::keep`] says otherwise.
    pub(super) fn resume(root: &Path) -> Result<Self, StorageError> {
        create_folder(root)?;
        let filling = Self { root: root.to_owned(), partial: root.join(PARTIAL), is_kept: true };
        match filling.partial.symlink_metadata() {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let path = filling.partial.clone();
                return Err(StorageError::InTheWay { path, what: "a file or link" });
            }
            Err(_) => filling.create()?,
        }
        Ok(filling)
    }

    fn create(&self) -> Result<(), StorageError> {
        fs::create_dir(&self.partial).map_err(failed("create the folder", &self.partial))
    }

    /// Whether the hidden folder stays, for another try, when this goes.
    pub(super) fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// Where a file of this name is while it is not whole.
    pub(super) fn partial(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Where the files go.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Begins a file named `name`, for now in the hidden folder.
    pub(super) fn begin(&self, name: &str) -> Result<PartialFile, StorageError> {
        let file = self.open(name)?;
        file.file.set_len(0).map_err(failed("empty", &file.path))?;
        Ok(file)
    }

    /// Opens a file of the hidden folder, or begins it.
    pub(super) fn open(&self, name: &str) -> Result<PartialFile, StorageError> {
        let path = self.partial(name);
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
        let file = options.open(&path).map_err(failed("create", &path))?;
        Ok(PartialFile { file, path })
    }

    /// Gives a finished file its name, in place of a file that had it.
    pub(super) fn place(
        &self,
        finished: PartialFile,
        rel: &RelPath,
        executable: bool,
    ) -> Result<PathBuf, StorageError> {
        let PartialFile { file, path } = finished;
        let there = file.metadata().map_err(failed("look at", &path))?;
        if executable {
            let mode = there.permissions().mode();
            // Who may read it may run it.
            let mode = Permissions::from_mode(mode | (mode & 0o444) >> 2);
            file.set_permissions(mode).map_err(failed("make executable", &path))?;
        }
        if there.len() >= SYNC_BYTES {
            file.sync_data().map_err(failed("write", &path))?;
        }
        drop(file);
        let place = create_parents(&self.root, rel)?;
        if place.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            return Err(StorageError::InTheWay { path: place, what: "a folder" });
        }
        fs::rename(&path, &place).map_err(failed("write", &place))?;
        Ok(place)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!(folder = %self.partial.display(), %error, "left behind");
        }
    }
}

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct PartialFile {
    file: File,
    path: PathBuf,
}

impl PartialFile {
    /// Appends `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(failed("write", &self.path))
    }

    /// Writes `bytes` in their place.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, offset).map_err(failed("write", &self.path))
    }

    /// Whether the bytes at `offset` are those of `piece`.
    pub(super) fn holds(&self, piece: Piece, offset: u64) -> bool {
        let mut bytes = vec![0; piece.bytes as usize];
        self.file.read_exact_at(&mut bytes, offset).is_ok() && pieces::hash(&bytes) == piece.blake3
    }

    /// Appends all of the file at `from`, which is one of our own.
    pub(super) fn write_copy(&mut self, from: &Path) -> Result<(), StorageError> {
        let mut from = File::open(from).map_err(failed("read", from))?;
        io::copy(&mut from, &mut self.file).map_err(failed("write", &self.path))?;
        Ok(())
    }
}

/// The file that `entry` of `manifest` describes, if it is below `root` already: under its name,
/// and with the right content, unless `is_known` says that this has been checked.
pub(super) fn holds(
    root: &Path,
    manifest: &Manifest,
    entry: &FileEntry,
    is_known: impl Fn(&fs::Metadata) -> bool,
) -> bool {
    let path = entry.path.below(root);
    // Through no link: what it leads to is not ours.
    let linked = |folder: &Path| folder.symlink_metadata().is_ok_and(|there| there.is_symlink());
    if path.ancestors().take_while(|folder| *folder != root).any(linked) {
        return false;
    }
    // Opening a pipe would wait for its other end.
    if !path.symlink_metadata().is_ok_and(|there| there.is_file()) {
        return false;
    }
    let Ok(file) = File::open(&path) else { return false };
    let Ok(there) = file.metadata() else { return false };
    let executable = there.permissions().mode() & 0o100 != 0;
    if !there.is_file() || there.len() != entry.size || executable != entry.executable {
        return false;
    }
    let file = PartialFile { file, path };
    let mut offset = 0;
    is_known(&there)
        || manifest.pieces(entry).all(|piece| {
            let from = offset;
            offset += u64::from(piece.bytes);
            file.holds(piece, from)
        })
}

/// Copies the files of one tree into another, each written beside and renamed. Links are copied as
/// the files that they lead to within the tree, else left out.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), TransferError> {
    fill(to, &Listing::tree(from)?, Large::Copy)
}

/// What becomes of large files that lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Large {
    /// They are copied like all others.
    Copy,
    /// They are linked to.
    Link,
}

impl Large {
    /// The file to link to instead of copying `member`.
    fn link(self, member: &Member) -> Option<&Path> {
        match &member.content {
            Content::File(path) if self == Self::Link && member.size > LINK_BYTES => Some(path),
            _ => None,
        }
    }
}

/// Writes all files of `source` below `into`.
pub(super) fn fill(into: &Path, source: &Listing, large: Large) -> Result<(), TransferError> {
    let filling = Filling::new(into)?;
    let copied = source.members().iter().filter(|member| large.link(member).is_none());
    check_space(into, copied.map(|member| member.size).sum())?;
    let mut buffer = vec![0; archive::READ_BYTES];
    for member in source.members() {
        if let Some(target) = large.link(member) {
            let place = create_parents(&filling.root, &member.path)?;
            std::os::unix::fs::symlink(target, &place).map_err(failed("link", &place))?;
            continue;
        }
        let mut reader = source.open(member)?;
        let mut file = filling.begin("file")?;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => file.write(&buffer[..length])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(source.unreadable(member, error).into()),
            }
        }
        filling.place(file, &member.path, member.executable)?;
    }
    Ok(())
}
