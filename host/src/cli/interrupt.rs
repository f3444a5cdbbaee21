//! Ctrl-C and SIGTERM, as a token.

use super::exit::{Exit, ExitWith, Failure};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGINT or SIGTERM. The second one ends the process at
/// once, for users who do not want to wait.
pub(super) fn until_asked_to_end() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let mut interrupts = signal(SignalKind::interrupt()).exit(Exit::Unexpected)?;
    let mut terminations = signal(SignalKind::terminate()).exit(Exit::Unexpected)?;
    let asked = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if asked.is_cancelled() {
                std::process::exit(Exit::Cancelled as i32);
            }
            asked.cancel();
        }
    });
    Ok(token)
}
