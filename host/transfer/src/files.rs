//! Files on disk, as packages have them.

use sleap_rtc_package::{Member, ReadSeek, Source};
use sleap_rtc_protocol::path::RelPath;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The file at `path`, as `rel` of a package. `folder` is removed once nothing in it is needed.
pub(crate) fn member(
    rel: RelPath,
    path: PathBuf,
    there: &Metadata,
    folder: Option<&Arc<TempDir>>,
) -> Member {
    let executable = there.permissions().mode() & 0o100 != 0;
    let source = FileOnDisk { path, _folder: folder.cloned() };
    Member::new(rel, there.len(), executable, Arc::new(source))
}

/// A file that is opened when it is read.
#[derive(Debug)]
struct FileOnDisk {
    path: PathBuf,
    /// What an archive was unpacked to, if that is where the file is.
    _folder: Option<Arc<TempDir>>,
}

impl Source for FileOnDisk {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(File::open(&self.path)?))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn metadata(&self) -> Option<Metadata> {
        fs::metadata(&self.path).ok()
    }
}

/// A file that stays open, so that it remains what was listed even when another takes its name.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    file: Arc<File>,
}

impl OpenFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: Arc::new(File::open(path)?) })
    }
}

impl Source for OpenFile {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(SharedFile { file: self.file.clone(), at: 0 }))
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn metadata(&self) -> Option<Metadata> {
        self.file.metadata().ok()
    }
}

/// A position in an open file that others read too.
struct SharedFile {
    file: Arc<File>,
    at: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
