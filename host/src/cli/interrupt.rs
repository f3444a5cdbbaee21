//! Turns requests to end into a cancellation token, for servers.

use super::exit::{Exit, ExitWith, Failure};
use sleap_rtc_base::os::EndRequests;
use tokio_util::sync::CancellationToken;

/// A token that the first request to end cancels: Ctrl-C, or SIGTERM. The second one ends the process
/// immediately.
pub(crate) fn until_asked_to_end() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let mut requests = EndRequests::listen().exit(Exit::Unexpected)?;
    let asked = token.clone();
    tokio::spawn(async move {
        loop {
            requests.next().await;
            if asked.is_cancelled() {
                std::process::exit(Exit::Cancelled as i32);
            }
            asked.cancel();
        }
    });
    Ok(token)
}
