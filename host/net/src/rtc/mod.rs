//! Peer connections and data channels over the `webrtc` crate, with the settings that make it fast.
//!
//! | module | what it does |
//! |---|---|
//! | `connection` | offer, answer, and the connection that they set up |
//! | `addresses` | which of this machine's addresses a connection uses |
//! | `channel` | one data channel |
//! | `descriptions` | differences between the session descriptions of peers |
//! | `packets` | how long packets may be |
//! | `settings` | how the crate is set up for a connection |
//! | `socket` | one UDP socket: sends that fit, and few reads in a row |
//! | `sockets` | the runtime under it: large UDP buffers, bounded look-ups, a fast clock while connecting |
//! | `turns` | one message at a time, for sockets that hold no more |
//!
//! Offer and answer carry all candidates, without trickle ICE, because Python peers know nothing
//! else.

mod addresses;
mod channel;
mod connection;
mod descriptions;
mod packets;
mod settings;
mod socket;
mod sockets;
mod turns;

pub use addresses::is_own_address;
pub use channel::{Channel, ChannelError, Message};
pub use connection::{Connection, Offering, RtcError, answer, offer, offer_until};

use sleap_rtc_base::ice::{IceConfig, IceServer};
use sleap_rtc_protocol::signaling::IceServers;
use std::net::IpAddr;
use std::time::Duration;

/// How long candidates are gathered. Those found by then are used.
const GATHER_LIMIT: Duration = Duration::from_secs(2);
/// The same if iroh is tried first. No server answers if UDP is blocked, and iroh would have to
/// wait as well.
pub const GATHER_LIMIT_BESIDE_IROH: Duration = Duration::from_millis(300);

/// The largest message that this side accepts. A message to a Python peer must not exceed 64 KiB.
const MAX_MESSAGE_BYTES: u32 = 262_144;

/// The options of connections.
#[derive(Debug, Clone)]
pub struct RtcOptions {
    /// STUN and TURN servers.
    pub servers: Vec<IceServer>,
    /// The addresses to bind. Empty means those of the interfaces, and loopback.
    pub bind: Vec<IpAddr>,
    /// How long candidates are gathered.
    pub gather_limit: Duration,
}

impl RtcOptions {
    /// The options of the configuration, with the servers that the signaling server gave to this
    /// peer.
    pub fn new(config: &IceConfig, given: &IceServers) -> Self {
        let given = given.ice_servers.iter().filter_map(|server| {
            let (username, credential) = (server.username.clone(), server.credential.clone());
            let checked = IceServer::new(server.urls.clone(), username, credential);
            checked.inspect_err(|why| tracing::warn!("an ICE server that was given {why}")).ok()
        });
        let usable = |server: IceServer| {
            let (server, unused) = server.usable();
            if !unused.is_empty() {
                tracing::warn!(
                    ?unused,
                    "not used: STUN and TURN servers are reached over UDP alone"
                );
            }
            server
        };
        let servers = config.servers_with(given).into_iter().filter_map(usable);
        // Without a network no remote server can be reached, so their names are not resolved.
        let alone = addresses::is_alone();
        let in_reach = |server: &IceServer| !alone || server.urls.iter().all(|url| is_here(url));
        Self {
            servers: servers.filter(in_reach).collect(),
            bind: config.bind.clone(),
            gather_limit: GATHER_LIMIT,
        }
    }

    /// The same if iroh is tried first.
    pub fn beside_iroh(self) -> Self {
        Self { gather_limit: GATHER_LIMIT_BESIDE_IROH, ..self }
    }
}

/// Whether a STUN or TURN URL refers to this machine.
fn is_here(url: &str) -> bool {
    let host = url.split_once(':').map_or("", |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|here| host.starts_with(here))
}

#[cfg(test)]
mod tests;
