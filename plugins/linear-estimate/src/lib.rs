//! The default estimation plugin: half a minute an epoch, or 100 frames a minute, or an hour.

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
use bindings::sleap_rtc::policy::types::{Context, Job, JobType, Worker};

const MINUTES_PER_EPOCH: f64 = 0.5;
const FRAMES_PER_MINUTE: f64 = 100.0;
const MINUTES_WHEN_UNKNOWN: f64 = 60.0;

struct LinearEstimate;

impl Guest for LinearEstimate {
    fn estimate(_: Context, job: Job, _: Worker) -> Result<Option<Duration>, String> {
        Ok(Some(duration(&job.job_type, job.epochs, job.frame_count)))
    }
}

/// The estimate for a job of `epochs` epochs or `frames` frames.
///
/// The rates are rules of thumb for any model on any GPU, so the bounds are wide: a quarter of the
/// estimate and four times the estimate.
pub fn duration(job_type: &JobType, epochs: Option<u32>, frames: Option<u64>) -> Duration {
    let minutes = match job_type {
        JobType::Training => epochs.map(|epochs| f64::from(epochs) * MINUTES_PER_EPOCH),
        JobType::Inference => frames.map(|frames| frames as f64 / FRAMES_PER_MINUTE),
        JobType::Other(_) => None,
    };
    match minutes {
        Some(minutes) => {
            Duration { minutes, low: minutes / 4.0, high: minutes * 4.0, confidence: 0.5 }
        }
        None => Duration {
            minutes: MINUTES_WHEN_UNKNOWN,
            low: 0.0,
            high: 24.0 * MINUTES_WHEN_UNKNOWN,
            confidence: 0.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_frames_or_an_hour() {
        let minutes = |job_type, epochs, frames| duration(&job_type, epochs, frames).minutes;
        assert_eq!(minutes(JobType::Training, Some(200), Some(7)), 100.0);
        assert_eq!(minutes(JobType::Inference, Some(200), Some(1500)), 15.0);
        assert_eq!(minutes(JobType::Training, None, Some(1500)), 60.0);
        assert_eq!(minutes(JobType::Inference, Some(200), None), 60.0);
        assert_eq!(minutes(JobType::Other("x".into()), Some(1), Some(1)), 60.0);
    }
}
