//! `sleap-rtc doctor`: checks a machine before anybody waits for it.
//!
//! | module | what it checks |
//! |---|---|
//! | `program` | which `sleap-rtc` the shell finds |
//! | `machine` | folders and their locks, sockets, plugins |
//! | `limits` | what the system lets a process have (with the feature `worker`) |
//! | `meeting_place` | which signaling server is meant where nobody has named one |
//! | `trainer` | GPUs, their driver, the trainer and its PyTorch (with the feature `worker`) |
//!
//! The signaling server, the proxy on the way to it and the clock are [`netcheck`](super::netcheck)'s.

#[cfg(feature = "worker")]
mod limits;
mod machine;
mod meeting_place;
mod program;
#[cfg(feature = "worker")]
mod trainer;

use super::common::CommonArgs;
use super::environment::Environment;
use super::exit::{Exit, Failure};
use super::findings::{self, Finding};
use super::{nearby, netcheck};
use crate::config::{Config, Overrides};
use sleap_rtc_protocol::ids::RoomName;
#[cfg(feature = "worker")]
use std::path::PathBuf;

/// The examples under `--help`.
#[cfg(feature = "worker")]
pub(crate) const EXAMPLES: &str = "\
Examples:
  Everything:
    sleap-rtc doctor
  What a worker needs, as the user that runs it:
    sleap-rtc doctor --worker
  What a client needs, for another program to read:
    sleap-rtc doctor --client --json
Ends with exit code 0 when nothing has failed, else with 1.";
#[cfg(not(feature = "worker"))]
pub(crate) const EXAMPLES: &str = "\
Examples:
  Everything:
    sleap-rtc doctor
  The same, for another program to read:
    sleap-rtc doctor --json
Ends with exit code 0 when nothing has failed, else with 1.";

/// The options of `doctor`.
#[derive(clap::Args)]
pub struct DoctorArgs {
    /// Check only what a worker needs
    #[cfg(feature = "worker")]
    #[arg(long, conflicts_with = "client")]
    worker: bool,
    /// Check only what a client needs
    #[cfg_attr(
        not(feature = "worker"),
        allow(dead_code, reason = "there is nothing else to check")
    )]
    #[arg(long)]
    client: bool,
    /// Print a JSON list of {check, verdict, says, advice}
    #[arg(long)]
    json: bool,
    /// Folder for identity, room and jobs of the worker
    #[cfg(feature = "worker")]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is checked, and how it is shown.
#[derive(Debug)]
pub struct DoctorOptions {
    for_worker: bool,
    for_client: bool,
    as_json: bool,
    /// The room that a client without options uses.
    room: Option<RoomName>,
}

impl DoctorArgs {
    pub(crate) fn check(
        self,
        environment: &Environment,
    ) -> Result<(DoctorOptions, Overrides), Failure> {
        #[cfg(feature = "worker")]
        let (for_worker, for_client, state_dir) = (!self.client, !self.worker, self.state_dir);
        #[cfg(not(feature = "worker"))]
        let (for_worker, for_client, state_dir) = (false, true, None);
        let common = self.common.check()?;
        // As a client without options chooses it.
        let room = match for_client && common.signaling.is_none() {
            true => environment.rooms.find(None).ok().flatten(),
            false => None,
        };
        let overrides = common.or_servers(room.as_ref().map(|room| room.servers.clone()));
        let room = room.map(|room| room.name);
        let options = DoctorOptions { for_worker, for_client, as_json: self.json, room };
        Ok((options, Overrides { state_dir, ..overrides }))
    }
}

/// Checks everything that the options ask for, and prints it.
pub(crate) async fn run(options: DoctorOptions, config: &Config) -> Result<Exit, Failure> {
    let mut findings = vec![program::check()];
    findings.extend(machine::check(config, options.for_worker, options.for_client));
    #[cfg(feature = "worker")]
    if options.for_worker {
        findings.extend(trainer::check(&config.worker).await);
    }
    findings.extend(options.room.map(|room| {
        Finding::ok("room", format!("{room}, which jobs use unless another is named"))
    }));
    findings.extend(match meeting_place::find(config, options.for_worker).await {
        Ok(config) => netcheck::server(&config).await,
        Err(none) => vec![none],
    });
    findings::report(&findings, options.as_json)
}
