//! A package or a result as a list of files, and how its content is verified.
//!
//! Content travels in pieces, each addressed by its BLAKE3 hash and verified before it counts. A
//! file of up to [`MAX_PIECE_BYTES`] is one piece; a longer one is cut at places that depend on its
//! content, so that a changed file shares most pieces with its earlier version. A piece is sent in
//! chunks, which name their piece and offset. They may arrive in any order, twice, or after a
//! reconnect.

use crate::path::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The most entries of a manifest.
pub const MAX_FILES: usize = 100_000;
/// The payload of a chunk, in bytes. Only the last chunk of a piece is shorter.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// The longest piece, in bytes. Each end holds a few pieces in memory.
pub const MAX_PIECE_BYTES: u32 = 2 << 20;
/// The shortest piece of a long file, in bytes. Only the last piece may be shorter. Bounds the number
/// of pieces.
pub const MIN_PIECE_BYTES: u32 = 256 << 10;
/// The length of the header of an encoded chunk, in bytes.
pub const CHUNK_HEADER_BYTES: usize = 1 + 32 + 4 + 4;
const PLAIN_TAG: u8 = 1;
const ZSTD_TAG: u8 = 2;

/// A BLAKE3 hash, in hex on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash(pub [u8; 32]);

impl TryFrom<String> for BlobHash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WHY: &str = "a hash is 64 lower-case hex digits";
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(WHY);
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| WHY)?;
        Ok(Self(hash))
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path below the job's folder.
    pub path: RelPath,
    /// Its length in bytes.
    pub size: u64,
    /// Its content: the hash of its bytes, or, when it has several pieces, of their hashes, one
    /// after the other.
    pub blake3: BlobHash,
    /// Whether it is executable. No other part of a Unix mode is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl FileEntry {
    /// Whether it is long enough to have several pieces, which the sender lists.
    pub fn is_cut(&self) -> bool {
        self.size > u64::from(MAX_PIECE_BYTES)
    }
}

/// A part of a file that is verified by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// The hash of its bytes.
    pub blake3: BlobHash,
    /// Its length.
    pub bytes: u32,
}

/// The pieces of the files that have several, by the files' content.
pub type Cuts = HashMap<BlobHash, Vec<Piece>>;

/// All files of a package or a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<FileEntry>,
    cuts: Cuts,
}

/// Why a list of files is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too many entries.
    #[error("a package may have no more than {MAX_FILES} files")]
    TooMany,
    /// The sizes add up to more than the receiver accepts.
    #[error(
        "the files add up to more than the {limit_bytes} bytes that are accepted (`max_package` in \
         the worker's configuration)"
    )]
    TooLarge {
        /// The receiver's limit.
        limit_bytes: u64,
    },
    /// Two entries name the same file, at least on case-insensitive file systems.
    #[error("two files collide under the path {0:?} (upper and lower case count as equal)")]
    Duplicate(RelPath),
    /// One entry is a folder of another.
    #[error("{0:?} is listed both as a file and as a folder")]
    FileAndFolder(String),
    /// A long file's pieces are missing, too short, too long, or are not as long as the file.
    #[error("the pieces of {0:?} do not make up the file")]
    Pieces(RelPath),
}

impl Manifest {
    /// Checks a list of files: bounded, no collisions, no file that is also a folder, and the
    /// pieces of every long one.
    pub fn new(files: Vec<FileEntry>, cuts: Cuts, limit_bytes: u64) -> Result<Self, ManifestError> {
        Self::check_files(&files, limit_bytes)?;
        let is_wrong = |file: &&FileEntry| match cuts.get(&file.blake3) {
            Some(pieces) => !file.is_cut() || !add_up(pieces, file.size),
            None => file.is_cut(),
        };
        if let Some(file) = files.iter().find(is_wrong) {
            return Err(ManifestError::Pieces(file.path.clone()));
        }
        Ok(Self { files, cuts })
    }

