//! This process's iroh endpoint. It is opened before the process joins a room, because the room
//! publishes its id, and receives the server's relay afterwards.

use crate::config::Config;
use crate::device;
use serde_json::{Value, json};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_net::quic::{Endpoint, EndpointOptions, QuicError, RelayServer};
use sleap_rtc_protocol::capabilities::ENDPOINT;
use sleap_rtc_signaling::client::{Relay, certificate_verifier};
use std::path::Path;
use tokio::sync::watch;
use tracing::warn;

/// Opens the endpoint, unless the user allows only WebRTC. `folder` has the device's key.
///
/// # Errors
/// The endpoint cannot be opened, and the user allows no other transport.
pub(crate) async fn open(config: &Config, folder: &Path) -> Result<Option<Endpoint>, QuicError> {
    if !config.transport.has_iroh() {
        return Ok(None);
    }
    match Endpoint::bind(options(config, folder)).await {
        Err(error) if config.transport.has_webrtc() => {
            warn!(error = %WithCauses(&error), "cannot use iroh; connecting only over WebRTC");
            Ok(None)
        }
        endpoint => endpoint.map(Some),
    }
}

/// Opens an endpoint that uses the server's relay alone, to measure it.
///
/// # Errors
/// The endpoint cannot be opened.
#[cfg(feature = "client")]
pub(crate) async fn open_relayed(config: &Config, folder: &Path) -> Result<Endpoint, QuicError> {
    Endpoint::bind(EndpointOptions { relay_only: true, ..options(config, folder) }).await
}

fn options(config: &Config, folder: &Path) -> EndpointOptions {
    let proxy = config.signaling.proxy_url().unwrap_or_else(|error| {
        warn!(error = %WithCauses(&error), "cannot use the proxy; connecting to the relay directly");
        None
    });
    // Reads the system's certificates, so it is done only if they are needed.
    let verifier = match config.signaling.have_tls() {
        true => certificate_verifier()
            .inspect_err(
                |error| warn!(error = %WithCauses(error), "cannot verify the relay's certificate"),
            )
            .ok(),
        false => None,
    };
    let key = device::endpoint_key(folder);
    EndpointOptions { key, bind: config.ice.bind.clone(), relay_only: false, proxy, verifier }
}

/// The property with the endpoint's id in the peer's metadata. The server's relay admits this id.
pub(crate) fn property(endpoint: &Endpoint) -> (String, Value) {
    (ENDPOINT.to_owned(), json!({ "id": endpoint.address().id }))
}

/// Which relays an endpoint uses, where there are several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayReach {
    /// That of the server at which it is registered, so that all others know where to find it.
    #[cfg_attr(not(feature = "worker"), allow(dead_code, reason = "only workers wait at a relay"))]
    OwnServer,
    /// Those of all servers, because it calls peers that may be at any of them.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "only clients call"))]
    AllServers,
}

/// Keeps the endpoint on the server's latest relay while this runs. Logs why the relay refuses it.
pub(crate) async fn use_relay(
    endpoint: Endpoint,
    mut relay: watch::Receiver<Option<Relay>>,
    reach: RelayReach,
) {
    loop {
        let newest = relay.borrow_and_update().clone();
        endpoint.use_relay(newest.map(|newest| relay_server(newest, reach))).await;
        tokio::select! {
            changed = relay.changed() => if changed.is_err() { return },
            reason = endpoint.relay_refuses() => {
                warn!(reason, "the server's relay refuses this program; only direct connections are possible");
                if relay.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn relay_server(relay: Relay, reach: RelayReach) -> RelayServer {
    let Relay { url, token, quic_port, elsewhere } = relay;
    let further = match reach {
        RelayReach::OwnServer => Vec::new(),
        RelayReach::AllServers => elsewhere,
    };
    RelayServer { url, token: token.as_str().to_owned(), quic_port, further }
}
