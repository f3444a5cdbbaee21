//! Decides which clients this worker trusts, and proves its identity to them.

use super::error::ConnectionError;
use super::members::{Members, MembersError};
use crate::config::WorkerConfig;
use crate::device;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_net::dialect::{FirstMessage, Meeting, ProvingError, WorkerEnd};
use sleap_rtc_protocol::connection::Purpose;
use sleap_rtc_protocol::frame::WorkerFrame;
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::Description;
use sleap_rtc_protocol::worker::FIRST_FRAME;
use sleap_rtc_signaling::client::Servers;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::handshake::{Admits, Identity};
use std::sync::Arc;
use tracing::{info, warn};

/// What this worker knows about the peers of its room.
pub(crate) struct ClientCheck {
    room: RoomId,
    /// `None` in a room whose token has no part for peers: it trusts the signaling server.
    keys: Option<RoomKeys>,
    /// `python_clients` of the configuration, if it is set.
    python_clients: Option<bool>,
}

/// Who this worker is to its room, and who is a member.
struct RoomKeys {
    identity: Identity,
    members: Arc<Members>,
}

impl ClientCheck {
    /// As `config` and the room's credential say. `name` is what the worker calls itself.
    pub(crate) fn new(
        config: &WorkerConfig,
        room: &Credential,
        name: &str,
    ) -> Result<Self, MembersError> {
        let key = device::key(&config.state_dir);
        let own = key.id();
        let identity = room.peer().map(|peer| Identity::worker(key, peer.clone(), name, now_s()));
        let certificate = identity.as_ref().and_then(Identity::certificate);
        let members = Members::open(&config.state_dir, room, own, certificate)?.map(Arc::new);
        let keys = identity.zip(members).map(|(identity, members)| RoomKeys { identity, members });
        let python_clients = config.python_clients;
        Ok(Self { room: room.room_id.clone(), keys, python_clients })
    }

    /// This worker's device, if clients can verify it.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.keys.as_ref().map(|keys| keys.identity.device())
    }

    /// The room's members, if it has keys.
    pub(crate) fn members(&self) -> Option<&Arc<Members>> {
        self.keys.as_ref().map(|keys| &keys.members)
    }

    /// Whether clients without keys are served. Unless the configuration decides, this ends when a member is
    /// removed: anybody who knows the token's first part could return as a client without keys.
    pub(crate) fn serves_keyless(&self) -> bool {
        let Some(keys) = &self.keys else { return true };
        self.python_clients.unwrap_or_else(|| keys.members.removals().is_empty())
    }

    /// Resolves when `device` is removed from the room; never without one.
    pub(crate) async fn until_removed(&self, device: Option<DeviceId>) {
        match (&self.keys, device) {
            (Some(keys), Some(device)) => keys.members.until_removed(&device).await,
            _ => std::future::pending().await,
        }
    }

    /// Refuses a job whose owner's device was removed from the room.
    pub(crate) fn check_owner(&self, device: Option<&DeviceId>) -> Result<(), Refusal> {
        let removed = self.keys.as_ref().zip(device);
        match removed.is_some_and(|(keys, device)| keys.members.is_removed(device)) {
            false => Ok(()),
            true => {
                let text = "the device that submitted this job was removed from the room";
                Err(Refusal::new(RefusalCode::NoMember, text))
            }
        }
    }

    /// Logs once whom the room's credential trusts, and what third parties on the way to the server
    /// can see.
    pub(crate) fn report(&self, signaling: &Servers) {
        if let Some(exposure) = signaling.exposure() {
            warn!("{exposure}");
        }
        let Some(keys) = &self.keys else {
            return warn!(
                "this room's token has no part that only its members know, so the room trusts whoever \
                 runs the signaling server; `--new-room` makes a room that does not"
            );
        };
        if keys.identity.certificate().is_none() {
            warn!(
                "this worker has joined with a token for clients: each client asks its user \
                 whether to trust it; join with the other worker's `worker-token` instead"
            );
        }
        if self.serves_keyless() {
            info!(
                "clients without keys are served: Python clients, which trust whoever runs \
                 the server; `python_clients = false` under [worker] refuses them"
            );
        }
    }

    /// Refuses the offer of a client that speaks like a Python client, if those are disabled.
    pub(crate) fn check_offer(&self, offer: &Description) -> Result<(), Refusal> {
        match offer.speaks_native() {
            true => Ok(()),
            false => self.check_keyless(),
        }
    }

    fn check_keyless(&self) -> Result<(), Refusal> {
        if self.serves_keyless() {
            return Ok(());
        }
        let text = "this worker serves only clients that prove who they are; use the room's whole token \
                    and a current sleap-rtc (`python_clients` under [worker] would allow others)";
        Err(Refusal::new(RefusalCode::Other, text))
    }

    /// Waits for the client's first message, verifies the client's identity if it offers a proof,
    /// and refuses it if a proof is required.
    pub(crate) async fn meet(
        &self,
        link: &mut WorkerEnd,
        offer: &Description,
    ) -> Result<Option<DeviceId>, ConnectionError> {
        let met = match (link.first_message(FIRST_FRAME).await?, &self.keys) {
            (FirstMessage::Frames, _) => {
                self.check_keyless().map(|()| None).map_err(ConnectionError::Refused)
            }
            (FirstMessage::Hello(_), None) => {
                let text = "its room has no keys: it trusts the signaling server";
                Err(Refusal::new(RefusalCode::Unauthorized, text).into())
            }
            (FirstMessage::Hello(hello), Some(keys)) => {
                let own = keys.identity.clone().knowing(keys.members.removals());
                let (meeting, admitted) = (self.meeting(offer), admitted(offer));
                let answering =
                    link.answer(own, &meeting, &hello, admitted, rand::random(), now_s());
                answering.await.map_err(ConnectionError::from).map(|client| {
                    keys.members.met(&client);
                    info!(peer = %meeting.client, device = client.device.short(), certification = ?client.certification, "the client has proven who it is");
                    Some(client.device)
                })
            }
        };
        if let Some(refusal) = met.as_ref().err().and_then(ConnectionError::refusal) {
            link.send(&WorkerFrame::Refused { refusal }).await?;
        }
        met
    }

    /// What both sides must agree on about the conversation that follows from `offer`.
    fn meeting(&self, offer: &Description) -> Meeting {
        Meeting {
            room: self.room.clone(),
            attempt: offer.attempt.unwrap_or(0),
            client: offer.sender.clone(),
            worker: offer.target.clone(),
        }
    }
}

/// Whom an offer lets in. One about a job has proven the right to that job.
fn admitted(offer: &Description) -> Admits {
    match offer.purpose {
        Some(Purpose::KnownJob { proof: Some(_), .. }) => Admits::JobHolders,
        _ => Admits::Members,
    }
}

impl From<ProvingError> for ConnectionError {
    fn from(error: ProvingError) -> Self {
        match error {
            ProvingError::Dialect(lost) => Self::Dialect(lost),
            unproven => Self::Unproven(unproven),
        }
    }
}
