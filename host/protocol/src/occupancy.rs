//! What runs and what waits at a worker, in words.

use crate::capabilities::WorkerFacts;
use crate::job::JobType;
use crate::queue_report::QueueRow;
use crate::queue_report::words::{row, table};
use crate::text::duration;

/// What runs and what waits at a worker, and for how long, one job a line.
pub fn jobs_of(worker: &WorkerFacts, now_ms: u64) -> Vec<String> {
    let jobs = all(worker);
    let rows = table(&jobs, 0).into_iter().zip(&jobs);
    rows.map(|(row, job)| format!("{row}, {}", since(job, now_ms))).collect()
}

/// The same where there are no columns.
pub fn jobs_in_words(worker: &WorkerFacts, now_ms: u64) -> Vec<String> {
    let text = |job: &QueueRow| {
        let parts = row(job).into_iter().filter(|part| !part.is_empty());
        parts.chain([since(job, now_ms)]).collect::<Vec<_>>().join(" · ")
    };
    all(worker).iter().map(text).collect()
}

fn all(worker: &WorkerFacts) -> Vec<QueueRow> {
    running(worker).chain(worker.queue().unwrap_or_default()).collect()
}

/// The time since `since_ms`, for people. Nothing began zero seconds ago.
pub fn age(since_ms: u64, now_ms: u64) -> String {
    duration((now_ms.saturating_sub(since_ms) / 1_000).max(1) as f64)
}

fn since(job: &QueueRow, now_ms: u64) -> String {
    format!("for {}", age(job.since_ms, now_ms))
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
