//! A limit on how fast bytes come and go: a token bucket that all who are limited together share.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What may go at once after a pause: a chunk must, and short pauses are made up for.
const BURST: Duration = Duration::from_millis(50);

/// A limit in bytes per second. Copies share it.
#[derive(Debug, Clone)]
pub struct Pace(Arc<Mutex<Bucket>>);

#[derive(Debug)]
struct Bucket {
    bytes_per_s: u64,
    /// When all that was taken so far has gone.
    gone_at: Option<Instant>,
}

impl Pace {
    /// So many bytes per second, at least one.
    pub fn new(bytes_per_s: u64) -> Self {
        Self(Arc::new(Mutex::new(Bucket { bytes_per_s: bytes_per_s.max(1), gone_at: None })))
    }

    /// Takes `bytes`, and says how long to wait before they may go.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let mut bucket = self.0.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = bucket.gone_at.unwrap_or(earliest).max(earliest);
        let takes_s = bytes as f64 / bucket.bytes_per_s as f64;
        bucket.gone_at = Some(start + Duration::from_secs_f64(takes_s));
        start.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Over any time no more goes than the rate allows, a burst and one message aside; and
        /// whoever asks all the time gets all of it.
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
