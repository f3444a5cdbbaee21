//! The progress of a transfer as text: how much the receiver has verified, the rate, the time left,
//! and how much it already had.

use std::collections::VecDeque;
use web_time::{Duration, Instant};

/// The time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// The shortest time for a meaningful rate.
const LEAST: Duration = Duration::from_millis(500);

/// The progress of a transfer, as the receiver reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes verified by the receiver, including those that it already had.
    pub done_bytes: u64,
    /// The sum of all file sizes.
    pub total_bytes: u64,
    /// Bytes that the receiver had before the transfer.
    pub already_there_bytes: u64,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The package, to the worker.
    Upload,
    /// The result, to here.
    Download,
}

impl Direction {
    /// The label for the user.
    pub fn label(self) -> &'static str {
        match self {
            Self::Upload => "Sending package",
            Self::Download => "Receiving result",
        }
    }
}

/// One transfer.
#[derive(Debug)]
pub struct Meter {
    /// Its direction.
    pub direction: Direction,
    /// The destination, as in "already on gpu1".
    place: String,
    started: Instant,
    now: Progress,
    /// The verified bytes over time, within the window.
    recent: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// A transfer to or from `worker` that starts `now`.
    pub fn new(direction: Direction, worker: &str, now: Instant) -> Self {
        let place = match direction {
            Direction::Upload => format!("on {worker}"),
            Direction::Download => "here".to_owned(),
        };
        Self { direction, place, started: now, now: Progress::default(), recent: VecDeque::new() }
    }

    /// Records the progress at `now`.
    pub fn note(&mut self, progress: Progress, now: Instant) {
        self.now = progress;
        let past = |(at, _): &(Instant, u64)| now.duration_since(*at) > WINDOW;
        // One sample from before the window is its starting point.
        while self.recent.len() > 1 && self.recent.get(1).is_some_and(past) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, progress.done_bytes));
    }

    /// The bytes that the receiver already had, if any.
    pub fn already(&self) -> Option<String> {
        let Progress { already_there_bytes, total_bytes, .. } = self.now;
        let of = of(already_there_bytes, total_bytes);
        (already_there_bytes > 0).then(|| format!("{of} already {}", self.place))
    }

    /// The current progress: "1.2 of 2.0 GB, 45 MB/s, 18 s left".
    pub fn line(&self) -> String {
        let Progress { done_bytes, total_bytes, .. } = self.now;
        let mut line = of(done_bytes, total_bytes);
        if let Some(rate) = self.bytes_per_s() {
            line.push_str(&format!(", {}/s", bytes(rate as u64)));
            if rate >= 1.0 {
                let left_s = total_bytes.saturating_sub(done_bytes) as f64 / rate;
                line.push_str(&format!(", {} left", time(left_s)));
            }
        }
        line
    }

    /// The verified share of the whole, from 0 to 1.
    pub fn share(&self) -> f64 {
        match self.now.total_bytes {
            0 => 0.0,
            total => (self.now.done_bytes as f64 / total as f64).clamp(0.0, 1.0),
        }
    }

    /// The bytes that were sent for a transfer of `total_bytes`.
    pub fn sent_bytes(&self, total_bytes: u64) -> u64 {
        total_bytes.saturating_sub(self.now.already_there_bytes)
    }

    /// The summary at the end: "done, 2.0 GB in 12 s, of which 1.9 GB were already on gpu1".
    pub fn done(&self, total_bytes: u64, now: Instant) -> String {
        let took = time(now.duration_since(self.started).as_secs_f64());
        let already = match self.now.already_there_bytes {
            0 => String::new(),
            there => format!(", of which {} were already {}", bytes(there), self.place),
        };
        format!("done, {} in {took}{already}", bytes(total_bytes))
    }

    /// The rate at which bytes are verified.
    fn bytes_per_s(&self) -> Option<f64> {
        let ((first, before), (last, after)) = (self.recent.front()?, self.recent.back()?);
        let took = last.duration_since(*first);
        let grown = after.saturating_sub(*before) as f64;
        (took >= LEAST).then(|| grown / took.as_secs_f64())
    }
}

/// The largest unit of which there is at least one, with its size.
fn unit(bytes: u64) -> (f64, &'static str) {
    match bytes {
        0..1_000 => (1.0, "bytes"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    }
}

fn in_unit(bytes: u64, (size, name): (f64, &str)) -> String {
    let count = bytes as f64 / size;
    // Rounds down: 99.97 of 100 MB must not read as 100 of 100.
    match name {
        "bytes" => format!("{count}"),
        _ if count < 10.0 => format!("{:.1}", (count * 10.0).floor() / 10.0),
        _ => format!("{}", count.floor()),
    }
}

fn of(some: u64, all: u64) -> String {
    let unit = unit(all);
    let fine = |bytes: u64| match unit.1 {
        "GB" => format!("{:.1}", (bytes as f64 / 1e8).floor() / 10.0),
        _ => in_unit(bytes, unit),
    };
    format!("{} of {} {}", fine(some), fine(all), unit.1)
}

/// A number of bytes in the unit that fits it.
pub fn bytes(count: u64) -> String {
    let unit = unit(count);
    format!("{} {}", in_unit(count, unit), unit.1)
}

/// A time in seconds, in the units that fit it.
pub fn time(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7_200 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts for a transfer of `total` bytes that has verified these bytes, second by second.
    fn told(direction: Direction, already: u64, total: u64, seconds: &[u64]) -> String {
        let start = Instant::now();
        let mut meter = Meter::new(direction, "gpu1", start);
        let mut text = String::new();
        for (second, done_bytes) in seconds.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            let progress = Progress {
                done_bytes: *done_bytes,
                total_bytes: total,
                already_there_bytes: already,
            };
            meter.note(progress, now);
            let first = meter.already().filter(|_| second == 0);
            text.extend(first.map(|already| format!("{}: {already}\n", direction.label())));
            text.push_str(&format!("{}: {}\n", direction.label(), meter.line()));
        }
        let end = start + Duration::from_secs(seconds.len() as u64);
        text + &format!("{}: {}", direction.label(), meter.done(total, end))
    }

    #[test]
    fn a_package_of_which_most_is_there() {
        let (mb, gb) = (1_000_000, 1_000_000_000);
        let seconds = [1_900 * mb, 1_912 * mb, 1_930 * mb, 1_930 * mb];
        insta::assert_snapshot!(told(Direction::Upload, 1_900 * mb, 2 * gb, &seconds));
    }

    #[test]
    fn a_result_that_takes_long_and_stops() {
        let (mb, gb) = (1_000_000, 1_000_000_000);
        let seconds =
            [0, 2 * mb, 4 * mb, 4 * mb, 4 * mb, 4 * mb, 4 * mb, 4 * mb, 4 * mb, 9_999 * mb];
        insta::assert_snapshot!(told(Direction::Download, 0, 10 * gb, &seconds));
    }

    #[test]
    fn a_package_of_a_few_bytes() {
        insta::assert_snapshot!(told(Direction::Upload, 0, 900, &[0, 900]));
    }

    #[test]
    fn an_incomplete_transfer_never_reads_as_complete() {
        assert_eq!(of(99_999_999, 100_000_000), "99 of 100 MB");
        assert_eq!(of(1_999_999_999, 2_000_000_000), "1.9 of 2.0 GB");
        assert_eq!(
            (time(0.1), time(119.5), time(7_300.0)),
            ("1 s".into(), "2 min".into(), "2 h 1 min".into())
        );
    }
}
