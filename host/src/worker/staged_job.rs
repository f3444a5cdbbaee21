//! Jobs that do not run yet: their package is arriving or has arrived.

use super::coordinator::Launch;
use super::error::ConnectionError;
use super::{Client, WorkerContext};
use crate::blocking::blocking;
use parking_lot::Mutex;
use sleap_rtc_job::JobFolder;
use sleap_rtc_protocol::ids::JobId;
use sleap_rtc_protocol::job::{Refusal, RefusalCode};
use sleap_rtc_transfer::Cache;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The jobs that do not run yet, so that the operator can end them. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct ArrivingJobs(Arc<Mutex<HashMap<JobId, CancellationToken>>>);

impl ArrivingJobs {
    /// Ends the arrival of `job` for the operator. Returns whether it is arriving.
    pub(crate) fn end(&self, job: &JobId) -> bool {
        let jobs = self.0.lock();
        let ended = jobs.get(job);
        ended.inspect(|ended| ended.cancel()).is_some()
    }
}

/// The folder of a job that does not run yet. Dropping it removes the folder, so that a connection
/// that ends early leaves nothing behind.
pub(crate) struct StagedJob {
    folder: JobFolder,
    /// The cache that keeps the received files if the job does not start.
    cache: Option<Cache>,
    has_started: bool,
    arriving: ArrivingJobs,
    ended: CancellationToken,
}

impl StagedJob {
    pub(crate) fn new(folder: JobFolder, cache: Option<Cache>, arriving: ArrivingJobs) -> Self {
        let ended = CancellationToken::new();
        arriving.0.lock().insert(folder.id().clone(), ended.clone());
        Self { folder, cache, has_started: false, arriving, ended }
    }

    /// Does `work` on the job that `ended` is of, unless the operator ends the job meanwhile.
    pub(crate) async fn unless_ended<T>(
        ended: CancellationToken,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        match ended.run_until_cancelled(work).await {
            Some(done) => done,
            None => Err(ended_by_operator().into()),
        }
    }

    /// Is cancelled when the operator ends the job.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The job's folder.
    pub(crate) fn folder(&self) -> &JobFolder {
        &self.folder
    }

    /// Runs the job in the slot of its owner, or lets it wait in the place of its owner.
    pub(crate) async fn start(mut self, client: &Client) -> Result<Launch, Refusal> {
        // From now on the operator ends it like any other job.
        self.arriving.0.lock().remove(self.folder.id());
        if self.ended.is_cancelled() {
            return Err(ended_by_operator());
        }
        // If this future is dropped now, the coordinator may still start the job.
        self.has_started = true;
        let started = client.coordinator.start(self.folder.owner(), self.folder.clone()).await;
        self.has_started = started.is_ok();
        started
    }
}

fn ended_by_operator() -> Refusal {
    let text = "the worker's operator has cancelled the job while its package was arriving";
    Refusal::new(RefusalCode::Other, text)
}

impl Drop for StagedJob {
    fn drop(&mut self) {
        if !self.has_started {
            self.arriving.0.lock().remove(self.folder.id());
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
