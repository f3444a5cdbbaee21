//! Describes a package to policies, from its script, its configs and its labels.
//!
//! The package is hostile, so everything is bounded. What cannot be read is unknown, never an error.

use super::check::{is_newer, needed};
use super::config::{Config, MAX_CONFIG_BYTES, Settings};
use super::files::{PackageFiles, bytes, locate, text};
use super::labels::Labels;
use super::script::{
    self, ConfigOverride, MAX_SCRIPT_BYTES, Model, NamedPath, Run, ScriptFile, Track,
};
use super::workload;
use sleap_rtc_protocol::job::{JobDescription, JobType};
use sleap_rtc_protocol::path::RelPath;
use sleap_rtc_protocol::signaling::MAX_VIDEOS;
use sleap_rtc_protocol::workload::Workload;
use std::collections::BTreeMap;
use std::slice;

/// The most labels to read for one config.
const MAX_LABELS: usize = 16;

/// Describes `package` to policies. Reads files, so async tasks must not call it.
pub fn describe(package: &dyn PackageFiles, job_type: JobType) -> JobDescription {
    let mut description = JobDescription::unknown(job_type);
    description.package_bytes = package.total_bytes();
    let Some(mut runs) = runs(package, ScriptFile::of(job_type)) else { return description };
    let videos = super::check::listed_videos(package).unwrap_or_default();
    description.mounted_videos = videos.on_worker().take(MAX_VIDEOS).map(str::to_owned).collect();
    let mut described = Described { package, description, labels: BTreeMap::new() };
    for run in &runs {
        described.add(run);
    }
    let Described { mut description, labels, .. } = described;
    let frames = |labels: &Labels| match job_type {
        JobType::Training => labels.labelled_frames,
        JobType::Inference => frames_to_predict(&runs, labels),
    };
    let counts = labels.values().map(|labels| frames(labels.as_ref()?));
    description.frame_count = counts.reduce(|a, b| a?.checked_add(b?)).flatten();
    description.image = labels.values().flatten().find_map(|labels| labels.image);
    if job_type == JobType::Training {
        // The models that the training makes.
        let models = description.model_types.clone();
        runs = self::runs(package, ScriptFile::Inference).unwrap_or_default();
        let after = runs.iter().filter(|run| matches!(run, Run::Track(_)));
        description.runs.extend(after.map(|run| {
            let frames =
                labels.values().map(|l| frames_to_predict(slice::from_ref(run), l.as_ref()?));
            let frames = frames.reduce(|a, b| a?.checked_add(b?)).flatten();
            workload::inference(models.clone(), frames, description.image)
        }));
    }
    description
}

/// The runs of a script, if the package has it and it can be read.
fn runs(package: &dyn PackageFiles, file: ScriptFile) -> Option<Vec<Run>> {
    let path = RelPath::new(file.name()).ok()?;
    let text = script::decode(&bytes(package, &path, MAX_SCRIPT_BYTES)?)?;
    Some(script::parse(file, &text).ok()?.runs)
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

/// A description, and the labels that were read for it. Labels that cannot be read are `None`.
struct Described<'a> {
    package: &'a dyn PackageFiles,
    description: JobDescription,
    labels: BTreeMap<RelPath, Option<Labels>>,
}

impl Described<'_> {
    /// Adds one run.
    fn add(&mut self, run: &Run) {
        let workload = match run {
            Run::Train(train) => self.training(&train.config, &train.settings, |settings| {
                let mut labels = settings.texts("data_config.train_labels_path");
                labels.truncate(MAX_LABELS);
                labels.iter().filter_map(|text| train.folder.place(text).ok()).collect()
            }),
            Run::TrainLegacy(train) => {
                self.training(&train.config, &[], |_| vec![train.labels.clone()])
            }
            Run::Track(track) => self.prediction(track),
        };
        let description = &mut self.description;
        description.model_types.extend(workload.model_types.iter().cloned());
        description.epochs = match (description.epochs, workload.epochs) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
        description.batch_size = description.batch_size.max(workload.batch_size);
        description.runs.push(workload);
    }

    /// A training with the config at `place`, changed by the script, and the labels at these places.
    fn training(
        &mut self,
        place: &NamedPath,
        changes: &[ConfigOverride],
        labels_of: impl FnOnce(&Settings<'_>) -> Vec<NamedPath>,
    ) -> Workload {
        let path = locate(self.package, place);
        let text = path.and_then(|path| text(self.package, &path, MAX_CONFIG_BYTES));
        let config = text.as_deref().and_then(|text| Config::read(text).ok());
        let Some(config) = config else { return Workload::unknown(JobType::Training) };
        let settings = Settings { config: &config, changes };
        let needed = needed(&settings).filter(|_| config.is_sleap_nn());
        self.note_version(needed.map(|needed| needed.version.to_string()));
        let labels: Vec<_> = labels_of(&settings).iter().map(|place| self.read(place)).collect();
        workload::training(&settings, &labels)
    }

    fn prediction(&mut self, track: &Track) -> Workload {
        let labels = self.read(&track.data);
        let run = Run::Track(track.clone());
        let frames = labels.as_ref().and_then(|labels| frames_to_predict(&[run], labels));
        let configs = track.models.iter().filter_map(|model| match model {
            Model::Named(place) => {
                RelPath::new(format!("{}/training_config.yaml", place.path)).ok()
            }
            _ => None,
        });
        let texts = configs.filter_map(|path| text(self.package, &path, MAX_CONFIG_BYTES));
        let types =
            texts.flat_map(|text| Config::read(&text).map(|c| c.model_types()).unwrap_or_default());
        workload::inference(types.collect(), frames, labels.and_then(|labels| labels.image))
    }

    /// The labels at a place in the package.
    fn read(&mut self, place: &NamedPath) -> Option<Labels> {
        let package = self.package;
        let path = locate(package, place).unwrap_or_else(|| place.path.clone());
        let read = |path: &RelPath| Labels::read(package.open_at_random(path)?);
        self.labels.entry(path.clone()).or_insert_with(|| read(&path)).clone()
    }

    /// The newest version counts.
    fn note_version(&mut self, version: Option<String>) {
        let known = &mut self.description.sleap_nn_version;
        let older = |known: &String| version.as_ref().is_some_and(|new| is_newer(new, known));
        if known.as_ref().is_none_or(older) {
            *known = version;
        }
    }
}

#[cfg(test)]
mod tests;
