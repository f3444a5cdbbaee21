//! A package or a result as a list of files, and the rules that keep its bytes honest.
//!
//! Content is addressed by its BLAKE3 hash: a chunk says which blob it belongs to and where, so
//! chunks may arrive over any lane, twice, or after a reconnect.

use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt};

/// The most entries that one manifest may list.
pub const MAX_FILES: usize = 100_000;
/// Payload of one chunk, in bytes.
pub const CHUNK_BYTES: usize = 64 * 1024;
const MAX_PATH_BYTES: usize = 1024;
const MAX_NAME_BYTES: usize = 255;
const CHUNK_HEADER: usize = 1 + 32 + 8;
const CHUNK_TAG: u8 = 1;

/// A relative path that stays below whatever folder it is joined to, on every system.
///
/// Parts are separated by `/`. No part is empty, `.`, `..`, longer than 255 bytes, holds a control
/// character or any of `\ : * ? " < > |`, ends in a dot or a space, or is a device name of Windows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing, or longer than 1,024 bytes.
    #[error("a file path of {0} bytes is refused (1 to {MAX_PATH_BYTES} are allowed)")]
    Length(usize),
    /// It would leave its folder, or is not portable.
    #[error("the file path {path:?} is refused: {why}")]
    Part {
        /// The path as it arrived, shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl RelPath {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, PathError> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_PATH_BYTES {
            return Err(PathError::Length(text.len()));
        }
        match text.split('/').find_map(part_fault) {
            None => Ok(Self(text)),
            Some(why) => Err(PathError::Part { path: text.chars().take(120).collect(), why }),
        }
    }

    /// The path, parts separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// This path below `folder` on this system.
    pub fn below(&self, folder: &std::path::Path) -> std::path::PathBuf {
        let mut path = folder.to_path_buf();
        path.extend(self.0.split('/'));
        path
    }
}

fn part_fault(part: &str) -> Option<&'static str> {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
    let numbered = stem.len() == 4
        && (stem.starts_with("com") || stem.starts_with("lpt"))
        && stem.ends_with(|c: char| c.is_ascii_digit());
    if part.is_empty() {
        Some("it is absolute or has an empty part")
    } else if part == "." || part == ".." {
        Some("it leaves its folder")
    } else if part.len() > MAX_NAME_BYTES {
        Some("one of its names is longer than 255 bytes")
    } else if part.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c)) {
        Some("a character in it is not allowed in file names everywhere")
    } else if part.ends_with(['.', ' ']) {
        Some("a name in it ends in a dot or a space")
    } else if DEVICES.contains(&stem.as_str()) || numbered {
        Some("a name in it is a device on Windows")
    } else {
        None
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> String {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A BLAKE3 hash, in hex on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash(pub [u8; 32]);

impl TryFrom<String> for BlobHash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WHY: &str = "a hash is 64 lower-case hex digits";
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(WHY),
        };
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(WHY);
        }
        let mut hash = [0; 32];
        for (to, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *to = digit(pair[0])? << 4 | digit(pair[1])?;
        }
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    /// Where it goes, below the job's folder.
    pub path: RelPath,
    /// Its length in bytes.
    pub size: u64,
    /// Its content.
    pub blake3: BlobHash,
    /// Whether it is a program (the only part of a Unix mode that travels).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// All files of a package or a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<FileEntry>,
}

/// Why a list of files is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too many entries.
    #[error("a package of more than {MAX_FILES} files is refused")]
    TooMany,
    /// The sizes add up to more than the receiver takes.
    #[error(
        "the files add up to more than the {limit_bytes} bytes that are accepted (`max_package` in \
         the worker's configuration)"
    )]
    TooLarge {
        /// What the receiver takes.
        limit_bytes: u64,
    },
    /// Two entries would be one file (on some systems).
    #[error("two files collide under the path {0:?} (upper and lower case count as equal)")]
    Duplicate(RelPath),
    /// One entry is a folder of another.
    #[error("{0:?} is listed both as a file and as a folder")]
    FileAndFolder(String),
}

