//! A member that was removed is refused, whatever it was doing, and wherever.

use super::{Laptop, room, row};
use crate::evil::{EvilServer, Plot};
use crate::queue::Waiting;
use crate::reconnect::wait_training;
use crate::resume::wait_verified;
use crate::support::*;
use std::time::Duration;

/// What a removed device hears.
const REMOVED: &str = "this device was removed from the room";
/// Within this, all workers refuse it.
const SECONDS: Duration = Duration::from_secs(10);

/// A worker whose trainings take some seconds.
fn slow(site: &Site, name: &str) -> WorkerSetup {
    let setup = TestWorker::setup(site, name).env("FAKE_SLEAP_BATCH_S", "0.5");
    setup.env("FAKE_SLEAP_STEPS", "10")
}

/// Fails unless the laptop is refused by `worker` because it was removed.
#[track_caller]
fn assert_removed(site: &Site, laptop: &mut Laptop, worker: &TestWorker) {
    let before = worker.jobs().len();
    let refused = laptop.train(site, worker).run();
    refused.assert_code(9).assert_says(&[REMOVED, "room invite"]);
    println!("a removed member: refused {:.1} s after the start", refused.took.as_secs_f64());
    assert!(refused.took < SECONDS, "{:?}", refused.took);
    assert_eq!(worker.jobs().len(), before);
}

#[test]
fn every_worker_refuses_a_removed_member_until_it_pairs_again() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let second = TestWorker::setup(&site, "second").join(first.credentials()).start(&server);
    let mut ada = Laptop::pair(&site, &first, "ada", &[]);
    let mut eve = Laptop::pair(&site, &first, "eve", &[]);
    eve.train(&site, &second).run().assert_code(0);
    let unknown = room(&second, &["remove", "mallory@x"]);
    unknown.assert_code(5).assert_says(&["no member mallory@x", "room members"]);
    let own = row(&second, &super::host()).unwrap();
    let key = own.split_whitespace().nth(1).unwrap();
    room(&second, &["remove", key]).assert_code(5).assert_says(&["is a worker", "--new-room"]);

    let removed = room(&second, &["remove", &eve.name()]);
    removed.assert_code(0).assert_says(&[
        "Removed eve@",
        "others that have confirmed it",
        "token has changed",
    ]);
    assert!(!removed.stdout.contains("Not confirmed"), "{}", removed.stdout);
    assert!(removed.took < SECONDS, "{:?}", removed.took);
    for worker in [&first, &second] {
        assert_removed(&site, &mut eve, worker);
        assert!(row(worker, &eve.name()).unwrap().contains("removed 20"));
        ada.train(&site, worker).run().assert_code(0);
    }
    room(&second, &["remove", &eve.name()]).assert_code(5).assert_says(&["no member"]);
    // A restart forgets nothing.
    let first = first.restart(&[]);
    assert_removed(&site, &mut eve, &first);
    eve.pair_again(&site, &first, &[]);
    eve.train(&site, &first).run().assert_code(0);
}

#[test]
fn a_worker_that_was_off_refuses_it_once_it_is_back() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let mut second = TestWorker::setup(&site, "second").join(first.credentials()).start(&server);
    let mut eve = Laptop::pair(&site, &first, "eve", &[]);
    wait_for("the other worker's members", SOON, || row(&second, &eve.name()));
    second.stop();
    let removed = room(&first, &["remove", &eve.name()]);
    removed.assert_code(0).assert_says(&["Not confirmed by", "the next worker or client"]);
    let second = second.restart(&[]);
    wait_for("the news", SECONDS, || row(&second, &eve.name())?.contains("removed").then_some(()));
    assert_removed(&site, &mut eve, &second);
}

#[test]
fn a_server_that_withholds_it_cannot_keep_it_from_a_worker_that_others_call() {
    let site = Site::new();
    let server = site.server();
    let first = site.worker(&server);
    let evil = EvilServer::before(server.address(), Plot::WithholdsNotes);
    let setup = TestWorker::setup(&site, "second").join(first.credentials());
    let second = setup.start_at(evil.address());
    let mut ada = Laptop::pair(&site, &first, "ada", &[]);
    let mut eve = Laptop::pair(&site, &first, "eve", &[]);
    let removed = room(&first, &["remove", &eve.name()]);
    removed.assert_code(0).assert_says(&["token has changed"]);
    // What the page on security says: until somebody else calls there, the server can hide it.
    eve.train(&site, &second).run().assert_code(0);
    ada.train(&site, &first).run().assert_code(0);
    ada.train(&site, &second).run().assert_code(0);
    assert_removed(&site, &mut eve, &second);
    assert_removed(&site, &mut eve, &first);
}

