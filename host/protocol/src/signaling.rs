//! Frames between a peer and the signaling server: JSON objects in WebSocket text messages.
//!
//! When the server forwards a frame, it reads only the routing fields and passes the text on
//! unchanged. Keys that the server does not know, such as `protocols`, still reach the other peer.

use crate::connection::Purpose;
use crate::ids::{AddressTag, IdToken, PeerId, RoomId, Token};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::net::SocketAddr;

mod ice;
mod negotiation;
mod presence;
mod relay;
#[cfg(test)]
mod tests;
mod unreadable;

pub use ice::{IceServers, WireIceServer};
pub use negotiation::{
    AppMessage, JobRequest, JobResponse, MAX_VIDEO_NAMES, MAX_VIDEOS, PeerMessage, VideoQuery,
    of_attempt,
};
pub use presence::{Filters, Metadata, MetadataPatch, PeerInfo, PeersChanged, Role};
pub use relay::{RelayOffer, endpoint_id};
pub use unreadable::{Question, Unreadable};

/// The longest frame that either side accepts, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Close code of this program: the same identity registered on another socket.
pub const CLOSE_REPLACED: u16 = 4001;
/// Close code of this program: the peer or its room was deleted.
pub const CLOSE_DELETED: u16 = 4002;

/// The fields of [`ClientMessage::Register`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Must be the subject of `id_token`.
    pub peer_id: PeerId,
    /// The room.
    pub room_id: RoomId,
    /// The room's token.
    pub token: Token,
    /// Proof of identity.
    pub id_token: IdToken,
    /// The role of the peer.
    #[serde(default)]
    pub role: Role,
    /// What the peer publishes about itself.
    #[serde(default)]
    pub metadata: Metadata,
}

/// A session description. Its `Debug` shows only the length, because descriptions contain addresses
/// and keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sdp(pub String);

impl Sdp {
    /// What a peer without WebRTC sends.
    pub fn none() -> Self {
        Self(String::new())
    }
}

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sdp({} bytes)", self.0.len())
    }
}

/// An offer or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The sending peer.
    pub sender: PeerId,
    /// The receiving peer.
    pub target: PeerId,
    /// The description with all its candidates: none follow later. Empty without WebRTC.
    pub sdp: Sdp,
    /// Dialects that the sender speaks besides the Python one. Python peers send none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// The purpose of an offer. Absent in answers and from Python peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// A number in native offers that the answer repeats. Distinguishes a late answer to an abandoned
    /// offer from the answer to the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The sender's iroh endpoint. Absent from peers without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iroh: Option<EndpointAddress>,
    /// From which address the sender speaks. The server adds it to what a worker is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_address: Option<AddressTag>,
}

/// The addresses of an iroh endpoint, besides the relay of the server that both peers use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointAddress {
    /// Its id: an Ed25519 public key in hexadecimal digits.
    pub id: String,
    /// Its known addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addrs: Vec<SocketAddr>,
}

impl Description {
    /// Whether the sender has WebRTC. One without it sends an empty description.
    pub fn has_webrtc(&self) -> bool {
        !self.sdp.0.is_empty()
    }

    /// Whether the sender speaks `sleap-rtc/1`.
    pub fn speaks_native(&self) -> bool {
        self.protocols.iter().any(|name| name == crate::DIALECT)
    }

    /// Whether this can be the answer to offer number `attempt`. Python workers do not name the offer.
    pub fn answers_offer(&self, attempt: u64) -> bool {
        self.attempt.is_none_or(|named| named == attempt)
    }
}

/// An error. Three forms are in use, and each reader finds its field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The peer that reports the error; absent if it is the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<PeerId>,
    /// The receiving peer, if a peer reports the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PeerId>,
    /// `ROOM_NOT_FOUND`, `PEER_NOT_FOUND`, `INVALID_MESSAGE`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `worker_busy`, or the same as `code` for old readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The status of the worker that refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_status: Option<String>,
    /// The attempt number of the refused offer, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

/// The `reason` of a worker without a free slot.
pub const WORKER_BUSY: &str = "worker_busy";
/// The `code` of a worker that does not have the job of an offer, or if the sender of the offer
/// does not have the job's secret.
pub const NOT_YOUR_JOB: &str = "NOT_YOUR_JOB";

impl ErrorFrame {
    /// Whether this can be about offer number `attempt`. The server's own errors name no offer.
    pub fn concerns_offer(&self, attempt: u64) -> bool {
        self.attempt.is_none_or(|named| named == attempt)
    }

    /// The most readable text of the frame.
    pub fn text(&self) -> &str {
        [&self.message, &self.reason, &self.code]
            .into_iter()
            .find_map(|field| field.as_deref())
            .unwrap_or("an error without a description")
    }
}

