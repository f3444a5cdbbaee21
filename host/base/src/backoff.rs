//! Exponential backoff with jitter.

use std::time::Duration;

/// The waits between attempts: each is twice as long as the one before, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits that begin at `first` and grow to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next wait: between half of the present length and all of it, so that a thousand peers do
    /// not return at the same instant.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait.mul_f64(rand::random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_differ() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 4 * second);
        for longest in [1, 2, 4, 4, 4] {
            let wait = backoff.next_wait();
            assert!(wait >= longest * second / 2 && wait <= longest * second, "{wait:?}");
        }
    }
}
