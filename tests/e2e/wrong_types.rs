//! Frames with a wrong value in each place, from a peer in the room to a worker and to a client.
//! Both continue, and each request is answered at once.

use crate::support::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `frame` with each of its values, at any depth, removed or replaced by each kind of wrong value.
pub fn wrong_in_each_place(frame: &Value) -> Vec<Value> {
    let wrong =
        [json!(null), json!(-7.5), json!(true), json!("\u{0}"), json!([[]]), json!({"a": {}})];
    let mut all = Vec::new();
    for pointer in pointers(frame) {
        for wrong in &wrong {
            let mut bad = frame.clone();
            *bad.pointer_mut(&pointer).unwrap() = wrong.clone();
            all.push(bad);
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut bad = frame.clone();
        if let Some(object) = bad.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
            all.push(bad);
        }
    }
    all
}

/// The places of a frame's values, as JSON pointers.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(key, v)| (key.clone(), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, child): (String, &Value)| {
        let own = format!("/{key}");
        let deeper = pointers(child).into_iter().map(|rest| format!("{own}{rest}"));
        deeper.chain([own.clone()]).collect::<Vec<_>>()
    };
    children.into_iter().flat_map(below).collect()
}

fn peer_message(from: &str, to: &str, payload: Value) -> Value {
    json!({"type": "peer_message", "from_peer_id": from, "to_peer_id": to, "payload": payload})
}

fn job_request() -> Value {
    json!({
        "app_message_type": "job_request", "job_id": "job_x", "job_type": "training",
        "dataset_info": {"format": "slp", "path": "a", "estimated_size_mb": 1, "frame_count": 9},
        "config": {"model_type": "centroid", "epochs": 3},
        "requirements": {"min_gpu_memory_mb": 1},
        "description": {
            "job_type": "training", "model_types": ["centroid"], "epochs": 3, "batch_size": 4,
            "frame_count": 9, "image": {"width": 8, "height": 8}, "package_bytes": 1,
            "requirements": {"min_gpu_memory_mb": 1}, "user": "ada",
        },
    })
}

/// One valid example of each frame that may reach a worker or a client from within its room.
fn frames(from: &str, to: &str) -> Vec<Value> {
    let described = |kind: &str| {
        json!({"type": kind, "sender": from, "target": to, "sdp": "v=0", "attempt": 999,
            "protocols": ["sleap-rtc/1"], "purpose": {"kind": "new-job"}})
    };
    let id = "job_y";
    let payloads = [
        json!({"app_message_type": "job_response", "job_id": id, "accepted": true,
            "reason": "busy", "message": "m", "reasons": [{"code": "c", "message": "m"}],
            "current_status": "busy", "estimated_start_time_sec": 0,
            "estimated_duration_minutes": 1, "worker_info": {"gpu_utilization": 0.5}}),
        json!({"app_message_type": "job_assignment", "job_id": id, "initiate_connection": true}),
        json!({"app_message_type": "job_cancel", "job_id": id, "reason": "r"}),
        json!({"app_message_type": "job_cancelled", "job_id": id, "status": "cancelled",
            "cleanup_complete": true}),
        json!({"app_message_type": "job_status", "job_id": id, "status": "running",
            "progress": 0.5, "message": "m"}),
        json!({"app_message_type": "job_complete", "job_id": id, "status": "completed"}),
        json!({"app_message_type": "job_failed", "job_id": id, "status": "failed",
            "error": {"code": "c", "message": "m", "recoverable": false}}),
    ];
    let mut all = vec![
        described("offer"),
        described("answer"),
        json!({"type": "candidate", "sender": from, "target": to,
            "candidate": {"candidate": "c", "sdpMid": "0"}}),
    ];
    all.extend(payloads.map(|payload| peer_message(from, to, payload)));
    all
}

/// The same with `more`, wrong in each place that the server does not change.
fn wrong_frames(from: &str, to: &str, more: Option<Value>) -> Vec<Value> {
    const ROUTE: [&str; 5] = ["type", "sender", "target", "from_peer_id", "to_peer_id"];
    let mut all = Vec::new();
    for frame in frames(from, to).into_iter().chain(more) {
        let arrives = |bad: &Value| ROUTE.iter().all(|key| bad.get(key) == frame.get(key));
        all.extend(wrong_in_each_place(&frame).into_iter().filter(arrives));
    }
    all
}

