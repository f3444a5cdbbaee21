//! Why no worker has run the job: none takes it, one refuses it, or one fails.

use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::dialect::DialectError;
use sleap_rtc_net::python::IncomingFileError;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::path::PathError;
use sleap_rtc_protocol::text::{Printable, duration};
use sleap_rtc_transfer::TransferError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
    /// All its slots are reserved; one may be free in a moment.
    #[error("{}", quoted(.0))]
    Reserved(String),
    /// No slot is free.
    #[error("{}", quoted(.0))]
    Busy(String),
    /// No slot is free, and jobs cannot wait there.
    #[error("{}\n    worker {worker} has no queue in which the job could wait", quoted(.why))]
    NoQueue {
        /// Which worker.
        worker: PeerId,
        /// The reason that it gives.
        why: String,
    },
    /// The job did not start in the time that its user allows.
    #[error(
        "the job did not start on worker {worker} within {}, and is withdrawn",
        duration(.waited.as_secs_f64())
    )]
    WaitedInVain {
        /// Which worker.
        worker: PeerId,
        /// How long it has waited.
        waited: Duration,
    },
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
    /// The job, which is on this machine, has no result yet.
    #[error("the job is still running; its files so far are in {0}")]
    StillRunningIn(PathBuf),
    /// The job waits no more.
    #[error("the job has begun; `attach` shows how far it is")]
    Begun,
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
    /// Whether one of them may take the job once it has a free slot.
    pub(crate) is_worth_waiting: bool,
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
    /// Its process was ended from outside, and there is nothing to download.
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
    /// Its events are not in order.
    #[error("sent events out of order: {0}")]
    Disorder(String),
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
