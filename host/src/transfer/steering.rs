//! How much a lane has under way, and how many lanes there are: found out from what arrives.
//!
//! No clock and no I/O. A lane may have [`GAIN`] times under way what its path holds, which is the
//! greatest rate of the last moments times the path's own round trip: enough that the line is never
//! idle, and too little to fill the queue before it, whose overflow SCTP recovers from slowly. (The
//! same thought as in BBR.) The round trip is that of the connectivity checks; the least counts,
//! since what is above it is queues.
//!
//! Lanes are doubled while that raises the rate of all together: past the limit of one CPU, of one
//! receive window, of SCTP on a path that loses packets.

use super::flight::LaneId;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many times what its path holds a lane has under way. Routers' queues hold about as much as
/// the line itself, so that two would be too much.
const GAIN: f64 = 1.5;
/// What both ends need to notice and to answer, whatever the path does.
const TURNAROUND: Duration = Duration::from_millis(5);
/// The round trip while nothing is known of it.
const UNKNOWN: Duration = Duration::from_millis(50);
/// A lane has at least one chunk under way, and takes another.
const LEAST_BYTES: usize = 64 << 10;
/// What a lane has under way before anything is known of its rate.
const FIRST_BYTES: usize = 256 << 10;
/// The most that all lanes together have under way: a bound on the memory of both ends.
const MOST_BYTES: usize = 12 << 20;
/// The least that a rate is taken over.
const SPAN: Duration = Duration::from_millis(10);
/// For so many spans the greatest rate counts.
const SPANS: u32 = 8;
/// So many times the least round trip, in [`OLD_ROUND_TRIPS`] checks one after another, and the path
/// is another one: more than the sender's own queue explains.
const LONGER: u32 = 2;
const OLD_ROUND_TRIPS: usize = 3;

/// The most lanes beside the link's own connection.
pub const MAX_LANES: usize = 8;
/// A transfer that has less left than this opens no lane.
pub const LARGE_BYTES: u64 = 8 << 20;
/// Below this time left, no lane is added.
const WORTH: Duration = Duration::from_secs(1);
/// More lanes stay when the rate has grown by this factor.
const PAYS: f64 = 1.1;
/// How long a number of lanes is tried, at least, and in round trips; the first half of it does not
/// count, since lanes start slowly.
const TRIAL: Duration = Duration::from_millis(400);
const TRIAL_ROUND_TRIPS: u32 = 16;
/// When more lanes did not pay, they are tried again after this time.
const CONTENT: Duration = Duration::from_secs(20);

/// How many lanes a transfer has beside the link's own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaneCount {
    /// As many as pay.
    #[default]
    Adaptive,
    /// So many, for measurements.
    Fixed(usize),
}

/// One lane, as it is measured.
#[derive(Debug)]
struct Line {
    /// Bytes delivered so far, over about one span.
    delivered: VecDeque<(Instant, u64)>,
    /// Bytes per second, over the last spans; only those that no later one exceeds.
    rates: VecDeque<(Instant, f64)>,
    round_trips: VecDeque<Duration>,
    least_round_trip: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Steering {
    lines: BTreeMap<LaneId, Line>,
    count: Count,
    delivered: u64,
}

impl Steering {
    pub(super) fn new(count: LaneCount) -> Self {
        let count = Count { rule: count, step: Step::Fresh, most: MAX_LANES };
        Self { lines: BTreeMap::new(), count, delivered: 0 }
    }

    /// A lane has come.
    pub(super) fn add(&mut self, lane: LaneId, now: Instant) {
        let line = Line {
            delivered: VecDeque::from([(now, 0)]),
            rates: VecDeque::new(),
            round_trips: VecDeque::new(),
            least_round_trip: None,
        };
        self.lines.insert(lane, line);
    }

    /// A lane has gone.
    pub(super) fn remove(&mut self, lane: LaneId) {
        self.lines.remove(&lane);
    }

    /// The path of a lane was measured.
    pub(super) fn measured(&mut self, lane: LaneId, round_trip: Duration) {
        let Some(line) = self.lines.get_mut(&lane) else { return };
        if line.round_trips.len() == OLD_ROUND_TRIPS {
            line.round_trips.pop_front();
        }
        line.round_trips.push_back(round_trip);
        let least = line.least_round_trip.map_or(round_trip, |least| least.min(round_trip));
        let newest = line.round_trips.iter().min().copied().unwrap_or(least);
        let is_longer = line.round_trips.len() == OLD_ROUND_TRIPS && newest > least * LONGER;
        line.least_round_trip = Some(if is_longer { newest } else { least });
    }

    /// So much has a lane delivered until now, in all.
    pub(super) fn delivered(&mut self, lane: LaneId, bytes: u64, now: Instant) {
        let span = self.span(lane);
        let Some(line) = self.lines.get_mut(&lane) else { return };
        let before = line.delivered.back().map_or(0, |(_, bytes)| *bytes);
        self.delivered += bytes.saturating_sub(before);
        line.delivered.push_back((now, bytes));
        while line.delivered.len() > 2 && line.delivered[1].0 + span <= now {
            line.delivered.pop_front();
        }
        let Some((since, then)) = line.delivered.front().copied() else { return };
        let took = now.saturating_duration_since(since);
        if took >= span {
            let rate = bytes.saturating_sub(then) as f64 / took.as_secs_f64();
            line.rates.retain(|(at, other)| *at + span * SPANS > now && *other > rate);
            line.rates.push_back((now, rate));
        }
    }

