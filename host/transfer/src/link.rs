//! What a transfer needs from the connection that carries it.

use super::{Cache, LinkError, Pace, TransferError};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use sleap_rtc_protocol::frame::TransferFrame;
use std::fmt;
use std::time::Duration;

/// Carries the frames and the chunks of a transfer, each in order.
///
/// An implementation delays `send_control` while the other side is slow, and queues at least a few
/// incoming messages.
pub trait Link: Send {
    /// Sends a control frame.
    fn send_control(
        &mut self,
        frame: TransferFrame,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// The next message that the transfer accepts. Must be cancel safe: dropping the future loses nothing.
    fn next(&mut self, accept: Accept) -> impl Future<Output = Result<Incoming, LinkError>> + Send;

    /// Sends an encoded chunk. Waits while too much is unacknowledged. Control frames can be sent and
    /// received meanwhile.
    fn send_chunk(&self, chunk: BytesMut) -> BoxFuture<'static, Result<(), LinkError>>;
}

/// Which messages a transfer accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Control frames. Chunks stay queued.
    Control,
    /// Whatever comes first.
    ControlAndChunks,
}

impl Accept {
    /// Chunks too if `has_room`.
    pub(crate) fn with_chunks_if(has_room: bool) -> Self {
        if has_room { Self::ControlAndChunks } else { Self::Control }
    }
}

/// A message that arrives over a [`Link`].
#[derive(Clone)]
pub enum Incoming {
    /// A control frame.
    Control(TransferFrame),
    /// An encoded chunk, not yet verified.
    Chunk(Bytes),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(frame) => frame.fmt(f),
            Self::Chunk(bytes) => write!(f, "a chunk of {} bytes", bytes.len()),
        }
    }
}

/// What a receiver accepts, and where it looks for content before it asks for it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest sum of all file sizes, in bytes.
    pub max_bytes: u64,
    /// How long the other side may be silent.
    pub idle: Duration,
    /// Content that was received earlier.
    pub cache: Option<Cache>,
    /// The limit on the transfer rate.
    pub pace: Option<Pace>,
    /// Asks before more than usual is received.
    pub question: Option<SizeQuestion>,
}

/// A question about a transfer that is larger than usual.
#[derive(Debug, Clone, Copy)]
pub struct SizeQuestion {
    /// The size up to which nobody is asked, in bytes.
    pub above_bytes: u64,
    /// Whether to receive this many bytes.
    pub ask: fn(u64) -> SizeAnswer,
}

/// Whether the transfer is wanted, once somebody has said so.
pub type SizeAnswer = BoxFuture<'static, bool>;

impl Default for Limits {
    fn default() -> Self {
        let (cache, pace, question) = (None, None, None);
        Self { max_bytes: 64 << 30, idle: Duration::from_secs(60), cache, pace, question }
    }
}

impl Limits {
    /// For results, whose size only the free disk space limits.
    pub fn results() -> Self {
        Self { max_bytes: u64::MAX, ..Self::default() }
    }
}

/// Sends one control frame, within `limit`.
pub(crate) async fn send_frame<L: Link>(
    link: &mut L,
    frame: TransferFrame,
    limit: Duration,
) -> Result<(), TransferError> {
    let sent = tokio::time::timeout(limit, link.send_control(frame)).await;
    Ok(sent.map_err(|_| TransferError::Stalled(limit))??)
}
