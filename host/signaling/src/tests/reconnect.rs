//! A server that stops and returns.

use super::support::{TestServer, message, soon};
use crate::client::{SignalingError, SignalingEvent};
use crate::store::Store;
use serde_json::json;
use sleap_rtc_protocol::signaling::{ClientMessage, Filters, MetadataPatch, Role, ServerMessage};
use std::net::SocketAddr;

#[tokio::test]
async fn a_restart_with_the_same_file_forgets_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.sqlite");
    let start = |address| {
        let store = Store::open(&file).unwrap();
        TestServer::at(address, store)
    };
    let server = start(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let address = server.address;
    let (identity, room) = server.room().await;
    let metadata = json!({"tags": ["t"], "properties": {"status": "available", "gpu": 1}});
    let (worker, mut events) = server.client(&identity, &room, Role::Worker, metadata).await;
    server.stop().await;
    assert_eq!(soon("loss", events.recv()).await, Some(SignalingEvent::Lost));

    // Nothing is queued for later, because messages of peers depend on the moment.
    let error = worker.send(ClientMessage::Unknown).await.unwrap_err();
    assert!(matches!(error, SignalingError::Lost), "{error}");
    assert!(worker.discover(Filters::default()).await.is_err());
    let properties = json!({"status": "busy"}).as_object().cloned();
    worker.update(MetadataPatch { tags: None, properties }).await;

    let server = start(address).await;
    assert_eq!(soon("return", events.recv()).await, Some(SignalingEvent::Restored));
    let (mut looker, _) = server.member(&room).await;
    looker.send(json!({"type": "discover_peers"})).await;
    let peers = looker.next().await["peers"].clone();
    assert_eq!(peers[0]["peer_id"], identity.peer_id.as_str());
    assert_eq!(
        peers[0]["metadata"],
        json!({"tags": ["t"], "properties": {"status": "busy", "gpu": 1}})
    );
    // The creator is still the creator, and frames arrive again.
    looker
        .send(json!({"type": "peer_message", "to_peer_id": identity.peer_id,
        "payload": {"app_message_type": "song"}}))
        .await;
    assert!(matches!(message(&mut events).await, ServerMessage::PeerMessage(_)));
    server.api().delete_room(&identity.id_token, &room.room_id).await.unwrap();
    worker.close().await;
    server.stop().await;
}

#[tokio::test]
async fn closing_does_not_wait_for_a_server_that_is_gone() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let (client, mut events) = server.client(&identity, &room, Role::Client, json!({})).await;
    server.stop().await;
    assert_eq!(soon("loss", events.recv()).await, Some(SignalingEvent::Lost));
    soon("close", client.close()).await;
    assert_eq!(soon("end of the events", events.recv()).await, None);
}

#[tokio::test]
async fn errors_and_nonsense_from_the_server_end_nothing() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let (client, mut events) = server.client(&identity, &room, Role::Client, json!({})).await;
    client.send(ClientMessage::Unknown).await.unwrap();
    assert!(matches!(message(&mut events).await, ServerMessage::Error(_)));
    let (mut other, _) = server.member(&room).await;
    // A known type with wrong fields is forwarded, so that a waiting peer gets an answer.
    other.send(json!({"type": "answer", "target": identity.peer_id, "sdp": 7})).await;
    other.send(json!({"type": "offer", "target": identity.peer_id, "sdp": 7})).await;
    assert!(matches!(message(&mut events).await, ServerMessage::Unreadable(_)));
    other.send(json!({"type": "candidate", "target": identity.peer_id})).await;
    assert!(matches!(message(&mut events).await, ServerMessage::Candidate { .. }));
    assert_eq!(client.discover(Filters::default()).await.unwrap().len(), 1);
    client.close().await;
    server.stop().await;
}
