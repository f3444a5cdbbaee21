//! Questions to workers before there is a connection: whether they take a job, and which videos are
//! on their mounts.

use super::{Room, is_reserved};
use crate::client::ClientError;
use serde_json::json;
use sleap_rtc_protocol::asking::ANSWER_WITHIN;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobSpec, JobType};
use sleap_rtc_protocol::signaling::{
    AppMessage, JobRequest, JobResponse, ServerMessage, VideoQuery,
};
use tracing::debug;

/// A worker's answer to a job request.
pub(crate) enum RequestReply {
    /// It has reserved a slot.
    Yes(JobResponse),
    /// It refuses.
    No {
        /// The reason, in words.
        why: String,
        /// Whether asking later may help.
        obstacle: Obstacle,
    },
}

/// What is in the way of a job at a worker that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Its slots are only reserved: one may be free in a moment.
    Reserved,
    /// It takes no jobs now.
    Busy,
    /// The job does not suit it, with or without a free slot.
    Unsuitable,
}

impl Room {
    /// Asks `worker` whether it would take the job. [`Self::reply`] returns the answer.
    pub(crate) async fn request(
        &mut self,
        worker: &PeerId,
        spec: &JobSpec,
    ) -> Result<(), ClientError> {
        self.released.remove(worker);
        self.reserved.insert(worker.clone(), spec.id.to_string());
        self.send_app(worker, AppMessage::JobRequest(request(spec))).await
    }

    /// The next answer of a worker that was asked about the job. Cancel safe.
    pub(crate) async fn reply(
        &mut self,
        spec: &JobSpec,
    ) -> Result<(PeerId, RequestReply), ClientError> {
        loop {
            match self.next().await? {
                ServerMessage::PeerMessage(message)
                    if self.reserved.contains_key(&message.from_peer_id) =>
                {
                    if let AppMessage::JobResponse(response) = message.payload
                        && response.answers(spec.id.as_str())
                    {
                        if !response.accepted {
                            self.reserved.remove(&message.from_peer_id);
                        }
                        return Ok((message.from_peer_id, answered(response)));
                    }
                }
                ServerMessage::Error(error) => debug!(error = error.text(), "while asking"),
                _ => {}
            }
        }
    }

    /// Asks `worker` which of these videos it sees. Returns nothing if it does not answer.
    pub(crate) async fn ask_for_videos(
        &mut self,
        worker: &PeerId,
        videos: Vec<VideoQuery>,
    ) -> Option<Vec<Option<String>>> {
        self.send_app(worker, AppMessage::VideoRequest { videos }).await.ok()?;
        let answer = async {
            loop {
                if let ServerMessage::PeerMessage(message) = self.next().await.ok()?
                    && message.from_peer_id == *worker
                    && let AppMessage::VideoResponse { videos } = message.payload
                {
                    return Some(videos);
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.ok()?
    }

    /// Releases an unused reservation that `worker` may have made, so that other clients can use
    /// the slot.
    pub(crate) async fn release(&mut self, worker: &PeerId) {
        let Some(job_id) = self.reserved.remove(worker) else { return };
        self.released.insert(worker.clone(), job_id.clone());
        self.give_back(worker, job_id).await;
    }

    pub(crate) async fn release_all(&mut self) {
        for worker in self.reserved.keys().cloned().collect::<Vec<_>>() {
            self.release(&worker).await;
        }
    }

    async fn give_back(&self, worker: &PeerId, job_id: String) {
        let reason = "the client no longer needs the slot".to_owned();
        let cancel = AppMessage::JobCancel { job_id, reason };
        if let Err(error) = self.send_app(worker, cancel).await {
            debug!(%error, "cannot release the reservation");
        }
    }

    /// A worker that had not decided yet may reserve a slot after it was asked to release it.
    pub(crate) async fn release_late(&mut self, message: &ServerMessage) {
        if let ServerMessage::PeerMessage(message) = message
            && let AppMessage::JobResponse(JobResponse { accepted: true, .. }) = message.payload
            && let Some(job_id) = self.released.remove(&message.from_peer_id)
        {
            self.give_back(&message.from_peer_id, job_id).await;
        }
    }

    /// Assigns the job to the chosen worker; the offer follows.
    pub(crate) async fn assign(&self, worker: &PeerId, spec: &JobSpec) -> Result<(), ClientError> {
        let job_id = spec.id.to_string();
        let payload = AppMessage::JobAssignment { job_id, initiate_connection: false };
        self.send_app(worker, payload).await
    }
}

fn answered(response: JobResponse) -> RequestReply {
    if response.accepted {
        return RequestReply::Yes(response);
    }
    let obstacle = match response.reason.as_deref() {
        Some("incompatible") => Obstacle::Unsuitable,
        _ if is_reserved(response.current_status.as_deref()) => Obstacle::Reserved,
        _ => Obstacle::Busy,
    };
    RequestReply::No { why: response.into_text(), obstacle }
}

fn request(spec: &JobSpec) -> JobRequest {
    let job = &spec.description;
    let (format, model_type) = match job.job_type {
        JobType::Training => ("pkg.slp", job.model_types.first()),
        JobType::Inference => ("slp", job.model_types.first()),
    };
    JobRequest {
        job_id: spec.id.to_string(),
        job_type: job.job_type,
        dataset_info: json!({
            "format": format,
            "path": spec.name,
            "estimated_size_mb": job.package_bytes.unwrap_or(0) as f64 / 1e6,
            "frame_count": job.frame_count,
        }),
        config: json!({ "model_type": model_type, "epochs": job.epochs }),
        requirements: job.requirements.clone(),
        description: Some(job.clone()),
    }
}
