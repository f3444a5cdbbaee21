//! Which pieces of a result are requested next, so that only so many are under way that the browser's
//! memory holds them: they arrive faster than a disk may take them.

use sleap_rtc_protocol::transfer::{BlobHash, Piece};
use std::collections::{HashMap, VecDeque};

/// At most this much is requested and has not reached the disk, in bytes.
const WINDOW_BYTES: u64 = 64 << 20;

/// The pieces of a result that are not there yet.
#[derive(Debug, Default)]
pub struct Window {
    not_requested: VecDeque<Piece>,
    under_way: HashMap<BlobHash, u64>,
    under_way_bytes: u64,
}

impl Window {
    /// All of `missing` are to be requested, in this order.
    pub fn new(missing: impl IntoIterator<Item = Piece>) -> Self {
        Self { not_requested: missing.into_iter().collect(), ..Self::default() }
    }

    /// The pieces to request now. None as long as half of what may be under way is.
    pub fn request(&mut self) -> Vec<BlobHash> {
        let mut pieces = Vec::new();
        if self.under_way_bytes > WINDOW_BYTES / 2 {
            return pieces;
        }
        while let Some(piece) = self.not_requested.front() {
            let bytes = u64::from(piece.bytes);
            if self.under_way_bytes + bytes > WINDOW_BYTES {
                break;
            }
            self.under_way_bytes += bytes;
            self.under_way.insert(piece.blake3, bytes);
            pieces.push(piece.blake3);
            self.not_requested.pop_front();
        }
        pieces
    }

    /// Whether `piece` is under way.
    pub fn is_requested(&self, piece: &BlobHash) -> bool {
        self.under_way.contains_key(piece)
    }

    /// `piece` has reached the disk, or nothing more can be done for it.
    pub fn reached(&mut self, piece: &BlobHash) {
        self.under_way_bytes -= self.under_way.remove(piece).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1 << 20;

    fn piece(number: u16) -> Piece {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        Piece { blake3: BlobHash(hash), bytes: 2 * MIB }
    }

    #[test]
    fn no_more_is_under_way_than_the_memory_holds() {
        let mut window = Window::new((0..100).map(piece));
        let first = window.request();
        assert_eq!(first.len(), 32);
        assert_eq!(window.request(), []);
        assert!(window.is_requested(&first[0]) && !window.is_requested(&piece(32).blake3));
        // More is requested once half of it has reached the disk, and in the order of the list.
        first[..15].iter().for_each(|piece| window.reached(piece));
        assert_eq!(window.request(), []);
        window.reached(&first[15]);
        window.reached(&first[15]);
        let next: Vec<BlobHash> = (32..48).map(|number| piece(number).blake3).collect();
        assert_eq!(window.request(), next);
    }

    #[test]
    fn everything_is_requested_in_the_end() {
        let mut window = Window::new((0..100).map(piece));
        let mut requested = Vec::new();
        loop {
            let some = window.request();
            if some.is_empty() {
                break;
            }
            some.iter().for_each(|piece| window.reached(piece));
            requested.extend(some);
        }
        assert_eq!(requested, (0..100).map(|number| piece(number).blake3).collect::<Vec<_>>());
        assert_eq!(window.under_way_bytes, 0);
    }
}
