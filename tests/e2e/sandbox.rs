//! Hostile code in a job, for example from a checkpoint: what it can reach, use and leave behind.
//!
//! The trainer of these tests is `tests/hostile-job/sleap-nn`. It tries each deed and reports
//! whether it was prevented. Without a sandbox most deeds succeed, so the tests can fail.

use crate::support::*;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Deeds that only a sandbox prevents, even for root.
const DEEDS: usize = 20;

fn hostile() -> PathBuf {
    tests_folder().join("hostile-job")
}

/// A worker with a hostile trainer, and files around it that the trainer must not reach.
struct Lab {
    site: Site,
    server: TestServer,
    worker: TestWorker,
    /// Removed on drop.
    _shared_temporary: tempfile::TempDir,
}

impl Lab {
    fn new(config: &str, deed: &str) -> Self {
        let site = Site::new();
        let server = site.server();
        let setup = TestWorker::setup(&site, "worker").trainers_in(&hostile());
        let home = setup.home().to_owned();
        let other = home.join("state/jobs/job-other");
        for folder in ["files", "results"] {
            fs::create_dir_all(other.join(folder)).unwrap();
        }
        fs::write(other.join("job.json"), "another job's secret").unwrap();
        fs::write(home.join("private"), "a key").unwrap();
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("note"), "somebody's").unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let worker = setup
            .config(config)
            .env("FAKE_SLEAP_STATE", &path(&home.join("state")))
            .env("FAKE_SLEAP_HOME", &path(&home))
            .env("FAKE_SLEAP_TEMPORARY", &path(temporary.path()))
            .env("FAKE_SLEAP_OTHER_JOB", "job-other")
            .env("FAKE_SLEAP_DEED", deed)
            .env("MY_SECRET", "secret")
            .start(&server);
        Self { site, server, worker, _shared_temporary: temporary }
    }

    fn train(&self) -> Ended {
        let client = self.site.client(&self.server).train(&fixture("train_single.zip"));
        client.session(self.worker.credentials()).run()
    }
}

fn lines<'a>(ended: &'a Ended, start: &str) -> Vec<&'a str> {
    ended
        .stdout
        .lines()
        .chain(ended.stderr.lines())
        .filter(|line| line.starts_with(start))
        .collect()
}

/// Whether this kernel can confine processes. Prints a line if not.
fn has_landlock() -> bool {
    let site = Site::new();
    let doctor = site.client(&site.server()).arguments(&["doctor", "--worker"]).run();
    let has = doctor.text().contains("Landlock, version");
    if !has {
        println!("not tested: this kernel has no Landlock");
    }
    has
}

fn assert_all_held(ended: &Ended) {
    ended.assert_code(0);
    assert_eq!(lines(ended, "REACHED"), [""; 0], "{}", ended.text());
    assert!(lines(ended, "HELD").len() >= DEEDS, "{}", ended.text());
    assert_eq!(lines(ended, "ALLOWED").len(), 1, "{}", ended.text());
}

#[test]
fn code_in_a_job_reaches_nothing_but_its_own() {
    if !has_landlock() {
        return;
    }
    let lab = Lab::new("", "all");
    assert!(lab.worker.log().contains("jobs run in a sandbox"), "{}", lab.worker.log());
    let mut observer = Observer::join(&lab.server, lab.worker.credentials());
    observer
        .wait_properties(lab.worker.peer_id(), "the sandbox", |seen| seen["sandbox"] == "landlock");
    assert_all_held(&lab.train());
    // Two sessions of its own, and a child that holds its pipes. None outlives the job.
    lab.worker.wait_idle(&lab.site, &lab.server);
}

/// A trainer that starts another program from a path in a file beside it. It first tries to read
/// the worker's identity.
const FRONT: &str = r#"#!/usr/bin/env python3
import os, sys
here = os.path.dirname(os.path.realpath(__file__))
try:
    open(os.environ["FAKE_SLEAP_STATE"] + "/identity.json").read()
    print("REACHED the identity", flush=True)
except PermissionError:
    print("HELD the identity", flush=True)
program = open(here + "/behind").read()
os.execv(program, [program, *sys.argv[1:]])
"#;

