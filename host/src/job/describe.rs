//! What policies are told of a package, read from its script, its configs and its labels.
//!
//! The package is hostile: everything is bounded, and what cannot be read is unknown, never an
//! error.

mod config;
mod labels;

use super::script::{self, MAX_SCRIPT_BYTES, Run};
use labels::Labels;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::path::RelPath;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest config that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 256 * 1024;
/// The most files that are looked at in a folder.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;

/// A package, as far as describing it needs one.
pub trait PackageFiles {
    /// The start of a text file, at most `limit_bytes` long; nothing if it is longer or not there.
    fn text(&self, path: &RelPath, limit_bytes: u64) -> Option<String>;

    /// A file on disk with this content, where there is one to read from.
    fn on_disk(&self, path: &RelPath) -> Option<PathBuf>;

    /// Bytes of all files, unpacked.
    fn total_bytes(&self) -> Option<u64>;
}

/// A package that is a folder, its script at the top.
#[derive(Debug, Clone)]
pub struct PackageFolder {
    root: PathBuf,
}

impl PackageFolder {
    /// The package in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl PackageFiles for PackageFolder {
    fn text(&self, path: &RelPath, limit_bytes: u64) -> Option<String> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.on_disk(path)?).ok()?;
        file.take(limit_bytes + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= limit_bytes).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn on_disk(&self, path: &RelPath) -> Option<PathBuf> {
        let path = path.below(&self.root);
        super::plan::is_inside(&self.root, &path).ok()?.then_some(path)
    }

    fn total_bytes(&self) -> Option<u64> {
        let mut left = MAX_FILES;
        sum_of_files(&self.root, MAX_DEPTH, &mut left)
    }
}

fn sum_of_files(folder: &Path, depth: usize, left: &mut usize) -> Option<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        *left = left.checked_sub(1)?;
        let meta = entry.metadata().ok()?;
        if meta.is_dir() {
            sum += sum_of_files(&entry.path(), depth.checked_sub(1)?, left)?;
        } else if meta.is_file() {
            sum += meta.len();
        }
    }
    Some(sum)
}

/// What policies are told of the package in the folder `files`, its script at the top or in the one
/// folder that is there. Reads files; not for an async task.
pub fn describe_folder(files: &Path, claimed: JobType) -> JobDescription {
    match super::plan::find_package(files, claimed) {
        Some((job_type, root)) => describe(&PackageFolder::new(root), job_type),
        None => describe(&PackageFolder::new(files), claimed),
    }
}

/// What policies are told of `package`. Reads files; not for an async task.
pub fn describe(package: &dyn PackageFiles, job_type: JobType) -> JobDescription {
    let mut description = JobDescription::unknown(job_type);
    description.package_bytes = package.total_bytes();
    let Some(script) = RelPath::new(job_type.script_name())
        .ok()
        .and_then(|path| package.text(&path, MAX_SCRIPT_BYTES))
        .and_then(|text| script::parse(job_type, &text).ok())
    else {
        return description;
    };
    let mut labels = BTreeSet::new();
    for run in &script.runs {
        describe_run(package, run, &mut description, &mut labels);
    }
    let read: Vec<Labels> =
        labels.iter().filter_map(|path| Labels::read(&package.on_disk(path)?)).collect();
    let frames = |labels: &Labels| match job_type {
        JobType::Training => labels.labelled_frames,
        JobType::Inference => frames_to_predict(&script.runs, labels),
    };
    if read.len() == labels.len() {
        description.frame_count =
            read.iter().map(frames).reduce(|a, b| a?.checked_add(b?)).flatten();
    }
    description.image = read.iter().find_map(|labels| labels.image);
    description
}

/// All frames of the videos, unless the script asks for the labelled ones only.
fn frames_to_predict(runs: &[Run], labels: &Labels) -> Option<u64> {
    let only_labelled = runs.iter().any(|run| match run {
        Run::Track(track) => track.options.iter().any(|option| option.name == ONLY_LABELLED),
        _ => false,
    });
    if only_labelled {
        labels.labelled_frames
    } else {
        labels.video_frames.or(labels.labelled_frames)
    }
}

const ONLY_LABELLED: &str = "--only_labeled_frames";

/// Adds what one run's configs say.
fn describe_run(
    package: &dyn PackageFiles,
    run: &Run,
    description: &mut JobDescription,
    labels: &mut BTreeSet<RelPath>,
) {
    let facts = |path: &RelPath| config::read(&package.text(path, MAX_CONFIG_BYTES)?);
    match run {
        Run::Train(train) => {
            let mut facts = facts(&train.config).unwrap_or_default();
            facts.apply(&train.overrides);
            labels.extend(std::mem::take(&mut facts.labels));
            add(description, facts);
        }
        Run::TrainLegacy(train) => {
            labels.insert(train.labels.clone());
            add(description, facts(&train.config).unwrap_or_default());
        }
        Run::Track(track) => {
            labels.insert(track.data.clone());
            for model in &track.models {
                let config = RelPath::new(format!("{model}/training_config.yaml"));
                let facts = config.ok().and_then(|path| facts(&path)).unwrap_or_default();
                description.model_types.extend(facts.model_types);
            }
        }
    }
}

fn add(description: &mut JobDescription, facts: config::Facts) {
    description.model_types.extend(facts.model_types);
    description.epochs = match (description.epochs, facts.epochs) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    };
    description.batch_size = description.batch_size.max(facts.batch_size);
}

#[cfg(test)]
mod tests;
