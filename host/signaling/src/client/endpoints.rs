//! The addresses of the signaling server, for the WebSocket and for HTTP. If only one is given, the
//! other is derived from it.

use super::error::{ProxyError, ProxyName};
use super::proxy;
use super::reach::reach;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

const WEBSOCKET_PORT: u16 = 8080;
const HTTP_PORT: u16 = 8001;
/// How long a derived address may take to answer before another one is tried.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The two addresses of a signaling server.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `ws://` or `wss://`.
    pub websocket: Url,
    /// `http://` or `https://`.
    pub http: Url,
    /// In place of the address that was derived: the port that was given, for the other protocol too.
    #[serde(skip)]
    alternative: Option<Url>,
}

/// The same addresses are the same server, whether or not one of them was derived.
impl PartialEq for Endpoints {
    fn eq(&self, other: &Self) -> bool {
        (&self.websocket, &self.http) == (&other.websocket, &other.http)
    }
}

impl Endpoints {
    /// These two.
    pub fn new(websocket: Url, http: Url) -> Self {
        Self { websocket, http, alternative: None }
    }

    /// The text with which a user names them: one address where the other one is derived from it.
    pub fn option(&self) -> String {
        let names_both = |text: &String| {
            let read = Self::from_one(text);
            read.is_ok_and(|read| read.websocket == self.websocket && read.http == self.http)
        };
        let mut texts = [&self.websocket, &self.http].into_iter().flat_map(|url| {
            let short = url.as_str().trim_end_matches('/').to_owned();
            let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default());
            let long = port.map(|port| format!("{}://{host}:{port}", url.scheme()));
            std::iter::once(short).chain(long)
        });
        let named = texts.find(names_both);
        named.unwrap_or_else(|| self.websocket.as_str().trim_end_matches('/').to_owned())
    }

    /// The same once it is known where the server is. 8080 and 8001 belong together at a Python server, but
    /// ours answers both protocols at each port, and may have one of them alone, or be reached at one of
    /// them alone.
    #[must_use]
    pub async fn settled(mut self) -> Self {
        if let Some((derived, other)) = self.doubtful()
            && !is_reached(derived).await
            && is_reached(&other).await
        {
            tracing::debug!(%derived, %other, "the server is not at the derived address");
            *derived = other;
        }
        self
    }

    /// The same for a server that is known to listen at these ports alone.
    #[must_use]
    pub fn settled_at(mut self, ports: &[u16]) -> Self {
        let listens = |url: &Url| url.port_or_known_default().is_some_and(|it| ports.contains(&it));
        if let Some((derived, other)) = self.doubtful()
            && !listens(derived)
            && listens(&other)
        {
            *derived = other;
        }
        self
    }

    /// The derived address, and what may take its place, once.
    fn doubtful(&mut self) -> Option<(&mut Url, Url)> {
        let other = self.alternative.take()?;
        let derived = match other.scheme() {
            "http" | "https" => &mut self.http,
            _ => &mut self.websocket,
        };
        Some((derived, other))
    }

    /// A warning about what third parties on the way to the server can read. `None` if the
    /// connection is encrypted or local.
    pub fn exposure(&self) -> Option<String> {
        let host = self.websocket.host_str().unwrap_or_default();
        let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        (self.websocket.scheme() == "ws" && !local).then(|| {
            format!(
                "ws://{host} is not encrypted: everybody on the way to the signaling server sees who \
                 meets whom, and the part of the room's token that the server gets; with TLS (wss://) \
                 nobody does"
            )
        })
    }
}

/// An address with the port that the user wrote, if any, because `Url` drops a port that is the
/// scheme's default.
#[derive(Debug, Clone)]
pub struct Address {
    url: Url,
    written_port: Option<u16>,
}

impl Address {
    /// Reads `ws://…` or `wss://…`.
    pub fn websocket(text: &str) -> Result<Self, String> {
        let mut address = Self::read(text)?;
        match (address.url.scheme(), address.written_port) {
            ("ws", None) => address.set_port(WEBSOCKET_PORT),
            ("ws" | "wss", _) => {}
            _ => return Err("expects a URL that begins with ws:// or wss://".into()),
        }
        Ok(address)
    }

