//! Whole jobs, run in this process, with the stand-in trainer.

use super::control::JobCommand;
use super::*;
use sleap_rtc_package::describe_folder;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{
    JobDescription, JobEvent, JobOutcome, JobSpec, JobState, JobType, NumberedEvent,
};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn unpack(name: &str, to: &Path) {
    let file = std::fs::File::open(repository().join("tests/fixtures").join(name)).unwrap();
    zip::ZipArchive::new(file).unwrap().extract(to).unwrap();
}

/// What a client would hand over.
pub fn spec(job_type: JobType) -> JobSpec {
    JobSpec {
        id: JobId::new("job-1").unwrap(),
        secret: JobSecret::new("secret").unwrap(),
        name: "labels".into(),
        description: JobDescription::unknown(job_type),
        shared: None,
        skips_inference: false,
    }
}

/// The folder of a new job below `state`.
pub fn job_folder(state: &Path) -> JobFolder {
    let owner = PeerId::new("someone").unwrap();
    JobFolder::create(state, &spec(JobType::Training), &owner).unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("it took too long")
}

/// A job that is ready to run, and where its trainer is.
struct Job {
    _state: tempfile::TempDir,
    folder: JobFolder,
    settings: RunnerSettings,
}

impl Job {
    fn new(job_type: JobType, fixture: Option<&str>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let owner = PeerId::new("someone").unwrap();
        let folder = JobFolder::create(state.path(), &spec(job_type), &owner).unwrap();
        if let Some(fixture) = fixture {
            unpack(fixture, &folder.files_dir());
        }
        let stand_in = repository().join("tests/stand-in");
        let path = format!("{}:{}", stand_in.display(), std::env::var("PATH").unwrap());
        let settings = RunnerSettings { search_path: Some(path), ..RunnerSettings::default() };
        Self { _state: state, folder, settings }.set("FAKE_SLEAP_START_S", "0.001")
    }

    fn training() -> Self {
        Self::new(JobType::Training, Some("train_topdown.zip"))
    }

    fn single() -> Self {
        Self::new(JobType::Training, Some("train_single.zip"))
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.set_env.insert(name.into(), value.into());
        self
    }

    fn write(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.files_dir().join(name), text).unwrap();
        self
    }

    fn start(&self) -> (JoinHandle<JobOutcome>, CancellationToken) {
        self.settings.write(&self.folder).unwrap();
        let cancel = CancellationToken::new();
        let (path, token) = (self.folder.path().to_owned(), cancel.clone());
        (tokio::spawn(async move { run_job(&path, token).await.unwrap() }), cancel)
    }

    async fn run(&self) -> JobOutcome {
        within(self.start().0).await.unwrap()
    }

    async fn handle(&self) -> JobHandle {
        JobHandle::attach(&self.folder).await.unwrap()
    }

    async fn events(&self) -> Vec<NumberedEvent> {
        let mut stream = self.handle().await.events(0);
        let mut events = Vec::new();
        while let Some(event) = within(stream.next()).await {
            events.push(event);
        }
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
        events
    }

    async fn log(&self) -> String {
        let text = |numbered: NumberedEvent| match numbered.event {
            JobEvent::Log { text } => text,
            _ => String::new(),
        };
        self.events().await.into_iter().map(text).collect()
    }

    fn results(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.results_dir()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        let results = self.folder.results_dir();
        let relative = |path: PathBuf| path.strip_prefix(&results).unwrap().display().to_string();
        let mut found: Vec<String> = found.into_iter().map(relative).collect();
        found.sort();
        found
    }

    fn has_checkpoint(&self, run: &str) -> bool {
        self.results().contains(&format!("{run}/best.ckpt"))
    }
}

/// Waits for the first event that `wanted` accepts.
async fn wait_for(job: &Job, wanted: impl Fn(&JobEvent) -> bool) {
    within(async {
        while matches!(job.folder.record().unwrap().state, JobState::Staging) {
            tokio::task::yield_now().await;
        }
        let mut stream = job.handle().await.events(0);
        while let Some(numbered) = stream.next().await {
            if wanted(&numbered.event) {
                return;
            }
        }
        panic!("the job ended before");
    })
    .await;
}

fn is_progress(event: &JobEvent, what: &str) -> bool {
    matches!(event, JobEvent::Progress { message } if message["event"] == what)
}

