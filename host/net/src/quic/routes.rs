//! Watches which way a connection takes.

use crate::route::{Route, Way};
use futures_util::StreamExt;
use iroh::TransportAddr;
use iroh::endpoint::{Connection, PathEvent, PathEventStream, WeakConnectionHandle};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often the round trip is measured anew.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// The way that `connection` takes now, if it has one.
pub(crate) fn route(connection: &Connection) -> Option<Route> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
    let way = match path.remote_addr() {
        TransportAddr::Relay(url) => {
            Way::Relayed { by: url.host_str().unwrap_or("a relay").to_owned() }
        }
        _ => Way::Direct,
    };
    Some(Route { way, round_trip: path.rtt() })
}

/// Keeps `newest` up to date while the connection lives, which this does not prolong. Logs each change
/// of the way.
pub(crate) async fn watch(
    connection: WeakConnectionHandle,
    mut events: PathEventStream,
    newest: watch::Sender<Option<Route>>,
) {
    let mut measure = interval(MEASURE_EVERY);
    measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(PathEvent::Opened { .. }) => continue,
                Some(_) => {}
                None => return,
            },
            _ = measure.tick() => {}
        }
        let Some(connection) = connection.upgrade() else { return };
        let Some(now) = route(&connection) else { continue };
        let before = newest.send_replace(Some(now.clone()));
        if before.is_some_and(|before| before.way != now.way) {
            let peer = connection.remote_id().fmt_short();
            tracing::info!(%peer, route = %now, "the connection takes another way");
        }
    }
}
