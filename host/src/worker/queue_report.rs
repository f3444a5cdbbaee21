//! The queue as clients and the room see it: the place of each waiting job, and when it is expected to start.

use super::running::{ClusterWait, Running, round_up_s};
use serde_json::{Map, Value, json};
use sleap_rtc_base::clock::now_ms;
use sleap_rtc_job::{Expected, JobFolder};
use sleap_rtc_protocol::capabilities::{EXPECTED_START, QUEUE, QUEUE_LENGTH};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{JobType, Reason};
use sleap_rtc_protocol::queue::forecast::{ExpectedRun, starts_in_s};
use sleap_rtc_protocol::queue::{Rule, WaitingJob};
use sleap_rtc_protocol::queue_report::{
    CLUSTER, MAX_LISTED_JOBS, QueueRow, QueueStatus, QueuedJob,
};
use sleap_rtc_protocol::worker::{Slot, WorkerState};
use std::collections::HashMap;
use std::time::Instant;

/// The most characters of a user's name and of a job's name.
const NAME_CHARS: usize = 64;

/// A job that waits.
pub(crate) struct Waiting {
    pub(crate) folder: JobFolder,
    /// Since when it waits, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// When a job that came later has first started before it.
    pub(crate) overtaken_at: Option<Instant>,
    /// How long it is expected to run, in seconds.
    pub(crate) runs_s: Option<u64>,
}

impl Waiting {
    pub(crate) fn new(folder: &JobFolder, since_ms: u64) -> Self {
        let runs_s = Expected::read(folder).and_then(|expected| expected.runs_s());
        Self { folder: folder.clone(), since_ms, overtaken_at: None, runs_s }
    }
}

/// The places of all waiting jobs, for their clients and for the room.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct QueueReport {
    /// What the client of each waiting job is told, in the order in which the jobs start.
    news: Vec<(JobId, QueueStatus)>,
    /// What the room is told.
    properties: Map<String, Value>,
}

impl QueueReport {
    /// Computes the places from the worker's state.
    pub(crate) fn of(
        state: &WorkerState,
        waiting: &HashMap<JobId, Waiting>,
        running: &HashMap<JobId, Running>,
    ) -> Self {
        let mut news = pending(running);
        if state.queue().limits().jobs == 0 && state.queue().jobs().is_empty() {
            return Self { news, properties: Map::new() };
        }
        let line = state.start_order();
        let (starts, further) = forecast(state, &line, waiting, running);
        let mut now: Vec<QueueRow> = running.values().map(running_row).collect();
        now.sort_by(|a, b| a.since_ms.cmp(&b.since_ms).then_with(|| a.user.cmp(&b.user)));
        let mut before = now;
        let (running_jobs, mut place) = (before.len(), 0);
        for ((job, rule), starts_in_s) in line.iter().zip(starts) {
            place += u32::from(!job.entry.is_held);
            let held = job.entry.is_held;
            let entry = QueueRow {
                place: (!held).then_some(place),
                starts_in_s: starts_in_s.filter(|_| !held),
                ..waiting_row(job, waiting.get(&job.job))
            };
            let own = QueueRow { is_own: true, ..entry.clone() };
            let shown = before.len().min(MAX_LISTED_JOBS - 1);
            let told = QueueStatus {
                place: entry.place,
                starts_in_s: entry.starts_in_s,
                reason: rule.reason(),
                line: before[..shown].iter().cloned().chain([own]).collect(),
                omitted_jobs: u32::try_from(before.len() - shown).unwrap_or(u32::MAX),
            };
            news.push((job.job.clone(), told));
            before.push(entry);
        }
        let nameless = |entry: &QueueRow| QueueRow { name: String::new(), ..entry.clone() };
        let seen: Vec<QueueRow> =
            before[running_jobs..].iter().take(MAX_LISTED_JOBS).map(nameless).collect();
        let properties = [
            (QUEUE, json!(seen)),
            (QUEUE_LENGTH, json!(line.len())),
            (EXPECTED_START, json!(further)),
        ];
        let properties = properties.map(|(key, value)| (key.to_owned(), value));
        Self { news, properties: properties.into_iter().collect() }
    }

    /// Replaces when a further job would start, in milliseconds since 1970, with what the cluster says.
    pub(crate) fn in_cluster(mut self, starts_ms: Option<u64>) -> Self {
        if let Some(starts_ms) = starts_ms {
            self.properties.insert(EXPECTED_START.to_owned(), json!(until(starts_ms)));
        }
        self
    }

    /// What the client of `job` is told, if the job waits.
    pub(crate) fn news(&self, job: &JobId) -> Option<&QueueStatus> {
        self.news.iter().find(|(other, _)| other == job).map(|(_, news)| news)
    }

