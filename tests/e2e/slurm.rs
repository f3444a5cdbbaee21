//! A worker that hands its jobs to Slurm: a real one, with nodes that are processes of this machine.

use crate::support::*;
use rustix::process::{Pid, Signal};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A worker of a cluster with two nodes of two GPUs each.
struct Lab {
    home: PathBuf,
    worker: Option<TestWorker>,
    server: TestServer,
    slurm: TestSlurm,
    site: Site,
}

/// Slow enough that a test can act while it trains.
const SLOW: &[(&str, &str)] =
    &[("FAKE_SLEAP_BATCH_S", "0.3"), ("FAKE_SLEAP_STEPS", "4"), ("FAKE_SLEAP_EPOCHS", "6")];
/// Until a test ends it.
const ENDLESS: &[(&str, &str)] =
    &[("FAKE_SLEAP_BATCH_S", "0.2"), ("FAKE_SLEAP_STEPS", "2"), ("FAKE_SLEAP_EPOCHS", "100000")];
/// How long a job that Slurm has lost shows no life before it counts as interrupted.
const LOST: Duration = Duration::from_secs(90);

impl Lab {
    /// `None` where Slurm is not installed.
    fn new(knobs: &[(&str, &str)], slurm: &str) -> Option<Self> {
        let site = Site::new();
        let setup = TestWorker::setup(&site, "login");
        let cluster = TestSlurm::start(&site, 2)?;
        Some(Self::of(site, cluster, setup, knobs, slurm))
    }

    /// The same, where the nodes share neither locks nor sockets with the worker.
    fn with_two_mounts(knobs: &[(&str, &str)], slurm: &str) -> Option<Self> {
        let site = Site::new();
        let setup = TestWorker::setup(&site, "login");
        let mounts = TwoMounts::at(&site, setup.home())?;
        let cluster = TestSlurm::start_with(&site, 2, Some(mounts))?;
        Some(Self::of(site, cluster, setup, knobs, slurm))
    }

    /// The same as [`Self::new`], with the trainers of this folder.
    fn with_trainers_in(folder: &Path) -> Option<Self> {
        let site = Site::new();
        let setup = TestWorker::setup(&site, "login").trainers_in(folder);
        let cluster = TestSlurm::start(&site, 2)?;
        Some(Self::of(site, cluster, setup, &[], ""))
    }

    fn of(
        site: Site,
        cluster: TestSlurm,
        setup: WorkerSetup,
        knobs: &[(&str, &str)],
        slurm: &str,
    ) -> Self {
        let server = site.server();
        let mut setup = setup.config(&format!(
            "executor = \"slurm\"\nslots = 4\nslurm = {{ ask_every = \"1 s\", gres = \"gpu:1\"{slurm} }}\n"
        ));
        setup = setup.env("SLURM_CONF", cluster.conf().to_str().unwrap());
        for (name, value) in knobs {
            setup = setup.env(name, value);
        }
        let (worker, home) = (Some(setup.start(&server)), site.folder("laptop"));
        Self { home, worker, server, slurm: cluster, site }
    }

    fn worker(&self) -> &TestWorker {
        self.worker.as_ref().unwrap()
    }

    fn client(&self) -> TestClient {
        let client = self.site.client(&self.server).in_home(&self.home);
        client.train(&fixture("train_single.zip")).session(self.worker().credentials())
    }

    /// Another command of the same user about the job.
    fn command(&self, verb: &str, job: &Path) -> Ended {
        let id = job.file_name().unwrap().to_str().unwrap();
        self.site.client(&self.server).in_home(&self.home).arguments(&[verb, id]).run()
    }

    fn restart(&mut self) {
        self.worker = self.worker.take().map(|worker| worker.start_again(""));
    }

    /// The folder of a job that has not ended, once there is one.
    fn next_job(&self) -> PathBuf {
        let jobs = self.worker().state_dir().join("jobs");
        wait_for("a job", SOON, || {
            let all = self.worker().jobs();
            let job = all.iter().find(|job| job["state"]["state"] != "finished")?;
            Some(jobs.join(job["spec"]["id"].as_str()?))
        })
    }

    /// The folder of the job, once there is one.
    fn job(&self) -> PathBuf {
        let jobs = self.worker().state_dir().join("jobs");
        wait_for("a job", SOON, || {
            let job = self.worker().jobs().pop()?;
            Some(jobs.join(job["spec"]["id"].as_str()?))
        })
    }

    /// A client whose training has ended an epoch on a node, and the job's folder.
    fn training(&self) -> (Process, PathBuf) {
        let client = self.client().start();
        let job = self.job();
        wait_event(&job, "\"epoch_end\"");
        (client, job)
    }

