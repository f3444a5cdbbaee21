//! What runs and waits at a worker, in words.

use super::error::NAME_CHARS;
use sleap_rtc_protocol::capabilities::WorkerFacts;
pub(crate) use sleap_rtc_protocol::occupancy::jobs_of;
pub use sleap_rtc_protocol::queue_report::words::{
    about, cluster_reason, headline, standing, table,
};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;

/// The most jobs that are named of a worker that takes no job now.
const MAX_NAMED_JOBS: usize = 8;

/// What runs and what waits at a worker, for how long, and when a further job would start.
pub fn of_worker(worker: &WorkerFacts, now_ms: u64) -> String {
    let host = worker.hostname.as_deref().map(|host| Printable::name(host, NAME_CHARS));
    let host = host.as_ref().map_or("a worker", Printable::as_str);
    let status = worker.status_words();
    let mut text = format!("{host} ({})  {status}", worker.peer_id);
    text.push_str(&match worker.queue().map(|jobs| jobs.len()) {
        None => "; no job can wait there".to_owned(),
        Some(0) => "; nobody waits".to_owned(),
        Some(1) => "; 1 job waits".to_owned(),
        Some(jobs) => format!("; {jobs} jobs wait"),
    });
    if worker.status == WorkerStatus::Maintenance {
        text.push_str("; no further one starts before the maintenance ends");
    } else if !worker.has_trainer() {
        text.push_str("; none starts before its trainer works");
    } else if let Some(seconds) = worker.expected_start_s() {
        text.push_str(&format!("; a further one would start {}", start(seconds)));
    }
    let problems = worker.problem_lines().map(|problem| format!("  {problem}"));
    problems.chain(jobs_of(worker, now_ms)).fold(text, |text, row| format!("{text}\n{row}"))
}

/// Why a worker takes no job now: its status, what runs and waits there, and when a further job would start.
pub(crate) fn occupied(worker: &WorkerFacts, now_ms: u64) -> String {
    let status = worker.status.as_str();
    let headline = match worker.expected_start_s() {
        Some(seconds) if worker.status != WorkerStatus::Maintenance => {
            format!("{status}; a further job would start {}", start(seconds))
        }
        _ => status.to_owned(),
    };
    let jobs = jobs_of(worker, now_ms).into_iter().take(MAX_NAMED_JOBS);
    jobs.fold(headline, |text, row| format!("{text}\n{row}"))
}

fn start(seconds: u64) -> String {
    if seconds == 0 { "now".to_owned() } else { format!("in {}", about(seconds)) }
}
