//! `sleap-rtc netcheck`: checks what this machine's network lets through, before a job depends on it.
//!
//! | module | what it checks |
//! |---|---|
//! | `server` | the signaling server, the proxy on the way to it, the clock |
//! | `relay` | the server's relay |
//! | `udp` | whether UDP leads out, the address as seen from outside, the kind of NAT |

mod relay;
mod server;
mod udp;

use super::common::CommonArgs;
use super::exit::{Exit, Failure};
use super::findings::{self, Finding, Verdict};
use crate::config::{Config, Overrides};
use serde_json::Map;
use sleap_rtc_net::rtc::RtcOptions;
use sleap_rtc_protocol::signaling::IceServers;
use udp::WithoutUdp;

/// The examples under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  What this machine's network lets through, before any worker is there:
    sleap-rtc netcheck --signaling wss://server.lab
  The same for another program to read:
    sleap-rtc netcheck --json
Ends with exit code 0 when nothing has failed, else with 1.";

/// The options of `netcheck`.
#[derive(clap::Args)]
pub struct NetcheckArgs {
    /// Print a JSON list of {check, verdict, says, advice}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// How to show the findings.
#[derive(Debug)]
pub struct NetcheckOptions {
    as_json: bool,
}

impl NetcheckArgs {
    pub(crate) fn check(self) -> Result<(NetcheckOptions, Overrides), Failure> {
        Ok((NetcheckOptions { as_json: self.json }, self.common.check()?))
    }
}

/// Runs all checks and prints the findings.
pub(crate) async fn run(options: NetcheckOptions, config: &Config) -> Result<Exit, Failure> {
    findings::report(&check(config).await, options.as_json)
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
#[cfg(feature = "worker")]
pub(crate) async fn server(config: &Config) -> Vec<Finding> {
    let (findings, meeting) = server::check(config, Map::new()).await;
    if let Some(meeting) = meeting {
        meeting.end().await;
    }
    findings
}
