//! Sources of a package's bytes.

use std::fmt::Debug;
use std::fs::Metadata;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// Bytes that can be read at any position.
pub trait ReadSeek: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadSeek for R {}

/// A file that can be opened: on disk, in memory, or dropped into a page of a browser.
pub trait Source: Debug + Send + Sync {
    /// Opens it at its start. Every reader has its own position.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot open it.
    fn open(&self) -> io::Result<Box<dyn ReadSeek>>;

    /// Its path, if it is on disk.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// The current metadata of the file on disk, which shows whether the file has changed.
    fn metadata(&self) -> Option<Metadata> {
        None
    }
}

/// A file in memory.
#[derive(Debug, Clone)]
pub struct InMemory(Arc<[u8]>);

impl InMemory {
    /// A file with these bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }
}

impl Source for InMemory {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(Cursor::new(self.0.clone())))
    }
}
