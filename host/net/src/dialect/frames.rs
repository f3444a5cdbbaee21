//! What a conversation needs to know about the frames of each direction.

use serde::{Serialize, de::DeserializeOwned};
use sleap_rtc_protocol::frame::{ClientFrame, TransferFrame, WorkerFrame};

/// The frames of one direction.
pub trait Frame: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Wraps a transfer frame.
    fn from_transfer(frame: TransferFrame) -> Self;
    /// Unwraps a transfer frame, or gives the frame back.
    fn into_transfer(self) -> Result<TransferFrame, Self>;
    /// The reason to end a running transfer when this frame arrives, if it is one.
    fn interrupts_transfer(&self) -> Option<String>;
    /// The ping, in the direction that has one.
    fn ping() -> Option<Self> {
        None
    }
    /// Whether this frame is a ping.
    fn is_ping(&self) -> bool {
        false
    }
    /// The answer to a ping, in the direction that has one.
    fn pong() -> Option<Self> {
        None
    }
    /// Whether this frame is the answer to a ping.
    fn is_pong(&self) -> bool {
        false
    }
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

    fn pong() -> Option<Self> {
        Some(Self::Pong)
    }

    fn is_pong(&self) -> bool {
        matches!(self, Self::Pong)
    }
}