    /// Fails unless the job has ended once, its events have no gap, and nothing of it is left.
    fn assert_over(&self, job: &Path, outcome: &str) {
        wait_event(job, "\"finished\"");
        let text = events(job);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (number, line) in (1..).zip(&lines) {
            assert_eq!(line["seq"], number, "{text}");
        }
        let ends: Vec<_> = lines.iter().filter(|line| line["event"] == "finished").collect();
        assert_eq!(ends.len(), 1, "{text}");
        assert_eq!(ends[0]["outcome"]["outcome"], outcome, "{text}");
        self.slurm.wait_empty();
        let mut observer = Observer::join(&self.server, self.worker().credentials());
        observer.wait_properties(self.worker().peer_id(), "all slots to be free", |properties| {
            properties["slots_free"] == 4
        });
    }
}

fn events(job: &Path) -> String {
    std::fs::read_to_string(job.join("events.jsonl")).unwrap_or_default()
}

/// The job's name in Slurm.
fn name(job: &Path) -> String {
    format!("sleap-rtc-{}", job.file_name().unwrap().to_str().unwrap())
}

fn wait_event(job: &Path, word: &str) {
    wait_for(word, LOST, || events(job).contains(word).then_some(()));
}

fn has_model(folder: &Path) -> bool {
    files_below(folder).iter().any(|file| file.ends_with("best.ckpt"))
}

#[test]
fn a_training_runs_on_a_node_and_looks_like_any_other() {
    let Some(lab) = Lab::new(&[], "") else { return };
    let client = lab.client();
    let output = client.output();
    let ended = client.run();
    ended.assert_code(0).assert_says(&["Epoch 1"]);
    assert!(has_model(&output), "{:?}", files_below(&output));
    lab.assert_over(&lab.job(), "succeeded");
    // Slurm chose the GPU.
    let starts = lab.worker().trainer_starts();
    assert_eq!(starts[0]["cuda"]["CUDA_VISIBLE_DEVICES"], "0", "{starts:?}");
}

#[test]
fn a_tracking_runs_on_a_node_and_its_predictions_come_back() {
    let Some(lab) = Lab::new(&[], "") else { return };
    let client = lab.site.client(&lab.server).in_home(&lab.home).track_fixture(&lab.site);
    let client = client.session(lab.worker().credentials());
    let predictions = client.predictions();
    client.run().assert_code(0);
    assert!(predictions.is_file(), "no {}", predictions.display());
    lab.assert_over(&lab.job(), "succeeded");
    let starts = lab.worker().trainer_starts();
    assert_eq!(starts[0]["cuda"]["CUDA_VISIBLE_DEVICES"], "0", "{starts:?}");
}

/// On a node, `module load` may take longer than the whole training: Slurm says that the job runs, and it has not
/// begun.
#[test]
fn a_job_whose_environment_takes_long_to_load_is_followed() {
    let path = format!("PATH={}:$PATH", stand_in().display());
    let slurm = format!(", environment = [\"sleep 4\", {path:?}]");
    let Some(lab) = Lab::new(&[], &slurm) else { return };
    lab.client().run().assert_code(0).assert_says(&["Epoch 1"]);
    lab.assert_over(&lab.job(), "succeeded");
}

#[test]
fn two_jobs_run_at_once_on_different_gpus() {
    let Some(lab) = Lab::new(SLOW, ", options = { nodelist = \"node1\" }") else { return };
    let clients = [lab.client().start(), lab.client().start()];
    for mut client in clients {
        assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    }
    let starts = lab.worker().trainer_starts();
    let mut gpus: Vec<_> =
        starts.iter().map(|s| s["cuda"]["CUDA_VISIBLE_DEVICES"].as_str()).collect();
    gpus.sort();
    assert_eq!(gpus, [Some("0"), Some("1")]);
}

#[test]
fn a_trainer_that_fails_says_why() {
    let Some(lab) = Lab::new(&[("FAKE_SLEAP_FAIL_EPOCH", "1")], "") else { return };
    lab.client().run().assert_code(6).assert_says(&["fake failure in training"]);
    lab.assert_over(&lab.job(), "failed");
}

#[test]
fn a_job_that_waits_shows_slurms_reason_and_is_cancelled() {
    let Some(lab) = Lab::new(&[], "") else { return };
    lab.slurm.occupy();
    let mut client = lab.client().start();
    client.wait_stderr("Slurm's reason", SOON, |text| {
        let is_shown = ["Submitted by", "waits in Slurm's queue: Resources"];
        is_shown.iter().all(|words| text.contains(words)).then_some(())
    });
    let job = lab.job();
    lab.command("cancel", &job).assert_code(0);
    assert_ne!(client.wait(SOON), 0, "{}", client.transcript());
    wait_event(&job, "\"finished\"");
    lab.slurm.free();
    lab.assert_over(&job, "cancelled");
    assert!(lab.worker().trainer_starts().is_empty());
}

