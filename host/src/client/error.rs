//! Every way in which a client can fail.

mod files;
mod worker;

pub use files::{PackageError, PackageFault, SharedError};
pub use worker::{JobFailure, JobRefused, Misbehavior, NoWorker, SkippedWorkers};
pub(crate) use worker::{NAME_CHARS, SkippedWorker, quoted};

use super::connect::ConnectFailure;
use super::untrusted::Untrusted;
use crate::blocking::Panicked;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::dialect::ProvingError;
use sleap_rtc_net::quic::QuicError;
use sleap_rtc_policy::PolicyError;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::short_id::NoSingleJob;
use sleap_rtc_signaling::client::SignalingError;
use sleap_rtc_transfer::TransferError;
use sleap_rtc_trust::session::JobString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a client ended without a result. The command line maps each variant to an exit code.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This machine has no usable record of the job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// The package cannot be submitted.
    #[error("the package cannot be used: {0}")]
    Package(PackageError),
    /// The shared storage cannot be used for this job.
    #[error("shared storage: {}", WithCauses(.0))]
    Shared(SharedError),
    /// The signaling server cannot be reached, or refuses the client.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// A configured policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The worker answered, but the connection failed.
    #[error("no connection to worker {worker}{}", source.advice())]
    Connect {
        /// Which worker.
        worker: PeerId,
        /// Why not.
        #[source]
        source: Box<ConnectFailure>,
    },
    /// The worker has not proven its identity.
    #[error("worker {worker} {why}")]
    Untrusted {
        /// Which worker.
        worker: PeerId,
        /// Why it is not trusted.
        why: Box<Untrusted>,
    },
    /// The worker does not count this device among the room's members.
    #[error("the worker does not admit this device: {}", quoted(.0))]
    NotAdmitted(String),
    /// No worker takes the job, and some of them have not proven who they are.
    #[error(transparent)]
    NoneTrusted(SkippedWorkers),
    /// This machine cannot connect over iroh, and the user wants nothing else.
    #[error("connections over iroh are not possible here; use --transport auto")]
    Endpoint(#[from] QuicError),
    /// No worker can take the job.
    #[error(transparent)]
    NoWorker(#[from] NoWorker),
    /// The worker, or every worker, refused.
    #[error(transparent)]
    Refused(#[from] JobRefused),
    /// The job failed on the worker.
    #[error("the job failed: {0}")]
    JobFailed(JobFailure),
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
        /// How long the client tried.
        tried: Duration,
    },
    /// The worker has no such job, or never received its package.
    #[error("the worker does not know the job")]
    UnknownToWorker,
    /// The client detached; the job keeps running, or waits for its turn.
    #[error("detached; the job keeps {}", if *.waits { "its place" } else { "running" })]
    Detached {
        /// How to return to it.
        job: Box<JobString>,
        /// Whether it waits for a slot.
        waits: bool,
    },
    /// The worker violated the protocol or was silent.
    #[error("worker {worker} {what}")]
    Worker {
        /// Which worker.
        worker: PeerId,
        /// What it did.
        what: Misbehavior,
    },
    /// The result could not be written.
    #[error("cannot write the result to {path}")]
    Output {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
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
        source: io::Error,
    },
    /// A temporary file could not be written or read.
    #[error("cannot use a temporary file")]
    TemporaryFile(#[source] io::Error),
    /// The terminal cannot be drawn on.
    #[error("cannot draw on the terminal")]
    Terminal(#[source] io::Error),
    /// The user, or somebody else, ended it.
    #[error(transparent)]
    Cancelled(Ended),
    /// A bug of this program.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl ClientError {
    /// Whether the worker refused the job, or broke the protocol: another worker may take it.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            // Its user's time is over, at whichever worker.
            Self::Refused(JobRefused::WaitedInVain { .. }) => false,
            Self::Refused(_) | Self::NotAdmitted(_) => true,
            Self::UnknownToWorker | Self::Worker { .. } => true,
            _ => false,
        }
    }

    /// The error about a `worker` that is not trusted.
    pub(crate) fn untrusted(worker: &PeerId, why: Untrusted) -> Self {
        Self::Untrusted { worker: worker.clone(), why: Box::new(why) }
    }

    /// Whether to stop trying, because the worker was reached but is not trusted.
    pub(crate) fn is_distrust(&self) -> bool {
        use ProvingError::Dialect;
        match self {
            Self::Untrusted { why, .. } => !matches!(**why, Untrusted::Proof(Dialect(_))),
            _ => false,
        }
    }

    /// Whether reconnecting can help. The client decides with this to reconnect (`reconnect::converse`).
    pub(crate) fn may_heal(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Transfer { source, .. } => source.may_heal(),
            _ => false,
        }
    }
}

/// What was ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The command.
    #[error("interrupted before it was done")]
    Command,
    /// The choice of a worker.
    #[error("no worker was chosen, so nothing was submitted")]
    Choice,
    /// The upload.
    #[error("the upload was interrupted, so the worker does not run the job")]
    Upload,
    /// The output of a log.
    #[error("the log is no longer shown; the job continues")]
    Log,
    /// The job.
    #[error("the job was cancelled, so it has no result")]
    Job,
}

/// Why a job cannot be found on this machine.
#[derive(Debug, thiserror::Error)]
pub enum UnknownJob {
    /// There is no record of it.
    #[error(
        "you have not submitted a job {0} from this machine; `sleap-rtc jobs` lists your jobs, and a \
         job string works from any machine"
    )]
    NotRecorded(String),
    /// Several are meant.
    #[error("several jobs begin with {text}: {jobs}; give more of the id")]
    NotSingle {
        /// What was given.
        text: String,
        /// The jobs.
        jobs: NoSingleJob,
    },
    /// Its result is not here.
    #[error(
        "no result of {job} is here: {place} does not exist; `sleap-rtc fetch {job}` downloads it"
    )]
    NoResult {
        /// The job.
        job: String,
        /// Where it should be.
        place: PathBuf,
    },
    /// It has no result yet.
    #[error("{job} has no result yet; `sleap-rtc attach {job}` waits for its end and downloads it")]
    NotOver {
        /// The job.
        job: String,
    },
    /// It was cancelled.
    #[error("{job} was cancelled, so it has no result")]
    WasCancelled {
        /// The job.
        job: String,
    },
    /// The worker did not take it.
    #[error("{job} has no result, because it was refused: {why}")]
    WasRefused {
        /// The job.
        job: String,
        /// Why.
        why: String,
    },
    /// The record cannot be read.
    #[error("the job's record is damaged; use its job string instead")]
    DamagedRecord,
    /// The job was given as a job string, without a place for its result.
    #[error("a job string does not say where to put the result; use --output PATH")]
    NoOutput,
}
