//! The coordinator's knowledge of each running job, and what the room sees of it.

use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::slurm::PendingReason;
use sleap_rtc_job::{Expected, JobFolder};
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::progress::{JobProgress, RunningJob};
use std::collections::HashMap;
use tokio::sync::watch;

/// The most jobs that the room sees, the oldest first: a worker's metadata is bounded.
const SEEN_JOBS: usize = 16;
/// The most characters of a user's name, and of a route, that the room sees.
const SEEN_CHARS: usize = 64;
const SEEN_ROUTE_CHARS: usize = 160;

/// Remaining times are rounded up to this, so that they do not change every second.
const STEP_S: u64 = 60;

/// Rounds a remaining time up.
pub(crate) fn in_steps(seconds: u64) -> u64 {
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
    /// The part that the room sees.
    pub(crate) seen: RunningJob,
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
        let seen = RunningJob {
            owner: folder.owner().clone(),
            user: user.map(|name| name.chars().take(SEEN_CHARS).collect()),
            since_ms: record.as_ref().map_or(started_ms, |record| record.created_ms),
            started_ms: Some(started_ms),
            progress: JobProgress::default(),
            job_type: Some(description.job_type),
            left_s: None,
            route: None,
        };
        Self { folder: folder.clone(), gpus, pending: None, runs_s, seen, route: None }
    }

    /// When it began to run, in milliseconds since 1970.
    pub(crate) fn began_ms(&self) -> u64 {
        self.seen.started_ms.unwrap_or(self.seen.since_ms)
    }

    /// The job has begun.
    pub(crate) fn began(&mut self) {
        self.pending = None;
        self.seen.started_ms = Some(self.folder.started_ms().unwrap_or_else(now_ms));
    }

    /// How long it is expected to run yet, in seconds and in steps of a minute. `None` if that is not known,
    /// or if it has run for longer already.
    pub(crate) fn left_s(&self) -> Option<u64> {
        let JobProgress { runs, left, .. } = &self.seen.progress;
        if let (0 | 1, Some(left)) = (runs, left) {
            // While it runs, its slot is not free.
            return Some(in_steps(left.seconds.max(1)));
        }
        let age_s = now_ms().saturating_sub(self.began_ms()) / 1000;
        self.runs_s?.checked_sub(age_s).filter(|left_s| *left_s > 0).map(in_steps)
    }

    /// The part of all jobs that the room sees.
    pub(crate) fn seen(running: &HashMap<JobId, Self>) -> Vec<RunningJob> {
        let mut seen: Vec<_> = running.values().map(Self::seen_now).collect();
        seen.sort_by(|a, b| a.since_ms.cmp(&b.since_ms).then_with(|| a.owner.cmp(&b.owner)));
        seen.truncate(SEEN_JOBS);
        seen
    }

    fn seen_now(&self) -> RunningJob {
        // A connection that has ended has dropped its sender.
        let route = self.route.as_ref().filter(|route| route.has_changed().is_ok());
        let route = route.and_then(|route| route.borrow().clone());
        let route = route.map(|route| route.to_string().chars().take(SEEN_ROUTE_CHARS).collect());
        let started_ms = self.seen.started_ms.filter(|_| self.pending.is_none());
        let left_s = self.left_s().filter(|_| self.pending.is_none());
        RunningJob { route, left_s, started_ms, ..self.seen.clone() }
    }

    /// The session of all the job's processes, whose leader is its own process.
    pub(crate) fn session(&self) -> Option<u32> {
        self.folder.process_id()
    }
}
