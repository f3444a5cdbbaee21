//! Files, folders and archives on disk, as lists of files.

use super::files::{self, OpenFile};
use super::{tarred, tree};
use sleap_rtc_package::{ArchiveError, Listing, Member, Source};
use sleap_rtc_protocol::path::RelPath;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lists a package from a user or SLEAP: an archive or a folder. Leaves out everything outside the
/// folder with the job's script, and files of a folder that cannot be sent.
///
/// # Errors
/// An archive has an unacceptable file, or the package as a whole is unusable.
pub fn list_package(path: &Path) -> Result<Listing, ArchiveError> {
    let unreadable = |cause| ArchiveError::read(path, cause);
    let there = fs::metadata(path).map_err(unreadable)?;
    if there.is_dir() {
        let tree = tree::walk(path, None)?;
        return Listing::package(tree.members, tree.left_out, path);
    }
    if !there.is_file() {
        return Err(ArchiveError::NotAFile { path: path.to_owned() });
    }
    if tarred::is_tar(path).map_err(unreadable)? {
        let (folder, left_out) = tarred::unpack(path)?;
        let folder = Arc::new(folder);
        let tree = tree::walk(folder.path(), Some(&folder))?;
        return Listing::package(tree.members, left_out, path);
    }
    let zip: Arc<dyn Source> = Arc::new(OpenFile::open(path).map_err(unreadable)?);
    Listing::zip(&zip, path)
}

/// Lists the files of a folder, except those that are not acceptable.
pub(crate) fn list_tree(folder: &Path) -> Result<Listing, ArchiveError> {
    let tree = tree::walk(folder, None)?;
    for error in &tree.left_out {
        tracing::warn!(folder = %folder.display(), %error, "left out, because it cannot be sent");
    }
    Listing::new(tree.members, tree.left_out)
}

/// A file that becomes part of a package.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its place in the package.
    pub path: RelPath,
    /// Its content.
    pub source: PartSource,
}

/// The source of a part's content.
#[derive(Debug, Clone)]
pub enum PartSource {
    /// A file on disk. A symbolic link is followed, because the user named it.
    File(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

impl Part {
    /// All files of `folder`, to be placed `below` in the package. Fails on anything that cannot be
    /// sent.
    pub fn folder(below: &RelPath, folder: &Path) -> Result<Vec<Self>, ArchiveError> {
        let tree = tree::walk(folder, None)?;
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
            let file = member.file_path().ok_or(ArchiveError::Missing { path: entry })?;
            Ok(Self { path, source: PartSource::File(file.to_owned()) })
        };
        tree.members.into_iter().map(part).collect()
    }

    /// The files of `parts`, to be listed.
    ///
    /// # Errors
    /// A part cannot be read, or is not a file.
    pub fn members(parts: Vec<Self>) -> Result<Vec<Member>, ArchiveError> {
        parts.into_iter().map(Self::member).collect()
    }

    fn member(self) -> Result<Member, ArchiveError> {
        let file = match self.source {
            PartSource::Bytes(bytes) => return Ok(Member::bytes(self.path, bytes)),
            PartSource::File(file) => file,
        };
        let there = fs::metadata(&file).map_err(|cause| ArchiveError::read(&file, cause))?;
        if !there.is_file() {
            let why = format!("{} is not a file", file.display());
            return Err(ArchiveError::Entry { entry: self.path.to_string(), why });
        }
        Ok(files::member(self.path, file, &there, None))
    }
}
