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
    /// Further relays, which the same token admits to. Peers are called through them, too.
    pub further: Vec<Url>,
}

impl RelayServer {
    /// All relays, and their ports for address discovery.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Url, Option<u16>)> {
        let further = self.further.iter().map(|url| (url, None));
        std::iter::once((&self.url, self.quic_port)).chain(further)
    }
}
