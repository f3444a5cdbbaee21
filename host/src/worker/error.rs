//! Why serving a client fails.

use crate::blocking::Panicked;
use sleap_rtc_base::disk::is_full;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::JobError;
use sleap_rtc_net::dialect::{DialectError, ProvingError};
use sleap_rtc_net::python::PythonError;
use sleap_rtc_net::rtc::RtcError;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_signaling::client::SignalingError;
use sleap_rtc_transfer::TransferError;
use sleap_rtc_trust::certificate::CertificateError;
use sleap_rtc_trust::handshake::ProofError;
use std::time::Duration;

/// Why a connection ended before its job was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the client did not connect within {} s", limit.as_secs())]
    NeverConnected { limit: Duration, source: Option<RtcError> },
    #[error("the peer connection could not be made")]
    Rtc(#[from] RtcError),
    #[error("the answer could not be sent")]
    Signaling(#[from] SignalingError),
    #[error(transparent)]
    Dialect(#[from] DialectError),
    #[error(transparent)]
    Python(PythonError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("the client {0}")]
    Unproven(ProvingError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the client was removed from the room")]
    Removed,
    #[error("the client continues over another connection")]
    Replaced,
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the job's folder cannot be used")]
    Folder(#[from] JobError),
    #[error(transparent)]
    Panicked(#[from] Panicked),
    #[error("a file could not be read or written")]
    Io(#[from] std::io::Error),
}

/// A refusal.
pub(crate) fn refused(code: RefusalCode, message: impl Into<String>) -> ConnectionError {
    ConnectionError::Refused(Refusal::new(code, message))
}

impl ConnectionError {
    /// Whether the disk is full.
    pub(crate) fn is_full_disk(&self) -> bool {
        match self {
            Self::Io(error) => is_full(error),
            Self::Folder(JobError::Io { source, .. }) => is_full(source),
            Self::Transfer(TransferError::Storage(error)) => error.is_full(),
            _ => false,
        }
    }

    /// What to send to the client before the connection ends. `None` if nothing can be sent, or if the
    /// transfer has sent it already.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            // Without a refusal, the client would reconnect in vain.
            Self::Folder(_) | Self::Io(_) => {
                let text = format!("the worker cannot use the job's folder: {}", WithCauses(self));
                Some(Refusal::new(RefusalCode::Other, text))
            }
            Self::Unproven(ProvingError::Proof(why)) if membership(why).is_some() => {
                membership(why).map(|text| Refusal::new(RefusalCode::NoMember, text))
            }
            Self::Unproven(_) => Some(Refusal::new(RefusalCode::Unauthorized, self.to_string())),
            Self::Panicked(panicked) => Some((*panicked).into()),
            Self::Protocol(_) => Some(Refusal::new(RefusalCode::Invalid, self.to_string())),
            Self::NeverConnected { .. }
            | Self::Rtc(_)
            | Self::Signaling(_)
            | Self::Dialect(_)
            | Self::Python(_)
            | Self::Transfer(_)
            | Self::Removed
            | Self::Replaced => None,
        }
    }
}

/// What a client that has proven its key hears, and is not, or no longer, a member.
fn membership(why: &ProofError) -> Option<&'static str> {
    match why {
        ProofError::Removed => Some(
            "this device was removed from the room. Its workers' operators can invite it again: `sleap-rtc room \
             invite` on a worker's machine shows a code",
        ),
        ProofError::Certificate(CertificateError::Expired) => Some(
            "this device's membership of the room has expired. `sleap-rtc room invite` on a worker's machine shows \
             a code to pair again",
        ),
        ProofError::OldToken => Some(
            "the room's token has changed, because somebody was removed from the room. A worker of the room shows \
             the new one; or pair with it: `sleap-rtc room invite` on its machine shows a code",
        ),
        ProofError::NoMember => Some(
            "this device has neither the room's token nor a certificate of it. `sleap-rtc room invite` on a \
             worker's machine shows a code to pair with",
        ),
        _ => None,
    }
}

impl From<PythonError> for ConnectionError {
    fn from(error: PythonError) -> Self {
        match error {
            PythonError::File(error) => Self::Io(error),
            lost => Self::Python(lost),
        }
    }
}

impl From<Panicked> for Refusal {
    fn from(panicked: Panicked) -> Self {
        Self::new(RefusalCode::Other, format!("the worker failed: {panicked}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::blocking;

    #[tokio::test]
    async fn a_panic_is_reported_to_the_client_as_a_bug() {
        let panicked = blocking(|| panic!("on purpose")).await;
        let panicked: Result<(), ConnectionError> = panicked.map_err(ConnectionError::from);
        let refusal = panicked.unwrap_err().refusal().unwrap();
        assert!(refusal.message.contains("this is a bug"), "{refusal:?}");
    }
}
