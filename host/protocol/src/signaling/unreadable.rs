//! Malformed requests of other peers. The peer that sent one waits for an answer, so it can be
//! refused.

use crate::ids::PeerId;
use serde_json::Value;

/// The most characters of the parser's reason that are kept, because it may quote the frame.
const MAX_WHY: usize = 200;

/// A frame that expects an answer, with a missing or wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The peer that sent it.
    pub sender: PeerId,
    /// The kind of request.
    pub question: Question,
    /// What is wrong with it.
    pub why: String,
}

/// The kind of a malformed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A connection.
    Offer {
        /// The number of the offer, if it has one.
        attempt: Option<u64>,
    },
    /// A job request.
    JobRequest {
        /// The job's id. Empty if it cannot be read either.
        job_id: String,
    },
}

impl Unreadable {
    /// Finds the request in `frame`, if it is one and names its sender.
    pub(crate) fn find(frame: &Value, why: &serde_json::Error) -> Option<Self> {
        let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        let (key, question) = match text(frame, "type")?.as_str() {
            "offer" => {
                let attempt = frame.get("attempt").and_then(Value::as_u64);
                ("sender", Question::Offer { attempt })
            }
            "peer_message" => {
                let payload = frame.get("payload")?;
                let kind = text(payload, "app_message_type").filter(|kind| kind == "job_request");
                let job_id = text(payload, "job_id").unwrap_or_default();
                kind.map(|_| ("from_peer_id", Question::JobRequest { job_id }))?
            }
            _ => return None,
        };
        let sender = PeerId::new(text(frame, key)?).ok()?;
        Some(Self { sender, question, why: why.to_string().chars().take(MAX_WHY).collect() })
    }
}
