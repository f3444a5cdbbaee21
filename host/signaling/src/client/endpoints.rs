//! The addresses of the signaling server, for the WebSocket and for HTTP. If only one is given, the
//! other is derived from it.

use super::error::{ProxyError, ProxyName};
use super::proxy;
use serde::{Deserialize, Serialize};
use url::Url;

const WEBSOCKET_PORT: u16 = 8080;
const HTTP_PORT: u16 = 8001;

/// The two addresses of a signaling server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `ws://` or `wss://`.
    pub websocket: Url,
    /// `http://` or `https://`.
    pub http: Url,
}

impl Endpoints {
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

    /// The same server's other address. Our server answers both protocols on each of its ports, so
    /// a custom port applies to both. The two default ports belong together, and so do the schemes.
    fn partner(&self) -> Result<Url, url::ParseError> {
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
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Url::parse(&format!("{scheme}://{host}{port}"))
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
        let (websocket, http) = match (websocket, http) {
            (Some(websocket), Some(http)) => (Ok(websocket.url), Ok(http.url)),
            (Some(websocket), None) => (Ok(websocket.url.clone()), websocket.partner()),
            (None, Some(http)) => (http.partner(), Ok(http.url)),
            (None, None) => (
                Url::parse(&format!("ws://localhost:{WEBSOCKET_PORT}")),
                Url::parse(&format!("http://localhost:{HTTP_PORT}")),
            ),
        };
        let derived =
            |error| format!("expects a URL whose host works for the other address too ({error})");
        Ok(Self { websocket: websocket.map_err(derived)?, http: http.map_err(derived)? })
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
    fn what_is_no_address_is_refused() {
        for bad in ["", "lab", "lab:8080", "ftp://lab", "ws://", "ws:lab:1:2", "http://lab:99999"] {
            assert!(Endpoints::from_one(bad).is_err(), "{bad:?}");
        }
        assert!(Address::websocket("http://lab").is_err());
        assert!(Address::http("ws://lab").is_err());
    }
}
