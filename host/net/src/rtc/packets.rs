//! How long the packets of a connection may be. They pass nearly everywhere, and where they do not,
//! whoever carries them over IPv4 may cut them.

use super::addresses::{self, Own};
#[cfg(target_os = "linux")]
use nix::sys::socket::{getsockopt, sockopt::IpMtu};
#[cfg(target_os = "linux")]
use std::net::UdpSocket;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// SCTP packets of this length pass everywhere: with what is around them they make the 1,280 bytes
/// that every IPv6 network carries.
const LONGEST_BYTES: u32 = 1_191;
/// Headers around an SCTP packet: IPv6, UDP, a TURN channel, a DTLS record of AES-GCM.
const AROUND_BYTES: u32 = 40 + 8 + 4 + 37;
/// The shortest: what IPv4 carries everywhere, less the headers.
const SHORTEST_BYTES: u32 = 576 - AROUND_BYTES;

/// The length of the SCTP packets of a connection: all interfaces with these addresses carry it.
pub(crate) fn bytes(addresses: &[SocketAddr]) -> u32 {
    let own = addresses::own();
    let used = own.iter().filter(|own| addresses.iter().any(|used| used.ip() == own.address));
    let frames = used.filter_map(frame_bytes);
    frames.map(in_frame).min().map_or(LONGEST_BYTES, |most| most.min(LONGEST_BYTES))
}

fn in_frame(frame_bytes: u32) -> u32 {
    frame_bytes.saturating_sub(AROUND_BYTES).max(SHORTEST_BYTES)
}

/// What Linux says of it, in one way or the other. Elsewhere nothing is known.
fn frame_bytes(own: &Own) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(&own.interface).join("mtu");
    let shown = || std::fs::read_to_string(path).ok()?.trim().parse().ok();
    // Of this network namespace for sure, where the files may be another's.
    of_way_to_neighbour(own.address).or_else(shown)
}

/// The way to a neighbour of one's own IPv4 address leads through the same interface. Nothing is sent.
#[cfg(target_os = "linux")]
fn of_way_to_neighbour(address: IpAddr) -> Option<u32> {
    let IpAddr::V4(own) = address else { return None };
    let [a, b, c, last] = own.octets();
    let neighbour = [a, b, c, if last == 1 { 2 } else { 1 }];
    let socket = UdpSocket::bind((own, 0)).ok()?;
    socket.connect((IpAddr::from(neighbour), 9)).ok()?;
    let bytes = getsockopt(&socket, IpMtu).ok()?;
    u32::try_from(bytes).ok()
}

#[cfg(not(target_os = "linux"))]
fn of_way_to_neighbour(_: IpAddr) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_short_enough_for_every_network_and_fit_into_frames() {
        assert_eq!(bytes(&[([127, 0, 0, 1], 0).into()]), LONGEST_BYTES);
        assert_eq!(bytes(&[([192, 0, 2, 77], 0).into()]), LONGEST_BYTES);
        assert_eq!(in_frame(1_000), 1_000 - AROUND_BYTES);
        assert_eq!(in_frame(300), SHORTEST_BYTES);
    }
}
