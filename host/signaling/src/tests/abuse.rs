//! Peers that lie, guess, flood and do not read.

use super::support::{Bare, TestServer, message, register, soon};
use crate::client::PeerIdentity;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sleap_rtc_protocol::ids::{RoomCredentials, RoomId, Token};
use sleap_rtc_protocol::signaling::{Filters, MAX_FRAME_BYTES, Role};
use tokio_tungstenite::tungstenite::{Bytes, Message};

#[tokio::test]
async fn nobody_speaks_for_another() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut victim, victim_id) = server.member(&room).await;
    let (mut liar, liar_id) = server.member(&room).await;
    let (lied, own) = (&victim_id.peer_id, &liar_id.peer_id);
    for frame in [
        json!({"type": "offer", "sender": lied, "target": own, "sdp": "v=0"}),
        json!({"type": "answer", "sender": lied, "target": lied, "sdp": "v=0"}),
        json!({"type": "offer", "sender": own, "from_peer_id": lied, "target": lied}),
        json!({"type": "peer_message", "from_peer_id": lied, "to_peer_id": own, "payload": {}}),
        json!({"type": "candidate", "sender": lied, "target": own}),
        json!({"type": "error", "sender": lied, "target": own, "reason": "worker_busy"}),
        json!({"type": "update_metadata", "peer_id": lied, "metadata": {}}),
        json!({"type": "discover_peers", "from_peer_id": lied}),
    ] {
        assert_eq!(liar.refused(frame.clone()).await, "SENDER_MISMATCH", "{frame}");
    }
    // A socket belongs to one peer for its lifetime, even with two valid identities.
    let other = server.identity().await;
    assert_eq!(liar.refused(register(&other, &room)).await, "SENDER_MISMATCH");
    // None of it arrived.
    liar.send(json!({"type": "candidate", "sender": own, "target": lied})).await;
    assert_eq!(victim.next().await["type"], "candidate");
    let (_, health) = server.http("GET /health", "").await;
    assert_eq!(health["impersonations_refused"], 9);
}

#[tokio::test]
async fn nobody_speaks_before_registering_or_registers_as_another() {
    let server = TestServer::start().await;
    let (owner, room) = server.room().await;
    let mut bare = server.bare().await;
    for kind in ["offer", "peer_message", "discover_peers", "update_metadata", "error"] {
        let frame = json!({"type": kind, "target": owner.peer_id, "to_peer_id": owner.peer_id});
        assert_eq!(bare.refused(frame).await, "NOT_IN_ROOM", "{kind}");
    }
    let mut stolen = register(&server.identity().await, &room);
    stolen["peer_id"] = json!(owner.peer_id);
    assert_eq!(bare.refused(stolen).await, "IDENTITY_REFUSED");
    let mut forged = register(&owner, &room);
    forged["id_token"] = json!("eyJhbGciOiJub25lIn0.e30.");
    assert_eq!(bare.refused(forged).await, "IDENTITY_REFUSED");
    bare.send(register(&owner, &room)).await;
    assert_eq!(bare.next().await["type"], "registered_auth");
}

/// Our workers ignore it, but a Python worker would obey.
#[tokio::test]
async fn only_a_worker_sends_away_and_only_clients() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut worker, worker_id) = server.member(&room).await;
    let (_other, other_id) = server.member(&room).await;
    let client_id = server.identity().await;
    let mut client = server.bare().await;
    let mut frame = register(&client_id, &room);
    frame["role"] = json!("client");
    client.send(frame).await;
    assert_eq!(client.next().await["type"], "registered_auth");
    let quit = |from: &PeerIdentity, to: &PeerIdentity| json!({"type": "quit", "sender": from.peer_id, "target": to.peer_id});
    assert_eq!(client.refused(quit(&client_id, &worker_id)).await, "INVALID_MESSAGE");
    assert_eq!(worker.refused(quit(&worker_id, &other_id)).await, "INVALID_MESSAGE");
    worker.send(quit(&worker_id, &client_id)).await;
    assert_eq!(client.next().await["type"], "quit");
}

