//! Peers in a room: what they publish, how to search for them, and how the list changes.

use crate::ids::{PeerId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The role of a peer. The old inference client registers without one, which means `peer`.
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
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// What a peer publishes about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Tags to search for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Properties to filter by; see
    /// [`Capabilities::properties`](crate::capabilities::Capabilities::properties).
    #[serde(default)]
    pub properties: Map<String, Value>,
}

/// A change of metadata. Absent fields keep their values, and properties merge key by key.
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
    /// Applies `patch`.
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
    /// Only this room, which must be the room of the requesting peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// Any of these tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// For each property a value to equal, or an object of operators (`$gte`, `$lte`, `$eq`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Map<String, Value>>,
}

/// A peer in the result of a discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The peer.
    pub peer_id: PeerId,
    /// Its role.
    #[serde(default)]
    pub role: Role,
    /// What it publishes about itself.
    #[serde(default)]
    pub metadata: Metadata,
    /// When it registered. The old server sends seconds as a number, other servers a text.
    #[serde(default)]
    pub connected_at: Value,
}

/// How a watched list has changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeersChanged {
    /// Peers that are new or have changed.
    #[serde(default)]
    pub peers: Vec<PeerInfo>,
    /// Peers that have left the list.
    #[serde(default)]
    pub left: Vec<PeerId>,
    /// More has changed than the server keeps for a slow reader. Request the list again.
    #[serde(default)]
    pub list_again: bool,
}

impl PeersChanged {
    /// Applies the changes to `list`; returns whether it is different.
    pub fn apply(self, list: &mut BTreeMap<PeerId, PeerInfo>) -> bool {
        let mut different = false;
        for peer in self.peers {
            let old = list.insert(peer.peer_id.clone(), peer.clone());
            different |= old.is_none_or(|old| old != peer);
        }
        for peer in self.left {
            different |= list.remove(&peer).is_some();
        }
        different
    }
}
