//! `sleap-rtc room members` and `room remove`: who is a member of the room of this machine's worker.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use super::worker_folder::WorkerFolderArgs;
use crate::config::{Config, Overrides};
use crate::worker::control;
use clap::Args;
use sleap_rtc_trust::removal::JobsLeft;

/// The options of `room members`.
#[derive(Debug, Args)]
pub struct MembersArgs {
    #[command(flatten)]
    folder: WorkerFolderArgs,
}

impl MembersArgs {
    pub(crate) fn check(self) -> Overrides {
        self.folder.overrides()
    }
}

/// The options of `room remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The member's name, or the beginning of its key, as `room members` lists them
    #[arg(value_name = "NAME")]
    who: String,
    /// Also cancel the jobs of this member that run, on every worker of the room
    #[arg(long)]
    cancel_jobs: bool,
    #[command(flatten)]
    folder: WorkerFolderArgs,
}

/// `room remove`, checked.
#[derive(Debug)]
pub struct RemoveOptions {
    who: String,
    jobs: JobsLeft,
}

impl RemoveArgs {
    pub(crate) fn check(self) -> (RemoveOptions, Overrides) {
        let jobs = if self.cancel_jobs { JobsLeft::Cancel } else { JobsLeft::Continue };
        (RemoveOptions { who: self.who, jobs }, self.folder.overrides())
    }
}

/// Lists the members.
pub(crate) async fn list(config: &Config) -> Result<Exit, Failure> {
    let members = control::members(&config.worker.state_dir).await?;
    print::line(&members.table()).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}

/// Removes one.
pub(crate) async fn remove(options: &RemoveOptions, config: &Config) -> Result<Exit, Failure> {
    let RemoveOptions { who, jobs } = options;
    let removed = control::remove(&config.worker.state_dir, who.clone(), *jobs).await?;
    print::line(&removed.text()).exit(Exit::Unexpected)?;
    Ok(Exit::Success)
}
