//! How fast one socket may send: a token bucket. Time comes in as an argument.

use super::Limits;
use std::time::{Duration, Instant};

/// A frame costs one unit, and one more for each of these many bytes.
const BYTES_PER_UNIT: f64 = 16.0 * 1024.0;

/// The units that a socket has left. The frames of a sender that is too fast are read later, not
/// refused.
#[derive(Debug)]
pub(super) struct RateLimit {
    units: f64,
    at: Instant,
}

impl RateLimit {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self { units: limits.burst_frames.into(), at: now }
    }

    /// Counts a frame of `bytes` and returns how long to wait before the next is read.
    pub(super) fn spend(&mut self, bytes: usize, limits: &Limits, now: Instant) -> Duration {
        let per_s = f64::from(limits.frames_per_s);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * per_s;
        self.at = now;
        self.units = (self.units + earned).min(limits.burst_frames.into())
            - 1.0
            - bytes as f64 / BYTES_PER_UNIT;
        Duration::from_secs_f64((-self.units / per_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut rate_limit = RateLimit::new(&limits, start);
        assert!((0..900).all(|_| rate_limit.spend(100, &limits, start).is_zero()));
        let mut now = start;
        for _ in 0..10_000 {
            now += rate_limit.spend(100, &limits, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((17.0..21.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn large_frames_cost_more() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut rate_limit = RateLimit::new(&limits, start);
        let mut now = start;
        for _ in 0..100 {
            now += rate_limit.spend(1024 * 1024, &limits, now);
        }
        assert!(now - start > Duration::from_secs(10));
    }
}
