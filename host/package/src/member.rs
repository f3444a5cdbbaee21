//! One file of a package: its announced size, and access to its bytes.

use super::ArchiveError;
use super::pieces::{self, Hashed};
use super::source::{InMemory, ReadSeek, Source};
use super::zip_content::{self, ZipContent};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::transfer::{BlobHash, FileEntry};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One file of a package, whose content has not been read yet.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path in the package.
    pub path: RelPath,
    /// Its announced length, in bytes. Reading yields exactly this many bytes, or an error.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    source: Arc<dyn Source>,
    zipped: Option<ZipContent>,
}

impl Member {
    /// A file that is the whole of `source`, of `size` bytes.
    pub fn new(path: RelPath, size: u64, executable: bool, source: Arc<dyn Source>) -> Self {
        Self { path, size, executable, source, zipped: None }
    }

    /// A file in memory.
    pub fn bytes(path: RelPath, bytes: Vec<u8>) -> Self {
        Self::new(path, bytes.len() as u64, false, Arc::new(InMemory::new(bytes)))
    }

    pub(crate) fn in_zip(
        path: RelPath,
        executable: bool,
        zip: Arc<dyn Source>,
        content: ZipContent,
    ) -> Self {
        let size = content.size();
        Self { path, size, executable, source: zip, zipped: Some(content) }
    }

    /// Its entry in a manifest.
    pub fn entry(&self, blake3: BlobHash) -> FileEntry {
        let (path, size, executable) = (self.path.clone(), self.size, self.executable);
        FileEntry { path, size, blake3, executable }
    }

    /// The source that contains its bytes: a file of its own, or a zip.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The position at which it begins in its source, in bytes.
    pub fn offset(&self) -> u64 {
        self.zipped.as_ref().map_or(0, ZipContent::start)
    }

    /// The path of the file on disk that is this member, if it is not packed.
    pub fn file_path(&self) -> Option<&Path> {
        self.source.path().filter(|_| self.zipped.is_none())
    }

    /// Opens it. Reading it to its end yields what was announced, or an error.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot open it.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, ArchiveError> {
        let reader = self.open_source()?;
        Ok(match &self.zipped {
            Some(content) => zip_content::open(reader, content),
            None => Box::new(Exactly { inner: reader, left: self.size }),
        })
    }

    /// Opens it for reading at any position, if its bytes are not compressed. The content is not
    /// compared with what was announced.
    pub fn open_in_place(&self) -> Option<Box<dyn ReadSeek>> {
        let reader = self.source.open().ok()?;
        match &self.zipped {
            Some(content) => zip_content::open_in_place(reader, content),
            None => Some(reader),
        }
    }

    fn open_source(&self) -> Result<Box<dyn ReadSeek>, ArchiveError> {
        let name = || self.source.path().unwrap_or(self.path.as_str().as_ref());
        self.source.open().map_err(|cause| ArchiveError::read(name(), cause))
    }

    /// Opens it for reading pieces at any position. Fails if its length has changed.
    pub(crate) fn open_pieces(&self) -> Result<Option<Box<dyn ReadSeek>>, ArchiveError> {
        if self.zipped.is_some() {
            return Ok(None);
        }
        let mut reader = self.open_source()?;
        match reader.seek(io::SeekFrom::End(0)) {
            Ok(size) if size == self.size => Ok(Some(reader)),
            Ok(_) => Err(ArchiveError::Changed { path: self.path.to_string() }),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Reads it to its end and divides it into pieces. Adds to `read` as bytes are read.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read, or if the content is not what was announced.
    pub fn cut(&self, read: &AtomicU64) -> Result<Hashed, ArchiveError> {
        let reader = Counted { inner: self.open()?, read };
        pieces::cut(reader, self.size).map_err(|error| self.unreadable(error))
    }

    /// Interprets an error that occurred while it was read.
    pub fn unreadable(&self, error: io::Error) -> ArchiveError {
        use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let path = self.path.to_string();
        match (&self.zipped, error.kind()) {
            (None, InvalidData) => ArchiveError::Changed { path },
            (Some(_), InvalidData | InvalidInput | UnexpectedEof) => {
                ArchiveError::Damaged { path, why: error.to_string() }
            }
            _ => ArchiveError::Read { path: path.into(), source: error },
        }
    }
}

/// Counts the bytes that are read.
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

/// Yields the announced number of bytes, or fails. A file that grew or shrank is not the listed
/// file.
struct Exactly {
    inner: Box<dyn ReadSeek>,
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
