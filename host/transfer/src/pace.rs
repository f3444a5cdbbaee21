//! A rate limit that several transfers share.

use parking_lot::Mutex;
use sleap_rtc_base::rate_limit::RateLimit;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much may be sent at once after a pause, as the time that it would take. Makes up for short
/// pauses.
const BURST: Duration = Duration::from_millis(50);

/// A rate limit in bytes per second. Clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_s: u64,
    sent: Arc<Mutex<RateLimit>>,
}

impl Pace {
    /// A limit of `bytes_per_s`, at least one.
    pub fn new(bytes_per_s: u64) -> Self {
        let sent = Arc::new(Mutex::new(RateLimit::new(Instant::now())));
        Self { bytes_per_s: bytes_per_s.max(1), sent }
    }

    /// Counts `bytes`. Returns how long to wait before sending them.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        self.sent.lock().charge(cost, now).saturating_sub(cost + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Apart from a burst and one message, the rate never exceeds the limit. A sender that never
        /// pauses gets the full rate.
        #[test]
        fn the_rate_is_kept_and_used(
            bytes_per_s in 1_000..1_000_000_000u64,
            messages in prop::collection::vec((1..65_536usize, 0..3u64), 1..100),
        ) {
            let start = Instant::now();
            let (pace, mut now) = (Pace::new(bytes_per_s), start);
            let (mut sent, mut paused) = (0, false);
            for (bytes, pause_ms) in messages {
                let waited = pace.take(bytes, now);
                now += waited;
                let allowed = (now - start + BURST).as_secs_f64() * bytes_per_s as f64;
                prop_assert!(sent as f64 <= allowed + 10.0, "{sent} > {allowed}");
                if !waited.is_zero() && !paused {
                    prop_assert!(sent as f64 >= allowed - 10.0, "{sent} < {allowed}");
                }
                sent += bytes;
                paused |= pause_ms > 0;
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