/// Asserts that each request is accepted or refused, however wrong it is.
fn ask_with_each_wrong_request(asker: &mut Observer, worker: &str) {
    let right = job_request();
    let requests = wrong_in_each_place(&right);
    let requests = requests.iter().filter(|r| r["app_message_type"] == right["app_message_type"]);
    let (mut refused, mut accepted, mut slowest) = (0, 0, Duration::ZERO);
    for request in requests {
        let own = asker.peer_id().to_owned();
        let start = Instant::now();
        asker.send(&peer_message(&own, worker, request.clone()));
        let answer = asker.receive("peer_message")["payload"].clone();
        slowest = slowest.max(start.elapsed());
        assert_eq!(answer["app_message_type"], "job_response", "{request}");
        let named = request["job_id"].as_str().unwrap_or_default();
        assert_eq!(answer["job_id"], named, "{request}");
        if answer["accepted"] == true {
            accepted += 1;
        } else {
            refused += 1;
            assert_eq!(answer["reason"], "incompatible", "{request}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains("malformed"), "{answer}");
        }
    }
    println!(
        "job requests with a wrong value: {refused} refused, {accepted} accepted (what was wrong \
         may be left out); the slowest answer took {slowest:?}"
    );
    assert!(refused > 20 && slowest < Duration::from_secs(2), "{refused} refused, {slowest:?}");
}

#[test]
fn a_worker_answers_malformed_frames_and_continues() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut stranger = Observer::join(&server, worker.credentials());
    ask_with_each_wrong_request(&mut stranger, worker.peer_id());
    let own = stranger.peer_id().to_owned();
    let frames = wrong_frames(&own, worker.peer_id(), None);
    frames.iter().for_each(|frame| stranger.send(frame));
    println!("{} other frames with a wrong value", frames.len());
    // An offer without a description is a request, too.
    stranger
        .send(&json!({"type": "offer", "sender": own, "target": worker.peer_id(), "attempt": 4}));
    let refusal = loop {
        let error = stranger.receive("error");
        if error["attempt"] == 4 {
            break error;
        }
    };
    assert_eq!(
        (&refusal["reason"], &refusal["sender"]),
        (&json!("refused"), &json!(worker.peer_id()))
    );
    assert!(refusal["message"].as_str().unwrap().contains("malformed"), "{refusal}");
    stranger.send(&peer_message(
        &own,
        worker.peer_id(),
        json!({"app_message_type": "job_cancel", "job_id": "job_x"}),
    ));
    stranger.wait_status(worker.peer_id(), "available", SOON);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run().assert_code(0);
}

/// A room without its worker, and a stand-in for that.
fn room_of_a_stand_in(site: &Site, server: &TestServer) -> (Credentials, Observer) {
    let room = site.worker(server).credentials().clone();
    let worker = Observer::join_as_worker(server, &room);
    (room, worker)
}

/// Asserts that the client ends with the refusal that it waited for.
fn assert_refused(mut client: Process) {
    let code = client.wait(SOON);
    let text = client.transcript();
    assert!(code == 5 && text.contains("busy with nonsense"), "exit code {code}: {text}");
}

#[test]
fn a_client_ignores_malformed_frames_while_it_asks() {
    let site = Site::new();
    let server = site.server();
    let (room, mut worker) = room_of_a_stand_in(&site, &server);
    let own = worker.peer_id().to_owned();
    let client = site.client(&server).train(&fixture("train_single.zip")).auto(&room).start();
    let asked = worker.receive("peer_message");
    let (peer, job) = (asked["from_peer_id"].as_str().unwrap(), &asked["payload"]["job_id"]);
    let error = json!({"type": "error", "sender": own, "target": peer, "code": "c", "reason": "r",
        "message": "m", "current_status": "busy", "attempt": 1});
    let frames = wrong_frames(&own, peer, Some(error));
    frames.iter().for_each(|frame| worker.send(frame));
    println!("{} frames with a wrong value", frames.len());
    let refusal = json!({"app_message_type": "job_response", "job_id": job, "accepted": false,
        "reason": "busy", "message": "the stand-in is busy with nonsense"});
    worker.send(&peer_message(&own, peer, refusal));
    assert_refused(client);
}

#[test]
fn a_client_ignores_malformed_frames_while_its_offer_waits() {
    let site = Site::new();
    let server = site.server();
    let (room, mut worker) = room_of_a_stand_in(&site, &server);
    let own = worker.peer_id().to_owned();
    let client = site.client(&server).train(&fixture("train_single.zip")).room(&room);
    let client = client.arguments(&["--worker-id", &own]).start();
    let offer = worker.receive("offer");
    let peer = offer["sender"].as_str().unwrap();
    let mut frames = wrong_frames(&own, peer, None);
    // A Python worker's answer has no number, and counts as the answer to the latest offer.
    frames.retain(|frame| frame["type"] != "answer" || !frame["attempt"].is_null());
    frames.iter().for_each(|frame| worker.send(frame));
    println!("{} frames with a wrong value", frames.len());
    worker.send(&json!({"type": "error", "target": peer, "reason": "worker_busy",
        "message": "the stand-in is busy with nonsense", "attempt": offer["attempt"]}));
    assert_refused(client);
}
