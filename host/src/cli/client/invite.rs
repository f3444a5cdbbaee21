//! `sleap-rtc room invite`: a pairing code of the worker that runs on this machine.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use super::worker_folder::WorkerFolderArgs;
use crate::config::{Config, Overrides, units};
use crate::worker::control::{self, ControlError};
use crate::worker::pairing::{InvitationNews, Invited};
use clap::Args;
use sleap_rtc_trust::certificate::MemberRole;
use std::time::Duration;

/// The options of `room invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Invite another worker instead of a laptop: it may run the room's jobs, and invite others
    #[arg(long, conflicts_with = "membership")]
    worker: bool,
    /// End the laptop's membership after this time, such as `90d` [default: 365d]
    #[arg(long = "for", id = "membership", value_name = "TIME", value_parser = units::duration)]
    membership: Option<Duration>,
    #[command(flatten)]
    folder: WorkerFolderArgs,
}

impl InviteArgs {
    pub(crate) fn check(self) -> (Invited, Overrides) {
        let role = if self.worker { MemberRole::Worker } else { MemberRole::Client };
        let for_s = self.membership.map(|time| time.as_secs());
        (Invited { role, for_s }, self.folder.overrides())
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        if let ControlError::Refused(_) = error {
            return Self::new(Exit::Refused, error);
        }
        Self::new(Exit::Usage, error).hint(
            "run this on the worker's machine as the worker's user, while the worker runs; give \
             --state-dir DIR if the worker was started with it",
        )
    }
}

/// Shows codes until a device has paired, or none may any more.
pub(crate) async fn run(invited: Invited, config: &Config) -> Result<Exit, Failure> {
    let mut shown = Ok(());
    let show = |news: &InvitationNews| {
        if shown.is_ok() && !is_failure(news) {
            shown = print::line(&news.line());
        }
    };
    let end = control::invite(&config.worker.state_dir, invited, show).await?;
    shown.exit(Exit::Unexpected)?;
    match end {
        InvitationNews::Paired { .. } => Ok(Exit::Success),
        InvitationNews::NoServer { .. } => Err(Failure::message(Exit::Connect, end.line())),
        _ => Err(Failure::message(Exit::Refused, end.line())),
    }
}

/// Whether it is the end, and not the one that was wanted.
fn is_failure(news: &InvitationNews) -> bool {
    news.is_end() && !matches!(news, InvitationNews::Paired { .. })
}
