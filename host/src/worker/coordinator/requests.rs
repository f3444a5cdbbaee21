//! What peers ask by way of the signaling server: whether a job would be taken, and to cancel one.

use super::Coordinator;
use crate::blocking::blocking;
use crate::worker::answering::Answering;
use crate::worker::error::ConnectionError;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobCommand, JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, JobRequest, PeerMessage, Question, Unreadable,
};
use sleap_rtc_protocol::worker::{RESERVATION, Slot, WorkerEvent, WorkerStatus};
use sleap_rtc_signaling::client::SignalingClient;
use std::path::PathBuf;
use tracing::{info, warn};

impl Coordinator {
    pub(super) async fn on_peer_message(&mut self, message: PeerMessage) {
        let peer = message.from_peer_id;
        match message.payload {
            AppMessage::JobRequest(request) => self.on_job_request(peer, request).await,
            AppMessage::JobAssignment { job_id, .. } => {
                info!(%peer, job = job_id.escape_debug().to_string(), "job assigned");
            }
            AppMessage::JobCancel { job_id, .. } => self.on_job_cancel(peer, job_id).await,
            _ => {}
        }
    }

    /// Asks the policies beside the main loop, then reserves and answers.
    async fn on_job_request(&mut self, peer: PeerId, request: JobRequest) {
        if self.state.status() != WorkerStatus::Available {
            // The peer's own reservation still counts.
            let kept = self.reserve(peer.clone(), RESERVATION);
            if let Err(refusal) = kept {
                info!(%peer, reason = %refusal.message, "job request refused");
                return self
                    .respond(&peer, self.response(request.job_id, Err(refusal), None))
                    .await;
            }
        }
        let Ok(permit) = self.asking.clone().try_acquire_owned() else {
            let refusal = Refusal::new(RefusalCode::Busy, "too many job requests at once");
            return self.respond(&peer, self.response(request.job_id, Err(refusal), None)).await;
        };
        let answering = Answering {
            context: self.context.clone(),
            coordinator: self.handle.clone(),
            signaling: self.signaling.clone(),
            own_id: self.own_id.clone(),
            status: self.state.status(),
        };
        self.tasks.spawn(async move {
            answering.answer(peer, request).await;
            drop(permit);
        });
    }

    /// Whoever asks something that makes no sense hears so, instead of waiting for nothing.
    pub(super) async fn on_unreadable(&mut self, asked: Unreadable) {
        let Unreadable { sender: peer, question, why } = asked;
        match question {
            Question::Offer { attempt } => {
                let text = format!("malformed offer: {why}");
                self.refuse(&peer, attempt, Refusal::new(RefusalCode::Invalid, text)).await;
            }
            Question::JobRequest { job_id } => {
                info!(%peer, why, "refusing a malformed job request");
                let text = format!("malformed job request: {why}");
                let refusal = Refusal::new(RefusalCode::Invalid, text);
                self.respond(&peer, self.response(job_id, Err(refusal), None)).await;
            }
        }
    }

    /// Only the peer that a job or a reservation belongs to may cancel it here.
    async fn on_job_cancel(&mut self, peer: PeerId, job_id: String) {
        let job = if self.release(&peer) {
            None
        } else if let Some(job) = self.running_job(&peer, &job_id) {
            Some(job)
        } else {
            return self.say_not_found(&peer, job_id).await;
        };
        let cancelling = Cancelling {
            state_dir: self.context.state_dir.clone(),
            signaling: self.signaling.clone(),
            own_id: self.own_id.clone(),
            peer,
            job_id,
        };
        // A job's process that does not answer must not keep others from their slots.
        self.tasks.spawn(cancelling.cancel(job));
    }

    async fn say_not_found(&self, peer: &PeerId, job_id: String) {
        info!(%peer, "a job that is not this peer's was not cancelled");
        let status = "not_found".to_owned();
        let payload = AppMessage::JobCancelled { job_id, status, cleanup_complete: true };
        self.send_app(peer, payload).await;
    }

    /// Ends what `peer` has here short of a running job: its reservation, and the connection on
    /// which its package arrives.
    fn release(&mut self, peer: &PeerId) -> bool {
        let reserved = |slot: &Slot| matches!(slot, Slot::Reserved { peer: p, .. } if p == peer);
        if !self.state.slots().iter().any(reserved) {
            return false;
        }
        if let Some(connection) = self.new_jobs.get(peer).filter(|c| c.job.is_none()) {
            connection.cancel.cancel();
        }
        let _ = self.apply(WorkerEvent::PeerGone { peer: peer.clone() });
        info!(%peer, "reservation given back");
        true
    }

    /// The running job that `peer` names.
    fn running_job(&self, peer: &PeerId, job_id: &str) -> Option<JobId> {
        let unnamed = self.new_jobs.get(peer).filter(|connection| !connection.names_its_job);
        let job = match unnamed.and_then(|connection| connection.job.clone()) {
            Some(job) => job,
            None => JobId::new(job_id).ok()?,
        };
        self.running.get(&job).filter(|running| running.seen.owner == *peer)?;
        Some(job)
    }
}

/// A job that its owner wants ended.
struct Cancelling {
    state_dir: PathBuf,
    signaling: SignalingClient,
    own_id: PeerId,
    peer: PeerId,
    job_id: String,
}

impl Cancelling {
    /// Ends the job, where there is one, and answers. A reservation has ended already.
    async fn cancel(self, job: Option<JobId>) {
        if let Some(job) = &job {
            info!(peer = %self.peer, %job, "cancelled by its owner");
            if let Err(error) = self.tell(job.clone()).await {
                warn!(%job, error = %WithCauses(&error), "the job could not be told to end");
            }
        }
        let payload = AppMessage::JobCancelled {
            job_id: self.job_id,
            status: "cancelled".to_owned(),
            // The trainer takes a moment; the job's last event says when it is over.
            cleanup_complete: job.is_none(),
        };
        let message = PeerMessage { from_peer_id: self.own_id, to_peer_id: self.peer, payload };
        if let Err(error) = self.signaling.send(ClientMessage::PeerMessage(message)).await {
            warn!(%error, "an answer could not be sent");
        }
    }

    async fn tell(&self, job: JobId) -> Result<(), ConnectionError> {
        let state_dir = self.state_dir.clone();
        let folder = blocking(move || JobFolder::open(&state_dir, &job)).await??;
        Ok(JobHandle::attach(&folder).await?.command(JobCommand::Cancel).await?)
    }
}
