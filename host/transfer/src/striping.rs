//! Pieces over several lanes: each lane takes the next chunk when it has room for it.
//!
//! One owner for all of it: what is under way ([`Flight`]), what each lane may have under way and
//! how many lanes there should be ([`Steering`]). The lanes themselves only say when they have room.

use super::Limits;
use super::flight::{FIRST, Flight, LaneId};
use super::lane::{Gauge, Lane, LaneLost};
use super::pace::Pace;
use super::reader::Outgoing;
use super::steering::{LaneCount, Steering};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sleap_rtc_protocol::transfer::BlobHash;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the lanes are measured.
const TICK: Duration = Duration::from_millis(10);
/// How often the round trips of the paths are looked at.
const ROUND_TRIPS: Duration = Duration::from_secs(1);
/// A chunk that has not come after this time, and so many round trips, is sent over another lane
/// as well: the other side tells every 100 ms what has come.
const PATIENCE: Duration = Duration::from_millis(400);
const PATIENCE_ROUND_TRIPS: u32 = 4;
/// A lane that takes nothing for this part of the time that the other side may be silent is lost: so
/// the link's own connection, which has all of it, can go on in its place.
const LANE_PART: u32 = 4;

struct Running {
    lane: Arc<dyn Lane>,
    gauge: Arc<Gauge>,
    sent_bytes: u64,
    is_idle: bool,
    /// It gets nothing more, and is closed when it has delivered what it has.
    is_retiring: bool,
    chunks: u64,
}

enum Done {
    Room(LaneId),
    Lost(LaneId, LaneLost),
    RoundTrip(LaneId, Option<Duration>),
}

/// See the module.
pub(crate) struct Striping {
    flight: Flight,
    lanes: BTreeMap<LaneId, Running>,
    next_lane: LaneId,
    steering: Steering,
    working: FuturesUnordered<BoxFuture<'static, Done>>,
    ticks: Interval,
    round_trips_at: Instant,
    idle: Duration,
    pace: Option<Pace>,
    /// When a chunk was given to a lane last.
    moved: Instant,
    /// How many lanes have carried something.
    used: usize,
    /// Whether the other side tells what has come: then it is kept until it has.
    pub(crate) keep: bool,
}

