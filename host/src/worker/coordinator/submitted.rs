//! The jobs that a cluster has: where they stand there, and how they are withdrawn.

use super::queueing::WithdrawnBy;
use super::{ClusterNews, Coordinator};
use crate::worker::running::{ClusterWait, Running};
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_job::slurm::{PendingReason, SlurmState};
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::JobState;
use tracing::{info, warn};

impl Coordinator {
    /// Applies news of the cluster.
    pub(crate) fn on_cluster(&mut self, news: ClusterNews) {
        match news {
            ClusterNews::Submitted(folder) => self.follow_submitted(&folder),
            ClusterNews::State(job, state) => self.apply_slurm_state(&job, state),
            ClusterNews::ExpectedStart(starts_ms) => self.cluster_starts_ms = starts_ms,
            ClusterNews::Began(job) => self.update(&job, Running::began),
        }
    }

    /// Follows a job that the cluster has.
    pub(crate) fn follow_submitted(&mut self, folder: &JobFolder) {
        if let Ok(JobState::Queued(_)) = folder.record().map(|record| record.state)
            && let Some(running) = self.running.get_mut(folder.id())
        {
            let reason = PendingReason("None".to_owned());
            running.pending = Some(ClusterWait { reason, starts_ms: None });
        }
        self.context.slurm.add(folder);
    }

    /// Records why a job waits in the cluster, or that it no longer does.
    fn apply_slurm_state(&mut self, job: &JobId, state: SlurmState) {
        let Some(running) = self.running.get_mut(job) else { return };
        if running.pending.is_none() {
            return;
        }
        running.pending = match state {
            SlurmState::Pending { reason, starts_ms } => {
                if reason.is_final() {
                    warn!(%job, reason = reason.0, "Slurm never starts the job as it is");
                }
                Some(ClusterWait { reason, starts_ms })
            }
            SlurmState::Active | SlurmState::Over(_) => None,
        };
    }

    /// Withdraws a job that waits in the cluster. Returns whether there is one.
    pub(crate) fn withdraw_submitted(&self, job: &JobId, by: WithdrawnBy) -> bool {
        let Some(running) = self.running.get(job).filter(|job| job.folder.is_elsewhere()) else {
            return false;
        };
        info!(%job, %by, "withdraws a job from the cluster");
        let (job, folder) = (job.clone(), running.folder.clone());
        self.tasks.spawn(async move {
            if let Err(error) = JobHandle::cancel(&folder).await {
                warn!(%job, error = %WithCauses(&error), "cannot withdraw the job");
            }
        });
        true
    }
}
