//! Checks a package. The client does so before it sends anything, and the worker before it runs
//! anything. Both run this code, and the worker knows more about itself.
//!
//! The package is hostile, so everything is bounded. What is certain to fail is an error that names
//! the file, the line or the key. What cannot be read is left to the trainer.

mod devices;
mod heads;
mod known;
mod model_types;
mod names;
mod outside;
mod tracking;
mod training;
mod videos;
mod wandb;

pub use known::is_newer;
pub(crate) use known::needed;
pub use model_types::TypedModel;
pub use tracking::{OUTPUTS, check_model};
pub(crate) use videos::listed as listed_videos;

use super::config::{Config, MAX_CONFIG_BYTES};
use super::files::{Found, PackageFiles, bytes, locate, text};
use super::script::{self, ListedJob, MAX_SCRIPT_BYTES, NamedPath, Run, ScriptError, ScriptFile};
use super::videos::VideoPaths;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::text::Printable;

/// The file in which an export lists its own trainings.
const JOBS: &str = "jobs.yaml";
/// The most characters of a path that a remark quotes.
const MAX_NAME_CHARS: usize = 200;

/// Facts about the machine that will run the package. The client knows fewer of them than the
/// worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineFacts<'a> {
    /// The number of GPUs in the job's slot.
    pub gpus: Option<usize>,
    /// The worker's version of sleap-nn.
    pub version: Option<&'a str>,
    /// Whether the user wants no predictions after the training.
    pub skips_inference: bool,
    /// Whether trainers find a key for W&B there.
    pub has_wandb_key: Option<bool>,
}

/// The runs of a package, and what is known about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The runs, in order. The package has every file that they name.
    pub runs: Vec<Run>,
    /// The places of the videos that the labels name, as far as the package lists them.
    pub videos: VideoPaths,
    /// Parts of the package that have no effect or are replaced, in words.
    pub remarks: Vec<String>,
}

/// A video file that labels name and that the trainer would not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingVideo {
    /// The path in the labels.
    pub name: String,
    /// Whether the file is one of the pictures that make up the video.
    pub is_picture: bool,
}

