//! Which trainer a worker finds, whether it works, and what it sees of the environment.

use crate::support::*;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn tools(site: &Site) -> PathBuf {
    site.folder("tools")
}

fn script(folder: &Path, name: &str, text: &str) {
    write_program(&folder.join(name), &format!("#!/bin/sh\n{text}\n"));
}

fn train(site: &Site, server: &TestServer, worker: &TestWorker) -> Ended {
    let client = site.client(server).train(&fixture("train_single.zip"));
    client.session(worker.credentials()).run()
}

fn has_package(worker: &TestWorker) -> bool {
    worker.log().contains("package complete")
}

#[test]
fn a_worker_with_sleap_alone_trains_and_knows_its_version() {
    let site = Site::new();
    let server = site.server();
    let tools = tools(&site);
    symlink(stand_in().join("sleap-nn"), tools.join("sleap")).unwrap();
    let worker = TestWorker::setup(&site, "worker").trainers_in(&tools).start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    observer
        .wait_properties(worker.peer_id(), "its version", |seen| seen["sleap_version"] == "0.3.5");
    train(&site, &server, &worker).assert_code(0);
    assert!(!worker.log().contains("WARN"), "{}", worker.log());
}

#[test]
fn a_broken_trainer_is_refused_before_the_upload_until_it_is_mended() {
    let cases = [
        "[ $1 = --version ] && echo sleap 1.6.4 && exit; echo 'No such option: --config-name' >&2; exit 2",
        "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
    ];
    for (text, words) in cases.into_iter().zip(["--config-name", "torch"]) {
        let site = Site::new();
        let server = site.server();
        let tools = tools(&site);
        script(&tools, "sleap", text);
        let worker = TestWorker::setup(&site, "worker").trainers_in(&tools).start(&server);
        let mut observer = Observer::join(&server, worker.credentials());
        observer.wait_properties(worker.peer_id(), "the problem", |seen| {
            seen["problems"][0].as_str().is_some_and(|problem| problem.contains(words))
        });
        let ended = train(&site, &server, &worker);
        assert_ne!(ended.code, 0);
        ended.assert_says(&["does not work", words]);
        assert!(!has_package(&worker), "{}", worker.log());
        assert!(worker.log().contains("WARN"), "{}", worker.log());
    }
}

/// What a client sees of the room of `worker`.
fn seen(site: &Site, server: &TestServer, worker: &TestWorker, words: &[&str]) -> String {
    let room = ["--room-id", &worker.credentials().room_id, "--token", &worker.credentials().token];
    site.client(server).arguments(words).arguments(&room).run_within(SOON).text()
}

#[test]
fn a_worker_whose_trainer_does_not_work_does_not_look_available() {
    let fails = "echo \"No module named 'torch'\" >&2; exit 1";
    let no_training = "[ $1 = train ] && { echo \"No module named 'torch'\" >&2; exit 1; }";
    let real = format!("exec {}/sleap-nn \"$@\"", stand_in().display());
    for (text, status, tracks) in [
        (fails.to_owned(), "no working trainer", false),
        (format!("{no_training}; {real}"), "tracks only", true),
    ] {
        let site = Site::new();
        let server = site.server();
        let tools = tools(&site);
        script(&tools, "sleap-nn", &text);
        // Without a sandbox the trainer is tried once, instead of once for each scope.
        let setup = TestWorker::setup(&site, "worker").config("sandbox = \"off\"\n");
        let worker = setup.trainers_in(&tools).start(&server);
        let mut observer = Observer::join(&server, worker.credentials());
        observer.wait_properties(worker.peer_id(), "the problem", |seen| {
            seen["problems-by-part"]["training"].as_str().is_some_and(|why| why.contains("'torch'"))
        });
        for words in [["room", "list"].as_slice(), &["queue"]] {
            let text = seen(&site, &server, &worker, words);
            assert!(text.contains(status) && text.contains("'torch'"), "{words:?}: {text}");
            assert!(!text.contains("available") && !text.contains("none that works"), "{text}");
        }
        let why = seen(&site, &server, &worker, &["why"]);
        assert!(why.contains("out") && why.contains("'torch'"), "{why}");
        let refused = site.client(&server).train(&fixture("train_single.zip"));
        let refused = refused.auto(worker.credentials()).run_within(SOON);
        refused.assert_says(&["'torch'"]);
        assert!(!has_package(&worker), "{}", worker.log());
        let tracking = site.client(&server).track_fixture(&site).auto(worker.credentials()).run();
        assert_eq!(tracking.code == 0, tracks, "{}", tracking.text());
    }
}

