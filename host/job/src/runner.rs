//! The process that owns one job: runs one trainer after the other and records what happens.
//!
//! [`run_job`] needs only the job's folder, and ends when the job has ended, whether or not anyone
//! follows it. [`Signals`] end it early, and it keeps what it has saved.

pub use super::active::Signals;

use super::active::{ActiveRun, JobRequests};
use super::command::{CommandLine, TrainerSearch};
use super::confinement::TrainerDirs;
use super::control::{self, Service};
use super::error::{JobError, io_error};
use super::events::EventLog;
use super::folder::JobFolder;
use super::legacy_config;
use super::limit_guard::LimitGuard;
use super::orphans::{self, TRAINER_PART};
use super::package_folder::named_in;
use super::plan::{Plan, plan};
use super::progress::ProgressListener;
use super::recorder::Recorder;
use super::results::{Results, makes_models};
use super::run_outcome::{complains, judge};
use super::settings::RunnerSettings;
use super::shared_folder;
use super::version::installed_version;
use super::videos;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_package::MachineFacts;
use sleap_rtc_package::script::Run;
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most commands that wait to be handled.
const COMMANDS: usize = 16;
/// How long connections to the job's socket may take to receive the end of the job.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to retry when the disk does not accept the end of a job, and how often.
const WRITE_END_LIMIT: Duration = Duration::from_secs(600);
const WRITE_END_INTERVAL: Duration = Duration::from_millis(500);
/// The prefix of the folder for a job's temporary files. It is short because the names of sockets
/// in the folder are limited to 107 bytes.
const PRIVATE_PREFIX: &str = "sleap-job-";
/// The file with the rights of a confined trainer, next to the files that the trainer must not
/// change.
const CONFINEMENT_FILE: &str = "sandbox.json";

/// Runs the job in `dir` to its end, and returns its outcome.
///
/// Fails only if the folder or its socket cannot be used. No trainer was started then.
pub async fn run_job(dir: &Path, signals: Signals) -> Result<JobOutcome, JobError> {
    let folder = JobFolder::at(dir)?;
    let is_elsewhere = folder.is_elsewhere();
    if is_elsewhere && !shared_folder::claim(&folder)? {
        return Err(JobError::Claimed);
    }
    let mut events = EventLog::open(folder.clone())?;
    // Under the lock, as the worker that is started again removes them from a job that waits.
    let settings = RunnerSettings::read(&folder)?;
    if matches!(folder.record()?.state, JobState::Queued(_)) && !RunnerSettings::exist(&folder) {
        return Err(JobError::Withdrawn);
    }
    if let Err(JobError::State(error)) = events.begin() {
        // The job has begun before, and its process is gone.
        tracing::warn!(error = %WithCauses(&error), "the job is not run again");
        return events.settle(JobOutcome::Interrupted);
    }
    let (to_runner, commands) = mpsc::channel(COMMANDS);
    let recorder = Recorder::new(&folder, events, settings.log_limit_bytes);
    let (ended, tasks) = (CancellationToken::new(), TaskTracker::new());
    // The socket must disappear however this function ends, because the worker takes that for the
    // job's end.
    let end = ended.clone().drop_guard();
    if is_elsewhere {
        tasks.spawn(shared_folder::obey(folder.clone(), to_runner, ended));
    } else {
        let service = Service { seq: recorder.watch(), commands: to_runner, end: ended };
        control::listen(&folder, service, &tasks)
            .map_err(io_error("open the control socket in", folder.path()))?;
    }
    let taken_over = shared_folder::taken_over(is_elsewhere.then(|| folder.clone()));

    let trainer_search = settings.trainer_search();
    let requests = JobRequests::new(commands, signals);
    let made = HashMap::new();
    let private =
        private_folder().map_err(io_error("make a private folder in", &std::env::temp_dir()))?;
    let mut runner = Runner { folder, settings, recorder, trainer_search, requests, made, private };
    let outcome = tokio::select! {
        outcome = runner.run() => outcome,
        // Dropping the runner ends its trainer.
        () = taken_over => return Err(JobError::Claimed),
    };
    let finished = write_end(&mut runner.recorder, outcome).await;
    drop(runner.private);

    drop(end);
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    finished
}

