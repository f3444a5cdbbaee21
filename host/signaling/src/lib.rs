//! The signaling server, and the client that workers and clients use.
//!
//! | module | what it is |
//! |---|---|
//! | [`rooms`] | which peers are in which room: a pure registry, no I/O |
//! | [`filter`] | which peers a discovery matches |
//! | [`ice`] | the STUN and TURN servers that a peer is given, with an account for each |
//! | [`identity`] | signed identity tokens |
//! | [`store`] | the state that survives a restart: the signing key and the rooms |
//! | [`server`] | sockets and HTTP around them |
//! | [`client`] | the HTTP calls, and one WebSocket that reconnects by itself |
//!
//! ```
//! use sleap_rtc_protocol::ids::PeerId;
//! use sleap_rtc_signaling::ice::{IceOffer, OfferedServer, hand_out};
//!
//! // A TURN server that shares a secret with the signaling server gets an account for each peer.
//! let relay = OfferedServer::with_secret(vec!["turn:relay.lab".into()], "north".into())?;
//! let offer = IceOffer { servers: vec![relay], ..IceOffer::default() };
//! let given = hand_out(&offer, &PeerId::new("peer-1")?, 1_700_000_000);
//! assert_eq!(given.ice_servers[0].username.as_deref(), Some("1700086400:peer-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
mod fair_queue;
pub mod filter;
pub mod ice;
pub mod identity;
pub mod rooms;
pub mod server;
pub mod store;

#[cfg(test)]
mod tests;

use std::time::Duration;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How often either side pings, which also keeps NAT mappings alive.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A socket that was silent for this long is dead: two pings were not answered.
const SILENCE_LIMIT: Duration = Duration::from_secs(50);
/// How long writing a frame may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Small buffers: a server holds thousands of sockets that are nearly always idle.
fn websocket_config(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * longest)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}
