//! What the coordinator says to peers through the signaling server.

use crate::worker::WorkerContext;
use crate::worker::answering::response;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, ErrorFrame, NOT_YOUR_JOB, PeerMessage, WORKER_BUSY, of_attempt,
};
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_signaling::client::SignalingClient;
use std::sync::Arc;
use tracing::{info, warn};

/// Answers peers. Cheap to clone, for tasks beside the coordinator's main loop.
#[derive(Clone)]
pub(crate) struct Replies {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) signaling: SignalingClient,
    pub(crate) own_id: PeerId,
}

impl Replies {
    pub(crate) async fn send(&self, message: ClientMessage) {
        if let Err(error) = self.signaling.send(message).await {
            warn!(%error, "cannot send a message");
        }
    }

    pub(crate) async fn send_app(&self, peer: &PeerId, payload: AppMessage) {
        let message = PeerMessage::new(self.own_id.clone(), peer.clone(), payload);
        self.send(ClientMessage::PeerMessage(message)).await;
    }

    /// Answers a job request with a refusal.
    pub(crate) async fn refuse_request(
        &self,
        peer: &PeerId,
        status: WorkerStatus,
        job_id: String,
        refusal: Refusal,
    ) {
        let response = response(&self.context, status, job_id, Err(refusal), None);
        self.send_app(peer, AppMessage::JobResponse(response)).await;
    }

    /// Answers an offer with a refusal, in two forms: as an `error` frame, which the Python server drops,
    /// and as a peer message, which every server forwards. Python clients ignore both; only `quit` ends
    /// them.
    pub(crate) async fn refuse_offer(
        &self,
        peer: &PeerId,
        status: WorkerStatus,
        attempt: Option<u64>,
        refusal: Refusal,
    ) {
        info!(%peer, code = ?refusal.code, reason = %refusal.message, "refused an offer");
        let code = match refusal.code {
            RefusalCode::Busy | RefusalCode::Maintenance => "WORKER_BUSY",
            RefusalCode::Unauthorized => NOT_YOUR_JOB,
            _ => "REFUSED",
        };
        let busy = code == "WORKER_BUSY";
        let error = ErrorFrame {
            sender: Some(self.own_id.clone()),
            target: Some(peer.clone()),
            code: Some(code.into()),
            reason: Some(if busy { WORKER_BUSY } else { "refused" }.into()),
            message: Some(refusal.message.clone()),
            current_status: Some(status.as_str().to_owned()),
            attempt,
        };
        self.send(ClientMessage::Error(error)).await;
        let job_id = attempt.map(of_attempt).unwrap_or_default();
        self.refuse_request(peer, status, job_id, refusal).await;
    }
}
