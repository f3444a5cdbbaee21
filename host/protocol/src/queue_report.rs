//! What the room and the clients of waiting jobs see of a worker's running and waiting jobs.

use crate::ids::JobId;
use crate::job::{JobType, Reason};
use crate::progress::JobProgress;
use serde::{Deserialize, Serialize};

pub mod words;

/// The most jobs that are told at once.
pub const MAX_LISTED_JOBS: usize = 16;

/// The code of the reason of a job that waits in a cluster's queue. Its message is in the cluster's words.
pub const CLUSTER: &str = "cluster";

/// A job at a worker, as others may see it. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its place among those that wait, 1 for the next one. None for a job that runs, and for one that the
    /// operator holds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// Whose it is: the user that its client claims, or else the client.
    pub user: String,
    /// Training or inference.
    pub job_type: JobType,
    /// What its user calls it. The room is not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Since when it runs or waits, in milliseconds since 1970.
    pub since_ms: u64,
    /// How far it is, if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    /// How long it is expected to run yet, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_s: Option<u64>,
    /// In how many seconds it is expected to start, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_in_s: Option<u64>,
    /// Whether the operator holds it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held: bool,
    /// Whether it belongs to the client that receives this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_own: bool,
}

/// A report to the client of a waiting job, sent whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its place, 1 for the next one. None while the operator holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// In how many seconds it is expected to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_in_s: Option<u64>,
    /// The rule that gave it its place.
    pub reason: Reason,
    /// The jobs that run, those before it, and itself: at most [`MAX_LISTED_JOBS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<QueueRow>,
    /// How many jobs are before it that `line` leaves out.
    #[serde(default, rename = "untold", skip_serializing_if = "is_zero")]
    pub omitted_jobs: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What the operator of a worker decides about a job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It does not start until it is released.
    Hold,
    /// It starts in its turn again.
    Release,
    /// It starts before all others.
    Front,
    /// It is withdrawn.
    Remove,
}

/// A job that waits, and the rule that gave it its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedJob {
    /// The job.
    pub job: JobId,
    /// The job as its user sees it.
    pub entry: QueueRow,
    /// The rule.
    pub reason: Reason,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// It is applied.
    Done,
    /// The job does not wait here.
    NotWaiting,
    /// It could not be written down.
    Failed(String),
}
