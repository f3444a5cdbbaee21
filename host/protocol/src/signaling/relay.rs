//! The relay of a signaling server, which carries the packets of peers that have no direct path.

use super::Metadata;
use crate::ids::RelayToken;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a peer needs to use the server's relay, which has the address at which the peer reached the
/// server: the same scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayOffer {
    /// Admits this peer while it is registered.
    pub token: RelayToken,
    /// Whether the server shows peers their address as seen from outside, by QUIC on the UDP port of
    /// the same number.
    #[serde(default)]
    pub address_discovery: bool,
}

/// The public key of a peer's QUIC endpoint, in hexadecimal, as the peer publishes it: the `id` of
/// its property `iroh`. The relay admits this endpoint only.
pub fn endpoint_id(metadata: &Metadata) -> Option<&str> {
    metadata.properties.get("iroh")?.get("id").and_then(Value::as_str)
}
