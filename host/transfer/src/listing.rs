//! Files, folders and archives on disk, as lists of files.

use super::files::{self, OpenFile};
use super::{tarred, tree};
use sleap_rtc_package::{ArchiveError, Listing, Member, Source};
use sleap_rtc_protocol::path::RelPath;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Lists a package that a user or SLEAP made: an archive or a folder. Of folders, what cannot be
/// sent is left out, and of both what is not below the folder with the job's script.
///
/// # Errors
/// Whatever is not acceptable in an archive, and whatever makes the whole unusable.
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
        let folder = Arc::new(tarred::unpack(path)?);
        let tree = tree::walk(folder.path(), Some(&folder))?;
        return Listing::package(tree.members, Vec::new(), path);
    }
    let zip: Arc<dyn Source> = Arc::new(OpenFile::open(path).map_err(unreadable)?);
    Listing::zip(&zip, path)
}

/// Lists the files of a folder; what is not acceptable is left out.
pub(crate) fn list_tree(folder: &Path) -> Result<Listing, ArchiveError> {
    let tree = tree::walk(folder, None)?;
    for error in &tree.left_out {
        tracing::warn!(folder = %folder.display(), %error, "left out");
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
    /// Files that cannot be read, and what is not a file.
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
