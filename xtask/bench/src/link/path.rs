//! One direction of an emulated link: a queue, a line with a rate, and a delay.
//!
//! A packet leaves the queue when the line has sent all packets before it. Packets that do not fit into
//! the queue are dropped. Of the others, some are lost at random: they occupy the line but never arrive.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use std::time::{Duration, Instant};

/// What a link does to packets, in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The rate of the line, in Mbit/s.
    pub rate_mbit: u32,
    /// The round trip time without queueing.
    pub round_trip: Duration,
    /// The size of the queue, in bytes.
    pub queue_bytes: u32,
    /// The share of packets that are lost on the line, from 0 to 1.
    pub loss: f64,
    /// The seed that decides which packets are lost.
    pub seed: u64,
}

impl Shape {
    /// A link with a queue of one round trip, as routers have, and at least 64 KiB.
    pub fn new(rate_mbit: u32, round_trip: Duration, loss: f64, seed: u64) -> Self {
        let bytes = u64::from(rate_mbit) * round_trip.as_micros() as u64 / 8;
        let queue_bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(64 << 10);
        Self { rate_mbit, round_trip, queue_bytes, loss, seed }
    }
}

/// The state of one direction.
pub struct Path {
    shape: Shape,
    /// When the line will have sent everything so far.
    free_at: Instant,
    losses: SmallRng,
}

impl Path {
    pub fn new(shape: Shape, now: Instant) -> Self {
        Self { shape, free_at: now, losses: SmallRng::seed_from_u64(shape.seed) }
    }

    /// When to deliver a packet of `bytes` that arrives at `now`, or `None` if it is lost.
    pub fn deliver_at(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let start = self.free_at.max(now);
        if start - now > self.time_on_line(self.shape.queue_bytes as usize) {
            return None;
        }
        self.free_at = start + self.time_on_line(bytes);
        let lost = self.shape.loss > 0.0 && self.losses.random_bool(self.shape.loss);
        (!lost).then(|| self.free_at + self.shape.round_trip / 2)
    }

    fn time_on_line(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 8_000 / u64::from(self.shape.rate_mbit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rate_mbit: 100,
        round_trip: Duration::from_millis(20),
        queue_bytes: 12_500,
        loss: 0.0,
        seed: 1,
    };

    #[test]
    fn packets_leave_at_the_rate_of_the_line_and_arrive_half_a_round_trip_later() {
        let now = Instant::now();
        let mut path = Path::new(SHAPE, now);
        let late = |ms| Some(now + Duration::from_millis(10) + Duration::from_micros(ms));
        assert_eq!(path.deliver_at(1_250, now), late(100));
        assert_eq!(path.deliver_at(1_250, now), late(200));
        let later = now + Duration::from_millis(5);
        assert_eq!(path.deliver_at(1_250, later), Some(later + Duration::from_micros(10_100)));
    }

    #[test]
    fn a_full_queue_drops_what_comes() {
        let now = Instant::now();
        let mut path = Path::new(SHAPE, now);
        let through = (0..100).filter(|_| path.deliver_at(1_250, now).is_some()).count();
        // Ten packets wait, and one is on the line.
        assert_eq!(through, 11);
    }

    #[test]
    fn losses_are_as_many_as_asked_for_and_the_same_for_a_seed() {
        let now = Instant::now();
        let count = |seed| {
            let mut path = Path::new(Shape { loss: 0.01, seed, ..SHAPE }, now);
            let at = |n: u64| now + Duration::from_millis(n);
            (0..100_000).filter(|&n| path.deliver_at(1_250, at(n)).is_none()).count()
        };
        assert!((900..1_100).contains(&count(1)), "{} of 100,000 at 1 %", count(1));
        assert_eq!(count(1), count(1));
        assert_ne!(count(1), count(2));
    }
}
