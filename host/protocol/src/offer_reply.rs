//! What the messages of a room say about an offer that waits for its answer.

use crate::ids::PeerId;
use crate::signaling::{
    AppMessage, Description, ErrorFrame, NOT_YOUR_JOB, PeerMessage, ServerMessage, WORKER_BUSY,
};

/// The server's words for a peer that is not there.
const ABSENT: [&str; 4] =
    ["PEER_NOT_FOUND", "PEER_NOT_IN_ROOM", "DELIVERY_FAILED", "target_not_found"];

/// What has become of an offer.
#[derive(Debug, Clone, PartialEq)]
pub enum OfferReply {
    /// The worker takes it.
    Answer(Box<Description>),
    /// The worker refuses.
    Refused(OfferRefusal),
    /// The worker does not have the job, or the secret is not the job's. The text says so.
    UnknownJob(String),
    /// The worker is not in the room. It may be on its way back.
    Absent,
}

/// Why a worker refuses an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRefusal {
    /// Whether for want of a free slot.
    pub is_busy: bool,
    /// The worker's status, if it says so.
    pub status: Option<String>,
    /// In the worker's words.
    pub text: String,
}

impl OfferReply {
    /// What `message` says about offer number `attempt` to `worker`, if anything.
    pub fn of(message: ServerMessage, worker: &PeerId, attempt: u64) -> Option<Self> {
        match message {
            ServerMessage::Answer(answer)
                if answer.sender == *worker && answer.answers_offer(attempt) =>
            {
                Some(Self::Answer(Box::new(answer)))
            }
            // A refusal of an earlier offer may come late.
            ServerMessage::Error(error) if error.concerns_offer(attempt) => {
                Self::of_error(error, worker)
            }
            ServerMessage::PeerMessage(PeerMessage {
                from_peer_id,
                payload: AppMessage::JobResponse(response),
                ..
            }) if from_peer_id == *worker && response.refuses_offer(attempt) => {
                let is_busy = response.reason.as_deref() == Some("busy");
                let (status, text) = (response.current_status.clone(), response.into_text());
                Some(Self::Refused(OfferRefusal { is_busy, status, text }))
            }
            _ => None,
        }
    }

    fn of_error(error: ErrorFrame, worker: &PeerId) -> Option<Self> {
        let is = |field: &Option<String>, words: &[&str]| {
            field.as_deref().is_some_and(|field| words.contains(&field))
        };
        let is_from_worker = error.sender.as_ref() == Some(worker);
        let text = error.text().to_owned();
        if is_from_worker && is(&error.code, &[NOT_YOUR_JOB]) {
            return Some(Self::UnknownJob(text));
        }
        let is_busy = is(&error.reason, &[WORKER_BUSY]);
        if is_from_worker || is_busy {
            return Some(Self::Refused(OfferRefusal {
                is_busy,
                status: error.current_status,
                text,
            }));
        }
        (is(&error.code, &ABSENT) || is(&error.reason, &ABSENT)).then_some(Self::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn reply(message: Value) -> Option<OfferReply> {
        let worker = PeerId::new("w").unwrap();
        OfferReply::of(serde_json::from_value(message).unwrap(), &worker, 3)
    }

    fn refusal(message: Value) -> Option<(bool, String)> {
        match reply(message)? {
            OfferReply::Refused(refusal) => Some((refusal.is_busy, refusal.text)),
            _ => None,
        }
    }

    #[test]
    fn an_answer_is_of_the_worker_and_of_this_offer() {
        let answer = |sender: &str, attempt: Value| json!({"type": "answer", "sender": sender, "target": "c", "sdp": "v=0", "attempt": attempt});
        assert!(matches!(reply(answer("w", json!(3))), Some(OfferReply::Answer(_))));
        // Older workers do not number their answers.
        assert!(matches!(reply(answer("w", Value::Null)), Some(OfferReply::Answer(_))));
        assert_eq!(reply(answer("w", json!(2))), None);
        assert_eq!(reply(answer("other", json!(3))), None);
    }

    #[test]
    fn errors_are_told_apart() {
        let error = |fields: Value| {
            let mut frame = json!({"type": "error", "message": "no"});
            frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            frame
        };
        let unknown = error(json!({"sender": "w", "code": NOT_YOUR_JOB}));
        assert_eq!(reply(unknown), Some(OfferReply::UnknownJob("no".into())));
        // Only the worker itself knows what jobs it has.
        assert_eq!(reply(error(json!({"sender": "other", "code": NOT_YOUR_JOB}))), None);
        let refused = |fields| refusal(error(fields));
        assert_eq!(refused(json!({"sender": "w", "code": "X"})), Some((false, "no".into())));
        assert_eq!(refused(json!({"reason": WORKER_BUSY})), Some((true, "no".into())));
        assert_eq!(reply(error(json!({"code": "PEER_NOT_FOUND"}))), Some(OfferReply::Absent));
        assert_eq!(reply(error(json!({"code": "RATE_LIMITED"}))), None);
        // Of another offer.
        assert_eq!(reply(error(json!({"sender": "w", "code": "X", "attempt": 2}))), None);
        let of_this = error(json!({"sender": "w", "code": "X", "attempt": 3}));
        assert_eq!(refusal(of_this), Some((false, "no".into())));
    }

    #[test]
    fn a_refusal_is_of_this_offer_and_in_the_workers_words() {
        let response = |job: &str, accepted: bool| {
            let payload = json!({
                "app_message_type": "job_response", "job_id": job, "accepted": accepted,
                "reason": "busy",
            });
            json!({
                "type": "peer_message", "from_peer_id": "w", "to_peer_id": "c", "payload": payload,
            })
        };
        let text = "the worker refused: busy".to_owned();
        assert_eq!(refusal(response("offer 3", false)), Some((true, text)));
        assert_eq!(refusal(response("offer 2", false)), None);
        assert_eq!(refusal(response("offer 3", true)), None);
    }
}
