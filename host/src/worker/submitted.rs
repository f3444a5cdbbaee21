//! Tells the coordinator where the jobs stand that a cluster has.

use super::WorkerContext;
use super::coordinator::CoordinatorHandle;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most changes that wait for the coordinator.
const CHANGES: usize = 64;

/// Follows the jobs until `end`.
pub(crate) async fn watch(
    context: Arc<WorkerContext>,
    coordinator: CoordinatorHandle,
    end: CancellationToken,
) {
    let (sender, mut changes) = mpsc::channel(CHANGES);
    let telling = async {
        while let Some((job, standing)) = changes.recv().await {
            coordinator.stands(job, standing).await;
        }
    };
    end.run_until_cancelled(async { tokio::join!(context.slurm.run(sender), telling) }).await;
}
