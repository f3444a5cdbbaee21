//! The longest packets of a connection. Nearly every network carries them. Where one does not, IPv4
//! routers may fragment them.

use sleap_rtc_base::os::{Interface, interfaces};
use std::net::SocketAddr;

/// SCTP packets of this length pass everywhere: with what is around them they make the 1,280 bytes
/// that every IPv6 network carries.
const LONGEST_BYTES: u32 = 1_191;
/// Headers around an SCTP packet: IPv6, UDP, a TURN channel, a DTLS record of AES-GCM.
const AROUND_BYTES: u32 = 40 + 8 + 4 + 37;
/// The shortest: what IPv4 carries everywhere, less the headers.
const SHORTEST_BYTES: u32 = 576 - AROUND_BYTES;

/// The length of the SCTP packets of a connection: all interfaces with these addresses carry it.
pub(crate) fn bytes(addresses: &[SocketAddr]) -> u32 {
    let own = interfaces();
    let used = own.iter().filter(|own| addresses.iter().any(|used| used.ip() == own.address));
    let frames = used.filter_map(Interface::mtu_bytes);
    frames.map(in_frame).min().map_or(LONGEST_BYTES, |most| most.min(LONGEST_BYTES))
}

fn in_frame(frame_bytes: u32) -> u32 {
    frame_bytes.saturating_sub(AROUND_BYTES).max(SHORTEST_BYTES)
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
