//! The relay of a signaling server.

use url::Url;

/// A relay, and what admits this endpoint there.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayServer {
    /// `http` or `https`.
    pub url: Url,
    /// Shown to it.
    pub token: String,
    /// The UDP port at which it says from where a packet came, if it does.
    pub quic_port: Option<u16>,
}
