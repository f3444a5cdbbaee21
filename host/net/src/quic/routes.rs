//! Watches the route of a connection, and finds out why it is relayed.

use super::udp::Udp;
use crate::route::{NoDirectPath, Route, Way};
use futures_util::StreamExt;
use iroh::TransportAddr;
use iroh::endpoint::{Connection, PathEvent, PathEventStream, WeakConnectionHandle};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the round-trip time is updated.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How long to look for a direct path before its absence is reported.
const LOOKED_FOR: Duration = Duration::from_secs(4);

/// A watched connection. A weak handle, which does not keep it open.
pub(crate) struct WatchedRoutes {
    connection: WeakConnectionHandle,
    since: Instant,
    udp: watch::Receiver<Udp>,
    was_direct: bool,
}

impl WatchedRoutes {
    pub(crate) fn of(connection: &Connection, udp: watch::Receiver<Udp>) -> Self {
        let connection = connection.weak_handle();
        Self { connection, since: Instant::now(), udp, was_direct: false }
    }

    /// The current route of `connection`, if it has one.
    pub(crate) fn route(&self, connection: &Connection) -> Option<Route> {
        let paths = connection.paths();
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
        let way = match path.remote_addr() {
            TransportAddr::Relay(url) => {
                let by = url.host_str().unwrap_or("a relay").to_owned();
                Way::Relayed { by, why: self.why_relayed() }
            }
            _ => Way::Direct,
        };
        Some(Route { way, round_trip: path.rtt() })
    }

    fn why_relayed(&self) -> Option<NoDirectPath> {
        match *self.udp.borrow() {
            Udp::Blocked => Some(NoDirectPath::UdpBlocked),
            _ if self.was_direct => Some(NoDirectPath::Lost),
            _ if self.since.elapsed() < LOOKED_FOR => None,
            Udp::Works => Some(NoDirectPath::NoneFound),
            Udp::Unknown => Some(NoDirectPath::NoUdpAnswer),
        }
    }

    /// Keeps `newest` up to date while the connection lives.
    pub(crate) async fn watch(
        mut self,
        mut events: PathEventStream,
        newest: watch::Sender<Option<Route>>,
    ) {
        let mut measure = interval(MEASURE_EVERY);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Ends with the endpoint, and then the connection ends too.
        let mut udp = self.udp.clone();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(PathEvent::Opened { .. }) => continue,
                    Some(_) => {}
                    None => return,
                },
                Ok(()) = udp.changed() => {}
                _ = measure.tick() => {}
            }
            let Some(connection) = self.connection.upgrade() else { return };
            let Some(now) = self.route(&connection) else { continue };
            self.was_direct |= now.way == Way::Direct;
            let before = newest.send_replace(Some(now.clone()));
            if before.is_some_and(|before| before.way != now.way) {
                let peer = connection.remote_id().fmt_short();
                tracing::debug!(%peer, route = %now, "the route has changed");
            }
        }
    }
}
