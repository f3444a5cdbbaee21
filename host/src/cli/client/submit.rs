//! The common part of `client-train` and `client-track`: submits a checked job and follows it.

use super::connect::ConnectOptions;
use super::description::load_job_description;
use super::exit::{Exit, Failure};
use super::exit_codes::blocking;
use super::track::TrackOptions;
use super::train::TrainOptions;
use super::{interrupt, print, room};
use crate::client::package::{self, TrainingPackage};
use crate::client::shared::SharedJob;
use crate::client::tracking::TrackingPackage;
use crate::client::videos::{Ask, VideoSearch};
use crate::client::{
    self, Choose, ClientError, Job, JobRefused, Join, Output, ReadProgress, SubmitOptions,
};
use crate::config::{Config, Wait};
use sleap_rtc_protocol::job::{JobType, Requirements};
use sleap_rtc_transfer::Package;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;

/// What to do when the one worker that was named in a room refused.
const OTHER_WORKERS: &str =
    "to let another worker of the room take the job, use --auto-select instead of --worker-id";
/// The same for the worker of a session string.
const OTHER_WORKERS_OF_SESSION: &str = "to let another worker of the room take the job, use --auto-select instead of --session-string \
     (and --room-id and --token, unless this device has paired with the room)";

/// What to do when no slot is free.
const WAIT: &str = "to let the job wait for a slot, add --wait";

/// The advice after a failed training.
const SAVED: &str = "models that were saved before can be fetched: `sleap-rtc fetch JOB`, with the \
     job's id from above or from `sleap-rtc jobs`";

/// Submits a training.
pub(crate) async fn train(options: TrainOptions, config: Config) -> Result<Exit, Failure> {
    if options.explain {
        let (package, connect) = (&options.package, &options.connect);
        let user = Some(client::user(&config.client));
        let minimum = connect.min_gpu_memory_mib;
        let hashes = package::hashes(&config.client);
        let job = load_job_description("--pkg-path", package, minimum, user, hashes).await?;
        return room::explain(&connect.join, &config, &job).await;
    }
    let (path, root) = (options.package.clone(), config.shared_storage_root.clone());
    let output = match (options.output, &root) {
        (Some(folder), _) => Output::Models(folder),
        // Beside the package, which is below the shared root.
        (None, Some(_)) => Output::models_beside(&path),
        (None, None) => Output::models_for(&path),
    };
    let shared = match root {
        Some(root) => {
            let shared = SharedJob::training(&root, &path, output.path());
            Some(shared.map_err(ClientError::from)?)
        }
        None => None,
    };
    let client = config.client.clone();
    let package = TrainingPackage { path, inference: options.inference };
    let progress = ReadProgress::default();
    let counted = progress.clone();
    let videos = video_search(&config, &options.connect.join);
    let open = move || package.open(videos, &package::hashes(&client), &counted);
    let package = progress.show_during(blocking(open)).await?;
    let files = JobFiles { package, shared, skips_inference: !options.inference };
    let name = name_of(&options.package);
    let skipped = (!options.inference).then_some("--no-inference");
    let mut command =
        again("client-train", &[("--pkg-path", std::slice::from_ref(&options.package))]);
    command.extend(skipped.map(str::to_owned));
    submit(options.connect, config, (files, command), JobType::Training, name, output).await
}

/// Submits a tracking.
pub(crate) async fn track(options: TrackOptions, config: Config) -> Result<Exit, Failure> {
    let output = Output::Predictions(options.output.clone());
    let name = name_of(&options.data);
    let connect = options.connect.clone();
    let client = config.client.clone();
    let data = std::slice::from_ref(&options.data);
    let output_path = std::slice::from_ref(&options.output);
    let paths =
        [("--data-path", data), ("--model-paths", options.models.as_slice()), ("-o", output_path)];
    let mut command = again("client-track", &paths);
    command.extend(options.settings.words());
    let package = TrackingPackage {
        data: options.data,
        models: options.models,
        output: options.output,
        frames: options.settings.frames.clone(),
        video_index: options.settings.video_index,
        options: options.settings.arguments(),
    };
    let progress = ReadProgress::default();
    let counted = progress.clone();
    let videos = video_search(&config, &connect.join);
    let build = move || package.build(videos, &package::hashes(&client), &counted);
    let package = progress.show_during(blocking(build)).await?;
    let shared = match config.shared_storage_root.clone() {
        Some(root) => {
            let package = package.clone();
            Some(blocking(move || Ok(SharedJob::tracking(&root, &package)?)).await?)
        }
        None => None,
    };
    let files = JobFiles { package, shared, skips_inference: false };
    submit(connect, config, (files, command), JobType::Inference, name, output).await
}

