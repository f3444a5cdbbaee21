//! How much a lane has under way, and how many lanes there are: found out from what arrives.
//!
//! No clock and no I/O. A lane may have [`GAIN`] times under way what its path holds, which is the
//! greatest rate of the last moments times the path's own round trip: enough that the line is never
//! idle, and too little to fill the queue before it, whose overflow SCTP recovers from slowly. (The
//! same thought as in BBR.) The round trip is that of the connectivity checks; the least counts,
//! since what is above it is queues.
//!
//! Several lanes get past the limit of one CPU, of one receive window, of SCTP on a path that loses
//! packets. How many there should be is tried.

use super::flight::{FIRST, LaneId};
use sleap_rtc_protocol::transfer::CHUNK_BYTES;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How many times what its path holds a lane has under way. Routers' queues hold about as much as
/// the line itself, so that two would be too much.
const GAIN: f64 = 1.25;
/// The same while a lane is still starting, which it does by doubling what is under way. When the line
/// is full at last, so is most of its queue, and that is not yet too much.
const STARTING_GAIN: f64 = 1.75;
/// On shorter paths, rates are measured too coarsely for that, and there is less to win.
const LONG_PATH: Duration = Duration::from_millis(40);
/// What a short path must hold for two connections to start on it.
const SHARING_BYTES: usize = 8 * CHUNK_BYTES;
/// A lane has started when its rate is less than so many times what it was a round trip before,
const GROWS: f64 = 1.2;
/// so many times in a row.
const STARTED: u8 = 2;
/// What both ends need to notice and to answer, whatever the path does.
const TURNAROUND: Duration = Duration::from_millis(3);
/// The round trip while nothing is known of it.
const UNKNOWN: Duration = Duration::from_millis(50);
/// What a lane may have under way at least, before it takes another chunk.
const LEAST_BYTES: usize = 64 << 10;
/// The same where several lanes share the line.
const SHARED_LEAST_BYTES: usize = 16 << 10;
/// The most that all lanes together have under way: a bound on the memory of both ends.
const MOST_BYTES: usize = 8 << 20;
/// The least that a rate is taken over.
const SPAN: Duration = Duration::from_millis(10);
/// For so many spans the greatest rate counts.
const SPANS: u32 = 8;
/// So many times the least round trip, in [`OLD_ROUND_TRIPS`] checks one after another, and the path
/// is another one: more than the sender's own queue explains.
const LONGER: u32 = 2;
const OLD_ROUND_TRIPS: usize = 3;

/// The most lanes beside the link's own connection.
pub const MAX_LANES: usize = 16;
/// A transfer that has less left than this opens no lane.
pub const LARGE_BYTES: u64 = 8 << 20;
/// More lanes are worth their cost when they make the rate so many times what it is.
const PAYS: f64 = 1.1;
/// Between machines as near as this the line is mostly faster than one connection, which has one
/// thread: a transfer that is long enough begins with so many at once.
const NEAR: Duration = Duration::from_millis(5);
const NEAR_LANES: usize = 4;
/// A rate that is less than so many times what it was has fallen, and so many lanes are tried.
const FALLEN: f64 = 0.6;
const FALLEN_LANES: usize = 8;
/// What was measured counts for so much at each further measurement: rates vary for many reasons.
const FADES: f64 = 0.95;
/// How long a rate is measured, at least, and in round trips. It counts once it is not [`PAYS`]
/// times what it was in the measurement before: lanes start slowly.
const TRIAL: Duration = Duration::from_millis(150);
const TRIAL_ROUND_TRIPS: u32 = 8;
/// With less than so many trials left, no lane is added.
const TRIALS_LEFT: u32 = 6;
/// A lane that is not open by then is not waited for.
const OPENING: Duration = Duration::from_secs(10);

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
    speed: Speed,
    start: Option<Start>,
    round_trips: VecDeque<Duration>,
    least_round_trip: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Steering {
    lines: BTreeMap<LaneId, Line>,
    count: Count,
    delivered: u64,
    /// Of all lanes together.
    speed: Option<Speed>,
    /// A lane that has delivered nothing since then has nothing to do.
    since: Option<Instant>,
    /// What the lanes beside the link's own connection have under way.
    under_way_bytes: usize,
}

