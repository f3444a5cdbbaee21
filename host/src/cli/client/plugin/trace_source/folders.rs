//! A trace of the jobs that have run on a worker, from their folders.

use super::super::super::exit::Failure;
use sleap_rtc_job::{JobFolder, RunnerSettings};
use sleap_rtc_policy::LocalTime;
use sleap_rtc_policy::simulate::trace::{Trace, TraceJob, TraceWorker};
use sleap_rtc_protocol::job::{JobDescription, JobState};
use std::path::PathBuf;

/// A job that has run; times in milliseconds since 1970.
struct PastJob {
    id: String,
    submitted_ms: u64,
    started_ms: u64,
    ended_ms: u64,
    description: JobDescription,
}

/// The jobs of `state_dirs` that have run and ended, as if they had arrived in the room of `workers`.
pub(crate) fn trace(state_dirs: &[PathBuf], workers: Vec<TraceWorker>) -> Result<Trace, Failure> {
    let folders = state_dirs.iter().flat_map(|dir| JobFolder::all(dir));
    let mut past: Vec<PastJob> = folders.filter_map(|folder| past_job(&folder)).collect();
    past.sort_by_key(|job| job.submitted_ms);
    let Some(first) = past.first() else {
        let text = "--jobs-of: there are no jobs that have run and ended in these folders";
        return Err(Failure::usage(text));
    };
    let begin_ms = first.submitted_ms / 60_000 * 60_000;
    let job = |past: PastJob| TraceJob {
        id: past.id,
        at_ms: past.submitted_ms - begin_ms,
        duration_ms: past.ended_ms.saturating_sub(past.started_ms),
        description: past.description,
    };
    let start = LocalTime::at_ms(begin_ms);
    Ok(Trace { start, workers, jobs: past.into_iter().map(job).collect() })
}

/// A finished job that a trainer has run for.
fn past_job(folder: &JobFolder) -> Option<PastJob> {
    let record = folder.record().ok()?;
    if !matches!(record.state, JobState::Finished(_)) {
        return None;
    }
    Some(PastJob {
        id: folder.id().to_string(),
        submitted_ms: record.created_ms,
        started_ms: slot_since_ms(folder)?,
        ended_ms: folder.last_event().ok()??.at_ms,
        description: record.spec.description,
    })
}

/// Since when a job held its slot: a simulation starts the next one when it ends, so what it takes to begin
/// belongs to its duration.
fn slot_since_ms(folder: &JobFolder) -> Option<u64> {
    let began_ms = folder.started_ms()?;
    let launched_ms = RunnerSettings::written_ms(folder).filter(|_| !folder.is_elsewhere());
    // Whoever has copied the folder may have changed the file's time.
    Some(launched_ms.filter(|ms| *ms <= began_ms).unwrap_or(began_ms))
}
