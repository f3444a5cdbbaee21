//! A worker's room: how it is created, shown, shared, kept and left.

use crate::support::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_worker_prints_session_string_and_room_credentials_each_labelled() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let text = worker.stdout();
    for words in [
        "Session string (for one client: goes straight to this worker)",
        "Room credentials (for clients that choose a worker)",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let Credentials { session_string, token, .. } = worker.credentials();
    assert_eq!(text.matches(session_string).count(), 1, "printed once");
    assert!(!worker.log().contains(session_string), "the log holds the session string");
    assert!(!worker.log().contains(token.as_str()), "the log holds the token");
}

#[test]
fn a_second_worker_shows_the_same_room_and_another_session_string() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let second = TestWorker::setup(&site, "second").join(first.credentials()).start(&server);
    let (a, b) = (first.credentials(), second.credentials());
    assert_eq!((&a.room_id, &a.token), (&b.room_id, &b.token));
    assert_ne!(a.session_string, b.session_string);
    assert_ne!(a.peer_id, b.peer_id);
    assert_eq!(Observer::join(&server, a).workers().len(), 2);
}

#[test]
fn a_worker_with_a_wrong_token_ends_with_code_3() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let wrong = Credentials { token: "0".repeat(32), ..first.credentials().clone() };
    let room = ["--room-id", &wrong.room_id, "--token", &wrong.token];
    let ended = site.client(&server).arguments(&["worker"]).arguments(&room).run_within(SOON);
    ended.assert_code(3).assert_says(&["token"]);
}

#[test]
fn a_mistyped_token_does_not_cost_a_worker_its_own_room() {
    let site = Site::new();
    let server = site.server();
    let other = site.worker(&server);
    let mut worker = TestWorker::setup(&site, "worker").start(&server);
    let before = worker.credentials().clone();
    assert_eq!(worker.stop(), 0);
    let room = ["--room-id", &other.credentials().room_id, "--token", "mistyped"];
    let wrong = site.client(&server).arguments(&["worker", "--state-dir"]);
    wrong.argument(worker.state_dir()).arguments(&room).run_within(SOON).assert_code(3);
    assert_eq!(worker.restart(&[]).credentials(), &before);
}

#[test]
fn a_restart_comes_back_as_the_same_peer_in_the_same_room() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let before = worker.credentials().clone();
    let worker = worker.restart(&[]);
    assert_eq!(worker.credentials(), &before);
    let old_session = site.client(&server).train(&fixture("train_single.zip")).session(&before);
    old_session.run().assert_code(0);
}

#[test]
fn a_restart_after_the_server_was_restarted_keeps_peer_and_room() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let worker = site.worker(&server);
    let before = worker.credentials().clone();
    server.restart();
    let worker = worker.restart(&[]);
    assert_eq!(worker.credentials(), &before);
}

#[test]
fn a_worker_registers_again_when_the_server_comes_back() {
    let site = Site::new();
    let mut server = TestServer::persistent(&site);
    let worker = site.worker(&server);
    server.restart();
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "available", SOON);
    site.client(&server)
        .train(&fixture("train_single.zip"))
        .session(worker.credentials())
        .run()
        .assert_code(0);
}

#[test]
fn a_room_that_the_server_has_lost_is_replaced_for_the_same_peer() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let before = worker.credentials().clone();
    let saved = std::fs::read(worker.state_dir().join("identity.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&saved).unwrap();
    let body = serde_json::json!({ "room_id": before.room_id }).to_string();
    let bearer = saved["id_token"].as_str();
    let (status, _) = post(server.address(), "/delete-peers-and-room", bearer, &body);
    assert_eq!(status, 200);
    let worker = worker.restart(&[]);
    assert_eq!(worker.credentials().peer_id, before.peer_id);
    assert_ne!(worker.credentials().room_id, before.room_id);
}

#[test]
fn new_room_discards_identity_and_room() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let before = worker.credentials().clone();
    let worker = worker.restart(&["--new-room"]);
    assert_ne!(worker.credentials().room_id, before.room_id);
    assert_ne!(worker.credentials().peer_id, before.peer_id);
}

