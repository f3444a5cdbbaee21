//! A connection that speaks `sleap-rtc/1`, from either side.
//!
//! On a data channel, control frames are text messages and chunks are binary messages; a QUIC connection
//! has a stream for control frames and others for chunks. During a transfer, the transfer
//! receives only its own frames; other frames are queued here for the session that owns the channel.
//! Pings and pongs are handled here: a client pings while it waits for a frame, and a worker answers
//! whenever it reads.

mod frames;
mod proof;
mod sample;
#[cfg(test)]
mod tests;
mod wire;

pub use frames::Frame;
pub use proof::{FirstMessage, Meeting, ProvingError};
pub use sample::SampleError;

use crate::binding::ChannelBinding;
use crate::quic::{QuicError, Session};
use crate::route::Route;
use crate::rtc::{self, Channel, ChannelError, Message};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::frame::{self, ClientFrame, FrameError, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::liveness::{Liveness, LivenessEvent};
use sleap_rtc_transfer::{Accept, Incoming, Link, LinkError};
use sleap_rtc_trust::handshake::Transcript;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::Wire;

/// How many frames may be queued during a transfer. An honest peer sends fewer.
const MAX_QUEUED_FRAMES: usize = 256;
/// A connection counts as dead if sending one message takes longer than this.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// A ping or a pong that cannot be sent within this time is skipped.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// Why a conversation has ended.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// The connection is closed.
    #[error("the connection to the other side is closed")]
    Gone,
    /// The other side has stopped reading.
    #[error("the other side accepted no data for {} s", SEND_LIMIT.as_secs())]
    Stalled,
    /// The other side sent nothing for too long.
    #[error("the other side sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The channel failed.
    #[error("the data channel failed")]
    Channel(#[from] ChannelError),
    /// The QUIC connection failed.
    #[error("the connection failed")]
    Quic(#[from] QuicError),
    /// A frame is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Too many frames are queued during a transfer.
    #[error("the other side sent too many frames during a transfer")]
    Flooded,
    /// A chunk arrived outside of a transfer.
    #[error("the other side sent file content that was not requested")]
    UnexpectedChunk,
}

/// A conversation that sends `Out` and receives `In`.
pub struct FrameChannel<Out, In> {
    wire: Wire,
    /// The connection of a data channel, if it must be closed with the conversation.
    connection: Option<rtc::Connection>,
    /// A chunk that arrived too early. Reading stops until a transfer accepts chunks.
    early_chunk: Option<Bytes>,
    /// Set once both sides have proven who they are.
    transcript: Option<Transcript>,
    waiting: VecDeque<In>,
    /// Why reading ended while something else was done. Reported after the frames in `waiting`.
    failed: Option<DialectError>,
    liveness: Arc<watch::Sender<Liveness>>,
    cut: CancellationToken,
    direction: std::marker::PhantomData<fn(Out)>,
}

/// The worker's end of a conversation.
pub type WorkerEnd = FrameChannel<WorkerFrame, ClientFrame>;
/// The client's end of a conversation.
pub type ClientEnd = FrameChannel<ClientFrame, WorkerFrame>;

impl<Out: Frame, In: Frame> FrameChannel<Out, In> {
    /// Speaks the dialect on `channel`. The caller closes its connection.
    pub fn new(channel: Channel) -> Self {
        Self::over(Wire::Channel(Arc::new(channel)))
    }

    /// Speaks the dialect on the channel of a connection.
    pub fn on_channel(connection: rtc::Connection, channel: Channel) -> Self {
        Self { connection: Some(connection), ..Self::new(channel) }
    }

    /// Speaks the dialect on a QUIC connection.
    pub fn on_session(session: Session) -> Self {
        Self::over(Wire::Session(Arc::new(session)))
    }

    fn over(wire: Wire) -> Self {
        Self {
            wire,
            connection: None,
            early_chunk: None,
            transcript: None,
            waiting: VecDeque::new(),
            failed: None,
            liveness: Arc::new(watch::Sender::new(Liveness::new(Instant::now()))),
            cut: CancellationToken::new(),
            direction: std::marker::PhantomData,
        }
    }

    /// The state of the connection, as it changes.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.wire.state()
    }

    /// The channel binding, which ties a proof of identity to this connection. `None` if a WebRTC
    /// peer presents several certificates; such a peer cannot prove who it is.
    pub fn binding(&self) -> Option<ChannelBinding> {
        self.wire.binding()
    }

    /// The connection's route. Over QUIC the receiver is notified of each change; over WebRTC the route is that of
    /// the opening.
    pub fn route(&self) -> watch::Receiver<Option<Route>> {
        self.wire.route()
    }

    /// Delivers everything that was sent, then closes the connection. Bounded in time.
    pub async fn close(self) {
        match self.connection {
            Some(connection) => connection.close().await,
            None => self.wire.close().await,
        }
    }

    /// Whether the connection is alive, as observed from this end. Watchers wake up when the answer
    /// changes, not on every message.
    pub fn liveness(&self) -> Arc<watch::Sender<Liveness>> {
        self.liveness.clone()
    }

    /// Cancelling this token makes this end behave as if the connection had closed. A running
    /// transfer then cleans up, which it could not do if its future were dropped.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Sends one frame. Waits while too much data is unacknowledged.
    pub async fn send(&self, frame: &Out) -> Result<(), DialectError> {
        let text = frame::encode(frame)?;
        self.within(SEND_LIMIT, self.wire.send_text(text)).await
    }

    /// The next frame. A chunk is an error here. Cancel safe.
    pub async fn recv(&mut self) -> Result<In, DialectError> {
        match (self.waiting.pop_front(), self.failed.take()) {
            (Some(frame), failed) => {
                self.failed = failed;
                Ok(frame)
            }
            (None, Some(error)) => Err(error),
            (None, None) => self.recv_now().await,
        }
    }

    /// The next frame, if it arrives within `limit`.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<In, DialectError> {
        tokio::time::timeout(limit, self.recv()).await.map_err(|_| DialectError::Silent(limit))?
    }

    /// Runs `work` and keeps reading meanwhile: answers pings, and queues other frames for `recv`.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while self.failed.is_none() && self.waiting.len() < MAX_QUEUED_FRAMES {
            tokio::select! {
                done = work.as_mut() => return done,
                frame = self.recv_now() => match frame {
                    Ok(frame) => self.waiting.push_back(frame),
                    Err(error) => {
                        self.failed = Some(error);
                        break;
                    }
                },
            }
        }
        work.await
    }

    /// Waits until the other side has acknowledged everything, for at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        self.wire.flush(limit).await;
    }

    /// The next frame from the wire. Pings the other side if none arrives.
    async fn recv_now(&mut self) -> Result<In, DialectError> {
        loop {
            let ping_at = self.liveness.borrow().ping_at();
            let message = tokio::select! {
                message = self.message() => message?,
                () = tokio::time::sleep_until(ping_at.into()), if Out::ping().is_some() => {
                    self.send_ping().await;
                    continue;
                }
            };
            match message {
                Message::Text(text) => match self.decode(&text).await? {
                    Some(frame) => return Ok(frame),
                    None => continue,
                },
                Message::Binary(_) => return Err(DialectError::UnexpectedChunk),
            }
        }
    }

    async fn message(&self) -> Result<Message, DialectError> {
        self.heard(self.wire.recv(&self.cut).await)
    }

    fn heard(&self, message: Option<Message>) -> Result<Message, DialectError> {
        self.record(if message.is_some() { LivenessEvent::Heard } else { LivenessEvent::Closed });
        message.ok_or(DialectError::Gone)
    }

    /// Decodes a frame. Handles pings and pongs, and returns all others.
    async fn decode(&mut self, text: &str) -> Result<Option<In>, DialectError> {
        let frame: In = frame::decode(text)?;
        if frame.is_ping() {
            self.try_send(Out::pong()).await;
        }
        Ok(Some(frame).filter(|frame| !frame.is_ping() && !frame.is_pong()))
    }

    async fn send_ping(&self) {
        self.record(LivenessEvent::PingSent);
        self.try_send(Out::ping()).await;
    }

    async fn try_send(&self, frame: Option<Out>) {
        let Some(Ok(text)) = frame.as_ref().map(frame::encode) else { return };
        // A full send buffer does no harm: its data shows the other side that this end is alive.
        let _ = self.within(PING_LIMIT, self.wire.send_text(text)).await;
    }

    fn record(&self, event: LivenessEvent) {
        let now = Instant::now();
        self.liveness.send_if_modified(|liveness| {
            let before = (liveness.suspect_at(), liveness.health(now));
            liveness.apply(event, now);
            before != (liveness.suspect_at(), liveness.health(now))
        });
    }

    async fn within(
        &self,
        limit: Duration,
        sending: impl Future<Output = Result<(), DialectError>>,
    ) -> Result<(), DialectError> {
        tokio::select! {
            () = self.cut.cancelled() => Err(DialectError::Gone),
            sent = tokio::time::timeout(limit, sending) => {
                sent.map_err(|_| DialectError::Stalled)?
            }
        }
    }

    /// The next message for a transfer. If chunks travel apart from the conversation, the client pings: the
    /// chunks then do not delay the ping, and the worker reads it in time.
    async fn next_of_transfer(
        &mut self,
        accept: Accept,
    ) -> Result<Incoming, DialectOrInterrupt<In>> {
        let takes_chunks = accept == Accept::ControlAndChunks;
        loop {
            if let Some(chunk) = self.early_chunk.take_if(|_| takes_chunks) {
                return Ok(Incoming::Chunk(chunk));
            }
            let ping_at = self.liveness.borrow().ping_at();
            let asks = Out::ping().is_some() && self.wire.separates_chunks();
            let message = tokio::select! {
                biased;
                message = self.wire.recv(&self.cut), if self.early_chunk.is_none() => message,
                chunk = self.wire.next_chunk(), if takes_chunks => return Ok(Incoming::Chunk(chunk)),
                () = tokio::time::sleep_until(ping_at.into()), if asks => {
                    self.send_ping().await;
                    continue;
                }
                // A chunk waits until the transfer accepts it, and nothing behind it is read.
                else => std::future::pending().await,
            };
            match self.heard(message)? {
                Message::Binary(chunk) => self.early_chunk = Some(chunk),
                Message::Text(text) => {
                    let Some(frame) = self.decode(&text).await? else { continue };
                    match frame.into_transfer() {
                        Ok(frame) => return Ok(Incoming::Control(frame)),
                        Err(other) => self.set_aside(other)?,
                    }
                }
            }
        }
    }

    fn set_aside(&mut self, frame: In) -> Result<(), DialectOrInterrupt<In>> {
        if let Some(reason) = frame.interrupts_transfer() {
            return Err(DialectOrInterrupt::Interrupt { reason, frame });
        }
        if self.waiting.len() >= MAX_QUEUED_FRAMES {
            return Err(DialectError::Flooded.into());
        }
        self.waiting.push_back(frame);
        Ok(())
    }
}