/// Python sleap-rtc 0.0.7 and newer: the worker prints the reason, the client why its socket closes.
#[tokio::test]
async fn who_wants_accounts_hears_that_there_are_none() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let (peer, metadata) = (&identity.peer_id, json!({"tags": [], "properties": {}}));
    for frame in [
        json!({"type": "register", "peer_id": peer, "role": "worker", "is_admin": true,
            "api_key": "slp_x", "metadata": metadata}),
        json!({"type": "register", "peer_id": peer, "room_id": room.room_id, "token": room.token,
            "role": "client", "jwt": "a.b.c", "metadata": metadata}),
    ] {
        let mut bare = server.bare().await;
        bare.send(frame).await;
        let answer = bare.next().await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!("INVALID_MESSAGE"))
        );
        assert_eq!(answer["reason"], answer["message"]);
        assert!(answer["reason"].as_str().unwrap().contains("this server has no accounts"));
        let close = bare.closed().await.unwrap();
        assert!(close.reason.contains("no accounts"), "{close:?}");
    }
    let (status, answer) = server.http("GET /api/auth/rooms", "").await;
    assert_eq!(status, 404);
    assert!(answer["error"].as_str().unwrap().contains("no accounts"));
    // With a token, any other missing field is just an error.
    let mut bare = server.bare().await;
    for token in [json!(identity.id_token), json!(null)] {
        let frame = json!({"type": "register", "peer_id": peer, "id_token": token});
        assert_eq!(bare.refused(frame).await, "INVALID_MESSAGE");
    }
}

#[tokio::test]
async fn a_room_is_a_wall() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (_, other_room) = server.room().await;
    let (mut inside, inside_id) = server.member(&room).await;
    let (mut outside, outside_id) = server.member(&other_room).await;
    let (from, to) = (&outside_id.peer_id, &inside_id.peer_id);
    outside
        .send(json!({"type": "offer", "sender": from, "target": to, "sdp": "", "attempt": 3}))
        .await;
    let real = outside.next().await;
    assert_eq!((&real["code"], &real["attempt"]), (&json!("PEER_NOT_FOUND"), &json!(3)));
    outside.send(json!({"type": "offer", "sender": from, "target": "nobody", "sdp": ""})).await;
    let unreal = outside.next().await;
    // A peer in another room is indistinguishable from one that does not exist.
    let message = |frame: &Value| frame["message"].as_str().unwrap().to_owned();
    assert_eq!(message(&real).replace(to.as_str(), "nobody"), message(&unreal));
    for kind in ["answer", "candidate", "error"] {
        let frame = json!({"type": kind, "sender": from, "target": to});
        assert_eq!(outside.refused(frame).await, "PEER_NOT_FOUND");
    }
    let frame = json!({"type": "peer_message", "to_peer_id": to, "payload": {}});
    assert_eq!(outside.refused(frame).await, "PEER_NOT_FOUND");
    inside.send(json!({"type": "discover_peers", "from_peer_id": to})).await;
    assert_eq!(inside.next().await["count"], 0);
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_room_are_answered_alike_and_not_for_long() {
    let server = TestServer::start().await;
    let (identity, room) = server.room().await;
    let wrong = RoomCredentials { token: Token::new("0".repeat(32)).unwrap(), ..room.clone() };
    let unknown = RoomCredentials { room_id: RoomId::new("ffffffff").unwrap(), ..room.clone() };
    let mut bare = server.bare().await;
    bare.send(register(&identity, &wrong)).await;
    let answer = bare.next_text().await;
    assert!(answer.contains("ROOM_NOT_FOUND"));
    bare.send(register(&identity, &unknown)).await;
    assert_eq!(bare.next_text().await, answer);
    for _ in 2..8 {
        assert_eq!(bare.refused(register(&identity, &wrong)).await, "ROOM_NOT_FOUND");
    }
    assert_eq!(bare.close_code().await, Some(1008));
}

