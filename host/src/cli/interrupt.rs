//! Turns Ctrl-C and SIGTERM into a cancellation token, for servers.

use super::exit::{Exit, ExitWith, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(any(feature = "signaling", feature = "worker"))]
use tokio_util::sync::CancellationToken;

/// A token that the first SIGINT or SIGTERM cancels. The second one ends the process immediately.
#[cfg(any(feature = "signaling", feature = "worker"))]
pub(crate) fn until_asked_to_end() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
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

/// Calls `work` at each SIGHUP, for as long as the program runs.
#[cfg(any(feature = "signaling", feature = "worker"))]
pub(crate) fn at_each_hang_up(work: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let mut hang_ups = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_ups.recv().await.is_some() {
            work();
        }
    });
    Ok(())
}

pub(crate) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).exit(Exit::Unexpected)
}
