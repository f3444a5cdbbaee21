//! A data channel that speaks `sleap-rtc/1`, from either side.
//!
//! Control frames are text, chunks are binary. While a transfer runs it sees only what concerns it;
//! other frames wait here for the session that owns the channel.

use crate::rtc::{Channel, ChannelError, Message};
use crate::transfer::{Incoming, Link, LinkError};
use serde::{Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::frame::{self, ClientFrame, FrameError, TransferFrame, WorkerFrame};
use std::collections::VecDeque;
use std::time::Duration;

/// How many frames may wait while a transfer runs; more is not an honest peer.
const MAX_WAITING: usize = 256;
/// How long sending one message may take before the connection counts as dead.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// One direction's frames.
pub trait Frame: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Wraps a transfer frame.
    fn from_transfer(frame: TransferFrame) -> Self;
    /// Unwraps a transfer frame, or gives the frame back.
    fn into_transfer(self) -> Result<TransferFrame, Self>;
    /// Why a transfer must end when this frame arrives in the middle of it.
    fn interrupts_transfer(&self) -> Option<String>;
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
    channel: Channel,
    waiting: VecDeque<In>,
    direction: std::marker::PhantomData<fn(Out)>,
}

/// The worker's end.
pub type WorkerEnd = FrameChannel<WorkerFrame, ClientFrame>;
/// The client's end.
pub type ClientEnd = FrameChannel<ClientFrame, WorkerFrame>;

impl<Out: Frame, In: Frame> FrameChannel<Out, In> {
    /// Speaks the dialect on `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { channel, waiting: VecDeque::new(), direction: std::marker::PhantomData }
    }

    /// Sends one frame, waiting for room.
    pub async fn send(&self, frame: &Out) -> Result<(), DialectError> {
        let text = frame::encode(frame)?;
        within(SEND_LIMIT, self.channel.send_text(text)).await
    }

    /// The next frame; chunks are an error here. Cancel safe.
    pub async fn recv(&mut self) -> Result<In, DialectError> {
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => match self.channel.recv().await.ok_or(DialectError::Gone)? {
                Message::Text(text) => Ok(frame::decode(&text)?),
                Message::Binary(_) => Err(DialectError::UnexpectedChunk),
            },
        }
    }

    /// The next frame, if it comes within `limit`.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<In, DialectError> {
        tokio::time::timeout(limit, self.recv()).await.map_err(|_| DialectError::Silent(limit))?
    }

    /// Waits until the other side has acknowledged everything, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if self.channel.flush(limit).await.is_err() {
            tracing::debug!("the channel closed before everything was acknowledged");
        }
    }

    async fn next_of_transfer(&mut self) -> Result<Incoming, DialectOrInterrupt> {
        loop {
            match self.channel.recv().await.ok_or(DialectError::Gone)? {
                Message::Binary(chunk) => return Ok(Incoming::Chunk(chunk)),
                Message::Text(text) => {
                    match frame::decode::<In>(&text).map_err(DialectError::from)?.into_transfer() {
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

enum DialectOrInterrupt {
    Dialect(DialectError),
    Interrupt(String),
}

impl From<DialectError> for DialectOrInterrupt {
    fn from(error: DialectError) -> Self {
        Self::Dialect(error)
    }
}

async fn within(
    limit: Duration,
    sending: impl Future<Output = Result<(), ChannelError>>,
) -> Result<(), DialectError> {
    tokio::time::timeout(limit, sending).await.map_err(|_| DialectError::Stalled)??;
    Ok(())
}

impl<Out: Frame, In: Frame> Link for FrameChannel<Out, In> {
    async fn send_control(&mut self, frame: TransferFrame) -> Result<(), LinkError> {
        self.send(&Out::from_transfer(frame)).await.map_err(lost)
    }

    async fn send_chunk(&mut self, chunk: Vec<u8>) -> Result<(), LinkError> {
        within(SEND_LIMIT, self.channel.send_binary(chunk.as_slice().into())).await.map_err(lost)
    }

    async fn next(&mut self) -> Result<Incoming, LinkError> {
        self.next_of_transfer().await.map_err(|error| match error {
            DialectOrInterrupt::Dialect(error) => lost(error),
            DialectOrInterrupt::Interrupt(reason) => LinkError::Interrupted(reason),
        })
    }
}

fn lost(error: DialectError) -> LinkError {
    LinkError::Lost(Box::new(error))
}
