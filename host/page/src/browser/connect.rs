//! From a worker in the room to a conversation with it.

use super::clock::within;
use super::room::Room;
use super::rtc::Connection;
use super::store;
use super::talk::{Believed, Talk, TalkError};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::offer_reply::OfferReply;
use sleap_rtc_protocol::signaling::{ClientMessage, Description, Sdp, ServerMessage};
use sleap_rtc_trust::device::{DeviceId, DeviceKey};
use sleap_rtc_trust::goal::Goal;
use sleap_rtc_trust::handshake::{Binding, ConnectionKind, Identity, Scene};
use std::time::Duration;
use wasm_bindgen::JsValue;

/// The time from offer to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

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
    let mut messages = room.listen();
    let offer = goal.offer((&client, worker), attempt, Sdp(sdp), None);
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
        let message = messages.next().await.ok_or(TalkError::Lost)?;
        match OfferReply::of(message, worker, attempt) {
            Some(OfferReply::Answer(answer)) => return Ok(*answer),
            Some(OfferReply::Refused(why)) => {
                return Err(TalkError::Refused(crate::words::message(&why.text)));
            }
            Some(OfferReply::UnknownJob(_)) => return Err(TalkError::Unknown),
            Some(OfferReply::Absent) => return Err(TalkError::Lost),
            None => {}
        }
    }
}
