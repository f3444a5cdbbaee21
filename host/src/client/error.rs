//! Every way in which a client can fail.

use sleap_rtc_net::rtc::RtcError;
use sleap_rtc_policy::PolicyError;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::session::JobString;
use sleap_rtc_signaling::client::SignalingError;
use sleap_rtc_transfer::TransferError;
use std::path::PathBuf;
use std::time::Duration;

/// Why a client ended without a result. The command line maps each variant to an exit code.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no record of the job on this machine.
    #[error("{0}")]
    UnknownJob(String),
    /// The package cannot be submitted.
    #[error("the package cannot be used: {0}")]
    Package(String),
    /// The shared storage cannot be used for this job.
    #[error("shared storage: {0}")]
    Shared(String),
    /// The signaling server cannot be reached, or refuses the client.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// A configured policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The worker answered, but the connection failed.
    #[error("no connection to worker {worker}{}", advice(source))]
    Connect {
        /// Which worker.
        worker: PeerId,
        /// Why not.
        #[source]
        source: RtcError,
    },
    /// No worker can take the job.
    #[error("{0}")]
    NoWorker(String),
    /// The worker, or every worker, refused.
    #[error("{0}")]
    Refused(String),
    /// The job failed on the worker.
    #[error("the job failed: {0}")]
    JobFailed(String),
    /// Files could not be transferred.
    #[error("the {what} could not be transferred")]
    Transfer {
        /// `package` or `result`.
        what: &'static str,
        /// Why not.
        #[source]
        source: TransferError,
    },
    /// The connection was lost outside of a transfer.
    #[error("the connection to worker {worker} was lost {during}")]
    Lost {
        /// Which worker.
        worker: PeerId,
        /// What the client was doing.
        during: &'static str,
    },
    /// The connection was lost and could not be made again in time.
    #[error("could not reconnect to worker {worker} within {} s", .tried.as_secs())]
    GivenUp {
        /// Which worker.
        worker: PeerId,
        /// For how long the client tried.
        tried: Duration,
    },
    /// The worker has no such job, or never received its package.
    #[error("the worker does not know the job")]
    UnknownToWorker,
    /// The client detached; the job keeps running.
    #[error("detached; the job keeps running")]
    Detached(Box<JobString>),
    /// The worker violated the protocol or was silent.
    #[error("worker {worker} {what}")]
    Worker {
        /// Which worker.
        worker: PeerId,
        /// What it did.
        what: String,
    },
    /// The result could not be written.
    #[error("cannot write the result to {path}")]
    Output {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The result was received but could not be moved to its place.
    #[error("cannot move the result to {path}; it is in {kept}")]
    Unplaced {
        /// Where it should be.
        path: PathBuf,
        /// Where it is.
        kept: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The user cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A failure that should be impossible.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What may help if no connection was possible.
fn advice(cause: &RtcError) -> &'static str {
    match cause {
        RtcError::NoPath => "; if it is behind another firewall, configure a TURN server",
        _ => "",
    }
}

impl ClientError {
    /// Whether another connection can continue where this one failed.
    pub(super) fn may_heal(&self) -> bool {
        use TransferError::{Lost, Silent, Stalled};
        match self {
            Self::Lost { .. } => true,
            Self::Transfer { source, .. } => matches!(source, Lost(_) | Silent(_) | Stalled(_)),
            _ => false,
        }
    }
}