    /// Reads `http://…` or `https://…`. Without a port, a local server has our default port, and
    /// any other server has the scheme's default, as behind a proxy.
    pub fn http(text: &str) -> Result<Self, String> {
        let mut address = Self::read(text)?;
        match (address.url.scheme(), address.written_port) {
            ("http", None) if address.is_local() => address.set_port(HTTP_PORT),
            ("http" | "https", _) => {}
            _ => return Err("expects a URL that begins with http:// or https://".into()),
        }
        Ok(address)
    }

    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let url = Url::parse(text).map_err(|error| format!("expects a URL ({error})"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("expects a URL with a host, such as ws://gpu1.example.org:8080".into());
        }
        Ok(Self { url, written_port: written_port(text) })
    }

    fn is_local(&self) -> bool {
        matches!(self.url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
    }

    fn set_port(&mut self, port: u16) {
        // Fails only for URLs without a host, which `read` refuses.
        let _ = self.url.set_port(Some(port));
    }

    /// The same server's other address, and the one to try where nothing is there. Our server answers both
    /// protocols on each of its ports, so a custom port applies to both. The two default ports belong
    /// together, and so do the schemes.
    fn partner(&self) -> Result<(Url, Option<Url>), url::ParseError> {
        let (scheme, own, other) = match self.url.scheme() {
            "ws" => ("http", WEBSOCKET_PORT, HTTP_PORT),
            "wss" => ("https", WEBSOCKET_PORT, HTTP_PORT),
            "http" => ("ws", HTTP_PORT, WEBSOCKET_PORT),
            _ => ("wss", HTTP_PORT, WEBSOCKET_PORT),
        };
        let secure = matches!(scheme, "https" | "wss");
        let port = match self.written_port {
            Some(port) if port == own => Some(other),
            Some(port) => Some(port),
            None if secure => None,
            None => Some(other),
        };
        let host = self.url.host_str().unwrap_or_default();
        let at = |port: Option<u16>| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            Url::parse(&format!("{scheme}://{host}{port}"))
        };
        let (partner, same_port) = (at(port)?, at(self.url.port_or_known_default())?);
        Ok((partner.clone(), Some(same_port).filter(|url| *url != partner)))
    }
}

impl Endpoints {
    /// Both addresses from one, of any of the four schemes.
    pub fn from_one(text: &str) -> Result<Self, String> {
        let scheme = text.trim().split("://").next().unwrap_or_default().to_ascii_lowercase();
        match scheme.as_str() {
            "ws" | "wss" => Self::complete(Some(Address::websocket(text)?), None),
            "http" | "https" => Self::complete(None, Some(Address::http(text)?)),
            _ => Err("expects a URL that begins with ws://, wss://, http:// or https://".into()),
        }
    }

    /// Derives the missing address. Without any, the server is on this machine.
    pub fn complete(websocket: Option<Address>, http: Option<Address>) -> Result<Self, String> {
        let derived =
            |error| format!("expects a URL whose host works for the other address too ({error})");
        let (websocket, http, alternative) = match (websocket, http) {
            (Some(websocket), Some(http)) => (websocket.url, http.url, None),
            (Some(websocket), None) => {
                let (http, alternative) = websocket.partner().map_err(derived)?;
                (websocket.url, http, alternative)
            }
            (None, Some(http)) => {
                let (websocket, alternative) = http.partner().map_err(derived)?;
                (websocket, http.url, alternative)
            }
            (None, None) => {
                let at = |text: String| Url::parse(&text).map_err(derived);
                let websocket = at(format!("ws://localhost:{WEBSOCKET_PORT}"))?;
                (websocket, at(format!("http://localhost:{HTTP_PORT}"))?, None)
            }
        };
        Ok(Self { websocket, http, alternative })
    }
}

impl Endpoints {
    /// The proxy on the way to the server, with its password if it has one. For other connections
    /// to the same host.
    ///
    /// # Errors
    /// The environment names an invalid proxy.
    pub fn proxy_url(&self) -> Result<Option<Url>, ProxyError> {
        Ok(proxy::proxy_for(&self.websocket)?.and_then(|proxy| proxy.url()))
    }

    /// The same proxy for messages: with the variable that names it, and without its password.
    ///
    /// # Errors
    /// The environment names an invalid proxy.
    pub fn proxy(&self) -> Result<Option<ProxyName>, ProxyError> {
        Ok(proxy::proxy_for(&self.websocket)?.map(|proxy| proxy.name))
    }
}

/// Whether something answers there, through the proxy if there is one.
async fn is_reached(url: &Url) -> bool {
    matches!(timeout(ANSWERS_WITHIN, reach(url)).await, Ok(Ok(_)))
}

