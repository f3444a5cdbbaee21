//! What runs and waits at a worker, in words.

use super::error::NAME_CHARS;
use sleap_rtc_protocol::capabilities::WorkerFacts;
pub(crate) use sleap_rtc_protocol::occupancy::jobs_of;
pub use sleap_rtc_protocol::queue_report::words::{
    about, cluster_reason, headline, standing, table,
};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_protocol::worker::WorkerStatus;

/// What runs and what waits at a worker, for how long, and when a further job would start.
pub fn of_worker(worker: &WorkerFacts, now_ms: u64) -> String {
    let host = worker.hostname.as_deref().map(|host| Printable::name(host, NAME_CHARS));
    let host = host.as_ref().map_or("a worker", Printable::as_str);
    let status = worker.status.as_str();
    let mut text = format!("{host} ({})  {status}", worker.peer_id);
    text.push_str(&match worker.queue().map(|jobs| jobs.len()) {
        None => "; no job can wait there".to_owned(),
        Some(0) => "; nobody waits".to_owned(),
        Some(1) => "; 1 job waits".to_owned(),
        Some(jobs) => format!("; {jobs} jobs wait"),
    });
    if worker.status == WorkerStatus::Maintenance {
        text.push_str("; no further one starts before the maintenance ends");
    } else if let Some(seconds) = worker.expected_start_s() {
        let when = if seconds == 0 { "now".to_owned() } else { format!("in {}", about(seconds)) };
        text.push_str(&format!("; a further one would start {when}"));
    }
    with_jobs(text, worker, now_ms)
}

fn with_jobs(headline: String, worker: &WorkerFacts, now_ms: u64) -> String {
    jobs_of(worker, now_ms).iter().fold(headline, |text, row| format!("{text}\n{row}"))
}
