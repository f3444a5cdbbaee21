//! What a thief can do with a client's files and with a worker's, as the page on security says.

use super::{Laptop, room};
use crate::support::*;
use std::fs;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if from.join(&file).is_file() {
            fs::copy(from.join(&file), target).unwrap();
        }
    }
}

#[test]
fn who_has_a_clients_files_submits_and_returns_to_its_jobs_until_it_is_removed() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let mut ada = Laptop::pair(&site, &worker, "ada", &[]);
    let mut bob = Laptop::pair(&site, &worker, "bob", &[]);
    ada.train(&site, &worker).run().assert_code(0);
    let job = worker.jobs()[0]["spec"]["id"].as_str().unwrap().to_owned();
    let thief = site.folder("thief");
    let stolen = thief.join(".local/share/sleap-rtc/client");
    copy(&ada.state_dir(), &stolen);
    let client = || TestClient::new(&site, server.address()).in_home(&thief);
    client().arguments(&["fetch", &job, "--output", "stolen"]).run().assert_code(0);
    let train = |output| {
        client().train_to(&fixture("train_single.zip"), output).arguments(&["--auto-select"])
    };
    train("one").run().assert_code(0);
    room(&worker, &["remove", &ada.name()]).assert_code(0);
    train("two").run().assert_code(9).assert_says(&["was removed from the room"]);
    let fetch = client().arguments(&["fetch", &job, "--output", "stolen-again"]).run();
    fetch.assert_code(9).assert_says(&["was removed from the room"]);
    // A fresh key of its own is no member, and what it has is no secret of the room.
    fs::remove_file(stolen.join("device.key")).unwrap();
    train("three")
        .run()
        .assert_code(9)
        .assert_says(&["neither the room's token nor a certificate"]);
    bob.train(&site, &worker).run().assert_code(0);
}

#[test]
fn who_has_a_workers_identity_file_takes_its_place_at_the_server_and_is_believed_by_nobody() {
    let site = Site::new();
    let server = site.server();
    let mut worker = site.worker(&server);
    let mut ada = Laptop::pair(&site, &worker, "ada", &[]);
    let setup = TestWorker::setup(&site, "thief");
    let state = setup.home().join("state");
    fs::create_dir_all(&state).unwrap();
    let identity = fs::read_to_string(worker.state_dir().join("identity.json")).unwrap();
    // The peers' part is elsewhere, so that a program from before its time sends it to nobody.
    let (_, peers) = worker.credentials().worker_token.split_once('.').unwrap();
    assert!(!identity.contains(&peers[..22]), "{identity}");
    fs::write(state.join("identity.json"), identity).unwrap();
    let before = worker.credentials().clone();
    worker.stop();
    let thief = setup.start(&server);
    assert_eq!(thief.peer_id(), before.peer_id, "the server believes the file");
    let refused = ada.train(&site, &thief).run();
    refused.assert_code(9).assert_says(&["shows no key"]);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    client.session(&before).run().assert_code(9).assert_says(&["shows no key"]);
    assert!(thief.jobs().is_empty());
}

#[test]
fn who_has_a_workers_whole_folder_is_that_worker_and_certifies_others() {
    let site = Site::new();
    let server = site.server();
    let mut worker = site.worker(&server);
    let mut ada = Laptop::pair(&site, &worker, "ada", &[]);
    ada.train(&site, &worker).run().assert_code(0);
    let job = worker.jobs()[0].to_string();
    let setup = TestWorker::setup(&site, "thief");
    copy(&worker.state_dir(), &setup.home().join("state"));
    worker.stop();
    let thief = setup.start(&server);
    ada.train(&site, &thief).run().assert_code(0);
    Laptop::pair(&site, &thief, "mallory", &[]).train(&site, &thief).run().assert_code(0);
    // It cannot return to a job as its client: the folder holds what verifies the secret, not the secret.
    let listed = TestClient::new(&site, server.address()).in_home(&ada.home);
    let listed = listed.arguments(&["jobs", "--strings"]).run().stdout;
    let string = listed.split("sleap-job:").nth(1).unwrap().lines().next().unwrap().to_owned();
    let string: sleap_rtc_trust::session::JobString =
        format!("sleap-job:{string}").parse().unwrap();
    let secret = serde_json::to_value(&string.secret).unwrap();
    assert!(!job.contains(secret.as_str().unwrap()), "{job}");
}
