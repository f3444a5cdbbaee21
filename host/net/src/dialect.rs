//! A data channel that speaks `sleap-rtc/1`, from either side.
//!
//! Control frames are text, chunks are binary. While a transfer runs it sees only what concerns it;
//! other frames wait here for the session that owns the channel. Pings and pongs go no further than
//! here: a client asks while it waits for a frame, a worker answers whenever it reads. Nor does what
//! is said about lanes (see `lanes`).

mod lanes;
#[cfg(test)]
mod tests;

use crate::rtc::{Channel, ChannelError, Message, RtcOptions};
use bytes::Bytes;
use lanes::{Arrival, LaneFrame, Lanes, RtcLane};
use serde::{Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::frame::{self, ClientFrame, FrameError, TransferFrame, WorkerFrame};
use sleap_rtc_protocol::liveness::{Liveness, LivenessEvent};
use sleap_rtc_transfer::{Incoming, Lane, Link, LinkError};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many frames may wait while a transfer runs; more is not an honest peer.
const MAX_WAITING: usize = 256;
/// How long sending one message may take before the connection counts as dead.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// A ping or a pong that finds no room within this time is left out.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// One direction's frames.
pub trait Frame: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Wraps a transfer frame.
    fn from_transfer(frame: TransferFrame) -> Self;
    /// Unwraps a transfer frame, or gives the frame back.
    fn into_transfer(self) -> Result<TransferFrame, Self>;
    /// Why a transfer must end when this frame arrives in the middle of it.
    fn interrupts_transfer(&self) -> Option<String>;
    /// What this side says to hear from the other, if it is the one that asks.
    fn ping() -> Option<Self>;
    /// What the other side is told for this frame, where that is all there is to do.
    fn is_ping(&self) -> bool;
    /// The answer to a ping.
    fn pong() -> Option<Self>;
    /// Whether this is that answer.
    fn is_pong(&self) -> bool;
    /// What this side says about a lane, where it is for this side to say.
    fn from_lane(frame: LaneFrame) -> Option<Self>;
    /// What the other side said about a lane, or gives the frame back.
    fn into_lane(self) -> Result<LaneFrame, Self>;
    /// Whether this side is the one that offers lanes.
    const OFFERS_LANES: bool;
}

impl Frame for ClientFrame {
    fn from_transfer(frame: TransferFrame) -> Self {
        Self::Transfer(frame)
    }

    fn into_transfer(self) -> Result<TransferFrame, Self> {
        match self {
            Self::Transfer(frame) => Ok(frame),
            other => Err(other),
        }
    }

    fn interrupts_transfer(&self) -> Option<String> {
        match self {
            Self::Cancel { reason } => Some(format!("cancelled by the client: {reason}")),
            _ => None,
        }
    }

    fn ping() -> Option<Self> {
        Some(Self::Ping)
    }

    fn is_ping(&self) -> bool {
        matches!(self, Self::Ping)
    }

    fn pong() -> Option<Self> {
        None
    }

    fn is_pong(&self) -> bool {
        false
    }

    fn from_lane(frame: LaneFrame) -> Option<Self> {
        match frame {
            LaneFrame::Offer(lane, offer) => Some(Self::OpenLane { lane, offer }),
            LaneFrame::Answer(..) => None,
        }
    }

    fn into_lane(self) -> Result<LaneFrame, Self> {
        match self {
            Self::OpenLane { lane, offer } => Ok(LaneFrame::Offer(lane, offer)),
            other => Err(other),
        }
    }

    const OFFERS_LANES: bool = true;
}

impl Frame for WorkerFrame {
    fn from_transfer(frame: TransferFrame) -> Self {
        Self::Transfer(frame)
    }

    fn into_transfer(self) -> Result<TransferFrame, Self> {
        match self {
            Self::Transfer(frame) => Ok(frame),
            other => Err(other),
        }
    }

    fn interrupts_transfer(&self) -> Option<String> {
        match self {
            Self::Refused { refusal } => Some(refusal.message.clone()),
            _ => None,
        }
    }

    fn ping() -> Option<Self> {
        None
    }

    fn is_ping(&self) -> bool {
        false
    }

    fn pong() -> Option<Self> {
        Some(Self::Pong)
    }

    fn is_pong(&self) -> bool {
        matches!(self, Self::Pong)
    }

    fn from_lane(frame: LaneFrame) -> Option<Self> {
        match frame {
            LaneFrame::Answer(lane, answer) => Some(Self::Lane { lane, answer }),
            LaneFrame::Offer(..) => None,
        }
    }

