//! The parts of a manifest that a receiver still lacks, by content.

use super::TransferError;
use super::journal::Written;
use super::storage::PARTIAL;
use sleap_rtc_package::pieces;
use sleap_rtc_protocol::transfer::{BlobHash, FileEntry, Manifest, Piece};
use std::collections::HashMap;

/// A content whose files are incomplete.
#[derive(Debug)]
pub(crate) struct UnfinishedContent {
    pub(crate) blake3: BlobHash,
    /// The files that have this content, by their index in the manifest.
    pub(crate) files: Vec<usize>,
    pub(crate) missing_pieces: usize,
}

/// All pieces of `file`, with their offsets.
pub(crate) fn whole(manifest: &Manifest, file: &FileEntry) -> HashMap<u32, Written> {
    let mut offset = 0;
    let pieces = (0..).zip(manifest.pieces(file)).map(|(number, piece)| {
        let written = Written { piece, offset };
        offset += u64::from(piece.bytes);
        (number, written)
    });
    pieces.collect()
}

/// The contents of a manifest, in its order.
pub(crate) fn contents(manifest: &Manifest) -> Result<Vec<UnfinishedContent>, TransferError> {
    let empty = pieces::hash(b"");
    let mut contents: Vec<UnfinishedContent> = Vec::new();
    let mut known: HashMap<BlobHash, usize> = HashMap::new();
    for (index, file) in manifest.files().iter().enumerate() {
        if file.path.without_case().split('/').next() == Some(PARTIAL) {
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
