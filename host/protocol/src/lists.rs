//! The lists with which a transfer begins: of the files, of the pieces of long files, and of the pieces
//! that the receiver lacks. Each list takes one frame or more.

use crate::frame::{ENTRIES_PER_FRAME, PIECES_PER_FRAME, TransferFrame};
use crate::transfer::{
    BlobHash, Cuts, FileEntry, MAX_FILES, MAX_PIECE_BYTES, MIN_PIECE_BYTES, Manifest,
    ManifestError, Piece,
};
use std::collections::HashMap;

/// The largest sum of the lengths of all paths in a manifest, in bytes. Bounds memory.
const MAX_PATHS_BYTES: usize = 16 << 20;
/// The largest number of pieces in a manifest, enough for at least 256 GiB. Bounds memory.
const MAX_PIECES: usize = 1 << 20;

const TOO_MANY_PIECES: ListError = ListError::Malformed("there are too many pieces");

/// The frames that list the files of `manifest`, and then the pieces of its long files.
pub fn manifest_frames(manifest: &Manifest) -> impl Iterator<Item = TransferFrame> {
    files_frames(manifest).chain(pieces_frames(manifest))
}

fn files_frames(manifest: &Manifest) -> impl Iterator<Item = TransferFrame> {
    let files = manifest.files();
    let frames = files.len().div_ceil(ENTRIES_PER_FRAME).max(1);
    (1..=frames).map(move |number| {
        let from = (number - 1) * ENTRIES_PER_FRAME;
        let to = files.len().min(number * ENTRIES_PER_FRAME);
        TransferFrame::Manifest { files: files[from..to].to_vec(), more: number < frames }
    })
}

fn pieces_frames(manifest: &Manifest) -> impl Iterator<Item = TransferFrame> {
    manifest.cuts().iter().flat_map(|(of, pieces)| {
        let frames = pieces.len().div_ceil(PIECES_PER_FRAME);
        pieces.chunks(PIECES_PER_FRAME).enumerate().map(move |(index, some)| {
            TransferFrame::Pieces { of: *of, pieces: some.to_vec(), more: index + 1 < frames }
        })
    })
}

/// The frames that request `wants`.
pub fn want_frames(wants: &[BlobHash]) -> impl Iterator<Item = TransferFrame> {
    let frames = wants.len().div_ceil(PIECES_PER_FRAME);
    wants.chunks(PIECES_PER_FRAME).enumerate().map(move |(index, some)| TransferFrame::Want {
        pieces: some.to_vec(),
        more: index + 1 < frames,
    })
}

/// Why the lists of a sender are rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The files are not accepted.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The frames are not those of a list.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The lists of a sender, as they arrive.
#[derive(Debug)]
pub struct IncomingLists {
    limit_bytes: u64,
    files: Vec<FileEntry>,
    paths_bytes: usize,
    /// The sizes of the long files whose pieces are not listed yet. `None` until all files are.
    awaited: Option<HashMap<BlobHash, u64>>,
    partial: Vec<Piece>,
    pieces_left: usize,
    cuts: Cuts,
}

