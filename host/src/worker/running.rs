//! What the coordinator knows of each running job, and what it publishes in the room.

use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::slurm::PendingReason;
use sleap_rtc_job::{Expected, JobFolder};
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::progress::{JobProgress, RunningJob};
use std::collections::HashMap;
use tokio::sync::watch;

/// The most jobs that are published, the oldest first: a worker's metadata is bounded.
const MAX_PUBLISHED_JOBS: usize = 16;
/// The most characters of a user's name, and of a route, that are published.
const MAX_USER_CHARS: usize = 64;
const MAX_ROUTE_CHARS: usize = 160;

/// Remaining times are rounded up to a multiple of this, so that they do not change every second.
const STEP_S: u64 = 60;

/// Rounds a remaining time up to whole minutes.
pub(crate) fn round_up_s(seconds: u64) -> u64 {
    seconds.div_ceil(STEP_S) * STEP_S
}

/// Why a job that was handed over to a cluster waits there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClusterWait {
    pub(crate) reason: PendingReason,
    /// When it is expected to start, in milliseconds since 1970.
    pub(crate) starts_ms: Option<u64>,
}

/// A running job, or one that a cluster has.
pub(crate) struct Running {
    pub(crate) folder: JobFolder,
    /// Its GPUs by their positions in the pool; `None` if it may use any.
    pub(crate) gpus: Option<Vec<usize>>,
    /// Why it does not run yet, if it waits in a cluster.
    pub(crate) pending: Option<ClusterWait>,
    /// How long it is expected to run in all, in seconds.
    runs_s: Option<u64>,
    /// What the room sees.
    pub(crate) published: RunningJob,
    /// The route of the latest connection whose client follows the job.
    pub(crate) route: Option<watch::Receiver<Option<Route>>>,
}

impl Running {
    pub(crate) fn new(folder: &JobFolder, gpus: Option<Vec<usize>>) -> Self {
        let description = &folder.spec().description;
        let user = description.user.as_deref();
        let started_ms = folder.started_ms().unwrap_or_else(now_ms);
        let record = folder.record().ok();
        let runs_s = Expected::read(folder).and_then(|expected| expected.runs_s());
        let published = RunningJob {
            owner: folder.owner().clone(),
            user: user.map(|name| name.chars().take(MAX_USER_CHARS).collect()),
            since_ms: record.as_ref().map_or(started_ms, |record| record.created_ms),
            started_ms: Some(started_ms),
            progress: JobProgress::default(),
            job_type: Some(description.job_type),
            left_s: None,
            route: None,
        };
        Self { folder: folder.clone(), gpus, pending: None, runs_s, published, route: None }
    }

    /// When it began to run, in milliseconds since 1970.
    pub(crate) fn began_ms(&self) -> u64 {
        self.published.started_ms.unwrap_or(self.published.since_ms)
    }

    /// The job has begun.
    pub(crate) fn began(&mut self) {
        self.pending = None;
        self.published.started_ms = Some(self.folder.started_ms().unwrap_or_else(now_ms));
    }

    /// How much longer it is expected to run, in seconds, rounded up to whole minutes. `None` if that is not
    /// known, or if it has already run for longer.
    pub(crate) fn left_s(&self) -> Option<u64> {
        let JobProgress { runs, left, .. } = &self.published.progress;
        if let (0 | 1, Some(left)) = (runs, left) {
            // At least a minute: 0 would mean that its slot is free.
            return Some(round_up_s(left.seconds.max(1)));
        }
        let age_s = now_ms().saturating_sub(self.began_ms()) / 1000;
        self.runs_s?.checked_sub(age_s).filter(|left_s| *left_s > 0).map(round_up_s)
    }

    /// What the room sees of all running jobs.
    pub(crate) fn publish_all(running: &HashMap<JobId, Self>) -> Vec<RunningJob> {
        let mut jobs: Vec<_> = running.values().map(Self::publish).collect();
        jobs.sort_by(|a, b| a.since_ms.cmp(&b.since_ms).then_with(|| a.owner.cmp(&b.owner)));
        jobs.truncate(MAX_PUBLISHED_JOBS);
        jobs
    }

    fn publish(&self) -> RunningJob {
        // A connection that has ended has dropped its sender.
        let route = self.route.as_ref().filter(|route| route.has_changed().is_ok());
        let route = route.and_then(|route| route.borrow().clone());
        let route = route.map(|route| route.to_string().chars().take(MAX_ROUTE_CHARS).collect());
        let started_ms = self.published.started_ms.filter(|_| self.pending.is_none());
        let left_s = self.left_s().filter(|_| self.pending.is_none());
        RunningJob { route, left_s, started_ms, ..self.published.clone() }
    }

    /// The session of all the job's processes, whose leader is its own process.
    pub(crate) fn session(&self) -> Option<u32> {
        self.folder.process_id()
    }
}
