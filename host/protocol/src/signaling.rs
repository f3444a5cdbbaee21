//! Frames between a peer and the signaling server: JSON objects in WebSocket text messages.
//!
//! The server reads only the head of a frame that it forwards and passes the text on unchanged,
//! so keys that one side does not know (such as our `protocols`) still reach the other.

use crate::connection::Purpose;
use crate::ids::{IdToken, PeerId, RoomId, Token};
use crate::job::{JobDescription, Reason};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

mod ice;
mod presence;
#[cfg(test)]
mod tests;
mod unreadable;

pub use ice::{IceServer, IceServers};
pub use presence::{Filters, Metadata, MetadataPatch, PeerInfo, PeersChanged, Role};
pub use unreadable::{Question, Unreadable};

/// The longest frame that either side accepts, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Our own close code: the same identity registered on another socket.
pub const CLOSE_REPLACED: u16 = 4001;
/// Our own close code: the peer or its room was deleted.
pub const CLOSE_DELETED: u16 = 4002;

/// Joins a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Must be the subject of `id_token`.
    pub peer_id: PeerId,
    /// Which room.
    pub room_id: RoomId,
    /// The room's token.
    pub token: Token,
    /// Proof of identity.
    pub id_token: IdToken,
    /// What the peer is.
    #[serde(default)]
    pub role: Role,
    /// What it says of itself.
    #[serde(default)]
    pub metadata: Metadata,
}

/// A session description. Its `Debug` shows the length only: descriptions hold addresses and keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sdp(pub String);

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sdp({} bytes)", self.0.len())
    }
}

/// An offer or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// From whom.
    pub sender: PeerId,
    /// To whom.
    pub target: PeerId,
    /// The description itself, candidates included (nobody trickles).
    pub sdp: Sdp,
    /// Dialects that the sender speaks besides legacy; Python peers send none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// What an offer is for; absent from Python peers and from answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// A number that our own offer carries and our own answer repeats, so that a late answer to
    /// an abandoned offer is told from the answer to the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

impl Description {
    /// Whether the sender speaks `sleap-rtc/1`.
    pub fn speaks_native(&self) -> bool {
        self.protocols.iter().any(|name| name == crate::DIALECT)
    }
}

/// A message of the application, carried by the server from peer to peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// From whom.
    pub from_peer_id: PeerId,
    /// To whom.
    pub to_peer_id: PeerId,
    /// What.
    pub payload: AppMessage,
}

/// What peers agree on before they connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "app_message_type", rename_all = "snake_case")]
pub enum AppMessage {
    /// Client: would you take this job?
    JobRequest(JobRequest),
    /// Worker: yes or no.
    JobResponse(JobResponse),
    /// Client: it is yours; my offer follows.
    JobAssignment {
        /// The job asked for.
        job_id: String,
        /// Whether the worker should start the connection (no worker ever did).
        #[serde(default)]
        initiate_connection: bool,
    },
    /// Client: no longer wanted.
    JobCancel {
        /// The job.
        job_id: String,
        /// For the log.
        #[serde(default)]
        reason: String,
    },
    /// Worker: it is gone.
    JobCancelled {
        /// The job.
        job_id: String,
        /// Always `cancelled`.
        status: String,
        /// Whether nothing of it is left.
        cleanup_complete: bool,
    },
    /// Worker: how far it is.
    JobStatus {
        /// The job.
        job_id: String,
        /// `starting` or `running`.
        status: String,
        /// 0 to 1.
        #[serde(default)]
        progress: f64,
        /// For people.
        #[serde(default)]
        message: String,
    },
    /// Worker: done.
    JobComplete {
        /// The job.
        job_id: String,
        /// Always `completed`.
        status: String,
    },
    /// Worker: failed.
    JobFailed {
        /// The job.
        job_id: String,
        /// Always `failed`.
        status: String,
        /// `{code, message, recoverable}`.
        #[serde(default)]
        error: Value,
    },
    /// Something newer, or another program's.
    #[serde(other)]
    Unknown,
}

/// The facts of a job that decide who takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// Chosen by the client.
    pub job_id: String,
    /// `training` or `inference`.
    pub job_type: crate::job::JobType,
    /// What a Python worker reads: `{format, path, estimated_size_mb, frame_count?}`.
    #[serde(default)]
    pub dataset_info: Value,
    /// What a Python worker reads: `{model_type?, epochs?}`.
    #[serde(default)]
    pub config: Value,
    /// What the user demands.
    #[serde(default)]
    pub requirements: crate::job::Requirements,
    /// All facts, from our own clients only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<JobDescription>,
}

