//! Every way in which a client can fail.

use super::connect::ConnectFailure;
use super::not_a_package::NotAPackage;
use super::untrusted::Untrusted;
use crate::blocking::Panicked;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::dialect::{DialectError, ProvingError};
use sleap_rtc_net::python::IncomingFileError;
use sleap_rtc_net::quic::QuicError;
use sleap_rtc_package::ArchiveError;
use sleap_rtc_package::CheckError;
use sleap_rtc_policy::PolicyError;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::path::PathError;
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_signaling::client::SignalingError;
use sleap_rtc_transfer::{StorageError, TransferError};
use sleap_rtc_trust::session::JobString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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
    /// No worker takes the job, and some workers have not proven their identity.
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
    /// The client detached; the job keeps running.
    #[error("detached; the job keeps running")]
    Detached(Box<JobString>),
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
    /// The user cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A bug of this program.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl ClientError {
    /// Whether the worker refused the job, or broke the protocol: another worker may take it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::UnknownToWorker | Self::Worker { .. })
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

    /// Whether another connection can continue where this one failed.
    pub(crate) fn may_heal(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Transfer { source, .. } => source.may_heal(),
            _ => false,
        }
    }
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
    /// The record cannot be read.
    #[error("the job's record is damaged; use its job string instead")]
    DamagedRecord,
    /// The job was given as a job string, without a place for its result.
    #[error("a job string does not say where to put the result; use --output PATH")]
    NoOutput,
}

/// Why a package cannot be submitted.
#[derive(Debug)]
pub struct PackageError {
    /// The package, unless `fault` names the file.
    path: Option<PathBuf>,
    fault: PackageFault,
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), WithCauses(&self.fault)),
            None => write!(f, "{}", WithCauses(&self.fault)),
        }
    }
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum PackageFault {
    /// It is not a package.
    #[error(transparent)]
    NotAPackage(#[from] NotAPackage),
    /// Its files cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No worker could run it.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A file cannot have its name in a package.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A folder cannot be read.
    #[error("cannot read {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Too many labels whose videos are not in the package.
    #[error("too many of its labels have their videos elsewhere")]
    TooManyLabels,
    /// `--frames` without `--video-index`, for labels with several videos.
    #[error(
        "{data} has {videos} videos: choose the one whose frames to predict with --video-index"
    )]
    WhichVideo {
        /// The labels.
        data: PathBuf,
        /// How many videos they have.
        videos: usize,
    },
    /// None of the frames that `--frames` asks for exists.
    #[error("none of the frames that --frames asks for is in {data}: {held}")]
    NoSuchFrames {
        /// The labels.
        data: PathBuf,
        /// The frames that they have.
        held: String,
    },
    /// Python workers cannot run it.
    #[error("{worker} is a Python worker: {why}")]
    NotForPython {
        /// Which worker.
        worker: PeerId,
        /// Why not.
        why: String,
    },
}

impl PackageFault {
    /// The error about the package at `path`.
    pub(crate) fn at(self, path: &Path) -> ClientError {
        use ArchiveError::{Empty, NotAFile, NotAZip, Read};
        let names_its_file = matches!(
            self,
            Self::Archive(Read { .. } | NotAZip { .. } | NotAFile { .. } | Empty { .. })
        );
        let path = (!names_its_file).then(|| path.to_owned());
        ClientError::Package(PackageError { path, fault: self })
    }
}

impl From<PackageFault> for ClientError {
    fn from(fault: PackageFault) -> Self {
        Self::Package(PackageError { path: None, fault })
    }
}

impl PackageFault {
    /// The error about a file of the user's that cannot be read.
    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Folder { path, source }
    }
}

/// Why shared storage cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// A path leaves the shared root.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A path cannot be sent to a worker.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file or folder cannot be used.
    #[error("cannot use {path}")]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A path is somewhere else.
    #[error(
        "{path} is not below the shared root {root}; move it there, or submit without shared storage"
    )]
    Outside {
        /// The file or folder.
        path: PathBuf,
        /// The shared root.
        root: PathBuf,
    },
}

impl From<SharedError> for ClientError {
    fn from(error: SharedError) -> Self {
        Self::Shared(error)
    }
}

/// Why there is no worker for a job.
#[derive(Debug, thiserror::Error)]
pub enum NoWorker {
    /// The named worker is not in the room.
    #[error("worker {0} is not in the room")]
    NotInRoom(PeerId),
    /// The worker does not answer.
    #[error("worker {worker} did not answer the offer within {} s", .limit.as_secs())]
    NoAnswer {
        /// Which worker.
        worker: PeerId,
        /// How long the client waited.
        limit: Duration,
    },
    /// The room has no workers.
    #[error("there are no workers in this room; start one with `sleap-rtc worker`")]
    EmptyRoom,
    /// None of the room's workers fits the job.
    #[error(transparent)]
    NoneFits(SkippedWorkers),
    /// The user did not choose one.
    #[error("no worker was chosen within five minutes; the connection was closed")]
    NotChosen,
}

