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
/// of the first piece is late. A line of 1 Gbit holds 10 MB in 80 ms.
pub(crate) const WINDOW_BYTES: usize = 10 << 20;

/// A lane, by the order of coming.
pub(crate) type LaneId = u32;
/// The link's own connection.
pub(crate) const FIRST: LaneId = 0;

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
pub(crate) struct Flight {
    pieces: BTreeMap<u64, Flying>,
    numbers: HashMap<BlobHash, u64>,
    next: u64,
    bytes: usize,
    /// Chunks to give out, the oldest piece first.
    waiting: BTreeSet<At>,
}

impl Flight {
    /// Whether another piece may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Begins a piece, or begins it anew.
    pub(crate) fn add(&mut self, piece: Outgoing) {
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
    pub(crate) fn drop_piece(&mut self, piece: BlobHash) {
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
    pub(crate) fn there(&mut self, piece: BlobHash, chunks: u64) {
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
    pub(crate) fn give(&mut self, lane: LaneId, now: Instant, keep: bool) -> Option<BytesMut> {
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
    pub(crate) fn lane_lost(&mut self, lane: LaneId) -> usize {
        self.again(|given| given.lane == lane)
    }

    /// What was given to some other lane than `lane` longer than `patience` ago is to be given out
    /// again. Says how many chunks that is.
    pub(crate) fn overdue(&mut self, lane: LaneId, now: Instant, patience: Duration) -> usize {
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
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sleap_rtc_protocol::transfer::{IncomingPiece, Packing};

    const PATIENCE: Duration = Duration::from_millis(400);

    fn piece(name: u8, chunks: usize) -> Outgoing {
        let bytes = (0..chunks * CHUNK_BYTES - 7).map(|at| (at / 1000) as u8 ^ name).collect();
        Outgoing { piece: BlobHash([name; 32]), packing: Packing::Plain, bytes }
    }

    fn offsets(flight: &mut Flight, lane: LaneId, now: Instant) -> Vec<(u8, u32)> {
        let given = std::iter::from_fn(|| flight.give(lane, now, true));
        let place = |frame: BytesMut| {
            let chunk = Chunk::decode(&frame).unwrap();
            (chunk.piece.0[0], chunk.offset / CHUNK_BYTES as u32)
        };
        given.map(place).collect()
    }

    #[test]
    fn what_a_lost_lane_had_goes_out_again_and_nothing_else() {
        let (mut flight, now) = (Flight::default(), Instant::now());
        flight.add(piece(1, 4));
        for lane in [1, 2, 1, 2] {
            assert!(flight.give(lane, now, true).is_some());
        }
        flight.there(BlobHash([1; 32]), 0b0001);
        // Lane 1 had chunks 0 and 2, and 0 is there.
        assert_eq!(flight.lane_lost(1), 1);
        assert_eq!(offsets(&mut flight, 2, now), [(1, 2)]);
        assert_eq!(flight.lane_lost(1), 0);
    }

    #[test]
    fn what_is_long_in_coming_goes_over_another_lane() {
        let (mut flight, now) = (Flight::default(), Instant::now());
        flight.add(piece(1, 2));
        assert_eq!(offsets(&mut flight, 1, now), [(1, 0), (1, 1)]);
        let later = now + PATIENCE;
        assert_eq!(flight.overdue(2, later - Duration::from_millis(1), PATIENCE), 0);
        assert_eq!(flight.overdue(1, later, PATIENCE), 0, "its own lane is no other");
        flight.there(BlobHash([1; 32]), 0b10);
        assert_eq!(flight.overdue(2, later, PATIENCE), 1);
        assert_eq!(offsets(&mut flight, 2, later), [(1, 0)]);
        assert_eq!(flight.overdue(1, later, PATIENCE), 0, "it has just been sent");
    }

    #[test]
    fn a_piece_that_is_wanted_again_begins_anew() {
        let (mut flight, now) = (Flight::default(), Instant::now());
        flight.add(piece(1, 2));
        flight.there(BlobHash([1; 32]), 0b01);
        flight.add(piece(1, 2));
        assert_eq!(offsets(&mut flight, 1, now), [(1, 0), (1, 1)]);
        flight.drop_piece(BlobHash([1; 32]));
        assert!(flight.is_empty() && flight.bytes == 0 && !flight.has_waiting());
    }

    #[test]
    fn the_window_is_bounded_and_not_filled_where_nothing_is_told() {
        let (mut flight, now) = (Flight::default(), Instant::now());
        let mut names = 0..=u8::MAX;
        while flight.has_room() {
            flight.add(piece(names.next().unwrap(), 16));
        }
        assert!(flight.bytes <= WINDOW_BYTES + (1 << 20));
        while flight.give(0, now, false).is_some() {}
        assert!(flight.is_empty() && flight.has_room());
    }

    proptest! {
        /// Whatever lanes are lost and however late they are, everything arrives in the end, and
        /// the pieces are what they were.
        #[test]
        fn everything_arrives_whatever_lanes_do(
            sizes in prop::collection::vec(1..20usize, 1..8),
            fates in prop::collection::vec((0..4u32, 0..8u8), 0..200),
        ) {
            let (mut flight, mut now) = (Flight::default(), Instant::now());
            let sent: Vec<Outgoing> =
                sizes.iter().zip(1..).map(|(chunks, name)| piece(name, *chunks)).collect();
            for (size, name) in sizes.iter().zip(1..) {
                flight.add(piece(name, *size));
            }
            let mut arrived: HashMap<BlobHash, IncomingPiece> = HashMap::new();
            let mut whole = HashMap::new();
            let mut fates = fates.into_iter();
            for turn in 0.. {
                prop_assert!(turn < 2_000, "it never ends");
                let (lane, fate) = fates.next().unwrap_or((9, 7));
                now += Duration::from_millis(50);
                if fate == 0 {
                    flight.lane_lost(lane);
                }
                flight.overdue(lane, now, PATIENCE);
                let Some(frame) = flight.give(lane, now, true) else {
                    if flight.is_empty() { break } else { continue }
                };
                // Some fates lose it, all later ones deliver it.
                if fate < 3 { continue }
                let chunk = Chunk::decode(&frame).unwrap();
                let piece =
                    arrived.entry(chunk.piece).or_insert_with(|| IncomingPiece::of(&chunk));
                flight.there(chunk.piece, 1 << (chunk.offset as usize / CHUNK_BYTES));
                if piece.push(&chunk) && let Some(piece) = arrived.remove(&chunk.piece) {
                    whole.insert(chunk.piece, piece.finish().1);
                    flight.drop_piece(chunk.piece);
                }
                if fates.len() == 0 {
                    // From here on another lane helps at each turn.
                    flight.overdue(lane + turn as u32, now + PATIENCE * 2, PATIENCE);
                }
            }
            for piece in sent {
                prop_assert!(whole.get(&piece.piece) == Some(&piece.bytes));
            }
        }
    }
}