/// Waits until a process has gone.
async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    within(async {
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Orphans of a container without an init process stay zombies: they run no more.
fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn failure(outcome: JobOutcome) -> (Option<i32>, String) {
    match outcome {
        JobOutcome::Failed { exit_code, message } => (exit_code, message),
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test]
async fn two_models_are_trained_one_after_the_other() {
    let job = Job::training();
    let (running, _cancel) = job.start();
    wait_for(&job, |event| matches!(event, JobEvent::Staged { .. })).await;
    let events = job.events().await;
    assert_eq!(within(running).await.unwrap(), JobOutcome::Succeeded);
    let landmarks: Vec<JobEvent> = events
        .iter()
        .map(|numbered| numbered.event.clone())
        .filter(|event| !matches!(event, JobEvent::Log { .. } | JobEvent::Progress { .. }))
        .collect();
    let names = ["centroid", "centered_instance"].map(str::to_owned);
    let mut expected = vec![JobEvent::Staged { runs: names.to_vec() }];
    for name in names {
        expected.push(JobEvent::RunStarted { name: name.clone() });
        expected.push(JobEvent::RunEnded { name, outcome: JobOutcome::Succeeded });
    }
    expected.push(JobEvent::Finished { outcome: JobOutcome::Succeeded });
    assert_eq!(landmarks, expected);
    let count = |what| events.iter().filter(|e| is_progress(&e.event, what)).count();
    assert_eq!((count("train_begin"), count("epoch_end"), count("train_end")), (2, 4, 2));
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"), "{:?}", job.results());
    assert!(job.has_checkpoint("240101_000000.centered_instance.n=12"));
    let raw = std::fs::read(job.folder.log_path()).unwrap();
    assert_eq!(job.log().await.into_bytes(), raw, "every byte of the log, \\r and \\n kept");
}

#[tokio::test]
async fn every_dialect_of_the_script_runs() {
    for dialect in ["1.5.0", "1.5.2", "1.6.0", "1.6.6", "sleap-rtc"] {
        let scripts = repository().join("tests/fixtures/scripts");
        let text = std::fs::read_to_string(scripts.join(format!("train-script.{dialect}.sh")));
        let job = Job::training().write("train-script.sh", &text.unwrap());
        assert_eq!(job.run().await, JobOutcome::Succeeded, "{dialect}");
        let models = job.results().iter().filter(|path| path.ends_with("best.ckpt")).count();
        assert_eq!(models, 2, "{dialect}");
    }
}

#[tokio::test]
async fn predictions_come_back_with_progress() {
    for version in ["0.3.5", "0.2.0"] {
        let job = Job::new(JobType::Inference, Some("track_topdown.zip"))
            .set("FAKE_SLEAP_VERSION", version);
        assert_eq!(job.run().await, JobOutcome::Succeeded);
        assert_eq!(job.results(), ["predictions.slp"]);
        let progress = job.events().await.into_iter().rev().find_map(|event| match event.event {
            JobEvent::Progress { message } => Some(message),
            _ => None,
        });
        match version {
            "0.3.5" => assert_eq!(progress.unwrap()["n_processed"], 12),
            _ => assert_eq!(progress, None),
        }
        assert!(job.log().await.contains("Finished inference at"));
    }
}

#[tokio::test]
async fn a_package_in_one_top_folder() {
    let job = Job::new(JobType::Training, None);
    unpack("train_single.zip", &job.folder.files_dir().join("top"));
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
}

#[tokio::test]
async fn a_package_of_the_other_kind_than_claimed() {
    let job = Job::new(JobType::Training, Some("track_topdown.zip"));
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["predictions.slp"]);
    let described = describe_folder(&job.folder.files_dir(), JobType::Training);
    assert_eq!(described.job_type, JobType::Inference);
}

#[tokio::test]
async fn json_configs_run_through_sleap_train() {
    let script = "sleap-train a.json one.pkg.slp\n";
    let job = Job::single().write("train-script.sh", script).write("a.json", "{}");
    let (_, message) = failure(job.run().await);
    assert!(message.contains("SLEAP 1.4.1"), "{message}");

    let mut job = Job::single().write("train-script.sh", script).write("a.json", "{}");
    let programs = tempfile::tempdir().unwrap();
    let stand_in = repository().join("tests/stand-in/sleap-nn");
    std::os::unix::fs::symlink(stand_in, programs.path().join("sleap-train")).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    job.settings.search_path = Some(path);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["a/best_model.h5"]);
}

#[tokio::test]
async fn a_model_that_is_there_already_is_not_taken_for_the_new_one() {
    let job = Job::single();
    let old = job.folder.files_dir().join("models/single_instance");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("best.ckpt"), "old").unwrap();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results().iter().filter(|file| file.ends_with("best.ckpt")).count(), 1);
    let kept = job.folder.results_dir().join("single_instance/best.ckpt");
    assert_ne!(std::fs::read(kept).unwrap(), b"old");
}