/// A lane's first moments.
#[derive(Debug, Default)]
struct Start {
    /// The rate of a round trip before, in bytes per second, and when that was.
    last: Option<(Instant, f64)>,
    /// How often it did not grow.
    level: u8,
}

impl Start {
    /// Says whether the lane goes on starting.
    fn goes_on(&mut self, rate: f64, round_trip: Duration, now: Instant) -> bool {
        match self.last {
            Some((at, _)) if at + round_trip > now => return true,
            Some((_, before)) if rate < before * GROWS => self.level += 1,
            _ => self.level = 0,
        }
        self.last = Some((now, rate));
        self.level < STARTED
    }
}

/// How fast bytes are delivered, at most.
#[derive(Debug)]
struct Speed {
    /// Bytes delivered so far, over about one span.
    delivered: VecDeque<(Instant, u64)>,
    /// Bytes per second, over the last spans; only those that no later one exceeds.
    rates: VecDeque<(Instant, f64)>,
}

impl Speed {
    fn new(now: Instant, bytes: u64) -> Self {
        Self { delivered: VecDeque::from([(now, bytes)]), rates: VecDeque::new() }
    }

    /// So many bytes until now, in all. Returns how many of them are new.
    fn note(&mut self, bytes: u64, now: Instant, span: Duration) -> u64 {
        let before = self.delivered.back().map_or(0, |(_, bytes)| *bytes);
        self.delivered.push_back((now, bytes));
        while self.delivered.len() > 2 && self.delivered[1].0 + span <= now {
            self.delivered.pop_front();
        }
        if let Some((since, then)) = self.delivered.front().copied() {
            let took = now.saturating_duration_since(since);
            if took >= span {
                let rate = bytes.saturating_sub(then) as f64 / took.as_secs_f64();
                self.rates.retain(|(at, other)| *at + span * SPANS > now && *other > rate);
                self.rates.push_back((now, rate));
            }
        }
        bytes.saturating_sub(before)
    }

    fn most(&self) -> Option<f64> {
        self.rates.front().map(|(_, rate)| *rate)
    }

    /// The same of one that delivers, as far as is known: the others' rates are history.
    fn most_since(&self, since: Instant) -> Option<f64> {
        self.rates.back().filter(|(at, _)| *at > since).and_then(|_| self.most())
    }
}

impl Steering {
    pub(crate) fn new(count: LaneCount) -> Self {
        Self {
            lines: BTreeMap::new(),
            count: Count::new(count),
            delivered: 0,
            speed: None,
            since: None,
            under_way_bytes: 0,
        }
    }

    /// A lane has come.
    pub(crate) fn add(&mut self, lane: LaneId, now: Instant) {
        let line = Line {
            speed: Speed::new(now, 0),
            // One that joins others finds the line full.
            start: (self.lines.len() < 2).then(Start::default),
            round_trips: VecDeque::new(),
            least_round_trip: None,
        };
        self.lines.insert(lane, line);
    }

    /// A lane has gone.
    pub(crate) fn remove(&mut self, lane: LaneId) {
        self.lines.remove(&lane);
    }

