//! Packs pieces for the network, and unpacks and verifies them.

use sleap_rtc_package::pieces::is_piece;
use sleap_rtc_protocol::transfer::{Packing, Piece};
use zstd::bulk::Compressor;

/// How many bytes of a piece are compressed to find out whether compression pays.
const SAMPLE_BYTES: usize = 32 << 10;
/// Shorter pieces are not compressed.
const LEAST_BYTES: usize = 512;
/// The fastest level, so that compression does not slow down fast links.
const LEVEL: i32 = 1;

/// Compresses pieces where that saves space. Reuses its working memory.
pub(crate) struct Packer(Option<Compressor<'static>>);

impl Packer {
    pub(crate) fn new() -> Self {
        Self(Compressor::new(LEVEL).ok())
    }

    /// Packs a piece for sending.
    pub(crate) fn pack(&mut self, bytes: Vec<u8>) -> (Packing, Vec<u8>) {
        let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
        if bytes.len() < LEAST_BYTES || self.shrink(sample).is_none() {
            return (Packing::Plain, bytes);
        }
        match self.shrink(&bytes) {
            Some(packed) => (Packing::Zstd, packed),
            None => (Packing::Plain, bytes),
        }
    }

    fn shrink(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let packed = self.0.as_mut()?.compress(bytes).ok()?;
        (packed.len() < bytes.len() / 10 * 9).then_some(packed)
    }
}

/// Unpacks the received bytes of `piece`. Returns `None` if they do not match its hash.
pub(crate) fn unpack_verified(piece: Piece, packing: Packing, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let bytes = match packing {
        Packing::Plain => bytes,
        Packing::Zstd => zstd::bulk::decompress(&bytes, piece.bytes as usize).ok()?,
    };
    is_piece(piece, &bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::testing::noise;
    use super::*;
    use sleap_rtc_package::pieces::hash;

    #[test]
    fn what_shrinks_is_packed_and_what_is_noise_is_not() {
        let text = "epochs: 100\n".repeat(10_000).into_bytes();
        for (bytes, packing) in [(text, Packing::Zstd), (noise(1, 1 << 20), Packing::Plain)] {
            let piece = Piece { blake3: hash(&bytes), bytes: bytes.len() as u32 };
            let (packed_as, packed) = Packer::new().pack(bytes.clone());
            assert_eq!(packed_as, packing);
            assert_eq!(unpack_verified(piece, packing, packed.clone()), Some(bytes));
            let mut wrong = packed.clone();
            wrong[packed.len() / 2] ^= 1;
            assert_eq!(unpack_verified(piece, packing, wrong), None);
            // Unpacking stops as soon as a piece exceeds its announced length.
            assert_eq!(unpack_verified(Piece { bytes: 10, ..piece }, packing, packed), None);
        }
    }
}
