//! The server answers or forwards any input of a stranger, and no other peer notices.

use super::{fresh_address, identity, registration, server};
use crate::server::Limits;
use crate::server::link::{Outgoing, link};
use crate::server::session::Session;
use crate::server::{Server, Share, http};
use bytes::Bytes;
use futures_util::FutureExt;
use hostile_input::{damaged, each};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use sleap_rtc_base::clock::now_s;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RoomCredentials};
use std::cell::RefCell;
use std::sync::Arc;
use tokio::runtime::Runtime;

fn metadata_of(server: &Server, who: &(PeerId, IdToken)) -> Option<Value> {
    let connection = 1; // The first connection belongs to the bystander.
    let rooms = server.rooms();
    rooms.member(&who.0, connection).map(|member| json!(member.metadata))
}

/// One of each frame, from `me` to `you`.
fn frames(me: &(PeerId, IdToken), you: &PeerId, room: &RoomCredentials) -> Vec<String> {
    let own = &me.0;
    let filters = json!({"role": "worker", "tags": ["a"],
        "properties": {"n": {"$gte": 1, "$in": [1, 2]}, "m": {"$ne": "x"}}});
    let metadata = json!({"tags": ["a"], "properties": {"n": 1}});
    let payload = json!({"app_message_type": "job_request", "job_id": "j"});
    [
        registration(me, room),
        json!({"type": "discover_peers", "from_peer_id": own, "filters": filters, "limit": 3,
            "after": "b"}),
        json!({"type": "watch_peers", "from_peer_id": own, "filters": filters}),
        json!({"type": "unwatch_peers", "from_peer_id": own}),
        json!({"type": "get_ice_servers", "from_peer_id": own}),
        json!({"type": "update_metadata", "peer_id": own, "metadata": metadata}),
        json!({"type": "offer", "sender": own, "target": you, "sdp": "v=0", "attempt": 1}),
        json!({"type": "answer", "sender": own, "target": you, "sdp": "v=0", "attempt": 1}),
        json!({"type": "candidate", "target": you, "candidate": "c"}),
        json!({"type": "peer_message", "from_peer_id": own, "to_peer_id": you, "payload": payload}),
        json!({"type": "error", "sender": own, "target": you, "reason": "worker_busy"}),
    ]
    .map(|frame| frame.to_string())
    .to_vec()
}

#[test]
fn frames_of_strangers_and_of_members() {
    let (runtime, server) = (Runtime::new().unwrap(), server(Limits::default()));
    let (bystander, liar) = (identity(&server, "bystander"), identity(&server, "liar"));
    let creating = server.state.create_room(bystander.0.clone(), now_s());
    let room = runtime.block_on(creating).unwrap();
    let (to_bystander, inbox) = link();
    let inbox = RefCell::new(inbox);
    let mut witness = Session::new(Arc::clone(&server), to_bystander, fresh_address());
    let entering = witness.receive(registration(&bystander, &room).to_string().into());
    assert!(runtime.block_on(entering).unwrap().contains("registered_auth"));
    let as_it_was = metadata_of(&server, &bystander).unwrap();

    let whole = frames(&liar, &bystander.0, &room);
    let inputs = (any::<bool>(), damaged(whole));
    each("frames to the server", inputs, |(is_member, text)| {
        runtime.block_on(async {
            let (to_liar, _own_inbox) = link();
            let mut session = Session::new(Arc::clone(&server), to_liar, fresh_address());
            if is_member {
                session.receive(registration(&liar, &room).to_string().into()).await;
            }
            let answer = session.receive(text.into()).await;
            if let Some(answer) = &answer {
                let answer: Value = serde_json::from_str(answer).unwrap();
                let is_error = answer["type"] == "error";
                prop_assert_eq!(is_error, answer["code"].is_string(), "{}", answer);
                prop_assert!(
                    !is_error || answer["message"].as_str().is_some_and(|m| m.len() < 999)
                );
            }
            while let Some(Outgoing::Deliver(frame)) = inbox.borrow_mut().next().now_or_never() {
                prop_assert!(answer.is_none(), "both refused and passed on");
                let frame: Value = serde_json::from_str(&frame).unwrap();
                let key = if frame["type"] == "peer_message" { "from_peer_id" } else { "sender" };
                prop_assert_eq!(&frame[key], "liar");
            }
            session.end().await;
            let as_it_is = metadata_of(&server, &bystander);
            prop_assert_eq!(as_it_is.as_ref(), Some(&as_it_was));
            prop_assert_eq!(server.rooms().peers(), 1, "a session has left its peer behind");
            Ok(())
        })
    });
}

