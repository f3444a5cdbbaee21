//! Paths that stay inside their root, and files that appear complete or not at all.
//!
//! The name of a [`RelPath`] cannot leave a folder, but a symbolic link on disk could. No function
//! here follows a link out of the root or writes through one.

use sleap_rtc_base::os::{self, FileExt};
use sleap_rtc_package::pieces;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{FileEntry, Manifest, Piece};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub(crate) use super::storage_error::{StorageError, failed};

/// The staging folder: a hidden folder within the destination, for incomplete files.
pub(crate) const PARTIAL: &str = ".sleap-rtc-partial";
/// Files of at least this size, in bytes, are synced to disk before they get their names. Smaller
/// files are quick to send again, and there may be many of them.
const SYNC_BYTES: u64 = 8 << 20;

/// The place of `rel` below `root`, which must exist. Links on the way are followed as long as they
/// stay within `root`. Parts that do not exist yet are appended unchanged.
pub fn confined(root: &Path, rel: &RelPath) -> Result<PathBuf, StorageError> {
    let root = root.canonicalize().map_err(failed("find", root))?;
    let mut place = root.clone();
    let mut parts = rel.names_here();
    for part in parts.by_ref() {
        place.push(&*part);
        match place.symlink_metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(failed("look at", &place)(error)),
        }
        // A dangling link fails here, because its future target is unknown.
        place = place.canonicalize().map_err(failed("find", &place))?;
        if !place.starts_with(&root) {
            return Err(StorageError::Leaves { path: rel.to_string(), root });
        }
    }
    parts.for_each(|part| place.push(&*part));
    Ok(place)
}

/// Creates `folder` and its missing parents.
pub(crate) fn create_folder(folder: &Path) -> Result<(), StorageError> {
    fs::create_dir_all(folder).map_err(failed("create the folder", folder))
}

/// Creates the folders of `rel` below `root` one by one, and returns the place of `rel` itself.
/// Rejects all links, including those that stay inside the root.
pub(crate) fn create_parents(root: &Path, rel: &RelPath) -> Result<PathBuf, StorageError> {
    let place = rel.below(root);
    let folders = rel.as_str().matches('/').count();
    let mut folder = root.to_owned();
    for part in rel.names_here().take(folders) {
        folder.push(&*part);
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

/// The staging folder of a destination. Files are written there and renamed into place when they are
/// complete.
#[derive(Debug)]
pub(crate) struct StagingDir {
    root: PathBuf,
    partial: PathBuf,
    is_persistent: bool,
}

impl StagingDir {
    /// Prepares `root`, creating it if it is missing. Removes what an earlier attempt left, and
    /// removes the staging folder on drop.
    pub(crate) fn new(root: &Path) -> Result<Self, StorageError> {
        let mut staging = Self::resume(root)?;
        fs::remove_dir_all(&staging.partial).map_err(failed("remove", &staging.partial))?;
        staging.create()?;
        staging.set_persistent(false);
        Ok(staging)
    }

    /// Prepares `root`, creating it if it is missing. Keeps what an earlier attempt left, and keeps
    /// the staging folder on drop unless [`Self::set_persistent`] says otherwise.
    pub(crate) fn resume(root: &Path) -> Result<Self, StorageError> {
        create_folder(root)?;
        let partial = root.join(PARTIAL);
        let staging = Self { root: root.to_owned(), partial, is_persistent: true };
        match staging.partial.symlink_metadata() {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let path = staging.partial.clone();
                return Err(StorageError::InTheWay { path, what: "a file or link" });
            }
            Err(_) => staging.create()?,
        }
        Ok(staging)
    }

    fn create(&self) -> Result<(), StorageError> {
        fs::create_dir(&self.partial).map_err(failed("create the folder", &self.partial))
    }

    /// Whether the staging folder survives a drop, for another attempt.
    pub(crate) fn set_persistent(&mut self, is_persistent: bool) {
        self.is_persistent = is_persistent;
    }

    /// The path of a file in the staging folder.
    pub(crate) fn partial(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// The destination.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates an empty file in the staging folder.
    pub(crate) fn begin(&self, name: &str) -> Result<PartialFile, StorageError> {
        let file = self.open(name)?;
        file.file.set_len(0).map_err(failed("empty", &file.path))?;
        Ok(file)
    }

    /// Opens a file in the staging folder, or creates it.
    pub(crate) fn open(&self, name: &str) -> Result<PartialFile, StorageError> {
        let path = self.partial(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = os::without_links(&mut options).open(&path).map_err(failed("create", &path))?;
        Ok(PartialFile { file, path })
    }

    /// Renames a complete file to its place in the destination, replacing an existing file.
    pub(crate) fn place(
        &self,
        finished: PartialFile,
        rel: &RelPath,
        executable: bool,
    ) -> Result<PathBuf, StorageError> {
        let (path, place) = self.complete(finished, rel, executable)?;
        fs::rename(&path, &place).map_err(failed("write", &place))?;
        Ok(place)
    }

    /// Gives a complete file its name in the destination, unless a different file has it. Keeps an
    /// existing file with the same content.
    pub(crate) fn place_new(
        &self,
        finished: PartialFile,
        rel: &RelPath,
        executable: bool,
    ) -> Result<PathBuf, StorageError> {
        let (path, place) = self.complete(finished, rel, executable)?;
        match fs::hard_link(&path, &place) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !have_same_content(&path, &place).map_err(failed("read", &place))? {
                    return Err(StorageError::InTheWay { path: place, what: "another file" });
                }
            }
            // Some file systems have no hard links.
            Err(_) if place.symlink_metadata().is_err() => {
                fs::rename(&path, &place).map_err(failed("write", &place))?;
                return Ok(place);
            }
            Err(error) => return Err(failed("write", &place)(error)),
        }
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        Ok(place)
    }

    /// Completes a file for its place. Returns both paths.
    fn complete(
        &self,
        finished: PartialFile,
        rel: &RelPath,
        executable: bool,
    ) -> Result<(PathBuf, PathBuf), StorageError> {
        let PartialFile { file, path } = finished;
        let there = file.metadata().map_err(failed("look at", &path))?;
        if executable {
            os::make_executable(&file).map_err(failed("make executable", &path))?;
        }
        if there.len() >= SYNC_BYTES {
            file.sync_data().map_err(failed("write", &path))?;
        }
        drop(file);
        let place = create_parents(&self.root, rel)?;
        if place.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            return Err(StorageError::InTheWay { path: place, what: "a folder" });
        }
        Ok((path, place))
    }
}

