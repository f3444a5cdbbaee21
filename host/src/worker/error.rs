//! How serving a client can fail.

use sleap_rtc_net::dialect::DialectError;
use sleap_rtc_net::rtc::RtcError;
use sleap_rtc_signaling::client::SignalingError;
use std::time::Duration;

/// Why a connection ended before its job was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("no data channel within {} s", limit.as_secs())]
    NeverConnected { limit: Duration, source: RtcError },
    #[error("the peer connection could not be made")]
    Rtc(#[from] RtcError),
    #[error("the answer could not be sent")]
    Signaling(#[from] SignalingError),
    #[error(transparent)]
    Dialect(#[from] DialectError),
    #[error("the client is gone")]
    Gone,
    #[error(transparent)]
    Transfer(#[from] sleap_rtc_transfer::TransferError),
    #[error("{0}")]
    Refused(#[from] sleap_rtc_protocol::job::Refusal),
    #[error("the client goes on over another connection")]
    Replaced,
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the job's folder cannot be used")]
    Folder(#[from] sleap_rtc_job::JobError),
    /// Work on a thread of its own panicked.
    #[error("a thread of the worker ended early; this is a bug")]
    Thread,
    #[error("a file could not be read or written")]
    Io(#[from] std::io::Error),
}
