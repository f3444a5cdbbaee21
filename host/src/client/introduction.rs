//! What the room sees of this client.

use serde_json::{Value, json};
use sleap_rtc_protocol::capabilities::CLIENT_TAGS;
use sleap_rtc_protocol::signaling::Metadata;

/// The metadata of this client.
pub(crate) fn metadata(endpoint: Option<(String, Value)>) -> Metadata {
    let properties = json!({
        "sleap_version": "unknown",
        "platform": std::env::consts::OS,
        "user_id": user().unwrap_or_else(|| "unknown".into()),
    });
    Metadata {
        tags: CLIENT_TAGS.map(str::to_owned).to_vec(),
        properties: properties.as_object().cloned().into_iter().flatten().chain(endpoint).collect(),
    }
}

/// The user's login name: a claim, not a proof.
pub fn user() -> Option<String> {
    std::env::var("USER").ok().or_else(|| std::env::var("USERNAME").ok())
}
