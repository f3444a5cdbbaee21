//! Follows a running job to its end: shows its progress to the room, and delivers its results.

use super::WorkerContext;
use super::coordinator::{ClusterNews, CoordinatorHandle};
use super::delivery;
use super::peaks::Peak;
use crate::blocking::blocking;
use sleap_rtc_job::{Expected, JobFolder, JobHandle, RunnerSettings};
use sleap_rtc_protocol::job::{JobEvent, JobOutcome, JobState, NumberedEvent};
use sleap_rtc_protocol::timing::JobTimer;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{info, warn};

/// The shortest time between two updates of a job's progress in the room.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// The time between two attempts to read the events of a job whose disk fails.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Follows the job in `folder` until it has finished, then records what it took, and copies its results to
/// the shared storage if it uses one.
pub(crate) async fn watch(
    context: &Arc<WorkerContext>,
    coordinator: &CoordinatorHandle,
    folder: &JobFolder,
    handle: &JobHandle,
) {
    let mut observed = Observed::new(context, folder).await;
    let (mut events, mut last_seq) = (handle.events(0), 0);
    let (mut published, mut published_at) = (None, None);
    loop {
        let Some(numbered) = events.next().await else {
            if is_over(folder).await {
                break;
            }
            sleep(READ_AGAIN).await;
            events = handle.events(last_seq);
            continue;
        };
        last_seq = numbered.seq;
        if numbered.seq == 1 && handle.is_elsewhere() {
            coordinator.cluster(ClusterNews::Began(folder.id().clone())).await;
        }
        observed.see(&numbered);
        let progress = observed.timer.progress();
        let recent = published_at.is_some_and(|at: Instant| at.elapsed() < PROGRESS_INTERVAL);
        if published.as_ref() != Some(progress) && !recent {
            coordinator.progressed(folder.id(), progress.clone()).await;
            (published, published_at) = (Some(progress.clone()), Some(Instant::now()));
        }
        if let JobEvent::Finished { outcome } = numbered.event {
            info!(job = %folder.id(), ?outcome, folder = %folder.path().display(), "job finished");
            observed.record(numbered.at_ms, outcome).await;
            break;
        }
    }
    if let Err(error) = delivery::deliver(context, folder).await {
        warn!(job = %folder.id(), %error, "cannot copy the results to the shared storage");
    }
}

/// Whether the job whose events have ended is over: it has finished, or its folder is gone. Otherwise its disk
/// could not be read, and it may still run, so its slot is not free.
async fn is_over(folder: &JobFolder) -> bool {
    let folder = folder.clone();
    match blocking(move || folder.record()).await {
        Ok(Ok(record)) => matches!(record.state, JobState::Finished(_)),
        Ok(Err(error)) => error.is_not_found(),
        Err(_) => false,
    }
}

/// What is seen of a running job.
struct Observed {
    context: Arc<WorkerContext>,
    folder: JobFolder,
    expected: Option<Expected>,
    timer: JobTimer,
    /// What its processes use of the GPUs, once there are some.
    peak: Option<Arc<Peak>>,
    /// The peak of each run that has ended, in MiB.
    peaks_mib: Vec<Option<u64>>,
    /// Whether the GPUs were surveyed while the current run trained, and after its first epoch.
    surveyed: (bool, bool),
}

impl Observed {
    async fn new(context: &Arc<WorkerContext>, folder: &JobFolder) -> Self {
        let reading = folder.clone();
        let expected = blocking(move || Expected::of(&reading)).await.ok();
        let runs = expected.as_ref().map(|expected| expected.runs(folder)).unwrap_or_default();
        Self {
            context: context.clone(),
            folder: folder.clone(),
            expected,
            timer: JobTimer::new(runs),
            peak: None,
            peaks_mib: Vec::new(),
            surveyed: (false, false),
        }
    }

    fn see(&mut self, numbered: &NumberedEvent) {
        self.timer.see(numbered);
        match &numbered.event {
            JobEvent::RunStarted { .. } => {
                self.peak = self.peak.take().or_else(|| self.watch_memory());
                self.surveyed = (false, false);
            }
            JobEvent::RunEnded { .. } => {
                self.peaks_mib.push(self.peak.as_ref().and_then(|peak| peak.take()));
            }
            JobEvent::Progress { message } => {
                // A trainer keeps the memory that it has taken, so a look after the first batches and one
                // after the first epoch are enough for a short training.
                let is_due = match message.get("event").and_then(|event| event.as_str()) {
                    Some("batch_end") => !std::mem::replace(&mut self.surveyed.0, true),
                    Some("epoch_end") => !std::mem::replace(&mut self.surveyed.1, true),
                    _ => false,
                };
                if is_due {
                    self.context.surveys.request();
                }
            }
            _ => {}
        }
    }

    fn watch_memory(&self) -> Option<Arc<Peak>> {
        let pid = self.folder.process_id()?;
        let gpus = RunnerSettings::read(&self.folder).ok()?.gpus;
        Some(self.context.peaks.watch(pid, gpus))
    }

    /// Records what the job took, and has the operator's command run.
    async fn record(self, ended_ms: u64, outcome: JobOutcome) {
        let Self { context, folder, expected, timer, peaks_mib, .. } = self;
        let took_s = timer.whole().map(|(took_s, _)| took_s);
        context.job_ends.report(&folder, outcome, took_s, context.facts().peer_id.to_string());
        let finished = expected.and_then(|known| known.finished(&folder, &timer, &peaks_mib));
        let Some(finished) = finished else { return };
        let id = folder.id().clone();
        if let Err(error) = blocking(move || context.history.record(&id, ended_ms, finished)).await
        {
            warn!(job = %folder.id(), %error, "cannot record what a job took");
        }
    }
}
