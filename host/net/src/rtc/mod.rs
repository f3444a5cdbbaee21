//! Peer connections and data channels over the `webrtc` crate, with the settings that make it fast.
//!
//! | module | what it does |
//! |---|---|
//! | `connection` | offer, answer, and the connection that comes of them |
//! | `addresses` | which of this machine's addresses a connection uses |
//! | `channel` | one data channel |
//! | `descriptions` | where the session descriptions of peers differ: who opens, how SCTP is written |
//! | `packets` | how long packets may be |
//! | `settings` | how the crate is set up for a connection |
//! | `socket` | one UDP socket: sends that fit, reads in batches |
//! | `sockets` | the runtime under it: large UDP buffers, bounded look-ups, a fast clock while connecting |
//!
//! Offer and answer carry all candidates (nobody trickles): Python peers know it no other way.

mod addresses;
mod channel;
mod connection;
mod descriptions;
mod packets;
mod settings;
mod socket;
mod sockets;

pub use addresses::is_own_address;
pub use channel::{Channel, ChannelError, Message};
pub use connection::{Connection, Offering, RtcError, answer, offer, offer_channel, offer_until};

use sleap_rtc_base::ice::{IceConfig, IceServer};
use sleap_rtc_protocol::signaling::IceServers;
use std::net::IpAddr;
use std::time::Duration;

/// How long candidates are gathered; what has been found by then is used.
const GATHER_LIMIT: Duration = Duration::from_secs(2);
/// The same where iroh is tried first. Where UDP is blocked no server answers, and iroh would wait too.
pub const GATHER_LIMIT_BESIDE_IROH: Duration = Duration::from_millis(300);

/// The largest message that we take. A message to a Python peer must not pass 64 KiB.
const MAX_MESSAGE_BYTES: u32 = 262_144;

/// How connections are made.
#[derive(Debug, Clone)]
pub struct RtcOptions {
    /// STUN and TURN servers.
    pub servers: Vec<IceServer>,
    /// Addresses to use; empty means those of the interfaces, and loopback.
    pub bind: Vec<IpAddr>,
    /// How long candidates are gathered.
    pub gather_limit: Duration,
    /// How much may be under way.
    pub carries: Carries,
    /// The length of the SCTP packets that this end sends.
    pub packet_bytes: u32,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// A conversation, and files where there is no other way for them: the connection itself keeps
    /// what is in flight small.
    Conversation,
    /// Files only: whoever sends them says how much is in flight.
    Files,
}

impl RtcOptions {
    /// By configuration, and with what the signaling server has given to this peer.
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
        // Without a network there is no way to servers elsewhere: their names are not asked for.
        let alone = addresses::is_alone();
        let in_reach = |server: &IceServer| !alone || server.urls.iter().all(|url| is_here(url));
        Self {
            servers: servers.filter(in_reach).collect(),
            bind: config.bind.clone(),
            gather_limit: GATHER_LIMIT,
            carries: Carries::Conversation,
            packet_bytes: packets::SHORT_BYTES,
        }
    }

    /// The same where iroh is tried first.
    pub fn beside_iroh(self) -> Self {
        Self { gather_limit: GATHER_LIMIT_BESIDE_IROH, ..self }
    }

    /// The same for a lane: a connection that carries files only.
    pub fn lane(&self) -> Self {
        Self { carries: Carries::Files, ..self.clone() }
    }

    /// The same with packets of this length.
    pub fn with_packet_bytes(self, packet_bytes: u32) -> Self {
        Self { packet_bytes, ..self }
    }
}

/// Whether a STUN or TURN URL names this machine itself.
fn is_here(url: &str) -> bool {
    let host = url.split_once(':').map_or("", |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|here| host.starts_with(here))
}

#[cfg(test)]
mod tests;