/// The files that the job's worker reads.
struct JobFiles {
    package: Package,
    shared: Option<SharedJob>,
    skips_inference: bool,
}

/// A search for the videos that labels name, which asks the workers that `join` may choose.
fn video_search(config: &Config, join: &Join) -> VideoSearch {
    let (asking, join, runtime) = (config.clone(), join.clone(), Handle::current());
    let ask: Ask =
        Box::new(move |videos| runtime.block_on(client::find_mounted(&asking, &join, videos)));
    VideoSearch::new(&config.client.path_map, ask, config.shared_storage_root.as_deref())
}

async fn submit(
    connect: ConnectOptions,
    config: Config,
    (files, command): (JobFiles, Vec<String>),
    job_type: JobType,
    name: String,
    output: Output,
) -> Result<Exit, Failure> {
    let JobFiles { package, shared, skips_inference } = files;
    output.check().map_err(|error| {
        Failure::usage(format!("--output: cannot write to {}: {error}", output.path().display()))
    })?;
    let requirements = Requirements { min_gpu_memory_mib: connect.min_gpu_memory_mib };
    let user = Some(client::user(&config.client));
    let described = package.clone();
    let description =
        blocking(move || Ok(package::describe_package(&described, job_type, requirements, user)))
            .await?;
    let interrupts = interrupt::while_following_a_job()?;
    let others = match &connect.join {
        Join::Room { choose: Choose::Auto | Choose::Prompt, .. } => None,
        Join::Room { choose: Choose::Worker(_), .. } => Some(OTHER_WORKERS),
        Join::Session(_) => Some(OTHER_WORKERS_OF_SESSION),
    };
    let wait = config.client.wait.filter(|wait| *wait != Wait::For(Duration::ZERO));
    let submit = SubmitOptions { join: connect.join, viewer: connect.gui, wait };
    let job = Job { package, shared, skips_inference, name, description, output, command };
    let place = match client::run(&config, submit, job, interrupts).await {
        Ok(place) => place,
        Err(error @ ClientError::Refused(JobRefused::Busy(_) | JobRefused::ByAll(_)))
            if wait.is_none() && is_worth_waiting(&error) =>
        {
            let others = others.map(|others| format!("\n{others}")).unwrap_or_default();
            return Err(Failure::from(error).hint(format!("{WAIT}{others}")));
        }
        Err(error @ ClientError::Refused(_)) if others.is_some() => {
            return Err(Failure::from(error).hint(others.unwrap_or_default()));
        }
        Err(error @ ClientError::JobFailed(_)) if job_type == JobType::Training => {
            return Err(Failure::from(error).hint(SAVED));
        }
        Err(error) => return Err(error.into()),
    };
    let what = match job_type {
        JobType::Training => "trained models are in",
        JobType::Inference => "predictions are in",
    };
    let place = std::path::absolute(&place).unwrap_or(place);
    // The job has succeeded even if nobody reads this line.
    let _ = print::line(&format!("Done: the {what} {}", place.display()));
    Ok(Exit::Success)
}

/// Whether the job may start once a slot is free.
fn is_worth_waiting(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(JobRefused::ByAll(skipped)) => skipped.is_worth_waiting,
        _ => true,
    }
}

/// The beginning of a command that submits the same files again.
fn again(command: &str, paths: &[(&str, &[PathBuf])]) -> Vec<String> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let shown = |path: &PathBuf| absolute(path).display().to_string();
    let mut words = ["sleap-rtc", command, "--auto-select"].map(str::to_owned).to_vec();
    for (option, paths) in paths {
        words.push((*option).to_owned());
        words.extend(paths.iter().map(shown));
    }
    words
}

fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| "package".into())
}
