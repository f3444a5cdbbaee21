//! The interface through which checks and descriptions read a package.

use super::script::NamedPath;
use super::source::ReadSeek;
use sleap_rtc_protocol::path::RelPath;
use std::io::Read;

/// What a path of a package leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A link that leads out of the package.
    Outside,
    /// The path does not exist.
    Nothing,
}

/// The files of a package.
pub trait PackageFiles {
    /// What `path` leads to.
    fn look(&self, path: &RelPath) -> Found;

    /// Opens the file at `path`.
    fn open(&self, path: &RelPath) -> Option<Box<dyn Read + Send>>;

    /// The names of the files in the folder at `path`.
    fn names_in(&self, path: &RelPath) -> Vec<String>;

    /// Opens the file at `path` for reading at any position. `None` if that would cost more than
    /// the content is worth.
    fn open_at_random(&self, path: &RelPath) -> Option<Box<dyn ReadSeek>>;

    /// The size of all files together, in bytes, unpacked.
    fn total_bytes(&self) -> Option<u64>;

    /// Whether the trainer can read this file, which is outside the package, by its absolute path.
    fn sees(&self, file: &str) -> bool;
}

/// Where the package has the file or folder that `place` names: at its path, or at the longest end of it.
pub fn locate(package: &dyn PackageFiles, place: &NamedPath) -> Option<RelPath> {
    let is_there = |path: &RelPath| matches!(package.look(path), Found::File | Found::Folder);
    place.candidates().find(is_there)
}

/// The file at `path`, if it is at most `limit_bytes` long.
pub fn bytes(package: &dyn PackageFiles, path: &RelPath, limit_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    package.open(path)?.take(limit_bytes + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit_bytes).then_some(bytes)
}

/// The text of the file at `path`, if it is at most `limit_bytes` long.
pub fn text(package: &dyn PackageFiles, path: &RelPath, limit_bytes: u64) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(package, path, limit_bytes)?).into_owned())
}
