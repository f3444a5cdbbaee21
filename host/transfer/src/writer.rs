//! What a receiver does on the thread that may block: look what is there, verify, write, rename.

use super::flight::WINDOW_BYTES;
use super::journal::{Journal, Written, WrittenPieces};
use super::pieces;
use super::reader::BATCH_BYTES;
use super::salvage::{Salvaged, Taken};
use super::storage::{self, Filling, PARTIAL, PartialFile, StorageError, failed};
use super::{Cache, TransferError};
use sleap_rtc_protocol::transfer::{
    BlobHash, CHUNK_BYTES, Chunk, FileEntry, IncomingPiece, MAX_PIECE_BYTES, Manifest, Piece,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The journal's name in the hidden folder.
pub(super) const JOURNAL: &str = "journal";
/// So many bytes of pieces may be incomplete at a time, all in memory. Where more are begun, the
/// oldest is asked for again. A sender that keeps to its window never gets there: it begins another
/// batch, the last piece of which may be the longest, while the window is not full.
const ASSEMBLING_BYTES: usize = WINDOW_BYTES + BATCH_BYTES + MAX_PIECE_BYTES as usize;

/// What became of one chunk.
#[derive(Debug)]
pub(super) struct Report {
    /// The piece that it was of.
    pub(super) piece: BlobHash,
    /// Which chunk of it: one bit. All bits, when the piece need not come any more.
    pub(super) chunks: u64,
    /// Verified, in bytes of the manifest.
    pub(super) done_bytes: u64,
    /// Pieces that are needed again.
    pub(super) again: Vec<BlobHash>,
    /// Everything is in its place.
    pub(super) finished: bool,
}

/// A content of the manifest that is not in place yet.
#[derive(Debug)]
struct Content {
    blake3: BlobHash,
    /// Which files have it.
    files: Vec<usize>,
    missing_pieces: usize,
}

/// A piece of the manifest.
#[derive(Debug)]
struct Wanted {
    piece: Piece,
    /// Where its bytes go; nowhere once they are there.
    places: Vec<Place>,
    retried: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    content: usize,
    number: u32,
    offset: u64,
}

/// Files on their way into a folder.
#[derive(Debug)]
pub(super) struct Writer {
    filling: Filling,
    journal: Journal,
    cache: Option<Cache>,
    manifest: Manifest,
    contents: Vec<Content>,
    pieces: HashMap<BlobHash, Wanted>,
    assembling: VecDeque<(BlobHash, IncomingPiece)>,
    assembling_bytes: usize,
    missing_pieces: usize,
    done_bytes: u64,
    /// What has come over the link for this writer, repeated and wrong bytes included.
    arrived_bytes: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Self { arrived_bytes, done_bytes, .. } = *self;
        tracing::debug!(arrived_bytes, done_bytes, "the receiver ends");
    }
}

impl Writer {
    /// Prepares `destination` for `manifest`: finds what is there, and room for the rest.
    pub(super) fn new(
        destination: &Path,
        manifest: Manifest,
        cache: Option<Cache>,
    ) -> Result<Self, TransferError> {
        let started = Instant::now();
        let contents = contents(&manifest)?;
        let mut filling = Filling::resume(destination)?;
        let path = filling.partial(JOURNAL);
        let journal = Journal::open(&path).map_err(|cause| match cause.kind() {
            ErrorKind::WouldBlock => {
                let what = "another transfer into the same folder";
                StorageError::InTheWay { path: destination.to_owned(), what }
            }
            ErrorKind::StorageFull => storage::full(destination, manifest.total_bytes()),
            _ => failed("use the journal", &path)(cause),
        })?;
        filling.keep(journal.is_useful());
        let mut writer = Self {
            filling,
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
        writer.find_what_is_there().map_err(|error| writer.or_full(error))?;
        let (took_ms, total_bytes) = (started.elapsed().as_millis(), writer.manifest.total_bytes());
        tracing::debug!(
            already_bytes = writer.done_bytes,
            total_bytes,
            took_ms,
            "looked what is there"
        );
        Ok(writer)
    }

    fn find_what_is_there(&mut self) -> Result<(), TransferError> {
        let mut salvaged = self.cache.as_ref().map(Cache::salvaged).unwrap_or_default();
        self.adopt(&mut salvaged)?;
        self.prepare()?;
        self.check_space()?;
        self.take_from_cache(&salvaged)
    }

    /// Where the disk has run full: how much it lacks.
    fn or_full(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::Storage(StorageError::Io { cause, .. })
                if cause.kind() == ErrorKind::StorageFull =>
            {
                let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
                storage::full(self.filling.root(), lacking_bytes).into()
            }
            other => other,
        }
    }

