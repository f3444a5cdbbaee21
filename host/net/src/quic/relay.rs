//! The relay of a signaling server.

use url::Url;

/// A relay, and the token that admits this endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayServer {
    /// `http` or `https`.
    pub url: Url,
    /// The token that the relay asks for.
    pub token: String,
    /// The UDP port for address discovery, if the server offers it.
    pub quic_port: Option<u16>,
}
