//! The option `--log`.

use crate::config::Overrides;
use clap::Args;

/// How much of a job to show.
#[derive(Args)]
pub struct WholeLogArgs {
    /// Print the trainer's own output instead of what matters of it
    #[arg(long)]
    log: bool,
}

impl WholeLogArgs {
    pub(crate) fn over(&self, overrides: Overrides) -> Overrides {
        Overrides { whole_log: self.log, ..overrides }
    }
}
