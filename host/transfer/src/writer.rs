//! The blocking half of a receiver: finds existing content, verifies, writes and renames.

mod existing;

use super::assembly::Assembly;
use super::contents::{UnfinishedContent, contents};
use super::journal::{JOURNAL, Journal, Written};
use super::storage::{PartialFile, StagingDir, StorageError, failed};
use super::{Cache, TransferError, free_space, packer};
use sleap_rtc_base::disk;
use sleap_rtc_protocol::transfer::{BlobHash, Chunk, IncomingPiece, Manifest, Piece};
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The result of one chunk.
#[derive(Debug)]
pub(crate) struct ChunkReport {
    /// Whether the chunk had not arrived before.
    pub(crate) is_new: bool,
    /// Verified bytes of the manifest so far.
    pub(crate) done_bytes: u64,
    /// Pieces to request again.
    pub(crate) again: Vec<BlobHash>,
    /// Whether all files are complete.
    pub(crate) finished: bool,
}

/// A piece of the manifest that had to be requested.
#[derive(Debug)]
struct RequestedPiece {
    piece: Piece,
    /// Where its bytes belong. Empty once they are written.
    places: Vec<PiecePlace>,
    retried: bool,
}

#[derive(Debug, Clone, Copy)]
struct PiecePlace {
    content: usize,
    number: u32,
    offset: u64,
}

/// Writes the files of a manifest into a folder, as their chunks arrive.
#[derive(Debug)]
pub(crate) struct Writer {
    staging: StagingDir,
    journal: Journal,
    cache: Option<Cache>,
    manifest: Manifest,
    contents: Vec<UnfinishedContent>,
    pieces: HashMap<BlobHash, RequestedPiece>,
    assembly: Assembly,
    missing_pieces: usize,
    done_bytes: u64,
    /// Bytes that arrived over the link, including repeated and damaged ones.
    arrived_bytes: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Self { arrived_bytes, done_bytes, .. } = *self;
        tracing::debug!(arrived_bytes, done_bytes, "receiver finished");
    }
}

impl Writer {
    /// Prepares `destination` for `manifest`: finds existing content, and checks that there is room
    /// for the rest.
    pub(crate) fn new(
        destination: &Path,
        manifest: Manifest,
        cache: Option<Cache>,
    ) -> Result<Self, TransferError> {
        let started = Instant::now();
        let contents = contents(&manifest)?;
        let mut staging = StagingDir::resume(destination)?;
        let path = staging.partial(JOURNAL);
        let total_bytes = manifest.total_bytes();
        let opened =
            retry_with_room(cache.as_ref(), total_bytes, disk::is_full, || Journal::open(&path));
        let journal = opened.map_err(|cause| match cause.kind() {
            ErrorKind::WouldBlock => {
                let what = "another transfer into the same folder";
                StorageError::InTheWay { path: destination.to_owned(), what }
            }
            _ if disk::is_full(&cause) => free_space::full(destination, total_bytes, &cause),
            _ => failed("use the journal", &path)(cause),
        })?;
        staging.set_persistent(journal.is_useful());
        let mut writer = Self {
            staging,
            journal,
            cache,
            manifest,
            contents,
            pieces: HashMap::new(),
            assembly: Assembly::default(),
            missing_pieces: 0,
            done_bytes: 0,
            arrived_bytes: 0,
        };
        writer.find_existing().map_err(|error| writer.or_full(error))?;
        tracing::debug!(
            already_bytes = writer.done_bytes,
            total_bytes,
            took_ms = started.elapsed().as_millis(),
            "checked the destination for existing content"
        );
        Ok(writer)
    }

