//! Checks UDP: whether it gets out, the address that others see, and the kind of NAT on the way.

use crate::cli::findings::Finding;
use sleap_rtc_net::rtc::RtcOptions;
use sleap_rtc_net::stun::{self, Nat, Sighting};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What still works without UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutUdp {
    /// The server relays.
    Relayed,
    /// Nothing works.
    NoPath,
}

/// Asks the STUN servers that connections would use.
pub(crate) async fn check(options: &RtcOptions, without: WithoutUdp) -> Vec<Finding> {
    let urls: Vec<&String> = options.servers.iter().flat_map(|server| &server.urls).collect();
    if urls.is_empty() {
        let says = "no STUN server is configured, so UDP was not tested";
        return vec![Finding::ok("udp", says)];
    }
    let mut servers = Vec::new();
    for url in &urls {
        servers.extend(stun::resolve(url).await);
    }
    if servers.is_empty() {
        let urls = urls.iter().map(|url| url.as_str()).collect::<Vec<_>>().join(", ");
        let advice = "configure servers that this network can resolve in `[ice] servers`, or none with \
                      `--ice-server none`";
        return vec![Finding::warn("udp", format!("{urls}: no such host"), advice)];
    }
    servers.sort();
    servers.dedup();
    let v4 = stun::ask(bound(&options.bind, Ipv4Addr::UNSPECIFIED.into()), &servers).await;
    let v6 = stun::ask(bound(&options.bind, Ipv6Addr::UNSPECIFIED.into()), &servers).await;
    judge(&servers, v4, v6, without)
}

/// The local address to ask from.
fn bound(bind: &[IpAddr], any: IpAddr) -> IpAddr {
    bind.iter().copied().find(|address| address.is_ipv4() == any.is_ipv4()).unwrap_or(any)
}

fn judge(
    servers: &[SocketAddr],
    v4: io::Result<Vec<Sighting>>,
    v6: io::Result<Vec<Sighting>>,
    without: WithoutUdp,
) -> Vec<Finding> {
    let (v4, v6) = match (v4, v6) {
        (Err(error), Err(_)) => {
            let says = format!("cannot open a UDP socket: {error}");
            return vec![Finding::fail(
                "udp",
                says,
                "name addresses of this machine in `[ice] bind`",
            )];
        }
        (v4, v6) => (v4.unwrap_or_default(), v6.unwrap_or_default()),
    };
    let quickest =
        v4.iter().chain(&v6).filter(|seen| seen.address.is_some()).min_by_key(|seen| seen.took);
    let Some(quickest) = quickest else { return vec![blocked(servers, without)] };
    let took = quickest.took.as_millis();
    let mut findings =
        vec![Finding::ok("udp", format!("{} answers in {took} ms", quickest.server))];
    for seen in [&v4, &v6] {
        let address = seen.iter().find_map(|seen| seen.address);
        if let Some((address, nat)) = address.zip(Nat::judge(seen)) {
            findings.push(Finding::ok("address", format!("others see this machine as {address}")));
            findings.push(translated(nat, without));
        }
    }
    findings
}

fn blocked(servers: &[SocketAddr], without: WithoutUdp) -> Finding {
    let asked = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let says = format!("no answer from {asked}: UDP is blocked here, or these servers are down");
    match without {
        WithoutUdp::Relayed => Finding::warn(
            "udp",
            says,
            "the signaling server relays connections; direct ones need outgoing UDP",
        ),
        WithoutUdp::NoPath => Finding::fail(
            "udp",
            says,
            "allow outgoing UDP, or let the signaling server relay (`[signaling] relay = true`)",
        ),
    }
}

fn translated(nat: Nat, without: WithoutUdp) -> Finding {
    match nat {
        Nat::None => Finding::ok("nat", "none: others reach this machine at its own address"),
        Nat::OneAddress => Finding::ok("nat", "one address for all: direct paths are possible"),
        Nat::Unknown => {
            Finding::ok("nat", "there is a NAT; its kind is unknown without a second STUN server")
        }
        Nat::ManyAddresses => {
            let says = "symmetric: each peer sees a different address";
            let advice = match without {
                WithoutUdp::Relayed => {
                    "direct connections to peers with a public address or an ordinary NAT, relayed ones to others"
                }
                WithoutUdp::NoPath => {
                    "peers behind such a NAT need a relay: `[signaling] relay = true`, or TURN"
                }
            };
            Finding::warn("nat", says, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::findings::Verdict;
    use std::time::Duration;

    #[test]
    fn silence_is_reported_with_what_works_without_udp() {
        let server: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        let silent = || Ok(vec![Sighting { server, address: None, took: Duration::ZERO }]);
        for (without, verdict) in
            [(WithoutUdp::Relayed, Verdict::Warn), (WithoutUdp::NoPath, Verdict::Fail)]
        {
            let found = judge(&[server], silent(), Ok(Vec::new()), without);
            assert_eq!((found.len(), found[0].verdict), (1, verdict));
            assert!(found[0].says.contains("192.0.2.1:3478"));
        }
    }

    #[test]
    fn an_answer_shows_the_address_and_the_kind_of_nat() {
        let seen = |port: u16| Sighting {
            server: SocketAddr::from(([192, 0, 2, 1], 3478)),
            address: Some(SocketAddr::from(([198, 51, 100, 7], port))),
            took: Duration::from_millis(20),
        };
        let found = judge(&[], Ok(vec![seen(1), seen(2)]), Ok(Vec::new()), WithoutUdp::Relayed);
        let checks: Vec<_> = found.iter().map(|found| (found.check, found.verdict)).collect();
        let ok = Verdict::Ok;
        assert_eq!(checks, [("udp", ok), ("address", ok), ("nat", Verdict::Warn)]);
        assert_eq!(found[1].says, "others see this machine as 198.51.100.7:1");
    }
}