impl Striping {
    /// Over `first` alone, until others come.
    pub(crate) fn new(first: Arc<dyn Lane>, count: LaneCount, limits: &Limits) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut striping = Self {
            flight: Flight::default(),
            lanes: BTreeMap::new(),
            next_lane: FIRST,
            steering: Steering::new(count),
            working: FuturesUnordered::new(),
            ticks,
            round_trips_at: Instant::now(),
            idle: limits.idle,
            pace: limits.pace.clone(),
            moved: Instant::now(),
            used: 0,
            keep: false,
        };
        striping.add_lane(first);
        striping
    }

    /// Takes another lane into use.
    pub(crate) fn add_lane(&mut self, lane: Arc<dyn Lane>) {
        let (id, now) = (self.next_lane, Instant::now());
        self.next_lane += 1;
        self.steering.add(id, now);
        let gauge = Gauge::new(self.steering.cap_bytes(id));
        let running =
            Running { lane, gauge, sent_bytes: 0, is_idle: true, is_retiring: false, chunks: 0 };
        self.lanes.insert(id, running);
        self.look_at_path(id);
        self.give_out(now);
    }

    /// Lanes besides the first.
    pub(crate) fn open_lanes(&self) -> usize {
        self.others().count()
    }

    /// Whether another piece may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.flight.has_room()
    }

    /// How many lanes have carried something, the first included.
    pub(crate) fn used_lanes(&self) -> usize {
        self.used
    }

    /// When a chunk was sent last.
    pub(crate) fn moved(&self) -> Instant {
        self.moved
    }

    /// Whether all is sent, and none of it is known to be missing.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.flight.has_waiting()
    }

    /// Begins some pieces.
    pub(crate) fn add(&mut self, pieces: Vec<Outgoing>) {
        for piece in pieces {
            self.flight.add(piece);
        }
        self.give_out(Instant::now());
    }

    /// The other side has all of a piece.
    pub(crate) fn has(&mut self, piece: BlobHash) {
        self.flight.drop_piece(piece);
    }

    /// The other side has these chunks of a piece.
    pub(crate) fn there(&mut self, piece: BlobHash, chunks: u64) {
        self.flight.there(piece, chunks);
    }

    /// How many lanes there should be besides the first, `left_bytes` before the end, where that is
    /// news.
    pub(crate) fn wanted_lanes(&mut self, left_bytes: u64) -> Option<usize> {
        let open = self.open_lanes();
        let wanted = self.steering.wanted_lanes(Instant::now(), left_bytes, open)?;
        tracing::debug!(wanted, open, "lanes wanted");
        // What does not pay is given up, the newest first.
        let surplus: Vec<LaneId> = self.others().skip(wanted).collect();
        for id in surplus {
            self.retire(id);
        }
        Some(wanted)
    }

    fn retire(&mut self, id: LaneId) {
        let Some(running) = self.lanes.get_mut(&id) else { return };
        running.is_retiring = true;
        running.gauge.set_cap(1);
        if running.is_idle {
            let (lane, gauge) = (running.lane.clone(), running.gauge.clone());
            let room = async move { lane.room(&gauge).await };
            self.working.push(work(id, self.idle / LANE_PART, room).boxed());
        }
    }

    fn others(&self) -> impl Iterator<Item = LaneId> + '_ {
        let others =
            self.lanes.iter().filter(|(id, running)| **id != FIRST && !running.is_retiring);
        others.map(|(id, _)| *id)
    }

    /// Works until something has happened. Cancel safe.
    ///
    /// # Errors
    /// The first lane is lost, and with it everything.
    pub(crate) async fn turn(&mut self) -> Result<(), LaneLost> {
        tokio::select! {
            biased;
            Some(done) = self.working.next(), if !self.working.is_empty() => match done {
                Done::Room(id) if self.lanes.get(&id).is_some_and(|lane| lane.is_retiring) => {
                    self.lose(id, "not needed");
                }
                Done::Room(id) => {
                    if let Some(running) = self.lanes.get_mut(&id) {
                        running.is_idle = true;
                    }
                    self.give_out(Instant::now());
                }
                Done::Lost(FIRST, lost) => return Err(lost),
                Done::Lost(id, lost) => self.lose(id, &lost.to_string()),
                Done::RoundTrip(id, Some(round_trip)) => self.steering.measured(id, round_trip),
                Done::RoundTrip(_, None) => {}
            },
            _ = self.ticks.tick() => self.measure(Instant::now()),
        }
        Ok(())
    }

    /// The ids that take chunks: the first only while it is alone, or fills what a lane leaves that
    /// is still starting.
    fn in_use(&self) -> Vec<LaneId> {
        let first = self.open_lanes() == 0 || self.steering.cap_bytes(FIRST) > 0;
        first.then_some(FIRST).into_iter().chain(self.others()).collect()
    }

    fn give_out(&mut self, now: Instant) {
        for id in self.in_use() {
            let Some(running) = self.lanes.get_mut(&id).filter(|running| running.is_idle) else {
                continue;
            };
            let Some(chunk) = self.flight.give(id, now, self.keep) else { return };
            self.moved = now;
            running.is_idle = false;
            self.used += usize::from(running.chunks == 0);
            running.chunks += 1;
            running.sent_bytes += chunk.len() as u64;
            running.gauge.add(chunk.len());
            let pause = self.pace.as_ref().map(|pace| pace.take(chunk.len(), now));
            let (lane, gauge) = (running.lane.clone(), running.gauge.clone());
            let patience = if id == FIRST { self.idle } else { self.idle / LANE_PART };
            let sending = async move {
                lane.send(chunk).await?;
                lane.room(&gauge).await
            };
            let paced = async move {
                if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                    tokio::time::sleep(pause).await;
                }
                work(id, patience, sending).await
            };
            self.working.push(paced.boxed());
        }
    }

    fn lose(&mut self, id: LaneId, why: &str) {
        let Some(running) = self.lanes.remove(&id) else { return };
        running.lane.close();
        self.steering.remove(id);
        let again = self.flight.lane_lost(id);
        let (chunks, bytes) = (running.chunks, running.sent_bytes);
        tracing::debug!(lane = id, chunks, bytes, again, why, "a lane has ended");
        self.give_out(Instant::now());
    }

    fn measure(&mut self, now: Instant) {
        for (id, running) in &self.lanes {
            let outstanding = running.gauge.outstanding_bytes() as u64;
            if !running.is_idle {
                self.steering.delivered(*id, running.sent_bytes.saturating_sub(outstanding), now);
            }
        }
        let others = self.others().filter_map(|id| self.lanes.get(&id));
        let under_way = others.map(|running| running.gauge.outstanding_bytes()).sum();
        self.steering.all_told(under_way, now);
        for (id, running) in self.lanes.iter().filter(|(_, running)| !running.is_retiring) {
            // One that stands aside still delivers what it has.
            running.gauge.set_cap(self.steering.cap_bytes(*id).max(1));
        }
        if self.round_trips_at + ROUND_TRIPS <= now {
            self.round_trips_at = now;
            self.log();
            for id in self.in_use() {
                self.look_at_path(id);
            }
        }
        self.repeat(now);
    }

    /// What is long in coming, while there is nothing else to send, goes over an idle lane as well.
    fn repeat(&mut self, now: Instant) {
        if self.flight.has_waiting() || self.flight.is_empty() || !self.keep {
            return;
        }
        let patience = PATIENCE.max(self.steering.longest_round_trip() * PATIENCE_ROUND_TRIPS);
        let idle = |id: &LaneId| self.lanes.get(id).is_some_and(|running| running.is_idle);
        let idle: Vec<LaneId> = self.in_use().into_iter().filter(idle).collect();
        for id in idle {
            let again = self.flight.overdue(id, now, patience);
            if again > 0 {
                tracing::debug!(lane = id, again, "chunks are long in coming");
                self.give_out(now);
                return;
            }
        }
    }

    fn look_at_path(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id).map(|running| running.lane.clone()) else { return };
        let look = async move { Done::RoundTrip(id, lane.round_trip().await) };
        self.working.push(look.boxed());
    }

    fn log(&self) {
        for id in self.in_use() {
            let Some(running) = self.lanes.get(&id) else { continue };
            tracing::debug!(
                lane = id,
                chunks = running.chunks,
                outstanding_bytes = running.gauge.outstanding_bytes(),
                cap_bytes = self.steering.cap_bytes(id),
                round_trip_ms = self.steering.round_trip(id).as_millis() as u64,
                "lane"
            );
        }
    }
}

/// What a lane does next, and what came of it; within `patience`.
async fn work(
    id: LaneId,
    patience: Duration,
    doing: impl Future<Output = Result<(), LaneLost>>,
) -> Done {
    match tokio::time::timeout(patience, doing).await {
        Ok(Ok(())) => Done::Room(id),
        Ok(Err(lost)) => Done::Lost(id, lost),
        Err(stalled) => Done::Lost(id, LaneLost(Box::new(stalled))),
    }
}
