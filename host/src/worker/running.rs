//! What the coordinator knows of each running job, and what the room sees of it.

use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_protocol::progress::{JobProgress, RunningJob};
use std::collections::HashMap;

/// The most jobs that the room sees, the oldest first: a worker's metadata is bounded.
const SEEN_JOBS: usize = 16;
/// The most characters of a user's name that the room sees.
const SEEN_CHARS: usize = 64;

/// A running job.
pub(crate) struct Running {
    folder: JobFolder,
    /// Its GPUs by their positions in the pool; `None` if it may use any.
    pub(crate) gpus: Option<Vec<usize>>,
    /// What the room sees.
    pub(crate) seen: RunningJob,
}

impl Running {
    pub(crate) fn new(folder: &JobFolder, gpus: Option<Vec<usize>>) -> Self {
        let user = folder.spec().description.user.as_deref();
        let seen = RunningJob {
            owner: folder.owner().clone(),
            user: user.map(|name| name.chars().take(SEEN_CHARS).collect()),
            since_ms: folder.record().map_or_else(|_| now_ms(), |record| record.created_ms),
            progress: JobProgress::default(),
        };
        Self { folder: folder.clone(), gpus, seen }
    }

    /// What the room sees of all jobs.
    pub(crate) fn seen(running: &HashMap<JobId, Self>) -> Vec<RunningJob> {
        let mut seen: Vec<_> = running.values().map(|job| job.seen.clone()).collect();
        seen.sort_by(|a, b| a.since_ms.cmp(&b.since_ms).then_with(|| a.owner.cmp(&b.owner)));
        seen.truncate(SEEN_JOBS);
        seen
    }

    /// The session of all the job's processes, whose leader is its own process.
    pub(crate) fn session(&self) -> Option<u32> {
        match self.folder.record().ok()?.state {
            JobState::Running { pid } => Some(pid),
            _ => None,
        }
    }
}
