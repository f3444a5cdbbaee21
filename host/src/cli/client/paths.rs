//! The option `--path-map`.

use crate::config::{Overrides, PathMapping};
use clap::Args;

/// The option that maps paths in labels.
#[derive(Args)]
#[command(next_help_heading = "Network and files")]
pub struct PathArgs {
    /// Videos whose path begins with FROM are at TO, here or on the worker; repeatable
    #[arg(long, value_name = "FROM=TO", value_parser = PathMapping::from_option)]
    path_map: Vec<PathMapping>,
}

impl PathArgs {
    pub(crate) fn over(self, overrides: Overrides) -> Overrides {
        Overrides { path_map: self.path_map, ..overrides }
    }
}
