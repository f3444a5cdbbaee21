//! How much of the server anybody may have.

use std::time::Duration;

/// How much of the server one peer, room or address may have. The limits for an address do not
/// count for loopback addresses: there all the peers of one machine share one, and so does everybody
/// behind a proxy on it that is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest frame that a peer may send, in bytes.
    pub frame_bytes: usize,
    /// Frames each second from one peer; faster ones are read later.
    pub frames_per_s: u32,
    /// Frames that a peer may send at once.
    pub burst_frames: u32,
    /// Peers in one room.
    pub room_peers: usize,
    /// Rooms that one address may make in an hour.
    pub rooms_per_address: u32,
    /// New identities that one address may have in an hour.
    pub sign_ins_per_address: u32,
    /// Mailboxes that one address may open or join in an hour, to pair devices. Each may be a guess.
    pub pairings_per_address: u32,
    /// How long a mailbox is open: for so long a pairing code can be used.
    pub pair_within: Duration,
    /// Sockets that one address may have open; half of those that the machine allows at most.
    pub sockets_per_address: usize,
    /// How long a socket may stay without registering.
    pub register_within: Duration,
    /// Frames that wait for a slow reader.
    pub queue_frames: usize,
    /// Their bytes, together.
    pub queue_bytes: usize,
    /// Lists and objects inside each other in one frame.
    pub nesting: usize,
    /// Malformed frames in a row that are answered before the socket is closed.
    pub malformed_frames: u32,
    /// Connections to the relay, of all rooms together.
    pub relay_connections: usize,
    /// Bytes each second that one connection may send through the relay; a faster one is read later.
    pub relay_bytes_per_s: u32,
}

/// The longest frame of the protocol: nothing longer can be allowed, since no peer would read it.
const MAX_FRAME_BYTES: usize = sleap_rtc_protocol::signaling::MAX_FRAME_BYTES;

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
            // A cluster behind one translated address is one address.
            sockets_per_address: 2048,
            register_within: Duration::from_secs(30),
            queue_frames: 256,
            queue_bytes: 4 * 1024 * 1024,
            nesting: 64,
            malformed_frames: 32,
            relay_connections: 1024,
            // What a line of 1 Gbit/s carries.
            relay_bytes_per_s: 125_000_000,
        }
    }
}
