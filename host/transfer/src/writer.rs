//! The blocking half of a receiver: finds existing content, verifies, writes and renames.

use super::flight::WINDOW_BYTES;
use super::journal::{JOURNAL, Journal, Written, WrittenPieces};
use super::pieces;
use super::reader::BATCH_BYTES;
use super::room;
use super::salvage::{AbandonedTransfer, Taken};
use super::storage::{self, PARTIAL, PartialFile, StagingDir, StorageError, failed};
use super::{Cache, TransferError};
use sleap_rtc_base::disk;
use sleap_rtc_protocol::transfer::{
    BlobHash, CHUNK_BYTES, Chunk, FileEntry, IncomingPiece, MAX_PIECE_BYTES, Manifest, Piece,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The most bytes of incomplete pieces, all of them in memory. When more pieces begin, the oldest is
/// dropped and requested again. A sender that respects its window never causes that: it begins a new
/// batch, whose last piece may have the maximum length, only while the window is not full.
const ASSEMBLING_BYTES: usize = WINDOW_BYTES + BATCH_BYTES + MAX_PIECE_BYTES as usize;

/// The result of one chunk.
#[derive(Debug)]
pub(super) struct ChunkReport {
    pub(super) piece: BlobHash,
    /// What the sender need not send again.
    pub(super) accepted: Accepted,
    /// Verified bytes of the manifest so far.
    pub(super) done_bytes: u64,
    /// Pieces to request again.
    pub(super) again: Vec<BlobHash>,
    /// Whether all files are complete.
    pub(super) finished: bool,
}

/// How much of a piece has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// These chunks, one bit for each.
    Chunks(u64),
    /// The whole piece.
    Piece,
}

impl Accepted {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Chunks(one), Self::Chunks(other)) => Self::Chunks(one | other),
            _ => Self::Piece,
        }
    }
}

