//! A connection that speaks `sleap-rtc/1`, from either side.
//!
//! On a data channel, control frames are text messages and chunks are binary messages; a QUIC connection
//! has a stream for control frames and others for chunks. During a transfer, the transfer
//! receives only its own frames; other frames are queued here for the session that owns the channel.
//! Pings, pongs and frames about lanes (see `lanes`) are handled here: a client pings while it waits
//! for a frame, and a worker answers whenever it reads.

mod frames;
mod lanes;
mod proof;
#[cfg(test)]
mod tests;
mod wire;

pub use frames::Frame;
pub use proof::{Meeting, Opening, ProvingError};

use crate::binding::ChannelBinding;
use crate::quic::{QuicError, Session};
use crate::route::Route;
use crate::rtc::{self, Channel, ChannelError, Message, RtcOptions};
use bytes::Bytes;
use lanes::{Arrival, Lanes};
use sleap_rtc_protocol::connection::ConnectionState;
use sleap_rtc_protocol::frame::{self, ClientFrame, FrameError, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::liveness::{Liveness, LivenessEvent};
use sleap_rtc_transfer::{Incoming, Lane, Link, LinkError};
use sleap_rtc_trust::handshake::Transcript;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
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
    /// Beside a data channel.
    lanes: Option<Lanes>,
    /// The connection of a data channel, if it must be closed with the conversation.
    connection: Option<rtc::Connection>,
    /// A chunk that arrived too early. Reading stops until a transfer accepts chunks.
    unwanted: Option<Bytes>,
    /// Set once both sides have proven who they are.
    transcript: Option<Transcript>,
    waiting: VecDeque<In>,
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
        let channel = Arc::new(channel);
        let lanes = Some(Lanes::new(channel.clone()));
        Self::over(Wire::Channel(channel), lanes)
    }

    /// Speaks the dialect on the channel of a connection.
    pub fn on_channel(connection: rtc::Connection, channel: Channel) -> Self {
        Self { connection: Some(connection), ..Self::new(channel) }
    }

    /// Speaks the dialect on a QUIC connection.
    pub fn on_session(session: Session) -> Self {
        Self::over(Wire::Session(Arc::new(session)), None)
    }

    fn over(wire: Wire, lanes: Option<Lanes>) -> Self {
        Self {
            wire,
            lanes,
            connection: None,
            unwanted: None,
            transcript: None,
            waiting: VecDeque::new(),
            liveness: Arc::new(watch::Sender::new(Liveness::new(Instant::now()))),
            cut: CancellationToken::new(),
            direction: std::marker::PhantomData,
        }
    }

    /// Allows the transfers of this session to use lanes, opened with `options`. All sessions of a
    /// program share the budget `left`.
    pub fn allow_lanes(&mut self, options: &RtcOptions, left: Option<Arc<Semaphore>>) {
        self.lanes.iter_mut().for_each(|lanes| lanes.allow(options, left.clone()));
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

    /// The connection's route. The receiver is notified of each change.
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
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => self.recv_now().await,
        }
    }

    /// The next frame, if it arrives within `limit`.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<In, DialectError> {
        tokio::time::timeout(limit, self.recv()).await.map_err(|_| DialectError::Silent(limit))?
    }

    /// Runs `work` and keeps reading meanwhile: answers pings, and queues other frames for `recv`.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while self.waiting.len() < MAX_QUEUED_FRAMES {
            tokio::select! {
                done = work.as_mut() => return done,
                frame = self.recv_now() => match frame {
                    Ok(frame) => self.waiting.push_back(frame),
                    // The next `recv` reports the error again.
                    Err(_) => break,
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
                    self.record(LivenessEvent::PingSent);
                    self.try_send(Out::ping()).await;
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

    /// Decodes a frame. Handles pings, pongs and frames about lanes, and returns all others.
    async fn decode(&mut self, text: &str) -> Result<Option<In>, DialectError> {
        let frame: In = frame::decode(text)?;
        if frame.is_ping() {
            self.try_send(Out::pong()).await;
        }
        if frame.is_ping() || frame.is_pong() {
            return Ok(None);
        }
        match frame.into_lane() {
            Ok(lane) => {
                if let Some(lanes) = &mut self.lanes {
                    lanes.hear::<Out>(lane);
                }
                Ok(None)
            }
            Err(frame) => Ok(Some(frame)),
        }
    }

    async fn try_send(&self, frame: Option<Out>) {
        let Some(Ok(text)) = frame.as_ref().map(frame::encode) else { return };
        // A full send buffer is no loss: its data shows the other side that this end is alive.
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

    /// The next message from a lane or a stream of chunks. Takes chunks only if `chunks` is set.
    /// Cancel safe.
    async fn beside(wire: &Wire, lanes: &mut Option<Lanes>, chunks: bool) -> Arrival {
        match (wire, lanes) {
            (_, Some(lanes)) => lanes.next(chunks).await,
            (Wire::Session(session), None) if chunks => match session.chunks().next().await {
                Some(chunk) => Arrival::Chunk(chunk),
                // The conversation reports the same error.
                None => std::future::pending().await,
            },
            _ => std::future::pending().await,
        }
    }

    /// Whether chunks travel apart from the conversation and so cannot delay it.
    fn has_ways_beside(&self) -> bool {
        self.lanes.as_ref().is_none_or(Lanes::are_in_use)
    }

    /// The next message for a transfer. Takes chunks only if `chunks` is set. If chunks travel
    /// apart from the conversation, the client pings: the chunks then do not delay the ping, and
    /// the worker reads it in time.
    async fn next_of_transfer(&mut self, chunks: bool) -> Result<Incoming, DialectOrInterrupt> {
        loop {
            if let Some(chunk) = self.unwanted.take_if(|_| chunks) {
                return Ok(Incoming::Chunk(chunk));
            }
            let ping_at = self.liveness.borrow().ping_at();
            let asks = Out::ping().is_some() && self.has_ways_beside();
            let message = tokio::select! {
                biased;
                message = self.wire.recv(&self.cut), if self.unwanted.is_none() => message,
                arrival = Self::beside(&self.wire, &mut self.lanes, chunks) => match arrival {
                    Arrival::Lane(lane) => return Ok(Incoming::Lane(lane)),
                    Arrival::Chunk(chunk) => return Ok(Incoming::Chunk(chunk)),
                },
                () = tokio::time::sleep_until(ping_at.into()), if asks => {
                    self.record(LivenessEvent::PingSent);
                    self.try_send(Out::ping()).await;
                    continue;
                }
            };
            match self.heard(message)? {
                Message::Binary(chunk) => self.unwanted = Some(chunk),
                Message::Text(text) => {
                    let Some(frame) = self.decode(&text).await? else { continue };
                    match frame.into_transfer() {
                        Ok(TransferFrame::Lanes { wanted }) if Out::OFFERS_LANES => {
                            self.offer_lanes(wanted.into());
                        }
                        Ok(frame) => return Ok(Incoming::Control(frame)),
                        Err(other) => self.set_aside(other)?,
                    }
                }
            }
        }
    }

    fn offer_lanes(&mut self, count: usize) {
        if let Some(lanes) = &mut self.lanes {
            lanes.offer::<Out>(count);
        }
    }

    fn set_aside(&mut self, frame: In) -> Result<(), DialectOrInterrupt> {
        if let Some(reason) = frame.interrupts_transfer() {
            return Err(DialectOrInterrupt::Interrupt(reason));
        }
        if self.waiting.len() >= MAX_QUEUED_FRAMES {
            return Err(DialectError::Flooded.into());
        }
        self.waiting.push_back(frame);
        Ok(())
    }
}

enum DialectOrInterrupt {
    Dialect(DialectError),
    Interrupt(String),
}

impl From<DialectError> for DialectOrInterrupt {
    fn from(error: DialectError) -> Self {
        Self::Dialect(error)
    }
}

impl<Out: Frame, In: Frame> Link for FrameChannel<Out, In> {
    async fn send_control(&mut self, frame: TransferFrame) -> Result<(), LinkError> {
        self.send(&Out::from_transfer(frame)).await.map_err(lost)
    }

    async fn next(&mut self, chunks: bool) -> Result<Incoming, LinkError> {
        self.next_of_transfer(chunks).await.map_err(|error| match error {
            DialectOrInterrupt::Dialect(error) => lost(error),
            DialectOrInterrupt::Interrupt(reason) => LinkError::Interrupted(reason),
        })
    }

    fn first_lane(&mut self) -> Arc<dyn Lane> {
        self.wire.lane(self.cut.child_token())
    }

    async fn want_lanes(&mut self, count: usize) -> Result<(), LinkError> {
        if self.lanes.is_none() || Out::OFFERS_LANES {
            self.offer_lanes(count);
            return Ok(());
        }
        let wanted = u8::try_from(count).unwrap_or(u8::MAX);
        self.send_control(TransferFrame::Lanes { wanted }).await
    }

    fn close_lanes(&mut self) {
        if let Some(lanes) = &mut self.lanes {
            lanes.close();
        }
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
