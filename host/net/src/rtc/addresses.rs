//! Which of this machine's addresses a connection uses.
//!
//! Each address costs a socket, a candidate and perhaps an allocation on a TURN server, and is
//! checked against each address of the other side. Machines with containers have dozens of
//! addresses, and one is enough. Only a few are used, the likeliest ones.

use sleap_rtc_base::os::{Interface, interfaces};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// The most addresses that are taken from the network interfaces. This does not limit the addresses
/// in the configuration.
const MAX_ADDRESSES: usize = 10;
/// The most addresses of one interface and family that rank as high as the first. An interface with
/// more has them for other purposes.
const OF_ONE_INTERFACE: usize = 2;
/// Distant addresses, one for each version of IP. The system is asked for the route to them;
/// nothing is sent.
const FAR_AWAY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

/// The kind of a network interface. Earlier kinds are likelier to reach other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Hardware,
    Tunnel,
    Other,
    /// A bridge for this machine's containers and virtual machines.
    Inner,
}

/// Whether one of this machine's interfaces has this address.
pub fn is_own_address(address: IpAddr) -> bool {
    interfaces().iter().any(|own| own.address == address)
}

/// Whether this machine has no network except loopback.
pub(crate) fn is_alone() -> bool {
    interfaces().iter().all(|own| own.address.is_loopback())
}

/// The addresses to bind: those of the configuration, with wildcards expanded. Without any, the
/// addresses of all interfaces, and loopback.
pub(crate) fn chosen(bind: &[IpAddr]) -> Vec<SocketAddr> {
    let has = |wildcard: IpAddr| bind.is_empty() || bind.contains(&wildcard);
    let (v4, v6) = (has(Ipv4Addr::UNSPECIFIED.into()), has(Ipv6Addr::UNSPECIFIED.into()));
    let wanted = |own: &Interface| if own.address.is_ipv4() { v4 } else { v6 };
    let found: Vec<Interface> = interfaces().into_iter().filter(wanted).collect();
    let (likely, unused) = likely(found, &ways_out(), kind);
    if unused > 0 {
        tracing::debug!(used = likely.len(), unused, "addresses; `[ice] bind` names others");
    }
    let named = bind.iter().copied().filter(|address| !address.is_unspecified());
    let mut addresses: Vec<IpAddr> = likely.into_iter().chain(named).collect();
    if bind.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    if addresses.is_empty() {
        // The machine has no network, but there may be one when the addresses are used.
        addresses.extend(bind);
    }
    addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect()
}

/// The likely addresses among `found`, likeliest first, and the number of the others.
fn likely(
    found: Vec<Interface>,
    ways_out: &[IpAddr],
    kind: impl Fn(&str) -> Kind,
) -> (Vec<IpAddr>, usize) {
    let mut of_interface: HashMap<(String, bool), usize> = HashMap::new();
    let mut ranked: Vec<_> = found
        .into_iter()
        .filter(|own| leads_anywhere(own.address))
        .map(|own| {
            let kind = kind(&own.name);
            let before = of_interface.entry((own.name, own.address.is_ipv4())).or_default();
            *before += 1;
            let is_way_out = ways_out.contains(&own.address);
            ((!is_way_out, *before > OF_ONE_INTERFACE, kind), own.address)
        })
        .collect();
    // The sort is stable: equal addresses stay in the system's order.
    ranked.sort_by_key(|(rank, _)| *rank);
    let unused = ranked.len().saturating_sub(MAX_ADDRESSES);
    ranked.truncate(MAX_ADDRESSES);
    (ranked.into_iter().map(|(_, address)| address).collect(), unused)
}

/// Loopback is added separately. Link-local addresses need a zone, which candidates cannot carry.
fn leads_anywhere(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// The addresses from which packets to distant machines leave.
fn ways_out() -> Vec<IpAddr> {
    let way_out = |far: &IpAddr| {
        let any = if far.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((*far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    FAR_AWAY.iter().filter_map(way_out).collect()
}

/// The kind that Linux reports, or that the interface's name suggests on other systems.
fn kind(interface: &str) -> Kind {
    let folder = Path::new("/sys/class/net").join(interface);
    let starts = |names: &[&str]| names.iter().any(|name| interface.starts_with(name));
    if folder.join("device").exists() {
        Kind::Hardware
    } else if folder.join("bridge").exists()
        || starts(&[
            "docker", "br-", "virbr", "veth", "cni", "cali", "flannel", "kube", "lxc", "vmnet",
        ])
    {
        Kind::Inner
    } else if folder.join("tun_flags").exists()
        || starts(&["tun", "tap", "wg", "tailscale", "utun"])
    {
        Kind::Tunnel
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(address: &str, name: &str) -> Interface {
        Interface::new(address.parse().unwrap(), name)
    }

    fn ips(addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn containers_come_last_and_many_are_left_out() {
        let mut found: Vec<Interface> =
            (0..40).map(|n| own(&format!("172.20.{n}.1"), &format!("br-{n}"))).collect();
        found.push(own("10.0.0.5", "eth1"));
        found.push(own("100.64.0.1", "tailscale0"));
        found.push(own("192.168.1.2", "eth0"));
        found.push(own("fd00::2", "eth0"));
        let kind = |name: &str| match &name[..3] {
            "eth" => Kind::Hardware,
            "tai" => Kind::Tunnel,
            _ => Kind::Inner,
        };
        let (likely, unused) = likely(found, &ips(&["192.168.1.2"]), kind);
        let wanted =
            ["192.168.1.2", "10.0.0.5", "fd00::2", "100.64.0.1", "172.20.0.1", "172.20.1.1"];
        assert_eq!(likely[..6], ips(&wanted));
        assert_eq!((likely.len(), unused), (MAX_ADDRESSES, 34));
    }

    #[test]
    fn an_interface_with_very_many_does_not_crowd_out_the_others() {
        let mut found: Vec<Interface> =
            (0..110).map(|n| own(&format!("10.96.0.{n}"), "dummy0")).collect();
        found.push(own("192.168.1.2", "x"));
        let (likely, _) = likely(found, &[], |_| Kind::Other);
        assert_eq!(likely[..3], ips(&["10.96.0.0", "10.96.0.1", "192.168.1.2"]));
    }

    #[test]
    fn what_leads_nowhere_is_left_out() {
        let found = ["127.0.0.1", "::1", "fe80::1", "169.254.3.4"]
            .map(|address| own(address, "x"))
            .to_vec();
        assert_eq!(likely(found, &[], |_| Kind::Other), (Vec::new(), 0));
    }

    #[test]
    fn what_the_configuration_names_is_used_as_it_is() {
        let named = ips(&["192.0.2.7"]);
        assert_eq!(chosen(&named), [SocketAddr::new(named[0], 0)]);
        assert!(chosen(&[]).contains(&SocketAddr::from(([127, 0, 0, 1], 0))));
    }
}
