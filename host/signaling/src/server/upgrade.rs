//! Upgrades a request to a WebSocket, for a peer in a room or a device at a mailbox.

use crate::server::addresses::OpenSocket;
use crate::server::{Server, Share, pairing, socket};
use crate::websocket_config;
use bytes::Bytes;
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sleap_rtc_protocol::pairing::MAX_PAIRING_FRAME_BYTES;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::{Instrument, field};

/// How much is read from a socket at once. The buffer grows for a longer frame, by as much as was read of it
/// before; nearly all that peers send after their registration is shorter.
const READ_BUFFER_BYTES: usize = 768;

/// The purpose of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    Room,
    Mailbox,
}

/// Why there is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoUpgrade {
    /// The request does not ask for one.
    NotAsked,
    /// The address has too many sockets.
    TooManySockets,
}

/// A socket's share among those of its address, if a proxy's header names the address. Without a
/// proxy, the socket was counted when it was accepted.
pub(crate) fn place(server: &Server, address: IpAddr) -> Result<Option<OpenSocket>, NoUpgrade> {
    if !server.options.trust_proxy {
        return Ok(None);
    }
    let place = server.addresses.open(address, Instant::now());
    place.ok_or(NoUpgrade::TooManySockets).map(Some)
}

/// Answers a request for a WebSocket, and serves it from then on.
pub(crate) fn upgrade<B>(
    mut request: Request<B>,
    server: Arc<Server>,
    address: IpAddr,
    share: Arc<Share>,
    serves: Serves,
) -> Result<Response<Full<Bytes>>, NoUpgrade> {
    let response =
        create_response_with_body(&request, Full::default).map_err(|_| NoUpgrade::NotAsked)?;
    let place = place(&server, address)?;
    let tasks = server.tasks.clone();
    let upgraded = hyper::upgrade::on(&mut request);
    let span = match serves {
        Serves::Room => tracing::info_span!("socket", peer = field::Empty, room = field::Empty),
        Serves::Mailbox => tracing::Span::none(),
    };
    let serving = async move {
        let _place = place;
        match upgraded.await {
            Ok(upgraded) => serve(upgraded, server, address, &share, serves).await,
            Err(error) => tracing::debug!(%error, "the upgrade to a WebSocket failed"),
        }
    };
    tasks.spawn(serving.instrument(span));
    Ok(response)
}

async fn serve(
    upgraded: Upgraded,
    server: Arc<Server>,
    address: IpAddr,
    share: &Share,
    serves: Serves,
) {
    let frame_bytes = match serves {
        Serves::Room => server.options.limits.frame_bytes,
        Serves::Mailbox => MAX_PAIRING_FRAME_BYTES,
    };
    let config = websocket_config(frame_bytes).read_buffer_size(READ_BUFFER_BYTES);
    let io = TokioIo::new(upgraded);
    let ws = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    // A task keeps room for each value that it passes on, and thousands of tasks wait here.
    let ws = Box::new(ws);
    match serves {
        Serves::Room => socket::serve(ws, server, address, &share.stranger).await,
        Serves::Mailbox => {
            Box::pin(pairing::serve(*ws, &server, address, &share.stranger)).await;
        }
    }
}
