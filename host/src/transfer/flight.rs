//! What a sender has under way: pieces that the other side does not have yet, and which lane each
//! of their chunks was given to.
//!
//! No clock and no I/O. Chunks are given out in the order of their pieces, to whichever lane asks.
//! What a lost lane had, and what is long in coming, is given out again; chunks may come twice.

use super::reader::Outgoing;
use bytes::BytesMut;
use sleap_rtc_protocol::transfer::{BlobHash, CHUNK_BYTES, CHUNK_HEADER_BYTES, Chunk};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Bytes of pieces under way, at most: what the receiver may have to keep in memory while one chunk
/// of the first piece is late. More than any line of 1 Gbit holds in 80 ms.
pub(super) const WINDOW_BYTES: usize = 24 << 20;

/// A lane, by the order of coming; 0 is the link's own connection.
pub(super) type LaneId = u32;

/// A chunk's place: the number of its piece, its own in it.
type At = (u64, u8);

#[derive(Debug, Clone, Copy)]
struct Given {
    lane: LaneId,
    when: Instant,
}

#[derive(Debug)]
struct Flying {
    piece: Outgoing,
    /// One for each chunk: to whom it was given last.
    given: Vec<Option<Given>>,
    /// One bit for each chunk that is there.
    there: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pieces: BTreeMap<u64, Flying>,
    numbers: HashMap<BlobHash, u64>,
    next: u64,
    bytes: usize,
    /// Chunks to give out, the oldest piece first.
    waiting: BTreeSet<At>,
}

impl Flight {
    /// Whether another piece may begin.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Begins a piece, or begins it anew.
    pub(super) fn add(&mut self, piece: Outgoing) {
        self.drop_piece(piece.piece);
        let number = self.next;
        self.next += 1;
        let chunks = piece.bytes.len().div_ceil(CHUNK_BYTES);
        self.bytes += piece.bytes.len();
        self.numbers.insert(piece.piece, number);
        self.waiting.extend((0..chunks as u8).map(|chunk| (number, chunk)));
        self.pieces.insert(number, Flying { piece, given: vec![None; chunks], there: 0 });
    }

    /// The other side has all of a piece, or wants it no more.
    pub(super) fn drop_piece(&mut self, piece: BlobHash) {
        let Some(number) = self.numbers.remove(&piece) else { return };
        if let Some(flying) = self.pieces.remove(&number) {
            self.bytes -= flying.piece.bytes.len();
        }
        let of_piece = self.waiting.range((number, 0)..=(number, u8::MAX)).copied();
        for at in of_piece.collect::<Vec<_>>() {
            self.waiting.remove(&at);
        }
    }

    /// The other side has these chunks of a piece: one bit for each.
    pub(super) fn there(&mut self, piece: BlobHash, chunks: u64) {
        let Some(number) = self.numbers.get(&piece) else { return };
        if let Some(flying) = self.pieces.get_mut(number) {
            flying.there |= chunks;
            for chunk in 0..flying.given.len() as u8 {
                if chunks >> chunk & 1 == 1 {
                    self.waiting.remove(&(*number, chunk));
                }
            }
        }
    }

    /// The next chunk for `lane`, encoded. `keep`: whether the piece is to be remembered until the
    /// other side has it.
    pub(super) fn give(&mut self, lane: LaneId, now: Instant, keep: bool) -> Option<BytesMut> {
        let at = self.waiting.pop_first()?;
        let encoded = self.encode(at, lane, now)?;
        let (number, chunk) = at;
        let last = self.pieces.get(&number).filter(|piece| chunk as usize + 1 == piece.given.len());
        if let Some(piece) = last.filter(|_| !keep).map(|flying| flying.piece.piece) {
            self.drop_piece(piece);
        }
        Some(encoded)
    }

    fn encode(&mut self, (number, chunk): At, lane: LaneId, now: Instant) -> Option<BytesMut> {
        let flying = self.pieces.get_mut(&number)?;
        flying.given[chunk as usize] = Some(Given { lane, when: now });
        let Outgoing { piece, packing, bytes } = &flying.piece;
        let offset = chunk as usize * CHUNK_BYTES;
        let payload = &bytes[offset..bytes.len().min(offset + CHUNK_BYTES)];
        let mut frame = BytesMut::with_capacity(payload.len() + CHUNK_HEADER_BYTES);
        let (piece, packing, packed_bytes) = (*piece, *packing, bytes.len() as u32);
        let chunk = Chunk { piece, packing, packed_bytes, offset: offset as u32, payload };
        frame.extend_from_slice(&chunk.header());
        frame.extend_from_slice(payload);
        Some(frame)
    }

    /// A lane has ended: what it had and did not deliver is to be given out again. Says how many
    /// chunks that is.
    pub(super) fn lane_lost(&mut self, lane: LaneId) -> usize {
        self.again(|given| given.lane == lane)
    }

    /// What was given to some other lane than `lane` longer than `patience` ago is to be given out
    /// again. Says how many chunks that is.
    pub(super) fn overdue(&mut self, lane: LaneId, now: Instant, patience: Duration) -> usize {
        self.again(|given| given.lane != lane && given.when + patience <= now)
    }

    fn again(&mut self, is_lost: impl Fn(&Given) -> bool) -> usize {
        let before = self.waiting.len();
        for (number, flying) in &mut self.pieces {
            for (chunk, given) in (0..).zip(&mut flying.given) {
                let there = flying.there >> chunk & 1 == 1;
                if !there && given.as_ref().is_some_and(&is_lost) {
                    *given = None;
                    self.waiting.insert((*number, chunk));
                }
            }
        }
        self.waiting.len() - before
    }

    /// Whether there is a chunk to give out.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}
