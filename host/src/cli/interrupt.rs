//! Ctrl-C and SIGTERM: a cancellation token for servers, requests for clients that follow a job.

use super::exit::{Exit, ExitWith, Failure};
use crate::client::parting::{Asked, Interrupts, SECOND_THOUGHTS};
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A token that the first SIGINT or SIGTERM cancels. The second one ends the process immediately.
pub(super) fn until_asked_to_end() -> Result<CancellationToken, Failure> {
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
pub(super) fn at_each_hang_up(work: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let mut hang_ups = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_ups.recv().await.is_some() {
            work();
        }
    });
    Ok(())
}

/// Signals for a client that follows a job. SIGINT detaches, and a second SIGINT shortly after it
/// cancels the job; SIGTERM and SIGHUP detach at once. One more signal ends the process immediately.
pub(super) fn while_following_a_job() -> Result<Interrupts, Failure> {
    let (wish, wished) = watch::channel(Asked::Nothing);
    let mut interrupts = listen(SignalKind::interrupt())?;
    let mut terminations = listen(SignalKind::terminate())?;
    let mut hang_ups = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            let interrupted = tokio::select! {
                _ = interrupts.recv() => true,
                _ = terminations.recv() => false,
                _ = hang_ups.recv() => false,
            };
            let asked = *wish.borrow();
            let in_time = first.is_some_and(|first| first.elapsed() <= SECOND_THOUGHTS);
            let next = match (asked, interrupted) {
                (Asked::Nothing, true) => Asked::Interrupted,
                (Asked::Interrupted, true) if in_time => Asked::InterruptedTwice,
                (Asked::Nothing | Asked::Interrupted, false) => Asked::Leave,
                // A shell that closes may send SIGHUP twice.
                (Asked::Leave, false) => continue,
                _ => std::process::exit(Exit::Cancelled as i32),
            };
            first.get_or_insert_with(Instant::now);
            wish.send_replace(next);
        }
    });
    Ok(Interrupts::new(wished))
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).exit(Exit::Unexpected)
}
