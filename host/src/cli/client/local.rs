//! `jobs --local` and `fetch JOB --local`: access to every job on the worker's own machine, including
//! those of Python clients, whether or not the worker runs.

use super::exit::{Exit, ExitWith, Failure};
use super::print;
use crate::client::{self, ClientError, JobRefused, Output};
use crate::config::{Config, Overrides};
use crate::dates::ago;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_job::{JobFolder, bytes_on_disk};
use sleap_rtc_protocol::job::{JobOutcome, JobState, JobType};
use sleap_rtc_protocol::short_id::{self, NoSingleJob};
use std::path::{Path, PathBuf};

/// The set of jobs that a command works on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LocalArgs {
    /// Use all jobs of this machine's worker, including other users' jobs
    #[arg(long)]
    local: bool,
    /// The worker's state folder, if it was started with this option
    #[arg(long, value_name = "DIR", requires = "local")]
    state_dir: Option<PathBuf>,
}

impl LocalArgs {
    /// Whether the command works on the jobs of this machine's worker.
    pub(crate) fn is_meant(&self) -> bool {
        self.local
    }

    /// The options as overrides of the configuration.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { state_dir: self.state_dir.clone(), ..Overrides::default() }
    }
}

/// The worker's state folder, if it can be read.
pub(crate) fn state_dir(config: &Config) -> Result<&Path, Failure> {
    let path = config.worker.state_dir.as_path();
    match std::fs::read_dir(path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Failure::usage(format!(
            "cannot read the worker's state folder {}: {error}",
            path.display()
        ))
        .hint(
            "run this as the worker's user, and give --state-dir DIR if the worker was started \
             with it",
        )),
    }
}

/// Lists all jobs of this machine's worker, oldest first.
pub(crate) fn list(config: &Config) -> Result<Exit, Failure> {
    let state_dir = state_dir(config)?;
    let mut jobs: Vec<_> = JobFolder::all(state_dir)
        .into_iter()
        .filter_map(|folder| Some((folder.record().ok()?, folder)))
        .collect();
    jobs.sort_by_key(|(record, _)| record.created_ms);
    if jobs.is_empty() {
        let text = format!("no jobs in {}", state_dir.display());
        print::line(&text).exit(Exit::Unexpected)?;
    }
    for (record, folder) in jobs {
        let line = format!(
            "{}  {}  {}  {}  of {}  {}  {} MiB  {}",
            folder.id(),
            record.spec.description.job_type.as_str(),
            state_text(&record.state, &folder),
            record.spec.name.escape_debug(),
            record.spec.description.user.as_deref().unwrap_or(record.owner.as_str()).escape_debug(),
            ago(now_s(), record.created_ms / 1_000),
            bytes_on_disk(folder.path()).div_ceil(1 << 20),
            folder.path().display(),
        );
        print::line(&line).exit(Exit::Unexpected)?;
    }
    Ok(Exit::Success)
}

fn state_text(state: &JobState, folder: &JobFolder) -> String {
    let outcome = match state {
        JobState::Staging => return "arriving".into(),
        JobState::Queued(entry) if entry.is_held => return "waiting, held".into(),
        JobState::Queued(_) => return "waiting".into(),
        // The job's process holds this lock while it lives.
        JobState::Running { .. } if folder.lock().is_ok() => return "interrupted".into(),
        JobState::Running { .. } => return "running".into(),
        JobState::Finished(JobOutcome::Succeeded) => "succeeded",
        JobState::Finished(JobOutcome::StoppedEarly) => "stopped early",
        JobState::Finished(JobOutcome::Failed { .. }) => "failed",
        JobState::Finished(JobOutcome::Cancelled) => "cancelled",
        JobState::Finished(JobOutcome::Interrupted) => "interrupted",
    };
    match (folder.has_results(), folder.fetched_ms()) {
        (true, None) => format!("{outcome}, not fetched"),
        (true, Some(_)) => format!("{outcome}, fetched"),
        (false, _) => outcome.to_owned(),
    }
}

/// The job of this machine's worker that `text` names.
pub(super) fn find(text: &str, state_dir: &Path) -> Result<JobFolder, Failure> {
    let failed = |error: NoSingleJob| {
        let text = text.escape_debug();
        let says = match error {
            NoSingleJob::None => format!("no job {text} in {}", state_dir.display()),
            NoSingleJob::Several(_) => format!("several jobs begin with {text}: {error}"),
        };
        Failure::usage(says).hint("`sleap-rtc jobs --local` lists the jobs")
    };
    let mut folders = JobFolder::all(state_dir);
    let ids = folders.iter().map(|folder| folder.id().clone());
    let id = short_id::find(text, ids).map_err(failed)?;
    let place = folders.iter().position(|folder| *folder.id() == id);
    place.map(|place| folders.swap_remove(place)).ok_or_else(|| failed(NoSingleJob::None))
}

/// Copies a job's result. This does not count as fetching it: its owner may still want it.
pub(crate) fn fetch(job: &str, output: Option<PathBuf>, config: &Config) -> Result<Exit, Failure> {
    let folder = find(job, state_dir(config)?)?;
    let _lease = folder.lease().exit(Exit::Unexpected)?;
    let JobState::Finished(outcome) = folder.record().exit(Exit::Unexpected)?.state else {
        let folder = folder.path().to_owned();
        return Err(ClientError::from(JobRefused::StillRunningIn(folder)))?;
    };
    if !folder.has_results() {
        client::concluded(outcome)?;
        return Err(Failure::message(Exit::Unexpected, "the job has no result"));
    }
    let output = output.map_or_else(|| default_output(&folder), |path| named(&folder, path));
    let place = output.copy(&folder.results_dir())?;
    let place = std::path::absolute(&place).unwrap_or(place);
    let said = match outcome.is_success() {
        true => "Done: the result is in",
        false => "What was saved is in",
    };
    print::line(&format!("{said} {}", place.display())).exit(Exit::Unexpected)?;
    client::concluded(outcome)?;
    Ok(Exit::Success)
}

fn named(folder: &JobFolder, path: PathBuf) -> Output {
    match folder.spec().description.job_type {
        JobType::Training => Output::Models(path),
        JobType::Inference => Output::Predictions(path),
    }
}

fn default_output(folder: &JobFolder) -> Output {
    match folder.spec().description.job_type {
        // A client chooses its package's name, so it must not decide where files go.
        JobType::Training => {
            let name = Path::new(&folder.spec().name).file_name().unwrap_or_default();
            Output::models_for(Path::new(name))
        }
        JobType::Inference => Output::Predictions("predictions.slp".into()),
    }
}
