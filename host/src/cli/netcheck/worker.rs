//! Checks each way to the workers of a room: how soon a connection is open, its round trip, its rate.

use crate::cli::findings::{Finding, Verdict, with_causes};
use crate::client::probe::{self, Measured, Way};
use crate::client::{ClientError, Join};
use crate::config::Config;
use sleap_rtc_net::route::{self, Route};
use sleap_rtc_protocol::ids::PeerId;

/// The most workers that one check measures. Each takes seconds.
const MAX_WORKERS: usize = 3;

/// Which workers to measure.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) join: Join,
    /// `None` for the workers of the room.
    pub(crate) worker: Option<PeerId>,
}

pub(crate) async fn check(config: &Config, target: &Target) -> Vec<Finding> {
    let workers = match &target.worker {
        Some(worker) => Ok(vec![worker.clone()]),
        None => probe::workers(config, &target.join).await,
    };
    let workers = match workers {
        Ok(workers) if workers.is_empty() => {
            let advice = "start one with `sleap-rtc worker`; Python workers are not measured";
            return vec![Finding::warn("worker", "this room has no workers", advice)];
        }
        Ok(workers) => workers,
        Err(error) => {
            let advice = "check the room's id and its token; `sleap-rtc rooms` lists known rooms";
            return vec![Finding::fail("worker", with_causes(&error), advice)];
        }
    };
    let mut findings = Vec::new();
    for worker in workers.iter().take(MAX_WORKERS) {
        findings.extend(ways(config, target, worker).await);
    }
    if let Some(left @ 1..) = workers.len().checked_sub(MAX_WORKERS) {
        let says = format!("{left} more in this room, which `--worker-id` measures");
        findings.push(Finding::ok("worker", says));
    }
    findings
}

async fn ways(config: &Config, target: &Target, worker: &PeerId) -> Vec<Finding> {
    let mut findings = Vec::new();
    for way in [Way::Direct, Way::Relayed, Way::Webrtc] {
        let is_allowed = match way {
            Way::Webrtc => config.transport.has_webrtc(),
            Way::Direct | Way::Relayed => config.transport.has_iroh(),
        };
        if !is_allowed {
            continue;
        }
        let measured = probe::probe(config, &target.join, worker, way).await;
        if let Err(error) = &measured
            && let Some(found) = about_worker(worker, error)
        {
            findings.push(found);
            return findings;
        }
        findings.push(judge(worker, way, measured));
    }
    if findings.iter().all(|found| found.verdict != Verdict::Ok) {
        let advice = "see the lines above; a job for this worker would fail";
        findings.push(Finding::fail("worker", format!("{worker} is reached by no way"), advice));
    }
    findings
}

/// What is found if every other way would end with the same error.
fn about_worker(worker: &PeerId, error: &ClientError) -> Option<Finding> {
    let says = format!("{worker}: {}", with_causes(error));
    match error {
        ClientError::Refused(_) => {
            let advice = "jobs are not affected; update the worker, or try again later";
            Some(Finding::warn("worker", says, advice))
        }
        ClientError::NotAdmitted(_) => {
            let advice =
                "ask the worker's operator for a new code, and type it in `sleap-rtc pair CODE`";
            Some(Finding::fail("worker", says, advice))
        }
        ClientError::NoWorker(_) | ClientError::Untrusted { .. } => {
            let advice = "`sleap-rtc room list` shows the workers of the room";
            Some(Finding::fail("worker", says, advice))
        }
        _ => None,
    }
}

fn judge(worker: &PeerId, way: Way, measured: Result<Measured, ClientError>) -> Finding {
    let check = match way {
        Way::Direct => "direct",
        Way::Relayed => "relayed",
        Way::Webrtc => "webrtc",
    };
    match measured {
        Ok(Measured { route: Some(Route { way: found, .. }), .. })
            if way == Way::Direct && found != route::Way::Direct =>
        {
            let says = format!("{worker}: no direct path, only {found}");
            Finding::warn(check, says, "allow UDP between the two machines for a direct one")
        }
        Ok(Measured { open_after, route, bytes_per_s }) => {
            let route = route.map_or_else(|| "open".to_owned(), |route| route.to_string());
            let (ms, mb) = (open_after.as_millis(), bytes_per_s / 1e6);
            Finding::ok(check, format!("{worker}: {route}, after {ms} ms, {mb:.1} MB/s"))
        }
        Err(error) => {
            Finding::warn(check, format!("{worker}: {}", with_causes(&error)), advice(way))
        }
    }
}

fn advice(way: Way) -> &'static str {
    match way {
        Way::Direct => "allow outgoing UDP on both machines; without it the server relays",
        Way::Relayed => {
            "switch on `[signaling] relay = true`, and let a proxy in front of the server pass /relay"
        }
        Way::Webrtc => "needed for Python peers and browsers alone: a TURN server would carry it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_net::route::NoDirectPath;
    use std::time::Duration;

    #[test]
    fn a_way_that_was_not_taken_is_no_success() {
        let worker = PeerId::new("gpu1").unwrap();
        let measured = |way| {
            let route = Some(Route { way, round_trip: Duration::from_millis(12) });
            Ok(Measured { open_after: Duration::from_millis(35), route, bytes_per_s: 85.34e6 })
        };
        let relayed =
            || route::Way::Relayed { by: "server.lab".into(), why: Some(NoDirectPath::UdpBlocked) };
        let found = judge(&worker, Way::Direct, measured(route::Way::Direct));
        assert_eq!(found.says, "gpu1: direct, 12 ms, after 35 ms, 85.3 MB/s");
        let found = judge(&worker, Way::Direct, measured(relayed()));
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.says.ends_with("only relayed by server.lab (UDP is blocked here)"));
        assert_eq!(judge(&worker, Way::Relayed, measured(relayed())).verdict, Verdict::Ok);
    }
}
