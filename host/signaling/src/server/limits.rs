//! The limits on what a peer, a room or an address may use.

use crate::fair_queue::Bounds;
use std::time::Duration;

/// The limits on what one peer, room or address may use. The limits for an address do not apply to
/// loopback addresses, which are shared by all peers of the machine, and by all peers behind an
/// untrusted proxy on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame that a peer may send, in bytes.
    pub frame_bytes: usize,
    /// Frames per second from one peer. Faster ones are read later.
    pub frames_per_s: u32,
    /// The most frames that a peer may send at once.
    pub burst_frames: u32,
    /// Peers in one room.
    pub room_peers: usize,
    /// Rooms that one address may create in an hour.
    pub rooms_per_address: u32,
    /// New identities that one address may get in an hour.
    pub sign_ins_per_address: u32,
    /// Mailboxes that one address may open or join in an hour, to pair devices. Each may be a guess
    /// at a code.
    pub pairings_per_address: u32,
    /// How long a mailbox stays open, and with it a pairing code.
    pub pair_within: Duration,
    /// Sockets that one address may have open, up to half of all that the machine allows.
    pub sockets_per_address: usize,
    /// How long a socket may stay without registering.
    pub register_within: Duration,
    /// The most frames that wait for a slow reader, of all senders together. A sender may use as much
    /// of this as it leaves free.
    pub queue_frames: usize,
    /// The most bytes of these frames, in total.
    pub queue_bytes: usize,
    /// The deepest nesting of lists and objects in a frame.
    pub nesting: usize,
    /// Malformed frames in a row that are answered before the socket is closed.
    pub malformed_frames: u32,
    /// Connections to the relay, of all rooms together.
    pub relay_connections: usize,
    /// Bytes per second that one connection may send through the relay. A faster one is read later.
    pub relay_bytes_per_s: u32,
}

/// The longest frame of the protocol. A higher limit is useless, because no peer would read the
/// frame.
const MAX_FRAME_BYTES: usize = sleap_rtc_protocol::signaling::MAX_FRAME_BYTES;

impl Limits {
    /// The most that waits for a slow reader.
    pub(crate) fn queue(&self) -> Bounds {
        Bounds { frames: self.queue_frames, bytes: self.queue_bytes }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: MAX_FRAME_BYTES,
            frames_per_s: 500,
            burst_frames: 1000,
            room_peers: 2048,
            rooms_per_address: 100,
            // A client signs in once for each of its jobs.
            sign_ins_per_address: 2000,
            pairings_per_address: 120,
            pair_within: Duration::from_secs(600),
            // A cluster behind NAT shares one address.
            sockets_per_address: 2048,
            register_within: Duration::from_secs(30),
            queue_frames: 256,
            queue_bytes: 4 * 1024 * 1024,
            nesting: 64,
            malformed_frames: 32,
            relay_connections: 1024,
            // The rate of a link of 1 Gbit/s.
            relay_bytes_per_s: 125_000_000,
        }
    }
}
