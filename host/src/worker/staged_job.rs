//! Jobs whose package is arriving, or has arrived, and that do not run yet.

use super::{Client, WorkerContext};
use crate::blocking::blocking;
use sleap_rtc_job::{JobFolder, JobHandle};
use sleap_rtc_protocol::job::Refusal;
use sleap_rtc_transfer::Cache;
use tracing::{info, warn};

/// The folder of a job that does not run yet. Dropping it removes the folder, so that a connection
/// that ends early leaves nothing behind.
pub(crate) struct StagedJob {
    folder: JobFolder,
    /// Keeps what has arrived if the job does not start.
    cache: Option<Cache>,
    has_started: bool,
}

impl StagedJob {
    pub(crate) fn new(folder: JobFolder, cache: Option<Cache>) -> Self {
        Self { folder, cache, has_started: false }
    }

    /// The job's folder.
    pub(crate) fn folder(&self) -> &JobFolder {
        &self.folder
    }

    /// Runs the job in the slot of its owner.
    pub(crate) async fn start(mut self, client: &Client) -> Result<JobHandle, Refusal> {
        // If this future is dropped now, the coordinator may still start the job.
        self.has_started = true;
        let started = client.coordinator.start(self.folder.owner(), self.folder.clone()).await;
        self.has_started = started.is_ok();
        started
    }
}

impl Drop for StagedJob {
    fn drop(&mut self) {
        if !self.has_started {
            info!(job = %self.folder.id(), "job not started; its folder is removed");
            if let Some(cache) = &self.cache {
                cache.salvage(&self.folder.files_dir());
            }
            self.folder.discard();
        }
    }
}

/// Removes the folder of a job that never started. What has arrived of its package stays in the cache.
pub(crate) async fn give_up(context: &WorkerContext, folder: &JobFolder) {
    let (cache, folder) = (context.limits.cache.clone(), folder.clone());
    let work = move || {
        if let Some(cache) = cache {
            cache.salvage(&folder.files_dir());
        }
        folder.discard();
    };
    if let Err(error) = blocking(work).await {
        warn!(%error, "cannot remove the folder of a job that never started");
    }
}
