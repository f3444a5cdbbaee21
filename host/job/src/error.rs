//! Why a job cannot be kept, started, followed or commanded.

use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::BadTransition;
use std::io;
use std::path::{Path, PathBuf};

/// Why a job cannot be kept, started, followed or commanded. How a job itself fails is an outcome.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The job is known already.
    #[error("there is a job {0} already")]
    Exists(JobId),
    /// Another process writes this job's events.
    #[error("the job in {0} is in use by another process")]
    Locked(PathBuf),
    /// What is on disk makes no sense.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The job does not stand where the caller thought.
    #[error(transparent)]
    State(#[from] BadTransition),
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// In words.
        doing: &'static str,
        /// The file, folder or program.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Its process ended at once or says nothing.
    #[error("the job's process does not answer; what it said is in {0}")]
    Silent(PathBuf),
    /// Its process is gone; the job's events say so now.
    #[error("the job's process is gone: the job was interrupted")]
    Interrupted,
    /// A thread that read for it panicked.
    #[error("a thread that read the job's folder ended early; this is a bug")]
    Thread,
    /// There is no process to take a command or to be followed.
    #[error("the job does not run")]
    NotRunning,
    /// The command did not get through.
    #[error("the job did not take the command: {0}")]
    Command(io::Error),
}

/// Adds to an error of the system what was being done, to what.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JobError {
    move |source| JobError::Io { doing, path: path.to_owned(), source }
}

pub(super) fn damaged(path: &Path, why: impl ToString) -> JobError {
    JobError::Damaged { path: path.to_owned(), why: why.to_string() }
}
