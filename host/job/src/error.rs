//! Errors of jobs.

use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::BadTransition;
use std::io;
use std::path::{Path, PathBuf};

/// Why a job cannot be stored, started, followed or commanded. A job that fails has an outcome instead.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A job with this id exists.
    #[error("there is already a job {0}")]
    Exists(JobId),
    /// Another process writes this job's events.
    #[error("the job in {0} is in use by another process")]
    Locked(PathBuf),
    /// A file on disk is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The job is not in the state that the caller expected.
    #[error(transparent)]
    State(#[from] BadTransition),
    /// The system reports an error.
    #[error("cannot {doing} {path}")]
    Io {
        /// The operation, in words.
        doing: &'static str,
        /// The file, folder or program.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The job's process ended at once, or does not answer.
    #[error("the job's process does not answer; its messages are in {0}")]
    Silent(PathBuf),
    /// The job's process died. The job's last event records it.
    #[error("the job's process has died: the job was interrupted")]
    Interrupted,
    /// A thread that read the job's folder panicked.
    #[error("a thread that reads the job's folder failed (this is a bug)")]
    Thread,
    /// The worker was started again before this process began, and lets the job wait for another one.
    #[error("the job waits for a slot again; another process will run it")]
    Withdrawn,
    /// Another process runs this job, or its worker has ended it.
    #[error("the job was begun or ended elsewhere; this process leaves it alone")]
    Claimed,
    /// The cluster does not take the job.
    #[error(transparent)]
    Slurm(#[from] super::slurm::SlurmError),
    /// The job has no process.
    #[error("the job is not running")]
    NotRunning,
    /// The command did not reach the job's process.
    #[error("the job's process did not accept the command")]
    Command(#[source] io::Error),
}

impl JobError {
    /// Whether a file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Adds the operation and the path to an error of the system.
pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JobError {
    move |source| JobError::Io { doing, path: path.to_owned(), source }
}

pub(crate) fn damaged(path: &Path, why: impl ToString) -> JobError {
    JobError::Damaged { path: path.to_owned(), why: why.to_string() }
}
