//! Tells the coordinator where the jobs stand that a cluster has, and when a further one would start there.

use super::WorkerContext;
use super::coordinator::{ClusterNews, CoordinatorHandle};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::{Executor, slurm};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The most changes that wait for the coordinator.
const CHANGES: usize = 64;
/// How often to ask the cluster when a further job would start.
const ASK_START_EVERY: Duration = Duration::from_secs(300);

/// Follows the jobs until `end`.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    end: CancellationToken,
) {
    let (sender, mut changes) = mpsc::channel(CHANGES);
    let reporting = async {
        while let Some((job, state)) = changes.recv().await {
            coordinator.cluster(ClusterNews::State(job, state)).await;
        }
    };
    let following = context.slurm.run(sender);
    let asking = ask_start(&context, &coordinator);
    end.run_until_cancelled(async { tokio::join!(following, reporting, asking) }).await;
}

/// Asks when a further job would start. A mistake in the configuration shows here before the first job.
async fn ask_start(context: &WorkerContext, coordinator: &CoordinatorHandle) {
    let Executor::Slurm(options) = &context.executor else { return };
    loop {
        match slurm::expected_start_ms(options).await {
            Ok(starts_ms) => coordinator.cluster(ClusterNews::ExpectedStart(starts_ms)).await,
            Err(error) => {
                tracing::warn!(error = %WithCauses(&error), "Slurm would take no job");
                coordinator.cluster(ClusterNews::ExpectedStart(None)).await;
            }
        }
        sleep(ASK_START_EVERY).await;
    }
}
