//! The child process that owns one job: one trainer after the other, and everything written down.
//!
//! [`run_job`] needs nothing but the job's folder. It ends when the job has ended, whoever listens
//! or does not; cancelling its token interrupts the job, which keeps what it has saved.

use super::active::{ActiveRun, EarlyEnd, Requests};
use super::command::{CommandLine, Toolbox};
use super::confinement::Workplace;
use super::control::{self, Service};
use super::error::{JobError, io_error};
use super::failure;
use super::folder::JobFolder;
use super::guard::Guard;
use super::journal::Journal;
use super::legacy_config;
use super::orphans::{self, OWN};
use super::output::Stream;
use super::package_folder::named_in;
use super::plan::{Plan, plan};
use super::progress::ProgressListener;
use super::results::{Results, makes_models};
use super::settings::RunnerSettings;
use super::version::installed_version;
use super::videos;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::Site;
use sleap_rtc_package::script::Run;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome};
use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Commands that may wait.
const COMMANDS: usize = 16;
/// How long the connections to the job's socket have to hear of its end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the end of a job may be kept from the disk, and how often it is tried again.
const WRITE_END_LIMIT: Duration = Duration::from_secs(600);
const WRITE_END_INTERVAL: Duration = Duration::from_millis(500);
/// How the folder for a job's temporary files is called. Its path is short: sockets in it have names of
/// at most 107 bytes.
const PRIVATE_PREFIX: &str = "sleap-job-";
/// What a confined trainer may reach, beside the files that it must not change.
const ORDER: &str = "sandbox.json";
/// The exit code of a command line that is not understood.
const USAGE: i32 = 2;

/// Runs the job in `dir` to its end, and returns how it ended.
///
/// Fails only when the folder or its socket cannot be used: nothing was run then.
pub async fn run_job(dir: &Path, interruption: CancellationToken) -> Result<JobOutcome, JobError> {
    let folder = JobFolder::at(dir)?;
    let settings = RunnerSettings::read(&folder)?;
    let mut events = folder.lock()?;
    if let Err(JobError::State(error)) = events.begin() {
        // It was begun before, and its process is gone.
        tracing::warn!(error = %WithCauses(&error), "the job is not run again");
        return events.finish(JobOutcome::Interrupted);
    }
    let (to_runner, commands) = mpsc::channel(COMMANDS);
    let journal = Journal::new(&folder, events, settings.log_limit_bytes);
    let end = CancellationToken::new();
    let service = Service { seq: journal.watch(), commands: to_runner, end: end.clone() };
    let tasks = TaskTracker::new();
    // However this function is left, the socket goes with it: that tells the worker.
    let end = end.drop_guard();
    control::listen(&folder, service, &tasks)
        .map_err(io_error("open the control socket in", folder.path()))?;

    let toolbox = settings.toolbox();
    let requests = Requests::new(commands, interruption);
    let made = HashMap::new();
    let private =
        private_folder().map_err(io_error("make a private folder in", &std::env::temp_dir()))?;
    let mut runner = Runner { folder, settings, journal, toolbox, requests, made, private };
    let outcome = runner.run().await;
    let finished = write_end(&mut runner.journal, outcome).await;
    drop(runner.private);

    drop(end);
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    finished
}

/// A folder for temporary files that nobody else can enter, with one in it for the job's own.
fn private_folder() -> io::Result<tempfile::TempDir> {
    let closed = || Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix(PRIVATE_PREFIX).permissions(closed()).tempdir()?;
    std::fs::DirBuilder::new().mode(0o700).create(folder.path().join(OWN))?;
    Ok(folder)
}

/// Writes the outcome down. Nobody else knows it, so a full disk is waited for.
async fn write_end(journal: &mut Journal, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
    let deadline = Instant::now() + WRITE_END_LIMIT;
    loop {
        match journal.finish(outcome.clone()) {
            Err(JobError::Io { source, .. }) if Instant::now() < deadline => {
                tracing::error!(error = %source, "the outcome cannot be written yet");
                sleep(WRITE_END_INTERVAL).await;
            }
            finished => return finished,
        }
    }
}

