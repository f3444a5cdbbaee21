//! `sleap-rtc room invite`: a pairing code of the worker that runs on this machine.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use crate::config::{Config, Overrides};
use crate::worker::pairing::{self, ControlError, InvitationNews};
use clap::Args;
use sleap_rtc_trust::certificate::MemberRole;
use std::path::PathBuf;

/// The options of `room invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Invite another worker instead of a laptop: it may run the room's jobs, and invite others
    #[arg(long)]
    worker: bool,
    /// The worker's state folder, if it was started with this option
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl InviteArgs {
    pub(crate) fn check(self) -> (MemberRole, Overrides) {
        let role = if self.worker { MemberRole::Worker } else { MemberRole::Client };
        (role, Overrides { state_dir: self.state_dir, ..Overrides::default() })
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::new(Exit::Usage, error).hint(
            "run this on the worker's machine as the worker's user, while the worker runs; give \
             --state-dir DIR if the worker was started with it",
        )
    }
}

/// Shows codes until a device has paired, or none may any more.
pub(crate) async fn run(role: MemberRole, config: &Config) -> Result<Exit, Failure> {
    let mut shown = Ok(());
    let show = |news: &InvitationNews| {
        if shown.is_ok() && !is_failure(news) {
            shown = print::line(&news.line());
        }
    };
    let end = pairing::invite(&config.worker.state_dir, role, show).await?;
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
