//! How a user interrupts a client that follows a job: by detaching, or by cancelling the job.

use super::display::say;
use std::time::Duration;
use tokio::sync::watch;

/// A second Ctrl-C within this time cancels the job.
pub const CANCEL_WINDOW: Duration = Duration::from_secs(3);

/// The signals from the user so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// No signal.
    None,
    /// Ctrl-C once: detach, unless a second one follows.
    CtrlC,
    /// Ctrl-C twice: cancel the job.
    SecondCtrlC,
    /// SIGTERM or SIGHUP: detach at once.
    Terminate,
}

/// Receives the user's signals.
#[derive(Debug, Clone)]
pub struct Interrupts(watch::Receiver<Interrupt>);

/// What a client is doing, which decides what an interrupt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The worker does not have the whole package yet, so there is no job to return to.
    Uploading,
    /// The worker owns the job, which waits for a slot.
    Waiting,
    /// The worker owns the job.
    Following,
    /// There is nothing to cancel: the job has finished, or the client only shows it.
    Viewing,
}

/// How the user wants to end a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndRequest {
    /// The job keeps running.
    Detach,
    /// The job is cancelled.
    Cancel,
}

impl Interrupts {
    /// Receives from `signals`.
    pub fn new(signals: watch::Receiver<Interrupt>) -> Self {
        Self(signals)
    }

    /// Never receives a signal.
    pub fn never() -> Self {
        Self(watch::channel(Interrupt::None).1)
    }

    /// Resolves at the first signal.
    pub(crate) async fn any(&mut self) -> Interrupt {
        let received = self.0.wait_for(|signal| *signal != Interrupt::None).await;
        let received = received.map(|signal| *signal);
        match received {
            Ok(signal) => signal,
            // The sender is gone, so there are no more signals.
            Err(_) => std::future::pending().await,
        }
    }

    /// Resolves when the user wants to end the client. After a single Ctrl-C it waits for a second
    /// one during [`CANCEL_WINDOW`].
    pub(crate) async fn end_requested(&mut self, stage: watch::Receiver<Stage>) -> EndRequest {
        self.end_requested_within(stage, CANCEL_WINDOW).await
    }

    async fn end_requested_within(
        &mut self,
        stage: watch::Receiver<Stage>,
        limit: Duration,
    ) -> EndRequest {
        let signal = self.any().await;
        let continues = match *stage.borrow() {
            Stage::Following => "the job keeps running",
            Stage::Waiting => "the job keeps its place",
            Stage::Uploading | Stage::Viewing => return EndRequest::Detach,
        };
        if signal == Interrupt::Terminate {
            return EndRequest::Detach;
        }
        if signal == Interrupt::CtrlC {
            let seconds = CANCEL_WINDOW.as_secs();
            say(&format!(
                "Detaching; {continues}. To cancel it, press Ctrl-C again within {seconds} s."
            ));
        }
        let second = self.0.wait_for(|signal| *signal != Interrupt::CtrlC);
        match tokio::time::timeout(limit, second).await {
            Ok(Ok(signal)) if *signal == Interrupt::SecondCtrlC => EndRequest::Cancel,
            _ => EndRequest::Detach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_ctrl_c_detaches_and_two_cancel() {
        use Interrupt::{CtrlC, SecondCtrlC, Terminate};
        let (no_time, hours) = (Duration::ZERO, Duration::from_secs(10_000));
        for (stage, signals, limit, expected) in [
            (Stage::Following, &[CtrlC][..], no_time, EndRequest::Detach),
            (Stage::Following, &[CtrlC, SecondCtrlC], hours, EndRequest::Cancel),
            (Stage::Following, &[SecondCtrlC], no_time, EndRequest::Cancel),
            (Stage::Following, &[CtrlC, Terminate], hours, EndRequest::Detach),
            (Stage::Following, &[Terminate], hours, EndRequest::Detach),
            (Stage::Waiting, &[CtrlC], no_time, EndRequest::Detach),
            (Stage::Waiting, &[CtrlC, SecondCtrlC], hours, EndRequest::Cancel),
            (Stage::Uploading, &[CtrlC], hours, EndRequest::Detach),
            (Stage::Viewing, &[CtrlC], hours, EndRequest::Detach),
        ] {
            let (send, received) = watch::channel(Interrupt::None);
            let sending = async {
                for signal in signals {
                    send.send_replace(*signal);
                    tokio::task::yield_now().await;
                }
            };
            let mut interrupts = Interrupts::new(received);
            let requested = interrupts.end_requested_within(watch::channel(stage).1, limit);
            let ((), requested) = tokio::join!(sending, requested);
            assert_eq!(requested, expected, "{stage:?} {signals:?}");
        }
    }
}