/// The parts of a request that a stranger chooses.
fn requests(bearer: &IdToken) -> impl Strategy<Value = (String, String, Vec<String>, String)> {
    let token = bearer.as_str().to_owned();
    let paths = ["/anonymous-signin", "/create-room", "/delete-peer", "/delete-peers-and-room"];
    let others = ["/", "/health", "/metrics", "/nowhere"];
    let path = prop_oneof![
        6 => prop::sample::select(paths.to_vec()).prop_map(str::to_owned),
        2 => prop::sample::select(others.to_vec()).prop_map(str::to_owned),
        1 => "/[!-~]{0,20}",
    ];
    let method = prop::sample::select(vec!["POST", "POST", "POST", "GET", "PUT", "BREW"]);
    let header = damaged(vec![format!("Bearer {token}"), format!("bearer {token}")]);
    let bodies = [
        json!({"peer_id": "liar"}),
        json!({"peer_id": "bystander"}),
        json!({"room_id": "ab12cd34"}),
        json!({"id_token": token}),
    ];
    let bodies = bodies.map(|body| body.to_string()).to_vec();
    let body = prop_oneof![1 => Just(String::new()), 4 => damaged(bodies)];
    (method.prop_map(str::to_owned), path, prop::collection::vec(header, 0..2), body)
}

/// Each request comes from another machine, because limits per address are not the subject here.
fn without_limit_on_rooms() -> Limits {
    Limits { rooms_per_address: 1_000_000, ..Limits::default() }
}

#[test]
fn requests_of_strangers() {
    let (runtime, server) = (Runtime::new().unwrap(), server(without_limit_on_rooms()));
    let (bystander, liar) = (identity(&server, "bystander"), identity(&server, "liar"));
    let creating = server.state.create_room(bystander.0.clone(), now_s());
    let room = runtime.block_on(creating).unwrap();
    let (to_bystander, _inbox) = link();
    let mut witness = Session::new(Arc::clone(&server), to_bystander, fresh_address());
    let entering = witness.receive(registration(&bystander, &room).to_string().into());
    assert!(runtime.block_on(entering).unwrap().contains("registered_auth"));

    each("requests over HTTP", requests(&liar.1), |(method, path, headers, body)| {
        let mut request = Request::builder().method(method.as_str()).uri(path.as_str());
        for header in headers {
            request = request.header("authorization", header);
        }
        // Invalid header values and addresses never arrive over a socket.
        let Ok(request) = request.body(Full::new(Bytes::from(body))) else { return Ok(()) };
        let permit = Arc::clone(&server.sockets).try_acquire_owned().unwrap();
        let share =
            Arc::new(Share { _permit: permit, _place: None, stranger: server.strangers.enter() });
        let answering = http::answer(request, Arc::clone(&server), fresh_address(), share);
        let (head, body) = runtime.block_on(answering).into_parts();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        let status = head.status.as_u16();
        prop_assert!([200, 400, 401, 403, 404, 405, 426].contains(&status), "{status}");
        let said = serde_json::from_slice::<Value>(&body);
        let explained = said.is_ok_and(|said| status == 200 || said["error"].is_string());
        prop_assert!(explained || path.starts_with("/metrics"), "{status}: {body:?}");
        prop_assert!(metadata_of(&server, &bystander).is_some(), "the bystander is gone");
        Ok(())
    });
}
