//! The relay of a peer's server, and the token that admits the peer.

use super::error::ConnectError;
use super::reach::reach;
use super::stream::{ByteStream, within_deadline};
use super::websocket::{unreachable, upgrade};
use super::{Servers, SignalingError};
use futures_util::StreamExt;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use sleap_rtc_protocol::ids::RelayToken;
use sleap_rtc_protocol::signaling::RelayOffer;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use url::Url;

const PATH: &str = "/relay";
/// The latest version of the protocol.
const PROTOCOL: &str = "iroh-relay-v2";

/// The relay of the server at which a peer is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// `http` or `https`, with the host and the port at which the peer reached the server.
    pub url: Url,
    /// Admits the peer while it is registered.
    pub token: RelayToken,
    /// The UDP port that shows a peer its address as seen from outside, if there is one.
    pub quic_port: Option<u16>,
    /// The relays of the other servers, where a peer may be that is registered there. The token admits
    /// there, too.
    pub elsewhere: Vec<Url>,
}

impl Relay {
    /// Finds out whether the relay can be reached by its path and protocol, and how long its first
    /// message takes.
    ///
    /// # Errors
    /// The connection is blocked, or another program answers.
    pub async fn probe(&self) -> Result<Duration, SignalingError> {
        let start = Instant::now();
        let mut url = self.url.clone();
        url.set_path(PATH);
        // Cannot fail, because both are special schemes.
        let _ = url.set_scheme(if url.scheme() == "https" { "wss" } else { "ws" });
        let stream = reach(&url).await.map_err(|source| unreachable(&url, source))?;
        let greeting = within_deadline(greeting(&url, stream)).await;
        greeting.map_err(|late| unreachable(&url, late))??;
        Ok(start.elapsed())
    }

    /// The relay of the server whose WebSocket is at `websocket`.
    pub(crate) fn new(websocket: &Url, offer: RelayOffer) -> Option<Self> {
        let port = websocket.port_or_known_default()?;
        let quic_port = offer.address_discovery.then_some(port);
        let (url, elsewhere) = (relay_of(websocket)?, Vec::new());
        Some(Self { url, token: offer.token, quic_port, elsewhere })
    }

    /// The same, with what is known of the other servers.
    pub(crate) fn among(self, servers: &Servers) -> Self {
        let relays = servers.iter().filter_map(|server| relay_of(&server.websocket));
        let elsewhere = relays.filter(|url| *url != self.url).collect();
        Self { elsewhere, ..self }
    }
}

/// The address of the relay of the server whose WebSocket is at `websocket`.
fn relay_of(websocket: &Url) -> Option<Url> {
    let host = websocket.host_str()?;
    let port = websocket.port_or_known_default()?;
    let scheme = if websocket.scheme() == "wss" { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{host}:{port}/")).ok()
}

/// Connects like an endpoint, and waits for the relay's challenge.
async fn greeting(url: &Url, stream: Box<dyn ByteStream>) -> Result<(), SignalingError> {
    let failed = |error: Error| unreachable(url, error);
    let mut request = url.as_str().into_client_request().map_err(failed)?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let mut socket = upgrade(url, request, stream).await?;
    while let Some(message) = socket.next().await {
        if matches!(message.map_err(failed)?, Message::Binary(_)) {
            // Nothing more is sent, so no closing handshake is needed.
            let _ = socket.close(None).await;
            return Ok(());
        }
    }
    Err(unreachable(url, ConnectError::ClosedEarly))
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

    #[test]
    fn the_relays_of_the_other_servers_are_known() {
        let texts = ["wss://a.lab", "ws://b.lab:9000"].map(str::to_owned);
        let servers = Servers::from_texts(&texts).unwrap();
        let offer = RelayOffer { token: RelayToken::new("t").unwrap(), address_discovery: false };
        let relay = Relay::new(&servers.first().websocket, offer).unwrap().among(&servers);
        assert_eq!(relay.elsewhere, ["http://b.lab:9000/".parse().unwrap()]);
    }
}
