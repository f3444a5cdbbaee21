//! What decides how long a trainer runs and how much memory it needs, and what finished runs took.
//!
//! A client describes the runs of its job, and the worker describes them again from the files that arrive. From
//! what earlier runs took, a worker learns how long the next ones take. Plugins receive these types as JSON:
//! keys are only ever added.

use crate::text::{Printable, duration};
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// The two kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Runs `train-script.sh`. The results are models.
    #[serde(alias = "train")]
    Training,
    /// Runs `track-script.sh`. The results are predictions.
    #[serde(alias = "track")]
    Inference,
}

impl JobType {
    /// The word in metadata and job requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Inference => "inference",
        }
    }

    /// The script of a package of this kind.
    pub fn script_name(self) -> &'static str {
        match self {
            Self::Training => "train-script.sh",
            Self::Inference => "track-script.sh",
        }
    }
}

/// Size of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSize {
    /// Rows of pixels.
    pub height: u32,
    /// Columns of pixels.
    pub width: u32,
    /// Colour channels.
    pub channels: u32,
}

/// One run of a trainer. What could not be read is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Whether it trains or predicts.
    pub job_type: JobType,
    /// The head to train, or the heads to predict with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_types: Vec<String>,
    /// The most epochs to train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Whether the training ends earlier once it no longer improves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stops_early: bool,
    /// Samples in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Batches in an epoch, as the configuration and the labels have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches_per_epoch: Option<u64>,
    /// Labelled frames to train with, or frames to predict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// The size of a sample as the network sees it: a scaled frame, or a crop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<ImageSize>,
    /// The filters of the first layer of a UNet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<u32>,
    /// The GPU memory that training takes, by its formula.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryNeed>,
}

impl Workload {
    /// A run of which only the type is known.
    pub fn unknown(job_type: JobType) -> Self {
        Self {
            job_type,
            model_types: Vec::new(),
            epochs: None,
            stops_early: false,
            batch_size: None,
            batches_per_epoch: None,
            frames: None,
            input: None,
            filters: None,
            memory: None,
        }
    }

    /// The GPU memory that it takes by its formula, in MiB.
    pub fn memory_mib(&self) -> Option<u64> {
        Some(self.memory?.mib(self.batch_size?))
    }

    /// Its kind, as people call it: `training centroid`.
    pub fn kind(&self) -> String {
        let models: Vec<_> = self
            .model_types
            .iter()
            .take(4)
            .map(|model| Printable::line(model, 40).to_string())
            .collect();
        match models.is_empty() {
            true => self.job_type.as_str().to_owned(),
            false => format!("{} {}", self.job_type.as_str(), models.join("+")),
        }
    }
}

/// GPU memory by batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// What the weights take.
    pub fixed_bytes: u64,
    /// What each sample of a batch adds.
    pub bytes_per_sample: u64,
}

impl MemoryNeed {
    /// What batches of this size take, in MiB.
    pub fn mib(self, batch_size: u32) -> u64 {
        let samples = self.bytes_per_sample.saturating_mul(u64::from(batch_size));
        self.fixed_bytes.saturating_add(samples).div_ceil(MIB)
    }
}

/// What a run took. What was not observed is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From its start to its end, in seconds.
    pub took_s: f64,
    /// From its start to its first epoch or frame, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_up_s: Option<f64>,
    /// Complete epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Seconds of one batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s_per_batch: Option<f64>,
    /// Batches in an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches_per_epoch: Option<u64>,
    /// Seconds of an epoch after its batches: validation, and saving the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_s: Option<f64>,
    /// Seconds after the last epoch or frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_s: Option<f64>,
    /// Predicted frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
    /// Seconds of one frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s_per_frame: Option<f64>,
    /// The most GPU memory that was seen in use, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_mib: Option<u64>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// What ran.
    pub run: Workload,
    /// The model of its GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The trainer's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleap_nn_version: Option<String>,
    /// What it took.
    pub took: Timing,
    /// Whether it ended by itself and succeeded. Otherwise its duration says nothing, but its speed does.
    pub succeeded: bool,
}

