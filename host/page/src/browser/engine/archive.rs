//! A zip that is put together from parts which the browser keeps, so that it need not fit into memory.

use js_sys::{Array, Uint8Array};
use std::cell::RefCell;
use std::io::{self, Seek, SeekFrom, Write};
use std::rc::Rc;
use wasm_bindgen::JsValue;
use web_sys::Blob;

/// Longer writes become parts of their own, which cannot be changed any more.
const PART_BYTES: usize = 32 << 10;

enum ZipPart {
    Bytes(Vec<u8>),
    Kept(Blob),
}

/// The next bytes, as the browser keeps them: then they need not be kept twice.
pub type Known = Rc<RefCell<Option<Blob>>>;

/// What a zip is written to. Only what was written in short writes, as headers are, can be changed.
#[derive(Default)]
pub struct Parts {
    parts: Vec<(u64, ZipPart)>,
    /// What the browser keeps already of what is written next.
    known: Known,
    at: u64,
    end: u64,
}

impl Parts {
    /// Nothing yet. Before a write, `known` may be told what the browser keeps of it already.
    pub fn new(known: Known) -> Self {
        Self { known, ..Self::default() }
    }

    /// All of it.
    ///
    /// # Errors
    /// The browser does not keep so much.
    pub fn into_blob(self) -> Result<Blob, JsValue> {
        let list = Array::new();
        for (_, part) in self.parts {
            match part {
                ZipPart::Bytes(bytes) => list.push(&Uint8Array::from(&bytes[..])),
                ZipPart::Kept(blob) => list.push(&blob),
            };
        }
        Blob::new_with_u8_array_sequence(&list)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (start, length) = (self.end, bytes.len());
        if length >= PART_BYTES {
            let known = self.known.take().filter(|known| known.size() == length as f64);
            let kept = known.map_or_else(|| blob(bytes), Ok);
            let blob = kept.map_err(|_| io::ErrorKind::StorageFull)?;
            self.parts.push((start, ZipPart::Kept(blob)));
        } else {
            match self.parts.last_mut() {
                Some((_, ZipPart::Bytes(last))) => last.extend_from_slice(bytes),
                _ => self.parts.push((start, ZipPart::Bytes(bytes.to_vec()))),
            }
        }
        self.end += length as u64;
        self.at = self.end;
        Ok(())
    }

    fn change(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.at;
        let part = self.parts.iter_mut().rev().find(|(start, _)| *start <= at);
        let Some((start, ZipPart::Bytes(known))) = part else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let from = (at - *start) as usize;
        let place = known.get_mut(from..from + bytes.len()).ok_or(io::ErrorKind::Unsupported)?;
        place.copy_from_slice(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.at == self.end {
            self.append(bytes)?
        } else {
            self.change(bytes)?
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Parts {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.filter(|at| *at <= self.end).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Bytes that the browser keeps.
///
/// # Errors
/// It does not keep so much.
pub fn blob(bytes: &[u8]) -> Result<Blob, JsValue> {
    Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(bytes)))
}