    fn into_lane(self) -> Result<LaneFrame, Self> {
        match self {
            Self::Lane { lane, answer } => Ok(LaneFrame::Answer(lane, answer)),
            other => Err(other),
        }
    }

    const OFFERS_LANES: bool = false;
}

/// Why nothing more comes or goes.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// The connection is over.
    #[error("the connection to the other side is gone")]
    Gone,
    /// The other side does not read what is sent.
    #[error("the other side has taken nothing for {} s", SEND_LIMIT.as_secs())]
    Stalled,
    /// The other side said nothing for too long.
    #[error("the other side was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The channel failed.
    #[error("the data channel failed")]
    Channel(#[from] ChannelError),
    /// A frame made no sense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Frames pile up during a transfer.
    #[error("the other side sent too many frames during a transfer")]
    Flooded,
    /// A chunk outside of a transfer.
    #[error("the other side sent file content that nobody asked for")]
    UnexpectedChunk,
}

/// A data channel that sends `Out` and receives `In`.
pub struct FrameChannel<Out, In> {
    channel: Arc<Channel>,
    lanes: Lanes,
    /// A chunk that came when none was wanted; nothing more is read until it is.
    held: Option<Bytes>,
    waiting: VecDeque<In>,
    liveness: Arc<watch::Sender<Liveness>>,
    cut: CancellationToken,
    direction: std::marker::PhantomData<fn(Out)>,
}

/// The worker's end.
pub type WorkerEnd = FrameChannel<WorkerFrame, ClientFrame>;
/// The client's end.
pub type ClientEnd = FrameChannel<ClientFrame, WorkerFrame>;

impl<Out: Frame, In: Frame> FrameChannel<Out, In> {
    /// Speaks the dialect on `channel`.
    pub fn new(channel: Channel) -> Self {
        let channel = Arc::new(channel);
        Self {
            lanes: Lanes::new(channel.clone()),
            held: None,
            channel,
            waiting: VecDeque::new(),
            liveness: Arc::new(watch::Sender::new(Liveness::new(Instant::now()))),
            cut: CancellationToken::new(),
            direction: std::marker::PhantomData,
        }
    }

    /// From now on the transfers of this conversation may have lanes, made like this.
    pub fn allow_lanes(&mut self, options: &RtcOptions) {
        self.lanes.allow(options);
    }

    /// Whether the connection is alive, as observed from this end. Watchers wake up when the answer
    /// changes, not on every message.
    pub fn liveness(&self) -> Arc<watch::Sender<Liveness>> {
        self.liveness.clone()
    }

    /// Cancelled, it makes this end behave as if the connection were gone: whoever uses it comes to
    /// an orderly end, which dropping a transfer in the middle would not be.
    pub fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Sends one frame, waiting for room.
    pub async fn send(&self, frame: &Out) -> Result<(), DialectError> {
        let text = frame::encode(frame)?;
        self.within(SEND_LIMIT, self.channel.send_text(text)).await
    }

