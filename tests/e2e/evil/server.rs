//! A signaling server that lies. It is a proxy in front of an honest one, forwards everything, and
//! changes frames according to its plot.

use super::middle::{Middle, Overheard};
use super::relay::{Spoiler, Spoiling};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_async, accept_hdr_async, client_async};

/// What the server does to the offers of clients and the answers to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plot {
    /// Nothing. It only listens.
    Listens,
    /// It opens its own WebRTC connections to both sides, and relays the messages.
    SwapsFingerprints,
    /// The same over iroh.
    SwapsEndpoints,
    /// It removes the keys that only our own programs send.
    StripsMarks,
    /// It removes one of them.
    StripsMark(&'static str),
    /// It gives offers other numbers, and answers the numbers that their clients expect.
    RenumbersOffers,
    /// It delivers each offer twice.
    RepeatsOffers,
    /// It opens its own connections, and speaks to the worker like an older client.
    SkipsTheProof,
    /// It plays the worker, and begins with this message.
    PlaysWorker(String),
    /// It forwards the offer to this worker instead.
    Diverts(String),
    /// It loses what workers tell each other.
    WithholdsNotes,
    /// Its relay spoils packets.
    SpoilsPackets(Spoiling),
    /// It puts the peer into this room, whose token it knows.
    SwapsRooms { room_id: String, token: String },
}

/// See the module.
pub struct EvilServer {
    address: SocketAddr,
    /// Everything that peers have sent.
    heard: Arc<Mutex<Vec<u8>>>,
    /// The messages on connections that it has intercepted.
    overheard: Overheard,
    /// How many packets its relay has spoilt.
    spoilt: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl EvilServer {
    /// Starts a proxy in front of the server at `honest`.
    pub fn before(honest: SocketAddr, plot: Plot) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, overheard, spoilt) = (Arc::default(), Overheard::default(), Arc::default());
        let server = Serving {
            honest,
            plot,
            heard: Arc::clone(&heard),
            overheard: overheard.clone(),
            spoilt: Arc::clone(&spoilt),
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        Self { address, heard, overheard, spoilt, _runtime: runtime }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that peers have sent.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    /// How many packets its relay has spoilt.
    pub fn spoilt(&self) -> u64 {
        self.spoilt.load(Relaxed)
    }

    /// The messages on connections that it has intercepted.
    pub fn overheard(&self) -> Vec<String> {
        self.overheard.texts()
    }
}

#[derive(Clone)]
struct Serving {
    honest: SocketAddr,
    plot: Plot,
    heard: Arc<Mutex<Vec<u8>>>,
    overheard: Overheard,
    spoilt: Arc<AtomicU64>,
}

impl Serving {
    async fn serve(self, mut stream: TcpStream) {
        let Ok(mut upstream) = TcpStream::connect(self.honest).await else { return };
        let mut head = [0; 4096];
        let Ok(length) = stream.peek(&mut head).await else { return };
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        let is_socket = head.to_lowercase().contains("upgrade: websocket");
        if head.starts_with("GET / ") && is_socket {
            return self.relay(stream, upstream).await;
        }
        let is_relayed = is_socket && head.starts_with("GET /relay");
        if let (true, &Plot::SpoilsPackets(spoiling)) = (is_relayed, &self.plot) {
            return self.spoil(stream, upstream, &head, spoiling).await;
        }
        let ((mut from_peer, mut to_peer), (mut from_server, mut to_server)) =
            (stream.split(), upstream.split());
        let up = async {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from_peer.read(&mut bytes).await {
                self.heard.lock().unwrap().extend_from_slice(&bytes[..length]);
                if to_server.write_all(&bytes[..length]).await.is_err() {
                    return;
                }
            }
            let _ = to_server.shutdown().await;
        };
        // The connection lasts as long as the server answers.
        let down = async { drop(copy(&mut from_server, &mut to_peer).await) };
        tokio::join!(up, down);
    }

    /// Passes on what goes to the relay and comes from it, packets spoilt.
    async fn spoil(self, stream: TcpStream, upstream: TcpStream, head: &str, spoiling: Spoiling) {
        let said = |wanted: &str| {
            let line = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case(wanted).then_some(value)
            });
            HeaderValue::from_str(line.unwrap()).unwrap()
        };
        let mut request = format!("ws://{}/relay", self.honest).into_client_request().unwrap();
        for name in [AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL] {
            request.headers_mut().insert(name.clone(), said(name.as_str()));
        }
        let Ok((relay, answer)) = client_async(request, upstream).await else { return };
        let dialect = answer.headers()[SEC_WEBSOCKET_PROTOCOL].clone();
        let accept = accept_hdr_async(stream, |_: &Request, mut response: Response| {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, dialect);
            Ok(response)
        });
        let Ok(peer) = accept.await else { return };
        let ((to_peer, from_peer), (to_relay, from_relay)) = (peer.split(), relay.split());
        let up = pass(from_peer, to_relay, Spoiler::new(spoiling), &self.spoilt);
        let down = pass(from_relay, to_peer, Spoiler::new(spoiling), &self.spoilt);
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }

    async fn relay(self, stream: TcpStream, upstream: TcpStream) {
        let mut peer = accept_async(stream).await.unwrap();
        let url = format!("ws://{}/", self.honest);
        let (mut server, _) = client_async(url, upstream).await.unwrap();
        let mut middle = Middle::new(self.plot.clone(), self.overheard.clone());
        loop {
            let (message, from_peer) = tokio::select! {
                message = peer.next() => (message, true),
                message = server.next() => (message, false),
            };
            let Some(Ok(message)) = message else { return };
            let Message::Text(text) = &message else {
                let sent = match from_peer {
                    true => server.send(message).await,
                    false => peer.send(message).await,
                };
                if sent.is_err() {
                    return;
                }
                continue;
            };
            if from_peer {
                self.heard.lock().unwrap().extend_from_slice(text.as_bytes());
            }
            let frame: Value = serde_json::from_str(text).unwrap();
            let (to_server, to_peer) = match from_peer {
                true => middle.said_by_peer(frame).await,
                false => (None, middle.said_by_server(frame).await),
            };
            for frame in middle.repeated(to_server) {
                if server.send(Message::text(frame.to_string())).await.is_err() {
                    return;
                }
            }
            if let Some(frame) = to_peer
                && peer.send(Message::text(frame.to_string())).await.is_err()
            {
                return;
            }
        }
    }
}

/// Passes frames on until one side closes.
async fn pass(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut to: impl Sink<Message> + Unpin,
    mut spoiler: Spoiler,
    spoilt: &AtomicU64,
) {
    while let Some(Ok(message)) = from.next().await {
        let messages = match message {
            Message::Binary(frame) => {
                let frames = spoiler.pass(frame.to_vec(), spoilt).into_iter();
                frames.map(Message::binary).collect()
            }
            other => vec![other],
        };
        for message in messages {
            if to.send(message).await.is_err() {
                return;
            }
        }
    }
}
