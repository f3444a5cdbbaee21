//! Peers that know several servers. Here these share one store, so that only the peers' side is tested.

use super::support::{TestServer, message, soon};
use crate::client::{Endpoints, Events, PeerIdentity, Servers, SignalingClient, SignalingEvent};
use crate::store::Store;
use serde_json::json;
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{Filters, Metadata, Role, ServerMessage};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What a peer may take to be at another server.
const MOVE_LIMIT: Duration = Duration::from_secs(5);

async fn two_servers() -> [TestServer; 2] {
    let store = Store::ephemeral().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    [TestServer::at(local, store.clone()).await, TestServer::at(local, store).await]
}

fn list(endpoints: &[Endpoints]) -> Servers {
    let texts: Vec<String> = endpoints.iter().map(|one| one.websocket.to_string()).collect();
    Servers::from_texts(&texts).unwrap()
}

async fn join(
    servers: &Servers,
    identity: &PeerIdentity,
    room: &RoomCredentials,
) -> (SignalingClient, Events) {
    let (identity, room, cancel) = (identity.clone(), room.clone(), CancellationToken::new());
    let metadata = Metadata::default();
    SignalingClient::connect(servers.clone(), identity, room, Role::Worker, metadata, cancel)
        .await
        .unwrap()
}

/// Passes everything on to `target`, until it is frozen: then its sockets stay open, and say nothing.
struct Freezer {
    endpoints: Endpoints,
    passing: AbortOnDropHandle<()>,
    _sockets: mpsc::UnboundedReceiver<TcpStream>,
}

impl Freezer {
    async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = super::support::endpoints(listener.local_addr().unwrap());
        let (keep, sockets) = mpsc::unbounded_channel();
        let passing = tokio::spawn(async move {
            let mut passing = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (keep, stream) = (keep.clone(), stream.into_std().unwrap());
                // The copy keeps the socket open when the passing has ended.
                keep.send(TcpStream::from_std(stream.try_clone().unwrap()).unwrap()).unwrap();
                passing.push(AbortOnDropHandle::new(tokio::spawn(async move {
                    let mut near = TcpStream::from_std(stream).unwrap();
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                })));
            }
        });
        Self { endpoints, passing: AbortOnDropHandle::new(passing), _sockets: sockets }
    }

    fn freeze(&self) {
        self.passing.abort();
    }
}

#[tokio::test]
async fn a_peer_moves_when_its_server_stops_and_takes_relay_and_list_from_the_other() {
    let [first, second] = two_servers().await;
    let (identity, room) = first.room().await;
    let servers = list(&[first.endpoints(), second.endpoints()]);
    let (worker, mut events) = join(&servers, &identity, &room).await;
    assert_eq!(worker.server(), first.endpoints());
    let mut relay = worker.relay();
    let port = |relay: &crate::client::Relay| relay.url.port();
    assert_eq!(relay.borrow_and_update().as_ref().map(port), Some(Some(first.address.port())));
    // Somebody watches at the second server.
    let watcher = second.identity().await;
    let (client, _client_events) = join(&list(&[second.endpoints()]), &watcher, &room).await;
    let mut roster = client.roster(Filters::default()).await.unwrap();
    assert_eq!(roster.peers().count(), 0);

    let start = Instant::now();
    first.stop().await;
    assert_eq!(soon("loss", events.recv()).await, Some(SignalingEvent::Lost));
    assert_eq!(soon("return", events.recv()).await, Some(SignalingEvent::Restored));
    let took = start.elapsed();
    println!("at the other server {took:?} after the first was asked to stop");
    assert!(took < 2 * MOVE_LIMIT, "{took:?}");
    assert_eq!(worker.server(), second.endpoints());
    soon("relay", relay.changed()).await.unwrap();
    assert_eq!(relay.borrow().as_ref().map(port), Some(Some(second.address.port())));
    while roster.peers().count() == 0 {
        soon("change of the list", roster.changed()).await.unwrap();
    }
    // Frames reach it there.
    let (mut other, _) = second.member(&room).await;
    other
        .send(json!({"type": "peer_message", "to_peer_id": identity.peer_id,
        "payload": {"app_message_type": "song"}}))
        .await;
    assert!(matches!(message(&mut events).await, ServerMessage::PeerMessage(_)));
    worker.close().await;
    client.close().await;
    second.stop().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left() {
    let [first, second] = two_servers().await;
    let (identity, room) = first.room().await;
    let freezer = Freezer::before(first.address).await;
    let servers = list(&[freezer.endpoints.clone(), second.endpoints()]);
    let (worker, mut events) = join(&servers, &identity, &room).await;
    assert_eq!(worker.server(), freezer.endpoints);
    let start = Instant::now();
    freezer.freeze();
    assert_eq!(soon("loss", events.recv()).await, Some(SignalingEvent::Lost));
    assert_eq!(soon("return", events.recv()).await, Some(SignalingEvent::Restored));
    let took = start.elapsed();
    println!("at the other server {took:?} after the first fell silent");
    assert!(took < 2 * MOVE_LIMIT, "{took:?}");
    assert_eq!(worker.server(), second.endpoints());
    worker.close().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn the_first_server_that_answers_signs_in_and_is_kept() {
    let [first, second] = two_servers().await;
    let (_, room) = first.room().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = super::support::endpoints(closed);
    let servers = list(&[nobody.clone(), second.endpoints(), first.endpoints()]);
    let (server, identity) = servers.sign_in(None).await.unwrap();
    assert_eq!(server, second.endpoints());
    let (worker, mut events) = join(&servers, &identity, &room).await;
    assert_eq!(worker.server(), second.endpoints());
    second.stop().await;
    assert_eq!(soon("loss", events.recv()).await, Some(SignalingEvent::Lost));
    assert_eq!(soon("return", events.recv()).await, Some(SignalingEvent::Restored));
    assert_eq!(worker.server(), first.endpoints());
    worker.close().await;
    first.stop().await;
    let nowhere = list(&[nobody]).sign_in(None).await.unwrap_err();
    assert!(nowhere.to_string().contains("cannot reach"), "{nowhere}");
}