    /// The path of a lane was measured.
    pub(crate) fn measured(&mut self, lane: LaneId, round_trip: Duration) {
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
    pub(crate) fn delivered(&mut self, lane: LaneId, bytes: u64, now: Instant) {
        let span = self.span(lane);
        if let Some(line) = self.lines.get_mut(&lane) {
            self.delivered += line.speed.note(bytes, now, span);
            if let Some(rate) = line.speed.most().filter(|rate| *rate > 0.0) {
                line.start.take_if(|start| !start.goes_on(rate, span, now));
            }
        }
    }

    /// All lanes have told; those beside the link's own connection have so much under way.
    pub(crate) fn all_told(&mut self, under_way_bytes: usize, now: Instant) {
        self.under_way_bytes = under_way_bytes;
        let (delivered, span) = (self.delivered, self.longest_round_trip().max(SPAN));
        self.since = now.checked_sub(span * SPANS);
        let speed = self.speed.get_or_insert_with(|| Speed::new(now, delivered));
        speed.note(delivered, now, span);
    }

    /// What `lane` may have under way. Nothing where it is to stand aside.
    pub(crate) fn cap_bytes(&self, lane: LaneId) -> usize {
        let most = MOST_BYTES / self.lines.len().max(1);
        let sharing = self.others().count().max(1);
        let least = if sharing > 1 { SHARED_LEAST_BYTES } else { LEAST_BYTES }.min(most);
        let line = self.lines.get(&lane);
        let Some((line, rate)) = line.and_then(|line| Some((line, line.speed.most()?))) else {
            return least;
        };
        let round_trip = self.round_trip(lane);
        let lasts = (round_trip + TURNAROUND).mul_f64(GAIN);
        let lasts = match line.start {
            Some(_) if round_trip >= LONG_PATH => lasts.max(round_trip.mul_f64(STARTING_GAIN)),
            _ => lasts,
        };
        if lane == FIRST && self.others().next().is_some() {
            return self.rest_bytes(round_trip, lasts).min(most);
        }
        let under_way = rate * self.share() * lasts.as_secs_f64();
        // Each of them takes up to a chunk beyond its cap. Half of one is for probing.
        let beyond = CHUNK_BYTES * (2 * sharing - 1) / (2 * sharing);
        (under_way as usize).saturating_sub(beyond).clamp(least, most)
    }

    /// What the link's own connection may have under way beside others: while the one that takes
    /// its place is still starting, what that leaves of the whole line, which holds what comes in
    /// the time `lasts`. Nothing on a short path that holds too little to be shared by chunks.
    fn rest_bytes(&self, round_trip: Duration, lasts: Duration) -> usize {
        let whole = (self.together().unwrap_or(0.0) * lasts.as_secs_f64()) as usize;
        let can_share = round_trip >= LONG_PATH || whole >= SHARING_BYTES;
        if !can_share || !self.others().any(|line| line.start.is_some()) {
            return 0;
        }
        whole.saturating_sub(self.under_way_bytes + CHUNK_BYTES)
    }

    fn others(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|(id, _)| **id != FIRST).map(|(_, line)| line)
    }

    /// Lanes are not at their best at the same moment: what they could be together is more than
    /// what they ever were, by this factor.
    fn share(&self) -> f64 {
        let Some(since) = self.since else { return 1.0 };
        // The link's own connection, where there are others, only has what they leave.
        let each = self.others().filter_map(|line| line.speed.most_since(since));
        let each: f64 = each.sum();
        self.together().map_or(1.0, |together| (together / each.max(1.0)).min(1.0))
    }

    /// Bytes per second of all lanes together, at most, lately.
    fn together(&self) -> Option<f64> {
        self.speed.as_ref().and_then(Speed::most)
    }

