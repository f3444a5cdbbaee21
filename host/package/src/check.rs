//! What a package asks for, checked: by the client before anything is sent, and by the worker before
//! anything runs. Both run this code, on what they can see.
//!
//! The package is hostile: everything is bounded. What can be known to fail is an error that names
//! the file, the line or the key; what cannot be read is left to the trainer.

mod devices;
mod names;
mod reach;
mod tracking;
mod training;
mod videos;

pub use tracking::check_model;
pub use training::is_newer;
pub(crate) use videos::listed as listed_videos;

use super::config::{Config, MAX_CONFIG_BYTES};
use super::files::{Found, PackageFiles, bytes, text};
use super::script::{self, ListedJob, MAX_SCRIPT_BYTES, Run, ScriptError, ScriptFile};
use super::videos::VideoPaths;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;

/// What an export lists of its own trainings.
const JOBS: &str = "jobs.yaml";

/// What is known of the machine that will run the package. The client knows less than the worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Site<'a> {
    /// How many GPUs the job gets.
    pub gpus: Option<usize>,
    /// The version of sleap-nn.
    pub version: Option<&'a str>,
    /// The user wants no predictions after the training.
    pub skips_inference: bool,
}

/// What a package asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The runs, in order, with everything that they name found in the package.
    pub runs: Vec<Run>,
    /// Where the videos are that its labels name, as far as the package says so.
    pub videos: VideoPaths,
    /// What of it has no effect or is replaced, in words.
    pub remarks: Vec<String>,
}

/// A file of a video that labels name, and that the trainer would not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingVideo {
    /// As the labels name it.
    pub name: String,
    /// One of many pictures that make up the video.
    pub is_picture: bool,
}

/// Why a package cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No script of this kind.
    #[error(
        "the package holds no {0}, neither at its top nor in its one folder; export it with \
         SLEAP's \"Export training job package\""
    )]
    NoScript(&'static str),
    /// A script that no honest SLEAP wrote.
    #[error("{0} is longer than {MAX_SCRIPT_BYTES} bytes")]
    LongScript(&'static str),
    /// A script that cannot be followed.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// Something that is named is not there.
    #[error("the package lacks {name}, which {by} names")]
    Missing {
        /// What is not there, as it is written.
        name: String,
        /// Where it is written.
        by: String,
    },
    /// A link that leads out of the package.
    #[error("{0} leads out of the package")]
    Outside(RelPath),
    /// A config that cannot be used.
    #[error("the config {config} cannot be used: {why}")]
    Config {
        /// The config.
        config: RelPath,
        /// What is wrong with it.
        why: String,
    },
    /// A config that asks for variables or files of the worker.
    #[error(
        "{config} has an interpolation (`${{…}}`{}), which could read the worker's variables and files: \
         write the value itself",
        at_key(key)
    )]
    Interpolation {
        /// The config.
        config: RelPath,
        /// The key; empty where it is not known.
        key: String,
    },
    /// A config that names a file outside the package.
    #[error(
        "{config} names {written} ({key}), which is outside the package: put the file into the \
         package, and write its path as seen from the package's top"
    )]
    Path {
        /// The config.
        config: RelPath,
        /// The key.
        key: String,
        /// The path.
        written: String,
    },
    /// A config that the trainer is too old for.
    #[error(
        "{config} was saved by sleap-nn {wanted}, and the worker has {installed}, which cannot read \
         it: choose a worker with sleap-nn {wanted} or newer, or update it there"
    )]
    Version {
        /// The config.
        config: RelPath,
        /// The version that saved it.
        wanted: String,
        /// The worker's.
        installed: String,
    },
    /// A `.slp` that is none.
    #[error(
        "{file} is no SLEAP labels file: it does not begin like HDF5; save it from SLEAP again"
    )]
    NotLabels {
        /// The file.
        file: RelPath,
    },
    /// Labels without the pictures.
    #[error(
        "the video {}{}, which {labels} names, is not in the package, and a worker cannot read this \
         machine's disks; export the labels with their pictures (a .pkg.slp, or \"Export Training \
         Job Package\"), or put the video beside the labels",
        missing.first().map_or("", |video| video.name.as_str()),
        and_more(missing.len())
    )]
    Videos {
        /// The labels.
        labels: RelPath,
        /// The files that are not there, as the labels name them.
        missing: Vec<MissingVideo>,
    },
    /// A video that the worker should see.
    #[error(
        "the video {video} should be at {place}, and that is no file below one of this worker's \
         mounts ([worker] mounts in its configuration)"
    )]
    NotMounted {
        /// Its name on the user's machine.
        video: String,
        /// Where it should be.
        place: String,
    },
    /// Labels without labels.
    #[error("{0} has no labelled frames to train on")]
    NoFrames(RelPath),
    /// A video that the labels do not have.
    #[error("there is no video {index} in {labels}: it has {count}, counted from 0")]
    VideoIndex {
        /// What was asked for.
        index: String,
        /// The labels.
        labels: RelPath,
        /// How many videos they have.
        count: usize,
    },
    /// Options that exclude each other.
    #[error("{0} and {1} exclude each other; give one of them")]
    Choices(&'static str, &'static str),
    /// A model without what makes it one.
    #[error("{folder} is no trained model: it has no {lacks}")]
    Model {
        /// The folder.
        folder: String,
        /// What it should have.
        lacks: &'static str,
    },
}

