//! Congestion control: BBR3 that takes no less than CUBIC would, and CUBIC alone within one machine.
//!
//! Alone, CUBIC makes a tenth of BBR's rate where one packet in a thousand is lost and a round trip takes
//! 20 ms, and two thirds of it through a relay. Within a machine nothing is lost, and it takes a
//! quarter less CPU than BBR3, which records every packet and paces them by the clock.
//!
//! BBR3 yields whenever a neighbour fills the queue, and waits for seconds before it tries again. On a long
//! path a CUBIC connection leaves it a quarter of the line. So a CUBIC window runs beside BBR3, and the faster
//! of the two decides. Where packets are lost without a queue, that is BBR3. CUBIC's window has a limit, so
//! that it adds at most one round trip of queue, however deep the queue is.

use noq_proto::RttEstimator;
use noq_proto::congestion::{
    Bbr3Config, Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig,
};
use std::any::Any;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A path with a shorter round trip stays within this machine, and passes no relay.
const NEAR: Duration = Duration::from_micros(150);
/// What CUBIC may have in flight beside BBR3, in multiples of what fits on the line. BBR3 has the same limit.
const MOST_IN_FLIGHT: f64 = 2.0;
/// How much faster packets leave than one window in each round trip, as QUIC recommends.
const PACING_GAIN: f64 = 1.25;
/// A connection is quiet after this many acknowledgements while nothing waited to be sent.
const QUIET_ACKS: u32 = 3;
/// A quiet connection has learnt nothing of the line while its window is at most this many initial windows.
const UNTRIED_WINDOWS: u64 = 4;

/// Makes a controller for each new path.
#[derive(Debug, Default)]
pub(crate) struct ByDistance;

impl ControllerFactory for ByDistance {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(PathController::new(now, mtu))
    }
}

/// The controller of one path.
#[derive(Debug)]
struct PathController {
    cubic: Cubic,
    /// `None` once the path has been near: its shortest round trip never grows.
    far: Option<Far>,
    mtu: u16,
}

/// What a path beyond this machine has besides CUBIC.
#[derive(Debug)]
struct Far {
    bbr: Box<dyn Controller>,
    /// The shortest round trip so far, and a recent one. `None` before the first.
    round_trip: Option<RoundTrip>,
    /// How many acknowledgements came in succession while nothing waited to be sent.
    quiet_acks: u32,
}

#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    shortest: Duration,
    smoothed: Duration,
}

impl Far {
    fn new(now: Instant, mtu: u16) -> Self {
        Self { bbr: new_bbr(now, mtu), round_trip: None, quiet_acks: 0 }
    }

    fn measure(&mut self, now: Instant, sent: Instant, rtt: &RttEstimator) {
        let took = now.saturating_duration_since(sent).max(Duration::from_micros(1));
        let shortest = self.round_trip.map_or(took, |round_trip| round_trip.shortest.min(took));
        self.round_trip = Some(RoundTrip { shortest, smoothed: rtt.get().max(shortest) });
    }

    /// Restarts BBR3 when a quiet connection begins to send much. BBR3 takes the few messages of a quiet
    /// connection for all that the line carries and ends its start-up. It would then need many seconds to find
    /// the rate of a fast line that loses packets.
    fn restart_after_quiet(&mut self, now: Instant, app_limited: bool, mtu: u16) {
        if app_limited {
            self.quiet_acks = self.quiet_acks.saturating_add(1);
            return;
        }
        let is_untried = self.bbr.window() <= UNTRIED_WINDOWS * self.bbr.initial_window();
        if self.quiet_acks >= QUIET_ACKS && is_untried {
            self.bbr = new_bbr(now, mtu);
        }
        self.quiet_acks = 0;
    }

    /// The most that CUBIC may have in flight. `None` before anything was measured.
    fn most_in_flight(&self) -> Option<u64> {
        let bytes_per_s = self.bbr.metrics().bandwidth_estimate? as f64 / 8.0;
        let fits_bytes = bytes_per_s * self.round_trip?.shortest.as_secs_f64();
        Some((MOST_IN_FLIGHT * fits_bytes) as u64)
    }

    /// CUBIC's window and its rate in bytes/s, where it is faster than BBR3.
    fn faster_cubic(&self, cubic: &Cubic) -> Option<(u64, f64)> {
        let window = cubic.window().min(self.most_in_flight()?);
        let round_trip_s = self.round_trip?.smoothed.as_secs_f64();
        let by_bbr = self.bbr.metrics();
        let bbr_rate = by_bbr.pacing_rate.map_or(f64::MAX, |rate| rate as f64);
        let bbr_rate = bbr_rate.min(by_bbr.congestion_window as f64 / round_trip_s);
        let rate = window as f64 / round_trip_s;
        (rate > bbr_rate).then_some((window, rate))
    }
}

impl PathController {
    fn new(now: Instant, mtu: u16) -> Self {
        let cubic = Cubic::new(Arc::new(CubicConfig::default()), now, mtu);
        Self { cubic, far: Some(Far::new(now, mtu)), mtu }
    }

