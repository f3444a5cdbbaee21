//! A token bucket. Time is an argument.

use std::time::{Duration, Instant};

/// A rate limiter (GCRA): stores the time until which the permitted rate is used up. Each use adds the time
/// that it takes at that rate.
///
/// ```
/// use sleap_rtc_base::rate_limit::RateLimit;
/// use std::time::{Duration, Instant};
///
/// let (second, now) = (Duration::from_secs(1), Instant::now());
/// let mut limit = RateLimit::new(now);
/// assert_eq!(limit.charge(second, now), second);
/// assert_eq!(limit.charge(second, now), 2 * second);
/// assert_eq!(limit.charge(second, now + 5 * second), second);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    paid_at: Instant,
}

impl RateLimit {
    /// A limit of which nothing has been used.
    pub fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// Counts a use that takes `cost` at the permitted rate. Returns how long it takes until everything
    /// is paid for. What goes beyond the burst that the caller permits is how long the next use waits.
    pub fn charge(&mut self, cost: Duration, now: Instant) -> Duration {
        let debt = self.paid_at.saturating_duration_since(now) + cost;
        self.paid_at = now + debt;
        debt
    }

    /// The same, but counts nothing and returns nothing if it would take longer than `max_debt`.
    pub fn try_charge(
        &mut self,
        cost: Duration,
        max_debt: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let mut charged = *self;
        let debt = charged.charge(cost, now);
        (debt <= max_debt).then(|| {
            *self = charged;
            debt
        })
    }

    /// Whether nothing of the permitted rate is in use.
    pub fn is_unused(&self, now: Instant) -> bool {
        self.paid_at <= now
    }
}