#[tokio::test]
async fn failures_name_their_cause() {
    let cases = [
        ("FAKE_SLEAP_FAIL_EPOCH", Some(1), "RuntimeError: fake failure in training"),
        ("FAKE_SLEAP_OOM_EPOCH", Some(1), "smaller batch size"),
        ("FAKE_SLEAP_KILL_EPOCH", None, "SIGKILL"),
    ];
    for (knob, exit_code, expected) in cases {
        let job = Job::training().set(knob, "1");
        let (code, message) = failure(job.run().await);
        assert_eq!(code, exit_code, "{knob}");
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        // The first epoch was saved, and the second model never began.
        assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
        let started = |e: &NumberedEvent| matches!(e.event, JobEvent::RunStarted { .. });
        assert_eq!(job.events().await.iter().filter(|e| started(e)).count(), 1);
    }
}

#[tokio::test]
async fn packages_that_cannot_run_say_why() {
    let script = |text: &str| Job::single().write("train-script.sh", text);
    let mut nothing_installed = Job::single();
    nothing_installed.settings.search_path = Some("/nonexistent".into());
    let cases = [
        (Job::new(JobType::Training, None), "no train-script.sh"),
        (Job::new(JobType::Inference, None), "no track-script.sh"),
        (script("echo hello\n"), "no line that starts a trainer"),
        (script("sleap-nn train gone.yaml\n"), "lacks \"gone.yaml\""),
        (script("sleap-nn train ../x.yaml\n"), "line 1"),
        (nothing_installed, "uv tool install"),
    ];
    for (job, expected) in cases {
        let (_, message) = failure(job.run().await);
        assert!(message.replace("gone.yaml", "\"gone.yaml\"").contains(expected), "{message}");
        assert_eq!(job.results(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn labels_that_are_not_there() {
    let job = Job::single();
    std::fs::remove_file(job.folder.files_dir().join("one.pkg.slp")).unwrap();
    let (code, message) = failure(job.run().await);
    assert_eq!(code, None, "no trainer was started");
    assert!(message.contains("one.pkg.slp"), "{message}");
    assert!(message.contains("single_instance.yaml (data_config.train_labels_path)"), "{message}");
}

#[tokio::test]
async fn a_link_out_of_the_package_is_not_followed() {
    let job = Job::single();
    let config = job.folder.files_dir().join("single_instance.yaml");
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &config).unwrap();
    let (_, message) = failure(job.run().await);
    assert!(message.contains("leads out of the package"), "{message}");
}

#[tokio::test]
async fn one_config_twice_is_two_models() {
    let script = "sleap-nn train single_instance.yaml trainer_config.seed=1 && \
        sleap-nn train single_instance.yaml trainer_config.seed=2\n";
    let job = Job::single().write("train-script.sh", script);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(
        job.has_checkpoint("single_instance.single_instance")
            || job.has_checkpoint("single_instance-2")
    );
}

#[tokio::test]
async fn the_package_predicts_with_the_models_that_it_has_trained() {
    let script = "sleap-nn track -i one.pkg.slp -m models/single_instance -o one.predictions.slp\n";
    let job = Job::single().write("inference-script.sh", script);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(job.results().contains(&"one.predictions.slp".to_owned()), "{:?}", job.results());
}

#[tokio::test]
async fn a_config_that_saves_nothing_is_made_to() {
    let job = Job::single();
    let path = job.folder.files_dir().join("single_instance.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("  save_ckpt: true\n", "")).unwrap();
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
    assert!(job.log().await.contains("save_ckpt is set"));
}

#[tokio::test]
async fn a_prediction_of_no_frame_is_no_success() {
    let job = Job::new(JobType::Inference, Some("track_topdown.zip")).set("FAKE_SLEAP_FRAMES", "0");
    let (_, message) = failure(job.run().await);
    assert!(message.contains("no frame was predicted"), "{message}");
    assert_eq!(job.results(), Vec::<String>::new());
}

#[tokio::test]
async fn an_option_that_the_tracker_does_not_have_is_named() {
    let script =
        "sleap-nn predict -i two.pkg.slp -m models/centroid -o p.slp --tracker bytetrack\n";
    let job = Job::new(JobType::Inference, Some("track_topdown.zip"));
    let job = job.write("track-script.sh", script).set("FAKE_SLEAP_VERSION", "0.2.0");
    let (code, message) = failure(job.run().await);
    assert_eq!(code, None);
    assert!(message.contains("does not know the option --tracker"), "{message}");
}

#[tokio::test]
async fn a_sleap_nn_before_0_3_predicts_under_its_older_name() {
    let job = Job::new(JobType::Inference, Some("track_topdown.zip"));
    let job = job.set("FAKE_SLEAP_VERSION", "0.2.0");
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["predictions.slp"]);
}

#[tokio::test]
async fn what_a_child_of_the_trainer_does_at_the_end_is_waited_for() {
    let mut job = Job::single().set("FAKE_SLEAP_QUIET_S", "4");
    let programs = tempfile::tempdir().unwrap();
    let wrapper = programs.path().join("sleap-nn");
    let stand_in = repository().join("tests/stand-in/sleap-nn");
    std::fs::write(&wrapper, format!("#!/bin/sh\n\"{}\" \"$@\"\n", stand_in.display())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    job.settings.search_path = Some(path);
    job.settings.exit_grace_ms = 2_500;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(!job.log().await.contains("is killed"));
}

#[tokio::test]
async fn models_of_old_sleap_are_found_wherever_the_config_puts_them() {
    let config = r#"{"outputs": {"runs_folder": "/data/models", "run_name": "x"}}"#;
    let mut job = Job::single().write("a.json", config);
    job = job.write("train-script.sh", "sleap-train a.json one.pkg.slp\n");
    let programs = tempfile::tempdir().unwrap();
    let stand_in = repository().join("tests/stand-in/sleap-nn");
    std::os::unix::fs::symlink(stand_in, programs.path().join("sleap-train")).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    job.settings.search_path = Some(path);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert_eq!(job.results(), ["x/best_model.h5"]);
}

#[tokio::test]
async fn a_trainer_that_hangs_after_its_work_has_succeeded() {
    let mut job = Job::single().set("FAKE_SLEAP_HANG_AT_EXIT", "1");
    job.settings.exit_grace_ms = 300;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    assert!(job.has_checkpoint("single_instance"));
}

#[tokio::test]
async fn noise_that_nobody_listens_to_does_not_stop_a_training() {
    let mut job = Job::single().set("FAKE_SLEAP_NOISE", "2000");
    job.settings.log_limit_bytes = 500_000;
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
    assert!(size(job.folder.log_path()) < 600_000);
    assert!(size(job.folder.events_path()) < 800_000);
    assert!(job.log().await.contains("The log has reached its limit"));
}

#[tokio::test]
async fn cancel_leaves_no_process() {
    let child = tempfile::NamedTempFile::new().unwrap();
    let mut job = Job::training()
        .set("FAKE_SLEAP_EPOCHS", "100000")
        .set("FAKE_SLEAP_IGNORE_TERM", "1")
        .set("FAKE_SLEAP_CHILD", child.path().to_str().unwrap());
    job.settings.kill_grace_ms = 200;
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    job.handle().await.command(JobCommand::Cancel).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::Cancelled);
    gone(std::fs::read_to_string(child.path()).unwrap().parse().unwrap()).await;
    assert_eq!(job.results(), Vec::<String>::new());
    let after = job.handle().await.command(JobCommand::Cancel).await;
    assert!(matches!(after, Err(JobError::NotRunning)));
}

#[tokio::test]
async fn what_a_trainer_leaves_in_its_group_is_ended_with_it() {
    let child = tempfile::NamedTempFile::new().unwrap();
    let job = Job::single().set("FAKE_SLEAP_CHILD", child.path().to_str().unwrap());
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    gone(std::fs::read_to_string(child.path()).unwrap().parse().unwrap()).await;
}

#[tokio::test]
async fn the_token_cancels_too() {
    let job = Job::single().set("FAKE_SLEAP_EPOCHS", "100000");
    let (running, token) = job.start();
    wait_for(&job, |event| is_progress(event, "batch_end")).await;
    token.cancel();
    // SIGTERM ends a training with exit code 0: it counts as cancelled all the same.
    assert_eq!(within(running).await.unwrap(), JobOutcome::Cancelled);
}

#[tokio::test]
async fn stop_ends_one_model_early_and_keeps_it() {
    let job = Job::training().set("FAKE_SLEAP_EPOCHS", "40");
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    let ended: Vec<JobOutcome> = job
        .events()
        .await
        .into_iter()
        .filter_map(|numbered| match numbered.event {
            JobEvent::RunEnded { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [JobOutcome::StoppedEarly, JobOutcome::Succeeded]);
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
    assert!(job.has_checkpoint("240101_000000.centered_instance.n=12"));
}

#[tokio::test]
async fn a_training_that_does_not_hear_the_stop_is_ended_between_two_batches() {
    let mut job = Job::single().set("FAKE_SLEAP_IGNORE_STOP", "1").set("FAKE_SLEAP_STEPS", "4");
    job = job.set("FAKE_SLEAP_BATCH_S", "0.1").set("FAKE_SLEAP_VALIDATION_S", "1");
    job = job.set("FAKE_SLEAP_EPOCHS", "50");
    // Two epochs of batches.
    job.settings.stop_grace_ms = 700;
    let (running, _) = job.start();
    wait_for(&job, |event| is_progress(event, "batch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(job.results().iter().any(|file| file.ends_with("best.ckpt")));
    let log = job.log().await;
    assert!(log.contains("it gets SIGTERM") && log.contains("Received SIGTERM"), "{log}");
    assert!(!log.contains("while validating"), "{log}");
}

#[tokio::test]
async fn a_training_that_validates_for_long_has_heard_the_stop() {
    let mut job = Job::single().set("FAKE_SLEAP_BATCH_S", "0.05");
    job = job.set("FAKE_SLEAP_VALIDATION_S", "1.5");
    job.settings.stop_grace_ms = 1000;
    let (running, _) = job.start();
    wait_for(&job, |event| is_progress(event, "batch_end")).await;
    job.handle().await.command(JobCommand::Stop { all: false }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(!job.log().await.contains("SIGTERM"));
}

#[tokio::test]
async fn stop_all_ends_the_job_even_before_the_first_batch() {
    let job = Job::training().set("FAKE_SLEAP_EPOCHS", "100000").set("FAKE_SLEAP_START_S", "1.0");
    let (running, _token) = job.start();
    wait_for(&job, |event| matches!(event, JobEvent::RunStarted { .. })).await;
    job.handle().await.command(JobCommand::Stop { all: true }).await.unwrap();
    assert_eq!(within(running).await.unwrap(), JobOutcome::StoppedEarly);
    assert!(job.has_checkpoint("240101_000000.centroid.n=12"));
    assert!(!job.has_checkpoint("240101_000000.centered_instance.n=12"));
}

#[tokio::test]
async fn the_trainer_sees_a_short_environment() {
    let starts = tempfile::NamedTempFile::new().unwrap();
    let mut job = Job::single().set("FAKE_SLEAP_LOG", starts.path().to_str().unwrap());
    job.settings.gpus = Some(vec![1]);
    assert_eq!(job.run().await, JobOutcome::Succeeded);
    let start: serde_json::Value =
        serde_json::from_slice(&std::fs::read(starts.path()).unwrap()).unwrap();
    let names: Vec<&str> =
        start["env"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"PYTHONUNBUFFERED") && names.contains(&"CUDA_VISIBLE_DEVICES"));
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    assert_eq!(start["argv"][0], "train");
    assert_eq!(start["argv"][5], "++trainer_config.ckpt_dir=\"models\"");
}

#[tokio::test]
async fn a_job_whose_process_is_gone_was_interrupted() {
    let job = Job::single().set("FAKE_SLEAP_EPOCHS", "100000");
    let (running, _token) = job.start();
    wait_for(&job, |event| is_progress(event, "epoch_end")).await;
    // As close to SIGKILL as a task can come: everything it held is dropped, nothing is written.
    running.abort();
    assert!(within(running).await.unwrap_err().is_cancelled());
    let attached = JobHandle::attach(&job.folder).await;
    assert!(matches!(attached, Err(JobError::Interrupted)), "{attached:?}");
    let events = job.events().await;
    let last = events.last().unwrap().event.clone();
    assert_eq!(last, JobEvent::Finished { outcome: JobOutcome::Interrupted });
    let mut none = job.handle().await.events(events.len() as u64);
    assert_eq!(none.next().await, None);
    assert_eq!(job.run().await, JobOutcome::Interrupted, "it is not run again");
}

#[tokio::test]
async fn a_process_that_does_not_come_up_is_an_error() {
    let job = Job::single();
    let mut options = RunnerOptions::new(&[]);
    for (binary, expected) in [("/bin/false", "does not answer"), ("/nonexistent", "cannot start")]
    {
        options.binary = binary.into();
        let error = within(start(&job.folder, &options)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
