//! From the request for `/relay` to a connection that the relay serves.

use super::admission::{Admission, admit_token};
use super::socket::{Holds, RelaySocket};
use super::{Whose, review};
use crate::server::addresses::OpenSocket;
use crate::server::{HEAD_DEADLINE, Server, Share};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use iroh_relay::http::{CLIENT_AUTH_HEADER, ProtocolVersion};
use iroh_relay::protos::handshake;
use iroh_relay::server::Access;
use iroh_relay::server::client::Config;
use iroh_relay::server::streams::{MaybeTlsStream, RelayedStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::Instrument;

/// How long the closing handshake with a refused endpoint may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Answers a request for the relay's WebSocket, and serves it from then on. `None` if the request
/// asks for something else, or for an unknown version of the protocol.
pub(crate) fn upgrade<B>(
    mut request: Request<B>,
    server: Arc<Server>,
    share: Arc<Share>,
    place: Option<OpenSocket>,
) -> Option<Response<Full<Bytes>>> {
    let mut response = create_response_with_body(&request, Full::default).ok()?;
    let version = version(request.headers())?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, version.to_header_value());
    let upgraded = hyper::upgrade::on(&mut request);
    let headers = std::mem::take(request.headers_mut());
    let tasks = server.tasks.clone();
    let serving = async move {
        let socket = match upgraded.await {
            Ok(upgraded) => {
                socket(upgraded, &server, Holds { _share: Arc::clone(&share), _place: place }).await
            }
            Err(error) => return tracing::debug!(%error, "the upgrade to the relay failed"),
        };
        let Some(socket) = socket else { return };
        let shutdown = server.shutdown.clone();
        tokio::select! {
            done = timeout(HEAD_DEADLINE, serve(socket, &headers, version, &server, &share)) => {
                if done.is_err() {
                    tracing::debug!("a handshake of the relay took too long");
                }
            }
            () = share.stranger.evicted() => {}
            () = shutdown.cancelled() => {}
        }
    };
    tasks.spawn(serving.instrument(tracing::info_span!("relay")));
    Some(response)
}

/// The latest version of the protocol that both sides speak.
fn version(headers: &HeaderMap) -> Option<ProtocolVersion> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    offered.split(',').filter_map(|name| ProtocolVersion::match_from_str(name.trim())).max()
}

/// The socket below the HTTP connection: plain or with TLS, whose keys take part in the handshake.
async fn socket(upgraded: Upgraded, server: &Server, holds: Holds) -> Option<RelaySocket> {
    let (stream, read) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (MaybeTlsStream::Plain(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
            (MaybeTlsStream::Tls(parts.io.into_inner()), parts.read_buf)
        }
    };
    let bytes_per_s = server.options.limits.relay_bytes_per_s;
    let traffic = Arc::clone(&server.relay.as_ref()?.traffic);
    Some(RelaySocket::new(stream, read.into(), bytes_per_s, traffic, holds).await)
}

/// Does the handshake, then passes the connection to the relay of its room or refuses it.
async fn serve(
    mut socket: RelaySocket,
    headers: &HeaderMap,
    version: ProtocolVersion,
    server: &Server,
    share: &Share,
) {
    let proof = headers.get(CLIENT_AUTH_HEADER).cloned();
    let proved = match handshake::serverside(&mut socket, proof).await {
        Ok(proved) => proved,
        Err(error) => return tracing::debug!(%error, "a handshake of the relay failed"),
    };
    let admitted = admit_token(server, headers, &proved);
    let (access, admitted) = match admitted {
        Ok(admitted) => (Access::Allow, Some(admitted)),
        Err(refusal) => {
            tracing::debug!(reason = %refusal, endpoint = %proved.client_key, "refused by the relay");
            (Access::Deny { reason: Some(refusal.to_string()) }, None)
        }
    };
    let told = proved.authorize_if(access, &mut socket).await;
    let Some(Admission { peer, room, permit, guard, clients }) = admitted else {
        // The library sends nothing after the refusal, but the reason must still arrive.
        let _ = timeout(CLOSE_DEADLINE, socket.close()).await;
        return;
    };
    let Some(relay) = server.relay.as_ref().filter(|_| told.is_ok()) else { return };
    share.stranger.becomes_a_peer();
    socket.hold(permit);
    let stream = RelayedStream::new(socket, relay.key_cache.clone());
    clients.register(Config::new(guard, stream, version), Arc::clone(&relay.traffic));
    tracing::debug!(%peer, %room, "admitted to the relay");
    // The peer may have left during the handshake.
    review(server, &room, Whose::Peer(&peer));
}