    /// The jobs that wait, in the order in which they start.
    pub(crate) fn queued_jobs(&self) -> impl Iterator<Item = QueuedJob> {
        self.news.iter().filter_map(|(job, news)| {
            let entry = QueueRow { is_own: false, ..news.line.last()?.clone() };
            Some(QueuedJob { job: job.clone(), entry, reason: news.reason.clone() })
        })
    }

    /// What the room is told.
    pub(crate) fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }
}

/// What the clients of jobs are told that wait in a cluster: its own words. Only this worker's jobs are known
/// of its queue.
fn pending(running: &HashMap<JobId, Running>) -> Vec<(JobId, QueueStatus)> {
    let mut waiting: Vec<(&JobId, &Running, &ClusterWait)> =
        running.iter().filter_map(|(job, of)| Some((job, of, of.pending.as_ref()?))).collect();
    waiting.sort_by_key(|(_, of, _)| of.published.since_ms);
    let news = |(index, (job, of, pending)): (usize, (&JobId, &Running, &ClusterWait))| {
        let starts_in_s = pending.starts_ms.map(until);
        let place = u32::try_from(index + 1).ok();
        let since_ms = of.published.since_ms;
        let own = QueueRow {
            place,
            starts_in_s,
            since_ms,
            is_own: true,
            progress: None,
            ..running_row(of)
        };
        let reason = Reason { code: CLUSTER.to_owned(), message: pending.reason.message() };
        let told = QueueStatus { place, starts_in_s, reason, line: vec![own], omitted_jobs: 0 };
        (job.clone(), told)
    };
    waiting.into_iter().enumerate().map(news).collect()
}

/// The time until then, in seconds, rounded up. At least a minute, because 0 means that a job would start at
/// once.
fn until(at_ms: u64) -> u64 {
    round_up_s((at_ms.saturating_sub(now_ms()) / 1000).max(1))
}

/// When each job of the line starts, and when a further one would.
fn forecast(
    state: &WorkerState,
    line: &[(&WaitingJob, Rule)],
    waiting: &HashMap<JobId, Waiting>,
    running: &HashMap<JobId, Running>,
) -> (Vec<Option<u64>>, Option<u64>) {
    let free_in_s: Vec<Option<u64>> = state
        .slots()
        .iter()
        .map(|slot| match slot {
            Slot::Free => Some(0),
            Slot::Reserved { .. } => None,
            Slot::Running { job } => running.get(job).and_then(Running::left_s),
        })
        .collect();
    let expected = |needs_mib, runs_s| ExpectedRun { slots: state.fitting(needs_mib), runs_s };
    let mut jobs: Vec<ExpectedRun> = line
        .iter()
        .map(|(job, _)| match job.entry.is_held {
            true => ExpectedRun { slots: Vec::new(), runs_s: None },
            false => expected(job.needs_mib, waiting.get(&job.job).and_then(|w| w.runs_s)),
        })
        .collect();
    jobs.push(expected(0, None));
    let mut starts = starts_in_s(&free_in_s, &jobs);
    starts.iter_mut().flatten().for_each(|s| *s = round_up_s(*s));
    let further = starts.pop().flatten();
    (starts, further)
}

/// A waiting job, without its place.
fn waiting_row(job: &WaitingJob, waiting: Option<&Waiting>) -> QueueRow {
    let spec = waiting.map(|waiting| waiting.folder.spec());
    let description = spec.map(|spec| &spec.description);
    QueueRow {
        place: None,
        user: shortened(&job.user),
        job_type: description.map_or(JobType::Training, |description| description.job_type),
        name: spec.map(|spec| shortened(&spec.name)).unwrap_or_default(),
        since_ms: job.entry.since_ms,
        progress: None,
        left_s: waiting.and_then(|waiting| waiting.runs_s),
        starts_in_s: None,
        is_held: job.entry.is_held,
        is_own: false,
    }
}

/// A running job.
fn running_row(running: &Running) -> QueueRow {
    let (published, spec) = (&running.published, running.folder.spec());
    QueueRow {
        place: None,
        user: shortened(&user_of(&running.folder)),
        job_type: spec.description.job_type,
        name: shortened(&spec.name),
        since_ms: running.began_ms(),
        progress: Some(published.progress.clone()),
        left_s: running.left_s(),
        starts_in_s: None,
        is_held: false,
        is_own: false,
    }
}

/// Whose job it is: the user that its client claims, or else the client.
pub(crate) fn user_of(folder: &JobFolder) -> String {
    let user = folder.spec().description.user.clone();
    user.unwrap_or_else(|| folder.owner().to_string())
}

/// The beginning of a name.
fn shortened(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
}
