//! How long the packets of a connection may be.
//!
//! Each packet costs both ends the same, however long it is. Long ones are on trial: nobody may cut
//! them, and a part of the way that cannot carry them throws them away, which is noticed. Short ones
//! pass nearly everywhere, and where they do not, whoever carries them over IPv4 may cut them.

use sleap_rtc_base::os::{Interface, interfaces};
use std::net::{IpAddr, SocketAddr};

/// SCTP packets of this length pass everywhere: with what is around them they make the 1,280 bytes
/// that every IPv6 network carries.
pub(crate) const SHORT_BYTES: u32 = 1_191;
/// Headers around an SCTP packet: IPv6, UDP, a TURN channel, a DTLS record of AES-GCM.
const AROUND_BYTES: u32 = 40 + 8 + 4 + 37;
/// The longest: for an Ethernet frame, less what a home's line takes for itself.
const LONG_BYTES: u32 = 1_400;

/// The shortest: what IPv4 carries everywhere, less the headers.
const SHORTEST_BYTES: u32 = 576 - AROUND_BYTES;

/// The length of the SCTP packets that the network interface with this address carries. A part of
/// the way behind it may carry less.
pub(crate) fn of_interface(address: IpAddr) -> u32 {
    let interface = interfaces().into_iter().find(|own| own.address == address);
    let frame = interface.as_ref().and_then(Interface::mtu_bytes);
    frame.map_or(SHORT_BYTES, |frame| in_frame(frame).min(LONG_BYTES))
}

/// The length of the SCTP packets that all interfaces with these addresses carry.
pub(crate) fn of_all(addresses: &[SocketAddr]) -> u32 {
    let own = interfaces();
    let used = own.iter().filter(|own| addresses.iter().any(|used| used.ip() == own.address));
    let frames = used.filter_map(Interface::mtu_bytes);
    frames.map(in_frame).min().unwrap_or(LONG_BYTES)
}

fn in_frame(frame_bytes: u32) -> u32 {
    frame_bytes.saturating_sub(AROUND_BYTES).max(SHORTEST_BYTES)
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
