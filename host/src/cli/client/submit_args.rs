//! The options that `client-train` and `client-track` share.

use super::common::CommonArgs;
use super::connect::{ConnectArgs, ConnectOptions};
use super::environment::Environment;
use super::exit::Failure;
use super::limit::LimitArgs;
use super::log::WholeLogArgs;
use super::notify::NotifyArgs;
use super::paths::PathArgs;
use crate::config::{Overrides, Wait, units};
use std::time::Duration;

/// Which worker gets the job, and how it gets there.
#[derive(clap::Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Wait for a slot where none is free, at most this long, such as 2h [default: until the job starts]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = units::duration)]
    #[arg(help_heading = "Connection")]
    wait: Option<Option<Duration>>,
    #[command(flatten)]
    log: WholeLogArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl SubmitArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(ConnectOptions, Overrides), Failure> {
        let connect = self.connect.check(environment)?;
        let common = self.common.check()?.or_servers(connect.servers.clone());
        let wait = self.wait.map(|limit| limit.map_or(Wait::UntilItStarts, Wait::For));
        let common = Overrides { python_worker: connect.python_worker, wait, ..common };
        let overrides = self.paths.over(self.limit.over(common));
        Ok((connect, self.log.over(self.notify.over(overrides))))
    }
}
