//! Why a transfer fails.

use super::StorageError;
use sleap_rtc_package::ArchiveError;
use sleap_rtc_protocol::lists::ListError;
use sleap_rtc_protocol::transfer::ManifestError;
use std::path::Path;
use std::time::Duration;

/// Why a [`Link`](super::Link) has ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The session around the transfer ends it, for this reason.
    #[error("{0}")]
    Interrupted(String),
    /// The other side broke the protocol around the transfer.
    #[error("the other side broke the protocol")]
    Violated(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection failed.
    #[error("the connection was lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a transfer fails.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The package cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The list of files is rejected.
    #[error("the list of files is rejected")]
    Manifest(#[from] ManifestError),
    /// The connection failed.
    #[error(transparent)]
    Lost(LinkError),
    /// The session ended the transfer.
    #[error("{0}")]
    Interrupted(String),
    /// The other side aborted the transfer.
    #[error("the other side aborted the transfer: {0}")]
    Aborted(String),
    /// The other side sent nothing.
    #[error("the other side sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side sends messages, but the transfer makes no progress.
    #[error("the transfer made no progress for {} s", .0.as_secs())]
    NoProgress(Duration),
    /// The other side read nothing.
    #[error("the other side accepted no data for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The other side broke the protocol around the transfer.
    #[error(transparent)]
    Violated(LinkError),
    /// The other side violated the protocol.
    #[error("the other side violated the transfer protocol: {0}")]
    Protocol(&'static str),
    /// It is larger than usual, and nobody wanted it.
    #[error(
        "its {bytes} bytes are more than the {above_bytes} that are received without a question"
    )]
    Declined {
        /// The sum of the sizes of its files, in bytes.
        bytes: u64,
        /// The size up to which nobody is asked, in bytes.
        above_bytes: u64,
    },
    /// The content does not match its announced hash, even on the second attempt.
    #[error(
        "the content of {path:?} arrived damaged twice; the file may have changed while it was \
         sent: try again"
    )]
    WrongContent {
        /// The file, as the manifest names it.
        path: String,
    },
    /// A thread that reads or writes files ended unexpectedly.
    #[error("the thread that reads or writes files failed (this is a bug)")]
    Thread,
}

impl TransferError {
    /// Whether the same transfer may succeed over another connection.
    pub fn may_heal(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Silent(_) | Self::Stalled(_))
    }

    /// Whether the files may differ from what was announced.
    pub fn is_about_files(&self) -> bool {
        matches!(self, Self::Archive(_) | Self::Aborted(_))
    }

    /// The same error with `name` in place of the path of the archive at `path`.
    pub fn with_archive_name(self, path: &Path, name: &str) -> Self {
        match self {
            Self::Archive(error) => Self::Archive(error.with_archive_name(path, name)),
            other => other,
        }
    }
}

impl From<ListError> for TransferError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Manifest(error) => Self::Manifest(error),
            ListError::Malformed(why) => Self::Protocol(why),
        }
    }
}

impl From<LinkError> for TransferError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Interrupted(reason) => Self::Interrupted(reason),
            violated @ LinkError::Violated(_) => Self::Violated(violated),
            lost @ LinkError::Lost(_) => Self::Lost(lost),
        }
    }
}