    /// Checks the limits and the paths of a list of files, without their content.
    pub fn check_files(files: &[FileEntry], limit_bytes: u64) -> Result<(), ManifestError> {
        if files.len() > MAX_FILES {
            return Err(ManifestError::TooMany);
        }
        let mut total = 0u64;
        let mut paths = HashSet::with_capacity(files.len());
        for file in files {
            total = total
                .checked_add(file.size)
                .filter(|total| *total <= limit_bytes)
                .ok_or(ManifestError::TooLarge { limit_bytes })?;
            if !paths.insert(file.path.without_case()) {
                return Err(ManifestError::Duplicate(file.path.clone()));
            }
        }
        for file in files {
            let path = file.path.without_case();
            let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(folder) = folders.into_iter().find(|folder| paths.contains(*folder)) {
                return Err(ManifestError::FileAndFolder(folder.to_owned()));
            }
        }
        Ok(())
    }

    /// The files, in the sender's order.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The pieces of the files that have several.
    pub fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// The pieces of one of the files, in order; an empty file has none.
    pub fn pieces(&self, file: &FileEntry) -> impl Iterator<Item = Piece> + '_ {
        let bytes = file.size.min(u64::from(MAX_PIECE_BYTES)) as u32;
        let only = Piece { blake3: file.blake3, bytes };
        let only = (bytes > 0 && !file.is_cut()).then_some(only);
        let cut = self.cuts.get(&file.blake3).filter(|_| file.is_cut());
        cut.into_iter().flatten().copied().chain(only)
    }

    /// The sum of all sizes, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Whether these pieces add up to a file of `size` bytes.
fn add_up(pieces: &[Piece], size: u64) -> bool {
    let allowed = MIN_PIECE_BYTES..=MAX_PIECE_BYTES;
    let Some((last, others)) = pieces.split_last() else { return false };
    others.iter().all(|piece| allowed.contains(&piece.bytes))
        && (1..=MAX_PIECE_BYTES).contains(&last.bytes)
        && pieces.iter().map(|piece| u64::from(piece.bytes)).sum::<u64>() == size
}

/// How the bytes of a piece are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Uncompressed.
    Plain,
    /// As one zstd frame.
    Zstd,
}

/// A part of a piece, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The piece that it is a part of.
    pub piece: BlobHash,
    /// How the piece is sent.
    pub packing: Packing,
    /// The length of the piece as it is sent, in bytes.
    pub packed_bytes: u32,
    /// The offset of this chunk in the piece as it is sent, in bytes: a multiple of [`CHUNK_BYTES`].
    pub offset: u32,
    /// The bytes of this chunk.
    pub payload: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The header on the wire: tag (1 plain, 2 zstd), hash, length and offset (little endian).
    pub fn header(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut header = [0; CHUNK_HEADER_BYTES];
        header[0] = match self.packing {
            Packing::Plain => PLAIN_TAG,
            Packing::Zstd => ZSTD_TAG,
        };
        header[1..33].copy_from_slice(&self.piece.0);
        header[33..37].copy_from_slice(&self.packed_bytes.to_le_bytes());
        header[37..].copy_from_slice(&self.offset.to_le_bytes());
        header
    }

    /// Appends the wire form: the header, then the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.payload);
    }

    /// Reads the wire form. Returns `None` for anything else, including chunks that no piece can have.
    pub fn decode(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = frame.split_at_checked(CHUNK_HEADER_BYTES)?;
        let packing = match header[0] {
            PLAIN_TAG => Packing::Plain,
            ZSTD_TAG => Packing::Zstd,
            _ => return None,
        };
        let piece = BlobHash(header[1..33].try_into().ok()?);
        let packed_bytes = u32::from_le_bytes(header[33..37].try_into().ok()?);
        let offset = u32::from_le_bytes(header[37..].try_into().ok()?);
        let rest = packed_bytes.checked_sub(offset).filter(|_| packed_bytes <= MAX_PIECE_BYTES)?;
        let due = CHUNK_BYTES.min(rest as usize);
        let belongs = (offset as usize).is_multiple_of(CHUNK_BYTES) && due > 0;
        (belongs && payload.len() == due).then_some(Self {
            piece,
            packing,
            packed_bytes,
            offset,
            payload,
        })
    }
}

