//! `sleap-rtc worker --serve`: a worker and its signaling server in one process, which end together.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use super::signaling::{Serving, SignalingOptions};
use crate::config::Config;
use crate::nearby::Announcement;
use crate::worker::{self, RunningWorker, WorkerOptions};
use sleap_rtc_signaling::client::{Address, Endpoints};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio_util::sync::CancellationToken;

/// The two ports of the default, the first for WebSocket and the second for HTTP.
const DEFAULT_PORTS: [u16; 2] = [8080, 8001];

/// How to choose another port.
const ELSEWHERE: &str =
    "choose another one with `listen` under [signaling] in the configuration file";

/// Runs both until `shutdown`: the worker ends first, since it still needs the server to say goodbye.
/// If one of them fails, the other ends too.
pub(crate) async fn run(
    mut options: WorkerOptions,
    mut config: Config,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let signaling = SignalingOptions::configured();
    let serving = Serving::open(signaling, config.server.clone(), ELSEWHERE);
    let serving = serving.map_err(|failure| match RunningWorker::of(&config.worker.state_dir) {
        Some(other) => failure.hint(format!("your worker ({other}) runs: {}", other.advice())),
        None => failure,
    })?;
    let addresses = serving.addresses()?;
    let reached = if serving.has_tls() {
        check_name(config.signaling.first())?;
        let own = config.signaling.first().clone().settled_at(&ports(&addresses));
        config.signaling = config.signaling.with_first(own.clone());
        vec![own]
    } else {
        config.signaling = own(&addresses).map_err(Failure::usage)?.into();
        by_others(&addresses).map_err(Failure::usage)?
    };
    options.served_at = reached.first().cloned();
    let announcement = announce(&config, &addresses, serving.has_tls());
    say_how_to_reach(&reached, announcement.is_some())?;
    let (worker_ends, server_ends) = (shutdown.child_token(), CancellationToken::new());
    let server = async {
        let served = serving.run(server_ends.clone()).await;
        worker_ends.cancel();
        served
    };
    let worker = async {
        let worked = worker::run(config, options, worker_ends.clone()).await;
        server_ends.cancel();
        worked
    };
    let both = async { tokio::join!(server, worker) };
    let (served, worked) = tokio::select! {
        ended = both => ended,
        never = announced(announcement) => match never {},
    };
    served?;
    Ok(worked?)
}

/// A certificate is for a name, and this machine does not know its own.
fn check_name(signaling: &Endpoints) -> Result<(), Failure> {
    match signaling.websocket.scheme() {
        "wss" => Ok(()),
        _ => Err(Failure::usage(
            "--serve: the server has a certificate, and its worker must call it by the name in it",
        )
        .hint("set `signaling_websocket = \"wss://NAME:PORT\"` in the configuration file")),
    }
}

/// How the worker itself reaches the server that listens at these addresses. For the default ports these
/// are the default addresses, so that a worker keeps its room when a server of its own takes over.
pub(super) fn own(addresses: &[SocketAddr]) -> Result<Endpoints, String> {
    let first = addresses.first().ok_or("--serve: the server listens nowhere")?;
    let host = match first.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        ip => in_url(ip),
    };
    at(&host, &ports(addresses))
}

/// A server at these ports of a host. It answers both protocols at each.
fn at(host: &str, ports: &[u16]) -> Result<Endpoints, String> {
    let [websocket, http] = match DEFAULT_PORTS.iter().all(|port| ports.contains(port)) {
        true => DEFAULT_PORTS,
        false => [*ports.first().ok_or("--serve: the server listens nowhere")?; 2],
    };
    Endpoints::complete(
        Some(Address::websocket(&format!("ws://{host}:{websocket}"))?),
        Some(Address::http(&format!("http://{host}:{http}"))?),
    )
}

fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
    addresses.iter().map(SocketAddr::port).collect()
}

fn in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Lets others on this network find the server, unless the configuration or the network forbids it.
fn announce(config: &Config, addresses: &[SocketAddr], has_tls: bool) -> Option<Announcement> {
    if !config.server.announce {
        return None;
    }
    let tls = has_tls.then_some(&config.signaling.first().websocket);
    Announcement::new(addresses, tls).unwrap_or_else(|error| {
        tracing::warn!("the server is not announced on this network: {error}");
        None
    })
}

async fn announced(announcement: Option<Announcement>) -> Infallible {
    match announcement {
        Some(announcement) => announcement.run().await,
        None => std::future::pending().await,
    }
}

