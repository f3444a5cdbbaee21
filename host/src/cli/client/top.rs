//! `sleap-rtc top`: a room on a full screen.

use super::common::CommonArgs;
use super::environment::Environment;
use super::exit::{Exit, Failure};
use super::room::WhichRoom;
use super::{interrupt, jobs};
use crate::client::{self, Join};
use crate::config::{Config, Overrides};
use clap::Args;
use std::io::IsTerminal;

/// The examples under `top --help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  The room that this device has paired with:
    sleap-rtc top
  Another room:
    sleap-rtc top --room-id ROOM --token TOKEN

Keys: up and down choose one of your jobs; a attaches to it, s stops it early, c cancels it, q leaves.";

/// The options of `top`.
#[derive(Args)]
pub struct TopArgs {
    #[command(flatten)]
    room: WhichRoom,
    #[command(flatten)]
    common: CommonArgs,
}

impl TopArgs {
    pub(crate) fn check(self, environment: &mut Environment) -> Result<(Join, Overrides), Failure> {
        let (join, servers) = self.room.check(environment)?;
        if !(std::io::stdout().is_terminal() && environment.stdin_is_terminal) {
            let text = "`top` draws on a terminal, and this is none";
            return Err(Failure::usage(text).hint("`sleap-rtc queue` prints the room once"));
        }
        Ok((join, self.common.check()?.or_servers(servers)))
    }
}

/// Shows the room, and then the job that the user has chosen there.
pub(crate) async fn run(join: Join, config: Config) -> Result<Exit, Failure> {
    let mut interrupts = interrupt::while_following_a_job()?;
    match client::top::run(&config, &join, &mut interrupts).await? {
        Some(job) => jobs::run(jobs::JobOptions::attach(&job), config, interrupts).await,
        None => Ok(Exit::Success),
    }
}
