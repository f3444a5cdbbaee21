//! The coordinator's knowledge of each running job, and what the room sees of it.

use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::JobFolder;
use sleap_rtc_net::route::Route;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use sleap_rtc_protocol::progress::{JobProgress, RunningJob};
use std::collections::HashMap;
use tokio::sync::watch;

/// The most jobs that the room sees, the oldest first: a worker's metadata is bounded.
const SEEN_JOBS: usize = 16;
/// The most characters of a user's name, and of a route, that the room sees.
const SEEN_CHARS: usize = 64;
const SEEN_ROUTE_CHARS: usize = 160;

/// A running job.
pub(crate) struct Running {
    folder: JobFolder,
    /// Its GPUs by their positions in the pool; `None` if it may use any.
    pub(crate) gpus: Option<Vec<usize>>,
    /// The part that the room sees.
    pub(crate) seen: RunningJob,
    /// The route of the latest connection whose client follows the job.
    pub(crate) route: Option<watch::Receiver<Option<Route>>>,
}

impl Running {
    pub(crate) fn new(folder: &JobFolder, gpus: Option<Vec<usize>>) -> Self {
        let user = folder.spec().description.user.as_deref();
        let seen = RunningJob {
            owner: folder.owner().clone(),
            user: user.map(|name| name.chars().take(SEEN_CHARS).collect()),
            since_ms: folder.record().map_or_else(|_| now_ms(), |record| record.created_ms),
            progress: JobProgress::default(),
            route: None,
        };
        Self { folder: folder.clone(), gpus, seen, route: None }
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
        RunningJob { route, ..self.seen.clone() }
    }

    /// The session of all the job's processes, whose leader is its own process.
    pub(crate) fn session(&self) -> Option<u32> {
        match self.folder.record().ok()?.state {
            JobState::Running { pid } => Some(pid),
            _ => None,
        }
    }
}