impl FinishedRun {
    /// The epoch after which the training no longer improved and ended, if it did.
    pub fn stopped_after(&self) -> Option<u32> {
        let done = self.took.epochs?;
        (self.succeeded && self.run.stops_early && done < self.run.epochs?).then_some(done)
    }
}

/// An estimate of a duration. `0 <= low <= minutes <= high`, all finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The most likely duration, in minutes.
    pub minutes: f64,
    /// The job is rarely shorter.
    pub low: f64,
    /// The job is rarely longer.
    pub high: f64,
    /// The estimated share of jobs that take between `low` and `high`.
    pub confidence: f64,
}

/// What a worker expects of a job before it starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Its runs, in order, as far as they are known.
    #[serde(default)]
    pub runs: Vec<Workload>,
    /// How long it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// What may go wrong, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The most warnings of a worker to show, and the most characters of each.
const MAX_WARNINGS: usize = 4;
const MAX_WARNING_CHARS: usize = 500;

impl Outlook {
    /// It in words, one line each: what may go wrong, and how long the job takes. A worker's words and
    /// figures are not trusted.
    pub fn lines(&self) -> Vec<String> {
        let warnings = self.warnings.iter().take(MAX_WARNINGS);
        let warnings = warnings
            .map(|warning| format!("Warning: {}", Printable::line(warning, MAX_WARNING_CHARS)));
        warnings.chain(self.estimate.and_then(Estimate::line)).collect()
    }
}

impl Estimate {
    fn line(self) -> Option<String> {
        let Self { minutes, low, high, .. } = self;
        let is_sane = 0.0 <= low && low <= minutes && minutes <= high && high < 1e6;
        let [likely, low, high] = [minutes, low, high].map(|minutes| duration(minutes * 60.0));
        is_sane.then(|| format!("Expected to take about {likely} ({low} to {high})"))
    }
}

/// The GPU memory that a job probably needs, which is that of its largest training.
#[derive(Debug, Clone, PartialEq)]
pub struct NeededMemory {
    /// The memory, in MiB.
    pub mib: u64,
    /// What one sample less in each batch would save, in MiB.
    pub mib_per_sample: f64,
    /// Samples in a batch.
    pub batch_size: u32,
    /// The kind of the training.
    pub kind: String,
}

impl NeededMemory {
    /// The need of the largest of `runs` by its formula. `correction` is how many times as much runs like it
    /// took than their formulas said.
    pub fn of(runs: &[Workload], correction: impl Fn(&Workload) -> f64) -> Option<Self> {
        let need = |run: &Workload| {
            let (batch_size, factor) = (run.batch_size?, correction(run));
            let per_sample = run.memory?.bytes_per_sample as f64 / MIB as f64;
            let mib = (run.memory_mib()? as f64 * factor).ceil() as u64;
            Some(Self { mib, mib_per_sample: per_sample * factor, batch_size, kind: run.kind() })
        };
        runs.iter().filter_map(need).max_by_key(|need| need.mib)
    }
}

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedJob {
    /// From the start of its first run to its end, in seconds.
    pub took_s: f64,
    /// Whether all of its runs ended by themselves and succeeded.
    pub succeeded: bool,
    /// What was estimated before it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// Its runs, in order.
    pub runs: Vec<FinishedRun>,
}

impl FinishedJob {
    /// Its kind: those of its runs.
    pub fn kind(&self) -> String {
        let mut kinds: Vec<String> = self.runs.iter().map(|run| run.run.kind()).collect();
        kinds.dedup();
        kinds.join(", ")
    }
}

/// How well estimates agree with what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Jobs that succeeded and had an estimate.
    pub jobs: usize,
    /// The share of them that ended between the estimate's `low` and `high`, 0 to 1.
    pub within: f64,
    /// The median of the relative errors of the estimate's `minutes`.
    pub median_error: f64,
    /// The median duration, in seconds.
    pub median_s: f64,
}

