//! Questions of peers that arrive through the signaling server: whether the worker takes a job, and to
//! cancel one.

use super::Coordinator;
use crate::blocking::blocking;
use crate::worker::answering::Answering;
use crate::worker::error::ConnectionError;
use crate::worker::mounted;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobCommand, JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, JobRequest, PeerMessage, Question, Unreadable, VideoQuery,
};
use sleap_rtc_protocol::worker::{RESERVATION, Slot, WorkerEvent, WorkerStatus};
use sleap_rtc_signaling::client::SignalingClient;
use std::path::PathBuf;
use tracing::{info, warn};

impl Coordinator {
    pub(crate) async fn on_peer_message(&mut self, message: PeerMessage) {
        let peer = message.from_peer_id;
        match message.payload {
            AppMessage::JobRequest(request) => self.on_job_request(peer, request).await,
            AppMessage::JobAssignment { job_id, .. } => {
                info!(%peer, job = job_id.escape_debug().to_string(), "job assigned");
            }
            AppMessage::JobCancel { job_id, .. } => self.on_job_cancel(peer, job_id).await,
            AppMessage::VideoRequest { videos } => self.on_video_request(peer, videos),
            _ => {}
        }
    }

    /// Evaluates the policies outside the main loop, then reserves a slot and answers.
    async fn on_job_request(&mut self, peer: PeerId, request: JobRequest) {
        if self.state.status() != WorkerStatus::Available {
            // A slot may be reserved for this peer already.
            let kept = self.reserve(peer.clone(), RESERVATION);
            if let Err(refusal) = kept {
                info!(%peer, reason = %refusal.message, "refused a job request");
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

    /// Looks for videos outside the main loop. A client that hears nothing sends its videos.
    fn on_video_request(&mut self, peer: PeerId, videos: Vec<VideoQuery>) {
        let Ok(permit) = self.asking.clone().try_acquire_owned() else { return };
        let (mounts, signaling) =
            (self.context.runner.settings.mounts.clone(), self.signaling.clone());
        let from_peer_id = self.own_id.clone();
        self.tasks.spawn(async move {
            let videos = mounted::find(mounts, videos).await;
            let payload = AppMessage::VideoResponse { videos };
            let message = PeerMessage { from_peer_id, to_peer_id: peer, payload };
            if let Err(error) = signaling.send(ClientMessage::PeerMessage(message)).await {
                warn!(%error, "an answer could not be sent");
            }
            drop(permit);
        });
    }

    /// Refuses a malformed question, so that the peer does not wait for an answer in vain.
    pub(crate) async fn on_unreadable(&mut self, asked: Unreadable) {
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

    /// Cancels a job or a reservation. Only the peer that owns it may do this.
    async fn on_job_cancel(&mut self, peer: PeerId, job_id: String) {
        let job = if self.release(&peer) {
            None
        } else if let Some(job) = self.running_job(&peer, &job_id) {
            Some(job)
        } else {
            return self.answer_not_found(&peer, job_id).await;
        };
        let cancelling = Cancelling {
            state_dir: self.context.state_dir.clone(),
            signaling: self.signaling.clone(),
            own_id: self.own_id.clone(),
            peer,
            job_id,
        };
        // In a task of its own: a job process that does not answer must not delay admission.
        self.tasks.spawn(cancelling.cancel(job));
    }

    async fn answer_not_found(&self, peer: &PeerId, job_id: String) {
        info!(%peer, "did not cancel a job that is not this peer's");
        let status = "not_found".to_owned();
        let payload = AppMessage::JobCancelled { job_id, status, cleanup_complete: true };
        self.send_app(peer, payload).await;
    }

    /// Releases the reservation of `peer`, and ends the connection over which its package arrives. Returns
    /// whether there was one.
    fn release(&mut self, peer: &PeerId) -> bool {
        let reserved = |slot: &Slot| matches!(slot, Slot::Reserved { peer: p, .. } if p == peer);
        if !self.state.slots().iter().any(reserved) {
            return false;
        }
        if let Some(connection) = self.new_jobs.get(peer).filter(|c| c.job.is_none()) {
            connection.cancel.cancel();
        }
        let _ = self.apply(WorkerEvent::PeerGone { peer: peer.clone() });
        info!(%peer, "reservation released");
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

/// A cancellation by the job's owner.
struct Cancelling {
    state_dir: PathBuf,
    signaling: SignalingClient,
    own_id: PeerId,
    peer: PeerId,
    job_id: String,
}

impl Cancelling {
    /// Cancels the job, if there is one, and answers. A reservation is released already.
    async fn cancel(self, job: Option<JobId>) {
        if let Some(job) = &job {
            info!(peer = %self.peer, %job, "cancelled by its owner");
            if let Err(error) = self.cancel_job(job.clone()).await {
                warn!(%job, error = %WithCauses(&error), "cannot cancel the job");
            }
        }
        let payload = AppMessage::JobCancelled {
            job_id: self.job_id,
            status: "cancelled".to_owned(),
            // The trainer takes some time to end; the job's last event reports that.
            cleanup_complete: job.is_none(),
        };
        let message = PeerMessage { from_peer_id: self.own_id, to_peer_id: self.peer, payload };
        if let Err(error) = self.signaling.send(ClientMessage::PeerMessage(message)).await {
            warn!(%error, "cannot send an answer");
        }
    }

    async fn cancel_job(&self, job: JobId) -> Result<(), ConnectionError> {
        let state_dir = self.state_dir.clone();
        let folder = blocking(move || JobFolder::open(&state_dir, &job)).await??;
        Ok(JobHandle::attach(&folder).await?.command(JobCommand::Cancel).await?)
    }
}
