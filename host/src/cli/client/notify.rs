//! The option `--notify`.

use crate::config::Overrides;
use clap::Args;

/// How the user is notified when the job has ended.
#[derive(Args)]
pub struct NotifyArgs {
    /// Show a notification on the desktop when the job has ended
    #[arg(long)]
    notify: bool,
}

impl NotifyArgs {
    pub(crate) fn over(&self, overrides: Overrides) -> Overrides {
        Overrides { notify: self.notify, ..overrides }
    }
}
