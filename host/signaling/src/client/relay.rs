//! Where a peer finds the relay of its server, and what admits it there.

use sleap_rtc_protocol::ids::RelayToken;
use sleap_rtc_protocol::signaling::RelayOffer;
use url::Url;

/// The relay of the server at which a peer is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// `http` or `https`, with the host and the port at which the peer reached the server.
    pub url: Url,
    /// Admits the peer while it is registered.
    pub token: RelayToken,
    /// The UDP port that shows a peer its address as seen from outside, if there is one.
    pub quic_port: Option<u16>,
}

impl Relay {
    /// The relay of the server whose WebSocket is at `websocket`.
    pub(super) fn new(websocket: &Url, offer: RelayOffer) -> Option<Self> {
        let host = websocket.host_str()?;
        let port = websocket.port_or_known_default()?;
        let scheme = if websocket.scheme() == "wss" { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{host}:{port}/")).ok()?;
        Some(Self { url, token: offer.token, quic_port: offer.address_discovery.then_some(port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_where_the_server_was_reached() {
        let token = RelayToken::new("t").unwrap();
        for (websocket, url, quic_port) in [
            ("wss://server.lab/signaling?x=1", "https://server.lab/", 443),
            ("ws://10.0.0.1:8080", "http://10.0.0.1:8080/", 8080),
            ("wss://[::1]:8443/", "https://[::1]:8443/", 8443),
        ] {
            let offer = RelayOffer { token: token.clone(), address_discovery: true };
            let relay = Relay::new(&websocket.parse().unwrap(), offer).unwrap();
            assert_eq!((relay.url.as_str(), relay.quic_port), (url, Some(quic_port)));
        }
    }
}