impl IncomingLists {
    /// Nothing has arrived yet. The files may add up to `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            files: Vec::new(),
            paths_bytes: 0,
            awaited: None,
            partial: Vec::new(),
            pieces_left: MAX_PIECES,
            cuts: Cuts::new(),
        }
    }

    /// Takes the next frame. Returns the manifest once it is complete.
    ///
    /// # Errors
    /// The frame is not the next one of a list, or the files are not accepted.
    pub fn take(&mut self, frame: TransferFrame) -> Result<Option<Manifest>, ListError> {
        match (&mut self.awaited, frame) {
            (None, TransferFrame::Manifest { files, more }) => self.add_files(files, more)?,
            (Some(_), TransferFrame::Pieces { of, pieces, more }) => {
                self.add_pieces(of, pieces, more)?;
            }
            (None, _) => {
                let why = "the transfer does not begin with the list of files";
                return Err(ListError::Malformed(why));
            }
            (Some(_), _) => {
                return Err(ListError::Malformed("the pieces of a long file are not listed"));
            }
        }
        if self.awaited.as_ref().is_none_or(|awaited| !awaited.is_empty()) {
            return Ok(None);
        }
        let (files, cuts) = (std::mem::take(&mut self.files), std::mem::take(&mut self.cuts));
        Ok(Some(Manifest::new(files, cuts, self.limit_bytes)?))
    }

    fn add_files(&mut self, some: Vec<FileEntry>, more: bool) -> Result<(), ListError> {
        self.paths_bytes += some.iter().map(|file| file.path.as_str().len()).sum::<usize>();
        if self.files.len() + some.len() > MAX_FILES || self.paths_bytes > MAX_PATHS_BYTES {
            return Err(ManifestError::TooMany.into());
        }
        if more && some.is_empty() {
            return Err(ListError::Malformed("a part of the list of files is empty"));
        }
        self.files.extend(some);
        if !more {
            Manifest::check_files(&self.files, self.limit_bytes)?;
            let cut = self.files.iter().filter(|file| file.is_cut());
            let awaited: HashMap<_, _> = cut.map(|file| (file.blake3, file.size)).collect();
            let fewest = awaited.values().map(|bytes| bytes.div_ceil(u64::from(MAX_PIECE_BYTES)));
            if fewest.fold(0, u64::saturating_add) > MAX_PIECES as u64 {
                return Err(TOO_MANY_PIECES);
            }
            self.awaited = Some(awaited);
        }
        Ok(())
    }

    fn add_pieces(&mut self, of: BlobHash, some: Vec<Piece>, more: bool) -> Result<(), ListError> {
        let Some(awaited) = &mut self.awaited else { return Ok(()) };
        let size = *awaited
            .get(&of)
            .ok_or(ListError::Malformed("the pieces of an unknown file are listed"))?;
        self.pieces_left = self.pieces_left.checked_sub(some.len()).ok_or(TOO_MANY_PIECES)?;
        let is_empty = some.is_empty();
        self.partial.extend(some);
        if is_empty || self.partial.len() as u64 > size / u64::from(MIN_PIECE_BYTES) + 1 {
            return Err(ListError::Malformed("there are too many pieces, or none"));
        }
        if !more {
            awaited.remove(&of);
            self.cuts.insert(of, std::mem::take(&mut self.partial));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use proptest::prelude::*;

    /// A manifest of short and long files.
    fn manifest(short: usize, long: &[usize]) -> Manifest {
        let hash = |kind: u8, number: usize| {
            let mut bytes = [kind; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            BlobHash(bytes)
        };
        let entry = |name: String, size: u64, blake3| FileEntry {
            path: RelPath::new(name).unwrap(),
            size,
            blake3,
            executable: false,
        };
        let mut files: Vec<_> =
            (0..short).map(|n| entry(format!("short/{n}"), 7, hash(1, n))).collect();
        let mut cuts = Cuts::new();
        for (number, count) in long.iter().enumerate() {
            let bytes = 1 << 20;
            let pieces: Vec<_> = (0..*count)
                .map(|piece| Piece { blake3: hash(2, number << 32 | piece), bytes })
                .collect();
            let size = *count as u64 * u64::from(bytes);
            files.push(entry(format!("long/{number}"), size, hash(3, number)));
            cuts.insert(hash(3, number), pieces);
        }
        Manifest::new(files, cuts, u64::MAX).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_listed_arrives(
            short in 0..100usize,
            long in prop::collection::vec(3..1_500usize, 0..4),
        ) {
            let sent = manifest(short, &long);
            let mut lists = IncomingLists::new(u64::MAX);
            let mut arrived = None;
            for frame in manifest_frames(&sent) {
                prop_assert!(arrived.is_none(), "the lists end before the last frame");
                arrived = lists.take(frame).unwrap();
            }
            prop_assert_eq!(arrived, Some(sent));
        }
    }

    #[test]
    fn other_frames_are_no_lists() {
        let sent = manifest(1, &[3]);
        let frames: Vec<_> = manifest_frames(&sent).collect();
        let [files, pieces] = &frames[..] else { panic!("{frames:?}") };
        let begun = || {
            let mut lists = IncomingLists::new(u64::MAX);
            lists.take(files.clone()).unwrap();
            lists
        };
        assert!(IncomingLists::new(u64::MAX).take(pieces.clone()).is_err());
        assert!(begun().take(files.clone()).is_err());
        assert!(begun().take(TransferFrame::Complete).is_err());
        assert!(IncomingLists::new(10).take(files.clone()).is_err());
        let unknown = TransferFrame::Pieces { of: BlobHash([9; 32]), pieces: vec![], more: true };
        assert!(begun().take(unknown).is_err());
    }
}