    /// Replaces the error of a full disk by one that says how much space is missing.
    fn or_full(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::Storage(StorageError::Io { source, .. }) if disk::is_full(&source) => {
                free_space::full(self.staging.root(), self.lacking_bytes(), &source).into()
            }
            other => other,
        }
    }

    /// The bytes of the manifest that have not been verified yet.
    fn lacking_bytes(&self) -> u64 {
        self.manifest.total_bytes() - self.done_bytes
    }

    fn check_space(&self) -> Result<(), StorageError> {
        let lacking_bytes = self.lacking_bytes();
        match (free_space::check(self.staging.root(), lacking_bytes), &self.cache) {
            (Err(StorageError::NoSpace { needed_bytes, available_bytes, .. }), Some(cache)) => {
                cache.make_room(needed_bytes - available_bytes);
                free_space::check(self.staging.root(), lacking_bytes)
            }
            (checked, _) => checked,
        }
    }

    /// The pieces to request from the sender, in the order of the files.
    pub(crate) fn wants(&self) -> Vec<BlobHash> {
        let mut seen = HashSet::with_capacity(self.pieces.len());
        let files = self.contents.iter().filter_map(|content| content.files.first());
        let pieces = files.flat_map(|file| self.manifest.pieces(&self.manifest.files()[*file]));
        let mut wants: Vec<BlobHash> = pieces.map(|piece| piece.blake3).collect();
        let lacks = |piece: &BlobHash| {
            self.pieces.get(piece).is_some_and(|wanted| !wanted.places.is_empty())
        };
        wants.retain(|piece| lacks(piece) && seen.insert(*piece));
        wants
    }

    /// Verified bytes of the manifest so far.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Removes the staging folder, adds the files to the cache and returns the manifest.
    pub(crate) fn finish(mut self) -> Manifest {
        self.staging.set_persistent(false);
        if let Some(cache) = &self.cache {
            cache.add(self.staging.root(), &self.manifest);
        }
        std::mem::take(&mut self.manifest)
    }

    /// Processes an encoded chunk.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Result<ChunkReport, TransferError> {
        self.process(frame).map_err(|error| self.or_full(error))
    }

    fn process(&mut self, frame: &[u8]) -> Result<ChunkReport, TransferError> {
        let chunk = Chunk::decode(frame).ok_or(TransferError::Protocol("a chunk is malformed"))?;
        self.arrived_bytes += chunk.payload.len() as u64;
        let wanted = self.pieces.get(&chunk.piece);
        let Some(wanted) = wanted else {
            return Err(TransferError::Protocol(
                "a chunk belongs to a piece that was not requested",
            ));
        };
        if chunk.packed_bytes > wanted.piece.bytes {
            return Err(TransferError::Protocol("a piece is longer than announced"));
        }
        let mut again = Vec::new();
        let is_new = !wanted.places.is_empty() && !self.assembly.has(&chunk);
        if !wanted.places.is_empty()
            && let Some(piece) = self.assembly.push(&chunk, &mut again)
        {
            self.verify_and_write(chunk.piece, piece, &mut again)?;
        }
        let (done_bytes, finished) = (self.done_bytes, self.missing_pieces == 0);
        Ok(ChunkReport { is_new, done_bytes, again, finished })
    }

    /// Verifies a complete piece and writes it. A damaged piece is requested once more.
    fn verify_and_write(
        &mut self,
        hash: BlobHash,
        arrived: IncomingPiece,
        again: &mut Vec<BlobHash>,
    ) -> Result<(), TransferError> {
        let Some(wanted) = self.pieces.get_mut(&hash) else { return Ok(()) };
        let (packing, bytes) = arrived.finish();
        let Some(bytes) = packer::unpack_verified(wanted.piece, packing, bytes) else {
            if !std::mem::replace(&mut wanted.retried, true) {
                again.push(hash);
                return Ok(());
            }
            let file = wanted.places.first().map(|place| self.contents[place.content].files[0]);
            let path = file.map(|file| self.manifest.files()[file].path.to_string());
            return Err(TransferError::WrongContent { path: path.unwrap_or_default() });
        };
        self.write_everywhere(hash, &bytes)
    }

    /// Writes a verified piece to all its places.
    fn write_everywhere(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<(), TransferError> {
        let Some(wanted) = self.pieces.get_mut(&hash) else { return Ok(()) };
        let piece = wanted.piece;
        for place in std::mem::take(&mut wanted.places) {
            self.write_at(place, piece, bytes)?;
        }
        self.missing_pieces -= 1;
        Ok(())
    }

    fn write_at(
        &mut self,
        place: PiecePlace,
        piece: Piece,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let blake3 = self.contents[place.content].blake3;
        self.with_room(|staging, _| {
            staging.open(&blake3.to_string())?.write_at(bytes, place.offset)
        })?;
        let content = &mut self.contents[place.content];
        content.missing_pieces -= 1;
        let is_whole = content.missing_pieces == 0;
        self.done_bytes += bytes.len() as u64 * content.files.len() as u64;
        if self.manifest.cuts().contains_key(&blake3) {
            let written = Written { piece, offset: place.offset };
            self.with_room(|staging, journal| {
                let noted = journal.note_piece(blake3, place.number, written);
                noted.map_err(failed("write", &staging.partial(JOURNAL)))
            })?;
            self.staging.set_persistent(true);
        }
        if is_whole {
            self.publish_content(place.content)?;
        }
        Ok(())
    }

    /// Writes something, and once more if the cache had to make room for it.
    fn with_room<T>(
        &mut self,
        mut work: impl FnMut(&mut StagingDir, &mut Journal) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let lacking_bytes = self.lacking_bytes();
        let Self { staging, journal, cache, .. } = self;
        retry_with_room(cache.as_ref(), lacking_bytes, StorageError::is_full, || {
            work(staging, journal)
        })
    }

    /// Renames a verified content to its first name and copies it to the others.
    fn publish_content(&mut self, index: usize) -> Result<(), StorageError> {
        let content = &self.contents[index];
        let Some((first, copies)) = content.files.split_first() else { return Ok(()) };
        let (copies, blake3) = (copies.to_vec(), content.blake3);
        let file = self.staging.open(&blake3.to_string())?;
        let original = self.move_to_name(file, *first)?;
        self.copy(&original, &copies)
    }

    /// Copies a file of this manifest to its other names.
    fn copy(&mut self, from: &Path, files: &[usize]) -> Result<(), StorageError> {
        for file in files {
            let copy = self.with_room(|staging, _| {
                let mut copy = staging.begin("copy")?;
                copy.write_copy(from)?;
                Ok(copy)
            })?;
            self.move_to_name(copy, *file)?;
        }
        Ok(())
    }

    /// Moves a file to its name in the manifest, and notes that in the journal.
    fn move_to_name(&mut self, file: PartialFile, index: usize) -> Result<PathBuf, StorageError> {
        let entry = &self.manifest.files()[index];
        let path = self.staging.place(file, &entry.path, entry.executable)?;
        let metadata = path.metadata().map_err(failed("look at", &path))?;
        let blake3 = entry.blake3;
        self.with_room(|staging, journal| {
            let noted = journal.note_placed(blake3, &metadata);
            noted.map_err(failed("write", &staging.partial(JOURNAL)))
        })?;
        self.staging.set_persistent(true);
        Ok(path)
    }
}

/// Runs `work`. If the disk or a quota is full, has the cache make room and runs it once more. A quota
/// cannot be asked beforehand how much is left.
fn retry_with_room<T, E>(
    cache: Option<&Cache>,
    bytes: u64,
    is_full: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let done = work();
    match cache {
        Some(cache) if done.as_ref().is_err_and(is_full) => {
            cache.make_room(bytes);
            work()
        }
        _ => done,
    }
}
