//! Broken and hostile packages and names.
//!
//! Each one ends the client within seconds with a message that names the cause. The worker is then
//! available again, and nothing was written outside the job's folder.

use crate::support::*;
use std::{
    fs,
    io::repeat,
    path::{Path, PathBuf},
    time::Duration,
};

/// "Within seconds", on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

/// Found on the client, before anything is sent.
const UNUSABLE: i32 = 2;
/// Found on the worker.
const JOB_FAILED: i32 = 6;
/// Found by the worker before anything is sent.
const REFUSED: i32 = 5;
const NO_WORKER: i32 = 4;
/// Found on the worker while the package arrives.
const TRANSFER_FAILED: i32 = 7;

/// The package is refused with `code` and `words`, and the worker takes the next job.
#[track_caller]
fn refused(site: &Site, package: &Path, code: i32, words: &[&str]) {
    let server = site.server();
    let worker = site.worker(&server);
    refused_by(site, &server, &worker, package, code, words);
    let next = site.client(&server).train(&fixture("train_single.zip"));
    next.auto(worker.credentials()).run().assert_code(0);
    worker.wait_idle(site, &server);
}

#[track_caller]
fn refused_by(
    site: &Site,
    server: &TestServer,
    worker: &TestWorker,
    package: &Path,
    code: i32,
    words: &[&str],
) {
    let ended = site.client(server).train(package).auto(worker.credentials()).run_within(SECONDS);
    ended.assert_code(code).assert_says(words);
    worker.wait_idle(site, server);
}

/// No file with this name exists nearby.
#[track_caller]
fn assert_nothing_named(site: &Site, name: &str) {
    let everywhere = files_below(site.path());
    let found: Vec<_> = everywhere.iter().filter(|path| path.ends_with(name)).collect();
    assert!(found.is_empty(), "written: {found:?}");
    assert!(!std::env::temp_dir().join(name).exists() && !Path::new("/").join(name).exists());
}

fn script_package(site: &Site, script: &str) -> PathBuf {
    let zip = Zip::new(site, "labels.pkg.zip");
    let zip = zip.fixture("train_single.zip", "", &["train-script.sh"]);
    zip.file("train-script.sh", script.as_bytes()).finish()
}

#[test]
fn a_corrupt_zip() {
    let site = Site::new();
    let folder = site.folder("zip");
    let (whole, cut) = (fs::read(fixture("train_single.zip")).unwrap(), folder.join("cut.zip"));
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    refused(&site, &cut, UNUSABLE, &["cut.zip", "zip"]);
}

#[test]
fn a_zip_whose_content_is_damaged() {
    let site = Site::new();
    let path = site.folder("zip").join("damaged.zip");
    let mut bytes = fs::read(fixture("train_single.zip")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    refused(&site, &path, UNUSABLE, &["damaged.zip"]);
}

#[test]
fn a_package_without_a_script() {
    let site = Site::new();
    let zip = Zip::new(&site, "p.zip").fixture("train_single.zip", "", &["train-script.sh"]);
    refused(&site, &zip.finish(), UNUSABLE, &["train-script.sh"]);
}

#[test]
fn a_script_without_a_trainer_line() {
    let site = Site::new();
    let package = script_package(&site, "#!/bin/bash\necho hello\n");
    refused(&site, &package, UNUSABLE, &["train-script.sh"]);
}

#[test]
fn a_script_is_never_handed_to_a_shell() {
    let site = Site::new();
    let package = script_package(
        &site,
        "#!/bin/bash\ntouch /tmp/sleap-rtc-e2e-owned\n\
         sleap-nn train --config-name single_instance.yaml --config-dir . \
         trainer_config.run_name=$(touch${IFS}sleap-rtc-e2e-owned)\n",
    );
    let server = site.server();
    let worker = site.worker(&server);
    site.client(&server).train(&package).auto(worker.credentials()).run();
    worker.wait_idle(&site, &server);
    assert_nothing_named(&site, "sleap-rtc-e2e-owned");
}

#[test]
fn a_config_that_the_package_lacks() {
    let site = Site::new();
    let script = "sleap-nn train --config-name nowhere.yaml --config-dir .\n";
    refused(&site, &script_package(&site, script), UNUSABLE, &["nowhere.yaml"]);
}

#[test]
fn a_config_name_that_leaves_the_package() {
    let site = Site::new();
    let script = "sleap-nn train --config-name ../../x.yaml --config-dir .\n";
    refused(&site, &script_package(&site, script), UNUSABLE, &["x.yaml"]);
}

#[test]
fn a_run_name_that_leaves_the_folder() {
    let site = Site::new();
    let script = "sleap-nn train --config-name single_instance.yaml --config-dir . \
                  trainer_config.ckpt_dir=../../.. trainer_config.run_name=../../escaped-run\n";
    let package = script_package(&site, script);
    let server = site.server();
    let worker = site.worker(&server);
    let client = site.client(&server).train(&package).auto(worker.credentials());
    let homes = [worker.state_dir(), client.output()];
    client.run_within(SECONDS);
    worker.wait_idle(&site, &server);
    for file in files_below(site.path()).iter().filter(|file| file.ends_with("best.ckpt")) {
        let path = site.path().join(file);
        assert!(homes.iter().any(|home| path.starts_with(home)), "{} was written", path.display());
    }
}

#[test]
fn a_trainer_that_is_not_installed() {
    let site = Site::new();
    let server = site.server();
    let empty = site.folder("empty");
    let worker = TestWorker::setup(&site, "worker").trainers_in(&empty).start(&server);
    let client = || site.client(&server).train(&fixture("train_single.zip"));
    let named = client().session(worker.credentials()).run_within(SECONDS);
    named.assert_code(REFUSED).assert_says(&["sleap-nn"]);
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_properties(worker.peer_id(), "the problem", |seen| {
        seen["problems-by-part"]["training"].is_string()
    });
    let chosen = client().auto(worker.credentials()).run_within(SECONDS);
    chosen.assert_code(NO_WORKER).assert_says(&["sleap-nn"]);
    worker.wait_idle(&site, &server);
}

#[test]
fn a_trainer_that_fails() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_FAIL_EPOCH", "1");
    let worker = setup.start(&server);
    let package = fixture("train_topdown.zip");
    refused_by(&site, &server, &worker, &package, JOB_FAILED, &["centroid", "1"]);
    assert_eq!(worker.trainer_starts().len(), 1, "the second model is not tried");
}

