//! Runs whole jobs in this process, with the stand-in trainer.

mod failures;
mod runs;
mod stopping;

use super::control::JobCommand;
use super::*;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::job::{
    JobDescription, JobEvent, JobOutcome, JobRight, JobSpec, JobState, JobType, NumberedEvent,
};
use std::fs::Permissions;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

/// The top folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program that stands in for every trainer.
pub fn stand_in() -> PathBuf {
    repository().join("tests/stand-in/sleap-nn")
}

fn unpack(name: &str, to: &Path) {
    let file = std::fs::File::open(repository().join("tests/fixtures").join(name)).unwrap();
    zip::ZipArchive::new(file).unwrap().extract(to).unwrap();
}

/// What a client would submit.
pub fn spec(job_type: JobType) -> JobSpec {
    JobSpec {
        id: JobId::new("job-1").unwrap(),
        right: JobRight::Secret { secret: JobSecret::new("secret").unwrap() },
        name: "labels".into(),
        description: JobDescription::unknown(job_type),
        shared: None,
        skips_inference: false,
        cache_owner: None,
    }
}

/// The folder of a new job below `state`.
pub fn job_folder(state: &Path) -> JobFolder {
    let owner = PeerId::new("someone").unwrap();
    JobFolder::create(state, &spec(JobType::Training), &owner, None).unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("timed out")
}

/// A job that is ready to run, and its trainer.
struct Job {
    _state: tempfile::TempDir,
    folder: JobFolder,
    settings: RunnerSettings,
    /// Programs that are found before the stand-in.
    programs: PathBuf,
}

impl Job {
    fn new(job_type: JobType, fixture: Option<&str>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let owner = PeerId::new("someone").unwrap();
        let folder = JobFolder::create(state.path(), &spec(job_type), &owner, None).unwrap();
        if let Some(fixture) = fixture {
            unpack(fixture, &folder.files_dir());
        }
        let programs = state.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let others = std::env::var("PATH").unwrap();
        let stand_in = stand_in();
        let stand_in = stand_in.parent().unwrap();
        let path = format!("{}:{}:{others}", programs.display(), stand_in.display());
        let settings = RunnerSettings { search_path: Some(path), ..RunnerSettings::default() };
        Self { _state: state, folder, settings, programs }.set("FAKE_SLEAP_START_S", "0.001")
    }

    /// Installs the stand-in as the trainer of SLEAP 1.4.1.
    fn with_sleap_train(self) -> Self {
        std::os::unix::fs::symlink(stand_in(), self.programs.join("sleap-train")).unwrap();
        self
    }

    /// Installs a shell script that is found before the stand-in.
    fn with_wrapper(self) -> Self {
        let wrapper = self.programs.join("sleap-nn");
        let script = format!("#!/bin/sh\n\"{}\" \"$@\"\n", stand_in().display());
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        self
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
        let (path, interruption) = (self.folder.path().to_owned(), cancel.clone());
        let signals = Signals { interruption, ..Signals::default() };
        (tokio::spawn(async move { run_job(&path, signals).await.unwrap() }), cancel)
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
        panic!("the job ended without the expected event");
    })
    .await;
}

fn is_progress(event: &JobEvent, what: &str) -> bool {
    matches!(event, JobEvent::Progress { message } if message["event"] == what)
}

/// Waits until a process has ended.
async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    within(async {
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Orphans of a container without an init process stay zombies, but no longer run.
fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// The exit code and the message of a job that must have failed.
fn expect_failure(outcome: JobOutcome) -> (Option<i32>, String) {
    match outcome {
        JobOutcome::Failed { exit_code, message } => (exit_code, message),
        other => panic!("expected a failure, got {other:?}"),
    }
}