    /// Takes over what other transfers had verified of these contents.
    fn adopt(&mut self, salvaged: &mut [Salvaged]) -> Result<(), StorageError> {
        let Self { filling, journal, manifest, contents, .. } = self;
        if salvaged.is_empty() {
            return Ok(());
        }
        for content in contents {
            let partial = filling.partial(&content.blake3.to_string());
            if partial.exists() {
                continue;
            }
            let mut found = salvaged.iter_mut();
            let found = match found.find_map(|other| other.take(content.blake3, &partial)) {
                Some(Taken::Pieces(pieces)) => pieces,
                Some(Taken::Whole) => whole(manifest, &manifest.files()[content.files[0]]),
                None => continue,
            };
            for (number, written) in found {
                let noted = journal.note_piece(content.blake3, number, written);
                noted.map_err(failed("write", &filling.partial(JOURNAL)))?;
            }
            filling.keep(true);
        }
        Ok(())
    }

    fn check_space(&self) -> Result<(), StorageError> {
        let lacking_bytes = self.manifest.total_bytes() - self.done_bytes;
        match (storage::check_space(self.filling.root(), lacking_bytes), &self.cache) {
            (Err(StorageError::NoSpace { needed_bytes, available_bytes, .. }), Some(cache)) => {
                cache.make_room(needed_bytes - available_bytes);
                storage::check_space(self.filling.root(), lacking_bytes)
            }
            (checked, _) => checked,
        }
    }

    /// Pieces that came with other jobs need not come again.
    fn take_from_cache(&mut self, salvaged: &[Salvaged]) -> Result<(), TransferError> {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        for hash in self.wants() {
            let Some(piece) = self.pieces.get(&hash).map(|wanted| wanted.piece) else { continue };
            let in_salvaged = || salvaged.iter().find_map(|other| other.read(piece));
            if let Some(bytes) = cache.read(piece).or_else(in_salvaged) {
                self.put(hash, &bytes)?;
            }
        }
        Ok(())
    }

