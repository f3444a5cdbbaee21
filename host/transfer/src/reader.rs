//! The blocking half of a sender: reads pieces and packs them.

use super::archive::{ArchiveError, Package};
use super::listing::{Content, Listing, Member};
use super::pieces::{self, Packer};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sleap_rtc_protocol::transfer::{BlobHash, Packing, Piece};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Small pieces are delivered in batches of about this many bytes.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// A piece as it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) piece: BlobHash,
    pub(super) packing: Packing,
    pub(super) bytes: Vec<u8>,
}

/// What the reading thread delivers.
pub(super) type Batch = Result<Vec<Outgoing>, ArchiveError>;

/// The location of a piece in the package.
#[derive(Debug, Clone, Copy)]
struct PieceLocation {
    member: usize,
    offset: u64,
    piece: Piece,
}

/// Reads requested pieces, in the order of the requests. Ends when one of the channels closes.
pub(super) fn read_pieces(
    package: &Package,
    mut wanted: mpsc::Receiver<Vec<BlobHash>>,
    batches: &mpsc::Sender<Batch>,
) {
    let places = places(package);
    let mut reading = Reading { source: package.listing(), open: None };
    let (mut sent, mut packer) = (HashSet::new(), Packer::new());
    while let Some(list) = wanted.blocking_recv() {
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        // The sender has rejected pieces that the manifest does not list.
        for place in list.iter().filter_map(|piece| places.get(piece)) {
            let is_repeated = !sent.insert(place.piece.blake3);
            let bytes = match reading.read(place, is_repeated) {
                Ok(bytes) => bytes,
                Err(error) => {
                    // On failure, the transfer has already ended.
                    let _ = batches.blocking_send(Err(error));
                    return;
                }
            };
            let (packing, bytes) = packer.pack(bytes);
            batch_bytes += bytes.len();
            batch.push(Outgoing { piece: place.piece.blake3, packing, bytes });
            if batch_bytes >= BATCH_BYTES {
                batch_bytes = 0;
                if batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                    return;
                }
            }
        }
        if batches.blocking_send(Ok(batch)).is_err() {
            return;
        }
    }
}

fn places(package: &Package) -> HashMap<BlobHash, PieceLocation> {
    let manifest = package.manifest();
    let mut places = HashMap::new();
    for (member, file) in manifest.files().iter().enumerate() {
        let mut offset = 0;
        for piece in manifest.pieces(file) {
            places.entry(piece.blake3).or_insert(PieceLocation { member, offset, piece });
            offset += u64::from(piece.bytes);
        }
    }
    places
}

/// Keeps the file of the last piece open, so that reading its next piece needs no search.
struct Reading<'a> {
    source: &'a Listing,
    open: Option<Open>,
}

struct Open {
    member: usize,
    bytes: Bytes,
}

enum Bytes {
    /// Supports random access.
    File(File),
    /// Can only be read forward. The number is the current position.
    Stream(Box<dyn Read + Send>, u64),
}

impl Reading<'_> {
    /// Reads a piece. Verifies a piece that is requested again, because the file may have changed.
    fn read(&mut self, place: &PieceLocation, is_repeated: bool) -> Result<Vec<u8>, ArchiveError> {
        let member = &self.source.members()[place.member];
        let is_open = self.open.as_ref().is_some_and(|open| {
            let passed = matches!(open.bytes, Bytes::Stream(_, at) if at > place.offset);
            open.member == place.member && !passed
        });
        if !is_open {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => Open { member: place.member, bytes: self.bytes(member)? },
        };
        let open = self.open.insert(open);
        let bytes = open.bytes.read(place.offset, place.piece.bytes as usize);
        let bytes = bytes.map_err(|error| self.source.unreadable(member, error))?;
        if is_repeated && pieces::hash(&bytes) != place.piece.blake3 {
            return Err(ArchiveError::Changed { path: member.path.to_string() });
        }
        Ok(bytes)
    }

    fn bytes(&self, member: &Member) -> Result<Bytes, ArchiveError> {
        match &member.content {
            Content::File(path) => {
                let file = File::open(path).map_err(|cause| ArchiveError::read(path, cause))?;
                match file.metadata() {
                    Ok(there) if there.len() == member.size => Ok(Bytes::File(file)),
                    Ok(_) => Err(ArchiveError::Changed { path: member.path.to_string() }),
                    Err(cause) => Err(ArchiveError::read(path, cause)),
                }
            }
            _ => Ok(Bytes::Stream(self.source.open(member)?, 0)),
        }
    }
}

impl Bytes {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        match self {
            Self::File(file) => {
                while bytes.len() < length {
                    let at = offset + bytes.len() as u64;
                    match rustix::io::pread(&*file, spare_capacity(&mut bytes), at) {
                        // The file has shrunk since it was opened.
                        Ok(0) => return Err(io::ErrorKind::InvalidData.into()),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                bytes.truncate(length);
            }
            Self::Stream(reader, at) => {
                io::copy(&mut reader.take(offset - *at), &mut io::sink())?;
                bytes.resize(length, 0);
                reader.read_exact(&mut bytes)?;
                *at = offset + length as u64;
            }
        }
        Ok(bytes)
    }
}