struct Runner {
    folder: JobFolder,
    settings: RunnerSettings,
    journal: Journal,
    toolbox: Toolbox,
    requests: Requests,
    /// The models that this job has made so far, by their run.
    made: HashMap<usize, PathBuf>,
    /// For temporary files, caches and a home.
    private: tempfile::TempDir,
}

impl Runner {
    async fn run(&mut self) -> JobOutcome {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(message) => return JobOutcome::Failed { exit_code: None, message },
        };
        self.withhold(&plan.root);
        for remark in &plan.remarks {
            self.journal.remark(remark);
        }
        let runs = plan.runs.iter().map(Run::name).collect();
        self.journal.note(JobEvent::Staged { runs });
        let mut outcome = JobOutcome::Succeeded;
        for (index, run) in plan.runs.iter().enumerate() {
            let name = run.name();
            self.journal.note(JobEvent::RunStarted { name: name.clone() });
            let ended = self.run_one(&plan, index, run).await;
            self.journal.note(JobEvent::RunEnded { name: name.clone(), outcome: ended.clone() });
            match ended {
                JobOutcome::Succeeded => {}
                JobOutcome::StoppedEarly => outcome = JobOutcome::StoppedEarly,
                JobOutcome::Failed { exit_code, message } => {
                    return JobOutcome::Failed { exit_code, message: format!("{name}: {message}") };
                }
                other => return other,
            }
            if let Some(end) = self.requests.end() {
                return end.into();
            }
            if self.requests.stops_all() {
                break;
            }
        }
        outcome
    }

    fn plan(&self) -> Result<Plan, String> {
        let job_type = self.folder.spec().description.job_type;
        let shared_root = self.settings.shared_root.as_deref();
        let version = self.toolbox.sleap_nn().and_then(|program| installed_version(&program));
        let gpus = self.settings.gpus.as_ref().map_or(0, Vec::len);
        let skips_inference = self.folder.spec().skips_inference;
        let site = Site { gpus: Some(gpus), version: version.as_deref(), skips_inference };
        let mounts = &self.settings.mounts;
        let plan = plan(&self.folder.files_dir(), job_type, shared_root, mounts, site)
            .map_err(|e| e.to_string())?;
        plan.check_trainers(&self.toolbox).map_err(|e| e.to_string())?;
        Ok(plan)
    }

    /// A variable that the operator adds for all jobs is not for a package that asks for it by name.
    fn withhold(&mut self, package: &Path) {
        let added = super::command::added(std::env::vars_os(), &self.settings.pass_env);
        let withheld = named_in(package, added);
        for name in &withheld {
            self.journal.remark(&format!("the package names {name}; the trainer does not get it"));
        }
        self.settings.withheld = withheld;
    }

    /// One run of the script, and what it made.
    async fn run_one(&mut self, plan: &Plan, index: usize, run: &Run) -> JobOutcome {
        let results = Results::before(&plan.root, &self.folder.results_dir(), run);
        let active = match self.follow(plan, run, &results).await {
            Ok(active) => active,
            Err(message) => return JobOutcome::Failed { exit_code: None, message },
        };
        let outcome = judge(run, &active);
        match keep(run, &active, &results, &outcome) {
            Ok(kept) if kept.is_empty() && outcome.is_success() => JobOutcome::Failed {
                exit_code: active.exit_code(),
                message: match makes_models(run) {
                    true => "the trainer ended well but saved no model".to_owned(),
                    false => "the trainer ended well but wrote no predictions".to_owned(),
                },
            },
            Ok(kept) => {
                self.name_users_videos(plan, &kept).await;
                self.made.extend(kept.into_iter().next().map(|folder| (index, folder)));
                outcome
            }
            Err(error) if outcome.is_success() => JobOutcome::Failed {
                exit_code: active.exit_code(),
                message: format!("the result cannot be kept: {}", WithCauses(&error)),
            },
            Err(error) => {
                tracing::warn!(error = %WithCauses(&error), "what the failed run left is not kept");
                outcome
            }
        }
    }

    /// Lets the trainer find the videos that `run` reads.
    async fn place_videos(&self, plan: &Plan, run: &Run) -> Result<(), String> {
        let Some((labels, moved)) = videos::before(run, &plan.videos) else { return Ok(()) };
        let files: Vec<PathBuf> = labels.iter().map(|path| path.below(&plan.root)).collect();
        self.rename(plan, &moved, &files).await.map_err(|why| {
            format!("the paths of the videos cannot be changed in the labels: {why}")
        })
    }

    /// Lets what a run made name the videos as its user's machine does.
    async fn name_users_videos(&mut self, plan: &Plan, kept: &[PathBuf]) {
        let (renamed, labels) = (videos::after(&plan.videos), videos::labels_in(kept));
        if renamed.is_empty() || labels.is_empty() {
            return;
        }
        if let Err(why) = self.rename(plan, &renamed, &labels).await {
            self.journal.remark(&format!(
                "the results name the videos as this worker has them, not as your machine does: {why}"
            ));
        }
    }

    async fn rename(
        &self,
        plan: &Plan,
        renamed: &[videos::Renamed],
        labels: &[PathBuf],
    ) -> Result<(), String> {
        let (toolbox, settings) = (&self.toolbox, &self.settings);
        let place = Workplace { write: vec![self.folder.results_dir()], ..self.workplace(plan) };
        videos::Renaming { toolbox, settings, place: &place }.rename(renamed, labels).await
    }

    /// Starts the trainer and stays with it to its end.
    async fn follow(
        &mut self,
        plan: &Plan,
        run: &Run,
        results: &Results,
    ) -> Result<ActiveRun, String> {
        let progress = match makes_models(run) {
            true => Some(
                ProgressListener::bind(self.private.path())
                    .await
                    .map_err(|error| WithCauses(&error).to_string())?,
            ),
            false => None,
        };
        let ports = progress.as_ref().map(ProgressListener::ports);
        self.place_videos(plan, run).await?;
        if let Run::TrainLegacy(train) = run {
            legacy_config::write(&plan.root, train).map_err(|error| {
                format!("{} cannot be used: {}", train.config, WithCauses(&error))
            })?;
        }
        let command = self.toolbox.command(run, ports, &self.made).map_err(|e| e.to_string())?;
        let saved = makes_models(run).then_some(results);
        let active = self.attempt(plan, run, &command, progress, saved).await?;
        match makes_models(run) {
            true => Ok(active),
            false => self.as_older_versions(plan, run, command, active).await,
        }
    }

    /// A prediction that this sleap-nn does not know under its newest name, or with its progress,
    /// is started again as older versions know it.
    async fn as_older_versions(
        &mut self,
        plan: &Plan,
        run: &Run,
        mut command: CommandLine,
        mut active: ActiveRun,
    ) -> Result<ActiveRun, String> {
        // sleap-nn 0.2 has another `predict`, for exported models.
        let is_older = complains(&active, "No such command", "predict")
            || complains(&active, "No such option", "--data_path");
        if is_older && let Some(older) = command.clone().as_older_versions() {
            command = older;
            active = self.attempt(plan, run, &command, None, None).await?;
        }
        if complains(&active, "No such option", "--gui") {
            self.journal.remark("this sleap-nn does not report progress; it is started without");
            active = self.attempt(plan, run, &command.without_progress(), None, None).await?;
        }
        Ok(active)
    }

    async fn attempt(
        &mut self,
        plan: &Plan,
        run: &Run,
        command: &CommandLine,
        progress: Option<ProgressListener>,
        saved: Option<&Results>,
    ) -> Result<ActiveRun, String> {
        tracing::info!(program = %command.program.display(), arguments = ?command.arguments);
        let failed = |e| format!("cannot start {}: {e}", command.program.display());
        let place = self.workplace(plan);
        let start = self.settings.command(command, &place).await.map_err(failed)?;
        let guard = self.settings.confinement.as_ref().map(|confined| Guard::new(confined.limits));
        let mut active = ActiveRun::start(run, start, guard, progress).map_err(failed)?;
        orphans::remember(&self.folder, active.trainer_id(), self.private.path(), saved);
        active.follow(&self.settings, &mut self.requests, &mut self.journal).await;
        orphans::forget(&self.folder);
        Ok(active)
    }

    fn workplace(&self, plan: &Plan) -> Workplace {
        // Only a job from shared storage has links into it.
        let is_shared = self.folder.spec().shared.is_some();
        let shared = self.settings.shared_root.clone().filter(|_| is_shared);
        let mounts = self.settings.mounts.folders().map(Path::to_owned);
        Workplace {
            folder: plan.root.clone(),
            private: self.private.path().join(OWN),
            read: mounts.chain(shared).chain([self.folder.results_dir()]).collect(),
            write: Vec::new(),
            order: self.folder.path().join(ORDER),
            has_gpus: self.settings.gpus.as_ref().is_none_or(|gpus| !gpus.is_empty()),
        }
    }
}