    /// Of the path alone. Lanes between the same two machines mostly take the same one, and those
    /// that came when it was busy have never seen it free.
    pub(crate) fn round_trip(&self, lane: LaneId) -> Duration {
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
    pub(crate) fn longest_round_trip(&self) -> Duration {
        let all = self.lines.keys().map(|lane| self.round_trip(*lane));
        all.max().unwrap_or(UNKNOWN)
    }

    /// How many lanes there should be, `left_bytes` before the end, where that is news. `open` of
    /// them there are.
    pub(crate) fn wanted_lanes(
        &mut self,
        now: Instant,
        left_bytes: u64,
        open: usize,
    ) -> Option<usize> {
        let (round_trip, delivered) = (self.longest_round_trip(), self.delivered);
        let trial = TRIAL.max(round_trip * TRIAL_ROUND_TRIPS);
        let is_near = round_trip < NEAR;
        let rate = self.together().unwrap_or(0.0);
        self.count.wanted(&Moment { now, left_bytes, open, delivered, rate, trial, is_near })
    }
}

/// What is known at one moment.
struct Moment {
    now: Instant,
    left_bytes: u64,
    open: usize,
    delivered: u64,
    /// Bytes per second at best, lately.
    rate: f64,
    trial: Duration,
    is_near: bool,
}

/// The search for the right number of lanes: each power of two is tried once, until twice as many
/// are no faster; then the least that is almost as fast as the fastest is kept, for as long as it
/// stays so. Where the rate has fallen for good, the path loses packets, and many are tried
/// at once: the fewer packets one lane has lost, the sooner it is back.
#[derive(Debug)]
struct Count {
    rule: LaneCount,
    /// The other side opens no more than these.
    most: usize,
    lanes: usize,
    asked_at: Option<Instant>,
    /// Since when the rate with all of them open is measured, what was delivered before, and the
    /// rate that was measured before that.
    from: Option<(Instant, u64, Option<f64>)>,
    /// Bytes per second with so many lanes.
    rates: BTreeMap<usize, f64>,
    /// The greatest rate since lanes were asked for.
    peak: f64,
}

impl Count {
    fn new(rule: LaneCount) -> Self {
        let (asked_at, from, rates) = (None, None, BTreeMap::new());
        Self { rule, most: MAX_LANES, lanes: 0, asked_at, from, rates, peak: 0.0 }
    }

    /// How many there should be, where that is news.
    fn wanted(&mut self, moment: &Moment) -> Option<usize> {
        let asked_at = self.asked_at;
        self.advance(moment);
        (self.asked_at != asked_at).then_some(self.lanes)
    }

    fn advance(&mut self, moment: &Moment) {
        if let LaneCount::Fixed(lanes) = self.rule {
            if self.asked_at.is_none() {
                self.ask(lanes, moment.now);
            }
            return;
        }
        if self.lanes == 0 && moment.left_bytes >= LARGE_BYTES {
            let is_long = moment.left_bytes >= LARGE_BYTES * NEAR_LANES as u64;
            let lanes = if moment.is_near && is_long { NEAR_LANES } else { 1 };
            self.ask(lanes, moment.now);
        }
        if self.lanes > 0 {
            match moment.open < self.lanes {
                true => self.wait(moment),
                false => self.measure(moment),
            }
        }
    }

    fn ask(&mut self, lanes: usize, now: Instant) {
        self.lanes = lanes;
        (self.asked_at, self.from, self.peak) = (Some(now), None, 0.0);
    }

    /// For lanes that are not open yet, or were lost.
    fn wait(&mut self, moment: &Moment) {
        let is_late = self.asked_at.is_some_and(|at| at + OPENING <= moment.now);
        if self.from.is_some() || is_late {
            self.most = moment.open.max(1);
            self.ask(self.most, moment.now);
        }
    }

    fn measure(&mut self, moment: &Moment) {
        let Moment { now, delivered, trial, .. } = *moment;
        self.peak = self.peak.max(moment.rate);
        let (since, before, last) = *self.from.get_or_insert((now, delivered, None));
        if since + trial > now {
            return;
        }
        let took_s = now.saturating_duration_since(since).as_secs_f64();
        let rate = delivered.saturating_sub(before) as f64 / took_s;
        self.from = Some((now, delivered, Some(rate)));
        // Nothing at all says nothing of their number.
        if delivered == before || last.is_none_or(|last| rate > last * PAYS) {
            return;
        }
        self.rates.values_mut().for_each(|known| *known *= FADES);
        let known = self.rates.entry(self.lanes).or_insert(rate);
        *known = known.max(rate);
        let left_s = moment.left_bytes as f64 / rate.max(1.0);
        let has_time = left_s > (trial * TRIALS_LEFT).as_secs_f64();
        let next = self.next(rate < self.peak * FALLEN);
        if next < self.lanes || (next > self.lanes && has_time) {
            tracing::debug!(rates = ?self.rates, next, "lanes");
            self.ask(next, now);
        }
    }