#[test]
fn a_job_that_never_starts_says_so_at_once() {
    let Some(lab) = Lab::new(&[], ", partition = \"short\", time_limit = \"1 h\"") else { return };
    let mut client = lab.client().start();
    client.wait_stderr("the reason", SOON, |text| {
        (text.contains("PartitionTimeLimit") && text.contains("never starts")).then_some(())
    });
}

#[test]
fn what_slurm_refuses_reaches_the_user() {
    let Some(lab) = Lab::new(&[], ", partition = \"absent\"") else { return };
    let ended = lab.client().run();
    ended.assert_says(&["invalid partition"]);
    assert_ne!(ended.code, 0);
    assert!(lab.worker().jobs().is_empty(), "its folder is gone");
}

#[test]
fn a_running_job_is_cancelled() {
    let Some(lab) = Lab::new(ENDLESS, "") else { return };
    let (mut client, job) = lab.training();
    lab.command("cancel", &job).assert_code(0);
    assert_ne!(client.wait(SOON), 0, "{}", client.transcript());
    lab.assert_over(&job, "cancelled");
    assert!(!has_model(&job.join("results")));
}

#[test]
fn a_running_job_stops_early_and_keeps_its_model() {
    let Some(lab) = Lab::new(ENDLESS, "") else { return };
    let (mut client, job) = lab.training();
    lab.command("stop", &job).assert_code(0);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    lab.assert_over(&job, "stopped-early");
    assert!(has_model(&job.join("results")));
}

/// The warning that Slurm sends before a time limit, at another time.
#[test]
fn the_warning_of_a_time_limit_keeps_the_model() {
    let Some(lab) = Lab::new(ENDLESS, ", time_limit = \"1 h\"") else { return };
    let (mut client, job) = lab.training();
    lab.slurm.ask("scancel", &["--batch", "--signal=USR2", "--name", &name(&job)]);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    lab.assert_over(&job, "stopped-early");
    assert!(events(&job).contains("the cluster's time limit ends this job"));
    assert!(has_model(&job.join("results")));
}

#[test]
fn an_administrators_scancel_interrupts_a_job_and_keeps_what_it_saved() {
    let Some(lab) = Lab::new(ENDLESS, "") else { return };
    let (mut client, job) = lab.training();
    lab.slurm.ask("scancel", &["--name", &name(&job)]);
    assert_eq!(client.wait(A_WHILE), 6, "{}", client.transcript());
    lab.assert_over(&job, "interrupted");
    assert!(has_model(&job.join("results")));
}

#[test]
fn a_requeued_job_is_interrupted_and_does_not_run_again() {
    let Some(lab) = Lab::new(ENDLESS, "") else { return };
    let (mut client, job) = lab.training();
    let number = lab.slurm.ask("squeue", &["--noheader", "--format=%i", "--name", &name(&job)]);
    lab.slurm.ask("scontrol", &["update", &format!("jobid={}", number.trim()), "requeue=1"]);
    lab.slurm.ask("scontrol", &["requeue", number.trim()]);
    assert_eq!(client.wait(A_WHILE), 6, "{}", client.transcript());
    lab.assert_over(&job, "interrupted");
    assert_eq!(lab.worker().trainer_starts().len(), 1);
    assert!(has_model(&job.join("results")));
}

#[test]
fn a_worker_is_restarted_while_a_job_waits_and_while_it_runs() {
    let Some(mut lab) = Lab::new(SLOW, "") else { return };
    lab.slurm.occupy();
    let mut client = lab.client().start();
    client.wait_stderr("Slurm's reason", SOON, |text| text.contains("Resources").then_some(()));
    let job = lab.job();
    lab.restart();
    lab.slurm.free();
    wait_event(&job, "\"epoch_end\"");
    lab.restart();
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    lab.assert_over(&job, "succeeded");
    assert_eq!(lab.worker().trainer_starts().len(), 1);
}

#[test]
fn a_worker_without_slurm_keeps_its_jobs_in_the_cluster() {
    let Some(mut lab) = Lab::new(SLOW, "") else { return };
    let (mut client, job) = lab.training();
    let worker =
        lab.worker.take().unwrap().with_config("executor = \"slurm\"", "executor = \"local\"");
    lab.worker = Some(worker);
    assert_eq!(client.wait(A_WHILE), 0, "{}", client.transcript());
    wait_event(&job, "\"finished\"");
    assert_eq!(lab.worker().trainer_starts().len(), 1);
}