#[tokio::test]
async fn malformed_frames_are_answered_up_to_a_bound() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut bare, identity) = server.member(&room).await;
    let deep = format!("{{\"type\":\"offer\",\"x\":{}", "[".repeat(500_000));
    for (text, code) in [
        ("", "INVALID_JSON"),
        ("{", "INVALID_JSON"),
        (deep.as_str(), "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ("{}", "INVALID_MESSAGE"),
        (r#"{"type":1}"#, "INVALID_MESSAGE"),
        (r#"{"type":"sing"}"#, "UNKNOWN_MESSAGE_TYPE"),
        (r#"{"type":"offer"}"#, "INVALID_MESSAGE"),
        (r#"{"type":"update_metadata"}"#, "INVALID_MESSAGE"),
        (r#"{"type":"discover_peers","filters":7}"#, "INVALID_MESSAGE"),
        (r#"{"type":"register","peer_id":"\n"}"#, "INVALID_MESSAGE"),
    ] {
        bare.send_text(text).await;
        assert_eq!(bare.error().await, code, "{}", &text[..text.len().min(80)]);
    }
    bare.ws.send(Message::Binary(Bytes::from_static(b"\0"))).await.unwrap();
    assert_eq!(bare.error().await, "INVALID_MESSAGE");
    // A valid frame still works, and resets the count of bad ones.
    bare.send(json!({"type": "discover_peers", "from_peer_id": identity.peer_id})).await;
    assert_eq!(bare.next().await["type"], "peer_list");
    for _ in 0..32 {
        bare.send_text("nonsense").await;
        assert_eq!(bare.error().await, "INVALID_JSON");
    }
    assert_eq!(bare.close_code().await, Some(1008));
}

#[tokio::test]
async fn wrong_types_in_every_field_of_every_frame_are_refused() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (_target, target_id) = server.member(&room).await;
    let (mut bare, identity) = server.member(&room).await;
    let (me, you) = (&identity.peer_id, &target_id.peer_id);
    let good = [
        register(&identity, &room),
        json!({"type": "discover_peers", "from_peer_id": me, "filters":
            {"role": "worker", "tags": ["a"], "properties": {"x": 1}}}),
        json!({"type": "update_metadata", "peer_id": me, "metadata":
            {"tags": ["a"], "properties": {"x": 1}}}),
        json!({"type": "offer", "sender": me, "target": you}),
        json!({"type": "peer_message", "from_peer_id": me, "to_peer_id": you}),
    ];
    let wrong = [json!(7), json!([[]]), json!({"a": {}}), json!(true), json!("\u{0}")];
    let marker = json!({"type": "discover_peers", "filters": {"role": "nobody"}});
    let mut answers = 0;
    for (frame, value) in good.iter().flat_map(|f| wrong.iter().map(move |v| (f, v))) {
        for key in frame.as_object().unwrap().keys() {
            let mut frame = frame.clone();
            frame[key] = value.clone();
            bare.send(frame).await;
            // Every answer is JSON, and the socket still works after it.
            bare.send(marker.clone()).await;
            while bare.next().await["type"] != "peer_list" {
                answers += 1;
            }
            if answers % 7 == 6 {
                // Few refused registrations are allowed, so continue with a new socket.
                bare = server.bare().await;
                bare.send(register(&identity, &room)).await;
                assert_eq!(bare.next().await["type"], "registered_auth");
                answers += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_its_own_socket_only() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut loud, loud_id) = server.member(&room).await;
    let (mut other, other_id) = server.member(&room).await;
    // The longest frame passes; a frame that would exceed it after the sender is added does not.
    let mut frame = json!({"type": "answer", "target": other_id.peer_id, "sdp": ""});
    let free = MAX_FRAME_BYTES - frame.to_string().len();
    frame["sdp"] = json!("x".repeat(free));
    assert_eq!(loud.refused(frame.clone()).await, "INVALID_MESSAGE");
    frame["sender"] = json!(loud_id.peer_id);
    frame["sdp"] = json!("x".repeat(free - 100));
    loud.send(frame).await;
    assert_eq!(other.next().await["type"], "answer");
    loud.send_text(&"x".repeat(MAX_FRAME_BYTES + 1)).await;
    assert_eq!(loud.close_code().await, Some(1009));
    other.send(json!({"type": "discover_peers"})).await;
    assert_eq!(other.next().await["type"], "peer_list");
}

/// Sends a peer `payload` again and again until the server takes no more. Returns the refusal.
async fn flood(loud: Bare, target: &PeerIdentity, payload: &str) -> Value {
    let frame = json!({"type": "peer_message", "to_peer_id": target.peer_id, "payload": payload});
    let (mut write, mut read) = loud.ws.split();
    let shouting = async {
        loop {
            write.send(Message::text(frame.to_string())).await.unwrap();
        }
    };
    let refused = async {
        loop {
            if let Message::Text(text) = read.next().await.unwrap().unwrap() {
                return serde_json::from_str::<Value>(&text).unwrap();
            }
        }
    };
    soon("refusal", async {
        tokio::select! { refusal = refused => refusal, () = shouting => unreachable!() }
    })
    .await
}

#[tokio::test]
async fn a_flood_is_refused_and_its_target_still_hears_others() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (mut slow, slow_id) = server.member(&room).await;
    let (loud, _) = server.member(&room).await;
    let (mut quiet, _) = server.member(&room).await;
    let refusal = flood(loud, &slow_id, &"x".repeat(64 * 1024)).await;
    assert_eq!(refusal["code"], "DELIVERY_FAILED");
    for n in 0..3 {
        quiet
            .send(json!({"type": "peer_message", "to_peer_id": slow_id.peer_id, "payload": n}))
            .await;
    }
    // None of them was refused.
    quiet.send(json!({"type": "discover_peers"})).await;
    assert_eq!(quiet.next().await["count"], 1);
    let mut frames = Vec::new();
    soon("three frames", async {
        while frames.iter().filter(|it: &&Value| it.is_number()).count() < 3 {
            frames.push(slow.next().await["payload"].clone());
        }
    })
    .await;
    // Behind what the system's buffers held, they take turns with the flood.
    let first = frames.iter().position(Value::is_number).unwrap();
    let turns: Vec<Option<u64>> = frames[first..].iter().map(Value::as_u64).collect();
    assert_eq!(turns, [Some(0), None, Some(1), None, Some(2)]);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_loses_its_socket() {
    let server = TestServer::start().await;
    let (_, room) = server.room().await;
    let (deaf, deaf_id) = server.member(&room).await;
    let (loud, _) = server.member(&room).await;
    let refusal = flood(loud, &deaf_id, &"x".repeat(256 * 1024)).await;
    assert_eq!(refusal["code"], "DELIVERY_FAILED");
    // It is gone from the room although its socket was never read.
    server.metric_once("slow_readers", |count| count == 1).await;
    let (mut looker, _) = server.member(&room).await;
    looker.send(json!({"type": "discover_peers"})).await;
    assert_eq!(looker.next().await["count"], 0);
    drop(deaf);
}

/// The owner of a worker's connection may be slow, for example on a machine that trains.
#[tokio::test]
async fn members_that_flood_a_slow_worker_keep_nobody_elses_frames_out() {
    const FLOOD: usize = 900;
    let server = TestServer::start().await;
    let (worker_id, room) = server.room().await;
    let (worker, mut at_worker) = server.client(&worker_id, &room, Role::Worker, json!({})).await;
    for _ in 0..3 {
        let (mut mallory, own) = server.member(&room).await;
        let song = json!({
            "type": "peer_message", "from_peer_id": own.peer_id, "to_peer_id": worker_id.peer_id,
            "payload": {"app_message_type": "song"},
        });
        for _ in 0..FLOOD {
            mallory.send(song.clone()).await;
        }
        mallory.send(json!({"type": "get_ice_servers", "from_peer_id": own.peer_id})).await;
        while mallory.next().await["type"] != "ice_servers" {}
    }
    let (mut alice, alice_id) = server.member(&room).await;
    alice.send(json!({"type": "candidate", "target": worker_id.peer_id})).await;
    // The server has passed on all of it before it answers.
    alice.send(json!({"type": "get_ice_servers", "from_peer_id": alice_id.peer_id})).await;
    while alice.next().await["type"] != "ice_servers" {}
    for earlier in 0.. {
        let message = message(&mut at_worker).await;
        if message.sender() == Some(&alice_id.peer_id) {
            println!("{earlier} frames of the flood came first");
            assert!(earlier < 50, "{earlier} frames of the flood came first");
            return;
        }
        // This owner is slow: it asks the server something after each message.
        worker.discover(Filters::default()).await.unwrap();
    }
}
