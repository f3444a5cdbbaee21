//! Lists of peers: their pages, their updates, their limits to the room; and the ICE servers of a
//! registration.

use super::support::{TestServer, register, soon};
use crate::client::Roster;
use crate::ice::{IceOffer, OfferedServer, Secret};
use crate::server::ServerOptions;
use crate::store::Store;
use serde_json::{Value, json};
use sleap_rtc_protocol::signaling::{Filters, MAX_FRAME_BYTES, MetadataPatch, Role};
use std::time::{Duration, Instant};

fn workers() -> Filters {
    serde_json::from_value(json!({"role": "worker"})).unwrap()
}

fn says(status: &str) -> MetadataPatch {
    let properties = json!({ "status": status });
    MetadataPatch { tags: None, properties: properties.as_object().cloned() }
}

fn statuses(roster: &Roster) -> Vec<Value> {
    roster.peers().map(|peer| peer.metadata.properties["status"].clone()).collect()
}

#[tokio::test]
async fn a_room_that_no_frame_holds_comes_in_pages() {
    const PEERS: usize = 200;
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let mut members = Vec::new();
    for _ in 0..PEERS {
        let identity = server.identity().await;
        let mut bare = server.bare().await;
        let mut frame = register(&identity, &room);
        frame["metadata"]["properties"]["notes"] = "n".repeat(15_000).into();
        bare.send(frame).await;
        assert_eq!(bare.next().await["type"], "registered_auth");
        members.push((bare, identity.peer_id.to_string()));
    }
    let (client, _events) = server.client(&identity, &room, Role::Client, json!({})).await;
    let mut expected: Vec<String> = members.iter().map(|(_, peer)| peer.clone()).collect();
    expected.sort();
    let found = client.discover(workers()).await.unwrap();
    let found: Vec<String> = found.iter().map(|peer| peer.peer_id.to_string()).collect();
    assert_eq!(found, expected);

    // A peer without support for pages gets no longer list than it accepts.
    let (mut bare, own_id) = members.pop().unwrap();
    let ask = |more: Value| {
        let mut frame = json!({"type": "discover_peers", "from_peer_id": own_id});
        frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        frame
    };
    bare.send(ask(json!({}))).await;
    let text = bare.next_text().await;
    assert!(text.len() <= MAX_FRAME_BYTES && text.len() > MAX_FRAME_BYTES / 2, "{}", text.len());
    let list: Value = serde_json::from_str(&text).unwrap();
    let last = list["peers"].as_array().unwrap().last().unwrap();
    assert_eq!((&list["next"], &list["to_peer_id"]), (&last["peer_id"], &json!(own_id)));
    bare.send(ask(json!({"limit": 3, "after": expected[9]}))).await;
    let list = bare.next().await;
    let found: Vec<&Value> = list["peers"].as_array().unwrap().iter().collect();
    let found: Vec<&str> = found.iter().map(|peer| peer["peer_id"].as_str().unwrap()).collect();
    let others = expected[10..].iter().filter(|peer| **peer != own_id);
    assert_eq!(found, others.take(3).collect::<Vec<_>>());
    assert_eq!(bare.refused(ask(json!({"limit": 0}))).await, "INVALID_MESSAGE");
    assert_eq!(bare.refused(ask(json!({"limit": -1}))).await, "INVALID_MESSAGE");
}

