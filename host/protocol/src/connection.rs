//! The states of a peer connection, and what an offer asks for.

use crate::ids::{JobId, OfferProof};
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
    /// The path has been silent for some seconds. It may recover by itself.
    Disconnected,
    /// The path is lost and does not recover.
    Failed,
    /// Closed by either side.
    Closed,
}

impl ConnectionState {
    /// Whether `next` may follow. `Closed` is final; `Failed` can only be closed.
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

    /// Whether the connection is finished: no data flows over it again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// What the sender of an offer wants: the key `purpose` in offers of this program.
///
/// Admission is per job, not per connection: only a new job needs a free slot. An offer without the
/// key, such as a Python client's, is for a new job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Purpose {
    /// Submit a job that is new to the worker.
    #[default]
    NewJob,
    /// The same, and the job may wait for a slot: without a free one it gets a place in the worker's line.
    /// An older worker refuses this as a purpose that it does not know.
    QueuedJob,
    /// Reattach to a job that the worker already has.
    KnownJob {
        /// The job. The client proves its right to the job again on the data channel.
        job: JobId,
        /// That the sender has the job's secret. Absent from programs that do not prove it here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<OfferProof>,
    },
    /// Measure the way to the worker. An older worker refuses this as a purpose that it does not know.
    Probe,
    /// A purpose that this version does not know.
    #[serde(other)]
    Unknown,
}
