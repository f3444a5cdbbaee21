//! The generator's peers. They do the minimum that the protocol allows, from many addresses, as a thousand
//! machines would.

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::RoomCredentials;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long any answer may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Number of peers that share an address.
const PEERS_PER_ADDRESS: usize = 20;

/// The payload of a message in bytes: a job request without its description.
pub const PAYLOAD_BYTES: usize = 400;

/// A message from one peer to another.
pub fn frame_between(from: &Peer, to: &Peer) -> String {
    json!({
        "type": "peer_message", "from_peer_id": from.peer_id, "to_peer_id": to.peer_id,
        "payload": {"app_message_type": "bench", "text": "x".repeat(PAYLOAD_BYTES)},
    })
    .to_string()
}

/// The identity of a peer.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    pub peer_id: String,
    id_token: String,
    number: usize,
}

/// A registered peer.
pub struct Peer {
    pub peer_id: String,
    socket: WebSocketStream<TcpStream>,
}

/// Connects from the address of peer `number`, which is in 127.0.0.0/8.
async fn connect(server: SocketAddr, number: usize) -> Result<TcpStream> {
    let host = 2 + u32::try_from(number / PEERS_PER_ADDRESS)?;
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + host);
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(server).await.with_context(|| format!("from {from}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What a server says of itself.
pub async fn health(server: SocketAddr) -> Result<Value> {
    request(server, 0, "GET /health", "").await
}

async fn post(server: SocketAddr, number: usize, path: &str, token: &str) -> Result<Value> {
    request(server, number, &format!("POST {path}"), token).await
}

async fn request(server: SocketAddr, number: usize, what: &str, token: &str) -> Result<Value> {
    let mut stream = connect(server, number).await?;
    let bearer = if token.is_empty() { "" } else { "Authorization: Bearer " };
    let end = if token.is_empty() { "" } else { "\r\n" };
    let request = format!(
        "{what} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\n{bearer}{token}{end}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{what}: {head}");
    Ok(serde_json::from_str(body)?)
}

impl PeerIdentity {
    /// Signs in as a new peer.
    pub async fn new(server: SocketAddr, number: usize) -> Result<Self> {
        let answer = post(server, number, "/anonymous-signin", "").await?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned).context("no identity");
        Ok(Self { peer_id: text("username")?, id_token: text("id_token")?, number })
    }

    /// Creates a room.
    pub async fn create_room(&self, server: SocketAddr) -> Result<RoomCredentials> {
        let answer = post(server, self.number, "/create-room", &self.id_token).await?;
        Ok(serde_json::from_value(answer)?)
    }

    /// Opens a WebSocket and joins a room.
    pub async fn register(
        self,
        server: SocketAddr,
        room: &RoomCredentials,
        role: &str,
    ) -> Result<Peer> {
        let stream = connect(server, self.number).await?;
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let opening = client_async_with_config(format!("ws://{server}/"), stream, Some(config));
        let (socket, _) = timeout(DEADLINE, opening).await.context("no WebSocket")??;
        let mut peer = Peer { peer_id: self.peer_id, socket };
        let frame = json!({
            "type": "register", "peer_id": peer.peer_id, "id_token": self.id_token,
            "room_id": room.room_id, "token": room.token, "role": role,
            "metadata": metadata(role, self.number),
        });
        peer.send(frame.to_string().into()).await?;
        let answer = peer.receive().await?;
        ensure!(answer.contains("registered_auth"), "refused: {answer}");
        Ok(peer)
    }
}

/// The metadata of a worker with one GPU.
fn metadata(role: &str, number: usize) -> Value {
    if role != "worker" {
        return json!({"tags": ["sleap-rtc"], "properties": {}});
    }
    json!({
        "tags": ["sleap-rtc", "training-worker", "inference-worker"],
        "properties": {
            "gpu_memory_mb": 24_564, "gpu_model": "NVIDIA RTX A5000", "gpu_count": 1,
            "cuda_version": "12.4", "sleap_version": "1.4.1", "sleap_nn_version": "0.0.5",
            "status": "available", "max_concurrent_jobs": 1, "hostname": format!("gpu-{number}"),
            "supported_models": ["single_instance", "centroid", "centered_instance", "bottomup"],
            "supported_job_types": ["training", "inference"],
            "gpus": [{"model": "NVIDIA RTX A5000", "memory_mib": 24_564, "free_mib": 24_000}],
        },
    })
}

impl Peer {
    /// Sends a frame.
    pub async fn send(&mut self, frame: Utf8Bytes) -> Result<()> {
        Ok(timeout(DEADLINE, self.socket.send(Message::Text(frame))).await??)
    }

    /// The next frame.
    pub async fn receive(&mut self) -> Result<Utf8Bytes> {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.context("no answer")? {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(why))) => bail!("the server closed the socket: {why:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the server closed the socket"),
            }
        }
    }

    /// Stays registered, and answers the server's pings, until the task is dropped.
    pub async fn idle(mut self) -> Result<()> {
        while let Some(message) = self.socket.next().await {
            message?;
        }
        Ok(())
    }
}