#[test]
fn its_running_job_goes_on_and_nobody_fetches_the_result() {
    let site = Site::new();
    let server = site.server();
    let worker = slow(&site, "worker").start(&server);
    let mut eve = Laptop::pair(&site, &worker, "eve", &[]);
    let mut client = eve.train(&site, &worker).start();
    wait_training(&mut client);
    let removed = room(&worker, &["remove", &eve.name()]);
    removed.assert_code(0).assert_says(&["run or wait here (1) continue"]);
    assert_eq!(client.wait(SOON), 9, "{}", client.transcript());
    assert!(client.transcript().contains(REMOVED), "{}", client.transcript());
    let job = worker.jobs()[0]["spec"]["id"].as_str().unwrap().to_owned();
    wait_for("the end of the job", A_WHILE, || {
        (worker.jobs()[0]["state"]["outcome"]["outcome"] == "succeeded"
            || worker.jobs()[0].to_string().contains("succeeded"))
        .then_some(())
    });
    let fetch = TestClient::new(&site, server.address()).in_home(&eve.home);
    let fetch = fetch.arguments(&["fetch", &job, "--output", "result"]).run();
    fetch.assert_code(9).assert_says(&[REMOVED]);
    // Its job string is of no use elsewhere either.
    let listed = TestClient::new(&site, server.address()).in_home(&eve.home);
    let listed = listed.arguments(&["jobs", "--strings"]).run();
    let string = listed.stdout.lines().find_map(|line| line.trim().strip_prefix("sleap-job:"));
    let string = format!("sleap-job:{}", string.expect("a job string"));
    let elsewhere = site.client(&server).arguments(&["fetch", &string, "--output", "result"]);
    elsewhere.run().assert_code(9).assert_says(&["submitted this job was removed"]);
}

#[test]
fn its_waiting_job_never_starts_if_the_operator_cancels_its_jobs() {
    let site = Site::new();
    let server = site.server();
    let worker = slow(&site, "worker").start(&server);
    let mut eve = Laptop::pair(&site, &worker, "eve", &[]);
    let mut ada = Laptop::pair(&site, &worker, "ada", &[]);
    let mut first = ada.train(&site, &worker).arguments(&["--log"]).start();
    wait_training(&mut first);
    let mut waiting = Waiting::start(eve.train(&site, &worker).arguments(&["--wait"]));
    waiting.sees("in line");
    let removed = room(&worker, &["remove", &eve.name(), "--cancel-jobs"]);
    removed.assert_code(0).assert_says(&["run or wait here (1) are cancelled"]);
    assert_eq!(waiting.process.wait(SOON), 9, "{}", waiting.process.transcript());
    assert_eq!(first.wait(A_WHILE), 0, "{}", first.transcript());
    worker.wait_idle(&site, &server);
    assert_eq!(worker.trainer_starts().len(), 1, "the removed member's job has not run");
}

#[test]
fn its_running_jobs_are_cancelled_on_every_worker_if_the_operator_says_so() {
    let site = Site::new();
    let server = site.server();
    let first = slow(&site, "first").env("FAKE_SLEAP_STEPS", "100").start(&server);
    let second = slow(&site, "second").env("FAKE_SLEAP_STEPS", "100");
    let second = second.join(first.credentials()).start(&server);
    let mut eve = Laptop::pair(&site, &first, "eve", &[]);
    let mut clients = [&first, &second].map(|worker| eve.train(&site, worker).start());
    clients.iter_mut().for_each(wait_training);
    let removed = room(&first, &["remove", &eve.name(), "--cancel-jobs"]);
    removed.assert_code(0).assert_says(&["run or wait here (1) are cancelled"]);
    for client in &mut clients {
        assert_eq!(client.wait(SOON), 9, "{}", client.transcript());
    }
    for worker in [&first, &second] {
        wait_for("the end of the job", SECONDS, || {
            worker.jobs()[0].to_string().contains("cancelled").then_some(())
        });
        worker.wait_idle_of(&site, &server, &[&first, &second]);
    }
}

