//! Files of the browser as sources of a package.

use js_sys::Uint8Array;
use sleap_rtc_package::{ReadSeek, Source};
use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};
use wasm_bindgen::JsValue;
use web_sys::{Blob, FileReaderSync};

/// How much is read at once, in bytes.
const WINDOW_BYTES: usize = 1 << 20;

thread_local! {
    /// The files. Those of a browser stay in the thread that has them, so sources name them by number.
    static FILES: RefCell<Vec<Option<Blob>>> = const { RefCell::new(Vec::new()) };
}

/// A file that the user has given.
#[derive(Debug)]
pub struct GivenFile(usize);

impl GivenFile {
    /// Keeps a file until it is dropped.
    pub fn new(file: Blob) -> Self {
        FILES.with_borrow_mut(|files| {
            files.push(Some(file));
            Self(files.len() - 1)
        })
    }
}

impl Drop for GivenFile {
    fn drop(&mut self) {
        // At the end of the thread nothing is kept any more.
        let _ = FILES.try_with(|files| files.borrow_mut()[self.0] = None);
    }
}

impl Source for GivenFile {
    fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        let bytes = FILES.with_borrow(|files| files[self.0].as_ref().map(Blob::size));
        let bytes = bytes.ok_or(io::ErrorKind::NotFound)? as u64;
        let (at, window, window_at) = (0, Vec::new(), 0);
        Ok(Box::new(GivenFileReader { file: self.0, bytes, at, window, window_at }))
    }
}

struct GivenFileReader {
    file: usize,
    bytes: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl GivenFileReader {
    /// What is read at the position, from the window.
    fn seen(&self) -> &[u8] {
        let from = self.at.checked_sub(self.window_at).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| self.window.get(from..)).unwrap_or_default()
    }
}

impl Read for GivenFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen().is_empty() && self.at < self.bytes && !buffer.is_empty() {
            let end = self.bytes.min(self.at + WINDOW_BYTES as u64);
            let file = FILES.with_borrow(|files| files[self.file].clone());
            let file = file.ok_or(io::ErrorKind::NotFound)?;
            // The browser notices when the file has changed since it was given.
            let changed = |_| io::Error::from(io::ErrorKind::InvalidData);
            let part = file.slice_with_f64_and_f64(self.at as f64, end as f64).map_err(changed)?;
            self.window = read(&part).map_err(changed)?;
            self.window_at = self.at;
        }
        let seen = self.seen();
        let length = seen.len().min(buffer.len());
        buffer[..length].copy_from_slice(&seen[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for GivenFileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Reads a part of a file whole.
///
/// # Errors
/// The file is gone, or has changed.
pub fn read(part: &Blob) -> Result<Vec<u8>, JsValue> {
    let buffer = FileReaderSync::new()?.read_as_array_buffer(part)?;
    Ok(Uint8Array::new(&buffer).to_vec())
}
