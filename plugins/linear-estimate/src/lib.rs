//! The default estimation plugin. It takes runs apart into start-up, batches, validation and frames, and adds
//! up what these took in earlier runs, scaled to the size of the new one. How far off it would have been for
//! each earlier run decides how wide its answer is.
//!
//! Where no earlier run tells, it has rules of thumb: half a minute an epoch, or 100 frames a minute, or an
//! hour.

mod past;
mod prediction;
mod run;

/// Bindings generated from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "estimation-plugin", path: "../../wit" });

    #[cfg(all(feature = "guest", target_family = "wasm"))]
    use super::LinearEstimate;
    #[cfg(all(feature = "guest", target_family = "wasm"))]
    export!(LinearEstimate);
}

use bindings::exports::sleap_rtc::policy::estimation::{Duration, Guest};
use bindings::sleap_rtc::policy::types::{Context, Job, Property, Value, Worker};
use past::Past;
use prediction::Prediction;
use run::Run;

const S_PER_EPOCH: f64 = 30.0;
const S_PER_FRAME: f64 = 0.6;
const S_WHEN_UNKNOWN: f64 = 3600.0;
/// How much more or less time programs need to start and files to be copied, however even the earlier runs were.
const JITTER_S: f64 = 2.0;
/// The share of jobs that end within an estimate from earlier runs.
const CONFIDENCE: f64 = 0.8;

struct LinearEstimate;

impl Guest for LinearEstimate {
    fn estimate(context: Context, job: Job, worker: Worker) -> Result<Option<Duration>, String> {
        let gpu = worker.gpus.iter().max_by_key(|gpu| gpu.memory_mib);
        Ok(Some(duration(&job, gpu.map(|gpu| gpu.model.as_str()), &context.properties)))
    }
}

/// The estimate for `job` on `gpu`, from the properties of the context.
pub fn duration(job: &Job, gpu: Option<&str>, properties: &[Property]) -> Duration {
    let past: Vec<Past> = list(properties, "history").iter().filter_map(Past::read).collect();
    let mut runs: Vec<Run> = list(&job.properties, "runs").iter().filter_map(Run::read).collect();
    if runs.is_empty() {
        runs.push(Run::of_job(job));
    }
    let mut sum = Sum::default();
    for run in &runs {
        match prediction::predict(run, gpu, &past) {
            Some(prediction) => sum.add(prediction, CONFIDENCE),
            None => {
                let (prediction, confidence) = by_rule_of_thumb(run);
                sum.add(prediction, confidence);
            }
        }
    }
    sum.minutes()
}

/// The rates are for any model on any GPU, so the bounds are wide: a quarter of the estimate and four times the
/// estimate.
fn by_rule_of_thumb(run: &Run) -> (Prediction, f64) {
    let seconds = match run.is_training {
        true => run.epochs.map(|epochs| epochs * S_PER_EPOCH),
        false => run.frames.map(|frames| frames * S_PER_FRAME),
    };
    match seconds {
        Some(likely) => (Prediction { low: likely / 4.0, likely, high: likely * 4.0 }, 0.5),
        None => {
            let (low, high) = (0.0, 24.0 * S_WHEN_UNKNOWN);
            (Prediction { low, likely: S_WHEN_UNKNOWN, high }, 0.0)
        }
    }
}

/// Runs that follow one another. One that is slower than expected says little about the next.
#[derive(Default)]
struct Sum {
    likely: f64,
    below: f64,
    above: f64,
    confidence: Option<f64>,
}

impl Sum {
    fn add(&mut self, run: Prediction, confidence: f64) {
        self.likely += run.likely;
        self.below = self.below.hypot(run.likely - run.low);
        self.above = self.above.hypot(run.high - run.likely);
        self.confidence = Some(self.confidence.map_or(confidence, |least| least.min(confidence)));
    }

    fn minutes(&self) -> Duration {
        let minutes =
            |seconds: f64| if seconds.is_finite() { seconds.max(0.0) / 60.0 } else { 1e9 };
        let likely = minutes(self.likely);
        Duration {
            minutes: likely,
            low: minutes(self.likely - self.below.hypot(JITTER_S)).min(likely),
            high: minutes(self.likely + self.above.hypot(JITTER_S)).max(likely),
            confidence: self.confidence.unwrap_or(0.0),
        }
    }
}

/// The list at `key`, which is JSON.
fn list(properties: &[Property], key: &str) -> Vec<serde_json::Value> {
    let property = properties.iter().find(|property| property.key == key);
    match property.map(|property| &property.value) {
        Some(Value::Json(json)) => serde_json::from_str(json).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
