//! A room of thousands.

use super::{fresh_address, identity, registration, server};
use crate::server::Limits;
use crate::server::link::link;
use crate::server::session::Session;
use serde_json::{Value, json};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::signaling::MAX_FRAME_BYTES;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PEERS: usize = 5_000;

/// Requests all pages. Returns the ids in the order of arrival, and the number of frames.
async fn list(session: &mut Session, limit: Option<usize>) -> (Vec<String>, usize) {
    let (mut ids, mut frames, mut after) = (Vec::new(), 0, Value::Null);
    loop {
        let mut frame = json!({"type": "discover_peers", "filters": {"role": "worker"}});
        if let Some(limit) = limit {
            frame["limit"] = limit.into();
        }
        if !after.is_null() {
            frame["after"] = after;
        }
        let text = session.receive(frame.to_string().into()).await.unwrap();
        assert!(text.len() <= MAX_FRAME_BYTES, "a page of {} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        let peers = page["peers"].as_array().unwrap();
        assert!(peers.len() <= limit.unwrap_or(PEERS) && page["count"] == peers.len());
        ids.extend(peers.iter().map(|peer| peer["peer_id"].as_str().unwrap().to_owned()));
        (frames, after) = (frames + 1, page["next"].clone());
        if after.is_null() {
            return (ids, frames);
        }
    }
}

#[tokio::test]
async fn a_room_of_five_thousand_comes_in_pages() {
    let server = server(Limits { room_peers: PEERS + 1, ..Limits::default() });
    let creator = identity(&server, "creator");
    let room = server.state.create_room(creator.0, now_s()).await.unwrap();
    let join = async |name: &str, role: &str| {
        let mut session = Session::new(Arc::clone(&server), link().0, fresh_address());
        let mut frame = registration(&identity(&server, name), &room);
        frame["role"] = role.into();
        frame["metadata"]["properties"]["notes"] = "n".repeat(500).into();
        let answer = session.receive(frame.to_string().into()).await.unwrap();
        (session, answer)
    };
    let mut workers = Vec::new();
    for n in 0..PEERS {
        let (session, answer) = join(&format!("worker-{n:04}"), "worker").await;
        assert!(answer.contains("registered_auth"), "{answer}");
        workers.push(session);
    }
    let (mut asker, _) = join("asker", "client").await;
    let (_, refused) = join("one-too-many", "worker").await;
    assert!(refused.contains("ROOM_FULL"), "{refused}");
    let expected: Vec<String> = (0..PEERS).map(|n| format!("worker-{n:04}")).collect();
    for (limit, least) in [(None, 3), (Some(500), 10), (Some(4_999), 3)] {
        let start = Instant::now();
        let (ids, frames) = list(&mut asker, limit).await;
        println!("{PEERS} peers, limit {limit:?}: {frames} frames in {:.1?}", start.elapsed());
        assert!(ids == expected && frames >= least, "{} peers in {frames} frames", ids.len());
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
