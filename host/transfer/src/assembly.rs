//! Pieces whose chunks arrive.

use sleap_rtc_protocol::transfer::{BlobHash, Chunk, IncomingPiece, MAX_PIECE_BYTES};
use std::collections::VecDeque;

/// The most bytes of incomplete pieces, all of them in memory. When more pieces begin, the oldest is
/// dropped and requested again. An honest sender never causes that: it sends one piece after the other.
const MAX_BYTES: usize = 4 * MAX_PIECE_BYTES as usize;

/// Incomplete pieces, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    pieces: VecDeque<(BlobHash, IncomingPiece)>,
    bytes: usize,
}

impl Assembly {
    /// Whether `chunk` has arrived before.
    pub(crate) fn has(&self, chunk: &Chunk<'_>) -> bool {
        self.pieces.iter().any(|(piece, incomplete)| *piece == chunk.piece && incomplete.has(chunk))
    }

    /// Adds a chunk to its piece. Returns the piece once it is complete. `again` gets the
    /// pieces that were dropped for it.
    pub(crate) fn push(
        &mut self,
        chunk: &Chunk<'_>,
        again: &mut Vec<BlobHash>,
    ) -> Option<IncomingPiece> {
        let found = self.pieces.iter().position(|(piece, _)| *piece == chunk.piece);
        let at = found.unwrap_or_else(|| {
            while self.bytes + chunk.packed_bytes as usize > MAX_BYTES
                && let Some((displaced, incomplete)) = self.pieces.pop_front()
            {
                self.bytes -= incomplete.bytes();
                again.push(displaced);
            }
            self.bytes += chunk.packed_bytes as usize;
            self.pieces.push_back((chunk.piece, IncomingPiece::of(chunk)));
            self.pieces.len() - 1
        });
        let (_, piece) = self.pieces.get_mut(at)?;
        if !piece.push(chunk) {
            return None;
        }
        let (_, piece) = self.pieces.remove(at)?;
        self.bytes -= piece.bytes();
        Some(piece)
    }
}