    /// What `lane` may have under way.
    pub(super) fn cap_bytes(&self, lane: LaneId) -> usize {
        let most = MOST_BYTES / self.lines.len().max(1);
        let Some(rate) = self.lines.get(&lane).and_then(Line::rate) else {
            return FIRST_BYTES.min(most);
        };
        let holds = rate * (self.round_trip(lane) + TURNAROUND).as_secs_f64();
        ((GAIN * holds) as usize).clamp(LEAST_BYTES.min(most), most)
    }

    /// Of the path alone. Lanes between the same two machines mostly take the same one, and those
    /// that came when it was busy have never seen it free.
    pub(super) fn round_trip(&self, lane: LaneId) -> Duration {
        let own = self.lines.get(&lane).and_then(|line| line.least_round_trip);
        let least = self.lines.values().filter_map(|line| line.least_round_trip).min();
        match (own, least) {
            (Some(own), Some(least)) if own > least * LONGER => own,
            (_, Some(least)) => least,
            _ => UNKNOWN,
        }
    }

    fn span(&self, lane: LaneId) -> Duration {
        self.round_trip(lane).max(SPAN)
    }

    /// The longest round trip of all lanes.
    pub(super) fn longest_round_trip(&self) -> Duration {
        let all = self.lines.keys().map(|lane| self.round_trip(*lane));
        all.max().unwrap_or(UNKNOWN)
    }

    /// How many lanes there should be, `left_bytes` before the end. `open` of them there are.
    pub(super) fn wanted_lanes(&mut self, now: Instant, left_bytes: u64, open: usize) -> usize {
        let trial = TRIAL.max(self.longest_round_trip() * TRIAL_ROUND_TRIPS);
        self.count.wanted(Moment { now, left_bytes, open, delivered: self.delivered, trial })
    }
}

impl Line {
    fn rate(&self) -> Option<f64> {
        self.rates.front().map(|(_, rate)| *rate)
    }
}

/// What is known at one moment.
struct Moment {
    now: Instant,
    left_bytes: u64,
    open: usize,
    delivered: u64,
    trial: Duration,
}

/// The search for the right number of lanes.
#[derive(Debug)]
struct Count {
    rule: LaneCount,
    step: Step,
    /// The other side opens no more than these.
    most: usize,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// No lane was asked for.
    Fresh,
    /// Waits until so many are open.
    Opening { wanted: usize, before: Option<f64>, since: Instant },
    /// Measures so many.
    Trying { lanes: usize, before: Option<f64>, since: Instant, from: Option<(Instant, u64)> },
    /// So many are right.
    Content { lanes: usize, until: Instant },
}

/// A lane that is not open by then is not waited for.
const OPENING: Duration = Duration::from_secs(10);

impl Count {
    fn wanted(&mut self, moment: Moment) -> usize {
        if let LaneCount::Fixed(lanes) = self.rule {
            return lanes;
        }
        let Moment { now, left_bytes, open, delivered, trial } = moment;
        match self.step {
            Step::Fresh if left_bytes < LARGE_BYTES => return 0,
            Step::Fresh => self.step = Step::Opening { wanted: 1, before: None, since: now },
            Step::Opening { wanted, before, .. } if open >= wanted => {
                self.step = Step::Trying { lanes: wanted, before, since: now, from: None };
            }
            Step::Opening { since, .. } if since + OPENING <= now => {
                self.step = Step::Content { lanes: open, until: now + CONTENT };
            }
            Step::Opening { .. } => {}
            Step::Trying { lanes, .. } if open < lanes => {
                self.step = Step::Content { lanes: open, until: now + CONTENT };
            }
            Step::Trying { lanes, before, since, from: None } if since + trial / 2 <= now => {
                let from = Some((now, delivered));
                self.step = Step::Trying { lanes, before, since, from };
            }
            Step::Trying { lanes, before, from: Some((at, bytes)), .. }
                if at + trial / 2 <= now =>
            {
                let took = now.saturating_duration_since(at).as_secs_f64();
                let rate = delivered.saturating_sub(bytes) as f64 / took;
                self.step = self.judge(lanes, before, rate, &moment);
            }
            Step::Trying { .. } => {}
            Step::Content { until, .. } if until <= now => {
                self.step = Step::Trying { lanes: open, before: None, since: now, from: None };
            }
            Step::Content { .. } => {}
        }
        match self.step {
            Step::Fresh => 0,
            Step::Opening { wanted, .. } => wanted,
            Step::Trying { lanes, .. } | Step::Content { lanes, .. } => lanes,
        }
    }

    /// What comes after `lanes` were measured.
    fn judge(&self, lanes: usize, before: Option<f64>, rate: f64, moment: &Moment) -> Step {
        let (now, until) = (moment.now, moment.now + CONTENT);
        if before.is_some_and(|before| rate < before * PAYS) {
            return Step::Content { lanes: (lanes / 2).max(1), until };
        }
        let left = moment.left_bytes as f64 / rate.max(1.0);
        if lanes * 2 > self.most || left < (WORTH + moment.trial).as_secs_f64() {
            return Step::Content { lanes, until };
        }
        let wanted = (lanes * 2).max(1);
        Step::Opening { wanted, before: Some(rate), since: now }
    }
}