/// A frame from a peer to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Joins a room.
    Register(Register),
    /// Lists the peers in the room.
    DiscoverPeers {
        /// The requesting peer.
        from_peer_id: PeerId,
        /// Which peers to list.
        #[serde(default)]
        filters: Filters,
        /// The most peers in the answer. If absent, as many as fit into one frame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
        /// Only peers whose id follows this one: the `next` of the previous answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<PeerId>,
    },
    /// Subscribes to changes of the list of these peers. Replaces an earlier subscription.
    WatchPeers {
        /// The requesting peer.
        from_peer_id: PeerId,
        /// Which peers to list.
        #[serde(default)]
        filters: Filters,
    },
    /// Ends the subscription.
    UnwatchPeers {
        /// The requesting peer.
        from_peer_id: PeerId,
    },
    /// Requests the ICE servers again, because their credentials expire.
    GetIceServers {
        /// The requesting peer.
        from_peer_id: PeerId,
    },
    /// Changes the metadata of the sender.
    UpdateMetadata {
        /// The sender.
        peer_id: PeerId,
        /// The changes.
        metadata: MetadataPatch,
    },
    /// Forwarded.
    Offer(Description),
    /// Forwarded.
    Answer(Description),
    /// Forwarded. Native peers never send one.
    Candidate {
        /// The sending peer.
        sender: PeerId,
        /// The receiving peer.
        target: PeerId,
        /// The candidate, as the browser API defines it.
        #[serde(default)]
        candidate: Value,
    },
    /// Forwarded.
    PeerMessage(PeerMessage),
    /// Forwarded to its target.
    Error(ErrorFrame),
    /// Worker: asks a client to leave. Forwarded to its target. A waiting Python client listens
    /// only to this.
    Quit {
        /// The sending peer.
        sender: PeerId,
        /// The receiving peer.
        target: PeerId,
    },
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A frame from the server to a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// `Register` succeeded.
    RegisteredAuth {
        /// The room.
        room_id: RoomId,
        /// The room's token.
        token: Token,
        /// The peer.
        peer_id: PeerId,
        /// STUN and TURN servers for this peer. An old server sends none.
        #[serde(flatten)]
        ice: IceServers,
        /// The server's relay. Absent if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relay: Option<RelayOffer>,
        /// Whether the server serves the client for browsers.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        page: bool,
    },
    /// Answers `DiscoverPeers`.
    PeerList {
        /// The peer that requested the list.
        #[serde(default)]
        to_peer_id: Option<PeerId>,
        /// The peers.
        peers: Vec<PeerInfo>,
        /// The number of peers in this frame.
        #[serde(default)]
        count: usize,
        /// Where the list continues, if this frame does not contain all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<PeerId>,
    },
    /// Answers `WatchPeers` and `UnwatchPeers`.
    Watching {
        /// Whether the server reports changes from now on.
        #[serde(default)]
        active: bool,
    },
    /// The changes of the watched list since the previous such frame.
    PeersChanged(PeersChanged),
    /// Answers `GetIceServers`.
    IceServers(IceServers),
    /// Answers `UpdateMetadata`.
    MetadataUpdated {
        /// The peer.
        peer_id: PeerId,
        /// Its complete metadata.
        #[serde(default)]
        metadata: Metadata,
    },
    /// From another peer.
    Offer(Description),
    /// From another peer.
    Answer(Description),
    /// From another peer.
    Candidate {
        /// The sending peer.
        sender: PeerId,
        /// The candidate, as the browser API defines it.
        #[serde(default)]
        candidate: Value,
    },
    /// From another peer.
    PeerMessage(PeerMessage),
    /// From the server or another peer.
    Error(ErrorFrame),
    /// A malformed request of another peer that waits for an answer. Only [`Self::decode`] makes it.
    #[serde(skip)]
    Unreadable(Unreadable),
    /// A frame that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a text is not a valid frame.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The frame is too long.
    #[error("a frame has {0} bytes; at most {MAX_FRAME_BYTES} are allowed")]
    TooLong(usize),
    /// The frame is not JSON, or a field of a known frame is wrong.
    #[error("malformed frame: {0}")]
    Json(#[from] serde_json::Error),
}

impl ServerMessage {
    /// The peer that sent it. `None` if it is the server's own.
    pub fn sender(&self) -> Option<&PeerId> {
        match self {
            Self::Offer(description) | Self::Answer(description) => Some(&description.sender),
            Self::Candidate { sender, .. } => Some(sender),
            Self::PeerMessage(message) => Some(&message.from_peer_id),
            Self::Error(error) => error.sender.as_ref(),
            Self::Unreadable(asked) => Some(&asked.sender),
            Self::RegisteredAuth { .. }
            | Self::PeerList { .. }
            | Self::Watching { .. }
            | Self::PeersChanged(_)
            | Self::IceServers(_)
            | Self::MetadataUpdated { .. }
            | Self::Unknown => None,
        }
    }

    /// Decodes a frame from the server, including the `{"error": …}` of the old server.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        if text.len() > MAX_FRAME_BYTES {
            return Err(DecodeError::TooLong(text.len()));
        }
        let frame: Value = serde_json::from_str(text)?;
        match (frame.get("type"), frame.get("error")) {
            (None, Some(error)) => {
                let message = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                Ok(Self::Error(ErrorFrame { message: Some(message), ..ErrorFrame::default() }))
            }
            _ => Self::deserialize(&frame).or_else(|error| {
                let asked = Unreadable::find(&frame, &error).map(Self::Unreadable);
                asked.ok_or(DecodeError::Json(error))
            }),
        }
    }
}
