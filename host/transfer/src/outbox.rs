//! The chunks of the pieces that a sender has read: they go out in order, one at a time. The link
//! limits how much is under way.

use super::reader::Outgoing;
use super::{Limits, Link, LinkError, Pace, TransferError};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use sleap_rtc_protocol::transfer::{CHUNK_BYTES, CHUNK_HEADER_BYTES, Chunk};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;

/// Pieces that are read and wait to be sent, in order, as chunks.
pub(crate) struct Outbox {
    pieces: VecDeque<Outgoing>,
    /// How much of the first piece has been sent.
    sent_bytes: usize,
    sending: Option<BoxFuture<'static, Result<Result<(), LinkError>, Elapsed>>>,
    idle: Duration,
    pace: Option<Pace>,
    moved_at: Instant,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            pieces: VecDeque::new(),
            sent_bytes: 0,
            sending: None,
            idle: limits.idle,
            pace: limits.pace.clone(),
            moved_at: Instant::now(),
        }
    }

    /// Whether more pieces may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a chunk is being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// When the last chunk was sent.
    pub(crate) fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// Adds pieces, and begins to send them over `link`.
    pub(crate) fn add<L: Link>(&mut self, pieces: Vec<Outgoing>, link: &L) {
        self.pieces.extend(pieces);
        if self.sending.is_none() {
            self.begin(link);
        }
    }

    /// Waits until the chunk that is being sent has been sent. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost, or took no chunk for too long.
    pub(crate) async fn sent(&mut self) -> Result<(), TransferError> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let sent = sending.await;
        self.sending = None;
        self.moved_at = Instant::now();
        Ok(sent.map_err(|_| TransferError::Stalled(self.idle))??)
    }

    /// Begins to send the next chunk, if there is one.
    pub(crate) fn begin<L: Link>(&mut self, link: &L) {
        let Some(chunk) = self.next_chunk() else { return };
        let pause = self
            .pace
            .as_ref()
            .map_or(Duration::ZERO, |pace| pace.take(chunk.len(), Instant::now()));
        let sending = link.send_chunk(chunk);
        let idle = self.idle;
        self.sending = Some(Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            tokio::time::timeout(idle, sending).await
        }));
    }

    fn next_chunk(&mut self) -> Option<BytesMut> {
        let Outgoing { piece, packing, bytes } = self.pieces.front()?;
        let end = bytes.len().min(self.sent_bytes + CHUNK_BYTES);
        let chunk = Chunk {
            piece: *piece,
            packing: *packing,
            packed_bytes: bytes.len() as u32,
            offset: self.sent_bytes as u32,
            payload: &bytes[self.sent_bytes..end],
        };
        let mut encoded = BytesMut::with_capacity(chunk.payload.len() + CHUNK_HEADER_BYTES);
        encoded.extend_from_slice(&chunk.header());
        encoded.extend_from_slice(chunk.payload);
        self.sent_bytes = end;
        if end == bytes.len() {
            self.pieces.pop_front();
            self.sent_bytes = 0;
        }
        Some(encoded)
    }
}