#[test]
fn a_trainer_that_needs_more_than_the_list_gets_it_and_no_more() {
    if !has_landlock() {
        return;
    }
    let site = Site::new();
    let server = site.server();
    let tools = site.folder("tools");
    write_program(&tools.join("sleap-nn"), FRONT);
    fs::write(tools.join("behind"), stand_in().join("sleap-nn").to_str().unwrap()).unwrap();
    let setup = TestWorker::setup(&site, "worker").trainers_in(&tools);
    let state = setup.home().join("state");
    let worker = setup.env("FAKE_SLEAP_STATE", state.to_str().unwrap()).start(&server);
    // Submitted at once. The job waits until the worker knows what it may read.
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let ended = client.session(worker.credentials()).run();
    ended.assert_code(0);
    assert_eq!(lines(&ended, "REACHED"), [""; 0], "{}", ended.text());
    assert!(!lines(&ended, "HELD the identity").is_empty(), "{}", ended.text());
    assert!(worker.log().contains("so jobs can read"), "{}", worker.log());
    let mut observer = Observer::join(&server, worker.credentials());
    observer.wait_properties(worker.peer_id(), "the sandbox", |seen| {
        seen["sandbox"].as_str().is_some_and(|word| word.starts_with("landlock-"))
    });
}

#[test]
fn namespaces_hide_the_rest_of_the_machine_as_well() {
    if !has_landlock() || Command::new("bwrap").arg("--version").output().is_err() {
        println!("not tested: this machine has no bubblewrap");
        return;
    }
    let lab = Lab::new("sandbox = \"strict\"\n", "all");
    let mut observer = Observer::join(&lab.server, lab.worker.credentials());
    observer
        .wait_properties(lab.worker.peer_id(), "the sandbox", |seen| seen["sandbox"] == "strict");
    assert_all_held(&lab.train());
    lab.worker.wait_idle(&lab.site, &lab.server);
}

#[test]
fn without_a_sandbox_the_same_code_reaches_most_of_it() {
    let lab = Lab::new("sandbox = \"off\"\n", "all");
    let ended = lab.train();
    ended.assert_code(0);
    assert!(lines(&ended, "REACHED").len() >= DEEDS / 2, "{}", ended.text());
    // The measures that need no sandbox still work.
    for deed in ["command its own job", "write files that others can read", "leave core dumps"] {
        let held = lines(&ended, &format!("HELD {deed}"));
        assert_eq!(held.len(), 1, "{deed}: {}", ended.text());
    }
    assert!(lab.worker.log().contains("the sandbox has a gap"), "{}", lab.worker.log());
    lab.worker.wait_idle(&lab.site, &lab.server);
}

#[test]
fn a_job_that_multiplies_or_takes_all_memory_is_killed_with_a_reason() {
    for (limit, deed, words) in [
        ("processes = 60", "bomb", "processes and threads; the limit is 60"),
        ("memory = \"200 MiB\"", "memory", "of memory; the limit is 200 MiB"),
    ] {
        let lab = Lab::new(&format!("[worker.limits]\n{limit}\n"), deed);
        let ended = lab.train();
        ended.assert_code(6).assert_says(&[words, "[worker.limits]"]);
        lab.worker.wait_idle(&lab.site, &lab.server);
    }
}

#[test]
fn a_jobs_process_that_is_told_to_end_keeps_the_model() {
    let site = Site::new();
    let server = site.server();
    let worker = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_EPOCHS", "100000");
    let worker = worker.env("FAKE_SLEAP_BATCH_S", "0.1").start(&server);
    let client = site.client(&server).train(&fixture("train_single.zip"));
    let mut client = client.session(worker.credentials()).start();
    let process = wait_for("the job's process after an epoch", SOON, || {
        let job = worker.jobs().into_iter().next()?;
        let id = job["spec"]["id"].as_str()?;
        let events = worker.state_dir().join("jobs").join(id).join("events.jsonl");
        let saved = fs::read_to_string(events).unwrap_or_default().contains("\"epoch_end\"");
        job.pointer("/state/pid")?.as_i64().filter(|_| saved)
    });
    kill_process(Pid::from_raw(process as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(client.wait(A_WHILE), 6);
    let said = format!("{}{}", client.stdout(), client.stderr());
    assert!(said.contains("interrupted") && said.contains("sleap-rtc fetch"), "{said}");
    let kept = files_below(&worker.state_dir());
    let is_kept = |file: &PathBuf| file.ends_with("results/single_instance/best.ckpt");
    assert!(kept.iter().any(is_kept), "{kept:?}");
    worker.wait_idle(&site, &server);
}
