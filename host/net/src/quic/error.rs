//! Errors of connections over QUIC.

use iroh::endpoint::{ConnectionError, WriteError};
use std::fmt;
use std::time::Duration;

/// Why a connection over QUIC could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// Sockets could not be opened.
    #[error("no endpoint could be set up on this machine: {0}")]
    Setup(String),
    /// The other side's address is malformed.
    #[error("the other side's endpoint id is malformed")]
    BadId,
    /// The peer answered at none of its addresses.
    #[error(transparent)]
    NoPath(#[from] Tried),
    /// The call failed.
    #[error("the other side could not be reached: {0}")]
    Call(String),
    /// The endpoint was closed.
    #[error("the other side did not call")]
    NotCalled,
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Ended(String),
    /// The conversation's stream ended.
    #[error("the conversation ended: {0}")]
    Stream(String),
    /// The other side speaks another protocol.
    #[error("the other side speaks another version of the protocol")]
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

/// What was tried to reach a peer, without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// How many of its addresses were tried over UDP.
    pub addresses: usize,
    /// The server's relay.
    pub relay: RelayTried,
    /// How long the attempts took.
    pub limit: Duration,
}

/// Why the relay did not help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayTried {
    /// The server has no relay.
    None,
    /// This side is connected to the relay of this host; the other side does not answer there.
    Connected(String),
    /// The relay refuses this side.
    Refused {
        /// The relay's host.
        host: String,
        /// The relay's reason.
        reason: String,
    },
    /// This side cannot connect to the relay.
    Unreached {
        /// The relay's host.
        host: String,
        /// The latest error, if there was one.
        error: Option<String>,
    },
}

impl std::error::Error for Tried {}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit_s = self.limit.as_secs();
        match self.addresses {
            0 => write!(f, "the other side has no address"),
            1 => write!(f, "its address gave no answer over UDP within {limit_s} s"),
            count => write!(f, "its {count} addresses gave no answer over UDP within {limit_s} s"),
        }?;
        write!(f, ", and {}", self.relay)
    }
}

impl fmt::Display for RelayTried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the signaling server has no relay"),
            Self::Connected(host) => write!(f, "it did not answer through the relay of {host}"),
            Self::Refused { host, reason } => {
                write!(f, "the relay of {host} refuses this program: {reason}")
            }
            Self::Unreached { host, error: Some(error) } => {
                write!(f, "there is no connection to the relay of {host}: {error}")
            }
            Self::Unreached { host, error: None } => {
                write!(f, "there is no connection to the relay of {host} yet")
            }
        }
    }
}
