//! A run to estimate.

use super::bindings::sleap_rtc::policy::types::{Job, JobType};
use serde_json::Value;

/// What is known of a run. Numbers are positive.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) is_training: bool,
    pub(crate) model_types: Vec<String>,
    pub(crate) epochs: Option<f64>,
    pub(crate) stops_early: bool,
    pub(crate) batches_per_epoch: Option<f64>,
    pub(crate) batch_size: Option<f64>,
    pub(crate) frames: Option<f64>,
    /// Pixels of a sample.
    pub(crate) pixels: Option<f64>,
    pub(crate) filters: Option<f64>,
}

impl Run {
    /// Reads an element of `runs`, or the `run` of an element of `history`.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let side = |name: &str| positive(&json["input"][name]);
        Some(Self {
            is_training: match json["job_type"].as_str()? {
                "training" => true,
                "inference" => false,
                _ => return None,
            },
            model_types: texts(&json["model_types"]),
            epochs: positive(&json["epochs"]),
            stops_early: json["stops_early"].as_bool().unwrap_or(false),
            batches_per_epoch: positive(&json["batches_per_epoch"]),
            batch_size: positive(&json["batch_size"]),
            frames: positive(&json["frames"]),
            pixels: side("height").zip(side("width")).map(|(height, width)| height * width),
            filters: positive(&json["filters"]),
        })
    }

    /// A job whose runs are not known, as one run.
    pub(crate) fn of_job(job: &Job) -> Self {
        let unknown = |count: f64| (count > 0.0).then_some(count);
        let is_training = matches!(job.job_type, JobType::Training);
        let is_known = is_training || matches!(job.job_type, JobType::Inference);
        Self {
            is_training,
            model_types: job.model_types.clone(),
            epochs: job.epochs.map(f64::from).and_then(unknown).filter(|_| is_known),
            batch_size: job.batch_size.map(f64::from).and_then(unknown),
            frames: job.frame_count.map(|n| n as f64).and_then(unknown).filter(|_| is_known),
            pixels: job.image.map(|image| f64::from(image.height) * f64::from(image.width)),
            ..Self::default()
        }
    }

    /// How much more work a batch (or a frame) of this run is than one of `other`.
    pub(crate) fn work_over(&self, other: &Self) -> f64 {
        let of_batch =
            if self.is_training { ratio(self.batch_size, other.batch_size) } else { 1.0 };
        of_batch * ratio(self.pixels, other.pixels) * ratio(self.filters, other.filters)
    }

    /// How much more there is to validate than for `other`.
    pub(crate) fn data_over(&self, other: &Self) -> f64 {
        ratio(self.frames, other.frames) * ratio(self.pixels, other.pixels)
    }
}

/// Without one of the numbers, both count as equal.
pub(crate) fn ratio(one: Option<f64>, other: Option<f64>) -> f64 {
    one.zip(other).map_or(1.0, |(one, other)| (one / other).clamp(1e-4, 1e4))
}

fn texts(json: &Value) -> Vec<String> {
    json.as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

/// A number above zero that is not absurd.
pub(crate) fn positive(json: &Value) -> Option<f64> {
    json.as_f64().filter(|number| *number > 0.0 && *number < 1e12)
}
