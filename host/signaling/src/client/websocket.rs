//! A WebSocket on a stream, and what came instead of one.

use super::SignalingError;
use super::error::ConnectError;
use super::stream::ByteStream;
use crate::websocket_config;
use hyper::header::LOCATION;
use sleap_rtc_protocol::signaling::MAX_FRAME_BYTES;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

/// An open WebSocket.
pub(crate) type Connection = WebSocketStream<Box<dyn ByteStream>>;

/// Shakes hands over `stream` as `request`, which is for `url`, asks.
pub(crate) async fn upgrade(
    url: &Url,
    request: impl IntoClientRequest + Unpin,
    stream: Box<dyn ByteStream>,
) -> Result<Connection, SignalingError> {
    let config = websocket_config(MAX_FRAME_BYTES);
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((connection, _)) => Ok(connection),
        Err(Error::Http(response)) => {
            let target = response.headers().get(LOCATION);
            Err(not_a_websocket(url, response.status(), target))
        }
        Err(error @ Error::Protocol(_)) => Err(unexpected(url, error.to_string())),
        Err(error) => Err(unreachable(url, error)),
    }
}

fn not_a_websocket(
    url: &Url,
    status: hyper::StatusCode,
    target: Option<&hyper::header::HeaderValue>,
) -> SignalingError {
    match redirection(status, target) {
        Some(target) => SignalingError::Redirected { url: url.clone(), target },
        None => unexpected(url, format!("it answers status {status} instead of a WebSocket")),
    }
}

/// Where an answer points to, if it is a redirection.
pub(crate) fn redirection(
    status: hyper::StatusCode,
    location: Option<&hyper::header::HeaderValue>,
) -> Option<String> {
    let location = location.filter(|_| status.is_redirection())?;
    Some(location.to_str().ok()?.chars().take(300).collect())
}

pub(crate) fn unreachable(url: &Url, source: impl Into<ConnectError>) -> SignalingError {
    SignalingError::Unreachable { url: url.clone(), source: Box::new(source.into()) }
}

pub(crate) fn unexpected(url: &Url, reason: impl Into<String>) -> SignalingError {
    SignalingError::Unexpected { url: url.clone(), reason: reason.into() }
}
