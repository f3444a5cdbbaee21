//! Questions of another peer that make no sense: whoever asked waits for an answer, and can be told.

use crate::ids::PeerId;
use serde_json::Value;

/// Characters of the parser's reason that are kept: it may quote the frame.
const MAX_WHY: usize = 200;

/// A frame that asks for an answer, and has a field that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Who asks.
    pub sender: PeerId,
    /// For what.
    pub question: Question,
    /// What is wrong with it.
    pub why: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A connection.
    Offer {
        /// The number of the offer, when it has one.
        attempt: Option<u64>,
    },
    /// Whether a job would be taken.
    JobRequest {
        /// The job's name; empty when it cannot be read either.
        job_id: String,
    },
}

impl Unreadable {
    /// What `frame` asks for, when it is such a frame and says who asks.
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