    /// The next frame; chunks are an error here. Cancel safe.
    pub async fn recv(&mut self) -> Result<In, DialectError> {
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => self.recv_now().await,
        }
    }

    /// The next frame, if it comes within `limit`.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<In, DialectError> {
        tokio::time::timeout(limit, self.recv()).await.map_err(|_| DialectError::Silent(limit))?
    }

    /// Does `work`, and goes on hearing: pings are answered, other frames wait for `recv`.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        while self.waiting.len() < MAX_WAITING {
            tokio::select! {
                done = work.as_mut() => return done,
                frame = self.recv_now() => match frame {
                    Ok(frame) => self.waiting.push_back(frame),
                    // The next `recv` says so again.
                    Err(_) => break,
                },
            }
        }
        work.await
    }

    /// Waits until the other side has acknowledged everything, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if self.channel.flush(limit).await.is_err() {
            tracing::debug!("the channel closed before everything was acknowledged");
        }
    }

    /// The next frame from the wire; asks for one when it is long in coming.
    async fn recv_now(&mut self) -> Result<In, DialectError> {
        loop {
            let ping_at = self.liveness.borrow().ping_at();
            let message = tokio::select! {
                message = self.message() => message?,
                () = tokio::time::sleep_until(ping_at.into()), if Out::ping().is_some() => {
                    self.record(LivenessEvent::PingSent);
                    self.say_briefly(Out::ping()).await;
                    continue;
                }
            };
            match message {
                Message::Text(text) => match self.understand(&text).await? {
                    Some(frame) => return Ok(frame),
                    None => continue,
                },
                Message::Binary(_) => return Err(DialectError::UnexpectedChunk),
            }
        }
    }

    async fn message(&self) -> Result<Message, DialectError> {
        self.heard(message(&self.channel, &self.cut).await)
    }

    fn heard(&self, message: Option<Message>) -> Result<Message, DialectError> {
        self.record(if message.is_some() { LivenessEvent::Heard } else { LivenessEvent::Closed });
        message.ok_or(DialectError::Gone)
    }

    /// Reads a frame; nothing comes of one that this end deals with itself.
    async fn understand(&mut self, text: &str) -> Result<Option<In>, DialectError> {
        let frame: In = frame::decode(text)?;
        if frame.is_ping() {
            self.say_briefly(Out::pong()).await;
        }
        if frame.is_ping() || frame.is_pong() {
            return Ok(None);
        }
        match frame.into_lane() {
            Ok(lane) => {
                self.lanes.hear::<Out>(lane);
                Ok(None)
            }
            Err(frame) => Ok(Some(frame)),
        }
    }

    async fn say_briefly(&self, frame: Option<Out>) {
        let Some(Ok(text)) = frame.as_ref().map(frame::encode) else { return };
        // No room is no news: what is on its way tells the other side the same.
        let _ = self.within(PING_LIMIT, self.channel.send_text(text)).await;
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
        sending: impl Future<Output = Result<(), ChannelError>>,
    ) -> Result<(), DialectError> {
        tokio::select! {
            () = self.cut.cancelled() => Err(DialectError::Gone),
            sent = tokio::time::timeout(limit, sending) => {
                Ok(sent.map_err(|_| DialectError::Stalled)??)
            }
        }
    }

    /// Chunks come only where they are wanted. The client asks for a sign of life where chunks have
    /// lanes: they do not stand in its way then, and the worker is sure to read.
    async fn next_of_transfer(&mut self, chunks: bool) -> Result<Incoming, DialectOrInterrupt> {
        loop {
            if let Some(chunk) = self.held.take_if(|_| chunks) {
                return Ok(Incoming::Chunk(chunk));
            }
            let ping_at = self.liveness.borrow().ping_at();
            let asks = Out::ping().is_some() && self.lanes.are_in_use();
            let message = tokio::select! {
                biased;
                message = message(&self.channel, &self.cut), if self.held.is_none() => message,
                arrival = self.lanes.next(chunks) => match arrival {
                    Arrival::Lane(lane) => return Ok(Incoming::Lane(lane)),
                    Arrival::Chunk(chunk) => return Ok(Incoming::Chunk(chunk)),
                },
                () = tokio::time::sleep_until(ping_at.into()), if asks => {
                    self.record(LivenessEvent::PingSent);
                    self.say_briefly(Out::ping()).await;
                    continue;
                }
            };
            match self.heard(message)? {
                Message::Binary(chunk) => self.held = Some(chunk),
                Message::Text(text) => {
                    let Some(frame) = self.understand(&text).await? else { continue };
                    match frame.into_transfer() {
                        Ok(TransferFrame::Lanes { wanted }) if Out::OFFERS_LANES => {
                            self.lanes.offer::<Out>(wanted.into());
                        }
                        Ok(frame) => return Ok(Incoming::Control(frame)),
                        Err(other) => self.set_aside(other)?,
                    }
                }
            }
        }
    }

    fn set_aside(&mut self, frame: In) -> Result<(), DialectOrInterrupt> {
        if let Some(reason) = frame.interrupts_transfer() {
            return Err(DialectOrInterrupt::Interrupt(reason));
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(DialectError::Flooded.into());
        }
        self.waiting.push_back(frame);
        Ok(())
    }
}

/// The next message, unless the channel is over or cut.
async fn message(channel: &Channel, cut: &CancellationToken) -> Option<Message> {
    tokio::select! {
        biased;
        () = cut.cancelled() => None,
        message = channel.recv() => message,
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
        Arc::new(RtcLane::conversation(self.channel.clone(), self.cut.child_token()))
    }

    async fn want_lanes(&mut self, count: usize) -> Result<(), LinkError> {
        if Out::OFFERS_LANES {
            self.lanes.offer::<Out>(count);
            return Ok(());
        }
        let wanted = u8::try_from(count).unwrap_or(u8::MAX);
        self.send_control(TransferFrame::Lanes { wanted }).await
    }

    fn close_lanes(&mut self) {
        self.lanes.close();
    }
}

fn lost(error: DialectError) -> LinkError {
    LinkError::Lost(Box::new(error))
}