fn at_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" at {key}") }
}

fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " (and one more)".to_owned(),
        count => format!(" (and {} more)", count - 1),
    }
}

/// Checks the package, whose script is at its top. Reads files; not for an async task.
pub fn check(
    package: &dyn PackageFiles,
    job_type: JobType,
    site: Site<'_>,
) -> Result<Checked, CheckError> {
    let file = ScriptFile::of(job_type);
    let script = read_script(package, file)?.ok_or(CheckError::NoScript(file.name()))?;
    let videos = videos::read(package)?;
    let mut checked = Checked { runs: script.runs, videos, remarks: script.remarks };
    if job_type == JobType::Training
        && !site.skips_inference
        && let Some(script) = read_inference(package)?
    {
        checked.remarks.push(
            "inference-script.sh: its predictions are made after the training, with the models just \
             trained (`client-train --no-inference` leaves them out)"
                .to_owned(),
        );
        checked.runs.extend(script.runs);
        checked.remarks.extend(script.remarks);
    }
    let mut made = Vec::new();
    let with = Checking { package, videos: &checked.videos, site };
    for (index, run) in checked.runs.iter_mut().enumerate() {
        match run {
            Run::Train(train) => {
                made.push((training::check(with, train, &mut checked.remarks)?, index));
            }
            Run::TrainLegacy(train) => made.push((training::check_legacy(with, train)?, index)),
            Run::Track(track) => tracking::check(with, track, &made, &mut checked.remarks)?,
        }
    }
    names::separate(&mut checked.runs);
    Ok(checked)
}

/// What a run is checked with.
#[derive(Clone, Copy)]
struct Checking<'a> {
    package: &'a dyn PackageFiles,
    videos: &'a VideoPaths,
    site: Site<'a>,
}

fn read_script(
    package: &dyn PackageFiles,
    file: ScriptFile,
) -> Result<Option<script::Script>, CheckError> {
    let Some(path) =
        RelPath::new(file.name()).ok().filter(|path| package.look(path) == Found::File)
    else {
        return Ok(None);
    };
    let bytes = bytes(package, &path, MAX_SCRIPT_BYTES);
    let bytes = bytes.ok_or(CheckError::LongScript(file.name()))?;
    let text = script::decode(&bytes).ok_or(ScriptError::Encoding(file.name()))?;
    Ok(Some(script::parse_listed(file, &text, &listed_jobs(package))?))
}

/// The trainings that an export lists beside its script: the config and the labels of each.
fn listed_jobs(package: &dyn PackageFiles) -> Vec<ListedJob> {
    let text = RelPath::new(JOBS).ok().and_then(|path| text(package, &path, MAX_CONFIG_BYTES));
    let Some(text) = text else { return Vec::new() };
    let Ok(jobs) = Config::read(&text) else { return Vec::new() };
    jobs.texts_of_each("training", ["cfg", "train_labels"])
}

/// What is to be predicted after the training. SLEAP exports the script without any command where
/// nothing is.
fn read_inference(package: &dyn PackageFiles) -> Result<Option<script::Script>, CheckError> {
    match read_script(package, ScriptFile::Inference) {
        Err(CheckError::Script(ScriptError::NoTrainer { .. })) => Ok(None),
        read => read,
    }
}

/// The file or folder that `place` names: where it is written, or under its bare name.
fn find(
    package: &dyn PackageFiles,
    place: &script::Place,
    by: impl FnOnce() -> String,
) -> Result<RelPath, CheckError> {
    let is_there = |path: &RelPath| matches!(package.look(path), Found::File | Found::Folder);
    if is_there(&place.path) {
        return Ok(place.path.clone());
    }
    if package.look(&place.path) == Found::Outside {
        return Err(CheckError::Outside(place.path.clone()));
    }
    place
        .bare()
        .filter(is_there)
        .ok_or_else(|| CheckError::Missing { name: place.written.clone(), by: by() })
}

/// The text of a config.
fn config_text(package: &dyn PackageFiles, config: &RelPath) -> Result<String, CheckError> {
    let why = format!("it is longer than {} bytes", super::config::MAX_CONFIG_BYTES);
    text(package, config, super::config::MAX_CONFIG_BYTES)
        .ok_or_else(|| CheckError::Config { config: config.clone(), why })
}

#[cfg(test)]
mod tests;
