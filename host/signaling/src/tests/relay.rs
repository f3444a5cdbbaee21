//! The relay: who is admitted, who is cut off, and what passes between admitted endpoints.

use super::support::{LIMIT, TestServer, register, soon};
use crate::client::{PeerIdentity, Relay, SignalingClient};
use crate::server::{Limits, ServerOptions};
use crate::store::Store;
use iroh::endpoint::{Connection, presets};
use iroh::{
    Endpoint, EndpointAddr, RelayConfig, RelayMode, RelayUrl, SecretKey, TransportAddr, Watcher,
};
use serde_json::json;
use sleap_rtc_protocol::ids::{RelayToken, RoomCredentials};
use sleap_rtc_protocol::signaling::Role;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALPN: &[u8] = b"test";
/// How long a user waits for a refusal.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) async fn server_with(limits: Limits) -> TestServer {
    let options = ServerOptions { limits, ..ServerOptions::default() };
    TestServer::with(([127, 0, 0, 1], 0).into(), Store::ephemeral().unwrap(), options).await
}

/// A peer that has an endpoint and is registered with its key.
pub(super) struct Peer {
    key: SecretKey,
    identity: PeerIdentity,
    client: SignalingClient,
    relay: Relay,
}

pub(super) async fn peer(server: &TestServer, room: &RoomCredentials) -> Peer {
    let (key, identity) = (SecretKey::generate(), server.identity().await);
    let metadata = json!({"properties": {"iroh": {"id": key.public().to_string()}}});
    let (client, events) = server.client(&identity, room, Role::Worker, metadata).await;
    drop(events);
    let relay = client.relay().borrow().clone().expect("the server has a relay");
    Peer { key, identity, client, relay }
}

/// An endpoint that can use only the relay.
async fn endpoint(key: &SecretKey, url: &RelayUrl, token: &RelayToken) -> Endpoint {
    let config = RelayConfig::new(url.clone(), None).with_auth_token(token.as_str());
    Endpoint::builder(presets::Minimal)
        .secret_key(key.clone())
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Custom(config.into()))
        .clear_ip_transports()
        .bind()
        .await
        .unwrap()
}

impl Peer {
    fn url(&self) -> RelayUrl {
        self.relay.url.clone().into()
    }

    pub(super) async fn endpoint(&self) -> Endpoint {
        endpoint(&self.key, &self.url(), &self.relay.token).await
    }

    /// An endpoint that uses the relay of another server than that of its registration.
    pub(super) async fn endpoint_at(&self, server: &TestServer) -> Endpoint {
        let url: RelayUrl = server.endpoints().http.into();
        endpoint(&self.key, &url, &self.relay.token).await
    }

    pub(super) fn address(&self) -> EndpointAddr {
        EndpointAddr::from_parts(self.key.public(), [TransportAddr::Relay(self.url())])
    }
}

/// Whether the relay has admitted it, or why not.
pub(crate) async fn admission(endpoint: &Endpoint) -> Result<(), String> {
    let mut status = endpoint.home_relay_status();
    soon("word from the relay", async {
        loop {
            let relays = status.get();
            if relays.iter().any(|relay| relay.is_connected()) {
                return Ok(());
            }
            if let Some(reason) = relays.iter().find_map(|relay| relay.auth_denied_reason()) {
                return Err(reason.to_owned());
            }
            status.updated().await.unwrap();
        }
    })
    .await
}

pub(super) async fn connect(
    from: &Endpoint,
    to: &Endpoint,
    address: EndpointAddr,
) -> (Connection, Connection) {
    let accepted = async { to.accept().await.unwrap().await.unwrap() };
    let connected = async { from.connect(address, ALPN).await.unwrap() };
    soon("a connection", async { tokio::join!(connected, accepted) }).await
}