impl Manifest {
    /// Checks a list of files: bounded, no collisions, no file that is also a folder.
    pub fn new(files: Vec<FileEntry>, limit_bytes: u64) -> Result<Self, ManifestError> {
        if files.len() > MAX_FILES {
            return Err(ManifestError::TooMany);
        }
        let mut total = 0u64;
        let mut paths = HashSet::with_capacity(files.len());
        for file in &files {
            total = total
                .checked_add(file.size)
                .filter(|total| *total <= limit_bytes)
                .ok_or(ManifestError::TooLarge { limit_bytes })?;
            if !paths.insert(file.path.as_str().to_lowercase()) {
                return Err(ManifestError::Duplicate(file.path.clone()));
            }
        }
        for file in &files {
            let path = file.path.as_str().to_lowercase();
            let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
            if let Some(folder) = folders.into_iter().find(|folder| paths.contains(*folder)) {
                return Err(ManifestError::FileAndFolder(folder.to_owned()));
            }
        }
        Ok(Self { files })
    }

    /// The files, in the sender's order.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The sum of all sizes, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The blob it belongs to.
    pub blob: BlobHash,
    /// Where in the blob, in bytes.
    pub offset: u64,
    /// The bytes.
    pub payload: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Appends the wire form: `1`, hash, offset (little endian), payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(CHUNK_TAG);
        out.extend_from_slice(&self.blob.0);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(self.payload);
    }

    /// Reads the wire form; `None` for anything else.
    pub fn decode(frame: &'a [u8]) -> Option<Self> {
        let (header, payload) = frame.split_at_checked(CHUNK_HEADER)?;
        if header[0] != CHUNK_TAG || payload.is_empty() || payload.len() > CHUNK_BYTES {
            return None;
        }
        let blob = BlobHash(header[1..33].try_into().ok()?);
        let offset = u64::from_le_bytes(header[33..].try_into().ok()?);
        offset.checked_add(payload.len() as u64)?;
        Some(Self { blob, offset, payload })
    }
}

/// Why a chunk does not belong where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It is of another blob than the one that is due.
    #[error("a chunk arrived that nobody asked for")]
    NotAsked,
    /// It does not continue where the last one ended.
    #[error("a chunk for byte {at} arrived where byte {due} was due")]
    OutOfPlace {
        /// Where it belongs.
        at: u64,
        /// What was due.
        due: u64,
    },
    /// It goes beyond the end of its blob.
    #[error("more arrived than the {size} bytes that were announced")]
    BeyondEnd {
        /// The announced size, in bytes.
        size: u64,
    },
}

/// Why a blob is not what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Bytes are missing at its end.
    #[error("{missing} bytes are missing at the end")]
    Short {
        /// How many.
        missing: u64,
    },
    /// It has the right length and other content.
    #[error("the content is not what was announced")]
    WrongContent,
}

/// One blob on its way in. Who owns it writes and hashes the bytes; this says whether they may.
#[derive(Debug)]
pub struct IncomingBlob {
    blake3: BlobHash,
    size: u64,
    received: u64,
}

impl IncomingBlob {
    /// A blob of `size` bytes, of which nothing is here yet.
    pub fn new(blake3: BlobHash, size: u64) -> Self {
        Self { blake3, size, received: 0 }
    }

    /// Takes note of `chunk`; says whether it was the last one. After an error nothing changed.
    pub fn push(&mut self, chunk: &Chunk<'_>) -> Result<bool, ChunkError> {
        if chunk.blob != self.blake3 {
            return Err(ChunkError::NotAsked);
        }
        if chunk.offset != self.received {
            return Err(ChunkError::OutOfPlace { at: chunk.offset, due: self.received });
        }
        if chunk.payload.len() as u64 > self.size - self.received {
            return Err(ChunkError::BeyondEnd { size: self.size });
        }
        self.received += chunk.payload.len() as u64;
        Ok(self.received == self.size)
    }