/// Why a job, or a connection for it, is refused.
#[derive(Debug, thiserror::Error)]
pub enum JobRefused {
    /// For the reason that the worker gives.
    #[error("{}", quoted(.0))]
    ByWorker(String),
    /// The same, but only because its slots are reserved; one may be free in a moment.
    #[error("{}", quoted(.0))]
    Reserved(String),
    /// Every worker of the room refuses it, or does not fit it.
    #[error(transparent)]
    ByAll(SkippedWorkers),
    /// A Python worker serves another client.
    #[error(
        "worker {0} is busy: it is a Python worker, which answers a second client but serves only the \
         first; try again later, or use another worker"
    )]
    PythonBusy(PeerId),
    /// A Python worker keeps no jobs.
    #[error("worker {0} is a Python worker, which keeps no jobs")]
    PythonKeepsNothing(PeerId),
    /// A Python worker wants the secret of its room.
    #[error(
        "worker {0} (Python sleap-rtc 0.0.7 or newer) asks for its room's secret, which this program \
         does not support; start that worker without a secret, or use this program's worker"
    )]
    PythonSecret(PeerId),
    /// A Python worker cannot send predictions.
    #[error(
        "worker {0} is a Python worker, and no known version sends predictions back: use a worker that \
         runs this program"
    )]
    PythonTracking(PeerId),
    /// A Python worker has no mounts.
    #[error(
        "worker {0} is a Python worker, which cannot see the videos: use a worker that runs this program"
    )]
    PythonMounts(PeerId),
    /// A Python worker cannot use the shared storage.
    #[error(
        "worker {worker} cannot use the shared storage: {why}; without --shared-storage-root the \
         package is sent instead"
    )]
    PythonStorage {
        /// Which worker.
        worker: PeerId,
        /// Its reason.
        why: String,
    },
    /// The job has no result yet.
    #[error(
        "the job is still running; wait for its result with `attach`, or end it early with `stop`"
    )]
    StillRunning,
    /// The same, for a job on this machine.
    #[error("the job is still running; its files so far are in {0}")]
    StillRunningIn(PathBuf),
    /// The job cannot be stopped any more.
    #[error("the job has already finished")]
    Finished,
}

/// The most characters that are shown of a worker's own name, or of a run's.
pub(crate) const NAME_CHARS: usize = 80;
/// The most characters that are shown of one message from a worker.
const QUOTED_CHARS: usize = 4_000;

/// A message from a worker. Its further lines are indented, so that they cannot be mistaken for
/// lines of this program.
pub(crate) fn quoted(text: &str) -> String {
    Printable::lines(text, QUOTED_CHARS).as_str().replace('\n', "\n    ")
}

/// Workers that were skipped, each with the reason.
#[derive(Debug, thiserror::Error)]
pub struct SkippedWorkers {
    pub(crate) min_gpu_memory_mib: Option<u64>,
    pub(crate) workers: Vec<SkippedWorker>,
}

/// A worker that was skipped.
#[derive(Debug)]
pub(crate) struct SkippedWorker {
    pub(crate) name: String,
    pub(crate) worker: PeerId,
    pub(crate) why: String,
}

impl fmt::Display for SkippedWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Printable::line(&self.name, NAME_CHARS);
        write!(f, "  {name} ({}): {}", self.worker, quoted(&self.why))
    }
}

impl fmt::Display for SkippedWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no worker in this room takes the job now")?;
        if let Some(mib) = self.min_gpu_memory_mib {
            write!(f, " (--min-gpu-memory {mib})")?;
        }
        f.write_str(":")?;
        self.workers.iter().try_for_each(|worker| write!(f, "\n{worker}"))
    }
}

/// How a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobFailure {
    /// As the worker reports it.
    #[error("{}", quoted(.0))]
    Reported(String),
    /// Its process was ended from outside.
    #[error(
        "the job was interrupted on the worker (the machine restarted, or the job was killed); \
         download what it had saved with `sleap-rtc fetch`"
    )]
    Interrupted,
    /// The same, and there is nothing to download.
    #[error(
        "the job was interrupted on the worker (the machine restarted, its user logged out, or the job \
         was killed), and it had saved nothing by then"
    )]
    NothingSaved,
}

/// How a worker misbehaves.
#[derive(Debug, thiserror::Error)]
pub enum Misbehavior {
    /// It violates the protocol.
    #[error("violated the protocol {during}: {}", WithCauses(.error))]
    Dialect {
        /// What the client was doing.
        during: &'static str,
        /// What is wrong.
        error: DialectError,
    },
    /// It sends nothing after the package.
    #[error("was silent after it had received the package")]
    SilentAfterPackage,
    /// A Python worker sends nothing.
    #[error("was silent for {} s {when}", .limit.as_secs())]
    Silent {
        /// How long the client waited.
        limit: Duration,
        /// What the worker was doing.
        when: &'static str,
    },
    /// A Python worker runs nothing.
    #[error("reports success but has run nothing: it found no training in the package")]
    NothingRun,
    /// A Python worker ends without a result.
    #[error("sent no result")]
    NoResult,
    /// A Python worker's result is not as announced.
    #[error("sent a result that was refused: {0}")]
    ResultFile(IncomingFileError),
    /// A Python worker's result has an unacceptable name.
    #[error("sent a result that was refused: {0}")]
    ResultName(PathError),
    /// A Python worker's result cannot be unpacked.
    #[error("sent a damaged result: {}", WithCauses(.0))]
    DamagedResult(TransferError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_does_not_pass_for_a_line_of_this_program() {
        let why = "no\x1b[2J\u{202e}\nerror: faked\r\nReceiving result: done".to_owned();
        let worker = PeerId::new("w1").unwrap();
        let skipped = SkippedWorker { name: "gpu1\nSelected w2".into(), worker, why: why.clone() };
        for text in [
            JobRefused::ByWorker(why.clone()).to_string(),
            JobFailure::Reported(why).to_string(),
            skipped.to_string(),
        ] {
            let mut lines = text.lines();
            assert!(lines.next().is_some_and(|line| line.ends_with("no[2J")), "{text:?}");
            assert!(lines.all(|line| line.starts_with("    ")), "{text:?}");
        }
    }
}
