//! Every way a client can end without success.

use sleap_rtc_net::rtc::RtcError;
use sleap_rtc_policy::PolicyError;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::session::JobString;
use sleap_rtc_signaling::client::SignalingError;
use sleap_rtc_transfer::TransferError;
use std::path::PathBuf;
use std::time::Duration;

/// Why a client did not bring a result back. The command line maps each to an exit code.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No such job is known here.
    #[error("{0}")]
    UnknownJob(String),
    /// The package cannot be submitted.
    #[error("the package cannot be used: {0}")]
    Package(String),
    /// The shared storage cannot be used for this job.
    #[error("shared storage: {0}")]
    Shared(String),
    /// The signaling server cannot be reached, or does not let us in.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// A configured policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The worker answered, but no connection came about.
    #[error("no connection to worker {worker}{}", advice(source))]
    Connect {
        /// Which worker.
        worker: PeerId,
        /// Why not.
        #[source]
        source: RtcError,
    },
    /// Nobody to give the job to.
    #[error("{0}")]
    NoWorker(String),
    /// A worker, or every worker, said no.
    #[error("{0}")]
    Refused(String),
    /// The job failed on the worker.
    #[error("the job failed: {0}")]
    JobFailed(String),
    /// Files did not get through.
    #[error("the {what} could not be transferred")]
    Transfer {
        /// `package` or `result`.
        what: &'static str,
        /// Why not.
        #[source]
        source: TransferError,
    },
    /// The connection broke at another moment.
    #[error("the connection to worker {worker} was lost {during}")]
    Lost {
        /// Which worker.
        worker: PeerId,
        /// What was going on.
        during: &'static str,
    },
    /// The connection was lost, and no other came about in time.
    #[error("worker {worker} could not be reached again for {} s", .tried.as_secs())]
    GivenUp {
        /// Which worker.
        worker: PeerId,
        /// How long it was tried.
        tried: Duration,
    },
    /// The worker has no job of that name, or never had its package.
    #[error("the worker does not know the job")]
    Forgotten,
    /// The client leaves its job, which does not notice.
    #[error("the job goes on without this client")]
    Left(Box<JobString>),
    /// The worker broke the protocol, or stayed silent.
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
    /// The result is here, but not where it was wanted.
    #[error("cannot put the result at {path}; it is kept in {kept}")]
    Unplaced {
        /// Where it was wanted.
        path: PathBuf,
        /// Where it is.
        kept: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The user gave up.
    #[error("cancelled")]
    Cancelled,
    /// Should not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What may help where no connection came about.
fn advice(cause: &RtcError) -> &'static str {
    match cause {
        RtcError::NoPath => "; if it is behind another firewall, configure a TURN server",
        _ => "",
    }
}

impl ClientError {
    /// Whether another connection may go on where this one failed.
    pub(super) fn may_heal(&self) -> bool {
        use TransferError::{Lost, Silent, Stalled};
        match self {
            Self::Lost { .. } => true,
            Self::Transfer { source, .. } => matches!(source, Lost(_) | Silent(_) | Stalled(_)),
            _ => false,
        }
    }
}