#[tokio::test]
async fn a_roster_hears_of_each_change_at_once() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let (client, _events) = server.client(&identity, &room, Role::Client, json!({})).await;
    let mut roster = client.roster(workers()).await.unwrap();
    assert_eq!(statuses(&roster), [] as [Value; 0]);

    let start = Instant::now();
    let metadata = json!({"properties": {"status": "available"}});
    let worker_id = server.identity().await;
    let (worker, _) = server.client(&worker_id, &room, Role::Worker, metadata).await;
    soon("arrival", roster.changed()).await.unwrap();
    assert_eq!(statuses(&roster), ["available"]);
    worker.update(says("busy")).await;
    soon("status", roster.changed()).await.unwrap();
    assert_eq!(statuses(&roster), ["busy"]);
    worker.close().await;
    soon("departure", roster.changed()).await.unwrap();
    assert_eq!(statuses(&roster), [] as [Value; 0]);
    // With polling, three changes would take nine seconds.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_watch_stays_in_the_room_and_keeps_to_its_filters() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (_, other_room) = server.room().await;
    let (mut watcher, own) = server.member(&room).await;
    let frame = |kind: &str, filters: Value| json!({"type": kind, "from_peer_id": own.peer_id, "filters": filters});
    let wanted = json!({"role": "worker", "properties": {"status": {"$ne": "busy"}}});
    watcher.send(frame("watch_peers", wanted)).await;
    assert_eq!(watcher.next().await, json!({"type": "watching", "active": true}));

    let (_stranger, _) = server.member(&other_room).await;
    let (_client, _) =
        server.client(&server.identity().await, &room, Role::Client, json!({})).await;
    let (mut worker, worker_id) = server.member(&room).await;
    let news = watcher.next().await;
    assert_eq!(news["type"], "peers_changed");
    assert_eq!(news["peers"].as_array().unwrap().len(), 1, "{news}");
    assert_eq!(news["peers"][0]["peer_id"], json!(worker_id.peer_id));
    let update = json!({"type": "update_metadata", "peer_id": worker_id.peer_id,
        "metadata": {"properties": {"status": "busy"}}});
    worker.send(update).await;
    let news = watcher.next().await;
    assert_eq!((&news["peers"], &news["left"]), (&json!([]), &json!([worker_id.peer_id])));

    let bad = json!({"properties": {"status": {"$regex": "."}}});
    assert_eq!(watcher.refused(frame("watch_peers", bad)).await, "INVALID_MESSAGE");
    let elsewhere = json!({"room_id": other_room.room_id});
    assert_eq!(watcher.refused(frame("watch_peers", elsewhere)).await, "NOT_IN_ROOM");
    watcher.send(frame("unwatch_peers", json!({}))).await;
    assert_eq!(watcher.next().await, json!({"type": "watching", "active": false}));
    let (_late, _) = server.member(&room).await;
    // No message about the late peer comes before this answer.
    watcher.send(frame("discover_peers", json!({"role": "worker"}))).await;
    assert_eq!(watcher.next().await["count"], 2);
}

#[tokio::test]
async fn a_roster_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.sqlite");
    let server = TestServer::at(([127, 0, 0, 1], 0).into(), Store::open(&path).unwrap()).await;
    let address = server.address;
    let (identity, room) = server.room().await;
    let (client, _events) = server.client(&identity, &room, Role::Client, json!({})).await;
    let mut roster = client.roster(workers()).await.unwrap();
    let worker_id = server.identity().await;
    let metadata = json!({"properties": {"status": "available"}});
    let (worker, _) = server.client(&worker_id, &room, Role::Worker, metadata.clone()).await;
    soon("arrival", roster.changed()).await.unwrap();
    server.stop().await;
    let server = TestServer::at(address, Store::open(&path).unwrap()).await;
    let another = server.identity().await;
    let (_other, _) = server.client(&another, &room, Role::Worker, metadata).await;
    while statuses(&roster) != ["available", "available"] {
        soon("both workers", roster.changed()).await.unwrap();
    }
    worker.close().await;
}

#[tokio::test]
async fn accounts_on_a_turn_server_are_renewed_before_they_expire() {
    let urls = vec!["turn:127.0.0.1:3478".to_owned()];
    let secret = Secret("north".into());
    let lifetime = Duration::from_secs(4);
    let ice = IceOffer { servers: vec![OfferedServer::Secret { urls, secret }], lifetime };
    let store = Store::ephemeral().unwrap();
    let server = TestServer::with(
        ([127, 0, 0, 1], 0).into(),
        store,
        ServerOptions { ice, ..Default::default() },
    )
    .await;
    let (identity, room) = server.room().await;
    let (client, _events) = server.client(&identity, &room, Role::Worker, json!({})).await;
    let mut given = client.ice_servers();
    let account = |given: &tokio::sync::watch::Receiver<_>| {
        let given: &sleap_rtc_protocol::signaling::IceServers = &given.borrow();
        given.ice_servers[0].username.clone().unwrap()
    };
    soon("the first", given.wait_for(|given| !given.ice_servers.is_empty())).await.unwrap();
    let first = account(&given);
    assert!(first.ends_with(&format!(":{}", identity.peer_id)), "{first}");
    given.mark_unchanged();
    soon("the next", given.changed()).await.unwrap();
    assert!(account(&given) > first, "{first} was not renewed");
}