    /// How many bytes are here.
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Ends it, given the hash of what was received.
    pub fn finish(self, actual: BlobHash) -> Result<(), BlobError> {
        match self.size - self.received {
            0 if actual == self.blake3 => Ok(()),
            0 => Err(BlobError::WrongContent),
            missing => Err(BlobError::Short { missing }),
        }
    }
}

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
    fn paths_that_leave_or_break_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "C:/x",
            "a\\b",
            "nul",
            "NUL.txt",
            "com1",
            "a\0b",
            "a\nb",
            "x.",
            "x ",
            "con .txt",
        ] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new("x".repeat(4096)).is_err());
        for good in ["a", "models/r.n=1/best.ckpt", "ä/ö", "com10", "...a", "a b/c"] {
            assert!(RelPath::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn manifests_are_bounded_and_free_of_collisions() {
        assert!(Manifest::new(vec![entry("a", 1), entry("A", 1)], 10).is_err());
        assert!(Manifest::new(vec![entry("a", 1), entry("a/b", 1)], 10).is_err());
        assert!(Manifest::new(vec![entry("a", u64::MAX), entry("b", 1)], u64::MAX).is_err());
        assert!(Manifest::new(vec![entry("a", 6), entry("b", 6)], 10).is_err());
        assert_eq!(
            Manifest::new(vec![entry("a", 6), entry("b/c", 4)], 10).unwrap().total_bytes(),
            10
        );
    }

    #[test]
    fn a_chunk_survives_the_wire_and_damage_does_not() {
        let chunk = Chunk { blob: BlobHash([3; 32]), offset: 9, payload: b"hello" };
        let mut wire = Vec::new();
        chunk.encode(&mut wire);
        assert_eq!(Chunk::decode(&wire), Some(chunk));
        assert_eq!(Chunk::decode(&wire[..40]), None);
        wire[0] = 2;
        assert_eq!(Chunk::decode(&wire), None);
    }

    #[test]
    fn a_blob_takes_its_own_bytes_in_order_and_no_others() {
        let hash = BlobHash([3; 32]);
        let mut blob = IncomingBlob::new(hash, 4);
        let chunk = |blob, offset, payload| Chunk { blob, offset, payload };
        assert_eq!(blob.push(&chunk(BlobHash([4; 32]), 0, b"ab")), Err(ChunkError::NotAsked));
        assert_eq!(blob.push(&chunk(hash, 0, b"ab")), Ok(false));
        let repeated = ChunkError::OutOfPlace { at: 0, due: 2 };
        assert_eq!(blob.push(&chunk(hash, 0, b"ab")), Err(repeated));
        assert_eq!(blob.push(&chunk(hash, 2, b"cde")), Err(ChunkError::BeyondEnd { size: 4 }));
        assert_eq!(blob.push(&chunk(hash, 2, b"cd")), Ok(true));
        assert_eq!(blob.finish(hash), Ok(()));
        assert_eq!(IncomingBlob::new(hash, 4).finish(hash), Err(BlobError::Short { missing: 4 }));
        let other = BlobHash([0; 32]);
        assert_eq!(IncomingBlob::new(hash, 0).finish(other), Err(BlobError::WrongContent));
    }

    proptest! {
        /// Whatever arrives, what was taken is exactly the bytes from 0 on, in order, to `size`.
        #[test]
        fn a_blob_is_never_anything_but_a_prefix(
            size in 0u64..64,
            chunks in proptest::collection::vec((0u64..64, 1usize..16, any::<bool>()), 0..40),
        ) {
            let (ours, theirs) = (BlobHash([1; 32]), BlobHash([2; 32]));
            let mut blob = IncomingBlob::new(ours, size);
            let mut taken = 0;
            for (offset, length, right) in chunks {
                let payload = vec![0; length];
                let hash = if right { ours } else { theirs };
                let chunk = Chunk { blob: hash, offset, payload: &payload };
                if blob.push(&chunk).is_ok() {
                    prop_assert!(right && offset == taken);
                    taken += length as u64;
                }
                prop_assert!(taken <= size && blob.received_bytes() == taken);
            }
            prop_assert_eq!(blob.finish(ours).is_ok(), taken == size);
        }
    }
}
