//! Divides long files into pieces, and hashes them.

use fastcdc::v2020::FastCDC;
use sleap_rtc_protocol::transfer::{BlobHash, MAX_PIECE_BYTES, MIN_PIECE_BYTES, Piece};
use std::io::{self, Read};

/// The shortest piece that this program cuts. Skipping these bytes saves time. With a larger minimum,
/// two versions of a file would take longer to have cuts at the same places again after a change.
const MIN_CUT_BYTES: usize = 512 << 10;
/// FastCDC's target. Together with the minimum, pieces have 768 KiB on average. A change in a file
/// replaces about two pieces, and each piece takes about 100 bytes in the list of pieces.
const TARGET_PIECE_BYTES: usize = 512 << 10;
const _: () = assert!(MIN_CUT_BYTES >= MIN_PIECE_BYTES as usize);
/// The buffer for cutting a file, in bytes. Holds several pieces, so that little data is moved.
const CUT_BYTES: usize = 4 << 20;

/// The hash of a content, and its pieces if it has several.
pub type Hashed = (BlobHash, Vec<Piece>);

/// The BLAKE3 hash of `bytes`.
pub fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}

/// Whether `bytes` are those of `piece`. Whatever arrives from elsewhere, or lay on a disk, is checked here.
pub fn is_piece(piece: Piece, bytes: &[u8]) -> bool {
    bytes.len() == piece.bytes as usize && hash(bytes) == piece.blake3
}

/// The content hash of a file with these pieces.
pub fn content(pieces: &[Piece]) -> BlobHash {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(&piece.blake3.0);
    }
    BlobHash(*hasher.finalize().as_bytes())
}

/// Reads a file of `size` bytes to its end. Returns its content hash, and its pieces if it has
/// several.
///
/// # Errors
///
/// Fails if `reader` fails.
pub fn cut(mut reader: impl Read, size: u64) -> io::Result<Hashed> {
    if size <= u64::from(MAX_PIECE_BYTES) {
        let mut bytes = Vec::with_capacity(size as usize);
        reader.read_to_end(&mut bytes)?;
        return Ok((hash(&bytes), Vec::new()));
    }
    let (least, most) = (MIN_CUT_BYTES, MAX_PIECE_BYTES as usize);
    let (mut pieces, mut buffer) = (Vec::new(), Vec::with_capacity(CUT_BYTES));
    loop {
        let room = CUT_BYTES - buffer.len();
        reader.by_ref().take(room as u64).read_to_end(&mut buffer)?;
        let is_end = buffer.len() < CUT_BYTES;
        let (cuts, mut at) = (FastCDC::new(&buffer, least, TARGET_PIECE_BYTES, most), 0);
        while buffer.len() - at >= most || (is_end && at < buffer.len()) {
            let (_, end) = cuts.cut(at, buffer.len() - at);
            let bytes = (end - at) as u32;
            pieces.push(Piece { blake3: hash(&buffer[at..end]), bytes });
            at = end;
        }
        if is_end {
            return Ok((content(&pieces), pieces));
        }
        buffer.drain(..at);
    }
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
    fn a_change_in_the_middle_keeps_most_pieces() {
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
}
