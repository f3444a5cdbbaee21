//! The option `--bwlimit`.

use crate::config::{Overrides, units};
use clap::Args;

/// The option that limits the speed of transfers.
#[derive(Args)]
#[command(next_help_heading = "Network and files")]
pub struct LimitArgs {
    /// Send and receive files no faster than this, such as 10MB/s or 20Mbit/s
    #[arg(long, value_name = "RATE", value_parser = units::rate, allow_hyphen_values = true)]
    bwlimit: Option<u64>,
}

impl LimitArgs {
    pub(crate) fn over(&self, overrides: Overrides) -> Overrides {
        Overrides { bwlimit: self.bwlimit, ..overrides }
    }
}
