//! Files on disk that belong to packages.

use sleap_rtc_base::os::{self, FileExt};
use sleap_rtc_package::{Member, ReadSeek, Source};
use sleap_rtc_protocol::path::RelPath;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The file at `path`, with the name `rel` in a package. `folder` is removed once none of its files
/// is needed.
pub(crate) fn member(
    rel: RelPath,
    path: PathBuf,
    there: &Metadata,
    folder: Option<&Arc<TempDir>>,
) -> Member {
    let executable = os::is_executable(there).unwrap_or(false);
    let source = FileOnDisk { path, _folder: folder.cloned() };
    Member::new(rel, there.len(), executable, Arc::new(source))
}

/// A file that is opened only to be read.
#[derive(Debug)]
struct FileOnDisk {
    path: PathBuf,
    /// The folder of an unpacked archive, if the file is in one.
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

/// A file that stays open, so that it remains the listed one even if another file takes its name.
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

/// A position of its own in a shared open file.
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
