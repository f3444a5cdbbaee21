//! The rate limit of one socket. Time is an argument.

use super::Limits;
use sleap_rtc_base::rate_limit::RateLimit;
use std::time::{Duration, Instant};

/// A frame costs one unit, and another one for this many bytes.
const BYTES_PER_UNIT: f64 = 16.0 * 1024.0;

/// The use of a socket. Frames of a fast sender are read later, not refused.
#[derive(Debug)]
pub(crate) struct FrameLimit(RateLimit);

impl FrameLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self(RateLimit::new(now))
    }

    /// Counts a frame of `bytes`. Returns how long to wait before the next one is read.
    pub(crate) fn spend(&mut self, bytes: usize, limits: &Limits, now: Instant) -> Duration {
        let takes = |units: f64| Duration::from_secs_f64(units / f64::from(limits.frames_per_s));
        let debt = self.0.charge(takes(1.0 + bytes as f64 / BYTES_PER_UNIT), now);
        debt.saturating_sub(takes(limits.burst_frames.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut frame_limit = FrameLimit::new(start);
        assert!((0..900).all(|_| frame_limit.spend(100, &limits, start).is_zero()));
        let mut now = start;
        for _ in 0..10_000 {
            now += frame_limit.spend(100, &limits, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((17.0..21.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn large_frames_cost_more() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut frame_limit = FrameLimit::new(start);
        let mut now = start;
        for _ in 0..100 {
            now += frame_limit.spend(1024 * 1024, &limits, now);
        }
        assert!(now - start > Duration::from_secs(10));
    }
}