    /// Looks what is there, and lists the pieces that are not.
    fn prepare(&mut self) -> Result<(), TransferError> {
        let mut kept = WrittenPieces::new();
        for index in 0..self.contents.len() {
            if self.copy_what_is_there(index)? {
                continue;
            }
            let content = &self.contents[index];
            let file = &self.manifest.files()[content.files[0]];
            let there = self.verified_pieces(content.blake3)?;
            let mut offset = 0;
            let mut missing = 0;
            let copies = content.files.len() as u64;
            for (number, piece) in (0..).zip(self.manifest.pieces(file)) {
                let place = Place { content: index, number, offset };
                offset += u64::from(piece.bytes);
                if there.contains_key(&number) {
                    self.done_bytes += u64::from(piece.bytes) * copies;
                    continue;
                }
                missing += 1;
                let new = || Wanted { piece, places: Vec::new(), retried: false };
                let wanted = self.pieces.entry(piece.blake3).or_insert_with(new);
                if wanted.piece != piece {
                    return Err(TransferError::Protocol("two pieces have one hash and two sizes"));
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
        // Files that are gone must not count as written once they are begun again.
        let is_right = |(content, said): (&BlobHash, &HashMap<u32, Written>)| {
            kept.get(content).is_none_or(|kept| kept.len() == said.len())
        };
        if !self.journal.is_fresh() || !self.journal.pieces().iter().all(is_right) {
            let path = self.filling.partial(JOURNAL);
            self.journal.restart(kept).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Files that are under their final name with the right content are not asked for again, nor are
    /// their copies. Says whether this content needs nothing more.
    fn copy_what_is_there(&mut self, index: usize) -> Result<bool, TransferError> {
        let Self { filling, journal, manifest, contents, .. } = self;
        let content = &mut contents[index];
        let mut found: Option<PathBuf> = None;
        content.files.retain(|file| {
            let entry = &manifest.files()[*file];
            let known = |there: &std::fs::Metadata| journal.content(there) == Some(entry.blake3);
            let there = storage::holds(filling.root(), manifest, entry, known);
            if there {
                self.done_bytes += entry.size;
                found.get_or_insert_with(|| entry.path.below(filling.root()));
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

    /// Which pieces of a content are in its unfinished file.
    fn verified_pieces(&self, content: BlobHash) -> Result<HashMap<u32, Written>, StorageError> {
        let said = self.journal.pieces().get(&content);
        let name = content.to_string();
        let Some(said) = said.filter(|_| self.filling.partial(&name).exists()) else {
            return Ok(HashMap::new());
        };
        let mut said = said.clone();
        if !self.journal.is_fresh() {
            let file = self.filling.open(&name)?;
            said.retain(|_, written| file.holds(written.piece, written.offset));
        }
        Ok(said)
    }

    /// What the sender is to be asked for, in the order of the files.
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

    /// Verified, in bytes of the manifest.
    pub(super) fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Ends the work and returns what was received. The hidden folder is gone after this.
    pub(super) fn finish(mut self) -> Manifest {
        self.filling.keep(false);
        if let Some(cache) = &self.cache {
            cache.keep(self.filling.root(), &self.manifest);
        }
        std::mem::take(&mut self.manifest)
    }

    /// Takes an encoded chunk.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<Report, TransferError> {
        self.take(frame).map_err(|error| self.or_full(error))
    }

    fn take(&mut self, frame: &[u8]) -> Result<Report, TransferError> {
        let chunk =
            Chunk::decode(frame).ok_or(TransferError::Protocol("a chunk cannot be read"))?;
        self.arrived_bytes += chunk.payload.len() as u64;
        let wanted = self.pieces.get(&chunk.piece);
        let Some(wanted) = wanted else {
            return Err(TransferError::Protocol("a chunk came that nobody asked for"));
        };
        if chunk.packed_bytes > wanted.piece.bytes {
            return Err(TransferError::Protocol("a piece is longer than was announced"));
        }
        let mut again = Vec::new();
        if !wanted.places.is_empty()
            && let Some(piece) = self.assemble(&chunk, &mut again)
        {
            self.conclude(chunk.piece, piece, &mut again)?;
        }
        let finished = self.missing_pieces == 0;
        let piece = chunk.piece;
        let is_there = self.pieces.get(&piece).is_none_or(|wanted| wanted.places.is_empty());
        let chunks = if is_there { u64::MAX } else { 1 << (chunk.offset as usize / CHUNK_BYTES) };
        Ok(Report { piece, chunks, done_bytes: self.done_bytes, again, finished })
    }

    /// Adds a chunk to its piece; returns the piece when that is complete.
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

    /// Verifies a complete piece and puts it where it belongs. A wrong one is asked for once more.
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

    /// Writes a verified piece wherever it belongs.
    fn put(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<(), TransferError> {
        let Some(wanted) = self.pieces.get_mut(&hash) else { return Ok(()) };
        let piece = wanted.piece;
        for place in std::mem::take(&mut wanted.places) {
            self.put_at(place, piece, bytes)?;
        }
        self.missing_pieces -= 1;
        Ok(())
    }

    fn put_at(&mut self, place: Place, piece: Piece, bytes: &[u8]) -> Result<(), TransferError> {
        let content = &mut self.contents[place.content];
        let blake3 = content.blake3;
        let file = self.filling.open(&blake3.to_string())?;
        file.write_at(bytes, place.offset)?;
        content.missing_pieces -= 1;
        let is_whole = content.missing_pieces == 0;
        self.done_bytes += bytes.len() as u64 * content.files.len() as u64;
        if self.manifest.cuts().contains_key(&blake3) {
            let path = self.filling.partial(JOURNAL);
            let written = Written { piece, offset: place.offset };
            let noted = self.journal.note_piece(blake3, place.number, written);
            noted.map_err(failed("write", &path))?;
            self.filling.keep(true);
        }
        if is_whole {
            self.place(place.content)?;
        }
        Ok(())
    }

    /// Gives a verified content all its names.
    fn place(&mut self, index: usize) -> Result<(), StorageError> {
        let content = &self.contents[index];
        let Some((first, copies)) = content.files.split_first() else { return Ok(()) };
        let (copies, blake3) = (copies.to_vec(), content.blake3);
        let file = self.filling.open(&blake3.to_string())?;
        let original = self.name(file, *first)?;
        self.copy(&original, &copies)
    }

    /// Copies a file of this manifest to its other names.
    fn copy(&mut self, from: &Path, files: &[usize]) -> Result<(), StorageError> {
        for file in files {
            let mut copy = self.filling.begin("copy")?;
            copy.write_copy(from)?;
            self.name(copy, *file)?;
        }
        Ok(())
    }

    fn name(&mut self, file: PartialFile, index: usize) -> Result<PathBuf, StorageError> {
        let entry = &self.manifest.files()[index];
        let place = self.filling.place(file, &entry.path, entry.executable)?;
        let there = place.metadata().map_err(failed("look at", &place))?;
        let noted = self.journal.note_placed(entry.blake3, &there);
        noted.map_err(failed("write", &self.filling.partial(JOURNAL)))?;
        self.filling.keep(true);
        Ok(place)
    }
}

/// All pieces of `file`, in their places.
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
fn contents(manifest: &Manifest) -> Result<Vec<Content>, TransferError> {
    let empty = pieces::hash(b"");
    let mut contents: Vec<Content> = Vec::new();
    let mut known: HashMap<BlobHash, usize> = HashMap::new();
    for (index, file) in manifest.files().iter().enumerate() {
        let top = file.path.as_str().split('/').next().unwrap_or_default();
        if top.eq_ignore_ascii_case(PARTIAL) {
            return Err(TransferError::Protocol(
                "a file has the name of the receiver's own folder",
            ));
        }
        if (file.size == 0) != (file.blake3 == empty) {
            return Err(TransferError::Protocol("the hash of a file does not fit its size"));
        }
        let new = Content { blake3: file.blake3, files: Vec::new(), missing_pieces: 0 };
        let at = *known.entry(file.blake3).or_insert_with(|| {
            contents.push(new);
            contents.len() - 1
        });
        let others = &mut contents[at].files;
        if others.first().is_some_and(|first| manifest.files()[*first].size != file.size) {
            return Err(TransferError::Protocol("two files have one hash and two sizes"));
        }
        others.push(index);
    }
    let wrong = |(content, pieces): (&BlobHash, &Vec<Piece>)| pieces::content(pieces) != *content;
    if manifest.cuts().iter().any(wrong) {
        return Err(TransferError::Protocol("the hash of a file does not fit its pieces"));
    }
    Ok(contents)
}
