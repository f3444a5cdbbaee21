//! The client against a server that behaves as the Python one did: short tokens, no renewal, errors
//! in a bare shape, identities that it does not compare.

use super::support::{endpoints, soon};
use crate::client::{HttpApi, SignalingClient, SignalingError, SignalingEvent};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::{RoomCredentials, RoomId, Token};
use sleap_rtc_protocol::signaling::{Filters, Metadata, Role, ServerMessage};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Every sign-in creates a new identity; every second registration finds its token expired; every
/// discovery finds one more worker.
#[derive(Default)]
struct Old {
    sign_ins: AtomicU32,
    registrations: AtomicU32,
    discoveries: AtomicU32,
}

impl Old {
    async fn http(&self, mut stream: TcpStream) {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let body = if request.starts_with("POST /anonymous-signin") {
            let n = self.sign_ins.fetch_add(1, Ordering::Relaxed);
            json!({"id_token": format!("token-{n}"), "username": format!("user-{n}")})
        } else {
            json!({"room_id": "ab12cd34", "token": "0f1e2d"})
        }
        .to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }

    /// Answers one registration, then one discovery, then drops the socket.
    async fn websocket(&self, stream: TcpStream) {
        let mut ws = accept_async(stream).await.unwrap();
        let mut discovered = false;
        while !discovered {
            let Some(Ok(message)) = ws.next().await else { return };
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            discovered = frame["type"] == "discover_peers";
            let answer = if discovered {
                let count = 1 + self.discoveries.fetch_add(1, Ordering::Relaxed);
                let peers = (0..count).map(|n| {
                    json!({"peer_id": format!("w{n}"), "role": "worker", "metadata": {},
                        "connected_at": 1.5})
                });
                let peers: Vec<Value> = peers.collect();
                json!({"type": "peer_list", "to_peer_id": "x", "count": count, "peers": peers})
            } else if frame["type"] == "watch_peers" {
                json!({"type": "error", "code": "UNKNOWN_MESSAGE_TYPE", "message": "what?"})
            } else if frame["token"] != "0f1e2d" {
                json!({"error": "Invalid token for room"})
            } else if self.registrations.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                json!({"type": "error", "reason": "id_token expired"})
            } else {
                json!({"type": "registered_auth", "room_id": frame["room_id"],
                    "token": frame["token"], "peer_id": frame["peer_id"]})
            };
            ws.send(Message::text(answer.to_string())).await.unwrap();
        }
        // The old server also answers with an error.
        let error = json!({"type": "error", "code": "INVALID_MESSAGE", "message": "what?"});
        ws.send(Message::text(error.to_string())).await.unwrap();
        let _ = ws.close(None).await;
    }

    /// Two ports, like the old server.
    async fn start(self: Arc<Self>) -> (SocketAddr, SocketAddr) {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (http.local_addr().unwrap(), ws.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let old = Arc::clone(&self);
                tokio::select! {
                    Ok((stream, _)) = http.accept() => {
                        tokio::spawn(async move { old.http(stream).await });
                    }
                    Ok((stream, _)) = ws.accept() => {
                        tokio::spawn(async move { old.websocket(stream).await });
                    }
                }
            }
        });
        addresses
    }
}

#[tokio::test]
async fn the_client_gets_along_with_an_old_server() {
    let old = Arc::new(Old::default());
    let (http, ws) = Arc::clone(&old).start().await;
    let mut endpoints = endpoints(http);
    endpoints.websocket = format!("ws://{ws}").parse().unwrap();
    let api = HttpApi::new(&endpoints.http);
    let identity = api.sign_in(None).await.unwrap();
    let room = api.create_room(&identity.id_token).await.unwrap();
    assert_eq!(room.token, Token::new("0f1e2d").unwrap());

    let connect = |room: RoomCredentials| {
        let (endpoints, identity) = (endpoints.clone(), identity.clone());
        let (metadata, cancel) = (Metadata::default(), CancellationToken::new());
        async move {
            let role = Role::Client;
            SignalingClient::connect(endpoints, identity, room, role, metadata, cancel).await
        }
    };
    let wrong =
        RoomCredentials { room_id: RoomId::new("x").unwrap(), token: Token::new("bad").unwrap() };
    let error = connect(wrong).await.map(drop).unwrap_err();
    assert!(matches!(error, SignalingError::RoomRefused { .. }), "{error}");

    let (client, mut events) = connect(room).await.unwrap();
    let peers = client.discover(Filters::default()).await.unwrap();
    assert_eq!(peers[0].connected_at, json!(1.5));
    let mut seen = Vec::new();
    while seen.last() != Some(&SignalingEvent::Restored) {
        seen.push(soon("event", events.recv()).await.unwrap());
    }
    // An error, a lost connection, and then registered again: under the old id, with the token of a
    // new sign-in.
    assert!(matches!(seen[0], SignalingEvent::Message(ServerMessage::Error(_))), "{seen:?}");
    assert_eq!(seen[1..], [SignalingEvent::Lost, SignalingEvent::Restored]);
    assert_eq!(client.identity().peer_id, identity.peer_id);
    assert_eq!(old.sign_ins.load(Ordering::Relaxed), 2);
    assert_eq!(client.discover(Filters::default()).await.unwrap().len(), 2);

    // It pushes no changes, so the list is polled, also across the loss of a socket.
    let mut roster = loop {
        match soon("roster", client.roster(Filters::default())).await {
            Ok(roster) => break roster,
            Err(error) => assert!(matches!(error, SignalingError::Lost), "{error}"),
        }
    };
    let before = roster.peers().count();
    soon("change", roster.changed()).await.unwrap();
    assert!(roster.peers().count() > before);
    client.close().await;
}
