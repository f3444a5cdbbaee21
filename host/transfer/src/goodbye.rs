//! The end of a failed transfer, so that both sides learn the reason.

use super::link::send_frame;
use super::{Accept, Incoming, Link, TransferError};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::frame::TransferFrame;
use sleap_rtc_protocol::text::Printable;
use std::time::Duration;

/// How long the exchange of reasons may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// The other side counts as having stopped after this long without a message.
const QUIET: Duration = Duration::from_millis(300);
/// The longest reason that is sent or shown, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Ends a failed transfer. Sends the reason to the other side or, if the connection broke, checks
/// whether the other side sent its own. Returns the error to report.
pub(crate) async fn conclude<L: Link>(link: &mut L, error: TransferError) -> TransferError {
    match error {
        TransferError::Aborted(_) | TransferError::Interrupted(_) => error,
        TransferError::Lost(_) | TransferError::Stalled(_) => {
            pending_abort(link).await.unwrap_or(error)
        }
        _ => {
            let abort = TransferFrame::Abort { reason: printable(&WithCauses(&error).to_string()) };
            match send_frame(link, abort, GOODBYE_LIMIT).await {
                Ok(()) => drain(link).await,
                Err(unsent) => {
                    tracing::debug!(%unsent, "cannot send the other side the reason for the failure");
                }
            }
            error
        }
    }
}

/// Reads messages that are still in flight. A sender that is blocked in the middle of a chunk reads
/// the reason only after the chunk has been accepted.
async fn drain<L: Link>(link: &mut L) {
    let listen = async {
        while let Ok(Ok(_)) = tokio::time::timeout(QUIET, link.next(Accept::ControlAndChunks)).await
        {
        }
    };
    if tokio::time::timeout(GOODBYE_LIMIT, listen).await.is_err() {
        tracing::debug!("the other side keeps sending after the end of the transfer");
    }
}

/// The reason that the other side sent before the connection broke.
async fn pending_abort<L: Link>(link: &mut L) -> Option<TransferError> {
    let listen = async {
        loop {
            match link.next(Accept::ControlAndChunks).await {
                Ok(Incoming::Control(TransferFrame::Abort { reason })) => {
                    return Some(aborted(&reason));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    tokio::time::timeout(GOODBYE_LIMIT, listen).await.ok().flatten()
}

/// The error for an abort by the other side.
pub(crate) fn aborted(reason: &str) -> TransferError {
    TransferError::Aborted(printable(reason))
}

/// A reason that is safe to send and to show.
fn printable(reason: &str) -> String {
    Printable::line(reason, MAX_REASON_CHARS).into()
}
