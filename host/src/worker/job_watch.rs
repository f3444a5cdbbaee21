//! Follows a running job to its end: shows its progress to the room, and delivers its results.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use super::delivery;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::job::JobEvent;
use sleap_rtc_protocol::progress::JobProgress;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The shortest time between two updates of a job's progress in the room.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Follows the job in `folder` until it has finished, then copies its results to the shared storage if
/// it uses one.
pub(crate) async fn watch(
    context: &WorkerContext,
    coordinator: &CoordinatorHandle,
    folder: &JobFolder,
    handle: &JobHandle,
) {
    let mut events = handle.events(0);
    let (mut progress, mut published, mut published_at) = (JobProgress::default(), None, None);
    while let Some(numbered) = events.next().await {
        progress.see(&numbered.event);
        let recent = published_at.is_some_and(|at: Instant| at.elapsed() < PROGRESS_INTERVAL);
        if published.as_ref() != Some(&progress) && !recent {
            coordinator.progressed(folder.id(), progress.clone()).await;
            (published, published_at) = (Some(progress.clone()), Some(Instant::now()));
        }
        if let JobEvent::Finished { outcome } = numbered.event {
            info!(job = %folder.id(), ?outcome, folder = %folder.path().display(), "job finished");
            break;
        }
    }
    if let Err(error) = delivery::deliver(context, folder).await {
        warn!(job = %folder.id(), %error, "cannot copy the results to the shared storage");
    }
}
