//! Programs of two versions together: this one, and an earlier one that `SLEAP_RTC_PREVIOUS` names.

use crate::reconnect::wait_training;
use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Starts another program, with the arguments of the one that it is given.
const INSTEAD: &str = "shift; exec \"$0\" \"$@\"";

/// The earlier program. `None` where none is named; says so.
fn previous() -> Option<PathBuf> {
    let named = std::env::var_os("SLEAP_RTC_PREVIOUS").map(PathBuf::from);
    if named.is_none() {
        println!("not run: SLEAP_RTC_PREVIOUS names no earlier version of the program");
    }
    named
}

/// How a test starts `program` in place of the one that was built for it.
fn instead(program: &Path) -> [&str; 4] {
    ["sh", "-c", INSTEAD, program.to_str().unwrap()]
}

/// Puts a copy of a program at `at`, also while another runs from there.
fn put(program: &Path, at: &Path) {
    let new = at.with_extension("new");
    fs::copy(program, &new).unwrap();
    fs::rename(&new, at).unwrap();
}

fn setup(site: &Site) -> WorkerSetup {
    TestWorker::setup(site, "worker").env("FAKE_SLEAP_BATCH_S", "0.4").env("FAKE_SLEAP_STEPS", "8")
}

/// Trains and tracks with a worker that is its own server.
fn works(site: &Site, worker: &TestWorker, wrapper: &[&str]) {
    let client = || TestClient::new(site, worker.served_at()).under(wrapper);
    let credentials = worker.credentials();
    let train = client().train(&fixture("train_single.zip"));
    let output = train.output();
    train.auto(credentials).run().assert_code(0);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")), "no model");
    let track = client().track_fixture(site);
    let predictions = track.predictions();
    track.session(credentials).run().assert_code(0);
    assert!(predictions.is_file());
}

#[test]
fn an_older_worker_and_server_serve_a_client_of_this_version() {
    let Some(previous) = previous() else { return };
    let site = Site::new();
    let worker = setup(&site).under(&instead(&previous)).serve(([127, 0, 0, 1], 0).into());
    works(&site, &worker, &[]);
}

#[test]
fn a_worker_and_server_of_this_version_serve_an_older_client() {
    let Some(previous) = previous() else { return };
    let site = Site::new();
    let worker = setup(&site).serve(([127, 0, 0, 1], 0).into());
    works(&site, &worker, &instead(&previous));
}

/// An older client follows a job, and the older worker that runs it makes way for one of this version.
#[test]
fn a_worker_that_is_upgraded_under_a_running_job_takes_it_up() {
    let Some(previous) = previous() else { return };
    let site = Site::new();
    let server = site.server();
    let program = site.folder("bin").join("sleap-rtc");
    put(&previous, &program);
    let worker = setup(&site).under(&instead(&program)).start(&server);
    let client =
        site.client(&server).under(&instead(&previous)).train(&fixture("train_single.zip"));
    let output = client.output();
    let mut client = client.auto(worker.credentials()).start();
    wait_training(&mut client);
    let peer = worker.peer_id().to_owned();
    put(&built().join("sleap-rtc"), &program);
    let worker = worker.restart(&[]);
    assert_eq!(worker.peer_id(), peer, "the same worker");
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")), "no model");
    assert_eq!(worker.trainer_starts().len(), 1, "the same job, not another");
    site.client(&server)
        .train(&fixture("train_single.zip"))
        .auto(worker.credentials())
        .run()
        .assert_code(0);
    worker.wait_idle(&site, &server);
}

/// As `pip install --upgrade` does it: the worker still runs when its file is already the new one, which it
/// then starts for each job.
#[test]
fn an_older_worker_whose_file_was_replaced_still_runs_jobs() {
    let Some(previous) = previous() else { return };
    let site = Site::new();
    let program = site.folder("bin").join("sleap-rtc");
    put(&previous, &program);
    let worker = setup(&site).under(&instead(&program)).serve(([127, 0, 0, 1], 0).into());
    put(&built().join("sleap-rtc"), &program);
    works(&site, &worker, &[]);
}
