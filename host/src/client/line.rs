//! What runs and waits at a worker, in words.

use super::error::NAME_CHARS;
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::job::JobType;
use sleap_rtc_protocol::line::LineEntry;
pub use sleap_rtc_protocol::line::words::{about, cluster_reason, headline, standing, table};
use sleap_rtc_protocol::text::Printable;

/// What runs and what waits at a worker, for how long, and when a further job would start.
pub fn of_worker(worker: &WorkerFacts, now_ms: u64) -> String {
    let host = worker.hostname.as_deref().unwrap_or("a worker");
    let (host, status) = (Printable::line(host, NAME_CHARS), worker.status.as_str());
    let mut text = format!("{host} ({})  {status}", worker.peer_id);
    text.push_str(&match worker.queue().map(|jobs| jobs.len()) {
        None => "; no job can wait there".to_owned(),
        Some(0) => "; nobody waits".to_owned(),
        Some(1) => "; 1 job waits".to_owned(),
        Some(jobs) => format!("; {jobs} jobs wait"),
    });
    if let Some(seconds) = worker.expected_start_s() {
        let when = if seconds == 0 { "now".to_owned() } else { format!("in {}", about(seconds)) };
        text.push_str(&format!("; a further one would start {when}"));
    }
    with_jobs(text, worker, now_ms)
}

fn with_jobs(headline: String, worker: &WorkerFacts, now_ms: u64) -> String {
    jobs_of(worker, now_ms).iter().fold(headline, |text, row| format!("{text}\n{row}"))
}

/// What runs and what waits at a worker, and for how long, one job a line.
pub(crate) fn jobs_of(worker: &WorkerFacts, now_ms: u64) -> Vec<String> {
    let waiting = worker.queue().unwrap_or_default();
    let jobs: Vec<LineEntry> = running(worker).chain(waiting).collect();
    let since = jobs.iter().map(|job| now_ms.saturating_sub(job.since_ms) / 60_000);
    let rows = table(&jobs, 0).into_iter().zip(since);
    rows.map(|(row, minutes)| format!("{row}, for {minutes} min")).collect()
}

/// The running jobs that a worker reports.
fn running(worker: &WorkerFacts) -> impl Iterator<Item = LineEntry> {
    worker.jobs.iter().map(|job| LineEntry {
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
