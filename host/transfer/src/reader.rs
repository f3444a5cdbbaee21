//! The blocking half of a sender: reads pieces and packs them.

use super::Package;
use super::packer::Packer;
use sleap_rtc_package::{ArchiveError, PieceReader, locations};
use sleap_rtc_protocol::transfer::{BlobHash, Packing};
use std::collections::HashSet;
use tokio::sync::mpsc;

/// Small pieces are delivered in batches of about this many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// A piece as it is sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) piece: BlobHash,
    pub(crate) packing: Packing,
    pub(crate) bytes: Vec<u8>,
}

/// What the reading thread delivers.
pub(crate) type Batch = Result<Vec<Outgoing>, ArchiveError>;

/// Reads requested pieces, in the order of the requests. Ends when one of the channels closes.
pub(crate) fn read_pieces(
    package: &Package,
    mut wanted: mpsc::Receiver<Vec<BlobHash>>,
    batches: &mpsc::Sender<Batch>,
) {
    let places = locations(package.manifest());
    let mut reader = PieceReader::new(package.listing());
    let (mut sent, mut packer) = (HashSet::new(), Packer::new());
    while let Some(list) = wanted.blocking_recv() {
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        // The sender has rejected pieces that the manifest does not list.
        for place in list.iter().filter_map(|piece| places.get(piece)) {
            let is_repeated = !sent.insert(place.piece.blake3);
            // The file may have changed since the piece was sent before.
            let bytes = match reader.read(place, is_repeated) {
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
