//! What a receiver does on the thread that may block: look what is there, verify, write, rename.

use super::TransferError;
use super::storage::{self, Filling, PARTIAL, PartialFile, StorageError};
use sleap_rtc_protocol::frame::Want;
use sleap_rtc_protocol::transfer::{BlobHash, Chunk, IncomingBlob, Manifest};
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// What became of one chunk.
#[derive(Debug)]
pub(super) struct Report {
    /// On disk now, in bytes of the manifest.
    pub(super) done_bytes: u64,
    /// A blob that turned out wrong and is needed again.
    pub(super) again: Option<Want>,
    /// Everything is in its place.
    pub(super) finished: bool,
}

/// A blob, and which files of the manifest it is.
#[derive(Debug)]
struct Blob {
    size: u64,
    files: Vec<usize>,
    retried: bool,
}

/// The blob that is arriving.
#[derive(Debug)]
struct Current {
    blake3: BlobHash,
    incoming: IncomingBlob,
    hasher: blake3::Hasher,
    file: PartialFile,
}

/// Files on their way into a folder.
#[derive(Debug)]
pub(super) struct Writer {
    filling: Filling,
    manifest: Manifest,
    blobs: HashMap<BlobHash, Blob>,
    /// What is still to come, in the order in which it was asked for.
    due: VecDeque<BlobHash>,
    current: Option<Current>,
    /// In bytes of the manifest, without `current`.
    placed_bytes: u64,
}

impl Writer {
    /// Prepares `destination` for `manifest`: finds what is there, and room for the rest.
    pub(super) fn new(destination: &Path, manifest: Manifest) -> Result<Self, TransferError> {
        let (blobs, order) = blobs(&manifest)?;
        let filling = Filling::new(destination)?;
        let due = order.into();
        let mut writer = Self { filling, manifest, blobs, due, current: None, placed_bytes: 0 };
        writer.skip_what_is_there();
        let lacking_bytes = writer.manifest.total_bytes() - writer.placed_bytes;
        storage::check_space(destination, lacking_bytes)?;
        writer.create_empty_files()?;
        Ok(writer)
    }

    /// What the sender is to be asked for.
    pub(super) fn wants(&self) -> Vec<Want> {
        self.due.iter().map(|blake3| Want { blake3: *blake3, from: 0 }).collect()
    }

    /// What is on disk, in bytes of the manifest.
    pub(super) fn done_bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.incoming.received_bytes());
        self.placed_bytes + current
    }

    /// Ends the work and returns what was received. The hidden folder is gone after this.
    pub(super) fn finish(self) -> Manifest {
        self.manifest
    }

    /// A file that is under its final name with the right content is not asked for again.
    fn skip_what_is_there(&mut self) {
        let root = self.filling.root();
        let mut blobs = std::mem::take(&mut self.blobs);
        for blob in blobs.values_mut() {
            blob.files.retain(|file| {
                let entry = &self.manifest.files()[*file];
                let there = storage::holds(root, entry);
                self.placed_bytes += if there { blob.size } else { 0 };
                !there
            });
        }
        self.due.retain(|blake3| blobs.get(blake3).is_some_and(|blob| !blob.files.is_empty()));
        self.blobs = blobs;
    }

    fn create_empty_files(&mut self) -> Result<(), TransferError> {
        let empty = BlobHash(*blake3::hash(b"").as_bytes());
        let wrong = |(blake3, blob): (&BlobHash, &Blob)| (blob.size == 0) != (*blake3 == empty);
        if self.blobs.iter().any(wrong) {
            return Err(TransferError::Protocol("the hash of a file does not fit its size"));
        }
        self.due.retain(|blake3| *blake3 != empty);
        if self.blobs.contains_key(&empty) {
            let file = self.filling.begin(&empty.to_string())?;
            self.place(empty, file)?;
        }
        Ok(())
    }

    /// Takes an encoded chunk.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<Report, TransferError> {
        let chunk =
            Chunk::decode(frame).ok_or(TransferError::Protocol("a chunk cannot be read"))?;
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let last = current.incoming.push(&chunk)?;
        current.hasher.update(chunk.payload);
        current.file.write(chunk.payload)?;
        let again = match last {
            true => self.conclude(current)?,
            false => {
                self.current = Some(current);
                None
            }
        };
        let finished = self.due.is_empty() && self.current.is_none();
        Ok(Report { done_bytes: self.done_bytes(), again, finished })
    }

    fn begin(&mut self) -> Result<Current, TransferError> {
        let nothing = TransferError::Chunk(sleap_rtc_protocol::transfer::ChunkError::NotAsked);
        let blake3 = self.due.pop_front();
        let Some((blake3, blob)) = blake3.and_then(|hash| Some((hash, self.blobs.get(&hash)?)))
        else {
            return Err(nothing);
        };
        let incoming = IncomingBlob::new(blake3, blob.size);
        let file = self.filling.begin(&blake3.to_string())?;
        Ok(Current { blake3, incoming, hasher: blake3::Hasher::new(), file })
    }

    /// Verifies a blob that has all its bytes. A wrong one is asked for once more.
    fn conclude(&mut self, current: Current) -> Result<Option<Want>, TransferError> {
        let Current { blake3, incoming, hasher, file } = current;
        if incoming.finish(BlobHash(*hasher.finalize().as_bytes())).is_ok() {
            self.place(blake3, file)?;
            return Ok(None);
        }
        drop(file);
        let files = self.manifest.files();
        match self.blobs.get_mut(&blake3) {
            Some(blob) if !blob.retried => blob.retried = true,
            blob => {
                let file = blob.and_then(|blob| files.get(*blob.files.first()?));
                let path = file.map_or_else(String::new, |file| file.path.to_string());
                return Err(TransferError::WrongContent { path });
            }
        }
        self.due.push_back(blake3);
        Ok(Some(Want { blake3, from: 0 }))
    }

    /// Gives a verified blob all its names.
    fn place(&mut self, blake3: BlobHash, file: PartialFile) -> Result<(), StorageError> {
        let Some(blob) = self.blobs.get(&blake3) else { return Ok(()) };
        let mut files = blob.files.iter().map(|file| &self.manifest.files()[*file]);
        let Some(first) = files.next() else { return Ok(()) };
        let original = self.filling.place(file, &first.path, first.executable)?;
        for other in files {
            let mut copy = self.filling.begin(&blake3.to_string())?;
            copy.write_copy(&original)?;
            self.filling.place(copy, &other.path, other.executable)?;
        }
        self.placed_bytes += blob.size * blob.files.len() as u64;
        Ok(())
    }
}

/// The blobs of a manifest, and their order in it.
fn blobs(manifest: &Manifest) -> Result<(HashMap<BlobHash, Blob>, Vec<BlobHash>), TransferError> {
    let mut blobs: HashMap<BlobHash, Blob> = HashMap::new();
    let mut order = Vec::new();
    for (index, file) in manifest.files().iter().enumerate() {
        let top = file.path.as_str().split('/').next().unwrap_or_default();
        if top.eq_ignore_ascii_case(PARTIAL) {
            return Err(TransferError::Protocol(
                "a file has the name of the receiver's own folder",
            ));
        }
        let blob = blobs.entry(file.blake3).or_insert_with(|| {
            order.push(file.blake3);
            Blob { size: file.size, files: Vec::new(), retried: false }
        });
        if blob.size != file.size {
            return Err(TransferError::Protocol("two files have one hash and two sizes"));
        }
        blob.files.push(index);
    }
    Ok((blobs, order))
}