#[test]
fn a_trainer_that_is_killed() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_KILL_EPOCH", "1");
    let worker = setup.start(&server);
    let package = fixture("train_single.zip");
    refused_by(&site, &server, &worker, &package, JOB_FAILED, &["killed", "memory"]);
}

#[test]
fn a_trainer_that_runs_out_of_gpu_memory() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_OOM_EPOCH", "1");
    let worker = setup.start(&server);
    refused_by(&site, &server, &worker, &fixture("train_single.zip"), JOB_FAILED, &["memory"]);
}

#[test]
fn an_old_package_names_the_version_it_needs() {
    let site = Site::new();
    let zip = Zip::new(&site, "old.zip");
    let zip = zip.file("centroid.json", b"{}").file("labels.pkg.slp", SIGNATURE);
    let zip = zip.file("train-script.sh", b"sleap-train centroid.json labels.pkg.slp\n");
    refused(&site, &zip.finish(), JOB_FAILED, &["sleap-train", "1.5"]);
}

#[test]
fn names_in_the_zip_that_leave_the_folder() {
    for name in ["../../escaped", "/tmp/escaped", "a/../../escaped", r"..\..\escaped"] {
        let site = Site::new();
        let zip = Zip::new(&site, "p.zip").fixture("train_single.zip", "", &[]);
        refused(&site, &zip.file(name, b"boo").finish(), UNUSABLE, &["escaped"]);
        assert_nothing_named(&site, "escaped");
    }
}

#[test]
fn a_zip_that_unpacks_to_a_hundred_times_its_size() {
    let site = Site::new();
    let zip = Zip::new(&site, "bomb.zip").fixture("train_single.zip", "", &[]);
    let package = zip.stream("zeros.bin", repeat(0), 512 << 20, true).finish();
    assert!(fs::metadata(&package).unwrap().len() * 100 < 512 << 20);
    refused(&site, &package, UNUSABLE, &["bomb.zip"]);
}

#[test]
fn a_link_in_a_folder_package_that_leaves_it() {
    let site = Site::new();
    let folder = unpacked(&site, "train_single.zip");
    let secret = site.folder("secret").join("escaped-secret");
    fs::write(&secret, "secret content").unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("link.txt")).unwrap();
    let server = site.server();
    let worker = site.worker(&server);
    site.client(&server).train(&folder).auto(worker.credentials()).run_within(SECONDS);
    worker.wait_idle(&site, &server);
    for file in files_below(&worker.state_dir()) {
        let content = fs::read(worker.state_dir().join(&file)).unwrap_or_default();
        let leaked = content.windows(14).any(|window| window == b"secret content");
        assert!(!leaked, "{} holds what lies outside the package", file.display());
    }
}

#[test]
fn a_package_above_the_workers_limit() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("max_package = \"1 MiB\"\n");
    let worker = setup.start(&server);
    let package = large_package(&site, 2_000_000);
    refused_by(&site, &server, &worker, &package, TRANSFER_FAILED, &["max_package"]);
}

#[test]
fn a_pipe_in_the_packages_place_is_refused_at_once() {
    let site = Site::new();
    let server = site.server();
    let worker = site.worker(&server);
    let pipe = site.path().join("package.zip");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let client = site.client(&server).train(&pipe).session(worker.credentials());
    client.run().assert_code(2).assert_says(&["neither a file nor a folder"]);
}
