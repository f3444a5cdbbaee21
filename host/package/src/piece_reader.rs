//! Reads the pieces of listed files, in any order.

use super::ArchiveError;
use super::listing::Listing;
use super::member::Member;
use super::pieces;
use super::source::ReadSeek;
use sleap_rtc_protocol::transfer::{BlobHash, Manifest, Piece};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::{self, Read, SeekFrom};

/// The location of a piece in a package.
#[derive(Debug, Clone, Copy)]
pub struct PieceLocation {
    /// The position of its file in the list.
    pub member: usize,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// The piece.
    pub piece: Piece,
}

/// Where each piece of `manifest` is first.
pub fn locations(manifest: &Manifest) -> HashMap<BlobHash, PieceLocation> {
    let mut locations = HashMap::new();
    for (member, file) in manifest.files().iter().enumerate() {
        let mut offset = 0;
        for piece in manifest.pieces(file) {
            locations.entry(piece.blake3).or_insert(PieceLocation { member, offset, piece });
            offset += u64::from(piece.bytes);
        }
    }
    locations
}

/// Reads pieces of a list of files, borrowed or shared. Keeps the file of the last piece open, so that its
/// next piece needs no search.
pub struct PieceReader<L> {
    listing: L,
    open: Option<Open>,
}

struct Open {
    member: usize,
    bytes: Bytes,
}

enum Bytes {
    /// Can be read at any position.
    Seekable(Box<dyn ReadSeek>),
    /// Can only be read forward. The number is the current position.
    Stream(Box<dyn Read + Send>, u64),
}

impl<L: Borrow<Listing>> PieceReader<L> {
    /// A reader of the files in `listing`.
    pub fn new(listing: L) -> Self {
        Self { listing, open: None }
    }

    /// Reads the piece at `location`. `verify` compares it with its hash, since the file may have
    /// changed.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or is not what was listed.
    pub fn read(
        &mut self,
        location: &PieceLocation,
        verify: bool,
    ) -> Result<Vec<u8>, ArchiveError> {
        let PieceLocation { member: index, offset, piece } = *location;
        let member = &self.listing.borrow().members()[index];
        let is_open = self.open.as_ref().is_some_and(|open| {
            let passed = matches!(open.bytes, Bytes::Stream(_, at) if at > offset);
            open.member == index && !passed
        });
        if !is_open {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => Open { member: index, bytes: Bytes::open(member)? },
        };
        let open = self.open.insert(open);
        let bytes = open.bytes.read(offset, piece.bytes as usize);
        let bytes = bytes.map_err(|error| member.unreadable(error))?;
        if verify && pieces::hash(&bytes) != piece.blake3 {
            return Err(ArchiveError::Changed { path: member.path.to_string() });
        }
        Ok(bytes)
    }
}

impl Bytes {
    fn open(member: &Member) -> Result<Self, ArchiveError> {
        Ok(match member.open_pieces()? {
            Some(reader) => Self::Seekable(reader),
            None => Self::Stream(member.open()?, 0),
        })
    }

    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        match self {
            Self::Seekable(file) => {
                file.seek(SeekFrom::Start(offset))?;
                file.take(length as u64).read_to_end(&mut bytes)?;
                if bytes.len() < length {
                    // The file has shrunk since it was opened.
                    return Err(io::ErrorKind::InvalidData.into());
                }
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
