//! Registration, discovery and forwarding between honest peers.

use super::support::{TestServer, message, register, soon};
use crate::client::SignalingError;
use serde_json::{Value, json};
use sleap_rtc_protocol::signaling::{
    ClientMessage, Description, ErrorFrame, Filters, MetadataPatch, Role, Sdp, ServerMessage,
};

fn filters(value: Value) -> Filters {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn two_peers_find_each_other_and_exchange_an_offer() {
    let server = TestServer::start().await;
    let (worker_id, room) = server.room().await;
    let metadata = json!({"tags": ["training-worker"], "properties": {"gpu_memory_mb": 8192}});
    let (worker, mut at_worker) = server.client(&worker_id, &room, Role::Worker, metadata).await;
    let client_id = server.identity().await;
    let (client, mut at_client) = server.client(&client_id, &room, Role::Client, json!({})).await;

    let found = client.discover(filters(json!({"role": "worker"}))).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].peer_id, worker_id.peer_id);
    assert_eq!(found[0].metadata.properties["gpu_memory_mb"], 8192);
    assert!(found[0].connected_at.is_u64());

    let mut description = Description {
        iroh: None,
        sender: client_id.peer_id.clone(),
        target: worker_id.peer_id.clone(),
        sdp: Sdp("v=0".into()),
        protocols: vec!["sleap-rtc/1".into()],
        purpose: None,
        attempt: Some(7),
        sender_address: None,
    };
    client.send(ClientMessage::Offer(description.clone())).await.unwrap();
    let ServerMessage::Offer(mut offer) = message(&mut at_worker).await else { panic!("no offer") };
    assert!(offer.sender_address.take().is_some());
    assert_eq!(offer, description);
    std::mem::swap(&mut description.sender, &mut description.target);
    worker.send(ClientMessage::Answer(description.clone())).await.unwrap();
    assert_eq!(message(&mut at_client).await, ServerMessage::Answer(description));

    // Leaving is complete when `close` returns: discovery no longer shows the worker.
    worker.close().await;
    assert_eq!(client.discover(Filters::default()).await.unwrap(), []);
    client.close().await;
}

#[tokio::test]
async fn discovery_stays_in_the_room_and_keeps_to_its_filters() {
    let server = TestServer::start().await;
    let (worker_id, room) = server.room().await;
    let (_, other_room) = server.room().await;
    let metadata = json!({"tags": ["t"], "properties": {"gpu_memory_mb": 8192, "status": "busy"}});
    let (_worker, _events) = server.client(&worker_id, &room, Role::Worker, metadata).await;
    let (_stranger, _) = server.member(&other_room).await;
    let (client, _events) =
        server.client(&server.identity().await, &room, Role::Client, json!({})).await;
    for (wanted, count) in [
        (json!({}), 1),
        (json!({"role": "client"}), 0),
        (json!({"room_id": room.room_id}), 1),
        (json!({"properties": {"gpu_memory_mb": {"$gte": 8192}}}), 1),
        (json!({"properties": {"gpu_memory_mb": {"$gt": 8192}}}), 0),
        (json!({"properties": {"status": {"$in": ["busy", "reserved"]}}}), 1),
        (json!({"tags": ["other"]}), 0),
    ] {
        let found = client.discover(filters(wanted.clone())).await.unwrap();
        assert_eq!(found.len(), count, "{wanted}");
    }
    let (mut bare, identity) = server.member(&room).await;
    let discover = |filters: Value| json!({"type": "discover_peers", "from_peer_id": identity.peer_id, "filters": filters});
    assert_eq!(bare.refused(discover(json!({"room_id": other_room.room_id}))).await, "NOT_IN_ROOM");
    bare.send(discover(json!({"properties": {"x": {"$near": 1}}}))).await;
    let answer = bare.next().await;
    assert_eq!(answer["code"], "INVALID_MESSAGE");
    assert!(answer["message"].as_str().unwrap().contains("$near"));
    bare.send(discover(json!({"role": "worker"}))).await;
    let answer = bare.next().await;
    assert_eq!(answer["to_peer_id"], identity.peer_id.as_str());
    assert_eq!(answer["count"], 1);
}

#[tokio::test]
async fn what_is_forwarded_keeps_every_key() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut a, a_id) = server.member(&room).await;
    let (mut b, b_id) = server.member(&room).await;
    for text in [
        format!(
            r#"{{ "type":"offer", "sdp":"v=0","x":{{"deep":[1,2.50]}},"sender":"{}","target":"{}" }}"#,
            a_id.peer_id, b_id.peer_id
        ),
        format!(
            r#"{{"type":"peer_message","from_peer_id":"{}","to_peer_id":"{}","payload":{{"app_message_type":"song"}}}}"#,
            a_id.peer_id, b_id.peer_id
        ),
        format!(
            r#"{{"type":"candidate","sender":"{}","target":"{}","candidate":null}}"#,
            a_id.peer_id, b_id.peer_id
        ),
    ] {
        a.send_text(&text).await;
        // For a worker, the server adds the sender's address.
        let (_, keys) = text.split_once('{').unwrap();
        let forwarded = b.next_text().await;
        assert!(forwarded.starts_with('{') && forwarded.ends_with(keys), "{forwarded}");
    }
}