    /// Continues with CUBIC alone if the path is near, from the window that was reached.
    fn judge(&mut self, now: Instant, shortest_round_trip: Duration) {
        if self.far.is_none() || shortest_round_trip >= NEAR {
            return;
        }
        let mut config = CubicConfig::default();
        config.initial_window(self.window());
        self.cubic = Cubic::new(Arc::new(config), now, self.mtu);
        self.far = None;
    }

    fn controllers(&mut self) -> impl Iterator<Item = &mut dyn Controller> {
        let bbr = self.far.as_mut().map(|far| &mut *far.bbr as &mut dyn Controller);
        bbr.into_iter().chain(iter::once(&mut self.cubic as &mut dyn Controller))
    }
}

fn new_bbr(now: Instant, mtu: u16) -> Box<dyn Controller> {
    Arc::new(Bbr3Config::default()).build(now, mtu)
}

impl Controller for PathController {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.controllers().for_each(|each| each.on_sent(now, bytes, largest_pn));
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.controllers().for_each(|each| each.on_packet_sent(now, bytes, pn));
    }

    fn on_cwnd_limited(&mut self) {
        self.controllers().for_each(|each| each.on_cwnd_limited());
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.judge(now, rtt.min());
        let mut is_full = false;
        if let Some(far) = &mut self.far {
            far.measure(now, sent, rtt);
            is_full = far.most_in_flight().is_some_and(|most| self.cubic.window() >= most);
            far.bbr.on_ack(now, sent, bytes, pn, app_limited, rtt);
        }
        self.cubic.on_ack(now, sent, bytes, pn, app_limited || is_full, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        if let Some(far) = &mut self.far {
            far.restart_after_quiet(now, app_limited, self.mtu);
        }
        self.controllers().for_each(|each| {
            each.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        });
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        for controller in self.controllers() {
            controller.on_congestion_event(
                now,
                sent,
                is_persistent_congestion,
                is_ecn,
                lost_bytes,
                largest_lost_pn,
            );
        }
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.controllers().for_each(|each| each.on_packet_lost(lost_bytes, pn, now));
    }

    fn on_spurious_congestion_event(&mut self) {
        self.controllers().for_each(|each| each.on_spurious_congestion_event());
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.controllers().for_each(|each| each.on_mtu_update(mtu));
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, max_ack_delay: Duration) {
        self.controllers().for_each(|each| each.on_ack_frequency_update(threshold, max_ack_delay));
    }

    fn window(&self) -> u64 {
        let Some(far) = &self.far else { return self.cubic.window() };
        far.faster_cubic(&self.cubic).map_or_else(|| far.bbr.window(), |(window, _)| window)
    }

    fn metrics(&self) -> ControllerMetrics {
        let Some(far) = &self.far else { return self.cubic.metrics() };
        let mut metrics = far.bbr.metrics();
        if let Some((window, rate)) = far.faster_cubic(&self.cubic) {
            metrics.congestion_window = window;
            metrics.pacing_rate = Some((PACING_GAIN * rate) as u64);
        }
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let far = self.far.as_ref().map(|Far { bbr, round_trip, quiet_acks }| Far {
            bbr: bbr.clone_box(),
            round_trip: *round_trip,
            quiet_acks: *quiet_acks,
        });
        Box::new(Self { cubic: self.cubic.clone(), far, mtu: self.mtu })
    }

    fn initial_window(&self) -> u64 {
        let initial = || self.cubic.initial_window();
        self.far.as_ref().map_or_else(initial, |far| far.bbr.initial_window())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_400;

    #[test]
    fn a_short_round_trip_chooses_cubic_alone_for_good() {
        let now = Instant::now();
        let mut path = PathController::new(now, MTU);
        let window = path.window();
        path.judge(now, Duration::from_millis(20));
        assert!(path.far.is_some());
        path.judge(now, Duration::from_micros(100));
        assert_eq!(path.window(), window);
        path.judge(now, Duration::from_millis(20));
        assert!(path.far.is_none());
    }

    #[test]
    fn what_a_quiet_connection_has_learnt_is_forgotten_when_it_begins_to_send() {
        let now = Instant::now();
        // After a loss without a packet in flight BBR3 takes its smallest window.
        let cautious = || {
            let mut path = PathController::new(now, MTU);
            path.on_congestion_event(now, now, true, false, 1_200, 1);
            path
        };
        let fresh = PathController::new(now, MTU).window();
        assert!(cautious().window() < fresh);
        let after = |quiet: u32| {
            let mut path = cautious();
            for is_quiet in iter::repeat_n(true, quiet as usize).chain([false]) {
                path.on_end_acks(now, 0, is_quiet, None);
            }
            path.window()
        };
        assert!(after(QUIET_ACKS - 1) < fresh);
        assert_eq!(after(QUIET_ACKS), fresh);
    }
}
