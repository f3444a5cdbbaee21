//! Who is in a room: what a peer says of itself, how it is looked for, and how that changes.

use crate::ids::{PeerId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a peer is. The old inference client registers without a role: `peer`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs jobs.
    Worker,
    /// Submits jobs.
    Client,
    /// Anything else.
    #[default]
    #[serde(other)]
    Peer,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// What a peer says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Facts to filter it by; see [`Capabilities::properties`](crate::capabilities::Capabilities::properties).
    #[serde(default)]
    pub properties: Map<String, Value>,
}

/// A change of metadata. What is absent stays; properties merge key by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetadataPatch {
    /// New tags, replacing the old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// New values of some properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Map<String, Value>>,
}

impl Metadata {
    /// Takes over what `patch` holds and keeps the rest.
    pub fn merge(&mut self, patch: MetadataPatch) {
        if let Some(tags) = patch.tags {
            self.tags = tags;
        }
        self.properties.extend(patch.properties.unwrap_or_default());
    }
}

/// Which peers to list. Absent means any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// Only this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Only this room, which must be the asker's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// Any of these tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// For each property a value to equal, or an object of operators (`$gte`, `$lte`, `$eq`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Map<String, Value>>,
}

/// A peer as discovery shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Who.
    pub peer_id: PeerId,
    /// What it is.
    #[serde(default)]
    pub role: Role,
    /// What it says of itself.
    #[serde(default)]
    pub metadata: Metadata,
    /// When it registered; the old server sends seconds as a number, others a text.
    #[serde(default)]
    pub connected_at: Value,
}

/// How a watched list has changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeersChanged {
    /// New in the list, or different from before.
    #[serde(default)]
    pub peers: Vec<PeerInfo>,
    /// No longer in the list.
    #[serde(default)]
    pub left: Vec<PeerId>,
    /// More has changed than was kept for a slow reader: the list is to be asked for again.
    #[serde(default)]
    pub list_again: bool,
}
