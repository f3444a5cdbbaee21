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
        let mut opened = Journal::open(&path);
        if let (Err(error), Some(cache)) = (&opened, &cache)
            && disk::is_full(error)
        {
            cache.make_room(manifest.total_bytes());
            opened = Journal::open(&path);
        }
        let journal = opened.map_err(|cause| match cause.kind() {
            ErrorKind::WouldBlock => {
                let what = "another transfer into the same folder";
                StorageError::InTheWay { path: destination.to_owned(), what }
            }
            _ if disk::is_full(&cause) => {
                free_space::full(destination, manifest.total_bytes(), &cause)
            }
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
        let (took_ms, total_bytes) = (started.elapsed().as_millis(), writer.manifest.total_bytes());
        tracing::debug!(
            already_bytes = writer.done_bytes,
            total_bytes,
            took_ms,
            "checked the destination for existing content"
        );
        Ok(writer)
    }

    /// Replaces the error of a full disk by one that says how much space is missing.
    fn or_full(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::Storage(StorageError::Io { source, .. }) if disk::is_full(&source) => {
                let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
                free_space::full(self.staging.root(), lacking_bytes, &source).into()
            }
            other => other,
        }
    }

    fn check_space(&self) -> Result<(), StorageError> {
        let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
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
            self.conclude(chunk.piece, piece, &mut again)?;
        }
        let (done_bytes, finished) = (self.done_bytes, self.missing_pieces == 0);
        Ok(ChunkReport { is_new, done_bytes, again, finished })
    }

    /// Verifies a complete piece and writes it. A damaged piece is requested once more.
    fn conclude(
        &mut self,
        hash: BlobHash,
        arrived: IncomingPiece,
        again: &mut Vec<BlobHash>,
    ) -> Result<(), TransferError> {
        let Some(wanted) = self.pieces.get_mut(&hash) else { return Ok(()) };
        let (packing, bytes) = arrived.finish();
        let Some(bytes) = packer::unpack(wanted.piece, packing, bytes) else {
            if !std::mem::replace(&mut wanted.retried, true) {
                again.push(hash);
                return Ok(());
            }
            let file = wanted.places.first().map(|place| self.contents[place.content].files[0]);
            let path = file.map(|file| self.manifest.files()[file].path.to_string());
            return Err(TransferError::WrongContent { path: path.unwrap_or_default() });
        };
        self.put(hash, &bytes)
    }

    /// Writes a verified piece to all its places.
    fn put(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<(), TransferError> {
        let Some(wanted) = self.pieces.get_mut(&hash) else { return Ok(()) };
        let piece = wanted.piece;
        for place in std::mem::take(&mut wanted.places) {
            self.put_at(place, piece, bytes)?;
        }
        self.missing_pieces -= 1;
        Ok(())
    }

    fn put_at(
        &mut self,
        place: PiecePlace,
        piece: Piece,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let blake3 = self.contents[place.content].blake3;
        self.with_room(|writer| {
            writer.staging.open(&blake3.to_string())?.write_at(bytes, place.offset)
        })?;
        let content = &mut self.contents[place.content];
        content.missing_pieces -= 1;
        let is_whole = content.missing_pieces == 0;
        self.done_bytes += bytes.len() as u64 * content.files.len() as u64;
        if self.manifest.cuts().contains_key(&blake3) {
            let path = self.staging.partial(JOURNAL);
            let written = Written { piece, offset: place.offset };
            self.with_room(|writer| {
                let noted = writer.journal.note_piece(blake3, place.number, written);
                noted.map_err(failed("write", &path))
            })?;
            self.staging.set_persistent(true);
        }
        if is_whole {
            self.place(place.content)?;
        }
        Ok(())
    }

    /// A quota shows only once it is used up. Then the cache makes room, and the work is repeated once.
    fn with_room<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let done = work(self);
        match &self.cache {
            Some(cache) if done.as_ref().is_err_and(StorageError::is_full) => {
                cache.make_room(self.manifest.total_bytes() - self.done_bytes);
                work(self)
            }
            _ => done,
        }
    }

    /// Renames a verified content to its first name and copies it to the others.
    fn place(&mut self, index: usize) -> Result<(), StorageError> {
        let content = &self.contents[index];
        let Some((first, copies)) = content.files.split_first() else { return Ok(()) };
        let (copies, blake3) = (copies.to_vec(), content.blake3);
        let file = self.staging.open(&blake3.to_string())?;
        let original = self.name(file, *first)?;
        self.copy(&original, &copies)
    }

    /// Copies a file of this manifest to its other names.
    fn copy(&mut self, from: &Path, files: &[usize]) -> Result<(), StorageError> {
        for file in files {
            let copy = self.with_room(|writer| {
                let mut copy = writer.staging.begin("copy")?;
                copy.write_copy(from)?;
                Ok(copy)
            })?;
            self.name(copy, *file)?;
        }
        Ok(())
    }

    fn name(&mut self, file: PartialFile, index: usize) -> Result<PathBuf, StorageError> {
        let entry = &self.manifest.files()[index];
        let place = self.staging.place(file, &entry.path, entry.executable)?;
        let there = place.metadata().map_err(failed("look at", &place))?;
        let blake3 = entry.blake3;
        self.with_room(|writer| {
            let noted = writer.journal.note_placed(blake3, &there);
            noted.map_err(failed("write", &writer.staging.partial(JOURNAL)))
        })?;
        self.staging.set_persistent(true);
        Ok(place)
    }
}
