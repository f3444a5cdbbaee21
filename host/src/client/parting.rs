//! How a user parts from a client that stays with a job: by leaving, or by cancelling the job.

use super::display::say;
use std::time::Duration;
use tokio::sync::watch;

/// A second Ctrl-C within this time cancels the job.
pub const SECOND_THOUGHTS: Duration = Duration::from_secs(3);

/// What the user has asked for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: stay.
    Nothing,
    /// Ctrl-C, once: leave, unless a second one follows.
    Interrupted,
    /// Ctrl-C, twice: cancel the job.
    InterruptedTwice,
    /// SIGTERM or SIGHUP: leave at once.
    Leave,
}

/// Tells a client what its user asks for.
#[derive(Debug, Clone)]
pub struct Interrupts(watch::Receiver<Asked>);

/// Where a client and its job stand: what leaving means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The worker does not have the whole package: there is no job to leave yet.
    HandingOver,
    /// The job is the worker's.
    Following,
    /// There is nothing to cancel: the job is over, or is only looked at.
    Nothing,
}

/// How a client parts from its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The job goes on.
    Leave,
    /// It is to end.
    Cancel,
}

impl Interrupts {
    /// Follows `asked`.
    pub fn new(asked: watch::Receiver<Asked>) -> Self {
        Self(asked)
    }

    /// Nobody ever asks.
    pub fn never() -> Self {
        Self(watch::channel(Asked::Nothing).1)
    }

    /// Resolves when the user wants anything but to stay.
    pub(super) async fn any(&mut self) -> Asked {
        match self.0.wait_for(|asked| *asked != Asked::Nothing).await {
            Ok(asked) => *asked,
            // Nobody is left to ask.
            Err(_) => std::future::pending().await,
        }
    }

    /// Resolves when the user parts from the job. After one Ctrl-C that is when no second one has
    /// come for [`SECOND_THOUGHTS`].
    pub(super) async fn parting(&mut self, stage: watch::Receiver<Stage>) -> Parting {
        self.parting_within(stage, SECOND_THOUGHTS).await
    }

    async fn parting_within(&mut self, stage: watch::Receiver<Stage>, limit: Duration) -> Parting {
        let asked = self.any().await;
        if asked == Asked::Leave || *stage.borrow() != Stage::Following {
            return Parting::Leave;
        }
        if asked == Asked::Interrupted {
            let seconds = SECOND_THOUGHTS.as_secs();
            say(&format!("Leaving; the job goes on. Ctrl-C again within {seconds} s cancels it."));
        }
        let second = self.0.wait_for(|asked| *asked != Asked::Interrupted);
        match tokio::time::timeout(limit, second).await {
            Ok(Ok(asked)) if *asked == Asked::InterruptedTwice => Parting::Cancel,
            _ => Parting::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_ctrl_c_leaves_and_two_cancel() {
        use Asked::*;
        let (no_time, hours) = (Duration::ZERO, Duration::from_secs(10_000));
        for (stage, asked, limit, parted) in [
            (Stage::Following, &[Interrupted][..], no_time, Parting::Leave),
            (Stage::Following, &[Interrupted, InterruptedTwice], hours, Parting::Cancel),
            (Stage::Following, &[InterruptedTwice], no_time, Parting::Cancel),
            (Stage::Following, &[Interrupted, Leave], hours, Parting::Leave),
            (Stage::Following, &[Leave], hours, Parting::Leave),
            (Stage::HandingOver, &[Interrupted], hours, Parting::Leave),
            (Stage::Nothing, &[Interrupted], hours, Parting::Leave),
        ] {
            let (ask, wishes) = watch::channel(Nothing);
            let asking = async {
                for wish in asked {
                    ask.send_replace(*wish);
                    tokio::task::yield_now().await;
                }
            };
            let mut interrupts = Interrupts::new(wishes);
            let parting = interrupts.parting_within(watch::channel(stage).1, limit);
            let ((), parting) = tokio::join!(asking, parting);
            assert_eq!(parting, parted, "{stage:?} {asked:?}");
        }
    }
}
