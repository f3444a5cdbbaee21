//! The logs, for people and for programs.

use crate::support::*;
use serde_json::Value;

#[test]
fn the_workers_log_has_each_decision_and_no_secret() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker");
    let worker = setup.arguments(&["--log-format", "json", "--log-level", "debug"]).start(&server);
    let package = fixture("train_single.zip");
    let client = site.client(&server).train(&package).session(worker.credentials());
    client.run().assert_code(0);
    worker.wait_idle(&site, &server);
    let log = worker.log();
    for line in log.lines() {
        let entry: Result<Value, _> = serde_json::from_str(line);
        assert!(entry.is_ok_and(|entry| entry["level"].is_string()), "not a JSON entry: {line}");
    }
    for status in ["reserved", "busy", "available"] {
        assert!(log.contains(status), "no change to {status} in the log:\n{log}");
    }
    assert!(log.to_lowercase().contains("accepted"), "no accepted offer in the log:\n{log}");
    for secret in [worker.credentials().server_token(), "ice-pwd", "a=candidate", "fingerprint:"] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

#[test]
fn the_users_screen_stays_calm() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.auto(worker.credentials()).run();
    ended.assert_code(0);
    for noise in ["DEBUG", "TRACE", "webrtc", "ice-pwd", worker.credentials().server_token()] {
        assert!(!ended.text().contains(noise), "{noise:?} on the screen:\n{}", ended.text());
    }
}
