//! Whether UDP packets leave this machine's network, as the server's address discovery shows.

use super::relay::RelayServer;
use futures_util::StreamExt;
use iroh::Watcher;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// What is known about UDP on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Udp {
    /// No server is configured, or none has been asked yet.
    Unknown,
    /// The server has answered.
    Works,
    /// The server answers over TCP, but not over UDP.
    Blocked,
}

/// Keeps `found` up to date until the endpoint is closed.
pub(crate) async fn watch(
    endpoint: iroh::Endpoint,
    relay: Arc<Mutex<Option<RelayServer>>>,
    found: watch::Sender<Udp>,
) {
    let mut reports = endpoint.net_report().stream();
    while let Some(report) = reports.next().await {
        let Some(report) = report else { continue };
        let relay = relay.lock().await;
        let answers_udp = relay.as_ref().is_some_and(|relay| relay.quic_port.is_some());
        let now = match (report.has_udp(), answers_udp && report.preferred_relay.is_some()) {
            (true, _) => Udp::Works,
            (false, true) => Udp::Blocked,
            (false, false) => Udp::Unknown,
        };
        if found.send_replace(now) != now {
            tracing::debug!(udp = ?now, "asked the server for this machine's address");
        }
    }
}
