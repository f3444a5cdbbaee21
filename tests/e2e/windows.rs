//! The client for Windows, run by Wine, with a server and a worker on this machine.
//!
//! `cargo xtask windows` builds it and runs these. Without it they say so and do nothing.

use crate::reconnect::wait_training;
use crate::resume::{job_of, verified_bytes, wait_verified};
use crate::support::*;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Wine starts slowly, and the program is not optimized.
const LONG: Duration = Duration::from_secs(300);
/// Of the transfers that are interrupted.
const BYTES: u64 = 60_000_000;

/// A server, a worker, and clients on Windows.
struct Lab {
    windows: Windows,
    site: Site,
    server: TestServer,
    worker: TestWorker,
}

impl Lab {
    /// `None` where Windows clients cannot be run.
    fn new(setup: impl FnOnce(&Site) -> WorkerSetup) -> Option<Self> {
        let windows = Windows::find()?;
        let site = Site::new();
        let server = site.server();
        let worker = setup(&site).start(&server);
        Some(Self { windows, site, server, worker })
    }

    fn client(&self) -> TestClient {
        self.site.client(&self.server).on_windows(&self.windows)
    }

    /// A command about a job that this Windows knows.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Ended {
        self.client().arguments(arguments).run_within(LONG)
    }

    #[track_caller]
    fn assert_free(&self) {
        self.worker.wait_idle(&self.site, &self.server);
    }
}

fn quick(site: &Site) -> WorkerSetup {
    TestWorker::setup(site, "worker")
}

fn slow(site: &Site) -> WorkerSetup {
    quick(site).env("FAKE_SLEAP_BATCH_S", "0.5").env("FAKE_SLEAP_STEPS", "40")
}

fn has_model(folder: &Path) -> bool {
    files_below(folder).iter().any(|file| file.ends_with("best.ckpt"))
}

#[test]
fn train_and_track() {
    let Some(lab) = Lab::new(quick) else { return };
    let client = lab.client().train(&fixture("train_single.zip"));
    let (home, output) = (client.home().to_owned(), client.output());
    let ended = client.auto(lab.worker.credentials()).run_within(LONG);
    ended
        .assert_code(0)
        .assert_says(&["Finished training loop", "Done: the trained models are in"]);
    assert!(has_model(&output), "{:?}", files_below(&home));
    let client = lab.client().in_home(&home).track_fixture(&lab.site);
    let predictions = client.predictions();
    client.auto(lab.worker.credentials()).run_within(LONG).assert_code(0);
    assert!(predictions.is_file());
    let job = job_of(&ended.stderr);
    lab.run(&["jobs"]).assert_code(0).assert_says(&[&job]);
    lab.run(&["logs", &job]).assert_code(0).assert_says(&["Finished training loop"]);
    lab.assert_free();
}

#[test]
fn ctrl_c_detaches_and_attach_returns() {
    let Some(lab) = Lab::new(slow) else { return };
    let client = lab.client().train(&fixture("train_single.zip"));
    let output = client.output();
    let mut client = client.auto(lab.worker.credentials()).start();
    wait_training(&mut client);
    client.signal(Signal::INT);
    assert_eq!(client.wait(LONG), 8, "{}", client.transcript());
    let job = job_of(&client.stderr());
    lab.run(&["stop", &job]).assert_code(0);
    lab.run(&["attach", &job]).assert_says(&["Starting training loop"]);
    assert!(has_model(&output));
    lab.assert_free();
}

#[test]
fn what_was_sent_before_a_kill_is_not_sent_again() {
    let Some(lab) = Lab::new(quick) else { return };
    let (labels, models) = (large_labels(&lab.site, BYTES), labels_and_models(&lab.site).1);
    let client = lab.client().track(&labels, &models);
    let (home, predictions) = (client.home().to_owned(), client.predictions());
    let mut client = client.session(lab.worker.credentials()).start();
    wait_verified("the upload", &lab.worker.state_dir(), BYTES / 2);
    client.kill();
    let again = lab.client().in_home(&home).track(&labels, &models);
    let mut client = again.session(lab.worker.credentials()).start();
    wait_verified("the download", &home, BYTES / 2);
    assert!(client.stderr().contains("Resuming the upload of job-"), "{}", client.transcript());
    client.kill();
    assert!(verified_bytes(&home) >= BYTES / 2);
    let job = job_of(&client.stderr());
    lab.run(&["fetch", &job]).assert_code(0);
    assert!(fs::read(&predictions).unwrap() == fs::read(&labels).unwrap(), "another result");
    lab.assert_free();
}

#[test]
fn names_that_windows_refuses_are_written_otherwise() {
    let Some(lab) = Lab::new(quick) else { return };
    // A device, a second stream of a file, dots that Windows drops, and more than 260 characters.
    let long = "long".repeat(62);
    for (run, there) in [
        ("aux", "%61ux"),
        ("12:30", "12%3A30"),
        ("dots..", "dots%2E%2E"),
        ("SLEAP-~1", "SLEAP-%7E1"),
        (&long, &long),
    ] {
        let client = lab.client().train(&package_with_run(&lab.site, run));
        let output = client.output();
        let ended = client.auto(lab.worker.credentials()).run_within(LONG);
        ended.assert_code(0);
        let files = files_below(&output);
        let model = PathBuf::from(there).join("best.ckpt");
        assert!(files.iter().any(|file| file.ends_with(&model)), "{run}: {files:?}");
    }
    lab.assert_free();
}

/// A training package whose run has this name.
fn package_with_run(site: &Site, run: &str) -> PathBuf {
    let script = format!(
        "sleap-nn train --config-name single_instance.yaml --config-dir . \
         trainer_config.ckpt_dir=models 'trainer_config.run_name={run}'\n"
    );
    let zip =
        Zip::new(site, "labels.pkg.zip").fixture("train_single.zip", "", &["train-script.sh"]);
    zip.file("train-script.sh", script.as_bytes()).finish()
}

#[test]
fn offline_commands_and_the_server() {
    let Some(lab) = Lab::new(quick) else { return };
    lab.run(&["--version"]).assert_code(0).assert_says(&["sleap-rtc"]);
    lab.run(&["plugin", "list"]).assert_code(0).assert_says(&["the built-in ones"]);
    let why = lab.client().arguments(&["why", "--job"]).argument(fixture("train_single.zip"));
    why.room(lab.worker.credentials()).run_within(LONG).assert_code(0);
    let server = lab.client().arguments(&["signaling", "--listen", "127.0.0.1:0", "--ephemeral"]);
    let mut server = server.start();
    server.wait_stdout("its address", LONG, |text| text.contains("listening on").then_some(()));
    server.signal(Signal::INT);
    assert_eq!(server.wait(LONG), 0, "{}", server.transcript());
}
