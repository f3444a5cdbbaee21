//! Errors of connections over QUIC.

use iroh::endpoint::{ConnectionError, WriteError};
use std::time::Duration;

/// Why a connection over QUIC could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// Sockets could not be opened.
    #[error("no endpoint could be set up on this machine: {0}")]
    Setup(String),
    /// What the other side says of itself makes no sense.
    #[error("the other side's endpoint id is malformed")]
    BadId,
    /// Nobody answered at any address.
    #[error("the other side could not be reached within {} s", .0.as_secs())]
    NoPath(Duration),
    /// The call failed.
    #[error("the other side could not be reached: {0}")]
    Call(String),
    /// Another call from the same peer took the place of this one, or the endpoint was closed.
    #[error("the other side did not call")]
    NotCalled,
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Ended(String),
    /// The conversation's stream ended.
    #[error("the conversation ended: {0}")]
    Stream(String),
    /// The other side speaks something else.
    #[error("the other side does not begin a conversation as this program does")]
    Greeting,
}

impl From<ConnectionError> for QuicError {
    fn from(error: ConnectionError) -> Self {
        Self::Ended(error.to_string())
    }
}

impl From<WriteError> for QuicError {
    fn from(error: WriteError) -> Self {
        Self::Stream(error.to_string())
    }
}