#[test]
fn its_running_job_can_be_cancelled_later_on_the_workers_machine() {
    let site = Site::new();
    let server = site.server();
    let worker = slow(&site, "worker").env("FAKE_SLEAP_STEPS", "100").start(&server);
    let mut eve = Laptop::pair(&site, &worker, "eve", &[]);
    let mut client = eve.train(&site, &worker).start();
    wait_training(&mut client);
    room(&worker, &["remove", &eve.name()]).assert_code(0).assert_says(&["cancel JOB --local"]);
    assert_eq!(client.wait(SOON), 9, "{}", client.transcript());
    let job = worker.jobs()[0]["spec"]["id"].as_str().unwrap().to_owned();
    let cancel =
        site.client(&server).in_home(worker.home()).arguments(&["cancel", &job, "--local"]);
    let cancel = cancel.argument("--state-dir").argument(worker.state_dir());
    cancel.run().assert_code(0).assert_says(&[&job, "is cancelled"]);
    wait_for("the end of the job", SECONDS, || {
        worker.jobs()[0].to_string().contains("cancelled").then_some(())
    });
    worker.wait_idle(&site, &server);
}

#[test]
fn its_upload_ends_and_leaves_nothing() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let eve = Laptop::pair(&site, &worker, "eve", &[]);
    let (labels, models) = (large_labels(&site, 60_000_000), labels_and_models(&site).1);
    let client = TestClient::new(&site, server.address()).in_home(&eve.home);
    let client = client.track(&labels, &models).arguments(&["--auto-select"]);
    let mut client = client.arguments(&["--bwlimit", "4 MB/s"]).start();
    wait_verified("some of the upload", &worker.state_dir(), 4_000_000);
    room(&worker, &["remove", &eve.name(), "--cancel-jobs"]).assert_code(0);
    assert_eq!(client.wait(SOON), 9, "{}", client.transcript());
    assert!(client.transcript().contains(REMOVED), "{}", client.transcript());
    wait_for("the end of the job's folder", SOON, || worker.jobs().is_empty().then_some(()));
    worker.wait_idle(&site, &server);
}

#[test]
fn with_it_the_rooms_token_changes_and_old_ones_open_known_jobs_alone() {
    let site = Site::new();
    let server = site.server();
    let worker = slow(&site, "worker").gpus_mib(&[16_000, 16_000]).start(&server);
    let (old, eve) = (worker.credentials().clone(), Laptop::pair(&site, &worker, "eve", &[]));
    let by_token = site.client(&server).train(&fixture("train_single.zip"));
    let home = by_token.home().to_owned();
    let mut running = by_token.session(&old).start();
    wait_training(&mut running);
    room(&worker, &["remove", &eve.name()]).assert_code(0);
    let new = wait_for("the new token", SOON, || worker.newest_credentials(&old));
    assert_eq!(new.server_token(), old.server_token());
    for client in [
        site.client(&server).train(&fixture("train_single.zip")).session(&old),
        site.client(&server).train(&fixture("train_single.zip")).auto(&old),
    ] {
        client.run().assert_code(9).assert_says(&["token has changed", "room invite"]);
    }
    // Whoever has a job there keeps it.
    assert_eq!(running.wait(A_WHILE), 0, "{}", running.transcript());
    let job = worker.jobs()[0]["spec"]["id"].as_str().unwrap().to_owned();
    let again =
        site.client(&server).in_home(&home).arguments(&["fetch", &job, "--output", "again"]);
    again.run().assert_code(0);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(&new).run().assert_code(0);
    // Clients without keys are not served any more: the removed one could be one of them.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(&new.keyless()).run().assert_code(5).assert_says(&["prove who they are"]);
    // Another worker joins with the new token, and one of the old one learns it from the others.
    let second = TestWorker::setup(&site, "second").join(&old).start(&server);
    wait_for("the second worker's token", SOON, || second.newest_credentials(&old));
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let client = client.room(&new).arguments(&["--worker-id", second.peer_id()]);
    client.run().assert_code(0);
}
