//! A client that is killed at any stage leaves nothing behind.

use crate::support::*;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// After `client` is killed the worker is available, nothing of the job is left running, and the
/// next client is served.
#[track_caller]
fn killed(site: &Site, server: &TestServer, worker: &TestWorker, mut client: Process) {
    assert!(client.try_wait().is_none(), "too late to kill{}", client.transcript());
    client.kill();
    worker.wait_idle(site, server);
    let next = site.client(server).track_fixture(site).auto(worker.credentials());
    next.run().assert_code(0);
    worker.wait_idle(site, server);
}

/// Waits until the files below `folder` have grown by a MiB.
#[track_caller]
fn wait_growth(what: &str, folder: &Path) {
    let before = bytes_below(folder);
    wait_for(what, A_WHILE, || (bytes_below(folder) > before + MIB).then_some(()));
}

#[test]
fn while_connecting() {
    let site = Site::new();
    let server = site.server();
    // It may have named its job already; no client returns to that job.
    let worker =
        TestWorker::setup(&site, "worker").config("resume_within = \"1 s\"\n").start(&server);
    let mut observer = Observer::join(&server, worker.credentials());
    let package = fixture("train_single.zip");
    let client = site.client(&server).train(&package).session(worker.credentials()).start();
    observer.wait_status(worker.peer_id(), "reserved", SOON);
    killed(&site, &server, &worker, client);
}

#[test]
fn after_a_reservation_that_no_offer_followed() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut client = Observer::join(&server, worker.credentials());
    client.send(&serde_json::json!({
        "type": "peer_message", "from_peer_id": client.peer_id(), "to_peer_id": worker.peer_id(),
        "payload": {
            "app_message_type": "job_request", "job_id": "j1", "job_type": "training",
            "dataset_info": {"format": "slp", "path": "labels.slp", "estimated_size_mb": 1},
            "config": {"epochs": 2}, "requirements": {},
        },
    }));
    let answer = client.receive("peer_message");
    assert_eq!(answer["payload"]["accepted"], true, "{answer}");
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_status(worker.peer_id(), "reserved", SOON);
    drop(client);
    observer.wait_status(worker.peer_id(), "available", A_WHILE);
}

#[test]
fn in_upload() {
    let site = Site::new();
    let server = site.server();
    // No client returns to this one.
    let worker =
        TestWorker::setup(&site, "worker").config("resume_within = \"1 s\"\n").start(&server);
    let package = large_package(&site, 512 * MIB);
    let client = site.client(&server).train(&package).auto(worker.credentials()).start();
    wait_growth("the upload", &worker.state_dir());
    killed(&site, &server, &worker, client);
}

#[test]
fn in_training() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", "1");
    let worker = setup.start(&server);
    let package = fixture("train_single.zip");
    let client = site.client(&server).train(&package).auto(worker.credentials()).start();
    wait_for("the trainer", SOON, || worker.trainer_starts().pop());
    killed(&site, &server, &worker, client);
}

#[test]
fn in_download() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    // The stand-in's predictions are a copy of its input, so the result is as large as the labels.
    let labels = large_labels(&site, 512 * MIB);
    let (_, models) = labels_and_models(&site);
    let client = site.client(&server).track(&labels, &models).auto(worker.credentials());
    let home = client.home().to_owned();
    let client = client.start();
    wait_growth("the download", &home);
    killed(&site, &server, &worker, client);
}