fn say_how_to_reach(reached: &[Endpoints], is_announced: bool) -> Result<(), Failure> {
    let mut text =
        "Signaling server (in this worker): clients and other workers reach it with\n".to_owned();
    for (nth, server) in reached.iter().enumerate() {
        let or = if nth == 0 { "  " } else { "  or " };
        text.push_str(&format!("{or}--signaling {}\n", server.option()));
    }
    if is_announced {
        text.push_str("On this network they also find it by themselves.\n");
    }
    print::raw(&text).exit(Exit::Unexpected)
}

/// How others reach a server that listens at `addresses`. Those of this machine alone count only if there
/// are no others.
fn by_others(addresses: &[SocketAddr]) -> Result<Vec<Endpoints>, String> {
    let is_local = |address: &&SocketAddr| address.ip().is_loopback();
    let has_others = !addresses.iter().all(|address| is_local(&address));
    let mut hosts: Vec<(String, Vec<u16>)> = Vec::new();
    for address in addresses.iter().filter(|address| !has_others || !is_local(address)) {
        let over_ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        for host in hosts_of(address.ip(), addresses.contains(&over_ipv4)) {
            match hosts.iter_mut().find(|(known, _)| *known == host) {
                Some((_, ports)) => ports.push(address.port()),
                None => hosts.push((host, vec![address.port()])),
            }
        }
    }
    hosts.iter().map(|(host, ports)| at(host, ports)).collect()
}

/// The names and addresses of a server that listens at `ip`. `[::]` includes IPv4, unless the server also
/// listens at `0.0.0.0` (`beside_ipv4`).
fn hosts_of(ip: IpAddr, beside_ipv4: bool) -> Vec<String> {
    if !ip.is_unspecified() {
        return vec![in_url(ip)];
    }
    let ipv4 = (ip.is_ipv6() && !beside_ipv4).then_some(Ipv4Addr::UNSPECIFIED.into());
    let numbers = [ipv4, Some(ip)].into_iter().flatten().filter_map(towards_others).map(in_url);
    std::iter::once(sleap_rtc_base::os::host_name()).chain(numbers).collect()
}

/// This machine's address on the network that leads out, of the same kind as `any`, if there is one.
/// Nothing is sent.
fn towards_others(any: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation, which the default route covers.
    let outside: IpAddr = match any {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((outside, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: &[&str]) -> (String, String) {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        let own = own(&addresses).unwrap();
        (own.websocket.to_string(), own.http.to_string())
    }

    #[test]
    fn a_server_on_the_default_ports_has_the_default_addresses() {
        let default = Endpoints::complete(None, None).unwrap();
        let found = endpoints(&["0.0.0.0:8080", "[::]:8080", "0.0.0.0:8001", "[::]:8001"]);
        assert_eq!(found, (default.websocket.to_string(), default.http.to_string()));
    }

    #[test]
    fn a_server_on_one_port_answers_both_kinds_there() {
        let both = |host: &str| (format!("ws://{host}/"), format!("http://{host}/"));
        assert_eq!(endpoints(&["127.0.0.1:8080"]), both("127.0.0.1:8080"));
        assert_eq!(endpoints(&["0.0.0.0:9000"]), both("localhost:9000"));
        assert_eq!(endpoints(&["[::1]:9000"]), both("[::1]:9000"));
        assert!(own(&[]).is_err());
    }

    fn options(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        by_others(&addresses).unwrap().iter().map(Endpoints::option).collect()
    }

    #[test]
    fn an_address_of_ones_own_choice_is_the_one_to_call() {
        assert_eq!(options(&["192.0.2.7:8080", "192.0.2.7:8001"]), ["ws://192.0.2.7:8080"]);
        assert_eq!(options(&["192.0.2.7:8080"]), ["http://192.0.2.7:8080"], "no 8001 there");
        assert_eq!(options(&["192.0.2.7:8001"]), ["ws://192.0.2.7:8001"]);
        assert_eq!(options(&["[2001:db8::7]:9000"]), ["ws://[2001:db8::7]:9000"]);
        assert_eq!(options(&["127.0.0.1:9000", "192.0.2.7:9001"]), ["ws://192.0.2.7:9001"]);
        assert_eq!(options(&["127.0.0.1:9000"]), ["ws://127.0.0.1:9000"]);
        let any = options(&["0.0.0.0:9000", "[::]:9000"]);
        let is_usable = |text: &String| text.ends_with(":9000") && !text.contains("0.0.0.0");
        assert!(!any.is_empty() && any.iter().all(is_usable), "{any:?}");
        // IPv4 and IPv6, over one socket or two.
        let mut one = options(&["[::]:9000"]);
        let mut two = any;
        one.sort();
        two.sort();
        assert_eq!(one, two);
    }
}
