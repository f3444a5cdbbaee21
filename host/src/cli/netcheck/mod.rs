//! `sleap-rtc netcheck`: checks what this machine's network lets through, before a job depends on it.
//!
//! | module | what it checks |
//! |---|---|
//! | `server` | the signaling server, the proxy on the way to it, the clock |
//! | `relay` | the server's relay |
//! | `udp` | whether UDP leads out, the address as seen from outside, the kind of NAT |
//! | `worker` | each way to the workers of a room: time and rate |

mod relay;
mod server;
mod udp;
mod worker;

use super::client::WhichRoom;
use super::common::CommonArgs;
use super::environment::Environment;
use super::exit::{Exit, Failure};
use super::findings::{self, Finding, Verdict};
use crate::config::{Config, Overrides};
use serde_json::Map;
use sleap_rtc_net::rtc::RtcOptions;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::signaling::IceServers;
use udp::WithoutUdp;
use worker::Target;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What this machine's network lets through, before any worker is there:
    sleap-rtc netcheck --signaling wss://server.lab
  The time and the rate of each way to the workers of a room:
    sleap-rtc netcheck --room northlab
  The same for another program to read:
    sleap-rtc netcheck --json
Ends with exit code 0 when nothing has failed, else with 1.";

/// The options of `netcheck`.
#[derive(clap::Args)]
pub struct NetcheckArgs {
    /// Print a JSON list of {check, verdict, says, advice}
    #[arg(long)]
    json: bool,
    /// Measure the ways to this worker of the room alone
    #[arg(short, long, value_name = "PEER_ID")]
    worker_id: Option<String>,
    #[command(flatten)]
    room: WhichRoom,
    #[command(flatten)]
    common: CommonArgs,
}

/// What to check, and how to show the findings.
#[derive(Debug)]
pub struct NetcheckOptions {
    as_json: bool,
    target: Option<Target>,
}

impl NetcheckArgs {
    pub(crate) fn check(
        self,
        environment: &mut Environment,
    ) -> Result<(NetcheckOptions, Overrides), Failure> {
        let (as_json, overrides) = (self.json, self.common.check()?);
        let is_chosen = self.room.is_given() || self.worker_id.is_some();
        // If `--signaling` names a server, the usual room may be at another one.
        if !is_chosen && (overrides.signaling.is_some() || !environment.rooms.has_usual()) {
            return Ok((NetcheckOptions { as_json, target: None }, overrides));
        }
        let worker = self.worker_id.map(PeerId::new).transpose();
        let worker = worker.map_err(|error| Failure::usage(format!("--worker-id: {error}")))?;
        let (join, servers) = self.room.check(environment)?;
        let target = Some(Target { join, worker });
        Ok((NetcheckOptions { as_json, target }, overrides.or_servers(servers)))
    }
}

/// Runs all checks and prints the findings.
pub(crate) async fn run(options: NetcheckOptions, config: &Config) -> Result<Exit, Failure> {
    let config = &settled(config).await;
    let mut findings = check(config).await;
    // A worker is reached through the server.
    let has_failed = findings.iter().any(|found| found.verdict == Verdict::Fail);
    if let Some(target) = options.target.filter(|_| !has_failed) {
        findings.extend(worker::check(config, &target).await);
    }
    findings::report(&findings, options.as_json)
}

/// The same with the server's addresses as they turn out to be.
async fn settled(config: &Config) -> Config {
    Config { signaling: config.signaling.clone().settled().await, ..config.clone() }
}

async fn check(config: &Config) -> Vec<Finding> {
    let (mut findings, meeting) = server::check(config, Map::new()).await;
    let (mut given, mut without) = (IceServers::default(), WithoutUdp::NoPath);
    if let Some(meeting) = meeting {
        given = meeting.client.ice_servers().borrow().clone();
        let relay = meeting.client.relay().borrow().clone();
        let found = relay::check(relay.as_ref()).await;
        if found.verdict == Verdict::Ok {
            without = WithoutUdp::Relayed;
        }
        findings.push(found);
        meeting.end().await;
    }
    findings.extend(udp::check(&RtcOptions::new(&config.ice, &given), without).await);
    findings
}

/// The checks that `doctor` shares: the server, and the way to it.
pub(crate) async fn server(config: &Config) -> Vec<Finding> {
    let (findings, meeting) = server::check(&settled(config).await, Map::new()).await;
    if let Some(meeting) = meeting {
        meeting.end().await;
    }
    findings
}
