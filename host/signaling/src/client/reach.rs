//! A stream to the server: directly or through a proxy, plain or with TLS. Both halves of the
//! protocol, WebSocket and HTTP, get theirs here.

use super::error::ConnectError;
use super::{ANSWER_DEADLINE, dial, proxy, tls};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use url::Url;

/// What TCP, TLS and tunnels have in common.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A step of connecting took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct Late(Duration);

/// Gives a step of connecting its deadline.
pub(super) async fn within_deadline<T>(step: impl Future<Output = T>) -> Result<T, Late> {
    timeout(ANSWER_DEADLINE, step).await.map_err(|_| Late(ANSWER_DEADLINE))
}

/// Connects to the host of `url`; each step has its own deadline.
pub(super) async fn reach(url: &Url) -> Result<Box<dyn Stream>, ConnectError> {
    let address = url.host_str().zip(url.port_or_known_default());
    let (host, port) = address.ok_or(ConnectError::NoAddress)?;
    let stream: Box<dyn Stream> = match proxy::proxy_for(url)? {
        Some(proxy) => proxy::tunnel(&proxy, host, port).await?,
        None => Box::new(within_deadline(dial::dial(host, port)).await??),
    };
    match url.scheme() {
        "wss" | "https" => tls::secure(host, stream).await,
        _ => Ok(stream),
    }
}