/// Why a package cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The package has no script of this kind.
    #[error(
        "the package has no {0}, neither at its top nor in its only folder; export it with \
         SLEAP's \"Export training job package\""
    )]
    NoScript(&'static str),
    /// The script is longer than any that SLEAP writes.
    #[error("{0} is longer than {MAX_SCRIPT_BYTES} bytes")]
    LongScript(&'static str),
    /// The script cannot be parsed.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The package lacks a file or folder.
    #[error("the package lacks {}, which {by} names", visible(name))]
    Missing {
        /// The missing path, as it is written.
        name: String,
        /// The file in which the path is written.
        by: String,
    },
    /// The package has one file or folder where two are named.
    #[error(
        "{by} names {first} and {second}, and the package has only {path}: put both into it, under \
         different names, and write those"
    )]
    Merged {
        /// A path, as it is written.
        first: String,
        /// Another one.
        second: String,
        /// What the package has for both.
        path: RelPath,
        /// The file in which the paths are written.
        by: String,
    },
    /// A link leads out of the package.
    #[error("{0} leads out of the package")]
    Outside(RelPath),
    /// A config cannot be used.
    #[error("cannot use the config {config}: {why}")]
    Config {
        /// The config.
        config: RelPath,
        /// What is wrong with it.
        why: String,
    },
    /// A config refers to variables or files of the worker.
    #[error(
        "{config} has an interpolation (`${{…}}`{}), which could read the worker's variables and files: \
         write the value itself",
        at_key(key)
    )]
    Interpolation {
        /// The config.
        config: RelPath,
        /// The key, or an empty text if it is unknown.
        key: String,
    },
    /// A config names a file outside the package.
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
    /// The worker's sleap-nn is too old for a config.
    #[error(
        "{config} needs sleap-nn {wanted}, because of its setting {key}, and the worker has {installed}: \
         choose a worker with sleap-nn {wanted} or newer, or update it there"
    )]
    Version {
        /// The config.
        config: RelPath,
        /// A setting that older versions do not have.
        key: String,
        /// The oldest version that has it.
        wanted: String,
        /// The worker's version.
        installed: String,
    },
    /// A file named `.slp` has another format.
    #[error(
        "{file} is not a SLEAP labels file: it does not begin like HDF5; save it from SLEAP again"
    )]
    NotLabels {
        /// The file.
        file: RelPath,
    },
    /// The file of the labels is shorter than it says itself.
    #[error(
        "{file} is cut off: it has {bytes} of at least {whole_bytes} bytes; copy it again, or save it from \
         SLEAP again"
    )]
    CutLabels {
        /// The file.
        file: RelPath,
        /// Its length, in bytes.
        bytes: u64,
        /// The length that it names itself.
        whole_bytes: u64,
    },
    /// Labels refer to pictures that the package does not contain.
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
        /// The missing files, as the labels name them.
        missing: Vec<MissingVideo>,
    },
    /// A video is listed as the worker's, but the worker does not have it.
    #[error(
        "the video {video} should be at {place}, which is not a file below one of this worker's \
         mounts ([worker] mounts in its configuration)"
    )]
    NotMounted {
        /// The path on the user's machine.
        video: String,
        /// The path on the worker.
        place: String,
    },
    /// Labels for a training contain no labelled frame.
    #[error("{0} has no labelled frames to train on")]
    NoFrames(RelPath),
    /// Labels for a training contain only predicted instances.
    #[error(
        "{0} has no instance that a user has placed, and sleap-nn ignores predicted ones: correct some in \
         SLEAP, or set data_config.user_instances_only to false"
    )]
    NoUserInstances(RelPath),
    /// The data are neither labels nor, by their name, a video.
    #[error(
        "{0} is not a video that sleap-nn reads, by its name ({readable}): convert it, for example with \
         `ffmpeg -i INPUT OUTPUT.mp4`",
        readable = tracking::VIDEOS.join(", ")
    )]
    VideoType(String),
    /// The name of the predictions does not say their format.
    #[error(
        "sleap-nn chooses the format of predictions by their ending, and can write {writable}, not {0}: \
         name it {0}.slp",
        writable = tracking::OUTPUTS.map(|ending| format!(".{ending}")).join(", ")
    )]
    OutputType(RelPath),
    /// The labels do not have the requested video.
    #[error("{labels} has no video {index}: it has {count}, counted from 0")]
    VideoIndex {
        /// The requested video, counted from 0.
        index: String,
        /// The labels.
        labels: RelPath,
        /// The number of videos in the labels.
        count: usize,
    },
    /// Two options exclude each other.
    #[error("{0} and {1} exclude each other; give one of them")]
    Choices(&'static str, &'static str),
    /// An option has no effect on this data.
    #[error(
        "{0} chooses among the frames of labels, and {1} has none: give the labels (.slp), or choose \
         frames by number with --frames"
    )]
    OnlyLabels(&'static str, String),
    /// The predictions would replace the data.
    #[error("the predictions would replace {0}: give them another name (--output_path)")]
    OutputIsData(RelPath),
    /// A checkpoint that a tracker would pass over.
    #[error(
        "a tracker reads best.ckpt in a model's folder, not {written}: name the folder, or one in which \
         that checkpoint is called best.ckpt"
    )]
    Checkpoint {
        /// The checkpoint, as it is written.
        written: String,
    },
    /// A folder, or a file without content, in the place of a file.
    #[error("{by} names {name}, which {is}; name the right file")]
    NoFile {
        /// The path, as it is written.
        name: String,
        /// The file in which the path is written.
        by: String,
        /// What it is.
        is: &'static str,
    },
    /// Two models that do not predict together.
    #[error(
        "the models {first} and {second} do not predict together: sleap-nn would use only one of them; \
         name one model of each type, such as a centroid and a centered_instance"
    )]
    ModelTypes {
        /// A model.
        first: TypedModel,
        /// Another one.
        second: TypedModel,
    },
    /// A folder does not contain a trained model.
    #[error("{folder} is not a trained model: it has no {lacks}")]
    Model {
        /// The folder.
        folder: String,
        /// The missing file.
        lacks: &'static str,
    },
}

