//! Three servers and a real broker.

use super::broker::{Cable, list, server, server_at, three_servers};
use super::relay;
use super::support::{Bare, TestServer, message, register, soon};
use crate::client::{
    Events, Mailbox, MailboxNews, PeerIdentity, Roster, SignalingClient, SignalingEvent,
};
use crate::store::Store;
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::RoomCredentials;
use sleap_rtc_protocol::signaling::{
    CLOSE_DELETED, CLOSE_REPLACED, ClientMessage, Filters, MetadataPatch, Role, ServerMessage,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::TestBroker;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// What peers may take to meet again after the return of a broker.
const AGAIN_LIMIT: Duration = Duration::from_secs(10);

/// Waits until the list has this many peers.
async fn listed(roster: &mut Roster, count: usize) {
    soon("list", async {
        while roster.peers().count() != count {
            roster.changed().await.unwrap();
        }
    })
    .await;
}

fn song(to: &PeerIdentity) -> Value {
    json!({"type": "peer_message", "to_peer_id": to.peer_id, "payload": {"app_message_type": "song"}})
}

/// Sends until it arrives; where the target is unknown so far, the sender is told so.
async fn sings(from: &mut Bare, to: &PeerIdentity, events: &mut Events) {
    soon("message", async {
        loop {
            from.send(song(to)).await;
            tokio::select! {
                event = events.recv() => match event {
                    Some(SignalingEvent::Message(ServerMessage::PeerMessage(_))) => return,
                    Some(_) => {}
                    None => panic!("the receiver has ended"),
                },
                text = from.next_text() => assert!(text.contains("error"), "{text}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A worker at one server, and a client at another that lists it.
struct Pair {
    worker: SignalingClient,
    worker_id: PeerIdentity,
    events: Events,
    client: SignalingClient,
    _client_events: Events,
    roster: Roster,
    room: RoomCredentials,
}

impl Pair {
    async fn at(workers: &TestServer, clients: &TestServer) -> Self {
        let (worker_id, room) = workers.room().await;
        let metadata = json!({"tags": ["t"], "properties": {"status": "available"}});
        let (worker, events) = workers.client(&worker_id, &room, Role::Worker, metadata).await;
        let client_id = clients.identity().await;
        let (client, _client_events) =
            clients.client(&client_id, &room, Role::Client, json!({})).await;
        let filters = Filters { role: Some(Role::Worker), ..Filters::default() };
        let mut roster = client.roster(filters).await.unwrap();
        listed(&mut roster, 1).await;
        Self { worker, worker_id, events, client, _client_events, roster, room }
    }

    async fn end(self) {
        self.worker.close().await;
        self.client.close().await;
    }
}

/// Somebody at the broker who is no server.
struct Rogue(BufStream<TcpStream>);

impl Rogue {
    async fn at(broker: SocketAddr) -> Self {
        let mut stream = BufStream::new(TcpStream::connect(broker).await.unwrap());
        let hello = b"CONNECT {\"verbose\":false}\r\nSUB sleap-rtc.1.news.* 1\r\n";
        stream.write_all(hello).await.unwrap();
        stream.flush().await.unwrap();
        Self(stream)
    }

    /// The id of the first server that it hears.
    async fn first_server(&mut self) -> String {
        soon("beat", async {
            loop {
                let mut line = String::new();
                self.0.read_line(&mut line).await.unwrap();
                if let Some(rest) = line.strip_prefix("MSG sleap-rtc.1.news.") {
                    return rest.split(' ').next().unwrap().to_owned();
                }
            }
        })
        .await
    }

    async fn publish(&mut self, subject: &str, bytes: &[u8]) {
        let head = format!("PUB {subject} {}\r\n", bytes.len());
        for part in [head.as_bytes(), bytes, b"\r\n"] {
            self.0.write_all(part).await.unwrap();
        }
        self.0.flush().await.unwrap();
    }
}

async fn stop(servers: impl IntoIterator<Item = TestServer>) {
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn peers_at_three_servers_meet_in_one_room() {
    let Some(broker) = TestBroker::start() else { return };
    let servers = three_servers(&broker).await;
    let [first, second, third] = &servers;
    let mut pair = Pair::at(first, second).await;
    // An identity of one is good at all, and so is a room.
    let stranger = third.identity().await;
    let mut bare = first.bare().await;
    bare.send(register(&stranger, &pair.room)).await;
    assert_eq!(bare.next().await["type"], "registered_auth");
    // What a peer changes reaches the lists elsewhere.
    let properties = json!({"status": "busy"}).as_object().cloned();
    pair.worker.update(MetadataPatch { tags: None, properties }).await;
    let is_busy = |roster: &Roster| {
        let busy = |peer: &sleap_rtc_protocol::signaling::PeerInfo| {
            peer.metadata.properties["status"] == "busy"
        };
        roster.peers().any(busy)
    };
    soon("change", async {
        while !is_busy(&pair.roster) {
            pair.roster.changed().await.unwrap();
        }
    })
    .await;
    // Frames pass in both directions, and from the third.
    let (mut other, other_id) = third.member(&pair.room).await;
    sings(&mut other, &pair.worker_id, &mut pair.events).await;
    pair.worker.send(ClientMessage::Unknown).await.unwrap();
    assert!(matches!(message(&mut pair.events).await, ServerMessage::Error(_)));
    // A peer that leaves is gone from the list elsewhere, and does not get frames.
    let gone = pair.worker_id.clone();
    pair.worker.clone().close().await;
    soon("leaving", async {
        while pair.roster.peers().any(|peer| peer.peer_id == gone.peer_id) {
            pair.roster.changed().await.unwrap();
        }
    })
    .await;
    let code = soon("refusal", async {
        loop {
            other.send(song(&gone)).await;
            if let Some(code) = other.next().await["code"].as_str() {
                return code.to_owned();
            }
        }
    })
    .await;
    assert_eq!(code, "PEER_NOT_FOUND");
    drop((bare, other, other_id));
    pair.end().await;
    stop(servers).await;
}

#[tokio::test]
async fn the_newest_registration_of_a_peer_counts() {
    let Some(broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let (identity, room) = first.room().await;
    for (old, new) in [(first, second), (second, first), (first, second)] {
        let mut before = old.bare().await;
        before.send(register(&identity, &room)).await;
        assert_eq!(before.next().await["type"], "registered_auth");
        new.metric_once("cluster_peers_elsewhere", |peers| peers == 1).await;
        let mut after = new.bare().await;
        after.send(register(&identity, &room)).await;
        assert_eq!(after.next().await["type"], "registered_auth");
        assert_eq!(before.close_code().await, Some(CLOSE_REPLACED));
        old.metric_once("cluster_peers_elsewhere", |peers| peers == 1).await;
        assert_eq!(new.metric("peers").await, 1);
        after.ws.close(None).await.unwrap();
        old.metric_once("peers", |peers| peers == 0).await;
    }
    stop(servers).await;
}

#[tokio::test]
async fn whoever_is_deleted_at_one_server_is_closed_at_all() {
    let Some(broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let (creator, room) = first.room().await;
    let (mut near, _) = first.member(&room).await;
    let (mut far, far_id) = second.member(&room).await;
    first.metric_once("peers", |peers| peers == 2).await;
    first.api().delete_peer(&far_id.id_token, &far_id.peer_id).await.unwrap();
    assert_eq!(far.close_code().await, Some(CLOSE_DELETED));
    second.metric_once("peers", |peers| peers == 1).await;
    let (mut far, _) = second.member(&room).await;
    first.metric_once("peers", |peers| peers == 2).await;
    first.api().delete_room(&creator.id_token, &room.room_id).await.unwrap();
    assert_eq!(near.close_code().await, Some(CLOSE_DELETED));
    assert_eq!(far.close_code().await, Some(CLOSE_DELETED));
    let late = second.identity().await;
    let mut bare = second.bare().await;
    assert_eq!(bare.refused(register(&late, &room)).await, "ROOM_NOT_FOUND");
    stop(servers).await;
}

#[tokio::test]
async fn a_lost_broker_leaves_each_server_to_its_own_peers() {
    let Some(mut broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let mut pair = Pair::at(first, second).await;
    let (mut near, _) = first.member(&pair.room).await;
    broker.kill();
    // On the same server everything goes on, also for those who come now.
    sings(&mut near, &pair.worker_id, &mut pair.events).await;
    let (mut late, _) = first.member(&pair.room).await;
    sings(&mut late, &pair.worker_id, &mut pair.events).await;
    // Elsewhere the peers are gone after a while, and frames to them are refused.
    listed(&mut pair.roster, 0).await;
    assert_eq!(second.metric_once("cluster_connected", |connected| connected == 0).await, 0);
    let unknown = first.api().create_room(&pair.worker_id.id_token).await;
    assert!(unknown.is_err(), "a room that no other server knows");

    broker.start_again();
    let start = Instant::now();
    listed(&mut pair.roster, 3).await;
    let took = start.elapsed();
    println!("the peers of two servers meet {took:?} after the return of the broker");
    assert!(took < 2 * AGAIN_LIMIT, "{took:?}");
    let (mut far, _) = second.member(&pair.room).await;
    sings(&mut far, &pair.worker_id, &mut pair.events).await;
    drop((near, late, far));
    pair.end().await;
    stop(servers).await;
}

#[tokio::test]
async fn a_broker_that_has_lost_its_store_gets_it_back_from_the_servers() {
    let Some(mut broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let (creator, room) = first.room().await;
    let (near, _) = first.member(&room).await;
    let client = second.identity().await;
    broker.kill();
    for server in &servers {
        server.metric_once("cluster_connected", |connected| connected == 0).await;
    }
    broker.start_again_empty();
    let start = Instant::now();
    // This server has never used the room.
    let mut bare = second.bare().await;
    soon("registration", async {
        loop {
            bare.send(register(&client, &room)).await;
            if bare.next().await["type"] == "registered_auth" {
                return;
            }
            bare = second.bare().await;
        }
    })
    .await;
    let took = start.elapsed();
    println!("everybody gets in {took:?} after the return of a broker without its store");
    assert!(took < AGAIN_LIMIT, "{took:?}");
    // A server that starts now has the same key.
    let third = server(&broker).await;
    let (far, _) = third.member(&room).await;
    third.metric_once("peers", |peers| peers == 3).await;
    third.api().delete_room(&creator.id_token, &room.room_id).await.unwrap();
    drop((near, bare, far));

    // What was deleted stays deleted when the broker comes back again.
    broker.kill();
    first.metric_once("cluster_connected", |connected| connected == 0).await;
    broker.start_again();
    first.metric_once("cluster_connected", |connected| connected == 1).await;
    let mut bare = first.bare().await;
    assert_eq!(bare.refused(register(&client, &room)).await, "ROOM_NOT_FOUND");
    stop(servers).await;
    third.stop().await;
}

#[tokio::test]
async fn a_partition_between_servers_heals() {
    let Some(broker) = TestBroker::start() else { return };
    let cable = Cable::to(broker.address()).await;
    let cut_off = server_at(cable.address, Store::ephemeral().unwrap()).await;
    let [second, third] = [server(&broker).await, server(&broker).await];
    let mut pair = Pair::at(&cut_off, &second).await;
    let (moving, mut before) = {
        let identity = cut_off.identity().await;
        let mut bare = cut_off.bare().await;
        bare.send(register(&identity, &pair.room)).await;
        assert_eq!(bare.next().await["type"], "registered_auth");
        (identity, bare)
    };
    third.metric_once("peers", |peers| peers == 3).await;
    cable.cut();
    listed(&mut pair.roster, 0).await;
    // During the partition a peer registers on the other side, and there are new peers on both.
    let mut after = third.bare().await;
    after.send(register(&moving, &pair.room)).await;
    assert_eq!(after.next().await["type"], "registered_auth");
    let (mut new_here, _) = cut_off.member(&pair.room).await;
    let (mut new_there, _) = third.member(&pair.room).await;
    cable.mend();
    let start = Instant::now();
    // The newest registration has won, and everybody sees everybody again.
    assert_eq!(before.close_code().await, Some(CLOSE_REPLACED));
    for server in [&cut_off, &second, &third] {
        server.metric_once("peers", |peers| peers == 5).await;
    }
    let took = start.elapsed();
    println!("three servers agree {took:?} after the end of a partition");
    assert!(took < 2 * AGAIN_LIMIT, "{took:?}");
    sings(&mut new_there, &pair.worker_id, &mut pair.events).await;
    sings(&mut new_here, &pair.worker_id, &mut pair.events).await;
    drop((after, new_here, new_there));
    pair.end().await;
    stop([cut_off, second, third]).await;
}

#[tokio::test]
async fn peers_of_a_server_that_stops_are_back_at_the_others() {
    const PEERS: usize = 200;
    let Some(broker) = TestBroker::start() else { return };
    let [first, second, third] = three_servers(&broker).await;
    let (_, room) = second.room().await;
    let servers = list(&[&first, &second, &third]);
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let (server, identity) = servers.sign_in(None).await.unwrap();
        let cancel = tokio_util::sync::CancellationToken::new();
        let joining = SignalingClient::connect(
            servers.beginning_with(&server),
            identity,
            room.clone(),
            Role::Worker,
            Default::default(),
            cancel,
        );
        peers.push(joining.await.unwrap());
    }
    third.metric_once("peers", |peers| peers == PEERS as u64).await;
    let start = Instant::now();
    first.stop().await;
    for (peer, events) in &mut peers {
        while soon("return", events.recv()).await != Some(SignalingEvent::Restored) {}
        assert_eq!(peer.server(), second.endpoints());
    }
    third.metric_once("peers", |peers| peers == PEERS as u64).await;
    println!(
        "{PEERS} peers back at another server {:?} after their own was asked to stop",
        start.elapsed()
    );
    assert!(start.elapsed() < 2 * AGAIN_LIMIT);
    for (peer, _) in peers {
        peer.close().await;
    }
    stop([second, third]).await;
}

#[tokio::test]
async fn a_broken_message_of_another_server_harms_nobody() {
    let Some(broker) = TestBroker::start() else { return };
    let server = server(&broker).await;
    let (identity, room) = server.room().await;
    let (worker, mut events) = server.client(&identity, &room, Role::Worker, json!({})).await;
    let mut rogue = Rogue::at(broker.address()).await;
    let own = rogue.first_server().await;
    let news = "sleap-rtc.1.news.00000000000000aa".to_owned();
    let order = format!("sleap-rtc.1.orders.{own}");
    let to_worker = json!({"type": "deliver", "to": identity.peer_id, "room": room.room_id,
        "from": "00000000000000aa"});
    let mailbox = |n: u32| json!({"type": "beat", "digest": 7, "mailboxes": [n]}).to_string();
    let broken = [
        (news.clone(), b"".to_vec()),
        (news.clone(), vec![0xff; 1000]),
        (news.clone(), mailbox(0).into_bytes()),
        (news.clone(), vec![b'['; 200_000]),
        ("sleap-rtc.1.news.rogue".to_owned(), mailbox(1).into_bytes()),
        (order.clone(), b"{\"type\":\"deliver\"}\n{}".to_vec()),
        (order.clone(), [to_worker.to_string().as_bytes(), b"\nno JSON"].concat()),
        (order.clone(), [to_worker.to_string().as_bytes(), b"\n\xff"].concat()),
        // A frame for somebody else than its head says, and one of a kind that no peer sends another.
        (
            order.clone(),
            [
                to_worker.to_string(),
                json!({"type": "offer", "sender": "x", "target": "y"}).to_string(),
            ]
            .join("\n")
            .into_bytes(),
        ),
        (
            order.clone(),
            [
                to_worker.to_string(),
                json!({"type": "register", "sender": "x", "target": identity.peer_id}).to_string(),
            ]
            .join("\n")
            .into_bytes(),
        ),
        (
            order.clone(),
            [
                to_worker.to_string(),
                json!({"type": "quit", "sender": "x", "target": identity.peer_id}).to_string(),
            ]
            .join("\n")
            .into_bytes(),
        ),
    ];
    let count = broken.len() as u64;
    for (subject, bytes) in broken {
        rogue.publish(&subject, &bytes).await;
    }
    server.metric_once("cluster_messages_refused", |refused| refused >= count - 1).await;
    // Peers with huge metadata, or in absurd numbers, are not listed.
    rogue
        .publish(
            &news,
            json!({"type": "beat", "digest": 7, "mailboxes": []}).to_string().as_bytes(),
        )
        .await;
    let huge = json!({"type": "here", "peers": [{"peer": "huge", "room": room.room_id, "role": "client",
        "metadata": {"tags": [], "properties": {"x": "y".repeat(20_000)}}, "since_ms": 1, "revision": 0}]});
    rogue.publish(&news, huge.to_string().as_bytes()).await;
    server.metric_once("cluster_messages_refused", |refused| refused >= count).await;
    // The server works.
    let (mut other, _) = server.member(&room).await;
    sings(&mut other, &identity, &mut events).await;
    assert_eq!(worker.discover(Filters::default()).await.unwrap().len(), 1);
    worker.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_brings_its_rooms_and_identities_into_a_new_cluster() {
    let Some(broker) = TestBroker::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.sqlite");
    let alone = TestServer::at(([127, 0, 0, 1], 0).into(), Store::open(&file).unwrap()).await;
    let (identity, room) = alone.room().await;
    alone.stop().await;
    let first = server_at(broker.address(), Store::open(&file).unwrap()).await;
    // The cluster begins with the one that is there first.
    first.metric_once("cluster_connected", |connected| connected == 1).await;
    let second = server(&broker).await;
    let mut bare = second.bare().await;
    bare.send(register(&identity, &room)).await;
    assert_eq!(bare.next().await["type"], "registered_auth");
    // Its creator may still delete it, anywhere.
    second.api().delete_room(&identity.id_token, &room.room_id).await.unwrap();
    stop([first, second]).await;
}

#[tokio::test]
async fn devices_pair_over_two_servers() {
    let Some(broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let (mut owner, _) = Mailbox::open(&list(&[second, first])).await.unwrap();
    let mut joiner = Mailbox::join(&list(&[first, second]), owner.number()).await.unwrap();
    assert_eq!(soon("news", owner.next()).await.unwrap(), MailboxNews::Joined);
    joiner.send(b"hello".to_vec()).await.unwrap();
    assert_eq!(soon("news", owner.next()).await.unwrap(), MailboxNews::Parcel(b"hello".to_vec()));
    stop(servers).await;
}

#[tokio::test]
async fn the_relay_of_one_server_admits_the_peers_of_another() {
    let Some(broker) = TestBroker::start() else { return };
    let servers = [server(&broker).await, server(&broker).await];
    let [first, second] = &servers;
    let (_, room) = first.room().await;
    let at_second = relay::peer(second, &room).await;
    first.metric_once("peers", |peers| peers == 1).await;
    let endpoint = at_second.endpoint_at(first).await;
    relay::admission(&endpoint).await.unwrap();
    endpoint.close().await;
    stop(servers).await;
}
