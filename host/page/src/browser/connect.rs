//! From a worker in the room to a conversation with it.

use super::clock::within;
use super::room::Room;
use super::rtc::Connection;
use super::store;
use super::talk::{Believed, Talk, TalkError};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt;
use sleap_rtc_protocol::DIALECT;
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, Description, ErrorFrame, NOT_YOUR_JOB, Sdp, ServerMessage,
    WORKER_BUSY,
};
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::handshake::{Binding, ConnectionKind, Identity, Scene};
use sleap_rtc_trust::job_key::{JobKey, JobOffer};
use std::time::Duration;
use wasm_bindgen::JsValue;

/// The time from offer to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The server's words for a peer that is not there.
const ABSENT: [&str; 4] =
    ["PEER_NOT_FOUND", "PEER_NOT_IN_ROOM", "DELIVERY_FAILED", "target_not_found"];

/// What a connection is for.
#[derive(Debug, Clone)]
pub enum Goal {
    /// To submit a job that is new to the worker, and that may wait for a slot there.
    NewJob {
        /// Whether it may.
        may_wait: bool,
    },
    /// To go on with a job that the worker has.
    KnownJob(JobId, JobSecret),
}

/// Connects to `worker`, which proves who it is, as far as the room lets it: as this `device`, if given.
///
/// # Errors
/// The worker is not there, refuses, or proves something else.
pub async fn connect(
    room: &Room,
    own: &DeviceKey,
    worker: &PeerId,
    goal: &Goal,
    device: Option<DeviceId>,
) -> Result<Talk, TalkError> {
    let away = |_: JsValue| TalkError::Lost;
    let client = room.own_id().ok_or(TalkError::Lost)?;
    let (mut connection, sdp) = Connection::offer(&room.ice_servers()).await.map_err(away)?;
    let attempt = room.next_attempt();
    let purpose = match goal {
        Goal::NewJob { may_wait: false } => Purpose::NewJob,
        Goal::NewJob { may_wait: true } => Purpose::QueuedJob,
        Goal::KnownJob(job, secret) => {
            let offer = JobOffer { job, client: &client, worker, attempt };
            let proof = Some(offer.prove(&JobKey::new(job, secret)));
            Purpose::KnownJob { job: job.clone(), proof }
        }
    };
    let mut messages = room.listen();
    let offer = Description {
        sender: client.clone(),
        target: worker.clone(),
        sdp: Sdp(sdp),
        protocols: vec![DIALECT.to_owned()],
        purpose: Some(purpose),
        attempt: Some(attempt),
        iroh: None,
        sender_address: None,
    };
    room.send(&ClientMessage::Offer(offer)).map_err(away)?;
    let answer = within(ANSWER_LIMIT, answer(&mut messages, worker, attempt)).await;
    let answer = answer.ok_or(TalkError::Silent(ANSWER_LIMIT))??;
    if !answer.speaks_native() {
        let text = "it is a Python worker, which a page cannot reach: use the command line";
        return Err(TalkError::Refused(text.into()));
    }
    let ends = connection.accept(&answer.sdp.0).await.map_err(away)?;
    let mut talk = Talk::new(connection);
    if let Some(peer) = room.credential().peer() {
        let several =
            || TalkError::Untrusted("names several certificates for one connection".into());
        let (client_end, worker_end) = ends.ok_or_else(several)?;
        let transport = ConnectionKind::Webrtc;
        let binding = Binding { transport, client: client_end, worker: worker_end };
        let scene = Scene::new(&room.credential().room_id, attempt, &client, worker, binding);
        let known = room.known();
        let (room, authority) = (known.id(), peer.authority());
        let own = Identity::new(own.clone(), peer.clone(), known.certificate.clone());
        let own = own.knowing(store::removals(room, &authority));
        let believed = Believed { wanted: device, paired: &known.workers };
        let news = talk.prove(own, scene, believed).await?;
        store::add_removals(room, &authority, &news);
    }
    Ok(talk)
}

async fn answer(
    messages: &mut UnboundedReceiver<ServerMessage>,
    worker: &PeerId,
    attempt: u64,
) -> Result<Description, TalkError> {
    loop {
        match messages.next().await.ok_or(TalkError::Lost)? {
            ServerMessage::Answer(answer)
                if answer.sender == *worker && answer.answers_offer(attempt) =>
            {
                return Ok(answer);
            }
            ServerMessage::Error(error) if error.concerns_offer(attempt) => {
                if let Some(refusal) = refusal(worker, &error) {
                    return Err(refusal);
                }
            }
            ServerMessage::PeerMessage(message) if message.from_peer_id == *worker => {
                if let AppMessage::JobResponse(response) = message.payload
                    && response.refuses_offer(attempt)
                {
                    return Err(TalkError::Refused(words(response.message, response.reason)));
                }
            }
            _ => {}
        }
    }
}

/// What an error means for the offer that waits, if anything.
fn refusal(worker: &PeerId, error: &ErrorFrame) -> Option<TalkError> {
    let is = |field: &Option<String>, words: &[&str]| {
        field.as_deref().is_some_and(|field| words.contains(&field))
    };
    let is_from_worker = error.sender.as_ref() == Some(worker);
    if is_from_worker && is(&error.code, &[NOT_YOUR_JOB]) {
        return Some(TalkError::Unknown);
    }
    if is_from_worker || is(&error.reason, &[WORKER_BUSY]) {
        return Some(TalkError::Refused(crate::words::message(error.text())));
    }
    // It may be on its way back.
    (is(&error.code, &ABSENT) || is(&error.reason, &ABSENT)).then_some(TalkError::Lost)
}

/// A worker's refusal, in its own words where it has some.
pub fn words(message: Option<String>, reason: Option<String>) -> String {
    let reason = reason.unwrap_or_else(|| "no reason given".into());
    let text = message.unwrap_or_else(|| format!("the worker refused: {reason}"));
    crate::words::message(&text)
}
