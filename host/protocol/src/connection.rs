//! The states of a peer connection, and what an offer asks for.

use crate::ids::JobId;
use serde::{Deserialize, Serialize};

/// The W3C states of an `RTCPeerConnection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Nothing has been exchanged yet.
    New,
    /// Candidates are being tried, or keys agreed.
    Connecting,
    /// Data can flow.
    Connected,
    /// The path has been silent for some seconds; it may come back by itself.
    Disconnected,
    /// The path is gone for good.
    Failed,
    /// Closed by either side.
    Closed,
}

impl ConnectionState {
    /// Whether `next` may follow: `Closed` and `Failed` are final (`Failed` may still be closed).
    pub fn can_become(self, next: Self) -> bool {
        use ConnectionState::*;
        match self {
            Closed => false,
            Failed => next == Closed,
            New => next != New,
            Connecting => !matches!(next, New | Connecting),
            Connected => matches!(next, Disconnected | Failed | Closed),
            Disconnected => matches!(next, Connecting | Connected | Failed | Closed),
        }
    }

    /// Whether no data will ever flow again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// What the sender of an offer wants: the key `purpose` of our own offers.
///
/// A job is admitted, not a connection: only a new job needs a free slot. An offer without the
/// key (a Python client's) is for a new job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Purpose {
    /// Submit a job that the worker does not know yet.
    #[default]
    NewJob,
    /// Come back to a job that the worker has.
    KnownJob {
        /// Which one; the right to it is proved on the data channel.
        job: JobId,
    },
    /// Another lane for the transfers of a job.
    Lane {
        /// The job whose transfers it carries.
        job: JobId,
    },
    /// Something newer than this program.
    #[serde(other)]
    Unknown,
}