fn written_port(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority.rsplit('@').next()?;
    let after_host = host_and_port.rsplit(']').next()?;
    after_host.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gives_the_other() {
        for (given, websocket, http) in [
            ("ws://lab:8080", "ws://lab:8080/", "http://lab:8001/"),
            ("http://lab:8001", "ws://lab:8080/", "http://lab:8001/"),
            ("ws://lab", "ws://lab:8080/", "http://lab:8001/"),
            ("http://lab", "ws://lab:8080/", "http://lab/"),
            ("http://localhost", "ws://localhost:8080/", "http://localhost:8001/"),
            ("ws://lab:80", "ws://lab/", "http://lab/"),
            ("ws://lab:9999", "ws://lab:9999/", "http://lab:9999/"),
            ("http://127.0.0.1:40123", "ws://127.0.0.1:40123/", "http://127.0.0.1:40123/"),
            ("wss://lab", "wss://lab/", "https://lab/"),
            ("https://lab", "wss://lab/", "https://lab/"),
            ("https://lab:8443/", "wss://lab:8443/", "https://lab:8443/"),
            ("ws://[::1]:8080", "ws://[::1]:8080/", "http://[::1]:8001/"),
            ("WS://[::1]", "ws://[::1]:8080/", "http://[::1]:8001/"),
        ] {
            let endpoints = Endpoints::from_one(given).unwrap();
            assert_eq!(
                (endpoints.websocket.as_str(), endpoints.http.as_str()),
                (websocket, http),
                "{given}"
            );
        }
    }

    #[test]
    fn the_text_for_users_names_both_addresses_whichever_ports_there_are() {
        for (websocket, http, text) in [
            ("ws://lab:8080", "http://lab:8001", "ws://lab:8080"),
            ("ws://lab:8080", "http://lab:8080", "http://lab:8080"),
            ("ws://lab:8001", "http://lab:8001", "ws://lab:8001"),
            ("ws://[::1]:8080", "http://[::1]:8080", "http://[::1]:8080"),
            ("ws://lab:9000", "http://lab:9000", "ws://lab:9000"),
            ("ws://lab", "http://lab", "ws://lab:80"),
            ("wss://lab", "https://lab", "wss://lab"),
            ("wss://lab:8080", "https://lab:8080", "https://lab:8080"),
        ] {
            let endpoints = Endpoints::new(websocket.parse().unwrap(), http.parse().unwrap());
            assert_eq!(endpoints.option(), text);
            let named = Endpoints::from_one(text).unwrap();
            assert_eq!((named.websocket, named.http), (endpoints.websocket, endpoints.http));
        }
    }

    #[tokio::test]
    async fn a_server_with_one_of_the_two_ports_is_found_by_it() {
        let one = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, nowhere) = (one.local_addr().unwrap(), "127.0.0.1:9");
        let url = |scheme: &str, at: &dyn std::fmt::Display| {
            Url::parse(&format!("{scheme}://{at}")).unwrap()
        };
        let found = Endpoints {
            websocket: url("ws", &here),
            http: url("http", &nowhere),
            alternative: Some(url("http", &here)),
        };
        assert_eq!(found.settled().await, Endpoints::new(url("ws", &here), url("http", &here)));
        let found = Endpoints {
            websocket: url("ws", &nowhere),
            http: url("http", &here),
            alternative: Some(url("ws", &here)),
        };
        assert_eq!(found.settled().await, Endpoints::new(url("ws", &here), url("http", &here)));
        let (ws, http) = (url("ws", &here), url("http", &here));
        let nowhere = Some(url("http", &nowhere));
        let right = Endpoints { websocket: ws.clone(), http: http.clone(), alternative: nowhere };
        assert_eq!(right.settled().await, Endpoints::new(ws, http), "what is there is kept");
    }

    #[test]
    fn the_ports_of_ones_own_server_settle_its_addresses() {
        let named = Endpoints::from_one("wss://lab:8080").unwrap();
        let http = |ports| named.clone().settled_at(ports).http.to_string();
        assert_eq!(http(&[8080]), "https://lab:8080/");
        assert_eq!(http(&[8080, 8001]), "https://lab:8001/");
        assert_eq!(http(&[443]), "https://lab:8001/", "others may reach it at other ports");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "lab", "lab:8080", "ftp://lab", "ws://", "ws:lab:1:2", "http://lab:99999"] {
            assert!(Endpoints::from_one(bad).is_err(), "{bad:?}");
        }
        assert!(Address::websocket("http://lab").is_err());
        assert!(Address::http("ws://lab").is_err());
    }
}
