//! `sleap-rtc worker --serve`: a worker and its signaling server in one process, which end together.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use super::signaling::{Serving, SignalingOptions};
use crate::config::Config;
use crate::nearby::Announcement;
use crate::worker::{self, WorkerOptions};
use sleap_rtc_signaling::client::{Address, Endpoints};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use tokio_util::sync::CancellationToken;

/// The two ports of the default, the first for WebSocket and the second for HTTP.
const DEFAULT_PORTS: [u16; 2] = [8080, 8001];

/// Runs both until `shutdown`: the worker ends first, since it still needs the server to say goodbye.
/// If one of them fails, the other ends too.
pub(crate) async fn run(
    options: WorkerOptions,
    mut config: Config,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let serving = Serving::open(SignalingOptions::configured(), config.server.clone())?;
    let addresses = serving.addresses()?;
    if serving.has_tls() {
        check_name(config.signaling.first())?;
    } else {
        config.signaling = own(&addresses).map_err(Failure::usage)?.into();
    }
    let announcement = announce(&config, &addresses, serving.has_tls());
    say_how_to_reach(
        config.signaling.first(),
        &addresses,
        serving.has_tls(),
        announcement.is_some(),
    )?;
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
fn own(addresses: &[SocketAddr]) -> Result<Endpoints, String> {
    let first = addresses.first().ok_or("--serve: the server listens nowhere")?;
    let host = match first.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let [_, http] = DEFAULT_PORTS;
    let is_default =
        DEFAULT_PORTS.iter().all(|port| addresses.iter().any(|address| address.port() == *port));
    let http = if is_default { http } else { first.port() };
    Endpoints::complete(
        Some(Address::websocket(&format!("ws://{host}:{}", first.port()))?),
        Some(Address::http(&format!("http://{host}:{http}"))?),
    )
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

fn say_how_to_reach(
    signaling: &Endpoints,
    addresses: &[SocketAddr],
    has_tls: bool,
    is_announced: bool,
) -> Result<(), Failure> {
    let mut text =
        "Signaling server (in this worker): clients and other workers reach it with\n".to_owned();
    let urls = match has_tls {
        true => vec![signaling.websocket.as_str().trim_end_matches('/').to_owned()],
        false => addresses.first().map(|first| urls(*first)).unwrap_or_default(),
    };
    for (nth, url) in urls.iter().enumerate() {
        let or = if nth == 0 { "  " } else { "  or " };
        text.push_str(&format!("{or}--signaling {url}\n"));
    }
    if is_announced {
        text.push_str("On this network they also find it by themselves.\n");
    }
    print::raw(&text).exit(Exit::Unexpected)
}

/// What others can call a server that listens at `address`.
fn urls(address: SocketAddr) -> Vec<String> {
    if !address.ip().is_unspecified() {
        return vec![format!("ws://{address}")];
    }
    let name = sleap_rtc_base::os::host_name();
    let hosts = [Some(name), towards_others().map(|ip| ip.to_string())];
    hosts.into_iter().flatten().map(|host| format!("ws://{host}:{}", address.port())).collect()
}

/// This machine's address on the network that leads out, if there is one. Nothing is sent.
fn towards_others() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address for documentation, which the default route covers.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
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

    #[test]
    fn an_address_of_ones_own_choice_is_the_one_to_call() {
        assert_eq!(urls("192.0.2.7:8080".parse().unwrap()), ["ws://192.0.2.7:8080"]);
        let any = urls("0.0.0.0:8080".parse().unwrap());
        assert!(
            any.iter().all(|url| url.ends_with(":8080") && !url.contains("0.0.0.0")),
            "{any:?}"
        );
    }
}