#[test]
fn two_workers_do_not_share_one_state_folder() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let second = site.client(&server);
    let config = first.home().join("sleap-rtc.toml");
    std::fs::copy(config, second.home().join("sleap-rtc.toml")).unwrap();
    let ended = second.arguments(&["worker"]).run_within(SOON);
    ended.assert_code(2).assert_says(&["another worker", "--state-dir"]);
}

#[test]
fn the_credentials_file_is_for_its_owner_alone() {
    let site = Site::new();
    let server = site.server();
    let path = site.folder("credentials").join("file");
    let option = ["--credentials-file", path.to_str().unwrap()];
    let worker = TestWorker::setup(&site, "worker").arguments(&option).start(&server);
    let text = wait_for("the credentials file", SOON, || {
        std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty())
    });
    assert!(text.contains(&worker.credentials().session_string), "{text}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_worker_registers_at_start_and_is_gone_after_its_exit() {
    let site = Site::new();
    let server = site.server();
    let mut worker = site.worker(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let workers = observer.workers();
    assert_eq!(workers.len(), 1);
    let metadata = &workers[0]["metadata"];
    assert_eq!(workers[0]["role"], "worker");
    for tag in ["sleap-rtc", "training-worker", "inference-worker"] {
        assert!(metadata["tags"].as_array().unwrap().iter().any(|t| t == tag), "{metadata}");
    }
    let properties = &metadata["properties"];
    assert_eq!(properties["gpu_memory_mb"], 16_000);
    assert_eq!(properties["gpu_model"], "Test GPU 16000");
    assert_eq!(properties["status"], "available");
    assert!(properties["hostname"].is_string(), "{properties}");
    assert_eq!(worker.stop(), 0, "{}", worker.log());
    wait_for("the worker to leave the room", SOON, || observer.workers().is_empty().then_some(()));
    site.assert_only_processes(&[server.pid()]);
}

#[test]
fn a_worker_without_gpu_registers_as_cpu() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "cpu").gpu_mib(0).start(&server);
    let workers = Observer::join(&server, worker.credentials()).workers();
    assert_eq!(workers[0]["metadata"]["properties"]["gpu_memory_mb"], 0);
}

#[test]
fn the_operators_settings_of_a_worker_are_seen_in_the_room() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "adas");
    let worker = worker.config("properties = { owner = \"ada\", floor = 3 }\n").start(&server);
    let mut room = Observer::join(&server, worker.credentials());
    let shown = room.wait_properties(worker.peer_id(), "its use", |properties| {
        properties["used_s_by_user"].is_object()
    });
    assert_eq!((&shown["owner"], &shown["floor"]), (&"ada".into(), &3.into()));
    assert_eq!(shown["used_s_by_user"], serde_json::json!({}));
}

#[test]
fn the_trainers_version_becomes_known_after_registration() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    wait_for("the version of sleap-nn", SOON, || {
        let version = &observer.workers()[0]["metadata"]["properties"]["sleap_version"];
        (version == "0.3.5").then_some(())
    });
}

#[test]
fn signaling_and_worker_end_cleanly_when_asked() {
    let site = Site::new();
    let mut server = site.server();
    let mut worker = site.worker(&server);
    assert_eq!(worker.stop(), 0);
    assert_eq!(server.stop(), 0);
    site.assert_no_process_left();
}

#[test]
fn a_worker_that_is_killed_leaves_the_room() {
    let site = Site::new();
    let server = site.server();
    let mut worker = site.worker(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    worker.kill();
    wait_for("the worker to leave the room", SOON, || observer.workers().is_empty().then_some(()));
}

#[test]
fn the_servers_log_holds_no_token() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
    assert!(!server.transcript().contains(worker.credentials().server_token()));
    assert!(!server.transcript().contains("v=0"), "a session description in the log");
}
