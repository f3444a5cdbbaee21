//! What two peers negotiate through the server before they connect: jobs, reservations and videos.

use crate::ids::{AddressTag, PeerId};
use crate::job::{JobDescription, JobType, Reason, Requirements};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A message of the application, carried by the server from peer to peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// The sending peer.
    pub from_peer_id: PeerId,
    /// The receiving peer.
    pub to_peer_id: PeerId,
    /// The message.
    pub payload: AppMessage,
    /// From which address the sender speaks. The server adds it to what a worker is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_address: Option<AddressTag>,
}

impl PeerMessage {
    /// A message to be sent.
    pub fn new(from_peer_id: PeerId, to_peer_id: PeerId, payload: AppMessage) -> Self {
        Self { from_peer_id, to_peer_id, payload, sender_address: None }
    }
}

/// A message of the negotiation between two peers before they connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "app_message_type", rename_all = "snake_case")]
pub enum AppMessage {
    /// Client: asks whether the worker would accept a job.
    JobRequest(JobRequest),
    /// Worker: answers a job request.
    JobResponse(JobResponse),
    /// Client: assigns the job. The client's offer follows.
    JobAssignment {
        /// The requested job.
        job_id: String,
        /// Whether the worker should start the connection (no worker ever did).
        #[serde(default)]
        initiate_connection: bool,
    },
    /// Client: cancels the request or the job.
    JobCancel {
        /// The job.
        job_id: String,
        /// For the log.
        #[serde(default)]
        reason: String,
    },
    /// Worker: confirms a cancellation.
    JobCancelled {
        /// The job.
        job_id: String,
        /// Always `cancelled`.
        status: String,
        /// Whether the worker has removed everything of the job.
        cleanup_complete: bool,
    },
    /// Worker: reports the progress.
    JobStatus {
        /// The job.
        job_id: String,
        /// `starting` or `running`.
        status: String,
        /// 0 to 1.
        #[serde(default)]
        progress: f64,
        /// For people.
        #[serde(default)]
        message: String,
    },
    /// Worker: the job has succeeded.
    JobComplete {
        /// The job.
        job_id: String,
        /// Always `completed`.
        status: String,
    },
    /// Worker: the job has failed.
    JobFailed {
        /// The job.
        job_id: String,
        /// Always `failed`.
        status: String,
        /// `{code, message, recoverable}`.
        #[serde(default)]
        error: Value,
    },
    /// Client: asks which of these videos the worker sees on its mounts.
    VideoRequest {
        /// At most [`MAX_VIDEOS`].
        videos: Vec<VideoQuery>,
    },
    /// Worker: answers a video request.
    VideoResponse {
        /// For each video, its path on the worker, if the worker has it.
        videos: Vec<Option<String>>,
    },
    /// Worker: tells another worker of its room who the members are, sealed for the room's workers.
    WorkerNote {
        /// Base64.
        sealed: String,
    },
    /// A message that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The most videos that one request may ask about.
pub const MAX_VIDEOS: usize = 1_000;
/// The most names that one video may have.
pub const MAX_VIDEO_NAMES: usize = 8;

/// A video that a worker may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoQuery {
    /// Its possible names there: absolute paths, or `LABEL:rest` below a mount. The first one that
    /// exists counts.
    pub names: Vec<String>,
    /// Its length in bytes, if the client has the video too. A file of another length does not
    /// match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// The facts of a job that decide which worker accepts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The identifier that the client chose.
    pub job_id: String,
    /// `training` or `inference`.
    pub job_type: JobType,
    /// What a Python worker reads: `{format, path, estimated_size_mb, frame_count?}`.
    #[serde(default)]
    pub dataset_info: Value,
    /// What a Python worker reads: `{model_type?, epochs?}`.
    #[serde(default)]
    pub config: Value,
    /// The user's requirements.
    #[serde(default)]
    pub requirements: Requirements,
    /// All facts. Only native clients send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<JobDescription>,
}

/// A worker's answer to a job request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResponse {
    /// The requested job.
    pub job_id: String,
    /// Whether a slot is reserved for it now.
    pub accepted: bool,
    /// `busy` or `incompatible` if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refusal in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Each reason of an incompatible worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The worker's current status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_status: Option<String>,
    /// Seconds until the job could start.
    #[serde(default)]
    pub estimated_start_time_sec: f64,
    /// The estimated duration of the job in minutes. Absent if the worker has no estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_minutes: Option<f64>,
    /// `{gpu_utilization, available_memory_mb}`, without values that were not measured.
    #[serde(default)]
    pub worker_info: Value,
}

impl JobResponse {
    /// Whether this answers the request about `job`. A worker that cannot read a request refuses it
    /// without its id.
    pub fn answers(&self, job: &str) -> bool {
        self.job_id == job || (!self.accepted && !self.job_id.starts_with(OF_ATTEMPT))
    }

    /// Whether this refuses offer number `attempt`. Older workers do not name the offer that they
    /// refuse.
    pub fn refuses_offer(&self, attempt: u64) -> bool {
        let is_of_another = self.job_id.starts_with(OF_ATTEMPT);
        !self.accepted && (!is_of_another || self.job_id == of_attempt(attempt))
    }

    /// A refusal, in the worker's own words where it has some.
    pub fn into_text(self) -> String {
        let reason = self.reason.unwrap_or_else(|| "no reason given".into());
        self.message.unwrap_or_else(|| format!("the worker refused: {reason}"))
    }
}

const OF_ATTEMPT: &str = "offer ";

/// The text that replaces the job's id when a worker refuses an offer, so that a late refusal is
/// not mistaken for the answer to the next offer.
pub fn of_attempt(attempt: u64) -> String {
    format!("{OF_ATTEMPT}{attempt}")
}
