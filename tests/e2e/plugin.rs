//! The tools for authors of policy plugins.

use crate::support::plugins::ended as says;
use crate::support::*;
use serde_json::json;
use std::{fs, path::Path, process::Output};

/// Generous, because the binary under test is not optimized.
const LIMIT: &str = "--timeout-ms=20000";

/// Runs `sleap-rtc plugin`. `GUESTS` stands for the folder of the test guests.
fn plugin(home: &Path, words: &[&str]) -> Output {
    let guests = test_guests::dir().to_str().unwrap();
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.arg("plugin").args(words.iter().map(|word| word.replace("GUESTS", guests)));
    command.output().unwrap()
}

#[test]
fn a_plugin_that_handles_every_case_is_valid() {
    let site = Site::new();
    let file = "GUESTS/custom-policy.wasm";
    let output = plugin(site.path(), &["validate", file, "--setting", "prefer=gpu0.lab", LIMIT]);
    says(
        &output,
        0,
        &["selection (world selection-plugin)", "1,000 workers", "custom-policy is valid"],
    );
}

#[test]
fn a_failing_plugin_is_reported_with_place_and_reason() {
    let site = Site::new();
    let file = "GUESTS/hostile-guest.wasm";
    // It always names worker 0, even if there is none.
    let output = plugin(site.path(), &["validate", file, "--setting", "do=always-first", LIMIT]);
    says(&output, 2, &["no workers", "it names worker 0 of 0", "hostile-guest is not valid: 1 of"]);
    let output = plugin(site.path(), &["validate", file, "--setting", "do=no-reason", LIMIT]);
    says(&output, 2, &["compatibility", "it refuses without a reason"]);
    let output = plugin(site.path(), &["validate", "GUESTS/custom-policy.wasm", LIMIT]);
    says(&output, 2, &["it says: settings: `prefer` must be a host name", "--setting KEY=VALUE"]);
}

#[test]
fn a_file_that_is_not_a_plugin_is_refused() {
    let site = Site::new();
    let text = site.path().join("text.wasm");
    fs::write(&text, "def select(): pass").unwrap();
    for command in ["validate", "inspect"] {
        let output = plugin(site.path(), &[command, text.to_str().unwrap()]);
        says(&output, 2, &["text.wasm cannot be used: it is not a WebAssembly component"]);
        let output = plugin(site.path(), &[command, "absent"]);
        says(&output, 2, &[".sleap-rtc/plugins/absent.wasm"]);
    }
    let output = plugin(site.path(), &["validate", "GUESTS/custom-policy.core.wasm"]);
    says(&output, 2, &["a core WebAssembly module, not a component"]);
}

#[test]
fn inspect_shows_what_is_in_it() {
    let site = Site::new();
    let output = plugin(site.path(), &["inspect", "GUESTS/hostile-guest.wasm", LIMIT]);
    let bytes = fs::read(test_guests::dir().join("hostile-guest.wasm")).unwrap();
    says(
        &output,
        0,
        &[
            "sleap-rtc:policy@0.1.0",
            "full-plugin",
            "sleap-rtc:policy/estimation@0.1.0",
            "sleap-rtc:policy/log@0.1.0",
            &format!("{} bytes", bytes.len()),
            blake3::hash(&bytes).to_hex().as_str(),
            "estimate, an ordinary worker: ",
            "selection, 1,000 workers: ",
        ],
    );
}

#[test]
fn a_recorded_room_is_ranked_and_the_expected_worker_must_be_first() {
    let site = Site::new();
    let worker = |id: &str, host: &str, status: &str| {
        json!({ "peer_id": id, "role": "worker", "connected_at": 1,
            "metadata": { "tags": [], "properties": { "hostname": host, "status": status } } })
    };
    let room = json!([
        worker("w1", "loud.lab", "available"),
        worker("w2", "quiet.lab", "available"),
        worker("w3", "third.lab", "busy"),
    ]);
    fs::write(site.path().join("room.json"), room.to_string()).unwrap();
    fs::write(site.path().join("job.json"), r#"{ "job_type": "training" }"#).unwrap();
    let test = |more: &[&str]| {
        let words = ["test", "GUESTS/custom-policy.wasm", "--room", "room.json", LIMIT];
        let words = [&words[..], &["--setting", "prefer=quiet.lab"], more].concat();
        plugin(site.path(), &words)
    };
    let output = test(&["--job", "job.json", "--expect", "w2"]);
    says(&output, 0, &["the preferred machine", "busy"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with("1     w2") && lines[2].starts_with("2     w1"), "{text}");
    assert!(lines[3].starts_with("out   w3"), "{text}");
    says(
        &test(&["--job", "job.json", "--expect", "w1"]),
        1,
        &["expected w1 to be ranked first, but w2"],
    );
    says(&test(&["--job", "room.json"]), 2, &["room.json is not the description of a job"]);
    let package = fixture("train_single.zip");
    says(&test(&["--job", package.to_str().unwrap()]), 0, &["w2"]);
}

#[test]
fn every_question_that_a_plugin_answers_is_asked_about_a_recorded_room() {
    let site = Site::new();
    let room = tests_folder().join("../examples/policies/room.json");
    let job = room.with_file_name("job.json");
    let (room, job) = (room.to_str().unwrap(), job.to_str().unwrap());
    let test = |more: &[&str]| {
        let words = ["test", "GUESTS/hostile-guest.wasm", "--room", room, "--job", job, LIMIT];
        plugin(site.path(), &[&words[..], more].concat())
    };
    let tables = ["selection\nrank", "compatibility\nworker", "estimate\nworker", "yes", "minutes"];
    says(&test(&["--expect", "tower"]), 0, &tables);
    let absent = "expected nobody to be ranked first, but tower is";
    says(&test(&["--expect", "nobody"]), 1, &[absent]);
    says(&test(&["--setting", "do=error"]), 2, &["the plugin hostile-guest failed: it says: "]);
    says(&test(&["--at", "noon"]), 2, &["--at", "2026-01-14T10:00"]);
}