/// Sends this many bytes. Returns how long that took.
async fn carry(from: &Connection, to: &Connection, bytes: usize) -> Duration {
    let start = Instant::now();
    let sent = async {
        let mut stream = from.open_uni().await.unwrap();
        stream.write_all(&vec![7; bytes]).await.unwrap();
        stream.finish().unwrap();
        stream.stopped().await.unwrap();
    };
    let read = async { to.accept_uni().await.unwrap().read_to_end(bytes).await.unwrap() };
    let ((), read) = soon("the bytes", async { tokio::join!(sent, read) }).await;
    assert_eq!(read.len(), bytes);
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_of_a_room_reach_each_other_through_the_relay() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (one, two) = (peer(&server, &room).await, peer(&server, &room).await);
    let (from, to) = (one.endpoint().await, two.endpoint().await);
    assert_eq!(admission(&to).await, Ok(()));
    let (connected, accepted) = connect(&from, &to, two.address()).await;
    let took = carry(&connected, &accepted, 10 << 20).await;
    println!("10 MiB through the relay: {:.0} MB/s", 10.5 / took.as_secs_f64());
    let (_, health) = server.http("GET /health", "").await;
    assert_eq!(health["relay_connections"], 2, "{health}");
    assert!(health["relay_bytes"].as_u64().unwrap() > 10 << 20, "{health}");
    from.close().await;
    to.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_stranger_is_refused_at_once_and_hears_why() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let member = peer(&server, &room).await;
    let (other, foreign) = (SecretKey::generate(), TestServer::start().await);
    let (_, elsewhere) = foreign.room().await;
    let foreigner = peer(&foreign, &elsewhere).await;
    let (url, token) = (member.url(), &member.relay.token);
    let left = peer(&server, &room).await;
    left.client.clone().close().await;
    for (what, key, token, expected) in [
        ("no token of this server", &foreigner.key, &foreigner.relay.token, "needs the token"),
        ("another key than the registered one", &other, token, "another key"),
        ("somebody who has left", &left.key, &left.relay.token, "not a registered member"),
    ] {
        let start = Instant::now();
        let endpoint = endpoint(key, &url, token).await;
        let refused = admission(&endpoint).await.unwrap_err();
        let took = start.elapsed();
        println!("{what}: refused after {} ms: {refused}", took.as_millis());
        assert!(refused.contains(expected), "{what}: {refused}");
        assert!(took < AT_ONCE, "{what}: {took:?}");
        endpoint.close().await;
    }
    server.metric_once("relay_connections", |connections| connections == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_from_room_to_room() {
    let server = TestServer::start().await;
    let ((_, room), (_, other)) = (server.room().await, server.room().await);
    let (one, two) = (peer(&server, &room).await, peer(&server, &other).await);
    let (from, to) = (one.endpoint().await, two.endpoint().await);
    assert_eq!(admission(&from).await, Ok(()));
    assert_eq!(admission(&to).await, Ok(()));
    let connecting = from.connect(two.address(), ALPN);
    tokio::select! {
        connected = connecting => panic!("{:?}", connected.map(|it| it.remote_id())),
        incoming = to.accept() => panic!("a packet came: {}", incoming.is_some()),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
}

/// Waits until the relay has cut the endpoint off and refuses it.
async fn cut_off(endpoint: &Endpoint) -> Duration {
    let start = Instant::now();
    let mut status = endpoint.home_relay_status();
    soon("the end of the relay's connection", async {
        while status.get().iter().all(|relay| relay.auth_denied_reason().is_none()) {
            status.updated().await.unwrap();
        }
    })
    .await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_or_is_removed_is_cut_off() {
    let server = TestServer::start().await;
    let (creator, room) = server.room().await;
    let members =
        [peer(&server, &room).await, peer(&server, &room).await, peer(&server, &room).await];
    let mut endpoints = Vec::new();
    for member in &members {
        endpoints.push(member.endpoint().await);
        assert_eq!(admission(endpoints.last().unwrap()).await, Ok(()));
    }
    let [leaves, deleted, _in_the_room] = &members;
    leaves.client.clone().close().await;
    let left = cut_off(&endpoints[0]).await;
    let identity = &deleted.identity;
    server.api().delete_peer(&identity.id_token, &identity.peer_id).await.unwrap();
    let removed = cut_off(&endpoints[1]).await;
    server.metric_once("relay_connections", |connections| connections == 1).await;
    let body = json!({"room_id": room.room_id}).to_string();
    let token = json!(creator.id_token);
    let head =
        format!("POST /delete-peers-and-room\nAuthorization: Bearer {}\n", token.as_str().unwrap());
    assert_eq!(server.http(&head, &body).await.0, 200);
    let closed = cut_off(&endpoints[2]).await;
    println!(
        "cut off after leaving {left:?}, deletion {removed:?}, the room's deletion {closed:?}"
    );
    assert!([left, removed, closed].iter().all(|took| *took < Duration::from_secs(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_lost_for_a_moment_does_not_end_what_is_relayed() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (key, identity) = (SecretKey::generate(), server.identity().await);
    let mut frame = register(&identity, &room);
    frame["metadata"]["properties"]["iroh"] = json!({"id": key.public().to_string()});
    let mut socket = server.bare().await;
    socket.send(frame.clone()).await;
    let offer = socket.next().await["relay"].clone();
    let token = serde_json::from_value::<RelayToken>(offer["token"].clone()).unwrap();
    let url: RelayUrl = format!("http://{}/", server.address).parse().unwrap();
    let endpoint = endpoint(&key, &url, &token).await;
    assert_eq!(admission(&endpoint).await, Ok(()));
    // Without a closing handshake.
    drop(socket.into_tcp());
    server.metric_once("peers", |peers| peers == 0).await;
    let mut socket = server.bare().await;
    socket.send(frame).await;
    assert_eq!(socket.next().await["type"], "registered_auth");
    assert_eq!(server.metric("relay_connections").await, 1);
    assert_eq!(admission(&endpoint).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_fast_slows_nobody_else() {
    let limits = Limits { relay_bytes_per_s: 2_000_000, ..Limits::default() };
    let server = server_with(limits).await;
    let (_, room) = server.room().await;
    let peers = [peer(&server, &room).await, peer(&server, &room).await];
    let calm = [peer(&server, &room).await, peer(&server, &room).await];
    let mut connections = Vec::new();
    let mut endpoints = Vec::new();
    for [one, two] in [&peers, &calm] {
        let (from, to) = (one.endpoint().await, two.endpoint().await);
        connections.push(connect(&from, &to, two.address()).await);
        endpoints.extend([from, to]);
    }
    let (hasty, slow) = (&connections[0], &connections[1]);
    let flood = carry(&hasty.0, &hasty.1, 6_000_000);
    let beside = async {
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            longest = longest.max(carry(&slow.0, &slow.1, 10_000).await);
        }
        longest
    };
    let (flood, longest) = tokio::join!(flood, beside);
    println!("6 MB at 2 MB/s took {flood:?}; 10 kB beside it {longest:?} at most");
    assert!(flood > Duration::from_secs(2), "{flood:?}");
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    let (_, health) = server.http("GET /health", "").await;
    assert!(health["relay_bytes_rate_limited"].as_u64().unwrap() > 0, "{health}");
}

#[tokio::test]
async fn a_relay_that_is_full_says_so() {
    let server = server_with(Limits { relay_connections: 1, ..Limits::default() }).await;
    let (_, room) = server.room().await;
    let (one, two) = (peer(&server, &room).await, peer(&server, &room).await);
    let first = one.endpoint().await;
    assert_eq!(admission(&first).await, Ok(()));
    let second = two.endpoint().await;
    assert!(admission(&second).await.unwrap_err().contains("relay_connections"));
    // The first one's place becomes free once it is gone; the second one keeps asking.
    first.close().await;
    assert_eq!(tokio::time::timeout(LIMIT, admitted_later(&second)).await, Ok(()));
}

async fn admitted_later(endpoint: &Endpoint) {
    let mut status = endpoint.home_relay_status();
    while !status.get().iter().any(|relay| relay.is_connected()) {
        status.updated().await.unwrap();
    }
}

#[tokio::test]
async fn without_a_relay_there_is_no_offer_and_no_path() {
    let options = ServerOptions { relay: false, ..ServerOptions::default() };
    let store = Store::ephemeral().unwrap();
    let server = TestServer::with(([127, 0, 0, 1], 0).into(), store, options).await;
    let (_, room) = server.room().await;
    let mut socket = server.bare().await;
    socket.send(register(&server.identity().await, &room)).await;
    assert!(socket.next().await.get("relay").is_none());
    for path in ["/relay", "/ping", "/generate_204"] {
        assert_eq!(server.http(&format!("GET {path}"), "").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_relay_client_is_answered_plainly() {
    let server = TestServer::start().await;
    assert_eq!(server.http("GET /ping", "").await.0, 200);
    assert_eq!(server.http("GET /generate_204\nX-Iroh-Challenge: a.b-c\n", "").await.0, 204);
    let (status, answer) = server.http("GET /relay", "").await;
    assert_eq!(status, 426);
    assert!(answer["error"].as_str().unwrap().contains("iroh's relay protocol"), "{answer}");
    assert_eq!(server.http("POST /relay", "").await.0, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_relayed_goes_on_when_the_server_was_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.sqlite");
    let start = |address| TestServer::at(address, Store::open(&file).unwrap());
    let server = start(([127, 0, 0, 1], 0).into()).await;
    let address = server.address;
    let (_, room) = server.room().await;
    let (one, two) = (peer(&server, &room).await, peer(&server, &room).await);
    let (from, to) = (one.endpoint().await, two.endpoint().await);
    let (near, far) = connect(&from, &to, two.address()).await;
    carry(&near, &far, 100_000).await;
    server.stop().await;
    let server = start(address).await;
    let back = Instant::now();
    // The same connection: neither end noticed the restart.
    carry(&near, &far, 100_000).await;
    println!("relayed again {:.1} s after the server was back", back.elapsed().as_secs_f64());
    assert_eq!(server.metric("relay_connections").await, 2);
}

/// A socket at the relay without a key. Also returns the status of the answer.
async fn silent(server: &TestServer, from: &str) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /relay HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: iroh-relay-v2\r\nX-Forwarded-For: {from}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    soon("an answer", stream.read_exact(&mut status)).await.unwrap();
    let status = std::str::from_utf8(&status[9..]).unwrap().parse().unwrap();
    (stream, status)
}

#[tokio::test]
async fn sockets_that_show_no_key_count_for_their_address_behind_a_proxy() {
    let limits = Limits { sockets_per_address: 1, ..Limits::default() };
    let options = ServerOptions { limits, trust_proxy: true, ..ServerOptions::default() };
    let store = Store::ephemeral().unwrap();
    let server = TestServer::with(([127, 0, 0, 1], 0).into(), store, options).await;
    let (first, status) = silent(&server, "192.0.2.1").await;
    assert_eq!(status, 101);
    assert_eq!(silent(&server, "192.0.2.1").await.1, 429);
    assert_eq!(silent(&server, "192.0.2.2").await.1, 101);
    drop(first);
    soon("the place", async { while silent(&server, "192.0.2.1").await.1 == 429 {} }).await;
}