#[tokio::test]
async fn only_the_server_tells_a_worker_from_which_address_a_peer_speaks() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut a, _) = server.member(&room).await;
    let (mut b, _) = server.member(&room).await;
    let worker_id = server.identity().await;
    let (_worker, mut events) = server.client(&worker_id, &room, Role::Worker, json!({})).await;
    let offer = json!({"type": "offer", "target": worker_id.peer_id, "sdp": "v=0"});
    let mut tags = Vec::new();
    for peer in [&mut a, &mut b] {
        peer.send(offer.clone()).await;
        let ServerMessage::Offer(offer) = message(&mut events).await else { panic!("no offer") };
        tags.push(offer.sender_address.expect("an address tag"));
    }
    assert_eq!(tags[0], tags[1], "both speak from this machine");
    for claim in [json!("0123456789abcdef"), json!(null)] {
        let mut offer = offer.clone();
        offer["sender_address"] = claim;
        a.send(offer).await;
        assert_eq!(a.next().await["code"], "INVALID_MESSAGE");
    }
    // For a client, it adds nothing.
    let client_id = server.identity().await;
    let (_client, mut events) = server.client(&client_id, &room, Role::Client, json!({})).await;
    b.send(json!({"type": "offer", "target": client_id.peer_id, "sdp": "v=0"})).await;
    let ServerMessage::Offer(offer) = message(&mut events).await else { panic!("no offer") };
    assert_eq!(offer.sender_address, None);
}

#[tokio::test]
async fn an_error_reaches_its_target_and_says_who_sent_it() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut worker, worker_id) = server.member(&room).await;
    let client_id = server.identity().await;
    let (_client, mut events) = server.client(&client_id, &room, Role::Client, json!({})).await;
    // Like a Python worker, without a sender.
    worker
        .send(json!({
            "type": "error", "target": client_id.peer_id, "reason": "worker_busy",
            "message": "busy", "current_status": "busy",
        }))
        .await;
    assert_eq!(
        message(&mut events).await,
        ServerMessage::Error(ErrorFrame {
            sender: Some(worker_id.peer_id),
            target: Some(client_id.peer_id),
            reason: Some("worker_busy".into()),
            message: Some("busy".into()),
            current_status: Some("busy".into()),
            ..ErrorFrame::default()
        })
    );
}

#[tokio::test]
async fn a_partial_update_keeps_tags_and_other_properties() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut worker, worker_id) = server.member(&room).await;
    worker
        .send(json!({
            "type": "update_metadata", "peer_id": worker_id.peer_id,
            "metadata": {"properties": {"gpu": 1}},
        }))
        .await;
    let updated = worker.next().await;
    assert_eq!(updated["type"], "metadata_updated");
    let whole = json!({"tags": ["sleap-rtc"], "properties": {"status": "available", "gpu": 1}});
    assert_eq!(updated["metadata"], whole);

    // Our own client, seen by another peer.
    let identity = server.identity().await;
    let metadata = json!({"tags": ["t"], "properties": {"status": "available", "gpu": 1}});
    let (client, mut events) = server.client(&identity, &room, Role::Worker, metadata).await;
    let properties = json!({"status": "busy"}).as_object().cloned();
    client.update(MetadataPatch { tags: None, properties }).await;
    assert!(matches!(message(&mut events).await, ServerMessage::MetadataUpdated { .. }));
    worker.send(json!({"type": "discover_peers", "from_peer_id": worker_id.peer_id})).await;
    let peers = worker.next().await;
    assert_eq!(
        peers["peers"][0]["metadata"],
        json!({"tags": ["t"], "properties": {"status": "busy", "gpu": 1}})
    );
}

#[tokio::test]
async fn the_same_identity_takes_its_place_over() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut first, identity) = server.member(&room).await;
    let (mut other, other_id) = server.member(&room).await;
    let mut second = server.bare().await;
    second.send(register(&identity, &room)).await;
    assert_eq!(second.next().await["type"], "registered_auth");
    assert_eq!(first.close_code().await, Some(4001));
    other
        .send(json!({"type": "answer", "sender": other_id.peer_id, "target": identity.peer_id}))
        .await;
    assert_eq!(second.next().await["type"], "answer");
    other.send(json!({"type": "discover_peers", "from_peer_id": other_id.peer_id})).await;
    assert_eq!(other.next().await["count"], 1);
}

#[tokio::test]
async fn a_stop_tells_every_peer_to_come_back() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut registered, _) = server.member(&room).await;
    let mut unregistered = server.bare().await;
    let address = server.address;
    let (stopped, a, b) =
        tokio::join!(server.stop(), registered.close_code(), unregistered.close_code());
    assert_eq!((stopped, a, b), ((), Some(1012), Some(1012)));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_closed_client_says_so() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let (client, mut events) = server.client(&identity, &room, Role::Client, json!({})).await;
    let clone = client.clone();
    soon("close", client.close()).await;
    assert_eq!(events.recv().await, None);
    assert!(matches!(clone.discover(Filters::default()).await, Err(SignalingError::Closed)));
    clone.update(MetadataPatch::default()).await;
}
