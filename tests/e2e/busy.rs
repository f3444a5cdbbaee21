//! A worker takes one job at a time, and reports that.

use crate::support::*;
use std::time::Instant;

/// A worker whose training takes several seconds.
fn slow_worker(site: &Site, server: &TestServer) -> TestWorker {
    TestWorker::setup(site, "worker").env("FAKE_SLEAP_BATCH_S", "2").start(server)
}

#[test]
fn a_session_string_to_a_busy_worker_is_refused_with_advice() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let package = fixture("train_single.zip");
    let first = site.client(&server).train(&package).session(worker.credentials());
    let mut first = first.start();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let second = site.client(&server).train(&package).session(worker.credentials());
    let ended = second.run_within(SOON);
    ended.assert_code(5).assert_says(&["busy", "--room-id", "--token"]);
    assert!(first.try_wait().is_none(), "the first job was not disturbed");
    assert!(worker.log().to_lowercase().contains("refused"), "{}", worker.log());
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    assert_eq!(worker.trainer_starts().len(), 1);
}

#[test]
fn auto_select_in_a_room_of_busy_workers_is_refused() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let package = fixture("train_single.zip");
    let first = site.client(&server).train(&package).auto(worker.credentials());
    let mut first = first.start();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let second = site.client(&server).train(&package).auto(worker.credentials());
    let ended = second.run_within(SOON);
    ended.assert_code(5).assert_says(&["busy; a further job would start in", "now", "train"]);
    ended.assert_says(&["for ", " left", "--wait"]);
    first.kill();
}

#[test]
fn the_status_goes_from_available_over_reserved_and_busy_to_available() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "0.2");
    let worker = setup.start(&server);
    for by_session in [true, false] {
        let trace = StatusTrace::of(&server, worker.credentials());
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = match by_session {
            true => client.session(worker.credentials()),
            false => client.auto(worker.credentials()),
        };
        client.run().assert_code(0);
        worker.wait_idle(&site, &server);
        assert_eq!(trace.finish(), ["available", "reserved", "busy", "available"]);
    }
}

#[test]
fn of_twelve_clients_at_once_one_runs_and_eleven_are_refused() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let package = fixture("train_single.zip");
    let start = Instant::now();
    let mut clients: Vec<_> = (0..12)
        .map(|_| site.client(&server).train(&package).session(worker.credentials()).start())
        .collect();
    let (mut running, mut refused) = (0, 0);
    let mut last_refusal = start.elapsed();
    for client in &mut clients {
        match client.wait(A_WHILE) {
            0 => running += 1,
            5 => {
                refused += 1;
                last_refusal = last_refusal.max(start.elapsed());
                let text = client.transcript();
                assert!(text.contains("busy") && text.contains("--room-id"), "{text}");
            }
            code => panic!("exit code {code}: {}", client.transcript()),
        }
    }
    println!(
        "12 clients at once: {running} ran, {refused} refused; all over after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert_eq!((running, refused), (1, 11));
    assert_eq!(worker.trainer_starts().len(), 1);
    worker.wait_idle(&site, &server);
    let next = site.client(&server).train(&package).session(worker.credentials());
    next.run().assert_code(0);
}

#[test]
fn a_bare_offer_to_a_busy_worker_is_answered_in_both_ways() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let first = site.client(&server).train(&fixture("train_single.zip"));
    let mut first = first.session(worker.credentials()).start();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "busy", SOON);
    let offer = serde_json::json!({
        "type": "offer", "sender": observer.peer_id(), "target": worker.peer_id(), "sdp": "v=0",
    });
    observer.send(&offer);
    let error = observer.receive("error");
    assert_eq!(error["reason"], "worker_busy", "{error}");
    assert_eq!(error["current_status"], "busy", "{error}");
    assert!(error["message"].as_str().unwrap().contains("--room-id"), "{error}");
    first.kill();
}

#[test]
fn nonsense_from_the_room_does_not_disturb_a_worker() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let (own, target) = (observer.peer_id().to_owned(), worker.peer_id());
    for frame in [
        serde_json::json!({"type": "offer", "sender": own, "target": target}),
        serde_json::json!({"type": "offer", "sender": own, "target": target, "sdp": "nonsense"}),
        serde_json::json!({"type": "answer", "sender": own, "target": target, "sdp": "v=0"}),
        serde_json::json!({"type": "candidate", "sender": own, "target": target, "candidate": 7}),
        serde_json::json!({"type": "error", "sender": own, "target": target, "reason": "boo"}),
        serde_json::json!({"type": "peer_message", "from_peer_id": own, "to_peer_id": target,
            "payload": {"app_message_type": "job_request", "job_id": "../../x"}}),
        serde_json::json!({"type": "peer_message", "from_peer_id": own, "to_peer_id": target,
            "payload": {"app_message_type": "sing"}}),
    ] {
        observer.send(&frame);
    }
    observer.wait_status(target, "available", SOON);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run().assert_code(0);
}

/// The answer that `peer` gets when it cancels `job` on `worker`.
fn cancelled(peer: &mut Observer, worker: &TestWorker, job: &str) -> String {
    peer.send(&serde_json::json!({
        "type": "peer_message", "from_peer_id": peer.peer_id(), "to_peer_id": worker.peer_id(),
        "payload": {"app_message_type": "job_cancel", "job_id": job, "reason": "test"},
    }));
    let answer = peer.receive("peer_message");
    assert_eq!(answer["payload"]["app_message_type"], "job_cancelled", "{answer}");
    answer["payload"]["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_reservation_is_cancelled_by_its_own_peer_only() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut owner = Observer::join(&server, worker.credentials());
    let mut stranger = Observer::join(&server, worker.credentials());
    owner.send(&serde_json::json!({
        "type": "peer_message", "from_peer_id": owner.peer_id(), "to_peer_id": worker.peer_id(),
        "payload": {"app_message_type": "job_request", "job_id": "job_x", "job_type": "training"},
    }));
    assert_eq!(owner.receive("peer_message")["payload"]["accepted"], true);
    assert_eq!(cancelled(&mut stranger, &worker, "job_x"), "not_found");
    assert_eq!(stranger.status(worker.peer_id()).as_deref(), Some("reserved"));
    assert_eq!(cancelled(&mut owner, &worker, "job_x"), "cancelled");
    stranger.wait_status(worker.peer_id(), "available", SOON);
}

#[test]
fn a_running_job_is_not_cancelled_by_a_stranger() {
    let site = Site::new();
    let server = site.server();
    let worker = slow_worker(&site, &server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut client = client.auto(worker.credentials()).start();
    let mut stranger = Observer::join(&server, worker.credentials());
    stranger.wait_status(worker.peer_id(), "busy", SOON);
    let jobs = std::fs::read_dir(worker.state_dir().join("jobs")).unwrap();
    for job in jobs.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert_eq!(cancelled(&mut stranger, &worker, &job), "not_found");
    }
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
}
