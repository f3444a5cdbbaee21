//! Shows who would get a job and why, without starting one.

use crate::support::*;
use std::{fs, path::Path};

/// The line of `worker` in a table.
#[track_caller]
fn line<'a>(table: &'a str, worker: &TestWorker) -> &'a str {
    let line = table.lines().find(|line| line.contains(worker.peer_id()));
    line.unwrap_or_else(|| panic!("no {} in:\n{table}", worker.peer_id()))
}

#[test]
fn explain_ranks_the_room_and_starts_nothing() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let output = client.output();
    // No worker has to be chosen, so --auto-select is not needed either.
    let client = client.room(small.credentials());
    let ended = client.arguments(&["--explain", "--min-gpu-memory", "16000"]).run_within(SOON);
    ended.assert_code(0);
    assert!(line(&ended.stdout, &large).starts_with("1 "), "{}", ended.stdout);
    let out = line(&ended.stdout, &small);
    assert!(out.starts_with("out ") && out.contains("needs 16,000 MB, has 8,000 MB"), "{out}");
    assert!(!output.exists());
    let jobs = [&small, &large].map(|worker| worker.trainer_starts().len());
    assert_eq!(jobs, [0, 0]);
}

#[test]
fn why_says_who_would_get_a_job_and_a_snapshot_keeps_the_room() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    let why = |more: &[&str]| {
        let client = site.client(&server).arguments(&["why"]).room(small.credentials());
        client.arguments(more).run_within(SOON)
    };
    let ended = why(&[]);
    ended.assert_code(0);
    assert!(line(&ended.stdout, &large).starts_with("1 "), "{}", ended.stdout);
    assert!(line(&ended.stdout, &small).starts_with("2 "), "{}", ended.stdout);
    let package = fixture("train_single.zip");
    why(&["--job", package.to_str().unwrap()]).assert_code(0);
    why(&["--min-gpu-memory", "99000"]).assert_code(4).assert_says(&["needs 99,000 MB"]);

    let mut command = Site::binary(site.path(), Path::new("/nonexistent"));
    let server = server.address();
    command.args(["room", "snapshot", "--signaling", &format!("ws://{server}")]);
    command.args(["--session-string", &large.credentials().session_string]);
    let snapshot = command.output().unwrap();
    assert!(snapshot.status.success(), "{snapshot:?}");
    fs::write(site.path().join("room.json"), &snapshot.stdout).unwrap();
    fs::write(site.path().join("job.json"), r#"{ "job_type": "training" }"#).unwrap();
    let mut command = Site::binary(site.path(), Path::new("/nonexistent"));
    command.args(["plugin", "test", "--room", "room.json", "--job", "job.json"]);
    command.args(["--timeout-ms", "20000", "--expect", small.peer_id()]);
    let guest = test_guests::dir().join("hostile-guest.wasm");
    // The guest chooses the first worker in the list.
    let tested = command.arg(guest).output().unwrap();
    let first = tested.status.code();
    assert!(matches!(first, Some(0 | 1)), "{tested:?}");
    let table = String::from_utf8(tested.stdout).unwrap();
    assert!(line(&table, &small).contains("Test GPU 8000"), "{table}");
    assert!(line(&table, &large).contains("Test GPU 24000"), "{table}");
}

#[test]
fn a_room_without_workers_is_said_to_be_empty() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let mut worker = site.worker(&server);
    let credentials = worker.credentials().clone();
    worker.stop();
    let ended = site.client(&server).arguments(&["why"]).room(&credentials).run_within(SOON);
    ended.assert_code(4).assert_says(&["no workers in this room"]);
}

#[test]
fn why_needs_a_room() {
    let site = Site::new();
    let client = TestClient::new(&site, "127.0.0.1:9".parse().unwrap());
    let ended = client.arguments(&["why"]).run_within(SOON);
    ended.assert_code(2).assert_says(&["--room-id", "--session-string"]);
}
