//! Opens a stream to the server: directly or through a proxy, plain or with TLS. WebSocket and HTTP
//! both use it.

use super::error::ConnectError;
use super::stream::{ByteStream, within_deadline};
use super::{dial, proxy, tls};
use url::Url;

/// Connects to the host of `url`; each step has its own deadline.
pub(crate) async fn reach(url: &Url) -> Result<Box<dyn ByteStream>, ConnectError> {
    let address = url.host_str().zip(url.port_or_known_default());
    let (host, port) = address.ok_or(ConnectError::NoAddress)?;
    let stream: Box<dyn ByteStream> = match proxy::proxy_for(url)? {
        Some(proxy) => proxy::tunnel(&proxy, host, port).await?,
        None => Box::new(within_deadline(dial::dial(host, port)).await??),
    };
    match url.scheme() {
        "wss" | "https" => tls::secure(host, stream).await,
        _ => Ok(stream),
    }
}
