//! What the room sees of this client.

use crate::config::ClientConfig;
use serde_json::{Value, json};
use sleap_rtc_protocol::capabilities::CLIENT_TAGS;
use sleap_rtc_protocol::signaling::Metadata;

/// The metadata of this client.
pub(crate) fn metadata(endpoint: Option<(String, Value)>) -> Metadata {
    let properties = json!({
        "sleap_version": "unknown",
        "platform": std::env::consts::OS,
        "user_id": login(),
    });
    Metadata {
        tags: CLIENT_TAGS.map(str::to_owned).to_vec(),
        properties: properties.as_object().cloned().into_iter().flatten().chain(endpoint).collect(),
    }
}

/// Whose jobs these are: a claim, not a proof.
pub fn user(config: &ClientConfig) -> String {
    config.user.clone().unwrap_or_else(login)
}

/// The user's login name. In services, containers and cron no variable has it.
fn login() -> String {
    let named = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    named("USER").or_else(|| named("USERNAME")).unwrap_or_else(sleap_rtc_base::os::user_name)
}
