//! BBR3 that takes no less than CUBIC would.
//!
//! BBR3 yields whenever a neighbour fills the queue, and waits for seconds before it tries again. On a long path a CUBIC
//! connection leaves it a quarter of the line. So a window of CUBIC is kept beside BBR3, and whichever of the two is
//! faster decides. Where packets are lost without a queue, that is BBR3. CUBIC's window has a limit, so that it adds at
//! most one round trip of queue however deep the queue is.

use noq_proto::RttEstimator;
use noq_proto::congestion::{
    Bbr3Config, Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig,
};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What CUBIC may have in flight, in multiples of what fits on the line. BBR3 has the same limit.
const MOST_IN_FLIGHT: f64 = 2.0;
/// How much faster than a window for each round trip packets leave, as QUIC recommends.
const PACING_GAIN: f64 = 1.25;

/// The controller of one path.
#[derive(Debug)]
pub(super) struct Fair {
    bbr: Box<dyn Controller>,
    cubic: Cubic,
    /// The shortest round trip so far, and a recent one. `None` before the first.
    round_trip: Option<RoundTrip>,
}

#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    shortest: Duration,
    smoothed: Duration,
}

impl Fair {
    pub(super) fn new(now: Instant, mtu: u16) -> Self {
        let bbr = Arc::new(Bbr3Config::default()).build(now, mtu);
        let cubic = Cubic::new(Arc::new(CubicConfig::default()), now, mtu);
        Self { bbr, cubic, round_trip: None }
    }

    /// The most that CUBIC may have in flight. `None` before anything was measured.
    fn most_in_flight(&self) -> Option<u64> {
        let bytes_per_s = self.bbr.metrics().bandwidth_estimate? as f64 / 8.0;
        let fits_bytes = bytes_per_s * self.round_trip?.shortest.as_secs_f64();
        Some((MOST_IN_FLIGHT * fits_bytes) as u64)
    }

    /// CUBIC's window and its rate in bytes/s, where it is faster than BBR3.
    fn faster_cubic(&self) -> Option<(u64, f64)> {
        let window = self.cubic.window().min(self.most_in_flight()?);
        let round_trip_s = self.round_trip?.smoothed.as_secs_f64();
        let by_bbr = self.bbr.metrics();
        let bbr_rate = by_bbr.pacing_rate.map_or(f64::MAX, |rate| rate as f64);
        let bbr_rate = bbr_rate.min(by_bbr.congestion_window as f64 / round_trip_s);
        let rate = window as f64 / round_trip_s;
        (rate > bbr_rate).then_some((window, rate))
    }
}

impl Controller for Fair {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.bbr.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.bbr.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.bbr.on_cwnd_limited();
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
        let took = now.saturating_duration_since(sent).max(Duration::from_micros(1));
        let shortest = self.round_trip.map_or(took, |round_trip| round_trip.shortest.min(took));
        self.round_trip = Some(RoundTrip { shortest, smoothed: rtt.get().max(shortest) });
        let is_full = self.most_in_flight().is_some_and(|most| self.cubic.window() >= most);
        self.cubic.on_ack(now, sent, bytes, pn, app_limited || is_full, rtt);
        self.bbr.on_ack(now, sent, bytes, pn, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.bbr.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
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
        let both: [&mut dyn Controller; 2] = [&mut *self.bbr, &mut self.cubic];
        for controller in both {
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
        self.bbr.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.bbr.on_spurious_congestion_event();
        self.cubic.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.bbr.on_mtu_update(mtu);
        self.cubic.on_mtu_update(mtu);
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, max_ack_delay: Duration) {
        self.bbr.on_ack_frequency_update(threshold, max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.faster_cubic().map_or_else(|| self.bbr.window(), |(window, _)| window)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.bbr.metrics();
        if let Some((window, rate)) = self.faster_cubic() {
            metrics.congestion_window = window;
            metrics.pacing_rate = Some((PACING_GAIN * rate) as u64);
        }
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { bbr, cubic, round_trip } = self;
        Box::new(Self { bbr: bbr.clone_box(), cubic: cubic.clone(), round_trip: *round_trip })
    }

    fn initial_window(&self) -> u64 {
        self.bbr.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
