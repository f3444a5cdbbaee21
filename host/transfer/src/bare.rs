//! Both ends of a transfer without files: what whole transfers are measured against.

use super::lane::LaneLost;
use super::link::send_frame;
use super::reader::Outgoing;
use super::steering::LaneCount;
use super::striping::Striping;
use super::{Incoming, Limits, Link, LinkError, TransferError};
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::transfer::{BlobHash, CHUNK_BYTES, Chunk, Packing};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// As long as the pieces of a large file are on average.
const PIECE_BYTES: usize = 1 << 20;
/// As often as a receiver of files tells.
const TELL_BYTES: u64 = 2 << 20;
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How long the other side may say nothing.
const IDLE: Duration = Duration::from_secs(60);

/// The piece of this number, by a name instead of a hash.
fn name(number: u32) -> BlobHash {
    let mut name = [0; 32];
    name[..4].copy_from_slice(&number.to_le_bytes());
    BlobHash(name)
}

fn number(BlobHash(name): BlobHash) -> u32 {
    u32::from_le_bytes([name[0], name[1], name[2], name[3]])
}

/// Sends `bytes`, in whole pieces, until the other side has them.
pub async fn send<L: Link>(
    link: &mut L,
    bytes: u64,
    lanes: LaneCount,
) -> Result<(), TransferError> {
    let mut striping = Striping::new(link.first_lane(), lanes, &Limits::default());
    striping.keep = true;
    let (total, mut left, mut next, mut done) = (bytes, bytes, 0, 0);
    loop {
        while left > 0 && striping.has_room() {
            let length = left.min(PIECE_BYTES as u64);
            let (piece, packing) = (name(next), Packing::Plain);
            let pieces = vec![Outgoing { piece, packing, bytes: vec![7; length as usize] }];
            striping.add(pieces);
            left -= length;
            next += 1;
        }
        tokio::select! {
            biased;
            incoming = link.next(true) => match incoming? {
                Incoming::Control(TransferFrame::Verified { bytes, pieces, chunks }) => {
                    done = bytes;
                    chunks.iter().for_each(|(piece, chunks)| striping.there(name(*piece), *chunks));
                    pieces.iter().for_each(|piece| striping.has(name(*piece)));
                    if done >= total {
                        break;
                    }
                }
                Incoming::Lane(lane) => striping.add_lane(lane),
                _ => {}
            },
            turned = striping.turn() => {
                turned.map_err(|LaneLost(cause)| TransferError::from(LinkError::Lost(cause)))?;
                if let Some(wanted) = striping.wanted_lanes(total.saturating_sub(done)) {
                    link.want_lanes(wanted).await?;
                }
            }
        }
    }
    send_frame(link, TransferFrame::Complete, IDLE).await?;
    link.close_lanes();
    Ok(())
}

/// Receives until the sender says that this is all. Returns how many bytes came.
pub async fn receive<L: Link>(link: &mut L) -> Result<u64, TransferError> {
    let mut parts: HashMap<BlobHash, (u64, usize)> = HashMap::new();
    let (mut news, mut whole, mut bytes, mut told) = (HashMap::new(), Vec::new(), 0, 0);
    let mut told_at = Instant::now();
    loop {
        let tell_at = told_at + TELL_EVERY;
        let mut is_due = false;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(tell_at.into()) => is_due = true,
            incoming = link.next(true) => match incoming? {
                Incoming::Chunk(frame) => {
                    let chunk = Chunk::decode(&frame);
                    let chunk = chunk.ok_or(TransferError::Protocol("a chunk is malformed"))?;
                    let bit = 1 << (chunk.offset as usize / CHUNK_BYTES);
                    let (here, length) = parts.entry(chunk.piece).or_default();
                    if *here & bit != 0 {
                        continue;
                    }
                    *here |= bit;
                    *length += chunk.payload.len();
                    bytes += chunk.payload.len() as u64;
                    *news.entry(number(chunk.piece)).or_insert(0) |= bit;
                    if *length == chunk.packed_bytes as usize {
                        news.remove(&number(chunk.piece));
                        whole.push(number(chunk.piece));
                    }
                }
                Incoming::Control(TransferFrame::Complete) => {
                    link.close_lanes();
                    return Ok(bytes);
                }
                _ => {}
            },
        }
        if is_due || bytes.abs_diff(told) >= TELL_BYTES {
            (told, told_at) = (bytes, Instant::now());
            let (pieces, chunks) = (std::mem::take(&mut whole), news.drain().collect());
            send_frame(link, TransferFrame::Verified { bytes, pieces, chunks }, IDLE).await?;
        }
    }
}
