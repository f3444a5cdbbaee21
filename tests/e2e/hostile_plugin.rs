//! Jobs under failing policies: the job continues as `on_failure` says, and the user learns why.

use crate::support::*;
use std::{fs, path::Path, process::Command};

/// A configuration section with the hostile guest and its instructions.
fn policy(point: &str, deed: &str, more: &str) -> String {
    let guest = test_guests::dir().join("hostile-guest.wasm");
    format!("[policy.{point}]\nplugin = {guest:?}\nsettings = {{ do = {deed:?} }}\n{more}\n")
}

/// The lines of `text` about the hostile guest's failure.
fn complaints(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("plugin hostile-guest failed")).collect()
}

fn snapshot(site: &Site, server: &TestServer, worker: &TestWorker) -> String {
    let mut command: Command = Site::binary(site.path(), Path::new("/nonexistent"));
    command.args(["room", "snapshot", "--signaling", &format!("ws://{}", server.address())]);
    command.args(["--session-string", &worker.credentials().session_string]);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn the_default_chooses_when_the_selection_traps_or_loops() {
    let site = Site::new();
    let server = site.server();
    let (small, large) = TestWorker::small_and_large(&site, &server, 0.02);
    for (deed, words) in [("panic", "it panicked"), ("loop", "it did not answer within 200 ms")] {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = client.auto(small.credentials());
        let config = client.home().join("sleap-rtc.toml");
        fs::write(config, policy("selection", deed, "")).unwrap();
        let ended = client.run();
        ended.assert_code(0);
        let text = ended.text();
        let [line] = complaints(&text)[..] else { panic!("not one line:\n{text}") };
        assert!(
            line.contains(words) && line.contains("; the built-in plugin answered instead"),
            "{line}"
        );
        let mut observer = Observer::join(&server, small.credentials());
        observer.wait_status(large.peer_id(), "available", SOON);
    }
    assert_eq!((large.trainer_starts().len(), small.trainer_starts().len()), (2, 0));
}

#[test]
fn a_compatibility_that_traps_lets_no_job_in_and_the_room_sees_how_often() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker");
    let mut worker = worker.config(&policy("compatibility", "panic", "")).start(&server);
    let client = || site.client(&server).train(&fixture("train_single.zip"));
    let reason = ["refused: the compatibility plugin hostile-guest failed"];
    client().auto(worker.credentials()).run_within(SOON).assert_code(5).assert_says(&reason);
    client().session(worker.credentials()).run_within(SOON).assert_code(5).assert_says(&reason);
    assert_eq!(worker.trainer_starts().len(), 0);
    let seen = wait_for("the failures", SOON, || {
        let room = snapshot(&site, &server, &worker);
        let room: serde_json::Value = serde_json::from_str(&room).unwrap();
        let seen = &room[0]["metadata"]["properties"]["policy_failures"]["compatibility"];
        seen.as_u64().filter(|failures| *failures >= 2)
    });
    worker.stop();
    let log = worker.log();
    let said = format!("the compatibility plugin failed {seen} times since the worker was started");
    assert!(log.contains(&said), "no {said:?} in:\n{log}");
    let [first, ..] = complaints(&log)[..] else { panic!("nothing in:\n{log}") };
    assert!(first.contains("it panicked") && first.contains("no other plugin answers"), "{first}");
}

#[test]
fn a_job_continues_if_the_built_in_plugins_may_answer() {
    let site = Site::new();
    let server = site.server();
    let compatibility = policy("compatibility", "grow", "on_failure = \"default\"");
    let config = compatibility + &policy("estimate", "loop", "");
    let worker = TestWorker::setup(&site, "worker").config(&config).start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.auto(worker.credentials()).run().assert_code(0);
    assert_eq!(worker.trainer_starts().len(), 1);
    let log = worker.log();
    for words in ["it needed more than 64 MiB of memory", "it did not answer within 200 ms"] {
        assert!(
            complaints(&log).iter().any(|line| line.contains(words)),
            "no {words:?} in:\n{log}"
        );
    }
}
