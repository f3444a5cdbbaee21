//! A server on a free port, and its peers: raw sockets, and our client.

use crate::client::{Endpoints, Events, HttpApi, PeerIdentity, SignalingClient, SignalingEvent};
use crate::server::{self, ServerError, ServerOptions};
use crate::store::Store;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Metadata, Role, ServerMessage};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

/// More than any step takes; a test that waits this long has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("no {what}"))
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), Store::ephemeral().unwrap()).await
    }

    pub(crate) async fn at(address: SocketAddr, store: Store) -> Self {
        Self::with(address, store, ServerOptions::default()).await
    }

    pub(crate) async fn with(address: SocketAddr, store: Store, options: ServerOptions) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server::run(vec![listener], store, options, shutdown.clone()));
        Self { address, shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("end of the server", self.task).await.unwrap().unwrap();
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        endpoints(self.address)
    }

    pub(crate) fn api(&self) -> HttpApi {
        HttpApi::new(&self.endpoints().http)
    }

    /// A new peer, and a room that it created.
    pub(crate) async fn room(&self) -> (PeerIdentity, RoomCredentials) {
        let identity = self.api().sign_in(None).await.unwrap();
        let room = self.api().create_room(&identity.id_token).await.unwrap();
        (identity, room)
    }

    pub(crate) async fn identity(&self) -> PeerIdentity {
        self.api().sign_in(None).await.unwrap()
    }

    /// Our client, registered.
    pub(crate) async fn client(
        &self,
        identity: &PeerIdentity,
        room: &RoomCredentials,
        role: Role,
        metadata: Value,
    ) -> (SignalingClient, Events) {
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let cancel = CancellationToken::new();
        let (identity, room) = (identity.clone(), room.clone());
        SignalingClient::connect(self.endpoints(), identity, room, role, metadata, cancel)
            .await
            .unwrap()
    }

    /// A raw socket, not registered.
    pub(crate) async fn bare(&self) -> Bare {
        let (ws, _) = connect_async(format!("ws://{}/", self.address)).await.unwrap();
        Bare { ws }
    }

    /// A raw socket of a new peer, registered.
    pub(crate) async fn member(&self, room: &RoomCredentials) -> (Bare, PeerIdentity) {
        let identity = self.identity().await;
        let mut bare = self.bare().await;
        bare.send(register(&identity, room)).await;
        assert_eq!(bare.next().await["type"], "registered_auth");
        (bare, identity)
    }

    /// The number of that name in the server's health.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        self.http("GET /health", "").await.1[name].as_u64().unwrap()
    }

    /// The number of that name in the server's health, once `is_met`.
    pub(crate) async fn metric_once(&self, name: &str, is_met: impl Fn(u64) -> bool) -> u64 {
        soon(name, async {
            loop {
                let value = self.metric(name).await;
                if is_met(value) {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Sends an HTTP request as text. Returns the status and the body.
    pub(crate) async fn http(&self, head: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers = headers.replace('\n', "\r\n");
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("HTTP answer", stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }
}

pub(crate) fn endpoints(address: SocketAddr) -> Endpoints {
    let url = |scheme: &str| format!("{scheme}://{address}").parse().unwrap();
    Endpoints::new(url("ws"), url("http"))
}

pub(crate) fn register(identity: &PeerIdentity, room: &RoomCredentials) -> Value {
    json!({
        "type": "register", "peer_id": identity.peer_id, "id_token": identity.id_token,
        "room_id": room.room_id, "token": room.token, "role": "worker",
        "metadata": {"tags": ["sleap-rtc"], "properties": {"status": "available"}},
    })
}

/// A WebSocket that sends whatever a test wants.
pub(crate) struct Bare {
    pub(crate) ws: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Bare {
    /// The underlying socket.
    pub(crate) fn into_tcp(self) -> TcpStream {
        match self.ws.into_inner() {
            MaybeTlsStream::Plain(stream) => stream,
            _ => panic!("these tests speak no TLS"),
        }
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn next_text(&mut self) -> String {
        soon("frame", async {
            loop {
                if let Message::Text(text) = self.ws.next().await.unwrap().unwrap() {
                    return text.to_string();
                }
            }
        })
        .await
    }

    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// Sends a frame and reads the code of the error that must answer it.
    pub(crate) async fn refused(&mut self, frame: Value) -> String {
        self.send(frame).await;
        self.error().await
    }

    pub(crate) async fn error(&mut self) -> String {
        let frame = self.next().await;
        assert_eq!(frame["type"], "error", "{frame}");
        assert_eq!(frame["code"], frame["reason"]);
        assert!(frame["message"].as_str().is_some_and(|text| !text.is_empty()));
        frame["code"].as_str().unwrap().to_owned()
    }

    /// Reads everything until the server closes. Returns the close frame.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        soon("close frame", async {
            loop {
                match self.ws.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }

    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        self.closed().await.map(|frame| frame.code.into())
    }
}

/// The next frame from our client.
pub(crate) async fn message(events: &mut Events) -> ServerMessage {
    match soon("event", events.recv()).await {
        Some(SignalingEvent::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}
