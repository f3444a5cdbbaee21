//! Estimates half a minute for each epoch.

use crate::exports::sleap_rtc::policy::estimation::{Duration, Guest};
use crate::sleap_rtc::policy::types::{Context, Job, Worker};

const MINUTES_PER_EPOCH: f64 = 0.5;

impl Guest for crate::Plugin {
    fn estimate(_: Context, job: Job, _: Worker) -> Result<Option<Duration>, String> {
        Ok(job.epochs.map(duration))
    }
}

fn duration(epochs: u32) -> Duration {
    let minutes = f64::from(epochs) * MINUTES_PER_EPOCH;
    Duration { minutes, low: minutes / 2.0, high: minutes * 2.0, confidence: 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_epochs() {
        let estimate = duration(200);
        assert_eq!((estimate.low, estimate.minutes, estimate.high), (50.0, 100.0, 200.0));
    }
}