/// A name for an error message, in quotes if it is empty, or has white space at its ends or a line break.
fn visible(name: &str) -> String {
    match name.is_empty() || name.trim() != name || name.contains('\n') {
        true => format!("{name:?}"),
        false => name.to_owned(),
    }
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

/// Checks the package, whose script is at its top. Reads files, so async tasks must not call it.
pub fn check(
    package: &dyn PackageFiles,
    job_type: JobType,
    site: MachineFacts<'_>,
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
                let name = training::check(with, train, &mut checked.remarks)?;
                made.push(MadeModel { name, run: index, config: train.config.path.clone() });
            }
            Run::TrainLegacy(train) => {
                let name = training::check_legacy(with, train, &mut checked.remarks)?;
                made.push(MadeModel { name, run: index, config: train.config.path.clone() });
            }
            Run::Track(track) => tracking::check(with, track, &made, &mut checked.remarks)?,
        }
    }
    names::separate(&mut checked.runs);
    Ok(checked)
}

/// A model that a training of this package makes.
struct MadeModel {
    /// The name by which the package's scripts refer to it.
    name: String,
    /// The place of its training among the runs.
    run: usize,
    config: RelPath,
}

/// What the checks of one run need.
#[derive(Clone, Copy)]
struct Checking<'a> {
    package: &'a dyn PackageFiles,
    videos: &'a VideoPaths,
    site: MachineFacts<'a>,
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

/// The config and the labels of each training that an export lists next to its script.
fn listed_jobs(package: &dyn PackageFiles) -> Vec<ListedJob> {
    let text = RelPath::new(JOBS).ok().and_then(|path| text(package, &path, MAX_CONFIG_BYTES));
    let Some(text) = text else { return Vec::new() };
    let Ok(jobs) = Config::read(&text) else { return Vec::new() };
    jobs.texts_of_each("training", ["cfg", "train_labels"])
}

/// The predictions to make after the training. If there are none, SLEAP exports a script without
/// commands.
fn read_inference(package: &dyn PackageFiles) -> Result<Option<script::Script>, CheckError> {
    match read_script(package, ScriptFile::Inference) {
        Err(CheckError::Script(ScriptError::NoTrainer { .. })) => Ok(None),
        read => read,
    }
}

/// Finds the file or folder that `place` names, at its path or by the longest end of it that the package
/// has. A remark says when that is not the path itself.
fn find(
    package: &dyn PackageFiles,
    place: &NamedPath,
    by: impl FnOnce() -> String,
    remarks: &mut Vec<String>,
) -> Result<RelPath, CheckError> {
    if package.look(&place.path) == Found::Outside {
        return Err(CheckError::Outside(place.path.clone()));
    }
    let Some(found) = locate(package, place) else {
        return Err(CheckError::Missing { name: place.written.clone(), by: by() });
    };
    if place.is_outside() || found != place.path {
        let remark = format!(
            "{}: the package has no {}; its {found} is taken instead",
            by(),
            Printable::line(&place.written, MAX_NAME_CHARS)
        );
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
    Ok(found)
}

/// Refuses two files or folders of another machine for which the package has only one.
fn distinct(taken: &[(String, RelPath)], by: impl FnOnce() -> String) -> Result<(), CheckError> {
    for (index, (written, path)) in taken.iter().enumerate() {
        let is_other = |(other, same): &&(String, RelPath)| same == path && other != written;
        if let Some((first, _)) = taken[..index].iter().find(is_other) {
            let (first, second) = (first.clone(), written.clone());
            return Err(CheckError::Merged { first, second, path: path.clone(), by: by() });
        }
    }
    Ok(())
}

/// Reads the text of a config.
fn config_text(package: &dyn PackageFiles, config: &RelPath) -> Result<String, CheckError> {
    let wrong = |why| CheckError::Config { config: config.clone(), why };
    let limit_bytes = super::config::MAX_CONFIG_BYTES;
    let bytes = bytes(package, config, limit_bytes)
        .ok_or_else(|| wrong(format!("it is longer than {limit_bytes} bytes")))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8: save it as UTF-8".to_owned()))
}

#[cfg(test)]
mod tests;
