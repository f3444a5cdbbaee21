//! Limits how often a wrong code may be tried at this worker. Time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this many spoiled codes within [`WINDOW`], this worker creates no more.
pub(crate) const MAX_FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(3600);

/// The times at which codes were spoiled, by a wrong word or anything else that may be a guess.
#[derive(Debug, Default)]
pub(crate) struct Failures(VecDeque<Instant>);

impl Failures {
    /// Records a spoiled code.
    pub(crate) fn count(&mut self, now: Instant) {
        self.forget(now);
        self.0.push_back(now);
    }

    /// How long to wait before the next code, if at all.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.forget(now);
        let oldest = self.0.front().filter(|_| self.0.len() >= MAX_FAILURES)?;
        Some((*oldest + WINDOW).saturating_duration_since(now))
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|oldest| *oldest + WINDOW <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No hour has more spoiled codes than allowed, whatever the times.
        #[test]
        fn no_hour_has_more_than_its_share(waits in prop::collection::vec(0..1_000_u64, 1..100)) {
            let (mut failures, mut now) = (Failures::default(), Instant::now());
            let mut spoiled: Vec<Instant> = Vec::new();
            for wait in waits {
                now += Duration::from_secs(wait);
                match failures.pause(now) {
                    Some(wait) => prop_assert!(wait <= WINDOW && !wait.is_zero()),
                    None => {
                        failures.count(now);
                        spoiled.push(now);
                    }
                }
                let in_hour = spoiled.iter().filter(|at| now - **at < WINDOW).count();
                prop_assert!(in_hour <= MAX_FAILURES);
            }
        }
    }

    #[test]
    fn an_hour_later_it_is_forgotten() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        (0..MAX_FAILURES).for_each(|_| failures.count(start));
        assert_eq!(failures.pause(start + WINDOW / 2), Some(WINDOW / 2));
        assert_eq!(failures.pause(start + WINDOW), None);
    }
}
