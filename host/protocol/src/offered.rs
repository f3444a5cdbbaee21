//! What the sender of files knows of the receiver: the pieces that it has requested, and what it has confirmed.

use crate::meter::Progress;
use crate::transfer::{BlobHash, Manifest};
use std::collections::HashMap;

/// How often one piece may be requested: again if it was displaced by others or arrived damaged.
const MAX_REQUESTS: u8 = 4;

/// A receiver requested a piece that it must not request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request for a piece that does not exist, or for one piece too often")]
pub struct WrongRequest;

/// The pieces of a manifest, which the receiver may request.
#[derive(Debug)]
pub struct Offered {
    pieces: HashMap<BlobHash, OfferedPiece>,
    /// A list of requested pieces of which more frames follow.
    partial_list: Vec<BlobHash>,
    has_first_list: bool,
    progress: Progress,
}

#[derive(Debug, Default)]
struct OfferedPiece {
    /// Its length times the number of its places in the manifest.
    bytes: u64,
    /// How often it has been requested.
    requests: u8,
}

impl Offered {
    /// All pieces of `manifest`.
    pub fn new(manifest: &Manifest) -> Self {
        let mut pieces: HashMap<_, OfferedPiece> = HashMap::new();
        for piece in manifest.files().iter().flat_map(|file| manifest.pieces(file)) {
            pieces.entry(piece.blake3).or_default().bytes += u64::from(piece.bytes);
        }
        let progress = Progress { total_bytes: manifest.total_bytes(), ..Progress::default() };
        Self { pieces, partial_list: Vec::new(), has_first_list: false, progress }
    }

    /// Takes a list of requested pieces, or a part of one if `more` follow. Returns a list that is complete.
    ///
    /// # Errors
    /// The receiver must not request one of them.
    pub fn want(
        &mut self,
        wants: Vec<BlobHash>,
        more: bool,
    ) -> Result<Option<Vec<BlobHash>>, WrongRequest> {
        for want in &wants {
            let piece = self.pieces.get_mut(want).filter(|piece| piece.requests < MAX_REQUESTS);
            piece.ok_or(WrongRequest)?.requests += 1;
        }
        self.partial_list.extend(wants);
        if more {
            return Ok(None);
        }
        let list = std::mem::take(&mut self.partial_list);
        if !self.has_first_list {
            self.has_first_list = true;
            let lacking = list.iter().filter_map(|want| Some(self.pieces.get(want)?.bytes));
            let there = self.progress.total_bytes.saturating_sub(lacking.sum());
            self.progress.already_there_bytes = there;
        }
        Ok(Some(list))
    }

    /// The receiver has verified this much.
    pub fn confirm(&mut self, bytes: u64) -> Progress {
        self.progress.done_bytes = bytes.min(self.progress.total_bytes);
        if !self.has_first_list {
            // It had this content before it requested anything.
            self.progress.already_there_bytes = self.progress.done_bytes;
        }
        self.progress
    }

    /// The receiver has everything.
    pub fn confirm_all(&mut self) -> Progress {
        self.confirm(self.progress.total_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::transfer::{Cuts, FileEntry};

    #[test]
    fn a_piece_counts_for_each_of_its_places_and_may_be_requested_four_times() {
        let (one, two) = (BlobHash([1; 32]), BlobHash([2; 32]));
        let entry = |path: &str, size, blake3| {
            let path = RelPath::new(path).unwrap();
            FileEntry { path, size, blake3, executable: false }
        };
        let files = vec![entry("a", 10, one), entry("b", 10, one), entry("c", 5, two)];
        let mut offered = Offered::new(&Manifest::new(files, Cuts::new(), u64::MAX).unwrap());
        assert_eq!(offered.confirm(3).already_there_bytes, 3);
        assert_eq!(offered.want(vec![one], true), Ok(None));
        assert_eq!(offered.want(Vec::new(), false), Ok(Some(vec![one])));
        let expected = Progress { done_bytes: 7, total_bytes: 25, already_there_bytes: 5 };
        assert_eq!(offered.confirm(7), expected);
        for _ in 0..3 {
            assert_eq!(offered.want(vec![one], false), Ok(Some(vec![one])));
        }
        assert_eq!(offered.want(vec![one], false), Err(WrongRequest));
        assert_eq!(offered.want(vec![BlobHash([3; 32])], false), Err(WrongRequest));
        assert_eq!(offered.confirm_all().done_bytes, 25);
    }
}
