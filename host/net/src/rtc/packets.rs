//! How long the packets of a connection may be.
//!
//! Each packet costs both ends the same, however long it is, and nobody cuts those that are too long
//! for some part of the way: the socket forbids it, and the part throws them away.

use std::net::IpAddr;
use std::path::Path;

/// SCTP packets of this length pass everywhere: with what is around them they make the 1,280 bytes
/// that every IPv6 network carries.
pub(super) const SHORT_BYTES: u32 = 1_191;
/// Headers around an SCTP packet: IPv6, UDP, a TURN channel, a DTLS record of AES-GCM.
const AROUND_BYTES: u32 = 40 + 8 + 4 + 37;
/// The longest: for an Ethernet frame, less what a home's line takes for itself.
const LONG_BYTES: u32 = 1_400;

/// The length of the SCTP packets that the network interface with this address carries. A part of
/// the way behind it may carry less.
pub(super) fn of_interface(address: IpAddr) -> u32 {
    let frame = interface_of(address).and_then(|name| frame_bytes(&name)).unwrap_or(0);
    frame.saturating_sub(AROUND_BYTES).clamp(SHORT_BYTES, LONG_BYTES)
}

fn interface_of(address: IpAddr) -> Option<String> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let of = |interface: &nix::ifaddrs::InterfaceAddress| {
        let own = interface.address.as_ref()?;
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::from(own.ip()));
        v4.or_else(|| own.as_sockaddr_in6().map(|own| own.ip().into()))
    };
    interfaces
        .into_iter()
        .find(|interface| of(interface) == Some(address))
        .map(|it| it.interface_name)
}

/// What Linux says of it. Elsewhere nothing is known.
fn frame_bytes(interface: &str) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(interface).join("mtu");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_long_packets_and_a_strange_address_short_ones() {
        assert_eq!(of_interface([127, 0, 0, 1].into()), LONG_BYTES);
        assert_eq!(of_interface([192, 0, 2, 77].into()), SHORT_BYTES);
    }
}
