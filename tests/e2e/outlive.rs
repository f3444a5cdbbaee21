//! Jobs outlive their worker: it is killed, restarted or asked to end, or the machine goes down.

use crate::support::*;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A worker whose training takes a while, and a client's data folder.
struct Lab {
    site: Site,
    server: TestServer,
    worker: Option<TestWorker>,
    data: PathBuf,
}

impl Lab {
    fn new(batch_s: &str, arguments: &[&str]) -> Self {
        let site = Site::new();
        let server = site.server();
        let setup = TestWorker::setup(&site, "worker").env("FAKE_SLEAP_BATCH_S", batch_s);
        let setup = setup.env("FAKE_SLEAP_STEPS", "4").env("FAKE_SLEAP_EPOCHS", "6");
        let worker = Some(setup.arguments(arguments).start(&server));
        let data = site.folder("data");
        Self { site, server, worker, data }
    }

    fn worker(&self) -> &TestWorker {
        self.worker.as_ref().unwrap()
    }

    fn start_again(&mut self) {
        let worker = self.worker.take().unwrap();
        self.worker = Some(worker.start_again(""));
    }

    fn client(&self) -> TestClient {
        self.site.client(&self.server).env("XDG_DATA_HOME", self.data.to_str().unwrap())
    }

    /// A client whose training has ended its first epoch, and the job's id.
    fn training(&self) -> (Process, String) {
        let client = self.client().train(&fixture("train_single.zip"));
        let client = client.session(self.worker().credentials()).start();
        let job = wait_for("a job", SOON, || {
            let jobs = self.worker().jobs();
            jobs.first().map(|job| job["spec"]["id"].as_str().unwrap().to_owned())
        });
        self.wait_events(&job, "\"epoch_end\"", 1);
        (client, job)
    }