enum DialectOrInterrupt<In> {
    Dialect(DialectError),
    Interrupt { reason: String, frame: In },
}

impl<In> From<DialectError> for DialectOrInterrupt<In> {
    fn from(error: DialectError) -> Self {
        Self::Dialect(error)
    }
}

impl<Out: Frame, In: Frame> Link for FrameChannel<Out, In> {
    async fn send_control(&mut self, frame: TransferFrame) -> Result<(), LinkError> {
        self.send(&Out::from_transfer(frame)).await.map_err(lost)
    }

    async fn next(&mut self, accept: Accept) -> Result<Incoming, LinkError> {
        self.next_of_transfer(accept).await.map_err(|error| match error {
            DialectOrInterrupt::Dialect(error) => lost(error),
            DialectOrInterrupt::Interrupt { reason, .. } => LinkError::Interrupted(reason),
        })
    }

    fn send_chunk(&self, chunk: BytesMut) -> BoxFuture<'static, Result<(), LinkError>> {
        let (wire, cut) = (self.wire.clone(), self.cut.clone());
        async move {
            let sent = cut.run_until_cancelled(wire.send_chunk(chunk)).await;
            sent.unwrap_or_else(|| Err(lost(DialectError::Gone)))
        }
        .boxed()
    }
}

/// Another connection does not help against a protocol violation.
fn lost(error: DialectError) -> LinkError {
    use DialectError::{Flooded, Frame, UnexpectedChunk};
    match error {
        Frame(_) | Flooded | UnexpectedChunk => LinkError::Violated(Box::new(error)),
        error => LinkError::Lost(Box::new(error)),
    }
}