    /// What to go on with.
    fn next(&self, has_fallen: bool) -> usize {
        let more = if has_fallen { FALLEN_LANES.max(self.lanes * 2) } else { self.lanes * 2 };
        let rate = |lanes| self.rates.get(&lanes).copied();
        let half = rate(self.lanes / 2).unwrap_or(0.0);
        let pays = rate(self.lanes).is_some_and(|rate| rate >= half * PAYS);
        if more <= self.most && pays && rate(more).is_none() {
            return more;
        }
        let possible = self.rates.iter().filter(|(lanes, _)| **lanes <= self.most);
        let best = possible.clone().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let mut enough = possible.filter(|(_, rate)| **rate * PAYS >= best);
        enough.next().map_or(self.lanes, |(lanes, _)| *lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with a queue before it, which all lanes share. What does not fit into the queue is
    /// lost, and the lane that lost it halves what it sends, as SCTP does, and wins it back slowly.
    struct Path {
        bytes_per_s: f64,
        round_trip: Duration,
        queue_bytes: f64,
        /// What one lane can do, whatever the line can.
        lane_bytes_per_s: f64,
    }

    struct Sent {
        delivered: f64,
        in_flight: f64,
        window: f64,
    }

    /// Bytes per second, the most that was in the queue, and lanes, over the last half of the time.
    fn simulate(path: &Path, seconds: f64) -> (f64, f64, usize) {
        const STEP: Duration = Duration::from_millis(1);
        let (start, mut steering) = (Instant::now(), Steering::new(LaneCount::Adaptive));
        let mut lanes: BTreeMap<LaneId, Sent> = BTreeMap::new();
        let mut next = 0;
        let mut open = |lanes: &mut BTreeMap<LaneId, Sent>, steering: &mut Steering, now| {
            steering.add(next, now);
            steering.measured(next, path.round_trip);
            lanes.insert(next, Sent { delivered: 0.0, in_flight: 0.0, window: f64::MAX });
            next += 1;
        };
        open(&mut lanes, &mut steering, start);
        let (mut queued_most, mut at_half) = (0.0_f64, 0.0);
        let (steps, mut total) = ((seconds * 1e3) as u32, 0.0);
        for step in 0..steps {
            let now = start + STEP * step;
            let news = steering.wanted_lanes(now, u64::MAX, lanes.len() - 1);
            let wanted = news.unwrap_or(lanes.len() - 1);
            while lanes.len() - 1 < wanted {
                open(&mut lanes, &mut steering, now);
            }
            while lanes.len() - 1 > wanted {
                let (gone, _) = lanes.pop_last().unwrap();
                steering.remove(gone);
            }
            let used: Vec<LaneId> =
                lanes.keys().copied().filter(|id| steering.cap_bytes(*id) > 0).collect();
            for id in &used {
                let sent = lanes.get_mut(id).unwrap();
                // Below its cap it takes another chunk.
                let taken = steering.cap_bytes(*id) + CHUNK_BYTES;
                sent.in_flight = (taken as f64).min(sent.window);
            }
            let in_flight: f64 = used.iter().map(|id| lanes[id].in_flight).sum();
            let holds = path.bytes_per_s * path.round_trip.as_secs_f64();
            let queued = (in_flight - holds).max(0.0);
            let took_s = path.round_trip.as_secs_f64() + queued / path.bytes_per_s;
            for id in &used {
                let sent = lanes.get_mut(id).unwrap();
                if queued > path.queue_bytes {
                    sent.window = sent.in_flight / 2.0;
                } else {
                    sent.window += 1_200.0 * STEP.as_secs_f64() / took_s;
                }
                let rate = (sent.in_flight / took_s).min(path.lane_bytes_per_s);
                sent.delivered += rate * STEP.as_secs_f64();
                total += rate * STEP.as_secs_f64();
                steering.delivered(*id, sent.delivered as u64, now);
            }
            let beside = used.iter().filter(|id| **id != FIRST);
            let under_way: f64 = beside.map(|id| lanes[id].in_flight).sum();
            steering.all_told(under_way as usize, now);
            if step == steps / 2 {
                at_half = total;
            }
            if step > steps / 2 {
                queued_most = queued_most.max(queued);
            }
        }
        (2.0 * (total - at_half) / seconds, queued_most, lanes.len() - 1)
    }

    /// A path with a queue of one round trip, as routers have it.
    fn path(mbit: f64, round_trip_ms: u64, lane_mb_per_s: f64) -> Path {
        let (bytes_per_s, round_trip) = (mbit * 125e3, Duration::from_millis(round_trip_ms));
        let queue_bytes = (bytes_per_s * round_trip.as_secs_f64()).max(65_536.0);
        Path { bytes_per_s, round_trip, queue_bytes, lane_bytes_per_s: lane_mb_per_s * 1e6 }
    }

    #[test]
    fn a_line_is_filled_and_its_queue_is_not() {
        for (mbit, round_trip_ms) in [(20.0, 30), (100.0, 20), (100.0, 80), (1_000.0, 20)] {
            let path = path(mbit, round_trip_ms, 300.0);
            let (rate, queued, lanes) = simulate(&path, 8.0);
            let share = rate / path.bytes_per_s;
            println!("{mbit} Mbit, {round_trip_ms} ms: {share:.2} of the line, {lanes} lanes");
            assert!(share > 0.95, "{mbit} Mbit, {round_trip_ms} ms: only {share:.2}");
            assert!(queued < path.queue_bytes, "{mbit} Mbit, {round_trip_ms} ms: {queued}");
            assert!(lanes <= 2, "{lanes} do not make the line faster");
        }
    }

    #[test]
    fn lanes_are_added_while_each_is_the_limit() {
        // As where one lane is as fast as one CPU.
        let (rate, _, lanes) = simulate(&path(8_000.0, 1, 250.0), 8.0);
        println!("{:.0} MB/s over {lanes} lanes", rate / 1e6);
        assert!(lanes >= 4 && rate > 900e6, "{rate} over {lanes}");
        // As where every lane loses packets on a long way.
        let (rate, _, lanes) = simulate(&path(100.0, 80, 0.6), 16.0);
        assert_eq!(lanes, MAX_LANES);
        assert!(rate > 0.9 * MAX_LANES as f64 * 0.6e6, "{rate}");
    }

    #[test]
    fn a_path_that_becomes_longer_is_noticed() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let mut steering = Steering::new(LaneCount::Adaptive);
        steering.add(1, now);
        steering.measured(1, ms(20));
        for queued in [25, 31, 38] {
            steering.measured(1, ms(queued));
            assert_eq!(steering.round_trip(1), ms(20), "a queue is no path");
        }
        for longer in [80, 90, 85] {
            steering.measured(1, ms(longer));
        }
        assert_eq!(steering.round_trip(1), ms(80));
        // A lane that came while the others filled the queue.
        steering.add(2, now);
        steering.measured(2, ms(150));
        assert_eq!(steering.round_trip(2), ms(80));
    }

    #[test]
    fn all_lanes_together_are_bounded() {
        let now = Instant::now();
        let mut steering = Steering::new(LaneCount::Fixed(MAX_LANES));
        for lane in 0..=MAX_LANES as LaneId {
            steering.add(lane, now);
            steering.measured(lane, Duration::from_secs(1));
            for second in 0..20 {
                steering.delivered(lane, second << 30, now + Duration::from_secs(second));
            }
        }
        let lanes = 0..=MAX_LANES as LaneId;
        assert!(lanes.map(|lane| steering.cap_bytes(lane)).sum::<usize>() <= MOST_BYTES);
    }

    #[test]
    fn a_small_transfer_opens_no_lane() {
        let mut steering = Steering::new(LaneCount::Adaptive);
        assert_eq!(steering.wanted_lanes(Instant::now(), LARGE_BYTES - 1, 0), None);
        assert_eq!(steering.wanted_lanes(Instant::now(), LARGE_BYTES, 0), Some(1));
        assert_eq!(steering.wanted_lanes(Instant::now(), LARGE_BYTES, 0), None);
    }

    #[test]
    fn near_machines_begin_with_several_lanes() {
        let wanted = |left_bytes, round_trip_ms| {
            let (mut steering, now) = (Steering::new(LaneCount::Adaptive), Instant::now());
            steering.add(FIRST, now);
            steering.measured(FIRST, Duration::from_millis(round_trip_ms));
            steering.wanted_lanes(now, left_bytes, 0)
        };
        assert_eq!(wanted(u64::MAX, 1), Some(NEAR_LANES));
        assert_eq!(wanted(u64::MAX, 20), Some(1));
        assert_eq!(wanted(LARGE_BYTES, 1), Some(1));
    }

    #[test]
    fn a_rate_that_has_fallen_asks_for_many_lanes() {
        let wanted = |rate: fn(u64) -> u64| {
            let (mut count, start, mut delivered) =
                (Count::new(LaneCount::Adaptive), Instant::now(), 0);
            (0..10).find_map(|trial| {
                delivered += rate(trial) / 5;
                let (now, rate) = (start + TRIAL * trial as u32, rate(trial) as f64);
                let (left_bytes, open) = (u64::MAX, count.lanes);
                let (trial, is_near) = (TRIAL, false);
                let moment = Moment { now, left_bytes, open, delivered, rate, trial, is_near };
                count.wanted(&moment).filter(|lanes| *lanes > 1)
            })
        };
        assert_eq!(wanted(|_| 10_000_000), Some(2));
        assert_eq!(
            wanted(|trial| if trial == 1 { 10_000_000 } else { 2_000_000 }),
            Some(FALLEN_LANES)
        );
    }

    #[test]
    fn the_first_fills_what_a_starting_lane_leaves() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut steering = Steering::new(LaneCount::Adaptive);
        let run = |steering: &mut Steering, from_ms: u64, sent: &[(LaneId, u64)], under_way| {
            for tick in 0..100 {
                let now = start + ms(from_ms + 10 * tick);
                for (lane, bytes) in sent {
                    steering.delivered(*lane, bytes * tick, now);
                }
                steering.all_told(under_way, now);
            }
        };
        steering.add(FIRST, start);
        steering.measured(FIRST, ms(80));
        // 10 MB/s: 800 KB on the way.
        run(&mut steering, 0, &[(FIRST, 100_000)], 0);
        let alone = steering.cap_bytes(FIRST);
        steering.add(1, start + ms(1_000));
        steering.measured(1, ms(80));
        steering.all_told(0, start + ms(1_000));
        let beside_nothing = steering.cap_bytes(FIRST);
        assert!(beside_nothing.abs_diff(alone) < CHUNK_BYTES, "{beside_nothing} after {alone}");
        steering.all_told(500_000, start + ms(1_000));
        assert_eq!(steering.cap_bytes(FIRST), beside_nothing - 500_000);
        // The lane's rate grows no more: it has the line.
        run(&mut steering, 1_000, &[(1, 100_000)], 500_000);
        assert_eq!(steering.cap_bytes(FIRST), 0);
    }
}
