//! Lets short jobs go first. Jobs of which nobody knows how long they take come last.

use crate::exports::sleap_rtc::policy::queueing::{Guest, Place, RunningJob, WaitingJob};
use crate::sleap_rtc::policy::types::{Context, Worker};

impl Guest for crate::Plugin {
    fn order(
        _context: Context,
        _worker: Worker,
        _running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        let takes_s: Vec<_> = waiting.iter().map(|job| job.takes_s).collect();
        Ok(Some(order(&takes_s)))
    }
}

fn order(takes_s: &[Option<u64>]) -> Vec<Place> {
    let mut jobs: Vec<(u32, Option<u64>)> = (0..).zip(takes_s.iter().copied()).collect();
    // Stable: of two jobs that take equally long, the one that came first goes first.
    jobs.sort_by_key(|(_, takes_s)| takes_s.unwrap_or(u64::MAX));
    let place = |(index, takes_s): (u32, Option<u64>)| {
        let reason = match takes_s {
            Some(seconds) => format!("takes {} min", seconds.div_ceil(60)),
            None => "nobody knows how long it takes".into(),
        };
        Place { index, reason }
    };
    jobs.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_jobs_go_first_and_unknown_ones_last() {
        let places = order(&[None, Some(600), Some(90), Some(600)]);
        let indices: Vec<_> = places.iter().map(|place| place.index).collect();
        assert_eq!(indices, [2, 1, 3, 0]);
        assert_eq!(places[0].reason, "takes 2 min");
    }
}
