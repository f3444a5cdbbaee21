//! Describes a package to policies, from its script, its configs and its labels.
//!
//! The package is hostile, so everything is bounded. What cannot be read is unknown, never an error.

use super::check::is_newer;
use super::config::{Config, MAX_CONFIG_BYTES, Settings};
use super::files::{PackageFiles, bytes, text};
use super::labels::Labels;
use super::script::{self, ConfigOverride, MAX_SCRIPT_BYTES, Model, Run, ScriptFile};
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::signaling::MAX_VIDEOS;
use std::collections::BTreeSet;

/// The most labels to read for one config.
const MAX_LABELS: usize = 16;

/// Facts from a config, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    model_types: Vec<String>,
    epochs: Option<u32>,
    batch_size: Option<u32>,
    /// The version of sleap-nn that saved it.
    version: Option<String>,
    /// The paths of the labels, as they are written.
    labels: Vec<String>,
}

/// Describes `package` to policies. Reads files, so async tasks must not call it.
pub fn describe(package: &dyn PackageFiles, job_type: JobType) -> JobDescription {
    let mut description = JobDescription::unknown(job_type);
    description.package_bytes = package.total_bytes();
    let file = ScriptFile::of(job_type);
    let Some(script) = RelPath::new(file.name())
        .ok()
        .and_then(|path| script::decode(&bytes(package, &path, MAX_SCRIPT_BYTES)?))
        .and_then(|text| script::parse(file, &text).ok())
    else {
        return description;
    };
    let videos = super::check::listed_videos(package).unwrap_or_default();
    description.mounted_videos = videos.on_worker().take(MAX_VIDEOS).map(str::to_owned).collect();
    let mut labels = BTreeSet::new();
    for run in &script.runs {
        describe_run(package, run, &mut description, &mut labels);
    }
    let read: Vec<Labels> =
        labels.iter().filter_map(|path| Labels::read(package.open_at_random(path)?)).collect();
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

/// All frames of the videos, or only the labelled ones if the script selects them.
fn frames_to_predict(runs: &[Run], labels: &Labels) -> Option<u64> {
    let only_labelled = runs.iter().any(|run| match run {
        Run::Track(track) => track.has(ONLY_LABELLED),
        _ => false,
    });
    if only_labelled {
        labels.labelled_frames
    } else {
        labels.video_frames.or(labels.labelled_frames)
    }
}

const ONLY_LABELLED: &str = "--only_labeled_frames";

/// Adds the facts in the configs of one run.
fn describe_run(
    package: &dyn PackageFiles,
    run: &Run,
    description: &mut JobDescription,
    labels: &mut BTreeSet<RelPath>,
) {
    match run {
        Run::Train(train) => {
            let facts = facts(package, &train.config, &train.settings);
            let places = facts.labels.iter().filter_map(|text| train.folder.place(text).ok());
            labels.extend(places.filter_map(|place| there(package, &place)));
            add(description, facts);
        }
        Run::TrainLegacy(train) => {
            labels.extend(there(package, &train.labels));
            add(description, facts(package, &train.config, &[]));
        }
        Run::Track(track) => {
            labels.extend(there(package, &track.data));
            for model in &track.models {
                let Model::Named(place) = model else { continue };
                let config = RelPath::new(format!("{}/training_config.yaml", place.path));
                let facts = config.map(|path| facts(package, &path, &[])).unwrap_or_default();
                description.model_types.extend(facts.model_types);
            }
        }
    }
}

/// The path of a file in the package, at its written path or by its bare name.
fn there(package: &dyn PackageFiles, place: &script::NamedPath) -> Option<RelPath> {
    let is_file = |path: &RelPath| package.look(path) == super::files::Found::File;
    let bare = place.bare().filter(|bare| !is_file(&place.path) && is_file(bare));
    Some(bare.unwrap_or_else(|| place.path.clone()))
}

fn facts(package: &dyn PackageFiles, config: &RelPath, changes: &[ConfigOverride]) -> Facts {
    let Some(text) = text(package, config, MAX_CONFIG_BYTES) else { return Facts::default() };
    let Ok(config) = Config::read(&text) else { return Facts::default() };
    let settings = Settings { config: &config, changes };
    let (epochs, batch) = match config.is_sleap_nn() {
        true => ("trainer_config.max_epochs", "trainer_config.train_data_loader.batch_size"),
        false => ("optimization.epochs", "optimization.batch_size"),
    };
    let mut labels = settings.texts("data_config.train_labels_path");
    labels.truncate(MAX_LABELS);
    Facts {
        model_types: config.model_types(),
        epochs: settings.count(epochs),
        batch_size: settings.count(batch),
        version: config.texts("sleap_nn_version").into_iter().next(),
        labels,
    }
}

fn add(description: &mut JobDescription, facts: Facts) {
    description.model_types.extend(facts.model_types);
    description.epochs = match (description.epochs, facts.epochs) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    };
    description.batch_size = description.batch_size.max(facts.batch_size);
    let older = |known: &String| facts.version.as_ref().is_some_and(|new| is_newer(new, known));
    if description.sleap_nn_version.as_ref().is_none_or(older) {
        description.sleap_nn_version = facts.version.filter(|version| version.len() <= 64);
    }
}

#[cfg(test)]
mod tests;
