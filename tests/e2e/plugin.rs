//! The tools for authors of policy plugins.

use crate::support::*;
use serde_json::json;
use std::{fs, path::Path, process::Output};

/// Generous: the binary under test is not optimised.
const LIMIT: &str = "--timeout-ms=20000";

/// Runs `sleap-rtc plugin`, `GUESTS` standing for the folder of the test guests.
fn plugin(home: &Path, words: &[&str]) -> Output {
    let guests = test_guests::dir().to_str().unwrap();
    let mut command = Site::binary(home, Path::new("/nonexistent"));
    command.arg("plugin").args(words.iter().map(|word| word.replace("GUESTS", guests)));
    command.output().unwrap()
}

/// It ends with `code` and says each of `words`.
#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn a_plugin_that_copes_with_every_case_is_valid() {
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
fn a_plugin_that_fails_is_told_where_and_why() {
    let site = Site::new();
    let file = "GUESTS/hostile-guest.wasm";
    // It names worker 0 whether there is one or not.
    let output = plugin(site.path(), &["validate", file, LIMIT]);
    says(&output, 2, &["no workers", "it names worker 0 of 0", "hostile-guest is not valid: 1 of"]);
    let output = plugin(site.path(), &["validate", file, "--setting", "do=no-reason", LIMIT]);
    says(&output, 2, &["compatibility", "it refuses without a reason"]);
    let output = plugin(site.path(), &["validate", "GUESTS/custom-policy.wasm", LIMIT]);
    says(&output, 2, &["it says: settings: `prefer` must be a host name", "--setting KEY=VALUE"]);
}

#[test]
fn what_is_no_plugin_is_refused() {
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
            "policy-plugin",
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
        &["w1 was expected to be first, but w2"],
    );
    says(&test(&["--job", "room.json"]), 2, &["room.json is not the description of a job"]);
    let package = fixture("train_single.zip");
    says(&test(&["--job", package.to_str().unwrap()]), 0, &["w2"]);
}

/// `[policy.SECTION]` with the hostile guest, told what to do.
fn hostile(section: &str, deed: &str, more: &str) -> String {
    let file = test_guests::dir().join("hostile-guest.wasm");
    format!("\n[policy.{section}]\nplugin = {file:?}\nsettings = {{ do = {deed:?} }}\n{more}")
}

#[test]
fn a_job_goes_on_when_a_selection_plugin_fails() {
    let site = Site::new();
    let server = site.server();
    let small = TestWorker::setup(&site, "small").gpu_mib(8_000).start(&server);
    let large =
        TestWorker::setup(&site, "large").gpu_mib(24_000).join(small.credentials()).start(&server);
    for (number, deed) in ["loop", "panic", "nan", "grow"].into_iter().enumerate() {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let client = client.auto(small.credentials());
        let config = client.home().join("sleap-rtc.toml");
        fs::write(config, hostile("selection", deed, "")).unwrap();
        let ended = client.run();
        let said = "the selection plugin hostile-guest failed; the default was used";
        ended.assert_code(0).assert_says(&[said]);
        assert_eq!(ended.text().matches(said).count(), 1, "{deed}: {}", ended.text());
        assert_eq!(large.trainer_starts().len(), number + 1, "{deed}");
    }
}

#[test]
fn a_compatibility_plugin_that_fails_refuses_unless_told_otherwise() {
    let site = Site::new();
    let server = site.server();
    let strict = TestWorker::setup(&site, "strict").gpu_mib(8_000);
    let strict = strict.config(&hostile("compatibility", "panic", "")).start(&server);
    let train = |worker: &TestWorker| {
        site.client(&server).train(&fixture("train_single.zip")).auto(worker.credentials()).run()
    };
    let ended = train(&strict);
    ended.assert_code(5).assert_says(&["the compatibility plugin hostile-guest failed"]);
    assert!(strict.trainer_starts().is_empty());
    assert!(strict.log().contains("it panicked"), "{}", strict.log());
    let lenient = TestWorker::setup(&site, "lenient").gpu_mib(8_000);
    let policy = hostile("compatibility", "loop", "on_failure = \"default\"\n");
    let lenient = lenient.config(&policy).start(&server);
    train(&lenient).assert_code(0);
    assert_eq!(lenient.trainer_starts().len(), 1);
}

