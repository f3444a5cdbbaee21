//! Questions of peers that arrive through the signaling server: whether the worker takes a job, and to
//! cancel one.

use super::Coordinator;
use super::queueing::WithdrawnBy;
use super::replies::Replies;
use super::reservations::Ending;
use crate::blocking::blocking;
use crate::worker::answering::Answering;
use crate::worker::error::ConnectionError;
use crate::worker::members::Note;
use crate::worker::mounted;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::ids::{JobId, PeerId};
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, JobRequest, PeerMessage, Question, Unreadable, VideoQuery,
};
use sleap_rtc_protocol::standing::Caller;
use std::path::PathBuf;
use std::time::Instant;
use tracing::{info, warn};

impl Coordinator {
    pub(crate) async fn on_peer_message(&mut self, message: PeerMessage) {
        let PeerMessage { from_peer_id: peer, sender_address: address, payload, .. } = message;
        let caller = Caller { peer: peer.clone(), address };
        if !self.is_within_rate(&caller) {
            return;
        }
        match payload {
            AppMessage::JobRequest(request) => self.on_job_request(caller, request).await,
            AppMessage::JobAssignment { job_id, .. } => {
                info!(%peer, job = job_id.escape_debug().to_string(), "job assigned");
            }
            AppMessage::JobCancel { job_id, .. } => self.on_job_cancel(peer, job_id).await,
            AppMessage::VideoRequest { videos } => self.on_video_request(&caller, videos),
            AppMessage::WorkerNote { sealed } => {
                if let Some(exchange) = &self.context.exchange {
                    exchange.deliver(Note { from: peer, sealed });
                }
            }
            _ => {}
        }
    }

    /// Evaluates the policies outside the main loop, then reserves a slot and answers.
    async fn on_job_request(&mut self, caller: Caller, request: JobRequest) {
        let now = Instant::now();
        self.expire(now);
        let permit = self.may_reserve(&caller, false, now).and_then(|()| {
            let busy = || Refusal::new(RefusalCode::Busy, "too many job requests at once");
            self.asking.take(&caller, None).ok_or_else(busy)
        });
        let permit = match permit {
            Ok(permit) => permit,
            Err(refusal) => {
                info!(peer = %caller.peer, reason = %refusal.message, "refused a job request");
                return self.refuse_request(&caller.peer, request.job_id, refusal).await;
            }
        };
        let answering = Answering {
            context: self.context.clone(),
            coordinator: self.handle.clone(),
            signaling: self.signaling.clone(),
            own_id: self.own_id.clone(),
            status: self.state.status(),
        };
        self.tasks.spawn(async move {
            answering.answer(caller, request).await;
            drop(permit);
        });
    }

    async fn refuse_request(&self, peer: &PeerId, job_id: String, refusal: Refusal) {
        self.replies.refuse_request(peer, self.state.status(), job_id, refusal).await;
    }

    /// Looks for videos outside the main loop. A client that hears nothing sends its videos.
    fn on_video_request(&mut self, caller: &Caller, videos: Vec<VideoQuery>) {
        let Some(permit) = self.asking.take(caller, None) else { return };
        let mounts = self.context.runner.settings.mounts.clone();
        let (replies, peer) = (self.replies.clone(), caller.peer.clone());
        self.tasks.spawn(async move {
            let videos = mounted::find(mounts, videos).await;
            replies.send_app(&peer, AppMessage::VideoResponse { videos }).await;
            drop(permit);
        });
    }

    /// Refuses a malformed question, so that the peer does not wait for an answer in vain.
    pub(crate) async fn on_unreadable(&mut self, asked: Unreadable) {
        let Unreadable { sender: peer, question, why } = asked;
        if !self.is_within_rate(&Caller { peer: peer.clone(), address: None }) {
            return;
        }
        match question {
            Question::Offer { attempt } => {
                let text = format!("malformed offer: {why}");
                let refusal = Refusal::new(RefusalCode::Invalid, text);
                self.replies.refuse_offer(&peer, self.state.status(), attempt, refusal).await;
            }
            Question::JobRequest { job_id } => {
                info!(%peer, why, "refusing a malformed job request");
                let text = format!("malformed job request: {why}");
                let refusal = Refusal::new(RefusalCode::Invalid, text);
                self.refuse_request(&peer, job_id, refusal).await;
            }
        }
    }

    /// Cancels a job or a reservation. Only the peer that owns it may do this.
    async fn on_job_cancel(&mut self, peer: PeerId, job_id: String) {
        let job = if self.release(&peer) || self.withdraw_for(&peer, &job_id) {
            None
        } else if let Some(job) = self.running_job(&peer, &job_id) {
            Some(job)
        } else {
            return self.answer_not_found(&peer, job_id).await;
        };
        let cancelling = Cancelling {
            state_dir: self.context.state_dir.clone(),
            replies: self.replies.clone(),
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
        self.replies.send_app(peer, payload).await;
    }

    /// Releases the reservation of `peer`, and ends the connection over which its package arrives. Returns
    /// whether there was one.
    fn release(&mut self, peer: &PeerId) -> bool {
        if !self.reservations.holds(peer) {
            return false;
        }
        self.end_reservation(peer, Ending::Released);
        info!(%peer, "reservation released");
        true
    }

    /// Withdraws the waiting job of `peer`. Returns whether there was one.
    fn withdraw_for(&mut self, peer: &PeerId, job_id: &str) -> bool {
        let Ok(job) = JobId::new(job_id) else { return false };
        let is_own = self.waiting.get(&job).is_some_and(|w| w.folder.owner() == peer);
        is_own && self.withdraw(&job, WithdrawnBy::Owner)
    }

    /// The running job that `peer` names.
    fn running_job(&self, peer: &PeerId, job_id: &str) -> Option<JobId> {
        let unnamed = self.new_jobs.get(peer).filter(|connection| !connection.names_its_job);
        let job = match unnamed.and_then(|connection| connection.job.clone()) {
            Some(job) => job,
            None => JobId::new(job_id).ok()?,
        };
        self.running.get(&job).filter(|running| running.published.owner == *peer)?;
        Some(job)
    }
}

/// A cancellation by the job's owner.
struct Cancelling {
    state_dir: PathBuf,
    replies: Replies,
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
        self.replies.send_app(&self.peer, payload).await;
    }

    async fn cancel_job(&self, job: JobId) -> Result<(), ConnectionError> {
        let state_dir = self.state_dir.clone();
        let folder = blocking(move || JobFolder::open(&state_dir, &job)).await??;
        Ok(JobHandle::cancel(&folder).await?)
    }
}