impl From<EarlyEnd> for JobOutcome {
    fn from(end: EarlyEnd) -> Self {
        match end {
            EarlyEnd::Cancelled => Self::Cancelled,
            EarlyEnd::Interrupted => Self::Interrupted,
        }
    }
}

/// Whether the trainer ended because it does not know a word of its command line.
fn complains(active: &ActiveRun, complaint: &str, word: &str) -> bool {
    let says = |line: &String| line.contains(complaint) && line.contains(word);
    active.exit_code() == Some(USAGE) && active.output().tail(Stream::Err).iter().any(says)
}

/// How a run ended. Exit code 0 alone proves nothing: a training that got SIGTERM has it, and one
/// that printed its help.
fn judge(run: &Run, active: &ActiveRun) -> JobOutcome {
    if let Some(end) = active.early_end() {
        return end.into();
    }
    if let Some(excess) = active.excess() {
        return JobOutcome::Failed { exit_code: None, message: excess.to_owned() };
    }
    let done = match run {
        Run::Train(_) => active.has_trained(),
        Run::TrainLegacy(_) | Run::Track(_) => true,
    };
    if matches!(run, Run::Track(_))
        && active.exit_code() == Some(0)
        && active.output().findings().predicted_nothing
    {
        let message =
            "no frame was predicted: none of the frames that were asked for is in the data";
        return JobOutcome::Failed { exit_code: Some(0), message: message.to_owned() };
    }
    if let Some(option) = unknown_option(run, active) {
        let message = format!(
            "this worker's sleap-nn does not know the option {option}: remove it, or choose a worker \
             with a newer sleap-nn"
        );
        return JobOutcome::Failed { exit_code: None, message };
    }
    match active.status() {
        _ if active.was_hanging() => success(active),
        // What it has saved until then is the result; without any there is none.
        Some(_) if active.was_terminated() => JobOutcome::StoppedEarly,
        Some(status) if status.success() && done => success(active),
        Some(status) => JobOutcome::Failed {
            exit_code: status.code(),
            message: failure::explain(status, active.output()),
        },
        None => JobOutcome::Failed {
            exit_code: None,
            message: "the trainer could not be waited for".to_owned(),
        },
    }
}

/// The option that the installed tracker does not have: the prediction never began.
fn unknown_option(run: &Run, active: &ActiveRun) -> Option<&'static str> {
    let Run::Track(track) = run else { return None };
    let names = track.options.iter().map(|option| option.name);
    names.into_iter().find(|name| complains(active, "No such option", name))
}

fn success(active: &ActiveRun) -> JobOutcome {
    if active.was_stopped() { JobOutcome::StoppedEarly } else { JobOutcome::Succeeded }
}

/// Moves what a run made to the results: everything of a good run, saved models of a failed one,
/// nothing of a cancelled one.
fn keep(
    run: &Run,
    active: &ActiveRun,
    results: &Results,
    outcome: &JobOutcome,
) -> io::Result<Vec<PathBuf>> {
    match (run, outcome) {
        (_, JobOutcome::Cancelled) => Ok(Vec::new()),
        (Run::Track(track), _) if outcome.is_success() => {
            Ok(results.keep_predictions(&track.output)?.into_iter().collect())
        }
        (Run::Track(_), _) => Ok(Vec::new()),
        (Run::Train(_) | Run::TrainLegacy(_), _) => {
            let named = active.output().findings().checkpoint_folder.as_deref();
            results.keep_models(named)
        }
    }
}