/// Creates a folder for temporary files that no other user can enter, with a folder for the job's
/// trainers in it.
fn private_folder() -> io::Result<tempfile::TempDir> {
    let folder = super::settings::temporary(PRIVATE_PREFIX)?;
    std::fs::DirBuilder::new().mode(0o700).create(folder.path().join(TRAINER_PART))?;
    Ok(folder)
}

/// Records the outcome. Waits while the disk is full, because no other process knows the outcome.
async fn write_end(recorder: &mut Recorder, outcome: JobOutcome) -> Result<JobOutcome, JobError> {
    let deadline = Instant::now() + WRITE_END_LIMIT;
    loop {
        match recorder.finish(outcome.clone()) {
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
    recorder: Recorder,
    trainer_search: TrainerSearch,
    requests: JobRequests,
    /// The models that this job has made, by the index of their run.
    made: HashMap<usize, PathBuf>,
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
            self.recorder.remark(remark);
        }
        let runs = plan.runs.iter().map(Run::name).collect();
        self.recorder.note(JobEvent::Staged { runs });
        let mut outcome = JobOutcome::Succeeded;
        for (index, run) in plan.runs.iter().enumerate() {
            let name = run.name();
            self.recorder.note(JobEvent::RunStarted { name: name.clone() });
            let ended = self.run_one(&plan, index, run).await;
            self.recorder.note(JobEvent::RunEnded { name: name.clone(), outcome: ended.clone() });
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
                let is_last = index + 1 == plan.runs.len();
                if !is_last {
                    outcome = JobOutcome::StoppedEarly;
                }
                break;
            }
        }
        outcome
    }

    fn plan(&self) -> Result<Plan, String> {
        let job_type = self.folder.spec().description.job_type;
        let shared_root = self.settings.shared_root.as_deref();
        let version =
            self.trainer_search.sleap_nn().and_then(|program| installed_version(&program));
        // A cluster decides which GPUs a job gets.
        let gpus = self.settings.gpus.as_ref().map(Vec::len);
        let gpus = gpus.or((!self.folder.is_elsewhere()).then_some(0));
        let skips_inference = self.folder.spec().skips_inference;
        let has_wandb_key = Some(self.settings.has_wandb_key());
        let version = version.as_deref();
        let site = MachineFacts { gpus, version, skips_inference, has_wandb_key };
        let mounts = &self.settings.mounts;
        let plan = plan(&self.folder.files_dir(), job_type, shared_root, mounts, site)
            .map_err(|e| e.to_string())?;
        plan.check_trainers(&self.trainer_search).map_err(|e| e.to_string())?;
        Ok(plan)
    }

    /// Withholds variables that the operator adds for all jobs from a package that asks for them by
    /// name, because the package could leak them.
    fn withhold(&mut self, package: &Path) {
        let added = super::command::added_by_operator(std::env::vars_os(), &self.settings.pass_env);
        let withheld = named_in(package, added);
        for name in &withheld {
            self.recorder.remark(&format!(
                "the package names the variable {name}; the trainer does not receive it"
            ));
        }
        self.settings.withheld = withheld;
    }

    /// Executes one run of the script, and keeps its results.
    async fn run_one(&mut self, plan: &Plan, index: usize, run: &Run) -> JobOutcome {
        let results = Results::before(&plan.root, &self.folder.results_dir(), run);
        let active = match self.follow(plan, run, &results).await {
            Ok(active) => active,
            Err(message) => {
                return match self.requests.end() {
                    Some(end) => end.into(),
                    None => JobOutcome::Failed { exit_code: None, message },
                };
            }
        };
        let outcome = judge(run, &active);
        match keep(run, &active, &results, &outcome) {
            Ok(kept) if kept.is_empty() && outcome.is_success() => JobOutcome::Failed {
                exit_code: active.exit_code(),
                message: match makes_models(run) {
                    true => "the trainer reported success but saved no model".to_owned(),
                    false => "the trainer reported success but wrote no predictions".to_owned(),
                },
            },
            Ok(kept) => {
                self.name_users_videos(plan, &kept).await;
                self.made.extend(kept.into_iter().next().map(|folder| (index, folder)));
                outcome
            }
            Err(error) if outcome.is_success() => JobOutcome::Failed {
                exit_code: active.exit_code(),
                message: format!("cannot keep the result: {}", WithCauses(&error)),
            },
            Err(error) => {
                tracing::warn!(error = %WithCauses(&error), "cannot keep the models of the failed run");
                outcome
            }
        }
    }

    /// Makes the trainer find the videos that `run` reads.
    async fn place_videos(&mut self, plan: &Plan, run: &Run) -> Result<(), String> {
        let Some((labels, moved)) = videos::before(run, &plan.videos) else { return Ok(()) };
        let files: Vec<PathBuf> = labels.iter().map(|path| path.below(&plan.root)).collect();
        self.rename(plan, &moved, &files)
            .await
            .map_err(|why| format!("cannot change the paths of the videos in the labels: {why}"))
    }

    /// Makes results name the videos by their paths on the user's machine.
    async fn name_users_videos(&mut self, plan: &Plan, kept: &[PathBuf]) {
        let (renamed, labels) = (videos::after(&plan.videos), videos::labels_in(kept));
        if renamed.is_empty() || labels.is_empty() {
            return;
        }
        if let Err(why) = self.rename(plan, &renamed, &labels).await {
            self.recorder.remark(&format!(
                "the results contain the paths of the videos on this worker, not on your machine: {why}"
            ));
        }
    }

    async fn rename(
        &mut self,
        plan: &Plan,
        renamed: &[videos::Renamed],
        labels: &[PathBuf],
    ) -> Result<(), String> {
        let (trainer_search, settings) = (&self.trainer_search, &self.settings);
        let place = TrainerDirs { write: vec![self.folder.results_dir()], ..self.workplace(plan) };
        let renaming = videos::Renaming { trainer_search, settings, place: &place };
        tokio::select! {
            done = renaming.rename(renamed, labels) => done,
            () = self.requests.ended() => Err("the job was ended".to_owned()),
        }
    }

    /// Starts the trainer and follows it to its end.
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
                format!("{} cannot be used: {}", train.config.path, WithCauses(&error))
            })?;
        }
        let command =
            self.trainer_search.command(run, ports, &self.made).map_err(|e| e.to_string())?;
        let saved = makes_models(run).then_some(results);
        let active = self.attempt(plan, run, &command, progress, saved).await?;
        match makes_models(run) {
            true => Ok(active),
            false => self.as_older_versions(plan, run, command, active).await,
        }
    }

    /// Starts a prediction again in the form of older versions, if this sleap-nn does not know its
    /// newest verb or the option for progress.
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
            self.recorder
                .remark("this sleap-nn does not report progress; starting it without that option");
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
        let guard =
            self.settings.confinement.as_ref().map(|confined| LimitGuard::new(confined.limits));
        let mut active = ActiveRun::start(run, start, guard, progress).map_err(failed)?;
        orphans::remember(&self.folder, active.trainer_id(), self.private.path(), saved);
        active.follow(&self.settings, &mut self.requests, &mut self.recorder).await;
        orphans::forget(&self.folder);
        Ok(active)
    }

    fn workplace(&self, plan: &Plan) -> TrainerDirs {
        // Only a job from shared storage has links into it.
        let is_shared = self.folder.spec().shared.is_some();
        let shared = self.settings.shared_root.clone().filter(|_| is_shared);
        let mounts = self.settings.mounts.folders().map(Path::to_owned);
        TrainerDirs {
            folder: plan.root.clone(),
            private: self.private.path().join(TRAINER_PART),
            read: mounts.chain(shared).chain([self.folder.results_dir()]).collect(),
            write: Vec::new(),
            confinement_file: self.folder.path().join(CONFINEMENT_FILE),
            has_gpus: self.settings.gpus.as_ref().is_none_or(|gpus| !gpus.is_empty()),
        }
    }
}

/// Moves what a run made to the results: everything after success, saved models after a failure,
/// nothing after a cancellation.
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