/// A content of the manifest whose files are not complete.
#[derive(Debug)]
struct UnfinishedContent {
    blake3: BlobHash,
    /// The files that have this content, by their index in the manifest.
    files: Vec<usize>,
    missing_pieces: usize,
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
pub(super) struct Writer {
    staging: StagingDir,
    journal: Journal,
    cache: Option<Cache>,
    manifest: Manifest,
    contents: Vec<UnfinishedContent>,
    pieces: HashMap<BlobHash, RequestedPiece>,
    assembling: VecDeque<(BlobHash, IncomingPiece)>,
    assembling_bytes: usize,
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
    pub(super) fn new(
        destination: &Path,
        manifest: Manifest,
        cache: Option<Cache>,
    ) -> Result<Self, TransferError> {
        let started = Instant::now();
        let contents = contents(&manifest)?;
        let mut staging = StagingDir::resume(destination)?;
        let path = staging.partial(JOURNAL);
        let journal = Journal::open(&path).map_err(|cause| match cause.kind() {
            ErrorKind::WouldBlock => {
                let what = "another transfer into the same folder";
                StorageError::InTheWay { path: destination.to_owned(), what }
            }
            _ if disk::is_full(&cause) => room::full(destination, manifest.total_bytes(), &cause),
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
            assembling: VecDeque::new(),
            assembling_bytes: 0,
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

    fn find_existing(&mut self) -> Result<(), TransferError> {
        let mut abandoned = self.cache.as_ref().map(Cache::abandoned).unwrap_or_default();
        self.adopt(&mut abandoned)?;
        self.prepare()?;
        self.check_space()?;
        self.take_from_cache(&abandoned)
    }

    /// Replaces the error of a full disk by one that says how much is lacking.
    fn or_full(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::Storage(StorageError::Io { source, .. }) if disk::is_full(&source) => {
                let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
                room::full(self.staging.root(), lacking_bytes, &source).into()
            }
            other => other,
        }
    }

    /// Takes over content that abandoned transfers had verified.
    fn adopt(&mut self, abandoned: &mut [AbandonedTransfer]) -> Result<(), StorageError> {
        let Self { staging, journal, manifest, contents, .. } = self;
        if abandoned.is_empty() {
            return Ok(());
        }
        for content in contents {
            let partial = staging.partial(&content.blake3.to_string());
            if partial.exists() {
                continue;
            }
            let mut found = abandoned.iter_mut();
            let found = match found.find_map(|other| other.take(content.blake3, &partial)) {
                Some(Taken::Pieces(pieces)) => pieces,
                Some(Taken::Whole) => whole(manifest, &manifest.files()[content.files[0]]),
                None => continue,
            };
            for (number, written) in found {
                let noted = journal.note_piece(content.blake3, number, written);
                noted.map_err(failed("write", &staging.partial(JOURNAL)))?;
            }
            staging.set_persistent(true);
        }
        Ok(())
    }

    fn check_space(&self) -> Result<(), StorageError> {
        let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
        match (room::check(self.staging.root(), lacking_bytes), &self.cache) {
            (Err(StorageError::NoSpace { needed_bytes, available_bytes, .. }), Some(cache)) => {
                cache.make_room(needed_bytes - available_bytes);
                room::check(self.staging.root(), lacking_bytes)
            }
            (checked, _) => checked,
        }
    }

    /// Takes pieces that arrived with earlier jobs from the cache.
    fn take_from_cache(&mut self, abandoned: &[AbandonedTransfer]) -> Result<(), TransferError> {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        for hash in self.wants() {
            let Some(piece) = self.pieces.get(&hash).map(|wanted| wanted.piece) else { continue };
            let in_abandoned = || abandoned.iter().find_map(|other| other.read(piece));
            if let Some(bytes) = cache.read(piece).or_else(in_abandoned) {
                self.put(hash, &bytes)?;
            }
        }
        Ok(())
    }

    /// Finds existing content, and lists the missing pieces.
    fn prepare(&mut self) -> Result<(), TransferError> {
        let mut kept = WrittenPieces::new();
        for index in 0..self.contents.len() {
            if self.copy_existing(index)? {
                continue;
            }
            let content = &self.contents[index];
            let file = &self.manifest.files()[content.files[0]];
            let there = self.verified_pieces(content.blake3)?;
            let mut offset = 0;
            let mut missing = 0;
            let copies = content.files.len() as u64;
            for (number, piece) in (0..).zip(self.manifest.pieces(file)) {
                let place = PiecePlace { content: index, number, offset };
                offset += u64::from(piece.bytes);
                if there.contains_key(&number) {
                    self.done_bytes += u64::from(piece.bytes) * copies;
                    continue;
                }
                missing += 1;
                let new = || RequestedPiece { piece, places: Vec::new(), retried: false };
                let wanted = self.pieces.entry(piece.blake3).or_insert_with(new);
                if wanted.piece != piece {
                    return Err(TransferError::Protocol(
                        "two pieces have the same hash and different sizes",
                    ));
                }
                wanted.places.push(place);
            }
            kept.insert(content.blake3, there);
            self.contents[index].missing_pieces = missing;
            if missing == 0 {
                self.place(index)?;
            }
        }
        self.missing_pieces = self.pieces.len();
        // The journal may list pieces of files that no longer exist. Forget those, or they would count
        // as written when the file is created anew.
        let is_right = |(content, said): (&BlobHash, &HashMap<u32, Written>)| {
            kept.get(content).is_none_or(|kept| kept.len() == said.len())
        };
        if !self.journal.is_fresh() || !self.journal.pieces().iter().all(is_right) {
            let path = self.staging.partial(JOURNAL);
            self.journal.restart(kept).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Skips files that exist under their final name with the right content, and copies them to
    /// their other names. Returns whether this content is complete.
    fn copy_existing(&mut self, index: usize) -> Result<bool, TransferError> {
        let Self { staging, journal, manifest, contents, .. } = self;
        let content = &mut contents[index];
        let mut found: Option<PathBuf> = None;
        content.files.retain(|file| {
            let entry = &manifest.files()[*file];
            let known = |there: &std::fs::Metadata| journal.content(there) == Some(entry.blake3);
            let there = storage::holds(staging.root(), manifest, entry, known);
            if there {
                self.done_bytes += entry.size;
                found.get_or_insert_with(|| entry.path.below(staging.root()));
            }
            !there
        });
        let (Some(found), false) = (&found, content.files.is_empty()) else {
            return Ok(found.is_some());
        };
        let copies = std::mem::take(&mut content.files);
        self.done_bytes += copies.iter().map(|file| manifest.files()[*file].size).sum::<u64>();
        self.copy(found, &copies)?;
        Ok(true)
    }

    /// The pieces of a content that its unfinished file contains.
    fn verified_pieces(&self, content: BlobHash) -> Result<HashMap<u32, Written>, StorageError> {
        let said = self.journal.pieces().get(&content);
        let name = content.to_string();
        let Some(said) = said.filter(|_| self.staging.partial(&name).exists()) else {
            return Ok(HashMap::new());
        };
        let mut said = said.clone();
        if !self.journal.is_fresh() {
            let file = self.staging.open(&name)?;
            said.retain(|_, written| file.holds(written.piece, written.offset));
        }
        Ok(said)
    }

    /// The pieces to request from the sender, in the order of the files.
    pub(super) fn wants(&self) -> Vec<BlobHash> {
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
    pub(super) fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Removes the staging folder, adds the files to the cache and returns the manifest.
    pub(super) fn finish(mut self) -> Manifest {
        self.staging.set_persistent(false);
        if let Some(cache) = &self.cache {
            cache.add(self.staging.root(), &self.manifest);
        }
        std::mem::take(&mut self.manifest)
    }

    /// Processes an encoded chunk.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<ChunkReport, TransferError> {
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
        if !wanted.places.is_empty()
            && let Some(piece) = self.assemble(&chunk, &mut again)
        {
            self.conclude(chunk.piece, piece, &mut again)?;
        }
        let finished = self.missing_pieces == 0;
        let piece = chunk.piece;
        let is_complete = self.pieces.get(&piece).is_none_or(|wanted| wanted.places.is_empty());
        let accepted = if is_complete {
            Accepted::Piece
        } else {
            Accepted::Chunks(1 << (chunk.offset as usize / CHUNK_BYTES))
        };
        Ok(ChunkReport { piece, accepted, done_bytes: self.done_bytes, again, finished })
    }

    /// Adds a chunk to its piece. Returns the piece once it is complete.
    fn assemble(&mut self, chunk: &Chunk<'_>, again: &mut Vec<BlobHash>) -> Option<IncomingPiece> {
        let found = self.assembling.iter().position(|(piece, _)| *piece == chunk.piece);
        let at = found.unwrap_or_else(|| {
            while self.assembling_bytes + chunk.packed_bytes as usize > ASSEMBLING_BYTES
                && let Some((displaced, incomplete)) = self.assembling.pop_front()
            {
                self.assembling_bytes -= incomplete.bytes();
                again.push(displaced);
            }
            self.assembling_bytes += chunk.packed_bytes as usize;
            self.assembling.push_back((chunk.piece, IncomingPiece::of(chunk)));
            self.assembling.len() - 1
        });
        let (_, piece) = self.assembling.get_mut(at)?;
        if !piece.push(chunk) {
            return None;
        }
        let (_, piece) = self.assembling.remove(at)?;
        self.assembling_bytes -= piece.bytes();
        Some(piece)
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
        let Some(bytes) = pieces::unpack(wanted.piece, packing, bytes) else {
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
        let file = self.staging.open(&blake3.to_string())?;
        if let Err(error) = file.write_at(bytes, place.offset) {
            self.make_room_after(error)?;
            file.write_at(bytes, place.offset)?;
        }
        let content = &mut self.contents[place.content];
        content.missing_pieces -= 1;
        let is_whole = content.missing_pieces == 0;
        self.done_bytes += bytes.len() as u64 * content.files.len() as u64;
        if self.manifest.cuts().contains_key(&blake3) {
            let path = self.staging.partial(JOURNAL);
            let written = Written { piece, offset: place.offset };
            let noted = self.journal.note_piece(blake3, place.number, written);
            noted.map_err(failed("write", &path))?;
            self.staging.set_persistent(true);
        }
        if is_whole {
            self.place(place.content)?;
        }
        Ok(())
    }

    /// A quota shows only when it is used up: then the cache makes room, and the write is tried again.
    fn make_room_after(&self, error: StorageError) -> Result<(), StorageError> {
        match (&error, &self.cache) {
            (StorageError::Io { source, .. }, Some(cache)) if disk::is_full(source) => {
                cache.make_room(self.manifest.total_bytes() - self.done_bytes);
                Ok(())
            }
            _ => Err(error),
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
            let mut copy = self.staging.begin("copy")?;
            copy.write_copy(from)?;
            self.name(copy, *file)?;
        }
        Ok(())
    }

    fn name(&mut self, file: PartialFile, index: usize) -> Result<PathBuf, StorageError> {
        let entry = &self.manifest.files()[index];
        let place = self.staging.place(file, &entry.path, entry.executable)?;
        let there = place.metadata().map_err(failed("look at", &place))?;
        let noted = self.journal.note_placed(entry.blake3, &there);
        noted.map_err(failed("write", &self.staging.partial(JOURNAL)))?;
        self.staging.set_persistent(true);
        Ok(place)
    }
}

/// All pieces of `file`, with their offsets.
fn whole(manifest: &Manifest, file: &FileEntry) -> HashMap<u32, Written> {
    let mut offset = 0;
    let pieces = (0..).zip(manifest.pieces(file)).map(|(number, piece)| {
        let written = Written { piece, offset };
        offset += u64::from(piece.bytes);
        (number, written)
    });
    pieces.collect()
}

/// The contents of a manifest, in its order.
fn contents(manifest: &Manifest) -> Result<Vec<UnfinishedContent>, TransferError> {
    let empty = pieces::hash(b"");
    let mut contents: Vec<UnfinishedContent> = Vec::new();
    let mut known: HashMap<BlobHash, usize> = HashMap::new();
    for (index, file) in manifest.files().iter().enumerate() {
        let top = file.path.as_str().split('/').next().unwrap_or_default();
        if top.eq_ignore_ascii_case(PARTIAL) {
            return Err(TransferError::Protocol(
                "a file has the name of the receiver's staging folder",
            ));
        }
        if (file.size == 0) != (file.blake3 == empty) {
            return Err(TransferError::Protocol("the hash of a file does not match its size"));
        }
        let new = UnfinishedContent { blake3: file.blake3, files: Vec::new(), missing_pieces: 0 };
        let at = *known.entry(file.blake3).or_insert_with(|| {
            contents.push(new);
            contents.len() - 1
        });
        let others = &mut contents[at].files;
        if others.first().is_some_and(|first| manifest.files()[*first].size != file.size) {
            return Err(TransferError::Protocol(
                "two files have the same hash and different sizes",
            ));
        }
        others.push(index);
    }
    let wrong = |(content, pieces): (&BlobHash, &Vec<Piece>)| pieces::content(pieces) != *content;
    if manifest.cuts().iter().any(wrong) {
        return Err(TransferError::Protocol("the hash of a file does not match its pieces"));
    }
    Ok(contents)
}
