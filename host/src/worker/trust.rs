//! Decides which clients this worker trusts, and proves its identity to them.

use super::error::ConnectionError;
use crate::config::WorkerConfig;
use crate::device;
use sleap_rtc_base::clock::now_s;
use sleap_rtc_net::dialect::{Meeting, Opening, ProvingError, WorkerEnd};
use sleap_rtc_protocol::frame::WorkerFrame;
use sleap_rtc_protocol::ids::RoomId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::Description;
use sleap_rtc_protocol::worker::FIRST_FRAME;
use sleap_rtc_signaling::client::Endpoints;
use sleap_rtc_trust::credential::Credential;
use sleap_rtc_trust::device::DeviceId;
use sleap_rtc_trust::handshake::{Identity, Standing};
use tracing::{info, warn};

/// What this worker knows about the peers of its room.
pub(crate) struct ClientCheck {
    room: RoomId,
    device: DeviceId,
    /// `None` in a room whose token has no secret for peers. Such a room trusts the signaling
    /// server.
    identity: Option<Identity>,
    python_clients: bool,
}

impl ClientCheck {
    /// According to `config` and the room's credential. `name` is the worker's name for itself.
    pub(crate) fn new(config: &WorkerConfig, room: &Credential, name: &str) -> Self {
        let key = device::key(&config.state_dir);
        let device = key.id();
        let identity = room.peer().map(|peer| Identity::worker(key, peer.clone(), name, now_s()));
        let python_clients = config.python_clients;
        Self { room: room.room_id.clone(), device, identity, python_clients }
    }

    /// This worker's device, if clients can verify it.
    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.identity.is_some().then_some(self.device)
    }

    /// Logs once whom the room's credential trusts, and what third parties on the way to the server
    /// can see.
    pub(crate) fn report(&self, signaling: &Endpoints) {
        if let Some(exposure) = signaling.exposure() {
            warn!("{exposure}");
        }
        match &self.identity {
            None => warn!(
                "this room's token has no part that only its members know, so the room trusts whoever \
                 runs the signaling server; `--new-room` makes a room that does not"
            ),
            Some(identity) => {
                if !identity.is_certified() {
                    warn!(
                        "this worker has joined with a token for clients: each client asks its user \
                         whether to trust it; join with the other worker's `worker-token` instead"
                    );
                }
                if self.python_clients {
                    info!(
                        "clients without keys are served: Python clients, which trust whoever runs the \
                         signaling server; `python_clients = false` under [worker] refuses them"
                    );
                }
            }
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
        if self.identity.is_none() || self.python_clients {
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
        meeting: &Meeting,
    ) -> Result<(), ConnectionError> {
        let met = match (link.opening(FIRST_FRAME).await?, &self.identity) {
            (Opening::Frames, _) => self.check_keyless().map_err(ConnectionError::Refused),
            (Opening::Hello(_), None) => {
                let text = "its room has no keys: it trusts the signaling server";
                Err(Refusal::new(RefusalCode::Unauthorized, text).into())
            }
            (Opening::Hello(hello), Some(identity)) => {
                let own = identity.clone();
                let answer = link.answer(own, meeting, &hello, rand::random(), now_s()).await;
                answer.map_err(ConnectionError::from).map(|client| {
                    let certified = client.standing == Standing::Certified;
                    info!(peer = %meeting.client, device = client.device.short(), certified, "the client has proven who it is");
                })
            }
        };
        if let Some(refusal) = met.as_ref().err().and_then(ConnectionError::refusal) {
            link.send(&WorkerFrame::Refused { refusal }).await?;
        }
        met
    }

    /// The context of the proof: what both sides must agree on about the conversation after
    /// `offer`.
    pub(crate) fn meeting(&self, offer: &Description) -> Meeting {
        Meeting {
            room: self.room.clone(),
            attempt: offer.attempt.unwrap_or(0),
            client: offer.sender.clone(),
            worker: offer.target.clone(),
        }
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
