//! STUN and TURN servers that a signaling server assigns to a peer.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A STUN or TURN server, as the browser API defines it. `Debug` hides the credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireIceServer {
    /// The URLs of one server. A single URL may arrive as a string.
    #[serde(deserialize_with = "one_or_more")]
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl fmt::Debug for WireIceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireIceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        One(String),
        More(Vec<String>),
    }
    Ok(match Urls::deserialize(from)? {
        Urls::One(url) => vec![url],
        Urls::More(urls) => urls,
    })
}

/// The ICE servers that a signaling server assigns to one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServers {
    /// The servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ice_servers: Vec<WireIceServer>,
    /// For how many seconds the credentials are valid; absent means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_lifetime_s: Option<u64>,
}
