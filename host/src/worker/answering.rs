//! Answers job requests: whether this worker takes the job, and how long it would take.

use super::coordinator::CoordinatorHandle;
use super::{WorkerContext, admission};
use serde_json::json;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::{JobDescription, Refusal, RefusalCode};
use sleap_rtc_protocol::signaling::{
    AppMessage, ClientMessage, JobRequest, JobResponse, PeerMessage,
};
use sleap_rtc_protocol::standing::Caller;
use sleap_rtc_protocol::worker::WorkerStatus;
use sleap_rtc_protocol::workload::Estimate;
use sleap_rtc_signaling::client::SignalingClient;
use std::sync::Arc;
use tracing::{debug, info, warn};

/// A job request that is being answered.
pub(crate) struct Answering {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) coordinator: CoordinatorHandle,
    pub(crate) signaling: SignalingClient,
    pub(crate) own_id: PeerId,
    /// The worker's status when the request came.
    pub(crate) status: WorkerStatus,
}

impl Answering {
    /// Evaluates the policies, reserves a slot, and answers.
    pub(crate) async fn answer(self, caller: Caller, request: JobRequest) {
        let (job, peer) = (description(&request), caller.peer.clone());
        let verdict = match admission::check(&self.context, &peer, &job).await {
            Ok(()) => self.coordinator.reserve(&caller, job.user.as_deref()).await,
            Err(refusal) => Err(refusal),
        };
        let estimate = match &verdict {
            Ok(()) => admission::outlook(&self.context, &peer, &job).await.estimate,
            Err(_) => None,
        };
        // A policy may have failed, and the room shows the number of failures.
        self.coordinator.facts_changed().await;
        match &verdict {
            // Whoever asks again has the slot already, and the log says so.
            Ok(()) => debug!(%peer, "accepted a job request"),
            Err(refusal) => info!(%peer, reason = %refusal.message, "refused a job request"),
        }
        let response = response(&self.context, self.status, request.job_id, verdict, estimate);
        let payload = AppMessage::JobResponse(response);
        let message = PeerMessage::new(self.own_id, peer, payload);
        if let Err(error) = self.signaling.send(ClientMessage::PeerMessage(message)).await {
            warn!(%error, "cannot send an answer");
        }
    }
}

/// The description of the requested job. A request from a Python client has it in fields of its own.
fn description(request: &JobRequest) -> JobDescription {
    if let Some(description) = &request.description {
        return description.clone();
    }
    let number = |value: &serde_json::Value, key: &str| value.get(key).and_then(|v| v.as_f64());
    let mut job = JobDescription::unknown(request.job_type);
    let model = request.config.get("model_type").and_then(|v| v.as_str());
    job.model_types = model.map(str::to_owned).into_iter().collect();
    job.epochs = number(&request.config, "epochs").map(|epochs| epochs as u32);
    job.frame_count = number(&request.dataset_info, "frame_count").map(|frames| frames as u64);
    job.package_bytes = number(&request.dataset_info, "estimated_size_mb")
        .map(|megabytes| (megabytes * 1e6) as u64);
    job.requirements = request.requirements.clone();
    job
}

/// The response to a job request.
pub(crate) fn response(
    context: &WorkerContext,
    status: WorkerStatus,
    job_id: String,
    verdict: Result<(), Refusal>,
    estimate: Option<Estimate>,
) -> JobResponse {
    let facts = context.facts();
    let gpu = facts.accelerators.largest();
    let mut worker_info = serde_json::Map::new();
    if let Some(utilization) = gpu.and_then(|gpu| gpu.utilization) {
        worker_info.insert("gpu_utilization".into(), json!(utilization));
    }
    if let Some(free_mib) = gpu.and_then(|gpu| gpu.memory_free_mib) {
        worker_info.insert("available_memory_mb".into(), json!(free_mib));
    }
    let refusal = verdict.err();
    // Older programs know two reasons: `incompatible`, which is permanent, and `busy`.
    let word = |code| match code {
        RefusalCode::Incompatible | RefusalCode::Invalid => "incompatible",
        _ => "busy",
    };
    JobResponse {
        job_id,
        accepted: refusal.is_none(),
        reason: refusal.as_ref().map(|refusal| word(refusal.code).to_owned()),
        message: refusal.as_ref().map(|refusal| refusal.message.clone()),
        reasons: refusal.map(|refusal| refusal.reasons).unwrap_or_default(),
        current_status: Some(status.as_str().to_owned()),
        estimated_start_time_sec: 0.0,
        estimated_duration_minutes: estimate.map(|estimate| estimate.minutes),
        worker_info: worker_info.into(),
    }
}