/// A piece that is being received. Its chunks may arrive in any order, and more than once.
#[derive(Debug)]
pub struct IncomingPiece {
    packing: Packing,
    bytes: Vec<u8>,
    /// One bit for each chunk that has arrived.
    arrived: u64,
}

impl IncomingPiece {
    /// An empty piece with the length and packing of `chunk`.
    pub fn of(chunk: &Chunk<'_>) -> Self {
        let bytes = vec![0; chunk.packed_bytes as usize];
        Self { packing: chunk.packing, bytes, arrived: 0 }
    }

    /// Adds a chunk of the same piece. Returns whether the piece is complete. Ignores a chunk that is
    /// packed in another way.
    pub fn push(&mut self, chunk: &Chunk<'_>) -> bool {
        if chunk.packing == self.packing && chunk.packed_bytes as usize == self.bytes.len() {
            let from = chunk.offset as usize;
            self.bytes[from..from + chunk.payload.len()].copy_from_slice(chunk.payload);
            self.arrived |= 1 << (from / CHUNK_BYTES);
        }
        let chunks = self.bytes.len().div_ceil(CHUNK_BYTES);
        self.arrived == u64::MAX >> (64 - chunks)
    }

    /// Whether `chunk` has arrived before.
    pub fn has(&self, chunk: &Chunk<'_>) -> bool {
        self.arrived >> (chunk.offset as usize / CHUNK_BYTES) & 1 == 1
    }

    /// Its length as it is sent, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Its packing, and its bytes as they were sent.
    pub fn finish(self) -> (Packing, Vec<u8>) {
        (self.packing, self.bytes)
    }
}

