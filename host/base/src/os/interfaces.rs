//! The addresses of this machine, and what their networks carry.

use std::net::IpAddr;

/// An address of this machine, and its network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// The interface's name.
    pub name: String,
    /// The longest packet that it carries, in bytes, where the system says so with the addresses.
    mtu_bytes: Option<u32>,
}

impl Interface {
    /// An interface whose packets may have any length.
    pub fn new(address: IpAddr, name: &str) -> Self {
        Self { address, name: name.to_owned(), mtu_bytes: None }
    }

    /// The longest packet that it carries, in bytes, if the system says so.
    pub fn mtu_bytes(&self) -> Option<u32> {
        self.mtu_bytes.or_else(|| mtu_bytes(self))
    }
}

/// All addresses of this machine. Empty where the system does not tell.
#[cfg(target_os = "linux")]
pub fn interfaces() -> Vec<Interface> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| {
        let own = interface.address.as_ref()?;
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::from(own.ip()));
        let address = v4.or_else(|| own.as_sockaddr_in6().map(|own| own.ip().into()))?;
        Some(Interface::new(address, &interface.interface_name))
    });
    addresses.collect()
}

/// What Linux says of it, in one way or the other.
#[cfg(target_os = "linux")]
fn mtu_bytes(own: &Interface) -> Option<u32> {
    let path = std::path::Path::new("/sys/class/net").join(&own.name).join("mtu");
    let shown = || std::fs::read_to_string(path).ok()?.trim().parse().ok();
    // Of this network namespace for sure, where the files may be another's.
    of_way_to_neighbour(own.address).or_else(shown)
}

/// The way to a neighbour of one's own IPv4 address leads through the same interface. Nothing is sent.
#[cfg(target_os = "linux")]
fn of_way_to_neighbour(address: IpAddr) -> Option<u32> {
    use nix::sys::socket::{getsockopt, sockopt::IpMtu};
    let IpAddr::V4(own) = address else { return None };
    let [a, b, c, last] = own.octets();
    let neighbour = [a, b, c, if last == 1 { 2 } else { 1 }];
    let socket = std::net::UdpSocket::bind((own, 0)).ok()?;
    socket.connect((IpAddr::from(neighbour), 9)).ok()?;
    u32::try_from(getsockopt(&socket, IpMtu).ok()?).ok()
}

/// All addresses of this machine. Empty where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn interfaces() -> Vec<Interface> {
    let mut found = Vec::new();
    for interface in netdev::get_interfaces() {
        let v4 = interface.ipv4.iter().map(|net| IpAddr::from(net.addr()));
        let v6 = interface.ipv6.iter().map(|net| IpAddr::from(net.addr()));
        let name = interface.friendly_name.as_ref().unwrap_or(&interface.name);
        found.extend(v4.chain(v6).map(|address| Interface {
            address,
            name: name.clone(),
            mtu_bytes: interface.mtu,
        }));
    }
    found
}

#[cfg(not(target_os = "linux"))]
fn mtu_bytes(_: &Interface) -> Option<u32> {
    None
}