impl Calibration {
    /// Compares. `None` if there is nothing to compare.
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a FinishedJob>) -> Option<Self> {
        let (mut within, mut errors, mut durations) = (0, Vec::new(), Vec::new());
        for job in jobs.into_iter().filter(|job| job.succeeded && job.took_s > 0.0) {
            let Some(estimate) = job.estimate else { continue };
            let minutes = job.took_s / 60.0;
            within += usize::from((estimate.low..=estimate.high).contains(&minutes));
            errors.push((estimate.minutes - minutes).abs() / minutes);
            durations.push(job.took_s);
        }
        let jobs = errors.len();
        let (median_error, median_s) = (median(errors)?, median(durations)?);
        Some(Self { jobs, within: within as f64 / jobs as f64, median_error, median_s })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_compared_with_what_happened() {
        let job = |minutes: f64, succeeded, estimate: Option<f64>| FinishedJob {
            took_s: minutes * 60.0,
            succeeded,
            estimate: estimate.map(|minutes| Estimate {
                minutes,
                low: minutes / 2.0,
                high: minutes * 2.0,
                confidence: 0.8,
            }),
            runs: Vec::new(),
        };
        let jobs = [
            job(10.0, true, Some(10.0)),
            job(10.0, true, Some(8.0)),
            job(10.0, true, Some(30.0)),
            job(10.0, false, Some(900.0)),
            job(10.0, true, None),
        ];
        let found = Calibration::of(&jobs).unwrap();
        assert_eq!((found.jobs, found.median_s), (3, 600.0));
        assert!((found.within - 2.0 / 3.0).abs() < 1e-9 && (found.median_error - 0.2).abs() < 1e-9);
        assert_eq!(Calibration::of(&jobs[3..]), None);
    }

    #[test]
    fn an_outlook_of_a_stranger_is_told_in_harmless_words() {
        let estimate = |minutes| Estimate { minutes, low: 1.0, high: 90.0, confidence: 0.8 };
        let outlook = |minutes| Outlook {
            estimate: Some(estimate(minutes)),
            warnings: vec!["no\x1b[2J room\u{202e}".into(); 9],
            ..Outlook::default()
        };
        let lines = outlook(30.0).lines();
        assert_eq!(lines.len(), MAX_WARNINGS + 1);
        assert!(lines[0].starts_with("Warning: no") && !lines[0].contains(['\u{1b}', '\u{202e}']));
        assert_eq!(lines[MAX_WARNINGS], "Expected to take about 30 min (60 s to 90 min)");
        for senseless in [f64::NAN, -1.0, 91.0] {
            assert_eq!(outlook(senseless).lines().len(), MAX_WARNINGS);
        }
    }

    #[test]
    fn memory_grows_with_the_batch() {
        let need = MemoryNeed { fixed_bytes: 1, bytes_per_sample: MIB };
        assert_eq!((need.mib(0), need.mib(3)), (1, 4));
        let endless = MemoryNeed { fixed_bytes: u64::MAX, bytes_per_sample: u64::MAX };
        assert_eq!(endless.mib(u32::MAX), u64::MAX.div_ceil(MIB));
    }

    #[test]
    fn an_early_stop_is_one_of_the_training_itself() {
        let run =
            Workload { epochs: Some(9), stops_early: true, ..Workload::unknown(JobType::Training) };
        let took = Timing { epochs: Some(4), ..Timing::default() };
        let run = FinishedRun { run, gpu: None, sleap_nn_version: None, took, succeeded: true };
        assert_eq!(run.stopped_after(), Some(4));
        assert_eq!(FinishedRun { succeeded: false, ..run.clone() }.stopped_after(), None);
        let whole = Timing { epochs: Some(9), ..Timing::default() };
        assert_eq!(FinishedRun { took: whole, ..run }.stopped_after(), None);
    }
}
