//! Congestion control: BBR3 with CUBIC's share, and CUBIC alone within one machine.
//!
//! Alone, CUBIC makes a tenth of BBR's rate where one packet in a thousand is lost and a round trip takes
//! 20 ms, and two thirds of it through a relay. Within a machine nothing is lost, and it takes a
//! quarter less CPU than BBR3, which records every packet and paces them by the clock.

mod fair;

use fair::Fair;
use noq_proto::RttEstimator;
use noq_proto::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A path with a shorter round trip stays within this machine, and passes no relay.
const NEAR: Duration = Duration::from_micros(150);

/// Makes a controller for each new path.
#[derive(Debug, Default)]
pub(crate) struct ByDistance;

impl ControllerFactory for ByDistance {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Distance::new(now, mtu))
    }
}

/// The controller of one path. A path that has been near stays near: its shortest round trip
/// never grows.
#[derive(Debug)]
struct Distance {
    controller: Box<dyn Controller>,
    is_near: bool,
    mtu: u16,
}

impl Distance {
    fn new(now: Instant, mtu: u16) -> Self {
        Self { controller: Box::new(Fair::new(now, mtu)), is_near: false, mtu }
    }

    /// Continues with CUBIC alone if the path is near, from the window that was reached.
    fn judge(&mut self, now: Instant, shortest_round_trip: Duration) {
        if self.is_near || shortest_round_trip >= NEAR {
            return;
        }
        let mut config = CubicConfig::default();
        config.initial_window(self.controller.window());
        self.controller = Box::new(Cubic::new(Arc::new(config), now, self.mtu));
        self.is_near = true;
    }
}

impl Controller for Distance {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.controller.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.controller.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.controller.on_cwnd_limited();
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
        self.controller.on_ack(now, sent, bytes, pn, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.controller.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
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
        self.controller.on_congestion_event(
            now,
            sent,
            is_persistent_congestion,
            is_ecn,
            lost_bytes,
            largest_lost_pn,
        );
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.controller.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.controller.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.controller.on_mtu_update(mtu);
    }

    fn on_ack_frequency_update(&mut self, threshold: u64, max_ack_delay: Duration) {
        self.controller.on_ack_frequency_update(threshold, max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { controller, is_near, mtu } = self;
        Box::new(Self { controller: controller.clone_box(), is_near: *is_near, mtu: *mtu })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.controller.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_round_trip_chooses_cubic_alone_for_good() {
        let now = Instant::now();
        let mut path = Distance::new(now, 1_400);
        let window = path.window();
        path.judge(now, Duration::from_millis(20));
        assert!(path.clone_box().into_any().is::<Fair>());
        path.judge(now, Duration::from_micros(100));
        assert_eq!(path.window(), window);
        path.judge(now, Duration::from_millis(20));
        assert!(path.clone_box().into_any().is::<Cubic>());
    }
}
