//! What runs and what waits at a worker, in words.

use crate::capabilities::WorkerFacts;
use crate::job::JobType;
use crate::queue_report::QueueRow;
use crate::queue_report::words::table;

/// What runs and what waits at a worker, and for how long, one job a line.
pub fn jobs_of(worker: &WorkerFacts, now_ms: u64) -> Vec<String> {
    let waiting = worker.queue().unwrap_or_default();
    let jobs: Vec<QueueRow> = running(worker).chain(waiting).collect();
    let since = jobs.iter().map(|job| now_ms.saturating_sub(job.since_ms) / 60_000);
    let rows = table(&jobs, 0).into_iter().zip(since);
    rows.map(|(row, minutes)| format!("{row}, for {minutes} min")).collect()
}

/// The running jobs that a worker reports.
fn running(worker: &WorkerFacts) -> impl Iterator<Item = QueueRow> {
    worker.jobs.iter().map(|job| QueueRow {
        place: None,
        user: job.user.clone().unwrap_or_else(|| job.owner.to_string()),
        job_type: job.job_type.unwrap_or(JobType::Training),
        name: String::new(),
        since_ms: job.since_ms,
        progress: Some(job.progress.clone()),
        left_s: job.left_s,
        starts_in_s: None,
        is_held: false,
        is_own: false,
    })
}