#[test]
fn a_node_that_fails_interrupts_its_job_and_keeps_what_it_saved() {
    let Some(lab) = Lab::new(ENDLESS, ", lost_after = \"15 s\"") else { return };
    let (mut client, job) = lab.training();
    let node = lab.slurm.ask("squeue", &["--noheader", "--format=%N", "--name", &name(&job)]);
    lab.slurm.kill_node(node.trim().trim_start_matches("node").parse().unwrap());
    assert_eq!(client.wait(LOST), 6, "{}", client.transcript());
    lab.assert_over(&job, "interrupted");
    assert!(has_model(&job.join("results")));
}

/// Slurm saves its state every few seconds, and forgets what it was told since.
#[test]
fn a_controller_that_crashes_after_a_submission_costs_no_history() {
    let Some(lab) = Lab::new(SLOW, ", lost_after = \"30 s\"") else { return };
    let mut client = lab.client().start();
    let job = lab.job();
    wait_event(&job, "\"run-started\"");
    lab.slurm.kill_controller();
    lab.slurm.start_controller();
    let code = client.wait(LOST);
    // The job continues, or Slurm has ended it and may have started it a second time.
    let outcome = if code == 0 { "succeeded" } else { "interrupted" };
    lab.assert_over(&job, outcome);
    assert_eq!(lab.worker().trainer_starts().len(), 1);
}

/// Ten rounds; `SLEAP_RTC_SLURM_ROUNDS` sets another number. Each kills the worker, and each fourth one the
/// job.
#[test]
#[ignore = "takes minutes, and needs root, FUSE and bindfs"]
fn on_two_mounts_there_is_one_writer_and_no_result_is_lost() {
    let rounds = std::env::var("SLEAP_RTC_SLURM_ROUNDS").ok().and_then(|text| text.parse().ok());
    let Some(mut lab) = Lab::with_two_mounts(SLOW, "") else { return };
    for round in 0..rounds.unwrap_or(10_u64) {
        let mut client = lab.client().start();
        let job = lab.next_job();
        // At another moment in each round: before, at and after the job's begin.
        std::thread::sleep(Duration::from_millis(round * 397 % 4000));
        lab.restart();
        let outcome = if round % 4 == 3 { "interrupted" } else { "succeeded" };
        if outcome == "interrupted" {
            wait_event(&job, "\"epoch_end\"");
            kill_process(&job);
        }
        let code = client.wait(A_WHILE);
        assert_eq!(code == 0, outcome == "succeeded", "round {round}: {}", client.transcript());
        lab.assert_over(&job, outcome);
        assert!(has_model(&job.join("results")), "round {round}");
        let starts = lab.worker().trainer_starts().len() as u64;
        assert_eq!(starts, round + 1, "each job has trained once");
        println!("round {round}: {outcome}, {} events", events(&job).lines().count());
    }
}

/// Kills the job's process, which cannot say anything any more.
fn kill_process(job: &Path) {
    let record = std::fs::read(job.join("job.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let pid = record["state"]["pid"].as_i64().unwrap() as i32;
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Slurm's own warning, which comes two or three minutes before the limit of ten.
#[test]
#[ignore = "takes eight minutes"]
fn a_time_limit_ends_a_training_early() {
    let Some(lab) = Lab::new(ENDLESS, ", time_limit = \"10 min\"") else { return };
    let (mut client, job) = lab.training();
    assert_eq!(client.wait(Duration::from_secs(720)), 0, "{}", client.transcript());
    lab.assert_over(&job, "stopped-early");
    assert!(events(&job).contains("the cluster's time limit ends this job"));
    assert!(has_model(&job.join("results")));
}

#[test]
#[ignore = "needs a real sleap-nn, named by SLEAP_NN"]
fn real_sleap_nn_trains_on_a_node() {
    let program = std::env::var("SLEAP_NN").expect("SLEAP_NN names the program");
    let Some(lab) = Lab::with_trainers_in(Path::new(&program).parent().unwrap()) else { return };
    let client = lab.client();
    let output = client.output();
    let ended = client.run_within(Duration::from_secs(600));
    ended.assert_code(0);
    assert!(has_model(&output), "{:?}", files_below(&output));
    let job = lab.job();
    lab.assert_over(&job, "succeeded");
    let epochs = events(&job).matches("\"epoch_end\"").count();
    assert!(epochs > 0, "{}", events(&job));
    println!(
        "{program}: {epochs} epochs on a node in {:?}: {:?}",
        ended.took,
        files_below(&output)
    );
}
