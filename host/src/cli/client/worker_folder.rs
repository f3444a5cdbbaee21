//! Which worker of this machine a command is about.

use crate::config::Overrides;
use clap::Args;
use std::path::PathBuf;

/// The worker's state folder.
#[derive(Debug, Args)]
pub struct WorkerFolderArgs {
    /// The worker's state folder, if it was started with this option
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl WorkerFolderArgs {
    pub(crate) fn overrides(self) -> Overrides {
        Overrides { state_dir: self.state_dir, ..Overrides::default() }
    }
}
