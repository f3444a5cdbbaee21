//! This process's iroh endpoint. It is opened before the process joins a room, because the room publishes
//! its id, and receives the server's relay afterwards.

use crate::config::Config;
use serde_json::{Value, json};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_base::folder::private;
use sleap_rtc_net::quic::{Endpoint, EndpointKey, EndpointOptions, QuicError, RelayServer};
use sleap_rtc_protocol::capabilities::ENDPOINT;
use sleap_rtc_signaling::client::{Relay, certificate_verifier};
use std::path::Path;
use tokio::sync::watch;
use tracing::warn;

/// Opens the endpoint, unless connections are made over WebRTC alone. `folder` holds the device's key.
///
/// # Errors
/// It is not possible, and nothing else is wanted.
pub(crate) async fn open(config: &Config, folder: &Path) -> Result<Option<Endpoint>, QuicError> {
    if !config.transport.has_iroh() {
        return Ok(None);
    }
    match Endpoint::bind(options(config, folder)).await {
        Err(error) if config.transport.has_webrtc() => {
            warn!(error = %WithCauses(&error), "connections are made over WebRTC alone");
            Ok(None)
        }
        endpoint => endpoint.map(Some),
    }
}

fn options(config: &Config, folder: &Path) -> EndpointOptions {
    let proxy = config.signaling.proxy_url().unwrap_or_else(|error| {
        warn!(error = %WithCauses(&error), "the relay is reached without a proxy");
        None
    });
    // The system's certificates are read for this: not where they are not needed.
    let verifier = match config.signaling.websocket.scheme() {
        "wss" => certificate_verifier()
            .inspect_err(|error| warn!(error = %WithCauses(error), "the relay is not trusted"))
            .ok(),
        _ => None,
    };
    EndpointOptions { key: device_key(folder), bind: config.ice.bind.clone(), proxy, verifier }
}

/// This device's key; one for this process alone where the folder cannot be used.
fn device_key(folder: &Path) -> EndpointKey {
    let of_device = private(folder).and_then(|()| EndpointKey::of(folder));
    of_device.unwrap_or_else(|error| {
        let folder = folder.display();
        warn!(%folder, %error, "this device's key cannot be used; this process has its own");
        EndpointKey::fresh()
    })
}

/// What the room is told of the endpoint: the property by which the server's relay knows it.
pub(crate) fn property(endpoint: &Endpoint) -> (String, Value) {
    (ENDPOINT.to_owned(), json!({ "id": endpoint.address().id }))
}

/// Has the endpoint use the server's relay, the newest, while this runs. Says why the relay refuses it.
pub(crate) async fn use_relay(endpoint: Endpoint, mut relay: watch::Receiver<Option<Relay>>) {
    loop {
        let newest = relay.borrow_and_update().clone();
        endpoint.use_relay(newest.map(relay_server)).await;
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

fn relay_server(relay: Relay) -> RelayServer {
    let Relay { url, token, quic_port } = relay;
    RelayServer { url, token: token.as_str().to_owned(), quic_port }
}