// A piece has at most 64 chunks, so one bit for each fits into a `u64`.
const _: () = assert!(MAX_PIECE_BYTES as usize / CHUNK_BYTES <= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, size: u64) -> FileEntry {
        FileEntry {
            path: RelPath::new(path).unwrap(),
            size,
            blake3: BlobHash([7; 32]),
            executable: false,
        }
    }

    #[test]
    fn manifests_are_bounded_and_free_of_collisions() {
        let list = |files, limit| Manifest::new(files, Cuts::new(), limit);
        // The last two pairs are one letter in upper case alone: the sign for a millionth, and a long s.
        for (name, other) in [("a", "A"), ("ä/É", "Ä/é"), ("\u{b5}", "\u{3bc}"), ("\u{17f}", "s")]
        {
            assert!(list(vec![entry(name, 1), entry(other, 1)], 10).is_err(), "{name}");
        }
        for folder in ["a", "A"] {
            let inside = format!("{folder}/b");
            assert!(list(vec![entry("a", 1), entry(&inside, 1)], 10).is_err(), "{inside}");
        }
        let apart = vec![entry("a/b", 1), entry("A/c", 1), entry("straße", 1), entry("strasse", 1)];
        assert!(list(apart, 10).is_ok());
        for (name, on_windows) in [("aux", "%61ux"), ("a.", "A%2E"), ("a:b", "a%3ab")] {
            assert!(list(vec![entry(name, 1), entry(on_windows, 1)], 10).is_err(), "{name}");
        }
        assert!(list(vec![entry("a", u64::MAX), entry("b", 1)], u64::MAX).is_err());
        assert!(list(vec![entry("a", 6), entry("b", 6)], 10).is_err());
        assert_eq!(list(vec![entry("a", 6), entry("b/c", 4)], 10).unwrap().total_bytes(), 10);
    }

    #[test]
    fn a_chunk_survives_the_wire_and_damage_does_not() {
        let chunk = Chunk {
            piece: BlobHash([3; 32]),
            packing: Packing::Plain,
            packed_bytes: 5,
            offset: 0,
            payload: b"hello",
        };
        let wire = |chunk: &Chunk<'_>| {
            let mut wire = Vec::new();
            chunk.encode(&mut wire);
            wire
        };
        assert_eq!(Chunk::decode(&wire(&chunk)), Some(chunk.clone()));
        assert_eq!(Chunk::decode(&wire(&chunk)[..40]), None);
        let packed = Chunk { packing: Packing::Zstd, ..chunk.clone() };
        assert_eq!(Chunk::decode(&wire(&packed)), Some(packed));
        for wrong in [
            Chunk { packed_bytes: 6, ..chunk.clone() },
            Chunk { packed_bytes: 4, ..chunk.clone() },
            Chunk { packed_bytes: 0, payload: b"", ..chunk.clone() },
            Chunk { packed_bytes: u32::MAX, ..chunk.clone() },
            Chunk { packed_bytes: 9, offset: 4, ..chunk.clone() },
            Chunk { offset: CHUNK_BYTES as u32, ..chunk.clone() },
        ] {
            assert_eq!(Chunk::decode(&wire(&wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn long_files_come_with_pieces_that_make_them_up() {
        let piece = |bytes| Piece { blake3: BlobHash([1; 32]), bytes };
        let long = entry("long", u64::from(MAX_PIECE_BYTES) + 7);
        let with = |pieces: Option<Vec<Piece>>| {
            let cuts = pieces.map(|pieces| (long.blake3, pieces)).into_iter().collect();
            Manifest::new(vec![long.clone()], cuts, u64::MAX)
        };
        let right = with(Some(vec![piece(MAX_PIECE_BYTES), piece(7)])).unwrap();
        assert_eq!(right.pieces(&long).count(), 2);
        for wrong in [
            None,
            Some(vec![]),
            Some(vec![piece(MAX_PIECE_BYTES + 7)]),
            Some(vec![piece(7), piece(MAX_PIECE_BYTES)]),
            Some(vec![piece(MAX_PIECE_BYTES), piece(6)]),
            Some(vec![piece(MAX_PIECE_BYTES), piece(7), piece(0)]),
        ] {
            assert_eq!(with(wrong), Err(ManifestError::Pieces(long.path.clone())));
        }
        let small = entry("small", 5);
        let only = Piece { blake3: small.blake3, bytes: 5 };
        assert_eq!(right.pieces(&small).collect::<Vec<_>>(), [only]);
        assert_eq!(right.pieces(&entry("empty", 0)).count(), 0);
        let cuts = Cuts::from([(small.blake3, vec![piece(5)])]);
        assert!(Manifest::new(vec![small], cuts, 10).is_err());
    }

    proptest! {
        /// In any order and with any repetitions of its chunks, a piece is complete exactly when
        /// the last one has arrived, and its bytes are in the right order.
        #[test]
        fn a_piece_is_whole_when_all_its_chunks_are_here(
            length in 1..MAX_PIECE_BYTES as usize,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 251) as u8 ^ at as u8).collect();
            let chunks: Vec<Chunk<'_>> = bytes.chunks(CHUNK_BYTES).enumerate().map(|(n, payload)| {
                let offset = (n * CHUNK_BYTES) as u32;
                let piece = BlobHash([1; 32]);
                let packed_bytes = length as u32;
                Chunk { piece, packing: Packing::Plain, packed_bytes, offset, payload }
            }).collect();
            let mut piece = IncomingPiece::of(&chunks[0]);
            let mut here = HashSet::new();
            let others = order.iter().map(|index| index.index(chunks.len()));
            for at in others.chain(0..chunks.len()) {
                here.insert(at);
                prop_assert_eq!(piece.push(&chunks[at]), here.len() == chunks.len());
                let other = Chunk { packing: Packing::Zstd, ..chunks[at].clone() };
                prop_assert_eq!(piece.push(&other), here.len() == chunks.len());
            }
            prop_assert_eq!(piece.finish(), (Packing::Plain, bytes));
        }
    }
}
