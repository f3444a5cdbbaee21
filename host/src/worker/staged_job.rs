//! Jobs that do not run yet: their package is arriving or has arrived.

use super::coordinator::Launch;
use super::{Client, WorkerContext};
use crate::blocking::blocking;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::job::Refusal;
use sleap_rtc_transfer::Cache;
use tracing::{info, warn};

/// The folder of a job that does not run yet. Dropping it removes the folder, so that a connection
/// that ends early leaves nothing behind.
pub(crate) struct StagedJob {
    folder: JobFolder,
    /// The cache that keeps the received files if the job does not start.
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

    /// Runs the job in the slot of its owner, or lets it wait in the place of its owner.
    pub(crate) async fn start(mut self, client: &Client) -> Result<Launch, Refusal> {
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
            salvage(self.cache.as_ref(), &self.folder);
            self.folder.discard();
        }
    }
}

/// The cache as the owner of the job's files sees it. Without an owner, nothing is kept.
pub(crate) fn cache_for(cache: Option<&Cache>, folder: &JobFolder) -> Option<Cache> {
    let owner = folder.spec().cache_owner.as_ref()?;
    cache.map(|cache| cache.of(owner.as_str()))
}

/// Keeps the received part of a package, so that its client need not send it again.
pub(crate) fn salvage(cache: Option<&Cache>, folder: &JobFolder) {
    if let Some(cache) = cache_for(cache, folder) {
        cache.salvage(&folder.files_dir());
    }
}

/// Removes the folder of a job that never started. The received part of its package stays in the
/// cache.
pub(crate) async fn give_up(context: &WorkerContext, folder: &JobFolder) {
    let (cache, folder) = (context.limits.cache.clone(), folder.clone());
    let work = move || {
        salvage(cache.as_ref(), &folder);
        folder.discard();
    };
    if let Err(error) = blocking(work).await {
        warn!(%error, "cannot remove the folder of a job that never started");
    }
}