#[test]
fn the_plugin_folder_from_add_to_remove() {
    let site = Site::new();
    let (home, file) = (site.path(), "GUESTS/custom-policy.wasm");
    let bytes = fs::read(test_guests::dir().join("custom-policy.wasm")).unwrap();
    let hash = blake3::hash(&bytes).to_hex();
    says(&plugin(home, &["list"]), 0, &["no plugins in", "the built-in ones answer"]);
    let output = plugin(home, &["add", "GUESTS/hostile-guest.wasm", LIMIT]);
    says(&output, 2, &["hostile-guest is not valid"]);
    let add = ["add", file, "--setting", "prefer=gpu0.lab", LIMIT];
    says(&plugin(home, &add), 0, &["custom-policy is in", "plugin = \"custom-policy\""]);
    let place = home.join(".sleap-rtc/plugins/custom-policy.wasm");
    assert_eq!(fs::read(&place).unwrap(), bytes);
    let listed = ["custom-policy.wasm", "selection-plugin", &hash[..12], "accepted"];
    says(&plugin(home, &["list"]), 0, &listed);

    fs::copy(test_guests::dir().join("hostile-guest.wasm"), &place).unwrap();
    says(&plugin(home, &["list"]), 0, &["policy-plugin", "CHANGED since it was accepted"]);
    says(&plugin(home, &["lock"]), 0, &["1 accepted in", "`[policy] locked = true`"]);
    says(&plugin(home, &["list"]), 0, &["accepted"]);

    let config = home.join("sleap-rtc.toml");
    fs::write(&config, "[policy.selection]\nplugin = \"custom-policy\"\n").unwrap();
    says(&plugin(home, &["list"]), 0, &["selection"]);
    let output = plugin(home, &["remove", "custom-policy"]);
    says(&output, 2, &["[policy.selection] uses custom-policy"]);
    fs::remove_file(&config).unwrap();
    says(&plugin(home, &["remove", "custom-policy"]), 0, &["custom-policy is removed"]);
    assert!(!place.exists());
    says(&plugin(home, &["list"]), 0, &["no plugins in"]);
}

#[test]
fn bench_times_a_plugin_beside_the_built_in_one() {
    let site = Site::new();
    let file = "GUESTS/custom-policy.wasm";
    let output = plugin(site.path(), &["bench", file, "--setting", "prefer=gpu0.lab", LIMIT]);
    says(&output, 0, &["custom-policy", "built-in", "ratio"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let sizes: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(sizes, ["workers", "10", "100", "1000"], "{text}");
}

#[test]
fn a_locked_configuration_takes_what_was_accepted_and_names_both_hashes() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let folder = site.folder("plugins");
    let [accepted, other] = ["custom-policy.wasm", "hostile-guest.wasm"]
        .map(|file| fs::read(test_guests::dir().join(file)).unwrap());
    fs::write(folder.join("lab.wasm"), &accepted).unwrap();
    let config = format!(
        "[policy]\ndir = {folder:?}\nlocked = true\n[policy.selection]\nplugin = \"lab\"\n\
         timeout = \"20 s\"\nsettings = {{ prefer = \"x.lab\" }}\n"
    );
    let run = || {
        let client = site.client(&server).train(&fixture("train_single.zip"));
        fs::write(client.home().join("sleap-rtc.toml"), &config).unwrap();
        client.auto(worker.credentials()).run()
    };
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    run().assert_code(2).assert_says(&["lab.wasm is not in", &hash(&accepted)]);
    fs::write(site.path().join("sleap-rtc.toml"), &config).unwrap();
    says(&plugin(site.path(), &["lock"]), 0, &["1 accepted in"]);
    run().assert_code(0);
    fs::write(folder.join("lab.wasm"), &other).unwrap();
    run().assert_code(2).assert_says(&[&hash(&accepted), &hash(&other)]);
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
    let absent = "nobody was expected to be first, but tower is";
    says(&test(&["--expect", "nobody"]), 1, &[absent]);
    says(&test(&["--setting", "do=error"]), 2, &["the plugin hostile-guest failed: it says: "]);
    says(&test(&["--at", "noon"]), 2, &["--at", "2026-01-14T10:00"]);
}
