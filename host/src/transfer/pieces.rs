//! Pieces: where long files are cut, how a piece is packed, and what proves it right.

use fastcdc::v2020::{Error, StreamCDC};
use sleap_rtc_protocol::transfer::{BlobHash, MAX_PIECE_BYTES, MIN_PIECE_BYTES, Packing, Piece};
use std::io::{self, Read};

/// What a cut piece has on average, in bytes. A change costs about two of them; each costs some 100
/// bytes in the list of pieces.
const AVERAGE_PIECE_BYTES: usize = 1 << 20;
/// How much of a piece is compressed to see whether it shrinks.
const SAMPLE_BYTES: usize = 64 << 10;
/// Below this length nothing is worth compressing.
const LEAST_BYTES: usize = 512;
/// The quickest level: on fast links the network must not wait for it.
const LEVEL: i32 = 1;

/// The hash of `bytes`.
pub(super) fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}

/// The content of a file that has these pieces.
pub(super) fn content(pieces: &[Piece]) -> BlobHash {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(&piece.blake3.0);
    }
    BlobHash(*hasher.finalize().as_bytes())
}

/// Reads a file of `size` bytes to its end. Returns its content, and its pieces where it has
/// several.
pub(super) fn cut(mut reader: impl Read, size: u64) -> io::Result<(BlobHash, Vec<Piece>)> {
    if size <= u64::from(MAX_PIECE_BYTES) {
        let mut bytes = Vec::with_capacity(size as usize);
        reader.read_to_end(&mut bytes)?;
        return Ok((hash(&bytes), Vec::new()));
    }
    let (least, most) = (MIN_PIECE_BYTES as usize, MAX_PIECE_BYTES as usize);
    let cuts = StreamCDC::new(reader, least, AVERAGE_PIECE_BYTES, most);
    let piece = |cut: Result<fastcdc::v2020::ChunkData, Error>| match cut {
        Ok(cut) => Ok(Piece { blake3: hash(&cut.data), bytes: cut.length as u32 }),
        Err(Error::IoError(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
    };
    let pieces = cuts.map(piece).collect::<io::Result<Vec<_>>>()?;
    Ok((content(&pieces), pieces))
}

/// Compresses a piece when it shrinks.
pub(super) fn pack(bytes: Vec<u8>) -> (Packing, Vec<u8>) {
    let shrinks = |bytes: &[u8]| {
        let packed = zstd::bulk::compress(bytes, LEVEL).ok()?;
        (packed.len() < bytes.len() / 10 * 9).then_some(packed)
    };
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    if bytes.len() < LEAST_BYTES || shrinks(sample).is_none() {
        return (Packing::Plain, bytes);
    }
    match shrinks(&bytes) {
        Some(packed) => (Packing::Zstd, packed),
        None => (Packing::Plain, bytes),
    }
}

/// The bytes of `piece`, if that is what arrived.
pub(super) fn unpack(piece: Piece, packing: Packing, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let bytes = match packing {
        Packing::Plain => bytes,
        Packing::Zstd => zstd::bulk::decompress(&bytes, piece.bytes as usize).ok()?,
    };
    (bytes.len() == piece.bytes as usize && hash(&bytes) == piece.blake3).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::HashSet;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        StdRng::seed_from_u64(length as u64).fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn a_change_in_the_middle_leaves_most_pieces_as_they_were() {
        let before = noise(64 << 20);
        let (at, mut after) = (30 << 20, before.clone());
        after.splice(at..at, *b"some new frames");
        let cut = |bytes: &[u8]| cut(bytes, bytes.len() as u64).unwrap();
        let ((one, old), (other, new)) = (cut(&before), cut(&after));
        assert_ne!(one, other);
        let old: HashSet<_> = old.into_iter().collect();
        let changed: u32 = new.iter().filter(|p| !old.contains(p)).map(|p| p.bytes).sum();
        println!("{changed} of {} bytes are new", after.len());
        assert!(changed <= 2 * MAX_PIECE_BYTES);
        assert_eq!(new.iter().map(|p| p.bytes as usize).sum::<usize>(), after.len());
    }

    #[test]
    fn a_short_file_is_one_piece() {
        for length in [0, 1, MAX_PIECE_BYTES as usize] {
            let bytes = noise(length);
            assert_eq!(cut(&*bytes, length as u64).unwrap(), (hash(&bytes), vec![]));
        }
    }

    #[test]
    fn what_shrinks_is_packed_and_what_is_noise_is_not() {
        let text = "epochs: 100\n".repeat(10_000).into_bytes();
        for (bytes, packing) in [(text, Packing::Zstd), (noise(1 << 20), Packing::Plain)] {
            let piece = Piece { blake3: hash(&bytes), bytes: bytes.len() as u32 };
            let (packed_as, packed) = pack(bytes.clone());
            assert_eq!(packed_as, packing);
            assert_eq!(unpack(piece, packing, packed.clone()), Some(bytes));
            let mut wrong = packed.clone();
            wrong[packed.len() / 2] ^= 1;
            assert_eq!(unpack(piece, packing, wrong), None);
            // What grows beyond its announced length is not even unpacked to its end.
            assert_eq!(unpack(Piece { bytes: 10, ..piece }, packing, packed), None);
        }
    }
}
