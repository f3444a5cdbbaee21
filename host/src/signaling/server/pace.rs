//! How fast one socket may speak: a token bucket. Time comes in as an argument.

use std::time::{Duration, Instant};

/// Cost units that come back each second: one for each frame, and one for each
/// [`BYTES_PER_UNIT`] of it.
const UNITS_PER_S: f64 = 500.0;
/// Cost units that may be spent at once.
const BURST: f64 = 1000.0;
const BYTES_PER_UNIT: f64 = 16.0 * 1024.0;

/// What a socket has left to spend. Too fast a sender is read later, not refused.
#[derive(Debug)]
pub(super) struct Pace {
    units: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { units: BURST, at: now }
    }

    /// Counts a frame of `bytes` and returns how long to wait before the next is read.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * UNITS_PER_S;
        self.at = now;
        self.units = (self.units + earned).min(BURST) - 1.0 - bytes as f64 / BYTES_PER_UNIT;
        Duration::from_secs_f64((-self.units / UNITS_PER_S).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!((0..900).all(|_| pace.spend(100, start).is_zero()));
        let mut now = start;
        for _ in 0..10_000 {
            now += pace.spend(100, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((17.0..21.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn large_frames_cost_more() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut now = start;
        for _ in 0..100 {
            now += pace.spend(1024 * 1024, now);
        }
        assert!(now - start > Duration::from_secs(10));
    }
}