#[test]
fn a_trainer_that_is_slow_to_fail_is_refused_before_the_upload() {
    let site = Site::new();
    let server = site.server();
    let (tools, answer) = (tools(&site), site.folder("answer").join("now"));
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", answer.display());
    script(&tools, "sleap-nn", &format!("{wait}; echo \"No module named 'torch'\" >&2; exit 1"));
    // In a sandbox the trainer would not see the file.
    let worker = TestWorker::setup(&site, "worker").config("sandbox = \"off\"\n");
    let worker = worker.trainers_in(&tools).start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut waiting = client.session(worker.credentials()).start();
    waiting.wait_stderr("what it waits for", SOON, |said| {
        said.contains("Waiting for the worker: it has just started").then_some(())
    });
    std::fs::write(&answer, "").unwrap();
    assert_eq!(waiting.wait(A_WHILE), 5, "{}", waiting.transcript());
    assert!(waiting.stderr().contains("'torch'"), "{}", waiting.transcript());
    assert!(!has_package(&worker), "{}", worker.log());
}

#[test]
fn a_refused_job_is_listed_as_refused() {
    let site = Site::new();
    let server = site.server();
    let tools = tools(&site);
    script(&tools, "sleap-nn", "echo \"No module named 'torch'\" >&2; exit 1");
    let worker = TestWorker::setup(&site, "worker").trainers_in(&tools).start(&server);
    let home = site.folder("laptop");
    let client = || site.client(&server).in_home(&home);
    let train = client().train(&fixture("train_single.zip")).session(worker.credentials());
    assert_ne!(train.run().code, 0);
    let listed = client().arguments(&["jobs"]).run().assert_code(0).text();
    assert!(listed.contains("refused: ") && listed.contains("'torch'"), "{listed}");
    let job = listed.split_whitespace().next().unwrap().to_owned();
    let report = client().arguments(&["report", &job]).run_within(SOON);
    report.assert_code(2).assert_says(&["was refused", "'torch'"]);
}

#[test]
fn the_operator_may_name_the_trainer() {
    let site = Site::new();
    let server = site.server();
    let elsewhere = site.folder("elsewhere");
    script(&elsewhere, "wrap", &format!("shift; exec {}/sleap-nn \"$@\"", stand_in().display()));
    let empty = tools(&site);
    let setup = TestWorker::setup(&site, "worker").trainers_in(&empty);
    let named = format!("trainer = \"{}/wrap --nv\"\n", elsewhere.display());
    let worker = setup.config(&named).start(&server);
    train(&site, &server, &worker).assert_code(0);
}

#[test]
fn a_trainer_on_a_cluster_gets_the_environment_that_it_needs() {
    let site = Site::new();
    let server = site.server();
    let needed = [
        ("HDF5_USE_FILE_LOCKING", "FALSE"),
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("https_proxy", "http://proxy:3128"),
        ("NO_PROXY", "localhost"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        ("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt"),
        ("KMP_DUPLICATE_LIB_OK", "TRUE"),
        ("TF_FORCE_GPU_ALLOW_GROWTH", "true"),
        ("HF_HUB_OFFLINE", "1"),
        ("MPLCONFIGDIR", "/tmp"),
        ("XDG_DATA_HOME", "/tmp"),
    ];
    let secret = [("WANDB_API_KEY", "key"), ("ALL_PROXY", "http://ada:secret@proxy:3128")];
    let setup = TestWorker::setup(&site, "worker");
    let setup = needed.iter().chain(&secret).fold(setup, |setup, (n, v)| setup.env(n, v));
    let worker = setup.start(&server);
    train(&site, &server, &worker).assert_code(0);
    let starts = worker.trainer_starts();
    let seen: Vec<&str> =
        starts[0]["env"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    for (name, _) in needed {
        assert!(seen.contains(&name), "{name} is not in {seen:?}");
    }
    for (name, _) in secret {
        assert!(!seen.contains(&name), "{name} is in {seen:?}");
    }
}
