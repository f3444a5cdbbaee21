//! Frames that are not passed on, and how often the log says so: any peer of the room can send them.

use sleap_rtc_base::rate_limit::RateLimit;
use std::time::{Duration, Instant};

/// The shortest time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Ignored {
    lines: RateLimit,
    unsaid: u64,
}

impl Ignored {
    pub(crate) fn new(now: Instant) -> Self {
        Self { lines: RateLimit::new(now), unsaid: 0 }
    }

    /// Counts a frame. Returns how many there were since the last line, if it is time for one.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        self.lines.try_charge(LINE_EVERY, LINE_EVERY, now)?;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_ignored_frames_is_a_line_each_ten_seconds() {
        let start = Instant::now();
        let mut ignored = Ignored::new(start);
        let said = |ignored: &mut Ignored, at| (0..100).find_map(|_| ignored.count(at));
        assert_eq!(said(&mut ignored, start), Some(1));
        assert_eq!(said(&mut ignored, start), None);
        assert_eq!(said(&mut ignored, start + LINE_EVERY), Some(101));
    }
}