/// Whether both are files with the same bytes. Links are not followed.
fn have_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let lengths = [one.symlink_metadata()?, other.symlink_metadata()?];
    if !lengths.iter().all(fs::Metadata::is_file) || lengths[0].len() != lengths[1].len() {
        return Ok(false);
    }
    let (mut one, mut other) =
        (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if self.is_persistent {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!(folder = %self.partial.display(), %error, "cannot remove the staging folder");
        }
    }
}

/// A file in the staging folder.
#[derive(Debug)]
pub(crate) struct PartialFile {
    file: File,
    path: PathBuf,
}

impl PartialFile {
    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(failed("write", &self.path))
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.file.write_all_at(bytes, offset).map_err(failed("write", &self.path))
    }

    /// Whether the file contains `piece` at `offset`.
    pub(crate) fn holds(&self, piece: Piece, offset: u64) -> bool {
        let mut bytes = vec![0; piece.bytes as usize];
        self.file.read_exact_at(&mut bytes, offset).is_ok() && pieces::is_piece(piece, &bytes)
    }

    /// Appends the content of the file at `from`, which this program has written.
    pub(crate) fn write_copy(&mut self, from: &Path) -> Result<(), StorageError> {
        let mut from = File::open(from).map_err(failed("read", from))?;
        io::copy(&mut from, &mut self.file).map_err(failed("write", &self.path))?;
        Ok(())
    }
}

/// Whether the file that `entry` of `manifest` describes exists below `root`, under its name and with
/// the right content. Skips hashing if `is_known` says that the content has been verified.
pub(crate) fn holds(
    root: &Path,
    manifest: &Manifest,
    entry: &FileEntry,
    is_known: impl Fn(&fs::Metadata) -> bool,
) -> bool {
    let path = entry.path.below(root);
    // Do not follow links: their targets belong to someone else.
    let linked = |folder: &Path| folder.symlink_metadata().is_ok_and(|there| there.is_symlink());
    if path.ancestors().take_while(|folder| *folder != root).any(linked) {
        return false;
    }
    // Opening a pipe would block until its other end opens.
    if !path.symlink_metadata().is_ok_and(|there| there.is_file()) {
        return false;
    }
    let Ok(file) = File::open(&path) else { return false };
    let Ok(there) = file.metadata() else { return false };
    let is_otherwise = |executable| executable != entry.executable;
    let differs = there.len() != entry.size || os::is_executable(&there).is_some_and(is_otherwise);
    if !there.is_file() || differs {
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