/// A worker's answer to a job request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResponse {
    /// The job asked for.
    pub job_id: String,
    /// Whether a slot is reserved for it now.
    pub accepted: bool,
    /// `busy` or `incompatible` when not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refusal in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Each reason of an incompatible worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The worker's status at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_status: Option<String>,
    /// Seconds until the job could start.
    #[serde(default)]
    pub estimated_start_time_sec: f64,
    /// Minutes that the job would take; absent when the worker cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_minutes: Option<f64>,
    /// `{gpu_utilization, available_memory_mb}`, what was not measured absent.
    #[serde(default)]
    pub worker_info: Value,
}

/// Something went wrong. Every reader of the three shapes in use finds its field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The peer that says so; absent from the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<PeerId>,
    /// To whom, when a peer says so.
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
    /// The status of a worker that refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_status: Option<String>,
    /// The attempt of the offer that is refused, when it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

/// The reason word of a worker that has no free slot.
pub const WORKER_BUSY: &str = "worker_busy";

impl ErrorFrame {
    /// The best sentence that the frame holds.
    pub fn text(&self) -> &str {
        [&self.message, &self.reason, &self.code]
            .into_iter()
            .find_map(|field| field.as_deref())
            .unwrap_or("an error without a description")
    }
}

/// From a peer to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Join a room.
    Register(Register),
    /// List the room.
    DiscoverPeers {
        /// The asker.
        from_peer_id: PeerId,
        /// Which peers.
        #[serde(default)]
        filters: Filters,
        /// Peers of one answer, at most; as many as one frame holds when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
        /// Only peers whose id is behind this one: the `next` of the answer before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<PeerId>,
    },
    /// Say from now on how the list of these peers changes. The latest such frame counts.
    WatchPeers {
        /// The watcher.
        from_peer_id: PeerId,
        /// Which peers.
        #[serde(default)]
        filters: Filters,
    },
    /// Say no more of it.
    UnwatchPeers {
        /// The watcher.
        from_peer_id: PeerId,
    },
    /// Ask for the ICE servers again, because their credentials expire.
    GetIceServers {
        /// The asker.
        from_peer_id: PeerId,
    },
    /// Change one's own metadata.
    UpdateMetadata {
        /// The peer itself.
        peer_id: PeerId,
        /// What changes.
        metadata: MetadataPatch,
    },
    /// Forwarded.
    Offer(Description),
    /// Forwarded.
    Answer(Description),
    /// Forwarded; our own peers never send one.
    Candidate {
        /// From whom.
        sender: PeerId,
        /// To whom.
        target: PeerId,
        /// As the browser API has it.
        #[serde(default)]
        candidate: Value,
    },
    /// Forwarded.
    PeerMessage(PeerMessage),
    /// Forwarded to its target.
    Error(ErrorFrame),
    /// Worker: leave. Forwarded to its target; all that a waiting Python client listens to.
    Quit {
        /// From whom.
        sender: PeerId,
        /// To whom.
        target: PeerId,
    },
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// From the server to a peer.
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
        /// STUN and TURN servers for this peer; none from an old server.
        #[serde(flatten)]
        ice: IceServers,
    },
    /// Answers `DiscoverPeers`.
    PeerList {
        /// The asker.
        #[serde(default)]
        to_peer_id: Option<PeerId>,
        /// Who is there.
        peers: Vec<PeerInfo>,
        /// How many this frame holds.
        #[serde(default)]
        count: usize,
        /// Where the list goes on, when this frame did not hold all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<PeerId>,
    },
    /// Answers `WatchPeers` and `UnwatchPeers`.
    Watching {
        /// Whether changes are told from now on.
        #[serde(default)]
        active: bool,
    },
    /// What has changed since the last such frame, in the list that is watched.
    PeersChanged(PeersChanged),
    /// Answers `GetIceServers`.
    IceServers(IceServers),
    /// Answers `UpdateMetadata`.
    MetadataUpdated {
        /// The peer.
        peer_id: PeerId,
        /// All of its metadata now.
        #[serde(default)]
        metadata: Metadata,
    },
    /// From another peer.
    Offer(Description),
    /// From another peer.
    Answer(Description),
    /// From another peer.
    Candidate {
        /// From whom.
        sender: PeerId,
        /// As the browser API has it.
        #[serde(default)]
        candidate: Value,
    },
    /// From another peer.
    PeerMessage(PeerMessage),
    /// From the server or another peer.
    Error(ErrorFrame),
    /// From another peer, which waits for an answer; made by [`Self::decode`] only.
    #[serde(skip)]
    Unreadable(Unreadable),
    /// Something newer.
    #[serde(other)]
    Unknown,
}

/// Why a text is not a frame.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Too long.
    #[error("a frame of {0} bytes is refused ({MAX_FRAME_BYTES} are allowed)")]
    TooLong(usize),
    /// Not JSON, or a field of a known frame is wrong.
    #[error("malformed frame: {0}")]
    Json(#[from] serde_json::Error),
}

impl ServerMessage {
    /// Reads a frame from the server, the bare `{"error": …}` of the old one included.
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