    fn events(&self, job: &str) -> String {
        let path = self.worker().state_dir().join("jobs").join(job).join("events.jsonl");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits until `word` is in this many of the job's events.
    fn wait_events(&self, job: &str, word: &str, count: usize) {
        wait_for(word, SOON, || {
            (self.events(job).lines().filter(|line| line.contains(word)).count() >= count)
                .then_some(())
        });
    }

    fn attach(&self, job: &str) -> Process {
        let output = self.site.folder("back");
        let attach = self.client().arguments(&["attach", job, "--output"]).argument(output);
        attach.start()
    }

    fn local(&self, arguments: &[&str]) -> Ended {
        let state_dir = self.worker().state_dir();
        self.client()
            .arguments(arguments)
            .arguments(&["--local", "--state-dir"])
            .argument(state_dir)
            .run()
    }
}

/// The seconds from the worker's restart until a client prints the words.
fn seen_after(mut client: Process, started: Instant, words: &str) -> (Duration, Process) {
    client.wait_stdout(words, SOON, |text| text.contains(words).then_some(()));
    (started.elapsed(), client)
}

#[test]
fn a_worker_that_was_killed_comes_back_to_its_job() {
    let mut lab = Lab::new("0.4", &[]);
    let (mut client, job) = lab.training();
    client.kill();
    let before = lab.events(&job).lines().count();
    // Kills the worker's whole process group, like a service manager. Jobs are in sessions of their
    // own.
    lab.worker.as_mut().unwrap().kill();
    lab.wait_events(&job, "\"epoch_end\"", 2);
    assert!(lab.events(&job).lines().count() > before, "the job went on meanwhile");
    let started = Instant::now();
    lab.start_again();
    let (took, mut client) = seen_after(lab.attach(&job), started, "Epoch 1 of ");
    println!("attach shows the meantime {} ms after the restart", took.as_millis());
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_eq!(lab.worker().trainer_starts().len(), 1, "the same job, not another");
    lab.worker().wait_idle(&lab.site, &lab.server);
}

/// With the example unit, a restart ends the worker's own process, and nothing that it has started.
#[test]
fn a_restart_leaves_the_job_alone() {
    let unit = include_str!("../../examples/systemd/sleap-rtc-worker.service");
    assert!(unit.lines().any(|line| line == "KillMode=process"));
    let mut lab = Lab::new("0.4", &[]);
    let (mut client, job) = lab.training();
    let trace = StatusTrace::of(&lab.server, lab.worker().credentials());
    let asked = Instant::now();
    assert_eq!(lab.worker.as_mut().unwrap().stop(), 0);
    println!("asked to end, the worker was gone after {} ms", asked.elapsed().as_millis());
    wait_for("deregistration", SOON, || {
        let mut observer = Observer::join(&lab.server, lab.worker().credentials());
        observer.status(lab.worker().peer_id()).is_none().then_some(())
    });
    let seen = trace.finish();
    assert_eq!(seen.last().map(String::as_str), Some("absent"));
    assert!(!seen.contains(&"available".to_owned()), "{seen:?}");
    client.kill();
    lab.wait_events(&job, "\"epoch_end\"", 2);
    lab.start_again();
    let mut client = lab.attach(&job);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_eq!(lab.worker().trainer_starts().len(), 1);
}

#[test]
fn a_worker_that_drains_waits_for_its_job_and_refuses_others() {
    let mut lab = Lab::new("0.2", &["--drain"]);
    let (mut client, _) = lab.training();
    let mut observer = Observer::join(&lab.server, lab.worker().credentials());
    lab.worker().signal(Signal::TERM);
    observer.wait_status(lab.worker().peer_id(), "maintenance", SOON);
    let other = lab.client().train(&fixture("train_single.zip"));
    let other = other.session(lab.worker().credentials()).run_within(SOON);
    other.assert_code(5).assert_says(&["takes no new jobs"]);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    assert_eq!(lab.worker.as_mut().unwrap().wait(), 0);
    lab.site.assert_only_processes(&[lab.server.pid()]);
}

#[test]
fn a_second_signal_ends_a_draining_worker_at_once() {
    let mut lab = Lab::new("1", &["--drain"]);
    let (client, job) = lab.training();
    let mut observer = Observer::join(&lab.server, lab.worker().credentials());
    lab.worker().signal(Signal::TERM);
    observer.wait_status(lab.worker().peer_id(), "maintenance", SOON);
    lab.worker().signal(Signal::TERM);
    assert_eq!(lab.worker.as_mut().unwrap().wait(), 130);
    drop(client);
    // Its job still continues.
    lab.wait_events(&job, "\"epoch_end\"", 2);
}

#[test]
fn a_worker_in_maintenance_takes_no_jobs() {
    for (arguments, config) in [(&["--maintenance"][..], ""), (&[], "maintenance = true\n")] {
        let site = Site::new();
        let server = site.server();
        let setup = TestWorker::setup(&site, "worker").config(config);
        let worker = setup.arguments(arguments).start(&server);
        let mut observer = Observer::join(&server, worker.credentials());
        observer.wait_status(worker.peer_id(), "maintenance", SOON);
        let client = site.client(&server).train(&fixture("train_single.zip"));
        let ended = client.session(worker.credentials()).run_within(SOON);
        ended.assert_code(5).assert_says(&["takes no new jobs"]);
    }
}

/// The process that a file of a job's folder names.
fn process_in(folder: &Path, file: &str, key: &str) -> Pid {
    let json = std::fs::read(folder.join(file)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    Pid::from_raw(json.pointer(key).unwrap().as_i64().unwrap() as i32).unwrap()
}

/// As if the machine went down: no process of the job is left.
fn kill_job(lab: &Lab, folder: &Path) {
    let trainer = process_in(folder, "trainer.json", "/pid");
    kill_process(process_in(folder, "job.json", "/state/pid"), Signal::KILL).unwrap();
    kill_process_group(trainer, Signal::KILL).unwrap();
    lab.site.assert_only_processes(&[lab.server.pid()]);
}

#[test]
fn a_machine_that_shuts_down_interrupts_the_job_and_keeps_what_it_saved() {
    let lab = Lab::new("0.4", &[]);
    let (mut client, job) = lab.training();
    // An orderly shutdown sends SIGTERM to every process, the trainer too.
    let folder = lab.worker().state_dir().join("jobs").join(&job);
    kill_process_group(process_in(&folder, "trainer.json", "/pid"), Signal::TERM).unwrap();
    kill_process(process_in(&folder, "job.json", "/state/pid"), Signal::TERM).unwrap();
    assert_eq!(client.wait(A_WHILE), 6, "{}", client.transcript());
    let said = client.stdout() + &client.stderr();
    assert!(said.contains("interrupted") && !said.contains("cancelled"), "{said}");
    assert!(files_below(&folder.join("results")).iter().any(|file| file.ends_with("best.ckpt")));
    lab.worker().wait_idle(&lab.site, &lab.server);
}

#[test]
fn a_job_whose_process_is_started_again_does_not_train_twice_and_has_its_model() {
    let mut lab = Lab::new("0.4", &[]);
    let (mut client, job) = lab.training();
    client.kill();
    lab.worker.as_mut().unwrap().kill();
    let folder = lab.worker().state_dir().join("jobs").join(&job);
    kill_job(&lab, &folder);

    let again = lab.client().arguments(&["run-job"]).argument(&folder).run();
    again.assert_code(0);
    assert_eq!(lab.worker().trainer_starts().len(), 1);
    assert!(files_below(&folder.join("results")).iter().any(|file| file.ends_with("best.ckpt")));
    assert!(!folder.join("trainer.json").exists());
    let ends = lab.events(&job).lines().filter(|line| line.contains("\"finished\"")).count();
    assert_eq!(ends, 1);
}

#[test]
fn a_job_whose_process_is_gone_was_interrupted_and_what_it_saved_is_there() {
    let mut lab = Lab::new("0.4", &[]);
    let (mut client, job) = lab.training();
    client.kill();
    lab.worker.as_mut().unwrap().kill();
    let folder = lab.worker().state_dir().join("jobs").join(&job);
    kill_job(&lab, &folder);

    lab.start_again();
    let mut observer = Observer::join(&lab.server, lab.worker().credentials());
    observer.wait_status(lab.worker().peer_id(), "available", SOON);
    // It registers before it has checked its jobs.
    wait_for("the interruption", SOON, || {
        let listed = lab.local(&["jobs"]).text();
        (listed.contains(&job) && listed.contains("interrupted, not fetched")).then_some(())
    });
    let attach = lab.client().arguments(&["attach", &job]).run();
    attach.assert_code(6).assert_says(&["interrupted", "fetch"]);
    let output = lab.site.folder("saved");
    let fetch = lab.client().arguments(&["fetch", &job, "--output"]).argument(&output).run();
    fetch.assert_code(0).assert_says(&["interrupted", "What was saved is in"]);
    assert!(files_below(&output).iter().any(|file| file.ends_with("best.ckpt")));
    lab.local(&["jobs"]).assert_says(&["interrupted, fetched"]);
    // It has one outcome, and takes no slot.
    let ends = lab.events(&job).lines().filter(|line| line.contains("\"finished\"")).count();
    assert_eq!(ends, 1);
}

#[test]
fn on_the_workers_own_machine_every_result_can_be_fetched() {
    let lab = Lab::new("0.02", &[]);
    lab.local(&["jobs"]).assert_code(0).assert_says(&["no jobs in"]);
    let (mut client, job) = lab.training();
    client.kill();
    lab.worker().wait_idle(&lab.site, &lab.server);
    let folder = lab.worker().state_dir().join("jobs").join(&job);
    let listed = lab.local(&["jobs"]);
    listed.assert_says(&[&job, "succeeded, not fetched", folder.to_str().unwrap()]);
    assert!(lab.worker().log().contains(folder.to_str().unwrap()), "the log names the folder");
    for name in ["first", "second"] {
        let output = lab.site.folder(name);
        let output = output.to_str().unwrap();
        lab.local(&["fetch", &job, "--output", output]).assert_code(0).assert_says(&["Done"]);
        assert!(files_below(output.as_ref()).iter().any(|file| file.ends_with("best.ckpt")));
    }
    lab.local(&["fetch", "job-other"]).assert_code(2).assert_says(&["no job job-other"]);
}

#[test]
fn results_are_removed_when_their_time_is_over() {
    let site = Site::new();
    let server = site.server();
    let setup = TestWorker::setup(&site, "worker").config("keep_unfetched = \"1 s\"\n");
    let worker = setup.config("keep_results = \"0 s\"\n").start(&server);
    let train = || site.client(&server).train(&fixture("train_single.zip"));
    // Fetched: it is removed once its client has left, at the latest when the next job has
    // finished.
    train().session(worker.credentials()).run().assert_code(0);
    let first = worker.jobs()[0]["spec"]["id"].clone();
    worker.wait_idle(&site, &server);
    train().session(worker.credentials()).run().assert_code(0);
    wait_for("the first job to go", SOON, || {
        worker.jobs().iter().all(|job| job["spec"]["id"] != first).then_some(())
    });
}
